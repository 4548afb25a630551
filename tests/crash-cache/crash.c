/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * crash: the real cache filter over simulated devices, under a random load, ended at random points
 * by kill -9 or by a power cut, also while it recovers, and checked against the oracle each time.
 *
 *     crash [--seed N] [--points N] [--mutant N] [--ordered] [--faults] [--rot] [--until-red]
 *           [--verbose]
 *
 * In every fourth run, with --ordered in each, the cache is `ordered`; then after each crash the
 * backing alone is an earlier state of the disk (P2), as if the SSD had gone with it.
 *
 * --faults: in every second run the SSD fails in the end, its writes, its reads or both.  Only what
 * is on it alone may fail then, and nothing hangs; the next start may still find it failing, or new
 * and empty where it was not needed any more; and what was acknowledged is there.
 *
 * --rot: in every second run some data blocks on the SSD change by themselves.  Reads that touch
 * one which the log called dirty may fail then, and flushes; others not, and nothing hangs, but
 * when the log is full up to such a block.  Nothing else than what was written is ever read.
 *
 * --mutant N breaks one of the rules R1 to R13 (and some more, docs/cache.md); --until-red then
 * ends with exit code 0 at the first violation, and with 1 when there is none.
 */
#include "guests.h"
#include "history.h"
#include "oracle.h"
#include "sim.h"

#include "cache/cache.h"
#include "cache/world.h"

#include <errno.h>

#define STEPS_MOST 2000000u

static uint64_t points, kills, cuts, in_recovery, drains, sanitized;
static uint64_t faults, hangs, said_losses, stops, replaced, refused;
static bool must_order; /* --ordered */
static bool has_faults; /* --faults */
static bool has_rot;    /* --rot */
static uint64_t rotted, rotted_dirty;
static bool is_over;            /* the world has rotted and is checked: the next one */
static bool is_ssd_needless;    /* it failed, and the backing has all of it */
static unsigned lasting_faults; /* of the SSD, over the next crash */
static bool is_always_ordered;  /* so it has been since the disk was new */
static uint64_t orders;         /* how often the backing was looked at for it */

/* --- control
 * -----------------------------------------------------------------------------------------------
 */

/* Until it is done, or something hangs. */
static bool wait_for(struct sim_call *call)
{
    for (unsigned i = 0; i < STEPS_MOST && !call->is_done; i++)
        if (!sim_step() && !call->is_done)
            break;
    if (!call->is_done)
        sim_violation("a control event hangs");
    return call->is_done;
}

static bool wait_for_requests(void)
{
    for (unsigned i = 0; i < STEPS_MOST && any_busy(); i++)
        if (!sim_step())
            break;
    if (any_busy())
        sim_violation("requests hang");
    return !any_busy();
}

static bool tell(uint32_t kind, uint32_t phase)
{
    struct sim_call call;

    sim_event(&call, kind, phase);
    if (!wait_for(&call))
        return false;
    if (call.result < 0 && !has_lost())
        sim_violation("event %u, phase %u was refused: %s", kind, phase, sim_error);
    return call.result == 0;
}

static void change_mode(void)
{
    static const char *const modes[] = {"write-back",    "write-back",    "write-back",
                                        "write-through", "write-through", "write-around",
                                        "read-only",     "bypass"};
    static struct sim_call call;
    const char *mode = modes[sim_below(8)];

    sim_verb(&call, "mode", mode);
    wait_for(&call);
}

/* What the backing's media alone hold after a snapshot's prepare: everything acknowledged. */
static void check_backing(void)
{
    static uint32_t floor[SECTORS];

    oracle_read_begin(0, SECTORS, floor);
    oracle_check(0, SECTORS, backing.media, floor, "backing after a snapshot's prepare");
}

static void drain(bool is_detach)
{
    uint32_t kind = is_detach ? SLUICE_EVENT_DETACH : SLUICE_EVENT_SNAPSHOT;

    drains++;
    if (!tell(kind, SLUICE_PHASE_PREPARE_LONG))
        return;
    is_paused = true;
    if (tell(SLUICE_EVENT_QUIESCE, SLUICE_PHASE_PREPARE) && wait_for_requests() &&
        tell(kind, SLUICE_PHASE_PREPARE)) {
        check_backing();
        tell(kind, SLUICE_PHASE_COMMIT);
    }
    if (is_detach)
        sim_close();
    else
        tell(SLUICE_EVENT_RESUME, SLUICE_PHASE_COMMIT);
    is_paused = false;
}

/* The disk has been overwritten: nothing older than what was acknowledged may stay on the SSD, and
 * the backing has all of it. */
static void sanitize(void)
{
    static uint32_t floor[SECTORS];
    struct sim_call call;

    sanitized++;
    oracle_read_begin(0, SECTORS, floor);
    do {
        sim_event(&call, SLUICE_EVENT_SANITIZE, SLUICE_PHASE_PREPARE);
        for (unsigned i = 0; i < STEPS_MOST && !call.is_done && !sim_violations; i++) {
            if (sim_one_in(3))
                try_request();
            else
                sim_step();
        }
        if (!call.is_done && !sim_violations)
            sim_violation("a sanitize hangs");
    } while (call.result == -EAGAIN && !sim_violations && !sim_one_in(8));
    if (call.result < 0 && call.result != -EAGAIN && !sim_violations && !sim_ssd_faults)
        sim_violation("a sanitize was refused: %s", sim_error);
    if (call.result == 0 && !sim_violations) {
        oracle_check_nothing_older(ssd.media, ssd.size, floor);
        oracle_check(0, SECTORS, backing.now, floor, "backing after a sanitize");
    }
    if (!sim_violations)
        tell(SLUICE_EVENT_SANITIZE, call.result == 0 ? SLUICE_PHASE_COMMIT : SLUICE_PHASE_ABORT);
}

/* --- opening, crashing, checking
 * ------------------------------------------------------------------------------ */

/* P2: with the SSD gone, what would be left? */
static void check_order(bool held, const char *when)
{
    if (!held)
        return;
    orders++;
    history_check(backing.now, when);
}

static void crash(bool is_power)
{
    bool held = sim_is_open() && sim_order_holds();

    if (is_always_ordered && sim_is_open() && !held && !has_rot && !has_faults)
        sim_violation("an order that was always kept is said not to hold");
    points++;
    kills += !is_power;
    cuts += is_power;
    for (unsigned i = 0; i < SLOTS; i++)
        slots[i].is_busy = false;
    sim_crash(is_power);
    oracle_crash(is_power);
    check_order(held || (is_always_ordered && !has_rot), is_power ? "power cut" : "kill -9");
}

/* False: crashed amid it; *was_power then says whether the power has gone since the last check. */
static bool open_or_crash(bool *was_power)
{
    struct sim_call call;
    uint32_t steps = sim_one_in(4) ? sim_below(60) : UINT32_MAX;

    sim_ssd_faults = lasting_faults;
    sim_open(&call, &config);
    for (uint32_t i = 0; i < STEPS_MOST && !call.is_done; i++) {
        if (i == steps) {
            bool is_power = sim_one_in(2);

            in_recovery++;
            crash(is_power);
            *was_power |= is_power;
            return false;
        }
        sim_step();
    }
    if (call.is_done && call.result < 0 && lasting_faults) {
        refused++;
        lasting_faults = 0; /* mended, and tried again */
        sim_crash(false);
        return false;
    }
    if (!call.is_done || call.result < 0)
        sim_violation("opening failed: %s", call.is_done ? sim_error : "it hangs");
    return true;
}

/* R12: another disk may not have this tier, and this disk may not go without it. */
static void try_strangers(void)
{
    static const char other[] = "11111111-2222-4333-8444-555555555555";
    const char *uuid = sim_disk.uuid;
    struct sim_call call;

    if (!sim_one_in(16) || !sim_has_tier())
        return; /* an empty one is anybody's */
    sim_disk.uuid = other;
    sim_swap_state();
    sim_open(&call, &config);
    wait_for(&call);
    sim_swap_state();
    sim_disk.uuid = uuid;
    if (call.result == 0) {
        sim_violation("R12: a tier with another disk's data was opened");
        sim_close();
    }
}

static bool is_lost[DISK_BLOCKS]; /* read_all() could not read it, and may not */

/* False: it hangs. */
static bool read_some(uint64_t block, uint64_t count, uint8_t *to)
{
    struct slot *s = &slots[0];

    s->block = block;
    s->count = count;
    s->changes = false;
    begin(s, SLUICE_OP_READ);
    if (!wait_for_requests())
        return false;
    memcpy(to, s->data, count * 4096);
    return true;
}

static bool read_all(uint8_t *disk)
{
    for (uint64_t b = 0; b < DISK_BLOCKS; b += BLOCKS_MOST) {
        uint64_t count = b + BLOCKS_MOST > DISK_BLOCKS ? DISK_BLOCKS - b : BLOCKS_MOST;
        bool is_whole;

        if (!read_some(b, count, disk + b * 4096))
            return false;
        is_whole = !slots[0].error;
        for (uint64_t i = b; i < b + count; i++) {
            if (!is_whole && !read_some(i, 1, disk + i * 4096))
                return false;
            is_lost[i] = slots[0].error != 0;
        }
    }
    return true;
}

/* Opens, through crashes of its own, and checks all that the disk holds. */
static void come_back(bool was_power)
{
    static uint8_t disk[DISK_BLOCKS * 4096];
    unsigned before = sim_violations;

    while (!open_or_crash(&was_power))
        ;
    if (!sim_is_open() || sim_violations > before)
        return;
    tell(SLUICE_EVENT_ATTACH, SLUICE_PHASE_COMMIT);
    if (read_all(disk))
        oracle_settle_but(disk, was_power, is_lost);
}

static void start_over(uint64_t seed)
{
    static const uint64_t rams[] = {64 << 10, 96 << 10, 256 << 10};

    sim_crash(false);
    for (unsigned i = 0; i < SLOTS; i++)
        slots[i].is_busy = false;
    sim_seed(seed);
    if (cache_mutant != 11 || !sim_one_in(2)) /* R11: an old making of the tier lies below */
        dev_wipe(&ssd);
    dev_wipe(&backing);
    memset(ssd.now, 0, 8192);
    memset(ssd.media, 0, 8192);
    sim_forget_state();
    oracle_reset();
    history_reset(SECTORS);
    memset(is_rotted, 0, sizeof is_rotted);
    is_over = is_ssd_needless = false;
    lasting_faults = 0;
    config = (struct sim_config){.ram = rams[sim_below(3)], .ssd_bytes = ssd.size, .mode = 0};
    config.is_ordered = is_always_ordered = must_order || sim_one_in(4);
    come_back(false);
}

/* A destage that was under way may have ended since: what is said is the most. */
static void check_what_is_said(void)
{
    unsigned long long said_kib;
    long long lost_kib = (long long)sim_counter(N_DIRTY) / 1024;

    if (sscanf(sim_health, "the cache's tier failed; up to %llu KiB", &said_kib) != 1)
        return; /* only reads failed */
    said_losses++;
    if (lost_kib < 0 || said_kib < (unsigned long long)lost_kib)
        sim_violation("%lld KiB are in the tier alone, health says %llu", lost_kib, said_kib);
}

/* It can still be read: all of it gets into the backing, and then it is not needed any more. */
static void empty_failed_ssd(void)
{
    static uint32_t floor[SECTORS];
    struct sim_call call;

    oracle_read_begin(0, SECTORS, floor);
    sim_verb(&call, "flush", NULL);
    if (!wait_for(&call))
        return;
    if (call.result < 0)
        sim_violation("a failed SSD cannot be emptied: %s", sim_error);
    oracle_check(0, SECTORS, backing.now, floor, "backing of an SSD that failed");
    if (strstr(sim_health, "tier failed"))
        is_ssd_needless = true;
}

static void run_for(uint32_t steps)
{
    for (uint32_t i = 0; i < steps && !sim_violations; i++) {
        if (sim_one_in(3))
            try_request();
        else
            sim_step();
    }
}

/* The SSD is replaced by a new one where nothing on it is needed, and the disk opens all the same.
 */
static void replace_ssd(void)
{
    dev_wipe(&ssd);
    replaced++;
}

/* What was asked of it comes back; nobody's memory is written any more. */
static void answer_late(void)
{
    static uint8_t before[SLOTS][BLOCKS_MOST * 4096];

    for (unsigned i = 0; i < SLOTS; i++)
        memcpy(before[i], slots[i].data, sizeof before[i]);
    sim_ssd_faults = 0;
    while (sim_does_not_answer())
        sim_step();
    for (unsigned i = 0; i < SLOTS; i++)
        if (memcmp(before[i], slots[i].data, sizeof before[i]) != 0)
            sim_violation("an answered request's memory is written");
}

/* It does not answer.  Everybody else is answered all the same; what was asked of it comes back in
 * the end, when nobody waits for it, and then it can be emptied. */
static void hang_ssd(void)
{
    hangs++;
    sim_ssd_faults = SIM_HANGS;
    run_for(profile.steps);
    if (!wait_for_requests() || sim_one_in(3))
        return;
    if (sim_one_in(2))
        answer_late();
    sim_ssd_faults = 0;
    run_for(profile.steps);
    if (wait_for_requests() && strstr(sim_health, "tier failed"))
        empty_failed_ssd();
}

/* The SSD fails: what is said of it, and that nothing waits for ever. */
static void fail_ssd(void)
{
    uint64_t began_ns = sim_now_ns;

    sim_unread_told = 0;
    faults++;
    sim_ssd_faults = 1 + sim_below(SIM_WRITES_FAIL | SIM_READS_FAIL);
    sim_state_fails = sim_one_in(8);
    run_for(profile.steps);
    wait_for_requests();
    check_what_is_said();
    if (!sim_violations && !(sim_ssd_faults & SIM_READS_FAIL) && !sim_state_fails && sim_one_in(2))
        empty_failed_ssd();
    if (!sim_violations && !(sim_ssd_faults & SIM_READS_FAIL) && !sim_state_fails && sim_one_in(8))
        drain(true);
    if (sim_unread_told > 1 + (sim_now_ns - began_ns) / UINT64_C(10000000000))
        sim_violation("reads that fail are told %u times", sim_unread_told);
}

/* Blocks on the SSD rot, and the load goes on for a while. */
static void rot_ssd(void)
{
    for (uint32_t n = 1 + sim_below(6); n; n--) {
        bool was_dirty = false;
        uint64_t block = sim_rot(&was_dirty);

        if (block == UINT64_MAX)
            continue;
        rotted++;
        rotted_dirty += was_dirty;
        is_rotted[block] |= was_dirty;
        for (uint32_t i = sim_below(profile.steps); i && !sim_violations; i--)
            if (sim_one_in(3))
                try_request();
            else
                sim_step();
    }
    wait_for_requests();
    is_over = true;
}

/* The gateway stops: requests have ended, and the last checkpoint is written or left. */
static void stop_in_order(void)
{
    is_paused = true;
    stops += tell(SLUICE_EVENT_QUIESCE, SLUICE_PHASE_PREPARE) && wait_for_requests() &&
             tell(SLUICE_EVENT_STOP, SLUICE_PHASE_COMMIT);
    is_paused = false;
}

static void run_until_crash(void)
{
    choose_profile();
    for (uint32_t i = 0; i < profile.steps && sim_is_open() && !sim_violations; i++) {
        if (sim_one_in(3))
            try_request();
        else
            sim_step();
        if (sim_one_in(i ? 900 : 3))
            change_mode();
        if (sim_one_in(1000))
            tell(SLUICE_EVENT_STOP, SLUICE_PHASE_COMMIT); /* the last client has left */
        if (sim_one_in(4000))
            drain(sim_one_in(4));
        if (sim_is_open() && sim_one_in(4000))
            sanitize();
    }
}

/* With FUA: durable when it is answered. */
static void write_one(uint64_t block, uint32_t flags)
{
    struct slot *s = &slots[0];

    s->block = block;
    s->count = 1;
    profile.fuas = flags ? 1 : 0;
    begin(s, SLUICE_OP_WRITE);
}

/* A block is destaged after the backing has told its extents, and before the cache hears that this
 * was all: on_extent() finds out whether it is called a hole. */
static void ask_amid_destage(void)
{
    struct slot *s = &slots[1];
    struct sim_call call;

    is_paused = true;
    if (!wait_for_requests())
        return;
    write_one(sim_below(DISK_BLOCKS), 0);
    if (!wait_for_requests())
        return;
    sim_holds_extents = true;
    s->block = slots[0].block;
    s->count = 1;
    begin(s, SLUICE_OP_EXTENTS);
    sim_verb(&call, "flush", NULL);
    wait_for(&call);
    sim_holds_extents = false;
    wait_for_requests();
    is_paused = false;
}

/* --- what a failed write leaves behind
 * -------------------------------------------------------------------- */

/* True: a segment has room for a header alone, and nothing of guests is under way. */
static bool go_to_last_block(void)
{
    for (uint32_t i = 0; i < 5000 && !sim_violations && !sim_is_at_last_block(); i++) {
        if (sim_one_in(3))
            try_request();
        else
            sim_step();
    }
    is_paused = true;
    return wait_for_requests() && sim_is_at_last_block();
}

/* A write that goes to the backing itself waits for an earlier one that is in the log: else P2 is
 * broken, for a moment. */
static void write_through_behind(void)
{
    static struct sim_call call;

    write_one(DISK_BLOCKS - 1, SLUICE_FLAG_FUA);
    if (!wait_for_requests())
        return;
    sim_verb(&call, "mode", "write-through");
    wait_for(&call);
    write_one(DISK_BLOCKS - 2, 0);
    for (unsigned i = 0; i < STEPS_MOST && any_busy() && !sim_violations; i++) {
        sim_step();
        if (sim_order_holds())
            check_order(true, "a write that goes through");
    }
}

/* A header that is alone in the last block of its segment is reported failed and lands there all
 * the same.  No other will lie over it, and the next chunk has its number.  True: the power went as
 * well. */
static bool leave_a_header(void)
{
    bool was_power = false;

    if (go_to_last_block() && sim_is_dirty(0, DISK_BLOCKS)) {
        sim_pin_next_segment();
        sim_ssd_faults = SIM_HEADERS_FAIL;
        for (unsigned i = 0; i < 5000 && !sim_has_stepped_down(); i++)
            sim_step();
        crash(false);
        while (!open_or_crash(&was_power))
            ;
        if (sim_is_open() && !sim_violations) {
            tell(SLUICE_EVENT_ATTACH, SLUICE_PHASE_COMMIT);
            write_through_behind();
        }
    }
    is_paused = false;
    return was_power;
}

/* Somebody has edited the policy. */
static void change_order(void)
{
    if (must_order || !sim_one_in(20))
        return;
    config.is_ordered = !config.is_ordered;
    is_always_ordered = false;
}

static void one_point(void)
{
    bool is_power = sim_one_in(2);

    run_until_crash();
    if (!has_faults && !has_rot && sim_is_open() && !sim_violations && sim_one_in(8))
        ask_amid_destage();
    if (has_faults && config.is_ordered && sim_is_open() && !sim_violations && sim_one_in(8))
        is_power |= leave_a_header();
    if (has_faults && sim_is_open() && !sim_violations && sim_one_in(8))
        hang_ssd();
    else if (has_faults && sim_is_open() && !sim_violations && sim_one_in(2))
        fail_ssd();
    if (has_rot && sim_is_open() && !sim_violations && sim_one_in(2))
        rot_ssd();
    if (sim_violations)
        return;
    if (!sim_is_open()) { /* detached */
        is_ssd_needless = false;
        come_back(false);
        return;
    }
    if (sim_one_in(8))
        stop_in_order();
    lasting_faults = sim_one_in(3) ? sim_ssd_faults & ~SIM_HANGS : 0;
    crash(is_power);
    try_strangers();
    if (is_ssd_needless && sim_one_in(3))
        replace_ssd();
    is_ssd_needless = false;
    change_order();
    come_back(is_power);
}

/* --- main
 * --------------------------------------------------------------------------------------------------------
 */

static uint64_t number_of(const char *text)
{
    return text ? strtoull(text, NULL, 0) : 0;
}

int main(int argc, char **argv)
{
    uint64_t seed = 1, wanted = 1000;
    bool until_red = false;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--seed") == 0)
            seed = number_of(argv[++i]);
        else if (strcmp(argv[i], "--points") == 0)
            wanted = number_of(argv[++i]);
        else if (strcmp(argv[i], "--mutant") == 0)
            cache_mutant = (int)number_of(argv[++i]);
        else if (strcmp(argv[i], "--faults") == 0)
            has_faults = true;
        else if (strcmp(argv[i], "--ordered") == 0)
            must_order = true;
        else if (strcmp(argv[i], "--rot") == 0)
            has_rot = true;
        else if (strcmp(argv[i], "--until-red") == 0)
            until_red = true;
        else if (strcmp(argv[i], "--verbose") == 0)
            sim_verbose = 1;
    }
    oracle_make(SECTORS);
    dev_make(&ssd, 1 << 20);
    dev_make(&backing, DISK_BLOCKS * 4096);
    sim_disk.size_bytes = backing.size;
    while (points < wanted && !sim_violations) {
        uint64_t until = points + 40;

        start_over(seed);
        while (points < until && !sim_violations && !is_over)
            one_point();
        if (sim_violations)
            fprintf(stderr, "with --seed %llu%s, after %llu crash points\n",
                    (unsigned long long)seed, cache_mutant ? " and a mutant" : "",
                    (unsigned long long)points);
        seed++;
    }
    printf("{\"crash_points\": %llu, \"kills\": %llu, \"power_cuts\": %llu, \"during_recovery\": "
           "%llu, "
           "\"requests\": %llu, \"drains\": %llu, \"sanitized\": %llu, \"ssd_faults\": %llu, "
           "\"hangs\": %llu, "
           "\"failed_requests\": %llu, "
           "\"said_losses\": %llu, \"stops\": %llu, \"replaced\": %llu, \"refused\": %llu, "
           "\"rotted\": %llu, \"rotted_dirty\": %llu, \"orders_checked\": %llu, "
           "\"violations\": %u}\n",
           (unsigned long long)points, (unsigned long long)kills, (unsigned long long)cuts,
           (unsigned long long)in_recovery, (unsigned long long)requests,
           (unsigned long long)drains, (unsigned long long)sanitized, (unsigned long long)faults,
           (unsigned long long)hangs, (unsigned long long)failed_requests,
           (unsigned long long)said_losses, (unsigned long long)stops, (unsigned long long)replaced,
           (unsigned long long)refused, (unsigned long long)rotted,
           (unsigned long long)rotted_dirty, (unsigned long long)orders, sim_violations);
    return until_red ? sim_violations == 0 : sim_violations != 0;
}
