/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * read.c: answers reads.  One look at the index, under the mutex, divides the request into runs:
 * blocks in RAM are copied at once; slots of the log and misses become parts that are read side by
 * side.  A segment that is being read is pinned, so that it is not used anew meanwhile.  A request
 * that misses as a whole goes on to the backing as it is, and is kept on its way back.
 *
 * What was read from the backing is kept only if no change of the blocks began or ended since the
 * look (R9).
 *
 * Slots are read into memory of our own, because the tier may still write there when the request
 * has long been answered without it (patience.c).
 */
#include "cache.h"

#include <errno.h>

#define FILL_BLOCKS_MOST CHUNK_DATA_MAX

enum where { IN_RAM, ON_SSD, ON_SSD_DIRTY, MISSING };

struct part {
    struct part *next;
    struct read *read;
    enum where where;
    uint64_t block, count;
    uint32_t slot;
    uint8_t *data;  /* where it is wanted */
    bool is_second; /* read again, because it was not what had been written */
    struct sluice_io io;
};

/* Of a part's slots; behind their data in the same memory. */
struct slot_read {
    struct awaited awaited;
    struct cache *c;
    struct part *part; /* not looked at when it was given up */
    uint32_t slot;
    uint8_t *data;
    struct sluice_file_io io;
};

/* In the request's scratch. */
struct read {
    struct cache *c;
    struct sluice_request *request;
    struct part *parts;
    _Atomic uint32_t left; /* parts, and one for the start */
    _Atomic int32_t error;
    uint64_t fill_block;
    uint32_t fill_count; /* 0: nothing is kept */
    bool passes_by;      /* not worth keeping */
    uint32_t tokens[TOKENS_MAX];
};
_Static_assert(sizeof(struct read) <= CACHE_SCRATCH_BYTES, "scratch");

/* --- keeping ------------------------------------------------------------------------------------
 */

/* [M] */
static bool is_large(const struct cache *c, uint64_t count)
{
    return count * BLOCK_BYTES > c->options.bypass_over;
}

/* [M] */
static bool is_of_long_stream(struct cache *c, uint64_t block, uint64_t count)
{
    uint64_t most = c->options.bypass_after / BLOCK_BYTES;

    return most && streams_note(&c->streams, block, count) > most;
}

/* [M] */
static void note_tokens(struct read *rd, uint64_t block, uint64_t count)
{
    struct cache *c = rd->c;
    uint64_t group = block >> VERSION_SHIFT;

    rd->fill_count = 0;
    if (!cache_rules(c)->reads_fill || !c->ram.frames || count > FILL_BLOCKS_MOST || rd->passes_by)
        return;
    rd->fill_block = block;
    rd->fill_count = (uint32_t)count;
    for (uint32_t i = 0; i < TOKENS_MAX; i++)
        rd->tokens[i] = versions_token(&c->versions, (group + i) << VERSION_SHIFT);
}

static uint32_t token_of(const struct read *rd, uint64_t block)
{
    return rd->tokens[(block >> VERSION_SHIFT) - (rd->fill_block >> VERSION_SHIFT)];
}

/* [M] */
static void fill(struct read *rd, uint64_t block, uint64_t count, const uint8_t *data)
{
    struct cache *c = rd->c;
    struct index_item item;

    if (block < rd->fill_block || block + count > rd->fill_block + rd->fill_count)
        return;
    for (uint64_t i = 0; i < count; i++) {
        if (index_get(&c->index, block + i, &item))
            continue;
        if (versions_is_current(&c->versions, block + i, token_of(rd, block + i)))
            ram_fill(c, block + i, data + i * BLOCK_BYTES);
        else
            sluice_count(c->disk, N_FILLS_DROPPED, 1);
    }
}

static void keep(struct read *rd, uint64_t block, uint64_t count, const uint8_t *data)
{
    struct cache *c = rd->c;

    if (!rd->fill_count)
        return;
    cache_lock(c);
    fill(rd, block, count, data);
    cache_unlock(c);
    log_pump(c);
}

struct sluice_verdict cache_on_read_end(void *instance, struct sluice_request *r, void *scratch)
{
    struct read *rd = scratch;

    (void)instance;
    if (r->error == 0)
        keep(rd, r->offset / BLOCK_BYTES, r->length / BLOCK_BYTES, r->data);
    return sluice_pass();
}

/* --- parts ---------------------------------------------------------------------------------------
 */

static void submit_part(struct part *p);

static void unpin(struct cache *c, uint32_t slot)
{
    struct log *log = &c->log;
    bool is_last;

    cache_lock(c);
    is_last =
        --log->readers[log_place_of_slot(log, slot)] == 0 && (log->jobs.first || log->urgent.first);
    cache_unlock(c);
    if (is_last)
        log_pump(c);
}

static void end_read(struct read *rd)
{
    struct cache *c = rd->c;
    struct sluice_request *request = rd->request;
    int32_t error = atomic_load(&rd->error);
    struct part *next;

    for (struct part *p = rd->parts; p; p = next) {
        next = p->next;
        cache_free(p);
    }
    sluice_resume(c->disk, request, error ? sluice_fail(error) : sluice_complete());
}

static void put_part(struct read *rd, int32_t error)
{
    int32_t none = 0;

    if (error)
        atomic_compare_exchange_strong(&rd->error, &none, error);
    if (atomic_fetch_sub(&rd->left, 1) == 1)
        end_read(rd);
}

/* A clean block that the SSD does not give is in the backing too. */
static void read_elsewhere(struct part *p)
{
    p->where = MISSING;
    submit_part(p);
}

/* [M] A clean one is not read from there again; it stays known, so that whoever changes the backing
 * has it dropped from the log, where its entry may be whole (R8). */
static void note_bad(struct part *p, uint64_t i)
{
    struct cache *c = p->read->c;
    struct index_item item;
    bool is_here =
        index_get(&c->index, p->block + i, &item) && !item.is_in_ram && item.place == p->slot + i;

    rot_note(c, p->block + i, p->slot + (uint32_t)i, p->where == ON_SSD_DIRTY);
    if (is_here && !item.is_dirty)
        index_set_bad(&c->index, p->block + i);
}

/* 0, or EIO: something is not what had been written. */
static int32_t check_part(struct part *p, const uint8_t *data)
{
    struct cache *c = p->read->c;
    int32_t error = 0;

    for (uint64_t i = 0; i < p->count; i++) {
        if (rot_is_whole(c, p->slot + (uint32_t)i, data + i * BLOCK_BYTES))
            continue;
        error = EIO;
        if (p->where == ON_SSD_DIRTY && !p->is_second)
            return error; /* it is all there is: read once more before it is given up */
        cache_lock(c);
        note_bad(p, i);
        cache_unlock(c);
    }
    return error;
}

/* It was dirty when we looked; since then it may have got into the backing. */
static bool is_in_backing(const struct part *p)
{
    struct cache *c = p->read->c;
    struct index_item item;
    bool is_so = true;

    cache_lock(c);
    for (uint64_t i = 0; i < p->count; i++)
        is_so &= !index_get(&c->index, p->block + i, &item) || !item.is_dirty;
    cache_unlock(c);
    return is_so;
}

static void submit_slots(struct part *p);

/* The SSD has not given it. */
static void do_without_slots(struct part *p, int32_t error)
{
    bool is_dirty = p->where == ON_SSD_DIRTY;

    if (!is_dirty || is_in_backing(p))
        read_elsewhere(p);
    else
        put_part(p->read, error);
}

static void take_slots(struct part *p, const uint8_t *data)
{
    struct cache *c = p->read->c;
    int32_t error = MUTANT(17) ? 0 : check_part(p, data);

    if (!error)
        memmove(p->data, data, p->count * BLOCK_BYTES);
    if (error && p->where == ON_SSD_DIRTY && !p->is_second) {
        p->is_second = true;
        submit_slots(p);
        return;
    }
    unpin(c, p->slot);
    if (error)
        do_without_slots(p, error);
    else
        put_part(p->read, 0);
}

static void fail_slots(struct part *p, int32_t error)
{
    rot_note_unread(p->read->c, error, p->where == ON_SSD_DIRTY);
    do_without_slots(p, error);
}

static void on_slot_read(struct sluice_file_io *io, int32_t error)
{
    struct slot_read *s = CONTAINER_OF(io, struct slot_read, io);
    struct part *p = s->part;

    if (!await_end(s->c, &s->awaited))
        return;
    if (error) {
        unpin(s->c, s->slot);
        fail_slots(p, error);
    } else {
        take_slots(p, s->io.data);
    }
    cache_free(s->data);
}

static void give_up_slots(struct awaited *a)
{
    fail_slots(CONTAINER_OF(a, struct slot_read, awaited)->part, EIO);
}

static void drop_slots(struct awaited *a)
{
    struct slot_read *s = CONTAINER_OF(a, struct slot_read, awaited);

    unpin(s->c, s->slot);
    cache_free(s->data);
}

static void on_backing_read(struct sluice_io *io, int32_t error)
{
    struct part *p = CONTAINER_OF(io, struct part, io);

    if (!error)
        keep(p->read, p->block, p->count, p->data);
    put_part(p->read, error);
}

static struct slot_read *make_slot_read(struct part *p)
{
    uint64_t bytes = p->count * BLOCK_BYTES;
    uint8_t *data = cache_alloc_pages(bytes + sizeof(struct slot_read));
    struct slot_read *s = (struct slot_read *)(void *)(data ? data + bytes : NULL);

    if (!s)
        return NULL;
    *s = (struct slot_read){.awaited = {.give_up = give_up_slots, .drop = drop_slots},
                            .c = p->read->c,
                            .part = p,
                            .slot = p->slot,
                            .data = data,
                            .io = {.op = SLUICE_OP_READ,
                                   .offset = (uint64_t)p->slot * BLOCK_BYTES,
                                   .length = bytes,
                                   .data = MUTANT(34) ? p->data : data,
                                   .done = on_slot_read}};
    return s;
}

static void submit_slots(struct part *p)
{
    struct cache *c = p->read->c;
    struct slot_read *s = make_slot_read(p);
    bool is_asked = false;
    int r;

    if (s) {
        cache_lock(c);
        is_asked = await_begin(c, &s->awaited, &s->io);
        cache_unlock(c);
    }
    if (!is_asked) {
        if (s)
            cache_free(s->data);
        unpin(c, p->slot);
        fail_slots(p, s ? EIO : ENOMEM);
        return;
    }
    r = sluice_file_submit(c->disk, c->log.file, &s->io);
    if (r < 0)
        on_slot_read(&s->io, -r);
}

static void submit_missing(struct part *p)
{
    int r;

    p->io = (struct sluice_io){.op = SLUICE_OP_READ,
                               .origin = SLUICE_ORIGIN_FILTER,
                               .offset = p->block * BLOCK_BYTES,
                               .length = p->count * BLOCK_BYTES,
                               .data = p->data,
                               .done = on_backing_read};
    r = sluice_io_submit(p->read->c->disk, &p->io);
    if (r < 0)
        on_backing_read(&p->io, -r);
}

static void submit_part(struct part *p)
{
    if (p->where == MISSING)
        submit_missing(p);
    else
        submit_slots(p);
}

/* --- the look
 * -------------------------------------------------------------------------------------- */

/* [M] */
static enum where look(struct cache *c, uint64_t block, struct index_item *item)
{
    const struct mode_rules *rules = cache_rules(c);

    if (!index_get(&c->index, block, item))
        return MISSING;
    if (!item->is_dirty && (!rules->reads_hit || item->is_bad))
        return MISSING;
    if (item->is_in_ram)
        return IN_RAM;
    return item->is_dirty ? ON_SSD_DIRTY : ON_SSD;
}

/* [M] */
static void touch(struct cache *c, const struct index_item *item)
{
    if (item->is_in_ram)
        c->ram.ops->hit(c->ram.policy, item->place);
    else
        index_touch(&c->index, item->block);
}

/* [M] Whether the block goes on the part before it. */
static bool continues(const struct cache *c, const struct part *p, enum where where,
                      const struct index_item *item, uint64_t block)
{
    if (!p || p->where != where || p->block + p->count != block)
        return false;
    if (where == MISSING)
        return true;
    return item->place == p->slot + p->count &&
           log_place_of_slot(&c->log, item->place) == log_place_of_slot(&c->log, p->slot);
}

/* [M] NULL: no memory. */
static struct part *add_part(struct read *rd, enum where where, const struct index_item *item,
                             uint64_t block, uint8_t *data)
{
    struct cache *c = rd->c;
    struct part *p = cache_zalloc(sizeof *p);

    if (!p)
        return NULL;
    p->read = rd;
    p->where = where;
    p->block = block;
    p->data = data;
    if (where != MISSING) {
        p->slot = item->place;
        c->log.readers[log_place_of_slot(&c->log, p->slot)]++;
    }
    p->next = rd->parts;
    rd->parts = p;
    atomic_fetch_add(&rd->left, 1);
    return p;
}

/* [M] Newest part first in rd->parts. 0 or ENOMEM. */
static int32_t divide(struct read *rd, uint64_t first, uint64_t count, uint8_t *data)
{
    struct cache *c = rd->c;
    uint64_t hits[MISSING + 1] = {0};

    for (uint64_t i = 0; i < count; i++) {
        struct index_item item;
        enum where where = look(c, first + i, &item);

        hits[where]++;
        if (where != MISSING)
            touch(c, &item);
        if (where == IN_RAM) {
            memcpy(data + i * BLOCK_BYTES, ram_data(&c->ram, item.place), BLOCK_BYTES);
            continue;
        }
        if (!continues(c, rd->parts, where, &item, first + i) &&
            !add_part(rd, where, &item, first + i, data + i * BLOCK_BYTES))
            return ENOMEM;
        rd->parts->count++;
    }
    sluice_count(c->disk, N_HITS_RAM, (int64_t)hits[IN_RAM]);
    sluice_count(c->disk, N_HITS_SSD, (int64_t)(hits[ON_SSD] + hits[ON_SSD_DIRTY]));
    sluice_count(c->disk, N_MISSES, (int64_t)hits[MISSING]);
    sluice_count(c->disk, N_PARTIAL, hits[MISSING] && hits[MISSING] < count);
    sluice_count(c->disk, N_BYPASSED, rd->passes_by || !cache_rules(c)->reads_hit);
    return 0;
}

static void submit_all(struct read *rd)
{
    struct part *next;

    /* The list is not touched before all have ended, and one is kept back for us. */
    for (struct part *p = rd->parts; p; p = next) {
        next = p->next;
        submit_part(p);
    }
    put_part(rd, 0);
}

static struct sluice_verdict fail_division(struct read *rd)
{
    for (struct part *p = rd->parts, *next; p; p = next) {
        next = p->next;
        if (p->where != MISSING)
            unpin(rd->c, p->slot);
        cache_free(p);
    }
    return sluice_fail(ENOMEM);
}

struct sluice_verdict cache_on_read(void *instance, struct sluice_request *r, void *scratch)
{
    struct cache *c = instance;
    struct read *rd = scratch;
    uint64_t first = r->offset / BLOCK_BYTES, count = r->length / BLOCK_BYTES;
    int32_t error;

    rd->c = c;
    rd->request = r;
    atomic_store(&rd->left, 1);
    cache_lock(c);
    rd->passes_by = is_of_long_stream(c, first, count) || is_large(c, count);
    note_tokens(rd, first, count);
    error = divide(rd, first, count, r->data);
    cache_unlock(c);
    if (error)
        return fail_division(rd);
    if (!rd->parts)
        return sluice_complete();
    if (rd->parts->where == MISSING && rd->parts->count == count) {
        cache_free(rd->parts);
        rd->parts = NULL;
        return rd->fill_count ? sluice_pass_and_tell() : sluice_pass();
    }
    submit_all(rd);
    return sluice_defer();
}

/* --- prefetch
 * --------------------------------------------------------------------------------------- */

struct prefetch {
    struct read read;
    struct sluice_io io;
    uint8_t *data;
};

static void on_prefetched(struct sluice_io *io, int32_t error)
{
    struct prefetch *p = CONTAINER_OF(io, struct prefetch, io);

    if (!error)
        keep(&p->read, p->read.fill_block, p->read.fill_count, p->data);
    cache_free(p->data);
    cache_free(p);
}

/* [M] The first run of missing blocks. */
static void choose_missing(struct cache *c, uint64_t *block, uint64_t *count)
{
    struct index_item item;
    uint64_t n = 0;

    while (*count && index_get(&c->index, *block, &item)) {
        ++*block;
        --*count;
    }
    while (n < *count && n < FILL_BLOCKS_MOST && !index_get(&c->index, *block + n, &item))
        n++;
    *count = n;
}

static void begin_prefetch(struct cache *c, uint64_t block, uint64_t count)
{
    struct prefetch *p = cache_zalloc(sizeof *p);

    if (p)
        p->data = cache_alloc_pages(count * BLOCK_BYTES);
    if (!p || !p->data) {
        cache_free(p);
        return;
    }
    p->read.c = c;
    cache_lock(c);
    p->read.passes_by = is_large(c, count);
    note_tokens(&p->read, block, count);
    cache_unlock(c);
    p->io = (struct sluice_io){.op = SLUICE_OP_READ,
                               .origin = SLUICE_ORIGIN_FILTER,
                               .offset = block * BLOCK_BYTES,
                               .length = count * BLOCK_BYTES,
                               .data = p->data,
                               .done = on_prefetched};
    if (!p->read.fill_count || sluice_io_submit(c->disk, &p->io) < 0)
        on_prefetched(&p->io, ECANCELED);
}

/* A hint: up to 1 MiB of what is missing is fetched; the answer does not wait for it. */
#define PREFETCH_RUNS 4u
struct sluice_verdict cache_on_prefetch(void *instance, struct sluice_request *r, void *scratch)
{
    struct cache *c = instance;
    uint64_t block = r->offset / BLOCK_BYTES, end = (r->offset + r->length) / BLOCK_BYTES;

    (void)scratch;
    for (unsigned i = 0; i < PREFETCH_RUNS && block < end; i++) {
        uint64_t count = end - block;

        cache_lock(c);
        choose_missing(c, &block, &count);
        cache_unlock(c);
        if (count)
            begin_prefetch(c, block, count);
        block += MAX(count, 1);
    }
    return sluice_complete();
}
