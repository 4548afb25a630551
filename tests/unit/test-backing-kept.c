/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test-backing-kept: order, bounds and truth of the list of unflushed changes.
 */
#include "backing/backing-kept.h"
#include "unit.h"

static void add(struct kept *k, uint64_t offset, uint64_t length, char byte)
{
    char data[256];

    memset(data, byte, sizeof data);
    CHECK_EQ(kept_add(k, IO_WRITE, IO_FUA | IO_NO_HOLE, offset, length, data), 0);
}

static void test_records_stand_in_order_and_hold_copies(void)
{
    struct kept k;
    struct kept_record *first, *second;

    kept_init(&k, 0);
    CHECK_EQ(k.bound, KEPT_DEFAULT_BYTES);
    CHECK(kept_next(&k, NULL) == NULL);
    add(&k, 0, 16, 'a');
    add(&k, 8, 16, 'b');
    first = kept_next(&k, NULL);
    second = kept_next(&k, first);
    CHECK(first->seq < second->seq);
    CHECK_EQ(first->flags, IO_NO_HOLE);
    CHECK_EQ(first->data[15], 'a');
    CHECK_EQ(second->data[0], 'b');
    CHECK(kept_next(&k, second) == NULL);
    CHECK_EQ(k.bytes, 2 * kept_need(IO_WRITE, 16));
    kept_free(&k);
    CHECK_EQ(k.bytes, 0);
    CHECK_EQ(k.count, 0);
}

static void test_a_flush_drops_what_was_there_when_it_was_sent(void)
{
    struct kept k;
    uint64_t sent;

    kept_init(&k, 0);
    add(&k, 0, 16, 'a');
    sent = k.last_seq;
    add(&k, 16, 16, 'b');
    kept_drop_through(&k, sent);
    CHECK_EQ(k.count, 1);
    CHECK_EQ(kept_next(&k, NULL)->offset, 16);
    kept_drop_through(&k, sent);
    CHECK_EQ(k.count, 1);
    kept_free(&k);
}

static void test_room_is_bounded_but_never_denied_to_a_lone_change(void)
{
    uint64_t need = kept_need(IO_WRITE, 100);
    struct kept k;

    kept_init(&k, 2 * need);
    CHECK(kept_has_room(&k, 100 * need));
    kept_reserve(&k, need);
    CHECK(kept_has_room(&k, need));
    CHECK(!kept_has_room(&k, need + 1));
    kept_reserve(&k, need);
    CHECK(!kept_has_room(&k, 1));
    kept_release(&k, need);
    add(&k, 0, 100, 'a');
    CHECK(!kept_has_room(&k, 1));
    CHECK(kept_is_half_full(&k));
    kept_release(&k, need);
    CHECK(kept_has_room(&k, need));
    kept_free(&k);
    CHECK(!kept_is_half_full(&k));
}

static void test_zeros_and_trims_take_no_data(void)
{
    struct kept k;

    kept_init(&k, 0);
    CHECK_EQ(kept_add(&k, IO_TRIM, 0, 0, UINT64_C(1) << 40, NULL), 0);
    CHECK_EQ(kept_add(&k, IO_ZERO, IO_NO_HOLE, 0, UINT64_C(1) << 40, NULL), 0);
    CHECK(k.bytes < 1000);
    kept_free(&k);
}

static void test_forgetting_is_remembered(void)
{
    uint64_t need = kept_need(IO_WRITE, 100);
    struct kept k;

    kept_init(&k, 2 * need);
    add(&k, 0, 100, 'a');
    add(&k, 100, 100, 'b');
    kept_forget_for_room(&k, need);
    CHECK(k.has_forgotten);
    CHECK_EQ(k.count, 1);
    CHECK_EQ(kept_next(&k, NULL)->offset, 100);
    kept_free(&k);
}

static void test_a_stable_range_is_cut_out_of_older_records(void)
{
    struct kept k;
    struct kept_record *r;

    kept_init(&k, 0);
    add(&k, 0, 100, 'a'); /* left and right remain */
    add(&k, 40, 20, 'b'); /* nothing remains */
    add(&k, 30, 20, 'c'); /* left */
    add(&k, 50, 50, 'd'); /* right */
    add(&k, 60, 10, 'e'); /* touches only */
    CHECK_EQ(kept_cut(&k, 40, 20), 0);
    CHECK_EQ(k.count, 5);
    r = kept_next(&k, NULL);
    CHECK_EQ(r->offset, 0);
    CHECK_EQ(r->length, 40);
    r = kept_next(&k, r);
    CHECK_EQ(r->offset, 60);
    CHECK_EQ(r->length, 40);
    CHECK_EQ(r->seq, 1);
    r = kept_next(&k, r);
    CHECK_EQ(r->offset, 30);
    CHECK_EQ(r->length, 10);
    r = kept_next(&k, r);
    CHECK_EQ(r->offset, 60);
    CHECK_EQ(r->length, 40);
    CHECK_EQ(r->data[39], 'd');
    r = kept_next(&k, r);
    CHECK_EQ(r->length, 10);
    kept_drop_through(&k, 1);
    CHECK_EQ(k.count, 3);
    kept_free(&k);
    CHECK_EQ(k.bytes, 0);
}

int main(void)
{
    RUN(test_records_stand_in_order_and_hold_copies);
    RUN(test_a_flush_drops_what_was_there_when_it_was_sent);
    RUN(test_room_is_bounded_but_never_denied_to_a_lone_change);
    RUN(test_zeros_and_trims_take_no_data);
    RUN(test_forgetting_is_remembered);
    RUN(test_a_stable_range_is_cut_out_of_older_records);
    return unit_result();
}
