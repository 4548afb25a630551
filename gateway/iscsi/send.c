/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * send.c: PDUs out.  What a turn of the loop queues leaves in one writev at the start of the next:
 * headers, data where it lies, padding and digests.
 */
#include "internal.h"

#include <errno.h>
#include <sys/uio.h>

#define VECTORS 384

/* --- queueing ------------------------------------------------------------------------------------
 */

static void on_flush(struct task *task)
{
    struct conn *c = CONTAINER_OF(task, struct conn, flush_task);

    c->is_flush_posted = false;
    if (!c->is_ending)
        conn_flush(c);
}

void conn_flush_later(struct conn *c)
{
    if (c->is_flush_posted || c->is_waiting_to_write)
        return;
    c->is_flush_posted = true;
    c->flush_task.run = on_flush;
    home_run_later(c->shard->home, &c->flush_task);
}

static void append(struct conn *c, struct out *out)
{
    out->next = NULL;
    *c->out_last = out;
    c->out_last = &out->next;
    c->out_bytes += out->head_bytes + out->data_bytes + out->tail_bytes;
    conn_flush_later(c);
}

static void add_digests(const struct conn *c, struct out *out)
{
    unsigned pad = pdu_pad_bytes(out->data_bytes);

    out->head_bytes = BHS_BYTES;
    out->tail_bytes = (uint8_t)pad;
    memset(out->tail, 0, pad);
    if (c->parameters.header_digest) {
        digest_store(out->head + BHS_BYTES, crc32c(0, out->head, BHS_BYTES));
        out->head_bytes += DIGEST_BYTES;
    }
    if (c->parameters.data_digest && out->data_bytes) {
        uint32_t crc = crc32c(crc32c(0, out->data, out->data_bytes), out->tail, pad);

        digest_store(out->tail + pad, crc);
        out->tail_bytes += DIGEST_BYTES;
    }
}

void conn_send(struct conn *c, struct out *out, bool has_status)
{
    put24(out->head + 5, out->data_bytes);
    if (out->head[0] != PDU_DATA_IN || has_status)
        put32(out->head + 24, c->status_sn);
    c->status_sn += has_status;
    put32(out->head + 28, c->expected_command_sn);
    put32(out->head + 32, conn_max_command_sn(c));
    add_digests(c, out);
    append(c, out);
}

bool conn_send_copy(struct conn *c, const uint8_t bhs[BHS_BYTES], const void *data, size_t bytes,
                    bool has_status)
{
    struct out *out = out_take(c->shard);

    if (out && bytes)
        out->owned = malloc(bytes);
    if (!out || (bytes && !out->owned)) {
        if (out)
            out_give(c->shard, out);
        conn_end(c, "out of memory");
        return false;
    }
    if (bytes)
        memcpy(out->owned, data, bytes);
    out->data = out->owned;
    out->data_bytes = (uint32_t)bytes;
    memcpy(out->head, bhs, BHS_BYTES);
    conn_send(c, out, has_status);
    return true;
}

/* With the header that is rejected as its data (RFC 7143 11.17). */
void conn_reject(struct conn *c, enum reject_reason reason)
{
    uint8_t bhs[BHS_BYTES] = {PDU_REJECT, PDU_FINAL, (uint8_t)reason};

    put32(bhs + 16, NO_TAG);
    conn_send_copy(c, bhs, c->head, BHS_BYTES, true);
}

/* --- sending
 * ---------------------------------------------------------------------------------------- */

static void release(struct conn *c, struct out *out)
{
    struct iscsi_task *task = out->task;

    free(out->owned);
    if (!out->is_embedded)
        out_give(c->shard, out);
    if (task)
        task_sent(task); /* may free an embedded one */
}

static struct out *pop(struct conn *c)
{
    struct out *out = c->out_first;

    c->out_first = out->next;
    if (!c->out_first)
        c->out_last = &c->out_first;
    c->out_bytes -= out->head_bytes + out->data_bytes + out->tail_bytes;
    return out;
}

void conn_drop_outs(struct conn *c)
{
    while (c->out_first)
        release(c, pop(c));
    c->out_skip = 0;
}

static int add_vector(struct iovec *iov, const void *data, size_t bytes, size_t *skip)
{
    size_t skipped = MIN(*skip, bytes);

    *skip -= skipped;
    if (skipped == bytes)
        return 0;
    iov->iov_base = (char *)(uintptr_t)data + skipped;
    iov->iov_len = bytes - skipped;
    return 1;
}

static int fill_vectors(const struct conn *c, struct iovec *iov)
{
    size_t skip = c->out_skip;
    int n = 0;

    for (const struct out *out = c->out_first; out && n + 3 <= VECTORS; out = out->next) {
        n += add_vector(iov + n, out->head, out->head_bytes, &skip);
        n += add_vector(iov + n, out->data, out->data_bytes, &skip);
        n += add_vector(iov + n, out->tail, out->tail_bytes, &skip);
    }
    return n;
}

static void account_sent(struct conn *c, size_t n)
{
    n += c->out_skip;
    while (c->out_first) {
        const struct out *out = c->out_first;
        size_t bytes = out->head_bytes + out->data_bytes + out->tail_bytes;

        if (n < bytes)
            break;
        n -= bytes;
        release(c, pop(c));
    }
    c->out_skip = n;
}

static bool send_some(struct conn *c)
{
    struct iovec iov[VECTORS];
    struct msghdr message = {.msg_iov = iov};
    ssize_t n;

    message.msg_iovlen = (size_t)fill_vectors(c, iov);
    n = sendmsg(c->watch.fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n >= 0) {
        account_sent(c, (size_t)n);
        return true;
    }
    if (errno == EINTR)
        return true;
    if (errno == EAGAIN)
        c->is_waiting_to_write = true;
    else
        conn_end(c, "the connection broke: %s", strerror(errno));
    return false;
}

void conn_flush(struct conn *c)
{
    c->is_waiting_to_write = false;
    while (c->out_first && send_some(c))
        ;
    if (!c->out_first && c->is_ending_after_flush)
        conn_end(c, "%s", "");
    if (!c->is_ending)
        tasks_go_on(c);
    conn_update_watch(c);
}
