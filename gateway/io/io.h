/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * io: where code runs and how bytes reach files.  Knows nothing of disks, filters or protocols.
 *
 * Home context.  Every piece of work has a home: the thread that submitted it.  All its callbacks
 * run there.  Another thread never runs them: it posts a task, which wakes the home.  There are two
 * kinds of home: a *worker* (an nbdkit thread: may block in system calls, sleeps in home_wait()
 * until its own request is done) and a *loop* (a thread around epoll: must never block).  Nothing
 * recurses: work found while a callback runs is put on the home's run list, which the outermost
 * frame drains.
 *
 * File service.  file_submit() returns IO_DONE or IO_PENDING; the callback fires only after
 * IO_PENDING, never inside submit, and always in the operation's home.  From a worker the system
 * call runs right there, or, where it is hurried and the call might block, when it drains.  From a
 * loop reads try RWF_NOWAIT and finish short reads; what would block goes to io_uring or to a small
 * pool of threads.
 */
#ifndef SLUICE_IO_H
#define SLUICE_IO_H

#include "base/base.h"

#include <sys/uio.h>

struct sockaddr_storage;
struct pollfd;

/* --- tasks and homes ------------------------------------------------------------------------ */

struct home;

/* Embedded in whatever must run somewhere; `run` is called once per post, in the home. */
struct task {
    struct task *next; /* owned by the home while posted */
    void (*run)(struct task *task);
};

enum home_kind { HOME_WORKER, HOME_LOOP };

/*
 * Legend: [H] only the home's own thread; [A] atomic, any thread; [I] immutable.
 * The first cache line is the home's own; the inbox is on another line because others write it.
 */
struct home {
    enum home_kind kind;    /* [I] */
    unsigned shard;         /* [I] small number to spread counters, see HOME_SHARDS */
    bool is_draining;       /* [H] an outer frame is draining the run list */
    bool is_hurried;        /* [H] a worker that may not block just now: request_begin() */
    struct task *run_first; /* [H] */
    struct task **run_last; /* [H] */
    struct task *put_off_first,
        **put_off_last;     /* [H] what may block: waits until it is not hurried */
    _Atomic(void *) engine; /* the engine's per-home state (pools, in-flight list); written by the
                               home, read by the watch */
    struct loop *loop;      /* [I] for HOME_LOOP */
    int wake_fd;            /* [I] eventfd of a loop, -1 for a worker */
    struct apart *apart;    /* [H] a worker's ring, file-apart.c; NULL: none yet */
    bool (*help)(struct home *home, const bool *done, int fd); /* [H] see home_wait_helping() */
    struct list registered; /* all live homes, or the spare ones; guarded by the registry's mutex */
    _Atomic(const void *)
        site; /* what runs now (a filter's statistics), for the stall watch; NULL: nothing */
    _Atomic uint64_t site_serial;                      /* changes whenever site does */
    _Alignas(CACHE_LINE) _Atomic(struct task *) inbox; /* [A] newest first */
    _Atomic uint32_t sleeping; /* [A] 1: must be woken (futex word of a worker), 2: by its bell */
    _Atomic int bell_fd;       /* [A] written by the home before it sleeps at one */
};

#define HOME_SHARDS 16

/* The home of the calling thread; a worker home is made at first use and given back when the thread
 * ends.  NULL only for ENOMEM.  home_current_or_null() never makes one.
 * The memory of a home is only ever used again for another home of the same kind: a poster may
 * still have to look whether the home sleeps when the task it posted has run and the thread is
 * gone. */
struct home *home_current(void);
struct home *home_current_or_null(void);

/* Called for every home when it ends, by its own thread; the engine frees home->engine there. */
void home_set_exit_hook(void (*hook)(struct home *home));
/* Calls fn for every live home, under the registry's mutex. */
void home_for_each(void (*fn)(struct home *home, void *arg), void *arg);

/* From any thread: run `task` in `home`, waking it if it sleeps.  Lock-free. */
void home_post(struct home *home, struct task *task);
/* From the home's own thread: run later in this turn, before the outermost frame (home_drain,
 * home_wait, the loop's turn) returns.  Outside of one the caller calls home_drain() itself. */
void home_run_later(struct home *home, struct task *task);
/* The same for what may block: not before the home is no longer hurried. */
void home_put_off(struct home *home, struct task *task);
/* Drains inbox and run list unless an outer frame already does. */
void home_drain(struct home *home);
/* Worker only, never from a task: drains and sleeps until *done (set by a task run in this home) is
 * true. */
void home_wait(struct home *home, const bool *done);
/* The same, but where home->help is set, that does the waiting as far as it can, and may do more
 * meanwhile than sleep: who hands something to another thread leaves it there when it knows how to
 * wait for what comes of it.  Whoever begins anew clears it before.  It returns when *done, when
 * `fd` (-1: none) can be read, which is true, or when it knows no more to do. */
void home_wait_helping(struct home *home, const bool *done);
/* The same, but hurried, and only until `fd` can be read or is hung up, or work is left that may
 * block; home_wait_helping() may follow. */
void home_wait_watching(struct home *home, const bool *done, int fd);
/* One sleep of such a wait, unless there is work, and that work.  fd -1: none is watched.  True: it
 * can be read (or there is no way to watch it). */
bool home_sleep(struct home *home, int fd);

/* For a worker that sleeps in poll(2), beside other descriptors: becomes readable when something is
 * posted.  A late poster may ring the bell of who has it by then, so they are given back, never
 * closed. */
struct bell {
    struct bell *next;
    int fd;
};
struct bell *bell_take(void); /* NULL: ENOMEM or no descriptor left */
void bell_give(struct bell *bell);
/* One sleep at it and at fds[1] to fds[count - 1], unless there is work: revents, zero before, tell
 * what can be read.  fds[0] becomes the bell's. */
void home_poll(struct home *home, const struct bell *bell, struct pollfd *fds, unsigned count);
/* As far as another thread can know. */
bool home_is_asleep(struct home *home);

/* --- looking -------------------------------------------------------------------------------- */

#define LOOKING_NS 50000u /* about what a client takes for its next request */
/* Of one thread that waits at one place; 0 as patience: it never looks. */
struct looking {
    uint64_t patience_ns;
    unsigned hopes, hopes_to_look_at;
};
void looking_init(struct looking *l, uint64_t patience_ns);
/* True: now look for `patience_ns` at most, and tell how that was; false: sleep, and tell. */
bool looking_may(const struct looking *l);
void looking_has_looked(struct looking *l, uint64_t took_ns, bool has_come);
void looking_has_slept(struct looking *l, uint64_t took_ns);

/* --- loops ---------------------------------------------------------------------------------- */

struct loop;

/* A thread around epoll, timers and a home.  Made only after the process has forked. */
struct loop *loop_create(const char *name, struct err *e) MUST_CHECK;
/* Stops the thread after the current turn and frees the loop; the caller sees that nothing is
 * pending. */
void loop_destroy(struct loop *loop);
struct home *loop_home(struct loop *loop);
/* In the loop's own thread.  Where what it waits for comes within about `ns` time after time, it
 * looks for it that long before it sleeps.  0, as at first: it sleeps at once. */
void loop_set_patience(struct loop *loop, uint64_t ns);

/* A watched descriptor. Embedded by its owner; ready() runs in the loop. */
struct watch {
    int fd;
    uint32_t events; /* EPOLLIN etc. */
    void (*ready)(struct watch *watch, uint32_t events);
};
/* In the loop's own thread (or before anything else uses the loop). 0 or -errno. */
int loop_watch(struct loop *loop, struct watch *watch) MUST_CHECK;
int loop_rewatch(struct loop *loop, struct watch *watch, uint32_t events) MUST_CHECK;
void loop_unwatch(struct loop *loop, struct watch *watch);

/* A one-shot timer, zeroed but for `fire` before its first use.  Set and cancelled only in the
 * loop's own thread; fires there, never early; not set any more when fire() is called. */
struct timer {
    uint64_t due_ns; /* clock_now_ns() scale; 0: not set */
    void (*fire)(struct timer *timer);
    struct timer *child, *sibling, *previous; /* the loop's own: a pairing heap */
};
/* Sets or moves it; a time that has passed means: at once, in this turn or the next. */
void loop_timer_set(struct loop *loop, struct timer *timer, uint64_t due_ns);
void loop_timer_cancel(struct loop *loop, struct timer *timer);

/* The heap alone, for those who keep timers under a lock of their own: a pointer to the timer that
 * is due first.  due_ns is set before inserting and cleared after removing. */
void timer_heap_insert(struct timer **root, struct timer *timer);
void timer_heap_remove(struct timer **root, struct timer *timer);

/* --- pool of threads for what must block ------------------------------------------------------ */

/* Runs task->run on one of a few pool threads (no home there; may block). A pool job never waits
 * for another.  While none of them comes back, they become more, POOL_THREADS_MOST at most. Without
 * pool_start() before it starts POOL_THREADS_DEFAULT; where not even one thread can be had, the
 * caller runs the task itself. */
#define POOL_THREADS_DEFAULT 4u
#define POOL_THREADS_MOST 512u
void pool_submit(struct task *task);
/* Sees to it that the pool has that many threads at least; after the fork. */
int pool_start(unsigned threads, struct err *e) MUST_CHECK;

/* --- one operation ---------------------------------------------------------------------------- */

enum io_kind { IO_READ, IO_WRITE, IO_FLUSH, IO_TRIM, IO_ZERO, IO_EXTENTS, IO_PREFETCH };
#define IO_KINDS 7

/* Same values as the filter API's request flags. */
#define IO_FUA 0x1u       /* WRITE, TRIM, ZERO: stable before completion */
#define IO_NO_HOLE 0x2u   /* ZERO: must not give the space back */
#define IO_FAST_ONLY 0x4u /* ZERO: fail with ENOTSUP unless faster than writing zeros */
#define IO_ATOMIC 0x8u    /* WRITE: must not be torn */

enum io_status { IO_DONE, IO_PENDING };

/* What IO_EXTENTS fills: consecutive runs from `offset`, at least one on success. */
struct extent {
    uint64_t length;
    uint32_t type; /* EXTENT_* bits */
};
#define EXTENT_HOLE 0x1u /* not allocated */
#define EXTENT_ZERO 0x2u /* reads as zeros */
#define EXTENTS_MAX 1024u
struct extents {
    uint64_t offset;
    uint64_t limit; /* do not describe bytes at or past offset + limit */
    uint64_t covered;
    unsigned count, capacity;
    bool first_only;     /* the asker wants one extent */
    struct extent *list; /* malloc'ed by extents_add */
};
/* Appends, merging with the last run of the same type; clips at limit. 0, -ENOMEM, or -ENOSPC when
 * EXTENTS_MAX runs are held or no more is wanted (nothing was taken, the caller stops there: not an
 * error). */
int extents_add(struct extents *x, uint64_t length, uint32_t type);
void extents_reset(struct extents *x, uint64_t offset, uint64_t limit);
void extents_free(struct extents *x);

/*
 * One operation on something that stores bytes.  The submitter fills the first group; `data` stays
 * valid until completion (never written for IO_WRITE).  The executor sets `result` (0 or a negative
 * errno; never short) and, if it answered IO_PENDING, posts `done_task` to `home`.
 */
struct io {
    enum io_kind kind;
    uint32_t flags;
    uint64_t offset; /* bytes */
    uint64_t length; /* bytes */
    void *data;
    struct extents *extents; /* IO_EXTENTS only */
    struct home *home;       /* where done_task runs */
    struct task done_task;   /* run set by the submitter */

    int result;

    /* The executor's own while pending. */
    struct list link;
    struct task exec_task;
    void *executor;
    uint64_t progress; /* bytes moved so far */
    uint64_t cookie;
    int retries;
};

/* Completes a pending operation from any thread. */
static inline void io_complete(struct io *io, int result)
{
    io->result = result;
    home_post(io->home, &io->done_task);
}

/* --- file service ----------------------------------------------------------------------------- */

struct file;

struct file_options {
    bool read_only;
    bool direct;   /* O_DIRECT: callers align to file_block_size() */
    bool may_hang; /* its device may not answer: no loop is in a system call for it */
    bool create;   /* create at `create_size` if absent; never truncates or extends otherwise */
    uint64_t create_size;
    bool exclusive_lock; /* open-file-description lock (shared when read_only); holder named in the
                            error */
    uint64_t lock_wait_ns; /* keep trying that long before refusing */
};

/* Opens a regular file or block device for asynchronous use. *out owns the descriptor. 0 or -errno
 * with text. */
int file_open(const char *path, const struct file_options *options, struct file **out,
              struct err *e) MUST_CHECK;
void file_close(struct file *file);
uint64_t file_size(const struct file *file);
unsigned file_block_size(
    const struct file *file); /* 1, or the logical block size with O_DIRECT or a block device */
bool file_can_trim(const struct file *file); /* trim reads back as zeros and gives space back */
bool file_can_fast_zero(const struct file *file);
bool file_is_rotational(const struct file *file);
int file_sticky_error(
    const struct file *file); /* positive errno of the sync that failed, 0: none */
int file_descriptor(const struct file *file);
int file_resize(struct file *file, uint64_t size, struct err *e) MUST_CHECK; /* grow only; blocks */
bool file_refresh_size(struct file *file); /* re-reads the size; true if it changed */

/* fsync of the folder that holds `path`, so that a name made or removed there is stable. */
int file_sync_folder(const char *path) MUST_CHECK;

/* See the top of this page. io->home must be the calling thread's home.  All seven kinds; IO_FLUSH
 * is fdatasync.  A failed fdatasync is sticky: every later flush or FUA fails with the same errno
 * until the file is opened anew. */
enum io_status file_submit(struct file *file, struct io *io) MUST_CHECK;
/* From a worker, for a device that may not answer: IO_DONE, or IO_PENDING when it has not for a
 * tenth of a second (hurried: half a millisecond).  Then file_leave_apart() has to follow: the
 * operation completes in that home instead. Only where file_fits_apart(): of the rest the system
 * call would be waited for. */
bool file_fits_apart(const struct file *file, const struct io *io) MUST_CHECK;
/* A worker does it that way: its device may not answer, and it is no write into the page cache. */
bool file_goes_apart(const struct file *file, const struct io *io) MUST_CHECK;
enum io_status file_submit_apart(struct file *file, struct io *io) MUST_CHECK;
void file_leave_apart(struct io *io, struct home *home);
/* Makes a small buffered write in the calling thread, whichever it is, where file_submit() would
 * make it in a loop's.  True: done, with io->result.  False: nothing was done, it is to be
 * submitted. */
bool file_write_here(struct file *file, struct io *io) MUST_CHECK;

/* Which home counts as what, for the test build that forces the paths at random: with chaos set,
 * workers too are answered IO_PENDING now and then, completed from foreign threads. 0 turns it off.
 */
void io_set_chaos(uint32_t seed);

/* --- sockets -------------------------------------------------------------------------------- */

/* A listening socket on an address (or "localhost"); flags: SOCK_NONBLOCK or 0; text: the address
 * as it was written, for the reason.  The descriptor, close on exec, or a negative errno. Blocks.
 */
int listen_tcp(const char *host, uint16_t port, const char *text, int flags,
               struct err *e) MUST_CHECK;

/* --- strangers.c: connections that have not said who they are yet, counted by address, so that
 * neither one host nor all of them take what those need who have.  The owner serialises. --- */

struct stranger {
    uint8_t address[16]; /* IPv4 in the first four */
    unsigned count;
};

#define STRANGERS_MAX 1024u
struct strangers {
    unsigned max, max_of_address; /* set by the owner; STRANGERS_MAX at most */
    unsigned all, count;          /* connections; rows in use */
    struct stranger rows[STRANGERS_MAX];
};

/* False: there are as many as may be, of its address or in all. */
bool strangers_enter(struct strangers *s, const struct sockaddr_storage *who);
/* Once for each that was let in. */
void strangers_leave(struct strangers *s, const struct sockaddr_storage *who);

#define ADDRESS_TEXT_MAX 80u
/* "192.0.2.1:3260" or "[2001:db8::1]:3260"; an IPv4 peer of an IPv6 listener as what it is. */
void address_text(const struct sockaddr_storage *sa, char *out, size_t size);

#endif
