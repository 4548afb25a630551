/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * conn.c: the life of a connection: accepted by the first shard, handed to the one with the fewest,
 * and ended in steps:
 *
 *     conn_end() -> socket closed, what waits for data forgotten -> nexus closes (its last write
 * has ended) -> the claim on the initiator port is released, which lets its next session in ->
 * freed
 *
 * A job thread that is under way is waited for before anything else is taken down.
 */
#include "internal.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/epoll.h>

/* --- the end
 * -------------------------------------------------------------------------------------- */

static void free_now(struct task *task)
{
    struct conn *c = CONTAINER_OF(task, struct conn, free_task);
    struct shard *s = c->shard;

    list_remove(&c->in_shard);
    atomic_fetch_sub(&s->conn_count, 1);
    login_free(c->login);
    free(c->scratch);
    free(c->text_in);
    free(c->text_out);
    if (c->target)
        target_put(s->iscsi, c->target);
    free(c);
}

/* Posted, not run: whoever reached for this connection under the mutex has posted before. */
static void finish(struct conn *c)
{
    entry_release(c);
    c->free_task.run = free_now;
    home_post(c->shard->home, &c->free_task);
}

/* After a logout the end may have been asked for already, but not have begun: it finishes then. */
static void on_nexus_closed(void *arg)
{
    struct conn *c = arg;

    c->nexus = NULL;
    if (c->state == CONN_CLEANUP)
        finish(c);
    else if (!c->is_ending)
        logout_nexus_closed(c);
}

void conn_close_nexus(struct conn *c)
{
    c->is_nexus_closing = true;
    scsi_nexus_close(c->nexus, on_nexus_closed, c);
}

static void say_end(const struct conn *c)
{
    struct iscsi *iscsi = c->shard->iscsi;
    char text[1000];

    if (!c->tsih)
        return;
    snprintf(text, sizeof text, "initiator:%s client:%s reason:%s", c->initiator, c->address,
             c->reason[0] ? c->reason : "logged out");
    text_one_line(text);
    iscsi->settings.notify(iscsi->settings.context, "logout", c->target ? c->target->name : "",
                           text);
}

static void close_socket(struct conn *c)
{
    if (c->watch.fd < 0)
        return;
    loop_unwatch(c->shard->loop, &c->watch);
    close(c->watch.fd);
    c->watch.fd = -1;
    if (c->is_stranger)
        stranger_leave(c->shard->iscsi, &c->peer);
    c->is_stranger = false;
    say_end(c);
}

static void take_down(struct conn *c)
{
    c->state = CONN_CLEANUP;
    close_socket(c);
    if (c->is_job_running)
        return; /* job_done() comes here again */
    conn_drop_outs(c);
    tasks_forget_receiving(c, false);
    if (!c->nexus)
        finish(c);
    else if (!c->is_nexus_closing)
        conn_close_nexus(c);
}

static void on_end(struct task *task)
{
    take_down(CONTAINER_OF(task, struct conn, end_task));
}

void conn_end(struct conn *c, const char *fmt, ...)
{
    va_list args;

    if (c->is_ending)
        return;
    c->is_ending = true;
    va_start(args, fmt);
    vsnprintf(c->reason, sizeof c->reason, fmt, args);
    va_end(args);
    c->end_task.run = on_end;
    home_run_later(c->shard->home, &c->end_task);
}

/* --- jobs
 * ------------------------------------------------------------------------------------------- */

static void job_done(struct task *task)
{
    struct conn *c = CONTAINER_OF(task, struct conn, job_task);

    c->is_job_running = false;
    if (c->state == CONN_CLEANUP)
        take_down(c);
    else if (!c->is_ending)
        c->job_finished(c);
}

static void *job_thread(void *arg)
{
    struct conn *c = arg;

    c->job(c);
    home_post(c->shard->home, &c->job_task);
    return NULL;
}

void conn_start_job(struct conn *c, void (*job)(struct conn *c), void (*finished)(struct conn *c))
{
    c->job = job;
    c->job_finished = finished;
    c->job_task.run = job_done;
    c->is_job_running = true;
    if (thread_start(NULL, job_thread, c) == 0)
        return;
    c->is_job_running = false;
    conn_end(c, "there is no thread left for a login");
}

/* --- the socket
 * --------------------------------------------------------------------------------------- */

void conn_update_watch(struct conn *c)
{
    bool is_reading = !c->is_paused && c->out_bytes < OUT_HIGH_BYTES;
    uint32_t wanted =
        (is_reading ? (uint32_t)EPOLLIN : 0) | (c->is_waiting_to_write ? (uint32_t)EPOLLOUT : 0);

    if (!c->is_ending && wanted != c->watch.events &&
        loop_rewatch(c->shard->loop, &c->watch, wanted) < 0)
        conn_end(c, "the connection cannot be watched");
}

void conn_pause(struct conn *c, bool is_paused)
{
    c->is_paused = is_paused;
    conn_update_watch(c);
}

static void on_ready(struct watch *watch, uint32_t events)
{
    struct conn *c = CONTAINER_OF(watch, struct conn, watch);

    if (c->is_ending)
        return;
    if (events & EPOLLOUT)
        conn_flush(c);
    if (!c->is_ending && (events & EPOLLIN) && !c->is_paused)
        conn_receive(c);
    else if (!c->is_ending && (events & (EPOLLERR | EPOLLHUP)))
        conn_end(c, "the initiator closed the connection");
    if (c->out_bytes >= OUT_HIGH_BYTES)
        conn_update_watch(c);
}

/* --- time
 * --------------------------------------------------------------------------------------------- */

static void check_silence(struct conn *c, uint64_t now_ns)
{
    if (now_ns > c->heard_ns + DEAD_AFTER_NS) {
        conn_end(c, "nothing was heard of the initiator for %u s",
                 (unsigned)(DEAD_AFTER_NS / TICK_NS));
    } else if (now_ns > c->heard_ns + PING_AFTER_NS && c->pinged_ns < c->heard_ns) {
        c->pinged_ns = now_ns;
        conn_ping(c);
    }
}

void conn_tick(struct conn *c)
{
    uint64_t now_ns = c->shard->now_ns;

    if (c->is_ending)
        return;
    if (c->deadline_ns && now_ns > c->deadline_ns) {
        conn_end(c, c->state == CONN_IN_LOGIN ? "the login took too long"
                                              : "what was in flight did not end after a logout");
        return;
    }
    if (c->state != CONN_LOGGED_IN)
        return;
    managements_check_time(c, now_ns);
    tasks_check_time(c, now_ns);
    check_silence(c, now_ns);
}

/* --- the beginning
 * --------------------------------------------------------------------------------------- */

static void on_start(struct task *task)
{
    struct conn *c = CONTAINER_OF(task, struct conn, flush_task);
    struct shard *s = c->shard;

    list_append(&s->conns, &c->in_shard);
    c->began_ns = c->heard_ns = clock_now_ns();
    c->deadline_ns = c->began_ns + LOGIN_LIMIT_NS;
    c->watch.events = EPOLLIN;
    if (loop_watch(s->loop, &c->watch) < 0)
        conn_end(c, "the connection cannot be watched");
}

static struct shard *choose_shard(struct iscsi *iscsi)
{
    struct shard *best = iscsi->shard[0];

    for (unsigned i = 1; i < iscsi->shard_count; i++)
        if (atomic_load(&iscsi->shard[i]->conn_count) < atomic_load(&best->conn_count))
            best = iscsi->shard[i];
    return best;
}

static void set_options(int fd)
{
    int one = 1;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
}

static void init(struct conn *c)
{
    struct negotiation defaults;

    negotiation_init(&defaults, false);
    c->parameters = defaults.parameters;
    c->head_wanted = BHS_BYTES;
    c->out_last = &c->out_first;
    list_init(&c->in_shard);
    list_init(&c->tasks);
    list_init(&c->managements);
    list_init(&c->in_sessions);
    list_init(&c->in_waiters);
}

void conn_accept(struct iscsi *iscsi, int fd, const struct sockaddr_storage *peer)
{
    struct conn *c = calloc(1, sizeof *c);
    struct sockaddr_storage local = {.ss_family = AF_UNSPEC};
    socklen_t length = sizeof local;

    if (!c) {
        close(fd);
        stranger_leave(iscsi, peer);
        return;
    }
    init(c);
    set_options(fd);
    c->shard = choose_shard(iscsi);
    atomic_fetch_add(&c->shard->conn_count, 1);
    c->watch = (struct watch){.fd = fd, .ready = on_ready};
    c->peer = *peer;
    c->is_stranger = true;
    address_text(peer, c->address, sizeof c->address);
    if (getsockname(fd, (struct sockaddr *)&local, &length) == 0)
        address_text(&local, c->portal, sizeof c->portal);
    c->flush_task.run = on_start;
    home_post(c->shard->home, &c->flush_task);
}
