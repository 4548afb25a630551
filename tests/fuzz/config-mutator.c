/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * config-mutator: changes that make sense to a configuration: a word for another, a line more, a
 * line less, a line twice.  The words and lines come from the room's own tables and from those of
 * the filters, so a key that is added is fuzzed from that day on.
 *
 * Every second input goes to libFuzzer's own mutations, which know nothing and so find the rest.
 */
#include "../unit/fake-filters.h"
#include "config/internal.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);

#define OPTIONS_MAX 256
static const struct sluice_option *options[OPTIONS_MAX];
static unsigned option_count;
static unsigned top_count; /* the first of them stand at the left edge of a file */

static void add_option(const struct sluice_option *option)
{
    if (option_count < OPTIONS_MAX)
        options[option_count++] = option;
}

static void add_rows(const struct config_table *table)
{
    for (unsigned i = 0; i < table->count; i++)
        add_option(&table->keys[i].option);
}

static void add_tables_below(const struct config_table *table)
{
    for (unsigned i = 0; i < table->count; i++)
        if (table->keys[i].table) {
            add_rows(table->keys[i].table);
            add_tables_below(table->keys[i].table);
        }
}

static void add_filters(void)
{
    struct config_lookup lookup;
    const char **names;

    fake_lookup(&lookup, 0);
    names = lookup.filter_names(lookup.context);
    for (unsigned i = 0; names && names[i]; i++) {
        struct err e = {0};
        const struct sluice_filter *filter = lookup.find_filter(lookup.context, names[i], &e);

        for (unsigned o = 0; filter && filter->options && filter->options[o].name; o++)
            add_option(&filter->options[o]);
    }
    free(names);
}

static void collect_options(void)
{
    if (option_count > 0)
        return;
    add_rows(&config_gateway_table);
    add_rows(&config_disk_table);
    top_count = option_count;
    add_tables_below(&config_gateway_table);
    add_tables_below(&config_disk_table);
    add_rows(&config_instance_table);
    add_filters();
}

/* --- chance ------------------------------------------------------------------------------------
 */

static unsigned roll(unsigned *seed, unsigned sides)
{
    *seed = *seed * 1664525u + 1013904223u;
    return sides ? (*seed >> 8) % sides : 0;
}

static const char *roll_value(unsigned *seed, const struct sluice_option *option, char buf[64])
{
    static const char *const values[] = {
        "true",       "false",     "off",     "0",       "1",         "7",        "1GiB",
        "4096",       "0s",        "5s",      "10MiB/s", "a",         "b",        "gold",
        "[]",         "{}",        "~",       "\"\"",    "\"a b\"",   "[a, b]",   "/dev/null",
        "10.0.0.0/8", "nbd://h/e", "unix:/s", "[::1]:1", "0.0.0.0:1", "{ a: b }", "\"1\"",
    };
    struct words words;

    if (option && option->type == SLUICE_TYPE_BOOL)
        return roll(seed, 2) ? "true" : "false";
    words_split(&words, option ? option->words : NULL);
    if (words.count > 0) {
        snprintf(buf, 64, "%s", words.word[roll(seed, words.count)]);
        return buf;
    }
    return values[roll(seed, ARRAY_SIZE(values))];
}

/* The start of a random line. */
static size_t roll_line(unsigned *seed, const uint8_t *data, size_t size)
{
    size_t at = roll(seed, (unsigned)size + 1);

    while (at > 0 && data[at - 1] != '\n')
        at--;
    return at;
}

static size_t line_length(const uint8_t *data, size_t size, size_t at)
{
    const uint8_t *newline = memchr(data + at, '\n', size - at);

    return newline ? (size_t)(newline - (data + at)) + 1 : size - at;
}

/* --- changes -----------------------------------------------------------------------------------
 */

/* Puts `length` bytes in place of `old` bytes; unchanged when there is no room. */
static size_t splice(uint8_t *data, size_t size, size_t max_size, size_t at, size_t old,
                     const void *bytes, size_t length)
{
    if (size - old + length > max_size)
        return size;
    memmove(data + at + length, data + at + old, size - at - old);
    memcpy(data + at, bytes, length);
    return size - old + length;
}

static size_t add_line(uint8_t *data, size_t size, size_t max_size, unsigned *seed)
{
    size_t at = roll_line(seed, data, size), indent = 0;
    const struct sluice_option *option;
    char buf[64], line[256];

    while (at + indent < size && data[at + indent] == ' ' && indent < 40)
        indent++;
    option = options[roll(seed, indent ? option_count : top_count)];
    snprintf(line, sizeof line, "%*s%s: %s\n", (int)indent, "", option->name,
             roll_value(seed, option, buf));
    return splice(data, size, max_size, at, 0, line, strlen(line));
}

static size_t drop_line(uint8_t *data, size_t size, size_t max_size, unsigned *seed)
{
    size_t at = roll_line(seed, data, size);

    return splice(data, size, max_size, at, line_length(data, size, at), "", 0);
}

static size_t double_line(uint8_t *data, size_t size, size_t max_size, unsigned *seed)
{
    size_t at = roll_line(seed, data, size), length = line_length(data, size, at);
    uint8_t line[512];

    length = MIN(length, sizeof line);
    memcpy(line, data + at, length);
    return splice(data, size, max_size, roll_line(seed, data, size), 0, line, length);
}

static bool is_word(uint8_t c)
{
    return isalnum(c) || c == '_' || c == '-';
}

static size_t change_word(uint8_t *data, size_t size, size_t max_size, unsigned *seed)
{
    const struct sluice_option *option = options[roll(seed, option_count)];
    size_t at = roll(seed, (unsigned)size), length = 0;
    char buf[64];
    const char *word = roll(seed, 3) == 0 ? option->name : roll_value(seed, option, buf);

    while (at > 0 && is_word(data[at - 1]))
        at--;
    while (at + length < size && is_word(data[at + length]))
        length++;
    return splice(data, size, max_size, at, length, word, strlen(word));
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    static size_t (*const changes[])(uint8_t *, size_t, size_t, unsigned *) = {
        add_line, add_line, drop_line, double_line, change_word, change_word};

    collect_options();
    if (size == 0 || roll(&seed, 2) == 0)
        return LLVMFuzzerMutate(data, size, max_size);
    size = changes[roll(&seed, ARRAY_SIZE(changes))](data, size, max_size, &seed);
    return size ? size : 1;
}
