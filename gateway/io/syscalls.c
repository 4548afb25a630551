/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * syscalls: the table as it is in the product.
 *
 * Not const, because tests replace entries while no I/O runs; the product only reads it.
 */
#include "io/syscalls.h"

#include <fcntl.h>
#include <unistd.h>

/* One buffer and no flag is most of all I/O, and the plain call costs the kernel less. */
static ssize_t read_at(int fd, const struct iovec *iov, int count, off_t offset, int flags)
{
    if (count == 1 && flags == 0)
        return pread(fd, iov->iov_base, iov->iov_len, offset);
    return preadv2(fd, iov, count, offset, flags);
}

static ssize_t write_at(int fd, const struct iovec *iov, int count, off_t offset, int flags)
{
    if (count == 1 && flags == 0)
        return pwrite(fd, iov->iov_base, iov->iov_len, offset);
    return pwritev2(fd, iov, count, offset, flags);
}

struct io_syscalls io_syscalls = {
    .preadv2 = read_at,
    .pwritev2 = write_at,
    .fdatasync = fdatasync,
    .sync_file_range = sync_file_range,
    .fallocate = fallocate,
    .fstatfs = fstatfs,
    .lseek = lseek,
    .ring_init = io_uring_queue_init_params,
    .ring_submit = io_uring_submit,
    .ring_submit_and_wait = io_uring_submit_and_wait_timeout,
    .vmstat_path = "/proc/vmstat",
};
