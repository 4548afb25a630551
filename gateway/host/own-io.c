/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * own-io.c: I/O that a filter makes below itself.  It is an engine request that enters below the
 * filter's station, so everything further down sees it like any other.  It takes no range lock and
 * passes the gate, except while the chain itself is being replaced.
 */
#include "internal.h"

#include <errno.h>

struct own_io {
    struct errand errand;
    struct request *request;
} EMBEDDED;
EMBEDDED_FITS(struct own_io, sluice_io);

static struct own_io *own_of(struct sluice_io *io)
{
    return (struct own_io *)(void *)io->host_private;
}

static struct sluice_io *io_of(struct own_io *own)
{
    return CONTAINER_OF(own, struct sluice_io, host_private);
}

static struct request *make_request(struct seat *seat, const struct sluice_io *io)
{
    struct request *r = request_new(disk_engine(seat->disk), &seat->client);

    if (!r)
        return NULL;
    request_fill(r, io->op, io->flags, io->offset, io->length, io->data);
    request_public(r)->origin =
        io->origin == SLUICE_ORIGIN_GUEST || io->origin >= SLUICE_ORIGIN_COUNT
            ? SLUICE_ORIGIN_FILTER
            : io->origin;
    request_set_entry(r, &seat->station);
    return r;
}

static void count_begun(struct seat *seat)
{
    atomic_fetch_add_explicit(&seat->station.stats.own_io, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&seat->io_in_flight, 1, memory_order_relaxed);
}

static void count_ended(struct seat *seat, int error)
{
    atomic_fetch_sub_explicit(&seat->io_in_flight, 1, memory_order_relaxed);
    if (UNLIKELY(error))
        atomic_fetch_add_explicit(&seat->station.stats.own_io_errors, 1, memory_order_relaxed);
}

static void tell_extents(struct sluice_io *io, struct request *r)
{
    const struct extents *x = request_extents(r);
    uint64_t at = x->offset;

    for (unsigned i = 0; i < x->count && io->on_extent; i++) {
        io->on_extent(io, at, x->list[i].length, x->list[i].type);
        at += x->list[i].length;
    }
}

/* Reads what the request has to say and frees it. */
static int reap(struct sluice_io *io, struct request *r)
{
    int error = request_error(r);

    if (io->op == SLUICE_OP_EXTENTS && !error)
        tell_extents(io, r);
    request_free(r);
    return error;
}

/* --- asynchronous --------------------------------------------------------------------------- */

static void finish(struct own_io *own, int error)
{
    struct sluice_io *io = io_of(own);
    struct seat *seat = own->errand.seat;

    count_ended(seat, error);
    errand_arrived(&own->errand);
    io->done(io, error); /* may free io */
    seat_leave(seat);
}

static void on_request_done(struct request *r)
{
    struct own_io *own = request_owner(r);

    finish(own, reap(io_of(own), r));
}

static void start(struct errand *errand)
{
    struct own_io *own = CONTAINER_OF(errand, struct own_io, errand);
    struct request *r = make_request(errand->seat, io_of(own));

    if (!r) {
        finish(own, ENOMEM);
        return;
    }
    request_set_done(r, on_request_done, own);
    if (request_submit(r) == IO_DONE)
        finish(own, reap(io_of(own), r));
}

int seat_io_submit(struct seat *seat, struct sluice_io *io)
{
    struct own_io *own = own_of(io);
    int r;

    count_begun(seat);
    r = errand_send(seat, &own->errand, start);
    if (r < 0)
        count_ended(seat, 0);
    return r;
}

/* --- and waiting ---------------------------------------------------------------------------- */

static COLD int refuse_to_block(struct seat *seat)
{
    seat_log(seat, LOG_LEVEL_ERROR,
             "waits for own I/O where it must not block (bug of the filter)");
    return -EDEADLK;
}

static int execute(struct seat *seat, struct sluice_io *io)
{
    struct request *r = make_request(seat, io);
    int error;

    if (!r)
        return ENOMEM;
    workers_block();
    request_execute(r);
    workers_unblock();
    error = reap(io, r);
    return error;
}

int seat_io_wait(struct seat *seat, struct sluice_io *io)
{
    int error;

    if (engine_home_must_not_block())
        return refuse_to_block(seat);
    if (!seat_enter(seat))
        return -ESHUTDOWN;
    count_begun(seat);
    error = execute(seat, io);
    count_ended(seat, error);
    seat_leave(seat);
    return -error;
}
