/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test-file: what is read is what was written, however the system calls behave.
 *
 * One random sequence of all operations runs against a model in memory, from a worker, hurried or
 * not, and from a loop, buffered and direct, on a disk and in memory, with calls that come back
 * short, interrupted, refused or not there at all, and in chaos mode.  Smaller tests follow: which
 * way an operation goes, extents, space given back.
 */
#include "file-fixture.h"

#include <linux/falloc.h>
#include <sched.h>
#include <semaphore.h>
#include <sys/uio.h>

/* --- calls that misbehave ----------------------------------------------------------------- */

static struct io_syscalls good_calls;
static _Atomic unsigned call_serial;
static unsigned cut_to; /* transfers are cut to a multiple of this */

static bool is_interrupted(void)
{
    if (atomic_fetch_add(&call_serial, 1) % 5 != 3)
        return false;
    errno = EINTR;
    return true;
}

static struct iovec cut(const struct iovec *iov)
{
    size_t length = iov->iov_len / 2 / cut_to * cut_to;

    return (struct iovec){iov->iov_base, length ? length : iov->iov_len};
}

static ssize_t short_preadv2(int fd, const struct iovec *iov, int count, off_t offset, int flags)
{
    struct iovec shorter = cut(iov);

    (void)count;
    return is_interrupted() ? -1 : preadv2(fd, &shorter, 1, offset, flags);
}

static ssize_t short_pwritev2(int fd, const struct iovec *iov, int count, off_t offset, int flags)
{
    struct iovec shorter = cut(iov);

    (void)count;
    return is_interrupted() ? -1 : pwritev2(fd, &shorter, 1, offset, flags);
}

static int interrupted_fallocate(int fd, int mode, off_t offset, off_t length)
{
    return is_interrupted() ? -1 : fallocate(fd, mode, offset, length);
}

static int interrupted_fdatasync(int fd)
{
    return is_interrupted() ? -1 : fdatasync(fd);
}

static ssize_t plain_preadv2(int fd, const struct iovec *iov, int count, off_t offset, int flags)
{
    if (!flags)
        return preadv2(fd, iov, count, offset, 0);
    errno = EOPNOTSUPP;
    return -1;
}

static ssize_t plain_pwritev2(int fd, const struct iovec *iov, int count, off_t offset, int flags)
{
    if (!flags)
        return pwritev2(fd, iov, count, offset, 0);
    errno = EOPNOTSUPP;
    return -1;
}

static int no_fallocate(int fd, int mode, off_t offset, off_t length)
{
    (void)fd, (void)mode, (void)offset, (void)length;
    errno = EOPNOTSUPP;
    return -1;
}

static int no_zero_range(int fd, int mode, off_t offset, off_t length)
{
    return mode & FALLOC_FL_ZERO_RANGE ? no_fallocate(fd, mode, offset, length)
                                       : fallocate(fd, mode, offset, length);
}

static off_t no_lseek(int fd, off_t offset, int whence)
{
    (void)fd, (void)offset, (void)whence;
    errno = EINVAL;
    return -1;
}

static int no_ring(unsigned entries, struct io_uring *ring, struct io_uring_params *params)
{
    (void)entries, (void)ring, (void)params;
    return -EPERM;
}

static int old_ring(unsigned entries, struct io_uring *ring, struct io_uring_params *params)
{
    if (params->flags & IORING_SETUP_COOP_TASKRUN)
        return -EINVAL;
    return io_uring_queue_init_params(entries, ring, params);
}

static ssize_t never_cached_preadv2(int fd, const struct iovec *iov, int count, off_t offset,
                                    int flags)
{
    if (!(flags & RWF_NOWAIT))
        return preadv2(fd, iov, count, offset, flags);
    errno = EAGAIN;
    return -1;
}

static void in_good_world(void)
{
    io_syscalls = good_calls;
}

static void in_short_world(void)
{
    in_good_world();
    io_syscalls.preadv2 = short_preadv2;
    io_syscalls.pwritev2 = short_pwritev2;
    io_syscalls.fallocate = interrupted_fallocate;
    io_syscalls.fdatasync = interrupted_fdatasync;
}

static void in_old_world(void)
{
    in_good_world();
    io_syscalls.preadv2 = plain_preadv2;
    io_syscalls.pwritev2 = plain_pwritev2;
    io_syscalls.fallocate = no_fallocate;
    io_syscalls.lseek = no_lseek;
    io_syscalls.ring_init = no_ring;
}

static void in_cold_world(void)
{
    in_good_world();
    io_syscalls.preadv2 = never_cached_preadv2;
    io_syscalls.ring_init = old_ring;
    io_syscalls.fallocate = no_zero_range;
}

static void in_chaos(void)
{
    in_good_world();
    io_set_chaos(20250101);
}

static const struct world {
    const char *name;
    void (*begin)(void);
} worlds[] = {
    {"good", in_good_world}, {"short and interrupted", in_short_world},
    {"old", in_old_world},   {"cold", in_cold_world},
    {"chaos", in_chaos},
};

/* A ring is made at first use, so another world needs another loop. */
static void enter_world(const struct world *world)
{
    struct err e;

    loop_destroy(test_loop);
    io_set_chaos(0);
    world->begin();
    test_loop = loop_create("test", &e);
    if (!test_loop)
        abort();
}

/* --- the model ---------------------------------------------------------------------------- */

#define MODEL_BYTES (2 * MIB)
#define MODEL_STEPS 250

static uint8_t model[MODEL_BYTES];
static _Alignas(4096) uint8_t buffer[MODEL_BYTES + 4096];
static uint32_t random_state;

static uint32_t random_below(uint32_t limit)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 17;
    random_state ^= random_state << 5;
    return random_state % limit;
}

struct step {
    enum place place;
    struct file *file;
    uint64_t offset, length;
    uint32_t flags;
    uint8_t *data;
};

/* Mostly small, sometimes larger than every threshold; memory is unaligned now and then. */
static struct step random_step(struct file *file)
{
    static const uint32_t sizes[] = {1, 4096, 70000, 300000, MODEL_BYTES};
    unsigned block = file_block_size(file);
    uint32_t most = sizes[random_below(ARRAY_SIZE(sizes))];
    uint64_t offset = random_below(MODEL_BYTES) / block * block;
    uint64_t length = (1 + random_below(most) + block - 1) / block * block;

    return (struct step){
        .place = places[random_below(ARRAY_SIZE(places))],
        .file = file,
        .offset = offset,
        .length = MIN(length, MODEL_BYTES - offset),
        .flags = random_below(4) ? 0 : IO_FUA,
        .data = buffer + (random_below(3) ? 0 : 1 + random_below(4095)),
    };
}

static void step_read(const struct step *s)
{
    memset(s->data, 0x5a, s->length);
    CHECK_EQ(read_at(s->place, s->file, s->offset, s->length, s->data), 0);
    CHECK(memcmp(s->data, model + s->offset, s->length) == 0);
}

static void step_write(const struct step *s)
{
    for (uint64_t i = 0; i < s->length; i++)
        s->data[i] = (uint8_t)random_below(255) + 1;
    CHECK_EQ(write_at(s->place, s->file, s->flags, s->offset, s->length, s->data), 0);
    memcpy(model + s->offset, s->data, s->length);
}

static void step_trim(const struct step *s)
{
    CHECK_EQ(change_at(s->place, s->file, IO_TRIM, s->flags, s->offset, s->length), 0);
    memset(model + s->offset, 0, s->length);
}

static void step_zero(const struct step *s)
{
    uint32_t flags =
        s->flags | (random_below(2) ? IO_NO_HOLE : 0) | (random_below(3) ? 0 : IO_FAST_ONLY);
    int r = change_at(s->place, s->file, IO_ZERO, flags, s->offset, s->length);

    CHECK(r == 0 || (r == -ENOTSUP && (flags & IO_FAST_ONLY)));
    if (r == 0)
        memset(model + s->offset, 0, s->length);
}

/* Whatever is called a hole must be zeros. */
static void step_extents(const struct step *s)
{
    struct extents x = {.first_only = random_below(4) == 0};
    uint64_t at = s->offset;

    CHECK_EQ(extents_at(s->place, s->file, &x, s->offset, s->length), 0);
    CHECK(x.count >= 1);
    CHECK(x.first_only || x.covered == s->length || x.count == EXTENTS_MAX);
    for (unsigned i = 0; i < x.count; at += x.list[i++].length)
        for (uint64_t j = 0; (x.list[i].type & EXTENT_ZERO) && j < x.list[i].length; j++)
            if (model[at + j])
                CHECK(!"a hole that is not zero");
    CHECK_EQ(at, s->offset + x.covered);
    extents_free(&x);
}

static void step_prefetch(const struct step *s)
{
    CHECK_EQ(change_at(s->place, s->file, IO_PREFETCH, 0, s->offset, s->length), 0);
}

static void step_flush(const struct step *s)
{
    CHECK_EQ(flush(s->place, s->file), 0);
}

static void (*const steps[])(const struct step *s) = {
    step_read, step_read, step_write,   step_write,    step_write,
    step_trim, step_zero, step_extents, step_prefetch, step_flush,
};

static void walk_against_model(struct file_options options, uint32_t seed)
{
    struct file *file = new_file("model", MODEL_BYTES, options);

    if (!file)
        return; /* the reason was printed: no O_DIRECT here */
    random_state = seed;
    cut_to = options.direct ? 4096 : 1;
    memset(model, 0, sizeof model);
    for (int i = 0; i < MODEL_STEPS; i++) {
        struct step s = random_step(file);

        steps[random_below(ARRAY_SIZE(steps))](&s);
    }
    CHECK_EQ(flush(FROM_WORKER, file), 0);
    CHECK_EQ(read_at(FROM_WORKER, file, 0, MODEL_BYTES, buffer), 0);
    CHECK(memcmp(buffer, model, MODEL_BYTES) == 0);
    file_close(file);
}

static void test_what_is_read_is_what_was_written(void)
{
    for (size_t w = 0; w < ARRAY_SIZE(worlds); w++) {
        fprintf(stderr, "#   world: %s\n", worlds[w].name);
        enter_world(&worlds[w]);
        walk_against_model((struct file_options){0}, 1 + (uint32_t)w);
        walk_against_model((struct file_options){.direct = true}, 101 + (uint32_t)w);
    }
    enter_world(&worlds[0]);
}

/* --- many at once ------------------------------------------------------------------------- */

#define MANY 1500 /* more than the ring takes */

static void test_more_than_the_ring_takes_goes_to_the_pool(void)
{
    static struct op ops[MANY];
    struct file *file = new_file("many", MANY * 4 * KIB, (struct file_options){.direct = true});
    uint8_t *data = aligned_alloc(4096, MANY * 4096);
    unsigned wrong = 0;

    if (!file || !data) {
        free(data);
        return; /* the reason was printed: no O_DIRECT here */
    }
    for (unsigned i = 0; i < MANY; i++)
        memset(data + i * 4096, (int)(i % 255) + 1, 4096);
    for (int pass = 0; pass < 2; pass++) {
        for (unsigned i = 0; i < MANY; i++)
            op_begin(&ops[i], FROM_LOOP, file,
                     (struct io){.kind = pass ? IO_READ : IO_WRITE,
                                 .flags = pass || i % 64 ? 0 : IO_FUA,
                                 .offset = i * 4096,
                                 .length = 4096,
                                 .data = data + i * 4096});
        for (unsigned i = 0; i < MANY; i++)
            CHECK_EQ(op_end(&ops[i]), 0);
        for (unsigned i = 0; i < MANY; i++)
            wrong += data[i * 4096] != (i % 255) + 1 || data[i * 4096 + 4095] != (i % 255) + 1;
        CHECK_EQ(wrong, 0);
        if (!pass)
            memset(data, 0, MANY * 4096);
    }
    free(data);
    file_close(file);
}

static sem_t sync_may_end;
static _Atomic unsigned syncs_made;

static int held_fdatasync(int fd)
{
    atomic_fetch_add(&syncs_made, 1);
    sem_wait(&sync_may_end);
    sem_post(&sync_may_end);
    return fdatasync(fd);
}

static void note_submitted(struct task *task)
{
    (void)task;
    sem_post(&sync_may_end);
}

static void test_flushes_of_a_loop_share_a_sync(void)
{
    static struct op ops[100];
    struct task behind_them = {NULL, note_submitted};
    struct file *file = new_file("shared", MIB, (struct file_options){0});

    if (!file)
        abort();
    sem_init(&sync_may_end, 0, 0);
    io_syscalls.fdatasync = held_fdatasync;
    for (unsigned i = 0; i < ARRAY_SIZE(ops); i++)
        op_begin(&ops[i], FROM_LOOP, file, (struct io){.kind = IO_FLUSH});
    home_post(loop_home(test_loop), &behind_them);
    for (unsigned i = 0; i < ARRAY_SIZE(ops); i++)
        CHECK_EQ(op_end(&ops[i]), 0);
    CHECK(syncs_made >= 1 && syncs_made <= 2); /* the second for those who came during the first */
    in_good_world();
    file_close(file);
}

/* --- which way ---------------------------------------------------------------------------- */

static void test_a_worker_is_never_answered_pending(void)
{
    struct file *file = new_file("worker", MIB, (struct file_options){0});

    CHECK_EQ(write_at(FROM_WORKER, file, IO_FUA, 0, 512 * KIB, buffer), 0);
    CHECK(!last_was_pending);
    CHECK_EQ(read_at(FROM_WORKER, file, 0, MIB, buffer), 0);
    CHECK(!last_was_pending);
    CHECK_EQ(flush(FROM_WORKER, file), 0);
    CHECK(!last_was_pending);
    file_close(file);
}

static unsigned blocking_reads;

static ssize_t cold_counted_preadv2(int fd, const struct iovec *iov, int count, off_t offset,
                                    int flags)
{
    blocking_reads += !(flags & RWF_NOWAIT);
    return never_cached_preadv2(fd, iov, count, offset, flags);
}

/* What may block is done when it waits, in its own thread. */
static void test_a_hurried_worker_puts_off_what_may_block(void)
{
    struct file *file = new_file("hurried", MIB, (struct file_options){0});
    struct op op;

    atomic_store(&file->avoid_inline_ticks, 0); /* the machine may have been slow */
    CHECK_EQ(write_at(FROM_HURRIED, file, 0, 0, 64 * KIB, buffer), 0);
    CHECK(!last_was_pending);
    CHECK_EQ(write_at(FROM_HURRIED, file, 0, 0, 256 * KIB + 1, buffer), 0);
    CHECK(last_was_pending);
    CHECK_EQ(write_at(FROM_HURRIED, file, IO_FUA, 0, 4096, buffer), 0);
    CHECK(last_was_pending);
    CHECK_EQ(flush(FROM_HURRIED, file), 0);
    CHECK(last_was_pending);
    CHECK_EQ(change_at(FROM_HURRIED, file, IO_TRIM, 0, 0, 4096), 0);
    CHECK(last_was_pending);
    CHECK_EQ(read_at(FROM_HURRIED, file, 4096, 4096, buffer), 0);
    CHECK(!last_was_pending || !file->is_in_memory); /* a disk may be asked anew at any time */
    file->is_in_memory = false;
    blocking_reads = 0;
    io_syscalls.preadv2 = cold_counted_preadv2;
    op_begin(&op, FROM_HURRIED, file, (struct io){.kind = IO_READ, .length = 4096, .data = buffer});
    CHECK(op.was_pending);
    CHECK_EQ(blocking_reads, 0);
    CHECK_EQ(op_end(&op), 0);
    CHECK_EQ(blocking_reads, 1);
    in_good_world();
    file_close(file);
}

/* Without a disk below everything small is inline: then there is nothing to see here. */
static void test_a_loop_blocks_for_nothing_but_small_writes(void)
{
    struct file *file = new_file("loop", 4 * MIB, (struct file_options){0});

    CHECK_EQ(write_at(FROM_LOOP, file, 0, 0, 256 * KIB, buffer), 0);
    CHECK(!last_was_pending);
    CHECK_EQ(read_at(FROM_LOOP, file, 0, 64 * KIB, buffer), 0);
    CHECK(!last_was_pending);
    atomic_store(&file->avoid_inline_ticks, 0); /* the machine may have been slow */
    CHECK_EQ(write_at(FROM_LOOP, file, 0, 0, 256 * KIB + 1, buffer), 0);
    CHECK(last_was_pending);
    CHECK_EQ(write_at(FROM_LOOP, file, IO_FUA, 0, 4 * KIB, buffer), 0);
    CHECK(last_was_pending);
    CHECK_EQ(flush(FROM_LOOP, file), 0);
    CHECK(last_was_pending);
    CHECK_EQ(change_at(FROM_LOOP, file, IO_TRIM, 0, 0, 4 * KIB), 0);
    CHECK(last_was_pending);
    CHECK_EQ(change_at(FROM_LOOP, file, IO_ZERO, 0, 1, 0), 0);
    CHECK(!last_was_pending); /* nothing to do */
    file_close(file);
}

/* What the kernel is to say of its pages: so many bytes until it makes writers wait. */
static void set_room(uint64_t bytes)
{
    unsigned long long room = bytes / (uint64_t)sysconf(_SC_PAGESIZE);
    FILE *f = fopen(in_folder("vmstat"), "w");
    static char path[4200];

    if (!f)
        abort();
    fprintf(f, "nr_free_pages 7\nnr_dirty 100\nnr_writeback 200\nnr_dirty_threshold %llu\n",
            400 + room);
    fprintf(f, "nr_dirty_background_threshold %llu\nnr_free 9\n", 200 + room);
    fclose(f);
    snprintf(path, sizeof path, "%s", in_folder("vmstat"));
    io_syscalls.vmstat_path = path;
}

/* Writes of 64 KiB from the loop until one goes to the pool, or 4000. */
static unsigned write_until_pending(struct file *file)
{
    unsigned writes = 0;

    do {
        atomic_store(&file->avoid_inline_ticks, 0); /* the machine may be slow */
        CHECK_EQ(write_at(FROM_LOOP, file, 0, 0, 64 * KIB, buffer), 0);
        writes++;
    } while (!last_was_pending && writes < 4000);
    return writes;
}

static void test_inline_writes_stop_at_the_dirty_budget(void)
{
    struct file *file = new_file("budget", MIB, (struct file_options){0});

    set_room(0);
    if (!file->is_in_memory) {
        CHECK_EQ(write_until_pending(file), 1025);
        CHECK_EQ(write_until_pending(file), 1);
        CHECK_EQ(flush(FROM_LOOP, file), 0);
        CHECK_EQ(write_until_pending(file), 1025);
    } else {
        CHECK_EQ(write_until_pending(file), 4000);
    }
    in_good_world();
    file_close(file);
}

/* The write that goes to the pool grants the next ones: a quarter of the room, but neither more
 * than the budget nor very little.  Where there is none, nobody looks again for a while. */
static void test_inline_writes_go_on_where_the_kernel_has_room(void)
{
    struct file *file = new_file("room", MIB, (struct file_options){0});
    uint64_t began;

    if (file->is_in_memory) {
        file_close(file);
        return;
    }
    set_room(4096 * MIB);
    CHECK_EQ(write_until_pending(file), 1025);
    CHECK_EQ(write_until_pending(file), 1025);
    set_room(4 * 100 * 64 * KIB);
    CHECK_EQ(write_until_pending(file), 1025);
    CHECK_EQ(write_until_pending(file), 101);
    set_room(4 * 63 * 64 * KIB);
    began = clock_now_ns();
    CHECK_EQ(write_until_pending(file), 101);
    CHECK(atomic_load(&file->look_ns) >= began + UINT64_C(100000000));
    CHECK_EQ(write_until_pending(file), 1);
    set_room(4096 * MIB);
    atomic_store(&file->look_ns, UINT64_MAX - 1);
    CHECK_EQ(write_until_pending(file), 1);
    CHECK_EQ(write_until_pending(file), 1);
    atomic_store(&file->look_ns, clock_now_ns());
    CHECK_EQ(write_until_pending(file), 1);
    io_syscalls.vmstat_path = "/nowhere";
    CHECK_EQ(write_until_pending(file), 1025);
    CHECK_EQ(write_until_pending(file), 1);
    in_good_world();
    file_close(file);
}

static ssize_t slow_pwritev2(int fd, const struct iovec *iov, int count, off_t offset, int flags)
{
    uint64_t began = clock_now_ns();

    while (clock_now_ns() - began < 10000000)
        ;
    return pwritev2(fd, iov, count, offset, flags);
}

/* For 20 times what it took, and no longer. */
static void test_a_slow_inline_write_sends_the_next_to_the_pool(void)
{
    struct file *file = new_file("slow", MIB, (struct file_options){0});
    uint64_t began = clock_ticks(), ended, until;

    io_syscalls.pwritev2 = slow_pwritev2;
    CHECK_EQ(write_at(FROM_LOOP, file, 0, 0, 4 * KIB, buffer), 0);
    CHECK(!last_was_pending);
    in_good_world();
    ended = clock_ticks();
    until = atomic_load(&file->avoid_inline_ticks);
    CHECK(clock_ticks_to_ns(until - began) >= 21 * UINT64_C(10000000) - 1000);
    CHECK(until <= ended + 20 * (ended - began));
    atomic_store(&file->avoid_inline_ticks, UINT64_MAX); /* the machine may be slow */
    CHECK_EQ(write_at(FROM_LOOP, file, 0, 0, 4 * KIB, buffer), 0);
    CHECK(last_was_pending != file->is_in_memory);
    file_close(file);
}

static atomic_bool disk_answers;

static int hanging_fdatasync(int fd)
{
    while (!atomic_load(&disk_answers))
        sched_yield();
    return fdatasync(fd);
}

static void *sync_in_thread(void *file)
{
    return file_sync(file) < 0 ? file : NULL;
}

/* A disk that does not answer: what a loop writes into the page cache may wait for it soon. */
static void test_no_inline_write_while_a_sync_takes_long(void)
{
    struct file *file = new_file("hangs", MIB, (struct file_options){0});
    uint64_t began;
    void *failed;
    pthread_t thread;

    if (file->is_in_memory) {
        file_close(file);
        return;
    }
    atomic_store(&disk_answers, false);
    io_syscalls.fdatasync = hanging_fdatasync;
    began = clock_now_ns();
    pthread_create(&thread, NULL, sync_in_thread, file);
    do {
        atomic_store(&file->avoid_inline_ticks, 0); /* the machine may be slow */
        atomic_store(&file->synced_bytes, atomic_load(&file->written_bytes)); /* the budget lasts */
        CHECK_EQ(write_at(FROM_LOOP, file, 0, 0, 4 * KIB, buffer), 0);
    } while (!last_was_pending && clock_now_ns() - began < UINT64_C(20000000000));
    CHECK(last_was_pending);
    CHECK(clock_now_ns() - began >= 99000000); /* by another clock */
    atomic_store(&disk_answers, true);
    pthread_join(thread, &failed);
    CHECK(!failed);
    in_good_world();
    atomic_store(&file->avoid_inline_ticks, 0);
    atomic_store(&file->synced_bytes, atomic_load(&file->written_bytes));
    CHECK_EQ(write_at(FROM_LOOP, file, 0, 0, 4 * KIB, buffer), 0);
    CHECK(!last_was_pending);
    file_close(file);
}

static void test_chaos_answers_workers_pending_now_and_then(void)
{
    struct file *file = new_file("chaos", MIB, (struct file_options){0});
    unsigned pending = 0;

    io_set_chaos(7);
    for (int i = 0; i < 200; i++) {
        CHECK_EQ(write_at(FROM_WORKER, file, 0, 0, 4 * KIB, buffer), 0);
        pending += last_was_pending;
    }
    io_set_chaos(0);
    CHECK(pending > 50 && pending < 150);
    file_close(file);
}

/* --- the end of the file ------------------------------------------------------------------ */

static void test_a_file_cut_short_by_another_is_an_error(void)
{
    struct file *file = new_file("cut", MIB, (struct file_options){0});

    CHECK_EQ(truncate(in_folder("cut"), 512 * KIB), 0);
    for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
        CHECK_EQ(read_at(places[i], file, 500 * KIB, 24 * KIB, buffer), -EIO);
        CHECK_EQ(read_at(places[i], file, 600 * KIB, 300 * KIB, buffer), -EIO);
    }
    file_close(file);
}

/* --- extents and space -------------------------------------------------------------------- */

static uint64_t allocated(struct file *file)
{
    struct stat st;

    CHECK_EQ(fstat(file_descriptor(file), &st), 0);
    return (uint64_t)st.st_blocks * 512;
}

static void test_extents_tell_holes_from_data(void)
{
    struct file *file = new_file("extents", 4 * MIB, (struct file_options){0});
    struct extents x = {0};

    CHECK_EQ(write_at(FROM_WORKER, file, IO_FUA, MIB, 64 * KIB, memset(buffer, 1, 64 * KIB)), 0);
    for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
        CHECK_EQ(extents_at(places[i], file, &x, 512 * KIB, 2 * MIB), 0);
        CHECK_EQ(x.count, 3);
        CHECK_EQ(x.list[0].length, 512 * KIB);
        CHECK_EQ(x.list[0].type, EXTENT_HOLE | EXTENT_ZERO);
        CHECK_EQ(x.list[1].length, 64 * KIB);
        CHECK_EQ(x.list[1].type, 0);
        CHECK_EQ(x.covered, 2 * MIB);
        CHECK_EQ(extents_at(places[i], file, &x, MIB, 4 * KIB), 0);
        CHECK_EQ(x.count, 1);
        CHECK_EQ(x.list[0].type, 0);
    }
    x.first_only = true;
    CHECK_EQ(extents_at(FROM_WORKER, file, &x, 0, 4 * MIB), 0);
    CHECK_EQ(x.count, 1);
    CHECK_EQ(x.covered, MIB);
    io_syscalls.lseek = no_lseek;
    CHECK_EQ(extents_at(FROM_WORKER, file, &x, 0, 4 * MIB), 0);
    in_good_world();
    CHECK_EQ(extents_at(FROM_WORKER, file, &x, 0, 4 * MIB), 0); /* all data from then on */
    CHECK_EQ(x.covered, 4 * MIB);
    CHECK_EQ(x.list[0].type, 0);
    extents_free(&x);
    file_close(file);
}

static void test_trim_gives_space_back_and_no_hole_keeps_it(void)
{
    struct file *file = new_file("space", 4 * MIB, (struct file_options){0});

    CHECK(file_can_trim(file));
    memset(buffer, 1, MIB);
    CHECK_EQ(write_at(FROM_WORKER, file, IO_FUA, 0, MIB, buffer), 0);
    CHECK(allocated(file) >= MIB);
    CHECK_EQ(change_at(FROM_WORKER, file, IO_ZERO, IO_NO_HOLE | IO_FUA, 0, MIB), 0);
    CHECK(allocated(file) >= MIB);
    CHECK_EQ(change_at(FROM_LOOP, file, IO_TRIM, IO_FUA, 0, MIB), 0);
    CHECK(allocated(file) < MIB);
    CHECK_EQ(file_size(file), 4 * MIB);
    io_syscalls.fallocate = no_fallocate;
    CHECK_EQ(change_at(FROM_WORKER, file, IO_ZERO, IO_FAST_ONLY, 0, MIB), -ENOTSUP);
    CHECK_EQ(change_at(FROM_WORKER, file, IO_ZERO, 0, 0, MIB), 0);
    CHECK(!file_can_trim(file));
    in_good_world();
    file_close(file);
}

/* Once on a disk, once in memory, where other calls are missing. */
static void run_all(const char *under)
{
    begin_file_tests(under);
    RUN(test_what_is_read_is_what_was_written);
    RUN(test_more_than_the_ring_takes_goes_to_the_pool);
    RUN(test_flushes_of_a_loop_share_a_sync);
    RUN(test_a_worker_is_never_answered_pending);
    RUN(test_a_hurried_worker_puts_off_what_may_block);
    RUN(test_a_loop_blocks_for_nothing_but_small_writes);
    RUN(test_inline_writes_stop_at_the_dirty_budget);
    RUN(test_inline_writes_go_on_where_the_kernel_has_room);
    RUN(test_a_slow_inline_write_sends_the_next_to_the_pool);
    RUN(test_no_inline_write_while_a_sync_takes_long);
    RUN(test_chaos_answers_workers_pending_now_and_then);
    RUN(test_a_file_cut_short_by_another_is_an_error);
    RUN(test_extents_tell_holes_from_data);
    RUN(test_trim_gives_space_back_and_no_hole_keeps_it);
    end_file_tests();
}

int main(void)
{
    good_calls = io_syscalls;
    run_all(temporary_folder());
    if (access("/dev/shm", W_OK) == 0) {
        fprintf(stderr, "# in memory\n");
        syncs_made = 0;
        run_all("/dev/shm");
    }
    return unit_result();
}
