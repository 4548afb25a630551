/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * backing-remote: the side of a remote backing that other threads see: open, close, submit, status,
 * refresh, reopen.  Everything that changes state is carried into the service loop; the control
 * thread waits there on a remote_waiter.  status_mutex guards only the copy that status reads.
 */
#include "backing/backing-remote.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Longer than any transport's patience with an attempt, a replay of 64 MiB included. */
#define CONTROL_PATIENCE_NS (UINT64_C(120) * 1000000000u)

/* --- waiting for the loop ------------------------------------------------------------------- */

static void waiter_init(struct remote_waiter *w)
{
    *w = (struct remote_waiter){.mutex = PTHREAD_MUTEX_INITIALIZER};
    pthread_cond_init(&w->cond, NULL);
}

static bool waiter_wait(struct remote_waiter *w)
{
    uint64_t deadline = clock_now_ns() + CONTROL_PATIENCE_NS;
    SCOPED_LOCK(&w->mutex);

    while (!w->is_done && cond_wait_until(&w->cond, &w->mutex, deadline))
        ;
    return w->is_done;
}

struct order {
    struct remote *remote;
    struct remote_waiter *waiter;
};

static void forget_waiter(void *arg)
{
    struct remote *r = arg;

    r->waiter = NULL;
}

/* Has the loop run fn and waits until link_tell() answers. 0 or -errno with text. */
static int order_and_wait(struct remote *r, void (*fn)(void *order), uint64_t *size_bytes,
                          struct err *e)
{
    struct remote_waiter waiter;
    struct order order = {r, &waiter};
    int rc = 0;

    waiter_init(&waiter);
    service_call(r->loop, fn, &order);
    if (!waiter_wait(&waiter)) {
        service_call(r->loop, forget_waiter, r);
        if (!waiter.is_done)
            err_set(&waiter.err, ETIMEDOUT, "%s does not answer", r->name);
    }
    *size_bytes = waiter.size_bytes;
    if (waiter.err.code)
        rc = err_set(e, waiter.err.code, "%s", waiter.err.text);
    pthread_cond_destroy(&waiter.cond);
    pthread_mutex_destroy(&waiter.mutex);
    return rc;
}

/* --- open and close ------------------------------------------------------------------------- */

static void begin_open(void *arg)
{
    struct order *order = arg;

    order->remote->waiter = order->waiter;
    link_connect(order->remote);
}

static void fill_info(struct remote *r, bool wants_read_only)
{
    const struct remote_facts *f = &r->facts;

    r->backing.info = (struct backing_info){
        .size_bytes = f->size_bytes,
        .block_bytes = f->block_bytes,
        .preferred_bytes = MAX(f->preferred_bytes, f->block_bytes),
        .max_transfer_bytes = (unsigned)MIN(f->max_transfer_bytes, 64u << 20),
        .is_read_only = f->is_read_only || wants_read_only,
        /* Where the server has no flush there is still somebody to ask whether it forgot something.
         */
        .can_flush = true,
        /* Where the server has no FUA, the write is followed by a flush. */
        .can_fua = f->can_fua || f->can_flush,
        .can_trim = f->can_trim,
        .can_zero = f->can_zero,
        .can_fast_zero = f->can_fast_zero,
        .can_extents = f->can_extents,
        .can_prefetch = f->can_prefetch,
        .is_rotational = f->is_rotational,
    };
    if (!r->identity[0]) /* else its kind knows better */
        snprintf(r->identity, sizeof r->identity, "%s", f->identity[0] ? f->identity : r->name);
}

static int prepare(struct remote *r, const struct backing_spec *spec, struct err *e)
{
    pthread_mutex_init(&r->status_mutex, NULL);
    r->reconnect_ns = spec->reconnect_ns;
    link_init(r);
    r->disk = strdup(spec->disk ? spec->disk : "");
    if (doubt_init(r) < 0 || flight_init(r, spec->keep_bytes) < 0 || !r->disk)
        return err_set(e, ENOMEM, "no memory");
    return service_start(&r->loop, e);
}

int remote_open(struct remote *r, const struct backing_spec *spec, struct err *e)
{
    uint64_t size_bytes;
    int rc = prepare(r, spec, e);

    if (rc < 0)
        return rc;
    rc = order_and_wait(r, begin_open, &size_bytes, e);
    if (rc < 0) {
        remote_close(r);
        return rc;
    }
    fill_info(r, spec->read_only);
    return 0;
}

static void stop(void *arg)
{
    link_stop(arg);
}

static void nothing(void *arg)
{
    (void)arg;
}

/* The second call comes after all that the first may have left on the run list. */
void remote_close(struct remote *r)
{
    service_call(r->loop, stop, r);
    service_call(r->loop, nothing, NULL);
}

void remote_destroy(struct remote *r)
{
    flight_free(r);
    doubt_free(r);
    pthread_mutex_destroy(&r->status_mutex);
    free(r->disk);
    free(r->name);
}

/* --- for any thread ------------------------------------------------------------------------- */

enum io_status remote_submit(struct backing *b, struct io *io)
{
    struct remote *r = CONTAINER_OF(b, struct remote, backing);

    io->executor = r;
    io->exec_task.run = flight_enter;
    home_post(loop_home(r->loop), &io->exec_task);
    return IO_PENDING;
}

static void describe(const struct remote *r, uint64_t now_ns, char *out, size_t size)
{
    uint64_t lost_s = r->seen.lost_ns ? (now_ns - r->seen.lost_ns) / 1000000000 : 0;

    switch (r->seen.state) {
    case REMOTE_READY:
        if (r->seen.silent_ns)
            snprintf(out, size, "%s has not answered for %" PRIu64 " s", r->name,
                     (now_ns - r->seen.silent_ns) / 1000000000);
        else
            snprintf(out, size, "connected to %s", r->name);
        return;
    case REMOTE_REPLAYING:
        snprintf(out, size, "%s is back, writing again what was not flushed", r->name);
        return;
    case REMOTE_REFUSED:
        snprintf(out, size, "%s is not used any more: %s", r->name, r->seen.reason);
        return;
    default:
        snprintf(out, size, "lost %s (%s), retrying since %" PRIu64 " s", r->name, r->seen.reason,
                 lost_s);
    }
}

void remote_status(struct backing *b, struct backing_status *out)
{
    struct remote *r = CONTAINER_OF(b, struct remote, backing);

    SCOPED_LOCK(&r->status_mutex);
    out->is_connected = r->seen.state == REMOTE_READY || r->seen.state == REMOTE_REPLAYING;
    out->generation = r->seen.generation;
    out->reconnects = r->seen.reconnects;
    out->replayed_writes = r->seen.replayed;
    out->sticky_error = r->seen.sticky;
    describe(r, clock_now_ns(), out->sentence, sizeof out->sentence);
}

void remote_identity(const struct backing *b, char *out, size_t out_size)
{
    snprintf(out, out_size, "%s", CONTAINER_OF(b, struct remote, backing)->identity);
}

/* --- refresh and reopen --------------------------------------------------------------------- */

static void begin_refresh(void *arg)
{
    struct order *order = arg;
    struct remote *r = order->remote;

    r->waiter = order->waiter;
    if (r->state != REMOTE_READY)
        link_tell(r, ENOTCONN, "not connected now");
    else if (r->transport->refresh)
        r->transport->refresh(r);
    else {
        r->is_draining = true;
        flight_pump(r);
    }
}

int remote_refresh(struct backing *b, struct err *e)
{
    struct remote *r = CONTAINER_OF(b, struct remote, backing);
    uint64_t size_bytes;
    int rc = order_and_wait(r, begin_refresh, &size_bytes, e);

    if (rc < 0)
        return err_context(e, "reading the size");
    b->info.size_bytes = size_bytes;
    return 0;
}

static void begin_reopen(void *arg)
{
    struct order *order = arg;
    struct remote *r = order->remote;

    r->waiter = order->waiter;
    r->sticky = 0;
    r->kept.has_forgotten = false;
    r->wants_flush = true;
    link_restart(r, "opened anew by order");
}

int remote_reopen(struct backing *b, struct err *e)
{
    struct remote *r = CONTAINER_OF(b, struct remote, backing);
    uint64_t size_bytes;
    int rc = order_and_wait(r, begin_reopen, &size_bytes, e);

    return rc < 0 ? err_context(e, "opening anew") : 0;
}
