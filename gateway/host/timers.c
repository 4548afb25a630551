/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * timers.c: the filters' timers, set and stopped from any thread, fired on a service loop.
 *
 * Each loop has one heap of them under one mutex, and one timer of its own for the earliest. fire()
 * runs without the mutex and may free its timer, so which one is firing is kept here, not in it.
 * Stopping a timer from another thread waits until it is not the firing one.
 */
#include "internal.h"

#include <errno.h>

#define FIRES_PER_TURN 64u

struct host_timer {
    struct timer heap;
    struct seat *seat;
    struct list link; /* [T] seat.timers, while set */
} EMBEDDED;
EMBEDDED_FITS(struct host_timer, sluice_timer);

struct timer_service {
    struct loop *loop;
    pthread_mutex_t mutex;
    pthread_cond_t fired;
    struct timer *heap;        /* [T] */
    struct host_timer *firing; /* [T] */
    bool is_rearm_posted;      /* [T] */
    struct task rearm;
    struct timer next; /* the loop's, for the earliest of the heap */
};

static struct host_timer *timer_of(struct sluice_timer *timer)
{
    return (struct host_timer *)(void *)timer->host_private;
}

static struct sluice_timer *public_of(struct host_timer *timer)
{
    return CONTAINER_OF(timer, struct sluice_timer, host_private);
}

static bool is_loop_thread(const struct timer_service *t)
{
    return home_current_or_null() == loop_home(t->loop);
}

/* --- in the loop ---------------------------------------------------------------------------- */

static void rearm(struct timer_service *t)
{
    uint64_t due;

    pthread_mutex_lock(&t->mutex);
    due = t->heap ? t->heap->due_ns : 0;
    pthread_mutex_unlock(&t->mutex);
    if (due)
        loop_timer_set(t->loop, &t->next, due);
    else
        loop_timer_cancel(t->loop, &t->next);
}

static void on_rearm(struct task *task)
{
    struct timer_service *t = CONTAINER_OF(task, struct timer_service, rearm);

    pthread_mutex_lock(&t->mutex);
    t->is_rearm_posted = false; /* here and nowhere else: until then the task is in the inbox */
    pthread_mutex_unlock(&t->mutex);
    rearm(t);
}

static void take_out(struct timer_service *t, struct host_timer *timer)
{
    timer_heap_remove(&t->heap, &timer->heap);
    timer->heap.due_ns = 0;
    list_remove(&timer->link);
}

/* The next one that is due, marked as firing; NULL: none.  Whoever sets it anew meanwhile writes
 * its seat, so that is read here. */
static struct host_timer *begin_fire(struct timer_service *t, uint64_t now_ns, struct seat **seat)
{
    struct host_timer *timer;
    SCOPED_LOCK(&t->mutex);

    if (!t->heap || t->heap->due_ns > now_ns)
        return NULL;
    timer = CONTAINER_OF(t->heap, struct host_timer, heap);
    take_out(t, timer);
    t->firing = timer;
    *seat = timer->seat;
    atomic_fetch_add(&timer->seat->users, 1);
    return timer;
}

static void end_fire(struct timer_service *t)
{
    SCOPED_LOCK(&t->mutex);

    t->firing = NULL;
    pthread_cond_broadcast(&t->fired);
}

static void on_due(struct timer *next)
{
    struct timer_service *t = CONTAINER_OF(next, struct timer_service, next);
    uint64_t now = clock_now_ns();
    struct host_timer *timer;
    struct seat *seat;

    for (unsigned i = 0; i < FIRES_PER_TURN && (timer = begin_fire(t, now, &seat)); i++) {
        struct sluice_timer *pub = public_of(timer);

        pub->fire(pub); /* may free it */
        end_fire(t);
        seat_leave(seat);
    }
    rearm(t);
}

struct timer_service *timer_service_create(struct loop *loop)
{
    struct timer_service *t = calloc(1, sizeof *t);

    if (!t)
        return NULL;
    t->loop = loop;
    pthread_mutex_init(&t->mutex, NULL);
    pthread_cond_init(&t->fired, NULL);
    t->rearm.run = on_rearm;
    t->next.fire = on_due;
    return t;
}

/* --- from any thread ----------------------------------------------------------------------------
 */

/* What is to be done, after the mutex, so that the loop fires in time. */
enum call { CALL_NONE, CALL_REARM, CALL_POST };

/* Under the mutex. */
static enum call insert(struct timer_service *t, struct host_timer *timer, uint64_t due_ns)
{
    timer->heap.due_ns = MAX(due_ns, 1);
    timer_heap_insert(&t->heap, &timer->heap);
    list_append(&timer->seat->timers, &timer->link);
    if (t->heap != &timer->heap)
        return CALL_NONE;
    if (is_loop_thread(t))
        return CALL_REARM;
    if (t->is_rearm_posted)
        return CALL_NONE;
    t->is_rearm_posted = true;
    return CALL_POST;
}

int seat_timer_start(struct seat *seat, struct sluice_timer *timer, uint64_t delay_ns)
{
    struct timer_service *t = service_timers(seat->service);
    struct host_timer *ours = timer_of(timer);
    enum call call = CALL_NONE;
    bool is_closing;

    pthread_mutex_lock(&t->mutex);
    is_closing = atomic_load(&seat->is_closing);
    if (ours->heap.due_ns)
        take_out(t, ours);
    ours->seat = seat;
    if (!is_closing)
        call = insert(t, ours, clock_now_ns() + delay_ns);
    pthread_mutex_unlock(&t->mutex);
    if (call == CALL_POST)
        home_post(loop_home(t->loop), &t->rearm);
    else if (call == CALL_REARM)
        rearm(t);
    return is_closing ? -ESHUTDOWN : 0;
}

bool seat_timer_stop(struct seat *seat, struct sluice_timer *timer)
{
    struct timer_service *t = service_timers(seat->service);
    struct host_timer *ours = timer_of(timer);
    bool was_set = false;
    SCOPED_LOCK(&t->mutex);

    for (;;) {
        if (ours->heap.due_ns) {
            take_out(t, ours);
            was_set = true;
        }
        if (t->firing != ours || is_loop_thread(t))
            return was_set;
        pthread_cond_wait(&t->fired, &t->mutex); /* fire() may have set it anew: look again */
    }
}

/* The seat is closing: none is set any more, none will be. One may be firing; it holds the seat. */
void seat_stop_timers(struct seat *seat)
{
    struct timer_service *t = service_timers(seat->service);
    SCOPED_LOCK(&t->mutex);

    while (!list_is_empty(&seat->timers))
        take_out(t, LIST_ENTRY(seat->timers.next, struct host_timer, link));
}
