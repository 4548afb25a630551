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
    __attribute__((format(printf, 2, 0)));
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

void cli_print_answer(const json_t *answer)
{
    json_t *document;

    if (!answer)
        return;
    document = json_pack("{s:i}", "schema_version", CLI_SCHEMA_VERSION);
    json_object_update(document, (json_t *)(uintptr_t)answer);
    cli_print_json(document);
    json_decref(document);
}

const char *cli_text(const json_t *j, const char *key)
{
    const char *text = json_string_value(json_object_get(j, key));

    return text ? text : "";
}

json_int_t cli_integer(const json_t *j, const char *key)
{
    return json_integer_value(json_object_get(j, key));
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

bool cli_find_beside(const char *name, char *out, size_t out_size)
{
    char folder[PATH_MAX];

    return program_folder(folder, sizeof folder) &&
           snprintf(out, out_size, "%s/%s", folder, name) < (int)out_size && access(out, X_OK) == 0;
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
    find_part("SLUICE_PLUGIN", "lib/sluice/nbdkit-sluice-plugin.so", installation.plugin, out,
              out_size);
}

void cli_find_filters(const struct cli *cli, char *out, size_t out_size)
{
    (void)cli;
    find_part("SLUICE_FILTER_PATH", "lib/sluice/filters", installation.filters, out, out_size);
}

void cli_find_kit(const struct cli *cli, char *out, size_t out_size)
{
    (void)cli;
    find_part("SLUICE_KIT", "share/sluice/kit", installation.kit, out, out_size);
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

struct gateway_config *cli_read_config(struct cli *cli, struct config_problems *problems)
{
    struct gateway_config *config = NULL;
    struct config_lookup lookup;
    struct err e = {0};
    int r;

    memset(problems, 0, sizeof *problems);
    if (set_filter_path(cli, &e) < 0) {
        cli_fail(cli, EXIT_ERROR, "%s", e.text);
        return NULL;
    }
    config_lookup_host(&lookup);
    r = config_load(cli->folder, &lookup, &config, problems);
    if (r < 0 && problems->count == 0)
        cli_fail(cli, EXIT_ERROR, "%s", strerror(-r));
    return r < 0 ? NULL : config;
}

struct gateway_config *cli_load_config(struct cli *cli)
{
    struct config_problems *problems = calloc(1, sizeof *problems);
    struct gateway_config *config = problems ? cli_read_config(cli, problems) : NULL;

    if (problems)
        config_problems_print(problems, stderr);
    else
        cli_fail(cli, EXIT_ERROR, "out of memory");
    free(problems);
    return config;
}

/* --- the running gateway
 * -------------------------------------------------------------------------------------------- */

/* NULL with the reason printed. */
static char *find_control(struct cli *cli, bool *is_guess)
{
    struct config_problems *problems = calloc(1, sizeof *problems);
    char *path = problems ? config_find_control(cli->folder, is_guess, problems) : NULL;

    if (problems)
        config_problems_print(problems, stderr);
    if (!path && (!problems || problems->count == 0))
        cli_fail(cli, EXIT_ERROR, "out of memory");
    else if (path && *is_guess)
        fprintf(stderr, "sluice %s: gateway.yaml is broken; trying %s\n", cli->verb, path);
    free(problems);
    return path;
}

/* A guess may lead to the gateway of another folder; that one is told nothing. */
static int check_is_ours(struct cli *cli, struct control_client *client, const char *path)
{
    CLEANUP_FREE char *real = realpath(cli->folder, NULL);
    json_t *request = json_pack("{s:s}", "verb", "status"), *reply = NULL;
    const char *folder;
    struct err e = {0};
    int code = EXIT_OK;

    if (control_call(client, request, &reply, &e) < 0)
        code = cli_fail(cli, EXIT_ERROR, "%s", e.text);
    json_decref(request);
    folder = json_string_value(json_object_get(json_object_get(reply, "status"), "folder"));
    if (code == EXIT_OK && (!folder || !real || strcmp(folder, real) != 0))
        code = cli_fail(cli, EXIT_ERROR, "the gateway at %s serves %s; mend gateway.yaml in %s",
                        path, folder ? folder : "no folder", cli->folder);
    json_decref(reply);
    return code;
}

int cli_open_gateway(struct cli *cli, struct control_client **client)
{
    bool is_guess = false;
    CLEANUP_FREE char *path = find_control(cli, &is_guess);
    struct err e = {0};
    int code;

    if (!path)
        return EXIT_ERROR;
    if (control_connect(path, client, &e) < 0)
        return cli_fail(cli, EXIT_ERROR, "%s", e.text);
    code = is_guess ? check_is_ours(cli, *client, path) : EXIT_OK;
    if (code != EXIT_OK)
        control_disconnect(*client);
    return code;
}

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
    struct control_client *client;
    struct err e = {0};
    int r;

    *reply = NULL;
    r = cli_open_gateway(cli, &client);
    if (r != EXIT_OK)
        return r;
    r = control_call(client, request, reply, &e);
    control_disconnect(client);
    if (r < 0)
        return cli_fail(cli, EXIT_ERROR, "%s", e.text);
    return read_reply(cli, *reply);
}
