/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * spill-file.c: the file of spill.c: a block that says where its records begin and of which life
 * they are; then a ring of them, each at its position modulo the ring's size, never across the end.
 *
 *     first block: magic u32, crc32c u32 (of the next 32), life u64, tail u64, epoch id u64, zero
 * u64 record: magic u32, crc32c u32 (of the next 32), position u64, life u64, sequence number of
 * the record before it u64, length u64, then a frame of that length as it was or would have been
 * sent
 *
 * Nothing is synced: what a power cut takes is in the evidence.  The chain of sequence numbers, the
 * positions and the checksums say where it ends.
 */
#include "replica.h"

#include "common/crc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HEAD_MAGIC 0x31485053u /* "SPH1" */
#define MAGIC 0x31525053u      /* "SPR1" */
#define FIRST_BYTES 4096u
#define HEAD_BYTES SPILL_HEAD_BYTES
#define QUEUE_MAX (1u << 20) /* bytes queued for the link before reading pauses */

/* --- writing
 * ------------------------------------------------------------------------------------------------------
 */

static void let_alone_go(struct spill *s)
{
    if (s->alone)
        outgoing_put(s->alone);
    s->alone = NULL;
}

static void on_written(struct sluice_file_io *io, int32_t error)
{
    struct replica *r =
        (struct replica *)(void *)((char *)io - offsetof(struct replica, spill.write_io));
    struct spill *s = &r->spill;

    replica_lock(r);
    s->is_writing = false;
    let_alone_go(s);
    if (s->write_life == s->life && s->life) {
        if (error)
            spill_give_up(r, "cannot be written");
        else if (s->write_end)
            s->written = s->write_end;
        else
            s->file_tail = s->write_tail;
    }
    spill_go_on(r);
    replica_wake(&r->changed);
    replica_unlock(r);
}

static void submit_write(struct replica *r, uint64_t offset, uint64_t length, uint64_t end,
                         uint8_t *data)
{
    struct spill *s = &r->spill;

    s->write_life = s->life;
    s->write_end = end;
    s->write_io = (struct sluice_file_io){.op = SLUICE_OP_WRITE,
                                          .offset = offset,
                                          .length = length,
                                          .data = data,
                                          .done = on_written};
    s->is_writing = sluice_file_submit(r->disk, s->file, &s->write_io) == 0;
    if (!s->is_writing)
        let_alone_go(s);
}

static void put_head(uint8_t *out, uint32_t magic, const uint64_t numbers[4])
{
    uint8_t *at = out + 8;

    for (unsigned i = 0; i < 4; i++)
        le_put(&at, numbers[i], 8);
    at = out;
    le_put(&at, magic, 4);
    le_put(&at, crc_add(0, out + 8, 32), 4);
}

static bool get_head(const uint8_t *in, uint32_t magic, uint64_t numbers[4])
{
    const uint8_t *at = in;

    if (le_get(&at, 4) != magic || le_get(&at, 4) != crc_add(0, in + 8, 32))
        return false;
    for (unsigned i = 0; i < 4; i++)
        numbers[i] = le_get(&at, 8);
    return true;
}

static void write_first(struct replica *r)
{
    struct spill *s = &r->spill;
    const uint64_t numbers[4] = {s->life, s->tail, s->epoch_id, 0};

    s->head_wanted = false;
    s->write_tail = s->tail;
    memset(s->out, 0, FIRST_BYTES);
    put_head(s->out, HEAD_MAGIC, numbers);
    submit_write(r, 0, FIRST_BYTES, 0, s->out);
}

/* The room that the file's first block gives away. */
static bool has_room(const struct spill *s, uint64_t end)
{
    return end - s->file_tail <= s->ring;
}

static void complete_record(struct spill *s, struct outgoing *o)
{
    const uint64_t numbers[4] = {o->position, s->life, o->prev, o->length};

    put_head(o->head, MAGIC, numbers);
    memset(o->message + o->length, 0, spill_record_bytes(o->length) - HEAD_BYTES - o->length);
}

static uint8_t *record_of(struct outgoing *o)
{
    return (uint8_t *)o + offsetof(struct outgoing, head);
}

static struct outgoing *take_pending(struct spill *s)
{
    struct outgoing *o = spill_pop(&s->pending, &s->pending_last);

    s->pending_bytes -= o->length;
    complete_record(s, o);
    return o;
}

/* The next lies behind what ends there, and fits into the same piece. */
static bool is_joined(const struct spill *s, uint64_t begin, uint64_t end)
{
    uint64_t length;

    if (!s->pending || s->pending->position != end)
        return false;
    length = spill_record_bytes(s->pending->length);
    return end + length - begin <= SPILL_PIECE_BYTES && has_room(s, end + length);
}

/* As many as lie one behind the other, in one write; one alone from where it is. */
static void write_records(struct replica *r)
{
    struct spill *s = &r->spill;
    struct outgoing *o = take_pending(s);
    uint64_t begin = o->position, end = begin + spill_record_bytes(o->length);

    if (!is_joined(s, begin, end)) {
        s->alone = o;
        submit_write(r, FIRST_BYTES + begin % s->ring, end - begin, end, record_of(o));
        return;
    }
    for (end = begin;; o = take_pending(s)) {
        uint64_t length = spill_record_bytes(o->length);

        memcpy(s->out + (end - begin), record_of(o), length);
        outgoing_put(o);
        end += length;
        if (!is_joined(s, begin, end))
            break;
    }
    submit_write(r, FIRST_BYTES + begin % s->ring, end - begin, end, s->out);
}

void spill_write_some(struct replica *r)
{
    struct spill *s = &r->spill;

    if (s->is_writing || !s->life || r->is_closing)
        return;
    if (s->head_wanted || s->tail - s->file_tail >= s->ring / 8 ||
        (s->tail != s->file_tail &&
         (spill_is_empty(s) ||
          (s->pending &&
           !has_room(s, s->pending->position + spill_record_bytes(s->pending->length))))))
        write_first(r);
    else if (s->pending)
        write_records(r);
}

/* --- sending from the file
 * ----------------------------------------------------------------------------------------
 */

/* Of the record at this position, of which so much is in memory: its length; 0: there is more to
 * it; -1: there is none. */
static int64_t find_record(const struct spill *s, const uint8_t *in, uint64_t have,
                           uint64_t position, uint64_t *prev)
{
    uint64_t numbers[4];

    if (spill_rest_of_lap(s, position) < HEAD_BYTES)
        return -1;
    if (have < HEAD_BYTES)
        return 0;
    if (!get_head(in, MAGIC, numbers) || numbers[0] != position || numbers[1] != s->life ||
        numbers[3] < FRAME_BYTES || numbers[3] > FRAME_BYTES + FRAME_DATA_MAX)
        return -1;
    *prev = numbers[2];
    return have < spill_record_bytes(numbers[3]) ? 0 : (int64_t)numbers[3];
}

/* With the last entry for what does not fit: it waits for its end. */
static void note_sent(struct spill *s, uint64_t end, uint64_t seq)
{
    if (s->sent_count == SPILL_SENT_MAX)
        s->sent_count--;
    s->sent[s->sent_count++] = (struct spill_piece){end, seq};
}

/* Their room in the file. */
void spill_free_pieces(struct spill *s)
{
    unsigned n = 0;

    for (; n < s->sent_count && s->sent[n].seq <= s->base; n++)
        s->tail = s->sent[n].end;
    s->sent_count -= n;
    memmove(s->sent, s->sent + n, s->sent_count * sizeof *s->sent);
}

/* False: it is damaged. */
static bool send_record(struct replica *r, const uint8_t *message, size_t length)
{
    struct spill *s = &r->spill;
    struct outgoing *o;
    struct frame f;

    if (frame_get(&f, message, length) && !MUTANT(82))
        return false;
    if (f.seq <= s->sent_seq)
        return true;
    if (f.type == FRAME_RECORD && !r->theirs.can_record) {
        s->sent_seq = f.seq;
        return true;
    }
    f.epoch = lineage_tip(&r->super.lineage).epoch;
    o = link_make(&f, frame_payload(message), length - FRAME_BYTES);
    if (!o)
        return false;
    s->sent_seq = f.seq;
    link_push(r, o, &f);
    return true;
}

static uint64_t seq_in(const uint8_t *message)
{
    const uint8_t *at = message + 16;

    return le_get(&at, 8);
}

/* What was read, as far as it is whole records; false: it makes no sense. */
static bool take_records(struct replica *r)
{
    struct spill *s = &r->spill;
    uint64_t begin = s->read_at, at = begin, last = 0, prev;
    unsigned round = s->round;

    while (at - begin < s->read_bytes) {
        const uint8_t *in = s->in + (at - begin);
        int64_t length = find_record(s, in, s->read_bytes - (at - begin), at, &prev);

        if (length < 0) { /* the next begins the lap */
            if (at + spill_rest_of_lap(s, at) >= s->written)
                return false;
            at += spill_rest_of_lap(s, at);
            break;
        }
        if (length == 0 || (s->is_replaying && seq_in(in + HEAD_BYTES) > s->bound))
            break;
        if (!send_record(r, in + HEAD_BYTES, (size_t)length))
            return false;
        last = s->sent_seq;
        at += spill_record_bytes((uint64_t)length);
    }
    if (s->round != round)
        return true;
    s->reads_all = at == begin;
    s->read_at = at;
    if (last)
        note_sent(s, at, last);
    if (r->link != LINK_RESYNC)
        spill_free_pieces(s); /* it may have been read once more */
    return true;
}

static void on_read(struct sluice_file_io *io, int32_t error)
{
    struct replica *r =
        (struct replica *)(void *)((char *)io - offsetof(struct replica, spill.read_io));
    struct spill *s = &r->spill;

    replica_lock(r);
    s->is_reading = false;
    if (s->read_round == s->round && (error || !take_records(r)))
        spill_give_up(r, "cannot be read");
    spill_go_on(r);
    replica_wake(&r->changed);
    replica_unlock(r);
}

/* The next record is one that the peer has no part of: it does not belong to the batch. */
bool spill_is_at_bound(const struct spill *s)
{
    return s->is_replaying && (s->sent_seq >= s->bound || s->read_at == s->head);
}

static bool may_read(const struct replica *r)
{
    const struct spill *s = &r->spill;

    return !s->is_reading && s->read_at < s->written && !r->is_closing && !r->is_blocked &&
           r->out_bytes < QUEUE_MAX && r->sent_bytes - r->peer_journaled_bytes < QUEUE_MAX * 16 &&
           (r->link == LINK_STREAMING || r->link == LINK_AHEAD ||
            (r->link == LINK_RESYNC && s->is_replaying && !r->commit_is_sent &&
             !spill_is_at_bound(s)));
}

void spill_read_some(struct replica *r)
{
    struct spill *s = &r->spill;
    uint64_t bytes = s->written - s->read_at, rest = spill_rest_of_lap(s, s->read_at), most;

    if (!may_read(r))
        return;
    bytes = bytes < rest ? bytes : rest;
    most = s->reads_all ? SPILL_BUFFER_BYTES : SPILL_PIECE_BYTES;
    s->read_bytes = bytes < most ? bytes : most;
    s->read_round = s->round;
    s->read_io = (struct sluice_file_io){.op = SLUICE_OP_READ,
                                         .offset = FIRST_BYTES + s->read_at % s->ring,
                                         .length = s->read_bytes,
                                         .data = s->in,
                                         .done = on_read};
    s->is_reading = sluice_file_submit(r->disk, s->file, &s->read_io) == 0;
}

/* --- opening: what an earlier process has left
 * -----------------------------------------------------------------------
 */

static bool read_at(struct replica *r, uint64_t offset, uint64_t length, void *data)
{
    struct sluice_file_io io = {
        .op = SLUICE_OP_READ, .offset = offset, .length = length, .data = data};

    return sluice_file_wait(r->disk, r->spill.file, &io) == 0;
}

/* The record there; false: there is none. */
static bool read_record(struct replica *r, uint64_t position, uint64_t *end, uint64_t *prev)
{
    struct spill *s = &r->spill;
    uint64_t have = spill_record_bytes(FRAME_BYTES + FRAME_DATA_MAX),
             rest = spill_rest_of_lap(s, position);
    struct frame f;
    int64_t length;

    have = have < rest ? have : rest;
    if (!read_at(r, FIRST_BYTES + position % s->ring, have, s->in))
        return false;
    length = find_record(s, s->in, have, position, prev);
    if (length <= 0 || (frame_get(&f, s->in + HEAD_BYTES, (size_t)length) && !MUTANT(82)) ||
        !frame_is_numbered(&f) || !f.seq)
        return false;
    *end = position + spill_record_bytes((uint64_t)length);
    return true;
}

static bool take_next(struct replica *r)
{
    struct spill *s = &r->spill;
    uint64_t end, prev;

    if (!read_record(r, s->head, &end, &prev) &&
        !read_record(r, s->head + spill_rest_of_lap(s, s->head), &end, &prev))
        return false;
    if (end - s->tail > s->ring || (!spill_is_empty(s) && prev != s->last))
        return false;
    if (spill_is_empty(s))
        s->base = prev;
    s->last = seq_in(s->in + HEAD_BYTES);
    s->head = end;
    return true;
}

/* Where the file system can give it away at once; else a write that finds no room ends this tier.
 */
static void reserve(struct replica *r)
{
    struct sluice_file_io io = {.op = SLUICE_OP_ZERO,
                                .flags = SLUICE_FLAG_NO_HOLE | SLUICE_FLAG_FAST_ONLY,
                                .length = FIRST_BYTES + r->spill.ring};

    if (sluice_file_wait(r->disk, r->spill.file, &io) != 0)
        sluice_log(r->disk, SLUICE_LOG_NOTICE,
                   "replication: the room of the journal for the link cannot be reserved");
}

/* They go on from where the peer was; but what was written last may be here alone. */
static void recover(struct replica *r)
{
    struct spill *s = &r->spill;
    uint64_t numbers[4];

    if (!read_at(r, 0, FIRST_BYTES, s->in) || !get_head(s->in, HEAD_MAGIC, numbers) ||
        !numbers[0]) {
        reserve(r);
        return;
    }
    s->life = numbers[0];
    s->tail = s->head = s->file_tail = numbers[1];
    s->epoch_id = numbers[2];
    while (take_next(r))
        ;
    s->written = s->head;
    s->read_at = s->tail;
    if (spill_is_empty(s) || r->super.role != REPLICA_PRIMARY)
        spill_drop(r);
    else
        sluice_log(r->disk, SLUICE_LOG_NOTICE,
                   "replication: sequences %llu to %llu wait in the journal for the peer",
                   (unsigned long long)s->base + 1, (unsigned long long)s->last);
}

int spill_open(struct replica *r, struct sluice_error *error)
{
    struct spill *s = &r->spill;
    const char *path = r->settings.spill_path[0] ? r->settings.spill_path : "spill";
    int status;

    s->kept_last = &s->kept;
    s->pending_last = &s->pending;
    if (!r->settings.is_async || !r->settings.spill_bytes)
        return 0;
    s->out = malloc(SPILL_PIECE_BYTES);
    s->in = malloc(SPILL_BUFFER_BYTES);
    if (!s->out || !s->in)
        return sluice_refuse(r->disk, error, ENOMEM, "no memory for the journal of the link");
    status = sluice_file_open(r->disk, path, SLUICE_FILE_CREATE | SLUICE_FILE_LOCK,
                              r->settings.spill_bytes, &s->file, error);
    if (status < 0)
        return status;
    s->ring = (sluice_file_size(r->disk, s->file) - FIRST_BYTES) & ~7ull;
    recover(r);
    return 0;
}
