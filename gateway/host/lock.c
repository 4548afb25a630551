/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lock.c: range locks of filters.  A lock that is free is granted inside lock_range(); one that has
 * to wait is granted from another thread's unlock, under the range lock's mutex, and so only posts
 * to the loop where granted() then runs.
 *
 * A lock is the filter's until it unlocks it after granted(); the list of held ones is there for
 * those who forget: it would otherwise point into freed memory for ever.
 */
#include "internal.h"

struct held_lock {
    struct range_entry entry;
    struct task task;
    struct seat *seat;
    struct list link; /* [M] */
} EMBEDDED;
EMBEDDED_FITS(struct held_lock, sluice_lock);

static struct held_lock *held_of(struct sluice_lock *lock)
{
    return (struct held_lock *)(void *)lock->host_private;
}

static struct sluice_lock *lock_of(struct held_lock *held)
{
    return CONTAINER_OF(held, struct sluice_lock, host_private);
}

static void on_granted(struct task *task)
{
    struct held_lock *held = CONTAINER_OF(task, struct held_lock, task);
    struct seat *seat = held->seat;
    struct sluice_lock *lock = lock_of(held);

    lock->granted(lock); /* may unlock and free it */
    seat_leave(seat);
}

static void post_granted(struct range_entry *entry)
{
    struct held_lock *held = CONTAINER_OF(entry, struct held_lock, entry);

    home_post(service_home(held->seat->service), &held->task);
}

static void fill_entry(struct held_lock *held, const struct sluice_lock *lock)
{
    held->entry = (struct range_entry){
        .first = lock->offset,
        .last = lock->offset + MAX(lock->length, 1u) - 1,
        .is_shared = lock->is_shared,
        .granted = post_granted,
    };
    held->task.run = on_granted;
}

static void remember(struct seat *seat, struct held_lock *held)
{
    SCOPED_LOCK(&seat->mutex);

    list_append(&seat->locks, &held->link);
}

static void forget(struct seat *seat, struct held_lock *held)
{
    SCOPED_LOCK(&seat->mutex);

    list_remove(&held->link);
}

void seat_lock_range(struct seat *seat, struct sluice_lock *lock)
{
    struct held_lock *held = held_of(lock);

    atomic_fetch_add(&seat->users, 1); /* until granted() has run; a filter calls us: seat lives */
    held->seat = seat;
    fill_entry(held, lock);
    remember(seat, held);
    if (!engine_lock_range(disk_engine(seat->disk), &held->entry))
        return;
    lock->granted(lock);
    seat_leave(seat);
}

void seat_unlock_range(struct seat *seat, struct sluice_lock *lock)
{
    struct held_lock *held = held_of(lock);

    forget(seat, held);
    engine_unlock_range(disk_engine(seat->disk), &held->entry);
}

/* At the end, when nothing waits any more. Returns how many were still held. */
unsigned seat_drop_locks(struct seat *seat)
{
    unsigned count = 0;

    while (!list_is_empty(&seat->locks)) {
        struct held_lock *held = LIST_ENTRY(seat->locks.next, struct held_lock, link);

        count++;
        seat_unlock_range(seat, lock_of(held));
    }
    return count;
}
