/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * nbd-iops: compares NBD servers under one load.  All of them are connected to at once and loaded
 * in turn, slice by slice, the order reversed every other round: what disturbs the machine for a
 * while disturbs all of them alike, and rounds can be compared pair by pair.
 *
 *     nbd-iops [OPTION...] NAME=URI...
 *         --op read|write|randread|randwrite   (randread)
 *         --depth N          requests in flight on each connection (1)
 *         --connections N    connections to each server, a thread for each (1)
 *         --block BYTES      (4096)
 *         --flush-every N    every Nth request of a connection is a flush, and counts as one
 *         --rounds N         slices for each server (9)
 *         --seconds S        length of a slice (1)
 *         --requests N       or: a slice is that many requests of each connection
 *
 * Prints one JSON object: for each server the requests a second of every round, the time that 99 of
 * 100 requests took at most (of the first million of each connection), and the processor time a
 * request cost the server (Unix sockets only: the process is known by the socket; else 0).
 * Nothing is verified here; nbd-load does that.
 */
#include "iops.h"

#include <errno.h>
#include <inttypes.h>
#include <libnbd.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>

#define SERVERS_MAX 16u
#define CONNECTIONS_MAX 16u
#define DEPTH_MAX 128u
#define TIMES_MAX (1u << 20)

static unsigned connections = 1, flush_every;
static uint64_t slice_requests; /* 0: a slice is a time */

struct server {
    const char *name, *uri;
    clockid_t cpu_clock;
    bool has_cpu_clock;
    double requests_a_second[ROUNDS_MAX], p99_us[ROUNDS_MAX], cpu_ns_a_request[ROUNDS_MAX];
};

static struct server servers[SERVERS_MAX];
static unsigned server_count;

/* One thread of the load, with a connection to every server. */
struct client {
    pthread_t thread;
    struct nbd_handle *nbd[SERVERS_MAX];
    uint64_t blocks, next_block, random_state;
    char *data[DEPTH_MAX];
    bool is_busy[DEPTH_MAX];
    uint64_t since_ns[DEPTH_MAX];
    float *took_us; /* TIMES_MAX of them */
    unsigned in_flight;
    uint64_t sent, done;
};

static struct client clients[CONNECTIONS_MAX];
static pthread_barrier_t slice_begins, slice_ends;
static struct server *loaded;   /* set before slice_begins */
static uint64_t slice_until_ns; /* likewise */
static atomic_bool has_failed;

static void die(const char *what)
{
    fprintf(stderr, "nbd-iops: %s: %s\n", what, nbd_get_error() ? nbd_get_error() : "");
    exit(1);
}

/* --- the load ----------------------------------------------------------------------------- */

static uint64_t next_offset(struct client *c)
{
    if (options.is_sequential)
        return c->next_block++ % c->blocks * options.block;
    c->random_state ^= c->random_state << 13;
    c->random_state ^= c->random_state >> 7;
    c->random_state ^= c->random_state << 17;
    return c->random_state % c->blocks * options.block;
}

struct slot {
    struct client *client;
    unsigned index;
};
static struct slot slots[CONNECTIONS_MAX][DEPTH_MAX];

static int on_complete(void *user, int *error)
{
    struct slot *s = user;

    if (*error) {
        fprintf(stderr, "nbd-iops: %s: a request failed: %s\n", loaded->name, strerror(*error));
        atomic_store(&has_failed, true);
    }
    s->client->is_busy[s->index] = false;
    s->client->in_flight--;
    if (s->client->done < TIMES_MAX)
        s->client->took_us[s->client->done] =
            (float)(clock_ns(CLOCK_MONOTONIC) - s->client->since_ns[s->index]) / 1000;
    s->client->done++;
    return 1;
}

static int64_t submit(struct client *c, struct nbd_handle *nbd, unsigned i,
                      nbd_completion_callback callback)
{
    uint64_t at;

    if (flush_every && c->sent % flush_every == flush_every - 1)
        return nbd_aio_flush(nbd, callback, 0);
    at = next_offset(c);
    return options.is_write ? nbd_aio_pwrite(nbd, c->data[i], options.block, at, callback, 0)
                            : nbd_aio_pread(nbd, c->data[i], options.block, at, callback, 0);
}

static void send_one(struct client *c, struct nbd_handle *nbd, unsigned i)
{
    nbd_completion_callback callback = {.callback = on_complete,
                                        .user_data = &slots[c - clients][i]};

    c->since_ns[i] = clock_ns(CLOCK_MONOTONIC);
    if (submit(c, nbd, i, callback) == -1)
        die(loaded->name);
    c->is_busy[i] = true;
    c->in_flight++;
    c->sent++;
}

static bool may_send(const struct client *c)
{
    if (atomic_load(&has_failed))
        return false;
    return slice_requests ? c->sent < slice_requests : clock_ns(CLOCK_MONOTONIC) < slice_until_ns;
}

static void load_for_a_slice(struct client *c, struct nbd_handle *nbd)
{
    c->sent = c->done = 0;
    for (;;) {
        for (unsigned i = 0; i < options.depth && may_send(c); i++)
            if (!c->is_busy[i])
                send_one(c, nbd, i);
        if (c->in_flight == 0)
            return;
        if (nbd_poll(nbd, 60000) != 1)
            die(loaded->name);
    }
}

static void *run_client(void *arg)
{
    struct client *c = arg;

    for (;;) {
        pthread_barrier_wait(&slice_begins);
        if (!loaded)
            return NULL;
        load_for_a_slice(c, c->nbd[loaded - servers]);
        pthread_barrier_wait(&slice_ends);
    }
}

/* --- rounds ------------------------------------------------------------------------------- */

static uint64_t server_cpu_ns(const struct server *s)
{
    return s->has_cpu_clock ? clock_ns(s->cpu_clock) : 0;
}

static int compare(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;

    return (x > y) - (x < y);
}

/* Of the connection whose requests took longest. */
static double longest_p99_us(void)
{
    double longest = 0;

    for (unsigned i = 0; i < connections; i++) {
        struct client *c = &clients[i];
        size_t count = c->done < TIMES_MAX ? c->done : TIMES_MAX;

        qsort(c->took_us, count, sizeof *c->took_us, compare);
        if (count && (double)c->took_us[count * 99 / 100] > longest)
            longest = (double)c->took_us[count * 99 / 100];
    }
    return longest;
}

static void run_slice(struct server *s, double *requests_a_second, double *p99_us,
                      double *cpu_ns_a_request)
{
    uint64_t since, cpu_since = server_cpu_ns(s), requests = 0;

    loaded = s;
    since = clock_ns(CLOCK_MONOTONIC);
    slice_until_ns = since + (uint64_t)(options.seconds * 1e9);
    pthread_barrier_wait(&slice_begins);
    pthread_barrier_wait(&slice_ends);
    for (unsigned i = 0; i < connections; i++)
        requests += clients[i].done;
    *requests_a_second = (double)requests * 1e9 / (double)(clock_ns(CLOCK_MONOTONIC) - since);
    *p99_us = longest_p99_us();
    *cpu_ns_a_request = (double)(server_cpu_ns(s) - cpu_since) / (double)(requests ? requests : 1);
}

static void run_rounds(void)
{
    double ignored;

    for (unsigned i = 0; i < server_count; i++) /* warms caches and pools */
        run_slice(&servers[i], &ignored, &ignored, &ignored);
    for (unsigned round = 0; round < options.rounds && !atomic_load(&has_failed); round++)
        for (unsigned i = 0; i < server_count; i++) {
            struct server *s = &servers[round % 2 ? server_count - 1 - i : i];

            run_slice(s, &s->requests_a_second[round], &s->p99_us[round],
                      &s->cpu_ns_a_request[round]);
        }
    loaded = NULL;
    pthread_barrier_wait(&slice_begins);
}

/* --- connecting --------------------------------------------------------------------------- */

static void find_process(struct server *s, struct nbd_handle *nbd)
{
    struct ucred peer;
    socklen_t size = sizeof peer;

    s->has_cpu_clock =
        getsockopt(nbd_aio_get_fd(nbd), SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
        peer.pid > 0 && clock_getcpuclockid(peer.pid, &s->cpu_clock) == 0;
}

static struct nbd_handle *connect_to(struct server *s, uint64_t *blocks)
{
    struct nbd_handle *nbd = nbd_create();
    int64_t size;

    if (!nbd || nbd_set_strict_mode(nbd, 0) == -1 || nbd_connect_uri(nbd, s->uri) == -1)
        die(s->name);
    size = nbd_get_size(nbd);
    if (size < options.block)
        die(s->name);
    if (*blocks == 0 || *blocks > (uint64_t)size / options.block)
        *blocks = (uint64_t)size / options.block;
    find_process(s, nbd);
    return nbd;
}

static void make_client(unsigned index)
{
    struct client *c = &clients[index];

    c->random_state = 88172645463325252u + index * 0x9e3779b97f4a7c15u;
    for (unsigned i = 0; i < server_count; i++)
        c->nbd[i] = connect_to(&servers[i], &c->blocks);
    c->next_block = c->blocks / connections * index;
    c->took_us = malloc(TIMES_MAX * sizeof *c->took_us);
    if (!c->took_us)
        die("out of memory");
    for (unsigned i = 0; i < options.depth; i++) {
        slots[index][i] = (struct slot){c, i};
        c->data[i] = aligned_alloc(4096, (options.block + 4095u) / 4096u * 4096u);
        if (!c->data[i])
            die("out of memory");
        memset(c->data[i], (int)i + 1, options.block);
    }
    if (pthread_create(&c->thread, NULL, run_client, c) != 0)
        die("cannot start a thread");
}

/* --- command line ------------------------------------------------------------------------- */

static bool set_option(const char *name, const char *value)
{
    if (strcmp(name, "--connections") == 0)
        return set_unsigned(&connections, value, CONNECTIONS_MAX);
    if (strcmp(name, "--flush-every") == 0)
        return set_unsigned(&flush_every, value, 1u << 20);
    if (strcmp(name, "--requests") == 0) {
        slice_requests = (uint64_t)atoll(value);
        return slice_requests > 0;
    }
    return set_common_option(name, value, DEPTH_MAX);
}

static bool add_server(const char *name, const char *uri)
{
    if (server_count == SERVERS_MAX)
        return false;
    servers[server_count++] = (struct server){.name = name, .uri = uri};
    return true;
}

static void print(void)
{
    printf("{");
    for (unsigned i = 0; i < server_count; i++) {
        printf("%s\"%s\": {", i ? ",\n " : "", servers[i].name);
        print_rounds("requests_a_second", servers[i].requests_a_second, 1);
        printf(", ");
        print_rounds("p99_us", servers[i].p99_us, 1);
        printf(", ");
        print_rounds("cpu_ns_a_request", servers[i].cpu_ns_a_request, 1);
        printf("}");
    }
    printf("}\n");
}

int main(int argc, char **argv)
{
    if (!parse(argc, argv, set_option, add_server) || server_count == 0) {
        fprintf(stderr, "usage: nbd-iops [--op OP] [--depth N] [--connections N] [--block BYTES] "
                        "[--rounds N] [--seconds S | --requests N] NAME=URI...\n");
        return 3;
    }
    pthread_barrier_init(&slice_begins, NULL, connections + 1);
    pthread_barrier_init(&slice_ends, NULL, connections + 1);
    for (unsigned i = 0; i < connections; i++)
        make_client(i);
    run_rounds();
    for (unsigned i = 0; i < connections; i++)
        pthread_join(clients[i].thread, NULL);
    if (atomic_load(&has_failed))
        return 1;
    print();
    return 0; /* the connections end with the process */
}
