/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * policy-ghost.c: remembers which blocks left lately, in 8 bytes each: a fingerprint and the number
 * of the departure.  Eight places a bucket; a newcomer takes the place of the oldest.  An entry
 * counts while no more than `capacity` blocks have left after it, so it is a FIFO of that length,
 * but for what a full bucket forgets early and for one false hit in some 2^29 lookups.
 */
#include "policy.h"

#include "world.h"

#define WAYS 8u

struct departure {
    uint32_t fingerprint; /* 0: free */
    uint32_t number;
};

struct ghost {
    struct departure *table;
    uint64_t buckets, capacity;
    uint32_t departures; /* wraps around; ages are differences */
};

static uint64_t mix(uint64_t block)
{
    uint64_t h = (block ^ UINT64_C(0x5851f42d4c957f2d)) * UINT64_C(0xff51afd7ed558ccd);

    h = (h ^ (h >> 33)) * UINT64_C(0xc4ceb9fe1a85ec53);
    return h ^ (h >> 29);
}

static struct departure *bucket_of(const struct ghost *g, uint64_t h)
{
    return &g->table[(uint64_t)(((h >> 32) * g->buckets) >> 32) * WAYS];
}

static uint32_t fingerprint_of(uint64_t h)
{
    return (uint32_t)h | 1u;
}

struct ghost *ghost_create(uint64_t capacity)
{
    struct ghost *g = cache_zalloc(sizeof *g);

    if (!g)
        return NULL;
    g->capacity = capacity < UINT32_MAX / 2 ? capacity : UINT32_MAX / 2;
    g->buckets = g->capacity * 5 / 4 / WAYS + 1;
    g->table = cache_zalloc(g->buckets * WAYS * sizeof *g->table);
    if (g->table)
        return g;
    cache_free(g);
    return NULL;
}

void ghost_destroy(struct ghost *g)
{
    if (g)
        cache_free(g->table);
    cache_free(g);
}

static uint32_t age(const struct ghost *g, const struct departure *d)
{
    return d->fingerprint ? g->departures - d->number : UINT32_MAX;
}

void ghost_add(struct ghost *g, uint64_t block)
{
    uint64_t h = mix(block);
    struct departure *bucket = bucket_of(g, h), *oldest = bucket;

    for (unsigned i = 1; i < WAYS; i++)
        if (age(g, &bucket[i]) > age(g, oldest))
            oldest = &bucket[i];
    *oldest = (struct departure){fingerprint_of(h), g->departures++};
}

bool ghost_take(struct ghost *g, uint64_t block)
{
    uint64_t h = mix(block);
    struct departure *bucket = bucket_of(g, h);

    for (unsigned i = 0; i < WAYS; i++)
        if (bucket[i].fingerprint == fingerprint_of(h)) {
            bool counts = age(g, &bucket[i]) <= g->capacity;

            bucket[i].fingerprint = 0;
            return counts;
        }
    return false;
}
