/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * backing-file.c: a regular file or a block device.  Created only when the caller says that nobody
 * has ever seen it, never truncated, extended only by resize, and locked by the descriptor that
 * does the I/O, so that no two gateways write to it.
 */
#include "backing-ops.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>

#define LOCK_WAIT_NS (UINT64_C(5) * 1000000000u)

struct backing_file {
    struct backing base;
    struct file
        *file; /* [C] replaced by reopen, with nothing in flight; NULL after one that failed */
    char *path;
    char identity[64]; /* what was opened first: a reopen must find the same */
    bool is_direct, is_read_only;
};

static struct backing_file *file_of(const struct backing *b)
{
    return CONTAINER_OF((struct backing *)(uintptr_t)b, struct backing_file, base);
}

static void fill_info(struct backing_file *f)
{
    f->base.info = (struct backing_info){
        .size_bytes = file_size(f->file),
        .block_bytes = file_block_size(f->file),
        .preferred_bytes = 4096,
        .max_transfer_bytes = 64u << 20,
        .is_read_only = f->is_read_only,
        .can_flush = true,
        .can_fua = true,
        .can_trim = file_can_trim(f->file),
        .can_zero = true,
        .can_fast_zero = file_can_fast_zero(f->file),
        .can_extents = true,
        .can_prefetch = !f->is_direct,
        .is_rotational = file_is_rotational(f->file),
    };
}

static int open_file(const struct backing_file *f, bool create, uint64_t create_size,
                     struct file **out, struct err *e)
{
    struct file_options options = {
        .read_only = f->is_read_only,
        .direct = f->is_direct,
        .create = create,
        .create_size = create_size,
        .exclusive_lock = true,
        .lock_wait_ns = LOCK_WAIT_NS,
    };

    return file_open(f->path, &options, out, e);
}

static void identify(struct file *file, char *out, size_t out_size)
{
    struct stat st;

    if (fstat(file_descriptor(file), &st) < 0)
        snprintf(out, out_size, "file");
    else if (S_ISBLK(st.st_mode))
        snprintf(out, out_size, "block %u:%u", major(st.st_rdev), minor(st.st_rdev));
    else /* not the device's number: it may change with every mount */
        snprintf(out, out_size, "inode %llu", (unsigned long long)st.st_ino);
}

static void dispose(struct backing_file *f)
{
    if (f->file)
        file_close(f->file);
    free(f->path);
    free(f);
}

static int backing_file_open(const struct backing_spec *spec, struct backing **out, struct err *e)
{
    struct backing_file *f = calloc(1, sizeof *f);
    int r;

    if (f)
        f->path = strdup(spec->path);
    if (!f || !f->path) {
        free(f);
        return err_set(e, ENOMEM, "out of memory");
    }
    f->is_direct = spec->direct;
    f->is_read_only = spec->read_only;
    r = open_file(f, spec->create, spec->create_size, &f->file, e);
    if (r < 0) {
        dispose(f);
        return r;
    }
    fill_info(f);
    identify(f->file, f->identity, sizeof f->identity);
    *out = &f->base;
    return 0;
}

static void backing_file_close(struct backing *b)
{
    dispose(file_of(b));
}

static enum io_status backing_file_submit(struct backing *b, struct io *io)
{
    struct file *file = CONTAINER_OF(b, struct backing_file, base)->file;

    if (LIKELY(file != NULL))
        return file_submit(file, io);
    io->result = -EIO; /* a reopen failed: nothing is served until one succeeds */
    return IO_DONE;
}

static void backing_file_status(struct backing *b, struct backing_status *out)
{
    struct backing_file *f = file_of(b);

    out->is_connected = f->file != NULL;
    if (!f->file) {
        snprintf(out->sentence, sizeof out->sentence, "%.200s could not be opened anew", f->path);
        return;
    }
    out->sticky_error = file_sticky_error(f->file);
    if (out->sticky_error)
        snprintf(out->sentence, sizeof out->sentence, "a flush failed: %s",
                 strerror(out->sticky_error));
    else
        snprintf(out->sentence, sizeof out->sentence, "%.200s", f->path);
}

/* A block device has all its space. */
static bool backing_file_space(const struct backing *b, struct backing_space *out)
{
    const struct backing_file *f = file_of(b);
    struct statvfs system;
    struct stat st;

    if (stat(f->path, &st) < 0 || !S_ISREG(st.st_mode) || statvfs(f->path, &system) < 0)
        return false;
    *out = (struct backing_space){
        .used_bytes = (uint64_t)st.st_blocks * 512,
        .available_bytes = (uint64_t)system.f_bavail * system.f_frsize,
        .total_bytes = (uint64_t)system.f_blocks * system.f_frsize,
    };
    return true;
}

static void backing_file_identity(const struct backing *b, char *out, size_t out_size)
{
    snprintf(out, out_size, "%s", file_of(b)->identity);
}

/* After a reopen that failed there is nothing to work on. */
static int expect_open(const struct backing_file *f, struct err *e)
{
    return f->file
               ? 0
               : err_set(e, EIO, "%s could not be opened anew; nothing can be done to it before",
                         f->path);
}

static int backing_file_resize(struct backing *b, uint64_t size_bytes, struct err *e)
{
    struct backing_file *f = file_of(b);
    int r = expect_open(f, e);

    if (r == 0)
        r = file_resize(f->file, size_bytes, e);
    if (r == 0)
        b->info.size_bytes = file_size(f->file);
    return r;
}

static int backing_file_refresh(struct backing *b, struct err *e)
{
    struct backing_file *f = file_of(b);
    int r = expect_open(f, e);

    if (r == 0 && file_refresh_size(f->file))
        b->info.size_bytes = file_size(f->file);
    return r;
}

/* --- snapshot
 * ------------------------------------------------------------------------------------------- */

/* ioctl_ficlonerange(2): what says that it cannot be done here at all; the rest is trouble. */
static bool is_never_possible(int error)
{
    return error == EOPNOTSUPP || error == ENOTTY || error == EXDEV || error == EINVAL;
}

static int clone_into(struct backing_file *f, int fd, const char *path, struct err *e)
{
    struct statfs fs = {0};
    int error;

    if (ioctl(fd, FICLONE, file_descriptor(f->file)) == 0)
        return fsync(fd) == 0 ? 0 : err_set(e, errno, "cannot sync %s: %s", path, strerror(errno));
    error = errno;
    if (!is_never_possible(error))
        return err_set(e, error, "cannot clone %s to %s: %s", f->path, path, strerror(error));
    if (fstatfs(fd, &fs) < 0)
        fs.f_type = 0;
    return err_set(e, ENOTSUP,
                   "the file system of %s (type 0x%lx) cannot copy a file in an instant: %s; put "
                   "the disk on XFS or "
                   "Btrfs, or take the snapshot in the storage below",
                   f->path, (unsigned long)fs.f_type, strerror(error));
}

static int expect_regular(const struct backing_file *f, struct err *e)
{
    struct stat st;

    if (fstat(file_descriptor(f->file), &st) < 0)
        return err_set(e, errno, "%s: %s", f->path, strerror(errno));
    return S_ISREG(st.st_mode) ? 0
                               : err_set(e, ENOTSUP,
                                         "%s is a block device: take the snapshot in the storage "
                                         "below (LVM, the array)",
                                         f->path);
}

/* Under another name until it is whole: what is there under its own is one, also after a crash. */
static int make_clone(struct backing_file *f, const char *path, struct err *e)
{
    char beside[PATH_MAX + 8];
    CLEANUP_CLOSE int fd = -1;
    int r;

    snprintf(beside, sizeof beside, "%s~new", path);
    fd = open(beside, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_set(e, errno, "cannot make the snapshot %s: %s", path, strerror(errno));
    r = clone_into(f, fd, path, e);
    if (r == 0 && renameat2(AT_FDCWD, beside, AT_FDCWD, path, RENAME_NOREPLACE) < 0)
        r = err_set(e, errno, "cannot make the snapshot %s: %s", path, strerror(errno));
    if (r < 0) {
        unlink(beside);
        return r;
    }
    r = file_sync_folder(path);
    return r < 0 ? err_set(e, -r, "cannot sync the folder of %s: %s", path, strerror(-r)) : 0;
}

static int backing_file_snapshot(struct backing *b, const char *name, struct err *e)
{
    struct backing_file *f = file_of(b);
    char path[PATH_MAX];
    int r = expect_open(f, e);

    if (r == 0)
        r = expect_regular(f, e);
    if (r < 0)
        return r;
    if (snprintf(path, sizeof path, "%s.%s", f->path, name) >= (int)sizeof path)
        return err_set(e, ENAMETOOLONG, "the snapshot's name is too long");
    return make_clone(f, path, e);
}

static int refuse(struct backing_file *f)
{
    file_close(f->file);
    f->file = NULL;
    return -ESTALE;
}

/* The path must lead to the file we had, no shorter: another one is closed again, never served. */
static int expect_same(struct backing_file *f, struct err *e)
{
    char found[sizeof f->identity];
    uint64_t size = file_size(f->file);

    identify(f->file, found, sizeof found);
    if (strcmp(found, f->identity) != 0)
        err_set(e, ESTALE, "%s is another file than before (%s, was %s); put the old one back",
                f->path, found, f->identity);
    else if (size < f->base.info.size_bytes)
        err_set(e, ESTALE, "%s is shorter than before: %llu bytes, was %llu", f->path,
                (unsigned long long)size, (unsigned long long)f->base.info.size_bytes);
    else
        return 0;
    return refuse(f);
}

/* The lock goes with the old descriptor, so that is closed first. */
static int backing_file_reopen(struct backing *b, struct err *e)
{
    struct backing_file *f = file_of(b);
    int r;

    if (f->file)
        file_close(f->file);
    f->file = NULL;
    r = open_file(f, false, 0, &f->file, e);
    return r < 0 ? r : expect_same(f, e);
}

const struct backing_ops backing_file_ops = {
    .name = "file",
    .open = backing_file_open,
    .close = backing_file_close,
    .submit = backing_file_submit,
    .status = backing_file_status,
    .space = backing_file_space,
    .identity = backing_file_identity,
    .resize = backing_file_resize,
    .refresh = backing_file_refresh,
    .snapshot = backing_file_snapshot,
    .reopen = backing_file_reopen,
};
