/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * flush.c: a flush is answered from the log: what was acknowledged stands there, or in the backing.
 * So the log is made durable, if it is not, and the flush goes on to the backing only if something
 * has been written there, past the log, since the last one (R5).  While a block is lost, damaged on
 * the SSD and not in the backing, each flush fails.
 */
#include "cache.h"

#include <errno.h>

/* In the request's scratch. */
struct flush {
    struct cache *c;
    struct sluice_request *request;
    struct sync_waiter waiter;
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

static void on_durable(struct sync_waiter *w, int32_t error)
{
    struct flush *f = CONTAINER_OF(w, struct flush, waiter);
    struct sluice_request *request = f->request;
    struct sluice_disk *disk = f->c->disk;

    sluice_resume(disk, request, error ? sluice_fail(error) : verdict(f));
}

struct sluice_verdict cache_on_flush(void *instance, struct sluice_request *r, void *scratch)
{
    struct cache *c = instance;
    struct flush *f = scratch;
    bool must_sync, is_lost;

    f->c = c;
    f->request = r;
    cache_lock(c);
    must_sync = cache_has_log(c) && (c->log.durable < c->log.applied.sequence || c->log.error);
    is_lost = c->log.lost_blocks > 0;
    cache_unlock(c);
    if (is_lost)
        return sluice_fail(EIO);
    if (!must_sync)
        return verdict(f);
    f->waiter.done = on_durable;
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
