/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * seal.c: the losing side of two primaries loses nothing.  See seal.h for the files.
 *
 * Whoever was primary and is to follow the other side has blocks that may exist nowhere else: those
 * of its own evidence.  Before it says READY, so before one byte of a batch can come, they are
 * copied into a seal; super.has_own says durably whether that is still to be done, and a promotion
 * sets it again. The evidence names whole extents after a crash, so most of a seal may be the same
 * on both sides: when the batch has been applied, the grains that it brought are compared with the
 * disk, and what is equal is let go (pruned); a seal of which nothing is left goes with it.
 */
#include "seal.h"

#include "replica.h"

#include "common/crc.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAGIC 0x314c5353u /* "SSL1" */
#define SEAL_VERSION 1u
#define HEAD_BYTES 160u
#define UUID_BYTES 40u
#define SEAL_COPIES 4u
#define RETRY_NS 2000000000ull

struct seal_copy {
    struct replica *r;
    struct sluice_io io;
    struct sluice_file_io file_io;
    uint64_t grain;
    bool is_busy;
    uint8_t data[GRAIN_BYTES], sealed[GRAIN_BYTES];
};

struct sealing {
    bool prunes, is_aborted;
    enum { COPYING, SYNCING, SYNCED } step;
    unsigned slot, busy;
    int error;
    struct sluice_file *file;
    struct sluice_file_io sync_io;
    uint8_t *todo;  /* grains still to be looked at */
    uint8_t *holds; /* those that the head will say are in it */
    uint64_t at, done, total;
    struct seal about;
    struct seal_copy copies[SEAL_COPIES];
};

static bool has_bit(const uint8_t *bits, uint64_t n)
{
    return bits[n / 8] >> (n % 8) & 1;
}

static void clear_bit(uint8_t *bits, uint64_t n)
{
    bits[n / 8] &= (uint8_t) ~(1u << (n % 8));
}

static uint64_t map_bytes(const struct replica *r)
{
    return (r->evidence.grains + 7) / 8;
}

/* Of a seal of a disk of this size: it may have grown since. */
static uint64_t bytes_of_map(uint64_t size_bytes)
{
    return ((size_bytes + EXTENT_BYTES - 1) / EXTENT_BYTES * EXTENT_GRAINS + 7) / 8;
}

static uint64_t count_bits(const struct replica *r, const uint8_t *bits)
{
    uint64_t n = 0;

    for (uint64_t i = 0; i < map_bytes(r); i++)
        n += (uint64_t)__builtin_popcount(bits[i]);
    return n;
}

static void name_of(char out[32], unsigned slot, const char *ending)
{
    snprintf(out, 32, "seal-%u%s", slot, ending);
}

/* --- the head ----------------------------------------------------------------------------------
 */

/* The numbers of a head, in their order. */
#define NUMBERS 11u
static void numbers_of(struct seal *s, uint64_t *to[NUMBERS - 1])
{
    uint64_t *all[NUMBERS - 1] = {&s->wall_s,     &s->epoch,         &s->epoch_id, &s->start_seq,
                                  &s->peer_epoch, &s->peer_epoch_id, &s->fork_seq, &s->last_seq,
                                  &s->reason,     &s->grains};

    memcpy(to, all, sizeof all);
}

static void encode(struct replica *r, struct seal *s, const uint8_t *map, uint8_t *out)
{
    uint64_t *numbers[NUMBERS - 1];
    uint8_t *at = out + 8;

    memset(out, 0, HEAD_BYTES);
    le_put(&at, SEAL_VERSION, 8);
    snprintf((char *)at, UUID_BYTES, "%s", r->disk->uuid);
    at += UUID_BYTES;
    le_put(&at, s->size_bytes, 8);
    le_put(&at, GRAIN_BYTES, 8);
    numbers_of(s, numbers);
    for (unsigned i = 0; i < NUMBERS - 1; i++)
        le_put(&at, *numbers[i], 8);
    memcpy(out + HEAD_BYTES, map, bytes_of_map(s->size_bytes));
    at = out;
    le_put(&at, MAGIC, 4);
    le_put(&at, crc_add(0, out + 8, HEAD_BYTES - 8 + bytes_of_map(s->size_bytes)), 4);
}

static bool decode(struct replica *r, struct seal *s, const uint8_t *data, size_t length)
{
    uint64_t *numbers[NUMBERS - 1];
    const uint8_t *at = data;

    if (length < HEAD_BYTES || le_get(&at, 4) != MAGIC ||
        le_get(&at, 4) != crc_add(0, data + 8, length - 8) || le_get(&at, 8) != SEAL_VERSION)
        return false;
    at += UUID_BYTES;
    s->size_bytes = le_get(&at, 8);
    if (s->size_bytes > r->size_bytes || length != HEAD_BYTES + bytes_of_map(s->size_bytes) ||
        le_get(&at, 8) != GRAIN_BYTES)
        return false;
    numbers_of(s, numbers);
    for (unsigned i = 0; i < NUMBERS - 1; i++)
        *numbers[i] = le_get(&at, 8);
    return true;
}

/* One that cannot be read is there all the same: its place is not taken. */
static void read_head(struct replica *r, unsigned slot, uint8_t *data, uint8_t *map)
{
    struct seal *s = &r->seals.list[slot];
    size_t length = 0;
    char name[32];
    int status;

    name_of(name, slot, "");
    status = sluice_state_read(r->disk, name, data, HEAD_BYTES + map_bytes(r), &length);
    if (status == 0 && decode(r, s, data, length)) {
        if (map)
            memcpy(map, data + HEAD_BYTES, length - HEAD_BYTES);
    } else if (status != -ENOENT) {
        *s = (struct seal){.grains = 1};
        sluice_log(r->disk, SLUICE_LOG_ERROR,
                   "replication: the head of seal %u is %s; its image is kept", slot,
                   status < 0 ? strerror(-status) : "damaged, or of a larger disk");
    }
}

static int write_head(struct replica *r, struct sealing *job)
{
    uint8_t *data = malloc(HEAD_BYTES + map_bytes(r));
    char name[32];
    int status;

    if (!data)
        return -ENOMEM;
    encode(r, &job->about, job->holds, data);
    name_of(name, job->slot, "");
    status =
        sluice_state_write(r->disk, name, data, HEAD_BYTES + bytes_of_map(job->about.size_bytes));
    free(data);
    return status;
}

/* The head first: an image alone is nothing. */
static int remove_files(struct replica *r, unsigned slot)
{
    char name[32];
    int status;

    name_of(name, slot, "");
    status = sluice_state_remove(r->disk, name);
    name_of(name, slot, ".raw");
    return status < 0 ? status : sluice_state_remove(r->disk, name);
}

int seal_open(struct replica *r, struct sluice_error *error)
{
    uint8_t *data = malloc(HEAD_BYTES + map_bytes(r));

    if (!data)
        return sluice_refuse(r->disk, error, ENOMEM, "no memory for the seals");
    for (unsigned slot = 0; slot < SEALS_MAX; slot++)
        read_head(r, slot, data, NULL);
    free(data);
    return 0;
}

unsigned seal_count(const struct seals *s)
{
    unsigned n = 0;

    for (unsigned i = 0; i < SEALS_MAX; i++)
        n += s->list[i].grains != 0;
    return n;
}

/* --- a job --- */

bool seal_is_done(const struct replica *r)
{
    return !r->super.has_own || MUTANT(60) || MUTANT(61);
}

bool seal_is_busy(const struct replica *r)
{
    return r->seals.job && (r->seals.job->busy || r->seals.job->step == SYNCING);
}

static void forget_arrived(struct replica *r)
{
    free(r->seals.arrived);
    r->seals.arrived = NULL;
    r->seals.prune_from = 0;
}

void seal_stop(struct replica *r)
{
    struct seals *s = &r->seals;

    if (s->job)
        s->job->is_aborted = true;
    forget_arrived(r);
}

static void free_job(struct replica *r, struct sealing *job)
{
    if (job->file)
        sluice_file_close(r->disk, job->file);
    free(job->todo);
    free(job->holds);
    free(job);
}

void seal_close(struct replica *r)
{
    if (r->seals.job)
        free_job(r, r->seals.job);
    free(r->seals.arrived);
}

static struct sealing *make_job(struct replica *r, unsigned slot)
{
    struct sealing *job = calloc(1, sizeof *job);

    if (!job)
        return NULL;
    job->slot = slot;
    job->todo = calloc(1, map_bytes(r));
    job->holds = calloc(1, map_bytes(r));
    for (unsigned i = 0; i < SEAL_COPIES; i++)
        job->copies[i].r = r;
    if (job->todo && job->holds)
        return job;
    free_job(r, job);
    return NULL;
}

static int open_image(struct replica *r, struct sealing *job)
{
    char name[32];

    name_of(name, job->slot, ".raw");
    return sluice_file_open(r->disk, name, SLUICE_FILE_CREATE | SLUICE_FILE_LOCK, r->size_bytes,
                            &job->file, NULL);
}

/* --- failing --- */

static void fail(struct replica *r, int error, const char *what, uint64_t bytes)
{
    const char *folder = sluice_state_folder(r->disk);

    replica_lock(r);
    snprintf(r->seals.error, sizeof r->seals.error,
             "%llu KiB that only this side has cannot be sealed: %s%s (in %s)",
             (unsigned long long)(bytes >> 10), what, error ? strerror(error) : "",
             folder ? folder : "the state folder");
    r->seals.retry_ns = sluice_now_ns(r->disk) + RETRY_NS;
    sluice_log(r->disk, SLUICE_LOG_ERROR, "replication: %s", r->seals.error);
    roles_keep(r);
    if (r->link == LINK_TARGET)
        target_refuse(r, "it has no room to seal what only it has; see its health");
    roles_tell(r);
    replica_wake(&r->changed);
    replica_unlock(r);
}

/* --- grains
 * ----------------------------------------------------------------------------------------------
 */

static void end_copy(struct seal_copy *c, int32_t error)
{
    struct replica *r = c->r;
    struct sealing *job = r->seals.job;

    c->is_busy = false;
    job->busy--;
    job->done++;
    if (error && !job->error)
        job->error = error;
    replica_kick(r);
    replica_wake(&r->changed);
}

static void on_file(struct sluice_file_io *io, int32_t error)
{
    struct seal_copy *c =
        (struct seal_copy *)(void *)((char *)io - offsetof(struct seal_copy, file_io));
    struct replica *r = c->r;

    replica_lock(r);
    if (!error && r->seals.job->prunes && memcmp(c->data, c->sealed, c->io.length) == 0)
        clear_bit(r->seals.job->holds, c->grain);
    end_copy(c, error);
    replica_unlock(r);
}

static bool is_zero(const uint8_t *data, uint64_t bytes)
{
    return data[0] == 0 && memcmp(data, data + 1, bytes - 1) == 0;
}

static void on_read(struct sluice_io *io, int32_t error)
{
    struct seal_copy *c = (struct seal_copy *)(void *)((char *)io - offsetof(struct seal_copy, io));
    struct replica *r = c->r;
    struct sealing *job = r->seals.job;
    bool is_over;

    replica_lock(r);
    is_over = error || job->is_aborted || job->error || r->is_closing ||
              (!job->prunes && is_zero(c->data, c->io.length)); /* a hole says the same */
    if (!is_over) {
        c->file_io = (struct sluice_file_io){.op = job->prunes ? SLUICE_OP_READ : SLUICE_OP_WRITE,
                                             .offset = c->grain * GRAIN_BYTES,
                                             .length = c->io.length,
                                             .data = job->prunes ? c->sealed : c->data,
                                             .done = on_file};
        if (sluice_file_submit(r->disk, job->file, &c->file_io) < 0)
            is_over = true, error = ESHUTDOWN;
    }
    if (is_over)
        end_copy(c, error);
    replica_unlock(r);
}

/* The next grain that is due, in a copy that is free. */
static struct seal_copy *take_grain(struct replica *r, struct sealing *job)
{
    struct seal_copy *c = NULL;

    for (unsigned i = 0; i < SEAL_COPIES && !c; i++)
        if (!job->copies[i].is_busy)
            c = &job->copies[i];
    while (c && job->at < r->evidence.grains && !has_bit(job->todo, job->at))
        job->at++;
    if (!c || job->at == r->evidence.grains)
        return NULL;
    c->grain = job->at++;
    c->io = (struct sluice_io){.op = SLUICE_OP_READ,
                               .origin = SLUICE_ORIGIN_RESYNC,
                               .offset = c->grain * GRAIN_BYTES,
                               .length = members_grain_bytes(r, c->grain),
                               .data = c->data,
                               .done = on_read};
    c->is_busy = true;
    job->busy++;
    return c;
}

static void copy_grains(struct replica *r)
{
    for (;;) {
        struct sealing *job = r->seals.job;
        struct seal_copy *c = NULL;

        replica_lock(r);
        if (job->step == COPYING && !job->error && !job->is_aborted && !r->is_parked &&
            !r->is_closing)
            c = take_grain(r, job);
        if (c)
            members_progress(r, job->prunes ? "prune" : "seal", job->done, job->total);
        replica_unlock(r);
        if (!c)
            return;
        if (members_submit(r, &c->io) < 0)
            on_read(&c->io, ESHUTDOWN);
    }
}

/* --- to the end of it
 * -------------------------------------------------------------------------------------
 */

static void on_synced(struct sluice_file_io *io, int32_t error)
{
    struct sealing *job =
        (struct sealing *)(void *)((char *)io - offsetof(struct sealing, sync_io));
    struct replica *r = job->copies[0].r;

    replica_lock(r);
    job->step = SYNCED;
    job->error = error;
    replica_kick(r);
    replica_wake(&r->changed);
    replica_unlock(r);
}

static void begin_sync(struct replica *r, struct sealing *job)
{
    job->step = SYNCING;
    job->sync_io = (struct sluice_file_io){.op = SLUICE_OP_FLUSH, .done = on_synced};
    if (MUTANT(62) || job->prunes)
        job->step = SYNCED;
    else if (sluice_file_submit(r->disk, job->file, &job->sync_io) < 0)
        job->step = SYNCED, job->error = ESHUTDOWN;
}

/* What this side has is sealed; so says the state on disk before anything comes. */
static void take_sealed(struct replica *r, const struct sealing *job)
{
    struct seals *s = &r->seals;

    s->list[job->slot] = job->about;
    s->error[0] = 0;
    /* Of a branch that was given up everything is kept: it is to be read as it was. */
    free(s->arrived);
    s->arrived = job->about.reason == SEAL_OF_DEPOSED ? calloc(1, map_bytes(r)) : NULL;
    s->arrived_slot = job->slot;
    s->prune_from = 0;
    roles_sealed(r);
    sluice_event_emit(r->disk, "sealed", "seal:%u grains:%llu seq:%llu", job->slot,
                      (unsigned long long)job->about.grains,
                      (unsigned long long)job->about.fork_seq);
}

/* Nothing is left of it that the other side does not have. */
static void take_pruned(struct replica *r, const struct sealing *job)
{
    sluice_event_emit(r->disk, "pruned", "seal:%u grains:%llu of:%llu", job->slot,
                      (unsigned long long)job->about.grains,
                      (unsigned long long)r->seals.list[job->slot].grains);
    r->seals.list[job->slot] = job->about;
}

/* Gives the space of the grains that are let go back: the head has them no more. */
static void punch(struct replica *r, struct sealing *job)
{
    for (uint64_t g = 0; g < r->evidence.grains; g++) {
        struct sluice_file_io io = {
            .op = SLUICE_OP_TRIM, .offset = g * GRAIN_BYTES, .length = members_grain_bytes(r, g)};

        if (has_bit(job->todo, g) && !has_bit(job->holds, g) &&
            sluice_file_wait(r->disk, job->file, &io) < 0)
            return;
    }
}

/* Without the mutex: 0 or a negative errno. */
static int save(struct replica *r, struct sealing *job)
{
    int status;

    job->about.grains = count_bits(r, job->holds);
    if (!job->about.grains)
        return remove_files(r, job->slot);
    status = write_head(r, job);
    if (status == 0 && job->prunes)
        punch(r, job);
    return status;
}

static void end_job(struct replica *r, bool is_aborted)
{
    struct sealing *job = r->seals.job;
    int status = is_aborted || job->error ? -job->error : save(r, job);
    bool is_good = status == 0 && !is_aborted;

    if (!is_good && !job->prunes)
        remove_files(r, job->slot);
    replica_lock(r);
    r->seals.job = NULL;
    /* Promoted meanwhile: what was sealed is true, but not all any more. */
    if (is_good && !job->is_aborted && job->prunes)
        take_pruned(r, job);
    else if (is_good && !job->is_aborted)
        take_sealed(r, job);
    else if (is_good)
        r->seals.list[job->slot] = job->about;
    members_progress(r, NULL, 0, 0);
    roles_tell(r);
    replica_kick(r);
    replica_unlock(r);
    if (status < 0 && !is_aborted && !job->prunes)
        fail(r, -status, "", job->total * GRAIN_BYTES);
    free_job(r, job);
}

static void advance(struct replica *r)
{
    struct sealing *job = r->seals.job;
    bool is_over, is_aborted;

    replica_lock(r);
    if (job->step == COPYING && !job->busy && job->at == r->evidence.grains && !job->error &&
        !job->is_aborted)
        begin_sync(r, job);
    is_aborted = job->is_aborted;
    is_over = !job->busy && job->step != SYNCING && !r->is_closing &&
              (job->step == SYNCED || job->error || is_aborted);
    replica_unlock(r);
    if (is_over)
        end_job(r, is_aborted);
}

/* --- beginning one
 * ----------------------------------------------------------------------------------------
 */

static bool may_work(const struct replica *r)
{
    return !r->seals.job && !r->is_closing && !r->is_parked && !r->is_promoting &&
           !r->has_backlog && r->super.role == REPLICA_SECONDARY && !r->evidence.writing;
}

/* The peer is to send, or this side is given up; nothing that guests have written is under way. */
static bool wants_seal(const struct replica *r)
{
    return may_work(r) && r->super.has_own && sluice_now_ns(r->disk) >= r->seals.retry_ns &&
           (r->is_discarding || (r->link == LINK_TARGET && (r->ready_wanted || MUTANT(61))));
}

static unsigned free_slot(const struct seals *s)
{
    unsigned slot = 0;

    while (slot < SEALS_MAX && s->list[slot].grains)
        slot++;
    return slot;
}

static struct seal describe(const struct replica *r)
{
    struct lineage_entry mine = lineage_tip(&r->super.lineage),
                         theirs = lineage_tip(&r->theirs.lineage);

    return (struct seal){.size_bytes = r->size_bytes,
                         .wall_s = replica_wall_s(),
                         .epoch = mine.epoch,
                         .epoch_id = mine.id,
                         .start_seq = mine.start_seq,
                         .peer_epoch = theirs.epoch,
                         .peer_epoch_id = theirs.id,
                         .fork_seq = r->fork_seq,
                         .last_seq = r->seq,
                         .reason = r->is_discarding ? SEAL_OF_DISCARDED : SEAL_OF_DEPOSED};
}

/* Under the mutex; NULL: there is nothing to seal, or no memory (*is_short). */
static struct sealing *prepare(struct replica *r, bool *is_short)
{
    struct sealing *job;

    if (!evidence_dirty_bytes(r)) {
        roles_sealed(r);
        return NULL;
    }
    job = make_job(r, free_slot(&r->seals));
    *is_short = !job;
    if (!job)
        return NULL;
    memcpy(job->todo, r->evidence.dirty, map_bytes(r));
    if (r->is_discarding && r->discard_is_whole)
        memset(job->todo, 0xff, map_bytes(r));
    for (uint64_t g = 0; g < r->evidence.grains; g++)
        if (!members_grain_bytes(r, g))
            clear_bit(job->todo, g);
    memcpy(job->holds, job->todo, map_bytes(r));
    job->total = count_bits(r, job->todo);
    job->about = describe(r);
    return job;
}

static void install(struct replica *r, struct sealing *job)
{
    replica_lock(r);
    r->seals.job = job;
    job->is_aborted = r->is_promoting || r->super.role == REPLICA_PRIMARY;
    replica_unlock(r);
}

static void begin(struct replica *r)
{
    struct sealing *job = NULL;
    bool is_short = false;
    int status = 0;

    replica_lock(r);
    if (wants_seal(r))
        job = prepare(r, &is_short);
    replica_unlock(r);
    if (is_short)
        fail(r, ENOMEM, "", 0);
    if (!job)
        return;
    if (job->slot == SEALS_MAX) {
        fail(r, 0, "as many as can be are kept already: drop some (`sluice replication seals`)",
             job->total * GRAIN_BYTES);
        free_job(r, job);
        return;
    }
    /* What a crash has left of another attempt. */
    status = remove_files(r, job->slot);
    if (status == 0)
        status = open_image(r, job);
    if (status < 0) {
        fail(r, -status, "", job->total * GRAIN_BYTES);
        free_job(r, job);
        return;
    }
    install(r, job);
}

/* --- pruning --- */

void seal_note_arrived(struct replica *r, uint64_t offset, uint64_t bytes)
{
    if (!r->seals.arrived)
        return;
    for (uint64_t g = (offset + GRAIN_BYTES - 1) / GRAIN_BYTES; g < r->evidence.grains; g++) {
        if (g * GRAIN_BYTES + members_grain_bytes(r, g) > offset + bytes)
            return;
        r->seals.arrived[g / 8] |= (uint8_t)(1u << (g % 8));
    }
}

void seal_note_begin(struct replica *r)
{
    if (r->seals.arrived)
        memset(r->seals.arrived, 0, map_bytes(r));
    r->seals.prune_from = 0;
}

void seal_note_commit(struct replica *r, uint64_t position)
{
    r->seals.prune_from = position;
}

/* The batch that came after the seal is in force and applied. */
static void begin_prune(struct replica *r)
{
    struct seals *s = &r->seals;
    struct sealing *job = NULL;
    uint8_t *data;

    replica_lock(r);
    if (s->arrived && (s->prune_from || MUTANT(63)) && may_work(r) && r->batch == BATCH_NONE &&
        (!r->journal.first || r->journal.first->position >= s->prune_from)) {
        job = make_job(r, s->arrived_slot);
        if (job)
            job->about = s->list[job->slot];
        if (job)
            memcpy(job->todo, s->arrived, map_bytes(r));
        seal_stop(r);
    }
    replica_unlock(r);
    data = job ? malloc(HEAD_BYTES + map_bytes(r)) : NULL;
    if (!data) {
        if (job)
            free_job(r, job);
        return;
    }
    read_head(r, job->slot, data, job->holds);
    free(data);
    for (uint64_t i = 0; i < map_bytes(r); i++)
        job->todo[i] &= job->holds[i];
    job->prunes = true;
    job->total = count_bits(r, job->todo);
    if (!job->about.grains || open_image(r, job) < 0)
        free_job(r, job);
    else
        install(r, job);
}

/* --- what the operator sees
 * -------------------------------------------------------------------------------
 */

static void tell(struct replica *r, unsigned slot, struct sluice_reply *reply)
{
    static const char *const reasons[] = {"unknown", "given up after a split brain",
                                          "deposed by the peer"};
    const struct seal *s = &r->seals.list[slot];
    const char *folder = sluice_state_folder(r->disk);
    time_t seconds = (time_t)s->wall_s;
    struct tm tm;
    char when[40];

    strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S UTC", gmtime_r(&seconds, &tm));
    sluice_reply_text(r->disk, reply,
                      "seal %u: %llu KiB of epoch %llu, sealed %s: %s; parted from epoch %llu of "
                      "the peer after sequence %llu; %s/seal-%u.raw",
                      slot, (unsigned long long)(s->grains * (GRAIN_BYTES >> 10)),
                      (unsigned long long)s->epoch, when, reasons[s->reason < 3 ? s->reason : 0],
                      (unsigned long long)s->peer_epoch, (unsigned long long)s->fork_seq,
                      folder ? folder : "", slot);
}

static int drop(struct replica *r, const char *number, struct sluice_error *error)
{
    char *end;
    unsigned long slot = strtoul(number, &end, 10);
    int status;

    replica_lock(r);
    if (*end || end == number || slot >= SEALS_MAX || !r->seals.list[slot].grains ||
        (r->seals.job && r->seals.job->slot == slot)) {
        replica_unlock(r);
        return sluice_refuse(r->disk, error, ENOENT, "there is no seal \"%s\"", number);
    }
    if (r->seals.arrived && r->seals.arrived_slot == slot)
        forget_arrived(r);
    replica_unlock(r);
    status = remove_files(r, (unsigned)slot);
    if (status < 0)
        return sluice_refuse(r->disk, error, -status, "seal %lu cannot be removed: %s", slot,
                             strerror(-status));
    replica_lock(r);
    r->seals.list[slot] = (struct seal){.grains = 0};
    r->seals.retry_ns = 0;
    roles_tell(r);
    replica_kick(r);
    replica_unlock(r);
    return 0;
}

int seal_run_verb(void *instance, int argc, const char *const *argv, struct sluice_reply *reply,
                  struct sluice_error *error)
{
    struct replica *r = instance;
    int status = 0;

    if (argc == 2 && strcmp(argv[0], "--drop") == 0)
        status = drop(r, argv[1], error);
    else if (argc != 0)
        status = sluice_refuse(r->disk, error, EINVAL, "seals takes --drop NUMBER or nothing");
    if (status < 0)
        return status;
    replica_lock(r);
    for (unsigned i = 0; i < SEALS_MAX; i++)
        if (r->seals.list[i].grains)
            tell(r, i, reply);
    sluice_reply_integer(r->disk, reply, "seals", seal_count(&r->seals));
    if (!seal_count(&r->seals))
        sluice_reply_text(r->disk, reply, "nothing is sealed");
    replica_unlock(r);
    return 0;
}

static bool set_preparing(struct replica *r, bool is_preparing)
{
    replica_lock(r);
    r->seals.is_preparing = is_preparing && !r->growth.is_wished;
    is_preparing = r->seals.is_preparing;
    replica_unlock(r);
    return is_preparing;
}

void seal_pump(struct replica *r)
{
    if (!r->seals.job && set_preparing(r, true)) {
        begin(r);
        if (!r->seals.job)
            begin_prune(r);
        set_preparing(r, false);
    }
    if (!r->seals.job)
        return;
    copy_grains(r);
    advance(r);
}
