/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check.c: `sluice check`: the loader itself, and nothing else; `--effective DISK` prints what a
 * disk ends up with, each value with where it was written.
 */
#include "cli.h"

#include <stdio.h>

static int print_effective(struct cli *cli, const char *disk)
{
    struct gateway_config *config = cli_load_config(cli);
    struct err e = {0};
    int r = EXIT_OK;

    if (!config)
        return EXIT_ERROR;
    if (config_print_effective(stdout, config, disk, &e) < 0)
        r = cli_fail(cli, EXIT_ERROR, "%s", e.text);
    config_free(config);
    return r;
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
    if (disk && cli->is_json)
        return cli_usage_error(cli, "--effective prints YAML, with origins as comments; no --json");
    if (disk)
        return print_effective(cli, disk);
    problems = calloc(1, sizeof *problems);
    r = problems ? check(cli, problems) : cli_fail(cli, EXIT_ERROR, "out of memory");
    free(problems);
    return r;
}
