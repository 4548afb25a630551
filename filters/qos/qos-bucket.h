/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * qos-bucket: a token bucket that knows debt.  Pure: time is handed in.
 *
 * It keeps one number, the time at which it would be full again (Turner's virtual scheduling, as in
 * ITU-T I.371): taking n tokens moves that time by n / rate.  While it is closer than the burst
 * there is at least one token left, and then a request of any size may take all it needs; what was
 * not there is debt, and the next one waits until it is paid.  So a request larger than the bucket
 * is not stuck for ever, and the rate holds exactly in the long run: the remainder of each division
 * is kept.
 */
#ifndef QOS_BUCKET_H
#define QOS_BUCKET_H

#include <stdbool.h>
#include <stdint.h>

struct qos_bucket {
    uint64_t rate; /* tokens a second; 0: no limit */
    uint64_t burst_ns;
    uint64_t full_at_ns;
    uint64_t remainder; /* of full_at_ns, in 1 / rate ns */
};

/* Changes rate and burst; what it held or owed stays. */
void qos_bucket_set(struct qos_bucket *bucket, uint64_t rate, uint64_t burst_ns, uint64_t now_ns);
/* At least one token is there, or there is no limit. */
bool qos_bucket_has_token(const struct qos_bucket *bucket, uint64_t now_ns);
/* Takes as many, there or not. */
void qos_bucket_take(struct qos_bucket *bucket, uint64_t tokens, uint64_t now_ns);
/* How long until there is a token. */
uint64_t qos_bucket_wait_ns(const struct qos_bucket *bucket, uint64_t now_ns);
/* Tokens there; negative: owed. */
int64_t qos_bucket_level(const struct qos_bucket *bucket, uint64_t now_ns);

#endif
