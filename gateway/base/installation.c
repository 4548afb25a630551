/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * installation.c: where configure said that things will lie.  The one file that is compiled with
 * it, so that a build for another prefix compiles nothing else anew.
 */
#include "base.h"

const struct installation installation = {
    .settings = SLUICE_SYSCONFDIR,
    .plugin = SLUICE_PLUGINDIR "/nbdkit-sluice-plugin.so",
    .filters = SLUICE_FILTERDIR,
    .kit = SLUICE_KITDIR,
};
