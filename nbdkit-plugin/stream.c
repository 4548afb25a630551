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

#include "base/base.h"

#include <endian.h>
#include <errno.h>
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
#define NBD_CMD_WRITE 1

/* NBD protocol, "Request message"; all numbers big-endian. */
struct nbd_request {
    uint32_t magic;
    uint16_t flags, type;
    uint64_t cookie, offset;
    uint32_t length;
} __attribute__((packed));

struct stream {
    uint64_t serial; /* of the connection: a descriptor's number comes again, this does not */
    char *ahead;     /* STREAM_AHEAD_BYTES; NULL before the first request */
    size_t at, end;  /* what of it has not been asked for yet */
    bool is_bulk;    /* the last request brings more data than is worth a copy */
};

static _Atomic(struct stream *) stream_of[FDS_MAX];
static _Atomic uint64_t last_serial;

/* What this thread was told that more follows of. */
static _Thread_local struct {
    uint64_t serial;
    size_t bytes;
    char data[PENDING_BYTES];
} pending;

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
    if (old)
        free(old->ahead);
    free(old);
}

/* --- the life of a connection ----------------------------------------------------------------- */

static struct stream *make(void)
{
    struct stream *s = calloc(1, sizeof *s);

    if (s)
        s->serial = atomic_fetch_add(&last_serial, 1) + 1;
    return s;
}

int stream_accept4(int listener, struct sockaddr *address, socklen_t *length, int flags)
{
    int fd = accept4(listener, address, length, flags);

    if (fd >= 0 && fd < FDS_MAX)
        put(fd, make());
    return fd;
}

int stream_close(int fd)
{
    put(fd, NULL);
    return close(fd);
}

/* --- reading ---------------------------------------------------------------------------------- */

static bool is_request(const void *data, size_t bytes)
{
    uint32_t magic;

    if (bytes != sizeof(struct nbd_request))
        return false;
    memcpy(&magic, data, sizeof magic);
    return be32toh(magic) == NBD_REQUEST_MAGIC;
}

/* nbdkit has been given this request. */
static void note_request(struct stream *s, const void *data)
{
    struct nbd_request request;

    memcpy(&request, data, sizeof request);
    s->is_bulk =
        be16toh(request.type) == NBD_CMD_WRITE && be32toh(request.length) > STREAM_BULK_BYTES;
}

static size_t take_ahead(struct stream *s, void *buffer, size_t bytes)
{
    size_t count = MIN(bytes, s->end - s->at);

    memcpy(buffer, s->ahead + s->at, count);
    s->at += count;
    return count;
}

static ssize_t read_ahead(struct stream *s, int fd, void *buffer, size_t bytes)
{
    struct iovec part[] = {{buffer, bytes}, {s->ahead, STREAM_AHEAD_BYTES}};
    ssize_t count = readv(fd, part, ARRAY_SIZE(part));

    if (count <= (ssize_t)bytes)
        return count;
    s->at = 0;
    s->end = (size_t)count - bytes;
    return (ssize_t)bytes;
}

static ssize_t read_some(struct stream *s, int fd, void *buffer, size_t bytes)
{
    if (s->at < s->end)
        return (ssize_t)take_ahead(s, buffer, bytes);
    if (s->ahead && bytes == sizeof(struct nbd_request) && !s->is_bulk)
        return read_ahead(s, fd, buffer, bytes);
    return read(fd, buffer, bytes);
}

ssize_t stream_read(int fd, void *buffer, size_t bytes)
{
    struct stream *s = find(fd);
    ssize_t count;

    if (!s)
        return read(fd, buffer, bytes);
    count = read_some(s, fd, buffer, bytes);
    if (count == (ssize_t)bytes && is_request(buffer, bytes)) {
        note_request(s, buffer);
        if (UNLIKELY(!s->ahead))
            s->ahead = malloc(STREAM_AHEAD_BYTES);
    }
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

/* --- sending ---------------------------------------------------------------------------------- */

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

static void skip(struct iovec part[2], size_t bytes)
{
    for (unsigned i = 0; i < 2; i++) {
        size_t count = MIN(bytes, part[i].iov_len);

        part[i].iov_base = (char *)part[i].iov_base + count;
        part[i].iov_len -= count;
        bytes -= count;
    }
}

/* All of it: who asked has been told already that the first part is sent. */
static ssize_t send_both(int fd, const void *buffer, size_t bytes, int flags)
{
    struct iovec part[] = {{pending.data, pending.bytes}, {(void *)(uintptr_t)buffer, bytes}};
    struct msghdr message = {.msg_iov = part, .msg_iovlen = ARRAY_SIZE(part)};
    size_t left = pending.bytes + bytes;

    pending.bytes = 0;
    while (left > 0) {
        ssize_t sent = sendmsg(fd, &message, flags);

        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0)
            return -1;
        skip(part, (size_t)sent);
        left -= (size_t)sent;
    }
    return (ssize_t)bytes;
}

ssize_t stream_send(int fd, const void *buffer, size_t bytes, int flags)
{
    const struct stream *s = find(fd);

    if (!s)
        return send(fd, buffer, bytes, flags);
    if ((flags & MSG_MORE) && keep(s, buffer, bytes))
        return (ssize_t)bytes;
    if (pending.bytes == 0 || pending.serial != s->serial)
        return send(fd, buffer, bytes, flags);
    return send_both(fd, buffer, bytes, flags);
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
