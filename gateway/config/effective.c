/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * effective: the policy a disk ends up with, told value by value: what was written wherever it was
 * written, defaults where nothing was.
 */
#include "config/effective.h"

#include <errno.h>
#include <string.h>

struct writer {
    const struct effective_teller *ops;
    void *teller;
    struct arena *arena;
    const struct gateway_config *config;
    const struct disk_config *disk;
};

static const char *origin_of(struct writer *w, const struct config_origin *at)
{
    return at && at->line ? arena_printf(w->arena, "%s:%u:%u", at->file, at->line, at->column)
                          : "default";
}

static void begin(struct writer *w, const char *key, enum node_kind kind, const char *origin)
{
    w->ops->begin(w->teller, &(struct effective_value){.key = key, .kind = kind, .origin = origin});
}

static void end(struct writer *w)
{
    w->ops->end(w->teller);
}

/* --- what was written --------------------------------------------------------------------------
 */

static bool has_parts(const struct config_node *node)
{
    return node->kind != NODE_SCALAR && node->children;
}

static void tell_leaf(struct writer *w, const char *key, const struct config_node *node)
{
    struct effective_value v = {.key = key,
                                .kind = node->kind,
                                .text = node->text,
                                .is_plain = node->is_plain,
                                .origin = origin_of(w, &node->at)};

    if (node->kind == NODE_SCALAR)
        w->ops->value(w->teller, &v);
    else
        w->ops->empty(w->teller, &v);
}

/* key NULL: an item of a list.  As deep as the tree: YAML_DEPTH_MAX. */
static void tell_node(struct writer *w, const char *key, const struct config_node *node)
{
    if (!has_parts(node)) {
        tell_leaf(w, key, node);
        return;
    }
    begin(w, key, node->kind, NULL);
    for (const struct config_node *child = node->children; child; child = child->next)
        tell_node(w, node->kind == NODE_LIST ? NULL : child->key, child);
    end(w);
}

static bool is_text(uint32_t type)
{
    return type == SLUICE_TYPE_STRING || type == SLUICE_TYPE_PATH || type == SLUICE_TYPE_SECRET;
}

static void tell_text(struct writer *w, const char *key, const struct sluice_option *option,
                      const char *text, const char *origin)
{
    struct effective_value v = {
        .key = key, .text = text, .is_plain = !is_text(option->type), .origin = origin};

    w->ops->value(w->teller, &v);
}

static void tell_default(struct writer *w, const char *key, const struct sluice_option *option)
{
    tell_text(w, key, option, option->default_text, "default");
}

/* --- tables ------------------------------------------------------------------------------------
 */

static bool is_absent(const struct config_node *node)
{
    return !node || node_is_null(node);
}

static bool table_has_lines(const struct config_table *table, const struct config_node *node)
{
    for (unsigned i = 0; i < table->count; i++) {
        const struct config_key *key = &table->keys[i];
        const struct config_node *value = node_get(node, key->option.name);

        if (!is_absent(value) || key->option.default_text)
            return true;
        if (key->table && !key->not_yet && table_has_lines(key->table, NULL))
            return true;
    }
    return false;
}

static void tell_table(struct writer *w, const struct config_table *table,
                       const struct config_node *node);

static void tell_key(struct writer *w, const struct config_key *key, const struct config_node *node)
{
    if (key->option.type == TYPE_MAP) {
        if ((key->not_yet && is_absent(node)) || !table_has_lines(key->table, node))
            return;
        begin(w, key->option.name, NODE_MAP, NULL);
        tell_table(w, key->table, is_absent(node) ? NULL : node);
        end(w);
    } else if (!is_absent(node)) {
        tell_node(w, key->option.name, node);
    } else if (key->option.default_text) {
        tell_default(w, key->option.name, &key->option);
    }
}

static void tell_deadline(struct writer *w)
{
    const struct config_node *limit = node_find(w->config->document, "limits.deadline");
    static const struct sluice_option option = {.type = SLUICE_TYPE_DURATION};
    struct sluice_value value = {.integer = (int64_t)w->disk->deadline_ns};
    const char *text = scalar_print(w->arena, &option, &value);

    if (w->config->state) /* an inline disk has no gateway.yaml to take it from */
        tell_text(
            w, "deadline", &option, text,
            arena_printf(w->arena, "%s, limits.deadline", origin_of(w, limit ? &limit->at : NULL)));
}

static void tell_filters(struct writer *w);

static void tell_table(struct writer *w, const struct config_table *table,
                       const struct config_node *node)
{
    for (unsigned i = 0; i < table->count; i++) {
        const struct config_key *key = &table->keys[i];
        const struct config_node *value = node_get(node, key->option.name);

        if (key->option.type == TYPE_FILTERS)
            tell_filters(w);
        else if (table == &config_disk_table && strcmp(key->option.name, "policy") == 0)
            continue; /* it is all here */
        else if (is_absent(value) && table->has_default &&
                 !table->has_default(node, key->option.name))
            continue;
        else if (table == &config_disk_table && strcmp(key->option.name, "deadline") == 0 &&
                 is_absent(value))
            tell_deadline(w);
        else
            tell_key(w, key, value);
    }
}

/* --- filters -----------------------------------------------------------------------------------
 */

static bool is_first_below(const struct sluice_option *options, unsigned which, const char *prefix,
                           size_t skip)
{
    const char *name = options[which].name + skip;
    size_t length = strcspn(name, ".");

    for (unsigned i = 0; i < which; i++)
        if (option_is_below(options[i].name, prefix, skip ? skip - 1 : 0) &&
            strncmp(options[i].name + skip, name, length + 1) == 0)
            return false;
    return true;
}

static void tell_options(struct writer *w, const struct sluice_option *options, const char *prefix,
                         const struct config_node *node)
{
    size_t length = strlen(prefix), skip = length ? length + 1 : 0;

    for (unsigned i = 0; options && options[i].name; i++) {
        const char *name = options[i].name + skip;
        const struct config_node *value;

        if (!option_is_below(options[i].name, prefix, length))
            continue;
        if (!strchr(name, '.')) {
            value = node_get(node, name);
            if (!is_absent(value) && value->kind == NODE_SCALAR)
                tell_node(w, name, value);
            else if (options[i].default_text)
                tell_default(w, name, &options[i]);
        } else if (is_first_below(options, i, prefix, skip)) {
            const char *group = arena_strndup(w->arena, name, strcspn(name, "."));

            begin(w, group, NODE_MAP, NULL);
            tell_options(w, options, arena_strndup(w->arena, options[i].name, skip + strlen(group)),
                         node_get(node, group));
            end(w);
        }
    }
}

static void tell_filter(struct writer *w, const struct filter_config *filter)
{
    const struct config_node *item = filter_find_item(w->disk, filter);
    const struct config_node *options = NULL;
    const char *word = filter->filter->name;

    if (item)
        (void)filter_item_split(item, &word, &options);
    begin(w, NULL, NODE_MAP, NULL);
    begin(w, word, NODE_MAP, origin_of(w, &filter->origin));
    tell_options(w, filter->filter->options, "", options);
    for (unsigned i = 0; i < config_instance_table.count; i++) {
        const struct config_key *key = &config_instance_table.keys[i];

        tell_key(w, key, node_get(options, key->option.name));
    }
    end(w);
    end(w);
}

static void tell_filters(struct writer *w)
{
    if (w->disk->filter_count == 0)
        return;
    begin(w, "filters", NODE_LIST, NULL);
    for (unsigned i = 0; i < w->disk->filter_count; i++)
        tell_filter(w, &w->disk->filters[i]);
    end(w);
}

const struct disk_config *effective_begin(const struct gateway_config *config, const char *name,
                                          struct arena **arena, struct err *e)
{
    const struct disk_config *disk = config_find_disk(config, name);

    *arena = disk ? arena_create(CONFIG_MEMORY_MAX) : NULL;
    if (!disk)
        err_set(e, ENOENT, "there is no disk %s", name);
    else if (!*arena)
        err_set(e, ENOMEM, "out of memory");
    return *arena ? disk : NULL;
}

void effective_walk(const struct effective_teller *ops, void *teller, struct arena *arena,
                    const struct gateway_config *config, const struct disk_config *disk)
{
    struct writer w = {ops, teller, arena, config, disk};

    tell_table(&w, &config_disk_table, disk->document);
}
