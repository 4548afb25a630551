/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * reclaim.c: frees the segment at the tail of the log, the main queue of S3-FIFO: what was used
 * since it was written goes round again as a copy at the head, the rest leaves.  The log is a ring
 * and its tail alone is freed, so an older version of a block is always gone before a newer one.
 *
 * The blocks leave the index only when the new tail is durable: until then a crash could bring them
 * back, and whoever changes the backing has to know of them (R8).
 *
 * Runs on the keeper's thread, on a segment without dirty blocks.
 */
#include "cache.h"

#include <errno.h>

struct copy {
    struct log_job job;
    struct reclaim *owner;
};

struct reclaim {
    struct cache *c;
    uint64_t segment;
    uint8_t *data;
    struct copy *copies;
    uint32_t copy_count, most;
    uint32_t in_flight; /* [M] copies */
};

/* [M] */
static bool is_here(const struct cache *c, uint64_t block, uint32_t slot, struct index_item *item)
{
    return index_get(&c->index, block, item) && !item->is_in_ram && item->place == slot;
}

static void end_copy(struct log_job *job)
{
    struct copy *copy = CONTAINER_OF(job, struct copy, job);
    struct cache *c = copy->owner->c;

    /* Not after: the last one's job goes with its owner. */
    sluice_count(c->disk, N_COPIED, !job->error);
    cache_lock(c);
    copy->owner->in_flight--;
    cache_wake(&c->cond);
    cache_unlock(c);
}

/* [M] */
static void copy_if_used(void *arg, const struct chunk_entry *entry, uint32_t slot,
                         const uint8_t *data)
{
    struct reclaim *r = arg;
    struct cache *c = r->c;
    struct index_item item;
    struct copy *copy = &r->copies[r->copy_count];
    uint32_t token = versions_token(&c->versions, entry->block);

    if (entry->kind == CHUNK_DROP || !is_here(c, entry->block, slot, &item) ||
        item.frequency == 0 || item.is_bad || token == TOKEN_NONE || r->copy_count == r->most)
        return;
    /* One that has rotted is left behind: a copy would have a checksum that fits. */
    if (!rot_is_whole(c, slot, data)) {
        rot_note(c, entry->block, slot, false);
        return;
    }
    copy->owner = r;
    copy->job = (struct log_job){.kind = JOB_CLEAN,
                                 .block = entry->block,
                                 .count = 1,
                                 .data = data,
                                 .token = token,
                                 .source = slot,
                                 .frequency = (uint8_t)(item.frequency - 1),
                                 .done = end_copy};
    r->copy_count++;
    r->in_flight++;
    log_add(c, &copy->job, true);
}

/* [M] */
static void forget(void *arg, const struct chunk_entry *entry, uint32_t slot, const uint8_t *data)
{
    struct reclaim *r = arg;
    struct index_item item;

    (void)data;
    if (entry->kind == CHUNK_DROP || !is_here(r->c, entry->block, slot, &item))
        return;
    cache_forget(r->c, &item);
    sluice_count(r->c->disk, N_EVICTED, 1);
}

/* A header that has rotted hides its entries: they are looked for in the index, all of it, because
 * their slots will hold other blocks. */
struct hidden {
    const struct log *log;
    uint32_t place;
};

static bool is_hidden(const struct index_item *item, const void *arg)
{
    const struct hidden *h = arg;

    return !item->is_in_ram && log_place_of_slot(h->log, item->place) == h->place;
}

/* [M] */
static void forget_hidden(struct reclaim *r)
{
    struct cache *c = r->c;
    const struct hidden h = {.log = &c->log, .place = log_place_of(&c->log, r->segment)};

    for (unsigned shard = 0; shard < index_shard_count(&c->index) && c->log.entries_in[h.place];
         shard++)
        cache_forget_matching(c, shard, is_hidden, &h);
}

static void make_copies(struct reclaim *r)
{
    struct cache *c = r->c;

    cache_lock(c);
    log_for_entries(&c->log, r->data, r->segment, c->log.super.segment_blocks, copy_if_used, r);
    cache_unlock(c);
    log_pump(c);
    cache_lock(c);
    while (r->in_flight)
        cache_sleep(&c->cond, &c->mutex);
    cache_unlock(c);
}

static int32_t move_tail(struct reclaim *r)
{
    struct cache *c = r->c;
    int32_t error;

    cache_lock(c);
    c->log.tail_announced = r->segment + 1;
    cache_unlock(c);
    error = MUTANT(15) ? 0 : log_mark_wait(c);
    if (error)
        return error;
    cache_lock(c);
    log_for_entries(&c->log, r->data, r->segment, c->log.super.segment_blocks, forget, r);
    forget_hidden(r);
    c->log.tail = r->segment + 1;
    c->log.clean = MAX(c->log.clean, c->log.tail);
    cache_wake(&c->cond);
    cache_unlock(c);
    log_pump(c);
    return 0;
}

static int32_t reclaim_segment(struct reclaim *r)
{
    struct cache *c = r->c;
    const struct log *log = &c->log;
    uint64_t bytes = (uint64_t)log->super.segment_blocks * BLOCK_BYTES;
    int error;

    r->most = log->super.segment_blocks;
    r->data = cache_alloc_pages(bytes);
    r->copies = cache_zalloc(r->most * sizeof *r->copies);
    if (!r->data || !r->copies)
        return ENOMEM;
    error = -log_tend_wait(c, SLUICE_OP_READ, log_slot(log, r->segment, 0), r->data, bytes);
    if (error)
        return error;
    make_copies(r);
    return move_tail(r);
}

int32_t reclaim_step(struct cache *c)
{
    struct reclaim r = {.c = c};
    int32_t error;

    cache_lock(c);
    r.segment = c->log.tail;
    cache_unlock(c);
    error = reclaim_segment(&r);
    cache_free(r.data);
    cache_free(r.copies);
    return error;
}
