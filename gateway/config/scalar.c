/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * scalar: the nine types of option that sluice-filter.h knows, from text and back.
 *
 * The option's type alone decides what a scalar means.  Text that the rest of the world would read
 * as another type (a number, true, null: YAML 1.2 core schema) is refused where a string is wanted,
 * so that an editor with the JSON Schema and this loader never disagree.
 */
#include "config/internal.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define SIZE_PATTERN "^[0-9]+(KiB|MiB|GiB|TiB|PiB)?$"
#define RATE_PATTERN "^[0-9]+(KiB|MiB|GiB|TiB|PiB)?(/s)?$"
#define DURATION_PATTERN "^[0-9]+(ns|us|ms|s|m|h|d)$"

bool expect_scalar(struct binder *b, const struct config_node *node, const char *noun)
{
    if (node->kind != NODE_SCALAR)
        binder_say(b, &node->at, "expected %s, not a %s", noun,
                   node->kind == NODE_MAP ? "map" : "list");
    else if (node_is_null(node))
        binder_say(b, &node->at, "has no value; expected %s", noun);
    return node->kind == NODE_SCALAR && !node_is_null(node);
}

const char *path_resolve(struct binder *b, const char *path)
{
    return path[0] == '/' ? arena_strndup(b->arena, path, strlen(path))
                          : arena_printf(b->arena, "%s/%s", b->folder, path);
}

/* --- from text ---------------------------------------------------------------------------------
 */

/* One row a type: how its text becomes a value. -EINVAL: not such a text; -ERANGE: it does not fit
 * into 63 bits. Nothing has been said yet. */
struct scalar_type {
    const char *noun;
    int (*parse)(struct binder *b, const struct sluice_option *option,
                 const struct config_node *node, struct sluice_value *out);
    const char *(*print)(struct arena *arena, const struct sluice_option *option,
                         const struct sluice_value *value);
    const char *json_type, *pattern;
    bool is_number; /* has a range */
};

static int parse_bool(struct binder *b, const struct sluice_option *option,
                      const struct config_node *node, struct sluice_value *out)
{
    (void)b, (void)option;
    out->integer = strcmp(node->text, "true") == 0;
    return node->is_plain && (out->integer || strcmp(node->text, "false") == 0) ? 0 : -EINVAL;
}

static int parse_integer(struct binder *b, const struct sluice_option *option,
                         const struct config_node *node, struct sluice_value *out)
{
    const char *digits = node->text + (node->text[0] == '-');
    size_t length = strspn(digits, "0123456789");

    (void)b, (void)option;
    if (!node->is_plain || length == 0 || digits[length] != '\0')
        return -EINVAL;
    if (digits[0] == '0' && length > 1) /* octal to YAML 1.1 */
        return -EINVAL;
    errno = 0;
    out->integer = strtoll(node->text, NULL, 10);
    return -errno;
}

static int take_unsigned(int error, uint64_t value, struct sluice_value *out)
{
    out->integer = (int64_t)value;
    return error == 0 && value > INT64_MAX ? -ERANGE : error;
}

static int parse_size(struct binder *b, const struct sluice_option *option,
                      const struct config_node *node, struct sluice_value *out)
{
    uint64_t bytes = 0;
    int r = text_parse_size(node->text, &bytes);

    (void)b, (void)option;
    return take_unsigned(r, bytes, out);
}

static int parse_rate(struct binder *b, const struct sluice_option *option,
                      const struct config_node *node, struct sluice_value *out)
{
    size_t length = strlen(node->text);
    uint64_t bytes = 0;
    int r;

    (void)option;
    if (length > 2 && strcmp(node->text + length - 2, "/s") == 0)
        length -= 2;
    r = text_parse_size(arena_strndup(b->arena, node->text, length), &bytes);
    return take_unsigned(r, bytes, out);
}

static int parse_duration(struct binder *b, const struct sluice_option *option,
                          const struct config_node *node, struct sluice_value *out)
{
    uint64_t ns = 0;
    int r = text_parse_duration(node->text, &ns);

    (void)b, (void)option;
    return take_unsigned(r, ns, out);
}

static int parse_enum(struct binder *b, const struct sluice_option *option,
                      const struct config_node *node, struct sluice_value *out)
{
    struct words words;

    words_split(&words, option->words);
    for (unsigned i = 0; i < words.count; i++)
        if (strcmp(words.word[i], node->text) == 0) {
            out->integer = i;
            out->string = arena_strndup(b->arena, node->text, strlen(node->text));
            return 0;
        }
    return -EINVAL;
}

/* YAML 1.2, 10.3.2: what is not a string without quotes. */
static bool is_other_type(const char *text)
{
    static const char *const words[] = {"true",  "True",  "TRUE",  "false", "False", "FALSE",
                                        ".nan",  ".NaN",  ".NAN",  ".inf",  ".Inf",  ".INF",
                                        "-.inf", "-.Inf", "-.INF", "+.inf", "+.Inf", "+.INF"};
    const char *p = text + (*text == '-' || *text == '+');
    bool has_digit = false;

    for (size_t i = 0; i < ARRAY_SIZE(words); i++)
        if (strcmp(text, words[i]) == 0)
            return true;
    if (p[0] == '0' && p[1] == 'x' && p[2])
        return p[2 + strspn(p + 2, "0123456789abcdefABCDEF")] == '\0';
    if (p[0] == '0' && p[1] == 'o' && p[2])
        return p[2 + strspn(p + 2, "01234567")] == '\0';
    for (; isdigit((unsigned char)*p); p++)
        has_digit = true;
    if (*p == '.')
        for (p++; isdigit((unsigned char)*p); p++)
            has_digit = true;
    if (has_digit && (*p == 'e' || *p == 'E')) {
        p += 1 + (p[1] == '-' || p[1] == '+');
        if (!isdigit((unsigned char)*p))
            return false;
        p += strspn(p, "0123456789");
    }
    return has_digit && *p == '\0';
}

static bool is_string(struct binder *b, const struct config_node *node)
{
    if (!node->is_plain || !is_other_type(node->text))
        return true;
    binder_say(b, &node->at, "%s without quotes is not text to YAML: write \"%s\"", node->text,
               node->text);
    return false;
}

static int parse_string(struct binder *b, const struct sluice_option *option,
                        const struct config_node *node, struct sluice_value *out)
{
    (void)option;
    out->string = arena_strndup(b->arena, node->text, strlen(node->text));
    return 0;
}

static int parse_path(struct binder *b, const struct sluice_option *option,
                      const struct config_node *node, struct sluice_value *out)
{
    (void)option;
    out->string = path_resolve(b, node->text);
    return node->text[0] != '\0' ? 0 : -EINVAL;
}

/* --- back to text ------------------------------------------------------------------------------
 */

struct scale {
    const char *suffix;
    int64_t factor;
};

static const char *print_scaled(struct arena *arena, int64_t value, const struct scale *scales,
                                size_t count, const char *tail)
{
    const struct scale *scale = &scales[0];

    for (size_t i = 1; i < count && value != 0; i++)
        if (value % scales[i].factor == 0)
            scale = &scales[i];
    return arena_printf(arena, "%" PRId64 "%s%s", value / scale->factor, scale->suffix, tail);
}

static const struct scale size_scales[] = {{"", 1},
                                           {"KiB", 1ll << 10},
                                           {"MiB", 1ll << 20},
                                           {"GiB", 1ll << 30},
                                           {"TiB", 1ll << 40},
                                           {"PiB", 1ll << 50}};
static const struct scale duration_scales[] = {{"ns", 1},          {"us", 1000},
                                               {"ms", 1000000},    {"s", 1000000000},
                                               {"m", 60000000000}, {"h", 3600000000000}};

static const char *print_bool(struct arena *arena, const struct sluice_option *option,
                              const struct sluice_value *value)
{
    (void)arena, (void)option;
    return value->integer ? "true" : "false";
}

static const char *print_integer(struct arena *arena, const struct sluice_option *option,
                                 const struct sluice_value *value)
{
    (void)option;
    return arena_printf(arena, "%" PRId64, value->integer);
}

static const char *print_size(struct arena *arena, const struct sluice_option *option,
                              const struct sluice_value *value)
{
    (void)option;
    return print_scaled(arena, value->integer, size_scales, ARRAY_SIZE(size_scales), "");
}

static const char *print_rate(struct arena *arena, const struct sluice_option *option,
                              const struct sluice_value *value)
{
    (void)option;
    return print_scaled(arena, value->integer, size_scales, ARRAY_SIZE(size_scales), "/s");
}

static const char *print_duration(struct arena *arena, const struct sluice_option *option,
                                  const struct sluice_value *value)
{
    (void)option;
    if (value->integer == 0)
        return "0s";
    return print_scaled(arena, value->integer, duration_scales, ARRAY_SIZE(duration_scales), "");
}

static const char *print_enum(struct arena *arena, const struct sluice_option *option,
                              const struct sluice_value *value)
{
    struct words words;

    words_split(&words, option->words);
    if (value->integer < 0 || value->integer >= words.count)
        return "";
    return arena_printf(arena, "%s", words.word[value->integer]);
}

static const char *print_string(struct arena *arena, const struct sluice_option *option,
                                const struct sluice_value *value)
{
    (void)arena, (void)option;
    return value->string ? value->string : "";
}

static const struct scalar_type scalar_types[] = {
    [SLUICE_TYPE_BOOL] = {"true or false", parse_bool, print_bool, "boolean", NULL, false},
    [SLUICE_TYPE_INTEGER] = {"a whole number", parse_integer, print_integer, "integer", NULL, true},
    [SLUICE_TYPE_SIZE] = {"a size (512, 64KiB, 10GiB)", parse_size, print_size, NULL, SIZE_PATTERN,
                          true},
    [SLUICE_TYPE_DURATION] = {"a duration (500ms, 5s, 2m)", parse_duration, print_duration,
                              "string", DURATION_PATTERN, true},
    [SLUICE_TYPE_RATE] = {"a rate (10MiB/s)", parse_rate, print_rate, NULL, RATE_PATTERN, true},
    [SLUICE_TYPE_STRING] = {"text", parse_string, print_string, "string", NULL, false},
    [SLUICE_TYPE_ENUM] = {"a word", parse_enum, print_enum, "string", NULL, false},
    [SLUICE_TYPE_PATH] = {"a path", parse_path, print_string, "string", "^.", false},
    [SLUICE_TYPE_SECRET] = {"the path of a secret file", parse_path, print_string, "string", "^.",
                            false},
};

const char *scalar_noun(uint32_t type)
{
    return scalar_types[type].noun;
}

/* "10G" -> "10GiB", for those who count in the units of other programs. */
static const char *suggest_unit(struct binder *b, const char *text, bool is_rate)
{
    size_t digits = strspn(text, "0123456789"), letters = strcspn(text, "/");
    char unit = (char)toupper((unsigned char)text[digits]);
    const char *tail = text + letters;
    const char *rest =
        letters > digits ? arena_strndup(b->arena, text + digits + 1, letters - digits - 1) : "";

    if (digits == 0 || digits > 18 || unit == '\0' || !strchr("KMGTP", unit) ||
        (*rest && strcasecmp(rest, "b") != 0 && strcasecmp(rest, "ib") != 0) ||
        (*tail && (!is_rate || strcmp(tail, "/s") != 0)))
        return "";
    return arena_printf(b->arena, " (did you mean \"%.*s%ciB%s\"?)", (int)digits, text, unit, tail);
}

static void say_unknown_word(struct binder *b, const struct sluice_option *option,
                             const struct config_node *node)
{
    struct builder list = {.arena = b->arena};
    struct words words;
    const char *closest;

    words_split(&words, option->words);
    closest = binder_suggest(b, node->text, words.word, words.count);
    for (unsigned i = 0; i < words.count; i++) {
        builder_add(&list, i ? ", " : "");
        builder_add(&list, words.word[i]);
    }
    if (*closest == '\0')
        closest = arena_printf(b->arena, " (one of %s)", builder_text(&list));
    binder_say(b, &node->at, "unknown value %s%s", binder_quote(b, node->text), closest);
}

static void say_not_parsed(struct binder *b, const struct sluice_option *option,
                           const struct config_node *node)
{
    const char *hint = "";

    if (option->type == SLUICE_TYPE_ENUM) {
        say_unknown_word(b, option, node);
        return;
    }
    if (option->type == SLUICE_TYPE_SIZE || option->type == SLUICE_TYPE_RATE)
        hint = suggest_unit(b, node->text, option->type == SLUICE_TYPE_RATE);
    else if (option->type == SLUICE_TYPE_INTEGER && !node->is_plain)
        hint = " (without quotes)";
    binder_say(b, &node->at, "expected %s, not %s%s", scalar_types[option->type].noun,
               binder_quote(b, node->text), hint);
}

static bool is_in_range(struct binder *b, const struct sluice_option *option,
                        const struct config_node *node, const struct sluice_value *value)
{
    struct sluice_value limit = {.is_set = true};

    if (!scalar_types[option->type].is_number || (option->minimum == 0 && option->maximum == 0))
        return true;
    if (value->integer < option->minimum) {
        limit.integer = option->minimum;
        binder_say(b, &node->at, "%s is less than %s, the least", node->text,
                   scalar_print(b->arena, option, &limit));
        return false;
    }
    if (option->maximum > option->minimum && value->integer > option->maximum) {
        limit.integer = option->maximum;
        binder_say(b, &node->at, "%s is more than %s, the most", node->text,
                   scalar_print(b->arena, option, &limit));
        return false;
    }
    return true;
}

/* A secret that others can read is none: like ssh, refuse rather than warn. */
static bool is_secret_file(struct binder *b, const struct config_node *node, const char *path)
{
    struct stat st;

    if (stat(path, &st) < 0) {
        binder_say(b, &node->at, "%s: %s", node->text, strerror(errno));
        return false;
    }
    if (!S_ISREG(st.st_mode)) {
        binder_say(b, &node->at, "%s is not a file", node->text);
        return false;
    }
    if (st.st_mode & 077) {
        binder_say(b, &node->at, "others can read %s (mode %04o): chmod 600 it", node->text,
                   (unsigned)st.st_mode & 07777);
        return false;
    }
    return true;
}

static bool needs_quotes(uint32_t type)
{
    return type == SLUICE_TYPE_STRING || type == SLUICE_TYPE_PATH || type == SLUICE_TYPE_SECRET;
}

bool scalar_bind(struct binder *b, const struct sluice_option *option,
                 const struct config_node *node, struct sluice_value *out)
{
    int r;

    if (!expect_scalar(b, node, scalar_types[option->type].noun))
        return false;
    if (needs_quotes(option->type) && !is_string(b, node))
        return false;
    r = scalar_types[option->type].parse(b, option, node, out);
    if (r == -ERANGE)
        binder_say(b, &node->at, "%s is too large", binder_quote(b, node->text));
    else if (r < 0)
        say_not_parsed(b, option, node);
    if (r < 0)
        return false;
    if (!is_in_range(b, option, node, out))
        return false;
    if (option->type == SLUICE_TYPE_SECRET && !is_secret_file(b, node, out->string))
        return false;
    out->is_set = true;
    return true;
}

bool scalar_bind_default(struct binder *b, const struct sluice_option *option,
                         struct sluice_value *out)
{
    struct config_node *node;

    if (!option->default_text)
        return false;
    node = node_make_scalar(b->arena, option->default_text);
    if (!node)
        return false;
    node->is_plain = !needs_quotes(option->type);
    return scalar_bind(b, option, node, out);
}

const char *scalar_print(struct arena *arena, const struct sluice_option *option,
                         const struct sluice_value *value)
{
    return scalar_types[option->type].print(arena, option, value);
}

/* --- JSON Schema -------------------------------------------------------------------------------
 */

static json_t *words_schema(const char *text)
{
    struct words words;
    json_t *list = json_array();

    words_split(&words, text);
    for (unsigned i = 0; i < words.count; i++)
        json_array_append_new(list, json_string(words.word[i]));
    return list;
}

json_t *scalar_schema(const struct sluice_option *option)
{
    const struct scalar_type *type = &scalar_types[option->type];
    json_t *schema = json_object();

    if (type->json_type)
        json_object_set_new(schema, "type", json_string(type->json_type));
    else
        json_object_set_new(schema, "type", json_pack("[s,s]", "integer", "string"));
    if (option->type == SLUICE_TYPE_ENUM)
        json_object_set_new(schema, "enum", words_schema(option->words));
    if (type->pattern)
        json_object_set_new(schema, "pattern", json_string(type->pattern));
    if (type->is_number && option->type != SLUICE_TYPE_DURATION &&
        (option->minimum != 0 || option->maximum != 0))
        json_object_set_new(schema, "minimum", json_integer(option->minimum));
    else if (!type->json_type)
        json_object_set_new(schema, "minimum", json_integer(0));
    if (type->is_number && option->type != SLUICE_TYPE_DURATION &&
        option->maximum > option->minimum)
        json_object_set_new(schema, "maximum", json_integer(option->maximum));
    return schema;
}
