/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * history.h: what guests have written, in which order it was captured, what was acknowledged and
 * what flushed; and so what an image may hold.  Each write has a version; a block's words all hold
 * the version that wrote it.
 */
#ifndef SLUICE_SIMULATOR_HISTORY_H
#define SLUICE_SIMULATOR_HISTORY_H

#include "pair.h"

enum floor { FLOOR_NONE, FLOOR_FLUSHED, FLOOR_ACKNOWLEDGED, FLOOR_SERVED };

void history_reset(void);
/* A change of these blocks is issued: its version; data is filled, NULL for zeros. */
uint64_t history_issue(uint64_t block, uint64_t count, uint8_t *data);
/* Something that was in a backing before, of this block: wherever it is, nobody has been promised
 * it. */
void history_leave(uint64_t block, uint8_t *data);
/* Its frames have these numbers: the last one is seq, a frame holds two blocks. */
void history_capture(uint64_t version, uint64_t seq, bool is_split);
void history_acknowledge(uint64_t version, bool is_durable);
/* A flush is issued now: what it makes durable when it is acknowledged. */
void history_flush_begin(uint64_t *mark);
void history_flush_end(const uint64_t *mark);
/* The primary has lost power: what it still has is all that it can be asked for. */
void history_lower(const uint8_t *image);
/* The primary died: this write may be there or not, wherever.  version 0: all that were not
 * flushed. */
void history_doubt(uint64_t version);
/* The peer has everything up to this number, as the primary had it. */
void history_base(uint64_t seq);
/* Every sector is at its floor or later, and nothing is there that nobody wrote. */
void history_check(const uint8_t *image, enum floor floor, const char *when);
/* These blocks alone, with the marks of history_flush_begin() as their floor. */
void history_check_blocks(const uint8_t *data, uint64_t block, uint64_t count,
                          const uint64_t *mark);
/* Whatever was captured after the base is there as a prefix. */
void history_check_prefix(const uint8_t *image, const char *when);
/* Each version by the side where its guest wrote it, and the sides whose image has held it. */
void history_written(int node, uint64_t version);
void history_seen(int node, const uint8_t *data, uint64_t length);
/* This sector holds what a guest wrote at this side and the other side has never had. */
bool history_is_only_here(int node, const uint8_t *image, uint64_t sector);
bool history_is_not_older(const uint8_t *image, const uint8_t *than, uint64_t sector);
/* What is there now is what counts from now on; is_flushed: what was flushed is so here too. */
void history_settle(const uint8_t *image, bool is_flushed);

/* --- records: versions that go with a disk, each told at a sequence number --- */

/* Side `node` was told the next version of this disk: it; then, the number it was given. */
uint64_t history_record_next(int node);
void history_record_told(unsigned disk, uint64_t version, uint64_t seq);
/* A flush is issued now, and ends: what was told before it is with the peer. */
void history_record_mark(uint64_t *mark);
void history_record_acknowledge(const uint64_t *mark);
/* This side has been promoted with that version of the disk, beside this image: it is of the same
 * instant, and with is_protected not older than any that was acknowledged.  It counts from now on.
 */
void history_record_check(int node, unsigned disk, uint64_t version, const uint8_t *image,
                          bool is_protected, const char *when);
uint64_t history_record_last(unsigned disk);
/* told.c: a guest changes one at this side, if it is the primary; those of a side that has been
 * promoted; at the end both sides have the last ones. */
void told_change(int node);
void told_check(int node, const uint8_t *image, bool is_protected, const char *when);
void told_check_healed(int home);
void told_promoting(int node);
extern unsigned long told_behind; /* promotions whose journal had some to be taken */
/* Which block differs. */
void history_tell_difference(const uint8_t *primary, const uint8_t *secondary);

#endif
