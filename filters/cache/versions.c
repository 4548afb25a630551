/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * versions.c: R9.  Data that was read from the backing, or is being copied within the cache, may be
 * kept only if no change of its block began or ended since: the change may have been overtaken.
 * Buckets of 16 blocks, hashed together; a collision loses a fill and nothing else.
 */
#include "cache.h"

static struct version_bucket *bucket(struct versions *v, uint64_t group)
{
    return &v->bucket[group % VERSION_BUCKETS];
}

/* Neighbouring groups have neighbouring buckets, so after a round all have been told. */
static uint64_t groups_of(uint64_t block, uint64_t count)
{
    uint64_t groups = ((block + count - 1) >> VERSION_SHIFT) - (block >> VERSION_SHIFT) + 1;

    return MIN(groups, VERSION_BUCKETS);
}

void versions_begin(struct versions *v, uint64_t block, uint64_t count)
{
    uint64_t first = block >> VERSION_SHIFT, groups = groups_of(block, count);

    for (uint64_t i = 0; i < groups; i++)
        bucket(v, first + i)->in_flight++;
}

void versions_end(struct versions *v, uint64_t block, uint64_t count)
{
    uint64_t first = block >> VERSION_SHIFT, groups = groups_of(block, count);

    for (uint64_t i = 0; i < groups; i++) {
        struct version_bucket *b = bucket(v, first + i);

        b->in_flight--;
        b->version = b->version + 1 == TOKEN_NONE ? 0 : b->version + 1;
    }
}

void versions_note_through(struct versions *v, uint64_t block, uint64_t count, uint64_t through)
{
    uint64_t first = block >> VERSION_SHIFT, groups = groups_of(block, count);

    for (uint64_t i = 0; i < groups; i++)
        bucket(v, first + i)->through = through;
}

uint64_t versions_through(const struct versions *v, uint64_t block)
{
    return MAX(v->bucket[(block >> VERSION_SHIFT) % VERSION_BUCKETS].through, v->through_before);
}

uint32_t versions_token(const struct versions *v, uint64_t block)
{
    const struct version_bucket *b = &v->bucket[(block >> VERSION_SHIFT) % VERSION_BUCKETS];

    return b->in_flight ? TOKEN_NONE : b->version;
}

bool versions_is_current(const struct versions *v, uint64_t block, uint32_t token)
{
    if (MUTANT(9))
        return true;
    return token != TOKEN_NONE && versions_token(v, block) == token;
}
