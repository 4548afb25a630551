/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * reload.c: from the configuration in force to the one in the folder.  Everything is parsed,
 * checked and planned before the first step; a plan that holds a refused step, or one that needs a
 * restart, is not begun.
 *
 * Steps go by phase: first what can be taken back, disk removals without clients included, then
 * growing, which cannot, last the commit: exports point into the new configuration, and disks that
 * are removed by force go.  A step that fails undoes those before it, in reverse, so that the
 * running state stays as it was.
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
    bool *is_done;              /* by action */
    bool *is_late;              /* by action: removed by force, at the commit */
};

#define OPENING_LIMIT_NS (UINT64_C(15) * 1000000000u)

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

static const char *disk_of(const struct plan_action *a)
{
    return a->new_disk ? a->new_disk->name : a->old_disk ? a->old_disk->name : NULL;
}

/* A disk that is not open has nothing to change: it is opened anew with its new policy, and the
 * rule of the first and the last byte is disk_open()'s. */
static bool is_open(const struct reload *r, const struct plan_action *a)
{
    const char *name = disk_of(a);
    struct gateway_export *x = name ? export_find(r->gateway, name) : NULL;

    return x && x->disk;
}

static bool stops(const struct reload *r, const struct plan_action *a)
{
    if (a->kind != PLAN_REFUSE && a->kind != PLAN_RESTART)
        return false;
    return !disk_of(a) || is_open(r, a);
}

static unsigned count_clients(const struct reload *r, const struct plan_action *a)
{
    struct gateway_export *x = export_find(r->gateway, a->old_disk->name);

    return x && x->disk ? disk_session_count(x->disk) : 0;
}

static int check_removals(struct reload *r, struct err *e)
{
    for (unsigned i = 0; i < r->plan->count; i++) {
        const struct plan_action *a = &r->plan->actions[i];
        unsigned clients = a->kind == PLAN_REMOVE_DISK ? count_clients(r, a) : 0;

        if (clients && !r->options->is_forced)
            return err_set(e, EBUSY, "%s: %u client%s mounted it; end them first, or give --force",
                           a->old_disk->name, clients, clients == 1 ? " has" : "s have");
        r->is_late[i] = clients > 0;
    }
    return 0;
}

static void report_action(struct reload *r, const struct plan_action *a)
{
    json_array_append_new(r->actions, json_pack("{s:s, s:s?, s:s}", "kind", plan_kind_name(a->kind),
                                                "disk", disk_of(a), "text", a->text));
}

static int plan(struct reload *r, struct err *e)
{
    char name[64];

    if (!exports_wait_opened(r->gateway, clock_now_ns() + OPENING_LIMIT_NS, name, sizeof name))
        return err_set(e, EAGAIN, "%s: is still being opened; try again", name);
    if (config_plan(r->gateway->config->config, r->next->config, &r->plan) < 0)
        return err_set(e, ENOMEM, "out of memory");
    r->is_done = calloc(2 * r->plan->count + 1, sizeof *r->is_done);
    if (!r->is_done)
        return err_set(e, ENOMEM, "out of memory");
    r->is_late = r->is_done + r->plan->count;
    for (unsigned i = 0; i < r->plan->count; i++)
        report_action(r, &r->plan->actions[i]);
    for (unsigned i = 0; i < r->plan->count; i++)
        if (stops(r, &r->plan->actions[i]))
            return err_set(e, EPERM, "%s", r->plan->actions[i].text);
    return check_removals(r, e);
}

/* --- steps and how to undo them
 * ------------------------------------------------------------------- */

/* at: the action's index. is_undo: back to the configuration in force. */
typedef int step_fn(struct reload *r, unsigned at, bool is_undo, struct err *e);

static struct config_ref *side(struct reload *r, bool is_undo)
{
    return is_undo ? r->gateway->config : r->next;
}

static int open_new(struct reload *r, struct config_ref *config, const struct disk_config *policy,
                    struct err *e)
{
    struct gateway_export *x = export_new(r->gateway, config, policy);
    int result = 0;

    if (!x)
        return err_set(e, ENOMEM, "out of memory");
    export_open(x);
    if (x->state == EXPORT_FAILED)
        result = err_set(e, EIO, "%s", x->failure);
    if (result == 0)
        export_insert(r->gateway, x);
    else
        export_free(x);
    return result;
}

static int drop(struct reload *r, const char *name, bool is_forced, struct err *e)
{
    struct gateway_export *x = export_find(r->gateway, name);

    return x ? export_remove(x, is_forced, e) : 0;
}

static int step_remove(struct reload *r, unsigned at, bool is_undo, struct err *e)
{
    const struct disk_config *disk = r->plan->actions[at].old_disk;

    if (r->is_late[at])
        return 0;
    return is_undo ? open_new(r, r->gateway->config, disk, e) : drop(r, disk->name, false, e);
}

static int step_add(struct reload *r, unsigned at, bool is_undo, struct err *e)
{
    const struct disk_config *disk = r->plan->actions[at].new_disk;

    return is_undo ? drop(r, disk->name, true, e) : open_new(r, r->next, disk, e);
}

static int reconfigure(const struct gateway_config *config, struct gateway_export *x, struct err *e)
{
    const struct disk_config *disk = config_find_disk(config, x->name);
    struct disk_settings settings;

    if (!disk || !x->disk)
        return 0;
    config_disk_settings(config, disk, &settings);
    return disk_reconfigure(x->disk, &settings, e);
}

/* Limits of the gateway are settings of every disk. */
static int step_gateway(struct reload *r, unsigned at, bool is_undo, struct err *e)
{
    const struct gateway_config *config = side(r, is_undo)->config;
    int result = 0;

    (void)at;
    log_set_level(config->log_level);
    for (unsigned i = 0; i < config->disk_count && result == 0; i++) {
        struct gateway_export *x = export_find(r->gateway, config->disks[i].name);

        if (x)
            result = reconfigure(config, x, e);
    }
    return result;
}

static int step_settings(struct reload *r, unsigned at, bool is_undo, struct err *e)
{
    const char *name = disk_of(&r->plan->actions[at]);

    if (!name)
        return step_gateway(r, at, is_undo, e);
    return reconfigure(side(r, is_undo)->config, export_find(r->gateway, name), e);
}

static bool changes_chain(enum plan_kind kind)
{
    return kind == PLAN_DETACH || kind == PLAN_REPLACE || kind == PLAN_ATTACH ||
           kind == PLAN_REORDER;
}

/* The chain steps of one disk are one change: the first of them does all. */
static bool is_first_chain_step(const struct reload *r, unsigned at)
{
    for (unsigned i = 0; i < at; i++)
        if (changes_chain(r->plan->actions[i].kind) &&
            r->plan->actions[i].new_disk == r->plan->actions[at].new_disk)
            return false;
    return true;
}

static int step_chain(struct reload *r, unsigned at, bool is_undo, struct err *e)
{
    const struct plan_action *a = &r->plan->actions[at];
    struct chain_change change = {0};
    json_t *said = json_array_get(r->actions, at);
    int result;

    if (!is_first_chain_step(r, at))
        return 0;
    result = export_change_chain(export_find(r->gateway, a->new_disk->name), side(r, is_undo),
                                 is_undo ? a->old_disk : a->new_disk, &change, e);
    json_object_set_new(said, "pause_ns", json_integer((json_int_t)change.pause_ns));
    json_object_set_new(said, "deferred", json_integer((json_int_t)change.deferred));
    return result;
}

static int step_policy(struct reload *r, unsigned at, bool is_undo, struct err *e)
{
    const struct plan_action *a = &r->plan->actions[at];

    return export_change_policy(export_find(r->gateway, a->new_disk->name), side(r, is_undo),
                                is_undo ? a->old_filter : a->new_filter, e);
}

/* A disk that has grown stays so: the file may already hold data there. */
static int step_grow(struct reload *r, unsigned at, bool is_undo, struct err *e)
{
    const struct disk_config *disk = r->plan->actions[at].new_disk;

    return is_undo ? 0
                   : disk_resize(export_find(r->gateway, disk->name)->disk, disk->size_bytes, e);
}

/* In this order; a kind that is not here needs nothing before the commit. */
static const struct {
    enum plan_kind kind;
    step_fn *run;
    bool needs_open_disk;
    bool is_partial; /* a failed one may have done a part, which is undone too */
} steps[] = {
    {PLAN_REMOVE_DISK, step_remove, false, false}, {PLAN_GATEWAY, step_gateway, false, true},
    {PLAN_SETTINGS, step_settings, false, true},   {PLAN_DETACH, step_chain, true, true},
    {PLAN_REPLACE, step_chain, true, true},        {PLAN_ATTACH, step_chain, true, true},
    {PLAN_REORDER, step_chain, true, true},        {PLAN_POLICY_CHANGE, step_policy, true, false},
    {PLAN_ADD_DISK, step_add, false, false},       {PLAN_GROW, step_grow, true, false},
};

static bool concerns(const struct reload *r, unsigned step, unsigned at)
{
    const struct plan_action *a = &r->plan->actions[at];

    if (a->kind != steps[step].kind)
        return false;
    if (disk_of(a) && a->kind != PLAN_ADD_DISK && a->kind != PLAN_REMOVE_DISK && !is_open(r, a))
        return false;
    return !steps[step].needs_open_disk || is_open(r, a);
}

static void undo_one(struct reload *r, unsigned step, unsigned at)
{
    struct err e = {0};

    if (steps[step].run(r, at, true, &e) < 0)
        log_line(LOG_LEVEL_ERROR, "reload: cannot take back \"%s\": %s", r->plan->actions[at].text,
                 e.text);
}

static void undo_all(struct reload *r)
{
    for (unsigned step = ARRAY_SIZE(steps); step-- > 0;)
        for (unsigned at = r->plan->count; at-- > 0;)
            if (r->is_done[at] && r->plan->actions[at].kind == steps[step].kind)
                undo_one(r, step, at);
}

static int run_step(struct reload *r, unsigned step, unsigned at, struct err *e)
{
    if (atomic_load(&r->gateway->is_stopping))
        return err_set(e, ESHUTDOWN, "the gateway is stopping");
    return steps[step].run(r, at, false, e);
}

static int run_steps(struct reload *r, struct err *e)
{
    for (unsigned step = 0; step < ARRAY_SIZE(steps); step++)
        for (unsigned at = 0; at < r->plan->count; at++) {
            int result = concerns(r, step, at) ? run_step(r, step, at, e) : 0;

            r->is_done[at] |= concerns(r, step, at) && (result == 0 || steps[step].is_partial);
            if (result < 0)
                return err_context(e, "%s", r->plan->actions[at].text);
        }
    return 0;
}

/* --- commit
 * --------------------------------------------------------------------------------------- */

static void remove_late(struct reload *r)
{
    for (unsigned at = 0; at < r->plan->count; at++) {
        struct err e = {0};

        if (r->is_late[at] && drop(r, r->plan->actions[at].old_disk->name, true, &e) < 0)
            log_line(LOG_LEVEL_ERROR, "reload: %s", e.text);
    }
}

static void try_again_now(struct gateway_export *x)
{
    SCOPED_LOCK(&x->gateway->exports_mutex);

    x->retry_at_ns = 0;
}

/* Every export now points into the new configuration; those that had failed are tried again. */
static void commit(struct reload *r)
{
    struct gateway *g = r->gateway;
    struct config_ref *old;

    remove_late(r);
    for (unsigned i = 0; i < r->next->config->disk_count; i++) {
        const struct disk_config *d = &r->next->config->disks[i];
        struct gateway_export *x = export_find(g, d->name);

        if (!x)
            continue;
        export_set_policy(x, r->next, d);
        export_set_target(x);
        try_again_now(x);
    }
    pthread_mutex_lock(&g->exports_mutex);
    old = g->config;
    g->config = config_ref_get(r->next);
    pthread_mutex_unlock(&g->exports_mutex);
    peer_link_reload(g, r->next->config);
    config_ref_put(old);
    exports_retry(g, clock_now_ns());
}

static int apply(struct reload *r, struct err *e)
{
    int result = run_steps(r, e);

    if (result < 0) {
        if (!atomic_load(&r->gateway->is_stopping)) /* else nothing of it stays anyway */
            undo_all(r);
        return result;
    }
    commit(r);
    log_line(LOG_LEVEL_NOTICE, "reloaded: %u change%s", r->plan->count,
             r->plan->count == 1 ? "" : "s");
    events_emit(r->gateway, "change", "gateway", r->next->config->name, "reloaded:yes");
    return 0;
}

/* MONOTONIC_USEC: what sd_notify(3) wants beside RELOADING. */
static int apply_and_tell(struct reload *r, struct err *e)
{
    int result;

    service_notify("RELOADING=1\nMONOTONIC_USEC=%llu\nSTATUS=reloading",
                   (unsigned long long)(clock_now_ns() / 1000u));
    result = apply(r, e);
    gateway_tell_ready(r->gateway);
    return result;
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
    else if (atomic_load(&g->is_stopping))
        result = err_set(e, ESHUTDOWN, "the gateway is stopping");
    else
        result = parse(&r, e);
    if (result == 0)
        result = plan(&r, e);
    if (result == 0 && !options->is_dry_run)
        result = apply_and_tell(&r, e);
    fill_report(&r, report);
    config_plan_free(r.plan);
    free(r.is_done);
    config_ref_put(r.next);
    json_decref(r.actions);
    json_decref(r.problems);
    return result;
}
