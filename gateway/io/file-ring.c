/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * file-ring: the io_uring of a loop, for reads that miss the page cache and aligned O_DIRECT.
 *
 * Entries prepared during a turn go to the kernel together at its end.  Completions signal the
 * loop's own eventfd, so they end its sleep like a post does, and are reaped once a turn.  At most
 * COMPLETIONS operations are in flight, so the completion queue cannot overflow; whoever finds the
 * ring full, or no ring at all (old kernel, seccomp, memory limit: logged once), goes to the pool,
 * as does whatever the ring refuses.  All of it belongs to the loop's thread: no lock.
 */
#include "io/file.h"
#include "io/syscalls.h"

#include <errno.h>
#include <string.h>
#include <sys/uio.h>

#define ENTRIES 128u
#define COMPLETIONS 512u
#define RETRIES_MAX 16
#define BYTES_PER_ENTRY (1u << 30)

struct ring {
    struct io_uring uring;
    unsigned in_flight;
    bool is_refused; /* the kernel gave none: do not ask again */
};

/* --- making and ending -------------------------------------------------------------------- */

/* COOP_TASKRUN (Linux 5.19) saves an interrupt per completion; an older kernel says EINVAL. */
static int make_uring(struct io_uring *uring)
{
    struct io_uring_params wanted = {
        .flags = IORING_SETUP_CQSIZE | IORING_SETUP_COOP_TASKRUN,
        .cq_entries = COMPLETIONS,
    };
    struct io_uring_params plain = {.flags = IORING_SETUP_CQSIZE, .cq_entries = COMPLETIONS};
    int r = io_syscalls.ring_init(ENTRIES, uring, &wanted);

    return r == -EINVAL ? io_syscalls.ring_init(ENTRIES, uring, &plain) : r;
}

static COLD void say_once(int r)
{
    static atomic_flag was_said = ATOMIC_FLAG_INIT;

    if (!atomic_flag_test_and_set(&was_said))
        log_line(LOG_LEVEL_NOTICE,
                 "io_uring cannot be used (%s): file I/O of loops goes to the thread pool",
                 strerror(-r));
}

static COLD struct ring *make_ring(struct home *home)
{
    struct ring *ring = calloc(1, sizeof *ring);
    int r;

    if (!ring)
        return NULL;
    r = make_uring(&ring->uring);
    if (r == 0) {
        r = io_uring_register_eventfd(&ring->uring, home->wake_fd);
        if (r < 0)
            io_uring_queue_exit(&ring->uring);
    }
    if (r < 0) {
        ring->is_refused = true;
        say_once(r);
    }
    *loop_ring(home->loop) = ring;
    return ring;
}

static struct ring *ring_of(struct home *home)
{
    struct ring *ring = *loop_ring(home->loop);

    if (UNLIKELY(!ring))
        ring = make_ring(home);
    return ring && !ring->is_refused ? ring : NULL;
}

void ring_free(struct ring *ring)
{
    if (!ring->is_refused)
        io_uring_queue_exit(&ring->uring);
    free(ring);
}

/* --- going down --------------------------------------------------------------------------- */

static struct io_uring_sqe *get_entry(struct ring *ring)
{
    struct io_uring_sqe *sqe;

    if (ring->in_flight >= COMPLETIONS)
        return NULL;
    sqe = io_uring_get_sqe(&ring->uring);
    if (sqe)
        return sqe;
    io_syscalls.ring_submit(&ring->uring);
    return io_uring_get_sqe(&ring->uring);
}

static bool prepare(struct ring *ring, struct file *file, struct io *io)
{
    struct io_uring_sqe *sqe = get_entry(ring);
    char *data = (char *)io->data + io->progress;
    unsigned length = (unsigned)MIN(io->length - io->progress, BYTES_PER_ENTRY);

    if (!sqe)
        return false;
    if (io->kind == IO_READ)
        io_uring_prep_read(sqe, file->fd, data, length, io->offset + io->progress);
    else
        io_uring_prep_write(sqe, file->fd, data, length, io->offset + io->progress);
    if (io->kind == IO_WRITE && (io->flags & IO_FUA))
        sqe->rw_flags = RWF_DSYNC;
    if (file->submits_late)
        sqe->flags |= IOSQE_ASYNC;
    io_uring_sqe_set_data(sqe, io);
    ring->in_flight++;
    return true;
}

bool file_to_ring(struct file *file, struct io *io)
{
    struct ring *ring = ring_of(io->home);

    io->executor = file;
    io->retries = 0;
    return ring && prepare(ring, file, io);
}

bool ring_submit(struct ring *ring)
{
    if (ring->is_refused)
        return false;
    if (io_uring_sq_ready(&ring->uring))
        io_syscalls.ring_submit(&ring->uring);
    return io_uring_cq_ready(&ring->uring) > 0 || io_uring_sq_ready(&ring->uring) > 0;
}

/* --- coming back -------------------------------------------------------------------------- */

static void finish(struct io *io, int result)
{
    if (io->kind == IO_WRITE && (io->flags & IO_FUA))
        result = file_sync_result(io->executor, result);
    io->result = result;
    home_run_later(io->home, &io->done_task);
}

static void go_on(struct ring *ring, struct io *io)
{
    if (!prepare(ring, io->executor, io))
        file_to_pool(io->executor, io);
}

bool file_is_refusal(int error)
{
    return error == -EINVAL || error == -EOPNOTSUPP || error == -ENOSPC || error == -EDQUOT ||
           error == -EAGAIN || error == -EINTR;
}

static void completed(struct ring *ring, struct io *io, int result)
{
    ring->in_flight--;
    if (result > 0) {
        io->progress += (unsigned)result;
        if (io->progress == io->length)
            finish(io, 0);
        else
            go_on(ring, io);
    } else if (result == 0) {
        finish(io, -EIO); /* the file ends before the size we know */
    } else if ((result == -EAGAIN || result == -EINTR) && io->retries++ < RETRIES_MAX) {
        go_on(ring, io);
    } else if (file_is_refusal(result)) {
        file_to_pool(io->executor, io);
    } else {
        finish(io, result);
    }
}

void ring_reap(struct ring *ring)
{
    struct io_uring_cqe *cqe;

    if (ring->is_refused)
        return;
    while (io_uring_peek_cqe(&ring->uring, &cqe) == 0) {
        struct io *io = io_uring_cqe_get_data(cqe);
        int result = cqe->res;

        io_uring_cqe_seen(&ring->uring, cqe);
        completed(ring, io, result);
    }
}
