/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * event.c: control events in two phases.  Prepare goes to each filter in class order; the first
 * refusal aborts those already told, in reverse; else all commit.
 *
 * A filter's event callback may block, so each call has a thread of its own and a time limit.  One
 * that does not answer in time counts as refusing; its thread goes on, and until it returns every
 * further event to that station is refused at once, but a START: a client that comes while the
 * filter is still busy with the end of the one before waits for it.
 */
#include "internal.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define DEMOTION_LIMIT_NS (UINT64_C(15) * 1000000000u) /* longer than it takes */

static const char *const event_names[SLUICE_EVENT_COUNT] = {
    [SLUICE_EVENT_ATTACH] = "attach",
    [SLUICE_EVENT_DETACH] = "detach",
    [SLUICE_EVENT_START] = "start",
    [SLUICE_EVENT_STOP] = "stop",
    [SLUICE_EVENT_SNAPSHOT] = "snapshot",
    [SLUICE_EVENT_RESIZE] = "resize",
    [SLUICE_EVENT_PROMOTE] = "promote",
    [SLUICE_EVENT_DEMOTE] = "demote",
    [SLUICE_EVENT_POLICY_CHANGE] = "policy-change",
    [SLUICE_EVENT_QUIESCE] = "quiesce",
    [SLUICE_EVENT_RESUME] = "resume",
    [SLUICE_EVENT_BEFORE_UPGRADE] = "before-upgrade",
    [SLUICE_EVENT_AFTER_UPGRADE] = "after-upgrade",
    [SLUICE_EVENT_MIGRATE] = "migrate",
    [SLUICE_EVENT_SANITIZE] = "sanitize",
};

const char *disk_event_name(uint32_t kind)
{
    return kind < SLUICE_EVENT_COUNT ? event_names[kind] : "unknown";
}

uint32_t disk_event_parse(const char *word)
{
    uint32_t kind = 0;

    while (kind < SLUICE_EVENT_COUNT && strcmp(word, event_names[kind]) != 0)
        kind++;
    return kind;
}

/* --- one call, with a time limit
 * --------------------------------------------------------------------- */

/* Shared by the caller and the call's thread; the last of the two frees it. */
struct call {
    pthread_mutex_t mutex;
    pthread_cond_t done_cond;
    unsigned users;
    bool is_done;
    int result;
    struct station *station;
    struct sluice_event event;
    char name[128];
    struct err error;
};

static void call_put(struct call *c)
{
    unsigned left;

    pthread_mutex_lock(&c->mutex);
    left = --c->users;
    pthread_mutex_unlock(&c->mutex);
    if (left)
        return;
    pthread_cond_destroy(&c->done_cond);
    pthread_mutex_destroy(&c->mutex);
    free(c);
}

static void *call_thread(void *arg)
{
    struct call *c = arg;
    struct station *s = c->station;
    /* struct sluice_error is struct err to everybody but the filters. */
    int r = s->filter->event(s->instance, &c->event, (struct sluice_error *)(void *)&c->error);

    pthread_mutex_lock(&c->mutex);
    c->result = r;
    c->is_done = true;
    atomic_store(&s->is_event_running, false);
    pthread_cond_signal(&c->done_cond);
    pthread_mutex_unlock(&c->mutex);
    call_put(c);
    return NULL;
}

static struct call *call_create(struct station *s, const struct sluice_event *event, uint32_t phase)
{
    struct call *c = calloc(1, sizeof *c);

    if (!c)
        return NULL;
    pthread_mutex_init(&c->mutex, NULL);
    pthread_cond_init(&c->done_cond, NULL);
    c->users = 1;
    c->station = s;
    c->event = *event;
    c->event.phase = phase;
    snprintf(c->name, sizeof c->name, "%s", event->name ? event->name : "");
    c->event.name = c->name;
    return c;
}

static int call_start(struct call *c)
{
    int r;

    c->users++;
    r = thread_start(NULL, call_thread, c);
    if (r < 0)
        c->users--;
    return r;
}

static bool call_wait(struct call *c, uint64_t deadline_ns)
{
    SCOPED_LOCK(&c->mutex);

    while (!c->is_done && cond_wait_until(&c->done_cond, &c->mutex, deadline_ns))
        ;
    return c->is_done;
}

static int call_result(struct call *c, uint64_t deadline_ns, uint64_t limit_ns, struct err *e)
{
    const char *event = disk_event_name(c->event.kind);

    if (!call_wait(c, deadline_ns))
        return err_set(e, ETIMEDOUT, "filter %s: no answer to %s within %g s", c->station->name,
                       event, (double)limit_ns / 1e9);
    if (c->result == 0)
        return 0;
    return err_set(e, c->result < 0 ? -c->result : EIO, "filter %s: %s", c->station->name,
                   c->error.text[0] ? c->error.text : strerror(c->result < 0 ? -c->result : EIO));
}

/* False: another event is still running when the time is up. */
static bool take_turn(struct station *s, uint32_t kind, uint64_t deadline_ns)
{
    struct timespec pause = {.tv_nsec = 5000000};

    while (atomic_exchange(&s->is_event_running, true)) {
        if (kind != SLUICE_EVENT_START || clock_now_ns() > deadline_ns)
            return false;
        nanosleep(&pause, NULL);
    }
    return true;
}

int station_tell(struct disk *disk, struct station *s, const struct sluice_event *event,
                 uint32_t phase, struct err *e)
{
    uint64_t limit = disk->event_limit_ns, deadline;
    struct call *c;
    int r;

    if (!s->filter->event)
        return 0;
    if (phase == SLUICE_PHASE_PREPARE_LONG)
        limit = UINT64_C(3600) * 1000000000u;
    deadline = clock_now_ns() + limit;
    if (!take_turn(s, event->kind, deadline))
        return err_set(e, EBUSY, "filter %s: still busy with an earlier event", s->name);
    c = call_create(s, event, phase);
    if (!c) {
        atomic_store(&s->is_event_running, false);
        return err_set(e, ENOMEM, "filter %s: out of memory", s->name);
    }
    c->event.deadline_ns = deadline;
    r = call_start(c);
    if (r < 0) {
        atomic_store(&s->is_event_running, false);
        err_set(e, -r, "filter %s: cannot start a thread: %s", s->name, strerror(-r));
    } else {
        r = call_result(c, deadline, limit, e);
    }
    call_put(c);
    return r;
}

void station_inform(struct disk *disk, struct station *s, const struct sluice_event *event,
                    uint32_t phase)
{
    struct err e = {0};

    if (station_tell(disk, s, event, phase, &e) < 0)
        log_line(LOG_LEVEL_WARNING, "%s: %s disk=%s", disk_event_name(event->kind), e.text,
                 disk->name);
}

int stations_prepare(struct disk *disk, struct station *const *stations, unsigned count,
                     const struct sluice_event *event, uint32_t phase, struct err *e)
{
    for (unsigned i = 0; i < count; i++) {
        int r = station_tell(disk, stations[i], event, phase, e);

        if (r == 0)
            continue;
        while (i-- > 0)
            station_inform(disk, stations[i], event, SLUICE_PHASE_ABORT);
        return r;
    }
    return 0;
}

void stations_inform(struct disk *disk, struct station *const *stations, unsigned count,
                     const struct sluice_event *event, uint32_t phase)
{
    for (unsigned i = 0; i < count; i++)
        station_inform(disk, stations[i], event, phase);
}

/* --- whole events
 * -------------------------------------------------------------------------------------------- */

static bool has_long_phase(uint32_t kind)
{
    return kind == SLUICE_EVENT_SNAPSHOT;
}

static int flush_for_snapshot(struct disk *disk, struct err *e)
{
    struct station *last = disk->count ? disk->station[disk->count - 1] : NULL;
    int error = flush_as_maintenance(disk, NULL);

    if (!error && last)
        error = flush_as_maintenance(disk, last);
    return error ? err_set(e, error, "flush before the snapshot failed: %s", strerror(error)) : 0;
}

/* Long phase while serving, quiesce, prepare, flush. On error everything runs again. */
static int snapshot_prepare(struct disk *disk, const struct sluice_event *event, struct err *e)
{
    int r = stations_prepare(disk, disk->station, disk->count, event, SLUICE_PHASE_PREPARE_LONG, e);

    if (r < 0)
        return r;
    r = quiesce_begin(disk, e);
    if (r < 0)
        stations_inform(disk, disk->station, disk->count, event, SLUICE_PHASE_ABORT);
    if (r < 0)
        return r;
    r = stations_prepare(disk, disk->station, disk->count, event, SLUICE_PHASE_PREPARE, e);
    if (r == 0) {
        r = flush_for_snapshot(disk, e);
        if (r < 0)
            stations_inform(disk, disk->station, disk->count, event, SLUICE_PHASE_ABORT);
    }
    if (r < 0)
        quiesce_end(disk);
    return r;
}

static int prepare(struct disk *disk, const struct sluice_event *event, struct err *e)
{
    if (has_long_phase(event->kind))
        return snapshot_prepare(disk, event, e);
    return stations_prepare(disk, disk->station, disk->count, event, SLUICE_PHASE_PREPARE, e);
}

static void conclude(struct disk *disk, const struct sluice_event *event, uint32_t phase)
{
    stations_inform(disk, disk->station, disk->count, event, phase);
    if (has_long_phase(event->kind))
        quiesce_end(disk);
}

/* It ends by itself: its hook has a limit of 10 s, and the clients before it one of theirs. */
static void await_demotion(struct disk *disk)
{
    const struct prepared *demotion = &disk->prepared[SLUICE_EVENT_DEMOTE];
    uint64_t until_ns = clock_now_ns() + DEMOTION_LIMIT_NS;

    while (demotion->is_held && cond_wait_until(&disk->demoted, &disk->control, until_ns))
        ;
}

int disk_refuse_if_prepared(struct disk *disk, struct err *e)
{
    await_demotion(disk);
    for (uint32_t kind = 0; kind < SLUICE_EVENT_COUNT; kind++)
        if (disk->prepared[kind].is_held)
            return err_set(e, EBUSY, "%s: a prepared %s waits for its commit or abort", disk->name,
                           disk_event_name(kind));
    return 0;
}

int disk_event(struct disk *disk, const struct sluice_event *event, struct err *e)
{
    int r;
    SCOPED_LOCK(&disk->control);

    r = disk_refuse_if_prepared(disk, e);
    if (r == 0)
        r = prepare(disk, event, e);
    if (r == 0)
        conclude(disk, event, SLUICE_PHASE_COMMIT);
    return r;
}

int disk_event_prepare(struct disk *disk, const struct sluice_event *event, struct err *e)
{
    struct prepared *p = &disk->prepared[event->kind];
    int r;
    SCOPED_LOCK(&disk->control);

    r = disk_refuse_if_prepared(disk, e);
    if (r == 0)
        r = prepare(disk, event, e);
    if (r < 0)
        return r;
    p->is_held = true;
    p->event = *event;
    snprintf(p->name, sizeof p->name, "%s", event->name ? event->name : "");
    p->event.name = p->name;
    p->abort_at_ns = clock_now_ns() + disk->prepare_ttl_ns;
    disk_notify(disk, "prepared", "event:%s", disk_event_name(event->kind));
    return 0;
}

static int end_prepared(struct disk *disk, uint32_t kind, uint32_t phase, struct err *e)
{
    struct prepared *p = &disk->prepared[kind];
    SCOPED_LOCK(&disk->control);

    if (!p->is_held)
        return err_set(e, ENOENT, "%s: no prepared %s (its time may have run out)", disk->name,
                       disk_event_name(kind));
    p->is_held = false;
    conclude(disk, &p->event, phase);
    pthread_cond_broadcast(&disk->demoted);
    disk_notify(disk, phase == SLUICE_PHASE_COMMIT ? "committed" : "aborted", "event:%s",
                disk_event_name(kind));
    return 0;
}

int disk_event_commit(struct disk *disk, uint32_t kind, struct err *e)
{
    return end_prepared(disk, kind, SLUICE_PHASE_COMMIT, e);
}

int disk_event_abort(struct disk *disk, uint32_t kind, struct err *e)
{
    return end_prepared(disk, kind, SLUICE_PHASE_ABORT, e);
}

/* The expiry thread, when `control` is free: prepares whose time has run out. */
void disk_abort_expired(struct disk *disk)
{
    uint64_t now = clock_now_ns();

    if (pthread_mutex_trylock(&disk->control) != 0)
        return;
    for (uint32_t kind = 0; kind < SLUICE_EVENT_COUNT; kind++) {
        struct prepared *p = &disk->prepared[kind];

        if (!p->is_held || now < p->abort_at_ns)
            continue;
        p->is_held = false;
        log_line(LOG_LEVEL_WARNING,
                 "a prepared %s was neither committed nor aborted in time: aborted disk=%s",
                 disk_event_name(kind), disk->name);
        conclude(disk, &p->event, SLUICE_PHASE_ABORT);
        pthread_cond_broadcast(&disk->demoted);
        disk_notify(disk, "aborted", "event:%s reason:expired", disk_event_name(kind));
    }
    pthread_mutex_unlock(&disk->control);
}

static bool has_station(const struct disk *disk, const char *name)
{
    for (unsigned i = 0; i < disk->count; i++)
        if (strcmp(disk->station[i]->name, name) == 0)
            return true;
    return false;
}

int disk_may_be_sanitized(struct disk *disk, struct err *e)
{
    char path[PATH_MAX + 16];
    const struct dirent *entry;
    int r = 0;
    DIR *folder;
    SCOPED_LOCK(&disk->control);

    snprintf(path, sizeof path, "%s/filters", disk->folder);
    folder = disk->folder[0] ? opendir(path) : NULL;
    if (!folder)
        return 0;
    while (r == 0 && (entry = readdir(folder)))
        if (entry->d_name[0] != '.' && !has_station(disk, entry->d_name))
            r = err_set(e, ENOTEMPTY,
                        "%s: %s/%s is left of a filter that the disk has no more, and may hold old "
                        "data; remove it, and what that filter kept elsewhere, then order again",
                        disk->name, path, entry->d_name);
    closedir(folder);
    return r;
}

static int sanitize_prepare(struct disk *disk, const struct sluice_event *event, struct err *e)
{
    int answer = 0;

    for (unsigned i = 0; i < disk->count; i++) {
        int r = station_tell(disk, disk->station[i], event, SLUICE_PHASE_PREPARE, e);

        if (r == -EAGAIN)
            answer = r;
        else if (r < 0)
            return r;
    }
    return answer;
}

int disk_sanitize(struct disk *disk, struct err *e)
{
    struct sluice_event event = {.kind = SLUICE_EVENT_SANITIZE, .name = ""};
    int r;
    SCOPED_LOCK(&disk->control);

    if (disk->is_stopped)
        return err_set(e, ESHUTDOWN, "%s: the gateway stops", disk->name);
    r = sanitize_prepare(disk, &event, e);
    if (r != -EAGAIN)
        stations_inform(disk, disk->station, disk->count, &event,
                        r == 0 ? SLUICE_PHASE_COMMIT : SLUICE_PHASE_ABORT);
    return r;
}

void disk_sanitize_abort(struct disk *disk)
{
    struct sluice_event event = {.kind = SLUICE_EVENT_SANITIZE, .name = ""};
    SCOPED_LOCK(&disk->control);

    stations_inform(disk, disk->station, disk->count, &event, SLUICE_PHASE_ABORT);
}

int disk_policy_change(struct disk *disk, struct station *station,
                       const struct sluice_value *values, struct err *e)
{
    struct sluice_event event = {.kind = SLUICE_EVENT_POLICY_CHANGE, .name = "", .values = values};
    int r;
    SCOPED_LOCK(&disk->control);

    r = station_tell(disk, station, &event, SLUICE_PHASE_PREPARE, e);
    if (r == 0)
        station_inform(disk, station, &event, SLUICE_PHASE_COMMIT);
    return r;
}
