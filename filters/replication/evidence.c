/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * evidence.c: which parts of the disk may differ from the peer, so that after any crash it is known
 * on disk.
 *
 * The activity log is a list of at most ACTIVE_MAX extents, one block, written to two places in
 * turn: before a write may reach local storage its extent is in it.  A write to an extent that is
 * there costs nothing.  The bitmap has a bit for each grain; its pages are written before an extent
 * that they cover leaves the log, so that bits set since are covered by the log until then.  A page
 * torn between sectors is a mixture of two right ones.
 *
 *     0 log A   4096 log B   8192 bitmap
 *     log: magic u32, crc32c u32 (of what follows), generation u64, count u64, extents u64 each; at
 * 4024 settled_seq u64
 */
#include "replica.h"

#include "common/crc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LOG_MAGIC 0x314c4153u /* "SAL1" */
#define BLOCK_BYTES 4096u
#define SETTLED_AT 4024u
_Static_assert(24 + ACTIVE_MAX * 8 <= SETTLED_AT, "the log is one block");
#define BITMAP_AT (2 * BLOCK_BYTES)
#define WIDE_BYTES (64ull * EXTENT_BYTES)

/* --- bits
 * -----------------------------------------------------------------------------------------------------
 */

static void set_bit(uint8_t *bits, uint64_t n)
{
    bits[n / 8] |= (uint8_t)(1u << (n % 8));
}

static void change_page(struct evidence *e, uint64_t grain)
{
    e->page_changed[grain / 8 / BLOCK_BYTES] = 1;
    e->pages_wanted = true;
}

static void mark_grain(struct replica *r, uint64_t grain, bool is_again)
{
    struct evidence *e = &r->evidence;

    if (!evidence_is_dirty(e, grain)) {
        set_bit(e->dirty, grain);
        change_page(e, grain);
    }
    if (is_again)
        set_bit(e->again, grain);
}

void evidence_mark(struct replica *r, uint64_t offset, uint64_t bytes, bool is_again)
{
    for (uint64_t g = offset / GRAIN_BYTES; bytes && g <= (offset + bytes - 1) / GRAIN_BYTES; g++)
        mark_grain(r, g, is_again);
}

void evidence_mark_all(struct replica *r)
{
    spill_drop(r); /* it does not say all of it */
    for (uint64_t g = 0; g < r->evidence.grains; g++)
        mark_grain(r, g, false);
}

static void mark_written(struct replica *r, const struct active *a)
{
    for (unsigned i = 0; i < EXTENT_GRAINS; i++)
        if (a->written >> i & 1)
            mark_grain(r, a->extent * EXTENT_GRAINS + i, false);
}

void evidence_mark_after(struct replica *r, uint64_t seq)
{
    for (unsigned i = 0; i < ACTIVE_MAX; i++)
        if (r->evidence.active[i].is_used && r->evidence.active[i].last_seq > seq)
            mark_written(r, &r->evidence.active[i]);
}

void evidence_settle(struct replica *r)
{
    struct evidence *e = &r->evidence;

    memcpy(e->dirty, e->again, (e->grains + 7) / 8);
    memset(e->again, 0, (e->grains + 7) / 8);
    memset(e->page_changed, 1, e->pages);
    e->pages_wanted = true;
    evidence_commit(r);
}

void evidence_forget_explained(struct replica *r)
{
    struct evidence *e = &r->evidence;

    memcpy(e->dirty, e->again, (e->grains + 7) / 8);
    memset(e->page_changed, 1, e->pages);
    e->pages_wanted = true;
    evidence_commit(r);
}

uint64_t evidence_dirty_bytes(const struct replica *r)
{
    uint64_t n = 0;

    for (uint64_t i = 0; i < (r->evidence.grains + 7) / 8; i++)
        n += (uint64_t)__builtin_popcount(r->evidence.dirty[i]);
    return n * GRAIN_BYTES;
}

bool evidence_is_any(const struct replica *r)
{
    return r->evidence.used || evidence_dirty_bytes(r);
}

/* --- the log in memory
 * -------------------------------------------------------------------------------------------- */

static struct active *find(const struct replica *r, uint64_t extent)
{
    uint16_t slot = r->evidence.slot_of[extent];

    return slot ? (struct active *)&r->evidence.active[slot - 1] : NULL;
}

static bool activate(struct replica *r, uint64_t extent)
{
    struct evidence *e = &r->evidence;

    for (unsigned i = 0; i < ACTIVE_MAX; i++)
        if (!e->active[i].is_used) {
            e->active[i] = (struct active){.extent = extent, .is_used = true};
            e->slot_of[extent] = (uint16_t)(i + 1);
            e->used++;
            e->log_wanted = true;
            return true;
        }
    return false;
}

uint64_t evidence_ticket(struct replica *r)
{
    struct evidence *e = &r->evidence;
    uint64_t ticket = e->commits + (e->commit == COMMIT_IDLE ? 1 : 2);

    e->log_wanted = true;
    evidence_commit(r);
    return ticket;
}

/* More extents than the log should take: its grains are marked instead, until a resync settles
 * them. */
static bool is_marked_durably(struct replica *r, uint64_t offset, uint64_t bytes, uint64_t *ticket)
{
    struct evidence *e = &r->evidence;

    if (*ticket)
        return e->commits >= *ticket;
    evidence_mark(r, offset, bytes, true);
    r->resync_wanted = true;
    *ticket = evidence_ticket(r);
    return false;
}

bool evidence_is_ready(struct replica *r, uint64_t offset, uint64_t bytes, uint64_t *ticket)
{
    bool is_ready = true;

    if (bytes > WIDE_BYTES)
        return is_marked_durably(r, offset, bytes, ticket);
    for (uint64_t x = offset / EXTENT_BYTES; x <= (offset + bytes - 1) / EXTENT_BYTES; x++) {
        struct active *a = find(r, x);

        if (!a)
            activate(r, x);
        else
            a->is_leaving = false;
        if (!a || !a->is_durable)
            is_ready = false;
    }
    if (!is_ready && !MUTANT(1))
        evidence_commit(r);
    return is_ready || MUTANT(1);
}

static uint16_t grains_of(uint64_t extent, uint64_t offset, uint64_t bytes)
{
    uint16_t mask = 0;

    for (uint64_t g = offset / GRAIN_BYTES; g <= (offset + bytes - 1) / GRAIN_BYTES; g++)
        if (g / EXTENT_GRAINS == extent)
            mask |= (uint16_t)(1u << (g % EXTENT_GRAINS));
    return mask;
}

void evidence_begin_write(struct replica *r, uint64_t offset, uint64_t bytes, uint64_t seq)
{
    r->evidence.writing++;
    r->evidence.writing_wide += bytes > WIDE_BYTES;
    for (uint64_t x = offset / EXTENT_BYTES; x <= (offset + bytes - 1) / EXTENT_BYTES; x++) {
        struct active *a = find(r, x);

        if (!a)
            continue;
        a->writing++;
        a->last_seq = MUTANT(43) ? 0 : seq;
        a->written |= grains_of(x, offset, bytes);
    }
}

void evidence_end_write(struct replica *r, uint64_t offset, uint64_t bytes)
{
    r->evidence.writing--;
    r->evidence.writing_wide -= bytes > WIDE_BYTES;
    for (uint64_t x = offset / EXTENT_BYTES; x <= (offset + bytes - 1) / EXTENT_BYTES; x++) {
        struct active *a = find(r, x);

        if (a && a->writing)
            a->writing--;
    }
}

bool evidence_is_writing(const struct replica *r, uint64_t extent)
{
    const struct active *a = find(r, extent);

    return r->evidence.writing_wide || (a && a->writing) || backlog_holds_extent(r, extent);
}

unsigned evidence_choose_leaving(struct replica *r, bool marks)
{
    unsigned n = 0;

    for (unsigned i = 0; i < ACTIVE_MAX; i++) {
        struct active *a = &r->evidence.active[i];

        a->is_leaving = a->is_used && a->is_durable && !a->writing;
        if (a->is_leaving && marks)
            mark_written(r, a);
        n += a->is_leaving;
    }
    return n;
}

void evidence_leave(struct replica *r)
{
    struct evidence *e = &r->evidence;

    for (unsigned i = 0; i < ACTIVE_MAX; i++) {
        struct active *a = &e->active[i];

        if (!a->is_used || !a->is_leaving || a->writing)
            continue;
        e->slot_of[a->extent] = 0;
        a->is_used = false;
        e->used--;
        e->log_wanted = true;
    }
    evidence_commit(r);
}

/* --- the log on disk: pages first, then the block
 * -------------------------------------------------------------------- */

static void fill_block(struct evidence *e)
{
    uint8_t *at = e->block;
    uint64_t count = 0;

    memset(e->block, 0, sizeof e->block);
    at += 24;
    for (unsigned i = 0; i < ACTIVE_MAX; i++)
        if (e->active[i].is_used) {
            le_put(&at, e->active[i].extent, 8);
            count++;
        }
    at = e->block + SETTLED_AT;
    le_put(&at, e->settled_seq, 8);
    at = e->block + 8;
    le_put(&at, ++e->generation, 8);
    le_put(&at, count, 8);
    at = e->block;
    le_put(&at, LOG_MAGIC, 4);
    le_put(&at, crc_add(0, e->block + 8, BLOCK_BYTES - 8), 4);
}

static void on_io(struct sluice_file_io *io, int32_t error);

static void submit(struct replica *r, uint8_t op, uint64_t offset, uint64_t length, void *data)
{
    struct evidence *e = &r->evidence;

    e->io.op = op;
    e->io.offset = offset;
    e->io.length = length;
    e->io.data = data;
    e->io.done = on_io;
    if (sluice_file_submit(r->disk, e->file, &e->io) < 0)
        e->commit = COMMIT_IDLE; /* the instance is being closed */
}

/* The next page that has changed, or the end of pages. */
static bool submit_page(struct replica *r)
{
    struct evidence *e = &r->evidence;

    for (; e->page_at < e->pages; e->page_at++)
        if (e->page_changed[e->page_at]) {
            e->page_changed[e->page_at] = 0;
            memcpy(e->block, e->dirty + e->page_at * BLOCK_BYTES, BLOCK_BYTES);
            e->page_at++;
            submit(r, SLUICE_OP_WRITE, BITMAP_AT + (e->page_at - 1) * BLOCK_BYTES, BLOCK_BYTES,
                   e->block);
            return true;
        }
    return false;
}

static void submit_log(struct replica *r)
{
    struct evidence *e = &r->evidence;

    e->log_wanted = false;
    e->commit = COMMIT_LOG;
    fill_block(e);
    submit(r, SLUICE_OP_WRITE, e->generation % 2 * BLOCK_BYTES, BLOCK_BYTES, e->block);
}

/* An extent may have left since the pages were written: then once more, before the log says so. */
static void begin_commit(struct replica *r)
{
    struct evidence *e = &r->evidence;

    if (e->pages_wanted && !MUTANT(2)) {
        e->pages_wanted = false;
        e->page_at = 0;
        e->commit = COMMIT_PAGES;
        if (submit_page(r))
            return;
    }
    submit_log(r);
}

void evidence_commit(struct replica *r)
{
    struct evidence *e = &r->evidence;

    if (e->commit != COMMIT_IDLE || (!e->log_wanted && !e->pages_wanted) || r->is_closing)
        return;
    begin_commit(r);
}

/* Those that the block which is durable now holds. */
static void make_durable(struct evidence *e)
{
    const uint8_t *at = e->block + 16;
    uint64_t count = le_get(&at, 8);

    for (uint64_t i = 0; i < count; i++) {
        uint16_t slot = e->slot_of[le_get(&at, 8)];

        if (slot)
            e->active[slot - 1].is_durable = true;
    }
}

static void advance(struct replica *r)
{
    struct evidence *e = &r->evidence;

    switch (e->commit) {
    case COMMIT_PAGES:
        if (submit_page(r))
            return;
        e->commit = COMMIT_PAGES_SYNC;
        submit(r, SLUICE_OP_FLUSH, 0, 0, NULL);
        return;
    case COMMIT_PAGES_SYNC:
        begin_commit(r);
        return;
    case COMMIT_LOG:
        e->commit = COMMIT_LOG_SYNC;
        submit(r, SLUICE_OP_FLUSH, 0, 0, NULL);
        return;
    default:
        break;
    }
    e->commit = COMMIT_IDLE;
    e->commits++;
    r->super.log_generation = e->generation;
    sluice_count(r->disk, COUNT_LOG_WRITES, 1);
    make_durable(e);
    evidence_commit(r);
    capture_admit(r);
    replica_kick(r);
}

static void on_io(struct sluice_file_io *io, int32_t error)
{
    struct evidence *e = (struct evidence *)(void *)((char *)io - offsetof(struct evidence, io));
    struct replica *r = (struct replica *)(void *)((char *)e - offsetof(struct replica, evidence));

    replica_lock(r);
    if (error) {
        /* What is not durable there stays so: writes to new extents wait, and health says why. */
        members_health(r, SLUICE_HEALTH_FAILED, "the replication's activity log cannot be written",
                       "look at the file system of the state folder");
        memset(e->page_changed, 1, e->pages);
        e->pages_wanted = e->log_wanted = true;
        e->commit = COMMIT_IDLE; /* the timer tries again */
    } else {
        advance(r);
    }
    replica_wake(&r->changed);
    replica_unlock(r);
}

/* --- opening
 * ------------------------------------------------------------------------------------------------------------
 */

static int read_at(struct replica *r, uint64_t offset, uint64_t length, void *data)
{
    struct sluice_file_io io = {
        .op = SLUICE_OP_READ, .offset = offset, .length = length, .data = data};

    return sluice_file_wait(r->disk, r->evidence.file, &io);
}

/* Its generation; 0: never written, or torn: the other one counts. */
static uint64_t check_log(const uint8_t *block)
{
    const uint8_t *at = block;

    if (le_get(&at, 4) != LOG_MAGIC)
        return 0;
    return le_get(&at, 4) == crc_add(0, block + 8, BLOCK_BYTES - 8) ? le_get(&at, 8) : 0;
}

/* One block may be torn, or never written; not both of them be something else. */
static bool is_foreign(const uint8_t blocks[2][BLOCK_BYTES])
{
    static const uint8_t zeros[BLOCK_BYTES];

    for (unsigned i = 0; i < 2; i++)
        if (check_log(blocks[i]) || memcmp(blocks[i], zeros, BLOCK_BYTES) == 0)
            return false;
    return true;
}

static void take_log(struct replica *r, const uint8_t *block)
{
    const uint8_t *at = block + 16;
    uint64_t count = le_get(&at, 8);

    for (uint64_t i = 0; i < count && i < ACTIVE_MAX; i++) {
        uint64_t extent = le_get(&at, 8);

        if (extent < r->evidence.extents)
            evidence_mark(r, extent * EXTENT_BYTES, EXTENT_BYTES, false);
    }
    at = block + SETTLED_AT;
    r->evidence.settled_seq = le_get(&at, 8);
}

/* The state knows of a later log than this file has: it was lost, or is an old copy. */
static void check_age(struct replica *r)
{
    struct evidence *e = &r->evidence;

    if (e->generation >= r->super.log_generation || MUTANT(64))
        return;
    sluice_log(
        r->disk, SLUICE_LOG_ERROR,
        "replication: the activity log is lost or an old copy (%llu, it was %llu): everything "
        "may differ from the peer",
        (unsigned long long)e->generation, (unsigned long long)r->super.log_generation);
    e->generation = r->super.log_generation;
    evidence_mark_all(r);
}

static int write_page(struct replica *r, uint64_t page)
{
    struct sluice_file_io io = {.op = SLUICE_OP_WRITE,
                                .offset = BITMAP_AT + page * BLOCK_BYTES,
                                .length = BLOCK_BYTES,
                                .data = r->evidence.dirty + page * BLOCK_BYTES};

    return sluice_file_wait(r->disk, r->evidence.file, &io);
}

/* The disk is larger than when it was last open: what the backing has there nobody has compared
 * yet.  That is on disk before the state says the new size. */
static int take_growth(struct replica *r)
{
    struct sluice_file_io flush = {.op = SLUICE_OP_FLUSH};
    uint64_t was = r->super.size_bytes, page = was / GRAIN_BYTES / 8 / BLOCK_BYTES;
    int error = 0;

    if (was >= r->size_bytes)
        return 0;
    evidence_mark(r, was, r->size_bytes - was, false);
    for (; !error && page < r->evidence.pages; page++)
        error = write_page(r, page);
    if (!error)
        error = sluice_file_wait(r->disk, r->evidence.file, &flush);
    if (!error)
        r->super.size_bytes = r->size_bytes; /* journal_open() has it written */
    return error;
}

/* Pages that the file has: those of what a disk has grown by are not there yet. */
static int read_pages(struct replica *r)
{
    struct evidence *e = &r->evidence;
    uint64_t size = sluice_file_size(r->disk, e->file);
    int error = 0;

    for (uint64_t p = 0; !error && p < e->pages && BITMAP_AT + (p + 1) * BLOCK_BYTES <= size; p++)
        error = read_at(r, BITMAP_AT + p * BLOCK_BYTES, BLOCK_BYTES, e->dirty + p * BLOCK_BYTES);
    return error;
}

static int load(struct replica *r)
{
    struct evidence *e = &r->evidence;
    uint8_t blocks[2][BLOCK_BYTES];
    uint64_t generation[2];
    int error = read_at(r, 0, sizeof blocks, blocks);

    if (!error)
        error = read_pages(r);
    if (error || is_foreign(blocks))
        return error ? error : EBADMSG;
    for (uint64_t g = e->grains; g < e->pages * BLOCK_BYTES * 8; g++)
        e->dirty[g / 8] &= (uint8_t) ~(1u << (g % 8));
    generation[0] = check_log(blocks[0]);
    generation[1] = check_log(blocks[1]);
    e->generation = generation[0] > generation[1] ? generation[0] : generation[1];
    if (e->generation)
        take_log(r, blocks[generation[1] > generation[0]]);
    check_age(r);
    return take_growth(r);
}

int evidence_open(struct replica *r, struct sluice_error *error)
{
    struct evidence *e = &r->evidence;
    int status;

    e->extents = (r->size_bytes + EXTENT_BYTES - 1) / EXTENT_BYTES;
    e->grains = e->extents * EXTENT_GRAINS;
    e->pages = (e->grains + BLOCK_BYTES * 8 - 1) / (BLOCK_BYTES * 8);
    e->dirty = calloc(e->pages, BLOCK_BYTES);
    e->again = calloc(e->pages, BLOCK_BYTES);
    e->page_changed = calloc(e->pages, 1);
    e->slot_of = calloc(e->extents, sizeof *e->slot_of);
    if (!e->dirty || !e->again || !e->page_changed || !e->slot_of)
        return sluice_refuse(r->disk, error, ENOMEM, "no memory for the bitmap");
    status = sluice_file_open(r->disk, "evidence", SLUICE_FILE_CREATE | SLUICE_FILE_LOCK,
                              BITMAP_AT + e->pages * BLOCK_BYTES, &e->file, error);
    if (status < 0)
        return status;
    status = load(r);
    if (status)
        return sluice_refuse(r->disk, error, EIO, "the activity log and bitmap cannot be read: %s",
                             strerror(status < 0 ? -status : status));
    return 0;
}

void evidence_close(struct replica *r)
{
    struct evidence *e = &r->evidence;

    if (e->file)
        sluice_file_close(r->disk, e->file);
    free(e->dirty);
    free(e->again);
    free(e->page_changed);
    free(e->slot_of);
}
