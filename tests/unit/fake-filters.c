/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fake-filters: the lookup over fake-tables.c, without any loading.
 */
#include "fake-filters.h"
#include "fake-tables.h"

#include <errno.h>
#include <string.h>

static const struct sluice_filter *find_filter(void *context, const char *name, struct err *e)
{
    const char *slash = strrchr(name, '/');

    (void)context;
    name = slash ? slash + 1 : name; /* "./cache" is cache */
    for (unsigned i = 0; i < fake_filter_count; i++)
        if (strcmp(name, fake_filters[i].name) == 0)
            return &fake_filters[i];
    (void)err_set(e, EINVAL, "filter %s: was built for filter API version 9, this gateway speaks 1",
                  name);
    return NULL;
}

static const char **filter_names(void *context)
{
    const char **names = calloc(fake_filter_count + 2, sizeof *names);

    (void)context;
    for (unsigned i = 0; names && i < fake_filter_count; i++)
        names[i] = fake_filters[i].name;
    if (names)
        names[fake_filter_count] = fake_broken_filter.name;
    return names;
}

void fake_lookup(struct config_lookup *out, unsigned nbdkit_minor)
{
    *out = (struct config_lookup){
        .find_filter = find_filter, .filter_names = filter_names, .nbdkit_minor = nbdkit_minor};
}
