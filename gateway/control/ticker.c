/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ticker.c: once a second: disks that failed are tried again, changes of state are told to watchers
 * and to the log, and the service manager hears that the control side is alive.
 *
 * The watchdog is fed only after a whole round: a round takes the exports' mutex and asks every
 * filter, so a gateway that hangs there is restarted.
 */
#include "internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define TICK_NS 1000000000u
#define EXPORTS_MAX 4096u

struct round {
    unsigned disks, troubled;
};

static void tell_change(struct gateway_export *x, const struct health *h)
{
    char text[1200];

    snprintf(text, sizeof text, "state:%s was:%s%s%s", h->state, x->told_state,
             h->sentence[0] ? " cause:" : "", h->sentence);
    events_emit(x->gateway, "change", "disk", x->name, text);
    if (strcmp(h->state, "ok") == 0)
        log_line(LOG_LEVEL_NOTICE, "%s: is well again disk=%s", x->name, x->name);
    else
        log_line(LOG_LEVEL_WARNING, "%s: is %s: %s disk=%s", x->name, h->state, h->sentence,
                 x->name);
}

static void look_at(struct gateway_export *x, struct windows *w, struct round *round)
{
    struct health h;

    memset(w, 0, sizeof *w);
    pthread_rwlock_rdlock(&x->use);
    export_judge(x, w, &h);
    pthread_rwlock_unlock(&x->use);
    round->disks++;
    round->troubled += strcmp(h.state, "ok") != 0;
    if (x->told_state && strcmp(x->told_state, h.state) != 0)
        tell_change(x, &h);
    x->told_state = h.state;
}

static void look_at_all(struct gateway *g, struct gateway_export **list, struct windows *w,
                        struct round *round)
{
    unsigned count = exports_take(g, NULL, list, EXPORTS_MAX);

    for (unsigned i = 0; i < count; i++) {
        look_at(list[i], w, round);
        gateway_export_release(list[i]);
    }
}

static void *ticker_thread(void *arg)
{
    struct gateway_export **list = calloc(EXPORTS_MAX, sizeof(struct gateway_export *));
    struct windows *w = calloc(1, sizeof *w);
    struct gateway *g = arg;

    while (list && w && !atomic_load(&g->is_stopping)) {
        struct timespec pause = {.tv_sec = TICK_NS / 1000000000u};
        struct round round = {.disks = 0};

        exports_retry(g, clock_now_ns());
        look_at_all(g, list, w, &round);
        service_notify("WATCHDOG=1\nSTATUS=%u disks, %u in trouble", round.disks, round.troubled);
        clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
    }
    free(list);
    free(w);
    return NULL;
}

int ticker_start(struct gateway *g, struct err *e)
{
    return control_start_thread(ticker_thread, g, e);
}
