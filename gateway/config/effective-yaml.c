/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * effective-yaml: the policy a disk ends up with, as YAML, each value with the place it comes from.
 *
 * What is printed is itself a disk file: loaded again it means the same, without any policy.
 */
#include "config/effective.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define COMMENT_COLUMN 40

struct yaml_teller {
    FILE *out;
    struct arena *arena;
    unsigned indent;
    bool begins_item; /* the next line is the first of a list's item */
};

/* Of UTF-8 characters that are more than one byte, those that a reader of YAML refuses (5.1: not
 * printable) or takes for a line break. */
static const struct escape {
    const char *character, *escaped;
} escapes[] = {{"\xe2\x80\xa8", "\\u2028"},
               {"\xe2\x80\xa9", "\\u2029"},
               {"\xef\xbb\xbf", "\\ufeff"},
               {"\xef\xbf\xbe", "\\ufffe"},
               {"\xef\xbf\xbf", "\\uffff"}};

static const struct escape *find_escape(const char *text)
{
    for (size_t i = 0; i < ARRAY_SIZE(escapes); i++)
        if (strncmp(text, escapes[i].character, 3) == 0)
            return &escapes[i];
    return NULL;
}

/* U+0080 to U+009F: controls, one of them a line break. */
static bool is_c1(const char *text)
{
    unsigned char next = (unsigned char)text[1];

    return (unsigned char)*text == 0xc2 && next >= 0x80 && next < 0xa0;
}

/* Of one character, or its first byte: how many bytes were taken. */
static size_t quote_character(char **out, const char *text)
{
    const struct escape *escape = find_escape(text);
    unsigned char c = (unsigned char)*text;

    if (c < 0x20 || c == 0x7f)
        *out += sprintf(*out, "\\x%02x", c);
    else if (is_c1(text))
        *out += sprintf(*out, "\\x%02x", (unsigned char)text[1]);
    else if (escape)
        *out += sprintf(*out, "%s", escape->escaped);
    else if (c == '"' || c == '\\')
        *out += sprintf(*out, "\\%c", c);
    else
        *(*out)++ = (char)c;
    return escape ? 3 : is_c1(text) ? 2 : 1;
}

/* YAML 1.2, 5.7: the escapes of double quotes. */
const char *yaml_quote(struct arena *arena, const char *text)
{
    char *out = arena_alloc(arena, 4 * strlen(text) + 3), *p = out;

    if (!out)
        return "";
    *p++ = '"';
    while (*text)
        text += quote_character(&p, text);
    *p = '"';
    return out;
}

static const char *key_text(struct yaml_teller *t, const char *key)
{
    static const char simple[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";

    return key[0] != '-' && key[0] != '\0' && key[strspn(key, simple)] == '\0'
               ? key
               : yaml_quote(t->arena, key);
}

/* "KEY: TEXT", in a list "- TEXT"; text "": what follows stands below it. */
static void write_line(struct yaml_teller *t, const struct effective_value *v, const char *text)
{
    unsigned indent = t->indent - (t->begins_item ? 2 : 0);
    const char *line = arena_printf(
        t->arena, "%s%s%s%s", t->begins_item ? "- " : "",
        v->key ? arena_printf(t->arena, "%s:", key_text(t, v->key)) : "-", *text ? " " : "", text);
    int width = (int)(indent + strlen(line));

    t->begins_item = false;
    if (v->origin)
        fprintf(t->out, "%*s%s%*s # %s\n", (int)indent, "", line,
                width < COMMENT_COLUMN ? COMMENT_COLUMN - width : 0, "", v->origin);
    else
        fprintf(t->out, "%*s%s\n", (int)indent, "", line);
}

static void tell_value(void *teller, const struct effective_value *v)
{
    struct yaml_teller *t = teller;

    write_line(t, v,
               v->is_plain && !strchr(v->text, '\n') ? v->text : yaml_quote(t->arena, v->text));
}

/* A map in a list begins on the line of its first key; a list in a list has no such short form. */
static void tell_begin(void *teller, const struct effective_value *v)
{
    struct yaml_teller *t = teller;

    if (v->key || v->kind != NODE_MAP || t->begins_item)
        write_line(t, v, "");
    else
        t->begins_item = true;
    t->indent += 2;
}

static void tell_end(void *teller)
{
    struct yaml_teller *t = teller;

    t->indent -= 2;
}

static void tell_empty(void *teller, const struct effective_value *v)
{
    write_line(teller, v, v->kind == NODE_LIST ? "[]" : "{}");
}

int config_print_effective(FILE *out, const struct gateway_config *config, const char *name,
                           struct err *e)
{
    static const struct effective_teller ops = {tell_value, tell_begin, tell_end, tell_empty};
    struct yaml_teller teller = {.out = out};
    const struct disk_config *disk = effective_begin(config, name, &teller.arena, e);

    if (!disk)
        return -e->code;
    fprintf(out, "# disk %s: %s%s%s\n", disk->name, disk->origin.file,
            disk->policy ? " over the policy " : "", disk->policy ? disk->policy : "");
    effective_walk(&ops, &teller, teller.arena, config, disk);
    arena_destroy(teller.arena);
    return ferror(out) ? err_set(e, EIO, "cannot write") : 0;
}
