/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * simulator.c: a guest that writes to whichever side serves, and faults by chance: the link breaks,
 * a side is killed or loses power, is started again, is promoted by force, hands over as planned,
 * is given up after a split brain. At every promotion and restart the image is held against the
 * history; at the end all is healed, and both images have to be equal.
 *
 *     simulator [--seeds FIRST COUNT] [--steps N] [--trace] [--mutant N] [--coverage]
 *               [--group]: three disks that are one instant
 *               [--grow]: the disk is smaller at first, and grows; snapshots
 *               [--backlog]: slow disks, promotions while much is not applied, and
 * deaths while it is served
 *               [--records]: each seed, not one in nine, changes what goes with a disk
 *               [--spill]: all asynchronous, a link that often breaks, but
 *               not before the first copy is there
 */
#include "history.h"

static unsigned steps = 2000;
static struct pair_settings settings;
static int home; /* whom the guest takes for the primary */
static enum link_state link_before;
static bool is_group, is_spill, is_grow, is_backlog, all_records, wants_snapshot;
static bool has_streamed; /* with is_spill nothing breaks before */
static bool was_acked_alone, peer_died, peer_was_cut, verifies;
static unsigned long covered[LINK_STATES][LINK_STATES], promotions, handovers, discards, restarts,
    full_times, damaged, backlogs, killed_backlogs, lost_logs, verified, plans[PLAN_REFUSE + 1];

#define REQUESTS 24u
#define DEPTH 6u
static struct guest_request requests[REQUESTS];
static uint64_t flush_marks[REQUESTS][BLOCKS], record_marks[REQUESTS][DISKS];

/* --- the guest
 * ----------------------------------------------------------------------------------------------------
 */

static bool is_block_busy(uint64_t block, uint64_t count)
{
    for (unsigned i = 0; i < REQUESTS; i++)
        if (requests[i].is_used && !requests[i].is_orphan &&
            requests[i].pub.op != SLUICE_OP_FLUSH &&
            block < requests[i].block + requests[i].count && requests[i].block < block + count)
            return true;
    return false;
}

static struct guest_request *free_request(void)
{
    unsigned active = 0;

    for (unsigned i = 0; i < REQUESTS; i++)
        active += requests[i].is_used && !requests[i].is_orphan;
    for (unsigned i = 0; i < REQUESTS && active < DEPTH; i++)
        if (!requests[i].is_used)
            return &requests[i];
    return NULL;
}

static void note_capture(struct guest_request *q)
{
    const struct captured *c = (const struct captured *)(const void *)q->scratch;

    if (q->pub.op != SLUICE_OP_FLUSH && c->seq)
        history_capture(q->version, c->seq, c->numbers > 1);
}

/* A guest's flush is about the disk that it is sent to. */
static void begin_flush(const struct guest_request *q)
{
    uint64_t *mark = flush_marks[q - requests];

    history_flush_begin(mark);
    history_record_mark(record_marks[q - requests]);
    for (uint64_t b = 0; b < BLOCKS; b++)
        if (node_disk_of(&nodes[home], b, 1) != q->disk)
            mark[b] = 0;
}

static void end_flush(const struct guest_request *q)
{
    history_flush_end(flush_marks[q - requests]);
    history_record_acknowledge(record_marks[q - requests]);
}

static void issue(void)
{
    struct guest_request *q = wants_snapshot ? NULL : free_request();
    static const struct sluice_client client = {"sim", "", "", 1, 0};
    uint32_t kind = pair_below(10);

    if (!q || !nodes[home].r || nodes[home].is_gated)
        return;
    q->node = home;
    q->count = 1 + pair_below(3);
    q->block = pair_below((uint32_t)(BLOCKS - q->count + 1));
    q->pub = (struct sluice_request){.op = kind == 0   ? SLUICE_OP_FLUSH
                                           : kind == 1 ? SLUICE_OP_ZERO
                                                       : SLUICE_OP_WRITE,
                                     .client = &client};
    q->disk = is_group ? pair_below(DISKS) : 0;
    if (q->pub.op == SLUICE_OP_FLUSH) {
        begin_flush(q);
    } else {
        if (is_block_busy(q->block, q->count) ||
            node_disk_of(&nodes[home], q->block, q->count) == nodes[home].disk_count)
            return;
        q->pub.length = q->count * BLOCK;
        q->pub.flags = pair_one_in(8) ? SLUICE_FLAG_FUA : 0;
        q->pub.data = q->pub.op == SLUICE_OP_WRITE ? q->data : NULL;
        q->version = history_issue(q->block, q->count, q->pub.data);
    }
    q->is_used = true;
    q->is_orphan = false;
    pair_say("   guest op %u version %u block %u count %u at %d", q->pub.op, (unsigned)q->version,
             (unsigned)q->block, (unsigned)q->count, home);
    memory_node = home;
    if (pair_one_in(4)) {
        node_submit_later(q);
        return;
    }
    node_submit(q);
    note_capture(q);
}

void guest_done(struct guest_request *q, int32_t error)
{
    if (q->pub.op == SLUICE_OP_READ) {
        reads_end(q, error);
        return;
    }
    q->is_used = false;
    pair_say("   done version %u error %d%s", (unsigned)q->version, error,
             q->is_orphan ? " (orphan)" : "");
    if (q->is_orphan)
        return;
    note_capture(q);
    if (error == ESHUTDOWN)
        pair_violation("side %d refuses a request of a guest that is there", q->node);
    if (error) {
        if (q->pub.op != SLUICE_OP_FLUSH)
            history_doubt(q->version);
        return;
    }
    if (settings.mode == 1 || (nodes[q->node].r && nodes[q->node].r->is_alone &&
                               nodes[q->node].r->link != LINK_STREAMING))
        was_acked_alone = true;
    if (q->pub.op == SLUICE_OP_FLUSH)
        end_flush(q);
    else
        history_acknowledge(q->version, q->pub.flags & SLUICE_FLAG_FUA);
}

static void note_captures(void)
{
    for (unsigned i = 0; i < REQUESTS; i++)
        if (requests[i].is_used && !requests[i].is_orphan)
            note_capture(&requests[i]);
}

/* Whatever it was about may have happened or not. */
static void forget_requests(int node)
{
    reads_forget(node);
    for (unsigned i = 0; i < REQUESTS; i++)
        if (requests[i].is_used && requests[i].node == node) {
            requests[i].is_used = nodes[node].r != NULL;
            if (requests[i].pub.op != SLUICE_OP_FLUSH)
                history_doubt(requests[i].version);
            requests[i].is_orphan = true;
        }
}

/* --- what happens to the sides
 * -------------------------------------------------------------------------------------- */

static uint8_t shown[DISK_BYTES]; /* what a side's guests would read now */

/* Of one that died: what it would show if it were started again. */
static void show_again(int n, bool had_backlog)
{
    if (had_backlog && node_start(&nodes[n], &settings) != 0)
        pair_violation("side %d does not start", n);
    killed_backlogs += had_backlog;
    node_contents(&nodes[n], shown);
    if (had_backlog)
        node_forget(&nodes[n]);
}

static void kill_node(int n, bool is_power)
{
    bool had_backlog = nodes[n].r && nodes[n].r->has_backlog;

    if (!nodes[n].r)
        return;
    note_captures();
    node_kill(&nodes[n], is_power);
    forget_requests(n);
    if (n != home) {
        peer_died = true;
        peer_was_cut |= is_power;
    } else {
        link_before = LINK_DOWN;
        show_again(n, had_backlog);
        if (is_power)
            history_check(shown, FLOOR_FLUSHED, "after a power cut of the primary");
        else
            history_check(shown, FLOOR_SERVED, "after kill -9 of the primary");
        if (is_power)
            history_lower(shown);
        if (is_power)
            history_doubt(0);
        /* What it lost may be lost on the other side too, once a batch from it is there. */
        peer_was_cut |= is_power;
    }
}

bool guests_are_drained(int node)
{
    for (unsigned i = 0; i < REQUESTS; i++)
        if (requests[i].is_used && requests[i].node == node)
            return false;
    return reads_are_drained(node);
}

void guests_leave(int node)
{
    forget_requests(node);
}

static void start_node(int n)
{
    if (nodes[n].r)
        return;
    restarts++;
    if (pair_one_in(20) && nodes[n].evidence.number) {
        pair_say("-- %d: the activity log is lost", n);
        device_wipe(&nodes[n].evidence);
        lost_logs++;
    }
    if (node_start(&nodes[n], &settings) != 0)
        pair_violation("side %d does not start", n);
    else if (nodes[n].is_damaged && !nodes[n].r->super.is_damaged)
        pair_violation("side %d takes a damaged journal for a whole one", n);
    damaged += nodes[n].is_damaged;
    nodes[n].is_damaged = false;
}

/* The images that the other side may have to show, should it be promoted now. */
static void check_promoted(int n, bool is_protected)
{
    const char *when = "after a promotion";
    enum floor floor = !is_protected                                      ? FLOOR_NONE
                       : peer_was_cut || (peer_died && settings.ack == 0) ? FLOOR_FLUSHED
                                                                          : FLOOR_ACKNOWLEDGED;

    node_contents(&nodes[n], shown);
    history_check(shown, floor, when);
    history_check_prefix(shown, when);
    told_check(n, shown, is_protected, when);
    history_settle(shown, is_protected);
    backlogs += nodes[n].r->has_backlog;
}

static void run(unsigned most)
{
    while (most-- && !pair_violations && pair_step())
        note_captures();
}

static bool promote(int n)
{
    struct replica *r = nodes[n].r;

    if (!r || r->super.role == REPLICA_PRIMARY || r->super.data != DATA_CONSISTENT ||
        r->super.is_damaged)
        return false;
    memory_node = n;
    link_break();
    told_promoting(n);
    roles_promote(r);
    for (unsigned i = 0; i < 5000 && r->is_promoting && nodes[n].r; i++)
        run(1);
    if (r->is_promoting) {
        pair_violation("a promotion does not end");
        return false;
    }
    promotions++;
    forget_requests(home);
    home = n;
    /* The other side may have gone on alone until now. */
    check_promoted(n, settings.mode == 0 && !was_acked_alone);
    was_acked_alone = true; /* the other side may lack what is here, until the first batch */
    peer_died = peer_was_cut = false;
    link_before = LINK_DOWN;
    return true;
}

/* Planned: the peer serves when everything is there. */
static void hand_over(void)
{
    struct replica *r = nodes[home].r;
    int other = 1 - home;

    if (!r || r->link != LINK_STREAMING || !nodes[other].r)
        return;
    memory_node = home;
    r->is_handing_over = true;
    roles_demote(r);
    for (unsigned i = 0; i < 5000 && nodes[other].r->super.role != REPLICA_PRIMARY; i++) {
        run(1);
        if (pair_violations || (!r->is_demoting && r->super.role == REPLICA_PRIMARY))
            return; /* not demoted: something came between */
    }
    if (nodes[other].r->super.role != REPLICA_PRIMARY) {
        pair_violation("a handover does not end");
        return;
    }
    handovers++;
    for (unsigned i = 0; i < 5000 && nodes[other].r->is_promoting; i++)
        run(1);
    node_contents(&nodes[other], shown);
    history_check(shown, FLOOR_SERVED, "after a handover");
    told_check(other, shown, true, "after a handover");
    forget_requests(home);
    home = other;
    history_settle(shown, true);
    backlogs += nodes[other].r->has_backlog;
    was_acked_alone = peer_died = peer_was_cut = false;
    link_before = LINK_DOWN;
}

/* The side that the guest has left gives its own writes up. */
static void resolve_split(void)
{
    int other = 1 - home;

    if (!nodes[other].r || !nodes[home].r)
        return;
    if (nodes[other].r->plan == PLAN_SPLIT || nodes[home].r->plan == PLAN_SPLIT) {
        memory_node = other;
        discards++;
        roles_discard(nodes[other].r, pair_one_in(8));
    }
}

/* Both sides are compared while everything goes on: what differs must be known to, so none is
 * found. */
static void verify(void)
{
    struct replica *r = nodes[home].r;

    if (!r || r->link != LINK_STREAMING || r->super.role != REPLICA_PRIMARY || r->verify.is_running)
        return;
    memory_node = home;
    verify_start(r, pair_one_in(2) ? 1u << 20 : 0, false);
}

static void watch_verify(struct replica *r)
{
    if (!r->verify.now.differing_bytes && r->verify.last.outcome == VERIFIED_NEVER)
        return;
    if (r->verify.now.differing_bytes)
        pair_violation("verify finds %u bytes that differ",
                       (unsigned)r->verify.now.differing_bytes);
    verified += r->verify.last.outcome == VERIFIED_SAME;
    r->verify.last.outcome = VERIFIED_NEVER;
}

/* --- the disk grows
 * ------------------------------------------------------------------------------------------------
 */

#define FIRST_BYTES (DISK_BYTES - 13 * BLOCK)
static struct replica *asker; /* the source that has asked its peer to grow first */
static int asker_node;
static uint64_t asked_bytes;
static unsigned long growths, cut_growths;

/* Beyond the end the backings hold what somebody has left there, or nothing. */
static void make_small(void)
{
    uint8_t data[BLOCK];

    for (int n = 0; n < NODES; n++) {
        nodes[n].size_bytes = FIRST_BYTES;
        nodes[n].old_bytes = FIRST_BYTES + (pair_one_in(2) ? 0 : 1 + pair_below(13)) * BLOCK;
        for (uint64_t b = FIRST_BYTES / BLOCK; b < nodes[n].old_bytes / BLOCK; b++) {
            history_leave(b, data);
            device_write(&nodes[n].image, b * BLOCK, BLOCK, data);
        }
        device_flush(&nodes[n].image, UINT64_MAX);
    }
}

/* The operator's resize waits for the peer; its policy says the new size already. */
static void end_growth(void)
{
    struct node *n = &nodes[asker_node];

    if (n->r == asker && asker->growth.state == GROWTH_ASKED)
        return;
    if (n->r == asker && asker->growth.state == GROWTH_AGREED) {
        bool is_cut = pair_one_in(8);

        memory_node = asker_node;
        node_resize(n, asked_bytes, is_cut);
        growths += n->disks[0].size_bytes == asked_bytes;
        cut_growths += is_cut;
        if (is_cut)
            kill_node(asker_node, pair_one_in(2));
    } else if (n->r != asker && pair_one_in(2) && !n->r) {
        n->size_bytes = asked_bytes; /* it begins with what the policy says */
    }
    if (n->r == asker)
        asker->growth.state = GROWTH_IDLE;
    asker = NULL;
}

static void begin_growth(void)
{
    struct node *n = &nodes[home];
    uint64_t size = n->size_bytes + (1 + pair_below(5)) * BLOCK;

    if (!n->r || size > DISK_BYTES)
        return;
    memory_node = home;
    if (growth_ask(n->r, size, NULL) < 0)
        return;
    asker = n->r;
    asker_node = home;
    asked_bytes = size;
}

/* When nothing of the guests is under way, which is a quiesced disk. */
static void take_snapshot(void)
{
    struct node *n = &nodes[home];

    if (!wants_snapshot || pair_one_in(60) || !n->r) {
        wants_snapshot = n->r && !wants_snapshot && pair_one_in(80);
        return;
    }
    if (n->is_gated || n->r->super.role != REPLICA_PRIMARY || !guests_are_drained(home))
        return;
    wants_snapshot = false;
    memory_node = home;
    node_snapshot(n);
}

static void grow(void)
{
    take_snapshot();
    for (int n = 0; n < NODES; n++)
        if (pair_one_in(nodes[n].no_room ? 40 : 400))
            nodes[n].no_room = !nodes[n].no_room;
    if (asker)
        end_growth();
    else if (pair_one_in(60))
        begin_growth();
}

static void watch(void)
{
    struct replica *r = nodes[home].r;

    for (int n = 0; n < NODES; n++)
        if (nodes[n].r && strstr(nodes[n].r->link_reason, "past the end"))
            pair_violation("side %d is sent what lies behind its end", n);

    if (!r)
        return;
    watch_verify(r);
    if (nodes[0].stales + nodes[1].stales)
        pair_violation("a disk that is not older than it should be is taken for it");
    if (r->link == LINK_STREAMING && !r->super.was_alone)
        was_acked_alone = false;
    if (r->link != link_before) {
        covered[link_before][r->link]++;
        plans[r->plan]++;
        if (r->link == LINK_STREAMING) {
            has_streamed = true;
            history_base(r->commit_seq);
            peer_died = peer_was_cut = false;
        }
        link_before = r->link;
    }
}

/* Below the follower it is slow; it is promoted when the primary has died, and dies as well. */
static void fault_backlog(void)
{
    const struct replica *r = nodes[1 - home].r;
    bool is_behind = r && r->link == LINK_TARGET && r->journal.first && nodes[1 - home].is_slow;

    if (nodes[home].r && nodes[home].r->has_backlog && pair_one_in(120))
        kill_node(home, pair_one_in(2));
    if (is_behind && link_before == LINK_STREAMING && pair_one_in(30)) {
        kill_node(home, pair_one_in(2));
        promote(1 - home);
    }
    if (pair_one_in(60))
        nodes[1 - home].is_slow = true;
}

static void fault(void)
{
    int other;

    if (is_backlog)
        fault_backlog();
    other = 1 - home;

    if (pair_one_in(is_spill ? 200 : 400))
        link_break();
    if (!link_is_up() && pair_one_in(12))
        link_up();
    if (pair_one_in(900))
        kill_node(home, pair_one_in(3));
    if (pair_one_in(900))
        kill_node(other, pair_one_in(3));
    for (int i = 0; i < NODES; i++)
        if (!nodes[i].r && pair_one_in(25))
            start_node(i);
    if (!nodes[home].r && pair_one_in(20))
        promote(other);
    if (pair_one_in(600))
        hand_over();
    if (is_grow)
        grow();
    if (pair_has_records && pair_one_in(40))
        told_change(home);
    if (verifies && pair_one_in(30))
        verify();
    if (!link_is_up() && pair_one_in(300))
        promote(other);
    if (pair_one_in(20))
        resolve_split();
    for (int i = 0; i < NODES; i++) {
        if (pair_one_in(nodes[i].is_full ? 40 : 400))
            nodes[i].is_full = !nodes[i].is_full;
        if (pair_one_in(nodes[i].is_slow ? 200 : 600))
            nodes[i].is_slow = !nodes[i].is_slow;
        full_times += nodes[i].r && nodes[i].r->seals.error[0];
        if (pair_one_in(20))
            seals_drop(i);
    }
    if (pair_one_in(nodes[home].fails_io ? 30 : 900))
        nodes[home].fails_io = !nodes[home].fails_io;
}

/* --- a seed
 * ---------------------------------------------------------------------------------------------------------------
 */

static bool is_at_rest(void)
{
    const struct replica *p = nodes[home].r, *s = nodes[1 - home].r;

    return p && s && !asker && !s->growth.is_wished && p->link == LINK_STREAMING &&
           s->link == LINK_TARGET && !s->journal.first && !p->has_backlog && !p->resync_wanted &&
           !p->spill.is_explained && p->acked_journaled >= p->seq && s->batch == BATCH_NONE;
}

static void heal(void)
{
    for (unsigned i = 0; i < 60000 && !pair_violations; i++) {
        nodes[0].fails_io = nodes[1].fails_io = nodes[0].is_full = nodes[1].is_full = false;
        nodes[0].no_room = nodes[1].no_room = nodes[0].is_slow = nodes[1].is_slow = false;
        if (asker)
            end_growth();
        seals_drop(0);
        seals_drop(1);
        start_node(0);
        start_node(1);
        link_up();
        if (i % 64 == 0)
            resolve_split();
        if (nodes[0].r && nodes[1].r && nodes[0].r->super.role == REPLICA_SECONDARY &&
            nodes[1].r->super.role == REPLICA_SECONDARY && i % 512 == 511 &&
            !nodes[home].r->is_promoting) {
            memory_node = home;
            roles_promote(nodes[home].r);
        }
        run(1);
        watch();
        if (is_at_rest())
            return;
    }
    if (!pair_violations)
        pair_violation("the sides do not come to rest: %s, %s; plans %s, %s",
                       nodes[home].r ? link_name(nodes[home].r->link) : "dead",
                       nodes[1 - home].r ? link_name(nodes[1 - home].r->link) : "dead",
                       nodes[home].r ? plan_name(nodes[home].r->plan) : "",
                       nodes[1 - home].r ? plan_name(nodes[1 - home].r->plan) : "");
}

static bool is_drained(void)
{
    for (unsigned i = 0; i < REQUESTS; i++)
        if (requests[i].is_used)
            return false;
    return reads_are_drained(0) && reads_are_drained(1);
}

static bool run_verify(bool repairs)
{
    struct replica *r = nodes[home].r;

    memory_node = home;
    verify_start(r, 0, repairs);
    for (unsigned i = 0;
         i < 20000 && (r->verify.is_running || !is_at_rest() || r->verify.is_repairing); i++)
        run(1);
    return !r->verify.is_running && !r->verify.is_repairing;
}

/* A bit that turns on the other side's disk behind its back is found, and nothing else; repaired,
 * it is gone. */
static void check_that_verify_finds(void)
{
    struct replica *r = nodes[home].r;
    struct device *d = &nodes[1 - home].image;
    uint64_t at = pair_below(DISK_BYTES), grain;

    while (node_disk_of(&nodes[home], at / BLOCK, 1) == nodes[home].disk_count)
        at = pair_below(DISK_BYTES);
    grain = at / GRAIN_BYTES;
    if (!run_verify(false) || r->verify.last.outcome != VERIFIED_SAME)
        pair_violation("at the end verify finds %u bytes that differ",
                       (unsigned)r->verify.last.differing_bytes);
    d->now[at] ^= 1;
    if (!run_verify(true) || r->verify.last.differing_bytes != GRAIN_BYTES ||
        !(r->verify.differs[grain / 8] >> (grain % 8) & 1))
        pair_violation("verify does not find the one grain that differs");
    if (!r->verify.last.is_repaired ||
        memcmp(nodes[0].image.now, nodes[1].image.now, nodes[home].size_bytes) != 0)
        pair_violation("what verify has found is not repaired");
    r->verify.last.outcome = VERIFIED_NEVER;
    verified += 2;
}

static void finish(void)
{
    heal();
    for (unsigned i = 0; i < 20000 && !pair_violations && !(is_drained() && is_at_rest()); i++) {
        run(1);
        watch();
    }
    if (pair_violations)
        return;
    if (!is_drained())
        pair_violation("a request of the guest never ends");
    else if (memcmp(nodes[0].image.now, nodes[1].image.now, nodes[home].size_bytes) != 0)
        history_tell_difference(nodes[home].image.now, nodes[1 - home].image.now);
    else
        history_check(nodes[home].image.now, FLOOR_SERVED, "at the end");
    told_check_healed(home);
    if (!pair_violations)
        check_that_verify_finds();
}

static void begin(uint64_t seed)
{
    static const uint64_t spill_sizes[4] = {0, 64 << 10, 160 << 10, 640 << 10};

    pair_seed(seed);
    nodes_wipe();
    history_reset();
    memset(requests, 0, sizeof requests);
    reads_reset();
    settings = (struct pair_settings){.mode = pair_one_in(3),
                                      .ack = (int)pair_below(3),
                                      .loss = (int)pair_below(2),
                                      .journal_bytes = pair_one_in(3) ? 128 << 10 : 1 << 20,
                                      .sends_all = seed % 3 != 0,
                                      .spill_bytes = spill_sizes[seed % 4],
                                      .disks = is_group ? DISKS : 0};
    if (is_spill) {
        settings.mode = 1;
        settings.spill_bytes = spill_sizes[1 + seed % 3];
    }
    pair_has_records = seed % 9 == 5 || all_records;
    verifies = seed % 9 == 3; /* the others are what they were before there was a verify */
    home = 0;
    has_streamed = false;
    link_before = LINK_DOWN;
    was_acked_alone = peer_died = peer_was_cut = false;
    asker = NULL, wants_snapshot = false;
    if (is_grow)
        make_small();
    start_node(0);
    start_node(1);
    memory_node = 0;
    roles_promote(nodes[0].r);
    link_up();
}

static void run_seed(uint64_t seed)
{
    begin(seed);
    for (unsigned i = 0; i < steps && !pair_violations; i++) {
        if (pair_one_in(3))
            issue();
        if (pair_one_in(6))
            reads_issue(home);
        if (has_streamed || !is_spill)
            fault();
        run(1);
        watch();
    }
    finish();
    nodes_wipe();
}

static void print_coverage(void)
{
    printf("%lu promotions, %lu handovers, %lu starts, %lu given up, %lu verified\n", promotions,
           handovers, restarts, discards, verified);
    printf("%lu sealed sectors overwritten, %lu steps without room for a seal, %lu seals dropped\n",
           seals_used, full_times, seals_dropped);
    printf("%llu replayed batches, %llu changes of tier\n",
           (unsigned long long)(nodes[0].replays + nodes[1].replays),
           (unsigned long long)(nodes[0].tiers + nodes[1].tiers));
    printf("%lu growths, %lu cut off, %lu snapshots\n", growths, cut_growths, snapshots_made);
    printf("%lu promoted with a backlog, %lu killed with one, %lu of %lu reads waited\n", backlogs,
           killed_backlogs, reads_held, reads_done);
    printf("%lu promotions waited for records\n", told_behind);
    printf("%lu damaged journals, %lu lost activity logs\n", damaged, lost_logs);
    for (int from = 0; from < LINK_STATES; from++)
        for (int to = 0; to < LINK_STATES; to++)
            if (covered[from][to])
                printf("    %s -> %s: %lu\n", link_name((enum link_state)from),
                       link_name((enum link_state)to), covered[from][to]);
    for (int p = 0; p <= PLAN_REFUSE; p++)
        printf("    plan %s: %lu\n", plan_name((enum plan)p), plans[p]);
}

int replication_mutant;

int main(int argc, char **argv)
{
    uint64_t first = 1, count = 100, failed = 0;
    bool covers = false;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--seeds") == 0 && i + 2 < argc) {
            first = strtoull(argv[++i], NULL, 10);
            count = strtoull(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "--steps") == 0 && i + 1 < argc) {
            steps = (unsigned)atoi(argv[++i]);
        } else if (strcmp(argv[i], "--mutant") == 0 && i + 1 < argc) {
            replication_mutant = atoi(argv[++i]);
        } else if (strcmp(argv[i], "--trace") == 0) {
            pair_trace = true;
        } else if (strcmp(argv[i], "--group") == 0) {
            is_group = true;
        } else if (strcmp(argv[i], "--grow") == 0) {
            is_grow = true;
        } else if (strcmp(argv[i], "--records") == 0) {
            all_records = true;
        } else if (strcmp(argv[i], "--spill") == 0) {
            is_spill = true;
        } else if (strcmp(argv[i], "--backlog") == 0) {
            is_backlog = true;
        } else if (strcmp(argv[i], "--coverage") == 0) {
            covers = true;
        } else {
            fprintf(stderr, "usage: simulator [--seeds FIRST COUNT] [--steps N] [--trace] "
                            "[--mutant N] [--coverage] [--group] [--grow] [--spill] [--backlog] "
                            "[--records]\n");
            return 3;
        }
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    nodes_make();
    for (uint64_t seed = first; seed < first + count; seed++) {
        pair_violations = 0;
        run_seed(seed);
        if (!pair_violations)
            continue;
        printf("seed %llu: mode %d ack %d loss %d journal %llu\n", (unsigned long long)seed,
               settings.mode, settings.ack, settings.loss,
               (unsigned long long)settings.journal_bytes);
        failed++;
        if (replication_mutant || failed >= 5)
            break;
    }
    if (covers)
        print_coverage();
    printf("%llu seeds of %u steps, %llu failed\n", (unsigned long long)count, steps,
           (unsigned long long)failed);
    return failed != 0;
}
