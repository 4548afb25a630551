/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * syscalls: the system calls of the file service behind a table, so that a test can make them fail,
 * come back short or refuse a flag as other kernels and file systems do.  Private to the io room
 * and its tests; nothing in the product ever writes to the table.
 */
#ifndef SLUICE_IO_SYSCALLS_H
#define SLUICE_IO_SYSCALLS_H

#include <liburing.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/vfs.h>

struct io_syscalls {
    ssize_t (*preadv2)(int fd, const struct iovec *iov, int count, off_t offset, int flags);
    ssize_t (*pwritev2)(int fd, const struct iovec *iov, int count, off_t offset, int flags);
    int (*fdatasync)(int fd);
    int (*sync_file_range)(int fd, off_t offset, off_t length, unsigned flags);
    int (*fallocate)(int fd, int mode, off_t offset, off_t length);
    int (*fstatfs)(int fd, struct statfs *fs);
    off_t (*lseek)(int fd, off_t offset, int whence);
    int (*ring_init)(unsigned entries, struct io_uring *ring, struct io_uring_params *params);
    int (*ring_submit)(struct io_uring *ring); /* what a loop has prepared in a turn */
    int (*ring_submit_and_wait)(struct io_uring *ring, struct io_uring_cqe **cqe, unsigned count,
                                struct __kernel_timespec *ts, sigset_t *mask);
    const char *vmstat_path; /* counters of the kernel's pages, vmstat of proc(5) */
};
extern struct io_syscalls io_syscalls;

#endif
