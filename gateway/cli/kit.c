/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * kit.c: `sluice filter new` and `filter check`: what the author of a filter begins and works with.
 * The work is the host room's (kit*.c there); here are the words around it.
 */
#include "cli.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

/* --- new ------------------------------------------------------------------------------------ */

/* `sluice FILTER VERB` is how a filter's own verbs are called, so the words before ours are taken.
 */
static bool is_verb_word(const char *name)
{
    size_t length = strlen(name);

    for (unsigned i = 0; i < cli_verb_count; i++)
        if (strncmp(cli_verbs[i].name, name, length) == 0 &&
            (cli_verbs[i].name[length] == ' ' || !cli_verbs[i].name[length]))
            return true;
    return false;
}

static void print_what_next(const char *name)
{
    printf("%s/ has %s.c, Makefile, test.sh, %s.yaml and sluice-filter-%s.pod\n"
           "next: cd %s && make && make check\n",
           name, name, name, name, name);
}

int cli_filter_new(struct cli *cli)
{
    const char *class_name = cli_take_option(cli, "--class"), *name;
    char kit[PATH_MAX];
    struct err e = {0};
    int r = cli_expect_positions(cli, 1, 1);

    if (r)
        return r;
    name = cli->argv[0];
    if (!class_name)
        return cli_usage_error(cli, "--class is missing (inspection, cache, ...)");
    if (is_verb_word(name))
        return cli_fail(cli, EXIT_ERROR, "\"%s\" is a word of the sluice command itself", name);
    cli_find_kit(cli, kit, sizeof kit);
    setenv("SLUICE_KIT", kit, 1);
    if (host_kit_create(name, class_name, name, &e) < 0)
        return cli_fail(cli, EXIT_ERROR, "%s", e.text);
    print_what_next(name);
    return EXIT_OK;
}

/* --- check ---------------------------------------------------------------------------------- */

#define SETTINGS_MAX 64u

/* One line of the report; an exit code. */
static int check_manifest(struct cli *cli, const char *path, FILE *report)
{
    const struct sluice_filter *filter;
    struct err e = {0};
    int r;

    filter = host_find_filter(path, &e);
    if (!filter)
        return cli_fail(cli, EXIT_ERROR, "%s", e.text);
    r = config_manifest_check(path, filter, &e);
    if (r == -ENOENT) {
        fprintf(report, "note  there is no manifest beside it\n");
        return EXIT_OK;
    }
    fprintf(report, "%s  its manifest says what the filter says%s%s\n", r < 0 ? "FAIL" : "ok  ",
            r < 0 ? ": " : "", r < 0 ? e.text : "");
    return r < 0 ? cli_fail(cli, EXIT_ERROR, "%s", e.text) : EXIT_OK;
}

/* The driver first: it loads the filter in a process of its own, whatever that does. */
static int check_and_report(struct cli *cli, const char *path, const char *const *words,
                            unsigned count, FILE *report)
{
    struct err e = {0};

    if (host_kit_check(path, words, count, report, &e) < 0)
        return cli_fail(cli, EXIT_ERROR, "%s", e.text);
    return check_manifest(cli, path, report);
}

/* "ok    writes of every size", "FAIL  the same: why"; other lines only sum up. */
static void add_check(json_t *checks, char *line)
{
    static const char *const results[] = {"ok", "FAIL", "note"};
    const char *text = line + strcspn(line, " ");

    line[strcspn(line, "\n")] = 0;
    text += strspn(text, " ");
    for (unsigned i = 0; i < ARRAY_SIZE(results); i++)
        if (strncmp(line, results[i], strlen(results[i])) == 0 && line[strlen(results[i])] == ' ')
            json_array_append_new(checks,
                                  json_pack("{s:s, s:s}", "result", results[i], "text", text));
}

static void print_report_as_json(const char *path, FILE *report, int status)
{
    json_t *checks = json_array(), *document;
    CLEANUP_FREE char *line = NULL;
    size_t size = 0;

    rewind(report);
    while (getline(&line, &size, report) > 0)
        add_check(checks, line);
    document = json_pack("{s:i, s:s, s:b, s:o}", "schema_version", 1, "file", path, "passed",
                         status == EXIT_OK, "checks", checks);
    cli_print_json(document);
    json_decref(document);
}

static int check_as_json(struct cli *cli, const char *path, const char *const *words,
                         unsigned count)
{
    FILE *report = tmpfile(); /* the driver is another process */
    int status;

    if (!report)
        return cli_fail(cli, EXIT_ERROR, "cannot make a temporary file: %s", strerror(errno));
    status = check_and_report(cli, path, words, count, report);
    print_report_as_json(path, report, status);
    fclose(report);
    return status;
}

int cli_filter_check(struct cli *cli)
{
    const char *words[SETTINGS_MAX], *word;
    char path[PATH_MAX];
    unsigned count = 0;
    int r;

    while ((word = cli_take_option(cli, "--set")) != NULL) {
        if (!strchr(word, '=') || count == SETTINGS_MAX)
            return cli_usage_error(cli, "\"%s\" is no OPTION=VALUE", word);
        words[count++] = word;
    }
    r = cli_expect_positions(cli, 1, 1);
    if (r == 0)
        r = cli_use_filters(cli);
    if (r)
        return r;
    /* A file, not the name of one that is installed. */
    snprintf(path, sizeof path, "%s%s", strchr(cli->argv[0], '/') ? "" : "./", cli->argv[0]);
    return cli->is_json ? check_as_json(cli, path, words, count)
                        : check_and_report(cli, path, words, count, stdout);
}
