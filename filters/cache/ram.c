/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ram.c: the frames of RAM: blocks that equal the backing's, whole.  Which one goes is the policy's
 * choice; one that is to move to the SSD keeps its frame and its place in the index, and answers
 * reads, until the log has it.  A change of the block that comes in between makes the move void.
 */
#include "cache.h"

#include <errno.h>

enum { FREE, HELD, PROMOTING };

#define VICTIMS_A_FILL 4u

struct promotion {
    struct log_job job;
    struct cache *c;
    uint32_t frame;
};

/* --- open and close ----------------------------------------------------------------------------
 */

static int make_frames(struct ram *r, uint32_t frames, uint64_t main_blocks, uint64_t main_used)
{
    struct policy_size size = {
        .frames = frames, .main_blocks = main_blocks, .main_used = MIN(main_used, main_blocks)};

    r->frames = r->free_count = frames;
    r->policy = r->ops->create(&size);
    r->data = cache_alloc_pages((uint64_t)frames * BLOCK_BYTES);
    r->block = cache_zalloc(frames * sizeof *r->block);
    r->state = cache_zalloc(frames);
    r->free_list = cache_zalloc(frames * sizeof *r->free_list);
    if (!r->policy || !r->data || !r->block || !r->state || !r->free_list)
        return -ENOMEM;
    for (uint32_t i = 0; i < frames; i++)
        r->free_list[i] = frames - 1 - i;
    return 0;
}

int ram_open(struct cache *c, struct sluice_error *error)
{
    struct ram *r = &c->ram;
    uint64_t frames = MIN(c->options.ram_bytes / BLOCK_BYTES, NO_FRAME - 1u);
    uint64_t main = cache_has_log(c) ? log_bytes(&c->log) / BLOCK_BYTES : 0;

    r->ops = policy_find(c->options.policy);
    if (!sluice_memory_take(c->disk, c->options.ram_bytes))
        return sluice_refuse(c->disk, error, ENOMEM,
                             "ram: %llu bytes are more than the gateway's memory limit leaves",
                             (unsigned long long)c->options.ram_bytes);
    r->bytes_taken = c->options.ram_bytes;
    if (make_frames(r, (uint32_t)frames, main, c->index.count) < 0)
        return sluice_refuse(c->disk, error, ENOMEM, "ram: there is no memory for %llu blocks",
                             (unsigned long long)frames);
    return 0;
}

void ram_close(struct cache *c)
{
    struct ram *r = &c->ram;

    if (r->policy)
        r->ops->destroy(r->policy);
    cache_free(r->data);
    cache_free(r->block);
    cache_free(r->state);
    cache_free(r->free_list);
    if (r->bytes_taken)
        sluice_memory_give(c->disk, r->bytes_taken);
    r->bytes_taken = 0;
}

/* --- frames ------------------------------------------------------------------------------------
 */

static void put_back(struct cache *c, uint32_t frame)
{
    struct ram *r = &c->ram;

    r->state[frame] = FREE;
    r->free_list[r->free_count++] = frame;
    sluice_count(c->disk, N_RAM, -(int64_t)BLOCK_BYTES);
}

void ram_release(struct cache *c, uint32_t frame)
{
    struct ram *r = &c->ram;

    if (r->state[frame] != HELD)
        return; /* being written to the log: end_promotion() gives it back */
    r->ops->remove(r->policy, frame);
    put_back(c, frame);
}

bool ram_is_settled(const struct cache *c, uint32_t frame)
{
    return c->ram.state[frame] == HELD;
}

/* --- moving to the SSD --------------------------------------------------------------------------
 */

static void end_promotion(struct log_job *job)
{
    struct promotion *p = CONTAINER_OF(job, struct promotion, job);
    struct cache *c = p->c;
    struct index_item item;

    cache_lock(c);
    if (index_get(&c->index, job->block, &item) && item.is_in_ram && item.place == p->frame)
        index_remove(&c->index, job->block); /* it did not get into the log */
    c->ram.promoting--;
    put_back(c, p->frame);
    cache_unlock(c);
    sluice_count(c->disk, job->error ? N_EVICTED : N_PROMOTED, 1);
    cache_free(p);
}

static bool may_promote(const struct cache *c)
{
    return cache_has_log(c) && !c->log.error && !log_is_stuck(&c->log) && !c->is_stopped &&
           !c->draining && c->ram.promoting < c->ram.frames / 4 + 1;
}

/* [M] What the log calls clean has to be durable in the backing: else a power cut could take it
 * from there, and the cache would show what the disk no longer holds, until it forgets it. */
static bool is_durable_below(struct cache *c, uint64_t block)
{
    if (versions_through(&c->versions, block) <= c->through_flushed || MUTANT(16))
        return true;
    c->wants_flush = true;
    keeper_kick(c);
    return false;
}

/* [M] False: it cannot be moved now. */
static bool promote(struct cache *c, uint32_t frame)
{
    struct ram *r = &c->ram;
    struct promotion *p;
    uint32_t token = versions_token(&c->versions, r->block[frame]);

    if (token == TOKEN_NONE || !may_promote(c) || !is_durable_below(c, r->block[frame]))
        return false;
    p = cache_zalloc(sizeof *p);
    if (!p)
        return false;
    p->c = c;
    p->frame = frame;
    p->job = (struct log_job){.kind = JOB_CLEAN,
                              .block = r->block[frame],
                              .count = 1,
                              .data = ram_data(r, frame),
                              .token = token,
                              .source = frame,
                              .source_is_ram = true,
                              .done = end_promotion};
    r->state[frame] = PROMOTING;
    r->promoting++;
    log_add(c, &p->job, false);
    return true;
}

static void evict(struct cache *c, uint32_t frame)
{
    index_remove(&c->index, c->ram.block[frame]);
    sluice_count(c->disk, N_EVICTED, 1);
    put_back(c, frame);
}

/* [M] NO_FRAME: all are on their way to the SSD. */
static uint32_t get_frame(struct cache *c)
{
    struct ram *r = &c->ram;

    for (unsigned i = 0; i < VICTIMS_A_FILL && r->free_count == 0; i++) {
        enum policy_verdict verdict;
        uint32_t frame = r->ops->victim(r->policy, &verdict);

        if (frame == NO_FRAME)
            return NO_FRAME;
        if (verdict != POLICY_PROMOTE || !promote(c, frame))
            evict(c, frame);
    }
    return r->free_count ? r->free_list[--r->free_count] : NO_FRAME;
}

void ram_fill(struct cache *c, uint64_t block, const uint8_t *data)
{
    struct ram *r = &c->ram;
    struct index_item item = {.block = block, .is_in_ram = true};
    uint32_t frame = r->frames ? get_frame(c) : NO_FRAME;

    if (frame == NO_FRAME)
        return;
    item.place = frame;
    sluice_count(c->disk, N_RAM, BLOCK_BYTES);
    r->state[frame] = HELD;
    r->block[frame] = block;
    if (index_put(&c->index, &item) < 0) {
        put_back(c, frame);
        return;
    }
    memcpy(r->data + (uint64_t)frame * BLOCK_BYTES, data, BLOCK_BYTES);
    if (r->ops->insert(r->policy, frame, block) == POLICY_PROMOTE && !promote(c, frame))
        evict(c, frame);
    sluice_count(c->disk, N_FILLS, 1);
}
