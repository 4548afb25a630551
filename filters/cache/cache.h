/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * cache.h: what the files of the cache filter share: one instance on one disk.
 *
 * One mutex guards everything that decides (index, frames, log positions, versions), and is never
 * held across I/O or a call that may block.  [M] marks fields and functions under it; [K] belongs
 * to the keeper, the one work item that destages, reclaims and writes checkpoints; [I] is immutable
 * after open.  docs/cache.md has the rules R1 to R13 and why they hold.
 */
#ifndef SLUICE_CACHE_H
#define SLUICE_CACHE_H

#include "format.h"
#include "index.h"
#include "policy.h"
#include "stream.h"
#include "world.h"

#include <sluice-filter.h>

#include <stdatomic.h>
#include <string.h>

#define CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

struct cache;

/* --- tables: options and counters ------------------------------------------------------------ */

enum cache_mode {
    MODE_WRITE_BACK,
    MODE_WRITE_THROUGH,
    MODE_WRITE_AROUND,
    MODE_READ_ONLY,
    MODE_BYPASS
};
/* What a mode means for each request; one row each, in modes.c. */
struct mode_rules {
    const char *name;
    bool reads_hit;   /* reads are answered from clean blocks too */
    bool reads_fill;  /* what was read from the backing is kept */
    bool writes_stay; /* writes are acknowledged from the log */
    bool writes_fill; /* a write to a cached block replaces what is cached */
};
extern const struct mode_rules cache_modes[];

struct cache_options {
    enum cache_mode mode;
    uint64_t ram_bytes, ssd_bytes;
    uint64_t given_up; /* nonce of a tier that is gone, knowingly; 0: none */
    uint64_t tier_timeout_ns;
    const char *policy;
    uint64_t soft_percent, hard_percent; /* of the log that may be dirty */
    uint64_t destage_rate;               /* bytes a second; 0: no limit */
    uint64_t destage_depth;
    uint64_t destage_after_ns; /* dirty data that old goes to the backing */
    uint64_t bypass_over;      /* larger reads are not kept */
    uint64_t bypass_after;     /* nor those that go on where so much was read; 0: all are */
    bool ordered;              /* what is in the backing is an earlier state of the disk */
};

enum cache_counter {
    N_HITS_RAM,
    N_HITS_SSD,
    N_MISSES,
    N_PARTIAL,
    N_BYPASSED,
    N_FILLS,
    N_FILLS_DROPPED,
    N_PROMOTED,
    N_COPIED,
    N_EVICTED,
    N_WRITES_BACK,
    N_WRITES_THROUGH,
    N_DIRTY,
    N_OLDEST,
    N_DESTAGED,
    N_CLIENT_WRITTEN,
    N_LOG_WRITTEN,
    N_PREWRITTEN,
    N_FLUSHES_LOG,
    N_FLUSHES_BACKING,
    N_CHECKPOINTS,
    N_PACED,
    N_RAM,
    N_ROTTED,
    N_COMMIT
};
extern const struct sluice_counter cache_counters[];
struct sluice_value;
void cache_read_options(const struct sluice_value *values, struct cache_options *out);

/* --- versions: which fills are too late (R9) -------------------------------------------------- */

#define VERSION_BUCKETS 4096u
#define VERSION_SHIFT 4 /* blocks a bucket: 16 */
#define TOKENS_MAX 6u   /* for CHUNK_DATA_MAX blocks anywhere */
#define TOKEN_NONE UINT32_MAX
struct versions {
    struct version_bucket {
        uint32_t version, in_flight;
        uint64_t through;      /* of the last change that went to the backing, struct cache */
    } bucket[VERSION_BUCKETS]; /* [M] */
    uint64_t through_before;   /* [I] of changes before the cache was opened */
};
/* [M] A change of these blocks begins, ends. */
void versions_begin(struct versions *v, uint64_t block, uint64_t count);
void versions_end(struct versions *v, uint64_t block, uint64_t count);
/* [M] A change has gone to the backing; which was the last one that did. */
void versions_note_through(struct versions *v, uint64_t block, uint64_t count, uint64_t through);
uint64_t versions_through(const struct versions *v, uint64_t block);
/* [M] TOKEN_NONE: a change is under way. */
uint32_t versions_token(const struct versions *v, uint64_t block);
/* [M] No change has begun or ended since. */
bool versions_is_current(const struct versions *v, uint64_t block, uint32_t token);

/* --- patience.c: a tier that does not answer ----------------------------------------------------
 */

/* Something that is asked of the tier. */
struct awaited {
    struct awaited *next, **at; /* [M] while it is under way */
    uint64_t since_ns;
    bool is_given_up, is_told, is_back; /* [M] */
    bool is_keepers;                    /* the keeper's, which a thread waits for */
    /* Nobody waits for it any more: takes the place of its end, and leaves its memory alone. */
    void (*give_up)(struct awaited *a);
    void (*drop)(struct awaited *a); /* after that, when it has come back: frees its memory */
};
struct patience {
    struct awaited *first, **last; /* the oldest first */
    uint32_t requests;             /* of them, that are not the keeper's */
    uint32_t late;                 /* given up, and not back */
    uint64_t looked_ns;            /* 0: not yet */
};
#define AWAIT_LOOK_NS UINT64_C(500000000)
/* [M] It is about to be asked by this operation.  False: that would be in vain. */
bool await_begin(struct cache *c, struct awaited *a, struct sluice_file_io *io);
/* It has come back, before anything else is done about it.  False: too late, and it may be gone. */
bool await_end(struct cache *c, struct awaited *a);
/* [M] Something has been awaited for longer than this. */
bool await_is_late(struct cache *c, uint64_t ns);
/* Every AWAIT_LOOK_NS: has it been too long? */
void await_look(struct cache *c);
/* Asks and waits, from threads that may block.  0 or a negative errno; -ETIMEDOUT: nothing can be
 * said of what is there. */
int await_wait(struct cache *c, struct sluice_file_io *io);
/* [M] */
static inline bool await_is_in_vain(const struct cache *c);

/* --- the log -----------------------------------------------------------------------------------
 */

enum job_kind {
    JOB_WRITE,  /* count blocks of data (NULL: zeros), dirty */
    JOB_CLEAN,  /* one block that equals the backing's, from a frame or another slot */
    JOB_CHANGE, /* the backing is about to change: dirty blocks get the data, clean ones are dropped
                 */
    JOB_FORGET, /* one block that is lost: what was dirty of it does not count any more */
    JOB_MARK    /* a chunk, so that its header says what the log knows now */
};
struct log_job {
    struct log_job *next;
    enum job_kind kind;
    uint64_t block, count, progress;
    const uint8_t *data;
    uint32_t token, source; /* CLEAN */
    bool source_is_ram;
    uint8_t frequency;
    bool was_logged; /* out: something of it stands in the log */
    int32_t error;
    void (*done)(struct log_job *job); /* without the mutex, any thread */
};
struct job_queue {
    struct log_job *first, **last;
};
struct sync_waiter {
    struct sync_waiter *next;
    bool is_keepers;
    void (*done)(struct sync_waiter *w, int32_t error); /* without the mutex, any thread */
};

struct chunk {
    struct cache *owner;
    struct chunk_header header;
    const uint8_t *source[CHUNK_ENTRIES_MAX]; /* NULL: zeros */
    struct log_job *job[CHUNK_ENTRIES_MAX];
    struct job_queue finished; /* jobs that end with this chunk */
    uint32_t block;            /* where in its segment */
    bool is_marked, is_buffered, is_durable;
    uint8_t *buffer; /* header and data, as written */
    struct awaited awaited;
    struct sluice_file_io io;
};

struct log {
    struct sluice_file *file;
    struct sluice_file *buffered; /* the same, through the page cache; NULL: is not used */
    struct superblock super;      /* [I] layout and names; generation, start and end: [K] */
    char path[512];
    uint64_t file_bytes;
    bool is_promised; /* [I] new space of it is promised by a file system, not written */
    /* [M] all below */
    int32_t error;               /* sticky; 0: works */
    struct log_position head;    /* of the next chunk */
    struct log_position applied; /* behind the last chunk that is in the index */
    uint64_t durable;            /* all chunks before this one are */
    uint64_t tail, tail_announced, clean;
    uint64_t checkpoint_segment; /* where the replay of the newest checkpoint begins */
    uint64_t prewritten;         /* segments before this one: their places hold zeros at least */
    uint64_t dirty_blocks;
    uint64_t lost_blocks, lost_first; /* dirty and damaged; the disk's block found first */
    uint32_t *dirty_in;               /* per place of a segment */
    uint32_t *lost_in;                /* of these: damaged, so not to be destaged */
    uint64_t *dirty_since_ns;         /* the same: the first of them, or this run if it is older */
    uint32_t *entries_in;             /* the same: of the index, dirty or not */
    uint32_t *readers;                /* the same: reads under way */
    /* Per slot: the CRC of its data.  Written before the index names the slot and not again before
     * the segment is used anew, so who has pinned the segment reads it without the mutex. */
    uint32_t *crc;
    struct job_queue urgent, jobs;
    bool is_writing, is_syncing;
    uint64_t sync_target;
    /* How guests write: chunks since their last sync, how many that one was for (0: some were begun
     * while it was under way), and what the page cache holds that is not synced. */
    uint64_t unsynced_chunks, chunks_a_sync, buffered_bytes;
    bool is_overlapped, is_guests_sync;
    bool is_flushed; /* a guest's flush has come since the last chunk was taken */
    struct sync_waiter *sync_now, *sync_next;
    struct awaited sync_awaited;
    struct sluice_file_io sync_io;
    struct chunk *chunk;
    struct patience patience;
};

static inline bool cache_has_log(const struct cache *c);
static inline uint32_t log_place_of(const struct log *log, uint64_t segment)
{
    return (uint32_t)(segment % log->super.segment_count);
}
static inline uint32_t log_slot(const struct log *log, uint64_t segment, uint32_t block)
{
    return log->super.first_block + log_place_of(log, segment) * log->super.segment_blocks + block;
}
/* The place of the segment that a slot lies in. */
static inline uint32_t log_place_of_slot(const struct log *log, uint32_t slot)
{
    return (slot - log->super.first_block) / log->super.segment_blocks;
}
/* Where the CRC of a slot's data stands. */
static inline uint32_t *log_crc(const struct log *log, uint32_t slot)
{
    return &log->crc[slot - log->super.first_block];
}
static inline uint64_t log_bytes(const struct log *log)
{
    return (uint64_t)log->super.segment_count * log->super.segment_blocks * BLOCK_BYTES;
}
/* [M] What can be brought to the backing. */
static inline uint64_t log_to_destage(const struct log *log)
{
    return log->dirty_blocks - log->lost_blocks;
}
/* [M] Since when what can be brought to the backing waits for it: to a segment.  UINT64_MAX:
 * nothing waits. */
uint64_t log_oldest_dirty_ns(const struct log *log);
/* [M] Nothing but damaged blocks, which the backing lacks, keeps the tail from moving. */
static inline bool log_is_stuck(const struct log *log)
{
    uint32_t place = log_place_of(log, log->tail);

    return log->dirty_in[place] && log->dirty_in[place] == log->lost_in[place];
}
static inline uint64_t log_crc_bytes(const struct log *log)
{
    return log_bytes(log) / BLOCK_BYTES * sizeof *log->crc;
}

/* [M] Adds a job; urgent ones are the keeper's.  log_pump() has to follow. */
void log_add(struct cache *c, struct log_job *job, bool is_urgent);
/* Without the mutex: writes a chunk if there is something to write and none is being written. */
void log_pump(struct cache *c);
/* Without the mutex: w->done() once all chunks that are applied now are durable. */
void log_sync(struct cache *c, struct sync_waiter *w);
/* [M] What a guest wants durable is so already. */
bool log_is_durable(struct log *log);
/* log_sync() and wait, from threads that may block.  0 or a positive errno. */
int32_t log_sync_wait(struct cache *c);
/* Writes a chunk that says what the log knows now, and waits; makes it durable as well. */
int32_t log_mark_written(struct cache *c);
int32_t log_mark_wait(struct cache *c);
/* A block that is lost is dropped: the disk has what the backing has of it.  Not durable yet. */
int32_t log_forget_wait(struct cache *c, uint64_t block);
/* [M] The first fault decides; says so. */
void log_fail(struct cache *c, int32_t error, const char *what);
/* Reads or writes the tier, waiting.  0 or a negative errno. */
int log_io_wait(struct cache *c, uint8_t op, uint64_t block, void *data, uint64_t bytes);
/* [K] The same for the background, without which the log fills up: an error fails the tier, so that
 * nobody waits for room that never comes. */
int log_tend_wait(struct cache *c, uint8_t op, uint64_t block, void *data, uint64_t bytes);

/* Goes through the chunks of a segment in memory, in order, up to `end` blocks; fn gets each entry
 * with the slot of its data and the data (of DROP: nothing). */
typedef void log_entry_fn(void *arg, const struct chunk_entry *entry, uint32_t slot,
                          const uint8_t *data);
void log_for_entries(const struct log *log, const uint8_t *segment_data, uint64_t segment,
                     uint32_t end, log_entry_fn *fn, void *arg);

/* apply.c [M]: a chunk that has been written, into the index. */
int32_t log_apply(struct cache *c, const struct chunk *chunk);
/* [M] This block's entry goes. */
void cache_forget(struct cache *c, const struct index_item *item);
/* [M] All that match in one shard of the index. */
void cache_forget_matching(struct cache *c, unsigned shard,
                           bool (*matches)(const struct index_item *item, const void *arg),
                           const void *arg);
/* [M] So many more entries of the index lie in the segment of this slot. */
void log_count_entries(struct cache *c, uint32_t slot, int change);

/* rot.c: this data is what was written to the slot. */
bool rot_is_whole(const struct cache *c, uint32_t slot, const uint8_t *data);
/* [M] It is not: counts it, and says so now and then. */
void rot_note(struct cache *c, uint64_t block, uint32_t slot, bool is_dirty);
/* Reading the tier failed: says so now and then. */
void rot_note_unread(struct cache *c, int32_t error, bool is_dirty);
/* [M] This dirty block cannot be destaged; and: is overwritten. */
void rot_lose(struct cache *c, uint64_t block, uint32_t slot);
void rot_heal(struct cache *c, uint32_t slot);
/* [M] What is wrong with the tier or the backing, the worst of it, for status. */
void rot_tell_health(struct cache *c);

/* step-down.c: the tier has failed.  What may go on without it, wait for it or fail. */
enum way { WAY_GO, WAY_WAIT, WAY_FAIL };
struct stranded {
    struct stranded *next;
    struct sluice_request *request;
    enum way (*way)(struct cache *c, struct stranded *s); /* [M] */
    void (*go)(struct stranded *s, enum way way);         /* without the mutex; not WAIT */
};
struct note_file;
struct step_down {
    struct note_file *note; /* of an earlier run, while the tier is opened; NULL: none */
    bool is_void;           /* [M] noted: what is not dirty on the tier does not count */
    bool noting_failed;     /* [M] the last time */
    bool gives_up;          /* [M] the next note leaves out what is lost */
    uint64_t noted_blocks;  /* [M] */
    uint64_t try_again_ns;  /* [M] */
    struct stranded *first; /* [M] */
};
enum step_down_step { STEP_DOWN_NOTHING, STEP_DOWN_NOTE, STEP_DOWN_SALVAGE };
/* [M] With a tier that has failed: what the keeper does next; whether a change of these blocks, or
 * a flush, goes to the backing. */
enum step_down_step step_down_next(const struct cache *c, uint64_t now_ns);
enum way step_down_way(const struct cache *c, uint64_t block, uint64_t count);
enum way step_down_flush_way(const struct cache *c);
/* [M] Asks s->way(); WAIT: s->go() is called later.  And without the mutex: s->go(), now or later.
 */
enum way step_down_look(struct cache *c, struct stranded *s);
void step_down_look_again(struct cache *c, struct stranded *s);
/* Blocks that keep the disk from going on without the tier: those the backing lacks, or may still
 * be thought to lack. */
uint64_t step_down_left(const struct cache *c);
void step_down_tell_health(struct cache *c);
/* [K] Nothing more will come from the tier: nobody waits for it any more. */
void step_down_let_go_if_over(struct cache *c);
/* [K] 0 or a positive errno. */
int32_t step_down_note(struct cache *c);
/* [K] The state folder took a note, or did not: who waits for that is to know. */
void step_down_tell_noted(struct cache *c, int r);
/* The note of an earlier run, while the tier is opened.  0 or a negative errno and a sentence. */
int note_read(struct cache *c, struct sluice_error *error);
void note_free(struct cache *c);
/* There is one, of the tier with this nonce. */
bool note_is_of(const struct cache *c, uint64_t nonce);
uint64_t note_nonce(const struct cache *c);
uint64_t note_blocks(const struct cache *c);
/* Chunks from this one on do not count. */
uint64_t note_sequence(const struct cache *c);
bool note_has(const struct cache *c, uint64_t block);
int note_remove(struct cache *c);

/* recover.c, checkpoint.c: blocking.  0 or a negative errno and a sentence. */
int log_open(struct cache *c, const char *path, uint64_t bytes, struct sluice_error *error);
void log_close(struct cache *c);
int recover_log(struct cache *c, struct sluice_error *error);
/* -ECANCELED: the keeper was to pause, or with another deadline than UINT64_MAX, it was late. */
int checkpoint_write(struct cache *c, uint64_t deadline_ns);
/* The disk leaves: nothing on the tier counts any more. */
int log_release(struct cache *c);
/* Notes in the state folder how much is on the tier alone, for the day when it is gone. */
void log_note_known(struct cache *c);
/* The disk may be served without the tier. */
int log_unbind(struct cache *c);
/* Nothing is on the tier of this path, as is noted, and its storage is of no use (the error): the
 * disk is served without it. */
bool log_can_do_without(struct cache *c, int error);

/* --- frames of RAM ------------------------------------------------------------------------------
 */

struct ram {
    const struct policy_ops *ops;
    struct policy *policy;
    uint32_t frames;
    uint8_t *data;       /* [M] frames blocks */
    uint64_t *block;     /* [M] */
    uint8_t *state;      /* [M] */
    uint32_t *free_list; /* [M] */
    uint32_t free_count, promoting;
    uint64_t bytes_taken;
};
int ram_open(struct cache *c, struct sluice_error *error);
void ram_close(struct cache *c);
/* [M] Keeps a block that equals the backing's; jobs may have been added: log_pump(). */
void ram_fill(struct cache *c, uint64_t block, const uint8_t *data);
/* [M] It is not on its way to the log. */
bool ram_is_settled(const struct cache *c, uint32_t frame);
/* [M] The block's frame is of no use any more; not its index entry. */
void ram_release(struct cache *c, uint32_t frame);
static inline const uint8_t *ram_data(const struct ram *r, uint32_t frame)
{
    return r->data + (uint64_t)frame * BLOCK_BYTES;
}

/* --- one instance -------------------------------------------------------------------------------
 */

/* sanitize.c: which places of the tier hold nothing old any more. */
struct scrub {
    uint8_t *scrubbed; /* per place; NULL: nobody asked for it */
    uint32_t left;
    bool is_drained, wants_checkpoint;
};

/* order.c */
struct order {
    struct log_order log; /* what the log says of it */
    uint64_t mixed;       /* chunks before this one were written when it was not kept, or not all */
    bool is_suspended;    /* something could not be read: destaged in any order */
    uint64_t suspended_at; /* up to this segment */
    unsigned awaited;      /* changes that go to the backing when what came before is there */
    uint64_t emptying_since_ns;
};

struct paced;
struct cache {
    struct sluice_disk *disk;
    struct cache_options options; /* [M] */
    pthread_mutex_t mutex;
    pthread_cond_t cond; /* with mutex: something has changed that somebody may wait for */
    struct index index;  /* [M] */
    struct ram ram;
    struct log log;
    struct versions versions;
    struct streams streams; /* [M] of reads */

    uint64_t through,
        through_flushed; /* [M] writes that went to the backing, and are durable there */

    /* [M] the keeper and what it is asked for */
    struct sluice_work keeper;
    struct sluice_timer keeper_timer;
    bool keeper_runs, keeper_again;
    bool wants_flush;      /* of the backing, so that blocks may be called clean */
    bool wants_checkpoint; /* the last client has left */
    bool is_open;          /* until then the keeper stays away */
    bool is_parked, is_closing, is_stopped;
    unsigned draining; /* how many want everything destaged; writes go through meanwhile */
    uint64_t next_destage_ns, last_checkpoint_ns;
    uint32_t destage_failures;
    uint64_t next_rot_told_ns, rotted_untold;
    uint64_t next_unread_told_ns, unread_untold;
    int64_t oldest_told_s; /* N_OLDEST */

    /* [M] pacing */
    struct paced *paced_first, **paced_last;
    struct sluice_timer pace_timer;
    bool pace_is_off;

    struct scrub scrub; /* [M] */
    struct step_down step_down;
    struct order order; /* [M] */

    bool has_lost_tier; /* [I] its storage failed in an earlier run, and is not there: served
                           without */
};

static inline bool cache_has_log(const struct cache *c)
{
    return c->log.file != NULL;
}
static inline bool await_is_in_vain(const struct cache *c)
{
    return c->log.patience.late > 0;
}
/* [M] The mode that holds now. */
const struct mode_rules *cache_rules(const struct cache *c);

static inline void cache_lock(struct cache *c)
{
    pthread_mutex_lock(&c->mutex);
}
static inline void cache_unlock(struct cache *c)
{
    pthread_mutex_unlock(&c->mutex);
}

/* --- requests ------------------------------------------------------------------------------------
 */

struct sluice_verdict cache_on_read(void *instance, struct sluice_request *r, void *scratch);
struct sluice_verdict cache_on_read_end(void *instance, struct sluice_request *r, void *scratch);
struct sluice_verdict cache_on_change(void *instance, struct sluice_request *r, void *scratch);
struct sluice_verdict cache_on_change_end(void *instance, struct sluice_request *r, void *scratch);
struct sluice_verdict cache_on_flush(void *instance, struct sluice_request *r, void *scratch);
struct sluice_verdict cache_on_flush_end(void *instance, struct sluice_request *r, void *scratch);
struct sluice_verdict cache_on_extents(void *instance, struct sluice_request *r, void *scratch);
struct sluice_verdict cache_on_prefetch(void *instance, struct sluice_request *r, void *scratch);
enum sluice_cancel_answer cache_on_cancel(void *instance, struct sluice_request *r, void *scratch);
/* What each keeps in the request's scratch, the largest. */
#define CACHE_SCRATCH_BYTES 512u

/* --- pacing
 * --------------------------------------------------------------------------------------- */

struct paced {
    struct paced *next;
    uint64_t due_ns;
    struct log_position behind;  /* with a sequence number: goes when the order has passed that */
    void (*go)(struct paced *p); /* without the mutex */
    bool is_queued;
};
/* [M] True: it may go on at once; else go() is called later. */
bool pace(struct cache *c, struct paced *p, uint64_t blocks);
/* [M] The same, and it waits for all that came before it, if it has to. */
bool pace_behind(struct cache *c, struct paced *p);
/* [M] False: it was not queued any more. */
bool pace_remove(struct cache *c, struct paced *p);
/* Without the mutex: lets go whose time has come, or all. */
void pace_release(struct cache *c);
void pace_fire(struct sluice_timer *timer);

/* --- order.c: what the backing holds is an earlier state of the disk ----------------------------
 */

/* [M] Destaged in order, now; and: changes have to keep to it. */
bool order_is_kept(const struct cache *c);
bool order_counts(const struct cache *c);
/* [M] The backing is an earlier state of the disk, now. */
bool order_holds(const struct cache *c);
/* [M] In a word or two, for status. */
const char *order_state(const struct cache *c);
/* [M] All that was in the log, or on its way there, when `behind` was order_now(). */
struct log_position order_now(const struct cache *c);
bool order_has_passed(const struct cache *c, const struct log_position *behind);
/* [M] The segment at the tail is still needed. */
bool order_needs_tail(const struct cache *c);
/* [M] Blocks of the log that wait for the backing, whatever they hold. */
uint64_t order_backlog(const struct cache *c);
/* [M] Writes are to go to the backing, but what is dirty has to be there first: how long each
 * waits. 0: not so. */
uint64_t order_delay_ns(struct cache *c, uint64_t now_ns);
#define ORDER_REST 64u /* dirty blocks, with so few they go */
/* [M] What was found when the tier was opened. */
void order_begin(struct cache *c, const struct log_order *found);
/* [K] When what was in the way has gone. */
void order_take_up(struct cache *c);
/* While the tier is opened: what a salvage noted of it, if that is further. */
void order_read_note(struct cache *c, struct log_order *found);

/* --- the keeper
 * ------------------------------------------------------------------------------------ */

#define FAILURES_TOLD 5u /* of the destage in a row, before people are told */
/* [M] There is something to do: makes it look. */
void keeper_kick(struct cache *c);
/* [M] What the keeper does is to be left for later, so that a pause can begin. */
bool keeper_is_to_pause(const struct cache *c);
/* [M] Something else is more urgent than to go on with destaging. */
bool keeper_has_more_urgent(const struct cache *c);
void keeper_run(struct sluice_work *work);
void keeper_fire(struct sluice_timer *timer);
/* While somebody drains, writes go through and everything is destaged. */
void cache_drain_begin(struct cache *c);
void cache_drain_end(struct cache *c);

/* [K] destage.c, reclaim.c: one step each, blocking.  0 or a positive errno. */
int32_t destage_step(struct cache *c);
int32_t reclaim_step(struct cache *c);
/* Flushes the backing and waits. 0 or a positive errno. */
int32_t cache_flush_backing(struct cache *c);
/* Waits until nothing is dirty, or no more than `most` blocks. 0 or a negative errno. */
int cache_wait_clean(struct cache *c, uint64_t most, const char *what, uint64_t deadline_ns,
                     struct sluice_error *error);

/* prewrite.c: writes the space of a new tier: its beginning, blocking, 0 or a negative errno. */
int prewrite_first(struct cache *c);
/* [M] There is more that the log will come to. */
bool prewrite_is_wanted(const struct cache *c);
/* [K] A segment of it.  0 or a positive errno. */
int32_t prewrite_step(struct cache *c);

/* sanitize.c: SLUICE_EVENT_SANITIZE; scrub_end() when it is over, whatever came of it. */
int cache_on_sanitize(struct cache *c, const struct sluice_event *event,
                      struct sluice_error *error);
void scrub_end(struct cache *c);
/* [M] What has to go before that can go on. */
bool scrub_wants_tail(const struct cache *c);
bool scrub_wants_checkpoint(const struct cache *c);

int cache_on_event(void *instance, const struct sluice_event *event, struct sluice_error *error);
extern const struct sluice_verb cache_verbs[];
/* give-up.c */
int verb_lost(void *instance, int argc, const char *const *argv, struct sluice_reply *reply,
              struct sluice_error *error);
int verb_give_up(void *instance, int argc, const char *const *argv, struct sluice_reply *reply,
                 struct sluice_error *error);

#endif
