/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * receive.c: from a stream to PDUs.  One system call takes as many PDUs as have come: what is left
 * of a data segment goes straight to its destination, the rest into the shard's buffer, from which
 * headers and small segments are copied.
 */
#include "internal.h"

#include <errno.h>
#include <sys/uio.h>

#define LONG_DATA_BYTES (32u << 10)
#define AHEAD_OF_LONG_DATA_BYTES 4096u

/* --- one PDU after the other
 * ----------------------------------------------------------------------- */

static void next_pdu(struct conn *c)
{
    c->receiving = RECEIVE_HEAD;
    c->head_bytes = 0;
    c->head_wanted = BHS_BYTES;
}

static void finish_pdu(struct conn *c)
{
    if (c->parameters.data_digest && c->tail_wanted >= DIGEST_BYTES &&
        !digest_matches(c->tail + c->tail_wanted - DIGEST_BYTES, c->data_crc)) {
        conn_end(c, "the data digest of a %s PDU is wrong", pdu_opcode_name(pdu_opcode(c->head)));
        return;
    }
    pdu_end(c);
    next_pdu(c);
}

static void begin_tail(struct conn *c)
{
    c->receiving = RECEIVE_TAIL;
    c->tail_bytes = 0;
    if (c->tail_wanted == 0)
        finish_pdu(c);
}

static bool is_head_good(struct conn *c)
{
    uint32_t most = c->state == CONN_IN_LOGIN ? LOGIN_DATA_BYTES : OUR_RECEIVE_BYTES;
    unsigned bytes = BHS_BYTES + pdu_ahs_bytes(c->head);

    if (c->parameters.header_digest && !digest_matches(c->head + bytes, crc32c(0, c->head, bytes)))
        conn_end(c, "a header digest is wrong");
    else if (pdu_data_bytes(c->head) > most)
        conn_end(c, "a data segment of %u bytes, where %u are allowed", pdu_data_bytes(c->head),
                 most);
    else
        return true;
    return false;
}

static void finish_head(struct conn *c)
{
    uint32_t bytes = pdu_data_bytes(c->head);

    if (!is_head_good(c))
        return;
    c->is_data_long = bytes >= LONG_DATA_BYTES;
    c->data_left = bytes;
    c->data = NULL;
    c->room_left = 0;
    c->data_crc = 0;
    c->tail_wanted = pdu_pad_bytes(bytes) + (bytes && c->parameters.data_digest ? DIGEST_BYTES : 0);
    c->receiving = RECEIVE_DATA;
    pdu_begin(c);
    if (!c->is_ending && bytes == 0)
        finish_pdu(c);
}

/* --- pieces of it
 * -------------------------------------------------------------------------------------- */

static size_t take_head(struct conn *c, const uint8_t *p, size_t n)
{
    size_t taken = MIN(n, c->head_wanted - c->head_bytes);

    memcpy(c->head + c->head_bytes, p, taken);
    c->head_bytes += (unsigned)taken;
    if (c->head_bytes == BHS_BYTES)
        c->head_wanted =
            BHS_BYTES + pdu_ahs_bytes(c->head) + (c->parameters.header_digest ? DIGEST_BYTES : 0);
    if (c->head_bytes >= BHS_BYTES && c->head_bytes == c->head_wanted)
        finish_head(c);
    return taken;
}

/* p: where the bytes are; they are copied unless that is their place already. */
static void account_data(struct conn *c, const uint8_t *p, size_t n)
{
    size_t kept = MIN(n, c->room_left);

    if (c->parameters.data_digest)
        c->data_crc = crc32c(c->data_crc, p, n);
    if (kept && p != c->data)
        memcpy(c->data, p, kept);
    if (kept)
        c->data += kept;
    c->room_left -= (uint32_t)kept;
    c->data_left -= (uint32_t)n;
    if (c->data_left == 0)
        begin_tail(c);
}

static size_t take_data(struct conn *c, const uint8_t *p, size_t n)
{
    size_t taken = MIN(n, c->data_left);

    account_data(c, p, taken);
    return taken;
}

/* Padding counts for the digest, whatever is in it. */
static size_t take_tail(struct conn *c, const uint8_t *p, size_t n)
{
    size_t taken = MIN(n, c->tail_wanted - c->tail_bytes);

    memcpy(c->tail + c->tail_bytes, p, taken);
    c->tail_bytes += (unsigned)taken;
    if (c->tail_bytes < c->tail_wanted)
        return taken;
    if (c->parameters.data_digest)
        c->data_crc = crc32c(c->data_crc, c->tail, c->tail_wanted - DIGEST_BYTES);
    finish_pdu(c);
    return taken;
}

static void parse(struct conn *c, const uint8_t *p, size_t n)
{
    static size_t (*const take[])(struct conn * c, const uint8_t *p, size_t n) = {
        [RECEIVE_HEAD] = take_head, [RECEIVE_DATA] = take_data, [RECEIVE_TAIL] = take_tail};

    while (n && !c->is_ending) {
        size_t taken;

        if (UNLIKELY(c->is_paused && c->state == CONN_IN_LOGIN)) {
            conn_end(c, "the initiator did not wait for the answer to its login");
            return;
        }
        if (UNLIKELY(c->state == CONN_IN_LOGOUT))
            return; /* nothing may follow a logout */
        taken = take[c->receiving](c, p, n);
        p += taken;
        n -= taken;
    }
}

/* --- the socket
 * ------------------------------------------------------------------------------------------ */

static void end_by_peer(struct conn *c, int error)
{
    if (error)
        conn_end(c, "the connection broke: %s", strerror(error));
    else
        conn_end(c, "the initiator closed the connection");
}

/* After a long data segment another is likely, and what of it comes into the shard's buffer would
 * have to be copied: so little more than its header is asked for.  Not amid data that is dropped.
 */
static size_t bytes_ahead(const struct conn *c)
{
    bool is_dropped = c->receiving == RECEIVE_DATA && !c->room_left;

    return c->is_data_long && !is_dropped ? AHEAD_OF_LONG_DATA_BYTES : RECEIVE_BYTES;
}

void conn_receive(struct conn *c)
{
    bool is_direct = c->receiving == RECEIVE_DATA && c->room_left;
    size_t direct = is_direct ? c->room_left : 0;
    struct iovec iov[2] = {{c->data, direct}, {c->shard->buffer, bytes_ahead(c)}};
    ssize_t n = readv(c->watch.fd, is_direct ? iov : iov + 1, is_direct ? 2 : 1);

    if (n <= 0) {
        if (n == 0 || (errno != EAGAIN && errno != EINTR))
            end_by_peer(c, n < 0 ? errno : 0);
        return;
    }
    c->heard_ns = c->shard->now_ns;
    direct = MIN(direct, (size_t)n);
    if (direct)
        account_data(c, c->data, direct);
    if ((size_t)n > direct)
        parse(c, c->shard->buffer, (size_t)n - direct);
}
