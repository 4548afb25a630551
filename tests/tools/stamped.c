/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stamped: writes whose order can be told from an image afterwards, and the check that tells it.
 * Every sector is stamped with {disk, writer, sequence, LBA}; the state file remembers when each
 * write was sent and when it was acknowledged, from one run to the next.
 *
 *     stamped make STATE --blocks N --disk ID
 *
 *     stamped write URI[,URI...] STATE [--seconds S] [--depth D] [--flush-every N] [--rate R]
 *
 * At most R requests a second.  Until the time is over, SIGTERM, or the server goes; what was in
 * flight at SIGTERM or then may be there or not.  Says on stderr when it is connected.  Prints one
 * JSON object.  Exit code 1 only for another error.
 *
 *     stamped check URI|IMAGE[,...] STATE [--whole] [--flushed] [--any-order] [--settle]
 *
 * The image must be a prefix of the history: if a write is missing, then so is each one that was
 * sent after it had been acknowledged.  --whole: and no acknowledged write is missing.  --flushed:
 * and none that was acknowledged before an acknowledged flush was sent.  --any-order: no prefix,
 * and sectors of a write may be missing by themselves, as after a power cut.  --settle: what is
 * missing has never been; should it come back later, that is wrong.  Prints one JSON object; exit
 * code 1 when it is wrong.
 *
 * Several disks of a group are one here: URI,URI,... and IMAGE,IMAGE,...: block N is on disk N
 * modulo their number, so that the writer alternates between them; a flush is one of all.
 *
 * A block has at most one write in flight, so the writes of a block have an order.  Let w be the
 * last write of each block that the image has, M the latest sending of any w, and m the earliest
 * acknowledgement of any write that is missing: the image is a prefix exactly if M < m.
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
#define SECTOR 512u
#define SECTORS (BLOCK / SECTOR)
#define DEPTH_MAX 128u
#define DISKS_MAX 8u
#define NEVER UINT64_MAX
#define MAGIC UINT64_C(0x646d617473313253)

struct stamp {
    uint64_t disk, writer, seq, lba;
};

/* Of the present period, in the order of their sequence numbers. */
struct sent {
    uint64_t seq, block, sent_at, acked_at; /* counts of events, not times; NEVER: not known */
};

struct header {
    uint64_t magic, disk, blocks, next_seq, events, writer, count, flushed_to;
};

static struct header head;
static uint64_t *settled; /* by sector: the sequence number it had when the period began */
static struct sent *history;
static uint64_t history_room;

static void die(const char *what)
{
    fprintf(stderr, "stamped: %s: %s\n", what, errno ? strerror(errno) : "wrong contents");
    exit(3);
}

/* --- the state file --------------------------------------------------------------------------- */

static struct sent *remember(void)
{
    if (head.count == history_room) {
        history_room = history_room ? 2 * history_room : 65536;
        history = realloc(history, history_room * sizeof *history);
        if (!history)
            die("memory");
    }
    return &history[head.count++];
}

static void load_state(const char *path)
{
    FILE *f = fopen(path, "rb");

    errno = 0;
    if (!f || fread(&head, sizeof head, 1, f) != 1 || head.magic != MAGIC)
        die(path);
    settled = calloc(head.blocks * SECTORS, sizeof *settled);
    history_room = head.count + 65536;
    history = calloc(history_room, sizeof *history);
    if (!settled || !history ||
        fread(settled, SECTORS * sizeof *settled, head.blocks, f) != head.blocks ||
        fread(history, sizeof *history, head.count, f) != head.count)
        die(path);
    fclose(f);
}

static void save_state(const char *path)
{
    FILE *f = fopen(path, "wb");

    if (!f || fwrite(&head, sizeof head, 1, f) != 1 ||
        fwrite(settled, SECTORS * sizeof *settled, head.blocks, f) != head.blocks ||
        fwrite(history, sizeof *history, head.count, f) != head.count || fclose(f) != 0)
        die(path);
}

/* --- the disks ----------------------------------------------------------------------------------
 */

static const char *places[DISKS_MAX];
static unsigned disks;

static void split_places(char *list)
{
    for (char *at = list; at && disks < DISKS_MAX;) {
        char *comma = strchr(at, ',');

        places[disks++] = at;
        if (comma)
            *comma++ = '\0';
        at = comma;
    }
    errno = 0;
    if (head.blocks % disks)
        die("the blocks do not part evenly");
}

/* --- options ---------------------------------------------------------------------------------- */

static struct options {
    double seconds;
    uint64_t depth, flush_every, blocks, disk, rate;
    bool is_whole, is_flushed, is_any_order, settles;
} options = {.seconds = 5, .depth = 16, .blocks = 4096, .disk = 1};

static bool take_switch(const char *name)
{
    static const struct {
        const char *name;
        bool *value;
    } switches[] = {{"--whole", &options.is_whole},
                    {"--flushed", &options.is_flushed},
                    {"--any-order", &options.is_any_order},
                    {"--settle", &options.settles}};

    for (unsigned i = 0; i < sizeof switches / sizeof *switches; i++)
        if (strcmp(name, switches[i].name) == 0)
            return *switches[i].value = true;
    return false;
}

static bool take_number(const char *name, const char *value)
{
    static const struct {
        const char *name;
        uint64_t *value;
    } numbers[] = {{"--depth", &options.depth},
                   {"--flush-every", &options.flush_every},
                   {"--rate", &options.rate},
                   {"--blocks", &options.blocks},
                   {"--disk", &options.disk}};

    if (strcmp(name, "--seconds") == 0) {
        options.seconds = atof(value);
        return true;
    }
    for (unsigned i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (strcmp(name, numbers[i].name) == 0) {
            *numbers[i].value = strtoull(value, NULL, 10);
            return true;
        }
    return false;
}

static bool parse(int argc, char **argv)
{
    for (int i = 0; i < argc; i++) {
        if (take_switch(argv[i]))
            continue;
        if (i + 1 == argc || !take_number(argv[i], argv[i + 1]))
            return false;
        i++;
    }
    return options.depth > 0 && options.depth <= DEPTH_MAX && options.blocks >= options.depth;
}

/* --- writing ---------------------------------------------------------------------------------- */

struct slot {
    bool is_busy, is_flush, is_spoiled;
    unsigned parts; /* that have not ended: a flush has one for each disk */
    uint64_t sent;  /* index in history; of a flush the event */
    struct timespec since;
    uint8_t data[BLOCK];
};

static struct slot slots[DEPTH_MAX];
static struct nbd_handle *nbd[DISKS_MAX];
static volatile sig_atomic_t is_over, is_left;
static uint64_t acked, flushes, random_state, busy;
static double longest_ms;
static const char *failure;

static void on_signal(int number)
{
    (void)number;
    is_left = 1;
}

static uint64_t next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static double ms_since(const struct timespec *then)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - then->tv_sec) * 1e3 + (double)(now.tv_nsec - then->tv_nsec) / 1e6;
}

static bool is_gone(int error)
{
    return error == ENOTCONN || error == ESHUTDOWN || error == ECONNRESET || error == EPIPE;
}

static int on_complete(void *user, int *error)
{
    struct slot *s = user;
    double took = ms_since(&s->since);

    s->parts--;
    if (!s->parts) {
        s->is_busy = false;
        busy--;
    }
    if (*error) {
        if (!is_gone(*error))
            failure = strerror(*error);
        is_over = 1;
        s->is_spoiled = true;
        return 1;
    }
    if (s->parts || s->is_spoiled)
        return 1;
    if (took > longest_ms)
        longest_ms = took;
    if (s->is_flush) {
        flushes++;
        if (s->sent > head.flushed_to)
            head.flushed_to = s->sent;
    } else {
        history[s->sent].acked_at = ++head.events;
        acked++;
    }
    return 1;
}

static void stamp_block(struct slot *s, const struct sent *w)
{
    memset(s->data, (int)(w->seq & 0xff), sizeof s->data);
    for (unsigned i = 0; i < SECTORS; i++) {
        struct stamp stamp = {head.disk, head.writer, w->seq, w->block * SECTORS + i};

        memcpy(s->data + i * SECTOR, &stamp, sizeof stamp);
        memcpy(s->data + (i + 1) * SECTOR - sizeof stamp, &stamp, sizeof stamp);
    }
}

static bool send_flush(struct slot *s)
{
    nbd_completion_callback done = {.callback = on_complete, .user_data = s};

    s->sent = ++head.events;
    s->parts = disks;
    for (unsigned i = 0; i < disks; i++)
        if (nbd_aio_flush(nbd[i], done, 0) == -1)
            return false;
    return true;
}

static bool send_one(struct slot *s, uint64_t index)
{
    nbd_completion_callback done = {.callback = on_complete, .user_data = s};
    struct sent *w;

    clock_gettime(CLOCK_MONOTONIC, &s->since);
    s->is_busy = true;
    busy++;
    s->is_flush = options.flush_every && next_random() % options.flush_every == 0;
    s->is_spoiled = false;
    if (s->is_flush)
        return send_flush(s);
    w = remember();
    s->sent = head.count - 1;
    *w = (struct sent){.seq = head.next_seq++,
                       .block =
                           next_random() % (head.blocks / options.depth) * options.depth + index,
                       .sent_at = ++head.events,
                       .acked_at = NEVER};
    stamp_block(s, w);
    s->parts = 1;
    return nbd_aio_pwrite(nbd[w->block % disks], s->data, BLOCK, w->block / disks * BLOCK, done,
                          0) != -1;
}

static bool is_dead(void)
{
    for (unsigned i = 0; i < disks; i++)
        if (nbd_aio_is_dead(nbd[i]) > 0 || nbd_aio_is_closed(nbd[i]) > 0)
            return true;
    return false;
}

/* Until something happens on any of them, or for so long; false: one is broken. */
static bool wait_for_any(int ms)
{
    struct pollfd fds[DISKS_MAX];

    for (unsigned i = 0; i < disks; i++) {
        unsigned direction = nbd_aio_get_direction(nbd[i]);

        fds[i] = (struct pollfd){.fd = nbd_aio_get_fd(nbd[i])};
        fds[i].events = (short)((direction & LIBNBD_AIO_DIRECTION_READ ? POLLIN : 0) |
                                (direction & LIBNBD_AIO_DIRECTION_WRITE ? POLLOUT : 0));
    }
    if (poll(fds, disks, ms) < 0 && errno != EINTR)
        return false;
    for (unsigned i = 0; i < disks; i++) {
        unsigned direction = nbd_aio_get_direction(nbd[i]);

        if (fds[i].revents & (POLLIN | POLLHUP | POLLERR) &&
            direction & LIBNBD_AIO_DIRECTION_READ && nbd_aio_notify_read(nbd[i]) == -1)
            return false;
        direction = nbd_aio_get_direction(nbd[i]);
        if (fds[i].revents & POLLOUT && direction & LIBNBD_AIO_DIRECTION_WRITE &&
            nbd_aio_notify_write(nbd[i]) == -1)
            return false;
    }
    return true;
}

/* How many may have been sent by now. */
static uint64_t due(double ms)
{
    return options.rate ? (uint64_t)(ms * (double)options.rate / 1e3) : UINT64_MAX;
}

static void run_load(void)
{
    struct timespec begun;
    uint64_t begun_count = 0;

    clock_gettime(CLOCK_MONOTONIC, &begun);
    for (;;) {
        double ms = ms_since(&begun);
        bool may_begin = !is_over && ms < options.seconds * 1e3;

        for (uint64_t i = 0; i < options.depth && may_begin && !is_dead(); i++) {
            if (slots[i].is_busy || begun_count >= due(ms))
                continue;
            if (!send_one(&slots[i], i))
                return;
            begun_count++;
        }
        if ((!may_begin && !busy) || is_left || is_dead() || !wait_for_any(options.rate ? 1 : 100))
            return;
    }
}

static int write_disks(char *uris, const char *state)
{
    struct sigaction action = {.sa_handler = on_signal};

    load_state(state);
    split_places(uris);
    head.writer++;
    random_state = head.writer * UINT64_C(0x9e3779b97f4a7c15) + head.next_seq;
    sigaction(SIGTERM, &action, NULL);
    for (unsigned i = 0; i < disks; i++) {
        nbd[i] = nbd_create();
        if (!nbd[i] || nbd_set_strict_mode(nbd[i], 0) == -1 ||
            nbd_connect_uri(nbd[i], places[i]) == -1) {
            fprintf(stderr, "stamped: %s\n", nbd_get_error());
            return 2;
        }
    }
    fprintf(stderr, "stamped: connected\n");
    run_load();
    printf("{\"acked\": %" PRIu64 ", \"flushes\": %" PRIu64 ", \"unknown\": %" PRIu64
           ", \"longest_ms\": %.1f, \"lost_server\": %s, \"error\": \"%s\"}\n",
           acked, flushes, busy, longest_ms, is_dead() ? "true" : "false", failure ? failure : "");
    save_state(state);
    return failure != NULL;
}

/* --- checking --------------------------------------------------------------------------------- */

static uint64_t wrong;

static void say_wrong(uint64_t block, const char *what, uint64_t seq)
{
    if (wrong++ < 20)
        fprintf(stderr, "stamped: block %" PRIu64 ": %s (sequence %" PRIu64 ")\n", block, what,
                seq);
}

/* Of a whole disk, from an NBD server or a file. */
static uint8_t *read_image(const char *from)
{
    uint64_t bytes = head.blocks / disks * BLOCK;
    uint8_t *image = malloc(bytes);
    struct nbd_handle *h;
    FILE *f;

    errno = 0;
    if (!image)
        die("memory");
    if (strncmp(from, "nbd", 3) == 0) {
        h = nbd_create();
        if (!h || nbd_connect_uri(h, from) == -1)
            die(nbd_get_error());
        for (uint64_t at = 0; at < bytes; at += 256 * BLOCK)
            if (nbd_pread(h, image + at, bytes - at < 256 * BLOCK ? bytes - at : 256 * BLOCK, at,
                          0) == -1)
                die(nbd_get_error());
        return image;
    }
    f = fopen(from, "rb");
    if (!f || fread(image, 1, bytes, f) != bytes)
        die(from);
    fclose(f);
    return image;
}

/* The sequence number of a sector; 0: never written. */
static bool read_sector(const uint8_t *sector, uint64_t lba, uint64_t *seq)
{
    static const uint8_t zeros[SECTOR];
    struct stamp first, last;

    memcpy(&first, sector, sizeof first);
    memcpy(&last, sector + SECTOR - sizeof last, sizeof last);
    *seq = first.seq;
    if (memcmp(sector, zeros, SECTOR) == 0)
        return true;
    if (memcmp(&first, &last, sizeof first) != 0 || first.disk != head.disk || first.lba != lba)
        return false;
    for (unsigned i = sizeof first; i < SECTOR - sizeof first; i++)
        if (sector[i] != (uint8_t)first.seq)
            return false;
    return true;
}

/* By block: its writes of this period are chained, oldest first. */
static uint64_t *first_of, *next_of;

static void chain_history(void)
{
    first_of = malloc(head.blocks * sizeof *first_of);
    next_of = malloc((head.count + 1) * sizeof *next_of);
    if (!first_of || !next_of)
        die("memory");
    memset(first_of, 0xff, head.blocks * sizeof *first_of);
    for (uint64_t i = head.count; i-- > 0;) {
        next_of[i] = first_of[history[i].block];
        first_of[history[i].block] = i;
    }
}

struct cut {
    uint64_t last_sent, first_missed_ack, missing_acked, missing_flushed, included_unknown, torn;
    uint64_t last_block, missed_block, flushed_block;
};

/* What one sector says about the cut.  Returns the write's index, NEVER for the settled one. */
static uint64_t judge_sector(uint64_t block, unsigned sector, uint64_t seq, struct cut *cut)
{
    uint64_t i = first_of[block], has = NEVER;

    if (seq != settled[block * SECTORS + sector]) {
        while (i != NEVER && history[i].seq != seq)
            i = next_of[i];
        if (i == NEVER) {
            say_wrong(block, "holds what was never written, or has been lost before", seq);
            return NEVER;
        }
        has = i;
        if (history[i].sent_at > cut->last_sent) {
            cut->last_sent = history[i].sent_at;
            cut->last_block = block;
        }
        i = next_of[i];
    }
    for (; i != NEVER; i = next_of[i])
        if (history[i].acked_at < cut->first_missed_ack) {
            cut->first_missed_ack = history[i].acked_at;
            cut->missed_block = block;
        }
    return has;
}

static void count_missing(uint64_t block, uint64_t seq, struct cut *cut)
{
    for (uint64_t i = first_of[block]; i != NEVER; i = next_of[i]) {
        if (history[i].seq <= seq || history[i].acked_at == NEVER)
            continue;
        cut->missing_acked++;
        if (history[i].acked_at < head.flushed_to) {
            cut->missing_flushed++;
            cut->flushed_block = block;
        }
    }
}

static void judge_block(uint64_t block, const uint8_t *data, struct cut *cut)
{
    uint64_t newest = 0, oldest = NEVER, has = NEVER;

    for (unsigned s = 0; s < SECTORS; s++) {
        uint64_t seq, index;

        if (!read_sector(data + s * SECTOR, block * SECTORS + s, &seq)) {
            say_wrong(block, "a sector of garbage", s);
            return;
        }
        index = judge_sector(block, s, seq, cut);
        if (seq >= newest) {
            newest = seq;
            has = index;
        }
        oldest = seq < oldest ? seq : oldest;
        if (options.settles)
            settled[block * SECTORS + s] = seq;
    }
    if (oldest != newest) {
        cut->torn++;
        if (!options.is_any_order && has != NEVER && history[has].acked_at != NEVER)
            say_wrong(block, "an acknowledged write is torn", newest);
    }
    count_missing(block, oldest, cut);
    cut->included_unknown += has != NEVER && history[has].acked_at == NEVER;
}

static void judge_cut(const struct cut *cut)
{
    if (!options.is_any_order && cut->last_sent > cut->first_missed_ack)
        say_wrong(cut->missed_block, "is not a prefix: a later write is there, in block",
                  cut->last_block);
    if (options.is_whole && cut->missing_acked)
        say_wrong(cut->missed_block, "acknowledged writes are missing", cut->missing_acked);
    if (options.is_flushed && cut->missing_flushed)
        say_wrong(cut->flushed_block, "flushed writes are missing", cut->missing_flushed);
}

static int check_disks(char *from, const char *state)
{
    struct cut cut = {.first_missed_ack = NEVER};
    uint8_t *image[DISKS_MAX];

    load_state(state);
    split_places(from);
    chain_history();
    for (unsigned i = 0; i < disks; i++)
        image[i] = read_image(places[i]);
    for (uint64_t b = 0; b < head.blocks; b++)
        judge_block(b, image[b % disks] + b / disks * BLOCK, &cut);
    judge_cut(&cut);
    printf("{\"writes\": %" PRIu64 ", \"missing_acked\": %" PRIu64
           ", \"included_unknown\": %" PRIu64 ", \"torn\": %" PRIu64 ", \"wrong\": %" PRIu64 "}\n",
           head.count, cut.missing_acked, cut.included_unknown, cut.torn, wrong);
    if (options.settles && !wrong) {
        head.count = 0;
        save_state(state);
    }
    return wrong != 0;
}

static int make_state(const char *path)
{
    head = (struct header){
        .magic = MAGIC, .disk = options.disk, .blocks = options.blocks, .next_seq = 1};
    settled = calloc(head.blocks * SECTORS, sizeof *settled);
    if (!settled)
        die("memory");
    save_state(path);
    return 0;
}

int main(int argc, char **argv)
{
    const char *verb = argc > 2 ? argv[1] : "";

    if (strcmp(verb, "make") == 0 && parse(argc - 3, argv + 3))
        return make_state(argv[2]);
    if (strcmp(verb, "write") == 0 && argc > 3 && parse(argc - 4, argv + 4))
        return write_disks(argv[2], argv[3]);
    if (strcmp(verb, "check") == 0 && argc > 3 && parse(argc - 4, argv + 4))
        return check_disks(argv[2], argv[3]);
    fprintf(stderr,
            "usage: stamped make STATE [--blocks N] [--disk ID]\n"
            "       stamped write URI[,URI...] STATE [--seconds S] [--depth D] [--flush-every N]\n"
            "               [--rate R]\n"
            "       stamped check URI|IMAGE[,...] STATE [--whole] [--flushed] [--any-order] "
            "[--settle]\n");
    return 3;
}
