/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * cache-guests.h: guests of the disk of test-cache-model.c: workers, which sleep for one request at
 * a time, and clients of a loop, with several in flight.  They read, write, flush, trim, zero,
 * prefetch and ask for extents at random, anywhere; changes under way do not overlap, all else may.
 *
 * What each sector may hold is known by the oracle of the crash tests, in memory that outlives the
 * process: the next life of the disk goes on from there.
 */
#ifndef SLUICE_CACHE_GUESTS_H
#define SLUICE_CACHE_GUESTS_H

#include "host/kit.h"

#define MODEL_SECTORS 8192u /* of the disk at its largest */
#define SECTOR_BYTES 512u

/* In shared memory too. */
struct model_counts {
    _Atomic uint64_t requests, failed, cancelled, sectors_checked;
    _Atomic uint32_t violations;
};
extern struct model_counts *counts;

/* Before the first life. */
void guests_prepare(void);
/* Before each life, in the parent: the last one may have died with the oracle's mutex. */
void guests_begin_life(void);
/* Something is wrong for good: prints and counts. */
void guests_violation(const char *fmt, ...) PRINTF_LIKE(1, 2);
/* From now on, in this life, requests may fail. */
void guests_may_fail(void);
bool guests_are_failing(void);
/* Nobody notes anything any more; so the process may be killed. */
void guests_freeze(void);

struct guests;
struct guests *guests_start(struct disk *disk, uint64_t seed);
/* All requests have ended when it returns. */
void guests_stop(struct guests *g);
/* The disk has grown. */
void guests_resize(struct guests *g, uint64_t size_bytes);

/* What has been acknowledged up to now, of MODEL_SECTORS. */
void guests_note(uint32_t *floor);
/* The image holds that, or what came later. */
void guests_check_image(const char *path, const uint32_t *floor, const char *when);
/* Without guests: reads all, through the chain or from the image; what the disk holds is known. */
void guests_settle(struct disk *disk);
void guests_settle_image(const char *path);

#endif
