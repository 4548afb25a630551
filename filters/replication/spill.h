/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * spill.h: the asynchronous mode's tier between memory and bitmap: records on SSD, in write order.
 *
 * Memory: what was sent is kept until the peer has it durably.  When that is too much, or the link
 * breaks, it goes to a file of a fixed size, and what guests write from then on goes behind it; the
 * file is sent in order when the link takes it, and when all of it is sent, memory is the tier
 * again.  When the file is full, what comes after it is only marked, and what is in the file is
 * still sent in order before a batch brings the rest.
 *
 * The evidence covers all of it at any time, as if there were no file: whatever is wrong with the
 * file, it is forgotten, and a batch does what it would have done.
 */
#ifndef SLUICE_REPLICATION_SPILL_H
#define SLUICE_REPLICATION_SPILL_H

#include <sluice-filter.h>

#include <stdbool.h>
#include <stdint.h>

struct replica;
struct frame;
struct outgoing;

#define SPILL_HEAD_BYTES 40u                     /* of a record */
#define SPILL_BUFFER_BYTES (2u * FRAME_DATA_MAX) /* for reading */
#ifndef SPILL_PIECE_BYTES
/* Read or written at a time, of whole records: guests wait while so much is copied. */
#define SPILL_PIECE_BYTES (128u << 10)
#endif
#define SPILL_SENT_MAX 64u
#define SPILL_MARKS_MAX 64u
#define SPILL_LEAST (4u * FRAME_DATA_MAX)

/* A piece of the file that was sent and may not be durable with the peer yet. */
struct spill_piece {
    uint64_t end, seq; /* of its last record */
};
struct spill_mark {
    uint64_t seq, ns; /* given then */
};

struct spill {
    struct sluice_file *file; /* NULL: there is no such tier */
    uint64_t ring;            /* bytes of it for records */
    bool is_open;   /* everything after `base` is here, and what is written from now on comes too */
    bool is_unsure; /* but only if the batch before it is taken over */
    bool is_spilling;  /* into the file; else memory */
    bool is_replaying; /* the batch that runs is records, up to `bound` */
    bool is_explained; /* bits are set of what is in here: cleared when the peer has settle_seq */
    uint64_t base;     /* the peer has everything up to here, durably */
    uint64_t last;     /* of the last record that the file has or will have */
    uint64_t bound;    /* the peer may have up to here: it has to come as one change */
    uint64_t settle_seq, sent_seq;
    uint64_t epoch_id; /* of the peer's last epoch */

    struct outgoing *kept, **kept_last;       /* sent from memory */
    struct outgoing *pending, **pending_last; /* have a place in the file, not written yet */
    uint64_t kept_bytes, pending_bytes;

    /* Positions count on from lap to lap; a record of another life is none. */
    uint64_t life, head, tail, written, read_at;
    uint64_t file_tail; /* as the file's first block says: nothing from there on is overwritten */
    struct spill_piece sent[SPILL_SENT_MAX];
    unsigned sent_count;
    bool is_writing, is_reading, head_wanted;
    unsigned round, read_round; /* a read of an earlier round counts for nothing */
    bool reads_all;             /* the record that is next is long */
    uint64_t write_life, write_end, write_tail, read_bytes;
    struct sluice_file_io write_io, read_io;
    struct outgoing *alone; /* is being written from where it is */
    uint8_t *out, *in;      /* a piece; a buffer */

    struct spill_mark marks[SPILL_MARKS_MAX]; /* how old is what the peer lacks */
    unsigned mark_count;
};

/* Blocks, without the mutex. */
int spill_open(struct replica *r, struct sluice_error *error);
void spill_close(struct replica *r);
/* A frame of a guest's write: to the peer, and kept. */
void spill_send(struct replica *r, const struct frame *frame, const void *data, size_t length);
/* To the file.  False: it is full, and takes no more. */
bool spill_append(struct replica *r, const struct frame *frame, const void *data, size_t length);
/* More is under way than memory should hold: the file from now on.  False: there is none. */
bool spill_begin(struct replica *r);
bool spill_is_full(const struct replica *r); /* memory */
/* COMMIT was sent: what is written from now on is kept. */
void spill_on_commit(struct replica *r, uint64_t seq);
/* And has been taken over by the peer. */
void spill_on_committed(struct replica *r);
/* What was under way with the peer has ended. */
void spill_on_stop(struct replica *r);
void spill_on_ack(struct replica *r);
/* True: the peer will have what it lacks from the records; begins that.  peer_seq: the last number
 * that it has ever had, 0: it did not say. */
bool spill_replay(struct replica *r, uint64_t peer_seq);
/* Bits are set for what is in here. */
void spill_explain(struct replica *r);
void spill_drop(struct replica *r);
bool spill_is_done(const struct replica *r); /* the peer has all that was in the file */
bool spill_is_busy(const struct replica *r);
void spill_pump(struct replica *r); /* without the mutex */
void spill_note(struct replica *r, uint64_t seq);
void spill_tell(struct replica *r, struct sluice_reply *reply);

/* --- between spill.c and spill-file.c
 * -------------------------------------------------------------------------- */

static inline uint64_t spill_record_bytes(uint64_t length)
{
    return (SPILL_HEAD_BYTES + length + 7) & ~7ull;
}

static inline uint64_t spill_rest_of_lap(const struct spill *s, uint64_t position)
{
    return s->ring - position % s->ring;
}

static inline bool spill_is_empty(const struct spill *s)
{
    return s->tail == s->head;
}

struct outgoing *spill_pop(struct outgoing **first, struct outgoing ***last);
void spill_go_on(struct replica *r);
/* The file is of no use. */
void spill_give_up(struct replica *r, const char *why);
void spill_write_some(struct replica *r);
void spill_read_some(struct replica *r);
void spill_free_pieces(struct spill *s);
/* All that belongs to the batch of records has been sent. */
bool spill_is_at_bound(const struct spill *s);

#endif
