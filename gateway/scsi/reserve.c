/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * reserve.c: who holds a disk, and what that denies to others: persistent reservations (SPC-4 5.13)
 * and the older RESERVE and RELEASE (SPC-2), which end with their nexus.
 *
 * Registrations name initiator ports, not sessions: they stay when a session ends.  What a session
 * is denied is computed anew with every change and kept as bits at its I_T_L nexus, so that the
 * data path only loads one word.
 */
#include "internal.h"

#include <string.h>

/* --- initiator ports ---------------------------------------------------------------------- */

void port_of_nexus(const struct scsi_nexus *nexus, struct initiator_port *out)
{
    memset(out, 0, sizeof *out);
    memcpy(out->name, nexus->initiator, sizeof out->name);
    memcpy(out->isid, nexus->isid, sizeof out->isid);
}

bool port_is_same(const struct initiator_port *a, const struct initiator_port *b)
{
    if (strcmp(a->name, b->name) != 0)
        return false;
    return a->is_any_isid || b->is_any_isid || memcmp(a->isid, b->isid, sizeof a->isid) == 0;
}

bool port_is_nexus(const struct initiator_port *port, const struct scsi_nexus *nexus)
{
    struct initiator_port own;

    port_of_nexus(nexus, &own);
    return port_is_same(port, &own);
}

static bool is_of_nexus(const struct registration *r, const struct scsi_nexus *nexus)
{
    return (r->is_all_target_ports || r->is_from_peer || r->target_port == nexus->portal_group) &&
           port_is_nexus(&r->port, nexus);
}

/* How well it fits, of those that hold for the nexus: an initiator may have registered through
 * several ports of the peer, with other keys, and they all hold for one here. */
static unsigned fit(const struct registration *r, const struct scsi_nexus *nexus, uint64_t key)
{
    bool is_exact = r->is_all_target_ports || r->target_port == nexus->portal_group;

    return 1 + 4 * is_exact + 2 * (key && r->key == key) + r->is_holder;
}

struct registration *registration_with_key(struct scsi_lu *lu, const struct scsi_nexus *nexus,
                                           uint64_t key)
{
    struct registration *best = NULL;

    for (unsigned i = 0; i < lu->reservations.count; i++) {
        struct registration *r = &lu->reservations.registration[i];

        if (is_of_nexus(r, nexus) && (!best || fit(r, nexus, key) > fit(best, nexus, key)))
            best = r;
    }
    return best;
}

struct registration *registration_of(struct scsi_lu *lu, const struct scsi_nexus *nexus)
{
    return registration_with_key(lu, nexus, 0);
}

/* --- rules -------------------------------------------------------------------------------- */

bool is_for_all(uint8_t type)
{
    return type == WRITE_EXCLUSIVE_ALL || type == EXCLUSIVE_ACCESS_ALL;
}

bool is_for_registrants(uint8_t type)
{
    return is_for_all(type) || type == WRITE_EXCLUSIVE_REGISTRANTS ||
           type == EXCLUSIVE_ACCESS_REGISTRANTS;
}

static bool is_exclusive_access(uint8_t type)
{
    return type == EXCLUSIVE_ACCESS || type == EXCLUSIVE_ACCESS_REGISTRANTS ||
           type == EXCLUSIVE_ACCESS_ALL;
}

bool is_holder(const struct scsi_lu *lu, const struct registration *r)
{
    return lu->reservations.type && (is_for_all(lu->reservations.type) || r->is_holder);
}

static uint32_t denied_to(struct scsi_lu *lu, const struct scsi_nexus *nexus)
{
    const struct reservations *x = &lu->reservations;
    const struct registration *own;

    if (x->is_reserved6)
        return port_is_nexus(&x->port6, nexus) ? 0 : DENY_ALL;
    if (x->type == 0)
        return 0;
    own = registration_of(lu, nexus);
    if (own && (is_holder(lu, own) || is_for_registrants(x->type)))
        return 0;
    return is_exclusive_access(x->type) ? DENY_READ | DENY_WRITE : DENY_WRITE;
}

void reservation_recompute_one(struct scsi_nexus_lu *n)
{
    atomic_store(&n->denied, denied_to(n->lu, n->nexus));
}

void reservations_recompute(struct scsi_lu *lu)
{
    LIST_FOREACH (node, &lu->nexus_lus)
        reservation_recompute_one(LIST_ENTRY(node, struct scsi_nexus_lu, in_lu));
}

void attention_to_registration(struct scsi_lu *lu, const struct registration *r,
                               const struct scsi_nexus_lu *but, enum attention what)
{
    LIST_FOREACH (node, &lu->nexus_lus) {
        struct scsi_nexus_lu *n = LIST_ENTRY(node, struct scsi_nexus_lu, in_lu);

        if (n != but && is_of_nexus(r, n->nexus))
            attention_raise(n, what);
    }
}

/* --- RESERVE and RELEASE ------------------------------------------------------------------ */

/* SPC-2 5.5.1 with SPC-4 5.13.3: not both kinds at once. A registered one is told GOOD (CRH). */
enum io_status run_reserve6(struct scsi_command *c)
{
    struct scsi_lu *lu = c->nexus_lu->lu;
    SCOPED_LOCK(&lu->mutex);

    if (lu->reservations.count) {
        if (!registration_of(lu, c->nexus))
            c->status = SCSI_RESERVATION_CONFLICT;
        return IO_DONE;
    }
    lu->reservations.is_reserved6 = true;
    port_of_nexus(c->nexus, &lu->reservations.port6);
    reservations_recompute(lu);
    return IO_DONE;
}

void reserve6_end(struct scsi_lu *lu, const struct scsi_nexus *nexus)
{
    SCOPED_LOCK(&lu->mutex);

    if (!lu->reservations.is_reserved6 || (nexus && !port_is_nexus(&lu->reservations.port6, nexus)))
        return;
    lu->reservations.is_reserved6 = false;
    reservations_recompute(lu);
}

enum io_status run_release6(struct scsi_command *c)
{
    reserve6_end(c->nexus_lu->lu, c->nexus);
    return IO_DONE;
}
