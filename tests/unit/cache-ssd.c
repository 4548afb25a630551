/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * cache-ssd.c: see the header.  The table of the io room is replaced before any I/O runs; `taken`
 * has a mutex; all else is atomic.
 */
#include "cache-ssd.h"

#include "host/kit.h"
#include "io/syscalls.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK 4096u

struct ssd_counts *ssd_counts;
static _Atomic unsigned faults;
static _Atomic int faults_left; /* calls that fail */
static _Atomic bool hangs;      /* no call returns */
static _Atomic uint64_t tier_inode;
static _Atomic uint64_t disturbance; /* of the file service's calls */
static bool is_backing_slow, can_fail;

/* Not fstat(2), which the thread sanitizer knows: the kernel orders the SSD's thread before the
 * close of the file, by the answer in the ring, and that it does not see. */
static bool is_tier(int fd)
{
    struct statx st;

    return statx(fd, "", AT_EMPTY_PATH, STATX_INO, &st) == 0 &&
           st.stx_ino == atomic_load(&tier_inode);
}

static uint64_t next_random(void)
{
    uint64_t x = atomic_fetch_add(&disturbance, UINT64_C(0x9e3779b97f4a7c15));

    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    return x ^ (x >> 27);
}

/* --- system calls -------------------------------------------------------------------------- */

/* Others overtake. */
static void wait_a_moment(int fd)
{
    uint64_t turn = next_random();
    struct timespec a_moment = {.tv_nsec = (long)(turn >> 48)};
    bool is_slow = is_backing_slow && !is_tier(fd);

    if (is_slow)
        a_moment.tv_nsec *= 64;
    if (is_slow || turn % 16 == 3)
        nanosleep(&a_moment, NULL);
}

/* What a worker writes into the page cache is in memory and does not come here (docs/cache.md); any
 * other thread that does so may find that the SSD has not even taken what was written before. */
static bool is_workers_memory(int fd, unsigned kind)
{
    const struct home *home = home_current_or_null();

    return kind == SSD_WRITES_FAIL && home && home->kind == HOME_WORKER &&
           !(fcntl(fd, F_GETFL) & O_DIRECT);
}

/* What waited here is done when the SSD answers again, and nobody waits for it by then. */
static void wait_for_ssd(int fd, unsigned kind)
{
    struct timespec a_moment = {.tv_nsec = 2000000};

    while (atomic_load(&hangs) && is_tier(fd) && !is_workers_memory(fd, kind))
        nanosleep(&a_moment, NULL);
}

static bool fails(int fd, unsigned kind)
{
    wait_a_moment(fd);
    wait_for_ssd(fd, kind);
    if (!(atomic_load(&faults) & kind) || !is_tier(fd) || atomic_fetch_sub(&faults_left, 1) <= 0)
        return false;
    errno = EIO;
    return true;
}

static ssize_t try_preadv2(int fd, const struct iovec *iov, int count, off_t offset, int flags)
{
    return fails(fd, SSD_READS_FAIL) ? -1 : preadv2(fd, iov, count, offset, flags);
}

/* A device that fails may have done a part. */
static ssize_t try_pwritev2(int fd, const struct iovec *iov, int count, off_t offset, int flags)
{
    struct iovec part = {.iov_base = iov->iov_base, .iov_len = iov->iov_len / 8192 * BLOCK};

    if (!fails(fd, SSD_WRITES_FAIL))
        return pwritev2(fd, iov, count, offset, flags);
    if (part.iov_len && pwritev2(fd, &part, 1, offset, flags) > 0)
        errno = EIO;
    errno = EIO;
    return -1;
}

static int try_fdatasync(int fd)
{
    return fails(fd, SSD_WRITES_FAIL) ? -1 : fdatasync(fd);
}

/* --- rings: what was taken out ------------------------------------------------------------- */

struct operation {
    struct operation *next;
    struct io_uring_sqe sqe;
    int ring_fd;
};

static pthread_mutex_t taken_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t taken_came = PTHREAD_COND_INITIALIZER;
static struct operation *taken;

static void take(const struct io_uring_sqe *sqe, int ring_fd)
{
    struct operation *op = malloc(sizeof *op);
    SCOPED_LOCK(&taken_mutex);

    if (!op)
        abort();
    *op = (struct operation){.next = taken, .sqe = *sqe, .ring_fd = ring_fd};
    taken = op;
    pthread_cond_signal(&taken_came);
}

static struct operation *wait_for_operation(void)
{
    struct operation *op;
    SCOPED_LOCK(&taken_mutex);

    while (!taken)
        pthread_cond_wait(&taken_came, &taken_mutex);
    op = taken;
    taken = op->next;
    return op;
}

static int carry_out(const struct io_uring_sqe *sqe)
{
    struct iovec iov = {.iov_base = (void *)(uintptr_t)sqe->addr, .iov_len = sqe->len};
    ssize_t r;

    if (sqe->opcode == IORING_OP_READ)
        r = try_preadv2(sqe->fd, &iov, 1, (off_t)sqe->off, 0);
    else if (sqe->opcode == IORING_OP_WRITE)
        r = try_pwritev2(sqe->fd, &iov, 1, (off_t)sqe->off, (int)sqe->rw_flags);
    else
        r = try_fdatasync(sqe->fd);
    if (r >= 0)
        return (int)r;
    atomic_fetch_add(&ssd_counts->ring_failed, 1);
    return -errno;
}

/* The ring is there for as long as something is under way in it. */
static void answer(struct io_uring *own, const struct operation *op, int result)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(own);
    struct io_uring_cqe *cqe;

    io_uring_prep_msg_ring(sqe, op->ring_fd, (unsigned)result, op->sqe.user_data, 0);
    if (io_uring_submit_and_wait(own, 1) < 0 || io_uring_peek_cqe(own, &cqe) < 0 || cqe->res < 0)
        abort();
    io_uring_cqe_seen(own, cqe);
}

static void *be_ssd(void *arg)
{
    struct io_uring *own = arg;

    for (;;) {
        struct operation *op = wait_for_operation();

        answer(own, op, carry_out(&op->sqe));
        free(op);
    }
    return NULL;
}

static bool is_fault_due(uint8_t opcode)
{
    unsigned kind = opcode == IORING_OP_READ ? SSD_READS_FAIL : SSD_WRITES_FAIL;

    return (atomic_load(&faults) & kind) && atomic_load(&faults_left) > 0;
}

/* True: it does not go to the kernel. */
static bool takes(struct io_uring_sqe *sqe)
{
    uint64_t random = next_random();

    if (!is_tier(sqe->fd))
        return false;
    if (atomic_load(&hangs))
        atomic_fetch_add(&ssd_counts->ring_held, 1);
    if (atomic_load(&hangs) || is_fault_due(sqe->opcode))
        return true;
    if (random % 8 == 0) {
        atomic_fetch_add(&ssd_counts->ring_late, 1);
        return true;
    }
    if (random % 8 == 1 && sqe->opcode != IORING_OP_FSYNC && sqe->len > BLOCK) {
        atomic_fetch_add(&ssd_counts->ring_short, 1);
        sqe->len = (uint32_t)(1 + (random >> 32) % (sqe->len / BLOCK - 1)) * BLOCK;
    }
    return false;
}

/* Of what has been prepared since the last time; what stays closes up. */
static void take_some(struct io_uring *ring)
{
    struct io_uring_sq *sq = &ring->sq;
    unsigned end = sq->sqe_head;

    for (unsigned i = sq->sqe_head; i != sq->sqe_tail; i++) {
        struct io_uring_sqe sqe = sq->sqes[i & sq->ring_mask];

        if (takes(&sqe))
            take(&sqe, ring->ring_fd);
        else
            sq->sqes[end++ & sq->ring_mask] = sqe;
    }
    sq->sqe_tail = end;
}

static int submit_some(struct io_uring *ring)
{
    take_some(ring);
    return io_uring_submit(ring);
}

static int submit_some_and_wait(struct io_uring *ring, struct io_uring_cqe **cqe, unsigned count,
                                struct __kernel_timespec *ts, sigset_t *mask)
{
    take_some(ring);
    return io_uring_submit_and_wait_timeout(ring, cqe, count, ts, mask);
}

/* False: the kernel has no messages to rings (before Linux 5.18), or no rings. */
static bool start_ssd(void)
{
    static struct io_uring own;
    struct io_uring_probe *probe = io_uring_get_probe();
    bool has_messages = probe && io_uring_opcode_supported(probe, IORING_OP_MSG_RING);
    pthread_t thread;

    if (probe)
        io_uring_free_probe(probe);
    if (!has_messages || io_uring_queue_init(2, &own, 0) < 0)
        return false;
    if (pthread_create(&thread, NULL, be_ssd, &own) != 0)
        abort();
    pthread_detach(thread);
    return true;
}

/* --- a life ---------------------------------------------------------------------------------- */

static int no_ring(unsigned entries, struct io_uring *ring, struct io_uring_params *params)
{
    (void)entries, (void)ring, (void)params;
    return -ENOSYS;
}

void ssd_prepare(void)
{
    ssd_counts =
        mmap(NULL, sizeof *ssd_counts, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (ssd_counts == MAP_FAILED)
        abort();
}

static void replace_rings(void)
{
    can_fail = start_ssd();
    if (!can_fail)
        return;
    io_syscalls.ring_submit = submit_some;
    io_syscalls.ring_submit_and_wait = submit_some_and_wait;
}

void ssd_begin_life(bool has_ring, bool slow)
{
    is_backing_slow = slow;
    can_fail = true;
    io_syscalls.preadv2 = try_preadv2;
    io_syscalls.pwritev2 = try_pwritev2;
    io_syscalls.fdatasync = try_fdatasync;
    if (has_ring)
        replace_rings();
    else
        io_syscalls.ring_init = no_ring;
}

void ssd_find(const char *path)
{
    struct stat st;

    atomic_store(&tier_inode, stat(path, &st) == 0 ? st.st_ino : 0);
}

void ssd_forget(void)
{
    atomic_store(&tier_inode, 0);
}

bool ssd_is_there(void)
{
    return atomic_load(&tier_inode) != 0;
}

void ssd_fail(unsigned kinds, int calls)
{
    atomic_store(&faults_left, calls);
    atomic_store(&faults, kinds);
}

bool ssd_is_failing(void)
{
    return atomic_load(&faults) != 0;
}

void ssd_hang(bool does)
{
    atomic_store(&hangs, does);
}

bool ssd_can_fail(void)
{
    return can_fail;
}
