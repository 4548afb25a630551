/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * backlog.c: what a promoted side serves and has not applied yet.  See backlog.h for the rules.
 *
 *     read      waits for the records that touch its bytes, and for those that these wait for
 *     write     waits until its extents are settled: their records are applied, then what lies
 * below is flushed, then the file `settled` says so; many writes share that
 *     others    go on: the journal is durable, so a flush covers what it has
 *
 * After a crash redo begins at the journal's tail again and leaves out extents that are settled.
 * Those were flushed before the file said so, so what is left out is below, or something newer is.
 *
 *     file `settled`: magic u32, crc32c u32 (of what follows), version u64, id u64 (as in super),
 * extents u64, a bit for each of them
 */
#include "replica.h"

#include "common/crc.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC 0x31545353u /* "SST1" */
#define SETTLED_VERSION 1u
#define HEAD_BYTES 32u
#define FILE_NAME "settled"

static bool has_bit(const uint8_t *bits, uint64_t n)
{
    return bits[n / 8] >> (n % 8) & 1;
}

static void set_bit(uint8_t *bits, uint64_t n)
{
    bits[n / 8] |= (uint8_t)(1u << (n % 8));
}

static uint64_t map_bytes(const struct backlog *b)
{
    return (b->extents + 7) / 8;
}

/* The extents of a range, as far as there is a list of them: the disk may have grown since. */
struct span {
    uint64_t from, to;
};

static struct span span_of(const struct backlog *b, uint64_t offset, uint64_t bytes)
{
    struct span s = {offset / EXTENT_BYTES, (offset + bytes + EXTENT_BYTES - 1) / EXTENT_BYTES};

    s.to = s.to < b->extents ? s.to : b->extents;
    return s;
}

static struct span span_of_entry(const struct backlog *b, const struct entry *e)
{
    return span_of(b, e->frame.offset, e->frame.bytes);
}

static bool overlaps(const struct entry *e, uint64_t offset, uint64_t bytes)
{
    return e->frame.offset < offset + bytes && offset < e->frame.offset + e->frame.bytes;
}

/* --- making it
 * ---------------------------------------------------------------------------------- */

static bool make_room(struct backlog *b, uint64_t extents)
{
    *b = (struct backlog){.extents = extents};
    b->of = calloc(extents, sizeof(struct place *));
    b->touched = calloc(1, map_bytes(b));
    b->settled = calloc(1, map_bytes(b));
    b->settling = calloc(1, map_bytes(b));
    return b->of && b->touched && b->settled && b->settling;
}

void backlog_close(struct replica *r)
{
    struct backlog *b = &r->backlog;

    for (uint64_t x = 0; b->of && x < b->extents; x++)
        while (b->of[x]) {
            struct place *p = b->of[x];

            b->of[x] = p->next;
            free(p);
        }
    free(b->of);
    free(b->touched);
    free(b->settled);
    free(b->settling);
    *b = (struct backlog){.of = NULL};
    atomic_store(&r->has_backlog, false);
}

static bool add_place(struct backlog *b, struct place **last[], uint64_t extent, struct entry *e)
{
    struct place *p = malloc(sizeof *p);

    if (!p)
        return false;
    *p = (struct place){.entry = e};
    *(last[extent] ? last[extent] : &b->of[extent]) = p;
    last[extent] = &p->next;
    return true;
}

static bool add_entry(struct replica *r, struct place **last[], struct entry *e)
{
    struct backlog *b = &r->backlog;
    struct span s = span_of_entry(b, e);
    uint64_t offset, bytes;

    if (!frame_changes_data(&e->frame) || (MUTANT(114) && e->frame.type != FRAME_WRITE) ||
        (MUTANT(71) && e->frame.offset >= r->members[0]->size_bytes))
        return true;
    if (!e->is_applied && !backlog_next_run(r, e, &offset, &bytes))
        e->is_applied = true;
    for (uint64_t x = s.from; x < s.to; x++) {
        set_bit(b->touched, x);
        if (!e->is_applied && !has_bit(b->settled, x) && !add_place(b, last, x, e))
            return false;
    }
    return true;
}

static bool add_all(struct replica *r)
{
    struct place ***last = calloc(r->backlog.extents, sizeof(struct place **));
    bool is_good = last != NULL;

    for (struct entry *e = r->journal.first; e && is_good; e = e->next)
        is_good = add_entry(r, last, e);
    free(last);
    return is_good;
}

static bool begin(struct replica *r)
{
    r->backlog.total = backlog_bytes(r);
    if (!add_all(r)) {
        backlog_close(r);
        return false;
    }
    atomic_store(&r->has_backlog, true);
    return true;
}

bool backlog_make(struct replica *r)
{
    if (!make_room(&r->backlog, r->evidence.extents) || !begin(r)) {
        backlog_close(r);
        return false;
    }
    r->super.backlog_end = r->journal.head;
    r->super.backlog_id = replica_random();
    sluice_event_emit(r->disk, "backlog", "state:begun bytes:%llu",
                      (unsigned long long)r->backlog.total);
    return true;
}

/* --- the file of what is settled
 * ----------------------------------------------------------------- */

static void load_settled(struct replica *r, uint8_t *data, size_t capacity)
{
    struct backlog *b = &r->backlog;
    const uint8_t *at = data;
    size_t length = 0;
    uint64_t extents;

    if (sluice_state_read(r->disk, FILE_NAME, data, capacity, &length) != 0 ||
        length < HEAD_BYTES || le_get(&at, 4) != MAGIC ||
        le_get(&at, 4) != crc_add(0, data + 8, length - 8) || le_get(&at, 8) != SETTLED_VERSION ||
        le_get(&at, 8) != r->super.backlog_id)
        return; /* of an earlier one; nothing is settled of this one */
    extents = le_get(&at, 8);
    for (uint64_t x = 0; x < extents && x < b->extents && HEAD_BYTES + x / 8 < length; x++)
        if (has_bit(data + HEAD_BYTES, x) && !MUTANT(115))
            set_bit(b->settled, x);
}

int backlog_load(struct replica *r)
{
    struct backlog *b = &r->backlog;
    uint8_t *data = NULL;

    if (make_room(b, r->evidence.extents))
        data = malloc(HEAD_BYTES + map_bytes(b));
    if (data)
        load_settled(r, data, HEAD_BYTES + map_bytes(b));
    free(data);
    if (data && begin(r))
        return 0;
    backlog_close(r);
    return -ENOMEM;
}

static size_t encode(const struct replica *r, uint8_t *out)
{
    const struct backlog *b = &r->backlog;
    size_t length = HEAD_BYTES + map_bytes(b);
    uint8_t *at = out + 8;

    le_put(&at, SETTLED_VERSION, 8);
    le_put(&at, r->super.backlog_id, 8);
    le_put(&at, b->extents, 8);
    for (uint64_t i = 0; i < map_bytes(b); i++)
        at[i] = b->settled[i] | b->settling[i];
    at = out;
    le_put(&at, MAGIC, 4);
    le_put(&at, crc_add(0, out + 8, length - 8), 4);
    return length;
}

/* Without the mutex, on the one work thread. */
static int write_settled(struct replica *r)
{
    uint8_t *data;
    size_t length;
    int status;

    replica_lock(r);
    data = malloc(HEAD_BYTES + map_bytes(&r->backlog));
    length = data ? encode(r, data) : 0;
    replica_unlock(r);
    if (!data)
        return -ENOMEM;
    status = MUTANT(116) ? 0 : sluice_state_write(r->disk, FILE_NAME, data, length);
    free(data);
    return status;
}

static void save_settled(struct replica *r)
{
    struct backlog *b = &r->backlog;
    int status = write_settled(r);

    replica_lock(r);
    b->settle = SETTLE_IDLE;
    for (uint64_t i = 0; i < map_bytes(b) && status == 0; i++)
        b->settled[i] |= b->settling[i];
    if (status < 0)
        members_health(r, SLUICE_HEALTH_FAILED,
                       "replication: what is settled of the backlog cannot be written",
                       "look at the file system of the state folder; it is tried again");
    else
        capture_admit(r);
    replica_wake(&r->changed);
    replica_unlock(r);
}

/* --- who waits for what
 * -------------------------------------------------------------------------- */

bool backlog_holds_extent(const struct replica *r, uint64_t extent)
{
    const struct backlog *b = &r->backlog;

    return r->has_backlog && extent < b->extents && b->of[extent] && !MUTANT(121);
}

static bool is_unsettled(const struct backlog *b, uint64_t extent)
{
    return has_bit(b->touched, extent) && !has_bit(b->settled, extent);
}

bool backlog_lets_write(const struct replica *r, uint64_t offset, uint64_t bytes)
{
    const struct backlog *b = &r->backlog;
    struct span s = span_of(b, offset, bytes);

    if (!r->has_backlog || MUTANT(111))
        return true;
    for (uint64_t x = s.from; x < s.to; x++)
        if (is_unsettled(b, x))
            return false;
    return true;
}

/* The first that the range waits for, from a place in a list on; it may be the last of a chain. */
static struct place *first_that_touches(struct place *p, uint64_t offset, uint64_t bytes)
{
    while (p && !overlaps(p->entry, offset, bytes))
        p = p->next;
    return p;
}

static bool lets_read(const struct replica *r, uint64_t offset, uint64_t bytes)
{
    const struct backlog *b = &r->backlog;
    struct span s = span_of(b, offset, bytes);

    for (uint64_t x = s.from; r->has_backlog && x < s.to; x++)
        if (first_that_touches(b->of[x], offset, bytes) && !MUTANT(110))
            return false;
    return true;
}

/* An earlier one that is not applied and touches the same bytes. */
static struct entry *blocker(const struct backlog *b, const struct entry *e)
{
    struct span s = span_of_entry(b, e);

    for (uint64_t x = s.from; x < s.to; x++) {
        const struct place *p = first_that_touches(b->of[x], e->frame.offset, e->frame.bytes);

        if (p && p->entry != e && p->entry->number < e->number && !MUTANT(118))
            return p->entry;
    }
    return NULL;
}

/* Where a chain of them begins. */
static struct entry *root_of(const struct backlog *b, struct entry *e)
{
    struct entry *before;

    while ((before = blocker(b, e)))
        e = before;
    return e;
}

typedef bool pick_fn(const struct replica *r, const struct entry *root);

/* Of those that the request waits for, the first whose beginning is of that kind. */
static struct entry *pick(const struct replica *r, const struct captured *c, pick_fn *is_it)
{
    const struct backlog *b = &r->backlog;
    uint64_t bytes = c->request->length;
    struct span s = span_of(b, c->offset, bytes);

    for (uint64_t x = s.from; x < s.to; x++)
        for (struct place *p = b->of[x]; p; p = p->next) {
            struct entry *root;

            if (c->is_read && !overlaps(p->entry, c->offset, bytes))
                continue;
            root = root_of(b, p->entry);
            if (is_it(r, root))
                return root;
        }
    return NULL;
}

static bool may_apply(const struct replica *r, const struct entry *e)
{
    return !e->is_applying && !compare_holds_entry(r, e) &&
           (!e->error || sluice_now_ns(r->disk) >= e->retry_ns);
}

static bool has_failed(const struct replica *r, const struct entry *e)
{
    (void)r;
    return e->error && !e->is_applying;
}

struct entry *backlog_next_wanted(struct replica *r)
{
    struct entry *e = NULL;

    for (struct captured *c = r->reading; c && !e; c = c->next)
        e = pick(r, c, may_apply);
    for (struct captured *c = r->waiting; c && !e; c = c->next)
        e = pick(r, c, may_apply);
    return e;
}

/* --- applied
 * ------------------------------------------------------------------------------------- */

static uint64_t end_of_extent(uint64_t at, uint64_t end)
{
    uint64_t next = (at / EXTENT_BYTES + 1) * EXTENT_BYTES;

    return next < end ? next : end;
}

static bool counts(const struct replica *r, uint64_t at)
{
    const struct backlog *b = &r->backlog;

    return !b->settled || at / EXTENT_BYTES >= b->extents ||
           !has_bit(b->settled, at / EXTENT_BYTES);
}

bool backlog_next_run(const struct replica *r, const struct entry *e, uint64_t *offset,
                      uint64_t *bytes)
{
    uint64_t at = e->frame.offset + e->done, end = e->frame.offset + e->frame.bytes, to;

    while (at < end && !counts(r, at))
        at = end_of_extent(at, end);
    to = at;
    while (to < end && counts(r, to))
        to = end_of_extent(to, end);
    *offset = at;
    *bytes = to - at;
    return to > at;
}

void backlog_take_out(struct replica *r, const struct entry *e)
{
    struct backlog *b = &r->backlog;
    struct span s = span_of_entry(b, e);

    if (!r->has_backlog)
        return;
    for (uint64_t x = s.from; x < s.to; x++)
        for (struct place **at = &b->of[x]; *at; at = &(*at)->next)
            if ((*at)->entry == e) {
                struct place *p = *at;

                *at = p->next;
                free(p);
                break;
            }
    b->unflushed += e->frame.type == FRAME_WRITE ? e->frame.bytes : 0;
    backlog_admit_reads(r);
    if (r->waiting)
        replica_kick(r); /* its extents may be all applied */
}

/* --- requests
 * ------------------------------------------------------------------------------------ */

struct sluice_verdict backlog_start_read(struct member *m, struct sluice_request *q,
                                         struct captured *c)
{
    struct replica *r = m->r;
    struct sluice_verdict v = sluice_pass();

    if (!atomic_load(&r->has_backlog))
        return v;
    replica_lock(r);
    c->request = q;
    c->member = m;
    c->offset = m->base + q->offset;
    c->is_read = true;
    if (!lets_read(r, c->offset, q->length)) {
        sluice_hold(m->disk, q, "replication: waits for what the peer had written");
        m->inside++;
        captured_append(&r->reading_last, c);
        replica_kick(r);
        v = sluice_defer();
    }
    replica_unlock(r);
    return v;
}

/* What is not applied is said to be data, which is always right. */
struct sluice_verdict backlog_start_extents(struct member *m, struct sluice_request *q)
{
    struct replica *r = m->r;
    bool is_below;

    if (!atomic_load(&r->has_backlog))
        return sluice_pass();
    replica_lock(r);
    is_below = lets_read(r, m->base + q->offset, q->length);
    replica_unlock(r);
    if (is_below)
        return sluice_pass();
    sluice_extent(m->disk, q, q->length, 0);
    return sluice_complete();
}

void backlog_admit_reads(struct replica *r)
{
    struct captured *c, *next;

    for (c = r->reading; c; c = next) {
        next = c->next;
        if (!lets_read(r, c->offset, c->request->length))
            continue;
        captured_take_out(&r->reading_last, c);
        captured_leave(c, sluice_pass());
        replica_wake(&r->changed);
    }
}

/* What lies below has failed: so does the request that needs it, as it would have there. */
static void refuse_failed(struct captured ***last, struct captured *first, struct replica *r)
{
    struct captured *c, *next;

    for (c = first; c; c = next) {
        const struct entry *e = pick(r, c, has_failed);

        next = c->next;
        if (!e)
            continue;
        captured_take_out(last, c);
        captured_leave(c, sluice_fail(e->error));
        replica_wake(&r->changed);
    }
}

/* --- settling
 * ------------------------------------------------------------------------------------ */

/* Everything for it is applied, and it waits only for that to be durable. */
static bool waits_for_settling(const struct replica *r, const struct captured *c)
{
    const struct backlog *b = &r->backlog;
    struct span s = span_of(b, c->offset, c->request->length);

    for (uint64_t x = s.from; x < s.to; x++)
        if (b->of[x])
            return false;
    return !backlog_lets_write(r, c->offset, c->request->length);
}

static void refuse_settling(struct replica *r, int32_t error)
{
    struct captured *c, *next;

    for (c = r->waiting; c; c = next) {
        next = c->next;
        if (!waits_for_settling(r, c))
            continue;
        captured_take_out(&r->waiting_last, c);
        captured_leave(c, sluice_fail(error));
    }
}

static void on_flushed(struct sluice_io *io, int32_t error)
{
    struct backlog *b = (struct backlog *)(void *)((char *)io - offsetof(struct backlog, io));
    struct replica *r = (struct replica *)(void *)((char *)b - offsetof(struct replica, backlog));

    replica_lock(r);
    b->settle = error ? SETTLE_IDLE : SETTLE_FLUSHED;
    if (error)
        refuse_settling(r, error);
    replica_kick(r);
    replica_wake(&r->changed);
    replica_unlock(r);
}

/* All that is applied by now is, whoever waits for it: true: the flush is to be submitted. */
static bool begin_settling(struct replica *r)
{
    struct backlog *b = &r->backlog;
    const struct captured *c = r->waiting;

    while (c && !waits_for_settling(r, c))
        c = c->next;
    if (!c || b->settle != SETTLE_IDLE || r->is_closing)
        return false;
    memset(b->settling, 0, map_bytes(b));
    for (uint64_t x = 0; x < b->extents; x++)
        if (is_unsettled(b, x) && !b->of[x])
            set_bit(b->settling, x);
    b->settle = SETTLE_FLUSHING;
    b->io = (struct sluice_io){
        .op = SLUICE_OP_FLUSH, .origin = SLUICE_ORIGIN_RESYNC, .done = on_flushed};
    return true;
}

bool backlog_is_busy(const struct replica *r)
{
    return r->backlog.settle == SETTLE_FLUSHING;
}

/* --- its end
 * ------------------------------------------------------------------------------------- */

/* True: it has ended. */
static bool end(struct replica *r)
{
    if (!r->has_backlog || r->super.backlog_end || r->super_saved < r->check_change ||
        r->backlog.settle != SETTLE_IDLE)
        return false;
    backlog_close(r);
    members_progress(r, NULL, 0, 0);
    sluice_log(r->disk, SLUICE_LOG_NOTICE, "replication: all of the journal is applied");
    sluice_event_emit(r->disk, "backlog", "state:done");
    backlog_admit_reads(r);
    capture_admit(r);
    roles_tell(r);
    replica_wake(&r->changed);
    replica_kick(r);
    return true;
}

void backlog_pump(struct replica *r)
{
    struct backlog *b = &r->backlog;
    bool flushes = false, is_flushed = false, is_over;

    replica_lock(r);
    is_over = end(r);
    if (r->has_backlog) {
        if (r->journal.failing) {
            refuse_failed(&r->reading_last, r->reading, r);
            refuse_failed(&r->waiting_last, r->waiting, r);
        }
        capture_admit(r); /* those that only stood behind one that waits */
        members_progress(r, "apply", b->total - backlog_bytes(r), b->total);
        is_flushed = b->settle == SETTLE_FLUSHED;
        flushes = begin_settling(r);
    }
    replica_unlock(r);
    if (is_over)
        sluice_state_remove(r->disk, FILE_NAME);
    if (is_flushed)
        save_settled(r);
    if (flushes && MUTANT(113))
        on_flushed(&b->io, 0);
    else if (flushes && members_submit(r, &b->io) < 0)
        on_flushed(&b->io, EIO);
}

/* --- control events
 * ------------------------------------------------------------------------------ */

int backlog_await_end(struct replica *r, const struct sluice_event *event,
                      struct sluice_error *error)
{
    while (r->has_backlog && !r->is_closing && sluice_now_ns(r->disk) < event->deadline_ns)
        replica_wait(r);
    if (!r->has_backlog)
        return 0;
    return sluice_refuse(r->disk, error, EBUSY,
                         "what the journal has from before the promotion is still being applied: "
                         "%llu bytes",
                         (unsigned long long)backlog_bytes(r));
}

uint64_t backlog_bytes(const struct replica *r)
{
    return r->journal.head - target_first_needed(r);
}

void backlog_tell(struct replica *r, struct sluice_reply *reply)
{
    if (r->has_backlog)
        sluice_reply_text(r->disk, reply, "%s; %llu bytes of the journal are not applied yet%s",
                          r->is_serving ? "serves" : "does not serve",
                          (unsigned long long)backlog_bytes(r),
                          r->journal.failing ? ", what lies below fails" : "");
    sluice_reply_integer(r->disk, reply, "unapplied_bytes", (int64_t)backlog_bytes(r));
}
