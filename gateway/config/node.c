/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * node: looking things up in the tree that YAML became.
 *
 * Nodes are immutable once the parser or the merge has linked them.
 */
#include "config/internal.h"

#include <string.h>

/* YAML 1.2, 10.3.2: the core schema. */
bool node_is_null(const struct config_node *node)
{
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL"};

    if (node->kind != NODE_SCALAR || !node->is_plain)
        return false;
    for (size_t i = 0; i < ARRAY_SIZE(nulls); i++)
        if (strcmp(node->text, nulls[i]) == 0)
            return true;
    return false;
}

static const struct config_node *get_sized(const struct config_node *node, const char *key,
                                           size_t length)
{
    if (!node || node->kind != NODE_MAP)
        return NULL;
    for (const struct config_node *child = node->children; child; child = child->next)
        if (strlen(child->key) == length && memcmp(child->key, key, length) == 0)
            return child;
    return NULL;
}

const struct config_node *node_get(const struct config_node *node, const char *key)
{
    return get_sized(node, key, strlen(key));
}

/* One step down a dotted path; NULL where it ends. */
static const struct config_node *step(const struct config_node *node, const char **path)
{
    size_t length = strcspn(*path, ".");
    const struct config_node *child = get_sized(node, *path, length);

    *path += length;
    if (**path == '.')
        ++*path;
    return child;
}

const struct config_node *node_deepest(const struct config_node *node, const char *path)
{
    while (*path) {
        const struct config_node *child = step(node, &path);

        if (!child)
            break;
        node = child;
    }
    return node;
}

const struct config_node *node_find(const struct config_node *node, const char *path)
{
    while (node && *path)
        node = step(node, &path);
    return node;
}

struct config_node *node_copy(struct arena *arena, const struct config_node *node)
{
    struct config_node *copy = arena_alloc(arena, sizeof *copy);

    if (copy) {
        *copy = *node;
        copy->next = NULL;
    }
    return copy;
}

struct config_node *node_make_scalar(struct arena *arena, const char *text)
{
    struct config_node *node = arena_alloc(arena, sizeof *node);

    if (node) {
        node->kind = NODE_SCALAR;
        node->is_plain = true;
        node->text = text;
        node->at.file = "default";
    }
    return node;
}
