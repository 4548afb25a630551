/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * target.c: a target's map of LUNs, and how changes of it reach the sessions that are there.
 *
 * A change is made by a control thread that holds target->control, and is brought to each nexus as
 * an errand in its home.  The thread waits until all have taken it.
 */
#include "internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

int scsi_target_create(const char *name, struct scsi_target **out, struct err *e)
{
    struct scsi_target *t;

    if (strlen(name) >= sizeof t->name)
        return err_set(e, ENAMETOOLONG, "%s: a target's name has at most %zu bytes", name,
                       sizeof t->name - 1);
    t = calloc(1, sizeof *t);
    if (!t)
        return err_set(e, ENOMEM, "%s: out of memory", name);
    snprintf(t->name, sizeof t->name, "%s", name);
    pthread_mutex_init(&t->control, NULL);
    pthread_mutex_init(&t->mutex, NULL);
    list_init(&t->nexuses);
    *out = t;
    return 0;
}

void scsi_target_free(struct scsi_target *t)
{
    for (unsigned i = 0; i < t->count; i++)
        scsi_lu_put(t->luns[i].lu);
    pthread_mutex_destroy(&t->control);
    pthread_mutex_destroy(&t->mutex);
    free(t);
}

/* --- errands to all nexuses --------------------------------------------------------------- */

/* One change on its way to one nexus. */
struct errand {
    struct task task;
    struct list link;
    struct scsi_nexus *nexus;
    struct scsi_nexus_lu *nexus_lu; /* to add, or found and removed */
    uint16_t lun;
    struct drain_watch watch;
    struct errands *all;
};

struct errands {
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    unsigned waiting;
    struct list list;
};

static void errands_init(struct errands *all)
{
    pthread_mutex_init(&all->mutex, NULL);
    pthread_cond_init(&all->cond, NULL);
    all->waiting = 0;
    list_init(&all->list);
}

static void errand_is_done(struct errand *x)
{
    struct errands *all = x->all;
    SCOPED_LOCK(&all->mutex);

    if (--all->waiting == 0)
        pthread_cond_signal(&all->cond);
}

/* One for each nexus of the target. */
static int errands_make(struct scsi_target *t, struct errands *all, uint16_t lun)
{
    SCOPED_LOCK(&t->mutex);

    LIST_FOREACH (node, &t->nexuses) {
        struct errand *x = calloc(1, sizeof *x);

        if (!x)
            return -ENOMEM;
        x->nexus = LIST_ENTRY(node, struct scsi_nexus, in_target);
        x->lun = lun;
        x->all = all;
        nexus_get(x->nexus);
        list_append(&all->list, &x->link);
    }
    return 0;
}

static void errands_run(struct errands *all, void (*run)(struct task *task))
{
    LIST_FOREACH (node, &all->list)
        all->waiting++;
    LIST_FOREACH (node, &all->list) {
        struct errand *x = LIST_ENTRY(node, struct errand, link);

        x->task.run = run;
        home_post(x->nexus->home, &x->task);
    }
    pthread_mutex_lock(&all->mutex);
    while (all->waiting)
        pthread_cond_wait(&all->cond, &all->mutex);
    pthread_mutex_unlock(&all->mutex);
}

static void errands_free(struct errands *all)
{
    LIST_FOREACH_SAFE (node, &all->list) {
        struct errand *x = LIST_ENTRY(node, struct errand, link);

        if (x->nexus_lu)
            nexus_lu_free(x->nexus_lu);
        nexus_put(x->nexus);
        free(x);
    }
    pthread_mutex_destroy(&all->mutex);
    pthread_cond_destroy(&all->cond);
}

/* --- add ---------------------------------------------------------------------------------- */

static void tell_luns_changed(struct scsi_nexus *nexus)
{
    for (unsigned i = 0; i < nexus->count; i++)
        attention_raise(nexus->lus[i], ATTENTION_LUNS_CHANGED);
}

static void add_at_home(struct task *task)
{
    struct errand *x = CONTAINER_OF(task, struct errand, task);

    if (x->nexus_lu && !x->nexus->is_closing && x->nexus->count < SCSI_LUNS_MAX) {
        tell_luns_changed(x->nexus);
        nexus_insert(x->nexus, x->nexus_lu);
        x->nexus_lu = NULL;
    }
    errand_is_done(x);
}

static int map_insert(struct scsi_target *t, uint16_t lun, struct scsi_lu *lu, struct err *e)
{
    unsigned at = 0;
    SCOPED_LOCK(&t->mutex);

    if (lun > SCSI_LUN_MAX || t->count == SCSI_LUNS_MAX)
        return err_set(e, EINVAL, "%s: no room for LUN %u: at most %u, numbered 0 to %u", t->name,
                       lun, SCSI_LUNS_MAX, SCSI_LUN_MAX);
    while (at < t->count && t->luns[at].lun < lun)
        at++;
    if (at < t->count && t->luns[at].lun == lun)
        return err_set(e, EEXIST, "%s: LUN %u is already disk %s", t->name, lun,
                       disk_name(t->luns[at].lu->disk));
    memmove(t->luns + at + 1, t->luns + at, (t->count - at) * sizeof *t->luns);
    t->luns[at] = (struct lun_entry){.lun = lun, .lu = scsi_lu_get(lu)};
    t->count++;
    return 0;
}

int scsi_target_add_lun(struct scsi_target *t, uint16_t lun, struct scsi_lu *lu, struct err *e)
{
    struct errands all;
    int r;
    SCOPED_LOCK(&t->control);

    r = map_insert(t, lun, lu, e);
    if (r < 0)
        return r;
    errands_init(&all);
    if (errands_make(t, &all, lun) < 0)
        log_line(LOG_LEVEL_WARNING, "out of memory: not every session sees LUN %u target=%s", lun,
                 t->name);
    LIST_FOREACH (node, &all.list) {
        struct errand *x = LIST_ENTRY(node, struct errand, link);

        x->nexus_lu = nexus_lu_make(x->nexus, lun, lu);
    }
    errands_run(&all, add_at_home);
    errands_free(&all);
    return 0;
}

/* --- remove ------------------------------------------------------------------------------- */

static void on_drained(struct drain_watch *watch)
{
    errand_is_done(CONTAINER_OF(watch, struct errand, watch));
}

static void remove_at_home(struct task *task)
{
    struct errand *x = CONTAINER_OF(task, struct errand, task);
    struct scsi_nexus *nexus = x->nexus;

    x->nexus_lu = nexus->is_closing ? NULL : nexus_take_out(nexus, x->lun);
    if (!x->nexus_lu) {
        errand_is_done(x);
        return;
    }
    tell_luns_changed(nexus);
    commands_abort(x->nexus_lu, NULL, true); /* nobody else has told the initiator */
    x->watch.drained = on_drained;
    nexus_lu_when_drained(x->nexus_lu, &x->watch);
}

static struct scsi_lu *map_remove(struct scsi_target *t, uint16_t lun)
{
    SCOPED_LOCK(&t->mutex);

    for (unsigned i = 0; i < t->count; i++)
        if (t->luns[i].lun == lun) {
            struct scsi_lu *lu = t->luns[i].lu;

            t->count--;
            memmove(t->luns + i, t->luns + i + 1, (t->count - i) * sizeof *t->luns);
            return lu;
        }
    return NULL;
}

int scsi_target_remove_lun(struct scsi_target *t, uint16_t lun, struct err *e)
{
    struct errands all;
    struct scsi_lu *lu;
    int r;
    SCOPED_LOCK(&t->control);

    errands_init(&all);
    r = errands_make(t, &all, lun); /* before the map changes: all or nothing */
    if (r < 0) {
        errands_free(&all);
        return err_set(e, ENOMEM, "%s: out of memory", t->name);
    }
    lu = map_remove(t, lun);
    if (!lu) {
        errands_free(&all);
        return err_set(e, ENOENT, "%s: has no LUN %u", t->name, lun);
    }
    errands_run(&all, remove_at_home);
    errands_free(&all);
    lu_send_visitors_away(lu);
    scsi_lu_put(lu);
    return 0;
}
