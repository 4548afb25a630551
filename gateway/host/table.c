/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * table.c: the table of functions that every filter gets, each a thin step from the handle it holds
 * to the seat behind it.
 */
#include "internal.h"

#include <errno.h>
#include <stdio.h>

/* --- requests ----------------------------------------------------------------------------------
 */

static bool do_resume(struct sluice_disk *disk, struct sluice_request *request,
                      struct sluice_verdict verdict)
{
    return request_resume(&seat_of(disk)->station, request, verdict);
}

static bool do_commit(struct sluice_disk *disk, struct sluice_request *request)
{
    return request_commit(&seat_of(disk)->station, request);
}

static void do_hold(struct sluice_disk *disk, struct sluice_request *request, const char *reason)
{
    request_hold(&seat_of(disk)->station, request, reason);
}

static void do_substitute(struct sluice_disk *disk, struct sluice_request *request, void *data)
{
    request_substitute(&seat_of(disk)->station, request, data);
}

static bool do_extent(struct sluice_disk *disk, struct sluice_request *request, uint64_t length,
                      uint32_t type)
{
    return request_extent(&seat_of(disk)->station, request, length, type);
}

/* --- own I/O, locks, time, threads ---------------------------------------------------------- */

static int do_io_submit(struct sluice_disk *disk, struct sluice_io *io)
{
    return seat_io_submit(seat_of(disk), io);
}

static int do_io_wait(struct sluice_disk *disk, struct sluice_io *io)
{
    return seat_io_wait(seat_of(disk), io);
}

static void do_lock_range(struct sluice_disk *disk, struct sluice_lock *lock)
{
    seat_lock_range(seat_of(disk), lock);
}

static void do_unlock_range(struct sluice_disk *disk, struct sluice_lock *lock)
{
    seat_unlock_range(seat_of(disk), lock);
}

static int do_timer_start(struct sluice_disk *disk, struct sluice_timer *timer, uint64_t delay_ns)
{
    return seat_timer_start(seat_of(disk), timer, delay_ns);
}

static bool do_timer_stop(struct sluice_disk *disk, struct sluice_timer *timer)
{
    return seat_timer_stop(seat_of(disk), timer);
}

static int do_work(struct sluice_disk *disk, struct sluice_work *work)
{
    return seat_work(seat_of(disk), work);
}

/* --- files, state, records ------------------------------------------------------------------ */

static int do_file_open(struct sluice_disk *disk, const char *path, uint32_t flags,
                        uint64_t create_size, struct sluice_file **out, struct sluice_error *error)
{
    return seat_file_open(seat_of(disk), path, flags, create_size, out, as_err(error));
}

static int do_state_read(struct sluice_disk *disk, const char *name, void *data, size_t capacity,
                         size_t *length)
{
    return seat_state_read(seat_of(disk), name, data, capacity, length);
}

static int do_state_write(struct sluice_disk *disk, const char *name, const void *data,
                          size_t length)
{
    return seat_state_write(seat_of(disk), name, data, length);
}

static int do_state_remove(struct sluice_disk *disk, const char *name)
{
    return seat_state_remove(seat_of(disk), name);
}

static const char *do_state_folder(struct sluice_disk *disk)
{
    return seat_folder(seat_of(disk));
}

static int do_record_put(struct sluice_disk *disk, const char *key, const void *data, size_t length)
{
    return seat_record_put(seat_of(disk), key, data, length);
}

static int do_record_arrived(struct sluice_disk *disk, const char *name, const void *data,
                             size_t length)
{
    return seat_record_arrived(seat_of(disk), name, data, length);
}

static int do_record_get(struct sluice_disk *disk, const char *key, void *data, size_t capacity,
                         size_t *length)
{
    return seat_record_get(seat_of(disk), key, data, capacity, length);
}

static int do_tier_file(struct sluice_disk *disk, const char *tier, uint64_t size_bytes, char *path,
                        size_t capacity, struct sluice_error *error)
{
    return seat_tier_file(seat_of(disk), tier, size_bytes, path, capacity, as_err(error));
}

/* --- role, peer, memory --------------------------------------------------------------------- */

static uint32_t do_role(struct sluice_disk *disk, uint64_t *epoch)
{
    return disk_role(seat_of(disk)->disk, epoch);
}

static int do_role_request(struct sluice_disk *disk, uint32_t role, uint64_t epoch,
                           struct sluice_error *error)
{
    return seat_role_request(seat_of(disk), role, epoch, as_err(error));
}

static void do_gate(struct sluice_disk *disk, bool is_closed, const char *reason)
{
    disk_gate(seat_of(disk)->disk, is_closed, reason);
}

static uint32_t do_group_disks(struct sluice_disk *disk)
{
    return disk_group_disks(seat_of(disk)->disk);
}

static bool do_gate_is_drained(struct sluice_disk *disk)
{
    return disk_gate_is_drained(seat_of(disk)->disk);
}

static int do_wish(struct sluice_disk *disk, struct sluice_wish *wish)
{
    return seat_wish(seat_of(disk), wish);
}

static int do_channel_open(struct sluice_disk *disk, const struct sluice_channel_handlers *handlers,
                           struct sluice_channel **out, struct sluice_error *error)
{
    return seat_channel_open(seat_of(disk), handlers, out, as_err(error));
}

static bool do_memory_take(struct sluice_disk *disk, uint64_t bytes)
{
    return seat_memory_take(seat_of(disk), bytes);
}

static void do_memory_give(struct sluice_disk *disk, uint64_t bytes)
{
    seat_memory_give(seat_of(disk), bytes);
}

/* --- saying things -------------------------------------------------------------------------- */

static void do_health(struct sluice_disk *disk, uint32_t state, const char *sentence,
                      const char *remedy)
{
    seat_health(seat_of(disk), state, sentence, remedy);
}

PRINTF_LIKE(3, 0)
static void do_log(struct sluice_disk *disk, uint32_t level, const char *fmt, va_list ap)
{
    seat_vlog(seat_of(disk), level, fmt, ap);
}

PRINTF_LIKE(3, 0)
static void do_event(struct sluice_disk *disk, const char *name, const char *fmt, va_list ap)
{
    seat_event(seat_of(disk), name, fmt, ap);
}

static void do_count(struct sluice_disk *disk, uint32_t counter, int64_t delta)
{
    seat_count(seat_of(disk), counter, delta);
}

static void do_observe(struct sluice_disk *disk, uint32_t counter, uint64_t nanoseconds)
{
    seat_observe(seat_of(disk), counter, nanoseconds);
}

PRINTF_LIKE(3, 0)
static int do_set_error(struct sluice_error *error, int code, const char *fmt, va_list ap)
{
    char text[sizeof((struct err *)0)->text];

    vsnprintf(text, sizeof text, fmt, ap);
    return err_set(as_err(error), code > 0 ? code : EIO, "%s", text);
}

static void do_progress(struct sluice_disk *disk, const char *what, uint64_t done, uint64_t total)
{
    seat_progress(seat_of(disk), what, done, total);
}

/* --- shared state --------------------------------------------------------------------------- */

static void do_shared_lock(struct sluice_disk *disk)
{
    (void)disk;
    shared_lock();
}

static void do_shared_unlock(struct sluice_disk *disk)
{
    (void)disk;
    shared_unlock();
}

static void *do_shared_get(struct sluice_disk *disk, const char *key, size_t bytes)
{
    return seat_shared_get(seat_of(disk), key, bytes);
}

static void do_shared_put(struct sluice_disk *disk, const char *key)
{
    seat_shared_put(seat_of(disk), key);
}

const struct sluice_host host_table = {
    .struct_size = sizeof(struct sluice_host),
    .api_version = SLUICE_FILTER_API_VERSION,
    .resume = do_resume,
    .commit = do_commit,
    .hold = do_hold,
    .substitute = do_substitute,
    .extent = do_extent,
    .io_submit = do_io_submit,
    .io_wait = do_io_wait,
    .lock_range = do_lock_range,
    .unlock_range = do_unlock_range,
    .timer_start = do_timer_start,
    .timer_stop = do_timer_stop,
    .work = do_work,
    .file_open = do_file_open,
    .file_submit = host_file_submit,
    .file_size = host_file_size,
    .file_close = host_file_close,
    .role = do_role,
    .role_request = do_role_request,
    .gate = do_gate,
    .gate_is_drained = do_gate_is_drained,
    .state_read = do_state_read,
    .state_write = do_state_write,
    .state_remove = do_state_remove,
    .state_folder = do_state_folder,
    .record_put = do_record_put,
    .record_get = do_record_get,
    .record_arrived = do_record_arrived,
    .channel_open = do_channel_open,
    .channel_send = host_channel_send,
    .channel_close = host_channel_close,
    .memory_take = do_memory_take,
    .memory_give = do_memory_give,
    .health = do_health,
    .log = do_log,
    .event = do_event,
    .count = do_count,
    .observe = do_observe,
    .now_ns = clock_now_ns,
    .shared_lock = do_shared_lock,
    .shared_get = do_shared_get,
    .shared_put = do_shared_put,
    .shared_unlock = do_shared_unlock,
    .set_error = do_set_error,
    .reply_text = reply_vtext,
    .reply_integer = reply_integer,
    .reply_string = reply_string,
    .progress = do_progress,
    .file_wait = host_file_wait,
    .tier_file = do_tier_file,
    .channel_pause = host_channel_pause,
    .file_try = host_file_try,
    .channel_send_soon = host_channel_send_soon,
    .group_disks = do_group_disks,
    .wish = do_wish,
    .channel_queue = host_channel_queue,
    .channel_flush = host_channel_flush,
};
