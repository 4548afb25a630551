/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * watch.c: two threads for all disks: the engine's watch, every 4 ms while requests are in flight,
 * a few times a second else; and one that ends prepares from outside whose time has run out.
 */
#include "internal.h"

#include <errno.h>
#include <string.h>

#define BUSY_TICK_NS 4000000u
#define IDLE_TICK_NS 50000000u
#define EXPIRY_TICK_NS 200000000u

static pthread_mutex_t disks_mutex = PTHREAD_MUTEX_INITIALIZER; /* all_disks */
static struct list all_disks = {&all_disks, &all_disks};

void watch_add_disk(struct disk *disk)
{
    SCOPED_LOCK(&disks_mutex);

    list_append(&all_disks, &disk->link);
}

void watch_remove_disk(struct disk *disk)
{
    SCOPED_LOCK(&disks_mutex);

    list_remove(&disk->link);
}

static void abort_expired_everywhere(void)
{
    SCOPED_LOCK(&disks_mutex);

    LIST_FOREACH (node, &all_disks)
        disk_abort_expired(LIST_ENTRY(node, struct disk, link));
}

/* A thread of its own: an abort waits for filters, and the watch must not. */
static void *expiry_thread(void *unused)
{
    const struct timespec pause = {.tv_nsec = EXPIRY_TICK_NS};

    (void)unused;
    for (;;) {
        abort_expired_everywhere();
        clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
    }
    return NULL;
}

static void *watch_thread(void *unused)
{
    (void)unused;
    for (;;) {
        struct timespec pause = {.tv_nsec = engine_watch_is_busy() ? BUSY_TICK_NS : IDLE_TICK_NS};

        engine_watch_tick(clock_now_ns());
        clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
    }
    return NULL;
}

int disk_watch_start(struct err *e)
{
    int r = thread_start(NULL, watch_thread, NULL);

    if (r == 0)
        r = thread_start(NULL, expiry_thread, NULL);
    return r < 0 ? err_set(e, -r, "cannot start the watch thread: %s", strerror(-r)) : 0;
}
