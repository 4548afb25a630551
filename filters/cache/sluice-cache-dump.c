/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sluice-cache-dump: prints what is on a tier of the cache, without a gateway and without changing
 * anything, as docs/cache-format.md tells how to read one.  For a tier whose gateway is gone.
 *
 *     sluice-cache-dump FILE
 *
 * The superblock as `name value`, where the log ends, then a line `block N slot N dirty|clean` for
 * each cached block, in the order of the disk, with the word `damaged` where the 4 KiB of its slot
 * are not what was written there.  Exit code 1 when it is no tier, or one that has lost what had
 * been durable.
 */
#include "common/crc.h"
#include "format.h"
#include "index.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct tier {
    int fd;
    struct superblock super;
    struct log_position at; /* where the next chunk is expected */
    uint64_t tail, clean;
    struct log_order order; /* with the furthest position */
    struct index map;
    uint32_t *crc; /* of each slot of the log, from first_block on */
    /* The chunks' entries, kept until the tail and the clean mark are known. */
    struct found {
        struct index_item item;
        uint64_t segment;
        uint32_t crc;
        uint8_t kind;
    } * found;
    size_t count, capacity;
    struct chunk_header header;
    uint8_t data[(1 + CHUNK_DATA_MAX) * BLOCK_BYTES];
};

static void die(const char *what)
{
    fprintf(stderr, "sluice-cache-dump: %s\n", what);
    exit(1);
}

static void read_blocks(const struct tier *t, uint64_t block, void *to, size_t bytes)
{
    ssize_t n = pread(t->fd, to, bytes, (off_t)(block * BLOCK_BYTES));

    if (n < 0)
        die(strerror(errno));
    if ((size_t)n < bytes)
        die("the file is shorter than its superblock says");
}

static uint32_t slot_of(const struct tier *t, uint64_t segment, uint32_t block)
{
    const struct superblock *s = &t->super;

    return s->first_block + (uint32_t)(segment % s->segment_count) * s->segment_blocks + block;
}

static uint32_t slots_of(const struct superblock *s)
{
    return s->segment_blocks * s->segment_count;
}

/* --- superblocks ---------------------------------------------------------------------------- */

static bool is_possible(const struct superblock *s)
{
    return s->segment_blocks >= 2 && s->segment_count > 0 &&
           s->entries <= (uint64_t)s->checkpoint_blocks * (BLOCK_BYTES / CHECKPOINT_ENTRY_BYTES);
}

static void read_super(struct tier *t)
{
    struct superblock s;
    bool is_found = false;

    read_blocks(t, 0, t->data, 2 * (size_t)BLOCK_BYTES);
    for (unsigned i = 0; i < 2; i++) {
        if (format_is_foreign_version(t->data + i * BLOCK_BYTES))
            die("a tier of another version");
        if (format_get_superblock(t->data + i * BLOCK_BYTES, &s) &&
            (!is_found || s.generation > t->super.generation)) {
            t->super = s;
            is_found = true;
        }
    }
    if (!is_found || !is_possible(&t->super))
        die("not a tier of the cache");
}

/* A file that was cut off may still hold all that would be read. */
static void refuse_if_cut(const struct tier *t)
{
    uint64_t end = ((uint64_t)t->super.first_block + slots_of(&t->super)) * BLOCK_BYTES;
    off_t size = lseek(t->fd, 0, SEEK_END);

    if (size < 0)
        die(strerror(errno));
    if ((uint64_t)size < end)
        die("the file is shorter than its superblock says");
}

static void print_super(const struct superblock *s)
{
    const struct {
        const char *name;
        uint64_t value;
    } lines[] = {
        {"version", FORMAT_VERSION},
        {"generation", s->generation},
        {"nonce", s->nonce},
        {"incarnation", s->incarnation},
        {"disk_bytes", s->disk_bytes},
        {"segment_blocks", s->segment_blocks},
        {"segment_count", s->segment_count},
        {"checkpoint_blocks", s->checkpoint_blocks},
        {"first_block", s->first_block},
        {"released", s->is_released},
        {"start_segment", s->start.segment},
        {"start_block", s->start.block},
        {"start_sequence", s->start.sequence},
        {"end_sequence", s->end_sequence},
        {"checkpoint_entries", s->entries},
    };

    printf("disk ");
    for (unsigned i = 0; i < sizeof s->disk_uuid; i++)
        printf("%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", s->disk_uuid[i]);
    printf("\n");
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        printf("%s %" PRIu64 "\n", lines[i].name, lines[i].value);
}

/* --- the log -------------------------------------------------------------------------------- */

static bool has_good_data(const struct tier *t)
{
    const uint8_t *data = t->data + BLOCK_BYTES;

    for (uint32_t i = 0; i < t->header.count; i++) {
        if (t->header.entry[i].kind == CHUNK_DROP)
            continue;
        if (crc_add(0, data, BLOCK_BYTES) != t->header.entry[i].crc)
            return false;
        data += BLOCK_BYTES;
    }
    return true;
}

/* A header of this opening of the tier, at this place? */
static bool get_header(struct tier *t, uint64_t segment, uint32_t block)
{
    struct chunk_header *h = &t->header;

    read_blocks(t, slot_of(t, segment, block), t->data, BLOCK_BYTES);
    return format_get_chunk(t->data, h) && h->nonce == t->super.nonce &&
           h->incarnation == t->super.incarnation && h->segment == segment &&
           h->data_blocks < t->super.segment_blocks - block;
}

static bool is_next(struct tier *t, uint64_t segment, uint32_t block)
{
    return block < t->super.segment_blocks && get_header(t, segment, block) &&
           t->header.sequence == t->at.sequence;
}

/* The header with the next number is in t->header, and where it stands in *at. */
static bool find_next(struct tier *t, struct log_position *at)
{
    *at = t->at;
    if (is_next(t, at->segment, at->block))
        return true;
    *at = (struct log_position){.segment = at->segment + 1, .sequence = at->sequence};
    return is_next(t, at->segment, 0);
}

static void step_over(struct tier *t, const struct log_position *at)
{
    t->at = (struct log_position){.segment = at->segment,
                                  .block = at->block + 1 + t->header.data_blocks,
                                  .sequence = t->header.sequence + 1};
}

/* Which chunks were durable, as the headers from here on say. */
static uint64_t durable_sequence(struct tier *t)
{
    const struct log_position start = t->at;
    struct log_position at;
    uint64_t durable = t->super.end_sequence;

    while (find_next(t, &at) && at.segment < start.segment + t->super.segment_count) {
        durable = t->header.durable > durable ? t->header.durable : durable;
        step_over(t, &at);
    }
    t->at = start;
    return durable;
}

/* Wrong data is that of a torn chunk, which is not there, or has rotted since it was durable. */
static bool counts(struct tier *t, const struct log_position *at)
{
    uint64_t sequence = t->header.sequence;
    struct log_position again;

    read_blocks(t, (uint64_t)slot_of(t, at->segment, at->block) + 1, t->data + BLOCK_BYTES,
                (size_t)t->header.data_blocks * BLOCK_BYTES);
    return has_good_data(t) || (sequence < durable_sequence(t) && find_next(t, &again));
}

static struct found *add_found(struct tier *t)
{
    if (t->count == t->capacity) {
        t->capacity = t->capacity ? t->capacity * 2 : 1024;
        t->found = realloc(t->found, t->capacity * sizeof *t->found);
        if (!t->found)
            die("no memory");
    }
    return &t->found[t->count++];
}

static void keep_chunk(struct tier *t, const struct log_position *at)
{
    const struct chunk_header *h = &t->header;
    uint32_t slot = slot_of(t, at->segment, at->block) + 1;

    for (uint32_t i = 0; i < h->count; i++) {
        const struct chunk_entry *e = &h->entry[i];
        struct index_item item = {
            .block = e->block, .place = slot, .is_dirty = e->kind == CHUNK_DIRTY};

        *add_found(t) = (struct found){item, at->segment, e->crc, e->kind};
        slot += e->kind != CHUNK_DROP;
    }
    t->tail = h->tail > t->tail ? h->tail : t->tail;
    t->clean = h->clean > t->clean ? h->clean : t->clean;
    format_add_order(&t->order, &h->order);
    step_over(t, at);
}

static bool next_chunk(struct tier *t)
{
    struct log_position at;

    if (!find_next(t, &at) || !counts(t, &at))
        return false;
    keep_chunk(t, &at);
    return true;
}

/* A chunk behind the end that says that what stood there was durable. */
static bool has_lost_a_chunk(struct tier *t)
{
    if (t->at.sequence < t->super.end_sequence)
        return true;
    for (uint64_t segment = t->at.segment; segment < t->at.segment + 3; segment++)
        for (uint32_t b = segment == t->at.segment ? t->at.block : 0; b < t->super.segment_blocks;
             b++)
            if (get_header(t, segment, b) && t->header.durable > t->at.sequence)
                return true;
    return false;
}

/* --- the map -------------------------------------------------------------------------------- */

static void put(struct tier *t, struct index_item item, uint64_t segment, uint32_t crc)
{
    uint32_t block = (item.place - t->super.first_block) % t->super.segment_blocks;

    if (segment < t->clean || format_is_before(segment, block, &t->order.destaged))
        item.is_dirty = false;
    t->crc[item.place - t->super.first_block] = crc;
    if (segment < t->tail)
        index_remove(&t->map, item.block);
    else if (index_put(&t->map, &item) < 0)
        die("no memory");
}

/* Its number: of those with its place the one that was in the ring when the checkpoint was made. */
static uint64_t segment_of_slot(const struct superblock *s, uint32_t slot)
{
    uint64_t place = (slot - s->first_block) / s->segment_blocks, count = s->segment_count;
    uint64_t segment = s->tail / count * count + place;

    return segment < s->tail ? segment + count : segment;
}

static void put_checkpoint_entry(struct tier *t, const uint8_t *from)
{
    const struct superblock *s = &t->super;
    struct checkpoint_entry e;

    format_get_checkpoint_entry(from, &e);
    if (e.slot < s->first_block || e.slot >= s->first_block + slots_of(s))
        die("its checkpoint is damaged");
    put(t,
        (struct index_item){
            .block = e.block, .place = e.slot, .is_dirty = e.is_dirty, .frequency = e.frequency},
        segment_of_slot(s, e.slot), e.crc);
}

static void load_checkpoint(struct tier *t)
{
    const struct superblock *s = &t->super;
    uint64_t block = 2 + s->generation % 2 * (uint64_t)s->checkpoint_blocks;
    uint64_t left = s->entries * CHECKPOINT_ENTRY_BYTES;
    uint32_t crc = 0;

    for (; left; block++) {
        uint32_t bytes = left < BLOCK_BYTES ? (uint32_t)left : BLOCK_BYTES;

        read_blocks(t, block, t->data, BLOCK_BYTES);
        crc = crc_add(crc, t->data, bytes);
        for (uint32_t at = 0; at < bytes; at += CHECKPOINT_ENTRY_BYTES)
            put_checkpoint_entry(t, t->data + at);
        left -= bytes;
    }
    if (crc != s->entries_crc)
        die("its checkpoint is damaged");
}

static void replay(struct tier *t)
{
    for (size_t i = 0; i < t->count; i++) {
        const struct found *f = &t->found[i];

        if (f->kind == CHUNK_DROP)
            index_remove(&t->map, f->item.block);
        else
            put(t, f->item, f->segment, f->crc);
    }
}

static void read_tier(struct tier *t)
{
    const struct superblock *s = &t->super;

    t->at = s->start;
    t->tail = s->tail;
    t->clean = s->clean;
    t->order = s->order;
    while (next_chunk(t) && t->at.segment < s->start.segment + s->segment_count)
        ;
    if (has_lost_a_chunk(t))
        die("it has lost a part of its log that had been durable");
    t->crc = calloc(slots_of(s), sizeof *t->crc);
    if (!t->crc || index_init(&t->map, s->entries + t->count + 1) < 0)
        die("no memory");
    load_checkpoint(t);
    replay(t);
}

/* --- printing ------------------------------------------------------------------------------- */

static void print_marks(const struct tier *t)
{
    const struct log_order *o = &t->order;

    printf("tail %" PRIu64 "\nclean %" PRIu64 "\nlog_end_sequence %" PRIu64 "\n", t->tail, t->clean,
           t->at.sequence);
    printf("order_segment %" PRIu64 "\norder_block %" PRIu32 "\norder_sequence %" PRIu64 "\n",
           o->destaged.segment, o->destaged.block, o->destaged.sequence);
    printf("order_from %" PRIu64 "\n", o->from);
}

struct list {
    struct index_item *items;
    size_t count;
};

static void collect(const struct index_item *item, void *arg)
{
    struct list *list = arg;

    list->items[list->count++] = *item;
}

static int by_block(const void *a, const void *b)
{
    const struct index_item *x = a, *y = b;

    return x->block < y->block ? -1 : x->block > y->block;
}

static bool is_whole(struct tier *t, uint32_t slot)
{
    read_blocks(t, slot, t->data, BLOCK_BYTES);
    return crc_add(0, t->data, BLOCK_BYTES) == t->crc[slot - t->super.first_block];
}

static void print_map(struct tier *t)
{
    struct list list = {calloc(t->map.count + 1, sizeof *list.items), 0};

    if (!list.items)
        die("no memory");
    for (unsigned i = 0; i < index_shard_count(&t->map); i++)
        index_for_shard(&t->map, i, collect, &list);
    qsort(list.items, list.count, sizeof *list.items, by_block);
    for (size_t i = 0; i < list.count; i++)
        printf("block %" PRIu64 " slot %" PRIu32 " %s%s\n", list.items[i].block,
               list.items[i].place, list.items[i].is_dirty ? "dirty" : "clean",
               is_whole(t, list.items[i].place) ? "" : " damaged");
    free(list.items);
}

int main(int argc, char **argv)
{
    static struct tier t;

    if (argc != 2 || argv[1][0] == '-') {
        fprintf(stderr, "usage: sluice-cache-dump FILE\n");
        return 2;
    }
    t.fd = open(argv[1], O_RDONLY | O_CLOEXEC);
    if (t.fd < 0)
        die(strerror(errno));
    read_super(&t);
    refuse_if_cut(&t);
    print_super(&t.super);
    if (!t.super.is_released) {
        read_tier(&t);
        print_marks(&t);
        print_map(&t);
        index_free(&t.map);
        free(t.found);
        free(t.crc);
    }
    close(t.fd);
    return fflush(stdout) == 0 ? 0 : 1;
}
