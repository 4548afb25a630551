/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * compare.c: which grains of an extent differ from the peer's.  The source reads the extent while
 * nobody writes it, and sends its hashes in the one stream of its writes; the target reads its own
 * when everything that came before them in the stream has been applied, and applies nothing that
 * came after meanwhile.  So both look at the same instant, however much is being written: no answer
 * has to be doubted, none is asked for twice.
 *
 * Within a staged batch nothing is applied: there the target looks at its disk as it was before the
 * batch.  If it is what the source has now, the writes of the batch, all of which end in what the
 * source has, leave it so.
 */
#include "replica.h"

#include <stdlib.h>

static const struct {
    unsigned first, count;
} slots_of[COMPARE_PURPOSES] = {
    [COMPARE_VERIFY] = {0, VERIFY_SLOTS},
    [COMPARE_RESYNC] = {VERIFY_SLOTS, RESYNC_SLOTS},
    [COMPARE_ANSWER] = {VERIFY_SLOTS + RESYNC_SLOTS, VERIFY_SLOTS + RESYNC_SLOTS},
};

/* --- slots
 * ----------------------------------------------------------------------------------------------------------
 */

static struct compare *find_free(struct replica *r, enum compare_purpose purpose)
{
    struct compare *c = &r->compares[slots_of[purpose].first];

    for (unsigned i = 0; i < slots_of[purpose].count; i++)
        if (c[i].state == COMPARE_FREE)
            return &c[i];
    return NULL;
}

bool compare_is_room(struct replica *r, enum compare_purpose purpose)
{
    return find_free(r, purpose) != NULL;
}

bool compare_is_any(const struct replica *r, enum compare_purpose purpose)
{
    const struct compare *c = &r->compares[slots_of[purpose].first];

    for (unsigned i = 0; i < slots_of[purpose].count; i++)
        if (c[i].state != COMPARE_FREE)
            return true;
    return false;
}

bool compare_begin(struct replica *r, enum compare_purpose purpose, uint64_t extent,
                   uint16_t grains)
{
    struct compare *c = find_free(r, purpose);
    uint8_t *data = c ? malloc(EXTENT_BYTES) : NULL;

    if (!data)
        return false;
    c->r = r;
    c->purpose = (uint8_t)purpose;
    c->state = COMPARE_WAITING;
    c->is_stale = false;
    c->error = 0;
    c->extent = extent;
    c->grains = grains;
    c->end_bytes = purpose == COMPARE_ANSWER && r->theirs.size_bytes < r->size_bytes
                       ? r->theirs.size_bytes
                       : r->size_bytes;
    c->after = r->journal.numbered;
    c->data = data;
    replica_kick(r);
    return true;
}

static void end_slot(struct compare *c)
{
    free(c->data);
    c->data = NULL;
    c->state = COMPARE_FREE;
}

static bool is_at_disk(const struct compare *c)
{
    return c->state == COMPARE_READING || c->state == COMPARE_HASHING;
}

bool compare_is_busy(const struct replica *r)
{
    for (unsigned i = 0; i < COMPARE_SLOTS; i++)
        if (is_at_disk(&r->compares[i]))
            return true;
    return r->answers.is_flushing || r->seed.is_flushing;
}

uint16_t compare_take_differing(struct replica *r, uint64_t *extent)
{
    for (unsigned i = 0; i < slots_of[COMPARE_RESYNC].count; i++) {
        struct compare *c = &r->compares[slots_of[COMPARE_RESYNC].first + i];

        if (c->state != COMPARE_DIFFERS || evidence_is_writing(r, c->extent))
            continue;
        *extent = c->extent;
        end_slot(c);
        return c->grains;
    }
    return 0;
}

void compare_stop(struct replica *r, enum compare_purpose purpose)
{
    for (unsigned i = 0; i < slots_of[purpose].count; i++) {
        struct compare *c = &r->compares[slots_of[purpose].first + i];

        if (c->state == COMPARE_FREE || c->is_stale)
            continue;
        if (purpose == COMPARE_VERIFY)
            verify_put_back(r, c->extent);
        if (is_at_disk(c))
            c->is_stale = true; /* it ends by itself */
        else
            end_slot(c);
    }
}

void compare_stop_all(struct replica *r)
{
    for (unsigned purpose = 0; purpose < COMPARE_PURPOSES; purpose++)
        compare_stop(r, (enum compare_purpose)purpose);
    r->answers.is_flushed = false;
    r->answers.round++;
}

static bool touches(const struct compare *c, uint64_t offset, uint64_t bytes)
{
    return c->extent >= offset / EXTENT_BYTES && c->extent <= (offset + bytes - 1) / EXTENT_BYTES;
}

bool compare_holds_write(const struct replica *r, uint64_t offset, uint64_t bytes)
{
    for (unsigned i = 0; i < slots_of[COMPARE_ANSWER].first; i++) {
        const struct compare *c = &r->compares[i];

        if (((c->state == COMPARE_WAITING && !members_rest(r)) || is_at_disk(c)) && !c->is_stale &&
            touches(c, offset, bytes) && !MUTANT(50))
            return true;
    }
    return false;
}

bool compare_holds_entry(const struct replica *r, const struct entry *e)
{
    for (unsigned i = slots_of[COMPARE_ANSWER].first; i < COMPARE_SLOTS; i++) {
        const struct compare *c = &r->compares[i];

        if ((c->state == COMPARE_WAITING || c->state == COMPARE_READING) && !c->is_stale &&
            e->number > c->after && touches(c, e->frame.offset, e->frame.bytes) && !MUTANT(51))
            return true;
    }
    return false;
}

/* --- reading and hashing
 * -------------------------------------------------------------------------------------------- */

/* Bytes of this grain of the extent; 0 past the end of its disk. */
static uint64_t grain_bytes(const struct replica *r, uint64_t extent, unsigned grain)
{
    return members_grain_bytes(r, extent * EXTENT_GRAINS + grain);
}

uint16_t compare_grains(const struct replica *r, uint64_t extent)
{
    uint16_t grains = 0;

    for (unsigned i = 0; i < EXTENT_GRAINS; i++)
        if (grain_bytes(r, extent, i))
            grains |= (uint16_t)(1u << i);
    return grains;
}

uint64_t compare_bytes(const struct replica *r, uint64_t extent, uint16_t grains)
{
    uint64_t bytes = 0;

    for (unsigned i = 0; i < EXTENT_GRAINS; i++)
        if (grains >> i & 1)
            bytes += grain_bytes(r, extent, i);
    return bytes;
}

/* Of one that is compared; a lone disk may have grown since, or have more than its source. */
static uint64_t compared_bytes(const struct compare *c, unsigned grain)
{
    uint64_t at = c->extent * EXTENT_BYTES + (uint64_t)grain * GRAIN_BYTES;
    uint64_t bytes = grain_bytes(c->r, c->extent, grain);

    return bytes < c->end_bytes - at ? bytes : c->end_bytes - at;
}

/* Zeros have a hash of their own, which costs nothing to make. */
static bool hash_grain(const struct compare *c, unsigned grain, uint8_t *out)
{
    const uint8_t *data = c->data + (uint64_t)grain * GRAIN_BYTES;
    uint64_t bytes = compared_bytes(c, grain);

    memset(out, 0, HASH_BYTES);
    return is_all_zero(data, bytes) || replica_hash(out, data, bytes);
}

static void send_check(struct replica *r, struct compare *c)
{
    uint8_t payload[8 + sizeof c->hashes], *at = payload;
    struct frame f = {.type = FRAME_CHECK,
                      .epoch = lineage_tip(&r->super.lineage).epoch,
                      .offset = c->extent * EXTENT_BYTES,
                      .bytes = EXTENT_BYTES};

    le_put(&at, c->grains, 8);
    for (unsigned i = 0; i < EXTENT_GRAINS; i++)
        if (c->grains >> i & 1) {
            memcpy(at, c->hashes + i * HASH_BYTES, HASH_BYTES);
            at += HASH_BYTES;
        }
    c->state = COMPARE_ASKED;
    if (c->purpose == COMPARE_RESYNC)
        r->seed.now.sent_bytes += FRAME_BYTES + (uint64_t)(at - payload);
    link_send(r, &f, payload, (size_t)(at - payload));
}

static void send_checked(struct replica *r, const struct compare *c, uint16_t differs,
                         uint16_t unread)
{
    uint8_t payload[16], *at = payload;
    struct frame f = {.type = FRAME_CHECKED,
                      .epoch = r->ready_nonce,
                      .offset = c->extent * EXTENT_BYTES,
                      .bytes = EXTENT_BYTES};

    le_put(&at, differs, 8);
    le_put(&at, unread, 8);
    link_send(r, &f, payload, sizeof payload);
}

/* The source has the hashes, or could not read. */
static void end_source(struct replica *r, struct compare *c, const uint8_t *mine)
{
    if (c->is_stale) {
        end_slot(c);
    } else if (c->error) {
        compare_on_answer(r, c, c->grains, 0);
    } else {
        memcpy(c->hashes, mine, sizeof c->hashes);
        free(c->data);
        c->data = NULL;
        send_check(r, c);
    }
    capture_admit(r);
}

/* For the seals it is as if the batch had brought it. */
static void note_same(struct replica *r, const struct compare *c, uint16_t differs)
{
    for (unsigned i = 0; i < EXTENT_GRAINS && r->batch == BATCH_OPEN; i++)
        if ((c->grains & (uint16_t)~differs) >> i & 1)
            seal_note_arrived(r, (c->extent * EXTENT_GRAINS + i) * GRAIN_BYTES,
                              grain_bytes(r, c->extent, i));
}

static void end_answer(struct replica *r, struct compare *c, const uint8_t *mine)
{
    uint16_t differs = 0;

    for (unsigned i = 0; i < EXTENT_GRAINS; i++)
        if (c->grains >> i & 1 &&
            memcmp(c->hashes + i * HASH_BYTES, mine + i * HASH_BYTES, HASH_BYTES) != 0)
            differs |= (uint16_t)(1u << i);
    if (!c->is_stale && r->link == LINK_TARGET && !c->error)
        note_same(r, c, differs);
    if (!c->is_stale && r->link == LINK_TARGET)
        send_checked(r, c, c->error ? c->grains : differs, c->error ? c->grains : 0);
    end_slot(c);
}

static void end_hashing(struct compare *c, const uint8_t *mine)
{
    struct replica *r = c->r;

    replica_lock(r);
    if (c->purpose == COMPARE_ANSWER)
        end_answer(r, c, mine);
    else
        end_source(r, c, mine);
    replica_kick(r);
    replica_wake(&r->changed);
    replica_unlock(r);
}

/* Hashing takes long enough to be kept from the threads that end I/O. */
static void run_hashing(struct sluice_work *work)
{
    struct compare *c = (struct compare *)(void *)((char *)work - offsetof(struct compare, work));
    uint8_t mine[EXTENT_GRAINS * HASH_BYTES] = {0};

    for (unsigned i = 0; i < EXTENT_GRAINS && !c->error; i++)
        if (c->grains >> i & 1 && !hash_grain(c, i, mine + i * HASH_BYTES))
            c->error = 12;
    end_hashing(c, mine);
}

static void on_read(struct sluice_io *io, int32_t error)
{
    struct compare *c = (struct compare *)(void *)((char *)io - offsetof(struct compare, io));
    static const uint8_t none[EXTENT_GRAINS * HASH_BYTES];
    struct replica *r = c->r;
    bool is_working;

    replica_lock(r);
    c->error = error;
    c->state = COMPARE_HASHING;
    c->work.run = run_hashing;
    is_working = sluice_work_submit(r->disk, &c->work) == 0;
    if (!is_working)
        c->error = 5;
    if (c->purpose == COMPARE_ANSWER)
        replica_kick(r); /* what waited for the reading goes on */
    replica_unlock(r);
    if (!is_working)
        end_hashing(c, none);
}

/* --- when
 * -----------------------------------------------------------------------------------------------------------
 */

static bool is_applied_before(const struct replica *r, const struct compare *c)
{
    for (const struct entry *e = r->journal.first;
         e && e->number <= c->after && e != r->begin_entry; e = e->next)
        if (!e->is_applied && frame_changes_data(&e->frame) &&
            touches(c, e->frame.offset, e->frame.bytes) && !MUTANT(52))
            return false;
    return true;
}

static bool may_read(const struct replica *r, const struct compare *c)
{
    if (c->state != COMPARE_WAITING || members_rest(r) || r->is_closing)
        return false;
    if (c->purpose == COMPARE_ANSWER)
        return r->answers.is_flushed && is_applied_before(r, c);
    return !evidence_is_writing(r, c->extent) || MUTANT(53);
}

static void prepare(struct compare *c)
{
    unsigned first = (unsigned)__builtin_ctz(c->grains),
             last = 31u - (unsigned)__builtin_clz(c->grains);

    c->state = COMPARE_READING;
    c->io = (struct sluice_io){
        .op = SLUICE_OP_READ,
        .origin = c->purpose == COMPARE_VERIFY ? SLUICE_ORIGIN_MAINTENANCE : SLUICE_ORIGIN_RESYNC,
        .offset = c->extent * EXTENT_BYTES + (uint64_t)first * GRAIN_BYTES,
        .length = (uint64_t)(last - first) * GRAIN_BYTES + compared_bytes(c, last),
        .data = c->data + (uint64_t)first * GRAIN_BYTES,
        .done = on_read};
}

static void on_flushed(struct sluice_io *io, int32_t error)
{
    struct replica *r =
        (struct replica *)(void *)((char *)io - offsetof(struct replica, answers.io));

    replica_lock(r);
    r->answers.is_flushing = false;
    if (error)
        link_fall(r, "what lies below cannot be flushed");
    else
        r->answers.is_flushed = r->answers.flushing_round == r->answers.round;
    replica_kick(r);
    replica_wake(&r->changed);
    replica_unlock(r);
}

/* What is the same now is taken for settled: it must be so after a power cut as well. */
static bool begin_flush(struct replica *r)
{
    if (r->answers.is_flushed || r->answers.is_flushing || !compare_is_any(r, COMPARE_ANSWER) ||
        members_rest(r) || r->is_closing)
        return false;
    r->answers.is_flushing = true;
    r->answers.flushing_round = r->answers.round;
    r->answers.io = (struct sluice_io){
        .op = SLUICE_OP_FLUSH, .origin = SLUICE_ORIGIN_RESYNC, .done = on_flushed};
    return true;
}

void compare_pump(struct replica *r)
{
    struct compare *reads[COMPARE_SLOTS];
    unsigned n = 0;
    bool flushes;

    replica_lock(r);
    flushes = begin_flush(r);
    for (unsigned i = 0; i < COMPARE_SLOTS; i++)
        if (may_read(r, &r->compares[i])) {
            prepare(&r->compares[i]);
            reads[n++] = &r->compares[i];
        }
    replica_unlock(r);
    if (flushes && members_submit(r, &r->answers.io) < 0)
        on_flushed(&r->answers.io, 5);
    for (unsigned i = 0; i < n; i++)
        if (members_submit(r, &reads[i]->io) < 0)
            on_read(&reads[i]->io, 5);
}

/* --- what the peer says
 * -----------------------------------------------------------------------------------------------
 */

/* NULL, or what is wrong with it. */
static const char *wrong_with(const struct replica *r, const struct frame *f, uint64_t grains,
                              size_t length)
{
    if (f->epoch != lineage_tip(&r->theirs.lineage).epoch)
        return "a frame of another epoch";
    if (f->bytes != EXTENT_BYTES || f->offset % EXTENT_BYTES || f->offset >= r->size_bytes)
        return "hashes of what is no extent";
    if (f->offset + (63u - (unsigned)__builtin_clzll(grains | 1)) * GRAIN_BYTES >=
        r->theirs.size_bytes)
        return "hashes of what the source does not have";
    if (grains == 0 || grains & ~(uint64_t)compare_grains(r, f->offset / EXTENT_BYTES) ||
        length != 8 + (size_t)__builtin_popcountll(grains) * HASH_BYTES)
        return "hashes of what is no grain";
    return NULL;
}

void compare_take_check(struct replica *r, const struct frame *f, const void *message,
                        size_t length)
{
    const uint8_t *at = frame_payload(message);
    uint64_t grains = le_get(&at, 8);
    const char *wrong;
    struct compare *c;

    if (r->link != LINK_TARGET || !r->has_begun)
        return;
    wrong = wrong_with(r, f, grains, length - FRAME_BYTES);
    c = find_free(r, COMPARE_ANSWER);
    if (wrong || !c) {
        link_fall(r, wrong ? wrong : "more hashes than were agreed");
        return;
    }
    if (!compare_begin(r, COMPARE_ANSWER, f->offset / EXTENT_BYTES, (uint16_t)grains)) {
        link_fall(r, "out of memory");
        return;
    }
    for (unsigned i = 0; i < EXTENT_GRAINS; i++)
        if (grains >> i & 1) {
            memcpy(c->hashes + i * HASH_BYTES, at, HASH_BYTES);
            at += HASH_BYTES;
        }
}

void compare_on_answer(struct replica *r, struct compare *c, uint16_t differs, uint16_t unread)
{
    if (c->purpose == COMPARE_VERIFY)
        verify_on_compared(r, c, differs, unread);
    if (c->purpose == COMPARE_RESYNC && !c->error)
        seed_on_answer(r, c, differs);
    if (c->purpose == COMPARE_RESYNC && differs) {
        c->state = COMPARE_DIFFERS;
        c->grains = differs;
    } else {
        end_slot(c);
    }
    replica_kick(r);
}

void compare_take_checked(struct replica *r, const struct frame *f, const void *message,
                          size_t length)
{
    const uint8_t *at = frame_payload(message);
    uint64_t differs = le_get(&at, 8), unread = le_get(&at, 8);

    (void)length;
    if (!link_mirrors(r) || f->epoch != r->batch_nonce)
        return;
    for (unsigned i = 0; i < slots_of[COMPARE_ANSWER].first; i++) {
        struct compare *c = &r->compares[i];

        if (c->state == COMPARE_ASKED && c->extent == f->offset / EXTENT_BYTES) {
            compare_on_answer(r, c, (uint16_t)(differs & c->grains),
                              (uint16_t)(unread & c->grains));
            return;
        }
    }
    link_fall(r, "the peer compares what it was not asked about");
}
