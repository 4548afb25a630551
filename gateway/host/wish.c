/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * wish.c: a filter asks for a control event of its disk: one that its peer has asked it for.  It
 * takes the disk's control mutex and tells all filters, so it happens on a worker, as a change of
 * the role does (role.c); the filter is told when it has ended.
 */
#include "internal.h"

#include <errno.h>
#include <string.h>

struct wish {
    struct task task;
    struct seat *seat;
} EMBEDDED;
EMBEDDED_FITS(struct wish, sluice_wish);

static struct wish *wish_of(struct sluice_wish *wish)
{
    return (struct wish *)(void *)wish->host_private;
}

static struct sluice_wish *public_of(struct wish *w)
{
    return CONTAINER_OF(w, struct sluice_wish, host_private);
}

static int grow(struct disk *disk, const struct sluice_wish *wish, struct err *e)
{
    return disk_grow_beyond_policy(disk, wish->size_bytes, e);
}

/* It may have come from another gateway, and makes a file's name. */
static bool is_name(const struct sluice_wish *wish)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    size_t length = strnlen(wish->name, sizeof wish->name);

    return length > 0 && length < sizeof wish->name && wish->name[0] != '.' &&
           strspn(wish->name, allowed) == length;
}

static int take_snapshot(struct disk *disk, const struct sluice_wish *wish, struct err *e)
{
    return is_name(wish) ? disk_snapshot(disk, wish->name, e)
                         : err_set(e, EINVAL, "that is no name for a snapshot");
}

typedef int grant_fn(struct disk *disk, const struct sluice_wish *wish, struct err *e);
static grant_fn *const grants[SLUICE_EVENT_COUNT] = {
    [SLUICE_EVENT_RESIZE] = grow,
    [SLUICE_EVENT_SNAPSHOT] = take_snapshot,
};

static void run(struct task *task)
{
    struct wish *w = CONTAINER_OF(task, struct wish, task);
    struct sluice_wish *wish = public_of(w);
    struct seat *seat = w->seat;
    struct err e = {0};
    int r;

    workers_block();
    r = grants[wish->kind](seat->disk, wish, &e);
    wish->done(wish, -r, r < 0 ? e.text : "");
    workers_unblock();
    seat_leave(seat);
}

int seat_wish(struct seat *seat, struct sluice_wish *wish)
{
    struct wish *w = wish_of(wish);

    if (wish->kind >= SLUICE_EVENT_COUNT || !grants[wish->kind])
        return -ENOTSUP;
    if (!seat_enter(seat))
        return -ESHUTDOWN;
    *w = (struct wish){.task.run = run, .seat = seat};
    workers_submit(&w->task);
    return 0;
}
