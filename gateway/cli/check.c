/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check.c: `sluice check`: the loader itself, and nothing else; `--effective DISK` prints what a
 * disk ends up with, each value with where it was written.
 */
#include "cli.h"

#include <stdio.h>

int cli_check(struct cli *cli)
{
    const char *disk = cli_take_option(cli, "--effective");
    struct gateway_config *config;
    struct err e = {0};
    int r = cli_expect_positions(cli, 0, 0);

    if (r)
        return r;
    config = cli_load_config(cli);
    if (!config)
        return EXIT_ERROR;
    if (disk && config_print_effective(stdout, config, disk, &e) < 0)
        r = cli_fail(cli, EXIT_ERROR, "%s", e.text);
    else if (!disk)
        printf("%s: ok, %u disk%s\n", cli->folder, config->disk_count,
               config->disk_count == 1 ? "" : "s");
    config_free(config);
    return r;
}
