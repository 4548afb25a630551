/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * frames.c: see frames.h.  The decoder believes nothing: it comes before everything else that a
 * peer sends.
 */
#include "frames.h"

#include "common/crc.h"

#include <string.h>

#define MAGIC 0x31465253u /* "SRF1" */

/* What a type may carry: its payload's length lies in these bounds; `bytes` is a range of the disk.
 */
static const struct shape {
    uint32_t least, most;
    bool is_range;
} shapes[FRAME_TYPES] = {
    [FRAME_HELLO] = {48, 4096, false},
    [FRAME_READY] = {0, FRAME_DATA_MAX, false},
    [FRAME_BEGIN] = {0, 0, false},
    [FRAME_WRITE] = {1, FRAME_DATA_MAX, true},
    [FRAME_ZERO] = {0, 0, true},
    [FRAME_TRIM] = {0, 0, true},
    [FRAME_FLUSH] = {0, 0, false},
    [FRAME_COMMIT] = {32, 4096, false},
    [FRAME_ACK] = {16, 16, false},
    [FRAME_FAIL] = {0, 512, false},
    [FRAME_TAKEOVER] = {0, 0, false},
    [FRAME_HANDOVER] = {0, 0, false},
    [FRAME_CHECK] = {40, 2056, true},
    [FRAME_CHECKED] = {16, 16, true},
    [FRAME_RESIZE] = {0, 0, false},
    [FRAME_RESIZED] = {0, 512, false},
    [FRAME_SNAPSHOT] = {1, 127, false},
    [FRAME_SNAPSHOTTED] = {0, 512, false},
    [FRAME_RECORD] = {3, RECORD_HEAD_MAX + RECORD_DATA_MAX, false},
};

static uint32_t crc_of(const uint8_t *head, const void *payload, size_t length)
{
    static const uint8_t none[4];
    uint32_t crc = crc_add(0, head, 40);

    crc = crc_add(crc, none, sizeof none);
    crc = crc_add(crc, head + 44, 4);
    return length ? crc_add(crc, payload, length) : crc;
}

void frame_put(uint8_t *out, const struct frame *f, const void *payload, size_t length)
{
    uint8_t *at = out;
    uint32_t crc;

    le_put(&at, MAGIC, 4);
    le_put(&at, FRAME_VERSION, 2);
    le_put(&at, f->type, 1);
    le_put(&at, f->flags, 1);
    le_put(&at, f->epoch, 8);
    le_put(&at, f->seq, 8);
    le_put(&at, f->offset, 8);
    le_put(&at, f->bytes, 8);
    memset(at, 0, 8);
    crc = crc_of(out, payload, length);
    le_put(&at, crc, 4);
}

static const char *check_shape(const struct frame *f, size_t length)
{
    const struct shape *s = &shapes[f->type];

    if (length < s->least || length > s->most)
        return "a payload of a length that its type does not have";
    if (f->type == FRAME_COMMIT && f->bytes != length)
        return "a commit whose lineage has another length";
    if (f->type == FRAME_SNAPSHOT && f->bytes != length)
        return "a snapshot whose name has another length";
    if (f->type == FRAME_RECORD && f->bytes != length)
        return "a record of another length";
    if (!s->is_range)
        return NULL;
    if (f->bytes == 0 || f->offset > UINT64_MAX - f->bytes)
        return "a range that is none";
    if (f->type == FRAME_WRITE && f->bytes != length)
        return "a write whose data have another length";
    return NULL;
}

const char *frame_get(struct frame *f, const void *message, size_t length)
{
    const uint8_t *head = message, *at = head;

    if (length < FRAME_BYTES)
        return "shorter than a head";
    if (le_get(&at, 4) != MAGIC)
        return "no frame";
    if (le_get(&at, 2) != FRAME_VERSION)
        return "of another version of the protocol";
    f->type = (uint8_t)le_get(&at, 1);
    f->flags = (uint8_t)le_get(&at, 1);
    f->epoch = le_get(&at, 8);
    f->seq = le_get(&at, 8);
    f->offset = le_get(&at, 8);
    f->bytes = le_get(&at, 8);
    if (f->type == 0 || f->type >= FRAME_TYPES)
        return "of a type that is unknown";
    if (le_get(&at, 4) != crc_of(head, head + FRAME_BYTES, length - FRAME_BYTES))
        return "with a wrong checksum";
    return check_shape(f, length - FRAME_BYTES);
}

/* --- records
 * ----------------------------------------------------------------------------------------------
 */

#define RECORD_VERSION 1u

size_t record_put_head(uint8_t *out, const char *name)
{
    size_t length = strlen(name);

    out[0] = RECORD_VERSION;
    out[1] = (uint8_t)length;
    memcpy(out + 2, name, length);
    return 2 + length;
}

static bool is_record_name(const char *name, size_t length)
{
    size_t taken = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-");

    return taken == length && name[0] >= 'a' && name[0] <= 'z';
}

const char *record_get(struct record *record, const uint8_t *payload, size_t length)
{
    size_t name;

    memset(record, 0, sizeof *record);
    if (length < 2 || payload[0] != RECORD_VERSION)
        return "of another version";
    name = payload[1];
    if (name == 0 || name > RECORD_NAME_MAX || name > length - 2)
        return "whose name has no such length";
    memcpy(record->name, payload + 2, name);
    if (!is_record_name(record->name, name))
        return "whose name is none";
    record->data = payload + 2 + name;
    record->length = length - 2 - name;
    return record->length > RECORD_DATA_MAX ? "that is too long" : NULL;
}
