/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * backing-iscsi: the session with an iSCSI target: connect, log in, probe, keep alive, leave.  See
 * backing-iscsi.h for the rule about callbacks.  Everything here runs in the service loop, but for
 * iscsi_connect_async(), which asks the name server and so gets a thread of its own.
 */
#include "backing/backing-iscsi.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>

#define SECOND UINT64_C(1000000000)
#define BEATS_PER_NOP 5
#define NOPS_MISSED 3
#define REDIRECTS_MAX 5
#define DEFAULT_INITIATOR "iqn.2024-01.org.sluice:gateway"

/* libiscsi has no words for the end of a connection: what it says then is about itself, or of old.
 */
void iscsi_broke(struct iscsi_conn *conn)
{
    const char *text = iscsi_get_error(conn->context);

    /* A target that sends us elsewhere may close the connection at once. */
    if (conn->owner->redirect[0])
        return;
    if (conn->is_up || strstr(text, "iscsi_service_reconnect"))
        text = "the connection broke";
    remote_down(&conn->owner->remote, "%s", text);
}

/* --- the watched descriptor ------------------------------------------------------------------- */

static void unwatch(struct iscsi_conn *conn)
{
    if (conn->is_watched)
        loop_unwatch(conn->loop, &conn->watch);
    conn->is_watched = false;
}

/* poll(2) and epoll(7) name these events by the same bits. */
static void watch_again(struct iscsi_conn *conn)
{
    uint32_t events = (uint32_t)iscsi_which_events(conn->context);
    int rc = 0;

    if (conn->is_watched && events == conn->watch.events)
        return;
    if (conn->is_watched)
        rc = loop_rewatch(conn->loop, &conn->watch, events);
    else {
        conn->watch.fd = iscsi_get_fd(conn->context);
        conn->watch.events = events;
        rc = loop_watch(conn->loop, &conn->watch);
        conn->is_watched = rc == 0;
    }
    if (rc < 0)
        remote_down(&conn->owner->remote, "watching its socket: %s", strerror(-rc));
}

/* What callbacks have queued goes out before we sleep. */
static void service(struct iscsi_conn *conn, int events)
{
    int rc = iscsi_service(conn->context, events);

    if (rc >= 0 && conn->is_up && !(events & POLLOUT) &&
        iscsi_which_events(conn->context) & POLLOUT)
        rc = iscsi_service(conn->context, POLLOUT);
    if (rc < 0) {
        unwatch(conn);
        iscsi_broke(conn);
        return;
    }
    watch_again(conn);
}

static void ready(struct watch *watch, uint32_t events)
{
    struct iscsi_conn *conn = CONTAINER_OF(watch, struct iscsi_conn, watch);

    /* Until it is logged in the descriptor may change behind our back. */
    if (!conn->is_up)
        unwatch(conn);
    service(conn, (int)events);
}

static void kick_run(struct task *task)
{
    struct iscsi_backing *ib = CONTAINER_OF(task, struct iscsi_backing, kick_task);
    struct iscsi_conn *conn = ib->conn;

    ib->is_kick_posted = false;
    if (conn && !conn->is_connecting && iscsi_is_logged_in(conn->context))
        service(conn, POLLOUT);
}

void iscsi_kick(struct iscsi_backing *ib)
{
    if (ib->is_kick_posted)
        return;
    ib->is_kick_posted = true;
    home_run_later(loop_home(ib->remote.loop), &ib->kick_task);
}

/* --- keeping alive ---------------------------------------------------------------------------- */

static void nop_answered(struct iscsi_context *context, int status, void *data, void *private_data)
{
    struct iscsi_conn *conn = private_data;

    (void)context;
    (void)data;
    if (status == SCSI_STATUS_GOOD)
        conn->missed = 0;
}

static void send_nop(struct iscsi_conn *conn)
{
    if (conn->missed >= NOPS_MISSED) {
        remote_down(&conn->owner->remote, "it did not answer %d NOP-Outs", NOPS_MISSED);
        return;
    }
    if (iscsi_nop_out_async(conn->context, nop_answered, NULL, 0, conn) == 0)
        conn->missed++;
    iscsi_kick(conn->owner);
}

static void beat(struct timer *timer)
{
    struct iscsi_conn *conn = CONTAINER_OF(timer, struct iscsi_conn, beat);

    loop_timer_set(conn->loop, &conn->beat, clock_now_ns() + SECOND);
    service(conn, 0);
    if (++conn->beats % BEATS_PER_NOP == 0)
        send_nop(conn);
}

/* --- up --------------------------------------------------------------------------------------- */

void iscsi_probed(struct iscsi_conn *conn)
{
    conn->is_up = true;
    loop_timer_set(conn->loop, &conn->beat, clock_now_ns() + SECOND);
    remote_up(&conn->owner->remote, &conn->facts);
}

static void logged_in(struct iscsi_context *context, int status, void *data, void *private_data)
{
    struct iscsi_conn *conn = private_data;
    struct iscsi_backing *ib = conn->owner;

    (void)data;
    if (conn->is_ending)
        return;
    if (status == SCSI_STATUS_GOOD)
        iscsi_probe(conn);
    else if (status == SCSI_STATUS_REDIRECT && ib->redirects++ < REDIRECTS_MAX) {
        snprintf(ib->redirect, sizeof ib->redirect, "%s", iscsi_get_target_address(context));
        home_run_later(loop_home(conn->loop), &ib->redirect_task);
    } else
        iscsi_broke(conn);
}

static void connected(struct iscsi_context *context, int status, void *data, void *private_data)
{
    struct iscsi_conn *conn = private_data;

    (void)data;
    if (conn->is_ending)
        return;
    if (status != SCSI_STATUS_GOOD || iscsi_login_async(context, logged_in, conn) != 0)
        iscsi_broke(conn);
}

/* --- connections ------------------------------------------------------------------------------ */

static bool configure(struct iscsi_context *context, const struct iscsi_backing *ib)
{
    iscsi_set_noautoreconnect(context, 1);
    iscsi_set_tcp_user_timeout(context, 20000);
    iscsi_set_tcp_keepidle(context, 5);
    iscsi_set_tcp_keepintvl(context, 5);
    return iscsi_set_session_type(context, ISCSI_SESSION_NORMAL) == 0 &&
           iscsi_set_targetname(context, ib->url->target) == 0 &&
           iscsi_set_isid_random(context, ib->isid >> 8, ib->isid & 0xff) == 0 &&
           (!ib->user || iscsi_set_initiator_username_pwd(context, ib->user, ib->secret) == 0);
}

static void conn_free(struct iscsi_conn *conn)
{
    conn->is_ending = true;
    if (conn->context)
        iscsi_destroy_context(conn->context);
    free(conn);
}

static struct iscsi_conn *conn_new(struct iscsi_backing *ib, const char *portal)
{
    struct iscsi_conn *conn = calloc(1, sizeof *conn);

    if (!conn)
        return NULL;
    conn->owner = ib;
    conn->loop = ib->remote.loop;
    conn->watch.ready = ready;
    conn->beat.fire = beat;
    conn->pause.fire = iscsi_probe_again;
    snprintf(conn->portal, sizeof conn->portal, "%s", portal);
    conn->context = iscsi_create_context(ib->initiator);
    if (conn->context && configure(conn->context, ib))
        return conn;
    conn_free(conn);
    return NULL;
}

static void resolved(struct task *task)
{
    struct iscsi_conn *conn = CONTAINER_OF(task, struct iscsi_conn, task);

    conn->is_connecting = false;
    if (!conn->owner)
        conn_free(conn);
    else if (conn->rc != 0)
        iscsi_broke(conn);
    else {
        fcntl(iscsi_get_fd(conn->context), F_SETFD, FD_CLOEXEC);
        watch_again(conn);
    }
}

static void resolve(struct task *task)
{
    struct iscsi_conn *conn = CONTAINER_OF(task, struct iscsi_conn, task);

    conn->rc = iscsi_connect_async(conn->context, conn->portal, connected, conn);
    conn->task.run = resolved;
    home_post(loop_home(conn->loop), &conn->task);
}

static void connect_to(struct iscsi_backing *ib, const char *portal)
{
    struct iscsi_conn *conn = ib->conn = conn_new(ib, portal);

    if (!conn) {
        remote_down(&ib->remote, "no memory");
        return;
    }
    conn->is_connecting = true;
    conn->task.run = resolve;
    if (service_detach(&conn->task) == 0)
        return;
    conn->is_connecting = false;
    remote_down(&ib->remote, "no thread to look up its name");
}

static void connect_portal(struct remote *r)
{
    struct iscsi_backing *ib = iscsi_backing_of(r);

    ib->redirects = 0;
    ib->redirect[0] = 0;
    connect_to(ib, ib->url->portal);
}

/* A logout would need an answer to be waited for; closing the connection ends the session as well
 * (RFC 7143, 6.3). */
static void disconnect(struct remote *r, bool is_graceful)
{
    struct iscsi_backing *ib = iscsi_backing_of(r);
    struct iscsi_conn *conn = ib->conn;

    (void)is_graceful;
    if (!conn)
        return;
    iscsi_calm(r);
    loop_timer_cancel(r->loop, &conn->beat);
    loop_timer_cancel(r->loop, &conn->pause);
    unwatch(conn);
    if (conn->is_connecting)
        conn->owner = NULL;
    else
        conn_free(conn);
    ib->conn = NULL;
}

static void redirect_run(struct task *task)
{
    struct iscsi_backing *ib = CONTAINER_OF(task, struct iscsi_backing, redirect_task);

    if (!ib->redirect[0] || !ib->conn)
        return;
    disconnect(&ib->remote, false);
    connect_to(ib, ib->redirect);
    ib->redirect[0] = 0;
}

static void refresh(struct remote *r)
{
    iscsi_read_capacity(iscsi_backing_of(r)->conn);
}

static const struct transport iscsi_transport = {
    .op_bytes = sizeof(struct iscsi_op),
    .connect_timeout_ns = 10 * SECOND,
    .backoff_ns = SECOND / 20,
    .connect = connect_portal,
    .disconnect = disconnect,
    .send = iscsi_send,
    .refresh = refresh,
};

/* --- the kind --------------------------------------------------------------------------------- */

static void backing_free(struct iscsi_backing *ib)
{
    if (ib->url)
        iscsi_destroy_url(ib->url);
    if (ib->secret)
        explicit_bzero(ib->secret, strlen(ib->secret));
    free(ib->initiator);
    free(ib->user);
    free(ib->secret);
    remote_destroy(&ib->remote);
    free(ib);
}

/* The URL may name user and secret; what the configuration says goes before.  Neither is ever part
 * of a message. */
static int take_url(struct iscsi_backing *ib, const struct backing_spec *spec, struct err *e)
{
    struct iscsi_context *context = iscsi_create_context(DEFAULT_INITIATOR);
    const char *user = spec->chap_user, *secret = spec->chap_secret;

    ib->url = context ? iscsi_parse_full_url(context, spec->uri) : NULL;
    if (!ib->url) {
        err_set(e, EINVAL, "this is no iSCSI URL (iscsi://HOST[:PORT]/TARGET/LUN)");
        iscsi_destroy_context(context);
        return -EINVAL;
    }
    ib->url->iscsi = NULL;
    iscsi_destroy_context(context);
    if (!user && ib->url->user[0]) {
        user = ib->url->user;
        secret = ib->url->passwd;
    }
    ib->remote.name =
        text_printf("iscsi://%s/%s/%d", ib->url->portal, ib->url->target, ib->url->lun);
    ib->initiator = strdup(spec->initiator_name ? spec->initiator_name : DEFAULT_INITIATOR);
    ib->user = user ? strdup(user) : NULL;
    ib->secret = user ? strdup(secret ? secret : "") : NULL;
    if (!ib->remote.name || !ib->initiator || (user && (!ib->user || !ib->secret)))
        return err_set(e, ENOMEM, "no memory");
    return 0;
}

static int iscsi_open(const struct backing_spec *spec, struct backing **out, struct err *e)
{
    struct iscsi_backing *ib = calloc(1, sizeof *ib);
    int rc;

    if (!ib)
        return err_set(e, ENOMEM, "no memory");
    ib->remote.transport = &iscsi_transport;
    ib->kick_task.run = kick_run;
    ib->redirect_task.run = redirect_run;
    if (getrandom(&ib->isid, sizeof ib->isid, GRND_NONBLOCK) != sizeof ib->isid)
        ib->isid = (uint32_t)clock_now_ns();
    rc = take_url(ib, spec, e);
    if (rc == 0)
        rc = remote_open(&ib->remote, spec, e);
    if (rc < 0)
        backing_free(ib);
    else
        *out = &ib->remote.backing;
    return rc;
}

static void iscsi_close(struct backing *b)
{
    struct iscsi_backing *ib = CONTAINER_OF(b, struct iscsi_backing, remote.backing);

    remote_close(&ib->remote);
    backing_free(ib);
}

const struct backing_ops backing_iscsi_ops = {
    .name = "iscsi",
    .open = iscsi_open,
    .close = iscsi_close,
    .submit = remote_submit,
    .status = remote_status,
    .identity = remote_identity,
    .refresh = remote_refresh,
    .reopen = remote_reopen,
};
