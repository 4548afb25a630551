/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * backing-doubt: changes that were on their way when the line was lost, to a server that may live
 * on.  It may carry them out at any time after that, on top of what is sent over the next
 * connection: the NBD protocol knows no way to end them.
 *
 * To carry out the same bytes once more does no harm, so what was under way is sent again at
 * once.  But a newer change of the same range waits until `settle_ns` after the loss: by then the
 * server is taken to have ended what it had.  What else the disk's clients do goes on.  Likewise a
 * record that is to be written again waits for an older one that was being written again when the
 * line was lost once more; and so does what was under way, which is newer than any record.
 *
 * A server that lets in one client at a time needs none of it: its next connection begins when the
 * last one has ended.  Everything here runs in the service loop; no lock.
 */
#include "backing/backing-remote.h"

#include <errno.h>

struct doubt {
    struct list link; /* in order of until_ns */
    uint64_t offset, end;
    uint64_t seq; /* of the record that was being written again; 0: a guest's change */
    uint64_t until_ns;
};

/* Without memory the whole disk is in doubt. */
static struct doubt *doubt_new(struct remote *r)
{
    struct doubt *d = calloc(1, sizeof *d);

    if (d)
        return d;
    list_remove(&r->doubt_of_all->link);
    return r->doubt_of_all;
}

void doubt_note(struct remote *r, const struct remote_op *op)
{
    bool is_change = op->kind == IO_WRITE || op->kind == IO_TRIM || op->kind == IO_ZERO;
    struct doubt *d;

    if (!r->settle_ns || !is_change)
        return;
    d = doubt_new(r);
    d->offset = op->offset + op->done;
    d->end = op->offset + op->length;
    d->seq = op->purpose == OP_REPLAY ? op->record_seq : 0;
    if (d == r->doubt_of_all)
        d->offset = 0, d->end = UINT64_MAX, d->seq = 1; /* it may stand for the oldest record too */
    d->until_ns = clock_now_ns() + r->settle_ns;
    list_append(&r->doubts, &d->link);
    if (r->settled.due_ns == 0)
        loop_timer_set(r->loop, &r->settled, d->until_ns);
}

bool doubt_keeps(const struct remote *r, const struct remote_op *op)
{
    LIST_FOREACH (node, &r->doubts) {
        const struct doubt *d = LIST_ENTRY(node, struct doubt, link);

        /* What is sent again was under way with the other changes, and is newer than any record. */
        if (op->is_sent_again && !d->seq)
            continue;
        if (op->offset < d->end && d->offset < op->offset + op->length)
            return true;
    }
    return false;
}

bool doubt_keeps_record(const struct remote *r, const struct kept_record *record)
{
    LIST_FOREACH (node, &r->doubts) {
        const struct doubt *d = LIST_ENTRY(node, struct doubt, link);

        if (d->seq && d->seq < record->seq && record->offset < d->end &&
            d->offset < record->offset + record->length)
            return true;
    }
    return false;
}

static void doubt_drop(struct remote *r, struct doubt *d)
{
    list_remove(&d->link);
    if (d != r->doubt_of_all)
        free(d);
}

/* Only here a doubt ends, so that whatever this loop had to do before has been done. */
static void settled_fire(struct timer *timer)
{
    struct remote *r = CONTAINER_OF(timer, struct remote, settled);
    uint64_t now_ns = clock_now_ns();

    LIST_FOREACH_SAFE (node, &r->doubts) {
        struct doubt *d = LIST_ENTRY(node, struct doubt, link);

        if (d->until_ns > now_ns) {
            loop_timer_set(r->loop, &r->settled, d->until_ns);
            break;
        }
        doubt_drop(r, d);
    }
    if (r->state == REMOTE_REPLAYING)
        flight_replay(r);
    flight_pump(r);
}

int doubt_init(struct remote *r)
{
    list_init(&r->doubts);
    r->settled.fire = settled_fire;
    r->doubt_of_all = calloc(1, sizeof *r->doubt_of_all);
    if (!r->doubt_of_all)
        return -ENOMEM;
    list_init(&r->doubt_of_all->link);
    return 0;
}

void doubt_free(struct remote *r)
{
    if (!r->doubts.next)
        return;
    LIST_FOREACH_SAFE (node, &r->doubts)
        doubt_drop(r, LIST_ENTRY(node, struct doubt, link));
    free(r->doubt_of_all);
}
