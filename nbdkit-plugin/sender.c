/* SPDX-License-Identifier: BSD-3-Clause */
/* sender.c: whose turn it is to send, and what is left to him; see sender.h. */
#include "sender.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* More is not taken on for a client that does not read. */
#define LEFT_MOST 65536u

struct left {
    struct list link;
    size_t bytes;
    char data[];
};

void sender_init(struct sender *s, int fd)
{
    s->fd = fd;
    pthread_mutex_init(&s->mutex, NULL);
    pthread_cond_init(&s->changed, NULL);
    list_init(&s->left);
}

void sender_end(struct sender *s)
{
    pthread_mutex_lock(&s->mutex);
    while (s->holders > 0)
        pthread_cond_wait(&s->changed, &s->mutex);
    pthread_mutex_unlock(&s->mutex);
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->mutex);
}

void sender_hold(struct sender *s)
{
    SCOPED_LOCK(&s->mutex);

    s->holders++;
}

void sender_release(struct sender *s)
{
    SCOPED_LOCK(&s->mutex);

    s->holders--;
    pthread_cond_broadcast(&s->changed);
}

/* --- sending ---------------------------------------------------------------------------------- */

static size_t bytes_of(const struct iovec *part, unsigned count)
{
    size_t bytes = 0;

    for (unsigned i = 0; i < count; i++)
        bytes += part[i].iov_len;
    return bytes;
}

/* Takes from the front what has been sent. */
static void skip(struct iovec *part, unsigned count, size_t bytes)
{
    for (unsigned i = 0; i < count; i++) {
        size_t taken = MIN(bytes, part[i].iov_len);

        part[i].iov_base = (char *)part[i].iov_base + taken;
        part[i].iov_len -= taken;
        bytes -= taken;
    }
}

bool sender_send(const struct sender *s, struct iovec *part, unsigned count, int flags)
{
    struct msghdr message = {.msg_iov = part, .msg_iovlen = count};
    size_t left = bytes_of(part, count);

    while (left > 0) {
        ssize_t sent = sendmsg(s->fd, &message, flags);

        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0)
            return false;
        skip(part, count, (size_t)sent);
        left -= (size_t)sent;
    }
    return true;
}

static void send_or_cut(const struct sender *s, struct iovec *part, unsigned count)
{
    if (!sender_send(s, part, count, MSG_NOSIGNAL))
        shutdown(s->fd, SHUT_RDWR);
}

/* --- what is left behind ---------------------------------------------------------------------- */

/* NULL: out of memory. */
static struct left *copy(const struct iovec *part, unsigned count)
{
    size_t bytes = bytes_of(part, count), at = 0;
    struct left *l = malloc(sizeof *l + bytes);

    if (!l)
        return NULL;
    l->bytes = bytes;
    for (unsigned i = 0; i < count; i++) {
        memcpy(l->data + at, part[i].iov_base, part[i].iov_len);
        at += part[i].iov_len;
    }
    return l;
}

/* The mutex is held. */
static void note_left(struct sender *s, size_t bytes)
{
    s->left_bytes = bytes;
    atomic_store_explicit(&s->is_behind, bytes > LEFT_MOST, memory_order_relaxed);
}

/* The mutex is held, and the turn is somebody's. */
static bool leave_behind(struct sender *s, const struct iovec *part, unsigned count)
{
    struct left *l = copy(part, count);

    if (!l)
        return false;
    list_append(&s->left, &l->link);
    note_left(s, s->left_bytes + l->bytes);
    return true;
}

/* After `sent` bytes of what was left.  NULL: that was all, and the turn is over. */
static struct left *next_or_end(struct sender *s, size_t sent)
{
    struct list *first;
    SCOPED_LOCK(&s->mutex);

    note_left(s, s->left_bytes - sent);
    first = s->left.next;
    if (first != &s->left) {
        list_remove(first);
        return LIST_ENTRY(first, struct left, link);
    }
    s->is_taken = false;
    pthread_cond_signal(&s->changed);
    return NULL;
}

void sender_end_turn(struct sender *s)
{
    struct left *l;
    size_t sent = 0;

    while (UNLIKELY((l = next_or_end(s, sent)) != NULL)) {
        sent = l->bytes;
        send_or_cut(s, &(struct iovec){l->data, sent}, 1);
        free(l);
    }
}

void sender_take_turn(struct sender *s)
{
    SCOPED_LOCK(&s->mutex);

    while (s->is_taken)
        pthread_cond_wait(&s->changed, &s->mutex);
    s->is_taken = true;
}

/* --- without waiting -------------------------------------------------------------------------- */

/* False: who has the turn sends the replies. */
static bool have_turn(struct sender *s, const struct iovec *part, unsigned count)
{
    SCOPED_LOCK(&s->mutex);

    while (s->is_taken) {
        if (leave_behind(s, part, count))
            return false;
        pthread_cond_wait(&s->changed, &s->mutex);
    }
    s->is_taken = true;
    return true;
}

/* False: the client does not read, and the parts hold what it has not got. */
static bool send_now(const struct sender *s, struct iovec *part, unsigned count, int patience_ms)
{
    while (!sender_send(s, part, count, MSG_NOSIGNAL | MSG_DONTWAIT)) {
        struct pollfd room = {.fd = s->fd, .events = POLLOUT};

        if (errno != EAGAIN && errno != EWOULDBLOCK) {
            shutdown(s->fd, SHUT_RDWR);
            return true;
        }
        if (poll(&room, 1, patience_ms) == 0)
            return false;
    }
    return true;
}

static void *end_turn_apart(void *arg)
{
    struct sender *s = arg;

    sender_end_turn(s);
    sender_release(s);
    return NULL;
}

/* Where nothing can be had for it, the turn ends here. */
static void end_turn_later(struct sender *s, struct iovec *part, unsigned count)
{
    bool is_left;

    pthread_mutex_lock(&s->mutex);
    is_left = leave_behind(s, part, count);
    s->holders++;
    pthread_mutex_unlock(&s->mutex);
    if (!is_left)
        send_or_cut(s, part, count);
    if (!is_left || thread_start(NULL, end_turn_apart, s) < 0)
        (void)end_turn_apart(s);
}

void sender_reply(struct sender *s, struct iovec *part, unsigned count, int patience_ms)
{
    if (!have_turn(s, part, count))
        return;
    if (LIKELY(send_now(s, part, count, patience_ms)))
        sender_end_turn(s);
    else
        end_turn_later(s, part, count);
}
