/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * erase.c: SANITIZE and FORMAT UNIT (SBC-4 4.11, 5.4, 5.30), where the policy
 * allows them.
 *
 * An erasure belongs to the disk, not to the command or session that ordered
 * it: it has a thread of its own, goes on when the session ends, and after a
 * restart, as its order stands in the file `sanitize` of the disk's state
 * folder until it is done.  Meanwhile the disk is not ready (04/1B).
 *
 * First the medium is overwritten, through the chain of filters; then the
 * filters overwrite what they keep elsewhere (tiers, journals), told by the
 * event `sanitize`, and the records of atomic writes go.  A restart in the
 * middle begins with the first again.
 */
#include "internal.h"

#include <errno.h>
#include <string.h>

#define FILE_NAME "sanitize"
#define CHUNK (1u << 20)
#define TRIM_CHUNK (UINT64_C(1) << 30)
#define OVERWRITE_HEADER_BYTES 4u

/* --- the work
 * ------------------------------------------------------------------------------
 */

static bool must_stop(const struct scsi_lu *lu)
{
    return atomic_load(&lu->erase.must_stop);
}

static int pass(struct scsi_lu *lu, unsigned op, void *data, uint64_t chunk)
{
    uint64_t size = engine_size(lu->engine), at = 0;
    int error = 0;

    while (at < size && !error && !must_stop(lu)) {
        uint64_t length = MIN(size - at, chunk);

        error = lu_execute(lu, op, 0, at, length, data);
        at += length;
    }
    return error ? error : lu_execute(lu, SLUICE_OP_FLUSH, 0, 0, 0, NULL);
}

/* The pattern repeats within each block (SBC-4 5.30.2.2); INVERT: every second
 * pass. */
static void fill(uint8_t *chunk, const struct erase_order *order, uint32_t block_bytes, bool invert)
{
    for (uint32_t i = 0; i < CHUNK; i++) {
        uint8_t byte = order->pattern[i % block_bytes % order->pattern_bytes];

        chunk[i] = invert ? (uint8_t)~byte : byte;
    }
}

static int overwrite(struct scsi_lu *lu, const struct erase_order *order)
{
    CLEANUP_FREE uint8_t *chunk = aligned_alloc(4096, CHUNK);
    int error = chunk ? 0 : ENOMEM;

    for (unsigned i = 0; i < order->passes && !error && !must_stop(lu); i++) {
        fill(chunk, order, lu->block_bytes, order->invert && (order->passes - i) % 2 == 0);
        error = pass(lu, SLUICE_OP_WRITE, chunk, CHUNK);
    }
    return error;
}

static int carry_out(struct scsi_lu *lu)
{
    const struct erase_order *order = &lu->erase.order;

    if (order->passes)
        return overwrite(lu, order);
    return pass(lu, lu_is_thin(lu) ? SLUICE_OP_TRIM : SLUICE_OP_ZERO, NULL, TRIM_CHUNK);
}

/* What others keep of the old bytes. */
static int erase_elsewhere(struct scsi_lu *lu)
{
    struct err e = {0};
    int error, r;

    do
        error = atomic_sanitize(lu);
    while (error == EAGAIN && !must_stop(lu));
    if (error)
        return error;
    do
        r = disk_sanitize(lu->disk, &e);
    while (r == -EAGAIN && !must_stop(lu));
    if (r == -EAGAIN)
        disk_sanitize_abort(lu->disk);
    else if (r < 0 && r != -ESHUTDOWN)
        log_line(LOG_LEVEL_ERROR, "the disk's old data could not be erased everywhere: %s disk=%s",
                 e.text, disk_name(lu->disk));
    return -r;
}

/* Before the state is open to the next order: the waiting command learns of it
 * in its home. */
static void finish(struct scsi_lu *lu, int error)
{
    struct scsi_job *waiter;
    SCOPED_LOCK(&lu->mutex);

    lu->erase.is_running = false;
    lu->erase.is_failed = error != 0;
    if (!error)
        atomic_fetch_and(&lu->gates, ~LU_ERASING);
    waiter = lu->erase.waiter;
    lu->erase.waiter = NULL;
    if (!waiter)
        return;
    waiter->error = error;
    home_post(waiter->command->nexus->home, &waiter->task);
}

static void *erase_main(void *arg)
{
    struct scsi_lu *lu = arg;
    const char *folder = disk_state_folder(lu->disk);
    int error = carry_out(lu);

    if (!error && !must_stop(lu))
        error = erase_elsewhere(lu);
    if (must_stop(lu) || error == ESHUTDOWN)
        return NULL; /* the file is there for the next start */
    if (!error && folder && disk_state_remove(folder, FILE_NAME) < 0)
        error = EIO;
    if (error)
        log_line(LOG_LEVEL_ERROR, "the disk could not be erased: %s disk=%s", strerror(error),
                 disk_name(lu->disk));
    finish(lu, error);
    return NULL;
}

/* --- starting and ending
 * --------------------------------------------------------------------- */

/* 0 or a positive errno; the mutex is not held. */
static int start(struct scsi_lu *lu)
{
    const char *folder = disk_state_folder(lu->disk);
    int r = 0;

    if (lu->erase.has_thread)
        pthread_join(lu->erase.thread, NULL); /* it has ended */
    lu->erase.has_thread = false;
    if (folder)
        r = disk_state_write(folder, FILE_NAME, &lu->erase.order, sizeof lu->erase.order);
    if (r == 0)
        r = thread_start(&lu->erase.thread, erase_main, lu);
    lu->erase.has_thread = r == 0;
    return -r;
}

/* False: one is under way. */
static bool claim(struct scsi_lu *lu, const struct erase_order *order)
{
    SCOPED_LOCK(&lu->mutex);

    if (lu->erase.is_running)
        return false;
    lu->erase.is_running = true;
    lu->erase.is_failed = false;
    lu->erase.order = *order;
    atomic_fetch_or(&lu->gates, LU_ERASING);
    return true;
}

static bool is_whole(const struct erase_order *order, size_t length)
{
    return length == sizeof *order && order->pattern_bytes <= sizeof order->pattern &&
           (order->passes == 0 || order->pattern_bytes > 0) && order->passes <= 31;
}

int erase_open(struct scsi_lu *lu, struct err *e)
{
    const char *folder = disk_state_folder(lu->disk);
    struct erase_order order;
    size_t length;
    int r = folder ? disk_state_read(folder, FILE_NAME, &order, sizeof order, &length) : -ENOENT;

    if (r == -ENOENT)
        return 0;
    if (r < 0 || !is_whole(&order, length))
        return err_set(e, r < 0 ? -r : EBADMSG,
                       "%s/%s cannot be read: the erasure of the disk %s cannot be "
                       "finished; remove "
                       "the file to give it up",
                       folder, FILE_NAME, disk_name(lu->disk));
    claim(lu, &order);
    r = start(lu);
    return r ? err_set(e, r, "cannot go on erasing the disk %s: %s", disk_name(lu->disk),
                       strerror(r))
             : 0;
}

void erase_close(struct scsi_lu *lu)
{
    atomic_store(&lu->erase.must_stop, true);
    if (lu->erase.has_thread)
        pthread_join(lu->erase.thread, NULL);
}

/* --- commands
 * ----------------------------------------------------------------------------------
 */

static void on_erased(struct task *task)
{
    job_resume(CONTAINER_OF(task, struct scsi_job, task));
}

/* The command ends; the erasure does not. */
static void stop_waiting(struct scsi_job *job)
{
    struct scsi_lu *lu = job->command->nexus_lu->lu;
    bool was_waiting;

    pthread_mutex_lock(&lu->mutex);
    was_waiting = lu->erase.waiter == job;
    if (was_waiting)
        lu->erase.waiter = NULL;
    pthread_mutex_unlock(&lu->mutex);
    if (was_waiting)
        home_post(job->command->nexus->home, &job->task);
}

static int start_work(struct scsi_job *job)
{
    struct scsi_lu *lu = job->command->nexus_lu->lu;
    struct err e = {0};
    int error;

    if (disk_may_be_sanitized(lu->disk, &e) < 0) {
        log_line(LOG_LEVEL_ERROR, "an erasure was refused: %s disk=%s", e.text,
                 disk_name(lu->disk));
        finish(lu, 0);
        return ENOTEMPTY;
    }
    error = start(lu);
    if (error)
        finish(lu, error);
    return error;
}

static void failed(struct scsi_command *c, int error)
{
    if (error == ENOTEMPTY) /* something else has to come before */
        sense_set(c, SENSE_ILLEGAL_REQUEST, ASC_COMMAND_SEQUENCE);
    else
        sense_set(c, SENSE_MEDIUM_ERROR, ASC_SANITIZE_FAILED);
}

/* 0: its order is being made stable; 1: it has been started. */
static enum job_next erase_step(struct scsi_job *job)
{
    struct scsi_command *c = job->command;
    struct scsi_lu *lu = c->nexus_lu->lu;
    bool waits = false;

    if (job->phase == 0) {
        job->phase++;
        return job_work(job, start_work);
    }
    if (job->error) {
        failed(c, job->error);
        return JOB_END;
    }
    if (job->phase++ > 1 || job->value[0] /* IMMED */ || c->is_cancelled)
        return JOB_END;
    job->task.run = on_erased;
    pthread_mutex_lock(&lu->mutex);
    if (lu->erase.is_running) {
        job->stop = stop_waiting;
        lu->erase.waiter = job;
        waits = true;
    } else if (lu->erase.is_failed) {
        job->error = EIO;
    }
    pthread_mutex_unlock(&lu->mutex);
    return waits ? JOB_WAIT : JOB_AGAIN;
}

static enum io_status order_erasure(struct scsi_command *c, const struct erase_order *order,
                                    bool is_immediate)
{
    struct scsi_job *job = job_new(c, erase_step, 0);

    if (!job)
        return IO_DONE;
    if (!claim(c->nexus_lu->lu, order)) {
        job_discard(job);
        sense_set(c, SENSE_NOT_READY, ASC_SANITIZE_IN_PROGRESS);
        return IO_DONE;
    }
    job->value[0] = is_immediate;
    job->sees_errors = job->sees_cancel = true;
    return job_start(job);
}

void decode_sanitize(struct scsi_command *c)
{
    uint32_t length = get16(c->cdb + 7), most;

    if (!c->nexus_lu->lu)
        return;
    most = c->nexus_lu->lu->block_bytes + OVERWRITE_HEADER_BYTES;
    if (c->operation->service_action == SANITIZE_OVERWRITE
            ? length <= OVERWRITE_HEADER_BYTES || length > most
            : length != 0)
        sense_bad_cdb(c, 7, NO_BIT);
    else
        c->transfer_bytes = length;
}

static bool parse_overwrite(struct scsi_command *c, struct erase_order *order)
{
    const uint8_t *list = c->data;
    uint32_t pattern = get16(list + 2);

    order->passes = list[0] & 0x1f;
    order->invert = list[0] & 0x80;
    order->pattern_bytes = pattern;
    if (order->passes == 0) {
        sense_bad_list(c, 0, 4);
        return false;
    }
    if (pattern == 0 || pattern > c->nexus_lu->lu->block_bytes ||
        pattern > c->data_bytes - OVERWRITE_HEADER_BYTES) {
        sense_bad_list(c, 2, NO_BIT);
        return false;
    }
    memcpy(order->pattern, list + OVERWRITE_HEADER_BYTES, pattern);
    return true;
}

enum io_status run_sanitize(struct scsi_command *c)
{
    struct erase_order order = {0};

    if (c->data_bytes < c->transfer_bytes) {
        sense_set(c, SENSE_ILLEGAL_REQUEST, ASC_PARAMETER_LIST_LENGTH);
        return IO_DONE;
    }
    if (c->operation->service_action == SANITIZE_OVERWRITE && !parse_overwrite(c, &order))
        return IO_DONE;
    return order_erasure(c, &order, c->cdb[1] & 0x80);
}

/* Out of a failed erasure without one that succeeds: what is on the disk then
 * is anybody's guess. */
enum io_status run_exit_failure_mode(struct scsi_command *c)
{
    struct scsi_lu *lu = c->nexus_lu->lu;
    SCOPED_LOCK(&lu->mutex);

    if (lu->erase.is_failed)
        atomic_fetch_and(&lu->gates, ~LU_ERASING);
    lu->erase.is_failed = false;
    return IO_DONE;
}

/* FMTDATA brings a header of 4 or 8 bytes, whose length is not in the CDB, and
 * no defect list. */
void decode_format_unit(struct scsi_command *c)
{
    if (c->cdb[1] & 0x10)
        c->transfer_bytes = c->cdb[1] & 0x20 ? 8 : 4;
}

enum io_status run_format_unit(struct scsi_command *c)
{
    const uint8_t *list = c->data;
    struct erase_order order = {0};

    if (c->transfer_bytes == 0)
        return order_erasure(c, &order, false);
    if (c->data_bytes < c->transfer_bytes)
        sense_set(c, SENSE_ILLEGAL_REQUEST, ASC_PARAMETER_LIST_LENGTH);
    else if (list[0] & 7)
        sense_bad_list(c, 0, 2); /* protection */
    else if (list[1] & 0x08)
        sense_bad_list(c, 1, 3); /* initialization pattern */
    else if (c->transfer_bytes == 8 ? get32(list + 4) : get16(list + 2))
        sense_bad_list(c, c->transfer_bytes == 8 ? 4 : 2, NO_BIT);
    else
        return order_erasure(c, &order, list[1] & 0x02);
    return IO_DONE;
}
