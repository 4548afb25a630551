/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * delay-proxy: a long line: what comes in on a connection goes out on another one later, as much of
 * it as comes, in both directions.
 *
 *     delay-proxy PORT:TARGET...
 *
 * Listens on 127.0.0.1:PORT and goes on to 127.0.0.1:TARGET.  Each line of its standard input is a
 * number: so many microseconds are added to the round trip from now on (0 at first), half of them
 * each way.  Ends with its input.  One thread; the order of a connection is kept, and a side that
 * sends faster than the other one reads waits when 256 MiB are on their way.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define WAYS_MAX 256u
#define LISTENERS_MAX 8u
#define UNDER_WAY_MAX (256u << 20)
#define PARCEL_BYTES (128u << 10)

struct parcel {
    struct parcel *next;
    uint64_t due_ns;
    size_t at, length;
    char data[];
};

/* One direction: from one socket to the other one of its connection. */
struct way {
    int from, to; /* -1: free */
    struct way *back;
    struct parcel *first, **last;
    size_t under_way;
    bool has_ended, is_blocked; /* nothing comes any more; the socket takes no more now */
};
static struct way ways[WAYS_MAX];
static struct {
    int fd;
    uint16_t target;
} listeners[LISTENERS_MAX];
static unsigned listener_count;
static uint64_t half_ns;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static struct sockaddr_in at_port(uint16_t port)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

/* --- connections ---------------------------------------------------------------------------- */

static void add_listener(const char *text)
{
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    unsigned port, target;
    struct sockaddr_in address;

    if (listener_count == LISTENERS_MAX || sscanf(text, "%u:%u", &port, &target) != 2) {
        fprintf(stderr, "delay-proxy: PORT:TARGET, not %s\n", text);
        exit(2);
    }
    address = at_port((uint16_t)port);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 64) < 0)
        die(text);
    listeners[listener_count].fd = fd;
    listeners[listener_count++].target = (uint16_t)target;
}

static void make_ready(int fd)
{
    int one = 1;

    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static void begin_way(struct way *w, int from, int to, struct way *back)
{
    *w = (struct way){.from = from, .to = to, .back = back, .last = &w->first};
}

/* A pair of ways begins at an even place. */
static void go_on(int from, uint16_t target)
{
    struct sockaddr_in address = at_port(target);
    int to = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    unsigned i = 0;

    while (i < WAYS_MAX && ways[i].from >= 0)
        i += 2;
    if (i >= WAYS_MAX || to < 0 || connect(to, (struct sockaddr *)&address, sizeof address) < 0) {
        close(from);
        close(to);
        return;
    }
    make_ready(from);
    make_ready(to);
    begin_way(&ways[i], from, to, &ways[i + 1]);
    begin_way(&ways[i + 1], to, from, &ways[i]);
}

static void forget(struct way *w)
{
    struct parcel *p;

    while ((p = w->first) != NULL) {
        w->first = p->next;
        free(p);
    }
    w->from = w->to = -1;
}

static void end_both(struct way *w)
{
    struct way *back = w->back;

    close(w->from);
    close(w->to);
    forget(w);
    forget(back);
}

/* --- what is on its way --------------------------------------------------------------------- */

static void take_in(struct way *w)
{
    struct parcel *p = malloc(sizeof *p + PARCEL_BYTES);
    ssize_t n;

    if (!p)
        die("memory");
    n = recv(w->from, p->data, PARCEL_BYTES, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        free(p);
        return;
    }
    w->has_ended = n <= 0;
    p->next = NULL;
    p->due_ns = now_ns() + half_ns;
    p->at = 0;
    p->length = n > 0 ? (size_t)n : 0; /* 0: the end, which takes as long */
    w->under_way += p->length;
    *w->last = p;
    w->last = &p->next;
}

/* False: the connection is over. */
static bool hand_out(struct way *w)
{
    struct parcel *p = w->first;
    ssize_t n = p->length ? send(w->to, p->data + p->at, p->length - p->at, MSG_NOSIGNAL) : 0;

    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        w->is_blocked = true;
        return true;
    }
    if (n < 0)
        return false;
    p->at += (size_t)n;
    w->under_way -= (size_t)n;
    if (p->at < p->length)
        return true;
    if (p->length == 0) {
        shutdown(w->to, SHUT_WR);
        if (w->back->has_ended && !w->back->first)
            return false;
    }
    w->first = p->next;
    if (!w->first)
        w->last = &w->first;
    free(p);
    return true;
}

static void hand_out_due(struct way *w)
{
    while (w->from >= 0 && w->first && !w->is_blocked && w->first->due_ns <= now_ns())
        if (!hand_out(w))
            end_both(w);
}

/* --- turns ---------------------------------------------------------------------------------- */

struct turn {
    struct pollfd fds[1 + LISTENERS_MAX + 2 * WAYS_MAX];
    struct way *way[1 + LISTENERS_MAX + 2 * WAYS_MAX];
    nfds_t count;
    uint64_t wake_ns;
};

static void watch(struct turn *t, int fd, short events, struct way *w)
{
    t->fds[t->count] = (struct pollfd){.fd = fd, .events = events};
    t->way[t->count++] = w;
}

static void watch_way(struct turn *t, struct way *w)
{
    if (!w->has_ended && w->under_way < UNDER_WAY_MAX)
        watch(t, w->from, POLLIN, w);
    if (w->is_blocked)
        watch(t, w->to, POLLOUT, w);
    else if (w->first && w->first->due_ns < t->wake_ns)
        t->wake_ns = w->first->due_ns;
}

static void sleep_for_events(struct turn *t)
{
    uint64_t now = now_ns(), ns = t->wake_ns > now ? t->wake_ns - now : 0;
    struct timespec timeout = {.tv_sec = (time_t)(ns / 1000000000u),
                               .tv_nsec = (long)(ns % 1000000000u)};

    if (ppoll(t->fds, t->count, t->wake_ns == UINT64_MAX ? NULL : &timeout, NULL) < 0 &&
        errno != EINTR)
        die("ppoll");
}

static void take_order(void)
{
    char line[64] = "";
    ssize_t n = read(STDIN_FILENO, line, sizeof line - 1);

    if (n <= 0)
        exit(0);
    half_ns = strtoull(line, NULL, 10) * 1000u / 2;
}

static void take_turn(struct turn *t)
{
    t->count = 0;
    t->wake_ns = UINT64_MAX;
    watch(t, STDIN_FILENO, POLLIN, NULL);
    for (unsigned i = 0; i < listener_count; i++)
        watch(t, listeners[i].fd, POLLIN, NULL);
    for (unsigned i = 0; i < WAYS_MAX; i++)
        if (ways[i].from >= 0)
            watch_way(t, &ways[i]);
    sleep_for_events(t);
    if (t->fds[0].revents)
        take_order();
    for (nfds_t i = 1 + listener_count; i < t->count; i++) {
        struct way *w = t->way[i];

        if (w->from < 0 || !t->fds[i].revents)
            continue;
        if (t->fds[i].events == POLLIN)
            take_in(w);
        else
            w->is_blocked = false;
    }
    for (unsigned i = 0; i < WAYS_MAX; i++)
        hand_out_due(&ways[i]);
    for (unsigned i = 0; i < listener_count; i++)
        if (t->fds[1 + i].revents)
            go_on(accept4(listeners[i].fd, NULL, NULL, SOCK_CLOEXEC), listeners[i].target);
}

int main(int argc, char **argv)
{
    static struct turn turn;

    prctl(PR_SET_TIMERSLACK, 1ul);
    for (unsigned i = 0; i < WAYS_MAX; i++)
        ways[i].from = ways[i].to = -1;
    for (int i = 1; i < argc; i++)
        add_listener(argv[i]);
    for (;;)
        take_turn(&turn);
}
