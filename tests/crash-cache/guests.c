/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * guests.c: see the header.
 */
#include "guests.h"
#include "history.h"
#include "oracle.h"

#include <errno.h>

struct slot slots[SLOTS];
struct profile profile;
struct sim_config config;
uint64_t requests, failed_requests;
bool is_rotted[DISK_BLOCKS];
bool is_paused;

static uint32_t first_sector(const struct slot *s)
{
    return (uint32_t)s->block * 8;
}

static uint32_t sector_count(const struct slot *s)
{
    return (uint32_t)s->count * 8;
}

static void on_extent(struct sim_request *r, uint64_t offset, uint64_t length, uint32_t type)
{
    struct slot *s = r->own;

    (void)s;
    for (uint64_t b = offset / 4096; b < (offset + length) / 4096; b++)
        if (type && oracle_data((uint32_t)b * 8)) {
            bool is_changing = false;

            for (unsigned i = 0; i < SLOTS; i++)
                is_changing |= slots[i].is_busy && slots[i].changes && b >= slots[i].block &&
                               b < slots[i].block + slots[i].count;
            if (!is_changing && s->extent_checked[b])
                sim_violation("block %llu holds data and is reported as a hole",
                              (unsigned long long)b);
        }
}

static bool touches_rot(const struct slot *s)
{
    for (uint64_t i = 0; i < s->count; i++)
        if (is_rotted[s->block + i])
            return true;
    return false;
}

bool has_lost(void)
{
    for (uint64_t b = 0; b < DISK_BLOCKS; b++)
        if (is_rotted[b])
            return true;
    return false;
}

/* Only what needs the SSD: what is on it alone, and a flush of that.  With a state folder that
 * takes nothing either, all changes. */
static bool may_fail(const struct sim_request *r)
{
    const struct slot *s = r->own;
    bool has_failed = sim_ssd_faults || strstr(sim_health, "tier failed");
    bool is_unread = sim_ssd_faults & (SIM_READS_FAIL | SIM_HANGS) || s->began_in_vain;

    if (r->pub.op == SLUICE_OP_READ)
        return touches_rot(s) || (is_unread && s->began_dirty);
    if (has_failed && sim_state_fails)
        return true;
    if (r->pub.op == SLUICE_OP_FLUSH)
        return has_lost() || (is_unread && sim_is_dirty(0, DISK_BLOCKS));
    return has_failed && (is_unread || has_lost()) &&
           (config.is_ordered ? sim_is_dirty(0, DISK_BLOCKS) : sim_is_dirty(s->block, s->count));
}

static void acknowledge(const struct slot *s, bool has_fua)
{
    oracle_acknowledge(first_sector(s), sector_count(s), s->number, has_fua);
    for (uint32_t i = 0; has_fua && i < sector_count(s); i++)
        history_note(first_sector(s) + i, 1, &s->number, oracle_next());
}

static void on_done(struct sim_request *r, int32_t error)
{
    struct slot *s = r->own;
    bool has_fua = r->pub.flags & SLUICE_FLAG_FUA;

    s->is_busy = false;
    s->error = error;
    requests++;
    if (error) {
        failed_requests++;
        if (!may_fail(r))
            sim_violation("a request of kind %d failed: %s", r->pub.op, strerror(error));
        return;
    }
    if (r->pub.op == SLUICE_OP_READ)
        oracle_check(first_sector(s), sector_count(s), s->data, s->floor, "read");
    else if (r->pub.op == SLUICE_OP_FLUSH) {
        oracle_flush_end(s->floor);
        history_note(0, SECTORS, s->floor, oracle_next());
    } else if (s->changes)
        acknowledge(s, has_fua);
}

static bool overlaps_a_change(uint64_t block, uint64_t count)
{
    for (unsigned i = 0; i < SLOTS; i++)
        if (slots[i].is_busy && slots[i].changes && block < slots[i].block + slots[i].count &&
            slots[i].block < block + count)
            return true;
    return false;
}

void choose_profile(void)
{
    static const uint32_t flushes[] = {0, 0, 4, 12, 60}, fuas[] = {0, 0, 3, 20},
                          hot[] = {3, 16, 48};
    static const uint32_t steps[] = {12, 60, 300, 1500, 1500};

    profile.flushes = flushes[sim_below(5)];
    profile.fuas = fuas[sim_below(4)];
    profile.writes = 1 + sim_below(9);
    profile.hot_blocks = hot[sim_below(3)];
    profile.steps = 4 + sim_below(steps[sim_below(5)]);
}

/* Some blocks are used more than others. */
static uint64_t choose_block(void)
{
    return sim_one_in(3) ? sim_below(DISK_BLOCKS) : sim_below(profile.hot_blocks);
}

static uint8_t choose_op(void)
{
    static const uint8_t rare[] = {SLUICE_OP_TRIM, SLUICE_OP_ZERO, SLUICE_OP_EXTENTS,
                                   SLUICE_OP_PREFETCH};

    if (oracle_wants_flush() || (profile.flushes && sim_one_in(profile.flushes)))
        return SLUICE_OP_FLUSH;
    if (sim_one_in(12))
        return rare[sim_below(sizeof rare)];
    return sim_below(10) < profile.writes ? SLUICE_OP_WRITE : SLUICE_OP_READ;
}

static bool is_change(uint8_t op)
{
    return op == SLUICE_OP_WRITE || op == SLUICE_OP_TRIM || op == SLUICE_OP_ZERO;
}

static void fill_slot(struct slot *s, uint8_t op)
{
    static const struct sluice_client client = {"sim", "", "", 1, 0};
    struct sluice_request *pub = &s->request.pub;
    bool has_data = op == SLUICE_OP_READ || op == SLUICE_OP_WRITE;

    *pub = (struct sluice_request){.op = op, .client = &client};
    pub->offset = s->block * 4096;
    pub->length = op == SLUICE_OP_FLUSH ? 0 : s->count * 4096;
    pub->data = has_data ? s->data : NULL;
    if (is_change(op) && profile.fuas && sim_one_in(profile.fuas))
        pub->flags |= SLUICE_FLAG_FUA;
    s->request.done = on_done;
    s->request.on_extent = on_extent;
    s->request.extent_at = pub->offset;
    s->request.own = s;
}

static void begin_change(struct slot *s, uint8_t op)
{
    uint8_t *data = op == SLUICE_OP_WRITE ? s->data : NULL;

    s->number = oracle_begin(first_sector(s), sector_count(s), data);
    if (!data)
        history_zero(first_sector(s), sector_count(s), s->number);
}

void begin(struct slot *s, uint8_t op)
{
    s->changes = is_change(op);
    s->is_busy = true;
    s->began_in_vain = sim_does_not_answer();
    s->began_dirty = sim_is_dirty(s->block, s->count);
    if (s->changes)
        begin_change(s, op);
    else if (op == SLUICE_OP_FLUSH)
        oracle_flush_begin(s->floor);
    else if (op == SLUICE_OP_READ) {
        memset(s->data, 0xee, s->count * 4096);
        oracle_read_begin(first_sector(s), sector_count(s), s->floor);
    } else
        for (uint64_t b = 0; b < DISK_BLOCKS; b++)
            s->extent_checked[b] = oracle_data((uint32_t)b * 8);
    fill_slot(s, op);
    sim_submit(&s->request);
}

void try_request(void)
{
    struct slot *s = &slots[sim_below(SLOTS)];
    uint8_t op = choose_op();

    if (s->is_busy || is_paused)
        return;
    s->block = choose_block();
    s->count = sim_one_in(8) ? 1 + sim_below(BLOCKS_MOST) : 1 + sim_below(2);
    if (op == SLUICE_OP_TRIM && sim_one_in(8)) {
        s->block = 0;
        s->count = DISK_BLOCKS; /* more than stays */
    }
    s->count = s->block + s->count > DISK_BLOCKS ? DISK_BLOCKS - s->block : s->count;
    if (is_change(op) && overlaps_a_change(s->block, s->count))
        return;
    /* What failed may be there all the same, and no flush makes an end of it. */
    if (is_change(op) &&
        oracle_most_contents(first_sector(s), sector_count(s)) > ORACLE_KEPT * 3 / 4)
        return;
    begin(s, op);
}

bool any_busy(void)
{
    for (unsigned i = 0; i < SLOTS; i++)
        if (slots[i].is_busy)
            return true;
    return false;
}
