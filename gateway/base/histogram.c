/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * histogram: reading what histogram_add() counted, while it goes on counting.
 *
 * A reader sums relaxed loads: the sum is of no exact instant, but every value added before the
 * reader started is in it, and a bucket never goes down.
 */
#include "base/base.h"

uint64_t histogram_count(const struct histogram *h)
{
    uint64_t count = 0;

    for (unsigned b = 0; b < HISTOGRAM_BUCKETS; b++)
        count += atomic_load_explicit(&h->bucket[b], memory_order_relaxed);
    return count;
}

/* The rank of quantile q among `count` values, 1-based: the smallest that has q of them at or
 * below. */
static uint64_t rank_of(double q, uint64_t count)
{
    double exact = MIN(MAX(q, 0.0), 1.0) * (double)count;
    uint64_t rank = (uint64_t)exact;

    rank += (double)rank < exact;
    return MIN(MAX(rank, 1), count);
}

uint64_t histogram_quantile(const struct histogram *h, double q)
{
    uint64_t count = histogram_count(h), seen = 0, rank;

    if (count == 0)
        return 0;
    rank = rank_of(q, count);
    for (unsigned b = 0; b < HISTOGRAM_BUCKETS - 1; b++) {
        seen += atomic_load_explicit(&h->bucket[b], memory_order_relaxed);
        if (seen >= rank)
            return 2ull << b;
    }
    return 2ull << (HISTOGRAM_BUCKETS - 1);
}
