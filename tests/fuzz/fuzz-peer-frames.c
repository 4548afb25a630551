/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz-peer-frames: what another gateway, or whoever passes for one, sends inside TLS.
 *
 * The first byte of an input says where the frames come; the rest is read as a connection reads it,
 * in pieces.  No frame is taken that is longer than its type may be, nothing is read past the end,
 * what is taken for a greeting or an opening is the same when it is written down and read again,
 * and a frame that was read is never needed longer than was said.
 */
#include "../../gateway/peer/frame.h"
#include "peer/peer.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool is_true, const char *what)
{
    if (is_true)
        return;
    fprintf(stderr, "not true: %s\n", what);
    abort();
}

static void write_and_read(const struct frame *frame)
{
    uint8_t data[HELLO_BYTES_MAX], again[HELLO_BYTES_MAX];
    struct hello hello, other;
    struct err e = {0};
    struct frame f = *frame;

    if (hello_get(frame, &hello, &e) < 0) {
        must(e.code == EBADMSG && e.text[0], "what is refused has a reason");
        return;
    }
    must(hello.streams >= 1 && hello.streams <= PEER_STREAMS_MAX && hello.number <= hello.streams,
         "the numbers of a greeting are within bounds");
    f.length = (uint32_t)hello_put(data, &hello);
    f.data = data;
    must(hello_get(&f, &other, &e) == 0, "a greeting can be read again");
    must(hello_put(again, &other) == f.length && memcmp(data, again, f.length) == 0,
         "and is the same");
}

static void open_and_read(const struct frame *frame)
{
    uint8_t data[4 + PEER_KEY_MAX];
    struct opening opening, other;
    struct err e = {0};
    struct frame f = *frame;

    if (opening_get(frame, &opening, &e) < 0)
        return;
    must(opening.window_bytes >= PEER_WINDOW_MIN && opening.window_bytes <= PEER_WINDOW_MAX,
         "a window is within bounds");
    f.length = (uint32_t)opening_put(data, &opening);
    f.data = data;
    must(opening_get(&f, &other, &e) == 0 && strcmp(opening.key, other.key) == 0,
         "an opening is the same when it is read again");
}

static void look_into(const struct frame *frame)
{
    char text[PEER_TEXT_MAX];

    if (frame->type == FRAME_HELLO || frame->type == FRAME_WELCOME)
        write_and_read(frame);
    else if (frame->type == FRAME_OPEN)
        open_and_read(frame);
    frame_text(frame, text, sizeof text);
    must(strlen(text) < sizeof text && !strchr(text, '\n'), "a text is one line");
}

/* The same bytes with a sum that is right, so that payloads are reached. */
static void mend_sum(uint8_t *data, size_t size)
{
    if (size >= FRAME_HEAD_BYTES && get32(data) <= size - FRAME_HEAD_BYTES)
        frame_put_head(data, data[4], get32(data + 8), data + FRAME_HEAD_BYTES, get32(data));
}

static void read_all(const uint8_t *data, size_t size, enum frame_place place)
{
    struct frame frame;
    struct err e = {0};
    size_t bytes = 0, at = 0;
    int r = 1;

    while (r == 1) {
        r = frame_read(data + at, size - at, place, &frame, &bytes, &e);
        must(bytes >= FRAME_HEAD_BYTES, "a frame has a head");
        must(bytes <= FRAME_HEAD_BYTES + PEER_MESSAGE_MAX, "no frame is longer than a message");
        must(r != 1 || bytes <= size - at, "a frame is read from what is there");
        must(r != 0 || bytes > size - at, "what is asked for is more than what is there");
        must(r >= 0 || (r == -EBADMSG && e.text[0]), "what is refused has a reason");
        if (r == 1)
            look_into(&frame);
        at += r == 1 ? bytes : 0;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const enum frame_place places[] = {AT_GREETING, ON_CONTROL, ON_STREAM};
    enum frame_place place = size ? places[data[0] % ARRAY_SIZE(places)] : AT_GREETING;
    uint8_t *copy = size > 1 ? malloc(size - 1) : NULL; /* its end is where a sanitizer sees it */

    if (!copy)
        return 0;
    memcpy(copy, data + 1, size - 1);
    read_all(copy, size - 1, place);
    mend_sum(copy, size - 1);
    read_all(copy, size - 1, place);
    free(copy);
    return 0;
}
