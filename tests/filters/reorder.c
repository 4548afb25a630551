/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * reorder: gathers requests and lets them go in reverse or random order, when there are `depth` of
 * them or after 0.2 ms.  Flushes wait like the rest: order between requests in flight is nobody's
 * promise, and this filter takes everybody at their word.
 */
#include "test-filter.h"

#define DEPTH_MAX 64
#define PATIENCE_NS 200000u

struct reorder {
    struct sluice_disk *disk;
    struct sluice_timer timer;
    unsigned depth;
    bool is_random;
    pthread_mutex_t mutex; /* the rest */
    bool is_quiesced;
    struct sluice_request *held[DEPTH_MAX];
    unsigned count;
    uint64_t seed;
};

enum { O_DEPTH, O_ORDER, O_SEED };
static const struct sluice_option options[] = {
    {"depth", SLUICE_TYPE_INTEGER, 0, 2, DEPTH_MAX, "4", NULL, "How many it gathers."},
    {"order", SLUICE_TYPE_ENUM, 0, 0, 0, "reverse", "reverse|random", "How it lets them go."},
    {"seed", SLUICE_TYPE_INTEGER, 0, 1, 0, "1", NULL, "For the random order."},
    SLUICE_OPTIONS_END,
};

/* Takes all out; returns how many. Under the mutex. */
static unsigned take_all(struct reorder *o, struct sluice_request **out)
{
    unsigned count = o->count;

    for (unsigned i = 0; i < count; i++)
        out[i] = o->held[count - 1 - i];
    for (unsigned i = count; o->is_random && i > 1; i--) {
        struct sluice_request *last = out[i - 1];
        unsigned j;

        o->seed = o->seed * 6364136223846793005u + 1442695040888963407u;
        j = (unsigned)((o->seed >> 33) % i);
        out[i - 1] = out[j];
        out[j] = last;
    }
    o->count = 0;
    return count;
}

static void let_go(struct reorder *o, struct sluice_request *const *requests, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        sluice_resume(o->disk, requests[i], sluice_pass());
}

static void let_all_go(struct reorder *o)
{
    struct sluice_request *all[DEPTH_MAX];
    unsigned count;

    pthread_mutex_lock(&o->mutex);
    count = take_all(o, all);
    pthread_mutex_unlock(&o->mutex);
    let_go(o, all, count);
}

static void on_time(struct sluice_timer *timer)
{
    let_all_go((struct reorder *)(void *)((char *)timer - offsetof(struct reorder, timer)));
}

static struct sluice_verdict start(void *instance, struct sluice_request *r, void *scratch)
{
    struct reorder *o = instance;
    struct sluice_request *all[DEPTH_MAX];
    unsigned count = 0;
    bool is_first, passes;

    (void)scratch;
    pthread_mutex_lock(&o->mutex);
    passes = o->is_quiesced;
    is_first = !passes && o->count == 0;
    if (!passes)
        o->held[o->count++] = r;
    if (o->count == o->depth)
        count = take_all(o, all);
    pthread_mutex_unlock(&o->mutex);
    if (is_first)
        sluice_timer_start(o->disk, &o->timer, PATIENCE_NS);
    let_go(o, all, count); /* perhaps r itself, before we have said that we defer it */
    return passes ? sluice_pass() : sluice_defer();
}

static enum sluice_cancel_answer cancel(void *instance, struct sluice_request *r, void *scratch)
{
    struct reorder *o = instance;
    enum sluice_cancel_answer answer = SLUICE_CANCEL_BUSY;

    (void)scratch;
    pthread_mutex_lock(&o->mutex);
    for (unsigned i = 0; i < o->count; i++)
        if (o->held[i] == r) {
            o->held[i] = o->held[--o->count];
            answer = SLUICE_CANCEL_RELEASED;
        }
    pthread_mutex_unlock(&o->mutex);
    return answer;
}

static int on_event(void *instance, const struct sluice_event *event, struct sluice_error *error)
{
    struct reorder *o = instance;

    (void)error;
    if (event->kind != SLUICE_EVENT_QUIESCE && event->kind != SLUICE_EVENT_RESUME)
        return 0;
    pthread_mutex_lock(&o->mutex);
    o->is_quiesced = event->kind == SLUICE_EVENT_QUIESCE && event->phase != SLUICE_PHASE_ABORT;
    pthread_mutex_unlock(&o->mutex);
    let_all_go(o);
    return 0;
}

static int reorder_open(struct sluice_disk *disk, const struct sluice_value *v, void **instance,
                        struct sluice_error *error)
{
    struct reorder *o = calloc(1, sizeof *o);

    if (!o)
        return sluice_refuse(disk, error, ENOMEM, "out of memory");
    o->disk = disk;
    o->timer.fire = on_time;
    o->depth = (unsigned)v[O_DEPTH].integer;
    o->is_random = v[O_ORDER].integer == 1;
    o->seed = (uint64_t)v[O_SEED].integer;
    pthread_mutex_init(&o->mutex, NULL);
    *instance = o;
    return 0;
}

static void reorder_close(void *instance)
{
    struct reorder *o = instance;

    sluice_timer_stop(o->disk, &o->timer);
    pthread_mutex_destroy(&o->mutex);
    free(o);
}

#define DOWN SLUICE_HANDLE(start, NULL)
static const struct sluice_filter filter = {
    TEST_FILTER_HEAD("reorder", "Lets requests go in another order."),
    .options = options,
    .open = reorder_open,
    .close = reorder_close,
    .cancel = cancel,
    .event = on_event,
    EVERY_OPERATION(DOWN)};
SLUICE_FILTER(filter)
