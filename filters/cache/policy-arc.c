/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * policy-arc.c: ARC (Megiddo and Modha, FAST'03).  Two lists of frames, used once (T1) and more
 * often (T2), and a ghost list of each; which of the ghosts comes back moves the border between
 * them.  The ghosts here are FIFOs by fingerprint in place of the paper's exact LRU lists, bounded
 * to the same length.  For comparison.
 */
#include "policy.h"

#include "world.h"

enum { NONE, T1, T2 };

struct policy {
    struct policy_frame *frames;
    struct policy_queue once, often;
    struct ghost *b1, *b2;
    uint64_t b1_count, b2_count;
    uint32_t size, target; /* target: of T1, the paper's p */
    bool main_is_elsewhere;
};

static void arc_destroy(struct policy *p)
{
    ghost_destroy(p->b1);
    ghost_destroy(p->b2);
    cache_free(p->frames);
    cache_free(p);
}

static struct policy *arc_create(const struct policy_size *size)
{
    struct policy *p = cache_zalloc(sizeof *p);

    if (!p)
        return NULL;
    queue_init(&p->once);
    queue_init(&p->often);
    p->size = size->frames;
    p->main_is_elsewhere = size->main_blocks > 0;
    p->frames = cache_zalloc(size->frames * sizeof *p->frames);
    p->b1 = ghost_create(size->frames);
    p->b2 = ghost_create(size->frames);
    if (p->frames && p->b1 && p->b2)
        return p;
    arc_destroy(p);
    return NULL;
}

static uint64_t at_least_one(uint64_t a, uint64_t b)
{
    return b && a / b > 1 ? a / b : 1;
}

static void adapt(struct policy *p, bool was_once)
{
    uint64_t step =
        was_once ? at_least_one(p->b2_count, p->b1_count) : at_least_one(p->b1_count, p->b2_count);

    if (was_once)
        p->target = p->target + step < p->size ? (uint32_t)(p->target + step) : p->size;
    else
        p->target = p->target > step ? (uint32_t)(p->target - step) : 0;
}

static void put(struct policy *p, uint32_t frame, uint8_t queue)
{
    p->frames[frame].queue = queue;
    queue_push(p->frames, queue == T1 ? &p->once : &p->often, frame);
}

static void arc_remove(struct policy *p, uint32_t frame)
{
    struct policy_frame *f = &p->frames[frame];

    if (f->queue == NONE)
        return;
    queue_take(p->frames, f->queue == T1 ? &p->once : &p->often, frame);
    f->queue = NONE;
}

static enum policy_verdict arc_insert(struct policy *p, uint32_t frame, uint64_t block)
{
    bool was_once = ghost_take(p->b1, block), was_often = !was_once && ghost_take(p->b2, block);

    p->frames[frame] = (struct policy_frame){.block = block};
    if (was_once || was_often) {
        adapt(p, was_once);
        if (was_once && p->b1_count)
            p->b1_count--;
        if (was_often && p->b2_count)
            p->b2_count--;
    }
    put(p, frame, was_once || was_often ? T2 : T1);
    return POLICY_KEEP;
}

static void arc_hit(struct policy *p, uint32_t frame)
{
    if (p->frames[frame].queue == NONE)
        return;
    arc_remove(p, frame);
    put(p, frame, T2);
}

static uint32_t arc_victim(struct policy *p, enum policy_verdict *verdict)
{
    bool from_once = p->once.count && (p->once.count > p->target || !p->often.count);
    uint32_t frame = from_once ? p->once.oldest : p->often.oldest;

    *verdict = p->main_is_elsewhere && !from_once ? POLICY_PROMOTE : POLICY_EVICT;
    if (frame == NO_FRAME)
        return frame;
    arc_remove(p, frame);
    ghost_add(from_once ? p->b1 : p->b2, p->frames[frame].block);
    if (from_once && p->b1_count < p->size)
        p->b1_count++;
    if (!from_once && p->b2_count < p->size)
        p->b2_count++;
    return frame;
}

const struct policy_ops policy_arc = {
    .name = "arc",
    .create = arc_create,
    .destroy = arc_destroy,
    .insert = arc_insert,
    .hit = arc_hit,
    .victim = arc_victim,
    .remove = arc_remove,
};
