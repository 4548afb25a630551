/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test-loop: posts, timers and descriptors reach a loop, in order, never early, never after their
 * removal; the pool runs what it is given; extents keep their invariants.
 */
#include "io/io.h"
#include "unit.h"

#include <errno.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

/* --- calling into a loop and waiting for it ------------------------------------------------ */

struct call {
    struct task there, back;
    void (*fn)(struct loop *loop);
    struct loop *loop;
    struct home *from;
    bool done;
};

static void call_back(struct task *task)
{
    CONTAINER_OF(task, struct call, back)->done = true;
}

static void call_there(struct task *task)
{
    struct call *call = CONTAINER_OF(task, struct call, there);

    CHECK(home_current() == loop_home(call->loop));
    call->fn(call->loop);
    home_post(call->from, &call->back);
}

static void in_loop(struct loop *loop, void (*fn)(struct loop *loop))
{
    struct call call = {{NULL, call_there}, {NULL, call_back}, fn, loop, home_current(), false};

    home_post(loop_home(loop), &call.there);
    home_wait(call.from, &call.done);
}

static struct loop *new_loop(void)
{
    struct err e;
    struct loop *loop = loop_create("test", &e);

    CHECK(loop != NULL);
    if (!loop)
        abort();
    return loop;
}

/* Tells the main thread that something has happened in a loop. */
static struct home *main_home;
static struct task happened_task;
static bool has_happened;

static void note_happened(struct task *task)
{
    (void)task;
    has_happened = true;
}

static void happened(void)
{
    home_post(main_home, &happened_task);
}

static void wait_until_happened(void)
{
    home_wait(main_home, &has_happened);
    has_happened = false;
}

/* --- posts --------------------------------------------------------------------------------- */

static unsigned calls_made;

static void count_call(struct loop *loop)
{
    (void)loop;
    calls_made++;
}

static void test_posts_wake_a_sleeping_loop(void)
{
    struct loop *loop = new_loop();

    for (int i = 0; i < 5000; i++)
        in_loop(loop, count_call);
    loop_destroy(loop);
    CHECK_EQ(calls_made, 5000);
}

static struct task endless;
static bool must_end, watch_was_called;

static void run_endless(struct task *task)
{
    if (!must_end)
        home_run_later(home_current(), task);
}

static void end_endless(struct watch *watch, uint32_t events)
{
    char byte;

    CHECK(events & EPOLLIN);
    CHECK_EQ(read(watch->fd, &byte, 1), 1);
    watch_was_called = must_end = true;
    happened();
}

static int pipe_ends[2];
static struct watch pipe_watch;

static void begin_endless(struct loop *loop)
{
    CHECK_EQ(loop_watch(loop, &pipe_watch), 0);
    endless.run = run_endless;
    home_run_later(loop_home(loop), &endless);
}

static void unwatch_pipe(struct loop *loop)
{
    loop_unwatch(loop, &pipe_watch);
}

static void test_endless_tasks_do_not_starve_descriptors(void)
{
    struct loop *loop = new_loop();

    CHECK_EQ(pipe(pipe_ends), 0);
    pipe_watch = (struct watch){pipe_ends[0], EPOLLIN, end_endless};
    in_loop(loop, begin_endless);
    CHECK_EQ(write(pipe_ends[1], "x", 1), 1);
    wait_until_happened();
    CHECK(watch_was_called);
    in_loop(loop, unwatch_pipe);
    loop_destroy(loop);
    close(pipe_ends[0]);
    close(pipe_ends[1]);
}

/* --- descriptors --------------------------------------------------------------------------- */

static struct watch pair[2];
static struct loop *pair_loop;
static unsigned pair_calls;

/* Both pipes are readable: whoever comes first removes the other, whose event is already here. */
static void remove_the_other(struct watch *watch, uint32_t events)
{
    struct watch *other = watch == &pair[0] ? &pair[1] : &pair[0];

    (void)events;
    pair_calls++;
    loop_unwatch(pair_loop, watch);
    loop_unwatch(pair_loop, other);
    other->ready = NULL; /* a call would crash */
    happened();
}

static void watch_pair(struct loop *loop)
{
    CHECK_EQ(loop_watch(loop, &pair[0]), 0);
    CHECK_EQ(loop_watch(loop, &pair[1]), 0);
    CHECK_EQ(loop_watch(loop, &pair[1]), -EEXIST);
}

static void test_a_removed_watch_is_never_called(void)
{
    int ends[2][2];

    pair_loop = new_loop();
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(pipe(ends[i]), 0);
        CHECK_EQ(write(ends[i][1], "x", 1), 1);
        pair[i] = (struct watch){ends[i][0], EPOLLIN, remove_the_other};
    }
    in_loop(pair_loop, watch_pair);
    wait_until_happened();
    in_loop(pair_loop, count_call);
    CHECK_EQ(pair_calls, 1);
    loop_destroy(pair_loop);
    for (int i = 0; i < 4; i++)
        close(ends[i / 2][i % 2]);
}

static void take_rewatched(struct watch *watch, uint32_t events)
{
    CHECK(events & EPOLLOUT);
    CHECK_EQ(loop_rewatch(pair_loop, watch, 0), 0);
    happened();
}

static void watch_for_nothing(struct loop *loop)
{
    CHECK_EQ(loop_watch(loop, &pair[0]), 0);
    CHECK_EQ(loop_rewatch(loop, &pair[0], EPOLLOUT), 0);
    CHECK_EQ(pair[0].events, EPOLLOUT);
}

static void test_the_events_of_a_watch_can_change(void)
{
    int ends[2];

    pair_loop = new_loop();
    CHECK_EQ(pipe(ends), 0);
    pair[0] = (struct watch){ends[1], 0, take_rewatched};
    in_loop(pair_loop, watch_for_nothing);
    wait_until_happened();
    loop_destroy(pair_loop);
    close(ends[0]);
    close(ends[1]);
}

/* --- timers -------------------------------------------------------------------------------- */

#define TIMERS 2000

struct checked_timer {
    struct timer timer;
    uint64_t due_ns;
    bool is_cancelled;
};

static struct checked_timer timers[TIMERS];
static struct loop *timer_loop;
static unsigned timers_fired, timers_expected;
static uint64_t last_due_ns;

static void check_timer(struct timer *timer)
{
    struct checked_timer *t = CONTAINER_OF(timer, struct checked_timer, timer);

    CHECK(!t->is_cancelled);
    CHECK(clock_now_ns() >= t->due_ns);
    CHECK(t->due_ns >= last_due_ns);
    CHECK_EQ(timer->due_ns, 0);
    last_due_ns = t->due_ns;
    if (++timers_fired == timers_expected)
        happened();
}

static void set_timer(struct checked_timer *t, uint64_t due_ns)
{
    t->due_ns = due_ns;
    t->timer.fire = check_timer;
    loop_timer_set(timer_loop, &t->timer, due_ns);
}

/* Sets all at scattered times, moves some, cancels some. */
static void set_timers(struct loop *loop)
{
    uint64_t now = clock_now_ns() + 10000000;

    timer_loop = loop;
    timers_expected = TIMERS;
    for (unsigned i = 0; i < TIMERS; i++)
        set_timer(&timers[i], now + (i * 7919 % TIMERS) * 10000);
    for (unsigned i = 0; i < TIMERS; i += 3)
        set_timer(&timers[i], now + (i * 104729 % TIMERS) * 20000);
    for (unsigned i = 0; i < TIMERS; i += 5) {
        timers[i].is_cancelled = true;
        loop_timer_cancel(loop, &timers[i].timer);
        loop_timer_cancel(loop, &timers[i].timer);
        timers_expected--;
    }
}

static void test_timers_fire_in_order_and_never_early(void)
{
    struct loop *loop = new_loop();

    in_loop(loop, set_timers);
    wait_until_happened();
    loop_destroy(loop);
    CHECK_EQ(timers_fired, timers_expected);
}

static struct timer past_timer;
static unsigned past_left = 1000;

static void fire_past(struct timer *timer)
{
    if (--past_left)
        loop_timer_set(timer_loop, timer, 0);
    else
        happened();
}

static void set_past_timer(struct loop *loop)
{
    timer_loop = loop;
    past_timer.fire = fire_past;
    loop_timer_set(loop, &past_timer, 1);
}

static void test_a_timer_in_the_past_fires_at_once_without_holding_up_the_loop(void)
{
    struct loop *loop = new_loop();

    in_loop(loop, set_past_timer);
    in_loop(loop, count_call);
    wait_until_happened();
    CHECK_EQ(past_left, 0);
    loop_destroy(loop);
}

/* --- pool ---------------------------------------------------------------------------------- */

#define JOBS 3000

static struct task jobs[JOBS];
static _Atomic unsigned jobs_run;

static void run_job(struct task *task)
{
    (void)task;
    CHECK(home_current_or_null() == NULL);
    if (atomic_fetch_add(&jobs_run, 1) + 1 == JOBS)
        happened();
}

static void test_the_pool_runs_every_job_once(void)
{
    struct err e;

    for (unsigned i = 0; i < JOBS; i++) {
        jobs[i].run = run_job;
        pool_submit(&jobs[i]);
        if (i == JOBS / 2)
            CHECK_EQ(pool_start(6, &e), 0);
    }
    wait_until_happened();
    CHECK_EQ(jobs_run, JOBS);
}

/* Calls into storage that does not answer, more than the pool has threads. */
#define STUCK 100

static struct task stuck[STUCK];
static pthread_mutex_t storage = PTHREAD_MUTEX_INITIALIZER;
static _Atomic unsigned stuck_over;

static void ask_storage(struct task *task)
{
    (void)task;
    pthread_mutex_lock(&storage);
    pthread_mutex_unlock(&storage);
    atomic_fetch_add(&stuck_over, 1);
}

static void tell(struct task *task)
{
    (void)task;
    happened();
}

static void test_jobs_that_do_not_come_back_do_not_hold_up_others(void)
{
    struct task another = {.run = tell};

    pthread_mutex_lock(&storage);
    for (unsigned i = 0; i < STUCK; i++) {
        stuck[i].run = ask_storage;
        pool_submit(&stuck[i]);
    }
    pool_submit(&another);
    wait_until_happened();
    CHECK_EQ(stuck_over, 0);
    pthread_mutex_unlock(&storage);
    while (atomic_load(&stuck_over) < STUCK)
        sched_yield();
}

/* --- extents ------------------------------------------------------------------------------- */

static void test_extents_merge_and_clip(void)
{
    struct extents x = {0};

    extents_reset(&x, 1000, 100);
    CHECK_EQ(extents_add(&x, 0, EXTENT_HOLE), 0);
    CHECK_EQ(extents_add(&x, 10, 0), 0);
    CHECK_EQ(extents_add(&x, 20, 0), 0);
    CHECK_EQ(extents_add(&x, 5, EXTENT_HOLE | EXTENT_ZERO), 0);
    CHECK_EQ(extents_add(&x, 500, 0), 0);
    CHECK_EQ(extents_add(&x, 1, 0), -ENOSPC);
    CHECK_EQ(x.count, 3);
    CHECK_EQ(x.covered, 100);
    CHECK_EQ(x.list[0].length, 30);
    CHECK_EQ(x.list[1].type, EXTENT_HOLE | EXTENT_ZERO);
    CHECK_EQ(x.list[2].length, 65);
    extents_free(&x);
}

static void test_extents_stop_at_one_or_at_the_most(void)
{
    struct extents x = {.first_only = true};

    extents_reset(&x, 0, 1000000);
    CHECK_EQ(extents_add(&x, 10, 0), 0);
    CHECK_EQ(extents_add(&x, 10, 0), 0);
    CHECK_EQ(extents_add(&x, 10, EXTENT_HOLE), -ENOSPC);
    CHECK_EQ(x.covered, 20);
    x.first_only = false;
    extents_reset(&x, 0, 1000000);
    for (unsigned i = 0; i < EXTENTS_MAX; i++)
        CHECK_EQ(extents_add(&x, 1, i % 2), 0);
    CHECK_EQ(extents_add(&x, 1, 0), -ENOSPC);
    CHECK_EQ(extents_add(&x, 1, 1), 0); /* merges with the last */
    CHECK_EQ(x.count, EXTENTS_MAX);
    extents_free(&x);
}

/* --- patience ------------------------------------------------------------------------------ */

#define PATIENCE_NS 1000000u
#define SHORT_WAITS 400u

static struct timer soon;
static unsigned waits;
static long sleeps;
static uint64_t busy_ns;
static struct loop *the_loop;

static void wait_again(struct timer *timer)
{
    if (++waits < SHORT_WAITS)
        loop_timer_set(the_loop, timer, clock_now_ns() + PATIENCE_NS / 10);
    else
        happened();
}

static void begin_short_waits(struct loop *loop)
{
    the_loop = loop;
    waits = 0;
    soon.fire = wait_again;
    loop_set_patience(loop, PATIENCE_NS);
    wait_again(&soon);
}

static void count_sleeps(struct loop *loop)
{
    struct timespec busy;
    struct rusage usage;
    (void)loop;

    getrusage(RUSAGE_THREAD, &usage);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &busy);
    sleeps = usage.ru_nvcsw;
    busy_ns = (uint64_t)busy.tv_sec * 1000000000u + (uint64_t)busy.tv_nsec;
}

static long sleeps_of_short_waits(struct loop *loop)
{
    long before;

    in_loop(loop, count_sleeps);
    before = sleeps;
    in_loop(loop, begin_short_waits);
    wait_until_happened();
    in_loop(loop, count_sleeps);
    return sleeps - before;
}

/* Where others want the processor a look is in vain now and then, so it may take several times. */
static void test_a_patient_loop_looks_before_it_sleeps(void)
{
    uint64_t end = clock_now_ns() + 20000000000u;
    struct loop *loop = new_loop();
    bool has_looked = false;

    while (!has_looked && clock_now_ns() < end)
        has_looked = sleeps_of_short_waits(loop) < SHORT_WAITS / 2;
    CHECK(has_looked);
    loop_destroy(loop);
}

static void end_silence(struct timer *timer)
{
    (void)timer;
    happened();
}

static void begin_silence(struct loop *loop)
{
    static struct timer timer = {.fire = end_silence};

    loop_timer_set(loop, &timer, clock_now_ns() + 300000000u);
}

/* A look is given up: silence costs a small part of its time. */
static void test_a_patient_loop_sleeps_when_nothing_comes(void)
{
    struct loop *loop = new_loop();
    uint64_t before;

    sleeps_of_short_waits(loop);
    before = busy_ns;
    in_loop(loop, begin_silence);
    wait_until_happened();
    in_loop(loop, count_sleeps);
    CHECK(busy_ns - before < 60000000u);
    loop_destroy(loop);
}

int main(void)
{
    alarm(100);
    main_home = home_current();
    happened_task.run = note_happened;
    RUN(test_posts_wake_a_sleeping_loop);
    RUN(test_endless_tasks_do_not_starve_descriptors);
    RUN(test_a_removed_watch_is_never_called);
    RUN(test_the_events_of_a_watch_can_change);
    RUN(test_timers_fire_in_order_and_never_early);
    RUN(test_a_timer_in_the_past_fires_at_once_without_holding_up_the_loop);
    RUN(test_a_patient_loop_looks_before_it_sleeps);
    RUN(test_a_patient_loop_sleeps_when_nothing_comes);
    RUN(test_the_pool_runs_every_job_once);
    RUN(test_jobs_that_do_not_come_back_do_not_hold_up_others);
    RUN(test_extents_merge_and_clip);
    RUN(test_extents_stop_at_one_or_at_the_most);
    return unit_result();
}
