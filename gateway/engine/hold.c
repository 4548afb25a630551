/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hold.c: what may happen to a request that a filter owns: resume and commit from any thread,
 * cancel from the home.  They meet in the hold word (internal.h), which decides every race.
 *
 * Point of no return: once COMMITTED is set, cancel is refused; the buffer and the range stay taken
 * until whoever holds the request lets go.
 */
#include "internal.h"

#include <errno.h>

static const struct edge *owned_edge(struct station *station, struct sluice_request *pub)
{
    struct request *r = request_of(pub);
    const struct edge *e;

    if (r->magic != REQUEST_MAGIC)
        return NULL;
    e = request_edge(r);
    return e && e->station == station ? e : NULL;
}

static COLD bool refuse_stranger(const struct station *station, const char *call)
{
    log_line(LOG_LEVEL_ERROR,
             "%s on a request that this filter does not own (bug of the filter) filter=%s", call,
             station->name);
    return false;
}

static void post_resumed(struct request *r)
{
    r->task.run = request_on_resumed;
    if (home_current_or_null() == r->home)
        home_run_later(r->home, &r->task);
    else
        home_post(r->home, &r->task);
}

static struct sluice_verdict checked(struct sluice_verdict v)
{
    return v.kind >= SLUICE_VERDICT_DEFER ? sluice_fail(EIO) : v;
}

bool request_resume(struct station *station, struct sluice_request *pub,
                    struct sluice_verdict verdict)
{
    struct request *r = request_of(pub);
    uint32_t now = atomic_load_explicit(&r->hold, memory_order_acquire);

    for (;;) {
        uint32_t state = now & HOLD_STATE_MASK, committed = now & HOLD_COMMITTED;

        if (state == HOLD_RESUMED || state == HOLD_LET_GO)
            return false;
        if (state == HOLD_CANCELLING) {
            if (atomic_compare_exchange_weak(&r->hold, &now, committed | HOLD_LET_GO))
                return false;
            continue;
        }
        if (!owned_edge(station, pub))
            return refuse_stranger(station, "resume");
        r->resumed = checked(verdict);
        r->resumed_by = station;
        if (!atomic_compare_exchange_weak(&r->hold, &now, committed | HOLD_RESUMED))
            continue;
        if (state == HOLD_HELD)
            post_resumed(r);
        return true;
    }
}

bool request_commit(struct station *station, struct sluice_request *pub)
{
    struct request *r = request_of(pub);
    uint32_t now = atomic_load_explicit(&r->hold, memory_order_acquire);

    if (!owned_edge(station, pub))
        return refuse_stranger(station, "commit");
    do {
        if ((now & HOLD_STATE_MASK) > HOLD_HELD)
            return false;
    } while (!atomic_compare_exchange_weak(&r->hold, &now, now | HOLD_COMMITTED));
    return true;
}

void request_hold(struct station *station, struct sluice_request *pub, const char *reason)
{
    if (owned_edge(station, pub))
        atomic_store_explicit(&request_of(pub)->hold_reason, reason, memory_order_relaxed);
    else
        refuse_stranger(station, "hold");
}

void request_substitute(struct station *station, struct sluice_request *pub, void *data)
{
    const struct edge *e = owned_edge(station, pub);
    struct request *r = request_of(pub);

    if (!e || r->is_upward) { /* on the way up there is nobody below to see it */
        refuse_stranger(station, "substitute");
        return;
    }
    if (!(r->substituted & e->bit))
        r->saved_data[e - r->path->edge] = pub->data;
    r->substituted |= e->bit;
    pub->data = data;
}

bool request_extent(struct station *station, struct sluice_request *pub, uint64_t length,
                    uint32_t type)
{
    if (!owned_edge(station, pub))
        return refuse_stranger(station, "extent");
    return extents_add(&request_of(pub)->extents, length, type) == 0;
}

/* --- cancel
 * -------------------------------------------------------------------------------------------- */

/* The filter has let go: the request goes on in its home with `verdict` at this edge. */
static void end_cancelled(struct request *r, const struct edge *e, struct sluice_verdict verdict)
{
    uint32_t committed = atomic_load(&r->hold) & HOLD_COMMITTED;

    if (verdict.kind == SLUICE_VERDICT_FAIL && !r->is_upward) {
        /* counted as cancelled, not as failed by the filter */
        counter_add(&request_edge_counts(r)->cancelled, 1);
        atomic_fetch_sub_explicit(&request_edge_counts(r)->failed, 1, memory_order_relaxed);
    }
    r->resumed = verdict;
    r->resumed_by = e->station;
    atomic_store(&r->hold, committed | HOLD_RESUMED);
    r->task.run = request_on_resumed;
    home_run_later(r->home, &r->task);
}

static bool cancel_held(struct request *r, struct sluice_verdict verdict)
{
    const struct edge *e = request_edge(r);
    const struct sluice_filter *filter = e->station->filter;
    uint32_t held = HOLD_HELD, cancelling = HOLD_CANCELLING;
    enum sluice_cancel_answer answer = SLUICE_CANCEL_BUSY;

    /* Fails when committed, or resumed a moment ago. */
    if (!atomic_compare_exchange_strong(&r->hold, &held, HOLD_CANCELLING))
        return false;
    if (filter->cancel)
        answer = filter->cancel(e->instance, &r->pub, (char *)r->scratch + e->scratch_offset);
    if (answer == SLUICE_CANCEL_BUSY &&
        atomic_compare_exchange_strong(&r->hold, &cancelling, HOLD_HELD))
        return false;
    end_cancelled(r, e, verdict);
    return true;
}

static void on_cancelled_early(struct task *task)
{
    struct request *r = CONTAINER_OF(task, struct request, task);

    request_fail_before_walk(r, r->cancel_error);
}

/* Not in the chain yet.  If it has just been let in, its task is on the way and sees cancel_error.
 */
static bool cancel_waiting(struct request *r, bool was_withdrawn)
{
    if (was_withdrawn) {
        r->task.run = on_cancelled_early;
        home_run_later(r->home, &r->task);
    }
    return true;
}

bool request_cancel_with(struct request *r, int error, bool is_bypass)
{
    switch (request_place(r)) {
    case PLACE_GATE:
        r->cancel_error = error;
        return cancel_waiting(r, gate_withdraw(r));
    case PLACE_LOCK:
        r->cancel_error = error;
        return cancel_waiting(r, rangelock_withdraw(&r->engine->lock, &r->lock));
    case PLACE_FILTER:
        return cancel_held(r, is_bypass ? sluice_pass() : sluice_fail(error));
    case PLACE_COMPOUND:
        return compound_cancel(r, error);
    default:
        return false;
    }
}

bool request_cancel(struct request *r, int error)
{
    return request_cancel_with(r, error, false);
}
