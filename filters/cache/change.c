/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * change.c: writes, trims and zeroings.  Two ways through the cache:
 *
 *     stay     the log takes the data, dirty; acknowledged when it has been written there, and with
 *              FUA when it is durable there.  Write-back; trims and zeroings that are small.
 *     through  first the log learns that the backing is about to change: blocks that are dirty get
 *              the new data too, clean ones are dropped, durably (R7, R8).  Then the request goes
 *              on to the backing, and is acknowledged when it comes back.
 *
 * With a tier that has failed all go through, once the note says that nothing of their blocks on
 * the tier counts (step-down.c): those too that had failed on their way to the log.
 *
 * From its arrival to its end a request counts as a change of its blocks (R9).
 */
#include "cache.h"

#include <errno.h>

#define STAY_BLOCKS_MOST CHUNK_DATA_MAX /* of a trim or zeroing: as zeros in the log */
#define ORDERED_STAY_MOST 4096u

/* In the request's scratch. */
struct change {
    struct cache *c;
    struct sluice_request *request;
    struct log_job job;
    struct sync_waiter waiter;
    struct paced paced;
    struct stranded stranded;
    bool stays;
    bool was_cached; /* something of it was: what is written may be worth keeping */
    uint32_t tokens[TOKENS_MAX];
};
_Static_assert(sizeof(struct change) <= CACHE_SCRATCH_BYTES, "scratch");

static uint64_t first_of(const struct sluice_request *r)
{
    return r->offset / BLOCK_BYTES;
}

static uint64_t count_of(const struct sluice_request *r)
{
    return r->length / BLOCK_BYTES;
}

/* --- the end of a change -------------------------------------------------------------------------
 */

static void end_change(struct change *ch)
{
    struct cache *c = ch->c;

    cache_lock(c);
    versions_end(&c->versions, ch->job.block, ch->job.count);
    cache_unlock(c);
}

static void answer(struct change *ch, int32_t error)
{
    struct sluice_request *request = ch->request;
    struct sluice_disk *disk = ch->c->disk;

    end_change(ch);
    sluice_resume(disk, request, error ? sluice_fail(error) : sluice_complete());
}

/* --- without the tier --------------------------------------------------------------------------
 */

struct blocks {
    uint64_t first, end;
};

static bool is_among(const struct index_item *item, const void *arg)
{
    const struct blocks *b = arg;

    return item->block >= b->first && item->block < b->end;
}

/* [M] Forgets all that is known of the blocks, looking at each or through the whole index. */
static void forget_all(struct cache *c, uint64_t block, uint64_t count)
{
    const struct blocks blocks = {block, block + count};
    struct index_item item;

    for (uint64_t i = 0; i < count && count <= c->index.count; i++)
        if (index_get(&c->index, block + i, &item))
            cache_forget(c, &item);
    for (unsigned shard = 0; shard < index_shard_count(&c->index) && count > c->index.count;
         shard++)
        cache_forget_matching(c, shard, is_among, &blocks);
}

/* [M] */
static enum way way_of(struct cache *c, struct stranded *s)
{
    struct change *ch = CONTAINER_OF(s, struct change, stranded);
    enum way way = step_down_way(c, ch->job.block, ch->job.count);

    ch->was_cached = false;
    if (way == WAY_GO)
        forget_all(c, ch->job.block, ch->job.count); /* in RAM alone */
    return way;
}

static void go_on(struct stranded *s, enum way way)
{
    struct change *ch = CONTAINER_OF(s, struct change, stranded);

    if (way == WAY_GO)
        sluice_resume(ch->c->disk, ch->request, sluice_pass_and_tell());
    else
        answer(ch, EIO);
}

/* --- staying -------------------------------------------------------------------------------------
 */

static void on_stay_durable(struct sync_waiter *w, int32_t error)
{
    struct change *ch = CONTAINER_OF(w, struct change, waiter);

    if (error)
        step_down_look_again(ch->c, &ch->stranded);
    else
        answer(ch, 0);
}

static void note_flushed(struct cache *c)
{
    cache_lock(c);
    c->log.is_flushed = true;
    cache_unlock(c);
}

static void on_stay_logged(struct log_job *job)
{
    struct change *ch = CONTAINER_OF(job, struct change, job);

    if (job->error) {
        step_down_look_again(ch->c, &ch->stranded);
        return;
    }
    if (!(ch->request->flags & SLUICE_FLAG_FUA) || MUTANT(4)) {
        answer(ch, 0);
        return;
    }
    note_flushed(ch->c);
    ch->waiter = (struct sync_waiter){.done = on_stay_durable};
    log_sync(ch->c, &ch->waiter);
}

/* --- going through
 * -------------------------------------------------------------------------------- */

static void go_through(struct change *ch, int32_t error)
{
    if (error)
        step_down_look_again(ch->c, &ch->stranded);
    else
        go_on(&ch->stranded, WAY_GO);
}

static void on_through_durable(struct sync_waiter *w, int32_t error)
{
    go_through(CONTAINER_OF(w, struct change, waiter), error);
}

/* What stood in the log before must not come back after a power cut, neither what was dropped nor,
 * where the block was dirty, a clean entry below that: durable before the backing changes. */
static void on_through_logged(struct log_job *job)
{
    struct change *ch = CONTAINER_OF(job, struct change, job);

    if (job->error || !job->was_logged) {
        go_through(ch, job->error);
        return;
    }
    ch->waiter = (struct sync_waiter){.done = on_through_durable};
    log_sync(ch->c, &ch->waiter);
}

/* [M] What is in RAM alone goes at once; true: the log has to learn of the change. */
static bool drop_from_ram(struct change *ch)
{
    struct cache *c = ch->c;
    uint64_t count = ch->job.count;
    bool must_log = false;

    if (c->index.count == 0)
        return false;
    if (count > c->index.count)
        return true; /* the log's way is as good, and gives the mutex to others meanwhile */
    for (uint64_t i = 0; i < count; i++) {
        struct index_item item;

        if (!index_get(&c->index, ch->job.block + i, &item))
            continue;
        ch->was_cached = true;
        if (item.is_in_ram && ram_is_settled(c, item.place))
            cache_forget(c, &item);
        else
            must_log = true;
    }
    return must_log;
}

/* [M] */
static void note_tokens(struct change *ch)
{
    struct cache *c = ch->c;
    uint64_t group = ch->job.block >> VERSION_SHIFT;

    for (uint32_t i = 0; i < TOKENS_MAX; i++)
        ch->tokens[i] = c->versions.bucket[(group + i) % VERSION_BUCKETS].version;
}

/* WAIT: deferred. */
static enum way start_through(struct change *ch)
{
    struct cache *c = ch->c;
    enum way way = WAY_GO;

    cache_lock(c);
    note_tokens(ch);
    if (c->log.error) {
        way = step_down_look(c, &ch->stranded);
    } else if (drop_from_ram(ch)) {
        if (cache_has_log(c)) {
            log_add(c, &ch->job, false);
            way = WAY_WAIT;
        } else {
            forget_all(c, ch->job.block, ch->job.count);
        }
    }
    cache_unlock(c);
    return way;
}

/* Write-through: what is cached is replaced, if nobody else has changed it meanwhile. */
static void keep_written(struct change *ch)
{
    struct cache *c = ch->c;
    const struct sluice_request *r = ch->request;

    for (uint64_t i = 0; i < ch->job.count; i++) {
        uint64_t block = ch->job.block + i, group = block >> VERSION_SHIFT;
        const struct version_bucket *b = &c->versions.bucket[group % VERSION_BUCKETS];
        struct index_item item;

        if (b->in_flight == 1 &&
            b->version == ch->tokens[group - (ch->job.block >> VERSION_SHIFT)] &&
            !index_get(&c->index, block, &item))
            ram_fill(c, block, (const uint8_t *)r->data + i * BLOCK_BYTES);
    }
}

struct sluice_verdict cache_on_change_end(void *instance, struct sluice_request *r, void *scratch)
{
    struct cache *c = instance;
    struct change *ch = scratch;

    cache_lock(c);
    versions_note_through(&c->versions, ch->job.block, ch->job.count, ++c->through);
    if (!r->error && r->op == SLUICE_OP_WRITE && ch->was_cached && cache_rules(c)->writes_fill &&
        ch->job.count <= CHUNK_DATA_MAX)
        keep_written(ch);
    versions_end(&c->versions, ch->job.block, ch->job.count);
    cache_unlock(c);
    log_pump(c);
    return sluice_pass();
}

/* --- the start
 * ------------------------------------------------------------------------------------ */

static void start_stay(struct change *ch)
{
    struct cache *c = ch->c;

    cache_lock(c);
    log_add(c, &ch->job, false);
    cache_unlock(c);
    log_pump(c);
}

static void on_paced(struct paced *p)
{
    struct change *ch = CONTAINER_OF(p, struct change, paced);

    if (sluice_commit(ch->c->disk, ch->request))
        start_stay(ch);
    else
        answer(ch, ECANCELED);
}

/* [M] How much of a trim or zeroing is written to the log: where the others wait, more. */
static uint64_t stay_most(const struct cache *c)
{
    uint64_t part = log_bytes(&c->log) / BLOCK_BYTES / 64;

    return order_counts(c) ? MIN(MAX(part, STAY_BLOCKS_MOST), ORDERED_STAY_MOST) : STAY_BLOCKS_MOST;
}

/* [M] In order nothing passes what is dirty: so it stays until little is. */
static bool may_stay(const struct cache *c, const struct sluice_request *r)
{
    bool stays =
        cache_rules(c)->writes_stay || (order_counts(c) && c->log.dirty_blocks > ORDER_REST);

    return stays && (r->op == SLUICE_OP_WRITE || count_of(r) <= stay_most(c));
}

static void fill_job(struct change *ch, const struct sluice_request *r)
{
    ch->job = (struct log_job){
        .kind = ch->stays ? JOB_WRITE : JOB_CHANGE,
        .block = first_of(r),
        .count = count_of(r),
        .data = r->op == SLUICE_OP_WRITE ? r->data : NULL,
        .done = ch->stays ? on_stay_logged : on_through_logged,
    };
}

static struct sluice_verdict stay(struct change *ch)
{
    struct cache *c = ch->c;
    bool goes;

    cache_lock(c);
    ch->paced.go = on_paced;
    goes = pace(c, &ch->paced, ch->job.count);
    if (!goes)
        sluice_hold(c->disk, ch->request, "cache: waits for the backing");
    cache_unlock(c);
    if (!goes) {
        sluice_count(c->disk, N_PACED, 1);
        return sluice_defer();
    }
    if (!sluice_commit(c->disk, ch->request)) {
        end_change(ch);
        return sluice_fail(ECANCELED);
    }
    start_stay(ch);
    return sluice_defer();
}

/* All that had been acknowledged before is in the backing. */
static void on_passed(struct paced *p)
{
    struct change *ch = CONTAINER_OF(p, struct change, paced);
    struct cache *c = ch->c;
    enum way way;

    if (!sluice_commit(c->disk, ch->request)) {
        answer(ch, ECANCELED);
        return;
    }
    way = start_through(ch);
    if (way == WAY_WAIT)
        log_pump(c);
    else
        go_on(&ch->stranded, way);
}

static bool wait_for_earlier(struct change *ch)
{
    struct cache *c = ch->c;
    bool goes;

    cache_lock(c);
    ch->paced.go = on_passed;
    goes = pace_behind(c, &ch->paced);
    if (!goes)
        sluice_hold(c->disk, ch->request, "cache: waits until what came before is in the backing");
    cache_unlock(c);
    return !goes;
}

static struct sluice_verdict through(struct change *ch)
{
    struct cache *c = ch->c;

    if (wait_for_earlier(ch)) {
        sluice_count(c->disk, N_PACED, 1);
        return sluice_defer();
    }
    if (!sluice_commit(c->disk, ch->request)) {
        end_change(ch);
        return sluice_fail(ECANCELED);
    }
    switch (start_through(ch)) {
    case WAY_GO:
        return sluice_pass_and_tell();
    case WAY_FAIL:
        end_change(ch);
        return sluice_fail(EIO);
    default:
        log_pump(c);
        return sluice_defer();
    }
}

struct sluice_verdict cache_on_change(void *instance, struct sluice_request *r, void *scratch)
{
    struct cache *c = instance;
    struct change *ch = scratch;

    ch->c = c;
    ch->request = r;
    ch->stranded = (struct stranded){.request = r, .way = way_of, .go = go_on};
    cache_lock(c);
    ch->stays = may_stay(c, r);
    if (!ch->stays && (r->flags & SLUICE_FLAG_FAST_ONLY) && c->log.dirty_blocks) {
        cache_unlock(c);
        return sluice_fail(ENOTSUP); /* the backing may refuse after the log has learned of it */
    }
    fill_job(ch, r);
    versions_begin(&c->versions, ch->job.block, ch->job.count);
    cache_unlock(c);
    if (r->op == SLUICE_OP_WRITE)
        sluice_count(c->disk, N_CLIENT_WRITTEN, (int64_t)r->length);
    sluice_count(c->disk, ch->stays ? N_WRITES_BACK : N_WRITES_THROUGH, 1);
    return ch->stays ? stay(ch) : through(ch);
}

enum sluice_cancel_answer cache_on_cancel(void *instance, struct sluice_request *r, void *scratch)
{
    struct cache *c = instance;
    struct change *ch = scratch;
    bool was_queued = false;

    if (r->op == SLUICE_OP_WRITE || r->op == SLUICE_OP_TRIM || r->op == SLUICE_OP_ZERO) {
        cache_lock(c);
        was_queued = ch->paced.is_queued && pace_remove(c, &ch->paced);
        if (was_queued)
            versions_end(&c->versions, ch->job.block, ch->job.count);
        cache_unlock(c);
    }
    return was_queued ? SLUICE_CANCEL_RELEASED : SLUICE_CANCEL_BUSY;
}
