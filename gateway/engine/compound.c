/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * compound.c: requests made of others under one exclusive range lock: read-modify-write of partial
 * blocks, COMPARE AND WRITE, ORWRITE (SBC-4), zeroing for a backing that cannot.
 *
 * The parent holds the lock and never walks itself; its children walk the whole chain, carry its
 * origin and client, and pass gate and lock.  A program is a table of steps; a step either issues
 * one child (WAIT), goes on, is repeated, or ends the parent.  Partial blocks are read, merged in a
 * private buffer and written once.
 */
#include "internal.h"

#include <errno.h>
#include <string.h>

enum next { NEXT_STEP, NEXT_REPEAT, NEXT_WAIT, NEXT_END };

typedef enum next step_fn(struct compound *c);

struct compound {
    struct request *parent;
    step_fn *const *program;
    unsigned step;
    bool is_advancing;     /* an outer frame runs the steps */
    struct request *child; /* in flight */
    uint64_t unit;
    uint64_t first, end; /* the range rounded out to units */
    uint64_t done_bytes; /* zeroing by writes */
    uint8_t *buffer;     /* covers first..end, or one chunk */
    int cancel_error;
};

#define ZERO_CHUNK (1u << 20)

static const uint8_t zero_chunk[ZERO_CHUNK];

static void advance(struct compound *c);

static bool is_aligned(const struct request *r)
{
    return ((r->pub.offset | r->pub.length) & (r->chain->unit - 1)) == 0;
}

bool compound_is_needed(const struct request *r)
{
    switch (r->op) {
    case SLUICE_OP_FLUSH:
    case SLUICE_OP_PREFETCH:
        return false;
    case SLUICE_OP_ZERO:
        if (!r->chain->info->can_zero && !r->parent)
            return true;
        /* fallthrough */
    case SLUICE_OP_READ:
    case SLUICE_OP_WRITE:
    case SLUICE_OP_TRIM:
    case SLUICE_OP_EXTENTS:
        return r->chain->unit > 1 && !is_aligned(r);
    default:
        return true;
    }
}

/* --- children
 * --------------------------------------------------------------------------------------------- */

static void on_child_done(struct request *child)
{
    struct compound *c = child->owner;

    advance(c);
}

static void fail(struct compound *c, int error)
{
    if (!c->parent->pub.error)
        c->parent->pub.error = error;
}

/* Takes the result of the child that has ended. */
static void reap(struct compound *c)
{
    if (!c->child)
        return;
    if (c->child->pub.error)
        fail(c, c->child->pub.error);
    request_free(c->child);
    c->child = NULL;
}

static enum next issue(struct compound *c, unsigned op, uint32_t flags, uint64_t offset,
                       uint64_t length, void *data)
{
    struct request *child = request_new_child(c->parent);

    if (!child) {
        fail(c, ENOMEM);
        return NEXT_END;
    }
    child->pub.op = (uint8_t)op;
    child->pub.flags = (uint16_t)flags;
    child->pub.offset = offset;
    child->pub.length = length;
    child->pub.data = data;
    request_set_done(child, on_child_done, c);
    c->child = child;
    return request_submit(child) == IO_DONE ? NEXT_STEP : NEXT_WAIT;
}

static uint32_t write_flags(const struct compound *c)
{
    return c->parent->pub.flags & (SLUICE_FLAG_FUA | SLUICE_FLAG_ATOMIC);
}

/* --- steps
 * ---------------------------------------------------------------------------------------------------
 */

static enum next read_all(struct compound *c)
{
    return issue(c, SLUICE_OP_READ, 0, c->first, c->end - c->first, c->buffer);
}

static uint64_t lead(const struct compound *c)
{
    return c->parent->pub.offset - c->first;
}

static uint64_t request_end(const struct compound *c)
{
    return c->parent->pub.offset + c->parent->pub.length;
}

static enum next copy_out(struct compound *c)
{
    memcpy(c->parent->pub.data, c->buffer + lead(c), c->parent->pub.length);
    return NEXT_END;
}

static enum next read_first_block(struct compound *c)
{
    if (lead(c) == 0 && c->parent->pub.length >= c->unit)
        return NEXT_STEP;
    return issue(c, SLUICE_OP_READ, 0, c->first, c->unit, c->buffer);
}

static enum next read_last_block(struct compound *c)
{
    uint64_t last = c->end - c->unit;

    if (request_end(c) == c->end || last == c->first)
        return NEXT_STEP; /* whole, or read_first_block has it */
    return issue(c, SLUICE_OP_READ, 0, last, c->unit, c->buffer + (last - c->first));
}

static enum next merge_and_write(struct compound *c)
{
    memcpy(c->buffer + lead(c), c->parent->pub.data, c->parent->pub.length);
    return issue(c, SLUICE_OP_WRITE, write_flags(c), c->first, c->end - c->first, c->buffer);
}

static enum next end(struct compound *c)
{
    (void)c;
    return NEXT_END;
}

/* Trim and zero: the part of the first and of the last block is written as zeros. */
static enum next read_edge(struct compound *c, uint64_t block)
{
    return issue(c, SLUICE_OP_READ, 0, block, c->unit, c->buffer);
}

static enum next write_edge(struct compound *c, uint64_t block)
{
    uint64_t from = MAX(c->parent->pub.offset, block), to = MIN(request_end(c), block + c->unit);

    memset(c->buffer + (from - block), 0, to - from);
    return issue(c, SLUICE_OP_WRITE, write_flags(c), block, c->unit, c->buffer);
}

static bool has_partial_first(const struct compound *c)
{
    return lead(c) != 0 || request_end(c) < c->first + c->unit;
}

static bool has_partial_last(const struct compound *c)
{
    return request_end(c) != c->end && !(has_partial_first(c) && c->end - c->unit == c->first);
}

static enum next read_first_edge(struct compound *c)
{
    return has_partial_first(c) ? read_edge(c, c->first) : NEXT_STEP;
}

static enum next write_first_edge(struct compound *c)
{
    return has_partial_first(c) ? write_edge(c, c->first) : NEXT_STEP;
}

static enum next read_last_edge(struct compound *c)
{
    return has_partial_last(c) ? read_edge(c, c->end - c->unit) : NEXT_STEP;
}

static enum next write_last_edge(struct compound *c)
{
    return has_partial_last(c) ? write_edge(c, c->end - c->unit) : NEXT_STEP;
}

static void middle_of(const struct compound *c, uint64_t *from, uint64_t *to)
{
    *from = c->first + (has_partial_first(c) ? c->unit : 0);
    *to = c->end - (has_partial_last(c) ? c->unit : 0);
}

static enum next zero_middle(struct compound *c)
{
    uint64_t from, to;

    middle_of(c, &from, &to);
    if (from >= to)
        return NEXT_STEP;
    return issue(c, c->parent->op, c->parent->pub.flags, from, to - from, NULL);
}

static enum next write_zeros(struct compound *c)
{
    uint64_t from, to, length;

    middle_of(c, &from, &to);
    from += c->done_bytes;
    if (from >= to)
        return NEXT_END;
    length = MIN(to - from, (uint64_t)ZERO_CHUNK);
    c->done_bytes += length;
    return issue(c, SLUICE_OP_WRITE, write_flags(c), from, length, (void *)(uintptr_t)zero_chunk) ==
                   NEXT_WAIT
               ? NEXT_WAIT
               : NEXT_REPEAT;
}

static enum next compare(struct compound *c)
{
    const uint8_t *want = c->parent->pub.data, *have = c->buffer + lead(c);

    for (uint64_t i = 0; i < c->parent->pub.length; i++)
        if (want[i] != have[i]) {
            c->parent->miscompare = i;
            fail(c, EILSEQ);
            return NEXT_END;
        }
    memcpy(c->buffer + lead(c), want + c->parent->pub.length, c->parent->pub.length);
    return NEXT_STEP;
}

static enum next merge_or(struct compound *c)
{
    const uint8_t *data = c->parent->pub.data;
    uint8_t *to = c->buffer + lead(c);

    for (uint64_t i = 0; i < c->parent->pub.length; i++)
        to[i] |= data[i];
    return NEXT_STEP;
}

static enum next write_all(struct compound *c)
{
    return issue(c, SLUICE_OP_WRITE, write_flags(c), c->first, c->end - c->first, c->buffer);
}

static enum next ask_extents(struct compound *c)
{
    return issue(c, SLUICE_OP_EXTENTS, 0, c->first, c->end - c->first, NULL);
}

/* --- programs
 * --------------------------------------------------------------------------------------------------
 */

static step_fn *const program_read[] = {read_all, copy_out};
static step_fn *const program_write[] = {read_first_block, read_last_block, merge_and_write, end};
static step_fn *const program_zero[] = {read_first_edge, write_first_edge, read_last_edge,
                                        write_last_edge, zero_middle,      end};
static step_fn *const program_zero_by_writes[] = {read_first_edge, write_first_edge, read_last_edge,
                                                  write_last_edge, write_zeros};
static step_fn *const program_compare_and_write[] = {read_all, compare, write_all, end};
static step_fn *const program_or_write[] = {read_all, merge_or, write_all, end};
static step_fn *const program_extents[] = {ask_extents, end};

static step_fn *const *program_for(const struct request *r)
{
    switch (r->op) {
    case SLUICE_OP_READ:
        return program_read;
    case SLUICE_OP_WRITE:
        return program_write;
    case SLUICE_OP_ZERO:
        return r->chain->info->can_zero ? program_zero : program_zero_by_writes;
    case SLUICE_OP_TRIM:
        return program_zero;
    case SLUICE_OP_EXTENTS:
        return program_extents;
    case ENGINE_OP_COMPARE_AND_WRITE:
        return program_compare_and_write;
    default:
        return program_or_write;
    }
}

static size_t buffer_size(const struct request *r, uint64_t covered)
{
    switch (r->op) {
    case SLUICE_OP_ZERO:
    case SLUICE_OP_TRIM:
        return r->chain->unit;
    case SLUICE_OP_EXTENTS:
        return 0;
    default:
        return covered;
    }
}

/* An extents answer for the rounded range, clipped to what was asked. */
static void clip_extents(struct compound *c)
{
    const struct extents *from = &c->child->extents;
    uint64_t at = from->offset, skip = c->parent->pub.offset;

    for (unsigned i = 0; i < from->count; i++) {
        uint64_t end_of = at + from->list[i].length;

        if (end_of > skip)
            extents_add(&c->parent->extents, end_of - MAX(at, skip), from->list[i].type);
        at = end_of;
    }
}

static void finish(struct compound *c)
{
    request_finish(c->parent); /* may free c with it */
}

static void advance(struct compound *c)
{
    if (c->is_advancing)
        return;
    c->is_advancing = true;
    for (;;) {
        enum next next;

        if (c->child && c->parent->op == SLUICE_OP_EXTENTS && !c->child->pub.error)
            clip_extents(c);
        reap(c);
        if (!c->parent->pub.error && c->cancel_error)
            fail(c, c->cancel_error);
        if (c->parent->pub.error)
            break;
        next = c->program[c->step](c);
        if (next == NEXT_STEP || next == NEXT_WAIT)
            c->step += c->program[c->step] != write_zeros;
        if (next == NEXT_WAIT) {
            c->is_advancing = false;
            return;
        }
        if (next == NEXT_END)
            break;
    }
    c->is_advancing = false;
    finish(c);
}

int compound_start(struct request *r)
{
    struct compound *c = calloc(1, sizeof *c);
    size_t size;

    if (!c)
        return ENOMEM;
    c->parent = r;
    c->program = program_for(r);
    c->unit = r->chain->unit;
    c->first = r->pub.offset / c->unit * c->unit;
    c->end = (r->pub.offset + r->pub.length + c->unit - 1) / c->unit * c->unit;
    size = buffer_size(r, c->end - c->first);
    c->buffer = size ? aligned_alloc(4096, (size + 4095) / 4096 * 4096) : NULL;
    r->compound = c;
    if (size && !c->buffer)
        return ENOMEM;
    request_set_place(r, PLACE_COMPOUND);
    advance(c);
    return 0;
}

bool compound_cancel(struct request *r, int error)
{
    struct compound *c = r->compound;

    c->cancel_error = error;
    return c->child && request_cancel(c->child, error);
}

void compound_free(struct compound *c)
{
    free(c->buffer);
    free(c);
}
