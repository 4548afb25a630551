/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stream.c: see stream.h.  nbdkit reads each request by itself (28 bytes, then the data of a write)
 * and sends a structured reply in three pieces, all but the last with MSG_MORE, which a Unix socket
 * does not heed: three system calls, each of which may wake the client for a part.  Here
 *
 *   - what is marked MSG_MORE waits in its thread for the piece behind it, and leaves with it;
 *   - a request is read together with what has come behind it, so that a busy connection's next
 *     requests, and the data of a small write, are there already.
 *
 * Reading ahead begins with the first request of the transmission phase, known by its length and
 * its magic number (NBD protocol, "Request message"): what is negotiated, STARTTLS above all, is
 * read as it always was, and a connection over TLS is read by GnuTLS, not by nbdkit.  A write of
 * more than STREAM_BULK_BYTES goes straight into nbdkit's buffer: copying it would cost more than a
 * call.
 */
#include "stream.h"

#include "io/io.h"
#include "sender.h"

#include <endian.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define FDS_MAX 65536 /* descriptors from here on are left alone */
#define PENDING_BYTES 256
#define NBD_REQUEST_MAGIC 0x25609513u
#define TYPES 4       /* of requests that may be taken: reads, writes and flushes */
#define REPLIES_MAX 8 /* that leave together: the first waits for the last */
/* A client that reads makes room sooner; waiting for it is cheaper than a copy and a thread. */
#define PATIENCE_MS 5

/* NBD protocol, "Request message"; all numbers big-endian. */
struct nbd_request {
    uint32_t magic;
    uint16_t flags, type;
    uint64_t cookie, offset;
    uint32_t length;
} __attribute__((packed));

/* The first fields of both kinds. */
struct nbd_reply {
    uint32_t magic;
    union {
        uint32_t error; /* simple */
        struct {
            uint16_t flags, type;
        } chunk; /* structured */
    } u;
} __attribute__((packed));

struct stream {
    int fd;
    uint64_t serial;     /* of the connection: a descriptor's number comes again, this does not */
    char *ahead;         /* STREAM_AHEAD_BYTES; NULL before the first request */
    size_t at, end;      /* what of it has not been asked for yet */
    bool is_bulk;        /* the last request brings more data than is worth a copy */
    size_t payload_left; /* of the write that nbdkit reads */
    bool is_soon;        /* the last request came alone and was answered by who reads */
    struct looking looking;

    _Atomic(void *) owner; /* who takes its requests; NULL: nobody */
    _Atomic uint8_t reply_form[TYPES];
    struct iovec replies[REPLIES_MAX]; /* of who reads: not sent yet */
    unsigned reply_count;
    _Atomic unsigned
        aside; /* requests taken and not answered; while there are, the sender is held */
    struct sender sender;
};

static _Atomic(struct stream *) stream_of[FDS_MAX];
static _Atomic uint64_t last_serial;
static stream_taker *taker;

/* What this thread was told that more follows of. */
static _Thread_local struct {
    uint64_t serial;
    size_t bytes;
    char data[PENDING_BYTES];
} pending;

/* What this thread has read last, and what it has begun to send of the answer. */
static _Thread_local struct {
    struct stream *read_from;
    struct stream_request request;
    struct stream *sends_to; /* a part is sent: it has the turn */
} mine;

static struct stream *find(int fd)
{
    return fd >= 0 && fd < FDS_MAX ? atomic_load_explicit(&stream_of[fd], memory_order_acquire)
                                   : NULL;
}

static void put(int fd, struct stream *new)
{
    struct stream *old;

    if (fd < 0 || fd >= FDS_MAX)
        return;
    old = atomic_exchange_explicit(&stream_of[fd], new, memory_order_acq_rel);
    if (!old)
        return;
    sender_end(&old->sender);
    free(old->ahead);
    free(old);
}

/* --- the life of a connection ----------------------------------------------------------------- */

static struct stream *make(int fd)
{
    struct stream *s = calloc(1, sizeof *s);

    if (!s)
        return NULL;
    s->fd = fd;
    s->serial = atomic_fetch_add(&last_serial, 1) + 1;
    sender_init(&s->sender, fd);
    looking_init(&s->looking, LOOKING_NS);
    return s;
}

int stream_accept4(int listener, struct sockaddr *address, socklen_t *length, int flags)
{
    int fd = accept4(listener, address, length, flags);

    if (fd >= 0 && fd < FDS_MAX)
        put(fd, make(fd));
    return fd;
}

int stream_close(int fd)
{
    put(fd, NULL);
    return close(fd);
}

/* --- reading ---------------------------------------------------------------------------------- */

static bool is_request(const void *data)
{
    uint32_t magic;

    memcpy(&magic, data, sizeof magic);
    return be32toh(magic) == NBD_REQUEST_MAGIC;
}

static void note_request(struct stream *s, const void *data)
{
    struct nbd_request raw;

    memcpy(&raw, data, sizeof raw);
    mine.read_from = s;
    mine.request = (struct stream_request){.flags = be16toh(raw.flags),
                                           .type = be16toh(raw.type),
                                           .cookie = raw.cookie,
                                           .offset = be64toh(raw.offset),
                                           .length = be32toh(raw.length)};
}

/* False: it is for nbdkit. */
static bool is_taken(struct stream *s, const void *data)
{
    void *owner = atomic_load_explicit(&s->owner, memory_order_acquire);
    size_t payload;

    note_request(s, data);
    payload = mine.request.type == NBD_CMD_WRITE ? mine.request.length : 0;
    s->is_bulk = payload > STREAM_BULK_BYTES;
    if (UNLIKELY(!s->ahead))
        s->ahead = malloc(STREAM_AHEAD_BYTES);
    if (owner && s->ahead && !sender_is_behind(&s->sender) && taker(s, owner, &mine.request))
        return true;
    s->payload_left = payload;
    return false;
}

static size_t take_ahead(struct stream *s, void *buffer, size_t bytes)
{
    size_t count = MIN(bytes, s->end - s->at);

    memcpy(buffer, s->ahead + s->at, count);
    s->at += count;
    return count;
}

static ssize_t look(struct stream *s, struct iovec *part, unsigned parts)
{
    struct msghdr message = {.msg_iov = part, .msg_iovlen = parts};
    uint64_t began = clock_ticks(), took;
    ssize_t count;

    for (;;) {
        count = recvmsg(s->fd, &message, MSG_DONTWAIT);
        took = clock_ticks_to_ns(clock_ticks() - began);
        if (count >= 0 || errno != EAGAIN || took >= s->looking.patience_ns)
            break;
        sched_yield(); /* to who makes what is waited for, a peer's follower say */
    }
    looking_has_looked(&s->looking, took, count >= 0);
    return count;
}

static ssize_t sleep_and_read(struct stream *s, struct iovec *part, unsigned parts)
{
    uint64_t began = clock_ticks();
    ssize_t count = readv(s->fd, part, (int)parts);

    looking_has_slept(&s->looking, clock_ticks_to_ns(clock_ticks() - began));
    return count;
}

/* What comes soon is looked for first: the next request of a client that sends one at a time, and
 * what a write brings. */
static ssize_t receive(struct stream *s, struct iovec *part, unsigned parts)
{
    if (looking_may(&s->looking)) {
        ssize_t count = look(s, part, parts);

        if (count >= 0 || errno != EAGAIN)
            return count;
    }
    return sleep_and_read(s, part, parts);
}

static ssize_t read_more(struct stream *s, void *buffer, size_t bytes)
{
    struct iovec part[] = {{buffer, bytes}, {s->ahead, STREAM_AHEAD_BYTES}};
    unsigned parts = s->is_bulk ? 1 : 2;
    ssize_t count = s->is_soon ? receive(s, part, parts) : readv(s->fd, part, (int)parts);

    s->at = 0;
    s->end = count > (ssize_t)bytes ? (size_t)count - bytes : 0;
    return MIN(count, (ssize_t)bytes);
}

/* The whole of it, however it comes: only so it is known where the next one begins. */
static ssize_t read_request(struct stream *s, char *buffer, size_t bytes)
{
    size_t have = take_ahead(s, buffer, bytes);

    while (have < bytes) {
        ssize_t count;

        stream_send_replies(s);
        count = read_more(s, buffer + have, bytes - have);
        if (count < 0 && errno == EINTR && have > 0)
            continue;
        if (count <= 0)
            return have > 0 ? (ssize_t)have : count;
        have += (size_t)count;
    }
    return (ssize_t)bytes;
}

/* What is negotiated, and what a write brings. */
static ssize_t read_other(struct stream *s, void *buffer, size_t bytes)
{
    ssize_t count =
        s->at < s->end ? (ssize_t)take_ahead(s, buffer, bytes) : read(s->fd, buffer, bytes);

    if (count > 0)
        s->payload_left -= MIN(s->payload_left, (size_t)count);
    return count;
}

ssize_t stream_read(int fd, void *buffer, size_t bytes)
{
    struct stream *s = find(fd);
    ssize_t count;

    if (!s)
        return read(fd, buffer, bytes);
    /* The data of a write may look like a request. */
    if (bytes != sizeof(struct nbd_request) || s->payload_left > 0)
        return read_other(s, buffer, bytes);
    do
        count = s->ahead ? read_request(s, buffer, bytes) : read(fd, buffer, bytes);
    while (count == (ssize_t)bytes && is_request(buffer) && is_taken(s, buffer));
    stream_send_replies(s);
    return count;
}

ssize_t stream_recv(int fd, void *buffer, size_t bytes, int flags)
{
    return flags ? recv(fd, buffer, bytes, flags) : stream_read(fd, buffer, bytes);
}

/* nbdkit 1.34 and later ask whether there is something to read before they read. */
int stream_poll(struct pollfd *fds, nfds_t count, int timeout_ms)
{
    unsigned ready = 0;
    int polled;

    for (nfds_t i = 0; i < count; i++) {
        const struct stream *s = find(fds[i].fd);

        ready += s && s->at < s->end && (fds[i].events & POLLIN);
    }
    polled = poll(fds, count, ready ? 0 : timeout_ms);
    for (nfds_t i = 0; ready && polled >= 0 && i < count; i++) {
        const struct stream *s = find(fds[i].fd);

        if (!s || s->at == s->end || !(fds[i].events & POLLIN))
            continue;
        polled += fds[i].revents == 0;
        fds[i].revents |= POLLIN;
    }
    return polled;
}

/* --- requests that are taken ------------------------------------------------------------------ */

void stream_set_taker(stream_taker *new)
{
    taker = new;
}

void stream_claim(void *owner, uint64_t offset, uint32_t length)
{
    struct stream *s = mine.read_from;

    if (taker && s && mine.request.offset == offset && mine.request.length == length)
        atomic_store_explicit(&s->owner, owner, memory_order_release);
}

enum reply_form stream_reply_form(const struct stream *s, unsigned type)
{
    return atomic_load_explicit(&s->reply_form[type], memory_order_relaxed);
}

const char *stream_payload(struct stream *s, size_t bytes)
{
    while (s->end - s->at < bytes) {
        ssize_t count;

        stream_send_replies(s);
        memmove(s->ahead, s->ahead + s->at, s->end - s->at);
        s->end -= s->at;
        s->at = 0;
        count = receive(s, &(struct iovec){s->ahead + s->end, STREAM_AHEAD_BYTES - s->end}, 1);
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            return NULL;
        s->end += (size_t)count;
    }
    return s->ahead + s->at;
}

void stream_skip_payload(struct stream *s, size_t bytes)
{
    s->at += bytes;
}

size_t stream_bytes_ahead(const struct stream *s)
{
    return s->end - s->at;
}

void stream_reply(struct stream *s, const void *data, size_t bytes)
{
    s->replies[s->reply_count++] = (struct iovec){(void *)(uintptr_t)data, bytes};
    if (s->reply_count == REPLIES_MAX)
        stream_send_replies(s);
}

bool stream_has_replies(const struct stream *s)
{
    return s->reply_count > 0;
}

void stream_send_replies(struct stream *s)
{
    unsigned count = s->reply_count;

    s->is_soon = count == 1;
    if (count == 0)
        return;
    s->reply_count = 0;
    sender_reply(&s->sender, s->replies, count, PATIENCE_MS);
}

int stream_descriptor(const struct stream *s)
{
    return s->fd;
}

void stream_take_aside(struct stream *s)
{
    if (atomic_fetch_add_explicit(&s->aside, 1, memory_order_relaxed) == 0)
        sender_hold(&s->sender);
}

void stream_answer(struct stream *s, struct iovec *replies, unsigned count)
{
    sender_reply(&s->sender, replies, count, 0);
}

void stream_has_answered(struct stream *s, unsigned count)
{
    if (atomic_fetch_sub_explicit(&s->aside, count, memory_order_relaxed) == count)
        sender_release(&s->sender);
}

unsigned stream_aside(const struct stream *s)
{
    return atomic_load_explicit(&s->aside, memory_order_relaxed);
}

/* --- sending ---------------------------------------------------------------------------------- */

/* Of the beginning of an answer to a request that succeeded. */
static enum reply_form form_of(const void *data, size_t bytes)
{
    struct nbd_reply reply;

    if (bytes < sizeof reply)
        return REPLY_UNKNOWN;
    memcpy(&reply, data, sizeof reply);
    if (reply.magic == htobe32(NBD_SIMPLE_REPLY_MAGIC) && reply.u.error == 0)
        return REPLY_SIMPLE;
    if (reply.magic == htobe32(NBD_STRUCTURED_REPLY_MAGIC) &&
        reply.u.chunk.type == htobe16(NBD_REPLY_TYPE_OFFSET_DATA))
        return REPLY_STRUCTURED;
    return REPLY_UNKNOWN;
}

/* Nobody tells what was negotiated but nbdkit's first answer. */
static void learn_form(struct stream *s, const void *data, size_t bytes)
{
    bool has_begun = mine.sends_to || (pending.bytes && pending.serial == s->serial);

    if (mine.read_from == s && mine.request.type < TYPES && !has_begun &&
        stream_reply_form(s, mine.request.type) == REPLY_UNKNOWN)
        atomic_store_explicit(&s->reply_form[mine.request.type], form_of(data, bytes),
                              memory_order_relaxed);
}

static bool keep(const struct stream *s, const void *buffer, size_t bytes)
{
    size_t before = pending.serial == s->serial ? pending.bytes : 0;

    if (before + bytes > sizeof pending.data)
        return false;
    memcpy(pending.data + before, buffer, bytes);
    pending.serial = s->serial;
    pending.bytes = before + bytes;
    return true;
}

/* All of it: who asked has been told already that the first part is sent. */
static ssize_t send_both(const struct stream *s, const void *buffer, size_t bytes, int flags)
{
    struct iovec part[] = {{pending.data, pending.bytes}, {(void *)(uintptr_t)buffer, bytes}};

    pending.bytes = 0;
    return sender_send(&s->sender, part, ARRAY_SIZE(part), flags) ? (ssize_t)bytes : -1;
}

static ssize_t send_piece(const struct stream *s, const void *buffer, size_t bytes, int flags)
{
    if (pending.bytes == 0 || pending.serial != s->serial)
        return send(s->fd, buffer, bytes, flags);
    return send_both(s, buffer, bytes, flags);
}

static void begin_sending(struct stream *s)
{
    if (mine.sends_to == s)
        return;
    sender_take_turn(&s->sender);
    mine.sends_to = s;
}

static void end_sending(struct stream *s)
{
    mine.sends_to = NULL;
    sender_end_turn(&s->sender);
}

ssize_t stream_send(int fd, const void *buffer, size_t bytes, int flags)
{
    struct stream *s = find(fd);
    ssize_t sent;

    if (!s)
        return send(fd, buffer, bytes, flags);
    learn_form(s, buffer, bytes);
    if ((flags & MSG_MORE) && mine.sends_to != s && keep(s, buffer, bytes))
        return (ssize_t)bytes;
    begin_sending(s);
    sent = send_piece(s, buffer, bytes, flags);
    if ((sent < 0 && errno != EINTR && errno != EAGAIN) ||
        (sent == (ssize_t)bytes && !(flags & MSG_MORE)))
        end_sending(s);
    return sent;
}

/* --- nbdkit's calls ---------------------------------------------------------------------------
 */

/* accept4 comes last: without it there is no stream, and nothing is other than it was. */
void stream_install(int (*lead)(const char *name, void *to))
{
    static const struct {
        const char *name;
        void *to;
    } calls[] = {
        {"read", (void *)stream_read},   {"recv", (void *)stream_recv},
        {"poll", (void *)stream_poll},   {"send", (void *)stream_send},
        {"close", (void *)stream_close},
    };

    for (unsigned i = 0; i < ARRAY_SIZE(calls); i++)
        (void)lead(calls[i].name, calls[i].to);
    (void)lead("accept4", (void *)stream_accept4);
}
