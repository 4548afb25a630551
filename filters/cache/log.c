/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * log.c: writes the log.  Jobs wait in two queues; whoever finds no chunk being written takes as
 * many as fit into the next one and writes it, and who comes meanwhile shares the one after (R3).
 * One chunk is in flight at a time, so chunks reach the device in their order, and each is applied
 * to the index, in that order, when it has been written and before anybody is told (R1).
 *
 * Room: guests' jobs leave two segments free, copies of the reclaim one, marks none, so that
 * reclaim, which needs one block of log for each segment it frees, never waits for itself.
 */
#include "cache.h"
#include "common/crc.h"

#include <errno.h>

#define CHUNKS_TO_BUFFER 4u /* that shared the last sync */
#define BUFFERED_BLOCKS_MOST 8u
#define LATE_NS UINT64_C(10000000) /* of the device: far longer than a small chunk takes */
#define BUFFERED_BYTES_MOST (UINT64_C(16) << 20) /* not synced yet */
#define LOOKUPS_A_TURN 4096u /* of a large change, before others get the mutex */

enum room { ROOM_MARK = 0, ROOM_COPY = 1, ROOM_GUEST = 2 };

/* --- queues ------------------------------------------------------------------------------------
 */

static void queue_add(struct job_queue *q, struct log_job *job)
{
    job->next = NULL;
    if (!q->first)
        q->last = &q->first;
    *q->last = job;
    q->last = &job->next;
}

static struct log_job *queue_pop(struct job_queue *q)
{
    struct log_job *job = q->first;

    q->first = job->next;
    return job;
}

void log_add(struct cache *c, struct log_job *job, bool is_urgent)
{
    job->progress = 0;
    job->error = 0;
    job->was_logged = false;
    queue_add(is_urgent ? &c->log.urgent : &c->log.jobs, job);
}

static void tell_finished(struct job_queue *finished)
{
    while (finished->first) {
        struct log_job *job = queue_pop(finished);

        job->done(job);
    }
}

/* --- room --------------------------------------------------------------------------------------
 */

static bool may_use(const struct log *log, uint64_t segment, enum room room)
{
    return segment - log->tail < log->super.segment_count - (uint64_t)room;
}

static bool can_open(const struct log *log, uint64_t segment, enum room room)
{
    return may_use(log, segment, room) &&
           segment - log->checkpoint_segment < log->super.segment_count &&
           log->readers[log_place_of(log, segment)] == 0;
}

/* Blocks for a chunk with at least one block of data, or a header alone, from the head on. */
static uint32_t room_for(struct log *log, enum room room)
{
    uint32_t least = room == ROOM_MARK ? 1 : 2;

    if (log->super.segment_blocks - log->head.block < least &&
        can_open(log, log->head.segment + 1, room)) {
        log->head.segment++;
        log->head.block = 0;
    }
    if (log->super.segment_blocks - log->head.block < least ||
        !may_use(log, log->head.segment, room))
        return 0;
    return log->super.segment_blocks - log->head.block;
}

/* --- taking jobs into the next chunk ------------------------------------------------------------
 */

struct taking {
    struct cache *c;
    struct chunk *chunk;
    uint32_t data_most;
    uint32_t lookups;
};

static bool is_full(const struct taking *t)
{
    const struct chunk_header *h = &t->chunk->header;

    return h->count == CHUNK_ENTRIES_MAX || h->data_blocks >= t->data_most;
}

static void add_entry(struct taking *t, struct log_job *job, uint8_t kind, const uint8_t *source)
{
    struct chunk_header *h = &t->chunk->header;

    h->entry[h->count] = (struct chunk_entry){.block = job->block + job->progress, .kind = kind};
    t->chunk->source[h->count] = source;
    t->chunk->job[h->count] = job;
    h->count++;
    h->data_blocks += kind != CHUNK_DROP;
    job->was_logged = true;
}

static const uint8_t *data_at(const struct log_job *job)
{
    return job->data ? job->data + job->progress * BLOCK_BYTES : NULL;
}

/* Each returns true when the whole job has been taken. */
static bool take_write(struct taking *t, struct log_job *job)
{
    while (job->progress < job->count && !is_full(t)) {
        add_entry(t, job, CHUNK_DIRTY, data_at(job));
        job->progress++;
    }
    return job->progress == job->count;
}

/* A change of the block that has begun, or ended, since makes the copy useless. */
static bool take_clean(struct taking *t, struct log_job *job)
{
    if (!versions_is_current(&t->c->versions, job->block, job->token)) {
        job->error = ECANCELED;
        return true;
    }
    if (is_full(t))
        return false;
    add_entry(t, job, CHUNK_CLEAN, job->data);
    return true;
}

/* R7 and R8: what is dirty gets the new data too; what is clean is dropped. */
static bool take_change(struct taking *t, struct log_job *job)
{
    for (; job->progress < job->count; job->progress++) {
        struct index_item item;

        if (is_full(t) || t->lookups == LOOKUPS_A_TURN)
            return false;
        t->lookups++;
        if (!index_get(&t->c->index, job->block + job->progress, &item))
            continue;
        if (item.is_dirty && !MUTANT(7)) {
            add_entry(t, job, CHUNK_DIRTY, data_at(job));
        } else if (!MUTANT(8)) {
            add_entry(t, job, CHUNK_DROP, NULL);
        }
    }
    return true;
}

/* If it has not been written anew meanwhile. */
static bool take_forget(struct taking *t, struct log_job *job)
{
    struct index_item item;

    if (is_full(t))
        return false;
    if (index_get(&t->c->index, job->block, &item) && item.is_dirty && item.is_bad)
        add_entry(t, job, CHUNK_DROP, NULL);
    return true;
}

static bool take_job(struct taking *t, struct log_job *job)
{
    switch (job->kind) {
    case JOB_WRITE:
        return take_write(t, job);
    case JOB_CLEAN:
        return take_clean(t, job);
    case JOB_CHANGE:
        return take_change(t, job);
    case JOB_FORGET:
        return take_forget(t, job);
    default:
        t->chunk->is_marked = true;
        return true;
    }
}

static void take_queue(struct taking *t, struct job_queue *q)
{
    while (q->first && take_job(t, q->first))
        queue_add(&t->chunk->finished, queue_pop(q));
}

/* Copies need room of their own; when there is none they are not made. */
static void drop_copies(struct taking *t, struct job_queue *q)
{
    while (q->first && q->first->kind == JOB_CLEAN) {
        q->first->error = ENOSPC;
        queue_add(&t->chunk->finished, queue_pop(q));
    }
}

static void set_limits(struct taking *t, uint32_t room)
{
    t->data_most = room > 1 ? MIN(room - 1, CHUNK_DATA_MAX) : 0;
}

static void take_urgent(struct taking *t, struct log *log)
{
    uint32_t room = room_for(log, ROOM_COPY);

    if (room == 0) {
        drop_copies(t, &log->urgent);
        room = room_for(log, ROOM_MARK);
        set_limits(t, 0);
    } else {
        set_limits(t, room);
    }
    if (room)
        take_queue(t, &log->urgent);
}

static void take_all(struct taking *t, struct log *log)
{
    uint32_t room;

    if (log->urgent.first)
        take_urgent(t, log);
    room = log->urgent.first || t->chunk->is_marked ? 0 : room_for(log, ROOM_GUEST);
    if (room && log->jobs.first) {
        set_limits(t, room);
        take_queue(t, &log->jobs);
    }
    if (log->jobs.first && !room)
        keeper_kick(t->c);
}

/* Small chunks go through the page cache while a guest that writes one after the other has several
 * of them share a sync: it survives kill -9 as well, costs no wait for the device, and the sync
 * writes them at once.  Where each has its own sync that way is the longer one, and where guests
 * write side by side they gather while a chunk is on its way.  The thread that writes them cannot
 * be called back, so not while the device is late with an answer. */
static bool is_for_page_cache(struct cache *c, const struct chunk_header *h)
{
    const struct log *log = &c->log;

    return log->buffered && h->data_blocks <= BUFFERED_BLOCKS_MOST &&
           log->chunks_a_sync >= CHUNKS_TO_BUFFER && log->buffered_bytes < BUFFERED_BYTES_MOST &&
           !await_is_late(c, LATE_NS);
}

/* Where each chunk has had a flush of its own, this one will have too: it is written as durable,
 * and the flush finds nothing to do.  Only if all before it are durable, or it says nothing (R2).
 */
static bool is_flush_expected(const struct log *log)
{
    return log->chunks_a_sync == 1 && log->unsynced_chunks == 0 &&
           (log->durable == log->head.sequence || MUTANT(36));
}

static void fill_order(struct cache *c, struct chunk_header *h)
{
    h->order = c->options.ordered ? c->order.log : (struct log_order){.from = 0};
    h->is_joined = !c->log.is_flushed;
    c->log.is_flushed = false;
}

static void fill_header(struct cache *c, struct chunk *chunk)
{
    struct log *log = &c->log;
    struct chunk_header *h = &chunk->header;

    h->nonce = log->super.nonce;
    h->incarnation = log->super.incarnation;
    h->segment = log->head.segment;
    h->sequence = log->head.sequence;
    h->durable = log->durable;
    h->tail = log->tail_announced;
    h->clean = log->clean;
    fill_order(c, h);
    chunk->is_buffered = is_for_page_cache(c, h);
    chunk->is_durable = is_flush_expected(log);
    log->unsynced_chunks++;
    log->is_overlapped |= log->is_syncing && log->is_guests_sync;
    if (chunk->is_buffered)
        log->buffered_bytes += (1 + (uint64_t)h->data_blocks) * BLOCK_BYTES;
    chunk->block = log->head.block;
    log->head.block += 1 + h->data_blocks;
    log->head.sequence++;
}

static void fail_all(struct log *log, struct job_queue *q, struct job_queue *finished)
{
    while (q->first) {
        q->first->error = log->error;
        queue_add(finished, queue_pop(q));
    }
}

enum taken { TAKEN_NOTHING, TAKEN_PART, TAKEN_CHUNK };

static void give_up_chunk(struct awaited *a);
static void keep_chunk(struct awaited *a);

/* [M] While the log works nothing is late. */
static void expect(struct cache *c, struct chunk *chunk)
{
    chunk->awaited.give_up = give_up_chunk;
    chunk->awaited.drop = keep_chunk;
    chunk->io.flags = chunk->is_durable ? SLUICE_FLAG_FUA : 0;
    await_begin(c, &chunk->awaited, &chunk->io);
    if (chunk->is_buffered) /* into memory: there is nothing to wait for */
        chunk->io.flags = 0;
}

/* [M] PART: a large change goes on; finished jobs without a chunk are in *finished. */
static enum taken take(struct cache *c, struct job_queue *finished)
{
    struct log *log = &c->log;
    struct chunk *chunk = log->chunk;
    struct taking t = {.c = c, .chunk = chunk};

    if (log->is_writing)
        return TAKEN_NOTHING;
    if (log->error) {
        fail_all(log, &log->urgent, finished);
        fail_all(log, &log->jobs, finished);
        return TAKEN_NOTHING;
    }
    chunk->header.count = chunk->header.data_blocks = 0;
    chunk->finished = (struct job_queue){.first = NULL};
    chunk->is_marked = false;
    take_all(&t, log);
    if (chunk->header.count || chunk->is_marked) {
        log->is_writing = true;
        fill_header(c, chunk);
        expect(c, chunk);
        return TAKEN_CHUNK;
    }
    *finished = chunk->finished;
    return finished->first || t.lookups ? TAKEN_PART : TAKEN_NOTHING;
}

/* --- writing a chunk ----------------------------------------------------------------------------
 */

static void copy_data(struct chunk *chunk)
{
    struct chunk_header *h = &chunk->header;
    uint8_t *to = chunk->buffer + BLOCK_BYTES;

    for (uint32_t i = 0; i < h->count; i++) {
        if (h->entry[i].kind == CHUNK_DROP)
            continue;
        if (chunk->source[i])
            memcpy(to, chunk->source[i], BLOCK_BYTES);
        else
            memset(to, 0, BLOCK_BYTES);
        h->entry[i].crc = crc_add(0, to, BLOCK_BYTES);
        to += BLOCK_BYTES;
    }
    format_put_chunk(h, chunk->buffer);
}

/* A job's own copy of the error: the chunk may hold only the last part of it. */
static void set_errors(struct job_queue *q, int32_t error)
{
    for (struct log_job *job = q->first; job; job = job->next)
        if (!job->error)
            job->error = error;
}

/* [M] It is in the index.  Who has come meanwhile has waited for the device's cache too: where that
 * happens a flush apart is better. */
static void note_durable(struct log *log, const struct chunk *chunk)
{
    if (!chunk->is_durable)
        return;
    log->durable = MAX(log->durable, chunk->header.sequence + 1);
    log->is_overlapped |= log->jobs.first != NULL;
}

static void end_chunk(struct cache *c, int32_t error)
{
    struct log *log = &c->log;
    struct chunk *chunk = log->chunk;
    struct job_queue finished;

    cache_lock(c);
    if (error) {
        log_fail(c, error, "writing to the tier failed");
    } else {
        error = log_apply(c, chunk); /* what is in the log is not called failed, whatever else is */
        note_durable(log, chunk);
    }
    set_errors(&chunk->finished, error);
    finished = chunk->finished;
    chunk->finished = (struct job_queue){.first = NULL};
    log->is_writing = false;
    cache_wake(&c->cond);
    cache_unlock(c);
    log_pump(c);
    tell_finished(&finished);
}

static void on_written(struct sluice_file_io *io, int32_t error)
{
    struct chunk *chunk = CONTAINER_OF(io, struct chunk, io);
    struct cache *c = chunk->owner;

    if (!await_end(c, &chunk->awaited))
        return;
    sluice_observe(c->disk, N_COMMIT, sluice_now_ns(c->disk) - chunk->awaited.since_ns);
    end_chunk(c, error);
}

static void give_up_chunk(struct awaited *a)
{
    end_chunk(CONTAINER_OF(a, struct chunk, awaited)->owner, ETIMEDOUT);
}

/* No other is written with the same memory: the log has failed for good. */
static void keep_chunk(struct awaited *a)
{
    (void)a;
}

static void send(struct cache *c)
{
    struct log *log = &c->log;
    struct chunk *chunk = log->chunk;
    const struct chunk_header *h = &chunk->header;
    int r;

    copy_data(chunk);
    if (MUTANT(1))
        tell_finished(&chunk->finished);
    chunk->io.op = SLUICE_OP_WRITE;
    chunk->io.offset = (uint64_t)log_slot(log, h->segment, chunk->block) * BLOCK_BYTES;
    chunk->io.length = (1 + (uint64_t)h->data_blocks) * BLOCK_BYTES;
    chunk->io.data = chunk->buffer;
    chunk->io.done = on_written;
    sluice_count(c->disk, N_LOG_WRITTEN, (int64_t)chunk->io.length);
    r = sluice_file_submit(c->disk, chunk->is_buffered ? log->buffered : log->file, &chunk->io);
    if (r < 0)
        on_written(&chunk->io, -r);
}

void log_pump(struct cache *c)
{
    enum taken taken;

    if (!cache_has_log(c))
        return;
    do {
        struct job_queue finished = {.first = NULL};

        cache_lock(c);
        taken = take(c, &finished);
        cache_unlock(c);
        tell_finished(&finished);
    } while (taken == TAKEN_PART);
    if (taken == TAKEN_CHUNK)
        send(c);
}
