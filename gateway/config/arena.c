/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * arena: memory that is given back all at once.
 *
 * Chunks grow a list; an allocation never moves.  Failure is sticky: arena_has_failed() stays true,
 * so that a load may go on with "" and empty arrays and ask once, at its end.
 */
#include "config/internal.h"

#include <stdalign.h>
#include <stdio.h>
#include <string.h>

#define CHUNK_BYTES 16384u

struct chunk {
    struct chunk *next;
    size_t used, size;
    alignas(max_align_t) unsigned char data[];
};

struct arena {
    struct chunk *chunks; /* the newest first */
    size_t taken, limit;
    bool has_failed;
};

struct arena *arena_create(size_t limit_bytes)
{
    struct arena *arena = calloc(1, sizeof *arena);

    if (arena)
        arena->limit = limit_bytes;
    return arena;
}

void arena_destroy(struct arena *arena)
{
    struct chunk *chunk, *next;

    if (!arena)
        return;
    for (chunk = arena->chunks; chunk; chunk = next) {
        next = chunk->next;
        free(chunk);
    }
    free(arena);
}

bool arena_has_failed(const struct arena *arena)
{
    return arena->has_failed;
}

static struct chunk *add_chunk(struct arena *arena, size_t bytes)
{
    size_t size = MAX(bytes, CHUNK_BYTES);
    struct chunk *chunk = calloc(1, sizeof *chunk + size);

    if (!chunk)
        return NULL;
    chunk->size = size;
    chunk->next = arena->chunks;
    arena->chunks = chunk;
    return chunk;
}

void *arena_alloc(struct arena *arena, size_t bytes)
{
    size_t rounded = (bytes + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1);
    struct chunk *chunk = arena->chunks;
    void *p;

    if (rounded < bytes || rounded > arena->limit - arena->taken) {
        arena->has_failed = true;
        return NULL;
    }
    if (!chunk || chunk->size - chunk->used < rounded)
        chunk = add_chunk(arena, rounded);
    if (!chunk) {
        arena->has_failed = true;
        return NULL;
    }
    p = chunk->data + chunk->used;
    chunk->used += rounded;
    arena->taken += rounded;
    return p;
}

const char *arena_strndup(struct arena *arena, const char *text, size_t length)
{
    char *copy = arena_alloc(arena, length + 1);

    if (!copy)
        return "";
    memcpy(copy, text, length);
    return copy;
}

const char *arena_printf(struct arena *arena, const char *fmt, ...)
{
    char buf[1024];
    va_list args;
    int length;

    va_start(args, fmt);
    length = vsnprintf(buf, sizeof buf, fmt, args);
    va_end(args);
    if (length < 0)
        return "";
    if ((size_t)length >= sizeof buf) {
        char *text = arena_alloc(arena, (size_t)length + 1);

        if (!text)
            return "";
        va_start(args, fmt);
        vsnprintf(text, (size_t)length + 1, fmt, args);
        va_end(args);
        return text;
    }
    return arena_strndup(arena, buf, (size_t)length);
}

/* Doubles, so that n additions cost n and not n squared. */
static bool builder_make_room(struct builder *builder, size_t more)
{
    size_t room = MAX(builder->room * 2, builder->length + more + 1);
    char *data;

    if (builder->length + more < builder->room)
        return true;
    data = arena_alloc(builder->arena, MAX(room, 64));
    if (!data)
        return false;
    if (builder->length > 0)
        memcpy(data, builder->data, builder->length);
    builder->data = data;
    builder->room = MAX(room, 64);
    return true;
}

void builder_add(struct builder *builder, const char *text)
{
    size_t length = strlen(text);

    if (!builder_make_room(builder, length))
        return;
    memcpy(builder->data + builder->length, text, length + 1);
    builder->length += length;
}

const char *builder_text(const struct builder *builder)
{
    return builder->data ? builder->data : "";
}
