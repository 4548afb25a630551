/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * order.c: `ordered`: what the backing holds is always an earlier state of the disk, as a disk with
 * a volatile cache might have it after a power cut: all that was flushed by some flush, and of what
 * came until the next one, any of it.  So the SSD can be lost, and what is left is whole but old.
 *
 *     epoch     the chunks between two flushes of guests, as their headers say.  Where that is not
 *               known a chunk is an epoch: a shorter one is as good.
 *     step      the blocks of an epoch, of each its last version there, though a later epoch has a
 *               newer one; then a flush of the backing; then the position behind the epoch, durable
 *               in the log.  Only then the next epoch: else, after a crash, older versions might
 *               be written over newer ones once more.
 *     through   A change that does not stay in the log waits until all that had been acknowledged
 *               before it is in the backing.  Where writes are to go through (a drain, a mode) they
 *               stay until little is dirty, ever more slowly, so that this end comes.
 *     damage    An epoch of which something cannot be read ends the order: the rest is destaged as
 *               without it, and the order holds again when all of that is in the backing.
 *     no tier   One that has failed is salvaged in the same order, the position noted in the state
 *               folder.  What cannot be read, and all behind it, stays where it is, and no change
 *               goes to the backing, so that it is the earlier state which was promised.
 *
 * Only blocks that are dirty now are written: their newest version follows in any case, and until
 * then they are read from the log.
 */
#include "common/crc.h"
#include "destage.h"

#include <errno.h>
#include <stdlib.h>

#define NOTE_NAME "ordered-to"
#define STEP_BYTES (4u << 20)
#define LOSE_AT_ONCE 64u
#define DELAY_SHARE 64u /* part of the time that emptying has taken */
#define DELAY_LEAST_NS UINT64_C(1000000)
#define DELAY_MOST_NS UINT64_C(1000000000)

/* --- what others ask [M] -------------------------------------------------------------------------
 */

bool order_is_kept(const struct cache *c)
{
    return c->options.ordered && cache_has_log(c) && !c->order.is_suspended;
}

bool order_counts(const struct cache *c)
{
    return c->options.ordered && cache_has_log(c) && !c->log.error;
}

bool order_holds(const struct cache *c)
{
    bool is_whole = c->log.lost_blocks == 0 || c->log.error; /* then nothing passes what is lost */

    return order_is_kept(c) && is_whole && c->order.log.destaged.sequence >= c->order.log.from;
}

const char *order_state(const struct cache *c)
{
    if (!c->options.ordered || !cache_has_log(c))
        return "none";
    return order_holds(c) ? "kept" : order_is_kept(c) ? "not yet" : "suspended";
}

struct log_position order_now(const struct cache *c)
{
    return c->log.head;
}

/* Not by sequence numbers: a header that was alone in the last block of its segment, and reported
 * failed before the last start, may lie there all the same, with the number that the next chunk has
 * got since.  Whoever walks by takes it for that one. */
bool order_has_passed(const struct cache *c, const struct log_position *behind)
{
    const struct log_position *at = &c->order.log.destaged;

    if (!order_counts(c) || c->order.is_suspended || MUTANT(27))
        return true;
    if (MUTANT(31) ? at->sequence >= behind->sequence
                   : !format_is_before(at->segment, at->block, behind))
        return true;
    return c->log.dirty_blocks == 0 && c->log.applied.sequence >= behind->sequence;
}

bool order_needs_tail(const struct cache *c)
{
    return order_is_kept(c) && c->order.log.destaged.segment <= c->log.tail;
}

uint64_t order_backlog(const struct cache *c)
{
    const struct log *log = &c->log;

    if (!order_is_kept(c) || log->dirty_blocks == 0)
        return log_to_destage(log);
    return (log->head.segment - MIN(log->head.segment, c->order.log.destaged.segment)) *
           log->super.segment_blocks;
}

uint64_t order_delay_ns(struct cache *c, uint64_t now_ns)
{
    struct order *o = &c->order;
    bool is_emptying = order_counts(c) && (c->draining || c->options.mode != MODE_WRITE_BACK);
    uint64_t delay;

    if (!is_emptying || c->log.dirty_blocks == 0) {
        o->emptying_since_ns = 0;
        return 0;
    }
    if (!o->emptying_since_ns)
        o->emptying_since_ns = now_ns;
    delay = (now_ns - o->emptying_since_ns) / DELAY_SHARE;
    return MIN(MAX(delay, DELAY_LEAST_NS), DELAY_MOST_NS);
}

/* --- the position [M] ----------------------------------------------------------------------------
 */

/* With nothing dirty, all in the log is in the backing. */
static void settle(struct cache *c)
{
    struct log *log = &c->log;
    struct log_position *at = &c->order.log.destaged;

    *at = log->applied;
    if (log->head.segment > at->segment) /* nothing more comes into that one */
        *at = (struct log_position){.segment = log->head.segment, .sequence = at->sequence};
    c->order.is_suspended = false;
}

static void suspend(struct cache *c)
{
    sluice_log(
        c->disk, SLUICE_LOG_WARNING,
        "%s: a part of the log cannot be read; until the rest is in the backing, that is not "
        "an earlier state of the disk",
        c->log.path);
    c->order.is_suspended = true;
    c->order.suspended_at = c->log.head.segment;
    c->order.log.from = UINT64_MAX;
}

/* What was destaged in any order is behind; from the clean mark on there may be versions of blocks
 * that are dirty now. */
void order_take_up(struct cache *c)
{
    struct log *log = &c->log;

    cache_lock(c);
    if (c->order.is_suspended && log->lost_blocks == 0 &&
        (log->dirty_blocks == 0 || log->clean > c->order.suspended_at)) {
        c->order.is_suspended = false;
        c->order.log.destaged = (struct log_position){.segment = log->clean};
        c->order.log.from = c->order.mixed = log->head.sequence;
        if (log->dirty_blocks == 0)
            settle(c);
    }
    cache_unlock(c);
}

void order_begin(struct cache *c, const struct log_order *found)
{
    const struct log *log = &c->log;
    struct order *o = &c->order;

    if (!c->options.ordered)
        return;
    o->log = *found;
    if (found->from == 0 || found->destaged.segment < log->tail)
        o->log = (struct log_order){.destaged.segment = MAX(log->clean, log->tail),
                                    .from = log->head.sequence};
    if (found->from == UINT64_MAX) /* it had been suspended */
        o->log.from = log->head.sequence;
    o->mixed = o->log.from;
    if (log->dirty_blocks == 0)
        settle(c);
}

/* --- the note of a salvage -----------------------------------------------------------------------
 */

struct order_note {
    uint64_t nonce, segment, block, sequence;
};

void order_read_note(struct cache *c, struct log_order *found)
{
    struct order_note n;
    size_t length = 0;

    if (sluice_state_read(c->disk, NOTE_NAME, &n, sizeof n, &length) < 0 || length != sizeof n ||
        n.nonce != c->log.super.nonce ||
        !format_is_before(found->destaged.segment, found->destaged.block,
                          &(struct log_position){.segment = n.segment, .block = (uint32_t)n.block}))
        return;
    found->destaged = (struct log_position){
        .segment = n.segment, .block = (uint32_t)n.block, .sequence = n.sequence};
}

static int32_t write_note(struct cache *c)
{
    const struct log_position *at = &c->order.log.destaged; /* only the keeper changes it */
    struct order_note n = {c->log.super.nonce, at->segment, at->block, at->sequence};
    int r = sluice_state_write(c->disk, NOTE_NAME, &n, sizeof n);

    step_down_tell_noted(c, r);
    return -r;
}

static int32_t make_position_durable(const struct window *w)
{
    if (MUTANT(26))
        return 0;
    return w->is_salvage ? write_note(w->c) : log_mark_wait(w->c);
}

/* --- chunk by chunk ------------------------------------------------------------------------------
 */

/* Where the walk is: what was passed is in the list, or behind the position. */
struct walk {
    struct window *w;
    struct log_position at;
    struct chunk_header header;
    uint64_t written; /* blocks */
    bool is_damaged;
};

/* The first of a segment has been written since that was opened, whatever its number: what was left
 * over before it may look like a chunk without data. */
static bool is_chunk_at(struct walk *k, uint64_t segment, uint32_t block)
{
    struct window *w = k->w;
    const struct log *log = &w->c->log;
    const struct chunk_header *h = &k->header;
    uint32_t end = segment < w->end ? destage_blocks_of(w, segment) : 0;

    if (block >= end ||
        !format_get_chunk(destage_segment_data(w, segment) + (uint64_t)block * BLOCK_BYTES,
                          &k->header) ||
        h->nonce != log->super.nonce || h->segment != segment || 1 + h->data_blocks > end - block)
        return false;
    if (k->at.sequence == 0)
        return true;
    return block == 0 && !MUTANT(32) ? h->sequence <= k->at.sequence
                                     : h->sequence == k->at.sequence;
}

/* All that is dirty in this segment is in the list; else a header there cannot be read, and to pass
 * it would be to lose what it describes. */
static bool may_leave(struct walk *k)
{
    struct cache *c = k->w->c;
    uint32_t place = log_place_of(&c->log, k->at.segment), listed = 0, left;
    struct index_item item;

    cache_lock(c);
    for (uint32_t i = 0; i < k->w->count; i++) {
        const struct dirty *d = &k->w->list[i];

        listed += log_place_of_slot(&c->log, d->slot) == place &&
                  index_get(&c->index, d->block, &item) && item.is_dirty && !item.is_in_ram &&
                  item.place == d->slot;
    }
    left = c->log.dirty_in[place];
    cache_unlock(c);
    return left <= listed;
}

/* False: the window ends here, or is_damaged. */
static bool find_chunk(struct walk *k)
{
    struct window *w = k->w;

    if (k->at.segment >= w->end)
        return false;
    if (is_chunk_at(k, k->at.segment, k->at.block))
        return true;
    if (k->at.segment == w->last) {
        k->is_damaged = k->at.block < w->head_blocks;
        return false;
    }
    if (!may_leave(k)) {
        k->is_damaged = true;
        return false;
    }
    k->at.segment++;
    k->at.block = 0;
    if (is_chunk_at(k, k->at.segment, 0))
        return true;
    k->is_damaged = k->at.segment < w->end && destage_blocks_of(w, k->at.segment) > 0;
    return false;
}

/* --- an epoch ------------------------------------------------------------------------------------
 */

/* [M] What stands in such a chunk may have gone to the backing long ago, and a newer version after
 * it that is in no chunk; the newest of all has come since.  That alone is brought, and the order
 * holds when all that is there by now has been. */
static bool may_be_behind(const struct walk *k)
{
    return k->header.sequence < k->w->c->order.mixed;
}

/* [M] */
static void add_entry(struct walk *k, const struct chunk_entry *e, uint32_t slot,
                      const uint8_t *data)
{
    struct window *w = k->w;
    struct index_item item;

    if (!index_get(&w->c->index, e->block, &item) || !item.is_dirty)
        return;
    if (item.place != slot && may_be_behind(k) && !MUTANT(37)) {
        w->c->order.log.from = MAX(w->c->order.log.from, w->c->log.applied.sequence);
        return;
    }
    if (item.place != slot && MUTANT(28))
        return;
    /* The CRCs in RAM are of newest versions alone. */
    if (w->count == w->most || crc_add(0, data, BLOCK_BYTES) != e->crc) {
        k->is_damaged = true;
        return;
    }
    w->list[w->count] =
        (struct dirty){.block = e->block, .slot = slot, .turn = w->count, .data = data};
    w->count++;
}

static void add_chunk(struct walk *k)
{
    struct cache *c = k->w->c;
    const uint8_t *data =
        destage_segment_data(k->w, k->at.segment) + ((uint64_t)k->at.block + 1) * BLOCK_BYTES;
    uint32_t slot = log_slot(&c->log, k->at.segment, k->at.block) + 1;

    cache_lock(c);
    for (uint32_t i = 0; i < k->header.count; i++) {
        const struct chunk_entry *e = &k->header.entry[i];

        if (e->kind == CHUNK_DROP)
            continue;
        if (e->kind == CHUNK_DIRTY)
            add_entry(k, e, slot, data);
        slot++;
        data += BLOCK_BYTES;
    }
    cache_unlock(c);
    k->at.block += 1 + k->header.data_blocks;
    k->at.sequence = k->header.sequence + 1;
}

static int by_block_and_turn(const void *a, const void *b)
{
    const struct dirty *x = a, *y = b;

    if (x->block != y->block)
        return x->block < y->block ? -1 : 1;
    return x->turn < y->turn ? -1 : x->turn > y->turn;
}

/* Of each block the last. */
static void sort_list(struct window *w)
{
    uint32_t kept = 0;

    qsort(w->list, w->count, sizeof *w->list, by_block_and_turn);
    for (uint32_t i = 0; i < w->count; i++)
        if (i + 1 == w->count || w->list[i + 1].block != w->list[i].block)
            w->list[kept++] = w->list[i];
    w->count = kept;
}

/* False: there is none any more in the window. */
static bool collect_epoch(struct walk *k)
{
    bool is_first = true;

    k->w->count = 0;
    while (!k->is_damaged && find_chunk(k)) {
        if (!is_first && !k->header.is_joined && !MUTANT(25))
            break;
        add_chunk(k);
        is_first = false;
    }
    sort_list(k->w);
    return !is_first;
}

static void pass(struct walk *k)
{
    struct cache *c = k->w->c;

    cache_lock(c);
    c->order.log.destaged = k->at;
    cache_wake(&c->cond);
    cache_unlock(c);
}

/* The position is moved, for the log's headers too, when the epoch is durable in the backing. */
static void bring_epoch(struct walk *k)
{
    struct window *w = k->w;

    if (w->count)
        destage_write_list(w);
    if (w->error)
        return;
    k->written += w->count;
    destage_mark_clean(w);
    pass(k);
    if (w->count)
        w->error = make_position_durable(w);
    pace_release(w->c);
}

/* --- what cannot be read -------------------------------------------------------------------------
 */

struct unlost {
    struct index_item item[LOSE_AT_ONCE];
    unsigned count;
};

static void find_unlost(const struct index_item *item, void *arg)
{
    struct unlost *u = arg;

    if (item->is_dirty && !item->is_bad && u->count < LOSE_AT_ONCE)
        u->item[u->count++] = *item;
}

/* [M] */
static bool lose_some(struct cache *c, unsigned shard)
{
    struct unlost u = {.count = 0};

    index_for_shard(&c->index, shard, find_unlost, &u);
    for (unsigned i = 0; i < u.count; i++)
        rot_lose(c, u.item[i].block, u.item[i].place);
    return u.count > 0;
}

/* Of a tier that has failed nothing behind the damage is of use. */
static void lose_rest(struct cache *c)
{
    for (unsigned shard = 0; shard < index_shard_count(&c->index); shard++) {
        bool more = true;

        while (more) {
            cache_lock(c);
            more = lose_some(c, shard);
            cache_unlock(c);
        }
    }
}

static void end_damaged(struct walk *k)
{
    struct cache *c = k->w->c;

    if (k->w->is_salvage) {
        lose_rest(c);
        return;
    }
    cache_lock(c);
    suspend(c);
    cache_unlock(c);
}

/* --- a step --------------------------------------------------------------------------------------
 */

/* [M] Memory for as many versions as the segments have room for. */
static void choose(struct walk *k)
{
    struct window *w = k->w;
    struct cache *c = w->c;
    const struct log *log = &c->log;
    uint64_t most = MAX(STEP_BYTES / (log->super.segment_blocks * BLOCK_BYTES), 1u);

    k->at = c->order.log.destaged;
    w->first = k->at.segment;
    w->end = MIN(w->first + most, log->applied.segment + 1);
    w->most = (uint32_t)(w->end - w->first) * log->super.segment_blocks;
    destage_note_head(w);
}

static void bring_window(struct walk *k)
{
    struct window *w = k->w;

    destage_open_window(w);
    while (!w->error && !k->is_damaged) {
        struct log_position before = k->at;
        bool is_one = collect_epoch(k);

        if (k->is_damaged) {
            k->at = before;
            break;
        }
        bring_epoch(k);
        if (!is_one || destage_ask(w->c, keeper_has_more_urgent))
            break;
    }
    destage_close_window(w);
    if (k->is_damaged && !w->error)
        end_damaged(k);
}

int32_t order_step(struct cache *c)
{
    struct window w = {.c = c};
    struct walk k = {.w = &w};
    uint64_t began = sluice_now_ns(c->disk);
    bool is_empty;
    int32_t error;

    cache_lock(c);
    is_empty = c->log.dirty_blocks == 0;
    if (is_empty)
        settle(c);
    choose(&k);
    cache_unlock(c);
    if (is_empty || w.most == 0)
        return 0;
    error = destage_make_durable(&w);
    if (!error) {
        bring_window(&k);
        error = w.error;
    }
    destage_note_pace(c, k.written, began);
    return error;
}
