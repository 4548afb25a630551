/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * link.c: the channel to the peer.  Both sides say HELLO when it connects and whenever their role
 * or lineage changes; each HELLO makes both decide anew (connect_decide), and whatever was under
 * way between them begins again. Nothing is carried over from one greeting to the next but what is
 * on disk and in the evidence.
 */
#include "replica.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *link_name(enum link_state state)
{
    static const char *const names[LINK_STATES] = {
        "down", "greeting", "resting", "asked", "resyncing", "streaming", "ahead", "receiving"};

    return names[state];
}

void link_set(struct replica *r, enum link_state state)
{
    if (r->link == state)
        return;
    r->link = state;
    sluice_event_emit(r->disk, "link", "state:%s", link_name(state));
    if (link_mirrors(r) || state == LINK_AHEAD)
        r->lost_ns = 0;
    replica_wake(&r->changed);
    replica_kick(r);
}

/* --- sending
 * ------------------------------------------------------------------------------------------------------
 */

static void forget_queue(struct replica *r)
{
    while (r->out_first) {
        struct outgoing *o = r->out_first;

        r->out_first = o->next;
        outgoing_put(o);
    }
    r->out_last = &r->out_first;
    r->out_bytes = 0;
    r->is_blocked = false;
}

/* Gives it its place in the stream; it leaves when the mutex is given back.  False: it has to wait
 * for writable(). */
static bool try_send(struct replica *r, const void *head, const void *payload, size_t length,
                     bool is_soon)
{
    enum link_flush flush = is_soon ? FLUSH_SOON : FLUSH_NOW;
    int status;

    if (!r->channel)
        return true; /* being closed */
    status = sluice_channel_queue(r->disk, r->channel, head, FRAME_BYTES, payload, length);
    if (r->flush < flush)
        r->flush = flush;
    r->is_blocked = status == -EAGAIN;
    return !r->is_blocked; /* any other error is followed by lost() */
}

/* Encrypting and sending take longer than all that the mutex is held for. */
void link_unlock_and_flush(struct replica *r)
{
    struct sluice_channel *channel = r->channel;
    struct sluice_disk *disk = r->disk;
    bool is_soon = r->flush == FLUSH_SOON;

    r->flush = FLUSH_NONE;
    if (channel)
        atomic_fetch_add(&r->flushing, 1);
    pthread_mutex_unlock(&r->mutex);
    if (!channel)
        return;
    sluice_channel_flush(disk, channel, is_soon);
    atomic_fetch_sub(&r->flushing, 1); /* the last look at it: it may be closed now */
}

/* Nobody waits for it: it may leave with others. */
static bool may_be_late(const struct replica *r, const struct frame *frame)
{
    return r->settings.is_async && !r->is_demoting && !r->is_handing_over &&
           (frame->type == FRAME_ACK ? !(frame->flags & FRAME_COMMITTED)
                                     : frame_changes_data(frame));
}

struct outgoing *link_make(const struct frame *frame, const void *payload, size_t length)
{
    struct outgoing *o =
        malloc(offsetof(struct outgoing, head) + spill_record_bytes(FRAME_BYTES + length));

    if (!o)
        return NULL;
    o->references = 1;
    o->length = FRAME_BYTES + length;
    frame_put(o->message, frame, payload, length);
    if (length)
        memcpy(o->message + FRAME_BYTES, payload, length);
    return o;
}

/* Counts it; true: it is in the stream, else it waits in the queue for it. */
static bool push(struct replica *r, const struct frame *frame, const void *head,
                 const void *payload, size_t length)
{
    if (frame_changes_data(frame))
        r->sent_bytes += length;
    sluice_count(r->disk, COUNT_SENT_BYTES, (int64_t)(FRAME_BYTES + length));
    return !r->out_first && !r->is_blocked &&
           try_send(r, head, payload, length, may_be_late(r, frame));
}

static void queue(struct replica *r, struct outgoing *o)
{
    o->next = NULL;
    *r->out_last = o;
    r->out_last = &o->next;
    r->out_bytes += o->length;
}

void link_push(struct replica *r, struct outgoing *o, const struct frame *frame)
{
    if (push(r, frame, o->message, frame_payload(o->message), o->length - FRAME_BYTES))
        outgoing_put(o);
    else
        queue(r, o);
}

/* Without a copy of its own where the stream takes it. */
void link_send(struct replica *r, const struct frame *frame, const void *payload, size_t length)
{
    uint8_t head[FRAME_BYTES];
    struct outgoing *o;

    if (r->link == LINK_DOWN)
        return;
    frame_put(head, frame, payload, length);
    if (push(r, frame, head, payload, length))
        return;
    o = link_make(frame, payload, length);
    if (o)
        queue(r, o);
    else
        link_fall(r, "out of memory");
}

static void drain_queue(struct replica *r)
{
    r->is_blocked = false;
    while (r->out_first) {
        struct outgoing *o = r->out_first;

        if (!try_send(r, o->message, frame_payload(o->message), o->length - FRAME_BYTES, false))
            break;
        r->out_first = o->next;
        if (!r->out_first)
            r->out_last = &r->out_first;
        r->out_bytes -= o->length;
        outgoing_put(o);
    }
    replica_kick(r);
}

/* --- greeting
 * ----------------------------------------------------------------------------------------------------------
 */

static struct hello self(const struct replica *r)
{
    return (struct hello){.role = r->super.role,
                          .data = r->super.is_damaged ? DATA_HALF : r->super.data,
                          .has_evidence = evidence_is_any(r),
                          .was_alone = r->super.was_alone,
                          .can_grow = true,
                          .can_snapshot = true,
                          .can_record = true,
                          .size_bytes = r->size_bytes,
                          .seq = r->seq,
                          .disk_id = members_id(r),
                          .has_seq = r->has_seq,
                          .lineage = r->super.lineage};
}

static void decide(struct replica *r);

void link_greet(struct replica *r)
{
    struct frame frame = {.type = FRAME_HELLO, .epoch = lineage_tip(&r->super.lineage).epoch};
    uint8_t payload[HELLO_BYTES_MAX];
    struct hello hello = self(r);

    if (r->link == LINK_DOWN)
        return;
    link_send(r, &frame, payload, hello_put(payload, &hello));
    if (r->link != LINK_GREETING)
        decide(r);
}

/* What went on with the peer ends: it will be known what may differ. */
static void stop_all(struct replica *r)
{
    resync_stop(r);
    if (r->super.role == REPLICA_PRIMARY && !MUTANT(40))
        evidence_mark_after(r, r->acked_stable);
    if (r->link == LINK_TARGET)
        target_stop(r);
    compare_stop_all(r);
    growth_on_stop(r);
    snapshot_on_stop(r);
    spill_on_stop(r);
    r->takeover_waits = false;
    r->clean = CLEAN_IDLE;
}

static void decide(struct replica *r)
{
    struct hello mine = self(r);

    stop_all(r);
    if (r->super.role == REPLICA_PRIMARY)
        resync_reserve(r);
    r->has_fallen = false;
    r->plan = connect_decide(&mine, &r->theirs, &r->fork_seq, &r->plan_reason);
    if (r->plan == PLAN_GROW && MUTANT(93))
        r->plan = mine.role == REPLICA_PRIMARY ? PLAN_SOURCE : PLAN_TARGET;
    sluice_log(r->disk, SLUICE_LOG_NOTICE, "replication: %s: %s", plan_name(r->plan),
               r->plan_reason);
    switch (r->plan) {
    case PLAN_SOURCE:
    case PLAN_FULL_SOURCE:
        r->asked_ns = sluice_now_ns(r->disk);
        if (seed_is_stale(r))
            seed_on_stale(r);
        link_set(r, LINK_ASKED);
        break;
    case PLAN_TARGET:
    case PLAN_FULL_TARGET:
        link_set(r, LINK_TARGET);
        target_begin(r);
        break;
    default:
        link_set(r, LINK_RESTING);
        roles_on_lost(r);
        if (r->plan == PLAN_SPLIT)
            roles_split(r);
        if (r->plan == PLAN_GROW)
            growth_follow(r);
        break;
    }
    roles_tell(r);
    replica_kick(r);
}

/* --- what the peer says
 * ---------------------------------------------------------------------------------------------------
 */

static void on_hello(struct replica *r, const struct frame *f, const void *message, size_t length)
{
    (void)f;
    if (!hello_get(&r->theirs, frame_payload(message), length - FRAME_BYTES)) {
        link_fall(r, "the peer's greeting makes no sense");
        return;
    }
    /* A greeting that answers a change of ours meets the change: both decide on the same two. */
    decide(r);
}

static void mark_runs(struct replica *r, const uint8_t *at, size_t length)
{
    for (; length >= 16; length -= 16) {
        uint64_t first = le_get(&at, 8), count = le_get(&at, 8);

        for (uint64_t g = first; g < first + count && g < r->evidence.grains; g++)
            evidence_mark(r, g * GRAIN_BYTES, GRAIN_BYTES, false);
    }
}

static void on_ready(struct replica *r, const struct frame *f, const void *message, size_t length)
{
    if (r->plan != PLAN_SOURCE && r->plan != PLAN_FULL_SOURCE)
        return;
    if (r->role_change)
        return; /* of an epoch that the peer has not heard of: it is greeted when that is durable */
    if (!MUTANT(41))
        mark_runs(r, frame_payload(message), length - FRAME_BYTES);
    r->batch_nonce = f->seq;
    if (length == FRAME_BYTES && spill_replay(r, f->offset))
        return;
    resync_begin(r, r->plan == PLAN_FULL_SOURCE);
}

static void on_ack(struct replica *r, const struct frame *f, const void *message, size_t length)
{
    const uint8_t *at = frame_payload(message);
    uint64_t applied = le_get(&at, 8), bytes = le_get(&at, 8);

    (void)length;
    if ((!link_mirrors(r) && r->link != LINK_AHEAD) || f->epoch != r->batch_nonce)
        return;
    if (f->seq > r->seq || f->offset > r->seq || f->bytes > r->seq || bytes > r->sent_bytes) {
        link_fall(r, "the peer acknowledges what was never sent");
        return;
    }
    r->acked_received = f->seq > r->acked_received ? f->seq : r->acked_received;
    r->acked_journaled = f->offset > r->acked_journaled ? f->offset : r->acked_journaled;
    r->acked_stable = f->bytes > r->acked_stable ? f->bytes : r->acked_stable;
    r->acked_applied = applied > r->acked_applied ? applied : r->acked_applied;
    r->peer_journaled_bytes = bytes;
    if (f->flags & FRAME_COMMITTED)
        resync_on_committed(r);
    if (r->acked_stable > r->theirs.has_seq)
        r->theirs.has_seq = r->acked_stable; /* also when this side greets again and they do not */
    resync_end_alone(r);
    spill_on_ack(r);
    capture_release(r);
    if (r->link != LINK_STREAMING || r->clean == CLEAN_RUNNING || r->is_demoting)
        replica_kick(r);
}

static void on_fail(struct replica *r, const struct frame *f, const void *message, size_t length)
{
    char text[160];

    snprintf(text, sizeof text, "the peer cannot go on: %.*s", (int)(length - FRAME_BYTES),
             (const char *)frame_payload(message));
    for (char *c = text; *c; c++)
        *c = *c >= ' ' && *c < 127 ? *c : '?';
    r->must_unstage = f->flags & FRAME_UNSTAGED;
    stop_all(r);
    snprintf(r->link_reason, sizeof r->link_reason, "%s", text);
    sluice_log(r->disk, SLUICE_LOG_WARNING, "replication: %s", text);
    link_set(r, LINK_RESTING);
    roles_on_lost(r);
    if (r->must_unstage)
        link_greet(r);
}

static void on_takeover(struct replica *r, const struct frame *f, const void *message,
                        size_t length)
{
    (void)f, (void)message, (void)length;
    if (r->link != LINK_STREAMING || r->super.role != REPLICA_PRIMARY)
        return;
    r->takeover_waits = r->has_backlog;
    if (r->has_backlog)
        return; /* roles.c, when it is applied: guests are served until then */
    r->is_handing_over = true;
    roles_demote(r);
}

static void on_handover(struct replica *r, const struct frame *f, const void *message,
                        size_t length)
{
    (void)message, (void)length;
    if (r->super.role == REPLICA_SECONDARY && r->super.data == DATA_CONSISTENT &&
        f->seq == r->received_seq)
        roles_promote(r);
}

/* What each type means to the side that gets it; the rest is the target's stream. */
static void (*const takes[FRAME_TYPES])(struct replica *, const struct frame *, const void *,
                                        size_t) = {
    [FRAME_HELLO] = on_hello,
    [FRAME_READY] = on_ready,
    [FRAME_ACK] = on_ack,
    [FRAME_FAIL] = on_fail,
    [FRAME_TAKEOVER] = on_takeover,
    [FRAME_HANDOVER] = on_handover,
    [FRAME_BEGIN] = target_take,
    [FRAME_WRITE] = target_take,
    [FRAME_ZERO] = target_take,
    [FRAME_TRIM] = target_take,
    [FRAME_FLUSH] = target_take,
    [FRAME_COMMIT] = target_take,
    [FRAME_CHECK] = compare_take_check,
    [FRAME_CHECKED] = compare_take_checked,
    [FRAME_RESIZE] = growth_take,
    [FRAME_RESIZED] = growth_take_answer,
    [FRAME_SNAPSHOT] = target_take,
    [FRAME_SNAPSHOTTED] = snapshot_take_answer,
    [FRAME_RECORD] = target_take,
};

static void fall_to(struct replica *r, enum link_state state, const char *reason)
{
    if (r->link == LINK_DOWN)
        return;
    sluice_log(r->disk, SLUICE_LOG_WARNING, "replication: the link is given up: %s", reason);
    stop_all(r);
    forget_queue(r);
    snprintf(r->link_reason, sizeof r->link_reason, "%s", reason);
    link_set(r, state);
    if (state == LINK_DOWN)
        r->down_ns = sluice_now_ns(r->disk);
    roles_on_lost(r);
    sluice_count(r->disk, COUNT_LOST, 1);
}

/* The channel is still there: the timer greets anew. */
void link_fall(struct replica *r, const char *reason)
{
    r->has_fallen = true;
    fall_to(r, LINK_RESTING, reason);
}

/* --- the channel's callbacks
 * ------------------------------------------------------------------------------------------------
 */

static void on_connected(void *instance, const char *peer)
{
    struct replica *r = ((struct member *)instance)->r;

    (void)peer;
    replica_lock(r);
    forget_queue(r);
    r->sent_bytes = r->peer_journaled_bytes = 0;
    r->link_reason[0] = 0;
    r->plan = PLAN_WAIT;
    r->plan_reason = "the peer has not said who it is";
    link_set(r, LINK_GREETING);
    link_greet(r);
    replica_unlock(r);
}

static void on_message(void *instance, const void *data, size_t length)
{
    struct replica *r = ((struct member *)instance)->r;
    struct frame frame = {0};
    const char *wrong = frame_get(&frame, data, length);
    char reason[160];

    replica_lock(r);
    if (wrong) {
        snprintf(reason, sizeof reason, "the peer sent a message %s", wrong);
        link_fall(r, reason);
    } else if (r->link != LINK_DOWN) {
        takes[frame.type](r, &frame, data, length);
    }
    replica_unlock(r);
}

static void on_writable(void *instance)
{
    struct replica *r = ((struct member *)instance)->r;

    replica_lock(r);
    if (r->link != LINK_DOWN)
        drain_queue(r);
    replica_unlock(r);
}

static void on_caught_up(void *instance)
{
    struct replica *r = ((struct member *)instance)->r;

    replica_lock(r);
    target_caught_up(r);
    replica_unlock(r);
}

static void on_lost(void *instance, const char *reason)
{
    struct replica *r = ((struct member *)instance)->r;

    replica_lock(r);
    fall_to(r, LINK_DOWN, reason);
    replica_unlock(r);
}

const struct sluice_channel_handlers replica_handlers = {
    .struct_size = sizeof replica_handlers,
    .connected = on_connected,
    .message = on_message,
    .writable = on_writable,
    .lost = on_lost,
    .caught_up = on_caught_up,
};
