/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * resync.c: the source's side of a batch.  After BEGIN come, in one stream and so in one order,
 * what differs and what guests write meanwhile; the target keeps it apart and takes it over at
 * COMMIT as one change.  Every connection begins with a batch; when nothing differs it is empty.
 * What may differ is first compared by hashes where that pays (seed.c).
 *
 * An extent is copied while nobody writes it: writes to it wait until it has been read (no lock of
 * the host's is taken, since a write that waits for the peer keeps its own until the batch is
 * committed).
 */
#include "replica.h"

#include <stdlib.h>
#include <string.h>

#define QUEUE_MAX (4u << 20)   /* bytes queued before copying pauses */
#define FLIGHT_MAX (16u << 20) /* bytes sent and not journaled */

static uint64_t epoch_of(const struct replica *r)
{
    return lineage_tip(&r->super.lineage).epoch;
}

/* --- what is to be copied
 * ----------------------------------------------------------------------------------------- */

static uint16_t dirty_grains(const struct replica *r, uint64_t extent)
{
    uint16_t mask = 0;

    for (unsigned i = 0; i < EXTENT_GRAINS; i++)
        if (evidence_is_dirty(&r->evidence, extent * EXTENT_GRAINS + i))
            mask |= (uint16_t)(1u << i);
    return mask;
}

static void choose(struct replica *r)
{
    r->todo_left = r->todo_at = 0;
    for (uint64_t x = 0; x < r->evidence.extents; x++) {
        bool is_dirty = dirty_grains(r, x) != 0;

        r->todo[x / 8] =
            (uint8_t)((r->todo[x / 8] & ~(1u << (x % 8))) | (unsigned)is_dirty << (x % 8));
        r->todo_left += is_dirty;
    }
    r->todo_total = r->todo_left;
}

void resync_reserve(struct replica *r)
{
    if (r->theirs.seq + SEQ_MARGIN < r->super.seq_limit || r->theirs.seq > UINT64_MAX / 2)
        return;
    r->super.seq_limit = r->theirs.seq + SEQ_STEP;
    super_change(r);
}

/* Above all that the peer has ever given or got, so that its last number says what it has of ours.
 */
static void pass_their_numbers(struct replica *r)
{
    if (r->theirs.seq > r->seq && r->theirs.seq + SEQ_MARGIN / 2 < r->saved_seq_limit)
        r->seq = r->theirs.seq;
}

/* Where the peer is asked first, what differs is mostly far less than what may: the activity log of
 * a primary that was killed above all.  If it is too much after all the peer says so, and the batch
 * begins anew without being kept apart. */
static bool is_surely_too_much(const struct replica *r, uint64_t dirty_bytes)
{
    return r->seed.mode == SEED_SEND_ALL && dirty_bytes > r->settings.journal_bytes / 2;
}

void resync_begin(struct replica *r, bool is_full)
{
    uint64_t dirty;
    struct frame f = {
        .type = FRAME_BEGIN, .epoch = epoch_of(r), .seq = r->seq, .offset = r->batch_nonce};

    resync_stop(r);
    spill_drop(r);
    evidence_mark_after(r, r->acked_stable);
    if (is_full)
        evidence_mark_all(r);
    /* From here on what is written is in the batch; what fails is marked beyond it. */
    memset(r->evidence.again, 0, (r->evidence.grains + 7) / 8);
    choose(r);
    dirty = evidence_dirty_bytes(r);
    if (is_full || r->must_unstage || is_surely_too_much(r, dirty))
        f.flags = FRAME_UNSTAGED;
    pass_their_numbers(r);
    seed_begin(r, dirty);
    f.seq = r->seq;
    r->must_unstage = r->commit_is_sent = r->resync_wanted = false;
    r->acked_received = r->acked_journaled = r->acked_stable = r->acked_applied = 0;
    r->sent_bytes = r->peer_journaled_bytes = 0; /* the target counts anew too */
    link_send(r, &f, NULL, 0);
    link_set(r, LINK_RESYNC);
    sluice_event_emit(r->disk, "resync", "state:begun bytes:%llu", (unsigned long long)dirty);
    capture_admit(r);
}

void resync_begin_replay(struct replica *r, uint64_t seq)
{
    struct frame f = {
        .type = FRAME_BEGIN, .epoch = epoch_of(r), .seq = seq, .offset = r->batch_nonce};

    resync_stop(r);
    r->commit_is_sent = false;
    r->todo_total = 0;
    r->acked_received = r->acked_journaled = r->acked_stable = r->acked_applied = 0;
    r->sent_bytes = r->peer_journaled_bytes = 0;
    link_send(r, &f, NULL, 0);
    link_set(r, LINK_RESYNC);
    capture_admit(r);
}

void resync_stop(struct replica *r)
{
    for (unsigned i = 0; i < COPIES; i++) {
        r->copies[i].todo = 0;
        r->copies[i].is_busy = r->copies[i].is_reading; /* one that reads ends by itself */
    }
    r->todo_left = 0;
    compare_stop(r, COMPARE_RESYNC);
    if (r->link != LINK_RESYNC)
        return;
    /* What was acknowledged in a batch that does not end has never been. */
    if (!MUTANT(17))
        r->acked_received = r->acked_journaled = r->acked_stable = r->acked_applied = 0;
    members_progress(r, NULL, 0, 0);
}

bool resync_is_copying(const struct replica *r, uint64_t offset, uint64_t bytes)
{
    for (unsigned i = 0; i < COPIES; i++)
        if ((r->copies[i].is_reading || (r->copies[i].is_busy && !members_rest(r))) && !MUTANT(6) &&
            r->copies[i].extent >= offset / EXTENT_BYTES &&
            r->copies[i].extent <= (offset + bytes - 1) / EXTENT_BYTES)
            return true;
    return compare_holds_write(r, offset, bytes);
}

/* --- copying
 * ----------------------------------------------------------------------------------------------------------
 */

static void send_grain(struct replica *r, struct copying *c)
{
    struct frame f = {.type = FRAME_WRITE,
                      .epoch = epoch_of(r),
                      .offset = c->grain * GRAIN_BYTES,
                      .bytes = c->io.length};
    bool is_hole = is_all_zero(c->data, c->io.length);

    if (is_hole)
        f.type = FRAME_ZERO;
    r->seed.now.sent_bytes += FRAME_BYTES + (is_hole ? 0 : c->io.length);
    link_send(r, &f, c->data, is_hole ? 0 : c->io.length);
    sluice_count(r->disk, COUNT_RESYNC_BYTES, is_hole ? 0 : (int64_t)c->io.length);
}

static void end_copy(struct replica *r, struct copying *c)
{
    c->is_busy = false;
    capture_admit(r);
    replica_kick(r);
}

static void on_read(struct sluice_io *io, int32_t error)
{
    struct copying *c = (struct copying *)(void *)((char *)io - offsetof(struct copying, io));
    struct replica *r = c->r;

    replica_lock(r);
    c->is_reading = false;
    if (r->link == LINK_RESYNC && c->todo) {
        c->todo &= (uint16_t)(c->todo - 1);
        if (error) {
            evidence_mark(r, c->grain * GRAIN_BYTES, io->length, true);
            r->resync_wanted = true;
        } else {
            send_grain(r, c);
        }
    }
    if (!c->todo || r->link != LINK_RESYNC)
        end_copy(r, c);
    else
        replica_kick(r);
    replica_unlock(r);
}

/* True: the grain is to be read. */
static bool prepare_read(struct replica *r, struct copying *c)
{
    uint64_t bytes;

    if (!c->is_busy || c->is_reading || !c->todo)
        return false;
    c->grain = c->extent * EXTENT_GRAINS + (unsigned)__builtin_ctz(c->todo);
    bytes = members_grain_bytes(r, c->grain);
    if (!bytes) { /* past the end of a disk: its last extent is not a whole one */
        c->todo &= (uint16_t)(c->todo - 1);
        if (!c->todo)
            end_copy(r, c);
        return prepare_read(r, c);
    }
    c->is_reading = true;
    c->r = r;
    c->io = (struct sluice_io){.op = SLUICE_OP_READ,
                               .origin = SLUICE_ORIGIN_RESYNC,
                               .offset = c->grain * GRAIN_BYTES,
                               .length = bytes,
                               .data = c->data,
                               .done = on_read};
    return true;
}

static bool is_throttled(struct replica *r)
{
    return r->out_bytes > QUEUE_MAX || r->sent_bytes - r->peer_journaled_bytes > FLIGHT_MAX ||
           members_rest(r) || (r->settings.max_rate && sluice_now_ns(r->disk) < r->rate_at_ns);
}

static void spend_rate(struct replica *r, uint64_t bytes)
{
    uint64_t now = sluice_now_ns(r->disk);

    if (!r->settings.max_rate)
        return;
    if (r->rate_at_ns < now)
        r->rate_at_ns = now;
    r->rate_at_ns += bytes * 1000000000ull / r->settings.max_rate;
    if (r->rate_at_ns > now)
        replica_tick_in(r, r->rate_at_ns - now);
}

/* The next extent that is due and that nobody writes; it is due no more.  False: there is none now.
 */
static bool take_due(struct replica *r, uint64_t *extent)
{
    for (uint64_t n = 0; r->todo_left && n < r->evidence.extents; n++) {
        uint64_t x = (r->todo_at + n) % r->evidence.extents;

        if (!(r->todo[x / 8] >> (x % 8) & 1) || (evidence_is_writing(r, x) && !MUTANT(7)))
            continue;
        r->todo[x / 8] &= (uint8_t) ~(1u << (x % 8));
        r->todo_at = x + 1;
        r->todo_left--;
        *extent = x;
        members_progress(r, "resync", r->todo_total - r->todo_left, r->todo_total);
        return true;
    }
    return false;
}

static void ask_about(struct replica *r)
{
    uint64_t x;

    while (seed_asks(r) && compare_is_room(r, COMPARE_RESYNC) && !is_throttled(r) &&
           take_due(r, &x)) {
        uint16_t grains = dirty_grains(r, x) & compare_grains(r, x);

        spend_rate(r, compare_bytes(r, x, grains));
        if (!grains || compare_begin(r, COMPARE_RESYNC, x, grains))
            continue;
        r->todo[x / 8] |= (uint8_t)(1u << (x % 8)); /* no memory: later */
        r->todo_left++;
        break;
    }
}

/* What was found to differ before what nobody was asked about. */
static bool take_extent(struct replica *r, struct copying *c)
{
    c->todo = compare_take_differing(r, &c->extent);
    c->is_paid = c->todo != 0;
    if (!c->todo) {
        if (seed_asks(r) || !take_due(r, &c->extent))
            return false;
        c->todo = dirty_grains(r, c->extent);
        seed_on_unasked(r);
    }
    c->is_busy = c->todo != 0;
    return true;
}

static bool is_copying_any(const struct replica *r)
{
    for (unsigned i = 0; i < COPIES; i++)
        if (r->copies[i].is_busy)
            return true;
    return false;
}

/* From here on the peer may have taken over the last epoch, also when we are killed before we hear
 * of it: one that begins then follows that epoch, and does not stand in its place. */
static bool is_epoch_kept(struct replica *r)
{
    if (!r->super.tip_is_shared && !MUTANT(73)) {
        r->super.tip_is_shared = true;
        r->share_change = super_change(r);
    }
    return r->super_saved >= r->share_change;
}

void resync_send_commit(struct replica *r, uint64_t seq)
{
    uint8_t payload[LINEAGE_BYTES_MAX];
    size_t length = lineage_put(payload, &r->super.lineage);
    struct frame f = {.type = FRAME_COMMIT, .epoch = epoch_of(r), .seq = seq, .bytes = length};

    if (!is_epoch_kept(r))
        return;                 /* once more when it is */
    if (!r->spill.is_replaying) /* those of a replay come in their order */
        records_send_all(r);
    r->commit_is_sent = true;
    r->commit_seq = seq;
    spill_on_commit(r, seq);
    link_send(r, &f, payload, length);
}

/* Everything is with the peer: true: it has to be flushed here before that counts. */
static bool end_batch(struct replica *r)
{
    if (r->todo_left || is_copying_any(r) || compare_is_any(r, COMPARE_RESYNC))
        return false;
    if (seed_wants_flush(r))
        return true;
    if (r->seed.is_flushed)
        resync_send_commit(r, r->seq);
    return false;
}

void resync_pump(struct replica *r)
{
    struct copying *reads[COPIES];
    unsigned n = 0;
    bool flushes = false;

    replica_lock(r);
    if (r->link == LINK_RESYNC && !r->commit_is_sent && !r->spill.is_replaying) {
        ask_about(r);
        for (unsigned i = 0; i < COPIES && !is_throttled(r); i++) {
            struct copying *c = &r->copies[i];

            if (!c->is_busy && !c->is_reading && !take_extent(r, c))
                continue;
            if (prepare_read(r, c)) {
                spend_rate(r, c->is_paid ? 0 : c->io.length);
                reads[n++] = c;
            }
        }
        flushes = end_batch(r);
    }
    replica_unlock(r);
    if (flushes)
        seed_flush(r);
    for (unsigned i = 0; i < n; i++)
        if (members_submit(r, &reads[i]->io) < 0)
            on_read(&reads[i]->io, 5);
}

/* Both have it: what the batch was about is clean on both sides. */
void resync_on_committed(struct replica *r)
{
    uint64_t seq = r->commit_seq;
    bool was_replay;

    if (r->link != LINK_RESYNC || !r->commit_is_sent)
        return;
    if (r->acked_received < seq)
        r->acked_received = seq;
    if (r->acked_journaled < seq)
        r->acked_journaled = seq;
    if (r->acked_stable < seq)
        r->acked_stable = seq;
    members_progress(r, NULL, 0, 0);
    was_replay = r->spill.is_replaying;
    if (!was_replay)
        evidence_settle(r);
    r->evidence.settled_seq = seq;
    r->alone_wanted = false;
    r->alone_until = MUTANT(22) ? 0 : r->seq;
    r->super.is_split = false;
    super_change(r);
    spill_on_committed(r);
    if (!was_replay && r->resync_wanted)
        spill_drop(r); /* something differs that it does not say */
    /* Records of another life do not know what came after them. */
    link_set(r, was_replay && !r->spill.is_open && !MUTANT(85) ? LINK_AHEAD : LINK_STREAMING);
    sluice_event_emit(r->disk, "resync", "state:done seq:%llu", (unsigned long long)seq);
    if (!was_replay) {
        seed_on_committed(r);
        verify_on_resynced(r);
    }
    roles_tell(r);
    capture_admit(r);
}

void resync_end_alone(struct replica *r)
{
    if (r->link != LINK_STREAMING || !r->super.was_alone || r->acked_stable < r->alone_until)
        return;
    r->is_alone = false;
    r->super.was_alone = false;
    super_change(r);
    sluice_event_emit(r->disk, "protected", "seq:%llu", (unsigned long long)r->alone_until);
    roles_tell(r);
}
