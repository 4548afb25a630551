/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * policy: a document over the policy it starts from.
 *
 * Maps are merged key by key, everything else is replaced, and the list of filters is merged filter
 * by filter: an item goes onto the one with its `name:`, else onto the only one of its filter;
 * `NAME: off` removes one; what is new is appended (filters.c brings all into class order). Merging
 * makes new nodes, so that a policy can serve many disks; each node keeps the place it was written.
 */
#include "config/internal.h"

#include <string.h>

bool filter_item_split(const struct config_node *item, const char **word,
                       const struct config_node **options)
{
    *options = NULL;
    if (item->kind == NODE_SCALAR && !node_is_null(item)) {
        *word = item->text;
        return true;
    }
    if (item->kind != NODE_MAP || !item->children || item->children->next)
        return false;
    *word = item->children->key;
    *options = node_is_null(item->children) ? NULL : item->children;
    return true;
}

static struct config_node **end_of(struct config_node **link)
{
    while (*link)
        link = &(*link)->next;
    return link;
}

static void append_copy(struct arena *arena, struct config_node **list,
                        const struct config_node *node)
{
    *end_of(list) = node_copy(arena, node);
}

/* --- maps --------------------------------------------------------------------------------------
 */

/* `over` as it is unless both are maps. */
static const struct config_node *merge(struct binder *b, const struct config_node *base,
                                       const struct config_node *over)
{
    struct config_node *map;

    if (base->kind != NODE_MAP || over->kind != NODE_MAP)
        return over;
    map = node_copy(b->arena, over);
    if (!map)
        return over;
    map->children = NULL;
    for (const struct config_node *child = base->children; child; child = child->next) {
        const struct config_node *above = node_get(over, child->key);

        append_copy(b->arena, &map->children, above ? merge(b, child, above) : child);
    }
    for (const struct config_node *child = over->children; child; child = child->next)
        if (!node_get(base, child->key))
            append_copy(b->arena, &map->children, child);
    return map;
}

/* --- filters -----------------------------------------------------------------------------------
 */

static const char *instance_name(const struct config_node *item)
{
    const struct config_node *options, *name;
    const char *word;

    if (!filter_item_split(item, &word, &options))
        return "";
    name = node_get(options, "name");
    return name && name->kind == NODE_SCALAR ? name->text : word;
}

static bool is_off(const struct config_node *options)
{
    return options && options->kind == NODE_SCALAR && strcmp(options->text, "off") == 0;
}

static bool is_of_filter(const struct config_node *item, const char *filter)
{
    const struct config_node *options;
    const char *word;

    return filter_item_split(item, &word, &options) && strcmp(word, filter) == 0;
}

/* The item of the base that `item` speaks of, or NULL; *matches > 1: several, and no name says
 * which. */
static struct config_node *find_target(struct config_node *base, const struct config_node *item,
                                       unsigned *matches)
{
    const struct config_node *options = NULL;
    const char *word = "", *name = instance_name(item);
    struct config_node *found = NULL;

    *matches = 0;
    for (struct config_node *other = base; other; other = other->next)
        if (strcmp(instance_name(other), name) == 0)
            return other;
    if (!filter_item_split(item, &word, &options) || node_get(options, "name"))
        return NULL;
    for (struct config_node *other = base; other; other = other->next)
        if (is_of_filter(other, word)) {
            found = other;
            ++*matches;
        }
    return found;
}

static void remove_item(struct config_node **list, const struct config_node *item)
{
    while (*list && *list != item)
        list = &(*list)->next;
    if (*list)
        *list = item->next;
}

/* Lays the options of `item` over those of `target`, which is a copy and ours to change. */
static void merge_item(struct binder *b, struct config_node *target, const struct config_node *item)
{
    const struct config_node *base_options, *over_options;
    struct config_node *next = target->next;
    const char *word;

    if (!filter_item_split(item, &word, &over_options) || !over_options)
        return;
    if (filter_item_split(target, &word, &base_options) && base_options)
        over_options = merge(b, base_options, over_options);
    *target = *item;
    target->next = next;
    target->children = node_copy(b->arena, over_options);
    if (!target->children)
        target->kind = NODE_LIST;
}

struct merged_filters {
    struct config_node *base, *added;
};

static void apply_item(struct binder *b, struct merged_filters *lists,
                       const struct config_node *item)
{
    const struct config_node *options = NULL;
    const char *word = "";
    unsigned matches;
    struct config_node *target = find_target(lists->base, item, &matches);
    bool has_form = filter_item_split(item, &word, &options);

    if (matches > 1)
        binder_say(b, &item->at, "there are several filters %s: say which with name:", word);
    else if (target && target->at.file == item->at.file)
        binder_say(b, &item->at, "filter %s again (first at line %u): two need a name: each", word,
                   target->at.line);
    else if (has_form && is_off(options) && target)
        remove_item(&lists->base, target);
    else if (has_form && is_off(options))
        binder_say(b, &item->at, "there is no filter %s to turn off", word);
    else if (has_form && target)
        merge_item(b, target, item);
    else
        append_copy(b->arena, &lists->added, item);
}

/* Of a document's list over that of its policy (NULL: none): new nodes. */
static struct config_node *merge_filters(struct binder *b, const struct config_node *base,
                                         const struct config_node *over)
{
    struct config_node *list = node_copy(b->arena, over);
    struct merged_filters lists = {NULL, NULL};
    size_t mark = binder_push_key(b, "filters");

    if (base && base->kind == NODE_LIST)
        for (const struct config_node *child = base->children; child; child = child->next)
            append_copy(b->arena, &lists.base, child);
    for (const struct config_node *child = over->children; child; child = child->next) {
        size_t item_mark = binder_push_index(b, child->index);

        apply_item(b, &lists, child);
        binder_pop(b, item_mark);
    }
    binder_pop(b, mark);
    *end_of(&lists.base) = lists.added;
    if (list)
        list->children = lists.base;
    return list;
}

/* --- documents ---------------------------------------------------------------------------------
 */

static struct config_node *find_child(struct config_node *map, const char *key)
{
    struct config_node *child = map->children;

    while (child && strcmp(child->key, key) != 0)
        child = child->next;
    return child;
}

/* base may be NULL. */
static const struct config_node *merge_documents(struct binder *b, const struct config_node *base,
                                                 const struct config_node *over)
{
    const struct config_node *filters = node_get(over, "filters");
    struct config_node *merged, *place, *list;
    struct config_node empty = {.kind = NODE_MAP};

    merged = node_copy(b->arena, merge(b, base ? base : &empty, over));
    place = merged ? find_child(merged, "filters") : NULL;
    if (!place || !filters || filters->kind != NODE_LIST)
        return merged;
    list = merge_filters(b, node_get(base, "filters"), filters);
    if (list) {
        list->next = place->next;
        *place = *list;
    }
    return merged;
}

static struct document *find_policy(struct binder *b, struct documents *policies,
                                    const struct config_node *name)
{
    const char **names = arena_alloc(b->arena, (policies->count + 1) * sizeof *names);

    for (unsigned i = 0; i < policies->count; i++)
        if (strcmp(policies->item[i].name, name->text) == 0)
            return &policies->item[i];
    for (unsigned i = 0; i < policies->count && names; i++)
        names[i] = policies->item[i].name;
    binder_say_at(b, &name->at, "policy", "unknown policy %s%s", binder_quote(b, name->text),
                  names ? binder_suggest(b, name->text, names, policies->count) : "");
    return NULL;
}

/* The policy named in the document, resolved; false after a problem. */
static bool resolve_base(struct binder *b, struct documents *policies,
                         const struct document *document, const struct config_node **out)
{
    const struct config_node *name = node_get(document->root, "policy");
    struct document *policy;

    *out = NULL;
    if (!name)
        return true;
    if (name->kind != NODE_SCALAR || node_is_null(name))
        return true; /* the binder says what is wrong with it */
    policy = find_policy(b, policies, name);
    if (policy && policy->state == DOCUMENT_OPEN) {
        binder_say_at(b, &name->at, "policy", "a loop: %s starts from itself", policy->name);
        policy->state = DOCUMENT_BROKEN;
    }
    *out = policy ? policy_resolve(b, policies, policy) : NULL;
    return *out != NULL;
}

const struct config_node *policy_resolve(struct binder *b, struct documents *policies,
                                         struct document *document)
{
    const struct config_node *base;

    if (document->state == DOCUMENT_DONE)
        return document->merged;
    if (document->state == DOCUMENT_BROKEN || !document->root)
        return NULL;
    document->state = DOCUMENT_OPEN;
    if (resolve_base(b, policies, document, &base) && document->state == DOCUMENT_OPEN)
        document->merged = merge_documents(b, base, document->root);
    document->state = document->merged ? DOCUMENT_DONE : DOCUMENT_BROKEN;
    return document->merged;
}
