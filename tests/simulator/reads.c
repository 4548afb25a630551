/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * reads.c: guests' reads, beside their writes.  Each has to get what was acknowledged when it was
 * sent, or something later.
 */
#include "history.h"

#define READS 6u
static struct guest_request reads[READS];
static uint64_t marks[READS][BLOCKS];
unsigned long reads_done, reads_held;

void reads_reset(void)
{
    memset(reads, 0, sizeof reads);
}

void reads_issue(int node)
{
    static const struct sluice_client client = {"sim", "", "", 1, 0};
    struct node *n = &nodes[node];
    unsigned i = 0;

    while (i < READS && reads[i].is_used)
        i++;
    if (i == READS || !n->r || n->is_gated)
        return;
    reads[i].count = 1 + pair_below(3);
    reads[i].block = pair_below((uint32_t)(BLOCKS - reads[i].count + 1));
    if (node_disk_of(n, reads[i].block, reads[i].count) == n->disk_count)
        return;
    reads[i].node = node;
    reads[i].is_used = true;
    reads[i].is_orphan = false;
    reads[i].pub = (struct sluice_request){.op = SLUICE_OP_READ,
                                           .client = &client,
                                           .length = reads[i].count * BLOCK,
                                           .data = reads[i].data};
    history_flush_begin(marks[i]);
    memory_node = node;
    node_submit(&reads[i]);
    reads_held += reads[i].is_used && reads[i].is_deferred;
}

/* The client has gone, or the gateway: nobody looks at what comes. */
void reads_forget(int node)
{
    for (unsigned i = 0; i < READS; i++)
        if (reads[i].is_used && reads[i].node == node) {
            reads[i].is_used = nodes[node].r != NULL;
            reads[i].is_orphan = true;
        }
}

bool reads_are_drained(int node)
{
    for (unsigned i = 0; i < READS; i++)
        if (reads[i].is_used && reads[i].node == node)
            return false;
    return true;
}

void reads_end(struct guest_request *q, int32_t error)
{
    q->is_used = false;
    if (q->is_orphan || error)
        return;
    reads_done++;
    history_check_blocks(q->data, q->block, q->count, marks[q - reads]);
}
