/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * replica.h: a disk, or a group of disks, at one side of a pair: what the files share.
 * docs/replication.md tells the whole story.
 *
 *     members.c    the disks of a group as one: who they are, and own I/O to them
 *     evidence.c   which parts of the disk may differ from the peer: activity log and bitmap, on
 * disk super.c      role, lineage and marks that must survive: a small file written atomically
 *     journal.c    the target's ring of frames, appended before they are applied
 *     journal-memory.c  where its records lie until they are applied
 *     spill.c      asynchronous: what does not fit into memory, in order, on SSD
 *     link.c       the channel: greeting, plan, sending, acknowledgements
 *     capture.c    the primary's way of a guest write, and what is let go when
 *     resync.c     the source's batch: from BEGIN to COMMIT
 *     target.c     the other side of it: journal, apply, acknowledge
 *     checkpoint.c flushed below, so that the journal may forget it
 *     backlog.c    what a promoted side serves and has not applied yet
 *     compare.c    extents compared with the peer's by hashes
 *     verify.c     a run of that over the whole disk
 *     seed.c       the same before a batch copies what may differ
 *     roles.c      promotion, demotion, peer loss
 *     growth.c     the disk grows while it serves, the follower's first
 *     snapshot.c   snapshots at the same instant on both sides
 *     records.c    what belongs to a disk and is not its data: reservations
 *     seal.c       what only the loser of two primaries has is kept before it is overwritten
 *
 * Threads: everything in struct replica is under its mutex, held for microseconds and never across
 * a call that waits, nor while what was put into the stream is encrypted and sent.  Requests come
 * in their homes, messages in the channel's loop, I/O ends in service threads; what nobody waits
 * for is started by replica_work() on a pool thread, whenever somebody kicked it.
 */
#ifndef SLUICE_REPLICATION_REPLICA_H
#define SLUICE_REPLICATION_REPLICA_H

#include "frames.h"
#include "lineage.h"
#include "seal.h"

#include <pthread.h>
#include <sluice-filter.h>
#include <stdatomic.h>
#include <stdlib.h>

#ifndef GRAIN_BYTES             /* the simulator has smaller ones */
#define GRAIN_BYTES (64u << 10) /* a bit of the bitmap */
#define EXTENT_BYTES (1u << 20) /* a place in the activity log; copied as one by a resync */
#define ACTIVE_MAX 500u
#endif
#define EXTENT_GRAINS (EXTENT_BYTES / GRAIN_BYTES)

#include "backlog.h"
#include "compare.h"
#include "journal.h"
#include "spill.h"

/* --- world.c: chance and waiting; the simulator has its own
 * ------------------------------------------- */

uint64_t replica_random(void);
uint64_t replica_wall_s(void); /* since 1970 */
/* HASH_BYTES: two that are the same stand for the same bytes.  False: no memory. */
bool replica_hash(uint8_t *out, const void *data, uint64_t length);
/* With the mutex held, from a thread that may block: until replica_wake() or some time later.
 * Within replica_wait(). */
void replica_sleep(pthread_cond_t *cond, pthread_mutex_t *mutex);
void replica_wake(pthread_cond_t *cond);

/* The simulator breaks the rules one at a time, to prove that it would notice. */
#ifdef REPLICATION_MUTANTS
extern int replication_mutant;
#define MUTANT(n) (replication_mutant == (n))
#else
#define MUTANT(n) 0
#endif

/* --- evidence.c
 * ------------------------------------------------------------------------------------------ */

struct active {
    uint64_t extent, last_seq;
    uint32_t writing; /* requests between start and the end of their local write */
    uint16_t written; /* grains, since it became active */
    bool is_used, is_durable, is_leaving;
};

struct evidence {
    struct sluice_file *file;
    uint64_t grains, extents;
    uint8_t *dirty;        /* a bit a grain: may differ from the peer */
    uint8_t *again;        /* those of them that the running batch does not settle */
    uint8_t *page_changed; /* of the bitmap in the file: a byte for each 4 KiB */
    uint64_t pages;
    struct active active[ACTIVE_MAX];
    uint16_t *slot_of;      /* by extent: 1 + its place in active; 0: none */
    unsigned used, writing; /* writing: requests, also those that the log does not hold */
    unsigned writing_wide;  /* of them: anywhere on the disk, as far as is known here */
    /* One commit at a time: pages, then sync, then the log's block, then sync. */
    struct sluice_file_io io;
    enum { COMMIT_IDLE, COMMIT_PAGES, COMMIT_PAGES_SYNC, COMMIT_LOG, COMMIT_LOG_SYNC } commit;
    bool log_wanted, pages_wanted;
    uint64_t page_at;
    uint64_t generation, commits;
    uint64_t settled_seq; /* the peer has everything up to here, but what is named here */
    uint8_t block[4096];
};

/* --- super.c: what must survive
 * ----------------------------------------------------------------------------- */

/* Sequence numbers are reserved durably, a step at a time, when the margin below super.seq_limit is
 * used up. */
#define SEQ_MARGIN 4096u
#define SEQ_STEP (1u << 20)

struct super {
    uint8_t role, data;
    bool was_alone, is_split;
    bool has_own; /* was primary, and what it wrote is neither sealed nor known to be with the peer
                   */
    bool tip_is_shared; /* a peer has, or may have, taken over the last epoch of the lineage */
    uint64_t seq_limit; /* no sequence number at or above it has been used */
    uint64_t size_bytes;
    uint64_t journal_tail, journal_term; /* where redo begins; marks records of this life */
    uint64_t journal_life;               /* the highest term that was given */
    uint64_t journal_synced;             /* the journal was durable below it when this was saved */
    uint64_t log_generation;             /* the activity log on disk is not older than this */
    uint64_t backlog_end; /* the journal up to here is part of what is served; 0: it is not */
    uint64_t backlog_id;  /* random: of which backlog extents are said to be settled */
    bool is_damaged;      /* the journal has lost what was promised: an older instant */
    uint64_t has_seq; /* everything of its sources up to here is on the disk or in the journal */
    struct lineage lineage;
};

/* --- the link
 * --------------------------------------------------------------------------------------------------
 */

enum link_state {
    LINK_DOWN,
    LINK_GREETING,  /* connected; the peer's HELLO has not come */
    LINK_RESTING,   /* known, but nothing is to be sent: see plan */
    LINK_ASKED,     /* source: waits for READY */
    LINK_RESYNC,    /* source: in a batch; guests' writes go into it */
    LINK_STREAMING, /* source: both sides are the same but for what is under way */
    LINK_AHEAD,     /* source, async: the peer is left behind, writes are only marked */
    LINK_TARGET,
    LINK_STATES
};

struct outgoing {
    struct outgoing *next, *later; /* for the link; in a list of spill.c */
    uint64_t position, prev;       /* spill.c: in the file; the record before it */
    size_t length;
    unsigned references;
    uint8_t head[SPILL_HEAD_BYTES]; /* spill-file.c: of its record, of which the rest follows */
    uint8_t message[];              /* and room behind it for what fills the record up */
};

/* A guest's write, trim, zero or flush; in its scratch. */
struct captured {
    struct captured *next, **link; /* in waiting or in unacked; link NULL: in none */
    struct sluice_request *request;
    struct member *member;
    uint64_t offset; /* in the group */
    uint64_t seq;    /* its last number; 0: not captured yet */
    uint32_t numbers;
    uint64_t ticket;        /* of evidence_is_ready() */
    bool is_flush, is_read; /* a read waits for what is not applied */
};

struct copying {
    struct replica *r;
    struct sluice_io io;
    uint64_t extent, grain;
    bool is_busy, is_reading, is_paid; /* paid: max_rate has counted it when it was compared */
    uint16_t todo;                     /* grains of the extent still to be sent */
    uint8_t data[GRAIN_BYTES];
};
#define COPIES 4u

enum ack_level { ACK_RECEIVED, ACK_JOURNALED, ACK_APPLIED };

struct settings {
    bool is_async, holds; /* on_peer_loss: hold */
    enum ack_level level;
    uint64_t peer_timeout_ns, peer_wait_ns, ram_bytes, journal_bytes, spill_bytes, max_rate;
    char peer[64];
    char journal_path[512], spill_path[512];
};

/* --- growth.c
 * --------------------------------------------------------------------------------------------
 */

struct growth {
    /* the source: what came of its question */
    enum { GROWTH_IDLE, GROWTH_ASKED, GROWTH_AGREED, GROWTH_REFUSED } state;
    uint64_t wanted_bytes;
    uint64_t old_there; /* up to here the new part may hold something at the peer */
    char why[200];
    /* the target: what the gateway is asked for */
    struct sluice_wish wish;
    bool is_wished, answers; /* answers: the source waits to hear of it, by this nonce */
    uint64_t nonce, retry_ns;
    uint64_t old_here;
    /* either: the memory for it, while the gateway's own event is between its phases */
    struct room *room;
    bool must_note; /* in the state, when what is marked of the new part is durable: */
    uint64_t ticket;
};

/* --- snapshot.c
 * -------------------------------------------------------------------------------------------
 */

#define SNAPSHOT_NAME_MAX 127u
struct snapshots {
    /* the source: the last one */
    enum { SNAPSHOT_NONE, SNAPSHOT_ASKED, SNAPSHOT_MADE, SNAPSHOT_MISSED } state;
    char name[SNAPSHOT_NAME_MAX + 1], why[200];
    /* the target: what the gateway is asked for, and the entry that waits for it */
    struct sluice_wish wish;
    struct entry *entry;
    bool is_wished;
    uint64_t missed_until; /* of the journal: what an earlier process had before, and not made */
};

/* The newest record of its name, as the gateway has told it. */
struct kept_record {
    char name[RECORD_NAME_MAX + 1];
    uint8_t *payload; /* with its head, as in a frame; NULL: none */
    size_t length;
};
#define RECORDS_MAX 4u

/* An instance of the filter: a disk of the group, which may be all of it. */
struct member {
    struct replica *r;
    struct sluice_disk *disk;
    struct settings settings;
    uint64_t base;               /* where it begins in the group; a multiple of an extent */
    _Atomic uint64_t size_bytes; /* of its disk now; changes for a lone one only */
    uint32_t inside;             /* requests of its guests that were captured and have not left */
    bool is_parked, is_lone;
    bool guests_left; /* whoever still waits here, or comes, has no client any more */
    struct kept_record records[RECORDS_MAX];
};
#define MEMBERS_MAX 64u

struct replica {
    pthread_mutex_t mutex;
    pthread_cond_t changed; /* whoever waits in a verb or an event looks again */

    /* the group; these stay when it is formed anew, everything below does not */
    pthread_mutex_t forming;             /* before mutex: held while the group is formed or ends */
    struct member *members[MEMBERS_MAX]; /* by UUID */
    unsigned member_count, wanted, verbs;
    struct captured *waiting, **waiting_last, *unacked, **unacked_last;
    _Atomic unsigned flushing; /* threads that flush the channel, without the mutex */
    struct captured *reading, **reading_last; /* wait for the backlog */
    _Atomic bool has_backlog;                 /* reads look at it without the mutex */

    bool is_formed;
    struct sluice_disk *disk; /* the first member's: files, timer, channel */
    uint64_t size_bytes;      /* to the end of the last member */
    struct settings settings;
    struct super super;
    uint64_t super_changes, super_saved; /* counted; saved: durable up to this change */
    uint64_t saved_seq_limit;
    struct evidence evidence;
    struct journal journal;
    struct backlog backlog;
    struct seals seals;

    struct sluice_channel *channel;
    enum link_state link;
    enum plan plan;
    const char *plan_reason;
    char link_reason[160];
    struct hello theirs;
    uint64_t fork_seq;
    struct outgoing *out_first, **out_last;
    uint64_t out_bytes;                        /* queued */
    uint64_t sent_bytes, peer_journaled_bytes; /* of data, in this connection */
    bool has_fallen; /* the channel is there, but something was wrong on it */
    bool is_blocked; /* by the channel's window */
    enum link_flush { FLUSH_NONE, FLUSH_SOON, FLUSH_NOW } flush; /* due when the mutex is free */

    /* the source */
    uint64_t seq; /* the last one given */
    uint64_t acked_received, acked_journaled, acked_stable, acked_applied;
    bool is_serving;       /* the gate is open */
    uint64_t alone_change; /* super_changes that makes it durable */
    bool is_alone;         /* has acknowledged what the peer may lack; durable in super.was_alone */
    uint64_t alone_until;  /* streaming: it has everything when it has this number */
    bool alone_wanted;
    uint64_t down_ns;  /* when the channel was lost; 0: it never was there */
    uint64_t lost_ns;  /* when the peer went; 0: it is here */
    uint64_t asked_ns; /* when it was asked to be READY */
    struct spill spill;
    struct copying copies[COPIES];
    uint8_t *todo; /* extents still to be copied, a bit each */
    uint64_t todo_at, todo_left, todo_total;
    uint64_t commit_seq;
    uint64_t share_change; /* super_changes that makes tip_is_shared durable */
    bool commit_is_sent, must_unstage;
    uint64_t batch_nonce; /* of the READY that this batch answers */
    uint64_t rate_at_ns;
    bool resync_wanted; /* something was marked while streaming */
    enum { CLEAN_IDLE, CLEAN_RUNNING } clean;
    bool clean_flushed, clean_is_mirrored;
    uint64_t clean_seq, clean_ns;
    struct sluice_io clean_io;
    bool is_cleaning; /* clean_io is under way */

    /* the target */
    uint64_t has_seq; /* as in super, but for what the journal holds since */
    uint64_t received_seq, journaled_seq, stable_seq, applied_seq;
    uint64_t journaled_bytes;
    struct entry *begin_entry; /* of a batch that is not applied yet: nothing from it on is */
    bool batch_is_unstaged;
    uint64_t half_change;  /* super_changes that makes DATA_HALF durable */
    uint64_t flush_wanted; /* make everything up to this seq durable */
    bool ready_wanted, cut_wanted;
    bool has_begun;       /* BEGIN has answered our READY: what came before it counts for nothing */
    uint64_t ready_nonce; /* of that READY; acknowledgements carry it back */
    uint64_t stale_nonce; /* of the READY since which something else was left out */
    enum { BATCH_NONE, BATCH_OPEN, BATCH_ENDING, BATCH_SAVING } batch;
    uint64_t commit_position, commit_seq_seen, commit_change;
    struct lineage commit_lineage;
    uint64_t checkpoint_tail, checkpoint_term;
    enum { CHECK_IDLE, CHECK_FLUSHING, CHECK_SAVING } check;
    struct sluice_io check_io;
    uint64_t check_change;
    uint64_t apply_away_until_ns;   /* of replica_work(): until then it waits for no write */
    bool sync_is_armed;             /* the timer brings the next sync of the journal */
    uint64_t checked_ns, synced_ns; /* when a checkpoint was begun, and a sync of the journal that
                                       nobody waits for */

    /* either side */
    struct growth growth;
    struct snapshots snapshots;
    struct compare compares[COMPARE_SLOTS];
    struct answers answers;
    struct seed seed;
    struct verify verify;

    /* roles */
    bool is_promoting, is_demoting, is_handing_over, is_parked, is_closing, needs_epoch,
        is_discarding, discard_is_all, discard_is_whole;
    bool takeover_waits;     /* the peer asks for the disk: when the backlog is applied */
    uint64_t discard_change; /* as role_change: what was given up is durably forgotten */
    uint64_t role_change;    /* super_changes that makes the new role durable; 0: none under way */
    uint64_t opened_ns;
    uint64_t demoting_ns; /* since when */
    uint64_t role_asked_ns;
    struct sluice_work work;
    bool work_is_queued, work_again;
    struct sluice_timer timer;
    uint64_t tick_ns; /* when it fires */
};

static inline void replica_lock(struct replica *r)
{
    pthread_mutex_lock(&r->mutex);
}
void link_unlock_and_flush(struct replica *r);
static inline void replica_unlock(struct replica *r)
{
    if (r->flush)
        link_unlock_and_flush(r);
    else
        pthread_mutex_unlock(&r->mutex);
}
/* From a thread that may block: until something has changed, or some time later. */
static inline void replica_wait(struct replica *r)
{
    if (r->flush) { /* what it waits for may be the answer */
        replica_unlock(r);
        replica_lock(r);
        return;
    }
    replica_sleep(&r->changed, &r->mutex);
}
/* All below: with the mutex held, unless it says otherwise. */

/* --- filter.c
 * --------------------------------------------------------------------------------------------------
 */

/* Runs replica_work() soon, on a thread that may block. */
void replica_kick(struct replica *r);
/* The timer fires then, or before. */
void replica_tick_in(struct replica *r, uint64_t delay_ns);
/* Without the mutex: everything that nobody waits for and that can go on now. */
void replica_work(struct replica *r);
/* Without a member; NULL: out of memory. */
struct replica *replica_make(void);
void replica_free(struct replica *r);
/* Block, without the mutex, the group's `forming` held: reads what is on disk; ends everything that
 * is under way, and forgets. */
int replica_open(struct replica *r, struct sluice_error *error);
void replica_end(struct replica *r);
void replica_forget(struct replica *r);
/* A control event; blocks, without the mutex. */
int replica_resize(struct member *m, const struct sluice_event *event, struct sluice_error *error);
extern const struct sluice_verb replica_verbs[]; /* verbs.c */
enum {
    COUNT_CAPTURED,
    COUNT_SENT_BYTES,
    COUNT_RESYNC_BYTES,
    COUNT_APPLIED,
    COUNT_LOST,
    COUNT_LOG_WRITES
};

/* --- members.c
 * --------------------------------------------------------------------------------------------------
 */

/* Block. */
int member_open(struct sluice_disk *disk, const struct settings *settings, struct member **out,
                struct sluice_error *error);
void member_close(struct member *m);
/* Around a verb: the group is formed until it exits.  NULL, and a sentence: it is not now. */
struct replica *member_enter(struct member *m, struct sluice_error *error);
void member_exit(struct replica *r);
/* Bytes from there to the end of its disk; 0: there is no disk. */
uint64_t members_left_at(const struct replica *r, uint64_t offset);
uint64_t members_grain_bytes(const struct replica *r, uint64_t grain);
uint64_t members_total_bytes(const struct replica *r);
/* Which of several disks, and the offset in it; of a lone one "", and the offset stays. */
const char *members_name_at(const struct replica *r, uint64_t *offset);
uint64_t members_id(const struct replica *r);             /* for the greeting */
void members_grow(struct member *m, uint64_t size_bytes); /* a lone one */
/* Without the mutex, as sluice_io_submit() and sluice_io_wait(): an offset in the group, which is
 * one in a disk afterwards; a flush is one of all disks and cannot be waited for in a group. */
int members_submit(struct replica *r, struct sluice_io *io);
int members_wait(struct replica *r, struct sluice_io *io);
bool members_begin_at(const struct replica *r, uint64_t offset);
/* sluice_wish_for() of the disk that begins there. */
int members_wish(struct replica *r, uint64_t offset, struct sluice_wish *wish);
void members_gate(struct replica *r, bool is_closed, const char *reason);
/* A disk is to be quiet, and of its guests nothing is in here that may wait for own I/O, as a write
 * does for the batch it is in: none is begun. */
bool members_rest(const struct replica *r);
void members_request_role(struct replica *r, uint32_t role, uint64_t epoch);
bool members_have_role(struct replica *r, bool is_primary);
bool members_are_drained(struct replica *r); /* sluice_gate_is_drained() of all */
void members_set_guests_left(struct replica *r, bool have_left);
/* Blocks, in a verb and without the mutex, until the gateway has taken it over for all disks, or
 * for some seconds. */
void members_await_role(struct replica *r, bool is_primary);
void members_health(struct replica *r, uint32_t state, const char *sentence, const char *remedy);
void members_progress(struct replica *r, const char *what, uint64_t done, uint64_t total);
void members_tell(struct replica *r, struct sluice_reply *reply);

/* --- evidence.c
 * ------------------------------------------------------------------------------------------------
 */

/* Blocks, without the mutex.  What the activity log held is dirty then. */
int evidence_open(struct replica *r, struct sluice_error *error);
void evidence_close(struct replica *r);
/* True: every extent of the range is in the durable log; else it will be, then
 * replica_on_evidence(). */
bool evidence_is_ready(struct replica *r, uint64_t offset, uint64_t bytes, uint64_t *ticket);
void evidence_begin_write(struct replica *r, uint64_t offset, uint64_t bytes, uint64_t seq);
void evidence_end_write(struct replica *r, uint64_t offset, uint64_t bytes);
/* is_again: also beyond the running batch. */
void evidence_mark(struct replica *r, uint64_t offset, uint64_t bytes, bool is_again);
void evidence_mark_all(struct replica *r);
/* What was written after `seq` and is still in the log. */
void evidence_mark_after(struct replica *r, uint64_t seq);
/* The batch is with the peer: what it held is clean. */
void evidence_settle(struct replica *r);
/* What is marked although the peer has been sent it in order is clean; what is not stays. */
void evidence_forget_explained(struct replica *r);
bool evidence_is_any(const struct replica *r);
uint64_t evidence_dirty_bytes(const struct replica *r);
static inline bool evidence_is_dirty(const struct evidence *e, uint64_t grain)
{
    return e->dirty[grain / 8] >> (grain % 8) & 1;
}
bool evidence_is_writing(const struct replica *r, uint64_t extent);
/* Extents that nobody writes leave the log: chosen now, removed by evidence_leave() if still
 * untouched. */
unsigned evidence_choose_leaving(struct replica *r, bool marks);
void evidence_leave(struct replica *r);
void evidence_commit(struct replica *r); /* starts one if wanted and none runs */
/* The commit that will have all of what is marked now on disk: evidence.commits has reached it. */
uint64_t evidence_ticket(struct replica *r);

/* --- super.c
 * ------------------------------------------------------------------------------------------------------
 */

int super_load(struct replica *r, struct sluice_error *error);
/* Returns the number of this change: it is durable when super_saved has reached it. */
uint64_t super_change(struct replica *r);
/* Blocks, without the mutex, on the one work thread. */
void super_save(struct replica *r);

/* --- link.c
 * ---------------------------------------------------------------------------------------------------------
 */

extern const struct sluice_channel_handlers replica_handlers;
/* Copies head and payload into the stream. */
void link_send(struct replica *r, const struct frame *frame, const void *payload, size_t length);
/* The same in two steps.  NULL: no memory. */
struct outgoing *link_make(const struct frame *frame, const void *payload, size_t length);
void link_push(struct replica *r, struct outgoing *o, const struct frame *frame);
static inline void outgoing_put(struct outgoing *o)
{
    if (--o->references == 0)
        free(o);
}
/* Says who we are, again: role, lineage or evidence have changed.  The peer decides anew. */
void link_greet(struct replica *r);
void link_set(struct replica *r, enum link_state state);
const char *link_name(enum link_state state);
/* Ends what was going on with the peer. */
void link_fall(struct replica *r, const char *reason);
static inline bool link_mirrors(const struct replica *r)
{
    return r->link == LINK_RESYNC || r->link == LINK_STREAMING;
}

/* --- capture.c
 * -------------------------------------------------------------------------------------------------------
 */

struct sluice_verdict capture_start(struct member *m, struct sluice_request *request,
                                    struct captured *c);
struct sluice_verdict capture_end(struct replica *r, struct sluice_request *request,
                                  struct captured *c);
enum sluice_cancel_answer capture_cancel(struct replica *r, struct captured *c);
/* A record that has changed gets its number. */
void capture_record(struct replica *r, struct frame *frame, const void *payload);
/* Something changed: those that waited to begin, those that waited for the peer. */
void capture_admit(struct replica *r);
void captured_append(struct captured ***last, struct captured *c);
void captured_take_out(struct captured ***last, struct captured *c);
/* Is resumed; it was in no list any more. */
void captured_leave(struct captured *c, struct sluice_verdict v);
void capture_release(struct replica *r);
/* The guests of this disk, NULL: of all, have left this side: whatever still waits for it is
 * refused. */
void capture_abandon(struct replica *r, const struct member *of);

/* --- growth.c
 * --------------------------------------------------------------------------------------------
 */

int replica_resize(struct member *m, const struct sluice_event *event, struct sluice_error *error);
/* The first half of it at the source: the peer is asked to grow first.  0: growth.state will say
 * what came of it. */
int growth_ask(struct replica *r, uint64_t size_bytes, struct sluice_error *error);
void growth_take(struct replica *r, const struct frame *frame, const void *message, size_t length);
void growth_take_answer(struct replica *r, const struct frame *frame, const void *message,
                        size_t length);
void growth_on_stop(struct replica *r);
/* The peer is the primary, and its disk larger. */
void growth_follow(struct replica *r);
void growth_step(struct replica *r);
void growth_close(struct replica *r);

/* --- snapshot.c
 * -------------------------------------------------------------------------------------------
 */

int replica_snapshot(struct member *m, const struct sluice_event *event,
                     struct sluice_error *error);
void snapshot_take_answer(struct replica *r, const struct frame *frame, const void *message,
                          size_t length);
void snapshot_on_stop(struct replica *r);
void snapshot_tell(struct replica *r, struct sluice_reply *reply);
/* False: it comes at a time when there is no instant, and the source was told. */
bool snapshot_is_taken(struct replica *r, const struct frame *frame);
void snapshot_load(struct replica *r); /* blocks, without the mutex */
/* The entry is not applied, so nothing behind it is.  Begins it when it is the next one; true: it
 * has to be read back first. */
bool snapshot_holds(struct replica *r, struct entry *e);

/* --- records.c
 * --------------------------------------------------------------------------------------------
 */

/* The gateway tells; without the mutex. */
int replica_record(void *instance, const char *name, const void *data, size_t length);
void records_free(struct member *m);
/* In a batch: all, as they are now. */
void records_send_all(struct replica *r);
/* Hands the next one of the journal to the gateway, which blocks: lets go of the mutex meanwhile.
 */
void records_take(struct replica *r);
void records_tell(struct replica *r, struct sluice_reply *reply);

/* --- resync.c
 * --------------------------------------------------------------------------------------------------------
 */

void resync_begin(struct replica *r, bool is_full);
/* The batch that follows may take numbers above the peer's. */
void resync_reserve(struct replica *r);
/* A batch of records, which spill.c sends: they follow `seq`. */
void resync_begin_replay(struct replica *r, uint64_t seq);
void resync_send_commit(struct replica *r, uint64_t seq);
void resync_stop(struct replica *r);
/* Without the mutex: copies what may be copied now. */
void resync_pump(struct replica *r);
void resync_on_committed(struct replica *r);
/* Streaming, and the peer has what was acknowledged without it: protected again. */
void resync_end_alone(struct replica *r);
bool resync_is_copying(const struct replica *r, uint64_t offset, uint64_t bytes);

/* --- compare.c
 * -------------------------------------------------------------------------------------------------------
 */

bool compare_is_room(struct replica *r, enum compare_purpose purpose);
bool compare_is_any(const struct replica *r, enum compare_purpose purpose);
/* These grains of the extent will be compared; then verify_on_compared(), or they are
 * COMPARE_DIFFERS. False: there is no room. */
bool compare_begin(struct replica *r, enum compare_purpose purpose, uint64_t extent,
                   uint16_t grains);
/* Those of the extent that lie inside the disk; the bytes of some. */
uint16_t compare_grains(const struct replica *r, uint64_t extent);
uint64_t compare_bytes(const struct replica *r, uint64_t extent, uint16_t grains);
void compare_stop(struct replica *r, enum compare_purpose purpose);
void compare_stop_all(struct replica *r);
bool compare_is_busy(const struct replica *r);
/* One that is COMPARE_DIFFERS and that nobody writes: its grains, and it is forgotten; 0: none. */
uint16_t compare_take_differing(struct replica *r, uint64_t *extent);
/* The extent is being read: a guest's write to it, or the applying of an entry, waits. */
bool compare_holds_write(const struct replica *r, uint64_t offset, uint64_t bytes);
bool compare_holds_entry(const struct replica *r, const struct entry *e);
void compare_take_check(struct replica *r, const struct frame *frame, const void *message,
                        size_t length);
void compare_take_checked(struct replica *r, const struct frame *frame, const void *message,
                          size_t length);
void compare_on_answer(struct replica *r, struct compare *c, uint16_t differs, uint16_t unread);
void compare_pump(struct replica *r); /* without the mutex */

/* --- verify.c
 * --------------------------------------------------------------------------------------------------------
 */

void verify_load(struct replica *r); /* blocks, without the mutex */
void verify_close(struct replica *r);
/* rate: bytes a second, 0: no limit.  0 or a negative errno. */
int verify_start(struct replica *r, uint64_t rate, bool repairs);
void verify_end_early(struct replica *r);
/* Nothing came of it: once more, later. */
void verify_put_back(struct replica *r, uint64_t extent);
void verify_on_compared(struct replica *r, const struct compare *c, uint16_t differs,
                        uint16_t unread);
void verify_on_resynced(struct replica *r);
bool verify_has_found(const struct replica *r); /* and it has not been sent since */
void verify_tell(struct replica *r, struct sluice_reply *reply);
int verify_run_verb(void *instance, int argc, const char *const *argv, struct sluice_reply *reply,
                    struct sluice_error *error);
void verify_pump(struct replica *r); /* without the mutex */

/* --- seed.c
 * --------------------------------------------------------------------------------------------------------
 */

/* The peer's disk is older than what is known of it: one that was put back. */
bool seed_is_stale(const struct replica *r);
void seed_on_stale(struct replica *r);
void seed_begin(struct replica *r, uint64_t dirty_bytes);
bool seed_asks(const struct replica *r); /* about the next extent */
void seed_on_unasked(struct replica *r);
void seed_on_answer(struct replica *r, const struct compare *c, uint16_t differs);
/* Before COMMIT, until is_flushed; true: seed_flush() follows, without the mutex. */
bool seed_wants_flush(struct replica *r);
void seed_flush(struct replica *r);
void seed_on_committed(struct replica *r);
void seed_tell(struct replica *r, struct sluice_reply *reply);

/* --- target.c
 * --------------------------------------------------------------------------------------------------------
 */

void target_begin(struct replica *r);
void target_stop(struct replica *r);
void target_take(struct replica *r, const struct frame *frame, const void *message, size_t length);
/* All that came together was taken: it is written, in as few calls as possible.  Gives the mutex
 * back meanwhile. */
void target_caught_up(struct replica *r);
void target_on_journaled(struct replica *r);
void target_on_synced(struct replica *r);
/* The entry was being applied: it is, or it is tried again. */
void target_on_applied(struct replica *r, struct entry *e, int32_t error);
/* Its payload is only in the journal: is_applying until it is here; it is looked at again. */
void target_read_back(struct replica *r, struct entry *e);
/* It cannot take a batch now: the source is told why. */
void target_refuse(struct replica *r, const char *sentence);
/* Without the mutex: applies, makes checkpoints, ends commits. */
void target_pump(struct replica *r);
/* All that was taken is durable in the journal, and what of it is applied is marked so: the rest
 * may be served as a backlog. */
bool target_may_serve(const struct replica *r);
/* checkpoint.c: position of the first record that redo needs; without the mutex, makes the next
 * checkpoint when it is time. */
uint64_t target_first_needed(const struct replica *r);
void target_checkpoint(struct replica *r);
/* A COMMIT was found in the journal after a crash. */
bool target_recover_commit(struct replica *r, const uint8_t *payload, size_t length);

/* --- roles.c
 * -----------------------------------------------------------------------------------------------------------
 */

void roles_open(struct replica *r);
/* NULL: may be promoted; else why not, and with is_forced only what force cannot change. */
const char *roles_cannot_promote(const struct replica *r, bool is_forced);
void roles_promote(struct replica *r); /* begins: is_promoting until it is done */
void roles_demote(struct replica *r);  /* begins: is_demoting until everything is with the peer */
void roles_on_lost(struct replica *r);
void roles_tick(struct replica *r);
void roles_pump(struct replica *r); /* without the mutex */
void roles_left(struct member *m);
void roles_serve(struct replica *r, bool is_serving, const char *reason);
void roles_split(struct replica *r);
/* This side gives up what only it has written: it is sealed, or with is_whole the whole disk, then
 * this side follows. */
void roles_discard(struct replica *r, bool is_whole);
/* What only this side had is sealed, or there is nothing. */
void roles_sealed(struct replica *r);
/* It could not be sealed: it is not given up. */
void roles_keep(struct replica *r);
void roles_tell(struct replica *r); /* the health line */

#endif
