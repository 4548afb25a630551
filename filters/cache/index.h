/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * index: where each cached block of 4 KiB is: in a frame of RAM or in a slot of the log.
 *
 * 12 bytes an entry, open addressing, filled to at most three quarters: 16 bytes of RAM for each
 * block that the cache can hold.  Sharded by a hash of the block's number, so that a checkpoint can
 * copy one shard at a time and nobody waits for the whole.  Pure: no I/O; the caller's mutex guards
 * it.  Block numbers have 48 bits, slots and frames 32.
 */
#ifndef SLUICE_CACHE_INDEX_H
#define SLUICE_CACHE_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define INDEX_FREQUENCY_MAX 3u

struct index_item {
    uint64_t block;
    uint32_t place; /* slot of the log, or frame of RAM */
    bool is_in_ram;
    bool is_dirty; /* newer than the backing; never in RAM alone */
    bool is_bad;   /* what its slot holds is of no use */
    uint8_t frequency;
};

struct index_shard;
struct index {
    struct index_shard *shards;
    unsigned shard_bits;
    uint64_t count; /* entries now */
};

/* Made for so many blocks; a shard that fills up nevertheless grows.  0 or -ENOMEM. */
int index_init(struct index *x, uint64_t capacity);
void index_free(struct index *x);
bool index_get(const struct index *x, uint64_t block, struct index_item *out);
/* Adds it or replaces the block's entry.  0 or -ENOMEM: then nothing has changed. */
int index_put(struct index *x, const struct index_item *item);
/* False: there was none. */
bool index_remove(struct index *x, uint64_t block);
/* One use more, up to INDEX_FREQUENCY_MAX. */
void index_touch(struct index *x, uint64_t block);
/* In place: the entry is known to be there. */
void index_set_clean(struct index *x, uint64_t block);
void index_set_bad(struct index *x, uint64_t block);

unsigned index_shard_count(const struct index *x);
unsigned index_shard_entries(const struct index *x, unsigned shard);
/* Every entry of one shard; fn must not change the index. */
void index_for_shard(const struct index *x, unsigned shard,
                     void (*fn)(const struct index_item *item, void *arg), void *arg);
/* Bytes it takes now. */
uint64_t index_bytes(const struct index *x);

#endif
