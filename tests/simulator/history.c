/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * history.c: see history.h.  A block is never written by two requests at a time, so the order of
 * versions is that of the writes; a sector of zeros is taken for the last zeroing of its block, or
 * for nothing.
 */
#include "history.h"

#define WRITES 65536u
#define SECTOR 512u

struct write {
    uint64_t block, count, seq;
    bool is_split, is_captured, is_zero;
    uint8_t written_at, seen_at; /* a bit for each side */
};
static struct write writes[WRITES];
static uint64_t version_count, base_seq, nobodys; /* versions up to this one no guest has written */
/* served: acknowledged, and the primary itself has not lost it since. */
static uint64_t acknowledged[BLOCKS], served[BLOCKS], flushed[BLOCKS], zeroed[BLOCKS];

/* --- records
 * -----------------------------------------------------------------------------------------------
 */

#define RECORDS 4096u
static struct told {
    uint64_t version, seq;
} told[DISKS][RECORDS];
static unsigned told_count[DISKS];
static uint64_t record_count, record_acknowledged[DISKS];
static uint8_t told_at[RECORDS];

static void reset_records(void)
{
    memset(told_count, 0, sizeof told_count);
    memset(record_acknowledged, 0, sizeof record_acknowledged);
    record_count = 0;
}

uint64_t history_record_next(int node)
{
    if (++record_count >= RECORDS)
        abort();
    told_at[record_count] = (uint8_t)node;
    return record_count;
}

void history_record_told(unsigned disk, uint64_t version, uint64_t seq)
{
    told[disk][told_count[disk]++] = (struct told){version, seq};
}

uint64_t history_record_last(unsigned disk)
{
    return told_count[disk] ? told[disk][told_count[disk] - 1].version : 0;
}

void history_record_mark(uint64_t *mark)
{
    for (unsigned d = 0; d < DISKS; d++)
        mark[d] = history_record_last(d);
}

void history_record_acknowledge(const uint64_t *mark)
{
    for (unsigned d = 0; d < DISKS; d++)
        if (mark[d] > record_acknowledged[d])
            record_acknowledged[d] = mark[d];
}

static void settle_record(unsigned disk, uint64_t version)
{
    while (told_count[disk] && history_record_last(disk) > version)
        told_count[disk]--;
    if (version && history_record_last(disk) != version)
        history_record_told(disk, version, 0);
    record_acknowledged[disk] = version;
}

void history_reset(void)
{
    reset_records();
    version_count = base_seq = nobodys = 0;
    memset(acknowledged, 0, sizeof acknowledged);
    memset(served, 0, sizeof served);
    memset(flushed, 0, sizeof flushed);
    memset(zeroed, 0, sizeof zeroed);
}

uint64_t history_issue(uint64_t block, uint64_t count, uint8_t *data)
{
    uint64_t version = ++version_count;

    if (version >= WRITES)
        abort();
    writes[version] = (struct write){.block = block, .count = count, .is_zero = !data};
    for (uint64_t i = 0; data && i < count * BLOCK; i += 8)
        memcpy(data + i, &version, 8);
    for (uint64_t b = block; !data && b < block + count; b++)
        zeroed[b] = version;
    return version;
}

void history_leave(uint64_t block, uint8_t *data)
{
    nobodys = history_issue(block, 1, data);
}

void history_capture(uint64_t version, uint64_t seq, bool is_split)
{
    if (writes[version].is_captured)
        return;
    writes[version].seq = seq;
    writes[version].is_split = is_split;
    writes[version].is_captured = true;
}

static uint64_t seq_of_block(const struct write *w, uint64_t block)
{
    return w->is_split && block - w->block < 2 ? w->seq - 1 : w->seq;
}

void history_acknowledge(uint64_t version, bool is_durable)
{
    const struct write *w = &writes[version];

    for (uint64_t b = w->block; b < w->block + w->count; b++) {
        acknowledged[b] = served[b] = version;
        if (is_durable)
            flushed[b] = version;
    }
}

void history_flush_begin(uint64_t *mark)
{
    memcpy(mark, served, sizeof served);
}

void history_flush_end(const uint64_t *mark)
{
    for (unsigned b = 0; b < BLOCKS; b++)
        if (mark[b] > flushed[b])
            flushed[b] = mark[b];
}

void history_doubt(uint64_t version)
{
    if (version)
        writes[version].is_captured = false;
    for (uint64_t v = 1; !version && v <= version_count; v++)
        for (uint64_t b = writes[v].block; b < writes[v].block + writes[v].count; b++)
            if (flushed[b] < v)
                writes[v].is_captured = false;
}

void history_base(uint64_t seq)
{
    base_seq = seq;
    memcpy(acknowledged, served, sizeof served);
}

static uint64_t version_at(const uint8_t *image, uint64_t sector)
{
    uint64_t version;

    memcpy(&version, image + sector * SECTOR, 8);
    return version ? version : zeroed[sector * SECTOR / BLOCK];
}

static bool is_whole(const uint8_t *sector)
{
    return memcmp(sector, sector + 8, SECTOR - 8) == 0;
}

static uint64_t floor_of(enum floor floor, uint64_t block)
{
    switch (floor) {
    case FLOOR_SERVED:
        return served[block];
    case FLOOR_ACKNOWLEDGED:
        return acknowledged[block];
    case FLOOR_FLUSHED:
        return flushed[block];
    default:
        return 0;
    }
}

static void check_sector(const uint8_t *image, uint64_t sector, uint64_t least, const char *when,
                         const char *what)
{
    uint64_t b = sector * SECTOR / BLOCK, version = version_at(image, sector);
    const struct write *w = &writes[version < WRITES ? version : 0];

    if (!is_whole(image + sector * SECTOR) || version > version_count ||
        (version && (b < w->block || b >= w->block + w->count)))
        pair_violation("%s: block %u holds what nobody wrote there", when, (unsigned)b);
    else if (version < least)
        pair_violation("%s: block %u sector %u holds version %u, %s was %u", when, (unsigned)b,
                       (unsigned)(sector % 8), (unsigned)version, what, (unsigned)least);
}

void history_check(const uint8_t *image, enum floor floor, const char *when)
{
    for (uint64_t s = 0; s < DISK_BYTES / SECTOR && !pair_violations; s++)
        check_sector(image, s, floor_of(floor, s * SECTOR / BLOCK), when,
                     floor == FLOOR_FLUSHED ? "flushed" : "acknowledged");
}

void history_check_blocks(const uint8_t *data, uint64_t block, uint64_t count, const uint64_t *mark)
{
    static uint8_t image[DISK_BYTES];

    memcpy(image + block * BLOCK, data, count * BLOCK);
    for (uint64_t s = block * BLOCK / SECTOR; s < (block + count) * BLOCK / SECTOR; s++)
        if (!pair_violations)
            check_sector(image, s, mark[s * SECTOR / BLOCK], "a read", "acknowledged");
}

void history_check_prefix(const uint8_t *image, const char *when)
{
    uint64_t last = 0;

    for (uint64_t s = 0; s < DISK_BYTES / SECTOR; s++) {
        uint64_t version = version_at(image, s);
        if (version && writes[version].is_captured && !writes[version].is_zero &&
            seq_of_block(&writes[version], s * SECTOR / BLOCK) > last)
            last = seq_of_block(&writes[version], s * SECTOR / BLOCK);
    }
    for (uint64_t v = 1; v <= version_count; v++)
        for (uint64_t b = writes[v].block;
             writes[v].is_captured && b < writes[v].block + writes[v].count; b++) {
            uint64_t seq = seq_of_block(&writes[v], b);

            if (seq <= base_seq || seq > last)
                continue;
            for (uint64_t s = b * (BLOCK / SECTOR); s < (b + 1) * (BLOCK / SECTOR); s++)
                if (version_at(image, s) < v) {
                    pair_violation("%s: sequence %u is there, %u (block %u) is not", when,
                                   (unsigned)last, (unsigned)seq, (unsigned)b);
                    return;
                }
        }
}

/* The highest number of a write that the image has, and the lowest of one that it lacks. */
static void find_instant(const uint8_t *image, uint64_t *last, uint64_t *missing)
{
    *last = base_seq;
    *missing = UINT64_MAX;
    for (uint64_t v = 1; v <= version_count; v++)
        for (uint64_t b = writes[v].block;
             writes[v].is_captured && b < writes[v].block + writes[v].count; b++) {
            uint64_t seq = seq_of_block(&writes[v], b);

            for (uint64_t s = b * (BLOCK / SECTOR); s < (b + 1) * (BLOCK / SECTOR); s++) {
                uint64_t there = version_at(image, s);

                if (there == v && !writes[v].is_zero && seq > *last)
                    *last = seq;
                if (there < v && seq > base_seq && seq < *missing)
                    *missing = seq;
            }
        }
}

/* The image has something that came after it; of one that another history has left, which has
 * counted in another way, nobody knows. */
static bool is_before(const struct told *t, uint64_t last)
{
    return t->seq && t->seq <= last;
}

void history_record_check(int node, unsigned disk, uint64_t version, const uint8_t *image,
                          bool is_protected, const char *when)
{
    uint64_t last, missing;
    unsigned at = 0;

    find_instant(image, &last, &missing);
    while (at < told_count[disk] && told[disk][at].version != version)
        at++;
    if (version > record_count || (version && at == told_count[disk] && told_at[version] != node))
        pair_violation("%s: disk %u has record %u, of another history", when, disk,
                       (unsigned)version);
    else if (is_protected && version < record_acknowledged[disk])
        pair_violation("%s: disk %u has record %u, acknowledged was %u", when, disk,
                       (unsigned)version, (unsigned)record_acknowledged[disk]);
    else if (version && at + 1 < told_count[disk] && is_before(&told[disk][at + 1], last))
        pair_violation("%s: disk %u has record %u and writes after the next one", when, disk,
                       (unsigned)version);
    else if (!version && told_count[disk] && is_before(&told[disk][0], last))
        pair_violation("%s: disk %u has no record and writes after the first one", when, disk);
    else if (at < told_count[disk] && version && told[disk][at].seq > missing)
        pair_violation("%s: disk %u has record %u and lacks writes before it", when, disk,
                       (unsigned)version);
    settle_record(disk, version);
}

static uint64_t least_of_block(const uint8_t *image, uint64_t block)
{
    uint64_t least = UINT64_MAX;

    for (uint64_t s = block * (BLOCK / SECTOR); s < (block + 1) * (BLOCK / SECTOR); s++)
        if (version_at(image, s) < least)
            least = version_at(image, s);
    return least;
}

void history_lower(const uint8_t *image)
{
    for (uint64_t b = 0; b < BLOCKS; b++)
        if (least_of_block(image, b) < served[b])
            served[b] = least_of_block(image, b);
}

void history_settle(const uint8_t *image, bool is_flushed)
{
    for (uint64_t b = 0; b < BLOCKS; b++) {
        acknowledged[b] = served[b] = least_of_block(image, b);
        if (served[b] <= nobodys)
            acknowledged[b] = served[b] = 0;
        if (flushed[b] > acknowledged[b])
            flushed[b] = acknowledged[b];
        if (!is_flushed)
            flushed[b] = 0;
    }
    for (uint64_t v = 1; v <= version_count; v++)
        writes[v].is_captured = false;
}

void history_written(int node, uint64_t version)
{
    writes[version].written_at |= (uint8_t)(1u << node);
}

void history_seen(int node, const uint8_t *data, uint64_t length)
{
    uint64_t version;

    for (uint64_t at = 0; data && at < length; at += SECTOR) {
        memcpy(&version, data + at, 8);
        if (version <= version_count)
            writes[version].seen_at |= (uint8_t)(1u << node);
    }
}

bool history_is_not_older(const uint8_t *image, const uint8_t *than, uint64_t sector)
{
    return version_at(image, sector) >= version_at(than, sector);
}

bool history_is_only_here(int node, const uint8_t *image, uint64_t sector)
{
    uint64_t version, block = sector * SECTOR / BLOCK;
    const struct write *w;

    memcpy(&version, image + sector * SECTOR, 8);
    w = &writes[version < WRITES ? version : 0];
    return version && is_whole(image + sector * SECTOR) && version <= version_count &&
           block >= w->block && block < w->block + w->count && w->written_at >> node & 1 &&
           !(w->seen_at >> (1 - node) & 1);
}

void history_tell_difference(const uint8_t *primary, const uint8_t *secondary)
{
    for (unsigned b = 0; b < BLOCKS; b++) {
        const uint8_t *mine = primary + b * BLOCK, *theirs = secondary + b * BLOCK;
        uint64_t versions[2];

        if (memcmp(mine, theirs, BLOCK) == 0)
            continue;
        memcpy(&versions[0], mine, 8);
        memcpy(&versions[1], theirs, 8);
        pair_violation("after healing block %u is %u on the primary and %u on the secondary", b,
                       (unsigned)versions[0], (unsigned)versions[1]);
        return;
    }
}
