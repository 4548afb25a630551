/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test-host-io: own I/O of filters (who runs it, what it sees, what happens when the request that
 * started it is over), range locks, files, and the close that waits for all of it.
 */
#include "host-fixture.h"

#include <fcntl.h>
#include <sys/stat.h>

/* --- own I/O ------------------------------------------------------------------------------------
 */

struct reading {
    struct sluice_io io; /* first */
    struct probe *p;
    struct sluice_request *request;
    uint8_t data[4096];
    bool was_inside; /* done() came inside submit */
    pthread_t submitter, finisher;
    struct flag done;
    int32_t error;
    bool is_inside;
};

static void on_read(struct sluice_io *io, int32_t error)
{
    struct reading *r = (struct reading *)(void *)io;

    r->was_inside |= r->is_inside;
    r->finisher = pthread_self();
    r->error = error;
    if (r->request)
        sluice_resume(r->p->disk, r->request, sluice_pass());
    flag_raise(&r->done);
}

static int submit(struct reading *r)
{
    int e;

    r->io.op = SLUICE_OP_READ;
    r->io.origin = SLUICE_ORIGIN_FILTER;
    r->io.length = sizeof r->data;
    r->io.data = r->data;
    r->io.done = on_read;
    r->submitter = pthread_self();
    r->is_inside = true;
    e = sluice_io_submit(r->p->disk, &r->io);
    r->is_inside = false;
    return e;
}

static struct sluice_verdict defer_and_read(struct probe *p, struct sluice_request *request)
{
    struct reading *r = p->own;

    if (request->op != SLUICE_OP_WRITE)
        return sluice_pass();
    r->request = request;
    CHECK_EQ(submit(r), 0);
    return sluice_defer();
}

static void test_a_deferring_filter_reads_in_the_thread_of_the_guest(void)
{
    struct reading r = {.done = FLAG_INIT};
    struct probe p = {.start = defer_and_read, .own = &r};
    struct bench b = bench_open(&p);
    uint8_t data[4096];

    r.p = &p;
    memset(data, 0x5a, sizeof data);
    CHECK_EQ(guest(b.disk, SLUICE_OP_WRITE, 0, sizeof data, data), 0);
    CHECK_EQ(flag_count(&r.done), 1);
    CHECK(!r.was_inside);
    CHECK(pthread_equal(r.finisher, pthread_self()));
    CHECK_EQ(r.data[0], 0); /* before the write */
    bench_close(&b);
}

static struct sluice_verdict pass_and_read(struct probe *p, struct sluice_request *request)
{
    struct reading *r = p->own;

    if (request->op == SLUICE_OP_WRITE)
        CHECK_EQ(submit(r), 0);
    return sluice_pass();
}

static void test_a_request_is_not_kept_for_io_that_nobody_waits_for(void)
{
    struct reading r = {.done = FLAG_INIT};
    struct probe p = {.start = pass_and_read, .own = &r};
    struct bench b = bench_open(&p);
    uint8_t data[4096] = {1};

    r.p = &p;
    CHECK_EQ(guest(b.disk, SLUICE_OP_WRITE, 0, sizeof data, data), 0);
    flag_wait(&r.done, 1); /* this thread runs nothing any more: somebody else did */
    CHECK(!pthread_equal(r.finisher, pthread_self()));
    CHECK_EQ(r.error, 0);
    bench_close(&b);
}

/* Reads again and again, each from the done() of the one before, started by a guest's request. */
struct pump {
    struct reading reading;
    _Atomic unsigned left;
};

static void on_pumped(struct sluice_io *io, int32_t error)
{
    struct pump *pump = (struct pump *)(void *)io;

    CHECK_EQ(error, 0);
    if (atomic_fetch_sub(&pump->left, 1) == 1) {
        flag_raise(&pump->reading.done);
        return;
    }
    CHECK_EQ(sluice_io_submit(pump->reading.p->disk, io), 0);
}

static struct sluice_verdict start_pump(struct probe *p, struct sluice_request *request)
{
    struct pump *pump = p->own;

    if (request->op == SLUICE_OP_WRITE && request->offset == 0) {
        pump->reading.io = (struct sluice_io){.op = SLUICE_OP_READ,
                                              .origin = SLUICE_ORIGIN_FILTER,
                                              .length = 512,
                                              .data = pump->reading.data,
                                              .done = on_pumped};
        CHECK_EQ(sluice_io_submit(p->disk, &pump->reading.io), 0);
    }
    return sluice_pass();
}

static void test_background_io_started_by_a_request_does_not_hold_its_worker(void)
{
    struct pump pump = {.reading.done = FLAG_INIT, .left = 20000};
    struct probe p = {.start = start_pump, .own = &pump};
    struct bench b = bench_open(&p);
    uint8_t data[512] = {1};

    pump.reading.p = &p;
    CHECK_EQ(guest(b.disk, SLUICE_OP_WRITE, 0, sizeof data, data), 0);
    CHECK(atomic_load(&pump.left) > 0);
    flag_wait(&pump.reading.done, 1);
    bench_close(&b);
}

static struct sluice_verdict wait_in_callback(struct probe *p, struct sluice_request *request)
{
    struct reading *r = p->own;

    if (request->op == SLUICE_OP_WRITE) {
        r->io = (struct sluice_io){.op = SLUICE_OP_READ, .length = 512, .data = r->data};
        r->error = sluice_io_wait(p->disk, &r->io);
    }
    return sluice_pass();
}

static void test_waiting_in_a_callback_is_refused(void)
{
    struct reading r = {.error = 0};
    struct probe p = {.start = wait_in_callback, .own = &r};
    struct bench b = bench_open(&p);
    uint8_t data[512] = {1};

    CHECK_EQ(guest(b.disk, SLUICE_OP_WRITE, 0, sizeof data, data), 0);
    CHECK_EQ(r.error, -EDEADLK);
    bench_close(&b);
}

/* The upper probe makes I/O, the lower one sees it; a request of the guest passes both. */
static struct sluice_verdict note_origin(struct probe *p, struct sluice_request *request)
{
    unsigned *seen = p->own;

    if (request->op == SLUICE_OP_READ)
        seen[request->origin]++;
    return sluice_pass();
}

static void test_own_io_enters_below_its_maker(void)
{
    unsigned above[SLUICE_ORIGIN_COUNT] = {0}, below[SLUICE_ORIGIN_COUNT] = {0};
    struct probe p[2] = {{.start = note_origin, .own = above},
                         {.start = note_origin, .own = below}};
    struct disk *disk = fixture_disk("d", NULL);
    struct station *stations[2];
    uint8_t data[512];
    struct sluice_io io = {
        .op = SLUICE_OP_READ, .origin = SLUICE_ORIGIN_RESYNC, .length = 512, .data = data};

    stations[0] = fixture_probe(disk, &p[0], "above");
    stations[1] = fixture_probe(disk, &p[1], "below");
    CHECK_EQ(sluice_io_wait(p[0].disk, &io), -ESHUTDOWN); /* not in the chain yet */
    fixture_chain(disk, stations, 2);
    CHECK_EQ(sluice_io_wait(p[0].disk, &io), 0);
    CHECK_EQ(guest(disk, SLUICE_OP_READ, 0, 512, data), 0);
    CHECK_EQ(sluice_io_wait(p[1].disk, &io), 0);
    CHECK_EQ(above[SLUICE_ORIGIN_RESYNC], 0);
    CHECK_EQ(below[SLUICE_ORIGIN_RESYNC], 1);
    CHECK_EQ(above[SLUICE_ORIGIN_GUEST], 1);
    CHECK_EQ(below[SLUICE_ORIGIN_GUEST], 1);
    fixture_chain(disk, NULL, 0);
    CHECK_EQ(sluice_io_wait(p[0].disk, &io), -ESHUTDOWN); /* nor any more */
    host_station_close(stations[0]);
    host_station_close(stations[1]);
    disk_close(disk);
}

static uint64_t described;

static void on_extent(struct sluice_io *io, uint64_t offset, uint64_t length, uint32_t type)
{
    (void)io, (void)type;
    CHECK_EQ(offset, described);
    described += length;
}

static void test_own_io_may_ask_for_extents_and_reports_errors(void)
{
    struct probe p = {.own = NULL};
    struct bench b = bench_open(&p);
    uint8_t data[512];
    struct sluice_io io = {.op = SLUICE_OP_EXTENTS, .length = DISK_BYTES, .on_extent = on_extent};
    struct sluice_io past = {
        .op = SLUICE_OP_READ, .offset = DISK_BYTES, .length = 512, .data = data};

    described = 0;
    CHECK_EQ(sluice_io_wait(p.disk, &io), 0);
    CHECK_EQ(described, DISK_BYTES);
    CHECK_EQ(sluice_io_wait(p.disk, &past), -EINVAL);
    bench_close(&b);
}

/* --- from all kinds of threads at once
 * ------------------------------------------------------------ */

#define STORM_THREADS 4
#define STORM_ROUNDS 300

struct storm {
    struct probe *p;
    unsigned index;
    struct flag done;
    _Atomic unsigned errors;
};

struct storm_io {
    struct sluice_io io; /* first */
    struct sluice_timer timer;
    struct sluice_work work;
    struct storm *storm;
    uint8_t data[512];
};

static void on_storm_done(struct sluice_io *io, int32_t error)
{
    struct storm_io *s = (struct storm_io *)(void *)io;
    struct storm *storm = s->storm;

    if (error)
        atomic_fetch_add(&storm->errors, 1);
    free(s);
    flag_raise(&storm->done);
}

static void storm_submit(struct storm_io *s)
{
    if (sluice_io_submit(s->storm->p->disk, &s->io) < 0)
        atomic_fetch_add(&s->storm->errors, 1);
}

static void on_storm_timer(struct sluice_timer *timer)
{
    storm_submit((struct storm_io *)(void *)((char *)timer - offsetof(struct storm_io, timer)));
}

static void on_storm_work(struct sluice_work *work)
{
    storm_submit((struct storm_io *)(void *)((char *)work - offsetof(struct storm_io, work)));
}

static struct storm_io *storm_io_make(struct storm *storm, unsigned i)
{
    struct storm_io *s = calloc(1, sizeof *s);

    s->storm = storm;
    s->io.op = i & 1 ? SLUICE_OP_READ : SLUICE_OP_WRITE;
    s->io.origin = SLUICE_ORIGIN_FILTER;
    s->io.offset = (storm->index * STORM_ROUNDS + i) * 512u;
    s->io.length = sizeof s->data;
    s->io.data = s->data;
    s->io.done = on_storm_done;
    s->timer.fire = on_storm_timer;
    s->work.run = on_storm_work;
    return s;
}

static void *storm_thread(void *arg)
{
    struct storm *storm = arg;

    for (unsigned i = 0; i < STORM_ROUNDS; i++) {
        struct storm_io *s = storm_io_make(storm, i);

        if (i % 3 == 0)
            storm_submit(s);
        else if (i % 3 == 1)
            sluice_timer_start(storm->p->disk, &s->timer, (i % 7) * 10000);
        else
            sluice_work_submit(storm->p->disk, &s->work);
    }
    flag_wait(&storm->done, STORM_ROUNDS);
    return NULL;
}

static void test_own_io_from_many_threads_ends_once_each(void)
{
    struct probe p = {.own = NULL};
    struct bench b = bench_open(&p);
    struct storm storm[STORM_THREADS];
    pthread_t threads[STORM_THREADS];
    json_t *status;

    for (unsigned i = 0; i < STORM_THREADS; i++) {
        storm[i] = (struct storm){.p = &p, .index = i, .done = FLAG_INIT};
        threads[i] = thread_run(storm_thread, &storm[i]);
    }
    for (unsigned i = 0; i < STORM_THREADS; i++) {
        pthread_join(threads[i], NULL);
        CHECK_EQ(flag_count(&storm[i].done), STORM_ROUNDS);
        CHECK_EQ(atomic_load(&storm[i].errors), 0);
    }
    status = host_station_status(b.station);
    CHECK_EQ(json_integer_value(json_object_get(json_object_get(status, "own_io"), "total")),
             STORM_THREADS * STORM_ROUNDS);
    CHECK_EQ(json_integer_value(json_object_get(json_object_get(status, "own_io"), "in_flight")),
             0);
    json_decref(status);
    bench_close(&b);
}

/* --- locks
 * ---------------------------------------------------------------------------------------- */

struct waited_lock {
    struct sluice_lock lock; /* first */
    struct flag granted;
};

static void on_granted(struct sluice_lock *lock)
{
    flag_raise(&((struct waited_lock *)(void *)lock)->granted);
}

struct writer {
    struct disk *disk;
    struct flag done;
};

static void *write_one(void *arg)
{
    struct writer *w = arg;
    uint8_t data[4096] = {9};

    CHECK_EQ(guest(w->disk, SLUICE_OP_WRITE, 8192, sizeof data, data), 0);
    flag_raise(&w->done);
    return NULL;
}

static void test_a_lock_keeps_guest_writes_and_other_locks_out(void)
{
    struct probe p = {.own = NULL};
    struct bench b = bench_open(&p);
    struct waited_lock first = {.lock = {.offset = 8192, .length = 4096, .granted = on_granted},
                                .granted = FLAG_INIT};
    struct waited_lock second = {.lock = {.offset = 4096, .length = 8192, .granted = on_granted},
                                 .granted = FLAG_INIT};
    struct writer w = {.disk = b.disk, .done = FLAG_INIT};
    struct sluice_io io = {.op = SLUICE_OP_WRITE, .offset = 8192, .length = 4096};
    uint8_t data[4096];
    pthread_t thread;

    sluice_lock_range(p.disk, &first.lock);
    CHECK_EQ(flag_count(&first.granted), 1);
    thread = thread_run(write_one, &w);
    sluice_lock_range(p.disk, &second.lock);
    CHECK_EQ(flag_count(&second.granted), 0);
    memset(data, 1, sizeof data);
    io.data = data;
    CHECK_EQ(sluice_io_wait(p.disk, &io), 0); /* own I/O takes no lock */
    CHECK_EQ(flag_count(&w.done), 0);
    sluice_unlock_range(p.disk, &first.lock);
    flag_wait(&second.granted, 1);
    sluice_unlock_range(p.disk, &second.lock);
    flag_wait(&w.done, 1);
    pthread_join(thread, NULL);
    bench_close(&b);
}

#define LOCKERS 4
#define LOCK_ROUNDS 500

struct locker {
    struct probe *p;
    unsigned seed;
    _Atomic int *owners; /* of each block */
};

static void *lock_storm(void *arg)
{
    struct locker *k = arg;

    for (unsigned i = 0; i < LOCK_ROUNDS; i++) {
        struct waited_lock w = {.granted = FLAG_INIT};
        unsigned first, count;

        k->seed = k->seed * 1103515245u + 12345u;
        first = (k->seed >> 16) % 12;
        count = 1 + (k->seed >> 24) % 4;
        w.lock.offset = first * 4096u;
        w.lock.length = count * 4096u;
        w.lock.granted = on_granted;
        sluice_lock_range(k->p->disk, &w.lock);
        flag_wait(&w.granted, 1);
        for (unsigned b = first; b < first + count; b++)
            CHECK_EQ(atomic_fetch_add(&k->owners[b], 1), 0);
        for (unsigned b = first; b < first + count; b++)
            atomic_fetch_sub(&k->owners[b], 1);
        sluice_unlock_range(k->p->disk, &w.lock);
    }
    return NULL;
}

static void test_locks_from_many_threads_exclude_each_other(void)
{
    struct probe p = {.own = NULL};
    struct bench b = bench_open(&p);
    struct locker lockers[LOCKERS];
    _Atomic int owners[16] = {0};
    pthread_t threads[LOCKERS];

    for (unsigned i = 0; i < LOCKERS; i++) {
        lockers[i] = (struct locker){.p = &p, .seed = i + 1, .owners = owners};
        threads[i] = thread_run(lock_storm, &lockers[i]);
    }
    for (unsigned i = 0; i < LOCKERS; i++)
        pthread_join(threads[i], NULL);
    bench_close(&b);
}

static void test_a_forgotten_lock_is_released_at_close(void)
{
    struct probe p = {.own = NULL};
    struct bench b = bench_open(&p);
    struct waited_lock w = {.lock = {.length = 4096, .granted = on_granted}, .granted = FLAG_INIT};
    uint8_t data[512] = {1};

    sluice_lock_range(p.disk, &w.lock);
    fixture_chain(b.disk, NULL, 0);
    host_station_close(b.station);
    CHECK_EQ(guest(b.disk, SLUICE_OP_WRITE, 0, sizeof data, data), 0);
    disk_close(b.disk);
}

/* --- files
 * ------------------------------------------------------------------------------------------ */

struct file_op {
    struct sluice_file_io io; /* first */
    struct flag done;
    int32_t error;
};

static void on_file_done(struct sluice_file_io *io, int32_t error)
{
    struct file_op *op = (struct file_op *)(void *)io;

    op->error = error;
    flag_raise(&op->done);
}

static int file_run_async(struct probe *p, struct sluice_file *file, unsigned kind, uint64_t offset,
                          void *data, uint64_t length)
{
    struct file_op op = {.io = {.op = (uint8_t)kind,
                                .offset = offset,
                                .length = length,
                                .data = data,
                                .done = on_file_done},
                         .done = FLAG_INIT};

    CHECK_EQ(sluice_file_submit(p->disk, file, &op.io), 0);
    flag_wait(&op.done, 1);
    return op.error;
}

static void test_files_of_a_filter(void)
{
    struct probe p = {.own = NULL};
    struct bench b = bench_open(&p);
    struct sluice_file *file = NULL, *again = NULL;
    struct err e = {0};
    struct sluice_error *error = (struct sluice_error *)(void *)&e;
    uint8_t data[4096], back[4096];
    struct sluice_file_io io = {.op = SLUICE_OP_READ, .length = sizeof back, .data = back};
    char path[300];

    CHECK_EQ(sluice_file_open(p.disk, "/nowhere/at/all", 0, 0, &file, error), -ENOENT);
    CHECK(e.text[0]);
    CHECK_EQ(
        sluice_file_open(p.disk, "tier", SLUICE_FILE_CREATE | SLUICE_FILE_LOCK, MIB, &file, error),
        0);
    CHECK_EQ(sluice_file_size(p.disk, file), MIB);
    memset(data, 0x77, sizeof data);
    CHECK_EQ(file_run_async(&p, file, SLUICE_OP_WRITE, 0, data, sizeof data), 0);
    CHECK_EQ(file_run_async(&p, file, SLUICE_OP_FLUSH, 0, NULL, 0), 0);
    CHECK_EQ(file_run_async(&p, file, SLUICE_OP_READ, 0, back, sizeof back), 0);
    CHECK(memcmp(data, back, sizeof data) == 0);
    CHECK_EQ(file_run_async(&p, file, SLUICE_OP_TRIM, 0, NULL, sizeof data), 0);
    CHECK_EQ(sluice_file_wait(p.disk, file, &io), 0);
    CHECK_EQ(back[0], 0);
    CHECK_EQ(file_run_async(&p, file, SLUICE_OP_EXTENTS, 0, NULL, 512), EINVAL);
    snprintf(path, sizeof path, "%s/tier", sluice_state_folder(p.disk));
    CHECK_EQ(access(path, F_OK), 0);
    sluice_file_close(p.disk, file);
    CHECK_EQ(sluice_file_open(p.disk, "tier", 0, 0, &again, error), 0);
    bench_close(&b); /* closes what was left open, and takes the temporary folder away */
    CHECK(access(path, F_OK) < 0);
}

/* --- close
 * -------------------------------------------------------------------------------------------- */

struct slow_close {
    struct reading reading;
    _Atomic bool was_done;
};

static void on_last_io_done(struct sluice_io *io, int32_t error)
{
    struct slow_close *s = (struct slow_close *)(void *)io;

    CHECK(error == 0 || error == ESHUTDOWN);
    atomic_store(&s->was_done, true);
}

struct slow_work {
    struct sluice_work work; /* first */
    struct probe *p;
    struct flag begun;
    _Atomic bool has_ended;
    struct sluice_timer timer;
};

/* Works until it sees that its instance is being closed: nothing new is let in any more. */
static void on_slow_work(struct sluice_work *work)
{
    struct slow_work *s = (struct slow_work *)(void *)work;
    int r;

    flag_raise(&s->begun);
    while ((r = sluice_timer_start(s->p->disk, &s->timer, UINT64_C(3600000000000))) == 0) {
        if (!sluice_timer_stop(s->p->disk, &s->timer)) { /* the close was faster */
            r = sluice_timer_start(s->p->disk, &s->timer, UINT64_C(3600000000000));
            break;
        }
        sched_yield();
    }
    CHECK_EQ(r, -ESHUTDOWN);
    atomic_store(&s->has_ended, true);
}

static void never(struct sluice_timer *timer)
{
    (void)timer;
    CHECK(!"a timer fired after its instance was closed");
}

static void check_ended(struct probe *p)
{
    struct slow_work *s = p->own;

    CHECK(atomic_load(&s->has_ended));
}

static void test_close_waits_for_what_is_under_way_and_lets_nothing_new_in(void)
{
    struct slow_work s = {.work.run = on_slow_work, .begun = FLAG_INIT, .timer.fire = never};
    struct sluice_timer far = {.fire = never};
    struct probe p = {.close = check_ended, .own = &s};
    struct bench b = bench_open(&p);

    s.p = &p;
    CHECK_EQ(sluice_timer_start(p.disk, &far, UINT64_C(3600000000000)), 0);
    CHECK_EQ(sluice_work_submit(p.disk, &s.work), 0);
    flag_wait(&s.begun, 1);
    fixture_chain(b.disk, NULL, 0);
    host_station_close(b.station);
    disk_close(b.disk);
}

static void test_close_waits_for_own_io(void)
{
    struct slow_close s = {.was_done = false};
    struct probe p = {.own = NULL};
    struct bench b = bench_open(&p);

    s.reading.io = (struct sluice_io){
        .op = SLUICE_OP_READ, .length = 4096, .data = s.reading.data, .done = on_last_io_done};
    for (unsigned i = 0; i < 50; i++) {
        atomic_store(&s.was_done, false);
        CHECK_EQ(sluice_io_submit(p.disk, &s.reading.io), 0);
        if (i < 49)
            while (!atomic_load(&s.was_done))
                sched_yield();
    }
    /* The last one may still be on its way, or come to a chain without its filter. */
    fixture_chain(b.disk, NULL, 0);
    host_station_close(b.station);
    CHECK(atomic_load(&s.was_done));
    disk_close(b.disk);
}

int main(void)
{
    fixture_begin(2);
    RUN(test_a_deferring_filter_reads_in_the_thread_of_the_guest);
    RUN(test_a_request_is_not_kept_for_io_that_nobody_waits_for);
    RUN(test_background_io_started_by_a_request_does_not_hold_its_worker);
    RUN(test_waiting_in_a_callback_is_refused);
    RUN(test_own_io_enters_below_its_maker);
    RUN(test_own_io_may_ask_for_extents_and_reports_errors);
    RUN(test_own_io_from_many_threads_ends_once_each);
    RUN(test_a_lock_keeps_guest_writes_and_other_locks_out);
    RUN(test_locks_from_many_threads_exclude_each_other);
    RUN(test_a_forgotten_lock_is_released_at_close);
    RUN(test_files_of_a_filter);
    RUN(test_close_waits_for_what_is_under_way_and_lets_nothing_new_in);
    RUN(test_close_waits_for_own_io);
    return fixture_end();
}
