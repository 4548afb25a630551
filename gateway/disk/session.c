/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * session.c: who has a disk mounted.  The first session tells the filters START, and may be refused
 * by them; the end of the last one tells them STOP.
 */
#include "internal.h"

#include <errno.h>
#include <string.h>

static void free_session(struct disk_session *s)
{
    free((void *)(uintptr_t)s->client.front_end);
    free((void *)(uintptr_t)s->client.address);
    free((void *)(uintptr_t)s->client.initiator);
    free(s);
}

static struct disk_session *make_session(struct disk *disk, const struct sluice_client *client)
{
    static _Atomic uint64_t serial;
    struct disk_session *s = calloc(1, sizeof *s);

    if (!s)
        return NULL;
    list_init(&s->link);
    s->disk = disk;
    s->opened_ns = clock_now_ns();
    s->client.front_end = strdup(client->front_end);
    s->client.address = strdup(client->address);
    s->client.initiator = strdup(client->initiator);
    s->client.window = client->window;
    s->client.session = atomic_fetch_add(&serial, 1) + 1;
    if (s->client.front_end && s->client.address && s->client.initiator)
        return s;
    free_session(s);
    return NULL;
}

/* Under sessions_mutex. */
static int check_exclusive(const struct disk *disk, bool exclusive, struct err *e)
{
    const struct disk_session *first;

    if (list_is_empty(&disk->sessions))
        return 0;
    first = LIST_ENTRY(disk->sessions.next, struct disk_session, link);
    if (!exclusive && !first->is_exclusive)
        return 0;
    return err_set(e, EBUSY, "%s: is in use by %s %s, and only one client may mount it", disk->name,
                   first->client.front_end, first->client.address);
}

static int join(struct disk *disk, struct disk_session *s, struct err *e)
{
    int r;
    SCOPED_LOCK(&disk->sessions_mutex);

    r = check_exclusive(disk, s->is_exclusive, e);
    if (r < 0)
        return r;
    list_append(&disk->sessions, &s->link);
    disk->session_count++;
    return 0;
}

static unsigned leave(struct disk *disk, struct disk_session *s)
{
    SCOPED_LOCK(&disk->sessions_mutex);

    list_remove(&s->link);
    return --disk->session_count;
}

static int tell_start(struct disk *disk, struct err *e)
{
    struct sluice_event start = {.kind = SLUICE_EVENT_START, .name = ""};
    int r = stations_prepare(disk, disk->station, disk->count, &start, SLUICE_PHASE_PREPARE, e);

    if (r == 0)
        stations_inform(disk, disk->station, disk->count, &start, SLUICE_PHASE_COMMIT);
    return r;
}

static void tell_stop(struct disk *disk)
{
    struct sluice_event stop = {.kind = SLUICE_EVENT_STOP, .name = ""};

    stations_inform(disk, disk->station, disk->count, &stop, SLUICE_PHASE_COMMIT);
}

int disk_session_open(struct disk *disk, const struct sluice_client *client, bool exclusive,
                      bool read_only, struct disk_session **out, struct err *e)
{
    struct disk_session *s = make_session(disk, client);
    int r;

    if (!s)
        return err_set(e, ENOMEM, "%s: out of memory", disk->name);
    s->is_exclusive = exclusive;
    s->is_read_only = read_only;
    pthread_mutex_lock(&disk->control);
    r = join(disk, s, e);
    if (r == 0 && disk_session_count(disk) == 1) {
        r = tell_start(disk, e);
        if (r < 0)
            leave(disk, s);
    }
    pthread_mutex_unlock(&disk->control);
    if (r < 0) {
        free_session(s);
        return r;
    }
    disk_notify(disk, "connected", "front_end:%s client:%s", client->front_end, client->address);
    *out = s;
    return 0;
}

void disk_session_close(struct disk_session *s)
{
    struct disk *disk = s->disk;

    pthread_mutex_lock(&disk->control);
    if (leave(disk, s) == 0)
        tell_stop(disk);
    pthread_mutex_unlock(&disk->control);
    disk_notify(disk, "disconnected", "front_end:%s client:%s", s->client.front_end,
                s->client.address);
    free_session(s);
}

unsigned disk_session_count(struct disk *disk)
{
    SCOPED_LOCK(&disk->sessions_mutex);

    return disk->session_count;
}

void disk_for_each_session(struct disk *disk,
                           void (*fn)(const struct disk_session *session, void *arg), void *arg)
{
    SCOPED_LOCK(&disk->sessions_mutex);

    LIST_FOREACH (node, &disk->sessions)
        fn(LIST_ENTRY(node, struct disk_session, link), arg);
}
