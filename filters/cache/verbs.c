/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * verbs.c: `sluice cache VERB DISK`: status, flush, mode, drop; the others are in give-up.c.
 */
#include "cache.h"

#include <errno.h>
#include <stdio.h>

#define NANOSECONDS UINT64_C(1000000000)

static int refuse_arguments(struct cache *c, int argc, struct sluice_error *error)
{
    return argc > 0 ? sluice_refuse(c->disk, error, EINVAL, "this takes no arguments") : 0;
}

/* --- status -------------------------------------------------------------------------------------
 */

struct numbers {
    uint64_t blocks, dirty, lost, oldest_ns, log_bytes, free_frames, frames, index_bytes, segments,
        used;
    const char *mode, *now, *order;
    bool has_log, is_ordered;
    int32_t error;
};

static void get_numbers(struct cache *c, struct numbers *n)
{
    uint64_t now = sluice_now_ns(c->disk);

    cache_lock(c);
    *n = (struct numbers){
        .blocks = c->index.count,
        .dirty = c->log.dirty_blocks,
        .lost = c->log.lost_blocks,
        .oldest_ns = c->log.dirty_blocks ? now - MIN(now, log_oldest_dirty_ns(&c->log)) : 0,
        .log_bytes = cache_has_log(c) ? log_bytes(&c->log) : 0,
        .free_frames = c->ram.free_count,
        .frames = c->ram.frames,
        .index_bytes = index_bytes(&c->index) + log_crc_bytes(&c->log),
        .segments = c->log.super.segment_count,
        .used = cache_has_log(c) ? c->log.head.segment - c->log.tail + 1 : 0,
        .mode = cache_modes[c->options.mode].name,
        .now = cache_rules(c)->name,
        .order = order_state(c),
        .has_log = cache_has_log(c),
        .is_ordered = c->options.ordered,
        .error = c->log.error,
    };
    cache_unlock(c);
}

static void say_numbers(struct cache *c, struct sluice_reply *reply, const struct numbers *n)
{
    sluice_reply_text(c->disk, reply, "mode     %s%s%s", n->mode,
                      n->mode == n->now ? "" : ", just now ", n->mode == n->now ? "" : n->now);
    sluice_reply_text(c->disk, reply, "ram      %llu of %llu KiB",
                      (unsigned long long)(n->frames - n->free_frames) * 4,
                      (unsigned long long)n->frames * 4);
    if (n->has_log)
        sluice_reply_text(c->disk, reply, "ssd      %llu of %llu segments of the log, %s%s",
                          (unsigned long long)n->used, (unsigned long long)n->segments, c->log.path,
                          n->error ? ", FAILED" : "");
    else if (c->has_lost_tier)
        sluice_reply_text(c->disk, reply,
                          "ssd      failed in an earlier run and cannot be used; nothing on it is "
                          "needed");
    sluice_reply_text(c->disk, reply,
                      "cached   %llu KiB, of which %llu KiB are not in the backing yet",
                      (unsigned long long)n->blocks * 4, (unsigned long long)n->dirty * 4);
    if (n->is_ordered)
        sluice_reply_text(c->disk, reply, "order    %s", n->order);
    if (n->lost)
        sluice_reply_text(c->disk, reply,
                          "lost     %llu blocks of these cannot be read: sluice cache lost %s",
                          (unsigned long long)n->lost, c->disk->name);
    if (n->dirty)
        sluice_reply_text(c->disk, reply, "oldest   %llu s",
                          (unsigned long long)(n->oldest_ns / NANOSECONDS));
}

static int run_status(void *instance, int argc, const char *const *argv, struct sluice_reply *reply,
                      struct sluice_error *error)
{
    struct cache *c = instance;
    struct numbers n;
    int r = refuse_arguments(c, argc, error);

    (void)argv;
    if (r < 0)
        return r;
    get_numbers(c, &n);
    say_numbers(c, reply, &n);
    sluice_reply_string(c->disk, reply, "mode", n.mode);
    sluice_reply_string(c->disk, reply, "mode_now", n.now);
    sluice_reply_integer(c->disk, reply, "cached_bytes", (int64_t)(n.blocks * BLOCK_BYTES));
    sluice_reply_string(c->disk, reply, "tier",
                        n.error || c->has_lost_tier ? "failed"
                        : n.has_log                 ? "in use"
                                                    : "none");
    sluice_reply_string(c->disk, reply, "order", n.order);
    sluice_reply_integer(c->disk, reply, "lost_blocks", (int64_t)n.lost);
    sluice_reply_integer(c->disk, reply, "dirty_bytes", (int64_t)(n.dirty * BLOCK_BYTES));
    sluice_reply_integer(c->disk, reply, "oldest_dirty_seconds",
                         (int64_t)(n.oldest_ns / NANOSECONDS));
    sluice_reply_integer(c->disk, reply, "ram_bytes",
                         (int64_t)((n.frames - n.free_frames) * BLOCK_BYTES));
    sluice_reply_integer(c->disk, reply, "log_bytes", (int64_t)n.log_bytes);
    sluice_reply_integer(c->disk, reply, "index_bytes", (int64_t)n.index_bytes);
    return 0;
}

/* --- flush --------------------------------------------------------------------------------------
 */

static int run_flush(void *instance, int argc, const char *const *argv, struct sluice_reply *reply,
                     struct sluice_error *error)
{
    struct cache *c = instance;
    int r = refuse_arguments(c, argc, error);

    (void)argv;
    if (r < 0)
        return r;
    if (!cache_has_log(c)) {
        sluice_reply_text(c->disk, reply, "nothing is held back: the cache has no tier");
        return 0;
    }
    cache_drain_begin(c);
    r = cache_wait_clean(c, 0, "emptying the cache", UINT64_MAX, error);
    cache_drain_end(c);
    if (r == 0)
        sluice_reply_text(c->disk, reply, "everything is in the backing");
    return r;
}

/* --- mode ---------------------------------------------------------------------------------------
 */

static int find_mode(const char *word)
{
    for (int i = MODE_WRITE_BACK; i <= MODE_BYPASS; i++)
        if (strcmp(cache_modes[i].name, word) == 0)
            return i;
    return -1;
}

static int run_mode(void *instance, int argc, const char *const *argv, struct sluice_reply *reply,
                    struct sluice_error *error)
{
    struct cache *c = instance;
    int mode = argc == 1 ? find_mode(argv[0]) : -1;

    if (mode < 0)
        return sluice_refuse(c->disk, error, EINVAL,
                             "a mode is one of write-back, write-through, write-around, read-only, "
                             "bypass");
    if (mode == MODE_WRITE_BACK && !cache_has_log(c))
        return sluice_refuse(c->disk, error, EINVAL, "write-back needs a tier: ssd: { tier: ... }");
    cache_lock(c);
    c->options.mode = (enum cache_mode)mode;
    keeper_kick(c);
    cache_unlock(c);
    sluice_reply_text(c->disk, reply, "mode %s until the next reload", cache_modes[mode].name);
    sluice_reply_string(c->disk, reply, "mode", cache_modes[mode].name);
    return 0;
}

/* --- drop ---------------------------------------------------------------------------------------
 */

static void note_ram(const struct index_item *item, void *arg)
{
    struct index_item *found = arg;

    if (item->is_in_ram && found->place == NO_FRAME)
        *found = *item;
}

/* [M] One of a shard. False: none. */
static bool drop_one(struct cache *c, unsigned shard)
{
    struct index_item found = {.place = NO_FRAME};

    index_for_shard(&c->index, shard, note_ram, &found);
    if (found.place == NO_FRAME || !ram_is_settled(c, found.place))
        return false;
    cache_forget(c, &found);
    return true;
}

static uint64_t count_blocks(struct cache *c)
{
    uint64_t count;

    cache_lock(c);
    count = c->index.count;
    cache_unlock(c);
    return count;
}

static int run_drop(void *instance, int argc, const char *const *argv, struct sluice_reply *reply,
                    struct sluice_error *error)
{
    struct cache *c = instance;
    uint64_t before, after;
    int r = refuse_arguments(c, argc, error);

    (void)argv;
    if (r < 0)
        return r;
    before = count_blocks(c);
    for (unsigned shard = 0; shard < index_shard_count(&c->index); shard++) {
        bool more = true;

        while (more) {
            cache_lock(c);
            more = drop_one(c, shard);
            cache_unlock(c);
        }
    }
    after = count_blocks(c);
    sluice_reply_text(c->disk, reply, "dropped %llu KiB of RAM; dirty data stays",
                      (unsigned long long)(before - MIN(before, after)) * 4);
    return 0;
}

const struct sluice_verb cache_verbs[] = {
    {"status", "", "Shows what the cache holds and in which mode it is.", run_status},
    {"flush", "", "Brings everything to the backing and waits for it.", run_flush},
    {"mode", "MODE", "Changes the mode at once, until the next reload.", run_mode},
    {"lost", "", "Names what is on the tier alone and cannot be read there.", verb_lost},
    {"give-up", "COUNT", "Lets go of what is lost, for what the backing has of it.", verb_give_up},
    {"drop", "", "Forgets what is in RAM; nothing that the backing lacks.", run_drop},
    SLUICE_VERBS_END,
};
