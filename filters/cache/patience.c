/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * patience.c: a tier that does not answer.  What is asked of it, once it is open, stands in a list,
 * the oldest first, until it comes back.  When the oldest has taken longer than ssd.timeout the
 * tier has failed, as by an error (step-down.c), and all that is in the list is given up: whoever
 * waits for it is told so, once, and goes on.
 *
 * What was given up may come back at any time, so its memory is its own: nobody else reads, writes
 * or frees that before.  What it brings then is not looked at.  Until the last of them is back
 * nothing is asked of the tier any more, and what is on it alone cannot be read; after that it is
 * emptied into the backing like any other tier that has failed.
 */
#include "cache.h"

#include <errno.h>
#include <stdio.h>

/* --- the list [M] --------------------------------------------------------------------------------
 */

static void append(struct patience *p, struct awaited *a)
{
    a->next = NULL;
    if (!p->first)
        p->last = &p->first;
    a->at = p->last;
    *p->last = a;
    p->last = &a->next;
    p->requests += !a->is_keepers;
}

static void take_out(struct patience *p, struct awaited *a)
{
    *a->at = a->next;
    if (a->next)
        a->next->at = a->at;
    else
        p->last = a->at;
    p->requests -= !a->is_keepers;
}

/* What is alone is done by the thread that asks, the shortest way; what is not goes with the
 * others, together, which is less work for each.  What the keeper has under way is not counted: a
 * request that comes alone amid the destage is as alone. */
bool await_begin(struct cache *c, struct awaited *a, struct sluice_file_io *io)
{
    if (await_is_in_vain(c))
        return false;
    if (c->log.patience.requests || (a->is_keepers && c->log.patience.first))
        io->flags |= SLUICE_FLAG_ELSEWHERE;
    a->since_ns = sluice_now_ns(c->disk);
    a->is_given_up = a->is_told = a->is_back = false;
    append(&c->log.patience, a);
    return true;
}

/* --- coming back, and not ------------------------------------------------------------------------
 */

/* [M] Both who waited and the tier are through with it.  True: a->drop() is to be called. */
static bool is_over(struct cache *c, struct awaited *a)
{
    if (!a->is_told || !a->is_back)
        return false;
    c->log.patience.late--;
    if (!await_is_in_vain(c)) {
        sluice_log(c->disk, SLUICE_LOG_NOTICE, "%s answers again", c->log.path);
        rot_tell_health(c);
        keeper_kick(c);
    }
    return true;
}

bool await_end(struct cache *c, struct awaited *a)
{
    bool is_late, is_last = false;

    cache_lock(c);
    is_late = a->is_given_up;
    a->is_back = true;
    if (is_late)
        is_last = is_over(c, a);
    else
        take_out(&c->log.patience, a);
    cache_unlock(c);
    if (is_last)
        a->drop(a);
    return !is_late;
}

bool await_is_late(struct cache *c, uint64_t ns)
{
    const struct awaited *a = c->log.patience.first;

    return a && sluice_now_ns(c->disk) - a->since_ns > ns;
}

/* [M] NULL: none. */
static struct awaited *next_to_give_up(struct cache *c)
{
    struct awaited *a = c->log.patience.first;

    if (!a)
        return NULL;
    take_out(&c->log.patience, a);
    a->is_given_up = true;
    c->log.patience.late++;
    return a;
}

static void give_up_all(struct cache *c)
{
    struct awaited *a;
    bool is_last;

    for (;;) {
        cache_lock(c);
        a = next_to_give_up(c);
        cache_unlock(c);
        if (!a)
            return;
        a->give_up(a);
        cache_lock(c);
        a->is_told = true;
        is_last = is_over(c, a);
        cache_unlock(c);
        if (is_last)
            a->drop(a);
    }
}

/* [M] Looks come every AWAIT_LOOK_NS.  When one is much later, the process was stopped, maybe with
 * the machine it runs on: answers may have come since, and nobody was there to take them. */
static void excuse_pause(struct cache *c)
{
    struct patience *p = &c->log.patience;
    uint64_t now = sluice_now_ns(c->disk), late = now - p->looked_ns;

    if (p->looked_ns && late > 2 * AWAIT_LOOK_NS)
        for (struct awaited *a = p->first; a; a = a->next)
            a->since_ns = MIN(now, a->since_ns + late - AWAIT_LOOK_NS);
    p->looked_ns = now;
}

void await_look(struct cache *c)
{
    struct patience *p = &c->log.patience;
    char what[80];
    bool is_enough;

    cache_lock(c);
    excuse_pause(c);
    is_enough = p->first &&
                sluice_now_ns(c->disk) - p->first->since_ns > c->options.tier_timeout_ns &&
                !MUTANT(33);
    if (is_enough) {
        snprintf(what, sizeof what, "the tier has not answered for %.1f s",
                 (double)(sluice_now_ns(c->disk) - p->first->since_ns) / 1e9);
        log_fail(c, ETIMEDOUT, what);
    }
    cache_unlock(c);
    if (is_enough)
        give_up_all(c);
}

/* --- for threads that wait -----------------------------------------------------------------------
 */

struct answer {
    bool is_done, is_late; /* [M] */
    int32_t error;
};
/* It has data of its own, because it may outlive who waits. */
struct errand {
    struct awaited awaited;
    struct cache *c;
    struct sluice_file_io io;
    struct answer *answer; /* of who waits; not looked at once it is done */
};

static void drop_errand(struct awaited *a)
{
    struct errand *e = CONTAINER_OF(a, struct errand, awaited);

    cache_free(e->io.data);
    cache_free(e);
}

static void answer(struct errand *e, int32_t error, bool is_late)
{
    struct cache *c = e->c;

    cache_lock(c);
    *e->answer = (struct answer){.is_done = true, .is_late = is_late, .error = error};
    cache_wake(&c->cond);
    cache_unlock(c);
}

static void give_up_errand(struct awaited *a)
{
    answer(CONTAINER_OF(a, struct errand, awaited), ETIMEDOUT, true);
}

static void on_errand_done(struct sluice_file_io *io, int32_t error)
{
    struct errand *e = CONTAINER_OF(io, struct errand, io);

    if (await_end(e->c, &e->awaited))
        answer(e, error, false);
}

static struct errand *make_errand(struct cache *c, const struct sluice_file_io *io,
                                  struct answer *answer)
{
    struct errand *e = cache_zalloc(sizeof *e);

    if (!e)
        return NULL;
    *e = (struct errand){
        .awaited = {.is_keepers = true, .give_up = give_up_errand, .drop = drop_errand},
        .c = c,
        .io = *io,
        .answer = answer};
    e->io.done = on_errand_done;
    if (!io->data)
        return e;
    e->io.data = cache_alloc_pages(io->length);
    if (!e->io.data) {
        cache_free(e);
        return NULL;
    }
    if (io->op == SLUICE_OP_WRITE)
        memcpy(e->io.data, io->data, io->length);
    return e;
}

static void send_errand(struct errand *e)
{
    struct cache *c = e->c;
    int r = sluice_file_submit(c->disk, c->log.file, &e->io);

    if (r < 0)
        on_errand_done(&e->io, -r);
}

static int wait_for_errand(struct errand *e, struct answer *answer, struct sluice_file_io *io)
{
    struct cache *c = e->c;

    cache_lock(c);
    while (!answer->is_done)
        cache_sleep(&c->cond, &c->mutex);
    cache_unlock(c);
    if (answer->is_late)
        return -ETIMEDOUT;
    if (!answer->error && io->op == SLUICE_OP_READ)
        memcpy(io->data, e->io.data, io->length);
    drop_errand(&e->awaited);
    return -answer->error;
}

int await_wait(struct cache *c, struct sluice_file_io *io)
{
    struct answer answer = {.is_done = false};
    struct errand *e = make_errand(c, io, &answer);
    bool is_asked;

    if (!e)
        return -ENOMEM;
    cache_lock(c);
    is_asked = await_begin(c, &e->awaited, &e->io);
    cache_unlock(c);
    if (!is_asked) {
        drop_errand(&e->awaited);
        return -ETIMEDOUT;
    }
    send_errand(e);
    return wait_for_errand(e, &answer, io);
}
