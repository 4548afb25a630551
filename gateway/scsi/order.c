/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * order.c: task attributes (SAM-5 8.9), in the task set of one I_T_L nexus.  SIMPLE commands run as
 * they come.  An ORDERED one waits until all that came before it have ended, and all that comes
 * later waits for its end, but for HEAD OF QUEUE, which waits for nothing.
 *
 * The list of commands is in the order in which they came, so it says who waits for whom.  Without
 * an ORDERED command in it, as nearly always, nothing is looked at.
 */
#include "internal.h"

static bool is_ordered(const struct scsi_command *c)
{
    return c->attribute == SCSI_ORDERED;
}

/* Whether an older one holds it up: any, or one that is ordered. */
static bool is_behind(const struct scsi_command *c)
{
    LIST_FOREACH (node, &c->nexus_lu->commands) {
        const struct scsi_command *older = LIST_ENTRY(node, struct scsi_command, link);

        if (older == c)
            return false;
        if (is_ordered(c) || is_ordered(older))
            return true;
    }
    return false;
}

bool order_must_wait(const struct scsi_command *c)
{
    return c->nexus_lu->ordered && c->attribute != SCSI_HEAD_OF_QUEUE && !c->is_cancelled &&
           is_behind(c);
}

void order_enter(struct scsi_command *c)
{
    c->nexus_lu->ordered += is_ordered(c);
}

static struct scsi_command *find_ready(const struct scsi_nexus_lu *n)
{
    LIST_FOREACH (node, &n->commands) {
        struct scsi_command *c = LIST_ENTRY(node, struct scsi_command, link);

        if (command_is_waiting(c) && !order_must_wait(c))
            return c;
    }
    return NULL;
}

/* What waits is in flight, so the nexus stays until the last has gone on. */
static void release(struct task *task)
{
    struct scsi_nexus_lu *n = CONTAINER_OF(task, struct scsi_nexus_lu, release_task);
    struct scsi_command *c;

    n->is_release_posted = false;
    while (n->waiting && (c = find_ready(n)) != NULL) {
        bool is_last = --n->waiting == 0;

        command_go_on(c);
        if (is_last)
            return; /* the nexus may have gone with it */
    }
}

void order_look_again(struct scsi_nexus_lu *n)
{
    if (LIKELY(n->waiting == 0) || n->is_release_posted)
        return;
    n->is_release_posted = true;
    n->release_task.run = release;
    home_run_later(n->nexus->home, &n->release_task);
}

void order_wait(struct scsi_command *c)
{
    c->nexus_lu->waiting++;
}

void order_leave(const struct scsi_command *c)
{
    c->nexus_lu->ordered -= is_ordered(c);
    order_look_again(c->nexus_lu);
}
