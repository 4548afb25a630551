/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * recover-read.c: reads the log's segments for a start.  A header says where the next one in its
 * segment stands, so of large chunks 16 KiB each are read; where chunks are small the windows
 * grow, until they are what lies there anyway.  The rows of several segments are followed side by
 * side, each from the completion of its last read.
 *
 * Where the row goes on is taken from a header that nobody has checked: whoever looks at it later
 * does, and one that is wrong is the end of the log for him.
 */
#include "recover.h"

#include <errno.h>

#define WINDOW_LEAST 4u /* blocks */
#define ALL_AHEAD 4u

static uint32_t segment_blocks(const struct reader *r)
{
    return r->c->log.super.segment_blocks;
}

static void finish(struct loaded *l, int32_t error)
{
    struct cache *c = l->reader->c;

    cache_lock(c);
    l->error = error;
    l->is_read = true;
    cache_wake(&c->cond);
    cache_unlock(c);
}

static void on_read(struct sluice_file_io *io, int32_t error);

static void submit(struct loaded *l)
{
    struct cache *c = l->reader->c;
    uint64_t at = (uint64_t)l->next * BLOCK_BYTES;
    int r;

    l->io = (struct sluice_file_io){
        .op = SLUICE_OP_READ,
        .offset = (uint64_t)log_slot(&c->log, l->segment, 0) * BLOCK_BYTES + at,
        .length = (uint64_t)l->window * BLOCK_BYTES,
        .data = l->data + at,
        .done = on_read};
    r = sluice_file_submit(c->disk, c->log.file, &l->io);
    if (r < 0)
        finish(l, -r);
}

/* True: the next header has not been read yet. */
static bool follow_row(struct loaded *l)
{
    uint32_t all = segment_blocks(l->reader), end = l->next + l->window, data_blocks;

    while (l->next < end) {
        if (!format_peek_chunk(l->data + (uint64_t)l->next * BLOCK_BYTES, &data_blocks))
            return false;
        l->next += 1 + data_blocks;
    }
    l->window = l->next < end + l->window ? l->window * 2 : WINDOW_LEAST;
    l->window = MIN(l->window, all - MIN(all, l->next));
    return l->window > 0;
}

static void on_read(struct sluice_file_io *io, int32_t error)
{
    struct loaded *l = CONTAINER_OF(io, struct loaded, io);

    if (error == 0 && l->part == PART_HEADERS && follow_row(l))
        submit(l);
    else
        finish(l, error);
}

static void wait_for(struct loaded *l)
{
    struct cache *c = l->reader->c;

    cache_lock(c);
    while (l->is_asked && !l->is_read)
        cache_sleep(&c->cond, &c->mutex);
    cache_unlock(c);
}

static void ask(struct reader *r, uint64_t segment, enum part part)
{
    struct loaded *l = &r->loaded[segment % SEGMENTS_AHEAD];

    if (l->is_asked && l->segment == segment && l->part >= part)
        return;
    wait_for(l);
    l->segment = segment;
    l->part = part;
    l->is_asked = true;
    l->is_read = false;
    l->next = 0;
    l->window = segment_blocks(r);
    if (part == PART_HEADERS) {
        l->next = segment == r->start.segment ? r->start.block : 0;
        l->window = MIN(WINDOW_LEAST, segment_blocks(r) - MIN(l->next, segment_blocks(r)));
    }
    if (l->window)
        submit(l);
    else
        finish(l, 0);
}

int reader_load(struct reader *r, uint64_t segment, enum part part, const uint8_t **data)
{
    struct loaded *l = &r->loaded[segment % SEGMENTS_AHEAD];
    unsigned ahead = part == PART_ALL ? ALL_AHEAD : SEGMENTS_AHEAD;

    for (unsigned i = 0; i < ahead; i++)
        ask(r, segment + i, part);
    wait_for(l);
    l->is_asked = l->error == 0; /* one that failed is tried again */
    *data = l->data;
    return -l->error;
}

int reader_make(struct reader *r, struct cache *c)
{
    r->c = c;
    r->start = c->log.super.start;
    for (unsigned i = 0; i < SEGMENTS_AHEAD; i++) {
        r->loaded[i].reader = r;
        r->loaded[i].data = cache_alloc_pages((uint64_t)segment_blocks(r) * BLOCK_BYTES);
        if (!r->loaded[i].data)
            return -ENOMEM;
    }
    return 0;
}

void reader_free(struct reader *r)
{
    for (unsigned i = 0; i < SEGMENTS_AHEAD && r->loaded[i].reader; i++) {
        wait_for(&r->loaded[i]);
        cache_free(r->loaded[i].data);
    }
}
