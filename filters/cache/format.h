/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * format: what lies on a tier, byte by byte; docs/cache-format.md is the same in words.  All
 * numbers are little-endian.  Pure: turns structs into blocks of 4 KiB and back, and says no to
 * what is not whole.
 *
 *     block 0, 1           superblocks A and B; the valid one with the larger generation counts
 *     checkpoints A and B  a copy of the index each, named by the superblock of that letter
 *     segments             the log: a ring of segments, each a row of chunks
 *
 * A chunk is a header block, and the data blocks that its entries of kind DIRTY and CLEAN describe,
 * in their order.
 */
#ifndef SLUICE_CACHE_FORMAT_H
#define SLUICE_CACHE_FORMAT_H

#include <stdbool.h>
#include <stdint.h>

#define BLOCK_BYTES 4096u
#define FORMAT_VERSION 2u
#define CHUNK_ENTRIES_MAX 248u
#define CHUNK_DATA_MAX 64u

/* Where something is: the segment's number since the tier was made (its place is that modulo the
 * count of segments), the block within it, and the number of the next chunk. */
struct log_position {
    uint64_t segment;
    uint64_t sequence;
    uint32_t block;
};

/* How far the backing is an earlier state of the disk: with `ordered`, else all zero. */
struct log_order {
    struct log_position destaged; /* DIRTY entries in chunks before this are in the backing */
    uint64_t from; /* it holds when all chunks before this one are; 0: this run is not ordered */
};

struct superblock {
    uint64_t generation;  /* of superblocks */
    uint64_t nonce;       /* of this making of the tier */
    uint64_t incarnation; /* of this opening of it: chunks of an earlier one are no more added */
    uint8_t disk_uuid[16];
    uint64_t disk_bytes;
    uint32_t segment_blocks, segment_count;
    uint32_t checkpoint_blocks; /* of one checkpoint */
    uint32_t first_block;       /* where segments begin */
    bool is_released;           /* the disk has left: nothing here counts */
    struct log_position start;  /* from here on chunks are to be replayed */
    uint64_t
        end_sequence;     /* the checkpoint knows of all chunks before this one; they are durable */
    uint64_t tail, clean; /* segments, see struct chunk_header */
    uint64_t entries;     /* of the checkpoint */
    uint32_t entries_crc;
    struct log_order order;
};

enum chunk_kind {
    CHUNK_DIRTY = 1, /* newer than the backing */
    CHUNK_CLEAN = 2, /* the same as the backing */
    CHUNK_DROP = 3   /* no data: what stands earlier for this block does not count any more */
};
struct chunk_entry {
    uint64_t block;
    uint8_t kind;
    uint32_t crc; /* of the data block */
};
struct chunk_header {
    uint64_t nonce, incarnation;
    uint64_t segment;  /* the number of the one it stands in */
    uint64_t sequence; /* one more than that of the chunk before */
    uint64_t durable;  /* all chunks with smaller numbers were durable when this one was made */
    uint64_t tail;     /* segments before this one do not count any more */
    uint64_t clean;    /* DIRTY entries in segments before this one are clean */
    struct log_order order;
    bool is_joined; /* no flush lies between the chunk before and this one */
    uint32_t count, data_blocks;
    struct chunk_entry entry[CHUNK_ENTRIES_MAX];
};

/* A cached block in a checkpoint: 16 bytes. */
struct checkpoint_entry {
    uint64_t block;
    uint32_t slot;
    uint32_t crc; /* of the data block */
    bool is_dirty;
    bool is_bad; /* its data is not what the CRC says */
    uint8_t frequency;
};
#define CHECKPOINT_ENTRY_BYTES 16u

/* Each writes a whole block of 4 KiB. */
/* This place of the log is before that one; and: an order that is found later than the known one,
 * which says whether the last run was ordered; the furthest position counts. */
bool format_is_before(uint64_t segment, uint32_t block, const struct log_position *at);
void format_add_order(struct log_order *known, const struct log_order *found);

void format_put_superblock(const struct superblock *s, void *block);
void format_put_chunk(const struct chunk_header *h, void *block);
/* False: not one, not whole, or of another version. */
bool format_get_superblock(const void *block, struct superblock *s);
bool format_get_chunk(const void *block, struct chunk_header *h);
/* It looks like a chunk's header with so many blocks of data: not checked whether it is whole. */
bool format_peek_chunk(const void *block, uint32_t *data_blocks);
/* By its magic alone: whatever else is wrong with it. */
bool format_is_super_of_any_version(const void *block);
/* A superblock of a version that is not ours. */
bool format_is_foreign_version(const void *block);
void format_put_checkpoint_entry(const struct checkpoint_entry *e,
                                 uint8_t out[CHECKPOINT_ENTRY_BYTES]);
void format_get_checkpoint_entry(const uint8_t in[CHECKPOINT_ENTRY_BYTES],
                                 struct checkpoint_entry *e);

/* How a tier of so many bytes is divided.  False: too small. */
bool format_layout(uint64_t tier_bytes, struct superblock *s);
#define TIER_BYTES_MIN (1u << 20)

#endif
