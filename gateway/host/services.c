/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * services.c: the threads that work for filters: service loops (own I/O, timers, grants) and the
 * worker pool.  Started once, after the fork; they live as long as the process.
 */
#include "internal.h"

#include <errno.h>
#include <stdio.h>

#define SERVICES_MAX 16u

struct service {
    struct loop *loop;
    struct timer_service *timers;
};

static pthread_mutex_t start_mutex = PTHREAD_MUTEX_INITIALIZER; /* host_start() */
static struct service services[SERVICES_MAX];
static _Atomic unsigned service_count; /* entries of services that are whole */
static _Atomic unsigned next_service;

static int start_one(unsigned index, struct err *e)
{
    struct service *s = &services[index];
    char name[16];

    snprintf(name, sizeof name, "sluice-svc%u", index);
    s->loop = loop_create(name, e);
    if (!s->loop)
        return -e->code;
    s->timers = timer_service_create(s->loop);
    if (!s->timers) {
        loop_destroy(s->loop);
        return err_set(e, ENOMEM, "cannot start a service loop: out of memory");
    }
    return 0;
}

int host_start(unsigned service_loops, unsigned workers, uint64_t memory_limit, struct err *e)
{
    unsigned wanted = MIN(MAX(service_loops, 1u), SERVICES_MAX);
    SCOPED_LOCK(&start_mutex);

    memory_set_limit(memory_limit);
    while (atomic_load(&service_count) < wanted) {
        int r = start_one(atomic_load(&service_count), e);

        if (r < 0)
            return r;
        atomic_fetch_add(&service_count, 1);
    }
    return workers_start(MAX(workers, 1u), e);
}

struct service *service_next(void)
{
    unsigned count = atomic_load(&service_count);

    return count ? &services[atomic_fetch_add(&next_service, 1) % count] : NULL;
}

struct loop *host_service_loop(void)
{
    struct service *s = service_next();

    return s ? s->loop : NULL;
}

struct home *service_home(struct service *service)
{
    return loop_home(service->loop);
}

struct timer_service *service_timers(struct service *service)
{
    return service->timers;
}
