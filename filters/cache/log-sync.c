/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * log-sync.c: makes the log durable.  One fdatasync is in flight at a time; who asks meanwhile
 * shares the next, because the present one may have begun before his chunk was written (R2, R3).
 * Also the helpers for threads that wait.
 */
#include "cache.h"

#include <errno.h>

void log_fail(struct cache *c, int32_t error, const char *what)
{
    if (c->log.error)
        return;
    c->log.error = error;
    sluice_log(c->disk, SLUICE_LOG_ERROR, "%s: %s (%s); the disk goes on without it", what,
               strerror(error), c->log.path);
    rot_tell_health(c);
    keeper_kick(c);
}

static void tell(struct sync_waiter *w, int32_t error)
{
    while (w) {
        struct sync_waiter *next = w->next;

        w->done(w, error);
        w = next;
    }
}

static void start(struct cache *c);

static void give_up_sync(struct awaited *a);
static void keep_sync(struct awaited *a);

/* [M] From when guests want their writes durable: how they write. */
static void learn(struct log *log)
{
    log->chunks_a_sync = log->is_overlapped ? 0 : log->unsynced_chunks;
    log->unsynced_chunks = 0;
    log->is_overlapped = false;
}

/* [M] A sync is to begin. */
static void aim(struct cache *c)
{
    struct log *log = &c->log;

    log->sync_awaited.give_up = give_up_sync;
    log->sync_awaited.drop = keep_sync;
    log->sync_io.flags = 0;
    log->sync_awaited.is_keepers = log->sync_now->is_keepers;
    await_begin(c, &log->sync_awaited, &log->sync_io);
    log->sync_target = log->applied.sequence;
    log->buffered_bytes = 0;
    log->is_guests_sync = !log->sync_now->is_keepers;
    if (log->is_guests_sync)
        learn(log);
}

static void end_sync(struct cache *c, int32_t error)
{
    struct log *log = &c->log;
    struct sync_waiter *answered, *in_vain = NULL;
    bool again;

    cache_lock(c);
    if (error)
        log_fail(c, error, "making the tier durable failed");
    else
        log->durable = MUTANT(2) ? log->applied.sequence : MAX(log->durable, log->sync_target);
    answered = log->sync_now;
    if (log->error)
        in_vain = log->sync_next;
    log->sync_now = log->error ? NULL : log->sync_next;
    log->sync_next = NULL;
    again = log->sync_now != NULL;
    log->is_syncing = again;
    if (again)
        aim(c);
    cache_wake(&c->cond);
    cache_unlock(c);
    if (again)
        start(c);
    if (error)
        log_pump(c); /* jobs that wait for room are to fail */
    tell(answered, error);
    tell(in_vain, EIO);
}

static void on_synced(struct sluice_file_io *io, int32_t error)
{
    struct cache *c = CONTAINER_OF(io, struct cache, log.sync_io);

    if (await_end(c, &c->log.sync_awaited))
        end_sync(c, error);
}

static void give_up_sync(struct awaited *a)
{
    end_sync(CONTAINER_OF(a, struct cache, log.sync_awaited), ETIMEDOUT);
}

/* No other is begun with the same memory: the log has failed for good. */
static void keep_sync(struct awaited *a)
{
    (void)a;
}

static void start(struct cache *c)
{
    struct sluice_file_io *io = &c->log.sync_io;
    int r;

    io->op = SLUICE_OP_FLUSH;
    io->done = on_synced;
    r = sluice_file_submit(c->disk, c->log.file, io);
    if (r < 0)
        on_synced(io, -r);
}

bool log_is_durable(struct log *log)
{
    if (log->durable < log->applied.sequence)
        return false;
    if (log->unsynced_chunks)
        learn(log);
    return true;
}

/* [M] True: it waits for a sync; *is_first: that has to be started. */
static bool join(struct cache *c, struct sync_waiter *w, bool *is_first)
{
    struct log *log = &c->log;

    if (log->error || (!w->is_keepers && log_is_durable(log)))
        return false;
    *is_first = !log->is_syncing;
    if (*is_first || MUTANT(3)) {
        w->next = log->sync_now;
        log->sync_now = w;
        if (*is_first)
            aim(c);
        log->is_syncing = true;
    } else {
        w->next = log->sync_next;
        log->sync_next = w;
    }
    return true;
}

void log_sync(struct cache *c, struct sync_waiter *w)
{
    bool is_first = false, waits;
    int32_t error;

    cache_lock(c);
    waits = join(c, w, &is_first);
    error = c->log.error;
    cache_unlock(c);
    if (is_first)
        start(c);
    else if (!waits)
        w->done(w, error);
}

/* --- waiting ------------------------------------------------------------------------------------
 */

struct waiting_sync {
    struct sync_waiter waiter;
    struct cache *c;
    bool is_done;
    int32_t error;
};

static void wake_sync(struct sync_waiter *w, int32_t error)
{
    struct waiting_sync *ws = CONTAINER_OF(w, struct waiting_sync, waiter);
    struct cache *c = ws->c;

    cache_lock(c);
    ws->error = error;
    ws->is_done = true;
    cache_wake(&c->cond);
    cache_unlock(c);
}

int32_t log_sync_wait(struct cache *c)
{
    struct waiting_sync ws = {.waiter = {.is_keepers = true, .done = wake_sync}, .c = c};

    log_sync(c, &ws.waiter);
    cache_lock(c);
    while (!ws.is_done)
        cache_sleep(&c->cond, &c->mutex);
    cache_unlock(c);
    return ws.error;
}

struct waiting_job {
    struct log_job job;
    struct cache *c;
    bool is_done;
};

static void wake_job(struct log_job *job)
{
    struct waiting_job *wj = CONTAINER_OF(job, struct waiting_job, job);
    struct cache *c = wj->c;

    cache_lock(c);
    wj->is_done = true;
    cache_wake(&c->cond);
    cache_unlock(c);
}

static int32_t do_job(struct cache *c, enum job_kind kind, uint64_t block, bool is_urgent)
{
    struct waiting_job wj = {.job = {.kind = kind, .block = block, .count = 1, .done = wake_job},
                             .c = c};

    cache_lock(c);
    log_add(c, &wj.job, is_urgent);
    cache_unlock(c);
    log_pump(c);
    cache_lock(c);
    while (!wj.is_done)
        cache_sleep(&c->cond, &c->mutex);
    cache_unlock(c);
    return wj.job.error;
}

int32_t log_mark_written(struct cache *c)
{
    return do_job(c, JOB_MARK, 0, true);
}

int32_t log_forget_wait(struct cache *c, uint64_t block)
{
    return do_job(c, JOB_FORGET, block, false);
}

int32_t log_mark_wait(struct cache *c)
{
    int32_t error = log_mark_written(c);

    return error ? error : log_sync_wait(c);
}

int log_io_wait(struct cache *c, uint8_t op, uint64_t block, void *data, uint64_t bytes)
{
    struct sluice_file_io io = {
        .op = op, .offset = block * BLOCK_BYTES, .length = bytes, .data = data};

    if (op == SLUICE_OP_ZERO)
        io.flags = SLUICE_FLAG_NO_HOLE; /* the space is taken now, not when it has run out */
    return c->is_open ? await_wait(c, &io) : sluice_file_wait(c->disk, c->log.file, &io);
}

int log_tend_wait(struct cache *c, uint8_t op, uint64_t block, void *data, uint64_t bytes)
{
    int r = log_io_wait(c, op, block, data, bytes);

    if (r == 0)
        return 0;
    cache_lock(c);
    log_fail(c, -r, op == SLUICE_OP_READ ? "reading the tier failed" : "writing the tier failed");
    cache_unlock(c);
    log_pump(c);
    return r;
}
