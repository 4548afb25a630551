/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * checkpoint.c: writes a copy of the index beside the older one, and then the superblock that names
 * it.  The log goes on meanwhile: shards are copied one by one, each under the mutex, so a shard
 * may know of chunks that were applied after the beginning.  That does no harm, because recovery
 * plays all chunks from the beginning on over it, and what a chunk says of a block replaces what
 * was known of it.  All chunks that any shard can know of are made durable before the superblock is
 * written.
 *
 * One that is not wanted any more, or takes too long, is left unfinished: nothing names it.
 *
 * The superblock's letter is the lowest bit of its generation; the newer one is never overwritten.
 */
#include "cache.h"
#include "common/crc.h"

#include <errno.h>

#define BUFFER_BYTES (1u << 20)
#define WRITE_AT (BUFFER_BYTES / 4) /* so full; a shard has room behind that */

struct writer {
    struct cache *c;
    uint8_t *buffer;
    uint32_t used;
    uint64_t block, end; /* where the buffer goes, and where the area ends */
    uint64_t entries;
    uint64_t deadline_ns;
    uint32_t crc;
    int error;
};

/* Whole blocks; what is left over moves to the front.  At the end the last one is padded. */
static void write_out(struct writer *w, bool is_last)
{
    uint32_t bytes = w->used / BLOCK_BYTES * BLOCK_BYTES, left = w->used - bytes;

    if (is_last && left) {
        memset(w->buffer + w->used, 0, BLOCK_BYTES - left);
        bytes += BLOCK_BYTES;
        left = 0;
    }
    w->crc = crc_add(w->crc, w->buffer, MIN(bytes, w->used));
    if (!w->error && w->block + bytes / BLOCK_BYTES > w->end)
        w->error = -ENOSPC;
    if (!w->error && bytes)
        w->error = log_tend_wait(w->c, SLUICE_OP_WRITE, w->block, w->buffer, bytes);
    w->block += bytes / BLOCK_BYTES;
    memmove(w->buffer, w->buffer + bytes, left);
    w->used = left;
}

/* [M] */
static void copy_entry(const struct index_item *item, void *arg)
{
    struct writer *w = arg;
    const struct log *log = &w->c->log;
    struct checkpoint_entry e;

    if (item->is_in_ram)
        return;
    if (w->used + CHECKPOINT_ENTRY_BYTES > BUFFER_BYTES - BLOCK_BYTES) {
        w->error = -ENOSPC;
        return;
    }
    e = (struct checkpoint_entry){
        .block = item->block,
        .slot = item->place,
        .crc = *log_crc(log, item->place),
        .is_dirty = item->is_dirty,
        .is_bad = item->is_bad,
        .frequency = item->frequency,
    };
    format_put_checkpoint_entry(&e, w->buffer + w->used);
    w->used += CHECKPOINT_ENTRY_BYTES;
    w->entries++;
}

/* [M] */
static bool is_to_give_up(const struct writer *w)
{
    return w->deadline_ns == UINT64_MAX ? keeper_is_to_pause(w->c)
                                        : sluice_now_ns(w->c->disk) > w->deadline_ns;
}

static void copy_shards(struct writer *w)
{
    struct cache *c = w->c;

    for (unsigned i = 0; i < index_shard_count(&c->index) && !w->error; i++) {
        cache_lock(c);
        if (is_to_give_up(w))
            w->error = -ECANCELED;
        else
            index_for_shard(&c->index, i, copy_entry, w);
        cache_unlock(c);
        if (w->used >= WRITE_AT)
            write_out(w, false);
    }
    write_out(w, true);
}

static int write_super(struct cache *c, const struct superblock *s, uint8_t *block)
{
    int r;

    format_put_superblock(s, block);
    r = log_tend_wait(c, SLUICE_OP_WRITE, s->generation % 2, block, BLOCK_BYTES);
    return r < 0 ? r : log_tend_wait(c, SLUICE_OP_FLUSH, 0, NULL, 0);
}

/* [M] What the superblock says of the end of the copying. */
static void note_end(struct cache *c, struct superblock *s, const struct writer *w)
{
    s->entries = w->entries;
    s->entries_crc = w->crc;
    s->end_sequence = c->log.applied.sequence;
    s->tail = c->log.tail;
    s->clean = c->log.clean;
    s->order = c->options.ordered ? c->order.log : (struct log_order){.from = 0};
    s->disk_bytes = c->disk->size_bytes;
}

static void note_begin(struct cache *c, struct superblock *s)
{
    cache_lock(c);
    *s = c->log.super;
    s->generation++;
    s->start = c->log.applied;
    cache_unlock(c);
}

/* Layout and names are as they were, and read without the mutex: not written again. */
static void adopt(struct cache *c, const struct superblock *s)
{
    struct superblock *ours = &c->log.super;

    cache_lock(c);
    ours->generation = s->generation;
    ours->disk_bytes = s->disk_bytes;
    ours->start = s->start;
    ours->end_sequence = s->end_sequence;
    ours->tail = s->tail;
    ours->clean = s->clean;
    ours->order = s->order;
    ours->entries = s->entries;
    ours->entries_crc = s->entries_crc;
    c->log.checkpoint_segment = s->start.segment;
    c->last_checkpoint_ns = sluice_now_ns(c->disk);
    c->wants_checkpoint = false;
    cache_wake(&c->cond);
    cache_unlock(c);
    sluice_count(c->disk, N_CHECKPOINTS, 1);
}

static int write_all(struct writer *w, struct superblock *s)
{
    struct cache *c = w->c;
    int r;

    copy_shards(w);
    cache_lock(c);
    note_end(c, s, w);
    cache_unlock(c);
    if (w->error)
        return w->error;
    if (MUTANT(13))
        return write_super(c, s, w->buffer);
    r = -log_sync_wait(c);
    return r < 0 ? r : write_super(c, s, w->buffer);
}

int checkpoint_write(struct cache *c, uint64_t deadline_ns)
{
    struct superblock s;
    struct writer w = {
        .c = c, .buffer = cache_alloc_pages(BUFFER_BYTES), .deadline_ns = deadline_ns};
    int r;

    if (!w.buffer)
        return -ENOMEM;
    note_begin(c, &s);
    w.block = 2 + (s.generation % 2) * (uint64_t)s.checkpoint_blocks;
    w.end = w.block + s.checkpoint_blocks;
    r = write_all(&w, &s);
    cache_free(w.buffer);
    if (r == 0) {
        adopt(c, &s);
        log_note_known(c);
    }
    return r;
}
