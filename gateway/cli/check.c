/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check.c: `sluice check`: the loader itself, and nothing else; `--effective DISK` prints what a
 * disk ends up with, each value with where it was written, as YAML or JSON.
 */
#include "cli.h"

#include <stdio.h>

static int effective_document(const struct gateway_config *config, const char *disk, struct err *e)
{
    json_t *document = config_effective(config, disk, e);

    if (!document)
        return -1;
    cli_print_answer(document);
    json_decref(document);
    return 0;
}

static int print_effective(struct cli *cli, const char *disk)
{
    struct gateway_config *config = cli_load_config(cli);
    struct err e = {0};
    int r;

    if (!config)
        return EXIT_ERROR;
    r = cli->is_json ? effective_document(config, disk, &e)
                     : config_print_effective(stdout, config, disk, &e);
    config_free(config);
    return r < 0 ? cli_fail(cli, EXIT_ERROR, "%s", e.text) : EXIT_OK;
}

static json_t *list_problems(const struct config_problems *problems)
{
    json_t *list = json_array();

    for (unsigned i = 0; i < problems->count; i++) {
        const struct config_problem *p = &problems->problem[i];

        json_array_append_new(list,
                              json_pack("{s:s, s:i, s:i, s:s}", "file", p->file, "line",
                                        (int)p->line, "column", (int)p->column, "text", p->text));
    }
    return list;
}

static void print_document(const struct cli *cli, const struct gateway_config *config,
                           const struct config_problems *problems)
{
    json_t *document =
        json_pack("{s:i, s:b, s:s, s:o, s:o, s:i}", "schema_version", CLI_SCHEMA_VERSION, "ok",
                  config != NULL, "folder", cli->folder, "disks",
                  config ? json_integer(config->disk_count) : json_null(), "problems",
                  list_problems(problems), "not_shown", (int)problems->dropped);

    cli_print_json(document);
    json_decref(document);
}

static int check(struct cli *cli, struct config_problems *problems)
{
    struct gateway_config *config = cli_read_config(cli, problems);
    int r = config ? EXIT_OK : EXIT_ERROR;

    config_problems_print(problems, stderr);
    if (cli->is_json)
        print_document(cli, config, problems);
    else if (config)
        printf("%s: ok, %u disk%s\n", cli->folder, config->disk_count,
               config->disk_count == 1 ? "" : "s");
    config_free(config);
    return r;
}

int cli_check(struct cli *cli)
{
    const char *disk = cli_take_option(cli, "--effective");
    struct config_problems *problems;
    int r = cli_expect_positions(cli, 0, 0);

    if (r)
        return r;
    if (disk)
        return print_effective(cli, disk);
    problems = calloc(1, sizeof *problems);
    r = problems ? check(cli, problems) : cli_fail(cli, EXIT_ERROR, "out of memory");
    free(problems);
    return r;
}
