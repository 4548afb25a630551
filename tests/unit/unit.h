/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * unit.h: the smallest harness that does.  A test program is a main() of RUN(test_...) lines that
 * ends with `return unit_result();`.  CHECK goes on after a failure, so that one run shows all.
 */
#ifndef SLUICE_UNIT_H
#define SLUICE_UNIT_H

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int unit_failures, unit_checks;

#define CHECK(cond)                                                            \
    do {                                                                       \
        __atomic_add_fetch(&unit_checks, 1, __ATOMIC_RELAXED);                 \
        if (!(cond)) {                                                         \
            __atomic_add_fetch(&unit_failures, 1, __ATOMIC_RELAXED);           \
            fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #cond); \
        }                                                                      \
    } while (0)

#define CHECK_EQ(got, want)                                                               \
    do {                                                                                  \
        int64_t unit_got = (int64_t)(got), unit_want = (int64_t)(want);                   \
        __atomic_add_fetch(&unit_checks, 1, __ATOMIC_RELAXED);                            \
        if (unit_got != unit_want) {                                                      \
            __atomic_add_fetch(&unit_failures, 1, __ATOMIC_RELAXED);                      \
            fprintf(stderr, "%s:%d: %s is %" PRId64 ", not %" PRId64 " (%s)\n", __FILE__, \
                    __LINE__, #got, unit_got, unit_want, #want);                          \
        }                                                                                 \
    } while (0)

#define CHECK_STR(got, want)                                                               \
    do {                                                                                   \
        const char *unit_got = (got), *unit_want = (want);                                 \
        __atomic_add_fetch(&unit_checks, 1, __ATOMIC_RELAXED);                             \
        if (strcmp(unit_got, unit_want) != 0) {                                            \
            __atomic_add_fetch(&unit_failures, 1, __ATOMIC_RELAXED);                       \
            fprintf(stderr, "%s:%d: %s is \"%s\", not \"%s\"\n", __FILE__, __LINE__, #got, \
                    unit_got, unit_want);                                                  \
        }                                                                                  \
    } while (0)

#define RUN(test)                         \
    do {                                  \
        fprintf(stderr, "# %s\n", #test); \
        test();                           \
    } while (0)

static inline int unit_result(void)
{
    fprintf(stderr, "# %d checks, %d failed\n", unit_checks, unit_failures);
    return unit_failures == 0 && unit_checks > 0 ? 0 : 1;
}

#endif
