/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * role.c: holds the role and gates guest I/O.  What a role means, and when it changes, is decided
 * by the replication filter; here it is a word, an epoch and two control events.
 */
#include "internal.h"

#include <stdio.h>

uint32_t disk_role(const struct disk *disk, uint64_t *epoch)
{
    struct disk *d = (struct disk *)(uintptr_t)disk;
    SCOPED_LOCK(&d->role_mutex);

    if (epoch)
        *epoch = d->epoch;
    return d->role;
}

static void store_role(struct disk *disk, uint32_t role, uint64_t epoch)
{
    SCOPED_LOCK(&disk->role_mutex);

    disk->role = role;
    disk->epoch = epoch;
}

int disk_set_role(struct disk *disk, uint32_t role, uint64_t epoch, struct err *e)
{
    struct sluice_event event = {.name = "", .epoch = epoch};
    int r;

    event.kind = role == SLUICE_ROLE_PRIMARY ? SLUICE_EVENT_PROMOTE : SLUICE_EVENT_DEMOTE;
    r = disk_event(disk, &event, e);
    if (r < 0)
        return r;
    store_role(disk, role, epoch);
    disk_notify(disk, "role", "role:%u epoch:%llu", role, (unsigned long long)epoch);
    return 0;
}

void disk_gate(struct disk *disk, bool is_closed, const char *reason)
{
    {
        SCOPED_LOCK(&disk->role_mutex);
        disk->is_gated = is_closed;
        snprintf(disk->gate_reason, sizeof disk->gate_reason, "%s",
                 is_closed && reason ? reason : "");
    }
    if (is_closed)
        engine_gate_close(disk->engine, GATE_ROLE);
    else
        engine_gate_open(disk->engine, GATE_ROLE);
    disk_notify(disk, is_closed ? "gated" : "ungated", "reason:%s",
                is_closed && reason ? reason : "");
}

void disk_gate_reason(struct disk *disk, char *out, size_t out_size)
{
    SCOPED_LOCK(&disk->role_mutex);

    snprintf(out, out_size, "%s", disk->is_gated ? disk->gate_reason : "");
}
