/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * qos-flow: see the header.
 */
#include "qos-flow.h"

#include <stddef.h>

/* --- limits -------------------------------------------------------------------------------------
 */

void qos_flow_set(struct qos_flow *flow, const struct qos_limits *limits, uint64_t now_ns)
{
    flow->limits = *limits;
    for (int kind = 0; kind < 3; kind++) {
        qos_bucket_set(&flow->iops[kind], limits->iops[kind], limits->burst_ns, now_ns);
        qos_bucket_set(&flow->bandwidth[kind], limits->bandwidth[kind], limits->burst_ns, now_ns);
    }
}

bool qos_limits_apply(const struct qos_limits *limits, enum qos_kind kind)
{
    return limits->iops[kind] || limits->bandwidth[kind] || limits->iops[QOS_ALL] ||
           limits->bandwidth[QOS_ALL];
}

static bool has_tokens(const struct qos_flow *flow, enum qos_kind kind, uint64_t now_ns)
{
    return qos_bucket_has_token(&flow->iops[kind], now_ns) &&
           qos_bucket_has_token(&flow->bandwidth[kind], now_ns);
}

static uint64_t wait_ns(const struct qos_flow *flow, enum qos_kind kind, uint64_t now_ns)
{
    uint64_t iops = qos_bucket_wait_ns(&flow->iops[kind], now_ns);
    uint64_t bandwidth = qos_bucket_wait_ns(&flow->bandwidth[kind], now_ns);

    return iops > bandwidth ? iops : bandwidth;
}

void qos_flow_charge(struct qos_flow *flow, enum qos_kind kind, uint64_t bytes, uint64_t now_ns)
{
    qos_bucket_take(&flow->iops[kind], 1, now_ns);
    qos_bucket_take(&flow->iops[QOS_ALL], 1, now_ns);
    qos_bucket_take(&flow->bandwidth[kind], bytes, now_ns);
    qos_bucket_take(&flow->bandwidth[QOS_ALL], bytes, now_ns);
}

bool qos_flow_lacks_iops(const struct qos_flow *flow, enum qos_kind kind, uint64_t now_ns)
{
    return !qos_bucket_has_token(&flow->iops[kind], now_ns) ||
           !qos_bucket_has_token(&flow->iops[QOS_ALL], now_ns);
}

/* --- queues --------------------------------------------------------------------------------- */

static void append(struct qos_flow *flow, struct qos_item *item)
{
    struct qos_queue *q = &flow->queue[item->kind];

    item->serial = ++flow->serial;
    item->is_queued = true;
    item->next = NULL;
    item->previous = q->last;
    if (q->last)
        q->last->next = item;
    else
        q->first = item;
    q->last = item;
}

static void unlink_item(struct qos_flow *flow, struct qos_item *item)
{
    struct qos_queue *q = &flow->queue[item->kind];

    if (item->previous)
        item->previous->next = item->next;
    else
        q->first = item->next;
    if (item->next)
        item->next->previous = item->previous;
    else
        q->last = item->previous;
    item->is_queued = false;
}

/* The older of two heads, of which either may be missing. */
static struct qos_item *older(struct qos_item *a, struct qos_item *b)
{
    if (!a || !b)
        return a ? a : b;
    return a->serial < b->serial ? a : b;
}

struct qos_item *qos_flow_oldest(const struct qos_flow *flow)
{
    return older(flow->queue[QOS_READ].first, flow->queue[QOS_WRITE].first);
}

/* The head of a queue, if nothing keeps it but limits on reads and writes together. */
static struct qos_item *ready_head(const struct qos_flow *flow, enum qos_kind kind, uint64_t now_ns)
{
    return has_tokens(flow, kind, now_ns) ? flow->queue[kind].first : NULL;
}

/* --- sessions and their windows ------------------------------------------------------------- */

static struct qos_session *find_session(struct qos_flow *flow, uint64_t id)
{
    struct qos_session *unused = NULL;

    for (unsigned i = 0; id && i < QOS_SESSIONS; i++) {
        if (flow->session[i].id == id)
            return &flow->session[i];
        if (!unused && flow->session[i].id == 0)
            unused = &flow->session[i];
    }
    return unused; /* NULL: too many of them; then they are not counted */
}

/* One place in eight, of a small window one; of a single place none can be spared. */
static uint64_t spare_places(uint64_t window)
{
    return window < 2 ? 0 : window < 8 ? 1 : window / 8;
}

static bool may_borrow(const struct qos_flow *flow, const struct qos_session *s,
                       const struct qos_item *item)
{
    uint64_t window = flow->limits.window ? flow->limits.window : item->window;
    uint64_t spare = spare_places(window);

    return spare && s && s->id && s->held >= window - spare && s->borrowed < spare;
}

static void count_held(struct qos_item *item, struct qos_session *s, uint64_t id)
{
    item->session = s;
    if (!s)
        return;
    s->id = id;
    s->held++;
}

/* is_in_turn: it leaves because its turn has come, and so pays for one that borrowed. */
static void leave(struct qos_flow *flow, struct qos_item *item, bool is_in_turn)
{
    struct qos_session *s = item->session;

    unlink_item(flow, item);
    item->session = NULL;
    if (!s)
        return;
    if (is_in_turn && s->borrowed)
        s->borrowed--;
    if (--s->held == 0)
        *s = (struct qos_session){.id = 0};
}

/* --- arrivals and departures ---------------------------------------------------------------- */

/* Nobody of its kind is before it, nobody of the other kind is older and only waits for the same.
 */
static bool may_go_at_once(const struct qos_flow *flow, enum qos_kind kind, uint64_t now_ns)
{
    enum qos_kind other = kind == QOS_READ ? QOS_WRITE : QOS_READ;

    return !flow->queue[kind].first && !ready_head(flow, other, now_ns) &&
           has_tokens(flow, kind, now_ns) && has_tokens(flow, QOS_ALL, now_ns);
}

enum qos_arrival qos_flow_arrive(struct qos_flow *flow, struct qos_item *item, uint64_t session,
                                 uint64_t now_ns)
{
    bool goes = may_go_at_once(flow, item->kind, now_ns);
    struct qos_session *s = goes ? NULL : find_session(flow, session);
    bool borrows = may_borrow(flow, s, item);

    item->is_queued = false;
    if (!goes && !borrows) {
        append(flow, item);
        count_held(item, s, session);
        return QOS_WAITS;
    }
    if (borrows)
        s->borrowed++;
    qos_flow_charge(flow, item->kind, item->bytes, now_ns);
    return borrows ? QOS_BORROWS : QOS_GOES;
}

struct qos_item *qos_flow_next(struct qos_flow *flow, uint64_t now_ns)
{
    struct qos_item *item;

    if (!has_tokens(flow, QOS_ALL, now_ns))
        return NULL;
    item = older(ready_head(flow, QOS_READ, now_ns), ready_head(flow, QOS_WRITE, now_ns));
    if (!item)
        return NULL;
    leave(flow, item, true);
    qos_flow_charge(flow, item->kind, item->bytes, now_ns);
    return item;
}

void qos_flow_remove(struct qos_flow *flow, struct qos_item *item)
{
    leave(flow, item, false);
}

static uint64_t head_wait_ns(const struct qos_flow *flow, enum qos_kind kind, uint64_t now_ns)
{
    return flow->queue[kind].first ? wait_ns(flow, kind, now_ns) : UINT64_MAX;
}

uint64_t qos_flow_wait_ns(const struct qos_flow *flow, uint64_t now_ns)
{
    uint64_t reads = head_wait_ns(flow, QOS_READ, now_ns);
    uint64_t writes = head_wait_ns(flow, QOS_WRITE, now_ns);
    uint64_t sooner = reads < writes ? reads : writes;
    uint64_t both = wait_ns(flow, QOS_ALL, now_ns);

    return sooner > both ? sooner : both;
}
