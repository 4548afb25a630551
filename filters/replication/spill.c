/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * spill.c: see spill.h: what is in memory, the tiers, and what the peer is sent of it when it is
 * back.  The file itself is that of spill-file.c.
 *
 * A record that the peer may have already is not sent alone, which would bring its disk back to an
 * earlier instant: all up to the last that it may have are one batch.
 */
#include "replica.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PENDING_MAX (32u << 20) /* besides what memory may hold: not yet written */

static uint64_t seq_of(const struct outgoing *o)
{
    const uint8_t *at = o->message + 16;

    return le_get(&at, 8);
}

static void tell_tier(struct replica *r, const char *tier)
{
    sluice_event_emit(r->disk, "tier", "state:%s seq:%llu", tier, (unsigned long long)r->seq);
    roles_tell(r);
}

/* --- what is in memory
 * --------------------------------------------------------------------------------------------
 */

static void push(struct outgoing ***last, struct outgoing *o)
{
    o->later = NULL;
    **last = o;
    *last = &o->later;
}

struct outgoing *spill_pop(struct outgoing **first, struct outgoing ***last)
{
    struct outgoing *o = *first;

    *first = o->later;
    if (!*first)
        *last = first;
    return o;
}

static void forget_kept(struct spill *s, uint64_t seq)
{
    while (s->kept && seq_of(s->kept) <= seq) {
        struct outgoing *o = spill_pop(&s->kept, &s->kept_last);

        s->kept_bytes -= o->length;
        outgoing_put(o);
    }
}

static void forget_pending(struct spill *s)
{
    while (s->pending)
        outgoing_put(spill_pop(&s->pending, &s->pending_last));
    s->pending_bytes = 0;
}

void spill_drop(struct replica *r)
{
    struct spill *s = &r->spill;

    if (!s->file)
        return;
    forget_kept(s, UINT64_MAX);
    forget_pending(s);
    s->tail = s->written = s->read_at = s->head;
    s->sent_count = 0;
    s->round++;
    s->life = 0;
    s->is_open = s->is_unsure = s->is_spilling = s->is_replaying = false;
    if (s->is_explained)
        r->resync_wanted = true;
    s->is_explained = false;
}

/* Nothing comes behind what is there; the peer is left behind. */
static void close_end(struct replica *r)
{
    struct spill *s = &r->spill;

    s->is_open = s->is_spilling = false;
    tell_tier(r, "bitmap");
    if (r->link != LINK_STREAMING)
        return;
    resync_stop(r);
    evidence_mark_after(r, r->acked_stable);
    link_set(r, LINK_AHEAD);
}

/* What the file has is sent in order all the same. */
static void take_no_more(struct replica *r, const char *why)
{
    sluice_log(r->disk, SLUICE_LOG_WARNING,
               "replication: the journal of what waits for its turn %s: what is written from now "
               "on is not kept in order, and brought to the peer in a batch",
               why);
    close_end(r);
}

/* The file is of no use. */
void spill_give_up(struct replica *r, const char *why)
{
    bool was_replaying = r->spill.is_replaying, was_spilling = r->spill.is_spilling;

    sluice_log(r->disk, SLUICE_LOG_ERROR, "replication: the journal of what waits for the link %s",
               why);
    spill_drop(r);
    if (was_replaying)
        link_fall(r, "what waited for it cannot be sent in order");
    else if (was_spilling)
        close_end(r);
}

/* --- giving places
 * ------------------------------------------------------------------------------------------------
 */

static void begin_life(struct replica *r)
{
    struct spill *s = &r->spill;

    s->life = replica_random();
    s->last = s->base;
    s->epoch_id = lineage_tip(&r->super.lineage).id;
    s->head_wanted = true;
}

static bool give_place(struct replica *r, struct outgoing *o)
{
    struct spill *s = &r->spill;
    uint64_t length = spill_record_bytes(o->length), at = s->head;

    if (spill_is_empty(s))
        begin_life(r);
    if (spill_rest_of_lap(s, at) < length)
        at += spill_rest_of_lap(s, at);
    if (at + length - s->tail > s->ring)
        return false;
    o->position = at;
    o->prev = s->last;
    s->last = seq_of(o);
    s->head = at + length;
    s->pending_bytes += o->length;
    push(&s->pending_last, o);
    return true;
}

/* NULL, or why it takes no more. */
static const char *append(struct replica *r, const struct frame *frame, const void *data,
                          size_t length)
{
    struct outgoing *o;

    if (r->spill.pending_bytes > r->settings.ram_bytes + PENDING_MAX)
        return "is written slower than guests write";
    o = link_make(frame, data, length);
    if (!o)
        return "has no memory";
    if (give_place(r, o))
        return NULL;
    outgoing_put(o);
    return "is full";
}

bool spill_append(struct replica *r, const struct frame *frame, const void *data, size_t length)
{
    const char *why = append(r, frame, data, length);

    if (why)
        take_no_more(r, why);
    else
        replica_kick(r);
    return !why;
}

/* What the peer may not have, in front of what comes. */
static void move_kept(struct replica *r)
{
    struct spill *s = &r->spill;

    s->is_spilling = true;
    if (MUTANT(81))
        forget_kept(s, UINT64_MAX);
    while (s->kept && s->is_spilling) {
        struct outgoing *o = spill_pop(&s->kept, &s->kept_last);

        s->kept_bytes -= o->length;
        if (give_place(r, o))
            continue;
        outgoing_put(o);
        forget_kept(s, UINT64_MAX);
        take_no_more(r, "is full");
    }
    if (s->is_spilling)
        tell_tier(r, "ssd");
}

bool spill_begin(struct replica *r)
{
    struct spill *s = &r->spill;

    if (!s->file || !s->is_open || s->is_unsure || r->link != LINK_STREAMING)
        return false;
    compare_stop(r, COMPARE_VERIFY);
    r->clean = CLEAN_IDLE; /* the peer will not have it durably for long */
    move_kept(r);
    replica_kick(r);
    return s->is_spilling;
}

bool spill_is_full(const struct replica *r)
{
    const struct spill *s = &r->spill;

    return s->is_open && s->kept_bytes > s->ring / 2;
}

void spill_send(struct replica *r, const struct frame *frame, const void *data, size_t length)
{
    struct spill *s = &r->spill;
    struct outgoing *o;

    if (!s->is_open) {
        link_send(r, frame, data, length);
        return;
    }
    o = link_make(frame, data, length);
    if (!o) {
        spill_drop(r);
        link_fall(r, "out of memory");
        return;
    }
    o->references++;
    push(&s->kept_last, o);
    s->kept_bytes += o->length;
    s->sent_seq = frame->seq;
    link_push(r, o, frame);
}

bool spill_is_done(const struct replica *r)
{
    return !r->spill.file || spill_is_empty(&r->spill);
}

static void settle(struct replica *r)
{
    struct spill *s = &r->spill;

    if (s->is_explained && s->is_open && !s->is_spilling && r->link == LINK_STREAMING &&
        r->clean == CLEAN_IDLE && (r->acked_stable >= s->settle_seq || MUTANT(84))) {
        s->is_explained = false;
        evidence_forget_explained(r);
    }
}

static bool is_drained(const struct spill *s)
{
    return s->read_at == s->head;
}

void spill_go_on(struct replica *r)
{
    struct spill *s = &r->spill;

    spill_write_some(r);
    spill_read_some(r);
    if (spill_is_at_bound(s) && r->link == LINK_RESYNC && !r->commit_is_sent)
        resync_send_commit(r, s->bound);
    if (s->is_spilling && r->link == LINK_STREAMING && is_drained(s)) {
        s->is_spilling = false;
        tell_tier(r, "ram");
    }
    settle(r);
}

void spill_pump(struct replica *r)
{
    replica_lock(r);
    if (r->spill.file)
        spill_go_on(r);
    replica_unlock(r);
}

bool spill_is_busy(const struct replica *r)
{
    return r->spill.is_writing || r->spill.is_reading;
}

/* --- the peer
 * ------------------------------------------------------------------------------------------------------
 */

void spill_on_commit(struct replica *r, uint64_t seq)
{
    struct spill *s = &r->spill;

    if (!s->file || s->is_replaying)
        return;
    spill_drop(r);
    s->is_open = s->is_unsure = true;
    s->base = s->sent_seq = seq;
    s->epoch_id = lineage_tip(&r->super.lineage).id;
}

void spill_explain(struct replica *r)
{
    r->spill.is_explained |= r->spill.is_open;
    r->spill.settle_seq = r->seq;
}

void spill_on_committed(struct replica *r)
{
    struct spill *s = &r->spill;

    if (s->is_replaying)
        spill_explain(r);
    s->is_replaying = s->is_unsure = false;
}

/* From the first record on, those that the peer does not have. */
static void rewind_to(struct spill *s, uint64_t seq)
{
    s->round++;
    s->read_at = s->tail;
    s->sent_count = 0;
    s->sent_seq = seq;
}

void spill_on_stop(struct replica *r)
{
    struct spill *s = &r->spill;

    if (!s->file)
        return;
    if (s->is_unsure)
        spill_drop(r);
    s->is_replaying = false;
    rewind_to(s, 0);
    if (s->is_open && !s->is_spilling)
        move_kept(r);
}

static void note_age(struct replica *r)
{
    struct spill *s = &r->spill;
    unsigned n = 0;

    while (n < s->mark_count && s->marks[n].seq <= r->acked_journaled)
        n++;
    s->mark_count -= n;
    memmove(s->marks, s->marks + n, s->mark_count * sizeof *s->marks);
}

void spill_on_ack(struct replica *r)
{
    struct spill *s = &r->spill;

    if (r->link != LINK_STREAMING && r->link != LINK_AHEAD)
        return;
    note_age(r);
    if (!s->file)
        return;
    if (r->acked_stable > s->base) {
        s->base = r->acked_stable;
        forget_kept(s, s->base);
    }
    spill_free_pieces(s);
    spill_go_on(r);
}

/* The peer's copy is what these records go on from. */
static bool fits(const struct replica *r, uint64_t peer_seq)
{
    const struct spill *s = &r->spill;

    return s->file && (s->is_open || !spill_is_empty(s)) && r->plan == PLAN_SOURCE &&
           !r->must_unstage && peer_seq && peer_seq <= (spill_is_empty(s) ? s->base : s->last) &&
           r->theirs.has_seq >= s->base && lineage_tip(&r->theirs.lineage).id == s->epoch_id;
}

bool spill_replay(struct replica *r, uint64_t peer_seq)
{
    struct spill *s = &r->spill;

    if (!fits(r, peer_seq))
        return false;
    s->is_replaying = true;
    rewind_to(s, s->base); /* READY may come twice */
    s->bound = MUTANT(83) || peer_seq < s->base ? s->base : peer_seq;
    resync_begin_replay(r, s->base);
    sluice_event_emit(r->disk, "replay", "seq:%llu", (unsigned long long)s->base);
    spill_go_on(r);
    return true;
}

/* --- how far behind the peer is
 * --------------------------------------------------------------------------------------
 */

#define MARK_NS 50000000ull

void spill_note(struct replica *r, uint64_t seq)
{
    struct spill *s = &r->spill;
    uint64_t now;

    if (!r->settings.is_async) /* nobody is told */
        return;
    now = sluice_now_ns(r->disk);
    if (s->mark_count && now - s->marks[s->mark_count - 1].ns < MARK_NS)
        return;
    if (s->mark_count == SPILL_MARKS_MAX) { /* every second one will do */
        for (unsigned i = 0; i < SPILL_MARKS_MAX / 2; i++)
            s->marks[i] = s->marks[2 * i];
        s->mark_count /= 2;
    }
    s->marks[s->mark_count++] = (struct spill_mark){seq, now};
}

static const char *tier_name(const struct replica *r)
{
    if (r->spill.is_spilling)
        return "ssd";
    return r->link == LINK_STREAMING ? "ram" : "bitmap";
}

void spill_tell(struct replica *r, struct sluice_reply *reply)
{
    const struct spill *s = &r->spill;
    bool is_primary = r->super.role == REPLICA_PRIMARY;
    uint64_t oldest = s->mark_count ? sluice_now_ns(r->disk) - s->marks[0].ns : 0;
    uint64_t in_file = s->file ? s->head - s->tail : 0;
    uint64_t bytes = s->file ? s->head - s->read_at : 0;

    if (!is_primary || !r->settings.is_async)
        return;
    if (r->link == LINK_STREAMING || r->link == LINK_AHEAD)
        bytes += r->sent_bytes - r->peer_journaled_bytes;
    if (!s->is_spilling && r->link != LINK_STREAMING)
        bytes += evidence_dirty_bytes(r);
    sluice_reply_string(r->disk, reply, "tier", tier_name(r));
    sluice_reply_integer(r->disk, reply, "lag_ms", (int64_t)(oldest / 1000000));
    sluice_reply_integer(r->disk, reply, "lag_bytes", (int64_t)bytes);
    sluice_reply_integer(r->disk, reply, "peer_seq", (int64_t)r->acked_journaled);
    sluice_reply_integer(r->disk, reply, "spill_bytes", (int64_t)in_file);
    sluice_reply_integer(r->disk, reply, "spill_size", s->file ? (int64_t)s->ring : 0);
}

void spill_close(struct replica *r)
{
    struct spill *s = &r->spill;

    if (s->file) {
        forget_kept(s, UINT64_MAX);
        forget_pending(s);
        sluice_file_close(r->disk, s->file);
    }
    free(s->out);
    free(s->in);
}
