/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * chain.c: from the filters of a policy to the stations of a chain.
 *
 * A station stays when its filter is the same and nothing but LIVE options differs from what it was
 * last told.  One that is replaced leaves before its successor is opened: both would want the same
 * state folder, tier and locks.  So a change that fails half way leaves a shorter chain behind, and
 * the caller who goes back to the old policy gets the old filters opened anew.
 */
#include "internal.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* A chain under construction: seats kept from the one in place, and new ones. */
struct building {
    struct seat seat[CHAIN_FILTERS_MAX];
    bool is_new[CHAIN_FILTERS_MAX];
    unsigned count;
    char bypassed[600];
};

static bool same_value(const struct sluice_value *a, const struct sluice_value *b)
{
    if (a->is_set != b->is_set || a->integer != b->integer || !a->string != !b->string)
        return false;
    return !a->string || strcmp(a->string, b->string) == 0;
}

static bool differs_live_only(const struct filter_config *a, const struct filter_config *b)
{
    const struct sluice_option *o = a->filter->options;

    for (unsigned i = 0; o && o[i].name; i++)
        if (!same_value(&a->values[i], &b->values[i]) && !(o[i].flags & SLUICE_OPTION_LIVE))
            return false;
    return true;
}

static struct seat *find_seat(struct gateway_export *x, const char *name)
{
    for (unsigned i = 0; i < x->seat_count; i++)
        if (strcmp(x->seat[i].name, name) == 0)
            return &x->seat[i];
    return NULL;
}

static bool can_stay(const struct seat *s, const struct filter_config *f)
{
    return s->policy->filter == f->filter && differs_live_only(s->policy, f);
}

static const struct filter_config *find_filter(const struct disk_config *d, const char *name)
{
    for (unsigned i = 0; i < d->filter_count; i++)
        if (strcmp(d->filters[i].name, name) == 0)
            return &d->filters[i];
    return NULL;
}

static void close_seat(struct seat *s)
{
    host_station_close(s->station);
    config_ref_put(s->opened_with);
    config_ref_put(s->changed_with);
}

static int open_seat(struct gateway_export *x, struct config_ref *config,
                     const struct filter_config *f, struct seat *out, struct err *e)
{
    struct station_settings s = {.name = f->name, .values = f->values, .on_stall = f->on_stall};
    int r = host_station_open(x->disk, f->filter, &s, &out->station, e);

    if (r < 0)
        return r;
    snprintf(out->name, sizeof out->name, "%s", f->name);
    out->policy = f;
    out->opened_with = config_ref_get(config);
    return 0;
}

/* Nobody is served before the filter that knows whether it may be has said so. */
static void hold_for_replication(struct gateway_export *x, const struct filter_config *f)
{
    if (f->filter_class != SLUICE_CLASS_REPLICATION || x->state != EXPORT_OPENING)
        return;
    disk_begin_as_secondary(x->disk);
    disk_gate(x->disk, true, "waits for replication to say whether it is the primary");
}

static int add_filter(struct gateway_export *x, struct config_ref *config,
                      const struct filter_config *f, struct building *b, struct err *e)
{
    struct seat *kept = find_seat(x, f->name);

    if (b->count == CHAIN_FILTERS_MAX)
        return err_set(e, E2BIG, "%s: a chain takes at most %d filters", x->name,
                       CHAIN_FILTERS_MAX);
    if (kept) {
        b->seat[b->count++] = *kept;
        return 0;
    }
    hold_for_replication(x, f);
    if (open_seat(x, config, f, &b->seat[b->count], e) == 0) {
        b->is_new[b->count++] = true;
        return 0;
    }
    if (f->on_attach_failure != ATTACH_BYPASS)
        return -e->code;
    log_line(LOG_LEVEL_WARNING, "%s; going on without it disk=%s filter=%s", e->text, x->name,
             f->name);
    snprintf(b->bypassed, sizeof b->bypassed,
             "filter %s could not be attached and is bypassed: %.500s", f->name, e->text);
    return 0;
}

static void close_new(struct building *b)
{
    for (unsigned i = 0; i < b->count; i++)
        if (b->is_new[i])
            close_seat(&b->seat[i]);
}

static bool is_in(const struct building *b, const struct station *s)
{
    for (unsigned i = 0; i < b->count; i++)
        if (b->seat[i].station == s)
            return true;
    return false;
}

/* The new chain is in place: what left it is closed when nobody asks it any more. */
static void adopt(struct gateway_export *x, const struct building *b)
{
    struct seat gone[CHAIN_FILTERS_MAX];
    unsigned count = 0;

    for (unsigned i = 0; i < x->seat_count; i++)
        if (!is_in(b, x->seat[i].station))
            gone[count++] = x->seat[i];
    pthread_rwlock_wrlock(&x->use);
    memcpy(x->seat, b->seat, sizeof x->seat);
    x->seat_count = b->count;
    pthread_rwlock_unlock(&x->use);
    for (unsigned i = 0; i < count; i++)
        close_seat(&gone[i]);
}

static void note_swap(struct chain_change *change, const struct disk_swap *swap)
{
    if (!change || !swap->pause_ns)
        return;
    change->pause_ns += swap->pause_ns;
    change->deferred = change->swaps++ ? MIN(change->deferred, swap->deferred) : swap->deferred;
}

static int set_chain(struct gateway_export *x, const struct building *b,
                     struct chain_change *change, struct err *e)
{
    struct station *stations[CHAIN_FILTERS_MAX];
    struct disk_swap swap = {0};
    int r;

    for (unsigned i = 0; i < b->count; i++)
        stations[i] = b->seat[i].station;
    r = disk_set_chain(x->disk, stations, b->count, &swap, e);
    note_swap(change, &swap);
    if (r == 0)
        adopt(x, b);
    return r;
}

/* Those that are to be replaced leave first. */
static int drop_replaced(struct gateway_export *x, const struct disk_config *policy,
                         struct chain_change *change, struct err *e)
{
    struct building b = {.count = 0};

    for (unsigned i = 0; i < x->seat_count; i++) {
        const struct filter_config *f = find_filter(policy, x->seat[i].name);

        if (!f || can_stay(&x->seat[i], f))
            b.seat[b.count++] = x->seat[i];
    }
    return b.count == x->seat_count ? 0 : set_chain(x, &b, change, e);
}

static void note_bypassed(struct gateway_export *x, const char *text)
{
    SCOPED_LOCK(&x->gateway->exports_mutex);

    snprintf(x->bypassed, sizeof x->bypassed, "%s", text);
}

/* --- filters that must not be left out -------------------------------------------------------- */

/* A filter whose state has a file of this name may hold data that the backing lacks. */
#define HOLDS_DATA "holds-data"

/* One that stands in the chain is asked itself, when it is to leave. */
static bool is_left_out(struct gateway_export *x, const struct disk_config *policy,
                        const char *folder, const char *name)
{
    char path[PATH_MAX];

    if (name[0] == '.' || find_filter(policy, name) || find_seat(x, name))
        return false;
    return snprintf(path, sizeof path, "%s/%s/" HOLDS_DATA, folder, name) < (int)sizeof path &&
           access(path, F_OK) == 0;
}

static int refuse_left_out(struct gateway_export *x, const struct disk_config *policy,
                           struct err *e)
{
    const char *state = disk_state_folder(x->disk);
    const struct dirent *entry;
    char folder[PATH_MAX];
    DIR *dir;
    int r = 0;

    if (!state || snprintf(folder, sizeof folder, "%s/filters", state) >= (int)sizeof folder)
        return 0;
    dir = opendir(folder);
    while (dir && r == 0 && (entry = readdir(dir)))
        if (is_left_out(x, policy, folder, entry->d_name))
            r = err_set(e, ENODATA,
                        "the filter %s, which is not in the policy any more, may hold data that "
                        "the backing lacks; put it back, and take it out while the gateway runs",
                        entry->d_name);
    if (dir)
        closedir(dir);
    return r;
}

int export_change_chain(struct gateway_export *x, struct config_ref *config,
                        const struct disk_config *policy, struct chain_change *change,
                        struct err *e)
{
    struct building b = {.count = 0};
    int r = refuse_left_out(x, policy, e);

    if (r == 0)
        r = drop_replaced(x, policy, change, e);

    for (unsigned i = 0; i < policy->filter_count && r == 0; i++)
        r = add_filter(x, config, &policy->filters[i], &b, e);
    if (r == 0)
        r = set_chain(x, &b, change, e);
    if (r < 0)
        close_new(&b);
    else
        note_bypassed(x, b.bypassed);
    return r;
}

int export_change_policy(struct gateway_export *x, struct config_ref *config,
                         const struct filter_config *policy, struct err *e)
{
    struct seat *s = find_seat(x, policy->name);
    int r;

    if (!s)
        return 0; /* bypassed */
    r = disk_policy_change(x->disk, s->station, policy->values, e);
    if (r < 0)
        return r;
    atomic_store_explicit(&s->station->on_stall, policy->on_stall, memory_order_relaxed);
    config_ref_put(s->changed_with);
    s->changed_with = config_ref_get(config);
    s->policy = policy;
    return 0;
}

void export_close_stations(struct gateway_export *x)
{
    struct building none = {.count = 0};

    adopt(x, &none);
}
