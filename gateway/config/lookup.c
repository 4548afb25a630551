/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lookup: the ordinary answer to what the loader asks: filters from the host room's loader.
 */
#include "config/config.h"
#include "host/host.h"

static const struct sluice_filter *find_filter(void *context, const char *name, struct err *e)
{
    (void)context;
    return host_find_filter(name, e);
}

static const char **filter_names(void *context)
{
    (void)context;
    return host_filter_names();
}

void config_lookup_host(struct config_lookup *out)
{
    *out = (struct config_lookup){.find_filter = find_filter, .filter_names = filter_names};
}
