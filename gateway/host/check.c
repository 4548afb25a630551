/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check.c: is a filter's table one that may be trusted?  Everything a filter declares is looked at
 * once, when it is loaded, so that nobody has to look again: versions, names, every operation,
 * scratch, and the tables of options, counters and verbs.
 *
 * Each check is a function in a list; the first that fails writes the sentence.
 */
#include "internal.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

/* What a filter built against the first version of the header knows at least. */
#define STRUCT_SIZE_V1 \
    (offsetof(struct sluice_filter, place) + sizeof(((struct sluice_filter *)0)->place))
#define SCRATCH_MAX 1024u
#define BLOCK_MAX (64u << 10)
#define KNOWN_NEEDS \
    (SLUICE_NEEDS_PLAINTEXT | SLUICE_NEEDS_EVERY_WRITE_ONCE | SLUICE_NEEDS_FINAL_SIZE)
#define KNOWN_TRAITS (SLUICE_TRAIT_HOLDS_DATA | SLUICE_TRAIT_BYPASSABLE | SLUICE_TRAIT_CHANGES_DATA)

/* --- the tables' lengths ------------------------------------------------------------------------
 */

unsigned filter_option_count(const struct sluice_filter *filter)
{
    unsigned count = 0;

    while (filter->options && filter->options[count].name)
        count++;
    return count;
}

unsigned filter_counter_count(const struct sluice_filter *filter)
{
    unsigned count = 0;

    while (filter->counters && filter->counters[count].name)
        count++;
    return count;
}

unsigned filter_verb_count(const struct sluice_filter *filter)
{
    unsigned count = 0;

    while (filter->verbs && filter->verbs[count].name)
        count++;
    return count;
}

const struct sluice_handler *filter_handler(const struct sluice_filter *filter, unsigned op)
{
    static const size_t offsets[SLUICE_OP_COUNT] = {
        [SLUICE_OP_READ] = offsetof(struct sluice_filter, read),
        [SLUICE_OP_WRITE] = offsetof(struct sluice_filter, write),
        [SLUICE_OP_FLUSH] = offsetof(struct sluice_filter, flush),
        [SLUICE_OP_TRIM] = offsetof(struct sluice_filter, trim),
        [SLUICE_OP_ZERO] = offsetof(struct sluice_filter, zero),
        [SLUICE_OP_EXTENTS] = offsetof(struct sluice_filter, extents),
        [SLUICE_OP_PREFETCH] = offsetof(struct sluice_filter, prefetch),
    };

    return (const struct sluice_handler *)(const void *)((const char *)filter + offsets[op]);
}

/* --- names --------------------------------------------------------------------------------------
 */

/* [a-z][a-z0-9]* and the characters of `also`. */
static bool is_word(const char *text, const char *also)
{
    if (!islower((unsigned char)text[0]))
        return false;
    for (const char *p = text + 1; *p; p++)
        if (!islower((unsigned char)*p) && !isdigit((unsigned char)*p) && !strchr(also, *p))
            return false;
    return strlen(text) < INSTANCE_NAME_MAX;
}

/* Words with underscores, joined by dots: "ssd.size". */
static bool is_option_name(const char *text)
{
    size_t length = strlen(text);

    return is_word(text, "_.") && text[length - 1] != '.' && !strstr(text, "..");
}

static bool is_sentence(const char *text)
{
    return text && text[0];
}

/* --- versions, name, class ------------------------------------------------------------------ */

static int check_version(const struct sluice_filter *f, struct err *e)
{
    if (f->api_version != SLUICE_FILTER_API_VERSION)
        return err_set(e, EINVAL, "was built for filter API version %u, this gateway speaks %u",
                       f->api_version, SLUICE_FILTER_API_VERSION);
    if (f->struct_size < STRUCT_SIZE_V1)
        return err_set(e, EINVAL,
                       "its table has %u bytes, at least %zu are needed: set struct_size to "
                       "sizeof(struct sluice_filter)",
                       f->struct_size, STRUCT_SIZE_V1);
    return 0;
}

static int check_name(const struct sluice_filter *f, struct err *e)
{
    if (!f->name || !is_word(f->name, "-"))
        return err_set(e, EINVAL, "its name has to be [a-z][a-z0-9-]*, at most %d characters",
                       INSTANCE_NAME_MAX - 1);
    if (!is_sentence(f->version) || !is_sentence(f->vendor) || !is_sentence(f->summary))
        return err_set(e, EINVAL, "version, vendor and summary have to be set");
    return 0;
}

static int check_class(const struct sluice_filter *f, struct err *e)
{
    if (f->filter_class == 0 || f->filter_class >= SLUICE_CLASS_END)
        return err_set(e, EINVAL, "there is no filter class %u", f->filter_class);
    if ((f->needs & ~KNOWN_NEEDS) || (f->traits & ~KNOWN_TRAITS))
        return err_set(e, EINVAL, "has needs or traits that this gateway does not know");
    return 0;
}

static int check_life(const struct sluice_filter *f, struct err *e)
{
    if (!f->open || !f->close)
        return err_set(e, EINVAL, "open and close have to be set");
    if (f->scratch_bytes > SCRATCH_MAX)
        return err_set(e, EINVAL, "wants %u bytes of scratch a request, at most %u can be had",
                       f->scratch_bytes, SCRATCH_MAX);
    if (f->block_bytes > BLOCK_MAX || (f->block_bytes & (f->block_bytes - 1)))
        return err_set(e, EINVAL, "block_bytes is %u; it has to be 0 or a power of two up to %u",
                       f->block_bytes, BLOCK_MAX);
    return 0;
}

/* --- operations ----------------------------------------------------------------------------- */

static int check_handler(const struct sluice_handler *h, const char *op, struct err *e)
{
    switch (h->handling) {
    case SLUICE_HANDLED:
        return h->start ? 0 : err_set(e, EINVAL, "handles %s but has no start callback for it", op);
    case SLUICE_UNSEEN:
        return !h->start && !h->completion
                   ? 0
                   : err_set(e, EINVAL, "lets %s pass unseen but has a callback for it", op);
    case SLUICE_FORGOTTEN:
        return err_set(e, EINVAL,
                       "forgets %s: say SLUICE_HANDLE or SLUICE_PASS_UNSEEN for every operation",
                       op);
    default:
        return err_set(e, EINVAL, "says neither handled nor unseen of %s", op);
    }
}

static int check_operations(const struct sluice_filter *f, struct err *e)
{
    for (unsigned op = 0; op < SLUICE_OP_COUNT; op++) {
        int r = check_handler(filter_handler(f, op), engine_op_name(op), e);

        if (r < 0)
            return r;
    }
    return 0;
}

/* Whoever may hold newer data than lies below must say where data is, and bring it where it asks.
 */
static int check_holds_data(const struct sluice_filter *f, struct err *e)
{
    static const unsigned ops[] = {SLUICE_OP_EXTENTS, SLUICE_OP_PREFETCH};

    if (!(f->traits & SLUICE_TRAIT_HOLDS_DATA))
        return 0;
    for (size_t i = 0; i < ARRAY_SIZE(ops); i++)
        if (filter_handler(f, ops[i])->handling != SLUICE_HANDLED)
            return err_set(e, EINVAL, "holds data, so it has to handle %s", engine_op_name(ops[i]));
    return 0;
}

/* --- options -------------------------------------------------------------------------------- */

static int check_words(const struct sluice_option *o, struct err *e)
{
    bool is_enum = o->type == SLUICE_TYPE_ENUM;

    if (is_enum != (o->words != NULL))
        return err_set(e, EINVAL, "option %s: words are for an enum, and an enum needs them",
                       o->name);
    if (is_enum && (o->words[0] == '\0' || o->words[0] == '|' || strstr(o->words, "||") ||
                    o->words[strlen(o->words) - 1] == '|'))
        return err_set(e, EINVAL, "option %s: an empty word in \"%s\"", o->name, o->words);
    return 0;
}

static int check_default(const struct sluice_option *o, struct err *e)
{
    struct sluice_value value;
    struct err why = {0};

    if (!o->default_text)
        return 0;
    if (o->flags & SLUICE_OPTION_REQUIRED)
        return err_set(e, EINVAL, "option %s: is required, so its default is never used", o->name);
    if (o->type == SLUICE_TYPE_SECRET)
        return err_set(e, EINVAL, "option %s: a secret has no default", o->name);
    if (host_parse_value(o, o->default_text, &value, &why) < 0)
        return err_set(e, EINVAL, "the default of %s", why.text);
    return 0;
}

static int check_option(const struct sluice_option *o, struct err *e)
{
    int r;

    if (!is_option_name(o->name))
        return err_set(e, EINVAL, "option \"%s\": a name is [a-z][a-z0-9_]*, nested by dots",
                       o->name);
    if (o->type > SLUICE_TYPE_SECRET)
        return err_set(e, EINVAL, "option %s: there is no type %u", o->name, o->type);
    if (o->flags & ~(SLUICE_OPTION_REQUIRED | SLUICE_OPTION_LIVE | SLUICE_OPTION_TIER))
        return err_set(e, EINVAL, "option %s: has flags that this gateway does not know", o->name);
    if ((o->flags & SLUICE_OPTION_TIER) && o->type != SLUICE_TYPE_STRING)
        return err_set(e, EINVAL, "option %s: the name of a tier is a string", o->name);
    if (!is_sentence(o->help))
        return err_set(e, EINVAL, "option %s: has no help", o->name);
    if (o->maximum && o->maximum < o->minimum)
        return err_set(e, EINVAL, "option %s: its maximum is below its minimum", o->name);
    r = check_words(o, e);
    return r < 0 ? r : check_default(o, e);
}

static int check_options(const struct sluice_filter *f, struct err *e)
{
    unsigned count = filter_option_count(f);

    for (unsigned i = 0; i < count; i++) {
        int r = check_option(&f->options[i], e);

        if (r < 0)
            return r;
        for (unsigned j = 0; j < i; j++)
            if (strcmp(f->options[i].name, f->options[j].name) == 0)
                return err_set(e, EINVAL, "option %s: stands twice in the table",
                               f->options[i].name);
    }
    return 0;
}

/* --- counters and verbs --------------------------------------------------------------------- */

static int check_counters(const struct sluice_filter *f, struct err *e)
{
    for (unsigned i = 0; i < filter_counter_count(f); i++) {
        const struct sluice_counter *c = &f->counters[i];

        if (!is_word(c->name, "_"))
            return err_set(e, EINVAL, "counter \"%s\": a name is [a-z][a-z0-9_]*", c->name);
        if (c->kind > SLUICE_HISTOGRAM_NS || !c->unit || !is_sentence(c->help))
            return err_set(e, EINVAL, "counter %s: kind, unit and help have to be set", c->name);
        for (unsigned j = 0; j < i; j++)
            if (strcmp(c->name, f->counters[j].name) == 0)
                return err_set(e, EINVAL, "counter %s: stands twice in the table", c->name);
    }
    return 0;
}

static int check_verbs(const struct sluice_filter *f, struct err *e)
{
    for (unsigned i = 0; i < filter_verb_count(f); i++) {
        const struct sluice_verb *v = &f->verbs[i];

        if (!is_word(v->name, "-"))
            return err_set(e, EINVAL, "verb \"%s\": a name is [a-z][a-z0-9-]*", v->name);
        if (!v->run || !v->arguments || !is_sentence(v->help))
            return err_set(e, EINVAL, "verb %s: arguments, help and run have to be set", v->name);
        for (unsigned j = 0; j < i; j++)
            if (strcmp(v->name, f->verbs[j].name) == 0)
                return err_set(e, EINVAL, "verb %s: stands twice in the table", v->name);
    }
    return 0;
}

/* --- all of it ------------------------------------------------------------------------------ */

/* Before the version and the name are known to be good, neither can be relied on. */
static const char *name_of(const struct sluice_filter *f)
{
    return f->api_version == SLUICE_FILTER_API_VERSION && f->struct_size >= STRUCT_SIZE_V1 &&
                   f->name && is_word(f->name, "-")
               ? f->name
               : "?";
}

int host_check_filter(const struct sluice_filter *filter, struct err *e)
{
    static int (*const checks[])(const struct sluice_filter *, struct err *) = {
        check_version,    check_name,    check_class,    check_life,  check_operations,
        check_holds_data, check_options, check_counters, check_verbs,
    };

    for (size_t i = 0; i < ARRAY_SIZE(checks); i++) {
        struct err why = {0};

        if (checks[i](filter, &why) < 0)
            return err_set(e, EINVAL, "filter %s: %s", name_of(filter), why.text);
    }
    return 0;
}
