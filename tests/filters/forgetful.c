/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * forgetful: says nothing of trim; has to be refused when it is loaded.
 */
#include "test-filter.h"

static int forgetful_open(struct sluice_disk *disk, const struct sluice_value *v, void **instance,
                          struct sluice_error *error)
{
    (void)disk, (void)v, (void)instance, (void)error;
    return 0;
}

static void forgetful_close(void *instance)
{
    (void)instance;
}

static const struct sluice_filter filter = {
    TEST_FILTER_HEAD("forgetful", "Forgets an operation."),
    .open = forgetful_open,
    .close = forgetful_close,
    .read = SLUICE_PASS_UNSEEN,
    .write = SLUICE_PASS_UNSEEN,
    .flush = SLUICE_PASS_UNSEEN,
    .zero = SLUICE_PASS_UNSEEN,
    .extents = SLUICE_PASS_UNSEEN,
    .prefetch = SLUICE_PASS_UNSEEN,
};
SLUICE_FILTER(filter)
