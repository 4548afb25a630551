/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * disks.c: the disks of a node: those of a group, as windows of the one image; and the gateway's
 * event RESIZE on a lone one, on an order or because its filter wishes for it.  The size is on disk
 * before the filter hears of its commit; between the two the node may die.
 */
#include "pair.h"

#include <errno.h>

/* --- the disks of a group, as windows of the one image
 * ------------------------------------------------------- */

static const struct window {
    uint64_t begins, bytes;
} windows[DISKS] = {{0, 60 << 10}, {64 << 10, 92 << 10}, {160 << 10, 96 << 10}};

uint64_t node_disk_begins(unsigned disk)
{
    return windows[disk].begins;
}

uint64_t node_disk_bytes(unsigned disk)
{
    return windows[disk].bytes;
}

unsigned node_disk_of(const struct node *n, uint64_t block, uint64_t count)
{
    unsigned i = 0;

    while (i < n->disk_count &&
           (block * BLOCK < windows[i].begins ||
            (block + count) * BLOCK > windows[i].begins + n->disks[i].size_bytes))
        i++;
    return i;
}

/* --- what they show --- */

static void put_entry(const struct node *n, const struct entry *e, uint8_t *image)
{
    const uint8_t *record = n->journal.now + e->position % n->r->journal.size;
    struct entry part = *e;
    uint64_t offset, bytes;

    while (backlog_next_run(n->r, &part, &offset, &bytes)) {
        if (e->frame.type == FRAME_WRITE)
            memcpy(image + offset, record + RECORD_BYTES + (offset - e->frame.offset), bytes);
        else
            memset(image + offset, 0, bytes);
        part.done = offset + bytes - e->frame.offset;
    }
}

void node_contents(const struct node *n, uint8_t *image)
{
    memcpy(image, n->image.now, DISK_BYTES);
    for (const struct entry *e = n->r ? n->r->journal.first : NULL; e; e = e->next)
        if (n->r->has_backlog && !e->is_applied && frame_changes_data(&e->frame))
            put_entry(n, e, image);
}

/* --- what is spoiled --- */

/* Below this the state says that the journal is durable: the field at 96. */
static uint64_t saved_synced(struct node *n)
{
    const struct state_file *f = node_state(n, "super");
    const uint8_t *at = f ? f->data + 96 : NULL;

    return f ? le_get(&at, 8) : 0;
}

/* It was durable, and the state or a later record says so. */
static bool is_known_to_be_there(struct node *n, const struct entry *e)
{
    const struct super *s = &n->r->super;

    if (e->position < s->journal_tail || !e->is_journaled)
        return false;
    if (e->position < saved_synced(n))
        return true;
    for (const struct entry *later = e->next; later && later->is_journaled; later = later->next) {
        const uint8_t *at = later->record + 32;

        if (later->record && later->term >= s->journal_life && le_get(&at, 8) > e->position)
            return true;
    }
    return false;
}

void node_spoil_journal(struct node *n)
{
    const struct journal *j = &n->r->journal;

    for (const struct entry *e = j->first; e && n->r->super.role == REPLICA_SECONDARY; e = e->next)
        if (is_known_to_be_there(n, e)) {
            n->journal.now[e->position % j->size + pair_below(RECORD_BYTES)] ^= 1;
            n->is_damaged = true;
            pair_say("-- %d: the journal is damaged at %u", n->number, (unsigned)e->position);
            return;
        }
}

/* --- one grows --- */

static int tell_resize(struct node *n, uint32_t phase, uint64_t size_bytes)
{
    const struct sluice_event event = {.kind = SLUICE_EVENT_RESIZE,
                                       .phase = phase,
                                       .size_bytes = size_bytes,
                                       .deadline_ns = 0, /* nothing is waited for */
                                       .old_bytes =
                                           n->old_bytes < size_bytes ? n->old_bytes : size_bytes};

    return sluice_filter_table()->event(n->members[0], &event, NULL);
}

static void end_resize(struct node *n, uint64_t size_bytes)
{
    pair_say("-- %d has grown to %u", n->number, (unsigned)size_bytes);
    tell_resize(n, SLUICE_PHASE_COMMIT, size_bytes);
    n->disks[0].size_bytes = size_bytes;
}

void node_resize(struct node *n, uint64_t size_bytes, bool is_cut)
{
    if (tell_resize(n, SLUICE_PHASE_PREPARE, size_bytes) < 0)
        return;
    if (n->no_room) {
        tell_resize(n, SLUICE_PHASE_ABORT, size_bytes);
        return;
    }
    n->size_bytes = size_bytes;
    if (!is_cut)
        end_resize(n, size_bytes);
}

/* --- snapshots: the peer's is what the primary's was --- */

#define SNAPSHOTS 256u
static struct shot {
    uint8_t image[DISK_BYTES];
    uint64_t bytes;
    bool is_there[NODES];
} shots[SNAPSHOTS];
static unsigned shot_count;
unsigned long snapshots_made;

void snapshots_wipe(void)
{
    for (unsigned i = 0; i < shot_count; i++)
        memset(shots[i].is_there, 0, sizeof shots[i].is_there);
    shot_count = 0;
}

void node_snapshot(struct node *n)
{
    char name[16];
    const struct sluice_event event = {
        .kind = SLUICE_EVENT_SNAPSHOT, .phase = SLUICE_PHASE_COMMIT, .name = name};
    struct sluice_event before = event;
    struct shot *s = &shots[shot_count];

    before.phase = SLUICE_PHASE_PREPARE;
    if (shot_count == SNAPSHOTS || sluice_filter_table()->event(n->members[0], &before, NULL) < 0)
        return;
    memcpy(s->image, n->image.now, sizeof s->image);
    s->bytes = n->disks[0].size_bytes;
    s->is_there[n->number] = true;
    snprintf(name, sizeof name, "%u", shot_count++);
    sluice_filter_table()->event(n->members[0], &event, NULL);
}

static bool take_shot(struct node *n, struct sluice_wish *wish)
{
    struct shot *s = &shots[(unsigned)atoi(wish->name) % SNAPSHOTS];

    if (s->is_there[n->number] || n->no_room) {
        wish->done(wish, s->is_there[n->number] ? EEXIST : ENOTSUP, "it cannot be made");
        return false;
    }
    if (memcmp(s->image, n->image.now, s->bytes) != 0)
        pair_violation("snapshot %s of side %d is not what the primary's is", wish->name,
                       n->number);
    s->is_there[n->number] = true;
    snapshots_made++;
    return true;
}

/* --- what a filter wishes for, in two steps --- */

bool node_grant_wish(struct node *n, struct sluice_wish *wish)
{
    if (wish->kind == SLUICE_EVENT_SNAPSHOT)
        return take_shot(n, wish);
    if (wish->size_bytes <= n->size_bytes) {
        wish->done(wish, 0, "");
    } else if (n->no_room || tell_resize(n, SLUICE_PHASE_PREPARE, wish->size_bytes) < 0) {
        wish->done(wish, ENOSPC, "there is no room");
    } else {
        n->size_bytes = wish->size_bytes;
        return true;
    }
    return false;
}

void node_end_wish(struct node *n, struct sluice_wish *wish)
{
    if (wish->kind == SLUICE_EVENT_RESIZE)
        end_resize(n, wish->size_bytes);
    wish->done(wish, 0, "");
}

void node_resume(struct node *n)
{
    const struct sluice_event event = {.kind = SLUICE_EVENT_RESUME, .phase = SLUICE_PHASE_COMMIT};

    for (unsigned i = 0; i < n->disk_count; i++)
        sluice_filter_table()->event(n->members[i], &event, NULL);
}
