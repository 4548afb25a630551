/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fake-filters: what the configuration's loader asks, answered from fake-tables.c.
 */
#ifndef SLUICE_FAKE_FILTERS_H
#define SLUICE_FAKE_FILTERS_H

#include "config/config.h"

void fake_lookup(struct config_lookup *out, unsigned nbdkit_minor);

#endif
