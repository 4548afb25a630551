/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pool: a few threads for system calls that block (fdatasync, large writes, fallocate).
 *
 * A first-in first-out queue.  A job never waits for another job, so however few threads there are,
 * the queue moves, as long as what they call returns.  Storage that does not answer keeps a thread
 * for each of its calls, and must not keep the threads of all other disks: a watcher sees when
 * nothing has been taken from the queue for WATCH_NS and doubles the threads, up to
 * POOL_THREADS_MOST.  Those that are too many end when they find so many idle.
 *
 * pool_mutex guards everything here; it is held for a few instructions only, or while a thread is
 * started, never while a job runs.  Threads are detached and block all signals.
 */
#include "io/internal.h"

#include <signal.h>
#include <string.h>

#define WATCH_NS 50000000 /* also for a disk that works much: a thread more does no harm */

static pthread_mutex_t pool_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t pool_has_work = PTHREAD_COND_INITIALIZER;
static pthread_cond_t pool_is_full = PTHREAD_COND_INITIALIZER; /* for the watcher */
static struct task *first_task;
static struct task **last_task = &first_task;
static unsigned thread_count, idle_count;
static unsigned threads_wanted; /* that stay */
static uint64_t taken;          /* jobs, ever */
static bool has_watcher, is_watching;

/* Under pool_mutex. */
static bool is_full(void)
{
    return first_task && idle_count == 0;
}

/* Under pool_mutex.  Costs nothing while it watches already. */
static void watch_if_full(void)
{
    if (LIKELY(!is_full()) || is_watching)
        return;
    is_watching = true;
    pthread_cond_signal(&pool_is_full);
}

/* --- a thread ------------------------------------------------------------------------------- */

/* NULL: it is one too many. */
static struct task *next_job(void)
{
    struct task *task;

    SCOPED_LOCK(&pool_mutex);
    if (!first_task && idle_count >= threads_wanted) {
        thread_count--;
        return NULL;
    }
    idle_count++;
    while (!first_task)
        pthread_cond_wait(&pool_has_work, &pool_mutex);
    idle_count--;
    task = first_task;
    first_task = task->next;
    if (!first_task)
        last_task = &first_task;
    taken++;
    watch_if_full();
    return task;
}

static void *work(void *arg)
{
    struct task *task;
    (void)arg;

    pthread_setname_np(pthread_self(), "sluice-pool");
    while ((task = next_job()))
        task->run(task);
    return NULL;
}

/* Under pool_mutex. */
static int grow_to(unsigned threads)
{
    int r;

    while (thread_count < threads) {
        r = thread_start(NULL, work, NULL);
        if (r < 0)
            return r;
        thread_count++;
    }
    return 0;
}

/* --- the watcher ---------------------------------------------------------------------------- */

static uint64_t wait_until_full(void)
{
    SCOPED_LOCK(&pool_mutex);
    is_watching = is_full();
    while (!is_watching)
        pthread_cond_wait(&pool_is_full, &pool_mutex);
    return taken;
}

/* How many threads there are to be; 0: no more than there are. */
static unsigned threads_needed(uint64_t taken_before)
{
    SCOPED_LOCK(&pool_mutex);
    return is_full() && taken == taken_before ? MIN(2 * thread_count, POOL_THREADS_MOST) : 0;
}

/* One at a time: whoever submits does not wait for all of them to be started. */
static bool add_thread(unsigned most)
{
    SCOPED_LOCK(&pool_mutex);
    return is_full() && thread_count < most && grow_to(thread_count + 1) == 0;
}

static void *watch(void *arg)
{
    struct timespec a_while = {.tv_nsec = WATCH_NS};
    (void)arg;

    pthread_setname_np(pthread_self(), "sluice-watch");
    for (;;) {
        uint64_t taken_before = wait_until_full();
        unsigned most;

        nanosleep(&a_while, NULL);
        most = threads_needed(taken_before);
        while (add_thread(most))
            continue;
    }
    return NULL;
}

/* Under pool_mutex. */
static int start_threads(unsigned threads)
{
    int r = 0;

    threads_wanted = MAX(threads_wanted, threads);
    if (!has_watcher)
        r = thread_start(NULL, watch, NULL);
    has_watcher = has_watcher || r == 0;
    return r < 0 ? r : grow_to(threads);
}

/* --- for others ----------------------------------------------------------------------------- */

int pool_start(unsigned threads, struct err *e)
{
    int r;

    SCOPED_LOCK(&pool_mutex);
    r = start_threads(MAX(threads, 1));
    return r < 0 ? err_set(e, -r, "cannot start a pool thread: %s", strerror(-r)) : 0;
}

/* False: there is no thread and none can be had. */
static bool enqueue(struct task *task)
{
    SCOPED_LOCK(&pool_mutex);
    if (UNLIKELY(thread_count == 0) && start_threads(POOL_THREADS_DEFAULT) < 0 && thread_count == 0)
        return false;
    task->next = NULL;
    *last_task = task;
    last_task = &task->next;
    if (idle_count)
        pthread_cond_signal(&pool_has_work);
    else
        watch_if_full();
    return true;
}

void pool_submit(struct task *task)
{
    if (!enqueue(task))
        task->run(task);
}
