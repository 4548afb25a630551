/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * verbs.c: `sluice replication VERB DISK`: what is so, and who is to be primary.  Verbs that change
 * a role begin it and wait; the work itself is done by roles.c.
 */
#include "replica.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define ROLE_WAIT_NS 60000000000ull

static const char *role_name(const struct replica *r)
{
    return r->super.role == REPLICA_PRIMARY ? "primary" : "secondary";
}

static const char *data_name(const struct replica *r)
{
    static const char *const names[] = {"none", "half", "consistent"};

    return names[r->super.data];
}

static void tell_state(struct replica *r, struct sluice_reply *reply)
{
    struct sluice_disk *d = r->disk;
    struct lineage_entry tip = lineage_tip(&r->super.lineage);

    sluice_reply_text(d, reply, "%s of epoch %llu, copy %s; peer %s: %s (%s)%s", role_name(r),
                      (unsigned long long)tip.epoch, data_name(r), r->settings.peer,
                      link_name(r->link), r->link == LINK_DOWN ? r->link_reason : r->plan_reason,
                      r->is_alone ? "; NOT PROTECTED: alone" : "");
    sluice_reply_string(d, reply, "role", role_name(r));
    sluice_reply_string(d, reply, "data", data_name(r));
    sluice_reply_string(d, reply, "link", link_name(r->link));
    sluice_reply_string(d, reply, "plan", plan_name(r->plan));
    sluice_reply_string(d, reply, "reason", r->link == LINK_DOWN ? r->link_reason : r->plan_reason);
    sluice_reply_integer(d, reply, "epoch", (int64_t)tip.epoch);
    sluice_reply_integer(d, reply, "serving", r->is_serving);
    sluice_reply_integer(d, reply, "alone", r->is_alone);
    sluice_reply_integer(d, reply, "split", r->super.is_split);
    sluice_reply_integer(d, reply, "seq", (int64_t)r->seq);
    sluice_reply_integer(d, reply, "behind",
                         r->super.role == REPLICA_PRIMARY ? (int64_t)(r->seq - r->acked_journaled)
                                                          : 0);
    sluice_reply_integer(d, reply, "dirty_bytes", (int64_t)evidence_dirty_bytes(r));
    sluice_reply_integer(d, reply, "active_extents", r->evidence.used);
    sluice_reply_integer(d, reply, "seals", seal_count(&r->seals));
    sluice_reply_integer(d, reply, "journal_bytes", (int64_t)journal_used(&r->journal));
    backlog_tell(r, reply);
    spill_tell(r, reply);
    snapshot_tell(r, reply);
    records_tell(r, reply);
    members_tell(r, reply);
    seed_tell(r, reply);
    verify_tell(r, reply);
}

static int run_status(void *instance, int argc, const char *const *argv, struct sluice_reply *reply,
                      struct sluice_error *error)
{
    struct replica *r = instance;

    (void)argc, (void)argv, (void)error;
    replica_lock(r);
    tell_state(r, reply);
    replica_unlock(r);
    return 0;
}

static bool is_said(int argc, const char *const *argv, const char *word)
{
    for (int i = 0; i < argc; i++)
        if (strcmp(argv[i], word) == 0)
            return true;
    return false;
}

/* The role is decided; whoever asked for it may count on it when the gateway has taken it over for
 * each disk: clients are let in, or are gone. */
static void tell_changed(struct replica *r, struct sluice_reply *reply)
{
    bool is_primary = r->super.role == REPLICA_PRIMARY;

    replica_unlock(r);
    members_await_role(r, is_primary);
    replica_lock(r);
    tell_state(r, reply);
}

/* Waits for what was begun. */
static int wait_for(struct replica *r, uint8_t role, struct sluice_reply *reply,
                    struct sluice_error *error)
{
    uint64_t until = sluice_now_ns(r->disk) + ROLE_WAIT_NS;

    while ((r->is_promoting || r->is_demoting) && !r->is_closing && sluice_now_ns(r->disk) < until)
        replica_wait(r);
    if (r->super.role == role && !r->is_promoting && !r->is_demoting) {
        tell_changed(r, reply);
        return 0;
    }
    return sluice_refuse(r->disk, error, EBUSY, "the role has not changed: %s",
                         r->is_promoting || r->is_demoting ? "it takes too long" : r->link_reason);
}

static int run_promote(void *instance, int argc, const char *const *argv,
                       struct sluice_reply *reply, struct sluice_error *error)
{
    struct replica *r = instance;
    const char *why;
    int status;

    replica_lock(r);
    why = roles_cannot_promote(r, is_said(argc, argv, "--force"));
    if (why) {
        status = sluice_refuse(r->disk, error, EPERM, "cannot be promoted: %s", why);
    } else {
        roles_promote(r);
        status = wait_for(r, REPLICA_PRIMARY, reply, error);
    }
    replica_unlock(r);
    return status;
}

/* A copy is under way, or the peer was left behind for a moment: it will have everything.  Guests
 * are served until what this side was promoted with is applied. */
static void wait_for_peer(struct replica *r)
{
    uint64_t until = sluice_now_ns(r->disk) + ROLE_WAIT_NS;

    while (r->super.role == REPLICA_PRIMARY && !r->is_closing && sluice_now_ns(r->disk) < until &&
           (r->link == LINK_AHEAD || r->link == LINK_RESYNC || r->link == LINK_ASKED ||
            r->has_backlog))
        replica_wait(r);
}

static int run_handover(void *instance, int argc, const char *const *argv,
                        struct sluice_reply *reply, struct sluice_error *error)
{
    struct replica *r = instance;
    int status;

    (void)argc, (void)argv;
    replica_lock(r);
    wait_for_peer(r);
    if (r->super.role != REPLICA_PRIMARY) {
        status = sluice_refuse(r->disk, error, EPERM, "this side is not primary");
    } else if (r->link != LINK_STREAMING) {
        status = sluice_refuse(r->disk, error, EAGAIN, "the peer has not everything yet: %s",
                               link_name(r->link));
    } else {
        r->is_handing_over = true;
        roles_demote(r);
        status = wait_for(r, REPLICA_SECONDARY, reply, error);
    }
    replica_unlock(r);
    return status;
}

static int run_takeover(void *instance, int argc, const char *const *argv,
                        struct sluice_reply *reply, struct sluice_error *error)
{
    struct replica *r = instance;
    struct frame f = {.type = FRAME_TAKEOVER, .epoch = lineage_tip(&r->super.lineage).epoch};
    uint64_t until = sluice_now_ns(r->disk) + ROLE_WAIT_NS;
    int status = 0;

    (void)argc, (void)argv;
    replica_lock(r);
    if (r->link != LINK_TARGET || r->super.data != DATA_CONSISTENT) {
        status = sluice_refuse(r->disk, error, EAGAIN, "this side does not follow its peer: %s",
                               link_name(r->link));
    } else {
        link_send(r, &f, NULL, 0);
        while ((r->super.role != REPLICA_PRIMARY || r->is_promoting) && !r->is_closing &&
               sluice_now_ns(r->disk) < until)
            replica_wait(r);
        if (r->super.role == REPLICA_PRIMARY)
            tell_changed(r, reply);
        else
            status =
                sluice_refuse(r->disk, error, ETIMEDOUT, "the peer has not handed the disk over");
    }
    replica_unlock(r);
    return status;
}

/* seed: everything may differ, and is asked about; full: everything is sent. */
static void begin_resync(struct replica *r, int argc, const char *const *argv)
{
    bool is_seed = is_said(argc, argv, "--seed"), is_full = is_said(argc, argv, "--full");

    if (is_seed || is_full)
        evidence_mark_all(r);
    r->seed.mode = is_full ? SEED_SEND_ALL : is_seed ? SEED_ASK_ALL : SEED_ASK;
    link_greet(r);
}

/* Meets the peer anew; what may differ is sent. */
static int run_resync(void *instance, int argc, const char *const *argv, struct sluice_reply *reply,
                      struct sluice_error *error)
{
    struct replica *r = instance;
    int status = 0;

    replica_lock(r);
    if (r->link == LINK_DOWN || r->super.role != REPLICA_PRIMARY)
        status = sluice_refuse(r->disk, error, EAGAIN, "%s",
                               r->link == LINK_DOWN ? "the peer is not connected"
                                                    : "only the primary sends");
    if (status == 0) {
        begin_resync(r, argc, argv);
        tell_state(r, reply);
    }
    replica_unlock(r);
    return status;
}

/* The operator's answer to a split brain: what this side wrote alone is sealed, and goes. */
static int run_discard(void *instance, int argc, const char *const *argv,
                       struct sluice_reply *reply, struct sluice_error *error)
{
    struct replica *r = instance;
    uint64_t until = sluice_now_ns(r->disk) + ROLE_WAIT_NS;
    int status = 0;

    replica_lock(r);
    if (!r->super.is_split || r->plan != PLAN_SPLIT) {
        status = sluice_refuse(r->disk, error, EPERM,
                               "there is no split brain: nothing of this side is to be given up");
    } else {
        roles_discard(r, is_said(argc, argv, "--whole"));
        replica_kick(r);
        while (r->is_discarding && !r->is_closing &&
               (r->seals.job || sluice_now_ns(r->disk) < until))
            replica_wait(r);
        if (r->seals.error[0])
            status = sluice_refuse(r->disk, error, ENOSPC, "not given up: %s", r->seals.error);
        else
            tell_state(r, reply);
    }
    replica_unlock(r);
    return status;
}

/* Beside what was acknowledged later: an answer promises no more than its level, a flush all. */
static const char *lost_by_level(const struct replica *r)
{
    if (r->settings.is_async)
        return "";
    return r->settings.level == ACK_RECEIVED
               ? " (a synchronous primary does that only alone), and what no flush covered if this "
                 "side died as well"
               : " (a synchronous primary does that only alone), and what no flush covered if this "
                 "side lost its power as well";
}

/* Before the name is typed: what a promotion by force may cost, and what it does not do. */
static void tell_force(struct replica *r, struct sluice_reply *reply)
{
    unsigned long long next = lineage_tip(&r->super.lineage).epoch + 1;
    char heard[64] = "is connected: without --force nothing is lost";

    if (r->super.role == REPLICA_PRIMARY)
        return;
    if (r->link == LINK_DOWN && r->down_ns)
        snprintf(heard, sizeof heard, "was lost %llu s ago",
                 (unsigned long long)((sluice_now_ns(r->disk) - r->down_ns) / 1000000000u));
    else if (r->link == LINK_DOWN)
        snprintf(heard, sizeof heard, "was not heard since this gateway started");
    sluice_reply_text(
        r->disk, reply,
        "by force: %u disk%s; %s %s; the copy here has everything up to sequence %llu",
        r->member_count, r->member_count > 1 ? "s, one instant" : "", r->settings.peer, heard,
        (unsigned long long)r->has_seq);
    sluice_reply_text(r->disk, reply, "may be lost: writes that were acknowledged after that%s",
                      lost_by_level(r));
    sluice_reply_text(r->disk, reply,
                      "%s is NOT fenced: if it still runs, clients that reach it can write until "
                      "it hears of epoch %llu",
                      r->settings.peer, next);
}

/* `sluice failover` says it once for a whole group. */
static int run_failover(void *instance, int argc, const char *const *argv,
                        struct sluice_reply *reply, struct sluice_error *error)
{
    if (is_said(argc, argv, "--dry-run")) {
        run_status(instance, 0, NULL, reply, error);
        replica_lock(instance);
        if (is_said(argc, argv, "--force"))
            tell_force(instance, reply);
        replica_unlock(instance);
        return 0;
    }
    return is_said(argc, argv, "--force") ? run_promote(instance, argc, argv, reply, error)
                                          : run_takeover(instance, argc, argv, reply, error);
}

/* Whichever of its disks is named, a verb is about the group. */
typedef int verb_fn(void *replica, int argc, const char *const *argv, struct sluice_reply *reply,
                    struct sluice_error *error);

static int run_in_group(verb_fn *run, struct member *m, int argc, const char *const *argv,
                        struct sluice_reply *reply, struct sluice_error *error)
{
    struct replica *r = member_enter(m, error);
    int status;

    if (!r)
        return -EAGAIN;
    status = run(r, argc, argv, reply, error);
    member_exit(r);
    return status;
}

#define IN_GROUP(name, run)                                                                      \
    static int name(void *member, int argc, const char *const *argv, struct sluice_reply *reply, \
                    struct sluice_error *error)                                                  \
    {                                                                                            \
        return run_in_group(run, member, argc, argv, reply, error);                              \
    }

IN_GROUP(tell_status, run_status)
IN_GROUP(promote, run_promote)
IN_GROUP(hand_over, run_handover)
IN_GROUP(take_over, run_takeover)
IN_GROUP(fail_over, run_failover)
IN_GROUP(discard, run_discard)
IN_GROUP(tell_seals, seal_run_verb)
IN_GROUP(resync, run_resync)
IN_GROUP(verify, verify_run_verb)

const struct sluice_verb replica_verbs[] = {
    {"status", "", "Role, link, what differs; if the primary died now, what would be lost.",
     tell_status},
    {"promote", "[--force]", "Makes this side primary; --force: although the peer may still serve.",
     promote},
    {"handover", "", "From the primary: waits until the peer has everything, then the peer serves.",
     hand_over},
    {"takeover", "", "From the secondary: asks the primary to hand over.", take_over},
    {"failover", "[--force] [--dry-run]",
     "From the side that is to serve: takeover; with --force promote --force.", fail_over},
    {"discard", "[--whole]",
     "After a split brain: seals what this side wrote alone, gives it up, and follows the peer.",
     discard},
    {"seals", "[--drop NUMBER]", "What was sealed before it was overwritten; or forgets one.",
     tell_seals},
    {"resync", "[--seed|--full]",
     "From the primary: sends what may differ; --seed: compares everything and sends what differs; "
     "--full: sends everything.",
     resync},
    {"verify", "[--rate RATE] [--repair] [--stop]",
     "From the primary: compares both sides while they serve; `sluice verify` waits for it.",
     verify},
    SLUICE_VERBS_END,
};
