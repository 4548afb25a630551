/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stream.h: stands between nbdkit and the sockets of its NBD clients, and makes fewer system calls
 * of what nbdkit asks for.  The functions behave as those of the C library whose names they bear;
 * descriptors that did not come from stream_accept4() are handed on to these untouched.
 *
 * Any thread; as with nbdkit, one thread at a time reads from a connection, one at a time sends a
 * whole reply, and nobody does either while it is closed.
 */
#ifndef SLUICE_NBDKIT_STREAM_H
#define SLUICE_NBDKIT_STREAM_H

#include <poll.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/types.h>

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

#endif
