/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz-replication-frames: a message from a peer.  The first byte says whether the checksums are
 * mended first, so that the checks behind them are reached too.
 *
 * True of every answer: what is accepted encodes to the same bytes, its body lies inside the
 * message, and a lineage that is accepted is equal to itself.
 */
#include "frames.h"
#include "lineage.h"

#include "crc.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void put32(uint8_t *at, uint32_t value)
{
    for (unsigned i = 0; i < 4; i++)
        at[i] = (uint8_t)(value >> (8 * i));
}

static void mend(uint8_t *message, size_t bytes)
{
    put32(message + 56, bytes > REP_HEAD_BYTES
                            ? cache_crc(0, message + REP_HEAD_BYTES, bytes - REP_HEAD_BYTES)
                            : 0);
    put32(message + 60, cache_crc(0, message, 60));
}

static void check_lineage(const void *body, uint32_t bytes)
{
    struct rep_lineage lineage;
    uint64_t fork_seq;

    if (rep_lineage_decode(&lineage, body, bytes) == 0)
        assert(rep_lineage_compare(&lineage, 0, &lineage, 0, &fork_seq) ==
               (lineage.count ? REP_KIN_EQUAL : REP_KIN_FRESH_BOTH));
}

static void check_message(const uint8_t *message, size_t bytes)
{
    uint8_t again[REP_HEAD_BYTES];
    struct rep_head head;
    const void *body;

    if (rep_head_decode(message, bytes, &head, &body))
        return;
    assert(body == message + REP_HEAD_BYTES && head.body_bytes + REP_HEAD_BYTES == bytes);
    rep_head_encode(again, &head, body);
    assert(memcmp(again + 12, message + 12, 44) == 0);
    if (head.type == REP_HELLO)
        check_lineage(body, head.body_bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *message;

    if (size < 1)
        return 0;
    message = malloc(size);
    if (!message)
        return 0;
    memcpy(message, data + 1, size - 1);
    if ((data[0] & 1) && size - 1 >= REP_HEAD_BYTES)
        mend(message, size - 1);
    check_message(message, size - 1);
    free(message);
    return 0;
}
