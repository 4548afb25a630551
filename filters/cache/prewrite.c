/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * prewrite.c: writes the space of a new tier before the log comes there.
 *
 * A file system promises the space of a new file without writing it.  The first write there changes
 * what it knows of the file, so that the next fdatasync waits for its journal as well as for the
 * data: up to twice as long.  So zeros are written once, the beginning when the tier is made and
 * the rest by the keeper, some way ahead of the log and when there is nothing else to do.  What a
 * burst has overtaken the log has written itself.
 *
 * Only places where no segment has ever been are written, so nothing is there to be lost; each
 * counts as being read meanwhile, so that no segment is opened there.  How far it came is not kept:
 * after a restart it begins anew just ahead of the log, with what is zeros already.
 */
#include "cache.h"

#include <errno.h>

#define AHEAD_BYTES (UINT64_C(64) << 20)
#define AT_ONCE_BYTES (UINT64_C(8) << 20)
#define AT_ONCE_SHARE 8u /* at most an eighth of the log, so that small tiers are made soon */

static uint64_t segment_bytes(const struct log *log)
{
    return (uint64_t)log->super.segment_blocks * BLOCK_BYTES;
}

static void *make_zeros(const struct log *log)
{
    void *zeros = cache_alloc_pages(segment_bytes(log));

    if (zeros)
        memset(zeros, 0, segment_bytes(log));
    return zeros;
}

/* --- when the tier is made
 * ------------------------------------------------------------------------ */

int prewrite_first(struct cache *c)
{
    struct log *log = &c->log;
    uint64_t bytes = MIN(AT_ONCE_BYTES, log_bytes(log) / AT_ONCE_SHARE);
    uint64_t count = bytes / segment_bytes(log);
    void *zeros = make_zeros(log);
    int r = zeros ? 0 : -ENOMEM;

    for (uint64_t i = 0; i < count && r == 0; i++)
        r = log_io_wait(c, SLUICE_OP_WRITE, log_slot(log, i, 0), zeros, segment_bytes(log));
    cache_free(zeros);
    log->prewritten = count;
    return r;
}

/* --- the keeper's step
 * ---------------------------------------------------------------------------- */

/* [M] */
static uint64_t next_segment(const struct log *log)
{
    return MAX(log->prewritten, log->head.segment + 1);
}

bool prewrite_is_wanted(const struct cache *c)
{
    const struct log *log = &c->log;
    uint64_t next = next_segment(log);

    if (!log->is_promised || (next >= log->super.segment_count && !MUTANT(23)))
        return false;
    return (next - log->head.segment) * segment_bytes(log) <= AHEAD_BYTES;
}

/* False: the log has come there meanwhile. */
static bool pin(struct cache *c, uint64_t *segment)
{
    bool is_wanted;

    cache_lock(c);
    is_wanted = prewrite_is_wanted(c);
    *segment = next_segment(&c->log);
    if (is_wanted && !MUTANT(24))
        c->log.readers[log_place_of(&c->log, *segment)]++;
    cache_unlock(c);
    return is_wanted;
}

static void unpin(struct cache *c, uint64_t segment)
{
    cache_lock(c);
    if (!MUTANT(24))
        c->log.readers[log_place_of(&c->log, segment)]--;
    c->log.prewritten = segment + 1;
    cache_wake(&c->cond);
    cache_unlock(c);
    log_pump(c); /* who wants to open a segment there may have waited */
}

int32_t prewrite_step(struct cache *c)
{
    const struct log *log = &c->log;
    void *zeros = make_zeros(log);
    uint64_t segment;
    int r;

    if (!zeros)
        return ENOMEM;
    if (!pin(c, &segment)) {
        cache_free(zeros);
        return 0;
    }
    r = log_tend_wait(c, SLUICE_OP_WRITE, log_slot(log, segment, 0), zeros, segment_bytes(log));
    cache_free(zeros);
    unpin(c, segment);
    sluice_count(c->disk, N_PREWRITTEN, (int64_t)segment_bytes(log));
    /* What the file system has to remember of it is not to be waited for by a guest's flush. */
    return r < 0 ? -r : log_sync_wait(c);
}
