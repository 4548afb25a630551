/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * listen.c: listening TCP sockets.  An IPv6 address takes IPv6 alone, so that 0.0.0.0 and :: of one
 * port do not get into each other's way.
 */
#include "io/io.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define BACKLOG 1024

static int make_listener(const struct addrinfo *a, int flags)
{
    int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | flags, 0), one = 1;

    if (fd < 0)
        return -errno;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (a->ai_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
    if (bind(fd, a->ai_addr, a->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0) {
        int error = errno;

        close(fd);
        return -error;
    }
    return fd;
}

int listen_tcp(const char *host, uint16_t port, const char *text, int flags, struct err *e)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found;
    char service[8];
    int fd, r;

    snprintf(service, sizeof service, "%u", port);
    r = getaddrinfo(host, service, &hints, &found);
    if (r)
        return err_set(e, EINVAL, "cannot listen on %s: %s", text, gai_strerror(r));
    fd = make_listener(found, flags);
    freeaddrinfo(found);
    return fd < 0 ? err_set(e, -fd, "cannot listen on %s: %s", text, strerror(-fd)) : fd;
}
