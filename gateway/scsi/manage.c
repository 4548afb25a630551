/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * manage.c: task management (SAM-5 clause 7).  Each nexus has a task set of its own (TST is 001b),
 * so that ABORT TASK SET and CLEAR TASK SET concern the sender's commands alone; resets concern
 * all.
 *
 * A function that reaches other nexuses visits each of them in its home, cancels there and waits
 * until what was cancelled has ended; the last visit posts the answer to the sender's home.
 */
#include "internal.h"

#include <errno.h>

struct visit {
    struct task task;
    struct drain_watch watch;
    struct list link;
    struct scsi_management *management;
    struct scsi_nexus *nexus;
    uint16_t lun;
    struct scsi_lu *lu;   /* to be sure that it is still the same; not referenced */
    const void *nexus_lu; /* only compared */
};

/* --- the answer --------------------------------------------------------------------------- */

static void answer(struct task *task)
{
    struct scsi_management *m = CONTAINER_OF(task, struct scsi_management, task);
    struct scsi_nexus *nexus = m->nexus;

    m->done(m);
    nexus_put(nexus);
}

static void one_less(struct scsi_management *m)
{
    if (atomic_fetch_sub(&m->waiting, 1) != 1)
        return;
    m->task.run = answer;
    home_post(m->nexus->home, &m->task);
}

/* --- visits ------------------------------------------------------------------------------- */

static void leave(struct visit *v)
{
    struct scsi_management *m = v->management;

    nexus_put(v->nexus);
    free(v);
    one_less(m);
}

static void on_drained(struct drain_watch *watch)
{
    leave(CONTAINER_OF(watch, struct visit, watch));
}

static bool is_reset(uint8_t function)
{
    return function == SCSI_LU_RESET || function == SCSI_TARGET_WARM_RESET ||
           function == SCSI_TARGET_COLD_RESET;
}

/* NULL: the logical unit has left that nexus meanwhile. */
static struct scsi_nexus_lu *find_visited(const struct visit *v)
{
    struct scsi_nexus_lu *n = nexus_find_lun(v->nexus, lun_to_wire(v->lun));

    return n->lu == v->lu ? n : visitor_find(v->nexus, v->nexus_lu, v->lu);
}

static void arrive(struct task *task)
{
    struct visit *v = CONTAINER_OF(task, struct visit, task);
    struct scsi_nexus_lu *n = find_visited(v);
    bool is_own = v->nexus == v->management->nexus;

    if (v->nexus->is_closing || !n) {
        leave(v);
        return;
    }
    if (is_reset(v->management->function))
        attention_raise(n, ATTENTION_RESET);
    else if (v->management->function == SCSI_NEXUS_RESET)
        attention_raise(n, ATTENTION_NEXUS_LOSS);
    commands_abort(n, NULL, !is_own && atomic_load(&n->lu->is_task_aborted_told));
    v->watch.drained = on_drained;
    nexus_lu_when_drained(n, &v->watch);
}

static int add_visit(struct list *visits, struct scsi_management *m, struct scsi_nexus_lu *n)
{
    struct visit *v = calloc(1, sizeof *v);

    if (!v)
        return -ENOMEM;
    v->management = m;
    v->nexus = n->nexus;
    v->lun = n->lun;
    v->lu = n->lu;
    v->nexus_lu = n;
    v->task.run = arrive;
    nexus_get(v->nexus);
    list_append(visits, &v->link);
    return 0;
}

static int add_all_of_lu(struct list *visits, struct scsi_management *m, struct scsi_lu *lu)
{
    SCOPED_LOCK(&lu->mutex);

    LIST_FOREACH (node, &lu->nexus_lus)
        if (add_visit(visits, m, LIST_ENTRY(node, struct scsi_nexus_lu, in_lu)) < 0)
            return -ENOMEM;
    return 0;
}

/* With -ENOMEM those that could be made go, but the function is answered as rejected. */
static void send_visits(struct list *visits, struct scsi_management *m, int error)
{
    if (error)
        m->response = SCSI_FUNCTION_REJECTED;
    LIST_FOREACH (node, visits)
        atomic_fetch_add(&m->waiting, 1);
    LIST_FOREACH_SAFE (node, visits) {
        struct visit *v = LIST_ENTRY(node, struct visit, link);

        list_remove(&v->link);
        home_post(v->nexus->home, &v->task);
    }
}

static int add_some_of_lu(struct list *visits, struct scsi_management *m, struct scsi_lu *lu,
                          bool (*is_victim)(const struct scsi_nexus_lu *n, void *arg), void *arg)
{
    SCOPED_LOCK(&lu->mutex);

    LIST_FOREACH (node, &lu->nexus_lus) {
        struct scsi_nexus_lu *n = LIST_ENTRY(node, struct scsi_nexus_lu, in_lu);

        if (is_victim(n, arg) && add_visit(visits, m, n) < 0)
            return -ENOMEM;
    }
    return 0;
}

/* --- functions ---------------------------------------------------------------------------- */

static void on_task_ended(struct drain_watch *watch)
{
    one_less(CONTAINER_OF(watch, struct scsi_management, watch));
}

static void abort_task(struct scsi_management *m)
{
    struct scsi_command *c = m->command;

    if (!c) {
        m->response = SCSI_NO_TASK;
        return;
    }
    command_stop(c);
    atomic_fetch_add(&m->waiting, 1);
    m->watch.drained = on_task_ended;
    nexus_lu_when_drained(c->nexus_lu, &m->watch);
}

static void own_task_set(struct scsi_management *m, struct scsi_nexus_lu *n)
{
    struct list visits;

    list_init(&visits);
    send_visits(&visits, m, add_visit(&visits, m, n));
}

static void reset_lu(struct scsi_management *m, struct scsi_nexus_lu *n)
{
    struct list visits;
    int error;

    list_init(&visits);
    lu_reset(n->lu);
    error = add_all_of_lu(&visits, m, n->lu);
    send_visits(&visits, m, error);
}

static void reset_all(struct scsi_management *m)
{
    for (unsigned i = 0; i < m->nexus->count; i++)
        reset_lu(m, m->nexus->lus[i]);
}

static void own_nexus(struct scsi_management *m)
{
    for (unsigned i = 0; i < m->nexus->count; i++)
        own_task_set(m, m->nexus->lus[i]);
}

static void query(struct scsi_management *m, bool is_there)
{
    m->response = is_there ? SCSI_FUNCTION_SUCCEEDED : SCSI_FUNCTION_COMPLETE;
}

static void for_one_lu(struct scsi_management *m)
{
    struct scsi_nexus_lu *n = nexus_find_lun(m->nexus, m->lun);

    if (!n->lu)
        m->response = SCSI_NO_LUN;
    else if (m->function == SCSI_LU_RESET)
        reset_lu(m, n);
    else if (m->function == SCSI_QUERY_TASK_SET)
        query(m, !list_is_empty(&n->commands));
    else if (m->function == SCSI_QUERY_ASYNC_EVENT)
        query(m, attention_peek(n) != 0);
    else
        own_task_set(m, n);
}

static void carry_out(struct scsi_management *m)
{
    switch (m->function) {
    case SCSI_ABORT_TASK:
        abort_task(m);
        break;
    case SCSI_QUERY_TASK:
        query(m, m->command != NULL);
        break;
    case SCSI_ABORT_TASK_SET:
    case SCSI_CLEAR_TASK_SET:
    case SCSI_LU_RESET:
    case SCSI_QUERY_TASK_SET:
    case SCSI_QUERY_ASYNC_EVENT:
        for_one_lu(m);
        break;
    case SCSI_TARGET_WARM_RESET:
    case SCSI_TARGET_COLD_RESET:
        reset_all(m);
        break;
    case SCSI_NEXUS_RESET:
        own_nexus(m);
        break;
    case SCSI_TASK_REASSIGN:
        m->response = SCSI_REASSIGN_NOT_SUPPORTED;
        break;
    default:
        m->response = SCSI_FUNCTION_NOT_SUPPORTED;
    }
}

/* The one that is waited for is the sender's own, so that the answer is not posted too early. */
static void begin(struct scsi_management *m)
{
    m->response = SCSI_FUNCTION_COMPLETE;
    m->waiting = 1;
    nexus_get(m->nexus);
}

void scsi_manage(struct scsi_management *m)
{
    begin(m);
    carry_out(m);
    one_less(m);
}

void manage_abort_some(struct scsi_management *m, struct scsi_lu *lu,
                       bool (*is_victim)(const struct scsi_nexus_lu *n, void *arg), void *arg)
{
    struct list visits;
    int error;

    list_init(&visits);
    begin(m);
    error = add_some_of_lu(&visits, m, lu, is_victim, arg);
    send_visits(&visits, m, error);
    one_less(m);
}
