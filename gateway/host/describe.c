/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * describe.c: a filter's table as words and as JSON: what `sluice filter show` prints, and what its
 * manual page and the schema of its options are made from.
 */
#include "internal.h"

#include <string.h>

const char *host_class_name(uint32_t filter_class)
{
    static const char *const names[SLUICE_CLASS_END] = {
        [SLUICE_CLASS_IO_CONTROL] = "io-control",
        [SLUICE_CLASS_INSPECTION] = "inspection",
        [SLUICE_CLASS_COMPRESSION] = "compression",
        [SLUICE_CLASS_ENCRYPTION] = "encryption",
        [SLUICE_CLASS_REPLICATION] = "replication",
        [SLUICE_CLASS_CACHE] = "cache",
        [SLUICE_CLASS_BACKING_CONTROL] = "backing-control",
    };

    return filter_class > 0 && filter_class < SLUICE_CLASS_END ? names[filter_class] : "unknown";
}

struct bit_name {
    uint32_t bit;
    const char *name;
};

static const struct bit_name need_names[] = {
    {SLUICE_NEEDS_PLAINTEXT, "plaintext"},
    {SLUICE_NEEDS_EVERY_WRITE_ONCE, "every-write-once"},
    {SLUICE_NEEDS_FINAL_SIZE, "final-size"},
};

static const struct bit_name trait_names[] = {
    {SLUICE_TRAIT_HOLDS_DATA, "holds-data"},
    {SLUICE_TRAIT_BYPASSABLE, "bypassable"},
    {SLUICE_TRAIT_CHANGES_DATA, "changes-data"},
};

static json_t *bits(uint32_t value, const struct bit_name *names, size_t count)
{
    json_t *list = json_array();

    for (size_t i = 0; i < count; i++)
        if (value & names[i].bit)
            json_array_append_new(list, json_string(names[i].name));
    return list;
}

static json_t *text_or_null(const char *text)
{
    json_t *string = text ? json_string(text) : NULL;

    return string ? string : json_null();
}

static json_t *number_or_null(int64_t number)
{
    return number ? json_integer(number) : json_null();
}

static json_t *describe_words(const char *words)
{
    json_t *list;

    if (!words)
        return json_null();
    list = json_array();
    while (*words) {
        size_t n = strcspn(words, "|");

        json_array_append_new(list, json_stringn(words, n));
        words += n + (words[n] == '|');
    }
    return list;
}

static json_t *describe_options(const struct sluice_filter *f)
{
    json_t *list = json_array();

    for (unsigned i = 0; i < filter_option_count(f); i++) {
        const struct sluice_option *o = &f->options[i];

        json_array_append_new(list, json_pack("{s:s, s:s, s:b, s:b, s:o, s:o, s:o, s:o, s:s}",
                                              "name", o->name, "type", option_type_name(o->type),
                                              "required", (o->flags & SLUICE_OPTION_REQUIRED) != 0,
                                              "live", (o->flags & SLUICE_OPTION_LIVE) != 0,
                                              "minimum", number_or_null(o->minimum), "maximum",
                                              number_or_null(o->maximum), "default",
                                              text_or_null(o->default_text), "words",
                                              describe_words(o->words), "help", o->help));
    }
    return list;
}

static json_t *describe_counters(const struct sluice_filter *f)
{
    static const char *const kinds[] = {"counter", "gauge", "histogram"};
    json_t *list = json_array();

    for (unsigned i = 0; i < filter_counter_count(f); i++) {
        const struct sluice_counter *c = &f->counters[i];

        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s}", "name", c->name, "kind",
                                              kinds[c->kind], "unit", c->unit, "help", c->help));
    }
    return list;
}

static json_t *describe_verbs(const struct sluice_filter *f)
{
    json_t *list = json_array();

    for (unsigned i = 0; i < filter_verb_count(f); i++) {
        const struct sluice_verb *v = &f->verbs[i];

        json_array_append_new(list, json_pack("{s:s, s:s, s:s}", "name", v->name, "arguments",
                                              v->arguments, "help", v->help));
    }
    return list;
}

static json_t *describe_operations(const struct sluice_filter *f)
{
    json_t *map = json_object();

    for (unsigned op = 0; op < SLUICE_OP_COUNT; op++) {
        const struct sluice_handler *h = filter_handler(f, op);

        json_object_set_new(map, engine_op_name(op),
                            json_string(h->handling == SLUICE_UNSEEN ? "unseen"
                                        : h->completion              ? "down and up"
                                                                     : "down"));
    }
    return map;
}

json_t *host_filter_describe(const struct sluice_filter *f)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:i, s:o, s:o, s:i, s:i, s:o, s:o, s:o, s:o}",
                     "name", f->name, "version", f->version, "vendor", f->vendor, "summary",
                     f->summary, "class", host_class_name(f->filter_class), "api_version",
                     (int)f->api_version, "needs",
                     bits(f->needs, need_names, ARRAY_SIZE(need_names)), "traits",
                     bits(f->traits, trait_names, ARRAY_SIZE(trait_names)), "scratch_bytes",
                     (int)f->scratch_bytes, "block_bytes", (int)f->block_bytes, "operations",
                     describe_operations(f), "options", describe_options(f), "counters",
                     describe_counters(f), "verbs", describe_verbs(f));
}
