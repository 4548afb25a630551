/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * policy-s3fifo.c: S3-FIFO (Yang et al., SOSP'23).  What comes in waits in a small queue; what was
 * used there twice more moves to the main queue, the rest is remembered as a ghost.  Who comes back
 * while a ghost goes to the main queue at once.  The main queue is a FIFO in which what was used
 * goes round again.
 *
 * With an SSD all frames are the small queue, and the main queue is the log of the SSD, whose
 * reclaim does the going round (reclaim.c).  Without, nine tenths of the frames are the main queue.
 */
#include "policy.h"

#include "world.h"

#define SMALL_SHARE 10u /* one part in so many */
#define MOVE_TO_MAIN 2u /* uses in the small queue */
#define FREQUENCY_MAX 3u

enum { NONE, SMALL, MAIN };

struct policy {
    struct policy_frame *frames;
    struct policy_queue small, main;
    struct ghost *ghost;
    uint32_t small_most, main_most;
    bool main_is_elsewhere, has_evicted;
    uint64_t main_free; /* of the SSD's blocks, not yet used */
};

static void s3_destroy(struct policy *p)
{
    ghost_destroy(p->ghost);
    cache_free(p->frames);
    cache_free(p);
}

static struct policy *s3_create(const struct policy_size *size)
{
    struct policy *p = cache_zalloc(sizeof *p);
    uint64_t ghosts;

    if (!p)
        return NULL;
    p->main_is_elsewhere = size->main_blocks > 0;
    p->main_free = size->main_blocks - size->main_used;
    p->small_most = size->frames / SMALL_SHARE > 0 ? size->frames / SMALL_SHARE : 1;
    p->main_most = size->frames - p->small_most;
    ghosts = p->main_is_elsewhere ? size->main_blocks : p->main_most;
    queue_init(&p->small);
    queue_init(&p->main);
    p->frames = cache_zalloc(size->frames * sizeof *p->frames);
    p->ghost = ghost_create(ghosts);
    if (p->frames && p->ghost)
        return p;
    s3_destroy(p);
    return NULL;
}

static void put(struct policy *p, uint32_t frame, unsigned queue)
{
    p->frames[frame].queue = (uint8_t)queue;
    queue_push(p->frames, queue == SMALL ? &p->small : &p->main, frame);
}

static void take(struct policy *p, uint32_t frame)
{
    struct policy_frame *f = &p->frames[frame];

    queue_take(p->frames, f->queue == SMALL ? &p->small : &p->main, frame);
    f->queue = NONE;
}

static enum policy_verdict s3_insert(struct policy *p, uint32_t frame, uint64_t block)
{
    bool was_ghost = ghost_take(p->ghost, block);
    bool is_early = !p->has_evicted && p->small.count >= p->small_most;

    p->frames[frame] = (struct policy_frame){.block = block};
    if (was_ghost && p->main_is_elsewhere)
        return POLICY_PROMOTE;
    put(p, frame, !p->main_is_elsewhere && (was_ghost || is_early) ? MAIN : SMALL);
    return POLICY_KEEP;
}

static void s3_hit(struct policy *p, uint32_t frame)
{
    if (p->frames[frame].frequency < FREQUENCY_MAX)
        p->frames[frame].frequency++;
}

/* Of the main queue in RAM. */
static uint32_t evict_main(struct policy *p)
{
    for (;;) {
        uint32_t frame = p->main.oldest;

        take(p, frame);
        if (p->frames[frame].frequency == 0)
            return frame;
        p->frames[frame].frequency--;
        put(p, frame, MAIN);
    }
}

static uint32_t s3_victim(struct policy *p, enum policy_verdict *verdict)
{
    *verdict = POLICY_EVICT;
    p->has_evicted = true;
    while (p->small.count && p->main.count <= p->main_most) {
        uint32_t frame = p->small.oldest;

        take(p, frame);
        if (p->main_free) { /* nothing has to leave yet */
            p->main_free--;
            *verdict = POLICY_PROMOTE;
            return frame;
        }
        if (p->frames[frame].frequency < MOVE_TO_MAIN) {
            ghost_add(p->ghost, p->frames[frame].block);
            return frame;
        }
        if (p->main_is_elsewhere) {
            *verdict = POLICY_PROMOTE;
            return frame;
        }
        p->frames[frame].frequency = 0;
        put(p, frame, MAIN);
    }
    return p->main.count ? evict_main(p) : NO_FRAME;
}

static void s3_remove(struct policy *p, uint32_t frame)
{
    if (p->frames[frame].queue != NONE)
        take(p, frame);
}

const struct policy_ops policy_s3fifo = {
    .name = "s3-fifo",
    .create = s3_create,
    .destroy = s3_destroy,
    .insert = s3_insert,
    .hit = s3_hit,
    .victim = s3_victim,
    .remove = s3_remove,
};
