/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * common.c: what verbs share: arguments, errors, the configuration, the running gateway, and where
 * this installation keeps its plugin and filters.
 */
#include "cli.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

/* --- arguments
 * ------------------------------------------------------------------------------------------- */

static void remove_argument(struct cli *cli, int at)
{
    for (int i = at; i + 1 < cli->argc; i++)
        cli->argv[i] = cli->argv[i + 1];
    cli->argc--;
}

bool cli_take_flag(struct cli *cli, const char *name)
{
    for (int i = 0; i < cli->argc; i++)
        if (strcmp(cli->argv[i], name) == 0) {
            remove_argument(cli, i);
            return true;
        }
    return false;
}

const char *cli_take_option(struct cli *cli, const char *name)
{
    size_t n = strlen(name);

    for (int i = 0; i < cli->argc; i++) {
        const char *value;

        if (strncmp(cli->argv[i], name, n) == 0 && cli->argv[i][n] == '=') {
            value = cli->argv[i] + n + 1;
            remove_argument(cli, i);
            return value;
        }
        if (strcmp(cli->argv[i], name) != 0)
            continue;
        if (i + 1 == cli->argc)
            exit(cli_usage_error(cli, "%s needs a value", name));
        value = cli->argv[i + 1];
        remove_argument(cli, i);
        remove_argument(cli, i);
        return value;
    }
    return NULL;
}

int cli_expect_positions(struct cli *cli, int least, int most)
{
    for (int i = 0; i < cli->argc; i++)
        if (cli->argv[i][0] == '-' && cli->argv[i][1])
            return cli_usage_error(cli, "unknown option %s", cli->argv[i]);
    if (cli->argc < least)
        return cli_usage_error(cli, "something is missing");
    if (cli->argc > most)
        return cli_usage_error(cli, "\"%s\" is one word too many", cli->argv[most]);
    return 0;
}

/* --- errors
 * --------------------------------------------------------------------------------------------------
 */

static void print_error(const struct cli *cli, const char *fmt, va_list ap)
{
    fprintf(stderr, "sluice %s: ", cli->verb);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
}

int cli_fail(const struct cli *cli, int code, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    print_error(cli, fmt, ap);
    va_end(ap);
    return code;
}

int cli_usage_error(const struct cli *cli, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    print_error(cli, fmt, ap);
    va_end(ap);
    fprintf(stderr, "see sluice %s --help\n", cli->verb);
    return EXIT_USAGE;
}

void cli_print_json(const json_t *document)
{
    json_dumpf(document, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
    putchar('\n');
}

/* --- this installation
 * ---------------------------------------------------------------------------------------- */

/* The folder of the running program, without a slash at its end. */
static bool program_folder(char *out, size_t out_size)
{
    ssize_t n = readlink("/proc/self/exe", out, out_size - 1);
    char *slash;

    if (n <= 0)
        return false;
    out[n] = 0;
    slash = strrchr(out, '/');
    if (!slash)
        return false;
    *slash = 0;
    return true;
}

/* PREFIX/bin/sluice has PREFIX/lib/sluice and PREFIX/share/sluice beside it, wherever PREFIX was
 * moved; else what configure said.  An environment variable goes before both. */
static void find_part(const char *variable, const char *beside, const char *configured, char *out,
                      size_t out_size)
{
    const char *given = getenv(variable);
    char folder[PATH_MAX];

    if (given) {
        snprintf(out, out_size, "%s", given);
        return;
    }
    if (program_folder(folder, sizeof folder) &&
        snprintf(out, out_size, "%s/../%s", folder, beside) < (int)out_size &&
        access(out, R_OK) == 0)
        return;
    snprintf(out, out_size, "%s", configured);
}

void cli_find_plugin(const struct cli *cli, char *out, size_t out_size)
{
    (void)cli;
    find_part("SLUICE_PLUGIN", "lib/sluice/nbdkit-sluice-plugin.so",
              SLUICE_PLUGINDIR "/nbdkit-sluice-plugin.so", out, out_size);
}

void cli_find_filters(const struct cli *cli, char *out, size_t out_size)
{
    (void)cli;
    find_part("SLUICE_FILTER_PATH", "lib/sluice/filters", SLUICE_FILTERDIR, out, out_size);
}

void cli_find_kit(const struct cli *cli, char *out, size_t out_size)
{
    (void)cli;
    find_part("SLUICE_KIT", "share/sluice/kit", SLUICE_KITDIR, out, out_size);
}

/* --- the configuration
 * ------------------------------------------------------------------------------------------- */

/* The loader looks where this installation keeps its filters. */
static int set_filter_path(struct cli *cli, struct err *e)
{
    char folders[PATH_MAX];

    cli_find_filters(cli, folders, sizeof folders);
    setenv("SLUICE_FILTER_PATH", folders, 0);
    return gateway_set_filter_path(e);
}

struct gateway_config *cli_load_config(struct cli *cli)
{
    struct gateway_config *config = NULL;
    struct config_problems *problems = calloc(1, sizeof *problems);
    struct config_lookup lookup;
    struct err e = {0};

    if (!problems || set_filter_path(cli, &e) < 0) {
        cli_fail(cli, EXIT_ERROR, "%s", problems ? e.text : "out of memory");
        free(problems);
        return NULL;
    }
    config_lookup_host(&lookup);
    if (config_load(cli->folder, &lookup, &config, problems) < 0) {
        config_problems_print(problems, stderr);
        config = NULL;
    }
    free(problems);
    return config;
}

char *cli_control_path(struct cli *cli)
{
    struct gateway_config *config = cli_load_config(cli);
    char *path = config ? strdup(config->listen.control.path) : NULL;

    config_free(config);
    return path;
}

/* --- the running gateway
 * -------------------------------------------------------------------------------------------- */

static int read_reply(struct cli *cli, json_t *reply)
{
    const json_t *code = json_object_get(reply, "exit");
    const char *error = json_string_value(json_object_get(reply, "error"));

    if (json_is_true(json_object_get(reply, "ok")))
        return EXIT_OK;
    return cli_fail(cli, json_is_integer(code) ? (int)json_integer_value(code) : EXIT_ERROR, "%s",
                    error ? error : "the gateway gave no reason");
}

int cli_call(struct cli *cli, json_t *request, json_t **reply)
{
    char *path = cli_control_path(cli);
    struct control_client *client;
    struct err e = {0};
    int r;

    *reply = NULL;
    if (!path)
        return EXIT_ERROR;
    r = control_connect(path, &client, &e);
    free(path);
    if (r < 0)
        return cli_fail(cli, EXIT_ERROR, "%s", e.text);
    r = control_call(client, request, reply, &e);
    control_disconnect(client);
    if (r < 0)
        return cli_fail(cli, EXIT_ERROR, "%s", e.text);
    return read_reply(cli, *reply);
}
