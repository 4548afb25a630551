/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * yaml: from libyaml's events to a small tree, every node with its place.
 *
 * Only the part of YAML that cannot surprise is let in: one UTF-8 document, no anchors, aliases or
 * tags (they make bombs and types), no repeated keys (the last would silently win), bounded depth,
 * nodes and bytes.  What a scalar means is not decided here: the option's type decides (bind.c), so
 * that `no` is never false and `1:30` never 90.
 */
#include "config/internal.h"

#include <string.h>
#include <yaml.h>

struct reader {
    struct binder *binder;
    yaml_parser_t parser;
    const char *file, *text;
    size_t length;
    unsigned depth, nodes;
};

static void cleanup_event(yaml_event_t *event)
{
    yaml_event_delete(event);
}
#define EVENT __attribute__((cleanup(cleanup_event))) yaml_event_t

static struct config_origin origin_of(const struct reader *r, yaml_mark_t mark)
{
    return (struct config_origin){r->file, (unsigned)mark.line + 1, (unsigned)mark.column + 1};
}

/* The reader stage of libyaml knows only how many bytes it had taken. */
static struct config_origin origin_of_byte(const struct reader *r, size_t offset)
{
    struct config_origin at = {r->file, 1, 1};

    for (size_t i = 0; i < MIN(offset, r->length); i++) {
        bool is_newline = r->text[i] == '\n';

        at.line += is_newline;
        at.column = is_newline ? 1 : at.column + (((unsigned char)r->text[i] & 0xc0) != 0x80);
    }
    return at;
}

static bool is_tab_at(const struct reader *r, yaml_mark_t mark)
{
    const char *line = r->text, *end = r->text + r->length;

    for (size_t i = 0; i < mark.line && line; i++) {
        line = memchr(line, '\n', (size_t)(end - line));
        line = line ? line + 1 : NULL;
    }
    return line && mark.column < (size_t)(end - line) && line[mark.column] == '\t';
}

static void say_parser_problem(struct reader *r)
{
    const yaml_parser_t *p = &r->parser;
    const char *problem = p->problem ? p->problem : "unknown error";
    struct config_origin at;

    if (p->error == YAML_MEMORY_ERROR) {
        (void)!arena_alloc(r->binder->arena, SIZE_MAX / 2);
        return;
    }
    if (p->error == YAML_READER_ERROR) {
        at = origin_of_byte(r, p->problem_offset);
        binder_say(r->binder, &at, "not UTF-8 text: %s", problem);
        return;
    }
    at = origin_of(r, p->problem_mark);
    if (is_tab_at(r, p->problem_mark))
        binder_say(r->binder, &at, "a tab: YAML is indented with spaces");
    else if (p->context)
        binder_say(r->binder, &at, "not YAML: %s (%s at line %zu)", problem, p->context,
                   p->context_mark.line + 1);
    else
        binder_say(r->binder, &at, "not YAML: %s", problem);
}

static bool next_event(struct reader *r, yaml_event_t *event)
{
    memset(event, 0, sizeof *event);
    if (yaml_parser_parse(&r->parser, event))
        return true;
    say_parser_problem(r);
    return false;
}

static bool refuse_anchor_and_tag(struct reader *r, const yaml_event_t *event,
                                  const yaml_char_t *anchor, const yaml_char_t *tag)
{
    struct config_origin at = origin_of(r, event->start_mark);

    if (anchor)
        binder_say(r->binder, &at, "anchors (&%.40s) are not allowed here", (const char *)anchor);
    else if (tag)
        binder_say(r->binder, &at, "tags (%.40s) are not allowed here", (const char *)tag);
    return !anchor && !tag;
}

static bool is_allowed(struct reader *r, const yaml_event_t *event)
{
    struct config_origin at = origin_of(r, event->start_mark);

    switch (event->type) {
    case YAML_ALIAS_EVENT:
        binder_say(r->binder, &at, "aliases (*%.40s) are not allowed here",
                   (const char *)event->data.alias.anchor);
        return false;
    case YAML_SCALAR_EVENT:
        return refuse_anchor_and_tag(r, event, event->data.scalar.anchor, event->data.scalar.tag);
    case YAML_SEQUENCE_START_EVENT:
        return refuse_anchor_and_tag(r, event, event->data.sequence_start.anchor,
                                     event->data.sequence_start.tag);
    case YAML_MAPPING_START_EVENT:
        return refuse_anchor_and_tag(r, event, event->data.mapping_start.anchor,
                                     event->data.mapping_start.tag);
    default:
        return true;
    }
}

static struct config_node *make_node(struct reader *r, const yaml_event_t *event,
                                     enum node_kind kind)
{
    struct config_origin at = origin_of(r, event->start_mark);
    struct config_node *node = NULL;

    if (++r->nodes > YAML_NODES_MAX)
        binder_say(r->binder, &at, "more than %u values in one file", YAML_NODES_MAX);
    else
        node = arena_alloc(r->binder->arena, sizeof *node);
    if (node) {
        node->kind = kind;
        node->at = at;
    }
    return node;
}

static struct config_node *read_scalar(struct reader *r, const yaml_event_t *event)
{
    const char *text = (const char *)event->data.scalar.value;
    size_t length = event->data.scalar.length;
    struct config_node *node = make_node(r, event, NODE_SCALAR);

    if (node && memchr(text, '\0', length)) {
        binder_say(r->binder, &node->at, "a NUL character in a value");
        return NULL;
    }
    if (node) {
        node->is_plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
        node->text = arena_strndup(r->binder->arena, text, length);
    }
    return node;
}

static struct config_node *read_node(struct reader *r, const yaml_event_t *event);

static bool read_list(struct reader *r, struct config_node *list)
{
    struct config_node **end = &list->children;
    unsigned index = 0;

    for (;;) {
        EVENT event;

        if (!next_event(r, &event))
            return false;
        if (event.type == YAML_SEQUENCE_END_EVENT)
            return true;
        *end = read_node(r, &event);
        if (!*end)
            return false;
        (*end)->index = index++;
        end = &(*end)->next;
    }
}

static bool check_key(struct reader *r, const struct config_node *map,
                      const struct config_node *key)
{
    const struct config_node *first;

    if (key->kind != NODE_SCALAR || node_is_null(key)) {
        binder_say(r->binder, &key->at, "a key must be a word");
        return false;
    }
    first = node_get(map, key->text);
    if (first)
        binder_say(r->binder, &key->at, "repeated key %s (first at line %u)",
                   binder_quote(r->binder, key->text), first->key_at.line);
    return true;
}

static bool read_map(struct reader *r, struct config_node *map)
{
    struct config_node **end = &map->children;

    for (;;) {
        EVENT event, value_event;
        struct config_node *key;

        memset(&value_event, 0, sizeof value_event);
        if (!next_event(r, &event))
            return false;
        if (event.type == YAML_MAPPING_END_EVENT)
            return true;
        key = read_node(r, &event);
        if (!key || !check_key(r, map, key) || !next_event(r, &value_event))
            return false;
        *end = read_node(r, &value_event);
        if (!*end)
            return false;
        (*end)->key = key->text;
        (*end)->key_at = key->at;
        end = &(*end)->next;
    }
}

static struct config_node *read_collection(struct reader *r, const yaml_event_t *event)
{
    bool is_map = event->type == YAML_MAPPING_START_EVENT, is_good = false;
    struct config_node *node = make_node(r, event, is_map ? NODE_MAP : NODE_LIST);

    if (!node)
        return NULL;
    if (++r->depth > YAML_DEPTH_MAX)
        binder_say(r->binder, &node->at, "more than %u levels", YAML_DEPTH_MAX);
    else
        is_good = is_map ? read_map(r, node) : read_list(r, node);
    r->depth--;
    return is_good ? node : NULL;
}

static struct config_node *read_node(struct reader *r, const yaml_event_t *event)
{
    if (!is_allowed(r, event))
        return NULL;
    return event->type == YAML_SCALAR_EVENT ? read_scalar(r, event) : read_collection(r, event);
}

static struct config_node *make_empty_map(struct reader *r)
{
    struct config_node *map = arena_alloc(r->binder->arena, sizeof *map);

    if (map) {
        map->kind = NODE_MAP;
        map->at = (struct config_origin){r->file, 1, 1};
    }
    return map;
}

static bool expect_end(struct reader *r)
{
    EVENT end, after;
    struct config_origin at;

    memset(&after, 0, sizeof after);
    if (!next_event(r, &end) || !next_event(r, &after))
        return false;
    at = origin_of(r, after.start_mark);
    if (after.type != YAML_STREAM_END_EVENT)
        binder_say(r->binder, &at, "a second document; there is one to a file");
    return after.type == YAML_STREAM_END_EVENT;
}

static struct config_node *read_document(struct reader *r)
{
    EVENT stream, document, first;
    struct config_node *root;

    memset(&document, 0, sizeof document);
    memset(&first, 0, sizeof first);
    if (!next_event(r, &stream) || !next_event(r, &document))
        return NULL;
    if (document.type == YAML_STREAM_END_EVENT)
        return make_empty_map(r);
    if (!next_event(r, &first))
        return NULL;
    root = read_node(r, &first);
    if (!root || !expect_end(r))
        return NULL;
    if (node_is_null(root))
        return make_empty_map(r);
    return expect_kind(r->binder, root, NODE_MAP) ? root : NULL;
}

const struct config_node *yaml_parse(struct binder *b, const char *file, const char *text,
                                     size_t length)
{
    struct reader reader = {.binder = b, .file = file, .text = text, .length = length};
    static const char byte_order_mark[] = "\xef\xbb\xbf";
    struct config_origin at = {file, 1, 1};
    const struct config_node *root;

    if (length >= 3 && memcmp(text, byte_order_mark, 3) == 0) {
        binder_say(b, &at, "begins with a byte order mark; save it as UTF-8 without one");
        return NULL;
    }
    if (length > YAML_BYTES_MAX) {
        binder_say(b, &at, "larger than %u bytes", YAML_BYTES_MAX);
        return NULL;
    }
    if (!yaml_parser_initialize(&reader.parser)) {
        (void)!arena_alloc(b->arena, SIZE_MAX / 2);
        return NULL;
    }
    /* Set, not detected: a UTF-16 file is an error and not a surprise. */
    yaml_parser_set_encoding(&reader.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&reader.parser, (const unsigned char *)text, length);
    root = read_document(&reader);
    yaml_parser_delete(&reader.parser);
    return root;
}
