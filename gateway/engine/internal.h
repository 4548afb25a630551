/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * internal.h: the structs that the files of the engine share.
 *
 * Legend: [I] immutable after creation; [H] only the request's home thread; [A] atomic; [L] under
 * the lock named; [F] the filter that owns the request, else its home.
 */
#ifndef SLUICE_ENGINE_INTERNAL_H
#define SLUICE_ENGINE_INTERNAL_H

#include "engine/engine.h"
#include "rangelock.h"

#define REQUEST_MAGIC 0x51ce0001u
#define REQUEST_SCRATCH_INLINE 512

/* --- chain ------------------------------------------------------------------------------------ */

/* One filter's callbacks for one operation: what the walk needs, in one place. */
struct edge {
    sluice_callback *start, *completion;
    void *instance;
    struct station *station;
    uint32_t scratch_offset;
    uint32_t bit;   /* 1 << index in the path: in request.substituted */
    uint32_t order; /* index of the station in the chain */
};

/* What went differently from a pass; passes are derived (chain.c). */
struct edge_counts {
    _Atomic uint64_t entered, completed, failed, cancelled;
};

#define ENGINE_SHARDS 8

/* The filters that handle one operation, guest side first. */
struct path {
    unsigned count;
    /* Requests that entered at the top; counts[0].entered is not used. Each on a cache line of its
     * own. */
    struct {
        _Atomic uint64_t entered;
        uint64_t padding[CACHE_LINE / sizeof(uint64_t) - 1];
    } top[ENGINE_SHARDS];
    struct edge edge[CHAIN_FILTERS_MAX + 1];          /* [count]: past all, without a station */
    struct edge_counts counts[CHAIN_FILTERS_MAX + 1]; /* [count]: entered below all */
};

struct chain {
    struct path path[SLUICE_OP_COUNT];
    struct station *station[CHAIN_FILTERS_MAX];
    unsigned count;
    uint32_t scratch_total;
    uint32_t unit; /* read-modify-write unit: of the backing and every filter */
    struct backing *backing;
    const struct backing_info *info;
};

/* --- engine -------------------------------------------------------------------------------------
 */

/*
 * Counters, summed by who reads them.  A request uses the shard of the processor it began on: a
 * connection's requests come from many threads, which run on few processors, and a cache line that
 * another processor has written last costs more than all the instructions of a filter.
 */
struct engine_shard {
    _Alignas(CACHE_LINE) _Atomic uint64_t entered, left; /* in flight = sum entered - sum left */
    _Atomic uint64_t bytes[SLUICE_OP_COUNT], errors[SLUICE_OP_COUNT];
    struct histogram latency_ns[SLUICE_OP_COUNT];
};

struct engine {
    char name[64];                   /* [I] */
    _Atomic(struct chain *) chain;   /* replaced under GATE_SWAP, drained */
    const struct backing_info *info; /* [I] of the backing, which all its chains have in common */
    _Atomic uint64_t size_bytes;
    bool is_refusing;           /* under gate_mutex */
    _Atomic uint32_t gate;      /* GATE_* bits */
    _Atomic uint32_t compounds; /* exclusive parents in flight: reads take locks */
    _Atomic uint64_t deadline_ns;
    _Atomic uint32_t on_stall;
    _Atomic bool is_read_only;
    _Atomic uint64_t stalled;
    _Atomic uint64_t failures, failed_ns; /* requests that the backing failed; the last one */
    _Atomic int failed_error;
    struct engine_hooks hooks; /* [I] */
    void *hook_context;        /* [I] */
    struct rangelock lock;

    pthread_mutex_t gate_mutex;
    pthread_cond_t drained; /* with gate_mutex */
    struct list held;       /* [L gate_mutex] requests that wait for the gate */
    unsigned held_count;    /* [L gate_mutex] */

    struct engine_shard shard[ENGINE_SHARDS];
};

/* --- request
 * --------------------------------------------------------------------------------------- */

enum request_place {
    PLACE_NEW,
    PLACE_GATE,    /* in engine.held, or its task is posted */
    PLACE_LOCK,    /* waits for its range, or its task is posted */
    PLACE_RUNNING, /* the home runs it */
    PLACE_FILTER,  /* held by a filter, or resumed and its task posted */
    PLACE_BACKING,
    PLACE_COMPOUND, /* waits for its children */
    PLACE_END
};

/*
 * The hold word: where a filter's thread and the home meet.  CALLING: nobody holds it (a callback
 * may be running).  The bit COMMITTED says that a byte may have left: no cancelling any more.
 *
 *     CALLING --resume--> RESUMED          (early: before the callback returned defer)
 *     CALLING --defer---> HELD --resume--> RESUMED --home--> CALLING
 *     HELD --cancel--> CANCELLING --resume or commit--> refused (resume: LET_GO)
 *     CANCELLING --filter answers BUSY--> HELD;  RELEASED or LET_GO --home--> CALLING
 */
enum hold_state { HOLD_CALLING, HOLD_HELD, HOLD_RESUMED, HOLD_CANCELLING, HOLD_LET_GO };
#define HOLD_STATE_MASK 0xffu
#define HOLD_COMMITTED 0x100u

struct compound;

struct request {
    struct sluice_request pub; /* first: filters hold a pointer to it */
    uint32_t magic;
    uint32_t op;           /* [I] enum engine_op or sluice_op; pub.op is what filters see */
    struct engine *engine; /* [I] */
    struct chain *chain;   /* [H] from admission on */
    struct path *path;     /* [H] */
    /* Where it is in its path: the edge whose callback runs or which holds it, or one past the
     * last. Stable while a filter owns the request. */
    _Atomic(const struct edge *) edge;
    struct home *home;     /* [I] */
    _Atomic uint8_t place; /* written by the home; read by the watch */
    bool is_upward, is_pending, is_finished, has_lock, is_sampled, is_counted,
        is_compound_counted; /* [H] */
    bool is_admitted;        /* [H] counted as in flight */
    bool passes_gate;        /* [I] maintenance */
    uint8_t shard;           /* [I] of the engine's counters */
    _Atomic bool is_stall_reported, wants_cancel;
    int cancel_error; /* [H] set while waiting: ends with it */
    uint32_t asked;   /* [H] which filters want completion: bit 0 is the edge above the present one,
                         and so on up */
    uint32_t substituted;          /* [F] filters that put a buffer below */
    _Atomic uint32_t hold;         /* [A] see above */
    struct sluice_verdict resumed; /* [F] published by the hold word */
    struct station *resumed_by;    /* [F] */
    _Atomic(struct station *) holder;
    _Atomic(const char *) hold_reason;
    uint64_t start_ticks, held_ticks; /* [H] */
    struct task task;                 /* resume, gate, lock and delivery: one at a time */
    struct list link;                 /* [L home list lock] the home's requests in flight */
    struct list gate_link;            /* [L gate_mutex] */
    struct range_entry lock;
    struct range_entry *token; /* [I] */
    struct station *entry;     /* [I] own I/O enters below it */
    struct io io;              /* the backing's */
    request_done_fn *done;
    void *owner;
    struct request *parent;    /* [I] child of a compound: no gate, no lock */
    struct compound *compound; /* [H] */
    struct extents extents;
    uint64_t miscompare;
    struct request *free_next;
    void *saved_data[CHAIN_FILTERS_MAX]; /* [F] what the filters above see */
    void *scratch;                       /* inline or own allocation */
    size_t scratch_capacity;
    _Alignas(16) uint8_t scratch_inline[REQUEST_SCRATCH_INLINE];
};

/* The engine's part of a home. The list lock is a spin lock: held for a few instructions by the
 * home, and while the watch copies what it sees. */
struct home_engine {
    struct home *home;
    _Atomic bool list_lock;
    struct list in_flight; /* [L list_lock] */
    _Atomic unsigned in_flight_count;
    struct request *free_list; /* [H] */
    unsigned free_count;       /* [H] */
    unsigned sample;           /* [H] */
    uint64_t next_id;          /* [H] */
    struct task poke;          /* look for requests that want cancelling */
    _Atomic bool is_poked;
    struct request *executing; /* [H] a worker sleeps for it */
    unsigned borrowed;         /* [H] errands under way in this home */
    bool is_free;              /* [H] borrowed == 0 */
    /* What runs now, for the watch; the serial changes with each run. */
    _Atomic(struct request *) running;
    _Atomic uint64_t run_serial;
    /* The watch's memory of what ran. */
    const struct edge *seen_edge;
    uint64_t seen_serial, seen_since_ns, reported_serial;
};

static inline struct request *request_of(struct sluice_request *pub)
{
    return CONTAINER_OF(pub, struct request, pub);
}

static inline void request_set_place(struct request *r, enum request_place place)
{
    atomic_store_explicit(&r->place, (uint8_t)place, memory_order_relaxed);
}

static inline enum request_place request_place(const struct request *r)
{
    return (enum request_place)atomic_load_explicit(&r->place, memory_order_relaxed);
}

static inline const struct edge *request_edge(const struct request *r)
{
    return atomic_load_explicit(&r->edge, memory_order_acquire);
}

static inline void request_set_edge(struct request *r, const struct edge *edge)
{
    atomic_store_explicit(&r->edge, edge, memory_order_release);
}

/* Once it walks. */
static inline bool request_is_past_filters(const struct request *r)
{
    return request_edge(r)->station == NULL;
}

static inline struct edge_counts *request_edge_counts(const struct request *r)
{
    return &r->path->counts[request_edge(r) - r->path->edge];
}

static inline bool op_changes_data(unsigned op)
{
    return op == SLUICE_OP_WRITE || op == SLUICE_OP_TRIM || op == SLUICE_OP_ZERO ||
           op >= SLUICE_OP_COUNT;
}

static inline struct engine_shard *request_shard(const struct request *r)
{
    return &r->engine->shard[r->shard];
}

static inline void counter_add(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

void counter_max(_Atomic uint64_t *counter, uint64_t value);

/* hold.c */
bool request_cancel_with(struct request *r, int error, bool is_bypass);

/* request.c */
struct home_engine *home_engine_get(struct home *home);
void request_admit(struct request *r); /* after the gate: compound, lock, walk */
void request_begin_walk(struct request *r);
void request_finish(struct request *r);
void request_fail_before_walk(struct request *r, int error);
void request_post(struct request *r, void (*run)(struct task *));

/* walk.c */
void request_run(struct request *r);
void request_on_resumed(struct task *task);

/* gate.c: true: admitted; false: held, its task will call request_admit. */
bool gate_enter(struct request *r);
void gate_leave(struct request *r);
bool gate_withdraw(struct request *r);

/* compound.c */
bool compound_is_needed(const struct request *r);
int compound_start(struct request *r); /* 0: running or ended; or a positive errno */
bool compound_cancel(struct request *r, int error);
void compound_free(struct compound *compound);
struct request *request_new_child(struct request *parent);

/* chain.c */
unsigned path_entry_below(const struct path *path, const struct chain *chain,
                          const struct station *station);

/* watch.c */
void watch_on_poke(struct task *task);

#endif
