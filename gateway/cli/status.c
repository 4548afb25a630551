/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * status.c: `sluice status`, `disk list` and `disk show`: trouble first, one remedy beside each,
 * and one line for all disks that are well.
 */
#include "cli.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static bool is_ok(const json_t *disk)
{
    return strcmp(cli_text(disk, "state"), "ok") == 0;
}

static const char *size_of(const json_t *disk, char buf[32])
{
    const json_t *size = json_object_get(disk, "size_bytes");

    return json_is_integer(size) ? text_size((uint64_t)json_integer_value(size), buf) : "-";
}

void cli_print_disk_line(const json_t *disk)
{
    char size[32], state[16];

    snprintf(state, sizeof state, "%s", cli_text(disk, "state"));
    if (!is_ok(disk))
        for (char *p = state; *p; p++)
            *p = (char)(*p >= 'a' && *p <= 'z' ? *p - 32 : *p);
    printf("%-20s %-9s %9s  %zu client%s%s\n", cli_text(disk, "name"), state, size_of(disk, size),
           json_array_size(json_object_get(disk, "clients")),
           json_array_size(json_object_get(disk, "clients")) == 1 ? "" : "s",
           json_is_true(json_object_get(disk, "read_only")) ? ", read-only" : "");
}

static void print_trouble(const json_t *disk)
{
    cli_print_disk_line(disk);
    printf("  cause: %s\n", cli_text(disk, "sentence"));
    if (cli_text(disk, "remedy")[0])
        printf("  do: %s\n", cli_text(disk, "remedy"));
}

void cli_print_disk(const json_t *disk)
{
    if (is_ok(disk))
        cli_print_disk_line(disk);
    else
        print_trouble(disk);
}

static bool is_connected(const json_t *peer)
{
    return strcmp(cli_text(peer, "state"), "connected") == 0;
}

static void print_peer(const json_t *peer)
{
    const char *reason = cli_text(peer, "reason");

    if (is_connected(peer))
        printf("%-20s connected  %s, %s, round trip %.2f ms, %lld of %lld channels\n",
               cli_text(peer, "name"), cli_text(peer, "remote"), cli_text(peer, "tls"),
               (double)cli_integer(peer, "round_trip_ns") / 1e6,
               (long long)cli_integer(peer, "channels_connected"),
               (long long)cli_integer(peer, "channels"));
    else
        printf("%-20s NOT CONNECTED to %s%s%s\n", cli_text(peer, "name"), cli_text(peer, "address"),
               reason[0] ? ": " : "", reason);
}

/* Trouble first: those that are not connected before the disks, the others after them. */
static void print_peers(const json_t *status, bool which)
{
    size_t i;
    json_t *peer;

    json_array_foreach(json_object_get(status, "peers"), i, peer) if (is_connected(peer) == which)
        print_peer(peer);
}

/* Warned of so long before its end. */
#define CERTIFICATE_WARNING_S (30 * 24 * 3600)

/* What is over or soon will be; a client or a peer would be refused. */
static void print_certificate(const json_t *certificate, time_t now)
{
    const json_t *end = json_object_get(certificate, "end_s");
    time_t end_s = (time_t)json_integer_value(end);
    struct tm tm;
    char date[32];

    if (!json_is_integer(end)) {
        printf("certificate UNREADABLE  %s\n", cli_text(certificate, "error"));
        return;
    }
    if (end_s - now > CERTIFICATE_WARNING_S || !gmtime_r(&end_s, &tm))
        return;
    strftime(date, sizeof date, "%Y-%m-%d %H:%M UTC", &tm);
    printf(
        "certificate %s  %s %s %s\n  do: sluice pki issue, then sluice reload; a restart for NBD\n",
        end_s <= now ? "EXPIRED" : "ENDS SOON", cli_text(certificate, "path"),
        end_s <= now ? "ended on" : "ends on", date);
}

static void print_certificates(const json_t *status)
{
    size_t i;
    json_t *certificate;

    json_array_foreach(json_object_get(status, "certificates"), i, certificate)
        print_certificate(certificate, time(NULL));
}

int cli_status(struct cli *cli)
{
    int code = cli_expect_positions(cli, 0, 0);
    unsigned well = 0, troubled = 0;
    json_t *status, *disk;
    size_t i;

    if (code)
        return code;
    status = cli_fetch_status(cli, NULL, &code);
    if (!status)
        return code;
    if (!cli->is_json) {
        print_certificates(status);
        print_peers(status, false);
    }
    json_array_foreach(json_object_get(status, "disks"), i, disk)
    {
        if (!is_ok(disk) && !cli->is_json)
            print_trouble(disk);
        well += is_ok(disk);
        troubled += !is_ok(disk);
    }
    if (cli->is_json)
        cli_print_json(status);
    else
        printf("%u %sdisk%s ok\n", well, troubled ? "more " : "", well == 1 ? "" : "s");
    if (!cli->is_json)
        print_peers(status, true);
    json_decref(status);
    return troubled ? EXIT_FALSE : EXIT_OK;
}

static void print_list(json_t *disks)
{
    json_t *document =
        json_pack("{s:i, s:O}", "schema_version", CLI_SCHEMA_VERSION, "disks", disks);

    cli_print_json(document);
    json_decref(document);
}

int cli_disk_list(struct cli *cli)
{
    int code = cli_expect_positions(cli, 0, 0);
    json_t *status, *disk;
    size_t i;

    if (code)
        return code;
    status = cli_fetch_status(cli, NULL, &code);
    if (!status)
        return code;
    if (cli->is_json)
        print_list(json_object_get(status, "disks"));
    else
        json_array_foreach(json_object_get(status, "disks"), i, disk) cli_print_disk_line(disk);
    json_decref(status);
    return EXIT_OK;
}

/* --- one disk
 * ----------------------------------------------------------------------------------------------------
 */

static void print_filter(const json_t *f)
{
    const json_t *verdicts = json_object_get(f, "verdicts"), *holds = json_object_get(f, "holds"),
                 *health = json_object_get(f, "health");
    char memory[32];

    printf("  filter %s (%s %s, %s): %s", cli_text(f, "name"), cli_text(f, "filter"),
           cli_text(f, "version"), cli_text(f, "class"), cli_text(health, "state"));
    printf("; passed %lld, deferred %lld, completed %lld, failed %lld",
           (long long)cli_integer(verdicts, "passed"), (long long)cli_integer(verdicts, "deferred"),
           (long long)cli_integer(verdicts, "completed"),
           (long long)cli_integer(verdicts, "failed"));
    printf("; holds %lld, longest %.1f ms; %s\n", (long long)cli_integer(holds, "now"),
           (double)cli_integer(holds, "longest_ns") / 1e6,
           text_size((uint64_t)cli_integer(f, "memory_bytes"), memory));
}

static void print_filters(const json_t *disk)
{
    size_t i;
    json_t *f;

    json_array_foreach(json_object_get(disk, "filters"), i, f) print_filter(f);
}

static void print_operations(const json_t *disk)
{
    const json_t *io = json_object_get(disk, "io");
    const char *op;
    json_t *n;

    printf("  in flight %" JSON_INTEGER_FORMAT ", held at the gate %" JSON_INTEGER_FORMAT
           ", stalled %" JSON_INTEGER_FORMAT "\n",
           cli_integer(io, "in_flight"), cli_integer(io, "held_at_gate"),
           cli_integer(io, "stalled"));
    json_object_foreach(json_object_get(io, "operations"), op, n) if (cli_integer(n, "requests"))
        printf("  %-9s %10" JSON_INTEGER_FORMAT " requests %14" JSON_INTEGER_FORMAT
               " bytes %5" JSON_INTEGER_FORMAT " errors, p50 %.1f us, p99 %.1f us\n",
               op, cli_integer(n, "requests"), cli_integer(n, "bytes"), cli_integer(n, "errors"),
               (double)cli_integer(n, "latency_p50_ns") / 1e3,
               (double)cli_integer(n, "latency_p99_ns") / 1e3);
}

/* Where a request is, and who or what it waits for there. */
static void print_place(const json_t *t)
{
    const char *filter = cli_text(t, "filter"), *reason = cli_text(t, "reason");

    printf("%s%s%s%s%s", cli_text(t, "where"), filter[0] ? " " : "", filter, reason[0] ? ": " : "",
           reason);
}

static void print_tasks(const json_t *disk)
{
    const json_t *tasks = json_object_get(disk, "tasks");
    size_t i;
    json_t *t;

    if (json_array_size(tasks))
        printf("  %-16s %-8s %14s %10s %10s  %-11s %s\n", "TASK", "OP", "OFFSET", "BYTES", "AGE",
               "FROM", "IS IN");
    json_array_foreach(tasks, i, t)
    {
        printf("  %-16" JSON_INTEGER_FORMAT " %-8s %14" JSON_INTEGER_FORMAT
               " %10" JSON_INTEGER_FORMAT " %8.3f s  %-11s ",
               cli_integer(t, "id"), cli_text(t, "op"), cli_integer(t, "offset"),
               cli_integer(t, "length_bytes"), (double)cli_integer(t, "age_ns") / 1e9,
               cli_text(t, "origin"));
        print_place(t);
        printf(" (%s)\n", cli_text(t, "client"));
    }
    if (tasks && !json_array_size(tasks))
        printf("  no requests in flight\n");
}

static void print_disk(const json_t *disk)
{
    const json_t *backing = json_object_get(disk, "backing");
    size_t i;
    json_t *c;

    cli_print_disk(disk);
    if (!backing)
        return;
    printf("  uuid %s, group %s\n", cli_text(disk, "uuid"), cli_text(disk, "group"));
    printf("  backing %s: %s\n", cli_text(backing, "kind"), cli_text(backing, "sentence"));
    print_filters(disk);
    print_operations(disk);
    json_array_foreach(json_object_get(disk, "clients"), i, c)
        printf("  client %s %s\n", cli_text(c, "front_end"), cli_text(c, "address"));
    print_tasks(disk);
}

static json_t *fetch_tasks(struct cli *cli, const char *disk, int *code)
{
    json_t *request = json_pack("{s:s, s:s}", "verb", "tasks", "disk", disk), *reply, *found;

    *code = cli_call(cli, request, &reply);
    json_decref(request);
    found = *code == EXIT_OK ? json_incref(json_object_get(reply, "disk")) : NULL;
    json_decref(reply);
    return found;
}

static json_t *fetch_disk(struct cli *cli, const char *name, bool with_tasks, int *code)
{
    json_t *status, *disk;

    if (with_tasks)
        return fetch_tasks(cli, name, code);
    status = cli_fetch_status(cli, name, code);
    disk = json_incref(json_array_get(json_object_get(status, "disks"), 0));
    json_decref(status);
    return disk;
}

static int show(struct cli *cli, const char *name, bool with_tasks)
{
    int code;
    json_t *disk = fetch_disk(cli, name, with_tasks, &code);

    if (!disk)
        return code;
    code = is_ok(disk) ? EXIT_OK : EXIT_FALSE;
    if (cli->is_json)
        cli_print_answer(disk);
    else
        print_disk(disk);
    json_decref(disk);
    return code;
}

int cli_disk_show(struct cli *cli)
{
    const char *kind = cli_take_option(cli, "--connect");
    bool with_tasks = cli_take_flag(cli, "--tasks"), with_rates = cli_take_flag(cli, "--rates");
    struct cli_pace pace;
    int code = with_rates ? cli_take_pace(cli, &pace, 1) : 0;

    if (code == 0)
        code = cli_expect_positions(cli, 1, 1);
    if (code)
        return code;
    if ((kind != NULL) + with_tasks + with_rates > 1)
        return cli_usage_error(cli, "give one of --tasks, --rates, --connect");
    if (kind)
        return cli_connect(cli, cli->argv[0], kind);
    if (with_rates)
        return cli_show_rates(cli, cli->argv[0], &pace);
    return show(cli, cli->argv[0], with_tasks);
}
