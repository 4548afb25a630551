/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * keeper.c: decides what the background does next: free a segment, destage, write a checkpoint,
 * write new space, or nothing.  One work item, so these never run beside each other; it ends when
 * there is nothing to do and is started again by a kick or by its timer.
 */
#include "cache.h"

#include <errno.h>

#define SECOND_NS UINT64_C(1000000000)
#define CHECKPOINT_AGE_NS UINT64_C(60000000000)
/* What a start has to read of the log is at most so many times what it reads of the checkpoint, so
 * the time it takes is in proportion to what is cached, and checkpoints add so little to what is
 * written. */
#define LOG_TO_CHECKPOINT 16u
#define LOG_LEAST_BYTES (UINT64_C(32) << 20)

enum step {
    STEP_NOTHING,
    STEP_RECLAIM,
    STEP_DESTAGE,
    STEP_CHECKPOINT,
    STEP_FLUSH,
    STEP_GIVE_UP,
    STEP_NOTE,
    STEP_PREWRITE
};

/* [M] Segments that may be opened before the ring is full. */
static uint64_t free_segments(const struct log *log)
{
    return log->super.segment_count - 1 - (log->head.segment - log->tail);
}

static bool wants_room(const struct cache *c)
{
    const struct log *log = &c->log;
    uint64_t wanted = MIN(MAX(log->super.segment_count / 32, 3u), 16u);

    return (free_segments(log) < wanted && log->tail < log->head.segment) || scrub_wants_tail(c);
}

static uint64_t percent_of_log(const struct cache *c, uint64_t percent)
{
    return log_bytes(&c->log) / BLOCK_BYTES * percent / 100;
}

uint64_t log_oldest_dirty_ns(const struct log *log)
{
    for (uint64_t segment = log->clean; segment <= log->applied.segment; segment++) {
        uint32_t place = log_place_of(log, segment);

        if (log->dirty_in[place] > log->lost_in[place])
            return log->dirty_since_ns[place];
    }
    return UINT64_MAX;
}

/* [M] */
static void tell_oldest(struct cache *c, uint64_t now_ns)
{
    uint64_t since_ns = log_to_destage(&c->log) ? log_oldest_dirty_ns(&c->log) : now_ns;
    int64_t age_s = (int64_t)((now_ns - MIN(now_ns, since_ns)) / SECOND_NS);

    sluice_count(c->disk, N_OLDEST, age_s - c->oldest_told_s);
    c->oldest_told_s = age_s;
}

static bool wants_destage(const struct cache *c, uint64_t now_ns)
{
    const struct log *log = &c->log;

    if (!log_to_destage(log))
        return false;
    if (c->draining || c->order.awaited)
        return true;
    if (now_ns < c->next_destage_ns)
        return false;
    return order_backlog(c) > percent_of_log(c, c->options.soft_percent) / 2 ||
           !cache_rules(c)->writes_stay ||
           now_ns - MIN(now_ns, log_oldest_dirty_ns(log)) > c->options.destage_after_ns;
}

/* [M] Segments. */
static uint64_t most_behind(const struct cache *c)
{
    const struct log *log = &c->log;
    uint64_t bytes =
        MAX(c->index.count * CHECKPOINT_ENTRY_BYTES * LOG_TO_CHECKPOINT, LOG_LEAST_BYTES);

    return MIN(bytes / BLOCK_BYTES / log->super.segment_blocks, log->super.segment_count / 4);
}

static bool wants_checkpoint(const struct cache *c, uint64_t now_ns)
{
    const struct log *log = &c->log;
    uint64_t behind = log->head.segment - log->checkpoint_segment;

    return behind > most_behind(c) ||
           (behind > 0 && (now_ns - c->last_checkpoint_ns > CHECKPOINT_AGE_NS ||
                           c->wants_checkpoint || scrub_wants_checkpoint(c)));
}

/* [M] Somebody waits for room that there is not. */
static bool is_awaited(const struct cache *c)
{
    return c->log.jobs.first && !c->log.is_writing && free_segments(&c->log) <= 2;
}

bool keeper_is_to_pause(const struct cache *c)
{
    if (c->is_closing || c->is_stopped)
        return true;
    /* Requests that wait for room are to end before a pause can begin. */
    return c->is_parked && !c->draining && !c->log.jobs.first && !c->step_down.first &&
           !c->order.awaited;
}

bool keeper_has_more_urgent(const struct cache *c)
{
    if (keeper_is_to_pause(c) || wants_checkpoint(c, sluice_now_ns(c->disk)))
        return true;
    return wants_room(c) && !order_needs_tail(c);
}

/* [M] Something in the segment at the tail is not in the backing yet, or not in its turn. */
static bool is_tail_needed(const struct cache *c)
{
    return c->log.dirty_in[log_place_of(&c->log, c->log.tail)] || order_needs_tail(c);
}

/* [M] */
static enum step next_step(const struct cache *c, uint64_t now_ns)
{
    static const enum step without_tier[] = {[STEP_DOWN_NOTHING] = STEP_NOTHING,
                                             [STEP_DOWN_NOTE] = STEP_NOTE,
                                             [STEP_DOWN_SALVAGE] = STEP_DESTAGE};
    const struct log *log = &c->log;

    if (!cache_has_log(c) || keeper_is_to_pause(c))
        return STEP_NOTHING;
    if (log->error)
        return without_tier[step_down_next(c, now_ns)];
    if (wants_checkpoint(c, now_ns))
        return STEP_CHECKPOINT;
    if (wants_room(c) && log_is_stuck(log) && is_awaited(c))
        return STEP_GIVE_UP;
    if (wants_room(c) && !log_is_stuck(log))
        return is_tail_needed(c) ? STEP_DESTAGE : STEP_RECLAIM;
    if (wants_destage(c, now_ns))
        return STEP_DESTAGE;
    if (c->wants_flush)
        return STEP_FLUSH;
    return prewrite_is_wanted(c) ? STEP_PREWRITE : STEP_NOTHING;
}

/* The ring is full up to a damaged block: writers are to learn of it, not to wait for ever. */
static int32_t give_up(struct cache *c)
{
    cache_lock(c);
    log_fail(c, EIO, "the log is full up to a damaged block that the backing lacks");
    cache_unlock(c);
    log_pump(c);
    return EIO;
}

static int32_t destage(struct cache *c)
{
    int32_t error = destage_step(c);

    step_down_let_go_if_over(c);
    return error;
}

static int32_t do_step(struct cache *c, enum step step)
{
    if (step == STEP_RECLAIM)
        return reclaim_step(c);
    if (step == STEP_DESTAGE)
        return destage(c);
    if (step == STEP_CHECKPOINT)
        return -checkpoint_write(c, UINT64_MAX);
    if (step == STEP_GIVE_UP)
        return give_up(c);
    if (step == STEP_NOTE)
        return step_down_note(c);
    if (step == STEP_PREWRITE)
        return prewrite_step(c);
    cache_lock(c);
    c->wants_flush = false;
    cache_unlock(c);
    return cache_flush_backing(c);
}

/* [M] A backing that does not take the data is tried again; people are told after a while. */
static void note_result(struct cache *c, enum step step, int32_t error)
{
    if (!error && c->destage_failures && step == STEP_DESTAGE) {
        c->destage_failures = 0;
        rot_tell_health(c);
    }
    if (!error)
        return;
    if (c->destage_failures++ == 0)
        sluice_log(c->disk, SLUICE_LOG_WARNING, "%s failed: %s; it will be tried again",
                   step == STEP_DESTAGE ? "bringing data to the backing"
                   : step == STEP_NOTE  ? "noting that the tier has failed"
                                        : "tending the tier",
                   strerror(error));
    if (c->destage_failures == FAILURES_TOLD)
        rot_tell_health(c);
}

/* [M] False: the keeper is to end. */
static bool may_go_on(struct cache *c, enum step step)
{
    if (step != STEP_NOTHING)
        return true;
    if (c->keeper_again) {
        c->keeper_again = false;
        return true;
    }
    c->keeper_runs = false;
    cache_wake(&c->cond);
    return false;
}

void keeper_run(struct sluice_work *work)
{
    struct cache *c = CONTAINER_OF(work, struct cache, keeper);

    for (;;) {
        enum step step;
        int32_t error, failed;

        cache_lock(c);
        c->keeper_again = false;
        failed = c->log.error;
        step = next_step(c, sluice_now_ns(c->disk));
        if (!may_go_on(c, step)) {
            cache_unlock(c);
            return;
        }
        cache_unlock(c);
        error = step == STEP_NOTHING ? 0 : do_step(c, step);
        error = error == ECANCELED ? 0 : error; /* left for later */
        cache_lock(c);
        if (c->log.error && !failed)
            error = 0; /* the tier has failed in this step: there is something to do at once */
        note_result(c, step, error);
        if (error) {
            c->keeper_runs = false; /* the timer starts it again */
            cache_wake(&c->cond);
        }
        cache_unlock(c);
        pace_release(c);
        if (error)
            return;
    }
}

void keeper_kick(struct cache *c)
{
    if (!cache_has_log(c) || !c->is_open || c->is_closing || c->is_stopped)
        return;
    if (c->keeper_runs) {
        c->keeper_again = true;
        return;
    }
    c->keeper_runs = sluice_work_submit(c->disk, &c->keeper) == 0;
}

void keeper_fire(struct sluice_timer *timer)
{
    struct cache *c = CONTAINER_OF(timer, struct cache, keeper_timer);

    await_look(c);
    cache_lock(c);
    tell_oldest(c, sluice_now_ns(c->disk));
    if (next_step(c, sluice_now_ns(c->disk)) != STEP_NOTHING)
        keeper_kick(c);
    cache_unlock(c);
    pace_release(c);
    sluice_timer_start(c->disk, timer, AWAIT_LOOK_NS);
}

/* --- draining
 * ------------------------------------------------------------------------------------- */

/* [M] */
static int why_not(struct cache *c, uint64_t left, uint64_t deadline_ns, struct sluice_error *error)
{
    if (sluice_now_ns(c->disk) > deadline_ns)
        return sluice_refuse(c->disk, error, ETIMEDOUT,
                             "%llu bytes are on the tier alone after the time allowed for it",
                             (unsigned long long)left * BLOCK_BYTES);
    if (c->log.lost_blocks && log_to_destage(&c->log) == 0)
        return sluice_refuse(c->disk, error, EIO,
                             "%llu blocks on the tier are damaged, the first is block %llu of the "
                             "disk, and the backing lacks them; write them anew first",
                             (unsigned long long)c->log.lost_blocks,
                             (unsigned long long)c->log.lost_first);
    if (c->step_down.noting_failed || c->destage_failures >= FAILURES_TOLD)
        return sluice_refuse(c->disk, error, EIO,
                             "%llu bytes on the tier cannot be brought to the backing",
                             (unsigned long long)left * BLOCK_BYTES);
    return 0;
}

int cache_wait_clean(struct cache *c, uint64_t most, const char *what, uint64_t deadline_ns,
                     struct sluice_error *error)
{
    uint64_t total, left;
    int r = 0;

    cache_lock(c);
    total = step_down_left(c);
    while (r == 0 && (left = step_down_left(c)) > most) {
        r = why_not(c, left, deadline_ns, error);
        keeper_kick(c);
        cache_unlock(c);
        sluice_progress(c->disk, what, (total - MIN(left, total)) * BLOCK_BYTES,
                        total * BLOCK_BYTES);
        cache_lock(c);
        if (r == 0 && step_down_left(c) > most)
            cache_sleep(&c->cond, &c->mutex);
    }
    cache_unlock(c);
    sluice_progress(c->disk, NULL, 0, 0);
    return r;
}

void cache_drain_begin(struct cache *c)
{
    cache_lock(c);
    c->draining++;
    cache_unlock(c);
}

void cache_drain_end(struct cache *c)
{
    cache_lock(c);
    if (c->draining)
        c->draining--;
    cache_unlock(c);
}
