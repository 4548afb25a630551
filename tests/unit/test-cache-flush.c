/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test-cache-flush: what the cache asks of its tier for writes and flushes, counted where the
 * gateway hands it to the kernel.  Where each write has a flush of its own, the write is made as
 * durable and the flush costs nothing; where several share one, only the flush is.
 */
#include "host-fixture.h"
#include "io/syscalls.h"

#include <liburing.h>

const struct sluice_filter *sluice_filter_table(void);

static _Atomic unsigned durable, plain, synced; /* writes, writes, syncs */

static int count_and_wait(struct io_uring *ring, struct io_uring_cqe **cqe, unsigned count,
                          struct __kernel_timespec *ts, sigset_t *mask)
{
    for (unsigned i = ring->sq.sqe_head; i != ring->sq.sqe_tail; i++) {
        const struct io_uring_sqe *sqe = &ring->sq.sqes[i & ring->sq.ring_mask];

        if (sqe->opcode == IORING_OP_WRITE)
            atomic_fetch_add(sqe->rw_flags & RWF_DSYNC ? &durable : &plain, 1);
        else if (sqe->opcode == IORING_OP_FSYNC)
            atomic_fetch_add(&synced, 1);
    }
    return io_uring_submit_and_wait_timeout(ring, cqe, count, ts, mask);
}

/* So much was asked for since the last call. */
static bool was_asked(const char *what, unsigned durable_writes, unsigned plain_writes,
                      unsigned syncs)
{
    unsigned d = atomic_exchange(&durable, 0), w = atomic_exchange(&plain, 0),
             s = atomic_exchange(&synced, 0);
    bool is_so = d == durable_writes && w == plain_writes && s == syncs;

    if (!is_so)
        fprintf(stderr, "# %s: %u durable writes, %u others, %u syncs\n", what, d, w, s);
    return is_so;
}

static void ask(struct disk *disk, unsigned op, uint32_t flags)
{
    static _Alignas(4096) uint8_t data[4096];
    static const struct sluice_client client = {
        .front_end = "test", .address = "", .initiator = ""};
    static uint64_t at;
    struct request *r = request_new(disk_engine(disk), &client);
    bool is_flush = op == SLUICE_OP_FLUSH;

    at = (at + 4096) % (DISK_BYTES / 2);
    request_fill(r, op, flags, is_flush ? 0 : at, is_flush ? 0 : sizeof data,
                 is_flush ? NULL : data);
    CHECK_EQ(request_execute(r), 0);
    request_free(r);
}

static void write_and_flush(struct disk *disk, unsigned writes, unsigned times)
{
    for (unsigned t = 0; t < times; t++) {
        for (unsigned w = 0; w < writes; w++)
            ask(disk, SLUICE_OP_WRITE, 0);
        ask(disk, SLUICE_OP_FLUSH, 0);
    }
}

static bool is_as_it_should(struct disk *disk)
{
    bool is_so;

    write_and_flush(disk, 1, 2);
    was_asked("the beginning", 1, 1, 1);
    write_and_flush(disk, 1, 10);
    is_so = was_asked("a write and a flush", 10, 0, 0);
    ask(disk, SLUICE_OP_FLUSH, 0);
    write_and_flush(disk, 1, 1);
    is_so &= was_asked("a flush more", 1, 0, 0);
    for (unsigned i = 0; i < 3; i++)
        ask(disk, SLUICE_OP_WRITE, SLUICE_FLAG_FUA);
    is_so &= was_asked("FUA", 3, 0, 0);
    write_and_flush(disk, 3, 1);
    is_so &= was_asked("the first of several that share one", 1, 2, 1);
    write_and_flush(disk, 3, 1);
    is_so &= was_asked("several share one", 0, 3, 1);
    write_and_flush(disk, 1, 2);
    return is_so & was_asked("one each again", 1, 1, 1);
}

/* The space of a new tier is being written all the while. */
static void test_a_request_alone_goes_the_shortest_way_whatever_the_keeper_does(struct disk *disk)
{
    unsigned here;

    for (unsigned i = 0; i < 10; i++)
        ask(disk, SLUICE_OP_WRITE, 0);
    here = atomic_exchange(&durable, 0) + atomic_exchange(&plain, 0);
    CHECK(here >= 5); /* the keeper's own chunks are waited for with the others */
}

/* What the cache does by itself now and then takes other ways, and makes guests' take them. */
#define ATTEMPTS 100u
static void test_a_write_and_its_flush_are_one_operation(struct disk *disk)
{
    bool is_so = false;

    for (unsigned i = 0; i < ATTEMPTS && !is_so; i++)
        is_so = is_as_it_should(disk);
    CHECK(is_so);
}

static bool has_ring(void)
{
    struct io_uring ring;

    if (io_uring_queue_init(2, &ring, 0) < 0)
        return false;
    io_uring_queue_exit(&ring);
    return true;
}

int main(void)
{
    char word[320];
    const char *words[] = {word, "ssd.size=64MiB", "ram=1MiB", "destage.after=1h"};
    struct station *station;
    struct disk *disk;

    if (!has_ring()) {
        puts("no io_uring here");
        return 77;
    }
    fixture_begin(2);
    snprintf(word, sizeof word, "ssd.path=%s/tier", fixture_folder);
    disk = fixture_disk("flushes", NULL);
    station = fixture_open(disk, sluice_filter_table(), "cache", words, ARRAY_SIZE(words));
    fixture_chain(disk, &station, 1);
    io_syscalls.ring_submit_and_wait = count_and_wait;
    test_a_request_alone_goes_the_shortest_way_whatever_the_keeper_does(disk);
    test_a_write_and_its_flush_are_one_operation(disk);
    fixture_chain(disk, NULL, 0);
    host_station_close(station);
    disk_close(disk);
    return fixture_end();
}
