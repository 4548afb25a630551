/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * role.c: a filter asks for another role of its disk.  Changing it tells all filters, the asker
 * too, and takes the disk's control mutex; so it happens on a worker, and the asker learns the
 * outcome by the event it gets, or by the log when the change was refused.
 *
 * One filter's wishes are granted one after the other, in their order: a change waits for hooks,
 * and one that overtook another would leave the disk in the role of an earlier time.
 */
#include "internal.h"

#include <errno.h>

struct role_change {
    struct task task;
    struct list link; /* in seat.role_changes */
    struct seat *seat;
    uint32_t role;
    uint64_t epoch;
};

static void change(struct role_change *c)
{
    struct err e = {0};

    if (disk_set_role(c->seat->disk, c->role, c->epoch, &e) < 0)
        seat_log(c->seat, LOG_LEVEL_WARNING, "the role it asked for was refused: %s", e.text);
}

/* NULL: none is left, and the next one needs a worker of its own. */
static struct role_change *next_change(struct seat *seat)
{
    struct role_change *c = NULL;
    SCOPED_LOCK(&seat->mutex);

    if (list_is_empty(&seat->role_changes)) {
        seat->role_is_changing = false;
    } else {
        c = LIST_ENTRY(seat->role_changes.next, struct role_change, link);
        list_remove(&c->link);
    }
    return c;
}

static void change_all(struct task *task)
{
    struct role_change *c = CONTAINER_OF(task, struct role_change, task);
    struct seat *seat = c->seat;

    workers_block();
    while (c) {
        struct role_change *next;

        change(c);
        next = next_change(seat);
        free(c);
        if (next)
            seat_leave(seat); /* the next one has entered it too */
        c = next;
    }
    workers_unblock();
    seat_leave(seat);
}

/* The first one takes a worker; true: this is it. */
static bool append(struct seat *seat, struct role_change *c)
{
    bool is_first;
    SCOPED_LOCK(&seat->mutex);

    is_first = !seat->role_is_changing;
    seat->role_is_changing = true;
    if (!is_first)
        list_append(&seat->role_changes, &c->link);
    return is_first;
}

int seat_role_request(struct seat *seat, uint32_t role, uint64_t epoch, struct err *e)
{
    struct role_change *c;

    if (role > SLUICE_ROLE_DEPOSED)
        return err_set(e, EINVAL, "there is no role %u", role);
    c = calloc(1, sizeof *c);
    if (!c)
        return err_set(e, ENOMEM, "out of memory");
    if (!seat_enter(seat)) {
        free(c);
        return err_set(e, ESHUTDOWN, "the filter is being closed");
    }
    *c = (struct role_change){.task.run = change_all, .seat = seat, .role = role, .epoch = epoch};
    if (append(seat, c))
        workers_submit(&c->task);
    return 0;
}
