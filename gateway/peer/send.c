/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * send.c: from frames to the socket, with as little in between as can be.
 *
 * Frames are appended to chunks.  Who has appended flushes: if nobody else does, it takes all that
 * is queued, encrypts it 16 KiB a record and writes it in one system call, in its own thread; what
 * others append meanwhile it takes too.  So a lone message leaves at once, without a hand-off, and
 * under load many messages share a record and many records a system call.  The role of the flusher
 * (is_flushing) is held by one thread; it passes to the connection's loop when the socket is full,
 * or when this thread has done enough for others.
 */
#include "internal.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define CHUNK_BYTES (64u << 10)
#define RECORD_BYTES (16u << 10)
/* What one thread sends in one go, for itself and for others, before the loop goes on. */
#define TURN_BYTES (512u << 10)
#define BATCH_CHUNKS 2u
/* What is sent soon: long enough that many messages of a busy disk go together. */
#define SOON_NS 1000000ull
#define QUEUE_HIGH_BYTES (64u << 20)
#define QUEUE_LOW_BYTES (16u << 20)

struct chunk {
    struct chunk *next;
    uint32_t used;
    uint8_t data[CHUNK_BYTES];
};

/* --- the queue ------------------------------------------------------------------------------ */

/* Chunks for `more` bytes are there, so that a frame is queued whole or not at all. [O] */
static int make_room(struct wire *c, size_t more, struct chunk **list)
{
    size_t room = c->last ? CHUNK_BYTES - c->last->used : 0;

    *list = NULL;
    while (room < more) {
        struct chunk *chunk = c->spare ? c->spare : malloc(sizeof *chunk);

        if (!chunk) {
            while ((chunk = *list) != NULL) {
                *list = chunk->next;
                free(chunk);
            }
            return -ENOMEM;
        }
        c->spare = NULL;
        chunk->used = 0;
        chunk->next = *list;
        *list = chunk;
        room += CHUNK_BYTES;
    }
    return 0;
}

static void append(struct wire *c, const void *data, size_t length, struct chunk **fresh)
{
    const uint8_t *p = data;

    while (length) {
        size_t part;

        if (!c->last || c->last->used == CHUNK_BYTES) {
            struct chunk *chunk = *fresh;

            *fresh = chunk->next;
            chunk->next = NULL;
            if (c->last)
                c->last->next = chunk;
            else
                c->first = chunk;
            c->last = chunk;
        }
        part = MIN(length, CHUNK_BYTES - c->last->used);
        memcpy(c->last->data + c->last->used, p, part);
        c->last->used += (uint32_t)part;
        p += part;
        length -= part;
    }
}

int wire_queue_payload(struct wire *c, enum frame_type type, uint32_t channel,
                       const struct frame_payload *payload)
{
    size_t bytes = FRAME_HEAD_BYTES + (size_t)payload->first_length + payload->rest_length;
    uint8_t head[FRAME_HEAD_BYTES];
    struct chunk *fresh;

    frame_put_head_of(head, type, channel, payload);
    SCOPED_LOCK(&c->out_mutex);
    if (c->is_dead || c->is_switched_out)
        return -ENOTCONN;
    if (make_room(c, bytes, &fresh) < 0)
        return -ENOMEM;
    append(c, head, sizeof head, &fresh);
    append(c, payload->first, payload->first_length, &fresh);
    append(c, payload->rest, payload->rest_length, &fresh);
    c->queued_bytes += bytes;
    c->is_switched_out = type == FRAME_SWITCH;
    return 0;
}

int wire_queue(struct wire *c, enum frame_type type, uint32_t channel, const void *data,
               uint32_t length)
{
    const struct frame_payload payload = {.first = data, .first_length = length};

    return wire_queue_payload(c, type, channel, &payload);
}

bool wire_is_full(struct wire *c)
{
    SCOPED_LOCK(&c->out_mutex);

    if (c->queued_bytes < QUEUE_HIGH_BYTES)
        return false;
    c->has_waiters = true;
    return true;
}

/* Cuts the next chunks off the queue. [O] */
static struct chunk *cut_batch(struct wire *c)
{
    struct chunk *batch = c->first, *end = batch;

    if (!batch)
        return NULL;
    for (unsigned i = 1; i < BATCH_CHUNKS && end->next; i++)
        end = end->next;
    c->first = end->next;
    end->next = NULL;
    if (!c->first)
        c->last = NULL;
    for (struct chunk *chunk = batch; chunk; chunk = chunk->next)
        c->queued_bytes -= chunk->used;
    return batch;
}

/* False: nothing is left, and the role of the flusher is given back.  *batch may be NULL: then TLS
 * itself has something to send. */
static bool take_batch(struct wire *c, struct chunk **batch, bool *has_drained)
{
    SCOPED_LOCK(&c->out_mutex);

    *batch = c->is_dead ? NULL : cut_batch(c);
    if (!*batch && !c->must_push) {
        c->is_flushing = false;
        return false;
    }
    c->must_push = false;
    if (c->has_waiters && c->queued_bytes < QUEUE_LOW_BYTES) {
        c->has_waiters = false;
        *has_drained = true;
    }
    return true;
}

static void give_chunk(struct wire *c, struct chunk *chunk)
{
    {
        SCOPED_LOCK(&c->out_mutex);
        if (!c->spare) {
            c->spare = chunk;
            chunk = NULL;
        }
    }
    free(chunk);
}

void wire_free_queue(struct wire *c)
{
    struct chunk *chunk;

    while ((chunk = c->first) != NULL) {
        c->first = chunk->next;
        free(chunk);
    }
    free(c->spare);
}

/* --- encrypting ----------------------------------------------------------------------------- */

/* Long before 2^24.5 records, which is what AES-GCM may encrypt with one key (RFC 8446, 5.5). [T]
 */
static bool renew_keys(struct wire *c)
{
    if (++c->records < c->peers->settings.rekey_records)
        return true;
    c->records = 0;
    atomic_fetch_add(&c->rekeys, 1);
    return SSL_key_update(c->ssl, SSL_KEY_UPDATE_NOT_REQUESTED) == 1;
}

static int encrypt_record(struct wire *c, const uint8_t *data, size_t length, size_t *done)
{
    struct err e = {0};
    int r;
    SCOPED_LOCK(&c->ssl_mutex);

    ERR_clear_error();
    r = renew_keys(c) ? SSL_write_ex(c->ssl, data, length, done) : 0;
    if (LIKELY(r == 1))
        return 0;
    tls_explain(c->ssl, r, &e);
    wire_fail(c, -EPROTO, "cannot encrypt: %s", e.text);
    return -EPROTO;
}

static int encrypt(struct wire *c, const struct chunk *chunk)
{
    uint32_t at = 0;

    while (at < chunk->used) {
        size_t done = 0;
        int r = encrypt_record(c, chunk->data + at, MIN(chunk->used - at, RECORD_BYTES), &done);

        if (r < 0)
            return r;
        at += (uint32_t)done;
    }
    return 0;
}

/* --- writing -------------------------------------------------------------------------------- */

/* What was encrypted becomes what is sent. [F] */
static void take_fill(struct wire *c)
{
    struct bytes b;
    SCOPED_LOCK(&c->ssl_mutex);

    if (c->fill.begin == c->fill.end)
        return;
    b = c->sending;
    b.begin = b.end = 0;
    c->sending = c->fill;
    c->fill = b;
}

/* 0: all is with the kernel; -EAGAIN; or the connection has failed. [F] */
static int write_all(struct wire *c)
{
    struct bytes *b = &c->sending;

    for (;;) {
        ssize_t n;

        if (b->begin == b->end)
            take_fill(c);
        if (b->begin == b->end)
            return 0;
        n = send(c->watch.fd, b->data + b->begin, b->end - b->begin, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return -EAGAIN;
        if (n < 0) {
            wire_fail(c, -errno, "cannot send: %s", strerror(errno));
            return -EPIPE;
        }
        b->begin += (size_t)n;
        atomic_fetch_add_explicit(&c->bytes_out, (uint64_t)n, memory_order_relaxed);
    }
}

static int send_batch(struct wire *c, struct chunk *batch)
{
    int r = 0;

    while (batch) {
        struct chunk *next = batch->next;

        if (r == 0)
            r = encrypt(c, batch);
        give_chunk(c, batch);
        batch = next;
    }
    return r < 0 ? r : write_all(c);
}

static void give_role_back(struct wire *c)
{
    SCOPED_LOCK(&c->out_mutex);

    c->is_flushing = false;
}

/* With the role of the flusher.  -EAGAIN: the socket is full, and the role is kept; 1: there is
 * more, and it is kept; else it was given back. */
static int flush_some(struct wire *c)
{
    bool has_drained = false;
    size_t left = TURN_BYTES;
    struct chunk *batch;
    int r = write_all(c);

    while (r == 0 && left > 0 && take_batch(c, &batch, &has_drained)) {
        left -= MIN(left, (size_t)BATCH_CHUNKS * CHUNK_BYTES);
        r = send_batch(c, batch);
        if (r == 0 && left == 0)
            r = 1;
    }
    if (has_drained)
        channels_drained(c);
    if (r < 0 && r != -EAGAIN)
        give_role_back(c);
    return r;
}

/* --- the role ------------------------------------------------------------------------------- */

static bool take_role(struct wire *c)
{
    SCOPED_LOCK(&c->out_mutex);

    if (c->is_flushing || c->is_dead)
        return false;
    c->is_flushing = true;
    return true;
}

static void pass_to_loop(struct wire *c)
{
    wire_get(c);
    c->flush_task.run = wire_flush_task;
    home_post(c->home, &c->flush_task);
}

static void watch_for_room(struct wire *c, bool is_waiting)
{
    c->is_waiting = is_waiting;
    if (wire_watch(c) < 0)
        wire_fail(c, -EIO, "the connection cannot be watched");
}

void wire_end_if_switched(struct wire *c)
{
    bool is_over;
    {
        SCOPED_LOCK(&c->out_mutex);
        is_over = c->is_switched_in && c->is_switched_out && !c->first && !c->is_flushing;
    }
    if (is_over)
        wire_fail(c, 0, "has a successor");
}

/* [L] with the role. */
static void flush_here(struct wire *c)
{
    int r;

    if (c->state == WIRE_ENDED) {
        give_role_back(c);
        return;
    }
    r = flush_some(c);
    if (r == -EAGAIN)
        watch_for_room(c, true);
    else if (c->is_waiting && !atomic_load(&c->has_failed))
        watch_for_room(c, false);
    if (r == 1)
        pass_to_loop(c);
    else
        wire_end_if_switched(c);
}

void wire_flush_task(struct task *task)
{
    struct wire *c = CONTAINER_OF(task, struct wire, flush_task);

    flush_here(c);
    wire_put(c);
}

void wire_can_write(struct wire *c)
{
    if (c->is_waiting)
        flush_here(c);
}

void wire_flush(struct wire *c)
{
    int r;

    if (!take_role(c))
        return;
    r = flush_some(c);
    if (r == -EAGAIN || r == 1)
        pass_to_loop(c);
    else
        wire_end_if_switched(c);
}

/* --- later ---------------------------------------------------------------------------------- */

static void on_soon(struct timer *timer)
{
    struct wire *c = CONTAINER_OF(timer, struct wire, soon);

    {
        SCOPED_LOCK(&c->out_mutex);
        c->is_soon = false;
    }
    c->has_soon = false;
    wire_flush(c);
    wire_put(c);
}

static void set_soon(struct task *task)
{
    struct wire *c = CONTAINER_OF(task, struct wire, soon_task);

    if (c->state == WIRE_ENDED) {
        wire_put(c);
        return;
    }
    c->has_soon = true;
    c->soon.fire = on_soon;
    loop_timer_set(c->loop, &c->soon, clock_now_ns() + SOON_NS);
}

void wire_forget_soon(struct wire *c)
{
    if (!c->has_soon)
        return;
    c->has_soon = false;
    loop_timer_cancel(c->loop, &c->soon);
    wire_put(c);
}

void wire_flush_soon(struct wire *c)
{
    bool is_much, has_begun;
    {
        SCOPED_LOCK(&c->out_mutex);
        is_much = c->queued_bytes >= CHUNK_BYTES;
        has_begun = c->is_soon || c->is_flushing || c->is_dead;
        c->is_soon |= !has_begun && !is_much;
    }
    if (is_much) {
        wire_flush(c);
    } else if (!has_begun) {
        wire_get(c);
        c->soon_task.run = set_soon;
        home_post(c->home, &c->soon_task);
    }
}

void wire_push(struct wire *c)
{
    {
        SCOPED_LOCK(&c->ssl_mutex);
        if (c->fill.begin == c->fill.end)
            return;
    }
    {
        SCOPED_LOCK(&c->out_mutex);
        c->must_push = true;
    }
    wire_flush(c);
}

void wire_send(struct wire *c, enum frame_type type, uint32_t channel, const void *data,
               size_t length)
{
    int r = wire_queue(c, type, channel, data, (uint32_t)length);

    if (r == -ENOMEM)
        wire_fail(c, r, "out of memory");
    else if (r == 0)
        wire_flush(c);
}
