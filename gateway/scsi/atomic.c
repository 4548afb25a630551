/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * atomic.c: WRITE ATOMIC (16) (SBC-4 4.29, 5.48): all of a write or nothing,
 * whatever crashes.
 *
 *     take a slot -> lock the range -> record + fdatasync -> write, durable ->
 * clear + fdatasync -> unlock -> GOOD
 *
 * The record, in `atomic-redo` of the disk's state folder, holds the whole
 * write.  After a crash a whole record is written again before the disk is
 * served, to whomever and however; a torn one says that the write had not begun.  The range stays
 * locked, also against NBD, until the record is durably gone: a record that
 * outlived a later write would undo that.
 */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define FILE_NAME "atomic-redo"
#define HEADER_BYTES 4096u
#define SLOT_BYTES ((off_t)HEADER_BYTES + ATOMIC_BYTES_MAX)
#define SLOTS_WAIT_NS UINT64_C(1000000000)
#define MAGIC UINT64_C(0x31656369756c7361)

/* Little of it: the rest of its 4096 bytes is zero. Native byte order: it never
 * leaves the machine. */
struct record {
    uint64_t magic, offset, length;
    uint32_t data_crc, crc; /* crc: of all before it */
};

struct atomic_write {
    struct range_entry lock; /* first: see on_granted() */
    struct scsi_job *job;
    struct task task;
    int slot; /* -1: none */
    bool is_locked, is_recorded;
    uint8_t header[HEADER_BYTES];
};

bool lu_is_atomic(const struct scsi_lu *lu)
{
    return lu->atomic_fd >= 0;
}

/* --- the file
 * ------------------------------------------------------------------------------
 */

static int write_at(int fd, const void *data, size_t length, off_t at)
{
    const uint8_t *p = data;

    while (length) {
        ssize_t n = pwrite(fd, p, length, at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno;
        p += n;
        at += n;
        length -= (size_t)n;
    }
    return 0;
}

static bool read_at(int fd, void *data, size_t length, off_t at)
{
    ssize_t n;

    do
        n = pread(fd, data, length, at);
    while (n < 0 && errno == EINTR);
    return n == (ssize_t)length;
}

static int sync_file(int fd)
{
    return fdatasync(fd) < 0 ? errno : 0;
}

static void make_header(uint8_t *header, uint64_t offset, const void *data, uint64_t length)
{
    struct record record = {.magic = MAGIC, .offset = offset, .length = length};

    record.data_crc = crc32c(0, data, length);
    record.crc = crc32c(0, &record, offsetof(struct record, crc));
    memset(header, 0, HEADER_BYTES);
    memcpy(header, &record, sizeof record);
}

static int write_record(struct scsi_job *job)
{
    struct atomic_write *w = job->more;
    struct scsi_command *c = job->command;
    int fd = c->nexus_lu->lu->atomic_fd, error;
    off_t at = w->slot * SLOT_BYTES;

    make_header(w->header, job->offset, c->data, job->left);
    error = write_at(fd, c->data, job->left, at + HEADER_BYTES);
    if (!error)
        error = write_at(fd, w->header, HEADER_BYTES, at);
    return error ? error : sync_file(fd);
}

static int clear_record_at(int fd, off_t at)
{
    static const uint8_t nothing[HEADER_BYTES];
    int error = write_at(fd, nothing, sizeof nothing, at);

    return error ? error : sync_file(fd);
}

static int clear_record(struct scsi_job *job)
{
    struct atomic_write *w = job->more;

    return clear_record_at(job->command->nexus_lu->lu->atomic_fd, w->slot * SLOT_BYTES);
}

/* --- replay
 * --------------------------------------------------------------------------------
 */

static bool read_record(int fd, off_t at, struct record *record, uint8_t *data)
{
    if (!read_at(fd, record, sizeof *record, at) || record->magic != MAGIC ||
        record->crc != crc32c(0, record, offsetof(struct record, crc)) ||
        record->length > ATOMIC_BYTES_MAX)
        return false;
    return read_at(fd, data, record->length, at + HEADER_BYTES) &&
           record->data_crc == crc32c(0, data, record->length);
}

static int replay_slot(struct disk *disk, int fd, unsigned slot, uint8_t *data)
{
    off_t at = slot * SLOT_BYTES;
    struct record record;
    int error;

    if (!read_record(fd, at, &record, data))
        return 0;
    error = unit_execute(disk_engine(disk), SLUICE_OP_WRITE, SLUICE_FLAG_FUA | SLUICE_FLAG_ATOMIC,
                         record.offset, record.length, data);
    if (!error)
        error = clear_record_at(fd, at);
    if (!error)
        log_line(LOG_LEVEL_NOTICE, "finished an atomic write of %llu bytes at %llu disk=%s",
                 (unsigned long long)record.length, (unsigned long long)record.offset,
                 disk_name(disk));
    return error;
}

static int replay(struct disk *disk, int fd, const char *path, struct err *e)
{
    CLEANUP_FREE uint8_t *data = aligned_alloc(4096, ATOMIC_BYTES_MAX);
    int error = data ? 0 : ENOMEM;

    for (unsigned slot = 0; slot < ATOMIC_SLOTS && !error; slot++)
        error = replay_slot(disk, fd, slot, data);
    return error ? err_set(e, error, "cannot finish an atomic write recorded in %s: %s", path,
                           strerror(error))
                 : 0;
}

/* 1: there is a file to be opened; 0: the disk has no state. */
static int file_path(const struct disk *disk, char *path, size_t size, struct err *e)
{
    const char *folder = disk_state_folder(disk);

    if (!folder)
        return 0;
    if (snprintf(path, size, "%s/%s", folder, FILE_NAME) >= (int)size)
        return err_set(e, ENAMETOOLONG, "the state folder's name is too long: %s", folder);
    return 1;
}

int scsi_disk_recover(struct disk *disk, struct err *e)
{
    char path[PATH_MAX];
    int r = file_path(disk, path, sizeof path, e), fd;

    if (r <= 0)
        return r;
    fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : err_set(e, errno, "cannot open %s: %s", path, strerror(errno));
    r = replay(disk, fd, path, e);
    close(fd);
    return r;
}

int atomic_open(struct scsi_lu *lu, struct err *e)
{
    char path[PATH_MAX];
    int r = file_path(lu->disk, path, sizeof path, e);

    lu->atomic_fd = -1;
    if (r <= 0 || disk_is_read_only(lu->disk))
        return MIN(r, 0);
    lu->atomic_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (lu->atomic_fd < 0)
        return err_set(e, errno, "cannot open %s: %s", path, strerror(errno));
    if (file_sync_folder(path) < 0)
        return err_set(e, EIO, "cannot make the name of %s stable", path);
    return replay(lu->disk, lu->atomic_fd, path, e);
}

void atomic_close(struct scsi_lu *lu)
{
    if (lu->atomic_fd >= 0)
        close(lu->atomic_fd);
}

/* --- forgetting
 * ----------------------------------------------------------------------------
 */

/* All slots at once, as soon as they are free. */
static bool take_all_slots(struct scsi_lu *lu)
{
    uint64_t until_ns = clock_now_ns() + SLOTS_WAIT_NS;
    SCOPED_LOCK(&lu->mutex);

    while (lu->atomic_slots && cond_wait_until(&lu->slot_cond, &lu->mutex, until_ns))
        ;
    if (lu->atomic_slots)
        return false;
    lu->atomic_slots = (1u << ATOMIC_SLOTS) - 1;
    return true;
}

static void give_all_slots(struct scsi_lu *lu)
{
    SCOPED_LOCK(&lu->mutex);

    lu->atomic_slots = 0;
    pthread_cond_broadcast(&lu->slot_cond);
}

static int overwrite_file(int fd)
{
    CLEANUP_FREE uint8_t *nothing = calloc(1, ATOMIC_BYTES_MAX);
    off_t end = lseek(fd, 0, SEEK_END);
    int error = end < 0 ? errno : 0;

    if (!nothing)
        return ENOMEM;
    for (off_t at = 0; at < end && !error; at += ATOMIC_BYTES_MAX)
        error = write_at(fd, nothing, (size_t)MIN(end - at, (off_t)ATOMIC_BYTES_MAX), at);
    return error ? error : sync_file(fd);
}

int atomic_sanitize(struct scsi_lu *lu)
{
    int error;

    if (!lu_is_atomic(lu))
        return 0;
    if (!take_all_slots(lu))
        return EAGAIN;
    error = overwrite_file(lu->atomic_fd);
    give_all_slots(lu);
    return error;
}

/* --- the command
 * ---------------------------------------------------------------------------
 */

void decode_write_atomic(struct scsi_command *c)
{
    if (c->cdb[1] >> 5) {
        sense_bad_cdb(c, 1, 7);
        return;
    }
    c->lba = get64(c->cdb + 2);
    c->blocks = get16(c->cdb + 12);
    if (!check_range(c))
        return;
    if (get16(c->cdb + 10))
        sense_bad_cdb(c, 10, NO_BIT); /* no boundaries: MAXIMUM ATOMIC BOUNDARY SIZE is 0 */
    else if (range_bytes(c) > ATOMIC_BYTES_MAX)
        sense_bad_cdb(c, 12, NO_BIT);
    else
        c->transfer_bytes = (uint32_t)range_bytes(c);
}

static int take_slot(struct scsi_lu *lu)
{
    int slot;
    SCOPED_LOCK(&lu->mutex);

    slot = __builtin_ffs((int)~lu->atomic_slots) - 1;
    if (slot < 0 || slot >= (int)ATOMIC_SLOTS)
        return -1;
    lu->atomic_slots |= 1u << slot;
    return slot;
}

static void give_back(struct scsi_job *job)
{
    struct atomic_write *w = job->more;
    struct scsi_lu *lu = job->command->nexus_lu->lu;

    if (w->is_locked)
        engine_unlock_range(lu->engine, &w->lock);
    engine_end_exclusion(lu->engine);
    pthread_mutex_lock(&lu->mutex);
    lu->atomic_slots &= ~(1u << w->slot);
    pthread_cond_broadcast(&lu->slot_cond);
    pthread_mutex_unlock(&lu->mutex);
}

static void go_on_locked(struct task *task)
{
    struct atomic_write *w = CONTAINER_OF(task, struct atomic_write, task);

    w->is_locked = true;
    job_resume(w->job);
}

static void on_granted(struct range_entry *entry)
{
    struct atomic_write *w = CONTAINER_OF(entry, struct atomic_write, lock);

    w->task.run = go_on_locked;
    home_post(w->job->command->nexus->home, &w->task);
}

static enum job_next lock_range(struct scsi_job *job)
{
    struct atomic_write *w = job->more;
    struct scsi_lu *lu = job->command->nexus_lu->lu;

    w->lock.first = job->offset;
    w->lock.last = job->offset + job->left - 1;
    w->lock.granted = on_granted;
    w->is_locked = engine_lock_range(lu->engine, &w->lock);
    return w->is_locked ? JOB_AGAIN : JOB_WAIT;
}

static enum job_next write_data(struct scsi_job *job)
{
    struct atomic_write *w = job->more;

    job->token = &w->lock;
    return job_request(job, SLUICE_OP_WRITE, SLUICE_FLAG_FUA | SLUICE_FLAG_ATOMIC, job->offset,
                       job->left, job->command->data);
}

static void note_error(struct scsi_job *job)
{
    if (job->error && job->command->status == SCSI_GOOD)
        sense_from_error(job->command, job->error, 0);
}

static enum job_next after_clear(struct scsi_job *job)
{
    if (job->error)
        log_line(LOG_LEVEL_ERROR,
                 "the record of an atomic write could not be cleared (%s): after a "
                 "restart it is "
                 "written again disk=%s",
                 strerror(job->error), disk_name(job->command->nexus_lu->lu->disk));
    note_error(job);
    return JOB_END;
}

/* Whatever fails, what was recorded is cleared: a record may not outlive its
 * lock. */
static enum job_next atomic_step(struct scsi_job *job)
{
    switch (job->phase++) {
    case 0:
        return lock_range(job);
    case 1:
        if (job->command->is_cancelled)
            return JOB_END;
        return job_work(job, write_record);
    case 2:
        note_error(job);
        return job->error || job->command->is_cancelled ? JOB_AGAIN : write_data(job);
    case 3:
        note_error(job);
        return job_work(job, clear_record);
    default:
        return after_clear(job);
    }
}

static struct scsi_job *make_job(struct scsi_command *c)
{
    struct scsi_job *job = job_new(c, atomic_step, 0);
    struct atomic_write *w = job ? calloc(1, sizeof *w) : NULL;

    if (!job)
        return NULL;
    job->more = w;
    if (w)
        w->slot = take_slot(c->nexus_lu->lu);
    if (!w || w->slot < 0) {
        job_discard(job);
        c->status = w ? SCSI_TASK_SET_FULL : SCSI_BUSY;
        return NULL;
    }
    w->job = job;
    job->cleanup = give_back;
    job->sees_errors = job->sees_cancel = true;
    return job;
}

enum io_status run_write_atomic(struct scsi_command *c)
{
    struct scsi_job *job;

    if (c->blocks == 0)
        return IO_DONE;
    if (c->data_bytes != c->transfer_bytes) {
        sense_bad_cdb(c, 12, NO_BIT); /* half of it would not be atomic */
        return IO_DONE;
    }
    job = make_job(c);
    if (!job)
        return IO_DONE;
    engine_begin_exclusion(c->nexus_lu->lu->engine);
    job->offset = range_offset(c);
    job->left = c->data_bytes;
    return job_start(job);
}
