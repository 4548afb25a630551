/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * nexus.c: I_T nexuses (sessions): the LUNs an initiator sees, and the end of it all.
 *
 * A nexus closes in three steps: its commands are cancelled in its home; when the last has ended
 * and the last errand has let go, a pool thread closes the sessions of the disks, which may block;
 * then its home tells the transport.
 */
#include "internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* --- finding ------------------------------------------------------------------------------ */

static unsigned first_at_least(const struct scsi_nexus *nexus, uint16_t lun)
{
    unsigned low = 0, high = nexus->count;

    while (low < high) {
        unsigned middle = (low + high) / 2;

        if (nexus->lus[middle]->lun < lun)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct scsi_nexus_lu *nexus_find_lun(struct scsi_nexus *nexus, uint64_t wire)
{
    uint16_t lun;
    unsigned at;

    if (UNLIKELY(!lun_parse(wire, &lun)))
        return &nexus->nowhere;
    at = first_at_least(nexus, lun);
    if (LIKELY(at < nexus->count && nexus->lus[at]->lun == lun))
        return nexus->lus[at];
    return &nexus->nowhere;
}

/* --- I_T_L nexuses ------------------------------------------------------------------------ */

static int open_session(struct scsi_nexus_lu *n, struct err *e)
{
    struct sluice_client client = {
        .front_end = "iscsi",
        .address = n->nexus->address,
        .initiator = n->nexus->initiator,
        .window = n->nexus->window,
    };

    return disk_session_open(n->lu->disk, &client, false, disk_is_read_only(n->lu->disk),
                             &n->session, e);
}

static void nexus_lu_init(struct scsi_nexus_lu *n, struct scsi_nexus *nexus, uint16_t lun)
{
    n->nexus = nexus;
    n->lun = lun;
    list_init(&n->commands);
    list_init(&n->watchers);
    list_init(&n->in_lu);
    list_init(&n->in_visitors);
}

struct scsi_nexus_lu *nexus_lu_make(struct scsi_nexus *nexus, uint16_t lun, struct scsi_lu *lu)
{
    if (nexus->may_use && !nexus->may_use(lu, nexus->arg))
        return NULL;
    return nexus_lu_open(nexus, lun, lu);
}

struct scsi_nexus_lu *nexus_lu_open(struct scsi_nexus *nexus, uint16_t lun, struct scsi_lu *lu)
{
    struct scsi_nexus_lu *n = calloc(1, sizeof *n);
    struct err e = {0};

    if (!n)
        return NULL;
    nexus_lu_init(n, nexus, lun);
    n->lu = scsi_lu_get(lu);
    if (open_session(n, &e) < 0) {
        log_line(LOG_LEVEL_WARNING, "%s: LUN %u stays hidden disk=%s initiator=%s", e.text, lun,
                 disk_name(lu->disk), nexus->initiator);
        scsi_lu_put(lu);
        free(n);
        return NULL;
    }
    n->seen_bytes = engine_size(lu->engine);
    attention_raise(n, ATTENTION_POWER_ON);
    return n;
}

void nexus_lu_free(struct scsi_nexus_lu *n)
{
    disk_session_close(n->session);
    scsi_lu_put(n->lu);
    free(n);
}

void nexus_insert(struct scsi_nexus *nexus, struct scsi_nexus_lu *n)
{
    unsigned at = first_at_least(nexus, n->lun);

    memmove(nexus->lus + at + 1, nexus->lus + at, (nexus->count - at) * sizeof(*nexus->lus));
    nexus->lus[at] = n;
    nexus->count++;
    nexus_lu_join(n);
}

void nexus_lu_join(struct scsi_nexus_lu *n)
{
    SCOPED_LOCK(&n->lu->mutex);

    list_append(&n->lu->nexus_lus, &n->in_lu);
    reservation_recompute_one(n);
}

void nexus_lu_part(struct scsi_nexus_lu *n)
{
    SCOPED_LOCK(&n->lu->mutex);

    list_remove(&n->in_lu);
}

/* Commands that were decoded and wait for their data will be told that there is no such LUN. */
static void move_to_nowhere(struct scsi_nexus_lu *n)
{
    LIST_FOREACH_SAFE (node, &n->commands) {
        struct scsi_command *c = LIST_ENTRY(node, struct scsi_command, link);

        if (command_is_started(c))
            continue;
        list_remove(&c->link);
        order_leave(c);
        list_append(&n->nexus->nowhere.commands, &c->link);
        c->nexus_lu = &n->nexus->nowhere;
        order_enter(c);
    }
}

struct scsi_nexus_lu *nexus_take_out(struct scsi_nexus *nexus, uint16_t lun)
{
    unsigned at = first_at_least(nexus, lun);
    struct scsi_nexus_lu *n;

    if (at == nexus->count || nexus->lus[at]->lun != lun)
        return NULL;
    n = nexus->lus[at];
    nexus->count--;
    memmove(nexus->lus + at, nexus->lus + at + 1, (nexus->count - at) * sizeof(*nexus->lus));
    nexus_lu_part(n);
    move_to_nowhere(n);
    return n;
}

/* --- waiting for commands to end ---------------------------------------------------------- */

static bool has_cancelled(const struct scsi_nexus_lu *n)
{
    if (n->lent)
        return true;
    LIST_FOREACH (node, &n->commands) {
        const struct scsi_command *c = LIST_ENTRY(node, struct scsi_command, link);

        if (c->is_cancelled && command_is_started(c))
            return true;
    }
    return false;
}

void nexus_lu_when_drained(struct scsi_nexus_lu *n, struct drain_watch *watch)
{
    if (has_cancelled(n))
        list_append(&n->watchers, &watch->link);
    else
        watch->drained(watch);
}

static void tell_drained(struct scsi_nexus_lu *n)
{
    struct list told;

    list_init(&told);
    list_splice(&told, &n->watchers);
    while (!list_is_empty(&told)) {
        struct drain_watch *watch = LIST_ENTRY(told.next, struct drain_watch, link);

        list_remove(&watch->link);
        watch->drained(watch); /* n may be gone after the last */
    }
}

void nexus_lu_settle(struct scsi_nexus_lu *n)
{
    struct scsi_nexus *nexus = n->nexus;

    if (UNLIKELY(!list_is_empty(&n->watchers)) && !has_cancelled(n))
        tell_drained(n);
    if (UNLIKELY(nexus->is_closing) && nexus->in_flight == 0)
        nexus_put(nexus);
}

/* --- open --------------------------------------------------------------------------------- */

static struct scsi_nexus *nexus_make(struct scsi_target *t, const struct scsi_nexus_settings *s)
{
    struct scsi_nexus *nexus = calloc(1, sizeof *nexus);

    if (!nexus)
        return NULL;
    nexus->references = 1;
    nexus->target = t;
    nexus->home = s->home;
    snprintf(nexus->initiator, sizeof nexus->initiator, "%s", s->initiator);
    nexus->window = s->window;
    snprintf(nexus->address, sizeof nexus->address, "%s", s->address);
    memcpy(nexus->isid, s->isid, sizeof nexus->isid);
    nexus->portal_group = s->portal_group;
    nexus->may_use = s->may_use;
    nexus->find_elsewhere = s->find_elsewhere;
    nexus->arg = s->arg;
    list_init(&nexus->in_target);
    list_init(&nexus->visitors);
    nexus_lu_init(&nexus->nowhere, nexus, 0);
    return nexus;
}

/* The map cannot change meanwhile: the caller holds target->control. */
static void see_luns(struct scsi_nexus *nexus)
{
    for (unsigned i = 0; i < nexus->target->count; i++) {
        const struct lun_entry *entry = &nexus->target->luns[i];
        struct scsi_nexus_lu *n = nexus_lu_make(nexus, entry->lun, entry->lu);

        if (n)
            nexus_insert(nexus, n);
    }
}

int scsi_nexus_open(struct scsi_target *t, const struct scsi_nexus_settings *settings,
                    struct scsi_nexus **out, struct err *e)
{
    struct scsi_nexus *nexus = nexus_make(t, settings);
    SCOPED_LOCK(&t->control);

    if (!nexus)
        return err_set(e, ENOMEM, "%s: out of memory", t->name);
    see_luns(nexus);
    pthread_mutex_lock(&t->mutex);
    list_append(&t->nexuses, &nexus->in_target);
    pthread_mutex_unlock(&t->mutex);
    *out = nexus;
    return 0;
}

/* --- close -------------------------------------------------------------------------------- */

static void tell_closed(struct task *task)
{
    struct scsi_nexus *nexus = CONTAINER_OF(task, struct scsi_nexus, task);
    void (*closed)(void *arg) = nexus->closed;
    void *arg = nexus->closed_arg;

    free(nexus);
    closed(arg);
}

/* On a pool thread: filters are told STOP, which may take its time. */
static void close_sessions(struct task *task)
{
    struct scsi_nexus *nexus = CONTAINER_OF(task, struct scsi_nexus, task);

    for (unsigned i = 0; i < nexus->count; i++)
        nexus_lu_free(nexus->lus[i]);
    nexus->task.run = tell_closed;
    home_post(nexus->home, &nexus->task);
}

void nexus_get(struct scsi_nexus *nexus)
{
    atomic_fetch_add(&nexus->references, 1);
}

void nexus_put(struct scsi_nexus *nexus)
{
    if (atomic_fetch_sub(&nexus->references, 1) != 1)
        return;
    nexus->task.run = close_sessions;
    pool_submit(&nexus->task);
}

void scsi_nexus_close(struct scsi_nexus *nexus, void (*done)(void *arg), void *arg)
{
    nexus->closed = done;
    nexus->closed_arg = arg;
    pthread_mutex_lock(&nexus->target->mutex);
    list_remove(&nexus->in_target);
    pthread_mutex_unlock(&nexus->target->mutex);
    for (unsigned i = 0; i < nexus->count; i++) {
        nexus_lu_part(nexus->lus[i]);
        reserve6_end(nexus->lus[i]->lu, nexus);
        commands_abort(nexus->lus[i], NULL, false);
    }
    commands_abort(&nexus->nowhere, NULL, false);
    nexus->is_closing = true;
    if (nexus->in_flight == 0)
        nexus_put(nexus);
}

unsigned scsi_nexus_in_flight(const struct scsi_nexus *nexus)
{
    return nexus->in_flight;
}
