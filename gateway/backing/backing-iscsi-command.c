/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * backing-iscsi-command: an op becomes one SCSI command, its answer a verdict.
 *
 * Trim promises zeros.  WRITE SAME with UNMAP keeps that promise in every case: what the target
 * does not unmap it writes (SBC-3 5.45).  UNMAP keeps it for whole granules where LBPRZ is set; the
 * edges are written.  Where WRITE SAME turns out to be unknown, zeros are sent as plain writes.
 */
#include "backing/backing-iscsi.h"

#include <errno.h>
#include <string.h>

#define MS UINT64_C(1000000)
#define UNIT_ATTENTIONS_MAX 30
#define ABORTS_MAX 8
#define ZEROS_BYTES (64u << 10)
/* 32 descriptors behind a header. */
#define LBA_STATUS_BYTES (8 + 32 * 16)

static const unsigned char zeros[ZEROS_BYTES];

static struct iscsi_op *extra(struct remote_op *op)
{
    return (struct iscsi_op *)(void *)op->extra;
}

/* --- verdicts -----------------------------------------------------------------------------------
 */

#define ANY (-1)
#define SENSE_OK VERDICT_DONE

/* The first that fits; asc and ascq as in SPC-4 annex F. */
static const struct rule {
    int key, asc, ascq;
    enum verdict verdict;
    int error;
} rules[] = {
    {SCSI_SENSE_NO_SENSE, ANY, ANY, VERDICT_DONE, 0},
    {SCSI_SENSE_RECOVERED_ERROR, ANY, ANY, VERDICT_DONE, 0},
    /* Power on, reset, nexus loss: what was in a volatile cache may be gone. */
    {SCSI_SENSE_UNIT_ATTENTION, 0x29, ANY, VERDICT_RESET, 0},
    {SCSI_SENSE_UNIT_ATTENTION, ANY, ANY, VERDICT_RETRY, 0},
    /* No medium; needs an operator: not a matter of time. */
    {SCSI_SENSE_NOT_READY, 0x3a, ANY, VERDICT_FAIL, EIO},
    {SCSI_SENSE_NOT_READY, 0x04, 0x02, VERDICT_FAIL, EIO},
    {SCSI_SENSE_NOT_READY, 0x04, 0x03, VERDICT_FAIL, EIO},
    {SCSI_SENSE_NOT_READY, ANY, ANY, VERDICT_LATER, 0},
    {SCSI_SENSE_COMMAND_ABORTED, ANY, ANY, VERDICT_LATER, 0},
    {SCSI_SENSE_ILLEGAL_REQUEST, 0x20, ANY, VERDICT_UNSUPPORTED, 0},
    {SCSI_SENSE_ILLEGAL_REQUEST, 0x24, ANY, VERDICT_UNSUPPORTED, 0},
    {SCSI_SENSE_ILLEGAL_REQUEST, 0x26, ANY, VERDICT_UNSUPPORTED, 0},
    {SCSI_SENSE_DATA_PROTECTION, 0x27, 0x07, VERDICT_FAIL, ENOSPC},
    {SCSI_SENSE_DATA_PROTECTION, ANY, ANY, VERDICT_FAIL, EROFS},
    {ANY, ANY, ANY, VERDICT_FAIL, EIO},
};

static enum verdict judge_sense(const struct scsi_sense *sense, int *error)
{
    const struct rule *rule = rules;

    while ((rule->key != ANY && rule->key != (int)sense->key) ||
           (rule->asc != ANY && rule->asc != sense->ascq >> 8) ||
           (rule->ascq != ANY && rule->ascq != (sense->ascq & 0xff)))
        rule++;
    *error = rule->error;
    return rule->verdict;
}

enum verdict iscsi_judge(const struct scsi_task *task, int status, int *error)
{
    *error = EIO;
    switch (status) {
    case SCSI_STATUS_GOOD:
    case SCSI_STATUS_CONDITION_MET:
        return VERDICT_DONE;
    case SCSI_STATUS_CHECK_CONDITION:
        return judge_sense(&task->sense, error);
    case SCSI_STATUS_BUSY:
    case SCSI_STATUS_TASK_SET_FULL:
    case SCSI_STATUS_TASK_ABORTED:
        return VERDICT_LATER;
    case SCSI_STATUS_RESERVATION_CONFLICT:
    case SCSI_STATUS_ACA_ACTIVE:
        return VERDICT_FAIL;
    default: /* cancelled by libiscsi because the session broke; rejected; timed out */
        return VERDICT_LOST;
    }
}

bool iscsi_capacity_changed(const struct scsi_task *task, int status)
{
    return status == SCSI_STATUS_CHECK_CONDITION && task->sense.key == SCSI_SENSE_UNIT_ATTENTION &&
           task->sense.ascq == SCSI_SENSE_ASCQ_CAPACITY_DATA_HAS_CHANGED;
}

/* --- commands -----------------------------------------------------------------------------------
 */

static void answered(struct iscsi_context *context, int status, void *data, void *private_data);

struct target {
    struct iscsi_context *context;
    const struct lun *lun;
    int number;
    uint64_t lba;
    uint32_t blocks;
};

static struct scsi_task *submit_zeros(const struct target *t, struct remote_op *op)
{
    unsigned block = t->lun->block_bytes;
    bool may_unmap = op->kind == IO_TRIM || !(op->flags & IO_NO_HOLE);

    if (t->lun->has_write_same)
        return iscsi_writesame16_task(
            t->context, t->number, t->lba, (unsigned char *)(uintptr_t)zeros, block, t->blocks, 0,
            may_unmap && t->lun->unmaps_by_write_same, 0, 0, answered, op);
    op->chunk = MIN(op->chunk, ZEROS_BYTES);
    return iscsi_write16_task(t->context, t->number, t->lba, (unsigned char *)(uintptr_t)zeros,
                              (uint32_t)op->chunk, (int)block, 0, 0, 0, 0, 0, answered, op);
}

/* How many blocks from the first on are an edge that UNMAP would leave as it is. */
static uint64_t edge_blocks(const struct target *t)
{
    uint64_t granule = t->lun->unmap_granule, past;

    if (granule <= 1)
        return 0;
    past = (t->lba + granule - t->lun->unmap_align % granule) % granule;
    if (past)
        return MIN(granule - past, t->blocks);
    return t->blocks < granule ? t->blocks : 0;
}

static struct scsi_task *submit_trim(struct target *t, struct remote_op *op)
{
    unsigned block = t->lun->block_bytes;
    uint64_t edge = edge_blocks(t);
    struct unmap_list range;

    if (t->lun->unmaps_by_write_same || !t->lun->unmaps)
        return submit_zeros(t, op);
    if (edge) {
        op->chunk = edge * block;
        t->blocks = (uint32_t)edge;
        return submit_zeros(t, op);
    }
    if (t->lun->unmap_granule > 1)
        t->blocks -= t->blocks % t->lun->unmap_granule;
    op->chunk = (uint64_t)t->blocks * block;
    range = (struct unmap_list){.lba = t->lba, .num = t->blocks};
    return iscsi_unmap_task(t->context, t->number, 0, 0, &range, 1, answered, op);
}

static struct scsi_task *submit(struct target *t, struct remote_op *op)
{
    struct scsi_iovec *iov = &extra(op)->iov;
    int block = (int)t->lun->block_bytes;

    *iov = (struct scsi_iovec){op->data ? op->data + op->done : NULL, op->chunk};
    switch (op->kind) {
    case IO_READ:
        return iscsi_read16_iov_task(t->context, t->number, t->lba, (uint32_t)op->chunk, block, 0,
                                     0, 0, 0, 0, answered, op, iov, 1);
    case IO_WRITE:
        return iscsi_write16_iov_task(t->context, t->number, t->lba, NULL, (uint32_t)op->chunk,
                                      block, 0, 0, (op->flags & IO_FUA) != 0, 0, 0, answered, op,
                                      iov, 1);
    case IO_FLUSH: /* 0 blocks from block 0: all of it */
        return iscsi_synchronizecache16_task(t->context, t->number, 0, 0, 0, 0, answered, op);
    case IO_ZERO:
        return submit_zeros(t, op);
    case IO_TRIM:
        return submit_trim(t, op);
    case IO_EXTENTS:
        return iscsi_get_lba_status_task(t->context, t->number, t->lba, LBA_STATUS_BYTES, answered,
                                         op);
    case IO_PREFETCH:
        break;
    }
    return NULL;
}

static void try_again(struct remote_op *op, uint64_t ns)
{
    loop_timer_set(op->remote->loop, &extra(op)->again, clock_now_ns() + ns);
}

/* 8 ms, doubled up to a second: what QEMU does for BUSY and TASK SET FULL. */
static uint64_t patience(const struct iscsi_op *x)
{
    return service_jitter(8 * MS << MIN(x->tries, 7u));
}

static void send_again(struct remote_op *op)
{
    struct iscsi_backing *ib = iscsi_backing_of(op->remote);
    struct iscsi_conn *conn = ib->conn;
    struct target t;

    if (!conn || conn->is_ending)
        return;
    t = (struct target){
        .context = conn->context,
        .lun = &conn->lun,
        .number = ib->url->lun,
        .lba = (op->offset + op->done) / conn->lun.block_bytes,
        .blocks = (uint32_t)MIN(op->chunk / conn->lun.block_bytes, UINT32_MAX),
    };
    if (submit(&t, op))
        iscsi_kick(ib);
    else if (iscsi_is_logged_in(conn->context))
        try_again(op, patience(extra(op))); /* no memory */
}

static void again_fire(struct timer *timer)
{
    struct iscsi_op *x = CONTAINER_OF(timer, struct iscsi_op, again);

    send_again(CONTAINER_OF(x, struct remote_op, extra));
}

void iscsi_send(struct remote *r, struct remote_op *op)
{
    (void)r;
    extra(op)->tries = 0;
    extra(op)->again.fire = again_fire;
    send_again(op);
}

void iscsi_calm(struct remote *r)
{
    LIST_FOREACH (node, &r->flying)
        loop_timer_cancel(r->loop, &extra(LIST_ENTRY(node, struct remote_op, link))->again);
}

/* --- answers ------------------------------------------------------------------------------------
 */

/* A good status with less than the data is no success. */
static int finish(struct iscsi_conn *conn, struct remote_op *op, const struct scsi_task *task)
{
    bool has_data = op->kind == IO_READ || op->kind == IO_WRITE;
    uint64_t lba = (op->offset + op->done) / conn->lun.block_bytes;

    if (has_data && task->residual_status != SCSI_RESIDUAL_NO_RESIDUAL && task->residual)
        return -EIO;
    if (op->kind != IO_EXTENTS)
        return 0;
    return lun_add_extents(&conn->lun, task->datain.data,
                           task->datain.data ? (size_t)task->datain.size : 0, lba, op->extents);
}

/* True if the op can be sent in another way. */
static bool find_another_way(struct iscsi_conn *conn, const struct remote_op *op)
{
    struct lun *lun = &conn->lun;
    bool *ways[] = {&lun->unmaps_by_write_same, &lun->unmaps, &lun->has_write_same};

    if (op->kind != IO_ZERO && op->kind != IO_TRIM)
        return false;
    for (size_t i = 0; i < ARRAY_SIZE(ways); i++)
        if (*ways[i]) {
            *ways[i] = false;
            return true;
        }
    return false;
}

static void all_is_data(struct remote_op *op)
{
    int rc = op->extents->count ? 0 : extents_add(op->extents, op->chunk, 0);

    remote_done(op, rc == -ENOMEM ? rc : 0);
}

static void done(struct iscsi_conn *conn, struct remote_op *op, const struct scsi_task *task)
{
    int rc = finish(conn, op, task);

    if (rc == 0 && op->kind == IO_EXTENTS)
        all_is_data(op);
    else
        remote_done(op, rc);
}

static void unsupported(struct iscsi_conn *conn, struct remote_op *op)
{
    if (op->kind == IO_EXTENTS)
        all_is_data(op);
    else if (find_another_way(conn, op))
        try_again(op, 0);
    else
        remote_done(op, -EIO);
}

static void act(struct iscsi_conn *conn, struct remote_op *op, const struct scsi_task *task,
                int status)
{
    struct iscsi_op *x = extra(op);
    int error;
    enum verdict verdict = iscsi_judge(task, status, &error);

    if (verdict != VERDICT_LOST)
        conn->missed = 0;
    if (iscsi_capacity_changed(task, status))
        iscsi_read_capacity(conn);
    if (verdict == VERDICT_RETRY && x->tries++ >= UNIT_ATTENTIONS_MAX)
        verdict = VERDICT_FAIL;
    if (verdict == VERDICT_LATER && status == SCSI_STATUS_CHECK_CONDITION &&
        task->sense.key == SCSI_SENSE_COMMAND_ABORTED && x->tries >= ABORTS_MAX)
        verdict = VERDICT_FAIL;
    switch (verdict) {
    case VERDICT_DONE:
        done(conn, op, task);
        return;
    case VERDICT_RETRY:
        try_again(op, 0);
        return;
    case VERDICT_LATER:
        try_again(op, patience(x));
        x->tries++;
        return;
    case VERDICT_RESET:
        remote_down(op->remote, "the target was reset");
        return;
    case VERDICT_LOST:
        iscsi_broke(conn);
        return;
    case VERDICT_UNSUPPORTED:
        unsupported(conn, op);
        return;
    case VERDICT_FAIL:
        remote_done(op, error ? -error : -EIO);
    }
}

static void answered(struct iscsi_context *context, int status, void *data, void *private_data)
{
    struct remote_op *op = private_data;
    struct iscsi_conn *conn = iscsi_backing_of(op->remote)->conn;

    (void)context;
    if (conn && !conn->is_ending)
        act(conn, op, data, status);
    scsi_free_scsi_task(data);
}
