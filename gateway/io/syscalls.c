/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * syscalls: the table as it is in the product.
 *
 * Not const, because tests replace entries while no I/O runs; the product only reads it.
 */
#include "io/syscalls.h"

#include <fcntl.h>
#include <unistd.h>

struct io_syscalls io_syscalls = {
    .preadv2 = preadv2,
    .pwritev2 = pwritev2,
    .fdatasync = fdatasync,
    .sync_file_range = sync_file_range,
    .fallocate = fallocate,
    .lseek = lseek,
    .ring_init = io_uring_queue_init_params,
};
