/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * verify.c: one run over the whole disk that compares both sides, extent after extent (compare.c),
 * while guests go on. It keeps its place when the link is lost and goes on with the next
 * connection.  What differs is logged, an event, and kept to be asked for; with --repair it is
 * marked at the end, and the next batch brings it, and nothing else, to the peer: the primary's
 * side is the right one.  What the last run came to is kept in the state folder.
 */
#include "replica.h"

#include "common/crc.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define RANGES_MAX 64u /* named one by one in an answer, and in the log */

/* --- the result on disk
 * ------------------------------------------------------------------------------------------------
 */

#define FILE_NAME "verified"
#define MAGIC 0x31465653u /* "SVF1" */
#define FILE_BYTES 64u

static void encode(const struct verified *v, uint8_t *out)
{
    uint8_t *at = out;

    le_put(&at, MAGIC, 4);
    at += 4;
    le_put(&at, v->outcome, 4);
    le_put(&at, v->is_repaired, 4);
    le_put(&at, v->started_s, 8);
    le_put(&at, v->seconds, 8);
    le_put(&at, v->bytes, 8);
    le_put(&at, v->differing_bytes, 8);
    le_put(&at, v->unread_bytes, 8);
    le_put(&at, v->skipped_bytes, 8);
    at = out + 4;
    le_put(&at, crc_add(0, out + 8, FILE_BYTES - 8), 4);
}

static bool decode(struct verified *v, const uint8_t *data, size_t length)
{
    const uint8_t *at = data;
    uint64_t outcome;

    if (length != FILE_BYTES || le_get(&at, 4) != MAGIC ||
        le_get(&at, 4) != crc_add(0, data + 8, FILE_BYTES - 8))
        return false;
    outcome = le_get(&at, 4);
    v->is_repaired = le_get(&at, 4);
    v->started_s = le_get(&at, 8);
    v->seconds = le_get(&at, 8);
    v->bytes = le_get(&at, 8);
    v->differing_bytes = le_get(&at, 8);
    v->unread_bytes = le_get(&at, 8);
    v->skipped_bytes = le_get(&at, 8);
    v->outcome = outcome < VERIFIED_ENDS ? (int)outcome : VERIFIED_NEVER;
    return outcome < VERIFIED_ENDS;
}

/* Nothing depends on it: one that cannot be read has never been. */
void verify_load(struct replica *r)
{
    uint8_t data[FILE_BYTES];
    size_t length = 0;

    if (sluice_state_read(r->disk, FILE_NAME, data, sizeof data, &length) < 0 ||
        !decode(&r->verify.last, data, length))
        r->verify.last = (struct verified){.outcome = VERIFIED_NEVER};
}

static void save(struct replica *r)
{
    uint8_t data[FILE_BYTES];
    bool must_save;

    replica_lock(r);
    must_save = r->verify.must_save;
    r->verify.must_save = false;
    encode(&r->verify.last, data);
    replica_unlock(r);
    if (must_save && sluice_state_write(r->disk, FILE_NAME, data, sizeof data) < 0)
        sluice_log(r->disk, SLUICE_LOG_WARNING,
                   "replication: what verify has found cannot be kept");
}

void verify_close(struct replica *r)
{
    free(r->verify.todo);
    free(r->verify.differs);
}

/* --- beginning and end
 * -------------------------------------------------------------------------------------------------
 */

static void change_bit(uint8_t *bits, uint64_t n, bool is_set)
{
    bits[n / 8] = (uint8_t)((bits[n / 8] & ~(1u << (n % 8))) | (unsigned)is_set << (n % 8));
}

static bool has_bit(const uint8_t *bits, uint64_t n)
{
    return bits[n / 8] >> (n % 8) & 1;
}

int verify_start(struct replica *r, uint64_t rate, bool repairs)
{
    struct verify *v = &r->verify;

    if (!v->todo)
        v->todo = malloc(r->evidence.extents / 8 + 1);
    if (!v->differs)
        v->differs = malloc(r->evidence.grains / 8 + 1);
    if (!v->todo || !v->differs)
        return -ENOMEM;
    memset(v->differs, 0, r->evidence.grains / 8 + 1);
    for (uint64_t x = 0; x < r->evidence.extents; x++)
        change_bit(v->todo, x, true);
    v->todo_left = r->evidence.extents;
    v->todo_at = 0;
    v->rate = rate;
    v->repairs = repairs;
    v->is_repairing = false;
    v->started_ns = v->budget_ns = sluice_now_ns(r->disk);
    v->now = (struct verified){.started_s = replica_wall_s()};
    v->is_running = true;
    sluice_event_emit(r->disk, "verify", "state:begun bytes:%llu",
                      (unsigned long long)r->size_bytes);
    replica_kick(r);
    return 0;
}

static void mark_differing(struct replica *r)
{
    for (uint64_t g = 0; g < r->evidence.grains; g++)
        if (has_bit(r->verify.differs, g))
            evidence_mark(r, g * GRAIN_BYTES, GRAIN_BYTES, true);
    r->resync_wanted = r->verify.is_repairing = true;
}

static void end(struct replica *r, bool is_whole)
{
    struct verify *v = &r->verify;
    bool differs = v->now.differing_bytes != 0;

    v->is_running = false;
    v->now.outcome = !is_whole ? VERIFIED_STOPPED : differs ? VERIFIED_DIFFERS : VERIFIED_SAME;
    v->now.seconds = (sluice_now_ns(r->disk) - v->started_ns) / 1000000000u;
    v->last = v->now;
    v->must_save = true;
    if (differs && v->repairs && r->super.role == REPLICA_PRIMARY)
        mark_differing(r);
    members_progress(r, NULL, 0, 0);
    sluice_log(r->disk, differs ? SLUICE_LOG_ERROR : SLUICE_LOG_NOTICE,
               "replication: verify %s: %llu bytes compared, %llu differ",
               is_whole ? "is done" : "was ended", (unsigned long long)v->last.bytes,
               (unsigned long long)v->last.differing_bytes);
    sluice_event_emit(r->disk, "verify", "state:%s bytes:%llu differing:%llu",
                      is_whole ? "done" : "ended", (unsigned long long)v->last.bytes,
                      (unsigned long long)v->last.differing_bytes);
    roles_tell(r);
    replica_wake(&r->changed);
}

void verify_end_early(struct replica *r)
{
    r->verify.is_running = false;
    compare_stop(r, COMPARE_VERIFY);
    end(r, false);
    replica_kick(r);
}

/* The batch that brought what differed is with the peer. */
void verify_on_resynced(struct replica *r)
{
    if (!r->verify.is_repairing)
        return;
    r->verify.is_repairing = false;
    r->verify.last.is_repaired = r->verify.must_save = true;
    replica_kick(r);
}

bool verify_has_found(const struct replica *r)
{
    return r->verify.last.differing_bytes && !r->verify.last.is_repaired;
}

/* --- the run
 * -----------------------------------------------------------------------------------------------------------
 */

void verify_put_back(struct replica *r, uint64_t extent)
{
    if (!r->verify.is_running)
        return;
    change_bit(r->verify.todo, extent, true);
    r->verify.todo_left++;
}

static void note_differing(struct replica *r, uint64_t extent, uint16_t differs)
{
    for (unsigned i = 0; i < EXTENT_GRAINS; i++) {
        uint64_t offset = (extent * EXTENT_GRAINS + i) * GRAIN_BYTES;
        uint64_t bytes = compare_bytes(r, extent, (uint16_t)(1u << i));
        const char *name = members_name_at(r, &offset);

        /* A write that failed here is marked already, and no news. */
        if (!(differs >> i & 1) || evidence_is_dirty(&r->evidence, extent * EXTENT_GRAINS + i))
            continue;
        change_bit(r->verify.differs, extent * EXTENT_GRAINS + i, true);
        r->verify.now.differing_bytes += bytes;
        sluice_event_emit(r->disk, "verify-differs", "%s%s%soffset:%llu bytes:%llu",
                          name[0] ? "of:" : "", name, name[0] ? " " : "",
                          (unsigned long long)offset, (unsigned long long)bytes);
        if (r->verify.now.differing_bytes <= RANGES_MAX * GRAIN_BYTES)
            sluice_log(r->disk, SLUICE_LOG_ERROR,
                       "replication: verify: differs from the peer at %s%s%llu, %llu bytes", name,
                       name[0] ? ":" : "", (unsigned long long)offset, (unsigned long long)bytes);
    }
}

static uint64_t whole_bytes(const struct replica *r)
{
    return members_total_bytes(r);
}

/* What is known to differ waits for its batch, and is no news. */
static uint16_t settled_grains(const struct replica *r, uint64_t extent)
{
    uint16_t grains = compare_grains(r, extent);

    for (unsigned i = 0; i < EXTENT_GRAINS; i++)
        if (evidence_is_dirty(&r->evidence, extent * EXTENT_GRAINS + i))
            grains &= (uint16_t) ~(1u << i);
    return grains;
}

void verify_on_compared(struct replica *r, const struct compare *c, uint16_t differs,
                        uint16_t unread)
{
    struct verified *now = &r->verify.now;
    uint16_t settled;

    if (!r->verify.is_running)
        return;
    /* A write may have failed on one side since it was asked. */
    settled = c->grains & settled_grains(r, c->extent);
    now->bytes += compare_bytes(r, c->extent, settled);
    now->skipped_bytes += compare_bytes(r, c->extent, c->grains & (uint16_t)~settled);
    now->unread_bytes += compare_bytes(r, c->extent, unread) +
                         (c->error ? compare_bytes(r, c->extent, c->grains) : 0);
    note_differing(r, c->extent, differs & settled);
    members_progress(r, "verify", now->bytes + now->skipped_bytes, whole_bytes(r));
}

/* The next extent; those that nobody writes before those that are written all the time. */
static uint64_t choose(const struct replica *r)
{
    const struct verify *v = &r->verify;
    uint64_t written = UINT64_MAX;

    for (uint64_t n = 0; n < r->evidence.extents; n++) {
        uint64_t x = (v->todo_at + n) % r->evidence.extents;

        if (!has_bit(v->todo, x))
            continue;
        if (!evidence_is_writing(r, x))
            return x;
        if (written == UINT64_MAX)
            written = x;
    }
    return written;
}

static void spend_rate(struct replica *r, uint64_t bytes)
{
    struct verify *v = &r->verify;
    uint64_t now = sluice_now_ns(r->disk);

    if (!v->rate)
        return;
    if (v->budget_ns < now)
        v->budget_ns = now;
    v->budget_ns += bytes * 1000000000u / v->rate;
    replica_tick_in(r, v->budget_ns - now);
}

/* False: not now. */
static bool take_one(struct replica *r)
{
    struct verify *v = &r->verify;
    uint64_t x;
    uint16_t grains;

    if (!v->todo_left || !compare_is_room(r, COMPARE_VERIFY) ||
        (v->rate && sluice_now_ns(r->disk) < v->budget_ns))
        return false;
    x = choose(r);
    grains = settled_grains(r, x);
    if (grains && !compare_begin(r, COMPARE_VERIFY, x, grains))
        return false;
    change_bit(v->todo, x, false);
    v->todo_left--;
    v->todo_at = x + 1;
    v->now.skipped_bytes += compare_bytes(r, x, compare_grains(r, x) & (uint16_t)~grains);
    spend_rate(r, compare_bytes(r, x, grains));
    return true;
}

static void run(struct replica *r)
{
    if (!r->verify.is_running)
        return;
    if (r->super.role != REPLICA_PRIMARY) {
        verify_end_early(r);
        return;
    }
    if (r->link != LINK_STREAMING || r->spill.is_spilling || r->is_parked || r->is_closing ||
        r->is_demoting || r->has_backlog)
        return;
    while (take_one(r))
        ;
    if (!r->verify.todo_left && !compare_is_any(r, COMPARE_VERIFY))
        end(r, true);
}

void verify_pump(struct replica *r)
{
    replica_lock(r);
    run(r);
    replica_unlock(r);
    save(r);
}

/* --- telling
 * -----------------------------------------------------------------------------------------------------------
 */

/* "0+65536 1048576+131072 ...", in a group "NAME:0+65536 ..." */
static void name_ranges(const struct replica *r, char *out, size_t size)
{
    uint64_t g = 0, grains = r->verify.differs ? r->evidence.grains : 0;
    unsigned count = 0;
    size_t at = 0;

    out[0] = 0;
    while (g < grains && count < RANGES_MAX && at + 112 < size) {
        uint64_t first = g;

        while (g < grains && has_bit(r->verify.differs, g) &&
               (g == first || members_left_at(r, (g - 1) * GRAIN_BYTES) > GRAIN_BYTES))
            g++;
        if (g > first) {
            uint64_t offset = first * GRAIN_BYTES;
            uint64_t bytes = (g - 1 - first) * GRAIN_BYTES + members_grain_bytes(r, g - 1);
            const char *name = members_name_at(r, &offset);

            at += (size_t)snprintf(out + at, size - at, "%s%s%s%llu+%llu", count++ ? " " : "", name,
                                   name[0] ? ":" : "", (unsigned long long)offset,
                                   (unsigned long long)bytes);
        }
        g += g == first;
    }
}

static const char *outcome_name(const struct replica *r)
{
    static const char *const names[VERIFIED_ENDS] = {"never", "same", "differs", "ended"};

    return r->verify.is_running ? "running" : names[r->verify.last.outcome];
}

static void tell_running(const struct replica *r, struct sluice_reply *reply)
{
    const struct verified *now = &r->verify.now;
    uint64_t done = now->bytes + now->skipped_bytes,
             spent = sluice_now_ns(r->disk) - r->verify.started_ns;
    uint64_t left_ns =
        done ? (uint64_t)((double)spent / (double)done * (double)(whole_bytes(r) - done)) : 0;

    sluice_reply_integer(r->disk, reply, "verify_done_bytes", (int64_t)done);
    sluice_reply_integer(r->disk, reply, "verify_total_bytes", (int64_t)whole_bytes(r));
    sluice_reply_integer(r->disk, reply, "verify_left_ms", (int64_t)(left_ns / 1000000u));
}

static void tell_text(const struct replica *r, const struct verified *v, struct sluice_reply *reply)
{
    time_t when = (time_t)v->started_s;
    struct tm tm;
    char day[32] = "";

    if (v->outcome == VERIFIED_NEVER)
        return;
    strftime(day, sizeof day, "%Y-%m-%d %H:%M:%S", localtime_r(&when, &tm));
    sluice_reply_text(
        r->disk, reply, "verify of %s%s: %llu bytes compared in %llu s, %llu differ%s", day,
        v->outcome == VERIFIED_STOPPED ? ", ended early" : "", (unsigned long long)v->bytes,
        (unsigned long long)v->seconds, (unsigned long long)v->differing_bytes,
        v->is_repaired ? "; sent to the peer since" : "");
}

void verify_tell(struct replica *r, struct sluice_reply *reply)
{
    const struct verified *v = r->verify.is_running ? &r->verify.now : &r->verify.last;
    char ranges[48 * RANGES_MAX];

    if (r->verify.is_running)
        tell_running(r, reply);
    else
        tell_text(r, v, reply);
    name_ranges(r, ranges, sizeof ranges);
    sluice_reply_string(r->disk, reply, "verify", outcome_name(r));
    sluice_reply_integer(r->disk, reply, "verify_bytes", (int64_t)v->bytes);
    sluice_reply_integer(r->disk, reply, "verify_differing_bytes", (int64_t)v->differing_bytes);
    sluice_reply_integer(r->disk, reply, "verify_unread_bytes", (int64_t)v->unread_bytes);
    sluice_reply_integer(r->disk, reply, "verify_skipped_bytes", (int64_t)v->skipped_bytes);
    sluice_reply_integer(r->disk, reply, "verify_started", (int64_t)v->started_s);
    sluice_reply_integer(r->disk, reply, "verify_repaired", v->is_repaired);
    sluice_reply_string(r->disk, reply, "verify_ranges", ranges);
}

/* --- the verb
 * ----------------------------------------------------------------------------------------------------------
 */

/* "64MiB/s", "1000000"; 0: it is none. */
static uint64_t parse_rate(const char *text)
{
    static const struct {
        const char *suffix;
        unsigned shift;
    } units[] = {{"", 0}, {"KiB", 10}, {"MiB", 20}, {"GiB", 30}};
    char *end;
    unsigned long long n = strtoull(text, &end, 10);
    size_t length = strlen(end);

    if (end == text || text[0] == '-')
        return 0;
    if (length >= 2 && strcmp(end + length - 2, "/s") == 0)
        length -= 2;
    for (unsigned i = 0; i < sizeof units / sizeof *units; i++)
        if (strlen(units[i].suffix) == length && strncmp(end, units[i].suffix, length) == 0 &&
            n <= UINT64_MAX >> units[i].shift)
            return n << units[i].shift;
    return 0;
}

struct wishes {
    bool repairs, stops;
    uint64_t rate;
};

static int read_wishes(struct replica *r, int argc, const char *const *argv, struct wishes *w,
                       struct sluice_error *error)
{
    *w = (struct wishes){.rate = r->settings.max_rate};
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--repair") == 0) {
            w->repairs = true;
        } else if (strcmp(argv[i], "--stop") == 0) {
            w->stops = true;
        } else if (strcmp(argv[i], "--rate") == 0 && i + 1 < argc) {
            w->rate = parse_rate(argv[++i]);
            if (!w->rate)
                return sluice_refuse(r->disk, error, EINVAL, "\"%s\" is no rate (64MiB/s)",
                                     argv[i]);
        } else {
            return sluice_refuse(r->disk, error, EINVAL, "verify does not know \"%s\"", argv[i]);
        }
    }
    return 0;
}

static int begin(struct replica *r, const struct wishes *w, struct sluice_error *error)
{
    if (r->super.role != REPLICA_PRIMARY)
        return sluice_refuse(r->disk, error, EPERM, "only the primary verifies: ask there");
    if (r->verify.is_running)
        return sluice_refuse(r->disk, error, EBUSY, "a verify runs already");
    if (r->link != LINK_STREAMING)
        return sluice_refuse(r->disk, error, EAGAIN, "the peer has not everything yet: %s",
                             link_name(r->link));
    if (verify_start(r, w->rate, w->repairs) < 0)
        return sluice_refuse(r->disk, error, ENOMEM, "out of memory");
    return 0;
}

int verify_run_verb(void *instance, int argc, const char *const *argv, struct sluice_reply *reply,
                    struct sluice_error *error)
{
    struct replica *r = instance;
    struct wishes w;
    int status = read_wishes(r, argc, argv, &w, error);

    if (status < 0)
        return status;
    replica_lock(r);
    if (!w.stops)
        status = begin(r, &w, error);
    else if (r->verify.is_running)
        verify_end_early(r);
    else
        status = sluice_refuse(r->disk, error, ESRCH, "no verify runs");
    if (status == 0)
        verify_tell(r, reply);
    replica_unlock(r);
    return status;
}
