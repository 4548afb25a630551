/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * recover.c: from a tier to an index, after whatever end the last run came to.
 *
 *     1. the newer superblock names a checkpoint and where its replay begins
 *     2. the chunks' headers from there on are read, in order, until one is missing or of an
 *        earlier incarnation; then the data of those that nobody says were durable, until one is
 *        torn. The last header says what is behind the tail and what is clean
 *     3. the checkpoint's entries fill the index, then the chunks' entries replace them
 *     4. a new checkpoint is written, with a new incarnation, before anything else is (R13)
 *
 * Nothing is changed before step 4, which takes effect with one superblock: a recovery that is
 * killed at any point is begun anew by the next.  Chunks that were written after the last good one
 * have an old incarnation from then on and are never taken for new ones (R11).
 *
 * A tail that is torn is what a power cut leaves.  But when a later chunk says that the missing one
 * had been durable, the storage has lost what it promised to keep: when the header is gone the disk
 * is refused (R10); when data alone is wrong, reading those blocks will tell.
 */
#include "common/crc.h"
#include "recover.h"

#include <errno.h>

#define SEARCH_SEGMENTS 3u /* for chunks behind a missing one: its segment and so many less one */

struct found_entry {
    uint64_t block, segment;
    uint32_t slot, crc;
    uint8_t kind;
};

struct array {
    void *items;
    size_t count, capacity;
};
/* In the order of the log. */
struct found_chunk {
    struct log_position expected, at; /* behind the one before, and where it stands */
    uint64_t tail, clean;
    struct log_order order;
    size_t first_entry;
};

struct scan {
    struct cache *c;
    struct log_position at;
    uint64_t end_sequence; /* chunks from this one on do not count */
    bool is_of_failed;     /* nor does what the note does not name, step-down.c */
    uint64_t tail, clean;
    struct log_order order;       /* with the furthest position */
    struct array chunks, entries; /* found_chunk, found_entry */
    struct reader reader;
    const uint8_t *segment_data; /* the one that was wanted last */
    struct chunk_header header;
    uint64_t proved; /* chunks before this one were durable, as others say */
};

/* --- what is found ------------------------------------------------------------------------------
 */

/* Room for one more, at its end; NULL: there is none. */
static void *add(struct array *a, size_t item_bytes)
{
    size_t capacity = a->capacity ? a->capacity * 2 : 1024;
    void *more;

    if (a->count == a->capacity) {
        more = cache_zalloc(capacity * item_bytes);
        if (!more)
            return NULL;
        if (a->count)
            memcpy(more, a->items, a->count * item_bytes);
        cache_free(a->items);
        a->items = more;
        a->capacity = capacity;
    }
    return (char *)a->items + item_bytes * a->count++;
}

static struct found_entry *entry_of(const struct scan *s, size_t i)
{
    return (struct found_entry *)s->entries.items + i;
}

static struct found_chunk *chunk_of(const struct scan *s, size_t i)
{
    return (struct found_chunk *)s->chunks.items + i;
}

/* --- headers ------------------------------------------------------------------------------------
 */

static int load(struct scan *s, uint64_t segment, enum part part)
{
    return reader_load(&s->reader, segment, part, &s->segment_data);
}

static bool is_of_this_run(const struct scan *s)
{
    const struct superblock *super = &s->c->log.super;

    return s->header.nonce == super->nonce && s->header.incarnation == super->incarnation;
}

/* The header of the chunk with the next number, here? */
static bool is_next(struct scan *s, uint64_t segment, uint32_t block)
{
    const struct superblock *super = &s->c->log.super;

    return block < super->segment_blocks &&
           format_get_chunk(s->segment_data + (uint64_t)block * BLOCK_BYTES, &s->header) &&
           is_of_this_run(s) && s->header.segment == segment &&
           s->header.sequence == s->at.sequence &&
           block + 1 + s->header.data_blocks <= super->segment_blocks;
}

/* 1: the next header is in s->header, and where it stands in *at; 0: there is none. */
static int find_next(struct scan *s, struct log_position *at)
{
    int r;

    if (s->at.sequence >= s->end_sequence)
        return 0;
    r = load(s, s->at.segment, PART_HEADERS);
    *at = s->at;
    if (r == 0 && is_next(s, at->segment, at->block))
        return 1;
    *at = (struct log_position){s->at.segment + 1, s->at.sequence, 0};
    if (r == 0)
        r = load(s, at->segment, PART_HEADERS);
    return r == 0 && is_next(s, at->segment, 0) ? 1 : r;
}

static void step_over(struct scan *s, const struct log_position *at)
{
    s->at = (struct log_position){.segment = at->segment,
                                  .block = at->block + 1 + s->header.data_blocks,
                                  .sequence = s->header.sequence + 1};
}

static int keep_entries(struct scan *s, const struct log_position *at)
{
    uint32_t slot = log_slot(&s->c->log, at->segment, at->block) + 1;

    for (uint32_t i = 0; i < s->header.count; i++) {
        const struct chunk_entry *e = &s->header.entry[i];
        struct found_entry *found = add(&s->entries, sizeof *found);

        if (!found)
            return -ENOMEM;
        *found = (struct found_entry){e->block, at->segment, slot, e->crc, e->kind};
        slot += e->kind != CHUNK_DROP;
    }
    return 0;
}

static int keep_chunk(struct scan *s, const struct log_position *at)
{
    struct found_chunk *chunk = add(&s->chunks, sizeof *chunk);

    if (!chunk)
        return -ENOMEM;
    *chunk = (struct found_chunk){.expected = s->at,
                                  .at = *at,
                                  .tail = s->header.tail,
                                  .clean = s->header.clean,
                                  .order = s->header.order,
                                  .first_entry = s->entries.count};
    s->proved = MAX(s->proved, s->header.durable);
    step_over(s, at);
    return keep_entries(s, at);
}

/* All that are there by their headers; not yet whether their data is. */
static int find_chunks(struct scan *s)
{
    uint64_t end = s->at.segment + s->c->log.super.segment_count;
    struct log_position at;
    int r;

    s->proved = s->c->log.super.end_sequence;
    while ((r = find_next(s, &at)) > 0 && at.segment < end)
        if (keep_chunk(s, &at) < 0)
            return -ENOMEM;
    return MIN(r, 0);
}

/* --- which of them count ------------------------------------------------------------------------
 */

static size_t entries_end(const struct scan *s, size_t i)
{
    return i + 1 < s->chunks.count ? chunk_of(s, i + 1)->first_entry : s->entries.count;
}

/* 1 or 0; or it cannot be read. */
static int data_is_whole(struct scan *s, size_t i)
{
    const struct found_chunk *chunk = chunk_of(s, i);
    int r = load(s, chunk->at.segment, PART_ALL);
    const uint8_t *data = s->segment_data + ((uint64_t)chunk->at.block + 1) * BLOCK_BYTES;

    for (size_t k = chunk->first_entry; k < entries_end(s, i) && r == 0; k++) {
        const struct found_entry *e = entry_of(s, k);

        if (e->kind == CHUNK_DROP)
            continue;
        if (crc_add(0, data, BLOCK_BYTES) != e->crc && !MUTANT(10))
            return 0;
        data += BLOCK_BYTES;
    }
    return r < 0 ? r : 1;
}

/* Here the log ends. */
static void cut(struct scan *s, size_t i)
{
    s->at = chunk_of(s, i)->expected;
    s->entries.count = chunk_of(s, i)->first_entry;
    s->chunks.count = i;
}

/* A chunk whose data is wrong is torn, and not there; or it has been durable and has rotted since.
 * Then it counts, and who reads the damaged blocks will find out: so its data is not looked at. */
static int cut_torn(struct scan *s)
{
    for (size_t i = 0; i < s->chunks.count; i++) {
        int whole = chunk_of(s, i)->at.sequence < s->proved ? 1 : data_is_whole(s, i);

        if (whole < 0)
            return whole;
        if (!whole)
            cut(s, i);
    }
    return 0;
}

static void note_marks(struct scan *s)
{
    for (size_t i = 0; i < s->chunks.count; i++) {
        const struct found_chunk *chunk = chunk_of(s, i);

        s->tail = MAX(s->tail, chunk->tail);
        s->clean = MAX(s->clean, chunk->clean);
        format_add_order(&s->order, &chunk->order);
    }
}

/* --- what must not be missing
 * --------------------------------------------------------------------- */

static bool proves_a_loss(struct scan *s, uint64_t segment, uint32_t block)
{
    return format_get_chunk(s->segment_data + (uint64_t)block * BLOCK_BYTES, &s->header) &&
           is_of_this_run(s) && s->header.segment == segment && s->header.durable > s->at.sequence;
}

static int search_behind(struct scan *s, struct sluice_error *error)
{
    const struct superblock *super = &s->c->log.super;

    if (s->at.sequence < super->end_sequence)
        return sluice_refuse(s->c->disk, error, EIO,
                             "%s has lost chunk %llu of its log, which was durable (a fault of the "
                             "storage); nothing was changed",
                             s->c->log.path, (unsigned long long)s->at.sequence);
    for (uint32_t i = 0; i < SEARCH_SEGMENTS; i++) {
        int r = load(s, s->at.segment + i, PART_ALL);

        if (r < 0)
            return sluice_refuse(s->c->disk, error, -r, "%s cannot be read: %s", s->c->log.path,
                                 strerror(-r));
        for (uint32_t block = i ? 0 : s->at.block; block < super->segment_blocks; block++)
            if (proves_a_loss(s, s->at.segment + i, block))
                return sluice_refuse(s->c->disk, error, EIO,
                                     "%s has lost chunk %llu of its log, though chunk %llu says it "
                                     "was durable (a fault of the storage); nothing was changed",
                                     s->c->log.path, (unsigned long long)s->at.sequence,
                                     (unsigned long long)s->header.sequence);
    }
    return 0;
}

static int scan_chunks(struct scan *s, struct sluice_error *error)
{
    int r = find_chunks(s);

    if (r == 0)
        r = cut_torn(s);
    note_marks(s);
    if (r < 0)
        return sluice_refuse(s->c->disk, error, -r, "%s cannot be read: %s", s->c->log.path,
                             strerror(-r));
    return search_behind(s, error);
}

/* --- filling the index
 * ------------------------------------------------------------------------------ */

/* It was destaged in order. */
static bool is_passed(const struct scan *s, uint64_t segment, uint32_t slot)
{
    const struct superblock *super = &s->c->log.super;

    return format_is_before(segment, (slot - super->first_block) % super->segment_blocks,
                            &s->order.destaged);
}

static int put_item(struct scan *s, const struct index_item *item, uint64_t segment)
{
    struct cache *c = s->c;
    struct index_item old, new = *item;

    new.is_dirty = item->is_dirty &&segment >= s->clean && !is_passed(s, segment, item->place);
    new.is_bad = item->is_bad && !new.is_dirty; /* the destage will see */
    if (index_get(&c->index, item->block, &old))
        cache_forget(c, &old);
    if (index_put(&c->index, &new) < 0)
        return -ENOMEM;
    log_count_entries(c, new.place, 1);
    if (new.is_dirty) {
        c->log.dirty_in[log_place_of_slot(&c->log, new.place)]++;
        c->log.dirty_blocks++;
        sluice_count(c->disk, N_DIRTY, BLOCK_BYTES);
    }
    return 0;
}

/* What stands in this segment, of this kind. */
static bool counts_still(const struct scan *s, uint64_t block, bool is_dirty, uint64_t segment,
                         uint32_t slot)
{
    if (segment < s->tail)
        return false;
    return !s->is_of_failed || (is_dirty && segment >= s->clean && !is_passed(s, segment, slot) &&
                                note_has(s->c, block));
}

/* Its number: of those with its place the one that was in the ring when the checkpoint was made. */
static uint64_t segment_of_slot(const struct log *log, uint32_t slot)
{
    uint64_t tail = log->super.tail, count = log->super.segment_count;
    uint64_t segment = tail / count * count + log_place_of_slot(log, slot);

    return segment < tail ? segment + count : segment;
}

static int put_checkpoint_entry(struct scan *s, const uint8_t *from)
{
    const struct superblock *super = &s->c->log.super;
    struct checkpoint_entry e;
    uint64_t segment;
    struct index_item item;

    format_get_checkpoint_entry(from, &e);
    if (e.slot < super->first_block ||
        e.slot >= super->first_block + super->segment_blocks * super->segment_count)
        return -EIO;
    segment = segment_of_slot(&s->c->log, e.slot);
    if (!counts_still(s, e.block, e.is_dirty, segment, e.slot))
        return 0;
    *log_crc(&s->c->log, e.slot) = e.crc;
    item = (struct index_item){.block = e.block,
                               .place = e.slot,
                               .is_dirty = e.is_dirty,
                               .is_bad = e.is_bad,
                               .frequency = e.frequency};
    return put_item(s, &item, segment);
}

#define READ_BYTES (1u << 20)

static int load_checkpoint(struct scan *s)
{
    const struct superblock *super = &s->c->log.super;
    uint64_t left = super->entries * CHECKPOINT_ENTRY_BYTES;
    uint64_t block = 2 + (super->generation % 2) * (uint64_t)super->checkpoint_blocks;
    uint8_t *buffer = cache_alloc_pages(READ_BYTES);
    uint32_t crc = 0;
    int r = buffer ? 0 : -ENOMEM;

    if (left > (uint64_t)super->checkpoint_blocks * BLOCK_BYTES)
        r = -EIO;
    while (left && r == 0) {
        uint32_t bytes = (uint32_t)MIN(left, READ_BYTES);

        r = log_io_wait(s->c, SLUICE_OP_READ, block, buffer,
                        (bytes + BLOCK_BYTES - 1) / BLOCK_BYTES * BLOCK_BYTES);
        crc = crc_add(crc, buffer, bytes);
        for (uint32_t at = 0; at < bytes && r == 0; at += CHECKPOINT_ENTRY_BYTES)
            r = put_checkpoint_entry(s, buffer + at);
        block += bytes / BLOCK_BYTES;
        left -= bytes;
    }
    cache_free(buffer);
    return r == 0 && crc != super->entries_crc ? -EIO : r;
}

static int replay(struct scan *s)
{
    struct cache *c = s->c;
    int r = 0;

    for (size_t i = 0; i < s->entries.count && r == 0; i++) {
        const struct found_entry *e = entry_of(s, i);
        struct index_item old,
            item = {.block = e->block, .place = e->slot, .is_dirty = e->kind == CHUNK_DIRTY};

        if (e->kind != CHUNK_DROP &&
            counts_still(s, e->block, e->kind == CHUNK_DIRTY, e->segment, e->slot)) {
            *log_crc(&c->log, e->slot) = e->crc;
            r = put_item(s, &item, e->segment);
        } else if (index_get(&c->index, e->block, &old))
            cache_forget(c, &old);
    }
    return r;
}

/* --- all of it -----------------------------------------------------------------------------------
 */

static void go_on_from(struct scan *s)
{
    struct log *log = &s->c->log;

    log->head = log->applied = s->at;
    log->durable = s->at.sequence;
    log->tail = log->tail_announced = s->tail;
    log->clean = s->clean;
    log->is_flushed = true; /* maybe, before the end of the last run */
    log->checkpoint_segment = log->super.start.segment;
    for (uint32_t place = 0; place < log->super.segment_count; place++)
        log->dirty_since_ns[place] = sluice_now_ns(s->c->disk);
    order_begin(s->c, &s->order);
}

static int begin_anew(struct scan *s, struct sluice_error *error)
{
    struct cache *c = s->c;
    int r;

    go_on_from(s);
    if (!MUTANT(11))
        c->log.super.incarnation = cache_random();
    r = c->log.error ? -c->log.error : checkpoint_write(c, UINT64_MAX);
    if (r < 0 && s->is_of_failed && c->log.error) { /* but it can be read */
        c->log.durable = 0;
        note_free(c);
        return 0;
    }
    if (r == 0 && s->is_of_failed)
        r = note_remove(c);
    return r < 0 ? sluice_refuse(c->disk, error, -r, "%s cannot be written: %s", c->log.path,
                                 strerror(-r))
                 : 0;
}

static int recover(struct scan *s, struct sluice_error *error)
{
    int r = scan_chunks(s, error);

    if (r < 0)
        return r;
    if (s->is_of_failed)
        order_read_note(s->c, &s->order);
    r = load_checkpoint(s);
    if (r == 0)
        r = replay(s);
    if (r < 0)
        return sluice_refuse(s->c->disk, error, -r,
                             r == -ENOMEM ? "%s: there is no memory for its index"
                                          : "%s: its checkpoint is damaged (a fault of the "
                                            "storage); nothing was changed",
                             s->c->log.path);
    return begin_anew(s, error);
}

int recover_log(struct cache *c, struct sluice_error *error)
{
    const struct superblock *super = &c->log.super;
    bool is_of_failed = note_is_of(c, super->nonce) && !MUTANT(22);
    struct scan s = {.c = c,
                     .at = super->start,
                     .end_sequence = is_of_failed ? note_sequence(c) : UINT64_MAX,
                     .is_of_failed = is_of_failed,
                     .tail = super->tail,
                     .clean = super->clean,
                     .order = super->order};
    int r;

    r = reader_make(&s.reader, c) < 0
            ? sluice_refuse(c->disk, error, ENOMEM, "no memory to read the tier")
            : recover(&s, error);
    reader_free(&s.reader);
    cache_free(s.entries.items);
    cache_free(s.chunks.items);
    return r;
}
