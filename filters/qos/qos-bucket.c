/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * qos-bucket: see the header.  64 bits suffice: 2^26 tokens (the largest request in bytes) times
 * 10^9 ns are below 2^56, and 2^64 ns are 584 years.
 */
#include "qos-bucket.h"

#define NS_PER_S 1000000000u

/* How far it is from being full, in ns of its rate. */
static uint64_t missing_ns(const struct qos_bucket *b, uint64_t now_ns)
{
    return b->full_at_ns > now_ns ? b->full_at_ns - now_ns : 0;
}

void qos_bucket_set(struct qos_bucket *b, uint64_t rate, uint64_t burst_ns, uint64_t now_ns)
{
    double missing = (double)missing_ns(b, now_ns);

    b->full_at_ns =
        b->rate && rate ? now_ns + (uint64_t)(missing * (double)b->rate / (double)rate) : now_ns;
    b->remainder = 0;
    b->rate = rate;
    b->burst_ns = burst_ns;
}

bool qos_bucket_has_token(const struct qos_bucket *b, uint64_t now_ns)
{
    uint64_t missing = missing_ns(b, now_ns);

    return b->rate == 0 || missing == 0 || missing < b->burst_ns;
}

void qos_bucket_take(struct qos_bucket *b, uint64_t tokens, uint64_t now_ns)
{
    uint64_t cost;

    if (b->rate == 0)
        return;
    if (b->full_at_ns < now_ns) {
        b->full_at_ns = now_ns;
        b->remainder = 0;
    }
    cost = tokens * NS_PER_S + b->remainder;
    b->full_at_ns += cost / b->rate;
    b->remainder = cost % b->rate;
}

uint64_t qos_bucket_wait_ns(const struct qos_bucket *b, uint64_t now_ns)
{
    if (qos_bucket_has_token(b, now_ns))
        return 0;
    return b->burst_ns ? missing_ns(b, now_ns) - b->burst_ns + 1 : missing_ns(b, now_ns);
}

int64_t qos_bucket_level(const struct qos_bucket *b, uint64_t now_ns)
{
    double ns = (double)b->burst_ns - (double)missing_ns(b, now_ns);

    return (int64_t)(ns * (double)b->rate / NS_PER_S);
}
