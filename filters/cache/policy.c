/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * policy.c: the queues that policies are made of, and their list.
 */
#include "policy.h"

#include <stddef.h>
#include <string.h>

void queue_init(struct policy_queue *q)
{
    q->newest = q->oldest = NO_FRAME;
    q->count = 0;
}

void queue_push(struct policy_frame *frames, struct policy_queue *q, uint32_t frame)
{
    frames[frame].older = q->newest;
    frames[frame].newer = NO_FRAME;
    if (q->newest != NO_FRAME)
        frames[q->newest].newer = frame;
    else
        q->oldest = frame;
    q->newest = frame;
    q->count++;
}

void queue_take(struct policy_frame *frames, struct policy_queue *q, uint32_t frame)
{
    struct policy_frame *f = &frames[frame];

    if (f->newer != NO_FRAME)
        frames[f->newer].older = f->older;
    else
        q->newest = f->older;
    if (f->older != NO_FRAME)
        frames[f->older].newer = f->newer;
    else
        q->oldest = f->newer;
    q->count--;
}

const struct policy_ops *policy_find(const char *name)
{
    static const struct policy_ops *const all[] = {&policy_s3fifo, &policy_lru, &policy_arc};

    for (unsigned i = 0; i < sizeof all / sizeof all[0]; i++)
        if (strcmp(all[i]->name, name) == 0)
            return all[i];
    return NULL;
}
