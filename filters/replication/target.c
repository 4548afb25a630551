/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * target.c: the side that follows.  A frame is appended to the journal, acknowledged when it is
 * written there, and applied in order; two that do not overlap may be under way together.  What
 * belongs to a batch is not applied before its COMMIT is durable, so that the disk is one instant
 * of the source's history at any time; a batch that the link breaks off is cut away.  An unstaged
 * batch is applied as it comes: durably marked before and after, the disk in between is nobody's
 * instant and cannot be promoted.
 */
#include "replica.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define APPLYING_MAX 16u
#define LOOK_AHEAD 64u
#define SYNC_NS 20000000ull       /* between syncs that only the applying waits for */
#define SYNC_BYTES (8u << 20)     /* kept in memory: sooner */
#define RETRY_NS 400000000ull     /* of an entry that failed */
#define TURN_NS 5000000ull        /* of applying, then others have theirs */
#define UNFLUSHED_MAX (32u << 20) /* for a flush of all that is applied */
#define QUICK_NS 1000000ull       /* what may be waited for while applying */
#ifndef AWAY_TIMES
#define AWAY_TIMES 20u /* what one took that was not: so long the next are not waited for */
#endif

/* --- acknowledging
 * --------------------------------------------------------------------------------------------------
 */

static void send_ack(struct replica *r, uint8_t flags)
{
    struct frame f = {.type = FRAME_ACK,
                      .flags = flags,
                      .epoch = r->ready_nonce,
                      .seq = r->received_seq,
                      .offset = r->journaled_seq,
                      .bytes = r->stable_seq};
    uint8_t payload[16], *at = payload;

    if (r->link != LINK_TARGET)
        return;
    le_put(&at, r->applied_seq, 8);
    le_put(&at, r->journaled_bytes, 8);
    link_send(r, &f, payload, sizeof payload);
}

static void send_fail(struct replica *r, uint8_t flags, const char *sentence)
{
    struct frame f = {.type = FRAME_FAIL, .flags = flags};

    link_send(r, &f, sentence, strlen(sentence));
}

void target_refuse(struct replica *r, const char *sentence)
{
    send_fail(r, 0, sentence);
    target_stop(r);
    link_set(r, LINK_RESTING);
}

/* --- beginning and end of a connection
 * --------------------------------------------------------------------------------- */

void target_begin(struct replica *r)
{
    r->ready_wanted = true;
    r->has_begun = false;
    r->ready_nonce = replica_random();
}

/* A batch whose COMMIT is not in the journal has never been. */
void target_stop(struct replica *r)
{
    r->ready_wanted = false;
    r->cut_wanted = r->batch == BATCH_OPEN || r->batch == BATCH_ENDING;
    r->flush_wanted = 0;
}

/* From BEGIN on, or what was not written when it is applied as it comes. */
static uint64_t cut_position(const struct replica *r)
{
    const struct entry *e = r->begin_entry ? r->begin_entry : r->journal.uncounted;

    return e ? e->position : UINT64_MAX;
}

static void cut(struct replica *r)
{
    if (!r->cut_wanted || r->journal.writing || (MUTANT(72) && r->journal.applying))
        return;
    r->cut_wanted = false;
    if (r->batch == BATCH_NONE || r->batch == BATCH_SAVING || r->commit_position != UINT64_MAX)
        return; /* its COMMIT had been written: it goes on to its end without the link */
    journal_cut(r, cut_position(r));
    r->batch = BATCH_NONE;
    r->begin_entry = NULL;
}

/* The peer is to send: also what may differ by what was written here. */
static void send_ready(struct replica *r)
{
    struct frame f = {.type = FRAME_READY,
                      .epoch = lineage_tip(&r->super.lineage).epoch,
                      .seq = r->ready_nonce,
                      .offset = r->seq};
    uint8_t *runs = malloc(FRAME_DATA_MAX), *at = runs;
    uint64_t g = 0;

    if (!runs) {
        link_fall(r, "out of memory");
        return;
    }
    while (g < r->evidence.grains) {
        uint64_t first = g;

        while (g < r->evidence.grains && evidence_is_dirty(&r->evidence, g))
            g++;
        if (g > first && at + 16 <= runs + FRAME_DATA_MAX) {
            le_put(&at, first, 8);
            /* Too many runs to name: the last one is everything that is left. */
            le_put(&at, at + 24 > runs + FRAME_DATA_MAX ? r->evidence.grains - first : g - first,
                   8);
        }
        g += g == first;
    }
    r->ready_wanted = false;
    r->received_seq = r->journaled_seq = r->stable_seq = r->applied_seq = r->flush_wanted = 0;
    r->journaled_bytes = 0;
    link_send(r, &f, runs, (size_t)(at - runs));
    free(runs);
}

/* --- frames
 * ----------------------------------------------------------------------------------------------------------------
 */

static const char *wrong_with(const struct replica *r, const struct frame *f)
{
    if (f->epoch != lineage_tip(&r->theirs.lineage).epoch)
        return "a frame of another epoch";
    if (frame_changes_data(f) && f->bytes > members_left_at(r, f->offset))
        return "a write past the end of the disk";
    if (f->seq && f->seq < r->received_seq)
        return "a frame that comes again";
    if (frame_is_numbered(f) && f->seq && f->seq == r->received_seq)
        return "a write that comes again";
    return NULL;
}

static void take_begin(struct replica *r, const struct frame *f)
{
    r->batch = BATCH_OPEN;
    r->batch_is_unstaged = f->flags & FRAME_UNSTAGED;
    r->commit_position = UINT64_MAX;
    r->received_seq = f->seq;
    seal_note_begin(r);
    if (r->batch_is_unstaged) {
        r->super.data = DATA_HALF;
        r->half_change = super_change(r);
    }
}

static void take_commit(struct replica *r, const struct frame *f, const void *message)
{
    if (r->batch != BATCH_OPEN ||
        !lineage_get(&r->commit_lineage, frame_payload(message), f->bytes)) {
        link_fall(r, "the peer commits what it has not begun");
        return;
    }
    r->commit_seq_seen = f->seq;
    r->batch = BATCH_ENDING;
}

/* Once for each READY: what was on its way when a greeting ended it, or somebody sends again. */
static void note_stale(struct replica *r)
{
    if (r->stale_nonce == r->ready_nonce)
        return;
    r->stale_nonce = r->ready_nonce;
    sluice_log(r->disk, SLUICE_LOG_NOTICE,
               "replication: left out: a stream that does not begin with what it was asked for");
}

void target_take(struct replica *r, const struct frame *f, const void *message, size_t length)
{
    const char *wrong;

    if (r->link != LINK_TARGET)
        return;
    if (f->type == FRAME_BEGIN && !r->ready_wanted && f->offset == r->ready_nonce)
        r->has_begun = true;
    if (!r->has_begun && !MUTANT(8)) {
        note_stale(r);
        return; /* of a stream that a greeting has ended */
    }
    wrong = wrong_with(r, f);
    if (wrong) {
        send_fail(r, 0, wrong);
        link_fall(r, wrong);
        return;
    }
    if (f->type == FRAME_FLUSH) {
        r->flush_wanted = r->received_seq;
        target_on_journaled(r);
        return;
    }
    if (f->type == FRAME_BEGIN)
        take_begin(r, f);
    else if (f->type == FRAME_COMMIT)
        take_commit(r, f, message);
    if (r->link != LINK_TARGET || (f->type == FRAME_SNAPSHOT && !snapshot_is_taken(r, f)))
        return;
    if (f->seq)
        r->received_seq = f->seq;
    else if (frame_changes_data(f))
        seal_note_arrived(r, f->offset, f->bytes);
    if (f->flags & FRAME_DURABLE && frame_changes_data(f))
        r->flush_wanted = f->seq;
    if (!journal_append(r, f, message, length)) {
        link_fall(r, "out of memory");
        return;
    }
    if (f->type == FRAME_BEGIN)
        r->begin_entry = r->journal.newest;
}

void target_caught_up(struct replica *r)
{
    if (r->settings.level == ACK_RECEIVED)
        send_ack(r, 0);
    journal_write_apart(r);
    if (r->journal.appended)
        replica_kick(r); /* it is full: something has to be applied and marked first */
}

/* --- what is in the journal
 * ---------------------------------------------------------------------------------------------------
 */

/* In order: what follows one that is not written does not count. */
static void count_journaled(struct replica *r)
{
    struct entry *e = r->journal.uncounted;

    for (; e && e->is_journaled; e = e->next) {
        if (e->frame.seq > r->journaled_seq && r->link == LINK_TARGET)
            r->journaled_seq = e->frame.seq;
        if (e->frame.seq > r->seq)
            r->seq = e->frame.seq;
        if (e->frame.seq > r->has_seq)
            r->has_seq = e->frame.seq;
        if (e->frame.type == FRAME_COMMIT)
            r->commit_position = e->position;
        if (frame_changes_data(&e->frame))
            r->journaled_bytes += e->length;
    }
    r->journal.uncounted = e;
}

void target_on_journaled(struct replica *r)
{
    uint64_t before = r->journaled_seq, bytes = r->journaled_bytes;

    count_journaled(r);
    if (r->journaled_seq != before || r->journaled_bytes != bytes)
        send_ack(r, 0);
    journal_write(r);
    if ((r->flush_wanted > r->stable_seq && r->journaled_seq >= r->flush_wanted) ||
        (r->batch == BATCH_ENDING && r->commit_position != UINT64_MAX))
        journal_sync(r);
    /* Otherwise the next sync brings everything on. */
    if (r->batch != BATCH_NONE || r->begin_entry || r->cut_wanted || r->ready_wanted ||
        r->is_promoting || r->journal.appended || r->settings.level == ACK_APPLIED ||
        !r->sync_is_armed)
        replica_kick(r);
}

void target_on_synced(struct replica *r)
{
    send_ack(r, 0);
    journal_write(r); /* may have waited for that */
    if (r->journal.sync_wanted ||
        (r->flush_wanted > r->stable_seq && r->journaled_seq >= r->flush_wanted))
        journal_sync(r);
    replica_kick(r);
}

/* --- applying
 * ---------------------------------------------------------------------------------------------------------------------
 */

static const uint8_t op_of_frame[FRAME_TYPES] = {
    [FRAME_WRITE] = SLUICE_OP_WRITE, [FRAME_ZERO] = SLUICE_OP_ZERO, [FRAME_TRIM] = SLUICE_OP_TRIM};

static void mark_applied(struct replica *r)
{
    for (struct entry *e = r->journal.first; e && e->is_applied; e = e->next)
        if (e->frame.seq > r->applied_seq && r->link == LINK_TARGET)
            r->applied_seq = e->frame.seq;
    journal_forget_applied(r);
    if (r->settings.level == ACK_APPLIED)
        send_ack(r, 0);
    replica_wake(&r->changed);
    if (r->journal.applying <= APPLYING_MAX / 2)
        replica_kick(r);
}

/* It stays in the journal and is tried again; nothing later is marked applied. */
static void note_failed(struct replica *r, struct entry *e, int32_t error)
{
    r->journal.failing += e->error == 0;
    e->error = error;
    e->retry_ns = sluice_now_ns(r->disk) + RETRY_NS;
    replica_tick_in(r, RETRY_NS);
    roles_tell(r);
}

static void note_worked(struct replica *r, struct entry *e)
{
    if (!e->error)
        return;
    e->error = 0;
    r->journal.failing--;
    roles_tell(r);
}

/* All of its range, or what counts of it: see backlog.h. */
static void end_entry(struct replica *r, struct entry *e)
{
    uint64_t offset, bytes;

    note_worked(r, e);
    e->done = e->doing;
    if (backlog_next_run(r, e, &offset, &bytes)) {
        replica_kick(r);
        return;
    }
    e->is_applied = true;
    sluice_count(r->disk, COUNT_APPLIED, 1);
    if (r->has_backlog)
        journal_drop_record(&r->journal, e);
    backlog_take_out(r, e);
    mark_applied(r);
}

void target_on_applied(struct replica *r, struct entry *e, int32_t error)
{
    r->journal.applying--;
    e->is_applying = false;
    if (error)
        note_failed(r, e, error);
    else
        end_entry(r, e);
}

static void on_applied(struct sluice_io *io, int32_t error)
{
    struct entry *e = (struct entry *)(void *)((char *)io - offsetof(struct entry, io));
    struct replica *r = e->r;

    replica_lock(r);
    target_on_applied(r, e, error);
    replica_unlock(r);
}

/* What was read is what was journalled. */
static bool is_whole(const struct entry *e)
{
    struct frame f = {0};

    return !frame_get(&f, e->record + RECORD_BYTES - FRAME_BYTES, FRAME_BYTES + e->length) &&
           f.type == e->frame.type && f.seq == e->frame.seq && f.offset == e->frame.offset &&
           f.bytes == e->frame.bytes;
}

static void on_read_back(struct sluice_file_io *io, int32_t error)
{
    struct entry *e = (struct entry *)(void *)((char *)io - offsetof(struct entry, file_io));
    struct replica *r = e->r;

    replica_lock(r);
    r->journal.applying--;
    e->is_applying = false;
    if (!error && !is_whole(e))
        error = EIO;
    if (error) {
        journal_drop_record(&r->journal, e);
        note_failed(r, e, error);
    }
    replica_kick(r);
    replica_unlock(r);
}

/* Its data are only in the journal: they are read, and it is looked at again. */
void target_read_back(struct replica *r, struct entry *e)
{
    e->record =
        journal_memory_take(&r->journal.records, journal_record_bytes(e->length), &e->chunk);
    if (!e->record)
        return;
    r->journal.memory += e->length;
    e->is_applying = true;
    r->journal.applying++;
    e->file_io = (struct sluice_file_io){.op = SLUICE_OP_READ,
                                         .offset = e->position % r->journal.size,
                                         .length = RECORD_BYTES + e->length,
                                         .data = e->record,
                                         .done = on_read_back};
    if (sluice_file_submit(r->disk, r->journal.file, &e->file_io) < 0) {
        e->is_applying = false;
        r->journal.applying--;
        journal_drop_record(&r->journal, e);
    }
}

static bool needs_reading(const struct entry *e)
{
    return e->frame.type == FRAME_WRITE && !e->record;
}

static bool overlaps(const struct entry *a, const struct entry *b)
{
    return a->frame.offset < b->frame.offset + b->frame.bytes &&
           b->frame.offset < a->frame.offset + a->frame.bytes;
}

/* Only for rules that are broken on purpose: a disk is never looked at by itself. */
static bool is_of_first(const struct replica *r, const struct entry *e)
{
    return e->frame.offset < r->members[0]->size_bytes;
}

/* An earlier one that is not applied yet touches the same bytes. */
static bool must_wait(const struct replica *r, const struct entry *e)
{
    for (const struct entry *before = r->journal.first; before != e; before = before->next)
        if (!before->is_applied && frame_changes_data(&before->frame) && overlaps(before, e) &&
            !MUTANT(9))
            return true;
    if (MUTANT(72) && r->begin_entry && e->number > r->begin_entry->number && is_of_first(r, e))
        return true;
    return compare_holds_entry(r, e);
}

/* All that came is in the journal, durably, and is part of what may be served.  A snapshot has to
 * be made first, at its place. */
static bool is_kept(const struct replica *r)
{
    const struct journal *j = &r->journal;

    return r->batch == BATCH_NONE && !r->cut_wanted && !r->begin_entry && !j->appended &&
           !j->uncounted && !j->writing && !j->snapshots && (j->synced == j->head || MUTANT(119));
}

bool target_may_serve(const struct replica *r)
{
    const struct journal *j = &r->journal;

    if (!is_kept(r) || (j->untaken && !MUTANT(132)) || (r->backlog.is_short && j->first))
        return false;
    /* Redo would do what is applied already once more, over what guests write. */
    return r->has_backlog ||
           (r->check == CHECK_IDLE && (j->tail == target_first_needed(r) || MUTANT(120)));
}

static bool ends_applying(struct replica *r, const struct entry *e)
{
    /* What is not durable in the journal is not applied: a power cut would leave it here and there.
     */
    return !e->is_journaled || (e == r->begin_entry && !MUTANT(10) && !MUTANT(72)) ||
           (e->position >= r->journal.synced && !MUTANT(21));
}

/* Nobody waits for it: it is quiesced; what is not applied yet is about to be served; or a flush of
 * what is applied would take too long. */
static bool is_paused(const struct replica *r)
{
    return members_rest(r) || (r->is_promoting && is_kept(r) && !r->backlog.is_short) ||
           (r->has_backlog && r->backlog.unflushed >= UNFLUSHED_MAX);
}

/* The next in order that may be applied now, or NULL. */
static struct entry *next_in_order(struct replica *r)
{
    unsigned seen = 0;

    if (is_paused(r))
        return NULL;

    for (struct entry *e = r->journal.first;
         e && r->journal.applying < APPLYING_MAX && seen++ < LOOK_AHEAD; e = e->next) {
        if (ends_applying(r, e))
            return NULL;
        if (e->frame.type == FRAME_SNAPSHOT && !e->is_applied) {
            if (snapshot_holds(r, e))
                target_read_back(r, e);
            if (!e->is_applied && !MUTANT(101))
                return NULL;
        }
        if (e->is_applied || e->is_applying || e->frame.type == FRAME_RECORD)
            continue;
        if (!frame_changes_data(&e->frame)) {
            e->is_applied = true;
            continue;
        }
        if (must_wait(r, e) || (e->error && sluice_now_ns(r->disk) < e->retry_ns))
            continue;
        if (needs_reading(e)) {
            target_read_back(r, e);
            continue;
        }
        return e;
    }
    return NULL;
}

/* Those of a backlog that somebody waits for come before all others. */
static struct entry *next_to_apply(struct replica *r)
{
    while (r->has_backlog && r->journal.applying < 2 * APPLYING_MAX) {
        struct entry *e = backlog_next_wanted(r);

        if (!e || !needs_reading(e))
            return e ? e : next_in_order(r);
        target_read_back(r, e);
        if (!e->is_applying)
            return NULL; /* no memory for it now */
    }
    return next_in_order(r);
}

/* The first that waits to be applied waits for the journal to be durable. */
static bool wants_sync(const struct replica *r)
{
    const struct entry *e = r->journal.first;

    if (r->is_promoting && r->journal.synced < r->journal.head)
        return true;
    while (e && (e->is_applied || e->is_applying))
        e = e->next;
    return e && e->is_journaled && e != r->begin_entry && e->position >= r->journal.synced;
}

/* A sync costs the disk more than a write: many frames share one, unless somebody waits for them to
 * be applied. */
static void sync_in_time(struct replica *r)
{
    uint64_t now = sluice_now_ns(r->disk), since = now - r->synced_ns;

    if (since < SYNC_NS && !r->is_promoting && r->batch != BATCH_ENDING &&
        r->settings.level != ACK_APPLIED && r->journal.memory < SYNC_BYTES &&
        !r->journal.appended) {
        if (!r->sync_is_armed)
            replica_tick_in(r, SYNC_NS - since);
        r->sync_is_armed = true;
        return;
    }
    r->synced_ns = now;
    r->sync_is_armed = false;
    journal_sync(r);
}

/* Some that are applied together: they do not overlap. */
struct handful {
    unsigned count;
    struct {
        struct entry *entry;
        int32_t error;
        bool is_away;
    } of[APPLYING_MAX];
};

/* One after the other in this thread while that is quick: the hand-off to another costs more than a
 * write into the page cache.  After one that was not, many at a time are under way for a while. */
static void start_applying(struct replica *r, struct handful *h, unsigned i)
{
    struct sluice_io *io = &h->of[i].entry->io;
    uint64_t began = sluice_now_ns(r->disk), now;

    h->of[i].is_away = began < r->apply_away_until_ns;
    if (h->of[i].is_away) {
        if (members_submit(r, io) < 0)
            on_applied(io, 5);
        return;
    }
    h->of[i].error = -members_wait(r, io);
    now = sluice_now_ns(r->disk);
    if (now - began > QUICK_NS)
        r->apply_away_until_ns = now + AWAY_TIMES * (now - began);
}

static void prepare_io(struct replica *r, struct entry *e)
{
    uint64_t offset, bytes;

    backlog_next_run(r, e, &offset, &bytes);
    e->doing = offset + bytes - e->frame.offset;
    e->is_applying = true;
    r->journal.applying++;
    e->io = (struct sluice_io){.op = op_of_frame[e->frame.type],
                               .origin = SLUICE_ORIGIN_RESYNC,
                               .offset = offset,
                               .length = bytes,
                               .data = e->frame.type == FRAME_WRITE
                                           ? e->record + RECORD_BYTES + (offset - e->frame.offset)
                                           : NULL,
                               .done = on_applied};
}

/* False: nothing can be applied now. */
static bool take_handful(struct replica *r, struct handful *h)
{
    struct entry *e;

    h->count = 0;
    while (!r->is_closing && h->count < APPLYING_MAX && (e = next_to_apply(r))) {
        prepare_io(r, e);
        h->of[h->count++].entry = e;
    }
    return h->count > 0;
}

/* The mutex, which who receives needs as well, is taken once for all of them. */
static void apply_handful(struct replica *r, struct handful *h)
{
    replica_unlock(r);
    for (unsigned i = 0; i < h->count; i++)
        start_applying(r, h, i);
    replica_lock(r);
    for (unsigned i = 0; i < h->count; i++)
        if (!h->of[i].is_away)
            target_on_applied(r, h->of[i].entry, h->of[i].error);
}

static void apply(struct replica *r)
{
    uint64_t began = sluice_now_ns(r->disk);
    struct handful h;

    replica_lock(r);
    if (!r->journal.is_syncing && wants_sync(r))
        sync_in_time(r);
    records_take(r);
    while (take_handful(r, &h)) {
        apply_handful(r, &h);
        if (sluice_now_ns(r->disk) - began > TURN_NS) {
            replica_kick(r);
            break;
        }
    }
    if (r->journal.first && r->journal.first->is_applied)
        mark_applied(r);
    journal_rest(r);
    replica_unlock(r);
}

/* --- committing
 * ---------------------------------------------------------------------------------------------------------------------
 */

static void take_over(struct replica *r, const struct lineage *lineage)
{
    r->super.lineage = *lineage;
    r->super.data = DATA_CONSISTENT;
    r->super.was_alone = r->super.is_split = r->super.has_own = false;
    r->super.tip_is_shared = true;
}

bool target_recover_commit(struct replica *r, const uint8_t *payload, size_t length)
{
    struct lineage lineage;

    if (!lineage_get(&lineage, payload, length))
        return false;
    take_over(r, &lineage);
    return true;
}

/* Its record is durable; an unstaged one has besides to be applied and flushed below. */
static bool may_commit(const struct replica *r)
{
    if (r->batch != BATCH_ENDING || r->commit_position == UINT64_MAX ||
        r->journal.synced <= r->commit_position)
        return false;
    return !r->batch_is_unstaged || r->journal.tail > r->commit_position;
}

static void end_commit(struct replica *r)
{
    r->batch = BATCH_NONE;
    r->begin_entry = NULL;
    r->seq = r->commit_seq_seen > r->seq ? r->commit_seq_seen : r->seq;
    if (r->stable_seq < r->commit_seq_seen)
        r->stable_seq = r->commit_seq_seen;
    evidence_settle(r);
    seal_note_commit(r, r->commit_position);
    send_ack(r, FRAME_COMMITTED);
    roles_tell(r);
    replica_wake(&r->changed);
    replica_kick(r);
}

/* The batch has filled the journal before its end: it cannot be taken apart from the rest. */
static bool is_stuck(const struct replica *r)
{
    bool is_open = r->batch == BATCH_OPEN ||
                   (r->batch == BATCH_ENDING && r->commit_position == UINT64_MAX && !MUTANT(45));

    return is_open && !r->batch_is_unstaged && journal_is_full(&r->journal) &&
           !r->journal.writing && r->begin_entry &&
           target_first_needed(r) == r->begin_entry->position &&
           r->journal.tail == r->begin_entry->position;
}

static void commit(struct replica *r)
{
    replica_lock(r);
    if (r->begin_entry && r->batch_is_unstaged && r->super_saved >= r->half_change)
        r->begin_entry = NULL;
    if (may_commit(r)) {
        take_over(r, &r->commit_lineage);
        r->super.is_damaged = false;
        r->commit_change = super_change(r);
        r->batch = BATCH_SAVING;
    }
    if (r->batch == BATCH_SAVING && r->super_saved >= r->commit_change)
        end_commit(r);
    if (is_stuck(r)) {
        send_fail(r, FRAME_UNSTAGED, "the journal is too small for what differs");
        target_stop(r);
        link_set(r, LINK_RESTING);
    }
    cut(r);
    /* What an earlier connection has left is written first, so that nothing of it counts in this
     * one; and what only this side has is sealed. */
    if (r->ready_wanted && seal_is_done(r) && r->super_saved >= r->seals.change && !r->cut_wanted &&
        r->batch == BATCH_NONE && !r->journal.uncounted && !r->journal.is_syncing &&
        !r->has_backlog)
        send_ready(r);
    replica_unlock(r);
}

void target_pump(struct replica *r)
{
    commit(r);
    apply(r);
    target_checkpoint(r);
    commit(r);
}
