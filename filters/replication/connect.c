/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * connect.c: the table of connect.h.  Rows are tried from the top; the first whose kinship and
 * flags fit decides.  `must` and `not`: flags of mine and of theirs; docs/replication.md argues
 * each row.
 */
#include "connect.h"

#define P REP_HELLO_PRIMARY
#define E REP_HELLO_EVIDENCE
#define C REP_HELLO_CRASHED
#define A REP_HELLO_ALONE
#define D REP_HELLO_DEPOSED
#define Y REP_HELLO_YIELDS
#define BIT(kin) (1u << REP_KIN_##kin)
#define ANY_KIN 0xffffu
#define RELATED (BIT(EQUAL) | BIT(ANCESTOR) | BIT(DESCENDANT))
#define EVER_SHARED (RELATED | BIT(FORK))
#define FRESH (BIT(FRESH_MINE) | BIT(FRESH_THEIRS))

enum needs { NOTHING, NO_EVIDENCE, EVIDENCE, REPLAYABLE };
static const struct row {
    uint16_t kin;
    uint8_t mine_must, mine_not, theirs_must, theirs_not, needs, plan;
    const char *why;
} rows[] = {
    {BIT(STRANGER), 0, 0, 0, 0, NOTHING, REP_PLAN_UNRELATED, "the two are not copies of one disk"},
    /* A side that gave up what it wrote is a target whatever its lineage. */
    {EVER_SHARED, P, Y, Y, P, NOTHING, REP_PLAN_RESYNC,
     "the other side gave up what it wrote alone"},
    {EVER_SHARED, Y, P, P, Y, NOTHING, REP_PLAN_RESYNC, "this side gave up what it wrote alone"},
    {BIT(FORK), 0, 0, 0, 0, NOTHING, REP_PLAN_SPLIT_BRAIN, "both sides went on after they parted"},
    /* Two that would serve: the longer lineage stays; what the other wrote alone makes it a fork.
     */
    {BIT(EQUAL), P, 0, P, 0, NOTHING, REP_PLAN_SPLIT_BRAIN, "both sides are primary in one epoch"},
    {BIT(ANCESTOR), A, Y, 0, 0, NOTHING, REP_PLAN_SPLIT_BRAIN,
     "this side wrote alone and a later epoch lives over there"},
    {BIT(DESCENDANT), 0, 0, A, Y, NOTHING, REP_PLAN_SPLIT_BRAIN,
     "the other side wrote alone and a later epoch lives here"},
    {BIT(ANCESTOR), P, 0, 0, 0, NOTHING, REP_PLAN_DEPOSE_MINE, "a later epoch lives over there"},
    {BIT(DESCENDANT), 0, 0, P, 0, NOTHING, REP_PLAN_DEPOSE_THEIRS, "a later epoch lives here"},
    {ANY_KIN, 0, P, 0, P, NOTHING, REP_PLAN_WAIT, "neither side is primary"},
    {BIT(FRESH_BOTH), 0, 0, 0, 0, NOTHING, REP_PLAN_FULL, "both are new"},
    {BIT(FRESH_MINE), P, 0, 0, 0, NOTHING, REP_PLAN_UNRELATED,
     "a new disk cannot be primary to one with data"},
    {BIT(FRESH_THEIRS), 0, 0, P, 0, NOTHING, REP_PLAN_UNRELATED,
     "a new disk cannot be primary to one with data"},
    {FRESH, 0, 0, 0, 0, NOTHING, REP_PLAN_FULL, "the replica is new"},
    /* After a crash without having been alone the replica holds all that was acknowledged. */
    {BIT(EQUAL), P | C, A, 0, 0, NOTHING, REP_PLAN_RECONCILE,
     "the primary crashed: it fetches what its log names"},
    {BIT(EQUAL), 0, 0, P | C, A, NOTHING, REP_PLAN_RECONCILE,
     "the primary crashed: it fetches what its log names"},
    {BIT(ANCESTOR), 0, 0, 0, 0, REPLAYABLE, REP_PLAN_REPLAY,
     "the journal holds what the replica lacks"},
    {BIT(DESCENDANT), 0, 0, 0, 0, REPLAYABLE, REP_PLAN_REPLAY,
     "the journal holds what the replica lacks"},
    {RELATED, 0, 0, 0, 0, EVIDENCE, REP_PLAN_RESYNC, "the bitmaps say what may differ"},
    {BIT(EQUAL), 0, 0, 0, 0, REPLAYABLE, REP_PLAN_REPLAY,
     "the journal holds what the replica lacks"},
    {RELATED, 0, 0, 0, 0, NOTHING, REP_PLAN_RESYNC, "the replica is older than the journal"},
};

static const struct rep_facts *primary_of(const struct rep_facts *mine,
                                          const struct rep_facts *theirs)
{
    return mine->flags & P ? mine : theirs;
}

static bool is_met(enum needs needs, const struct rep_facts *mine, const struct rep_facts *theirs)
{
    const struct rep_facts *source = primary_of(mine, theirs);
    const struct rep_facts *target = source == mine ? theirs : mine;
    bool has_evidence = ((mine->flags | theirs->flags) & E) != 0;

    switch (needs) {
    case NO_EVIDENCE:
        return !has_evidence;
    case EVIDENCE:
        return has_evidence;
    case REPLAYABLE:
        return !has_evidence && target->last_seq <= source->last_seq &&
               target->last_seq + 1 >= source->replay_from_seq;
    case NOTHING:
        break;
    }
    return true;
}

static bool row_fits(const struct row *row, uint32_t kin, const struct rep_facts *mine,
                     const struct rep_facts *theirs)
{
    return (row->kin & (1u << kin)) && (mine->flags & row->mine_must) == row->mine_must &&
           !(mine->flags & row->mine_not) &&
           (theirs->flags & row->theirs_must) == row->theirs_must &&
           !(theirs->flags & row->theirs_not) && is_met((enum needs)row->needs, mine, theirs);
}

struct rep_decision rep_connect_decide(const struct rep_facts *mine, const struct rep_facts *theirs)
{
    struct rep_decision d = {.plan = REP_PLAN_RESYNC, .why = "nothing else fits"};

    d.kinship = rep_lineage_compare(mine->lineage, mine->last_seq, theirs->lineage,
                                    theirs->last_seq, &d.fork_seq);
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++)
        if (row_fits(&rows[i], d.kinship, mine, theirs)) {
            d.plan = (enum rep_plan)rows[i].plan;
            d.why = rows[i].why;
            break;
        }
    if (d.plan == REP_PLAN_REPLAY && d.kinship == REP_KIN_EQUAL &&
        mine->last_seq == theirs->last_seq)
        d.plan = REP_PLAN_STREAM;
    return d;
}
