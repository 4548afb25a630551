/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * seat.c: opening and closing an instance of a filter on a disk.
 *
 * `users` counts the seat itself and everything under way for it.  Closing sets is_closing, so that
 * nothing new is let in, gives the seat's own use back and waits for the last one; whoever drops
 * the count to nought tells so under the mutex, once, and never looks at the seat again.  What does
 * not end in time is left behind with its memory: a filter is never closed under its own feet.
 */
#include "internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define CLOSE_WARN_NS UINT64_C(5000000000)
#define CLOSE_GIVE_UP_NS UINT64_C(60000000000)

/* --- users ---------------------------------------------------------------------------------- */

bool seat_enter(struct seat *seat)
{
    if (atomic_load(&seat->is_closing))
        return false;
    atomic_fetch_add(&seat->users, 1);
    if (LIKELY(!atomic_load(&seat->is_closing)))
        return true;
    seat_leave(seat);
    return false;
}

void seat_leave(struct seat *seat)
{
    if (LIKELY(atomic_fetch_sub(&seat->users, 1) != 1))
        return;
    pthread_mutex_lock(&seat->mutex);
    seat->is_idle = true;
    pthread_cond_signal(&seat->idle_cond);
    pthread_mutex_unlock(&seat->mutex);
}

static bool wait_until_idle(struct seat *seat, uint64_t deadline_ns)
{
    SCOPED_LOCK(&seat->mutex);

    while (!seat->is_idle && cond_wait_until(&seat->idle_cond, &seat->mutex, deadline_ns))
        ;
    return seat->is_idle;
}

/* An event callback that outlived its time limit runs on a thread of its own. */
static bool wait_for_event(struct seat *seat, uint64_t deadline_ns)
{
    struct timespec pause = {.tv_nsec = 10000000};

    while (atomic_load(&seat->station.is_event_running)) {
        if (clock_now_ns() > deadline_ns)
            return false;
        nanosleep(&pause, NULL);
    }
    return true;
}

static bool wait_for_users(struct seat *seat)
{
    uint64_t began = clock_now_ns(), until = began + CLOSE_GIVE_UP_NS;

    seat_leave(seat);
    if (!wait_until_idle(seat, began + CLOSE_WARN_NS)) {
        seat_log(seat, LOG_LEVEL_WARNING,
                 "waits for %u own operations of the filter before it can be closed",
                 atomic_load(&seat->users));
        if (!wait_until_idle(seat, until))
            return false;
    }
    return wait_for_event(seat, until);
}

/* --- open ----------------------------------------------------------------------------------- */

static void init_sync(struct seat *seat)
{
    pthread_mutex_init(&seat->mutex, NULL);
    pthread_cond_init(&seat->idle_cond, NULL);
    list_init(&seat->locks);
    list_init(&seat->files);
    list_init(&seat->channels);
    list_init(&seat->role_changes);
    list_init(&seat->shares);
    list_init(&seat->timers);
    list_init(&seat->tiers);
}

static const char *gateway_name = "";

void host_set_gateway(const char *name)
{
    gateway_name = name;
}

static void fill_handle(struct seat *seat)
{
    struct disk *disk = seat->disk;

    seat->pub = (struct sluice_disk){
        .host = &host_table,
        .name = disk_name(disk),
        .uuid = disk_uuid(disk),
        .group = disk_group(disk),
        .size_bytes = disk_size(disk),
        .block_bytes = MAX(engine_unit(disk_engine(disk)), MAX(seat->filter->block_bytes, 1u)),
        .is_read_only = disk_is_read_only(disk),
        .gateway = gateway_name,
    };
    seat->client = (struct sluice_client){
        .front_end = "filter", .address = seat->pub.name, .initiator = seat->name};
}

static void fill_station(struct seat *seat, enum stall_policy on_stall)
{
    struct station *s = &seat->station;

    s->filter = seat->filter;
    s->disk = &seat->pub;
    s->name = seat->name;
    s->scratch_bytes = seat->filter->scratch_bytes;
    s->on_stall = on_stall;
    for (unsigned op = 0; op < SLUICE_OP_COUNT; op++)
        s->handler[op] = *filter_handler(seat->filter, op);
}

static struct seat *make_seat(struct disk *disk, const struct sluice_filter *filter,
                              const struct station_settings *settings)
{
    size_t size = (sizeof(struct seat) + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
    struct seat *seat = aligned_alloc(CACHE_LINE, size);

    if (!seat)
        return NULL;
    memset(seat, 0, size);
    seat->magic = SEAT_MAGIC;
    seat->disk = disk;
    seat->filter = filter;
    seat->service = service_next();
    seat->users = 1;
    snprintf(seat->name, sizeof seat->name, "%s", settings->name);
    init_sync(seat);
    fill_handle(seat);
    fill_station(seat, settings->on_stall);
    if (seat_make_counters(seat) == 0)
        return seat;
    free(seat);
    return NULL;
}

static void dispose(struct seat *seat)
{
    seat->magic = 0;
    seat_drop_folder(seat);
    seat_free_counters(seat);
    pthread_cond_destroy(&seat->idle_cond);
    pthread_mutex_destroy(&seat->mutex);
    free(seat);
}

static int check_settings(const struct sluice_filter *filter, const struct station_settings *s,
                          struct err *e)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    size_t length = strlen(s->name);

    if (length == 0 || length >= INSTANCE_NAME_MAX || s->name[0] == '.' ||
        strspn(s->name, allowed) != length)
        return err_set(e, EINVAL, "filter %s: \"%s\" is no name for an instance", filter->name,
                       s->name);
    if (s->on_stall == STALL_BYPASS && !(filter->traits & SLUICE_TRAIT_BYPASSABLE))
        return err_set(e, EINVAL,
                       "filter %s: on_stall: bypass, but the disk is not valid without this filter",
                       s->name);
    if (!service_next())
        return err_set(e, EINVAL, "filter %s: the host's services have not been started", s->name);
    return 0;
}

static int open_instance(struct seat *seat, const struct sluice_value *values, struct err *e)
{
    struct err why = {0};
    int r = seat->filter->open(&seat->pub, values, &seat->station.instance, as_filter_error(&why));

    if (r >= 0)
        return 0;
    return err_set(e, -r, "filter %s: %s", seat->name, why.text[0] ? why.text : strerror(-r));
}

int host_station_open(struct disk *disk, const struct sluice_filter *filter,
                      const struct station_settings *settings, struct station **out, struct err *e)
{
    struct seat *seat;
    int r = check_settings(filter, settings, e);

    if (r < 0)
        return r;
    seat = make_seat(disk, filter, settings);
    if (!seat)
        return err_set(e, ENOMEM, "filter %s: out of memory", settings->name);
    r = open_instance(seat, settings->values, e);
    if (r < 0) {
        struct leftovers none;

        seat->filter = NULL; /* nothing to close */
        seat_close(seat, &none);
        return r;
    }
    seat_start_channels(seat);
    *out = &seat->station;
    return 0;
}

/* --- close ---------------------------------------------------------------------------------- */

static void blame(struct seat *seat, const struct leftovers *left)
{
    if (left->locks)
        seat_log(seat, LOG_LEVEL_ERROR, "left %u range locks behind (bug of the filter)",
                 left->locks);
    if (left->files)
        seat_log(seat, LOG_LEVEL_ERROR, "left %u files open (bug of the filter)", left->files);
    if (left->channels)
        seat_log(seat, LOG_LEVEL_ERROR, "left %u channels open (bug of the filter)",
                 left->channels);
    if (left->shares)
        seat_log(seat, LOG_LEVEL_ERROR, "left %u shared states held (bug of the filter)",
                 left->shares);
    if (left->memory_bytes)
        seat_log(seat, LOG_LEVEL_ERROR, "left %llu bytes of memory taken (bug of the filter)",
                 (unsigned long long)left->memory_bytes);
}

void seat_close(struct seat *seat, struct leftovers *out)
{
    const struct sluice_filter *filter = seat->filter;

    *out = (struct leftovers){.locks = 0};
    atomic_store(&seat->is_closing, true);
    seat_stop_timers(seat);
    if (!wait_for_users(seat)) {
        out->was_stuck = true;
        seat_log(seat, LOG_LEVEL_ERROR,
                 "did not end its own operations in time and is left behind, not closed");
        return;
    }
    out->locks = seat_drop_locks(seat);
    if (filter)
        filter->close(seat->station.instance);
    out->channels = seat_drop_channels(seat);
    out->files = seat_drop_files(seat);
    out->shares = seat_drop_shares(seat);
    out->memory_bytes = atomic_load(&seat->memory_bytes);
    seat_memory_forget(seat);
    seat_drop_tiers(seat);
    if (filter)
        blame(seat, out);
    dispose(seat);
}

void host_station_close(struct station *station)
{
    struct leftovers left;

    seat_close(seat_of_station(station), &left);
}
