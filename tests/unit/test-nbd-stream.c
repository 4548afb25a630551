/* SPDX-License-Identifier: BSD-3-Clause */
/* nbdkit-plugin/stream.c between a client of the test's own and what nbdkit would call. */
#include "base/base.h"
#include "stream.h"
#include "unit.h"

#include <endian.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/un.h>
#include <unistd.h>

#define REQUEST_BYTES 28
#define CMD_READ NBD_CMD_READ
#define CMD_WRITE NBD_CMD_WRITE

struct pair {
    int client, server;
};

/* SOCK_SEQPACKET keeps what was sent in one call apart from the next: the test sees the calls. */
static struct pair must_connect(int type)
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

static void hang_up(struct pair p)
{
    CHECK_EQ(stream_close(p.server), 0);
    close(p.client);
}

static void put_request(char *to, uint16_t type, uint64_t cookie, uint32_t length)
{
    uint32_t magic = htobe32(0x25609513), big_length = htobe32(length);
    uint16_t big_type = htobe16(type);

    memset(to, 0, REQUEST_BYTES);
    memcpy(to, &magic, 4);
    memcpy(to + 6, &big_type, 2);
    memcpy(to + 8, &cookie, 8);
    memcpy(to + 24, &big_length, 4);
}

static uint64_t cookie_of(const char *request)
{
    uint64_t cookie;

    memcpy(&cookie, request + 8, sizeof cookie);
    return cookie;
}

static void must_send(int fd, const void *data, size_t bytes)
{
    CHECK_EQ(send(fd, data, bytes, 0), (ssize_t)bytes);
}

/* As nbdkit reads: until it has all. */
static void must_read(int fd, char *data, size_t bytes)
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

static uint64_t must_read_request(int fd)
{
    char request[REQUEST_BYTES];

    must_read(fd, request, sizeof request);
    return cookie_of(request);
}

static void send_request(const struct pair *p, uint16_t type, uint64_t cookie, uint32_t length)
{
    char request[REQUEST_BYTES];

    put_request(request, type, cookie, length);
    must_send(p->client, request, sizeof request);
}

/* How many bytes lie in the socket still. */
static ssize_t unread(const struct pair *p)
{
    static char data[1 << 20];
    ssize_t count = recv(p->server, data, sizeof data, MSG_PEEK | MSG_DONTWAIT);

    return count < 0 && errno == EAGAIN ? 0 : count;
}

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

/* --- requests that are taken ------------------------------------------------------------------ */

static struct {
    uint64_t least, most; /* cookies of those that are taken */
    unsigned asked;
    char payload[4096]; /* of the last */
} taking;

static bool take(struct stream *s, void *owner, const struct stream_request *q)
{
    static char answers[8][100];
    char *answer = answers[taking.asked++ % 8];

    CHECK(owner == &taking);
    if (q->cookie < taking.least || q->cookie > taking.most)
        return false;
    if (q->type == CMD_WRITE) {
        const char *data = stream_payload(s, q->length);

        if (!data)
            return false;
        memcpy(taking.payload, data, q->length);
        stream_skip_payload(s, q->length);
    }
    memset(answer, (int)q->cookie, sizeof answers[0]);
    stream_reply(s, answer, sizeof answers[0]);
    return true;
}

/* Of cookies from `least` to `most`, after the first request. */
static struct pair must_take(uint64_t least, uint64_t most)
{
    struct pair p = must_connect(SOCK_STREAM);

    stream_set_taker(take);
    memset(&taking, 0, sizeof taking);
    taking.least = least;
    taking.most = most;
    send_request(&p, CMD_READ, 0, 512);
    CHECK_EQ(must_read_request(p.server), 0);
    CHECK_EQ(taking.asked, 0);
    stream_claim(&taking, 0, 512);
    return p;
}

static void must_be_answered(const struct pair *p, uint64_t cookie)
{
    char got[100];

    CHECK_EQ(recv(p->client, got, sizeof got, MSG_WAITALL), sizeof got);
    CHECK_EQ(got[0], (char)cookie);
    CHECK_EQ(got[99], (char)cookie);
}

static void test_what_is_taken_is_not_read(void)
{
    struct pair p = must_take(1, 20);
    char data[4096], got[4096];

    memset(data, 'd', sizeof data);
    for (uint64_t cookie = 1; cookie <= 20; cookie++) {
        send_request(&p, cookie % 3 ? CMD_READ : CMD_WRITE, cookie, sizeof data);
        if (cookie % 3 == 0)
            must_send(p.client, data, sizeof data);
    }
    send_request(&p, CMD_WRITE, 21, sizeof data);
    must_send(p.client, data, sizeof data);
    CHECK_EQ(must_read_request(p.server), 21); /* nothing waits for nbdkit to go on */
    for (uint64_t cookie = 1; cookie <= 20; cookie++)
        must_be_answered(&p, cookie);
    CHECK(memcmp(taking.payload, data, sizeof data) == 0);
    must_read(p.server, got, sizeof got);
    CHECK(memcmp(got, data, sizeof data) == 0);
    CHECK_EQ(taking.asked, 21);
    hang_up(p);
}

static void *read_request_21(void *arg)
{
    CHECK_EQ(must_read_request(((const struct pair *)arg)->server), 21);
    return NULL;
}

/* Who waits for its answer before it asks again gets it. */
static void test_answers_leave_before_more_is_waited_for(void)
{
    struct pair p = must_take(1, 20);
    char data[100] = {0};
    pthread_t reader;

    CHECK_EQ(pthread_create(&reader, NULL, read_request_21, &p), 0);
    for (uint64_t cookie = 1; cookie < 20; cookie++) {
        send_request(&p, CMD_READ, cookie, 512);
        must_be_answered(&p, cookie);
    }
    send_request(&p, CMD_READ, 19, 512);
    send_request(&p, CMD_WRITE, 20, sizeof data); /* its data comes when the last is answered */
    must_be_answered(&p, 19);
    must_send(p.client, data, 50);
    must_send(p.client, data, 50);
    must_be_answered(&p, 20);
    send_request(&p, CMD_READ, 21, 512);
    pthread_join(reader, NULL);
    hang_up(p);
}

static void test_a_payload_that_does_not_come_is_left_to_nbdkit(void)
{
    struct pair p = must_take(1, 1);
    char data[100], got[100];

    memset(data, 'p', sizeof data);
    send_request(&p, CMD_WRITE, 1, sizeof data);
    must_send(p.client, data, 60);
    close(p.client);
    CHECK_EQ(must_read_request(p.server), 1);
    CHECK_EQ(stream_read(p.server, got, sizeof got), 60);
    CHECK(memcmp(got, data, 60) == 0);
    CHECK_EQ(stream_read(p.server, got, 40), 0);
    CHECK_EQ(stream_close(p.server), 0);
}

/* A guest may write whatever it likes. */
static void test_data_that_looks_like_a_request_is_data(void)
{
    struct pair p = must_take(7, 7);
    char data[REQUEST_BYTES], got[REQUEST_BYTES];

    put_request(data, CMD_READ, 7, 512);
    for (uint64_t cookie = 1; cookie < 4; cookie++) {
        send_request(&p, CMD_WRITE, cookie, 2 * sizeof data);
        must_send(p.client, data, sizeof data);
        must_send(p.client, data, sizeof data);
        CHECK_EQ(must_read_request(p.server), cookie);
        for (unsigned i = 0; i < 2; i++) {
            must_read(p.server, got, sizeof got);
            CHECK(memcmp(got, data, sizeof got) == 0);
        }
    }
    CHECK_EQ(taking.asked, 3);
    hang_up(p);
}

/* What was read first was no request then: nobody knows where one begins. */
static void test_only_what_nbdkit_was_given_is_claimed(void)
{
    struct pair p = must_connect(SOCK_STREAM);

    stream_set_taker(take);
    memset(&taking, 0, sizeof taking);
    send_request(&p, CMD_READ, 0, 512);
    CHECK_EQ(must_read_request(p.server), 0);
    stream_claim(&taking, 4096, 512);
    send_request(&p, CMD_READ, 1, 512);
    CHECK_EQ(must_read_request(p.server), 1);
    CHECK_EQ(taking.asked, 0);
    hang_up(p);
}

static void test_a_client_that_takes_no_answers_has_gone(void)
{
    struct pair p = must_take(1, 1);
    char got[REQUEST_BYTES];

    send_request(&p, CMD_READ, 1, 512);
    send_request(&p, CMD_READ, 2, 512);
    shutdown(p.client, SHUT_RD);
    CHECK_EQ(must_read_request(p.server), 2);
    CHECK_EQ(stream_read(p.server, got, sizeof got), 0);
    hang_up(p);
}

enum { REPLY_IN_PIECES = 800, ANSWERS = 2000 };

static _Atomic unsigned answers;

static void send_in_pieces(int fd, int letter)
{
    char piece[300];

    memset(piece, letter, sizeof piece);
    CHECK_EQ(stream_send(fd, piece, 100, MSG_MORE), 100);
    CHECK_EQ(stream_send(fd, piece, sizeof piece, MSG_MORE), sizeof piece);
    CHECK_EQ(stream_send(fd, piece, 100, MSG_MORE), 100);
    CHECK_EQ(stream_send(fd, piece, sizeof piece, 0), sizeof piece);
}

static void *send_pieces(void *arg)
{
    const struct pair *p = arg;

    for (unsigned i = 0; answers < ANSWERS; i++) {
        unsigned before = answers;

        send_in_pieces(p->server, 'A' + (int)(i % 26));
        while (answers == before) /* a mutex is not fair */
            sched_yield();
    }
    send_in_pieces(p->server, 'z');
    return NULL;
}

static void *ask_often(void *arg)
{
    for (unsigned i = 0; i < ANSWERS; i++)
        send_request(arg, CMD_READ, 1 + i % 20, 512);
    send_request(arg, CMD_READ, 21, 512);
    return NULL;
}

/* The letter or cookie it is made of; 0: it is none. */
static char take_whole_reply(int fd)
{
    char got[REPLY_IN_PIECES];
    size_t length;

    if (recv(fd, got, 1, MSG_WAITALL) != 1)
        return 0;
    length = got[0] >= 'A' ? sizeof got : 100;
    if (recv(fd, got + 1, length - 1, MSG_WAITALL) != (ssize_t)length - 1)
        return 0;
    for (size_t i = 1; i < length; i++)
        if (got[i] != got[0])
            return 0;
    return got[0];
}

/* nbdkit's replies in pieces, and those that are sent meanwhile: each is whole. */
static void test_no_reply_is_sent_amid_another(void)
{
    struct pair p = must_take(1, 20);
    pthread_t reader, sender, asker;
    char last;

    CHECK_EQ(pthread_create(&sender, NULL, send_pieces, &p), 0);
    CHECK_EQ(pthread_create(&reader, NULL, read_request_21, &p), 0);
    CHECK_EQ(pthread_create(&asker, NULL, ask_often, &p), 0);
    do {
        last = take_whole_reply(p.client);
        answers += last < 'A';
    } while (last && last != 'z');
    CHECK_EQ(last, 'z');
    CHECK_EQ(answers, ANSWERS);
    answers = ANSWERS;
    shutdown(p.client, SHUT_RDWR); /* whatever went wrong, nobody waits */
    pthread_join(sender, NULL);
    pthread_join(reader, NULL);
    pthread_join(asker, NULL);
    hang_up(p);
}

static enum reply_form seen_form;

static bool note_form(struct stream *s, void *owner, const struct stream_request *q)
{
    (void)owner;
    seen_form = stream_reply_form(s, q->type);
    return false;
}

static void put_reply(char *to, uint32_t magic, uint32_t rest)
{
    uint32_t words[] = {htobe32(magic), htobe32(rest)};

    memset(to, 0, 20);
    memcpy(to, words, sizeof words);
}

/* By what nbdkit answers: after an error as little is known as before. */
static void test_the_form_of_replies_is_learned(void)
{
    static const struct {
        unsigned type;
        uint32_t magic, rest;
        enum reply_form form;
    } cases[] = {
        {CMD_READ, NBD_SIMPLE_REPLY_MAGIC, 0, REPLY_SIMPLE},
        {CMD_READ, NBD_SIMPLE_REPLY_MAGIC, 5, REPLY_UNKNOWN},
        {CMD_READ, NBD_STRUCTURED_REPLY_MAGIC, 1 << 16 | 1, REPLY_STRUCTURED},
        {CMD_READ, NBD_STRUCTURED_REPLY_MAGIC, 1 << 16 | 32769, REPLY_UNKNOWN},
        {CMD_READ, 0x6e8a278c, 0, REPLY_UNKNOWN}, /* an extended reply */
        {CMD_WRITE, NBD_SIMPLE_REPLY_MAGIC, 0, REPLY_SIMPLE},
        {CMD_WRITE, NBD_SIMPLE_REPLY_MAGIC, 28, REPLY_UNKNOWN},
    };

    stream_set_taker(note_form);
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        struct pair p = must_connect(SOCK_STREAM);
        char reply[20], magic_again[20];

        send_request(&p, cases[i].type, 0, 0);
        CHECK_EQ(must_read_request(p.server), 0);
        stream_claim(&taking, 0, 0);
        put_reply(reply, cases[i].magic, cases[i].rest);
        put_reply(magic_again, NBD_SIMPLE_REPLY_MAGIC, 0); /* in data it means nothing */
        CHECK_EQ(stream_send(p.server, reply, sizeof reply, MSG_MORE), sizeof reply);
        CHECK_EQ(stream_send(p.server, magic_again, sizeof magic_again, 0), sizeof magic_again);
        send_request(&p, cases[i].type, 1, 0);
        seen_form = (enum reply_form)99;
        CHECK_EQ(must_read_request(p.server), 1);
        CHECK_EQ(seen_form, cases[i].form);
        hang_up(p);
    }
    stream_set_taker(NULL);
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
    RUN(test_what_is_taken_is_not_read);
    RUN(test_answers_leave_before_more_is_waited_for);
    RUN(test_a_payload_that_does_not_come_is_left_to_nbdkit);
    RUN(test_data_that_looks_like_a_request_is_data);
    RUN(test_only_what_nbdkit_was_given_is_claimed);
    RUN(test_a_client_that_takes_no_answers_has_gone);
    RUN(test_no_reply_is_sent_amid_another);
    RUN(test_the_form_of_replies_is_learned);
    RUN(test_connections_are_taken_last);
    return unit_result();
}
