/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * role.c: holds the role, over a restart too, and gates guest I/O.  What a role means, and when it
 * changes, is decided by the replication filter; here it is a word, an epoch, a file and two
 * control events.
 *
 * Demotion never fails a request that a client could lose: new requests are held, what is in flight
 * ends, then the room above ends the clients' connections (the hook), and only then are the held
 * ones, whose answers nobody can receive any more, and all later ones, refused; those that a filter
 * holds it refuses itself, when DEMOTE is committed.  None of them may
 * wait for the next promotion: the client has long since sent it to the other gateway.
 */
#include "internal.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#define ROLE_FILE "role.json"
#define DEMOTION_WAIT_NS (UINT64_C(1) * 1000000000u)

static _Atomic(disk_role_hook *) role_hook;
static _Atomic(void *) role_hook_context;

static const char *const names[] = {[SLUICE_ROLE_PRIMARY] = "primary",
                                    [SLUICE_ROLE_SECONDARY] = "secondary",
                                    [SLUICE_ROLE_DEPOSED] = "deposed"};

const char *disk_role_name(uint32_t role)
{
    return role < ARRAY_SIZE(names) ? names[role] : "?";
}

void disk_set_role_hook(disk_role_hook *hook, void *context)
{
    atomic_store(&role_hook_context, context);
    atomic_store(&role_hook, hook);
}

static void call_hook(struct disk *disk, uint32_t role, uint64_t epoch)
{
    disk_role_hook *hook = atomic_load(&role_hook);

    if (hook)
        hook(atomic_load(&role_hook_context), disk, role, epoch);
}

uint32_t disk_role(const struct disk *disk, uint64_t *epoch)
{
    struct disk *d = (struct disk *)(uintptr_t)disk;
    SCOPED_LOCK(&d->role_mutex);

    if (epoch)
        *epoch = d->epoch;
    return d->role;
}

static void set_role(struct disk *disk, uint32_t role, uint64_t epoch)
{
    SCOPED_LOCK(&disk->role_mutex);

    disk->role = role;
    disk->epoch = epoch;
    disk->has_role = true;
}

void disk_begin_as_secondary(struct disk *disk)
{
    {
        SCOPED_LOCK(&disk->role_mutex);
        if (disk->has_role)
            return;
        disk->role = SLUICE_ROLE_SECONDARY;
    }
    engine_gate_refuse(disk->engine, true);
}

/* --- over a restart ------------------------------------------------------------------------- */

static int store_role(struct disk *disk, uint32_t role, uint64_t epoch, struct err *e)
{
    char text[120];
    int r;

    if (!disk->folder[0])
        return 0;
    snprintf(text, sizeof text, "{\"version\": 1, \"role\": \"%s\", \"epoch\": %llu}\n",
             names[role], (unsigned long long)epoch);
    r = disk_state_write(disk->folder, ROLE_FILE, text, strlen(text));
    return r < 0 ? err_set(e, -r, "cannot write %s/%s: %s", disk->folder, ROLE_FILE, strerror(-r))
                 : 0;
}

static int parse_role(struct disk *disk, json_t *j)
{
    json_int_t epoch;
    const char *name;

    if (json_unpack(j, "{s:s, s:I}", "role", &name, "epoch", &epoch) < 0)
        return -EBADMSG;
    for (uint32_t role = 0; role < ARRAY_SIZE(names); role++)
        if (strcmp(names[role], name) == 0) {
            set_role(disk, role, (uint64_t)epoch);
            return 0;
        }
    return -EBADMSG;
}

int disk_load_role(struct disk *disk, struct err *e)
{
    char text[200];
    size_t length;
    json_t *j;
    int r;

    r = disk->folder[0] ? disk_state_read(disk->folder, ROLE_FILE, text, sizeof text, &length)
                        : -ENOENT;
    if (r == -ENOENT)
        return 0;
    j = r == 0 ? json_loadb(text, length, 0, NULL) : NULL;
    r = j ? parse_role(disk, j) : -EBADMSG;
    json_decref(j);
    if (r < 0)
        return err_set(e, EBADMSG, "%s: %s/%s is damaged: which role the disk had is not known",
                       disk->name, disk->folder, ROLE_FILE);
    if (disk->role != SLUICE_ROLE_PRIMARY)
        engine_gate_refuse(disk->engine, true);
    return 0;
}

/* --- changes -------------------------------------------------------------------------------- */

static struct sluice_event make_event(uint32_t role, uint64_t epoch)
{
    struct sluice_event event = {.name = "", .epoch = epoch};

    event.kind = role == SLUICE_ROLE_PRIMARY ? SLUICE_EVENT_PROMOTE : SLUICE_EVENT_DEMOTE;
    return event;
}

/* Who asks has stepped down already, so there is no way back.  Before a planned change it has
 * waited for what was in flight; what a filter holds without a peer ends when the clients are gone.
 */
static void hold_clients(struct disk *disk)
{
    uint64_t limit_ns = MIN(disk->quiesce_limit_ns, DEMOTION_WAIT_NS);

    engine_gate_close(disk->engine, GATE_DEMOTED);
    if (engine_drain(disk->engine, clock_now_ns() + limit_ns) < 0)
        log_line(LOG_LEVEL_NOTICE,
                 "clients are sent away although requests of theirs are held disk=%s", disk->name);
}

static void serve_clients(struct disk *disk)
{
    engine_gate_refuse(disk->engine, false);
    engine_gate_open(disk->engine, GATE_DEMOTED);
}

/* Nothing has happened to a client until the filters have agreed and the file is written. */
static int demote(struct disk *disk, uint32_t role, uint64_t epoch, struct err *e)
{
    bool was_primary = disk_role(disk, NULL) == SLUICE_ROLE_PRIMARY;
    struct sluice_event event = make_event(role, epoch);
    int r;

    if (was_primary)
        hold_clients(disk);
    r = disk_event_prepare(disk, &event, e);
    if (r == 0) {
        r = store_role(disk, role, epoch, e);
        if (r < 0 && disk_event_abort(disk, event.kind, NULL) < 0)
            log_line(LOG_LEVEL_WARNING, "a demotion was given up late disk=%s", disk->name);
    }
    if (r < 0 && was_primary)
        serve_clients(disk);
    if (r < 0)
        return r;
    set_role(disk, role, epoch);
    if (was_primary) {
        call_hook(disk, role, epoch);
        engine_gate_refuse(disk->engine, true);
    }
    return disk_event_commit(disk, event.kind, e);
}

/* The file is written before anybody is served. */
static int promote(struct disk *disk, uint64_t epoch, struct err *e)
{
    bool was_primary = disk_role(disk, NULL) == SLUICE_ROLE_PRIMARY;
    struct sluice_event event = make_event(SLUICE_ROLE_PRIMARY, epoch);
    int r = disk_event(disk, &event, e);

    if (r == 0)
        r = store_role(disk, SLUICE_ROLE_PRIMARY, epoch, e);
    if (r < 0)
        return r;
    set_role(disk, SLUICE_ROLE_PRIMARY, epoch);
    if (was_primary)
        return 0;
    serve_clients(disk);
    call_hook(disk, SLUICE_ROLE_PRIMARY, epoch);
    return 0;
}

int disk_set_role(struct disk *disk, uint32_t role, uint64_t epoch, struct err *e)
{
    int r;
    SCOPED_LOCK(&disk->role_change);

    r = role == SLUICE_ROLE_PRIMARY ? promote(disk, epoch, e) : demote(disk, role, epoch, e);
    if (r < 0)
        return r;
    disk_notify(disk, "role", "role:%s epoch:%llu", names[role], (unsigned long long)epoch);
    return 0;
}

/* --- the gate ------------------------------------------------------------------------------- */

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

bool disk_gate_is_drained(struct disk *disk)
{
    return engine_gate(disk->engine) & GATE_ROLE && engine_guests_in_flight(disk->engine) == 0;
}

void disk_gate_reason(struct disk *disk, char *out, size_t out_size)
{
    SCOPED_LOCK(&disk->role_mutex);

    snprintf(out, out_size, "%s", disk->is_gated ? disk->gate_reason : "");
}
