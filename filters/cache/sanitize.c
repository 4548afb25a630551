/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sanitize.c: the disk has been overwritten, and nothing of what was on it may be left on the tier.
 *
 *     drain   everything dirty goes to the backing, which has the old bytes until then
 *     sweep   each place of a segment is overwritten once: those that are free at once, the others
 *             when the keeper has moved the tail, and a checkpoint the start of the replay, past
 *             them.  What is written to a place after that is not old.
 *
 * A place may be overwritten when it might be opened for a new segment, and counts as being read
 * meanwhile, so that it is not.  Superblocks and checkpoints hold numbers of blocks, no data.
 *
 * The event is told again and again until nothing is left to do; what was done stays noted.
 */
#include "cache.h"

#include <errno.h>

#define SLICE_NS UINT64_C(1000000000) /* of one telling, so that others get at the disk between */
#define ROOM_FOR_MARKS 3u             /* segments that are free while the head is pushed on */

/* --- what the keeper asks [M] -------------------------------------------------------------------
 */

static bool is_scrubbed(const struct cache *c, uint64_t segment)
{
    return c->scrub.scrubbed[log_place_of(&c->log, segment)];
}

bool scrub_wants_tail(const struct cache *c)
{
    return c->scrub.scrubbed && c->scrub.is_drained && c->log.tail < c->log.head.segment &&
           !is_scrubbed(c, c->log.tail);
}

bool scrub_wants_checkpoint(const struct cache *c)
{
    return c->scrub.scrubbed && c->scrub.wants_checkpoint;
}

/* --- the drain ----------------------------------------------------------------------------------
 */

static int again_if_late(int r)
{
    return r == -ETIMEDOUT ? -EAGAIN : r;
}

static int drain(struct cache *c, uint64_t until_ns, struct sluice_error *error)
{
    int r;

    if (c->scrub.is_drained)
        return 0;
    r = again_if_late(cache_wait_clean(c, 0, "emptying the cache to erase it", until_ns, error));
    if (r < 0)
        return r;
    cache_lock(c);
    c->scrub.is_drained = true;
    cache_unlock(c);
    cache_drain_end(c);
    return 0;
}

/* --- the sweep ----------------------------------------------------------------------------------
 */

/* The segment that is in the ring at this place, or will be next. [M] */
static uint64_t segment_of_place(const struct log *log, uint32_t place)
{
    uint64_t count = log->super.segment_count, segment = log->tail / count * count + place;

    return segment < log->tail ? segment + count : segment;
}

/* [M] A place that is free, and not scrubbed; -1: none now. */
static int64_t take_place(struct cache *c)
{
    struct log *log = &c->log;

    c->scrub.wants_checkpoint = false;
    for (uint32_t place = 0; place < log->super.segment_count; place++) {
        uint64_t segment = segment_of_place(log, place);

        if (c->scrub.scrubbed[place] || segment <= log->head.segment || log->readers[place])
            continue;
        if (segment - log->checkpoint_segment < log->super.segment_count || MUTANT(18)) {
            log->readers[place]++;
            return place;
        }
        c->scrub.wants_checkpoint = true;
    }
    return -1;
}

static void give_place(struct cache *c, uint32_t place, bool is_scrubbed)
{
    cache_lock(c);
    c->log.readers[place]--;
    c->scrub.scrubbed[place] = is_scrubbed;
    c->scrub.left -= is_scrubbed && c->scrub.left;
    cache_wake(&c->cond);
    cache_unlock(c);
    log_pump(c); /* who wants to open a segment there may have waited */
}

static int overwrite_place(struct cache *c, uint32_t place, void *zeros, uint64_t bytes)
{
    uint64_t first = c->log.super.first_block + (uint64_t)place * c->log.super.segment_blocks;
    int r = log_tend_wait(c, SLUICE_OP_WRITE, first, zeros, bytes);

    give_place(c, place, r == 0);
    return r;
}

/* [M] The segment that is being written is itself not scrubbed, and there is room to leave it. */
static bool must_push_head(const struct cache *c)
{
    const struct log *log = &c->log;

    return !is_scrubbed(c, log->head.segment) &&
           log->super.segment_count - 1 - (log->head.segment - log->tail) > ROOM_FOR_MARKS;
}

/* One step. -EAGAIN: nothing can be done just now. */
static int sweep_step(struct cache *c, void *zeros, uint64_t bytes)
{
    bool must_push;
    int64_t place;
    int r;

    cache_lock(c);
    r = c->log.error ? -EIO : 0;
    place = r == 0 ? take_place(c) : -1;
    must_push = r == 0 && place < 0 && must_push_head(c);
    if (r == 0 && place < 0 && !must_push) {
        keeper_kick(c);
        cache_sleep(&c->cond, &c->mutex);
    }
    cache_unlock(c);
    if (place >= 0)
        return overwrite_place(c, (uint32_t)place, zeros, bytes);
    return must_push ? -log_mark_written(c) : r;
}

static int sweep_until(struct cache *c, void *zeros, uint64_t bytes, uint64_t until_ns)
{
    uint32_t count = c->log.super.segment_count, left = count;
    int r = 0;

    while (left && r == 0) {
        r = sweep_step(c, zeros, bytes);
        cache_lock(c);
        left = c->scrub.left;
        cache_unlock(c);
        sluice_progress(c->disk, "erasing the cache's tier", count - left, count);
        if (left && r == 0 && sluice_now_ns(c->disk) > until_ns)
            r = -EAGAIN;
    }
    sluice_progress(c->disk, NULL, 0, 0);
    return r == 0 ? log_tend_wait(c, SLUICE_OP_FLUSH, 0, NULL, 0) : r;
}

static int sweep(struct cache *c, uint64_t until_ns, struct sluice_error *error)
{
    uint64_t bytes = (uint64_t)c->log.super.segment_blocks * BLOCK_BYTES;
    uint8_t *zeros = cache_alloc_pages(bytes);
    int r;

    if (!zeros)
        return sluice_refuse(c->disk, error, ENOMEM, "no memory to erase the tier");
    memset(zeros, 0, bytes);
    r = sweep_until(c, zeros, bytes, until_ns);
    cache_free(zeros);
    if (r < 0 && r != -EAGAIN)
        return sluice_refuse(c->disk, error, -r, "%s cannot be erased: %s", c->log.path,
                             strerror(-r));
    return r;
}

/* --- the event ----------------------------------------------------------------------------------
 */

static int begin(struct cache *c, struct sluice_error *error)
{
    uint8_t *scrubbed;

    if (c->scrub.scrubbed)
        return 0;
    scrubbed = cache_zalloc(c->log.super.segment_count);
    if (!scrubbed)
        return sluice_refuse(c->disk, error, ENOMEM, "no memory to erase the tier");
    cache_drain_begin(c);
    cache_lock(c);
    c->scrub = (struct scrub){.scrubbed = scrubbed,
                              .left = c->log.super.segment_count / (MUTANT(19) ? 2 : 1)};
    cache_unlock(c);
    return 0;
}

void scrub_end(struct cache *c)
{
    struct scrub was;

    cache_lock(c);
    was = c->scrub;
    c->scrub = (struct scrub){.scrubbed = NULL};
    cache_unlock(c);
    if (was.scrubbed && !was.is_drained)
        cache_drain_end(c);
    cache_free(was.scrubbed);
}

int cache_on_sanitize(struct cache *c, const struct sluice_event *event, struct sluice_error *error)
{
    uint64_t until_ns = MIN(sluice_now_ns(c->disk) + SLICE_NS, event->deadline_ns);
    int r;

    if (c->has_lost_tier && event->phase == SLUICE_PHASE_PREPARE)
        return sluice_refuse(c->disk, error, EIO,
                             "the tier failed and cannot be erased; destroy it, and take it out of "
                             "the disk's policy");
    if (!cache_has_log(c))
        return 0;
    if (event->phase != SLUICE_PHASE_PREPARE) {
        scrub_end(c);
        return 0;
    }
    r = begin(c, error);
    if (r == 0)
        r = drain(c, until_ns, error);
    return r == 0 ? sweep(c, until_ns, error) : r;
}
