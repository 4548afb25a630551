/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sim-look.c: what the tests ask of the filter's own memory, and the little they do to it.
 */
#include "sim.h"

#include "cache/cache.h"

bool sim_holds_extents;

bool sim_is_open(void)
{
    return sim_cache() != NULL;
}

bool sim_is_dirty(uint64_t block, uint64_t count)
{
    const struct cache *c = sim_cache();
    struct index_item item;

    for (uint64_t i = block; i < block + count; i++)
        if (index_get(&c->index, i, &item) && item.is_dirty)
            return true;
    return false;
}

bool sim_order_holds(void)
{
    return order_holds(sim_cache());
}

bool sim_does_not_answer(void)
{
    return sim_ssd_faults & SIM_HANGS || await_is_in_vain(sim_cache());
}

bool sim_is_at_last_block(void)
{
    const struct cache *c = sim_cache();

    return c->log.super.segment_blocks - c->log.head.block == 1;
}

void sim_pin_next_segment(void)
{
    struct cache *c = sim_cache();

    c->log.readers[log_place_of(&c->log, c->log.head.segment + 1)]++;
}

bool sim_has_stepped_down(void)
{
    const struct cache *c = sim_cache();

    return c->step_down.is_void;
}
