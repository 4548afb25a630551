/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * text: sizes and durations as people write them, and the word they probably meant.
 *
 * Parsing is strict: digits and a unit from the table, nothing before, between or after, so that
 * "10G" (1000s or 1024s?), "1.5s" and "-1" are errors instead of surprises.
 */
#include "base/base.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct unit {
    const char *suffix;
    uint64_t factor;
};

static const struct unit size_units[] = {
    {"", 1},
    {"KiB", 1ull << 10},
    {"MiB", 1ull << 20},
    {"GiB", 1ull << 30},
    {"TiB", 1ull << 40},
    {"PiB", 1ull << 50},
};

static const struct unit duration_units[] = {
    {"ns", 1},          {"us", 1000},         {"ms", 1000000},           {"s", 1000000000},
    {"m", 60000000000}, {"h", 3600000000000}, {"d", 24 * 3600000000000},
};

static const struct unit *find_unit(const struct unit *units, size_t count, const char *suffix)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(units[i].suffix, suffix) == 0)
            return &units[i];
    return NULL;
}

static int parse_with_unit(const char *text, const struct unit *units, size_t count, uint64_t *out)
{
    const struct unit *unit;
    const char *p = text;
    uint64_t value = 0;
    bool overflow = false;

    for (; *p >= '0' && *p <= '9'; p++)
        overflow |= __builtin_mul_overflow(value, 10, &value) ||
                    __builtin_add_overflow(value, (uint64_t)(*p - '0'), &value);
    unit = p == text ? NULL : find_unit(units, count, p);
    if (!unit)
        return -EINVAL;
    if (overflow || __builtin_mul_overflow(value, unit->factor, &value))
        return -ERANGE;
    *out = value;
    return 0;
}

int text_parse_size(const char *text, uint64_t *bytes)
{
    return parse_with_unit(text, size_units, ARRAY_SIZE(size_units), bytes);
}

int text_parse_duration(const char *text, uint64_t *ns)
{
    return parse_with_unit(text, duration_units, ARRAY_SIZE(duration_units), ns);
}

const char *text_size(uint64_t bytes, char buf[32])
{
    const struct unit *unit = &size_units[0];

    for (size_t i = 1; i < ARRAY_SIZE(size_units) && bytes >= size_units[i].factor; i++)
        unit = &size_units[i];
    if (unit->factor == 1)
        snprintf(buf, 32, "%llu bytes", (unsigned long long)bytes);
    else if (bytes % unit->factor == 0)
        snprintf(buf, 32, "%llu %s", (unsigned long long)(bytes / unit->factor), unit->suffix);
    else
        snprintf(buf, 32, "%.1f %s", (double)bytes / (double)unit->factor, unit->suffix);
    return buf;
}

#define CLOSEST_MAX 64

static unsigned min3(unsigned a, unsigned b, unsigned c)
{
    return MIN(MIN(a, b), c);
}

/* Optimal string alignment: insert, delete, replace, or swap two neighbours, each costs 1. */
static unsigned edit_distance(const char *a, size_t a_length, const char *b, size_t b_length)
{
    unsigned rows[3][CLOSEST_MAX + 1];
    unsigned *before = rows[0], *above = rows[1], *row = rows[2], *spare;

    for (size_t j = 0; j <= b_length; j++)
        before[j] = above[j] = (unsigned)j;
    for (size_t i = 1; i <= a_length; i++) {
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= b_length; j++) {
            row[j] = min3(above[j] + 1, row[j - 1] + 1, above[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                row[j] = MIN(row[j], before[j - 2] + 1);
        }
        spare = before;
        before = above;
        above = row;
        row = spare;
    }
    return above[b_length];
}

const char *text_closest(const char *word, const char *const *candidates, size_t count)
{
    size_t length = strlen(word);
    unsigned best_distance = 1 + (unsigned)MAX(length / 3, 1);
    const char *best = NULL;

    if (length == 0 || length > CLOSEST_MAX)
        return NULL;
    for (size_t i = 0; i < count; i++) {
        size_t candidate_length = strlen(candidates[i]);
        unsigned distance;

        if (candidate_length > CLOSEST_MAX)
            continue;
        distance = edit_distance(word, length, candidates[i], candidate_length);
        if (distance < best_distance && distance < candidate_length) {
            best_distance = distance;
            best = candidates[i];
        }
    }
    return best;
}

char *text_printf(const char *fmt, ...)
{
    char *text = NULL;
    va_list args;
    int length;

    va_start(args, fmt);
    length = vasprintf(&text, fmt, args);
    va_end(args);
    return length < 0 ? NULL : text;
}

/* How many bytes the UTF-8 sequence here has (RFC 3629, section 4); 0: it is none. */
static size_t utf8_length(const unsigned char *s)
{
    static const struct {
        unsigned char first, last, second_min, second_max, length;
    } forms[] = {
        {0x01, 0x7f, 0x00, 0xff, 1}, {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
        {0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
        {0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4}};
    unsigned form = 0;

    while (form < ARRAY_SIZE(forms) &&
           (s[0] < forms[form].first || s[0] > forms[form].last || s[1] < forms[form].second_min ||
            s[1] > forms[form].second_max))
        form++;
    if (form == ARRAY_SIZE(forms))
        return 0;
    for (unsigned i = 2; i < forms[form].length; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    return forms[form].length;
}

void text_one_line(char *text)
{
    unsigned char *at = (unsigned char *)text;

    while (*at) {
        size_t length = utf8_length(at);

        if (length == 0 || *at < 0x20 || *at == 0x7f) {
            *at = '?';
            length = 1;
        }
        at += length;
    }
}
