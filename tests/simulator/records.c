/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * records.c: the gateway's side of what goes with a disk beside its data.  A record is a version,
 * in some bytes; the gateway has it on disk before the filter is told, and before it has taken one
 * that came from the peer.  Sometimes it can take none.
 */
#include "pair.h"

#include <errno.h>

#define NAME "version"

bool pair_has_records;

static int tell(struct node *n, unsigned disk)
{
    uint8_t data[8 + 40] = {0};

    memcpy(data, &n->records[disk], 8);
    return sluice_filter_table()->record(n->members[disk], NAME, data,
                                         8 + n->records[disk] * 7 % 40);
}

void records_join(struct node *n)
{
    for (unsigned i = 0; i < n->disk_count && pair_has_records; i++)
        if (tell(n, i) < 0)
            pair_violation("side %d does not take what there is", n->number);
}

void records_change(struct node *n, unsigned disk, uint64_t version)
{
    n->records[disk] = version;
    if (tell(n, disk) < 0)
        pair_violation("side %d does not take a record", n->number);
}

int records_arrived(struct sluice_disk *disk, const char *name, const void *data, size_t length)
{
    struct node *n = node_of(disk);
    unsigned number = (unsigned)(disk - n->disks);
    uint64_t version;

    if (n->r->super.role == REPLICA_PRIMARY)
        pair_violation("side %d, the primary, is handed a record of its journal", n->number);
    if (pair_one_in(8))
        return -EIO;
    memcpy(&version, data, length < 8 ? 0 : 8);
    if (strcmp(name, NAME) != 0 || length != 8 + version * 7 % 40)
        pair_violation("side %d is sent a record that nobody made", n->number);
    pair_say("   %d has record %u of disk %u", n->number, (unsigned)version, number);
    n->records[number] = version;
    return tell(n, number);
}
