/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * filter.c: `sluice filter list` and `filter show`: what is installed, from the filters' own
 * tables.
 */
#include "cli.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

int cli_use_filters(struct cli *cli)
{
    char folders[PATH_MAX];
    struct err e = {0};

    cli_find_filters(cli, folders, sizeof folders);
    setenv("SLUICE_FILTER_PATH", folders, 0);
    return gateway_set_filter_path(&e) < 0 ? cli_fail(cli, EXIT_ERROR, "%s", e.text) : 0;
}

struct listing {
    json_t *list;
    bool has_broken;
};

/* "ok", "none", or the sentence that says what is wrong with it. */
static const char *judge_manifest(const char *path, const struct sluice_filter *filter,
                                  struct err *e)
{
    int r = config_manifest_check(path, filter, e);

    return r == 0 ? "ok" : r == -ENOENT ? "none" : e->text;
}

static void add_filter(const char *path, const struct sluice_filter *filter, const char *broken,
                       void *arg)
{
    struct listing *l = arg;
    struct err e = {0};

    l->has_broken |= filter == NULL;
    if (!filter) {
        json_array_append_new(l->list, json_pack("{s:s, s:s}", "path", path, "broken", broken));
        return;
    }
    json_array_append_new(l->list,
                          json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "name", filter->name, "class",
                                    host_class_name(filter->filter_class), "version",
                                    filter->version, "summary", filter->summary, "path", path,
                                    "manifest", judge_manifest(path, filter, &e)));
    l->has_broken |= e.code != 0;
}

static void print_filter_line(const json_t *f)
{
    const char *manifest = json_string_value(json_object_get(f, "manifest"));

    printf("%-12s %-14s %-8s %s\n", json_string_value(json_object_get(f, "name")),
           json_string_value(json_object_get(f, "class")),
           json_string_value(json_object_get(f, "version")),
           json_string_value(json_object_get(f, "summary")));
    if (strcmp(manifest, "ok") != 0 && strcmp(manifest, "none") != 0)
        printf("%-12s manifest: %s\n", "", manifest);
}

static void print_listing(const json_t *list)
{
    size_t i;
    json_t *f;

    json_array_foreach(list, i, f)
    {
        const char *broken = json_string_value(json_object_get(f, "broken"));

        if (broken)
            printf("%s: broken: %s\n", json_string_value(json_object_get(f, "path")), broken);
        else
            print_filter_line(f);
    }
}

int cli_filter_list(struct cli *cli)
{
    struct listing l = {.list = json_array()};
    int r = cli_expect_positions(cli, 0, 0);

    if (r == 0)
        r = cli_use_filters(cli);
    if (r)
        return r;
    host_for_each_filter(add_filter, &l);
    if (cli->is_json)
        cli_print_json(l.list);
    else
        print_listing(l.list);
    json_decref(l.list);
    return l.has_broken ? EXIT_FALSE : EXIT_OK;
}

static void print_options(const struct sluice_filter *f)
{
    for (const struct sluice_option *o = f->options; o && o->name; o++)
        printf("  %-18s %s%s%s%s\n", o->name, o->help ? o->help : "",
               o->default_text ? " (default " : "", o->default_text ? o->default_text : "",
               o->default_text ? ")" : "");
    for (const struct sluice_verb *v = f->verbs; v && v->name; v++)
        printf("  sluice %s %s DISK %s\n      %s\n", f->name, v->name,
               v->arguments ? v->arguments : "", v->help ? v->help : "");
}

int cli_filter_show(struct cli *cli)
{
    const struct sluice_filter *filter;
    struct err e = {0};
    int r = cli_expect_positions(cli, 1, 1);

    if (r == 0)
        r = cli_use_filters(cli);
    if (r)
        return r;
    filter = host_find_filter(cli->argv[0], &e);
    if (!filter)
        return cli_fail(cli, EXIT_ERROR, "%s", e.text);
    if (cli->is_json) {
        json_t *j = host_filter_describe(filter);

        cli_print_json(j);
        json_decref(j);
        return EXIT_OK;
    }
    printf("%s %s (%s), %s\n%s\n", filter->name, filter->version, filter->vendor,
           host_class_name(filter->filter_class), filter->summary);
    print_options(filter);
    return EXIT_OK;
}
