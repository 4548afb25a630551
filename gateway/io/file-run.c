/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * file-run: one operation, carried out with system calls that may block: by a worker itself, or by
 * a pool thread for a loop.
 *
 * Everything is finished here: short reads and writes, EINTR, memory that O_DIRECT does not take,
 * calls that the file system does not have.  io->progress says how far a read or write has come.
 * No locks: the kernel orders what overlaps, and the engine lets nothing overlap.
 */
#include "io/file.h"
#include "io/syscalls.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define BYTES_PER_CALL (1ull << 30) /* read(2) moves at most 0x7ffff000 bytes */
#define BOUNCE_BYTES (1ull << 20)
#define BOUNCE_ALIGN 4096u
#define ZEROS_BYTES 65536u
#define ZEROS_VECTORS 16u

/* --- moving data -------------------------------------------------------------------------- */

static ssize_t move_some(struct file *file, struct io *io, int rwf)
{
    struct iovec iov = {
        .iov_base = (char *)io->data + io->progress,
        .iov_len = MIN(io->length - io->progress, BYTES_PER_CALL),
    };
    off_t at = (off_t)(io->offset + io->progress);

    return io->kind == IO_READ ? io_syscalls.preadv2(file->fd, &iov, 1, at, rwf)
                               : io_syscalls.pwritev2(file->fd, &iov, 1, at, rwf);
}

/* A call that moves nothing means that the file ends before the size we know. */
static int move_whole(struct file *file, struct io *io, int rwf)
{
    ssize_t moved;

    while (io->progress < io->length) {
        moved = move_some(file, io, rwf);
        if (UNLIKELY(moved <= 0)) {
            if (moved < 0 && errno == EINTR)
                continue;
            return moved < 0 ? -errno : -EIO;
        }
        io->progress += (uint64_t)moved;
    }
    return 0;
}

static COLD int move_bounced(struct file *file, struct io *io, int rwf)
{
    uint64_t left = (io->length - io->progress + BOUNCE_ALIGN - 1) / BOUNCE_ALIGN * BOUNCE_ALIGN;
    CLEANUP_FREE char *buffer = aligned_alloc(BOUNCE_ALIGN, MIN(left, BOUNCE_BYTES));
    int r;

    if (!buffer)
        return -ENOMEM;
    while (io->progress < io->length) {
        char *data = (char *)io->data + io->progress;
        struct io part = {.kind = io->kind,
                          .offset = io->offset + io->progress,
                          .length = MIN(io->length - io->progress, BOUNCE_BYTES),
                          .data = buffer};

        if (io->kind == IO_WRITE)
            memcpy(buffer, data, part.length);
        r = move_whole(file, &part, rwf);
        if (r < 0)
            return r;
        if (io->kind == IO_READ)
            memcpy(data, buffer, part.length);
        io->progress += part.length;
    }
    return 0;
}

static int move(struct file *file, struct io *io, int rwf)
{
    if (LIKELY(file_memory_fits(file, io->data)))
        return move_whole(file, io, rwf);
    return move_bounced(file, io, rwf);
}

int file_read_cached(struct file *file, struct io *io)
{
    ssize_t got = move_some(file, io, file->is_in_memory ? 0 : RWF_NOWAIT);

    if (got > 0) {
        io->progress += (uint64_t)got;
        return io->progress == io->length ? 0 : -EAGAIN;
    }
    if (got == 0)
        return -EIO;
    if (errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL)
        atomic_store_explicit(&file->can_nowait, false, memory_order_relaxed);
    else if (errno != EAGAIN && errno != EINTR)
        return -errno;
    return -EAGAIN;
}

/* --- read, write, flush ------------------------------------------------------------------- */

static int run_read(struct file *file, struct io *io)
{
    return move(file, io, 0);
}

static int write_then_sync(struct file *file, struct io *io)
{
    int r = move(file, io, 0);

    return r < 0 ? r : file_sync(file);
}

/*
 * RWF_DSYNC makes only the range stable, and with O_DIRECT may use the device's own FUA.  When it
 * says "no space" it may speak of the write or of the write-back of earlier ones: written again
 * without it, and then synced, check_fd tells which; without check_fd the worse is assumed.
 */
static int write_through(struct file *file, struct io *io)
{
    int r = move(file, io, RWF_DSYNC);

    if (r == -EOPNOTSUPP || r == -ENOSYS) {
        atomic_store_explicit(&file->can_dsync, false, memory_order_relaxed);
        return write_then_sync(file, io);
    }
    if ((r == -ENOSPC || r == -EDQUOT) && file->check_fd >= 0)
        return write_then_sync(file, io);
    return file_sync_result(file, r);
}

static int run_write(struct file *file, struct io *io)
{
    file_note_written(file, io->length - io->progress);
    if (!(io->flags & IO_FUA))
        return move(file, io, 0);
    if (atomic_load_explicit(&file->can_dsync, memory_order_relaxed))
        return write_through(file, io);
    return write_then_sync(file, io);
}

static int run_flush(struct file *file, struct io *io)
{
    (void)io;
    return file_sync(file);
}

/* --- trim, zero --------------------------------------------------------------------------- */

/* 0, -errno, or -EOPNOTSUPP: not this way. */
static int try_fallocate(struct file *file, atomic_bool *can, int mode, const struct io *io)
{
    int r;

    if (!atomic_load_explicit(can, memory_order_relaxed))
        return -EOPNOTSUPP;
    do
        r = io_syscalls.fallocate(file->fd, mode | FALLOC_FL_KEEP_SIZE, (off_t)io->offset,
                                  (off_t)io->length) < 0
                ? -errno
                : 0;
    while (r == -EINTR);
    if (r == -EOPNOTSUPP || r == -ENOSYS)
        atomic_store_explicit(can, false, memory_order_relaxed);
    /* EINVAL: a block device, and not aligned. */
    return r == -EINVAL || r == -ENOSYS ? -EOPNOTSUPP : r;
}

static int punch(struct file *file, const struct io *io)
{
    return try_fallocate(file, &file->can_punch, FALLOC_FL_PUNCH_HOLE, io);
}

static int zero_range(struct file *file, const struct io *io)
{
    if ((io->flags & IO_FAST_ONLY) && !file->zero_range_is_fast)
        return -EOPNOTSUPP;
    return try_fallocate(file, &file->can_zero_range, FALLOC_FL_ZERO_RANGE, io);
}

static int write_zeros(struct file *file, struct io *io)
{
    static _Alignas(BOUNCE_ALIGN) char zeros[ZEROS_BYTES]; /* never written */
    struct iovec iov[ZEROS_VECTORS];
    ssize_t moved;

    file_note_written(file, io->length);
    while (io->progress < io->length) {
        uint64_t left = io->length - io->progress;
        int count = 0;

        for (; left && count < (int)ZEROS_VECTORS; left -= iov[count++].iov_len)
            iov[count] = (struct iovec){zeros, MIN(left, ZEROS_BYTES)};
        moved = io_syscalls.pwritev2(file->fd, iov, count, (off_t)(io->offset + io->progress), 0);
        if (moved < 0 && errno != EINTR)
            return -errno;
        if (moved == 0)
            return -EIO;
        io->progress += (uint64_t)MAX(moved, 0);
    }
    return 0;
}

static int run_trim(struct file *file, struct io *io)
{
    int r = punch(file, io);

    if (r == -EOPNOTSUPP)
        r = write_zeros(file, io);
    return r == 0 && (io->flags & IO_FUA) ? file_sync(file) : r;
}

static int run_zero(struct file *file, struct io *io)
{
    int r = (io->flags & IO_NO_HOLE) ? -EOPNOTSUPP : punch(file, io);

    if (r == -EOPNOTSUPP)
        r = zero_range(file, io);
    if (r == -EOPNOTSUPP && !(io->flags & IO_FAST_ONLY))
        r = write_zeros(file, io);
    return r == 0 && (io->flags & IO_FUA) ? file_sync(file) : r;
}

/* --- extents, prefetch -------------------------------------------------------------------- */

/* Where the next data (or hole) begins, at most `end`; `end` too where the file system cannot tell.
 */
static uint64_t seek(struct file *file, uint64_t from, uint64_t end, int whence)
{
    off_t found = io_syscalls.lseek(file->fd, (off_t)from, whence);

    if (found >= 0)
        return MIN((uint64_t)found, end);
    if (errno != ENXIO)
        atomic_store_explicit(&file->can_seek, false, memory_order_relaxed);
    return end;
}

/* One hole (or none) and the data behind it; -ENOSPC from extents_add() means enough. */
static int add_hole_and_data(struct file *file, struct extents *x, uint64_t *at, uint64_t end)
{
    uint64_t data = seek(file, *at, end, SEEK_DATA), hole;
    int r;

    if (!atomic_load_explicit(&file->can_seek, memory_order_relaxed))
        data = *at;
    r = extents_add(x, data - *at, EXTENT_HOLE | EXTENT_ZERO);
    if (r < 0 || data == end) {
        *at = end;
        return r;
    }
    hole = atomic_load_explicit(&file->can_seek, memory_order_relaxed)
               ? seek(file, data, end, SEEK_HOLE)
               : end;
    r = extents_add(x, hole - data, 0);
    *at = hole;
    return r;
}

static int run_extents(struct file *file, struct io *io)
{
    uint64_t at = io->offset, end = io->offset + io->length;
    int r = 0;

    if (!atomic_load_explicit(&file->can_seek, memory_order_relaxed))
        r = extents_add(io->extents, io->length, 0);
    else
        while (r == 0 && at < end)
            r = add_hole_and_data(file, io->extents, &at, end);
    return r == -ENOSPC && io->extents->count ? 0 : r;
}

/* Advice: whatever comes of it, nobody is worse off. */
static int run_prefetch(struct file *file, struct io *io)
{
    if (!file->is_direct)
        (void)posix_fadvise(file->fd, (off_t)io->offset, (off_t)io->length, POSIX_FADV_WILLNEED);
    return 0;
}

/* --- any ---------------------------------------------------------------------------------- */

static int (*const run_kind[IO_KINDS])(struct file *file, struct io *io) = {
    [IO_READ] = run_read,         [IO_WRITE] = run_write, [IO_FLUSH] = run_flush,
    [IO_TRIM] = run_trim,         [IO_ZERO] = run_zero,   [IO_EXTENTS] = run_extents,
    [IO_PREFETCH] = run_prefetch,
};

static bool changes_bytes(enum io_kind kind)
{
    return kind == IO_WRITE || kind == IO_TRIM || kind == IO_ZERO;
}

int file_run(struct file *file, struct io *io)
{
    int r = 0;

    if (changes_bytes(io->kind) && (io->flags & IO_FUA))
        r = file_sticky(file);
    if (r == 0)
        r = run_kind[io->kind](file, io);
    if (UNLIKELY(r == -EIO) && changes_bytes(io->kind) && !file->is_direct)
        r = file_write_lost(file, r);
    return r;
}
