/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stream.c: see the header.  So few streams that looking at all of them is the quickest; the one
 * that was longest not gone on with makes room for a new one.
 */
#include "stream.h"

#include <stdbool.h>

static bool goes_on(const struct streams *s, unsigned i, uint64_t block, uint64_t count)
{
    return block <= s->end[i] + count && s->end[i] <= block + count;
}

/* STREAMS: none. */
static unsigned find(const struct streams *s, uint64_t block, uint64_t count)
{
    unsigned best = STREAMS;

    for (unsigned i = 0; i < STREAMS; i++)
        if (s->used_at[i] && goes_on(s, i, block, count) &&
            (best == STREAMS || s->end[i] - s->start[i] > s->end[best] - s->start[best]))
            best = i;
    return best;
}

static unsigned make_room(const struct streams *s)
{
    unsigned oldest = 0;

    for (unsigned i = 1; i < STREAMS; i++)
        if (s->used_at[i] < s->used_at[oldest])
            oldest = i;
    return oldest;
}

uint64_t streams_note(struct streams *s, uint64_t block, uint64_t count)
{
    unsigned i = find(s, block, count);

    if (i == STREAMS) {
        i = make_room(s);
        s->start[i] = s->end[i] = block;
    }
    if (s->end[i] < block + count)
        s->end[i] = block + count;
    s->used_at[i] = ++s->clock;
    return s->end[i] - s->start[i];
}
