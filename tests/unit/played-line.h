/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * played-line.h: the line to a server that is only played, for the remote backings.  It lives in
 * the service loop like a real transport and keeps what was received; when it comes up, and how and
 * when what it keeps is answered, is the test's to say, by the two timers.
 */
#ifndef SLUICE_PLAYED_LINE_H
#define SLUICE_PLAYED_LINE_H

#include "backing/backing-remote.h"

struct played_line {
    struct remote remote; /* first */
    struct list pending;  /* received and not answered */
    struct timer answer, up;
    bool is_connected;
    uint32_t random;
};

struct played_op {
    struct list link;
    struct remote_op *op;
};

static inline struct played_line *line_of(struct remote *r)
{
    return CONTAINER_OF(r, struct played_line, remote);
}

static inline uint32_t line_random(struct played_line *l)
{
    l->random ^= l->random << 13;
    l->random ^= l->random >> 17;
    l->random ^= l->random << 5;
    return l->random;
}

static inline void line_arm(struct played_line *l)
{
    if (!l->answer.due_ns && !list_is_empty(&l->pending))
        loop_timer_set(l->remote.loop, &l->answer, clock_now_ns() + line_random(l) % 100000);
}

static inline void line_forget(struct played_line *l)
{
    list_init(&l->pending);
    l->is_connected = false;
}

static inline void line_disconnect(struct remote *r, bool is_graceful)
{
    struct played_line *l = line_of(r);

    (void)is_graceful;
    loop_timer_cancel(r->loop, &l->up);
    loop_timer_cancel(r->loop, &l->answer);
    line_forget(l);
}

static inline void line_send(struct remote *r, struct remote_op *op)
{
    struct played_line *l = line_of(r);
    struct played_op *x = (struct played_op *)(void *)op->extra;

    if (!l->is_connected)
        return;
    x->op = op;
    list_append(&l->pending, &x->link);
    line_arm(l);
}

/* A server that knows everything, in small pieces. */
static inline struct remote_facts line_facts(uint64_t size_bytes)
{
    return (struct remote_facts){
        .size_bytes = size_bytes,
        .block_bytes = 512,
        .preferred_bytes = 4096,
        .max_transfer_bytes = 8192,
        .max_zero_bytes = 16384,
        .max_trim_bytes = 16384,
        .max_extents_bytes = 65536,
        .can_flush = true,
        .can_fua = true,
        .can_fua_zero = true,
        .can_trim = true,
        .can_zero = true,
        .can_extents = true,
    };
}

static inline void line_init(struct played_line *l, const struct transport *transport,
                             uint32_t seed)
{
    l->random = seed * 2654435761u + 1;
    list_init(&l->pending);
    l->remote.transport = transport;
    l->remote.name = strdup("play");
}

#endif
