/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * seal.h: what only this side has written is kept in a file before anything overwrites it.
 *
 * A seal is two files of the state folder: "seal-N.raw", a sparse image of the disk's size that
 * holds the sealed grains at their place, and "seal-N", its head: what it is of, and a bit for each
 * grain that it holds.  The image is durable before the head is written, and the head is written as
 * a whole: an image without a head is nothing, and is begun anew.
 *
 *     head: magic u32, crc32c u32 (of what follows), version u64, the disk's UUID 40, its size u64,
 * grain u64, wall time s u64, last epoch of this side: number, id, start seq u64 each, the peer's:
 * number, id u64 each, fork seq u64, last seq u64, why u64, grains u64, bits
 */
#ifndef SLUICE_REPLICATION_SEAL_H
#define SLUICE_REPLICATION_SEAL_H

#include <stdbool.h>
#include <stdint.h>

struct replica;
struct sluice_error;
struct sluice_reply;

#ifndef SEALS_MAX
#define SEALS_MAX 16u
#endif
#define SEALS_MANY (SEALS_MAX - 2) /* so few more find room that somebody should look */

enum seal_reason {
    SEAL_OF_DISCARDED = 1, /* split brain: this side was given up */
    SEAL_OF_DEPOSED        /* the peer was promoted while this side was primary */
};

/* What its head says. */
struct seal {
    uint64_t size_bytes; /* of the disk then */
    uint64_t wall_s, epoch, epoch_id, start_seq, peer_epoch, peer_epoch_id, fork_seq, last_seq;
    uint64_t reason, grains; /* grains 0: there is no such seal */
};

struct seals {
    struct seal list[SEALS_MAX];
    struct sealing *job; /* at most one at a time, on the work thread */
    bool is_preparing;   /* perhaps there will be one */
    uint64_t retry_ns;   /* after a failure: not before */
    uint64_t change;     /* super_changes that makes it durable that all is sealed */
    char error[160];     /* why the last one failed; "": it has not */
    /* Made by the last job, until what replaces it is here and applied: the grains that the peer
     * has sent since.  What of them is the same needs no seal. */
    uint8_t *arrived;
    unsigned arrived_slot;
    uint64_t prune_from; /* of the journal: the batch ended there; 0: it has not */
};

/* Blocks: reads the heads. */
int seal_open(struct replica *r, struct sluice_error *error);
void seal_close(struct replica *r);
/* All below with the mutex held, but seal_pump(). */

/* Everything that only this side has is sealed, durably, or there is nothing. */
bool seal_is_done(const struct replica *r);
/* This side may be written to again: a seal that is not complete will never be. */
void seal_stop(struct replica *r);
unsigned seal_count(const struct seals *s);
/* Own I/O is under way. */
bool seal_is_busy(const struct replica *r);
/* A block of a batch is here. */
void seal_note_arrived(struct replica *r, uint64_t offset, uint64_t bytes);
void seal_note_begin(struct replica *r);
void seal_note_commit(struct replica *r, uint64_t position);
/* Without the mutex: seals what has to be sealed now. */
void seal_pump(struct replica *r);
/* `seals DISK [--drop NUMBER]` */
int seal_run_verb(void *instance, int argc, const char *const *argv, struct sluice_reply *reply,
                  struct sluice_error *error);

#endif
