/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * looking.c: who waits again and again for what comes soon looks for it before it sleeps.
 *
 * After some short waits in a row the next will be short too, and looking for what comes is cheaper
 * than to sleep: a processor that has gone idle takes long to wake, on a virtual machine tens of
 * microseconds, and who sends pays for it as well.  To look in vain, or to lose the processor
 * meanwhile, says that somebody else needs it, maybe the sender: so each time doubles what it
 * takes.
 */
#include "io/io.h"

#define HOPES_FEWEST 4u
#define HOPES_MOST 4096u

void looking_init(struct looking *l, uint64_t patience_ns)
{
    *l = (struct looking){.patience_ns = patience_ns, .hopes_to_look_at = HOPES_FEWEST};
}

bool looking_may(const struct looking *l)
{
    return l->patience_ns && l->hopes >= l->hopes_to_look_at;
}

void looking_has_slept(struct looking *l, uint64_t took_ns)
{
    l->hopes = took_ns < 2 * l->patience_ns ? MIN(l->hopes + 1, HOPES_MOST) : 0;
}

void looking_has_looked(struct looking *l, uint64_t took_ns, bool has_come)
{
    bool in_vain = !has_come || took_ns >= 2 * l->patience_ns;

    if (in_vain)
        l->hopes = 0;
    l->hopes_to_look_at = in_vain ? MIN(2 * l->hopes_to_look_at, HOPES_MOST)
                                  : MAX(l->hopes_to_look_at / 2, HOPES_FEWEST);
}
