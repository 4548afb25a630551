/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lineage.h: where a copy comes from: the list of epochs it has lived through, oldest first.  An
 * epoch is opened durably before its first write and named by {epoch, uuid}: the same number with
 * another uuid is a fork.  Two lists are compared; nothing is decided from a clock.
 */
#ifndef SLUICE_REPLICATION_LINEAGE_H
#define SLUICE_REPLICATION_LINEAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define REP_LINEAGE_MAX 32u /* older ones are folded: never the last both are known to share */
#define REP_EPOCH_BYTES 40u /* of one on the wire */

struct rep_epoch {
    uint64_t number, uuid[2];
    uint64_t start_seq; /* its first write would have this one */
    uint64_t writer;    /* who opened it: a node's number, for people */
};
struct rep_lineage {
    uint32_t count;
    struct rep_epoch of[REP_LINEAGE_MAX];
};

enum rep_kinship {
    REP_KIN_EQUAL,    /* the same tip */
    REP_KIN_ANCESTOR, /* mine is a prefix of the other's */
    REP_KIN_DESCENDANT,
    REP_KIN_FORK,       /* both went on after *shared */
    REP_KIN_STRANGER,   /* nothing in common */
    REP_KIN_FRESH_MINE, /* this copy has never had data */
    REP_KIN_FRESH_THEIRS,
    REP_KIN_FRESH_BOTH,
    REP_KINSHIPS
};

/* *fork_seq: the first sequence that may differ (FORK, ANCESTOR, DESCENDANT). A copy that is an
 * ancestor by its list but holds sequences beyond the start of the other's next epoch is a FORK. */
enum rep_kinship rep_lineage_compare(const struct rep_lineage *mine, uint64_t my_last_seq,
                                     const struct rep_lineage *theirs, uint64_t their_last_seq,
                                     uint64_t *fork_seq);
const struct rep_epoch *rep_lineage_tip(const struct rep_lineage *lineage);
void rep_lineage_open(struct rep_lineage *lineage, const struct rep_epoch *epoch);
size_t rep_lineage_encode(const struct rep_lineage *lineage, uint8_t *out);
int rep_lineage_decode(struct rep_lineage *lineage, const uint8_t *data, size_t bytes);

#endif
