/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * give-up.c: `sluice cache lost` and `sluice cache give-up`: names the blocks that are on the tier
 * alone and cannot be read there, and lets go of them when somebody says how many they are, so that
 * nobody does so unknowingly.  The disk then has of each what the backing has, which is older.
 *
 * A tier that works is told by entries of kind DROP; of one that has failed the note is written
 * anew (step-down.c).
 */
#include "cache.h"

#include <errno.h>
#include <stdlib.h>

#define LINES_MOST 1000u
#define BLOCKS_MOST 65536u /* of one listing, or of one giving up */

struct lost {
    uint64_t block[BLOCKS_MOST];
    uint32_t count;
};

static void note_lost(const struct index_item *item, void *arg)
{
    struct lost *l = arg;

    if (item->is_dirty && item->is_bad && l->count < BLOCKS_MOST)
        l->block[l->count++] = item->block;
}

static int by_number(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;

    return *x < *y ? -1 : *x > *y;
}

static struct lost *find_lost(struct cache *c)
{
    struct lost *l = cache_zalloc(sizeof *l);

    for (unsigned i = 0; l && i < index_shard_count(&c->index); i++) {
        cache_lock(c);
        index_for_shard(&c->index, i, note_lost, l);
        cache_unlock(c);
    }
    if (l)
        qsort(l->block, l->count, sizeof l->block[0], by_number);
    return l;
}

static uint64_t count_lost(struct cache *c)
{
    uint64_t count;

    cache_lock(c);
    count = c->log.lost_blocks;
    cache_unlock(c);
    return count;
}

static void list_runs(struct cache *c, const struct lost *l, struct sluice_reply *reply)
{
    uint32_t lines = 0, n;

    for (uint32_t i = 0; i < l->count && lines < LINES_MOST; i += n, lines++) {
        for (n = 1; i + n < l->count && l->block[i + n] == l->block[i] + n;)
            n++;
        sluice_reply_text(c->disk, reply, "blocks %llu to %llu, bytes %llu to %llu",
                          (unsigned long long)l->block[i], (unsigned long long)l->block[i] + n - 1,
                          (unsigned long long)l->block[i] * BLOCK_BYTES,
                          (unsigned long long)(l->block[i] + n) * BLOCK_BYTES - 1);
    }
}

int verb_lost(void *instance, int argc, const char *const *argv, struct sluice_reply *reply,
              struct sluice_error *error)
{
    struct cache *c = instance;
    struct lost *l;

    (void)argv;
    if (argc > 0)
        return sluice_refuse(c->disk, error, EINVAL, "this takes no arguments");
    l = find_lost(c);
    if (!l)
        return sluice_refuse(c->disk, error, ENOMEM, "out of memory");
    list_runs(c, l, reply);
    sluice_reply_text(c->disk, reply, "%llu blocks are on the tier alone and cannot be read there",
                      (unsigned long long)count_lost(c));
    sluice_reply_integer(c->disk, reply, "lost_blocks", (int64_t)count_lost(c));
    if (l->count)
        sluice_reply_integer(c->disk, reply, "first_lost_block", (int64_t)l->block[0]);
    cache_free(l);
    return 0;
}

/* Of a tier that works. */
static int32_t forget_each(struct cache *c, const struct lost *l)
{
    int32_t error = 0;

    for (uint32_t i = 0; i < l->count && !error; i++)
        error = log_forget_wait(c, l->block[i]);
    return error ? error : log_sync_wait(c);
}

/* Of one that has failed: the keeper does it with its next note. */
static int32_t forget_by_note(struct cache *c)
{
    int32_t error;

    cache_lock(c);
    c->step_down.gives_up = true;
    c->step_down.try_again_ns = 0;
    keeper_kick(c);
    while (c->step_down.gives_up && !c->is_closing)
        cache_sleep(&c->cond, &c->mutex);
    error = c->step_down.noting_failed ? EIO : 0;
    cache_unlock(c);
    return error;
}

static int32_t let_go_of(struct cache *c, const struct lost *l)
{
    bool has_failed;

    for (uint32_t i = 0; i < l->count; i++)
        sluice_log(c->disk, SLUICE_LOG_WARNING,
                   "block %llu is given up: the disk has what the backing has of it",
                   (unsigned long long)l->block[i]);
    cache_lock(c);
    has_failed = c->log.error != 0;
    cache_unlock(c);
    return has_failed ? forget_by_note(c) : forget_each(c, l);
}

static int refuse_count(struct cache *c, uint64_t count, struct sluice_error *error)
{
    if (count == 0)
        return sluice_refuse(c->disk, error, ENOENT, "nothing is lost");
    return sluice_refuse(c->disk, error, EINVAL,
                         "%llu blocks would be given up, with what was written to them last; see "
                         "sluice cache lost %s, then say sluice cache give-up %s %llu",
                         (unsigned long long)count, c->disk->name, c->disk->name,
                         (unsigned long long)count);
}

int verb_give_up(void *instance, int argc, const char *const *argv, struct sluice_reply *reply,
                 struct sluice_error *error)
{
    struct cache *c = instance;
    uint64_t count = count_lost(c);
    struct lost *l;
    int32_t failure;
    char *end = NULL;

    if (argc != 1 || count == 0 || strtoull(argv[0], &end, 10) != count || *end)
        return refuse_count(c, count, error);
    l = find_lost(c);
    if (!l)
        return sluice_refuse(c->disk, error, ENOMEM, "out of memory");
    failure = let_go_of(c, l);
    if (!failure) {
        list_runs(c, l, reply);
        sluice_reply_text(c->disk, reply, "given up; %llu blocks are still lost",
                          (unsigned long long)count_lost(c));
        sluice_reply_integer(c->disk, reply, "lost_blocks", (int64_t)count_lost(c));
    }
    cache_free(l);
    return failure ? sluice_refuse(c->disk, error, failure, "they cannot be given up: %s",
                                   strerror(failure))
                   : 0;
}
