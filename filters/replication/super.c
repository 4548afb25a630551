/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * super.c: role, lineage and marks, in one small file of the state folder that the host writes
 * atomically and durably.  Changes are made in memory and counted; the one work thread writes the
 * newest state, so that many changes cost one write.
 *
 *     magic u32, crc32c u32 (of what follows), version u64, role u8, data u8, flags u48, seq_limit
 * u64, size u64, journal tail u64, journal term u64, journal life u64, log generation u64, has_seq
 * u64, backlog end u64, backlog id u64, journal durable below u64, lineage
 */
#include "replica.h"

#include "common/crc.h"

#include <errno.h>
#include <string.h>

#define MAGIC 0x31505253u /* "SRP1" */
#define SUPER_VERSION 4u
#define FIXED_BYTES 104u
#define FILE_NAME "super"

/* Of earlier versions, which have fewer of the last numbers. */
static const size_t fixed_bytes[SUPER_VERSION + 1] = {0, 56, 80, 96, FIXED_BYTES};

/* HAS_NOTHING_OWN: a file that does not say so is of a side that may have. */
enum { WAS_ALONE = 1, IS_SPLIT = 2, TIP_IS_SHARED = 4, HAS_NOTHING_OWN = 8, IS_DAMAGED = 16 };

static size_t encode(const struct super *s, uint8_t *out)
{
    uint8_t *at = out + 8;
    size_t length;

    le_put(&at, SUPER_VERSION, 8);
    le_put(&at, s->role, 1);
    le_put(&at, s->data, 1);
    le_put(&at,
           (s->was_alone ? WAS_ALONE : 0) | (s->is_split ? IS_SPLIT : 0) |
               (s->tip_is_shared ? TIP_IS_SHARED : 0) | (s->has_own ? 0 : HAS_NOTHING_OWN) |
               (s->is_damaged ? IS_DAMAGED : 0),
           6);
    le_put(&at, s->seq_limit, 8);
    le_put(&at, s->size_bytes, 8);
    le_put(&at, s->journal_tail, 8);
    le_put(&at, s->journal_term, 8);
    le_put(&at, s->journal_life, 8);
    le_put(&at, s->log_generation, 8);
    le_put(&at, s->has_seq, 8);
    le_put(&at, s->backlog_end, 8);
    le_put(&at, s->backlog_id, 8);
    le_put(&at, s->journal_synced, 8);
    length = (size_t)(at - out) + lineage_put(at, &s->lineage);
    at = out;
    le_put(&at, MAGIC, 4);
    le_put(&at, crc_add(0, out + 8, length - 8), 4);
    return length;
}

static bool decode(struct super *s, const uint8_t *data, size_t length)
{
    const uint8_t *at = data;
    uint64_t flags, version;

    if (length < fixed_bytes[1] || le_get(&at, 4) != MAGIC ||
        le_get(&at, 4) != crc_add(0, data + 8, length - 8))
        return false;
    version = le_get(&at, 8);
    if (version < 1 || version > SUPER_VERSION || length < fixed_bytes[version])
        return false;
    s->role = (uint8_t)le_get(&at, 1);
    s->data = (uint8_t)le_get(&at, 1);
    flags = le_get(&at, 6);
    s->was_alone = flags & WAS_ALONE;
    s->is_split = flags & IS_SPLIT;
    s->tip_is_shared = flags & TIP_IS_SHARED;
    s->has_own = !(flags & HAS_NOTHING_OWN);
    s->is_damaged = flags & IS_DAMAGED;
    s->seq_limit = le_get(&at, 8);
    s->size_bytes = le_get(&at, 8);
    s->journal_tail = le_get(&at, 8);
    s->journal_term = le_get(&at, 8);
    s->journal_life = version > 1 ? le_get(&at, 8) : 0;
    s->log_generation = version > 1 ? le_get(&at, 8) : 0;
    s->has_seq = version > 1 ? le_get(&at, 8) : 0;
    s->backlog_end = version > 2 ? le_get(&at, 8) : 0;
    s->backlog_id = version > 2 ? le_get(&at, 8) : 0;
    s->journal_synced = version > 3 ? le_get(&at, 8) : 0;
    return s->role <= REPLICA_PRIMARY && s->data <= DATA_CONSISTENT &&
           lineage_get(&s->lineage, at, length - (size_t)(at - data));
}

int super_load(struct replica *r, struct sluice_error *error)
{
    uint8_t data[FIXED_BYTES + LINEAGE_BYTES_MAX];
    size_t length = 0;
    int status = sluice_state_read(r->disk, FILE_NAME, data, sizeof data, &length);

    if (status == -ENOENT) {
        r->super = (struct super){.role = REPLICA_SECONDARY,
                                  .data = DATA_NONE,
                                  .size_bytes = r->size_bytes,
                                  .seq_limit = 1};
        return 0;
    }
    if (status < 0 || !decode(&r->super, data, length))
        return sluice_refuse(r->disk, error, status < 0 ? -status : EINVAL,
                             "the replication's state file \"" FILE_NAME
                             "\" is %s; restore it, or remove the "
                             "filter's state folder to begin anew as a secondary without contents",
                             status < 0 ? "not readable" : "damaged or of another version");
    r->saved_seq_limit = r->super.seq_limit;
    r->has_seq = r->super.has_seq;
    return 0;
}

uint64_t super_change(struct replica *r)
{
    r->super_changes++;
    replica_kick(r);
    return r->super_changes;
}

void super_save(struct replica *r)
{
    uint8_t data[FIXED_BYTES + LINEAGE_BYTES_MAX];
    uint64_t change, seq_limit;
    size_t length;
    int status;

    replica_lock(r);
    change = r->super_changes;
    seq_limit = r->super.seq_limit;
    r->super.journal_synced = r->journal.synced;
    length = encode(&r->super, data);
    replica_unlock(r);
    if (change == r->super_saved)
        return;
    status = sluice_state_write(r->disk, FILE_NAME, data, length);
    replica_lock(r);
    if (status == 0) {
        r->super_saved = change;
        r->saved_seq_limit = seq_limit;
        capture_admit(r);
        journal_write(r); /* may have waited for a cut to be durable */
    } else {
        members_health(r, SLUICE_HEALTH_FAILED, "the replication's state cannot be written",
                       "look at the file system of the state folder");
    }
    replica_wake(&r->changed);
    replica_unlock(r);
}
