/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * index.c: linear probing, home positions in the order of the hash, and removal by moving later
 * entries back, so there are no tombstones and a lookup stops at the first hole.  Invariant: no
 * hole lies between an entry's home and its place.
 */
#include "index.h"

#include "world.h"

#include <errno.h>
#include <string.h>

#define SHARD_ENTRIES 4096u /* about so many in each */
#define USED 0x80u
#define DIRTY 0x01u
#define IN_RAM 0x02u
#define FREQUENCY_SHIFT 2
#define FREQUENCY_MASK 0x0cu
#define BAD 0x10u

struct entry {
    uint32_t block_low, place;
    uint16_t block_high;
    uint8_t sectors; /* 0xff: all valid; for formats to come */
    uint8_t bits;    /* 0: a hole */
};
_Static_assert(sizeof(struct entry) == 12, "the design counts on 12 bytes");

struct index_shard {
    struct entry *table;
    uint32_t slots, count;
};

static uint64_t hash(uint64_t block)
{
    uint64_t h = block + UINT64_C(0x9e3779b97f4a7c15);

    h = (h ^ (h >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    h = (h ^ (h >> 27)) * UINT64_C(0x94d049bb133111eb);
    return h ^ (h >> 31);
}

static struct index_shard *shard_of(const struct index *x, uint64_t h)
{
    return &x->shards[x->shard_bits ? h >> (64 - x->shard_bits) : 0];
}

static uint32_t home_of(const struct index_shard *s, uint64_t h)
{
    return (uint32_t)(((h & UINT32_MAX) * s->slots) >> 32);
}

static uint64_t block_of(const struct entry *e)
{
    return (uint64_t)e->block_high << 32 | e->block_low;
}

static uint32_t next_of(const struct index_shard *s, uint32_t i)
{
    return i + 1 == s->slots ? 0 : i + 1;
}

/* Where the block is, or the hole where it would go. */
static uint32_t find(const struct index_shard *s, uint64_t h, uint64_t block)
{
    uint32_t i = home_of(s, h);

    while (s->table[i].bits && block_of(&s->table[i]) != block)
        i = next_of(s, i);
    return i;
}

static int make_table(struct index_shard *s, uint32_t slots)
{
    s->table = cache_zalloc((size_t)slots * sizeof *s->table);
    s->slots = slots;
    s->count = 0;
    return s->table ? 0 : -ENOMEM;
}

int index_init(struct index *x, uint64_t capacity)
{
    unsigned bits = 0;
    uint64_t each;

    while (bits < 20 && capacity >> bits > SHARD_ENTRIES)
        bits++;
    *x = (struct index){.shard_bits = bits};
    x->shards = cache_zalloc((sizeof *x->shards) << bits);
    if (!x->shards)
        return -ENOMEM;
    each = ((capacity >> bits) + 1) * 4 / 3 + 8;
    for (unsigned i = 0; i < 1u << bits; i++)
        if (make_table(&x->shards[i], (uint32_t)each) < 0) {
            index_free(x);
            return -ENOMEM;
        }
    return 0;
}

void index_free(struct index *x)
{
    for (unsigned i = 0; x->shards && i < 1u << x->shard_bits; i++)
        cache_free(x->shards[i].table);
    cache_free(x->shards);
    *x = (struct index){.shards = NULL};
}

static void fill(struct entry *e, const struct index_item *item)
{
    *e = (struct entry){
        .block_low = (uint32_t)item->block,
        .block_high = (uint16_t)(item->block >> 32),
        .place = item->place,
        .sectors = 0xff,
        .bits = (uint8_t)(USED | (item->is_dirty ? DIRTY : 0) | (item->is_in_ram ? IN_RAM : 0) |
                          (item->is_bad ? BAD : 0) |
                          (item->frequency << FREQUENCY_SHIFT & FREQUENCY_MASK)),
    };
}

static void read_entry(const struct entry *e, struct index_item *out)
{
    *out = (struct index_item){
        .block = block_of(e),
        .place = e->place,
        .is_in_ram = e->bits & IN_RAM,
        .is_dirty = e->bits & DIRTY,
        .is_bad = e->bits & BAD,
        .frequency = (e->bits & FREQUENCY_MASK) >> FREQUENCY_SHIFT,
    };
}

bool index_get(const struct index *x, uint64_t block, struct index_item *out)
{
    uint64_t h = hash(block);
    const struct index_shard *s = shard_of(x, h);
    const struct entry *e = &s->table[find(s, h, block)];

    if (!e->bits)
        return false;
    read_entry(e, out);
    return true;
}

static int grow(struct index_shard *s)
{
    struct index_shard larger;

    if (make_table(&larger, s->slots + s->slots / 4 + 8) < 0)
        return -ENOMEM;
    for (uint32_t i = 0; i < s->slots; i++)
        if (s->table[i].bits) {
            uint64_t block = block_of(&s->table[i]);

            larger.table[find(&larger, hash(block), block)] = s->table[i];
        }
    larger.count = s->count;
    cache_free(s->table);
    *s = larger;
    return 0;
}

int index_put(struct index *x, const struct index_item *item)
{
    uint64_t h = hash(item->block);
    struct index_shard *s = shard_of(x, h);
    uint32_t i = find(s, h, item->block);

    if (!s->table[i].bits) {
        if (s->count >= s->slots - s->slots / 16) {
            if (grow(s) < 0)
                return -ENOMEM;
            i = find(s, h, item->block);
        }
        s->count++;
        x->count++;
    }
    fill(&s->table[i], item);
    return 0;
}

/* How far the entry at `at` is from its home, going round. */
static uint32_t distance(const struct index_shard *s, uint32_t at)
{
    uint32_t home = home_of(s, hash(block_of(&s->table[at])));

    return at >= home ? at - home : at + s->slots - home;
}

static void close_hole(struct index_shard *s, uint32_t hole)
{
    uint32_t steps = 0;

    for (uint32_t i = next_of(s, hole); s->table[i].bits; i = next_of(s, i)) {
        steps++;
        if (distance(s, i) < steps)
            continue; /* the hole lies before its home */
        s->table[hole] = s->table[i];
        hole = i;
        steps = 0;
    }
    memset(&s->table[hole], 0, sizeof s->table[hole]);
}

bool index_remove(struct index *x, uint64_t block)
{
    uint64_t h = hash(block);
    struct index_shard *s = shard_of(x, h);
    uint32_t i = find(s, h, block);

    if (!s->table[i].bits)
        return false;
    close_hole(s, i);
    s->count--;
    x->count--;
    return true;
}

void index_touch(struct index *x, uint64_t block)
{
    uint64_t h = hash(block);
    struct index_shard *s = shard_of(x, h);
    struct entry *e = &s->table[find(s, h, block)];
    unsigned f = (e->bits & FREQUENCY_MASK) >> FREQUENCY_SHIFT;

    if (e->bits && f < INDEX_FREQUENCY_MAX)
        e->bits = (uint8_t)((e->bits & ~FREQUENCY_MASK) | (f + 1) << FREQUENCY_SHIFT);
}

void index_set_clean(struct index *x, uint64_t block)
{
    uint64_t h = hash(block);
    struct index_shard *s = shard_of(x, h);

    s->table[find(s, h, block)].bits &= (uint8_t)~DIRTY;
}

void index_set_bad(struct index *x, uint64_t block)
{
    uint64_t h = hash(block);
    struct index_shard *s = shard_of(x, h);

    s->table[find(s, h, block)].bits |= BAD;
}

unsigned index_shard_count(const struct index *x)
{
    return 1u << x->shard_bits;
}

unsigned index_shard_entries(const struct index *x, unsigned shard)
{
    return x->shards[shard].count;
}

void index_for_shard(const struct index *x, unsigned shard,
                     void (*fn)(const struct index_item *item, void *arg), void *arg)
{
    const struct index_shard *s = &x->shards[shard];

    for (uint32_t i = 0; i < s->slots; i++)
        if (s->table[i].bits) {
            struct index_item item;

            read_entry(&s->table[i], &item);
            fn(&item, arg);
        }
}

uint64_t index_bytes(const struct index *x)
{
    uint64_t bytes = 0;

    for (unsigned i = 0; i < 1u << x->shard_bits; i++)
        bytes += (uint64_t)x->shards[i].slots * sizeof(struct entry) + sizeof(struct index_shard);
    return bytes;
}
