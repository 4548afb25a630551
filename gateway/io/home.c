/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * home: the thread that a piece of work belongs to, and how other threads hand work to it.
 *
 * Inbox: a lock-free stack; posters push by compare-and-swap, the home takes the whole of it with
 * one exchange and reverses it, so tasks of one poster run in the order they were posted.
 *
 * No wake-up is lost: the home stores `sleeping`, then looks into the inbox; a poster pushes, then
 * looks at `sleeping`.  All four are sequentially consistent, so at least one sees the other.
 *
 * A poster looks at `sleeping` after its task may have run and its home ended.  So homes are never
 * freed, only reused for the same kind, and waking needs nothing but fields that never change; the
 * worst is a spurious wake-up.  registry_mutex guards the lists of homes and of bells and nothing
 * else.
 */
#include "io/internal.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>

/* home.sleeping */
#define SLEEPS 1u
#define SLEEPS_AT_BELL 2u

static pthread_mutex_t registry_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct list live_homes = {&live_homes, &live_homes};
static struct list spare_homes[2] = {
    {&spare_homes[0], &spare_homes[0]},
    {&spare_homes[1], &spare_homes[1]},
};
static unsigned next_shard;      /* guarded by registry_mutex */
static struct bell *spare_bells; /* guarded by registry_mutex */

static _Atomic(void (*)(struct home *)) exit_hook;
static pthread_once_t key_once = PTHREAD_ONCE_INIT;
static pthread_key_t worker_key; /* only for its destructor */
static bool worker_key_works;

/* Read for every request: the fast model costs 8 bytes of the static area that dlopen may use. */
static __thread struct home *current_home __attribute__((tls_model("initial-exec")));

/* --- making and ending -------------------------------------------------------------------- */

static struct home *home_allocate(enum home_kind kind)
{
    struct home *home = aligned_alloc(CACHE_LINE, sizeof *home);

    if (!home)
        return NULL;
    memset(home, 0, sizeof *home);
    home->kind = kind;
    home->wake_fd = kind == HOME_LOOP ? eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC) : -1;
    if (kind == HOME_LOOP && home->wake_fd < 0) {
        free(home);
        return NULL;
    }
    home->run_last = &home->run_first;
    home->put_off_last = &home->put_off_first;
    home->shard = next_shard++ % HOME_SHARDS;
    return home;
}

struct home *home_make(enum home_kind kind, struct loop *loop)
{
    struct home *home;

    SCOPED_LOCK(&registry_mutex);
    if (list_is_empty(&spare_homes[kind])) {
        home = home_allocate(kind);
        if (!home)
            return NULL;
    } else {
        home = LIST_ENTRY(spare_homes[kind].next, struct home, registered);
        list_remove(&home->registered);
    }
    home->loop = loop;
    list_append(&live_homes, &home->registered);
    return home;
}

void home_enter(struct home *home)
{
    current_home = home;
}

static void registry_move(struct home *home, struct list *to)
{
    SCOPED_LOCK(&registry_mutex);
    list_remove(&home->registered);
    if (to)
        list_append(to, &home->registered);
}

/* Out of the registry first: who walks it must not meet what the hook takes away. */
void home_leave(struct home *home)
{
    void (*hook)(struct home *) = atomic_load(&exit_hook);

    home_drain(home);
    registry_move(home, NULL);
    if (hook)
        hook(home);
    home->engine = NULL;
    home->loop = NULL;
    atomic_store_explicit(&home->site, NULL, memory_order_relaxed);
    current_home = NULL;
    registry_move(home, &spare_homes[home->kind]);
}

void home_unmake(struct home *home)
{
    registry_move(home, &spare_homes[home->kind]);
}

static void worker_ends(void *arg)
{
    home_leave(arg);
}

static void make_key(void)
{
    worker_key_works = pthread_key_create(&worker_key, worker_ends) == 0;
}

static COLD struct home *worker_begins(void)
{
    struct home *home;

    pthread_once(&key_once, make_key);
    home = worker_key_works ? home_make(HOME_WORKER, NULL) : NULL;
    if (!home)
        return NULL;
    if (pthread_setspecific(worker_key, home) != 0) {
        home_unmake(home);
        return NULL;
    }
    home_enter(home);
    return home;
}

struct home *home_current(void)
{
    return LIKELY(current_home != NULL) ? current_home : worker_begins();
}

struct home *home_current_or_null(void)
{
    return current_home;
}

void home_set_exit_hook(void (*hook)(struct home *home))
{
    atomic_store(&exit_hook, hook);
}

void home_for_each(void (*fn)(struct home *home, void *arg), void *arg)
{
    SCOPED_LOCK(&registry_mutex);
    LIST_FOREACH (node, &live_homes)
        fn(LIST_ENTRY(node, struct home, registered), arg);
}

/* --- posting and waking ------------------------------------------------------------------- */

static void futex_wait_while_sleeping(struct home *home)
{
    syscall(SYS_futex, &home->sleeping, FUTEX_WAIT_PRIVATE, SLEEPS, NULL, NULL, 0);
}

/* EAGAIN would mean the counter is full: then it is readable, which is all we want. */
static void write_one(int fd)
{
    const uint64_t one = 1;

    while (write(fd, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

static COLD void wake(struct home *home, uint32_t sleeping)
{
    if (sleeping == SLEEPS_AT_BELL)
        write_one(atomic_load(&home->bell_fd));
    else if (home->kind == HOME_WORKER)
        syscall(SYS_futex, &home->sleeping, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
    else
        write_one(home->wake_fd);
}

void home_post(struct home *home, struct task *task)
{
    struct task *newest = atomic_load_explicit(&home->inbox, memory_order_relaxed);
    uint32_t sleeping;

    do
        task->next = newest;
    while (!atomic_compare_exchange_weak(&home->inbox, &newest, task));
    /* From here on the task may have run: only the home may be looked at. */
    if (atomic_load(&home->sleeping) && (sleeping = atomic_exchange(&home->sleeping, 0)) != 0)
        wake(home, sleeping);
}

bool home_may_sleep(struct home *home)
{
    atomic_store(&home->sleeping, SLEEPS);
    return atomic_load(&home->inbox) == NULL;
}

bool home_is_asleep(struct home *home)
{
    return atomic_load(&home->sleeping);
}

void home_awake(struct home *home)
{
    atomic_store_explicit(&home->sleeping, 0, memory_order_relaxed);
}

/* --- running ------------------------------------------------------------------------------ */

void home_run_later(struct home *home, struct task *task)
{
    task->next = NULL;
    *home->run_last = task;
    home->run_last = &task->next;
}

void home_put_off(struct home *home, struct task *task)
{
    task->next = NULL;
    *home->put_off_last = task;
    home->put_off_last = &task->next;
}

static void take_put_off(struct home *home)
{
    if (LIKELY(!home->put_off_first) || home->is_hurried)
        return;
    *home->run_last = home->put_off_first;
    home->run_last = home->put_off_last;
    home->put_off_first = NULL;
    home->put_off_last = &home->put_off_first;
}

static void take_inbox(struct home *home)
{
    struct task *task, *next, *oldest = NULL;

    if (!atomic_load_explicit(&home->inbox, memory_order_relaxed))
        return;
    for (task = atomic_exchange(&home->inbox, NULL); task; task = next) {
        next = task->next;
        task->next = oldest;
        oldest = task;
    }
    for (task = oldest; task; task = next) {
        next = task->next;
        home_run_later(home, task);
    }
}

/* What others have posted must not wait for a run list that work of our own keeps filling. */
static struct task *next_task(struct home *home)
{
    struct task *task;

    take_inbox(home);
    take_put_off(home);
    task = home->run_first;
    if (!task)
        return NULL;
    home->run_first = task->next;
    if (!home->run_first)
        home->run_last = &home->run_first;
    return task;
}

bool home_drain_some(struct home *home, unsigned budget)
{
    struct task *task;

    if (home->is_draining)
        return false;
    home->is_draining = true;
    while (budget-- && (task = next_task(home)))
        task->run(task);
    home->is_draining = false;
    return home->run_first || atomic_load_explicit(&home->inbox, memory_order_relaxed);
}

void home_drain(struct home *home)
{
    while (home_drain_some(home, UINT_MAX))
        ;
}

/* True: the worker may sleep at its bell now; false: there is work. */
static bool may_sleep_at(struct home *home, const struct bell *bell)
{
    atomic_store(&home->bell_fd, bell->fd);
    atomic_store(&home->sleeping, SLEEPS_AT_BELL);
    return atomic_load(&home->inbox) == NULL;
}

static void silence(const struct bell *bell)
{
    uint64_t count;

    while (read(bell->fd, &count, sizeof count) < 0 && errno == EINTR)
        ;
}

void home_poll(struct home *home, const struct bell *bell, struct pollfd *fds, unsigned count)
{
    fds[0] = (struct pollfd){.fd = bell->fd, .events = POLLIN};
    if (may_sleep_at(home, bell) && poll(fds, count, -1) < 0)
        for (unsigned i = 0; i < count; i++)
            fds[i].revents = 0;
    home_awake(home);
    if (fds[0].revents)
        silence(bell);
}

static bool sleep_watching(struct home *home, int fd)
{
    struct pollfd fds[] = {{.fd = -1}, {.fd = fd, .events = POLLIN}};
    struct bell *bell = bell_take();

    if (!bell)
        return true;
    home_poll(home, bell, fds, ARRAY_SIZE(fds));
    bell_give(bell);
    return fds[1].revents;
}

static void sleep_at_futex(struct home *home)
{
    if (home_may_sleep(home))
        futex_wait_while_sleeping(home);
    home_awake(home);
}

bool home_sleep(struct home *home, int fd)
{
    bool has_come = false;

    if (fd >= 0)
        has_come = sleep_watching(home, fd);
    else
        sleep_at_futex(home);
    home_drain(home);
    return has_come;
}

void home_wait(struct home *home, const bool *done)
{
    assert(home->kind == HOME_WORKER && !home->is_draining);
    home_drain(home);
    while (!*done)
        home_sleep(home, -1);
}

void home_wait_helping(struct home *home, const bool *done)
{
    bool (*help)(struct home *, const bool *, int) = home->help;

    home->help = NULL;
    home_drain(home);
    if (help && !*done)
        help(home, done, -1);
    home_wait(home, done);
}

void home_wait_watching(struct home *home, const bool *done, int fd)
{
    bool has_come = false;

    home->is_hurried = true;
    home_drain(home);
    if (home->help && !*done && !home->put_off_first)
        has_come = home->help(home, done, fd);
    while (!*done && !has_come && !home->put_off_first)
        has_come = home_sleep(home, fd);
    home->is_hurried = false;
}

/* --- bells -------------------------------------------------------------------------------- */

static struct bell *take_spare(void)
{
    struct bell *bell;
    SCOPED_LOCK(&registry_mutex);

    bell = spare_bells;
    if (bell)
        spare_bells = bell->next;
    return bell;
}

struct bell *bell_take(void)
{
    struct bell *bell = take_spare();

    if (bell)
        return bell;
    bell = calloc(1, sizeof *bell);
    if (!bell)
        return NULL;
    bell->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (bell->fd >= 0)
        return bell;
    free(bell);
    return NULL;
}

void bell_give(struct bell *bell)
{
    SCOPED_LOCK(&registry_mutex);

    bell->next = spare_bells;
    spare_bells = bell;
}
