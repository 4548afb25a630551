/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * errand.c: where work runs that a filter starts.
 *
 * In a callback the natural place is the request's home: a worker that sleeps for its request does
 * the system call itself, without a hand-off.  But a worker leaves when its request is answered, so
 * what has not begun by then moves to the seat's service loop, and what has begun is waited for
 * (engine_home_borrow).  Threads without a home, and those that wait for nothing, use the loop.
 */
#include "internal.h"

#include <errno.h>

static void start_here(struct task *task)
{
    struct errand *errand = CONTAINER_OF(task, struct errand, task);

    errand->start(errand);
}

static void post_to_service(struct errand *errand)
{
    errand->home = service_home(errand->seat->service);
    errand->task.run = start_here;
    home_post(errand->home, &errand->task);
}

/* In a borrowed home. */
static void start_or_move(struct task *task)
{
    struct errand *errand = CONTAINER_OF(task, struct errand, task);

    if (LIKELY(engine_home_is_lent(errand->home))) {
        errand->start(errand);
        return;
    }
    errand_move(errand);
}

void errand_move(struct errand *errand)
{
    engine_home_return(errand->home);
    post_to_service(errand);
}

int errand_send_elsewhere(struct seat *seat, struct errand *errand, void (*start)(struct errand *))
{
    struct home *home = home_current_or_null();

    if (home && home->kind == HOME_LOOP) /* does not wait either */
        return errand_send(seat, errand, start);
    if (!seat_enter(seat))
        return -ESHUTDOWN;
    errand->seat = seat;
    errand->start = start;
    post_to_service(errand);
    return 0;
}

int errand_send(struct seat *seat, struct errand *errand, void (*start)(struct errand *))
{
    if (!seat_enter(seat))
        return -ESHUTDOWN;
    errand->seat = seat;
    errand->start = start;
    errand->home = engine_home_borrow();
    if (errand->home) {
        errand->task.run = start_or_move;
        home_run_later(errand->home, &errand->task);
    } else {
        post_to_service(errand);
    }
    return 0;
}

void errand_arrived(struct errand *errand)
{
    engine_home_return(errand->home);
}
