/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * space.c: once a second, what the disks that are LUNs have left of the file systems in which they
 * lie. A thread of its own, as a network file system may keep it waiting: the ticker has a
 * watchdog.
 */
#include "internal.h"

#include <stdlib.h>

#define PAUSE_S 1
#define EXPORTS_MAX 4096u

static bool is_lun(struct gateway_export *x, unsigned *low_percent)
{
    SCOPED_LOCK(&x->gateway->exports_mutex);

    *low_percent = x->policy->iscsi.low_space_percent;
    return x->state == EXPORT_READY && x->policy->iscsi.is_enabled;
}

static void look_at(struct gateway_export *x)
{
    struct backing_space space;
    unsigned percent;

    pthread_rwlock_rdlock(&x->use);
    if (is_lun(x, &percent) && backing_space(disk_backing(x->disk), &space)) {
        struct scsi_space told = {
            .used_bytes = space.used_bytes,
            .available_bytes = space.available_bytes,
            .threshold_bytes = space.total_bytes * percent / 100,
        };

        iscsi_lun_set_space(x->gateway->iscsi, x->disk, &told);
    }
    pthread_rwlock_unlock(&x->use);
}

static void *space_thread(void *arg)
{
    struct gateway_export **list = calloc(EXPORTS_MAX, sizeof(struct gateway_export *));
    const struct timespec pause = {.tv_sec = PAUSE_S};
    struct gateway *g = arg;

    while (list && !atomic_load(&g->is_stopping)) {
        unsigned count = exports_take(g, NULL, list, EXPORTS_MAX);

        for (unsigned i = 0; i < count; i++) {
            look_at(list[i]);
            gateway_export_release(list[i]);
        }
        clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
    }
    free(list);
    return NULL;
}

int space_start(struct gateway *g, struct err *e)
{
    return g->iscsi ? control_start_thread(space_thread, g, e) : 0;
}
