/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * backing-link: the state of the line to one server: attempts, loss, back-off, what must not change
 * behind our back, and who waits too long.  The states and what leads from one to the next stand in
 * backing-remote.h.  Everything here runs in the service loop; no lock but status_mutex.
 *
 * A transport reports a loss from the middle of its own callbacks, where it cannot be torn down:
 * the report is only noted, and end_task deals with it later in the same turn.
 */
#include "backing/backing-remote.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define MS UINT64_C(1000000)
#define SECOND (1000 * MS)
#define BACKOFF_MAX SECOND
/* From when on status says that the server is silent. */
#define SILENT_NS (5 * SECOND)

static void pause_then_connect(struct remote *r);

/* --- what others see -------------------------------------------------------------------------- */

void link_publish(struct remote *r)
{
    SCOPED_LOCK(&r->status_mutex);
    r->seen.state = r->state;
    r->seen.generation = r->generation;
    r->seen.reconnects = r->reconnects;
    r->seen.replayed = r->replayed;
    r->seen.lost_ns = r->lost_ns;
    r->seen.sticky = r->sticky;
    if (r->state != REMOTE_READY)
        r->seen.silent_ns = 0;
    memcpy(r->seen.reason, r->reason, sizeof r->reason);
}

static void publish_silence(struct remote *r, uint64_t silent_ns)
{
    SCOPED_LOCK(&r->status_mutex);
    r->seen.silent_ns = silent_ns;
}

void link_tell(struct remote *r, int code, const char *text)
{
    struct remote_waiter *w = r->waiter;

    if (!w)
        return;
    r->waiter = NULL;
    SCOPED_LOCK(&w->mutex);
    if (code)
        err_set(&w->err, code, "%s: %s", r->name, text);
    w->size_bytes = r->facts.size_bytes;
    w->is_done = true;
    pthread_cond_signal(&w->cond);
}

static void set_state(struct remote *r, enum remote_state state)
{
    r->state = state;
    link_publish(r);
}

/* --- up --------------------------------------------------------------------------------------- */

/* What the engine was promised must still hold; growing is allowed. */
static bool is_same_disk(const struct remote *r, const struct remote_facts *now, char *why,
                         size_t why_size)
{
    const struct remote_facts *was = &r->facts;
    const struct {
        bool was, is;
        const char *name;
    } abilities[] = {
        {!was->is_read_only, !now->is_read_only, "writing"},
        {was->can_flush, now->can_flush, "flush"},
        {was->can_fua && !was->can_flush, now->can_fua, "FUA"},
        {was->can_trim, now->can_trim, "trim"},
        {was->can_zero, now->can_zero, "writing zeros"},
        {was->can_fast_zero, now->can_fast_zero, "writing zeros fast"},
        {was->can_extents, now->can_extents, "block status"},
        {was->can_prefetch, now->can_prefetch, "prefetch"},
    };

    if (now->size_bytes < was->size_bytes)
        snprintf(why, why_size, "it came back with %" PRIu64 " bytes instead of %" PRIu64,
                 now->size_bytes, was->size_bytes);
    else if (strcmp(now->identity, was->identity) != 0)
        snprintf(why, why_size, "another disk is in its place: \"%.60s\" instead of \"%.60s\"",
                 now->identity, was->identity);
    else if (was->block_bytes % now->block_bytes)
        snprintf(why, why_size, "it came back with blocks of %u bytes instead of %u",
                 now->block_bytes, was->block_bytes);
    else {
        for (size_t i = 0; i < ARRAY_SIZE(abilities); i++)
            if (abilities[i].was && !abilities[i].is) {
                snprintf(why, why_size, "it came back without %s", abilities[i].name);
                return false;
            }
        return true;
    }
    return false;
}

void remote_up(struct remote *r, const struct remote_facts *facts)
{
    char why[200];

    if (r->state != REMOTE_CONNECTING || r->end)
        return;
    if (r->is_known && !is_same_disk(r, facts, why, sizeof why)) {
        remote_refuse(r, "%s", why);
        return;
    }
    loop_timer_cancel(r->loop, &r->retry);
    r->facts = *facts;
    if (r->is_known)
        r->reconnects++;
    r->is_known = true;
    set_state(r, REMOTE_REPLAYING);
    flight_replay(r);
}

static void log_return(const struct remote *r)
{
    log_line(LOG_LEVEL_NOTICE,
             "%s is back after %.1f s, %" PRIu64 " unflushed changes kept disk=%s", r->name,
             (double)(clock_now_ns() - r->lost_ns) / SECOND, r->kept.count, r->disk);
}

void link_replayed(struct remote *r)
{
    if (r->wants_flush && !r->sticky && flight_own_flush(r))
        return;
    r->wants_flush = false;
    if (r->lost_ns)
        log_return(r);
    r->lost_ns = 0;
    set_state(r, REMOTE_READY);
    link_tell(r, r->sticky, "the flush failed");
    flight_pump(r);
}

void remote_size(struct remote *r, uint64_t size_bytes)
{
    if (size_bytes < r->facts.size_bytes) {
        remote_refuse(r, "it shrank from %" PRIu64 " to %" PRIu64 " bytes", r->facts.size_bytes,
                      size_bytes);
        return;
    }
    if (size_bytes > r->facts.size_bytes)
        log_line(LOG_LEVEL_NOTICE, "%s grew to %" PRIu64 " bytes disk=%s", r->name, size_bytes,
                 r->disk);
    r->facts.size_bytes = size_bytes;
    link_tell(r, 0, NULL);
}

/* --- down ------------------------------------------------------------------------------------- */

static void PRINTF_LIKE(3, 0) note_end(struct remote *r, int end, const char *fmt, va_list args)
{
    if (r->end >= (unsigned)end || r->state == REMOTE_IDLE || r->state == REMOTE_REFUSED)
        return;
    vsnprintf(r->reason, sizeof r->reason, fmt, args);
    text_one_line(r->reason);
    r->end = end;
    if (r->is_end_posted)
        return;
    r->is_end_posted = true;
    home_run_later(loop_home(r->loop), &r->end_task);
}

void remote_down(struct remote *r, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    note_end(r, END_LOST, fmt, args);
    va_end(args);
}

void link_restart_later(struct remote *r, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    note_end(r, END_RESTART, fmt, args);
    va_end(args);
}

void remote_refuse(struct remote *r, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    note_end(r, END_REFUSED, fmt, args);
    va_end(args);
}

static bool was_connected(const struct remote *r)
{
    return r->state == REMOTE_REPLAYING || r->state == REMOTE_READY;
}

/* The server may have forgotten what it did not make stable. */
static void raise_generation(struct remote *r)
{
    uint64_t now_ns = clock_now_ns();

    r->generation++;
    if (!r->lost_ns)
        r->lost_ns = now_ns;
    flight_begin_waiting(r, now_ns);
    if (r->kept.has_forgotten)
        flight_sticky(r, EIO, "was lost with unflushed changes of which no copy was kept");
}

static void hang_up(struct remote *r)
{
    bool is_loss = was_connected(r);

    loop_timer_cancel(r->loop, &r->retry);
    r->transport->disconnect(r, false);
    flight_park(r);
    r->end = END_NONE;
    r->is_draining = false;
    if (is_loss)
        raise_generation(r);
}

static void refuse(struct remote *r)
{
    log_line(LOG_LEVEL_ERROR, "%s: %s; every request fails from now on disk=%s", r->name, r->reason,
             r->disk);
    hang_up(r);
    r->sticky = r->sticky ? r->sticky : EIO;
    set_state(r, REMOTE_REFUSED);
    link_tell(r, EIO, r->reason);
    flight_fail_all(r, -EIO);
}

static void first_attempt_failed(struct remote *r)
{
    hang_up(r);
    set_state(r, REMOTE_IDLE);
    link_tell(r, ENOTCONN, r->reason);
    flight_fail_all(r, -EIO);
}

static void lost(struct remote *r)
{
    bool is_loss = was_connected(r);

    log_line(is_loss ? LOG_LEVEL_WARNING : LOG_LEVEL_DEBUG, "%s %s: %s; requests wait disk=%s",
             is_loss ? "lost" : "no way to", r->name, r->reason, r->disk);
    hang_up(r);
    link_tell(r, ENOTCONN, r->reason);
    pause_then_connect(r);
}

static void restart(struct remote *r)
{
    hang_up(r);
    link_connect(r);
}

static void (*const by_end[])(struct remote *r) = {
    [END_RESTART] = restart,
    [END_LOST] = lost,
    [END_REFUSED] = refuse,
};

static void end_run(struct task *task)
{
    struct remote *r = CONTAINER_OF(task, struct remote, end_task);

    r->is_end_posted = false;
    if (r->end == END_NONE)
        return;
    if (!r->is_known)
        first_attempt_failed(r);
    else
        by_end[r->end](r);
}

void link_restart(struct remote *r, const char *reason)
{
    snprintf(r->reason, sizeof r->reason, "%s", reason);
    restart(r);
}

/* --- attempts --------------------------------------------------------------------------------- */

void link_connect(struct remote *r)
{
    set_state(r, REMOTE_CONNECTING);
    loop_timer_set(r->loop, &r->retry, clock_now_ns() + r->transport->connect_timeout_ns);
    r->transport->connect(r);
}

static void pause_then_connect(struct remote *r)
{
    uint64_t pause_ns = MAX(r->backoff_ns, r->transport->backoff_ns);

    set_state(r, REMOTE_PAUSED);
    loop_timer_set(r->loop, &r->retry, clock_now_ns() + service_jitter(pause_ns));
    r->backoff_ns = MIN(pause_ns * 2, BACKOFF_MAX);
}

static void retry_fire(struct timer *timer)
{
    struct remote *r = CONTAINER_OF(timer, struct remote, retry);

    if (r->state == REMOTE_PAUSED)
        link_connect(r);
    else if (r->state == REMOTE_CONNECTING)
        remote_down(r, "no answer within %" PRIu64 " s", r->transport->connect_timeout_ns / SECOND);
}

/* --- those who wait too long ------------------------------------------------------------------ */

static uint64_t tick_period(const struct remote *r)
{
    uint64_t period = r->reconnect_ns ? r->reconnect_ns / 10 : SECOND;

    return MIN(MAX(period, 5 * MS), SECOND);
}

static void tick_fire(struct timer *timer)
{
    struct remote *r = CONTAINER_OF(timer, struct remote, tick);
    uint64_t now_ns = clock_now_ns();
    bool is_silent = false;
    uint64_t since_ns = flight_expire(r, now_ns, &is_silent);

    if (is_silent)
        remote_down(r, "no answer for %.1f s", (double)(now_ns - since_ns) / SECOND);
    publish_silence(r, since_ns && now_ns - since_ns > SILENT_NS ? since_ns : 0);
    if (since_ns)
        link_watch(r);
}

void link_watch(struct remote *r)
{
    if (r->tick.due_ns == 0)
        loop_timer_set(r->loop, &r->tick, clock_now_ns() + tick_period(r));
}

/* --- beginning and end ------------------------------------------------------------------------ */

void link_init(struct remote *r)
{
    r->state = REMOTE_IDLE;
    r->retry.fire = retry_fire;
    r->tick.fire = tick_fire;
    r->end_task.run = end_run;
}

void link_stop(struct remote *r)
{
    loop_timer_cancel(r->loop, &r->retry);
    loop_timer_cancel(r->loop, &r->tick);
    r->transport->disconnect(r, r->state == REMOTE_READY);
    flight_park(r);
    loop_timer_cancel(r->loop, &r->settled);
    r->end = END_NONE;
    r->state = REMOTE_IDLE;
}
