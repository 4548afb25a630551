/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * chain.c: builds the per-operation paths of a chain and derives what its filters have counted.
 *
 * A filter that lets a request pass costs no counter.  Counted are entries (at the top for guests,
 * below the maker for own I/O) and exceptions (complete, fail, cancel); what passed an edge is what
 * arrived there less its exceptions and what it holds now.
 */
#include "internal.h"

#include <string.h>

#define SCRATCH_ALIGN 16u

/* For filters that handle an operation only on its way down. */
static struct sluice_verdict no_completion(void *instance, struct sluice_request *r, void *scratch)
{
    (void)instance;
    (void)r;
    (void)scratch;
    return sluice_pass();
}

static void path_add(struct path *path, struct station *s, unsigned op, unsigned order,
                     uint32_t scratch)
{
    const struct sluice_handler *h = &s->handler[op];
    struct edge *e;

    if (h->handling != SLUICE_HANDLED)
        return;
    e = &path->edge[path->count];
    e->start = h->start;
    e->completion = h->completion ? h->completion : no_completion;
    e->instance = s->instance;
    e->station = s;
    e->scratch_offset = scratch;
    e->bit = 1u << path->count;
    e->order = order;
    path->count++;
}

static uint32_t station_unit(const struct station *s)
{
    return s->filter->block_bytes ? s->filter->block_bytes : 1;
}

struct chain *chain_create(struct station *const *stations, unsigned count, struct backing *backing)
{
    struct chain *c;

    if (count > CHAIN_FILTERS_MAX)
        return NULL;
    c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->count = count;
    c->backing = backing;
    c->info = backing_info(backing);
    c->unit = MAX(c->info->block_bytes, 1u);
    for (unsigned i = 0; i < count; i++) {
        c->station[i] = stations[i];
        for (unsigned op = 0; op < SLUICE_OP_COUNT; op++)
            path_add(&c->path[op], stations[i], op, i, c->scratch_total);
        c->scratch_total +=
            (stations[i]->scratch_bytes + SCRATCH_ALIGN - 1) / SCRATCH_ALIGN * SCRATCH_ALIGN;
        c->unit = MAX(c->unit, station_unit(stations[i]));
    }
    return c;
}

static uint64_t get(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static uint64_t entered_at_top(const struct path *path)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < ENGINE_SHARDS; i++)
        sum += get(&path->top[i].entered);
    return sum;
}

/* What station has counted on this path, apart from passes. */
static void add_edge(struct station_counts *out, const struct edge_counts *c)
{
    out->completed += get(&c->completed);
    out->failed += get(&c->failed);
    out->cancelled += get(&c->cancelled);
}

static void add_path(const struct path *path, const struct station *station,
                     struct station_counts *out)
{
    uint64_t arrived = entered_at_top(path);

    for (unsigned i = 0; i < path->count; i++) {
        const struct edge_counts *c = &path->counts[i];
        uint64_t stopped = get(&c->completed) + get(&c->failed) + get(&c->cancelled);

        arrived += get(&c->entered);
        arrived = arrived > stopped ? arrived - stopped : 0;
        if (path->edge[i].station == station) {
            out->passed += arrived;
            add_edge(out, c);
            return;
        }
    }
}

void chain_station_counts(const struct chain *chain, const struct station *station,
                          struct station_counts *out)
{
    const struct station_stats *s = &station->stats;

    memset(out, 0, sizeof *out);
    for (unsigned op = 0; chain && op < SLUICE_OP_COUNT; op++)
        add_path(&chain->path[op], station, out);
    out->held_now = get(&s->held_now);
    out->passed = out->passed > out->held_now ? out->passed - out->held_now : 0;
    out->passed += get(&s->passed);
    out->completed += get(&s->completed);
    out->failed += get(&s->failed);
    out->cancelled += get(&s->cancelled);
    out->deferred = get(&s->deferred);
    out->stalled = get(&s->stalled);
    out->blocked = get(&s->blocked);
    out->bypassed = get(&s->bypassed);
    out->longest_hold_ns = get(&s->longest_hold_ns);
    out->own_io = get(&s->own_io);
    out->own_io_errors = get(&s->own_io_errors);
}

void chain_destroy(struct chain *chain)
{
    for (unsigned i = 0; i < chain->count; i++) {
        struct station *s = chain->station[i];
        struct station_counts counts = {0};

        for (unsigned op = 0; op < SLUICE_OP_COUNT; op++)
            add_path(&chain->path[op], s, &counts);
        counter_add(&s->stats.passed, counts.passed);
        counter_add(&s->stats.completed, counts.completed);
        counter_add(&s->stats.failed, counts.failed);
        counter_add(&s->stats.cancelled, counts.cancelled);
    }
    free(chain);
}

unsigned chain_count(const struct chain *chain)
{
    return chain->count;
}

struct station *chain_station(const struct chain *chain, unsigned index)
{
    return index < chain->count ? chain->station[index] : NULL;
}

/* The index in `path` at which I/O made by `station` enters: the first edge below it. */
unsigned path_entry_below(const struct path *path, const struct chain *chain,
                          const struct station *station)
{
    unsigned order = 0, i = 0;

    while (order < chain->count && chain->station[order] != station)
        order++;
    while (i < path->count && path->edge[i].order <= order)
        i++;
    return i;
}
