/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * crash: ends the process by SIGSEGV at a request of one kind, after a number of them.
 */
#include "test-filter.h"

#include <signal.h>

struct crash {
    struct sluice_value op;
    uint64_t after, seen; /* seen: atomic */
};

enum { O_OP, O_AFTER };
static const struct sluice_option options[] = {
    OPTION_OP,
    {"after", SLUICE_TYPE_INTEGER, 0, 0, 0, "0", NULL, "So many pass first."},
    SLUICE_OPTIONS_END,
};

static int crash_open(struct sluice_disk *disk, const struct sluice_value *v, void **instance,
                      struct sluice_error *error)
{
    struct crash *c = calloc(1, sizeof *c);

    if (!c)
        return sluice_refuse(disk, error, ENOMEM, "out of memory");
    c->op = v[O_OP];
    c->after = (uint64_t)v[O_AFTER].integer;
    *instance = c;
    return 0;
}

static struct sluice_verdict start(void *instance, struct sluice_request *r, void *scratch)
{
    struct crash *c = instance;

    (void)scratch;
    if (is_meant(&c->op, r) && __atomic_fetch_add(&c->seen, 1, __ATOMIC_RELAXED) >= c->after) {
        signal(SIGSEGV, SIG_DFL); /* sanitizers would make a report of it */
        raise(SIGSEGV);
    }
    return sluice_pass();
}

#define DOWN SLUICE_HANDLE(start, NULL)
static const struct sluice_filter filter = {TEST_FILTER_HEAD("crash", "Ends the process."),
                                            .options = options, .open = crash_open, .close = free,
                                            EVERY_OPERATION(DOWN)};
SLUICE_FILTER(filter)
