/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lineage.h: who wrote after whom, and what follows from it when two sides meet.
 *
 * A disk's lineage is a list of epochs, each begun by one promotion: a number, a random id (the
 * same number with another id is a fork), and the sequence number at which it began.  Writes of an
 * epoch carry its number. The decision at connect is a pure function of what both sides say of
 * themselves, the same on both sides.
 */
#ifndef SLUICE_REPLICATION_LINEAGE_H
#define SLUICE_REPLICATION_LINEAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LINEAGE_MAX 64u

struct lineage_entry {
    uint64_t epoch, id, start_seq;
};
struct lineage {
    uint32_t count; /* 0: nobody has ever been primary */
    struct lineage_entry entry[LINEAGE_MAX];
};

enum replica_role { REPLICA_SECONDARY, REPLICA_PRIMARY };
enum replica_data {
    DATA_NONE,      /* never had the disk's contents */
    DATA_HALF,      /* in the middle of an unstaged resync: no instant of the disk */
    DATA_CONSISTENT /* the disk as it was at some instant */
};

/* What a side says of itself. */
struct hello {
    uint8_t role, data;
    bool has_evidence; /* something here may differ from the peer: bitmap or activity log */
    bool was_alone;    /* acknowledged writes that the peer may lack */
    bool can_grow;     /* knows RESIZE */
    bool can_snapshot; /* knows SNAPSHOT */
    bool can_record;   /* knows RECORD */
    uint64_t size_bytes, seq;
    uint64_t disk_id; /* of the disk's UUID */
    uint64_t has_seq; /* everything of its sources up to here, durably */
    struct lineage lineage;
};
#define HELLO_BYTES_MAX (48u + LINEAGE_MAX * 24u)
size_t hello_put(uint8_t *out, const struct hello *hello);
/* False: it is none. */
bool hello_get(struct hello *hello, const uint8_t *data, size_t length);
size_t lineage_put(uint8_t *out, const struct lineage *lineage);
bool lineage_get(struct lineage *lineage, const uint8_t *data, size_t length);
#define LINEAGE_BYTES_MAX (8u + LINEAGE_MAX * 24u)

/* The last epoch; zeros when there is none. */
struct lineage_entry lineage_tip(const struct lineage *lineage);
/* One epoch more.  The oldest entries are folded when the list is full. */
void lineage_add(struct lineage *lineage, uint64_t epoch, uint64_t id, uint64_t start_seq);

/* Forgets what came after the last epoch that both have. */
void lineage_cut(struct lineage *mine, const struct lineage *theirs);

enum relation {
    RELATION_EQUAL,
    RELATION_BEHIND, /* mine is the beginning of theirs: they were promoted after me */
    RELATION_AHEAD,
    RELATION_FORK,     /* a common beginning, then two ways */
    RELATION_UNRELATED /* nothing in common */
};
/* *fork_seq: where the one that is behind, or both, ended to be the same. */
enum relation lineage_compare(const struct lineage *mine, const struct lineage *theirs,
                              uint64_t *fork_seq);

enum plan {
    PLAN_WAIT,   /* nobody is primary: nothing to send */
    PLAN_SOURCE, /* I send what may differ */
    PLAN_TARGET,
    PLAN_FULL_SOURCE, /* everything */
    PLAN_FULL_TARGET,
    PLAN_STEP_DOWN, /* I was primary once; they are by a later epoch */
    PLAN_THEY_STEP_DOWN,
    PLAN_SPLIT, /* both have writes that the other lacks: nobody is overwritten */
    PLAN_GROW,  /* the follower's disk is the smaller one: it has to grow first */
    PLAN_REFUSE /* these are not two sides of one disk */
};
const char *plan_name(enum plan plan);
/* *reason: a sentence, static. *fork_seq as above. */
enum plan connect_decide(const struct hello *mine, const struct hello *theirs, uint64_t *fork_seq,
                         const char **reason);

#endif
