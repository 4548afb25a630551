/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * frames.c: the codec of frames.h.  What a type may carry is a table; a head that says otherwise is
 * refused before anybody looks at it.
 */
#include "frames.h"

#include "crc.h"

#include <errno.h>
#include <string.h>

#define MAGIC UINT32_C(0x50524c53) /* "SLRP" */

enum body_rule { NONE, DATA, ANY }; /* DATA: exactly `length` bytes */
static const struct rule {
    uint8_t body;
    uint64_t length_max; /* of the range; 0: none */
} rules[REP_FRAME_TYPES] = {
    [REP_HELLO] = {ANY, 0},
    [REP_EVIDENCE] = {ANY, 0},
    [REP_PLAN] = {NONE, 0},
    [REP_WRITE] = {DATA, REP_BODY_MAX},
    [REP_TRIM] = {NONE, UINT64_MAX},
    [REP_ZERO] = {NONE, UINT64_MAX},
    [REP_MARK] = {NONE, 0},
    [REP_ACK] = {NONE, 0},
    [REP_NACK] = {NONE, 0},
    [REP_HASHES] = {ANY, REP_BODY_MAX},
    [REP_STAGE] = {NONE, 0},
    [REP_BLOCK] = {DATA, REP_BODY_MAX},
    [REP_COMMIT] = {NONE, 0},
    [REP_COMMITTED] = {NONE, 0},
    [REP_FETCH] = {NONE, REP_BODY_MAX},
    [REP_HANDOVER] = {NONE, 0},
    [REP_PING] = {NONE, 0},
    [REP_BYE] = {NONE, 0},
};

static void put(uint8_t *at, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        at[i] = (uint8_t)(value >> (8 * i));
}

static uint64_t get(const uint8_t *at, unsigned bytes)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < bytes; i++)
        value |= (uint64_t)at[i] << (8 * i);
    return value;
}

void rep_head_encode(uint8_t out[REP_HEAD_BYTES], struct rep_head *head, const void *body)
{
    head->body_crc = head->body_bytes ? cache_crc(0, body, head->body_bytes) : 0;
    memset(out, 0, REP_HEAD_BYTES);
    put(out, MAGIC, 4);
    out[4] = REP_VERSION;
    out[5] = head->type;
    put(out + 6, head->flags, 2);
    put(out + 8, head->disk, 2);
    put(out + 12, head->body_bytes, 4);
    put(out + 16, head->epoch, 8);
    put(out + 24, head->seq, 8);
    put(out + 32, head->offset, 8);
    put(out + 40, head->length, 8);
    put(out + 48, head->arg, 8);
    put(out + 56, head->body_crc, 4);
    put(out + 60, cache_crc(0, out, 60), 4);
}

static void read_head(struct rep_head *head, const uint8_t *at)
{
    *head = (struct rep_head){.type = at[5],
                              .flags = (uint16_t)get(at + 6, 2),
                              .disk = (uint16_t)get(at + 8, 2),
                              .body_bytes = (uint32_t)get(at + 12, 4),
                              .epoch = get(at + 16, 8),
                              .seq = get(at + 24, 8),
                              .offset = get(at + 32, 8),
                              .length = get(at + 40, 8),
                              .arg = get(at + 48, 8),
                              .body_crc = (uint32_t)get(at + 56, 4)};
}

static int check_shape(const struct rep_head *head)
{
    const struct rule *rule = &rules[head->type];

    if (head->length > rule->length_max || head->offset + head->length < head->offset)
        return -EPROTO;
    if (rule->body == NONE && head->body_bytes)
        return -EPROTO;
    if (rule->body == DATA && (head->body_bytes != head->length || !head->length))
        return -EPROTO;
    return 0;
}

int rep_head_decode(const void *data, size_t bytes, struct rep_head *head, const void **body)
{
    const uint8_t *at = data;

    if (bytes < REP_HEAD_BYTES || get(at, 4) != MAGIC)
        return -EPROTO;
    if (at[4] != REP_VERSION)
        return -EPROTONOSUPPORT;
    if (get(at + 60, 4) != cache_crc(0, at, 60))
        return -EBADMSG;
    read_head(head, at);
    if (head->body_bytes > REP_BODY_MAX || head->body_bytes != bytes - REP_HEAD_BYTES)
        return -EPROTO;
    if (head->type == 0 || head->type >= REP_FRAME_TYPES)
        return head->flags & REP_FRAME_MAY_IGNORE ? -ENOTSUP : -EPROTONOSUPPORT;
    *body = at + REP_HEAD_BYTES;
    if (head->body_crc != (head->body_bytes ? cache_crc(0, *body, head->body_bytes) : 0))
        return -EBADMSG;
    return check_shape(head);
}
