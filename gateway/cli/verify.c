/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * verify.c: `sluice verify` and `sluice resync`: ask the replication filter to compare both sides
 * of a disk, or to bring the peer up to date, and show how far it is until it has.  The run itself
 * is the gateway's: it goes on when this command is interrupted.
 */
#include "cli.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LOOK_NS 200000000
#define BAR_CELLS 30u

static uint64_t number_of(const json_t *j, const char *key)
{
    return (uint64_t)cli_integer(j, key);
}

static int ask(struct cli *cli, const char *disk, const char *verb, json_t *words, json_t **said)
{
    return cli_ask_filter(cli, "replication", verb, disk, words, said);
}

/* --- while it runs -------------------------------------------------------------------------- */

static void print_left(uint64_t left_ms)
{
    uint64_t s = left_ms / 1000;

    if (s >= 3600)
        fprintf(stderr, "%llu h %02llu min left", (unsigned long long)(s / 3600),
                (unsigned long long)(s / 60 % 60));
    else if (s >= 60)
        fprintf(stderr, "%llu min %02llu s left", (unsigned long long)(s / 60),
                (unsigned long long)(s % 60));
    else
        fprintf(stderr, "%llu s left", (unsigned long long)s);
}

static void print_bar(uint64_t done, uint64_t total, const char *what, uint64_t left_ms)
{
    unsigned cells = total ? (unsigned)((double)done / (double)total * BAR_CELLS) : 0;
    char a[32], b[32];

    fprintf(stderr, "\r\033[K[%.*s%*s] %s of %s, %s", (int)cells, "##############################",
            (int)(BAR_CELLS - cells), "", text_size(done, a), text_size(total, b), what);
    if (done)
        print_left(left_ms);
    else
        fputs("waiting", stderr);
    fflush(stderr);
}

/* One kind of waiting: until is_done; what is shown meanwhile. */
struct waiting {
    bool (*is_done)(const json_t *said, uint64_t since);
    void (*show)(const json_t *said);
    uint64_t since;
};

static void show_verify(const json_t *said)
{
    char what[64];

    snprintf(what, sizeof what, "%llu differ, ",
             (unsigned long long)number_of(said, "verify_differing_bytes"));
    print_bar(number_of(said, "verify_done_bytes"), number_of(said, "verify_total_bytes"), what,
              number_of(said, "verify_left_ms"));
}

static bool is_verified(const json_t *said, uint64_t since)
{
    (void)since;
    return strcmp(cli_text(said, "verify"), "running") != 0;
}

static void show_resync(const json_t *said)
{
    char what[64];

    snprintf(what, sizeof what, "%s, ", cli_text(said, "link"));
    print_bar(number_of(said, "resync_done_bytes"), number_of(said, "resync_total_bytes"), what,
              number_of(said, "resync_left_ms"));
}

/* Also when this side does not send any more. */
static bool is_resynced(const json_t *said, uint64_t since)
{
    return number_of(said, "batches") > since || strcmp(cli_text(said, "role"), "primary") != 0;
}

/* *said: the last look. */
static int wait_until_done(struct cli *cli, const char *disk, const struct waiting *w,
                           json_t **said)
{
    bool has_bar = isatty(STDERR_FILENO) && !cli->is_json;
    int code = EXIT_OK;

    while (code == EXIT_OK && !w->is_done(*said, w->since)) {
        struct timespec pause = {0, LOOK_NS};

        if (has_bar)
            w->show(*said);
        nanosleep(&pause, NULL);
        json_decref(*said);
        code = ask(cli, disk, "status", json_array(), said);
    }
    if (has_bar)
        fputs("\r\033[K", stderr);
    return code;
}

/* --- afterwards ----------------------------------------------------------------------------- */

/* "0+65536 1048576+131072": offset and bytes of each. */
static void print_ranges(const char *ranges)
{
    unsigned long long offset, bytes;
    int taken;

    while (sscanf(ranges, "%llu+%llu%n", &offset, &bytes, &taken) == 2) {
        printf("differs: %llu bytes at %llu\n", bytes, offset);
        ranges += taken;
    }
}

static void print_result(const json_t *said, bool is_repairing)
{
    char bytes[32], differing[32];
    uint64_t unread = number_of(said, "verify_unread_bytes"),
             skipped = number_of(said, "verify_skipped_bytes");

    print_ranges(cli_text(said, "verify_ranges"));
    printf("%s compared%s", text_size(number_of(said, "verify_bytes"), bytes),
           strcmp(cli_text(said, "verify"), "ended") == 0 ? ", then ended early" : "");
    if (number_of(said, "verify_differing_bytes"))
        printf(", %s DIFFER%s", text_size(number_of(said, "verify_differing_bytes"), differing),
               is_repairing ? "; they are sent to the peer" : "");
    else
        printf(", all the same");
    if (unread)
        printf("; %llu bytes could not be read", (unsigned long long)unread);
    if (skipped)
        printf("; %llu bytes wait for a resync and were left out", (unsigned long long)skipped);
    putchar('\n');
}

static int tell(struct cli *cli, const json_t *said, bool is_repairing)
{
    bool is_same = strcmp(cli_text(said, "verify"), "same") == 0;

    if (cli->is_json)
        cli_print_json(said);
    else
        print_result(said, is_repairing);
    return is_same ? EXIT_OK : EXIT_FALSE;
}

int cli_verify(struct cli *cli)
{
    const char *rate = cli_take_option(cli, "--rate");
    bool repairs = cli_take_flag(cli, "--repair"), stops = cli_take_flag(cli, "--stop"),
         leaves = cli_take_flag(cli, "--no-wait");
    const struct waiting waiting = {is_verified, show_verify, 0};
    int code = cli_expect_positions(cli, 1, 1);
    json_t *said, *words;

    if (code)
        return code;
    if (stops && (rate || repairs || leaves))
        return cli_usage_error(cli, "--stop stands alone");
    words = json_array();
    if (rate)
        json_array_append_new(words, json_string("--rate"));
    if (rate)
        json_array_append_new(words, json_string(rate));
    if (repairs)
        json_array_append_new(words, json_string("--repair"));
    if (stops)
        json_array_append_new(words, json_string("--stop"));
    code = ask(cli, cli->argv[0], "verify", words, &said);
    if (code == EXIT_OK && !leaves && !stops)
        code = wait_until_done(cli, cli->argv[0], &waiting, &said);
    if (code == EXIT_OK && !leaves && !stops)
        code = tell(cli, said, repairs);
    else if (code == EXIT_OK && cli->is_json)
        cli_print_json(said);
    json_decref(said);
    return code;
}

/* --- resync --------------------------------------------------------------------------------- */

static int tell_batch(struct cli *cli, const json_t *said)
{
    char bytes[32], same[32], sent[32];

    if (strcmp(cli_text(said, "role"), "primary") != 0)
        return cli_fail(cli, EXIT_ERROR, "this side is not primary any more");
    if (cli->is_json)
        cli_print_json(said);
    else
        printf("%s might have differed: %s were the same, %s were sent\n",
               text_size(number_of(said, "batch_bytes"), bytes),
               text_size(number_of(said, "batch_same_bytes"), same),
               text_size(number_of(said, "batch_sent_bytes"), sent));
    return EXIT_OK;
}

int cli_resync(struct cli *cli)
{
    bool is_seed = cli_take_flag(cli, "--seed"), is_full = cli_take_flag(cli, "--full"),
         leaves = cli_take_flag(cli, "--no-wait");
    struct waiting waiting = {is_resynced, show_resync, 0};
    int code = cli_expect_positions(cli, 1, 1);
    json_t *said, *words;

    if (code)
        return code;
    if (is_seed && is_full)
        return cli_usage_error(cli, "give one of --seed, --full");
    words = json_array();
    if (is_seed || is_full)
        json_array_append_new(words, json_string(is_seed ? "--seed" : "--full"));
    code = ask(cli, cli->argv[0], "resync", words, &said);
    waiting.since = number_of(said, "batches");
    if (code == EXIT_OK && !leaves)
        code = wait_until_done(cli, cli->argv[0], &waiting, &said);
    if (code == EXIT_OK && !leaves)
        code = tell_batch(cli, said);
    else if (code == EXIT_OK && cli->is_json)
        cli_print_json(said);
    json_decref(said);
    return code;
}
