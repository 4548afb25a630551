/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * format.c: see the header.  A cursor writes and reads numbers in order, so that the order of the
 * calls is the format.  Each block carries its CRC-32C, computed with the CRC's own field zero.
 */
#include "format.h"

#include "common/crc.h"
#include "common/le.h"

#include <string.h>

#define SUPER_MAGIC UINT64_C(0x72657053756c5331)
#define CHUNK_MAGIC UINT64_C(0x6b6e7543756c5331)
#define CRC_OFFSET 12u /* after magic and version, in both */
#define ORDER_OFFSET (80 + CHUNK_ENTRIES_MAX * 16)

struct cursor {
    uint8_t *p;
};

static void put(struct cursor *c, uint64_t value, unsigned bytes)
{
    le_put(&c->p, value, bytes);
}

static uint64_t get(struct cursor *c, unsigned bytes)
{
    const uint8_t *at = c->p;
    uint64_t value = le_get(&at, bytes);

    c->p += bytes;
    return value;
}

static struct cursor begin(void *block, uint64_t magic)
{
    struct cursor c = {block};

    memset(block, 0, BLOCK_BYTES);
    put(&c, magic, 8);
    put(&c, FORMAT_VERSION, 4);
    put(&c, 0, 4); /* CRC, by seal() */
    return c;
}

static void seal(void *block)
{
    struct cursor c = {(uint8_t *)block + CRC_OFFSET};

    put(&c, crc_add(0, block, BLOCK_BYTES), 4);
}

static bool is_whole(const void *block)
{
    struct cursor c = {(uint8_t *)(uintptr_t)block + CRC_OFFSET};
    static const uint8_t zero[4];
    uint32_t crc = crc_add(0, block, CRC_OFFSET);

    crc = crc_add(crc, zero, sizeof zero);
    crc = crc_add(crc, (const uint8_t *)block + CRC_OFFSET + 4, BLOCK_BYTES - CRC_OFFSET - 4);
    return get(&c, 4) == crc;
}

static bool open_block(const void *block, uint64_t magic, struct cursor *c)
{
    c->p = (uint8_t *)(uintptr_t)block;
    if (get(c, 8) != magic || get(c, 4) != FORMAT_VERSION || !is_whole(block))
        return false;
    c->p += 4;
    return true;
}

bool format_is_super_of_any_version(const void *block)
{
    struct cursor c = {(uint8_t *)(uintptr_t)block};

    return get(&c, 8) == SUPER_MAGIC;
}

bool format_is_foreign_version(const void *block)
{
    struct cursor c = {(uint8_t *)(uintptr_t)block};

    return get(&c, 8) == SUPER_MAGIC && get(&c, 4) != FORMAT_VERSION;
}

static void put_order(struct cursor *c, const struct log_order *o)
{
    put(c, o->destaged.segment, 8);
    put(c, o->destaged.block, 8);
    put(c, o->destaged.sequence, 8);
    put(c, o->from, 8);
}

static void get_order(struct cursor *c, struct log_order *o)
{
    o->destaged.segment = get(c, 8);
    o->destaged.block = (uint32_t)get(c, 8);
    o->destaged.sequence = get(c, 8);
    o->from = get(c, 8);
}

bool format_is_before(uint64_t segment, uint32_t block, const struct log_position *at)
{
    return segment < at->segment || (segment == at->segment && block < at->block);
}

void format_add_order(struct log_order *known, const struct log_order *found)
{
    known->from = found->from;
    if (format_is_before(known->destaged.segment, known->destaged.block, &found->destaged))
        known->destaged = found->destaged;
}

/* --- superblocks ---------------------------------------------------------------------------- */

void format_put_superblock(const struct superblock *s, void *block)
{
    struct cursor c = begin(block, SUPER_MAGIC);

    put(&c, s->generation, 8);
    put(&c, s->nonce, 8);
    put(&c, s->incarnation, 8);
    memcpy(c.p, s->disk_uuid, sizeof s->disk_uuid);
    c.p += sizeof s->disk_uuid;
    put(&c, s->disk_bytes, 8);
    put(&c, s->segment_blocks, 4);
    put(&c, s->segment_count, 4);
    put(&c, s->checkpoint_blocks, 4);
    put(&c, s->first_block, 4);
    put(&c, s->is_released, 8);
    put(&c, s->start.segment, 8);
    put(&c, s->start.block, 8);
    put(&c, s->start.sequence, 8);
    put(&c, s->end_sequence, 8);
    put(&c, s->tail, 8);
    put(&c, s->clean, 8);
    put(&c, s->entries, 8);
    put(&c, s->entries_crc, 4);
    put(&c, 0, 4);
    put_order(&c, &s->order);
    seal(block);
}

bool format_get_superblock(const void *block, struct superblock *s)
{
    struct cursor c;

    if (!open_block(block, SUPER_MAGIC, &c))
        return false;
    s->generation = get(&c, 8);
    s->nonce = get(&c, 8);
    s->incarnation = get(&c, 8);
    memcpy(s->disk_uuid, c.p, sizeof s->disk_uuid);
    c.p += sizeof s->disk_uuid;
    s->disk_bytes = get(&c, 8);
    s->segment_blocks = (uint32_t)get(&c, 4);
    s->segment_count = (uint32_t)get(&c, 4);
    s->checkpoint_blocks = (uint32_t)get(&c, 4);
    s->first_block = (uint32_t)get(&c, 4);
    s->is_released = get(&c, 8);
    s->start.segment = get(&c, 8);
    s->start.block = (uint32_t)get(&c, 8);
    s->start.sequence = get(&c, 8);
    s->end_sequence = get(&c, 8);
    s->tail = get(&c, 8);
    s->clean = get(&c, 8);
    s->entries = get(&c, 8);
    s->entries_crc = (uint32_t)get(&c, 4);
    c.p += 4;
    get_order(&c, &s->order);
    return true;
}

/* --- chunks --------------------------------------------------------------------------------- */

void format_put_chunk(const struct chunk_header *h, void *block)
{
    struct cursor c = begin(block, CHUNK_MAGIC);

    put(&c, h->nonce, 8);
    put(&c, h->incarnation, 8);
    put(&c, h->segment, 8);
    put(&c, h->sequence, 8);
    put(&c, h->durable, 8);
    put(&c, h->tail, 8);
    put(&c, h->clean, 8);
    put(&c, h->count, 4);
    put(&c, h->data_blocks, 4);
    for (uint32_t i = 0; i < h->count; i++) {
        put(&c, h->entry[i].block, 6);
        put(&c, h->entry[i].kind, 1);
        put(&c, 0xff, 1); /* sectors of the block that are valid: all */
        put(&c, h->entry[i].crc, 4);
        put(&c, 0, 4);
    }
    c.p = (uint8_t *)block + ORDER_OFFSET;
    put_order(&c, &h->order);
    put(&c, h->is_joined, 8);
    seal(block);
}

static bool is_sane(const struct chunk_header *h)
{
    uint32_t data = 0;

    for (uint32_t i = 0; i < h->count; i++) {
        if (h->entry[i].kind < CHUNK_DIRTY || h->entry[i].kind > CHUNK_DROP)
            return false;
        data += h->entry[i].kind != CHUNK_DROP;
    }
    return data == h->data_blocks && data <= CHUNK_DATA_MAX;
}

bool format_get_chunk(const void *block, struct chunk_header *h)
{
    struct cursor c;

    if (!open_block(block, CHUNK_MAGIC, &c))
        return false;
    h->nonce = get(&c, 8);
    h->incarnation = get(&c, 8);
    h->segment = get(&c, 8);
    h->sequence = get(&c, 8);
    h->durable = get(&c, 8);
    h->tail = get(&c, 8);
    h->clean = get(&c, 8);
    h->count = (uint32_t)get(&c, 4);
    h->data_blocks = (uint32_t)get(&c, 4);
    if (h->count > CHUNK_ENTRIES_MAX)
        return false;
    for (uint32_t i = 0; i < h->count; i++) {
        h->entry[i].block = get(&c, 6);
        h->entry[i].kind = (uint8_t)get(&c, 1);
        c.p++;
        h->entry[i].crc = (uint32_t)get(&c, 4);
        c.p += 4;
    }
    c.p = (uint8_t *)(uintptr_t)block + ORDER_OFFSET;
    get_order(&c, &h->order);
    h->is_joined = get(&c, 8);
    return is_sane(h);
}

#define DATA_BLOCKS_OFFSET 76
bool format_peek_chunk(const void *block, uint32_t *data_blocks)
{
    struct cursor c = {(uint8_t *)(uintptr_t)block};
    struct cursor count = {(uint8_t *)(uintptr_t)block + DATA_BLOCKS_OFFSET};

    *data_blocks = (uint32_t)get(&count, 4);
    return get(&c, 8) == CHUNK_MAGIC && *data_blocks <= CHUNK_DATA_MAX;
}

/* --- checkpoints ---------------------------------------------------------------------------- */

void format_put_checkpoint_entry(const struct checkpoint_entry *e,
                                 uint8_t out[CHECKPOINT_ENTRY_BYTES])
{
    struct cursor c = {out};

    put(&c, e->block, 6);
    put(&c, 0xff, 1);
    put(&c, (e->is_dirty ? 1u : 0u) | (e->is_bad ? 2u : 0u) | (unsigned)e->frequency << 2, 1);
    put(&c, e->slot, 4);
    put(&c, e->crc, 4);
}

void format_get_checkpoint_entry(const uint8_t in[CHECKPOINT_ENTRY_BYTES],
                                 struct checkpoint_entry *e)
{
    struct cursor c = {(uint8_t *)(uintptr_t)in};
    uint8_t bits;

    e->block = get(&c, 6);
    c.p++;
    bits = (uint8_t)get(&c, 1);
    e->is_dirty = bits & 1;
    e->is_bad = bits & 2;
    e->frequency = bits >> 2 & 3;
    e->slot = (uint32_t)get(&c, 4);
    e->crc = (uint32_t)get(&c, 4);
}

/* --- layout --------------------------------------------------------------------------------- */

#define SEGMENTS_WANTED 64u
#define SEGMENT_BLOCKS_LEAST 16u
#define SEGMENT_BLOCKS_MOST 256u
#define SEGMENTS_LEAST 8u

bool format_layout(uint64_t tier_bytes, struct superblock *s)
{
    uint64_t blocks = tier_bytes / BLOCK_BYTES, segment = SEGMENT_BLOCKS_MOST, left;

    if (tier_bytes < TIER_BYTES_MIN || blocks > UINT32_MAX)
        return false;
    while (segment > SEGMENT_BLOCKS_LEAST && blocks / segment < SEGMENTS_WANTED)
        segment /= 2;
    s->segment_blocks = (uint32_t)segment;
    s->checkpoint_blocks =
        (uint32_t)((blocks * CHECKPOINT_ENTRY_BYTES + BLOCK_BYTES - 1) / BLOCK_BYTES);
    left = 2 + 2 * (uint64_t)s->checkpoint_blocks;
    s->first_block = (uint32_t)((left + segment - 1) / segment * segment);
    s->segment_count = (uint32_t)((blocks - s->first_block) / segment);
    return s->segment_count >= SEGMENTS_LEAST;
}
