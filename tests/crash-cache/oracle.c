/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * oracle.c: see the header.  The contents of a sector are its block's number and the number of the
 * write, over and over; of a trim or zeroing, zeros.
 */
#include "oracle.h"

#include "sim.h"

#define KEPT 64u

struct content {
    uint32_t number;
    bool is_zero;
};
struct sector {
    struct content list[KEPT]; /* oldest first */
    uint32_t count;
    uint32_t acknowledged, durable; /* numbers: no older contents may be read; after a power cut */
};
static struct sector sectors[SECTORS];
static uint32_t next_number = 1;
static bool is_crowded;

bool oracle_wants_flush(void)
{
    return is_crowded;
}

void oracle_reset(void)
{
    memset(sectors, 0, sizeof sectors);
    for (uint32_t i = 0; i < SECTORS; i++) {
        sectors[i].count = 1;
        sectors[i].list[0].is_zero = true; /* number 0 */
    }
    next_number = 1;
}

static void stamp(uint8_t *sector, uint32_t index, uint32_t number)
{
    uint64_t words[2] = {index + 1, number};

    for (uint32_t at = 0; at < 512; at += 16)
        memcpy(sector + at, words, 16);
}

/* What is older than the durable one can only be asked for by a read that is under way: it goes
 * when the list is full. */
static void add(struct sector *s, struct content c)
{
    while (s->count > KEPT / 2 && s->list[1].number <= s->durable) {
        memmove(s->list, s->list + 1, (s->count - 1) * sizeof s->list[0]);
        s->count--;
    }
    if (s->count == KEPT)
        abort();
    s->list[s->count++] = c;
    is_crowded |= s->count > KEPT * 3 / 4;
}

uint32_t oracle_begin(uint64_t block, uint64_t count, uint8_t *data)
{
    uint32_t number = next_number++;

    for (uint32_t i = 0; i < count * 8; i++) {
        uint32_t index = (uint32_t)block * 8 + i;

        add(&sectors[index], (struct content){number, data == NULL});
        if (data)
            stamp(data + i * 512, index, number);
    }
    return number;
}

void oracle_acknowledge(uint64_t block, uint64_t count, uint32_t number, bool is_durable)
{
    for (uint64_t i = block * 8; i < (block + count) * 8; i++) {
        sectors[i].acknowledged = number;
        if (is_durable)
            sectors[i].durable = number;
    }
}

void oracle_flush_begin(uint32_t *floor)
{
    for (uint32_t i = 0; i < SECTORS; i++)
        floor[i] = sectors[i].acknowledged;
}

void oracle_flush_end(const uint32_t *floor)
{
    is_crowded = false;
    for (uint32_t i = 0; i < SECTORS; i++)
        if (sectors[i].durable < floor[i])
            sectors[i].durable = floor[i];
}

void oracle_read_begin(uint64_t block, uint64_t count, uint32_t *floor)
{
    for (uint64_t i = 0; i < count * 8; i++)
        floor[i] = sectors[block * 8 + i].acknowledged;
}

static bool holds(const uint8_t *sector, uint32_t index, const struct content *c)
{
    uint8_t want[512];

    memset(want, 0, sizeof want);
    if (!c->is_zero)
        stamp(want, index, c->number);
    return memcmp(sector, want, sizeof want) == 0;
}

/* Which content it is, newest first; NULL: none that may be there. */
static const struct content *find(const uint8_t *sector, uint32_t index, uint32_t floor)
{
    const struct sector *s = &sectors[index];

    for (uint32_t i = s->count; i-- > 0;)
        if (s->list[i].number >= floor && holds(sector, index, &s->list[i]))
            return &s->list[i];
    return NULL;
}

static void complain(const uint8_t *sector, uint32_t index, uint32_t floor, const char *when)
{
    uint64_t words[2];

    memcpy(words, sector, 16);
    sim_violation("%s: sector %u of block %u holds {%llu, %llu}, oldest allowed %u, newest %u",
                  when, index % 8, index / 8, (unsigned long long)words[0],
                  (unsigned long long)words[1], floor,
                  sectors[index].list[sectors[index].count - 1].number);
}

bool oracle_check(uint64_t block, uint64_t count, const uint8_t *data, const uint32_t *floor,
                  const char *when)
{
    for (uint32_t i = 0; i < count * 8; i++)
        if (!find(data + i * 512, (uint32_t)block * 8 + i, floor[i])) {
            complain(data + i * 512, (uint32_t)block * 8 + i, floor[i], when);
            return false;
        }
    return true;
}

void oracle_crash(bool is_power)
{
    for (uint32_t i = 0; i < SECTORS && is_power; i++)
        sectors[i].acknowledged = sectors[i].durable;
}

bool oracle_settle(const uint8_t *disk, bool was_power)
{
    for (uint32_t i = 0; i < SECTORS; i++) {
        struct sector *s = &sectors[i];
        const struct content *c = find(disk + i * 512, i, s->acknowledged);

        if (!c) {
            complain(disk + i * 512, i, s->acknowledged,
                     was_power ? "P1, power cut" : "P0, kill -9");
            return false;
        }
        s->count = (uint32_t)(c - s->list) + 1; /* what is newer has not happened */
        s->acknowledged = c->number;
        if (was_power)
            s->durable = c->number;
    }
    return true;
}

bool oracle_has_data(uint64_t block)
{
    const struct sector *s = &sectors[block * 8];

    return !s->list[s->count - 1].is_zero && s->list[s->count - 1].number == s->acknowledged;
}
