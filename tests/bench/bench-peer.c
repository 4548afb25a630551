/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench-peer: the link between gateways beside plain TLS 1.3 by OpenSSL over the same loopback, in
 * one run: how long a message of 4 KiB and its answer take, and how many bytes a second go one way
 * in messages of 64 KiB (plain TLS: writes of 16 KiB, a system call each).
 */
#include "../unit/peer-fixture.h"

#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <semaphore.h>

#define TRIPS 20000u
#define BULK_BYTES (UINT64_C(2) << 30)
#define MESSAGE_BYTES (64u << 10)
#define RECORD_BYTES (16u << 10)

static double seconds_since(uint64_t began_ns)
{
    return (double)(clock_now_ns() - began_ns) / 1e9;
}

/* --- the link ------------------------------------------------------------------------------- */

static sem_t answered;
static uint8_t data[MESSAGE_BYTES];

static void send_back(struct ear *ear, const void *message, size_t length)
{
    (void)message;
    if (length == 4096)
        CHECK_EQ(peer_channel_send(ear->channel, data, 16), 0);
}

static void note_answer(struct ear *ear, const void *message, size_t length)
{
    (void)ear, (void)message, (void)length;
    sem_post(&answered);
}

static void measure_link(double *trip_us, double *bytes_s)
{
    struct peers_settings sa = settings_of("gw-a", "gw-a"), sb = settings_of("gw-b", "gw-b");
    struct ear a = {.message = note_answer}, b = {.message = send_back};
    struct gate ga, gb;
    uint64_t began_ns;

    sa.window_bytes = sb.window_bytes = 8u << 20;
    ga = gate_open(&sa, 0);
    gb = gate_open(&sb, 0);
    gate_knows(&ga, "gw-b", gb.port);
    gate_knows(&gb, "gw-a", ga.port);
    ear_open(&a, &ga, "d:x");
    ear_open(&b, &gb, "d:x");
    WAIT_FOR(a.connected && b.connected);
    began_ns = clock_now_ns();
    for (unsigned i = 0; i < TRIPS; i++) {
        CHECK_EQ(peer_channel_send(a.channel, data, 4096), 0);
        sem_wait(&answered);
    }
    *trip_us = seconds_since(began_ns) * 1e6 / TRIPS;
    began_ns = clock_now_ns();
    for (uint64_t sent = 0; sent < BULK_BYTES; sent += MESSAGE_BYTES)
        CHECK_EQ(send_patiently(&a, data, MESSAGE_BYTES), 0);
    WAIT_FOR(b.bytes == BULK_BYTES + UINT64_C(4096) * TRIPS);
    *bytes_s = (double)BULK_BYTES / seconds_since(began_ns);
    peer_channel_close(a.channel);
    peer_channel_close(b.channel);
    gate_close(&ga);
    gate_close(&gb);
}

/* --- plain TLS ------------------------------------------------------------------------------- */

static SSL *begin_tls(int fd, const char *name, bool is_server)
{
    SSL_CTX *context = SSL_CTX_new(TLS_method());
    int one = 1;
    SSL *ssl;
    char file[64];

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
    SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256");
    snprintf(file, sizeof file, "%s.pem", name);
    SSL_CTX_use_certificate_file(context, path_of(file), SSL_FILETYPE_PEM);
    snprintf(file, sizeof file, "%s.key", name);
    SSL_CTX_use_PrivateKey_file(context, path_of(file), SSL_FILETYPE_PEM);
    ssl = SSL_new(context);
    SSL_CTX_free(context);
    SSL_set_fd(ssl, fd);
    if ((is_server ? SSL_accept(ssl) : SSL_connect(ssl)) != 1)
        exit(99);
    return ssl;
}

static void read_all(SSL *ssl, size_t length)
{
    uint8_t buffer[RECORD_BYTES];

    while (length > 0) {
        int n = SSL_read(ssl, buffer, (int)MIN(length, sizeof buffer));

        if (n <= 0)
            exit(99);
        length -= (size_t)n;
    }
}

static void write_all(SSL *ssl, size_t length)
{
    if (SSL_write(ssl, data, (int)length) != (int)length)
        exit(99);
}

static void *serve_plain(void *arg)
{
    int listen_fd = *(int *)arg, fd = accept(listen_fd, NULL, NULL);
    SSL *ssl = begin_tls(fd, "gw-b", true);

    for (unsigned i = 0; i < TRIPS; i++) {
        read_all(ssl, 4096);
        write_all(ssl, 16);
    }
    read_all(ssl, BULK_BYTES);
    write_all(ssl, 16);
    SSL_free(ssl);
    close(fd);
    return NULL;
}

static void measure_plain(double *trip_us, double *bytes_s)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    uint16_t port = free_port();
    struct err e = {0};
    int listen_fd = listen_tcp("127.0.0.1", port, "loopback", 0, &e);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    pthread_t thread;
    uint64_t began_ns;
    SSL *ssl;

    to.sin_port = htons(port);
    if (listen_fd < 0 || thread_start(&thread, serve_plain, &listen_fd) != 0 ||
        connect(fd, (struct sockaddr *)&to, sizeof to) < 0)
        exit(99);
    ssl = begin_tls(fd, "gw-a", false);
    began_ns = clock_now_ns();
    for (unsigned i = 0; i < TRIPS; i++) {
        write_all(ssl, 4096);
        read_all(ssl, 16);
    }
    *trip_us = seconds_since(began_ns) * 1e6 / TRIPS;
    began_ns = clock_now_ns();
    for (uint64_t sent = 0; sent < BULK_BYTES; sent += RECORD_BYTES)
        write_all(ssl, RECORD_BYTES);
    read_all(ssl, 16);
    *bytes_s = (double)BULK_BYTES / seconds_since(began_ns);
    pthread_join(thread, NULL);
    SSL_free(ssl);
    close(fd);
    close(listen_fd);
}

int main(void)
{
    double trip_us[2], bytes_s[2];

    fixture_begin();
    sem_init(&answered, 0, 0);
    measure_plain(&trip_us[0], &bytes_s[0]);
    measure_link(&trip_us[1], &bytes_s[1]);
    printf("4 KiB and its answer: plain TLS %.1f us, the link %.1f us (%.2f times)\n", trip_us[0],
           trip_us[1], trip_us[1] / trip_us[0]);
    printf("one way:              plain TLS %.0f MiB/s, the link %.0f MiB/s (%.2f times)\n",
           bytes_s[0] / (1 << 20), bytes_s[1] / (1 << 20), bytes_s[1] / bytes_s[0]);
    return fixture_end();
}
