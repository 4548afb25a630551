/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * step-down.c: the tier has failed, and the disk goes on without it.
 *
 *     note      The state folder learns which blocks are dirty on the tier, and how far its log
 *               counts.  From then on nothing else on it counts, whatever a later start finds
 *               there: clean entries, chunks whose writing failed, drops that did not get there.
 *     through   Writes to all other blocks go to the backing, and so do those that had failed on
 *               their way to the log: nobody has been told.
 *     salvage   What can still be read from the tier goes to the backing, and the note is written
 *               anew without it.  A block that the note names is not written to the backing by
 *               anybody else: the next start may bring back what the tier holds.
 *
 * Requests that have to wait for one of these are stranded: held, and looked at again after each
 * note.  What cannot be read stays in the note, and requests that touch it fail, until the storage
 * is mended and the gateway restarted, or somebody gives it up.
 *
 * A start that finds a note takes from the tier what it names and no more, and removes it when a
 * checkpoint says the same (recover.c).  A note that names nothing voids the whole tier: then it is
 * made anew, or when it cannot be, the disk is served without it.
 */
#include "cache.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define NOTE_NAME "failed-tier"
#define NOTE_BYTES_MOST (UINT64_C(1) << 32)
#define TRY_AGAIN_NS UINT64_C(5000000000)
#define RUN_BLOCKS 0xffffu

static const char note_magic[8] = "void1";

/* --- the file ----------------------------------------------------------------------------------
 */

/* The header, and behind it runs: the first block, and in the lowest 16 bits how many. */
struct note_file {
    char magic[8];
    uint64_t nonce, sequence, blocks, run_count;
    uint64_t run[];
};

static bool is_sane(const struct note_file *f, size_t length)
{
    return length >= sizeof *f && memcmp(f->magic, note_magic, sizeof f->magic) == 0 &&
           f->run_count == (length - sizeof *f) / sizeof f->run[0];
}

int note_read(struct cache *c, struct sluice_error *error)
{
    size_t length = 0;
    int r = -EFBIG;

    for (uint64_t bytes = 1u << 16; r == -EFBIG && bytes <= NOTE_BYTES_MOST; bytes *= 8) {
        cache_free(c->step_down.note);
        c->step_down.note = cache_zalloc(bytes);
        r = c->step_down.note
                ? sluice_state_read(c->disk, NOTE_NAME, c->step_down.note, bytes, &length)
                : -ENOMEM;
    }
    if (r == 0 && is_sane(c->step_down.note, length))
        return 0;
    note_free(c);
    if (r == -ENOENT)
        return 0;
    return sluice_refuse(c->disk, error, r < 0 ? -r : EIO,
                         "what is noted of a tier that failed, %s in the disk's state, cannot be "
                         "read: %s",
                         NOTE_NAME, r < 0 ? strerror(-r) : "it is damaged");
}

void note_free(struct cache *c)
{
    cache_free(c->step_down.note);
    c->step_down.note = NULL;
}

bool note_is_of(const struct cache *c, uint64_t nonce)
{
    return c->step_down.note && c->step_down.note->nonce == nonce;
}

uint64_t note_nonce(const struct cache *c)
{
    return c->step_down.note->nonce;
}

uint64_t note_blocks(const struct cache *c)
{
    return c->step_down.note->blocks;
}

uint64_t note_sequence(const struct cache *c)
{
    return c->step_down.note->sequence;
}

bool note_has(const struct cache *c, uint64_t block)
{
    const struct note_file *f = c->step_down.note;
    uint64_t from = 0, to = f->run_count;

    while (from < to) {
        uint64_t middle = (from + to) / 2;

        if (block < f->run[middle] >> 16)
            to = middle;
        else if (block < (f->run[middle] >> 16) + (f->run[middle] & RUN_BLOCKS))
            return true;
        else
            from = middle + 1;
    }
    return false;
}

int note_remove(struct cache *c)
{
    int r = sluice_state_remove(c->disk, NOTE_NAME);

    if (r == 0)
        note_free(c);
    return r;
}

/* --- noting ------------------------------------------------------------------------------------
 */

struct dirty_list {
    uint64_t *block;
    uint64_t count, most;
    bool is_without_lost; /* they are given up */
};

static void add_if_dirty(const struct index_item *item, void *arg)
{
    struct dirty_list *d = arg;

    if (item->is_dirty && !(item->is_bad && d->is_without_lost) && d->count < d->most)
        d->block[d->count++] = item->block;
}

static int by_number(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;

    return *x < *y ? -1 : *x > *y;
}

/* In place: there are not more runs than blocks. */
static uint64_t join_runs(uint64_t *block, uint64_t count)
{
    uint64_t runs = 0;

    for (uint64_t i = 0, n; i < count; i += n) {
        uint64_t first = block[i];

        for (n = 1; i + n < count && n < RUN_BLOCKS && block[i + n] == first + n;)
            n++;
        block[runs++] = first << 16 | n;
    }
    return runs;
}

/* Nothing is being written to the tier any more, and nobody has still to be told of it. */
static void wait_until_quiet(struct cache *c)
{
    struct log *log = &c->log;

    log_pump(c); /* what waits fails */
    cache_lock(c);
    while (log->is_writing || log->is_syncing)
        cache_sleep(&c->cond, &c->mutex);
    cache_unlock(c);
}

/* Only the keeper makes a block clean, and a log that has failed makes none dirty: so the list does
 * not change between its making and its end. */
static int write_note(struct cache *c, uint64_t most, bool gives_up, uint64_t *blocks)
{
    struct dirty_list d = {.most = most, .is_without_lost = gives_up};
    struct note_file *f = cache_zalloc(sizeof *f + most * sizeof f->run[0]);
    int r;

    if (!f)
        return -ENOMEM;
    d.block = f->run;
    for (unsigned i = 0; i < index_shard_count(&c->index); i++) {
        cache_lock(c);
        index_for_shard(&c->index, i, add_if_dirty, &d);
        cache_unlock(c);
    }
    qsort(f->run, d.count, sizeof f->run[0], by_number);
    memcpy(f->magic, note_magic, sizeof f->magic);
    f->nonce = c->log.super.nonce;
    f->sequence = c->log.applied.sequence;
    f->blocks = *blocks = d.count;
    f->run_count = join_runs(f->run, d.count);
    r = MUTANT(20) ? 0
                   : sluice_state_write(c->disk, NOTE_NAME, f,
                                        sizeof *f + f->run_count * sizeof f->run[0]);
    cache_free(f);
    return r;
}

/* On the tier, and not in the note. */
static bool is_void(const struct index_item *item, const void *gives_up)
{
    bool is_noted = item->is_dirty && !(item->is_bad && *(const bool *)gives_up);

    return !item->is_in_ram && !is_noted;
}

static void forget_void(struct cache *c, bool gives_up)
{
    for (unsigned shard = 0; shard < index_shard_count(&c->index); shard++) {
        cache_lock(c);
        cache_forget_matching(c, shard, is_void, &gives_up);
        cache_unlock(c);
    }
}

static void let_go(struct cache *c)
{
    struct stranded *s;

    cache_lock(c);
    s = c->step_down.first;
    c->step_down.first = NULL;
    cache_unlock(c);
    while (s) {
        struct stranded *next = s->next;

        step_down_look_again(c, s);
        s = next;
    }
}

/* The disk does not need the tier any more. */
static void note_empty(struct cache *c)
{
    int r = log_unbind(c);

    if (r < 0)
        sluice_log(c->disk, SLUICE_LOG_WARNING,
                   "that the disk does not need %s cannot be noted: %s", c->log.path, strerror(-r));
}

/* [M] */
static void end_note(struct cache *c, int r, uint64_t blocks)
{
    struct step_down *sd = &c->step_down;

    sd->noting_failed = r < 0;
    sd->try_again_ns = sluice_now_ns(c->disk) + TRY_AGAIN_NS;
    if (r == 0) {
        sd->is_void = true;
        sd->noted_blocks = blocks;
    }
    sd->gives_up = false;
    rot_tell_health(c);
    cache_wake(&c->cond);
}

int32_t step_down_note(struct cache *c)
{
    uint64_t blocks = 0, most;
    bool gives_up;
    int r;

    wait_until_quiet(c);
    cache_lock(c);
    gives_up = c->step_down.gives_up;
    most = c->log.dirty_blocks;
    cache_unlock(c);
    r = write_note(c, most, gives_up, &blocks);
    if (r == 0)
        forget_void(c, gives_up);
    if (r == 0 && blocks == 0)
        note_empty(c);
    cache_lock(c);
    end_note(c, r, blocks);
    cache_unlock(c);
    let_go(c);
    return -r;
}

void step_down_tell_noted(struct cache *c, int r)
{
    cache_lock(c);
    c->step_down.noting_failed = r < 0;
    rot_tell_health(c);
    cache_unlock(c);
    if (r < 0)
        let_go(c);
}

/* --- what is to be done, and who has to wait [M] -------------------------------------------------
 */

/* A note that names less would let somebody go on. */
static bool is_note_old(const struct cache *c)
{
    const struct step_down *sd = &c->step_down;
    uint64_t gone = sd->noted_blocks - MIN(sd->noted_blocks, c->log.dirty_blocks);

    if (!sd->is_void || sd->gives_up)
        return true;
    return gone && (sd->first || log_to_destage(&c->log) == 0 || gone > sd->noted_blocks / 8);
}

enum step_down_step step_down_next(const struct cache *c, uint64_t now_ns)
{
    const struct step_down *sd = &c->step_down;

    if (is_note_old(c) && (!sd->noting_failed || now_ns >= sd->try_again_ns))
        return STEP_DOWN_NOTE;
    if (sd->is_void && !await_is_in_vain(c) && log_to_destage(&c->log) &&
        (now_ns >= c->next_destage_ns || sd->first || c->draining))
        return STEP_DOWN_SALVAGE;
    return STEP_DOWN_NOTHING;
}

/* Nothing more will come from the tier. */
static bool is_over(const struct cache *c)
{
    return c->step_down.is_void && log_to_destage(&c->log) == 0 &&
           c->step_down.noted_blocks == c->log.dirty_blocks;
}

struct range {
    uint64_t first, end;
    bool is_touched;
};

static void touch_range(const struct index_item *item, void *arg)
{
    struct range *r = arg;

    r->is_touched |= !item->is_in_ram && item->block >= r->first && item->block < r->end;
}

/* Something of these blocks is in the note. */
static bool is_noted(const struct cache *c, uint64_t block, uint64_t count)
{
    struct range r = {.first = block, .end = block + count};

    if (count > c->index.count) {
        for (unsigned i = 0; i < index_shard_count(&c->index) && !r.is_touched; i++)
            index_for_shard(&c->index, i, touch_range, &r);
        return r.is_touched;
    }
    for (uint64_t i = 0; i < count; i++) {
        struct index_item item;

        if (index_get(&c->index, block + i, &item) && !item.is_in_ram)
            return true;
    }
    return false;
}

uint64_t step_down_left(const struct cache *c)
{
    if (!c->log.error)
        return c->log.dirty_blocks;
    return c->step_down.is_void ? c->step_down.noted_blocks : MAX(c->log.dirty_blocks, 1);
}

/* With a tier that does not answer nobody knows how long it would take. */
static enum way wait_or_fail(const struct cache *c)
{
    bool is_in_vain = c->step_down.is_void && await_is_in_vain(c);

    return c->step_down.noting_failed || is_over(c) || is_in_vain ? WAY_FAIL : WAY_WAIT;
}

void step_down_let_go_if_over(struct cache *c)
{
    bool is_so;

    cache_lock(c);
    is_so = c->log.error && is_over(c);
    cache_unlock(c);
    if (is_so)
        let_go(c);
}

/* In order, nothing gets into the backing before what the tier holds. */
static bool must_keep_order(const struct cache *c)
{
    return c->options.ordered && c->step_down.noted_blocks > 0 && !MUTANT(30);
}

enum way step_down_way(const struct cache *c, uint64_t block, uint64_t count)
{
    if (must_keep_order(c))
        return wait_or_fail(c);
    if (c->step_down.is_void && (!is_noted(c, block, count) || MUTANT(21)))
        return WAY_GO;
    return wait_or_fail(c);
}

/* What the note names has been durable, or is to get into the backing first. */
enum way step_down_flush_way(const struct cache *c)
{
    const struct log *log = &c->log;
    bool was_durable = log->durable >= log->applied.sequence;

    if (c->step_down.is_void && (was_durable || c->step_down.noted_blocks == 0))
        return WAY_GO;
    return wait_or_fail(c);
}

enum way step_down_look(struct cache *c, struct stranded *s)
{
    enum way way = s->way(c, s);

    if (way == WAY_WAIT) {
        sluice_hold(c->disk, s->request, "cache: the tier failed; it is being emptied");
        s->next = c->step_down.first;
        c->step_down.first = s;
        keeper_kick(c);
    }
    return way;
}

void step_down_look_again(struct cache *c, struct stranded *s)
{
    enum way way;

    cache_lock(c);
    way = step_down_look(c, s);
    cache_unlock(c);
    if (way != WAY_WAIT)
        s->go(s, way);
}

/* --- health --------------------------------------------------------------------------------------
 */

void step_down_tell_health(struct cache *c)
{
    const struct log *log = &c->log;
    uint64_t under_way = log->is_writing ? log->chunk->header.data_blocks : 0;
    uint64_t kib = (log->dirty_blocks + under_way) * BLOCK_BYTES / 1024;
    char sentence[200];

    if (kib == 0) {
        sluice_health(c->disk, SLUICE_HEALTH_DEGRADED,
                      "the cache's tier failed; the backing has all of it, and the disk is served "
                      "without it",
                      "mend or replace the tier's storage, then restart the gateway");
        return;
    }
    snprintf(
        sentence, sizeof sentence,
        "the cache's tier failed; up to %llu KiB on it are not in the backing; %s",
        (unsigned long long)kib,
        c->step_down.noting_failed ? "writes fail, for the state folder cannot take a note of it"
        : await_is_in_vain(c) ? "it does not answer: until it does, reading or writing them fails"
        : is_over(c) && c->options.ordered
            ? "reading them fails, and all writes, so that the backing stays an earlier state"
        : is_over(c)         ? "reading or writing them fails, all else goes to the backing"
        : c->options.ordered ? "they are being brought there, in order, and writes wait"
                             : "they are being brought there, all else goes there at once");
    sluice_health(c->disk, SLUICE_HEALTH_FAILED, sentence,
                  is_over(c) ? "mend the tier's storage and restart the gateway; sluice cache lost "
                               "names them, sluice cache give-up lets go of them"
                             : "mend or replace the tier's storage, then restart the gateway");
}
