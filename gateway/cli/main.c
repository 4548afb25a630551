/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * main.c: finds the verb, takes the options that every verb has, and runs it.
 */
#include "cli.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static bool matches(const struct cli_verb *v, int argc, char **argv, int *words)
{
    const char *space = strchr(v->name, ' ');
    size_t first = space ? (size_t)(space - v->name) : strlen(v->name);

    if (argc < 1 || strlen(argv[0]) != first || strncmp(argv[0], v->name, first) != 0)
        return false;
    *words = space ? 2 : 1;
    return !space || (argc > 1 && strcmp(argv[1], space + 1) == 0);
}

static const struct cli_verb *find_verb(int argc, char **argv, int *words)
{
    for (unsigned i = 0; i < cli_verb_count; i++)
        if (matches(&cli_verbs[i], argc, argv, words))
            return &cli_verbs[i];
    return NULL;
}

void cli_print_help(FILE *out)
{
    fprintf(out, "usage: sluice VERB [--config DIR] [--json] ...\n\n");
    for (unsigned i = 0; i < cli_verb_count; i++)
        fprintf(out, "  sluice %s%s%s\n      %s\n", cli_verbs[i].name,
                cli_verbs[i].arguments[0] ? " " : "", cli_verbs[i].arguments, cli_verbs[i].help);
    fprintf(out, "\nexit codes: 0 ok, 1 error, 2 false or unhealthy, 3 usage\n");
}

static void print_verb_help(const struct cli_verb *v)
{
    printf("usage: sluice %s%s%s\n\n%s\n", v->name, v->arguments[0] ? " " : "", v->arguments,
           v->help);
}

static int unknown_verb(int argc, char **argv)
{
    const char *names[128], *close;
    unsigned n = 0;

    for (unsigned i = 0; i < cli_verb_count && n < ARRAY_SIZE(names); i++)
        names[n++] = cli_verbs[i].name;
    close = text_closest(argv[0], names, n);
    fprintf(stderr, "sluice: unknown verb \"%s%s%s\"", argv[0], argc > 1 ? " " : "",
            argc > 1 ? argv[1] : "");
    if (close)
        fprintf(stderr, " (did you mean \"%s\"?)", close);
    fprintf(stderr, "; see sluice --help\n");
    return EXIT_USAGE;
}

int cli_version(struct cli *cli)
{
    json_t *document;
    int r = cli_expect_positions(cli, 0, 0);

    if (r)
        return r;
    if (!cli->is_json) {
        printf("sluice %s\n", PACKAGE_VERSION);
        return EXIT_OK;
    }
    document = json_pack("{s:i, s:s, s:i}", "schema_version", CLI_SCHEMA_VERSION, "version",
                         PACKAGE_VERSION, "filter_api", SLUICE_FILTER_API_VERSION);
    cli_print_json(document);
    json_decref(document);
    return EXIT_OK;
}

/* sluice help [VERB...] */
int cli_help(struct cli *cli)
{
    int words;
    const struct cli_verb *v = find_verb(cli->argc, cli->argv, &words);

    if (v)
        print_verb_help(v);
    else if (cli->argc)
        return unknown_verb(cli->argc, cli->argv);
    else
        cli_print_help(stdout);
    return EXIT_OK;
}

/* A pipe that was closed or a disk that is full: what was printed is not all. */
static int finish_output(const struct cli *cli, int code)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return code;
    return cli_fail(cli, EXIT_ERROR, "cannot write the output: %s", strerror(errno));
}

int main(int argc, char **argv)
{
    struct cli cli = {.program = argv[0], .argc = argc - 1, .argv = argv + 1};
    const struct cli_verb *v;
    int words = 0;

    if (argc < 2 || strcmp(argv[1], "--help") == 0) {
        cli_print_help(argc < 2 ? stderr : stdout);
        return argc < 2 ? EXIT_USAGE : EXIT_OK;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("sluice %s\n", PACKAGE_VERSION);
        return EXIT_OK;
    }
    if (strcmp(argv[1], "--complete") == 0)
        return cli_complete(argc - 2, argv + 2);
    v = find_verb(cli.argc, cli.argv, &words);
    if (!v)
        return cli_filter_verb(&cli, unknown_verb);
    cli.verb = v->name;
    cli.argc -= words;
    cli.argv += words;
    if (cli_take_flag(&cli, "--help")) {
        print_verb_help(v);
        return EXIT_OK;
    }
    cli.folder = cli_take_option(&cli, "--config");
    if (!cli.folder)
        cli.folder = installation.settings;
    cli.is_json = strstr(v->arguments, "--json") && cli_take_flag(&cli, "--json");
    return finish_output(&cli, v->run(&cli));
}
