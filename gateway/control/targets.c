/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * targets.c: disks as LUNs of the iSCSI target.  A disk becomes a LUN when it is open and before
 * anybody else can have it; a reload changes who may use it; a disk that is removed first ceases to
 * be a LUN.
 *
 * Names: `iqn:` is taken as it is, `target: NAME` and a disk's own target, named by its UUID, stand
 * under one prefix, so that a name never changes while the disk lives.
 */
#include "internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define PREFIX "iqn.2024-01.org.sluice:"
/* For those that are asked to log out before the gateway stops: then it goes on without them. */
#define LOGOUT_LIMIT_S 2

/* --- life ------------------------------------------------------------------------------------- */

static void count_event(struct gateway *g, const char *what)
{
    _Atomic uint64_t *counter = strcmp(what, "refused") == 0 ? &g->iscsi_refused
                                : strcmp(what, "login") == 0 ? &g->iscsi_logins
                                                             : &g->iscsi_logouts;

    atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

static void notify(void *context, const char *what, const char *target, const char *text)
{
    struct gateway *g = context;

    count_event(g, what);
    if (strcmp(what, "refused") == 0)
        log_line(LOG_LEVEL_WARNING, "iSCSI: login refused target=%s %s", target, text);
    else
        log_line(LOG_LEVEL_INFO, "iSCSI: %s target=%s %s", what, target, text);
    events_emit(g, what, "iscsi", target, text);
}

int targets_start(struct gateway *g, struct err *e)
{
    const struct gateway_config *c = g->config->config;
    struct iscsi_settings settings = {
        .portal_group = (uint16_t)c->iscsi.portal_group,
        .discovery_chap = c->iscsi.discovery_chap,
        .discovery_chap_mutual = c->iscsi.discovery_chap_mutual,
        .notify = notify,
        .context = g,
    };

    if (c->listen.iscsi.count == 0)
        return 0;
    return iscsi_create(&settings, &g->iscsi, e);
}

int targets_listen(struct gateway *g, struct err *e)
{
    const struct config_addresses *list = &g->config->config->listen.iscsi;
    int r = 0;

    targets_update_starting(g);
    for (unsigned i = 0; i < list->count && r == 0; i++)
        r = iscsi_listen(g->iscsi, &list->item[i], e);
    return r;
}

void targets_stop(struct gateway *g)
{
    if (!g->iscsi)
        return;
    iscsi_stop_listening(g->iscsi);
    iscsi_ask_logouts(g->iscsi, LOGOUT_LIMIT_S);
}

static const struct peer_config *find_peer(const struct gateway_config *c, const char *name)
{
    for (unsigned i = 0; name && i < c->peer_count; i++)
        if (strcmp(c->peers[i].name, name) == 0)
            return &c->peers[i];
    return NULL;
}

/* Who has the same disk, by the replication filter's option `peer`; NULL: nobody. */
static const struct peer_config *peer_of(const struct gateway_config *c,
                                         const struct disk_config *policy)
{
    for (unsigned i = 0; i < policy->filter_count; i++) {
        const struct filter_config *f = &policy->filters[i];

        if (f->filter_class != SLUICE_CLASS_REPLICATION)
            continue;
        for (unsigned o = 0; f->filter->options && f->filter->options[o].name; o++)
            if (strcmp(f->filter->options[o].name, "peer") == 0)
                return find_peer(c, f->values[o].string);
    }
    return NULL;
}

/* The other gateway's group is told as it has to be beside ours: what it is at this moment the
 * other gateway tells itself, by its own paths, and who cannot be reached is nobody's path.  To
 * call the primary unavailable here, because the link is gone, would cut off who still reaches it.
 */
static unsigned fill_groups(const struct gateway_config *c, const struct disk_config *policy,
                            uint32_t role, struct scsi_port_group groups[2])
{
    const struct peer_config *peer = peer_of(c, policy);
    bool is_primary = role == SLUICE_ROLE_PRIMARY;

    groups[0] =
        (struct scsi_port_group){.id = (uint16_t)c->iscsi.portal_group,
                                 .state = is_primary ? SCSI_ACTIVE_OPTIMIZED : SCSI_STANDBY};
    if (!peer || peer->iscsi.count == 0)
        return 1;
    groups[1] =
        (struct scsi_port_group){.id = (uint16_t)peer->portal_group,
                                 .state = is_primary ? SCSI_STANDBY : SCSI_ACTIVE_OPTIMIZED};
    return 2;
}

void targets_set_access(struct gateway *g, struct disk *disk, uint32_t role)
{
    struct scsi_port_group groups[2];
    unsigned count = 0;

    if (!g->iscsi)
        return;
    pthread_mutex_lock(&g->exports_mutex);
    LIST_FOREACH (node, &g->exports) {
        const struct gateway_export *x = LIST_ENTRY(node, struct gateway_export, link);

        if (x->disk == disk)
            count = fill_groups(x->config->config, x->policy, role, groups);
    }
    pthread_mutex_unlock(&g->exports_mutex);
    if (count)
        iscsi_lun_set_access(g->iscsi, disk, groups, count);
}

/* The name of a disk's target is not known before the disk is open. */
void targets_update_starting(struct gateway *g)
{
    bool is_starting = false;

    if (!g->iscsi)
        return;
    pthread_mutex_lock(&g->exports_mutex);
    LIST_FOREACH (node, &g->exports) {
        const struct gateway_export *x = LIST_ENTRY(node, struct gateway_export, link);

        is_starting |= x->policy->iscsi.is_enabled && x->state != EXPORT_READY;
    }
    pthread_mutex_unlock(&g->exports_mutex);
    iscsi_set_starting(g->iscsi, is_starting);
}

/* --- a disk -------------------------------------------------------------------------------------
 */

static void write_target_name(const struct iscsi_export_config *policy, const struct disk *disk,
                              char *out, size_t size)
{
    if (policy->iqn)
        snprintf(out, size, "%s", policy->iqn);
    else
        snprintf(out, size, PREFIX "%s", policy->target ? policy->target : disk_uuid(disk));
    for (char *p = out; *p; p++)
        if (*p >= 'A' && *p <= 'Z')
            *p |= 0x20;
}

static bool is_reached_from_outside(const struct config_addresses *listeners)
{
    for (unsigned i = 0; i < listeners->count; i++)
        if (!listeners->item[i].is_loopback)
            return true;
    return false;
}

/* Not refused, as the network may be a storage network; but nobody shall be surprised. */
static void warn_of_strangers(const struct gateway_export *x, const struct gateway_config *c,
                              const struct iscsi_export_config *policy, const char *target)
{
    if (!policy->chap && policy->initiators.count == 0 && policy->networks.count == 0 &&
        is_reached_from_outside(&c->listen.iscsi))
        log_line(LOG_LEVEL_WARNING,
                 "iSCSI: whoever reaches a portal may use the disk: its policy has none of chap, "
                 "initiators and networks under export.iscsi target=%s disk=%s",
                 target, x->name);
}

/* What the peer keeps of the old data, in its journal, its tier and its seals, is out of reach. */
static bool has_replication(const struct disk_config *policy)
{
    for (unsigned i = 0; i < policy->filter_count; i++)
        if (policy->filters[i].filter_class == SLUICE_CLASS_REPLICATION)
            return true;
    return false;
}

static void warn_of_erasing(const struct gateway_export *x, const struct disk_config *policy)
{
    if (policy->iscsi.may_erase && has_replication(policy))
        log_line(
            LOG_LEVEL_WARNING,
            "iSCSI: export.iscsi.erase has no effect: what the journals and the peer keep of a "
            "replicated disk's old data could not be erased disk=%s",
            x->name);
}

static int set_lun(struct gateway_export *x, const struct gateway_config *c,
                   const struct disk_config *disk_policy, struct err *e)
{
    const struct iscsi_export_config *policy = &disk_policy->iscsi;
    char target[300];
    struct iscsi_lun_settings settings = {
        .target = target,
        .lun = (uint16_t)policy->lun,
        .chap = policy->chap,
        .chap_mutual = policy->chap_mutual,
        .initiators = policy->initiators,
        .networks = policy->networks,
        .peer = peer_of(c, disk_policy),
        .scsi = {.block_bytes = policy->sectors == ISCSI_SECTORS_4KN ? 4096 : 512,
                 .physical_bytes = policy->sectors == ISCSI_SECTORS_512 ? 512 : 4096,
                 .may_erase = policy->may_erase && !has_replication(disk_policy)},
    };

    write_target_name(policy, x->disk, target, sizeof target);
    warn_of_strangers(x, c, policy, target);
    warn_of_erasing(x, disk_policy);
    return iscsi_lun_set(x->gateway->iscsi, x->disk, &settings, e);
}

void export_set_target(struct gateway_export *x)
{
    struct config_ref *config;
    const struct disk_config *policy;
    struct err e = {0};
    int r;

    if (!x->gateway->iscsi || !x->disk)
        return;
    pthread_mutex_lock(&x->gateway->exports_mutex);
    config = config_ref_get(x->config);
    policy = x->policy;
    pthread_mutex_unlock(&x->gateway->exports_mutex);
    r = policy->iscsi.is_enabled ? set_lun(x, config->config, policy, &e)
                                 : iscsi_lun_remove(x->gateway->iscsi, x->disk, &e);
    if (r == 0 && policy->iscsi.is_enabled &&
        (disk_role(x->disk, NULL) != SLUICE_ROLE_PRIMARY || peer_of(config->config, policy)))
        targets_set_access(x->gateway, x->disk, disk_role(x->disk, NULL));
    if (r < 0 && r != -ENOENT)
        log_line(LOG_LEVEL_ERROR, "iSCSI: %s disk=%s", e.text, x->name);
    config_ref_put(config);
}

void export_unset_target(struct gateway_export *x)
{
    struct err e = {0};
    int r = x->gateway->iscsi && x->disk ? iscsi_lun_remove(x->gateway->iscsi, x->disk, &e) : 0;

    if (r < 0 && r != -ENOENT)
        log_line(LOG_LEVEL_ERROR, "iSCSI: %s disk=%s", e.text, x->name);
}

/* --- looking
 * -------------------------------------------------------------------------------------- */

json_t *export_target_json(struct gateway_export *x)
{
    char target[300];

    if (!x->gateway->iscsi || !x->policy->iscsi.is_enabled)
        return json_null();
    write_target_name(&x->policy->iscsi, x->disk, target, sizeof target);
    return json_pack("{s:s, s:i}", "target", target, "lun", (int)x->policy->iscsi.lun);
}

static void add_session(const struct iscsi_session_view *v, void *arg)
{
    char isid[13];

    snprintf(isid, sizeof isid, "%02x%02x%02x%02x%02x%02x", v->isid[0], v->isid[1], v->isid[2],
             v->isid[3], v->isid[4], v->isid[5]);
    json_array_append_new(
        arg,
        json_pack("{s:s, s:s?, s:s, s:s, s:s, s:i, s:i, s:b, s:b, s:b, s:b, s:b, s:I, s:I, s:I, "
                  "s:I, s:I, s:I, s:I, s:i, s:i}",
                  "initiator", v->initiator, "target", v->target[0] ? v->target : NULL, "address",
                  v->address, "portal", v->portal, "isid", isid, "session", (int)v->tsih,
                  "portal_group", (int)v->portal_group, "authenticated", v->is_authenticated,
                  "header_digest", v->header_digest, "data_digest", v->data_digest,
                  "immediate_data", v->immediate_data, "initial_r2t", v->initial_r2t,
                  "segment_bytes", (json_int_t)v->max_send_bytes, "max_burst_bytes",
                  (json_int_t)v->max_burst_bytes, "first_burst_bytes",
                  (json_int_t)v->first_burst_bytes, "age_ns", (json_int_t)v->age_ns, "commands",
                  (json_int_t)v->commands, "bytes_written", (json_int_t)v->bytes_in, "bytes_read",
                  (json_int_t)v->bytes_out, "in_flight", (int)v->tasks, "loop", (int)v->loop));
}

struct session_sums {
    uint64_t sessions, tasks;
};

static void sum_session(const struct iscsi_session_view *v, void *arg)
{
    struct session_sums *sums = arg;

    sums->sessions++;
    sums->tasks += v->tasks;
}

void targets_metrics(struct gateway *g, FILE *out)
{
    struct session_sums sums = {0};

    if (!g->iscsi)
        return;
    iscsi_for_each_session(g->iscsi, sum_session, &sums);
    const struct {
        const char *name, *type, *help;
        uint64_t value;
    } rows[] = {
        {"sluice_iscsi_sessions", "gauge", "iSCSI sessions, discovery included.", sums.sessions},
        {"sluice_iscsi_tasks", "gauge", "iSCSI commands being worked on.", sums.tasks},
        {"sluice_iscsi_logins_total", "counter", "iSCSI logins that were let in.",
         atomic_load(&g->iscsi_logins)},
        {"sluice_iscsi_logins_refused_total", "counter", "iSCSI logins that were refused.",
         atomic_load(&g->iscsi_refused)},
        {"sluice_iscsi_logouts_total", "counter", "iSCSI sessions that ended.",
         atomic_load(&g->iscsi_logouts)},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++)
        fprintf(out, "# HELP %s %s\n# TYPE %s %s\n%s %llu\n", rows[i].name, rows[i].help,
                rows[i].name, rows[i].type, rows[i].name, (unsigned long long)rows[i].value);
}

json_t *targets_sessions_json(struct gateway *g)
{
    json_t *list = json_array();

    if (g->iscsi)
        iscsi_for_each_session(g->iscsi, add_session, list);
    return list;
}
