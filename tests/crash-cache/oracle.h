/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * oracle.h: what each sector of the disk may hold.  Writes of one sector follow one another; each
 * has a number.  Kept for each sector: the contents since the oldest that a power cut may bring
 * back.  A read may return what had been acknowledged when it began, or anything later; after kill
 * -9 the same (P0); after a power cut what had been flushed, or anything later (P1).
 */
#ifndef SLUICE_CRASH_CACHE_ORACLE_H
#define SLUICE_CRASH_CACHE_ORACLE_H

#include <stdbool.h>
#include <stdint.h>

#define ORACLE_KEPT 64u /* contents of a sector */

/* Memory for a disk of so many sectors, which the children of this process share. */
void oracle_make(uint32_t sectors);
/* A change of these sectors begins: fills data, if it is not NULL, with contents nobody has had.
 * Returns its number. */
uint32_t oracle_begin(uint32_t first, uint32_t count, uint8_t *data);
void oracle_acknowledge(uint32_t first, uint32_t count, uint32_t number, bool is_durable);
/* The next change will have this number. */
uint32_t oracle_next(void);
/* A flush begins: remembers in `floor` (one for each sector) what it has to make durable; and ends.
 */
void oracle_flush_begin(uint32_t *floor);
void oracle_flush_end(const uint32_t *floor);
/* A read begins: the oldest contents it may return. */
void oracle_read_begin(uint32_t first, uint32_t count, uint32_t *floor);
/* False: something in data may not be there; says what. */
bool oracle_check(uint32_t first, uint32_t count, const uint8_t *data, const uint32_t *floor,
                  const char *when);
/* The same where a read beside a write may get a sector in which both are, as from a page cache:
 * only of what it may return, so with no change under way it is as strict. */
bool oracle_check_mixed(uint32_t first, uint32_t count, const uint8_t *data, const uint32_t *floor,
                        const char *when);
/* A crash: from now on floors are what may be read after it. */
void oracle_crash(bool is_power);
/* False: a sector of these bytes is one of the disk, with older contents than its floor. */
bool oracle_check_nothing_older(const uint8_t *bytes, uint64_t length, const uint32_t *floor);
/* After a crash all was read: what it holds now is known. */
bool oracle_settle(const uint8_t *disk, bool was_power);
/* The same, and of these blocks of 4 KiB nothing was read. */
bool oracle_settle_but(const uint8_t *disk, bool was_power, const bool *is_lost);
/* The number of the write whose data, not zeros, the sector is known to hold; 0: it is not known.
 */
uint32_t oracle_data(uint32_t sector);
/* Contents that have to be kept of one of these sectors, the most. With half of ORACLE_KEPT, a
 * change may let contents go that a read under way could still return; with all there is no room.
 */
uint32_t oracle_most_contents(uint32_t first, uint32_t count);
/* Too many contents have to be kept: flush, before there is no room for more. */
bool oracle_wants_flush(void);
void oracle_reset(void);

#endif
