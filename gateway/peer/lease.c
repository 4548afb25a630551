/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lease.c: who waits for an answer receives it, without being woken by the loop.
 *
 * A thread that has sent something on a channel and then waits for its request (lease_expect, the
 * home's help) may take the role of the receiver from the stream's loop: it sleeps on the socket
 * itself, and tells what has come as the loop would.  Only messages and windows of its own channel:
 * with anything else it gives the role to the loop and leaves what has come where it is, so every
 * other channel is told in its loop alone, and so is all that changes the connection.
 *
 *     BY_LOOP    the loop watches the socket, or is about to: a task is on the way to it
 *     BY_NOBODY  lent: the next who waits takes it; the loop does not watch for what comes
 *     BY_WAITER  one thread receives
 *
 *     BY_LOOP -> BY_NOBODY     the loop, when some threads in a row have waited alone
 *     BY_NOBODY -> BY_WAITER   who begins to wait
 *     BY_WAITER -> BY_NOBODY   when it has taken all that has come; it keeps the role over nothing
 *                              else, as whatever runs in its home may take long
 *     BY_NOBODY -> BY_LOOP     the loop's timer, after a millisecond of little use; who finds that
 *                              others wait as well, since they sleep and look at no socket
 *     BY_WAITER -> BY_LOOP     who has received what is the loop's
 *
 * Between two waits nobody receives, a millisecond at most: that spares the loop two changes of
 * what it watches for each write.
 */
#include "internal.h"

#include <errno.h>
#include <poll.h>

#define TERM_NS 1000000ull
/* Waits in a term, for which its timer wakes the loop: fewer cost more than they save. */
#define USES_FEWEST 4u
/* Of waits in a row.  Each lease that was in vain, or disturbed in its first term, doubles what it
 * takes, up to the setting lease_waits_most. */
#define NEEDED_FEWEST 4u

enum receiver { BY_LOOP, BY_NOBODY, BY_WAITER };

static bool pass(struct wire *c, enum receiver from, enum receiver to)
{
    int was = (int)from;

    return atomic_compare_exchange_strong(&c->lease.receiver, &was, (int)to);
}

/* --- the loop ------------------------------------------------------------------------------- */

void lease_forget(struct wire *c)
{
    if (!c->lease.has_timer)
        return;
    c->lease.has_timer = false;
    loop_timer_cancel(c->loop, &c->lease.timer);
    wire_put(c);
}

/* Of what the loop has got back. */
static void watch_again(struct wire *c)
{
    struct lease *l = &c->lease;
    unsigned needed = MAX(l->needed, NEEDED_FEWEST);
    unsigned most = c->peers->settings.lease_waits_most;

    lease_forget(c);
    l->is_lent = false;
    l->needed = l->is_of_use ? MAX(needed / 2, NEEDED_FEWEST) : MIN(2 * needed, most);
    atomic_store(&l->alone, 0);
    if (wire_watch(c) < 0)
        wire_fail(c, -EIO, "the connection cannot be watched");
}

static void set_timer(struct wire *c)
{
    c->lease.has_timer = true;
    loop_timer_set(c->loop, &c->lease.timer, clock_now_ns() + TERM_NS);
}

static void on_term(struct timer *timer)
{
    struct wire *c = CONTAINER_OF(timer, struct wire, lease.timer);
    struct lease *l = &c->lease;
    bool was_of_use = atomic_exchange(&l->uses, 0) >= USES_FEWEST;

    l->has_timer = false;
    l->is_of_use |= was_of_use;
    if (was_of_use || atomic_load(&l->receiver) == BY_WAITER) {
        set_timer(c);
        return;
    }
    if (pass(c, BY_NOBODY, BY_LOOP))
        watch_again(c);
    wire_put(c);
}

/* Who sleeps without the role does not look at the socket.  The last who waited has mostly been
 * woken by what was just read, and is not gone yet. */
static bool is_waited_for(struct lease *l)
{
    unsigned waiters = atomic_load(&l->waiters);
    struct home *sleeper = atomic_load(&l->sleeper);

    return waiters > 1 || (waiters == 1 && sleeper && home_is_asleep(sleeper));
}

void lease_offer(struct wire *c)
{
    struct lease *l = &c->lease;

    if (c->number == 0 || c->state != WIRE_OPEN || l->is_lent ||
        atomic_load(&l->alone) < MAX(l->needed, NEEDED_FEWEST) || is_waited_for(l) ||
        atomic_load(&c->has_failed))
        return;
    if (!l->bell)
        l->bell = bell_take();
    if (!l->bell)
        return;
    l->is_lent = true;
    l->is_of_use = false;
    l->timer.fire = on_term;
    if (wire_watch(c) < 0) {
        wire_fail(c, -EIO, "the connection cannot be watched");
        return;
    }
    wire_get(c);
    set_timer(c);
    atomic_store(&l->receiver, BY_NOBODY);
}

bool lease_take_back(struct wire *c)
{
    if (!c->lease.is_lent)
        return true;
    if (pass(c, BY_NOBODY, BY_LOOP))
        watch_again(c);
    return atomic_load(&c->lease.receiver) == BY_LOOP;
}

static void on_back(struct task *task)
{
    struct wire *c = CONTAINER_OF(task, struct wire, lease.back_task);

    if (c->lease.is_lent && !atomic_load(&c->has_failed)) {
        watch_again(c);
        wire_digest(c);
    }
    wire_put(c);
}

/* By who has just passed it the role. */
static void tell_loop(struct wire *c)
{
    wire_get(c);
    c->lease.back_task.run = on_back;
    home_post(c->home, &c->lease.back_task);
}

/* --- who waits ------------------------------------------------------------------------------ */

/* What the thread has sent last.  The peer is there as long as a channel to it is, and that as long
 * as a request that has passed its filter. */
static _Thread_local struct {
    struct peer *peer;
    uint32_t channel;
} expected;

/* The frames in `plain`.  False: the next is none of the channel's. */
static bool take_frames(struct wire *c, uint32_t channel)
{
    struct bytes *b = &c->plain;
    size_t bytes = FRAME_HEAD_BYTES;
    struct err e = {0};

    while (b->begin < b->end) {
        struct frame frame;
        int r = frame_read(b->data + b->begin, b->end - b->begin, ON_STREAM, &frame, &bytes, &e);

        if (r < 0)
            wire_fail(c, r, "%s", e.text);
        if (r <= 0)
            break;
        if (frame.channel != channel || (frame.type != FRAME_MESSAGE && frame.type != FRAME_WINDOW))
            return false;
        b->begin += bytes;
        channel_frame(c, &frame);
    }
    if (b->begin == b->end)
        b->begin = b->end = 0;
    if (bytes_reserve(b, bytes - MIN(bytes, b->end - b->begin)) < 0)
        wire_fail(c, -ENOMEM, "out of memory");
    return true;
}

/* All that was received, as wire_digest() does. */
static bool digest(struct wire *c, uint32_t channel)
{
    struct digestion d;
    bool is_ours;

    digestion_begin(&d, c);
    do
        is_ours = take_frames(c, channel);
    while (is_ours && !atomic_load(&c->has_failed) && wire_decrypt(c) > 0);
    channels_flush(c, digestion_end(&d));
    if (!atomic_load(&c->has_failed))
        wire_push(c);
    return is_ours;
}

/* False: there is something for the loop. */
static bool receive(struct wire *c, uint32_t channel)
{
    ssize_t n = wire_receive(c);

    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return true;
    if (n <= 0) {
        wire_fail_receiving(c, n);
        return true;
    }
    atomic_fetch_add_explicit(&c->bytes_in, (uint64_t)n, memory_order_relaxed);
    return digest(c, channel);
}

/* Who waits, for what, and how. */
struct waiter {
    struct home *home;
    uint32_t channel;
    int fd; /* ends the wait when it can be read; -1: none */
    bool has_come;
};

/* Until something comes or is posted. */
static bool sleep_and_receive(struct wire *c, struct waiter *w)
{
    struct pollfd fds[] = {{.fd = -1}, /* the bell's */
                           {.fd = c->watch.fd, .events = POLLIN},
                           {.fd = w->fd, .events = POLLIN}};

    home_poll(w->home, c->lease.bell, fds, ARRAY_SIZE(fds));
    w->has_come = fds[2].revents;
    return !fds[1].revents || receive(c, w->channel);
}

/* False: somebody else receives. */
static bool receive_here(struct wire *c, struct waiter *w)
{
    struct lease *l = &c->lease;
    bool is_ours;

    if (atomic_load(&c->has_failed) || !pass(c, BY_NOBODY, BY_WAITER))
        return false;
    is_ours = sleep_and_receive(c, w);
    atomic_fetch_add(&l->uses, 1);
    atomic_store(&l->receiver, is_ours ? BY_NOBODY : BY_LOOP);
    /* Who began to wait meanwhile has found it taken, and sleeps. */
    if (!is_ours || (atomic_load(&l->waiters) > 1 && pass(c, BY_NOBODY, BY_LOOP)))
        tell_loop(c);
    home_drain(w->home);
    return true;
}

static void wait_here(struct wire *c, struct waiter *w, const bool *done)
{
    if (atomic_fetch_add(&c->lease.waiters, 1) != 0)
        atomic_store(&c->lease.alone, 0);
    while (!*done && !w->has_come && !w->home->put_off_first) {
        if (receive_here(c, w))
            continue;
        atomic_store(&c->lease.sleeper, w->home);
        w->has_come = home_sleep(w->home, w->fd);
    }
    atomic_fetch_sub(&c->lease.waiters, 1);
    atomic_fetch_add(&c->lease.alone, 1);
}

static bool wait_for_answer(struct home *home, const bool *done, int fd)
{
    struct waiter w = {.home = home, .channel = expected.channel, .fd = fd};
    struct wire *c = channel_wire(expected.peer, w.channel);

    if (!c)
        return false;
    wait_here(c, &w, done);
    wire_put(c);
    return w.has_come;
}

void lease_expect(struct peer *peer, uint32_t channel)
{
    struct home *home = home_current_or_null();

    if (!home || home->kind != HOME_WORKER)
        return;
    expected.peer = peer;
    expected.channel = channel;
    home->help = wait_for_answer;
}
