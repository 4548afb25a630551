/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fake-filters: see the header.  The shapes of qos, cache and replication follow the real ones; the
 * others are named after the rule that they exercise.
 */
#include "fake-filters.h"

#include <string.h>

static const struct sluice_option passthru_options[] = {
    {"label", SLUICE_TYPE_STRING, SLUICE_OPTION_LIVE, 0, 0, NULL, NULL, "Shown in status."},
    SLUICE_OPTIONS_END,
};
static const struct sluice_option qos_options[] = {
    {"iops", SLUICE_TYPE_INTEGER, SLUICE_OPTION_LIVE, 1, 1000000, NULL, NULL, "Requests a second."},
    {"bandwidth", SLUICE_TYPE_RATE, SLUICE_OPTION_LIVE, 4096, 1ll << 40, NULL, NULL,
     "Bytes a second."},
    {"burst", SLUICE_TYPE_DURATION, SLUICE_OPTION_LIVE, 0, 60000000000, "1s", NULL,
     "How long it may be exceeded."},
    {"at", SLUICE_TYPE_ENUM, 0, 0, 0, "guest", "guest|backing", "What is limited."},
    SLUICE_OPTIONS_END,
};
static const struct sluice_option guard_options[] = {
    {"guard", SLUICE_TYPE_SIZE, 0, 512, 0, "1MiB", NULL, "Bytes that may not be written."},
    SLUICE_OPTIONS_END,
};
static const struct sluice_option crypt_options[] = {
    {"key", SLUICE_TYPE_SECRET, SLUICE_OPTION_REQUIRED, 0, 0, NULL, NULL, "A file with the key."},
    {"cipher", SLUICE_TYPE_ENUM, 0, 0, 0, "aes-xts", "aes-xts|adiantum", "How."},
    SLUICE_OPTIONS_END,
};
static const struct sluice_option replication_options[] = {
    {"mode", SLUICE_TYPE_ENUM, SLUICE_OPTION_REQUIRED, 0, 0, NULL, "sync|async", "When to answer."},
    {"rpo", SLUICE_TYPE_DURATION, SLUICE_OPTION_LIVE, 0, 0, "5s", NULL, "How far behind."},
    {"primary", SLUICE_TYPE_STRING, 0, 0, 0, NULL, NULL, "The first primary."},
    {"journal", SLUICE_TYPE_PATH, 0, 0, 0, NULL, NULL, "A file."},
    SLUICE_OPTIONS_END,
};
static const struct sluice_option cache_options[] = {
    {"mode", SLUICE_TYPE_ENUM, SLUICE_OPTION_LIVE, 0, 0, "write-back",
     "write-back|write-through|write-around", "What a write means."},
    {"ram", SLUICE_TYPE_SIZE, SLUICE_OPTION_LIVE, 1 << 20, 1ll << 40, "64MiB", NULL, "In memory."},
    {"ssd.tier", SLUICE_TYPE_STRING, 0, 0, 0, NULL, NULL, "The tier."},
    {"ssd.size", SLUICE_TYPE_SIZE, 0, 1 << 20, 0, NULL, NULL, "How much of it."},
    {"ordered", SLUICE_TYPE_BOOL, 0, 0, 0, "false", NULL, "Keep the order of flushes."},
    SLUICE_OPTIONS_END,
};

static uint32_t place_qos(const struct sluice_value *values)
{
    return values[3].integer == 1 ? SLUICE_CLASS_BACKING_CONTROL : SLUICE_CLASS_IO_CONTROL;
}

#define FAKE(a, b, c, d, e, f)                                                                    \
    {                                                                                             \
        .struct_size = sizeof(struct sluice_filter), .api_version = SLUICE_FILTER_API_VERSION,    \
        .name = a, .version = "1", .vendor = "test", .summary = b, .filter_class = c, .needs = d, \
        .traits = e, .options = f                                                                 \
    }
static const struct sluice_filter filters[] = {
    FAKE("passthru", "Does nothing.", SLUICE_CLASS_INSPECTION, 0, SLUICE_TRAIT_BYPASSABLE,
         passthru_options),
    FAKE("guard", "Looks at plaintext.", SLUICE_CLASS_INSPECTION, SLUICE_NEEDS_PLAINTEXT,
         SLUICE_TRAIT_BYPASSABLE, guard_options),
    FAKE("buffer", "Holds writes back.", SLUICE_CLASS_INSPECTION, 0, SLUICE_TRAIT_HOLDS_DATA, NULL),
    FAKE("squeeze", "Changes lengths.", SLUICE_CLASS_COMPRESSION, 0, SLUICE_TRAIT_CHANGES_DATA,
         NULL),
    FAKE("crypt", "Changes data.", SLUICE_CLASS_ENCRYPTION, 0, SLUICE_TRAIT_CHANGES_DATA,
         crypt_options),
    FAKE("replication", "Copies to a peer.", SLUICE_CLASS_REPLICATION,
         SLUICE_NEEDS_EVERY_WRITE_ONCE | SLUICE_NEEDS_FINAL_SIZE, 0, replication_options),
    FAKE("index", "Needs plaintext, low.", SLUICE_CLASS_CACHE, SLUICE_NEEDS_PLAINTEXT, 0, NULL),
    FAKE("cache", "Caches.", SLUICE_CLASS_CACHE, 0, SLUICE_TRAIT_HOLDS_DATA, cache_options),
};
static const struct sluice_filter qos = {
    .struct_size = sizeof(struct sluice_filter),
    .api_version = SLUICE_FILTER_API_VERSION,
    .name = "qos",
    .version = "1",
    .vendor = "test",
    .summary = "Limits.",
    .filter_class = SLUICE_CLASS_IO_CONTROL,
    .traits = SLUICE_TRAIT_BYPASSABLE,
    .options = qos_options,
    .place = place_qos,
};

static const struct sluice_filter *find_filter(void *context, const char *name, struct err *e)
{
    const char *slash = strrchr(name, '/');

    (void)context;
    name = slash ? slash + 1 : name; /* "./cache" is cache */
    if (strcmp(name, qos.name) == 0)
        return &qos;
    for (size_t i = 0; i < ARRAY_SIZE(filters); i++)
        if (strcmp(name, filters[i].name) == 0)
            return &filters[i];
    (void)err_set(e, ENOENT, "filter %s: made for API version 9, this gateway has 1", name);
    return NULL;
}

static const char **filter_names(void *context)
{
    const char **names = calloc(ARRAY_SIZE(filters) + 3, sizeof *names);

    (void)context;
    if (!names)
        return NULL;
    for (size_t i = 0; i < ARRAY_SIZE(filters); i++)
        names[i] = filters[i].name;
    names[ARRAY_SIZE(filters)] = qos.name;
    names[ARRAY_SIZE(filters) + 1] = "broken";
    return names;
}

void fake_lookup(struct config_lookup *out, unsigned nbdkit_minor)
{
    *out = (struct config_lookup){
        .find_filter = find_filter, .filter_names = filter_names, .nbdkit_minor = nbdkit_minor};
}
