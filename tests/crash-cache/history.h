/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * history.h: whether a disk is an earlier state of itself (P2): whoever finds a change there that
 * began after a flush had been answered, finds all that this flush made durable.  Changes are known
 * by their numbers (oracle.h), which grow in the order in which they begin.
 */
#ifndef SLUICE_CRASH_CACHE_HISTORY_H
#define SLUICE_CRASH_CACHE_HISTORY_H

#include <stdbool.h>
#include <stdint.h>

/* A new disk, of zeros. */
void history_reset(uint32_t sectors);
/* A change that leaves zeros began. */
void history_zero(uint32_t first, uint32_t count, uint32_t number);
/* A flush, or a change with FUA, was answered: who sees a change numbered `from` or later sees in
 * each of these sectors the change of the number floor[i], or a later one. */
void history_note(uint32_t first, uint32_t count, const uint32_t *floor, uint32_t from);
/* False: it is not; says why not. */
bool history_check(const uint8_t *disk, const char *when);

#endif
