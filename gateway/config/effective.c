/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * effective: the policy a disk ends up with, as YAML, each value with the place it comes from.
 *
 * What is printed is itself a disk file: loaded again it means the same, without any policy.
 */
#include "config/internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define COMMENT_COLUMN 40

struct writer {
    FILE *out;
    struct arena *arena; /* for printing; ends with the writer */
    const struct gateway_config *config;
    const struct disk_config *disk;
};

/* --- lines -------------------------------------------------------------------------------------
 */

static const char *comment_of(struct writer *w, const struct config_origin *at)
{
    return at && at->line ? arena_printf(w->arena, "%s:%u:%u", at->file, at->line, at->column)
                          : "default";
}

static void write_line(struct writer *w, unsigned indent, const char *text, const char *comment)
{
    int width = (int)indent + (int)strlen(text);

    if (comment)
        fprintf(w->out, "%*s%s%*s # %s\n", (int)indent, "", text,
                width < COMMENT_COLUMN ? COMMENT_COLUMN - width : 0, "", comment);
    else
        fprintf(w->out, "%*s%s\n", (int)indent, "", text);
}

/* YAML 1.2, 5.7: the escapes of double quotes. */
const char *yaml_quote(struct arena *arena, const char *text)
{
    char *out = arena_alloc(arena, 4 * strlen(text) + 3), *p = out;

    if (!out)
        return "";
    *p++ = '"';
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;

        if (c < 0x20 || c == 0x7f)
            p += sprintf(p, "\\x%02x", c);
        else if (c == '"' || c == '\\')
            p += sprintf(p, "\\%c", c);
        else
            *p++ = (char)c;
    }
    *p = '"';
    return out;
}

static const char *scalar_text(struct writer *w, const struct config_node *node)
{
    return node->is_plain && !strchr(node->text, '\n') ? node->text
                                                       : yaml_quote(w->arena, node->text);
}

static const char *key_text(struct writer *w, const char *key)
{
    static const char simple[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";

    return key[0] != '-' && key[0] != '\0' && key[strspn(key, simple)] == '\0'
               ? key
               : yaml_quote(w->arena, key);
}

/* --- what was written --------------------------------------------------------------------------
 */

static void write_node(struct writer *w, unsigned indent, const char *lead,
                       const struct config_node *node);

static void write_children(struct writer *w, unsigned indent, const struct config_node *node)
{
    for (const struct config_node *child = node->children; child; child = child->next)
        write_node(w, indent,
                   node->kind == NODE_LIST ? "-"
                                           : arena_printf(w->arena, "%s:", key_text(w, child->key)),
                   child);
}

/* lead: "key:" or "-". */
static void write_node(struct writer *w, unsigned indent, const char *lead,
                       const struct config_node *node)
{
    const char *empty = node->kind == NODE_LIST ? "[]" : "{}";

    if (node->kind == NODE_SCALAR)
        write_line(w, indent, arena_printf(w->arena, "%s %s", lead, scalar_text(w, node)),
                   comment_of(w, &node->at));
    else if (!node->children)
        write_line(w, indent, arena_printf(w->arena, "%s %s", lead, empty),
                   comment_of(w, &node->at));
    else {
        write_line(w, indent, lead, NULL);
        write_children(w, indent + 2, node);
    }
}

static bool is_text(uint32_t type)
{
    return type == SLUICE_TYPE_STRING || type == SLUICE_TYPE_PATH || type == SLUICE_TYPE_SECRET;
}

static void write_default(struct writer *w, unsigned indent, const char *name,
                          const struct sluice_option *option)
{
    const char *text = option->default_text;

    write_line(w, indent,
               arena_printf(w->arena, "%s: %s", name,
                            is_text(option->type) ? yaml_quote(w->arena, text) : text),
               "default");
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

static void write_table(struct writer *w, unsigned indent, const struct config_table *table,
                        const struct config_node *node);

static void write_key(struct writer *w, unsigned indent, const struct config_key *key,
                      const struct config_node *node)
{
    const char *lead = arena_printf(w->arena, "%s:", key->option.name);

    if (key->option.type == TYPE_MAP) {
        if ((key->not_yet && is_absent(node)) || !table_has_lines(key->table, node))
            return;
        write_line(w, indent, lead, NULL);
        write_table(w, indent + 2, key->table, is_absent(node) ? NULL : node);
    } else if (!is_absent(node)) {
        write_node(w, indent, lead, node);
    } else if (key->option.default_text) {
        write_default(w, indent, key->option.name, &key->option);
    }
}

static void write_deadline(struct writer *w)
{
    const struct config_node *limit = node_find(w->config->document, "limits.deadline");
    static const struct sluice_option option = {.type = SLUICE_TYPE_DURATION};
    struct sluice_value value = {.integer = (int64_t)w->disk->deadline_ns};
    const char *text = scalar_print(w->arena, &option, &value);

    if (w->config->state) /* an inline disk has no gateway.yaml to take it from */
        write_line(w, 0, arena_printf(w->arena, "deadline: %s", text),
                   arena_printf(w->arena, "%s, limits.deadline",
                                comment_of(w, limit ? &limit->at : NULL)));
}

static void write_filters(struct writer *w);

static void write_table(struct writer *w, unsigned indent, const struct config_table *table,
                        const struct config_node *node)
{
    for (unsigned i = 0; i < table->count; i++) {
        const struct config_key *key = &table->keys[i];
        const struct config_node *value = node_get(node, key->option.name);

        if (key->option.type == TYPE_FILTERS)
            write_filters(w);
        else if (table == &config_disk_table && strcmp(key->option.name, "policy") == 0)
            continue; /* it is all here */
        else if (is_absent(value) && table->has_default &&
                 !table->has_default(node, key->option.name))
            continue;
        else if (table == &config_disk_table && strcmp(key->option.name, "deadline") == 0 &&
                 is_absent(value))
            write_deadline(w);
        else
            write_key(w, indent, key, value);
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

static void write_options(struct writer *w, unsigned indent, const struct sluice_option *options,
                          const char *prefix, const struct config_node *node)
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
                write_node(w, indent, arena_printf(w->arena, "%s:", name), value);
            else if (options[i].default_text)
                write_default(w, indent, name, &options[i]);
        } else if (is_first_below(options, i, prefix, skip)) {
            const char *group = arena_strndup(w->arena, name, strcspn(name, "."));

            write_line(w, indent, arena_printf(w->arena, "%s:", group), NULL);
            write_options(w, indent + 2, options,
                          arena_strndup(w->arena, options[i].name, skip + strlen(group)),
                          node_get(node, group));
        }
    }
}

static void write_filter(struct writer *w, const struct filter_config *filter)
{
    const struct config_node *item = filter_find_item(w->disk, filter);
    const struct config_node *options = NULL;
    const char *word = filter->filter->name;

    if (item)
        (void)filter_item_split(item, &word, &options);
    write_line(w, 2, arena_printf(w->arena, "- %s:", key_text(w, word)),
               comment_of(w, &filter->origin));
    write_options(w, 6, filter->filter->options, "", options);
    for (unsigned i = 0; i < config_instance_table.count; i++) {
        const struct config_key *key = &config_instance_table.keys[i];

        write_key(w, 6, key, node_get(options, key->option.name));
    }
}

static void write_filters(struct writer *w)
{
    if (w->disk->filter_count == 0)
        return;
    write_line(w, 0, "filters:", NULL);
    for (unsigned i = 0; i < w->disk->filter_count; i++)
        write_filter(w, &w->disk->filters[i]);
}

int config_print_effective(FILE *out, const struct gateway_config *config, const char *name,
                           struct err *e)
{
    const struct disk_config *disk = config_find_disk(config, name);
    struct writer writer = {.out = out, .config = config, .disk = disk};

    if (!disk)
        return err_set(e, ENOENT, "there is no disk %s", name);
    writer.arena = arena_create(CONFIG_MEMORY_MAX);
    if (!writer.arena)
        return err_set(e, ENOMEM, "out of memory");
    fprintf(out, "# disk %s: %s%s%s\n", disk->name, disk->origin.file,
            disk->policy ? " over the policy " : "", disk->policy ? disk->policy : "");
    write_table(&writer, 0, &config_disk_table, disk->document);
    arena_destroy(writer.arena);
    return ferror(out) ? err_set(e, EIO, "cannot write") : 0;
}
