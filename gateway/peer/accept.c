/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * accept.c: where other gateways connect, and how little a stranger can take: connections that have
 * not said who they are count, in all and by address; each has a few seconds and a few kilobytes.
 * One too many is closed at once, with a line in the log a minute.
 */
#include "internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define ACCEPTS_AT_A_TIME 64u

/* --- strangers ------------------------------------------------------------------------------ */

static void address_of(const struct sockaddr_storage *sa, uint8_t out[16])
{
    memset(out, 0, 16);
    if (sa->ss_family == AF_INET)
        memcpy(out, &((const struct sockaddr_in *)sa)->sin_addr, 4);
    else if (sa->ss_family == AF_INET6)
        memcpy(out, &((const struct sockaddr_in6 *)sa)->sin6_addr, 16);
}

static struct stranger *find_stranger(struct peers *peers, const uint8_t address[16])
{
    for (unsigned i = 0; i < peers->stranger_count; i++)
        if (memcmp(peers->stranger[i].address, address, 16) == 0)
            return &peers->stranger[i];
    return NULL;
}

static bool accept_enter(struct peers *peers, const struct sockaddr_storage *other)
{
    uint8_t address[16];
    struct stranger *row;
    unsigned all = 0;

    address_of(other, address);
    for (unsigned i = 0; i < peers->stranger_count; i++)
        all += peers->stranger[i].count;
    row = find_stranger(peers, address);
    if (all >= STRANGERS_MAX || (row && row->count >= STRANGERS_OF_ADDRESS_MAX))
        return false;
    if (!row) {
        row = &peers->stranger[peers->stranger_count++];
        memcpy(row->address, address, sizeof row->address);
        row->count = 0;
    }
    row->count++;
    return true;
}

void accept_leave(struct peers *peers, const struct sockaddr_storage *other)
{
    uint8_t address[16];
    struct stranger *row;

    address_of(other, address);
    row = find_stranger(peers, address);
    if (row && --row->count == 0)
        *row = peers->stranger[--peers->stranger_count];
}

static void turn_away(struct peers *peers, int fd, const struct sockaddr_storage *other)
{
    char host[ADDRESS_TEXT_MAX];
    char *port;

    close(fd);
    address_text(other, host, sizeof host);
    port = strrchr(host, ':');
    if (port)
        *port = '\0';
    peers_say_refused(peers, host, "too many connections that have not said who they are");
}

static void take(struct peers *peers, int fd, const struct sockaddr_storage *other)
{
    struct wire *c;

    if (!accept_enter(peers, other)) {
        turn_away(peers, fd, other);
        return;
    }
    c = wire_new(peers, fd, true, other);
    if (!c) {
        accept_leave(peers, other);
        return;
    }
    c->is_stranger = true;
    wire_begin(c, false);
}

/* --- listeners ------------------------------------------------------------------------------ */

static void on_rested(struct timer *timer)
{
    struct listener *l = CONTAINER_OF(timer, struct listener, rest);

    l->is_resting = loop_watch(l->peers->loop, &l->watch) < 0;
    if (l->is_resting)
        loop_timer_set(l->peers->loop, timer, clock_now_ns() + SECOND_NS);
}

static void rest(struct listener *l)
{
    log_line(LOG_LEVEL_ERROR, "no descriptor is left for a gateway that connects to %s", l->text);
    l->is_resting = true;
    loop_unwatch(l->peers->loop, &l->watch);
    loop_timer_set(l->peers->loop, &l->rest, clock_now_ns() + SECOND_NS);
}

static void on_client(struct watch *watch, uint32_t events)
{
    struct listener *l = CONTAINER_OF(watch, struct listener, watch);

    (void)events;
    for (unsigned i = 0; i < ACCEPTS_AT_A_TIME; i++) {
        struct sockaddr_storage other = {.ss_family = AF_UNSPEC};
        socklen_t length = sizeof other;
        int fd =
            accept4(watch->fd, (struct sockaddr *)&other, &length, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS))
            rest(l);
        if (fd < 0)
            return;
        take(l->peers, fd, &other);
    }
}

int listener_start(struct peers *peers, int fd, const char *text)
{
    struct listener *l = peers->listener_count < LISTENERS_MAX ? calloc(1, sizeof *l) : NULL;

    if (!l)
        return -ENOMEM;
    l->peers = peers;
    l->watch = (struct watch){.fd = fd, .events = EPOLLIN, .ready = on_client};
    l->rest.fire = on_rested;
    snprintf(l->text, sizeof l->text, "%s", text);
    if (loop_watch(peers->loop, &l->watch) < 0) {
        free(l);
        return -EIO;
    }
    peers->listener[peers->listener_count++] = l;
    return 0;
}

void listeners_stop(struct peers *peers)
{
    while (peers->listener_count > 0) {
        struct listener *l = peers->listener[--peers->listener_count];

        if (!l->is_resting)
            loop_unwatch(peers->loop, &l->watch);
        loop_timer_cancel(peers->loop, &l->rest);
        close(l->watch.fd);
        free(l);
    }
}
