/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * holder: a write-back cache in RAM, as large as the disk and as simple as can be: what a filter
 * that holds data has to do, without the parts that make it fast.  Writes stay in RAM until a
 * flush, a snapshot, a detach or a stop; nothing survives the process.
 *
 * `cached` blocks are as new as the disk gets and stay so; `dirty` ones are newer than below.  A
 * block is destaged under its range lock, so that no guest write of it is under way, and is dirty
 * until its write has ended, so that no read goes past it.
 */
#include "test-filter.h"

#define BLOCK 4096u

enum { CACHED = 1, DIRTY = 2 };

struct holder {
    struct sluice_disk *disk;
    pthread_mutex_t mutex; /* the rest */
    uint64_t blocks;
    uint8_t *ram, *state;
    bool writes_through;
};

struct flushing {
    struct sluice_work work; /* first */
    struct holder *owner;
    struct sluice_request *request;
};

/* --- RAM: all under the mutex -------------------------------------------------------------------
 */

static bool all_have(const struct holder *h, const struct sluice_request *r, uint8_t bit)
{
    for (uint64_t b = r->offset / BLOCK; b < (r->offset + r->length) / BLOCK; b++)
        if (!(h->state[b] & bit))
            return false;
    return true;
}

static bool any_has(const struct holder *h, const struct sluice_request *r, uint8_t bit)
{
    for (uint64_t b = r->offset / BLOCK; b < (r->offset + r->length) / BLOCK; b++)
        if (h->state[b] & bit)
            return true;
    return false;
}

/* What the request writes, or zeros. */
static void store(struct holder *h, const struct sluice_request *r, uint8_t bits)
{
    if (r->op == SLUICE_OP_WRITE)
        memcpy(h->ram + r->offset, r->data, r->length);
    else
        memset(h->ram + r->offset, 0, r->length);
    for (uint64_t b = r->offset / BLOCK; b < (r->offset + r->length) / BLOCK; b++)
        h->state[b] |= bits;
}

static void overlay(const struct holder *h, const struct sluice_request *r)
{
    for (uint64_t at = r->offset; at < r->offset + r->length; at += BLOCK)
        if (h->state[at / BLOCK] & CACHED)
            memcpy((uint8_t *)r->data + (at - r->offset), h->ram + at, BLOCK);
}

static int grow(struct holder *h, uint64_t size_bytes)
{
    uint64_t blocks = size_bytes / BLOCK;
    uint8_t *ram = calloc(blocks, BLOCK), *state = calloc(blocks, 1);

    if (!ram || !state) {
        free(ram);
        free(state);
        return -ENOMEM;
    }
    if (h->blocks) {
        memcpy(ram, h->ram, h->blocks * BLOCK);
        memcpy(state, h->state, h->blocks);
    }
    free(h->ram);
    free(h->state);
    h->ram = ram;
    h->state = state;
    h->blocks = blocks;
    return 0;
}

/* --- destage ------------------------------------------------------------------------------------
 */

struct waiting_lock {
    struct sluice_lock lock; /* first */
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    bool is_granted;
};

static void on_granted(struct sluice_lock *lock)
{
    struct waiting_lock *w = (struct waiting_lock *)(void *)lock;

    pthread_mutex_lock(&w->mutex);
    w->is_granted = true;
    pthread_cond_signal(&w->cond);
    pthread_mutex_unlock(&w->mutex);
}

static void lock_and_wait(struct holder *h, struct waiting_lock *w, uint64_t offset)
{
    memset(w, 0, sizeof *w);
    pthread_mutex_init(&w->mutex, NULL);
    pthread_cond_init(&w->cond, NULL);
    w->lock.offset = offset;
    w->lock.length = BLOCK;
    w->lock.granted = on_granted;
    sluice_lock_range(h->disk, &w->lock);
    pthread_mutex_lock(&w->mutex);
    while (!w->is_granted)
        pthread_cond_wait(&w->cond, &w->mutex);
    pthread_mutex_unlock(&w->mutex);
}

static void unlock(struct holder *h, struct waiting_lock *w)
{
    sluice_unlock_range(h->disk, &w->lock);
    pthread_cond_destroy(&w->cond);
    pthread_mutex_destroy(&w->mutex);
}

static bool copy_if_dirty(struct holder *h, uint64_t block, uint8_t *out)
{
    bool is_dirty;

    pthread_mutex_lock(&h->mutex);
    is_dirty = block < h->blocks && (h->state[block] & DIRTY);
    if (is_dirty)
        memcpy(out, h->ram + block * BLOCK, BLOCK);
    pthread_mutex_unlock(&h->mutex);
    return is_dirty;
}

static int destage_block(struct holder *h, uint64_t block, uint8_t *bounce)
{
    struct sluice_io io = {.op = SLUICE_OP_WRITE,
                           .origin = SLUICE_ORIGIN_FILTER,
                           .offset = block * BLOCK,
                           .length = BLOCK,
                           .data = bounce};
    struct waiting_lock lock;
    int r = 0;

    lock_and_wait(h, &lock, block * BLOCK);
    if (copy_if_dirty(h, block, bounce)) {
        r = sluice_io_wait(h->disk, &io);
        pthread_mutex_lock(&h->mutex);
        if (r == 0)
            h->state[block] &= (uint8_t)~DIRTY;
        pthread_mutex_unlock(&h->mutex);
    }
    unlock(h, &lock);
    return r;
}

/* Those that are dirty now. Blocks. 0 or a negative errno. */
static int destage(struct holder *h)
{
    uint8_t bounce[BLOCK];
    uint64_t blocks;
    int r = 0;

    pthread_mutex_lock(&h->mutex);
    blocks = h->blocks;
    pthread_mutex_unlock(&h->mutex);
    for (uint64_t block = 0; r == 0 && block < blocks; block++)
        if (copy_if_dirty(h, block, bounce))
            r = destage_block(h, block, bounce);
    return r;
}

static void on_flush(struct sluice_work *work)
{
    struct flushing *f = (struct flushing *)(void *)work;
    int r = destage(f->owner);

    sluice_resume(f->owner->disk, f->request, r < 0 ? sluice_fail(-r) : sluice_pass());
}

/* --- requests -----------------------------------------------------------------------------------
 */

static struct sluice_verdict on_write(void *instance, struct sluice_request *r, void *scratch)
{
    struct holder *h = instance;
    bool passes;

    (void)scratch;
    pthread_mutex_lock(&h->mutex);
    passes = r->op != SLUICE_OP_WRITE || h->writes_through || (r->flags & SLUICE_FLAG_FUA);
    if (!passes)
        store(h, r, CACHED | DIRTY);
    pthread_mutex_unlock(&h->mutex);
    return passes ? sluice_pass_and_tell() : sluice_complete();
}

static struct sluice_verdict on_written(void *instance, struct sluice_request *r, void *scratch)
{
    struct holder *h = instance;

    (void)scratch;
    if (r->error)
        return sluice_pass();
    pthread_mutex_lock(&h->mutex);
    store(h, r, CACHED);
    pthread_mutex_unlock(&h->mutex);
    return sluice_pass();
}

static struct sluice_verdict on_read(void *instance, struct sluice_request *r, void *scratch)
{
    struct holder *h = instance;
    bool is_whole;

    (void)scratch;
    pthread_mutex_lock(&h->mutex);
    is_whole = all_have(h, r, CACHED);
    if (is_whole)
        overlay(h, r);
    pthread_mutex_unlock(&h->mutex);
    return is_whole ? sluice_complete() : sluice_pass_and_tell();
}

static struct sluice_verdict on_have_read(void *instance, struct sluice_request *r, void *scratch)
{
    struct holder *h = instance;

    (void)scratch;
    pthread_mutex_lock(&h->mutex);
    if (!r->error)
        overlay(h, r);
    pthread_mutex_unlock(&h->mutex);
    return sluice_pass();
}

static struct sluice_verdict on_flush_request(void *instance, struct sluice_request *r,
                                              void *scratch)
{
    struct flushing *f = scratch;

    f->work.run = on_flush;
    f->owner = instance;
    f->request = r;
    if (sluice_work_submit(f->owner->disk, &f->work) < 0)
        return sluice_fail(ESHUTDOWN);
    return sluice_defer();
}

/* Dirty blocks are allocated, whatever lies below. */
static struct sluice_verdict on_extents(void *instance, struct sluice_request *r, void *scratch)
{
    struct holder *h = instance;
    bool is_dirty;

    (void)scratch;
    pthread_mutex_lock(&h->mutex);
    is_dirty = any_has(h, r, DIRTY);
    pthread_mutex_unlock(&h->mutex);
    if (!is_dirty)
        return sluice_pass();
    sluice_extent(h->disk, r, r->length, 0);
    return sluice_complete();
}

static struct sluice_verdict on_prefetch(void *instance, struct sluice_request *r, void *scratch)
{
    (void)instance, (void)r, (void)scratch;
    return sluice_pass();
}

static enum sluice_cancel_answer on_cancel(void *instance, struct sluice_request *r, void *scratch)
{
    (void)instance, (void)r, (void)scratch;
    return SLUICE_CANCEL_BUSY; /* a worker has it */
}

/* --- events -------------------------------------------------------------------------------------
 */

static void write_through(struct holder *h, bool is_on)
{
    pthread_mutex_lock(&h->mutex);
    h->writes_through = is_on;
    pthread_mutex_unlock(&h->mutex);
}

static int destage_for(struct holder *h, const char *what, struct sluice_error *error)
{
    int r;

    write_through(h, true);
    r = destage(h);
    if (r == 0)
        return 0;
    write_through(h, false);
    return sluice_refuse(h->disk, error, -r, "%s: dirty data cannot be written: %s", what,
                         strerror(-r));
}

static int on_resize(struct holder *h, uint64_t size_bytes, struct sluice_error *error)
{
    int r;

    pthread_mutex_lock(&h->mutex);
    r = grow(h, size_bytes);
    pthread_mutex_unlock(&h->mutex);
    return r < 0 ? sluice_refuse(h->disk, error, -r, "out of memory") : 0;
}

static int on_event(void *instance, const struct sluice_event *event, struct sluice_error *error)
{
    struct holder *h = instance;
    bool is_prepare = event->phase <= SLUICE_PHASE_PREPARE;

    switch (event->kind) {
    case SLUICE_EVENT_SNAPSHOT:
    case SLUICE_EVENT_DETACH:
        if (is_prepare)
            return destage_for(h, "snapshot or detach", error);
        write_through(h, false);
        return 0;
    case SLUICE_EVENT_STOP:
        return destage(h);
    case SLUICE_EVENT_RESIZE:
        return is_prepare ? on_resize(h, event->size_bytes, error) : 0;
    default:
        return 0;
    }
}

/* --- opening and closing ------------------------------------------------------------------------
 */

static void holder_close(void *instance)
{
    struct holder *h = instance;

    sluice_memory_give(h->disk, h->disk->size_bytes);
    pthread_mutex_destroy(&h->mutex);
    free(h->ram);
    free(h->state);
    free(h);
}

static int holder_open(struct sluice_disk *disk, const struct sluice_value *v, void **instance,
                       struct sluice_error *error)
{
    struct holder *h;

    (void)v;
    if (!sluice_memory_take(disk, disk->size_bytes))
        return sluice_refuse(disk, error, ENOMEM, "the gateway's memory limit is reached");
    h = calloc(1, sizeof *h);
    if (!h || grow(h, disk->size_bytes) < 0) {
        sluice_memory_give(disk, disk->size_bytes);
        free(h);
        return sluice_refuse(disk, error, ENOMEM, "out of memory");
    }
    h->disk = disk;
    pthread_mutex_init(&h->mutex, NULL);
    *instance = h;
    return 0;
}

static const struct sluice_filter filter = {
    TEST_FILTER_HEAD("holder", "Holds writes in RAM."),
    .traits = SLUICE_TRAIT_HOLDS_DATA,
    .scratch_bytes = sizeof(struct flushing),
    .block_bytes = BLOCK,
    .open = holder_open,
    .close = holder_close,
    .read = SLUICE_HANDLE(on_read, on_have_read),
    .write = SLUICE_HANDLE(on_write, on_written),
    .flush = SLUICE_HANDLE(on_flush_request, NULL),
    .trim = SLUICE_HANDLE(on_write, on_written),
    .zero = SLUICE_HANDLE(on_write, on_written),
    .extents = SLUICE_HANDLE(on_extents, NULL),
    .prefetch = SLUICE_HANDLE(on_prefetch, NULL),
    .cancel = on_cancel,
    .event = on_event,
};
SLUICE_FILTER(filter)
