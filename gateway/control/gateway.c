/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * gateway.c: the life of a gateway: load, start, signals, stop.
 *
 * Signal handlers only write an eventfd; one thread reads it and reloads or stops.  Stopping never
 * fails a client's request: every disk holds what comes, drains, flushes and is marked clean; then
 * the process leaves and clients replay against the next one.
 */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>

#define STOP_LIMIT_NS (UINT64_C(10) * 1000000000u)
/* After the drain: filters' events and the last flush. */
#define FLUSH_LIMIT_NS (UINT64_C(30) * 1000000000u)
/* For the step that a reload is at. */
#define CHANGE_LIMIT_NS (UINT64_C(10) * 1000000000u)
/* A backing that does not answer keeps its disk from being served, not the gateway. */
#define START_WAIT_NS (UINT64_C(5) * 1000000000u)
#define SERVICE_LOOPS 2
#define WORKERS 4

/* --- shared configurations
 * --------------------------------------------------------------------------- */

struct config_ref *config_ref_new(struct gateway_config *config)
{
    struct config_ref *ref = calloc(1, sizeof *ref);

    if (!ref)
        return NULL;
    ref->config = config;
    atomic_store(&ref->references, 1);
    return ref;
}

struct config_ref *config_ref_get(struct config_ref *ref)
{
    atomic_fetch_add(&ref->references, 1);
    return ref;
}

void config_ref_put(struct config_ref *ref)
{
    if (!ref || atomic_fetch_sub(&ref->references, 1) != 1)
        return;
    config_free(ref->config);
    free(ref);
}

/* --- load
 * ---------------------------------------------------------------------------------------------------
 */

int gateway_set_filter_path(struct err *e)
{
    const char *given = getenv("SLUICE_FILTER_PATH");
    const char *folders[32];
    unsigned count = 0;
    char *copy, *save = NULL;
    int r;

    if (!given)
        return 0;
    copy = strdup(given);
    if (!copy)
        return err_set(e, ENOMEM, "out of memory");
    for (char *p = strtok_r(copy, ":", &save); p && count < ARRAY_SIZE(folders);
         p = strtok_r(NULL, ":", &save))
        folders[count++] = p;
    r = host_set_filter_path(folders, count);
    free(copy);
    return r < 0 ? err_set(e, -r, "SLUICE_FILTER_PATH: %s", strerror(-r)) : 0;
}

static int load_config(const struct gateway_options *o, struct gateway_config **out, FILE *errors)
{
    struct config_problems *problems = calloc(1, sizeof *problems);
    struct config_lookup lookup;
    int r;

    if (!problems)
        return -ENOMEM;
    config_lookup_host(&lookup);
    lookup.nbdkit_minor = o->nbdkit_minor;
    if (o->folder)
        r = config_load(o->folder, &lookup, out, problems);
    else
        r = config_load_inline(o->disk_name ? o->disk_name : "disk", o->disk_document, &lookup, out,
                               problems);
    if (r < 0)
        config_problems_print(problems, errors);
    free(problems);
    return r;
}

static int make_exports(struct gateway *g)
{
    const struct gateway_config *c = g->config->config;

    for (unsigned i = 0; i < c->disk_count; i++) {
        struct gateway_export *x = export_new(g, g->config, &c->disks[i]);

        if (!x)
            return -ENOMEM;
        list_append(&g->exports, &x->link);
    }
    return 0;
}

static char *copy_or_null(const char *text)
{
    return text ? strdup(text) : NULL;
}

static struct gateway *make_gateway(const struct gateway_options *options)
{
    struct gateway *g = calloc(1, sizeof *g);

    if (!g)
        return NULL;
    g->options = *options;
    g->options.folder = copy_or_null(options->folder);
    g->options.disk_document = copy_or_null(options->disk_document);
    g->options.disk_name = copy_or_null(options->disk_name);
    g->control_fd = options->control_fd;
    /* It came over an exec; a hook that outlives us must not listen in our place. */
    if (g->control_fd >= 0)
        fcntl(g->control_fd, F_SETFD, FD_CLOEXEC);
    g->signal_fd = eventfd(0, EFD_CLOEXEC);
    list_init(&g->exports);
    list_init(&g->watchers);
    pthread_mutex_init(&g->change_mutex, NULL);
    pthread_mutex_init(&g->stop_mutex, NULL);
    pthread_mutex_init(&g->exports_mutex, NULL);
    pthread_mutex_init(&g->watch_mutex, NULL);
    pthread_cond_init(&g->opened, NULL);
    return g;
}

int gateway_load(const struct gateway_options *options, struct gateway **out, FILE *errors)
{
    struct gateway *g = make_gateway(options);
    struct gateway_config *config;
    int r;

    if (!g)
        return -ENOMEM;
    r = load_config(options, &config, errors);
    if (r < 0) {
        gateway_free(g);
        return r;
    }
    g->config = config_ref_new(config);
    if (!g->config || make_exports(g) < 0) {
        gateway_free(g);
        return -ENOMEM;
    }
    log_set_level(config->log_level);
    *out = g;
    return 0;
}

void gateway_free(struct gateway *g)
{
    LIST_FOREACH_SAFE (node, &g->exports) {
        struct gateway_export *x = LIST_ENTRY(node, struct gateway_export, link);

        list_remove(node);
        export_free(x);
    }
    config_ref_put(g->config);
    if (g->signal_fd >= 0)
        close(g->signal_fd);
    free((void *)(uintptr_t)g->options.folder);
    free((void *)(uintptr_t)g->options.disk_document);
    free((void *)(uintptr_t)g->options.disk_name);
    free(g);
}

const char *gateway_control_path(const struct gateway *g)
{
    return g->config->config->listen.control.path;
}

unsigned gateway_nbd_in_flight(struct gateway *g)
{
    SCOPED_LOCK(&g->exports_mutex); /* a reload frees the configuration before */

    if (g->options.nbd_in_flight)
        return g->options.nbd_in_flight;
    return g->config->config->limits.nbd_in_flight;
}

/* --- signals
 * ----------------------------------------------------------------------------------------------------
 */

void gateway_signal(struct gateway *g, int number)
{
    uint64_t one = 1;

    if (number != SIGHUP && number != SIGTERM && number != SIGINT && number != SIGQUIT)
        return;
    /* A stop is never overwritten by a reload. */
    if (number != SIGHUP || atomic_load(&g->pending_signal) == 0)
        atomic_store(&g->pending_signal, number);
    if (write(g->signal_fd, &one, sizeof one) < 0)
        return; /* the counter is full: it is readable anyway */
}

int control_start_thread(void *(*run)(void *), void *arg, struct err *e)
{
    int r = thread_start(NULL, run, arg);

    return r < 0 ? err_set(e, -r, "cannot start a thread: %s", strerror(-r)) : 0;
}

/* One reload for each SIGHUP, but those that come while one runs are one together. */
static void *reload_thread(void *arg)
{
    struct gateway *g = arg;
    unsigned asked;

    do {
        struct reload_options options = {.is_dry_run = false};
        struct err e = {0};

        asked = atomic_load(&g->reloads_asked);
        if (gateway_reload(g, &options, NULL, &e) < 0)
            log_line(LOG_LEVEL_ERROR, "reload: %s", e.text);
    } while (atomic_fetch_sub(&g->reloads_asked, asked) != asked);
    return NULL;
}

/* Not on the signal thread: a reload that hangs must not keep SIGTERM waiting. */
static void reload_by_signal(struct gateway *g)
{
    struct err e = {0};

    if (atomic_fetch_add(&g->reloads_asked, 1) > 0)
        return;
    if (control_start_thread(reload_thread, g, &e) < 0) {
        atomic_store(&g->reloads_asked, 0);
        log_line(LOG_LEVEL_ERROR, "reload: %s", e.text);
    }
}

static void stop_by_signal(struct gateway *g)
{
    int status = gateway_stop(g) < 0 ? 1 : 0;

    if (g->options.stopped)
        g->options.stopped(g->options.context, status);
}

static void *signal_thread(void *arg)
{
    struct gateway *g = arg;

    for (;;) {
        uint64_t count;

        if (read(g->signal_fd, &count, sizeof count) < 0 && errno != EINTR)
            return NULL;
        switch (atomic_exchange(&g->pending_signal, 0)) {
        case 0:
            break;
        case SIGHUP:
            reload_by_signal(g);
            break;
        default:
            stop_by_signal(g);
            return NULL;
        }
    }
}

/* --- start
 * ---------------------------------------------------------------------------------------------------------
 */

static unsigned count_failed(struct gateway *g)
{
    unsigned n = 0;
    SCOPED_LOCK(&g->exports_mutex);

    LIST_FOREACH (node, &g->exports)
        n += LIST_ENTRY(node, struct gateway_export, link)->state == EXPORT_FAILED;
    return n;
}

static int set_tiers(const struct gateway_config *config, struct err *e)
{
    struct host_tier *tiers = calloc(config->tier_count + 1, sizeof *tiers);
    int r = tiers ? 0 : -ENOMEM;

    for (unsigned i = 0; i < config->tier_count && r == 0; i++)
        tiers[i] = (struct host_tier){.name = config->tiers[i].name,
                                      .path = config->tiers[i].path,
                                      .size_bytes = config->tiers[i].size_bytes};
    if (r == 0)
        r = host_set_tiers(tiers, config->tier_count);
    free(tiers);
    return r < 0 ? err_set(e, ENOMEM, "out of memory") : 0;
}

void gateway_tell_ready(struct gateway *g)
{
    service_notify("READY=1\nSTATUS=%u disks, %u failed", g->config->config->disk_count,
                   count_failed(g));
}

static int start_services(struct gateway *g, struct err *e)
{
    int r = pool_start(WORKERS, e);

    if (r == 0)
        r = set_tiers(g->config->config, e);

    if (r == 0)
        r = host_start(SERVICE_LOOPS, WORKERS, g->config->config->memory_bytes, e);
    if (r == 0)
        r = disk_watch_start(e);
    if (r == 0)
        r = control_start_thread(signal_thread, g, e);
    return r;
}

int gateway_start(struct gateway *g, struct err *e)
{
    int r;
    SCOPED_LOCK(&g->change_mutex);

    g->started_ns = clock_now_ns();
    events_start(g);
    r = start_services(g, e);
    if (r < 0)
        return r;
    roles_start(g);
    r = targets_start(g, e);
    if (r == 0)
        r = peer_link_start(g, e);
    if (r < 0)
        return r;
    exports_open(g, clock_now_ns() + START_WAIT_NS);
    r = targets_listen(g, e);
    if (r == 0)
        r = control_socket_start(g, e);
    if (r == 0)
        r = ticker_start(g, e);
    if (r == 0)
        r = space_start(g, e);
    if (r < 0)
        return r;
    gateway_tell_ready(g);
    return 0;
}

/* --- stop
 * -------------------------------------------------------------------------------------------------------------
 */

struct stopper {
    pthread_t thread;
    struct gateway_export *export; /* a reference */
    struct disk *disk;             /* NULL: it is not open */
    int result;
};

static struct disk *disk_of(struct gateway_export *x)
{
    SCOPED_LOCK(&x->gateway->exports_mutex);

    return x->disk;
}

static void *stop_disk(void *arg)
{
    struct stopper *s = arg;
    struct err e = {0};

    s->result = disk_stop(s->disk, clock_now_ns() + STOP_LIMIT_NS, &e);
    if (s->result < 0)
        log_line(LOG_LEVEL_ERROR, "%s disk=%s", e.text, disk_name(s->disk));
    return NULL;
}

static struct timespec to_timespec(uint64_t ns)
{
    return (struct timespec){(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
}

/* A disk that a hung change keeps locked, or whose filters do not answer, is left as it is: to its
 * clients that is a kill, and nothing that was acknowledged is lost by it. */
static int join_stopper(struct stopper *s, uint64_t deadline_ns)
{
    struct timespec until = to_timespec(deadline_ns);

    if (pthread_clockjoin_np(s->thread, NULL, CLOCK_MONOTONIC, &until) == 0)
        return s->result;
    log_line(LOG_LEVEL_ERROR, "%s: did not stop in time disk=%s", s->export->name, s->export->name);
    return -ETIMEDOUT;
}

/* All at once, so that the slowest drain decides, not their sum.  What is not joined may still run:
 * its stopper and its reference are left to the end of the process. */
static int stop_exports(struct stopper *s, unsigned count, uint64_t deadline_ns)
{
    int result = 0;

    for (unsigned i = 0; i < count; i++)
        if (s[i].disk && thread_start(&s[i].thread, stop_disk, &s[i]) != 0) {
            s[i].thread = 0;
            stop_disk(&s[i]);
        }
    for (unsigned i = 0; i < count; i++) {
        int r = s[i].thread ? join_stopper(&s[i], deadline_ns) : s[i].result;

        result = r < 0 ? r : result;
        if (r != -ETIMEDOUT)
            gateway_export_release(s[i].export);
    }
    return result;
}

#define EXPORTS_MAX 4096u

static int stop_disks(struct gateway *g)
{
    struct gateway_export **list = calloc(EXPORTS_MAX, sizeof(struct gateway_export *));
    struct stopper *s = calloc(EXPORTS_MAX, sizeof *s);
    unsigned count = list && s ? exports_take(g, NULL, list, EXPORTS_MAX) : 0;
    int result = list && s ? 0 : -ENOMEM;

    for (unsigned i = 0; i < count; i++)
        s[i] = (struct stopper){.export = list[i], .disk = disk_of(list[i])};
    if (result == 0)
        result = stop_exports(s, count, clock_now_ns() + STOP_LIMIT_NS + FLUSH_LIMIT_NS);
    free(list);
    if (result != -ETIMEDOUT)
        free(s);
    return result;
}

/* A reload ends after the step it is at, since is_stopping is set.  A step that hangs is not waited
 * for. */
static bool wait_for_change(struct gateway *g)
{
    struct timespec until = to_timespec(clock_now_ns() + CHANGE_LIMIT_NS);

    if (pthread_mutex_clocklock(&g->change_mutex, CLOCK_MONOTONIC, &until) == 0)
        return true;
    log_line(LOG_LEVEL_ERROR, "a reload hangs; stopping without waiting for it any longer");
    return false;
}

int gateway_stop(struct gateway *g)
{
    bool is_locked;
    SCOPED_LOCK(&g->stop_mutex);

    atomic_store(&g->is_stopping, true);
    if (g->is_stopped)
        return g->stop_result;
    service_notify("STOPPING=1");
    targets_stop(g);
    is_locked = wait_for_change(g);
    g->stop_result = stop_disks(g);
    peer_link_stop(g);
    backing_service_stop();
    g->is_stopped = true;
    if (is_locked)
        pthread_mutex_unlock(&g->change_mutex);
    return is_locked || g->stop_result < 0 ? g->stop_result : -ETIMEDOUT;
}
