/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * seed.c: what a batch costs, and how it is made cheap.  Before an extent that may differ is
 * copied, the peer is asked by its hashes which of its grains do differ (compare.c): a copied
 * image, an old copy, or what the activity log held when the primary was killed, is then brought up
 * to date for less than a thousandth of its bytes.  Where everything differs, asking would cost a
 * round of reading for nothing: after answers of that kind more and more extents are copied
 * unasked.
 *
 * What the source has read, or called the same, is settled by COMMIT.  Before that it is flushed
 * below: otherwise a power cut could take back what a killed primary had left in a volatile cache,
 * and nobody would know any more.
 */
#include "replica.h"

#define UNASKED_FIRST 4u
#define UNASKED_MAX 256u

/* --- whether to ask
 * -------------------------------------------------------------------------------------------------
 */

bool seed_is_stale(const struct replica *r)
{
    return r->plan == PLAN_SOURCE && r->theirs.has_seq < r->evidence.settled_seq && !MUTANT(55);
}

void seed_on_stale(struct replica *r)
{
    sluice_log(r->disk, SLUICE_LOG_WARNING,
               "replication: the peer's copy is older than what it has had: sequence %llu, not "
               "%llu; all of it is compared",
               (unsigned long long)r->theirs.has_seq, (unsigned long long)r->evidence.settled_seq);
    sluice_event_emit(r->disk, "stale", "seq:%llu", (unsigned long long)r->theirs.has_seq);
    evidence_mark_all(r);
    r->seed.mode = SEED_ASK_ALL;
}

/* A batch that brings anything has a number of its own, so that a disk from before it is older than
 * one with it. */
static void take_number(struct replica *r)
{
    if (r->seq + 2 < r->saved_seq_limit)
        r->seq++;
    if (r->seq + SEQ_MARGIN < r->super.seq_limit)
        return;
    r->super.seq_limit = r->seq + SEQ_STEP;
    super_change(r);
}

void seed_begin(struct replica *r, uint64_t dirty_bytes)
{
    struct seed *s = &r->seed;

    if (dirty_bytes)
        take_number(r);

    s->unasked = s->pause = 0;
    s->round++;
    s->is_flushed = dirty_bytes == 0;
    s->started_ns = sluice_now_ns(r->disk);
    s->now = (struct batch_cost){.bytes = dirty_bytes};
}

bool seed_asks(const struct replica *r)
{
    return r->seed.mode == SEED_ASK_ALL || (r->seed.mode == SEED_ASK && r->seed.unasked == 0);
}

void seed_on_unasked(struct replica *r)
{
    if (r->seed.unasked)
        r->seed.unasked--;
}

void seed_on_answer(struct replica *r, const struct compare *c, uint16_t differs)
{
    struct seed *s = &r->seed;

    s->now.same_bytes += compare_bytes(r, c->extent, c->grains & (uint16_t)~differs);
    if (differs != c->grains) {
        s->pause = 0;
        return;
    }
    s->pause = s->pause ? s->pause * 2 : UNASKED_FIRST;
    if (s->pause > UNASKED_MAX)
        s->pause = UNASKED_MAX;
    s->unasked = s->pause;
}

/* --- before COMMIT
 * --------------------------------------------------------------------------------------------------
 */

static void on_flushed(struct sluice_io *io, int32_t error)
{
    struct replica *r = (struct replica *)(void *)((char *)io - offsetof(struct replica, seed.io));

    replica_lock(r);
    r->seed.is_flushing = false;
    if (error)
        members_health(r, SLUICE_HEALTH_FAILED, "replication: what lies below cannot be flushed",
                       "look at the backing; it is tried again");
    else
        r->seed.is_flushed = r->seed.flushing_round == r->seed.round;
    if (!error)
        replica_kick(r); /* else the timer does */
    replica_wake(&r->changed);
    replica_unlock(r);
}

bool seed_wants_flush(struct replica *r)
{
    struct seed *s = &r->seed;

    if (MUTANT(54))
        s->is_flushed = true;
    if (s->is_flushed || s->is_flushing || members_rest(r) || r->is_closing)
        return false;
    s->is_flushing = true;
    s->flushing_round = s->round;
    s->io = (struct sluice_io){
        .op = SLUICE_OP_FLUSH, .origin = SLUICE_ORIGIN_RESYNC, .done = on_flushed};
    return true;
}

void seed_flush(struct replica *r)
{
    if (members_submit(r, &r->seed.io) < 0)
        on_flushed(&r->seed.io, 5);
}

void seed_on_committed(struct replica *r)
{
    struct seed *s = &r->seed;

    s->batches++;
    s->mode = s->usual;
    if (!s->now.bytes) /* empty: as on most connections */
        return;
    s->now.spent_ns = sluice_now_ns(r->disk) - s->started_ns;
    s->last = s->now;
    sluice_log(
        r->disk, SLUICE_LOG_NOTICE,
        "replication: a batch of %llu bytes is with the peer: %llu were the same, %llu were sent",
        (unsigned long long)s->last.bytes, (unsigned long long)s->last.same_bytes,
        (unsigned long long)s->last.sent_bytes);
}

/* --- telling
 * ------------------------------------------------------------------------------------------------------------
 */

void seed_tell(struct replica *r, struct sluice_reply *reply)
{
    const struct seed *s = &r->seed;
    uint64_t taken = r->todo_total - r->todo_left, spent = sluice_now_ns(r->disk) - s->started_ns;

    if (r->link == LINK_RESYNC && taken) {
        sluice_reply_integer(r->disk, reply, "resync_done_bytes", (int64_t)(taken * EXTENT_BYTES));
        sluice_reply_integer(r->disk, reply, "resync_total_bytes",
                             (int64_t)(r->todo_total * EXTENT_BYTES));
        sluice_reply_integer(r->disk, reply, "resync_left_ms",
                             (int64_t)((double)spent / (double)taken * (double)r->todo_left / 1e6));
    }
    sluice_reply_integer(r->disk, reply, "batches", (int64_t)s->batches);
    sluice_reply_integer(r->disk, reply, "batch_bytes", (int64_t)s->last.bytes);
    sluice_reply_integer(r->disk, reply, "batch_same_bytes", (int64_t)s->last.same_bytes);
    sluice_reply_integer(r->disk, reply, "batch_sent_bytes", (int64_t)s->last.sent_bytes);
}
