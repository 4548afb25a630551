/* SPDX-License-Identifier: BSD-3-Clause */
/* nbd-connection.h: a connection between a client of the test's own and nbdkit-plugin/stream.c. */
#ifndef SLUICE_NBD_CONNECTION_H
#define SLUICE_NBD_CONNECTION_H

#include "base/base.h"
#include "stream.h"
#include "unit.h"

#include <endian.h>
#include <errno.h>
#include <pthread.h>
#include <sys/un.h>
#include <unistd.h>

#define REQUEST_BYTES 28
#define CMD_READ NBD_CMD_READ
#define CMD_WRITE NBD_CMD_WRITE

struct pair {
    int client, server;
};

/* SOCK_SEQPACKET keeps what was sent in one call apart from the next: the test sees the calls. */
static inline struct pair must_connect(int type)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    socklen_t length = sizeof name;
    int listener = socket(AF_UNIX, type, 0);
    struct pair p = {.client = socket(AF_UNIX, type, 0)};

    CHECK_EQ(bind(listener, (struct sockaddr *)&name, sizeof name.sun_family), 0); /* any name */
    CHECK_EQ(listen(listener, 1), 0);
    CHECK_EQ(getsockname(listener, (struct sockaddr *)&name, &length), 0);
    CHECK_EQ(connect(p.client, (struct sockaddr *)&name, length), 0);
    p.server = stream_accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    CHECK(p.server >= 0);
    close(listener);
    return p;
}

static inline void hang_up(struct pair p)
{
    CHECK_EQ(stream_close(p.server), 0);
    close(p.client);
}

static inline void put_request(char *to, uint16_t type, uint64_t cookie, uint32_t length)
{
    uint32_t magic = htobe32(0x25609513), big_length = htobe32(length);
    uint16_t big_type = htobe16(type);

    memset(to, 0, REQUEST_BYTES);
    memcpy(to, &magic, 4);
    memcpy(to + 6, &big_type, 2);
    memcpy(to + 8, &cookie, 8);
    memcpy(to + 24, &big_length, 4);
}

static inline uint64_t cookie_of(const char *request)
{
    uint64_t cookie;

    memcpy(&cookie, request + 8, sizeof cookie);
    return cookie;
}

static inline void must_send(int fd, const void *data, size_t bytes)
{
    CHECK_EQ(send(fd, data, bytes, 0), (ssize_t)bytes);
}

/* As nbdkit reads: until it has all. */
static inline void must_read(int fd, char *data, size_t bytes)
{
    while (bytes > 0) {
        ssize_t count = stream_read(fd, data, bytes);

        CHECK(count > 0);
        if (count <= 0)
            return;
        data += count;
        bytes -= (size_t)count;
    }
}

static inline uint64_t must_read_request(int fd)
{
    char request[REQUEST_BYTES];

    must_read(fd, request, sizeof request);
    return cookie_of(request);
}

static inline void send_request(const struct pair *p, uint16_t type, uint64_t cookie,
                                uint32_t length)
{
    char request[REQUEST_BYTES];

    put_request(request, type, cookie, length);
    must_send(p->client, request, sizeof request);
}

/* How many bytes lie in the socket still. */
static inline ssize_t unread(const struct pair *p)
{
    static char data[1 << 20];
    ssize_t count = recv(p->server, data, sizeof data, MSG_PEEK | MSG_DONTWAIT);

    return count < 0 && errno == EAGAIN ? 0 : count;
}

#endif
