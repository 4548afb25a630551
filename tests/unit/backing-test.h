/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * backing-test.h: requests to a backing from a plain thread, contents that tell where and when they
 * were written, and a load that knows what must be there.
 *
 * The load: each thread owns the blocks whose number is its own modulo the number of threads, and
 * has one request under way.  So what it was acknowledged is exactly what a read must return, and
 * after a flush that succeeded exactly what must be stable.
 */
#ifndef SLUICE_BACKING_TEST_H
#define SLUICE_BACKING_TEST_H

#include "backing/backing.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* --- one request --------------------------------------------------------------------------------
 */

struct request {
    struct io io;
    bool is_done;
};

static inline void request_done(struct task *task)
{
    CONTAINER_OF(task, struct request, io.done_task)->is_done = true;
}

static inline int request_run(struct backing *b, enum io_kind kind, uint32_t flags, uint64_t offset,
                              uint64_t length, void *data, struct extents *extents)
{
    struct request q = {
        .io = {.kind = kind, .flags = flags, .offset = offset, .length = length, .data = data},
    };

    q.io.extents = extents;
    q.io.home = home_current();
    q.io.done_task.run = request_done;
    if (backing_submit(b, &q.io) == IO_PENDING)
        home_wait(q.io.home, &q.is_done);
    return q.io.result;
}

/* --- contents -----------------------------------------------------------------------------------
 */

#define BLOCK 4096u

/* Stamp 0 is zeros. */
static inline void contents_make(void *data, uint64_t offset, uint64_t length, uint32_t stamp)
{
    for (uint64_t i = 0; i < length / 8; i++) {
        uint64_t word =
            stamp ? ((offset + i * 8) ^ ((uint64_t)stamp << 40)) * 0x9e3779b97f4a7c15u : 0;

        memcpy((char *)data + i * 8, &word, 8);
    }
}

static inline bool contents_are(const void *data, uint64_t offset, uint64_t length, uint32_t stamp)
{
    for (uint64_t i = 0; i < length / 8; i++) {
        uint64_t want =
            stamp ? ((offset + i * 8) ^ ((uint64_t)stamp << 40)) * 0x9e3779b97f4a7c15u : 0;
        uint64_t got;

        memcpy(&got, (const char *)data + i * 8, 8);
        if (got != want)
            return false;
    }
    return true;
}

/* --- the load -----------------------------------------------------------------------------------
 */

struct load {
    struct backing *backing;
    uint64_t blocks;
    unsigned threads;
    uint64_t end_ns;
    uint32_t seed;
    uint32_t max_run; /* blocks of one request */
    /* Copies what is stable at `offset` now. NULL: not looked at. */
    void (*read_stable)(void *arg, void *data, uint64_t offset, uint64_t length);
    void *arg;
    bool errors_allowed; /* a request may fail; its blocks are unknown then */

    _Atomic uint64_t reads, writes, flushes, errors, wrong;
    uint32_t *stamp; /* per block; each written by its owner only */
};
#define STAMP_UNKNOWN UINT32_MAX

struct load_thread {
    struct load *load;
    unsigned number;
    uint32_t random, next_stamp;
    char *data;
};

static inline uint32_t load_random(struct load_thread *t)
{
    t->random ^= t->random << 13;
    t->random ^= t->random >> 17;
    t->random ^= t->random << 5;
    return t->random;
}

static inline void load_wrong(struct load *load, const char *what, uint64_t block)
{
    if (atomic_fetch_add(&load->wrong, 1) < 10)
        fprintf(stderr, "block %" PRIu64 " %s\n", block, what);
}

/* Runs of blocks are interleaved: a thread owns whole stretches of max_run. */
static inline uint64_t load_pick(struct load_thread *t, uint64_t *count)
{
    struct load *l = t->load;
    uint64_t stretches = l->blocks / l->max_run / l->threads;
    uint64_t stretch = (load_random(t) % stretches) * l->threads + t->number;
    uint64_t first = load_random(t) % l->max_run;

    *count = 1 + load_random(t) % (l->max_run - first);
    return stretch * l->max_run + first;
}

static inline void load_change(struct load_thread *t, uint32_t dice)
{
    struct load *l = t->load;
    uint64_t count, first = load_pick(t, &count);
    bool is_zero = dice % 8 == 0 && backing_info(l->backing)->can_zero;
    uint32_t stamp = is_zero ? 0 : t->next_stamp++ * l->threads + t->number + 1;
    uint32_t flags = dice % 5 == 0 && backing_info(l->backing)->can_fua ? IO_FUA : 0;
    int rc;

    contents_make(t->data, first * BLOCK, count * BLOCK, stamp);
    rc = request_run(l->backing, is_zero ? (dice & 32 ? IO_ZERO : IO_TRIM) : IO_WRITE, flags,
                     first * BLOCK, count * BLOCK, is_zero ? NULL : t->data, NULL);
    atomic_fetch_add(&l->writes, 1);
    if (rc < 0)
        atomic_fetch_add(&l->errors, 1);
    for (uint64_t i = first; i < first + count; i++)
        l->stamp[i] = rc < 0 ? STAMP_UNKNOWN : stamp;
    if (rc < 0 && !l->errors_allowed)
        load_wrong(l, strerror(-rc), first);
    if (rc < 0 || !flags || !l->read_stable)
        return;
    l->read_stable(l->arg, t->data, first * BLOCK, count * BLOCK);
    if (!contents_are(t->data, first * BLOCK, count * BLOCK, stamp))
        load_wrong(l, "was written with FUA and is not stable", first);
}

static inline void load_verify(struct load_thread *t)
{
    struct load *l = t->load;
    uint64_t count, first = load_pick(t, &count);
    int rc = request_run(l->backing, IO_READ, 0, first * BLOCK, count * BLOCK, t->data, NULL);

    atomic_fetch_add(&l->reads, 1);
    if (rc < 0) {
        atomic_fetch_add(&l->errors, 1);
        if (!l->errors_allowed)
            load_wrong(l, strerror(-rc), first);
        return;
    }
    for (uint64_t i = 0; i < count; i++)
        if (l->stamp[first + i] != STAMP_UNKNOWN &&
            !contents_are(t->data + i * BLOCK, (first + i) * BLOCK, BLOCK, l->stamp[first + i]))
            load_wrong(l, "is not what was written", first + i);
}

static inline void load_check_stable(struct load_thread *t)
{
    struct load *l = t->load;

    for (uint64_t i = 0; i < l->blocks; i++) {
        if (i / l->max_run % l->threads != t->number || l->stamp[i] == STAMP_UNKNOWN)
            continue;
        l->read_stable(l->arg, t->data, i * BLOCK, BLOCK);
        if (!contents_are(t->data, i * BLOCK, BLOCK, l->stamp[i]))
            load_wrong(l, "was flushed and is not stable", i);
    }
}

static inline int load_flush(struct load_thread *t)
{
    struct load *l = t->load;
    int rc = request_run(l->backing, IO_FLUSH, 0, 0, 0, NULL, NULL);

    atomic_fetch_add(&l->flushes, 1);
    if (rc == 0 && l->read_stable)
        load_check_stable(t);
    if (rc < 0) {
        atomic_fetch_add(&l->errors, 1);
        if (!l->errors_allowed)
            load_wrong(l, "could not be flushed", t->number);
    }
    return rc;
}

static inline void *load_main(void *arg)
{
    struct load_thread *t = arg;
    struct load *l = t->load;

    t->data = malloc((size_t)l->max_run * BLOCK);
    while (clock_now_ns() < l->end_ns && atomic_load(&l->wrong) == 0) {
        uint32_t dice = load_random(t) >> 8;

        if (dice % 100 < 4)
            load_flush(t);
        else if (dice % 100 < 40)
            load_verify(t);
        else
            load_change(t, dice);
    }
    load_flush(t);
    free(t->data);
    return NULL;
}

/* l->stamp is made and filled with 0 if NULL: the disk is zeros then. True if all was well. */
static inline bool load_run(struct load *l, double seconds)
{
    pthread_t thread[64];
    struct load_thread t[64];

    if (!l->max_run)
        l->max_run = 8;
    if (!l->stamp)
        l->stamp = calloc(l->blocks, sizeof *l->stamp);
    l->end_ns = clock_now_ns() + (uint64_t)(seconds * 1e9);
    for (unsigned i = 0; i < l->threads; i++) {
        t[i] = (struct load_thread){.load = l, .number = i, .random = l->seed * 64 + i + 1};
        pthread_create(&thread[i], NULL, load_main, &t[i]);
    }
    for (unsigned i = 0; i < l->threads; i++)
        pthread_join(thread[i], NULL);
    return atomic_load(&l->wrong) == 0;
}

/* Reads every block once more. */
static inline bool load_verify_all(struct load *l)
{
    char *data = malloc(BLOCK);

    for (uint64_t i = 0; i < l->blocks; i++) {
        int rc = request_run(l->backing, IO_READ, 0, i * BLOCK, BLOCK, data, NULL);

        if (rc < 0)
            load_wrong(l, strerror(-rc), i);
        else if (l->stamp[i] != STAMP_UNKNOWN && !contents_are(data, i * BLOCK, BLOCK, l->stamp[i]))
            load_wrong(l, "is not what was written, at the end", i);
    }
    free(data);
    return atomic_load(&l->wrong) == 0;
}

#endif
