/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test-scsi-commands: the commands beside READ and WRITE, each first with what
 * is wrong: compare and write, verify, write same, unmap, the status of blocks,
 * mode pages, vital product data, reports, copies, atomic writes and their
 * replay, erasing.
 */
#include "scsi-fixture.h"

#include <fcntl.h>
#include <sys/stat.h>

#define BLOCKS (FIXTURE_BYTES / 512)

static void set_up_with(const struct scsi_lu_settings *settings)
{
    fixture_start(settings);
    clear_attentions(fx.first);
    clear_attentions(fx.second);
}

static void set_up(void)
{
    set_up_with(NULL);
}

static bool is_filled(uint64_t lba, uint64_t blocks, uint8_t with)
{
    for (uint64_t i = 0; i < blocks * 512; i++)
        if (fx.ram->bytes[lba * 512 + i] != with)
            return false;
    return true;
}

/* --- blocks
 * ---------------------------------------------------------------------------------
 */

static void test_compare_and_write_is_exact(void)
{
    const uint8_t cdb[] = {0x89, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0};

    set_up();
    memset(fx.data, 0, 512);
    memset(fx.data + 512, 7, 512);
    prepare_cdb(fx.first, 0, cdb, sizeof cdb);
    CHECK_EQ(last.transfer_bytes, 1024);
    last.data_bytes = 512; /* half of it */
    finish_cdb();
    CHECK_SENSE(0x52400);
    prepare_cdb(fx.first, 0, cdb, sizeof cdb);
    last.expected_bytes = 2048;
    finish_cdb();
    CHECK_SENSE(0x52400);
    CHECK(is_filled(2, 1, 0));
    CHECK_EQ(run_cdb(fx.first, cdb, sizeof cdb), SCSI_GOOD);
    CHECK(is_filled(2, 1, 7));
    memset(fx.data, 7, 512);
    fx.data[300] = 8;
    run_cdb(fx.first, cdb, sizeof cdb);
    CHECK_SENSE(0xe1d00);
    CHECK_EQ(last.sense[0], 0xf0);
    CHECK_EQ(get_be(last.sense + 3, 4), 300);
    CHECK_EQ(RUN_CDB(fx.first, 0x89, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0), SCSI_GOOD);
    RUN_CDB(fx.first, 0x89, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 1, 0, 0, 0);
    CHECK_SENSE(0x52400);
    fixture_end();
}

static void test_verify_finds_the_first_difference(void)
{
    set_up();
    memset(fx.ram->bytes, 5, 4096);
    memset(fx.data, 5, 4096);
    CHECK_EQ(RUN_CDB(fx.first, 0x2f, 2, 0, 0, 0, 0, 0, 0, 8, 0), SCSI_GOOD);
    CHECK_EQ(RUN_CDB(fx.first, 0x2f, 6, 0, 0, 0, 0, 0, 0, 8, 0), SCSI_GOOD); /* one block */
    CHECK_EQ(last.transfer_bytes, 512);
    CHECK_EQ(RUN_CDB(fx.first, 0x2f, 0, 0, 0, 0, 0, 0, 0, 8, 0), SCSI_GOOD);
    CHECK_EQ(last.transfer_bytes, 0);
    RUN_CDB(fx.first, 0x2f, 4, 0, 0, 0, 0, 0, 0, 8, 0);
    CHECK_SENSE(0x52400);
    fx.ram->bytes[1000] = 6;
    RUN_CDB(fx.first, 0x2f, 2, 0, 0, 0, 0, 0, 0, 8, 0);
    CHECK_SENSE(0xe1d00);
    CHECK_EQ(get_be(last.sense + 3, 4), 1000);
    atomic_store(&fx.ram->is_async, true);
    CHECK_EQ(RUN_CDB(fx.first, 0x2e, 2, 0, 0, 0, 0, 0, 0, 8, 0), SCSI_GOOD);
    CHECK_EQ(fx.ram->bytes[1000], 5);
    memset(fx.data, 0x0f, 512);
    CHECK_EQ(RUN_CDB(fx.first, 0x8b, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0), SCSI_GOOD);
    CHECK(is_filled(0, 1, 0x0f));
    fixture_end();
}

static void test_write_same_fills_up_to_the_end(void)
{
    const uint8_t ws10[] = {0x41, 0, 0, 0, 0, 4, 0, 0, 3, 0};

    set_up();
    memset(fx.data, 9, 512);
    prepare_cdb(fx.first, 0, ws10, sizeof ws10);
    last.expected_bytes = 1024;
    finish_cdb();
    CHECK_SENSE(0x52400);
    CHECK_EQ(run_cdb(fx.first, ws10, sizeof ws10), SCSI_GOOD);
    CHECK(is_filled(4, 3, 9));
    CHECK(is_filled(7, 1, 0));
    RUN_CDB(fx.first, 0x41, 0x10, 0, 0, 0, 4, 0, 0, 3, 0); /* ANCHOR */
    CHECK_SENSE(0x52400);
    CHECK_EQ(RUN_CDB(fx.first, 0x41, 0, 0, 0, 0, 0, 0, 0, 0, 0), SCSI_GOOD); /* the whole disk */
    CHECK(is_filled(0, BLOCKS, 9));
    CHECK_EQ(RUN_CDB(fx.first, 0x93, 9, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0), SCSI_GOOD);
    CHECK_EQ(last.transfer_bytes, 0); /* NDOB */
    CHECK(is_filled(2, 2, 0));
    CHECK(is_filled(4, 1, 9));
    fixture_end();
}

static void unmap_list(uint64_t lba, uint32_t blocks, unsigned descriptors)
{
    memset(fx.data, 0, 8 + 16 * descriptors);
    put_be(fx.data, 6 + 16 * descriptors, 2);
    put_be(fx.data + 2, 16 * descriptors, 2);
    for (unsigned i = 0; i < descriptors; i++) {
        put_be(fx.data + 8 + 16 * i, lba + 4 * i, 8);
        put_be(fx.data + 16 + 16 * i, blocks, 4);
    }
}

static void test_unmap_checks_all_before_any(void)
{
    set_up();
    memset(fx.ram->bytes, 3, FIXTURE_BYTES);
    CHECK_EQ(RUN_CDB(fx.first, 0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0), SCSI_GOOD);
    unmap_list(0, 1, 1);
    RUN_CDB(fx.first, 0x42, 0, 0, 0, 0, 0, 0, 0, 7, 0);
    CHECK_SENSE(0x51a00);
    unmap_list(0, 1, 2);
    RUN_CDB(fx.first, 0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0);
    CHECK_SENSE(0x51a00);
    unmap_list(0, 1, 257);
    RUN_CDB(fx.first, 0x42, 0, 0, 0, 0, 0, 0, (8 + 16 * 257) >> 8, (8 + 16 * 257) & 255, 0);
    CHECK_SENSE(0x52600);
    unmap_list(BLOCKS - 4, 1, 2); /* the second is past the end */
    RUN_CDB(fx.first, 0x42, 0, 0, 0, 0, 0, 0, 0, 40, 0);
    CHECK_SENSE(0x52100);
    unmap_list(UINT64_MAX - 1, 0xffffffff, 1);
    RUN_CDB(fx.first, 0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0);
    CHECK_SENSE(0x52100);
    RUN_CDB(fx.first, 0x42, 1, 0, 0, 0, 0, 0, 0, 24, 0);
    CHECK_SENSE(0x52400);
    CHECK(is_filled(0, BLOCKS, 3));
    unmap_list(0, 2, 3);
    CHECK_EQ(RUN_CDB(fx.first, 0x42, 0, 0, 0, 0, 0, 0, 0, 56, 0), SCSI_GOOD);
    for (unsigned i = 0; i < 3; i++) {
        CHECK(is_filled(4 * i, 2, 0));
        CHECK(is_filled(4 * i + 2, 2, 3));
    }
    fixture_end();
}

static void test_the_status_of_blocks_ends_with_the_disk(void)
{
    uint8_t cdb[16] = {0x9e, 0x12};

    set_up();
    put_be(cdb + 2, BLOCKS, 8);
    put_be(cdb + 10, 24, 4);
    run_cdb(fx.first, cdb, sizeof cdb);
    CHECK_SENSE(0x52100);
    put_be(cdb + 2, 5, 8);
    CHECK_EQ(run_cdb(fx.first, cdb, sizeof cdb), SCSI_GOOD);
    CHECK_EQ(get_be(fx.data, 4), 20);
    CHECK_EQ(get_be(fx.data + 8, 8), 5);
    CHECK_EQ(get_be(fx.data + 16, 4), BLOCKS - 5);
    CHECK_EQ(fx.data[20], 0);
    for (uint32_t allocation = 0; allocation < 24; allocation++) {
        put_be(cdb + 10, allocation, 4);
        CHECK_EQ(run_cdb(fx.first, cdb, sizeof cdb), SCSI_GOOD);
        CHECK_EQ(last.data_in_bytes, allocation);
    }
    fixture_end();
}

/* --- mode pages
 * -----------------------------------------------------------------------------
 */

static uint8_t select_control(uint8_t byte2, uint8_t byte4, uint8_t byte5)
{
    const uint8_t list[] = {0,     0,     0, 0, 0x0a, 0x0a, byte2, 0x10,
                            byte4, byte5, 0, 0, 0xff, 0xff, 0,     0};

    memcpy(fx.data, list, sizeof list);
    return RUN_CDB(fx.first, 0x15, 0x10, 0, 0, sizeof list, 0);
}

static void test_mode_pages_change_what_may_be_changed(void)
{
    set_up();
    RUN_CDB(fx.first, 0x1a, 0, 0x3e, 0, 255, 0);
    CHECK_SENSE(0x52400);
    RUN_CDB(fx.first, 0x1a, 0, 0xff, 0, 255, 0); /* saved values */
    CHECK_SENSE(0x53900);
    CHECK_EQ(RUN_CDB(fx.first, 0x1a, 0, 0x3f, 0, 255, 0), SCSI_GOOD);
    CHECK_EQ(fx.data[0], last.data_in_bytes - 1);
    CHECK_EQ(fx.data[3], 8);
    CHECK_EQ(select_control(0x21, 0, 0x40), SCSI_CHECK_CONDITION); /* a bit that may not */
    CHECK_SENSE(0x52600);
    CHECK_EQ(last_field(), 6);
    RUN_CDB(fx.first, 0x15, 0x11, 0, 0, 16, 0); /* SP */
    CHECK_SENSE(0x52400);
    for (uint8_t length = 1; length < 16; length++) {
        select_control(0x20, 0, 0x40);
        RUN_CDB(fx.first, 0x15, 0x10, 0, 0, length, 0);
        CHECK(length == 4 ? last.status == SCSI_GOOD : last.status == SCSI_CHECK_CONDITION);
    }
    CHECK_EQ(select_control(0x24, 0, 0x40), SCSI_GOOD); /* D_SENSE */
    RUN_CDB(fx.second, 0, 0, 0, 0, 0, 0);
    CHECK_SENSE(0x62a01);
    RUN_CDB(fx.second, 0xff, 0, 0, 0, 0, 0);
    CHECK_EQ(last.sense[0], 0x72);
    CHECK_SENSE(0x52000);
    CHECK_EQ(select_control(0x20, 0x08, 0x40), SCSI_GOOD); /* SWP */
    RUN_CDB(fx.first, 0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0);
    CHECK_SENSE(0x72700);
    CHECK_EQ(RUN_CDB(fx.first, 0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0), SCSI_GOOD);
    CHECK_EQ(select_control(0x20, 0, 0x40), SCSI_GOOD);
    CHECK_EQ(RUN_CDB(fx.first, 0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0), SCSI_GOOD);
    fixture_end();
}

/* --- what it tells
 * ---------------------------------------------------------------------------
 */

static void test_product_data_is_cut_at_every_length(void)
{
    uint8_t pages[32];
    unsigned count;

    set_up();
    CHECK_EQ(RUN_CDB(fx.first, 0x12, 1, 0, 0, 255, 0), SCSI_GOOD);
    count = fx.data[3];
    CHECK(count > 6 && count < sizeof pages);
    memcpy(pages, fx.data + 4, count);
    for (unsigned i = 0; i < count; i++) {
        uint32_t full;

        CHECK(i == 0 || pages[i] > pages[i - 1]);
        CHECK_EQ(RUN_CDB(fx.first, 0x12, 1, pages[i], 4, 0, 0), SCSI_GOOD);
        full = last.data_in_bytes;
        CHECK_EQ(fx.data[1], pages[i]);
        CHECK_EQ(get_be(fx.data + 2, 2) + 4, full);
        for (uint32_t length = 0; length < full; length += 3) {
            CHECK_EQ(RUN_CDB(fx.first, 0x12, 1, pages[i], 0, (uint8_t)length, 0), SCSI_GOOD);
            CHECK_EQ(last.data_in_bytes, length & 255);
        }
    }
    RUN_CDB(fx.first, 0x12, 1, 0x7f, 0, 255, 0);
    CHECK_SENSE(0x52400);
    RUN_CDB(fx.first, 0x12, 0, 0x80, 0, 255, 0);
    CHECK_SENSE(0x52400);
    fixture_end();
}

/* Each row of the list of all commands is found by itself, and decodes. */
static void test_every_command_reports_itself(void)
{
    uint8_t *all = malloc(8192);
    uint32_t length;

    set_up();
    CHECK_EQ(RUN_CDB(fx.first, 0xa3, 0x0c, 0x80, 0, 0, 0, 0, 0, 32, 0, 0, 0), SCSI_GOOD);
    length = last.data_in_bytes;
    memcpy(all, fx.data, length);
    CHECK_EQ(get_be(all, 4), length - 4);
    for (uint32_t at = 4; at < length; at += 20) {
        uint8_t option = all[at + 5] & 1 ? 2 : 1;

        CHECK_EQ(all[at + 5] & 2, 2);
        CHECK_EQ(RUN_CDB(fx.first, 0xa3, 0x0c, option, all[at], all[at + 2], all[at + 3], 0, 0, 1,
                         0, 0, 0),
                 SCSI_GOOD);
        CHECK_EQ(fx.data[1] & 7, 3);
        CHECK_EQ(get_be(fx.data + 2, 2), all[at + 7]);
        CHECK_EQ(fx.data[4], all[at]);
        RUN_CDB(fx.first, 0xa3, 0x0c, 3 - option, all[at], all[at + 2], all[at + 3], 0, 0, 1, 0, 0,
                0);
        CHECK_SENSE(0x52400);
        CHECK(at < 24 || all[at] >= all[at - 20]); /* the table is sorted */
    }
    for (uint8_t option = 4; option < 8; option++) {
        RUN_CDB(fx.first, 0xa3, 0x0c, option, 0, 0, 0, 0, 0, 1, 0, 0, 0);
        CHECK_SENSE(0x52400);
    }
    CHECK_EQ(RUN_CDB(fx.first, 0xa3, 0x0c, 1, 0xff, 0, 0, 0, 0, 1, 0, 0, 0), SCSI_GOOD);
    CHECK_EQ(fx.data[1] & 7, 1);
    free(all);
    fixture_end();
}

static void test_port_groups_hold_back_what_needs_the_disk(void)
{
    const struct scsi_port_group standby[] = {{.id = 1, .state = SCSI_STANDBY}, {.id = 2}};

    set_up();
    scsi_lu_set_port_groups(fx.lu, standby, 2);
    RUN_CDB(fx.first, 0, 0, 0, 0, 0, 0);
    CHECK_SENSE(0x62a06);
    RUN_CDB(fx.first, 0, 0, 0, 0, 0, 0);
    CHECK_SENSE(0x2040b);
    RUN_CDB(fx.first, 0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0);
    CHECK_SENSE(0x2040b);
    CHECK_EQ(RUN_CDB(fx.first, 0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0), SCSI_GOOD);
    CHECK_EQ(RUN_CDB(fx.first, 0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0), SCSI_GOOD);
    CHECK_EQ(get_be(fx.data, 4), 24);
    CHECK_EQ(fx.data[4], SCSI_STANDBY);
    scsi_lu_set_port_groups(fx.lu, NULL, 0);
    RUN_CDB(fx.first, 0, 0, 0, 0, 0, 0);
    CHECK_EQ(RUN_CDB(fx.first, 0, 0, 0, 0, 0, 0), SCSI_GOOD);
    fixture_end();
}

/* --- copies
 * ----------------------------------------------------------------------------------
 */

static unsigned copy_list(uint8_t *naa, uint16_t blocks, uint64_t from, uint64_t to)
{
    memset(fx.data, 0, 16 + 32 + 28);
    fx.data[0] = 1;
    put_be(fx.data + 2, 32, 2);
    put_be(fx.data + 8, 28, 4);
    fx.data[16] = 0xe4;
    fx.data[20] = 1;
    fx.data[21] = 3;
    fx.data[23] = 8;
    memcpy(fx.data + 24, naa, 8);
    put_be(fx.data + 45, 512, 3);
    fx.data[48] = 2;
    fx.data[51] = 24;
    put_be(fx.data + 58, blocks, 2);
    put_be(fx.data + 60, from, 8);
    put_be(fx.data + 68, to, 8);
    return 76;
}

static uint8_t copy(uint8_t length)
{
    return RUN_CDB(fx.first, 0x83, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, length, 0, 0);
}

static void fill_blocks(uint64_t lba, unsigned blocks)
{
    for (unsigned i = 0; i < blocks * 512; i++)
        fx.ram->bytes[lba * 512 + i] = (uint8_t)(i / 512 + i + 1);
}

static void test_a_copy_names_only_own_disks(void)
{
    uint8_t naa[8], stranger[8] = {0x3f, 1, 2, 3, 4, 5, 6, 7};

    set_up();
    CHECK_EQ(RUN_CDB(fx.first, 0x12, 1, 0x83, 0, 255, 0), SCSI_GOOD);
    memcpy(naa, fx.data + 8, 8);
    fill_blocks(0, 3000);
    CHECK_EQ(copy(0), SCSI_GOOD);
    for (uint8_t length = 1; length < 76; length++) {
        copy_list(naa, 8, 0, 5000);
        copy(length);
        CHECK_SENSE(0x51a00);
    }
    copy_list(stranger, 8, 0, 5000);
    copy(76);
    CHECK_SENSE(0xa0804);
    copy_list(naa, 8, BLOCKS - 7, 0);
    copy(76);
    CHECK_SENSE(0xa0000);
    copy_list(naa, 8, UINT64_MAX, 0);
    copy(76);
    CHECK_SENSE(0xa0000);
    copy_list(naa, 8, 0, 5000);
    fx.data[16] = 0xe0;
    copy(76);
    CHECK_SENSE(0x52607);
    copy_list(naa, 8, 0, 5000);
    fx.data[48] = 5;
    copy(76);
    CHECK_SENSE(0x52609);
    CHECK(is_filled(5000, 8, 0));
    RUN_CDB(fx.first, 0x84, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0);
    CHECK_SENSE(0x52400); /* no such list id */
    fixture_end();
}

static void test_a_copy_copies(void)
{
    uint8_t naa[8], *want = malloc(3000 * 512);

    for (unsigned is_async = 0; is_async < 2; is_async++) {
        set_up();
        CHECK_EQ(RUN_CDB(fx.first, 0x12, 1, 0x83, 0, 255, 0), SCSI_GOOD);
        memcpy(naa, fx.data + 8, 8);
        fill_blocks(0, 3000);
        memcpy(want, fx.ram->bytes, 3000 * 512);
        atomic_store(&fx.ram->is_async, is_async);
        copy_list(naa, 3000, 0, 7000);
        CHECK_EQ(copy(76), SCSI_GOOD);
        CHECK(memcmp(fx.ram->bytes + 7000 * 512, want, 3000 * 512) == 0);
        CHECK_EQ(RUN_CDB(fx.first, 0x84, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0), SCSI_GOOD);
        CHECK_EQ(fx.data[4], 1);
        copy_list(naa, 3000, 0, 100); /* over itself */
        CHECK_EQ(copy(76), SCSI_GOOD);
        CHECK(memcmp(fx.ram->bytes + 100 * 512, want, 3000 * 512) == 0);
        copy_list(naa, 3000, 100, 50);
        CHECK_EQ(copy(76), SCSI_GOOD);
        CHECK(memcmp(fx.ram->bytes + 50 * 512, want, 3000 * 512) == 0);
        CHECK_EQ(RUN_CDB(fx.first, 0x84, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0), SCSI_GOOD);
        CHECK_EQ(get_be(fx.data, 4), 42);
        fixture_end();
    }
    free(want);
}

/* --- atomic writes
 * -----------------------------------------------------------------------------
 */

#define SLOT_BYTES (4096 + (1 << 20))

static int open_redo(void)
{
    char path[500];

    snprintf(path, sizeof path, "%s/atomic-redo", disk_state_folder(fx.disk));
    return open(path, O_RDWR);
}

static void test_an_atomic_write_leaves_no_record(void)
{
    uint64_t magic = 1;
    int fd;

    set_up();
    memset(fx.data, 0x77, 1 << 20);
    RUN_CDB(fx.first, 0x9c, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 1, 0, 0); /* a boundary */
    CHECK_SENSE(0x52400);
    RUN_CDB(fx.first, 0x9c, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0x08, 1, 0, 0); /* too long */
    CHECK_SENSE(0x52400);
    RUN_CDB(fx.first, 0x9c, 0, 0xff, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0);
    CHECK_SENSE(0x52100);
    CHECK_EQ(RUN_CDB(fx.first, 0x9c, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 8, 0, 0), SCSI_GOOD);
    CHECK(is_filled(4, 8, 0x77));
    CHECK(is_filled(12, 1, 0));
    fd = open_redo();
    CHECK(fd >= 0);
    CHECK_EQ(pread(fd, &magic, sizeof magic, 0), sizeof magic);
    CHECK_EQ(magic, 0);
    CHECK_EQ(pread(fd, &magic, 1, 4096), 1); /* it had been there */
    CHECK_EQ(magic & 0xff, 0x77);
    close(fd);
    atomic_store(&fx.ram->fail_with, -EIO);
    RUN_CDB(fx.first, 0x9c, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 8, 0, 0);
    CHECK_SENSE(0x30c00);
    atomic_store(&fx.ram->fail_with, 0);
    fd = open_redo();
    CHECK_EQ(pread(fd, &magic, sizeof magic, 0), sizeof magic);
    CHECK_EQ(magic, 0); /* a write that failed is not done later */
    close(fd);
    fixture_end();
}

/* The record as the crash left it: caught while the disk keeps the write. */
static void test_a_recorded_write_is_finished_before_serving(void)
{
    uint8_t *record = malloc(SLOT_BYTES);
    int fd;

    for (unsigned is_torn = 0; is_torn < 2; is_torn++) {
        set_up();
        memset(fx.data, 0x66, 4096);
        atomic_store(&fx.ram->is_stuck, true);
        prepare_cdb(fx.first, 0, (const uint8_t[]){0x9c, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 8, 0},
                    15);
        last_is_done = false;
        CHECK_EQ(scsi_command_start(&last), IO_PENDING);
        while (!atomic_load(&fx.ram->stuck))
            home_drain(home_current());
        fd = open_redo();
        CHECK_EQ(pread(fd, record, 8192, 0), 8192);
        ram_release(fx.ram);
        home_wait(home_current(), &last_is_done);
        CHECK_EQ(last.status, SCSI_GOOD);
        fixture_close_lu();
        memset(fx.ram->bytes + 9 * 512, 0x11, 4096);
        record[5000] ^= (uint8_t)is_torn;
        CHECK_EQ(pwrite(fd, record, 8192, 0), 8192);
        close(fd);
        fixture_open_lu();
        CHECK(is_filled(9, 8, is_torn ? 0x11 : 0x66));
        memset(fx.ram->bytes + 9 * 512, 0x22, 4096);
        fixture_close_lu();
        fixture_open_lu(); /* once */
        CHECK(is_filled(9, 8, 0x22));
        fixture_end();
    }
    free(record);
}

/* --- erasing
 * ------------------------------------------------------------------------------------
 */

static void left(uint64_t mib)
{
    const struct scsi_space space = {
        .used_bytes = 3u << 20, .available_bytes = mib << 20, .threshold_bytes = 16u << 20};

    scsi_lu_set_space(fx.lu, &space);
}

static bool is_warned(struct scsi_nexus *nexus)
{
    if (RUN_CDB(nexus, 0, 0, 0, 0, 0, 0) == SCSI_GOOD)
        return false;
    CHECK_SENSE(0x63807);
    return true;
}

/* Again only after there was clearly more. */
static void test_little_space_is_told_once(void)
{
    set_up();
    CHECK_EQ(RUN_CDB(fx.first, 0x4d, 0, 0x4c, 0, 0, 0, 0, 0, 64, 0), SCSI_GOOD);
    CHECK_EQ(get_be(fx.data + 2, 2), 0); /* not known yet */
    left(16);
    CHECK(!is_warned(fx.first));
    left(15);
    CHECK(is_warned(fx.first));
    CHECK(is_warned(fx.second));
    CHECK(!is_warned(fx.first));
    left(17); /* not enough to be warned anew */
    left(14);
    CHECK(!is_warned(fx.first));
    left(18);
    left(15);
    CHECK(is_warned(fx.first));
    CHECK_EQ(RUN_CDB(fx.first, 0x4d, 0, 0x4c, 0, 0, 0, 0, 0, 64, 0), SCSI_GOOD);
    CHECK_EQ(get_be(fx.data + 8, 4), 15);
    CHECK_EQ(get_be(fx.data + 20, 4), 3);
    CHECK_EQ(RUN_CDB(fx.first, 0x1a, 8, 0x1c, 2, 64, 0), SCSI_GOOD);
    CHECK_EQ(get_be(fx.data + 4 + 16, 4), 0x80010000); /* enabled, available, when less */
    CHECK_EQ(get_be(fx.data + 4 + 20, 4), 16);
    CHECK_EQ(RUN_CDB(fx.first, 0x1a, 8, 0x5c, 2, 64, 0), SCSI_GOOD);
    CHECK_EQ(get_be(fx.data + 4 + 16, 8), 0); /* nobody changes it */
    fixture_end();
}

static void test_erasing_needs_the_policy(void)
{
    set_up();
    RUN_CDB(fx.first, 0x48, 2, 0, 0, 0, 0, 0, 0, 0, 0);
    CHECK_SENSE(0x52000);
    RUN_CDB(fx.first, 0x04, 0, 0, 0, 0, 0);
    CHECK_SENSE(0x52000);
    fixture_end();
}

static void test_erasing_erases(void)
{
    const struct scsi_lu_settings settings = {.may_erase = true};

    set_up_with(&settings);
    memset(fx.ram->bytes, 1, FIXTURE_BYTES);
    for (uint8_t length = 0; length < 5; length++) {
        RUN_CDB(fx.first, 0x48, 1, 0, 0, 0, 0, 0, 0, length, 0);
        CHECK_SENSE(0x52400);
    }
    RUN_CDB(fx.first, 0x48, 4, 0, 0, 0, 0, 0, 0, 0, 0); /* no such way to erase */
    CHECK_SENSE(0x52400);
    memcpy(fx.data, (const uint8_t[]){0, 0, 0, 4, 0xab, 0xab, 0xab, 0xab}, 8);
    RUN_CDB(fx.first, 0x48, 1, 0, 0, 0, 0, 0, 0, 8, 0); /* no passes */
    CHECK_SENSE(0x52600);
    CHECK(is_filled(0, BLOCKS, 1));
    fx.data[0] = 2;
    CHECK_EQ(RUN_CDB(fx.first, 0x48, 1, 0, 0, 0, 0, 0, 0, 8, 0), SCSI_GOOD);
    CHECK(is_filled(0, BLOCKS, 0xab));
    CHECK_EQ(RUN_CDB(fx.second, 0, 0, 0, 0, 0, 0), SCSI_GOOD);
    for (uint8_t action = 2; action <= 3; action++) { /* BLOCK ERASE, CRYPTO ERASE */
        memset(fx.ram->bytes, 1, FIXTURE_BYTES);
        RUN_CDB(fx.first, 0x48, action, 0, 0, 0, 0, 0, 0, 8, 0);
        CHECK_SENSE(0x52400);
        CHECK(is_filled(0, BLOCKS, 1));
        CHECK_EQ(RUN_CDB(fx.first, 0x48, action, 0, 0, 0, 0, 0, 0, 0, 0), SCSI_GOOD);
        CHECK(is_filled(0, BLOCKS, 0));
    }
    memset(fx.ram->bytes, 1, FIXTURE_BYTES);
    CHECK_EQ(RUN_CDB(fx.first, 0x04, 0, 0, 0, 0, 0), SCSI_GOOD);
    CHECK(is_filled(0, BLOCKS, 0));
    fixture_end();
}

/* Its session does not wait for it, and other commands are told. */
static void test_an_erasure_outlives_its_session(void)
{
    const struct scsi_lu_settings settings = {.may_erase = true};
    const uint8_t cdb[] = {0x48, 1, 0, 0, 0, 0, 0, 0, 5, 0};
    struct scsi_command order;

    set_up_with(&settings);
    memset(fx.ram->bytes, 1, FIXTURE_BYTES);
    memcpy(fx.data, (const uint8_t[]){1, 0, 0, 1, 0xcd}, 5);
    atomic_store(&fx.ram->is_stuck, true);
    prepare_cdb(fx.first, 0, cdb, sizeof cdb);
    order = last;
    scsi_command_cancel(&last);
    scsi_command_decode(&order);
    order.data_bytes = order.transfer_bytes;
    CHECK_EQ(scsi_command_start(&order), IO_PENDING);
    while (!atomic_load(&fx.ram->stuck))
        home_drain(home_current());
    RUN_CDB(fx.second, 0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0);
    CHECK_SENSE(0x2041b);
    CHECK_EQ(RUN_CDB(fx.second, 0x12, 0, 0, 0, 96, 0), SCSI_GOOD);
    fixture_close_nexus(fx.first);
    fx.first = NULL;
    CHECK(order.is_aborted);
    ram_release(fx.ram);
    while (RUN_CDB(fx.second, 0, 0, 0, 0, 0, 0) != SCSI_GOOD)
        home_drain(home_current());
    CHECK(is_filled(0, BLOCKS, 0xcd));
    fixture_end();
}

int main(void)
{
    RUN(test_compare_and_write_is_exact);
    RUN(test_verify_finds_the_first_difference);
    RUN(test_write_same_fills_up_to_the_end);
    RUN(test_unmap_checks_all_before_any);
    RUN(test_the_status_of_blocks_ends_with_the_disk);
    RUN(test_mode_pages_change_what_may_be_changed);
    RUN(test_product_data_is_cut_at_every_length);
    RUN(test_every_command_reports_itself);
    RUN(test_port_groups_hold_back_what_needs_the_disk);
    RUN(test_a_copy_names_only_own_disks);
    RUN(test_a_copy_copies);
    RUN(test_an_atomic_write_leaves_no_record);
    RUN(test_a_recorded_write_is_finished_before_serving);
    RUN(test_little_space_is_told_once);
    RUN(test_erasing_needs_the_policy);
    RUN(test_erasing_erases);
    RUN(test_an_erasure_outlives_its_session);
    return unit_result();
}
