/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test-engine-storm: random deferral from other threads, cancels, quiesces and chain swaps under a
 * verifying load.  Writers own a range each and read back what they wrote; others race on partial
 * blocks of one block.  At the end nothing is in flight, no range is locked, nothing is held, and
 * every byte is what its last successful write made it.  Run under TSan; the first argument is the
 * time in seconds (default 2), the second the seed.
 */
#include "engine-fixture.h"

#include <time.h>

#define WRITERS 6
#define RANGE 65536u
#define SHARED_BLOCK (WRITERS * RANGE)
#define DISK_SIZE (SHARED_BLOCK + 4096u)
#define UNIT 512u
#define FILTERS 5
#define STRANGERS 2

static struct outsider strangers[STRANGERS];
static struct engine *engine;
static struct ram_backing *ram;
static struct station *stations[FILTERS];
static struct sluice_disk disks[FILTERS];
static _Atomic bool is_over;
static _Atomic uint64_t deferrals, resumes, refusals, cancels, swaps;
static unsigned seconds = 2;
static uint64_t first_seed = 1;

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static uint64_t *thread_random(void)
{
    static _Atomic uint64_t serial;
    static __thread uint64_t state;

    if (!state)
        state = (first_seed + atomic_fetch_add(&serial, 1)) * 0x9e3779b97f4a7c15u | 1;
    return &state;
}

static unsigned roll(unsigned sides)
{
    return (unsigned)(next_random(thread_random()) % sides);
}

/* --- a filter that does anything it may
 * ---------------------------------------------------------------- */

struct scratch {
    struct errand *errand; /* of a deferral that nobody has taken yet */
};

/*
 * A deferral on its way through a stranger.  Either he takes it, to resume it, or cancel does, to
 * let go; whoever comes second finds that.  The errand itself is the stranger's to free, the
 * scratch goes with the request: `lock` guards both sides, and is one of many so that it does not
 * order what the engine has to order itself.
 */
struct errand {
    struct task task;
    struct station *station;
    struct sluice_request *request;
    struct scratch *scratch;
    pthread_mutex_t *lock;
    bool is_cancelled; /* request and scratch may be gone */
};

#define LOCKS 61
static pthread_mutex_t locks[LOCKS];

static pthread_mutex_t *lock_of(const struct sluice_request *r)
{
    return &locks[r->id % LOCKS];
}

static struct sluice_verdict random_verdict(void)
{
    return roll(2) ? sluice_pass() : sluice_pass_and_tell();
}

static void resume_errand(struct task *task)
{
    struct errand *x = CONTAINER_OF(task, struct errand, task);
    bool is_mine;

    pthread_mutex_lock(x->lock);
    is_mine = !x->is_cancelled;
    if (is_mine)
        x->scratch->errand = NULL;
    pthread_mutex_unlock(x->lock);
    if (is_mine) {
        if (request_resume(x->station, x->request, random_verdict()))
            atomic_fetch_add(&resumes, 1);
        else
            atomic_fetch_add(&refusals, 1);
    }
    free(x);
}

static struct sluice_verdict wild_defer(struct station *s, struct sluice_request *r,
                                        struct scratch *scratch)
{
    struct errand *x = calloc(1, sizeof *x);

    x->station = s;
    x->request = r;
    x->scratch = scratch;
    x->lock = lock_of(r);
    x->task.run = resume_errand;
    scratch->errand = x;
    atomic_fetch_add(&deferrals, 1);
    stranger_do(&strangers[roll(STRANGERS)], &x->task);
    return sluice_defer();
}

static struct sluice_verdict wild_start(void *instance, struct sluice_request *r, void *scratch)
{
    struct station **s = instance;

    if (roll(4) == 0)
        return wild_defer(*s, r, scratch);
    return sluice_pass_and_tell();
}

static struct sluice_verdict wild_completion(void *instance, struct sluice_request *r,
                                             void *scratch)
{
    struct station **s = instance;

    if (roll(8) == 0)
        return wild_defer(*s, r, scratch);
    return sluice_pass();
}

static enum sluice_cancel_answer wild_cancel(void *instance, struct sluice_request *r,
                                             void *scratch)
{
    struct scratch *own = scratch;
    enum sluice_cancel_answer answer = SLUICE_CANCEL_BUSY;
    pthread_mutex_t *lock = lock_of(r);

    (void)instance;
    pthread_mutex_lock(lock);
    if (own->errand && roll(2)) {
        own->errand->is_cancelled = true;
        answer = SLUICE_CANCEL_RELEASED;
    }
    pthread_mutex_unlock(lock);
    return answer;
}

static const struct sluice_filter wild_filter = {
    .name = "wild",
    .scratch_bytes = sizeof(struct scratch),
    HANDLE_ALL(wild_start, wild_completion),
    .cancel = wild_cancel,
};

/* --- writers
 * -------------------------------------------------------------------------------------------------
 */

static int do_io(unsigned op, uint64_t offset, uint64_t length, void *data)
{
    struct request *r = request_new(engine, &test_client);
    struct sluice_request *pub = request_public(r);
    int error;

    pub->op = (uint8_t)op;
    pub->offset = offset;
    pub->length = length;
    pub->data = data;
    if (roll(2))
        error = request_execute(r);
    else
        error = request_begin(r) == IO_DONE ? request_error(r) : request_wait(r);
    request_free(r);
    return error;
}

static void *writer(void *arg)
{
    uint64_t base = (uint64_t)(uintptr_t)arg * RANGE;
    uint8_t *model = calloc(1, RANGE), *data = malloc(RANGE);

    while (!atomic_load(&is_over)) {
        uint32_t at = roll(RANGE - 1), length = 1 + roll(MIN(RANGE - at, 3000u));

        if (roll(3) == 0) {
            CHECK_EQ(do_io(SLUICE_OP_READ, base + at, length, data), 0);
            CHECK(memcmp(data, model + at, length) == 0);
        } else if (roll(6) == 0) {
            CHECK_EQ(do_io(SLUICE_OP_TRIM, base + at, length, NULL), 0);
            memset(model + at, 0, length);
        } else {
            memset(data, (int)roll(256), length);
            CHECK_EQ(do_io(SLUICE_OP_WRITE, base + at, length, data), 0);
            memcpy(model + at, data, length);
        }
    }
    CHECK_EQ(do_io(SLUICE_OP_READ, base, RANGE, data), 0);
    CHECK(memcmp(data, model, RANGE) == 0);
    free(model);
    free(data);
    return NULL;
}

/* All of them write into one 512-byte block, each its own 64 bytes: partial writes must not be
 * lost. */
static void *block_racer(void *arg)
{
    uint64_t at = SHARED_BLOCK + (uint64_t)(uintptr_t)arg * 64;
    uint8_t data[64], back[64];

    while (!atomic_load(&is_over)) {
        memset(data, (int)roll(256), sizeof data);
        CHECK_EQ(do_io(SLUICE_OP_WRITE, at, sizeof data, data), 0);
        CHECK_EQ(do_io(SLUICE_OP_READ, at, sizeof back, back), 0);
        CHECK(memcmp(data, back, sizeof data) == 0);
    }
    return NULL;
}

/* --- a non-blocking submitter that cancels
 * ------------------------------------------------------------------- */

struct flight {
    bool is_done;
    int error;
};

static void on_flight_done(struct request *r)
{
    struct flight *f = request_owner(r);

    f->error = request_error(r);
    f->is_done = true;
}

static void *canceller(void *unused)
{
    (void)unused;
    while (!atomic_load(&is_over)) {
        uint8_t data[512];
        struct flight f = {.is_done = false};
        struct request *r = request_new(engine, &test_client);
        struct sluice_request *pub = request_public(r);

        pub->op = SLUICE_OP_READ;
        pub->offset = roll(DISK_SIZE / 512) * 512u;
        pub->length = sizeof data;
        pub->data = data;
        request_set_done(r, on_flight_done, &f);
        if (request_submit(r) == IO_PENDING) {
            if (request_cancel(r, ECANCELED))
                atomic_fetch_add(&cancels, 1);
            home_wait(home_current(), &f.is_done);
            CHECK(f.error == 0 || f.error == ECANCELED);
        }
        request_free(r);
    }
    return NULL;
}

/* --- quiesce and swap
 * ------------------------------------------------------------------------------------------ */

static void shuffle(struct station **list)
{
    for (unsigned i = FILTERS - 1; i > 0; i--) {
        unsigned j = roll(i + 1);
        struct station *s = list[i];

        list[i] = list[j];
        list[j] = s;
    }
}

static void *swapper(void *unused)
{
    struct timespec pause = {.tv_nsec = 3000000};

    (void)unused;
    while (!atomic_load(&is_over)) {
        struct station *order[FILTERS];
        unsigned count = 1 + roll(FILTERS);

        memcpy(order, stations, sizeof order);
        shuffle(order);
        engine_gate_close(engine, GATE_QUIESCE | GATE_SWAP);
        CHECK_EQ(engine_drain(engine, clock_now_ns() + 20000000000u), 0);
        chain_destroy(engine_swap_chain(engine, chain_create(order, count, &ram->base)));
        engine_gate_open(engine, GATE_QUIESCE | GATE_SWAP);
        atomic_fetch_add(&swaps, 1);
        clock_nanosleep(CLOCK_MONOTONIC, 0, &pause,
                        NULL); /* lets the load run: the pace, not a wait */
    }
    return NULL;
}

static void *watcher(void *unused)
{
    struct timespec pause = {.tv_nsec = 1000000};

    (void)unused;
    while (!atomic_load(&is_over)) {
        engine_watch_tick(clock_now_ns());
        clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL); /* the tick */
    }
    return NULL;
}

/* --- main
 * -----------------------------------------------------------------------------------------------------------
 */

static void check_nothing_is_left(void)
{
    struct engine_counts n;

    engine_counts(engine, &n);
    CHECK_EQ(n.in_flight, 0);
    CHECK_EQ(n.held_at_gate, 0);
    for (unsigned i = 0; i < FILTERS; i++) {
        struct station_counts c;

        chain_station_counts(engine_chain(engine), stations[i], &c);
        CHECK_EQ(c.held_now, 0);
        CHECK_EQ(c.completed, 0);
        CHECK_EQ(c.failed, 0);
    }
}

static void test_storm(void)
{
    pthread_t threads[WRITERS + 8 + 4];
    struct timespec until;
    unsigned n = 0;

    for (unsigned i = 0; i < WRITERS; i++)
        pthread_create(&threads[n++], NULL, writer, (void *)(uintptr_t)i);
    for (unsigned i = 0; i < 8; i++)
        pthread_create(&threads[n++], NULL, block_racer, (void *)(uintptr_t)i);
    pthread_create(&threads[n++], NULL, canceller, NULL);
    pthread_create(&threads[n++], NULL, canceller, NULL);
    pthread_create(&threads[n++], NULL, swapper, NULL);
    pthread_create(&threads[n++], NULL, watcher, NULL);
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += seconds;
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL); /* the length of the storm */
    atomic_store(&is_over, true);
    while (n > 0)
        pthread_join(threads[--n], NULL);
    check_nothing_is_left();
    CHECK(atomic_load(&deferrals) > 100);
    CHECK(atomic_load(&cancels) > 0);
    CHECK(atomic_load(&swaps) > 10);
    fprintf(stderr, "# deferrals %ju, resumed %ju, refused %ju, cancelled %ju, swaps %ju\n",
            (uintmax_t)deferrals, (uintmax_t)resumes, (uintmax_t)refusals, (uintmax_t)cancels,
            (uintmax_t)swaps);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        seconds = (unsigned)atoi(argv[1]);
    if (argc > 2)
        first_seed = strtoull(argv[2], NULL, 0);
    ram = ram_create(DISK_SIZE, UNIT);
    atomic_store(&ram->is_async, true);
    for (unsigned i = 0; i < LOCKS; i++)
        pthread_mutex_init(&locks[i], NULL);
    for (unsigned i = 0; i < STRANGERS; i++)
        stranger_start(&strangers[i]);
    for (unsigned i = 0; i < FILTERS; i++)
        stations[i] = station_make(&wild_filter, &stations[i], "wild", &disks[i]);
    engine = engine_create("storm", chain_create(stations, FILTERS, &ram->base), DISK_SIZE,
                           &no_hooks, NULL);
    RUN(test_storm);
    engine_destroy(engine);
    for (unsigned i = 0; i < STRANGERS; i++)
        stranger_end(&strangers[i]);
    for (unsigned i = 0; i < FILTERS; i++)
        free(stations[i]);
    ram_destroy(ram);
    return unit_result();
}
