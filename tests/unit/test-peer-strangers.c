/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test-peer-strangers: who is not let in, and that nothing happens by it: each attempt is refused
 * with one line in the log that says why, while two gateways talk on; the same on the side that
 * dials.
 */
#include "../../gateway/peer/frame.h"
#include "peer-fixture.h"

#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <poll.h>

/* --- a client of bad character ------------------------------------------------------------- */

struct rude {
    const char *certificate; /* NULL: none */
    int version;             /* the newest it speaks; 0: any */
    const void *data;        /* said when TLS stands */
    size_t length;
};

static int connect_to(uint16_t port)
{
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof a) < 0)
        exit(99);
    return fd;
}

/* Until the other side has closed; false: not within five seconds. */
static bool was_closed(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    char data[4096];

    while (poll(&p, 1, 5000) == 1)
        if (recv(fd, data, sizeof data, 0) <= 0)
            return true;
    return false;
}

static SSL_CTX *make_context(const struct rude *s)
{
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    char file[64];

    if (s->version)
        SSL_CTX_set_max_proto_version(context, s->version);
    if (!s->certificate)
        return context;
    snprintf(file, sizeof file, "%s.pem", s->certificate);
    if (SSL_CTX_use_certificate_file(context, path_of(file), SSL_FILETYPE_PEM) != 1)
        exit(99);
    snprintf(file, sizeof file, "%s.key", s->certificate);
    if (SSL_CTX_use_PrivateKey_file(context, path_of(file), SSL_FILETYPE_PEM) != 1)
        exit(99);
    return context;
}

static void come_with_tls(uint16_t port, const struct rude *s)
{
    int fd = connect_to(port);
    SSL_CTX *context = make_context(s);
    SSL *ssl = SSL_new(context);

    SSL_set_fd(ssl, fd);
    if (SSL_connect(ssl) == 1 && s->length)
        SSL_write(ssl, s->data, (int)s->length);
    CHECK(was_closed(fd));
    SSL_free(ssl);
    SSL_CTX_free(context);
    close(fd);
}

static void come_in_plain_text(uint16_t port, const char *text)
{
    int fd = connect_to(port);

    if (send(fd, text, strlen(text), MSG_NOSIGNAL) < 0)
        exit(99);
    CHECK(was_closed(fd));
    close(fd);
}

/* A certificate that ended an hour ago, signed by the right authority. */
static void let_expire(const char *name)
{
    char file[64];
    FILE *f;
    X509 *x;
    EVP_PKEY *key;

    snprintf(file, sizeof file, "%s.pem", name);
    f = fopen(path_of(file), "r");
    x = PEM_read_X509(f, NULL, NULL, NULL);
    fclose(f);
    f = fopen(path_of("ca.key"), "r");
    key = PEM_read_PrivateKey(f, NULL, NULL, NULL);
    fclose(f);
    X509_gmtime_adj(X509_getm_notBefore(x), -7200);
    X509_gmtime_adj(X509_getm_notAfter(x), -3600);
    X509_sign(x, key, EVP_sha256());
    f = fopen(path_of(file), "w");
    PEM_write_X509(f, x);
    fclose(f);
    X509_free(x);
    EVP_PKEY_free(key);
}

static size_t greeting(uint8_t *out, const char *from, const char *to)
{
    struct hello h = {.oldest = 1, .newest = 1, .streams = 1, .window_bytes = PEER_WINDOW_MIN};
    size_t length;

    snprintf(h.from, sizeof h.from, "%s", from);
    snprintf(h.to, sizeof h.to, "%s", to);
    length = hello_put(out + FRAME_HEAD_BYTES, &h);
    frame_put_head(out, FRAME_HELLO, 0, out + FRAME_HEAD_BYTES, (uint32_t)length);
    return FRAME_HEAD_BYTES + length;
}

/* --- the side that is dialled ---------------------------------------------------------------- */

struct scene {
    struct gate a, b;
    struct ear ear_a, ear_b;
};

static void scene_open(struct scene *s)
{
    struct peers_settings a = settings_of("gw-a", "gw-a"), b = settings_of("gw-b", "gw-b");

    memset(s, 0, sizeof *s);
    b.handshake_ns = 400 * MS;
    s->a = gate_open(&a, 0);
    s->b = gate_open(&b, 0);
    gate_knows(&s->a, "gw-b", s->b.port);
    gate_knows(&s->b, "gw-a", s->a.port);
    ear_open(&s->ear_a, &s->a, "d:x");
    ear_open(&s->ear_b, &s->b, "d:x");
    WAIT_FOR(s->ear_a.connected == 1 && s->ear_b.connected == 1);
}

static void scene_close(struct scene *s)
{
    CHECK_EQ(s->ear_a.lost + s->ear_b.lost + s->ear_a.wrong + s->ear_b.wrong, 0);
    CHECK_EQ(send_patiently(&s->ear_a, "x", 1), 0);
    WAIT_FOR(s->ear_b.messages == 1);
    peer_channel_close(s->ear_a.channel);
    peer_channel_close(s->ear_b.channel);
    gate_close(&s->a);
    gate_close(&s->b);
}

/* One line, the last one, with this reason. */
static void refused(const char *reason)
{
    WAIT_FOR(log_count(reason) == 1);
    CHECK_EQ(log_count("refused a connection for gateways"), 1);
    fprintf(stderr, "  refused: %s\n", reason);
    log_forget();
}

static void test_strangers_are_refused_with_one_line_each(void)
{
    static const char garbage[] = "this is inside TLS, and no frame at all";
    uint8_t data[512], endless[FRAME_HEAD_BYTES] = {0x40, 0, 0, 0, FRAME_HELLO, 0, 0, 1};
    struct scene s;
    size_t length;

    make_certificate("gw-x", "ca", "gw-x");
    make_certificate("foreign", "other", "gw-a");
    make_certificate("expired", "ca", "gw-a");
    let_expire("expired");
    scene_open(&s);
    log_forget();
    come_in_plain_text(s.b.port, "GET / HTTP/1.1\r\nHost: gw-b\r\n\r\n");
    refused("it speaks HTTP, not TLS");
    come_in_plain_text(s.b.port, "SluicePeer, but not by TLS");
    refused("it does not speak TLS");
    come_with_tls(s.b.port, &(struct rude){"gw-a", TLS1_2_VERSION, NULL, 0});
    refused("it speaks an older TLS than 1.3");
    come_with_tls(s.b.port, &(struct rude){NULL, 0, NULL, 0});
    refused("it has no certificate");
    come_with_tls(s.b.port, &(struct rude){"foreign", 0, NULL, 0});
    refused("its certificate is refused: unable to get local issuer certificate");
    come_with_tls(s.b.port, &(struct rude){"expired", 0, NULL, 0});
    refused("its certificate is refused: certificate has expired");
    length = greeting(data, "gw-a", "gw-b");
    come_with_tls(s.b.port, &(struct rude){"gw-x", 0, data, length});
    refused("its certificate is for gw-x, not for gw-a");
    length = greeting(data, "gw-x", "gw-b");
    come_with_tls(s.b.port, &(struct rude){"gw-x", 0, data, length});
    refused("gw-x is none of the peers of gw-b");
    length = greeting(data, "gw-a", "gw-z");
    come_with_tls(s.b.port, &(struct rude){"gw-a", 0, data, length});
    refused("it wants gw-z, and this is gw-b");
    come_with_tls(s.b.port, &(struct rude){"gw-a", 0, garbage, sizeof garbage});
    refused("what came is no frame");
    come_with_tls(s.b.port, &(struct rude){"gw-a", 0, endless, sizeof endless});
    refused("a frame HELLO of 1073741824 bytes");
    length = greeting(data, "gw-a", "gw-b");
    data[length - 1] ^= 1;
    come_with_tls(s.b.port, &(struct rude){"gw-a", 0, data, length});
    refused("a frame HELLO with a wrong checksum");
    scene_close(&s);
}

static void test_who_is_slow_or_many_takes_little(void)
{
    struct scene s;
    int fd[60];
    unsigned closed = 0;

    scene_open(&s);
    log_forget();
    for (unsigned i = 0; i < ARRAY_SIZE(fd); i++)
        fd[i] = connect_to(s.b.port);
    WAIT_FOR(log_count("too many connections that have not said who they are") == 1);
    WAIT_FOR(log_count("its TLS handshake took too long") == 1);
    for (unsigned i = 0; i < ARRAY_SIZE(fd); i++) {
        closed += was_closed(fd[i]);
        close(fd[i]);
    }
    CHECK_EQ(closed, ARRAY_SIZE(fd));
    CHECK_EQ(log_count("refused a connection for gateways"), 2);
    log_forget();
    come_with_tls(s.b.port, &(struct rude){"gw-a", 0, "\0\0", 2}); /* and then nothing */
    refused("it did not say who it is in time");
    scene_close(&s);
}

/* A busy peer that knows us is greeted, but its second attempt leaves the first alone. */
static void test_a_second_connection_of_a_peer_does_no_harm(void)
{
    struct scene s;
    uint8_t data[512];
    size_t length;

    scene_open(&s);
    length = greeting(data, "gw-a", "gw-b");
    data[FRAME_HEAD_BYTES + 24] = 1; /* it says that it has started anew: then it must be so */
    frame_put_head(data, FRAME_HELLO, 0, data + FRAME_HEAD_BYTES,
                   (uint32_t)(length - FRAME_HEAD_BYTES));
    CHECK_EQ(s.ear_a.lost, 0);
    come_with_tls(s.b.port, &(struct rude){"gw-a", 0, data, length});
    WAIT_FOR(s.ear_b.lost >= 1); /* whoever has the key of gw-a is gw-a */
    WAIT_FOR(s.ear_a.connected >= 2 && s.ear_a.is_connected && s.ear_b.is_connected);
    peer_channel_close(s.ear_a.channel);
    peer_channel_close(s.ear_b.channel);
    gate_close(&s.a);
    gate_close(&s.b);
}

/* --- the side that dials ---------------------------------------------------------------------- */

static void test_a_wrong_identity_ends_dialling_until_a_reload(void)
{
    struct peers_settings sa = settings_of("gw-a", "gw-a"), sx = settings_of("gw-x", "gw-x"),
                          sb = settings_of("gw-b", "gw-b");
    struct gate a = gate_open(&sa, 0), x, b;
    uint16_t port = free_port();

    log_forget();
    gate_knows(&a, "gw-b", port);
    WAIT_FOR(log_count("not connected yet: cannot connect to 127.0.0.1") == 1);
    x = gate_open(&sx, port);
    gate_knows(&x, "gw-a", free_port());
    WAIT_FOR(log_count("peer refused: its certificate is for gw-x, not for gw-b") == 1);
    CHECK_STR(look_at(&a, "gw-b").state, "refused");
    gate_close(&x);
    b = gate_open(&sb, port);
    gate_knows(&b, "gw-z", free_port()); /* does not know gw-a */
    CHECK_STR(look_at(&a, "gw-b").state, "refused");
    gate_knows(&a, "gw-b", port);
    WAIT_FOR(log_count("peer refused: it refuses: gw-a is none of the peers of gw-b") == 1);
    gate_knows(&b, "gw-a", a.port); /* it comes by itself now */
    WAIT_FOR(is_connected(&a, "gw-b"));
    CHECK_EQ(log_count("peer refused"), 2);
    gate_close(&a);
    gate_close(&b);
}

static void test_broken_files_are_named(void)
{
    struct peers_settings s = settings_of("gw-a", "gw-b");
    struct peers *peers = NULL;
    struct err e = {0};

    CHECK_EQ(peers_create(&s, &peers, &e), -EINVAL);
    CHECK(strstr(e.text, "gw-b.pem is not for gw-a, the name of this gateway") != NULL);
    s = settings_of("gw-a", "gw-a");
    s.key = path_of("gw-b.key");
    CHECK_EQ(peers_create(&s, &peers, &e), -EINVAL);
    s.key = path_of("gw-a.key");
    s.ca = path_of("none.pem");
    CHECK_EQ(peers_create(&s, &peers, &e), -EINVAL);
    CHECK(strstr(e.text, "cannot read the authority") != NULL);
}

int main(void)
{
    fixture_begin();
    RUN(test_strangers_are_refused_with_one_line_each);
    RUN(test_who_is_slow_or_many_takes_little);
    RUN(test_a_second_connection_of_a_peer_does_no_harm);
    RUN(test_a_wrong_identity_ends_dialling_until_a_reload);
    RUN(test_broken_files_are_named);
    return fixture_end();
}
