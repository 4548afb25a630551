/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * portal.c: listeners, how many may be there that have not logged in, and the list of sessions.
 *
 * What a stranger can take is bounded: connections that have not logged in are counted, in all and
 * by address, and each holds a login's memory at most.  One too many is closed at once.
 */
#include "internal.h"

#include <errno.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <unistd.h>

#define ACCEPTS_AT_A_TIME 64

/* --- strangers ------------------------------------------------------------------------------ */

static bool stranger_enter(struct iscsi *iscsi, const struct sockaddr_storage *peer)
{
    SCOPED_LOCK(&iscsi->mutex);

    return strangers_enter(&iscsi->strangers, peer);
}

void stranger_leave(struct iscsi *iscsi, const struct sockaddr_storage *peer)
{
    SCOPED_LOCK(&iscsi->mutex);

    strangers_leave(&iscsi->strangers, peer);
}

/* --- accepting
 * --------------------------------------------------------------------------------------------- */

static void rest(struct portal *p)
{
    log_line(LOG_LEVEL_ERROR, "iSCSI: no descriptor is left for a client of %s", p->text);
    p->is_resting = true;
    loop_unwatch(p->iscsi->shard[0]->loop, &p->watch);
}

static void on_client(struct watch *watch, uint32_t events)
{
    struct portal *p = CONTAINER_OF(watch, struct portal, watch);

    (void)events;
    for (unsigned i = 0; i < ACCEPTS_AT_A_TIME; i++) {
        struct sockaddr_storage peer = {.ss_family = AF_UNSPEC};
        socklen_t length = sizeof peer;
        int fd =
            accept4(watch->fd, (struct sockaddr *)&peer, &length, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS))
            rest(p);
        if (fd < 0)
            return;
        if (stranger_enter(p->iscsi, &peer))
            conn_accept(p->iscsi, fd, &peer);
        else
            close(fd);
    }
}

void portals_tick(struct iscsi *iscsi)
{
    for (unsigned i = 0; i < iscsi->portal_count; i++) {
        struct portal *p = iscsi->portal[i];

        if (p->is_resting && p->watch.fd >= 0)
            p->is_resting = loop_watch(iscsi->shard[0]->loop, &p->watch) < 0;
    }
}

static void start_portal(struct task *task)
{
    struct portal *p = CONTAINER_OF(task, struct portal, task);

    p->iscsi->portal[p->iscsi->portal_count++] = p;
    p->is_resting = loop_watch(p->iscsi->shard[0]->loop, &p->watch) < 0;
}

int iscsi_listen(struct iscsi *iscsi, const struct config_address *address, struct err *e)
{
    struct portal *p;
    int fd = listen_tcp(address->host, address->port, address->text, SOCK_NONBLOCK, e);

    if (fd < 0)
        return fd;
    p = calloc(1, sizeof *p);
    if (!p) {
        close(fd);
        return err_set(e, ENOMEM, "cannot listen on %s: out of memory", address->text);
    }
    p->iscsi = iscsi;
    p->watch = (struct watch){.fd = fd, .events = EPOLLIN, .ready = on_client};
    snprintf(p->text, sizeof p->text, "%s", address->text);
    p->task.run = start_portal;
    home_post(iscsi->shard[0]->home, &p->task);
    return 0;
}

static void stop_portals(struct task *task)
{
    struct iscsi *iscsi = CONTAINER_OF(task, struct iscsi, stop_task);

    for (unsigned i = 0; i < iscsi->portal_count; i++) {
        struct portal *p = iscsi->portal[i];

        if (!p->is_resting)
            loop_unwatch(iscsi->shard[0]->loop, &p->watch);
        close(p->watch.fd);
        free(p);
    }
    iscsi->portal_count = 0;
}

void iscsi_stop_listening(struct iscsi *iscsi)
{
    if (atomic_exchange(&iscsi->is_stopping, true))
        return;
    iscsi->stop_task.run = stop_portals;
    home_post(iscsi->shard[0]->home, &iscsi->stop_task);
}

void iscsi_set_starting(struct iscsi *iscsi, bool is_starting)
{
    atomic_store(&iscsi->is_starting, is_starting);
}

/* --- making
 * ------------------------------------------------------------------------------------------------------
 */

static char *copy_or_null(const char *text)
{
    return text ? strdup(text) : NULL;
}

int iscsi_create(const struct iscsi_settings *settings, struct iscsi **out, struct err *e)
{
    struct iscsi *iscsi = calloc(1, sizeof *iscsi);
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    unsigned wanted = settings->loops ? settings->loops : (unsigned)MAX(cores, 1);

    if (!iscsi)
        return err_set(e, ENOMEM, "iSCSI: out of memory");
    iscsi->settings = *settings;
    iscsi->settings.discovery_chap = copy_or_null(settings->discovery_chap);
    iscsi->settings.discovery_chap_mutual = copy_or_null(settings->discovery_chap_mutual);
    iscsi->strangers.max = STRANGERS_MAX;
    iscsi->strangers.max_of_address = STRANGERS_OF_ADDRESS_MAX;
    pthread_mutex_init(&iscsi->mutex, NULL);
    pthread_mutex_init(&iscsi->control, NULL);
    pthread_cond_init(&iscsi->session_ended, NULL);
    list_init(&iscsi->targets);
    list_init(&iscsi->sessions);
    list_init(&iscsi->waiters);
    wanted = MIN(wanted, SHARDS_MAX);
    *out = iscsi;
    for (unsigned i = 0; i < wanted; i++) {
        int r = shard_create(iscsi, i, &iscsi->shard[i], e);

        if (r < 0)
            return r; /* the gateway does not start: the process ends */
        iscsi->shard_count++;
    }
    return 0;
}

/* --- looking
 * -----------------------------------------------------------------------------------------------------
 */

static void view_of(const struct conn *c, struct iscsi_session_view *v)
{
    const struct session_parameters *p = &c->parameters;

    *v = (struct iscsi_session_view){
        .initiator = c->initiator,
        .target = c->target ? c->target->name : "",
        .address = c->address,
        .portal = c->portal,
        .tsih = c->tsih,
        .portal_group = c->shard->iscsi->settings.portal_group,
        .header_digest = p->header_digest,
        .data_digest = p->data_digest,
        .is_authenticated = c->is_authenticated,
        .max_send_bytes = p->send_bytes,
        .max_burst_bytes = p->max_burst_bytes,
        .first_burst_bytes = p->first_burst_bytes,
        .immediate_data = p->immediate_data,
        .initial_r2t = p->initial_r2t,
        .age_ns = clock_now_ns() - c->began_ns,
        .commands = atomic_load_explicit(&c->commands, memory_order_relaxed),
        .bytes_in = atomic_load_explicit(&c->bytes_in, memory_order_relaxed),
        .bytes_out = atomic_load_explicit(&c->bytes_out, memory_order_relaxed),
        .tasks = conn_window_used(c),
        .loop = c->shard->index,
    };
    memcpy(v->isid, c->isid, sizeof v->isid);
}

void iscsi_for_each_session(struct iscsi *iscsi,
                            void (*fn)(const struct iscsi_session_view *view, void *arg), void *arg)
{
    SCOPED_LOCK(&iscsi->mutex);

    LIST_FOREACH (node, &iscsi->sessions) {
        const struct conn *c = LIST_ENTRY(node, struct conn, in_sessions);
        struct iscsi_session_view view;

        if (!c->is_shown)
            continue;
        view_of(c, &view);
        fn(&view, arg);
    }
}
