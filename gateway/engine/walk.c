/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * walk.c: takes a request down its path and up again, in its home.  A loop, not a recursion: each
 * step says whether to go on, to wait for somebody, or that the request has ended.
 *
 * The walk is written once and compiled twice: one request in STATION_SAMPLE is timed at every edge
 * (one clock reading serves both sides of an edge), the others read no clock.  `running` and `edge`
 * tell the watch thread which callback runs.
 */
#include "internal.h"

#include <errno.h>
#include <string.h>

enum step { STEP_ON, STEP_WAIT, STEP_FINISH };

static int errno_of(struct sluice_verdict v)
{
    return v.error > 0 ? v.error : EIO;
}

/* The request stops at its present position and turns round. */
static void turn_round(struct request *r, int error)
{
    r->is_upward = true;
    r->pub.error = error;
}

/* --- holding
 * -------------------------------------------------------------------------------------- */

/* The filter has answered defer.  True: it holds the request; false: it had resumed it already. */
static bool take_hold(struct request *r, const struct edge *e)
{
    uint32_t now = atomic_load_explicit(&r->hold, memory_order_acquire);

    atomic_store_explicit(&r->holder, e->station, memory_order_release);
    r->held_ticks = clock_ticks();
    counter_add(&e->station->stats.deferred, 1);
    counter_add(&e->station->stats.held_now, 1);
    request_set_place(r, PLACE_FILTER);
    do {
        if ((now & HOLD_STATE_MASK) == HOLD_RESUMED && r->resumed_by == e->station)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&r->hold, &now,
                                                    (now & HOLD_COMMITTED) | HOLD_HELD,
                                                    memory_order_acq_rel, memory_order_acquire));
    return true;
}

/* The hold is over: its verdict is in r->resumed. */
static void end_hold(struct request *r, const struct edge *e)
{
    uint64_t held = clock_ticks_to_ns(clock_ticks() - r->held_ticks);
    struct station_stats *stats = &e->station->stats;
    uint32_t committed = atomic_load_explicit(&r->hold, memory_order_acquire) & HOLD_COMMITTED;

    atomic_fetch_sub_explicit(&stats->held_now, 1, memory_order_relaxed);
    counter_max(&stats->longest_hold_ns, held);
    histogram_add(&stats->hold_ns, held);
    atomic_store_explicit(&r->hold_reason, NULL, memory_order_relaxed);
    atomic_store_explicit(&r->hold, committed | HOLD_CALLING, memory_order_relaxed);
    request_set_place(r, PLACE_RUNNING);
}

/* --- verdicts
 * --------------------------------------------------------------------------------------- */

/* PASS is 0 and PASS_TELL 1: what a filter answered is its bit. */
_Static_assert(SLUICE_VERDICT_PASS == 0 && SLUICE_VERDICT_PASS_TELL == 1, "the bit of asked");

static enum step after_start(struct request *r, const struct edge *e, struct sluice_verdict v)
{
    switch (v.kind) {
    case SLUICE_VERDICT_PASS_TELL:
    case SLUICE_VERDICT_PASS:
        r->asked = r->asked * 2 + v.kind;
        request_set_edge(r, e + 1);
        return STEP_ON;
    case SLUICE_VERDICT_COMPLETE:
        counter_add(&request_edge_counts(r)->completed, 1);
        turn_round(r, 0);
        return STEP_ON;
    case SLUICE_VERDICT_FAIL:
    default:
        counter_add(&request_edge_counts(r)->failed, 1);
        turn_round(r, errno_of(v));
        return STEP_ON;
    }
}

static enum step after_completion(struct request *r, struct sluice_verdict v)
{
    if (v.kind == SLUICE_VERDICT_COMPLETE)
        r->pub.error = 0;
    else if (v.kind == SLUICE_VERDICT_FAIL)
        r->pub.error = errno_of(v);
    return STEP_ON;
}

static enum step after_verdict(struct request *r, const struct edge *e, struct sluice_verdict v)
{
    return r->is_upward ? after_completion(r, v) : after_start(r, e, v);
}

static enum step on_defer(struct request *r, const struct edge *e)
{
    if (take_hold(r, e))
        return STEP_WAIT;
    end_hold(r, e);
    return after_verdict(r, e, r->resumed);
}

void request_on_resumed(struct task *task)
{
    struct request *r = CONTAINER_OF(task, struct request, task);
    const struct edge *e = request_edge(r);

    end_hold(r, e);
    if (after_verdict(r, e, r->resumed) == STEP_ON)
        request_run(r);
}

/* --- the backing
 * ---------------------------------------------------------------------------------------- */

static COLD void note_failure(struct engine *engine, int error)
{
    if (error == ENOTSUP || error == ECANCELED || error == ESHUTDOWN)
        return;
    atomic_store(&engine->failed_error, error);
    atomic_store(&engine->failed_ns, clock_now_ns());
    atomic_fetch_add(&engine->failures, 1);
}

static void take_result(struct request *r)
{
    if (UNLIKELY(r->io.result < 0))
        note_failure(r->engine, (int)-r->io.result);
    turn_round(r, (int)-r->io.result);
}

static void on_backing_done(struct task *task)
{
    struct io *io = CONTAINER_OF(task, struct io, done_task);
    struct request *r = CONTAINER_OF(io, struct request, io);

    request_set_place(r, PLACE_RUNNING);
    take_result(r);
    request_run(r);
}

static void fill_io(struct request *r)
{
    struct io *io = &r->io;

    io->kind = (enum io_kind)r->pub.op;
    io->flags = r->pub.flags;
    io->offset = r->pub.offset;
    io->length = r->pub.length;
    io->data = r->pub.data;
    io->extents = &r->extents;
    io->home = r->home;
    io->done_task.run = on_backing_done;
    io->result = 0;
    io->progress = 0;
    io->retries = 0;
}

/* What the backing does not do is answered here: a flush where nothing is volatile, "all data". */
static bool is_answered_for_backing(struct request *r)
{
    const struct backing_info *info = r->chain->info;

    switch (r->pub.op) {
    case SLUICE_OP_FLUSH:
        return !info->can_flush;
    case SLUICE_OP_PREFETCH:
        return !info->can_prefetch;
    case SLUICE_OP_EXTENTS:
        if (info->can_extents)
            return false;
        extents_add(&r->extents, r->pub.length, 0);
        return true;
    default:
        return false;
    }
}

static enum step to_backing(struct request *r)
{
    if (UNLIKELY(is_answered_for_backing(r))) {
        turn_round(r, 0);
        return STEP_ON;
    }
    /* From here the first byte may be on its way: no more cancelling. */
    if (op_changes_data(r->pub.op))
        atomic_store_explicit(&r->hold, HOLD_COMMITTED | HOLD_CALLING, memory_order_relaxed);
    request_set_place(r, PLACE_BACKING);
    fill_io(r);
    if (backing_submit(r->chain->backing, &r->io) == IO_PENDING)
        return STEP_WAIT;
    request_set_place(r, PLACE_RUNNING);
    take_result(r);
    return STEP_ON;
}

/* --- the walk
 * ------------------------------------------------------------------------------------------------
 */

static COLD void note_time(const struct edge *e, uint64_t *since)
{
    uint64_t now = clock_ticks(), ns = clock_ticks_to_ns(now - *since);

    histogram_add(&e->station->stats.callback_ns, ns);
    counter_max(&e->station->stats.longest_callback_ns, ns);
    *since = now;
}

static inline __attribute__((always_inline)) enum step walk_down(struct request *r,
                                                                 const bool is_timed)
{
    const struct edge *e = request_edge(r), *end = r->path->edge + r->path->count;
    uint64_t since = is_timed ? clock_ticks() : 0;
    char *scratch = r->scratch;
    uint32_t asked = r->asked;

    for (; e < end; e++) {
        struct sluice_verdict v;

        request_set_edge(r, e);
        v = e->start(e->instance, &r->pub, scratch + e->scratch_offset);
        if (is_timed)
            note_time(e, &since);
        if (UNLIKELY(v.kind > SLUICE_VERDICT_PASS_TELL)) {
            r->asked = asked;
            return v.kind == SLUICE_VERDICT_DEFER ? on_defer(r, e) : after_start(r, e, v);
        }
        asked = asked * 2 + v.kind;
    }
    request_set_edge(r, end);
    r->asked = asked;
    return to_backing(r);
}

/* The nearest edge above e that asked, where filters have put buffers below: each sees its own go
 * before it is told.  NULL: none. */
static COLD const struct edge *step_up_restoring(struct request *r, const struct edge *e)
{
    bool is_wanted = false;

    while (!is_wanted && (r->asked | r->substituted)) {
        e--;
        is_wanted = r->asked & 1;
        r->asked >>= 1;
        if (r->substituted & e->bit)
            r->pub.data = r->saved_data[e - r->path->edge];
        r->substituted &= ~e->bit;
    }
    return is_wanted ? e : NULL;
}

static inline struct sluice_verdict call_completion(struct request *r, const struct edge *e)
{
    request_set_edge(r, e);
    return e->completion(e->instance, &r->pub, (char *)r->scratch + e->scratch_offset);
}

/* Anything but a pass.  True: the filter keeps it. */
static COLD bool stops_going_up(struct request *r, const struct edge *e, struct sluice_verdict v)
{
    if (v.kind == SLUICE_VERDICT_DEFER)
        return on_defer(r, e) == STEP_WAIT;
    after_completion(r, v);
    return false;
}

static COLD enum step walk_up_restoring(struct request *r)
{
    const struct edge *e = request_edge(r);

    while ((e = step_up_restoring(r, e))) {
        struct sluice_verdict v = call_completion(r, e);

        if (stops_going_up(r, e, v))
            return STEP_WAIT;
    }
    return STEP_FINISH;
}

/* No filter puts a buffer below on the way up, so what is so at the beginning stays so. */
static inline __attribute__((always_inline)) enum step walk_up(struct request *r,
                                                               const bool is_timed)
{
    const struct edge *e = request_edge(r);
    uint64_t since = is_timed ? clock_ticks() : 0;
    uint32_t asked = r->asked;

    if (UNLIKELY(r->substituted))
        return walk_up_restoring(r);
    for (; asked; asked >>= 1) {
        struct sluice_verdict v;

        e--;
        if (!(asked & 1))
            continue;
        v = call_completion(r, e);
        if (is_timed)
            note_time(e, &since);
        if (LIKELY(v.kind <= SLUICE_VERDICT_PASS_TELL))
            continue;
        r->asked = asked >> 1;
        if (stops_going_up(r, e, v))
            return STEP_WAIT;
    }
    return STEP_FINISH;
}

static inline enum step walk(struct request *r)
{
    if (UNLIKELY(r->is_sampled))
        return r->is_upward ? walk_up(r, true) : walk_down(r, true);
    return r->is_upward ? walk_up(r, false) : walk_down(r, false);
}

void request_run(struct request *r)
{
    struct home_engine *he = r->home->engine;
    enum step step;

    atomic_store_explicit(&he->run_serial,
                          atomic_load_explicit(&he->run_serial, memory_order_relaxed) + 1,
                          memory_order_relaxed);
    atomic_store_explicit(&he->running, r, memory_order_relaxed);
    do {
        step = walk(r);
    } while (step == STEP_ON);
    atomic_store_explicit(&he->running, NULL, memory_order_relaxed);
    if (step == STEP_FINISH)
        request_finish(r);
}
