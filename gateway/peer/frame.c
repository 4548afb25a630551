/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * frame.c: frames to bytes and back.  All numbers are big-endian.
 *
 *     0        4      5      6          8         12        16
 *     length   type   0      version 1  channel   crc32c    payload
 *
 * crc32c covers the first 12 bytes and the payload: TLS keeps others from changing a byte, this
 * finds what a broken memory or program changes before it got there or after it came out.
 */
#include "frame.h"
#include "peer/peer.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define OF_HELLO 68u /* without the names */

static const struct {
    const char *name;
    unsigned places;
    uint32_t least, most;
} types[FRAME_TYPES] = {
    [FRAME_HELLO] = {"HELLO", AT_GREETING, OF_HELLO, HELLO_BYTES_MAX},
    [FRAME_WELCOME] = {"WELCOME", AT_GREETING, OF_HELLO, HELLO_BYTES_MAX},
    [FRAME_REFUSE] = {"REFUSE", AT_GREETING, 1, PEER_TEXT_MAX},
    [FRAME_PING] = {"PING", ON_CONTROL, 8, 8},
    [FRAME_PONG] = {"PONG", ON_CONTROL, 8, 8},
    [FRAME_BYE] = {"BYE", ON_CONTROL, 1, PEER_TEXT_MAX},
    [FRAME_ASK] = {"ASK", ON_CONTROL, 1, PEER_QUESTION_MAX},
    [FRAME_ANSWER] = {"ANSWER", ON_CONTROL, 0, PEER_ANSWER_MAX},
    [FRAME_OPEN] = {"OPEN", ON_STREAM, 5, 4 + PEER_KEY_MAX - 1},
    [FRAME_CLOSE] = {"CLOSE", ON_STREAM, 0, 0},
    [FRAME_MESSAGE] = {"MESSAGE", ON_STREAM, 0, PEER_MESSAGE_MAX},
    [FRAME_WINDOW] = {"WINDOW", ON_STREAM, 4, 4},
    [FRAME_SWITCH] = {"SWITCH", ON_CONTROL | ON_STREAM, 0, 0},
};

/* --- heads ---------------------------------------------------------------------------------- */

static uint32_t sum(const uint8_t head[FRAME_HEAD_BYTES], const void *data, uint32_t length)
{
    return crc32c(crc32c(0, head, 12), data, length);
}

void frame_put_head_of(uint8_t head[FRAME_HEAD_BYTES], enum frame_type type, uint32_t channel,
                       const struct frame_payload *payload)
{
    uint32_t crc;

    put32(head, payload->first_length + payload->rest_length);
    head[4] = (uint8_t)type;
    head[5] = 0;
    put16(head + 6, FRAME_VERSION);
    put32(head + 8, channel);
    crc = sum(head, payload->first, payload->first_length);
    put32(head + 12, crc32c(crc, payload->rest, payload->rest_length));
}

void frame_put_head(uint8_t head[FRAME_HEAD_BYTES], enum frame_type type, uint32_t channel,
                    const void *data, uint32_t length)
{
    const struct frame_payload payload = {.first = data, .first_length = length};

    frame_put_head_of(head, type, channel, &payload);
}

static int check_head(const uint8_t *head, enum frame_place place, struct err *e)
{
    uint8_t type = head[4];
    uint32_t length = get32(head);

    if (get16(head + 6) != FRAME_VERSION || head[5] != 0)
        return err_set(e, EBADMSG, "what came is no frame");
    if (type == 0 || type >= FRAME_TYPES)
        return err_set(e, EBADMSG, "a frame of the unknown type %u", type);
    if (!(types[type].places & place))
        return err_set(e, EBADMSG, "a frame %s that does not belong here", types[type].name);
    if (length < types[type].least || length > types[type].most)
        return err_set(e, EBADMSG, "a frame %s of %u bytes (%u to %u are allowed)",
                       types[type].name, length, types[type].least, types[type].most);
    return 0;
}

int frame_read(const uint8_t *data, size_t length, enum frame_place place, struct frame *out,
               size_t *bytes, struct err *e)
{
    *bytes = FRAME_HEAD_BYTES;
    if (length < FRAME_HEAD_BYTES)
        return 0;
    if (check_head(data, place, e) < 0)
        return -EBADMSG;
    *out = (struct frame){.type = data[4],
                          .channel = get32(data + 8),
                          .length = get32(data),
                          .data = data + FRAME_HEAD_BYTES};
    *bytes += out->length;
    if (length < *bytes)
        return 0;
    if (sum(data, out->data, out->length) != get32(data + 12))
        return err_set(e, EBADMSG, "a frame %s with a wrong checksum", types[out->type].name);
    return 1;
}

/* --- payloads ------------------------------------------------------------------------------- */

/* Names and keys: printable, no blanks, so that they can stand in a line of the log. */
static int take_text(const uint8_t *data, size_t length, char *out, size_t size, struct err *e)
{
    if (length == 0 || length >= size)
        return err_set(e, EBADMSG, "a name of %zu bytes", length);
    for (size_t i = 0; i < length; i++)
        if (data[i] <= ' ' || data[i] > '~')
            return err_set(e, EBADMSG, "a name with the byte 0x%02x", data[i]);
    memcpy(out, data, length);
    out[length] = '\0';
    return 0;
}

size_t hello_put(uint8_t out[HELLO_BYTES_MAX], const struct hello *h)
{
    size_t from = strlen(h->from), to = strlen(h->to);

    memset(out, 0, OF_HELLO);
    memcpy(out, "SluicePeer", 10);
    put16(out + 10, h->oldest);
    put16(out + 12, h->newest);
    out[14] = h->number;
    out[15] = h->streams;
    out[16] = h->is_renewal;
    put32(out + 20, h->window_bytes);
    memcpy(out + 24, h->boot, sizeof h->boot);
    memcpy(out + 40, h->set, sizeof h->set);
    out[56] = (uint8_t)from;
    out[57] = (uint8_t)to;
    memcpy(out + OF_HELLO, h->from, from);
    memcpy(out + OF_HELLO + from, h->to, to);
    return OF_HELLO + from + to;
}

static int check_hello(const struct hello *h, struct err *e)
{
    if (h->streams == 0 || h->streams > PEER_STREAMS_MAX || h->number > h->streams)
        return err_set(e, EBADMSG, "a greeting for connection %u of %u", h->number, h->streams);
    return 0;
}

int hello_get(const struct frame *frame, struct hello *out, struct err *e)
{
    const uint8_t *p = frame->data;
    size_t from, to;

    if (frame->length < OF_HELLO || memcmp(p, "SluicePeer", 10) != 0)
        return err_set(e, EBADMSG, "a greeting of something else than a gateway");
    from = p[56];
    to = p[57];
    if (frame->length != OF_HELLO + from + to)
        return err_set(e, EBADMSG, "a greeting of %u bytes with names of %zu", frame->length,
                       from + to);
    memset(out, 0, sizeof *out);
    out->oldest = (uint16_t)get16(p + 10);
    out->newest = (uint16_t)get16(p + 12);
    out->number = p[14];
    out->streams = p[15];
    out->is_renewal = p[16] & 1;
    out->window_bytes = get32(p + 20);
    memcpy(out->boot, p + 24, sizeof out->boot);
    memcpy(out->set, p + 40, sizeof out->set);
    if (take_text(p + OF_HELLO, from, out->from, sizeof out->from, e) < 0 ||
        take_text(p + OF_HELLO + from, to, out->to, sizeof out->to, e) < 0)
        return -EBADMSG;
    return check_hello(out, e);
}

size_t opening_put(uint8_t out[4 + PEER_KEY_MAX], const struct opening *o)
{
    size_t length = strlen(o->key);

    put32(out, o->window_bytes);
    memcpy(out + 4, o->key, length);
    return 4 + length;
}

int opening_get(const struct frame *frame, struct opening *out, struct err *e)
{
    if (frame->length < 4)
        return err_set(e, EBADMSG, "an opening of %u bytes", frame->length);
    out->window_bytes = get32(frame->data);
    if (out->window_bytes < PEER_WINDOW_MIN || out->window_bytes > PEER_WINDOW_MAX)
        return err_set(e, EBADMSG, "an opening with a window of %u bytes", out->window_bytes);
    return take_text(frame->data + 4, frame->length - 4, out->key, sizeof out->key, e);
}

void frame_text(const struct frame *frame, char *out, size_t size)
{
    snprintf(out, size, "%.*s", (int)MIN(frame->length, size - 1), (const char *)frame->data);
    text_one_line(out);
}
