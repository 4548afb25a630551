/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * policy-lru.c: the least recently used frame goes; with an SSD everything that leaves RAM moves
 * there.  For comparison.
 */
#include "policy.h"

#include "world.h"

struct policy {
    struct policy_frame *frames;
    struct policy_queue queue;
    bool main_is_elsewhere;
};

static struct policy *lru_create(const struct policy_size *size)
{
    struct policy *p = cache_zalloc(sizeof *p);

    if (!p)
        return NULL;
    queue_init(&p->queue);
    p->main_is_elsewhere = size->main_blocks > 0;
    p->frames = cache_zalloc(size->frames * sizeof *p->frames);
    if (p->frames)
        return p;
    cache_free(p);
    return NULL;
}

static void lru_destroy(struct policy *p)
{
    cache_free(p->frames);
    cache_free(p);
}

static enum policy_verdict lru_insert(struct policy *p, uint32_t frame, uint64_t block)
{
    p->frames[frame] = (struct policy_frame){.block = block, .queue = 1};
    queue_push(p->frames, &p->queue, frame);
    return POLICY_KEEP;
}

static void lru_remove(struct policy *p, uint32_t frame)
{
    if (!p->frames[frame].queue)
        return;
    p->frames[frame].queue = 0;
    queue_take(p->frames, &p->queue, frame);
}

static void lru_hit(struct policy *p, uint32_t frame)
{
    if (!p->frames[frame].queue)
        return;
    queue_take(p->frames, &p->queue, frame);
    queue_push(p->frames, &p->queue, frame);
}

static uint32_t lru_victim(struct policy *p, enum policy_verdict *verdict)
{
    uint32_t frame = p->queue.oldest;

    *verdict = p->main_is_elsewhere ? POLICY_PROMOTE : POLICY_EVICT;
    if (frame != NO_FRAME)
        lru_remove(p, frame);
    return frame;
}

const struct policy_ops policy_lru = {
    .name = "lru",
    .create = lru_create,
    .destroy = lru_destroy,
    .insert = lru_insert,
    .hit = lru_hit,
    .victim = lru_victim,
    .remove = lru_remove,
};
