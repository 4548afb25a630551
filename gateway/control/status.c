/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * status.c: how the gateway is, as one JSON document: integers in base units, null for what is not
 * known.  A disk's state is failed (not served), suspended (guests are held by order), degraded
 * (something is wrong, it is served) or ok; beside each trouble stands its remedy.
 */
#include "internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define SCHEMA_VERSION 1
#define WINDOWS_MAX 256u

/* --- windows: how many requests each connection has in flight, and who holds them
 * ------------------------ */

struct window {
    uint64_t session;
    unsigned in_flight, held;
    char client[96], filter[64];
};

struct windows {
    struct window window[WINDOWS_MAX];
    unsigned count;
    json_t *tasks; /* NULL: not wanted */
};

static struct window *find_window(struct windows *w, const struct request_view *v)
{
    for (unsigned i = 0; i < w->count; i++)
        if (w->window[i].session == v->session)
            return &w->window[i];
    if (w->count == WINDOWS_MAX)
        return NULL;
    w->window[w->count] = (struct window){.session = v->session};
    snprintf(w->window[w->count].client, sizeof w->window[0].client, "%s", v->client);
    return &w->window[w->count++];
}

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

static void look_at_request(const struct request_view *v, void *arg)
{
    struct windows *w = arg;
    struct window *window;

    if (w->tasks)
        json_array_append_new(w->tasks, view_to_json(v));
    if (v->origin != SLUICE_ORIGIN_GUEST || strcmp(v->where, "compound") == 0)
        return;
    window = find_window(w, v);
    if (!window)
        return;
    window->in_flight++;
    if (v->filter[0]) {
        window->held++;
        snprintf(window->filter, sizeof window->filter, "%s", v->filter);
    }
}

static json_t *full_windows(const struct windows *w, unsigned limit)
{
    json_t *list = json_array();

    for (unsigned i = 0; i < w->count; i++)
        if (w->window[i].in_flight >= limit)
            json_array_append_new(
                list, json_pack("{s:s, s:i, s:i, s:s?}", "client", w->window[i].client, "in_flight",
                                (int)w->window[i].in_flight, "held", (int)w->window[i].held,
                                "filter", w->window[i].filter[0] ? w->window[i].filter : NULL));
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
    char identity[300];

    backing_status(disk_backing(disk), &st);
    backing_identity(disk_backing(disk), identity, sizeof identity);
    return json_pack("{s:s, s:b, s:I, s:I, s:I, s:i, s:s, s:s}", "kind", backing_kind_name(kind),
                     "connected", st.is_connected, "generation", (json_int_t)st.generation,
                     "reconnects", (json_int_t)st.reconnects, "replayed_writes",
                     (json_int_t)st.replayed_writes, "sticky_error", st.sticky_error, "identity",
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

/* --- verdict on a disk
 * ------------------------------------------------------------------------------------------ */

struct health {
    const char *state;
    char sentence[600], remedy[400];
};

static void trouble(struct health *h, const char *state, const char *sentence, const char *remedy)
{
    if (strcmp(h->state, "ok") != 0)
        return; /* the first, and worst, is told */
    h->state = state;
    snprintf(h->sentence, sizeof h->sentence, "%s", sentence);
    snprintf(h->remedy, sizeof h->remedy, "%s", remedy);
}

static void judge_backing(struct disk *disk, struct health *h)
{
    struct backing_status st = {.is_connected = true};
    char text[400];

    backing_status(disk_backing(disk), &st);
    if (st.sticky_error) {
        snprintf(text, sizeof text,
                 "a flush failed (%s); every flush fails until the backing is opened anew",
                 strerror(st.sticky_error));
        trouble(h, "degraded", text, "find out what was lost, then: sluice disk reopen DISK");
    }
    if (!st.is_connected)
        trouble(h, "degraded", st.sentence,
                "look after the backing's server; requests wait for it");
}

static void judge_windows(json_t *full, struct health *h)
{
    const json_t *first = json_array_get(full, 0);
    const char *filter = json_string_value(json_object_get(first, "filter"));
    char text[300];

    if (!first)
        return;
    snprintf(text, sizeof text, "the window of %" JSON_INTEGER_FORMAT " requests of %s is full%s%s",
             json_integer_value(json_object_get(first, "in_flight")),
             json_string_value(json_object_get(first, "client")), filter ? ", held by filter " : "",
             filter ? filter : "");
    trouble(h, "degraded", text,
            filter ? "look at that filter; or raise limits.nbd_in_flight" : "the backing is slow");
}

static void judge_filters(const struct gateway_export *x, struct health *h)
{
    for (unsigned i = 0; i < x->station_count; i++) {
        char sentence[400] = "", remedy[400] = "";
        uint32_t state =
            host_station_health(x->station[i], sentence, sizeof sentence, remedy, sizeof remedy);

        if (state != SLUICE_HEALTH_OK)
            trouble(h, state == SLUICE_HEALTH_FAILED ? "failed" : "degraded", sentence, remedy);
    }
}

/* --- a disk
 * ------------------------------------------------------------------------------------------------------
 */

static json_t *failed_disk(const struct gateway_export *x)
{
    bool is_failed = x->state == EXPORT_FAILED;

    return json_pack("{s:s, s:s, s:n, s:s, s:s}", "name", x->name, "state",
                     is_failed ? "failed" : "opening", "size_bytes", "sentence",
                     is_failed ? x->failure : "is being opened", "remedy",
                     is_failed ? "mend the cause, then: sluice reload" : "wait");
}

static json_t *filters_to_json(const struct gateway_export *x)
{
    json_t *list = json_array();

    for (unsigned i = 0; i < x->station_count; i++)
        json_array_append_new(list, host_station_status(x->station[i]));
    return list;
}

static json_t *open_disk_to_json(struct gateway_export *x, bool with_tasks)
{
    struct windows *w = calloc(1, sizeof *w);
    struct health h = {.state = "ok"};
    struct engine_counts counts;
    json_t *clients = json_array(), *full, *j;
    char gate[200];

    if (!w)
        return NULL;
    w->tasks = with_tasks ? json_array() : NULL;
    engine_for_each_request(disk_engine(x->disk), look_at_request, w);
    full = full_windows(w, gateway_nbd_in_flight(x->gateway));
    disk_for_each_session(x->disk, add_client, clients);
    engine_counts(disk_engine(x->disk), &counts);
    disk_gate_reason(x->disk, gate, sizeof gate);
    if (gate[0])
        trouble(&h, "suspended", gate, "see what the filter waits for");
    judge_backing(x->disk, &h);
    judge_filters(x, &h);
    judge_windows(full, &h);
    j = json_pack("{s:s, s:s, s:I, s:s, s:s, s:b, s:s?, s:s?, s:o, s:o, s:o, s:o, s:o, s:i}",
                  "name", x->name, "state", h.state, "size_bytes", (json_int_t)disk_size(x->disk),
                  "group", disk_group(x->disk), "uuid", disk_uuid(x->disk), "read_only",
                  disk_is_read_only(x->disk), "sentence", h.sentence[0] ? h.sentence : NULL,
                  "remedy", h.remedy[0] ? h.remedy : NULL, "clients", clients, "backing",
                  backing_to_json(x->disk, x->policy->backing.kind), "filters", filters_to_json(x),
                  "io", counts_to_json(&counts), "full_windows", full, "nbd_in_flight_limit",
                  (int)gateway_nbd_in_flight(x->gateway));
    if (j && w->tasks)
        json_object_set(j, "tasks", w->tasks);
    json_decref(w->tasks);
    free(w);
    return j;
}

json_t *status_of_export(struct gateway_export *x, bool with_tasks)
{
    json_t *j;

    if (x->state != EXPORT_READY || !x->disk)
        return failed_disk(x);
    j = open_disk_to_json(x, with_tasks);
    return j ? j : failed_disk(x);
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

/* Takes references, so that nothing is locked while filters are asked. */
static unsigned take_exports(struct gateway *g, const char *name, struct gateway_export **out,
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

#define EXPORTS_MAX 4096u

json_t *gateway_status(struct gateway *g, const char *disk)
{
    struct gateway_export **list = calloc(EXPORTS_MAX, sizeof(struct gateway_export *));
    json_t *disks = json_array(), *j;
    unsigned count;

    if (!list)
        return NULL;
    pthread_mutex_lock(&g->change_mutex); /* stations stay in their chains meanwhile */
    count = take_exports(g, disk, list, EXPORTS_MAX);
    for (unsigned i = 0; i < count; i++)
        json_array_append_new(disks, status_of_export(list[i], false));
    pthread_mutex_unlock(&g->change_mutex);
    for (unsigned i = 0; i < count; i++)
        gateway_export_release(list[i]);
    free(list);
    if (disk && count == 0) {
        json_decref(disks);
        return NULL;
    }
    j = json_pack("{s:i, s:s, s:o, s:o}", "schema_version", SCHEMA_VERSION, "gateway",
                  g->config->config->name ? g->config->config->name : "", "process",
                  process_to_json(g), "disks", disks);
    return j;
}

/* --- metrics
 * -------------------------------------------------------------------------------------------------------
 */

static void put_disk(FILE *out, struct gateway_export *x)
{
    struct engine_counts n;

    fprintf(out, "sluice_disk_up{disk=\"%s\"} %d\n", x->name, x->state == EXPORT_READY);
    if (x->state != EXPORT_READY)
        return;
    engine_counts(disk_engine(x->disk), &n);
    fprintf(out, "sluice_disk_size_bytes{disk=\"%s\"} %" PRIu64 "\n", x->name, disk_size(x->disk));
    fprintf(out, "sluice_disk_clients{disk=\"%s\"} %u\n", x->name, disk_session_count(x->disk));
    fprintf(out, "sluice_disk_in_flight{disk=\"%s\"} %" PRIu64 "\n", x->name, n.in_flight);
    fprintf(out, "sluice_disk_stalled_total{disk=\"%s\"} %" PRIu64 "\n", x->name, n.stalled);
    for (unsigned op = 0; op < SLUICE_OP_COUNT; op++) {
        const char *name = engine_op_name(op);

        fprintf(out, "sluice_disk_requests_total{disk=\"%s\",op=\"%s\"} %" PRIu64 "\n", x->name,
                name, n.requests[op]);
        fprintf(out, "sluice_disk_bytes_total{disk=\"%s\",op=\"%s\"} %" PRIu64 "\n", x->name, name,
                n.bytes[op]);
        fprintf(out, "sluice_disk_errors_total{disk=\"%s\",op=\"%s\"} %" PRIu64 "\n", x->name, name,
                n.errors[op]);
        fprintf(out, "sluice_disk_latency_p99_seconds{disk=\"%s\",op=\"%s\"} %.9f\n", x->name, name,
                (double)n.latency_p99_ns[op] / 1e9);
    }
    for (unsigned i = 0; i < x->station_count; i++)
        host_station_metrics(x->station[i], out);
}

static void put_help(FILE *out)
{
    static const char *const help[][3] = {
        {"sluice_disk_up", "gauge", "1 when the disk is served"},
        {"sluice_disk_size_bytes", "gauge", "size of the disk"},
        {"sluice_disk_clients", "gauge", "connections that have it mounted"},
        {"sluice_disk_in_flight", "gauge", "requests being worked on"},
        {"sluice_disk_stalled_total", "counter", "requests that were past their deadline"},
        {"sluice_disk_requests_total", "counter", "requests that ended"},
        {"sluice_disk_bytes_total", "counter", "bytes of requests that ended"},
        {"sluice_disk_errors_total", "counter", "requests that failed"},
        {"sluice_disk_latency_p99_seconds", "gauge",
         "99th percentile since the start, upper edge of its bucket"},
    };

    for (unsigned i = 0; i < ARRAY_SIZE(help); i++)
        fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", help[i][0], help[i][2], help[i][0],
                help[i][1]);
}

int gateway_metrics(struct gateway *g, FILE *out)
{
    struct gateway_export **list = calloc(EXPORTS_MAX, sizeof(struct gateway_export *));
    unsigned count;

    if (!list)
        return -ENOMEM;
    fprintf(out,
            "# HELP sluice_build_info the running version\n# TYPE sluice_build_info gauge\n"
            "sluice_build_info{version=\"%s\"} 1\n",
            PACKAGE_VERSION);
    fprintf(out,
            "# HELP sluice_threads threads of the process\n# TYPE sluice_threads "
            "gauge\nsluice_threads %ld\n",
            proc_status("Threads:"));
    put_help(out);
    pthread_mutex_lock(&g->change_mutex);
    count = take_exports(g, NULL, list, EXPORTS_MAX);
    for (unsigned i = 0; i < count; i++)
        put_disk(out, list[i]);
    pthread_mutex_unlock(&g->change_mutex);
    for (unsigned i = 0; i < count; i++)
        gateway_export_release(list[i]);
    free(list);
    return 0;
}
