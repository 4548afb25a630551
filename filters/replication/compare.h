/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * compare.h: extents whose contents are compared with the peer's by hashes: which grains differ,
 * without sending them. Part of replica.h, which says how large grains are.  docs/replication.md
 * tells why the answer is about one instant.
 */
#ifndef SLUICE_REPLICATION_COMPARE_H
#define SLUICE_REPLICATION_COMPARE_H

#include <sluice-filter.h>
#include <string.h>

#define HASH_BYTES 32u
#define VERIFY_SLOTS 2u /* extents under way at a time */
#define RESYNC_SLOTS 4u
#define COMPARE_SLOTS \
    (2 * (VERIFY_SLOTS + RESYNC_SLOTS)) /* as many again that the peer asks about */

enum compare_purpose { COMPARE_VERIFY, COMPARE_RESYNC, COMPARE_ANSWER, COMPARE_PURPOSES };
enum compare_state {
    COMPARE_FREE,
    COMPARE_WAITING, /* source: until nobody writes it; target: until what came before is applied */
    COMPARE_READING,
    COMPARE_HASHING,
    COMPARE_ASKED,  /* source: the peer has not answered yet */
    COMPARE_DIFFERS /* source, resync: its grains are to be copied */
};

struct compare {
    struct replica *r;
    uint8_t purpose, state;
    bool is_stale; /* the link has gone: what comes of it counts for nothing */
    int32_t error;
    uint16_t grains; /* of the extent: those that are meant */
    uint64_t extent;
    uint64_t
        end_bytes;  /* of the source's disk, when it was meant: the last grain may be a short one */
    uint64_t after; /* target: the number of the journal's newest entry when it was asked */
    uint8_t *data;  /* all of them, while they are read and hashed */
    uint8_t hashes[EXTENT_GRAINS * HASH_BYTES]; /* by grain; target: the source's */
    struct sluice_io io;
    struct sluice_work work;
};

/* The target, before the first answer of a connection: what is the same has to be durable. */
struct answers {
    bool is_flushed, is_flushing;
    uint64_t round, flushing_round; /* each connection has its own */
    struct sluice_io io;
};

/* The source's batches: whether extents are asked about before they are copied, and what it cost.
 */
struct batch_cost {
    uint64_t bytes, same_bytes;    /* that might have differed; found to be the same */
    uint64_t sent_bytes, spent_ns; /* heads of frames and hashes among them */
};
enum seed_mode {
    SEED_ASK,     /* where it pays */
    SEED_ASK_ALL, /* most is the same: an image that was copied */
    SEED_SEND_ALL /* whatever the peer has, it gets everything */
};
struct seed {
    enum seed_mode mode, usual; /* of the next batch that ends; after it (the simulator has both) */
    unsigned unasked, pause; /* extents to be copied before the next question; and after the next */
    uint64_t batches, started_ns, round, flushing_round;
    bool is_flushed, is_flushing;
    struct sluice_io io;
    struct batch_cost now, last;
};

/* What the last run of verify came to; kept in the state folder. */
struct verified {
    enum {
        VERIFIED_NEVER,
        VERIFIED_SAME,
        VERIFIED_DIFFERS,
        VERIFIED_STOPPED,
        VERIFIED_ENDS
    } outcome;
    bool is_repaired; /* what differed has been sent since */
    uint64_t started_s, seconds, bytes, differing_bytes, unread_bytes, skipped_bytes;
};

struct verify {
    bool is_running, repairs, is_repairing, must_save;
    uint64_t rate, budget_ns; /* bytes a second, 0: no limit; when the next extent may be read */
    uint8_t *todo;            /* extents, a bit each */
    uint8_t *differs;         /* grains, a bit each; of the last run */
    uint64_t todo_left, todo_at;
    uint64_t started_ns;
    struct verified now, last;
};

static inline bool is_all_zero(const uint8_t *data, uint64_t bytes)
{
    return data[0] == 0 && memcmp(data, data + 1, bytes - 1) == 0;
}

#endif
