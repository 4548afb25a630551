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

    if (!strangers_enter(&peers->strangers, other)) {
        turn_away(peers, fd, other);
        return;
    }
    c = wire_new(peers, fd, true, other);
    if (!c) {
        strangers_leave(&peers->strangers, other);
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
