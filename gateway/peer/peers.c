/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * peers.c: making, configuring, looking at and ending it all.  What changes sets is done in the
 * control loop; the public functions go there and wait.
 */
#include "internal.h"

#include <errno.h>
#include <netdb.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <string.h>

#define HANDSHAKE_NS (5 * SECOND_NS)
#define REKEY_RECORDS (UINT64_C(1) << 23)
#define LEASE_WAITS_MOST 4096u
#define SAID_AGAIN_NS (60 * SECOND_NS)

/* --- in the control loop -------------------------------------------------------------------- */

struct loop_call {
    struct task task;
    struct peers *peers;
    int (*run)(struct peers *peers, void *arg, struct err *e);
    void *arg;
    struct err *e;
    int result;
    bool is_done;
};

static void run_call(struct task *task)
{
    struct loop_call *call = CONTAINER_OF(task, struct loop_call, task);
    struct peers *peers = call->peers;
    int result = call->run(peers, call->arg, call->e);
    SCOPED_LOCK(&peers->mutex);

    call->result = result;
    call->is_done = true;
    pthread_cond_broadcast(&peers->done);
}

static int call_in(struct peers *peers, struct loop *loop,
                   int (*run)(struct peers *peers, void *arg, struct err *e), void *arg,
                   struct err *e)
{
    struct loop_call call = {.task.run = run_call, .peers = peers, .run = run, .arg = arg, .e = e};

    home_post(loop_home(loop), &call.task);
    SCOPED_LOCK(&peers->mutex);
    while (!call.is_done)
        pthread_cond_wait(&peers->done, &peers->mutex);
    return call.result;
}

/* --- small services ------------------------------------------------------------------------- */

struct tls *peers_tls(struct peers *peers)
{
    SCOPED_LOCK(&peers->mutex);

    return tls_get(peers->tls);
}

void peers_job_begin(struct peers *peers)
{
    SCOPED_LOCK(&peers->mutex);

    peers->jobs++;
}

void peers_job_done(struct peers *peers)
{
    SCOPED_LOCK(&peers->mutex);

    peers->jobs--;
    pthread_cond_broadcast(&peers->done);
}

void peers_notify(struct peers *peers, const char *what, const char *peer, const char *fmt, ...)
{
    char text[600];
    va_list ap;

    if (!peers->settings.notify)
        return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    peers->settings.notify(peers->settings.context, what, peer, text);
}

/* The row of this sentence, or the one that was used longest ago. */
static struct said *find_said(struct peers *peers, const char *text)
{
    struct said *oldest = &peers->said[0];

    for (unsigned i = 0; i < SAID_MAX; i++) {
        if (strcmp(peers->said[i].text, text) == 0)
            return &peers->said[i];
        if (peers->said[i].at_ns < oldest->at_ns)
            oldest = &peers->said[i];
    }
    return oldest;
}

void peers_say_refused(struct peers *peers, const char *who, const char *reason)
{
    char text[sizeof peers->said[0].text];
    const char *port = strrchr(who, ':');
    uint64_t now_ns = clock_now_ns();
    struct said *said;

    snprintf(text, sizeof text, "%.*s: %s", (int)(port ? port - who : (long)strlen(who)), who,
             reason);
    said = find_said(peers, text);
    if (strcmp(said->text, text) == 0 && now_ns - said->at_ns < SAID_AGAIN_NS)
        return;
    snprintf(said->text, sizeof said->text, "%s", text);
    said->at_ns = now_ns;
    log_line(LOG_LEVEL_WARNING, "refused a connection for gateways: %s client=%s", reason, who);
    peers_notify(peers, "refused", "-", "client:%s reason:%s", who, reason);
}

/* --- the list ------------------------------------------------------------------------------- */

static struct peer *find(struct peers *peers, const char *name, bool also_former)
{
    LIST_FOREACH (node, &peers->list) {
        struct peer *peer = LIST_ENTRY(node, struct peer, link);

        if (strcmp(peer->name, name) == 0 && (also_former || peer->is_configured))
            return peer;
    }
    return NULL;
}

struct peer *peers_find(struct peers *peers, const char *name)
{
    return find(peers, name, false);
}

struct peer *peers_find_any(struct peers *peers, const char *name, struct err *e)
{
    struct peer *peer;
    SCOPED_LOCK(&peers->mutex);

    peer = find(peers, name, false);
    if (!peer)
        err_set(e, ENOENT, "%s is none of the peers in gateway.yaml", name);
    return peer;
}

static struct peer *make_peer(struct peers *peers, const char *name)
{
    struct peer *peer = calloc(1, sizeof *peer);

    if (!peer)
        return NULL;
    peer->peers = peers;
    snprintf(peer->name, sizeof peer->name, "%s", name);
    pthread_mutex_init(&peer->mutex, NULL);
    pthread_cond_init(&peer->changed, NULL);
    list_init(&peer->channels);
    list_init(&peer->remotes);
    list_init(&peer->questions);
    peer->seen.state = "dialling";
    {
        SCOPED_LOCK(&peers->mutex);
        list_append(&peers->list, &peer->link);
    }
    return peer;
}

struct configuration {
    const struct peer_target *targets;
    unsigned count;
};

static bool is_wanted(const struct configuration *c, const char *name)
{
    for (unsigned i = 0; i < c->count; i++)
        if (strcmp(c->targets[i].name, name) == 0)
            return true;
    return false;
}

static void set_configured(struct peer *peer, bool is_configured)
{
    SCOPED_LOCK(&peer->peers->mutex);

    peer->is_configured = is_configured;
}

static void end_sets(struct peer *peer, const char *reason)
{
    dial_cancel(peer);
    if (peer->set && peer->set->is_up)
        wire_send(peer->set->wire[0], FRAME_BYE, 0, reason, strlen(reason));
    if (peer->set)
        set_drop(peer->set, 0, reason);
    dial_cancel(peer);
}

static void configure_peer(struct peer *peer, const struct peer_target *t)
{
    bool has_moved =
        peer->is_configured && (strcmp(peer->host, t->host) != 0 || peer->port != t->port);

    set_configured(peer, true);
    snprintf(peer->host, sizeof peer->host, "%s", t->host);
    peer->port = t->port;
    {
        SCOPED_LOCK(&peer->mutex);
        snprintf(peer->seen.address, sizeof peer->seen.address,
                 strchr(t->host, ':') ? "[%s]:%u" : "%s:%u", t->host, t->port);
    }
    peer->is_final = false;
    peer->said[0] = '\0';
    peer->dial.pause_ns = 0;
    if (has_moved)
        end_sets(peer, "its address has changed");
    if (!peer->set)
        dial_soon(peer, dial_courtesy_ns(peer));
}

static int configure(struct peers *peers, void *arg, struct err *e)
{
    const struct configuration *c = arg;

    LIST_FOREACH (node, &peers->list) {
        struct peer *peer = LIST_ENTRY(node, struct peer, link);

        if (!peer->is_configured || is_wanted(c, peer->name))
            continue;
        set_configured(peer, false);
        end_sets(peer, "it is no peer any more");
    }
    for (unsigned i = 0; i < c->count; i++) {
        struct peer *peer = find(peers, c->targets[i].name, true);

        if (!peer)
            peer = make_peer(peers, c->targets[i].name);
        if (!peer)
            return err_set(e, ENOMEM, "out of memory");
        configure_peer(peer, &c->targets[i]);
    }
    return 0;
}

int peers_configure(struct peers *peers, const struct peer_target *targets, unsigned count,
                    struct err *e)
{
    struct configuration c = {targets, count};

    return call_in(peers, peers->loop, configure, &c, e);
}

/* --- listening, renewing -----------------------------------------------------------------------
 */

struct listening {
    int fd;
    const char *text;
};

static int listen_in_loop(struct peers *peers, void *arg, struct err *e)
{
    const struct listening *l = arg;
    int r = listener_start(peers, l->fd, l->text);

    return r < 0 ? err_set(e, -r, "cannot listen on %s: %s", l->text, strerror(-r)) : 0;
}

int peers_listen(struct peers *peers, const char *host, uint16_t port, const char *text,
                 struct err *e)
{
    struct listening l = {listen_tcp(host, port, text, SOCK_NONBLOCK, e), text};
    int r;

    if (l.fd < 0)
        return l.fd;
    r = call_in(peers, peers->loop, listen_in_loop, &l, e);
    if (r < 0)
        close(l.fd);
    return r;
}

static int renew(struct peers *peers, void *arg, struct err *e)
{
    struct tls *old;
    bool has_changed;

    (void)e;
    {
        SCOPED_LOCK(&peers->mutex);
        old = peers->tls;
        peers->tls = arg;
        has_changed = memcmp(old->sum, peers->tls->sum, sizeof old->sum) != 0;
    }
    tls_put(old);
    LIST_FOREACH (node, &peers->list) {
        struct peer *peer = LIST_ENTRY(node, struct peer, link);

        peer->is_final = false;
        peer->wants_renewal |= has_changed && peer->set;
        if (peer->wants_renewal || !peer->set)
            dial_soon(peer, dial_courtesy_ns(peer));
    }
    return 0;
}

int peers_renew(struct peers *peers, struct err *e)
{
    struct tls *tls;
    int r = tls_read(&peers->settings, &tls, e);

    return r < 0 ? r : call_in(peers, peers->loop, renew, tls, e);
}

/* --- looking -------------------------------------------------------------------------------- */

static void count_channels(const struct peer *peer, struct peer_view *v)
{
    LIST_FOREACH (node, &peer->channels) {
        v->channels++;
        v->channels_connected += LIST_ENTRY(node, struct peer_channel, link)->linked != 0;
    }
}

static void look(struct peer *peer, void (*fn)(const struct peer_view *view, void *arg), void *arg)
{
    struct peer_view v = {.name = peer->name};
    SCOPED_LOCK(&peer->mutex);

    v.address = peer->seen.address;
    v.state = peer->seen.state;
    v.reason = peer->seen.reason;
    v.remote = peer->seen.remote;
    v.tls = peer->seen.tls;
    v.is_dialled = peer->seen.is_dialled;
    v.streams = peer->is_up ? peer->stream_count : 0;
    v.since_ns = peer->is_up ? peer->seen.since_ns : 0;
    v.heard_ns = atomic_load(&peer->heard_ns);
    v.round_trip_ns = peer->is_up ? atomic_load(&peer->round_trip_ns) : 0;
    v.bytes_in = peer->seen.bytes_in;
    v.bytes_out = peer->seen.bytes_out;
    v.messages_in = atomic_load(&peer->messages_in);
    v.messages_out = atomic_load(&peer->messages_out);
    v.losses = peer->seen.losses;
    v.renewals = peer->seen.renewals;
    v.rekeys = peer->seen.rekeys;
    v.certificate_end = peer->seen.certificate_end;
    count_channels(peer, &v);
    fn(&v, arg);
}

void peers_for_each(struct peers *peers, void (*fn)(const struct peer_view *view, void *arg),
                    void *arg)
{
    SCOPED_LOCK(&peers->mutex);

    LIST_FOREACH (node, &peers->list) {
        struct peer *peer = LIST_ENTRY(node, struct peer, link);

        if (peer->is_configured)
            look(peer, fn, arg);
    }
}

/* --- making and ending ------------------------------------------------------------------------ */

static void free_peers(struct peers *peers)
{
    tls_put(peers->tls);
    free((char *)(uintptr_t)peers->settings.name);
    free((char *)(uintptr_t)peers->settings.ca);
    free((char *)(uintptr_t)peers->settings.certificate);
    free((char *)(uintptr_t)peers->settings.key);
    pthread_mutex_destroy(&peers->mutex);
    pthread_cond_destroy(&peers->done);
    free(peers);
}

static int copy_settings(struct peers *peers, const struct peers_settings *from)
{
    struct peers_settings *s = &peers->settings;

    *s = *from;
    s->name = strdup(from->name);
    s->ca = strdup(from->ca);
    s->certificate = strdup(from->certificate);
    s->key = strdup(from->key);
    s->streams = MIN(MAX(from->streams, 1u), PEER_STREAMS_MAX);
    s->window_bytes = MIN(MAX(from->window_bytes, PEER_WINDOW_MIN), PEER_WINDOW_MAX);
    s->handshake_ns = from->handshake_ns ? from->handshake_ns : HANDSHAKE_NS;
    s->rekey_records = from->rekey_records ? from->rekey_records : REKEY_RECORDS;
    s->lease_waits_most = from->lease_waits_most ? from->lease_waits_most : LEASE_WAITS_MOST;
    return s->name && s->ca && s->certificate && s->key ? 0 : -ENOMEM;
}

static int start_loops(struct peers *peers, struct err *e)
{
    peers->loop = loop_create("peer", e);
    if (!peers->loop)
        return -e->code;
    peers->home = loop_home(peers->loop);
    while (peers->bulk_count < peers->settings.streams) {
        char name[16];

        snprintf(name, sizeof name, "peer-%u", peers->bulk_count + 1);
        peers->bulk[peers->bulk_count] = loop_create(name, e);
        if (!peers->bulk[peers->bulk_count])
            return -e->code;
        peers->bulk_count++;
    }
    return 0;
}

static void end_loops(struct peers *peers)
{
    for (unsigned i = 0; i < peers->bulk_count; i++)
        loop_destroy(peers->bulk[i]);
    if (peers->loop)
        loop_destroy(peers->loop);
}

int peers_create(const struct peers_settings *settings, struct peers **out, struct err *e)
{
    struct peers *peers = calloc(1, sizeof *peers);
    int r;

    if (!peers)
        return err_set(e, ENOMEM, "out of memory");
    peers->strangers.max = STRANGERS_OF_ALL_MAX;
    peers->strangers.max_of_address = STRANGERS_OF_ADDRESS_MAX;
    pthread_mutex_init(&peers->mutex, NULL);
    pthread_cond_init(&peers->done, NULL);
    list_init(&peers->list);
    list_init(&peers->wires);
    r = copy_settings(peers, settings);
    if (r < 0 || RAND_bytes(peers->boot, sizeof peers->boot) != 1)
        r = err_set(e, ENOMEM, "out of memory");
    if (r == 0)
        r = tls_read(&peers->settings, &peers->tls, e);
    if (r == 0)
        r = start_loops(peers, e);
    if (r == 0) {
        *out = peers;
        return 0;
    }
    end_loops(peers);
    free_peers(peers);
    return r;
}

static int stop(struct peers *peers, void *arg, struct err *e)
{
    (void)arg, (void)e;
    peers->is_stopping = true;
    listeners_stop(peers);
    LIST_FOREACH (node, &peers->list)
        end_sets(LIST_ENTRY(node, struct peer, link), "the gateway stops");
    LIST_FOREACH (node, &peers->wires)
        wire_fail(LIST_ENTRY(node, struct wire, link), -ESHUTDOWN, "the gateway stops");
    return 0;
}

void peers_stop(struct peers *peers)
{
    call_in(peers, peers->loop, stop, NULL, NULL);
}

static int has_wires(struct peers *peers, void *arg, struct err *e)
{
    (void)arg, (void)e;
    return !list_is_empty(&peers->wires);
}

static int nothing(struct peers *peers, void *arg, struct err *e)
{
    (void)peers, (void)arg, (void)e;
    return 0;
}

static void wait_for_the_last(struct peers *peers)
{
    {
        SCOPED_LOCK(&peers->mutex);
        while (peers->jobs)
            pthread_cond_wait(&peers->done, &peers->mutex);
    }
    do
        for (unsigned i = 0; i < peers->bulk_count; i++)
            call_in(peers, peers->bulk[i], nothing, NULL, NULL);
    while (call_in(peers, peers->loop, has_wires, NULL, NULL));
    for (unsigned i = 0; i < peers->bulk_count; i++)
        call_in(peers, peers->bulk[i], nothing, NULL, NULL);
}

void peers_destroy(struct peers *peers)
{
    wait_for_the_last(peers);
    end_loops(peers);
    LIST_FOREACH_SAFE (node, &peers->list) {
        struct peer *peer = LIST_ENTRY(node, struct peer, link);

        free(peer->slot);
        pthread_mutex_destroy(&peer->mutex);
        pthread_cond_destroy(&peer->changed);
        free(peer);
    }
    free_peers(peers);
}
