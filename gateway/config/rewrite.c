/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rewrite: one value of a policy changed in its text, with everything else left as somebody wrote
 * it: comments, order, block or flow style.
 *
 * The parser says where the value stands; only that word is replaced.  A policy without the key
 * gets it in front of its first one.  The caller loads what comes out and compares: text that has
 * been cut in the wrong place must not stay.
 */
#include "config/internal.h"

#include <errno.h>
#include <string.h>

/* The byte at a place that counts lines and characters; the end when there is no such place. */
static size_t offset_of(const char *text, size_t length, const struct config_origin *at)
{
    unsigned line = 1, column = 1;
    size_t i = 0;

    while (i < length && line < at->line)
        line += text[i++] == '\n';
    while (i < length && column < at->column && text[i] != '\n') {
        i++;
        while (i < length && ((unsigned char)text[i] & 0xc0) == 0x80)
            i++;
        column++;
    }
    return i;
}

/* How many bytes a scalar takes in the text. */
static size_t scalar_length(const char *p, const char *end, const struct config_node *scalar)
{
    const char *q = p;

    if (scalar->is_plain)
        return MIN(strlen(scalar->text), (size_t)(end - p));
    for (q = p + 1; q < end && *q != *p; q++)
        q += *q == '\\' && *p == '"';
    return (size_t)(MIN(q + 1, end) - p);
}

static char *splice(const char *text, size_t length, size_t at, size_t old, const char *put)
{
    size_t tail = length - at - old;
    char *out = malloc(at + strlen(put) + tail + 1);

    if (!out)
        return NULL;
    memcpy(out, text, at);
    memcpy(out + at, put, strlen(put));
    memcpy(out + at + strlen(put), text + at + old, tail);
    out[at + strlen(put) + tail] = '\0';
    return out;
}

static char *replace(const char *text, size_t length, const struct config_node *node,
                     const char *value)
{
    size_t at = offset_of(text, length, &node->at);
    CLEANUP_FREE char *after_colon = text_printf(" %s", value);

    if (node->is_plain && !node->text[0]) /* `size:` and nothing */
        return after_colon ? splice(text, length, at, 0, after_colon) : NULL;
    return splice(text, length, at, scalar_length(text + at, text + length, node), value);
}

static char *insert(const char *text, size_t length, const struct config_node *root,
                    const char *key, const char *value)
{
    const struct config_node *first = root->children;
    size_t at = first ? offset_of(text, length, &first->key_at) : length;
    size_t start = offset_of(text, length, &root->at);
    bool is_flow = first && start < length && text[start] == '{';
    const char *before = !first && length && text[length - 1] != '\n' ? "\n" : "";
    CLEANUP_FREE char *line = is_flow ? text_printf("%s: %s, ", key, value)
                                      : text_printf("%s%s: %s\n%*s", before, key, value,
                                                    first ? (int)first->key_at.column - 1 : 0, "");

    return line ? splice(text, length, at, 0, line) : NULL;
}

static char *rewrite(struct binder *b, const char *text, size_t length, const char *key,
                     const char *value, struct err *e)
{
    const struct config_node *root = yaml_parse(b, "policy", text, length), *node;
    char *out;

    if (!root) {
        err_set(e, EINVAL, "%s",
                b->problems->count ? b->problems->problem[0].text : "out of memory");
        return NULL;
    }
    node = node_get(root, key);
    if (node && node->kind != NODE_SCALAR) {
        err_set(e, EINVAL, "%s: is no single value", key);
        return NULL;
    }
    out = node ? replace(text, length, node, value) : insert(text, length, root, key, value);
    if (!out)
        err_set(e, ENOMEM, "out of memory");
    return out;
}

char *config_rewrite(const char *text, size_t length, const char *key, const char *value,
                     struct err *e)
{
    struct config_problems *problems = calloc(1, sizeof *problems);
    struct arena *arena = arena_create(CONFIG_MEMORY_MAX);
    struct binder binder = {.arena = arena, .problems = problems};
    char *out = NULL;

    if (problems && arena)
        out = rewrite(&binder, text, length, key, value, e);
    else
        err_set(e, ENOMEM, "out of memory");
    arena_destroy(arena);
    free(problems);
    return out;
}
