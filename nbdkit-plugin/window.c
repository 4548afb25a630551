/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * window.c: how many requests of one connection are worked on at once: nbdkit's --threads, which it
 * tells no plugin.  `sluice serve` gives it on the command line; who starts nbdkit himself may
 * leave it out.  A number that is too small does no harm: the filters that divide a window among
 * requests keep more of it free than they have to.
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

unsigned plugin_window(void)
{
    FILE *f = fopen("/proc/self/cmdline", "re");
    CLEANUP_FREE char *word = NULL;
    size_t word_size = 0;
    unsigned threads = 0;
    bool is_bare = false;

    while (f && getdelim(&word, &word_size, 0, f) > 0) {
        const char *number = is_bare ? word : behind(word, "--threads=");

        number = number ? number : behind(word, "-t");
        is_bare = strcmp(word, "--threads") == 0 || strcmp(word, "-t") == 0;
        if (number && !is_bare)
            threads = (unsigned)strtoul(number, NULL, 10);
    }
    if (f)
        fclose(f);
    return threads ? threads : NBDKIT_THREADS;
}
