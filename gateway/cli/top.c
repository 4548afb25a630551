/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * top.c: `sluice top`: what each disk does a second, those in trouble first with the cause and what
 * to do, then the busiest, anew every interval until Ctrl-C.
 *
 * On a terminal each screen takes the place of the last, shows as many disks as there are lines,
 * and a gateway that is restarted is waited for; elsewhere screens follow each other and an error
 * ends it.
 */
#include "cli.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#define ROWS_MAX 4096

struct row {
    const json_t *disk;
    json_t *rates; /* owned */
    bool is_ok;
    double bytes;
};

struct screen {
    struct row row[ROWS_MAX];
    unsigned count, troubled;
};

/* --- what is on it
 * ------------------------------------------------------------------------------------------ */

static int compare(const void *left, const void *right)
{
    const struct row *a = left, *b = right;

    if (a->is_ok != b->is_ok)
        return a->is_ok - b->is_ok;
    if (a->bytes < b->bytes || a->bytes > b->bytes)
        return a->bytes < b->bytes ? 1 : -1;
    return strcmp(cli_text(a->disk, "name"), cli_text(b->disk, "name"));
}

static void fill(struct screen *s, const json_t *was, const json_t *is)
{
    size_t i;
    json_t *disk;

    memset(s, 0, sizeof *s);
    json_array_foreach(json_object_get(is, "disks"), i, disk)
    {
        struct row *row = &s->row[s->count];

        if (s->count == ROWS_MAX)
            break;
        row->disk = disk;
        row->rates = cli_rates(was, is, cli_text(disk, "name"));
        row->is_ok = strcmp(cli_text(disk, "state"), "ok") == 0;
        row->bytes = cli_rate_of_all(row->rates, "bytes");
        s->troubled += !row->is_ok;
        s->count++;
    }
    qsort(s->row, s->count, sizeof s->row[0], compare);
}

static void empty(struct screen *s)
{
    for (unsigned i = 0; i < s->count; i++)
        json_decref(s->row[i].rates);
}

/* --- for people
 * --------------------------------------------------------------------------------------------- */

static double total_of(const struct screen *s, const char *op, const char *counter)
{
    double sum = 0;

    for (unsigned i = 0; i < s->count; i++)
        sum += cli_rate_of(s->row[i].rates, op, counter);
    return sum;
}

static void print_head(const struct screen *s, const json_t *is)
{
    const json_t *process = json_object_get(is, "process");
    char memory[32];

    printf("%s: %u disk%s, %u in trouble; %lld threads, %s\n", cli_text(is, "gateway"), s->count,
           s->count == 1 ? "" : "s", s->troubled, (long long)cli_integer(process, "threads"),
           text_size((uint64_t)cli_integer(process, "resident_bytes"), memory));
    printf("read %.0f/s %.1f MiB/s, write %.0f/s %.1f MiB/s, flush %.0f/s\n\n",
           total_of(s, "read", "requests"), total_of(s, "read", "bytes") / (1 << 20),
           total_of(s, "write", "requests"), total_of(s, "write", "bytes") / (1 << 20),
           total_of(s, "flush", "requests"));
    printf("%-20s %-9s %7s %5s %9s %7s %9s %7s %8s %8s\n", "DISK", "STATE", "CLIENTS", "FLYING",
           "READ/s", "MiB/s", "WRITE/s", "MiB/s", "FLUSH/s", "ERRORS/s");
}

static void print_row(const struct row *row)
{
    const json_t *io = json_object_get(row->disk, "io");

    printf("%-20s %-9s", cli_text(row->disk, "name"), cli_text(row->disk, "state"));
    if (json_is_null(row->rates))
        printf(" %7s %5s %9s %7s %9s %7s %8s %8s\n", "-", "-", "-", "-", "-", "-", "-", "-");
    else
        printf(" %7zu %6lld %9.0f %7.1f %9.0f %7.1f %8.0f %8.0f\n",
               json_array_size(json_object_get(row->disk, "clients")),
               (long long)cli_integer(io, "in_flight"), cli_rate_of(row->rates, "read", "requests"),
               cli_rate_of(row->rates, "read", "bytes") / (1 << 20),
               cli_rate_of(row->rates, "write", "requests"),
               cli_rate_of(row->rates, "write", "bytes") / (1 << 20),
               cli_rate_of(row->rates, "flush", "requests"), cli_rate_of_all(row->rates, "errors"));
    if (cli_text(row->disk, "sentence")[0])
        printf("  cause: %s\n", cli_text(row->disk, "sentence"));
    if (cli_text(row->disk, "remedy")[0])
        printf("  do: %s\n", cli_text(row->disk, "remedy"));
}

/* Lines of the terminal; 0: it is none. */
static unsigned terminal_lines(void)
{
    struct winsize size;

    if (!isatty(STDOUT_FILENO) || ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0)
        return 0;
    return size.ws_row ? size.ws_row : 24;
}

static void print_screen(const struct screen *s, const json_t *is)
{
    unsigned lines = terminal_lines(), used = 6, i; /* the head, and one for "more" */

    if (lines)
        printf("\033[H\033[2J");
    print_head(s, is);
    for (i = 0; i < s->count && (!lines || used < lines); i++) {
        print_row(&s->row[i]);
        used += s->row[i].is_ok ? 1 : 3;
    }
    if (i < s->count)
        printf("%u more\n", s->count - i);
    if (!lines)
        printf("\n");
}

/* --- for programs
 * ------------------------------------------------------------------------------------------- */

static void print_document(const struct screen *s, const json_t *is)
{
    json_t *disks = json_array(), *document;

    for (unsigned i = 0; i < s->count; i++) {
        const json_t *disk = s->row[i].disk, *io = json_object_get(disk, "io");

        json_array_append_new(
            disks,
            json_pack("{s:O, s:O, s:O, s:O, s:O?, s:O?, s:O?, s:O}", "name",
                      json_object_get(disk, "name"), "state", json_object_get(disk, "state"),
                      "sentence", json_object_get(disk, "sentence"), "remedy",
                      json_object_get(disk, "remedy"), "clients", json_object_get(disk, "clients"),
                      "in_flight", json_object_get(io, "in_flight"), "held_at_gate",
                      json_object_get(io, "held_at_gate"), "rates", s->row[i].rates));
    }
    document = json_pack("{s:i, s:O, s:O, s:o}", "schema_version", CLI_SCHEMA_VERSION, "gateway",
                         json_object_get(is, "gateway"), "process", json_object_get(is, "process"),
                         "disks", disks);
    cli_print_json(document);
    json_decref(document);
}

static void show(const struct cli *cli, struct screen *s, const json_t *was, const json_t *is)
{
    fill(s, was, is);
    if (cli->is_json)
        print_document(s, is);
    else
        print_screen(s, is);
    empty(s);
    fflush(stdout);
}

static int run(struct cli *cli, const struct cli_pace *pace, struct screen *screen)
{
    int code;
    json_t *was = cli_fetch_status(cli, NULL, &code);

    if (!was)
        return code;
    for (long shown = 0; pace->count < 0 || shown < pace->count;) {
        json_t *is;

        cli_pause(pace);
        is = cli_fetch_status(cli, NULL, &code);
        if (!is && !isatty(STDOUT_FILENO))
            break;
        if (!is)
            continue;
        show(cli, screen, was, is);
        shown++;
        json_decref(was);
        was = is;
    }
    json_decref(was);
    return code;
}

int cli_top(struct cli *cli)
{
    struct screen *screen = malloc(sizeof *screen);
    struct cli_pace pace;
    int code = cli_take_pace(cli, &pace, -1);

    if (code == 0)
        code = cli_expect_positions(cli, 0, 0);
    if (code == 0)
        code = screen ? run(cli, &pace, screen) : cli_fail(cli, EXIT_ERROR, "out of memory");
    free(screen);
    return code;
}
