/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * peers-bugs.c: what other replication systems were bitten by, one history each, in the simulator's
 * world: a fault is put where it hurt, everything around it is chance.  docs/replication.md has the
 * list.  Each must end with both images the same and with what was acknowledged, and be so for
 * every seed.
 *
 *     peers-bugs [--seeds N] [--mutant N] [NAME...]
 */
#include "pair.h"

#include <errno.h>

int replication_mutant;
static struct pair_settings settings;
static const char *name_now;
static uint64_t seed_now;

#define STEPS_MAX 60000u
#define REQUESTS 64u
static struct guest_request requests[REQUESTS];
static unsigned pending;
static uint8_t expected[BLOCKS]; /* what was acknowledged last; 0: nothing */

/* --- the guest
 * -----------------------------------------------------------------------------------------------------------
 */

void guest_done(struct guest_request *q, int32_t error)
{
    q->is_used = false;
    pending--;
    if (!error && !q->is_orphan)
        expected[q->block] = q->data[0];
}

bool guests_are_drained(int node)
{
    for (unsigned i = 0; i < REQUESTS; i++)
        if (requests[i].is_used && requests[i].node == node)
            return false;
    return true;
}

void guests_leave(int node)
{
    for (unsigned i = 0; i < REQUESTS; i++)
        requests[i].is_orphan |= requests[i].is_used && requests[i].node == node;
}

void pair_written(struct node *n, const struct guest_request *q)
{
    (void)n, (void)q;
}

void pair_overwritten(struct node *n, uint64_t offset, uint64_t length, const uint8_t *data)
{
    (void)n, (void)offset, (void)length, (void)data;
}

static bool is_block_busy(uint64_t block)
{
    for (unsigned i = 0; i < REQUESTS; i++)
        if (requests[i].is_used && requests[i].block == block)
            return true;
    return false;
}

static void put(int node, uint64_t block, uint16_t flags)
{
    static const struct sluice_client client = {"sim", "", "", 1, 0};
    struct guest_request *q = requests;

    while (q < requests + REQUESTS && q->is_used)
        q++;
    if (q == requests + REQUESTS || is_block_busy(block))
        return;
    *q = (struct guest_request){.node = node, .block = block, .count = 1, .is_used = true};
    memset(q->data, (int)(1 + pair_below(255)), BLOCK);
    q->pub = (struct sluice_request){.op = SLUICE_OP_WRITE,
                                     .flags = flags,
                                     .offset = block * BLOCK,
                                     .length = BLOCK,
                                     .data = q->data,
                                     .client = &client};
    pending++;
    memory_node = node;
    node_submit(q);
}

static void put_some(int node, unsigned count, uint16_t flags)
{
    while (count--)
        put(node, pair_below(BLOCKS), flags);
}

/* --- the world
 * -----------------------------------------------------------------------------------------------------------
 */

static void wrong(const char *what)
{
    if (!pair_violations)
        pair_violation("%s, seed %u: %s", name_now, (unsigned)seed_now, what);
}

/* Until it is so; if it never is, that is wrong. */
#define UNTIL(condition)                                            \
    do {                                                            \
        for (unsigned n_ = 0; n_ < STEPS_MAX && !(condition); n_++) \
            if (pair_violations || !pair_step())                    \
                break;                                              \
        if (!(condition))                                           \
            wrong("never: " #condition);                            \
        if (pair_violations)                                        \
            return;                                                 \
    } while (0)
#define MUST(condition)                \
    do {                               \
        if (!(condition))              \
            wrong("not: " #condition); \
        if (pair_violations)           \
            return;                    \
    } while (0)

static void run(unsigned steps)
{
    while (steps-- && !pair_violations && pair_step())
        ;
}

static void kill_side(int n, bool is_power)
{
    node_kill(&nodes[n], is_power);
    for (unsigned i = 0; i < REQUESTS; i++)
        if (requests[i].is_used && requests[i].node == n) {
            requests[i].is_used = false;
            pending--;
            expected[requests[i].block] = 0; /* it may be there or not */
        }
    if (is_power)
        memset(expected, 0, sizeof expected); /* it was not flushed: the volatile cache had it */
}

static void start_side(int n)
{
    if (!nodes[n].r && node_start(&nodes[n], &settings) != 0)
        wrong("it does not start");
}

static bool is_at_rest(int primary)
{
    const struct replica *p = nodes[primary].r, *s = nodes[1 - primary].r;

    return p && s && p->link == LINK_STREAMING && s->link == LINK_TARGET && !s->journal.first &&
           !p->resync_wanted && p->acked_journaled >= p->seq && s->batch == BATCH_NONE && !pending;
}

/* Nothing in memory is newer than what is on disk about what may differ, and nothing may. */
static bool is_clean(int n)
{
    const struct evidence *e = &nodes[n].r->evidence;

    return !evidence_is_any(nodes[n].r) && e->commit == COMMIT_IDLE && !e->log_wanted &&
           !e->pages_wanted;
}

static bool is_alone(int n)
{
    return nodes[n].r->is_alone && nodes[n].r->is_serving;
}

static bool is_promoted(int n)
{
    return nodes[n].r->super.role == REPLICA_PRIMARY && !nodes[n].r->is_promoting;
}

static void promote(int n)
{
    memory_node = n;
    roles_promote(nodes[n].r);
}

/* Both up and connected: the end of every history. */
static void heal(int primary)
{
    start_side(0);
    start_side(1);
    link_up();
    UNTIL(is_at_rest(primary));
    for (unsigned b = 0; b < BLOCKS; b++) {
        if (expected[b] && nodes[primary].image.now[b * BLOCK] != expected[b])
            wrong("an acknowledged write is lost");
        if (memcmp(nodes[0].image.now + b * BLOCK, nodes[1].image.now + b * BLOCK, BLOCK) != 0)
            wrong("the two images differ in the end");
    }
}

static void begin(void)
{
    start_side(0);
    start_side(1);
    promote(0);
    link_up();
    UNTIL(is_at_rest(0));
    put_some(0, 12, 0);
    UNTIL(is_at_rest(0));
}

/* The primary has acknowledged alone what the peer lacks. */
static void be_alone(int n)
{
    link_break();
    UNTIL(is_alone(n));
    put_some(n, 8, 0);
    UNTIL(!pending);
}

/* --- the histories
 * --------------------------------------------------------------------------------------------------------
 */

/* The target has the whole batch and says so, but the source does not hear it. */
static void resync_end_missed_by_one_side(void)
{
    be_alone(0);
    link_up();
    UNTIL(nodes[0].r->link == LINK_RESYNC && nodes[0].r->commit_is_sent &&
          nodes[1].r->batch == BATCH_NONE);
    link_break();
    MUST(evidence_is_any(nodes[0].r));
    be_alone(0);
    heal(0);
}

/* The source has heard it, and dies before the bits are cleared on disk. */
static void crash_between_acknowledgement_and_bitmap_clear(void)
{
    be_alone(0);
    link_up();
    UNTIL(nodes[0].r->link == LINK_STREAMING);
    MUST(nodes[0].r->evidence.commit != COMMIT_IDLE);
    kill_side(0, pair_one_in(2));
    start_side(0);
    heal(0);
}

/* An epoch is opened and durable; the link breaks before the peer hears of it, again and again. */
static void epoch_created_and_never_received(void)
{
    for (unsigned i = 0; i < 4; i++) {
        put_some(0, 4, 0);
        run(pair_below(40));
        kill_side(0, pair_one_in(3));
        start_side(0);
        link_up();
        UNTIL(lineage_tip(&nodes[0].r->super.lineage).epoch >
                  lineage_tip(&nodes[1].r->super.lineage).epoch ||
              is_at_rest(0));
        link_break();
        run(pair_below(200));
    }
    link_up();
    UNTIL(nodes[0].r->link == LINK_RESYNC);
    MUST(nodes[0].r->plan == PLAN_SOURCE);
    heal(0);
}

/* What was flushed is there; whichever side had more on its disk, both are the same. */
static void both_crash_and_only_one_had_flushed(void)
{
    int flushed = (int)pair_below(2);
    uint8_t of_fua[BLOCKS];

    for (unsigned b = 0; b < BLOCKS / 2; b += 5)
        put(0, b, SLUICE_FLAG_FUA);
    UNTIL(!pending);
    for (unsigned b = BLOCKS / 2; b < BLOCKS; b += 3)
        put(0, b, 0);
    run(pair_below(300));
    device_flush(&nodes[flushed].image, nodes[flushed].image.number);
    memcpy(of_fua, expected, sizeof of_fua);
    kill_side(0, true);
    kill_side(1, true);
    for (unsigned b = 0; b < BLOCKS / 2; b++)
        expected[b] = b % 5 == 0 ? of_fua[b] : 0;
    heal(0);
}

/* kill -9 leaves a write in the primary's cache; a resync brings it to the peer and settles it;
 * then the power goes. */
static void settled_before_it_was_durable(void)
{
    put_some(0, 10, 0);
    UNTIL(!pending);
    kill_side(0, false);
    start_side(0);
    link_up();
    UNTIL(is_at_rest(0) && is_clean(0));
    kill_side(0, true);
    heal(0);
}

/* The peer has taken over the epoch of a primary that goes alone, and that is killed before it
 * hears of it: its next epoch is no other one from the same point. */
static void epoch_received_and_never_acknowledged(void)
{
    be_alone(0);
    kill_side(0, false);
    start_side(0);
    UNTIL(is_alone(0));
    link_up();
    UNTIL(nodes[1].r->super_saved >= nodes[1].r->super_changes &&
          lineage_tip(&nodes[1].r->super.lineage).id == lineage_tip(&nodes[0].r->super.lineage).id);
    kill_side(0, pair_one_in(2));
    start_side(0);
    heal(0);
}

static void resize_during_resync(void)
{
    struct sluice_event event = {
        .kind = SLUICE_EVENT_RESIZE, .phase = SLUICE_PHASE_PREPARE, .size_bytes = 2 * DISK_BYTES};

    be_alone(0);
    link_up();
    UNTIL(nodes[0].r->link == LINK_RESYNC);
    for (int n = 0; n < NODES; n++) {
        memory_node = n;
        MUST(replica_resize(nodes[n].members[0], &event, NULL) < 0);
    }
    MUST(nodes[0].r->link == LINK_RESYNC);
    heal(0);
}

static void verify_while_the_peer_drops(void)
{
    memory_node = 0;
    verify_start(nodes[0].r, pair_one_in(2) ? 4u << 20 : 0, false);
    put_some(0, 4, 0);
    run(pair_below(120));
    if (pair_one_in(2))
        kill_side(1, pair_one_in(2));
    else
        link_break();
    UNTIL(is_alone(0) && !pending);
    for (uint64_t b = 0; b < BLOCKS; b++) /* nothing is held for a comparison that does not come */
        put(0, b, 0);
    UNTIL(!pending);
    start_side(1);
    link_up();
    UNTIL(!nodes[0].r->verify.is_running);
    MUST(nodes[0].r->verify.last.outcome == VERIFIED_SAME);
    heal(0);
}

/* The second fails while the first is being brought up to date: the first holds an older instant.
 */
static void second_failover_before_the_failback_ends(void)
{
    uint8_t of_second[BLOCKS];

    kill_side(0, pair_one_in(2));
    promote(1);
    UNTIL(is_promoted(1) && is_alone(1));
    for (uint64_t b = 0; b < BLOCKS; b += 2)
        put(1, b, SLUICE_FLAG_FUA);
    UNTIL(!pending);
    memcpy(of_second, expected, sizeof of_second);
    start_side(0);
    link_up();
    UNTIL(nodes[1].r->link == LINK_RESYNC);
    run(pair_below(20));
    MUST(nodes[1].r->link == LINK_RESYNC);
    kill_side(1, pair_one_in(2));
    MUST(nodes[0].r->super.data == DATA_CONSISTENT);
    promote(0);
    UNTIL(is_promoted(0) && is_alone(0));
    memset(expected, 0, sizeof expected);
    put_some(0, 8, 0);
    UNTIL(!pending);
    start_side(1);
    link_up();
    UNTIL(nodes[0].r->plan == PLAN_SPLIT && nodes[1].r->plan == PLAN_SPLIT);
    run(2000);
    MUST(nodes[0].r->plan == PLAN_SPLIT);
    for (uint64_t b = 0; b < BLOCKS; b += 2)
        MUST(nodes[1].image.now[b * BLOCK] == of_second[b]);
    memory_node = 1;
    roles_discard(nodes[1].r, false);
    heal(0);
}

static void resync_source_becomes_target(void)
{
    put_some(0, 8, 0);
    run(pair_below(60));
    kill_side(0, pair_one_in(3));
    start_side(0);
    link_up();
    UNTIL(nodes[0].r->link == LINK_RESYNC);
    run(pair_below(10));
    link_break();
    promote(1);
    UNTIL(is_promoted(1) && is_alone(1));
    memset(expected, 0, sizeof expected);
    put_some(1, 8, 0);
    UNTIL(!pending);
    link_up();
    UNTIL(nodes[0].r->link == LINK_RESTING || is_at_rest(1));
    if (nodes[0].r->plan == PLAN_SPLIT) { /* it had opened an epoch of its own */
        memory_node = 0;
        roles_discard(nodes[0].r, false);
    }
    heal(1);
}

/* A gateway's disk and state are put back as they were when they were copied. */
static struct state_file old_state[STATE_FILES];

static void copy_device(struct device *to, const struct device *from)
{
    device_wipe(to);
    memcpy(to->now, from->media, to->size);
    memcpy(to->media, from->media, to->size);
}

static struct device old_devices[3];

static void keep_side(int n)
{
    struct device *of[] = {&nodes[n].image, &nodes[n].evidence, &nodes[n].journal};

    for (unsigned i = 0; i < 3; i++) {
        device_flush(of[i], of[i]->number);
        if (!old_devices[i].now)
            device_make(&old_devices[i], of[i]->size);
        copy_device(&old_devices[i], of[i]);
    }
    memcpy(old_state, nodes[n].state, sizeof old_state);
}

static void put_back_side(int n)
{
    copy_device(&nodes[n].image, &old_devices[0]);
    copy_device(&nodes[n].evidence, &old_devices[1]);
    copy_device(&nodes[n].journal, &old_devices[2]);
    memcpy(nodes[n].state, old_state, sizeof old_state);
}

static void stale_disk_reattached(void)
{
    kill_side(1, false);
    keep_side(1);
    heal(0);
    put_some(0, 20, 0);
    UNTIL(is_at_rest(0) && is_clean(0));
    kill_side(1, false);
    if (pair_one_in(2)) {
        kill_side(0, false);
        start_side(0);
    }
    put_back_side(1);
    heal(0);
}

/* Both lineages are equal, and one side has bits: they count, whichever side it is. */
static void dirty_bits_outrank_equal_lineages(void)
{
    int n = (int)pair_below(2);
    uint64_t block = pair_below(BLOCKS);

    UNTIL(is_clean(0) && is_clean(1));
    link_break();
    nodes[1].image.now[block * BLOCK] ^= 1;
    memory_node = n;
    evidence_mark(nodes[n].r, block * BLOCK, BLOCK, false);
    if (pair_one_in(2)) {
        evidence_commit(nodes[n].r);
        UNTIL(nodes[n].r->evidence.commit == COMMIT_IDLE);
        kill_side(n, false);
    }
    heal(0);
}

/* A primary that restarts alone a hundred times keeps the epoch that its peer knows. */
static void last_common_epoch_pruned(void)
{
    kill_side(1, pair_one_in(2));
    for (unsigned i = 0; i < LINEAGE_MAX + 36; i++) {
        UNTIL(is_alone(0));
        put_some(0, 2, 0);
        UNTIL(!pending);
        kill_side(0, false);
        start_side(0);
    }
    start_side(1);
    link_up();
    UNTIL(nodes[0].r->link == LINK_RESYNC);
    MUST(nodes[0].r->plan == PLAN_SOURCE);
    heal(0);
}

/* --- the list
 * -------------------------------------------------------------------------------------------------------------
 */

#define HISTORY(name) \
    {                 \
#name, name   \
    }
static const struct {
    const char *name;
    void (*run)(void);
} histories[] = {
    HISTORY(resync_end_missed_by_one_side),
    HISTORY(crash_between_acknowledgement_and_bitmap_clear),
    HISTORY(epoch_created_and_never_received),
    HISTORY(epoch_received_and_never_acknowledged),
    HISTORY(both_crash_and_only_one_had_flushed),
    HISTORY(settled_before_it_was_durable),
    HISTORY(resize_during_resync),
    HISTORY(verify_while_the_peer_drops),
    HISTORY(second_failover_before_the_failback_ends),
    HISTORY(resync_source_becomes_target),
    HISTORY(stale_disk_reattached),
    HISTORY(dirty_bits_outrank_equal_lineages),
    HISTORY(last_common_epoch_pruned),
};

static bool run_seeds(unsigned which, unsigned seeds)
{
    name_now = histories[which].name;
    for (seed_now = 1; seed_now <= seeds; seed_now++) {
        pair_violations = 0;
        pair_seed(seed_now);
        nodes_wipe();
        memset(requests, 0, sizeof requests);
        memset(expected, 0, sizeof expected);
        pending = 0;
        settings = (struct pair_settings){.ack = (int)pair_below(3),
                                          .loss = 1,
                                          .journal_bytes = 1 << 20,
                                          .sends_all = pair_one_in(2)};
        begin();
        if (!pair_violations)
            histories[which].run();
        nodes_wipe();
        if (pair_violations)
            return false;
    }
    printf("%s: %u seeds\n", name_now, seeds);
    return true;
}

int main(int argc, char **argv)
{
    unsigned seeds = 50, failed = 0, names = 0;

    setvbuf(stdout, NULL, _IOLBF, 0);
    nodes_make();
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--seeds") == 0 && i + 1 < argc)
            seeds = (unsigned)atoi(argv[++i]);
        else if (strcmp(argv[i], "--mutant") == 0 && i + 1 < argc)
            replication_mutant = atoi(argv[++i]);
        else if (strcmp(argv[i], "--trace") == 0)
            pair_trace = true;
        else
            argv[names++] = argv[i];
    }
    for (unsigned i = 0; i < sizeof histories / sizeof *histories; i++) {
        bool is_meant = names == 0;

        for (unsigned n = 0; n < names; n++)
            is_meant |= strcmp(argv[n], histories[i].name) == 0;
        if (is_meant)
            failed += !run_seeds(i, seeds);
    }
    printf("%u of the histories went wrong\n", failed);
    return failed != 0;
}
