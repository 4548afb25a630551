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

struct gateway_export *export_new(struct gateway *g, const struct disk_config *policy)
{
    struct gateway_export *x = calloc(1, sizeof *x);

    if (!x)
        return NULL;
    list_init(&x->link);
    x->gateway = g;
    snprintf(x->name, sizeof x->name, "%s", policy->name);
    x->references = 1;
    x->config = config_ref_get(g->config);
    x->policy = policy;
    return x;
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

/* --- the chain
 * -------------------------------------------------------------------------------------------- */

/* A chain under construction: stations kept from the one in place and new ones. */
struct building {
    struct station *station[CHAIN_FILTERS_MAX];
    char name[CHAIN_FILTERS_MAX][64];
    bool is_new[CHAIN_FILTERS_MAX];
    unsigned count;
};

static struct station *find_station(const struct gateway_export *x, const struct filter_config *f)
{
    for (unsigned i = 0; i < x->station_count; i++)
        if (strcmp(x->station_name[i], f->name) == 0 && x->station[i]->filter == f->filter)
            return x->station[i];
    return NULL;
}

static bool is_kept(const struct gateway_export *x, const struct filter_config *f);

static int open_station(struct gateway_export *x, const struct filter_config *f,
                        struct station **out, struct err *e)
{
    struct station_settings s = {.name = f->name, .values = f->values, .on_stall = f->on_stall};

    return host_station_open(x->disk, f->filter, &s, out, e);
}

static int add_filter(struct gateway_export *x, const struct filter_config *f, struct building *b,
                      struct err *e)
{
    struct station *s = is_kept(x, f) ? find_station(x, f) : NULL;
    bool is_new = s == NULL;

    if (b->count == CHAIN_FILTERS_MAX)
        return err_set(e, E2BIG, "%s: a chain takes at most %d filters", x->name,
                       CHAIN_FILTERS_MAX);
    if (is_new && open_station(x, f, &s, e) < 0) {
        if (f->on_attach_failure != ATTACH_BYPASS)
            return -e->code;
        log_line(LOG_LEVEL_WARNING, "%s; going on without it disk=%s filter=%s", e->text, x->name,
                 f->name);
        return 0;
    }
    b->station[b->count] = s;
    b->is_new[b->count] = is_new;
    snprintf(b->name[b->count], sizeof b->name[0], "%s", f->name);
    b->count++;
    return 0;
}

static void close_new(const struct building *b)
{
    for (unsigned i = 0; i < b->count; i++)
        if (b->is_new[i])
            host_station_close(b->station[i]);
}

static bool is_in(const struct building *b, const struct station *s)
{
    for (unsigned i = 0; i < b->count; i++)
        if (b->station[i] == s)
            return true;
    return false;
}

/* The new chain is in place: what left it is closed. */
static void adopt(struct gateway_export *x, const struct building *b)
{
    struct station *gone[CHAIN_FILTERS_MAX];
    unsigned count = 0;

    for (unsigned i = 0; i < x->station_count; i++)
        if (!is_in(b, x->station[i]))
            gone[count++] = x->station[i];
    pthread_mutex_lock(&x->gateway->exports_mutex);
    memcpy(x->station, b->station, sizeof x->station);
    memcpy(x->station_name, b->name, sizeof x->station_name);
    x->station_count = b->count;
    pthread_mutex_unlock(&x->gateway->exports_mutex);
    for (unsigned i = 0; i < count; i++)
        host_station_close(gone[i]);
}

static bool same_value(const struct sluice_value *a, const struct sluice_value *b)
{
    if (a->is_set != b->is_set || a->integer != b->integer || !a->string != !b->string)
        return false;
    return !a->string || strcmp(a->string, b->string) == 0;
}

/* True when a and b differ in LIVE options alone, or not at all. */
static bool differs_live_only(const struct filter_config *a, const struct filter_config *b)
{
    const struct sluice_option *o = a->filter->options;

    for (unsigned i = 0; o && o[i].name; i++)
        if (!same_value(&a->values[i], &b->values[i]) && !(o[i].flags & SLUICE_OPTION_LIVE))
            return false;
    return true;
}

static const struct filter_config *find_filter_config(const struct disk_config *d, const char *name)
{
    for (unsigned i = 0; i < d->filter_count; i++)
        if (strcmp(d->filters[i].name, name) == 0)
            return &d->filters[i];
    return NULL;
}

/* A station of that name and filter stays when nothing but LIVE options has changed. */
static bool is_kept(const struct gateway_export *x, const struct filter_config *f)
{
    const struct filter_config *old = find_filter_config(x->policy, f->name);

    return old && old->filter == f->filter && differs_live_only(old, f);
}

int export_change_chain(struct gateway_export *x, const struct disk_config *policy,
                        uint64_t *pause_ns, struct err *e)
{
    struct building b = {.count = 0};
    int r = 0;

    for (unsigned i = 0; i < policy->filter_count && r == 0; i++)
        r = add_filter(x, &policy->filters[i], &b, e);
    if (r == 0)
        r = disk_set_chain(x->disk, b.station, b.count, pause_ns, e);
    if (r < 0) {
        close_new(&b);
        return r;
    }
    adopt(x, &b);
    return 0;
}

/* --- opening
 * -------------------------------------------------------------------------------------------------
 */

static int open_disk(struct gateway_export *x, struct disk **out, struct err *e)
{
    struct disk_settings settings;
    struct backing_spec spec;
    struct config_chap *chap = calloc(1, sizeof *chap);
    int r;

    if (!chap)
        return err_set(e, ENOMEM, "%s: out of memory", x->name);
    config_disk_settings(x->config->config, x->policy, &settings);
    r = config_backing_spec(x->policy, &spec, chap, e);
    if (r == 0)
        r = disk_open(&settings, &spec, out, e);
    explicit_bzero(chap, sizeof *chap);
    free(chap);
    return r;
}

static void set_state(struct gateway_export *x, enum export_state state, const char *failure)
{
    SCOPED_LOCK(&x->gateway->exports_mutex);

    x->state = state;
    snprintf(x->failure, sizeof x->failure, "%s", failure);
}

void export_open(struct gateway_export *x)
{
    struct disk *disk = NULL;
    struct err e = {0};
    int r = open_disk(x, &disk, &e);

    if (r == 0) {
        x->disk = disk;
        r = export_change_chain(x, x->policy, NULL, &e);
    }
    if (r == 0) {
        set_state(x, EXPORT_READY, "");
        events_emit(x->gateway, "create", "disk", x->name, "state:ok");
        return;
    }
    log_line(LOG_LEVEL_ERROR, "%s disk=%s", e.text, x->name);
    if (disk)
        disk_close(disk);
    x->disk = NULL;
    set_state(x, EXPORT_FAILED, e.text);
    events_emit(x->gateway, "create", "disk", x->name, "state:failed");
}

/* --- closing
 * ---------------------------------------------------------------------------------------------------
 */

static void *close_thread(void *arg)
{
    struct gateway_export *x = arg;
    struct err e = {0};

    if (x->disk && disk_set_chain(x->disk, NULL, 0, NULL, &e) < 0)
        log_line(LOG_LEVEL_ERROR, "%s; leaving it open disk=%s", e.text, x->name);
    else if (x->disk) {
        for (unsigned i = 0; i < x->station_count; i++)
            host_station_close(x->station[i]);
        disk_close(x->disk);
    }
    events_emit(x->gateway, "destroy", "disk", x->name, "");
    config_ref_put(x->config);
    free(x);
    return NULL;
}

static void put_reference(struct gateway_export *x)
{
    pthread_t thread;
    unsigned left;

    pthread_mutex_lock(&x->gateway->exports_mutex);
    left = --x->references;
    pthread_mutex_unlock(&x->gateway->exports_mutex);
    if (left)
        return;
    if (pthread_create(&thread, NULL, close_thread, x) == 0)
        pthread_detach(thread);
    else
        close_thread(x);
}

void export_remove(struct gateway_export *x)
{
    pthread_mutex_lock(&x->gateway->exports_mutex);
    list_remove(&x->link);
    atomic_store(&x->is_removed, true);
    pthread_mutex_unlock(&x->gateway->exports_mutex);
    put_reference(x);
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
        snprintf(description, sizeof description, "Sluice disk %s", x->name);
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
