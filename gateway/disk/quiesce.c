/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * quiesce.c: everything that needs a moment without requests: quiesce itself, replacing the chain,
 * snapshot, resize, stop.  Requests are held at the gate, never failed; if the drain takes longer
 * than the limit, all runs again as before and the caller is told who kept it.
 */
#include "internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* --- quiesce
 * ---------------------------------------------------------------------------------------- */

struct culprit {
    char text[200];
    uint64_t age_ns;
};

static void find_oldest(const struct request_view *v, void *arg)
{
    struct culprit *c = arg;

    if (strcmp(v->where, "gate") == 0 || v->age_ns < c->age_ns)
        return;
    c->age_ns = v->age_ns;
    snprintf(c->text, sizeof c->text, "a %s of %.1f s ago is in %s%s%s", engine_op_name(v->op),
             (double)v->age_ns / 1e9, v->where, v->filter[0] ? " " : "", v->filter);
}

static int drain(struct disk *disk, struct err *e)
{
    struct culprit c = {.text = "requests are in flight"};
    int r = engine_drain(disk->engine, clock_now_ns() + disk->quiesce_limit_ns);

    if (r == 0)
        return 0;
    engine_for_each_request(disk->engine, find_oldest, &c);
    return err_set(e, -r, "%s: could not be quiesced within %g s: %s", disk->name,
                   (double)disk->quiesce_limit_ns / 1e9, c.text);
}

static void resume_filters(struct disk *disk)
{
    struct sluice_event event = {.kind = SLUICE_EVENT_RESUME, .name = ""};

    stations_inform(disk, disk->station, disk->count, &event, SLUICE_PHASE_COMMIT);
}

static uint64_t held_by_filters(const struct disk *disk)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < disk->count; i++)
        sum += atomic_load_explicit(&disk->station[i]->stats.held_now, memory_order_relaxed);
    return sum;
}

int quiesce_begin(struct disk *disk, struct err *e)
{
    struct sluice_event event = {.kind = SLUICE_EVENT_QUIESCE, .name = ""};
    int r;

    engine_gate_close(disk->engine, GATE_QUIESCE);
    disk->held_at_gate = held_by_filters(disk);
    r = stations_prepare(disk, disk->station, disk->count, &event, SLUICE_PHASE_PREPARE, e);
    if (r == 0) {
        r = drain(disk, e);
        if (r < 0)
            resume_filters(disk);
    }
    if (r < 0)
        engine_gate_open(disk->engine, GATE_QUIESCE);
    return r;
}

void quiesce_end(struct disk *disk)
{
    resume_filters(disk);
    engine_gate_open(disk->engine, GATE_QUIESCE);
}

int disk_quiesce(struct disk *disk, struct err *e)
{
    int r;
    SCOPED_LOCK(&disk->control);

    r = disk_refuse_if_prepared(disk, e);
    return r < 0 ? r : quiesce_begin(disk, e);
}

void disk_resume(struct disk *disk)
{
    SCOPED_LOCK(&disk->control);

    quiesce_end(disk);
}

/* --- flush
 * -------------------------------------------------------------------------------------------- */

static const struct sluice_client gateway_client = {
    .front_end = "gateway", .address = "", .initiator = ""};

static int flush(struct disk *disk, struct station *below, bool passes_gate)
{
    struct request *r = request_new(disk->engine, &gateway_client);
    int error;

    if (!r)
        return ENOMEM;
    request_public(r)->op = SLUICE_OP_FLUSH;
    request_public(r)->origin = SLUICE_ORIGIN_MAINTENANCE;
    request_set_entry(r, below);
    if (passes_gate)
        request_pass_gate(r);
    error = request_execute(r);
    request_free(r);
    return error;
}

/* below: enters below that station; NULL: through the whole chain. */
int flush_as_maintenance(struct disk *disk, struct station *below)
{
    return flush(disk, below, true);
}

int disk_flush(struct disk *disk)
{
    return flush(disk, NULL, false);
}

/* --- chain
 * ---------------------------------------------------------------------------------------------- */

/* What a change does: stations that join and that leave. */
struct change {
    struct station *joins[CHAIN_FILTERS_MAX], *leaves[CHAIN_FILTERS_MAX];
    unsigned join_count, leave_count;
};

static bool contains(struct station *const *stations, unsigned count, const struct station *s)
{
    for (unsigned i = 0; i < count; i++)
        if (stations[i] == s)
            return true;
    return false;
}

static void find_change(const struct disk *disk, struct station *const *stations, unsigned count,
                        struct change *c)
{
    for (unsigned i = 0; i < count; i++)
        if (!contains(disk->station, disk->count, stations[i]))
            c->joins[c->join_count++] = stations[i];
    for (unsigned i = 0; i < disk->count; i++)
        if (!contains(stations, count, disk->station[i]))
            c->leaves[c->leave_count++] = disk->station[i];
}

static const struct sluice_event attach_event = {.kind = SLUICE_EVENT_ATTACH, .name = ""};
static const struct sluice_event detach_event = {.kind = SLUICE_EVENT_DETACH, .name = ""};

static void put_chain(struct disk *disk, struct chain *chain, struct station *const *stations,
                      unsigned count)
{
    chain_destroy(engine_swap_chain(disk->engine, chain));
    records_put_chain(disk, stations, count);
}

/* Quiesced: leaving filters prepare, own I/O ends, the chain is replaced, everybody is told. */
static int swap_quiesced(struct disk *disk, struct chain *chain, struct station *const *stations,
                         unsigned count, const struct change *c, struct err *e)
{
    int r =
        stations_prepare(disk, c->leaves, c->leave_count, &detach_event, SLUICE_PHASE_PREPARE, e);

    if (r < 0)
        return r;
    engine_gate_close(disk->engine, GATE_SWAP);
    r = drain(disk, e);
    if (r == 0)
        put_chain(disk, chain, stations, count);
    engine_gate_open(disk->engine, GATE_SWAP);
    if (r == 0)
        stations_inform(disk, c->leaves, c->leave_count, &detach_event, SLUICE_PHASE_COMMIT);
    return r;
}

static int change_chain(struct disk *disk, struct chain *chain, struct station *const *stations,
                        unsigned count, const struct change *c, struct disk_swap *swap,
                        struct err *e)
{
    uint64_t since = clock_now_ns();
    int r = quiesce_begin(disk, e);

    if (r < 0)
        return r;
    r = swap_quiesced(disk, chain, stations, count, c, e);
    quiesce_end(disk);
    if (swap)
        *swap = (struct disk_swap){clock_now_ns() - since, disk->held_at_gate};
    return r;
}

/* A request that was rounded out to whole blocks must not reach behind the end of the disk. */
static int check_blocks(const struct station *s, const char *disk, uint64_t size, struct err *e)
{
    uint32_t block = MAX(s->filter->block_bytes, 1u);

    if (size % block == 0)
        return 0;
    return err_set(e, EINVAL,
                   "filter %s: takes blocks of %u bytes, and %llu, the size of %s, is not a "
                   "multiple of that",
                   s->name, block, (unsigned long long)size, disk);
}

static int check_all_blocks(const struct disk *disk, struct station *const *stations,
                            unsigned count, uint64_t size, struct err *e)
{
    int r = 0;

    for (unsigned i = 0; i < count && r == 0; i++)
        r = check_blocks(stations[i], disk->name, size, e);
    return r;
}

static bool is_in_place(const struct disk *disk, struct station *const *stations, unsigned count)
{
    unsigned same = 0;

    while (same < count && same < disk->count && stations[same] == disk->station[same])
        same++;
    return same == count && same == disk->count;
}

/* Nobody has been asked yet. */
static int may_set_chain(struct disk *disk, struct station *const *stations, unsigned count,
                         struct err *e)
{
    int r = disk_refuse_if_prepared(disk, e);

    return r < 0 ? r : check_all_blocks(disk, stations, count, engine_size(disk->engine), e);
}

/* Before the pause: those that leave end their long work, those that join get ready. */
static int prepare_change(struct disk *disk, const struct change *c, struct err *e)
{
    int r = stations_prepare(disk, c->leaves, c->leave_count, &detach_event,
                             SLUICE_PHASE_PREPARE_LONG, e);

    if (r < 0)
        return r;
    r = stations_prepare(disk, c->joins, c->join_count, &attach_event, SLUICE_PHASE_PREPARE, e);
    if (r < 0)
        stations_inform(disk, c->leaves, c->leave_count, &detach_event, SLUICE_PHASE_ABORT);
    return r;
}

int disk_set_chain(struct disk *disk, struct station *const *stations, unsigned count,
                   struct disk_swap *swap, struct err *e)
{
    struct change c = {.join_count = 0};
    struct chain *chain;
    int r;
    SCOPED_LOCK(&disk->control);

    if (is_in_place(disk, stations, count))
        return 0;
    r = may_set_chain(disk, stations, count, e);
    if (r < 0)
        return r;
    chain = chain_create(stations, count, disk->backing);
    if (!chain)
        return err_set(e, count > CHAIN_FILTERS_MAX ? E2BIG : ENOMEM,
                       "%s: a chain takes at most %d filters", disk->name, CHAIN_FILTERS_MAX);
    find_change(disk, stations, count, &c);
    r = prepare_change(disk, &c, e);
    if (r == 0) {
        r = change_chain(disk, chain, stations, count, &c, swap, e);
        stations_inform(disk, c.joins, c.join_count, &attach_event,
                        r ? SLUICE_PHASE_ABORT : SLUICE_PHASE_COMMIT);
        if (r < 0)
            stations_inform(disk, c.leaves, c.leave_count, &detach_event, SLUICE_PHASE_ABORT);
    }
    if (r < 0)
        chain_destroy(chain);
    return r;
}

/* --- snapshot, resize, reopen, stop
 * ------------------------------------------------------------------------- */

int disk_snapshot(struct disk *disk, const char *name, struct err *e)
{
    struct sluice_event event = {.kind = SLUICE_EVENT_SNAPSHOT, .name = name};
    int r = disk_event_prepare(disk, &event, e);

    if (r < 0)
        return r;
    r = backing_snapshot(disk->backing, name, e);
    if (r < 0) {
        if (disk_event_abort(disk, SLUICE_EVENT_SNAPSHOT, &(struct err){0}) < 0)
            log_line(LOG_LEVEL_NOTICE, "the prepared snapshot had been aborted already disk=%s",
                     disk->name);
        return r;
    }
    return disk_event_commit(disk, SLUICE_EVENT_SNAPSHOT, e);
}

/* *old_bytes: what lies beyond that is new in the backing too, and zeros.  It is asked for its size
 * anew: somebody may have grown it, and written there, since it was opened. */
static int grow_backing(struct disk *disk, uint64_t size_bytes, uint64_t *old_bytes, struct err *e)
{
    struct err none = {0};

    *old_bytes = size_bytes;
    if (backing_info(disk->backing)->size_bytes >= size_bytes)
        return 0;
    if (backing_refresh(disk->backing, &none) == 0)
        *old_bytes = MIN(backing_info(disk->backing)->size_bytes, size_bytes);
    if (backing_info(disk->backing)->size_bytes >= size_bytes)
        return 0;
    return backing_resize(disk->backing, size_bytes, e);
}

static int may_resize(struct disk *disk, uint64_t size_bytes, struct err *e)
{
    uint64_t now = engine_size(disk->engine);
    int r = disk_refuse_if_prepared(disk, e);

    if (r < 0)
        return r;
    if (disk->is_stopped)
        return err_set(e, ESHUTDOWN, "%s: the gateway stops", disk->name);
    if (size_bytes < now)
        return err_set(e, EINVAL, "%s: is %llu bytes; a disk is never made smaller (asked: %llu)",
                       disk->name, (unsigned long long)now, (unsigned long long)size_bytes);
    return check_all_blocks(disk, disk->station, disk->count, size_bytes, e);
}

/* The disk's file knows the new size before a filter does: what they note of it is never ahead.
 * Whoever asked may not hear the answer, ours or the client's process being killed, and put the
 * policy back: the file says "beyond the policy" until a start has seen a policy that says as much.
 */
static int grow(struct disk *disk, struct sluice_event *event, struct err *e)
{
    int r = grow_backing(disk, event->size_bytes, &event->old_bytes, e);

    return r == 0 ? disk_save_identity(disk, event->size_bytes, e) : r;
}

static int resize(struct disk *disk, uint64_t size_bytes, bool is_by_policy, struct err *e)
{
    struct sluice_event event = {.kind = SLUICE_EVENT_RESIZE, .name = "", .size_bytes = size_bytes};
    bool was_beyond;
    int r;
    SCOPED_LOCK(&disk->control);

    was_beyond = disk->is_beyond_policy;
    r = may_resize(disk, size_bytes, e);
    if (r == 0)
        r = stations_prepare(disk, disk->station, disk->count, &event, SLUICE_PHASE_PREPARE, e);
    if (r < 0)
        return r;
    disk->is_beyond_policy = true;
    r = grow(disk, &event, e);
    disk->is_beyond_policy = r < 0 ? was_beyond : !is_by_policy;
    stations_inform(disk, disk->station, disk->count, &event,
                    r < 0 ? SLUICE_PHASE_ABORT : SLUICE_PHASE_COMMIT);
    if (r < 0)
        return r;
    engine_set_size(disk->engine, size_bytes);
    disk_notify(disk, "resized", "size:%llu", (unsigned long long)size_bytes);
    return 0;
}

int disk_resize(struct disk *disk, uint64_t size_bytes, struct err *e)
{
    return resize(disk, size_bytes, true, e);
}

int disk_grow_beyond_policy(struct disk *disk, uint64_t size_bytes, struct err *e)
{
    return size_bytes == engine_size(disk->engine) ? 0 : resize(disk, size_bytes, false, e);
}

int disk_reopen(struct disk *disk, struct err *e)
{
    int r;
    SCOPED_LOCK(&disk->control);

    r = disk_refuse_if_prepared(disk, e);
    if (r == 0)
        r = quiesce_begin(disk, e);
    if (r < 0)
        return r;
    engine_gate_close(disk->engine, GATE_SWAP);
    r = drain(disk, e);
    if (r == 0)
        r = backing_reopen(disk->backing, e);
    if (r == 0)
        engine_forget_failures(disk->engine);
    engine_gate_open(disk->engine, GATE_SWAP);
    quiesce_end(disk);
    return r;
}

/* Nothing that was acknowledged may be lost by leaving: filters stop, everything is flushed twice,
 * through the chain and in the backing itself. */
static int flush_to_the_end(struct disk *disk)
{
    int error = flush_as_maintenance(disk, NULL);

    if (!error && disk->count)
        error = flush_as_maintenance(disk, disk->station[disk->count - 1]);
    return error;
}

int disk_stop(struct disk *disk, uint64_t deadline_ns, struct err *e)
{
    struct sluice_event quiesce = {.kind = SLUICE_EVENT_QUIESCE, .name = ""};
    struct sluice_event stop = {.kind = SLUICE_EVENT_STOP, .name = ""};
    int r, error;
    SCOPED_LOCK(&disk->control);

    engine_gate_close(disk->engine, GATE_STOP);
    stations_inform(disk, disk->station, disk->count, &quiesce, SLUICE_PHASE_PREPARE);
    r = engine_drain(disk->engine, deadline_ns);
    stations_inform(disk, disk->station, disk->count, &stop, SLUICE_PHASE_COMMIT);
    disk->is_stopped = true;
    if (r < 0)
        return err_set(e, -r, "%s: requests were still in flight when the time was up", disk->name);
    error = flush_to_the_end(disk);
    if (error)
        return err_set(e, error, "%s: the last flush failed: %s", disk->name, strerror(error));
    return disk_mark_clean(disk, e);
}
