/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rates.c: what disks do a second, for `disk show --rates` and `top`: the difference of two looks
 * at the counters, over the gateway's own time between them.
 *
 * The gateway may have been restarted between two looks, or a disk opened anew: its counters then
 * began at zero again, and its rates are not known (null) rather than wrong.
 */
#include "cli.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define SECOND_NS 1000000000u
#define PAUSE_LEAST_NS (SECOND_NS / 10)

int cli_take_pace(struct cli *cli, struct cli_pace *pace, long count)
{
    const char *every = cli_take_option(cli, "--interval"),
               *times = cli_take_option(cli, "--count");
    char *end = NULL;

    *pace = (struct cli_pace){.interval_ns = SECOND_NS, .count = count};
    if (every &&
        (text_parse_duration(every, &pace->interval_ns) < 0 || pace->interval_ns < PAUSE_LEAST_NS))
        return cli_usage_error(cli, "\"%s\" is no interval (1s; at least 100ms)", every);
    if (times) {
        pace->count = strtol(times, &end, 10);
        if (end == times || *end || pace->count < 1)
            return cli_usage_error(cli, "\"%s\" is no count (1, 2, ...)", times);
    }
    return 0;
}

void cli_pause(const struct cli_pace *pace)
{
    struct timespec left = {(time_t)(pace->interval_ns / SECOND_NS),
                            (long)(pace->interval_ns % SECOND_NS)};

    while (clock_nanosleep(CLOCK_MONOTONIC, 0, &left, &left) != 0)
        continue;
}

json_t *cli_fetch_status(struct cli *cli, const char *disk, int *code)
{
    json_t *request = json_pack("{s:s, s:s*}", "verb", "status", "disk", disk), *reply, *status;

    *code = cli_call(cli, request, &reply);
    json_decref(request);
    status = *code == EXIT_OK ? json_incref(json_object_get(reply, "status")) : NULL;
    json_decref(reply);
    return status;
}

/* --- differences
 * ------------------------------------------------------------------------------------------- */

static const json_t *find_disk(const json_t *status, const char *name)
{
    size_t i;
    json_t *disk;

    json_array_foreach(json_object_get(status, "disks"), i, disk)
    {
        if (strcmp(json_string_value(json_object_get(disk, "name")), name) == 0)
            return disk;
    }
    return NULL;
}

/* Of the gateway, between the looks; 0: it is another process now. */
static json_int_t interval_of(const json_t *was, const json_t *is)
{
    const json_t *before = json_object_get(was, "process"), *now = json_object_get(is, "process");
    json_int_t interval = json_integer_value(json_object_get(now, "age_ns")) -
                          json_integer_value(json_object_get(before, "age_ns"));

    if (!json_equal(json_object_get(before, "pid"), json_object_get(now, "pid")) || interval < 0)
        return 0;
    return interval;
}

static json_int_t per_second(json_int_t n, json_int_t interval_ns)
{
    return (json_int_t)((double)n * SECOND_NS / (double)interval_ns + 0.5);
}

/* {"requests": 12, "requests_per_second": 12, ...}; NULL when a counter went back. */
static json_t *differences(const json_t *was, const json_t *is, json_int_t interval_ns)
{
    static const struct {
        const char *name, *rate;
    } counters[] = {{"requests", "requests_per_second"},
                    {"bytes", "bytes_per_second"},
                    {"errors", "errors_per_second"}};
    json_t *out = json_object();

    for (unsigned i = 0; i < ARRAY_SIZE(counters); i++) {
        json_int_t n = json_integer_value(json_object_get(is, counters[i].name)) -
                       json_integer_value(json_object_get(was, counters[i].name));

        if (n < 0) {
            json_decref(out);
            return NULL;
        }
        json_object_set_new(out, counters[i].name, json_integer(n));
        json_object_set_new(out, counters[i].rate, json_integer(per_second(n, interval_ns)));
    }
    return out;
}

static const json_t *operations_of(const json_t *disk)
{
    return json_object_get(json_object_get(disk, "io"), "operations");
}

json_t *cli_rates(const json_t *was, const json_t *is, const char *name)
{
    const json_t *before = operations_of(find_disk(was, name)),
                 *now = operations_of(find_disk(is, name));
    json_int_t interval_ns = interval_of(was, is);
    json_t *operations, *counters;
    const char *op;

    if (!before || !now || !interval_ns ||
        !json_equal(json_object_get(find_disk(was, name), "uuid"),
                    json_object_get(find_disk(is, name), "uuid")))
        return json_null();
    operations = json_object();
    json_object_foreach((json_t *)(uintptr_t)now, op, counters)
    {
        json_t *rates = differences(json_object_get(before, op), counters, interval_ns);

        if (!rates) {
            json_decref(operations);
            return json_null();
        }
        json_object_set_new(operations, op, rates);
    }
    return json_pack("{s:I, s:o}", "interval_ns", interval_ns, "operations", operations);
}

double cli_rate_of(const json_t *rates, const char *op, const char *counter)
{
    const json_t *counters = json_object_get(json_object_get(rates, "operations"), op);
    json_int_t interval_ns = json_integer_value(json_object_get(rates, "interval_ns"));

    return interval_ns ? (double)json_integer_value(json_object_get(counters, counter)) *
                             SECOND_NS / (double)interval_ns
                       : 0;
}

double cli_rate_of_all(const json_t *rates, const char *counter)
{
    const char *op;
    json_t *counters;
    double sum = 0;

    json_object_foreach(json_object_get(rates, "operations"), op, counters)
    {
        (void)counters;
        sum += cli_rate_of(rates, op, counter);
    }
    return sum;
}

/* --- disk show --rates
 * ------------------------------------------------------------------------------------------ */

static void print_rates(const json_t *rates)
{
    const char *op;
    json_t *counters;

    if (json_is_null(rates)) {
        printf("  rates are not known: the disk or the gateway was started meanwhile\n");
        return;
    }
    printf("  over %.1f s     requests/s        MiB/s     errors/s\n",
           (double)json_integer_value(json_object_get(rates, "interval_ns")) / SECOND_NS);
    json_object_foreach(json_object_get(rates, "operations"), op, counters)
    {
        if (strcmp(op, "read") == 0 || strcmp(op, "write") == 0 ||
            json_integer_value(json_object_get(counters, "requests")))
            printf("  %-10s %14.1f %12.2f %12.1f\n", op, cli_rate_of(rates, op, "requests"),
                   cli_rate_of(rates, op, "bytes") / (1 << 20), cli_rate_of(rates, op, "errors"));
    }
}

static bool print_round(const struct cli *cli, const json_t *was, const json_t *is,
                        const char *name)
{
    const json_t *disk = find_disk(is, name), *state = json_object_get(disk, "state");
    json_t *rates = cli_rates(was, is, name), *document;

    if (cli->is_json) {
        document = json_pack("{s:i, s:s, s:O, s:O, s:O}", "schema_version", CLI_SCHEMA_VERSION,
                             "name", name, "state", state, "size_bytes",
                             json_object_get(disk, "size_bytes"), "rates", rates);
        cli_print_json(document);
        json_decref(document);
    } else {
        cli_print_disk(disk);
        print_rates(rates);
    }
    fflush(stdout);
    json_decref(rates);
    return strcmp(json_string_value(state), "ok") == 0;
}

int cli_show_rates(struct cli *cli, const char *name, const struct cli_pace *pace)
{
    int code;
    json_t *was = cli_fetch_status(cli, name, &code);

    for (long i = 0; was && (pace->count < 0 || i < pace->count); i++) {
        json_t *is;

        cli_pause(pace);
        is = cli_fetch_status(cli, name, &code);
        if (is)
            code = print_round(cli, was, is, name) ? EXIT_OK : EXIT_FALSE;
        json_decref(was);
        was = is;
    }
    json_decref(was);
    return code;
}
