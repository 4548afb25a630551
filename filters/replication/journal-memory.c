/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * journal-memory.c: where the journal's records lie until they are applied: in chunks, one behind
 * the other.  When nothing is kept, the same chunk is filled again from its beginning, which the
 * processor's cache still holds.
 */
#include "journal.h"

#include <stdlib.h>
#include <string.h>

#ifndef CHUNK_BYTES /* the simulator's are smaller */
#define CHUNK_BYTES (512u << 10)
#endif

static struct chunk *make(size_t capacity)
{
    struct chunk *c = malloc(sizeof *c + capacity);

    if (c)
        *c = (struct chunk){.capacity = capacity};
    return c;
}

/* Nobody uses it any more. */
static void put_away(struct journal_memory *m, struct chunk *c)
{
    if (c->capacity != CHUNK_BYTES) {
        free(c);
        return;
    }
    c->used = 0;
    c->next = m->spare;
    m->spare = c;
}

static struct chunk *take_spare(struct journal_memory *m)
{
    struct chunk *c = m->spare;

    if (!c)
        return make(CHUNK_BYTES);
    m->spare = c->next;
    return c;
}

static bool has_room(const struct chunk *c, size_t bytes)
{
    return c && c->capacity - c->used >= bytes;
}

/* The one to take from, or NULL. */
static struct chunk *with_room(struct journal_memory *m, size_t bytes)
{
    struct chunk *full = m->filling;

    if (bytes > CHUNK_BYTES / 4)
        return make(bytes + PAGE_BYTES); /* by itself: what is filled keeps its room */
    if (has_room(full, bytes))
        return full;
    m->filling = take_spare(m);
    if (m->filling)
        m->filling->uses = 1;
    if (full)
        journal_memory_give(m, full);
    return m->filling;
}

void *journal_memory_take(struct journal_memory *m, size_t bytes, struct chunk **chunk)
{
    struct chunk *c = with_room(m, bytes);

    if (!c)
        return NULL;
    *chunk = c;
    c->uses++;
    c->used += bytes;
    return c->data + c->used - bytes;
}

void journal_memory_give(struct journal_memory *m, struct chunk *c)
{
    c->uses--;
    if (c->uses == 0)
        put_away(m, c);
    else if (c == m->filling && c->uses == 1)
        c->used = 0;
}

bool journal_memory_fill(struct chunk *c, const uint8_t *end, size_t bytes)
{
    if (end != c->data + c->used || !has_room(c, bytes))
        return false;
    memset(c->data + c->used, 0, bytes);
    c->used += bytes;
    return true;
}

void journal_memory_trim(struct journal_memory *m)
{
    if (m->filling && m->filling->uses == 1) {
        journal_memory_give(m, m->filling);
        m->filling = NULL;
    }
    while (m->spare)
        free(take_spare(m));
}
