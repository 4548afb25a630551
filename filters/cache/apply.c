/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * apply.c: what a chunk that has been written means for the index.  Recovery does the same from
 * what it reads (recover.c), so both are the log's meaning: later entries replace earlier ones.
 */
#include "cache.h"

#include <errno.h>

/* [M] */
static void count_dirty(struct cache *c, uint32_t slot, int change)
{
    struct log *log = &c->log;
    uint32_t place = log_place_of_slot(log, slot);

    if (log->dirty_in[place] == 0)
        log->dirty_since_ns[place] = sluice_now_ns(c->disk);
    log->dirty_blocks += (uint64_t)(int64_t)change;
    log->dirty_in[place] += (uint32_t)change;
    sluice_count(c->disk, N_DIRTY, change * (int64_t)BLOCK_BYTES);
}

void log_count_entries(struct cache *c, uint32_t slot, int change)
{
    c->log.entries_in[log_place_of_slot(&c->log, slot)] += (uint32_t)change;
}

/* [M] What the entry takes, but for its place in the index. */
static void let_go(struct cache *c, const struct index_item *item)
{
    if (item->is_in_ram) {
        ram_release(c, item->place);
        return;
    }
    log_count_entries(c, item->place, -1);
    if (item->is_dirty)
        count_dirty(c, item->place, -1);
    if (item->is_dirty && item->is_bad)
        rot_heal(c, item->place);
}

void cache_forget(struct cache *c, const struct index_item *item)
{
    let_go(c, item);
    index_remove(&c->index, item->block);
}

#define FOUND_MOST 64u

/* The index must not change while it is gone through, so some are noted and then forgotten. */
struct sweep {
    bool (*matches)(const struct index_item *item, const void *arg);
    const void *arg;
    struct index_item found[FOUND_MOST];
    unsigned count;
};

static void note_match(const struct index_item *item, void *arg)
{
    struct sweep *s = arg;

    if (s->count < FOUND_MOST && s->matches(item, s->arg))
        s->found[s->count++] = *item;
}

void cache_forget_matching(struct cache *c, unsigned shard,
                           bool (*matches)(const struct index_item *item, const void *arg),
                           const void *arg)
{
    struct sweep s = {.matches = matches, .arg = arg};

    do {
        s.count = 0;
        index_for_shard(&c->index, shard, note_match, &s);
        for (unsigned i = 0; i < s.count; i++)
            cache_forget(c, &s.found[i]);
    } while (s.count);
}

/* [M] 0, or ENOMEM: the log has it, the index not. */
static int32_t apply_dirty(struct cache *c, uint64_t block, uint32_t slot)
{
    struct index_item old, item = {.block = block, .place = slot, .is_dirty = true};
    bool was_there = index_get(&c->index, block, &old);

    if (was_there && !old.is_in_ram)
        item.frequency = old.frequency;
    if (index_put(&c->index, &item) < 0) {
        log_fail(c, ENOMEM, "the index cannot grow");
        return ENOMEM;
    }
    if (was_there)
        let_go(c, &old);
    log_count_entries(c, slot, 1);
    count_dirty(c, slot, 1);
    return 0;
}

/* [M] Only what the copy was made from may be replaced by it. */
static int32_t apply_clean(struct cache *c, const struct log_job *job, uint32_t slot)
{
    struct index_item old, item = {.block = job->block, .place = slot, .frequency = job->frequency};

    if (!index_get(&c->index, job->block, &old) || old.is_in_ram != job->source_is_ram ||
        old.place != job->source || old.is_dirty)
        return 0;
    if (index_put(&c->index, &item) < 0) {
        log_fail(c, ENOMEM, "the index cannot grow");
        return ENOMEM;
    }
    log_count_entries(c, slot, 1);
    if (!old.is_in_ram)
        log_count_entries(c, old.place, -1);
    return 0;
}

/* [M] */
static void apply_drop(struct cache *c, uint64_t block)
{
    struct index_item old;

    if (index_get(&c->index, block, &old))
        cache_forget(c, &old);
}

int32_t log_apply(struct cache *c, const struct chunk *chunk)
{
    const struct chunk_header *h = &chunk->header;
    struct log *log = &c->log;
    uint32_t slot = log_slot(log, h->segment, chunk->block) + 1;
    int32_t error = 0, r;

    for (uint32_t i = 0; i < h->count; i++) {
        const struct chunk_entry *e = &h->entry[i];

        r = 0;
        if (e->kind != CHUNK_DROP)
            *log_crc(log, slot) = e->crc;
        if (e->kind == CHUNK_DIRTY)
            r = apply_dirty(c, e->block, slot);
        else if (e->kind == CHUNK_CLEAN)
            r = apply_clean(c, chunk->job[i], slot);
        else
            apply_drop(c, e->block);
        slot += e->kind != CHUNK_DROP;
        error = error ? error : r;
    }
    log->applied = (struct log_position){
        .segment = h->segment,
        .block = chunk->block + 1 + h->data_blocks,
        .sequence = h->sequence + 1,
    };
    return error;
}
