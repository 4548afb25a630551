/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * qos-flow: the limits of one disk, or of several that share them, and who waits for them.  Pure:
 * no threads, no clock, no requests; whoever owns a flow locks it and hands in the time.
 *
 * Two queues, reads and writes, first come first served, so that a limit on writes never keeps a
 * read.  Limits on both together go to the older of the two heads.
 *
 * Window.  A client has so many requests in flight at most (the item's window), and each one held
 * takes a place in it.  When seven eighths of it are held, the client's next requests borrow: they
 * go at once and what they cost is owed, up to one eighth of the window; each request that leaves
 * the queue in its turn pays one back.  So room is left for requests without a limit (flushes;
 * reads, if only writes have one), unless the client sends more limited requests than seven eighths
 * of the window for longer than the debt lasts.  Nothing can give room then: what arrives next is
 * limited again, and would either be held in the last free place or go without a limit.
 */
#ifndef QOS_FLOW_H
#define QOS_FLOW_H

#include "qos-bucket.h"

enum qos_kind { QOS_READ, QOS_WRITE, QOS_ALL };

struct qos_limits {
    /* Of reads, of writes (with trim and zero), of both; 0: none. */
    uint64_t iops[3], bandwidth[3];
    uint64_t burst_ns;
    uint64_t window; /* of whichever client; 0: what the item says */
};

#define QOS_SESSIONS 128
struct qos_session {
    uint64_t id; /* 0: free */
    unsigned held, borrowed;
};

/* One request, in its owner's memory. */
struct qos_item {
    struct qos_item *next, *previous;
    uint64_t serial;
    uint64_t bytes;
    uint64_t window; /* of its client; 0: unknown, none is kept free */
    enum qos_kind kind;
    bool is_queued;
    struct qos_session *session; /* NULL: not counted */
};

struct qos_queue {
    struct qos_item *first, *last;
};

struct qos_flow {
    struct qos_limits limits;
    struct qos_bucket iops[3], bandwidth[3];
    struct qos_queue queue[2];
    uint64_t serial;
    struct qos_session session[QOS_SESSIONS];
};

/* A zeroed flow has no limits. Changes what is owed and held by nothing. */
void qos_flow_set(struct qos_flow *flow, const struct qos_limits *limits, uint64_t now_ns);
/* Is there a limit on such requests at all? */
bool qos_limits_apply(const struct qos_limits *limits, enum qos_kind kind);

enum qos_arrival { QOS_GOES, QOS_BORROWS, QOS_WAITS };
/*
 * A request of `session` (0: none) arrives, with kind, bytes and window filled in.  GOES, BORROWS:
 * it has been charged.  WAITS: it is queued until qos_flow_next() hands it out or qos_flow_remove()
 * takes it out.
 */
enum qos_arrival qos_flow_arrive(struct qos_flow *flow, struct qos_item *item, uint64_t session,
                                 uint64_t now_ns);
/* The next one that may go, charged and no longer queued; NULL: none yet. */
struct qos_item *qos_flow_next(struct qos_flow *flow, uint64_t now_ns);
/* When the next one may go; UINT64_MAX: nobody waits. */
uint64_t qos_flow_wait_ns(const struct qos_flow *flow, uint64_t now_ns);
/* A queued one leaves; not charged. */
void qos_flow_remove(struct qos_flow *flow, struct qos_item *item);
/* One goes past the queue, at the cost of those that come later. */
void qos_flow_charge(struct qos_flow *flow, enum qos_kind kind, uint64_t bytes, uint64_t now_ns);
/* The oldest that waits; NULL: nobody. */
struct qos_item *qos_flow_oldest(const struct qos_flow *flow);
/* What such a request waits for: true: IOPS, false: bandwidth. */
bool qos_flow_lacks_iops(const struct qos_flow *flow, enum qos_kind kind, uint64_t now_ns);

#endif
