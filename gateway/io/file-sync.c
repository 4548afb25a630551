/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * file-sync: making bytes stable, and never forgetting that it failed once.
 *
 * The kernel reports a failed write-back once per open file (errseq, see fsync(2) and
 * Documentation/ filesystems/vfs): of two syncs that run side by side through one descriptor only
 * one is told.  So every success is checked through check_fd, a second open of the file that is
 * used for nothing else and only under sync_mutex: sync_file_range() with a range past the end
 * waits for nothing and returns the error, if there was one since the last check.  What failed
 * stays in sticky_error until the file is opened anew: the pages are clean now and a second
 * fdatasync would lie.
 *
 * sync_mutex guards sticky_error, synced_bytes, check_fd's cursor and the flush queue; no system
 * call that waits for a disk is made under it.
 */
#include "io/file.h"
#include "io/syscalls.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define PAST_EVERY_END (1ll << 60)

/* Under sync_mutex.  0 or a positive errno. */
static int page_cache_error(struct file *file)
{
    if (file->check_fd < 0)
        return 0;
    return io_syscalls.sync_file_range(file->check_fd, PAST_EVERY_END, 1,
                                       SYNC_FILE_RANGE_WAIT_BEFORE) < 0
               ? errno
               : 0;
}

/* Under sync_mutex. */
static COLD void remember(struct file *file, int error)
{
    if (atomic_load_explicit(&file->sticky_error, memory_order_relaxed))
        return;
    atomic_store_explicit(&file->sticky_error, error, memory_order_release);
    log_line(LOG_LEVEL_ERROR,
             "%s: acknowledged writes may be lost: %s; every flush fails until it is opened anew",
             file->path, strerror(error));
}

/* `failure` is the positive errno of a sync that failed, or 0; `written` bytes were stable if not.
 */
static int record(struct file *file, int failure, uint64_t written)
{
    int error;

    SCOPED_LOCK(&file->sync_mutex);
    error = failure ? failure : page_cache_error(file);
    if (UNLIKELY(error))
        remember(file, error);
    else if (written > atomic_load_explicit(&file->synced_bytes, memory_order_relaxed))
        atomic_store_explicit(&file->synced_bytes, written, memory_order_relaxed);
    return file_sticky(file);
}

/* While it waits for the disk loops know since when.  Of several at once that is told of one. */
static int wait_for_disk(struct file *file)
{
    uint64_t none = 0;
    bool is_told = atomic_compare_exchange_strong(&file->syncing_since_ticks, &none, clock_ticks());
    int r;

    do
        r = io_syscalls.fdatasync(file->fd) < 0 ? errno : 0;
    while (r == EINTR);
    if (is_told)
        atomic_store(&file->syncing_since_ticks, 0);
    return r;
}

int file_sync(struct file *file)
{
    uint64_t written = atomic_load_explicit(&file->written_bytes, memory_order_relaxed);
    int r = file_sticky(file);

    return UNLIKELY(r < 0) ? r : record(file, wait_for_disk(file), written);
}

int file_sync_end(struct file *file, int failure, uint64_t written)
{
    return record(file, failure, written);
}

/* Failures of a write that cannot come from its sync. */
static bool is_of_the_write(int error)
{
    return error == EINVAL || error == EFAULT || error == EFBIG || error == EPERM ||
           error == EOPNOTSUPP || error == ENOMEM || error == EAGAIN;
}

int file_sync_result(struct file *file, int result)
{
    int sticky = record(file, is_of_the_write(-result) ? 0 : -result, 0);

    return sticky < 0 ? sticky : result;
}

int file_write_lost(struct file *file, int result)
{
    SCOPED_LOCK(&file->sync_mutex);
    remember(file, -result);
    return result;
}

/* --- flushes of loops --------------------------------------------------------------------- */

/* Moves those waiting to `batch`. */
static void take_waiting(struct file *file, struct list *batch)
{
    SCOPED_LOCK(&file->sync_mutex);
    list_splice(batch, &file->flush_waiting);
}

/* True: others came meanwhile, and the task must run once more for them. */
static bool must_run_again(struct file *file)
{
    SCOPED_LOCK(&file->sync_mutex);
    file->flush_is_running = !list_is_empty(&file->flush_waiting);
    return file->flush_is_running;
}

/* In the pool.  The file may be closed as soon as the last of the batch is answered: that comes
 * last. */
static void flush_batch(struct task *task)
{
    struct file *file = CONTAINER_OF(task, struct file, flush_task);
    struct list batch;
    int r;

    list_init(&batch);
    take_waiting(file, &batch);
    r = file_sync(file);
    if (must_run_again(file))
        pool_submit(&file->flush_task);
    LIST_FOREACH_SAFE (node, &batch)
        io_complete(LIST_ENTRY(node, struct io, link), r);
}

static bool join_waiting(struct file *file, struct io *io)
{
    SCOPED_LOCK(&file->sync_mutex);
    list_append(&file->flush_waiting, &io->link);
    if (file->flush_is_running)
        return false;
    file->flush_is_running = true;
    file->flush_task.run = flush_batch;
    return true;
}

void file_flush_later(struct file *file, struct io *io)
{
    if (join_waiting(file, io))
        pool_submit(&file->flush_task);
}
