/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * engine: takes requests down a chain of filters to a backing and their results up again.  Pure: it
 * opens nothing, makes no thread and knows no configuration.
 *
 * One `struct engine` per disk.  It owns the gate (quiesce), the range lock and the counters, and
 * points to an immutable chain, which is replaced only while nothing is in flight.  A request lives
 * in the pool of its home thread and is touched by no other thread, but for the hold word, through
 * which resume, commit and cancel meet.  No lock is held across a callback.
 *
 *     submit -> gate -> (compound?) -> range lock -> walk down -> backing -> walk up -> finish
 *
 * Who owns a request after each verdict, and what may be called on it, stands as one table in
 * sluice-filter.h; tests/unit/test-verdicts.c proves it cell by cell.
 */
#ifndef SLUICE_ENGINE_H
#define SLUICE_ENGINE_H

#include "backing/backing.h"
#include "io/io.h"
#include "sluice-filter.h"

/* Filters of one chain; also the width of the mask of those that asked for completion. */
#define CHAIN_FILTERS_MAX 16

/* Beside the public operations, what front ends may submit.  Filters see their parts. */
enum engine_op {
    ENGINE_OP_COMPARE_AND_WRITE =
        SLUICE_OP_COUNT, /* data: length bytes to compare, then length to write */
    ENGINE_OP_OR_WRITE,  /* data is or-ed into the disk */
    ENGINE_OP_COUNT
};

struct engine;
struct chain;
struct request;

/* --- stations: a filter instance at its place --------------------------------------------------
 */

enum stall_policy { STALL_WAIT, STALL_FAIL, STALL_BYPASS };

/* Made by the host room, which owns it; outlives every chain it stands in. */
struct station {
    const struct sluice_filter *filter;
    void *instance;
    struct sluice_disk *disk; /* the handle the filter got */
    const char *name;         /* the instance's name in the policy */
    struct sluice_handler handler[SLUICE_OP_COUNT];
    uint32_t scratch_bytes;
    /* A reload changes it while the watch and the homes read it: an enum stall_policy. */
    _Atomic uint32_t on_stall;
    _Atomic bool is_event_running; /* a control event is in its event callback (disk room) */

    /* Always on; any thread, relaxed. */
    struct station_stats {
        /* What chains that are gone have counted; the chain in place derives the rest. */
        _Atomic uint64_t passed, completed, failed, cancelled;
        _Atomic uint64_t deferred, held_now, stalled, blocked, bypassed;
        _Atomic uint64_t longest_hold_ns, longest_callback_ns;
        _Atomic uint64_t own_io, own_io_errors;
        struct histogram callback_ns; /* one request in STATION_SAMPLE */
        struct histogram hold_ns;     /* every deferral */
    } stats;
};
#define STATION_SAMPLE 64

struct station_counts {
    uint64_t passed, completed, failed, cancelled, deferred, held_now, stalled, blocked, bypassed;
    uint64_t longest_hold_ns, own_io, own_io_errors;
};

/* --- chains
 * ---------------------------------------------------------------------------------------- */

/* stations[0] is nearest to the guest.  The chain borrows stations and backing. NULL for ENOMEM. */
struct chain *chain_create(struct station *const *stations, unsigned count,
                           struct backing *backing) MUST_CHECK;
/* Not installed in an engine (or taken out of it): folds its counts into its stations. */
void chain_destroy(struct chain *chain);
unsigned chain_count(const struct chain *chain);
struct station *chain_station(const struct chain *chain, unsigned index);
/* All that a station has counted, in `chain` and before. Exact while nothing is in flight. */
void chain_station_counts(const struct chain *chain, const struct station *station,
                          struct station_counts *out);

/* --- the engine of one disk
 * -------------------------------------------------------------------------- */

struct engine_hooks {
    /* A request is past its deadline; called once each, by the watch.  what: "filter NAME",
     * "backing", "range lock" or "gate". action: what the engine does about it. */
    void (*stalled)(void *context, const struct sluice_request *request, const char *what,
                    uint64_t age_ns, const char *action);
};

struct engine_settings {
    uint64_t deadline_ns;       /* 0: none */
    enum stall_policy on_stall; /* for the range lock; stations have their own */
    bool is_read_only;          /* for guests; filters' own I/O may still write */
};

struct engine *engine_create(const char *disk_name, struct chain *chain, uint64_t size_bytes,
                             const struct engine_hooks *hooks, void *hook_context) MUST_CHECK;
void engine_destroy(struct engine *engine); /* nothing in flight; destroys its chain */
void engine_configure(struct engine *engine, const struct engine_settings *settings);
const char *engine_name(const struct engine *engine);
struct chain *engine_chain(const struct engine *engine);
uint64_t engine_size(const struct engine *engine);
void engine_set_size(struct engine *engine, uint64_t size_bytes);
/* Read-modify-write unit: 1, or what the backing or a filter needs. */
uint32_t engine_unit(const struct engine *engine);

/* What front ends may promise, whichever chain is in place. */
struct engine_capabilities {
    bool can_flush, can_trim, can_zero, can_fast_zero, can_extents, can_prefetch;
    bool is_rotational;
    bool knows_extents; /* without it the answer to extents is always: all of it is data */
};
void engine_capabilities(const struct engine *engine, struct engine_capabilities *out);

/* --- the gate
 * ------------------------------------------------------------------------------------------- */

/* Reasons to hold root requests, each set and cleared on its own.  Requests are held, never failed.
 */
#define GATE_QUIESCE                                                                               \
    0x1u                   /* root requests; children, resumed deferrals and filters' own I/O pass \
                            */
#define GATE_ROLE 0x2u     /* the same, by a filter or by the role */
#define GATE_STOP 0x4u     /* the same, for good */
#define GATE_DEMOTED 0x10u /* as GATE_ROLE; with engine_gate_refuse() they are failed instead */
#define GATE_SWAP 0x8u     /* everything, also own I/O: the chain is being replaced */

void engine_gate_close(struct engine *engine, uint32_t reason);
void engine_gate_open(struct engine *engine, uint32_t reason);
/* Root requests, those held too, end with ESHUTDOWN: their clients are gone. Closes GATE_DEMOTED;
 * false: they are held by it again. */
void engine_gate_refuse(struct engine *engine, bool is_refusing);
uint32_t engine_gate(const struct engine *engine);
/* Requests of clients that have passed the gate and not ended.  None while it is closed: there will
 * be none until it is opened. Any thread; looks at each request in flight. */
uint64_t engine_guests_in_flight(struct engine *engine);
/* With the gate closed: waits until nothing is in flight.  0 or -ETIMEDOUT. Blocks. */
int engine_drain(struct engine *engine, uint64_t deadline_ns) MUST_CHECK;
/* With GATE_SWAP closed and drained: puts `chain` in place and returns the old one. */
struct chain *engine_swap_chain(struct engine *engine, struct chain *chain);

/* --- requests
 * ------------------------------------------------------------------------------------------------
 */

typedef void request_done_fn(struct request *request);

/*
 * A new request of the calling thread's home.  The submitter calls request_fill(), and
 * request_set_done() if it does not block.  NULL for ENOMEM.
 */
struct request *request_new(struct engine *engine, const struct sluice_client *client) MUST_CHECK;
/* What is asked for: an operation and its flags (SLUICE_OP_, SLUICE_FLAG_, or an engine_op), bytes,
 * and the data of a read or a write (NULL else), which stay the caller's. */
void request_fill(struct request *request, unsigned op, uint32_t flags, uint64_t offset,
                  uint64_t length, void *data);
/* The public half: what filters see. */
struct sluice_request *request_public(struct request *request);
void request_set_done(struct request *request, request_done_fn *done, void *owner);
void *request_owner(const struct request *request);
struct extents *request_extents(struct request *request); /* EXTENTS: the result */
/* COMPARE AND WRITE that failed with EILSEQ: offset of the first differing byte within the range.
 */
uint64_t request_miscompare_offset(const struct request *request);
/* Own I/O of a filter: enters below `station`. */
void request_set_entry(struct request *request, struct station *station);
/* The holder of this lock may write within it. */
struct range_entry;
void request_set_lock_token(struct request *request, struct range_entry *token);
/* Maintenance while the gate holds guests (a flush before a snapshot or a stop): passes all but
 * GATE_SWAP. */
void request_pass_gate(struct request *request);

/*
 * IO_DONE: it has ended, request_error() tells how.  IO_PENDING: done() will be called once, in
 * this home, from its drain.  Never calls done() itself.  Bounds are checked here: EINVAL past the
 * end (ENOSPC for a write), EROFS, EOPNOTSUPP.
 */
enum io_status request_submit(struct request *request) MUST_CHECK;
/* For workers: submits, sleeps until it ends, returns 0 or a positive errno. The request is still
 * to be freed. */
int request_execute(struct request *request);
/* The same in two steps.  The first goes as far as it gets without blocking: IO_DONE, it has ended;
 * IO_PENDING: the second has to follow in the same thread, before another request of it begins. */
enum io_status request_begin(struct request *request) MUST_CHECK;
int request_wait(struct request *request);
/* Between the two: waits for it until `fd` can be read or is hung up, but not where something is
 * left to be done that may block.  IO_DONE: it has ended, and request_wait() must not follow. */
enum io_status request_wait_watching(struct request *request, int fd) MUST_CHECK;
int request_error(const struct request *request); /* 0 or a positive errno */

/*
 * Where a callback may leave work: the calling thread's home, if it is a loop, or a worker that
 * sleeps in request_execute() for a request that has not ended.  NULL: neither.  A worker does not
 * return from request_execute() before what was borrowed is given back, in that home.
 */
struct home *engine_home_borrow(void);
void engine_home_return(struct home *home);
/* In a borrowed home: its request has not ended yet, so nobody waits for the work alone. */
bool engine_home_is_lent(const struct home *home);
/* The calling thread is a loop, or runs a callback: it may not wait for another request. */
bool engine_home_must_not_block(void);

void request_free(struct request *request);

/*
 * Asks that a pending request end with `error` (positive errno), in its home.  True: it has ended
 * (done() will be called from the drain, or was a child).  False: it is past its point of no return
 * or its filter would not let go; it ends on its own.
 */
bool request_cancel(struct request *request, int error);

/* What the host table offers to filters (see sluice-filter.h). */
bool request_resume(struct station *station, struct sluice_request *request,
                    struct sluice_verdict verdict);
bool request_commit(struct station *station, struct sluice_request *request);
void request_hold(struct station *station, struct sluice_request *request, const char *reason);
void request_substitute(struct station *station, struct sluice_request *request, void *data);
bool request_extent(struct station *station, struct sluice_request *request, uint64_t length,
                    uint32_t type);

/* --- range lock for own I/O
 * ------------------------------------------------------------------------------------ */

struct range_entry {
    uint64_t first, last; /* bytes, inclusive */
    bool is_shared;
    bool is_granted;
    unsigned blockers; /* earlier conflicting entries */
    uint32_t priority;
    uint64_t serial, last_max;
    struct range_entry *left, *right, *parent;
    void (*granted)(struct range_entry *entry); /* from another thread's unlock: must only post */
};
/* True: granted at once (granted() is not called). Rounded out to the unit. */
bool engine_lock_range(struct engine *engine, struct range_entry *entry);
/* Releases or stops waiting. */
void engine_unlock_range(struct engine *engine, struct range_entry *entry);

/* Whoever writes under a lock and a token of his own and wants nobody to read halves: between the
 * two, readers of this disk take part in the range lock.  Any thread; they nest. */
void engine_begin_exclusion(struct engine *engine);
void engine_end_exclusion(struct engine *engine);

/* --- watching
 * ------------------------------------------------------------------------------------------------------
 */

/* From one thread, every few milliseconds while engine_watch_is_busy(), else a few times a second:
 * finds blocked callbacks and makes homes look at their deadlines. */
void engine_watch_tick(uint64_t now_ns);
bool engine_watch_is_busy(void);

/* One line of `sluice disk show --tasks`. */
struct request_view {
    uint64_t id, offset, length, age_ns;
    uint8_t op, origin;
    const char *where;       /* "gate", "range lock", "filter", "backing", "running" */
    char filter[64];         /* that holds it, or "" */
    const char *hold_reason; /* a string constant of the filter, or NULL */
    uint64_t session;        /* of the client */
    char client[96];
};
/* Calls fn in the calling thread for each request of this engine (NULL: of all), also those whose
 * thread is stuck in a system call. */
void engine_for_each_request(struct engine *engine,
                             void (*fn)(const struct request_view *view, void *arg), void *arg);

struct engine_counts {
    uint64_t requests[SLUICE_OP_COUNT], bytes[SLUICE_OP_COUNT], errors[SLUICE_OP_COUNT];
    uint64_t in_flight, held_at_gate, stalled;
    uint64_t latency_p50_ns[SLUICE_OP_COUNT], latency_p99_ns[SLUICE_OP_COUNT];
};
void engine_counts(struct engine *engine, struct engine_counts *out);

/* What the backing failed, of guests and of filters; not what it cannot do, nor what was cancelled.
 */
struct engine_failures {
    uint64_t count, last_ns; /* last_ns: on the monotonic clock, 0: none since it was opened */
    int error;               /* of the last one, a positive errno */
};
void engine_failures(const struct engine *engine, struct engine_failures *out);
/* The backing was opened anew: the last one is of the past. */
void engine_forget_failures(struct engine *engine);
/* chain_station_counts() for the chain in place, also while it is being replaced. */
void engine_station_counts(struct engine *engine, const struct station *station,
                           struct station_counts *out);

const char *engine_op_name(unsigned op);

#endif
