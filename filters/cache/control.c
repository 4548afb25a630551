/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * control.c: control events.
 *
 *     detach, snapshot   long phase, while serving: writes go through, everything is destaged, with
 *                        progress, but for the little that guests write again and again; then,
 *                        quiesced, the rest.  Detach then releases the tier: nothing on it counts.
 *     quiesce            the keeper pauses and paced writers go, resume turns both back
 *     stop               a checkpoint in the background when the last client has left; when the
 *                        gateway stops, one that may take a second.  Without it the next start
 *                        reads more, and finds as much
 *     resize             the disk grows: nothing is in the way of that
 *     sanitize           see sanitize.c
 */
#include "cache.h"

#include <errno.h>

#define LONG_PHASE_REST 64u /* blocks */
#define LAST_CHECKPOINT_NS UINT64_C(1000000000)

/* --- parking ------------------------------------------------------------------------------------
 */

static void park(struct cache *c)
{
    cache_lock(c);
    c->is_parked = true;
    c->pace_is_off = true;
    while (c->keeper_runs)
        cache_sleep(&c->cond, &c->mutex);
    cache_unlock(c);
    pace_release(c);
}

static void unpark(struct cache *c)
{
    cache_lock(c);
    c->is_parked = c->pace_is_off = false;
    keeper_kick(c);
    cache_unlock(c);
}

static int on_quiesce(struct cache *c, const struct sluice_event *event, struct sluice_error *error)
{
    (void)error;
    if (event->phase == SLUICE_PHASE_ABORT)
        unpark(c);
    else if (event->phase == SLUICE_PHASE_PREPARE)
        park(c);
    return 0;
}

static int on_resume(struct cache *c, const struct sluice_event *event, struct sluice_error *error)
{
    (void)event, (void)error;
    unpark(c);
    return 0;
}

/* --- emptying -----------------------------------------------------------------------------------
 */

static int on_empty(struct cache *c, const struct sluice_event *event, struct sluice_error *error)
{
    const char *what = event->kind == SLUICE_EVENT_DETACH ? "emptying the cache to detach it"
                                                          : "emptying the cache for a snapshot";
    int r = 0;

    switch (event->phase) {
    case SLUICE_PHASE_PREPARE_LONG:
        cache_drain_begin(c);
        r = cache_wait_clean(c, LONG_PHASE_REST, what, event->deadline_ns, error);
        if (r < 0)
            cache_drain_end(c);
        return r;
    case SLUICE_PHASE_PREPARE:
        r = cache_wait_clean(c, 0, what, event->deadline_ns, error);
        if (r == 0) {
            r = -cache_flush_backing(c);
            if (r < 0)
                sluice_refuse(c->disk, error, -r, "the backing cannot be flushed: %s",
                              strerror(-r));
        }
        return r;
    default:
        cache_drain_end(c);
        return 0;
    }
}

static int on_detach(struct cache *c, const struct sluice_event *event, struct sluice_error *error)
{
    int r = on_empty(c, event, error);

    if (event->phase != SLUICE_PHASE_COMMIT || !cache_has_log(c))
        return r;
    cache_lock(c);
    c->is_stopped = true;
    while (c->keeper_runs)
        cache_sleep(&c->cond, &c->mutex);
    cache_unlock(c);
    r = log_release(c);
    if (r < 0)
        sluice_log(c->disk, SLUICE_LOG_ERROR, "%s cannot be released: %s", c->log.path,
                   strerror(-r));
    return r;
}

/* --- the rest -----------------------------------------------------------------------------------
 */

static int on_start(struct cache *c, const struct sluice_event *event, struct sluice_error *error)
{
    (void)event, (void)error;
    sluice_timer_start(c->disk, &c->keeper_timer, 0);
    return 0;
}

/* In the keeper's place, which does not run meanwhile. */
static void write_last_checkpoint(struct cache *c)
{
    int r = checkpoint_write(c, sluice_now_ns(c->disk) + LAST_CHECKPOINT_NS);

    if (r < 0)
        sluice_log(c->disk, SLUICE_LOG_NOTICE,
                   "no checkpoint at the end (%s); the next start reads more", strerror(-r));
    cache_lock(c);
    c->keeper_runs = false;
    cache_wake(&c->cond);
    keeper_kick(c);
    cache_unlock(c);
}

static int on_stop(struct cache *c, const struct sluice_event *event, struct sluice_error *error)
{
    bool is_last;

    (void)error;
    if (!cache_has_log(c) || event->phase != SLUICE_PHASE_COMMIT)
        return 0;
    cache_lock(c);
    c->wants_checkpoint = true;
    is_last = c->is_parked && !c->keeper_runs && !c->log.error; /* quiesced: the gateway stops */
    if (is_last)
        c->keeper_runs = true;
    else
        keeper_kick(c);
    cache_unlock(c);
    if (is_last)
        write_last_checkpoint(c);
    return 0;
}

static int on_policy(struct cache *c, const struct sluice_event *event, struct sluice_error *error)
{
    (void)error;
    if (event->phase != SLUICE_PHASE_COMMIT)
        return 0;
    cache_lock(c);
    cache_read_options(event->values, &c->options);
    keeper_kick(c);
    cache_unlock(c);
    pace_release(c);
    return 0;
}

int cache_on_event(void *instance, const struct sluice_event *event, struct sluice_error *error)
{
    static int (*const handlers[SLUICE_EVENT_COUNT])(struct cache *, const struct sluice_event *,
                                                     struct sluice_error *) = {
        [SLUICE_EVENT_ATTACH] = on_start,
        [SLUICE_EVENT_START] = on_start,
        [SLUICE_EVENT_STOP] = on_stop,
        [SLUICE_EVENT_DETACH] = on_detach,
        [SLUICE_EVENT_SNAPSHOT] = on_empty,
        [SLUICE_EVENT_QUIESCE] = on_quiesce,
        [SLUICE_EVENT_RESUME] = on_resume,
        [SLUICE_EVENT_POLICY_CHANGE] = on_policy,
        [SLUICE_EVENT_SANITIZE] = cache_on_sanitize,
    };

    if (event->kind >= SLUICE_EVENT_COUNT || !handlers[event->kind])
        return 0;
    return handlers[event->kind](instance, event, error);
}
