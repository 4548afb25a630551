/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * nbd-load: a verifying load over NBD.  A number of slots each own every D-th block of the disk, so
 * no two requests in flight overlap; a slot writes blocks stamped with {block, count} and reads
 * them back against its own memory of the last acknowledged stamp.  With --reconnect a lost
 * connection is made anew and what was in flight is sent again, as QEMU's reconnect-delay does.
 *
 *     nbd-load URI [--seconds N] [--depth D] [--blocks N] [--reconnect SECONDS] [--flush-every N]
 *
 * Prints one JSON object at the end (or at SIGTERM): requests, errors, wrong, reconnects,
 * longest_ms. Exit code 0 only without an error and without a wrong byte.
 */
#include <errno.h>
#include <inttypes.h>
#include <libnbd.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BLOCK 4096u
#define DEPTH_MAX 128u

enum what { IDLE, WRITING, READING, FLUSHING };

struct slot {
    enum what what;
    uint64_t block, stamp, since_ns;
    bool is_sent;
    uint64_t data[BLOCK / 8];
};

static struct options {
    const char *uri;
    double seconds, reconnect_seconds;
    unsigned depth, flush_every;
    uint64_t blocks;
} options = {.seconds = 5, .depth = 32, .blocks = 4096};

static struct slot slots[DEPTH_MAX];
static uint64_t *acknowledged; /* stamp of each block; 0: never written */
static uint64_t requests, errors, wrong, reconnects, longest_ns, next_stamp,
    random_state = 88172645463325252u;
static struct nbd_handle *nbd;
static volatile sig_atomic_t is_over;

static void on_signal(int number)
{
    (void)number;
    is_over = 1;
}

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static void stamp_data(struct slot *s)
{
    for (unsigned i = 0; i < BLOCK / 8; i += 2) {
        s->data[i] = s->block;
        s->data[i + 1] = s->stamp;
    }
}

static void verify(const struct slot *s)
{
    uint64_t stamp = acknowledged[s->block], block = stamp ? s->block : 0;

    for (unsigned i = 0; i < BLOCK / 8; i += 2)
        if (s->data[i] != block || s->data[i + 1] != stamp) {
            wrong++;
            fprintf(stderr,
                    "nbd-load: block %" PRIu64 " holds {%" PRIu64 ", %" PRIu64 "}, not {%" PRIu64
                    ", %" PRIu64 "}\n",
                    s->block, s->data[i], s->data[i + 1], block, stamp);
            return;
        }
}

static void finish(struct slot *s)
{
    uint64_t took = now_ns() - s->since_ns;

    if (took > longest_ns)
        longest_ns = took;
    requests++;
    if (s->what == WRITING)
        acknowledged[s->block] = s->stamp;
    else if (s->what == READING)
        verify(s);
    s->what = IDLE;
    s->is_sent = false;
}

static int on_complete(void *user, int *error)
{
    struct slot *s = user;

    if (!s->is_sent)
        return 1; /* of a connection that is gone */
    if (*error == 0)
        finish(s);
    else if (options.reconnect_seconds > 0 && (*error == ENOTCONN || *error == ESHUTDOWN))
        s->is_sent = false; /* to be sent again */
    else {
        errors++;
        fprintf(stderr, "nbd-load: request failed: %s\n", strerror(*error));
        s->what = IDLE;
        s->is_sent = false;
    }
    return 1;
}

static void choose(struct slot *s, unsigned index)
{
    uint64_t per_slot = options.blocks / options.depth;

    s->block = (next_random() % per_slot) * options.depth + index;
    s->since_ns = now_ns();
    if (options.flush_every && requests % options.flush_every == options.flush_every - 1)
        s->what = FLUSHING;
    else if (next_random() % 2) {
        s->what = WRITING;
        s->stamp = ++next_stamp;
        stamp_data(s);
    } else {
        s->what = READING;
        memset(s->data, 0xee, sizeof s->data);
    }
}

static bool send_slot(struct slot *s)
{
    nbd_completion_callback done = {.callback = on_complete, .user_data = s};
    int64_t r;

    s->is_sent = true;
    if (s->what == WRITING)
        r = nbd_aio_pwrite(nbd, s->data, BLOCK, s->block * BLOCK, done, 0);
    else if (s->what == READING)
        r = nbd_aio_pread(nbd, s->data, BLOCK, s->block * BLOCK, done, 0);
    else
        r = nbd_aio_flush(nbd, done, 0);
    if (r == -1)
        s->is_sent = false;
    return r != -1;
}

static bool is_dead(void)
{
    return nbd_aio_is_dead(nbd) > 0 || nbd_aio_is_closed(nbd) > 0;
}

static struct nbd_handle *connect_once(void)
{
    struct nbd_handle *h = nbd_create();

    if (h && nbd_set_strict_mode(h, 0) == 0 && nbd_connect_uri(h, options.uri) == 0)
        return h;
    nbd_close(h);
    return NULL;
}

static bool reconnect(void)
{
    uint64_t until = now_ns() + (uint64_t)(options.reconnect_seconds * 1e9);
    struct timespec pause = {.tv_nsec = 10000000};

    for (unsigned i = 0; i < options.depth; i++)
        slots[i].is_sent = false;
    if (nbd)
        nbd_close(nbd);
    for (;;) {
        nbd = connect_once();
        if (nbd)
            return true;
        if (now_ns() > until || options.reconnect_seconds <= 0)
            return false;
        nanosleep(&pause, NULL); /* back-off between attempts */
    }
}

static bool turn(bool may_begin)
{
    bool is_busy = false;

    for (unsigned i = 0; i < options.depth; i++) {
        struct slot *s = &slots[i];

        if (s->what == IDLE && may_begin)
            choose(s, i);
        if (s->what != IDLE && !s->is_sent && !is_dead())
            send_slot(s);
        is_busy |= s->what != IDLE;
    }
    return is_busy;
}

static bool run(void)
{
    uint64_t until = now_ns() + (uint64_t)(options.seconds * 1e9);

    for (;;) {
        if (is_dead()) {
            reconnects++;
            if (!reconnect()) {
                fprintf(stderr, "nbd-load: the connection is lost\n");
                errors++;
                return false;
            }
        }
        if (!turn(!is_over && now_ns() < until))
            return true;
        if (nbd_poll(nbd, 1000) == -1 && options.reconnect_seconds <= 0) {
            fprintf(stderr, "nbd-load: %s\n", nbd_get_error());
            errors++;
            return false;
        }
    }
}

static void verify_all(void)
{
    static struct slot s;

    for (s.block = 0; s.block < options.blocks / options.depth * options.depth; s.block++) {
        if (nbd_pread(nbd, s.data, BLOCK, s.block * BLOCK, 0) == -1) {
            fprintf(stderr, "nbd-load: %s\n", nbd_get_error());
            errors++;
            return;
        }
        verify(&s);
    }
}

static double number(const char *text)
{
    return text ? atof(text) : 0;
}

static bool parse(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;

        if (argv[i][0] != '-') {
            options.uri = argv[i];
            continue;
        }
        if (strcmp(argv[i], "--seconds") == 0)
            options.seconds = number(value);
        else if (strcmp(argv[i], "--depth") == 0)
            options.depth = (unsigned)number(value);
        else if (strcmp(argv[i], "--blocks") == 0)
            options.blocks = (uint64_t)number(value);
        else if (strcmp(argv[i], "--reconnect") == 0)
            options.reconnect_seconds = number(value);
        else if (strcmp(argv[i], "--flush-every") == 0)
            options.flush_every = (unsigned)number(value);
        else
            return false;
        i++;
    }
    return options.uri && options.depth > 0 && options.depth <= DEPTH_MAX &&
           options.blocks >= options.depth;
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_handler = on_signal};

    if (!parse(argc, argv)) {
        fprintf(stderr,
                "usage: nbd-load URI [--seconds N] [--depth D] [--blocks N] [--reconnect SECONDS] "
                "[--flush-every N]\n");
        return 3;
    }
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    acknowledged = calloc(options.blocks, sizeof *acknowledged);
    if (!acknowledged || !reconnect()) {
        fprintf(stderr, "nbd-load: cannot connect: %s\n", nbd_get_error());
        return 1;
    }
    if (run())
        verify_all();
    nbd_close(nbd);
    free(acknowledged);
    printf("{\"requests\": %" PRIu64 ", \"errors\": %" PRIu64 ", \"wrong\": %" PRIu64
           ", \"reconnects\": %" PRIu64 ", \"longest_ms\": %.1f}\n",
           requests, errors, wrong, reconnects, (double)longest_ns / 1e6);
    return errors || wrong ? 1 : 0;
}
