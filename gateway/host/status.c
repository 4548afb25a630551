/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * status.c: what is kept for every instance, always on, as JSON and as Prometheus samples.  Reads
 * counters that others write; numbers of one answer are of about the same moment.
 */
#include "internal.h"

#include <inttypes.h>
#include <string.h>

static uint64_t get(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static json_t *number(uint64_t value)
{
    return json_integer((json_int_t)value);
}

/* --- JSON ---------------------------------------------------------------------------------------
 */

static json_t *verdicts(const struct station_counts *c)
{
    return json_pack("{s:o, s:o, s:o, s:o, s:o}", "passed", number(c->passed), "completed",
                     number(c->completed), "failed", number(c->failed), "deferred",
                     number(c->deferred), "cancelled", number(c->cancelled));
}

static json_t *holds(struct seat *seat, const struct station_counts *c)
{
    const struct histogram *h = &seat->station.stats.hold_ns;

    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "now", number(c->held_now), "longest_ns",
                     number(c->longest_hold_ns), "p50_ns", number(histogram_quantile(h, 0.5)),
                     "p99_ns", number(histogram_quantile(h, 0.99)), "stalled", number(c->stalled),
                     "bypassed", number(c->bypassed));
}

static json_t *callbacks(struct seat *seat, const struct station_counts *c)
{
    const struct station_stats *s = &seat->station.stats;

    return json_pack("{s:o, s:o, s:o, s:o}", "p50_ns",
                     number(histogram_quantile(&s->callback_ns, 0.5)), "p99_ns",
                     number(histogram_quantile(&s->callback_ns, 0.99)), "longest_ns",
                     number(get(&s->longest_callback_ns)), "blocked", number(c->blocked));
}

static json_t *own_io(struct seat *seat, const struct station_counts *c)
{
    return json_pack("{s:o, s:o, s:o}", "total", number(c->own_io), "errors",
                     number(c->own_io_errors), "in_flight",
                     number(atomic_load_explicit(&seat->io_in_flight, memory_order_relaxed)));
}

static json_t *health_and_progress(struct seat *seat, json_t **progress)
{
    static const char *const names[] = {"ok", "degraded", "failed"};
    SCOPED_LOCK(&seat->mutex);

    *progress = seat->progress_what[0]
                    ? json_pack("{s:s, s:o, s:o}", "what", seat->progress_what, "done",
                                number(seat->progress_done), "total", number(seat->progress_total))
                    : json_null();
    return json_pack("{s:s, s:s, s:s}", "state", names[seat->health], "sentence", seat->sentence,
                     "remedy", seat->remedy);
}

static json_t *counter_histogram(const struct nanoseconds *n)
{
    return json_pack("{s:o, s:o, s:o, s:o}", "count", number(histogram_count(&n->histogram)),
                     "sum_ns", number(get(&n->sum)), "p50_ns",
                     number(histogram_quantile(&n->histogram, 0.5)), "p99_ns",
                     number(histogram_quantile(&n->histogram, 0.99)));
}

static json_t *own_counters(struct seat *seat)
{
    json_t *map = json_object();

    for (unsigned i = 0; i < seat->counter_count; i++) {
        const struct sluice_counter *c = &seat->filter->counters[i];

        json_object_set_new(map, c->name,
                            c->kind == SLUICE_HISTOGRAM_NS ? counter_histogram(&seat->histograms[i])
                                                           : json_integer(seat_counter(seat, i)));
    }
    return map;
}

json_t *host_station_status(struct station *station)
{
    struct seat *seat = seat_of_station(station);
    struct station_counts counts;
    json_t *health, *progress;

    engine_station_counts(disk_engine(seat->disk), station, &counts);
    health = health_and_progress(seat, &progress);
    return json_pack("{s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "name",
                     seat->name, "filter", seat->filter->name, "version", seat->filter->version,
                     "class", host_class_name(seat->filter->filter_class), "health", health,
                     "progress", progress, "verdicts", verdicts(&counts), "holds",
                     holds(seat, &counts), "callbacks", callbacks(seat, &counts), "own_io",
                     own_io(seat, &counts), "memory_bytes", number(get(&seat->memory_bytes)),
                     "counters", own_counters(seat));
}

/* --- Prometheus text format 0.0.4 ----------------------------------------------------------- */

/* sluice_FILTER_NAME[_UNIT][_total]: base units, dashes are not allowed. */
static void metric_name(const struct sluice_filter *filter, const struct sluice_counter *c,
                        char out[200])
{
    const char *unit = c->kind == SLUICE_HISTOGRAM_NS ? "seconds" : c->unit;
    size_t name = strlen(c->name), length = strlen(unit);
    bool has_unit = length == 0 || (name >= length && strcmp(c->name + name - length, unit) == 0);

    snprintf(out, 200, "sluice_%s_%s%s%s%s", filter->name, c->name, has_unit ? "" : "_",
             has_unit ? "" : unit, c->kind == SLUICE_COUNTER ? "_total" : "");
    for (char *p = out; *p; p++)
        if (*p == '-')
            *p = '_';
}

static void print_histogram(FILE *out, const char *name, const char *labels,
                            const struct nanoseconds *n)
{
    uint64_t sum = 0;

    for (unsigned b = 0; b < HISTOGRAM_BUCKETS; b++) {
        uint64_t in_bucket = get(&n->histogram.bucket[b]);

        sum += in_bucket;
        if (in_bucket)
            fprintf(out, "%s_bucket{%s,le=\"%.9g\"} %" PRIu64 "\n", name, labels,
                    (double)(UINT64_C(1) << (b + 1)) / 1e9, sum);
    }
    fprintf(out, "%s_bucket{%s,le=\"+Inf\"} %" PRIu64 "\n", name, labels, sum);
    fprintf(out, "%s_sum{%s} %.9g\n", name, labels, (double)get(&n->sum) / 1e9);
    fprintf(out, "%s_count{%s} %" PRIu64 "\n", name, labels, sum);
}

static void print_sample(FILE *out, struct seat *seat, unsigned counter)
{
    const struct sluice_counter *c = &seat->filter->counters[counter];
    char name[200], labels[200];

    metric_name(seat->filter, c, name);
    snprintf(labels, sizeof labels, "disk=\"%s\",filter=\"%s\"", seat->pub.name, seat->name);
    if (c->kind == SLUICE_HISTOGRAM_NS)
        print_histogram(out, name, labels, &seat->histograms[counter]);
    else
        fprintf(out, "%s{%s} %" PRId64 "\n", name, labels, seat_counter(seat, counter));
}

void host_station_metrics(struct station *station, FILE *out)
{
    struct seat *seat = seat_of_station(station);

    for (unsigned i = 0; i < seat->counter_count; i++)
        print_sample(out, seat, i);
}

static void print_head(FILE *out, const struct sluice_filter *filter,
                       const struct sluice_counter *c)
{
    static const char *const types[] = {"counter", "gauge", "histogram"};
    char name[200];

    metric_name(filter, c, name);
    fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, c->help, name, types[c->kind]);
}

/* The format wants all samples of a metric together, under one head. */
void host_metrics(struct station *const *stations, unsigned count, FILE *out)
{
    for (unsigned i = 0; i < count; i++) {
        const struct sluice_filter *filter = stations[i]->filter;
        bool is_first = true;

        for (unsigned j = 0; j < i; j++)
            is_first &= stations[j]->filter != filter;
        for (unsigned c = 0; is_first && c < filter_counter_count(filter); c++) {
            print_head(out, filter, &filter->counters[c]);
            for (unsigned j = i; j < count; j++)
                if (stations[j]->filter == filter)
                    print_sample(out, seat_of_station(stations[j]), c);
        }
    }
}
