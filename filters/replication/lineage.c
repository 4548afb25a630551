/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lineage.c: see lineage.h.  Dirty evidence outranks identity: equal lineages never mean "nothing
 * to do", only who sends; what is sent is decided by the evidence of both sides.
 */
#include "lineage.h"

#include "frames.h"

#include <string.h>

/* --- codec
 * ------------------------------------------------------------------------------------------------
 */

size_t lineage_put(uint8_t *out, const struct lineage *l)
{
    uint8_t *at = out;

    le_put(&at, l->count, 8);
    for (uint32_t i = 0; i < l->count; i++) {
        le_put(&at, l->entry[i].epoch, 8);
        le_put(&at, l->entry[i].id, 8);
        le_put(&at, l->entry[i].start_seq, 8);
    }
    return (size_t)(at - out);
}

bool lineage_get(struct lineage *l, const uint8_t *at, size_t length)
{
    uint64_t count;

    memset(l, 0, sizeof *l);
    if (length < 8)
        return false;
    count = le_get(&at, 8);
    if (count > LINEAGE_MAX || length != 8 + count * 24)
        return false;
    l->count = (uint32_t)count;
    for (uint32_t i = 0; i < count; i++) {
        struct lineage_entry *e = &l->entry[i];

        e->epoch = le_get(&at, 8);
        e->id = le_get(&at, 8);
        e->start_seq = le_get(&at, 8);
        if (i && e->epoch <= e[-1].epoch)
            return false;
    }
    return true;
}

enum { SAYS_EVIDENCE = 1, SAYS_ALONE = 2, SAYS_GROWS = 4, SAYS_SNAPSHOTS = 8, SAYS_RECORDS = 16 };

size_t hello_put(uint8_t *out, const struct hello *h)
{
    uint8_t *at = out;

    le_put(&at, h->role, 1);
    le_put(&at, h->data, 1);
    le_put(&at,
           (h->has_evidence ? SAYS_EVIDENCE : 0) | (h->was_alone ? SAYS_ALONE : 0) |
               (h->can_grow ? SAYS_GROWS : 0) | (h->can_snapshot ? SAYS_SNAPSHOTS : 0) |
               (h->can_record ? SAYS_RECORDS : 0),
           6);
    le_put(&at, h->size_bytes, 8);
    le_put(&at, h->seq, 8);
    le_put(&at, h->disk_id, 8);
    le_put(&at, h->has_seq, 8);
    return (size_t)(at - out) + lineage_put(at, &h->lineage);
}

bool hello_get(struct hello *h, const uint8_t *data, size_t length)
{
    const uint8_t *at = data;
    uint64_t says;

    memset(h, 0, sizeof *h);
    if (length < 48)
        return false;
    h->role = (uint8_t)le_get(&at, 1);
    h->data = (uint8_t)le_get(&at, 1);
    says = le_get(&at, 6);
    h->has_evidence = says & SAYS_EVIDENCE;
    h->was_alone = says & SAYS_ALONE;
    h->can_grow = says & SAYS_GROWS;
    h->can_snapshot = says & SAYS_SNAPSHOTS;
    h->can_record = says & SAYS_RECORDS;
    h->size_bytes = le_get(&at, 8);
    h->seq = le_get(&at, 8);
    h->disk_id = le_get(&at, 8);
    h->has_seq = le_get(&at, 8);
    return h->role <= REPLICA_PRIMARY && h->data <= DATA_CONSISTENT &&
           lineage_get(&h->lineage, at, length - (size_t)(at - data));
}

/* --- the list
 * --------------------------------------------------------------------------------------------- */

struct lineage_entry lineage_tip(const struct lineage *l)
{
    return l->count ? l->entry[l->count - 1] : (struct lineage_entry){0};
}

void lineage_add(struct lineage *l, uint64_t epoch, uint64_t id, uint64_t start_seq)
{
    if (l->count == LINEAGE_MAX) {
        memmove(l->entry, l->entry + 1, (LINEAGE_MAX - 1) * sizeof l->entry[0]);
        l->count--;
    }
    l->entry[l->count++] = (struct lineage_entry){epoch, id, start_seq};
}

static bool is_same(const struct lineage_entry *a, const struct lineage_entry *b)
{
    return a->epoch == b->epoch && a->id == b->id;
}

/* The position of `e` in the list, or -1. */
static int find(const struct lineage *l, const struct lineage_entry *e)
{
    for (int i = (int)l->count - 1; i >= 0; i--)
        if (is_same(&l->entry[i], e))
            return i;
    return -1;
}

/* The last entry of `mine` that `theirs` has too: its position in each, or false. */
static bool find_common(const struct lineage *mine, const struct lineage *theirs, int *here,
                        int *there)
{
    for (*here = (int)mine->count - 1; *here >= 0; (*here)--) {
        *there = find(theirs, &mine->entry[*here]);
        if (*there >= 0)
            return true;
    }
    return false;
}

void lineage_cut(struct lineage *mine, const struct lineage *theirs)
{
    int here, there;

    mine->count = find_common(mine, theirs, &here, &there) ? (uint32_t)here + 1 : 0;
}

static uint64_t start_after(const struct lineage *l, int position)
{
    return (uint32_t)position + 1 < l->count ? l->entry[position + 1].start_seq : UINT64_MAX;
}

enum relation lineage_compare(const struct lineage *mine, const struct lineage *theirs,
                              uint64_t *fork_seq)
{
    int here, there;
    bool i_end, they_end;

    *fork_seq = 0;
    if (!mine->count || !theirs->count)
        return !mine->count && !theirs->count ? RELATION_EQUAL
               : mine->count                  ? RELATION_AHEAD
                                              : RELATION_BEHIND;
    if (!find_common(mine, theirs, &here, &there))
        return RELATION_UNRELATED;
    i_end = (uint32_t)here + 1 == mine->count;
    they_end = (uint32_t)there + 1 == theirs->count;
    *fork_seq = start_after(mine, here);
    if (start_after(theirs, there) < *fork_seq)
        *fork_seq = start_after(theirs, there);
    if (i_end && they_end)
        return RELATION_EQUAL;
    return i_end ? RELATION_BEHIND : they_end ? RELATION_AHEAD : RELATION_FORK;
}

/* --- the decision
 * ------------------------------------------------------------------------------------------- */

const char *plan_name(enum plan plan)
{
    static const char *const names[] = {"wait",        "source",    "target",         "full source",
                                        "full target", "step down", "they step down", "split brain",
                                        "grow",        "refuse"};

    return names[plan];
}

/* One primary: I, if is_mine. */
static enum plan with_one_primary(const struct hello *primary, const struct hello *other,
                                  bool is_mine, enum relation relation, const char **reason)
{
    /* `relation` is seen from the primary.  Whoever acknowledged what the other lacks is not
     * overwritten. */
    if (relation == RELATION_UNRELATED || relation == RELATION_FORK) {
        *reason = relation == RELATION_FORK ? "both sides were promoted from the same point"
                                            : "the two sides have never been the same disk";
        return PLAN_SPLIT;
    }
    if (relation == RELATION_BEHIND) {
        *reason = "the primary was succeeded by the other side";
        if (primary->was_alone)
            return PLAN_SPLIT;
        return is_mine ? PLAN_STEP_DOWN : PLAN_THEY_STEP_DOWN;
    }
    if (other->data != DATA_NONE && other->was_alone) {
        *reason = "the secondary was primary and has acknowledged writes that the other side lacks";
        return PLAN_SPLIT;
    }
    if (other->data != DATA_CONSISTENT) {
        *reason = "the secondary has no whole copy";
        return is_mine ? PLAN_FULL_SOURCE : PLAN_FULL_TARGET;
    }
    *reason = "the primary sends what may differ";
    return is_mine ? PLAN_SOURCE : PLAN_TARGET;
}

static enum plan with_two_primaries(const struct hello *mine, const struct hello *theirs,
                                    enum relation relation, const char **reason)
{
    if (relation == RELATION_BEHIND)
        return with_one_primary(mine, theirs, true, RELATION_BEHIND, reason);
    if (relation == RELATION_AHEAD)
        return with_one_primary(theirs, mine, false, RELATION_BEHIND, reason);
    *reason = "both sides are primary";
    return PLAN_SPLIT;
}

static enum relation reversed(enum relation r)
{
    return r == RELATION_BEHIND ? RELATION_AHEAD : r == RELATION_AHEAD ? RELATION_BEHIND : r;
}

/* A follower may have more than its source (it grows first); what is beyond is not compared. */
static enum plan if_it_fits(enum plan plan, const struct hello *primary, const struct hello *other,
                            const char **reason)
{
    bool copies = plan == PLAN_SOURCE || plan == PLAN_TARGET || plan == PLAN_FULL_SOURCE ||
                  plan == PLAN_FULL_TARGET;

    if (!copies || other->size_bytes >= primary->size_bytes)
        return plan;
    *reason = "the two disks have different sizes: the follower's is to grow";
    return PLAN_GROW;
}

enum plan connect_decide(const struct hello *mine, const struct hello *theirs, uint64_t *fork_seq,
                         const char **reason)
{
    enum relation relation = lineage_compare(&mine->lineage, &theirs->lineage, fork_seq);

    if (mine->disk_id != theirs->disk_id) {
        *reason = "the two disks have different UUIDs";
        return PLAN_REFUSE;
    }
    if (mine->role == REPLICA_PRIMARY && theirs->role == REPLICA_PRIMARY)
        return with_two_primaries(mine, theirs, relation, reason);
    if (mine->role == REPLICA_PRIMARY)
        return if_it_fits(with_one_primary(mine, theirs, true, relation, reason), mine, theirs,
                          reason);
    if (theirs->role == REPLICA_PRIMARY)
        return if_it_fits(with_one_primary(theirs, mine, false, reversed(relation), reason), theirs,
                          mine, reason);
    *reason = "nobody is primary";
    return PLAN_WAIT;
}
