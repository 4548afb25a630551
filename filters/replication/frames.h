/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * frames.h: what the two sides say to each other, one frame a message of the channel: a head of
 * FRAME_BYTES and a payload.  All numbers are little-endian.  docs/replication-protocol.md is this
 * page for other implementations.
 *
 *     0 magic u32   4 version u16   6 type u8   7 flags u8   8 epoch u64   16 seq u64   24 offset
 * u64 32 bytes u64  40 crc32c u32 (of head and payload, this field zero)   44 reserved u32, zero
 */
#ifndef SLUICE_REPLICATION_FRAMES_H
#define SLUICE_REPLICATION_FRAMES_H

#include "common/le.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FRAME_BYTES 48u
#define FRAME_VERSION 1u
#ifndef FRAME_DATA_MAX
#define FRAME_DATA_MAX (1u << 20) /* of one WRITE */
#endif

enum frame_type {
    FRAME_HELLO = 1, /* who I am: payload struct hello */
    FRAME_READY, /* target: send; seq: a nonce; payload: runs of grains that may differ here too */
    FRAME_BEGIN, /* source: offset: the nonce; what follows, up to COMMIT, is one change;
                    FRAME_UNSTAGED */
    FRAME_WRITE, /* offset, data; seq 0: a block of a resync */
    FRAME_ZERO,  /* offset, bytes */
    FRAME_TRIM,
    FRAME_FLUSH,    /* make everything up to seq durable and say so */
    FRAME_COMMIT,   /* bytes of payload: the source's lineage, which the target takes over */
    FRAME_ACK,      /* epoch: the nonce; seq: received; offset: journaled; bytes: stable; payload:
                     * applied, journaled bytes
                     */
    FRAME_FAIL,     /* target: it cannot go on; payload: a sentence */
    FRAME_TAKEOVER, /* target: hand the disk over to me */
    FRAME_HANDOVER, /* source: I have stepped down; everything up to seq is with you */
    FRAME_CHECK, /* source: offset, bytes: an extent; payload: which of its grains, their hashes */
    FRAME_CHECKED, /* target: epoch: the nonce; payload: which of them differ, or cannot be read */
    FRAME_RESIZE,  /* source: bytes: what the target's disk is to have; FRAME_DONE: what mine has */
    FRAME_RESIZED, /* target: epoch: the nonce; bytes: what it has; offset: up to here the new part
                      may hold something; FRAME_REFUSED: a sentence */
    FRAME_SNAPSHOT,    /* source: offset: of a disk; what came before is in it; payload: its name */
    FRAME_SNAPSHOTTED, /* target: epoch: the nonce; FRAME_REFUSED: a sentence */
    FRAME_RECORD, /* source: offset: of a disk; what came before it has come before it; payload:
                     struct record; seq 0: as it is now, in a batch */
    FRAME_TYPES
};
#define FRAME_UNSTAGED \
    0x1u /* BEGIN: applied as it comes; the target is no consistent instant until COMMIT */
#define FRAME_COMMITTED 0x1u /* ACK: of the COMMIT */
#define FRAME_DONE 0x1u      /* RESIZE: the source has grown, nothing is asked */
#define FRAME_REFUSED 0x1u   /* RESIZED, SNAPSHOTTED */
#define FRAME_DURABLE 0x2u   /* WRITE, ZERO, TRIM: acknowledge when it is durable (FUA) */

struct frame {
    uint8_t type, flags;
    uint64_t epoch, seq, offset, bytes;
};

/* Writes FRAME_BYTES to out, for a payload that follows it. */
void frame_put(uint8_t *out, const struct frame *frame, const void *payload, size_t length);
/* Checks magic, version, type, CRC and that the fields fit the type.  NULL, or what is wrong. */
const char *frame_get(struct frame *frame, const void *message, size_t length);

static inline const uint8_t *frame_payload(const void *message)
{
    return (const uint8_t *)message + FRAME_BYTES;
}
static inline bool frame_changes_data(const struct frame *f)
{
    return f->type == FRAME_WRITE || f->type == FRAME_ZERO || f->type == FRAME_TRIM;
}

/* Has a sequence number of its own, outside of a batch. */
static inline bool frame_is_numbered(const struct frame *f)
{
    return frame_changes_data(f) || f->type == FRAME_RECORD;
}

/* --- what a RECORD carries: something that belongs to a disk and is not its data
 * --------------------------------------------------------------------
 */

#define RECORD_NAME_MAX 31u
#define RECORD_HEAD_MAX (2u + RECORD_NAME_MAX)
#define RECORD_DATA_MAX (512u << 10)
struct record {
    char name[RECORD_NAME_MAX + 1];
    const uint8_t *data;
    size_t length;
};
/* A version u8, the length of the name u8, the name; the data follow.  How many bytes that is, at
 * most RECORD_HEAD_MAX. */
size_t record_put_head(uint8_t *out, const char *name);
/* NULL, or what is wrong.  `data` points into the payload. */
const char *record_get(struct record *record, const uint8_t *payload, size_t length);

#endif
