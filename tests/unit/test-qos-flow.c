/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test-qos-flow: the limits in simulated time: rates hold exactly, bursts and debts are what they
 * say, no queue starves, and a session's window keeps room without undoing the limit.
 */
#include "../../filters/qos/qos-flow.h"
#include "unit.h"

#define MS 1000000ull
#define SECOND 1000000000ull
#define START (1000 * SECOND)

/* --- buckets ------------------------------------------------------------------------------------
 */

static void test_a_full_bucket_gives_its_burst_and_then_the_rate(void)
{
    struct qos_bucket b = {0};
    unsigned at_once = 0, later = 0;

    qos_bucket_set(&b, 1000, 20 * MS, START);
    while (qos_bucket_has_token(&b, START)) {
        qos_bucket_take(&b, 1, START);
        at_once++;
    }
    CHECK_EQ(at_once, 20);
    CHECK_EQ(qos_bucket_level(&b, START), 0);
    for (uint64_t now = START; now < START + SECOND; now += MS / 4)
        for (; qos_bucket_has_token(&b, now); later++)
            qos_bucket_take(&b, 1, now);
    CHECK(later >= 999 && later <= 1000);
}

static void test_the_wait_is_exact(void)
{
    struct qos_bucket b = {0};
    uint64_t wait;

    qos_bucket_set(&b, 300, 10 * MS, START);
    while (qos_bucket_has_token(&b, START))
        qos_bucket_take(&b, 1, START);
    wait = qos_bucket_wait_ns(&b, START);
    CHECK(wait > 0);
    CHECK(qos_bucket_has_token(&b, START + wait));
    CHECK(!qos_bucket_has_token(&b, START + wait - 1));
}

static void test_without_a_burst_requests_are_evenly_spaced(void)
{
    struct qos_bucket b = {0};

    qos_bucket_set(&b, 100, 0, START);
    CHECK(qos_bucket_has_token(&b, START));
    qos_bucket_take(&b, 1, START);
    CHECK_EQ(qos_bucket_wait_ns(&b, START), 10 * MS);
    CHECK(!qos_bucket_has_token(&b, START + 10 * MS - 1));
    CHECK(qos_bucket_has_token(&b, START + 10 * MS));
}

static void test_a_large_request_goes_into_debt_and_the_next_one_pays(void)
{
    struct qos_bucket b = {0};

    qos_bucket_set(&b, 1 << 20, 50 * MS, START);
    CHECK(qos_bucket_has_token(&b, START));
    qos_bucket_take(&b, 4 << 20, START);
    CHECK(qos_bucket_level(&b, START) < -(3 << 20));
    CHECK_EQ(qos_bucket_wait_ns(&b, START) / MS, 3950);
}

/* 10^9 / 7 is not whole: what is cut off must not add up. */
static void test_odd_rates_do_not_drift(void)
{
    struct qos_bucket b = {0};

    qos_bucket_set(&b, 7, 0, START);
    for (unsigned i = 0; i < 7000; i++)
        qos_bucket_take(&b, 1, START);
    CHECK_EQ(b.full_at_ns, START + 1000 * SECOND);
}

static void test_a_new_rate_keeps_what_is_owed(void)
{
    struct qos_bucket b = {0};

    qos_bucket_set(&b, 100, 0, START);
    qos_bucket_take(&b, 50, START);
    qos_bucket_set(&b, 1000, 0, START);
    CHECK_EQ(qos_bucket_level(&b, START), -50);
    qos_bucket_set(&b, 0, 0, START);
    CHECK(qos_bucket_has_token(&b, START));
}

/* --- a simulated client: keeps so many requests of one kind in flight ----------------------- */

#define DEPTH_MAX 64

struct client {
    enum qos_kind kind;
    unsigned depth;
    uint64_t session, bytes;
    struct qos_item item[DEPTH_MAX];
    uint64_t done, longest_wait_ns, since[DEPTH_MAX];
    unsigned waiting, most_waiting;
};

static void send(struct qos_flow *f, struct client *c, unsigned i, uint64_t now)
{
    /* A request that goes at once ends at once, and the next one is sent: at most so many a step.
     */
    for (unsigned n = 0; n < 100000; n++) {
        c->item[i].kind = c->kind;
        c->item[i].bytes = c->bytes;
        c->since[i] = now;
        if (qos_flow_arrive(f, &c->item[i], c->session, now) == QOS_WAITS) {
            c->waiting++;
            if (c->waiting > c->most_waiting)
                c->most_waiting = c->waiting;
            return;
        }
        c->done++;
    }
    CHECK(!"a limited client ran without a limit");
}

static void reply(struct qos_flow *f, struct client *clients, unsigned count, struct qos_item *item,
                  uint64_t now)
{
    for (unsigned c = 0; c < count; c++) {
        struct client *k = &clients[c];
        unsigned i = (unsigned)(item - k->item);

        if (item < k->item || i >= k->depth)
            continue;
        k->done++;
        k->waiting--;
        if (now - k->since[i] > k->longest_wait_ns)
            k->longest_wait_ns = now - k->since[i];
        send(f, k, i, now);
        return;
    }
    CHECK(!"an item of nobody");
}

/* Runs until `end`, as the filter does: sleeps as long as the flow says, then lets go what may go.
 */
static void simulate(struct qos_flow *f, struct client *clients, unsigned count, uint64_t end)
{
    uint64_t now = START;

    for (unsigned c = 0; c < count; c++)
        for (unsigned i = 0; i < clients[c].depth; i++)
            send(f, &clients[c], i, now);
    while (now < end) {
        uint64_t wait = qos_flow_wait_ns(f, now);
        struct qos_item *item;

        if (wait == UINT64_MAX) {
            CHECK(!"nobody waits for a limit");
            return;
        }
        now += wait + 60000; /* timers are late */
        while ((item = qos_flow_next(f, now)))
            reply(f, clients, count, item, now);
    }
}

static struct qos_flow *flow_with(const struct qos_limits *limits)
{
    static struct qos_flow f;

    memset(&f, 0, sizeof f);
    qos_flow_set(&f, limits, START);
    return &f;
}

/* --- flows ---------------------------------------------------------------------------------- */

static void test_iops_hold_at_every_depth(void)
{
    static const unsigned depths[] = {1, 4, 16, 28, 32, 64};

    for (unsigned d = 0; d < 6; d++) {
        struct qos_limits l = {.iops[QOS_ALL] = 1000, .burst_ns = 50 * MS, .window = 32};
        struct client c = {.kind = QOS_WRITE, .depth = depths[d], .session = 7, .bytes = 4096};

        simulate(flow_with(&l), &c, 1, START + 10 * SECOND);
        CHECK(c.done >= 9900 && c.done <= 10100);
    }
}

static void test_bandwidth_holds_for_any_size(void)
{
    static const uint64_t sizes[] = {512, 4096, 65536, 1 << 20, 32 << 20};

    for (unsigned i = 0; i < 5; i++) {
        struct qos_limits l = {.bandwidth[QOS_WRITE] = 64 << 20, .burst_ns = 50 * MS};
        struct client c = {.kind = QOS_WRITE, .depth = 4, .bytes = sizes[i]};
        uint64_t moved;

        simulate(flow_with(&l), &c, 1, START + 20 * SECOND);
        moved = c.done * sizes[i];
        CHECK(moved >= 19 * (64ull << 20) && moved <= 21 * (64ull << 20));
    }
}

static void test_a_limit_on_writes_does_not_keep_reads(void)
{
    struct qos_limits l = {.iops[QOS_WRITE] = 10};
    struct qos_flow *f = flow_with(&l);
    struct client w = {.kind = QOS_WRITE, .depth = 16};
    struct qos_item read = {.kind = QOS_READ, .bytes = 4096};

    CHECK(!qos_limits_apply(&l, QOS_READ));
    CHECK(qos_limits_apply(&l, QOS_WRITE));
    for (unsigned i = 0; i < w.depth; i++)
        send(f, &w, i, START);
    CHECK_EQ(qos_flow_arrive(f, &read, 0, START), QOS_GOES);
}

/* Both want more than their share of one limit; the deeper one must not keep the other out. */
static void test_neither_kind_starves(void)
{
    struct qos_limits l = {.iops[QOS_ALL] = 1000, .burst_ns = 10 * MS};
    struct client c[2] = {{.kind = QOS_READ, .depth = 1}, {.kind = QOS_WRITE, .depth = 16}};

    simulate(flow_with(&l), c, 2, START + 10 * SECOND);
    CHECK(c[0].done + c[1].done >= 9900 && c[0].done + c[1].done <= 10100);
    CHECK(c[0].longest_wait_ns <= 20 * MS);
    CHECK(c[1].longest_wait_ns <= 20 * MS);
}

static void test_own_limits_and_the_common_one_hold_together(void)
{
    struct qos_limits l = {.iops = {[QOS_READ] = 800, [QOS_WRITE] = 200, [QOS_ALL] = 900}};
    struct client c[2] = {{.kind = QOS_READ, .depth = 16}, {.kind = QOS_WRITE, .depth = 16}};

    l.burst_ns = 10 * MS;
    simulate(flow_with(&l), c, 2, START + 10 * SECOND);
    CHECK(c[1].done >= 1950 && c[1].done <= 2050);
    CHECK(c[0].done >= 6900 && c[0].done <= 7150);
}

/* --- windows -------------------------------------------------------------------------------- */

static void test_one_eighth_of_a_window_stays_free(void)
{
    struct qos_limits l = {.iops[QOS_WRITE] = 10};
    struct qos_flow *f = flow_with(&l);
    struct client c = {.kind = QOS_WRITE, .depth = 1, .session = 9};
    unsigned waits = 0, borrows = 0, goes = 0;

    for (unsigned i = 0; i < 33; i++) { /* the first one goes */
        c.item[i].kind = QOS_WRITE;
        c.item[i].window = 32;
        switch (qos_flow_arrive(f, &c.item[i], c.session, START)) {
        case QOS_GOES:
            goes++;
            break;
        case QOS_BORROWS:
            borrows++;
            break;
        default:
            waits++;
        }
    }
    CHECK_EQ(goes, 1);
    CHECK_EQ(waits, 28);
    CHECK_EQ(borrows, 4);
    CHECK_EQ(qos_bucket_level(&f->iops[QOS_WRITE], START), -5);
}

/* How many are held before one borrows. */
static unsigned held_of_window(uint64_t said, uint64_t clients)
{
    struct qos_limits l = {.iops[QOS_WRITE] = 10, .window = said};
    struct qos_flow *f = flow_with(&l);
    static struct qos_item item[200];
    unsigned held = 0;

    memset(item, 0, sizeof item);
    for (unsigned i = 0; i < 150; i++) { /* the first one goes */
        enum qos_arrival arrival;

        item[i].kind = QOS_WRITE;
        item[i].window = clients;
        arrival = qos_flow_arrive(f, &item[i], 3, START);
        if (arrival == QOS_BORROWS)
            return held;
        held += arrival == QOS_WAITS;
    }
    return held;
}

/* iSCSI has 128, nbdkit by itself 16; an operator may know better. */
static void test_the_window_is_the_clients_unless_another_is_said(void)
{
    CHECK_EQ(held_of_window(0, 128), 112);
    CHECK_EQ(held_of_window(0, 16), 14);
    CHECK_EQ(held_of_window(0, 4), 3);
    CHECK_EQ(held_of_window(0, 1), 149); /* none to spare */
    CHECK_EQ(held_of_window(64, 16), 56);
}

static void test_of_an_unknown_window_nothing_is_borrowed(void)
{
    struct qos_limits l = {.iops[QOS_WRITE] = 10};
    struct qos_flow *f = flow_with(&l);
    struct qos_item item[100] = {{0}};

    for (unsigned i = 0; i < 100; i++) {
        item[i].kind = QOS_WRITE;
        CHECK_EQ(qos_flow_arrive(f, &item[i], 3, START), i ? QOS_WAITS : QOS_GOES);
    }
}

static void test_borrowing_ends_and_is_paid_back(void)
{
    struct qos_limits l = {.iops[QOS_WRITE] = 100, .window = 8};
    struct qos_flow *f = flow_with(&l);
    struct qos_item item[16] = {{0}};
    uint64_t now = START;

    for (unsigned i = 0; i < 16; i++) {
        item[i].kind = QOS_WRITE;
        qos_flow_arrive(f, &item[i], 3, now);
    }
    /* 1 went, 7 wait, 1 borrowed, 7 more wait. */
    CHECK_EQ(f->session[0].held, 14);
    CHECK_EQ(f->session[0].borrowed, 1);
    now += qos_flow_wait_ns(f, now);
    CHECK(qos_flow_next(f, now) == &item[1]);
    CHECK_EQ(f->session[0].borrowed, 0);
    for (unsigned i = 0; i < 13; i++) {
        now += qos_flow_wait_ns(f, now);
        CHECK(qos_flow_next(f, now) != NULL);
    }
    CHECK_EQ(f->session[0].id, 0);
    CHECK_EQ(qos_flow_wait_ns(f, now), UINT64_MAX);
}

static void test_a_removed_one_is_not_charged(void)
{
    struct qos_limits l = {.iops[QOS_ALL] = 10};
    struct qos_flow *f = flow_with(&l);
    struct qos_item item[3] = {{.kind = QOS_READ}, {.kind = QOS_READ}, {.kind = QOS_WRITE}};

    CHECK_EQ(qos_flow_arrive(f, &item[0], 1, START), QOS_GOES);
    CHECK_EQ(qos_flow_arrive(f, &item[1], 1, START), QOS_WAITS);
    CHECK_EQ(qos_flow_arrive(f, &item[2], 2, START), QOS_WAITS);
    qos_flow_remove(f, &item[1]);
    CHECK(qos_flow_oldest(f) == &item[2]);
    CHECK(qos_flow_next(f, START + 99 * MS) == NULL);
    CHECK(qos_flow_next(f, START + 100 * MS) == &item[2]);
    CHECK(qos_flow_oldest(f) == NULL);
}

int main(void)
{
    RUN(test_a_full_bucket_gives_its_burst_and_then_the_rate);
    RUN(test_the_wait_is_exact);
    RUN(test_without_a_burst_requests_are_evenly_spaced);
    RUN(test_a_large_request_goes_into_debt_and_the_next_one_pays);
    RUN(test_odd_rates_do_not_drift);
    RUN(test_a_new_rate_keeps_what_is_owed);
    RUN(test_iops_hold_at_every_depth);
    RUN(test_bandwidth_holds_for_any_size);
    RUN(test_a_limit_on_writes_does_not_keep_reads);
    RUN(test_neither_kind_starves);
    RUN(test_own_limits_and_the_common_one_hold_together);
    RUN(test_one_eighth_of_a_window_stays_free);
    RUN(test_the_window_is_the_clients_unless_another_is_said);
    RUN(test_of_an_unknown_window_nothing_is_borrowed);
    RUN(test_borrowing_ends_and_is_paid_back);
    RUN(test_a_removed_one_is_not_charged);
    return unit_result();
}
