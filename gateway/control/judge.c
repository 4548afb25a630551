/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * judge.c: what is wrong with a disk, in one sentence with one remedy.  failed: not served;
 * suspended: guests are held by order or by a policy; degraded: something is wrong, it is served.
 *
 * What lasts for less than a moment is no trouble: a full window is full all the time under load,
 * and a gate is closed for milliseconds at every change of a chain.
 */
#include "internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define MOMENT_NS UINT64_C(1000000000)
#define LONG_HOLD_NS (5 * MOMENT_NS)
#define RECENT_NS (60 * MOMENT_NS)

/* --- windows: how many requests each connection has in flight, and who holds them
 * ------------------------ */

static struct window *find_window(struct windows *w, const struct request_view *v)
{
    struct window *window;

    for (unsigned i = 0; i < w->count; i++)
        if (w->window[i].session == v->session)
            return &w->window[i];
    if (w->count == WINDOWS_MAX)
        return NULL;
    window = &w->window[w->count++];
    *window = (struct window){.session = v->session, .is_nbd = strncmp(v->client, "nbd ", 4) == 0};
    snprintf(window->client, sizeof window->client, "%s", v->client);
    return window;
}

static void count_in_window(struct windows *w, const struct request_view *v)
{
    struct window *window = find_window(w, v);

    if (!window)
        return;
    window->in_flight++;
    window->oldest_ns = MAX(window->oldest_ns, v->age_ns);
    if (!v->filter[0])
        return;
    window->held++;
    window->reason = v->hold_reason;
    snprintf(window->filter, sizeof window->filter, "%s", v->filter);
}

static void note_hold(struct windows *w, const struct request_view *v)
{
    if (v->age_ns <= w->oldest_hold_ns)
        return;
    w->oldest_hold_ns = v->age_ns;
    w->hold_reason = v->hold_reason;
    snprintf(w->hold_filter, sizeof w->hold_filter, "%s", v->filter);
}

void windows_look(struct windows *w, const struct request_view *v)
{
    if (v->origin != SLUICE_ORIGIN_GUEST || strcmp(v->where, "compound") == 0)
        return;
    count_in_window(w, v);
    if (strcmp(v->where, "gate") == 0)
        w->oldest_at_gate_ns = MAX(w->oldest_at_gate_ns, v->age_ns);
    else if (v->hold_reason)
        note_hold(w, v);
    else if (w->deadline_ns && v->age_ns > w->deadline_ns) {
        w->late++;
        snprintf(w->late_where, sizeof w->late_where, "%s%s%s", v->where, v->filter[0] ? " " : "",
                 v->filter);
    }
}

const struct window *windows_find_full(const struct windows *w, unsigned limit)
{
    for (unsigned i = 0; i < w->count; i++)
        if (w->window[i].is_nbd && w->window[i].in_flight >= limit &&
            w->window[i].oldest_ns >= MOMENT_NS)
            return &w->window[i];
    return NULL;
}

/* --- troubles, worst first
 * ------------------------------------------------------------------------ */

static void trouble(struct health *h, const char *state, const char *remedy, const char *fmt, ...)
    PRINTF_LIKE(4, 5);
/* The first one told stays. */
static void trouble(struct health *h, const char *state, const char *remedy, const char *fmt, ...)
{
    va_list ap;

    if (strcmp(h->state, "ok") != 0)
        return;
    h->state = state;
    snprintf(h->remedy, sizeof h->remedy, "%s", remedy);
    va_start(ap, fmt);
    vsnprintf(h->sentence, sizeof h->sentence, fmt, ap);
    va_end(ap);
}

static void judge_not_open(struct gateway_export *x, struct health *h)
{
    char remedy[200];
    SCOPED_LOCK(&x->gateway->exports_mutex);

    snprintf(remedy, sizeof remedy,
             "mend the cause; it is tried again by itself, or at once by: "
             "sluice disk reopen %s",
             x->name);
    if (x->state == EXPORT_FAILED || x->failures)
        trouble(h, "failed", remedy, "%s", x->failure);
    else if (x->state == EXPORT_LEAVING)
        trouble(h, "suspended", "", "is being removed");
    else
        trouble(h, "suspended", "wait; sluice watch tells when", "is being opened");
}

/* A file is there or not; only what is reached over a line may come back by itself. */
static void judge_unreachable(struct gateway_export *x, const char *sentence, struct health *h)
{
    char remedy[200];

    if (x->policy->backing.kind == BACKING_FILE) {
        snprintf(remedy, sizeof remedy, "put back what was there, then: sluice disk reopen %s",
                 x->name);
        trouble(h, "failed", remedy, "every request fails: %s", sentence);
    } else {
        trouble(h, "suspended", "see that the backing's server runs and can be reached",
                "requests wait for the backing: %s", sentence);
    }
}

static void judge_backing(struct gateway_export *x, struct health *h)
{
    struct backing_status st = {.is_connected = true};
    char remedy[200];

    backing_status(disk_backing(x->disk), &st);
    snprintf(remedy, sizeof remedy, "look for what was lost, then: sluice disk reopen %s", x->name);
    if (st.sticky_error)
        trouble(h, "failed", remedy,
                "a flush failed (%s); every flush fails until the backing is opened anew",
                strerror(st.sticky_error));
    if (!st.is_connected)
        judge_unreachable(x, st.sentence, h);
}

/* A guest knows of each; whoever looks after the disk would not. */
static void judge_failures(struct gateway_export *x, struct health *h)
{
    struct engine_failures f;
    uint64_t now = clock_now_ns();

    engine_failures(disk_engine(x->disk), &f);
    if (f.last_ns && now - f.last_ns < RECENT_NS)
        trouble(h, "degraded",
                f.error == ENOSPC || f.error == EDQUOT || f.error == EFBIG
                    ? "make room where its backing lies"
                    : "look at what its backing lies on, and at the system's log",
                "requests fail in the backing, the last one %.0f s ago: %s",
                (double)(now - f.last_ns) / 1e9, strerror(f.error));
}

static void judge_gate(struct gateway_export *x, const struct windows *w, struct health *h)
{
    char gate[200], remedy[200];

    disk_gate_reason(x->disk, gate, sizeof gate);
    snprintf(remedy, sizeof remedy, "sluice disk show %s --tasks", x->name);
    /* A secondary has no guests: what is wrong with it, its filters say. */
    if (gate[0] && disk_role(x->disk, NULL) != SLUICE_ROLE_SECONDARY)
        trouble(h, "suspended", remedy, "guests are held: %s", gate);
    snprintf(remedy, sizeof remedy,
             "commit what was prepared, or: sluice disk event %s snapshot --abort", x->name);
    if (w->oldest_at_gate_ns >= MOMENT_NS)
        trouble(h, "suspended", remedy,
                "guests are held for %.1f s by a change or a prepared event",
                (double)w->oldest_at_gate_ns / 1e9);
    snprintf(remedy, sizeof remedy, "sluice disk show %s --tasks", x->name);
    if (w->oldest_hold_ns >= LONG_HOLD_NS)
        trouble(h, "suspended", remedy, "filter %s holds requests for %.1f s: %s", w->hold_filter,
                (double)w->oldest_hold_ns / 1e9, w->hold_reason);
}

static void judge_filters(struct gateway_export *x, uint32_t wanted, struct health *h)
{
    for (unsigned i = 0; i < x->seat_count; i++) {
        char sentence[400] = "", remedy[400] = "";

        if (host_station_health(x->seat[i].station, sentence, sizeof sentence, remedy,
                                sizeof remedy) == wanted)
            trouble(h, wanted == SLUICE_HEALTH_FAILED ? "failed" : "degraded", remedy,
                    "filter %s: %s", x->seat[i].name, sentence);
    }
}

static void judge_bypassed(struct gateway_export *x, struct health *h)
{
    SCOPED_LOCK(&x->gateway->exports_mutex);

    if (x->bypassed[0])
        trouble(h, "degraded", "mend the cause, then: sluice reload", "%s", x->bypassed);
}

static void judge_requests(const struct gateway_export *x, const struct windows *w,
                           struct health *h)
{
    const struct window *full = windows_find_full(w, gateway_nbd_in_flight(x->gateway));
    char remedy[200];

    snprintf(remedy, sizeof remedy, "sluice disk show %s --tasks", x->name);
    if (w->late)
        trouble(h, "degraded", remedy, "%u request%s past the deadline of %g s, in %s", w->late,
                w->late == 1 ? " is" : "s are", (double)w->deadline_ns / 1e9, w->late_where);
    if (full && full->filter[0])
        trouble(h, "degraded", remedy,
                "the window of %u requests of %s is full, %u held by filter %s%s%s",
                full->in_flight, full->client, full->held, full->filter, full->reason ? ": " : "",
                full->reason ? full->reason : "");
    else if (full)
        trouble(h, "degraded", remedy,
                "the window of %u requests of %s is full: the backing is slow", full->in_flight,
                full->client);
}

static void look(const struct request_view *v, void *arg)
{
    windows_look(arg, v);
}

static uint64_t deadline_of(struct gateway_export *x)
{
    SCOPED_LOCK(&x->gateway->exports_mutex);

    return x->policy->deadline_ns;
}

static bool is_open(struct gateway_export *x)
{
    SCOPED_LOCK(&x->gateway->exports_mutex);

    return x->state == EXPORT_READY && x->disk;
}

void export_judge(struct gateway_export *x, struct windows *w, struct health *h)
{
    *h = (struct health){.state = "ok"};
    if (!is_open(x)) {
        judge_not_open(x, h);
        return;
    }
    w->deadline_ns = deadline_of(x);
    engine_for_each_request(disk_engine(x->disk), look, w);
    judge_backing(x, h);
    judge_filters(x, SLUICE_HEALTH_FAILED, h);
    judge_gate(x, w, h);
    judge_filters(x, SLUICE_HEALTH_DEGRADED, h);
    judge_bypassed(x, h);
    judge_failures(x, h);
    judge_requests(x, w, h);
}
