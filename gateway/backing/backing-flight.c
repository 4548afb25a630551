/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * backing-flight: the requests of a remote backing from their arrival to their answer.  Everything
 * here runs in the service loop; no lock.
 *
 * A guest's op waits, flies, and is answered; it comes back from flying to the front of waiting
 * when the connection is lost.  The invariants: an op is on exactly one list; a change is
 * acknowledged only when it is stable or a record of it is kept; room for the record is taken
 * before it is sent.
 *
 * A change that was sent with FUA is stable; what older records hold of its range is cut out of
 * them, or else writing those again would put older bytes on top of it.
 */
#include "backing/backing-remote.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

static bool is_change(enum io_kind kind)
{
    return kind == IO_WRITE || kind == IO_TRIM || kind == IO_ZERO;
}

/* --- ops -------------------------------------------------------------------------------------- */

static struct remote_op *op_new(struct remote *r, enum remote_op_kind purpose)
{
    struct remote_op *op;

    if (list_is_empty(&r->recycled)) {
        op = calloc(1, sizeof *op + r->transport->op_bytes);
        if (!op)
            return NULL;
    } else {
        op = LIST_ENTRY(r->recycled.next, struct remote_op, link);
        list_remove(&op->link);
        memset(op, 0, sizeof *op);
    }
    list_init(&op->link);
    op->remote = r;
    op->purpose = purpose;
    return op;
}

static void op_recycle(struct remote_op *op)
{
    struct remote *r = op->remote;

    kept_release(&r->kept, op->reserved);
    list_remove(&op->link);
    list_append(&r->recycled, &op->link);
}

static void free_list(struct list *l)
{
    LIST_FOREACH_SAFE (node, l) {
        list_remove(node);
        free(LIST_ENTRY(node, struct remote_op, link));
    }
}

int flight_init(struct remote *r, uint64_t keep_bytes)
{
    kept_init(&r->kept, keep_bytes);
    list_init(&r->waiting);
    list_init(&r->flying);
    list_init(&r->spare);
    list_init(&r->recycled);
    r->own_flush = op_new(r, OP_OWN_FLUSH);
    for (int i = 0; i < REPLAY_WINDOW; i++) {
        struct remote_op *op = op_new(r, OP_REPLAY);

        if (!op)
            return -ENOMEM;
        list_append(&r->spare, &op->link);
    }
    return r->own_flush ? 0 : -ENOMEM;
}

void flight_free(struct remote *r)
{
    if (!r->waiting.next)
        return;
    free_list(&r->waiting);
    free_list(&r->flying);
    free_list(&r->spare);
    free_list(&r->recycled);
    free(r->own_flush);
    kept_free(&r->kept);
}

static void answer(struct remote_op *op, int result)
{
    struct io *io = op->io;

    op_recycle(op);
    io_complete(io, result);
}

/* --- sending ---------------------------------------------------------------------------------- */

static uint64_t chunk_limit(const struct remote *r, enum io_kind kind)
{
    switch (kind) {
    case IO_TRIM:
        return r->facts.max_trim_bytes;
    case IO_ZERO:
        return r->facts.max_zero_bytes;
    case IO_EXTENTS:
        return r->facts.max_extents_bytes;
    default:
        return r->facts.max_transfer_bytes;
    }
}

static void send(struct remote_op *op)
{
    struct remote *r = op->remote;

    op->since_ns = clock_now_ns();
    op->chunk = op->kind == IO_FLUSH ? 0 : MIN(op->length - op->done, chunk_limit(r, op->kind));
    if (op->kind == IO_FLUSH)
        op->flush_seq = r->kept.last_seq;
    list_remove(&op->link);
    list_append(&r->flying, &op->link);
    r->transport->send(r, op);
}

/* What needs no server: 1, or the result. */
static int answer_at_once(const struct remote *r, const struct remote_op *op)
{
    bool is_promise = op->kind == IO_FLUSH || (op->io->flags & IO_FUA && is_change(op->kind));

    if (is_promise && r->sticky)
        return -r->sticky;
    if (op->kind == IO_FLUSH && !r->facts.can_flush)
        return 0;
    if (op->kind == IO_ZERO && op->io->flags & IO_FAST_ONLY && !r->facts.can_fast_zero)
        return -EOPNOTSUPP;
    return 1;
}

/* 1: taken; 0: wait; or an error. */
static int take_room(struct remote_op *op)
{
    struct remote *r = op->remote;
    uint64_t need = kept_need(op->kind, op->length);

    if (!r->facts.can_flush)
        kept_forget_for_room(&r->kept, need);
    if (kept_has_room(&r->kept, need)) {
        kept_reserve(&r->kept, need);
        op->reserved = need;
        return 1;
    }
    return r->sticky ? -r->sticky : 0;
}

static uint32_t flags_to_send(const struct remote *r, const struct io *io)
{
    bool knows_fua = io->kind == IO_WRITE ? r->facts.can_fua : r->facts.can_fua_zero;

    return io->flags & ~(knows_fua ? 0 : IO_FUA);
}

/* True if it must go on waiting, for room. */
static bool start(struct remote_op *op, bool is_room_refused)
{
    int rc = answer_at_once(op->remote, op);

    if (rc <= 0) {
        answer(op, rc);
        return false;
    }
    if (is_change(op->kind) && doubt_keeps(op->remote, op))
        return false; /* it waits, and keeps nobody from taking room */
    if (is_change(op->kind) && !op->reserved) {
        rc = is_room_refused ? 0 : take_room(op);
        if (rc < 0)
            answer(op, rc);
        if (rc <= 0)
            return rc == 0;
    }
    op->flags = flags_to_send(op->remote, op->io);
    send(op);
    return false;
}

void flight_pump(struct remote *r)
{
    bool is_room_refused = false;

    if (r->state != REMOTE_READY || r->end)
        return;
    if (r->is_draining) {
        if (list_is_empty(&r->flying))
            link_restart_later(r, "its size is read anew");
        return;
    }
    LIST_FOREACH_SAFE (node, &r->waiting)
        is_room_refused |= start(LIST_ENTRY(node, struct remote_op, link), is_room_refused);
    if (is_room_refused || kept_is_half_full(&r->kept))
        flight_own_flush(r);
}

bool flight_own_flush(struct remote *r)
{
    if (!list_is_empty(&r->own_flush->link) || !r->kept.count || !r->facts.can_flush || r->sticky)
        return false;
    r->own_flush->kind = IO_FLUSH;
    send(r->own_flush);
    return true;
}

/* --- arrival ---------------------------------------------------------------------------------- */

void flight_enter(struct task *task)
{
    struct io *io = CONTAINER_OF(task, struct io, exec_task);
    struct remote *r = io->executor;
    struct remote_op *op;

    if (r->state == REMOTE_REFUSED || r->state == REMOTE_IDLE) {
        io_complete(io, -EIO);
        return;
    }
    op = op_new(r, OP_GUEST);
    if (!op) {
        io_complete(io, -ENOMEM);
        return;
    }
    op->io = io;
    op->kind = io->kind;
    op->offset = io->offset;
    op->length = io->length;
    op->data = io->data;
    op->extents = io->extents;
    op->since_ns = clock_now_ns();
    list_append(&r->waiting, &op->link);
    link_watch(r);
    flight_pump(r);
}

/* --- answers ---------------------------------------------------------------------------------- */

void flight_sticky(struct remote *r, int code, const char *what)
{
    if (r->sticky)
        return;
    r->sticky = code;
    log_line(LOG_LEVEL_ERROR, "%s %s: %s; every flush fails until the disk is opened anew disk=%s",
             r->name, what, strerror(code), r->disk);
    link_publish(r);
}

/* After a good flush, or a bad one. */
static void note_flush(struct remote_op *op, int result)
{
    struct remote *r = op->remote;

    if (result == 0)
        kept_drop_through(&r->kept, op->flush_seq);
    else
        flight_sticky(r, -result, "could not flush");
}

/* Keeps a change that was acknowledged. False: it must be flushed before that may be told. */
static bool keep(struct remote_op *op)
{
    struct remote *r = op->remote;

    kept_release(&r->kept, op->reserved);
    op->reserved = 0;
    if (op->flags & IO_FUA)
        return kept_cut(&r->kept, op->offset, op->length) == 0;
    op->is_kept = kept_add(&r->kept, op->kind, op->flags, op->offset, op->length, op->data) == 0;
    if (op->is_kept || r->facts.can_flush)
        return op->is_kept;
    r->kept.has_forgotten = true;
    return true;
}

static void change_done(struct remote_op *op)
{
    const struct remote_facts *f = &op->remote->facts;
    bool is_told = keep(op);

    if ((is_told && !(op->io->flags & IO_FUA & ~op->flags)) || !f->can_flush) {
        answer(op, 0);
        return;
    }
    op->kind = IO_FLUSH;
    op->length = op->done = 0;
    send(op);
}

static void guest_done(struct remote_op *op, int result)
{
    if (op->kind == IO_FLUSH)
        note_flush(op, result);
    if (result == 0 && is_change(op->kind))
        change_done(op);
    else
        answer(op, result);
}

/* In REPLAYING it was sent by order of reopen, to see whether all is well now. */
static void own_flush_done(struct remote_op *op, int result)
{
    struct remote *r = op->remote;

    note_flush(op, result);
    list_remove(&op->link);
    if (r->state != REMOTE_REPLAYING)
        return;
    r->wants_flush = false;
    link_replayed(r);
}

static void replay_done(struct remote_op *op, int result)
{
    struct remote *r = op->remote;

    list_remove(&op->link);
    list_append(&r->spare, &op->link);
    r->replay_flying--;
    if (result == 0)
        r->replayed++;
    else
        flight_sticky(r, -result, "could not write again what it had acknowledged");
    flight_replay(r);
}

static void (*const done_by_purpose[])(struct remote_op *op, int result) = {
    [OP_GUEST] = guest_done,
    [OP_REPLAY] = replay_done,
    [OP_OWN_FLUSH] = own_flush_done,
};

void remote_done(struct remote_op *op, int result)
{
    struct remote *r = op->remote;

    if (result == 0) {
        r->backoff_ns = 0;
        op->done += op->chunk;
        if (op->done < op->length && op->kind != IO_EXTENTS) {
            send(op);
            return;
        }
    }
    done_by_purpose[op->purpose](op, result);
    flight_pump(r);
}

/* --- replay ----------------------------------------------------------------------------------- */

static bool is_disturbed(const struct remote *r, const struct kept_record *record)
{
    LIST_FOREACH (node, &r->flying) {
        const struct remote_op *op = LIST_ENTRY(node, struct remote_op, link);

        if (op->offset < record->offset + record->length &&
            record->offset < op->offset + op->length)
            return true;
    }
    return false;
}

static void replay_one(struct remote *r, struct kept_record *record)
{
    struct remote_op *op = LIST_ENTRY(r->spare.next, struct remote_op, link);

    op->kind = record->kind;
    op->flags = record->flags;
    op->offset = record->offset;
    op->length = record->length;
    op->data = record->data;
    op->done = 0;
    op->record_seq = record->seq;
    r->replay_last = record;
    r->replay_flying++;
    send(op);
}

void flight_replay(struct remote *r)
{
    struct kept_record *next;

    while ((next = kept_next(&r->kept, r->replay_last)) && !list_is_empty(&r->spare) &&
           !is_disturbed(r, next) && !doubt_keeps_record(r, next))
        replay_one(r, next);
    if (!next && !r->replay_flying)
        link_replayed(r);
}

/* --- loss ------------------------------------------------------------------------------------- */

/* A change that is not kept begins anew: the part that was acknowledged may be forgotten. */
static void park(struct remote_op *op, struct list *parked)
{
    list_remove(&op->link);
    if (op->purpose == OP_REPLAY)
        list_append(&op->remote->spare, &op->link);
    if (op->purpose != OP_GUEST)
        return;
    list_append(parked, &op->link);
    if (op->is_kept)
        return;
    op->is_sent_again = true;
    op->kind = op->io->kind;
    op->length = op->io->length;
    op->done = 0;
    if (op->extents)
        extents_reset(op->extents, op->extents->offset, op->extents->limit);
}

void flight_park(struct remote *r)
{
    struct list parked;

    list_init(&parked);
    LIST_FOREACH (node, &r->flying)
        doubt_note(r, LIST_ENTRY(node, struct remote_op, link));
    LIST_FOREACH_SAFE (node, &r->flying)
        park(LIST_ENTRY(node, struct remote_op, link), &parked);
    list_splice(&parked, &r->waiting);
    list_splice(&r->waiting, &parked);
    r->replay_last = NULL;
    r->replay_flying = 0;
}

/* --- patience --------------------------------------------------------------------------------- */

static bool is_overdue(const struct remote_op *op, uint64_t now_ns)
{
    uint64_t patience_ns = op->remote->reconnect_ns;

    return patience_ns && now_ns - op->since_ns >= patience_ns;
}

/* The time to wait for a lost server begins with the loss; whoever has waited that long for an
 * answer already has had his time. */
void flight_begin_waiting(struct remote *r, uint64_t now_ns)
{
    LIST_FOREACH (node, &r->waiting) {
        struct remote_op *op = LIST_ENTRY(node, struct remote_op, link);

        if (!is_overdue(op, now_ns))
            op->since_ns = now_ns;
    }
}

uint64_t flight_expire(struct remote *r, uint64_t now_ns, bool *is_silent)
{
    uint64_t oldest_ns = 0;

    LIST_FOREACH (node, &r->flying) {
        const struct remote_op *op = LIST_ENTRY(node, struct remote_op, link);

        oldest_ns = oldest_ns ? MIN(oldest_ns, op->since_ns) : op->since_ns;
        *is_silent |= is_overdue(op, now_ns) && !r->is_hang_kept;
    }
    LIST_FOREACH_SAFE (node, &r->waiting) {
        struct remote_op *op = LIST_ENTRY(node, struct remote_op, link);

        if (r->state != REMOTE_READY && is_overdue(op, now_ns)) {
            answer(op, -EIO);
            continue;
        }
        oldest_ns = oldest_ns ? MIN(oldest_ns, op->since_ns) : op->since_ns;
    }
    return oldest_ns;
}

void flight_fail_all(struct remote *r, int result)
{
    LIST_FOREACH_SAFE (node, &r->waiting)
        answer(LIST_ENTRY(node, struct remote_op, link), result);
}
