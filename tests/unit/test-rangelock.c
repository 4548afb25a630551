/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test-rangelock: the interval treap against a plain list: the same entries are granted, in arrival
 * order, and nobody overtakes; withdrawn waiters unblock those behind them.
 */
#include "engine/rangelock.h"
#include "unit.h"

#define ENTRIES 200

static void granted(struct range_entry *entry)
{
    (void)entry;
}

struct model {
    struct range_entry entry[ENTRIES];
    unsigned order[ENTRIES]; /* indexes in arrival order */
    unsigned count;
    bool is_in[ENTRIES];
};

static bool overlap(const struct range_entry *a, const struct range_entry *b)
{
    return a->first <= b->last && b->first <= a->last && !(a->is_shared && b->is_shared);
}

/* By the definition: granted when no earlier entry that is still in conflicts. */
static bool should_be_granted(const struct model *m, unsigned position)
{
    const struct range_entry *e = &m->entry[m->order[position]];

    for (unsigned i = 0; i < position; i++)
        if (overlap(&m->entry[m->order[i]], e))
            return false;
    return true;
}

static void check_all(const struct model *m)
{
    for (unsigned i = 0; i < m->count; i++)
        CHECK_EQ(m->entry[m->order[i]].is_granted, should_be_granted(m, i));
}

static void add(struct rangelock *lock, struct model *m)
{
    unsigned i = (unsigned)rand() % ENTRIES;
    struct range_entry *e = &m->entry[i];

    if (m->is_in[i])
        return;
    e->first = (unsigned)rand() % 1000;
    e->last = e->first + (unsigned)rand() % 100;
    e->is_shared = rand() % 3 == 0;
    e->granted = granted;
    m->is_in[i] = true;
    m->order[m->count++] = i;
    CHECK_EQ(rangelock_lock(lock, e), should_be_granted(m, m->count - 1));
}

static void take_out(struct rangelock *lock, struct model *m)
{
    unsigned at = m->count ? (unsigned)rand() % m->count : 0;
    struct range_entry *e;

    if (!m->count)
        return;
    e = &m->entry[m->order[at]];
    if (e->is_granted)
        rangelock_unlock(lock, e);
    else
        CHECK(rangelock_withdraw(lock, e));
    m->is_in[m->order[at]] = false;
    memmove(&m->order[at], &m->order[at + 1], (m->count - at - 1) * sizeof m->order[0]);
    m->count--;
}

static void test_random_traffic_agrees_with_the_definition(void)
{
    static struct model m;
    struct rangelock lock;

    rangelock_init(&lock);
    for (unsigned i = 0; i < 20000; i++) {
        if (rand() % 2)
            add(&lock, &m);
        else
            take_out(&lock, &m);
        check_all(&m);
    }
    while (m.count)
        take_out(&lock, &m);
    CHECK(rangelock_is_empty(&lock));
    rangelock_destroy(&lock);
}

static void test_a_reader_does_not_overtake_a_waiting_writer(void)
{
    struct rangelock lock;
    struct range_entry a = {.last = 9, .is_shared = true, .granted = granted};
    struct range_entry w = {.last = 9, .granted = granted};
    struct range_entry b = {.last = 9, .is_shared = true, .granted = granted};

    rangelock_init(&lock);
    CHECK(rangelock_lock(&lock, &a));
    CHECK(!rangelock_lock(&lock, &w));
    CHECK(!rangelock_lock(&lock, &b));
    rangelock_unlock(&lock, &a);
    CHECK(w.is_granted && !b.is_granted);
    CHECK(!rangelock_withdraw(&lock, &w));
    rangelock_unlock(&lock, &w);
    CHECK(b.is_granted);
    rangelock_unlock(&lock, &b);
    rangelock_destroy(&lock);
}

int main(void)
{
    RUN(test_random_traffic_agrees_with_the_definition);
    RUN(test_a_reader_does_not_overtake_a_waiting_writer);
    return unit_result();
}
