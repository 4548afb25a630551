/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * scsi-fixture.h: what the SCSI tests share: a disk whose bytes are in RAM (its state in a folder
 * of the test's own), a target with that disk as LUN 0, two initiators, and a way to run a CDB from
 * the calling thread and to look at how it ended.
 */
#ifndef SLUICE_SCSI_FIXTURE_H
#define SLUICE_SCSI_FIXTURE_H

#include "engine-fixture.h"
#include "scsi/scsi.h"

#define FIXTURE_BYTES (8u << 20)
#define FIXTURE_DATA (4u << 20)

struct scsi_fixture {
    char folder[200];
    struct ram_backing *ram;
    struct disk *disk;
    struct scsi_lu *lu;
    struct scsi_target *target;
    struct scsi_nexus *first, *second;
    struct scsi_lu_settings settings;
    uint32_t block_bytes;
    uint8_t *data; /* page-aligned, FIXTURE_DATA */
};

static struct scsi_fixture fx;

/* The last command. */
static struct scsi_command last;
static bool last_is_done;

static inline void fixture_fail(const char *what, const struct err *e)
{
    fprintf(stderr, "cannot %s: %s\n", what, e->text);
    exit(99);
}

/* The chain of the disk goes to RAM, where answers can be delayed and failed. */
static inline struct ram_backing *fixture_put_ram_below(struct disk *disk, unsigned unit)
{
    struct engine *engine = disk_engine(disk);
    struct ram_backing *ram = ram_create(FIXTURE_BYTES, unit);
    struct chain *old;

    engine_gate_close(engine, GATE_SWAP);
    if (engine_drain(engine, clock_now_ns() + UINT64_C(5000000000)) < 0)
        abort();
    old = engine_swap_chain(engine, chain_create(NULL, 0, &ram->base));
    engine_gate_open(engine, GATE_SWAP);
    chain_destroy(old);
    return ram;
}

static inline struct scsi_nexus *fixture_nexus(const char *initiator, uint8_t isid)
{
    struct scsi_nexus_settings settings = {.initiator = initiator,
                                           .isid = {0x80, 0, 0, 0, 0, isid},
                                           .portal_group = 1,
                                           .address = "192.0.2.1:4711",
                                           .home = home_current()};
    struct scsi_nexus *nexus = NULL;
    struct err e = {0};

    if (scsi_nexus_open(fx.target, &settings, &nexus, &e) < 0)
        fixture_fail("open a nexus", &e);
    return nexus;
}

static inline void fixture_open_lu(void)
{
    struct err e = {0};

    if (scsi_lu_create(fx.disk, &fx.settings, &fx.lu, &e) < 0)
        fixture_fail("make the logical unit", &e);
    if (scsi_target_create("iqn.2026-01.org.example:fixture", &fx.target, &e) < 0 ||
        scsi_target_add_lun(fx.target, 0, fx.lu, &e) < 0)
        fixture_fail("make the target", &e);
    fx.first = fixture_nexus("iqn.2026-01.org.example:first", 1);
    fx.second = fixture_nexus("iqn.2026-01.org.example:second", 2);
}

static inline void fixture_open_disk(void)
{
    struct disk_settings settings = {.name = "ram",
                                     .state_root = fx.folder,
                                     .size_bytes = FIXTURE_BYTES,
                                     .quiesce_limit_ns = 2000000000};
    struct backing_spec spec = {.kind = BACKING_FILE, .disk = "ram"};
    struct err e = {0};
    char image[300];

    snprintf(image, sizeof image, "%s/ram.raw", fx.folder);
    spec.path = image;
    if (disk_open(&settings, &spec, &fx.disk, &e) < 0)
        fixture_fail("open the disk", &e);
    fx.ram = fixture_put_ram_below(fx.disk, 1);
}

static inline void fixture_start(const struct scsi_lu_settings *settings)
{
    const char *parent = getenv("TMPDIR");

    memset(&fx, 0, sizeof fx);
    snprintf(fx.folder, sizeof fx.folder, "%s/sluice-test-scsi-XXXXXX",
             parent && parent[0] ? parent : "/tmp");
    if (!mkdtemp(fx.folder))
        abort();
    if (settings)
        fx.settings = *settings;
    fx.block_bytes = fx.settings.block_bytes ? fx.settings.block_bytes : 512;
    fx.data = aligned_alloc(4096, FIXTURE_DATA);
    fixture_open_disk();
    fixture_open_lu();
}

static void fixture_set_flag(void *arg)
{
    *(bool *)arg = true;
}

static inline void fixture_close_nexus(struct scsi_nexus *nexus)
{
    bool is_closed = false;

    scsi_nexus_close(nexus, fixture_set_flag, &is_closed);
    home_wait(home_current(), &is_closed);
}

static inline void fixture_close_lu(void)
{
    if (fx.first)
        fixture_close_nexus(fx.first);
    if (fx.second)
        fixture_close_nexus(fx.second);
    scsi_target_free(fx.target);
    scsi_lu_put(fx.lu);
}

/* The RAM outlives the chain. */
static inline void fixture_close_disk(void)
{
    disk_close(fx.disk);
    ram_destroy(fx.ram);
}

static inline void fixture_end(void)
{
    char command[300];

    fixture_close_lu();
    fixture_close_disk();
    free(fx.data);
    snprintf(command, sizeof command, "rm -rf '%s'", fx.folder);
    if (system(command) != 0)
        abort();
}

/* --- running commands --------------------------------------------------------------------- */

static void fixture_on_done(struct scsi_command *c)
{
    (void)c;
    last_is_done = true;
}

/* Decodes into `last`; data-out is what stands in fx.data. */
static inline void prepare_cdb(struct scsi_nexus *nexus, uint64_t lun, const uint8_t *cdb,
                               size_t bytes)
{
    memset(&last, 0xa5, sizeof last); /* nothing may depend on what was there */
    memset(last.cdb, 0, sizeof last.cdb);
    memcpy(last.cdb, cdb, bytes);
    last.cdb_bytes = SCSI_CDB_BYTES;
    last.nexus = nexus;
    last.lun = lun;
    last.attribute = SCSI_SIMPLE;
    last.done = fixture_on_done;
    scsi_command_decode(&last);
    if (last.transfer_bytes > FIXTURE_DATA)
        abort();
    last.data = fx.data;
    last.data_bytes = last.transfer_bytes;
}

static inline void finish_cdb(void)
{
    last_is_done = false;
    if (scsi_command_start(&last) == IO_PENDING)
        home_wait(home_current(), &last_is_done);
}

static inline uint8_t run_cdb(struct scsi_nexus *nexus, const uint8_t *cdb, size_t bytes)
{
    prepare_cdb(nexus, 0, cdb, bytes);
    finish_cdb();
    return last.status;
}

#define RUN_CDB(nexus, ...) \
    run_cdb(nexus, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

/* Key, ASC and ASCQ of the last command, 0xKAAQQ; 0 without sense. */
static inline uint32_t last_sense(void)
{
    const uint8_t *s = last.sense;

    if (last.status != SCSI_CHECK_CONDITION || last.sense_bytes < 8)
        return 0;
    if ((s[0] & 0x7f) == 0x72)
        return (uint32_t)(s[1] & 0xf) << 16 | (uint32_t)s[2] << 8 | s[3];
    return (uint32_t)(s[2] & 0xf) << 16 | (uint32_t)s[12] << 8 | s[13];
}

/* The byte that the field pointer shows; -1: none. */
static inline int last_field(void)
{
    const uint8_t *s = last.sense;

    if ((s[0] & 0x7f) == 0x70)
        return s[15] & 0x80 ? s[16] << 8 | s[17] : -1;
    for (unsigned at = 8; at + 2u <= last.sense_bytes; at += s[at + 1] + 2u)
        if (s[at] == 2)
            return s[at + 5] << 8 | s[at + 6];
    return -1;
}

#define CHECK_SENSE(want) CHECK_EQ(last_sense(), want)

/* Takes what is pending (power on). */
static inline void clear_attentions(struct scsi_nexus *nexus)
{
    for (unsigned i = 0; i < 32 && RUN_CDB(nexus, 0, 0, 0, 0, 0, 0) != SCSI_GOOD; i++)
        ;
}

static inline void put_be(uint8_t *p, uint64_t v, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        p[i] = (uint8_t)(v >> 8 * (bytes - 1 - i));
}

static inline uint64_t get_be(const uint8_t *p, unsigned bytes)
{
    uint64_t v = 0;

    for (unsigned i = 0; i < bytes; i++)
        v = v << 8 | p[i];
    return v;
}

#endif
