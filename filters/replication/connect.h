/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * connect.h: what two copies that meet shall do.  A pure function of both sides' facts, so that
 * `sluice peer check` can ask it without connecting, and a test can try every cell of its table.
 * Dirty evidence outranks identity: no plan but RESYNC or RECONCILE while either side holds any.
 */
#ifndef SLUICE_REPLICATION_CONNECT_H
#define SLUICE_REPLICATION_CONNECT_H

#include "lineage.h"

enum rep_role { REP_PRIMARY, REP_SECONDARY, REP_DEPOSED };

enum rep_hello_flag {
    REP_HELLO_PRIMARY = 1,  /* serves, or will as soon as it may */
    REP_HELLO_EVIDENCE = 2, /* some bit is set, or extents of its log are not known to be equal */
    REP_HELLO_CRASHED = 4, /* a primary that has not ended cleanly and has not opened a new epoch */
    REP_HELLO_ALONE = 8,   /* acknowledged, or may have, what the peer has not */
    REP_HELLO_STAGED =
        16, /* a replica whose batch may have been committed without the source's hearing */
    REP_HELLO_FRESH = 32,
    REP_HELLO_DEPOSED = 64,
    REP_HELLO_YIELDS =
        128, /* its operator chose it as the losing side; it has sealed what differs */
    REP_HELLO_FLAGS = 255
};

enum rep_plan {
    REP_PLAN_WAIT,        /* nobody is primary: stay connected, await a role */
    REP_PLAN_STREAM,      /* equal: go on from the next sequence */
    REP_PLAN_REPLAY,      /* the replica is behind by what ring or journal still hold */
    REP_PLAN_RESYNC,      /* the primary sends what the bitmaps of both say */
    REP_PLAN_FULL,        /* everything, by hashes */
    REP_PLAN_RECONCILE,   /* the crashed primary fetches the extents of its log, then a new epoch */
    REP_PLAN_DEPOSE_MINE, /* a higher epoch lives over there: serve no more */
    REP_PLAN_DEPOSE_THEIRS,
    REP_PLAN_SPLIT_BRAIN, /* both went on: stop and ask */
    REP_PLAN_UNRELATED,   /* not copies of one disk: stop and ask */
    REP_PLANS
};

struct rep_facts {
    const struct rep_lineage *lineage;
    uint64_t last_seq; /* newest held: a primary's last issued, a replica's last in its journal */
    uint64_t replay_from_seq; /* oldest that ring or journal could send; last_seq + 1: none */
    uint32_t flags;           /* enum rep_hello_flag */
};
struct rep_decision {
    enum rep_plan plan;
    enum rep_kinship kinship;
    uint64_t fork_seq;
    const char *why; /* a sentence */
};
struct rep_decision rep_connect_decide(const struct rep_facts *mine,
                                       const struct rep_facts *theirs);

#endif
