/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fail: fails requests of one kind with an errno, after a number of them, for a number of times, on
 * the way down or up.
 */
#include "test-filter.h"

struct fail {
    struct sluice_value op;
    int32_t error;
    uint64_t after, times;
    bool is_upward;
    uint64_t seen; /* atomic */
};

enum { O_OP, O_ERROR, O_AFTER, O_TIMES, O_WAY, O_AT };
static const struct sluice_option options[] = {
    OPTION_OP,
    {"error", SLUICE_TYPE_INTEGER, 0, 1, 4095, "5", NULL, "The errno, a number."},
    {"after", SLUICE_TYPE_INTEGER, 0, 0, 0, "0", NULL, "So many pass first."},
    {"times", SLUICE_TYPE_INTEGER, 0, 0, 0, "0", NULL, "So many fail; 0: all others."},
    {"way", SLUICE_TYPE_ENUM, 0, 0, 0, "down", "down|up", "Before or after it went below."},
    OPTION_AT,
    SLUICE_OPTIONS_END,
};

static int fail_open(struct sluice_disk *disk, const struct sluice_value *v, void **instance,
                     struct sluice_error *error)
{
    struct fail *f = calloc(1, sizeof *f);

    if (!f)
        return sluice_refuse(disk, error, ENOMEM, "out of memory");
    f->op = v[O_OP];
    f->error = (int32_t)v[O_ERROR].integer;
    f->after = (uint64_t)v[O_AFTER].integer;
    f->times = (uint64_t)v[O_TIMES].integer;
    f->is_upward = v[O_WAY].integer == 1;
    *instance = f;
    return 0;
}

static bool is_its_turn(struct fail *f)
{
    uint64_t n = __atomic_fetch_add(&f->seen, 1, __ATOMIC_RELAXED);

    return n >= f->after && (f->times == 0 || n < f->after + f->times);
}

static struct sluice_verdict start(void *instance, struct sluice_request *r, void *scratch)
{
    struct fail *f = instance;

    (void)scratch;
    if (!is_meant(&f->op, r))
        return sluice_pass();
    if (f->is_upward)
        return sluice_pass_and_tell();
    return is_its_turn(f) ? sluice_fail(f->error) : sluice_pass();
}

static struct sluice_verdict completion(void *instance, struct sluice_request *r, void *scratch)
{
    struct fail *f = instance;

    (void)r, (void)scratch;
    return is_its_turn(f) ? sluice_fail(f->error) : sluice_pass();
}

static uint32_t fail_place(const struct sluice_value *values)
{
    return CLASS_AT(values[O_AT]);
}

#define BOTH SLUICE_HANDLE(start, completion)
static const struct sluice_filter filter = {TEST_FILTER_HEAD("fail", "Fails requests."),
                                            .options = options,
                                            .open = fail_open,
                                            .close = free,
                                            .place = fail_place,
                                            EVERY_OPERATION(BOTH)};
SLUICE_FILTER(filter)
