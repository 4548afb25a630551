/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * policy-files.c: `sluice disk add` and `disk remove`: write or put aside a policy file, check the
 * whole configuration with it, and reload the gateway if one is running.  When the check or the
 * reload says no, the file is taken back: nothing has changed.
 */
#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int cli_policy_path(struct cli *cli, const char *disk, char *out, size_t size)
{
    if (!config_name_is_valid(disk))
        return cli_usage_error(
            cli, "\"%s\" is no name for a disk ([A-Za-z0-9][A-Za-z0-9._-]*, at most 63)", disk);
    if (snprintf(out, size, "%s/disks.d/%s.yaml", cli->folder, disk) >= (int)size)
        return cli_fail(cli, EXIT_ERROR, "the folder's name is too long");
    return 0;
}

static bool is_running(const struct gateway_config *config)
{
    struct control_client *client;
    struct err e = {0};

    if (control_connect(config->listen.control.path, &client, &e) < 0)
        return false;
    control_disconnect(client);
    return true;
}

int cli_reload_if_running(struct cli *cli, bool force, bool *did_reload)
{
    struct gateway_config *config = cli_load_config(cli);
    json_t *request, *reply;
    int code;

    *did_reload = false;
    if (!config)
        return EXIT_ERROR;
    *did_reload = is_running(config);
    config_free(config);
    if (!*did_reload) {
        fprintf(stderr, "no gateway is running; 'sluice serve' will find it\n");
        return EXIT_OK;
    }
    request = json_pack("{s:s, s:b}", "verb", "reload", "force", force);
    code = cli_call(cli, request, &reply);
    json_decref(request);
    json_decref(reply);
    return code;
}

void cli_print_change(const struct cli *cli, const char *text, json_t *document, bool did_reload)
{
    json_object_set_new(document, "reloaded", json_boolean(did_reload));
    if (cli->is_json)
        cli_print_answer(document);
    else
        printf("%s\n", text);
    json_decref(document);
}

static bool write_and_sync(FILE *f, const struct config_sample *sample)
{
    bool ok = config_sample_disk(f, sample) == 0 && fflush(f) == 0 && fsync(fileno(f)) == 0;

    return fclose(f) == 0 && ok;
}

/* Whole or not at all: a reload may read the folder at any time, and we may be killed.  link(2)
 * never replaces what is there. */
static int write_sample(struct cli *cli, const char *path, const struct config_sample *sample)
{
    CLEANUP_FREE char *beside = text_printf("%s.new.XXXXXX", path);
    int fd = beside ? mkostemp(beside, O_CLOEXEC) : -1;
    FILE *f = fd >= 0 ? fdopen(fd, "w") : NULL;
    int r = 0;

    if (!f)
        return cli_fail(cli, EXIT_ERROR, "cannot make %s: %s", path, strerror(errno));
    if (!write_and_sync(f, sample) || chmod(beside, 0640) < 0 || link(beside, path) < 0)
        r = cli_fail(cli, EXIT_ERROR, "cannot make %s: %s", path, strerror(errno));
    unlink(beside);
    return r;
}

static int take_sample(struct cli *cli, struct config_sample *s)
{
    const char *size = cli_take_option(cli, "--size");

    s->file = cli_take_option(cli, "--file");
    s->nbd = cli_take_option(cli, "--nbd");
    s->nbdkit = cli_take_option(cli, "--nbdkit");
    s->policy = cli_take_option(cli, "--policy");
    s->group = cli_take_option(cli, "--group");
    s->tls_off = cli_take_flag(cli, "--tls-off");
    if (size && text_parse_size(size, &s->size_bytes) < 0)
        return cli_usage_error(cli, "\"%s\" is no size (64GiB, or a number of bytes)", size);
    if (!s->file + !s->nbd + !s->nbdkit != 2)
        return cli_usage_error(cli, "give one of --file PATH, --nbd URI, --nbdkit PLUGIN");
    return cli_expect_positions(cli, 1, 1);
}

int cli_disk_add(struct cli *cli)
{
    struct config_sample sample = {.file = NULL};
    char path[PATH_MAX];
    bool did_reload;
    int r = take_sample(cli, &sample);

    if (r == 0)
        r = cli_policy_path(cli, cli->argv[0], path, sizeof path);
    if (r == 0)
        r = write_sample(cli, path, &sample);
    if (r)
        return r;
    r = cli_reload_if_running(cli, false, &did_reload);
    if (r != EXIT_OK) {
        unlink(path);
        return r;
    }
    cli_print_change(cli, path, json_pack("{s:s, s:s}", "disk", cli->argv[0], "file", path),
                     did_reload);
    return EXIT_OK;
}

static int forget_state(struct cli *cli, const char *disk)
{
    struct gateway_config *config = cli_load_config(cli);
    struct err e = {0};
    int r;

    if (!config)
        return EXIT_ERROR;
    r = disk_forget(config->state, disk, &e);
    config_free(config);
    return r < 0 ? cli_fail(cli, EXIT_ERROR, "%s", e.text) : EXIT_OK;
}

/* The file goes first: one that is broken can be removed as well. */
int cli_disk_remove(struct cli *cli)
{
    bool force = cli_take_flag(cli, "--force"), forget = cli_take_flag(cli, "--forget-state");
    bool did_reload;
    char path[PATH_MAX], aside[PATH_MAX + 16];
    int r = cli_expect_positions(cli, 1, 1);

    if (r == 0)
        r = cli_policy_path(cli, cli->argv[0], path, sizeof path);
    if (r)
        return r;
    snprintf(aside, sizeof aside, "%s.removed", path);
    if (rename(path, aside) < 0)
        return cli_fail(cli, EXIT_ERROR, "cannot put %s aside: %s", path, strerror(errno));
    r = cli_reload_if_running(cli, force, &did_reload);
    if (r != EXIT_OK) {
        if (rename(aside, path) < 0)
            cli_fail(cli, EXIT_ERROR, "cannot put %s back: %s", path, strerror(errno));
        return r;
    }
    if (forget)
        r = forget_state(cli, cli->argv[0]);
    if (r == EXIT_OK)
        cli_print_change(cli, aside,
                         json_pack("{s:s, s:s, s:b}", "disk", cli->argv[0], "put_aside", aside,
                                   "state_forgotten", forget),
                         did_reload);
    return r;
}
