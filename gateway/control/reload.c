/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * reload.c: from the configuration in force to the one in the folder.  Everything is parsed,
 * checked and planned before the first step; a plan that holds a refused step, or one that needs a
 * restart, is not begun.  A step that fails stops the rest: what was done stays, and the disk it
 * failed on keeps its old policy, so that the next reload plans it again.
 */
#include "internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct reload {
    struct gateway *gateway;
    const struct reload_options *options;
    struct config_ref *next;
    struct config_plan *plan;
    json_t *actions, *problems; /* of the report */
};

/* --- parsing
 * ------------------------------------------------------------------------------------------------
 */

static void note_problems(struct reload *r, const struct config_problems *problems)
{
    for (unsigned i = 0; i < problems->count; i++) {
        const struct config_problem *p = &problems->problem[i];

        json_array_append_new(r->problems,
                              json_sprintf("%s:%u:%u: %s", p->file, p->line, p->column, p->text));
    }
}

static int parse(struct reload *r, struct err *e)
{
    struct config_problems *problems = calloc(1, sizeof *problems);
    struct gateway_config *config = NULL;
    struct config_lookup lookup;
    int result;

    if (!problems)
        return err_set(e, ENOMEM, "out of memory");
    config_lookup_host(&lookup);
    lookup.nbdkit_minor = r->gateway->options.nbdkit_minor;
    result = config_load(r->gateway->options.folder, &lookup, &config, problems);
    if (result < 0) {
        note_problems(r, problems);
        result = err_set(e, EINVAL, "%s:%u:%u: %s%s", problems->problem[0].file,
                         problems->problem[0].line, problems->problem[0].column,
                         problems->problem[0].text, problems->count > 1 ? " (and more)" : "");
    }
    free(problems);
    if (result < 0)
        return result;
    r->next = config_ref_new(config);
    return r->next ? 0 : err_set(e, ENOMEM, "out of memory");
}

/* --- planning
 * --------------------------------------------------------------------------------------------------
 */

static bool stops(const struct plan_action *a)
{
    return a->kind == PLAN_REFUSE || a->kind == PLAN_RESTART;
}

static struct gateway_export *find_export(struct gateway *g, const char *name)
{
    SCOPED_LOCK(&g->exports_mutex);

    return export_find_locked(g, name);
}

static int check_removals(const struct reload *r, struct err *e)
{
    for (unsigned i = 0; i < r->plan->count; i++) {
        const struct plan_action *a = &r->plan->actions[i];
        struct gateway_export *x;
        unsigned clients;

        if (a->kind != PLAN_REMOVE_DISK || r->options->is_forced)
            continue;
        x = find_export(r->gateway, a->old_disk->name);
        clients = x && x->disk ? disk_session_count(x->disk) : 0;
        if (clients)
            return err_set(e, EBUSY,
                           "%s: %u client%s have it mounted; end them first, or give --force",
                           a->old_disk->name, clients, clients == 1 ? "" : "s");
    }
    return 0;
}

static int plan(struct reload *r, struct err *e)
{
    if (config_plan(r->gateway->config->config, r->next->config, &r->plan) < 0)
        return err_set(e, ENOMEM, "out of memory");
    for (unsigned i = 0; i < r->plan->count; i++) {
        const struct plan_action *a = &r->plan->actions[i];

        json_array_append_new(r->actions,
                              json_pack("{s:s, s:s?, s:s}", "kind", plan_kind_name(a->kind), "disk",
                                        a->new_disk   ? a->new_disk->name
                                        : a->old_disk ? a->old_disk->name
                                                      : NULL,
                                        "text", a->text));
    }
    for (unsigned i = 0; i < r->plan->count; i++)
        if (stops(&r->plan->actions[i]))
            return err_set(e, EPERM, "%s", r->plan->actions[i].text);
    return check_removals(r, e);
}

/* --- applying
 * -----------------------------------------------------------------------------------------------------
 */

static int apply_settings(struct reload *r, const struct plan_action *a, struct gateway_export *x,
                          struct err *e)
{
    struct disk_settings settings;

    config_disk_settings(r->next->config, a->new_disk, &settings);
    return disk_reconfigure(x->disk, &settings, e);
}

static int apply_policy_change(const struct plan_action *a, struct gateway_export *x, struct err *e)
{
    for (unsigned i = 0; i < x->station_count; i++)
        if (strcmp(x->station_name[i], a->new_filter->name) == 0) {
            x->station[i]->on_stall = a->new_filter->on_stall;
            return disk_policy_change(x->disk, x->station[i], a->new_filter->values, e);
        }
    return 0;
}

static int add_disk(struct reload *r, const struct plan_action *a, struct err *e)
{
    struct gateway_export *x = export_new(r->gateway, a->new_disk);

    if (!x)
        return err_set(e, ENOMEM, "out of memory");
    export_set_policy(x, r->next, a->new_disk);
    export_open(x);
    pthread_mutex_lock(&r->gateway->exports_mutex);
    list_append(&r->gateway->exports, &x->link);
    pthread_mutex_unlock(&r->gateway->exports_mutex);
    return x->state == EXPORT_FAILED ? err_set(e, EIO, "%s", x->failure) : 0;
}

static bool changes_chain(enum plan_kind kind)
{
    return kind == PLAN_DETACH || kind == PLAN_REPLACE || kind == PLAN_ATTACH ||
           kind == PLAN_REORDER;
}

/* The chain steps of one disk are one change: the first of them does all. */
static bool is_first_chain_step(const struct reload *r, unsigned at)
{
    const struct plan_action *a = &r->plan->actions[at];

    return at == 0 || !changes_chain(a[-1].kind) || a[-1].new_disk != a->new_disk;
}

static int apply_chain(struct reload *r, unsigned at, struct gateway_export *x, struct err *e)
{
    uint64_t pause_ns = 0;
    int result;

    if (!is_first_chain_step(r, at))
        return 0;
    result = export_change_chain(x, r->plan->actions[at].new_disk, &pause_ns, e);
    json_object_set_new(json_array_get(r->actions, at), "pause_ns",
                        json_integer((json_int_t)pause_ns));
    return result;
}

static int apply_to_disk(struct reload *r, unsigned at, struct err *e)
{
    const struct plan_action *a = &r->plan->actions[at];
    const char *name = a->new_disk ? a->new_disk->name : a->old_disk->name;
    struct gateway_export *x = find_export(r->gateway, name);

    if (!x || !x->disk)
        return 0; /* a failed disk is opened with its new policy below */
    switch (a->kind) {
    case PLAN_SETTINGS:
        return apply_settings(r, a, x, e);
    case PLAN_GROW:
        return disk_resize(x->disk, a->new_disk->size_bytes, e);
    case PLAN_POLICY_CHANGE:
        return apply_policy_change(a, x, e);
    default:
        return changes_chain(a->kind) ? apply_chain(r, at, x, e) : 0;
    }
}

static int apply_one(struct reload *r, unsigned at, struct err *e)
{
    const struct plan_action *a = &r->plan->actions[at];
    struct gateway_export *x;

    switch (a->kind) {
    case PLAN_GATEWAY:
        log_set_level(r->next->config->log_level);
        return 0;
    case PLAN_ADD_DISK:
        return add_disk(r, a, e);
    case PLAN_REMOVE_DISK:
        x = find_export(r->gateway, a->old_disk->name);
        if (x)
            export_remove(x);
        return 0;
    default:
        return apply_to_disk(r, at, e);
    }
}

/* Every export now points into the new configuration; those that had failed are tried again. */
static void adopt(struct reload *r)
{
    struct gateway *g = r->gateway;
    struct config_ref *old;

    for (unsigned i = 0; i < r->next->config->disk_count; i++) {
        const struct disk_config *d = &r->next->config->disks[i];
        struct gateway_export *x = find_export(g, d->name);

        if (!x)
            continue;
        export_set_policy(x, r->next, d);
        if (x->state == EXPORT_FAILED)
            export_open(x);
    }
    pthread_mutex_lock(&g->exports_mutex);
    old = g->config;
    g->config = config_ref_get(r->next);
    pthread_mutex_unlock(&g->exports_mutex);
    config_ref_put(old);
}

static int apply(struct reload *r, struct err *e)
{
    for (unsigned i = 0; i < r->plan->count; i++) {
        int result = apply_one(r, i, e);

        if (result < 0)
            return result;
    }
    adopt(r);
    events_emit(r->gateway, "change", "gateway", r->next->config->name, "reloaded:yes");
    return 0;
}

static void fill_report(const struct reload *r, json_t **report)
{
    if (report)
        *report = json_pack("{s:O, s:O, s:b, s:b}", "actions", r->actions, "problems", r->problems,
                            "refused", r->plan ? r->plan->is_refused : 0, "needs_restart",
                            r->plan ? r->plan->needs_restart : 0);
}

int gateway_reload(struct gateway *g, const struct reload_options *options, json_t **report,
                   struct err *e)
{
    struct reload r = {
        .gateway = g, .options = options, .actions = json_array(), .problems = json_array()};
    int result;
    SCOPED_LOCK(&g->change_mutex);

    if (!g->options.folder)
        result = err_set(e, EINVAL, "a gateway started with disk= has no folder to reload");
    else if (g->is_stopped)
        result = err_set(e, ESHUTDOWN, "the gateway is stopping");
    else
        result = parse(&r, e);
    if (result == 0)
        result = plan(&r, e);
    if (result == 0 && !options->is_dry_run)
        result = apply(&r, e);
    fill_report(&r, report);
    if (r.plan)
        config_plan_free(r.plan);
    config_ref_put(r.next);
    json_decref(r.actions);
    json_decref(r.problems);
    return result;
}
