/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * events.c: what happens, for those who watch.  A watcher first gets what exists, then `exists -`,
 * then every change, one JSON document a line.  Emitting never blocks: each watcher has a bounded
 * queue, and one that does not read loses the oldest and is told how many.
 */
#include "internal.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define QUEUE_MAX 1024

struct watcher {
    struct list link;
    pthread_cond_t cond; /* with gateway.watch_mutex */
    char *queue[QUEUE_MAX];
    unsigned first, count;
    uint64_t lost;
};

static char *make_line(const char *what, const char *object, const char *name, const char *text)
{
    char stamp[40];
    struct timespec now;
    struct tm tm;
    json_t *j;
    char *line;

    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(stamp + strlen(stamp), sizeof stamp - strlen(stamp), ".%03uZ",
             (unsigned)(now.tv_nsec / 1000000) % 1000);
    j = json_pack("{s:i, s:s, s:s, s:s, s:s, s:s}", "schema_version", 1, "time", stamp, "event",
                  what, "object", object, "name", name, "text", text);
    line = j ? json_dumps(j, JSON_COMPACT | JSON_PRESERVE_ORDER) : NULL;
    json_decref(j);
    return line;
}

static void enqueue(struct watcher *w, const char *line)
{
    char *copy = strdup(line);

    if (!copy)
        return;
    if (w->count == QUEUE_MAX) {
        free(w->queue[w->first]);
        w->first = (w->first + 1) % QUEUE_MAX;
        w->count--;
        w->lost++;
    }
    w->queue[(w->first + w->count++) % QUEUE_MAX] = copy;
    pthread_cond_signal(&w->cond);
}

void events_emit(struct gateway *g, const char *what, const char *object, const char *name,
                 const char *text)
{
    char *line;
    SCOPED_LOCK(&g->watch_mutex);

    if (list_is_empty(&g->watchers))
        return;
    line = make_line(what, object, name, text);
    if (!line)
        return;
    LIST_FOREACH (node, &g->watchers)
        enqueue(LIST_ENTRY(node, struct watcher, link), line);
    free(line);
}

static void on_disk_notice(void *context, const struct disk *disk, const char *name,
                           const char *text)
{
    char line[1100];

    snprintf(line, sizeof line, "%s %s", name, text);
    events_emit(context, "change", "disk", disk_name(disk), line);
}

void events_start(struct gateway *g)
{
    disk_set_notify(on_disk_notice, g);
}

/* --- one watcher
 * ------------------------------------------------------------------------------------------- */

static bool send_line(int fd, const char *line)
{
    size_t length = strlen(line);

    while (length) {
        ssize_t n = send(fd, line, length, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        line += n;
        length -= (size_t)n;
    }
    return send(fd, "\n", 1, MSG_NOSIGNAL) == 1;
}

static bool send_existing(struct gateway *g, int fd)
{
    char *lines[4096];
    unsigned count = 0;
    bool ok = true;

    pthread_mutex_lock(&g->exports_mutex);
    LIST_FOREACH (node, &g->exports) {
        const struct gateway_export *x = LIST_ENTRY(node, struct gateway_export, link);

        if (count + 1 < ARRAY_SIZE(lines))
            lines[count++] = make_line("exists", "disk", x->name,
                                       x->state == EXPORT_FAILED ? "state:failed" : "state:ok");
    }
    pthread_mutex_unlock(&g->exports_mutex);
    lines[count++] = make_line("exists", "-", "", "");
    for (unsigned i = 0; i < count; i++) {
        ok = ok && lines[i] && send_line(fd, lines[i]);
        free(lines[i]);
    }
    return ok;
}

static bool is_gone(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLRDHUP};

    return poll(&p, 1, 0) > 0;
}

/* The next line, or NULL after a second without one (to look whether the watcher is still there).
 */
static char *next_line(struct gateway *g, struct watcher *w)
{
    uint64_t deadline = clock_now_ns() + 1000000000u;
    char *line;
    SCOPED_LOCK(&g->watch_mutex);

    while (w->count == 0)
        if (!cond_wait_until(&w->cond, &g->watch_mutex, deadline))
            return NULL;
    line = w->queue[w->first];
    w->first = (w->first + 1) % QUEUE_MAX;
    w->count--;
    return line;
}

static void leave(struct gateway *g, struct watcher *w)
{
    pthread_mutex_lock(&g->watch_mutex);
    list_remove(&w->link);
    pthread_mutex_unlock(&g->watch_mutex);
    while (w->count--) {
        free(w->queue[w->first]);
        w->first = (w->first + 1) % QUEUE_MAX;
    }
    pthread_cond_destroy(&w->cond);
    free(w);
}

void events_stream(struct gateway *g, int fd, bool is_now_only)
{
    struct watcher *w = calloc(1, sizeof *w);

    if (!w)
        return;
    pthread_cond_init(&w->cond, NULL);
    pthread_mutex_lock(&g->watch_mutex);
    list_append(&g->watchers, &w->link);
    pthread_mutex_unlock(&g->watch_mutex);
    if (send_existing(g, fd) && !is_now_only)
        while (!is_gone(fd)) {
            char *line = next_line(g, w);
            bool ok = !line || send_line(fd, line);

            free(line);
            if (!ok)
                break;
        }
    leave(g, w);
}
