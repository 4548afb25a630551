/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * file-apart: an operation of a worker, on a device that may not answer.  A system call that reads
 * or writes cannot be left before the device has answered; a wait for a ring can.  So the worker
 * has a ring of its own, for one operation at a time: submitting it and waiting for it is one call,
 * as reading or writing is.  When that takes long, the ring goes to a thread that waits as long as
 * it takes, and the worker is free; it makes another ring when it needs one.
 *
 * A ring belongs to a home, and stays with it when the thread ends and another gets the home. There
 * are so many at most, because each has a descriptor; who gets none goes by way of a loop.
 */
#include "io/file.h"
#include "io/syscalls.h"

#include <errno.h>
#include <string.h>

#define BYTES_MOST (1u << 30)
#define RINGS_MOST 256u

struct apart {
    struct io_uring uring;
    struct io *io; /* under way, of a file */
    struct file *file;
    uint64_t written; /* bytes, ever, before a flush began */
    bool is_refused;  /* the kernel gave no ring */
};

static _Atomic unsigned rings;

static COLD struct apart *make(void)
{
    struct io_uring_params params = {.flags = 0};
    struct apart *a = calloc(1, sizeof *a);

    if (!a)
        return NULL;
    a->is_refused = atomic_fetch_add(&rings, 1) >= RINGS_MOST ||
                    io_syscalls.ring_init(2, &a->uring, &params) < 0;
    if (a->is_refused)
        atomic_fetch_sub(&rings, 1);
    return a;
}

static COLD void end_ring(struct apart *a)
{
    io_uring_queue_exit(&a->uring);
    a->is_refused = true;
    atomic_fetch_sub(&rings, 1);
}

/* NULL: there is none. */
static struct apart *ring_of(struct home *home)
{
    if (UNLIKELY(!home->apart))
        home->apart = make();
    return home->apart && !home->apart->is_refused ? home->apart : NULL;
}

bool file_fits_apart(const struct file *file, const struct io *io)
{
    bool moves = io->kind == IO_READ || (io->kind == IO_WRITE && file_can_write_at_once(file, io));

    if (io->length > BYTES_MOST || !(io->kind == IO_FLUSH || (moves && file->is_direct)))
        return false;
    return (io->kind == IO_FLUSH || file_memory_fits(file, io->data)) && ring_of(io->home);
}

bool file_goes_apart(const struct file *file, const struct io *io)
{
    bool fills_memory = io->kind == IO_WRITE && !(io->flags & IO_FUA) && !file->is_direct;

    return file->may_hang && !fills_memory;
}

static bool is_durable_write(const struct io *io)
{
    return io->kind == IO_WRITE && (io->flags & IO_FUA);
}

static void prepare(struct apart *a)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&a->uring);
    const struct io *io = a->io;
    char *data = (char *)io->data + io->progress;
    unsigned length = (unsigned)(io->length - io->progress);
    uint64_t offset = io->offset + io->progress;
    int fd = a->file->fd;

    if (io->kind == IO_READ)
        io_uring_prep_read(sqe, fd, data, length, offset);
    else if (io->kind == IO_WRITE)
        io_uring_prep_write(sqe, fd, data, length, offset);
    else
        io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
    if (is_durable_write(io))
        sqe->rw_flags = RWF_DSYNC;
    if (a->file->submits_late)
        sqe->flags |= IOSQE_ASYNC;
}

/* True: it came short, and the rest is to be asked for. */
static bool goes_on(const struct apart *a, int result)
{
    struct io *io = a->io;

    if (io->kind == IO_FLUSH || result <= 0)
        return false;
    io->progress += (unsigned)result;
    return io->progress < io->length;
}

/* What was refused in this way is done in another, which may block. */
static int end(struct apart *a, int result)
{
    struct io *io = a->io;

    if (io->kind == IO_FLUSH && result != -EAGAIN && result != -EINTR && result != -EINVAL)
        return file_sync_end(a->file, -result, a->written);
    if (io->kind == IO_FLUSH || file_is_refusal(result))
        return file_run(a->file, io);
    if (result == 0)
        return -EIO; /* the file ends before the size we know */
    return is_durable_write(io) ? file_sync_result(a->file, MIN(result, 0)) : MIN(result, 0);
}

/* The kernel did not take it: the ring, where it still stands, goes. */
static COLD int give_up_ring(struct apart *a)
{
    end_ring(a);
    return -EAGAIN;
}

/* False: it has not come back. */
static bool wait_a_while(struct apart *a, int *result)
{
    struct __kernel_timespec ts = {.tv_nsec = a->io->home->is_hurried ? FILE_HURRIED_NS
                                                                      : FILE_PATIENCE_NS};
    struct io_uring_cqe *cqe = NULL;
    int r = io_syscalls.ring_submit_and_wait(&a->uring, &cqe, 1, &ts, NULL);

    while (r == -EINTR)
        r = io_uring_wait_cqe_timeout(&a->uring, &cqe, &ts);
    if (UNLIKELY(r < 0 || !cqe)) {
        if (io_uring_sq_ready(&a->uring) == 0)
            return false;
        *result = give_up_ring(a);
        return true;
    }
    *result = cqe->res;
    io_uring_cqe_seen(&a->uring, cqe);
    return true;
}

enum io_status file_submit_apart(struct file *file, struct io *io)
{
    struct apart *a = io->home->apart;
    int result;

    io->progress = 0;
    io->result = io->kind == IO_FLUSH || is_durable_write(io) ? file_sticky(file) : 0;
    if (io->result < 0)
        return IO_DONE;
    a->io = io;
    a->file = file;
    a->written = atomic_load_explicit(&file->written_bytes, memory_order_relaxed);
    do {
        prepare(a);
        if (!wait_a_while(a, &result))
            return IO_PENDING;
    } while (UNLIKELY(goes_on(a, result)));
    io->result = end(a, result);
    return IO_DONE;
}

/* --- one that is slow ------------------------------------------------------------------------- */

static int wait_for_ever(struct apart *a)
{
    struct io_uring_cqe *cqe = NULL;
    int r;

    do
        r = io_uring_wait_cqe(&a->uring, &cqe);
    while (r == -EINTR || r == -EAGAIN);
    if (r < 0)
        return r;
    r = cqe->res;
    io_uring_cqe_seen(&a->uring, cqe);
    return r;
}

static void wait_for_it(struct apart *a)
{
    int result = wait_for_ever(a);

    result = goes_on(a, result) ? file_run(a->file, a->io) : end(a, result);
    io_complete(a->io, result);
    end_ring(a);
    free(a);
}

static void *wait_in_thread(void *arg)
{
    pthread_setname_np(pthread_self(), "sluice-slow");
    wait_for_it(arg);
    return NULL;
}

void file_leave_apart(struct io *io, struct home *home)
{
    struct apart *a = io->home->apart;

    io->home->apart = NULL;
    io->home = home;
    if (thread_start(NULL, wait_in_thread, a) < 0)
        wait_for_it(a); /* no thread is to be had: the worker waits after all */
}
