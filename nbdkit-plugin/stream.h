/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stream.h: stands between nbdkit and the sockets of its NBD clients, and makes fewer system calls
 * of what nbdkit asks for.  The functions behave as those of the C library whose names they bear;
 * descriptors that did not come from stream_accept4() are handed on to these untouched.
 *
 * Any thread; as with nbdkit, one thread at a time reads from a connection, one of nbdkit's at a
 * time sends a whole reply, and nobody does either while it is closed.
 *
 * Who has claimed a connection may take requests of it before nbdkit has them, in the thread that
 * reads, and answer them there.
 */
#ifndef SLUICE_NBDKIT_STREAM_H
#define SLUICE_NBDKIT_STREAM_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

/* What is read with a request, at most; the data of a write above the other is not. */
#define STREAM_AHEAD_BYTES 32768
#define STREAM_BULK_BYTES 16384

/* `lead` makes nbdkit's calls of a name go to a function: 0, or less when it cannot. */
void stream_install(int (*lead)(const char *name, void *to));

int stream_accept4(int listener, struct sockaddr *address, socklen_t *length, int flags);
int stream_close(int fd);
ssize_t stream_read(int fd, void *buffer, size_t bytes);
ssize_t stream_recv(int fd, void *buffer, size_t bytes, int flags);
ssize_t stream_send(int fd, const void *buffer, size_t bytes, int flags);
int stream_poll(struct pollfd *fds, nfds_t count, int timeout_ms);

/* --- requests that are taken ------------------------------------------------------------------ */

#define NBD_CMD_READ 0
#define NBD_CMD_WRITE 1
#define NBD_CMD_FLUSH 3
#define NBD_SIMPLE_REPLY_MAGIC 0x67446698u
#define NBD_STRUCTURED_REPLY_MAGIC 0x668e33efu
#define NBD_REPLY_FLAG_DONE 1
#define NBD_REPLY_TYPE_OFFSET_DATA 1
#define NBD_REPLY_TYPE_ERROR 0x8001

struct stream;

/* NBD protocol, "Request message". */
struct stream_request {
    uint16_t flags, type;
    uint64_t cookie; /* as it came */
    uint64_t offset; /* bytes */
    uint32_t length; /* bytes */
};

/* How nbdkit answers requests of a type on this connection, as far as it has been seen. */
enum reply_form { REPLY_UNKNOWN, REPLY_SIMPLE, REPLY_STRUCTURED };

/* True: the request has been answered, and what it brought was skipped.  False: it is nbdkit's. */
typedef bool stream_taker(struct stream *s, void *owner, const struct stream_request *request);

/* Before the first connection; none: nothing is ever taken. */
void stream_set_taker(stream_taker *taker);
/* In the thread that nbdkit has given a request, of this range: the connection that it was read
 * from is the owner's from now on, as long as anybody reads from it. */
void stream_claim(void *owner, uint64_t offset, uint32_t length);

/* By a taker. */
enum reply_form stream_reply_form(const struct stream *s, unsigned type);
/* What a request brings, up to STREAM_BULK_BYTES; may wait for it.  NULL: it does not come. */
const char *stream_payload(struct stream *s, size_t bytes);
void stream_skip_payload(struct stream *s, size_t bytes);
/* What has come behind the request, its payload and others. */
size_t stream_bytes_ahead(const struct stream *s);
/* A whole reply, which leaves with those to the requests that have come with it, before anything is
 * waited for and before nbdkit goes on; until stream_has_replies() tells so the data stays.  Where
 * it cannot be sent the connection is cut. */
void stream_reply(struct stream *s, const void *data, size_t bytes);
bool stream_has_replies(const struct stream *s);
void stream_send_replies(struct stream *s);
/* To be watched, not to be read: is there more?  What is ahead has been read already. */
int stream_descriptor(const struct stream *s);

/* A request that was taken to be answered later, by any thread: the connection is not closed before
 * it is.  Answers are whole replies; nobody is waited for. */
void stream_take_aside(struct stream *s);
void stream_answer(struct stream *s, struct iovec *replies, unsigned count);
void stream_has_answered(struct stream *s, unsigned count);
unsigned stream_aside(const struct stream *s); /* how many are taken and not answered */

#endif
