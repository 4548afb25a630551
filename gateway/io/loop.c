/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * loop: a thread around epoll, timers and a home.
 *
 * One turn: run tasks (at most TASKS_PER_TURN, so that descriptors and timers get their share),
 * push prepared ring entries to the kernel, sleep if there is nothing to do, then completions,
 * descriptors, timers.  Everything here belongs to the loop's own thread, except `must_stop`, which
 * any thread sets before it wakes the loop through its inbox.
 *
 * A watch may be removed while its event waits in the batch that epoll_wait() returned: unwatch
 * clears it from the batch, so a watch is never called after it was removed.
 */
#include "io/internal.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>

#define TASKS_PER_TURN 256u
#define TIMERS_PER_TURN 256u
#define EVENTS_PER_TURN 64
#define NS_PER_S 1000000000ull
#define NS_PER_MS 1000000ull
#define FOREVER UINT64_MAX

struct loop {
    struct home *home;
    int epoll_fd;
    pthread_t thread;
    struct task stop_task;
    bool must_stop; /* only by stop_task, so in the loop */
    bool has_pwait2;
    struct looking looking;
    struct timer *timers;
    struct ring *ring;
    struct epoll_event batch[EVENTS_PER_TURN];
    int batch_next, batch_count;
    char name[16];
};

/* --- watches ------------------------------------------------------------------------------ */

int loop_watch(struct loop *loop, struct watch *watch)
{
    struct epoll_event event = {.events = watch->events, .data.ptr = watch};

    return epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, watch->fd, &event) < 0 ? -errno : 0;
}

int loop_rewatch(struct loop *loop, struct watch *watch, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = watch};

    if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_MOD, watch->fd, &event) < 0)
        return -errno;
    watch->events = events;
    return 0;
}

void loop_unwatch(struct loop *loop, struct watch *watch)
{
    epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
    for (int i = loop->batch_next; i < loop->batch_count; i++)
        if (loop->batch[i].data.ptr == watch)
            loop->batch[i].data.ptr = NULL;
}

/* The home's eventfd is edge-triggered and has no watch: it only has to end the sleep. */
static int watch_wake_fd(struct loop *loop)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};

    return epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, loop->home->wake_fd, &event) < 0 ? -errno : 0;
}

static void call_watches(struct loop *loop)
{
    while (loop->batch_next < loop->batch_count) {
        struct epoll_event *event = &loop->batch[loop->batch_next++];
        struct watch *watch = event->data.ptr;

        if (watch)
            watch->ready(watch, event->events);
    }
}

/* --- timers ------------------------------------------------------------------------------- */

void loop_timer_cancel(struct loop *loop, struct timer *timer)
{
    if (timer->due_ns)
        timer_heap_remove(&loop->timers, timer);
    timer->due_ns = 0;
}

void loop_timer_set(struct loop *loop, struct timer *timer, uint64_t due_ns)
{
    loop_timer_cancel(loop, timer);
    timer->due_ns = MAX(due_ns, 1);
    timer_heap_insert(&loop->timers, timer);
}

static void fire_timers(struct loop *loop)
{
    uint64_t now = loop->timers ? clock_now_ns() : 0;

    for (unsigned i = 0; i < TIMERS_PER_TURN && loop->timers && loop->timers->due_ns <= now; i++) {
        struct timer *timer = loop->timers;

        loop_timer_cancel(loop, timer);
        timer->fire(timer);
    }
}

static uint64_t ns_to_next_timer(const struct loop *loop)
{
    uint64_t now;

    if (!loop->timers)
        return FOREVER;
    now = clock_now_ns();
    return loop->timers->due_ns > now ? loop->timers->due_ns - now : 0;
}

/* --- patience ----------------------------------------------------------------------------- */

/* Until a timer is due in `ns`.  True: there is something to do; *count events are in the batch. */
static bool look(struct loop *loop, uint64_t ns, int *count)
{
    uint64_t began = clock_now_ns(), took = 0;
    bool has_come = false;

    while (!has_come && took < loop->looking.patience_ns) {
        *count = epoll_wait(loop->epoll_fd, loop->batch, EVENTS_PER_TURN, 0);
        took = clock_now_ns() - began;
        has_come = *count > 0 || took >= ns ||
                   atomic_load_explicit(&loop->home->inbox, memory_order_relaxed);
    }
    looking_has_looked(&loop->looking, took, has_come);
    return has_come;
}

void loop_set_patience(struct loop *loop, uint64_t ns)
{
    looking_init(&loop->looking, ns);
}

/* --- turns -------------------------------------------------------------------------------- */

static int wait_in_ms(struct loop *loop, uint64_t ns)
{
    uint64_t ms = ns / NS_PER_MS + (ns % NS_PER_MS != 0);

    return epoll_wait(loop->epoll_fd, loop->batch, EVENTS_PER_TURN,
                      ns == FOREVER ? -1 : (int)MIN(ms, 1000u));
}

/* epoll_pwait2(2) came with Linux 5.11; without it, or where it is forbidden, milliseconds do. */
static int wait_in_ns(struct loop *loop, uint64_t ns)
{
    struct timespec timeout = {.tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S)};
    long count = syscall(SYS_epoll_pwait2, loop->epoll_fd, loop->batch, EVENTS_PER_TURN,
                         ns == FOREVER ? NULL : &timeout, NULL, (size_t)0);

    if (LIKELY(count >= 0) || errno == EINTR)
        return (int)count;
    loop->has_pwait2 = false;
    return wait_in_ms(loop, ns);
}

static int sleep_for_events(struct loop *loop, uint64_t ns)
{
    bool may_look = loop->looking.patience_ns > 0; /* another time */
    uint64_t began = may_look ? clock_now_ns() : 0;
    int count;

    if (!home_may_sleep(loop->home))
        ns = 0;
    count = loop->has_pwait2 && ns ? wait_in_ns(loop, ns) : wait_in_ms(loop, ns);
    home_awake(loop->home);
    if (may_look)
        looking_has_slept(&loop->looking, clock_now_ns() - began);
    return count;
}

static void wait_for_events(struct loop *loop, bool has_work)
{
    uint64_t ns = has_work ? 0 : ns_to_next_timer(loop);
    bool may_look = ns > 0 && looking_may(&loop->looking);
    int count = 0;

    if (ns == 0)
        count = wait_in_ms(loop, 0);
    else if (!may_look || !look(loop, ns, &count))
        count = sleep_for_events(loop, ns);
    loop->batch_next = 0;
    loop->batch_count = MAX(count, 0); /* EINTR: another turn */
}

static void turn(struct loop *loop)
{
    bool has_work = home_drain_some(loop->home, TASKS_PER_TURN) || loop->must_stop;

    if (loop->ring)
        has_work |= ring_submit(loop->ring);
    wait_for_events(loop, has_work);
    if (loop->ring)
        ring_reap(loop->ring);
    call_watches(loop);
    fire_timers(loop);
}

static void *run(void *arg)
{
    struct loop *loop = arg;

    pthread_setname_np(pthread_self(), loop->name);
    home_enter(loop->home);
    while (!loop->must_stop)
        turn(loop);
    if (loop->ring)
        ring_free(loop->ring);
    home_leave(loop->home);
    return NULL;
}

/* --- making and ending -------------------------------------------------------------------- */

static void stop(struct task *task)
{
    CONTAINER_OF(task, struct loop, stop_task)->must_stop = true;
}

static int start(struct loop *loop)
{
    int r;

    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (loop->epoll_fd < 0)
        return -errno;
    r = watch_wake_fd(loop);
    return r < 0 ? r : thread_start(&loop->thread, run, loop);
}

static void give_back(struct loop *loop)
{
    if (loop->home)
        home_unmake(loop->home);
    cleanup_close(&loop->epoll_fd);
    free(loop);
}

struct loop *loop_create(const char *name, struct err *e)
{
    struct loop *loop = calloc(1, sizeof *loop);
    int r;

    if (!loop) {
        err_set(e, ENOMEM, "cannot make event loop %s: out of memory", name);
        return NULL;
    }
    strncpy(loop->name, name, sizeof loop->name - 1);
    loop->stop_task.run = stop;
    loop->has_pwait2 = true;
    loop->epoll_fd = -1;
    loop->home = home_make(HOME_LOOP, loop);
    r = loop->home ? start(loop) : -ENOMEM;
    if (r < 0) {
        give_back(loop);
        err_set(e, -r, "cannot start event loop %s: %s", name, strerror(-r));
        return NULL;
    }
    return loop;
}

void loop_destroy(struct loop *loop)
{
    assert(home_current_or_null() != loop->home);
    home_post(loop->home, &loop->stop_task);
    pthread_join(loop->thread, NULL);
    close(loop->epoll_fd);
    free(loop);
}

struct home *loop_home(struct loop *loop)
{
    return loop->home;
}

struct ring **loop_ring(struct loop *loop)
{
    return &loop->ring;
}
