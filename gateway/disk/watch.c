/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * watch.c: one thread for all disks: the engine's watch every 4 ms while requests are in flight, a
 * few times a second else, and prepares from outside that nobody has ended in time.
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

static void *watch_thread(void *unused)
{
    uint64_t next_expiry = 0;

    (void)unused;
    for (;;) {
        struct timespec pause = {.tv_nsec = engine_watch_is_busy() ? BUSY_TICK_NS : IDLE_TICK_NS};
        uint64_t now = clock_now_ns();

        engine_watch_tick(now);
        if (now >= next_expiry) {
            abort_expired_everywhere();
            next_expiry = now + EXPIRY_TICK_NS;
        }
        clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
    }
    return NULL;
}

int disk_watch_start(struct err *e)
{
    int r = thread_start(NULL, watch_thread, NULL);

    return r < 0 ? err_set(e, -r, "cannot start the watch thread: %s", strerror(-r)) : 0;
}
