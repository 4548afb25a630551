/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * checkpoint.c: what is applied is flushed below, then the journal may forget it: the state says
 * where redo begins.
 */
#include "replica.h"

#define CHECK_NS 500000000ull   /* between checkpoints that nothing else asks for */
#define CHECK_BYTES (16u << 20) /* of a backlog: flushed at least so often, since guests wait */

static const struct entry *first_needed_entry(const struct journal *j)
{
    for (const struct entry *e = j->first; e; e = e->next)
        if (!e->is_applied && e->position != UINT64_MAX)
            return e;
    return NULL;
}

static uint64_t first_needed(const struct journal *j)
{
    const struct entry *e = first_needed_entry(j);

    return e ? e->position : j->head;
}

uint64_t target_first_needed(const struct replica *r)
{
    return first_needed(&r->journal);
}

/* No record from there on is of an earlier life of the journal. */
static uint64_t first_term(const struct journal *j)
{
    const struct entry *e = first_needed_entry(j);

    return e && !MUTANT(18) ? e->term : j->term;
}

/* Numbers that were used here are not given again, whoever is primary next. */
static void note_seq(struct replica *r)
{
    if (r->super.seq_limit <= r->seq)
        r->super.seq_limit = r->seq + 1;
    r->super.has_seq = r->has_seq;
}

static void on_flushed(struct sluice_io *io, int32_t error)
{
    struct replica *r = (struct replica *)(void *)((char *)io - offsetof(struct replica, check_io));

    replica_lock(r);
    if (!error)
        r->backlog.unflushed -= r->backlog.flushing;
    r->backlog.flushing = 0;
    if (error) {
        r->check = CHECK_IDLE;
        members_health(r, SLUICE_HEALTH_FAILED, "replication: what lies below cannot be flushed",
                       "look at the backing");
    } else {
        r->check = CHECK_SAVING;
        r->super.journal_tail = r->checkpoint_tail;
        note_seq(r);
        r->super.journal_term = r->checkpoint_term;
        if (r->checkpoint_tail == r->super.backlog_end)
            r->super.backlog_end = 0; /* of a backlog nothing is left */
        r->check_change = super_change(r);
    }
    replica_unlock(r);
}

static bool wants_checkpoint(const struct replica *r)
{
    const struct journal *j = &r->journal;

    if (first_needed(j) == j->tail || r->is_closing)
        return false;
    if (r->has_backlog && (!j->first || r->backlog.unflushed >= CHECK_BYTES))
        return true;
    return journal_is_full(j) || j->head - j->tail > j->size / 4 || r->is_promoting ||
           r->batch == BATCH_ENDING || sluice_now_ns(r->disk) - r->checked_ns >= CHECK_NS;
}

void target_checkpoint(struct replica *r)
{
    bool flushes = false;

    replica_lock(r);
    if (r->check == CHECK_SAVING && r->super_saved >= r->check_change) {
        r->check = CHECK_IDLE;
        r->journal.tail = r->checkpoint_tail;
        journal_write(r);
        replica_wake(&r->changed);
    }
    if (r->check == CHECK_IDLE && wants_checkpoint(r)) {
        r->check = CHECK_FLUSHING;
        r->checked_ns = sluice_now_ns(r->disk);
        r->backlog.flushing = r->backlog.unflushed;
        r->checkpoint_tail = first_needed(&r->journal);
        r->checkpoint_term = first_term(&r->journal);
        r->check_io = (struct sluice_io){
            .op = SLUICE_OP_FLUSH, .origin = SLUICE_ORIGIN_RESYNC, .done = on_flushed};
        flushes = !MUTANT(11);
    }
    replica_unlock(r);
    if (r->check == CHECK_FLUSHING && !flushes && MUTANT(11))
        on_flushed(&r->check_io, 0);
    if (flushes && members_submit(r, &r->check_io) < 0)
        on_flushed(&r->check_io, 5);
}
