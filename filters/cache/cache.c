/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * cache: keeps blocks of a disk in RAM and on an SSD in front of slower storage.
 *
 * Promises.  P0: a write that was acknowledged survives kill -9 of the gateway.  P1: one that was
 * flushed, or written with FUA, survives a power cut.  Clean blocks are warm again after either,
 * and never stale.  docs/cache.md says how; docs/cache-format.md what is on the SSD.
 *
 * Here are the tables of the filter and its opening and closing.
 */
#include "cache.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* --- tables -------------------------------------------------------------------------------------
 */

const struct sluice_counter cache_counters[] = {
    [N_HITS_RAM] = {"hits_ram", SLUICE_COUNTER, "", "Blocks read from RAM."},
    [N_HITS_SSD] = {"hits_ssd", SLUICE_COUNTER, "", "Blocks read from the SSD."},
    [N_MISSES] = {"misses", SLUICE_COUNTER, "", "Blocks read from the backing."},
    [N_PARTIAL] = {"hits_partial", SLUICE_COUNTER, "",
                   "Reads of which a part was cached and the rest was not."},
    [N_BYPASSED] = {"bypassed", SLUICE_COUNTER, "", "Reads too large to be kept, or in bypass."},
    [N_FILLS] = {"fills", SLUICE_COUNTER, "", "Blocks from the backing that were kept."},
    [N_FILLS_DROPPED] = {"fills_dropped", SLUICE_COUNTER, "",
                         "Blocks that were not, because they were written meanwhile."},
    [N_PROMOTED] = {"promoted", SLUICE_COUNTER, "", "Blocks moved from RAM to the SSD."},
    [N_COPIED] = {"copied", SLUICE_COUNTER, "", "Blocks copied within the SSD to keep them."},
    [N_EVICTED] = {"evicted", SLUICE_COUNTER, "", "Clean blocks that had to go."},
    [N_WRITES_BACK] = {"writes_back", SLUICE_COUNTER, "", "Changes acknowledged from the SSD."},
    [N_WRITES_THROUGH] = {"writes_through", SLUICE_COUNTER, "",
                          "Changes that went to the backing."},
    [N_DIRTY] = {"dirty", SLUICE_GAUGE, "bytes", "Data that the backing lacks."},
    [N_OLDEST] = {"oldest_dirty", SLUICE_GAUGE, "seconds",
                  "How long the oldest data that the backing lacks has waited for it."},
    [N_DESTAGED] = {"destaged", SLUICE_COUNTER, "bytes", "Data brought to the backing."},
    [N_CLIENT_WRITTEN] = {"client_written", SLUICE_COUNTER, "bytes", "Data that guests wrote."},
    [N_LOG_WRITTEN] = {"log_written", SLUICE_COUNTER, "bytes",
                       "Data written to the SSD for all of it."},
    [N_PREWRITTEN] = {"prewritten", SLUICE_COUNTER, "bytes",
                      "Space of a new SSD tier written once, ahead of the log."},
    [N_FLUSHES_LOG] = {"flushes_log", SLUICE_COUNTER, "", "Flushes answered from the SSD."},
    [N_FLUSHES_BACKING] = {"flushes_backing", SLUICE_COUNTER, "",
                           "Flushes that went to the backing."},
    [N_CHECKPOINTS] = {"checkpoints", SLUICE_COUNTER, "", "Copies of the index written."},
    [N_PACED] = {"paced", SLUICE_COUNTER, "", "Writes that waited for the backing."},
    [N_RAM] = {"ram", SLUICE_GAUGE, "bytes", "Frames of RAM in use."},
    [N_ROTTED] = {"rotted", SLUICE_COUNTER, "",
                  "Times that a block on the SSD was not what had been written there."},
    [N_COMMIT] = {"commit", SLUICE_HISTOGRAM_NS, "seconds",
                  "How long writing a chunk of the log took."},
    SLUICE_COUNTERS_END,
};

#define LIVE SLUICE_OPTION_LIVE
#define GIB (INT64_C(1) << 30)
enum {
    O_MODE,
    O_RAM,
    O_TIER,
    O_SSD_SIZE,
    O_SSD_PATH,
    O_GIVEN_UP,
    O_TIMEOUT,
    O_POLICY,
    O_SOFT,
    O_HARD,
    O_RATE,
    O_DEPTH,
    O_AFTER,
    O_BYPASS,
    O_BYPASS_AFTER,
    O_ORDERED
};
static const struct sluice_option options[] = {
    {"mode", SLUICE_TYPE_ENUM, LIVE, 0, 0, NULL,
     "write-back|write-through|write-around|read-only|bypass",
     "What happens to writes; without it write-back where there is an SSD, else write-through."},
    {"ram", SLUICE_TYPE_SIZE, 0, 64 << 10, 4096 * GIB, "64MiB", NULL, "Memory for blocks."},
    {"ssd.tier", SLUICE_TYPE_STRING, SLUICE_OPTION_TIER, 0, 0, NULL, NULL,
     "The tier, of `tiers:` in gateway.yaml, that the cache lives on."},
    {"ssd.size", SLUICE_TYPE_SIZE, 0, TIER_BYTES_MIN, 16384 * GIB, NULL, NULL, "How much of it."},
    {"ssd.path", SLUICE_TYPE_PATH, 0, 0, 0, NULL, NULL,
     "A file or block device for this disk alone, in place of a tier."},
    {"ssd.given_up", SLUICE_TYPE_STRING, 0, 0, 0, NULL, NULL,
     "A tier that is gone for good, as the refusal to start without it names it: what was on "
     "it alone is lost."},
    {"ssd.timeout", SLUICE_TYPE_DURATION, LIVE, 100000000, INT64_C(3600000000000), "10s", NULL,
     "A tier that has not answered for so long has failed."},
    {"policy", SLUICE_TYPE_ENUM, 0, 0, 0, "s3-fifo", "s3-fifo|lru|arc",
     "Which blocks leave RAM first."},
    {"dirty.soft", SLUICE_TYPE_INTEGER, LIVE, 1, 90, "40", NULL,
     "Percent of the SSD that may wait for the backing before writers are slowed down."},
    {"dirty.hard", SLUICE_TYPE_INTEGER, LIVE, 2, 95, "70", NULL, "Percent at which they wait."},
    {"destage.rate", SLUICE_TYPE_RATE, LIVE, 4096, INT64_C(1) << 44, NULL, NULL,
     "At most so many bytes a second go to the backing in the background."},
    {"destage.depth", SLUICE_TYPE_INTEGER, LIVE, 1, 256, "16", NULL,
     "So many writes to the backing are in flight at a time."},
    {"destage.after", SLUICE_TYPE_DURATION, LIVE, 0, INT64_C(86400000000000), "30s", NULL,
     "Data goes to the backing when it is that old."},
    {"bypass_over", SLUICE_TYPE_SIZE, LIVE, 4096, GIB, "256KiB", NULL,
     "Larger reads are not kept."},
    {"bypass_after", SLUICE_TYPE_SIZE, LIVE, 64 << 10, 4096 * GIB, NULL, NULL,
     "Nor are reads that go on where others have read so much: a copy, a backup, a scan."},
    {"ordered", SLUICE_TYPE_BOOL, 0, 0, 0, "false", NULL,
     "Should the SSD be lost, the backing has an earlier state of the disk, as it was at a flush "
     "or between two: data goes there in order."},
    SLUICE_OPTIONS_END,
};

void cache_read_options(const struct sluice_value *v, struct cache_options *o)
{
    static const char *const policies[] = {"s3-fifo", "lru", "arc"};
    bool has_ssd = v[O_TIER].is_set || v[O_SSD_PATH].is_set;

    o->mode = v[O_MODE].is_set ? (enum cache_mode)v[O_MODE].integer
              : has_ssd        ? MODE_WRITE_BACK
                               : MODE_WRITE_THROUGH;
    o->ram_bytes = (uint64_t)v[O_RAM].integer;
    o->given_up = v[O_GIVEN_UP].is_set ? strtoull(v[O_GIVEN_UP].string, NULL, 16) : 0;
    o->ssd_bytes = v[O_SSD_SIZE].is_set ? (uint64_t)v[O_SSD_SIZE].integer : 0;
    o->tier_timeout_ns = (uint64_t)v[O_TIMEOUT].integer;
    o->policy = policies[v[O_POLICY].integer];
    o->soft_percent = (uint64_t)v[O_SOFT].integer;
    o->hard_percent = (uint64_t)v[O_HARD].integer;
    o->destage_rate = v[O_RATE].is_set ? (uint64_t)v[O_RATE].integer : 0;
    o->destage_depth = (uint64_t)v[O_DEPTH].integer;
    o->destage_after_ns = (uint64_t)v[O_AFTER].integer;
    o->bypass_over = (uint64_t)v[O_BYPASS].integer;
    o->bypass_after = (uint64_t)v[O_BYPASS_AFTER].integer;
    o->ordered = v[O_ORDERED].integer;
    if (o->hard_percent <= o->soft_percent)
        o->hard_percent = o->soft_percent + 1;
}

/* --- open ---------------------------------------------------------------------------------------
 */

/* Also asked when the configuration is read. */
static const char *check_values(const struct sluice_value *v)
{
    bool has_ssd = v[O_TIER].is_set || v[O_SSD_PATH].is_set;

    if (v[O_TIER].is_set && v[O_SSD_PATH].is_set)
        return "ssd: either tier or path";
    if (v[O_GIVEN_UP].is_set && strspn(v[O_GIVEN_UP].string, "0123456789abcdef") != 16)
        return "ssd.given_up: a tier is named by 16 digits";
    if (has_ssd && !v[O_SSD_SIZE].is_set)
        return "ssd.size is missing";
    if (!has_ssd && v[O_MODE].is_set && v[O_MODE].integer == MODE_WRITE_BACK)
        return "write-back needs an SSD, so that nothing is lost with the power: ssd: { tier: "
               "NAME, size: SIZE }";
    if (v[O_HARD].integer <= v[O_SOFT].integer)
        return "dirty.hard has to be above dirty.soft";
    if (v[O_ORDERED].integer && !has_ssd)
        return "ordered: is about what an SSD holds back from the backing, and there is none: "
               "ssd: { tier: NAME, size: SIZE }";
    return NULL;
}

static int check_options(struct sluice_disk *disk, const struct sluice_value *v,
                         struct sluice_error *error)
{
    const char *why = check_values(v);

    if (disk->size_bytes % BLOCK_BYTES)
        return sluice_refuse(disk, error, EINVAL,
                             "the disk's size, %llu, is not a multiple of 4096, as the cache needs",
                             (unsigned long long)disk->size_bytes);
    return why ? sluice_refuse(disk, error, EINVAL, "%s", why) : 0;
}

/* A folder: one file for each disk that names the tier. */
static int tier_path(struct cache *c, const struct sluice_value *v, char out[512],
                     struct sluice_error *error)
{
    if (v[O_SSD_PATH].is_set)
        return snprintf(out, 512, "%s", v[O_SSD_PATH].string) < 512
                   ? 0
                   : sluice_refuse(c->disk, error, ENAMETOOLONG, "ssd.path is too long");
    return sluice_tier_file(c->disk, v[O_TIER].string, (uint64_t)v[O_SSD_SIZE].integer, out, 512,
                            error);
}

static int open_index(struct cache *c, struct sluice_error *error)
{
    uint64_t blocks = c->options.ram_bytes / BLOCK_BYTES;

    if (cache_has_log(c))
        blocks += log_bytes(&c->log) / BLOCK_BYTES;
    return index_init(&c->index, blocks) < 0
               ? sluice_refuse(c->disk, error, ENOMEM, "there is no memory for the cache's index")
               : 0;
}

static int open_tier(struct cache *c, const struct sluice_value *v, struct sluice_error *error)
{
    char path[512];
    int r = note_read(c, error);

    if (r < 0)
        return r;
    r = tier_path(c, v, path, error);
    if (r == 0)
        r = log_open(c, path, c->options.ssd_bytes, error);
    if (r == 0 || !log_can_do_without(c, r))
        return r;
    log_close(c);
    c->has_lost_tier = true;
    sluice_log(c->disk, SLUICE_LOG_WARNING,
               "the tier, which failed in an earlier run, cannot be used: %s; nothing on it is "
               "needed, and the disk is served without it",
               strerror(-r));
    return 0;
}

static int open_parts(struct cache *c, const struct sluice_value *v, struct sluice_error *error)
{
    bool has_ssd = v[O_TIER].is_set || v[O_SSD_PATH].is_set;
    int r = has_ssd ? open_tier(c, v, error) : 0;

    if (r == 0)
        r = open_index(c, error);
    if (r == 0 && cache_has_log(c))
        r = recover_log(c, error);
    if (r == 0 && c->has_lost_tier)
        step_down_tell_health(c);
    return r == 0 ? ram_open(c, error) : r;
}

static void dispose(struct cache *c)
{
    scrub_end(c);
    ram_close(c);
    log_close(c);
    note_free(c);
    index_free(&c->index);
    pthread_cond_destroy(&c->cond);
    pthread_mutex_destroy(&c->mutex);
    cache_free(c);
}

static struct cache *make(struct sluice_disk *disk, const struct sluice_value *values)
{
    struct cache *c = cache_zalloc(sizeof *c);

    if (!c)
        return NULL;
    c->disk = disk;
    pthread_mutex_init(&c->mutex, NULL);
    pthread_cond_init(&c->cond, NULL);
    cache_read_options(values, &c->options);
    c->keeper.run = keeper_run;
    c->keeper_timer.fire = keeper_fire;
    c->pace_timer.fire = pace_fire;
    /* What an earlier run wrote to the backing may not be durable there. */
    c->through = c->versions.through_before = 1;
    return c;
}

static int cache_open(struct sluice_disk *disk, const struct sluice_value *values, void **instance,
                      struct sluice_error *error)
{
    int r = check_options(disk, values, error);
    struct cache *c = r == 0 ? make(disk, values) : NULL;

    if (r == 0 && !c)
        r = sluice_refuse(disk, error, ENOMEM, "out of memory");
    if (r == 0)
        r = open_parts(c, values, error);
    if (r < 0) {
        if (c)
            dispose(c);
        return r;
    }
    cache_lock(c);
    c->is_open = true;
    cache_unlock(c);
    *instance = c;
    return 0;
}

static void cache_close(void *instance)
{
    struct cache *c = instance;

    cache_lock(c);
    c->is_closing = true;
    cache_unlock(c);
    sluice_timer_stop(c->disk, &c->keeper_timer);
    sluice_timer_stop(c->disk, &c->pace_timer);
    dispose(c);
}

/* --- the table ----------------------------------------------------------------------------------
 */

#define CHANGE SLUICE_HANDLE(cache_on_change, cache_on_change_end)
static const struct sluice_filter filter = {
    .struct_size = sizeof filter,
    .api_version = SLUICE_FILTER_API_VERSION,
    .name = "cache",
    .version = "1.0",
    .vendor = "Sluice",
    .summary = "Keeps blocks in RAM and on an SSD in front of slower storage.",
    .filter_class = SLUICE_CLASS_CACHE,
    .traits = SLUICE_TRAIT_HOLDS_DATA,
    .scratch_bytes = CACHE_SCRATCH_BYTES,
    .block_bytes = BLOCK_BYTES,
    .options = options,
    .counters = cache_counters,
    .verbs = cache_verbs,
    .open = cache_open,
    .close = cache_close,
    .read = SLUICE_HANDLE(cache_on_read, cache_on_read_end),
    .write = CHANGE,
    .flush = SLUICE_HANDLE(cache_on_flush, cache_on_flush_end),
    .trim = CHANGE,
    .zero = CHANGE,
    .extents = SLUICE_HANDLE(cache_on_extents, NULL),
    .prefetch = SLUICE_HANDLE(cache_on_prefetch, NULL),
    .cancel = cache_on_cancel,
    .event = cache_on_event,
    .check = check_values,
};
SLUICE_FILTER(filter)
