/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test-scsi-bad-input.c: commands that nobody should send, beside those that the tests of each kind
 * of command have: one row a command, with the sense that is due.  None of them changes a byte of
 * the disk.  Then each opcode with random bytes behind it.
 */
#include "scsi-fixture.h"

#define BLOCKS (FIXTURE_BYTES / 512)
#define LIST_MAX 96u

struct row {
    const char *name;
    uint8_t cdb[16];
    uint32_t want; /* key, ASC and ASCQ; 0: GOOD */
    uint8_t list[LIST_MAX];
};

/* A range of the 16-byte commands: LBA, NUMBER OF BLOCKS. */
#define AT(lba0, lba7, blocks) lba0, 0, 0, 0, 0, 0, 0, lba7, 0, 0, (blocks) >> 8, (blocks)&0xff
/* An UNMAP list with one descriptor: its two lengths, LBA 0, no block. */
#define UNMAP_LIST(list, descriptors)                                              \
    {                                                                              \
        (list) >> 8, (list)&0xff, (descriptors) >> 8, (descriptors)&0xff, [19] = 0 \
    }
#define PAST_END 0x52100
#define BAD_CDB 0x52400
#define BAD_LIST 0x52600
#define BAD_LENGTH 0x51a00

static const struct row rows[] = {
    /* Reading and writing. */
    {"READ (6) of 0 blocks, which are 256", {0x08, 0, 0, 0, 0, 0}, 0, {0}},
    {"READ (6) of 256 that go past the end", {0x08, 0, 0x3f, 1, 0, 0}, PAST_END, {0}},
    {"READ (10) with RDPROTECT 7", {0x28, 0xe0, [8] = 1}, BAD_CDB, {0}},
    {"WRITE (10) with WRPROTECT 1", {0x2a, 0x20, [8] = 1}, BAD_CDB, {0}},
    {"READ (10) with FUA_NV", {0x28, 0x02, [8] = 1}, 0, {0}},
    {"READ (16) that wraps at 2^64", {0x88, 0, AT(0xff, 0xff, 2)}, PAST_END, {0}},
    {"WRITE (16) at the sign", {0x8a, 0, AT(0x80, 0, 1)}, PAST_END, {0}},
    {"VERIFY (16) past the end", {0x8f, 0, AT(1, 0, 1)}, PAST_END, {0}},
    {"SYNCHRONIZE CACHE (16) past the end", {0x91, 0, AT(1, 0, 1)}, PAST_END, {0}},
    {"PRE-FETCH (16) past the end", {0x90, 0, AT(1, 0, 1)}, PAST_END, {0}},
    {"ORWRITE past the end", {0x8b, 0, AT(1, 0, 1)}, PAST_END, {0}},
    {"COMPARE AND WRITE past the end", {0x89, 0, 1, [13] = 1}, PAST_END, {0}},
    {"WRITE ATOMIC past the end", {0x9c, 0, 1, [13] = 1}, PAST_END, {0}},
    {"WRITE ATOMIC with a boundary", {0x9c, 0, [10] = 0, [11] = 8, [13] = 1}, BAD_CDB, {0}},
    {"WRITE ATOMIC that is too long", {0x9c, 0, [12] = 0x10}, BAD_CDB, {0}},
    {"a command of 32 bytes", {0x7f, 0, 0, 0, 0, 0, 0, 0x18, 0, 9}, 0x52000, {0}},
    /* WRITE SAME, UNMAP, GET LBA STATUS. */
    {"WRITE SAME (16) past the end", {0x93, 0, AT(1, 0, 1)}, PAST_END, {0}},
    {"WRITE SAME (16) with ANCHOR", {0x93, 0x18, AT(0, 0, 1)}, BAD_CDB, {0}},
    {"WRITE SAME (10) with WRPROTECT", {0x41, 0x20, [8] = 1}, BAD_CDB, {0}},
    /* SBC-4 5.35: a descriptor that is not whole is ignored. */
    {"UNMAP with a descriptor length of 7", {0x42, [8] = 24}, 0, UNMAP_LIST(22, 7)},
    {"UNMAP with a descriptor length of 17", {0x42, [8] = 24}, 0, UNMAP_LIST(22, 17)},
    {"UNMAP with a descriptor length of FFFF",
     {0x42, [8] = 24},
     BAD_LENGTH,
     UNMAP_LIST(22, 0xffff)},
    {"UNMAP with a data length of FFFF", {0x42, [8] = 24}, 0, UNMAP_LIST(0xffff, 16)},
    {"UNMAP of no descriptor", {0x42, [8] = 8}, 0, UNMAP_LIST(6, 0)},
    {"GET LBA STATUS at the capacity",
     {0x9e, 0x12, 0, 0, 0, 0, 0, 0, 0x40, 0, [13] = 24},
     PAST_END,
     {0}},
    /* Pages. */
    {"INQUIRY of no bytes", {0x12, 0, 0, 0, 0, 0}, 0, {0}},
    {"INQUIRY with a page and no EVPD", {0x12, 0, 0x83, 0, 255, 0}, BAD_CDB, {0}},
    {"INQUIRY with CMDDT", {0x12, 2, 0, 0, 255, 0}, BAD_CDB, {0}},
    {"MODE SENSE (6) of a page there is not", {0x1a, 0, 0x3e, 0, 255, 0}, BAD_CDB, {0}},
    {"MODE SENSE (10) of saved values", {0x5a, 0, 0xc8, 0, 0, 0, 0, 0, 255}, 0x53900, {0}},
    {"MODE SENSE (6) of a subpage there is not", {0x1a, 0, 0x08, 1, 255, 0}, BAD_CDB, {0}},
    {"MODE SELECT (6) of nothing", {0x15, 0x10, 0, 0, 0, 0}, 0, {0}},
    {"MODE SELECT (6) of less than a header", {0x15, 0x10, 0, 0, 3, 0}, BAD_LENGTH, {0}},
    {"MODE SELECT (6) of another block size",
     {0x15, 0x10, 0, 0, 12, 0},
     BAD_LIST,
     {0, 0, 0, 8, [10] = 4}},
    {"MODE SELECT (6) of another capacity",
     {0x15, 0x10, 0, 0, 12, 0},
     BAD_LIST,
     {0, 0, 0, 8, [7] = 1, [10] = 2}},
    {"MODE SELECT (6) of a page that may not change",
     {0x15, 0x10, 0, 0, 16, 0},
     BAD_LIST,
     {0, 0, 0, 0, 0x01, 0x0a, 0xff}},
    {"LOG SENSE of a page there is not", {0x4d, 0, 0x50, 0, 0, 0, 0, 0, 64, 0}, BAD_CDB, {0}},
    {"LOG SENSE of a subpage", {0x4d, 0, 0x40, 1, 0, 0, 0, 0, 64, 0}, BAD_CDB, {0}},
    {"RSOC by opcode, of one with service actions",
     {0xa3, 0x0c, 1, 0x9e, 0, 0, 0, 0, 0, 64},
     BAD_CDB,
     {0}},
    {"RSOC by service action, of one without",
     {0xa3, 0x0c, 2, 0x28, 0, 0, 0, 0, 0, 64},
     BAD_CDB,
     {0}},
    {"RSOC of service action 65535", {0xa3, 0x0c, 2, 0x9e, 0xff, 0xff, 0, 0, 0, 64}, 0, {0}},
    {"RSOC of three bytes, with timeouts", {0xa3, 0x0c, 0x80, 0, 0, 0, 0, 0, 0, 3}, 0, {0}},
    {"REPORT LUNS of a kind there is not", {0xa0, 0, 0x7f, 0, 0, 0, 0, 0, 1, 0}, BAD_CDB, {0}},
    {"a service action of MAINTENANCE IN", {0xa3, 0x1f}, BAD_CDB, {0}},
    {"START STOP UNIT with a power condition", {0x1b, 0, 0, 0, 0x30, 0}, 0, {0}},
    {"SEND DIAGNOSTIC of a self-test", {0x1d, 0x20, 0, 0, 0, 0}, BAD_CDB, {0}},
    /* Reservations. */
    {"PERSISTENT RESERVE IN of a service action there is not", {0x5e, 4, [8] = 8}, BAD_CDB, {0}},
    {"READ FULL STATUS of 7 bytes", {0x5e, 3, [8] = 7}, 0, {0}},
    {"PERSISTENT RESERVE OUT of a service action there is not",
     {0x5f, 8, 1, [8] = 24},
     BAD_CDB,
     {0}},
    /* Copies. */
    {"EXTENDED COPY of another service action", {0x83, 1, [13] = 16}, BAD_CDB, {0}},
    {"EXTENDED COPY with inline data", {0x83, 0, [13] = 24}, BAD_LIST, {1, [15] = 8}},
    {"EXTENDED COPY with a CSCD list that is no multiple",
     {0x83, 0, [13] = 32},
     BAD_LENGTH,
     {1, [3] = 16}},
    {"EXTENDED COPY of a segment without descriptors",
     {0x83, 0, [13] = 44},
     0xa0804,
     {1, [11] = 28, [16] = 2, [19] = 24}},
    {"RECEIVE COPY RESULTS of a list there is not", {0x84, 0, 77, [13] = 32}, BAD_CDB, {0}},
    {"RECEIVE COPY RESULTS of another service action", {0x84, 9, 77, [13] = 32}, BAD_CDB, {0}},
    /* Erasing, where the policy allows it. */
    {"SANITIZE by a service action there is not", {0x48, 0x05}, BAD_CDB, {0}},
    {"SANITIZE: CRYPTO ERASE with a list", {0x48, 0x83, [8] = 4}, BAD_CDB, {0}},
    {"SANITIZE: OVERWRITE with no pattern", {0x48, 0x81, [8] = 4}, BAD_CDB, {1, 0, 0, 0}},
    {"SANITIZE: OVERWRITE with more than a block", {0x48, 0x81, [8] = 8}, BAD_LIST, {1, 0, 2, 1}},
    {"SANITIZE: OVERWRITE never", {0x48, 0x81, [8] = 8}, BAD_LIST, {0, 0, 0, 4}},
    {"SANITIZE: OVERWRITE of a list that is too short", {0x48, 0x81, [8] = 3}, BAD_CDB, {1}},
    {"SANITIZE: BLOCK ERASE with a list", {0x48, 0x82, [8] = 4}, BAD_CDB, {0}},
};

static void set_up(void)
{
    struct scsi_lu_settings settings = {.may_erase = true};

    fixture_start(&settings);
    clear_attentions(fx.first);
    for (uint32_t i = 0; i < FIXTURE_BYTES; i++)
        fx.ram->bytes[i] = (uint8_t)(i / 512 + 1);
}

static bool is_unchanged(void)
{
    for (uint32_t i = 0; i < FIXTURE_BYTES; i++)
        if (fx.ram->bytes[i] != (uint8_t)(i / 512 + 1))
            return false;
    return true;
}

static void test_rows(void)
{
    set_up();
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        prepare_cdb(fx.first, 0, rows[i].cdb, sizeof rows[i].cdb);
        if (last.transfer_bytes <= LIST_MAX)
            memcpy(fx.data, rows[i].list, LIST_MAX);
        finish_cdb();
        if (last_sense() != rows[i].want || (last.status == SCSI_GOOD) != !rows[i].want)
            fprintf(stderr, "%s: %05x, status %02x\n", rows[i].name, last_sense(), last.status);
        CHECK_SENSE(rows[i].want);
        CHECK_EQ(last.status == SCSI_GOOD, rows[i].want == 0);
    }
    CHECK(is_unchanged());
    fprintf(stderr, "# %zu rows\n", ARRAY_SIZE(rows));
    fixture_end();
}

static void test_a_command_moves_so_much_and_no_more(void)
{
    set_up();
    engine_set_size(disk_engine(fx.disk), 2 * SCSI_TRANSFER_MAX); /* nothing of it is read */
    clear_attentions(fx.first);
    RUN_CDB(fx.first, 0x88, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0);
    CHECK_SENSE(BAD_CDB);
    CHECK_EQ(last_field(), 10);
    RUN_CDB(fx.first, 0xa8, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0);
    CHECK_SENSE(BAD_CDB);
    CHECK_EQ(last_field(), 6);
    engine_set_size(disk_engine(fx.disk), FIXTURE_BYTES);
    fixture_end();
}

static void reserve(uint8_t type)
{
    memset(fx.data, 0, 24);
    put_be(fx.data + 8, 0xabc, 8);
    CHECK_EQ(RUN_CDB(fx.first, 0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0), SCSI_GOOD);
    memset(fx.data, 0, 24);
    put_be(fx.data, 0xabc, 8);
    CHECK_EQ(RUN_CDB(fx.first, 0x5f, 1, type, 0, 0, 0, 0, 0, 24, 0), SCSI_GOOD);
}

/* Who may not write may not erase either. */
static void test_erasing_asks_like_writing(void)
{
    const uint8_t protect[] = {0,    0,    0, 0, 0x0a, 0x0a, 0x20, 0x10,
                               0x08, 0x40, 0, 0, 0xff, 0xff, 0,    0};

    set_up();
    clear_attentions(fx.second);
    reserve(1);
    CHECK_EQ(RUN_CDB(fx.second, 0x48, 0x82), SCSI_RESERVATION_CONFLICT);
    CHECK_EQ(RUN_CDB(fx.second, 0x04, 0, 0, 0, 0, 0), SCSI_RESERVATION_CONFLICT);
    memcpy(fx.data, protect, sizeof protect);
    CHECK_EQ(RUN_CDB(fx.first, 0x15, 0x10, 0, 0, sizeof protect, 0), SCSI_GOOD);
    RUN_CDB(fx.first, 0x48, 0x82);
    CHECK_SENSE(0x72700);
    RUN_CDB(fx.first, 0x04, 0, 0, 0, 0, 0);
    CHECK_SENSE(0x72700);
    CHECK(is_unchanged());
    fixture_end();
}

/* More initiators than there is room for registrations: those that are there stay. */
static void test_registrations_have_a_limit(void)
{
    unsigned good = 0, full = 0;

    set_up();
    for (unsigned i = 0; i < 300; i++) {
        char name[64];
        struct scsi_nexus *nexus;

        snprintf(name, sizeof name, "iqn.2026-01.org.example:%u", i);
        nexus = fixture_nexus(name, 7);
        clear_attentions(nexus);
        memset(fx.data, 0, 24);
        put_be(fx.data + 8, i + 1, 8);
        RUN_CDB(nexus, 0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0);
        good += last.status == SCSI_GOOD;
        full += last_sense() == 0x55504;
        fixture_close_nexus(nexus);
    }
    CHECK_EQ(good, 256);
    CHECK_EQ(full, 44);
    CHECK_EQ(RUN_CDB(fx.first, 0x5e, 0, 0, 0, 0, 0, 0, 16, 0, 0), SCSI_GOOD);
    CHECK_EQ(get_be(fx.data + 4, 4), 256 * 8);
    fixture_end();
}

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static bool is_well_ended(void)
{
    bool is_known = last.status == SCSI_GOOD || last.status == SCSI_CHECK_CONDITION ||
                    last.status == SCSI_RESERVATION_CONFLICT || last.status == SCSI_BUSY;

    return is_known && (last.status == SCSI_CHECK_CONDITION) == (last.sense_bytes > 0) &&
           last.data_in_bytes <= last.data_bytes;
}

static void run_random(uint64_t *state, uint8_t opcode)
{
    uint8_t cdb[16] = {opcode};

    for (unsigned i = 1; i < sizeof cdb; i++)
        cdb[i] = (uint8_t)(next_random(state) % 3 ? 0 : next_random(state));
    for (unsigned i = 0; i < 512; i++)
        fx.data[i] = (uint8_t)next_random(state);
    memset(&last, 0, sizeof last);
    memcpy(last.cdb, cdb, sizeof cdb);
    last.cdb_bytes = SCSI_CDB_BYTES;
    last.nexus = fx.first;
    last.lun = next_random(state) % 8 ? 0 : next_random(state);
    last.attribute = (uint8_t)(next_random(state) % 8);
    last.done = fixture_on_done;
    scsi_command_decode(&last);
    last.data = fx.data;
    last.data_bytes = MIN(last.transfer_bytes, FIXTURE_DATA);
    finish_cdb();
    if (!is_well_ended())
        fprintf(stderr, "opcode %02x\n", opcode);
    CHECK(is_well_ended());
}

static void test_every_opcode_with_random_bytes(void)
{
    uint64_t state = 88172645463325252u;

    for (unsigned round = 0; round < 20; round++) {
        fixture_start(NULL);
        for (unsigned opcode = 0; opcode < 256; opcode++)
            for (unsigned i = 0; i < 8; i++)
                run_random(&state, (uint8_t)opcode);
        CHECK_EQ(RUN_CDB(fx.second, 0x12, 0, 0, 0, 96, 0), SCSI_GOOD);
        CHECK_EQ(scsi_nexus_in_flight(fx.first), 0);
        fixture_end();
    }
}

int main(void)
{
    RUN(test_rows);
    RUN(test_a_command_moves_so_much_and_no_more);
    RUN(test_erasing_asks_like_writing);
    RUN(test_registrations_have_a_limit);
    RUN(test_every_opcode_with_random_bytes);
    return unit_result();
}
