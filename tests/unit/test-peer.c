/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test-peer: two gateways with real TLS on loopback: messages whole, once and in order; windows;
 * losses; renewal of certificates and keys under load; questions.
 */
#include "peer-fixture.h"

/* --- messages ------------------------------------------------------------------------------- */

static uint32_t sum_of_all;

static void add_to_sum(struct ear *ear, const void *data, size_t length)
{
    (void)ear;
    sum_of_all = crc32c(sum_of_all, data, length);
}

static void test_messages_arrive_whole_and_in_order(void)
{
    static const size_t lengths[] = {
        0, 1, 15, 16, 17, 4096, 16384, 65535, 65536, 300000, PEER_MESSAGE_MAX};
    struct pair p = pair_open(1, 0);
    struct ear a = {.message = NULL}, b = {.message = add_to_sum};
    uint8_t *data = malloc(PEER_MESSAGE_MAX + 1);
    uint32_t sum = 0;

    for (size_t i = 0; i < PEER_MESSAGE_MAX; i++)
        data[i] = (uint8_t)(i * 31 + i / 251);
    sum_of_all = 0;
    ear_open(&a, &p.a, "d:disk");
    CHECK_EQ(peer_channel_send(a.channel, data, 1), -ENOTCONN);
    ear_open(&b, &p.b, "d:disk");
    WAIT_FOR(a.connected && b.connected);
    CHECK_EQ(peer_channel_send(a.channel, data, PEER_MESSAGE_MAX + 1), -EMSGSIZE);
    for (unsigned i = 0; i < ARRAY_SIZE(lengths); i++) {
        CHECK_EQ(send_patiently(&a, data, lengths[i]), 0);
        sum = crc32c(sum, data, lengths[i]);
    }
    WAIT_FOR(b.messages == ARRAY_SIZE(lengths));
    CHECK_EQ(sum_of_all, sum);
    CHECK_EQ(a.wrong + b.wrong, 0);
    peer_channel_close(a.channel);
    WAIT_FOR(b.lost == 1);
    CHECK_STR(b.reason, "the other side closed it");
    peer_channel_close(b.channel);
    free(data);
    pair_close(&p);
}

static void test_a_channel_is_found_by_its_key(void)
{
    struct pair p = pair_open(1, 0);
    struct ear one = {.message = NULL}, other = {.message = NULL}, b = {.message = NULL};
    struct peer_channel *none;
    struct err e = {0};

    ear_open(&one, &p.a, "d:one");
    ear_open(&other, &p.a, "d:other");
    CHECK_EQ(peer_channel_open(p.a.peers, "gw-b", "d:one", &ear_handlers, &b, &none, &e), -EEXIST);
    CHECK_EQ(peer_channel_open(p.a.peers, "gw-c", "d:x", &ear_handlers, &b, &none, &e), -ENOENT);
    CHECK_STR(e.text, "gw-c is none of the peers in gateway.yaml");
    for (unsigned i = 1; i <= 3; i++) { /* closed and opened again, it is connected again */
        ear_open(&b, &p.b, "d:other");
        WAIT_FOR(other.connected == i && b.connected == i);
        CHECK_EQ(send_patiently(&b, "x", 1), 0);
        WAIT_FOR(other.messages == i);
        peer_channel_close(b.channel);
        atomic_store(&b.is_connected, false);
        WAIT_FOR(other.lost == i);
    }
    CHECK_EQ(one.connected, 0);
    CHECK_EQ(one.wrong + other.wrong + b.wrong, 0);
    peer_channel_close(one.channel);
    peer_channel_close(other.channel);
    pair_close(&p);
}

/* A reply, sent from the callback, of each message of the other side; it leaves when all were told.
 */
static void reply_at_once(struct ear *ear, const void *data, size_t length)
{
    in_order(ear, data, length);
    ear->wrong += peer_channel_send(ear->channel, data, length) != 0;
}

static void test_what_is_sent_soon_arrives_by_itself_and_in_order(void)
{
    struct pair p = pair_open(1, 0);
    struct ear a = {.message = in_order}, b = {.message = reply_at_once};
    uint64_t number = 0;

    ear_open(&a, &p.a, "d:disk");
    ear_open(&b, &p.b, "d:disk");
    WAIT_FOR(a.connected && b.connected);
    for (unsigned i = 0; i < 20; i++) { /* nothing else is sent: its own millisecond brings it */
        CHECK_EQ(peer_channel_send_soon(a.channel, &number, sizeof number), 0);
        number++;
        WAIT_FOR(a.messages == number);
    }
    for (; number < 2000; number++)
        if (number % 7)
            CHECK_EQ(peer_channel_send_soon(a.channel, &number, sizeof number), 0);
        else
            CHECK_EQ(send_patiently(&a, &number, sizeof number), 0);
    WAIT_FOR(a.messages == number);
    CHECK_EQ(a.wrong + b.wrong, 0);
    CHECK_EQ(peer_channel_send_soon(a.channel, &number, sizeof number), 0); /* and never leaves */
    peer_channel_close(a.channel);
    peer_channel_close(b.channel);
    pair_close(&p);
}

static void reply_soon(struct ear *ear, const void *data, size_t length)
{
    in_order(ear, data, length);
    ear->wrong += peer_channel_send_soon(ear->channel, data, length) != 0;
}

/* What nobody waits for does not leave as soon as all was told, but after its millisecond. */
static void test_replies_that_may_be_late_wait_for_others(void)
{
    struct pair p = pair_open(1, 0);
    struct ear a = {.message = in_order}, b = {.message = reply_soon};

    ear_open(&a, &p.a, "d:disk");
    ear_open(&b, &p.b, "d:disk");
    WAIT_FOR(a.connected && b.connected);
    for (uint64_t number = 0; number < 20; number++) {
        uint64_t began_ns = clock_now_ns();

        CHECK_EQ(send_patiently(&a, &number, sizeof number), 0);
        WAIT_FOR(a.messages == number + 1);
        CHECK(clock_now_ns() - began_ns > MS / 2);
    }
    CHECK_EQ(a.wrong + b.wrong, 0);
    peer_channel_close(a.channel);
    peer_channel_close(b.channel);
    pair_close(&p);
}

/* In two pieces, cut anywhere; more than one read takes, before the first is flushed. */
static void test_what_is_queued_leaves_when_it_is_flushed(void)
{
    struct pair p = pair_open(1, 0);
    struct ear a = {.message = in_order}, b = {.message = in_order};
    uint8_t data[1000] = {0};
    uint64_t number = 0;

    ear_open(&a, &p.a, "d:disk");
    CHECK_EQ(peer_channel_queue(a.channel, data, 8, data, 8), -ENOTCONN);
    peer_channel_flush(a.channel, false);
    ear_open(&b, &p.b, "d:disk");
    WAIT_FOR(a.connected && b.connected);
    CHECK_EQ(peer_channel_queue(a.channel, data, 1, data, PEER_MESSAGE_MAX), -EMSGSIZE);
    CHECK_EQ(peer_channel_queue(a.channel, data, PEER_MESSAGE_MAX + 1, data, SIZE_MAX), -EMSGSIZE);
    for (unsigned round = 1; round <= 10; round++) {
        for (; number < round * 200; number++) {
            size_t cut = number % (sizeof data + 1);

            memcpy(data, &number, sizeof number);
            CHECK_EQ(peer_channel_queue(a.channel, data, cut, data + cut, sizeof data - cut), 0);
        }
        peer_channel_flush(a.channel, round % 2);
        WAIT_FOR(b.messages == number && !b.is_behind);
    }
    CHECK_EQ(b.bytes, number * sizeof data);
    CHECK(b.caught_up >= 10 && b.caught_up <= number / 10); /* most have come with others */
    CHECK_EQ(a.wrong + b.wrong, 0);
    peer_channel_close(a.channel);
    peer_channel_close(b.channel);
    pair_close(&p);
}

/* --- many at once --------------------------------------------------------------------------- */

#define CHANNELS 12u

struct load {
    struct ear *ear;
    unsigned count;
    size_t most_bytes;
    _Atomic bool *must_stop;
    _Atomic uint64_t sent;
    int result;
};

/* All the ways there are, one after the other. */
static int send_some_way(struct ear *ear, const uint8_t *data, size_t length, uint64_t way)
{
    int r;

    if (way % 3 == 0)
        return send_patiently(ear, data, length);
    while ((r = peer_channel_queue(ear->channel, data, 5, data + 5, length - 5)) == -EAGAIN)
        pause_briefly();
    peer_channel_flush(ear->channel, way % 3 == 1);
    return r;
}

static void *run_load(void *arg)
{
    struct load *l = arg;
    uint8_t *data = calloc(1, l->most_bytes + 8);
    unsigned seed = (unsigned)(uintptr_t)l->ear;

    for (uint64_t i = 0; l->must_stop ? !*l->must_stop : i < l->count; i++) {
        size_t length = 8 + (size_t)rand_r(&seed) % l->most_bytes;

        memcpy(data, &i, sizeof i);
        l->result = send_some_way(l->ear, data, length, i);
        if (l->result < 0)
            break;
        l->sent++;
    }
    free(data);
    return NULL;
}

static void run_storm(struct pair *p, unsigned count, size_t most_bytes, _Atomic bool *must_stop,
                      void (*meanwhile)(struct pair *p))
{
    static struct ear a[CHANNELS], b[CHANNELS];
    static struct load load[2 * CHANNELS];
    pthread_t thread[2 * CHANNELS];
    unsigned wrong = 0, lost = 0;
    char key[20];

    memset(a, 0, sizeof a);
    memset(b, 0, sizeof b);
    memset(load, 0, sizeof load);
    for (unsigned i = 0; i < CHANNELS; i++) {
        snprintf(key, sizeof key, "d:disk-%u", i);
        a[i].message = b[i].message = in_order;
        ear_open(&a[i], &p->a, key);
        ear_open(&b[i], &p->b, key);
        load[2 * i].ear = &a[i];
        load[2 * i + 1].ear = &b[i];
    }
    for (unsigned i = 0; i < CHANNELS; i++)
        WAIT_FOR(a[i].connected && b[i].connected);
    for (unsigned i = 0; i < 2 * CHANNELS; i++) {
        load[i].count = count;
        load[i].most_bytes = most_bytes;
        load[i].must_stop = must_stop;
        if (thread_start(&thread[i], run_load, &load[i]) != 0)
            exit(99);
    }
    if (meanwhile)
        meanwhile(p);
    if (must_stop)
        *must_stop = true;
    for (unsigned i = 0; i < 2 * CHANNELS; i++)
        pthread_join(thread[i], NULL);
    for (unsigned i = 0; i < CHANNELS; i++) {
        CHECK_EQ(load[2 * i].result, 0);
        CHECK_EQ(load[2 * i + 1].result, 0);
        if (load[2 * i].result < 0 || load[2 * i + 1].result < 0)
            continue;
        WAIT_FOR(b[i].messages == load[2 * i].sent);
        WAIT_FOR(a[i].messages == load[2 * i + 1].sent);
        wrong += a[i].wrong + b[i].wrong;
        lost += a[i].lost + b[i].lost;
    }
    CHECK_EQ(wrong, 0);
    CHECK_EQ(lost, 0);
    for (unsigned i = 0; i < CHANNELS; i++) {
        peer_channel_close(a[i].channel);
        peer_channel_close(b[i].channel);
    }
}

static void test_many_channels_at_once_over_some_streams(void)
{
    struct pair p = pair_open(3, 0);

    run_storm(&p, 400, 20000, NULL, NULL);
    CHECK_EQ(look_at(&p.a, "gw-b").view.streams, 3);
    pair_close(&p);
}

static void test_keys_are_renewed_under_load(void)
{
    struct pair p = pair_open(2, 7);

    run_storm(&p, 150, 30000, NULL, NULL);
    WAIT_FOR(look_at(&p.a, "gw-b").view.rekeys > 20 && look_at(&p.b, "gw-a").view.rekeys > 20);
    pair_close(&p);
}

static void renew_again_and_again(struct pair *p)
{
    struct err e = {0};

    for (unsigned i = 1; i <= 4; i++) {
        make_certificate("gw-a", "ca", "gw-a");
        make_certificate("gw-b", "ca", "gw-b");
        CHECK_EQ(peers_renew(p->a.peers, &e), 0);
        WAIT_FOR(look_at(&p->a, "gw-b").view.renewals >= 2 * i - 1);
        CHECK_EQ(peers_renew(p->b.peers, &e), 0);
        WAIT_FOR(look_at(&p->a, "gw-b").view.renewals >= 2 * i &&
                 look_at(&p->b, "gw-a").view.renewals >= 2 * i);
    }
    make_certificate("gw-a", "ca", "gw-a");
    make_certificate("gw-b", "ca", "gw-b");
    CHECK_EQ(peers_renew(p->a.peers, &e), 0); /* both at once */
    CHECK_EQ(peers_renew(p->b.peers, &e), 0);
    WAIT_FOR(look_at(&p->a, "gw-b").view.renewals >= 9);
}

static void test_certificates_are_renewed_under_load_without_a_loss(void)
{
    struct pair p = pair_open(2, 0);
    _Atomic bool must_stop = false;

    run_storm(&p, 0, 9000, &must_stop, renew_again_and_again);
    fprintf(stderr, "  %llu renewals under load\n",
            (unsigned long long)look_at(&p.a, "gw-b").view.renewals);
    CHECK_EQ(look_at(&p.a, "gw-b").view.losses, 0);
    CHECK_EQ(look_at(&p.b, "gw-a").view.losses, 0);
    pair_close(&p);
}

/* --- windows -------------------------------------------------------------------------------- */

static void test_a_full_channel_holds_up_no_other(void)
{
    struct pair p = pair_open(1, 0);
    struct ear a = {.message = NULL}, b = {.message = in_order}, c = {.message = NULL},
               d = {.message = in_order};
    uint8_t *data = calloc(1, 100000);
    uint64_t sent = 0;
    int r;

    ear_open(&a, &p.a, "d:slow");
    ear_open(&b, &p.b, "d:slow");
    ear_open(&c, &p.a, "d:fast");
    ear_open(&d, &p.b, "d:fast");
    WAIT_FOR(a.connected && b.connected && c.connected && d.connected);
    peer_channel_pause(b.channel, true);
    do {
        memcpy(data, &sent, sizeof sent);
        r = peer_channel_send(a.channel, data, 100000);
        sent += r == 0;
    } while (r == 0);
    CHECK_EQ(r, -EAGAIN);
    CHECK_EQ(sent, PEER_WINDOW_MIN / 100016);
    for (uint64_t i = 0; i < 300; i++) {
        memcpy(data, &i, sizeof i);
        CHECK_EQ(send_patiently(&c, data, 50000), 0);
    }
    WAIT_FOR(d.messages == 300);
    CHECK_EQ(b.messages, 0);
    CHECK_EQ(a.writable, 0);
    peer_channel_pause(b.channel, false);
    WAIT_FOR(b.messages == sent && a.writable == 1);
    CHECK_EQ(a.wrong + b.wrong + c.wrong + d.wrong, 0);
    peer_channel_close(a.channel);
    peer_channel_close(b.channel);
    peer_channel_close(c.channel);
    peer_channel_close(d.channel);
    free(data);
    pair_close(&p);
}

/* --- losses --------------------------------------------------------------------------------- */

static void test_a_peer_that_comes_back_is_connected_again(void)
{
    struct pair p = pair_open(1, 0);
    struct peers_settings settings = settings_of("gw-b", "gw-b");
    struct ear a = {.message = in_order}, b = {.message = NULL};
    uint64_t number = 0;

    ear_open(&a, &p.a, "d:disk");
    for (unsigned i = 1; i <= 5; i++) {
        memset(&b, 0, sizeof b);
        ear_open(&b, &p.b, "d:disk");
        WAIT_FOR(a.connected == i && b.connected == 1);
        CHECK_EQ(send_patiently(&b, &number, sizeof number), 0);
        WAIT_FOR(a.messages == i);
        peer_channel_close(b.channel);
        gate_close(&p.b);
        WAIT_FOR(a.lost == i);
        p.b = gate_open(&settings, p.b.port);
        gate_knows(&p.b, "gw-a", p.a.port);
    }
    CHECK_EQ(a.wrong, 0);
    peer_channel_close(a.channel);
    WAIT_FOR(is_connected(&p.a, "gw-b"));
    CHECK(log_count("it says goodbye: the gateway stops") > 0);
    pair_close(&p);
}

/* A connection that says nothing any more: a proxy that stops to move bytes. */
struct proxy {
    int listen_fd;
    uint16_t port, to;
    _Atomic bool is_deaf, must_stop;
    pthread_t thread;
};

static int connect_to(uint16_t port)
{
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof a) < 0) {
        perror("connect");
        exit(99);
    }
    return fd;
}

#define LINKS_MAX 32

static bool move_bytes(int from, int to)
{
    uint8_t data[4096];
    ssize_t n = recv(from, data, sizeof data, MSG_DONTWAIT);

    if (n < 0)
        return true;
    return n > 0 && send(to, data, (size_t)n, MSG_NOSIGNAL) == n;
}

static void *run_proxy(void *arg)
{
    struct proxy *x = arg;
    int link[LINKS_MAX][2], links = 0;

    while (!x->must_stop) {
        int fd = accept4(x->listen_fd, NULL, NULL, SOCK_CLOEXEC);

        if (fd >= 0 && links < LINKS_MAX) {
            link[links][0] = fd;
            link[links++][1] = connect_to(x->to);
        }
        for (int i = 0; i < links && !x->is_deaf; i++)
            if (!move_bytes(link[i][0], link[i][1]) || !move_bytes(link[i][1], link[i][0])) {
                shutdown(link[i][0], SHUT_RDWR);
                shutdown(link[i][1], SHUT_RDWR);
            }
        pause_briefly();
    }
    while (links-- > 0) {
        close(link[links][0]);
        close(link[links][1]);
    }
    close(x->listen_fd);
    return NULL;
}

static void proxy_start(struct proxy *x, uint16_t to)
{
    struct err e = {0};

    x->to = to;
    x->port = free_port();
    x->listen_fd = listen_tcp("127.0.0.1", x->port, "the proxy", SOCK_NONBLOCK, &e);
    must(x->listen_fd, &e);
    if (thread_start(&x->thread, run_proxy, x) != 0)
        exit(99);
}

static void test_a_peer_that_falls_silent_is_lost_in_time(void)
{
    struct peers_settings sa = settings_of("gw-a", "gw-a"), sb = settings_of("gw-b", "gw-b");
    struct gate a, b;
    struct ear ear = {.message = NULL}, other = {.message = NULL};
    static struct proxy x;
    uint64_t began_ns, took_ns;

    sa.timeout_ns = sb.timeout_ns = 800 * MS;
    a = gate_open(&sa, 0);
    b = gate_open(&sb, 0);
    proxy_start(&x, b.port);
    gate_knows(&a, "gw-b", x.port);
    gate_knows(&b, "gw-a", free_port());
    ear_open(&ear, &a, "d:disk");
    ear_open(&other, &b, "d:disk");
    WAIT_FOR(ear.connected == 1 && other.connected == 1);
    began_ns = clock_now_ns();
    x.is_deaf = true;
    WAIT_FOR(ear.lost == 1 && other.lost == 1);
    took_ns = clock_now_ns() - began_ns;
    fprintf(stderr, "  lost %.0f ms after the last byte (timeout 800 ms)\n", (double)took_ns / 1e6);
    CHECK(took_ns > 600 * MS);
    CHECK(strstr(ear.reason, "nothing was heard of it for") != NULL);
    x.is_deaf = false;
    WAIT_FOR(ear.connected == 2 && other.connected == 2);
    peer_channel_close(ear.channel);
    peer_channel_close(other.channel);
    gate_close(&a);
    gate_close(&b);
    x.must_stop = true;
    pthread_join(x.thread, NULL);
}

/* Both dial at the same moment: one set comes of it, and it stays. */
static void test_two_that_dial_each_other_agree(void)
{
    struct peers_settings sa = settings_of("gw-a", "gw-a"), sb = settings_of("gw-b", "gw-b");
    unsigned losses = 0;

    for (unsigned i = 0; i < 15; i++) {
        struct gate a = gate_open(&sa, 0), b = gate_open(&sb, 0);
        struct ear ear = {.message = NULL}, other = {.message = NULL};

        ear_open(&ear, (gate_knows(&a, "gw-b", b.port), &a), "d:x");
        ear_open(&other, (gate_knows(&b, "gw-a", a.port), &b), "d:x");
        WAIT_FOR(ear.connected && other.connected);
        losses += ear.lost + other.lost;
        peer_channel_close(ear.channel);
        peer_channel_close(other.channel);
        gate_close(&a);
        gate_close(&b);
    }
    CHECK_EQ(losses, 0);
}

/* --- closing in a callback ----------------------------------------------------------------------
 */

static void close_in_message(struct ear *ear, const void *data, size_t length)
{
    (void)data, (void)length;
    peer_channel_close(ear->channel);
}

static void close_in_caught_up(struct ear *ear)
{
    peer_channel_close(ear->channel);
}

static void test_a_channel_may_be_closed_in_its_own_callback(void)
{
    struct pair p = pair_open(1, 0);

    for (unsigned i = 0; i < 20; i++) {
        struct ear a = {.message = NULL}, b = {.message = i % 2 ? close_in_message : NULL,
                                               .on_caught_up = i % 2 ? NULL : close_in_caught_up};
        char key[20];

        snprintf(key, sizeof key, "d:%u", i);
        ear_open(&a, &p.a, key);
        ear_open(&b, &p.b, key);
        WAIT_FOR(a.connected && b.connected);
        CHECK_EQ(send_patiently(&a, "x", 1), 0);
        WAIT_FOR(a.lost == 1 && b.messages == 1);
        peer_channel_close(a.channel);
    }
    pair_close(&p);
}

/* --- questions ------------------------------------------------------------------------------ */

static char *answer(void *context, const char *peer, const char *question)
{
    if (strcmp(question, "big") == 0) {
        char *text = malloc(PEER_ANSWER_MAX + 1);

        memset(text, 'x', PEER_ANSWER_MAX);
        text[PEER_ANSWER_MAX] = '\0';
        return text;
    }
    while (context && strcmp(question, "wait") == 0 && !atomic_load((_Atomic bool *)context))
        pause_briefly();
    return text_printf("%s asks %s", peer, question);
}

static void test_questions_are_answered_by_the_other_side(void)
{
    struct peers_settings sa = settings_of("gw-a", "gw-a"), sb = settings_of("gw-b", "gw-b");
    static _Atomic bool may_answer;
    struct gate a, b;
    struct err e = {0};
    char *text = NULL;

    sb.asked = answer;
    sb.context = &may_answer;
    a = gate_open(&sa, 0);
    CHECK_EQ(peers_ask(a.peers, "gw-b", "why", 100 * MS, &text, &e), -ENOENT);
    b = gate_open(&sb, 0);
    gate_knows(&b, "gw-a", a.port);
    gate_knows(&a, "gw-b", b.port);
    WAIT_FOR(is_connected(&a, "gw-b") && is_connected(&b, "gw-a"));
    CHECK_EQ(peers_ask(a.peers, "gw-b", "why", PATIENCE_NS, &text, &e), 0);
    CHECK_STR(text ? text : "", "gw-a asks why");
    free(text);
    CHECK_EQ(peers_ask(a.peers, "gw-b", "big", PATIENCE_NS, &text, &e), 0);
    CHECK_EQ(strlen(text), PEER_ANSWER_MAX);
    free(text);
    CHECK_EQ(peers_ask(a.peers, "gw-b", "wait", 50 * MS, &text, &e), -ETIMEDOUT);
    may_answer = true;
    CHECK_EQ(peers_ask(b.peers, "gw-a", "hm", PATIENCE_NS, &text, &e), 0);
    CHECK_STR(text ? text : "?", ""); /* nobody answers there */
    free(text);
    gate_close(&b);
    WAIT_FOR(!is_connected(&a, "gw-b"));
    CHECK_EQ(peers_ask(a.peers, "gw-b", "why", PATIENCE_NS, &text, &e), -ENOTCONN);
    gate_close(&a);
}

int main(void)
{
    fixture_begin();
    RUN(test_messages_arrive_whole_and_in_order);
    RUN(test_a_channel_is_found_by_its_key);
    RUN(test_what_is_sent_soon_arrives_by_itself_and_in_order);
    RUN(test_replies_that_may_be_late_wait_for_others);
    RUN(test_what_is_queued_leaves_when_it_is_flushed);
    RUN(test_many_channels_at_once_over_some_streams);
    RUN(test_keys_are_renewed_under_load);
    RUN(test_certificates_are_renewed_under_load_without_a_loss);
    RUN(test_a_full_channel_holds_up_no_other);
    RUN(test_a_peer_that_comes_back_is_connected_again);
    RUN(test_a_peer_that_falls_silent_is_lost_in_time);
    RUN(test_two_that_dial_each_other_agree);
    RUN(test_a_channel_may_be_closed_in_its_own_callback);
    RUN(test_questions_are_answered_by_the_other_side);
    return fixture_end();
}
