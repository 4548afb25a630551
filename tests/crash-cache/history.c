/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * history.c: see the header.  Zeros do not tell which change they are of: the oldest that may be
 * there is taken, and looked for again when what else is there asks for more.
 */
#include "history.h"

#include "sim.h"

struct pair {
    uint32_t from, floor; /* of a list of zeros: floor alone */
};
struct list {
    struct pair *pair;
    uint32_t count, capacity;
};
static struct list *floors, *zeros; /* of each sector; both grow */
static uint32_t sector_count;

static void add(struct list *l, struct pair p)
{
    if (l->count == l->capacity) {
        l->capacity = l->capacity ? l->capacity * 2 : 8;
        l->pair = realloc(l->pair, l->capacity * sizeof *l->pair);
        if (!l->pair)
            abort();
    }
    l->pair[l->count++] = p;
}

void history_reset(uint32_t sectors)
{
    if (!floors) {
        floors = calloc(sectors, sizeof *floors);
        zeros = calloc(sectors, sizeof *zeros);
        if (!floors || !zeros)
            abort();
    }
    sector_count = sectors;
    for (uint32_t i = 0; i < sectors; i++) {
        floors[i].count = zeros[i].count = 0;
        add(&zeros[i], (struct pair){0, 0});
    }
}

void history_zero(uint32_t first, uint32_t count, uint32_t number)
{
    for (uint32_t i = first; i < first + count; i++)
        add(&zeros[i], (struct pair){0, number});
}

static uint32_t last_floor(const struct list *l)
{
    return l->count ? l->pair[l->count - 1].floor : 0;
}

void history_note(uint32_t first, uint32_t count, const uint32_t *floor, uint32_t from)
{
    for (uint32_t i = 0; i < count; i++)
        if (floor[i] > last_floor(&floors[first + i]))
            add(&floors[first + i], (struct pair){from, floor[i]});
}

/* What the sector has to hold at least, where changes up to `newest` are to be seen. */
static uint32_t floor_of(uint32_t sector, uint32_t newest)
{
    const struct list *l = &floors[sector];
    uint32_t floor = 0;

    for (uint32_t i = 0; i < l->count && l->pair[i].from <= newest; i++)
        floor = l->pair[i].floor;
    return floor;
}

/* 0: zeros. */
static uint32_t number_in(const uint8_t *disk, uint32_t sector)
{
    uint64_t words[2];

    memcpy(words, disk + (size_t)sector * 512, sizeof words);
    return (uint32_t)words[1];
}

/* The oldest change that left zeros and is not before the floor; UINT32_MAX: there is none. */
static uint32_t oldest_zero(uint32_t sector, uint32_t floor)
{
    const struct list *l = &zeros[sector];

    for (uint32_t i = 0; i < l->count; i++)
        if (l->pair[i].floor >= floor)
            return l->pair[i].floor;
    return UINT32_MAX;
}

/* One look at all sectors; *newest may grow.  False: sector `*at` is too old. */
static bool look(const uint8_t *disk, uint32_t *newest, uint32_t *at)
{
    for (*at = 0; *at < sector_count; ++*at) {
        uint32_t floor = floor_of(*at, *newest), number = number_in(disk, *at);

        if (number == 0)
            number = oldest_zero(*at, floor);
        if (number < floor || number == UINT32_MAX)
            return false;
        *newest = number > *newest ? number : *newest;
    }
    return true;
}

bool history_check(const uint8_t *disk, const char *when)
{
    uint32_t newest = 0, before, at;

    for (uint32_t i = 0; i < sector_count; i++)
        newest = number_in(disk, i) > newest ? number_in(disk, i) : newest;
    do {
        before = newest;
        if (!look(disk, &newest, &at)) {
            sim_violation("P2, %s: change %u is there, and sector %u of block %u holds %u, not %u "
                          "or later",
                          when, newest, at % 8, at / 8, number_in(disk, at), floor_of(at, newest));
            return false;
        }
    } while (newest != before);
    return true;
}
