/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * export.c: configured disks as exports: opening a disk with its chain, references of connections,
 * who may mount it, and changes of its chain.
 *
 * A removed export leaves the list at once; its disk is closed when the last connection has let go,
 * by a thread made for that, since closing blocks.
 */
#include "internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

struct gateway_export *export_new(struct gateway *g, struct config_ref *config,
                                  const struct disk_config *policy)
{
    struct gateway_export *x = calloc(1, sizeof *x);

    if (!x)
        return NULL;
    list_init(&x->link);
    pthread_rwlock_init(&x->use, NULL);
    x->gateway = g;
    snprintf(x->name, sizeof x->name, "%s", policy->name);
    x->references = 1;
    x->config = config_ref_get(config);
    x->policy = policy;
    return x;
}

void export_free(struct gateway_export *x)
{
    config_ref_put(x->config);
    pthread_rwlock_destroy(&x->use);
    free(x);
}

struct gateway_export *export_find(struct gateway *g, const char *name)
{
    SCOPED_LOCK(&g->exports_mutex);

    return export_find_locked(g, name);
}

void export_insert(struct gateway *g, struct gateway_export *x)
{
    struct list *before = &g->exports;
    SCOPED_LOCK(&g->exports_mutex);

    LIST_FOREACH (node, &g->exports) {
        if (strcmp(LIST_ENTRY(node, struct gateway_export, link)->name, x->name) > 0) {
            before = node;
            break;
        }
    }
    list_insert(&x->link, before->prev);
}

struct gateway_export *export_find_locked(struct gateway *g, const char *name)
{
    LIST_FOREACH (node, &g->exports) {
        struct gateway_export *x = LIST_ENTRY(node, struct gateway_export, link);

        if (strcmp(x->name, name) == 0)
            return x;
    }
    return NULL;
}

void export_set_policy(struct gateway_export *x, struct config_ref *config,
                       const struct disk_config *policy)
{
    struct config_ref *old;

    pthread_mutex_lock(&x->gateway->exports_mutex);
    old = x->config;
    x->config = config_ref_get(config);
    x->policy = policy;
    pthread_mutex_unlock(&x->gateway->exports_mutex);
    config_ref_put(old);
}

/* --- opening
 * -------------------------------------------------------------------------------------------------
 */

static int open_disk(struct gateway_export *x, struct config_ref *config,
                     const struct disk_config *policy, struct disk **out, struct err *e)
{
    struct config_chap *chap = calloc(1, sizeof *chap);
    struct disk_settings settings;
    struct backing_spec spec;
    int r;

    if (!chap)
        return err_set(e, ENOMEM, "%s: out of memory", x->name);
    config_disk_settings(config->config, policy, &settings);
    r = config_backing_spec(policy, &spec, chap, e);
    if (r == 0)
        r = disk_open(&settings, &spec, out, e);
    explicit_bzero(chap, sizeof *chap);
    free(chap);
    return r;
}

#define RETRY_FIRST_NS (UINT64_C(5) * 1000000000u)
#define RETRY_DOUBLINGS 3u /* at most every 40 s */

static void set_ready(struct gateway_export *x, struct disk *disk)
{
    SCOPED_LOCK(&x->gateway->exports_mutex);

    x->disk = disk;
    x->state = EXPORT_READY;
    x->failures = 0;
    x->failure[0] = 0;
    pthread_cond_broadcast(&x->gateway->opened);
}

static void set_failed(struct gateway_export *x, const char *failure)
{
    SCOPED_LOCK(&x->gateway->exports_mutex);

    x->state = EXPORT_FAILED;
    x->retry_at_ns = clock_now_ns() + (RETRY_FIRST_NS << MIN(x->failures, RETRY_DOUBLINGS));
    x->failures++;
    snprintf(x->failure, sizeof x->failure, "%s", failure);
    pthread_cond_broadcast(&x->gateway->opened);
}

static bool has_failed_so_before(const struct gateway_export *x, const char *failure)
{
    return x->failures && strcmp(x->failure, failure) == 0;
}

/* The configuration is read once, under a reference: a reload may change it meanwhile. */
static int open_parts(struct gateway_export *x, struct disk **disk, struct err *e)
{
    const struct disk_config *policy;
    struct config_ref *config;
    int r;

    pthread_mutex_lock(&x->gateway->exports_mutex);
    config = config_ref_get(x->config);
    policy = x->policy;
    pthread_mutex_unlock(&x->gateway->exports_mutex);
    r = open_disk(x, config, policy, disk, e);
    if (r == 0) {
        x->disk = *disk;
        r = export_change_chain(x, config, policy, NULL, e);
    }
    if (r == 0)
        r = scsi_disk_recover(*disk, e);
    config_ref_put(config);
    return r;
}

void export_open(struct gateway_export *x)
{
    struct disk *disk = NULL;
    struct err e = {0};

    if (open_parts(x, &disk, &e) == 0) {
        if (x->failures)
            log_line(LOG_LEVEL_NOTICE, "%s: is served now disk=%s", x->name, x->name);
        export_set_target(x);
        set_ready(x, disk);
        targets_update_starting(x->gateway);
        events_emit(x->gateway, "create", "disk", x->name, "state:ok");
        return;
    }
    if (!has_failed_so_before(x, e.text))
        log_line(LOG_LEVEL_ERROR, "%s disk=%s", e.text, x->name);
    x->disk = NULL;
    if (disk)
        disk_close(disk);
    if (!x->failures)
        events_emit(x->gateway, "create", "disk", x->name, "state:failed");
    set_failed(x, e.text);
}

/* --- many at a time
 * ------------------------------------------------------------------------------ */

#define OPENERS_MAX 16u

/* Shared by the openers of one start; the last one frees it. */
struct opening {
    _Atomic unsigned next, openers;
    unsigned count;
    struct gateway_export *export[];
};

static void *opener_thread(void *arg)
{
    struct opening *o = arg;

    for (;;) {
        unsigned i = atomic_fetch_add(&o->next, 1);

        if (i >= o->count)
            break;
        export_open(o->export[i]);
        gateway_export_release(o->export[i]);
    }
    if (atomic_fetch_sub(&o->openers, 1) == 1)
        free(o);
    return NULL;
}

static struct opening *collect_openings(struct gateway *g)
{
    struct opening *o;
    unsigned n = 0;
    SCOPED_LOCK(&g->exports_mutex);

    LIST_FOREACH (node, &g->exports)
        n++;
    o = calloc(1, sizeof *o + n * sizeof o->export[0]);
    if (!o)
        return NULL;
    LIST_FOREACH (node, &g->exports) {
        struct gateway_export *x = LIST_ENTRY(node, struct gateway_export, link);

        if (x->state != EXPORT_OPENING)
            continue;
        x->references++;
        o->export[o->count++] = x;
    }
    return o;
}

void exports_open(struct gateway *g, uint64_t until_ns)
{
    struct opening *o = collect_openings(g);
    unsigned wanted;
    char name[64];

    if (!o)
        return;
    wanted = MIN(o->count, OPENERS_MAX);
    atomic_store(&o->openers, wanted + 1);
    for (unsigned i = 0; i < wanted; i++)
        if (thread_start(NULL, opener_thread, o) != 0)
            opener_thread(o);
    if (atomic_fetch_sub(&o->openers, 1) == 1)
        free(o);
    exports_wait_opened(g, until_ns, name, sizeof name);
}

static const struct gateway_export *find_opening(const struct gateway *g)
{
    LIST_FOREACH (node, &g->exports) {
        const struct gateway_export *x = LIST_ENTRY(node, struct gateway_export, link);

        if (x->state == EXPORT_OPENING)
            return x;
    }
    return NULL;
}

bool exports_wait_opened(struct gateway *g, uint64_t until_ns, char *name, size_t size)
{
    const struct gateway_export *x;
    SCOPED_LOCK(&g->exports_mutex);

    while ((x = find_opening(g)) != NULL) {
        snprintf(name, size, "%s", x->name);
        if (!cond_wait_until(&g->opened, &g->exports_mutex, until_ns))
            return find_opening(g) == NULL;
    }
    return true;
}

static void *retry_thread(void *arg)
{
    struct gateway_export *x = arg;

    export_open(x);
    gateway_export_release(x);
    return NULL;
}

static struct gateway_export *take_due(struct gateway *g, uint64_t now_ns)
{
    SCOPED_LOCK(&g->exports_mutex);

    LIST_FOREACH (node, &g->exports) {
        struct gateway_export *x = LIST_ENTRY(node, struct gateway_export, link);

        if (x->state != EXPORT_FAILED || x->retry_at_ns > now_ns)
            continue;
        x->state = EXPORT_OPENING;
        x->references++;
        return x;
    }
    return NULL;
}

void exports_retry(struct gateway *g, uint64_t now_ns)
{
    struct gateway_export *x;

    while (!atomic_load(&g->is_stopping) && (x = take_due(g, now_ns)) != NULL)
        if (thread_start(NULL, retry_thread, x) != 0)
            retry_thread(x);
}

/* --- closing
 * ---------------------------------------------------------------------------------------------------
 */

#define CLOSE_RETRY_S 10

static void close_disk(struct gateway_export *x)
{
    struct err e = {0};

    /* What holds data only here, like a cache, refuses until it could put it below. */
    while (disk_set_chain(x->disk, NULL, 0, NULL, &e) < 0) {
        struct timespec pause = {.tv_sec = CLOSE_RETRY_S};

        log_line(LOG_LEVEL_ERROR, "%s; the removed disk stays open disk=%s", e.text, x->name);
        clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
    }
    export_close_stations(x);
    disk_close(x->disk);
}

static void *close_thread(void *arg)
{
    struct gateway_export *x = arg;

    if (x->disk)
        close_disk(x);
    events_emit(x->gateway, "destroy", "disk", x->name, "");
    export_free(x);
    return NULL;
}

static void put_reference(struct gateway_export *x)
{
    unsigned left;

    pthread_mutex_lock(&x->gateway->exports_mutex);
    left = --x->references;
    pthread_mutex_unlock(&x->gateway->exports_mutex);
    if (left)
        return;
    if (thread_start(NULL, close_thread, x) != 0)
        close_thread(x);
}

/* READY -> LEAVING: no new client from here on. */
static int begin_removal(struct gateway_export *x, bool is_forced, unsigned *clients, struct err *e)
{
    SCOPED_LOCK(&x->gateway->exports_mutex);

    *clients = x->disk ? disk_session_count(x->disk) : 0;
    if (*clients && !is_forced)
        return err_set(e, EBUSY, "%s: %u client%s mounted it; end them first, or give --force",
                       x->name, *clients, *clients == 1 ? " has" : "s have");
    if (x->state == EXPORT_READY)
        x->state = EXPORT_LEAVING;
    return 0;
}

static void call_removal_off(struct gateway_export *x)
{
    SCOPED_LOCK(&x->gateway->exports_mutex);

    x->state = EXPORT_READY;
}

int export_remove(struct gateway_export *x, bool is_forced, struct err *e)
{
    unsigned clients;
    int r = begin_removal(x, is_forced, &clients, e);

    if (r == 0)
        export_unset_target(x);
    if (r == 0 && x->disk && clients == 0) {
        r = disk_set_chain(x->disk, NULL, 0, NULL, e);
        if (r < 0) {
            call_removal_off(x);
            export_set_target(x);
        } else {
            export_close_stations(x);
        }
    }
    if (r < 0)
        return r;
    pthread_mutex_lock(&x->gateway->exports_mutex);
    list_remove(&x->link);
    atomic_store(&x->is_removed, true);
    pthread_mutex_unlock(&x->gateway->exports_mutex);
    put_reference(x);
    return 0;
}

unsigned exports_take(struct gateway *g, const char *name, struct gateway_export **out,
                      unsigned most)
{
    unsigned n = 0;
    SCOPED_LOCK(&g->exports_mutex);

    LIST_FOREACH (node, &g->exports) {
        struct gateway_export *x = LIST_ENTRY(node, struct gateway_export, link);

        if ((name && strcmp(x->name, name) != 0) || n == most)
            continue;
        x->references++;
        out[n++] = x;
    }
    return n;
}

/* --- for the front ends
 * ----------------------------------------------------------------------------------------- */

static struct gateway_export *find_or_only(struct gateway *g, const char *name)
{
    if (name[0])
        return export_find_locked(g, name);
    if (list_is_empty(&g->exports) || g->exports.next != g->exports.prev)
        return NULL;
    return LIST_ENTRY(g->exports.next, struct gateway_export, link);
}

static int check_ready(const struct gateway_export *x, const char *name, struct err *e)
{
    if (!x)
        return err_set(e, ENOENT, "there is no disk \"%s\"", name);
    if (x->state == EXPORT_OPENING)
        return err_set(e, EAGAIN, "%s: is still being opened", x->name);
    if (x->state == EXPORT_LEAVING)
        return err_set(e, ENOENT, "%s: is being removed", x->name);
    if (x->state == EXPORT_FAILED)
        return err_set(e, EIO, "%s: is not served: %s", x->name, x->failure);
    return 0;
}

int gateway_export_acquire(struct gateway *g, const char *name, struct gateway_export **out,
                           struct err *e)
{
    struct gateway_export *x;
    int r;

    if (atomic_load(&g->is_stopping))
        return err_set(e, ESHUTDOWN, "the gateway is stopping");
    SCOPED_LOCK(&g->exports_mutex);
    x = find_or_only(g, name);
    r = check_ready(x, name, e);
    if (r < 0)
        return r;
    x->references++;
    *out = x;
    return 0;
}

void gateway_export_release(struct gateway_export *x)
{
    put_reference(x);
}

static bool is_in_networks(const struct disk_config *d, const struct sockaddr *client)
{
    if (d->nbd.networks.count == 0 || !client || client->sa_family == AF_UNIX)
        return true;
    for (unsigned i = 0; i < d->nbd.networks.count; i++)
        if (config_network_contains(&d->nbd.networks.item[i], client))
            return true;
    return false;
}

static bool lacks_tls(const struct disk_config *d, const struct gateway_client *c)
{
    const struct sockaddr *server = c->server ? c->server : c->client;

    return !c->is_tls && server && server->sa_family != AF_UNIX && config_needs_tls(d, server);
}

int gateway_export_admit(struct gateway_export *x, const struct gateway_client *client,
                         struct err *e)
{
    SCOPED_LOCK(&x->gateway->exports_mutex);

    if (!x->policy->nbd.is_enabled)
        return err_set(e, EACCES, "%s: is not exported over NBD", x->name);
    if (!is_in_networks(x->policy, client->client))
        return err_set(e, EACCES, "%s: the client is in none of the networks that may mount it",
                       x->name);
    if (x->disk && disk_role(x->disk, NULL) != SLUICE_ROLE_PRIMARY)
        return err_set(e, EACCES, "%s: is %s here; another gateway serves it", x->name,
                       disk_role_name(disk_role(x->disk, NULL)));
    if (lacks_tls(x->policy, client))
        return err_set(e, EACCES, "%s: the client did not use TLS, which this disk requires",
                       x->name);
    return 0;
}

struct disk *gateway_export_disk(struct gateway_export *x)
{
    return x->disk;
}

const char *gateway_export_name(const struct gateway_export *x)
{
    return x->name;
}

bool gateway_export_is_exclusive(struct gateway_export *x)
{
    SCOPED_LOCK(&x->gateway->exports_mutex);

    return x->policy->nbd.is_exclusive;
}

bool gateway_export_is_read_only(struct gateway_export *x)
{
    SCOPED_LOCK(&x->gateway->exports_mutex);

    return x->policy->is_read_only;
}

bool gateway_export_is_removed(const struct gateway_export *x)
{
    return atomic_load_explicit(&x->is_removed, memory_order_relaxed);
}

static bool is_listed(const struct gateway_export *x, const struct gateway_client *client)
{
    if (x->state != EXPORT_READY || !x->policy->nbd.is_enabled || !x->policy->nbd.is_listed)
        return false;
    return !client || (is_in_networks(x->policy, client->client) && !lacks_tls(x->policy, client));
}

void gateway_for_each_export(struct gateway *g, const struct gateway_client *client,
                             void (*fn)(const char *name, const char *description, void *arg),
                             void *arg)
{
    SCOPED_LOCK(&g->exports_mutex);

    LIST_FOREACH (node, &g->exports) {
        const struct gateway_export *x = LIST_ENTRY(node, struct gateway_export, link);
        char description[128];

        if (!is_listed(x, client))
            continue;
        snprintf(description, sizeof description, "Sluice disk %s%s%s", x->name,
                 strcmp(x->policy->group, x->name) ? ", group " : "",
                 strcmp(x->policy->group, x->name) ? x->policy->group : "");
        fn(x->name, description, arg);
    }
}

char *gateway_default_export(struct gateway *g)
{
    const struct gateway_export *x;
    SCOPED_LOCK(&g->exports_mutex);

    x = find_or_only(g, "");
    return x ? strdup(x->name) : NULL;
}
