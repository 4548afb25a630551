/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * dial.c: connecting to a peer, again and again with growing pauses, until one of both sides has
 * made a set.  Names are looked up on a pool thread.  What is wrong with an identity does not
 * become right by trying again: it is said once, and dialling ends until the next reload.
 */
#include "internal.h"

#include <errno.h>
#include <netdb.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define PAUSE_FIRST_NS (50u * 1000000u)
#define PAUSE_MOST_NS (2 * SECOND_NS)
#define COURTESY_NS (100u * 1000000u)

/* --- names to addresses --------------------------------------------------------------------- */

struct resolution {
    struct task task;
    struct peer *peer;
    char host[256];
    uint16_t port;
    struct sockaddr_storage address[DIAL_ADDRESSES_MAX];
    unsigned count;
    char reason[200];
};

static void try_next(struct peer *peer);

/* [C] One that the peer does not wait for any more is forgotten. */
static void on_resolved(struct task *task)
{
    struct resolution *r = CONTAINER_OF(task, struct resolution, task);
    struct peer *peer = r->peer;

    if (peer->dial.resolution == r) {
        peer->dial.resolution = NULL;
        memcpy(peer->dial.address, r->address, sizeof r->address);
        peer->dial.count = r->count;
        peer->dial.next = 0;
        if (r->count)
            try_next(peer);
        else
            dial_failed(peer, -EHOSTUNREACH, r->reason);
    }
    peers_job_done(peer->peers);
    free(r);
}

static void resolve(struct task *task)
{
    struct resolution *r = CONTAINER_OF(task, struct resolution, task);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV}, *found;
    char service[8];
    int error;

    snprintf(service, sizeof service, "%u", r->port);
    error = getaddrinfo(r->host, service, &hints, &found);
    if (error) {
        snprintf(r->reason, sizeof r->reason, "cannot find %.100s: %s", r->host,
                 gai_strerror(error));
    } else {
        for (struct addrinfo *a = found; a && r->count < DIAL_ADDRESSES_MAX; a = a->ai_next)
            memcpy(&r->address[r->count++], a->ai_addr, a->ai_addrlen);
        freeaddrinfo(found);
    }
    r->task.run = on_resolved;
    home_post(r->peer->peers->home, &r->task);
}

static void begin_resolution(struct peer *peer)
{
    struct resolution *r = calloc(1, sizeof *r);

    if (!r) {
        dial_failed(peer, -ENOMEM, "out of memory");
        return;
    }
    peers_job_begin(peer->peers);
    r->peer = peer;
    r->port = peer->port;
    snprintf(r->host, sizeof r->host, "%s", peer->host);
    r->task.run = resolve;
    peer->dial.state = DIAL_RESOLVING;
    peer->dial.resolution = r;
    pool_submit(&r->task);
}

/* --- connections ---------------------------------------------------------------------------- */

static socklen_t length_of(const struct sockaddr_storage *sa)
{
    return sa->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
}

int dial_connect(struct set *set, unsigned number)
{
    const struct sockaddr_storage *to = &set->address;
    int fd = socket(to->ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct wire *c;
    bool is_connecting;

    if (fd < 0)
        return -errno;
    is_connecting = connect(fd, (const struct sockaddr *)to, length_of(to)) < 0;
    if (is_connecting && errno != EINPROGRESS) {
        int error = errno;

        close(fd);
        return -error;
    }
    c = wire_new(set->peer->peers, fd, false, to);
    if (!c)
        return -ENOMEM;
    c->peer = set->peer;
    c->set = set;
    c->number = number;
    set->wire[number] = c;
    wire_begin(c, true); /* a socket that is connected already can be written to at once */
    return 0;
}

static void try_next(struct peer *peer)
{
    struct sockaddr_storage *to = &peer->dial.address[peer->dial.next++];
    int r;

    peer->dial.state = DIAL_CONNECTING;
    r = set_dial(peer, to);
    if (r < 0) {
        char reason[200], text[ADDRESS_TEXT_MAX];

        address_text(to, text, sizeof text);
        snprintf(reason, sizeof reason, "cannot connect to %s: %s", text, strerror(-r));
        dial_failed(peer, r, reason);
    }
}

/* --- when ----------------------------------------------------------------------------------- */

static void on_time(struct timer *timer)
{
    struct peer *peer = CONTAINER_OF(timer, struct peer, dial.timer);

    begin_resolution(peer);
}

uint64_t dial_courtesy_ns(const struct peer *peer)
{
    return set_is_ours_kept(peer) ? 0 : COURTESY_NS;
}

void dial_soon(struct peer *peer, uint64_t pause_ns)
{
    if (peer->peers->is_stopping || !peer->is_configured || peer->is_final ||
        peer->dial.state > DIAL_WAITING)
        return;
    peer->dial.state = DIAL_WAITING;
    peer->dial.timer.fire = on_time;
    loop_timer_set(peer->peers->loop, &peer->dial.timer, clock_now_ns() + pause_ns);
}

void dial_cancel(struct peer *peer)
{
    loop_timer_cancel(peer->peers->loop, &peer->dial.timer);
    peer->dial.resolution = NULL;
    peer->dial.state = DIAL_IDLE;
}

void dial_succeeded(struct peer *peer)
{
    dial_cancel(peer);
    peer->dial.pause_ns = 0;
    peer->is_final = false;
    peer->said[0] = '\0';
}

/* A quarter more or less, so that two who lost each other do not meet again and again. */
static uint64_t with_jitter(uint64_t ns)
{
    uint32_t random = 0;

    RAND_bytes((unsigned char *)&random, sizeof random);
    return ns - ns / 4 + random % (ns / 2);
}

static void say_once(struct peer *peer, int code, const char *reason)
{
    {
        SCOPED_LOCK(&peer->mutex);
        snprintf(peer->seen.reason, sizeof peer->seen.reason, "%s", reason);
        peer->seen.state = peer->is_final ? "refused" : "dialling";
    }
    if (code == -EBUSY || strcmp(peer->said, reason) == 0)
        return;
    snprintf(peer->said, sizeof peer->said, "%s", reason);
    if (peer->is_final)
        log_line(LOG_LEVEL_ERROR, "peer refused: %s; no further try before a reload peer=%s",
                 reason, peer->name);
    else
        log_line(LOG_LEVEL_NOTICE, "not connected yet: %s peer=%s", reason, peer->name);
    if (peer->is_final)
        peers_notify(peer->peers, "refused", peer->name, "reason:%s", reason);
}

void dial_failed(struct peer *peer, int code, const char *reason)
{
    uint64_t *pause_ns = &peer->dial.pause_ns;
    bool has_more = peer->dial.state == DIAL_CONNECTING && code != -EKEYREJECTED &&
                    code != -EBUSY && peer->dial.next < peer->dial.count;

    dial_cancel(peer);
    if (has_more && peer->is_configured && !peer->peers->is_stopping) {
        try_next(peer);
        return;
    }
    peer->is_final |= code == -EKEYREJECTED;
    say_once(peer, code, reason);
    *pause_ns = *pause_ns ? MIN(*pause_ns * 2, PAUSE_MOST_NS) : PAUSE_FIRST_NS;
    if (!peer->set || peer->wants_renewal)
        dial_soon(peer, with_jitter(*pause_ns));
}
