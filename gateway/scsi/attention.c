/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * attention.c: unit attentions (SAM-5 5.14).  Those pending for an initiator are bits of one atomic
 * word, so that raising one never needs memory and looking costs one load.  Of several the first
 * of the table is told first; the same condition twice is told once.
 */
#include "internal.h"

static const uint16_t attention_asc[ATTENTION_COUNT] = {
    [ATTENTION_POWER_ON] = 0x2900,
    [ATTENTION_RESET] = 0x2903, /* BUS DEVICE RESET FUNCTION OCCURRED */
    [ATTENTION_NEXUS_LOSS] = 0x2907,
    [ATTENTION_COMMANDS_CLEARED] = 0x2f00,
    [ATTENTION_RESERVATIONS_PREEMPTED] = 0x2a03,
    [ATTENTION_RESERVATIONS_RELEASED] = 0x2a04,
    [ATTENTION_REGISTRATIONS_PREEMPTED] = 0x2a05,
    [ATTENTION_MODE_CHANGED] = 0x2a01,
    [ATTENTION_CAPACITY_CHANGED] = 0x2a09,
    [ATTENTION_ACCESS_STATE_CHANGED] = 0x2a06,
    [ATTENTION_INQUIRY_CHANGED] = 0x3f03,
    [ATTENTION_LUNS_CHANGED] = 0x3f0e,
    [ATTENTION_THIN_THRESHOLD] = 0x3807,
};

void attention_raise(struct scsi_nexus_lu *n, enum attention what)
{
    atomic_fetch_or(&n->attentions, 1u << what);
}

void attention_raise_all(struct scsi_lu *lu, const struct scsi_nexus_lu *but, enum attention what)
{
    SCOPED_LOCK(&lu->mutex);

    LIST_FOREACH (node, &lu->nexus_lus) {
        struct scsi_nexus_lu *n = LIST_ENTRY(node, struct scsi_nexus_lu, in_lu);

        if (n != but)
            attention_raise(n, what);
    }
}

uint16_t attention_peek(const struct scsi_nexus_lu *n)
{
    uint32_t pending = atomic_load(&n->attentions);

    return pending ? attention_asc[__builtin_ctz(pending)] : 0;
}

uint16_t attention_take(struct scsi_nexus_lu *n)
{
    uint32_t pending = atomic_load(&n->attentions);
    unsigned first;

    if (!pending)
        return 0;
    first = (unsigned)__builtin_ctz(pending);
    atomic_fetch_and(&n->attentions, ~(1u << first));
    return attention_asc[first];
}

void attention_check_capacity(struct scsi_nexus_lu *n)
{
    uint64_t now = engine_size(n->lu->engine);

    if (n->seen_bytes == now)
        return;
    n->seen_bytes = now;
    attention_raise(n, ATTENTION_CAPACITY_CHANGED);
}
