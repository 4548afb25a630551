/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * values.c: a filter's options from words of text ("guard=1MiB"), for `filter try`, the kit and
 * tests.  The configuration binds YAML to the same tables on its own, with places and policies.
 */
#include "internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

const char *option_type_name(uint32_t type)
{
    static const char *const names[] = {
        [SLUICE_TYPE_BOOL] = "bool",     [SLUICE_TYPE_INTEGER] = "integer",
        [SLUICE_TYPE_SIZE] = "size",     [SLUICE_TYPE_DURATION] = "duration",
        [SLUICE_TYPE_RATE] = "rate",     [SLUICE_TYPE_STRING] = "string",
        [SLUICE_TYPE_ENUM] = "enum",     [SLUICE_TYPE_PATH] = "path",
        [SLUICE_TYPE_SECRET] = "secret",
    };

    return type < ARRAY_SIZE(names) ? names[type] : "unknown";
}

/* --- one value: each returns 0 or -EINVAL / -ERANGE without a sentence ---------------------------
 */

static int parse_bool(const struct sluice_option *o, const char *text, struct sluice_value *out)
{
    (void)o;
    out->integer = strcmp(text, "true") == 0;
    return out->integer || strcmp(text, "false") == 0 ? 0 : -EINVAL;
}

static int parse_integer(const struct sluice_option *o, const char *text, struct sluice_value *out)
{
    char *end;

    (void)o;
    errno = 0;
    out->integer = strtoll(text, &end, 10);
    if (end == text || *end || text[0] == ' ' || text[0] == '+')
        return -EINVAL;
    return errno ? -ERANGE : 0;
}

static int take(int r, uint64_t number, struct sluice_value *out)
{
    out->integer = (int64_t)number;
    return r == 0 && number > INT64_MAX ? -ERANGE : r;
}

static int parse_size(const struct sluice_option *o, const char *text, struct sluice_value *out)
{
    uint64_t bytes = 0;
    int r = text_parse_size(text, &bytes);

    (void)o;
    return take(r, bytes, out);
}

static int parse_rate(const struct sluice_option *o, const char *text, struct sluice_value *out)
{
    size_t length = strlen(text);
    char bytes[64];

    if (length > 2 && strcmp(text + length - 2, "/s") == 0)
        length -= 2;
    if (length >= sizeof bytes)
        return -EINVAL;
    memcpy(bytes, text, length);
    bytes[length] = '\0';
    return parse_size(o, bytes, out);
}

static int parse_duration(const struct sluice_option *o, const char *text, struct sluice_value *out)
{
    uint64_t ns = 0;
    int r = text_parse_duration(text, &ns);

    (void)o;
    return take(r, ns, out);
}

static int parse_string(const struct sluice_option *o, const char *text, struct sluice_value *out)
{
    out->string = text;
    return text[0] || o->type == SLUICE_TYPE_STRING ? 0 : -EINVAL;
}

static int parse_enum(const struct sluice_option *o, const char *text, struct sluice_value *out)
{
    size_t length = strlen(text);
    const char *word = o->words;

    out->string = text;
    for (int64_t i = 0; *word; i++) {
        size_t n = strcspn(word, "|");

        if (n == length && memcmp(word, text, n) == 0) {
            out->integer = i;
            return 0;
        }
        word += n + (word[n] == '|');
    }
    return -EINVAL;
}

static const struct {
    const char *noun;
    int (*parse)(const struct sluice_option *o, const char *text, struct sluice_value *out);
    bool is_number;
} types[] = {
    [SLUICE_TYPE_BOOL] = {"true or false", parse_bool, false},
    [SLUICE_TYPE_INTEGER] = {"a whole number", parse_integer, true},
    [SLUICE_TYPE_SIZE] = {"a size (512, 64KiB, 10GiB)", parse_size, true},
    [SLUICE_TYPE_DURATION] = {"a duration (500ms, 5s, 2m)", parse_duration, true},
    [SLUICE_TYPE_RATE] = {"a rate (10MiB/s)", parse_rate, true},
    [SLUICE_TYPE_STRING] = {"text", parse_string, false},
    [SLUICE_TYPE_ENUM] = {"one of", parse_enum, false},
    [SLUICE_TYPE_PATH] = {"a path", parse_string, false},
    [SLUICE_TYPE_SECRET] = {"the path of a secret file", parse_string, false},
};

static int check_range(const struct sluice_option *o, const char *text, int64_t value,
                       struct err *e)
{
    if (!types[o->type].is_number || (o->minimum == 0 && o->maximum == 0))
        return 0;
    if (value < o->minimum)
        return err_set(e, ERANGE, "%s: %s is less than the least, %lld", o->name, text,
                       (long long)o->minimum);
    if (o->maximum > o->minimum && value > o->maximum)
        return err_set(e, ERANGE, "%s: %s is more than the most, %lld", o->name, text,
                       (long long)o->maximum);
    return 0;
}

/* A secret that others can read is none. */
static int check_secret(const struct sluice_option *o, const char *path, struct err *e)
{
    struct stat st;

    if (o->type != SLUICE_TYPE_SECRET)
        return 0;
    if (stat(path, &st) < 0)
        return err_set(e, errno, "%s: %s: %s", o->name, path, strerror(errno));
    if (!S_ISREG(st.st_mode) || (st.st_mode & 077))
        return err_set(e, EACCES, "%s: %s has to be a file that only its owner can read", o->name,
                       path);
    return 0;
}

int host_parse_value(const struct sluice_option *option, const char *text, struct sluice_value *out,
                     struct err *e)
{
    int r;

    *out = (struct sluice_value){.is_set = true};
    r = types[option->type].parse(option, text, out);
    if (r < 0)
        return err_set(e, -r, "%s: expected %s%s%s, not \"%s\"", option->name,
                       types[option->type].noun, option->words ? " " : "",
                       option->words ? option->words : "", text);
    r = check_range(option, text, out->integer, e);
    return r < 0 ? r : check_secret(option, text, e);
}

/* --- a whole set ---------------------------------------------------------------------------- */

static const struct sluice_option *find_option(const struct sluice_filter *filter, const char *name,
                                               size_t length, struct err *e)
{
    const char *names[64], *closest;
    unsigned count = filter_option_count(filter);
    char word[64];

    for (unsigned i = 0; i < count; i++)
        if (strlen(filter->options[i].name) == length &&
            memcmp(filter->options[i].name, name, length) == 0)
            return &filter->options[i];
    for (unsigned i = 0; i < MIN(count, (unsigned)ARRAY_SIZE(names)); i++)
        names[i] = filter->options[i].name;
    snprintf(word, sizeof word, "%.*s", (int)MIN(length, sizeof word - 1), name);
    closest = text_closest(word, names, MIN(count, ARRAY_SIZE(names)));
    (void)err_set(e, EINVAL, "filter %s: no option \"%s\"%s%s%s", filter->name, word,
                  closest ? " (did you mean " : "", closest ? closest : "", closest ? "?)" : "");
    return NULL;
}

static int set_defaults(const struct sluice_filter *filter, struct sluice_value *values,
                        struct err *e)
{
    int r = 0;

    for (unsigned i = 0; i < filter_option_count(filter) && r == 0; i++)
        if (filter->options[i].default_text)
            r = host_parse_value(&filter->options[i], filter->options[i].default_text, &values[i],
                                 e);
    return r;
}

/* word: within the block, so that strings live as long as it. */
static int set_one(const struct sluice_filter *filter, const char *word,
                   struct sluice_value *values, struct err *e)
{
    const char *equals = strchr(word, '=');
    const struct sluice_option *option;
    int r;

    if (!equals)
        return err_set(e, EINVAL, "filter %s: expected option=value, not \"%s\"", filter->name,
                       word);
    option = find_option(filter, word, (size_t)(equals - word), e);
    if (!option)
        return -e->code;
    r = host_parse_value(option, equals + 1, &values[option - filter->options], e);
    return r < 0 ? err_context(e, "filter %s", filter->name) : 0;
}

static int check_required(const struct sluice_filter *filter, const struct sluice_value *values,
                          struct err *e)
{
    for (unsigned i = 0; i < filter_option_count(filter); i++)
        if ((filter->options[i].flags & SLUICE_OPTION_REQUIRED) && !values[i].is_set)
            return err_set(e, EINVAL, "filter %s: option %s is required", filter->name,
                           filter->options[i].name);
    return 0;
}

static size_t text_bytes(const char *const *words, unsigned count)
{
    size_t bytes = 0;

    for (unsigned i = 0; i < count; i++)
        bytes += strlen(words[i]) + 1;
    return bytes;
}

int host_parse_values(const struct sluice_filter *filter, const char *const *words, unsigned count,
                      struct sluice_value **out, struct err *e)
{
    unsigned options = filter_option_count(filter);
    size_t table = (options + 1) * sizeof **out;
    CLEANUP_FREE struct sluice_value *values = calloc(1, table + text_bytes(words, count));
    struct err own = {0};
    char *text;
    int r;

    e = e ? e : &own;
    if (!values)
        return err_set(e, ENOMEM, "filter %s: out of memory", filter->name);
    text = (char *)values + table;
    r = set_defaults(filter, values, e);
    for (unsigned i = 0; i < count && r == 0; i++) {
        r = set_one(filter, strcpy(text, words[i]), values, e);
        text += strlen(words[i]) + 1;
    }
    if (r == 0)
        r = check_required(filter, values, e);
    if (r < 0)
        return r;
    *out = values;
    values = NULL;
    return 0;
}
