/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test-scsi-copy.c: EXTENDED COPY between disks of two targets.  What the transport allows is
 * found, and nothing else; a reservation that comes amid a copy ends it before its next piece; a
 * disk that is removed is let go by its visitors first.
 */
#include "scsi-fixture.h"

#include <sched.h>

#define COPY_BLOCKS 8192u /* 4 MiB: four pieces */
#define OTHER_PORT 9

struct other {
    struct ram_backing *ram;
    struct disk *disk;
    struct scsi_lu *lu;
    struct scsi_target *target;
    struct scsi_nexus *nexus; /* of an initiator of its own */
    bool is_allowed;
    unsigned asked;
};
static struct other other;

static struct scsi_lu *find_elsewhere(const uint8_t *naa, size_t bytes, void *arg)
{
    struct other *o = arg;

    o->asked++;
    if (!o->is_allowed || !scsi_lu_is_named(o->lu, naa, bytes))
        return NULL;
    return scsi_lu_visit(o->lu) ? o->lu : NULL;
}

static struct scsi_nexus *open_nexus(struct scsi_target *target, const char *initiator)
{
    struct scsi_nexus_settings settings = {.initiator = initiator,
                                           .isid = {0x80, 0, 0, 0, 0, OTHER_PORT},
                                           .portal_group = 1,
                                           .address = "192.0.2.1:4712",
                                           .home = home_current(),
                                           .find_elsewhere = find_elsewhere,
                                           .arg = &other};
    struct scsi_nexus *nexus = NULL;
    struct err e = {0};

    if (scsi_nexus_open(target, &settings, &nexus, &e) < 0)
        fixture_fail("open a nexus", &e);
    return nexus;
}

static struct scsi_nexus *copier;

static void open_other_disk(void)
{
    struct disk_settings settings = {.name = "other",
                                     .state_root = fx.folder,
                                     .size_bytes = FIXTURE_BYTES,
                                     .quiesce_limit_ns = 2000000000};
    struct backing_spec spec = {.kind = BACKING_FILE, .disk = "other"};
    struct err e = {0};
    char image[300];

    snprintf(image, sizeof image, "%s/other.raw", fx.folder);
    spec.path = image;
    if (disk_open(&settings, &spec, &other.disk, &e) < 0)
        fixture_fail("open the other disk", &e);
    other.ram = fixture_put_ram_below(other.disk, 1);
}

static void set_up(void)
{
    struct err e = {0};

    fixture_start(NULL);
    memset(&other, 0, sizeof other);
    other.is_allowed = true;
    open_other_disk();
    if (scsi_lu_create(other.disk, &fx.settings, &other.lu, &e) < 0 ||
        scsi_target_create("iqn.2026-01.org.example:other", &other.target, &e) < 0 ||
        scsi_target_add_lun(other.target, 3, other.lu, &e) < 0)
        fixture_fail("make the other target", &e);
    other.nexus = open_nexus(other.target, "iqn.2026-01.org.example:cluster");
    copier = open_nexus(fx.target, "iqn.2026-01.org.example:copier");
    clear_attentions(copier);
    for (uint64_t i = 0; i < FIXTURE_BYTES; i++)
        fx.ram->bytes[i] = (uint8_t)(i ^ i >> 9 ^ i >> 17);
}

static void tear_down(void)
{
    fixture_close_nexus(copier);
    if (other.nexus)
        fixture_close_nexus(other.nexus);
    scsi_target_free(other.target);
    scsi_lu_put(other.lu);
    disk_close(other.disk);
    ram_destroy(other.ram);
    fixture_end();
}

/* --- a list of two descriptors and one segment ------------------------------------------------ */

#define LIST_BYTES (16u + 2 * 32 + 28)

static void name_of(struct scsi_nexus *nexus, uint64_t lun, uint8_t naa[8])
{
    const uint8_t cdb[] = {0x12, 1, 0x83, 0, 255, 0};

    prepare_cdb(nexus, lun, cdb, sizeof cdb);
    finish_cdb();
    CHECK_EQ(last.status, SCSI_GOOD);
    memcpy(naa, fx.data + 8, 8);
}

static void put_descriptor(uint8_t *at, const uint8_t naa[8])
{
    at[0] = 0xe4;
    at[4] = 1;
    at[5] = 3;
    at[7] = 8;
    memcpy(at + 8, naa, 8);
    put_be(at + 29, 512, 3);
}

/* From descriptor `from` to the other one, at LBA 0 of both. */
static void put_list(unsigned from)
{
    uint8_t own[8], theirs[8];

    name_of(copier, 0, own);
    name_of(other.nexus, UINT64_C(3) << 48, theirs);
    memset(fx.data, 0, LIST_BYTES);
    fx.data[0] = 1;
    put_be(fx.data + 2, 64, 2);
    put_be(fx.data + 8, 28, 4);
    put_descriptor(fx.data + 16, own);
    put_descriptor(fx.data + 48, theirs);
    fx.data[80] = 2;
    fx.data[83] = 24;
    put_be(fx.data + 84, from, 2);
    put_be(fx.data + 86, 1 - from, 2);
    put_be(fx.data + 90, COPY_BLOCKS, 2);
}

static void prepare_copy(unsigned from)
{
    const uint8_t cdb[] = {0x83, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, LIST_BYTES, 0, 0};

    put_list(from);
    prepare_cdb(copier, 0, cdb, sizeof cdb);
}

static bool is_copied(void)
{
    return memcmp(fx.ram->bytes, other.ram->bytes, COPY_BLOCKS * 512) == 0;
}

/* --- the tests ------------------------------------------------------------------------------ */

static void test_a_copy_reaches_another_target(void)
{
    set_up();
    prepare_copy(0);
    finish_cdb();
    CHECK_EQ(last.status, SCSI_GOOD);
    CHECK(is_copied());
    memset(fx.ram->bytes, 0, COPY_BLOCKS * 512);
    prepare_copy(1);
    finish_cdb();
    CHECK_EQ(last.status, SCSI_GOOD);
    CHECK(is_copied() && fx.ram->bytes[1] == 1);
    tear_down();
}

static void test_what_is_not_allowed_is_not_there(void)
{
    set_up();
    other.is_allowed = false;
    prepare_copy(0);
    finish_cdb();
    CHECK_SENSE(0xa0804);
    CHECK_EQ(other.asked, 1);
    CHECK(!is_copied());
    tear_down();
}

static void test_an_initiator_without_other_targets_finds_none(void)
{
    set_up();
    clear_attentions(fx.first);
    put_list(0);
    CHECK_EQ(RUN_CDB(fx.first, 0x83, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, LIST_BYTES, 0, 0),
             SCSI_CHECK_CONDITION);
    CHECK_SENSE(0xa0804);
    CHECK_EQ(other.asked, 0);
    tear_down();
}

static void reserve_other(void)
{
    struct scsi_command copying = last;
    const uint8_t at_lun_3[] = {0, 0, 0, 0, 0, 0};
    const uint8_t key[] = {0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0},
                  reserve[] = {0x5f, 1, 1, 0, 0, 0, 0, 0, 24, 0};
    uint64_t lun = UINT64_C(3) << 48;

    prepare_cdb(other.nexus, lun, at_lun_3, sizeof at_lun_3);
    finish_cdb();
    memset(fx.data, 0, 24);
    put_be(fx.data + 8, 0xabc, 8);
    prepare_cdb(other.nexus, lun, key, sizeof key);
    finish_cdb();
    CHECK_EQ(last.status, SCSI_GOOD);
    memset(fx.data, 0, 24);
    put_be(fx.data, 0xabc, 8);
    prepare_cdb(other.nexus, lun, reserve, sizeof reserve);
    finish_cdb();
    CHECK_EQ(last.status, SCSI_GOOD);
    last = copying;
}

static void test_a_reservation_of_somebody_else_forbids_it(void)
{
    set_up();
    reserve_other();
    prepare_copy(0);
    finish_cdb();
    CHECK_SENSE(0xa0d02);
    CHECK(!is_copied());
    prepare_copy(1); /* write exclusive: reading is allowed */
    finish_cdb();
    CHECK_EQ(last.status, SCSI_GOOD);
    tear_down();
}

/* --- what comes amid a copy ----------------------------------------------------------------------
 */

static struct scsi_command second;
static bool second_is_done;

static void on_second_done(struct scsi_command *c)
{
    (void)c;
    second_is_done = true;
}

/* Tasks of this home run while it waits. */
static bool pump_until(bool (*is_so)(void))
{
    uint64_t end_ns = clock_now_ns() + UINT64_C(20000000000);

    while (!is_so()) {
        if (clock_now_ns() > end_ns)
            return false;
        home_drain(home_current());
        sched_yield();
    }
    return true;
}

static bool is_stuck(void)
{
    return atomic_load(&other.ram->stuck) != NULL;
}

/* Starts the copy, whose first write to the other disk waits. */
static void start_and_stall(void)
{
    put_list(0);
    memset(&second, 0, sizeof second);
    second.cdb[0] = 0x83;
    second.cdb[13] = LIST_BYTES;
    second.cdb_bytes = SCSI_CDB_BYTES;
    second.nexus = copier;
    second.done = on_second_done;
    second_is_done = false;
    scsi_command_decode(&second);
    second.data = memcpy(aligned_alloc(4096, 4096), fx.data, LIST_BYTES);
    second.data_bytes = LIST_BYTES;
    atomic_store(&other.ram->is_stuck, true);
    CHECK_EQ(scsi_command_start(&second), IO_PENDING);
    CHECK(pump_until(is_stuck));
}

static void finish_second(void)
{
    ram_release(other.ram);
    home_wait(home_current(), &second_is_done);
    free(second.data);
}

static void test_a_reservation_amid_a_copy_ends_it(void)
{
    set_up();
    start_and_stall();
    reserve_other();
    finish_second();
    last = second;
    CHECK_SENSE(0xa0d02);
    CHECK(memcmp(fx.ram->bytes, other.ram->bytes, 1 << 20) == 0); /* one piece was under way */
    CHECK(other.ram->bytes[(1 << 20) + 1] == 0);
    tear_down();
}

static _Atomic bool is_removed;

static void *remove_other(void *arg)
{
    struct err e = {0};

    (void)arg;
    if (scsi_target_remove_lun(other.target, 3, &e) < 0)
        fixture_fail("remove the LUN", &e);
    atomic_store(&is_removed, true);
    return NULL;
}

static bool is_refused_to_visitors(void)
{
    if (!scsi_lu_visit(other.lu))
        return true;
    scsi_lu_leave(other.lu);
    return false;
}

static void test_who_removes_a_disk_waits_for_its_visitors(void)
{
    pthread_t thread;

    set_up();
    atomic_store(&is_removed, false);
    start_and_stall();
    if (thread_start(&thread, remove_other, NULL) != 0)
        abort();
    CHECK(pump_until(is_refused_to_visitors));
    CHECK(!atomic_load(&is_removed));
    finish_second();
    last = second;
    CHECK_SENSE(0xa0d02);
    pthread_join(thread, NULL);
    CHECK(atomic_load(&is_removed));
    tear_down();
}

int main(void)
{
    RUN(test_a_copy_reaches_another_target);
    RUN(test_what_is_not_allowed_is_not_there);
    RUN(test_an_initiator_without_other_targets_finds_none);
    RUN(test_a_reservation_of_somebody_else_forbids_it);
    RUN(test_a_reservation_amid_a_copy_ends_it);
    RUN(test_who_removes_a_disk_waits_for_its_visitors);
    return unit_result();
}
