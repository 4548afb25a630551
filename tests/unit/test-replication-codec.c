/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Frames, lineages and the connect decision.  The decision is tried for every pair of roles, flags
 * and kinship: it must be the same from both sides, and never forget evidence.
 */
#include "unit.h"

#include "connect.h"
#include "frames.h"

#include <errno.h>

#define FLAG_SETS 256u

static void test_a_frame_comes_back(void)
{
    uint8_t message[REP_HEAD_BYTES + 4] = {0};
    struct rep_head in = {.type = REP_WRITE,
                          .flags = 1,
                          .disk = 2,
                          .body_bytes = 4,
                          .epoch = 3,
                          .seq = 4,
                          .offset = 4096,
                          .length = 4,
                          .arg = 6},
                    out;
    const void *body;

    memcpy(message + REP_HEAD_BYTES, "abcd", 4);
    rep_head_encode(message, &in, message + REP_HEAD_BYTES);
    CHECK_EQ(rep_head_decode(message, sizeof message, &out, &body), 0);
    CHECK(out.type == in.type && out.flags == 1 && out.disk == 2 && out.epoch == 3 && out.seq == 4);
    CHECK(out.offset == 4096 && out.length == 4 && out.arg == 6 && memcmp(body, "abcd", 4) == 0);
}

static void test_every_flipped_bit_is_refused(void)
{
    uint8_t message[REP_HEAD_BYTES + 4] = {0};
    struct rep_head head = {.type = REP_WRITE, .body_bytes = 4, .length = 4};
    const void *body;

    rep_head_encode(message, &head, message + REP_HEAD_BYTES);
    for (unsigned bit = 0; bit < 8 * sizeof message; bit++) {
        message[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        CHECK(rep_head_decode(message, sizeof message, &head, &body) < 0);
        message[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    for (unsigned bytes = 0; bytes < sizeof message; bytes++)
        CHECK(rep_head_decode(message, bytes, &head, &body) < 0);
}

static void test_shapes(void)
{
    static const struct {
        uint8_t type;
        uint16_t flags;
        uint32_t body_bytes;
        uint64_t offset, length;
        int want;
    } cases[] = {
        {REP_PLAN, 0, 1, 0, 0, -EPROTO},
        {REP_WRITE, 0, 4, 0, 5, -EPROTO},
        {REP_WRITE, 0, 0, 0, 0, -EPROTO},
        {REP_TRIM, 0, 0, 2, UINT64_MAX, -EPROTO},
        {REP_FRAME_TYPES, 0, 0, 0, 0, -EPROTONOSUPPORT},
        {REP_FRAME_TYPES, REP_FRAME_MAY_IGNORE, 0, 0, 0, -ENOTSUP},
        {REP_ACK, 0, 0, 0, 0, 0},
    };
    uint8_t message[REP_HEAD_BYTES + 4] = {0};
    const void *body;

    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct rep_head head = {.type = cases[i].type,
                                .flags = cases[i].flags,
                                .body_bytes = cases[i].body_bytes,
                                .offset = cases[i].offset,
                                .length = cases[i].length};

        rep_head_encode(message, &head, message + REP_HEAD_BYTES);
        CHECK_EQ(rep_head_decode(message, REP_HEAD_BYTES + cases[i].body_bytes, &head, &body),
                 cases[i].want);
    }
}

/* Epochs 1 to `count`, those from `from` on of another uuid; epoch n starts at 100 n. */
static struct rep_lineage lineage_of(uint32_t count, uint32_t from, uint64_t uuid)
{
    struct rep_lineage l = {0};

    for (uint32_t n = 1; n <= count; n++) {
        struct rep_epoch e = {.number = n, .uuid = {n >= from ? uuid : 1, n}, .start_seq = 100 * n};

        rep_lineage_open(&l, &e);
    }
    return l;
}

static void test_kinship(void)
{
    static const struct {
        uint32_t mine, theirs, theirs_from;
        uint64_t my_last, their_last;
        enum rep_kinship want;
        uint64_t fork;
    } cases[] = {
        {0, 0, 9, 0, 0, REP_KIN_FRESH_BOTH, UINT64_MAX},
        {0, 2, 9, 0, 250, REP_KIN_FRESH_MINE, 100},
        {2, 0, 9, 250, 0, REP_KIN_FRESH_THEIRS, 100},
        {2, 2, 9, 250, 240, REP_KIN_EQUAL, UINT64_MAX},
        {2, 3, 9, 299, 310, REP_KIN_ANCESTOR, 300},
        {2, 3, 9, 300, 310, REP_KIN_FORK, 300}, /* holds what the later epoch does not know of */
        {3, 2, 9, 310, 299, REP_KIN_DESCENDANT, 300},
        {3, 2, 9, 310, 300, REP_KIN_FORK, 300},
        {2, 2, 2, 250, 250, REP_KIN_FORK, 200}, /* one epoch, two uuids */
        {3, 3, 2, 310, 310, REP_KIN_FORK, 200},
        {2, 2, 1, 250, 250, REP_KIN_STRANGER, 100},
    };

    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct rep_lineage mine = lineage_of(cases[i].mine, 9, 1),
                           theirs = lineage_of(cases[i].theirs, cases[i].theirs_from, 7);
        uint64_t fork;

        CHECK_EQ(rep_lineage_compare(&mine, cases[i].my_last, &theirs, cases[i].their_last, &fork),
                 cases[i].want);
        CHECK_EQ(fork, cases[i].fork);
    }
}

static void test_a_long_lineage_keeps_its_young_end(void)
{
    struct rep_lineage l = lineage_of(REP_LINEAGE_MAX + 5, 99, 1), back;
    uint8_t wire[REP_LINEAGE_MAX * REP_EPOCH_BYTES];
    size_t bytes = rep_lineage_encode(&l, wire);

    CHECK_EQ(l.of[0].number, 6);
    CHECK_EQ(rep_lineage_tip(&l)->number, REP_LINEAGE_MAX + 5);
    CHECK_EQ(rep_lineage_decode(&back, wire, bytes), 0);
    CHECK(memcmp(&back, &l, sizeof l) == 0);
    CHECK_EQ(rep_lineage_decode(&back, wire, bytes - 1), -EPROTO);
}

/* What the other side must come to when this side has come to `plan`. */
static enum rep_plan seen_from_there(enum rep_plan plan)
{
    if (plan == REP_PLAN_DEPOSE_MINE)
        return REP_PLAN_DEPOSE_THEIRS;
    return plan == REP_PLAN_DEPOSE_THEIRS ? REP_PLAN_DEPOSE_MINE : plan;
}

static void check_cell(const struct rep_facts *a, const struct rep_facts *b, unsigned *plans)
{
    struct rep_decision here = rep_connect_decide(a, b), there = rep_connect_decide(b, a);
    bool has_evidence = ((a->flags | b->flags) & REP_HELLO_EVIDENCE) != 0;

    plans[here.plan]++;
    CHECK_EQ(there.plan, seen_from_there(here.plan));
    CHECK(!has_evidence || (here.plan != REP_PLAN_STREAM && here.plan != REP_PLAN_REPLAY));
    CHECK(here.kinship != REP_KIN_STRANGER || here.plan == REP_PLAN_UNRELATED);
    if (here.kinship == REP_KIN_FORK && !((a->flags ^ b->flags) & REP_HELLO_YIELDS))
        CHECK_EQ(here.plan, REP_PLAN_SPLIT_BRAIN);
}

static void test_every_cell_of_the_connect_decision(void)
{
    static const uint32_t shapes[][3] = {{0, 0, 9}, {0, 2, 9}, {2, 0, 9}, {2, 2, 9}, {2, 3, 9},
                                         {3, 2, 9}, {2, 2, 2}, {3, 3, 2}, {2, 2, 1}};
    static const uint64_t lasts[] = {250, 260, 299, 300};
    static unsigned plans[REP_PLANS];
    unsigned cells = 0;

    for (unsigned s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (unsigned f = 0; f < FLAG_SETS * FLAG_SETS; f++) {
            struct rep_lineage mine = lineage_of(shapes[s][0], 9, 1),
                               theirs = lineage_of(shapes[s][1], shapes[s][2], 7);
            struct rep_facts a = {&mine, lasts[cells % 4], 251, f % FLAG_SETS},
                             b = {&theirs, lasts[cells / 4 % 4], 251, f / FLAG_SETS};

            check_cell(&a, &b, plans);
            cells++;
        }
    printf("%u cells:", cells);
    for (unsigned p = 0; p < REP_PLANS; p++) {
        printf(" %u", plans[p]);
        CHECK(plans[p] > 0);
    }
    printf("\n");
}

int main(void)
{
    RUN(test_a_frame_comes_back);
    RUN(test_every_flipped_bit_is_refused);
    RUN(test_shapes);
    RUN(test_kinship);
    RUN(test_a_long_lineage_keeps_its_young_end);
    RUN(test_every_cell_of_the_connect_decision);
    return unit_result();
}
