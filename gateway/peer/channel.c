/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * channel.c: channels: who may send how much, and what the handlers are told.
 *
 * Each side opens a channel under a key and tells the other by OPEN with a number of its own;
 * messages bear the number of their receiver.  When both have opened, the two are linked: each link
 * has a serial, and the handlers are told of it before anything of it reaches them, so that a
 * message of an old link can never be taken for one of a new one, nor be sent on it.
 *
 * `window` bytes may be on their way to a reader; what message() has returned from comes back as
 * WINDOW.  So a connection can always be read empty, however slow one reader is.
 */
#include "internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define SLOTS 65536u

static uint32_t hash_key(const char *key)
{
    return crc32c(0, key, strlen(key));
}

/* --- finding [P] ---------------------------------------------------------------------------- */

static struct peer_channel *find_by_number(struct peer *peer, uint32_t number)
{
    struct peer_channel *ch = number % SLOTS < peer->slot_count ? peer->slot[number % SLOTS] : NULL;

    return ch && ch->number == number && !ch->is_closed ? ch : NULL;
}

static struct peer_channel *find_by_key(struct peer *peer, const char *key)
{
    LIST_FOREACH (node, &peer->channels) {
        struct peer_channel *ch = LIST_ENTRY(node, struct peer_channel, link);

        if (strcmp(ch->key, key) == 0)
            return ch;
    }
    return NULL;
}

static struct remote_channel *find_remote(struct peer *peer, const char *key)
{
    LIST_FOREACH (node, &peer->remotes) {
        struct remote_channel *r = LIST_ENTRY(node, struct remote_channel, link);

        if (strcmp(r->key, key) == 0)
            return r;
    }
    return NULL;
}

/* The number's low half is its place; the high half tells it from those that had it before. */
static int give_number(struct peer *peer, struct peer_channel *ch)
{
    unsigned place = 0;

    while (place < peer->slot_count && peer->slot[place] && peer->slot[place] != ch)
        place++;
    if (place == peer->slot_count) {
        unsigned count = MAX(2 * peer->slot_count, 16u);
        struct peer_channel **slot =
            count <= SLOTS ? realloc(peer->slot, count * sizeof *peer->slot) : NULL;

        if (!slot)
            return -ENOMEM;
        memset(slot + peer->slot_count, 0, (count - peer->slot_count) * sizeof *slot);
        peer->slot = slot;
        peer->slot_count = count;
    }
    peer->slot[place] = ch;
    peer->next_number++;
    ch->number = (peer->next_number & 0xffffu) << 16 | place;
    return 0;
}

static struct wire *stream_of(const struct peer *peer, const char *key)
{
    return peer->is_up ? peer->stream[hash_key(key) % peer->stream_count].wire : NULL;
}

/* --- linking [P] ---------------------------------------------------------------------------- */

static void forget_kept(struct peer_channel *ch)
{
    struct kept *k;

    while ((k = ch->kept_first) != NULL) {
        ch->kept_first = k->next;
        free(k);
    }
    ch->kept_last = NULL;
    ch->kept_bytes = 0;
}

static void unlink_channel(struct peer_channel *ch, const char *reason)
{
    ch->remote = NULL;
    ch->linked = 0;
    wire_put(ch->wire);
    ch->wire = NULL;
    forget_kept(ch);
    snprintf(ch->lost_reason, sizeof ch->lost_reason, "%s", reason);
}

static void link_channel(struct peer *peer, struct peer_channel *ch)
{
    struct remote_channel *remote = find_remote(peer, ch->key);

    if (ch->linked || !ch->is_opened || !remote || remote->is_stale)
        return;
    ch->remote = remote;
    ch->linked = ++peer->link_serial;
    ch->credit = remote->window_bytes;
    ch->consumed = 0;
    ch->wants_writable = false;
    ch->wire = wire_get(stream_of(peer, ch->key));
}

/* Tells the other side of it, under a number that was never used before: what is still on its way
 * to an earlier opening finds nobody.  Its stream is to be flushed. */
static void open_channel(struct peer *peer, struct peer_channel *ch)
{
    struct wire *c = stream_of(peer, ch->key);
    uint8_t data[4 + PEER_KEY_MAX];
    struct opening opening = {.window_bytes = peer->peers->settings.window_bytes};

    if (!c || !ch->is_started || ch->is_opened || give_number(peer, ch) < 0)
        return;
    memcpy(opening.key, ch->key, sizeof opening.key);
    if (wire_queue(c, FRAME_OPEN, ch->number, data, (uint32_t)opening_put(data, &opening)) < 0)
        return; /* it has failed: its loss is on the way */
    ch->is_opened = true;
    link_channel(peer, ch);
}

static struct wire *get_stream(const struct peer *peer, const char *key)
{
    struct wire *c = stream_of(peer, key);

    return c ? wire_get(c) : NULL;
}

static void flush_and_put(struct wire *c)
{
    if (!c)
        return;
    wire_flush(c);
    wire_put(c);
}

/* --- calling the handlers [P] ----------------------------------------------------------------
 *
 * Each function gives the mutex back for the length of one callback.  `uses` keeps the channel
 * meanwhile; is_busy lets one callback run at a time, also while a channel moves from the loop of
 * one set to that of the next.  False: it was closed.
 */

static void release(struct peer_channel *ch)
{
    forget_kept(ch);
    free(ch);
}

static void leave(struct peer_channel *ch)
{
    struct peer *peer = ch->peer;

    if (--ch->uses == 0 && ch->is_orphan && !ch->is_tell_posted && !ch->is_put_off)
        release(ch);
    pthread_cond_broadcast(&peer->changed);
}

static bool call_begin(struct peer_channel *ch)
{
    struct peer *peer = ch->peer;

    while (ch->is_busy)
        pthread_cond_wait(&peer->changed, &peer->mutex);
    if (ch->is_closed)
        return false;
    ch->is_busy = true;
    ch->busy_thread = pthread_self();
    pthread_mutex_unlock(&peer->mutex);
    return true;
}

static bool call_end(struct peer_channel *ch)
{
    pthread_mutex_lock(&ch->peer->mutex);
    ch->is_busy = false;
    return !ch->is_closed;
}

/* What it has put off while messages were at hand is due. */
static bool tell_caught_up(struct peer_channel *ch)
{
    if (!ch->is_behind)
        return true;
    ch->is_behind = false;
    if (!call_begin(ch))
        return false;
    ch->handlers.caught_up(ch->context);
    return call_end(ch);
}

static bool tell_lost(struct peer_channel *ch)
{
    char reason[sizeof ch->lost_reason];

    if (!tell_caught_up(ch))
        return false;
    memcpy(reason, ch->lost_reason, sizeof reason);
    ch->told = 0;
    if (!call_begin(ch))
        return false;
    ch->handlers.lost(ch->context, reason);
    return call_end(ch);
}

static bool tell_connected(struct peer_channel *ch)
{
    ch->told = ch->linked;
    if (!call_begin(ch))
        return false;
    ch->handlers.connected(ch->context, ch->peer->name);
    return call_end(ch);
}

static bool tell_link(struct peer_channel *ch)
{
    while (ch->told != ch->linked)
        if (!(ch->told ? tell_lost(ch) : tell_connected(ch)))
            return false;
    return true;
}

static bool tell_message(struct peer_channel *ch, const void *data, size_t length)
{
    uint64_t serial = ch->linked;

    if (!call_begin(ch))
        return false;
    ch->handlers.message(ch->context, data, length);
    if (!call_end(ch))
        return false;
    ch->is_behind = ch->handlers.caught_up;
    if (ch->linked == serial)
        ch->consumed += COST(length);
    return true;
}

static bool tell_kept(struct peer_channel *ch)
{
    while (!ch->is_paused && ch->kept_first && ch->told == ch->linked) {
        struct kept *k = ch->kept_first;
        bool is_there;

        ch->kept_first = k->next;
        if (!ch->kept_first)
            ch->kept_last = NULL;
        ch->kept_bytes -= COST(k->length);
        is_there = tell_message(ch, k->data, k->length);
        free(k);
        if (!is_there)
            return false;
    }
    return true;
}

static bool tell_writable(struct peer_channel *ch)
{
    if (!ch->wants_writable || !ch->linked || ch->told != ch->linked ||
        ch->credit < COST(PEER_MESSAGE_MAX) || wire_is_full(ch->wire))
        return true;
    ch->wants_writable = false;
    if (!call_begin(ch))
        return false;
    ch->handlers.writable(ch->context);
    return call_end(ch);
}

/* What may be sent again, when that is worth a frame. The stream is to be flushed. */
static void give_window_back(struct peer_channel *ch)
{
    uint8_t data[4];

    if (!ch->linked || ch->consumed < ch->peer->peers->settings.window_bytes / 4)
        return;
    put32(data, (uint32_t)ch->consumed);
    ch->consumed = 0;
    if (wire_queue(ch->wire, FRAME_WINDOW, ch->remote->number, data, sizeof data) == -ENOMEM)
        wire_fail(ch->wire, -ENOMEM, "out of memory");
    wire_leaves_later(ch->wire, false);
}

/* Whatever the handlers do not know yet. */
static void attend(struct peer_channel *ch)
{
    if (tell_link(ch) && tell_kept(ch) && tell_caught_up(ch) && tell_writable(ch))
        give_window_back(ch);
}

static void on_tell(struct task *task)
{
    struct peer_channel *ch = CONTAINER_OF(task, struct peer_channel, tell_task);
    struct peer *peer = ch->peer;
    struct wire *c;

    pthread_mutex_lock(&peer->mutex);
    ch->is_tell_posted = false;
    c = get_stream(peer, ch->key);
    ch->uses++;
    if (!ch->is_closed)
        attend(ch);
    leave(ch);
    pthread_mutex_unlock(&peer->mutex);
    flush_and_put(c);
}

/* To its loop, where it is told. */
static void post_tell(struct peer_channel *ch)
{
    struct peers *peers = ch->peer->peers;
    unsigned streams = MAX(ch->peer->stream_count, 1u);

    if (ch->is_tell_posted || ch->is_closed)
        return;
    ch->is_tell_posted = true;
    ch->tell_task.run = on_tell;
    home_post(loop_home(peers->bulk[hash_key(ch->key) % streams % peers->bulk_count]),
              &ch->tell_task);
}

/* --- frames [P] ------------------------------------------------------------------------------- */

static struct remote_channel *make_remote(struct peer *peer, const char *key)
{
    struct remote_channel *r = peer->remote_count < REMOTES_MAX ? calloc(1, sizeof *r) : NULL;

    if (!r)
        return NULL;
    snprintf(r->key, sizeof r->key, "%s", key);
    list_append(&peer->remotes, &r->link);
    peer->remote_count++;
    return r;
}

static void drop_remote(struct peer *peer, struct remote_channel *r)
{
    list_remove(&r->link);
    peer->remote_count--;
    free(r);
}

static void on_open(struct wire *c, const struct frame *frame)
{
    struct peer *peer = c->peer;
    struct opening opening;
    struct remote_channel *r;
    struct peer_channel *ch;
    struct err e = {0};

    if (opening_get(frame, &opening, &e) < 0) {
        wire_fail(c, -EPROTO, "%s", e.text);
        return;
    }
    r = find_remote(peer, opening.key);
    if (!r)
        r = make_remote(peer, opening.key);
    if (!r) {
        wire_fail(c, -ENOMEM, "it has opened more than %u channels", REMOTES_MAX);
        return;
    }
    r->number = frame->channel;
    r->window_bytes = opening.window_bytes;
    r->is_stale = false;
    ch = find_by_key(peer, opening.key);
    if (!ch)
        return;
    if (ch->linked)
        unlink_channel(ch, "the other side opened it anew");
    link_channel(peer, ch);
    ch->uses++;
    attend(ch);
    leave(ch);
}

static void on_close(struct wire *c, const struct frame *frame)
{
    struct peer *peer = c->peer;

    LIST_FOREACH_SAFE (node, &peer->remotes) {
        struct remote_channel *r = LIST_ENTRY(node, struct remote_channel, link);
        struct peer_channel *ch;

        if (r->number != frame->channel)
            continue;
        ch = find_by_key(peer, r->key);
        if (ch && ch->linked)
            unlink_channel(ch, "the other side closed it");
        drop_remote(peer, r);
        if (!ch)
            return;
        ch->is_opened = false; /* under a new number, for whoever opens it there again */
        open_channel(peer, ch);
        post_tell(ch);
        return;
    }
}

struct wire *channel_wire(struct peer *peer, uint32_t number)
{
    struct peer_channel *ch;
    SCOPED_LOCK(&peer->mutex);

    ch = find_by_number(peer, number);
    return ch && ch->linked ? wire_get(ch->wire) : NULL;
}

/* For later: the channel is paused. */
static void keep(struct wire *c, struct peer_channel *ch, const struct frame *frame)
{
    struct kept *k;

    if (ch->kept_bytes + COST(frame->length) > ch->peer->peers->settings.window_bytes) {
        wire_fail(c, -EPROTO, "it sent more than the window of channel %s", ch->key);
        return;
    }
    k = malloc(sizeof *k + frame->length);
    if (!k) {
        wire_fail(c, -ENOMEM, "out of memory");
        return;
    }
    k->next = NULL;
    k->length = frame->length;
    memcpy(k->data, frame->data, frame->length);
    if (ch->kept_last)
        ch->kept_last->next = k;
    else
        ch->kept_first = k;
    ch->kept_last = k;
    ch->kept_bytes += COST(frame->length);
}

/* When all that came together is told: more may follow at once. */
static void catch_up_later(struct peer_channel *ch)
{
    if (!ch->is_behind || ch->is_put_off)
        return;
    ch->is_put_off = digestion_put_off(ch);
    if (!ch->is_put_off)
        tell_caught_up(ch);
}

void channels_catch_up(struct peer_channel *first)
{
    for (struct peer_channel *ch = first, *next; ch; ch = next) {
        struct peer *peer = ch->peer;

        pthread_mutex_lock(&peer->mutex);
        next = ch->next_behind;
        ch->is_put_off = false;
        ch->uses++;
        if (!ch->is_closed)
            tell_caught_up(ch);
        leave(ch);
        pthread_mutex_unlock(&peer->mutex);
    }
}

static void on_message(struct wire *c, const struct frame *frame)
{
    struct peer_channel *ch = find_by_number(c->peer, frame->channel);

    if (!ch || !ch->linked)
        return;
    atomic_fetch_add_explicit(&c->peer->messages_in, 1, memory_order_relaxed);
    ch->uses++;
    if (!tell_link(ch) || !tell_kept(ch) || !ch->linked)
        ;
    else if (ch->is_paused || ch->kept_first)
        keep(c, ch, frame);
    else if (tell_message(ch, frame->data, frame->length))
        give_window_back(ch);
    catch_up_later(ch);
    leave(ch);
}

static void on_window(struct wire *c, const struct frame *frame)
{
    struct peer_channel *ch = find_by_number(c->peer, frame->channel);

    if (!ch || !ch->linked)
        return;
    ch->credit += get32(frame->data);
    if (ch->credit > ch->remote->window_bytes) {
        wire_fail(c, -EPROTO, "it gave back more than the window of channel %s", ch->key);
        return;
    }
    ch->uses++;
    if (tell_link(ch))
        tell_writable(ch);
    leave(ch);
}

static void (*const takers[FRAME_TYPES])(struct wire *, const struct frame *) = {
    [FRAME_OPEN] = on_open,
    [FRAME_CLOSE] = on_close,
    [FRAME_MESSAGE] = on_message,
    [FRAME_WINDOW] = on_window,
};

/* A connection that has failed is no part of a set any more, whatever still comes out of it. */
void channel_frame(struct wire *c, const struct frame *frame)
{
    SCOPED_LOCK(&c->peer->mutex);

    if (!atomic_load(&c->has_failed) && takers[frame->type])
        takers[frame->type](c, frame);
}

void channels_flush(struct wire *c, bool is_soon)
{
    struct peer *peer = c->peer;
    struct wire *stream = NULL;

    pthread_mutex_lock(&peer->mutex);
    if (peer->is_up)
        stream = wire_get(peer->stream[c->number - 1].wire);
    pthread_mutex_unlock(&peer->mutex);
    if (!stream)
        return;
    if (is_soon)
        wire_flush_soon(stream);
    else
        wire_flush(stream);
    wire_put(stream);
}

/* --- sets come and go ---------------------------------------------------------------------------
 */

static void flush_all(struct peer *peer)
{
    struct wire *stream[PEER_STREAMS_MAX];
    unsigned count = 0;

    pthread_mutex_lock(&peer->mutex);
    for (unsigned i = 0; peer->is_up && i < peer->stream_count; i++)
        stream[count++] = wire_get(peer->stream[i].wire);
    pthread_mutex_unlock(&peer->mutex);
    for (unsigned i = 0; i < count; i++)
        flush_and_put(stream[i]);
}

void channels_link(struct peer *peer, struct set *set)
{
    pthread_mutex_lock(&peer->mutex);
    peer->is_up = true;
    peer->stream_count = set->streams;
    peer->control = wire_get(set->wire[0]);
    for (unsigned i = 0; i < set->streams; i++)
        peer->stream[i].wire = wire_get(set->wire[i + 1]);
    LIST_FOREACH (node, &peer->channels) {
        struct peer_channel *ch = LIST_ENTRY(node, struct peer_channel, link);

        open_channel(peer, ch);
        post_tell(ch);
    }
    pthread_mutex_unlock(&peer->mutex);
    flush_all(peer);
}

void channels_unlink(struct peer *peer, const char *reason)
{
    SCOPED_LOCK(&peer->mutex);

    LIST_FOREACH (node, &peer->channels) {
        struct peer_channel *ch = LIST_ENTRY(node, struct peer_channel, link);

        ch->is_opened = false;
        if (ch->linked)
            unlink_channel(ch, reason);
        post_tell(ch);
    }
    while (!list_is_empty(&peer->remotes))
        drop_remote(peer, LIST_ENTRY(peer->remotes.next, struct remote_channel, link));
    for (unsigned i = 0; i < peer->stream_count; i++) {
        wire_put(peer->stream[i].wire);
        peer->stream[i].wire = NULL;
    }
    wire_put(peer->control);
    peer->control = NULL;
    peer->is_up = false;
}

static void switch_wire(struct wire **at, struct wire *next)
{
    wire_get(next);
    wire_put(*at);
    *at = next;
}

static void switch_stream(struct peer *peer, unsigned i, struct wire *next)
{
    struct wire *old = peer->stream[i].wire;

    if (wire_queue(old, FRAME_SWITCH, 0, NULL, 0) == -ENOMEM)
        wire_fail(old, -ENOMEM, "out of memory");
    LIST_FOREACH (node, &peer->channels) {
        struct peer_channel *ch = LIST_ENTRY(node, struct peer_channel, link);

        if (ch->wire == old)
            switch_wire(&ch->wire, next);
    }
    switch_wire(&peer->stream[i].wire, next);
}

void channels_switch(struct peer *peer, struct set *set)
{
    struct wire *old[PEER_STREAMS_MAX];
    unsigned count;

    pthread_mutex_lock(&peer->mutex);
    count = peer->stream_count;
    for (unsigned i = 0; i < count; i++) {
        old[i] = wire_get(peer->stream[i].wire);
        switch_stream(peer, i, set->wire[i + 1]);
    }
    switch_wire(&peer->control, set->wire[0]);
    pthread_mutex_unlock(&peer->mutex);
    for (unsigned i = 0; i < count; i++)
        flush_and_put(old[i]);
}

void channels_drained(struct wire *c)
{
    struct peer *peer = c->peer;

    if (!peer)
        return;
    SCOPED_LOCK(&peer->mutex);
    LIST_FOREACH (node, &peer->channels) {
        struct peer_channel *ch = LIST_ENTRY(node, struct peer_channel, link);

        if (ch->wants_writable)
            post_tell(ch);
    }
}

/* --- the public side ------------------------------------------------------------------------ */

static struct peer *find_peer(struct peers *peers, const char *name, struct err *e)
{
    struct peer *found = NULL;
    unsigned count = 0;
    SCOPED_LOCK(&peers->mutex);

    LIST_FOREACH (node, &peers->list) {
        struct peer *peer = LIST_ENTRY(node, struct peer, link);

        if (!peer->is_configured || (name && name[0] && strcmp(peer->name, name) != 0))
            continue;
        found = peer;
        count++;
    }
    if (count == 1)
        return found;
    if (name && name[0])
        err_set(e, ENOENT, "%s is none of the peers in gateway.yaml", name);
    else if (count == 0)
        err_set(e, ENOENT, "gateway.yaml has no peers");
    else
        err_set(e, EINVAL, "gateway.yaml has %u peers: say which", count);
    return NULL;
}

int peer_channel_open(struct peers *peers, const char *name, const char *key,
                      const struct peer_channel_handlers *handlers, void *context,
                      struct peer_channel **out, struct err *e)
{
    struct peer *peer = find_peer(peers, name, e);
    struct peer_channel *ch;

    if (!peer)
        return -e->code;
    if (!key[0] || strlen(key) >= PEER_KEY_MAX)
        return err_set(e, EINVAL, "a channel's key of %zu bytes", strlen(key));
    ch = calloc(1, sizeof *ch);
    if (!ch)
        return err_set(e, ENOMEM, "out of memory");
    ch->peer = peer;
    ch->handlers = *handlers;
    ch->context = context;
    snprintf(ch->key, sizeof ch->key, "%s", key);
    SCOPED_LOCK(&peer->mutex);
    if (find_by_key(peer, key)) {
        free(ch);
        return err_set(e, EEXIST, "the channel %s to %s is open already", key, peer->name);
    }
    list_append(&peer->channels, &ch->link);
    *out = ch;
    return 0;
}

void peer_channel_start(struct peer_channel *ch)
{
    struct peer *peer = ch->peer;
    struct wire *c;

    pthread_mutex_lock(&peer->mutex);
    ch->is_started = true;
    open_channel(peer, ch);
    if (ch->linked)
        post_tell(ch);
    c = get_stream(peer, ch->key);
    pthread_mutex_unlock(&peer->mutex);
    flush_and_put(c);
}

void peer_channel_pause(struct peer_channel *ch, bool is_paused)
{
    SCOPED_LOCK(&ch->peer->mutex);

    ch->is_paused = is_paused;
    if (!is_paused && ch->kept_first)
        post_tell(ch);
}

static void close_at_the_other_side(struct peer *peer, struct peer_channel *ch)
{
    struct wire *c = stream_of(peer, ch->key);
    struct remote_channel *r = find_remote(peer, ch->key);

    if (r)
        r->is_stale = true;
    if (c && ch->is_opened && wire_queue(c, FRAME_CLOSE, ch->number, NULL, 0) == -ENOMEM)
        wire_fail(c, -ENOMEM, "out of memory");
    if (ch->linked)
        unlink_channel(ch, "closed");
}

void peer_channel_close(struct peer_channel *ch)
{
    struct peer *peer = ch->peer;
    struct wire *c;

    pthread_mutex_lock(&peer->mutex);
    close_at_the_other_side(peer, ch);
    ch->is_closed = true;
    list_remove(&ch->link);
    if (ch->number % SLOTS < peer->slot_count && peer->slot[ch->number % SLOTS] == ch)
        peer->slot[ch->number % SLOTS] = NULL;
    c = get_stream(peer, ch->key);
    if (ch->is_busy && pthread_equal(ch->busy_thread, pthread_self())) {
        ch->is_orphan = true;
    } else {
        while (ch->uses)
            pthread_cond_wait(&peer->changed, &peer->mutex);
        ch->is_orphan = ch->is_tell_posted || ch->is_put_off;
        if (!ch->is_orphan)
            release(ch);
    }
    pthread_mutex_unlock(&peer->mutex);
    flush_and_put(c);
}
