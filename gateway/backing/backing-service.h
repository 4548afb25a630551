/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * backing-service: the one loop thread that serves the sockets of all remote backings, and the ways
 * in and out of it.  Private to this room.
 *
 * The loop is made at the first open and lives as long as the process: children that libnbd starts
 * die with the thread that made them (nbdkit --exit-with-parent is PR_SET_PDEATHSIG, prctl(2), and
 * "parent" is the thread there), so that thread must outlive them all.
 */
#ifndef SLUICE_BACKING_SERVICE_H
#define SLUICE_BACKING_SERVICE_H

#include "io/io.h"

#include <signal.h>

/* The service loop, started if need be.  Only after the process has forked. */
int service_start(struct loop **out, struct err *e) MUST_CHECK;

/* Runs fn(arg) in the loop and waits until it has returned.  Not from the loop itself. */
void service_call(struct loop *loop, void (*fn)(void *arg), void *arg);

/* Runs `task` on a thread of its own: for what may block for long (a name server, the end of a
 * child).  The shared pool is for disks and must not wait for that.  0 or -errno. */
int service_detach(struct task *task) MUST_CHECK;

/* Between 3/4 and 5/4 of `ns`, so that the backings of one dead server do not knock in step. */
uint64_t service_jitter(uint64_t ns);

/* --- children ------------------------------------------------------------------------------- */

/* A child process, known by its pidfd (pidfd_open(2)), which cannot come to mean another process.
 */
struct child {
    struct list link;  /* guarded by the children's mutex */
    const void *owner; /* [I] whose it is */
    pid_t pid;
    int pidfd;
};

/* In the loop, around a call that forks and execs one child: before makes every descriptor of ours
 * close on exec and unblocks all signals for the child to inherit; after restores them and finds
 * the child.  Where that fails pidfd is -1, and the child can only be asked, not forced, to end. */
void child_before_start(sigset_t *saved);
void child_after_start(const sigset_t *saved, struct child *child);

/* What ended it, for people: "exit status 1", "signal 9"; false while it runs or nobody knows. */
bool child_how_ended(const struct child *child, char *out, size_t out_size);
/* SIGTERM, then SIGKILL if it has not ended after grace_ms.  Blocks; does not reap. */
void child_end(const struct child *child, int grace_ms);
/* Once it is reaped (or never came to be). */
void child_forget(struct child *child);
/* Is there a child of this owner that is not forgotten?  What it was told last it may still do, so
 * nothing else may work on the same data before. */
bool child_remains(const void *owner);
/* Waits until there is none, for some seconds at most. */
void child_wait(const void *owner);

/* From now on no child is started. */
bool service_is_stopping(void);
/* Ends all children; any thread, blocks for a few seconds at most. */
void service_stop(void);

#endif
