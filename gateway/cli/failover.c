/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * failover.c: `sluice failover` says what it will do before it does it, and wants the name typed;
 * `sluice peer check` says whether the two gateways of a pair fit together.
 */
#include "cli.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

/* --- failover ------------------------------------------------------------------------------- */

static int ask(struct cli *cli, const char *name, const char *to, bool is_forced, bool is_dry,
               json_t **reply)
{
    json_t *request = json_pack("{s:s, s:s, s:s*, s:b, s:b}", "verb", "failover", "name", name,
                                "to", to, "force", is_forced, "dry_run", is_dry);
    int code = cli_call(cli, request, reply);

    json_decref(request);
    return code;
}

static void print_text(const json_t *reply, FILE *out)
{
    fputs(cli_text(json_object_get(reply, "reply"), "text"), out);
}

/* Whoever types the name has read what stands above. */
static int confirm(struct cli *cli, const char *name)
{
    char line[200];

    fprintf(stderr, "Type %s to go on:\n", name);
    if (!fgets(line, sizeof line, stdin))
        line[0] = '\0';
    line[strcspn(line, "\n")] = '\0';
    return strcmp(line, name) == 0 ? EXIT_OK : cli_fail(cli, EXIT_FALSE, "nothing was changed");
}

static int fail_over(struct cli *cli, const char *name, const char *to, bool is_forced,
                     bool is_sure)
{
    json_t *reply;
    int code = ask(cli, name, to, is_forced, true, &reply);

    if (code == EXIT_OK)
        print_text(reply, stderr);
    json_decref(reply);
    if (code == EXIT_OK && !is_sure)
        code = confirm(cli, name);
    if (code)
        return code;
    code = ask(cli, name, to, is_forced, false, &reply);
    if (cli->is_json && code == EXIT_OK)
        cli_print_answer(reply);
    else if (code == EXIT_OK)
        printf("%s is served by %s\n", name, cli_text(reply, "gateway"));
    json_decref(reply);
    return code;
}

int cli_failover(struct cli *cli)
{
    const char *to = cli_take_option(cli, "--to");
    bool is_forced = cli_take_flag(cli, "--force"), is_sure = cli_take_flag(cli, "--yes");
    int code = cli_expect_positions(cli, 1, 1);

    return code ? code : fail_over(cli, cli->argv[0], to, is_forced, is_sure);
}

/* --- peer check ----------------------------------------------------------------------------- */

static void print_day(const json_t *peer)
{
    time_t end = (time_t)json_integer_value(json_object_get(peer, "certificate_end_s"));
    char day[32] = "";

    if (end)
        strftime(day, sizeof day, ", certificate until %Y-%m-%d", gmtime(&end));
    fputs(day, stdout);
}

static void print_decisions(const char *where, json_t *side)
{
    const char *name;
    json_t *disk;

    json_object_foreach(json_object_get(side, "disks"), name, disk)
    {
        printf("  %s: %s %s\n", name, cli_text(disk, "role"), where);
        if (cli_text(disk, "decision")[0])
            printf("  %s: on a connection: %s", name, cli_text(disk, "decision"));
    }
}

/* True: it fits. */
static bool print_peer(const json_t *peer, json_t *ours)
{
    const json_t *differences = json_object_get(peer, "differences");
    size_t i;
    json_t *line;

    if (!differences) {
        printf("%s  NOT CONNECTED to %s: %s\n", cli_text(peer, "name"), cli_text(peer, "address"),
               cli_text(peer, "reason"));
        return false;
    }
    printf("%s  connected, %s", cli_text(peer, "name"), cli_text(peer, "tls"));
    print_day(peer);
    printf(", version %s\n", cli_text(json_object_get(peer, "theirs"), "version"));
    print_decisions("here", ours);
    print_decisions("there", json_object_get(peer, "theirs"));
    json_array_foreach(differences, i, line) printf("  DIFFERS  %s\n", json_string_value(line));
    return json_array_size(differences) == 0;
}

static int print_peers(const struct cli *cli, json_t *reply)
{
    const json_t *peers = json_object_get(reply, "peers");
    bool fits = true;
    size_t i;
    json_t *peer;

    if (cli->is_json)
        cli_print_answer(reply);
    json_array_foreach(peers, i, peer)
    {
        const json_t *differences = json_object_get(peer, "differences");

        if (cli->is_json)
            fits &= differences && json_array_size(differences) == 0;
        else
            fits &= print_peer(peer, json_object_get(reply, "ours"));
    }
    if (json_array_size(peers) == 0 && !cli->is_json)
        printf("gateway.yaml names no peers, or no certificates (tls)\n");
    return fits && json_array_size(peers) ? EXIT_OK : EXIT_FALSE;
}

int cli_peer_check(struct cli *cli)
{
    json_t *request, *reply;
    int code = cli_expect_positions(cli, 0, 0);

    if (code)
        return code;
    request = json_pack("{s:s}", "verb", "peer-check");
    code = cli_call(cli, request, &reply);
    json_decref(request);
    if (code == EXIT_OK)
        code = print_peers(cli, reply);
    json_decref(reply);
    return code;
}
