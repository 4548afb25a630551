/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * qos: limits the requests and the bytes a second of a disk, or of several together (`share:
 * NAME`), by holding requests and letting them go on a timer.  Flushes, extents and prefetches are
 * never limited.
 *
 * What decides is in qos-flow.c and qos-bucket.c, which are pure; here are locks, timers and
 * events. One mutex a flow guards it and what is held (the `struct held` in the requests' scratch).
 * Whoever takes a request out of its queue, under the mutex, resumes it, after the mutex: a cancel
 * that comes in between finds it gone from the queue and answers BUSY.
 */
#include "qos-flow.h"

#include <sluice-filter.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Zeroed by the host at first use; [F]: under its mutex. */
struct shared_flow {
    pthread_mutex_t mutex;
    unsigned users;           /* under the host's lock for shared state */
    struct qos_flow flow;     /* [F] */
    struct qos *alarm_of;     /* [F] whose timer is set; NULL: none is */
    uint64_t alarm_ns;        /* [F] when it fires */
    _Atomic unsigned applies; /* bit per kind: has a limit; a hint for those who need no lock */
};

struct qos {
    struct sluice_disk *disk;
    struct shared_flow *shared;
    char *share; /* its name; NULL: the flow is its own */
    struct sluice_timer timer;
    bool is_open; /* [F] quiesced: nothing is held */
};

/* In the request's scratch; [F] while it is queued. */
struct held {
    struct qos_item item; /* first */
    struct qos *owner;
    struct sluice_request *request;
    struct held *next; /* of those that go together */
    uint64_t since_ns;
};

/* --- tables -------------------------------------------------------------------------------------
 */

enum { PASSED, BYTES, HELD, WAITING, BORROWED, RELEASED, WAITED };
static const struct sluice_counter counters[] = {
    {"passed", SLUICE_COUNTER, "", "Limited requests that were let through."},
    {"passed_data", SLUICE_COUNTER, "bytes", "Their data."},
    {"held", SLUICE_COUNTER, "", "Requests that had to wait for their turn."},
    {"waiting", SLUICE_GAUGE, "", "Requests that wait now."},
    {"borrowed", SLUICE_COUNTER, "",
     "Let through on debt to keep places in a client's window free."},
    {"released", SLUICE_COUNTER, "", "Let through on debt because the disk was quiesced."},
    {"waited", SLUICE_HISTOGRAM_NS, "seconds", "How long requests waited."},
    SLUICE_COUNTERS_END,
};

#define LIVE SLUICE_OPTION_LIVE
#define IOPS_MAX 1000000000
#define RATE_MAX (INT64_C(1) << 44)
#define IOPS(name, of)                                            \
    {                                                             \
        name, SLUICE_TYPE_INTEGER, LIVE, 1, IOPS_MAX, NULL, NULL, \
            "At most so many " of " a second."                    \
    }
#define RATE(name, of)                                            \
    {                                                             \
        name, SLUICE_TYPE_RATE, LIVE, 4096, RATE_MAX, NULL, NULL, \
            "At most so many bytes " of " a second."              \
    }
enum {
    O_IOPS,
    O_READ_IOPS,
    O_WRITE_IOPS,
    O_RATE,
    O_READ_RATE,
    O_WRITE_RATE,
    O_BURST,
    O_WINDOW,
    O_SHARE,
    O_AT
};
static const struct sluice_option options[] = {
    IOPS("iops", "requests"),
    IOPS("read_iops", "reads"),
    IOPS("write_iops", "writes, trims and zeroings"),
    RATE("bandwidth", "read and written"),
    RATE("read_bandwidth", "read"),
    RATE("write_bandwidth", "written"),
    {"burst", SLUICE_TYPE_DURATION, LIVE, 0, INT64_C(60000000000), "50ms", NULL,
     "After a pause, what the limits allow in this time may come at once."},
    {"window", SLUICE_TYPE_INTEGER, LIVE, 1, 65536, NULL, NULL,
     "Requests a client has in flight at most, if not what its front end gives; one eighth of "
     "them is kept for what has no limit."},
    {"share", SLUICE_TYPE_STRING, 0, 0, 0, NULL, NULL,
     "Disks that name the same share have these limits together."},
    {"at", SLUICE_TYPE_ENUM, 0, 0, 0, "guest", "guest|backing",
     "Limit what guests send, or what reaches the backing (with destage and resync)."},
    SLUICE_OPTIONS_END,
};

static void limits_from(const struct sluice_value *v, struct qos_limits *out)
{
    static const int iops[] = {O_READ_IOPS, O_WRITE_IOPS, O_IOPS};
    static const int rate[] = {O_READ_RATE, O_WRITE_RATE, O_RATE};

    for (int kind = 0; kind < 3; kind++) {
        out->iops[kind] = v[iops[kind]].is_set ? (uint64_t)v[iops[kind]].integer : 0;
        out->bandwidth[kind] = v[rate[kind]].is_set ? (uint64_t)v[rate[kind]].integer : 0;
    }
    out->burst_ns = (uint64_t)v[O_BURST].integer;
    out->window = v[O_WINDOW].is_set ? (uint64_t)v[O_WINDOW].integer : 0;
}

static uint32_t qos_place(const struct sluice_value *values)
{
    return values[O_AT].integer ? SLUICE_CLASS_BACKING_CONTROL : SLUICE_CLASS_IO_CONTROL;
}

/* --- letting go ---------------------------------------------------------------------------------
 */

static struct held *held_of(struct qos_item *item)
{
    return (struct held *)item; /* its first member */
}

static void count_passed(struct qos *q, const struct qos_item *item)
{
    sluice_count(q->disk, PASSED, 1);
    sluice_count(q->disk, BYTES, (int64_t)item->bytes);
}

/* Without the mutex; what `first` leads to has been taken out of the queues. */
static void resume_all(struct held *first)
{
    while (first) {
        struct held *next = first->next;
        struct qos *q = first->owner;

        sluice_count(q->disk, WAITING, -1);
        sluice_observe(q->disk, WAITED, sluice_now_ns(q->disk) - first->since_ns);
        count_passed(q, &first->item);
        sluice_resume(q->disk, first->request, sluice_pass());
        first = next;
    }
}

/* [F] Those whose turn has come, oldest first. */
static struct held *take_ready(struct shared_flow *s, uint64_t now_ns)
{
    struct held *first = NULL, **last = &first;
    struct qos_item *item;

    while ((item = qos_flow_next(&s->flow, now_ns))) {
        *last = held_of(item);
        held_of(item)->next = NULL;
        last = &held_of(item)->next;
    }
    return first;
}

/* [F] Some timer fires when the next one may go. */
static void set_alarm(struct shared_flow *s, uint64_t now_ns)
{
    struct qos_item *oldest = qos_flow_oldest(&s->flow);
    uint64_t delay;

    if (!oldest)
        return;
    delay = qos_flow_wait_ns(&s->flow, now_ns);
    if (s->alarm_of && s->alarm_ns <= now_ns + delay)
        return;
    s->alarm_of = held_of(oldest)->owner;
    s->alarm_ns = now_ns + delay;
    sluice_timer_start(s->alarm_of->disk, &s->alarm_of->timer, delay);
}

static void on_alarm(struct sluice_timer *timer)
{
    struct qos *q = (struct qos *)(void *)((char *)timer - offsetof(struct qos, timer));
    struct shared_flow *s = q->shared;
    uint64_t now = sluice_now_ns(q->disk);
    struct held *ready;

    pthread_mutex_lock(&s->mutex);
    if (s->alarm_of == q)
        s->alarm_of = NULL;
    ready = take_ready(s, now);
    set_alarm(s, now);
    pthread_mutex_unlock(&s->mutex);
    resume_all(ready);
}

/* --- requests ------------------------------------------------------------------------------- */

static const char *reason(const struct shared_flow *s, enum qos_kind kind, uint64_t now_ns)
{
    return qos_flow_lacks_iops(&s->flow, kind, now_ns) ? "qos: IOPS limit" : "qos: bandwidth limit";
}

/* [F] True: it may go. */
static bool admit(struct qos *q, struct held *h, uint64_t now_ns)
{
    struct shared_flow *s = q->shared;

    if (q->is_open) {
        qos_flow_charge(&s->flow, h->item.kind, h->item.bytes, now_ns);
        sluice_count(q->disk, RELEASED, 1);
        return true;
    }
    switch (qos_flow_arrive(&s->flow, &h->item, h->request->client->session, now_ns)) {
    case QOS_BORROWS:
        sluice_count(q->disk, BORROWED, 1);
        return true;
    case QOS_GOES:
        return true;
    default:
        sluice_hold(q->disk, h->request, reason(s, h->item.kind, now_ns));
        return false;
    }
}

static struct sluice_verdict on_request(void *instance, struct sluice_request *request,
                                        void *scratch)
{
    struct qos *q = instance;
    struct shared_flow *s = q->shared;
    struct held *h = scratch, *ready = NULL;
    bool has_data = request->op == SLUICE_OP_READ || request->op == SLUICE_OP_WRITE, goes;
    uint64_t now;

    h->item.kind = request->op == SLUICE_OP_READ ? QOS_READ : QOS_WRITE;
    if (!(atomic_load_explicit(&s->applies, memory_order_relaxed) & (1u << h->item.kind)))
        return sluice_pass();
    h->item.bytes = has_data ? request->length : 0;
    h->item.window = request->client->window;
    h->owner = q;
    h->request = request;
    now = h->since_ns = sluice_now_ns(q->disk);
    pthread_mutex_lock(&s->mutex);
    goes = admit(q, h, now);
    if (!goes) {
        sluice_count(q->disk, HELD, 1);
        sluice_count(q->disk, WAITING, 1);
        ready = take_ready(s, now); /* the timer may be late; it may be this one's turn at once */
        set_alarm(s, now);
    }
    pthread_mutex_unlock(&s->mutex);
    resume_all(ready);
    if (!goes)
        return sluice_defer();
    count_passed(q, &h->item);
    return sluice_pass();
}

static enum sluice_cancel_answer on_cancel(void *instance, struct sluice_request *request,
                                           void *scratch)
{
    struct qos *q = instance;
    struct held *h = scratch;
    bool was_queued;

    (void)request;
    pthread_mutex_lock(&q->shared->mutex);
    was_queued = h->item.is_queued;
    if (was_queued)
        qos_flow_remove(&q->shared->flow, &h->item);
    pthread_mutex_unlock(&q->shared->mutex);
    if (!was_queued)
        return SLUICE_CANCEL_BUSY; /* being resumed at this moment */
    sluice_count(q->disk, WAITING, -1);
    return SLUICE_CANCEL_RELEASED;
}

/* --- events --------------------------------------------------------------------------------- */

/* [F] All of this disk's, at the cost of those that come later. */
static struct held *take_own(struct qos *q, uint64_t now_ns)
{
    struct qos_flow *flow = &q->shared->flow;
    struct held *first = NULL, **last = &first;

    for (int kind = QOS_READ; kind <= QOS_WRITE; kind++) {
        struct qos_item *next;

        for (struct qos_item *item = flow->queue[kind].first; item; item = next) {
            next = item->next;
            if (held_of(item)->owner != q)
                continue;
            qos_flow_remove(flow, item);
            qos_flow_charge(flow, item->kind, item->bytes, now_ns);
            sluice_count(q->disk, RELEASED, 1);
            *last = held_of(item);
            held_of(item)->next = NULL;
            last = &held_of(item)->next;
        }
    }
    return first;
}

static void open_or_close(struct qos *q, bool is_open)
{
    struct shared_flow *s = q->shared;
    struct held *own = NULL;

    pthread_mutex_lock(&s->mutex);
    q->is_open = is_open;
    if (is_open)
        own = take_own(q, sluice_now_ns(q->disk));
    pthread_mutex_unlock(&s->mutex);
    resume_all(own);
}

/* [F] */
static void set_limits(struct shared_flow *s, const struct qos_limits *limits, uint64_t now_ns)
{
    unsigned applies = 0;

    qos_flow_set(&s->flow, limits, now_ns);
    for (int kind = QOS_READ; kind <= QOS_WRITE; kind++)
        applies |= qos_limits_apply(limits, (enum qos_kind)kind) ? 1u << kind : 0;
    atomic_store_explicit(&s->applies, applies, memory_order_relaxed);
}

static void change_limits(struct qos *q, const struct sluice_value *values)
{
    struct shared_flow *s = q->shared;
    uint64_t now = sluice_now_ns(q->disk);
    struct qos_limits limits;
    struct held *ready;

    limits_from(values, &limits);
    pthread_mutex_lock(&s->mutex);
    set_limits(s, &limits, now);
    s->alarm_of = NULL; /* set it anew, it may have to be sooner */
    ready = take_ready(s, now);
    set_alarm(s, now);
    pthread_mutex_unlock(&s->mutex);
    resume_all(ready);
}

static int on_event(void *instance, const struct sluice_event *event, struct sluice_error *error)
{
    struct qos *q = instance;

    (void)error;
    if (event->kind == SLUICE_EVENT_QUIESCE)
        open_or_close(q, event->phase != SLUICE_PHASE_ABORT);
    else if (event->kind == SLUICE_EVENT_RESUME)
        open_or_close(q, false);
    else if (event->kind == SLUICE_EVENT_POLICY_CHANGE && event->phase == SLUICE_PHASE_COMMIT)
        change_limits(q, event->values);
    return 0;
}

/* --- the verb ------------------------------------------------------------------------------- */

static void show_bucket(struct qos *q, struct sluice_reply *reply, const char *name,
                        const struct qos_bucket *b, uint64_t now_ns)
{
    int64_t level = qos_bucket_level(b, now_ns);
    char key[40];

    if (b->rate == 0)
        return;
    sluice_reply_text(q->disk, reply, "%s: %llu a second, %lld %s", name,
                      (unsigned long long)b->rate, (long long)(level < 0 ? -level : level),
                      level < 0 ? "owed" : "left");
    sluice_reply_integer(q->disk, reply, name, (int64_t)b->rate);
    snprintf(key, sizeof key, "%s_left", name);
    sluice_reply_integer(q->disk, reply, key, level);
}

static int on_show(void *instance, int argc, const char *const *argv, struct sluice_reply *reply,
                   struct sluice_error *error)
{
    static const char *const names[2][3] = {{"read_iops", "write_iops", "iops"},
                                            {"read_bandwidth", "write_bandwidth", "bandwidth"}};
    struct qos *q = instance;
    uint64_t now = sluice_now_ns(q->disk);
    struct qos_flow *copy;

    (void)argv;
    if (argc > 0)
        return sluice_refuse(q->disk, error, EINVAL, "show takes no arguments");
    copy = malloc(sizeof *copy);
    if (!copy)
        return sluice_refuse(q->disk, error, ENOMEM, "out of memory");
    pthread_mutex_lock(&q->shared->mutex);
    *copy = q->shared->flow;
    pthread_mutex_unlock(&q->shared->mutex);
    for (int kind = 0; kind < 3; kind++) {
        show_bucket(q, reply, names[0][kind], &copy->iops[kind], now);
        show_bucket(q, reply, names[1][kind], &copy->bandwidth[kind], now);
    }
    free(copy);
    return 0;
}

static const struct sluice_verb verbs[] = {
    {"show", "", "Shows the limits, and what is left of them or owed.", on_show},
    SLUICE_VERBS_END,
};

/* --- opening and closing -------------------------------------------------------------------- */

static void begin_flow(struct shared_flow *s, const struct qos_limits *limits, uint64_t now_ns)
{
    pthread_mutex_init(&s->mutex, NULL);
    set_limits(s, limits, now_ns);
}

/* Under the host's lock for shared state. */
static int join(struct qos *q, const struct qos_limits *limits, struct sluice_error *error)
{
    struct shared_flow *s = sluice_shared_get(q->disk, q->share, sizeof *s);

    if (!s)
        return sluice_refuse(q->disk, error, ENOMEM, "out of memory");
    if (s->users > 0 && memcmp(&s->flow.limits, limits, sizeof *limits) != 0) {
        sluice_shared_put(q->disk, q->share);
        return sluice_refuse(q->disk, error, EINVAL,
                             "share %s has other limits on another disk; they have to be equal",
                             q->share);
    }
    if (s->users++ == 0)
        begin_flow(s, limits, sluice_now_ns(q->disk));
    q->shared = s;
    return 0;
}

static int get_flow(struct qos *q, const struct qos_limits *limits, struct sluice_error *error)
{
    int r;

    if (q->share) {
        sluice_shared_lock(q->disk);
        r = join(q, limits, error);
        sluice_shared_unlock(q->disk);
        return r;
    }
    q->shared = calloc(1, sizeof *q->shared);
    if (!q->shared)
        return sluice_refuse(q->disk, error, ENOMEM, "out of memory");
    begin_flow(q->shared, limits, sluice_now_ns(q->disk));
    return 0;
}

static void put_flow(struct qos *q)
{
    if (!q->share) {
        pthread_mutex_destroy(&q->shared->mutex);
        free(q->shared);
        return;
    }
    sluice_shared_lock(q->disk);
    if (--q->shared->users == 0)
        pthread_mutex_destroy(&q->shared->mutex);
    sluice_shared_put(q->disk, q->share);
    sluice_shared_unlock(q->disk);
}

static int qos_open(struct sluice_disk *disk, const struct sluice_value *values, void **instance,
                    struct sluice_error *error)
{
    bool is_shared = values[O_SHARE].is_set;
    struct qos *q = calloc(1, sizeof *q);
    struct qos_limits limits;
    int r;

    if (q && is_shared)
        q->share = strdup(values[O_SHARE].string);
    if (!q || (is_shared && !q->share)) {
        free(q);
        return sluice_refuse(disk, error, ENOMEM, "out of memory");
    }
    q->disk = disk;
    q->timer.fire = on_alarm;
    limits_from(values, &limits);
    r = get_flow(q, &limits, error);
    if (r < 0) {
        free(q->share);
        free(q);
        return r;
    }
    *instance = q;
    return 0;
}

static void qos_close(void *instance)
{
    struct qos *q = instance;
    struct shared_flow *s = q->shared;

    pthread_mutex_lock(&s->mutex);
    if (s->alarm_of == q)
        s->alarm_of = NULL;
    set_alarm(s, sluice_now_ns(q->disk)); /* another's timer: none of ours waits any more */
    pthread_mutex_unlock(&s->mutex);
    sluice_timer_stop(q->disk, &q->timer);
    put_flow(q);
    free(q->share);
    free(q);
}

#define LIMITED SLUICE_HANDLE(on_request, NULL)
static const struct sluice_filter filter = {
    .struct_size = sizeof filter,
    .api_version = SLUICE_FILTER_API_VERSION,
    .name = "qos",
    .version = "1.0",
    .vendor = "Sluice",
    .summary = "Limits requests and bytes a second, of one disk or of several together.",
    .filter_class = SLUICE_CLASS_IO_CONTROL,
    .traits = SLUICE_TRAIT_BYPASSABLE,
    .scratch_bytes = sizeof(struct held),
    .options = options,
    .counters = counters,
    .verbs = verbs,
    .open = qos_open,
    .close = qos_close,
    .read = LIMITED,
    .write = LIMITED,
    .trim = LIMITED,
    .zero = LIMITED,
    .flush = SLUICE_PASS_UNSEEN,
    .extents = SLUICE_PASS_UNSEEN,
    .prefetch = SLUICE_PASS_UNSEEN,
    .cancel = on_cancel,
    .event = on_event,
    .place = qos_place,
};
SLUICE_FILTER(filter)
