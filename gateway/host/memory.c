/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * memory.c: what filters have said they use, against one limit for all of them (`memory:` of the
 * gateway).  Nothing is allocated here; a filter that is told no keeps less.
 */
#include "internal.h"

static _Atomic uint64_t limit_bytes; /* 0: none */
static _Atomic uint64_t taken_bytes;

void memory_set_limit(uint64_t bytes)
{
    atomic_store(&limit_bytes, bytes);
}

bool seat_memory_take(struct seat *seat, uint64_t bytes)
{
    uint64_t limit = atomic_load_explicit(&limit_bytes, memory_order_relaxed);
    uint64_t taken = atomic_load_explicit(&taken_bytes, memory_order_relaxed);

    do {
        if (limit && (bytes > limit || taken > limit - bytes))
            return false;
    } while (!atomic_compare_exchange_weak(&taken_bytes, &taken, taken + bytes));
    atomic_fetch_add(&seat->memory_bytes, bytes);
    return true;
}

/* More than was taken is a bug of the filter, and gives back no more than it has. */
void seat_memory_give(struct seat *seat, uint64_t bytes)
{
    uint64_t has = atomic_load(&seat->memory_bytes);

    while (!atomic_compare_exchange_weak(&seat->memory_bytes, &has, has - MIN(bytes, has)))
        ;
    if (bytes > has)
        seat_log(seat, LOG_LEVEL_ERROR,
                 "gives back %llu bytes of memory but has %llu (bug of the filter)",
                 (unsigned long long)bytes, (unsigned long long)has);
    atomic_fetch_sub(&taken_bytes, MIN(bytes, has));
}

/* At the end. */
void seat_memory_forget(struct seat *seat)
{
    atomic_fetch_sub(&taken_bytes, atomic_exchange(&seat->memory_bytes, 0));
}
