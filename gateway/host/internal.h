/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * internal.h: what the files of the host room share.  A *seat* is an instance with everything the
 * host keeps for it: the engine's station, the handle the filter holds, what is outstanding.
 *
 * Legend: [I] immutable after host_station_open(); [A] atomic, any thread; [M] under seat.mutex,
 * which is never held across a call into a filter or another room; [T] under the service's mutex.
 */
#ifndef SLUICE_HOST_INTERNAL_H
#define SLUICE_HOST_INTERNAL_H

#include "host/host.h"

#include <limits.h>

#define SEAT_MAGIC 0x51ce5ea7u
#define INSTANCE_NAME_MAX 64
/* Counters are spread over that many copies, by home. */
#define COUNTER_SHARDS 8u

/* Structs that live in the host_private words of a filter's own structs. */
#define EMBEDDED __attribute__((may_alias))
#define EMBEDDED_FITS(type, outer)                                            \
    _Static_assert(sizeof(type) <= sizeof(((struct outer *)0)->host_private), \
                   "host_private of " #outer " is too small")

/* --- seats ---------------------------------------------------------------------------------- */

struct service;

struct nanoseconds {
    struct histogram histogram;
    _Atomic uint64_t sum;
};

struct seat {
    struct station station;
    struct sluice_disk pub; /* what the filter knows; pub.host is the table */
    uint32_t magic;
    struct disk *disk;                      /* [I] */
    const struct sluice_filter *filter;     /* [I] */
    struct service *service;                /* [I] its background loop */
    struct sluice_client client;            /* [I] of its own I/O */
    char name[INSTANCE_NAME_MAX];           /* [I] */
    unsigned counter_count, counter_stride; /* [I] */
    _Atomic int64_t *counters;              /* [A] COUNTER_SHARDS times counter_stride */
    struct nanoseconds *histograms;         /* [A] counter_count of them, or NULL */

    /* One for the seat being open and one for each I/O, work, grant, fire, verb under way. */
    _Atomic uint32_t users;
    _Atomic bool is_closing;
    _Atomic uint64_t memory_bytes;
    _Atomic uint32_t io_in_flight;

    pthread_mutex_t mutex;
    pthread_cond_t idle_cond; /* with mutex: users has become 0 */
    bool is_idle;             /* [M] */
    struct list locks;        /* [M] held_lock.link */
    struct list files;        /* [M] sluice_file.link */
    struct list channels;     /* [M] sluice_channel.link */
    bool is_open;             /* [M] open() has returned */
    struct list role_changes; /* [M] wished for and not begun, in order */
    bool role_is_changing;    /* [M] a worker goes through them */
    struct list shares;       /* under the registry's mutex */
    struct list timers;       /* [T] set ones */
    struct list tiers;        /* under the tiers' mutex */
    char folder[PATH_MAX];    /* [M] "" until first wanted */
    bool has_temporary_folder;
    uint32_t health; /* [M] */
    char sentence[400], remedy[400];
    char progress_what[100]; /* [M] "" none */
    uint64_t progress_done, progress_total;
};

static inline struct seat *seat_of(struct sluice_disk *disk)
{
    return CONTAINER_OF(disk, struct seat, pub);
}

static inline struct seat *seat_of_station(struct station *station)
{
    return CONTAINER_OF(station, struct seat, station);
}

/* struct sluice_error is struct err to everybody but the filters. */
static inline struct sluice_error *as_filter_error(struct err *e)
{
    return (struct sluice_error *)(void *)e;
}
static inline struct err *as_err(struct sluice_error *e)
{
    return (struct err *)(void *)e;
}

/* False: it is being closed.  Else seat_leave() is due, after which the seat may be gone. */
bool seat_enter(struct seat *seat) MUST_CHECK;
void seat_leave(struct seat *seat);

/* What a filter had not given back when it was closed. */
struct leftovers {
    unsigned locks, files, shares, channels;
    uint64_t memory_bytes;
    bool was_stuck; /* something never ended: the instance was left behind, not closed */
};
void seat_close(struct seat *seat, struct leftovers *out);

/* table.c */
extern const struct sluice_host host_table;

/* --- errands: work that a filter starts and that runs in the right home --------------------- */

/*
 * Started from a callback it runs in the thread of the guest's request, if that is still being
 * worked on when its turn comes; else on the seat's service loop.  Holds the seat.
 */
struct errand {
    struct task task;
    void (*start)(struct errand *errand); /* in errand->home */
    struct seat *seat;
    struct home *home;
} EMBEDDED;

/* 0, or -ESHUTDOWN: start() will not be called. */
int errand_send(struct seat *seat, struct errand *errand, void (*start)(struct errand *));
/* The same, but never in a worker: it does not wait for what is done. */
int errand_send_elsewhere(struct seat *seat, struct errand *errand, void (*start)(struct errand *));
/* From start(), in a worker: it begins anew in the service loop. */
void errand_move(struct errand *errand);
/* In its home, before the filter is told; the seat is still held. */
void errand_arrived(struct errand *errand);

/* --- services -----------------------------------------------------------------------------------
 */

struct service *service_next(void);
struct home *service_home(struct service *service);

/* timers.c: the part of a service that keeps the filters' timers. */
struct timer_service;
struct timer_service *timer_service_create(struct loop *loop);
struct timer_service *service_timers(struct service *service);
int seat_timer_start(struct seat *seat, struct sluice_timer *timer, uint64_t delay_ns);
bool seat_timer_stop(struct seat *seat, struct sluice_timer *timer);
void seat_stop_timers(struct seat *seat);

/* work.c: threads that may block, and may wait for each other's work: more are made then. */
int workers_start(unsigned workers, struct err *e) MUST_CHECK;
void workers_submit(struct task *task);
/* Around whatever sleeps in a worker; does nothing in other threads. */
void workers_block(void);
void workers_unblock(void);
int seat_work(struct seat *seat, struct sluice_work *work);

/* memory.c */
void memory_set_limit(uint64_t bytes);
bool seat_memory_take(struct seat *seat, uint64_t bytes);
void seat_memory_give(struct seat *seat, uint64_t bytes);
void seat_memory_forget(struct seat *seat);

/* own-io.c */
int seat_io_submit(struct seat *seat, struct sluice_io *io);
int seat_io_wait(struct seat *seat, struct sluice_io *io);

/* lock.c */
void seat_lock_range(struct seat *seat, struct sluice_lock *lock);
void seat_unlock_range(struct seat *seat, struct sluice_lock *lock);
unsigned seat_drop_locks(struct seat *seat);

/* files.c */
int seat_file_open(struct seat *seat, const char *path, uint32_t flags, uint64_t create_size,
                   struct sluice_file **out, struct err *e);
int host_file_submit(struct sluice_file *file, struct sluice_file_io *io);
int host_file_try(struct sluice_file *file, struct sluice_file_io *io);
int host_file_wait(struct sluice_file *file, struct sluice_file_io *io);
uint64_t host_file_size(struct sluice_file *file);
void host_file_close(struct sluice_file *file);
unsigned seat_drop_files(struct seat *seat);

/* tiers.c */
struct tier_share;
int seat_tier_file(struct seat *seat, const char *name, uint64_t size_bytes, char *path,
                   size_t capacity, struct err *e);
void seat_drop_tiers(struct seat *seat);

/* state.c */
int seat_state_read(struct seat *seat, const char *name, void *data, size_t capacity,
                    size_t *length);
int seat_state_write(struct seat *seat, const char *name, const void *data, size_t length);
int seat_state_remove(struct seat *seat, const char *name);
/* NULL: it cannot be made; logged. */
const char *seat_folder(struct seat *seat);
void seat_drop_folder(struct seat *seat);
int seat_record_put(struct seat *seat, const char *key, const void *data, size_t length);
int seat_record_get(struct seat *seat, const char *key, void *data, size_t capacity,
                    size_t *length);
/* As sluice_record_arrived(). */
int seat_record_arrived(struct seat *seat, const char *name, const void *data, size_t length);

/* channel.c */
int seat_channel_open(struct seat *seat, const struct sluice_channel_handlers *handlers,
                      struct sluice_channel **out, struct err *e);
void seat_start_channels(struct seat *seat);
int host_channel_send(struct sluice_channel *channel, const void *data, size_t length);
int host_channel_send_soon(struct sluice_channel *channel, const void *data, size_t length);
int host_channel_queue(struct sluice_channel *channel, const void *head, size_t head_length,
                       const void *data, size_t length);
void host_channel_flush(struct sluice_channel *channel, bool is_soon);
void host_channel_pause(struct sluice_channel *channel, bool is_paused);
void host_channel_close(struct sluice_channel *channel);
unsigned seat_drop_channels(struct seat *seat);

/* shared.c */
void shared_lock(void);
void shared_unlock(void);
void *seat_shared_get(struct seat *seat, const char *key, size_t bytes);
void seat_shared_put(struct seat *seat, const char *key);
unsigned seat_drop_shares(struct seat *seat);

/* say.c */
void seat_health(struct seat *seat, uint32_t state, const char *sentence, const char *remedy);
void seat_progress(struct seat *seat, const char *what, uint64_t done, uint64_t total);
void seat_vlog(struct seat *seat, uint32_t level, const char *fmt, va_list ap) PRINTF_LIKE(3, 0);
void seat_log(struct seat *seat, uint32_t level, const char *fmt, ...) PRINTF_LIKE(3, 4);
void seat_event(struct seat *seat, const char *name, const char *fmt, va_list ap) PRINTF_LIKE(3, 0);
int seat_make_counters(struct seat *seat);
void seat_free_counters(struct seat *seat);
void seat_count(struct seat *seat, uint32_t counter, int64_t delta);
void seat_observe(struct seat *seat, uint32_t counter, uint64_t nanoseconds);
int64_t seat_counter(const struct seat *seat, uint32_t counter);

/* verb.c */
struct sluice_reply;
void reply_vtext(struct sluice_reply *reply, const char *fmt, va_list ap) PRINTF_LIKE(2, 0);
void reply_integer(struct sluice_reply *reply, const char *key, int64_t value);
void reply_string(struct sluice_reply *reply, const char *key, const char *value);

/* role.c */
int seat_role_request(struct seat *seat, uint32_t role, uint64_t epoch, struct err *e);

/* wish.c */
/* As sluice_wish_for(). */
int seat_wish(struct seat *seat, struct sluice_wish *wish);

/* check.c */
unsigned filter_option_count(const struct sluice_filter *filter);
unsigned filter_counter_count(const struct sluice_filter *filter);
unsigned filter_verb_count(const struct sluice_filter *filter);
/* Of one operation, by its number. */
const struct sluice_handler *filter_handler(const struct sluice_filter *filter, unsigned op);
const char *option_type_name(uint32_t type);

/* symbols.c */
/* False: the file at `path` is a shared object that does not define `name`.  True: it does, or it
 * cannot be told.  Loads nothing. */
bool symbols_may_define(const char *path, const char *name);

#endif
