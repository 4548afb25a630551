/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * capture.c: a guest's write on the primary.
 *
 *     start       its extents are in the activity log, else it waits for them; it gets the next
 * sequence number and is sent, or marked; then it goes down: local write and network overlap
 *     completion  sync: waits until the peer has it at the level that the policy asks for
 *
 * While the peer is lost and the primary is not alone yet, new writes wait before they begin, and
 * those that had begun wait at their end: until the peer is back and a batch has brought it
 * everything, or the primary is alone.
 */
#include "replica.h"

#include <errno.h>

#define WINDOW_BYTES (32u << 20) /* async: data sent and not journaled */

/* --- lists
 * -------------------------------------------------------------------------------------------------------------
 */

void captured_append(struct captured ***last, struct captured *c)
{
    c->next = NULL;
    c->link = *last;
    **last = c;
    *last = &c->next;
}

void captured_take_out(struct captured ***last, struct captured *c)
{
    *c->link = c->next;
    if (c->next)
        c->next->link = c->link;
    else
        *last = c->link;
    c->link = NULL;
}

/* --- beginning
 * ------------------------------------------------------------------------------------------------------------
 */

static bool has_numbers(struct replica *r)
{
    if (r->seq + 2 * SEQ_MARGIN >= r->super.seq_limit) {
        r->super.seq_limit = r->seq + SEQ_STEP;
        super_change(r);
    }
    return r->seq + SEQ_MARGIN < r->saved_seq_limit;
}

/* A side that steps down lets nobody in, and what is in already out: refused, it would be an error
 * to a guest that is still there. */
static bool is_taking(const struct replica *r)
{
    return r->is_serving || (r->is_demoting && r->super.role == REPLICA_PRIMARY && !r->role_change);
}

/* Its client was cut off: nobody waits for it, and it may not wait for another reign. */
static bool is_left_over(const struct replica *r, const struct captured *c)
{
    return r->super.role == REPLICA_SECONDARY && (c->member->guests_left || r->is_promoting);
}

static bool may_begin(struct replica *r, struct captured *c)
{
    uint64_t bytes = c->request->length;
    bool is_settled;

    if (!is_taking(r) || !has_numbers(r))
        return false;
    if (!link_mirrors(r) && r->link != LINK_AHEAD && !r->is_alone)
        return false;
    if (resync_is_copying(r, c->offset, bytes))
        return false;
    is_settled = backlog_lets_write(r, c->offset, bytes);
    return evidence_is_ready(r, c->offset, bytes, &c->ticket) && is_settled;
}

static bool is_left_behind(struct replica *r)
{
    return r->settings.is_async &&
           (r->out_bytes > r->settings.ram_bytes ||
            r->sent_bytes - r->peer_journaled_bytes > WINDOW_BYTES || spill_is_full(r));
}

static const uint8_t frame_of_op[SLUICE_OP_COUNT] = {
    [SLUICE_OP_WRITE] = FRAME_WRITE, [SLUICE_OP_ZERO] = FRAME_ZERO, [SLUICE_OP_TRIM] = FRAME_TRIM};

/* The way that its frames take: with those that were sent, behind those that wait on SSD. */
static bool goes_to_link(const struct replica *r)
{
    return link_mirrors(r) && ((!r->spill.is_spilling && !r->spill.is_replaying) || MUTANT(80));
}

static bool put_part(struct replica *r, const struct frame *f, const void *data, size_t length)
{
    if (!goes_to_link(r))
        return spill_append(r, f, data, length);
    spill_send(r, f, data, length);
    return true;
}

static void send_parts(struct replica *r, struct captured *c)
{
    const struct sluice_request *q = c->request;
    uint64_t most = q->op == SLUICE_OP_WRITE ? FRAME_DATA_MAX : UINT64_MAX;

    for (uint64_t at = 0; at < q->length;) {
        uint64_t bytes = q->length - at < most ? q->length - at : most;
        struct frame f = {.type = frame_of_op[q->op],
                          .flags = q->flags & SLUICE_FLAG_FUA && !MUTANT(42) ? FRAME_DURABLE : 0,
                          .epoch = lineage_tip(&r->super.lineage).epoch,
                          .seq = ++r->seq,
                          .offset = c->offset + at,
                          .bytes = bytes};

        c->numbers++;
        if (!put_part(r, &f, q->data ? (const uint8_t *)q->data + at : NULL,
                      q->op == SLUICE_OP_WRITE ? bytes : 0))
            return; /* in no stream: the evidence has it */
        at += bytes;
    }
}

/* It has too much under way, and there is no room for more in order: writes are only marked. */
static void leave_behind(struct replica *r)
{
    spill_drop(r);
    resync_stop(r);
    evidence_mark_after(r, r->acked_stable);
    link_set(r, LINK_AHEAD);
    sluice_event_emit(r->disk, "ahead", "seq:%llu", (unsigned long long)r->seq);
}

static void capture(struct replica *r, struct captured *c)
{
    const struct sluice_request *q = c->request;

    if (goes_to_link(r) && is_left_behind(r) && !spill_begin(r) && link_mirrors(r))
        leave_behind(r);
    if (!goes_to_link(r) && !r->spill.is_spilling)
        r->seq++;
    else
        send_parts(r, c);
    if (r->link != LINK_STREAMING && !goes_to_link(r))
        evidence_mark(r, c->offset, q->length, false);
    c->seq = r->seq;
    spill_note(r, c->seq);
    evidence_begin_write(r, c->offset, q->length, c->seq);
    sluice_count(c->member->disk, COUNT_CAPTURED, 1);
}

/* It goes on, and is no more of ours. */
void captured_leave(struct captured *c, struct sluice_verdict v)
{
    c->member->inside--;
    sluice_resume(c->member->disk, c->request, v);
}

/* Where there is no stream the next batch brings it. */
void capture_record(struct replica *r, struct frame *f, const void *payload)
{
    if (goes_to_link(r) && is_left_behind(r) && !spill_begin(r) && link_mirrors(r))
        leave_behind(r);
    r->seq++;
    if ((!goes_to_link(r) && !r->spill.is_spilling) || MUTANT(130))
        return;
    f->epoch = lineage_tip(&r->super.lineage).epoch;
    f->seq = r->seq;
    spill_note(r, f->seq);
    put_part(r, f, payload, f->bytes);
}

static const char *why_waiting(const struct replica *r, const struct captured *c)
{
    if (!is_taking(r))
        return "replication: this side does not serve the disk";
    if (!backlog_lets_write(r, c->offset, c->request->length))
        return "replication: waits for what the peer had written";
    return r->link == LINK_DOWN || r->link == LINK_RESTING ? "replication: waits for its peer"
                                                           : NULL;
}

static struct sluice_verdict start_change(struct replica *r, struct captured *c)
{
    const char *reason;

    if (!r->waiting && may_begin(r, c) && sluice_commit(c->member->disk, c->request)) {
        capture(r, c);
        return sluice_pass_and_tell();
    }
    reason = why_waiting(r, c);
    if (reason)
        sluice_hold(c->member->disk, c->request, reason);
    captured_append(&r->waiting_last, c);
    replica_kick(r);
    return sluice_defer();
}

/* A flush goes down at once; its end waits for the peer's. */
static struct sluice_verdict start_flush(struct replica *r, struct captured *c)
{
    struct frame f = {
        .type = FRAME_FLUSH, .epoch = lineage_tip(&r->super.lineage).epoch, .seq = r->seq};

    c->is_flush = true;
    c->seq = r->seq;
    if (link_mirrors(r) && !r->settings.is_async)
        link_send(r, &f, NULL, 0);
    return sluice_pass_and_tell();
}

struct sluice_verdict capture_start(struct member *m, struct sluice_request *request,
                                    struct captured *c)
{
    struct replica *r = m->r;
    struct sluice_verdict v;

    /* The gateway's own, before a snapshot or a stop: about what lies below, whoever is primary. */
    if (request->op == SLUICE_OP_FLUSH && request->origin == SLUICE_ORIGIN_MAINTENANCE)
        return sluice_pass();
    replica_lock(r);
    c->request = request;
    c->member = m;
    c->offset = m->base + request->offset;
    if (is_left_over(r, c)) {
        v = sluice_fail(ESHUTDOWN);
    } else {
        m->inside++;
        v = request->op == SLUICE_OP_FLUSH ? start_flush(r, c) : start_change(r, c);
    }
    replica_unlock(r);
    return v;
}

void capture_admit(struct replica *r)
{
    struct captured *c, *next;

    for (c = r->waiting; c; c = next) {
        next = c->next;
        if (!may_begin(r, c))
            continue;
        captured_take_out(&r->waiting_last, c);
        if (!sluice_commit(c->member->disk, c->request))
            continue; /* cancelled: capture_cancel() finds it in no list */
        capture(r, c);
        sluice_resume(c->member->disk, c->request, sluice_pass_and_tell());
    }
}

/* --- ending
 * --------------------------------------------------------------------------------------------------------------
 */

static uint64_t acknowledged(const struct replica *r)
{
    switch (r->settings.level) {
    case ACK_RECEIVED:
        return r->acked_received;
    case ACK_JOURNALED:
        return r->acked_journaled;
    default:
        return r->acked_applied;
    }
}

static bool may_end(const struct replica *r, const struct captured *c)
{
    bool is_durable = c->is_flush || (c->request->flags & SLUICE_FLAG_FUA);

    if (r->settings.is_async || c->request->error || (r->is_alone && r->link != LINK_STREAMING))
        return true;
    if (r->link != LINK_STREAMING && !(MUTANT(3) && r->link == LINK_RESYNC))
        return false;
    return (is_durable && !MUTANT(4) ? r->acked_stable : acknowledged(r)) >= c->seq;
}

struct sluice_verdict capture_end(struct replica *r, struct sluice_request *q, struct captured *c)
{
    struct sluice_verdict v;

    replica_lock(r);
    if (!c->is_flush) {
        evidence_end_write(r, c->offset, q->length);
        if (q->error) {
            evidence_mark(r, c->offset, q->length, !MUTANT(5));
            r->resync_wanted = true;
        }
        if (r->link == LINK_RESYNC || r->is_demoting || r->verify.is_running)
            replica_kick(r);
        if (r->is_closing)
            replica_wake(&r->changed);
    }
    if (may_end(r, c)) {
        v = sluice_pass();
    } else if (is_left_over(r, c)) {
        v = sluice_fail(ESHUTDOWN);
    } else {
        captured_append(&r->unacked_last, c);
        if (!link_mirrors(r))
            sluice_hold(c->member->disk, q, "replication: waits for its peer");
        v = sluice_defer();
    }
    c->member->inside -= v.kind != SLUICE_VERDICT_DEFER;
    replica_unlock(r);
    return v;
}

void capture_release(struct replica *r)
{
    struct captured *c, *next;

    for (c = r->unacked; c; c = next) {
        next = c->next;
        if (!may_end(r, c))
            continue;
        captured_take_out(&r->unacked_last, c);
        captured_leave(c, sluice_pass());
    }
}

static void refuse_all(struct captured ***last, struct captured *first, const struct member *of)
{
    struct captured *next;

    for (struct captured *c = first; c; c = next) {
        next = c->next;
        if (of && c->member != of)
            continue;
        captured_take_out(last, c);
        captured_leave(c, sluice_fail(ESHUTDOWN));
    }
}

void capture_abandon(struct replica *r, const struct member *of)
{
    refuse_all(&r->waiting_last, r->waiting, of);
    refuse_all(&r->reading_last, r->reading, of);
    refuse_all(&r->unacked_last, r->unacked, of);
}

enum sluice_cancel_answer capture_cancel(struct replica *r, struct captured *c)
{
    enum sluice_cancel_answer answer = SLUICE_CANCEL_RELEASED;

    replica_lock(r);
    if (c->seq || c->is_flush)
        answer = SLUICE_CANCEL_BUSY; /* the peer may have it */
    else if (c->link)
        captured_take_out(c->is_read ? &r->reading_last : &r->waiting_last, c);
    c->member->inside -= answer == SLUICE_CANCEL_RELEASED;
    replica_unlock(r);
    return answer;
}
