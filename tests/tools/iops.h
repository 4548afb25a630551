/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * iops.h: what nbd-iops and iscsi-iops have in common: the load's options, the clock, the numbers
 * of a round as JSON.
 */
#ifndef TESTS_TOOLS_IOPS_H
#define TESTS_TOOLS_IOPS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ROUNDS_MAX 999u
#define BLOCK_MAX (32u << 20)

static struct {
    bool is_write, is_sequential;
    unsigned depth, block, rounds;
    double seconds;
} options = {.depth = 1, .block = 4096, .rounds = 9, .seconds = 1};

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec t = {0};

    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static bool set_op(const char *value)
{
    options.is_sequential = strncmp(value, "rand", 4) != 0;
    if (!options.is_sequential)
        value += 4;
    options.is_write = strcmp(value, "write") == 0;
    return options.is_write || strcmp(value, "read") == 0;
}

static bool set_unsigned(unsigned *where, const char *value, unsigned max)
{
    *where = (unsigned)atoi(value);
    return *where > 0 && *where <= max;
}

static bool set_common_option(const char *name, const char *value, unsigned depth_max)
{
    if (strcmp(name, "--op") == 0)
        return set_op(value);
    if (strcmp(name, "--depth") == 0)
        return set_unsigned(&options.depth, value, depth_max);
    if (strcmp(name, "--block") == 0)
        return set_unsigned(&options.block, value, BLOCK_MAX);
    if (strcmp(name, "--rounds") == 0)
        return set_unsigned(&options.rounds, value, ROUNDS_MAX);
    options.seconds = atof(value);
    return strcmp(name, "--seconds") == 0 && options.seconds > 0;
}

/* Options with a value each, and NAME=WHERE, which is cut in two. */
static bool parse(int argc, char **argv, bool (*set_option)(const char *name, const char *value),
                  bool (*add)(const char *name, const char *where))
{
    for (int i = 1; i < argc; i++) {
        char *equals = strchr(argv[i], '=');

        if (argv[i][0] == '-') {
            if (i + 1 == argc || !set_option(argv[i], argv[i + 1]))
                return false;
            i++;
            continue;
        }
        if (!equals)
            return false;
        *equals = 0;
        if (!add(argv[i], equals + 1))
            return false;
    }
    return true;
}

static void print_rounds(const char *what, const double *values, int decimals)
{
    printf("\"%s\": [", what);
    for (unsigned i = 0; i < options.rounds; i++)
        printf("%s%.*f", i ? ", " : "", decimals, values[i]);
    printf("]");
}

#endif
