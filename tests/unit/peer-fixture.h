/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * peer-fixture.h: what the tests of the peer room share: an authority and certificates in a folder
 * of the test's own, gateways on loopback with real TLS between them, channels that write down what
 * they are told, and the lines of the log, which are counted.
 */
#ifndef SLUICE_PEER_FIXTURE_H
#define SLUICE_PEER_FIXTURE_H

#include "../../gateway/cli/certificate.h"
#include "peer/peer.h"
#include "unit.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <sys/socket.h>

#define MS UINT64_C(1000000)
#define PATIENCE_NS (20000 * MS)

static char folder[200];

/* --- the log -------------------------------------------------------------------------------- */

static pthread_mutex_t log_mutex = PTHREAD_MUTEX_INITIALIZER;
static char log_text[1 << 16];
static bool log_is_shown;

static inline void take_log(enum log_level level, const char *text)
{
    SCOPED_LOCK(&log_mutex);
    size_t used = strlen(log_text);

    (void)level;
    if (log_is_shown)
        fprintf(stderr, "    %s\n", text);
    snprintf(log_text + used, sizeof log_text - used, "%s\n", text);
}

static inline void log_forget(void)
{
    SCOPED_LOCK(&log_mutex);

    log_text[0] = '\0';
}

/* How many lines hold the text. */
static inline unsigned log_count(const char *text)
{
    unsigned count = 0;
    SCOPED_LOCK(&log_mutex);

    for (const char *p = log_text; (p = strstr(p, text)) != NULL; p = strchr(p, '\n') + 1)
        count++;
    return count;
}

/* --- waiting -------------------------------------------------------------------------------- */

static inline void pause_briefly(void)
{
    struct timespec pause = {.tv_nsec = 200000};

    nanosleep(&pause, NULL);
}

/* Until the expression is true, at most PATIENCE_NS. */
#define WAIT_FOR(expression)                                    \
    do {                                                        \
        uint64_t wait_until_ns = clock_now_ns() + PATIENCE_NS;  \
        while (!(expression) && clock_now_ns() < wait_until_ns) \
            pause_briefly();                                    \
        CHECK(expression);                                      \
    } while (0)

/* --- certificates --------------------------------------------------------------------------- */

static inline char *path_of(const char *name)
{
    static __thread char buffer[64][300];
    static __thread unsigned next;
    char *out = buffer[next++ % 64];

    snprintf(out, sizeof buffer[0], "%s/%s", folder, name);
    return out;
}

static inline void must(int r, const struct err *e)
{
    if (r >= 0)
        return;
    fprintf(stderr, "cannot begin: %s\n", e->text);
    exit(99);
}

/* NAME.pem and NAME.key of the authority AUTHORITY.pem, for the host `of`. */
static inline void make_certificate(const char *name, const char *authority, const char *of)
{
    struct certificate_request q = {.name = of, .role = CERTIFICATE_GATEWAY, .days = 30};
    char file[6][64];
    struct err e = {0};

    q.alternative[q.alternatives++] = certificate_alternative(of);
    snprintf(file[0], sizeof file[0], "%s.pem", authority);
    snprintf(file[1], sizeof file[1], "%s.key", authority);
    snprintf(file[2], sizeof file[2], "%s.pem", name);
    snprintf(file[3], sizeof file[3], "%s.key", name);
    unlink(path_of(file[2]));
    unlink(path_of(file[3]));
    must(certificate_issue(&q, path_of(file[0]), path_of(file[1]), path_of(file[2]),
                           path_of(file[3]), &e),
         &e);
    free((char *)(uintptr_t)q.alternative[0]);
}

static inline void fixture_begin(void)
{
    const char *parent = getenv("TMPDIR");
    struct err e = {0};

    clock_init();
    snprintf(folder, sizeof folder, "%s/sluice-test-peer-XXXXXX",
             parent && parent[0] ? parent : "/tmp");
    if (!mkdtemp(folder))
        exit(99);
    log_is_shown = getenv("SHOW_LOG") != NULL;
    log_set_sink(take_log);
    must(certificate_make_authority("test", 30, path_of("ca.pem"), path_of("ca.key"), &e), &e);
    must(certificate_make_authority("other", 30, path_of("other.pem"), path_of("other.key"), &e),
         &e);
    make_certificate("gw-a", "ca", "gw-a");
    make_certificate("gw-b", "ca", "gw-b");
}

static inline int fixture_end(void)
{
    char command[300];

    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command) == 0 ? unit_result() : 99;
}

/* --- gateways ------------------------------------------------------------------------------- */

struct gate {
    struct peers *peers;
    uint16_t port;
};

static inline uint16_t free_port(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) < 0 ||
        getsockname(fd, (struct sockaddr *)&a, &length) < 0)
        exit(99);
    close(fd);
    return ntohs(a.sin_port);
}

static inline struct peers_settings settings_of(const char *name, const char *certificate)
{
    char file[2][64];

    snprintf(file[0], sizeof file[0], "%s.pem", certificate);
    snprintf(file[1], sizeof file[1], "%s.key", certificate);
    return (struct peers_settings){.name = name,
                                   .ca = path_of("ca.pem"),
                                   .certificate = path_of(file[0]),
                                   .key = path_of(file[1]),
                                   .heartbeat_ns = 100 * MS,
                                   .timeout_ns = 10000 * MS,
                                   .handshake_ns = 2000 * MS,
                                   .streams = 1,
                                   .window_bytes = PEER_WINDOW_MIN};
}

static inline struct gate gate_open(const struct peers_settings *settings, uint16_t port)
{
    struct gate g = {.port = port ? port : free_port()};
    struct err e = {0};
    char text[40];

    must(peers_create(settings, &g.peers, &e), &e);
    snprintf(text, sizeof text, "127.0.0.1:%u", g.port);
    must(peers_listen(g.peers, "127.0.0.1", g.port, text, &e), &e);
    return g;
}

static inline void gate_close(struct gate *g)
{
    peers_stop(g->peers);
    peers_destroy(g->peers);
}

static inline void gate_knows(const struct gate *g, const char *name, uint16_t port)
{
    struct peer_target t = {name, "127.0.0.1", port};
    struct err e = {0};

    must(peers_configure(g->peers, &t, 1, &e), &e);
}

struct look {
    const char *name;
    bool is_there;
    char state[20], reason[300];
    struct peer_view view;
};

static inline void on_look(const struct peer_view *view, void *arg)
{
    struct look *l = arg;

    if (strcmp(view->name, l->name) != 0)
        return;
    l->is_there = true;
    l->view = *view;
    snprintf(l->state, sizeof l->state, "%s", view->state);
    snprintf(l->reason, sizeof l->reason, "%s", view->reason);
}

static inline struct look look_at(const struct gate *g, const char *name)
{
    struct look l = {.name = name};

    peers_for_each(g->peers, on_look, &l);
    return l;
}

static inline bool is_connected(const struct gate *g, const char *name)
{
    return strcmp(look_at(g, name).state, "connected") == 0;
}

/* --- two that know each other ---------------------------------------------------------------- */

struct pair {
    struct gate a, b;
};

static inline struct pair pair_open(unsigned streams, uint64_t rekey_records)
{
    struct peers_settings a = settings_of("gw-a", "gw-a"), b = settings_of("gw-b", "gw-b");
    struct pair p;

    a.streams = b.streams = streams;
    a.rekey_records = b.rekey_records = rekey_records;
    a.lease_waits_most = b.lease_waits_most = 1; /* a slow machine's are all in vain: few in 1 ms */
    p.a = gate_open(&a, 0);
    p.b = gate_open(&b, 0);
    gate_knows(&p.a, "gw-b", p.b.port);
    gate_knows(&p.b, "gw-a", p.a.port);
    WAIT_FOR(is_connected(&p.a, "gw-b") && is_connected(&p.b, "gw-a"));
    return p;
}

static inline void pair_close(struct pair *p)
{
    gate_close(&p->a);
    gate_close(&p->b);
}

/* --- channels ------------------------------------------------------------------------------- */

/* What a channel was told; `message` and `caught_up` may be replaced. */
struct ear {
    struct peer_channel *channel;
    _Atomic unsigned connected, lost, writable, caught_up;
    _Atomic bool is_behind; /* a message has come since caught_up() */
    _Atomic uint64_t messages, bytes;
    _Atomic bool is_connected;
    uint64_t expected;      /* the next number of a numbered message */
    _Atomic unsigned wrong; /* out of order, or told when it was not connected */
    void (*message)(struct ear *ear, const void *data, size_t length);
    void (*on_caught_up)(struct ear *ear);
    char reason[200];
};

static inline void ear_connected(void *context, const char *peer)
{
    struct ear *ear = context;

    (void)peer;
    ear->wrong += atomic_exchange(&ear->is_connected, true);
    ear->expected = 0;
    ear->connected++;
}

static inline void ear_message(void *context, const void *data, size_t length)
{
    struct ear *ear = context;

    ear->wrong += !ear->is_connected;
    ear->is_behind = true;
    if (ear->message)
        ear->message(ear, data, length);
    ear->bytes += length;
    ear->messages++;
}

static inline void ear_writable(void *context)
{
    ((struct ear *)context)->writable++;
}

/* Only after a message, and once for those that came together. */
static inline void ear_caught_up(void *context)
{
    struct ear *ear = context;

    ear->wrong += !ear->is_connected + !atomic_exchange(&ear->is_behind, false);
    ear->caught_up++;
    if (ear->on_caught_up)
        ear->on_caught_up(ear);
}

static inline void ear_lost(void *context, const char *reason)
{
    struct ear *ear = context;

    ear->wrong += !atomic_exchange(&ear->is_connected, false) + ear->is_behind;
    snprintf(ear->reason, sizeof ear->reason, "%s", reason);
    ear->lost++;
}

static const struct peer_channel_handlers ear_handlers = {ear_connected, ear_message, ear_writable,
                                                          ear_lost, ear_caught_up};

/* Each message begins with its number in the link. */
static inline void in_order(struct ear *ear, const void *data, size_t length)
{
    uint64_t number;

    if (length < sizeof number) {
        ear->wrong++;
        return;
    }
    memcpy(&number, data, sizeof number);
    ear->wrong += number != ear->expected++;
}

static inline void ear_open(struct ear *ear, const struct gate *g, const char *key)
{
    struct err e = {0};

    must(peer_channel_open(g->peers, NULL, key, &ear_handlers, ear, &ear->channel, &e), &e);
    peer_channel_start(ear->channel);
}

/* Waits where the window is full. 0 or -errno. */
static inline int send_patiently(struct ear *ear, const void *data, size_t length)
{
    int r;

    while ((r = peer_channel_send(ear->channel, data, length)) == -EAGAIN)
        pause_briefly();
    return r;
}

#endif
