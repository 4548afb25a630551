/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fake-tables: the tables themselves; see fake-filters.h.  The shapes of qos, cache and replication
 * follow the real ones; the others are named after the rule that they exercise.  Good enough for
 * the loader, but for `broken`, which was built for another version of the API.
 */
#include "fake-tables.h"

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
    {"ssd.tier", SLUICE_TYPE_STRING, SLUICE_OPTION_TIER, 0, 0, NULL, NULL, "The tier."},
    {"ssd.size", SLUICE_TYPE_SIZE, 0, 1 << 20, 0, NULL, NULL, "How much of it."},
    {"ordered", SLUICE_TYPE_BOOL, 0, 0, 0, "false", NULL, "Keep the order of flushes."},
    SLUICE_OPTIONS_END,
};

static uint32_t place_qos(const struct sluice_value *values)
{
    return values[3].integer == 1 ? SLUICE_CLASS_BACKING_CONTROL : SLUICE_CLASS_IO_CONTROL;
}

static const char *check_cache(const struct sluice_value *values)
{
    return values[3].is_set && !values[2].is_set ? "ssd.size without ssd.tier" : NULL;
}

static int open_none(struct sluice_disk *disk, const struct sluice_value *values, void **instance,
                     struct sluice_error *error)
{
    (void)disk, (void)values, (void)instance, (void)error;
    return -ENOTSUP;
}

static void close_none(void *instance)
{
    (void)instance;
}

static struct sluice_verdict pass(void *instance, struct sluice_request *request, void *scratch)
{
    (void)instance, (void)request, (void)scratch;
    return sluice_pass();
}

#define FAKE(word, line, its_class, its_needs, its_traits, its_options, its_place, ...)        \
    {                                                                                          \
        .struct_size = sizeof(struct sluice_filter), .api_version = SLUICE_FILTER_API_VERSION, \
        .name = word, .version = "1", .vendor = "test", .summary = line,                       \
        .filter_class = its_class, .needs = its_needs, .traits = its_traits,                   \
        .options = its_options, .open = open_none, .close = close_none,                        \
        .read = SLUICE_PASS_UNSEEN, .write = SLUICE_PASS_UNSEEN, .flush = SLUICE_PASS_UNSEEN,  \
        .trim = SLUICE_PASS_UNSEEN, .zero = SLUICE_PASS_UNSEEN,                                \
        .extents = SLUICE_HANDLE(pass, NULL), .prefetch = SLUICE_HANDLE(pass, NULL),           \
        .place = its_place, __VA_ARGS__                                                        \
    }
const struct sluice_filter fake_filters[] = {
    FAKE("passthru", "Does nothing.", SLUICE_CLASS_INSPECTION, 0, SLUICE_TRAIT_BYPASSABLE,
         passthru_options, NULL),
    FAKE("guard", "Looks at plaintext.", SLUICE_CLASS_INSPECTION, SLUICE_NEEDS_PLAINTEXT,
         SLUICE_TRAIT_BYPASSABLE, guard_options, NULL),
    FAKE("buffer", "Holds writes back.", SLUICE_CLASS_INSPECTION, 0, SLUICE_TRAIT_HOLDS_DATA, NULL,
         NULL),
    FAKE("squeeze", "Changes lengths.", SLUICE_CLASS_COMPRESSION, 0, SLUICE_TRAIT_CHANGES_DATA,
         NULL, NULL),
    FAKE("crypt", "Changes data.", SLUICE_CLASS_ENCRYPTION, 0, SLUICE_TRAIT_CHANGES_DATA,
         crypt_options, NULL),
    FAKE("replication", "Copies to a peer.", SLUICE_CLASS_REPLICATION,
         SLUICE_NEEDS_EVERY_WRITE_ONCE | SLUICE_NEEDS_FINAL_SIZE, 0, replication_options, NULL),
    FAKE("index", "Needs plaintext, low.", SLUICE_CLASS_CACHE, SLUICE_NEEDS_PLAINTEXT, 0, NULL,
         NULL),
    FAKE("cache", "Caches.", SLUICE_CLASS_CACHE, 0, SLUICE_TRAIT_HOLDS_DATA, cache_options, NULL,
         .check = check_cache),
    FAKE("qos", "Limits.", SLUICE_CLASS_IO_CONTROL, 0, SLUICE_TRAIT_BYPASSABLE, qos_options,
         place_qos),
};
const unsigned fake_filter_count = sizeof fake_filters / sizeof fake_filters[0];

const struct sluice_filter fake_broken_filter = {
    .struct_size = sizeof(struct sluice_filter), .api_version = 9, .name = "broken"};
