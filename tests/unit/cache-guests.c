/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * cache-guests.c: see the header.  One mutex guards the oracle and who is under way where; it is
 * held while a request is chosen and while its answer is judged, never while it runs.
 */
#include "cache-guests.h"

#include "oracle.h"
#include "sim.h" /* sim_violation(), which the oracle calls */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define WORKERS 3u
#define SLOTS 5u
#define GUESTS (WORKERS + SLOTS)
#define DATA_SECTORS_MOST 640u /* more than a chunk of the log, and than is kept of a read */
#define HOT_SECTORS 512u
#define CHUNK_BYTES (1u << 20)
#define TRIES 4u

struct guest {
    struct guests *all;
    unsigned op;
    uint32_t flags, first, count; /* sectors */
    uint32_t number;              /* a change's */
    bool is_busy, changes, is_cancelled;
    uint32_t
        note[MODEL_SECTORS]; /* of a read: the oldest it may return; of extents: the contents */
    uint8_t *data;
    uint64_t random;
    pthread_t thread;  /* workers */
    struct task begin; /* slots of the loop */
};

struct guests {
    struct disk *disk;
    struct sluice_client client;
    struct loop *loop;
    _Atomic bool must_stop;
    _Atomic uint32_t sectors;
    struct guest guest[GUESTS];
    pthread_mutex_t mutex;
    pthread_cond_t ended;
    unsigned running; /* slots; under the mutex */
};

struct model_counts *counts;
static pthread_mutex_t oracle_mutex = PTHREAD_MUTEX_INITIALIZER;
static _Atomic bool may_fail;

void guests_prepare(void)
{
    oracle_make(MODEL_SECTORS);
    counts = mmap(NULL, sizeof *counts, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (counts == MAP_FAILED)
        abort();
}

/* A child has a copy of it, in which it is free. */
void guests_begin_life(void)
{
    pthread_mutex_init(&oracle_mutex, NULL);
    atomic_store(&may_fail, false);
}

void guests_violation(const char *fmt, ...)
{
    va_list ap;

    if (atomic_fetch_add(&counts->violations, 1) > 20)
        return; /* they have been seen */
    fputs("VIOLATION: ", stderr);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
}

/* The oracle's way to say so. */
void sim_violation(const char *fmt, ...)
{
    char text[300];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    guests_violation("%s", text);
}

void guests_may_fail(void)
{
    atomic_store(&may_fail, true);
}

bool guests_are_failing(void)
{
    return atomic_load(&may_fail);
}

void guests_freeze(void)
{
    pthread_mutex_lock(&oracle_mutex);
}

/* --- what is asked for
 * ----------------------------------------------------------------------------- */

static uint32_t below(struct guest *g, uint32_t n)
{
    return kit_random(&g->random) % n;
}

static bool is_change(unsigned op)
{
    return op == SLUICE_OP_WRITE || op == SLUICE_OP_TRIM || op == SLUICE_OP_ZERO;
}

static void choose_op(struct guest *g)
{
    static const uint8_t rare[] = {SLUICE_OP_FLUSH, SLUICE_OP_FLUSH,   SLUICE_OP_TRIM,
                                   SLUICE_OP_ZERO,  SLUICE_OP_EXTENTS, SLUICE_OP_PREFETCH};
    static const uint32_t flags[SLUICE_OP_COUNT] = {
        [SLUICE_OP_WRITE] = SLUICE_FLAG_FUA,
        [SLUICE_OP_TRIM] = SLUICE_FLAG_FUA,
        [SLUICE_OP_ZERO] = SLUICE_FLAG_FUA | SLUICE_FLAG_NO_HOLE | SLUICE_FLAG_FAST_ONLY,
    };

    if (below(g, 6) == 0)
        g->op = rare[below(g, sizeof rare)];
    else
        g->op = below(g, 2) ? SLUICE_OP_WRITE : SLUICE_OP_READ;
    g->flags = below(g, 3) ? 0 : flags[g->op] & kit_random(&g->random);
}

/* Some of the disk is used more than the rest; most requests are whole blocks. */
static void choose_range(struct guest *g)
{
    uint32_t all = atomic_load(&g->all->sectors), unit = below(g, 4) ? 8 : 1;
    uint32_t area = below(g, 3) ? HOT_SECTORS : all;
    uint32_t most = below(g, 16) ? 24 : DATA_SECTORS_MOST;

    if ((g->op == SLUICE_OP_TRIM || g->op == SLUICE_OP_ZERO) && below(g, 8) == 0)
        most = all; /* more than stays in the log */
    g->first = below(g, area / unit) * unit;
    g->count = (1 + below(g, most / unit)) * unit;
    g->count = MIN(g->count, all - g->first);
    if (g->op == SLUICE_OP_FLUSH)
        g->first = g->count = 0;
}

static bool overlap(const struct guest *a, const struct guest *b)
{
    return a->first < b->first + b->count && b->first < a->first + a->count;
}

/* No change beside another.  And none may push out of the oracle's list what a read that is under
 * way could still return. */
static bool may_change(const struct guest *g)
{
    uint32_t contents = oracle_most_contents(g->first, g->count);

    for (unsigned i = 0; i < GUESTS; i++) {
        const struct guest *other = &g->all->guest[i];

        if (other->is_busy && overlap(g, other) &&
            (other->changes || (other->op == SLUICE_OP_READ && contents >= ORACLE_KEPT / 2)))
            return false;
    }
    return contents < ORACLE_KEPT;
}

static void choose(struct guest *g)
{
    for (unsigned i = 0; i < TRIES; i++) {
        choose_op(g);
        choose_range(g);
        g->changes = is_change(g->op);
        if (!g->changes || may_change(g))
            return;
    }
    g->op = SLUICE_OP_FLUSH;
    g->flags = g->first = g->count = 0;
    g->changes = false;
}

static void note(struct guest *g)
{
    if (g->changes)
        g->number = oracle_begin(g->first, g->count, g->op == SLUICE_OP_WRITE ? g->data : NULL);
    else if (g->op == SLUICE_OP_READ)
        oracle_read_begin(g->first, g->count, g->note);
    else if (g->op == SLUICE_OP_EXTENTS)
        for (uint32_t i = 0; i < g->count; i++)
            g->note[i] = oracle_data(g->first + i);
}

static struct request *next_request(struct guest *g)
{
    struct request *r = request_new(disk_engine(g->all->disk), &g->all->client);
    SCOPED_LOCK(&oracle_mutex);

    if (!r)
        return NULL;
    choose(g);
    note(g);
    g->is_busy = true;
    g->is_cancelled = false;
    if (g->op == SLUICE_OP_READ)
        memset(g->data, 0xee, (size_t)g->count * SECTOR_BYTES);
    request_fill(r, g->op, g->flags, (uint64_t)g->first * SECTOR_BYTES,
                 (uint64_t)g->count * SECTOR_BYTES,
                 g->op == SLUICE_OP_READ || g->op == SLUICE_OP_WRITE ? g->data : NULL);
    return r;
}

/* --- how it ended
 * ----------------------------------------------------------------------------------- */

/* Called zeros: then it does not hold what it held when that was asked, unless it has changed. */
static void check_zeros(const struct guest *g, uint64_t from, uint64_t end)
{
    uint64_t first = (from + SECTOR_BYTES - 1) / SECTOR_BYTES;

    for (uint64_t s = first; (s + 1) * SECTOR_BYTES <= end; s++)
        if (g->note[s - g->first] && oracle_data((uint32_t)s) == g->note[s - g->first]) {
            guests_violation("sector %u of block %llu holds data and is called zeros",
                             (unsigned)(s % 8), (unsigned long long)s / 8);
            return;
        }
}

static void check_extents(const struct guest *g, struct request *r)
{
    const struct extents *x = request_extents(r);
    uint64_t at = (uint64_t)g->first * SECTOR_BYTES, end = at + (uint64_t)g->count * SECTOR_BYTES;

    for (unsigned i = 0; i < x->count; i++) {
        uint64_t length = MIN(x->list[i].length, end - at);

        if (x->list[i].type & EXTENT_ZERO)
            check_zeros(g, at, at + length);
        at += length;
    }
}

static bool is_excused(const struct guest *g, int error)
{
    return guests_are_failing() || (g->is_cancelled && error == ECANCELED) ||
           ((g->flags & SLUICE_FLAG_FAST_ONLY) && error == EOPNOTSUPP);
}

static void take_failure(const struct guest *g, int error)
{
    atomic_fetch_add(error == ECANCELED ? &counts->cancelled : &counts->failed, 1);
    if (!is_excused(g, error))
        guests_violation("a %s failed: %s", engine_op_name(g->op), strerror(error));
}

static void take_success(struct guest *g, struct request *r)
{
    if (g->op == SLUICE_OP_READ)
        oracle_check_mixed(g->first, g->count, g->data, g->note, "read");
    else if (g->op == SLUICE_OP_EXTENTS)
        check_extents(g, r);
    else if (g->changes) /* there is no power cut here: what may be lost then is not asked for */
        oracle_acknowledge(g->first, g->count, g->number, true);
}

static void finish(struct guest *g, struct request *r)
{
    int error = request_error(r);

    {
        SCOPED_LOCK(&oracle_mutex);
        g->is_busy = false;
        if (error)
            take_failure(g, error);
        else
            take_success(g, r);
        atomic_fetch_add(&counts->requests, 1);
    }
    request_free(r);
}

/* --- workers and slots
 * ----------------------------------------------------------------------------- */

static void *work(void *arg)
{
    struct guest *g = arg;

    while (!atomic_load(&g->all->must_stop)) {
        struct request *r = next_request(g);

        if (!r)
            abort();
        request_execute(r);
        finish(g, r);
    }
    return NULL;
}

static void begin_later(struct guest *g)
{
    home_run_later(loop_home(g->all->loop), &g->begin);
}

static void on_done(struct request *r)
{
    struct guest *g = request_owner(r);

    finish(g, r);
    begin_later(g);
}

static void slot_ended(struct guests *all)
{
    SCOPED_LOCK(&all->mutex);

    all->running--;
    pthread_cond_signal(&all->ended);
}

static void begin(struct task *task)
{
    struct guest *g = CONTAINER_OF(task, struct guest, begin);
    struct request *r;

    if (atomic_load(&g->all->must_stop)) {
        slot_ended(g->all);
        return;
    }
    r = next_request(g);
    if (!r)
        abort();
    request_set_done(r, on_done, g);
    if (request_submit(r) == IO_DONE) {
        finish(g, r);
        begin_later(g);
    } else if (below(g, 32) == 0) {
        g->is_cancelled = true;
        request_cancel(r, ECANCELED);
    }
}

static void start_guest(struct guests *all, unsigned i, uint64_t seed)
{
    struct guest *g = &all->guest[i];

    g->all = all;
    g->random = (seed * GUESTS + i + 1) * UINT64_C(0x9e3779b97f4a7c15);
    g->data = malloc(DATA_SECTORS_MOST * SECTOR_BYTES);
    g->begin.run = begin;
    if (!g->data)
        abort();
    if (i < WORKERS) {
        if (pthread_create(&g->thread, NULL, work, g) != 0)
            abort();
        return;
    }
    all->running++;
    home_post(loop_home(all->loop), &g->begin);
}

struct guests *guests_start(struct disk *disk, uint64_t seed)
{
    struct guests *all = calloc(1, sizeof *all);

    if (!all)
        abort();
    all->disk = disk;
    all->client = (struct sluice_client){.front_end = "model", .address = "", .initiator = ""};
    all->loop = host_service_loop();
    guests_resize(all, disk_size(disk));
    pthread_mutex_init(&all->mutex, NULL);
    pthread_cond_init(&all->ended, NULL);
    SCOPED_LOCK(&all->mutex);
    for (unsigned i = 0; i < GUESTS; i++)
        start_guest(all, i, seed);
    return all;
}

void guests_stop(struct guests *all)
{
    atomic_store(&all->must_stop, true);
    for (unsigned i = 0; i < WORKERS; i++)
        pthread_join(all->guest[i].thread, NULL);
    pthread_mutex_lock(&all->mutex);
    while (all->running)
        pthread_cond_wait(&all->ended, &all->mutex);
    pthread_mutex_unlock(&all->mutex);
    for (unsigned i = 0; i < GUESTS; i++)
        free(all->guest[i].data);
    pthread_cond_destroy(&all->ended);
    pthread_mutex_destroy(&all->mutex);
    free(all);
}

void guests_resize(struct guests *all, uint64_t size_bytes)
{
    atomic_store(&all->sectors, (uint32_t)(size_bytes / SECTOR_BYTES));
}

/* --- all of the disk
 * ------------------------------------------------------------------------------- */

void guests_note(uint32_t *floor)
{
    SCOPED_LOCK(&oracle_mutex);

    oracle_read_begin(0, MODEL_SECTORS, floor);
}

/* What lies past its end is zeros. */
static void read_image(const char *path, uint8_t *bytes)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    memset(bytes, 0, MODEL_SECTORS * SECTOR_BYTES);
    if (fd < 0 || pread(fd, bytes, MODEL_SECTORS * SECTOR_BYTES, 0) < 0)
        guests_violation("%s: %s", path, strerror(errno));
    close(fd);
}

void guests_check_image(const char *path, const uint32_t *floor, const char *when)
{
    CLEANUP_FREE uint8_t *bytes = malloc(MODEL_SECTORS * SECTOR_BYTES);

    if (!bytes)
        abort();
    read_image(path, bytes);
    SCOPED_LOCK(&oracle_mutex);
    oracle_check(0, MODEL_SECTORS, bytes, floor, when);
    atomic_fetch_add(&counts->sectors_checked, MODEL_SECTORS);
}

static void settle(const uint8_t *bytes)
{
    SCOPED_LOCK(&oracle_mutex);

    oracle_settle(bytes, false);
    atomic_fetch_add(&counts->sectors_checked, MODEL_SECTORS);
}

void guests_settle_image(const char *path)
{
    CLEANUP_FREE uint8_t *bytes = malloc(MODEL_SECTORS * SECTOR_BYTES);

    if (!bytes)
        abort();
    read_image(path, bytes);
    settle(bytes);
}

void guests_settle(struct disk *disk)
{
    struct sluice_client client = {.front_end = "model", .address = "", .initiator = ""};
    CLEANUP_FREE uint8_t *bytes = calloc(MODEL_SECTORS, SECTOR_BYTES);

    if (!bytes)
        abort();
    for (uint64_t at = 0, length; at < disk_size(disk); at += length) {
        struct request *r = request_new(disk_engine(disk), &client);

        if (!r)
            abort();
        length = MIN(CHUNK_BYTES, disk_size(disk) - at);
        request_fill(r, SLUICE_OP_READ, 0, at, length, bytes + at);
        if (request_execute(r))
            guests_violation("the disk cannot be read: %s", strerror(request_error(r)));
        request_free(r);
    }
    settle(bytes);
}
