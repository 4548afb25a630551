/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * status.c: how the gateway is, as one JSON document: integers in base units, null for what is not
 * known.  judge.c says what is wrong; here stands all that is so.
 */
#include "internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define SCHEMA_VERSION 1
/* --- requests in flight
 * --------------------------------------------------------------------------- */

static json_t *view_to_json(const struct request_view *v)
{
    static const char *const origins[SLUICE_ORIGIN_COUNT] = {"guest", "filter", "resync",
                                                             "maintenance"};

    return json_pack("{s:I, s:s, s:s, s:I, s:I, s:I, s:s, s:s?, s:s?, s:s}", "id",
                     (json_int_t)v->id, "op", engine_op_name(v->op), "origin",
                     v->origin < SLUICE_ORIGIN_COUNT ? origins[v->origin] : "unknown", "offset",
                     (json_int_t)v->offset, "length_bytes", (json_int_t)v->length, "age_ns",
                     (json_int_t)v->age_ns, "where", v->where, "filter",
                     v->filter[0] ? v->filter : NULL, "reason", v->hold_reason, "client",
                     v->client);
}

static void add_task(const struct request_view *v, void *arg)
{
    json_array_append_new(arg, view_to_json(v));
}

static json_t *list_tasks(struct disk *disk)
{
    json_t *list = json_array();

    engine_for_each_request(disk_engine(disk), add_task, list);
    return list;
}

static json_t *windows_to_json(const struct windows *w, unsigned limit)
{
    json_t *list = json_array();

    for (unsigned i = 0; i < w->count; i++)
        json_array_append_new(
            list, json_pack("{s:s, s:i, s:b, s:i, s:s?, s:s?}", "client", w->window[i].client,
                            "in_flight", (int)w->window[i].in_flight, "is_full",
                            w->window[i].is_nbd && w->window[i].in_flight >= limit, "held",
                            (int)w->window[i].held, "filter",
                            w->window[i].filter[0] ? w->window[i].filter : NULL, "reason",
                            w->window[i].reason));
    return list;
}

/* --- parts of a disk
 * ------------------------------------------------------------------------------------------ */

static void add_client(const struct disk_session *s, void *arg)
{
    json_array_append_new(
        arg, json_pack("{s:s, s:s, s:s?, s:b, s:I}", "front_end", s->client.front_end, "address",
                       s->client.address, "initiator",
                       s->client.initiator[0] ? s->client.initiator : NULL, "read_only",
                       s->is_read_only, "age_ns", (json_int_t)(clock_now_ns() - s->opened_ns)));
}

static json_t *backing_to_json(struct disk *disk, enum backing_kind kind)
{
    struct backing_status st = {.is_connected = true};
    struct engine_failures failures;
    char identity[300];

    engine_failures(disk_engine(disk), &failures);
    backing_status(disk_backing(disk), &st);
    backing_identity(disk_backing(disk), identity, sizeof identity);
    return json_pack("{s:s, s:b, s:I, s:I, s:I, s:I, s:i, s:s, s:s}", "kind",
                     backing_kind_name(kind), "connected", st.is_connected, "generation",
                     (json_int_t)st.generation, "reconnects", (json_int_t)st.reconnects,
                     "replayed_writes", (json_int_t)st.replayed_writes, "failures",
                     (json_int_t)failures.count, "sticky_error", st.sticky_error, "identity",
                     identity, "sentence", st.sentence);
}

static json_t *counts_to_json(const struct engine_counts *n)
{
    json_t *ops = json_object();

    for (unsigned op = 0; op < SLUICE_OP_COUNT; op++)
        json_object_set_new(ops, engine_op_name(op),
                            json_pack("{s:I, s:I, s:I, s:I, s:I}", "requests",
                                      (json_int_t)n->requests[op], "bytes",
                                      (json_int_t)n->bytes[op], "errors", (json_int_t)n->errors[op],
                                      "latency_p50_ns", (json_int_t)n->latency_p50_ns[op],
                                      "latency_p99_ns", (json_int_t)n->latency_p99_ns[op]));
    return json_pack("{s:I, s:I, s:I, s:o}", "in_flight", (json_int_t)n->in_flight, "held_at_gate",
                     (json_int_t)n->held_at_gate, "stalled", (json_int_t)n->stalled, "operations",
                     ops);
}

/* --- a disk
 * ------------------------------------------------------------------------------------------------------
 */

static json_t *filters_to_json(const struct gateway_export *x)
{
    json_t *list = json_array();

    for (unsigned i = 0; i < x->seat_count; i++)
        json_array_append_new(list, host_station_status(x->seat[i].station));
    return list;
}

static void add_identity(struct gateway_export *x, json_t *j)
{
    uint64_t epoch = 0;
    uint32_t role = disk_role(x->disk, &epoch);
    SCOPED_LOCK(&x->gateway->exports_mutex);

    json_object_set_new(j, "uuid", json_string(disk_uuid(x->disk)));
    json_object_set_new(j, "group", json_string(disk_group(x->disk)));
    json_object_set_new(j, "policy",
                        x->policy->policy ? json_string(x->policy->policy) : json_null());
    json_object_set_new(j, "read_only", json_boolean(disk_is_read_only(x->disk)));
    json_object_set_new(j, "role", json_string(disk_role_name(role)));
    json_object_set_new(j, "epoch", json_integer((json_int_t)epoch));
    json_object_set_new(j, "iscsi", export_target_json(x));
    json_object_set_new(j, "backing", backing_to_json(x->disk, x->policy->backing.kind));
}

static void add_activity(struct gateway_export *x, const struct windows *w, json_t *j)
{
    unsigned limit = gateway_nbd_in_flight(x->gateway);
    struct engine_counts counts;
    json_t *clients = json_array();

    disk_for_each_session(x->disk, add_client, clients);
    engine_counts(disk_engine(x->disk), &counts);
    json_object_set_new(j, "clients", clients);
    json_object_set_new(j, "filters", filters_to_json(x));
    json_object_set_new(j, "io", counts_to_json(&counts));
    json_object_set_new(j, "windows", windows_to_json(w, limit));
    json_object_set_new(j, "nbd_in_flight_limit", json_integer(limit));
}

static bool is_open(struct gateway_export *x)
{
    SCOPED_LOCK(&x->gateway->exports_mutex);

    return x->state == EXPORT_READY && x->disk;
}

json_t *status_of_export(struct gateway_export *x, bool with_tasks)
{
    struct windows *w = calloc(1, sizeof *w);
    struct health h;
    json_t *j;

    if (!w)
        return NULL;
    pthread_rwlock_rdlock(&x->use);
    export_judge(x, w, &h);
    j = json_pack("{s:s, s:s, s:o, s:s?, s:s?}", "name", x->name, "state", h.state, "size_bytes",
                  is_open(x) ? json_integer((json_int_t)disk_size(x->disk)) : json_null(),
                  "sentence", h.sentence[0] ? h.sentence : NULL, "remedy",
                  h.remedy[0] ? h.remedy : NULL);
    if (j && is_open(x)) {
        add_identity(x, j);
        add_activity(x, w, j);
        if (with_tasks)
            json_object_set_new(j, "tasks", list_tasks(x->disk));
    }
    pthread_rwlock_unlock(&x->use);
    free(w);
    return j;
}

/* --- the gateway
 * ----------------------------------------------------------------------------------------------------
 */

/* "VmRSS:   123 kB" and "Threads:  7" of this process; -1: not known. */
static long proc_status(const char *key)
{
    FILE *f = fopen("/proc/self/status", "re");
    char line[200];
    long value = -1;

    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, key, strlen(key)) == 0) {
            value = strtol(line + strlen(key), NULL, 10);
            break;
        }
    if (f)
        fclose(f);
    return value;
}

static json_t *process_to_json(const struct gateway *g)
{
    long rss = proc_status("VmRSS:"), threads = proc_status("Threads:");

    return json_pack("{s:I, s:o, s:o, s:I}", "pid", (json_int_t)getpid(), "threads",
                     threads < 0 ? json_null() : json_integer(threads), "resident_bytes",
                     rss < 0 ? json_null() : json_integer((json_int_t)rss * 1024), "age_ns",
                     (json_int_t)(clock_now_ns() - g->started_ns));
}

static json_t *list_listeners(const struct config_addresses *addresses)
{
    json_t *list = json_array();

    for (unsigned i = 0; i < addresses->count; i++)
        json_array_append_new(list, json_string(addresses->item[i].text));
    return list;
}

/* Files are read without a lock: they may be on a file system that hangs. */
static json_t *list_certificates(struct gateway *g)
{
    struct config_ref *config;
    json_t *list;

    pthread_mutex_lock(&g->exports_mutex);
    config = config_ref_get(g->config);
    pthread_mutex_unlock(&g->exports_mutex);
    list = certificates_json(config->config);
    config_ref_put(config);
    return list;
}

static json_t *add_gateway(struct gateway *g, json_t *disks)
{
    json_t *certificates = list_certificates(g);
    SCOPED_LOCK(&g->exports_mutex);

    return json_pack("{s:i, s:s, s:s, s:s?, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "schema_version",
                     SCHEMA_VERSION, "gateway",
                     g->config->config->name ? g->config->config->name : "", "version",
                     PACKAGE_VERSION, "folder", g->options.folder, "listen_nbd",
                     list_listeners(&g->config->config->listen.nbd), "listen_iscsi",
                     list_listeners(&g->config->config->listen.iscsi), "iscsi_sessions",
                     targets_sessions_json(g), "peers", peer_link_json(g), "certificates",
                     certificates, "process", process_to_json(g), "disks", disks);
}

#define EXPORTS_MAX 4096u

json_t *gateway_status(struct gateway *g, const char *disk)
{
    struct gateway_export **list = calloc(EXPORTS_MAX, sizeof(struct gateway_export *));
    json_t *disks = json_array();
    unsigned count;

    if (!list)
        return NULL;
    count = exports_take(g, disk, list, EXPORTS_MAX);
    for (unsigned i = 0; i < count; i++)
        json_array_append_new(disks, status_of_export(list[i], false));
    for (unsigned i = 0; i < count; i++)
        gateway_export_release(list[i]);
    free(list);
    if (disk && count == 0) {
        json_decref(disks);
        return NULL;
    }
    return add_gateway(g, disks);
}
