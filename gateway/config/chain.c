/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * chain: whether filters may stand in the order they do.  Pure functions over classes and tables.
 *
 * Two rules: the written order agrees with the order of classes (so that what one reads is what one
 * gets), and no filter stands where what it needs is broken by another.
 */
#include "config/internal.h"

#include <string.h>

const char *chain_class_name(uint32_t filter_class)
{
    static const char *const names[] = {
        [SLUICE_CLASS_IO_CONTROL] = "io-control",
        [SLUICE_CLASS_INSPECTION] = "inspection",
        [SLUICE_CLASS_COMPRESSION] = "compression",
        [SLUICE_CLASS_ENCRYPTION] = "encryption",
        [SLUICE_CLASS_REPLICATION] = "replication",
        [SLUICE_CLASS_CACHE] = "cache",
        [SLUICE_CLASS_BACKING_CONTROL] = "backing-control",
    };
    return filter_class > 0 && filter_class < SLUICE_CLASS_END ? names[filter_class] : "unknown";
}

bool chain_find_misplaced(const uint32_t *classes, unsigned count, unsigned *item, unsigned *above)
{
    for (unsigned i = 1; i < count; i++)
        for (unsigned j = 0; j < i; j++)
            if (classes[j] > classes[i]) {
                *item = i;
                *above = j;
                return true;
            }
    return false;
}

static bool changes_data(const struct filter_config *filter)
{
    return (filter->filter->traits & SLUICE_TRAIT_CHANGES_DATA) ||
           filter->filter_class == SLUICE_CLASS_COMPRESSION ||
           filter->filter_class == SLUICE_CLASS_ENCRYPTION;
}
static bool holds_data(const struct filter_config *filter)
{
    return filter->filter->traits & SLUICE_TRAIT_HOLDS_DATA;
}
static bool changes_lengths(const struct filter_config *filter)
{
    return filter->filter_class == SLUICE_CLASS_COMPRESSION;
}

/* What breaks a need, and where it must not stand. */
static const struct need {
    uint32_t bit;
    bool (*is_broken_by)(const struct filter_config *filter);
    bool also_below;
    const char *needs, *because;
} needs[] = {
    {SLUICE_NEEDS_PLAINTEXT, changes_data, false, "plaintext", "above it changes the data"},
    {SLUICE_NEEDS_EVERY_WRITE_ONCE, holds_data, false, "to see every write once",
     "above it holds writes back"},
    {SLUICE_NEEDS_FINAL_SIZE, changes_lengths, true, "the final size",
     "in the same chain changes lengths"},
};

static bool find_breaker(const struct filter_config *filters, unsigned count, unsigned needy,
                         const struct need *need, unsigned *breaker)
{
    unsigned end = need->also_below ? count : needy;

    for (unsigned i = 0; i < end; i++)
        if (i != needy && need->is_broken_by(&filters[i])) {
            *breaker = i;
            return true;
        }
    return false;
}

bool chain_find_broken_need(const struct filter_config *filters, unsigned count, unsigned start,
                            struct chain_fault *out)
{
    for (unsigned i = start; i < count; i++)
        for (size_t n = 0; n < ARRAY_SIZE(needs); n++)
            if ((filters[i].filter->needs & needs[n].bit) &&
                find_breaker(filters, count, i, &needs[n], &out->other)) {
                out->filter = i;
                out->needs = needs[n].needs;
                out->because = needs[n].because;
                return true;
            }
    return false;
}
