/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * modes.c: the modes are rules for each request, over one format, so a change of mode takes effect
 * with the next request.  Whatever the mode: a read of a dirty block is answered from the log, and
 * a write to one goes to the log too, until it has been destaged (R7).
 */
#include "cache.h"

const struct mode_rules cache_modes[] = {
    /*                       hit    fill   stay   write fill */
    [MODE_WRITE_BACK] = {"write-back", true, true, true, false},
    [MODE_WRITE_THROUGH] = {"write-through", true, true, false, true},
    [MODE_WRITE_AROUND] = {"write-around", true, true, false, false},
    [MODE_READ_ONLY] = {"read-only", true, false, false, false},
    [MODE_BYPASS] = {"bypass", false, false, false, false},
};

const struct mode_rules *cache_rules(const struct cache *c)
{
    enum cache_mode mode = c->options.mode;

    if (mode == MODE_WRITE_BACK && (!cache_has_log(c) || c->draining || c->log.error))
        mode = MODE_WRITE_THROUGH;
    return &cache_modes[mode];
}
