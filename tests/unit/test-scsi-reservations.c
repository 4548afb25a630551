/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test-scsi-reservations: persistent reservations of every type against a table
 * of what each kind of initiator may do; wrong keys, scopes, types and lists;
 * preemption, moving, clearing; what is kept over a restart and what is not;
 * RESERVE and RELEASE, which end with their session.
 */
#include "scsi-fixture.h"

#include <sys/stat.h>

enum { REGISTER, RESERVE, RELEASE, CLEAR, PREEMPT, PREEMPT_AND_ABORT, IGNORE, MOVE };

#define KEY_A 0x1111u
#define KEY_B 0x2222u

static void set_up(void)
{
    fixture_start(NULL);
    clear_attentions(fx.first);
    clear_attentions(fx.second);
}

static uint8_t out_of(struct scsi_nexus *nexus, uint8_t action, uint8_t type, uint64_t key,
                      uint64_t action_key, uint8_t flags)
{
    memset(fx.data, 0, 24);
    put_be(fx.data, key, 8);
    put_be(fx.data + 8, action_key, 8);
    fx.data[20] = flags;
    return RUN_CDB(nexus, 0x5f, action, type, 0, 0, 0, 0, 0, 24, 0);
}

static uint64_t reservation_type(struct scsi_nexus *nexus)
{
    CHECK_EQ(RUN_CDB(nexus, 0x5e, 1, 0, 0, 0, 0, 0, 0, 255, 0), SCSI_GOOD);
    return get_be(fx.data + 4, 4) ? fx.data[21] : 0;
}

static uint64_t count_keys(struct scsi_nexus *nexus)
{
    CHECK_EQ(RUN_CDB(nexus, 0x5e, 0, 0, 0, 0, 0, 0, 4, 0, 0), SCSI_GOOD);
    return get_be(fx.data + 4, 4) / 8;
}

static uint8_t read_as(struct scsi_nexus *nexus)
{
    return RUN_CDB(nexus, 0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0);
}

static uint8_t write_as(struct scsi_nexus *nexus)
{
    return RUN_CDB(nexus, 0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0);
}

/* --- what is wrong
 * -------------------------------------------------------------------------- */

/* A job that fails before its first request has no request to ask. */
static void test_a_store_that_fails_is_told(void)
{
    char path[400];

    set_up();
    snprintf(path, sizeof path, "%s/reservations.json", disk_state_folder(fx.disk));
    CHECK_EQ(mkdir(path, 0700), 0);
    strcat(path, "/in-the-way");
    CHECK_EQ(mkdir(path, 0700), 0);
    CHECK_EQ(out_of(fx.first, REGISTER, 0, 0, KEY_A, 1), SCSI_CHECK_CONDITION); /* APTPL */
    CHECK(last_sense() != 0);
    fixture_end();
}

static void test_wrong_orders_change_nothing(void)
{
    set_up();
    CHECK_EQ(out_of(fx.first, RESERVE, 1, KEY_A, 0, 0), SCSI_RESERVATION_CONFLICT);
    CHECK_EQ(out_of(fx.first, REGISTER, 0, 5, KEY_A, 0), SCSI_RESERVATION_CONFLICT);
    CHECK_EQ(out_of(fx.first, REGISTER, 0, 0, KEY_A, 0), SCSI_GOOD);
    CHECK_EQ(out_of(fx.first, REGISTER, 0, 5, KEY_A, 0), SCSI_RESERVATION_CONFLICT);
    CHECK_EQ(out_of(fx.first, RESERVE, 1, KEY_B, 0, 0), SCSI_RESERVATION_CONFLICT);
    for (uint8_t type = 0; type < 16; type++) {
        bool is_valid = type == 1 || type == 3 || (type >= 5 && type <= 8);

        if (is_valid)
            continue;
        out_of(fx.first, RESERVE, type, KEY_A, 0, 0);
        CHECK_SENSE(0x52400);
    }
    for (uint8_t scope = 1; scope < 16; scope++) {
        out_of(fx.first, RESERVE, (uint8_t)(scope << 4 | 1), KEY_A, 0, 0);
        CHECK_SENSE(0x52400);
    }
    out_of(fx.first, PREEMPT, 1, KEY_A, 0, 0);
    CHECK_SENSE(0x52600);
    CHECK_EQ(out_of(fx.first, PREEMPT, 1, KEY_A, 0x9999, 0), SCSI_RESERVATION_CONFLICT);
    out_of(fx.first, IGNORE, 0, 0, KEY_B, 8); /* SPEC_I_PT */
    CHECK_SENSE(0x52600);                     /* no list behind it */
    CHECK_EQ(reservation_type(fx.first), 0);
    CHECK_EQ(count_keys(fx.first), 1);
    fixture_end();
}

static void test_list_lengths_are_exact(void)
{
    set_up();
    for (unsigned length = 0; length < 24; length++) {
        RUN_CDB(fx.first, 0x5f, 0, 0, 0, 0, 0, 0, 0, (uint8_t)length, 0);
        CHECK_SENSE(0x51a00);
    }
    memset(fx.data, 0, 64);
    RUN_CDB(fx.first, 0x5f, 0, 0, 0, 0, 0, 0, 0, 25, 0);
    CHECK_SENSE(0x51a00);
    RUN_CDB(fx.first, 0x5f, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0);
    CHECK_SENSE(0x51a00);
    RUN_CDB(fx.first, 0x5e, 4, 0, 0, 0, 0, 0, 0, 8, 0);
    CHECK_SENSE(0x52400);
    fixture_end();
}

/* SPEC_I_PT with ids that run past their list, have no end or no ISID. */
static void spec_i_pt(const void *id, size_t bytes, uint32_t said, uint32_t want)
{
    memset(fx.data, 0, 512);
    put_be(fx.data + 8, KEY_A, 8);
    fx.data[20] = 8;
    put_be(fx.data + 24, said, 4);
    memcpy(fx.data + 28, id, bytes);
    RUN_CDB(fx.first, 0x5f, 0, 0, 0, 0, 0, 0, (uint8_t)((28 + bytes) >> 8), (uint8_t)(28 + bytes),
            0);
    CHECK_SENSE(want);
}

static void test_transport_ids_are_taken_by_length(void)
{
    uint8_t id[64] = {0x45, 0, 0, 36};

    set_up();
    memcpy(id + 4, "iqn.1998-01.org:x,i,0x800000000009", 34);
    spec_i_pt(id, 40, 41, 0x51a00);
    spec_i_pt(id, 40, 39, 0x51a00);
    id[3] = 37;
    spec_i_pt(id, 40, 40, 0x52600);
    id[3] = 40;
    spec_i_pt(id, 40, 40, 0x52600);
    id[3] = 36;
    memset(id + 4, 'a', 36);
    spec_i_pt(id, 40, 40, 0x52600);
    memcpy(id + 4, "iqn.1998-01.org:x,i,0x8000000000\0\0\0\0", 36);
    spec_i_pt(id, 40, 40, 0x52600);
    id[0] = 0x06;
    spec_i_pt(id, 40, 40, 0x52600);
    CHECK_EQ(count_keys(fx.first), 0);
    id[0] = 0x45;
    memcpy(id + 4, "iqn.1998-01.or\xff:x,i,0x800000000009\0\0", 36);
    spec_i_pt(id, 40, 40, 0x52600);
    memcpy(id + 4, "iqn.1998-01.org:x,i,0x800000000009\0\0", 36);
    spec_i_pt(id, 40, 40, 0);
    CHECK_EQ(count_keys(fx.first), 2);
    fixture_end();
}

/* --- types
 * ----------------------------------------------------------------------------------
 */

static const struct {
    uint8_t type;
    bool may_stranger_read, may_registered_read, may_registered_write;
} rules[] = {
    {1, true, true, false}, {3, false, false, false}, {5, true, true, true},
    {6, false, true, true}, {7, true, true, true},    {8, false, true, true},
};

static void check_rule(unsigned i)
{
    uint8_t read = rules[i].may_stranger_read ? SCSI_GOOD : SCSI_RESERVATION_CONFLICT;

    set_up();
    CHECK_EQ(out_of(fx.first, REGISTER, 0, 0, KEY_A, 0), SCSI_GOOD);
    CHECK_EQ(out_of(fx.first, RESERVE, rules[i].type, KEY_A, 0, 0), SCSI_GOOD);
    CHECK_EQ(read_as(fx.first), SCSI_GOOD);
    CHECK_EQ(write_as(fx.first), SCSI_GOOD);
    CHECK_EQ(read_as(fx.second), read);
    CHECK_EQ(write_as(fx.second), SCSI_RESERVATION_CONFLICT);
    CHECK_EQ(RUN_CDB(fx.second, 0, 0, 0, 0, 0, 0), SCSI_GOOD);
    CHECK_EQ(RUN_CDB(fx.second, 0x12, 0, 0, 0, 96, 0), SCSI_GOOD);
    CHECK_EQ(out_of(fx.second, REGISTER, 0, 0, KEY_B, 0), SCSI_GOOD);
    CHECK_EQ(read_as(fx.second) == SCSI_GOOD, rules[i].may_registered_read);
    CHECK_EQ(write_as(fx.second) == SCSI_GOOD, rules[i].may_registered_write);
    CHECK_EQ(reservation_type(fx.second), rules[i].type);
    out_of(fx.first, RELEASE, rules[i].type == 1 ? 3 : 1, KEY_A, 0, 0);
    CHECK_SENSE(0x52604);
    CHECK_EQ(out_of(fx.first, RELEASE, rules[i].type, KEY_A, 0, 0), SCSI_GOOD);
    if (rules[i].type >= 5) { /* those who were let in by registration are told */
        RUN_CDB(fx.second, 0, 0, 0, 0, 0, 0);
        CHECK_SENSE(0x62a04);
    }
    CHECK_EQ(write_as(fx.second), SCSI_GOOD);
    CHECK_EQ(reservation_type(fx.second), 0);
    fixture_end();
}

static void test_each_type_lets_in_whom_it_should(void)
{
    for (unsigned i = 0; i < ARRAY_SIZE(rules); i++)
        check_rule(i);
}

/* --- ends
 * -----------------------------------------------------------------------------------
 */

static void test_preempt_takes_over_and_tells(void)
{
    set_up();
    out_of(fx.first, REGISTER, 0, 0, KEY_A, 0);
    out_of(fx.second, REGISTER, 0, 0, KEY_B, 0);
    CHECK_EQ(out_of(fx.first, RESERVE, 3, KEY_A, 0, 0), SCSI_GOOD);
    CHECK_EQ(write_as(fx.second), SCSI_RESERVATION_CONFLICT);
    CHECK_EQ(out_of(fx.second, PREEMPT_AND_ABORT, 5, KEY_B, KEY_A, 0), SCSI_GOOD);
    CHECK_EQ(write_as(fx.second), SCSI_GOOD);
    RUN_CDB(fx.first, 0, 0, 0, 0, 0, 0);
    CHECK_SENSE(0x62a05);
    CHECK_EQ(write_as(fx.first), SCSI_RESERVATION_CONFLICT);
    CHECK_EQ(count_keys(fx.first), 1);
    CHECK_EQ(reservation_type(fx.first), 5);
    CHECK_EQ(out_of(fx.second, CLEAR, 0, KEY_B, 0, 0), SCSI_GOOD);
    CHECK_EQ(count_keys(fx.first), 0);
    CHECK_EQ(write_as(fx.first), SCSI_GOOD);
    fixture_end();
}

static void test_preempt_aborts_what_is_under_way(void)
{
    struct scsi_command kept;
    bool is_done = false;

    set_up();
    out_of(fx.first, REGISTER, 0, 0, KEY_A, 0);
    out_of(fx.second, REGISTER, 0, 0, KEY_B, 0);
    atomic_store(&fx.ram->is_stuck, true);
    prepare_cdb(fx.first, 0, (const uint8_t[]){0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0}, 10);
    kept = last;
    (void)is_done;
    scsi_command_cancel(&last);
    scsi_command_decode(&kept);
    kept.data = fx.data + 4096;
    kept.data_bytes = 512;
    CHECK_EQ(scsi_command_start(&kept), IO_PENDING);
    memset(fx.data, 0, 24);
    put_be(fx.data, KEY_B, 8);
    put_be(fx.data + 8, KEY_A, 8);
    prepare_cdb(fx.second, 0, (const uint8_t[]){0x5f, 5, 1, 0, 0, 0, 0, 0, 24, 0}, 10);
    last_is_done = false;
    CHECK_EQ(scsi_command_start(&last), IO_PENDING);
    home_drain(home_current());
    CHECK(!last_is_done); /* the disk still has the write */
    ram_release(fx.ram);
    while (scsi_nexus_in_flight(fx.second)) {
        last_is_done = false;
        home_wait(home_current(), &last_is_done);
    }
    CHECK_EQ(last.status, SCSI_GOOD);
    CHECK_EQ(kept.status, SCSI_TASK_ABORTED);
    CHECK_EQ(scsi_nexus_in_flight(fx.first), 0);
    fixture_end();
}

static void test_a_reservation_moves(void)
{
    const char *name = "iqn.2026-01.org.example:second,i,0x800000000002";
    size_t bytes = (strlen(name) + 4) / 4 * 4;

    set_up();
    out_of(fx.first, REGISTER, 0, 0, KEY_A, 0);
    CHECK_EQ(out_of(fx.first, RESERVE, 1, KEY_A, 0, 0), SCSI_GOOD);
    memset(fx.data, 0, 256);
    put_be(fx.data, KEY_A, 8);
    put_be(fx.data + 8, KEY_B, 8);
    fx.data[17] = 2; /* UNREG */
    put_be(fx.data + 18, 1, 2);
    put_be(fx.data + 20, 4 + bytes, 4);
    fx.data[24] = 0x45;
    put_be(fx.data + 26, bytes, 2);
    memcpy(fx.data + 28, name, strlen(name));
    CHECK_EQ(RUN_CDB(fx.first, 0x5f, 7, 0, 0, 0, 0, 0, 0, (uint8_t)(28 + bytes), 0), SCSI_GOOD);
    CHECK_EQ(write_as(fx.second), SCSI_GOOD);
    CHECK_EQ(write_as(fx.first), SCSI_RESERVATION_CONFLICT);
    CHECK_EQ(count_keys(fx.first), 1);
    fixture_end();
}

static void restart(void)
{
    fixture_close_lu();
    fixture_open_lu();
    clear_attentions(fx.first);
    clear_attentions(fx.second);
}

static void test_only_what_is_kept_outlives_a_restart(void)
{
    for (unsigned is_kept = 0; is_kept < 2; is_kept++) {
        set_up();
        CHECK_EQ(out_of(fx.first, REGISTER, 0, 0, KEY_A, (uint8_t)is_kept), SCSI_GOOD);
        CHECK_EQ(out_of(fx.first, RESERVE, 3, KEY_A, 0, 0), SCSI_GOOD);
        restart();
        CHECK_EQ(read_as(fx.second) == SCSI_RESERVATION_CONFLICT, is_kept);
        CHECK_EQ(write_as(fx.first), SCSI_GOOD);
        CHECK_EQ(count_keys(fx.first), is_kept);
        if (is_kept) {
            CHECK_EQ(out_of(fx.first, CLEAR, 0, KEY_A, 0, 0), SCSI_GOOD);
            restart();
            CHECK_EQ(count_keys(fx.first), 0);
        }
        fixture_end();
    }
}

static void test_a_damaged_file_refuses_the_disk(void)
{
    const char *folder;
    struct scsi_lu *lu = NULL;
    struct err e = {0};

    set_up();
    folder = disk_state_folder(fx.disk);
    CHECK_EQ(disk_state_write(folder, "reservations.json", "{\"version\":1", 12), 0);
    CHECK(scsi_lu_create(fx.disk, &fx.settings, &lu, &e) < 0);
    CHECK(strstr(e.text, "reservations.json") != NULL);
    CHECK_EQ(disk_state_remove(folder, "reservations.json"), 0);
    fixture_end();
}

static void test_reserve_ends_with_its_session(void)
{
    set_up();
    CHECK_EQ(RUN_CDB(fx.first, 0x16, 0, 0, 0, 0, 0), SCSI_GOOD);
    CHECK_EQ(RUN_CDB(fx.second, 0, 0, 0, 0, 0, 0), SCSI_RESERVATION_CONFLICT);
    CHECK_EQ(RUN_CDB(fx.second, 0x16, 0, 0, 0, 0, 0), SCSI_RESERVATION_CONFLICT);
    CHECK_EQ(RUN_CDB(fx.second, 0x12, 0, 0, 0, 96, 0), SCSI_GOOD);
    CHECK_EQ(write_as(fx.first), SCSI_GOOD);
    fixture_close_nexus(fx.first);
    fx.first = NULL;
    CHECK_EQ(write_as(fx.second), SCSI_GOOD);
    CHECK_EQ(RUN_CDB(fx.second, 0x16, 0, 0, 0, 0, 0), SCSI_GOOD);
    CHECK_EQ(RUN_CDB(fx.second, 0x17, 0, 0, 0, 0, 0), SCSI_GOOD);
    fixture_end();
}

int main(void)
{
    RUN(test_a_store_that_fails_is_told);
    RUN(test_wrong_orders_change_nothing);
    RUN(test_list_lengths_are_exact);
    RUN(test_transport_ids_are_taken_by_length);
    RUN(test_each_type_lets_in_whom_it_should);
    RUN(test_preempt_takes_over_and_tells);
    RUN(test_preempt_aborts_what_is_under_way);
    RUN(test_a_reservation_moves);
    RUN(test_only_what_is_kept_outlives_a_restart);
    RUN(test_a_damaged_file_refuses_the_disk);
    RUN(test_reserve_ends_with_its_session);
    return unit_result();
}
