/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * visitor.c: a logical unit of another target, used by one command of a session: an EXTENDED COPY
 * that names it.  For that time the session has an I_T_L nexus there, which no LUN leads to: it
 * opens a session of the disk, is denied what reservations deny, and task management waits for its
 * requests.  Whoever removes the logical unit waits until its visitors have left.
 */
#include "internal.h"

bool scsi_lu_visit(struct scsi_lu *lu)
{
    SCOPED_LOCK(&lu->mutex);

    if (atomic_load(&lu->is_removed))
        return false;
    lu->visitors++;
    return true;
}

/* The last look at it: who waits for that may free it. */
void scsi_lu_leave(struct scsi_lu *lu)
{
    SCOPED_LOCK(&lu->mutex);

    if (--lu->visitors == 0)
        pthread_cond_broadcast(&lu->visitors_cond);
}

void lu_send_visitors_away(struct scsi_lu *lu)
{
    SCOPED_LOCK(&lu->mutex);

    atomic_store(&lu->is_removed, true);
    while (lu->visitors)
        pthread_cond_wait(&lu->visitors_cond, &lu->mutex);
}

struct scsi_nexus_lu *visitor_open(struct scsi_nexus *nexus, struct scsi_lu *lu)
{
    struct scsi_nexus_lu *n = nexus_lu_open(nexus, SCSI_LUN_MAX, lu);

    if (!n)
        return NULL;
    nexus_get(nexus);
    nexus_lu_join(n);
    return n;
}

void visitor_enter(struct scsi_nexus_lu *n)
{
    list_append(&n->nexus->visitors, &n->in_visitors);
}

struct scsi_nexus_lu *visitor_find(struct scsi_nexus *nexus, const void *visitor,
                                   const struct scsi_lu *lu)
{
    LIST_FOREACH (node, &nexus->visitors) {
        struct scsi_nexus_lu *n = LIST_ENTRY(node, struct scsi_nexus_lu, in_visitors);

        if (n == visitor && n->lu == lu)
            return n;
    }
    return NULL;
}

static void close_on_pool(struct task *task)
{
    struct scsi_nexus_lu *n = CONTAINER_OF(task, struct scsi_nexus_lu, farewell);
    struct scsi_nexus *nexus = n->nexus;
    struct scsi_lu *lu = n->lu;

    nexus_lu_free(n);
    scsi_lu_leave(lu);
    nexus_put(nexus);
}

void visitor_close(struct scsi_nexus_lu *n)
{
    list_remove(&n->in_visitors);
    nexus_lu_part(n);
    n->farewell.run = close_on_pool;
    pool_submit(&n->farewell);
}
