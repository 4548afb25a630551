/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * file: opening a regular file or block device for the file service, and finding out what it can
 * do.
 *
 * What is already there is never truncated and never extended but by file_resize().  What a file
 * system supports is asked for where asking is free of effects, else found out by the first use
 * (the can_... fields only ever go from true to false).
 */
#include "io/file.h"
#include "io/syscalls.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#define SAFE_ALIGN 4096u
#define RETRY_NS 10000000l

/* --- what it is --------------------------------------------------------------------------- */

/* A setting of the device's queue; a partition has none of its own and takes the disk's. */
static uint64_t queue_setting(dev_t device, const char *name, uint64_t otherwise)
{
    static const char *const places[] = {"", "../"};
    unsigned long long value;
    char path[128];

    for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
        FILE *f;
        int count;

        snprintf(path, sizeof path, "/sys/dev/block/%u:%u/%squeue/%s", major(device), minor(device),
                 places[i], name);
        f = fopen(path, "re");
        count = f ? fscanf(f, "%llu", &value) : 0;
        if (f)
            fclose(f);
        if (count == 1)
            return value;
    }
    return otherwise;
}

static int read_size(const struct file *file, uint64_t *size)
{
    struct stat st;

    if (file->is_block_device)
        return ioctl(file->fd, BLKGETSIZE64, size) < 0 ? -errno : 0;
    if (fstat(file->fd, &st) < 0)
        return -errno;
    *size = (uint64_t)st.st_size;
    return 0;
}

#if defined(STATX_DIOALIGN)
/* Linux 6.1; false where the kernel or the file system does not say. */
static bool ask_direct_alignment(struct file *file)
{
    struct statx sx;

    memset(&sx, 0, sizeof sx);
    if (statx(file->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &sx) < 0 ||
        !(sx.stx_mask & STATX_DIOALIGN) || sx.stx_dio_offset_align == 0)
        return false;
    file->block_bytes = sx.stx_dio_offset_align;
    file->memory_align = MAX(sx.stx_dio_mem_align, 1u);
    return true;
}
#else
static bool ask_direct_alignment(struct file *file)
{
    (void)file;
    return false;
}
#endif

static void find_alignment(struct file *file)
{
    unsigned logical = (unsigned)queue_setting(file->device, "logical_block_size", SAFE_ALIGN);

    file->memory_align = 1;
    file->block_bytes = file->is_block_device ? logical : 1;
    if (!file->is_direct)
        return;
    if (!ask_direct_alignment(file))
        file->block_bytes = file->memory_align = logical;
    if (file->is_block_device)
        file->block_bytes = MAX(file->block_bytes, logical);
}

/* Punches where nothing is: past the end of a regular file, so nothing changes.  (A zeroed range
 * would reserve blocks there, so that is found out by its first use.) */
static bool probe_punch(const struct file *file)
{
    uint64_t past = (atomic_load(&file->size) / SAFE_ALIGN + 1) * SAFE_ALIGN;

    return io_syscalls.fallocate(file->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)past,
                                 SAFE_ALIGN) == 0;
}

/* Through fallocate(2) a block device zeroes with WRITE ZEROES or says EOPNOTSUPP for a hole, and
 * falls back to writing for a range (block/fops.c): the queue tells whether that is fast. */
static void find_zeroing(struct file *file, bool is_read_only)
{
    bool can_punch;

    if (is_read_only)
        return;
    can_punch = file->is_block_device ? queue_setting(file->device, "write_zeroes_max_bytes", 0) > 0
                                      : probe_punch(file);
    file->can_punch = file->zero_range_is_fast = can_punch;
    file->can_zero_range = true;
}

/* A server in user space is told of RWF_DSYNC with the write, and may not know what it means:
 * nothing is synced after it (fs/fuse/file.c, fuse_direct_write_iter). */
static void find_abilities(struct file *file, bool is_read_only)
{
    struct statfs fs;
    long type =
        !file->is_block_device && io_syscalls.fstatfs(file->fd, &fs) == 0 ? (long)fs.f_type : 0;

    file->is_in_memory = type == TMPFS_MAGIC || type == RAMFS_MAGIC;
    file->is_rotational = queue_setting(file->device, "rotational", 0) == 1;
    file->can_seek = file->can_nowait = true;
    file->can_dsync = type != FUSE_SUPER_MAGIC;
    file->submits_late = type == FUSE_SUPER_MAGIC;
    find_zeroing(file, is_read_only);
}

/* --- opening ------------------------------------------------------------------------------ */

/* Not the kind that open(2) may hang on or that has no size. */
static int check_kind(const char *path, struct stat *st, struct err *e)
{
    if (stat(path, st) < 0)
        return err_set(e, errno, "cannot open %s: %s", path, strerror(errno));
    if (!S_ISREG(st->st_mode) && !S_ISBLK(st->st_mode))
        return err_set(e, EINVAL, "%s is neither a regular file nor a block device", path);
    return 0;
}

static int say_cannot_open(const char *path, const struct file_options *options, int error,
                           struct err *e)
{
    if (error == EINVAL && options->direct)
        return err_set(e, EINVAL, "cannot open %s: its file system does not support O_DIRECT",
                       path);
    if (error == EBUSY)
        return err_set(e, EBUSY, "cannot open %s: the device is mounted or in use", path);
    return err_set(e, error, "cannot open %s: %s", path, strerror(error));
}

/* O_EXCL on a block device (open(2)): refused while it is mounted or another opens it likewise. */
static int open_flags(const struct file_options *options, bool is_block_device)
{
    int flags = O_CLOEXEC | (options->read_only ? O_RDONLY : O_RDWR);

    if (options->direct)
        flags |= O_DIRECT;
    if (is_block_device && options->exclusive_lock && !options->read_only)
        flags |= O_EXCL;
    return flags;
}

static int open_main(struct file *file, const struct file_options *options, struct err *e)
{
    const struct timespec pause = {.tv_nsec = RETRY_NS};
    int flags = open_flags(options, file->is_block_device);
    uint64_t began = clock_now_ns();

    while ((file->fd = open(file->path, flags)) < 0) {
        if (errno != EINTR && (errno != EBUSY || clock_now_ns() - began >= options->lock_wait_ns))
            return say_cannot_open(file->path, options, errno, e);
        nanosleep(&pause, NULL);
    }
    return 0;
}

/* The same file once more, for file-sync.c.  Where its question is not understood, do without. */
static void open_check(struct file *file)
{
    char self[64];

    snprintf(self, sizeof self, "/proc/self/fd/%d", file->fd);
    file->check_fd = open(self, O_RDONLY | O_CLOEXEC);
    if (file->check_fd < 0 ||
        io_syscalls.sync_file_range(file->check_fd, 0, 1, SYNC_FILE_RANGE_WAIT_BEFORE) == 0 ||
        errno == EIO || errno == ENOSPC)
        return;
    close(file->check_fd);
    file->check_fd = -1;
}

static int examine(struct file *file, const struct file_options *options, struct err *e)
{
    uint64_t size;
    int r = read_size(file, &size);

    if (r < 0)
        return err_set(e, -r, "cannot read the size of %s: %s", file->path, strerror(-r));
    atomic_store(&file->size, size);
    find_alignment(file);
    if (size % file->block_bytes)
        return err_set(e, EINVAL, "the size of %s, %llu, is not a multiple of %u as O_DIRECT needs",
                       file->path, (unsigned long long)size, file->block_bytes);
    find_abilities(file, options->read_only);
    open_check(file);
    return 0;
}

static int open_all(struct file *file, const char *path, const struct file_options *options,
                    struct err *e)
{
    struct stat st;
    int r = check_kind(path, &st, e);

    if (r < 0)
        return r;
    file->path = strdup(path);
    if (!file->path)
        return err_set(e, ENOMEM, "cannot open %s: out of memory", path);
    file->is_block_device = S_ISBLK(st.st_mode);
    file->is_direct = options->direct;
    file->may_hang = options->may_hang;
    file->device = file->is_block_device ? st.st_rdev : st.st_dev;
    r = open_main(file, options, e);
    if (r == 0 && options->exclusive_lock)
        r = file_lock(file->fd, path, options->read_only, options->lock_wait_ns, e);
    return r < 0 ? r : examine(file, options, e);
}

int file_open(const char *path, const struct file_options *options, struct file **out,
              struct err *e)
{
    struct file *file;
    int r = options->create ? file_create_if_absent(path, options->create_size, e) : 0;

    if (r < 0)
        return r;
    file = calloc(1, sizeof *file);
    if (!file)
        return err_set(e, ENOMEM, "cannot open %s: out of memory", path);
    file->fd = file->check_fd = -1;
    pthread_mutex_init(&file->sync_mutex, NULL);
    list_init(&file->flush_waiting);
    r = open_all(file, path, options, e);
    if (r < 0)
        file_close(file);
    else
        *out = file;
    return r;
}

void file_close(struct file *file)
{
    cleanup_close(&file->check_fd);
    cleanup_close(&file->fd);
    pthread_mutex_destroy(&file->sync_mutex);
    free(file->path);
    free(file);
}

/* --- what there is to know ---------------------------------------------------------------- */

uint64_t file_size(const struct file *file)
{
    return atomic_load_explicit(&file->size, memory_order_relaxed);
}

unsigned file_block_size(const struct file *file)
{
    return file->block_bytes;
}

bool file_can_trim(const struct file *file)
{
    return atomic_load_explicit(&file->can_punch, memory_order_relaxed);
}

bool file_can_fast_zero(const struct file *file)
{
    return file_can_trim(file);
}

bool file_is_rotational(const struct file *file)
{
    return file->is_rotational;
}

int file_sticky_error(const struct file *file)
{
    return atomic_load_explicit(&file->sticky_error, memory_order_acquire);
}

int file_descriptor(const struct file *file)
{
    return file->fd;
}

/* --- size --------------------------------------------------------------------------------- */

int file_resize(struct file *file, uint64_t size, struct err *e)
{
    file_refresh_size(file);
    if (size == file_size(file))
        return 0;
    if (size < file_size(file))
        return err_set(e, EINVAL, "%s is larger than %llu bytes and is never made smaller",
                       file->path, (unsigned long long)size);
    if (file->is_block_device)
        return err_set(e, ENOTSUP, "%s is a block device: grow it first, with its own tools",
                       file->path);
    if (size % file->block_bytes)
        return err_set(e, EINVAL, "%llu is not a multiple of %u, as O_DIRECT on %s needs",
                       (unsigned long long)size, file->block_bytes, file->path);
    if (ftruncate(file->fd, (off_t)size) < 0 || fsync(file->fd) < 0)
        return err_set(e, errno, "cannot grow %s: %s", file->path, strerror(errno));
    atomic_store(&file->size, size);
    return 0;
}

bool file_refresh_size(struct file *file)
{
    uint64_t size;

    if (read_size(file, &size) < 0)
        return false;
    size -= size % file->block_bytes;
    return atomic_exchange(&file->size, size) != size;
}
