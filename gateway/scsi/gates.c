/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * gates.c: what keeps a command that is right in itself from running now: a reservation of somebody
 * else, a disk that is being erased or is served by the other gateway, write protection.  Each is a
 * bit that is looked at without a lock.
 */
#include "internal.h"

/* SPC-4 table 68, by the class of the command. */
static bool is_in_conflict(const struct scsi_command *c)
{
    uint32_t denied = atomic_load_explicit(&c->nexus_lu->denied, memory_order_relaxed);
    uint8_t flags = c->operation->flags;

    if (LIKELY(denied == 0))
        return false;
    if (denied & DENY_ALL) /* RELEASE by another one is GOOD and does nothing (SPC-2 7.20) */
        return !(flags & OP_ANY_LUN) && c->operation->run != run_release6;
    if (flags & OP_PAST_RESERVATION)
        return false;
    return (flags & OP_READS && denied & DENY_READ) || (flags & OP_WRITES && denied & DENY_WRITE);
}

static uint8_t access_state(const struct scsi_nexus_lu *n)
{
    struct scsi_port_group groups[SCSI_PORT_GROUPS_MAX];
    unsigned count = lu_port_groups(n, groups);

    for (unsigned i = 0; i < count; i++)
        if (groups[i].id == n->nexus->portal_group)
            return groups[i].state;
    return SCSI_ACTIVE_OPTIMIZED;
}

/* SPC-4 5.15.2.4: the ASC of a target port that is not active, 0 for one that is. */
uint16_t not_active(const struct scsi_nexus_lu *n)
{
    switch (access_state(n)) {
    case SCSI_STANDBY:
        return ASC_STANDBY;
    case SCSI_UNAVAILABLE:
        return ASC_UNAVAILABLE;
    case SCSI_TRANSITIONING:
        return ASC_ACCESS_TRANSITION;
    default:
        return 0;
    }
}

uint16_t not_ready(const struct scsi_nexus_lu *n)
{
    uint32_t gates = atomic_load_explicit(&n->lu->gates, memory_order_acquire);

    if (LIKELY(gates == 0))
        return 0;
    if (gates & LU_ERASING)
        return n->lu->erase.is_failed ? ASC_SANITIZE_FAILED : ASC_SANITIZE_IN_PROGRESS;
    return gates & LU_NOT_ACTIVE ? not_active(n) : 0;
}

bool gates_pass(struct scsi_command *c)
{
    uint16_t asc;

    if (UNLIKELY(is_in_conflict(c))) {
        c->status = SCSI_RESERVATION_CONFLICT;
        return false;
    }
    asc = c->operation->flags & OP_SERVES_ALWAYS ? 0 : not_ready(c->nexus_lu);
    if (UNLIKELY(asc)) {
        sense_set(c, asc == ASC_SANITIZE_FAILED ? SENSE_MEDIUM_ERROR : SENSE_NOT_READY, asc);
        return false;
    }
    if (UNLIKELY(c->operation->flags & OP_CHANGES && lu_is_write_protected(c->nexus_lu->lu))) {
        sense_set(c, SENSE_DATA_PROTECT, ASC_WRITE_PROTECTED);
        return false;
    }
    return true;
}
