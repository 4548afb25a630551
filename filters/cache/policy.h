/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * policy: which block leaves the frames of RAM, and whether it moves on to the SSD.  Behind one
 * table of functions, so that S3-FIFO, LRU and ARC can be compared over the same code, in the
 * filter and in cache-sim.  Pure; the caller's mutex guards it.
 */
#ifndef SLUICE_CACHE_POLICY_H
#define SLUICE_CACHE_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#define NO_FRAME UINT32_MAX

enum policy_verdict {
    POLICY_KEEP,   /* insert: it waits in RAM as others do */
    POLICY_EVICT,  /* victim: it goes */
    POLICY_PROMOTE /* insert, victim: it moves to the main queue on the SSD */
};

struct policy_size {
    uint32_t frames;      /* of RAM */
    uint64_t main_blocks; /* of the SSD's log; 0: RAM is all there is */
    uint64_t main_used;   /* of these, when the cache is opened */
};

struct policy;
struct policy_ops {
    const char *name;
    /* NULL: no memory. */
    struct policy *(*create)(const struct policy_size *size);
    void (*destroy)(struct policy *p);
    /* The block has come into this frame.  PROMOTE: the frame is in no queue. */
    enum policy_verdict (*insert)(struct policy *p, uint32_t frame, uint64_t block);
    void (*hit)(struct policy *p, uint32_t frame);
    /* Takes out the frame that has to go, or NO_FRAME: there is none in the queues. */
    uint32_t (*victim)(struct policy *p, enum policy_verdict *verdict);
    /* Taken out for another reason: what it held was overwritten. */
    void (*remove)(struct policy *p, uint32_t frame);
};

extern const struct policy_ops policy_s3fifo, policy_lru, policy_arc;
/* By its name; NULL: unknown. */
const struct policy_ops *policy_find(const char *name);

/* --- what policies are made of --------------------------------------------------------------- */

/* Doubly linked queues over an array of frames.  queue 0: in none. */
struct policy_frame {
    uint64_t block;
    uint32_t newer, older;
    uint8_t queue, frequency;
};
struct policy_queue {
    uint32_t newest, oldest, count;
};
void queue_init(struct policy_queue *q);
void queue_push(struct policy_frame *frames, struct policy_queue *q, uint32_t frame);
void queue_take(struct policy_frame *frames, struct policy_queue *q, uint32_t frame);

/* Blocks that left a while ago: the last `capacity` that were added, more or less. */
struct ghost;
struct ghost *ghost_create(uint64_t capacity);
void ghost_destroy(struct ghost *g);
void ghost_add(struct ghost *g, uint64_t block);
/* True: it was there, and is no more. */
bool ghost_take(struct ghost *g, uint64_t block);

#endif
