/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * frame.h: what stands on a connection inside TLS, as bytes; pure.  A frame is a head of 16 bytes
 * and a payload; every length is checked against its type and the place it came at before anything
 * is kept of it.  docs/peer.md is the long form.
 */
#ifndef SLUICE_PEER_FRAME_H
#define SLUICE_PEER_FRAME_H

#include "base/base.h"

#define FRAME_HEAD_BYTES 16u
#define FRAME_VERSION 1u
#define PEER_NAME_MAX 64u /* with its end */
#define PEER_KEY_MAX 160u
#define PEER_TEXT_MAX 400u

enum frame_type {
    FRAME_HELLO = 1, /* who I am, whom I want, which connection this is */
    FRAME_WELCOME,   /* the same of the other side: this connection stands */
    FRAME_REFUSE,    /* channel: enum refusal; the sentence */
    FRAME_PING,      /* 8 bytes, to be sent back */
    FRAME_PONG,
    FRAME_BYE,     /* the sentence; nothing comes after */
    FRAME_ASK,     /* channel: number of the question; its text */
    FRAME_ANSWER,  /* channel: the same number */
    FRAME_OPEN,    /* channel: the sender's number; window and key */
    FRAME_CLOSE,   /* channel: the sender's number */
    FRAME_MESSAGE, /* channel: the receiver's number */
    FRAME_WINDOW,  /* channel: the receiver's number; 4 bytes that may be sent again */
    FRAME_SWITCH,  /* what comes next of this connection comes on its successor */
    FRAME_TYPES
};

/* Where a frame may come: before the greeting is over, on the control connection, on a stream. */
enum frame_place { AT_GREETING = 1, ON_CONTROL = 2, ON_STREAM = 4 };

struct frame {
    uint8_t type; /* enum frame_type */
    uint32_t channel, length;
    const uint8_t *data;
};

/* Of one piece, or of two, one behind the other. */
struct frame_payload {
    const void *first, *rest;
    uint32_t first_length, rest_length;
};
/* Writes the head of a frame with this payload. */
void frame_put_head_of(uint8_t head[FRAME_HEAD_BYTES], enum frame_type type, uint32_t channel,
                       const struct frame_payload *payload);
void frame_put_head(uint8_t head[FRAME_HEAD_BYTES], enum frame_type type, uint32_t channel,
                    const void *data, uint32_t length);
/* Reads one frame at the beginning of data[0..length).  1: *out, whose data points into `data`, and
 * *bytes that it takes; 0: *bytes are needed to go on; -EBADMSG with a sentence: the connection is
 * of no further use. */
int frame_read(const uint8_t *data, size_t length, enum frame_place place, struct frame *out,
               size_t *bytes, struct err *e) MUST_CHECK;

enum refusal { REFUSED_BUSY = 1, REFUSED_VERSION, REFUSED_IDENTITY, REFUSED_STOPPING };

struct hello {
    uint16_t oldest, newest; /* versions of the wire format */
    uint8_t number, streams; /* this connection's in its set, 0 is control; streams of the set */
    bool is_renewal;         /* of a set that is up */
    uint32_t window_bytes;
    uint8_t boot[16], set[16];
    char from[PEER_NAME_MAX], to[PEER_NAME_MAX];
};
#define HELLO_BYTES_MAX 256u
size_t hello_put(uint8_t out[HELLO_BYTES_MAX], const struct hello *hello);
int hello_get(const struct frame *frame, struct hello *out, struct err *e) MUST_CHECK;

struct opening {
    uint32_t window_bytes;
    char key[PEER_KEY_MAX];
};
size_t opening_put(uint8_t out[4 + PEER_KEY_MAX], const struct opening *opening);
int opening_get(const struct frame *frame, struct opening *out, struct err *e) MUST_CHECK;
/* A text from outside, on one line. */
void frame_text(const struct frame *frame, char *out, size_t size);

#endif
