/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * gate.c: admits requests, holds them while the gate is closed, and knows when nothing is in
 * flight.
 *
 * Admission is one atomic increment and one load: a request counts itself, then looks at the gate;
 * who closes the gate sets it, then adds the counts up.  Both are sequentially consistent, so one
 * of the two sees the other.  A request that finds the gate closed takes its count back and waits
 * in `held`, under gate_mutex.
 */
#include "internal.h"

#include <errno.h>

static bool may_pass(const struct request *r, uint32_t gate)
{
    if (gate & GATE_SWAP)
        return false;
    return gate == 0 || r->entry != NULL || r->passes_gate;
}

static void count_left(struct engine *engine, struct engine_shard *shard)
{
    atomic_fetch_add(&shard->left, 1);
    if (UNLIKELY(atomic_load(&engine->gate) != 0)) {
        SCOPED_LOCK(&engine->gate_mutex);
        pthread_cond_broadcast(&engine->drained);
    }
}

static bool try_admit(struct request *r)
{
    struct engine_shard *shard = request_shard(r);

    atomic_fetch_add(&shard->entered, 1);
    if (LIKELY(may_pass(r, atomic_load(&r->engine->gate)))) {
        r->is_admitted = true;
        return true;
    }
    count_left(r->engine, shard);
    return false;
}

static void on_gate_open(struct task *task)
{
    struct request *r = CONTAINER_OF(task, struct request, task);

    if (r->cancel_error)
        request_fail_before_walk(r, r->cancel_error);
    else if (gate_enter(r))
        request_admit(r);
}

/* It ends in its home, later: the submitter is told PENDING. [gate_mutex] */
static void refuse(struct request *r)
{
    r->cancel_error = ESHUTDOWN;
    r->task.run = on_gate_open;
    home_post(r->home, &r->task);
}

static COLD bool enter_or_hold(struct request *r)
{
    struct engine *engine = r->engine;

    for (;;) {
        {
            SCOPED_LOCK(&engine->gate_mutex);
            if (!may_pass(r, atomic_load(&engine->gate))) {
                if (engine->is_refusing) {
                    refuse(r);
                    return false;
                }
                request_set_place(r, PLACE_GATE);
                list_append(&engine->held, &r->gate_link);
                engine->held_count++;
                return false;
            }
        }
        if (try_admit(r))
            return true;
    }
}

bool gate_enter(struct request *r)
{
    return LIKELY(try_admit(r)) || enter_or_hold(r);
}

void gate_leave(struct request *r)
{
    if (!r->is_admitted)
        return;
    r->is_admitted = false;
    count_left(r->engine, request_shard(r));
}

/* True: it was still waiting and waits no more. */
bool gate_withdraw(struct request *r)
{
    SCOPED_LOCK(&r->engine->gate_mutex);

    if (list_is_empty(&r->gate_link))
        return false;
    list_remove(&r->gate_link);
    r->engine->held_count--;
    return true;
}

void engine_gate_close(struct engine *engine, uint32_t reason)
{
    atomic_fetch_or(&engine->gate, reason);
}

void engine_gate_open(struct engine *engine, uint32_t reason)
{
    SCOPED_LOCK(&engine->gate_mutex);

    atomic_fetch_and(&engine->gate, ~reason);
    LIST_FOREACH_SAFE (node, &engine->held) {
        struct request *r = LIST_ENTRY(node, struct request, gate_link);

        if (!may_pass(r, atomic_load(&engine->gate)))
            continue;
        list_remove(node);
        engine->held_count--;
        r->task.run = on_gate_open;
        home_post(r->home, &r->task);
    }
}

void engine_gate_refuse(struct engine *engine, bool is_refusing)
{
    SCOPED_LOCK(&engine->gate_mutex);

    engine->is_refusing = is_refusing;
    if (!is_refusing)
        return;
    atomic_fetch_or(&engine->gate, GATE_DEMOTED);
    LIST_FOREACH_SAFE (node, &engine->held) {
        struct request *r = LIST_ENTRY(node, struct request, gate_link);

        list_remove(node);
        engine->held_count--;
        refuse(r);
    }
}

uint32_t engine_gate(const struct engine *engine)
{
    return atomic_load(&engine->gate);
}

/* Left before entered: if they are equal, nothing was in flight when `left` was read. */
static bool is_drained(struct engine *engine)
{
    uint64_t left = 0, entered = 0;

    for (unsigned i = 0; i < ENGINE_SHARDS; i++)
        left += atomic_load(&engine->shard[i].left);
    for (unsigned i = 0; i < ENGINE_SHARDS; i++)
        entered += atomic_load(&engine->shard[i].entered);
    return left == entered;
}

int engine_drain(struct engine *engine, uint64_t deadline_ns)
{
    SCOPED_LOCK(&engine->gate_mutex);

    while (!is_drained(engine))
        if (!cond_wait_until(&engine->drained, &engine->gate_mutex, deadline_ns))
            return is_drained(engine) ? 0 : -ETIMEDOUT;
    return 0;
}
