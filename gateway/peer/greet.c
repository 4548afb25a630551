/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * greet.c: who is there.  The one that dialled says HELLO, the other WELCOME or REFUSE; both have
 * checked the other's certificate by then, and compare its name with the one that is said.
 *
 * Both gateways dial, so both may have a connection under way to the other.  The one of the gateway
 * whose name is first in the alphabet is kept: it refuses the other's as busy, the other lets go of
 * its own.  A HELLO while a set is up means that the other side has lost it: one of another boot
 * replaces it at once, one of the same boot when the old set does not answer a ping.
 */
#include "internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static void fill_hello(struct hello *h, const struct set *set, unsigned number)
{
    const struct peers *peers = set->peer->peers;

    memset(h, 0, sizeof *h);
    h->oldest = h->newest = FRAME_VERSION;
    h->number = (uint8_t)number;
    h->streams = (uint8_t)set->streams;
    h->is_renewal = set->is_renewal;
    h->window_bytes = peers->settings.window_bytes;
    memcpy(h->boot, peers->boot, sizeof h->boot);
    memcpy(h->set, set->id, sizeof h->set);
    snprintf(h->from, sizeof h->from, "%s", peers->settings.name);
    snprintf(h->to, sizeof h->to, "%s", set->peer->name);
}

static void send_hello(struct wire *c, enum frame_type type)
{
    uint8_t data[HELLO_BYTES_MAX];
    struct hello hello;

    fill_hello(&hello, c->set, c->number);
    wire_send(c, type, 0, data, hello_put(data, &hello));
}

/* TLS stands. */
void greet_begin(struct wire *c)
{
    struct err e = {0};
    int r;

    if (c->is_accepted)
        return;
    {
        SCOPED_LOCK(&c->ssl_mutex);
        r = tls_check_name(c->ssl, c->peer->name, &e);
    }
    if (r < 0)
        wire_fail(c, r, "%s", e.text);
    else
        send_hello(c, FRAME_HELLO);
}

/* --- the side that dialled ------------------------------------------------------------------ */

static const int refusal_errors[] = {[REFUSED_BUSY] = -EBUSY,
                                     [REFUSED_VERSION] = -EPROTONOSUPPORT,
                                     [REFUSED_IDENTITY] = -EKEYREJECTED,
                                     [REFUSED_STOPPING] = -ESHUTDOWN};

static void take_refusal(struct wire *c, const struct frame *frame)
{
    char text[PEER_TEXT_MAX + 1];
    int error = frame->channel > 0 && frame->channel < ARRAY_SIZE(refusal_errors)
                    ? refusal_errors[frame->channel]
                    : -EPROTO;

    frame_text(frame, text, sizeof text);
    wire_fail(c, error, "it refuses: %s", text);
}

void greet_dialled(struct wire *c, const struct frame *frame)
{
    struct hello h;
    struct err e = {0};

    if (frame->type == FRAME_REFUSE) {
        take_refusal(c, frame);
        return;
    }
    if (!c->set)
        return; /* ended meanwhile */
    if (frame->type != FRAME_WELCOME || hello_get(frame, &h, &e) < 0 ||
        strcmp(h.from, c->peer->name) != 0 || h.number != c->number ||
        memcmp(h.set, c->set->id, sizeof h.set) != 0) {
        wire_fail(c, -EPROTO, "its welcome does not fit: %s", e.text);
        return;
    }
    memcpy(c->set->boot, h.boot, sizeof h.boot);
    set_wire_greeted(c->set, c);
}

/* --- the side that was dialled -------------------------------------------------------------- */

static void refuse(struct wire *c, enum refusal why, const char *text)
{
    wire_send(c, FRAME_REFUSE, why, text, strlen(text));
    wire_fail(c, refusal_errors[why], "%s", text);
}

PRINTF_LIKE(3, 4)
static void refuse_identity(struct wire *c, int error, const char *fmt, ...)
{
    char text[PEER_TEXT_MAX];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    wire_send(c, FRAME_REFUSE, REFUSED_IDENTITY, text, strlen(text));
    wire_fail(c, error, "%s", text);
}

static int check_identity(struct wire *c, const struct hello *h)
{
    const char *own = c->peers->settings.name;
    struct err e = {0};
    int r;

    {
        SCOPED_LOCK(&c->ssl_mutex);
        r = tls_check_name(c->ssl, h->from, &e);
    }
    if (r < 0)
        refuse_identity(c, r, "%s", e.text);
    else if (strcmp(h->to, own) != 0)
        refuse_identity(c, r = -EKEYREJECTED, "it wants %s, and this is %s", h->to, own);
    else if (!peers_find(c->peers, h->from))
        refuse_identity(c, r = -EKEYREJECTED, "%s is none of the peers of %s", h->from, own);
    return r;
}

static bool is_under_way(const struct set *set)
{
    return set->is_dialled && set->wire[0] && set->wire[0]->state > WIRE_CONNECTING;
}

/* Whether the peer's new set may be; makes room for it.  NULL: yes, else why not. */
static const char *make_room(struct peer *peer, const struct hello *h)
{
    struct set *set = peer->set;

    if (!set)
        return NULL;
    if (!set->is_up) {
        if (is_under_way(set) && set_is_ours_kept(peer))
            return "a connection is under way the other way";
        set_drop(set, -EBUSY, "the peer's own connection comes first");
        return NULL;
    }
    if (memcmp(set->boot, h->boot, sizeof h->boot) != 0) {
        set_drop(set, -ECONNRESET, "it has started anew");
        return NULL;
    }
    set_probe(set);
    return "the old connections still stand";
}

static const char *make_room_for_renewal(struct peer *peer, const struct hello *h)
{
    if (!peer->set || !peer->set->is_up || peer->set->streams != h->streams ||
        memcmp(peer->set->boot, h->boot, sizeof h->boot) != 0)
        return "there is nothing to be renewed";
    if (peer->coming && set_is_ours_kept(peer))
        return "a renewal is under way the other way";
    if (peer->coming)
        set_drop(peer->coming, -EBUSY, "the peer's own connection comes first");
    return NULL;
}

static void join(struct wire *c, struct set *set, const struct hello *h)
{
    if (c->is_stranger)
        strangers_leave(&c->peers->strangers, &c->other);
    c->is_stranger = false;
    c->peer = set->peer;
    c->set = set;
    c->number = h->number;
    set->wire[h->number] = c;
    send_hello(c, FRAME_WELCOME);
    if (!atomic_load(&c->has_failed))
        set_wire_greeted(set, c);
}

static void take_control(struct wire *c, struct peer *peer, const struct hello *h)
{
    const char *busy = h->is_renewal ? make_room_for_renewal(peer, h) : make_room(peer, h);
    struct set *set;

    if (busy) {
        refuse(c, REFUSED_BUSY, busy);
        return;
    }
    dial_cancel(peer);
    set = set_new(peer, false, h->is_renewal);
    if (!set) {
        wire_fail(c, -ENOMEM, "out of memory");
        return;
    }
    set->streams = h->streams;
    memcpy(set->id, h->set, sizeof set->id);
    memcpy(set->boot, h->boot, sizeof set->boot);
    join(c, set, h);
}

static struct set *find_set(struct peer *peer, const struct hello *h)
{
    struct set *sets[] = {peer->set, peer->coming};

    for (unsigned i = 0; i < ARRAY_SIZE(sets); i++) {
        struct set *set = sets[i];

        if (set && !set->is_dialled && !set->is_up && set->streams == h->streams &&
            memcmp(set->id, h->set, sizeof h->set) == 0)
            return set;
    }
    return NULL;
}

static void take_stream(struct wire *c, struct peer *peer, const struct hello *h)
{
    struct set *set = find_set(peer, h);

    if (!set || set->wire[h->number])
        refuse(c, REFUSED_BUSY, "there is no such set of connections any more");
    else
        join(c, set, h);
}

void greet_accepted(struct wire *c, const struct frame *frame)
{
    struct peer *peer;
    struct hello h;
    struct err e = {0};

    if (frame->type != FRAME_HELLO || hello_get(frame, &h, &e) < 0) {
        wire_fail(c, -EPROTO, "%s", e.text[0] ? e.text : "it does not begin with a greeting");
        return;
    }
    if (check_identity(c, &h) < 0)
        return;
    peer = peers_find(c->peers, h.from);
    if (h.oldest > FRAME_VERSION || h.newest < FRAME_VERSION)
        refuse(c, REFUSED_VERSION, "no version of the protocol is common to both");
    else if (c->peers->is_stopping)
        refuse(c, REFUSED_STOPPING, "the gateway stops");
    else if (h.number == 0)
        take_control(c, peer, &h);
    else
        take_stream(c, peer, &h);
}
