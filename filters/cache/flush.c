/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * flush.c: a flush is answered from the log: what was acknowledged stands there, or in the backing.
 * So the log is made durable, if it is not, and the flush goes on to the backing only if something
 * has been written there, past the log, since the last one (R5).  With a tier that has failed it
 * waits until what was not durable on it is in the backing.  While a block is lost, damaged on
 * the SSD and not in the backing, each flush fails.
 */
#include "cache.h"

#include <errno.h>

/* In the request's scratch. */
struct flush {
    struct cache *c;
    struct sluice_request *request;
    struct sync_waiter waiter;
    struct stranded stranded;
    uint64_t through;
};
_Static_assert(sizeof(struct flush) <= CACHE_SCRATCH_BYTES, "scratch");

static struct sluice_verdict verdict(struct flush *f)
{
    struct cache *c = f->c;
    bool must_pass;

    cache_lock(c);
    f->through = c->through;
    must_pass = c->through != c->through_flushed && !MUTANT(5);
    cache_unlock(c);
    sluice_count(c->disk, must_pass ? N_FLUSHES_BACKING : N_FLUSHES_LOG, 1);
    return must_pass ? sluice_pass_and_tell() : sluice_complete();
}

/* [M] With a tier that has failed. */
static enum way way_of(struct cache *c, struct stranded *s)
{
    (void)s;
    return step_down_flush_way(c);
}

static void go_on(struct stranded *s, enum way way)
{
    struct flush *f = CONTAINER_OF(s, struct flush, stranded);

    sluice_resume(f->c->disk, f->request, way == WAY_GO ? verdict(f) : sluice_fail(EIO));
}

static void on_durable(struct sync_waiter *w, int32_t error)
{
    struct flush *f = CONTAINER_OF(w, struct flush, waiter);
    struct sluice_request *request = f->request;
    struct sluice_disk *disk = f->c->disk;

    if (error)
        step_down_look_again(f->c, &f->stranded);
    else
        sluice_resume(disk, request, verdict(f));
}

struct sluice_verdict cache_on_flush(void *instance, struct sluice_request *r, void *scratch)
{
    struct cache *c = instance;
    struct flush *f = scratch;
    bool must_sync, is_lost, has_failed;
    enum way way = WAY_GO;

    f->c = c;
    f->request = r;
    f->stranded = (struct stranded){.request = r, .way = way_of, .go = go_on};
    cache_lock(c);
    c->log.is_flushed = !MUTANT(29);
    has_failed = c->log.error != 0;
    must_sync = cache_has_log(c) && !has_failed && !log_is_durable(&c->log);
    is_lost = c->log.lost_blocks > 0 && !has_failed;
    if (has_failed)
        way = step_down_look(c, &f->stranded);
    cache_unlock(c);
    if (way == WAY_WAIT)
        return sluice_defer();
    if (is_lost || way == WAY_FAIL)
        return sluice_fail(EIO);
    if (!must_sync)
        return verdict(f);
    f->waiter = (struct sync_waiter){.done = on_durable};
    log_sync(c, &f->waiter);
    return sluice_defer();
}

struct sluice_verdict cache_on_flush_end(void *instance, struct sluice_request *r, void *scratch)
{
    struct cache *c = instance;
    struct flush *f = scratch;

    if (r->error)
        return sluice_pass();
    cache_lock(c);
    c->through_flushed = MAX(c->through_flushed, f->through);
    cache_unlock(c);
    return sluice_pass();
}
