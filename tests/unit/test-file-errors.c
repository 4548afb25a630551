/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test-file-errors: a flush tells the truth, and goes on telling it until the file is opened anew.
 *
 * The errors come from calls put in place of fdatasync, sync_file_range and pwritev2; a real
 * failing device has its own test (test-lost-writes-fail-every-flush.sh).
 */
#include "file-fixture.h"

#include <linux/magic.h>
#include <sys/uio.h>

static struct io_syscalls good_calls;
static uint8_t data[128 * KIB];

/* Which calls fail with what; 0: none.  Each fails once, as the kernel's errors do. */
static _Atomic int fdatasync_error, page_cache_error, write_error, dsync_error;

static int failing_fdatasync(int fd)
{
    int error = atomic_exchange(&fdatasync_error, 0);

    if (!error)
        return fdatasync(fd);
    errno = error;
    return -1;
}

static int failing_sync_file_range(int fd, off_t offset, off_t length, unsigned flags)
{
    int error = atomic_exchange(&page_cache_error, 0);

    if (!error)
        return sync_file_range(fd, offset, length, flags);
    errno = error;
    return -1;
}

static ssize_t failing_pwritev2(int fd, const struct iovec *iov, int count, off_t offset, int flags)
{
    int error = atomic_exchange(flags & RWF_DSYNC ? &dsync_error : &write_error, 0);

    if (!error)
        return pwritev2(fd, iov, count, offset, flags);
    errno = error;
    return -1;
}

static struct file *file_that_may_fail(void)
{
    struct file *file = new_file("fails", MIB, (struct file_options){0});

    io_syscalls.fdatasync = failing_fdatasync;
    io_syscalls.sync_file_range = failing_sync_file_range;
    io_syscalls.pwritev2 = failing_pwritev2;
    fdatasync_error = page_cache_error = write_error = dsync_error = 0;
    return file;
}

/* Every flush and FUA fails with `error`, from everywhere; all else works. */
static void check_sticky(struct file *file, int error)
{
    CHECK_EQ(file_sticky_error(file), error);
    for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
        CHECK_EQ(flush(places[i], file), -error);
        CHECK_EQ(write_at(places[i], file, IO_FUA, 0, 4 * KIB, data), -error);
        CHECK_EQ(write_at(places[i], file, IO_FUA, 0, 128 * KIB, data), -error);
        CHECK_EQ(change_at(places[i], file, IO_TRIM, IO_FUA, 0, 4 * KIB), -error);
        CHECK_EQ(change_at(places[i], file, IO_ZERO, IO_FUA, 0, 4 * KIB), -error);
        CHECK_EQ(write_at(places[i], file, 0, 0, 4 * KIB, data), 0);
        CHECK_EQ(change_at(places[i], file, IO_TRIM, 0, 0, 4 * KIB), 0);
        CHECK_EQ(read_at(places[i], file, 0, 4 * KIB, data), 0);
    }
}

static void check_clean(struct file *file)
{
    CHECK_EQ(file_sticky_error(file), 0);
    for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
        CHECK_EQ(flush(places[i], file), 0);
        CHECK_EQ(write_at(places[i], file, IO_FUA, 0, 4 * KIB, data), 0);
    }
}

static void test_a_failed_sync_is_sticky_until_opened_anew(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
        struct file *file = file_that_may_fail();
        struct err e = {0};

        check_clean(file);
        errors_logged = 0;
        fdatasync_error = EIO;
        CHECK_EQ(flush(places[i], file), -EIO);
        check_sticky(file, EIO);
        CHECK_EQ(errors_logged, 1);
        file_close(file);
        CHECK_EQ(file_open(in_folder("fails"), &(struct file_options){0}, &file, &e), 0);
        check_clean(file);
        file_close(file);
    }
}

/* The kernel tells one of two syncs; the other asks through the check descriptor. */
static void test_an_error_told_to_another_sync_fails_this_one_too(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
        struct file *file = file_that_may_fail();

        page_cache_error = EIO;
        CHECK_EQ(flush(places[i], file), -EIO);
        check_sticky(file, EIO);
        file_close(file);
        file = file_that_may_fail();
        page_cache_error = ENOSPC;
        CHECK_EQ(write_at(places[i], file, IO_FUA, 0, 4 * KIB, data), -ENOSPC);
        check_sticky(file, ENOSPC);
        file_close(file);
    }
}

static void test_a_failed_fua_is_sticky(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
        struct file *file = file_that_may_fail();

        dsync_error = EIO;
        CHECK_EQ(write_at(places[i], file, IO_FUA, 0, 4 * KIB, data), -EIO);
        check_sticky(file, EIO);
        file_close(file);
        file = file_that_may_fail();
        fdatasync_error = EIO;
        CHECK_EQ(change_at(places[i], file, IO_TRIM, IO_FUA, 0, 4 * KIB), -EIO);
        check_sticky(file, EIO);
        file_close(file);
    }
}

/* "No space" from the write itself loses nothing that was acknowledged. */
static void test_no_space_for_a_fua_write_is_not_sticky(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
        struct file *file = file_that_may_fail();

        dsync_error = write_error = ENOSPC;
        CHECK_EQ(write_at(places[i], file, IO_FUA, 0, 4 * KIB, data), -ENOSPC);
        check_clean(file);
        dsync_error = EINVAL;
        CHECK_EQ(write_at(places[i], file, IO_FUA, 0, 4 * KIB, data), -EINVAL);
        check_clean(file);
        file_close(file);
    }
}

static void test_no_space_in_the_sync_of_a_fua_write_is_sticky(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
        struct file *file = file_that_may_fail();

        dsync_error = page_cache_error =
            ENOSPC; /* written again it works, but something was lost */
        CHECK_EQ(write_at(places[i], file, IO_FUA, 0, 4 * KIB, data), -ENOSPC);
        check_sticky(file, ENOSPC);
        file_close(file);
    }
}

static void test_a_failed_write_into_the_page_cache_is_remembered(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
        struct file *file = file_that_may_fail();

        write_error = ENOSPC;
        CHECK_EQ(write_at(places[i], file, 0, 0, 4 * KIB, data), -ENOSPC);
        check_clean(file);
        write_error = EIO;
        CHECK_EQ(write_at(places[i], file, 0, 0, 4 * KIB, data), -EIO);
        check_sticky(file, EIO);
        file_close(file);
    }
}

/* --- two syncs side by side --------------------------------------------------------------- */

static pthread_barrier_t both_are_in;

/* The first to arrive takes the error, then both come back. */
static int racing_fdatasync(int fd)
{
    int error = atomic_exchange(&fdatasync_error, 0);

    pthread_barrier_wait(&both_are_in);
    (void)fd;
    errno = error;
    return error ? -1 : 0;
}

static void *flush_in_thread(void *arg)
{
    return (void *)(intptr_t)flush(FROM_WORKER, arg);
}

static void test_of_two_flushes_side_by_side_both_fail(void)
{
    for (int round = 0; round < 200; round++) {
        struct file *file = file_that_may_fail();
        pthread_t other;
        void *its_result;
        int mine;

        pthread_barrier_init(&both_are_in, NULL, 2);
        io_syscalls.fdatasync = racing_fdatasync;
        fdatasync_error = page_cache_error = EIO;
        pthread_create(&other, NULL, flush_in_thread, file);
        mine = flush(FROM_WORKER, file);
        pthread_join(other, &its_result);
        CHECK_EQ(mine, -EIO);
        CHECK_EQ((intptr_t)its_result, -EIO);
        pthread_barrier_destroy(&both_are_in);
        io_syscalls = good_calls;
        file_close(file);
    }
}

/* Without a second descriptor (no /proc, seccomp) the rest still holds. */
static int no_sync_file_range(int fd, off_t offset, off_t length, unsigned flags)
{
    (void)fd, (void)offset, (void)length, (void)flags;
    errno = ENOSYS;
    return -1;
}

static void test_without_sync_file_range_a_failed_sync_is_sticky_too(void)
{
    struct file *file;

    io_syscalls.sync_file_range = no_sync_file_range;
    file = new_file("fails", MIB, (struct file_options){0});
    io_syscalls.fdatasync = failing_fdatasync;
    io_syscalls.pwritev2 = failing_pwritev2;
    CHECK_EQ(file->check_fd, -1);
    check_clean(file);
    dsync_error = ENOSPC;
    CHECK_EQ(write_at(FROM_LOOP, file, IO_FUA, 0, 4 * KIB, data), -ENOSPC);
    check_sticky(file, ENOSPC); /* cannot be told apart: the worse is assumed */
    io_syscalls = good_calls;
    file_close(file);
}

static void test_direct_writes_that_fail_are_only_their_own_failure(void)
{
    struct file *file = new_file("direct", MIB, (struct file_options){.direct = true});
    static _Alignas(4096) uint8_t block[4096];

    if (!file)
        return;
    io_syscalls.pwritev2 = failing_pwritev2;
    write_error = EIO;
    CHECK_EQ(write_at(FROM_WORKER, file, 0, 0, sizeof block, block), -EIO);
    io_syscalls = good_calls;
    check_clean(file);
    file_close(file);
}

/* --- a server in user space ----------------------------------------------------------------- */

static unsigned syncs, dsync_writes;

static int pretend_fuse(int fd, struct statfs *fs)
{
    int r = fstatfs(fd, fs);

    fs->f_type = FUSE_SUPER_MAGIC;
    return r;
}

static int counted_fdatasync(int fd)
{
    syncs++;
    return fdatasync(fd);
}

static ssize_t counted_pwritev2(int fd, const struct iovec *iov, int count, off_t offset, int flags)
{
    dsync_writes += (flags & RWF_DSYNC) != 0;
    return pwritev2(fd, iov, count, offset, flags);
}

/* Nothing syncs after it there. */
static void test_a_fua_write_to_a_server_in_user_space_is_followed_by_a_sync(void)
{
    static _Alignas(4096) uint8_t block[4096];

    io_syscalls.fstatfs = pretend_fuse;
    io_syscalls.fdatasync = counted_fdatasync;
    io_syscalls.pwritev2 = counted_pwritev2;
    for (size_t i = 0; i < 2 * ARRAY_SIZE(places); i++) {
        struct file *file = new_file("fuse", MIB, (struct file_options){.direct = i % 2});

        if (!file)
            continue;
        syncs = 0;
        CHECK_EQ(write_at(places[i / 2], file, IO_FUA, 0, sizeof block, block), 0);
        CHECK_EQ(syncs, 1);
        file_close(file);
    }
    CHECK_EQ(dsync_writes, 0);
    io_syscalls = good_calls;
}

/* --- a worker's own ring -------------------------------------------------------------------- */

static unsigned durable_writes, plain_writes, ring_flushes;
static bool can_make_rings = true;

static int count_and_wait(struct io_uring *ring, struct io_uring_cqe **cqe, unsigned count,
                          struct __kernel_timespec *ts, sigset_t *mask)
{
    for (unsigned i = ring->sq.sqe_head; i != ring->sq.sqe_tail; i++) {
        const struct io_uring_sqe *sqe = &ring->sq.sqes[i & ring->sq.ring_mask];
        bool is_durable = sqe->rw_flags & RWF_DSYNC;

        durable_writes += sqe->opcode == IORING_OP_WRITE && is_durable;
        plain_writes += sqe->opcode == IORING_OP_WRITE && !is_durable;
        ring_flushes += sqe->opcode == IORING_OP_FSYNC;
    }
    return io_uring_submit_and_wait_timeout(ring, cqe, count, ts, mask);
}

static int run_apart(struct file *file, enum io_kind kind, uint32_t flags)
{
    static _Alignas(4096) uint8_t block[4096];
    struct io io = {
        .kind = kind, .flags = flags, .length = kind == IO_FLUSH ? 0 : sizeof block, .data = block};

    io.home = home_current();
    if (!file_fits_apart(file, &io)) {
        can_make_rings = false;
        return -ENOSYS;
    }
    CHECK_EQ(file_submit_apart(file, &io), IO_DONE);
    return io.result;
}

static void test_a_durable_write_is_one_operation_of_the_ring(void)
{
    struct file *file = new_file("apart", MIB, (struct file_options){.direct = true});

    if (!file)
        return;
    io_syscalls.ring_submit_and_wait = count_and_wait;
    CHECK_EQ(run_apart(file, IO_WRITE, 0), can_make_rings ? 0 : -ENOSYS);
    CHECK_EQ(run_apart(file, IO_WRITE, IO_FUA), can_make_rings ? 0 : -ENOSYS);
    CHECK_EQ(run_apart(file, IO_FLUSH, 0), can_make_rings ? 0 : -ENOSYS);
    CHECK_EQ(plain_writes, can_make_rings);
    CHECK_EQ(durable_writes, can_make_rings);
    CHECK_EQ(ring_flushes, can_make_rings);
    io_syscalls = good_calls;
    file_close(file);
}

/* What its sync was told of must not be forgotten. */
static void test_a_durable_write_of_the_ring_tells_of_lost_writes(void)
{
    struct file *file = new_file("apart", MIB, (struct file_options){.direct = true});

    if (!file || !can_make_rings)
        return;
    io_syscalls.sync_file_range = failing_sync_file_range;
    page_cache_error = EIO;
    CHECK_EQ(run_apart(file, IO_WRITE, IO_FUA), -EIO);
    CHECK_EQ(file_sticky_error(file), EIO);
    CHECK_EQ(run_apart(file, IO_WRITE, IO_FUA), -EIO);
    CHECK_EQ(run_apart(file, IO_WRITE, 0), 0);
    io_syscalls = good_calls;
    file_close(file);
}

/* It writes and syncs, which can only be done where a thread may wait for it. */
static void test_a_durable_write_does_not_go_to_the_ring_where_it_would_not_be_durable(void)
{
    struct file *file = new_file("apart", MIB, (struct file_options){.direct = true});
    struct io io = {.kind = IO_WRITE, .flags = IO_FUA, .length = 4096, .home = home_current()};

    if (!file || !can_make_rings)
        return;
    CHECK(file_fits_apart(file, &io));
    atomic_store(&file->can_dsync, false);
    CHECK(!file_fits_apart(file, &io));
    file_close(file);
}

/* --- a worker's ring that gives less than was asked for --------------------------------------- */

static unsigned ring_moves, system_calls;
static int ring_error; /* of each of its operations; 0: it moves a block of what is asked */

static int move_a_block(struct io_uring *ring, struct io_uring_cqe **cqe, unsigned count,
                        struct __kernel_timespec *ts, sigset_t *mask)
{
    int r;

    for (unsigned i = ring->sq.sqe_head; i != ring->sq.sqe_tail; i++) {
        ring->sq.sqes[i & ring->sq.ring_mask].len = 4096;
        ring_moves++;
    }
    r = io_uring_submit_and_wait_timeout(ring, cqe, count, ts, mask);
    if (r >= 0 && ring_error)
        (*cqe)->res = ring_error;
    return r;
}

static ssize_t counted_preadv2(int fd, const struct iovec *iov, int count, off_t offset, int flags)
{
    system_calls++;
    return preadv2(fd, iov, count, offset, flags);
}

static ssize_t unwanted_pwritev2(int fd, const struct iovec *iov, int count, off_t offset,
                                 int flags)
{
    system_calls++;
    return pwritev2(fd, iov, count, offset, flags);
}

static int move_three_blocks(struct file *file, enum io_kind kind, void *memory, int error)
{
    struct io io = {.kind = kind, .length = 12 * KIB, .data = memory, .home = home_current()};

    ring_moves = system_calls = 0;
    ring_error = error;
    if (!file_fits_apart(file, &io)) {
        can_make_rings = false;
        return -ENOSYS;
    }
    CHECK_EQ(file_submit_apart(file, &io), IO_DONE);
    return io.result;
}

/* A system call would keep the worker when the device stops answering. */
static void test_what_comes_short_in_a_ring_goes_on_there(void)
{
    static _Alignas(4096) uint8_t written[12 * KIB], read[12 * KIB];
    struct file *file = new_file("short", MIB, (struct file_options){.direct = true});

    if (!file || !can_make_rings)
        return;
    for (size_t i = 0; i < sizeof written; i++)
        written[i] = (uint8_t)(i / 4096 + i);
    io_syscalls.ring_submit_and_wait = move_a_block;
    io_syscalls.preadv2 = counted_preadv2;
    io_syscalls.pwritev2 = unwanted_pwritev2;
    CHECK_EQ(move_three_blocks(file, IO_WRITE, written, 0), 0);
    CHECK_EQ(ring_moves, 3);
    CHECK_EQ(system_calls, 0);
    CHECK_EQ(move_three_blocks(file, IO_READ, read, 0), 0);
    CHECK_EQ(ring_moves, 3);
    CHECK_EQ(system_calls, 0);
    CHECK_EQ(memcmp(read, written, sizeof read), 0);
    CHECK_EQ(move_three_blocks(file, IO_READ, read, -ETIMEDOUT), -ETIMEDOUT);
    CHECK_EQ(system_calls, 0);
    CHECK_EQ(move_three_blocks(file, IO_READ, read, -EOPNOTSUPP), 0); /* there it may be done */
    CHECK_EQ(system_calls, 1);
    io_syscalls = good_calls;
    file_close(file);
}

int main(void)
{
    good_calls = io_syscalls;
    begin_file_tests(temporary_folder());
    RUN(test_a_failed_sync_is_sticky_until_opened_anew);
    RUN(test_an_error_told_to_another_sync_fails_this_one_too);
    RUN(test_a_failed_fua_is_sticky);
    RUN(test_no_space_for_a_fua_write_is_not_sticky);
    RUN(test_no_space_in_the_sync_of_a_fua_write_is_sticky);
    RUN(test_a_failed_write_into_the_page_cache_is_remembered);
    RUN(test_of_two_flushes_side_by_side_both_fail);
    RUN(test_without_sync_file_range_a_failed_sync_is_sticky_too);
    RUN(test_direct_writes_that_fail_are_only_their_own_failure);
    RUN(test_a_fua_write_to_a_server_in_user_space_is_followed_by_a_sync);
    RUN(test_a_durable_write_is_one_operation_of_the_ring);
    RUN(test_a_durable_write_of_the_ring_tells_of_lost_writes);
    RUN(test_a_durable_write_does_not_go_to_the_ring_where_it_would_not_be_durable);
    RUN(test_what_comes_short_in_a_ring_goes_on_there);
    return end_file_tests();
}
