/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * backing-nbd: an NBD server by URI, and the part of the transport that nbdkit children share.  See
 * backing-nbd.h for the rule about callbacks.
 *
 * Trim is sent as WRITE_ZEROES without NO_HOLE: TRIM makes no promise about what is read afterwards
 * (NBD protocol, NBD_CMD_TRIM), ours does.
 *
 * What NBD cannot give: when a connection is cut while its server lives on, the server may still
 * carry out what it had received, even after a reconnection.  The protocol has no way to fence
 * that; nbdkit children are ended first, iSCSI sessions are reinstated.  So newer changes of the
 * same ranges wait (backing-doubt.c), and a connection that is given up is reset: what this machine
 * has not sent of it yet is never sent.
 *
 * Everything here runs in the service loop, but for nbd_aio_connect_uri(), which asks the name
 * server and so gets a thread of its own.
 */
#include "backing/backing-nbd.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

#define SECOND UINT64_C(1000000000)
/* "Maximum payload": what a server takes that names none (NBD protocol, block size constraints). */
#define DEFAULT_TRANSFER_BYTES (32u << 20)
/* Far below 4 GiB: some servers stumble over lengths that do not fit in 31 bits. */
#define MAX_RANGE_BYTES (UINT64_C(1) << 30)

static struct nbd_op *extra(struct remote_op *op)
{
    return (struct nbd_op *)(void *)op->extra;
}

static struct remote_op *op_of(struct nbd_op *x)
{
    return CONTAINER_OF(x, struct remote_op, extra);
}

static struct nbd_backing *backing_of(struct remote *r)
{
    return CONTAINER_OF(r, struct nbd_backing, remote);
}

static bool is_gone(struct nbd_conn *conn)
{
    return nbd_aio_is_dead(conn->handle) || nbd_aio_is_closed(conn->handle);
}

/* --- the watched descriptor ----------------------------------------------------------------- */

static void unwatch(struct nbd_conn *conn)
{
    if (conn->is_watched)
        loop_unwatch(conn->loop, &conn->watch);
    conn->is_watched = false;
}

static uint32_t wanted_events(struct nbd_conn *conn)
{
    unsigned direction = nbd_aio_get_direction(conn->handle);

    return (direction & LIBNBD_AIO_DIRECTION_READ ? EPOLLIN : 0) |
           (direction & LIBNBD_AIO_DIRECTION_WRITE ? EPOLLOUT : 0);
}

/* After every call of libnbd: it may have closed the descriptor, whose number can come back as
 * something else at once. */
static void watch_again(struct nbd_conn *conn)
{
    uint32_t events;
    int rc = 0;

    if (is_gone(conn)) {
        unwatch(conn);
        return;
    }
    events = wanted_events(conn);
    if (conn->is_watched && events == conn->watch.events)
        return;
    if (conn->is_watched)
        rc = loop_rewatch(conn->loop, &conn->watch, events);
    else {
        conn->watch.fd = nbd_aio_get_fd(conn->handle);
        conn->watch.events = events;
        rc = loop_watch(conn->loop, &conn->watch);
        conn->is_watched = rc == 0;
    }
    if (rc < 0)
        remote_down(&conn->owner->remote, "watching its socket: %s", strerror(-rc));
}

/* --- what the server can do ----------------------------------------------------------------- */

static uint64_t block_size(struct nbd_handle *h, int which, uint64_t otherwise)
{
    int64_t size = nbd_get_block_size(h, which);

    return size > 0 ? (uint64_t)size : otherwise;
}

static void learn(struct nbd_handle *h, struct remote_facts *f)
{
    int64_t size = nbd_get_size(h);
    uint64_t max;

    /* "A client desiring maximum interoperability SHOULD constrain its requests to a minimum block
     * size of 2^9" where none was agreed on, and up to 2^25 bytes of payload. */
    f->block_bytes = (unsigned)block_size(h, LIBNBD_SIZE_MINIMUM, size % 512 ? 1 : 512);
    f->preferred_bytes = (unsigned)block_size(h, LIBNBD_SIZE_PREFERRED, 4096);
    max = block_size(h, LIBNBD_SIZE_MAXIMUM, DEFAULT_TRANSFER_BYTES);
    max = MIN(max, DEFAULT_TRANSFER_BYTES);
    f->max_transfer_bytes = MAX(max - max % f->block_bytes, f->block_bytes);
    f->max_zero_bytes = f->max_trim_bytes = f->max_extents_bytes = MAX_RANGE_BYTES;
    f->size_bytes = size < 0 ? 0 : (uint64_t)size - (uint64_t)size % f->block_bytes;
    f->is_read_only = nbd_is_read_only(h) > 0;
    f->is_rotational = nbd_is_rotational(h) > 0;
    f->can_flush = nbd_can_flush(h) > 0;
    f->can_fua = f->can_fua_zero = nbd_can_fua(h) > 0;
    f->can_zero = f->can_trim = nbd_can_zero(h) > 0;
    f->can_fast_zero = f->can_zero && nbd_can_fast_zero(h) > 0;
    f->can_extents = nbd_can_meta_context(h, LIBNBD_CONTEXT_BASE_ALLOCATION) > 0;
    f->can_prefetch = nbd_can_cache(h) > 0;
}

/* NBD has no keep-alive of its own: let TCP notice within 20 s that the other machine is gone. */
static void set_keepalive(int fd)
{
    const struct {
        int level, name, value;
    } options[] = {
        {SOL_SOCKET, SO_KEEPALIVE, 1},          {IPPROTO_TCP, TCP_KEEPIDLE, 5},
        {IPPROTO_TCP, TCP_KEEPINTVL, 5},        {IPPROTO_TCP, TCP_KEEPCNT, 3},
        {IPPROTO_TCP, TCP_USER_TIMEOUT, 20000},
    };
    int domain = 0;
    socklen_t length = sizeof domain;

    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) < 0 || domain == AF_UNIX)
        return;
    for (size_t i = 0; i < ARRAY_SIZE(options); i++)
        setsockopt(fd, options[i].level, options[i].name, &options[i].value,
                   sizeof options[i].value);
}

static void come_up(struct nbd_conn *conn)
{
    struct remote_facts facts = {0};

    conn->is_up = true;
    set_keepalive(nbd_aio_get_fd(conn->handle));
    learn(conn->handle, &facts);
    if (!facts.size_bytes)
        remote_down(&conn->owner->remote, "it serves nothing: its size is 0");
    else
        remote_up(&conn->owner->remote, &facts);
}

/* --- answers -------------------------------------------------------------------------------- */

/* A server may answer a read without having sent all of it; libnbd notices that only here. */
static int retire(struct nbd_conn *conn, const struct nbd_op *x)
{
    if (!x->must_retire || nbd_aio_command_completed(conn->handle, (uint64_t)x->cookie) != -1)
        return x->error;
    return x->error ? x->error : EIO;
}

static int check_extents(struct remote_op *op)
{
    struct extents *x = op->extents;

    if (op->kind == IO_EXTENTS && x->count == 0 && extents_add(x, op->chunk, 0) == -ENOMEM)
        return ENOMEM;
    return 0;
}

static void tell_one(struct nbd_conn *conn, struct nbd_op *x)
{
    struct remote_op *op = op_of(x);
    int error;

    list_remove(&x->link);
    error = retire(conn, x);
    /* Not an answer: it goes to whoever comes back. */
    if (error && is_gone(conn))
        return;
    if (error == ESHUTDOWN) {
        remote_down(op->remote, "it is shutting down");
        return;
    }
    if (!error)
        error = check_extents(op);
    remote_done(op, -error);
}

static void note_loss(struct nbd_conn *conn)
{
    struct nbd_backing *nb = conn->owner;
    char how[40] = "";
    bool is_told = conn->has_child && child_how_ended(&conn->child, how, sizeof how);

    if (!conn->error[0])
        snprintf(conn->error, sizeof conn->error, "it closed the connection");
    if (conn->has_child)
        snprintf(conn->error, sizeof conn->error, "the process ended%s%s", is_told ? ", " : "",
                 how);
    if (nb->is_volatile && conn->is_up)
        remote_refuse(&nb->remote, "its contents are gone: %s", conn->error);
    else
        remote_down(&nb->remote, "%s", conn->error);
}

static void conn_settle(struct nbd_conn *conn)
{
    while (!list_is_empty(&conn->done))
        tell_one(conn, LIST_ENTRY(conn->done.next, struct nbd_op, link));
    if (!conn->is_up && nbd_aio_is_ready(conn->handle))
        come_up(conn);
    if (is_gone(conn))
        note_loss(conn);
    watch_again(conn);
}

static void settle_run(struct task *task)
{
    struct nbd_backing *nb = CONTAINER_OF(task, struct nbd_backing, settle_task);

    nb->is_settle_posted = false;
    if (nb->conn && !nb->conn->is_connecting)
        conn_settle(nb->conn);
}

static void settle_later(struct nbd_backing *nb)
{
    if (nb->is_settle_posted)
        return;
    nb->is_settle_posted = true;
    home_run_later(loop_home(nb->remote.loop), &nb->settle_task);
}

static void note_error(struct nbd_conn *conn, int rc)
{
    const char *text = rc < 0 ? nbd_get_error() : NULL;

    if (text)
        snprintf(conn->error, sizeof conn->error, "%s", text);
}

static void ready(struct watch *watch, uint32_t events)
{
    struct nbd_conn *conn = CONTAINER_OF(watch, struct nbd_conn, watch);
    uint32_t wanted = watch->events;
    bool has_failed = events & (EPOLLHUP | EPOLLERR);

    /* While it tries one address after the other, the descriptor changes behind our back. */
    if (!conn->is_up)
        unwatch(conn);
    if (wanted & EPOLLIN && (events & EPOLLIN || has_failed))
        note_error(conn, nbd_aio_notify_read(conn->handle));
    if (wanted & EPOLLOUT && (events & EPOLLOUT || has_failed) && !is_gone(conn) &&
        wanted_events(conn) & EPOLLOUT)
        note_error(conn, nbd_aio_notify_write(conn->handle));
    conn_settle(conn);
}

/* --- sending -------------------------------------------------------------------------------- */

/* In libnbd, with the handle locked.  1 retires the command at once. */
static int completed(void *user_data, int *error)
{
    struct nbd_op *x = user_data;
    struct nbd_conn *conn = backing_of(op_of(x)->remote)->conn;

    x->error = *error;
    list_append(&conn->done, &x->link);
    return !x->must_retire;
}

/* The runs of one context; flags are EXTENT_HOLE and EXTENT_ZERO as they are.  The last run may
 * reach past what was asked, extents_add() clips it. */
static int got_extents(void *user_data, const char *context, uint64_t offset, uint32_t *entries,
                       size_t count, int *error)
{
    struct remote_op *op = user_data;

    (void)offset;
    if (strcmp(context, LIBNBD_CONTEXT_BASE_ALLOCATION) != 0)
        return 0;
    for (size_t i = 0; i + 1 < count; i += 2) {
        int rc = extents_add(op->extents, entries[i], entries[i + 1] & (EXTENT_HOLE | EXTENT_ZERO));

        if (rc == -ENOMEM)
            *error = ENOMEM;
        if (rc < 0)
            return rc == -ENOMEM ? -1 : 0;
    }
    return 0;
}

static uint32_t command_flags(const struct remote_op *op)
{
    return (op->flags & IO_FUA ? LIBNBD_CMD_FLAG_FUA : 0) |
           (op->flags & IO_NO_HOLE && op->kind == IO_ZERO ? LIBNBD_CMD_FLAG_NO_HOLE : 0) |
           (op->flags & IO_FAST_ONLY && op->kind == IO_ZERO ? LIBNBD_CMD_FLAG_FAST_ZERO : 0);
}

static int64_t submit_command(struct nbd_handle *h, struct remote_op *op)
{
    nbd_completion_callback done = {.callback = completed, .user_data = extra(op)};
    nbd_extent_callback extents = {.callback = got_extents, .user_data = op};
    uint64_t at = op->offset + op->done;

    switch (op->kind) {
    case IO_READ:
        return nbd_aio_pread(h, op->data + op->done, op->chunk, at, done, 0);
    case IO_WRITE:
        return nbd_aio_pwrite(h, op->data + op->done, op->chunk, at, done, command_flags(op));
    case IO_FLUSH:
        return nbd_aio_flush(h, done, 0);
    case IO_TRIM:
    case IO_ZERO:
        return nbd_aio_zero(h, op->chunk, at, done, command_flags(op));
    case IO_EXTENTS:
        return nbd_aio_block_status(h, op->chunk, at, extents, done,
                                    op->extents->first_only ? LIBNBD_CMD_FLAG_REQ_ONE : 0);
    case IO_PREFETCH:
        return nbd_aio_cache(h, op->chunk, at, done, 0);
    }
    return -1;
}

void nbd_send(struct remote *r, struct remote_op *op)
{
    struct nbd_backing *nb = backing_of(r);
    struct nbd_conn *conn = nb->conn;
    struct nbd_op *x = extra(op);

    if (!conn || is_gone(conn))
        return;
    list_init(&x->link);
    x->error = 0;
    x->must_retire = op->kind == IO_READ;
    x->cookie = submit_command(conn->handle, op);
    if (x->cookie < 0 && !is_gone(conn)) {
        x->error = nbd_get_errno() ? nbd_get_errno() : EIO;
        x->must_retire = false;
        list_append(&conn->done, &x->link);
    }
    watch_again(conn);
    if (!list_is_empty(&conn->done) || is_gone(conn))
        settle_later(nb);
}

/* --- connections ---------------------------------------------------------------------------- */

static int configure(struct nbd_handle *h, const struct nbd_backing *nb)
{
    if (nbd_add_meta_context(h, LIBNBD_CONTEXT_BASE_ALLOCATION) < 0 ||
        nbd_set_uri_allow_local_file(h, true) < 0)
        return -1;
    /* Who names certificates wants TLS, whatever the URI says. */
    if (nb->certificates && (nbd_set_tls_certificates(h, nb->certificates) < 0 ||
                             nbd_set_tls(h, LIBNBD_TLS_REQUIRE) < 0))
        return -1;
    return 0;
}

struct nbd_conn *nbd_conn_new(struct nbd_backing *nb)
{
    struct nbd_conn *conn = calloc(1, sizeof *conn);

    if (!conn) {
        remote_down(&nb->remote, "no memory");
        return NULL;
    }
    conn->owner = nb;
    conn->loop = nb->remote.loop;
    conn->watch.ready = ready;
    list_init(&conn->done);
    list_init(&conn->child.link);
    conn->child.pidfd = -1;
    conn->uri = nb->uri ? strdup(nb->uri) : NULL;
    conn->handle = nbd_create();
    if (conn->handle && configure(conn->handle, nb) == 0)
        return conn;
    remote_down(&nb->remote, "%s", nbd_get_error());
    nbd_conn_free(conn);
    return NULL;
}

void nbd_conn_begun(struct nbd_conn *conn, int rc)
{
    note_error(conn, rc);
    if (rc < 0)
        remote_down(&conn->owner->remote, "%s", conn->error);
    else
        conn_settle(conn);
}

/* Where a child hangs on the handle, nbd_close() waits for its end: give it five seconds. */
static void end_child(struct task *task)
{
    struct nbd_conn *conn = CONTAINER_OF(task, struct nbd_conn, task);
    int fd = nbd_aio_get_fd(conn->handle);

    if (fd >= 0)
        shutdown(fd, SHUT_RDWR);
    child_end(&conn->child, 5000);
    nbd_close(conn->handle);
    child_forget(&conn->child);
    free(conn->uri);
    free(conn);
}

void nbd_conn_free(struct nbd_conn *conn)
{
    if (conn->has_child) {
        conn->task.run = end_child;
        if (service_detach(&conn->task) < 0)
            end_child(&conn->task);
        return;
    }
    nbd_close(conn->handle);
    free(conn->uri);
    free(conn);
}

static void resolved(struct task *task)
{
    struct nbd_conn *conn = CONTAINER_OF(task, struct nbd_conn, task);

    conn->is_connecting = false;
    if (!conn->owner)
        nbd_conn_free(conn);
    else if (conn->error[0])
        remote_down(&conn->owner->remote, "%s", conn->error);
    else
        conn_settle(conn);
}

static void resolve(struct task *task)
{
    struct nbd_conn *conn = CONTAINER_OF(task, struct nbd_conn, task);

    note_error(conn, nbd_aio_connect_uri(conn->handle, conn->uri));
    conn->task.run = resolved;
    home_post(loop_home(conn->loop), &conn->task);
}

static void connect_uri(struct remote *r)
{
    struct nbd_backing *nb = backing_of(r);
    struct nbd_conn *conn = nb->conn = nbd_conn_new(nb);

    if (!conn)
        return;
    conn->is_connecting = true;
    conn->task.run = resolve;
    if (conn->uri && service_detach(&conn->task) == 0)
        return;
    conn->is_connecting = false;
    remote_down(r, "no thread to look up its name");
}

static void reset(struct nbd_conn *conn)
{
    const struct linger at_once = {.l_onoff = 1};

    setsockopt(nbd_aio_get_fd(conn->handle), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
}

void nbd_disconnect(struct remote *r, bool is_graceful)
{
    struct nbd_backing *nb = backing_of(r);
    struct nbd_conn *conn = nb->conn;

    loop_timer_cancel(r->loop, &nb->before_start);
    if (!conn)
        return;
    conn->owner = NULL;
    if (!conn->is_connecting) {
        unwatch(conn);
        if (is_graceful && !is_gone(conn))
            nbd_aio_disconnect(conn->handle, 0);
        else if (!is_gone(conn))
            reset(conn);
        nbd_conn_free(conn);
    }
    nb->conn = NULL;
}

/* --- the kind ------------------------------------------------------------------------------- */

static const struct transport uri_transport = {
    .op_bytes = sizeof(struct nbd_op),
    .connect_timeout_ns = 10 * SECOND,
    .backoff_ns = SECOND / 20,
    .connect = connect_uri,
    .disconnect = nbd_disconnect,
    .send = nbd_send,
};

void nbd_backing_free(struct nbd_backing *nb)
{
    for (char **arg = nb->argv; arg && *arg; arg++)
        free(*arg);
    free(nb->argv);
    free(nb->uri);
    free(nb->certificates);
    remote_destroy(&nb->remote);
    free(nb);
}

int nbd_backing_open(struct nbd_backing *nb, const struct backing_spec *spec, struct backing **out,
                     struct err *e)
{
    int rc;

    nb->settle_task.run = settle_run;
    rc = remote_open(&nb->remote, spec, e);
    if (rc < 0)
        nbd_backing_free(nb);
    else
        *out = &nb->remote.backing;
    return rc;
}

static void nbd_kind_close(struct backing *b)
{
    struct nbd_backing *nb = CONTAINER_OF(b, struct nbd_backing, remote.backing);

    remote_close(&nb->remote);
    nbd_backing_free(nb);
}

static int nbd_open(const struct backing_spec *spec, struct backing **out, struct err *e)
{
    struct nbd_backing *nb = calloc(1, sizeof *nb);

    if (!nb)
        return err_set(e, ENOMEM, "no memory");
    nb->remote.transport = &uri_transport;
    nb->remote.settle_ns = spec->settle_ns;
    nb->uri = strdup(spec->uri);
    nb->remote.name = strdup(spec->uri);
    nb->certificates = spec->tls_certificates ? strdup(spec->tls_certificates) : NULL;
    return nbd_backing_open(nb, spec, out, e);
}

const struct backing_ops backing_nbd_ops = {
    .name = "nbd",
    .open = nbd_open,
    .close = nbd_kind_close,
    .submit = remote_submit,
    .status = remote_status,
    .identity = remote_identity,
    .refresh = remote_refresh,
    .reopen = remote_reopen,
};
