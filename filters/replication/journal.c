/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * journal.c: the target's ring of frames.  Each is appended before it is applied, so that the disk
 * below is always brought to one instant of the source's history, whatever happens in between.
 *
 * Positions count bytes from the beginning of time; a record lies at its position modulo the file's
 * size, never across the end.  It has its own position and the term of the journal's life in which
 * it was written: after a cut (a batch that was not committed) the term rises, so that what lies
 * behind the cut is not taken for its continuation.
 *
 *     record: magic u32, crc32c u32 (of the next 24), position u64, term u64, end of the one before
 * u64, position below which all was durable u64, the frame's 48 bytes, its payload
 */
#include "replica.h"

#include "common/crc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC 0x3352524au /* "JRR3" */
#define HEAD_BYTES (RECORD_BYTES - FRAME_BYTES)
#ifndef WRITING_MAX /* the simulator's are smaller */
#define WRITING_MAX 16u
#define UNSYNCED_MAX (16u * FRAME_DATA_MAX) /* behind what is durable: see is_damaged_at */
#endif
#define MEMORY_MAX (32u << 20)
#define SCAN_BYTES (64u << 10) /* read at a time */
#define KEPT_NS 1000000000ull  /* memory that nothing has needed for so long goes back */

_Static_assert(RECORD_BYTES == 40 + FRAME_BYTES, "a record is a head and a frame");

/* Where a record of this length goes when the journal ends at `head`. */
static uint64_t place(const struct journal *j, uint64_t head, uint64_t length)
{
    uint64_t rest = j->size - head % j->size;

    return rest < length ? head + rest : head;
}

/* --- appending
 * ---------------------------------------------------------------------------------------------------
 */

/* after: where the record before it ends, which is elsewhere when the rest of the file was too
 * short. */
static void put_head(struct entry *e, uint64_t after, uint64_t synced)
{
    uint8_t *at = e->record;

    le_put(&at, MAGIC, 4);
    at += 4;
    le_put(&at, e->position, 8);
    le_put(&at, e->term, 8);
    le_put(&at, after, 8);
    le_put(&at, synced, 8);
    at = e->record + 4;
    le_put(&at, crc_add(0, e->record + 8, HEAD_BYTES - 8), 4);
}

static void link_entry(struct journal *j, struct entry *e)
{
    e->next = NULL;
    e->number = ++j->numbered;
    j->snapshots += e->frame.type == FRAME_SNAPSHOT;
    *j->last = e;
    j->last = &e->next;
    j->newest = e;
    if (!j->untaken && e->frame.type == FRAME_RECORD && !e->is_applied)
        j->untaken = e;
    if (!j->appended)
        j->appended = e;
    if (!j->uncounted)
        j->uncounted = e;
}

static struct entry *make_entry(struct replica *r)
{
    struct chunk *chunk;
    struct entry *e = journal_memory_take(&r->journal.entries, sizeof *e, &chunk);

    if (e)
        *e = (struct entry){.r = r, .own_chunk = chunk};
    return e;
}

bool journal_append(struct replica *r, const struct frame *frame, const void *message,
                    size_t length)
{
    struct journal *j = &r->journal;
    struct entry *e = make_entry(r);
    uint64_t bytes = journal_record_bytes(length - FRAME_BYTES);

    if (!e)
        return false;
    e->length = (uint32_t)(length - FRAME_BYTES);
    e->record = journal_memory_take(&j->records, bytes, &e->chunk);
    if (!e->record) {
        journal_memory_give(&j->entries, e->own_chunk);
        return false;
    }
    e->frame = *frame;
    e->position = UINT64_MAX;
    memcpy(e->record + HEAD_BYTES, message, length);
    memset(e->record + HEAD_BYTES + length, 0, bytes - HEAD_BYTES - length);
    j->memory += e->length;
    link_entry(j, e);
    return true;
}

static void note_written(struct journal *j, struct entry *e)
{
    e->is_journaled = true;
    if (j->memory > MEMORY_MAX && (e->frame.type == FRAME_WRITE || e->frame.type == FRAME_RECORD))
        journal_drop_record(j, e); /* read back when its turn comes */
}

/* The run that begins with this one. */
static void written(struct replica *r, struct entry *e, int32_t error)
{
    struct entry *end = e->run_last->next;

    r->journal.writing--;
    if (error)
        link_fall(r, "the journal cannot be written");
    for (; !error && e != end; e = e->next)
        note_written(&r->journal, e);
}

static void on_written(struct sluice_file_io *io, int32_t error)
{
    struct entry *e = (struct entry *)(void *)((char *)io - offsetof(struct entry, file_io));
    struct replica *r = e->r;

    replica_lock(r);
    written(r, e, error);
    target_on_journaled(r);
    replica_unlock(r);
}

/* Room is what lies between the head and the tail of what must stay. */
static bool has_room(const struct journal *j, uint64_t end)
{
    return end - j->tail <= j->size;
}

bool journal_is_full(const struct journal *j)
{
    const struct entry *e = j->appended;
    uint64_t length = e ? journal_record_bytes(e->length) : 0;

    return e && !has_room(j, place(j, j->head, length) + length);
}

/* Whatever is damaged has a witness near it: the first record that was put when it was durable. */
static bool is_far_from_durable(const struct journal *j, uint64_t end)
{
    return end > j->synced + UNSYNCED_MAX && j->synced != j->head && !MUTANT(124);
}

/* Everything up to here is written. */
static uint64_t written_to(const struct journal *j)
{
    return !j->uncounted || j->uncounted->position == UINT64_MAX ? j->head : j->uncounted->position;
}

/* The next one that was appended gets its place.  False: it has to wait. */
static bool give_place(struct replica *r, struct entry *e)
{
    struct journal *j = &r->journal;
    uint64_t length = journal_record_bytes(e->length), at = place(j, j->head, length);

    if (!has_room(j, at + length) || is_far_from_durable(j, at + length))
        return false;
    e->position = at;
    e->term = j->term;
    put_head(e, j->head, j->synced);
    j->head = at + length;
    j->appended = e->next;
    return true;
}

/* It lies behind the other in memory, and will do so in the file. */
static bool goes_with(const struct journal *j, const struct entry *before, const struct entry *e)
{
    uint64_t length = journal_record_bytes(e->length);

    return e->chunk == before->chunk &&
           e->record == before->record + journal_record_bytes(before->length) &&
           j->head % j->size != 0 && place(j, j->head, length) == j->head;
}

/* As many as one call can write, and no more than the longest record: see is_damaged_at.  NULL:
 * there is nothing, or it has to wait. */
static struct entry *begin_run(struct replica *r)
{
    struct journal *j = &r->journal;
    struct entry *first = j->appended, *last = first;

    if (!first || j->writing >= WRITING_MAX || j->is_filling || r->cut_wanted || r->is_closing ||
        r->super_saved < j->cut_change || !give_place(r, first))
        return NULL;
    while (j->appended && goes_with(j, last, j->appended) &&
           j->head + journal_record_bytes(j->appended->length) - first->position <=
               journal_record_bytes(FRAME_DATA_MAX) &&
           give_place(r, j->appended))
        last = last->next;
    first->run_last = last;
    first->file_io = (struct sluice_file_io){.op = SLUICE_OP_WRITE,
                                             .offset = first->position % j->size,
                                             .length = j->head - first->position,
                                             .data = first->record,
                                             .done = on_written};
    j->writing++;
    return first;
}

/* The kernel reads the page that a run ends in before it writes a part of it, unless it has it or
 * all of it is written; the page that it begins in has just been written.  So noughts follow,
 * where nothing is and nothing is being written. */
static void fill_page(struct journal *j, struct entry *first)
{
    uint64_t rest = (PAGE_BYTES - j->head % PAGE_BYTES) % PAGE_BYTES;
    const struct entry *last = first->run_last;
    const uint8_t *end = last->record + journal_record_bytes(last->length);

    if (!rest || j->size % PAGE_BYTES || j->writing > 1 || j->appended ||
        (!has_room(j, j->head + rest) && !MUTANT(135)) ||
        !journal_memory_fill(last->chunk, end, rest))
        return;
    first->file_io.length += rest;
    j->is_filling = true;
}

/* At once, in this thread, when that will not keep it; else by the host's.  True: it is written. */
static bool write_run(struct replica *r, struct entry *e, bool is_apart)
{
    uint64_t length = e->file_io.length;
    int status;

    fill_page(&r->journal, e);
    if (is_apart)
        replica_unlock(r);
    status = sluice_file_try(r->disk, r->journal.file, &e->file_io);
    if (is_apart)
        replica_lock(r);
    r->journal.is_filling = false;
    e->file_io.length = length; /* elsewhere it would keep others waiting */
    if (status == -EAGAIN)
        status = sluice_file_submit(r->disk, r->journal.file, &e->file_io);
    else if (status >= 0)
        status = 1;
    if (status == 0)
        return false;
    written(r, e, status < 0 ? -status : 0);
    return true;
}

static void write_all(struct replica *r, bool is_apart)
{
    struct journal *j = &r->journal;
    bool is_written = false;
    struct entry *e;

    while ((e = begin_run(r)))
        is_written |= write_run(r, e, is_apart);
    if (is_written)
        target_on_journaled(r);
    if (!j->is_syncing && r->link == LINK_TARGET && written_to(j) > j->synced + UNSYNCED_MAX / 2)
        journal_sync(r);
}

void journal_write(struct replica *r)
{
    write_all(r, false);
}

void journal_write_apart(struct replica *r)
{
    write_all(r, true);
}

/* --- durable
 * -------------------------------------------------------------------------------------------------------
 */

static void on_synced(struct sluice_file_io *io, int32_t error)
{
    struct replica *r =
        (struct replica *)(void *)((char *)io - offsetof(struct replica, journal.sync_io));
    struct journal *j = &r->journal;

    replica_lock(r);
    j->is_syncing = false;
    if (error) {
        link_fall(r, "the journal cannot be made durable");
    } else {
        j->synced = j->sync_to;
        if (r->stable_seq < j->sync_seq)
            r->stable_seq = j->sync_seq;
    }
    target_on_synced(r);
    replica_unlock(r);
}

void journal_sync(struct replica *r)
{
    struct journal *j = &r->journal;

    if (j->is_syncing || r->is_closing) {
        j->sync_wanted = true;
        return;
    }
    j->sync_wanted = false;
    j->sync_to = written_to(j);
    j->sync_seq = r->journaled_seq;
    j->sync_io = (struct sluice_file_io){.op = SLUICE_OP_FLUSH, .done = on_synced};
    j->is_syncing = sluice_file_submit(r->disk, j->file, &j->sync_io) == 0;
}

/* --- forgetting
 * ------------------------------------------------------------------------------------------------------
 */

void journal_drop_record(struct journal *j, struct entry *e)
{
    if (!e->record)
        return;
    j->memory -= e->length;
    journal_memory_give(&j->records, e->chunk);
    e->record = NULL;
}

static void free_entry(struct journal *j, struct entry *e)
{
    journal_drop_record(j, e);
    j->failing -= e->error != 0;
    j->snapshots -= e->frame.type == FRAME_SNAPSHOT;
    if (j->untaken == e)
        j->untaken = NULL; /* what is cut goes with all that is behind it */
    journal_memory_give(&j->entries, e->own_chunk);
}

void journal_forget_applied(struct replica *r)
{
    struct journal *j = &r->journal;

    while (j->first && j->first->is_applied) {
        struct entry *e = j->first;

        j->first = e->next;
        if (!j->first)
            j->last = &j->first;
        free_entry(j, e);
    }
    if (!j->first)
        j->empty_ns = sluice_now_ns(r->disk);
}

void journal_rest(struct replica *r)
{
    struct journal *j = &r->journal;

    if (j->first || (!j->records.filling && !j->entries.filling) ||
        sluice_now_ns(r->disk) - j->empty_ns < KEPT_NS)
        return;
    journal_memory_trim(&j->records);
    journal_memory_trim(&j->entries);
}

static void begin_term(struct replica *r)
{
    r->super.journal_life = ++r->journal.term;
    r->journal.cut_change = ++r->super_changes;
}

/* Nothing of what is cut is being written or applied any more. */
void journal_cut(struct replica *r, uint64_t position)
{
    struct journal *j = &r->journal;
    struct entry **at = &j->first;

    while (*at && (*at)->position < position)
        at = &(*at)->next;
    while (*at) {
        struct entry *e = *at;

        *at = e->next;
        free_entry(j, e);
    }
    j->last = at;
    j->appended = j->uncounted = NULL;
    begin_term(r);
    if (position < j->head)
        j->head = position;
    /* What will be written there is another record, and not durable because this one was. */
    if (j->synced > j->head)
        j->synced = j->head;
    if (j->sync_to > j->head)
        j->sync_to = j->head;
}

/* --- opening: what has to be applied again
 * ---------------------------------------------------------------------------- */

static int read_at(struct replica *r, uint64_t offset, uint64_t length, void *data)
{
    struct sluice_file_io io = {
        .op = SLUICE_OP_READ, .offset = offset, .length = length, .data = data};

    return sluice_file_wait(r->disk, r->journal.file, &io);
}

/* What kill -9 has left is written, but a power cut could still take it back. */
static int make_durable(struct replica *r)
{
    struct sluice_file_io io = {.op = SLUICE_OP_FLUSH};

    return sluice_file_wait(r->disk, r->journal.file, &io);
}

static bool has_payload(uint8_t type)
{
    return type == FRAME_WRITE || type == FRAME_COMMIT || type == FRAME_SNAPSHOT ||
           type == FRAME_RECORD;
}

/* A record at this position: its frame and term; `record` holds it whole.  False: there is none. */
static bool read_record(struct replica *r, uint64_t position, uint8_t *record, struct frame *frame,
                        uint64_t *term, uint64_t *after)
{
    const struct journal *j = &r->journal;
    const uint8_t *at = record;
    uint64_t room = j->size - position % j->size, payload;

    if (room < RECORD_BYTES || read_at(r, position % j->size, RECORD_BYTES, record) != 0 ||
        le_get(&at, 4) != MAGIC || le_get(&at, 4) != crc_add(0, record + 8, HEAD_BYTES - 8) ||
        le_get(&at, 8) != position)
        return false;
    *term = le_get(&at, 8);
    *after = le_get(&at, 8);
    /* The frame's own length is that of its data; HELLO and the like are never here, COMMIT's is in
     * `offset`. */
    at = record + HEAD_BYTES + 32;
    payload = has_payload(record[HEAD_BYTES + 6]) ? le_get(&at, 8) : 0;
    if (payload > FRAME_DATA_MAX || room < journal_record_bytes(payload))
        return false;
    if (payload &&
        read_at(r, position % j->size + RECORD_BYTES, payload, record + RECORD_BYTES) != 0)
        return false;
    return !frame_get(frame, record + HEAD_BYTES, FRAME_BYTES + payload);
}

static void note_batch(struct replica *r, struct entry *e, const uint8_t *payload)
{
    if (e->frame.type == FRAME_BEGIN)
        r->begin_entry = e;
    else if (e->frame.type == FRAME_COMMIT && target_recover_commit(r, payload, e->length))
        r->begin_entry = NULL;
}

/* Takes one record over.  True: there was one, and *position is behind it. */
static bool take_record(struct replica *r, uint64_t *position, uint8_t *record)
{
    struct journal *j = &r->journal;
    struct frame frame;
    uint64_t term, after, at = *position;
    struct entry *e;

    if (!read_record(r, at, record, &frame, &term, &after) || term < j->term) {
        /* It may have been too long for what was left; then it says that it follows here, and
         * nothing is lost between. */
        at = *position + (j->size - *position % j->size);
        if (at == *position + j->size || !read_record(r, at, record, &frame, &term, &after) ||
            term < j->term || (after != *position && !MUTANT(24)))
            return false;
    }
    e = make_entry(r);
    if (!e)
        return false;
    j->term = term;
    e->frame = frame;
    e->position = at;
    e->term = term;
    e->length = has_payload(frame.type) ? (uint32_t)frame.bytes : 0;
    e->is_journaled = e->is_redo = true;
    /* It was served: every batch in it is taken over, every snapshot made, every record taken;
     * those of its guests are newer. */
    e->is_applied = r->super.backlog_end &&
                    (frame.type == FRAME_SNAPSHOT || (frame.type == FRAME_RECORD && !MUTANT(133)));
    link_entry(j, e);
    j->appended = j->uncounted = NULL;
    if (!r->super.backlog_end)
        note_batch(r, e, record + RECORD_BYTES);
    if (frame.seq > r->journaled_seq)
        r->journaled_seq = frame.seq;
    if (frame.seq > r->has_seq)
        r->has_seq = frame.seq;
    *position = at + journal_record_bytes(e->length);
    return true;
}

/* The head of a record is there, of this life of the journal, and says that position `lost` was
 * durable when it was written. */
static bool is_witness(struct replica *r, uint64_t position, uint64_t lost)
{
    const struct journal *j = &r->journal;
    uint64_t life = j->term > r->super.journal_life ? j->term : r->super.journal_life;
    uint8_t head[HEAD_BYTES];
    const uint8_t *at = head;

    if (j->size - position % j->size < HEAD_BYTES ||
        read_at(r, position % j->size, HEAD_BYTES, head) != 0 || le_get(&at, 4) != MAGIC ||
        le_get(&at, 4) != crc_add(0, head + 8, HEAD_BYTES - 8) || le_get(&at, 8) != position ||
        le_get(&at, 8) < life)
        return false;
    at += 8;
    return le_get(&at, 8) > lost;
}

/* Of one piece of the file.  What cannot be read is taken for one. */
static bool has_witness(struct replica *r, uint64_t from, uint64_t to, uint64_t lost, uint8_t *data)
{
    if (read_at(r, from % r->journal.size, to - from, data) != 0)
        return true;
    for (uint64_t p = from; p < to; p += 8) {
        const uint8_t *at = data + (p - from);

        if (le_get(&at, 4) == MAGIC && is_witness(r, p, lost))
            return true;
    }
    return false;
}

/* What stops at `lost` may be the end: then neither the state nor anything behind it knows of it as
 * durable.  It is looked for as far as the first one can be that does: writing stops UNSYNCED_MAX
 * behind what is durable, and of those that were under way then none need be there.  Backwards:
 * the kernel would read ahead into folios so large that each write into them takes long. */
static bool is_damaged_at(struct replica *r, uint64_t lost)
{
    const struct journal *j = &r->journal;
    uint64_t end = lost + UNSYNCED_MAX + (WRITING_MAX + 2) * journal_record_bytes(FRAME_DATA_MAX),
             piece = j->size % SCAN_BYTES ? PAGE_BYTES : SCAN_BYTES;
    uint8_t data[SCAN_BYTES];
    bool is_damaged = lost < r->super.journal_synced && !MUTANT(125);

    if (end > j->tail + j->size)
        end = j->tail + j->size;
    while (end > lost && !is_damaged) {
        uint64_t from = (end - 1) / piece * piece;

        if (from < lost)
            from = lost;
        is_damaged = has_witness(r, from, end, lost, data);
        end = from;
    }
    return is_damaged;
}

/* Less is here than was served.  This side serves no more of it: it is taken for a follower whose
 * journal is damaged. */
static void note_short_backlog(struct replica *r, uint64_t position)
{
    sluice_log(r->disk, SLUICE_LOG_ERROR,
               "replication: the journal is damaged at position %llu, and was served up to %llu "
               "without being applied: this side serves no more",
               (unsigned long long)position, (unsigned long long)r->super.backlog_end);
    r->super.role = REPLICA_SECONDARY;
    r->super.is_damaged = true;
    r->super.backlog_end = position > r->super.journal_tail ? position : 0;
}

static void check_end(struct replica *r, uint64_t position)
{
    if (r->super.backlog_end) {
        if (position < r->super.backlog_end && !MUTANT(122))
            note_short_backlog(r, position);
        return;
    }
    if (r->super.role != REPLICA_SECONDARY || MUTANT(65) || !is_damaged_at(r, position))
        return;
    r->super.is_damaged = true;
    sluice_log(r->disk, SLUICE_LOG_ERROR,
               "replication: the journal is damaged at position %llu: what the peer was promised "
               "from there on is lost here",
               (unsigned long long)position);
}

/* An unstaged batch has begun behind a COMMIT that is still here, and was marked: the disk is no
 * instant, whatever that COMMIT said of it then. */
static bool is_half(const struct replica *r, uint8_t saved)
{
    return saved == DATA_HALF && r->begin_entry && r->begin_entry->frame.flags & FRAME_UNSTAGED &&
           !MUTANT(44);
}

int journal_open(struct replica *r, struct sluice_error *error)
{
    struct journal *j = &r->journal;
    const char *path = r->settings.journal_path[0] ? r->settings.journal_path : "journal";
    uint8_t *record = malloc(journal_record_bytes(FRAME_DATA_MAX));
    uint8_t saved = (uint8_t)r->super.data;
    uint64_t position;
    int status;

    j->last = &j->first;
    if (!record)
        return sluice_refuse(r->disk, error, ENOMEM, "no memory for the journal");
    status = sluice_file_open(r->disk, path, SLUICE_FILE_CREATE | SLUICE_FILE_LOCK,
                              r->settings.journal_bytes, &j->file, error);
    if (status < 0) {
        free(record);
        return status;
    }
    status = make_durable(r);
    if (status != 0) {
        free(record);
        return sluice_refuse(r->disk, error, status < 0 ? -status : status,
                             "the journal \"%s\" cannot be made durable", path);
    }
    j->size = sluice_file_size(r->disk, j->file);
    j->tail = position = r->super.journal_tail;
    j->term = r->super.journal_term;
    while ((!r->super.backlog_end || position < r->super.backlog_end) &&
           take_record(r, &position, record))
        ;
    free(record);
    check_end(r, position);
    j->head = j->synced = position;
    r->received_seq = r->stable_seq = r->journaled_seq;
    if (is_half(r, saved))
        r->super.data = DATA_HALF;
    if (r->begin_entry)
        journal_cut(r, r->begin_entry->position); /* the connection it came by is gone */
    r->begin_entry = NULL;
    /* Of what was written last the first may be missing, so that its term was not seen. */
    if (j->term < r->super.journal_life && !MUTANT(123))
        j->term = r->super.journal_life;
    begin_term(r);
    if (r->super.backlog_end && backlog_load(r) < 0)
        return sluice_refuse(r->disk, error, ENOMEM,
                             "no memory for what the journal has and is not applied");
    return 0;
}

void journal_close(struct replica *r)
{
    struct journal *j = &r->journal;

    while (j->first) {
        struct entry *e = j->first;

        j->first = e->next;
        free_entry(j, e);
    }
    journal_memory_trim(&j->records);
    journal_memory_trim(&j->entries);
    if (j->file)
        sluice_file_close(r->disk, j->file);
}
