/* SPDX-License-Identifier: BSD-3-Clause */
/* nbdkit-plugin/stream.c between a client of the test's own and what nbdkit would call. */
#include "nbd-connection.h"

#include <sched.h>
#include <signal.h>

/* --- sending ---------------------------------------------------------------------------------- */

static void test_what_more_follows_of_leaves_with_what_follows(void)
{
    struct pair p = must_connect(SOCK_SEQPACKET);
    char got[64];

    CHECK_EQ(stream_send(p.server, "head", 4, MSG_MORE), 4);
    CHECK_EQ(stream_send(p.server, "chunk", 5, MSG_MORE), 5);
    CHECK_EQ(recv(p.client, got, sizeof got, MSG_DONTWAIT), -1);
    CHECK_EQ(stream_send(p.server, "data", 4, 0), 4);
    CHECK_EQ(recv(p.client, got, sizeof got, MSG_DONTWAIT), 13);
    CHECK(memcmp(got, "headchunkdata", 13) == 0);
    CHECK_EQ(stream_send(p.server, "next", 4, 0), 4);
    CHECK_EQ(recv(p.client, got, sizeof got, MSG_DONTWAIT), 4);
    hang_up(p);
}

static void test_more_than_can_be_kept_is_sent_in_order(void)
{
    struct pair p = must_connect(SOCK_STREAM);
    char piece[100], got[1000];

    for (unsigned i = 0; i < 9; i++) {
        memset(piece, 'a' + (int)i, sizeof piece);
        CHECK_EQ(stream_send(p.server, piece, sizeof piece, i < 8 ? MSG_MORE : 0), sizeof piece);
    }
    CHECK_EQ(recv(p.client, got, sizeof got, 0), 900);
    for (unsigned i = 0; i < 900; i++)
        CHECK_EQ(got[i], 'a' + (int)i / 100);
    hang_up(p);
}

/* A thread that gave a reply up amid it must not begin another client's reply with it. */
static void test_the_next_connection_of_the_same_number_gets_nothing_of_the_last(void)
{
    struct pair p = must_connect(SOCK_STREAM), q;
    char got[64], request[REQUEST_BYTES + 10];

    put_request(request, CMD_READ, 1, 512);
    send_request(&p, CMD_READ, 0, 512);
    CHECK_EQ(must_read_request(p.server), 0);
    memset(request + REQUEST_BYTES, 'x', 10);
    must_send(p.client, request, sizeof request);
    CHECK_EQ(must_read_request(p.server), 1);
    CHECK_EQ(stream_send(p.server, "old", 3, MSG_MORE), 3);
    close(p.server); /* even if it was closed by other hands */
    close(p.client);
    q = must_connect(SOCK_STREAM);
    CHECK_EQ(q.server, p.server);
    must_send(q.client, "hello", 5);
    CHECK_EQ(stream_read(q.server, got, sizeof got), 5);
    CHECK(memcmp(got, "hello", 5) == 0);
    CHECK_EQ(stream_send(q.server, "new", 3, 0), 3);
    CHECK_EQ(recv(q.client, got, sizeof got, 0), 3);
    CHECK(memcmp(got, "new", 3) == 0);
    CHECK_EQ(stream_send(q.server, "older", 5, MSG_MORE), 5);
    hang_up(q);
    p = must_connect(SOCK_STREAM);
    CHECK_EQ(stream_send(p.server, "new", 3, MSG_MORE), 3);
    CHECK_EQ(stream_send(p.server, "er", 2, 0), 2);
    CHECK_EQ(recv(p.client, got, sizeof got, 0), 5);
    CHECK(memcmp(got, "newer", 5) == 0);
    hang_up(p);
}

static void test_a_client_that_has_gone_is_an_error(void)
{
    struct pair p = must_connect(SOCK_STREAM);

    close(p.client);
    CHECK_EQ(stream_send(p.server, "head", 4, MSG_MORE), 4);
    CHECK_EQ(stream_send(p.server, "data", 4, MSG_NOSIGNAL), -1);
    CHECK_EQ(errno, EPIPE);
    CHECK_EQ(stream_close(p.server), 0);
}

enum { LONG_BYTES = 4 << 20 };

static void *send_long(void *arg)
{
    const struct pair *p = arg;
    CLEANUP_FREE char *data = malloc(LONG_BYTES);

    for (unsigned i = 0; i < LONG_BYTES; i++)
        data[i] = (char)(i % 251);
    CHECK_EQ(stream_send(p->server, data, 200, MSG_MORE), 200);
    CHECK_EQ(stream_send(p->server, data + 200, LONG_BYTES - 200, 0), LONG_BYTES - 200);
    return NULL;
}

static _Atomic unsigned signals;

static void on_signal(int number)
{
    (void)number;
    signals++;
}

/* The first may find the sender at its work; the others find it waiting, with nothing sent since.
 */
static void interrupt_often(pthread_t sender)
{
    for (unsigned i = 1; i <= 20; i++) {
        unsigned before = signals;

        CHECK_EQ(pthread_kill(sender, SIGUSR1), 0);
        while (signals == before)
            sched_yield();
    }
}

/* A signal ends a call that has sent a part, and one that has sent nothing. */
static void test_a_reply_sent_in_parts_is_whole(void)
{
    struct pair p = must_connect(SOCK_STREAM);
    CLEANUP_FREE char *got = malloc(LONG_BYTES);
    struct sigaction action = {.sa_handler = on_signal};
    pthread_t sender;
    size_t at = 0;
    ssize_t count;

    CHECK_EQ(sigaction(SIGUSR1, &action, NULL), 0);
    CHECK_EQ(pthread_create(&sender, NULL, send_long, &p), 0);
    while (at < LONG_BYTES &&
           (count = recv(p.client, got + at, MIN(100000u, LONG_BYTES - at), 0)) > 0) {
        at += (size_t)count;
#ifndef __SANITIZE_THREAD__ /* it keeps signals from a thread that sends until it has sent */
        if (at < LONG_BYTES / 2)
            interrupt_often(sender);
#else
        (void)interrupt_often;
#endif
    }
    pthread_join(sender, NULL);
    CHECK_EQ(at, LONG_BYTES);
    for (unsigned i = 0; i < LONG_BYTES; i++)
        if (got[i] != (char)(i % 251)) {
            CHECK_EQ(i, -1);
            break;
        }
    hang_up(p);
}

/* --- reading ---------------------------------------------------------------------------------- */

/* What is negotiated may end in STARTTLS, and then belongs to the TLS library. */
static void test_nothing_is_read_ahead_before_the_first_request(void)
{
    struct pair p = must_connect(SOCK_STREAM);
    char data[3 * REQUEST_BYTES] = {0}, got[REQUEST_BYTES];

    must_send(p.client, data, sizeof data);
    CHECK_EQ(stream_read(p.server, got, REQUEST_BYTES), REQUEST_BYTES);
    CHECK_EQ(unread(&p), 2 * REQUEST_BYTES);
    CHECK_EQ(stream_read(p.server, got, REQUEST_BYTES), REQUEST_BYTES);
    CHECK_EQ(unread(&p), REQUEST_BYTES);
    hang_up(p);
}

static void test_requests_that_have_come_are_read_together(void)
{
    struct pair p = must_connect(SOCK_STREAM);
    char data[4096], got[4096];

    memset(data, 'd', sizeof data);
    send_request(&p, CMD_READ, 0, 512);
    CHECK_EQ(must_read_request(p.server), 0);
    send_request(&p, CMD_WRITE, 1, sizeof data);
    must_send(p.client, data, sizeof data);
    send_request(&p, CMD_READ, 2, 512);
    send_request(&p, CMD_READ, 3, 512);
    CHECK_EQ(must_read_request(p.server), 1);
    CHECK_EQ(unread(&p), 0);
    must_read(p.server, got, sizeof got);
    CHECK(memcmp(got, data, sizeof data) == 0);
    CHECK_EQ(must_read_request(p.server), 2);
    CHECK_EQ(must_read_request(p.server), 3);
    hang_up(p);
}

static void test_much_data_is_not_copied(void)
{
    enum { LENGTH = STREAM_BULK_BYTES + 1 };
    struct pair p = must_connect(SOCK_STREAM);
    static char data[LENGTH], got[LENGTH];

    memset(data, 'b', sizeof data);
    send_request(&p, CMD_WRITE, 0, LENGTH);
    CHECK_EQ(must_read_request(p.server), 0);
    must_send(p.client, data, sizeof data);
    send_request(&p, CMD_WRITE, 1, LENGTH);
    must_send(p.client, data, sizeof data);
    must_read(p.server, got, sizeof got);
    CHECK(memcmp(got, data, sizeof data) == 0);
    CHECK_EQ(must_read_request(p.server), 1);
    CHECK_EQ(unread(&p), LENGTH);
    must_read(p.server, got, sizeof got);
    CHECK(memcmp(got, data, sizeof data) == 0);
    hang_up(p);
}

struct rest {
    int fd;
    const char *data;
    size_t bytes;
};

static void *send_rest(void *arg)
{
    const struct rest *r = arg;

    must_send(r->fd, r->data, r->bytes);
    return NULL;
}

static void test_a_request_in_pieces_is_a_request(void)
{
    struct pair p = must_connect(SOCK_STREAM);
    char request[2 * REQUEST_BYTES], got[REQUEST_BYTES];
    struct rest late;
    pthread_t sender;

    send_request(&p, CMD_READ, 0, 512);
    CHECK_EQ(must_read_request(p.server), 0);
    for (size_t cut = 1; cut < sizeof request; cut++) {
        put_request(request, CMD_READ, 2 * cut, 512);
        put_request(request + REQUEST_BYTES, CMD_READ, 2 * cut + 1, 512);
        late = (struct rest){p.client, request + cut, sizeof request - cut};
        must_send(p.client, request, cut);
        CHECK_EQ(pthread_create(&sender, NULL, send_rest, &late), 0);
        CHECK_EQ(stream_read(p.server, got, sizeof got), REQUEST_BYTES);
        pthread_join(sender, NULL);
        CHECK_EQ(cookie_of(got), 2 * cut);
        CHECK_EQ(must_read_request(p.server), 2 * cut + 1);
    }
    hang_up(p);
}

static void test_what_was_read_ahead_can_be_polled_for(void)
{
    struct pair p = must_connect(SOCK_STREAM);
    struct pollfd fds[] = {{.fd = p.server, .events = POLLIN}, {.fd = p.client, .events = POLLIN}};

    send_request(&p, CMD_READ, 0, 512);
    CHECK_EQ(must_read_request(p.server), 0);
    CHECK_EQ(stream_poll(fds, 2, 0), 0);
    send_request(&p, CMD_READ, 1, 512);
    send_request(&p, CMD_READ, 2, 512);
    CHECK_EQ(must_read_request(p.server), 1);
    CHECK_EQ(stream_poll(fds, 2, -1), 1);
    CHECK_EQ(fds[0].revents, POLLIN);
    CHECK_EQ(fds[1].revents, 0);
    CHECK_EQ(must_read_request(p.server), 2);
    CHECK_EQ(stream_poll(fds, 2, 0), 0);
    hang_up(p);
}

static void test_the_end_of_a_connection_is_seen(void)
{
    struct pair p = must_connect(SOCK_STREAM);
    char got[REQUEST_BYTES];

    send_request(&p, CMD_READ, 0, 512);
    CHECK_EQ(must_read_request(p.server), 0);
    send_request(&p, CMD_READ, 1, 512);
    send_request(&p, CMD_READ, 2, 512);
    close(p.client);
    CHECK_EQ(must_read_request(p.server), 1);
    CHECK_EQ(must_read_request(p.server), 2);
    CHECK_EQ(stream_read(p.server, got, sizeof got), 0);
    CHECK_EQ(stream_close(p.server), 0);
}

static void test_descriptors_of_others_are_as_ever(void)
{
    char request[2 * REQUEST_BYTES], got[2 * REQUEST_BYTES];
    int ends[2];

    put_request(request, CMD_READ, 0, 512);
    put_request(request + REQUEST_BYTES, CMD_READ, 1, 512);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    for (unsigned i = 0; i < 2; i++) {
        must_send(ends[0], request, sizeof request);
        CHECK_EQ(stream_read(ends[1], got, REQUEST_BYTES), REQUEST_BYTES);
        CHECK_EQ(read(ends[1], got, sizeof got), REQUEST_BYTES);
    }
    CHECK_EQ(stream_send(ends[1], "more", 4, MSG_MORE), 4);
    CHECK_EQ(recv(ends[0], got, sizeof got, MSG_DONTWAIT), 4);
    CHECK_EQ(stream_close(ends[0]), 0);
    CHECK_EQ(stream_close(ends[1]), 0);
    CHECK_EQ(stream_close(-1), -1);
    CHECK_EQ(errno, EBADF);
}

/* --- installing ------------------------------------------------------------------------------- */

static char led[256];

static int note_lead(const char *name, void *to)
{
    CHECK(to != NULL);
    strncat(led, name, sizeof led - strlen(led) - 1);
    strncat(led, " ", sizeof led - strlen(led) - 1);
    return -1;
}

static void test_connections_are_taken_last(void)
{
    stream_install(note_lead);
    CHECK_STR(led, "read recv poll send close accept4 ");
}

int main(void)
{
    RUN(test_what_more_follows_of_leaves_with_what_follows);
    RUN(test_more_than_can_be_kept_is_sent_in_order);
    RUN(test_the_next_connection_of_the_same_number_gets_nothing_of_the_last);
    RUN(test_a_client_that_has_gone_is_an_error);
    RUN(test_a_reply_sent_in_parts_is_whole);
    RUN(test_nothing_is_read_ahead_before_the_first_request);
    RUN(test_requests_that_have_come_are_read_together);
    RUN(test_much_data_is_not_copied);
    RUN(test_a_request_in_pieces_is_a_request);
    RUN(test_what_was_read_ahead_can_be_polled_for);
    RUN(test_the_end_of_a_connection_is_seen);
    RUN(test_descriptors_of_others_are_as_ever);
    RUN(test_connections_are_taken_last);
    return unit_result();
}
