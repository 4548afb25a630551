/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fake-filters: tables of filters that exist only to be configured, one for each rule that the
 * configuration has about filters.  None of them is ever opened.
 */
#ifndef SLUICE_FAKE_FILTERS_H
#define SLUICE_FAKE_FILTERS_H

#include "config/config.h"

void fake_lookup(struct config_lookup *out, unsigned nbdkit_minor);

#endif
