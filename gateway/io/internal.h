/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * internal: what the files of the io room know of each other.  Nobody else includes this.
 */
#ifndef SLUICE_IO_INTERNAL_H
#define SLUICE_IO_INTERNAL_H

#include "io/io.h"

/* --- homes: for the loop -------------------------------------------------------------------- */

/* Makes or reuses a home and registers it; for a loop wake_fd is an eventfd that stays with the
 * memory for ever.  NULL: ENOMEM or no descriptor left. */
struct home *home_make(enum home_kind kind, struct loop *loop);
/* Gives back a home that no thread has entered. */
void home_unmake(struct home *home);
/* The calling thread is this home's from now on. */
void home_enter(struct home *home);
/* By the home's own thread, which has none afterwards: drains, calls the exit hook, gives it back.
 */
void home_leave(struct home *home);
/* Like home_drain(), but runs at most `budget` tasks; true if there are more. */
bool home_drain_some(struct home *home, unsigned budget);
/* Announces sleep: true if the home may sleep now, false if there is work. Both end with
 * home_awake(). */
bool home_may_sleep(struct home *home);
void home_awake(struct home *home);

/* --- timers ------------------------------------------------------------------------ */

/* A heap is a pointer to the timer that is due first. */
void timer_heap_insert(struct timer **root, struct timer *timer);
void timer_heap_remove(struct timer **root, struct timer *timer);

/* --- loops: for the ring -------------------------------------------------------------------- */

struct ring;

/* Where the loop keeps its ring; NULL until the file service first needs one.  Loop's thread only.
 */
struct ring **loop_ring(struct loop *loop);

/* Once a turn, before sleeping: hands prepared entries to the kernel; true if there is more to do.
 */
bool ring_submit(struct ring *ring);
/* Once a turn, after sleeping: handles what has completed. */
void ring_reap(struct ring *ring);
/* Nothing is in flight. */
void ring_free(struct ring *ring);

#endif
