/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * calls.c: verbs that ask the running gateway and print what it says.
 */
#include "cli.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* --- asking
 * -------------------------------------------------------------------------------------------------
 */

/* Sends {"verb": ...} with the given pairs and takes the answer apart. Steals `request`. */
static int ask(struct cli *cli, json_t *request, json_t **reply)
{
    int code = cli_call(cli, request, reply);

    json_decref(request);
    return code;
}

/* For verbs whose answer is only yes or no. */
static int ask_quietly(struct cli *cli, json_t *request)
{
    json_t *reply;
    int code = ask(cli, request, &reply);

    if (cli->is_json)
        cli_print_answer(reply);
    json_decref(reply);
    return code;
}

int cli_ask_filter(struct cli *cli, const char *filter, const char *verb, const char *disk,
                   json_t *words, json_t **said)
{
    json_t *reply;
    int code = ask(cli,
                   json_pack("{s:s, s:s, s:s, s:s, s:o}", "verb", "filter", "filter", filter,
                             "filter_verb", verb, "disk", disk, "args", words),
                   &reply);

    *said = code == EXIT_OK ? json_incref(json_object_get(reply, "reply")) : NULL;
    json_decref(reply);
    return code;
}

/* --- reload and diff
 * ------------------------------------------------------------------------------------------ */

static void print_report(const struct cli *cli, const json_t *reply)
{
    const json_t *report = json_object_get(reply, "report");
    size_t i;
    json_t *item;

    if (cli->is_json) {
        cli_print_answer(report);
        return;
    }
    json_array_foreach(json_object_get(report, "problems"), i, item)
        fprintf(stderr, "%s\n", json_string_value(item));
    json_array_foreach(json_object_get(report, "actions"), i, item)
        printf("%s\n", json_string_value(json_object_get(item, "text")));
    if (json_is_true(json_object_get(reply, "ok")) &&
        json_array_size(json_object_get(report, "actions")) == 0)
        printf("nothing to do\n");
}

static int reload_or_diff(struct cli *cli, json_t *request)
{
    json_t *reply;
    int code = ask(cli, request, &reply);

    if (reply)
        print_report(cli, reply);
    json_decref(reply);
    return code;
}

int cli_diff(struct cli *cli)
{
    int r = cli_expect_positions(cli, 0, 0);

    return r ? r : reload_or_diff(cli, json_pack("{s:s}", "verb", "diff"));
}

int cli_reload(struct cli *cli)
{
    bool dry = cli_take_flag(cli, "--dry-run"), force = cli_take_flag(cli, "--force");
    int r = cli_expect_positions(cli, 0, 0);

    if (r)
        return r;
    return reload_or_diff(
        cli, json_pack("{s:s, s:b, s:b}", "verb", "reload", "dry_run", dry, "force", force));
}

/* --- metrics and watch
 * ------------------------------------------------------------------------------------------ */

int cli_metrics(struct cli *cli)
{
    json_t *reply;
    int r = cli_expect_positions(cli, 0, 0), code;

    if (r)
        return r;
    code = ask(cli, json_pack("{s:s}", "verb", "metrics"), &reply);
    if (code == EXIT_OK)
        fputs(json_string_value(json_object_get(reply, "text")), stdout);
    json_decref(reply);
    return code;
}

static void print_event(const struct cli *cli, const json_t *j)
{
    if (cli->is_json) {
        json_dumpf(j, stdout, JSON_COMPACT | JSON_PRESERVE_ORDER);
        putchar('\n');
    } else if (strcmp(cli_text(j, "object"), "-") == 0) {
        printf("%s exists -\n", cli_text(j, "time"));
    } else {
        printf("%s %s %s %s:%s %s\n", cli_text(j, "time"), cli_text(j, "event"),
               cli_text(j, "object"), cli_text(j, "object"), cli_text(j, "name"),
               cli_text(j, "text"));
    }
    fflush(stdout);
}

static int stream_events(struct cli *cli, struct control_client *client, bool now)
{
    json_t *request = json_pack("{s:s, s:b}", "verb", "watch", "now", now), *event;
    struct err e = {0};
    int r = control_call(client, request, &event, &e);
    bool has_begun = r == 0;

    json_decref(request);
    while (r == 0) {
        print_event(cli, event);
        json_decref(event);
        r = control_next(client, &event, &e);
    }
    return now && has_begun ? EXIT_OK : cli_fail(cli, EXIT_ERROR, "%s", e.text);
}

int cli_watch(struct cli *cli)
{
    bool now = cli_take_flag(cli, "--now");
    struct control_client *client;
    int r = cli_expect_positions(cli, 0, 0);

    if (r == 0)
        r = cli_open_gateway(cli, &client);
    if (r)
        return r;
    r = stream_events(cli, client, now);
    control_disconnect(client);
    return r;
}

/* --- one disk
 * --------------------------------------------------------------------------------------------------------
 */

int cli_disk_snapshot(struct cli *cli)
{
    int r = cli_expect_positions(cli, 2, 2);

    if (r)
        return r;
    return ask_quietly(cli, json_pack("{s:s, s:s, s:s}", "verb", "disk-snapshot", "disk",
                                      cli->argv[0], "name", cli->argv[1]));
}

int cli_disk_reopen(struct cli *cli)
{
    int r = cli_expect_positions(cli, 1, 1);

    return r ? r
             : ask_quietly(cli,
                           json_pack("{s:s, s:s}", "verb", "disk-reopen", "disk", cli->argv[0]));
}

static const char *take_phase(struct cli *cli, unsigned *count)
{
    static const char *const phases[] = {"prepare", "commit", "abort"};
    const char *found = "";

    *count = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(phases); i++) {
        char flag[16];

        snprintf(flag, sizeof flag, "--%s", phases[i]);
        if (cli_take_flag(cli, flag)) {
            found = phases[i];
            ++*count;
        }
    }
    return found;
}

int cli_disk_event(struct cli *cli)
{
    unsigned phases;
    const char *phase = take_phase(cli, &phases), *name = cli_take_option(cli, "--name");
    int r = cli_expect_positions(cli, 2, 2);

    if (r)
        return r;
    if (phases > 1)
        return cli_usage_error(cli, "give one of --prepare, --commit, --abort");
    return ask_quietly(cli, json_pack("{s:s, s:s, s:s, s:s, s:s}", "verb", "disk-event", "disk",
                                      cli->argv[0], "event", cli->argv[1], "phase", phase, "name",
                                      name ? name : ""));
}

/* --- verbs of filters
 * ---------------------------------------------------------------------------------------------------
 */

static json_t *list_words(struct cli *cli, int from)
{
    json_t *list = json_array();

    for (int i = from; i < cli->argc; i++)
        json_array_append_new(list, json_string(cli->argv[i]));
    return list;
}

static void print_reply(const struct cli *cli, const json_t *reply)
{
    const char *key, *text = json_string_value(json_object_get(reply, "text"));
    json_t *value;

    if (cli->is_json) {
        cli_print_json(reply);
        return;
    }
    if (text)
        fputs(text, stdout);
    json_object_foreach((json_t *)(uintptr_t)reply, key, value)
    {
        if (json_is_integer(value))
            printf("%s: %" JSON_INTEGER_FORMAT "\n", key, json_integer_value(value));
        else if (json_is_string(value) && strcmp(key, "text") != 0)
            printf("%s: %s\n", key, json_string_value(value));
    }
}

static bool has_verb(const struct sluice_filter *f, const char *name)
{
    const struct sluice_verb *v = f->verbs;

    while (v && v->name && strcmp(v->name, name) != 0)
        v++;
    return v && v->name;
}

/* A tool that a filter brings for a verb that needs no gateway: sluice-FILTER-VERB, beside this
 * program or in PATH, gets the words after the verb.  Returns when there is none. */
static void run_tool(char **argv)
{
    char beside[PATH_MAX], name[256];
    int length = snprintf(name, sizeof name, "sluice-%s-%s", argv[0], argv[1]);

    if (length < 0 || (size_t)length >= sizeof name || strchr(argv[1], '/'))
        return;
    argv[1] = name;
    if (cli_find_beside(name, beside, sizeof beside))
        execv(beside, argv + 1);
    execvp(name, argv + 1);
}

/* sluice FILTER VERB DISK [ARGUMENT...] */
int cli_filter_verb(struct cli *cli, int (*unknown)(int argc, char **argv))
{
    const struct sluice_filter *filter;
    char folders[4096], verb[128];
    json_t *said;
    int code;

    cli_find_filters(cli, folders, sizeof folders);
    setenv("SLUICE_FILTER_PATH", folders, 0);
    if (cli->argc < 3 || strchr(cli->argv[0], '/') || gateway_set_filter_path(NULL) < 0)
        return unknown(cli->argc, cli->argv);
    filter = host_find_filter(cli->argv[0], NULL);
    if (!filter)
        return unknown(cli->argc, cli->argv);
    snprintf(verb, sizeof verb, "%s %s", cli->argv[0], cli->argv[1]);
    if (!has_verb(filter, cli->argv[1]))
        run_tool(cli->argv);
    cli->argv[1] = strchr(verb, ' ') + 1;
    cli->verb = verb;
    cli->folder = cli_take_option(cli, "--config");
    if (!cli->folder)
        cli->folder = installation.settings;
    cli->is_json = cli_take_flag(cli, "--json");
    code = cli_ask_filter(cli, cli->argv[0], cli->argv[1], cli->argc > 2 ? cli->argv[2] : "",
                          list_words(cli, 3), &said);
    if (code == EXIT_OK)
        print_reply(cli, said);
    json_decref(said);
    return code;
}
