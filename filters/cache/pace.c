/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pace.c: slows writers down before the log is full of dirty data, smoothly: from the soft mark on
 * each write waits a little, with the square of the excess, so that writers meet the speed of the
 * destage somewhere on the slope and never a wall.  At the hard mark they wait for the destage.
 */
#include "cache.h"

#define DELAY_MOST_NS UINT64_C(20000000)
#define LOOK_AGAIN_NS UINT64_C(5000000)

/* [M] How long a write of so many blocks waits now; UINT64_MAX: until something has been destaged.
 * With a tier that has failed nothing will be: the write is to learn of that. */
static uint64_t delay_of(const struct cache *c, uint64_t blocks)
{
    uint64_t all = log_bytes(&c->log) / BLOCK_BYTES, dirty = order_backlog(c);
    uint64_t soft = all * c->options.soft_percent / 100, hard = all * c->options.hard_percent / 100;
    uint64_t permille;

    if (c->log.error || dirty + blocks <= soft || dirty <= soft)
        return 0;
    if (dirty >= hard)
        return UINT64_MAX;
    permille = (dirty - soft) * 1000 / (hard - soft);
    return DELAY_MOST_NS * permille / 1000 * permille / 1000;
}

static void put_in(struct cache *c, struct paced *p, uint64_t delay)
{
    p->next = NULL;
    p->is_queued = true;
    if (!c->paced_first)
        c->paced_last = &c->paced_first;
    *c->paced_last = p;
    c->paced_last = &p->next;
    sluice_timer_start(c->disk, &c->pace_timer, MIN(delay, LOOK_AGAIN_NS));
    keeper_kick(c);
}

bool pace(struct cache *c, struct paced *p, uint64_t blocks)
{
    uint64_t now, delay;

    if (c->pace_is_off || !cache_has_log(c))
        return true;
    now = sluice_now_ns(c->disk);
    delay = MAX(delay_of(c, blocks), order_delay_ns(c, now));
    if (delay == 0)
        return true;
    p->due_ns = delay == UINT64_MAX ? UINT64_MAX : now + delay;
    p->behind = (struct log_position){.sequence = 0};
    put_in(c, p, delay);
    return false;
}

bool pace_behind(struct cache *c, struct paced *p)
{
    p->behind = order_now(c);
    if (order_has_passed(c, &p->behind))
        return true;
    p->due_ns = UINT64_MAX;
    c->order.awaited++;
    put_in(c, p, LOOK_AGAIN_NS);
    return false;
}

/* [M] */
static void take_out(struct cache *c, struct paced **at)
{
    struct paced *p = *at;

    *at = p->next;
    p->is_queued = false;
    c->order.awaited -= p->behind.sequence != 0;
    if (c->paced_last == &p->next)
        c->paced_last = at;
}

bool pace_remove(struct cache *c, struct paced *p)
{
    for (struct paced **at = &c->paced_first; *at; at = &(*at)->next)
        if (*at == p) {
            take_out(c, at);
            return true;
        }
    return false;
}

/* [M] Those at the hard mark wait until it is left. */
static bool is_due(const struct cache *c, const struct paced *p, uint64_t now_ns)
{
    if (p->behind.sequence)
        return order_has_passed(c, &p->behind);
    if (c->pace_is_off)
        return true;
    return p->due_ns == UINT64_MAX ? delay_of(c, 1) != UINT64_MAX : now_ns >= p->due_ns;
}

void pace_release(struct cache *c)
{
    struct paced *ready = NULL, **last = &ready;
    uint64_t now = sluice_now_ns(c->disk);

    cache_lock(c);
    for (struct paced **at = &c->paced_first; *at;) {
        struct paced *p = *at;

        if (!is_due(c, p, now)) {
            at = &p->next;
            continue;
        }
        take_out(c, at);
        p->next = NULL;
        *last = p;
        last = &p->next;
    }
    if (c->paced_first)
        sluice_timer_start(c->disk, &c->pace_timer, LOOK_AGAIN_NS);
    cache_unlock(c);
    while (ready) {
        struct paced *p = ready;

        ready = p->next;
        p->go(p);
    }
}

void pace_fire(struct sluice_timer *timer)
{
    pace_release(CONTAINER_OF(timer, struct cache, pace_timer));
}
