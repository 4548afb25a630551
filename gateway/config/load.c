/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * load: from texts to a checked configuration: parse every file, resolve policies, bind, compare.
 *
 * Everything is looked at even when something is wrong, so that one run shows all.  A disk whose
 * policy has a problem is looked at by itself only: what the policy breaks is said once, there.
 */
#include "config/internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct loaded {
    struct gateway_config config;
    struct arena *arena;
};

struct load {
    struct binder binder;
    const struct config_text *texts;
    unsigned text_count;
    struct documents policies, disks;
    struct gateway_config *config;
};

static unsigned problem_count(const struct binder *b)
{
    return b->problems->count + b->problems->dropped;
}

/* --- documents ---------------------------------------------------------------------------------
 */

static bool is_below(const char *name, const char *folder)
{
    return strncmp(name, folder, strlen(folder)) == 0;
}

/* "disks.d/vm-17.yaml" -> "vm-17". */
static const char *stem_of(struct arena *arena, const char *file)
{
    const char *slash = strrchr(file, '/'), *name = slash ? slash + 1 : file;
    size_t length = strlen(name), suffix = strlen(".yaml");

    return arena_strndup(arena, name, length > suffix ? length - suffix : length);
}

static void add_document(struct load *load, struct documents *documents,
                         const struct config_text *text, const char *what)
{
    struct binder *b = &load->binder;
    struct document *document = &documents->item[documents->count];
    const char *file = arena_strndup(b->arena, text->name, strlen(text->name));
    struct config_origin at = {file, 1, 1};

    *document = (struct document){.name = stem_of(b->arena, file), .file = file};
    if (!config_name_is_valid(document->name))
        binder_say(b, &at, "the name of a %s is that of its file: %s is not %s", what,
                   binder_quote(b, document->name), type_get(TYPE_NAME)->noun);
    document->root = yaml_parse(b, file, text->text, text->length);
    documents->count++;
}

static bool parse_documents(struct load *load, struct documents *documents, const char *folder,
                            const char *what)
{
    documents->item =
        arena_alloc(load->binder.arena, (load->text_count + 1) * sizeof *documents->item);
    if (!documents->item)
        return false;
    for (unsigned i = 0; i < load->text_count; i++)
        if (is_below(load->texts[i].name, folder))
            add_document(load, documents, &load->texts[i], what);
    return true;
}

static void load_gateway(struct load *load)
{
    static const struct config_origin at = {"gateway.yaml", 1, 1};
    struct binder *b = &load->binder;
    bool is_there = false;

    for (unsigned i = 0; i < load->text_count; i++) {
        const struct config_text *text = &load->texts[i];

        if (strcmp(text->name, at.file) != 0)
            continue;
        is_there = true;
        load->config->document = yaml_parse(b, at.file, text->text, text->length);
    }
    if (!is_there && problem_count(b) == 0) /* else folder.c has said why */
        binder_say(b, &at, "is missing");
    bind_table(b, &config_gateway_table, load->config->document, load->config);
}

/* Each policy by itself: also those that no disk starts from. */
static void load_policies(struct load *load)
{
    struct binder *b = &load->binder;

    for (unsigned i = 0; i < load->policies.count; i++) {
        struct document *policy = &load->policies.item[i];
        unsigned before = problem_count(b);
        struct disk_config scratch = {.name = policy->name};

        b->is_partial = true;
        if (policy->root)
            bind_table(b, &config_disk_table, policy->root, &scratch);
        b->is_partial = false;
        if (problem_count(b) > before)
            policy->state = DOCUMENT_BROKEN;
    }
    for (unsigned i = 0; i < load->policies.count; i++)
        (void)policy_resolve(b, &load->policies, &load->policies.item[i]);
}

/* --- disks -------------------------------------------------------------------------------------
 */

static void finish_disk(struct load *load, struct disk_config *disk)
{
    if (!disk->group)
        disk->group = disk->name;
    if (!node_get(disk->document, "deadline"))
        disk->deadline_ns = load->config->limits.deadline_ns;
}

/* What a broken policy leaves to look at: the disk's own lines. */
static void look_at_disk_alone(struct load *load, const struct document *document)
{
    struct disk_config scratch = {.name = document->name};

    load->binder.is_partial = true;
    bind_table(&load->binder, &config_disk_table, document->root, &scratch);
    load->binder.is_partial = false;
}

static void load_disk(struct load *load, struct document *document)
{
    struct gateway_config *config = load->config;
    struct disk_config *disk = &config->disks[config->disk_count];

    if (!document->root)
        return;
    if (!policy_resolve(&load->binder, &load->policies, document)) {
        look_at_disk_alone(load, document);
        return;
    }
    disk->name = document->name;
    disk->origin = (struct config_origin){document->file, 1, 1};
    disk->document = document->merged;
    bind_table(&load->binder, &config_disk_table, disk->document, disk);
    finish_disk(load, disk);
    config->disk_count++;
}

static int compare_disks(const void *left, const void *right)
{
    return strcmp(((const struct disk_config *)left)->name,
                  ((const struct disk_config *)right)->name);
}

static void load_disks(struct load *load)
{
    struct gateway_config *config = load->config;

    config->disks =
        arena_alloc(load->binder.arena, (load->disks.count + 1) * sizeof *config->disks);
    for (unsigned i = 0; i < load->disks.count && config->disks; i++)
        load_disk(load, &load->disks.item[i]);
    if (config->disk_count > 1)
        qsort(config->disks, config->disk_count, sizeof *config->disks, compare_disks);
}

/* --- a load ------------------------------------------------------------------------------------
 */

static struct loaded *make_loaded(size_t memory_limit)
{
    struct arena *arena = arena_create(memory_limit);
    struct loaded *loaded = arena ? arena_alloc(arena, sizeof *loaded) : NULL;

    if (!loaded) {
        arena_destroy(arena);
        return NULL;
    }
    loaded->arena = arena;
    return loaded;
}

static void start_load(struct load *load, struct loaded *loaded, const char *folder,
                       const struct config_lookup *lookup, struct config_problems *problems)
{
    memset(load, 0, sizeof *load);
    load->config = &loaded->config;
    load->config->folder = arena_strndup(loaded->arena, folder, strlen(folder));
    load->binder = (struct binder){.arena = loaded->arena,
                                   .problems = problems,
                                   .lookup = lookup,
                                   .folder = load->config->folder};
}

static int finish_load(struct load *load, struct loaded *loaded, struct gateway_config **out)
{
    int r = 0;

    if (arena_has_failed(loaded->arena))
        r = -ENOMEM;
    else if (problem_count(&load->binder) > 0)
        r = -EINVAL;
    problems_sort(load->binder.problems);
    *out = r == 0 ? &loaded->config : NULL;
    if (r < 0)
        config_free(&loaded->config);
    return r;
}

int config_load_texts(const char *folder, const struct config_text *texts, unsigned count,
                      const struct config_lookup *lookup, size_t memory_limit,
                      struct gateway_config **out, struct config_problems *problems)
{
    struct loaded *loaded = make_loaded(memory_limit);
    struct load load;

    *out = NULL;
    if (!loaded)
        return -ENOMEM;
    start_load(&load, loaded, folder, lookup, problems);
    load.texts = texts;
    load.text_count = count;
    load_gateway(&load);
    if (parse_documents(&load, &load.policies, "policies.d/", "policy"))
        load_policies(&load);
    if (parse_documents(&load, &load.disks, "disks.d/", "disk"))
        load_disks(&load);
    if (load.config->document && !arena_has_failed(loaded->arena))
        config_crosscheck(&load.binder, load.config);
    return finish_load(&load, loaded, out);
}

/* A gateway of defaults around one disk: nobody connects to it but the caller. */
static void load_inline(struct load *load, const char *name, const char *text)
{
    struct binder *b = &load->binder;
    struct config_text document = {"disk=", text, strlen(text)};
    struct gateway_config *config = load->config;

    bind_table(b, &config_gateway_table, NULL, config);
    config->state = NULL;
    memset(&config->listen, 0, sizeof config->listen);
    if (!parse_documents(load, &load->policies, "policies.d/", "policy"))
        return;
    load->disks.item = arena_alloc(b->arena, sizeof *load->disks.item);
    if (!load->disks.item)
        return;
    load->disks.item[0] = (struct document){.name = arena_strndup(b->arena, name, strlen(name)),
                                            .file = document.name};
    load->disks.item[0].root = yaml_parse(b, document.name, document.text, document.length);
    load->disks.count = 1;
    load_disks(load);
}

int config_load_inline(const char *name, const char *text, const struct config_lookup *lookup,
                       struct gateway_config **out, struct config_problems *problems)
{
    CLEANUP_FREE char *folder = getcwd(NULL, 0);
    struct loaded *loaded = folder ? make_loaded(CONFIG_MEMORY_MAX) : NULL;
    struct load load;

    *out = NULL;
    memset(problems, 0, sizeof *problems);
    if (!loaded)
        return -ENOMEM;
    start_load(&load, loaded, folder, lookup, problems);
    load_inline(&load, name, text);
    if (!arena_has_failed(loaded->arena))
        config_crosscheck(&load.binder, load.config);
    return finish_load(&load, loaded, out);
}

void config_free(struct gateway_config *config)
{
    if (config)
        arena_destroy(CONTAINER_OF(config, struct loaded, config)->arena);
}
