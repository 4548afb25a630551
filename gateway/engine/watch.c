/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * watch.c: one thread looks at all homes every few milliseconds: which callback keeps its thread,
 * and which request is past its deadline.  It reads what the homes publish (running, edge, place,
 * holder) and changes nothing but two flags: that a stall was reported, and that a request wants
 * cancelling.  The home itself cancels, when the watch pokes it.
 */
#include "internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define BLOCKED_NS 10000000u

static void lock_list(struct home_engine *he)
{
    while (atomic_exchange_explicit(&he->list_lock, true, memory_order_acquire))
        ;
}

static void unlock_list(struct home_engine *he)
{
    atomic_store_explicit(&he->list_lock, false, memory_order_release);
}

/* --- blocked callbacks
 * ---------------------------------------------------------------------------- */

/* Under the list lock, which keeps the request, and so its chain and stations, from going away. The
 * edge whose callback runs in this home, or NULL. */
static const struct edge *running_edge(const struct home_engine *he)
{
    const struct request *running = atomic_load_explicit(&he->running, memory_order_relaxed);

    LIST_FOREACH (node, &he->in_flight) {
        const struct request *r = LIST_ENTRY(node, struct request, link);
        const struct edge *edge = request_edge(r);

        if (r == running && request_place(r) == PLACE_RUNNING && edge && edge->station)
            return edge;
    }
    return NULL;
}

/* Under the list lock: the home waits for this line at most, and its filter has just kept it
 * longer. */
static void report_blocked(const struct station *s, uint64_t since_ns)
{
    counter_add(&((struct station *)(uintptr_t)s)->stats.blocked, 1);
    log_line(LOG_LEVEL_WARNING, "filter %s blocked the I/O path for %u ms or more disk=%s", s->name,
             (unsigned)(since_ns / 1000000u), s->disk ? s->disk->name : "");
}

/* Twice the same callback of the same run, 10 ms apart: it keeps its thread. */
static void look_at_running_locked(struct home_engine *he, uint64_t now_ns)
{
    uint64_t serial = atomic_load_explicit(&he->run_serial, memory_order_relaxed);
    const struct edge *edge = running_edge(he);

    if (!edge || edge != he->seen_edge || serial != he->seen_serial) {
        he->seen_edge = edge;
        he->seen_serial = serial;
        he->seen_since_ns = now_ns;
    } else if (now_ns - he->seen_since_ns >= BLOCKED_NS && he->reported_serial != serial) {
        he->reported_serial = serial;
        report_blocked(edge->station, now_ns - he->seen_since_ns);
    }
}

static void look_at_running(struct home_engine *he, uint64_t now_ns)
{
    lock_list(he);
    look_at_running_locked(he, now_ns);
    unlock_list(he);
}

/* --- deadlines
 * ---------------------------------------------------------------------------------------- */

struct stall {
    struct engine *engine;
    const char *action;
    char what[80];
    struct sluice_request request;
    uint64_t age_ns;
};

/* Stalls seen in one home, told after its list lock is let go. */
struct stalls {
    unsigned count;
    bool wants_poke;
    struct stall stall[16];
};

static enum stall_policy station_on_stall(const struct station *s)
{
    return (enum stall_policy)atomic_load_explicit(&s->on_stall, memory_order_relaxed);
}

static enum stall_policy policy_for(const struct request *r, const struct station *holder)
{
    switch (request_place(r)) {
    case PLACE_FILTER:
        return holder ? station_on_stall(holder) : STALL_WAIT;
    case PLACE_LOCK:
        return (enum stall_policy)atomic_load(&r->engine->on_stall);
    default:
        return STALL_WAIT;
    }
}

/* A hold wanted by a policy, a closed gate and the parent of a compound are no stalls. */
static bool is_excused(const struct request *r)
{
    enum request_place place = request_place(r);

    return place == PLACE_GATE || place == PLACE_COMPOUND || place == PLACE_NEW ||
           place == PLACE_END ||
           (place == PLACE_FILTER && atomic_load_explicit(&r->hold_reason, memory_order_relaxed));
}

static const char *place_text(const struct request *r, const struct station *holder, char *buf,
                              size_t size)
{
    switch (request_place(r)) {
    case PLACE_FILTER:
        snprintf(buf, size, "filter %s", holder ? holder->name : "?");
        return buf;
    case PLACE_BACKING:
        return "backing";
    case PLACE_LOCK:
        return "range lock";
    case PLACE_GATE:
        return "gate";
    case PLACE_COMPOUND:
        return "compound";
    default:
        return "running";
    }
}

static const char *action_text(enum stall_policy policy)
{
    static const char *const text[] = {
        [STALL_WAIT] = "wait", [STALL_FAIL] = "fail", [STALL_BYPASS] = "bypass"};

    return text[policy];
}

static void note_stall(struct request *r, const struct station *holder, uint64_t age_ns,
                       enum stall_policy policy, struct stalls *out)
{
    struct stall *s;
    char buf[80];

    if (out->count == ARRAY_SIZE(out->stall))
        return; /* the next tick takes the rest */
    atomic_store_explicit(&r->is_stall_reported, true, memory_order_relaxed);
    atomic_fetch_add(&r->engine->stalled, 1);
    if (holder)
        counter_add(&((struct station *)(uintptr_t)holder)->stats.stalled, 1);
    s = &out->stall[out->count++];
    s->engine = r->engine;
    s->action = action_text(policy);
    snprintf(s->what, sizeof s->what, "%s", place_text(r, holder, buf, sizeof buf));
    s->request.op = r->pub.op;
    s->request.origin = r->pub.origin;
    s->request.flags = r->pub.flags;
    s->request.offset = r->pub.offset;
    s->request.length = r->pub.length;
    s->request.id = r->pub.id;
    s->request.client = r->pub.client;
    s->age_ns = age_ns;
}

static void look_at_request(struct request *r, uint64_t now_ticks, struct stalls *out)
{
    uint64_t deadline = atomic_load_explicit(&r->engine->deadline_ns, memory_order_relaxed);
    uint64_t age = clock_ticks_to_ns(now_ticks - r->start_ticks);
    const struct station *holder;
    enum stall_policy policy;

    if (!deadline || age < deadline || (int64_t)(now_ticks - r->start_ticks) < 0 || is_excused(r))
        return;
    holder = request_place(r) == PLACE_FILTER
                 ? atomic_load_explicit(&r->holder, memory_order_acquire)
                 : NULL;
    policy = policy_for(r, holder);
    if (!atomic_load_explicit(&r->is_stall_reported, memory_order_relaxed))
        note_stall(r, holder, age, policy, out);
    if (policy != STALL_WAIT) {
        atomic_store_explicit(&r->wants_cancel, true, memory_order_relaxed);
        out->wants_poke = true;
    }
}

static void look_at_list(struct home_engine *he, struct stalls *out)
{
    uint64_t now = clock_ticks();

    lock_list(he);
    LIST_FOREACH (node, &he->in_flight)
        look_at_request(LIST_ENTRY(node, struct request, link), now, out);
    unlock_list(he);
}

static void tell(const struct stalls *stalls)
{
    for (unsigned i = 0; i < stalls->count; i++) {
        const struct stall *s = &stalls->stall[i];

        if (s->engine->hooks.stalled)
            s->engine->hooks.stalled(s->engine->hook_context, &s->request, s->what, s->age_ns,
                                     s->action);
    }
}

static void poke(struct home_engine *he)
{
    if (!atomic_exchange(&he->is_poked, true))
        home_post(he->home, &he->poke);
}

/* In the home: cancels what the watch has marked. */
void watch_on_poke(struct task *task)
{
    struct home_engine *he = CONTAINER_OF(task, struct home_engine, poke);

    atomic_store(&he->is_poked, false);
    /* Only this thread adds to or removes from the list, and cancelling only queues. */
    LIST_FOREACH_SAFE (node, &he->in_flight) {
        struct request *r = LIST_ENTRY(node, struct request, link);
        const struct station *holder = atomic_load_explicit(&r->holder, memory_order_acquire);
        bool bypass;

        if (!atomic_exchange_explicit(&r->wants_cancel, false, memory_order_relaxed))
            continue;
        bypass = request_place(r) == PLACE_FILTER && station_on_stall(holder) == STALL_BYPASS;
        if (request_cancel_with(r, ETIMEDOUT, bypass) && bypass)
            counter_add(&((struct station *)(uintptr_t)holder)->stats.bypassed, 1);
    }
}

/* --- ticks
 * ---------------------------------------------------------------------------------------------- */

#define DEADLINE_TICK_NS 50000000u

static _Atomic bool saw_activity;
static _Atomic uint64_t next_deadline_look_ns;

struct tick {
    uint64_t now_ns;
    bool looks_at_deadlines, saw_any;
};

static void look_at_deadlines(struct home_engine *he)
{
    struct stalls stalls = {0};

    look_at_list(he, &stalls);
    tell(&stalls);
    if (stalls.wants_poke)
        poke(he);
}

static void look_at_home(struct home *home, void *arg)
{
    struct tick *tick = arg;
    struct home_engine *he = home->engine;

    if (!he || atomic_load_explicit(&he->in_flight_count, memory_order_relaxed) == 0)
        return;
    tick->saw_any = true;
    look_at_running(he, tick->now_ns);
    if (tick->looks_at_deadlines)
        look_at_deadlines(he);
}

void engine_watch_tick(uint64_t now_ns)
{
    struct tick tick = {.now_ns = now_ns};

    tick.looks_at_deadlines = now_ns >= atomic_load(&next_deadline_look_ns);
    if (tick.looks_at_deadlines)
        atomic_store(&next_deadline_look_ns, now_ns + DEADLINE_TICK_NS);
    home_for_each(look_at_home, &tick);
    atomic_store(&saw_activity, tick.saw_any);
}

bool engine_watch_is_busy(void)
{
    return atomic_load(&saw_activity);
}

/* --- listing
 * ---------------------------------------------------------------------------------------------- */

#define VIEWS_MAX 4096

struct listing {
    struct engine *engine;
    struct request_view *view;
    unsigned count;
};

static void fill_view(struct request *r, struct request_view *v)
{
    const struct sluice_client *c = r->pub.client;
    const struct station *holder = NULL;
    static const char *const where[] = {
        [PLACE_NEW] = "running",       [PLACE_GATE] = "gate",     [PLACE_LOCK] = "range lock",
        [PLACE_RUNNING] = "running",   [PLACE_FILTER] = "filter", [PLACE_BACKING] = "backing",
        [PLACE_COMPOUND] = "compound", [PLACE_END] = "running",
    };

    *v = (struct request_view){
        .id = r->pub.id,
        .offset = r->pub.offset,
        .length = r->pub.length,
        .age_ns = clock_ticks_to_ns(clock_ticks() - r->start_ticks),
        .op = (uint8_t)r->op,
        .origin = r->pub.origin,
        .where = where[request_place(r)],
        .hold_reason = atomic_load_explicit(&r->hold_reason, memory_order_relaxed),
    };
    if (request_place(r) == PLACE_FILTER)
        holder = atomic_load_explicit(&r->holder, memory_order_acquire);
    snprintf(v->filter, sizeof v->filter, "%s", holder ? holder->name : "");
    v->session = c ? c->session : 0;
    snprintf(v->client, sizeof v->client, "%s %s", c ? c->front_end : "", c ? c->address : "");
}

struct guests {
    struct engine *engine;
    uint64_t count;
};

static void count_guests(struct home *home, void *arg)
{
    struct guests *g = arg;
    struct home_engine *he = home->engine;

    if (!he)
        return;
    lock_list(he);
    LIST_FOREACH (node, &he->in_flight) {
        const struct request *r = LIST_ENTRY(node, struct request, link);

        g->count += r->engine == g->engine && !r->parent && !r->entry && !r->passes_gate &&
                    request_place(r) != PLACE_GATE;
    }
    unlock_list(he);
}

/* Who is in the list has looked at the gate after it was closed, or is counted: a request joins
 * before it looks. */
uint64_t engine_guests_in_flight(struct engine *engine)
{
    struct guests g = {.engine = engine};

    home_for_each(count_guests, &g);
    return g.count;
}

static void list_home(struct home *home, void *arg)
{
    struct listing *l = arg;
    struct home_engine *he = home->engine;

    if (!he)
        return;
    lock_list(he);
    LIST_FOREACH (node, &he->in_flight) {
        struct request *r = LIST_ENTRY(node, struct request, link);

        if ((!l->engine || r->engine == l->engine) && l->count < VIEWS_MAX)
            fill_view(r, &l->view[l->count++]);
    }
    unlock_list(he);
}

void engine_for_each_request(struct engine *engine,
                             void (*fn)(const struct request_view *view, void *arg), void *arg)
{
    struct listing l = {.engine = engine, .view = calloc(VIEWS_MAX, sizeof *l.view)};

    if (!l.view)
        return;
    home_for_each(list_home, &l);
    for (unsigned i = 0; i < l.count; i++)
        fn(&l.view[i], arg);
    free(l.view);
}
