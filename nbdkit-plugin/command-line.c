/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * command-line.c: what nbdkit was told and tells no plugin.
 *
 * How many requests of one connection are worked on at once: --threads.  `sluice serve` gives it on
 * the command line; who starts nbdkit himself may leave it out.  A number that is too small does no
 * harm: the filters that divide a window among requests keep more of it free than they have to.
 *
 * Whether filters of nbdkit stand in front of this plugin: --filter.
 */
#include "plugin.h"

#include <stdio.h>
#include <string.h>

/* nbdkit(1), --threads: what it takes when nothing or 0 is said. */
#define NBDKIT_THREADS 16

/* What stands behind the option, as part of its word; NULL: not that option. */
static const char *behind(const char *word, const char *option)
{
    size_t length = strlen(option);

    return strncmp(word, option, length) == 0 ? word + length : NULL;
}

/* False: the command line cannot be read. */
static bool for_each_word(void (*look)(const char *word, void *arg), void *arg)
{
    FILE *f = fopen("/proc/self/cmdline", "re");
    CLEANUP_FREE char *word = NULL;
    size_t word_size = 0;

    if (!f)
        return false;
    while (getdelim(&word, &word_size, 0, f) > 0)
        look(word, arg);
    fclose(f);
    return true;
}

struct window {
    unsigned threads;
    bool is_bare; /* the number is the next word */
};

static void look_for_threads(const char *word, void *arg)
{
    struct window *w = arg;
    const char *number = w->is_bare ? word : behind(word, "--threads=");

    number = number ? number : behind(word, "-t");
    w->is_bare = strcmp(word, "--threads") == 0 || strcmp(word, "-t") == 0;
    if (number && !w->is_bare)
        w->threads = (unsigned)strtoul(number, NULL, 10);
}

unsigned plugin_window(void)
{
    struct window w = {0};

    (void)for_each_word(look_for_threads, &w);
    return w.threads ? w.threads : NBDKIT_THREADS;
}

/* getopt_long(3) takes an option that is cut short, and no other of nbdkit's begins so. */
static void look_for_filter(const char *word, void *arg)
{
    *(bool *)arg |= behind(word, "--fi") != NULL;
}

bool plugin_has_filters(void)
{
    bool found = false;

    return !for_each_word(look_for_filter, &found) || found;
}
