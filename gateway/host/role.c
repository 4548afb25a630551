/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * role.c: a filter asks for another role of its disk.  Changing it tells all filters, the asker
 * too, and takes the disk's control mutex; so it happens on a worker, and the asker learns the
 * outcome by the event it gets, or by the log when the change was refused.
 */
#include "internal.h"

#include <errno.h>

struct role_change {
    struct task task;
    struct seat *seat;
    uint32_t role;
    uint64_t epoch;
};

static void change(struct task *task)
{
    struct role_change *c = CONTAINER_OF(task, struct role_change, task);
    struct seat *seat = c->seat;
    struct err e = {0};

    workers_block();
    if (disk_set_role(seat->disk, c->role, c->epoch, &e) < 0)
        seat_log(seat, LOG_LEVEL_WARNING, "the role it asked for was refused: %s", e.text);
    workers_unblock();
    free(c);
    seat_leave(seat);
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
    *c = (struct role_change){.task.run = change, .seat = seat, .role = role, .epoch = epoch};
    workers_submit(&c->task);
    return 0;
}
