/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * message.c: what a channel's owner sends.  A message takes its part of the window and its place in
 * the stream under peer.mutex and wire.out_mutex, for as long as a copy takes; it is encrypted and
 * written without them, by whoever flushes.
 */
#include "internal.h"

#include <errno.h>

/* 0 and the connection to send on, with the window taken. */
static int begin_send(struct peer_channel *ch, size_t length, uint32_t *number, struct wire **c)
{
    SCOPED_LOCK(&ch->peer->mutex);

    if (!ch->linked || ch->told != ch->linked)
        return -ENOTCONN;
    if (ch->credit < COST(length) || wire_is_full(ch->wire)) {
        ch->wants_writable = true;
        return -EAGAIN;
    }
    ch->credit -= COST(length);
    *number = ch->remote->number;
    *c = wire_get(ch->wire);
    return 0;
}

/* Queued on the connection that *wire is then a reference to. */
static int queue_message(struct peer_channel *ch, const struct frame_payload *message,
                         struct wire **wire)
{
    size_t length = (size_t)message->first_length + message->rest_length;
    uint32_t number;
    int r;

    for (;;) {
        r = begin_send(ch, length, &number, wire);
        if (r < 0)
            return r;
        r = wire_queue_payload(*wire, FRAME_MESSAGE, number, message);
        if (LIKELY(r == 0))
            break;
        wire_put(*wire);
        {
            SCOPED_LOCK(&ch->peer->mutex);
            ch->credit += COST(length);
            if (r == -ENOMEM || ch->wire == *wire) /* else the streams were switched: once more */
                return r;
        }
    }
    atomic_fetch_add_explicit(&ch->peer->messages_out, 1, memory_order_relaxed);
    return 0;
}

/* What this thread takes in leaves when all that has come was told, with what answers it. */
static void flush_in_time(struct wire *c, bool is_soon)
{
    if (wire_leaves_later(c, is_soon))
        return;
    if (is_soon)
        wire_flush_soon(c);
    else
        wire_flush(c);
}

static int send_message(struct peer_channel *ch, const void *data, size_t length, bool is_soon)
{
    struct frame_payload message = {.first = data, .first_length = (uint32_t)length};
    struct wire *c;
    int r;

    if (length > PEER_MESSAGE_MAX)
        return -EMSGSIZE;
    r = queue_message(ch, &message, &c);
    if (r < 0)
        return r;
    flush_in_time(c, is_soon);
    wire_put(c);
    return 0;
}

int peer_channel_send(struct peer_channel *ch, const void *data, size_t length)
{
    return send_message(ch, data, length, false);
}

int peer_channel_send_soon(struct peer_channel *ch, const void *data, size_t length)
{
    return send_message(ch, data, length, true);
}

int peer_channel_queue(struct peer_channel *ch, const void *head, size_t head_length,
                       const void *data, size_t length)
{
    struct frame_payload message = {head, data, (uint32_t)head_length, (uint32_t)length};
    struct wire *c;
    int r;

    if (head_length > PEER_MESSAGE_MAX || length > PEER_MESSAGE_MAX - head_length)
        return -EMSGSIZE;
    r = queue_message(ch, &message, &c);
    if (r == 0)
        wire_put(c);
    return r;
}

/* Queued on a connection that was switched since: it was flushed then. */
void peer_channel_flush(struct peer_channel *ch, bool is_soon)
{
    struct wire *c;
    uint32_t number;

    {
        SCOPED_LOCK(&ch->peer->mutex);
        c = ch->wire ? wire_get(ch->wire) : NULL;
        number = ch->number;
    }
    if (!c)
        return;
    flush_in_time(c, is_soon);
    if (!is_soon)
        lease_expect(ch->peer, number);
    wire_put(c);
}
