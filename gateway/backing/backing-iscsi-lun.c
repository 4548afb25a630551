/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * backing-iscsi-lun: what a logical unit is and can do, asked step by step after the login.  The
 * steps are a table; each has the command and what to take from its answer.  A step that is not
 * required may be unknown to the target: then its defaults stand.
 *
 * Answers are parsed here, byte by byte and never past their end, and not by libiscsi's functions,
 * which believe the lengths that a target claims.
 */
#include "backing/backing-iscsi.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define MS UINT64_C(1000000)
#define STEP_TRIES 100
#define MAX_TRANSFER_BYTES (UINT64_C(4) << 20)
#define MAX_RANGE_BYTES (UINT64_C(64) << 20)

/* --- bytes --------------------------------------------------------------------------------------
 */

struct bytes {
    const uint8_t *data;
    size_t size;
};

/* Big-endian; what is past the end is 0. */
static uint64_t get(struct bytes b, size_t at, unsigned width)
{
    uint64_t value = 0;

    for (size_t i = at; i < at + width; i++)
        value = value << 8 | (i < b.size ? b.data[i] : 0);
    return value;
}

static struct bytes data_of(const struct scsi_task *task)
{
    return (struct bytes){task->datain.data, task->datain.data ? (size_t)task->datain.size : 0};
}

/* --- what the answers say -----------------------------------------------------------------------
 */

/* False: remote_down() was told why. */
typedef bool take_fn(struct iscsi_conn *conn, struct bytes b);

static bool take_nothing(struct iscsi_conn *conn, struct bytes b)
{
    (void)conn;
    (void)b;
    return true;
}

/* SPC-4 6.4.2: qualifier 0 and type 0 is a disk that is there. */
static bool take_inquiry(struct iscsi_conn *conn, struct bytes b)
{
    if (b.size > 0 && b.data[0] == 0)
        return true;
    remote_down(&conn->owner->remote, "there is no disk at this LUN (device type %02xh)",
                (unsigned)get(b, 0, 1));
    return false;
}

/* SBC-3 5.16.2 */
static bool take_capacity(struct iscsi_conn *conn, struct bytes b)
{
    struct remote_facts *f = &conn->facts;
    uint64_t last = get(b, 0, 8);
    uint32_t block = (uint32_t)get(b, 8, 4);

    if (b.size < 12 || block < 512 || block > 65536 || block & (block - 1) ||
        last >= UINT64_MAX / block) {
        remote_down(&conn->owner->remote,
                    "READ CAPACITY makes no sense: %" PRIu64 " blocks of %" PRIu32 " bytes", last,
                    block);
        return false;
    }
    conn->lun.block_bytes = block;
    conn->lun.is_thin = get(b, 14, 1) & 0x80;
    conn->lun.reads_zeros = get(b, 14, 1) & 0x40;
    f->size_bytes = (last + 1) * block;
    f->block_bytes = block;
    f->preferred_bytes = MAX(4096, MIN(block << (get(b, 13, 1) & 15), 1u << 20));
    f->max_transfer_bytes = MAX_TRANSFER_BYTES;
    return true;
}

static bool is_page(struct bytes b, uint8_t page)
{
    return b.size >= 4 && b.data[1] == page;
}

/* The designators of SPC-4 7.8.6 that name the logical unit, best first.  A locally assigned NAA
 * (3h) is only a number that somebody has given, the same on many targets. */
static unsigned rank(unsigned type, uint8_t first)
{
    static const uint8_t best[] = {3 /* NAA */, 2 /* EUI-64 */, 8 /* SCSI name */, 1 /* T10 */};

    if (type == 3 && first >> 4 == 3)
        return ARRAY_SIZE(best) + 1;
    for (unsigned i = 0; i < ARRAY_SIZE(best); i++)
        if (best[i] == type)
            return i + 1;
    return UINT32_MAX;
}

static void write_designator(char *out, size_t out_size, unsigned type, struct bytes b)
{
    size_t used = (size_t)snprintf(out, out_size, "%s",
                                   type == 3   ? "naa."
                                   : type == 2 ? "eui."
                                   : type == 1 ? "t10."
                                               : "");

    for (size_t i = 0; i < b.size && used + 3 < out_size; i++)
        if (type == 2 || type == 3)
            used += (size_t)snprintf(out + used, out_size - used, "%02x", b.data[i]);
        else if (b.data[i] > ' ' && b.data[i] < 127)
            out[used++] = (char)b.data[i], out[used] = 0;
}

static bool take_identification(struct iscsi_conn *conn, struct bytes b)
{
    size_t end = MIN(b.size, 4 + (size_t)get(b, 2, 2)), length;
    unsigned chosen = UINT32_MAX;

    if (!is_page(b, 0x83))
        return true;
    for (size_t at = 4; at + 4 <= end; at += 4 + length) {
        unsigned type = b.data[at + 1] & 15, association = b.data[at + 1] >> 4 & 3;
        unsigned new_rank = rank(type, (uint8_t)get(b, at + 4, 1));

        length = b.data[at + 3];
        if (at + 4 + length > end || association != 0 || new_rank >= chosen || length == 0)
            continue;
        chosen = new_rank;
        write_designator(conn->facts.identity, sizeof conn->facts.identity, type,
                         (struct bytes){b.data + at + 4, length});
    }
    return true;
}

/* SBC-3 6.6.4 */
static bool take_limits(struct iscsi_conn *conn, struct bytes b)
{
    struct lun *lun = &conn->lun;
    uint64_t max = get(b, 8, 4) * lun->block_bytes;

    if (!is_page(b, 0xb0))
        return true;
    if (max)
        conn->facts.max_transfer_bytes = MIN(conn->facts.max_transfer_bytes, max);
    lun->max_unmap = (uint32_t)get(b, 20, 4);
    lun->unmap_granule = (uint32_t)get(b, 28, 4);
    if (get(b, 32, 4) & 0x80000000)
        lun->unmap_align = (uint32_t)get(b, 32, 4) & 0x7fffffff;
    lun->max_write_same = get(b, 36, 8);
    if (lun->max_write_same)
        lun->has_write_same = true;
    return true;
}

/* SBC-3 6.6.3 */
static bool take_characteristics(struct iscsi_conn *conn, struct bytes b)
{
    conn->facts.is_rotational = is_page(b, 0xb1) && get(b, 4, 2) > 1;
    return true;
}

/* SBC-3 6.6.5 */
static bool take_provisioning(struct iscsi_conn *conn, struct bytes b)
{
    struct lun *lun = &conn->lun;

    if (!is_page(b, 0xb2) || !lun->is_thin)
        return true;
    lun->reads_zeros |= (get(b, 5, 1) & 0x04) != 0;
    lun->unmaps = get(b, 5, 1) & 0x80 && lun->reads_zeros && lun->max_unmap;
    lun->unmaps_by_write_same = get(b, 5, 1) & 0x40;
    lun->has_write_same |= lun->unmaps_by_write_same;
    return true;
}

/* SPC-4 7.5.5: the device-specific parameter of disks is WP and DPOFUA (SBC-3 6.4.1). */
static bool take_mode(struct iscsi_conn *conn, struct bytes b)
{
    conn->facts.is_read_only = get(b, 2, 1) & 0x80;
    conn->facts.can_fua = get(b, 2, 1) & 0x10;
    return true;
}

static bool take_synchronize(struct iscsi_conn *conn, struct bytes b)
{
    (void)b;
    conn->facts.can_flush = true;
    return true;
}

/* REPORT SUPPORTED OPERATION CODES for one: 3 is "supported in conformance with a standard". */
static bool take_write_same(struct iscsi_conn *conn, struct bytes b)
{
    conn->lun.has_write_same = (get(b, 1, 1) & 7) == 3;
    conn->lun.unmaps_by_write_same &= conn->lun.has_write_same;
    return true;
}

static bool take_lba_status(struct iscsi_conn *conn, struct bytes b)
{
    conn->facts.can_extents = conn->lun.is_thin && b.size >= 24;
    return true;
}

int lun_add_extents(const struct lun *lun, const uint8_t *data, size_t size, uint64_t first_lba,
                    struct extents *x)
{
    struct bytes b = {data, size};
    uint64_t next = first_lba;
    size_t end = MIN(size, 4 + (size_t)get(b, 0, 4));

    for (size_t at = 8; at + 16 <= end; at += 16) {
        uint64_t lba = get(b, at, 8), past = lba + get(b, at + 8, 4);
        unsigned status = get(b, at + 12, 1) & 15;
        uint32_t zero = status && lun->reads_zeros ? EXTENT_ZERO : 0;
        int rc;

        /* Only what follows without a gap is believed. */
        if (lba > next || past <= next)
            break;
        rc = extents_add(x, (past - next) * lun->block_bytes,
                         zero | (status == 1 ? EXTENT_HOLE : 0));
        if (rc < 0)
            return rc == -ENOSPC ? 0 : rc;
        next = past;
    }
    return 0;
}

/* --- the steps ----------------------------------------------------------------------------------
 */

static struct scsi_task *inquiry(int page, int size)
{
    return scsi_cdb_inquiry(page >= 0, page >= 0 ? page : 0, size);
}

static struct scsi_task *make_unit_ready(void)
{
    return scsi_cdb_testunitready();
}

static struct scsi_task *make_inquiry(void)
{
    return inquiry(-1, 255);
}

static struct scsi_task *make_identification(void)
{
    return inquiry(0x83, 1024);
}

static struct scsi_task *make_limits(void)
{
    return inquiry(0xb0, 255);
}

static struct scsi_task *make_characteristics(void)
{
    return inquiry(0xb1, 255);
}

static struct scsi_task *make_provisioning(void)
{
    return inquiry(0xb2, 255);
}

static struct scsi_task *make_mode(void)
{
    return scsi_cdb_modesense6(1, SCSI_MODESENSE_PC_CURRENT, SCSI_MODEPAGE_RETURN_ALL_PAGES, 0,
                               255);
}

static struct scsi_task *make_synchronize(void)
{
    return scsi_cdb_synchronizecache16(0, 1, 0, 0);
}

static struct scsi_task *make_write_same(void)
{
    return scsi_cdb_report_supported_opcodes(0, SCSI_REPORT_SUPPORTING_OPCODE,
                                             SCSI_OPCODE_WRITE_SAME16, 0, 64);
}

static struct scsi_task *make_lba_status(void)
{
    return scsi_cdb_get_lba_status(0, 24);
}

static const struct step {
    const char *name;
    bool is_required;
    struct scsi_task *(*make)(void);
    take_fn *take;
} steps[] = {
    {"TEST UNIT READY", true, make_unit_ready, take_nothing},
    {"INQUIRY", true, make_inquiry, take_inquiry},
    {"READ CAPACITY(16)", true, scsi_cdb_readcapacity16, take_capacity},
    {"VPD page 83h", false, make_identification, take_identification},
    {"VPD page B0h", false, make_limits, take_limits},
    {"VPD page B1h", false, make_characteristics, take_characteristics},
    {"VPD page B2h", false, make_provisioning, take_provisioning},
    {"MODE SENSE(6)", false, make_mode, take_mode},
    {"SYNCHRONIZE CACHE(16)", false, make_synchronize, take_synchronize},
    {"REPORT SUPPORTED OPERATION CODES", false, make_write_same, take_write_same},
    {"GET LBA STATUS", false, make_lba_status, take_lba_status},
};

static uint64_t in_blocks(uint64_t bytes, uint64_t max_blocks, unsigned block)
{
    uint64_t blocks = bytes / block;

    return MAX(max_blocks ? MIN(blocks, max_blocks) : blocks, 1) * block;
}

/* What follows from all answers together. */
static void conclude(struct iscsi_conn *conn)
{
    const struct lun *lun = &conn->lun;
    struct remote_facts *f = &conn->facts;

    f->max_transfer_bytes = in_blocks(f->max_transfer_bytes, 0, lun->block_bytes);
    f->max_zero_bytes = in_blocks(MAX_RANGE_BYTES, lun->max_write_same, lun->block_bytes);
    f->max_trim_bytes = lun->unmaps_by_write_same
                            ? f->max_zero_bytes
                            : in_blocks(MAX_RANGE_BYTES, lun->max_unmap, lun->block_bytes);
    f->max_extents_bytes = UINT64_C(1) << 40;
    f->can_zero = lun->has_write_same;
    f->can_fast_zero = lun->unmaps_by_write_same;
    f->can_trim = lun->unmaps_by_write_same || lun->unmaps;
    iscsi_probed(conn);
}

static void step_send(struct iscsi_conn *conn);

static void pause_step(struct iscsi_conn *conn, uint64_t ns)
{
    loop_timer_set(conn->loop, &conn->pause, clock_now_ns() + ns);
}

static void step_failed(struct iscsi_conn *conn, const char *why)
{
    remote_down(&conn->owner->remote, "%s: %s", steps[conn->step].name, why);
}

static void next_step(struct iscsi_conn *conn)
{
    conn->tries = 0;
    if (++conn->step < ARRAY_SIZE(steps))
        step_send(conn);
    else
        conclude(conn);
}

static void step_answered(struct iscsi_conn *conn, const struct scsi_task *task, int status)
{
    const struct step *step = &steps[conn->step];
    int error = 0;
    enum verdict verdict = iscsi_judge(task, status, &error);

    if (verdict == VERDICT_LOST)
        iscsi_broke(conn);
    else if (verdict == VERDICT_DONE) {
        if (step->take(conn, data_of(task)))
            next_step(conn);
    } else if (verdict == VERDICT_RETRY || verdict == VERDICT_RESET || verdict == VERDICT_LATER) {
        if (conn->tries++ < STEP_TRIES)
            pause_step(conn, verdict == VERDICT_LATER ? 50 * MS : 0);
        else
            step_failed(conn, iscsi_get_error(conn->context));
    } else if (step->is_required)
        step_failed(conn, iscsi_get_error(conn->context));
    else
        next_step(conn);
}

static void step_done(struct iscsi_context *context, int status, void *data, void *private_data)
{
    struct iscsi_conn *conn = private_data;

    (void)context;
    if (!conn->is_ending)
        step_answered(conn, data, status);
    scsi_free_scsi_task(data);
}

static int submit(struct iscsi_conn *conn, struct scsi_task *task, iscsi_command_cb done)
{
    if (!task)
        return -ENOMEM;
    if (iscsi_scsi_command_async(conn->context, conn->owner->url->lun, task, done, NULL, conn) ==
        0) {
        iscsi_kick(conn->owner);
        return 0;
    }
    scsi_free_scsi_task(task);
    return -EIO;
}

static void step_send(struct iscsi_conn *conn)
{
    if (submit(conn, steps[conn->step].make(), step_done) < 0)
        step_failed(conn, iscsi_get_error(conn->context));
}

void iscsi_probe_again(struct timer *timer)
{
    step_send(CONTAINER_OF(timer, struct iscsi_conn, pause));
}

void iscsi_probe(struct iscsi_conn *conn)
{
    conn->step = 0;
    conn->tries = 0;
    step_send(conn);
}

/* --- the size, later ----------------------------------------------------------------------------
 */

static void capacity_answered(struct iscsi_conn *conn, const struct scsi_task *task, int status)
{
    struct bytes b = data_of(task);
    int error;

    switch (iscsi_judge(task, status, &error)) {
    case VERDICT_DONE:
        if (b.size < 12 || get(b, 8, 4) != conn->lun.block_bytes)
            remote_refuse(&conn->owner->remote, "its blocks are of another size now");
        else
            remote_size(&conn->owner->remote, (get(b, 0, 8) + 1) * conn->lun.block_bytes);
        break;
    case VERDICT_RETRY:
    case VERDICT_LATER:
        iscsi_read_capacity(conn);
        break;
    default:
        remote_down(&conn->owner->remote, "READ CAPACITY(16): %s", iscsi_get_error(conn->context));
    }
}

static void capacity_done(struct iscsi_context *context, int status, void *data, void *private_data)
{
    struct iscsi_conn *conn = private_data;

    (void)context;
    if (!conn->is_ending)
        capacity_answered(conn, data, status);
    scsi_free_scsi_task(data);
}

void iscsi_read_capacity(struct iscsi_conn *conn)
{
    if (submit(conn, scsi_cdb_readcapacity16(), capacity_done) < 0)
        remote_down(&conn->owner->remote, "READ CAPACITY(16): %s", iscsi_get_error(conn->context));
}
