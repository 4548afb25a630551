/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * filter.c: the replication filter as the host sees it: table, options, life, control events.
 */
#include "replica.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    O_PEER,
    O_MODE,
    O_ACK,
    O_LOSS,
    O_TIMEOUT,
    O_WAIT,
    O_RAM,
    O_JOURNAL_SIZE,
    O_JOURNAL_PATH,
    O_SPILL_SIZE,
    O_SPILL_PATH,
    O_RATE
};
static const struct sluice_option options[] = {
    {"peer", SLUICE_TYPE_STRING, SLUICE_OPTION_REQUIRED, 0, 0, NULL, NULL,
     "Name of the gateway that holds the other copy."},
    {"mode", SLUICE_TYPE_ENUM, 0, 0, 0, "sync", "sync|async",
     "sync: a write is acknowledged when the peer has it too; async: when it is done here."},
    {"ack", SLUICE_TYPE_ENUM, 0, 0, 0, "journaled", "received|journaled|applied",
     "sync: what the peer must have done with a write; flush and FUA always wait until it is "
     "durable there."},
    {"on_peer_loss", SLUICE_TYPE_ENUM, 0, 0, 0, "degrade", "hold|degrade",
     "sync: hold writes until the peer is back, or acknowledge alone after peer_timeout."},
    {"peer_timeout", SLUICE_TYPE_DURATION, 0, 0, INT64_MAX, "5s", NULL,
     "degrade: how long writes wait for a lost peer."},
    {"peer_wait", SLUICE_TYPE_DURATION, 0, 0, INT64_MAX, "10s", NULL,
     "A primary that starts waits so long for its peer before it serves alone."},
    {"ram", SLUICE_TYPE_SIZE, 0, 1 << 20, 1ll << 40, "16MiB", NULL,
     "async: what may be queued for the link before the peer is left behind."},
    {"journal.size", SLUICE_TYPE_SIZE, 0, 4 << 20, 1ll << 44, "256MiB", NULL,
     "Of the journal of the side that follows; a batch larger than half of it is copied unstaged."},
    {"journal.path", SLUICE_TYPE_PATH, 0, 0, 0, NULL, NULL,
     "Its file; default: in the state folder."},
    {"spill.size", SLUICE_TYPE_SIZE, 0, 0, 1ll << 44, "0", NULL,
     "async: of the file for what ram does not hold or a lost peer lacks, in order; 0: none."},
    {"spill.path", SLUICE_TYPE_PATH, 0, 0, 0, NULL, NULL,
     "That file; default: in the state folder."},
    {"max_rate", SLUICE_TYPE_RATE, 0, 0, INT64_MAX, NULL, NULL, "Limit of a resync."},
    SLUICE_OPTIONS_END,
};

static const struct sluice_counter counters[] = {
    [COUNT_CAPTURED] = {"captured", SLUICE_COUNTER, "", "Writes, trims and zeros of guests."},
    [COUNT_SENT_BYTES] = {"sent_bytes", SLUICE_COUNTER, "bytes",
                          "Sent to the peer, heads of frames among them."},
    [COUNT_RESYNC_BYTES] = {"resync_bytes", SLUICE_COUNTER, "bytes",
                            "Read here and sent in batches."},
    [COUNT_APPLIED] = {"applied", SLUICE_COUNTER, "", "Frames of the peer written here."},
    [COUNT_LOST] = {"losses", SLUICE_COUNTER, "", "Times that the peer was lost."},
    [COUNT_LOG_WRITES] = {"log_writes", SLUICE_COUNTER, "", "Durable writes of the activity log."},
    SLUICE_COUNTERS_END,
};

/* --- work: one item, whoever kicks it while it runs lets it run once more
 * ------------------------------------------- */

void replica_kick(struct replica *r)
{
    if (r->work_is_queued || r->is_closing) {
        r->work_again = true;
        return;
    }
    r->work_is_queued = sluice_work_submit(r->disk, &r->work) == 0;
}

void replica_work(struct replica *r)
{
    super_save(r);
    roles_pump(r);
    seal_pump(r);
    growth_step(r);
    target_pump(r);
    backlog_pump(r);
    resync_pump(r);
    verify_pump(r);
    compare_pump(r);
    spill_pump(r);
    super_save(r);
    roles_pump(r);
    target_pump(r);
}

void replica_tick_in(struct replica *r, uint64_t delay_ns)
{
    uint64_t now = r->is_closing ? 0 : sluice_now_ns(r->disk);

    if (r->is_closing || (r->tick_ns > now && r->tick_ns <= now + delay_ns))
        return;
    r->tick_ns = now + delay_ns;
    sluice_timer_start(r->disk, &r->timer, delay_ns);
}

static void run_work(struct sluice_work *work)
{
    struct replica *r = (struct replica *)(void *)((char *)work - offsetof(struct replica, work));

    replica_lock(r);
    r->work_again = false;
    replica_unlock(r);
    replica_work(r);
    replica_lock(r);
    r->work_is_queued = false;
    if (r->work_again)
        replica_kick(r);
    replica_wake(&r->changed);
    replica_unlock(r);
}

static void on_timer(struct sluice_timer *timer)
{
    struct replica *r = (struct replica *)(void *)((char *)timer - offsetof(struct replica, timer));

    replica_lock(r);
    r->tick_ns = 0;
    if (!r->is_closing)
        roles_tick(r);
    replica_unlock(r);
}

/* --- life
 * -------------------------------------------------------------------------------------------------------------
 */

static void read_settings(struct settings *s, const struct sluice_value *v)
{
    s->is_async = v[O_MODE].integer == 1;
    s->level = (enum ack_level)v[O_ACK].integer;
    s->holds = v[O_LOSS].integer == 0;
    s->peer_timeout_ns = (uint64_t)v[O_TIMEOUT].integer;
    s->peer_wait_ns = (uint64_t)v[O_WAIT].integer;
    s->ram_bytes = (uint64_t)v[O_RAM].integer;
    s->journal_bytes = (uint64_t)v[O_JOURNAL_SIZE].integer & ~4095ull;
    s->spill_bytes = (uint64_t)v[O_SPILL_SIZE].integer & ~4095ull;
    if (s->spill_bytes && s->spill_bytes < SPILL_LEAST)
        s->spill_bytes = SPILL_LEAST;
    s->max_rate = v[O_RATE].is_set ? (uint64_t)v[O_RATE].integer : 0;
    snprintf(s->peer, sizeof s->peer, "%s", v[O_PEER].string);
    snprintf(s->journal_path, sizeof s->journal_path, "%s",
             v[O_JOURNAL_PATH].is_set ? v[O_JOURNAL_PATH].string : "");
    snprintf(s->spill_path, sizeof s->spill_path, "%s",
             v[O_SPILL_PATH].is_set ? v[O_SPILL_PATH].string : "");
}

void replica_forget(struct replica *r)
{
    backlog_close(r);
    evidence_close(r);
    journal_close(r);
    spill_close(r);
    verify_close(r);
    seal_close(r);
    growth_close(r);
    free(r->todo);
    memset(&r->is_formed, 0, sizeof *r - offsetof(struct replica, is_formed));
    r->out_last = &r->out_first;
    r->plan_reason = "the peer was never met";
    r->work.run = run_work;
    r->timer.fire = on_timer;
    r->is_closing = true; /* nothing is begun before it is formed */
}

struct replica *replica_make(void)
{
    struct replica *r = calloc(1, sizeof *r);

    if (!r)
        return NULL;
    pthread_mutex_init(&r->mutex, NULL);
    pthread_mutex_init(&r->forming, NULL);
    pthread_cond_init(&r->changed, NULL);
    r->waiting_last = &r->waiting;
    r->unacked_last = &r->unacked;
    r->reading_last = &r->reading;
    replica_forget(r);
    return r;
}

void replica_free(struct replica *r)
{
    pthread_mutex_destroy(&r->mutex);
    pthread_mutex_destroy(&r->forming);
    pthread_cond_destroy(&r->changed);
    free(r);
}

int replica_open(struct replica *r, struct sluice_error *error)
{
    uint64_t extents = (r->size_bytes + EXTENT_BYTES - 1) / EXTENT_BYTES; /* as evidence.c has it */
    int status;

    r->todo = calloc(1, extents / 8 + 1);
    if (!r->todo)
        return sluice_refuse(r->disk, error, ENOMEM, "out of memory");
    status = super_load(r, error);
    if (status == 0)
        status = evidence_open(r, error);
    if (status == 0)
        status = journal_open(r, error);
    if (status == 0)
        status = spill_open(r, error);
    if (status == 0)
        status = seal_open(r, error);
    if (status == 0)
        verify_load(r);
    if (status == 0)
        snapshot_load(r);
    return status;
}

static int replication_open(struct sluice_disk *disk, const struct sluice_value *values,
                            void **instance, struct sluice_error *error)
{
    struct member *m = NULL;
    struct settings settings;
    int status;

    read_settings(&settings, values);
    status = member_open(disk, &settings, &m, error);
    *instance = m;
    return status;
}

/* Nothing is begun any more; what is under way ends by itself. */
static void quiet(struct replica *r)
{
    replica_lock(r);
    while (r->work_is_queued || r->journal.writing || r->journal.applying ||
           r->journal.is_syncing || r->check == CHECK_FLUSHING || r->is_cleaning || r->verbs ||
           backlog_is_busy(r) || r->evidence.writing || r->evidence.commit != COMMIT_IDLE ||
           compare_is_busy(r) || seal_is_busy(r) || spill_is_busy(r) || r->growth.is_wished ||
           r->snapshots.is_wished)
        replica_wait(r);
    replica_unlock(r);
}

void replica_end(struct replica *r)
{
    struct sluice_channel *channel;

    /* Whoever still has something to send finds no channel, and the timer is not set again. */
    replica_lock(r);
    r->is_closing = true;
    r->is_serving = false;
    channel = r->channel;
    r->channel = NULL;
    replica_wake(&r->changed);
    while (atomic_load(&r->flushing))
        replica_wait(r);
    replica_unlock(r);
    sluice_timer_stop(r->disk, &r->timer);
    if (channel)
        sluice_channel_close(r->disk, channel);
    quiet(r);
    replica_lock(r);
    if (r->link != LINK_DOWN)
        link_fall(r, "closed");
    replica_forget(r);
    replica_unlock(r);
}

static void replication_close(void *instance)
{
    member_close(instance);
}

/* --- requests
 * -------------------------------------------------------------------------------------------------------------
 */

static struct sluice_verdict start(void *instance, struct sluice_request *request, void *scratch)
{
    return capture_start(instance, request, scratch);
}

static struct sluice_verdict start_read(void *instance, struct sluice_request *request,
                                        void *scratch)
{
    return backlog_start_read(instance, request, scratch);
}

static struct sluice_verdict start_extents(void *instance, struct sluice_request *request,
                                           void *scratch)
{
    (void)scratch;
    return backlog_start_extents(instance, request);
}

static struct sluice_verdict end(void *instance, struct sluice_request *request, void *scratch)
{
    return capture_end(((struct member *)instance)->r, request, scratch);
}

static enum sluice_cancel_answer cancel(void *instance, struct sluice_request *request,
                                        void *scratch)
{
    (void)request;
    return capture_cancel(((struct member *)instance)->r, scratch);
}

/* --- control events
 * ----------------------------------------------------------------------------------------------------------
 */

/* The gateway follows: this filter has changed its own role and asked for it, of one disk of the
 * group after the other.  What it asked for in another time changes nothing any more. */
static int on_role(struct member *m, const struct sluice_event *event, struct sluice_error *error)
{
    struct replica *r = m->r;
    bool is_promotion = event->kind == SLUICE_EVENT_PROMOTE, is_late;

    replica_lock(r);
    is_late =
        is_promotion && (!r->is_formed || r->super.role != REPLICA_PRIMARY || r->is_promoting);
    if (event->phase == SLUICE_PHASE_COMMIT && !is_promotion)
        roles_left(m);
    replica_unlock(r);
    return event->phase == SLUICE_PHASE_PREPARE && is_late
               ? sluice_refuse(m->disk, error, EBUSY, "it is not the primary")
               : 0;
}

static bool is_busy(const struct replica *r)
{
    bool is_reading = false;

    for (unsigned i = 0; i < COPIES; i++)
        is_reading |= r->copies[i].is_reading;
    return is_reading || compare_is_busy(r) || seal_is_busy(r) || r->journal.applying ||
           r->check == CHECK_FLUSHING || r->is_cleaning || backlog_is_busy(r);
}

/* While one disk has to be quiet, nothing of the group is begun. */
static void park(struct member *m, bool is_parked)
{
    struct replica *r = m->r;

    m->is_parked = is_parked;
    r->is_parked = false;
    for (unsigned i = 0; i < r->member_count; i++)
        r->is_parked |= r->members[i]->is_parked;
}

/* Own I/O ends; the journal and the link go on.  Where requests wait for a batch, what it reads
 * goes on until they have left: the gateway waits for both, but not before this is answered. */
static int on_quiesce(struct member *m, const struct sluice_event *event,
                      struct sluice_error *error)
{
    struct replica *r = m->r;
    int status = 0;

    replica_lock(r);
    park(m, event->phase != SLUICE_PHASE_ABORT);
    capture_admit(r); /* what waits for nothing but own I/O that will not be begun */
    while (event->phase == SLUICE_PHASE_PREPARE && members_rest(r) && is_busy(r) &&
           sluice_now_ns(m->disk) < event->deadline_ns)
        replica_wait(r);
    if (event->phase == SLUICE_PHASE_PREPARE && members_rest(r) && is_busy(r))
        status = EBUSY;
    replica_unlock(r);
    return status ? sluice_refuse(m->disk, error, status, "replication is still writing") : 0;
}

static int on_resume(struct member *m, const struct sluice_event *event, struct sluice_error *error)
{
    (void)event, (void)error;
    replica_lock(m->r);
    park(m, false);
    replica_kick(m->r);
    replica_unlock(m->r);
    return 0;
}

/* What lies below is the whole disk. */
static int await_backlog(struct member *m, const struct sluice_event *event,
                         struct sluice_error *error)
{
    int status;

    replica_lock(m->r);
    status = backlog_await_end(m->r, event, error);
    replica_unlock(m->r);
    return status;
}

static int on_snapshot(struct member *m, const struct sluice_event *event,
                       struct sluice_error *error)
{
    if (event->phase == SLUICE_PHASE_PREPARE || event->phase == SLUICE_PHASE_PREPARE_LONG)
        return await_backlog(m, event, error);
    return replica_snapshot(m, event, error);
}

/* The others would no longer be an instant of the same group.  Where there is none yet, one may. */
static int on_detach(struct member *m, const struct sluice_event *event, struct sluice_error *error)
{
    bool has_contents;

    if (m->is_lone && event->phase != SLUICE_PHASE_COMMIT && event->phase != SLUICE_PHASE_ABORT)
        return await_backlog(m, event, error);
    if (m->is_lone || event->phase == SLUICE_PHASE_COMMIT || event->phase == SLUICE_PHASE_ABORT)
        return 0;
    replica_lock(m->r);
    has_contents =
        m->r->is_formed && (m->r->super.role == REPLICA_PRIMARY || m->r->super.data != DATA_NONE);
    replica_unlock(m->r);
    if (!has_contents)
        return 0;
    return sluice_refuse(m->disk, error, EBUSY,
                         "group %s is replicated as one with its %u disks: what changes that, or "
                         "an option of it, is taken over when the gateway starts",
                         m->disk->group, m->r->wanted);
}

/* The old data is also in the journals, here and at the peer, in seals, and in what the peer's
 * other filters keep. */
static int on_sanitize(struct member *m, const struct sluice_event *event,
                       struct sluice_error *error)
{
    if (event->phase != SLUICE_PHASE_PREPARE)
        return 0;
    return sluice_refuse(m->disk, error, ENOTSUP,
                         "what the journals and the peer keep of a replicated disk's old data "
                         "cannot be erased from here; take replication out of both policies, and "
                         "erase both disks");
}

static int (*const on_event[SLUICE_EVENT_COUNT])(struct member *, const struct sluice_event *,
                                                 struct sluice_error *) = {
    [SLUICE_EVENT_PROMOTE] = on_role,       [SLUICE_EVENT_DEMOTE] = on_role,
    [SLUICE_EVENT_QUIESCE] = on_quiesce,    [SLUICE_EVENT_RESUME] = on_resume,
    [SLUICE_EVENT_RESIZE] = replica_resize, [SLUICE_EVENT_DETACH] = on_detach,
    [SLUICE_EVENT_SNAPSHOT] = on_snapshot,  [SLUICE_EVENT_SANITIZE] = on_sanitize,
};

static int event(void *instance, const struct sluice_event *e, struct sluice_error *error)
{
    return e->kind < SLUICE_EVENT_COUNT && on_event[e->kind] ? on_event[e->kind](instance, e, error)
                                                             : 0;
}

#define CAPTURED SLUICE_HANDLE(start, end)
static const struct sluice_filter filter = {
    .struct_size = sizeof filter,
    .api_version = SLUICE_FILTER_API_VERSION,
    .name = "replication",
    .version = "1.0",
    .vendor = "Sluice",
    .summary = "Keeps a copy of the disk at a peer gateway.",
    .filter_class = SLUICE_CLASS_REPLICATION,
    .needs = SLUICE_NEEDS_EVERY_WRITE_ONCE | SLUICE_NEEDS_FINAL_SIZE,
    .scratch_bytes = sizeof(struct captured),
    .options = options,
    .counters = counters,
    .verbs = replica_verbs,
    .open = replication_open,
    .close = replication_close,
    .read = SLUICE_HANDLE(start_read, NULL),
    .write = CAPTURED,
    .flush = CAPTURED,
    .trim = CAPTURED,
    .zero = CAPTURED,
    .extents = SLUICE_HANDLE(start_extents, NULL),
    .prefetch = SLUICE_PASS_UNSEEN,
    .cancel = cancel,
    .event = event,
    .record = replica_record,
};
SLUICE_FILTER(filter)
