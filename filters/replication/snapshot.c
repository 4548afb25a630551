/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * snapshot.c: a snapshot of the primary's disk is one of the peer's too, of the same instant and
 * under the same name.
 *
 * The gateway commits it while nothing of the guests is under way, so SNAPSHOT stands in the stream
 * between what is in it and what is not.  The target keeps it in its journal as it keeps writes;
 * all that came before is applied, and nothing that came after, until the gateway there has made
 * it, which is durable then.  After a crash in between it is in the journal still: either it has
 * not been made, and nothing later is on the disk, or it is there under its name.
 *
 * It is made where the two are known to be the same but for what is under way.  Where they are not,
 * or the peer's storage cannot, or a snapshot of that name is there, only this side has it: an
 * event and status say so.  Replication goes on.
 */
#include "replica.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define FILE_NAME "snapshots" /* the position behind the last record that was given up */

/* --- the source ---------------------------------------------------------------------------- */

static void settle(struct replica *r, const char *why)
{
    struct snapshots *s = &r->snapshots;

    s->state = why ? SNAPSHOT_MISSED : SNAPSHOT_MADE;
    snprintf(s->why, sizeof s->why, "%s", why ? why : "");
    for (char *c = s->why; *c; c++)
        *c = *c >= ' ' && *c < 127 ? *c : '?';
    if (why)
        sluice_log(r->disk, SLUICE_LOG_WARNING,
                   "replication: the peer has no snapshot \"%s\" of this instant: %s", s->name,
                   s->why);
    sluice_event_emit(r->disk, "snapshot", "name:%s peer:%s", s->name, why ? "missed" : "made");
    replica_wake(&r->changed);
}

static const char *cannot_send(const struct replica *r)
{
    if (r->link != LINK_STREAMING || r->spill.is_spilling || r->spill.is_replaying)
        return "it is not connected or not up to date";
    if (!r->theirs.can_snapshot)
        return "its version does not know how";
    if (r->snapshots.state == SNAPSHOT_ASKED)
        return "it has not answered to the one before";
    return r->resync_wanted || evidence_dirty_bytes(r)
               ? "something is known to differ, and the next batch brings it"
               : NULL;
}

/* Committed: nothing of the guests is under way. */
int replica_snapshot(struct member *m, const struct sluice_event *event, struct sluice_error *error)
{
    struct replica *r = m->r;
    struct frame f = {.type = FRAME_SNAPSHOT, .offset = m->base, .bytes = strlen(event->name)};
    const char *why;

    (void)error;
    if (event->phase != SLUICE_PHASE_COMMIT || !f.bytes || f.bytes > SNAPSHOT_NAME_MAX)
        return 0;
    replica_lock(r);
    if (r->is_formed && r->super.role == REPLICA_PRIMARY) {
        why = cannot_send(r);
        snprintf(r->snapshots.name, sizeof r->snapshots.name, "%s", event->name);
        f.epoch = lineage_tip(&r->super.lineage).epoch;
        f.seq = r->seq;
        r->snapshots.state = SNAPSHOT_ASKED;
        if (why)
            settle(r, why);
        else
            link_send(r, &f, event->name, f.bytes);
    }
    replica_unlock(r);
    return 0;
}

void snapshot_take_answer(struct replica *r, const struct frame *f, const void *message,
                          size_t length)
{
    char why[200];

    if (!link_mirrors(r) || f->epoch != r->batch_nonce || r->snapshots.state != SNAPSHOT_ASKED)
        return;
    snprintf(why, sizeof why, "%.*s", (int)(length - FRAME_BYTES),
             (const char *)frame_payload(message));
    settle(r, f->flags & FRAME_REFUSED ? why : NULL);
}

void snapshot_on_stop(struct replica *r)
{
    if (r->snapshots.state == SNAPSHOT_ASKED)
        settle(r, "the link was lost before it answered; if it had it in its journal, it has made "
                  "it");
}

void snapshot_tell(struct replica *r, struct sluice_reply *reply)
{
    static const char *const states[] = {"", "asked", "made", "missed"};
    const struct snapshots *s = &r->snapshots;

    if (s->state == SNAPSHOT_NONE)
        return;
    sluice_reply_text(r->disk, reply, "snapshot %s: at the peer %s%s%s", s->name, states[s->state],
                      s->why[0] ? ": " : "", s->why);
    sluice_reply_string(r->disk, reply, "snapshot", s->name);
    sluice_reply_string(r->disk, reply, "snapshot_peer", states[s->state]);
    sluice_reply_string(r->disk, reply, "snapshot_reason", s->why);
}

/* --- the target ---------------------------------------------------------------------------- */

static void answer(struct replica *r, const char *why)
{
    struct frame f = {
        .type = FRAME_SNAPSHOTTED, .flags = why ? FRAME_REFUSED : 0, .epoch = r->ready_nonce};

    if (r->link == LINK_TARGET)
        link_send(r, &f, why, why ? strnlen(why, 400) : 0);
}

bool snapshot_is_taken(struct replica *r, const struct frame *f)
{
    bool is_there = members_begin_at(r, f->offset);

    if (r->batch == BATCH_NONE && is_there)
        return true;
    answer(r, is_there ? "it is in the middle of a batch" : "there is no such disk");
    return false;
}

/* Made, or told that it was not: what comes after it goes on. */
static void pass(struct replica *r, struct entry *e, const char *name, const char *why)
{
    e->is_applying = false;
    e->is_applied = true;
    if (why)
        sluice_log(r->disk, SLUICE_LOG_WARNING,
                   "replication: no snapshot \"%s\" of the primary's: %s", name, why);
    sluice_event_emit(r->disk, "snapshot", "name:%s here:%s", name, why ? "missed" : "made");
    answer(r, why);
}

void snapshot_load(struct replica *r)
{
    uint8_t data[8];
    const uint8_t *at = data;
    size_t length = 0;

    if (sluice_state_read(r->disk, FILE_NAME, data, sizeof data, &length) == 0 && length == 8)
        r->snapshots.missed_until = le_get(&at, 8);
}

/* Durably, before anything later is applied: one that could not be made is not made after a crash,
 * when the disk is another instant. */
static bool note_missed(struct replica *r, uint64_t position)
{
    uint8_t data[8], *at = data;

    le_put(&at, position + 1, 8);
    return sluice_state_write(r->disk, FILE_NAME, data, sizeof data) == 0 || MUTANT(103);
}

static void on_wished(struct sluice_wish *wish, int32_t error, const char *sentence)
{
    struct snapshots *s =
        (struct snapshots *)(void *)((char *)wish - offsetof(struct snapshots, wish));
    struct replica *r = (struct replica *)(void *)((char *)s - offsetof(struct replica, snapshots));
    struct entry *e = s->entry;
    bool is_settled;

    /* An earlier process may have made it, and nothing later is on the disk. */
    if (error == EEXIST && e->is_redo)
        error = 0;
    is_settled = !error || note_missed(r, e->position);
    replica_lock(r);
    s->is_wished = false;
    s->entry = NULL;
    e->is_applying = false;
    if (is_settled)
        pass(r, e, wish->name, error ? sentence : NULL);
    replica_kick(r);
    replica_wake(&r->changed);
    replica_unlock(r);
}

static bool is_next(const struct replica *r, const struct entry *e)
{
    const struct entry *before = r->journal.first;

    while (before != e && before->is_applied)
        before = before->next;
    return before == e || MUTANT(100);
}

bool snapshot_holds(struct replica *r, struct entry *e)
{
    struct snapshots *s = &r->snapshots;

    if (e->is_applying || s->is_wished || !is_next(r, e))
        return false;
    if (!e->record)
        return true; /* its name is only in the journal */
    s->wish = (struct sluice_wish){.kind = SLUICE_EVENT_SNAPSHOT, .done = on_wished};
    snprintf(s->wish.name, sizeof s->wish.name, "%.*s", (int)e->length,
             (const char *)e->record + RECORD_BYTES);
    if (e->is_redo && e->position < s->missed_until && !MUTANT(102)) {
        pass(r, e, s->wish.name, "it could not be made then");
        return false;
    }
    s->entry = e;
    s->is_wished = e->is_applying = members_wish(r, e->frame.offset, &s->wish) == 0;
    return false;
}
