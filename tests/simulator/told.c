/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * told.c: guests change what goes with a disk beside its data.  Whoever is promoted has what
 * belongs to the instant that it serves, and in the end both have what was told last.
 */
#include "history.h"

unsigned long told_behind;

void told_promoting(int node)
{
    told_behind += nodes[node].r->journal.untaken != NULL;
}

/* The next flush waits for it. */
void told_change(int node)
{
    struct node *n = &nodes[node];
    unsigned disk = n->disk_count > 1 ? pair_below(n->disk_count) : 0;
    uint64_t version;

    if (!n->r || n->r->super.role != REPLICA_PRIMARY || n->r->is_promoting)
        return;
    memory_node = node;
    version = history_record_next(node);
    pair_say("   guest changes record %u of disk %u at %d", (unsigned)version, disk, node);
    records_change(n, disk, version);
    history_record_told(disk, version, n->r->seq);
}

void told_check(int node, const uint8_t *image, bool is_protected, const char *when)
{
    const struct node *n = &nodes[node];

    for (unsigned d = 0; d < n->disk_count && pair_has_records; d++)
        history_record_check(node, d, n->records[d], image, is_protected, when);
}

void told_check_healed(int home)
{
    const uint64_t *mine = nodes[home].records, *theirs = nodes[1 - home].records;

    for (unsigned d = 0; d < nodes[0].disk_count && pair_has_records && !pair_violations; d++)
        if (mine[d] != theirs[d] || mine[d] != history_record_last(d))
            pair_violation("after healing disk %u has records %u and %u, told was %u", d,
                           (unsigned)mine[d], (unsigned)theirs[d],
                           (unsigned)history_record_last(d));
}
