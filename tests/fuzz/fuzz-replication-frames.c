/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz-replication-frames: a message from a replicating peer.  With the first byte odd its checksum
 * is mended first, so that the checks behind it are reached too.
 *
 * True of every answer: what is accepted is the very message that frame_put() writes; a greeting
 * or a record that is accepted comes back from its own bytes; a greeting is no fork of itself, and
 * both sides that say the same thing come to plans that fit each other.
 */
#include "replication/frames.h"
#include "replication/lineage.h"

#include "common/crc.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void mend(uint8_t *message, size_t bytes)
{
    uint8_t *at = message + 40;

    le_put(&at, 0, 4);
    at = message + 40;
    le_put(&at, crc_add(0, message, bytes), 4);
}

static void check_greeting(const uint8_t *data, size_t bytes)
{
    uint8_t again[HELLO_BYTES_MAX];
    struct hello hello, back;
    const char *reason = NULL;
    uint64_t fork_seq;
    enum plan plan;

    if (!hello_get(&hello, data, bytes))
        return;
    assert(hello_get(&back, again, hello_put(again, &hello)));
    assert(memcmp(&back, &hello, sizeof back) == 0);
    assert(lineage_compare(&hello.lineage, &hello.lineage, &fork_seq) == RELATION_EQUAL);
    plan = connect_decide(&hello, &back, &fork_seq, &reason);
    assert(reason);
    assert(plan == (hello.role == REPLICA_PRIMARY ? PLAN_SPLIT : PLAN_WAIT));
}

static void check_record(const uint8_t *payload, size_t bytes)
{
    uint8_t head[RECORD_HEAD_MAX];
    struct record record;
    size_t length;

    if (record_get(&record, payload, bytes))
        return;
    length = record_put_head(head, record.name);
    assert(memcmp(head, payload, length) == 0);
    assert(record.data == payload + length && length + record.length == bytes);
}

static void check_message(const uint8_t *message, size_t bytes)
{
    struct lineage lineage;
    uint8_t again[FRAME_BYTES];
    struct frame frame;

    if (frame_get(&frame, message, bytes))
        return;
    frame_put(again, &frame, frame_payload(message), bytes - FRAME_BYTES);
    assert(memcmp(again, message, 40) == 0);
    if (frame.type == FRAME_HELLO)
        check_greeting(frame_payload(message), bytes - FRAME_BYTES);
    if (frame.type == FRAME_RECORD)
        check_record(frame_payload(message), bytes - FRAME_BYTES);
    if (frame.type == FRAME_COMMIT)
        lineage_get(&lineage, frame_payload(message), bytes - FRAME_BYTES);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *message;

    if (size < 2)
        return 0;
    message = malloc(size - 1); /* of its own size, so that a sanitizer sees one byte too many */
    if (!message)
        return 0;
    memcpy(message, data + 1, size - 1);
    if ((data[0] & 1) && size - 1 >= FRAME_BYTES)
        mend(message, size - 1);
    check_message(message, size - 1);
    free(message);
    return 0;
}
