/* SPDX-License-Identifier: BSD-3-Clause */
/* Requests that somebody takes of nbdkit-plugin/stream.c before nbdkit, and their answers. */
#include "nbd-connection.h"

#include <sched.h>

static struct {
    uint64_t least, most; /* cookies of those that are taken */
    unsigned asked, answered;
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
    taking.answered++;
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

/* Those that are not taken, since one was left behind, are answered as nbdkit would. */
static void *answer_until_21(void *arg)
{
    const struct pair *p = arg;
    uint64_t cookie;

    while ((cookie = must_read_request(p->server)) <= 20) {
        char answer[100];

        memset(answer, (int)cookie, sizeof answer);
        CHECK_EQ(stream_send(p->server, answer, sizeof answer, 0), sizeof answer);
    }
    CHECK_EQ(cookie, 21);
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
    CHECK_EQ(pthread_create(&reader, NULL, answer_until_21, &p), 0);
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

/* Who reads for all must not wait for one who sends. */
static void test_answers_amid_another_are_left_to_who_sends_it(void)
{
    struct pair p = must_take(1, 20);
    char piece[300], got[sizeof piece + 4];

    memset(piece, 'A', sizeof piece);
    CHECK_EQ(stream_send(p.server, piece, sizeof piece, MSG_MORE), sizeof piece);
    for (uint64_t cookie = 1; cookie <= 3; cookie++) {
        send_request(&p, CMD_READ, cookie, 512);
        send_request(&p, CMD_READ, 20 + cookie, 512);
        CHECK_EQ(must_read_request(p.server), 20 + cookie);
    }
    CHECK_EQ(stream_send(p.server, "last", 4, 0), 4);
    CHECK_EQ(recv(p.client, got, sizeof got, MSG_WAITALL), sizeof got);
    CHECK(memcmp(got, piece, sizeof piece) == 0 && memcmp(got + sizeof piece, "last", 4) == 0);
    for (uint64_t cookie = 1; cookie <= 3; cookie++)
        must_be_answered(&p, cookie);
    send_request(&p, CMD_READ, 4, 512);
    send_request(&p, CMD_READ, 21, 512);
    CHECK_EQ(must_read_request(p.server), 21);
    must_be_answered(&p, 4);
    CHECK_EQ(taking.answered, 4);
    hang_up(p);
}

enum { UNREAD = 2000 };

/* As many as are taken before much has to be left behind; the others are nbdkit's. */
static struct pair must_read_on(void)
{
    struct pair p = must_take(1, UNREAD);
    int least = 1;

    CHECK_EQ(setsockopt(p.server, SOL_SOCKET, SO_SNDBUF, &least, sizeof least), 0);
    for (uint64_t cookie = 1; cookie <= UNREAD; cookie++) {
        send_request(&p, CMD_READ, cookie, 512);
        if (cookie % 50 == 0) { /* more than a socket holds */
            send_request(&p, CMD_READ, UNREAD + 1, 512);
            while (must_read_request(p.server) <= UNREAD)
                ;
        }
    }
    CHECK(taking.answered > UNREAD / 4);
    CHECK(taking.answered < UNREAD);
    return p;
}

/* A client may send all that its window holds before it reads. */
static void test_a_client_that_does_not_read_is_read_on(void)
{
    struct pair p = must_read_on();

    for (uint64_t cookie = 1, last = taking.answered; cookie <= last; cookie++)
        must_be_answered(&p, cookie);
    /* Once all have left it is as before. */
    do {
        send_request(&p, CMD_READ, 1, 512);
        send_request(&p, CMD_READ, UNREAD + 1, 512);
    } while (must_read_request(p.server) == 1 && must_read_request(p.server) == UNREAD + 1);
    must_be_answered(&p, 1);
    hang_up(p);
}

static void test_a_client_that_never_reads_can_leave(void)
{
    struct pair p = must_read_on();

    close(p.client);
    CHECK_EQ(stream_close(p.server), 0);
}

/* --- answered later ----------------------------------------------------------------------------
 */

enum { ASIDE = 200 };

static struct {
    struct stream *stream;
    _Atomic unsigned taken, answered;
} aside;

static bool take_aside(struct stream *s, void *owner, const struct stream_request *q)
{
    CHECK(owner == &taking);
    if (q->cookie > ASIDE)
        return false;
    stream_take_aside(s);
    if (aside.taken == 0)
        aside.stream = s;
    aside.taken++;
    return true;
}

/* Those that were taken, some together, until all have been. */
static void *answer_aside(void *arg)
{
    (void)arg;
    while (aside.answered < ASIDE) {
        unsigned count = MIN(aside.taken - aside.answered, 7u);
        char reply[7][100];
        struct iovec part[7];

        for (unsigned i = 0; i < count; i++) {
            memset(reply[i], 7, sizeof reply[i]);
            part[i] = (struct iovec){reply[i], sizeof reply[i]};
        }
        if (count == 0) {
            sched_yield();
            continue;
        }
        stream_answer(aside.stream, part, count);
        aside.answered += count; /* the stream may be gone behind the next line */
        stream_has_answered(aside.stream, count);
    }
    return NULL;
}

/* Whether or not its client stays: the connection is closed when all has been answered. */
static void test_what_is_answered_later_keeps_the_connection(void)
{
    for (unsigned leaves = 0; leaves < 2; leaves++) {
        struct pair p = must_take(1, 0);
        pthread_t answerer;

        stream_set_taker(take_aside);
        aside.taken = aside.answered = 0;
        CHECK_EQ(pthread_create(&answerer, NULL, answer_aside, NULL), 0);
        for (uint64_t cookie = 1; cookie <= ASIDE + 1; cookie++) {
            send_request(&p, CMD_READ, cookie, 512);
            if (cookie % 50 == 0 && cookie < ASIDE)
                send_request(&p, CMD_READ, ASIDE + 1, 512);
            if (cookie % 50 == 0 && cookie < ASIDE)
                CHECK_EQ(must_read_request(p.server), ASIDE + 1);
        }
        CHECK_EQ(must_read_request(p.server), ASIDE + 1);
        CHECK_EQ(aside.taken, ASIDE);
        if (leaves)
            close(p.client);
        else
            for (unsigned i = 0; i < ASIDE; i++)
                must_be_answered(&p, 7);
        CHECK_EQ(stream_close(p.server), 0);
        CHECK_EQ(aside.answered, ASIDE);
        pthread_join(answerer, NULL);
        if (!leaves)
            close(p.client);
    }
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

int main(void)
{
    RUN(test_what_is_taken_is_not_read);
    RUN(test_answers_leave_before_more_is_waited_for);
    RUN(test_a_payload_that_does_not_come_is_left_to_nbdkit);
    RUN(test_data_that_looks_like_a_request_is_data);
    RUN(test_only_what_nbdkit_was_given_is_claimed);
    RUN(test_a_client_that_takes_no_answers_has_gone);
    RUN(test_no_reply_is_sent_amid_another);
    RUN(test_answers_amid_another_are_left_to_who_sends_it);
    RUN(test_a_client_that_does_not_read_is_read_on);
    RUN(test_a_client_that_never_reads_can_leave);
    RUN(test_what_is_answered_later_keeps_the_connection);
    RUN(test_the_form_of_replies_is_learned);
    return unit_result();
}
