/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz-config: whole configurations through the loader, the printer and the planner.
 *
 * An input is the files of a folder, each after a line "--- NAME"; what stands before the first
 * such line, or an input without any, is disks.d/a.yaml.  What loads must also survive this: from
 * it to itself leads an empty plan, and each disk as --effective prints it is the same disk.
 *
 * With -DPLANTED_BUG the harness reads past an array when two keys meet; tests/fuzz/self-test.sh
 * shows that this is found within seconds.
 */
#include "../unit/fake-filters.h"
#include "config/internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FILES_MAX 12

struct bundle {
    struct config_text files[FILES_MAX];
    unsigned count;
    char names[FILES_MAX][128];
};

/* What a folder cannot hold: two files of one name, and what folder.c does not look at. */
static bool is_possible(const struct bundle *bundle, const char *name)
{
    size_t length = strlen(name);
    const char *slash = strchr(name, '/');

    if (slash && (strchr(slash + 1, '/') || slash[1] == '.'))
        return false;
    for (unsigned i = 0; i < bundle->count; i++)
        if (strcmp(bundle->files[i].name, name) == 0)
            return false;
    return length > 5 && strcmp(name + length - 5, ".yaml") == 0;
}

static void add_file(struct bundle *bundle, const char *name, size_t name_length, const char *text,
                     size_t length)
{
    char *copy;

    if (bundle->count == FILES_MAX)
        return;
    copy = bundle->names[bundle->count];
    snprintf(copy, sizeof bundle->names[0], "%.*s", (int)MIN(name_length, 100), name);
    if (is_possible(bundle, copy))
        bundle->files[bundle->count++] = (struct config_text){copy, text, length};
}

/* The next line that begins with "--- " and a name, or the end. */
static const char *find_mark(const char *p, const char *end)
{
    while (p < end) {
        const char *newline = memchr(p, '\n', (size_t)(end - p));

        if (end - p > 4 && memcmp(p, "--- ", 4) == 0 && p[4] != '\n')
            return p;
        if (!newline)
            break;
        p = newline + 1;
    }
    return end;
}

static void split(struct bundle *bundle, const char *p, const char *end)
{
    const char *mark = find_mark(p, end);

    if (mark > p)
        add_file(bundle, "disks.d/a.yaml", 14, p, (size_t)(mark - p));
    while (mark < end) {
        const char *name = mark + 4, *newline = memchr(name, '\n', (size_t)(end - name));
        const char *text = newline ? newline + 1 : end;

        mark = find_mark(text, end);
        add_file(bundle, name, (size_t)((newline ? newline : end) - name), text,
                 (size_t)(mark - text));
    }
}

static void add_gateway(struct bundle *bundle)
{
    static const char text[] = "gateway: gw\n";

    for (unsigned i = 0; i < bundle->count; i++)
        if (strcmp(bundle->files[i].name, "gateway.yaml") == 0)
            return;
    add_file(bundle, "gateway.yaml", 12, text, sizeof text - 1);
}

/* --- what must be true -------------------------------------------------------------------------
 */

static void must(bool is_true, const char *what)
{
    if (is_true)
        return;
    fprintf(stderr, "not true: %s\n", what);
    abort();
}

static void must_plan_to_nothing(const struct gateway_config *old, const struct gateway_config *new)
{
    struct config_plan *plan;

    must(config_plan(old, new, &plan) == 0, "a plan can be made");
    for (unsigned i = 0; i < plan->count; i++)
        fprintf(stderr, "%s\n", plan->actions[i].text);
    must(plan->count == 0, "the plan is empty");
    config_plan_free(plan);
}

static struct gateway_config *load(const struct bundle *bundle, struct config_problems *problems)
{
    struct config_lookup lookup;
    struct gateway_config *config;
    int r;

    fake_lookup(&lookup, 40);
    memset(problems, 0, sizeof *problems);
    r = config_load_texts("/nonexistent", bundle->files, bundle->count, &lookup, 8u << 20, &config,
                          problems);
    must((r == 0) == (config != NULL), "a configuration comes with success alone");
    must(r != -EINVAL || problems->count > 0, "what is refused has a reason");
    return config;
}

/* To and from another configuration; whatever the plans say, they can be made. */
static void plan_both_ways(const struct gateway_config *config)
{
    static const char disk[] =
        "size: 2GiB\nbacking: {file: /d/a.raw}\n"
        "filters: [qos: {iops: 1}, guard, squeeze, cache: {ordered: true}]\n";
    static struct bundle other;
    static struct config_problems problems;
    static struct gateway_config *fixed;
    struct config_plan *plan;

    if (!fixed) {
        add_file(&other, "disks.d/a.yaml", 14, disk, sizeof disk - 1);
        add_gateway(&other);
        fixed = load(&other, &problems);
    }
    must(config_plan(fixed, config, &plan) == 0, "a plan can be made");
    config_plan_free(plan);
    must(config_plan(config, fixed, &plan) == 0, "a plan can be made back");
    config_plan_free(plan);
}

/* The same files, but with each disk as it is printed. */
static void reload_effective(const struct bundle *bundle, const struct gateway_config *config)
{
    static struct config_problems problems;
    struct bundle again = *bundle;
    char *texts[FILES_MAX] = {NULL};
    struct gateway_config *same;

    for (unsigned i = 0; i < again.count; i++) {
        char disk[128];
        size_t size = 0;
        FILE *out;

        if (strncmp(again.files[i].name, "disks.d/", 8) != 0)
            continue;
        snprintf(disk, sizeof disk, "%s", again.files[i].name + 8);
        disk[strlen(disk) - strlen(".yaml")] = '\0';
        out = open_memstream(&texts[i], &size);
        must(out && config_print_effective(out, config, disk, NULL) == 0, "a disk can be printed");
        fclose(out);
        again.files[i] = (struct config_text){again.files[i].name, texts[i], size};
    }
    same = load(&again, &problems);
    config_problems_print(&problems, stderr);
    must(same != NULL, "what is printed can be loaded");
    must_plan_to_nothing(config, same);
    config_free(same);
    for (unsigned i = 0; i < FILES_MAX; i++)
        free(texts[i]);
}

#ifdef PLANTED_BUG
/* volatile: so that the compiler does not see what it could leave out. */
static void planted_bug(const struct gateway_config *config)
{
    volatile unsigned char room[4] = {0};
    volatile unsigned after = sizeof room;

    for (unsigned i = 0; i < config->disk_count; i++)
        if (config->disks[i].is_read_only && config->disks[i].filter_count > 0)
            room[0] = room[after];
}
#else
static void planted_bug(const struct gateway_config *config)
{
    (void)config;
}
#endif

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct config_problems problems;
    struct bundle bundle = {.count = 0};
    struct gateway_config *config;

    split(&bundle, (const char *)data, (const char *)data + size);
    add_gateway(&bundle);
    config = load(&bundle, &problems);
    if (config) {
        planted_bug(config);
        must_plan_to_nothing(config, config);
        plan_both_ways(config);
        reload_effective(&bundle, config);
    }
    config_free(config);
    return 0;
}
