/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * destage.c: brings dirty blocks to the backing, from the tail of the log on.  A step takes a
 * window of segments, reads them whole, sorts what is still dirty by block, merges neighbours,
 * writes with some depth, flushes the backing, and only then are the blocks clean (R6), and only
 * those that were not written anew meanwhile.  Blocks are destaged from durable chunks alone: else
 * a power cut could bring an older version back over what the backing has already (R8).
 *
 * A tier that has failed is salvaged in the same way, but for what cannot be read any more.
 *
 * Runs on the keeper's thread.  A backing that fails keeps everything dirty; the step is repeated.
 */
#include "destage.h"

#include <errno.h>
#include <stdlib.h>

#define WINDOW_BYTES (16u << 20)
#define RUN_BLOCKS_MOST 256u
#define READ_FAILURES_MOST 8u /* in a row, in a segment of a tier that has failed */

/* --- what is to be done
 * --------------------------------------------------------------------------- */

/* [M] */
static uint32_t to_destage_in(const struct log *log, uint64_t segment)
{
    uint32_t place = log_place_of(log, segment);

    return log->dirty_in[place] - log->lost_in[place];
}

void destage_note_head(struct window *w)
{
    const struct log *log = &w->c->log;

    w->last = log->applied.segment;
    w->head_blocks = log->applied.block;
    w->is_salvage = log->error != 0;
    w->must_sync = log->durable < log->applied.sequence && !w->is_salvage;
}

int32_t destage_make_durable(const struct window *w)
{
    return w->must_sync && !MUTANT(14) ? log_sync_wait(w->c) : 0;
}

/* [M] Segments that are behind the head and durable; when draining, the head's too, left as it is.
 */
static void choose(struct window *w)
{
    struct cache *c = w->c;
    struct log *log = &c->log;
    uint64_t most = MAX(WINDOW_BYTES / (log->super.segment_blocks * BLOCK_BYTES), 1u);

    while (log->clean < log->head.segment && log->dirty_in[log_place_of(log, log->clean)] == 0)
        log->clean++;
    most = MAX(MIN(most, log->super.segment_count / 4), 1u);
    w->first = log->clean;
    while (w->first < log->applied.segment && to_destage_in(log, w->first) == 0)
        w->first++; /* what is lost there holds up nobody else */
    w->end = MIN(w->first + most, log->applied.segment + 1);
    for (uint64_t s = w->first; s < w->end; s++)
        w->most += to_destage_in(log, s);
    w->lost_before = log->lost_blocks;
    destage_note_head(w);
}

uint8_t *destage_segment_data(const struct window *w, uint64_t segment)
{
    uint64_t bytes = (uint64_t)w->c->log.super.segment_blocks * BLOCK_BYTES;

    return w->data + (segment - w->first) * bytes;
}

uint32_t destage_blocks_of(const struct window *w, uint64_t segment)
{
    return segment == w->last ? w->head_blocks : w->c->log.super.segment_blocks;
}

/* Block by block what can be read, and the rest as zeros, which the CRCs will find; not for ever
 * where nothing can. */
static int read_the_readable(struct window *w, uint64_t segment)
{
    unsigned failures = 0;

    for (uint32_t block = 0; block < destage_blocks_of(w, segment); block++) {
        uint8_t *data = destage_segment_data(w, segment) + (uint64_t)block * BLOCK_BYTES;
        uint32_t slot = log_slot(&w->c->log, segment, block);
        int r = failures < READ_FAILURES_MOST
                    ? log_io_wait(w->c, SLUICE_OP_READ, slot, data, BLOCK_BYTES)
                    : -EIO;

        if (r == -ETIMEDOUT)
            return r;
        failures = r < 0 ? failures + 1 : 0;
        if (r < 0)
            memset(data, 0, BLOCK_BYTES);
    }
    return 0;
}

/* Of a tier that does not answer nothing is lost yet. */
static void salvage_segment(struct window *w, uint64_t segment, uint32_t slot, uint64_t bytes)
{
    int r = log_io_wait(w->c, SLUICE_OP_READ, slot, destage_segment_data(w, segment), bytes);

    if (r < 0 && r != -ETIMEDOUT)
        r = read_the_readable(w, segment);
    if (r == -ETIMEDOUT)
        w->error = ETIMEDOUT;
}

static void read_window(struct window *w)
{
    const struct log *log = &w->c->log;

    for (uint64_t s = w->first; s < w->end && !w->error; s++) {
        uint64_t bytes = (uint64_t)destage_blocks_of(w, s) * BLOCK_BYTES;
        uint32_t slot = log_slot(log, s, 0);

        if (bytes && !w->is_salvage)
            w->error =
                -log_tend_wait(w->c, SLUICE_OP_READ, slot, destage_segment_data(w, s), bytes);
        else if (bytes)
            salvage_segment(w, s, slot, bytes);
    }
}

/* [M] */
static bool is_still_dirty(const struct cache *c, uint64_t block, uint32_t slot)
{
    struct index_item item;

    return index_get(&c->index, block, &item) && !item.is_in_ram && item.is_dirty && !item.is_bad &&
           item.place == slot;
}

/* [M] */
static void collect(void *arg, const struct chunk_entry *entry, uint32_t slot, const uint8_t *data)
{
    struct window *w = arg;

    if (entry->kind != CHUNK_DIRTY || w->count == w->most ||
        !is_still_dirty(w->c, entry->block, slot))
        return;
    if (!rot_is_whole(w->c, slot, data)) {
        rot_lose(w->c, entry->block, slot); /* the others are destaged */
        return;
    }
    w->list[w->count++] = (struct dirty){.block = entry->block, .slot = slot, .data = data};
}

/* The headers may hide what they describe: they have rotted, or cannot be read.  Or what was there
 * has been written anew meanwhile. */
static bool has_found_nothing(const struct window *w)
{
    struct cache *c = w->c;
    uint32_t left = 0;
    bool is_nothing;

    cache_lock(c);
    for (uint64_t s = w->first; s < w->end; s++)
        left += to_destage_in(&c->log, s);
    is_nothing = w->count == 0 && left == w->most && c->log.lost_blocks == w->lost_before;
    cache_unlock(c);
    return is_nothing;
}

/* [M] */
static void find_hidden(const struct index_item *item, void *arg)
{
    struct window *w = arg;
    const struct log *log = &w->c->log;
    uint64_t segment;
    uint32_t block;

    if (item->is_in_ram || !item->is_dirty || item->is_bad || w->count == w->most)
        return;
    segment = w->first + (log_place_of_slot(log, item->place) + log->super.segment_count -
                          log_place_of(log, w->first)) %
                             log->super.segment_count;
    block = (item->place - log->super.first_block) % log->super.segment_blocks;
    if (segment < w->end && block < destage_blocks_of(w, segment))
        w->list[w->count++] = (struct dirty){.block = item->block,
                                             .slot = item->place,
                                             .data = destage_segment_data(w, segment) +
                                                     (uint64_t)block * BLOCK_BYTES};
}

/* By the index, which knows the blocks and their CRCs without the headers. */
static void collect_hidden(struct window *w)
{
    struct cache *c = w->c;
    uint32_t whole = 0;

    for (unsigned i = 0; i < index_shard_count(&c->index); i++) {
        cache_lock(c);
        index_for_shard(&c->index, i, find_hidden, w);
        cache_unlock(c);
    }
    for (uint32_t i = 0; i < w->count; i++) {
        struct dirty d = w->list[i];

        cache_lock(c);
        if (is_still_dirty(c, d.block, d.slot) && rot_is_whole(c, d.slot, d.data))
            w->list[whole++] = d;
        else if (is_still_dirty(c, d.block, d.slot))
            rot_lose(c, d.block, d.slot);
        cache_unlock(c);
    }
    w->count = whole;
}

static int by_block(const void *a, const void *b)
{
    const struct dirty *x = a, *y = b;

    return x->block < y->block ? -1 : x->block > y->block;
}

static void collect_all(struct window *w)
{
    struct cache *c = w->c;

    for (uint64_t s = w->first; s < w->end && !w->error; s++) {
        cache_lock(c);
        log_for_entries(&c->log, destage_segment_data(w, s), s, destage_blocks_of(w, s), collect,
                        w);
        cache_unlock(c);
    }
    if (has_found_nothing(w))
        collect_hidden(w);
    qsort(w->list, w->count, sizeof *w->list, by_block);
}

/* --- writing to the backing
 * ------------------------------------------------------------------------ */

struct flight {
    struct cache *c;
    uint32_t in_flight; /* [M] */
    int32_t error;      /* [M] the first */
};

struct run {
    struct sluice_io io;
    struct flight *flight;
    uint8_t *buffer;
};

static void end_run(struct run *run, int32_t error)
{
    struct flight *f = run->flight;
    struct cache *c = f->c;

    cache_free(run->buffer);
    cache_free(run);
    cache_lock(c);
    if (error && !f->error)
        f->error = error;
    f->in_flight--;
    cache_wake(&c->cond);
    cache_unlock(c);
}

static void on_run_written(struct sluice_io *io, int32_t error)
{
    end_run(CONTAINER_OF(io, struct run, io), error);
}

/* 0 or the first error up to now. */
static int32_t wait_for_flight(struct flight *f, uint32_t most)
{
    int32_t error;

    cache_lock(f->c);
    while (f->in_flight > most)
        cache_sleep(&f->c->cond, &f->c->mutex);
    error = f->error;
    cache_unlock(f->c);
    return error;
}

static struct run *make_run(struct flight *f, const struct dirty *list, uint32_t count)
{
    struct run *run = cache_zalloc(sizeof *run);

    if (run)
        run->buffer = cache_alloc_pages((uint64_t)count * BLOCK_BYTES);
    if (!run || !run->buffer) {
        cache_free(run);
        return NULL;
    }
    for (uint32_t i = 0; i < count; i++)
        memcpy(run->buffer + (uint64_t)i * BLOCK_BYTES, list[i].data, BLOCK_BYTES);
    run->flight = f;
    run->io = (struct sluice_io){.op = SLUICE_OP_WRITE,
                                 .origin = SLUICE_ORIGIN_FILTER,
                                 .offset = list[0].block * BLOCK_BYTES,
                                 .length = (uint64_t)count * BLOCK_BYTES,
                                 .data = run->buffer,
                                 .done = on_run_written};
    return run;
}

static void write_run(struct flight *f, const struct dirty *list, uint32_t count)
{
    struct run *run = make_run(f, list, count);

    cache_lock(f->c);
    if (run)
        f->in_flight++;
    else
        f->error = ENOMEM;
    cache_unlock(f->c);
    if (run && sluice_io_submit(f->c->disk, &run->io) < 0)
        end_run(run, ESHUTDOWN);
}

static uint32_t run_length(const struct window *w, uint32_t from)
{
    uint32_t n = 1;

    while (from + n < w->count && n < RUN_BLOCKS_MOST &&
           w->list[from + n].block == w->list[from].block + n)
        n++;
    return n;
}

int32_t cache_flush_backing(struct cache *c)
{
    struct sluice_io io = {.op = SLUICE_OP_FLUSH, .origin = SLUICE_ORIGIN_FILTER};
    uint64_t through;
    int r;

    cache_lock(c);
    through = c->through;
    cache_unlock(c);
    r = sluice_io_wait(c->disk, &io);
    cache_lock(c);
    if (r == 0)
        c->through_flushed = MAX(c->through_flushed, through);
    cache_unlock(c);
    return -r;
}

static uint32_t depth_of(struct cache *c)
{
    uint32_t depth;

    cache_lock(c);
    depth = (uint32_t)c->options.destage_depth;
    cache_unlock(c);
    return depth;
}

bool destage_ask(struct cache *c, bool (*question)(const struct cache *c))
{
    bool is_so;

    cache_lock(c);
    is_so = question(c);
    cache_unlock(c);
    return is_so;
}

/* When the keeper is to pause, what is not in flight yet is left for later: all of it stays dirty.
 */
void destage_write_list(struct window *w)
{
    struct cache *c = w->c;
    struct flight f = {.c = c};
    uint32_t depth = depth_of(c), n, i;

    for (i = 0;
         i < w->count && wait_for_flight(&f, depth - 1) == 0 && !destage_ask(c, keeper_is_to_pause);
         i += n) {
        n = run_length(w, i);
        write_run(&f, &w->list[i], n);
    }
    w->error = wait_for_flight(&f, 0);
    if (!w->error && i < w->count)
        w->error = ECANCELED;
    if (!w->error && w->count && !MUTANT(6))
        w->error = cache_flush_backing(c);
}

/* --- and after
 * ------------------------------------------------------------------------------------- */

void destage_mark_clean(struct window *w)
{
    struct cache *c = w->c;
    struct log *log = &c->log;

    cache_lock(c);
    for (uint32_t i = 0; i < w->count; i++) {
        if (!is_still_dirty(c, w->list[i].block, w->list[i].slot))
            continue;
        index_set_clean(&c->index, w->list[i].block);
        log->dirty_in[log_place_of_slot(log, w->list[i].slot)]--;
        log->dirty_blocks--;
        sluice_count(c->disk, N_DIRTY, -(int64_t)BLOCK_BYTES);
    }
    while (log->clean < log->head.segment && log->dirty_in[log_place_of(log, log->clean)] == 0)
        log->clean++;
    cache_wake(&c->cond);
    cache_unlock(c);
    sluice_count(c->disk, N_DESTAGED, (int64_t)w->count * BLOCK_BYTES);
}

void destage_note_pace(struct cache *c, uint64_t blocks, uint64_t began_ns)
{
    cache_lock(c);
    if (c->options.destage_rate && !c->draining)
        c->next_destage_ns =
            began_ns + blocks * BLOCK_BYTES * UINT64_C(1000000000) / c->options.destage_rate;
    cache_unlock(c);
}

void destage_open_window(struct window *w)
{
    uint64_t bytes = (w->end - w->first) * w->c->log.super.segment_blocks * BLOCK_BYTES;

    w->data = cache_alloc_pages(bytes);
    w->list = cache_zalloc(w->most * sizeof *w->list);
    if (!w->data || !w->list)
        w->error = ENOMEM;
    else
        read_window(w);
}

void destage_close_window(struct window *w)
{
    cache_free(w->data);
    cache_free(w->list);
}

static int32_t destage_window(struct window *w)
{
    destage_open_window(w);
    if (!w->error)
        collect_all(w);
    if (!w->error)
        destage_write_list(w);
    if (!w->error)
        destage_mark_clean(w);
    destage_close_window(w);
    return w->error;
}

static int32_t destage_in_any_order(struct cache *c)
{
    struct window w = {.c = c};
    uint64_t began = sluice_now_ns(c->disk);
    int32_t error;

    cache_lock(c);
    choose(&w);
    cache_unlock(c);
    if (w.most == 0)
        return 0;
    error = destage_make_durable(&w);
    if (!error)
        error = destage_window(&w);
    destage_note_pace(c, w.count, began);
    return error;
}

int32_t destage_step(struct cache *c)
{
    int32_t error;

    if (destage_ask(c, order_is_kept))
        return order_step(c);
    error = destage_in_any_order(c);
    order_take_up(c);
    return error;
}
