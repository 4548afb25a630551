/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * engine-fixture.h: what the engine's tests share: a backing in RAM whose answers can be delayed to
 * another thread or failed, stations around filters in the test's own memory, and the three kinds
 * of submitter (a worker, a loop, a filter's own I/O on a service loop).
 */
#ifndef SLUICE_ENGINE_FIXTURE_H
#define SLUICE_ENGINE_FIXTURE_H

#include "backing/backing-ops.h"
#include "engine/engine.h"
#include "unit.h"

#include <errno.h>

/* --- a thread that runs tasks, as a filter's own thread would ------------------------------------
 */

struct outsider {
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    struct task *first, **last;
    bool is_ending;
};

static void *stranger_main(void *arg)
{
    struct outsider *s = arg;

    for (;;) {
        struct task *task;

        pthread_mutex_lock(&s->mutex);
        while (!s->first && !s->is_ending)
            pthread_cond_wait(&s->cond, &s->mutex);
        task = s->first;
        if (task) {
            s->first = task->next;
            if (!s->first)
                s->last = &s->first;
        }
        pthread_mutex_unlock(&s->mutex);
        if (!task)
            return NULL;
        task->run(task);
    }
}

static inline void stranger_start(struct outsider *s)
{
    pthread_mutex_init(&s->mutex, NULL);
    pthread_cond_init(&s->cond, NULL);
    s->first = NULL;
    s->last = &s->first;
    s->is_ending = false;
    if (pthread_create(&s->thread, NULL, stranger_main, s) != 0)
        abort();
}

static inline void stranger_do(struct outsider *s, struct task *task)
{
    pthread_mutex_lock(&s->mutex);
    task->next = NULL;
    *s->last = task;
    s->last = &task->next;
    pthread_cond_signal(&s->cond);
    pthread_mutex_unlock(&s->mutex);
}

static inline void stranger_end(struct outsider *s)
{
    pthread_mutex_lock(&s->mutex);
    s->is_ending = true;
    pthread_cond_signal(&s->cond);
    pthread_mutex_unlock(&s->mutex);
    pthread_join(s->thread, NULL);
}

/* --- a backing in RAM
 * ------------------------------------------------------------------------------ */

struct ram_backing {
    struct backing base;
    uint8_t *bytes;
    struct outsider stranger;
    _Atomic bool is_async; /* answers from another thread */
    _Atomic int fail_with; /* negative errno for the next operations, 0: none */
    _Atomic unsigned served;
    _Atomic bool is_stuck; /* keeps requests until ram_release() */
    struct task *_Atomic stuck;
};

static int ram_execute(struct ram_backing *ram, struct io *io)
{
    int fail = atomic_load(&ram->fail_with);

    atomic_fetch_add(&ram->served, 1);
    if (fail)
        return fail;
    switch (io->kind) {
    case IO_READ:
        memcpy(io->data, ram->bytes + io->offset, io->length);
        return 0;
    case IO_WRITE:
        memcpy(ram->bytes + io->offset, io->data, io->length);
        return 0;
    case IO_TRIM:
    case IO_ZERO:
        memset(ram->bytes + io->offset, 0, io->length);
        return 0;
    case IO_EXTENTS:
        return extents_add(io->extents, io->length, 0) == -ENOMEM ? -ENOMEM : 0;
    default:
        return 0;
    }
}

static void ram_run(struct task *task)
{
    struct io *io = CONTAINER_OF(task, struct io, exec_task);

    io_complete(io, ram_execute(io->executor, io));
}

static enum io_status ram_submit(struct backing *b, struct io *io)
{
    struct ram_backing *ram = CONTAINER_OF(b, struct ram_backing, base);

    io->executor = ram;
    io->exec_task.run = ram_run;
    if (atomic_load(&ram->is_stuck)) {
        atomic_store(&ram->stuck, &io->exec_task);
        return IO_PENDING;
    }
    if (atomic_load(&ram->is_async)) {
        stranger_do(&ram->stranger, &io->exec_task);
        return IO_PENDING;
    }
    io->result = ram_execute(ram, io);
    return IO_DONE;
}

static inline void ram_release(struct ram_backing *ram)
{
    struct task *task = atomic_exchange(&ram->stuck, NULL);

    atomic_store(&ram->is_stuck, false);
    if (task)
        stranger_do(&ram->stranger, task);
}

static inline void ram_status(struct backing *b, struct backing_status *out)
{
    (void)b;
    out->is_connected = true;
}

static inline void ram_identity(const struct backing *b, char *out, size_t out_size)
{
    (void)b;
    snprintf(out, out_size, "ram");
}

static const struct backing_ops ram_ops = {
    .name = "ram", .submit = ram_submit, .status = ram_status, .identity = ram_identity};

static inline struct ram_backing *ram_create(uint64_t size, unsigned block_bytes)
{
    struct ram_backing *ram = calloc(1, sizeof *ram);

    ram->bytes = calloc(1, size);
    ram->base.ops = &ram_ops;
    ram->base.info = (struct backing_info){.size_bytes = size,
                                           .block_bytes = block_bytes,
                                           .can_flush = true,
                                           .can_fua = true,
                                           .can_trim = true,
                                           .can_zero = true,
                                           .can_fast_zero = true,
                                           .can_extents = true,
                                           .can_prefetch = true};
    stranger_start(&ram->stranger);
    return ram;
}

static inline void ram_destroy(struct ram_backing *ram)
{
    stranger_end(&ram->stranger);
    free(ram->bytes);
    free(ram);
}

/* --- stations
 * ---------------------------------------------------------------------------------------- */

static inline struct station *station_make(const struct sluice_filter *filter, void *instance,
                                           const char *name, struct sluice_disk *disk)
{
    struct station *s = calloc(1, sizeof *s);

    s->filter = filter;
    s->instance = instance;
    s->disk = disk;
    s->name = name;
    s->scratch_bytes = filter->scratch_bytes;
    s->handler[SLUICE_OP_READ] = filter->read;
    s->handler[SLUICE_OP_WRITE] = filter->write;
    s->handler[SLUICE_OP_FLUSH] = filter->flush;
    s->handler[SLUICE_OP_TRIM] = filter->trim;
    s->handler[SLUICE_OP_ZERO] = filter->zero;
    s->handler[SLUICE_OP_EXTENTS] = filter->extents;
    s->handler[SLUICE_OP_PREFETCH] = filter->prefetch;
    return s;
}

#define HANDLE_ALL(start, completion)                                                      \
    .read = SLUICE_HANDLE(start, completion), .write = SLUICE_HANDLE(start, completion),   \
    .flush = SLUICE_HANDLE(start, completion), .trim = SLUICE_HANDLE(start, completion),   \
    .zero = SLUICE_HANDLE(start, completion), .extents = SLUICE_HANDLE(start, completion), \
    .prefetch = SLUICE_HANDLE(start, completion)

static const struct engine_hooks no_hooks = {0};
static const struct sluice_client test_client = {
    .front_end = "test", .address = "", .initiator = "", .session = 1};

#endif
