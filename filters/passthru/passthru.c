/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * passthru: lets every request pass and asks how it ended.  The smallest whole filter, and the one
 * to start from:  cc -shared -fPIC $(pkg-config --cflags sluice-filter) -o passthru.so passthru.c
 */
#include <sluice-filter.h>

/* Nothing to remember here but the disk; most filters make a struct of their own. */
static int passthru_open(struct sluice_disk *disk, const struct sluice_value *values,
                         void **instance, struct sluice_error *error)
{
    (void)values, (void)error;
    *instance = disk;
    return 0;
}

static void passthru_close(void *instance)
{
    (void)instance;
}

/* On the way down. */
static struct sluice_verdict start(void *instance, struct sluice_request *request, void *scratch)
{
    (void)instance, (void)request, (void)scratch;
    return sluice_pass_and_tell();
}

/* On the way up, with request->error. */
static struct sluice_verdict end(void *instance, struct sluice_request *request, void *scratch)
{
    (void)instance, (void)request, (void)scratch;
    return sluice_pass();
}

#define BOTH SLUICE_HANDLE(start, end)
static const struct sluice_filter filter = {
    .struct_size = sizeof filter,
    .api_version = SLUICE_FILTER_API_VERSION,
    .name = "passthru",
    .version = "1.0",
    .vendor = "Sluice",
    .summary = "Lets every request pass.",
    .filter_class = SLUICE_CLASS_INSPECTION,
    .traits = SLUICE_TRAIT_BYPASSABLE,
    .open = passthru_open,
    .close = passthru_close,
    .read = BOTH,
    .write = BOTH,
    .flush = BOTH,
    .trim = BOTH,
    .zero = BOTH,
    .extents = BOTH,
    .prefetch = BOTH,
};
SLUICE_FILTER(filter)
