/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test-scsi-basic: CDBs that are wrong, LUNs that are not there, lengths that do not fit; reading
 * and writing in every length of CDB; unit attentions; commands cancelled, aborted and reset while
 * the disk keeps them; sessions that close meanwhile.
 */
#include "scsi-fixture.h"

#define BLOCKS (FIXTURE_BYTES / 512)

static void set_up(void)
{
    fixture_start(NULL);
    clear_attentions(fx.first);
    clear_attentions(fx.second);
}

/* --- what is wrong ------------------------------------------------------------------------ */

static void test_unknown_commands_are_refused(void)
{
    static const uint8_t known[] = {0x00, 0x03, 0x08, 0x0a, 0x12, 0x25, 0x28,
                                    0x2a, 0x88, 0x8a, 0x9e, 0xa0, 0xa8, 0xaa};
    static const uint8_t vendor[] = {0x02, 0x06, 0x20, 0x7f, 0xc0, 0xff, 0x99};

    set_up();
    for (unsigned i = 0; i < sizeof vendor; i++) {
        RUN_CDB(fx.first, vendor[i], 0, 0, 0, 0, 0);
        CHECK_SENSE(0x52000);
        CHECK_EQ(last.direction, SCSI_NO_DATA);
        CHECK_EQ(last.transfer_bytes, 0);
    }
    for (unsigned i = 0; i < sizeof known; i++) {
        RUN_CDB(fx.first, known[i], 0, 0, 0, 0, 0);
        CHECK(last_sense() != 0x52000);
    }
    RUN_CDB(fx.first, 0x9e, 0x1f); /* a known opcode, an unknown service action */
    CHECK_SENSE(0x52400);
    CHECK_EQ(last_field(), 1);
    fixture_end();
}

static void test_reserved_bits_and_protection_are_refused(void)
{
    set_up();
    RUN_CDB(fx.first, 0x28, 0x20, 0, 0, 0, 0, 0, 0, 1, 0); /* RDPROTECT */
    CHECK_SENSE(0x52400);
    CHECK_EQ(last_field(), 1);
    RUN_CDB(fx.first, 0x28, 0, 0, 0, 0, 0, 0, 0, 1, 4); /* NACA */
    CHECK_SENSE(0x52400);
    CHECK_EQ(last_field(), 9);
    RUN_CDB(fx.first, 0x28, 0, 0, 0, 0, 0, 0x40, 0, 1, 0); /* beside GROUP NUMBER */
    CHECK_SENSE(0x52400);
    CHECK_EQ(last_field(), 6);
    RUN_CDB(fx.first, 0x00, 0, 0, 1, 0, 0);
    CHECK_SENSE(0x52400);
    CHECK_EQ(last_field(), 3);
    CHECK_EQ(RUN_CDB(fx.first, 0x28, 0, 0, 0, 0, 0, 0x1f, 0, 1, 0), SCSI_GOOD);
    CHECK_EQ(RUN_CDB(fx.first, 0x00, 0xe0, 0, 0, 0, 0), SCSI_GOOD); /* a LUN of SCSI-2 */
    fixture_end();
}

static void check_range_of(const uint8_t *cdb, size_t bytes, uint32_t want)
{
    run_cdb(fx.first, cdb, bytes);
    CHECK_SENSE(want);
    CHECK(want == 0 || last.transfer_bytes == 0);
}

static void read16(uint64_t lba, uint32_t blocks, uint32_t want)
{
    uint8_t cdb[16] = {0x88};

    put_be(cdb + 2, lba, 8);
    put_be(cdb + 10, blocks, 4);
    check_range_of(cdb, sizeof cdb, want);
}

static void test_ranges_end_at_the_last_block(void)
{
    set_up();
    read16(BLOCKS - 1, 1, 0);
    read16(BLOCKS - 1, 2, 0x52100);
    read16(BLOCKS, 1, 0x52100);
    read16(UINT64_MAX, 1, 0x52100);
    read16(UINT64_MAX, UINT32_MAX, 0x52100);
    read16(BLOCKS, 0, 0);
    CHECK_EQ(last.direction, SCSI_NO_DATA);
    read16(BLOCKS + 1, 0, 0x52100);
    RUN_CDB(fx.first, 0x2a, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 1, 0);
    CHECK_SENSE(0x52100);
    fixture_end();
}

static void test_no_logical_unit_answers_three_commands(void)
{
    const uint8_t inquiry[] = {0x12, 0, 0, 0, 96, 0}, tur[] = {0, 0, 0, 0, 0, 0};
    const uint8_t sense[] = {3, 0, 0, 0, 252, 0}, luns[] = {0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0};
    static const uint64_t nowhere[] = {UINT64_C(1) << 48, UINT64_C(0x4001) << 48,
                                       UINT64_C(0x0100) << 48, UINT64_C(0xc101) << 48, 1};

    set_up();
    for (unsigned i = 0; i < ARRAY_SIZE(nowhere); i++) {
        prepare_cdb(fx.first, nowhere[i], tur, sizeof tur);
        finish_cdb();
        CHECK_SENSE(0x52500);
        prepare_cdb(fx.first, nowhere[i], inquiry, sizeof inquiry);
        finish_cdb();
        CHECK_EQ(last.status, SCSI_GOOD);
        CHECK_EQ(fx.data[0], 0x7f);
        prepare_cdb(fx.first, nowhere[i], sense, sizeof sense);
        finish_cdb();
        CHECK_EQ(fx.data[2], 5);
        CHECK_EQ(fx.data[12], 0x25);
        prepare_cdb(fx.first, nowhere[i], luns, sizeof luns);
        finish_cdb();
        CHECK_EQ(get_be(fx.data, 4), 8);
    }
    prepare_cdb(fx.first, UINT64_C(0x4000) << 48, tur, sizeof tur); /* flat LUN 0 */
    finish_cdb();
    CHECK_EQ(last.status, SCSI_GOOD);
    fixture_end();
}

/* --- reading and writing ------------------------------------------------------------------ */

static void fill(uint8_t seed, size_t length)
{
    for (size_t i = 0; i < length; i++)
        fx.data[i] = (uint8_t)(seed + i * 7 + (i >> 9));
}

static void write_then_read(const uint8_t *write, const uint8_t *read, size_t bytes, uint64_t lba,
                            uint32_t blocks, uint8_t seed)
{
    size_t length = (size_t)blocks * fx.block_bytes;
    uint8_t *copy = malloc(length);

    fill(seed, length);
    memcpy(copy, fx.data, length);
    CHECK_EQ(run_cdb(fx.first, write, bytes), SCSI_GOOD);
    CHECK_EQ(last.transfer_bytes, length);
    CHECK(memcmp(fx.ram->bytes + lba * fx.block_bytes, copy, length) == 0);
    memset(fx.data, 0, length);
    CHECK_EQ(run_cdb(fx.first, read, bytes), SCSI_GOOD);
    CHECK_EQ(last.data_in_bytes, length);
    CHECK(memcmp(fx.data, copy, length) == 0);
    free(copy);
}

static void both_ways(uint32_t block_bytes, unsigned is_async)
{
    struct scsi_lu_settings settings = {.block_bytes = block_bytes};

    fixture_start(&settings);
    clear_attentions(fx.first);
    atomic_store(&fx.ram->is_async, is_async);
    write_then_read((const uint8_t[]){0x0a, 0, 0, 3, 0, 0}, (const uint8_t[]){8, 0, 0, 3, 0, 0}, 6,
                    3, 256, 1);
    write_then_read((const uint8_t[]){0x2a, 8, 0, 0, 0, 9, 0, 0, 5, 0},
                    (const uint8_t[]){0x28, 0x18, 0, 0, 0, 9, 0, 0, 5, 0}, 10, 9, 5, 2);
    write_then_read((const uint8_t[]){0xaa, 0, 0, 0, 0, 40, 0, 0, 0, 7, 0, 0},
                    (const uint8_t[]){0xa8, 0, 0, 0, 0, 40, 0, 0, 0, 7, 0, 0}, 12, 40, 7, 3);
    write_then_read((const uint8_t[]){0x8a, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 8, 0, 0},
                    (const uint8_t[]){0x88, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 8, 0, 0}, 16, 256,
                    8, 4);
    fixture_end();
}

static void test_every_length_of_cdb_reads_what_it_wrote(void)
{
    for (unsigned is_async = 0; is_async < 2; is_async++) {
        both_ways(512, is_async);
        both_ways(4096, is_async);
    }
}

static void test_a_short_buffer_cuts_reads_and_whole_blocks_of_writes(void)
{
    const uint8_t write[] = {0x2a, 0, 0, 0, 0, 0, 0, 0, 4, 0};
    const uint8_t read[] = {0x28, 0, 0, 0, 0, 0, 0, 0, 4, 0};

    set_up();
    memset(fx.data, 0xee, 2048);
    prepare_cdb(fx.first, 0, write, sizeof write);
    last.data_bytes = 1100;
    finish_cdb();
    CHECK_EQ(last.status, SCSI_GOOD);
    CHECK_EQ(last.transfer_bytes, 2048);
    CHECK_EQ(fx.ram->bytes[1023], 0xee);
    CHECK_EQ(fx.ram->bytes[1024], 0);
    prepare_cdb(fx.first, 0, read, sizeof read);
    last.data_bytes = 700;
    memset(fx.data, 0x11, 2048);
    finish_cdb();
    CHECK_EQ(last.data_in_bytes, 700);
    CHECK_EQ(fx.data[699], 0xee);
    CHECK_EQ(fx.data[700], 0x11);
    prepare_cdb(fx.first, 0, write, sizeof write);
    last.data_bytes = 0;
    finish_cdb();
    CHECK_EQ(last.status, SCSI_GOOD);
    fixture_end();
}

static const struct {
    int error;
    uint32_t read_sense, write_sense;
} errors[] = {
    {EIO, 0x31100, 0x30c00},       {ENOSPC, 0x72707, 0x72707},  {EROFS, 0x72700, 0x72700},
    {ETIMEDOUT, 0xb2e02, 0xb2e02}, {EBADMSG, 0x44400, 0x44400},
};

static void test_errors_become_sense(void)
{
    set_up();
    for (unsigned i = 0; i < ARRAY_SIZE(errors); i++) {
        atomic_store(&fx.ram->fail_with, -errors[i].error);
        atomic_store(&fx.ram->is_async, i & 1);
        RUN_CDB(fx.first, 0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0);
        CHECK_SENSE(errors[i].read_sense);
        CHECK_EQ(last.data_in_bytes, 0);
        RUN_CDB(fx.first, 0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0);
        CHECK_SENSE(errors[i].write_sense);
    }
    atomic_store(&fx.ram->fail_with, -ENOMEM);
    CHECK_EQ(RUN_CDB(fx.first, 0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0), SCSI_BUSY);
    fixture_end();
}

/* --- unit attentions ---------------------------------------------------------------------- */

static void test_power_on_is_told_once_and_not_to_inquiry(void)
{
    fixture_start(NULL);
    CHECK_EQ(RUN_CDB(fx.first, 0x12, 0, 0, 0, 96, 0), SCSI_GOOD);
    CHECK_EQ(RUN_CDB(fx.first, 0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0), SCSI_GOOD);
    RUN_CDB(fx.first, 0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0);
    CHECK_SENSE(0x62900);
    CHECK_EQ(RUN_CDB(fx.first, 0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0), SCSI_GOOD);
    RUN_CDB(fx.second, 3, 0, 0, 0, 252, 0); /* REQUEST SENSE tells it as data */
    CHECK_EQ(last.status, SCSI_GOOD);
    CHECK_EQ(fx.data[2], 6);
    CHECK_EQ(fx.data[12], 0x29);
    CHECK_EQ(RUN_CDB(fx.second, 0, 0, 0, 0, 0, 0), SCSI_GOOD);
    RUN_CDB(fx.second, 3, 1, 0, 0, 252, 0);
    CHECK_EQ(fx.data[0], 0x72);
    CHECK_EQ(fx.data[1], 0);
    fixture_end();
}

static void test_growth_is_told_to_every_session(void)
{
    set_up();
    fx.ram->bytes = realloc(fx.ram->bytes, 2 * FIXTURE_BYTES);
    engine_set_size(disk_engine(fx.disk), 2 * FIXTURE_BYTES);
    RUN_CDB(fx.first, 0, 0, 0, 0, 0, 0);
    CHECK_SENSE(0x62a09);
    CHECK_EQ(RUN_CDB(fx.first, 0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0), SCSI_GOOD);
    CHECK_EQ(get_be(fx.data, 4), 2 * BLOCKS - 1);
    RUN_CDB(fx.second, 0, 0, 0, 0, 0, 0);
    CHECK_SENSE(0x62a09);
    fixture_end();
}

/* --- ending early ------------------------------------------------------------------------- */

static void test_a_command_that_waits_for_data_is_forgotten(void)
{
    const uint8_t write[] = {0x2a, 0, 0, 0, 0, 0, 0, 0, 4, 0};

    set_up();
    prepare_cdb(fx.first, 0, write, sizeof write);
    CHECK(scsi_command_cancel(&last));
    CHECK_EQ(scsi_nexus_in_flight(fx.first), 0);
    fixture_end();
}

static void test_a_kept_command_ends_when_its_buffer_is_free(void)
{
    const uint8_t write[] = {0x2a, 0, 0, 0, 0, 0, 0, 0, 4, 0};

    set_up();
    atomic_store(&fx.ram->is_stuck, true);
    prepare_cdb(fx.first, 0, write, sizeof write);
    last_is_done = false;
    CHECK_EQ(scsi_command_start(&last), IO_PENDING);
    CHECK_EQ(scsi_nexus_in_flight(fx.first), 1);
    CHECK(!scsi_command_cancel(&last));
    home_drain(home_current());
    CHECK(!last_is_done); /* the backing has it */
    ram_release(fx.ram);
    home_wait(home_current(), &last_is_done);
    CHECK(last.is_aborted);
    CHECK_EQ(scsi_nexus_in_flight(fx.first), 0);
    fixture_end();
}

static bool managed;

static void on_managed(struct scsi_management *m)
{
    (void)m;
    managed = true;
}

static uint8_t manage(struct scsi_nexus *nexus, uint8_t function, struct scsi_command *c)
{
    struct scsi_management m = {
        .nexus = nexus, .function = function, .command = c, .done = on_managed};

    managed = false;
    scsi_manage(&m);
    home_wait(home_current(), &managed);
    return m.response;
}

/* Each function against a command that the backing keeps: no answer before it has ended. */
static void against_kept(uint8_t function, bool is_by_other)
{
    const uint8_t write[] = {0x2a, 0, 0, 0, 0, 0, 0, 0, 4, 0};
    struct scsi_management m = {.function = function, .done = on_managed};

    set_up();
    m.nexus = is_by_other ? fx.second : fx.first;
    atomic_store(&fx.ram->is_stuck, true);
    prepare_cdb(fx.first, 0, write, sizeof write);
    last_is_done = managed = false;
    CHECK_EQ(scsi_command_start(&last), IO_PENDING);
    m.command = &last;
    scsi_manage(&m);
    home_drain(home_current());
    CHECK(!managed);
    CHECK(!last_is_done);
    ram_release(fx.ram);
    home_wait(home_current(), &managed);
    CHECK(last_is_done);
    CHECK_EQ(last.is_aborted, !is_by_other); /* TAS: another one is told */
    CHECK_EQ(last.status, SCSI_TASK_ABORTED);
    CHECK_EQ(m.response, SCSI_FUNCTION_COMPLETE);
    fixture_end();
}

static void test_functions_wait_for_what_they_abort(void)
{
    against_kept(SCSI_ABORT_TASK, false);
    against_kept(SCSI_ABORT_TASK_SET, false);
    against_kept(SCSI_CLEAR_TASK_SET, false);
    against_kept(SCSI_NEXUS_RESET, false);
    against_kept(SCSI_LU_RESET, false);
    against_kept(SCSI_LU_RESET, true);
    against_kept(SCSI_TARGET_WARM_RESET, true);
}

static void test_resets_are_told(void)
{
    set_up();
    CHECK_EQ(manage(fx.second, SCSI_LU_RESET, NULL), SCSI_FUNCTION_COMPLETE);
    RUN_CDB(fx.first, 0, 0, 0, 0, 0, 0);
    CHECK_SENSE(0x62903);
    RUN_CDB(fx.second, 0, 0, 0, 0, 0, 0);
    CHECK_SENSE(0x62903);
    CHECK_EQ(manage(fx.second, SCSI_TARGET_COLD_RESET, NULL), SCSI_FUNCTION_COMPLETE);
    RUN_CDB(fx.first, 0, 0, 0, 0, 0, 0);
    CHECK_SENSE(0x62903);
    CHECK_EQ(manage(fx.first, SCSI_ABORT_TASK, NULL), SCSI_NO_TASK);
    CHECK_EQ(manage(fx.first, SCSI_CLEAR_ACA, NULL), SCSI_FUNCTION_NOT_SUPPORTED);
    CHECK_EQ(manage(fx.first, SCSI_TASK_REASSIGN, NULL), SCSI_REASSIGN_NOT_SUPPORTED);
    CHECK_EQ(manage(fx.first, 99, NULL), SCSI_FUNCTION_NOT_SUPPORTED);
    fixture_end();
}

static void test_a_session_closes_when_the_disk_lets_go(void)
{
    const uint8_t write[] = {0x2a, 0, 0, 0, 0, 0, 0, 0, 4, 0};
    bool is_closed = false;

    set_up();
    atomic_store(&fx.ram->is_stuck, true);
    prepare_cdb(fx.first, 0, write, sizeof write);
    last_is_done = false;
    CHECK_EQ(scsi_command_start(&last), IO_PENDING);
    scsi_nexus_close(fx.first, fixture_set_flag, &is_closed);
    home_drain(home_current());
    CHECK(!is_closed);
    ram_release(fx.ram);
    home_wait(home_current(), &is_closed);
    CHECK(last_is_done);
    CHECK(last.is_aborted);
    fx.first = NULL;
    CHECK_EQ(disk_session_count(fx.disk), 1);
    fixture_end();
}

static _Atomic bool is_lun_removed;

static void *remove_lun(void *arg)
{
    struct err e = {0};

    (void)arg;
    if (scsi_target_remove_lun(fx.target, 0, &e) < 0)
        fixture_fail("remove the LUN", &e);
    atomic_store(&is_lun_removed, true);
    return NULL;
}

/* Its initiator did not ask for that: it would wait for ever. */
static void test_a_command_of_a_lun_that_goes_is_answered(void)
{
    const uint8_t write[] = {0x2a, 0, 0, 0, 0, 0, 0, 0, 4, 0};
    pthread_t thread;

    set_up();
    atomic_store(&fx.ram->is_stuck, true);
    prepare_cdb(fx.first, 0, write, sizeof write);
    last_is_done = false;
    CHECK_EQ(scsi_command_start(&last), IO_PENDING);
    if (thread_start(&thread, remove_lun, NULL) != 0)
        abort();
    while (!last.is_cancelled)
        home_drain(home_current());
    CHECK(!last_is_done);
    ram_release(fx.ram);
    home_wait(home_current(), &last_is_done);
    CHECK(!last.is_aborted);
    CHECK_EQ(last.status, SCSI_TASK_ABORTED);
    while (!atomic_load(&is_lun_removed)) /* the other session has to let go of it too */
        home_drain(home_current());
    pthread_join(thread, NULL);
    RUN_CDB(fx.first, 0, 0, 0, 0, 0, 0);
    CHECK_SENSE(0x52500);
    fixture_end();
}

/* --- task attributes ---------------------------------------------------------------------- */

#define ROW_MAX 6u

/* Commands in the order in which they come; which have ended. */
static struct scsi_command row[ROW_MAX];
static bool row_is_done[ROW_MAX];
static char row_order[ROW_MAX + 1];

static void on_row_done(struct scsi_command *c)
{
    size_t at = (size_t)(c - row);

    row_is_done[at] = true;
    row_order[strlen(row_order)] = (char)('0' + at);
}

/* A read (which waits while the backing is stuck) or a TEST UNIT READY (which does not). */
static void send_row(unsigned at, uint8_t attribute, bool is_read)
{
    static const uint8_t read[] = {0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0};
    struct scsi_command *c = &row[at];

    memset(c, 0, sizeof *c);
    if (is_read)
        memcpy(c->cdb, read, sizeof read);
    c->cdb_bytes = SCSI_CDB_BYTES;
    c->nexus = fx.first;
    c->attribute = attribute;
    c->done = on_row_done;
    scsi_command_decode(c);
    c->data = fx.data + 4096 * at;
    c->data_bytes = c->transfer_bytes;
}

static void start_row(unsigned at)
{
    if (scsi_command_start(&row[at]) == IO_DONE)
        on_row_done(&row[at]);
    home_drain(home_current());
}

static void set_up_row(void)
{
    set_up();
    memset(row_is_done, 0, sizeof row_is_done);
    memset(row_order, 0, sizeof row_order);
}

static void test_an_ordered_command_waits_and_is_waited_for(void)
{
    static const uint8_t attribute[] = {SCSI_SIMPLE, SCSI_ORDERED, SCSI_SIMPLE, SCSI_HEAD_OF_QUEUE};

    set_up_row();
    atomic_store(&fx.ram->is_stuck, true);
    for (unsigned i = 0; i < ARRAY_SIZE(attribute); i++) {
        send_row(i, attribute[i], i == 0);
        start_row(i);
    }
    CHECK_STR(row_order, "3");
    ram_release(fx.ram);
    home_wait(home_current(), &row_is_done[2]);
    CHECK_STR(row_order, "3012");
    for (unsigned i = 0; i < ARRAY_SIZE(attribute); i++)
        CHECK_EQ(row[i].status, SCSI_GOOD);
    fixture_end();
}

/* One whose data has not come yet came before as well. */
static void test_order_is_that_of_arrival(void)
{
    set_up_row();
    send_row(0, SCSI_SIMPLE, false);
    send_row(1, SCSI_ORDERED, false);
    start_row(1);
    send_row(2, SCSI_UNTAGGED, false);
    start_row(2);
    CHECK_STR(row_order, "");
    CHECK(scsi_command_cancel(&row[0]));
    home_drain(home_current());
    CHECK_STR(row_order, "12");
    CHECK_EQ(scsi_nexus_in_flight(fx.first), 0);
    fixture_end();
}

static void test_what_waits_can_be_aborted(void)
{
    set_up_row();
    atomic_store(&fx.ram->is_stuck, true);
    for (unsigned i = 0; i < 4; i++) {
        send_row(i, i == 1 ? SCSI_ORDERED : SCSI_SIMPLE, i == 0);
        start_row(i);
    }
    CHECK_EQ(manage(fx.first, SCSI_ABORT_TASK, &row[1]), SCSI_FUNCTION_COMPLETE);
    CHECK(row_is_done[1] && row[1].is_aborted);
    CHECK_STR(row_order, "123"); /* nothing ordered is left */
    send_row(4, SCSI_ORDERED, false);
    start_row(4);
    send_row(5, SCSI_SIMPLE, true);
    start_row(5);
    CHECK_STR(row_order, "123");
    ram_release(fx.ram);
    CHECK_EQ(manage(fx.first, SCSI_LU_RESET, NULL), SCSI_FUNCTION_COMPLETE);
    CHECK_EQ(strlen(row_order), 6);
    CHECK_EQ(scsi_nexus_in_flight(fx.first), 0);
    fixture_end();
}

static void test_a_session_closes_with_commands_that_wait(void)
{
    bool is_closed = false;

    set_up_row();
    atomic_store(&fx.ram->is_stuck, true);
    for (unsigned i = 0; i < ROW_MAX; i++) {
        send_row(i, i ? SCSI_ORDERED : SCSI_SIMPLE, i == 0);
        start_row(i);
    }
    scsi_nexus_close(fx.first, fixture_set_flag, &is_closed);
    home_drain(home_current());
    CHECK_STR(row_order, "12345");
    CHECK(!is_closed);
    ram_release(fx.ram);
    home_wait(home_current(), &is_closed);
    CHECK_STR(row_order, "123450");
    fx.first = NULL;
    fixture_end();
}

int main(void)
{
    RUN(test_unknown_commands_are_refused);
    RUN(test_reserved_bits_and_protection_are_refused);
    RUN(test_ranges_end_at_the_last_block);
    RUN(test_no_logical_unit_answers_three_commands);
    RUN(test_every_length_of_cdb_reads_what_it_wrote);
    RUN(test_a_short_buffer_cuts_reads_and_whole_blocks_of_writes);
    RUN(test_errors_become_sense);
    RUN(test_power_on_is_told_once_and_not_to_inquiry);
    RUN(test_growth_is_told_to_every_session);
    RUN(test_a_command_that_waits_for_data_is_forgotten);
    RUN(test_a_kept_command_ends_when_its_buffer_is_free);
    RUN(test_functions_wait_for_what_they_abort);
    RUN(test_resets_are_told);
    RUN(test_a_session_closes_when_the_disk_lets_go);
    RUN(test_a_command_of_a_lun_that_goes_is_answered);
    RUN(test_an_ordered_command_waits_and_is_waited_for);
    RUN(test_order_is_that_of_arrival);
    RUN(test_what_waits_can_be_aborted);
    RUN(test_a_session_closes_with_commands_that_wait);
    return unit_result();
}
