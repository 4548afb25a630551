/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * destage.h: what the two ways of bringing dirty blocks to the backing share: destage.c, which
 * writes the newest version of each, sorted over a window of the log, and order.c, which writes
 * each epoch of the log with its own versions, one after the other.
 */
#ifndef SLUICE_CACHE_DESTAGE_H
#define SLUICE_CACHE_DESTAGE_H

#include "cache.h"

struct dirty {
    uint64_t block;
    uint32_t slot;
    uint32_t turn; /* of several of one block the largest counts */
    const uint8_t *data;
};

struct window {
    struct cache *c;
    uint64_t first, end;  /* segments */
    uint64_t last;        /* the segment that is being written */
    uint32_t head_blocks; /* how far */
    uint8_t *data;
    struct dirty *list;
    uint32_t count, most;
    uint64_t lost_before;
    bool is_salvage; /* of a tier that has failed */
    bool must_sync;  /* first: not all of it is durable in the log */
    int32_t error;
};

/* [M] How far the log goes now, which bounds the window. */
void destage_note_head(struct window *w);
/* 0 or a positive errno: what the window is about is durable in the log. */
int32_t destage_make_durable(const struct window *w);
bool destage_ask(struct cache *c, bool (*question)(const struct cache *c));
uint8_t *destage_segment_data(const struct window *w, uint64_t segment);
/* Blocks of a segment that are there to be read. */
uint32_t destage_blocks_of(const struct window *w, uint64_t segment);
/* Memory for the window, filled; w->error. */
void destage_open_window(struct window *w);
void destage_close_window(struct window *w);
/* Writes the list, flushes the backing; w->error, ECANCELED: not all of it.  Then what is on the
 * list and has not been written anew is clean. */
void destage_write_list(struct window *w);
void destage_mark_clean(struct window *w);
void destage_note_pace(struct cache *c, uint64_t blocks, uint64_t began_ns);

/* order.c [K]: 0 or a positive errno. */
int32_t order_step(struct cache *c);

#endif
