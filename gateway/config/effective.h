/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * effective.h: how the policy that a disk ends up with is told, value by value and in order: the
 * walk (effective.c) knows the tables, a teller knows one way to write.
 */
#ifndef SLUICE_CONFIG_EFFECTIVE_H
#define SLUICE_CONFIG_EFFECTIVE_H

#include "config/internal.h"

struct effective_value {
    const char *key; /* NULL: an item of a list */
    enum node_kind kind;
    const char *text;   /* of a scalar */
    bool is_plain;      /* it stood, or may stand, without quotes */
    const char *origin; /* FILE:LINE:COLUMN, "default"; NULL: its parts tell */
};

/* Strings live until the walk is over. */
struct effective_teller {
    void (*value)(void *teller, const struct effective_value *value);
    /* What follows stands in this map or list, until end(). */
    void (*begin)(void *teller, const struct effective_value *value);
    void (*end)(void *teller);
    void (*empty)(void *teller, const struct effective_value *value); /* a map or list */
};

/* effective.c.  The disk of that name, and an arena for what is told, which the caller destroys;
 * NULL with a sentence. */
const struct disk_config *effective_begin(const struct gateway_config *config, const char *name,
                                          struct arena **arena, struct err *e);
void effective_walk(const struct effective_teller *ops, void *teller, struct arena *arena,
                    const struct gateway_config *config, const struct disk_config *disk);

#endif
