/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * engine.c: the engine of one disk: creation, settings, chain replacement, capabilities, counters.
 */
#include "internal.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

struct engine *engine_create(const char *disk_name, struct chain *chain, uint64_t size_bytes,
                             const struct engine_hooks *hooks, void *hook_context)
{
    struct engine *e =
        aligned_alloc(CACHE_LINE, (sizeof *e + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE);

    if (!e)
        return NULL;
    clock_init();
    memset(e, 0, sizeof *e);
    snprintf(e->name, sizeof e->name, "%s", disk_name);
    e->size_bytes = size_bytes;
    e->hooks = *hooks;
    e->hook_context = hook_context;
    rangelock_init(&e->lock);
    pthread_mutex_init(&e->gate_mutex, NULL);
    pthread_cond_init(&e->drained, NULL);
    list_init(&e->held);
    atomic_store(&e->chain, chain);
    e->info = chain->info;
    return e;
}

void engine_destroy(struct engine *engine)
{
    chain_destroy(engine_chain(engine));
    rangelock_destroy(&engine->lock);
    pthread_cond_destroy(&engine->drained);
    pthread_mutex_destroy(&engine->gate_mutex);
    free(engine);
}

void engine_configure(struct engine *engine, const struct engine_settings *settings)
{
    atomic_store(&engine->deadline_ns, settings->deadline_ns);
    atomic_store(&engine->on_stall, settings->on_stall);
    atomic_store(&engine->is_read_only, settings->is_read_only);
}

const char *engine_name(const struct engine *engine)
{
    return engine->name;
}

struct chain *engine_chain(const struct engine *engine)
{
    return atomic_load_explicit(&engine->chain, memory_order_acquire);
}

struct chain *engine_swap_chain(struct engine *engine, struct chain *chain)
{
    SCOPED_LOCK(&engine->gate_mutex); /* nobody is looking into the old one */

    assert(engine_gate(engine) & GATE_SWAP);
    return atomic_exchange(&engine->chain, chain);
}

void engine_station_counts(struct engine *engine, const struct station *station,
                           struct station_counts *out)
{
    SCOPED_LOCK(&engine->gate_mutex);

    chain_station_counts(engine_chain(engine), station, out);
}

uint64_t engine_size(const struct engine *engine)
{
    return atomic_load(&engine->size_bytes);
}

void engine_set_size(struct engine *engine, uint64_t size_bytes)
{
    atomic_store(&engine->size_bytes, size_bytes);
}

uint32_t engine_unit(const struct engine *engine)
{
    struct engine *e = (struct engine *)(uintptr_t)engine;
    SCOPED_LOCK(&e->gate_mutex);

    return engine_chain(engine)->unit;
}

void engine_capabilities(const struct engine *engine, struct engine_capabilities *out)
{
    const struct backing_info *info = engine->info;

    *out = (struct engine_capabilities){
        .can_flush = true,
        .can_trim = info->can_trim,
        .can_zero = true, /* what cannot is given written zeros */
        .can_fast_zero = info->can_fast_zero,
        .can_extents = true,
        .knows_extents = info->can_extents,
        .can_prefetch = true,
        .is_rotational = info->is_rotational,
    };
}

static void round_out_entry(const struct engine *engine, struct range_entry *entry)
{
    uint64_t unit = engine_unit(engine);

    entry->first = entry->first / unit * unit;
    entry->last = entry->last / unit * unit + unit - 1;
}

bool engine_lock_range(struct engine *engine, struct range_entry *entry)
{
    round_out_entry(engine, entry);
    return rangelock_lock(&engine->lock, entry);
}

void engine_unlock_range(struct engine *engine, struct range_entry *entry)
{
    rangelock_unlock(&engine->lock, entry);
}

void engine_begin_exclusion(struct engine *engine)
{
    atomic_fetch_add(&engine->compounds, 1);
}

void engine_end_exclusion(struct engine *engine)
{
    atomic_fetch_sub(&engine->compounds, 1);
}

void engine_failures(const struct engine *engine, struct engine_failures *out)
{
    *out = (struct engine_failures){.count = atomic_load(&engine->failures),
                                    .last_ns = atomic_load(&engine->failed_ns),
                                    .error = atomic_load(&engine->failed_error)};
}

void engine_forget_failures(struct engine *engine)
{
    atomic_store(&engine->failed_ns, 0);
}

static void add_histogram(struct histogram *to, const struct histogram *from)
{
    for (unsigned b = 0; b < HISTOGRAM_BUCKETS; b++)
        to->bucket[b] += atomic_load_explicit(&from->bucket[b], memory_order_relaxed);
}

static void count_op(struct engine *engine, unsigned op, struct engine_counts *out)
{
    struct histogram sum = {0};

    for (unsigned i = 0; i < ENGINE_SHARDS; i++) {
        const struct engine_shard *s = &engine->shard[i];

        out->bytes[op] += atomic_load_explicit(&s->bytes[op], memory_order_relaxed);
        out->errors[op] += atomic_load_explicit(&s->errors[op], memory_order_relaxed);
        add_histogram(&sum, &s->latency_ns[op]);
    }
    out->requests[op] = histogram_count(&sum);
    out->latency_p50_ns[op] = histogram_quantile(&sum, 0.5);
    out->latency_p99_ns[op] = histogram_quantile(&sum, 0.99);
}

void engine_counts(struct engine *engine, struct engine_counts *out)
{
    uint64_t left = 0, entered = 0;

    memset(out, 0, sizeof *out);
    for (unsigned op = 0; op < SLUICE_OP_COUNT; op++)
        count_op(engine, op, out);
    for (unsigned i = 0; i < ENGINE_SHARDS; i++)
        left += atomic_load(&engine->shard[i].left);
    for (unsigned i = 0; i < ENGINE_SHARDS; i++)
        entered += atomic_load(&engine->shard[i].entered);
    out->in_flight = entered - left;
    out->stalled = atomic_load(&engine->stalled);
    SCOPED_LOCK(&engine->gate_mutex);
    out->held_at_gate = engine->held_count;
}

const char *engine_op_name(unsigned op)
{
    static const char *const names[ENGINE_OP_COUNT] = {
        [SLUICE_OP_READ] = "read",         [SLUICE_OP_WRITE] = "write",
        [SLUICE_OP_FLUSH] = "flush",       [SLUICE_OP_TRIM] = "trim",
        [SLUICE_OP_ZERO] = "zero",         [SLUICE_OP_EXTENTS] = "extents",
        [SLUICE_OP_PREFETCH] = "prefetch", [ENGINE_OP_COMPARE_AND_WRITE] = "compare-and-write",
        [ENGINE_OP_OR_WRITE] = "or-write",
    };

    return op < ENGINE_OP_COUNT ? names[op] : "unknown";
}
