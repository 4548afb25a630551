/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * log-open.c: opens a tier for this disk, and only for this disk (R12): makes it when it is new,
 * refuses it when it holds another disk's data, refuses to go on without it when the disk's state
 * says that it may hold data which the backing lacks.
 *
 * The state file "holds-data" names the tier by its nonce.  It is written before the first byte can
 * be acknowledged from the tier, and removed only when everything has been destaged and the tier
 * has been released.
 */
#include "cache.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

#define STATE_NAME \
    "holds-data" /* the gateway does not serve the disk without us while it is there */

struct binding {
    char magic[8];
    uint64_t nonce;
    char path[512];
};
static const char binding_magic[8] = "tier1";

/* --- which disk ---------------------------------------------------------------------------------
 */

static void parse_uuid(const char *text, uint8_t out[16])
{
    unsigned n = 0;

    memset(out, 0, 16);
    for (; *text && n < 32; text++) {
        const char *digits = "0123456789abcdef", *d = strchr(digits, *text | 0x20);

        if (*text == '-' || !d)
            continue;
        out[n / 2] = (uint8_t)(out[n / 2] << 4 | (d - digits));
        n++;
    }
}

static bool is_ours(const struct cache *c, const struct superblock *s)
{
    uint8_t uuid[16];

    parse_uuid(c->disk->uuid, uuid);
    return memcmp(uuid, s->disk_uuid, sizeof uuid) == 0 || MUTANT(12);
}

static bool read_binding(struct cache *c, struct binding *b)
{
    size_t length = 0;

    return sluice_state_read(c->disk, STATE_NAME, b, sizeof *b, &length) == 0 &&
           length == sizeof *b && memcmp(b->magic, binding_magic, sizeof b->magic) == 0;
}

static int write_binding(struct cache *c, struct sluice_error *error)
{
    struct binding b = {.nonce = c->log.super.nonce}, old;
    int r;

    if (read_binding(c, &old) && old.nonce == b.nonce && strcmp(old.path, c->log.path) == 0)
        return 0;
    memcpy(b.magic, binding_magic, sizeof b.magic);
    snprintf(b.path, sizeof b.path, "%s", c->log.path);
    r = sluice_state_write(c->disk, STATE_NAME, &b, sizeof b);
    return r < 0 ? sluice_refuse(c->disk, error, -r, "the state of the tier cannot be written: %s",
                                 strerror(-r))
                 : 0;
}

/* --- what is known of a tier that is gone
 * ---------------------------------------------------------
 */

#define KNOWN_NAME "last-known"

struct known {
    char magic[8];
    uint64_t nonce, dirty_blocks;
    int64_t unix_s;
};
static const char known_magic[8] = "known1";

static bool read_known(struct cache *c, uint64_t nonce, struct known *k)
{
    size_t length = 0;

    return sluice_state_read(c->disk, KNOWN_NAME, k, sizeof *k, &length) == 0 &&
           length == sizeof *k && memcmp(k->magic, known_magic, sizeof k->magic) == 0 &&
           k->nonce == nonce;
}

void log_note_known(struct cache *c)
{
    struct known k = {.nonce = c->log.super.nonce, .unix_s = time(NULL)};
    int r;

    memcpy(k.magic, known_magic, sizeof k.magic);
    cache_lock(c);
    k.dirty_blocks = c->log.dirty_blocks;
    cache_unlock(c);
    r = sluice_state_write(c->disk, KNOWN_NAME, &k, sizeof k);
    if (r < 0)
        sluice_log(c->disk, SLUICE_LOG_NOTICE, "how much is dirty cannot be noted: %s",
                   strerror(-r));
}

static const char *format_time(int64_t unix_s, char *out, size_t capacity)
{
    time_t t = (time_t)unix_s;
    struct tm tm;

    if (!gmtime_r(&t, &tm) || strftime(out, capacity, "%Y-%m-%d %H:%M:%S", &tm) == 0)
        out[0] = 0;
    return out;
}

/* --- superblocks ---------------------------------------------------------------------------------
 */

enum found { FOUND_NONE, FOUND_ONE, FOUND_FOREIGN, FOUND_OTHER };

/* Something that is neither empty nor of a cache, in the first blocks: a file system, a partition
 * table, another program's file.  One of ours that was being made anew is empty there. */
static bool is_something_else(const uint8_t *blocks)
{
    for (unsigned i = 0; i < 2; i++)
        if (format_is_super_of_any_version(blocks + i * BLOCK_BYTES))
            return false;
    for (uint32_t i = 0; i < 2 * BLOCK_BYTES; i++)
        if (blocks[i])
            return true;
    return false;
}

/* The newer of the two. */
static int read_supers(struct cache *c, struct superblock *out, enum found *found)
{
    uint8_t *block = cache_alloc_pages(2 * BLOCK_BYTES);
    struct superblock s;
    int r = block ? log_io_wait(c, SLUICE_OP_READ, 0, block, 2 * BLOCK_BYTES) : -ENOMEM;

    *found = FOUND_NONE;
    for (unsigned i = 0; r == 0 && i < 2; i++) {
        if (format_is_foreign_version(block + i * BLOCK_BYTES))
            *found = FOUND_FOREIGN;
        if (!format_get_superblock(block + i * BLOCK_BYTES, &s))
            continue;
        if (*found == FOUND_ONE && s.generation < out->generation)
            continue;
        *out = s;
        *found = FOUND_ONE;
    }
    if (r == 0 && *found == FOUND_NONE && is_something_else(block))
        *found = FOUND_OTHER;
    cache_free(block);
    return r;
}

/* R11: what an earlier making left cannot be taken for ours: the superblocks go first, and all that
 * is written from now on has a new nonce. */
static int format_tier(struct cache *c, uint64_t bytes)
{
    struct superblock *s = &c->log.super;
    uint8_t *block = cache_alloc_pages(2 * BLOCK_BYTES);
    int r = block ? 0 : -ENOMEM;

    *s = (struct superblock){.generation = 1};
    if (r == 0 && !format_layout(bytes, s))
        r = -ENOSPC;
    s->nonce = MUTANT(11) ? 1 : cache_random();
    s->incarnation = MUTANT(11) ? 1 : cache_random();
    s->disk_bytes = c->disk->size_bytes;
    s->start.sequence = s->end_sequence = 1;
    parse_uuid(c->disk->uuid, s->disk_uuid);
    if (r == 0) {
        memset(block, 0, 2 * BLOCK_BYTES);
        r = log_io_wait(c, SLUICE_OP_WRITE, 0, block, 2 * BLOCK_BYTES);
    }
    if (r == 0)
        r = log_io_wait(c, SLUICE_OP_ZERO, 2, NULL,
                        bytes / BLOCK_BYTES * BLOCK_BYTES - 2 * BLOCK_BYTES);
    if (r == 0 && c->log.is_promised)
        r = prewrite_first(c);
    if (r == 0)
        r = log_io_wait(c, SLUICE_OP_FLUSH, 0, NULL, 0);
    if (r == 0) {
        format_put_superblock(s, block);
        r = log_io_wait(c, SLUICE_OP_WRITE, 1, block, BLOCK_BYTES); /* generation 1: B */
    }
    if (r == 0)
        r = log_io_wait(c, SLUICE_OP_FLUSH, 0, NULL, 0);
    cache_free(block);
    return r;
}

/* --- which tier ----------------------------------------------------------------------------------
 */

static int refuse_foreign(struct cache *c, enum found found, const struct superblock *s,
                          struct sluice_error *error)
{
    if (found == FOUND_FOREIGN)
        return sluice_refuse(c->disk, error, ENOTSUP,
                             "%s was made by another version of the cache; go back to that version "
                             "to empty it, or remove the file if its data is of no use",
                             c->log.path);
    if (found == FOUND_OTHER)
        return sluice_refuse(c->disk, error, EEXIST,
                             "%s holds something that is not of a cache, and would be overwritten; "
                             "if it is of no use, remove the file, or wipefs -a the device",
                             c->log.path);
    if (found == FOUND_ONE && !s->is_released && !is_ours(c, s))
        return sluice_refuse(c->disk, error, EBUSY,
                             "%s holds the data of another disk; name another tier, or remove the "
                             "file if that disk is gone",
                             c->log.path);
    return 0;
}

/* A note says that nothing of what the tier of this nonce holds is needed. */
static bool is_void(const struct cache *c, uint64_t nonce)
{
    return note_is_of(c, nonce) && note_blocks(c) == 0;
}

/* One that has been released is empty, though the binding may not have been removed yet. */
/* The user has said that it is gone for good. */
static bool is_given_up(struct cache *c, uint64_t nonce)
{
    return c->options.given_up && c->options.given_up == nonce;
}

/* What is known of it: exactly when it had failed, else as of its last checkpoint. */
static void describe_loss(struct cache *c, uint64_t nonce, char *out, size_t capacity)
{
    struct known k;
    char when[32];

    if (note_is_of(c, nonce))
        snprintf(out, capacity, "%llu KiB of it are on that tier alone",
                 (unsigned long long)note_blocks(c) * BLOCK_BYTES / 1024);
    else if (read_known(c, nonce, &k))
        snprintf(out, capacity, "%llu KiB of it were on that tier alone at %s UTC",
                 (unsigned long long)k.dirty_blocks * BLOCK_BYTES / 1024,
                 format_time(k.unix_s, when, sizeof when));
    else
        snprintf(out, capacity, "how much of it is on that tier alone is not known");
}

/* The sentence that names the way out. */
static int refuse_without(struct cache *c, const struct binding *b, int code, const char *state,
                          struct sluice_error *error)
{
    char loss[120];

    describe_loss(c, b->nonce, loss, sizeof loss);
    return sluice_refuse(
        c->disk, error, code,
        "the disk's newest data is on the tier %.200s, which %.100s; bring it back "
        "(is the SSD there and mounted?); %s; if it is gone for good: "
        "ssd: { given_up: \"%016llx\" }",
        b->path, state, loss, (unsigned long long)b->nonce);
}

static int refuse_lost(struct cache *c, bool is_one, const struct superblock *s,
                       struct sluice_error *error)
{
    struct binding b;

    if (!read_binding(c, &b) || (is_one && s->nonce == b.nonce) || is_void(c, b.nonce) ||
        MUTANT(12))
        return 0;
    if (is_given_up(c, b.nonce)) {
        char loss[120];

        describe_loss(c, b.nonce, loss, sizeof loss);
        sluice_log(c->disk, SLUICE_LOG_WARNING,
                   "the tier %016llx is given up, with the disk's newest data: %s",
                   (unsigned long long)b.nonce, loss);
        return 0;
    }
    return refuse_without(c, &b, ENODATA, is_one ? "is another one now" : "is missing or empty",
                          error);
}

static bool layout_is_possible(const struct log *log, const struct superblock *s)
{
    struct superblock want = {.generation = 0};
    uint64_t end = (uint64_t)s->first_block + (uint64_t)s->segment_blocks * s->segment_count;

    return format_layout(end * BLOCK_BYTES, &want) && s->segment_blocks >= 2 &&
           s->segment_count >= 4 && end * BLOCK_BYTES <= log->file_bytes;
}

static int allocate(struct cache *c)
{
    struct log *log = &c->log;

    log->chunk = cache_zalloc(sizeof *log->chunk);
    log->dirty_in = cache_zalloc(log->super.segment_count * sizeof *log->dirty_in);
    log->lost_in = cache_zalloc(log->super.segment_count * sizeof *log->lost_in);
    log->dirty_since_ns = cache_zalloc(log->super.segment_count * sizeof *log->dirty_since_ns);
    log->entries_in = cache_zalloc(log->super.segment_count * sizeof *log->entries_in);
    log->readers = cache_zalloc(log->super.segment_count * sizeof *log->readers);
    log->crc = cache_zalloc(log_bytes(log) / BLOCK_BYTES * sizeof *log->crc);
    if (!log->chunk || !log->dirty_in || !log->lost_in || !log->dirty_since_ns ||
        !log->entries_in || !log->readers || !log->crc)
        return -ENOMEM;
    log->chunk->owner = c;
    log->chunk->buffer = cache_alloc_pages((1 + CHUNK_DATA_MAX) * BLOCK_BYTES);
    return log->chunk->buffer ? 0 : -ENOMEM;
}

static int open_file(struct cache *c, uint64_t bytes, struct sluice_error *error)
{
    struct log *log = &c->log;
    uint32_t flags = SLUICE_FILE_CREATE | SLUICE_FILE_LOCK | SLUICE_FILE_MAY_HANG;
    int r =
        sluice_file_open(c->disk, log->path, flags | SLUICE_FILE_DIRECT, bytes, &log->file, error);

    if (r == -EINVAL) /* a file system without O_DIRECT */
        r = sluice_file_open(c->disk, log->path, flags, bytes, &log->file, error);
    if (r < 0)
        return r;
    log->file_bytes = sluice_file_size(c->disk, log->file);
    log->is_promised = cache_is_file(log->path);
    if (log->is_promised &&
        sluice_file_open(c->disk, log->path, SLUICE_FILE_MAY_HANG, 0, &log->buffered, error) < 0)
        log->buffered = NULL;
    return 0;
}

static int prepare(struct cache *c, struct sluice_error *error)
{
    struct log *log = &c->log;
    struct superblock *s = &log->super;
    enum found found;
    bool is_usable;
    int r = read_supers(c, s, &found);

    if (r < 0)
        return sluice_refuse(c->disk, error, -r, "%s cannot be read: %s", log->path, strerror(-r));
    r = refuse_foreign(c, found, s, error);
    is_usable = found == FOUND_ONE && !s->is_released && !is_void(c, s->nonce);
    if (r == 0 && is_usable && !layout_is_possible(log, s))
        r = sluice_refuse(c->disk, error, EINVAL, "%s is smaller than it was made", log->path);
    if (r == 0)
        r = refuse_lost(c, found == FOUND_ONE, s, error);
    if (r < 0 || is_usable)
        return r;
    r = log_unbind(c);
    if (r == 0)
        r = format_tier(c, log->file_bytes);
    return r < 0 ? sluice_refuse(c->disk, error, -r, "%s cannot be made a tier: %s", log->path,
                                 r == -ENOSPC ? "too small, or no space left" : strerror(-r))
                 : 0;
}

/* The host's sentence does not say what hangs on the file. */
static int refuse_unopened(struct cache *c, int r, struct sluice_error *error)
{
    struct binding b;
    char state[100];

    if (!read_binding(c, &b) || is_void(c, b.nonce))
        return r;
    snprintf(state, sizeof state, "cannot be opened: %s", strerror(-r));
    return refuse_without(c, &b, -r, state, error);
}

/* A superblock that is found after a kill may not be durable yet: it is, before the disk depends on
 * it, or anything is written that an older one names.  A tier that has failed and still does is
 * only read. */
static int settle(struct cache *c, struct sluice_error *error)
{
    int r = log_io_wait(c, SLUICE_OP_FLUSH, 0, NULL, 0);

    if (r == 0)
        return 0;
    if (!note_is_of(c, c->log.super.nonce))
        return sluice_refuse(c->disk, error, -r, "%s cannot be made durable: %s", c->log.path,
                             strerror(-r));
    cache_lock(c);
    log_fail(c, -r, "making the tier durable failed");
    cache_unlock(c);
    return 0;
}

int log_open(struct cache *c, const char *path, uint64_t bytes, struct sluice_error *error)
{
    struct log *log = &c->log;
    int r;

    snprintf(log->path, sizeof log->path, "%s", path);
    r = open_file(c, bytes / BLOCK_BYTES * BLOCK_BYTES, error);
    if (r < 0 && r != -EBUSY)
        r = refuse_unopened(c, r, error);
    if (r == 0)
        r = prepare(c, error);
    if (r == 0 && allocate(c) < 0)
        r = sluice_refuse(c->disk, error, ENOMEM, "no memory for the cache's log");
    if (r == 0)
        r = settle(c, error);
    if (r == 0)
        r = write_binding(c, error);
    if (r == 0 && c->step_down.note && !note_is_of(c, c->log.super.nonce))
        r = note_remove(c); /* of a tier that is no more */
    return r;
}

bool log_can_do_without(struct cache *c, int error)
{
    static const int of_storage[] = {EIO, ENOENT, ENXIO, ENODEV, EROFS, ENOSPC, EFBIG, EACCES};
    struct binding b;
    bool is_one = false;

    for (size_t i = 0; i < sizeof of_storage / sizeof of_storage[0]; i++)
        is_one |= error == -of_storage[i];
    return is_one && c->step_down.note && note_blocks(c) == 0 &&
           (!read_binding(c, &b) || note_is_of(c, b.nonce));
}

void log_close(struct cache *c)
{
    struct log *log = &c->log;

    if (log->chunk)
        cache_free(log->chunk->buffer);
    cache_free(log->chunk);
    cache_free(log->dirty_in);
    cache_free(log->lost_in);
    cache_free(log->dirty_since_ns);
    cache_free(log->entries_in);
    cache_free(log->readers);
    cache_free(log->crc);
    if (log->buffered)
        sluice_file_close(c->disk, log->buffered);
    log->buffered = NULL;
    if (log->file)
        sluice_file_close(c->disk, log->file);
    log->file = NULL;
}

int log_unbind(struct cache *c)
{
    return sluice_state_remove(c->disk, STATE_NAME);
}

static int write_release(struct cache *c)
{
    struct superblock *s = &c->log.super;
    uint8_t *block = cache_alloc_pages(BLOCK_BYTES);
    int r = block ? 0 : -ENOMEM;

    s->generation++;
    s->is_released = true;
    if (r == 0) {
        format_put_superblock(s, block);
        r = log_io_wait(c, SLUICE_OP_WRITE, s->generation % 2, block, BLOCK_BYTES);
    }
    if (r == 0)
        r = log_io_wait(c, SLUICE_OP_FLUSH, 0, NULL, 0);
    cache_free(block);
    return r;
}

/* A tier that cannot be told is void by a note, which stays. */
int log_release(struct cache *c)
{
    bool has_failed;
    int r;

    cache_lock(c);
    has_failed = c->log.error != 0;
    cache_unlock(c);
    r = has_failed ? 0 : write_release(c);
    if (r < 0) {
        cache_lock(c);
        log_fail(c, -r, "releasing the tier failed");
        cache_unlock(c);
    }
    return has_failed || r < 0 ? -step_down_note(c) : log_unbind(c);
}
