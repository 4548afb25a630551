/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sim-rot.c: a data block on the SSD changes by itself: a bit of it, all of it, or it becomes
 * another block's.  Only blocks of chunks that the tier itself says were durable, on its media:
 * what stands behind those cannot be told from a torn write by anybody.
 */
#include "sim.h"

#include "cache/format.h"

static struct superblock super;

static bool find_super(void)
{
    struct superblock s;
    bool is_found = false;

    for (unsigned i = 0; i < 2; i++)
        if (format_get_superblock(ssd.media + i * BLOCK_BYTES, &s) &&
            (!is_found || s.generation > super.generation)) {
            super = s;
            is_found = true;
        }
    return is_found && !super.is_released;
}

bool sim_has_tier(void)
{
    struct superblock s;

    return format_get_superblock(ssd.now, &s) || format_get_superblock(ssd.now + BLOCK_BYTES, &s);
}

/* Nothing that is still to reach the media will cover it. */
static bool is_settled(uint32_t slot)
{
    uint64_t at = (uint64_t)slot * BLOCK_BYTES;

    return memcmp(ssd.now + at, ssd.media + at, BLOCK_BYTES) == 0;
}

/* The header at this slot, when it is one of this making of the tier. */
static bool get_header(uint32_t slot, struct chunk_header *h)
{
    return format_get_chunk(ssd.media + (uint64_t)slot * BLOCK_BYTES, h) &&
           h->nonce == super.nonce && slot + h->data_blocks < ssd.size / BLOCK_BYTES;
}

static uint64_t durable_sequence(void)
{
    struct chunk_header h;
    uint64_t durable = super.end_sequence;

    for (uint32_t slot = super.first_block; slot < ssd.size / BLOCK_BYTES; slot++)
        if (get_header(slot, &h) && h.incarnation == super.incarnation && h.durable > durable)
            durable = h.durable;
    return durable;
}

static void change(uint32_t slot)
{
    uint64_t at = (uint64_t)slot * BLOCK_BYTES;
    uint64_t other = (uint64_t)(super.first_block + sim_below(super.segment_blocks)) * BLOCK_BYTES;
    uint8_t was[BLOCK_BYTES], is[BLOCK_BYTES];
    struct chunk_header h;

    memcpy(was, ssd.now + at, BLOCK_BYTES);
    memcpy(is, was, BLOCK_BYTES);
    if (sim_one_in(3))
        memset(is, 0, BLOCK_BYTES);
    else if (sim_one_in(2) && !format_get_chunk(ssd.now + other, &h))
        memcpy(is, ssd.now + other, BLOCK_BYTES);
    if (memcmp(was, is, BLOCK_BYTES) == 0)
        is[sim_below(BLOCK_BYTES)] ^= (uint8_t)(1u << sim_below(8));
    memcpy(ssd.now + at, is, BLOCK_BYTES);
    memcpy(ssd.media + at, is, BLOCK_BYTES);
}

uint64_t sim_rot(bool *was_dirty)
{
    struct chunk_header h;
    uint64_t durable = find_super() ? durable_sequence() : 0;

    for (unsigned tries = 0; durable && tries < 200; tries++) {
        uint32_t slot = super.first_block + sim_below(super.segment_blocks * super.segment_count);
        uint32_t entry = sim_below(CHUNK_DATA_MAX), data = slot;

        if (!get_header(slot, &h) || h.sequence >= durable || entry >= h.count ||
            h.entry[entry].kind == CHUNK_DROP)
            continue;
        for (uint32_t i = 0; i <= entry; i++)
            data += h.entry[i].kind != CHUNK_DROP;
        if (!is_settled(slot) || !is_settled(data))
            continue;
        change(data);
        *was_dirty = h.entry[entry].kind == CHUNK_DIRTY;
        return h.entry[entry].block;
    }
    return UINT64_MAX;
}
