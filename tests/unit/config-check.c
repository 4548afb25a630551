/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * config-check: the config room on the command line, over tables of filters that need no loading.
 *
 *     config-check DIR                    what is wrong, one line each; exit 1 if anything is
 *     config-check --effective DISK DIR   the policy with the place of each value
 *     config-check --effective-json DISK DIR
 *     config-check --plan OLD NEW         what a reload would do
 *     config-check --inline TEXT          one disk document
 *     config-check --schema gateway|disk|policy [--real FILTER.so...]   JSON Schema
 *     config-check --sample               a commented policy
 *     config-check --keys gateway|disk    every key as its manual page has it
 *
 * The first form is what tests/test-config-errors.sh runs; it may be replaced by `sluice check`.
 */
#include "config/internal.h"
#include "fake-filters.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

static struct config_lookup lookup;

static struct gateway_config *load(const char *folder)
{
    static struct config_problems problems;
    struct gateway_config *config;
    int r = config_load(folder, &lookup, &config, &problems);

    config_problems_print(&problems, stderr);
    if (r < 0 && problems.count == 0)
        fprintf(stderr, "%s: %s\n", folder, strerror(-r));
    return config;
}

static int check(char **args)
{
    struct gateway_config *config = load(args[0]);
    int r = config ? 0 : 1;

    config_free(config);
    return r;
}

static int effective(char **args)
{
    struct gateway_config *config = args[1] ? load(args[1]) : NULL;
    struct err e = {0};
    int r = config ? config_print_effective(stdout, config, args[0], &e) : -1;

    if (config && r < 0)
        fprintf(stderr, "%s\n", e.text);
    config_free(config);
    return r < 0;
}

static int effective_json(char **args)
{
    struct gateway_config *config = args[1] ? load(args[1]) : NULL;
    struct err e = {0};
    json_t *document = config ? config_effective(config, args[0], &e) : NULL;

    if (document)
        json_dumpf(document, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
    else if (config)
        fprintf(stderr, "%s\n", e.text);
    json_decref(document);
    config_free(config);
    return !document;
}

static int plan(char **args)
{
    struct gateway_config *old = load(args[0]), *new = args[1] ? load(args[1]) : NULL;
    struct config_plan *made = NULL;
    int r = old && new ? config_plan(old, new, &made) : -1;

    for (unsigned i = 0; made && i < made->count; i++)
        printf("%-13s %s\n", plan_kind_name(made->actions[i].kind), made->actions[i].text);
    if (made && (made->is_refused || made->needs_restart))
        printf("%s\n", made->is_refused ? "refused" : "needs a restart");
    config_plan_free(made);
    config_free(old);
    config_free(new);
    return r < 0;
}

static int check_inline(char **args)
{
    static struct config_problems problems;
    struct gateway_config *config;
    int r = config_load_inline("disk", args[0], &lookup, &config, &problems);

    config_problems_print(&problems, stderr);
    config_free(config);
    return r < 0;
}

/* The real filters that were built, for the schema that is committed. */
#define REAL_MAX 16
static const struct sluice_filter *real[REAL_MAX];
static unsigned real_count;

static const struct sluice_filter *find_real(void *context, const char *name, struct err *e)
{
    (void)context;
    for (unsigned i = 0; i < real_count; i++)
        if (strcmp(real[i]->name, name) == 0)
            return real[i];
    (void)err_set(e, ENOENT, "no filter %s", name);
    return NULL;
}

static const char **real_names(void *context)
{
    const char **names = real_count ? calloc(REAL_MAX + 1, sizeof *names) : NULL;

    (void)context;
    for (unsigned i = 0; names && i < real_count; i++)
        names[i] = real[i]->name;
    return names;
}

static int load_real(char **paths)
{
    for (; *paths && real_count < REAL_MAX; paths++) {
        void *handle = dlopen(*paths, RTLD_NOW | RTLD_LOCAL);
        const struct sluice_filter *(*table)(void) = NULL;

        if (handle)
            *(void **)&table = dlsym(handle, SLUICE_FILTER_SYMBOL);
        if (!table) {
            fprintf(stderr, "%s: %s\n", *paths, dlerror());
            return -1;
        }
        real[real_count++] = table();
    }
    lookup.find_filter = find_real;
    lookup.filter_names = real_names;
    return 0;
}

static int schema(char **args)
{
    enum config_document which = strcmp(args[0], "gateway") == 0  ? CONFIG_DOCUMENT_GATEWAY
                                 : strcmp(args[0], "policy") == 0 ? CONFIG_DOCUMENT_POLICY
                                                                  : CONFIG_DOCUMENT_DISK;

    if (args[1] && strcmp(args[1], "--real") == 0 && load_real(args + 2) < 0)
        return 1;
    return config_schema_print(stdout, which, &lookup) < 0;
}

static int sample(char **args)
{
    struct config_sample wanted = {.file = "/srv/disks/vm 17.raw",
                                   .policy = "gold",
                                   .size_bytes = 64ull << 30,
                                   .tls_off = true};

    (void)args;
    return config_sample_disk(stdout, &wanted) < 0;
}

/* How the manual pages call the types. */
static const char *const type_words[TYPE_COUNT] = {
    [SLUICE_TYPE_BOOL] = "true or false",
    [SLUICE_TYPE_INTEGER] = "number",
    [SLUICE_TYPE_SIZE] = "size",
    [SLUICE_TYPE_DURATION] = "duration",
    [SLUICE_TYPE_RATE] = "rate",
    [SLUICE_TYPE_STRING] = "text",
    [SLUICE_TYPE_PATH] = "path",
    [SLUICE_TYPE_SECRET] = "secret file",
    [TYPE_NAME] = "name",
    [TYPE_UUID] = "UUID",
    [TYPE_FILE] = "file",
    [TYPE_NBD_URI] = "NBD URI",
    [TYPE_ISCSI_URL] = "iSCSI URL",
    [TYPE_IQN] = "iSCSI name",
    [TYPE_LISTENER] = "ADDRESS:PORT or unix:PATH",
    [TYPE_TCP_LISTENER] = "ADDRESS:PORT",
    [TYPE_UNIX_LISTENER] = "unix:PATH",
    [TYPE_ENDPOINT] = "HOST:PORT",
    [TYPE_NETWORK] = "network",
    [TYPE_ARGUMENTS] = "map",
    [TYPE_NBDKIT_FILTER] = "nbdkit filter",
    [TYPE_FILTERS] = "list of filters",
};

static void print_key_item(const struct config_key *key, const char *path, bool is_not_yet)
{
    const struct sluice_option *option = &key->option;

    printf("=item B<%s>: %s%s", path, option->flags & KEY_LIST ? "list of " : "",
           option->type == SLUICE_TYPE_ENUM ? option->words : type_words[option->type]);
    if (option->flags & KEY_REQUIRED)
        printf(", required");
    if (option->default_text)
        printf(", default %s", option->default_text);
    if (is_not_yet)
        printf(", not in this version");
    printf("\n");
}

static void print_keys(const struct config_table *table, const char *prefix, bool is_not_yet)
{
    for (unsigned i = 0; i < table->count; i++) {
        const struct config_key *key = &table->keys[i];
        bool is_named = key->option.type == TYPE_NAMED;
        char path[128];

        snprintf(path, sizeof path, "%s%s%s%s", prefix, *prefix ? "." : "", key->option.name,
                 is_named ? ".NAME" : "");
        if (key->table)
            print_keys(key->table, path, is_not_yet || key->not_yet);
        else
            print_key_item(key, path, is_not_yet || key->not_yet);
    }
}

static int keys(char **args)
{
    bool is_gateway = strcmp(args[0], "gateway") == 0;

    print_keys(is_gateway ? &config_gateway_table : &config_disk_table, "", false);
    if (!is_gateway)
        print_keys(&config_instance_table, "filters[].FILTER", false);
    return 0;
}

static const struct form {
    const char *word;
    int (*run)(char **args);
    bool has_argument;
} forms[] = {
    {"--effective", effective, true}, {"--effective-json", effective_json, true},
    {"--plan", plan, true},           {"--inline", check_inline, true},
    {"--schema", schema, true},       {"--sample", sample, false},
    {"--keys", keys, true},
};

int main(int argc, char **argv)
{
    const char *minor = getenv("NBDKIT_MINOR");

    fake_lookup(&lookup, minor ? (unsigned)strtoul(minor, NULL, 10) : 0);
    for (size_t i = 0; i < ARRAY_SIZE(forms); i++)
        if (argc > 1 + forms[i].has_argument && strcmp(argv[1], forms[i].word) == 0)
            return forms[i].run(argv + 2);
    if (argc == 2 && argv[1][0] != '-')
        return check(argv + 1);
    fprintf(stderr, "usage: config-check DIR; see the top of the source\n");
    return 3;
}
