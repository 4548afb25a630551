/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * request.c: the life of a request from its home's pool to its end.  The pool and all fields but
 * the hold word belong to the home's thread, so none of this locks, except the list of requests in
 * flight, which the watch reads (a spin lock held for a few instructions).
 */
#include "internal.h"

#include <errno.h>
#include <sched.h>
#include <string.h>

#define FREE_REQUESTS_MAX 64

static _Atomic uint64_t next_home_serial = 1;

void counter_max(_Atomic uint64_t *counter, uint64_t value)
{
    uint64_t now = atomic_load_explicit(counter, memory_order_relaxed);

    while (now < value && !atomic_compare_exchange_weak_explicit(
                              counter, &now, value, memory_order_relaxed, memory_order_relaxed))
        ;
}

/* --- the home's part
 * -------------------------------------------------------------------------------- */

static void list_lock(struct home_engine *he)
{
    while (atomic_exchange_explicit(&he->list_lock, true, memory_order_acquire))
        ;
}

static void list_unlock(struct home_engine *he)
{
    atomic_store_explicit(&he->list_lock, false, memory_order_release);
}

static void free_request_memory(struct request *r)
{
    if (r->scratch != r->scratch_inline)
        free(r->scratch);
    free(r);
}

/* Begun, and not waited for by who began it. */
static COLD void abandon(struct request *r)
{
    request_wait(r);
    request_free(r);
}

static void on_home_exit(struct home *home)
{
    struct home_engine *he = home->engine;

    if (!he)
        return;
    if (he->executing)
        abandon(he->executing);
    home->engine = NULL;
    while (he->free_list) {
        struct request *r = he->free_list;

        he->free_list = r->free_next;
        free_request_memory(r);
    }
    free(he);
}

static COLD struct home_engine *make_home_engine(struct home *home)
{
    struct home_engine *he = calloc(1, sizeof *he);

    if (!he)
        return NULL;
    home_set_exit_hook(on_home_exit);
    he->home = home;
    list_init(&he->in_flight);
    he->next_id = atomic_fetch_add(&next_home_serial, 1) << 40;
    he->poke.run = watch_on_poke;
    he->is_free = true;
    home->engine = he;
    return he;
}

struct home_engine *home_engine_get(struct home *home)
{
    struct home_engine *he = home->engine;

    return LIKELY(he != NULL) ? he : make_home_engine(home);
}

/* --- new and free
 * ------------------------------------------------------------------------------------ */

static COLD struct request *allocate(void)
{
    struct request *r =
        aligned_alloc(CACHE_LINE, (sizeof *r + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE);

    if (!r)
        return NULL;
    memset(r, 0, sizeof *r);
    r->scratch = r->scratch_inline;
    r->scratch_capacity = sizeof r->scratch_inline;
    return r;
}

static struct request *take(struct home_engine *he)
{
    struct request *r = he->free_list;

    if (UNLIKELY(!r))
        return allocate();
    he->free_list = r->free_next;
    he->free_count--;
    return r;
}

static void reset(struct request *r)
{
    r->magic = REQUEST_MAGIC;
    r->chain = NULL;
    r->path = NULL;
    atomic_store_explicit(&r->place, PLACE_NEW, memory_order_relaxed);
    request_set_edge(r, NULL);
    r->is_upward = r->is_pending = r->is_finished = r->has_lock = false;
    r->is_admitted = r->is_counted = r->is_compound_counted = r->passes_gate = false;
    atomic_store_explicit(&r->is_stall_reported, false, memory_order_relaxed);
    atomic_store_explicit(&r->wants_cancel, false, memory_order_relaxed);
    r->cancel_error = 0;
    r->asked = r->substituted = 0;
    atomic_store_explicit(&r->hold, HOLD_CALLING, memory_order_relaxed);
    r->resumed_by = NULL;
    atomic_store_explicit(&r->holder, NULL, memory_order_relaxed);
    atomic_store_explicit(&r->hold_reason, NULL, memory_order_relaxed);
    r->token = NULL;
    r->entry = NULL;
    r->done = NULL;
    r->owner = NULL;
    r->parent = NULL;
    r->compound = NULL;
    r->miscompare = 0;
    r->extents.first_only = false;
    list_init(&r->gate_link);
}

static uint8_t current_shard(void)
{
    int cpu = sched_getcpu();

    return cpu < 0 ? 0 : (uint8_t)((unsigned)cpu % ENGINE_SHARDS);
}

struct request *request_new(struct engine *engine, const struct sluice_client *client)
{
    struct home *home = home_current();
    struct home_engine *he = home ? home_engine_get(home) : NULL;
    struct request *r = he ? take(he) : NULL;

    if (!r)
        return NULL;
    reset(r);
    r->engine = engine;
    r->home = home;
    r->shard = current_shard();
    r->is_sampled = he->sample++ % STATION_SAMPLE == 0;
    r->pub = (struct sluice_request){.client = client, .id = ++he->next_id};
    return r;
}

void request_fill(struct request *r, unsigned op, uint32_t flags, uint64_t offset, uint64_t length,
                  void *data)
{
    r->pub.op = (uint8_t)op;
    r->pub.flags = (uint16_t)flags;
    r->pub.offset = offset;
    r->pub.length = length;
    r->pub.data = data;
}

struct request *request_new_child(struct request *parent)
{
    struct request *r = request_new(parent->engine, parent->pub.client);

    if (!r)
        return NULL;
    r->parent = parent;
    r->entry = parent->entry;
    r->pub.origin = parent->pub.origin;
    return r;
}

void request_free(struct request *r)
{
    struct home_engine *he = r->home->engine;

    r->magic = 0;
    if (r->compound)
        compound_free(r->compound);
    r->compound = NULL;
    if (r->extents.list)
        extents_free(&r->extents);
    if (UNLIKELY(he->free_count >= FREE_REQUESTS_MAX)) {
        free_request_memory(r);
        return;
    }
    r->free_next = he->free_list;
    he->free_list = r;
    he->free_count++;
}

struct sluice_request *request_public(struct request *r)
{
    return &r->pub;
}

void request_set_done(struct request *r, request_done_fn *done, void *owner)
{
    r->done = done;
    r->owner = owner;
}

void *request_owner(const struct request *r)
{
    return r->owner;
}

struct extents *request_extents(struct request *r)
{
    return &r->extents;
}

uint64_t request_miscompare_offset(const struct request *r)
{
    return r->miscompare;
}

void request_set_entry(struct request *r, struct station *station)
{
    r->entry = station;
}

void request_set_lock_token(struct request *r, struct range_entry *token)
{
    r->token = token;
}

void request_pass_gate(struct request *r)
{
    r->passes_gate = true;
}

int request_error(const struct request *r)
{
    return r->pub.error;
}

/* --- submit
 * --------------------------------------------------------------------------------------------- */

/* 0, or the errno with which the request ends before it begins. */
static int check(const struct request *r)
{
    const struct engine *e = r->engine;
    uint64_t size = atomic_load_explicit(&e->size_bytes, memory_order_relaxed);
    bool changes = op_changes_data(r->op);

    if (r->op >= ENGINE_OP_COUNT)
        return EOPNOTSUPP;
    if (r->op != SLUICE_OP_FLUSH && (r->pub.offset > size || r->pub.length > size - r->pub.offset))
        return changes ? ENOSPC : EINVAL;
    if (!changes)
        return 0;
    if (e->info->is_read_only ||
        (atomic_load_explicit(&e->is_read_only, memory_order_relaxed) && !r->entry))
        return EROFS;
    if (r->op == SLUICE_OP_TRIM && !e->info->can_trim)
        return EOPNOTSUPP;
    if ((r->pub.flags & SLUICE_FLAG_FAST_ONLY) && !e->info->can_fast_zero)
        return EOPNOTSUPP;
    return 0;
}

static bool is_empty(const struct request *r)
{
    return r->pub.length == 0 && r->op != SLUICE_OP_FLUSH;
}

static void join_flight(struct request *r)
{
    struct home_engine *he = r->home->engine;

    list_lock(he);
    list_append(&he->in_flight, &r->link);
    list_unlock(he);
    atomic_store_explicit(&he->in_flight_count,
                          atomic_load_explicit(&he->in_flight_count, memory_order_relaxed) + 1,
                          memory_order_relaxed);
    r->is_counted = true;
}

static void leave_flight(struct request *r)
{
    struct home_engine *he = r->home->engine;

    if (!r->is_counted)
        return;
    r->is_counted = false;
    list_lock(he);
    list_remove(&r->link);
    list_unlock(he);
    atomic_store_explicit(&he->in_flight_count,
                          atomic_load_explicit(&he->in_flight_count, memory_order_relaxed) - 1,
                          memory_order_relaxed);
}

static void end_now(struct request *r, int error)
{
    r->pub.error = error;
    r->is_finished = true;
    request_set_place(r, PLACE_END);
}

enum io_status request_submit(struct request *r)
{
    int error;

    r->op = r->pub.op;
    error = check(r);
    if (UNLIKELY(error || is_empty(r))) {
        end_now(r, error);
        return IO_DONE;
    }
    r->start_ticks = clock_ticks();
    if (r->op == SLUICE_OP_EXTENTS)
        extents_reset(&r->extents, r->pub.offset, r->pub.length);
    join_flight(r);
    if (r->parent || gate_enter(r))
        request_admit(r);
    if (r->is_finished)
        return IO_DONE;
    r->is_pending = true;
    return IO_PENDING;
}

/* What filters started in their callbacks and has begun; the rest moves on when its turn comes. */
static COLD void wait_for_errands(struct home_engine *he)
{
    home_wait(he->home, &he->is_free);
}

static enum io_status begin_executing(struct request *r)
{
    struct home_engine *he = r->home->engine;

    he->executing = r;
    r->home->help = NULL;
    return request_submit(r);
}

int request_execute(struct request *r)
{
    (void)begin_executing(r);
    return request_wait(r);
}

/* IO_DONE: nothing of it is left to wait for. */
static enum io_status end_executing(struct request *r)
{
    struct home_engine *he = r->home->engine;

    if (UNLIKELY(!r->is_finished || he->borrowed != 0))
        return IO_PENDING;
    he->executing = NULL;
    return IO_DONE;
}

enum io_status request_begin(struct request *r)
{
    r->home->is_hurried = true;
    (void)begin_executing(r);
    r->home->is_hurried = false;
    return end_executing(r);
}

enum io_status request_wait_watching(struct request *r, int fd)
{
    if (!r->is_finished)
        home_wait_watching(r->home, &r->is_finished, fd);
    return end_executing(r);
}

int request_wait(struct request *r)
{
    struct home_engine *he = r->home->engine;

    if (!r->is_finished)
        home_wait_helping(r->home, &r->is_finished);
    if (UNLIKELY(he->borrowed != 0))
        wait_for_errands(he);
    he->executing = NULL;
    return r->pub.error;
}

struct home *engine_home_borrow(void)
{
    struct home *home = home_current_or_null();
    struct home_engine *he = home ? home->engine : NULL;

    if (!home || home->kind == HOME_LOOP)
        return home;
    if (!he || !he->executing || he->executing->is_finished)
        return NULL;
    he->borrowed++;
    he->is_free = false;
    return home;
}

void engine_home_return(struct home *home)
{
    struct home_engine *he = home->engine;

    if (home->kind == HOME_LOOP)
        return;
    he->borrowed--;
    he->is_free = he->borrowed == 0;
}

bool engine_home_is_lent(const struct home *home)
{
    const struct home_engine *he = home->engine;

    return home->kind == HOME_LOOP || !he->executing->is_finished;
}

bool engine_home_must_not_block(void)
{
    struct home *home = home_current_or_null();
    struct home_engine *he = home ? home->engine : NULL;

    return home && (home->kind == HOME_LOOP || (he && he->executing));
}

/* --- admission: lock, compound, walk
 * -------------------------------------------------------------------- */

void request_post(struct request *r, void (*run)(struct task *))
{
    r->task.run = run;
    home_post(r->home, &r->task);
}

static void after_lock(struct request *r)
{
    int error = 0;

    if (UNLIKELY(compound_is_needed(r)))
        error = compound_start(r);
    else
        request_begin_walk(r);
    if (error)
        request_fail_before_walk(r, error);
}

static void on_lock_granted(struct task *task)
{
    struct request *r = CONTAINER_OF(task, struct request, task);

    r->has_lock = true;
    if (r->cancel_error)
        request_fail_before_walk(r, r->cancel_error);
    else
        after_lock(r);
}

static void post_lock_granted(struct range_entry *entry)
{
    request_post(CONTAINER_OF(entry, struct request, lock), on_lock_granted);
}

static void round_out(struct range_entry *entry, const struct request *r)
{
    uint64_t unit = r->chain->unit, end = r->pub.offset + r->pub.length;

    entry->first = r->pub.offset / unit * unit;
    entry->last = (end + unit - 1) / unit * unit - 1;
}

static bool lock_range(struct request *r, bool is_shared)
{
    r->lock.is_shared = is_shared;
    r->lock.granted = post_lock_granted;
    round_out(&r->lock, r);
    request_set_place(r, PLACE_LOCK);
    r->has_lock = rangelock_lock(&r->engine->lock, &r->lock);
    return r->has_lock;
}

/* Compounds and atomic writes make readers take locks too while they are in flight. */
static void count_compound(struct request *r)
{
    if (r->op < SLUICE_OP_COUNT && !(r->pub.flags & SLUICE_FLAG_ATOMIC) && !compound_is_needed(r))
        return;
    r->is_compound_counted = true;
    atomic_fetch_add(&r->engine->compounds, 1);
}

static bool take_lock(struct request *r)
{
    if (r->parent || r->entry || r->token)
        return true;
    if (op_changes_data(r->op)) {
        count_compound(r);
        return lock_range(r, false);
    }
    if (r->op == SLUICE_OP_READ && UNLIKELY(atomic_load(&r->engine->compounds) != 0))
        return lock_range(r, true);
    return true;
}

static COLD bool grow_scratch(struct request *r)
{
    void *bigger = aligned_alloc(16, r->chain->scratch_total);

    if (!bigger)
        return false;
    if (r->scratch != r->scratch_inline)
        free(r->scratch);
    r->scratch = bigger;
    r->scratch_capacity = r->chain->scratch_total;
    return true;
}

static bool chain_has(const struct chain *chain, const struct station *station)
{
    for (unsigned i = 0; i < chain->count; i++)
        if (chain->station[i] == station)
            return true;
    return false;
}

/* The request is let in: the chain cannot change before it ends. */
void request_admit(struct request *r)
{
    r->chain = r->parent ? r->parent->chain
                         : atomic_load_explicit(&r->engine->chain, memory_order_acquire);
    if (UNLIKELY(r->chain->scratch_total > r->scratch_capacity) && !grow_scratch(r)) {
        request_fail_before_walk(r, ENOMEM);
        return;
    }
    if (UNLIKELY(r->entry && !chain_has(r->chain, r->entry))) {
        request_fail_before_walk(r, ESHUTDOWN); /* below it could be anything */
        return;
    }
    if (take_lock(r))
        after_lock(r);
}

static void count_entry(struct request *r, unsigned at)
{
    if (LIKELY(at == 0))
        counter_add(&r->path->top[r->shard].entered, 1);
    else
        counter_add(&r->path->counts[at].entered, 1);
}

void request_begin_walk(struct request *r)
{
    struct chain *chain = r->chain;
    unsigned at = 0;

    r->path = &chain->path[r->pub.op];
    if (r->entry)
        at = path_entry_below(r->path, chain, r->entry);
    count_entry(r, at);
    request_set_edge(r, &r->path->edge[at]);
    request_set_place(r, PLACE_RUNNING);
    if (chain->scratch_total)
        memset(r->scratch, 0, chain->scratch_total);
    request_run(r);
}

/* --- the end
 * ------------------------------------------------------------------------------------------------
 */

static void record(struct request *r)
{
    struct engine_shard *shard = request_shard(r);
    unsigned op = MIN(r->op, (unsigned)SLUICE_OP_COUNT - 1);

    if (r->op >= SLUICE_OP_COUNT)
        op = SLUICE_OP_WRITE;
    if (r->parent || r->entry)
        return;
    counter_add(&shard->bytes[op], r->pub.length);
    histogram_add(&shard->latency_ns[op], clock_ticks_to_ns(clock_ticks() - r->start_ticks));
    if (UNLIKELY(r->pub.error))
        counter_add(&shard->errors[op], 1);
}

void request_finish(struct request *r)
{
    record(r);
    leave_flight(r);
    if (r->has_lock)
        rangelock_unlock(&r->engine->lock, &r->lock);
    r->has_lock = false;
    if (r->is_compound_counted)
        atomic_fetch_sub(&r->engine->compounds, 1);
    gate_leave(r);
    request_set_place(r, PLACE_END);
    r->is_finished = true;
    if (r->is_pending && r->done)
        r->done(r);
}

void request_fail_before_walk(struct request *r, int error)
{
    r->pub.error = error;
    request_finish(r);
}
