/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * work.c: threads on which filters may block.
 *
 * Work may wait for I/O that, in a filter further down, waits for other work.  A fixed number of
 * threads could all be waiting, so a thread that goes to sleep in sluice_io_wait() says so, and
 * another takes its place while there is something to do.  Surplus threads end when idle.
 * `workers.mutex` guards everything here and is never held while work runs.
 */
#include "internal.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

#define WORKERS_MAX 256u

static struct {
    pthread_mutex_t mutex;
    pthread_cond_t has_work;
    struct task *first, **last;
    unsigned wanted;                 /* threads that are not asleep in a wait */
    unsigned threads, idle, blocked; /* blocked: asleep in a wait */
} workers = {
    .mutex = PTHREAD_MUTEX_INITIALIZER,
    .has_work = PTHREAD_COND_INITIALIZER,
    .last = &workers.first,
};

static __thread bool is_worker;

/* --- the threads --------------------------------------------------------------------------------
 */

/* NULL: there is nothing to do and one thread too many. */
static struct task *next_task(void)
{
    struct task *task;
    SCOPED_LOCK(&workers.mutex);

    workers.idle++;
    while (!workers.first && workers.threads - workers.blocked <= workers.wanted)
        pthread_cond_wait(&workers.has_work, &workers.mutex);
    workers.idle--;
    task = workers.first;
    if (!task) {
        workers.threads--;
        return NULL;
    }
    workers.first = task->next;
    if (!workers.first)
        workers.last = &workers.first;
    return task;
}

static void *work(void *unused)
{
    struct task *task;

    (void)unused;
    pthread_setname_np(pthread_self(), "sluice-work");
    is_worker = true;
    while ((task = next_task()))
        task->run(task);
    return NULL;
}

/* Under the mutex. Failing is harmless: the others will come to it. */
static void see_to_a_thread(void)
{
    if (!workers.first || workers.idle > 0 || workers.threads >= WORKERS_MAX ||
        workers.threads - workers.blocked >= workers.wanted)
        return;
    if (thread_start(NULL, work, NULL) == 0)
        workers.threads++;
}

int workers_start(unsigned wanted, struct err *e)
{
    int r = 0;
    SCOPED_LOCK(&workers.mutex);

    workers.wanted = MAX(workers.wanted, MIN(wanted, WORKERS_MAX));
    while (r == 0 && workers.threads - workers.blocked < workers.wanted) {
        r = thread_start(NULL, work, NULL);
        workers.threads += r == 0;
    }
    return r < 0 && workers.threads == 0
               ? err_set(e, -r, "cannot start a worker thread: %s", strerror(-r))
               : 0;
}

void workers_submit(struct task *task)
{
    SCOPED_LOCK(&workers.mutex);

    task->next = NULL;
    *workers.last = task;
    workers.last = &task->next;
    see_to_a_thread();
    pthread_cond_signal(&workers.has_work);
}

void workers_block(void)
{
    if (!is_worker)
        return;
    SCOPED_LOCK(&workers.mutex);
    workers.blocked++;
    see_to_a_thread();
}

void workers_unblock(void)
{
    if (!is_worker)
        return;
    SCOPED_LOCK(&workers.mutex);
    workers.blocked--;
}

/* --- for filters --------------------------------------------------------------------------------
 */

struct seat_job {
    struct task task;
    struct seat *seat;
} EMBEDDED;
EMBEDDED_FITS(struct seat_job, sluice_work);

static void run(struct task *task)
{
    struct seat_job *job = CONTAINER_OF(task, struct seat_job, task);
    struct seat *seat = job->seat;
    struct sluice_work *pub = CONTAINER_OF(job, struct sluice_work, host_private);

    pub->run(pub); /* may free it */
    seat_leave(seat);
}

int seat_work(struct seat *seat, struct sluice_work *pub)
{
    struct seat_job *job = (struct seat_job *)(void *)pub->host_private;

    if (!seat_enter(seat))
        return -ESHUTDOWN;
    job->seat = seat;
    job->task.run = run;
    workers_submit(&job->task);
    return 0;
}
