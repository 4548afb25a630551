/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * manifest: NAME.yaml beside NAME.so: what an installer has to know of a filter without loading it.
 *
 * The same reader and binder as for the configuration, so the same kind of sentence: file, line,
 * column, key and what was expected.  Keys that are null count as not written: a source keeps
 * `sha256: null` until there is a file to sum up.
 */
#include "config/internal.h"

#include <errno.h>
#include <string.h>

#define NAME_MAX_LENGTH 63u /* the loader's limit */
#define DIGEST_DIGITS 64u
#define API_VERSION_MAX 1000

struct need_list {
    int32_t *item;
    unsigned count;
};

struct manifest {
    struct config_manifest public;
    struct need_list needs;
    struct arena *arena;
};

#define ROW(name, type, flags, least, most, words, help, field)                                \
    {                                                                                          \
        {name, type, flags, least, most, NULL, words, help}, offsetof(struct manifest, field), \
            NULL, PLAN_KIND_COUNT, NULL                                                        \
    }

static void check_manifest(struct binder *b, const struct config_node *node, void *base);

/* minimum of an ENUM: the value of its first word. */
static const struct config_key keys[] = {
    ROW("name", SLUICE_TYPE_STRING, KEY_REQUIRED, 0, 0, NULL, "The filter's name.", public.name),
    ROW("vendor", SLUICE_TYPE_STRING, KEY_REQUIRED, 0, 0, NULL, "Who made it.", public.vendor),
    ROW("version", SLUICE_TYPE_STRING, KEY_REQUIRED, 0, 0, NULL, "Which one it is.",
        public.version),
    ROW("class", SLUICE_TYPE_ENUM, KEY_REQUIRED, SLUICE_CLASS_IO_CONTROL, 0,
        "io-control|inspection|compression|encryption|replication|cache|backing-control",
        "Where in a chain it stands.", public.filter_class),
    ROW("api_version", SLUICE_TYPE_INTEGER, KEY_REQUIRED, 1, API_VERSION_MAX, NULL,
        "SLUICE_FILTER_API_VERSION of the header it was built with.", public.api_version),
    ROW("needs", SLUICE_TYPE_ENUM, KEY_LIST, 0, 0, "plaintext|every-write-once|final-size",
        "What it cannot work without.", needs),
    ROW("sha256", SLUICE_TYPE_STRING, 0, 0, 0, NULL, "Of the shared object.", public.sha256),
    ROW("signature", SLUICE_TYPE_STRING, 0, 0, 0, NULL, "Of this file without this line.",
        public.signature),
};
static const struct config_table table = {
    .keys = keys, .count = ARRAY_SIZE(keys), .check = check_manifest};

/* --- what a table cannot say ---------------------------------------------------------------- */

/* [a-z][a-z0-9-]*, as the loader wants it. */
static bool is_filter_name(const char *name)
{
    return name[0] >= 'a' && name[0] <= 'z' && strlen(name) <= NAME_MAX_LENGTH &&
           strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == strlen(name);
}

static bool is_digest(const char *text)
{
    return strlen(text) == DIGEST_DIGITS && strspn(text, "0123456789abcdef") == DIGEST_DIGITS;
}

static bool is_written_text(const char *text)
{
    return text[0] != '\0';
}

static void expect_form(struct binder *b, const struct config_node *node, const char *key,
                        const char *value, bool (*has_form)(const char *), const char *noun)
{
    const struct config_node *at = node_get(node, key);
    size_t mark;

    if (!value || !at || has_form(value))
        return;
    mark = binder_push_key(b, key);
    binder_say(b, &at->at, "expected %s, not %s", noun, binder_quote(b, value));
    binder_pop(b, mark);
}

static void check_manifest(struct binder *b, const struct config_node *node, void *base)
{
    struct manifest *m = base;

    expect_form(b, node, "name", m->public.name, is_filter_name,
                "a filter's name ([a-z][a-z0-9-]*, at most 63 characters)");
    expect_form(b, node, "vendor", m->public.vendor, is_written_text, "a name");
    expect_form(b, node, "version", m->public.version, is_written_text, "a version");
    expect_form(b, node, "sha256", m->public.sha256, is_digest, "64 digits of 0-9 and a-f");
    expect_form(b, node, "signature", m->public.signature, is_written_text, "a signature");
    for (unsigned i = 0; i < m->needs.count; i++)
        m->public.needs |= 1u << m->needs.item[i];
}

/* --- reading -------------------------------------------------------------------------------- */

/* The map without its nulls; trees are never changed. */
static const struct config_node *without_nulls(struct binder *b, const struct config_node *root)
{
    struct config_node *copy = node_copy(b->arena, root), **end;

    if (!copy)
        return NULL;
    end = &copy->children;
    copy->children = NULL;
    for (const struct config_node *child = root->children; child; child = child->next)
        if (!node_is_null(child) && (*end = node_copy(b->arena, child)))
            end = &(*end)->next;
    return copy;
}

static void read_manifest(struct binder *b, const char *file, const char *text, size_t length,
                          struct manifest *m)
{
    const char *name = arena_strndup(b->arena, file, strlen(file));
    const struct config_node *root = yaml_parse(b, name, text, length);

    if (root)
        root = without_nulls(b, root);
    if (root)
        bind_table(b, &table, root, m);
}

int config_manifest_parse(const char *file, const char *text, size_t length,
                          struct config_manifest **out, struct config_problems *problems)
{
    struct arena *arena = arena_create(CONFIG_MEMORY_MAX);
    struct manifest *m = arena ? arena_alloc(arena, sizeof *m) : NULL;
    struct binder binder = {.arena = arena, .problems = problems, .folder = "/"};
    int r = 0;

    memset(problems, 0, sizeof *problems);
    *out = NULL;
    if (m) {
        m->arena = arena;
        read_manifest(&binder, file, text, length, m);
    }
    problems_sort(problems);
    if (!m || arena_has_failed(arena))
        r = -ENOMEM;
    else if (problems->count + problems->dropped > 0)
        r = -EINVAL;
    if (r < 0)
        arena_destroy(arena);
    else
        *out = &m->public;
    return r;
}

void config_manifest_free(struct config_manifest *manifest)
{
    if (manifest)
        arena_destroy(CONTAINER_OF(manifest, struct manifest, public)->arena);
}
