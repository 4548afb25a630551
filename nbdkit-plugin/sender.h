/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sender.h: whole replies leave a connection, one after the other, whoever sends them.  A thread of
 * nbdkit waits for its turn and for the client.  Who answers amid reading must not: a client may
 * well send all that its window holds before it reads an answer, and would wait for ever for a
 * server that waits for it.  So that thread leaves behind what it cannot send: to whoever has the
 * turn, else to a thread that ends once all has left.
 *
 * Any thread.  Where a reply cannot be sent the connection is shut down.
 */
#ifndef SLUICE_NBDKIT_SENDER_H
#define SLUICE_NBDKIT_SENDER_H

#include "base/base.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>
#include <sys/uio.h>

struct sender {
    int fd;
    pthread_mutex_t mutex; /* what follows */
    pthread_cond_t changed;
    bool is_taken;    /* somebody has the turn */
    unsigned holders; /* who will send still, threads of its own among them */
    struct list left; /* behind, for who has the turn */
    size_t left_bytes;
    _Atomic bool is_behind;
};

void sender_init(struct sender *s, int fd);
/* After nbdkit's last turn; waits for what was left behind and for the holders. */
void sender_end(struct sender *s);
/* It does not end between the two. */
void sender_hold(struct sender *s);
void sender_release(struct sender *s);

/* From the first piece of a reply to the last; waits for the turns of others. */
void sender_take_turn(struct sender *s);
void sender_end_turn(struct sender *s);
/* In turn, all of it, waiting for the client; `flags` of sendmsg(2).  False with errno: not sent,
 * or not wholly.  The parts are consumed. */
bool sender_send(const struct sender *s, struct iovec *part, unsigned count, int flags);

/* Whole replies, as a turn of their own, without waiting for anybody, but for a client that makes
 * room within `patience_ms`.  The parts are consumed, and what they point to is free again. */
void sender_reply(struct sender *s, struct iovec *part, unsigned count, int patience_ms);

/* Much was left behind and has not gone: whoever answers more now adds to it. */
static inline bool sender_is_behind(const struct sender *s)
{
    return atomic_load_explicit(&s->is_behind, memory_order_relaxed);
}

#endif
