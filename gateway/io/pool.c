/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pool: a few threads for system calls that block (fdatasync, large writes, fallocate).
 *
 * A first-in first-out queue.  A job never waits for another job, so however few threads there are,
 * the queue moves.  pool_mutex guards everything here; it is held for a few instructions only,
 * never while a job runs.  Threads are detached, block all signals and end with the process.
 */
#include "io/internal.h"

#include <signal.h>
#include <string.h>

static pthread_mutex_t pool_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t pool_has_work = PTHREAD_COND_INITIALIZER;
static struct task *first_task;
static struct task **last_task = &first_task;
static unsigned thread_count, idle_count;

static struct task *next_job(void)
{
    struct task *task;

    SCOPED_LOCK(&pool_mutex);
    idle_count++;
    while (!first_task)
        pthread_cond_wait(&pool_has_work, &pool_mutex);
    idle_count--;
    task = first_task;
    first_task = task->next;
    if (!first_task)
        last_task = &first_task;
    return task;
}

static void *work(void *arg)
{
    struct task *task;
    (void)arg;

    pthread_setname_np(pthread_self(), "sluice-pool");
    for (;;) {
        task = next_job();
        task->run(task);
    }
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

int pool_start(unsigned threads, struct err *e)
{
    int r;

    SCOPED_LOCK(&pool_mutex);
    r = grow_to(MAX(threads, 1));
    return r < 0 ? err_set(e, -r, "cannot start a pool thread: %s", strerror(-r)) : 0;
}

/* False: there is no thread and none can be had. */
static bool enqueue(struct task *task)
{
    SCOPED_LOCK(&pool_mutex);
    if (UNLIKELY(thread_count == 0) && grow_to(POOL_THREADS_DEFAULT) < 0 && thread_count == 0)
        return false;
    task->next = NULL;
    *last_task = task;
    last_task = &task->next;
    if (idle_count)
        pthread_cond_signal(&pool_has_work);
    return true;
}

void pool_submit(struct task *task)
{
    if (!enqueue(task))
        task->run(task);
}
