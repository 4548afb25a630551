/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * backing-service: see backing-service.h.
 *
 * service_mutex guards the making of the loop; children_mutex guards the list of children and is
 * held while they are signalled, so that none is forgotten (and its pidfd reused) meanwhile.
 */
#include "backing/backing-service.h"

#include <errno.h>
#include <linux/close_range.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define CHILD_PATIENCE_NS (UINT64_C(10) * 1000000000u)

static pthread_mutex_t service_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct loop *service_loop;

static pthread_mutex_t children_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t child_gone = PTHREAD_COND_INITIALIZER;
static struct list children = {&children, &children};
static _Atomic bool is_stopping;

/* --- the loop ------------------------------------------------------------------------------- */

/* libiscsi writes without MSG_NOSIGNAL. */
static void block_sigpipe(void *arg)
{
    sigset_t set;

    (void)arg;
    sigemptyset(&set);
    sigaddset(&set, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
}

int service_start(struct loop **out, struct err *e)
{
    SCOPED_LOCK(&service_mutex);
    if (!service_loop) {
        service_loop = loop_create("backing", e);
        if (!service_loop)
            return err_context(e, "starting the thread for remote backings");
        service_call(service_loop, block_sigpipe, NULL);
    }
    *out = service_loop;
    return 0;
}

struct call {
    struct task task;
    void (*fn)(void *arg);
    void *arg;
    pthread_mutex_t mutex; /* guards is_done */
    pthread_cond_t cond;
    bool is_done;
};

static void call_run(struct task *task)
{
    struct call *call = CONTAINER_OF(task, struct call, task);

    call->fn(call->arg);
    SCOPED_LOCK(&call->mutex);
    call->is_done = true;
    pthread_cond_signal(&call->cond);
}

void service_call(struct loop *loop, void (*fn)(void *arg), void *arg)
{
    struct call call = {
        .task.run = call_run,
        .fn = fn,
        .arg = arg,
        .mutex = PTHREAD_MUTEX_INITIALIZER,
        .cond = PTHREAD_COND_INITIALIZER,
    };

    home_post(loop_home(loop), &call.task);
    pthread_mutex_lock(&call.mutex);
    while (!call.is_done)
        pthread_cond_wait(&call.cond, &call.mutex);
    pthread_mutex_unlock(&call.mutex);
    pthread_cond_destroy(&call.cond);
    pthread_mutex_destroy(&call.mutex);
}

/* --- threads of their own ----------------------------------------------------------------- */

static void *detached_main(void *arg)
{
    struct task *task = arg;

    task->run(task);
    return NULL;
}

int service_detach(struct task *task)
{
    return thread_start(NULL, detached_main, task);
}

uint64_t service_jitter(uint64_t ns)
{
    uint16_t random = 0;

    if (getrandom(&random, sizeof random, GRND_NONBLOCK) != sizeof random)
        random = (uint16_t)clock_now_ns();
    return ns - ns / 4 + (ns / 2) * random / UINT16_MAX;
}

/* --- children ------------------------------------------------------------------------------- */

/* Whatever another part of the process has open and did not mark is none of the child's business.
 */
void child_before_start(sigset_t *saved)
{
    sigset_t none;

    syscall(SYS_close_range, 3u, ~0u, CLOSE_RANGE_CLOEXEC);
    sigemptyset(&none);
    pthread_sigmask(SIG_SETMASK, &none, saved);
}

static bool child_is_known(pid_t pid)
{
    LIST_FOREACH (node, &children)
        if (LIST_ENTRY(node, struct child, link)->pid == pid)
            return true;
    return false;
}

/* libnbd does not tell the process number of what it started: take the child of this thread
 * (proc(5), /proc/PID/task/TID/children) that is new. */
static pid_t find_new_child(void)
{
    FILE *f = fopen("/proc/thread-self/children", "re");
    int pid;

    if (!f)
        return -1;
    while (fscanf(f, "%d", &pid) == 1)
        if (!child_is_known(pid)) {
            fclose(f);
            return pid;
        }
    fclose(f);
    return -1;
}

void child_after_start(const sigset_t *saved, struct child *child)
{
    pthread_sigmask(SIG_SETMASK, saved, NULL);
    SCOPED_LOCK(&children_mutex);
    child->pid = find_new_child();
    child->pidfd = child->pid > 0 ? pidfd_open(child->pid, 0) : -1;
    list_append(&children, &child->link);
}

bool child_how_ended(const struct child *child, char *out, size_t out_size)
{
    siginfo_t info = {0};

    if (child->pidfd < 0 ||
        waitid(P_PIDFD, (id_t)child->pidfd, &info, WEXITED | WNOHANG | WNOWAIT) != 0 ||
        info.si_pid == 0)
        return false;
    snprintf(out, out_size, info.si_code == CLD_EXITED ? "exit status %d" : "signal %d",
             info.si_status);
    return true;
}

static bool has_ended(const struct child *child, int timeout_ms)
{
    struct pollfd p = {.fd = child->pidfd, .events = POLLIN};
    uint64_t end_ns = clock_now_ns() + (uint64_t)timeout_ms * 1000000;
    int rc;

    while ((rc = poll(&p, 1, timeout_ms)) < 0 && errno == EINTR) {
        uint64_t now_ns = clock_now_ns();

        timeout_ms = now_ns < end_ns ? (int)((end_ns - now_ns) / 1000000) : 0;
    }
    return rc > 0;
}

void child_end(const struct child *child, int grace_ms)
{
    if (child->pidfd < 0)
        return;
    pidfd_send_signal(child->pidfd, SIGTERM, NULL, 0);
    if (has_ended(child, grace_ms))
        return;
    pidfd_send_signal(child->pidfd, SIGKILL, NULL, 0);
    has_ended(child, 1000);
}

void child_forget(struct child *child)
{
    SCOPED_LOCK(&children_mutex);
    list_remove(&child->link);
    if (child->pidfd >= 0)
        close(child->pidfd);
    child->pidfd = -1;
    pthread_cond_broadcast(&child_gone);
}

static bool has_child(const void *owner)
{
    LIST_FOREACH (node, &children)
        if (LIST_ENTRY(node, struct child, link)->owner == owner)
            return true;
    return false;
}

bool child_remains(const void *owner)
{
    SCOPED_LOCK(&children_mutex);
    return has_child(owner);
}

void child_wait(const void *owner)
{
    uint64_t deadline = clock_now_ns() + CHILD_PATIENCE_NS;
    SCOPED_LOCK(&children_mutex);

    while (has_child(owner) && cond_wait_until(&child_gone, &children_mutex, deadline))
        ;
}

bool service_is_stopping(void)
{
    return atomic_load(&is_stopping);
}

void service_stop(void)
{
    uint64_t end_ns;

    SCOPED_LOCK(&children_mutex);
    atomic_store(&is_stopping, true);
    LIST_FOREACH (node, &children) {
        const struct child *child = LIST_ENTRY(node, struct child, link);

        if (child->pidfd >= 0)
            pidfd_send_signal(child->pidfd, SIGTERM, NULL, 0);
    }
    end_ns = clock_now_ns() + 2000000000;
    LIST_FOREACH (node, &children) {
        uint64_t now_ns = clock_now_ns();

        child_end(LIST_ENTRY(node, struct child, link),
                  now_ns < end_ns ? (int)((end_ns - now_ns) / 1000000) : 0);
    }
}
