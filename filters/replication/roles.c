/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * roles.c: who serves the disk, and what the primary does without its peer.
 *
 *     secondary --promote--> primary    everything in the journal is durable there, then the new
 * epoch is: what is not applied yet is served all the same (backlog.h) primary  --demote--->
 * secondary   nothing is under way, both sides stable, the log empty, then durable primary  --hears
 * of a later epoch--> secondary   (PLAN_STEP_DOWN)
 *
 * A primary serves while it has its peer, or when it is alone; before the first write that it
 * acknowledges alone, that it does so is durable.
 */
#include "replica.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define TICK_NS 500000000ull
#define CLEAN_NS 5000000000ull
#define DRAIN_NS 1000000000ull /* for what was under way when a side was to step down */
#define DRAIN_TICK_NS 2000000ull
#define ASK_NS 5000000000ull

/* --- serving
 * ------------------------------------------------------------------------------------------------------
 */

void roles_serve(struct replica *r, bool is_serving, const char *reason)
{
    r->is_serving = is_serving;
    members_gate(r, !is_serving, reason);
    sluice_event_emit(r->disk, is_serving ? "serving" : "not-serving", "epoch:%llu",
                      (unsigned long long)lineage_tip(&r->super.lineage).epoch);
    roles_tell(r);
    if (is_serving)
        capture_admit(r);
}

void roles_open(struct replica *r)
{
    r->opened_ns = r->lost_ns = sluice_now_ns(r->disk);
    if (r->super.role == REPLICA_PRIMARY) {
        r->seq = r->super.seq_limit;
        r->needs_epoch = evidence_is_any(r);
        roles_serve(r, false, "replication: waits for its peer");
    } else {
        r->seq = r->journaled_seq >= r->super.seq_limit ? r->journaled_seq : r->super.seq_limit - 1;
        roles_serve(r, false, "replication: secondary");
    }
    replica_tick_in(r, TICK_NS);
}

/* --- without the peer
 * ------------------------------------------------------------------------------------------------
 */

static void want_alone(struct replica *r)
{
    if (r->alone_wanted || r->is_alone)
        return;
    r->alone_wanted = true;
    r->super.was_alone = true;
    r->alone_change = super_change(r);
}

void roles_on_lost(struct replica *r)
{
    if (!r->lost_ns)
        r->lost_ns = sluice_now_ns(r->disk);
    if (r->is_demoting) {
        r->is_demoting = r->is_handing_over = false;
        sluice_log(r->disk, SLUICE_LOG_WARNING,
                   "replication: not demoted: the peer was lost meanwhile");
    }
    if (r->super.role == REPLICA_PRIMARY && r->is_serving && r->settings.is_async)
        want_alone(r);
    roles_tell(r);
}

static bool is_too_long(const struct replica *r, uint64_t now)
{
    uint64_t limit = r->is_serving ? r->settings.peer_timeout_ns : r->settings.peer_wait_ns;
    /* A peer that was asked has the same time to answer: it may have to seal what it has. */
    uint64_t since = r->link == LINK_ASKED && r->asked_ns > r->lost_ns ? r->asked_ns : r->lost_ns;

    return r->lost_ns && now - since >= limit && (!r->settings.holds || r->settings.is_async);
}

static void become_alone(struct replica *r)
{
    if (!r->alone_wanted || (r->super_saved < r->alone_change && !MUTANT(12)))
        return;
    r->alone_wanted = false;
    r->is_alone = true;
    sluice_log(r->disk, SLUICE_LOG_WARNING, "replication: NOT PROTECTED: alone since sequence %llu",
               (unsigned long long)r->seq);
    sluice_event_emit(r->disk, "alone", "seq:%llu", (unsigned long long)r->seq);
    roles_tell(r);
    capture_release(r);
    capture_admit(r);
}

/* --- the health line: if the primary died now, what would be lost, and who may take over?
 * -------------------------------- */

struct telling {
    uint32_t state;
    const char *sentence, *remedy;
};

static struct telling tell_primary(const struct replica *r)
{
    if (r->link == LINK_STREAMING && r->spill.is_spilling)
        return (struct telling){SLUICE_HEALTH_DEGRADED,
                                "if this side died now, the peer could take over; writes that wait "
                                "on SSD for the link would be lost",
                                "look at the link"};
    if (r->link == LINK_STREAMING)
        return r->settings.is_async
                   ? (struct telling){SLUICE_HEALTH_OK,
                                      "if this side died now, the peer could take over; writes "
                                      "under way to it would be lost",
                                      ""}
                   : (struct telling){SLUICE_HEALTH_OK,
                                      "if this side died now, nothing acknowledged would be lost; "
                                      "the peer may take over",
                                      ""};
    if (r->link == LINK_RESYNC || r->link == LINK_ASKED)
        return (struct telling){
            SLUICE_HEALTH_DEGRADED,
            "the peer is being brought up to date; until then it holds an older instant", ""};
    if (r->link == LINK_AHEAD)
        return (struct telling){
            SLUICE_HEALTH_DEGRADED,
            "the link is too slow: the peer is left behind and brought up to date later",
            "look at the link"};
    if (r->is_alone)
        return (struct telling){SLUICE_HEALTH_DEGRADED,
                                "NOT PROTECTED: writes are acknowledged without the peer",
                                "bring the peer back"};
    return (struct telling){SLUICE_HEALTH_DEGRADED, "suspended: writes wait for the peer",
                            "bring the peer back, or set on_peer_loss: degrade"};
}

static struct telling tell_secondary(const struct replica *r)
{
    if (r->super.has_own && r->seals.error[0])
        return (struct telling){
            SLUICE_HEALTH_FAILED, r->seals.error,
            "nothing has been overwritten; make room there, or drop old seals (`sluice replication "
            "seals DISK`): it is tried again"};
    if (r->super.data == DATA_NONE)
        return (struct telling){SLUICE_HEALTH_DEGRADED, "secondary without contents",
                                "promote the side that has the data"};
    if (r->super.data == DATA_HALF)
        return (struct telling){SLUICE_HEALTH_DEGRADED,
                                "secondary in the middle of a first copy: cannot take over",
                                "let the copy end"};
    if (r->super.is_damaged)
        return (struct telling){
            SLUICE_HEALTH_FAILED,
            "the journal is damaged: what the primary was promised is lost here, this is an older "
            "instant",
            "look at the disk below the state folder; the primary sends everything anew"};
    if (r->link == LINK_TARGET)
        return (struct telling){SLUICE_HEALTH_OK, "secondary, follows; may take over", ""};
    return (struct telling){SLUICE_HEALTH_DEGRADED,
                            "secondary without its primary: holds an older instant",
                            "bring the primary back, or promote this side"};
}

static struct telling tell_failing(const struct replica *r)
{
    const struct entry *e = r->journal.untaken;

    if (r->journal.failing == 1 && e && e->error)
        return (struct telling){
            SLUICE_HEALTH_FAILED,
            "the peer's reservations cannot be kept here, or not be read from the journal; until "
            "they are, this side cannot be promoted",
            "look at the file system of the state folder, and at the disk of the journal; it is "
            "tried again"};
    return (struct telling){
        SLUICE_HEALTH_FAILED,
        "what the peer wrote cannot be written here, or not be read from the journal; it stays "
        "in the journal, and guests' requests for it fail",
        "look at the backing, and at the disk of the journal; it is tried again"};
}

void roles_tell(struct replica *r)
{
    struct telling t = r->super.role == REPLICA_PRIMARY ? tell_primary(r) : tell_secondary(r);

    if (verify_has_found(r) && t.state == SLUICE_HEALTH_OK)
        t = (struct telling){SLUICE_HEALTH_DEGRADED,
                             "verify has found that the two copies differ: see `sluice verify`",
                             "`sluice verify --repair DISK` sends what differs to the peer"};
    if (seal_count(&r->seals) >= SEALS_MANY && t.state == SLUICE_HEALTH_OK)
        t = (struct telling){SLUICE_HEALTH_DEGRADED,
                             "nearly as many seals are kept as can be; without room for another "
                             "this side cannot follow again after a forced failover",
                             "drop old ones: `sluice replication seals DISK`"};
    if (r->journal.failing)
        t = tell_failing(r);
    if (r->super.is_split)
        t = (struct telling){
            SLUICE_HEALTH_FAILED,
            "split brain: both sides have writes that the other lacks; nothing is replicated",
            "choose the side to give up and run `sluice replication discard DISK` there"};
    members_health(r, t.state, t.sentence, t.remedy);
}

void roles_split(struct replica *r)
{
    if (r->super.is_split)
        return;
    r->super.is_split = true;
    super_change(r);
    sluice_log(r->disk, SLUICE_LOG_ERROR, "replication: split brain after sequence %llu: %s",
               (unsigned long long)r->fork_seq, r->plan_reason);
    sluice_event_emit(r->disk, "split-brain", "seq:%llu", (unsigned long long)r->fork_seq);
    roles_tell(r);
}

/* --- promotion
 * -------------------------------------------------------------------------------------------------------------
 */

const char *roles_cannot_promote(const struct replica *r, bool is_forced)
{
    if (r->super.role == REPLICA_PRIMARY)
        return "it is primary already";
    if (r->super.data == DATA_HALF)
        return "it is in the middle of a first copy: no instant of the disk";
    if (r->super.is_damaged && !is_forced)
        return "its journal is damaged: this is an older instant than what the primary was "
               "promised; "
               "say --force to take it all the same";
    if (r->link == LINK_TARGET && !is_forced)
        return "the primary is alive: hand over there, or say --force";
    if (r->link == LINK_RESTING && r->theirs.role == REPLICA_PRIMARY && !is_forced)
        return "the peer is primary: say --force if this side's contents are to be kept instead";
    if (r->super.data == DATA_NONE && r->super.lineage.count == 0 && r->link != LINK_DOWN &&
        r->theirs.lineage.count && !is_forced)
        return "it has no contents, and the peer has";
    if (!is_forced && r->link == LINK_DOWN && r->super.lineage.count)
        return "the peer cannot be asked: if it still serves, both sides will have writes of their "
               "own; say --force";
    return NULL;
}

void roles_promote(struct replica *r)
{
    if (r->is_promoting || r->super.role == REPLICA_PRIMARY)
        return;
    if (!r->discard_change)
        roles_keep(r);
    r->is_promoting = true;
    seal_stop(r);
    /* What was meant for an earlier reign must not come after what was written since. */
    if (!MUTANT(16))
        capture_abandon(r, NULL);
    members_set_guests_left(r, false);
    if (r->link == LINK_TARGET) {
        target_stop(r);
        compare_stop(r, COMPARE_ANSWER);
        link_set(r, LINK_RESTING);
    }
    r->backlog.is_short = false;
    replica_kick(r);
}

/* A number more, an id of its own.  One that no peer has taken over is replaced: it needs no place
 * in the list. */
static void open_epoch(struct replica *r)
{
    struct lineage *l = &r->super.lineage;
    struct lineage_entry tip = lineage_tip(l);
    uint64_t known = tip.epoch > lineage_tip(&r->theirs.lineage).epoch
                         ? tip.epoch
                         : lineage_tip(&r->theirs.lineage).epoch;

    if (l->count && !r->super.tip_is_shared && r->super.was_alone)
        l->entry[l->count - 1] = (struct lineage_entry){known + 1, replica_random(), tip.start_seq};
    else
        lineage_add(l, known + 1, replica_random(), r->seq);
    r->super.tip_is_shared = false;
}

/* What guests of an earlier reign sent is gone: they are cut off, and nothing of it is still on its
 * way to this filter, where it would come after what was written since. */
static bool is_free_of_the_past(struct replica *r)
{
    return members_have_role(r, false) && members_are_drained(r);
}

/* Nothing in the journal is needed any more but what is served and not applied, and nothing that
 * was cut from it may come back.  False: no memory. */
static bool take_backlog(struct replica *r)
{
    if (!r->has_backlog && r->journal.first && !backlog_make(r))
        return false;
    r->journal.term++;
    if (MUTANT(112))
        r->super.backlog_end = 0;
    if ((r->has_backlog && !MUTANT(112)) || MUTANT(19))
        return true;
    r->super.journal_tail = r->journal.head;
    r->super.journal_term = r->journal.term;
    return true;
}

static void promote_step(struct replica *r)
{
    if (!r->is_promoting)
        return;
    if (!r->role_change && !is_free_of_the_past(r)) {
        replica_tick_in(r, DRAIN_TICK_NS);
        return;
    }
    /* Whoever becomes primary knows that it has had an activity log. */
    if (!r->super.log_generation) {
        r->evidence.log_wanted = true;
        evidence_commit(r);
        return;
    }
    if (!r->role_change && !r->seals.job && (target_may_serve(r) || MUTANT(13))) {
        if (!take_backlog(r)) {
            r->backlog.is_short = true;
            replica_kick(r);
            return;
        }
        /* Its evidence would not know what the peer has besides. */
        if (r->super.is_damaged)
            evidence_mark_all(r);
        r->super.is_damaged = false;
        open_epoch(r);
        r->super.role = REPLICA_PRIMARY;
        r->super.data = DATA_CONSISTENT;
        r->super.has_own = true;
        r->super.seq_limit = r->seq + SEQ_STEP;
        r->super.has_seq = r->has_seq;
        r->needs_epoch = false;
        r->role_change = super_change(r);
    } else if (r->role_change && r->super_saved >= r->role_change) {
        r->role_change = 0;
        r->is_promoting = false;
        r->lost_ns = 1; /* nobody is waited for: whoever promotes has decided */
        sluice_log(r->disk, SLUICE_LOG_NOTICE, "replication: primary of epoch %llu",
                   (unsigned long long)lineage_tip(&r->super.lineage).epoch);
        members_request_role(r, SLUICE_ROLE_PRIMARY, lineage_tip(&r->super.lineage).epoch);
        link_greet(r);
        /* Reads at once, also under hold: the contents are settled.  Writes wait for the peer. */
        roles_serve(r, true, NULL);
        replica_wake(&r->changed);
    }
}

/* --- demotion
 * ------------------------------------------------------------------------------------------------------------------
 */

void roles_demote(struct replica *r)
{
    if (r->is_demoting || r->super.role != REPLICA_PRIMARY)
        return;
    r->is_demoting = true;
    r->demoting_ns = sluice_now_ns(r->disk);
    roles_serve(r, false, "replication: hands the disk over");
    replica_kick(r);
}

static bool is_anything_writing(const struct replica *r)
{
    for (unsigned i = 0; i < ACTIVE_MAX; i++)
        if (r->evidence.active[i].is_used && r->evidence.active[i].writing)
            return true;
    return r->unacked != NULL;
}

static void become_secondary(struct replica *r)
{
    /* What this side wrote itself it has. */
    r->has_seq = r->super.has_seq = r->seq > r->has_seq ? r->seq : r->has_seq;
    spill_drop(r);
    r->super.seq_limit = r->seq + 1; /* what was reserved was not used */
    r->super.role = REPLICA_SECONDARY;
    r->is_alone = r->alone_wanted = false;
    r->role_change = super_change(r);
    members_set_guests_left(r, false);
}

static void end_demotion(struct replica *r)
{
    struct frame f = {
        .type = FRAME_HANDOVER, .epoch = lineage_tip(&r->super.lineage).epoch, .seq = r->seq};

    r->role_change = 0;
    r->is_demoting = false;
    if (MUTANT(66))
        members_set_guests_left(r, true);
    members_request_role(r, SLUICE_ROLE_SECONDARY, f.epoch);
    sluice_log(r->disk, SLUICE_LOG_NOTICE, "replication: secondary");
    if (r->is_handing_over)
        link_send(r, &f, NULL, 0);
    r->is_handing_over = false;
    link_greet(r);
    roles_tell(r);
    replica_wake(&r->changed);
}

/* Also what is on its way to this filter, if it comes soon: what is held longer is sent again
 * by its client, to the other side. */
static bool is_drained(struct replica *r)
{
    return MUTANT(66) || (!r->waiting && members_are_drained(r)) ||
           sluice_now_ns(r->disk) - r->demoting_ns > DRAIN_NS;
}

static void demote_step(struct replica *r)
{
    if (!r->is_demoting)
        return;
    if (!r->role_change && !is_drained(r)) {
        replica_tick_in(r, DRAIN_TICK_NS);
        return;
    }
    if (r->role_change && r->super_saved >= r->role_change)
        end_demotion(r);
    else if (!r->role_change && r->link == LINK_STREAMING && !is_anything_writing(r) &&
             r->acked_stable >= r->seq && !evidence_is_any(r) &&
             r->evidence.commit == COMMIT_IDLE && !r->has_backlog)
        become_secondary(r);
}

/* The evidence of this side knows what it wrote since its own promotion, the last epoch of its
 * list. When more than that is to go, everything may differ. */
static bool knows_what_differs(const struct replica *r)
{
    struct lineage common = r->super.lineage;

    lineage_cut(&common, &r->theirs.lineage);
    return common.count && common.count + 1 >= r->super.lineage.count && r->super.has_own;
}

void roles_discard(struct replica *r, bool is_whole)
{
    if (r->is_discarding)
        return;
    r->discard_is_whole = is_whole;
    if (r->super.role == REPLICA_PRIMARY) {
        roles_serve(r, false, "replication: given up");
        become_secondary(r);
    }
    r->is_demoting = r->is_handing_over = false;
    r->discard_is_all = !knows_what_differs(r);
    if (r->discard_is_all) {
        r->super.has_own = true;
        evidence_mark_all(r);
    }
    r->discard_change = 0;
    r->seals.retry_ns = 0;
    r->seals.error[0] = 0;
    r->is_discarding = true;
    if (MUTANT(60))
        roles_sealed(r);
}

void roles_keep(struct replica *r)
{
    if (!r->is_discarding)
        return;
    r->is_discarding = false;
    r->role_change = 0;
    members_request_role(r, SLUICE_ROLE_SECONDARY, lineage_tip(&r->super.lineage).epoch);
    link_greet(r);
}

void roles_sealed(struct replica *r)
{
    r->super.has_own = false;
    if (r->is_discarding) {
        r->super.was_alone = r->super.is_split = false;
        lineage_cut(&r->super.lineage, &r->theirs.lineage);
        if (r->discard_is_all)
            r->super.data = DATA_NONE;
    }
    r->seals.change = super_change(r);
    if (r->is_discarding)
        r->discard_change = r->seals.change;
}

/* Succeeded by the other side: what is under way here was never acknowledged.  After a split the
 * one of the earlier epoch stops serving too; what it acknowledged alone stays until somebody
 * decides. */
static bool must_step_down(const struct replica *r)
{
    return r->plan == PLAN_STEP_DOWN ||
           (r->plan == PLAN_SPLIT && r->theirs.role == REPLICA_PRIMARY && !MUTANT(25) &&
            lineage_tip(&r->theirs.lineage).epoch > lineage_tip(&r->super.lineage).epoch);
}

static void end_step_down(struct replica *r, uint32_t role, uint64_t epoch)
{
    r->role_change = 0;
    members_request_role(r, role, epoch);
    link_greet(r);
}

static void step_down(struct replica *r)
{
    uint64_t later = lineage_tip(&r->theirs.lineage).epoch;

    if (r->is_discarding && r->discard_change && r->super_saved >= r->discard_change) {
        r->is_discarding = false;
        r->discard_change = 0;
        end_step_down(r, SLUICE_ROLE_SECONDARY, lineage_tip(&r->super.lineage).epoch);
    }
    if (!must_step_down(r) || r->is_discarding)
        return;
    if (r->super.role == REPLICA_PRIMARY && r->link == LINK_RESTING) {
        sluice_log(r->disk, SLUICE_LOG_WARNING, "replication: deposed by epoch %llu of the peer",
                   (unsigned long long)later);
        roles_serve(r, false, "replication: deposed by its peer");
        become_secondary(r);
    } else if (r->role_change && r->super_saved >= r->role_change && !r->is_promoting) {
        end_step_down(r, SLUICE_ROLE_DEPOSED, later);
    }
}

/* --- the primary: epoch, serving
 * --------------------------------------------------------------------------------------------------
 */

static void primary_step(struct replica *r)
{
    bool has_peer = r->link == LINK_ASKED || link_mirrors(r);
    uint64_t now = sluice_now_ns(r->disk);

    if (r->super.role != REPLICA_PRIMARY || r->is_demoting || r->is_promoting || must_step_down(r))
        return;
    if (!link_mirrors(r) && r->link != LINK_AHEAD && is_too_long(r, now))
        want_alone(r);
    if (r->takeover_waits && !r->has_backlog && r->link == LINK_STREAMING) {
        r->takeover_waits = false;
        r->is_handing_over = true;
        roles_demote(r);
        return;
    }
    if (r->needs_epoch && (has_peer || r->is_alone)) {
        r->needs_epoch = false;
        open_epoch(r);
        r->role_change = super_change(r);
        return;
    }
    if (r->role_change) {
        if (r->super_saved < r->role_change)
            return;
        r->role_change = 0;
        link_greet(r);
        return;
    }
    if (!r->is_serving && !r->needs_epoch && (link_mirrors(r) || r->is_alone))
        roles_serve(r, true, NULL);
}

/* --- extents leave the activity log when both sides are stable
 * ------------------------------------------------------------------------ */

static void on_cleaned(struct sluice_io *io, int32_t error)
{
    struct replica *r = (struct replica *)(void *)((char *)io - offsetof(struct replica, clean_io));

    replica_lock(r);
    r->is_cleaning = false;
    r->clean_flushed = !error;
    if (error)
        r->clean = CLEAN_IDLE;
    replica_kick(r);
    replica_unlock(r);
}

static bool wants_cleaning(const struct replica *r, uint64_t now)
{
    const struct evidence *e = &r->evidence;

    if (r->clean != CLEAN_IDLE || r->is_cleaning || !e->used || r->is_parked || r->is_closing ||
        r->super.role != REPLICA_PRIMARY)
        return false;
    if (r->link != LINK_STREAMING && !r->is_alone && r->link != LINK_AHEAD &&
        r->link != LINK_RESYNC)
        return false;
    /* What is marked now and sent after COMMIT would be settled by it. */
    if (r->link == LINK_RESYNC && r->commit_is_sent && !MUTANT(20))
        return false;
    return r->is_demoting || e->used >= ACTIVE_MAX * 3 / 4 || now - r->clean_ns >= CLEAN_NS;
}

static bool clean_begin(struct replica *r, uint64_t now)
{
    struct frame f = {
        .type = FRAME_FLUSH, .epoch = lineage_tip(&r->super.lineage).epoch, .seq = r->seq};

    if (!wants_cleaning(r, now))
        return false;
    r->clean_ns = now;
    r->clean_is_mirrored = r->link == LINK_STREAMING && !r->spill.is_spilling;
    if (!evidence_choose_leaving(r, !r->clean_is_mirrored))
        return false;
    if (r->link == LINK_STREAMING && !r->clean_is_mirrored)
        spill_explain(r);
    r->clean = CLEAN_RUNNING;
    r->clean_seq = r->seq;
    r->clean_flushed = false;
    if (r->clean_is_mirrored)
        link_send(r, &f, NULL, 0);
    r->clean_io = (struct sluice_io){
        .op = SLUICE_OP_FLUSH, .origin = SLUICE_ORIGIN_FILTER, .done = on_cleaned};
    r->is_cleaning = true;
    return true;
}

static void clean_end(struct replica *r)
{
    if (r->clean != CLEAN_RUNNING || (!r->clean_flushed && !MUTANT(14)))
        return;
    if (r->clean_is_mirrored && r->acked_stable < r->clean_seq && !MUTANT(15))
        return;
    r->clean = CLEAN_IDLE;
    if (r->clean_is_mirrored)
        r->evidence.settled_seq = r->clean_seq;
    evidence_leave(r);
}

/* --- the way of things
 * ------------------------------------------------------------------------------------------------------------------
 */

void roles_pump(struct replica *r)
{
    bool flushes;

    replica_lock(r);
    step_down(r);
    promote_step(r);
    demote_step(r);
    primary_step(r);
    become_alone(r);
    clean_end(r);
    flushes = clean_begin(r, sluice_now_ns(r->disk));
    replica_unlock(r);
    if (flushes && members_submit(r, &r->clean_io) < 0)
        on_cleaned(&r->clean_io, EIO);
}

/* DEMOTE is committed: the front ends have cut their clients. */
void roles_left(struct member *m)
{
    if (m->r->super.role != REPLICA_SECONDARY || m->r->is_promoting)
        return;
    m->guests_left = true;
    capture_abandon(m->r, m);
}

/* The gateway could not note the role, for instance, or two wishes overtook each other. */
static void ask_again(struct replica *r)
{
    const struct lineage_entry tip = lineage_tip(&r->super.lineage);
    bool is_primary = r->super.role == REPLICA_PRIMARY;
    uint64_t now = sluice_now_ns(r->disk);

    if (r->is_promoting || r->is_demoting || r->role_change || !tip.epoch ||
        members_have_role(r, is_primary)) {
        r->role_asked_ns = now;
        return;
    }
    if (now - r->role_asked_ns < ASK_NS)
        return;
    r->role_asked_ns = now;
    members_request_role(r, is_primary ? SLUICE_ROLE_PRIMARY : SLUICE_ROLE_SECONDARY, tip.epoch);
}

void roles_tick(struct replica *r)
{
    r->sync_is_armed = false;

    evidence_commit(r);
    ask_again(r);
    /* Left behind, and the link has drained: from the beginning. */
    if (r->link == LINK_AHEAD && !r->out_first && r->sent_bytes == r->peer_journaled_bytes &&
        spill_is_done(r))
        link_greet(r);
    /* Something was marked although the peer has the rest: a small batch brings it. */
    if (r->link == LINK_STREAMING && r->resync_wanted && !r->spill.is_spilling) {
        spill_drop(r); /* which does not say that */
        link_greet(r);
    }
    /* It could not go on, here or there: perhaps now. */
    if (r->link == LINK_RESTING &&
        (r->has_fallen || r->plan == PLAN_SOURCE || r->plan == PLAN_FULL_SOURCE))
        link_greet(r);
    replica_tick_in(r, TICK_NS);
    replica_kick(r);
}
