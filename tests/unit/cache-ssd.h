/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * cache-ssd.h: the SSD of test-cache-model.c, a real file whose operations fail, have done a part,
 * come late or do not come back, whichever way they go there: as a system call, through a loop's
 * ring, or through the ring of a worker's own.
 *
 * What is put into a ring is looked at when it is handed to the kernel.  Most goes there, some of
 * it with a shorter length, so that it comes back short.  What is to fail or to be late is taken
 * out and carried out by a thread of the SSD's, with system calls; the ring then gets its answer by
 * IORING_OP_MSG_RING, and nobody there can tell it from one of the kernel's.
 */
#ifndef SLUICE_CACHE_SSD_H
#define SLUICE_CACHE_SSD_H

#include <stdbool.h>
#include <stdint.h>

enum { SSD_READS_FAIL = 1, SSD_WRITES_FAIL = 2 };

/* In memory that outlives the process, for all lives. */
struct ssd_counts {
    _Atomic uint64_t ring_short, ring_late, ring_failed, ring_held;
};
extern struct ssd_counts *ssd_counts;

/* Before the first life. */
void ssd_prepare(void);
/* Of this life, before any I/O: with io_uring or without; other files than the tier may take up to
 * 4 ms a call. */
void ssd_begin_life(bool has_ring, bool is_backing_slow);
/* The tier is the file of this path now, and whether there is one. */
void ssd_find(const char *path);
void ssd_forget(void);
bool ssd_is_there(void);
/* From now on calls of this kind fail, so many of them. */
void ssd_fail(unsigned kinds, int calls);
bool ssd_is_failing(void);
/* While it hangs no call returns. */
void ssd_hang(bool hangs);
/* Its faults reach all that goes there: not where the kernel has rings but no messages to them. */
bool ssd_can_fail(void);

#endif
