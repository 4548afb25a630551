/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * refuse: refuses one control event with a sentence, or sleeps over it for longer than anybody
 * should.
 */
#include "test-filter.h"

#include <time.h>

struct refuse {
    struct sluice_disk *disk;
    int64_t event, phase;
    uint64_t sleep_ns;
};

/* In the order of enum sluice_event_kind and enum sluice_event_phase. */
#define EVENTS                                                                              \
    "attach|detach|start|stop|snapshot|resize|promote|demote|policy-change|quiesce|resume|" \
    "before-upgrade|after-upgrade|migrate|sanitize"
enum { O_EVENT, O_PHASE, O_SLEEP };
static const struct sluice_option options[] = {
    {"event", SLUICE_TYPE_ENUM, 0, 0, 0, "snapshot", EVENTS, "Which event."},
    {"phase", SLUICE_TYPE_ENUM, 0, 0, 0, "prepare", "prepare-long|prepare|commit|abort", "When."},
    {"sleep", SLUICE_TYPE_DURATION, 0, 0, 0, NULL, NULL, "Sleep so long and agree."},
    SLUICE_OPTIONS_END,
};

static int refuse_open(struct sluice_disk *disk, const struct sluice_value *v, void **instance,
                       struct sluice_error *error)
{
    struct refuse *r = calloc(1, sizeof *r);

    if (!r)
        return sluice_refuse(disk, error, ENOMEM, "out of memory");
    r->disk = disk;
    r->event = v[O_EVENT].integer;
    r->phase = v[O_PHASE].integer;
    r->sleep_ns = v[O_SLEEP].is_set ? (uint64_t)v[O_SLEEP].integer : 0;
    *instance = r;
    return 0;
}

static int on_event(void *instance, const struct sluice_event *event, struct sluice_error *error)
{
    struct refuse *r = instance;
    struct timespec pause = {(time_t)(r->sleep_ns / 1000000000u),
                             (long)(r->sleep_ns % 1000000000u)};

    if (event->kind != r->event || event->phase != r->phase)
        return 0;
    if (!r->sleep_ns)
        return sluice_refuse(r->disk, error, EBUSY, "I would rather not");
    nanosleep(&pause, NULL);
    return 0;
}

static const struct sluice_filter filter = {TEST_FILTER_HEAD("refuse", "Refuses an event."),
                                            .options = options,
                                            .open = refuse_open,
                                            .close = free,
                                            .event = on_event,
                                            EVERY_OPERATION(SLUICE_PASS_UNSEEN)};
SLUICE_FILTER(filter)
