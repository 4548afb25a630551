/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * metrics.c: Prometheus text format 0.0.4: base units, `_total` for counters, each metric once with
 * its HELP and TYPE and all its lines together, as the format wants it.  Labels are names of disks,
 * filters and operations: bounded.
 */
#include "internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define EXPORTS_MAX 4096u

/* One disk as it was at one moment. */
struct sample {
    const char *name;
    bool is_up;
    uint64_t size_bytes;
    unsigned clients;
    struct engine_counts n;
};

static void take_sample(struct gateway_export *x, struct sample *s)
{
    *s = (struct sample){.name = x->name};
    pthread_mutex_lock(&x->gateway->exports_mutex);
    s->is_up = x->state == EXPORT_READY && x->disk;
    pthread_mutex_unlock(&x->gateway->exports_mutex);
    if (!s->is_up)
        return;
    s->size_bytes = disk_size(x->disk);
    s->clients = disk_session_count(x->disk);
    engine_counts(disk_engine(x->disk), &s->n);
}

/* --- metrics of a disk: a row each
 * ---------------------------------------------------------------- */

static uint64_t get_up(const struct sample *s, unsigned op)
{
    (void)op;
    return s->is_up;
}

static uint64_t get_size(const struct sample *s, unsigned op)
{
    (void)op;
    return s->size_bytes;
}

static uint64_t get_clients(const struct sample *s, unsigned op)
{
    (void)op;
    return s->clients;
}

static uint64_t get_in_flight(const struct sample *s, unsigned op)
{
    (void)op;
    return s->n.in_flight;
}

static uint64_t get_at_gate(const struct sample *s, unsigned op)
{
    (void)op;
    return s->n.held_at_gate;
}

static uint64_t get_stalled(const struct sample *s, unsigned op)
{
    (void)op;
    return s->n.stalled;
}

static uint64_t get_requests(const struct sample *s, unsigned op)
{
    return s->n.requests[op];
}

static uint64_t get_bytes(const struct sample *s, unsigned op)
{
    return s->n.bytes[op];
}

static uint64_t get_errors(const struct sample *s, unsigned op)
{
    return s->n.errors[op];
}

static const struct {
    const char *name, *type, *help;
    bool is_by_op, is_for_down; /* also for a disk that is not served */
    uint64_t (*get)(const struct sample *s, unsigned op);
} metrics[] = {
    {"sluice_disk_up", "gauge", "1 when the disk is served.", false, true, get_up},
    {"sluice_disk_size_bytes", "gauge", "Size of the disk.", false, false, get_size},
    {"sluice_disk_clients", "gauge", "Connections that have it mounted.", false, false,
     get_clients},
    {"sluice_disk_in_flight", "gauge", "Requests being worked on.", false, false, get_in_flight},
    {"sluice_disk_held_at_gate", "gauge", "Requests held while the disk changes or is suspended.",
     false, false, get_at_gate},
    {"sluice_disk_stalled_total", "counter", "Requests that were past their deadline.", false,
     false, get_stalled},
    {"sluice_disk_requests_total", "counter", "Requests that ended.", true, false, get_requests},
    {"sluice_disk_bytes_total", "counter", "Bytes of requests that ended.", true, false, get_bytes},
    {"sluice_disk_errors_total", "counter", "Requests that failed.", true, false, get_errors},
};

static void put_metric(FILE *out, unsigned m, const struct sample *s)
{
    if (!s->is_up && !metrics[m].is_for_down)
        return;
    if (!metrics[m].is_by_op)
        fprintf(out, "%s{disk=\"%s\"} %" PRIu64 "\n", metrics[m].name, s->name,
                metrics[m].get(s, 0));
    for (unsigned op = 0; metrics[m].is_by_op && op < SLUICE_OP_COUNT; op++)
        fprintf(out, "%s{disk=\"%s\",op=\"%s\"} %" PRIu64 "\n", metrics[m].name, s->name,
                engine_op_name(op), metrics[m].get(s, op));
}

static void put_head(FILE *out, const char *name, const char *type, const char *help)
{
    fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* A summary without a sum: the engine keeps buckets, and quantiles are their upper edges. */
static void put_latency(FILE *out, const struct sample *s)
{
    for (unsigned op = 0; s->is_up && op < SLUICE_OP_COUNT; op++) {
        fprintf(out,
                "sluice_disk_latency_seconds{disk=\"%s\",op=\"%s\",quantile=\"0.5\"} %.9f\n"
                "sluice_disk_latency_seconds{disk=\"%s\",op=\"%s\",quantile=\"0.99\"} %.9f\n",
                s->name, engine_op_name(op), (double)s->n.latency_p50_ns[op] / 1e9, s->name,
                engine_op_name(op), (double)s->n.latency_p99_ns[op] / 1e9);
    }
}

static void put_disks(FILE *out, const struct sample *samples, unsigned count)
{
    for (unsigned m = 0; m < ARRAY_SIZE(metrics); m++) {
        put_head(out, metrics[m].name, metrics[m].type, metrics[m].help);
        for (unsigned i = 0; i < count; i++)
            put_metric(out, m, &samples[i]);
    }
    put_head(out, "sluice_disk_latency_seconds", "gauge",
             "Latency since the start by quantile: the upper edge of its bucket.");
    for (unsigned i = 0; i < count; i++)
        put_latency(out, &samples[i]);
}

/* --- the process
 * ---------------------------------------------------------------------------------- */

/* "VmRSS:   123 kB", "Threads:  7"; -1: not known. */
static long proc_status(const char *key)
{
    FILE *f = fopen("/proc/self/status", "re");
    char line[200];
    long value = -1;

    while (f && value < 0 && fgets(line, sizeof line, f))
        if (strncmp(line, key, strlen(key)) == 0)
            value = strtol(line + strlen(key), NULL, 10);
    if (f)
        fclose(f);
    return value;
}

/* What is not known (-1) is left out: a metric has no null. */
static void put_known(FILE *out, const char *name, const char *help, long value, long unit)
{
    if (value < 0)
        return;
    put_head(out, name, "gauge", help);
    fprintf(out, "%s %lld\n", name, (long long)value * unit);
}

static void put_process(FILE *out, const struct gateway *g)
{
    put_head(out, "sluice_build_info", "gauge", "The running version.");
    fprintf(out, "sluice_build_info{version=\"%s\"} 1\n", PACKAGE_VERSION);
    put_head(out, "sluice_uptime_seconds", "gauge", "Time since the start.");
    fprintf(out, "sluice_uptime_seconds %.3f\n", (double)(clock_now_ns() - g->started_ns) / 1e9);
    put_known(out, "sluice_threads", "Threads of the process.", proc_status("Threads:"), 1);
    put_known(out, "sluice_resident_bytes", "Memory of the process.", proc_status("VmRSS:"), 1024);
}

/* --- all of it
 * ------------------------------------------------------------------------------------ */

static void put_filters(FILE *out, struct gateway_export *const *list, unsigned count)
{
    struct station **stations = calloc(count * CHAIN_FILTERS_MAX + 1, sizeof *stations);
    unsigned n = 0;

    for (unsigned i = 0; i < count; i++)
        pthread_rwlock_rdlock(&list[i]->use);
    for (unsigned i = 0; stations && i < count; i++)
        for (unsigned s = 0; s < list[i]->seat_count; s++)
            stations[n++] = list[i]->seat[s].station;
    if (stations)
        host_metrics(stations, n, out);
    for (unsigned i = 0; i < count; i++)
        pthread_rwlock_unlock(&list[i]->use);
    free(stations);
}

int gateway_metrics(struct gateway *g, FILE *out)
{
    struct gateway_export **list = calloc(EXPORTS_MAX, sizeof(struct gateway_export *));
    struct sample *samples;
    unsigned count;

    if (!list)
        return -ENOMEM;
    count = exports_take(g, NULL, list, EXPORTS_MAX);
    samples = calloc(count + 1, sizeof *samples);
    for (unsigned i = 0; samples && i < count; i++)
        take_sample(list[i], &samples[i]);
    put_process(out, g);
    if (samples)
        put_disks(out, samples, count);
    targets_metrics(g, out);
    put_filters(out, list, count);
    for (unsigned i = 0; i < count; i++)
        gateway_export_release(list[i]);
    free(list);
    free(samples);
    return samples ? 0 : -ENOMEM;
}
