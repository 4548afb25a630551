/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * wrongabi: comes from a future version of the header; has to be refused when it is loaded.
 */
#include "test-filter.h"

static const struct sluice_filter filter = {
    .struct_size = sizeof(struct sluice_filter),
    .api_version = 99,
    .name = "wrongabi",
};
SLUICE_FILTER(filter)
