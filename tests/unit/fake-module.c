/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fake-module: fake-tables.c as a filter that can be loaded.  Copies of one object under several
 * names are several filters: each finds out what it is called.
 */
#include "fake-tables.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

SLUICE_EXTERN SLUICE_EXPORT const struct sluice_filter *sluice_filter_table(void);
SLUICE_EXTERN SLUICE_EXPORT const struct sluice_filter *sluice_filter_table(void)
{
    Dl_info self;
    const char *slash;
    char file[64];

    if (!dladdr((const void *)fake_filters, &self))
        return NULL;
    slash = strrchr(self.dli_fname, '/');
    for (unsigned i = 0; i < fake_filter_count; i++) {
        snprintf(file, sizeof file, "%s.so", fake_filters[i].name);
        if (strcmp(slash ? slash + 1 : self.dli_fname, file) == 0)
            return &fake_filters[i];
    }
    return &fake_broken_filter;
}
