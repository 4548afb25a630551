/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * wire.c: one connection: its socket, TLS on it, and the frames that come.
 *
 * OpenSSL sees no socket: it reads from `cipher` and writes to `fill`, so that one system call
 * moves many records and none is made under ssl_mutex, which readers and senders share.  The socket
 * is closed when the last reference goes, so that nobody writes into a descriptor that is another's
 * by then.
 */
#include "internal.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define RECEIVE_BYTES (128u << 10)
#define RECORD_BYTES (17u << 10)
/* Reads of one turn, so that the others of the loop get theirs. */
#define READS_PER_TURN 8u
/* What ends a connection that is not read from. */
#define PARKED_EVENTS (uint32_t)(EPOLLERR | EPOLLHUP)

/* --- bytes ---------------------------------------------------------------------------------- */

void bytes_free(struct bytes *b)
{
    free(b->data);
    *b = (struct bytes){.data = NULL};
}

int bytes_reserve(struct bytes *b, size_t more)
{
    size_t held = b->end - b->begin, capacity;
    uint8_t *data;

    if (b->capacity - b->end >= more)
        return 0;
    if (held && b->begin)
        memmove(b->data, b->data + b->begin, held);
    b->begin = 0;
    b->end = held;
    if (b->capacity - held >= more)
        return 0;
    capacity = MAX(2 * b->capacity, held + more);
    data = realloc(b->data, capacity);
    if (!data)
        return -ENOMEM;
    b->data = data;
    b->capacity = capacity;
    return 0;
}

/* --- what OpenSSL takes for a socket -------------------------------------------------------- */

static int bio_read(BIO *bio, char *out, size_t wanted, size_t *got)
{
    struct wire *c = BIO_get_data(bio);
    struct bytes *b = &c->cipher;

    BIO_clear_retry_flags(bio);
    *got = MIN(wanted, b->end - b->begin);
    if (*got == 0) {
        BIO_set_retry_read(bio);
        return 0;
    }
    memcpy(out, b->data + b->begin, *got);
    b->begin += *got;
    return 1;
}

static int bio_write(BIO *bio, const char *data, size_t length, size_t *done)
{
    struct wire *c = BIO_get_data(bio);

    BIO_clear_retry_flags(bio);
    *done = 0;
    if (bytes_reserve(&c->fill, length) < 0)
        return 0;
    memcpy(c->fill.data + c->fill.end, data, length);
    c->fill.end += length;
    *done = length;
    return 1;
}

static long bio_control(BIO *bio, int command, long number, void *pointer)
{
    (void)bio, (void)number, (void)pointer;
    return command == BIO_CTRL_FLUSH;
}

static pthread_once_t method_once = PTHREAD_ONCE_INIT;
static BIO_METHOD *method;

static void make_method(void)
{
    method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "sluice");
    if (!method)
        return;
    BIO_meth_set_read_ex(method, bio_read);
    BIO_meth_set_write_ex(method, bio_write);
    BIO_meth_set_ctrl(method, bio_control);
}

static bool make_ssl(struct wire *c)
{
    BIO *bio;

    pthread_once(&method_once, make_method);
    c->ssl = method ? SSL_new(c->tls->context) : NULL;
    bio = c->ssl ? BIO_new(method) : NULL;
    if (!bio)
        return false;
    BIO_set_data(bio, c);
    BIO_set_init(bio, 1);
    SSL_set_bio(c->ssl, bio, bio);
    if (c->is_accepted)
        SSL_set_accept_state(c->ssl);
    else
        SSL_set_connect_state(c->ssl);
    return true;
}

/* --- life ----------------------------------------------------------------------------------- */

static void wire_free(struct wire *c)
{
    wire_put(c->heir_here);
    SSL_free(c->ssl);
    tls_put(c->tls);
    if (c->watch.fd >= 0)
        close(c->watch.fd);
    bytes_free(&c->cipher);
    bytes_free(&c->fill);
    bytes_free(&c->plain);
    bytes_free(&c->sending);
    wire_free_queue(c);
    if (c->lease.bell)
        bell_give(c->lease.bell);
    pthread_mutex_destroy(&c->ssl_mutex);
    pthread_mutex_destroy(&c->out_mutex);
    free(c);
}

struct wire *wire_get(struct wire *c)
{
    atomic_fetch_add(&c->references, 1);
    return c;
}

void wire_put(struct wire *c)
{
    if (c && atomic_fetch_sub(&c->references, 1) == 1)
        wire_free(c);
}

static void set_options(int fd, uint64_t timeout_ns)
{
    int one = 1;
    unsigned timeout_ms = (unsigned)(timeout_ns / 1000000u);

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof timeout_ms);
}

static void on_deadline(struct timer *timer)
{
    struct wire *c = CONTAINER_OF(timer, struct wire, deadline);

    wire_fail(c, -ETIMEDOUT,
              c->state == WIRE_CONNECTING  ? "no connection in time"
              : c->state == WIRE_HANDSHAKE ? "its TLS handshake took too long"
                                           : "it did not say who it is in time");
}

struct wire *wire_new(struct peers *peers, int fd, bool is_accepted,
                      const struct sockaddr_storage *other)
{
    struct wire *c = calloc(1, sizeof *c);

    if (!c) {
        close(fd);
        return NULL;
    }
    c->peers = peers;
    c->loop = peers->loop;
    c->home = peers->home;
    c->watch.fd = fd;
    c->is_accepted = is_accepted;
    c->other = *other;
    c->deadline.fire = on_deadline;
    atomic_store(&c->references, 1);
    pthread_mutex_init(&c->ssl_mutex, NULL);
    pthread_mutex_init(&c->out_mutex, NULL);
    list_init(&c->link);
    address_text(other, c->address, sizeof c->address);
    set_options(fd, peers->settings.timeout_ns);
    c->tls = peers_tls(peers);
    if (make_ssl(c))
        return c;
    wire_free(c);
    return NULL;
}

/* --- the end -------------------------------------------------------------------------------- */

static void on_ended(struct task *task)
{
    struct wire *c = CONTAINER_OF(task, struct wire, ended_task);

    loop_timer_cancel(c->peers->loop, &c->deadline);
    list_remove(&c->link);
    if (c->is_stranger)
        strangers_leave(&c->peers->strangers, &c->other);
    c->is_stranger = false;
    set_wire_ended(c);
    wire_put(c); /* wire_new()'s */
}

/* close_notify, if there is room for it: the other side then knows that nothing was cut off. */
static void say_goodbye(struct wire *c)
{
    bool has_role;
    {
        SCOPED_LOCK(&c->out_mutex);
        c->is_dead = true;
        has_role = !c->is_flushing;
    }
    if (!has_role || c->state < WIRE_GREETING)
        return;
    {
        SCOPED_LOCK(&c->ssl_mutex);
        ERR_clear_error();
        SSL_shutdown(c->ssl);
        ERR_clear_error();
    }
    if (c->sending.begin == c->sending.end && c->fill.begin < c->fill.end &&
        send(c->watch.fd, c->fill.data + c->fill.begin, c->fill.end - c->fill.begin,
             MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        return;
}

static void on_end(struct task *task)
{
    struct wire *c = CONTAINER_OF(task, struct wire, end_task);

    if (c->is_watched)
        loop_unwatch(c->loop, &c->watch);
    wire_forget_soon(c);
    lease_forget(c);
    say_goodbye(c);
    c->state = WIRE_ENDED;
    shutdown(c->watch.fd, c->code == 0 ? SHUT_WR : SHUT_RDWR);
    c->ended_task.run = on_ended;
    home_post(c->peers->home, &c->ended_task);
}

void wire_fail(struct wire *c, int code, const char *fmt, ...)
{
    va_list ap;

    if (atomic_exchange(&c->has_failed, true))
        return;
    va_start(ap, fmt);
    vsnprintf(c->reason, sizeof c->reason, fmt, ap);
    va_end(ap);
    text_one_line(c->reason);
    c->code = code;
    c->end_task.run = on_end;
    home_post(c->home, &c->end_task);
}

static void open_here(struct wire *c);

/* --- frames --------------------------------------------------------------------------------- */

static enum frame_place place_of(const struct wire *c)
{
    if (c->state == WIRE_GREETING)
        return AT_GREETING;
    return c->number == 0 ? ON_CONTROL : ON_STREAM;
}

/* The other side sends by the successor from here on: it is read from now, and not before. */
static void open_successor(struct wire *c)
{
    struct wire *next = c->heir_here;

    if (!next || !c->is_switched_in)
        return;
    c->heir_here = NULL;
    open_here(next);
    wire_put(next);
}

static void switch_in(struct wire *c)
{
    {
        SCOPED_LOCK(&c->out_mutex);
        c->is_switched_in = true;
    }
    open_successor(c);
    wire_end_if_switched(c);
}

static void on_succeed(struct task *task)
{
    struct wire *c = CONTAINER_OF(task, struct wire, start_task);

    c->heir_here = c->heir;
    open_successor(c);
    wire_put(c);
}

void wire_succeed(struct wire *c, struct wire *next)
{
    wire_get(next);
    next->loop = c->loop;
    next->home = c->home;
    c->heir = next;
    wire_get(c);
    c->start_task.run = on_succeed;
    home_post(c->home, &c->start_task);
}

static void dispatch(struct wire *c, const struct frame *frame)
{
    if (c->state == WIRE_GREETING && c->is_accepted)
        greet_accepted(c, frame);
    else if (c->state == WIRE_GREETING)
        greet_dialled(c, frame);
    else if (frame->type == FRAME_SWITCH)
        switch_in(c);
    else if (c->number == 0)
        set_control(c, frame);
    else
        channel_frame(c, frame);
}

/* What has been handed over to another loop is not looked at any more. */
static bool is_here(const struct wire *c)
{
    return c->home == home_current_or_null();
}

static bool is_reading(struct wire *c)
{
    return is_here(c) && (c->state == WIRE_GREETING || c->state == WIRE_OPEN) &&
           !atomic_load(&c->has_failed);
}

/* All whole frames in `plain`; room for the rest of one that has begun. */
static void take_frames(struct wire *c)
{
    struct bytes *b = &c->plain;
    struct frame frame;
    struct err e = {0};
    size_t bytes = FRAME_HEAD_BYTES;
    int r = 0;

    while (is_reading(c) && b->begin < b->end) {
        r = frame_read(b->data + b->begin, b->end - b->begin, place_of(c), &frame, &bytes, &e);
        if (r <= 0)
            break;
        b->begin += bytes;
        dispatch(c, &frame);
    }
    if (!is_here(c))
        return;
    if (b->begin == b->end)
        b->begin = b->end = 0;
    if (r < 0)
        wire_fail(c, r, "%s", e.text);
    else if (is_reading(c) && bytes_reserve(b, bytes - MIN(bytes, b->end - b->begin)) < 0)
        wire_fail(c, -ENOMEM, "out of memory");
}

/* --- TLS ------------------------------------------------------------------------------------ */

static void handshake(struct wire *c)
{
    struct err e = {0};
    int r, why = 0;

    {
        SCOPED_LOCK(&c->ssl_mutex);
        ERR_clear_error();
        r = SSL_do_handshake(c->ssl);
        if (r != 1 && SSL_get_error(c->ssl, r) != SSL_ERROR_WANT_READ)
            why = tls_explain(c->ssl, r, &e);
    }
    wire_push(c); /* also the alert that says why not */
    if (why < 0)
        wire_fail(c, why, "%s", e.text);
    if (r != 1)
        return;
    c->state = WIRE_GREETING;
    greet_begin(c);
}

int wire_decrypt(struct wire *c)
{
    struct bytes *b = &c->plain;
    struct err e = {0};
    size_t got = 0;
    int r;

    if (bytes_reserve(b, RECORD_BYTES) < 0)
        return -ENOMEM;
    {
        SCOPED_LOCK(&c->ssl_mutex);
        ERR_clear_error();
        r = SSL_read_ex(c->ssl, b->data + b->end, b->capacity - b->end, &got);
        if (r != 1 && SSL_get_error(c->ssl, r) == SSL_ERROR_WANT_READ)
            return 0;
        if (r != 1)
            r = tls_explain(c->ssl, r, &e);
    }
    if (r < 0) {
        wire_fail(c, c->is_switched_in ? 0 : r, "%s", e.text);
        return r;
    }
    b->end += got;
    return 1;
}

static _Thread_local struct digestion *digestion;

void digestion_begin(struct digestion *d, const struct wire *c)
{
    *d = (struct digestion){.wire = c, .outer = digestion};
    digestion = d;
}

bool digestion_put_off(struct peer_channel *ch)
{
    if (!digestion)
        return false;
    ch->next_behind = digestion->behind;
    digestion->behind = ch;
    return true;
}

bool digestion_end(const struct digestion *d)
{
    channels_catch_up(d->behind); /* what they send now leaves with the rest */
    digestion = d->outer;
    return d->has_soon && !d->has_now;
}

bool wire_leaves_later(const struct wire *c, bool is_soon)
{
    struct digestion *d = digestion;

    if (!d || d->wire->peer != c->peer || d->wire->number != c->number)
        return false;
    d->has_soon |= is_soon;
    d->has_now |= !is_soon;
    return true;
}

/* True: nobody waits for what was queued meanwhile. */
static bool take_all(struct wire *c)
{
    struct digestion d;

    digestion_begin(&d, c);
    while (is_reading(c)) {
        take_frames(c);
        if (!is_reading(c) || wire_decrypt(c) <= 0)
            break;
    }
    return digestion_end(&d);
}

/* Everything that has arrived.  What the handlers send meanwhile on this stream leaves at the end,
 * at once unless all of it may be late, by the connection that is the stream's then: c may have a
 * successor by now. */
void wire_digest(struct wire *c)
{
    bool is_stream, is_soon;

    if (c->state == WIRE_HANDSHAKE)
        handshake(c);
    is_stream = c->state == WIRE_OPEN && c->number > 0;
    is_soon = take_all(c);
    if (is_stream)
        channels_flush(c, is_soon);
    if (is_here(c) && !atomic_load(&c->has_failed))
        wire_push(c);
}

/* --- the socket ----------------------------------------------------------------------------- */

ssize_t wire_receive(struct wire *c)
{
    uint8_t *end;
    ssize_t n;

    {
        SCOPED_LOCK(&c->ssl_mutex);
        if (bytes_reserve(&c->cipher, RECEIVE_BYTES) < 0) {
            errno = ENOMEM;
            return -1;
        }
        end = c->cipher.data + c->cipher.end;
    }
    do
        n = recv(c->watch.fd, end, RECEIVE_BYTES, 0);
    while (n < 0 && errno == EINTR);
    if (n > 0) {
        SCOPED_LOCK(&c->ssl_mutex);
        c->cipher.end += (size_t)n;
    }
    return n;
}

static bool is_too_talkative(struct wire *c, ssize_t n)
{
    uint64_t all = atomic_fetch_add_explicit(&c->bytes_in, (uint64_t)n, memory_order_relaxed);

    return (c->is_stranger || c->state == WIRE_HANDSHAKE) && all + (uint64_t)n > STRANGER_BYTES_MAX;
}

void wire_fail_receiving(struct wire *c, ssize_t n)
{
    if (n < 0)
        wire_fail(c, -errno, "cannot receive: %s", strerror(errno));
    else
        wire_fail(c, c->is_switched_in ? 0 : -ECONNRESET, "it closed the connection");
}

void wire_read(struct wire *c)
{
    for (unsigned i = 0; i < READS_PER_TURN; i++) {
        ssize_t n = wire_receive(c);

        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return;
        if (n <= 0)
            wire_fail_receiving(c, n);
        else if (is_too_talkative(c, n))
            wire_fail(c, -EPROTO, "it sent more than %u bytes without saying who it is",
                      STRANGER_BYTES_MAX);
        else
            wire_digest(c);
        if (!is_here(c) || atomic_load(&c->has_failed) || c->state == WIRE_PARKED ||
            (size_t)n < RECEIVE_BYTES)
            return;
    }
}

static void connected(struct wire *c)
{
    int error = 0;
    socklen_t length = sizeof error;

    if (getsockopt(c->watch.fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0)
        error = errno;
    if (error) {
        wire_fail(c, -error, "cannot connect to %s: %s", c->address, strerror(error));
        return;
    }
    c->state = WIRE_HANDSHAKE;
    if (wire_watch(c) < 0)
        wire_fail(c, -EIO, "the connection cannot be watched");
    else
        handshake(c);
}

static void on_ready(struct watch *watch, uint32_t events)
{
    struct wire *c = CONTAINER_OF(watch, struct wire, watch);

    if (atomic_load(&c->has_failed))
        return;
    wire_get(c);
    if (c->state == WIRE_CONNECTING) {
        connected(c);
    } else {
        if (events & EPOLLOUT)
            wire_can_write(c);
        if (events & (c->state == WIRE_PARKED ? PARKED_EVENTS : PARKED_EVENTS | EPOLLIN) &&
            !atomic_load(&c->has_failed) && lease_take_back(c)) {
            wire_read(c);
            if (is_here(c))
                lease_offer(c);
        }
    }
    wire_put(c);
}

/* --- from loop to loop ---------------------------------------------------------------------- */

int wire_watch(struct wire *c)
{
    uint32_t events = c->state == WIRE_PARKED || c->lease.is_lent ? 0 : (uint32_t)EPOLLIN;
    int r;

    if (c->state == WIRE_CONNECTING)
        events = EPOLLOUT;
    else if (c->is_waiting)
        events |= (uint32_t)EPOLLOUT;
    if (c->is_watched)
        return loop_rewatch(c->loop, &c->watch, events);
    c->watch.events = events;
    r = loop_watch(c->loop, &c->watch);
    c->is_watched = r == 0;
    return r;
}

void wire_begin(struct wire *c, bool is_connecting)
{
    list_append(&c->peers->wires, &c->link);
    c->state = is_connecting ? WIRE_CONNECTING : WIRE_HANDSHAKE;
    c->watch.ready = on_ready;
    loop_timer_set(c->loop, &c->deadline, clock_now_ns() + c->peers->settings.handshake_ns);
    if (wire_watch(c) < 0)
        wire_fail(c, -EIO, "the connection cannot be watched");
}

void wire_park(struct wire *c)
{
    c->state = WIRE_PARKED;
    loop_timer_cancel(c->loop, &c->deadline);
    loop_unwatch(c->loop, &c->watch);
    c->is_watched = false;
}

static void open_here(struct wire *c)
{
    if (atomic_load(&c->has_failed))
        return;
    c->state = WIRE_OPEN;
    if (wire_watch(c) < 0)
        wire_fail(c, -EIO, "the connection cannot be watched");
    else
        wire_digest(c);
}

static void on_start(struct task *task)
{
    struct wire *c = CONTAINER_OF(task, struct wire, start_task);

    open_here(c);
    wire_put(c);
}

void wire_open(struct wire *c, struct loop *loop)
{
    wire_get(c);
    c->loop = loop;
    c->home = loop_home(loop);
    c->start_task.run = on_start;
    home_post(c->home, &c->start_task);
}
