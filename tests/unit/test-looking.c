/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test-looking: when looking for what comes begins, and what each look in vain costs.
 */
#include "io/io.h"
#include "unit.h"

#define PATIENCE_NS 50000u

/* How many short sleeps it takes until it may look; 10,000: it never may. */
static unsigned sleeps_to_look(struct looking *l)
{
    unsigned count = 0;

    for (; !looking_may(l) && count < 10000; count++)
        looking_has_slept(l, PATIENCE_NS);
    return count;
}

static void test_short_sleeps_in_a_row_let_it_look(void)
{
    struct looking l;

    looking_init(&l, PATIENCE_NS);
    CHECK_EQ(sleeps_to_look(&l), 4);
    looking_init(&l, PATIENCE_NS);
    for (unsigned i = 0; i < 100; i++) {
        CHECK(!looking_may(&l));
        looking_has_slept(&l, i % 3 == 2 ? 2 * PATIENCE_NS : 2 * PATIENCE_NS - 1);
    }
}

static void test_it_goes_on_as_long_as_something_comes(void)
{
    struct looking l;

    looking_init(&l, PATIENCE_NS);
    sleeps_to_look(&l);
    for (unsigned i = 0; i < 100; i++) {
        CHECK(looking_may(&l));
        looking_has_looked(&l, PATIENCE_NS / 2, true);
    }
}

static void test_each_look_in_vain_doubles_what_it_takes(void)
{
    struct looking l;
    unsigned wanted = 4;

    looking_init(&l, PATIENCE_NS);
    sleeps_to_look(&l);
    for (unsigned i = 0; i < 20; i++) {
        wanted = wanted < 4096 ? 2 * wanted : wanted;
        /* What has come, but only after the processor was somebody else's, is in vain as well. */
        looking_has_looked(&l, i % 2 ? 2 * PATIENCE_NS : PATIENCE_NS, i % 2);
        CHECK_EQ(sleeps_to_look(&l), wanted);
    }
    for (unsigned i = 0; i < 10; i++)
        looking_has_looked(&l, 1, true);
    looking_has_slept(&l, UINT64_MAX);
    CHECK_EQ(sleeps_to_look(&l), 4);
}

static void test_without_patience_it_never_looks(void)
{
    struct looking l;

    looking_init(&l, 0);
    CHECK_EQ(sleeps_to_look(&l), 10000);
}

int main(void)
{
    RUN(test_short_sleeps_in_a_row_let_it_look);
    RUN(test_it_goes_on_as_long_as_something_comes);
    RUN(test_each_look_in_vain_doubles_what_it_takes);
    RUN(test_without_patience_it_never_looks);
    return unit_result();
}
