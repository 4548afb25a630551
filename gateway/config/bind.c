/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bind: a tree and a table become a struct.
 *
 * Defaults are bound first and by the same code as what is written.  A problem never stops the
 * rest: one run shows all of them.  The field of a key that had a problem keeps its default.
 */
#include "config/internal.h"

#include <string.h>

static const char *kind_noun(enum node_kind kind)
{
    static const char *const nouns[] = {
        [NODE_SCALAR] = "a single value",
        [NODE_MAP] = "a map (key: value)",
        [NODE_LIST] = "a list",
    };
    return nouns[kind];
}

bool expect_kind(struct binder *b, const struct config_node *node, enum node_kind kind)
{
    if (node->kind != kind)
        binder_say(b, &node->at, "expected %s, not %s", kind_noun(kind), kind_noun(node->kind));
    return node->kind == kind;
}

/* A pointer and a count lie one behind the other in the public structs. */
void array_load(const void *field, struct array_field *out)
{
    memcpy(&out->item, field, sizeof out->item);
    memcpy(&out->count, (const char *)field + sizeof out->item, sizeof out->count);
}

void array_store(void *field, const struct array_field *array)
{
    memcpy(field, &array->item, sizeof array->item);
    memcpy((char *)field + sizeof array->item, &array->count, sizeof array->count);
}

/* One more item than there are children, so that lists of strings end with NULL. */
static bool make_array(struct binder *b, const struct config_node *node, size_t item_bytes,
                       struct array_field *out)
{
    size_t count = 1;

    for (const struct config_node *child = node->children; child; child = child->next)
        count++;
    out->item = arena_alloc(b->arena, count * item_bytes);
    out->count = 0;
    return out->item;
}

static void *array_item(const struct array_field *array, unsigned index, size_t item_bytes)
{
    return (char *)array->item + index * item_bytes;
}

/* --- one key -----------------------------------------------------------------------------------
 */

static void bind_list(struct binder *b, const struct config_key *key,
                      const struct config_node *node, void *field)
{
    const struct type_ops *type = type_get(key->option.type);
    struct array_field array;

    if (!expect_kind(b, node, NODE_LIST) || !make_array(b, node, type->bytes, &array))
        return;
    for (const struct config_node *child = node->children; child; child = child->next) {
        size_t mark = binder_push_index(b, child->index);

        if (type->bind(b, key, child, array_item(&array, array.count, type->bytes)))
            array.count++;
        else
            memset(array_item(&array, array.count, type->bytes), 0, type->bytes);
        binder_pop(b, mark);
    }
    array_store(field, &array);
}

/* Every item struct of a NAMED map begins with its name. */
static int compare_names(const void *left, const void *right)
{
    return strcmp(*(const char *const *)left, *(const char *const *)right);
}

static void bind_named_item(struct binder *b, const struct config_key *key,
                            const struct config_node *child, struct array_field *array)
{
    struct config_node empty = {.kind = NODE_MAP, .at = child->at, .key_at = child->key_at};
    void *item = array_item(array, array->count, key->table->struct_bytes);
    size_t mark;

    if (!config_name_is_valid(child->key)) {
        binder_say(b, &child->key_at, "%s is not %s", binder_quote(b, child->key),
                   type_get(TYPE_NAME)->noun);
        return;
    }
    mark = binder_push_key(b, child->key);
    *(const char **)item = child->key;
    array->count++;
    bind_table(b, key->table, node_is_null(child) ? &empty : child, item);
    binder_pop(b, mark);
}

static void bind_named(struct binder *b, const struct config_key *key,
                       const struct config_node *node, void *field)
{
    size_t bytes = key->table->struct_bytes;
    struct array_field array;

    if (!expect_kind(b, node, NODE_MAP) || !make_array(b, node, bytes, &array))
        return;
    for (const struct config_node *child = node->children; child; child = child->next)
        bind_named_item(b, key, child, &array);
    qsort(array.item, array.count, bytes, compare_names);
    array_store(field, &array);
}

static void bind_default(struct binder *b, const struct config_key *key, void *field)
{
    struct config_node list = {.kind = NODE_LIST};
    struct config_node *node;

    if (key->option.type == TYPE_MAP) {
        bind_table(b, key->table, NULL, field);
        return;
    }
    if (!key->option.default_text)
        return;
    node = node_make_scalar(b->arena, key->option.default_text);
    if (!node)
        return;
    node->is_plain = key->option.type != SLUICE_TYPE_PATH;
    list.children = node;
    if (key->option.flags & KEY_LIST)
        bind_list(b, key, &list, field);
    else
        type_get(key->option.type)->bind(b, key, node, field);
}

static void bind_value(struct binder *b, const struct config_key *key,
                       const struct config_node *node, void *field)
{
    if (key->option.flags & KEY_LIST)
        bind_list(b, key, node, field);
    else if (key->option.type == TYPE_MAP)
        bind_table(b, key->table, node, field);
    else if (key->option.type == TYPE_NAMED)
        bind_named(b, key, node, field);
    else
        type_get(key->option.type)->bind(b, key, node, field);
}

/* Maps and lists may be left empty (`export:` with all its lines commented out); a scalar may not.
 */
static bool is_left_empty(const struct config_key *key, const struct config_node *node)
{
    bool is_collection = (key->option.flags & KEY_LIST) || key->option.type >= TYPE_ARGUMENTS;

    return is_collection && node_is_null(node);
}

static bool is_available(struct binder *b, const struct config_key *key,
                         const struct config_node *node)
{
    if (key->not_yet)
        binder_say(b, &node->key_at, "%s is not in this version", key->not_yet);
    if (b->is_partial && (key->option.flags & KEY_NOT_IN_POLICY)) {
        binder_say(b, &node->key_at, "belongs to one disk, not to a policy");
        return false;
    }
    return true;
}

static void bind_key(struct binder *b, const struct config_key *key,
                     const struct config_node *parent, void *base)
{
    const struct config_node *node = node_get(parent, key->option.name);
    void *field = (char *)base + key->offset;
    size_t mark = binder_push_key(b, key->option.name);

    if (node && is_left_empty(key, node))
        node = NULL;
    if (!node || key->option.type != TYPE_MAP)
        bind_default(b, key, field);
    if (node && is_available(b, key, node))
        bind_value(b, key, node, field);
    if (!node && parent && !b->is_partial && (key->option.flags & KEY_REQUIRED))
        binder_say(b, &parent->at, "is required");
    binder_pop(b, mark);
}

/* --- a whole table -----------------------------------------------------------------------------
 */

#define KEYS_MAX 32

static bool has_key(const struct config_table *table, const char *name)
{
    for (unsigned i = 0; i < table->count; i++)
        if (strcmp(table->keys[i].option.name, name) == 0)
            return true;
    return false;
}

static void refuse_unknown_keys(struct binder *b, const struct config_table *table,
                                const struct config_node *node)
{
    const char *names[KEYS_MAX];
    unsigned count = MIN(table->count, KEYS_MAX);

    for (unsigned i = 0; i < count; i++)
        names[i] = table->keys[i].option.name;
    for (const struct config_node *child = node->children; child; child = child->next)
        if (!has_key(table, child->key))
            binder_say(b, &child->key_at, "unknown key %s%s", binder_quote(b, child->key),
                       binder_suggest(b, child->key, names, count));
}

void bind_table(struct binder *b, const struct config_table *table, const struct config_node *node,
                void *base)
{
    if (node && (node_is_null(node) || !expect_kind(b, node, NODE_MAP)))
        node = NULL;
    if (node)
        refuse_unknown_keys(b, table, node);
    for (unsigned i = 0; i < table->count; i++)
        bind_key(b, &table->keys[i], node, base);
    if (table->check && !b->is_partial)
        table->check(b, node, base);
}

/* --- and back ----------------------------------------------------------------------------------
 */

const char *key_print(struct arena *arena, const struct config_key *key, const void *base)
{
    const struct type_ops *type = type_get(key->option.type);
    const void *field = (const char *)base + key->offset;
    struct builder text = {.arena = arena};
    struct array_field array;

    if (!type->print)
        return "";
    if (!(key->option.flags & KEY_LIST))
        return type->print(arena, key, field);
    array_load(field, &array);
    builder_add(&text, "[");
    for (unsigned i = 0; i < array.count; i++) {
        builder_add(&text, i ? ", " : "");
        builder_add(&text, type->print(arena, key, array_item(&array, i, type->bytes)));
    }
    builder_add(&text, "]");
    return builder_text(&text);
}
