/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * growth.c: the disk grows while it serves.
 *
 *     source                                         target
 *     RESIZE, prepare: RESIZE size  -------------->  asks its gateway; all its filters agree,
 *                                                    its backing grows, that is durable
 *                      <---------------------------  RESIZED, or refused and why
 *     its backing grows, that is durable
 *     RESIZE, commit:  RESIZE done  -------------->
 *     guests may write there
 *
 * So the follower has at least what its source has, always, and no write can come to it that lies
 * behind its end.  Wherever that breaks off, either both are as large as before, or the follower is
 * larger, which does no harm: nobody writes there, it is asked again, or it becomes the primary and
 * the other one grows when they meet (PLAN_GROW), as after a growth while they were stopped.
 *
 * What is new on a side is marked there as what may differ, but for what its backing has just made
 * of zeros, if the other side says the same: a growth of two files needs no batch.
 */
#include "replica.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK_BYTES 4096u
#define MARGIN_NS 500000000ull /* to answer the gateway before its limit */
#define RETRY_NS 2000000000ull

/* --- memory for what is counted by extents and grains
 * ----------------------------------------------------------------- */

struct room {
    uint64_t size_bytes, extents, grains, pages;
    uint8_t *dirty, *again, *page_changed, *todo, *verify_todo, *verify_differs, *arrived;
    uint16_t *slot_of;
};

static void free_room(struct room *m)
{
    if (!m)
        return;
    free(m->dirty);
    free(m->again);
    free(m->page_changed);
    free(m->todo);
    free(m->verify_todo);
    free(m->verify_differs);
    free(m->arrived);
    free(m->slot_of);
    free(m);
}

static struct room *make_room(uint64_t size_bytes)
{
    struct room *m = calloc(1, sizeof *m);

    if (!m)
        return NULL;
    m->size_bytes = size_bytes;
    m->extents = (size_bytes + EXTENT_BYTES - 1) / EXTENT_BYTES;
    m->grains = m->extents * EXTENT_GRAINS;
    m->pages = (m->grains + BLOCK_BYTES * 8 - 1) / (BLOCK_BYTES * 8);
    m->dirty = calloc(m->pages, BLOCK_BYTES);
    m->again = calloc(m->pages, BLOCK_BYTES);
    m->page_changed = calloc(m->pages, 1);
    m->todo = calloc(1, m->extents / 8 + 1);
    m->verify_todo = calloc(1, m->extents / 8 + 1);
    m->verify_differs = calloc(1, m->grains / 8 + 1);
    m->arrived = calloc(1, m->grains / 8 + 1);
    m->slot_of = calloc(m->extents, sizeof *m->slot_of);
    if (m->dirty && m->again && m->page_changed && m->todo && m->verify_todo && m->verify_differs &&
        m->arrived && m->slot_of)
        return m;
    free_room(m);
    return NULL;
}

/* The larger one takes the place of the smaller, whose contents it gets. */
static void move_in(uint8_t **to, uint8_t **from, uint64_t bytes)
{
    uint8_t *old = *to;

    if (!old)
        return;
    memcpy(*from, old, bytes);
    *to = *from;
    *from = old;
}

static void install(struct replica *r, struct room *m)
{
    struct evidence *e = &r->evidence;
    uint16_t *slots = e->slot_of;

    move_in(&e->dirty, &m->dirty, e->pages * BLOCK_BYTES);
    move_in(&e->again, &m->again, e->pages * BLOCK_BYTES);
    move_in(&e->page_changed, &m->page_changed, e->pages);
    move_in(&r->todo, &m->todo, e->extents / 8 + 1);
    move_in(&r->verify.todo, &m->verify_todo, e->extents / 8 + 1);
    move_in(&r->verify.differs, &m->verify_differs, e->grains / 8 + 1);
    move_in(&r->seals.arrived, &m->arrived, (e->grains + 7) / 8);
    memcpy(m->slot_of, slots, e->extents * sizeof *slots);
    e->slot_of = m->slot_of;
    m->slot_of = slots;
    e->extents = m->extents;
    e->grains = m->grains;
    e->pages = m->pages;
}

void growth_close(struct replica *r)
{
    free_room(r->growth.room);
}

/* --- the target
 * ---------------------------------------------------------------------------------------------------
 */

/* `why` NULL: it has that now. */
static void answer(struct replica *r, const char *why, uint64_t old_bytes)
{
    struct frame f = {.type = FRAME_RESIZED,
                      .epoch = r->ready_nonce,
                      .flags = why ? FRAME_REFUSED : 0,
                      .offset = old_bytes,
                      .bytes = r->size_bytes};

    link_send(r, &f, why, why ? strnlen(why, 400) : 0);
}

/* NULL: it may be tried. */
static const char *cannot_grow(const struct replica *r)
{
    if (r->member_count > 1)
        return "it is one of a group";
    if (r->seals.job || r->seals.is_preparing)
        return "what only it has is being sealed: try again when that is done";
    return NULL;
}

static void fail_to_follow(struct replica *r, const char *why)
{
    char text[400];
    struct frame f = {.type = FRAME_FAIL};
    int length = snprintf(text, sizeof text, "its disk is smaller and cannot grow: %.300s", why);

    r->growth.retry_ns = sluice_now_ns(r->disk) + RETRY_NS;
    link_send(r, &f, text, (size_t)length);
}

static void on_wished(struct sluice_wish *wish, int32_t error, const char *sentence)
{
    struct growth *g = (struct growth *)(void *)((char *)wish - offsetof(struct growth, wish));
    struct replica *r = (struct replica *)(void *)((char *)g - offsetof(struct replica, growth));

    replica_lock(r);
    g->is_wished = false;
    if (error)
        sluice_log(r->disk, SLUICE_LOG_WARNING,
                   "replication: the disk does not grow to %llu bytes with its peer's: %s",
                   (unsigned long long)wish->size_bytes, sentence);
    if (g->answers && r->link == LINK_TARGET && g->nonce == r->ready_nonce)
        answer(r, error ? sentence : NULL, g->old_here);
    else if (!error)
        link_greet(r); /* both decide anew, on what it has now */
    else if (r->plan == PLAN_GROW)
        fail_to_follow(r, sentence);
    g->answers = false;
    replica_wake(&r->changed);
    replica_kick(r);
    replica_unlock(r);
}

/* NULL, or why not. */
static const char *wish_for(struct replica *r, uint64_t size_bytes)
{
    struct growth *g = &r->growth;
    const char *why = cannot_grow(r);

    if (why)
        return why;
    g->wish = (struct sluice_wish){
        .kind = SLUICE_EVENT_RESIZE, .size_bytes = size_bytes, .done = on_wished};
    g->old_here = size_bytes; /* if it turns out to be as large already */
    g->is_wished = sluice_wish_for(r->disk, &g->wish) == 0;
    return g->is_wished ? NULL : "its gateway does not take such a wish";
}

void growth_take(struct replica *r, const struct frame *f, const void *message, size_t length)
{
    struct growth *g = &r->growth;
    const char *why = NULL;

    (void)message, (void)length;
    if (r->link != LINK_TARGET || !r->has_begun)
        return;
    if (f->epoch != lineage_tip(&r->theirs.lineage).epoch ||
        (f->flags & FRAME_DONE && f->bytes > r->size_bytes)) {
        link_fall(r, "the peer's disk has grown past the end of this one");
        return;
    }
    if (f->flags & FRAME_DONE) {
        r->theirs.size_bytes = f->bytes;
        return;
    }
    if (f->bytes <= r->size_bytes) {
        answer(r, NULL, MUTANT(91) ? 0 : f->bytes);
        return;
    }
    if (!g->is_wished)
        why = wish_for(r, f->bytes);
    else if (g->wish.size_bytes != f->bytes)
        why = "it grows already, to another size";
    if (why || MUTANT(90)) {
        answer(r, why, 0);
        return;
    }
    g->answers = true;
    g->nonce = r->ready_nonce;
}

void growth_follow(struct replica *r)
{
    const char *why = NULL;

    if (r->super.role == REPLICA_PRIMARY || r->is_promoting || r->growth.is_wished)
        return;
    why = wish_for(r, r->theirs.size_bytes);
    if (why)
        fail_to_follow(r, why);
}

/* --- the source
 * ---------------------------------------------------------------------------------------------------
 */

static const char *cannot_ask(const struct replica *r)
{
    if (!r->is_formed || r->is_closing)
        return "it is just being opened or closed";
    if (r->member_count > 1)
        return "it is one of a group";
    if (r->super.role != REPLICA_PRIMARY || r->is_promoting || r->is_demoting)
        return "this side follows: resize it at the gateway that serves it, here it grows with it";
    if (r->link != LINK_STREAMING)
        return "its copy grows first, and the peer is not connected or not up to date: try again "
               "when it is; or stop both gateways, `sluice disk resize`, start them, the "
               "secondary's first";
    if (!r->theirs.can_grow)
        return "the peer's version does not know how";
    return NULL;
}

int growth_ask(struct replica *r, uint64_t size_bytes, struct sluice_error *error)
{
    struct growth *g = &r->growth;
    struct frame f = {.type = FRAME_RESIZE,
                      .epoch = lineage_tip(&r->super.lineage).epoch,
                      .seq = r->seq,
                      .bytes = size_bytes};
    const char *why = cannot_ask(r);

    if (why)
        return sluice_refuse(r->disk, error, ENOTSUP, "a replicated disk cannot be resized: %s",
                             why);
    g->state = GROWTH_ASKED;
    g->wanted_bytes = size_bytes;
    g->why[0] = 0;
    link_send(r, &f, NULL, 0);
    return 0;
}

void growth_take_answer(struct replica *r, const struct frame *f, const void *message,
                        size_t length)
{
    struct growth *g = &r->growth;

    if (!link_mirrors(r) || f->epoch != r->batch_nonce || g->state != GROWTH_ASKED)
        return;
    g->state =
        f->flags & FRAME_REFUSED || f->bytes < g->wanted_bytes ? GROWTH_REFUSED : GROWTH_AGREED;
    g->old_there = f->offset;
    if (g->state == GROWTH_AGREED)
        r->theirs.size_bytes = f->bytes;
    snprintf(g->why, sizeof g->why, "%.*s", (int)(length - FRAME_BYTES),
             (const char *)frame_payload(message));
    for (char *c = g->why; *c; c++)
        *c = *c >= ' ' && *c < 127 ? *c : '?';
    replica_wake(&r->changed);
}

void growth_on_stop(struct replica *r)
{
    struct growth *g = &r->growth;

    if (g->state != GROWTH_ASKED)
        return;
    g->state = GROWTH_REFUSED;
    snprintf(g->why, sizeof g->why,
             "the peer was lost before it answered; its disk may have grown, which does no harm");
    replica_wake(&r->changed);
}

static int await_answer(struct replica *r, const struct sluice_event *event,
                        struct sluice_error *error)
{
    struct growth *g = &r->growth;

    while (g->state == GROWTH_ASKED && sluice_now_ns(r->disk) + MARGIN_NS < event->deadline_ns)
        replica_wait(r);
    if (g->state == GROWTH_AGREED)
        return 0;
    return sluice_refuse(r->disk, error, EBUSY,
                         "nothing has changed here, since the peer's disk does not grow: %s",
                         g->state == GROWTH_REFUSED ? g->why : "it does not answer in time");
}

/* --- the gateway's event, on either side
 * --------------------------------------------------------------------------------------
 */

static int prepare(struct replica *r, const struct sluice_event *event, struct sluice_error *error)
{
    struct growth *g = &r->growth;
    int status = 0;

    if (g->is_wished && g->wish.size_bytes == event->size_bytes) {
        /* It follows one that was larger before, in the new part of which nobody knows what is. */
        g->old_there = g->answers || MUTANT(94) ? 0 : event->size_bytes;
    } else {
        if (g->state != GROWTH_AGREED || g->wanted_bytes != event->size_bytes)
            status = growth_ask(r, event->size_bytes, error);
        if (status == 0)
            status = await_answer(r, event, error);
        g->state = GROWTH_IDLE;
    }
    if (status < 0)
        return status;
    growth_close(r);
    g->room = make_room(event->size_bytes);
    return g->room ? 0 : sluice_refuse(r->disk, error, ENOMEM, "no memory for the bitmap");
}

/* What may hold other bytes than the peer has there. */
static void mark_new(struct replica *r, uint64_t was, uint64_t old_bytes)
{
    struct growth *g = &r->growth;
    uint64_t end = g->old_there > old_bytes ? g->old_there : old_bytes;

    if (end > r->size_bytes)
        end = r->size_bytes;
    g->ticket = r->evidence.commits;
    g->must_note = true;
    /* It had more than its source already, of which nobody knows: up to its old end. */
    g->old_here = old_bytes > was ? old_bytes : was;
    if (end <= was || MUTANT(92))
        return;
    evidence_mark(r, was, end - was, true);
    g->ticket = evidence_ticket(r);
    r->resync_wanted |= r->super.role == REPLICA_PRIMARY;
}

static void commit(struct member *m, uint64_t size_bytes, uint64_t old_bytes)
{
    struct replica *r = m->r;
    struct room *room = r->growth.room;
    uint64_t was = r->size_bytes;
    struct frame f = {.type = FRAME_RESIZE,
                      .flags = FRAME_DONE,
                      .epoch = lineage_tip(&r->super.lineage).epoch,
                      .seq = r->seq,
                      .bytes = size_bytes};

    if (!room || room->size_bytes != size_bytes || size_bytes <= was)
        return;
    install(r, room);
    members_grow(m, size_bytes);
    mark_new(r, was, old_bytes < size_bytes ? old_bytes : size_bytes);
    if (link_mirrors(r))
        link_send(r, &f, NULL, 0);
    else if (!r->growth.is_wished) /* it has become another link, or role, meanwhile */
        link_greet(r);
    sluice_event_emit(r->disk, "grown", "bytes:%llu", (unsigned long long)size_bytes);
    replica_kick(r);
}

int replica_resize(struct member *m, const struct sluice_event *event, struct sluice_error *error)
{
    struct replica *r = m->r;
    int status = 0;

    replica_lock(r);
    if (event->phase == SLUICE_PHASE_PREPARE && event->size_bytes != m->size_bytes)
        status = prepare(r, event, error);
    if (event->phase == SLUICE_PHASE_COMMIT)
        commit(m, event->size_bytes, sluice_event_old_bytes(m->disk, event));
    if (event->phase != SLUICE_PHASE_PREPARE) {
        growth_close(r);
        r->growth.room = NULL;
    }
    replica_unlock(r);
    return status;
}

void growth_step(struct replica *r)
{
    struct growth *g = &r->growth;

    replica_lock(r);
    if (g->must_note && r->evidence.commits >= g->ticket) {
        g->must_note = false;
        r->super.size_bytes = r->size_bytes;
        super_change(r);
    }
    if (r->plan == PLAN_GROW && r->link == LINK_RESTING && g->retry_ns &&
        sluice_now_ns(r->disk) >= g->retry_ns) {
        g->retry_ns = 0;
        growth_follow(r);
    }
    replica_unlock(r);
}
