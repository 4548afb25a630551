/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * file-submit: where an operation runs.
 *
 * A worker runs it itself.  One that is hurried does so only with what a loop does inline, and puts
 * the rest on its run list.  A loop must not block:
 *
 *     operation                            from a loop
 *     read in the page cache               inline, RWF_NOWAIT (256 KiB at most: it is a copy)
 *     the rest of such a read, O_DIRECT    ring; pool when there is no ring or memory is unaligned
 *     buffered write, <= 256 KiB           inline while the dirty budget lasts, none was slow and
 *                                          no sync waits for the disk for long
 *     O_DIRECT write                       ring, as above
 *     larger or FUA write, trim, zero,     pool
 *     extents, prefetch, buffered write to
 *     a device that may not answer
 *     flush                                pool, one fdatasync for all that wait
 *
 * Buffered writes do not go to the ring: ext4 and tmpfs refuse NOWAIT there, and its own threads
 * cost more than ours.  The choice is made once, at submit; no locks.
 */
#include "io/file.h"

#include <assert.h>
#include <errno.h>
#include <sched.h>

#define INLINE_READ_MAX (256u << 10)
#define INLINE_WRITE_MAX (256u << 10)
#define INLINE_SLOW_NS 5000000ull
/* Times what the slow one took: so a loop stands still for a twentieth of the time at most. */
#define AVOID_INLINE_TIMES 20u

static enum io_status done(struct io *io, int result)
{
    io->result = result;
    return IO_DONE;
}

static _Atomic uint32_t chaos_seed; /* 0: off */

/* --- elsewhere ---------------------------------------------------------------------------- */

static int run_blocking(struct io *io)
{
    int r = file_run(io->executor, io);

    if (io->kind == IO_WRITE)
        file_look_for_room(io->executor);
    return r;
}

/* The file may be closed as soon as the operation is answered: that comes last. */
static void run_in_pool(struct task *task)
{
    struct io *io = CONTAINER_OF(task, struct io, exec_task);

    io_complete(io, run_blocking(io));
}

void file_to_pool(struct file *file, struct io *io)
{
    io->executor = file;
    io->exec_task.run = run_in_pool;
    pool_submit(&io->exec_task);
}

static enum io_status in_pool(struct file *file, struct io *io)
{
    file_to_pool(file, io);
    return IO_PENDING;
}

static enum io_status in_ring(struct file *file, struct io *io)
{
    if (!file_memory_fits(file, io->data) || !file_to_ring(file, io))
        file_to_pool(file, io);
    return IO_PENDING;
}

/* --- from a loop -------------------------------------------------------------------------- */

/* IO_PENDING: not all of it was in the page cache. */
static enum io_status read_inline(struct file *file, struct io *io)
{
    int r;

    if (file->is_direct || io->length > INLINE_READ_MAX ||
        !atomic_load_explicit(&file->can_nowait, memory_order_relaxed))
        return IO_PENDING;
    r = file_read_cached(file, io);
    return LIKELY(r != -EAGAIN) ? done(io, r) : IO_PENDING;
}

static enum io_status loop_read(struct file *file, struct io *io)
{
    if (read_inline(file, io) == IO_DONE)
        return IO_DONE;
    return io->length > INLINE_READ_MAX && !file->is_direct ? in_pool(file, io) : in_ring(file, io);
}

/* The disk may not answer any more, and what is written into the page cache then may wait for what
 * is on its way there. */
static bool is_long_syncing(const struct file *file, uint64_t now_ticks)
{
    uint64_t since = atomic_load_explicit(&file->syncing_since_ticks, memory_order_relaxed);

    return UNLIKELY(since) && now_ticks > since &&
           clock_ticks_to_ns(now_ticks - since) > FILE_PATIENCE_NS;
}

static bool may_write_inline(const struct file *file, const struct io *io, uint64_t now_ticks)
{
    if (file->is_direct || (io->flags & IO_FUA) || io->length > INLINE_WRITE_MAX)
        return false;
    if (file->is_in_memory)
        return true;
    if (file->may_hang)
        return false;
    return file_may_dirty(file) && !is_long_syncing(file, now_ticks) &&
           now_ticks >= atomic_load_explicit(&file->avoid_inline_ticks, memory_order_relaxed);
}

/* The watchdog: after a write that blocked the loop, the next ones go to the pool for a while. */
static void watch_inline(struct file *file, uint64_t began_ticks)
{
    uint64_t now = clock_ticks(), took = now - began_ticks;

    if (UNLIKELY(clock_ticks_to_ns(took) > INLINE_SLOW_NS))
        atomic_store_explicit(&file->avoid_inline_ticks, now + AVOID_INLINE_TIMES * took,
                              memory_order_relaxed);
}

/* IO_PENDING: nothing was done. */
static enum io_status write_inline(struct file *file, struct io *io)
{
    uint64_t began = clock_ticks();

    if (!may_write_inline(file, io, began))
        return IO_PENDING;
    done(io, file_run(file, io));
    watch_inline(file, began);
    return IO_DONE;
}

static enum io_status loop_write(struct file *file, struct io *io)
{
    if (write_inline(file, io) == IO_DONE)
        return IO_DONE;
    if (io->flags & IO_FUA && file_sticky(file) < 0)
        return done(io, file_sticky(file));
    return file->is_direct && file_can_write_at_once(file, io) ? in_ring(file, io)
                                                               : in_pool(file, io);
}

bool file_write_here(struct file *file, struct io *io)
{
    io->progress = 0;
    return !atomic_load_explicit(&chaos_seed, memory_order_relaxed) &&
           write_inline(file, io) == IO_DONE;
}

static enum io_status loop_flush(struct file *file, struct io *io)
{
    if (file_sticky(file) < 0)
        return done(io, file_sticky(file));
    file_flush_later(file, io);
    return IO_PENDING;
}

static enum io_status (*const from_loop[IO_KINDS])(struct file *file, struct io *io) = {
    [IO_READ] = loop_read, [IO_WRITE] = loop_write, [IO_FLUSH] = loop_flush, [IO_TRIM] = in_pool,
    [IO_ZERO] = in_pool,   [IO_EXTENTS] = in_pool,  [IO_PREFETCH] = in_pool,
};

/* --- from a worker that is hurried ---------------------------------------------------------- */

/* When it no longer is. */
static void run_at_home(struct task *task)
{
    struct io *io = CONTAINER_OF(task, struct io, exec_task);

    io->result = run_blocking(io);
    io->done_task.run(&io->done_task);
}

static void put_off(struct io *io)
{
    io->exec_task.run = run_at_home;
    home_put_off(io->home, &io->exec_task);
}

/* As long as it is, the device is waited for for a while, and what takes longer elsewhere. */
static void run_soon(struct task *task)
{
    struct io *io = CONTAINER_OF(task, struct io, exec_task);

    if (!io->home->is_hurried)
        run_at_home(task);
    else if (!file_fits_apart(io->executor, io)) /* not any more */
        put_off(io);
    else if (file_submit_apart(io->executor, io) == IO_DONE)
        io->done_task.run(&io->done_task);
    else
        file_leave_apart(io, io->home);
}

static enum io_status hurried(struct file *file, struct io *io)
{
    if ((io->kind == IO_READ && read_inline(file, io) == IO_DONE) ||
        (io->kind == IO_WRITE && write_inline(file, io) == IO_DONE))
        return IO_DONE;
    io->executor = file;
    if (io->kind == IO_FLUSH || !file_fits_apart(file, io)) {
        put_off(io);
        return IO_PENDING;
    }
    io->exec_task.run = run_soon;
    home_run_later(io->home, &io->exec_task);
    return IO_PENDING;
}

/* --- chaos -------------------------------------------------------------------------------- */

static _Atomic uint32_t chaos_serial;

void io_set_chaos(uint32_t seed)
{
    atomic_store(&chaos_serial, 0);
    atomic_store(&chaos_seed, seed);
}

/* The finalizer of MurmurHash3: the same seed gives the same choices in the same order of calls. */
static uint32_t chaos_number(uint32_t seed)
{
    uint32_t x =
        seed + 0x9e3779b9u * atomic_fetch_add_explicit(&chaos_serial, 1, memory_order_relaxed);

    x = (x ^ (x >> 16)) * 0x85ebca6bu;
    x = (x ^ (x >> 13)) * 0xc2b2ae35u;
    return x ^ (x >> 16);
}

/* As late as it gets: the submitter has long gone to sleep, or is just about to. */
static void run_late(struct task *task)
{
    struct io *io = CONTAINER_OF(task, struct io, exec_task);

    for (uint64_t yields = io->cookie; yields; yields--)
        sched_yield();
    io_complete(io, file_run(io->executor, io));
}

/* True: it goes to a foreign thread, whatever its home and kind. */
static COLD bool chaos_takes(struct file *file, struct io *io, uint32_t seed)
{
    uint32_t number = chaos_number(seed);

    if (number & 1)
        return false;
    io->executor = file;
    io->cookie = (number >> 1) % 8;
    io->exec_task.run = run_late;
    pool_submit(&io->exec_task);
    return true;
}

/* --- submit ------------------------------------------------------------------------------- */

enum io_status file_submit(struct file *file, struct io *io)
{
    uint32_t seed = atomic_load_explicit(&chaos_seed, memory_order_relaxed);

    assert(io->home == home_current_or_null());
    io->progress = 0;
    if (io->length == 0 && io->kind != IO_FLUSH)
        return done(io, 0);
    if (UNLIKELY(seed) && chaos_takes(file, io, seed))
        return IO_PENDING;
    if (io->home->kind == HOME_WORKER)
        return UNLIKELY(io->home->is_hurried) ? hurried(file, io) : done(io, file_run(file, io));
    return from_loop[io->kind](file, io);
}
