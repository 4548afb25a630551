/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * recover.h: how a start reads the log, recover-read.c: segments ahead of the one that is looked
 * at, so that the SSD has something to do meanwhile, and of most of them the headers of chunks
 * alone.
 */
#ifndef SLUICE_CACHE_RECOVER_H
#define SLUICE_CACHE_RECOVER_H

#include "cache.h"

/* Of a segment: the row of headers from its beginning on, with what was read along; or all. */
enum part { PART_HEADERS, PART_ALL };

struct loaded {
    struct reader *reader;
    struct sluice_file_io io;
    uint64_t segment;
    enum part part;
    uint8_t *data;          /* in its place */
    uint32_t next, window;  /* block of the header that is to be read, and how many with it */
    bool is_asked, is_read; /* is_read, error: [M] */
    int32_t error;
};

#define SEGMENTS_AHEAD 16u
struct reader {
    struct cache *c;
    struct log_position start;            /* the row of this segment begins there */
    struct loaded loaded[SEGMENTS_AHEAD]; /* by the segment's number, modulo */
};

/* 0 or -ENOMEM. */
int reader_make(struct reader *r, struct cache *c);
/* Waits for what is under way. */
void reader_free(struct reader *r);
/* The segment's data, until the next call.  0 or a negative errno. */
int reader_load(struct reader *r, uint64_t segment, enum part part, const uint8_t **data);

#endif
