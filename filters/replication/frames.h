/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * frames.h: what two replicating gateways say to each other.  A message is a head of 64 bytes,
 * little endian, and a body; both have a CRC-32C.  docs/replication-protocol.md has the layout byte
 * by byte. The decoder trusts nothing: a head that breaks a rule of the table in frames.c is
 * refused whole.
 */
#ifndef SLUICE_REPLICATION_FRAMES_H
#define SLUICE_REPLICATION_FRAMES_H

#include <stddef.h>
#include <stdint.h>

#define REP_HEAD_BYTES 64u
#define REP_VERSION 1u
#define REP_BODY_MAX (1u << 20)
#define REP_FRAME_MAY_IGNORE \
    0x8000u /* an unknown type with this flag is skipped, without it the link ends */

enum rep_frame_type {
    REP_HELLO = 1, /* body: lineage; seq: last held; arg: enum rep_hello_flag */
    REP_EVIDENCE,  /* body: the sender's bitmap, 64-bit words from grain `offset` on */
    REP_PLAN,      /* arg: enum rep_plan the primary chose; seq: from here on; epoch: of its tip */
    REP_WRITE,     /* body: data */
    REP_TRIM,
    REP_ZERO,
    REP_MARK,      /* flush: tell when everything up to seq is durable */
    REP_ACK,       /* seq: in the journal; arg: durable; both cumulative */
    REP_NACK,      /* seq could not be kept; arg: errno */
    REP_HASHES,    /* ask (body empty) or tell (8 bytes a grain) the hashes of offset, length */
    REP_STAGE,     /* what follows is one atomic batch, up to REP_COMMIT */
    REP_BLOCK,     /* of the batch: what the source holds at offset; body: data */
    REP_COMMIT,    /* the batch is whole at seq */
    REP_COMMITTED, /* and is durable here */
    REP_FETCH,     /* a primary after a crash asks for offset, length; answered by REP_BLOCK */
    REP_HANDOVER,  /* planned switch: the sender has demoted itself at seq; be primary */
    REP_PING,
    REP_BYE,
    REP_FRAME_TYPES
};

struct rep_head {
    uint8_t type;   /* enum rep_frame_type */
    uint16_t flags; /* SLUICE_FLAG_* of a write, REP_FRAME_MAY_IGNORE */
    uint16_t disk;  /* index in the group, in the order of the disks' uuids */
    uint32_t body_bytes;
    uint64_t epoch, seq, offset, length, arg;
    uint32_t body_crc; /* filled by rep_head_encode(), checked by rep_head_decode() */
};

/* Body may be NULL when body_bytes is 0. */
void rep_head_encode(uint8_t out[REP_HEAD_BYTES], struct rep_head *head, const void *body);
/* `bytes` of a whole message.  0 and *body inside data; or -EPROTO (garbage), -EBADMSG (a CRC),
 * -EPROTONOSUPPORT (another version, or a type that may not be ignored), -ENOTSUP (to be ignored).
 */
int rep_head_decode(const void *data, size_t bytes, struct rep_head *head, const void **body);

#endif
