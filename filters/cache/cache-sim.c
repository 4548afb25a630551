/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * cache-sim: plays a block trace through the filter's own policy and index and prints miss ratios.
 *
 *     cache-sim [--policy s3-fifo|lru|arc] [--ram PERCENT] [--segment BLOCKS]
 *               [--bypass-after BLOCKS] SIZE... < TRACE
 *
 * A line of the trace is `first-block count ...`; each block is one request.  SIZE is the cache's,
 * in percent of the blocks that occur.  Without --ram all of it is RAM; with it, so many percent of
 * the cache are RAM and the rest is the log on the SSD, with its reclaim.  With --bypass-after,
 * what belongs to a longer stream is not kept (stream.h).  One JSON object a size.
 */
#include "index.h"
#include "policy.h"
#include "stream.h"
#include "world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SEGMENTS_KEPT_FREE 3u

/* --- the trace -----------------------------------------------------------------------------------
 */

struct trace {
    uint64_t *block;
    uint64_t count, capacity, footprint;
};

static void add(struct trace *t, uint64_t block)
{
    if (t->count == t->capacity) {
        t->capacity = t->capacity ? t->capacity * 2 : 1 << 20;
        t->block = realloc(t->block, t->capacity * sizeof *t->block);
        if (!t->block) {
            fprintf(stderr, "cache-sim: there is no memory for the trace\n");
            exit(1);
        }
    }
    t->block[t->count++] = block;
}

static void count_footprint(struct trace *t)
{
    struct index seen;

    if (index_init(&seen, t->count) < 0)
        exit(1);
    for (uint64_t i = 0; i < t->count; i++)
        if (index_put(&seen, &(struct index_item){.block = t->block[i]}) < 0)
            exit(1);
    t->footprint = seen.count;
    index_free(&seen);
}

static void read_trace(struct trace *t)
{
    unsigned long long first, blocks;
    char line[256];

    while (fgets(line, sizeof line, stdin))
        if (sscanf(line, "%llu %llu", &first, &blocks) == 2)
            for (unsigned long long i = 0; i < blocks; i++)
                add(t, first + i);
    count_footprint(t);
}

/* --- the cache
 * ------------------------------------------------------------------------------------ */

struct sim {
    const struct policy_ops *ops;
    struct policy *policy;
    struct index index;
    uint64_t *frame_block;
    uint32_t *free_frames;
    uint32_t free_count;
    /* the log: a ring of segments, tail and head counted since the beginning */
    uint64_t *slot_block;
    uint32_t segment_blocks;
    uint64_t segments, tail, head;
    uint32_t used; /* of the head's segment */
    struct streams streams;
    uint64_t bypass_after;
    uint64_t misses, promoted, copied, bypassed;
};

static uint32_t slot_of(const struct sim *s, uint64_t segment, uint32_t at)
{
    return (uint32_t)(segment % s->segments * s->segment_blocks + at);
}

static void append(struct sim *s, uint64_t block, uint8_t frequency)
{
    struct index_item item = {.block = block, .frequency = frequency};

    if (s->used == s->segment_blocks) {
        s->head++;
        s->used = 0;
    }
    item.place = slot_of(s, s->head, s->used++);
    s->slot_block[item.place] = block;
    if (index_put(&s->index, &item) < 0)
        exit(1);
}

/* As reclaim.c: what was used goes round, the rest leaves. */
static void reclaim(struct sim *s)
{
    for (uint32_t i = 0; i < s->segment_blocks; i++) {
        uint32_t slot = slot_of(s, s->tail, i);
        struct index_item item;

        if (!index_get(&s->index, s->slot_block[slot], &item) || item.is_in_ram ||
            item.place != slot)
            continue;
        if (item.frequency) {
            append(s, item.block, (uint8_t)(item.frequency - 1));
            s->copied++;
        } else {
            index_remove(&s->index, item.block);
        }
    }
    s->tail++;
}

static void promote(struct sim *s, uint32_t frame)
{
    append(s, s->frame_block[frame], 0);
    s->promoted++;
    s->free_frames[s->free_count++] = frame;
    while (s->segments - (s->head - s->tail) <= SEGMENTS_KEPT_FREE)
        reclaim(s);
}

static void evict(struct sim *s)
{
    enum policy_verdict verdict;
    uint32_t frame = s->ops->victim(s->policy, &verdict);

    if (verdict == POLICY_PROMOTE) {
        promote(s, frame);
        return;
    }
    index_remove(&s->index, s->frame_block[frame]);
    s->free_frames[s->free_count++] = frame;
}

static void keep(struct sim *s, uint64_t block)
{
    struct index_item item;
    uint32_t frame;

    while (!s->free_count)
        evict(s);
    frame = s->free_frames[--s->free_count];
    s->frame_block[frame] = block;
    item = (struct index_item){.block = block, .place = frame, .is_in_ram = true};
    if (index_put(&s->index, &item) < 0)
        exit(1);
    if (s->ops->insert(s->policy, frame, block) == POLICY_PROMOTE)
        promote(s, frame);
}

static void request(struct sim *s, uint64_t block)
{
    bool passes_by = streams_note(&s->streams, block, 1) > s->bypass_after;
    struct index_item item;

    if (index_get(&s->index, block, &item)) {
        if (item.is_in_ram)
            s->ops->hit(s->policy, item.place);
        else
            index_touch(&s->index, block);
        return;
    }
    s->misses++;
    if (passes_by)
        s->bypassed++;
    else
        keep(s, block);
}

struct settings {
    const struct policy_ops *ops;
    double ram_percent; /* 0: all */
    uint32_t segment_blocks;
    uint64_t bypass_after;
};

static void make(struct sim *s, const struct settings *settings, uint64_t blocks)
{
    uint64_t frames = settings->ram_percent > 0
                          ? (uint64_t)((double)blocks * settings->ram_percent / 100)
                          : blocks;
    uint64_t main = blocks - frames;
    struct policy_size size = {.frames = (uint32_t)(frames ? frames : 1), .main_blocks = main};

    *s = (struct sim){.ops = settings->ops,
                      .segment_blocks = settings->segment_blocks,
                      .bypass_after = settings->bypass_after};
    s->segments = main / s->segment_blocks + SEGMENTS_KEPT_FREE; /* those kept free beside */
    s->policy = s->ops->create(&size);
    s->frame_block = calloc(size.frames, sizeof *s->frame_block);
    s->free_frames = calloc(size.frames, sizeof *s->free_frames);
    s->slot_block = calloc(s->segments * s->segment_blocks, sizeof *s->slot_block);
    if (!s->policy || !s->frame_block || !s->free_frames || !s->slot_block ||
        index_init(&s->index, blocks + SEGMENTS_KEPT_FREE * s->segment_blocks) < 0)
        exit(1);
    while (s->free_count < size.frames) {
        s->free_frames[s->free_count] = s->free_count;
        s->free_count++;
    }
}

static void unmake(struct sim *s)
{
    s->ops->destroy(s->policy);
    index_free(&s->index);
    free(s->frame_block);
    free(s->free_frames);
    free(s->slot_block);
}

static void play(const struct trace *t, const struct settings *settings, double percent)
{
    uint64_t blocks = (uint64_t)((double)t->footprint * percent / 100);
    struct sim s;

    make(&s, settings, blocks);
    for (uint64_t i = 0; i < t->count; i++)
        request(&s, t->block[i]);
    printf("{\"policy\": \"%s\", \"percent\": %g, \"blocks\": %llu, \"requests\": %llu, "
           "\"misses\": %llu, \"bypassed\": %llu, "
           "\"miss_ratio\": %.4f, \"ssd_writes_per_request\": %.4f, \"of_these_copies\": %.4f}\n",
           settings->ops->name, percent, (unsigned long long)blocks, (unsigned long long)t->count,
           (unsigned long long)s.misses, (unsigned long long)s.bypassed,
           (double)s.misses / (double)t->count, (double)(s.promoted + s.copied) / (double)t->count,
           (double)s.copied / (double)t->count);
    unmake(&s);
}

static int usage(void)
{
    fprintf(stderr,
            "usage: cache-sim [--policy s3-fifo|lru|arc] [--ram PERCENT] [--segment BLOCKS] "
            "[--bypass-after BLOCKS] SIZE... < TRACE\n");
    return 3;
}

int main(int argc, char **argv)
{
    struct settings settings = {
        .ops = &policy_s3fifo, .segment_blocks = 256, .bypass_after = UINT64_MAX};
    struct trace trace = {.block = NULL};
    int i = 1;

    for (; i + 1 < argc && strncmp(argv[i], "--", 2) == 0; i += 2) {
        if (strcmp(argv[i], "--policy") == 0)
            settings.ops = policy_find(argv[i + 1]);
        else if (strcmp(argv[i], "--ram") == 0)
            settings.ram_percent = atof(argv[i + 1]);
        else if (strcmp(argv[i], "--segment") == 0)
            settings.segment_blocks = (uint32_t)atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--bypass-after") == 0)
            settings.bypass_after = strtoull(argv[i + 1], NULL, 0);
        else
            return usage();
    }
    if (i >= argc || !settings.ops || settings.segment_blocks == 0)
        return usage();
    read_trace(&trace);
    for (; i < argc; i++)
        play(&trace, &settings, atof(argv[i]));
    free(trace.block);
    return 0;
}
