/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * extents: the list that answers "what is allocated, what reads as zeros".
 *
 * Invariants: runs follow one another from `offset` without gaps, neighbours differ in type, none
 * is empty, their lengths add up to `covered`, and covered <= limit.
 */
#include "io/io.h"

#include <errno.h>

#define FIRST_CAPACITY 16u

void extents_reset(struct extents *x, uint64_t offset, uint64_t limit)
{
    x->offset = offset;
    x->limit = limit;
    x->covered = 0;
    x->count = 0;
}

void extents_free(struct extents *x)
{
    free(x->list);
    x->list = NULL;
    x->capacity = x->count = 0;
}

static int make_room(struct extents *x)
{
    unsigned capacity = MIN(MAX(x->capacity * 2, FIRST_CAPACITY), EXTENTS_MAX);
    struct extent *list;

    if (x->count < x->capacity)
        return 0;
    list = realloc(x->list, capacity * sizeof *list);
    if (!list)
        return -ENOMEM;
    x->list = list;
    x->capacity = capacity;
    return 0;
}

int extents_add(struct extents *x, uint64_t length, uint32_t type)
{
    uint64_t taken = MIN(length, x->limit - x->covered);
    int r;

    if (length == 0)
        return 0;
    if (taken == 0)
        return -ENOSPC;
    if (x->count && x->list[x->count - 1].type == type) {
        x->list[x->count - 1].length += taken;
        x->covered += taken;
        return 0;
    }
    if (x->count == EXTENTS_MAX || (x->count && x->first_only))
        return -ENOSPC;
    r = make_room(x);
    if (r < 0)
        return r;
    x->list[x->count++] = (struct extent){.length = taken, .type = type};
    x->covered += taken;
    return 0;
}
