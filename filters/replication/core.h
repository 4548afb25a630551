/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * core.h: the contract between what decides in replication and what does.  One struct rep_core
 * stands for one group on one gateway.  It has no clock, thread, file or socket and allocates
 * nothing: the glue calls it under one lock per group, with sluice_now_ns(), and does what it asks
 * for through struct rep_world. Nothing in rep_world may call the core from inside: it starts the
 * work and answers later with one of the inputs below, under the lock.  The simulator
 * (tests/simulator) is another such glue.
 *
 * A guest write at its start callback:
 *
 *     rep_start()  --(extents not hot)-->  world.intent ... rep_done(REP_INTENT)
 *          |                                                      |
 *          +--- sequence assigned: world.send (peer) and world.go (local) at the same time
 *                   rep_local_done()        REP_ACK in rep_message()
 *          both ---------------> world.complete(request, error)
 *
 * so a hot write costs two calls and no store effect.  The glue answers pass_and_tell from the
 * start callback if world.go was called inside rep_start(), else defers and resumes with
 * pass_and_tell in go; its completion callback calls rep_local_done() and defers unless complete
 * was called inside.  Payload is passed by reference: `data` is the request's until world.complete;
 * what must live longer (async, alone) is copied once by world.keep and let go by world.release.
 *
 * What must be durable, in the words of the store (a crash at any moment must leave one of the
 * states that were asked for; effects of one kind complete in the order of their asking):
 *
 *   super     struct rep_super, two alternating checksummed copies: the newer whole one counts
 *   log       activity log: intent() names slots of the table log.of[]; after a crash every extent
 * of every slot that was durably written and not durably overwritten is in `recovered` bitmap
 * bits(): core.bits as they are at the call, all pages changed since the last; bits() and intent()
 * never pass each other: a slot's old extent is covered by the bitmap before its record is
 * overwritten journal   records {head, body} in order; a record survives kill -9 when append
 * completes (pwrite), a power cut when sync does; append of a torn record ends the journal there at
 * open. journal_cut(position): forget all from that record on (a batch that was not committed)
 */
#ifndef SLUICE_REPLICATION_CORE_H
#define SLUICE_REPLICATION_CORE_H

#include "connect.h"
#include "frames.h"

#define REP_DISKS_MAX 32u      /* of a group */
#define REP_GRAIN_BYTES 65536u /* of a bit */
#define REP_EXTENT_BYTES                                                    \
    1048576u /* of a slot of the activity log: 16 grains, a mask of 16 bits \
              */

enum rep_mode { REP_ASYNC, REP_SYNC };
enum rep_level { REP_RECEIVED, REP_JOURNALED, REP_APPLIED };
enum rep_on_loss { REP_DEGRADE, REP_HOLD };

struct rep_options { /* equal on all disks of a group; the first five equal on both sides */
    enum rep_mode mode;
    enum rep_level level;
    bool persist_every_write;
    uint32_t disks;
    uint64_t size_bytes[REP_DISKS_MAX];
    enum rep_on_loss on_peer_loss;
    uint64_t peer_timeout_ns, peer_wait_ns, log_flush_ns; /* 5 s, 10 s, 5 s */
    uint64_t ring_bytes, ring_low_bytes;                  /* tier 1 and where it is entered again */
    uint64_t journal_bytes, journal_low_bytes;            /* tier 2, the same; 0: no journal */
    uint64_t node;                                        /* for the lineage */
};

/* --- durable
 * ------------------------------------------------------------------------------------------- */

struct rep_super {
    uint32_t role;    /* enum rep_role */
    bool is_clean;    /* ended by rep_stop() with nothing outstanding */
    bool is_fresh;    /* never had data */
    bool is_alone;    /* 'alone since S': acknowledged what the peer may not have */
    bool is_split;    /* stopped, and asks */
    bool is_yielding; /* the losing side, sealed */
    uint64_t alone_since_seq;
    uint64_t last_seq;           /* clean: exactly; else a floor */
    uint64_t committed_seq;      /* replica: it may be promoted at least to here */
    uint64_t committed_position; /* journal records before this one may be applied */
    struct rep_lineage lineage;
};

struct rep_slot {          /* of the activity log */
    uint32_t disk, extent; /* disk REP_DISKS_MAX: empty */
    uint64_t last_seq;     /* RAM only, as the rest */
    uint16_t dirty;        /* grains written since both sides were last stable */
    uint16_t users;        /* writes in flight */
    bool is_durable;
};

/* What open() found; lives until rep_open() returns. */
struct rep_recovered {
    struct rep_super super;
    const struct rep_slot *log; /* extents that were active */
    uint32_t log_count;
    uint64_t journal_next;     /* position behind the last whole record */
    uint64_t journal_last_seq; /* newest sequence in it, 0: none */
};

/* --- requests
 * ------------------------------------------------------------------------------------------- */

/* In the glue's scratch of a guest request; the first group is filled by the glue. Writes, trims,
 * zeros and flushes; reads only ask rep_may_read(). */
struct rep_request {
    uint8_t op; /* enum sluice_op */
    uint16_t flags, disk;
    uint64_t offset, length;
    const void *data;

    uint64_t seq; /* the core's from here on */
    struct rep_request *next, *previous;
    void *kept;
    int32_t error;
    uint8_t state;
    bool is_local_done, is_peer_done, is_held;
};

/* --- effects
 * -----------------------------------------------------------------------------------------------
 */

enum rep_effect {            /* what rep_done() tells the end of */
                  REP_SUPER, /* super */
                  REP_INTENT,
                  REP_BITS,
                  REP_APPEND, /* value: position */
                  REP_SYNC_JOURNAL,
                  REP_FLUSH, /* of all disks of the group, below the filter */
                  REP_APPLY, /* value: position; the record's write has been issued below and has
                                ended */
                  REP_SEAL,
                  REP_EFFECTS
};

struct rep_core;
struct rep_world {
    /* requests */
    void (*go)(void *world, struct rep_request *request);
    void (*complete)(void *world, struct rep_request *request, int32_t error); /* gone afterwards */
    void (*hold)(void *world, struct rep_request *request, const char *reason); /* sluice_hold() */
    void *(*keep)(void *world, const void *data,
                  uint64_t length); /* a copy, or NULL: no memory (next tier) */
    void (*release)(void *world, void *kept);
    /* link: 0, -EAGAIN (rep_writable() will be called), -ENOTCONN.  Copies or sends before it
     * returns. */
    int (*send)(void *world, struct rep_head *head, const void *body);
    void (*disconnect)(void *world, const char *reason); /* rep_lost() follows */
    /* store: each answered once by rep_done() */
    void (*super)(void *world, const struct rep_super *super, uint64_t value); /* copy it at once */
    void (*intent)(void *world, const uint32_t *slots, uint32_t count, uint64_t value);
    void (*bits)(void *world, uint64_t value);
    void (*append)(void *world, const struct rep_head *head, const void *body, uint64_t position);
    void (*sync_journal)(void *world, uint64_t value);
    void (*journal_cut)(void *world,
                        uint64_t position); /* at once for later appends; needs no answer */
    void (*journal_read)(void *world, uint64_t seq); /* answered by rep_journal_read() */
    /* Blocks of the bitmap's grains, as they are on this side, into a file that is exported
     * read-only. */
    void (*seal)(void *world, uint64_t value);
    /* data */
    void (*apply)(void *world,
                  uint64_t position); /* in order; overlapping ones one after the other */
    void (*flush)(void *world, uint64_t value);
    void (*read)(void *world, uint32_t disk, uint64_t offset,
                 uint64_t length); /* answered by rep_read_done() */
    void (*write)(void *world, uint32_t disk, uint64_t offset, uint64_t length,
                  const void *data); /* reconcile;
copies data; answered by rep_write_done() */
    /* everything else */
    void (*gate)(void *world, bool is_closed, const char *reason);
    void (*role)(void *world, enum rep_role role, uint64_t epoch); /* durable already */
    void (*uuid)(void *world, uint64_t uuid[2]);                   /* random */
    void (*say)(void *world, const char *event, const char *sentence, uint64_t value);
};

/* --- inputs
 * ----------------------------------------------------------------------------------------------------
 */

/* `memory` of rep_bytes() bytes, zeroed, aligned as by malloc, lives as long as the core.
 * log_slots: at least 16; a power of two. */
size_t rep_bytes(const struct rep_options *options, uint32_t log_slots);
struct rep_core *rep_open(void *memory, const struct rep_options *options, uint32_t log_slots,
                          const struct rep_world *world, void *context,
                          const struct rep_recovered *found, uint64_t now_ns);
void rep_options_change(struct rep_core *core, const struct rep_options *options);

void rep_start(struct rep_core *core, struct rep_request *request);
bool rep_cancel(struct rep_core *core,
                struct rep_request *request); /* false: captured, will complete */
void rep_local_done(struct rep_core *core, struct rep_request *request, int32_t error);
bool rep_may_read(const struct rep_core *core); /* false: hold it, the gate is closed */

void rep_done(struct rep_core *core, enum rep_effect effect, uint64_t value, int32_t error);
void rep_journal_read(struct rep_core *core, const struct rep_head *head, const void *body,
                      int32_t error);
void rep_read_done(struct rep_core *core, uint32_t disk, uint64_t offset, uint64_t length,
                   const void *data, int32_t error);
void rep_write_done(struct rep_core *core, uint32_t disk, uint64_t offset, int32_t error);

void rep_connected(struct rep_core *core);
void rep_lost(struct rep_core *core, const char *reason);
void rep_writable(struct rep_core *core);
void rep_message(struct rep_core *core, const void *data, size_t bytes);
void rep_tick(struct rep_core *core, uint64_t now_ns); /* every 100 ms or so, monotonic */

/* Operators. 0, or a negative errno and a sentence in *why. */
int rep_promote(struct rep_core *core, bool is_forced, const char **why);
int rep_demote(struct rep_core *core, bool hand_over,
               const char **why); /* drains first; role() tells */
int rep_yield(
    struct rep_core *core,
    const char **why); /* after a split: this side's differences are sealed and given up */
int rep_resync(struct rep_core *core, bool everything, const char **why); /* on the primary */
int rep_resize(struct rep_core *core, uint32_t disk, uint64_t size_bytes, const char **why);
void rep_stop(struct rep_core *core); /* role, gate and a clean super follow; then nothing more */

/* --- what status and tests look at
 * ------------------------------------------------------------------------------ */

enum rep_link {
    REP_LINK_OFF,
    REP_LINK_HELLO,
    REP_LINK_REPLAY,
    REP_LINK_RESYNC,
    REP_LINK_FETCH,
    REP_LINK_STREAM,
    REP_LINK_WAIT,
    REP_LINK_ASK,
    REP_LINKS
};
enum rep_tier { REP_TIER_RING, REP_TIER_JOURNAL, REP_TIER_BITMAP };
struct rep_status {
    enum rep_role role;
    enum rep_link link;
    enum rep_tier tier;
    bool is_serving, is_protected, is_suspended, is_split;
    uint64_t epoch, last_seq, peer_journal_seq, peer_stable_seq, applied_seq, alone_since_seq;
    uint64_t dirty_grains, log_active, backlog_writes, backlog_bytes;
    const char *reason;
};
void rep_status(const struct rep_core *core, struct rep_status *status);
uint64_t *rep_bitmap(struct rep_core *core, uint32_t disk,
                     uint64_t *words); /* for bits(); filled before rep_open's
                  end by the glue from the store: see rep_bytes() */
const struct rep_slot *rep_log(const struct rep_core *core, uint32_t *count); /* for intent() */
void rep_bitmap_load(struct rep_core *core, uint32_t disk, const uint64_t *words, uint64_t count);

#endif
