/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * top.c: `sluice top`: what each disk does a second, trouble first, anew every interval until
 * Ctrl-C.  Two looks at the counters make one screen; not on a terminal screens follow each other.
 */
#include "cli.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static json_t *look(struct cli *cli, int *code)
{
    json_t *request = json_pack("{s:s}", "verb", "status"), *reply, *status;

    *code = cli_call(cli, request, &reply);
    json_decref(request);
    status = json_incref(json_object_get(reply, "status"));
    json_decref(reply);
    return *code == EXIT_OK ? status : NULL;
}

static json_int_t count_of(const json_t *disk, const char *op, const char *what)
{
    const json_t *operations = json_object_get(json_object_get(disk, "io"), "operations");

    return json_integer_value(json_object_get(json_object_get(operations, op), what));
}

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

static double rate(const json_t *was, const json_t *is, const char *op, const char *what,
                   double seconds)
{
    return was ? (double)(count_of(is, op, what) - count_of(was, op, what)) / seconds : 0;
}

static void print_rates(const json_t *was, const json_t *is, double seconds)
{
    double mib = 1 << 20;

    printf(
        "  read %9.0f/s %8.1f MiB/s   write %9.0f/s %8.1f MiB/s   flush %6.0f/s\n",
        rate(was, is, "read", "requests", seconds), rate(was, is, "read", "bytes", seconds) / mib,
        rate(was, is, "write", "requests", seconds), rate(was, is, "write", "bytes", seconds) / mib,
        rate(was, is, "flush", "requests", seconds));
}

static bool is_ok(const json_t *disk)
{
    return strcmp(json_string_value(json_object_get(disk, "state")), "ok") == 0;
}

static void print_screen(const json_t *was, const json_t *is, double seconds)
{
    size_t i;
    json_t *disk;

    if (isatty(STDOUT_FILENO))
        printf("\033[H\033[2J");
    for (int wanted = 0; wanted < 2; wanted++)
        json_array_foreach(json_object_get(is, "disks"), i, disk)
        {
            if (is_ok(disk) != wanted)
                continue;
            cli_print_disk_line(disk);
            print_rates(find_disk(was, json_string_value(json_object_get(disk, "name"))), disk,
                        seconds);
        }
    printf("\n");
    fflush(stdout);
}

int cli_top(struct cli *cli)
{
    const char *every = cli_take_option(cli, "--interval"),
               *times = cli_take_option(cli, "--count");
    uint64_t pause_ns = 1000000000u;
    long left = times ? strtol(times, NULL, 10) : -1;
    int code = cli_expect_positions(cli, 0, 0);
    json_t *was;

    if (code == 0 && every && (text_parse_duration(every, &pause_ns) < 0 || pause_ns < 100000000u))
        code = cli_usage_error(cli, "\"%s\" is no interval (1s, at least 100ms)", every);
    was = code ? NULL : look(cli, &code);
    for (; was && left != 0; left -= left > 0) {
        struct timespec pause = {(time_t)(pause_ns / 1000000000u), (long)(pause_ns % 1000000000u)};
        json_t *is;

        clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
        is = look(cli, &code);
        if (is)
            print_screen(was, is, (double)pause_ns / 1e9);
        json_decref(was);
        was = is;
    }
    json_decref(was);
    return code;
}
