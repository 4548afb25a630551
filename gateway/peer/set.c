/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * set.c: the connections to one peer as a whole.  It is up when control and every stream have been
 * greeted, and lost with the first of them.  Heartbeats run on control alone, in a loop without
 * bulk data, so that nothing makes a living peer look dead.
 *
 * A renewal is a second set that is made while the first is up.  When it stands, each side sends
 * SWITCH as the last frame of each old connection and goes on, on the new one, which the other side
 * reads from that frame on: nothing is lost, doubled or overtaken.
 */
#include "internal.h"

#include <errno.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <string.h>

/* For a set to come up: a handshake for control, then one for the streams, all at once. */
#define HANDSHAKES 3u
#define PROBE_NS (SECOND_NS / 2)

bool set_is_ours_kept(const struct peer *peer)
{
    return strcmp(peer->peers->settings.name, peer->name) < 0;
}

/* --- what others see ------------------------------------------------------------------------ */

static void collect_bytes(const struct set *set, uint64_t *in, uint64_t *out, uint64_t *rekeys)
{
    *in = *out = *rekeys = 0;
    for (unsigned i = 0; i <= set->streams; i++) {
        const struct wire *c = set->wire[i];

        *in += c ? atomic_load(&c->bytes_in) : 0;
        *out += c ? atomic_load(&c->bytes_out) : 0;
        *rekeys += c ? atomic_load(&c->rekeys) : 0;
    }
}

static void show_bytes(const struct set *set)
{
    struct peer *peer = set->peer;
    uint64_t in, out, rekeys;

    collect_bytes(set, &in, &out, &rekeys);
    SCOPED_LOCK(&peer->mutex);
    peer->seen.bytes_in = in;
    peer->seen.bytes_out = out;
    peer->seen.rekeys = rekeys;
}

static void show_up(struct set *set)
{
    struct peer *peer = set->peer;
    struct wire *c = set->wire[0];
    char tls[sizeof peer->seen.tls];
    int64_t end;

    pthread_mutex_lock(&c->ssl_mutex);
    snprintf(tls, sizeof tls, "%s %s", SSL_get_version(c->ssl), SSL_get_cipher_name(c->ssl));
    end = tls_certificate_end(SSL_get0_peer_certificate(c->ssl));
    pthread_mutex_unlock(&c->ssl_mutex);
    SCOPED_LOCK(&peer->mutex);
    peer->seen.state = "connected";
    peer->seen.reason[0] = '\0';
    peer->seen.since_ns = clock_now_ns();
    peer->seen.is_dialled = set->is_dialled;
    peer->seen.certificate_end = end;
    snprintf(peer->seen.remote, sizeof peer->seen.remote, "%s", c->address);
    snprintf(peer->seen.tls, sizeof peer->seen.tls, "%s", tls);
}

static void show_down(struct peer *peer, const char *reason)
{
    SCOPED_LOCK(&peer->mutex);

    peer->seen.state = "dialling";
    snprintf(peer->seen.reason, sizeof peer->seen.reason, "%s", reason);
    peer->seen.remote[0] = peer->seen.tls[0] = '\0';
    peer->seen.losses++;
}

/* --- the end -------------------------------------------------------------------------------- */

/* Those of an earlier set, which had not yet been left. */
static void end_leaving(struct peer *peer, const char *reason)
{
    LIST_FOREACH (node, &peer->peers->wires) {
        struct wire *c = LIST_ENTRY(node, struct wire, link);

        if (c->is_leaving && c->peer == peer)
            wire_fail(c, 0, "%s", reason);
    }
}

static void tell_lost(struct peer *peer, const char *reason)
{
    end_leaving(peer, reason);
    show_down(peer, reason);
    channels_unlink(peer, reason);
    questions_fail(peer, reason);
    log_line(LOG_LEVEL_WARNING, "lost: %s peer=%s", reason, peer->name);
    peers_notify(peer->peers, "lost", peer->name, "reason:%s", reason);
}

static void end_wires(struct set *set, int code, const char *reason)
{
    for (unsigned i = 0; i <= set->streams; i++) {
        struct wire *c = set->wire[i];

        if (!c)
            continue;
        c->set = NULL;
        wire_fail(c, code, "%s", reason);
    }
}

static void go_on(struct peer *peer, bool was_up, bool was_dialled, int code, const char *reason)
{
    if (was_up) {
        tell_lost(peer, reason);
        if (peer->coming)
            set_drop(peer->coming, code, reason);
    }
    if (was_dialled && !was_up)
        dial_failed(peer, code, reason);
    else
        dial_soon(peer, dial_courtesy_ns(peer));
}

void set_drop(struct set *set, int code, const char *reason)
{
    struct peer *peer = set->peer;
    bool was_up = set->is_up, was_dialled = set->is_dialled;
    char text[300];

    snprintf(text, sizeof text, "%s", reason);
    if (peer->set == set)
        peer->set = NULL;
    else
        peer->coming = NULL;
    loop_timer_cancel(peer->peers->loop, &set->tick);
    end_wires(set, code, text);
    free(set);
    go_on(peer, was_up, was_dialled, code, text);
}

/* --- heartbeats ----------------------------------------------------------------------------- */

static void ping(struct set *set, uint64_t now_ns)
{
    uint8_t data[8];

    put64(data, now_ns);
    wire_send(set->wire[0], FRAME_PING, 0, data, sizeof data);
}

static void on_tick(struct timer *timer)
{
    struct set *set = CONTAINER_OF(timer, struct set, tick);
    struct peer *peer = set->peer;
    const struct peers_settings *s = &peer->peers->settings;
    uint64_t now_ns = clock_now_ns(), heard_ns = atomic_load(&peer->heard_ns);
    char reason[100];

    snprintf(reason, sizeof reason, "nothing was heard of it for %.1f s",
             (double)(now_ns - heard_ns) / 1e9);
    if (!set->is_up) {
        set_drop(set, -ETIMEDOUT, "its connections did not all stand in time");
    } else if (now_ns - heard_ns > s->timeout_ns || heard_ns < set->probe_ns) {
        set_drop(set, -ETIMEDOUT, reason);
    } else {
        show_bytes(set);
        ping(set, now_ns);
        loop_timer_set(peer->peers->loop, timer, now_ns + s->heartbeat_ns);
    }
}

/* It dials although this side believes it connected: whether it does not answer any more. */
void set_probe(struct set *set)
{
    struct loop *loop = set->peer->peers->loop;

    if (set->probe_ns > atomic_load(&set->peer->heard_ns))
        return;
    set->probe_ns = clock_now_ns();
    ping(set, set->probe_ns);
    loop_timer_set(loop, &set->tick, set->probe_ns + PROBE_NS);
}

/* --- beginning ------------------------------------------------------------------------------ */

struct set *set_new(struct peer *peer, bool is_dialled, bool is_renewal)
{
    struct set *set = calloc(1, sizeof *set);
    const struct peers_settings *s = &peer->peers->settings;

    if (!set)
        return NULL;
    set->peer = peer;
    set->is_dialled = is_dialled;
    set->is_renewal = is_renewal;
    set->streams = is_renewal ? peer->set->streams : s->streams;
    set->tick.fire = on_tick;
    loop_timer_set(peer->peers->loop, &set->tick, clock_now_ns() + HANDSHAKES * s->handshake_ns);
    if (is_renewal)
        peer->coming = set;
    else
        peer->set = set;
    return set;
}

static void forget(struct set *set)
{
    struct peer *peer = set->peer;

    loop_timer_cancel(peer->peers->loop, &set->tick);
    if (peer->set == set)
        peer->set = NULL;
    else
        peer->coming = NULL;
    free(set);
}

int set_dial(struct peer *peer, const struct sockaddr_storage *address)
{
    struct set *set;
    int r;

    if (peer->coming || (peer->set && !peer->set->is_up))
        return -EBUSY; /* the other side was faster */
    set = set_new(peer, true, peer->set != NULL);
    if (!set)
        return -ENOMEM;
    set->address = *address;
    r = RAND_bytes(set->id, sizeof set->id) == 1 ? dial_connect(set, 0) : -EIO;
    if (r < 0)
        forget(set);
    return r;
}

/* --- up ------------------------------------------------------------------------------------- */

static void begin_streams(struct set *set)
{
    struct peers *peers = set->peer->peers;

    for (unsigned i = 1; i <= set->streams; i++)
        wire_open(set->wire[i], peers->bulk[(i - 1) % peers->bulk_count]);
    channels_link(set->peer, set);
}

/* The old connections go on by themselves until both sides have sent SWITCH. */
static void take_over(struct set *set)
{
    struct peer *peer = set->peer;
    struct set *old = peer->set;

    for (unsigned i = 0; i <= set->streams; i++) {
        struct wire *c = old->wire[i];

        c->set = NULL;
        c->is_leaving = true;
        wire_succeed(c, set->wire[i]);
    }
    channels_switch(peer, set);
    wire_send(old->wire[0], FRAME_SWITCH, 0, NULL, 0);
    loop_timer_cancel(peer->peers->loop, &old->tick);
    free(old);
    peer->set = set;
    peer->coming = NULL;
    SCOPED_LOCK(&peer->mutex);
    peer->seen.renewals++;
}

/* Made with the certificates that are in force. */
static bool is_of_now(const struct set *set)
{
    struct tls *tls = peers_tls(set->peer->peers);
    bool answer = set->wire[0]->tls == tls;

    tls_put(tls);
    return answer;
}

static void set_is_up(struct set *set)
{
    struct peer *peer = set->peer;

    set->is_up = true;
    peer->wants_renewal = !is_of_now(set);
    if (set->is_renewal) {
        take_over(set);
    } else {
        atomic_store(&peer->heard_ns, clock_now_ns());
        begin_streams(set);
    }
    dial_succeeded(peer);
    if (peer->wants_renewal)
        dial_soon(peer, dial_courtesy_ns(peer));
    show_up(set);
    loop_timer_set(peer->peers->loop, &set->tick, clock_now_ns());
    log_line(LOG_LEVEL_NOTICE, "%s: %s, %s, %u stream%s peer=%s",
             set->is_renewal ? "connections renewed" : "connected", peer->seen.remote,
             peer->seen.tls, set->streams, set->streams == 1 ? "" : "s", peer->name);
    peers_notify(peer->peers, set->is_renewal ? "renewed" : "connected", peer->name,
                 "address:%s tls:%s", peer->seen.remote, peer->seen.tls);
}

static void dial_streams(struct set *set)
{
    for (unsigned i = 1; i <= set->streams; i++) {
        int r = dial_connect(set, i);

        if (r < 0) {
            set_drop(set, r, strerror(-r));
            return;
        }
    }
}

void set_wire_greeted(struct set *set, struct wire *c)
{
    if (c->number > 0 || set->is_renewal) {
        wire_park(c);
    } else {
        c->state = WIRE_OPEN;
        loop_timer_cancel(c->loop, &c->deadline);
    }
    if (c->number == 0 && set->is_dialled)
        dial_streams(set);
    else if (c->number > 0 && ++set->ready == set->streams)
        set_is_up(set);
}

/* --- what comes on control ------------------------------------------------------------------ */

static void take_pong(struct peer *peer, const struct frame *frame)
{
    uint64_t sent_ns = get64(frame->data), now_ns = clock_now_ns();

    if (sent_ns <= now_ns)
        atomic_store(&peer->round_trip_ns, now_ns - sent_ns);
}

static void take_goodbye(struct wire *c, const struct frame *frame)
{
    char text[PEER_TEXT_MAX + 1], reason[PEER_TEXT_MAX + 40];

    frame_text(frame, text, sizeof text);
    snprintf(reason, sizeof reason, "it says goodbye: %s", text);
    wire_fail(c, -ESHUTDOWN, "%s", reason);
}

void set_control(struct wire *c, const struct frame *frame)
{
    atomic_store(&c->peer->heard_ns, clock_now_ns());
    switch (frame->type) {
    case FRAME_PING:
        wire_send(c, FRAME_PONG, 0, frame->data, frame->length);
        break;
    case FRAME_PONG:
        take_pong(c->peer, frame);
        break;
    case FRAME_BYE:
        take_goodbye(c, frame);
        break;
    case FRAME_ASK:
        ask_frame(c, frame);
        break;
    case FRAME_ANSWER:
        answer_frame(c, frame);
        break;
    default:
        break;
    }
}

/* --- a connection has ended ----------------------------------------------------------------- */

static void lone_wire_ended(struct wire *c)
{
    bool is_nothing =
        c->code == -EBUSY || (c->code == -ECONNRESET &&
                              (atomic_load(&c->bytes_in) == 0 || SSL_is_init_finished(c->ssl)));

    if (c->is_accepted && !c->peer && !is_nothing && !c->peers->is_stopping) {
        peers_say_refused(c->peers, c->address, c->reason);
    } else if (c->is_leaving && c->code < 0 && c->peer->set) {
        char reason[400];

        snprintf(reason, sizeof reason, "the move to new connections broke off: %s", c->reason);
        set_drop(c->peer->set, c->code, reason);
    }
}

/* A goodbye on control that nobody has read yet explains the end of a stream. */
static const struct wire *better_reason(struct set *set, const struct wire *c)
{
    struct wire *control = set->wire[0];

    if (!set->is_up || !control || c->code != -ECONNRESET)
        return c;
    if (!atomic_load(&control->has_failed) && control->state == WIRE_OPEN)
        wire_read(control);
    return control->code == -ESHUTDOWN ? control : c;
}

void set_wire_ended(struct wire *c)
{
    struct set *set = c->set;
    const struct wire *why;

    if (!set) {
        lone_wire_ended(c);
        return;
    }
    set->wire[c->number] = NULL;
    c->set = NULL;
    why = better_reason(set, c);
    set_drop(set, why->code, why->reason);
}
