/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stream.h: sees that reads go on where others ended: a copy, a backup, a scan of a table, whatever
 * else is read in between.  What such a stream reads is not read again soon, and to keep it would
 * push out what is.  Pure; the caller sees to it that one thread is here at a time.
 *
 * A read belongs to the stream whose end it is no further from than its own length, so that one
 * that overtakes another does no harm; of several to the longest.  A stream is as long as what it
 * has come by, not as what was read: who reads a small area again and again is none.
 */
#ifndef SLUICE_CACHE_STREAM_H
#define SLUICE_CACHE_STREAM_H

#include <stdint.h>

#define STREAMS 32u

struct streams {
    uint64_t start[STREAMS], end[STREAMS]; /* blocks */
    uint64_t used_at[STREAMS], clock;
};

/* A read of these blocks, of one at least.  How long is the stream, with it, in blocks? */
uint64_t streams_note(struct streams *s, uint64_t block, uint64_t count);

#endif
