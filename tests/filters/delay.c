/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * delay: holds requests of one kind for a time, each with a timer of its own in its scratch.  With
 * `declared` it says that the hold is wanted, so that it is no stall.
 */
#include "test-filter.h"

#include <stdlib.h>

struct delay {
    struct sluice_disk *disk;
    struct sluice_value op;
    uint64_t time_ns, spread_ns;
    bool is_declared;
};

struct delayed {
    struct sluice_timer timer;
    struct sluice_disk *disk;
    struct sluice_request *request;
};

enum { O_OP, O_TIME, O_DECLARED, O_SPREAD, O_AT };
static const struct sluice_option options[] = {
    OPTION_OP,
    {"time", SLUICE_TYPE_DURATION, 0, 0, 0, "10ms", NULL, "How long."},
    {"declared", SLUICE_TYPE_BOOL, 0, 0, 0, "false", NULL, "Say that it is wanted."},
    {"spread", SLUICE_TYPE_DURATION, 0, 0, 0, "0s", NULL,
     "How much longer, by the request's id, so that not all end at once."},
    OPTION_AT,
    SLUICE_OPTIONS_END,
};

static int delay_open(struct sluice_disk *disk, const struct sluice_value *v, void **instance,
                      struct sluice_error *error)
{
    struct delay *d = calloc(1, sizeof *d);

    if (!d)
        return sluice_refuse(disk, error, ENOMEM, "out of memory");
    d->disk = disk;
    d->op = v[O_OP];
    d->time_ns = (uint64_t)v[O_TIME].integer;
    d->spread_ns = (uint64_t)v[O_SPREAD].integer;
    d->is_declared = v[O_DECLARED].integer;
    *instance = d;
    return 0;
}

#define STEPS 16

static uint64_t delay_of(const struct delay *d, const struct sluice_request *r)
{
    return d->time_ns + d->spread_ns / STEPS * (r->id % STEPS);
}

static void on_time(struct sluice_timer *timer)
{
    struct delayed *held = (struct delayed *)(void *)timer; /* its first member */

    sluice_resume(held->disk, held->request, sluice_pass());
}

static struct sluice_verdict start(void *instance, struct sluice_request *r, void *scratch)
{
    struct delay *d = instance;
    struct delayed *held = scratch;

    if (!is_meant(&d->op, r))
        return sluice_pass();
    held->timer.fire = on_time;
    held->disk = d->disk;
    held->request = r;
    if (d->is_declared)
        sluice_hold(d->disk, r, "delay: because it was told to");
    sluice_timer_start(d->disk, &held->timer, delay_of(d, r));
    return sluice_defer();
}

static enum sluice_cancel_answer cancel(void *instance, struct sluice_request *r, void *scratch)
{
    struct delay *d = instance;
    struct delayed *held = scratch;

    (void)r;
    return sluice_timer_stop(d->disk, &held->timer) ? SLUICE_CANCEL_RELEASED : SLUICE_CANCEL_BUSY;
}

static uint32_t delay_place(const struct sluice_value *values)
{
    return CLASS_AT(values[O_AT]);
}

#define DOWN SLUICE_HANDLE(start, NULL)
static const struct sluice_filter filter = {TEST_FILTER_HEAD("delay", "Delays requests."),
                                            .options = options,
                                            .scratch_bytes = sizeof(struct delayed),
                                            .open = delay_open,
                                            .close = free,
                                            .cancel = cancel,
                                            .place = delay_place,
                                            EVERY_OPERATION(DOWN)};
SLUICE_FILTER(filter)
