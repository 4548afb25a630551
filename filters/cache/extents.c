/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * extents.c: what is allocated: the backing's answer, but dirty blocks are data whatever the
 * backing says, because the backing does not have them yet.  So are those that were dirty when it
 * was asked: what is destaged meanwhile may have come too late for its answer.  Described in pieces
 * of 64 MiB at most; who wants more asks again.
 */
#include "cache.h"

#include <errno.h>

#define PIECE_BYTES (UINT64_C(64) << 20)
#define PIECE_BLOCKS (PIECE_BYTES / BLOCK_BYTES + 1) /* it may begin and end within one */
#define RUNS_MOST 4096u

struct run {
    uint64_t length;
    uint32_t type;
};

struct asked {
    struct cache *c;
    struct sluice_request *request;
    struct sluice_io io;
    uint64_t first_block;
    uint64_t was_dirty[PIECE_BLOCKS / 64 + 1]; /* a bit for each block */
    uint32_t count;
    struct run runs[RUNS_MOST];
};

static void on_extent(struct sluice_io *io, uint64_t offset, uint64_t length, uint32_t type)
{
    struct asked *a = CONTAINER_OF(io, struct asked, io);

    (void)offset;
    if (a->count < RUNS_MOST)
        a->runs[a->count++] = (struct run){length, type};
}

static bool is_dirty_now(const struct cache *c, uint64_t block)
{
    struct index_item item;

    return index_get(&c->index, block, &item) && item.is_dirty;
}

/* [M] */
static void note_dirty(struct asked *a)
{
    uint64_t end = (a->io.offset + a->io.length + BLOCK_BYTES - 1) / BLOCK_BYTES;

    a->first_block = a->io.offset / BLOCK_BYTES;
    for (uint64_t n = 0; a->first_block + n < end; n++)
        if (is_dirty_now(a->c, a->first_block + n))
            a->was_dirty[n / 64] |= UINT64_C(1) << (n % 64);
}

/* [M] Now, or when the backing was asked. */
static bool is_data(const struct asked *a, uint64_t block)
{
    uint64_t n = block - a->first_block;

    return (a->was_dirty[n / 64] >> (n % 64) & 1 && !MUTANT(35)) || is_dirty_now(a->c, block);
}

/* [M] How many blocks from here on are data here, or are not, like the first. */
static uint64_t alike(const struct asked *a, uint64_t block, uint64_t end, bool *is_first_data)
{
    uint64_t n = 0;

    *is_first_data = is_data(a, block);
    while (block + n < end && is_data(a, block + n) == *is_first_data)
        n++;
    return MAX(n, 1);
}

/* [M] One run of the backing, cut where dirty blocks are. False: enough. */
static bool tell_run(struct asked *a, uint64_t offset, const struct run *run)
{
    uint64_t end = MIN(offset + run->length, a->io.offset + a->io.length);

    while (offset < end) {
        bool is_ours;
        uint64_t block = offset / BLOCK_BYTES;
        uint64_t blocks = alike(a, block, (end + BLOCK_BYTES - 1) / BLOCK_BYTES, &is_ours);
        uint64_t next = MIN((block + blocks) * BLOCK_BYTES, end);

        if (!sluice_extent(a->c->disk, a->request, next - offset, is_ours ? 0 : run->type))
            return false;
        offset = next;
    }
    return true;
}

static void on_told(struct sluice_io *io, int32_t error)
{
    struct asked *a = CONTAINER_OF(io, struct asked, io);
    struct cache *c = a->c;
    struct sluice_request *request = a->request;
    uint64_t offset = io->offset;

    cache_lock(c);
    for (uint32_t i = 0; i < a->count && !error; i++) {
        if (!tell_run(a, offset, &a->runs[i]))
            break;
        offset += a->runs[i].length;
    }
    cache_unlock(c);
    cache_free(a);
    sluice_resume(c->disk, request, error ? sluice_fail(error) : sluice_complete());
}

struct sluice_verdict cache_on_extents(void *instance, struct sluice_request *r, void *scratch)
{
    struct cache *c = instance;
    struct asked *a;
    bool has_dirty;

    (void)scratch;
    cache_lock(c);
    has_dirty = c->log.dirty_blocks > 0 || c->log.is_writing;
    cache_unlock(c);
    if (!has_dirty)
        return sluice_pass();
    a = cache_zalloc(sizeof *a);
    if (!a)
        return sluice_fail(ENOMEM);
    a->c = c;
    a->request = r;
    a->io = (struct sluice_io){.op = SLUICE_OP_EXTENTS,
                               .origin = SLUICE_ORIGIN_FILTER,
                               .offset = r->offset,
                               .length = MIN(r->length, PIECE_BYTES),
                               .done = on_told,
                               .on_extent = on_extent};
    cache_lock(c);
    note_dirty(a);
    cache_unlock(c);
    if (sluice_io_submit(c->disk, &a->io) < 0) {
        cache_free(a);
        return sluice_fail(ESHUTDOWN);
    }
    return sluice_defer();
}
