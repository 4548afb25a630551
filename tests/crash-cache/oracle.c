/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * oracle.c: see the header.  The contents of a sector are its block's number and the number of the
 * write, over and over; of a trim or zeroing, zeros.
 */
#include "oracle.h"

#include "sim.h"

#include <sys/mman.h>

struct content {
    uint32_t number;
    bool is_zero;
};
struct sector {
    struct content list[ORACLE_KEPT]; /* oldest first */
    uint32_t count;
    uint32_t acknowledged, durable; /* numbers: no older contents may be read; after a power cut */
};
static struct memory {
    uint32_t sector_count, next_number;
    bool is_crowded;
    struct sector sector[];
} * memory;

void oracle_make(uint32_t sectors)
{
    memory = mmap(NULL, sizeof *memory + sectors * sizeof memory->sector[0], PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        abort();
    memory->sector_count = sectors;
    oracle_reset();
}

bool oracle_wants_flush(void)
{
    return memory->is_crowded;
}

void oracle_reset(void)
{
    memset(memory->sector, 0, memory->sector_count * sizeof memory->sector[0]);
    for (uint32_t i = 0; i < memory->sector_count; i++) {
        memory->sector[i].count = 1;
        memory->sector[i].list[0].is_zero = true; /* number 0 */
    }
    memory->next_number = 1;
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
    while (s->count > ORACLE_KEPT / 2 && s->list[1].number <= s->durable) {
        memmove(s->list, s->list + 1, (s->count - 1) * sizeof s->list[0]);
        s->count--;
    }
    if (s->count == ORACLE_KEPT)
        abort();
    s->list[s->count++] = c;
    memory->is_crowded |= s->count > ORACLE_KEPT * 3 / 4;
}

uint32_t oracle_begin(uint32_t first, uint32_t count, uint8_t *data)
{
    uint32_t number = memory->next_number++;

    for (uint32_t i = 0; i < count; i++) {
        add(&memory->sector[first + i], (struct content){number, data == NULL});
        if (data)
            stamp(data + i * 512, first + i, number);
    }
    return number;
}

void oracle_acknowledge(uint32_t first, uint32_t count, uint32_t number, bool is_durable)
{
    for (uint32_t i = first; i < first + count; i++) {
        memory->sector[i].acknowledged = number;
        if (is_durable)
            memory->sector[i].durable = number;
    }
}

uint32_t oracle_next(void)
{
    return memory->next_number;
}

void oracle_flush_begin(uint32_t *floor)
{
    for (uint32_t i = 0; i < memory->sector_count; i++)
        floor[i] = memory->sector[i].acknowledged;
}

void oracle_flush_end(const uint32_t *floor)
{
    memory->is_crowded = false;
    for (uint32_t i = 0; i < memory->sector_count; i++)
        if (memory->sector[i].durable < floor[i])
            memory->sector[i].durable = floor[i];
}

void oracle_read_begin(uint32_t first, uint32_t count, uint32_t *floor)
{
    for (uint32_t i = 0; i < count; i++)
        floor[i] = memory->sector[first + i].acknowledged;
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
    const struct sector *s = &memory->sector[index];

    for (uint32_t i = s->count; i-- > 0;)
        if (s->list[i].number >= floor && holds(sector, index, &s->list[i]))
            return &s->list[i];
    return NULL;
}

static bool is_of_any(const uint8_t *sector, uint32_t index, uint32_t floor, uint32_t at)
{
    const struct sector *s = &memory->sector[index];
    uint8_t want[512];

    for (uint32_t i = s->count; i-- > 0 && s->list[i].number >= floor;) {
        memset(want, 0, sizeof want);
        if (!s->list[i].is_zero)
            stamp(want, index, s->list[i].number);
        if (memcmp(sector + at, want + at, 8) == 0)
            return true;
    }
    return false;
}

/* Word by word one of those that may be there: a write was under way. */
static bool is_mixed(const uint8_t *sector, uint32_t index, uint32_t floor)
{
    for (uint32_t at = 0; at < 512; at += 8)
        if (!is_of_any(sector, index, floor, at))
            return false;
    return true;
}

static void complain(const uint8_t *sector, uint32_t index, uint32_t floor, const char *when)
{
    uint64_t words[2];

    memcpy(words, sector, 16);
    sim_violation("%s: sector %u of block %u holds {%llu, %llu}, oldest allowed %u, newest %u",
                  when, index % 8, index / 8, (unsigned long long)words[0],
                  (unsigned long long)words[1], floor,
                  memory->sector[index].list[memory->sector[index].count - 1].number);
}

static bool check(uint32_t first, uint32_t count, const uint8_t *data, const uint32_t *floor,
                  const char *when, bool may_mix)
{
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *sector = data + i * 512;

        if (!find(sector, first + i, floor[i]) &&
            !(may_mix && is_mixed(sector, first + i, floor[i]))) {
            complain(sector, first + i, floor[i], when);
            return false;
        }
    }
    return true;
}

bool oracle_check(uint32_t first, uint32_t count, const uint8_t *data, const uint32_t *floor,
                  const char *when)
{
    return check(first, count, data, floor, when, false);
}

bool oracle_check_mixed(uint32_t first, uint32_t count, const uint8_t *data, const uint32_t *floor,
                        const char *when)
{
    return check(first, count, data, floor, when, true);
}

bool oracle_check_nothing_older(const uint8_t *bytes, uint64_t length, const uint32_t *floor)
{
    for (uint64_t at = 0; at < length; at += 512) {
        uint64_t words[2];
        uint8_t want[512];

        memcpy(words, bytes + at, 16);
        if (words[0] == 0 || words[0] > memory->sector_count || words[1] == 0 ||
            words[1] >= floor[words[0] - 1])
            continue;
        stamp(want, (uint32_t)words[0] - 1, (uint32_t)words[1]);
        if (memcmp(want, bytes + at, 512) != 0)
            continue;
        complain(bytes + at, (uint32_t)words[0] - 1, floor[words[0] - 1], "left after a sanitize");
        return false;
    }
    return true;
}

void oracle_crash(bool is_power)
{
    for (uint32_t i = 0; i < memory->sector_count && is_power; i++)
        memory->sector[i].acknowledged = memory->sector[i].durable;
}

bool oracle_settle_but(const uint8_t *disk, bool was_power, const bool *is_lost)
{
    for (uint32_t i = 0; i < memory->sector_count; i++) {
        struct sector *s = &memory->sector[i];
        const struct content *c = find(disk + i * 512, i, s->acknowledged);

        if (is_lost && is_lost[i / 8])
            continue;
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

bool oracle_settle(const uint8_t *disk, bool was_power)
{
    return oracle_settle_but(disk, was_power, NULL);
}

uint32_t oracle_data(uint32_t sector)
{
    const struct sector *s = &memory->sector[sector];
    const struct content *newest = &s->list[s->count - 1];

    return newest->is_zero || newest->number != s->acknowledged ? 0 : newest->number;
}

uint32_t oracle_most_contents(uint32_t first, uint32_t count)
{
    uint32_t most = 0;

    for (uint32_t i = first; i < first + count; i++)
        if (memory->sector[i].count > most)
            most = memory->sector[i].count;
    return most;
}
