/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * problems: sentences about what is wrong, each with its place and key path.
 *
 * Text from files goes into them, so control characters are replaced and long values shortened: a
 * problem is one line whatever a file holds.  A value of a policy is looked at once for each disk
 * that starts from it; the same problem twice is kept once.
 */
#include "config/internal.h"

#include <stdio.h>
#include <string.h>

static bool is_same(const struct config_problem *a, const struct config_problem *b)
{
    return a->line == b->line && a->column == b->column && strcmp(a->file, b->file) == 0 &&
           strcmp(a->text, b->text) == 0;
}

static void add(struct config_problems *problems, const struct config_problem *problem)
{
    for (unsigned i = 0; i < problems->count; i++)
        if (is_same(&problems->problem[i], problem))
            return;
    if (problems->count < CONFIG_PROBLEMS_MAX)
        problems->problem[problems->count++] = *problem;
    else
        problems->dropped++;
}

static void say(struct binder *b, const struct config_origin *at, const char *path, const char *fmt,
                va_list args) __attribute__((format(printf, 4, 0)));
static void say(struct binder *b, const struct config_origin *at, const char *path, const char *fmt,
                va_list args)
{
    struct config_problem problem = {.line = MAX(at->line, 1u), .column = MAX(at->column, 1u)};
    int length;

    snprintf(problem.file, sizeof problem.file, "%s", at->file);
    length = snprintf(problem.text, sizeof problem.text, "%s%s", path, *path ? ": " : "");
    if (length >= 0 && (size_t)length < sizeof problem.text)
        vsnprintf(problem.text + length, sizeof problem.text - (size_t)length, fmt, args);
    text_one_line(problem.file);
    text_one_line(problem.text);
    add(b->problems, &problem);
}

void binder_say(struct binder *b, const struct config_origin *at, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    say(b, at, b->path, fmt, args);
    va_end(args);
}

void binder_say_at(struct binder *b, const struct config_origin *at, const char *path,
                   const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    say(b, at, path, fmt, args);
    va_end(args);
}

static size_t push(struct binder *b, const char *text, int length)
{
    size_t mark = b->path_length, room = sizeof b->path - 1 - mark;
    size_t take = length < 0 ? 0 : MIN((size_t)length, room);

    memcpy(b->path + mark, text, take);
    b->path_length += take;
    b->path[b->path_length] = '\0';
    return mark;
}

size_t binder_push_key(struct binder *b, const char *key)
{
    char text[96];
    int length = snprintf(text, sizeof text, "%s%.80s", b->path_length ? "." : "", key);

    return push(b, text, length);
}

size_t binder_push_index(struct binder *b, unsigned index)
{
    char text[16];
    int length = snprintf(text, sizeof text, "[%u]", index);

    return push(b, text, length);
}

void binder_pop(struct binder *b, size_t mark)
{
    b->path_length = mark;
    b->path[mark] = '\0';
}

/* Cuts between characters: UTF-8 continuation bytes are 10xxxxxx. */
const char *binder_quote(struct binder *b, const char *text)
{
    size_t length = strlen(text);
    bool is_long = length > 60;

    if (is_long)
        for (length = 60; length > 0 && ((unsigned char)text[length] & 0xc0) == 0x80;)
            length--;
    return arena_printf(b->arena, "\"%.*s%s\"", (int)length, text, is_long ? "..." : "");
}

const char *binder_suggest(struct binder *b, const char *word, const char *const *candidates,
                           size_t count)
{
    const char *closest = text_closest(word, candidates, count);
    size_t length = strlen(word);

    for (size_t i = 0; i < count && !closest && length >= 3; i++) /* "warn" is "warning" */
        if (strncmp(candidates[i], word, length) == 0)
            closest = candidates[i];
    return closest ? arena_printf(b->arena, " (did you mean \"%s\"?)", closest) : "";
}

static int compare(const void *left, const void *right)
{
    const struct config_problem *a = left, *b = right;
    int r = strcmp(a->file, b->file);

    if (r == 0)
        r = (a->line > b->line) - (a->line < b->line);
    if (r == 0)
        r = (a->column > b->column) - (a->column < b->column);
    return r ? r : strcmp(a->text, b->text);
}

void problems_sort(struct config_problems *problems)
{
    qsort(problems->problem, problems->count, sizeof problems->problem[0], compare);
}

void config_problems_print(const struct config_problems *problems, FILE *out)
{
    for (unsigned i = 0; i < problems->count; i++) {
        const struct config_problem *p = &problems->problem[i];

        fprintf(out, "%s:%u:%u: %s\n", p->file, p->line, p->column, p->text);
    }
    if (problems->dropped > 0)
        fprintf(out, "%u more not shown\n", problems->dropped);
}

void words_split(struct words *out, const char *text)
{
    size_t length = text ? MIN(strlen(text), sizeof out->storage - 1) : 0;
    char *save = NULL;

    if (length > 0)
        memcpy(out->storage, text, length);
    out->storage[length] = '\0';
    out->count = 0;
    for (char *word = strtok_r(out->storage, "|", &save); word && out->count < WORDS_MAX;
         word = strtok_r(NULL, "|", &save))
        out->word[out->count++] = word;
}
