/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * iscsi-iops: compares iSCSI targets under one load, as nbd-iops does NBD servers: a session to
 * each, loaded in turn, slice by slice, the order reversed every other round.
 *
 *     iscsi-iops [OPTION...] NAME=PID@HOST:PORT/TARGET/LUN...      (HOST: an IPv4 address)
 *         --op read|write|randread|randwrite   (randread)
 *         --depth N      commands in flight (1)
 *         --block BYTES  of a command (4096)
 *         --rounds N     slices for each target (9)
 *         --seconds S    length of a slice (1)
 *
 * An initiator that costs little, so that it is not the client that is measured: one system call
 * takes all answers that have come, headers are looked at where they lie, data is passed over, and
 * the commands that take their places leave in one more.  Data of writes goes as the target wants
 * it: immediately as much as it takes, the rest when it asks.
 *
 * Prints one JSON object: for each target the requests a second of every round, the processor time
 * a request cost the process PID, and how busy the client's thread was, from 0 to 1.
 */
#include "iops.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define TARGETS_MAX 16u
#define DEPTH_MAX 256u
#define BHS 48u
#define IN_BYTES (1u << 20)
#define OUTS_MAX 512u
#define NO_TAG 0xffffffffu

struct target {
    const char *name;
    char host[64], iqn[224];
    unsigned port, lun;
    clockid_t cpu_clock;
    int fd;
    uint64_t blocks, next; /* of options.block bytes */
    uint32_t sector_bytes;
    /* What was agreed on. */
    uint32_t send_bytes, first_burst;
    bool has_immediate;
    uint32_t command_sn, max_command_sn, expected_status_sn;
    double requests_a_second[ROUNDS_MAX], cpu_ns_a_request[ROUNDS_MAX], client_busy[ROUNDS_MAX];
};

static struct target targets[TARGETS_MAX];
static unsigned target_count;

static uint64_t random_state = 88172645463325252u;
static uint8_t in[IN_BYTES];
static size_t in_bytes;      /* of a header that has not come whole */
static uint8_t in_head[BHS]; /* of the PDU at hand, if there is one */
static bool is_in_pdu;
static uint64_t in_left; /* of it, header and data */
static uint8_t *data;    /* options.block of it, for all writes */
static uint8_t heads[OUTS_MAX][BHS];
static struct iovec outs[2 * OUTS_MAX];
static unsigned head_count, out_count;
static uint32_t idle[DEPTH_MAX]; /* tags */
static unsigned idle_count;
static uint64_t done;

static void die(const struct target *t, const char *what)
{
    fprintf(stderr, "iscsi-iops: %s: %s\n", t->name, what);
    exit(1);
}

static void put32(uint8_t *p, uint32_t value)
{
    uint32_t big = htonl(value);

    memcpy(p, &big, sizeof big);
}

static uint32_t get32(const uint8_t *p)
{
    uint32_t big;

    memcpy(&big, p, sizeof big);
    return ntohl(big);
}

static uint32_t data_bytes(const uint8_t *bhs)
{
    return get32(bhs + 4) & 0xffffffu;
}

static uint32_t padded(uint32_t bytes)
{
    return (bytes + 3) / 4 * 4;
}

/* --- out ---------------------------------------------------------------------------------- */

static void flush(struct target *t)
{
    struct iovec *at = outs;
    size_t left = out_count;

    while (left) {
        struct msghdr message = {.msg_iov = at, .msg_iovlen = left};
        ssize_t n = sendmsg(t->fd, &message, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            die(t, "the connection broke");
        for (; left && (size_t)n >= at->iov_len; at++, left--)
            n -= (ssize_t)at->iov_len;
        if (left) {
            at->iov_base = (char *)at->iov_base + n;
            at->iov_len -= (size_t)n;
        }
    }
    head_count = out_count = 0;
}

/* A header to fill in; `bytes` of `from` follow it. */
static uint8_t *queue(struct target *t, const void *from, uint32_t bytes)
{
    uint8_t *bhs;

    if (head_count == OUTS_MAX)
        flush(t);
    bhs = heads[head_count++];
    memset(bhs, 0, BHS);
    put32(bhs + 4, bytes);
    outs[out_count++] = (struct iovec){bhs, BHS};
    if (bytes)
        outs[out_count++] = (struct iovec){(void *)(uintptr_t)from, padded(bytes)};
    return bhs;
}

static void queue_command(struct target *t, uint32_t tag, unsigned flags, const uint8_t cdb[16],
                          uint32_t expected, uint32_t immediate)
{
    uint8_t *bhs = queue(t, data, immediate);

    bhs[0] = 0x01;
    bhs[1] = (uint8_t)(0x80 | flags | 1);
    bhs[9] = (uint8_t)t->lun;
    put32(bhs + 16, tag);
    put32(bhs + 20, expected);
    put32(bhs + 24, t->command_sn++);
    put32(bhs + 28, t->expected_status_sn);
    memcpy(bhs + 32, cdb, 16);
}

static uint64_t next_block(struct target *t)
{
    if (options.is_sequential)
        return t->next++ % t->blocks;
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state % t->blocks;
}

static void queue_request(struct target *t)
{
    uint64_t lba = next_block(t) * (options.block / t->sector_bytes);
    uint8_t cdb[16] = {options.is_write ? 0x8a : 0x88};
    uint32_t immediate = 0;

    put32(cdb + 2, (uint32_t)(lba >> 32));
    put32(cdb + 6, (uint32_t)lba);
    put32(cdb + 10, options.block / t->sector_bytes);
    if (options.is_write && t->has_immediate) {
        immediate = t->send_bytes < t->first_burst ? t->send_bytes : t->first_burst;
        immediate = immediate < options.block ? immediate : options.block;
    }
    queue_command(t, idle[--idle_count], options.is_write ? 0x20 : 0x40, cdb, options.block,
                  immediate);
}

static void queue_what_was_asked_for(struct target *t, const uint8_t *r2t)
{
    uint32_t offset = get32(r2t + 40), left = get32(r2t + 44), sn = 0;

    while (left) {
        uint32_t bytes = left < t->send_bytes ? left : t->send_bytes;
        uint8_t *bhs = queue(t, data + offset, bytes);

        left -= bytes;
        bhs[0] = 0x05;
        bhs[1] = left ? 0 : 0x80;
        memcpy(bhs + 8, r2t + 8, 16); /* LUN and both tags */
        put32(bhs + 28, t->expected_status_sn);
        put32(bhs + 36, sn++);
        put32(bhs + 40, offset);
        offset += bytes;
    }
}

/* --- in ----------------------------------------------------------------------------------- */

static void take_status(struct target *t, const uint8_t *bhs)
{
    t->expected_status_sn = get32(bhs + 24) + 1;
    if (bhs[3] != 0)
        die(t, "a request failed");
    idle[idle_count++] = get32(bhs + 16);
    done++;
}

static void take_pdu(struct target *t, const uint8_t *bhs)
{
    unsigned opcode = bhs[0] & 0x3f;

    t->max_command_sn = get32(bhs + 32);
    if (opcode == 0x21 || (opcode == 0x25 && (bhs[1] & 1)))
        take_status(t, bhs);
    else if (opcode == 0x31)
        queue_what_was_asked_for(t, bhs);
    else if (opcode != 0x25)
        die(t, "an answer that was not asked for");
}

/* A PDU is answered when its data is there too.  Returns how much is left: part of a header. */
static size_t take_all(struct target *t, const uint8_t *p, size_t n)
{
    for (;;) {
        size_t passed = in_left < n ? (size_t)in_left : n;

        p += passed;
        n -= passed;
        in_left -= passed;
        if (in_left)
            return 0;
        if (is_in_pdu)
            take_pdu(t, in_head);
        is_in_pdu = n >= BHS;
        if (!is_in_pdu)
            return n;
        memcpy(in_head, p, BHS);
        in_left = BHS + in_head[4] * 4u + padded(data_bytes(in_head));
    }
}

/* Blocks until something has come, then takes all of it. */
static void receive(struct target *t)
{
    ssize_t n = recv(t->fd, in + in_bytes, sizeof in - in_bytes, 0);
    size_t end;

    if (n <= 0)
        die(t, "the target closed the connection");
    end = in_bytes + (size_t)n;
    in_bytes = take_all(t, in, end);
    memmove(in, in + end - in_bytes, in_bytes);
}

/* --- a slice ------------------------------------------------------------------------------ */

static bool may_send(const struct target *t)
{
    return idle_count && (int32_t)(t->max_command_sn - t->command_sn) >= 0;
}

static void load_for_a_slice(struct target *t, uint64_t until_ns)
{
    done = 0;
    for (;;) {
        bool goes_on = clock_ns(CLOCK_MONOTONIC) < until_ns;

        while (goes_on && may_send(t))
            queue_request(t);
        flush(t);
        if (idle_count == options.depth)
            return;
        receive(t);
    }
}

static void run_slice(struct target *t, unsigned round)
{
    uint64_t cpu_since = clock_ns(t->cpu_clock), own_since = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    uint64_t since = clock_ns(CLOCK_MONOTONIC), took;

    load_for_a_slice(t, since + (uint64_t)(options.seconds * 1e9));
    took = clock_ns(CLOCK_MONOTONIC) - since;
    t->requests_a_second[round] = (double)done * 1e9 / (double)took;
    t->client_busy[round] = (double)(clock_ns(CLOCK_THREAD_CPUTIME_ID) - own_since) / (double)took;
    t->cpu_ns_a_request[round] =
        (double)(clock_ns(t->cpu_clock) - cpu_since) / (double)(done ? done : 1);
}

static void run_rounds(void)
{
    for (unsigned i = 0; i < target_count; i++) /* warms caches and pools */
        run_slice(&targets[i], 0);
    for (unsigned round = 0; round < options.rounds; round++)
        for (unsigned i = 0; i < target_count; i++)
            run_slice(&targets[round % 2 ? target_count - 1 - i : i], round);
}

/* --- logging in --------------------------------------------------------------------------- */

static void receive_exactly(struct target *t, void *into, size_t bytes)
{
    if (bytes && recv(t->fd, into, bytes, MSG_WAITALL) != (ssize_t)bytes)
        die(t, "the target closed the connection");
}

/* One PDU with its data, of which `into` keeps `room` at most. */
static uint32_t receive_pdu(struct target *t, uint8_t bhs[BHS], uint8_t *into, uint32_t room)
{
    uint32_t bytes;

    receive_exactly(t, bhs, BHS);
    bytes = data_bytes(bhs);
    if (padded(bytes) > sizeof in)
        die(t, "a long answer");
    receive_exactly(t, in, padded(bytes));
    if (into)
        memcpy(into, in, bytes < room ? bytes : room);
    return bytes;
}

static void connect_to(struct target *t)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)t->port)};
    int one = 1;

    t->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (inet_pton(AF_INET, t->host, &address.sin_addr) != 1 || t->fd < 0 ||
        connect(t->fd, (struct sockaddr *)&address, sizeof address) < 0)
        die(t, "cannot connect");
    setsockopt(t->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static const char *find_key(const char *text, size_t bytes, const char *key)
{
    size_t length = strlen(key);

    for (size_t at = 0; at < bytes; at += strlen(text + at) + 1)
        if (strncmp(text + at, key, length) == 0 && text[at + length] == '=')
            return text + at + length + 1;
    return NULL;
}

static uint32_t number_of(const char *text, size_t bytes, const char *key, uint32_t otherwise)
{
    const char *value = find_key(text, bytes, key);

    return value ? (uint32_t)strtoul(value, NULL, 10) : otherwise;
}

/* As libiscsi and Linux ask for it: no digests, immediate data, long data segments. */
static void log_in(struct target *t)
{
    char text[1024], answer[8193] = "";
    uint8_t bhs[BHS], *out;
    const char *immediate;
    int length = snprintf(text, sizeof text,
                          "InitiatorName=iqn.2001-04.com.example:iops%cTargetName=%s%c"
                          "SessionType=Normal%cHeaderDigest=None%cDataDigest=None%c"
                          "InitialR2T=Yes%cImmediateData=Yes%cMaxOutstandingR2T=1%c"
                          "MaxRecvDataSegmentLength=262144%cMaxBurstLength=1048576%c"
                          "FirstBurstLength=262144%cErrorRecoveryLevel=0%c",
                          0, t->iqn, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);

    memset(text + length, 0, 4);
    t->command_sn = 1;
    out = queue(t, text, (uint32_t)length);
    out[0] = 0x43;
    out[1] = 0x87; /* transit from operational negotiation to full feature phase */
    out[8] = 0x80;
    out[13] = 1;
    put32(out + 24, t->command_sn);
    flush(t);
    length = (int)receive_pdu(t, bhs, (uint8_t *)answer, sizeof answer - 1);
    if (bhs[0] != 0x23 || bhs[1] != 0x87 || bhs[36] != 0)
        die(t, "the login was refused");
    t->send_bytes = number_of(answer, (size_t)length, "MaxRecvDataSegmentLength", 8192);
    t->first_burst = number_of(answer, (size_t)length, "FirstBurstLength", 65536);
    immediate = find_key(answer, (size_t)length, "ImmediateData");
    t->has_immediate = !immediate || strcmp(immediate, "Yes") == 0;
    t->expected_status_sn = get32(bhs + 24) + 1;
    t->max_command_sn = get32(bhs + 32);
}

/* False: CHECK CONDITION. */
static bool ask(struct target *t, const uint8_t cdb[16], uint8_t *answer, uint32_t bytes)
{
    uint8_t bhs[BHS];
    bool has_status;

    queue_command(t, 1, bytes ? 0x40 : 0, cdb, bytes, 0);
    flush(t);
    do {
        receive_pdu(t, bhs, answer, bytes);
        has_status = (bhs[0] & 0x3f) == 0x21 || ((bhs[0] & 0x3f) == 0x25 && (bhs[1] & 1));
    } while (!has_status);
    t->expected_status_sn = get32(bhs + 24) + 1;
    t->max_command_sn = get32(bhs + 32);
    return bhs[3] == 0;
}

static void measure_disk(struct target *t)
{
    const uint8_t ready[16] = {0}, capacity[16] = {[0] = 0x9e, [1] = 0x10, [13] = 32};
    uint8_t answer[32] = {0};

    for (unsigned i = 0; !ask(t, ready, NULL, 0); i++) /* unit attentions */
        if (i == 10)
            die(t, "the disk is not ready");
    if (!ask(t, capacity, answer, sizeof answer))
        die(t, "no capacity");
    t->sector_bytes = get32(answer + 8);
    if (t->sector_bytes == 0 || options.block % t->sector_bytes)
        die(t, "the block is no multiple of its sectors");
    t->blocks = ((uint64_t)get32(answer) << 32 | get32(answer + 4)) + 1;
    t->blocks /= options.block / t->sector_bytes;
    if (t->blocks == 0)
        die(t, "the disk is too small");
}

/* --- command line ------------------------------------------------------------------------- */

static bool set_option(const char *name, const char *value)
{
    return set_common_option(name, value, DEPTH_MAX);
}

static bool add_target(const char *name, const char *where)
{
    struct target *t = &targets[target_count];
    int pid;

    if (target_count == TARGETS_MAX)
        return false;
    t->name = name;
    target_count++;
    return sscanf(where, "%d@%63[^:]:%u/%223[^/]/%u", &pid, t->host, &t->port, t->iqn, &t->lun) ==
               5 &&
           t->lun < 256 && clock_getcpuclockid(pid, &t->cpu_clock) == 0;
}

static void print(void)
{
    printf("{");
    for (unsigned i = 0; i < target_count; i++) {
        printf("%s\"%s\": {", i ? ",\n " : "", targets[i].name);
        print_rounds("requests_a_second", targets[i].requests_a_second, 1);
        printf(", ");
        print_rounds("cpu_ns_a_request", targets[i].cpu_ns_a_request, 1);
        printf(", ");
        print_rounds("client_busy", targets[i].client_busy, 3);
        printf("}");
    }
    printf("}\n");
}

int main(int argc, char **argv)
{
    if (!parse(argc, argv, set_option, add_target) || target_count == 0) {
        fprintf(stderr, "usage: iscsi-iops [--op OP] [--depth N] [--block BYTES] [--rounds N] "
                        "[--seconds S] NAME=PID@HOST:PORT/TARGET/LUN...\n");
        return 3;
    }
    data = calloc(1, options.block + 4);
    if (!data)
        return 1;
    memset(data, 0x5a, options.block);
    for (unsigned i = 0; i < target_count; i++) {
        connect_to(&targets[i]);
        log_in(&targets[i]);
        measure_disk(&targets[i]);
    }
    for (unsigned i = 0; i < options.depth; i++)
        idle[idle_count++] = i + 1;
    run_rounds();
    print();
    return 0; /* the sessions end with the process */
}
