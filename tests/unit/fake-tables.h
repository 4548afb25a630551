/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fake-tables: tables of filters that exist only to be configured, one for each rule that the
 * configuration has about filters.  None of them is ever opened.
 */
#ifndef SLUICE_FAKE_TABLES_H
#define SLUICE_FAKE_TABLES_H

#include "sluice-filter.h"

extern const struct sluice_filter fake_filters[];
extern const unsigned fake_filter_count;
extern const struct sluice_filter fake_broken_filter;

#endif
