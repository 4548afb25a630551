/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * filters: the list of filters of a disk, from words to instances in chain order.
 *
 * Each filter's own option table is bound like ours; a dot in an option's name is a level of
 * nesting.  The order of classes is checked within each file, because that is what a person reads;
 * what comes from a policy and what comes from the disk is then brought together by class, rank and
 * place.
 */
#include "config/internal.h"

#include <stdio.h>
#include <string.h>

/* --- options of one filter ---------------------------------------------------------------------
 */

/* True for "ssd.size" and prefix "ssd" (length 3), and for any name and an empty prefix. */
bool option_is_below(const char *name, const char *prefix, size_t prefix_length)
{
    if (prefix_length == 0)
        return true;
    return strncmp(name, prefix, prefix_length) == 0 && name[prefix_length] == '.';
}

struct filter_binding {
    const struct sluice_filter *filter;
    struct sluice_value *values;
    unsigned option_count;
};

static unsigned count_options(const struct sluice_filter *filter)
{
    unsigned count = 0;

    while (filter->options && filter->options[count].name)
        count++;
    return count;
}

static const struct sluice_option *find_option(const struct filter_binding *f, const char *name)
{
    for (unsigned i = 0; i < f->option_count; i++)
        if (strcmp(f->filter->options[i].name, name) == 0)
            return &f->filter->options[i];
    return NULL;
}

static bool has_options_below(const struct filter_binding *f, const char *prefix)
{
    for (unsigned i = 0; i < f->option_count; i++)
        if (option_is_below(f->filter->options[i].name, prefix, strlen(prefix)))
            return true;
    return false;
}

static bool is_instance_key(const char *name)
{
    for (unsigned i = 0; i < config_instance_table.count; i++)
        if (strcmp(config_instance_table.keys[i].option.name, name) == 0)
            return true;
    return false;
}

/* What could have been meant at this level. */
static const char *suggest_option(struct binder *b, const struct filter_binding *f,
                                  const char *prefix, const char *word)
{
    size_t length = strlen(prefix), skip = length ? length + 1 : 0;
    unsigned most = f->option_count + config_instance_table.count, count = 0;
    const char **names = arena_alloc(b->arena, (most + 1) * sizeof *names);

    if (!names)
        return "";
    for (unsigned i = 0; i < f->option_count; i++) {
        const char *name = f->filter->options[i].name;

        if (option_is_below(name, prefix, length))
            names[count++] = arena_strndup(b->arena, name + skip, strcspn(name + skip, "."));
    }
    for (unsigned i = 0; i < config_instance_table.count && length == 0; i++)
        names[count++] = config_instance_table.keys[i].option.name;
    return binder_suggest(b, word, names, count);
}

static void bind_options(struct binder *b, const struct filter_binding *f,
                         const struct config_node *node, const char *prefix);

static void bind_option(struct binder *b, const struct filter_binding *f,
                        const struct config_node *node, const char *prefix)
{
    const char *name = *prefix ? arena_printf(b->arena, "%s.%s", prefix, node->key) : node->key;
    const struct sluice_option *option = find_option(f, name);
    bool is_group = has_options_below(f, name) && (node->kind == NODE_MAP || !option);
    size_t mark;

    if (!is_group && !option) {
        if (*prefix || !is_instance_key(name))
            binder_say(b, &node->key_at, "unknown option %s%s", binder_quote(b, node->key),
                       suggest_option(b, f, prefix, node->key));
        return;
    }
    mark = binder_push_key(b, node->key);
    if (is_group)
        bind_options(b, f, node, name);
    else
        scalar_bind(b, option, node, &f->values[option - f->filter->options]);
    binder_pop(b, mark);
}

/* As deep as the tree: YAML_DEPTH_MAX. */
static void bind_options(struct binder *b, const struct filter_binding *f,
                         const struct config_node *node, const char *prefix)
{
    if (node_is_null(node) || !expect_kind(b, node, NODE_MAP))
        return;
    for (const struct config_node *child = node->children; child; child = child->next)
        bind_option(b, f, child, prefix);
}

static bool is_written(const struct config_node *node, const char *name)
{
    const struct config_node *found = node_find(node, name);

    return found && found != node;
}

static void require_options(struct binder *b, const struct filter_binding *f,
                            const struct config_node *item, const struct config_node *options)
{
    for (unsigned i = 0; i < f->option_count && !b->is_partial; i++) {
        const struct sluice_option *option = &f->filter->options[i];
        size_t mark;

        if (!(option->flags & SLUICE_OPTION_REQUIRED) || f->values[i].is_set ||
            is_written(options, option->name))
            continue;
        mark = binder_push_key(b, option->name);
        binder_say(b, &item->at, "is required");
        binder_pop(b, mark);
    }
}

static const struct sluice_value *bind_values(struct binder *b, const struct sluice_filter *filter,
                                              const struct config_node *item,
                                              const struct config_node *options)
{
    struct filter_binding f = {filter, NULL, count_options(filter)};

    f.values = arena_alloc(b->arena, (f.option_count + 1) * sizeof *f.values);
    if (!f.values)
        return NULL;
    for (unsigned i = 0; i < f.option_count; i++)
        scalar_bind_default(b, &filter->options[i], &f.values[i]);
    if (options && options->kind == NODE_SCALAR)
        binder_say(b, &options->at, "expected options (option: value) or off, not %s",
                   binder_quote(b, options->text));
    else if (options)
        bind_options(b, &f, options, "");
    require_options(b, &f, item, options);
    return f.values;
}

/* --- one instance ------------------------------------------------------------------------------
 */

static unsigned count_names(const char **names)
{
    unsigned count = 0;

    while (names && names[count])
        count++;
    return count;
}

static bool is_listed(const char **names, const char *word)
{
    for (unsigned i = 0; names && names[i]; i++)
        if (strcmp(names[i], word) == 0)
            return true;
    return false;
}

/* The loader's sentence is only for filters that are there but broken. */
static const struct sluice_filter *find_filter(struct binder *b, const struct config_node *item,
                                               const char *word)
{
    const struct config_lookup *lookup = b->lookup;
    bool is_path = strchr(word, '/') != NULL;
    CLEANUP_FREE const char **names =
        !is_path && lookup->filter_names ? lookup->filter_names(lookup->context) : NULL;
    const struct sluice_filter *filter;
    struct err e = {0};

    if (names && !is_listed(names, word)) {
        binder_say(b, &item->at, "unknown filter %s%s", binder_quote(b, word),
                   binder_suggest(b, word, names, count_names(names)));
        return NULL;
    }
    filter = lookup->find_filter(lookup->context, is_path ? path_resolve(b, word) : word, &e);
    if (!filter)
        binder_say(b, &item->at, "%s", e.text[0] ? e.text : "cannot be loaded");
    return filter;
}

static void refuse_bypass(struct binder *b, const struct config_node *options, const char *key,
                          const struct sluice_filter *filter)
{
    size_t mark = binder_push_key(b, key);

    if (!(filter->traits & SLUICE_TRAIT_BYPASSABLE))
        binder_say(b, &node_get(options, key)->at,
                   "bypass is not possible: the disk is not valid without %s", filter->name);
    binder_pop(b, mark);
}

/* The children of `options` that any filter takes, as a map of their own. */
static void collect_instance_keys(struct binder *b, const struct config_node *options,
                                  struct config_node *out)
{
    bool is_map = options && options->kind == NODE_MAP;
    struct config_node **end = &out->children;

    for (const struct config_node *child = is_map ? options->children : NULL; child;
         child = child->next)
        if (is_instance_key(child->key) && (*end = node_copy(b->arena, child)))
            end = &(*end)->next;
}

static void bind_instance_keys(struct binder *b, const struct config_node *options,
                               const struct disk_config *disk, struct filter_config *out)
{
    struct config_node own = {.kind = NODE_MAP};

    collect_instance_keys(b, options, &own);
    bind_table(b, &config_instance_table, &own, out);
    if (!node_get(&own, "on_stall"))
        out->on_stall = disk->on_stall;
    else if (out->on_stall == STALL_BYPASS)
        refuse_bypass(b, &own, "on_stall", out->filter);
    if (out->on_attach_failure == ATTACH_BYPASS)
        refuse_bypass(b, &own, "on_attach_failure", out->filter);
    if (!out->name)
        out->name = out->filter->name;
}

static void say_no_item(struct binder *b, const struct config_node *item)
{
    if (item->kind == NODE_MAP && item->children && item->children->next)
        binder_say(
            b, &item->children->next->key_at, "%s is beside %s; its options are indented below it",
            binder_quote(b, item->children->next->key), binder_quote(b, item->children->key));
    else
        binder_say(b, &item->at, "expected a filter (NAME or NAME: {option: value})");
}

/* Only of values that are each what they should be. */
static void check_values(struct binder *b, const struct config_node *item,
                         const struct filter_config *out, unsigned problems_before)
{
    const struct sluice_filter *filter = out->filter;
    bool knows_check =
        filter->struct_size >= offsetof(struct sluice_filter, check) + sizeof filter->check;
    const char *why = NULL;

    if (knows_check && filter->check && out->values && !b->is_partial &&
        b->problems->count == problems_before)
        why = filter->check(out->values);
    if (why)
        binder_say(b, &item->at, "%s", why);
}

static bool bind_instance(struct binder *b, const struct config_node *item,
                          const struct disk_config *disk, struct filter_config *out)
{
    const struct config_node *options;
    unsigned problems = b->problems->count;
    const char *word;
    size_t mark;

    if (!filter_item_split(item, &word, &options)) {
        say_no_item(b, item);
        return false;
    }
    if (options && options->kind == NODE_SCALAR && strcmp(options->text, "off") == 0)
        return false; /* turns one of a policy off; nothing to bind */
    out->filter = find_filter(b, item, word);
    if (!out->filter)
        return false;
    out->origin = item->at;
    mark = binder_push_key(b, word);
    out->values = bind_values(b, out->filter, item, options);
    bind_instance_keys(b, options, disk, out);
    check_values(b, item, out, problems);
    binder_pop(b, mark);
    out->filter_class = out->filter->place && out->values ? out->filter->place(out->values)
                                                          : out->filter->filter_class;
    return out->values != NULL;
}

/* --- the chain ---------------------------------------------------------------------------------
 */

/* An instance and where it was written; sorted together. */
struct placed {
    struct filter_config filter;
    const struct config_node *item;
    unsigned place;
};

static const char *item_path(struct binder *b, const struct placed *p)
{
    return arena_printf(b->arena, "filters[%u].%s", p->item->index, p->filter.filter->name);
}

static void refuse_same_names(struct binder *b, const struct placed *placed, unsigned count)
{
    for (unsigned i = 1; i < count; i++)
        for (unsigned j = 0; j < i; j++)
            if (strcmp(placed[i].filter.name, placed[j].filter.name) == 0) {
                binder_say_at(b, &placed[i].item->at, item_path(b, &placed[i]),
                              "a second instance named %s (first at line %u): give it a name:",
                              placed[i].filter.name, placed[j].item->at.line);
                break;
            }
}

/* Those of one file, in the order written there: a merged list has those of the policy first. */
static unsigned collect_written(const struct placed *placed, unsigned count, const char *file,
                                const struct placed *out[CHAIN_FILTERS_MAX])
{
    unsigned written = 0;

    for (unsigned i = 0; i < count; i++) {
        unsigned j = written;

        if (placed[i].item->at.file != file)
            continue;
        for (; j > 0 && out[j - 1]->item->index > placed[i].item->index; j--)
            out[j] = out[j - 1];
        out[j] = &placed[i];
        written++;
    }
    return written;
}

static void say_misplaced(struct binder *b, const struct placed *item, const struct placed *above)
{
    const char *class = chain_class_name(item->filter.filter_class);
    const char *class_above = chain_class_name(above->filter.filter_class);

    if (item->item->at.line == above->item->at.line)
        binder_say_at(b, &item->item->at, item_path(b, item),
                      "class %s comes before class %s: put it before %s", class, class_above,
                      above->filter.name);
    else
        binder_say_at(b, &item->item->at, item_path(b, item),
                      "class %s comes before class %s: move line %u above line %u (%s)", class,
                      class_above, item->item->at.line, above->item->at.line, above->filter.name);
}

static void check_written_order(struct binder *b, const struct placed *placed, unsigned count,
                                const char *file)
{
    const struct placed *written[CHAIN_FILTERS_MAX], *item, *above;
    uint32_t classes[CHAIN_FILTERS_MAX];
    unsigned total = collect_written(placed, count, file, written), low, high;

    for (unsigned i = 0; i < total; i++)
        classes[i] = written[i]->filter.filter_class;
    if (!chain_find_misplaced(classes, total, &low, &high))
        return;
    item = written[low];
    above = written[high];
    say_misplaced(b, item, above);
}

static void check_order(struct binder *b, const struct placed *placed, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        bool is_new_file = true;

        for (unsigned j = 0; j < i; j++)
            is_new_file &= placed[j].item->at.file != placed[i].item->at.file;
        if (is_new_file)
            check_written_order(b, placed, count, placed[i].item->at.file);
    }
}

static int compare_placed(const void *left, const void *right)
{
    const struct placed *a = left, *b = right;

    if (a->filter.filter_class != b->filter.filter_class)
        return a->filter.filter_class < b->filter.filter_class ? -1 : 1;
    if (a->filter.rank != b->filter.rank)
        return a->filter.rank < b->filter.rank ? -1 : 1;
    return (a->place > b->place) - (a->place < b->place);
}

static void check_needs(struct binder *b, const struct placed *placed,
                        const struct filter_config *filters, unsigned count)
{
    struct chain_fault fault;

    for (unsigned i = 0; chain_find_broken_need(filters, count, i, &fault); i = fault.filter + 1)
        binder_say_at(b, &filters[fault.filter].origin, item_path(b, &placed[fault.filter]),
                      "needs %s, but %s %s", fault.needs, filters[fault.other].name, fault.because);
}

static bool finish_chain(struct binder *b, struct disk_config *disk, struct placed *placed,
                         unsigned count)
{
    disk->filters = arena_alloc(b->arena, (count + 1) * sizeof *disk->filters);
    if (!disk->filters)
        return false;
    refuse_same_names(b, placed, count);
    check_order(b, placed, count);
    qsort(placed, count, sizeof *placed, compare_placed);
    for (unsigned i = 0; i < count; i++)
        disk->filters[i] = placed[i].filter;
    disk->filter_count = count;
    check_needs(b, placed, disk->filters, count);
    return true;
}

bool filters_bind(struct binder *b, const struct config_key *key, const struct config_node *node,
                  void *field)
{
    struct disk_config *disk = field;
    struct placed *placed = arena_alloc(b->arena, CHAIN_FILTERS_MAX * sizeof *placed);
    unsigned count = 0;

    (void)key;
    if (!placed || !expect_kind(b, node, NODE_LIST))
        return false;
    for (const struct config_node *item = node->children; item; item = item->next) {
        size_t mark = binder_push_index(b, item->index);

        if (count == CHAIN_FILTERS_MAX) {
            binder_say(b, &item->at, "a disk has at most %d filters", CHAIN_FILTERS_MAX);
            binder_pop(b, mark);
            break;
        }
        memset(&placed[count], 0, sizeof placed[count]);
        if (bind_instance(b, item, disk, &placed[count].filter)) {
            placed[count].item = item;
            placed[count].place = count;
            count++;
        }
        binder_pop(b, mark);
    }
    return finish_chain(b, disk, placed, count);
}

const struct config_node *filter_find_item(const struct disk_config *disk,
                                           const struct filter_config *filter)
{
    const struct config_node *list = node_get(disk->document, "filters");
    const struct config_node *item = list ? list->children : NULL;
    const struct config_origin *at = &filter->origin;

    while (item && (item->at.file != at->file || item->at.line != at->line ||
                    item->at.column != at->column))
        item = item->next;
    return item;
}

/* --- JSON Schema -------------------------------------------------------------------------------
 */

/* The map that holds the options of one level, made on the way down a dotted name. */
static json_t *level_properties(json_t *properties, const char *name, const char **leaf)
{
    const char *dot = strchr(name, '.');

    for (; dot; name = dot + 1, dot = strchr(name, '.')) {
        char part[64];
        json_t *level;

        snprintf(part, sizeof part, "%.*s", (int)MIN(dot - name, 63), name);
        level = json_object_get(properties, part);
        if (!level) {
            level = json_pack("{s:[s,s],s:{},s:b}", "type", "object", "null", "properties",
                              "additionalProperties", 0);
            json_object_set_new(properties, part, level);
        }
        properties = json_object_get(level, "properties");
        if (!properties)
            return NULL;
    }
    *leaf = name;
    return properties;
}

static void add_option(json_t *properties, const struct sluice_option *option)
{
    const char *leaf = NULL;
    json_t *level = level_properties(properties, option->name, &leaf), *schema;

    if (!level)
        return;
    schema = scalar_schema(option);
    if (option->help)
        json_object_set_new(schema, "description", json_string(option->help));
    if (option->default_text)
        json_object_set_new(schema, "default", key_default_json(option));
    json_object_set_new(level, leaf, schema);
}

/* Required options may come from a policy, so the schema of one document cannot demand them. */
static json_t *filter_schema(const struct sluice_filter *filter)
{
    json_t *properties = json_object(), *schema;

    for (unsigned i = 0; i < count_options(filter); i++)
        add_option(properties, &filter->options[i]);
    for (unsigned i = 0; i < config_instance_table.count; i++)
        json_object_set_new(properties, config_instance_table.keys[i].option.name,
                            key_schema(&config_instance_table.keys[i]));
    schema = json_pack("{s:[{s:[s,s],s:o,s:b},{s:s}]}", "anyOf", "type", "object", "null",
                       "properties", properties, "additionalProperties", 0, "const", "off");
    if (filter->summary)
        json_object_set_new(schema, "description", json_string(filter->summary));
    return schema;
}

static void add_filters(const struct config_lookup *lookup, const char **names, json_t *words,
                        json_t *properties)
{
    for (unsigned i = 0; names && names[i]; i++) {
        struct err e = {0};
        const struct sluice_filter *filter = lookup->find_filter(lookup->context, names[i], &e);

        if (!filter)
            continue;
        json_object_set_new(properties, filter->name, filter_schema(filter));
        json_array_append_new(words, json_string(filter->name));
    }
}

/* A filter of one's own is named by a path, and nothing is known of it here; where no filter is
 * known at all, any name will do. */
json_t *filters_schema(const struct config_lookup *lookup)
{
    CLEANUP_FREE const char **names =
        lookup->filter_names ? lookup->filter_names(lookup->context) : NULL;
    const char *others = names ? "/" : "^.";
    json_t *properties = json_object(), *words = json_array();

    add_filters(lookup, names, words, properties);
    return json_pack("{s:[s,s],s:i,s:{s:[{s:o},{s:s,s:s},{s:s,s:o,s:{s:{}},s:b,s:i,s:i}]}}", "type",
                     "array", "null", "maxItems", CHAIN_FILTERS_MAX, "items", "anyOf", "enum",
                     words, "type", "string", "pattern", others, "type", "object", "properties",
                     properties, "patternProperties", others, "additionalProperties", 0,
                     "minProperties", 1, "maxProperties", 1);
}
