/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Lineages, and what two sides that meet decide: every pair of roles, contents, evidence,
 * loneliness and kinship.  Both sides must come to plans that fit each other; nobody who may hold
 * the only copy of an acknowledged write is ever a target.
 */
#include "unit.h"

#include "replication/lineage.h"

/* Epochs 1 to `count`, those from `from` on with another id; epoch n begins at 100 n. */
static struct lineage lineage_of(uint32_t count, uint32_t from)
{
    struct lineage l = {0};

    for (uint32_t n = 1; n <= count; n++)
        lineage_add(&l, n, n >= from ? 7000 + n : n, UINT64_C(100) * n);
    return l;
}

static const struct {
    uint32_t mine, theirs, theirs_from;
    enum relation want;
    uint64_t fork_seq;
} kinships[] = {
    {0, 0, 9, RELATION_EQUAL, 0},     {0, 2, 9, RELATION_BEHIND, 0},
    {2, 0, 9, RELATION_AHEAD, 0},     {2, 2, 9, RELATION_EQUAL, UINT64_MAX},
    {2, 3, 9, RELATION_BEHIND, 300},  {3, 2, 9, RELATION_AHEAD, 300},
    {2, 5, 9, RELATION_BEHIND, 300},  {2, 2, 2, RELATION_FORK, 200}, /* one number, two ids */
    {3, 3, 2, RELATION_FORK, 200},    {4, 3, 3, RELATION_FORK, 300},
    {2, 2, 1, RELATION_UNRELATED, 0},
};
#define KINSHIPS (sizeof kinships / sizeof *kinships)

static void test_kinship(void)
{
    for (unsigned i = 0; i < KINSHIPS; i++) {
        struct lineage mine = lineage_of(kinships[i].mine, 9),
                       theirs = lineage_of(kinships[i].theirs, kinships[i].theirs_from);
        uint64_t fork_seq;

        CHECK_EQ(lineage_compare(&mine, &theirs, &fork_seq), kinships[i].want);
        CHECK_EQ(fork_seq, kinships[i].fork_seq);
    }
}

static void test_a_long_lineage_keeps_its_young_end(void)
{
    struct lineage l = lineage_of(LINEAGE_MAX + 5, 999), back;
    uint8_t wire[LINEAGE_BYTES_MAX];
    size_t length = lineage_put(wire, &l);

    CHECK_EQ(l.entry[0].epoch, 6);
    CHECK_EQ(lineage_tip(&l).epoch, LINEAGE_MAX + 5);
    CHECK(lineage_get(&back, wire, length) && memcmp(&back, &l, sizeof l) == 0);
    for (size_t cut = 0; cut < length; cut++)
        CHECK(!lineage_get(&back, wire, cut));
}

static void test_a_lineage_that_goes_backwards_is_refused(void)
{
    struct lineage l = {0}, back;
    uint8_t wire[LINEAGE_BYTES_MAX];

    lineage_add(&l, 2, 2, 0);
    lineage_add(&l, 2, 3, 0);
    CHECK(!lineage_get(&back, wire, lineage_put(wire, &l)));
}

static void test_cut_leaves_what_both_have(void)
{
    struct lineage mine = lineage_of(4, 9), theirs = lineage_of(4, 3);
    uint64_t fork_seq;

    lineage_cut(&mine, &theirs);
    CHECK_EQ(mine.count, 2);
    CHECK_EQ(lineage_compare(&mine, &theirs, &fork_seq), RELATION_BEHIND);
}

static void test_a_greeting_comes_back(void)
{
    struct hello in = {.role = REPLICA_PRIMARY,
                       .data = DATA_CONSISTENT,
                       .has_evidence = true,
                       .can_grow = true,
                       .can_snapshot = true,
                       .size_bytes = UINT64_C(1) << 40,
                       .seq = 88213,
                       .disk_id = 42,
                       .lineage = lineage_of(3, 9)},
                 out;
    uint8_t wire[HELLO_BYTES_MAX];
    size_t length = hello_put(wire, &in);

    CHECK(hello_get(&out, wire, length) && memcmp(&in, &out, sizeof in) == 0);
    for (size_t cut = 0; cut < length; cut++)
        CHECK(!hello_get(&out, wire, cut));
}

/* --- the decision
 * --------------------------------------------------------------------------------- */

static const enum plan seen_from_there[] = {
    [PLAN_WAIT] = PLAN_WAIT,
    [PLAN_SOURCE] = PLAN_TARGET,
    [PLAN_TARGET] = PLAN_SOURCE,
    [PLAN_FULL_SOURCE] = PLAN_FULL_TARGET,
    [PLAN_FULL_TARGET] = PLAN_FULL_SOURCE,
    [PLAN_STEP_DOWN] = PLAN_THEY_STEP_DOWN,
    [PLAN_THEY_STEP_DOWN] = PLAN_STEP_DOWN,
    [PLAN_SPLIT] = PLAN_SPLIT,
    [PLAN_GROW] = PLAN_GROW,
    [PLAN_REFUSE] = PLAN_REFUSE,
};
#define PLANS (PLAN_REFUSE + 1)

static bool is_source(enum plan plan)
{
    return plan == PLAN_SOURCE || plan == PLAN_FULL_SOURCE;
}

/* What holds for every cell, seen from `mine`. */
static void check_cell(const struct hello *mine, const struct hello *theirs, enum relation relation,
                       unsigned *plans)
{
    uint64_t fork_seq;
    const char *reason = NULL;
    enum plan here = connect_decide(mine, theirs, &fork_seq, &reason),
              there = connect_decide(theirs, mine, &fork_seq, &reason);
    bool are_related = relation != RELATION_FORK && relation != RELATION_UNRELATED;

    plans[here]++;
    CHECK(reason != NULL);
    CHECK_EQ(there, seen_from_there[here]);
    CHECK(!is_source(here) || (mine->role == REPLICA_PRIMARY && theirs->role != REPLICA_PRIMARY));
    CHECK(!is_source(here) || are_related);
    CHECK(!is_source(here) || !theirs->was_alone || theirs->data == DATA_NONE);
    CHECK(here != PLAN_SOURCE || theirs->data == DATA_CONSISTENT);
    CHECK(here != PLAN_STEP_DOWN || (!mine->was_alone && relation == RELATION_BEHIND));
    CHECK((here == PLAN_WAIT) ==
          (mine->role != REPLICA_PRIMARY && theirs->role != REPLICA_PRIMARY));
}

static struct hello hello_of(unsigned bits, struct lineage lineage)
{
    return (struct hello){.role = bits & 1,
                          .has_evidence = bits >> 1 & 1,
                          .was_alone = bits >> 2 & 1,
                          .data = (uint8_t)(bits >> 3),
                          .size_bytes = 1 << 20,
                          .disk_id = 42,
                          .lineage = lineage};
}
#define SIDES (8u * (DATA_CONSISTENT + 1))

static void test_every_cell_of_the_decision(void)
{
    static unsigned plans[PLANS];

    for (unsigned k = 0; k < KINSHIPS; k++)
        for (unsigned cell = 0; cell < SIDES * SIDES; cell++) {
            struct hello mine = hello_of(cell % SIDES, lineage_of(kinships[k].mine, 9)),
                         theirs = hello_of(cell / SIDES,
                                           lineage_of(kinships[k].theirs, kinships[k].theirs_from));

            check_cell(&mine, &theirs, kinships[k].want, plans);
        }
    printf("%zu cells:", KINSHIPS * SIDES * SIDES);
    for (unsigned p = 0; p < PLANS; p++) {
        printf(" %s %u,", plan_name((enum plan)p), plans[p]);
        CHECK(p == PLAN_REFUSE || p == PLAN_GROW || plans[p] > 0);
    }
    printf("\n");
}

static void test_two_disks_are_refused(void)
{
    struct hello mine = hello_of(1, lineage_of(2, 9)), theirs = hello_of(0, lineage_of(2, 9));
    const char *reason;
    uint64_t fork_seq;

    theirs.disk_id++;
    CHECK_EQ(connect_decide(&mine, &theirs, &fork_seq, &reason), PLAN_REFUSE);
}

/* A follower has at least what its source has.  Whoever is not to follow has no need to. */
static void test_the_smaller_follower_grows(void)
{
    for (unsigned k = 0; k < KINSHIPS; k++)
        for (unsigned cell = 0; cell < SIDES * SIDES; cell++) {
            struct hello mine = hello_of(cell % SIDES, lineage_of(kinships[k].mine, 9)),
                         theirs = hello_of(cell / SIDES,
                                           lineage_of(kinships[k].theirs, kinships[k].theirs_from));
            const char *reason;
            uint64_t fork_seq;
            enum plan same = connect_decide(&mine, &theirs, &fork_seq, &reason), want = same;

            theirs.size_bytes++;
            if (same == PLAN_TARGET || same == PLAN_FULL_TARGET)
                want = PLAN_GROW;
            CHECK_EQ(connect_decide(&mine, &theirs, &fork_seq, &reason), want);
            CHECK_EQ(connect_decide(&theirs, &mine, &fork_seq, &reason), seen_from_there[want]);
        }
}

int main(void)
{
    RUN(test_kinship);
    RUN(test_a_long_lineage_keeps_its_young_end);
    RUN(test_a_lineage_that_goes_backwards_is_refused);
    RUN(test_cut_leaves_what_both_have);
    RUN(test_a_greeting_comes_back);
    RUN(test_every_cell_of_the_decision);
    RUN(test_two_disks_are_refused);
    RUN(test_the_smaller_follower_grows);
    return unit_result();
}
