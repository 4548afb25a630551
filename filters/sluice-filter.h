/* SPDX-License-Identifier: BSD-3-Clause */
/* clang-format off */ /* its columns are part of what this header says */
/*
 * sluice-filter.h: everything a Sluice I/O filter needs, and nothing else.
 *
 * A filter is a shared object with one exported symbol that returns a `struct sluice_filter`: a
 * table of callbacks.  An *instance* of it stands on one disk, in a chain with others; guest
 * requests come down the chain, results go up.
 *
 *     guest -> io-control -> inspection -> compression -> encryption -> replication -> cache -> backing
 *
 * For each request the instance's start callback gives a verdict:
 *
 *     verdict    meaning                                      told next
 *     pass       go on; optionally tell me how it ended       the filter below
 *     complete   answered here, successfully                  completion callbacks above only
 *     fail       failed here, with an errno                   completion callbacks above only
 *     defer      I keep it; sluice_resume() gives the verdict nobody until then; others go on
 *
 * and a completion callback, on the way up, may pass the result on, replace the error (complete or
 * fail), or defer as well.  Who may do what with a request:
 *
 *     state                        owner    may touch req->data    may call on the request
 *     inside a callback            filter   yes                    substitute, commit, hold, extent
 *     after pass/complete/fail     host     no                     nothing: it may be gone
 *     after defer, until resume    filter   yes                    resume, substitute, commit, hold, extent
 *     after resume returned        host     no                     nothing
 *     after cancel() = RELEASED    host     no                     nothing (resume would return false)
 *
 * Rules.  Callbacks never block: whoever must wait defers.  A callback of more than 10 ms is
 * reported with the filter's name.  Callbacks of one instance run at the same time for different
 * requests; those of one request run one after the other in its home thread.  No filter may wait
 * for a later request of the same client.  Guest memory (req->data of a write) is never modified;
 * whoever keeps data copies it.  Every length and offset is in bytes unless its name says otherwise.
 * Errors are positive errno values in verdicts and requests, negative ones in return values.
 *
 * The header is C11 and C++20, includes only the standard library, and only grows: new fields come
 * at the end of a struct, new functions at the end of the host table, and struct_size says how much
 * of each the other side knows.
 */
#ifndef SLUICE_FILTER_H
#define SLUICE_FILTER_H

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SLUICE_FILTER_API_VERSION 1u

/* --- requests ------------------------------------------------------------------------------- */

enum sluice_op {
    SLUICE_OP_READ,     /* fill data */
    SLUICE_OP_WRITE,    /* data is stable until the request has completed */
    SLUICE_OP_FLUSH,    /* every write acknowledged before it was sent is durable when it completes */
    SLUICE_OP_TRIM,     /* zeros, and the space may be given back: reads back as zeros */
    SLUICE_OP_ZERO,     /* zeros */
    SLUICE_OP_EXTENTS,  /* describe the range with sluice_extent() */
    SLUICE_OP_PREFETCH, /* a hint; may be ignored */
    SLUICE_OP_COUNT
};

#define SLUICE_FLAG_FUA 0x1u       /* durable before completion (write, trim, zero) */
#define SLUICE_FLAG_NO_HOLE 0x2u   /* zero: may not give the space back */
#define SLUICE_FLAG_FAST_ONLY 0x4u /* zero: fail with ENOTSUP rather than be as slow as a write */
#define SLUICE_FLAG_ATOMIC 0x8u    /* write: must not be torn in a cache, journal or replica */
#define SLUICE_FLAG_ELSEWHERE 0x100u /* file I/O: the thread that submits it does not wait for the device; for
                                      * one that has many under way, which go together, or that may not answer */

enum sluice_origin {
    SLUICE_ORIGIN_GUEST,       /* a client of the disk */
    SLUICE_ORIGIN_FILTER,      /* a filter above, for itself (destage, fill, ...) */
    SLUICE_ORIGIN_RESYNC,      /* a replica being brought up to date */
    SLUICE_ORIGIN_MAINTENANCE, /* snapshot, verify, offline read */
    SLUICE_ORIGIN_COUNT
};

struct sluice_client {
    const char *front_end; /* "nbd", "iscsi", ... */
    const char *address;   /* "192.0.2.1:4711", "unix:pid 42", or "" */
    const char *initiator; /* iSCSI name, or "" */
    uint64_t session;      /* unique while the gateway runs */
    uint32_t window;       /* requests it has in flight at most, held ones among them; 0: unknown */
};

/* Read-only to filters.  Valid while the filter owns the request (see the table above). */
struct sluice_request {
    uint8_t op;     /* enum sluice_op */
    uint8_t origin; /* enum sluice_origin */
    uint16_t flags; /* SLUICE_FLAG_* */
    int32_t error;  /* in completion callbacks: 0 or a positive errno; else 0 */
    uint64_t offset;
    uint64_t length; /* 0 for a flush */
    void *data;      /* read and write: length bytes; else NULL */
    uint64_t id;     /* unique while the gateway runs; the same on the way down and up */
    const struct sluice_client *client; /* never NULL */
};

/* --- verdicts ------------------------------------------------------------------------------- */

enum sluice_verdict_kind {
    SLUICE_VERDICT_PASS,
    SLUICE_VERDICT_PASS_TELL, /* pass, and call my completion callback (start callbacks only) */
    SLUICE_VERDICT_COMPLETE,
    SLUICE_VERDICT_FAIL,
    SLUICE_VERDICT_DEFER
};

struct sluice_verdict {
    uint32_t kind; /* enum sluice_verdict_kind */
    int32_t error; /* FAIL: a positive errno */
};

static inline struct sluice_verdict sluice_verdict_make(uint32_t kind, int32_t error)
{
    struct sluice_verdict v;
    v.kind = kind;
    v.error = error;
    return v;
}
/* Start: on to the filter below.  Completion: the result goes up as it is. */
static inline struct sluice_verdict sluice_pass(void)
{
    return sluice_verdict_make(SLUICE_VERDICT_PASS, 0);
}
/* Start: as sluice_pass(), and tell me how it ended. */
static inline struct sluice_verdict sluice_pass_and_tell(void)
{
    return sluice_verdict_make(SLUICE_VERDICT_PASS_TELL, 0);
}
/* Start: answered, with success.  Completion: success, whatever the error was. */
static inline struct sluice_verdict sluice_complete(void)
{
    return sluice_verdict_make(SLUICE_VERDICT_COMPLETE, 0);
}
/* error: a positive errno; 0 or a negative one is a bug of the filter and becomes EIO. */
static inline struct sluice_verdict sluice_fail(int32_t error)
{
    return sluice_verdict_make(SLUICE_VERDICT_FAIL, error);
}
static inline struct sluice_verdict sluice_defer(void)
{
    return sluice_verdict_make(SLUICE_VERDICT_DEFER, 0);
}

/* start and completion callbacks. `scratch`: the filter's own bytes for this request
 * (scratch_bytes of the filter's table), zeroed before the start callback; means nothing when 0. */
typedef struct sluice_verdict sluice_callback(void *instance, struct sluice_request *request,
                                              void *scratch);

enum sluice_handling {
    SLUICE_FORGOTTEN = 0, /* an operation left out of the table: refused at load */
    SLUICE_HANDLED = 1,
    SLUICE_UNSEEN = 2 /* passes this filter unseen, on purpose */
};
struct sluice_handler {
    uint32_t handling;           /* enum sluice_handling */
    sluice_callback *start;      /* required when handled */
    sluice_callback *completion; /* required if start ever answers pass_and_tell */
};
#ifdef __cplusplus
#define SLUICE_HANDLE(start, completion) {SLUICE_HANDLED, start, completion}
#define SLUICE_PASS_UNSEEN {SLUICE_UNSEEN, nullptr, nullptr}
#else
#define SLUICE_HANDLE(start, completion) {SLUICE_HANDLED, start, completion}
#define SLUICE_PASS_UNSEEN {SLUICE_UNSEEN, NULL, NULL}
#endif

enum sluice_cancel_answer {
    SLUICE_CANCEL_RELEASED, /* I let go and shall not touch it again; the host ends the request */
    SLUICE_CANCEL_BUSY      /* I cannot (yet); I shall resume it */
};

/* --- classes, needs, traits ------------------------------------------------------------------ */

/* The order of the chain, guest side first. */
enum sluice_class {
    SLUICE_CLASS_IO_CONTROL = 1,
    SLUICE_CLASS_INSPECTION,
    SLUICE_CLASS_COMPRESSION,
    SLUICE_CLASS_ENCRYPTION,
    SLUICE_CLASS_REPLICATION,
    SLUICE_CLASS_CACHE,
    SLUICE_CLASS_BACKING_CONTROL, /* limits the backing itself, below every cache */
    SLUICE_CLASS_END
};

/* What an instance cannot work without; a chain that breaks a need is refused. */
#define SLUICE_NEEDS_PLAINTEXT 0x1u        /* no compression or encryption above */
#define SLUICE_NEEDS_EVERY_WRITE_ONCE 0x2u /* no filter above that absorbs or repeats writes (holds_data) */
#define SLUICE_NEEDS_FINAL_SIZE 0x4u       /* no filter above or below that changes lengths (compression) */

#define SLUICE_TRAIT_HOLDS_DATA 0x1u  /* may hold newer data than what lies below: must handle extents and prefetch */
#define SLUICE_TRAIT_BYPASSABLE 0x2u  /* the disk is valid without this filter */
#define SLUICE_TRAIT_CHANGES_DATA 0x4u /* what lies below is not what the guest wrote: never attached or moved on a disk with data */

/* --- options, counters, verbs: tables ------------------------------------------------------- */

enum sluice_type {
    SLUICE_TYPE_BOOL,
    SLUICE_TYPE_INTEGER,
    SLUICE_TYPE_SIZE,     /* "64MiB"; bytes */
    SLUICE_TYPE_DURATION, /* "5s"; nanoseconds */
    SLUICE_TYPE_RATE,     /* "10MiB/s" or "10MiB"; bytes a second */
    SLUICE_TYPE_STRING,
    SLUICE_TYPE_ENUM,  /* one of the words; integer is its index */
    SLUICE_TYPE_PATH,  /* string; relative ones are taken from the configuration's folder */
    SLUICE_TYPE_SECRET /* string: path of a file of mode 0600 or stricter; checked, never shown */
};

/* One option of a filter.  From this table come YAML binding, range checks, JSON Schema, --help and
 * manual page.  A dot in the name nests: "ssd.size" is `ssd: { size: ... }`. */
struct sluice_option {
    const char *name;
    uint32_t type; /* enum sluice_type */
    uint32_t flags; /* SLUICE_OPTION_* */
    int64_t minimum, maximum; /* numbers, sizes, durations, rates; both 0: no limit */
    const char *default_text; /* as one would write it in YAML; NULL: not set */
    const char *words;        /* ENUM: "write-back|write-through" */
    const char *help;         /* one sentence */
};
#define SLUICE_OPTION_REQUIRED 0x1u
#define SLUICE_OPTION_LIVE 0x2u /* may change by policy-change without detaching the filter */
#define SLUICE_OPTION_TIER 0x4u /* a string that names a tier of gateway.yaml: one that is not there is refused */
#define SLUICE_OPTIONS_END {NULL, 0, 0, 0, 0, NULL, NULL, NULL}

/* The values, in the order of the table.  Borrowed: valid during open(), place() or the event. */
struct sluice_value {
    bool is_set; /* by the policy or by a default */
    int64_t integer;
    const char *string;
};

enum sluice_counter_kind { SLUICE_COUNTER, SLUICE_GAUGE, SLUICE_HISTOGRAM_NS };
struct sluice_counter {
    const char *name; /* "hits": appears in status and as sluice_FILTER_hits_total */
    uint32_t kind;
    const char *unit; /* "bytes", "seconds", "" */
    const char *help;
};
#define SLUICE_COUNTERS_END {NULL, 0, NULL, NULL}

struct sluice_error;
struct sluice_reply;

/* A verb: `sluice FILTER VERB DISK [ARGUMENT...]`.  Runs on a control thread, may block, may be
 * called at the same time as anything else.  Writes its answer with sluice_reply_*(). */
struct sluice_verb {
    const char *name;
    const char *arguments; /* "[--all] [PERCENT]", for help */
    const char *help;
    int (*run)(void *instance, int argc, const char *const *argv, struct sluice_reply *reply,
               struct sluice_error *error);
};
#define SLUICE_VERBS_END {NULL, NULL, NULL, NULL}

/* --- control events ---------------------------------------------------------------------------- */

enum sluice_event_kind {
    SLUICE_EVENT_ATTACH,        /* this filter joins the chain of a live disk */
    SLUICE_EVENT_DETACH,        /* this filter leaves it: prepare must end with nothing held */
    SLUICE_EVENT_START,         /* first client */
    SLUICE_EVENT_STOP,          /* last client gone, or the gateway stops */
    SLUICE_EVENT_SNAPSHOT,      /* after prepare every acknowledged byte is in the backing and flushed */
    SLUICE_EVENT_RESIZE,        /* to size_bytes */
    SLUICE_EVENT_PROMOTE,       /* to primary, epoch */
    SLUICE_EVENT_DEMOTE,
    SLUICE_EVENT_POLICY_CHANGE, /* new values for options marked LIVE */
    SLUICE_EVENT_QUIESCE,       /* park own I/O; let go of deferred requests */
    SLUICE_EVENT_RESUME,
    SLUICE_EVENT_BEFORE_UPGRADE,
    SLUICE_EVENT_AFTER_UPGRADE,
    SLUICE_EVENT_MIGRATE, /* told by a hypervisor that the guest moves */
    SLUICE_EVENT_SANITIZE, /* the disk has been overwritten: so must be what is kept elsewhere of before, here and at the peer.
                              A prepare that answers -EAGAIN is told again: it need not end at once */
    SLUICE_EVENT_COUNT
};

/* Two phases: PREPARE to each filter in class order; if one refuses, ABORT to those already told, in
 * reverse; else COMMIT to all.  Events with a long part (detach, snapshot of a filter that holds
 * data) get PREPARE_LONG before, while the disk still serves. */
enum sluice_event_phase {
    SLUICE_PHASE_PREPARE_LONG,
    SLUICE_PHASE_PREPARE,
    SLUICE_PHASE_COMMIT,
    SLUICE_PHASE_ABORT
};

struct sluice_event {
    uint32_t kind;  /* enum sluice_event_kind */
    uint32_t phase; /* enum sluice_event_phase */
    uint64_t size_bytes;               /* RESIZE: the new size */
    uint64_t epoch;                    /* PROMOTE, DEMOTE */
    const char *name;                  /* SNAPSHOT: its name; else "" */
    const struct sluice_value *values; /* POLICY_CHANGE */
    uint64_t deadline_ns; /* sluice_now_ns() scale: answer before, or be treated as refusing */
    uint64_t old_bytes; /* RESIZE, commit: what of the new part lies at or above it reads as zeros; see sluice_event_old_bytes() */
};

/* --- roles, health ------------------------------------------------------------------------------ */

enum sluice_role { SLUICE_ROLE_PRIMARY, SLUICE_ROLE_SECONDARY, SLUICE_ROLE_DEPOSED };

enum sluice_health_state { SLUICE_HEALTH_OK, SLUICE_HEALTH_DEGRADED, SLUICE_HEALTH_FAILED };

enum sluice_log_level {
    SLUICE_LOG_ERROR = 3,
    SLUICE_LOG_WARNING = 4,
    SLUICE_LOG_NOTICE = 5,
    SLUICE_LOG_INFO = 6,
    SLUICE_LOG_DEBUG = 7
};

/* --- what a filter embeds in its own structs; contents belong to the host -------------------------- */

struct sluice_disk;

/* Own I/O below this filter.  The filter fills the first group and keeps it and `data` alive until
 * done() is called: exactly once, never inside submit, in the home thread of the callback that
 * submitted, or in a service thread when submitted from elsewhere.  What a callback has submitted
 * and has not begun when its request ends also moves to a service thread: a request is not kept for
 * I/O that nobody waits for.  Start background work from a timer or from sluice_work. */
struct sluice_io {
    uint8_t op;
    uint8_t origin; /* FILTER, RESYNC or MAINTENANCE */
    uint16_t flags;
    uint64_t offset, length;
    void *data;
    void (*done)(struct sluice_io *io, int32_t error); /* error: 0 or a positive errno */
    void (*on_extent)(struct sluice_io *io, uint64_t offset, uint64_t length, uint32_t type); /* EXTENTS, before done() */
    void *host_private[8];
};

/* A lock on a range of the disk, first come first served, among guest writes and other locks.  Own
 * I/O takes none by itself.  Never wait for a guest request while holding one.  A lock that was
 * asked for is waited for: unlock it only when, or after, granted() was called. */
struct sluice_lock {
    uint64_t offset, length;
    bool is_shared;
    void (*granted)(struct sluice_lock *lock); /* may run inside sluice_lock_range() */
    void *host_private[20];
};

/* Zeroed but for fire before its first use, as all structs here with host_private. */
struct sluice_timer {
    void (*fire)(struct sluice_timer *timer); /* on a service thread: must not block */
    void *host_private[12];
};

/* Runs on a pool thread: may block. */
/* May be submitted again from run() on, not while it waits for its turn. */
struct sluice_work {
    void (*run)(struct sluice_work *work);
    void *host_private[4];
};

/* A control event of its own disk that a filter asks the gateway for: RESIZE (size_bytes) or SNAPSHOT
 * (name).  All filters are told of it as of any other, the asker too, from when it was asked for.
 * done() comes exactly once, after what came of it is durable, on a thread that may block: 0 or a
 * positive errno with a sentence. */
struct sluice_wish {
    uint32_t kind; /* enum sluice_event_kind */
    uint64_t size_bytes;
    char name[128];
    void (*done)(struct sluice_wish *wish, int32_t error, const char *sentence);
    void *host_private[4];
};

/* Asynchronous I/O on a file of the filter's own (a cache tier, a journal). */
struct sluice_file;
struct sluice_file_io {
    uint8_t op; /* READ, WRITE, FLUSH (fdatasync), TRIM (punch), ZERO */
    uint8_t reserved[3];
    uint32_t flags;
    uint64_t offset, length;
    void *data;
    void (*done)(struct sluice_file_io *io, int32_t error); /* as sluice_io.done */
    void *host_private[24];
};
#define SLUICE_FILE_CREATE 0x1u
#define SLUICE_FILE_DIRECT 0x2u
#define SLUICE_FILE_LOCK 0x4u
#define SLUICE_FILE_MAY_HANG 0x8u /* a device that does not answer holds up nobody but who waits for the answer:
                                   * no thread that submits is in the system call for it (O_DIRECT, flushes), but a
                                   * worker that writes into the page cache for the request it waits for */

/* Messages to the same filter on the same disk (or group) at the peer gateway.  Called one at a time,
 * not before the filter's open() has returned, on a thread that must not block: connected, when both
 * sides have the channel open; then messages, whole and in order; then lost, after which nothing that
 * was sent may be taken for delivered; connected again, when there is a new connection. */
struct sluice_channel;
struct sluice_channel_handlers {
    uint32_t struct_size;
    void (*connected)(void *instance, const char *peer);
    void (*message)(void *instance, const void *data, size_t length);
    void (*writable)(void *instance); /* flow control opened again */
    void (*lost)(void *instance, const char *reason);
    const char *peer; /* a name of gateway.yaml's peers; NULL or "": the only one */
    bool is_group;    /* one channel for the disk's group, opened by one of its instances */
    void (*caught_up)(void *instance); /* NULL, or: the messages that had come together are all told, so
                                        * what was put off until the last of them is due; also before lost */
};
#define SLUICE_CHANNEL_MESSAGE_MAX ((1u << 20) + (64u << 10)) /* bytes of one message */

#define SLUICE_EXTENT_HOLE 0x1u
#define SLUICE_EXTENT_ZERO 0x2u

/* --- the host ------------------------------------------------------------------------------------- */

/* What the host does for a filter. Use the inline functions below; they name the arguments. */
struct sluice_host {
    uint32_t struct_size;
    uint32_t api_version;

    bool (*resume)(struct sluice_disk *, struct sluice_request *, struct sluice_verdict);
    bool (*commit)(struct sluice_disk *, struct sluice_request *);
    void (*hold)(struct sluice_disk *, struct sluice_request *, const char *reason);
    void (*substitute)(struct sluice_disk *, struct sluice_request *, void *data);
    bool (*extent)(struct sluice_disk *, struct sluice_request *, uint64_t length, uint32_t type);

    int (*io_submit)(struct sluice_disk *, struct sluice_io *);
    int (*io_wait)(struct sluice_disk *, struct sluice_io *);
    void (*lock_range)(struct sluice_disk *, struct sluice_lock *);
    void (*unlock_range)(struct sluice_disk *, struct sluice_lock *);

    int (*timer_start)(struct sluice_disk *, struct sluice_timer *, uint64_t delay_ns);
    bool (*timer_stop)(struct sluice_disk *, struct sluice_timer *);
    int (*work)(struct sluice_disk *, struct sluice_work *);

    int (*file_open)(struct sluice_disk *, const char *path, uint32_t flags, uint64_t create_size,
                     struct sluice_file **, struct sluice_error *);
    int (*file_submit)(struct sluice_file *, struct sluice_file_io *);
    uint64_t (*file_size)(struct sluice_file *);
    void (*file_close)(struct sluice_file *);

    uint32_t (*role)(struct sluice_disk *, uint64_t *epoch);
    int (*role_request)(struct sluice_disk *, uint32_t role, uint64_t epoch, struct sluice_error *);
    void (*gate)(struct sluice_disk *, bool is_closed, const char *reason);

    int (*state_read)(struct sluice_disk *, const char *name, void *data, size_t capacity, size_t *length);
    int (*state_write)(struct sluice_disk *, const char *name, const void *data, size_t length);
    int (*state_remove)(struct sluice_disk *, const char *name);
    const char *(*state_folder)(struct sluice_disk *);

    int (*record_put)(struct sluice_disk *, const char *key, const void *data, size_t length);
    int (*record_get)(struct sluice_disk *, const char *key, void *data, size_t capacity, size_t *length);

    int (*channel_open)(struct sluice_disk *, const struct sluice_channel_handlers *, struct sluice_channel **,
                        struct sluice_error *);
    int (*channel_send)(struct sluice_channel *, const void *data, size_t length);
    void (*channel_close)(struct sluice_channel *);

    bool (*memory_take)(struct sluice_disk *, uint64_t bytes);
    void (*memory_give)(struct sluice_disk *, uint64_t bytes);

    void (*health)(struct sluice_disk *, uint32_t state, const char *sentence, const char *remedy);
    void (*log)(struct sluice_disk *, uint32_t level, const char *fmt, va_list);
    void (*event)(struct sluice_disk *, const char *name, const char *fmt, va_list);
    void (*count)(struct sluice_disk *, uint32_t counter, int64_t delta);
    void (*observe)(struct sluice_disk *, uint32_t counter, uint64_t nanoseconds);
    uint64_t (*now_ns)(void);

    void (*shared_lock)(struct sluice_disk *);
    void *(*shared_get)(struct sluice_disk *, const char *key, size_t bytes);
    void (*shared_put)(struct sluice_disk *, const char *key);
    void (*shared_unlock)(struct sluice_disk *);

    int (*set_error)(struct sluice_error *, int error, const char *fmt, va_list);
    void (*reply_text)(struct sluice_reply *, const char *fmt, va_list);
    void (*reply_integer)(struct sluice_reply *, const char *key, int64_t value);
    void (*reply_string)(struct sluice_reply *, const char *key, const char *value);
    void (*progress)(struct sluice_disk *, const char *what, uint64_t done, uint64_t total);

    int (*file_wait)(struct sluice_file *, struct sluice_file_io *);

    int (*tier_file)(struct sluice_disk *, const char *tier, uint64_t size_bytes, char *path, size_t capacity,
                     struct sluice_error *);

    void (*channel_pause)(struct sluice_channel *, bool is_paused);

    int (*file_try)(struct sluice_file *, struct sluice_file_io *);
    int (*channel_send_soon)(struct sluice_channel *, const void *data, size_t length);
    uint32_t (*group_disks)(struct sluice_disk *);
    bool (*gate_is_drained)(struct sluice_disk *);
    int (*wish)(struct sluice_disk *, struct sluice_wish *);
    int (*channel_queue)(struct sluice_channel *, const void *head, size_t head_length, const void *data,
                         size_t length);
    void (*channel_flush)(struct sluice_channel *, bool is_soon);
    int (*record_arrived)(struct sluice_disk *, const char *name, const void *data, size_t length);
};

/* The disk as one instance sees it; handed to open() and valid until close(). */
struct sluice_disk {
    const struct sluice_host *host;
    const char *name;  /* the disk's */
    const char *uuid;  /* 36 characters; the same on both gateways of a pair */
    const char *group; /* the group's name; a lone disk's own */
    uint64_t size_bytes; /* when opened; RESIZE tells of changes */
    uint32_t block_bytes; /* offsets and lengths of requests are multiples of it */
    bool is_read_only;
    const char *gateway; /* this gateway's name; "" where it has none */
};

/* --- the filter's table ------------------------------------------------------------------------------ */

struct sluice_filter {
    uint32_t struct_size; /* sizeof(struct sluice_filter) */
    uint32_t api_version; /* SLUICE_FILTER_API_VERSION */
    const char *name;     /* [a-z][a-z0-9-]*: the word in `filters:` */
    const char *version, *vendor;
    const char *summary; /* one line */
    uint32_t filter_class;
    uint32_t needs, traits;
    uint32_t scratch_bytes; /* at most 1024 */
    uint32_t block_bytes;   /* requests are aligned to it, and the disk's size is a multiple of it:
                               0 or a power of two up to 64 KiB */
    const struct sluice_option *options;   /* ends with SLUICE_OPTIONS_END, or NULL */
    const struct sluice_counter *counters; /* ends with SLUICE_COUNTERS_END, or NULL */
    const struct sluice_verb *verbs;       /* ends with SLUICE_VERBS_END, or NULL */

    /* Makes an instance.  May block.  0, or a negative errno and a sentence through sluice_error(). */
    int (*open)(struct sluice_disk *disk, const struct sluice_value *values, void **instance,
                struct sluice_error *error);
    /* Ends it: no request, I/O, timer or work of it is outstanding. */
    void (*close)(void *instance);

    /* Every operation is handled or passes unseen, explicitly. */
    struct sluice_handler read, write, flush, trim, zero, extents, prefetch;

    /* Asked, in the request's home, to let go of a request it deferred; required if it ever defers. */
    enum sluice_cancel_answer (*cancel)(void *instance, struct sluice_request *request, void *scratch);

    /* On a control thread; may block until event->deadline_ns.  0, or a negative errno (refuse) and a
     * sentence; only PREPARE phases may refuse.  NULL: agrees to everything. */
    int (*event)(void *instance, const struct sluice_event *event, struct sluice_error *error);

    /* The class of this instance, if its options decide it (qos with at: backing); NULL: filter_class. */
    uint32_t (*place)(const struct sluice_value *values);

    /* Why these values do not go together, one line that lives as long as the filter; NULL: they do.
     * Asked when the configuration is read, before there is a disk, so that `sluice check` says it.
     * NULL: whatever the table of options lets through. */
    const char *(*check)(const struct sluice_value *values);

    /* A record of the disk: something small that is not its data and belongs to it wherever it is
     * (SCSI's persistent reservations), given whole; it replaces the one of that name.  Told of each
     * change, and of those that there are when the instance joins a chain.  0 or a negative errno.
     * On any thread, also during an event; must not block.  A filter that keeps the disk elsewhere
     * too brings it there in the order of the writes, and a flush that begins when this has returned
     * does not end before the record is as durable there as a write would be.  NULL: not wanted. */
    int (*record)(void *instance, const char *name, const void *data, size_t length);
};
#define SLUICE_RECORD_NAME_MAX 31u /* characters: [a-z][a-z0-9-]* */
#define SLUICE_RECORD_BYTES_MAX (512u << 10)

#if defined(__GNUC__)
#define SLUICE_EXPORT __attribute__((visibility("default")))
#else
#define SLUICE_EXPORT
#endif
#ifdef __cplusplus
#define SLUICE_EXTERN extern "C"
#else
#define SLUICE_EXTERN
#endif
/* Once in a filter, at file scope: exports `table`, a struct sluice_filter. */
#define SLUICE_FILTER(table)                                                                       \
    SLUICE_EXTERN SLUICE_EXPORT const struct sluice_filter *sluice_filter_table(void);             \
    SLUICE_EXTERN SLUICE_EXPORT const struct sluice_filter *sluice_filter_table(void)              \
    {                                                                                              \
        return &(table);                                                                           \
    }
#define SLUICE_FILTER_SYMBOL "sluice_filter_table"

/* --- calls on a request the filter owns ----------------------------------------------------------------- */

/* Ends a deferral with a verdict (anything but defer).  From any thread, also before the start
 * callback has returned.  False: the request was cancelled and is gone; nothing was done. */
static inline bool sluice_resume(struct sluice_disk *disk, struct sluice_request *request,
                                 struct sluice_verdict verdict)
{
    return disk->host->resume(disk, request, verdict);
}
/* Before the first byte of the request may reach a journal or a peer: it cannot be cancelled from
 * here on.  False: it has been cancelled already; do not write. */
static inline bool sluice_commit(struct sluice_disk *disk, struct sluice_request *request)
{
    return disk->host->commit(disk, request);
}
/* This deferral is wanted by the policy (a limit, a lost peer): not a stall; status shows the reason
 * (a string constant). */
static inline void sluice_hold(struct sluice_disk *disk, struct sluice_request *request,
                               const char *reason)
{
    disk->host->hold(disk, request, reason);
}
/* The filters below see `data` (length bytes, the filter's own, alive until completion) in place of
 * the present buffer; the filters above never do.  Ask for completion to free it. */
static inline void sluice_substitute(struct sluice_disk *disk, struct sluice_request *request,
                                     void *data)
{
    disk->host->substitute(disk, request, data);
}
/* EXTENTS answered here: the next run of the range.  False: no more wanted; answer complete. */
static inline bool sluice_extent(struct sluice_disk *disk, struct sluice_request *request,
                                 uint64_t length, uint32_t type)
{
    return disk->host->extent(disk, request, length, type);
}

/* --- own I/O, locks, time, threads ------------------------------------------------------------------------ */

/* 0, or -ESHUTDOWN (the instance is being closed): then done() is not called.  Before the filter
 * stands in the chain, and after it has left it, own I/O fails with ESHUTDOWN: what would be below
 * it is not known. */
static inline int sluice_io_submit(struct sluice_disk *disk, struct sluice_io *io)
{
    return disk->host->io_submit(disk, io);
}
/* The same and wait, from threads that may block (work, event, verb). 0 or a negative errno. */
static inline int sluice_io_wait(struct sluice_disk *disk, struct sluice_io *io)
{
    return disk->host->io_wait(disk, io);
}
static inline void sluice_lock_range(struct sluice_disk *disk, struct sluice_lock *lock)
{
    disk->host->lock_range(disk, lock);
}
static inline void sluice_unlock_range(struct sluice_disk *disk, struct sluice_lock *lock)
{
    disk->host->unlock_range(disk, lock);
}
/* One shot; starting a started timer moves it. From any thread. */
static inline int sluice_timer_start(struct sluice_disk *disk, struct sluice_timer *timer,
                                     uint64_t delay_ns)
{
    return disk->host->timer_start(disk, timer, delay_ns);
}
/* True: it will not fire.  False: it was not set, or has fired; waits for a running fire() unless
 * called from it. */
static inline bool sluice_timer_stop(struct sluice_disk *disk, struct sluice_timer *timer)
{
    return disk->host->timer_stop(disk, timer);
}
/* 0, or -ESHUTDOWN: run() will not be called. */
static inline int sluice_work_submit(struct sluice_disk *disk, struct sluice_work *work)
{
    return disk->host->work(disk, work);
}
static inline uint64_t sluice_now_ns(struct sluice_disk *disk)
{
    return disk->host->now_ns();
}

/* --- files of the filter's own ----------------------------------------------------------------------------- */

/* Blocks.  A relative path is one in the state folder.  flags: SLUICE_FILE_*; create_size: of a file
 * that is made.  DIRECT: offsets, lengths and memory aligned to 4096.  LOCK: -EBUSY with the holder
 * when somebody else has it.  0 or a negative errno with a sentence. */
static inline int sluice_file_open(struct sluice_disk *disk, const char *path, uint32_t flags,
                                   uint64_t create_size, struct sluice_file **file,
                                   struct sluice_error *error)
{
    return disk->host->file_open(disk, path, flags, create_size, file, error);
}
/* As sluice_io_submit(). */
static inline int sluice_file_submit(struct sluice_disk *disk, struct sluice_file *file,
                                     struct sluice_file_io *io)
{
    return disk->host->file_submit(file, io);
}
/* Carries out in this thread, whichever it is, what will hardly make it wait: a small buffered write
 * while the file system takes them at once.  0 or a negative errno: done, and done() is not called;
 * -EAGAIN: nothing was done, submit it. */
static inline int sluice_file_try(struct sluice_disk *disk, struct sluice_file *file,
                                  struct sluice_file_io *io)
{
    if (disk->host->struct_size <
        offsetof(struct sluice_host, file_try) + sizeof disk->host->file_try)
        return -EAGAIN;
    return disk->host->file_try(file, io);
}
/* As sluice_io_wait(); also from open(). */
static inline int sluice_file_wait(struct sluice_disk *disk, struct sluice_file *file,
                                   struct sluice_file_io *io)
{
    return disk->host->file_wait(file, io);
}
static inline uint64_t sluice_file_size(struct sluice_disk *disk, struct sluice_file *file)
{
    return disk->host->file_size(file);
}
/* Nothing of it is in flight. */
static inline void sluice_file_close(struct sluice_disk *disk, struct sluice_file *file)
{
    disk->host->file_close(file);
}

/* Where this instance's part of a tier (`tiers:` in gateway.yaml) lies, and counts size_bytes of it as
 * taken until the instance is closed: the path of a file, which need not exist yet, when the tier is
 * a folder; the tier's own path when it is a file or a block device, which one instance can have.
 * Blocks.  0 or a negative errno with a sentence: -ENOENT (no such tier), -ENOSPC, -EBUSY. */
static inline int sluice_tier_file(struct sluice_disk *disk, const char *tier, uint64_t size_bytes,
                                   char *path, size_t capacity, struct sluice_error *error)
{
    if (disk->host->struct_size < offsetof(struct sluice_host, tier_file) + sizeof disk->host->tier_file)
        return -ENOSYS;
    return disk->host->tier_file(disk, tier, size_bytes, path, capacity, error);
}

/* --- state and records --------------------------------------------------------------------------------------- */

/* Small files in the instance's own folder, written atomically and durably; names [A-Za-z0-9._-]+.
 * All of these block.  0 or a negative errno: -ENOENT, -EFBIG (more than capacity). */
static inline int sluice_state_read(struct sluice_disk *disk, const char *name, void *data,
                                    size_t capacity, size_t *length)
{
    return disk->host->state_read(disk, name, data, capacity, length);
}
static inline int sluice_state_write(struct sluice_disk *disk, const char *name, const void *data,
                                     size_t length)
{
    return disk->host->state_write(disk, name, data, length);
}
/* 0 also when there was none. */
static inline int sluice_state_remove(struct sluice_disk *disk, const char *name)
{
    return disk->host->state_remove(disk, name);
}
/* The folder, for files of other kinds; on a disk without state it is removed with the instance.
 * NULL: it cannot be made. */
static inline const char *sluice_state_folder(struct sluice_disk *disk)
{
    return disk->host->state_folder(disk);
}
/* Small files of the instance as well, apart from its state. */
static inline int sluice_record_put(struct sluice_disk *disk, const char *key, const void *data,
                                    size_t length)
{
    return disk->host->record_put(disk, key, data, length);
}
static inline int sluice_record_get(struct sluice_disk *disk, const char *key, void *data,
                                    size_t capacity, size_t *length)
{
    return disk->host->record_get(disk, key, data, capacity, length);
}

/* A record of the disk has come from where it is kept too: the gateway makes it its own, durably, and
 * tells all filters, the caller too, inside.  Blocks; hold no lock that record() takes.  0; -EINVAL: it
 * makes no sense, nothing has changed and the log says why; -ENOTSUP: nobody knows such a record; another
 * negative errno: not now. */
static inline int sluice_record_arrived(struct sluice_disk *disk, const char *name, const void *data,
                                        size_t length)
{
    if (disk->host->struct_size <
        offsetof(struct sluice_host, record_arrived) + sizeof disk->host->record_arrived)
        return -ENOTSUP;
    return disk->host->record_arrived(disk, name, data, length);
}

/* --- role, gate, peer, memory ---------------------------------------------------------------------------------- */

/* enum sluice_role; epoch may be NULL. */
static inline uint32_t sluice_role(struct sluice_disk *disk, uint64_t *epoch)
{
    return disk->host->role(disk, epoch);
}
/* Asks for another role.  0: asked; PROMOTE or DEMOTE tell the outcome. From any thread. */
static inline int sluice_role_request(struct sluice_disk *disk, uint32_t role, uint64_t epoch,
                                      struct sluice_error *error)
{
    return disk->host->role_request(disk, role, epoch, error);
}
/* Holds the guests' requests (never fails them) until opened again; status shows the reason. */
static inline void sluice_gate(struct sluice_disk *disk, bool is_closed, const char *reason)
{
    disk->host->gate(disk, is_closed, reason);
}
/* The gate is closed, and none of the guests' requests that had passed it is under way any more, above this
 * filter or below.  From any thread but that of a request's callback; to be asked again, nothing tells. */
static inline bool sluice_gate_is_drained(struct sluice_disk *disk)
{
    return disk->host->struct_size <
               offsetof(struct sluice_host, gate_is_drained) + sizeof disk->host->gate_is_drained ||
           disk->host->gate_is_drained(disk);
}
/* 0, or a negative errno, -ENOTSUP (of this kind, or by this gateway) or -ESHUTDOWN: done() is not called.  From any
 * thread. */
static inline int sluice_wish_for(struct sluice_disk *disk, struct sluice_wish *wish)
{
    if (disk->host->struct_size < offsetof(struct sluice_host, wish) + sizeof disk->host->wish)
        return -ENOTSUP;
    return disk->host->wish(disk, wish);
}
/* Of a RESIZE that is committed: the disk has grown to event->size_bytes, and below this offset the new
 * part may hold what was in the backing before; all that lies above reads as zeros. */
static inline uint64_t sluice_event_old_bytes(struct sluice_disk *disk, const struct sluice_event *event)
{
    if (disk->host->struct_size < offsetof(struct sluice_host, wish) + sizeof disk->host->wish)
        return event->size_bytes;
    return event->old_bytes;
}
/* With a sentence: -ENOTSUP where no peer can be had, -ENOENT (no such peer), -EEXIST (the channel is
 * open already).  From open() on. */
static inline int sluice_channel_open(struct sluice_disk *disk,
                                      const struct sluice_channel_handlers *handlers,
                                      struct sluice_channel **channel, struct sluice_error *error)
{
    return disk->host->channel_open(disk, handlers, channel, error);
}
/* Copies the message and sends it at once; any thread.  0; -EAGAIN: full, writable() will be called;
 * -ENOTCONN: not connected, or lost() is about to be called; -EMSGSIZE; -ENOMEM. */
static inline int sluice_channel_send(struct sluice_disk *disk, struct sluice_channel *channel,
                                      const void *data, size_t length)
{
    return disk->host->channel_send(channel, data, length);
}
/* The same, but it leaves with what is sent next on the connection, at the latest after about a
 * millisecond: many messages share the work of one. */
static inline int sluice_channel_send_soon(struct sluice_disk *disk, struct sluice_channel *channel,
                                           const void *data, size_t length)
{
    if (disk->host->struct_size <
        offsetof(struct sluice_host, channel_send_soon) + sizeof disk->host->channel_send_soon)
        return disk->host->channel_send(channel, data, length);
    return disk->host->channel_send_soon(channel, data, length);
}
/* One message of two pieces, `data` behind `head`: it has its place among the others when this
 * returns, and leaves with the next flush or message on the connection.  So a filter gives it its
 * place under a mutex of its own, and encrypts and sends without it.  Returns as
 * sluice_channel_send(); -ENOSYS: a host that is older. */
static inline int sluice_channel_queue(struct sluice_disk *disk, struct sluice_channel *channel,
                                       const void *head, size_t head_length, const void *data,
                                       size_t length)
{
    if (disk->host->struct_size <
        offsetof(struct sluice_host, channel_queue) + sizeof disk->host->channel_queue)
        return -ENOSYS;
    return disk->host->channel_queue(channel, head, head_length, data, length);
}
/* What is queued leaves: now, or is_soon, as by sluice_channel_send_soon().  Any thread; nobody
 * closes the channel meanwhile. */
static inline void sluice_channel_flush(struct sluice_disk *disk, struct sluice_channel *channel,
                                        bool is_soon)
{
    if (disk->host->struct_size >=
        offsetof(struct sluice_host, channel_flush) + sizeof disk->host->channel_flush)
        disk->host->channel_flush(channel, is_soon);
}
/* While paused no message() is called, and the other side's channel becomes full; others go on. */
static inline int sluice_channel_pause(struct sluice_disk *disk, struct sluice_channel *channel,
                                       bool is_paused)
{
    if (disk->host->struct_size <
        offsetof(struct sluice_host, channel_pause) + sizeof disk->host->channel_pause)
        return -ENOSYS;
    disk->host->channel_pause(channel, is_paused);
    return 0;
}
/* No handler runs when it returns, but the one that it is called from. */
static inline void sluice_channel_close(struct sluice_disk *disk, struct sluice_channel *channel)
{
    disk->host->channel_close(channel);
}
/* Counts memory the filter is going to use against the gateway's limit; false: do with less. */
static inline bool sluice_memory_take(struct sluice_disk *disk, uint64_t bytes)
{
    return disk->host->memory_take(disk, bytes);
}
static inline void sluice_memory_give(struct sluice_disk *disk, uint64_t bytes)
{
    disk->host->memory_give(disk, bytes);
}

/* --- saying things --------------------------------------------------------------------------------------- */

#if defined(__GNUC__)
#define SLUICE_PRINTF(fmt, first) __attribute__((format(printf, fmt, first)))
#else
#define SLUICE_PRINTF(fmt, first)
#endif
static inline void sluice_log(struct sluice_disk *disk, uint32_t level, const char *fmt, ...) SLUICE_PRINTF(3, 4);
static inline void sluice_log(struct sluice_disk *disk, uint32_t level, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    disk->host->log(disk, level, fmt, ap);
    va_end(ap);
}
/* Writes the sentence a person will read; returns -code, to be returned. */
static inline int sluice_refuse(struct sluice_disk *disk, struct sluice_error *error, int code,
                                const char *fmt, ...) SLUICE_PRINTF(4, 5);
static inline int sluice_refuse(struct sluice_disk *disk, struct sluice_error *error, int code,
                                const char *fmt, ...)
{
    va_list ap;
    int r;
    va_start(ap, fmt);
    r = disk->host->set_error(error, code, fmt, ap);
    va_end(ap);
    return r;
}
/* One line for people. */
static inline void sluice_reply_text(struct sluice_disk *disk, struct sluice_reply *reply,
                                     const char *fmt, ...) SLUICE_PRINTF(3, 4);
static inline void sluice_reply_text(struct sluice_disk *disk, struct sluice_reply *reply,
                                     const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    disk->host->reply_text(reply, fmt, ap);
    va_end(ap);
}
/* Keys of the answer beside its text; the command prints them with --json. */
static inline void sluice_reply_integer(struct sluice_disk *disk, struct sluice_reply *reply,
                                        const char *key, int64_t value)
{
    disk->host->reply_integer(reply, key, value);
}
static inline void sluice_reply_string(struct sluice_disk *disk, struct sluice_reply *reply,
                                       const char *key, const char *value)
{
    disk->host->reply_string(reply, key, value);
}
/* Long work under way, for status; what: NULL when it is over. */
static inline void sluice_progress(struct sluice_disk *disk, const char *what, uint64_t done,
                                   uint64_t total)
{
    disk->host->progress(disk, what, done, total);
}
/* A structured event: `sluice watch` prints `change filter disk:D filter:F name ...`; fmt makes
 * "key:value key:value". */
static inline void sluice_event_emit(struct sluice_disk *disk, const char *name, const char *fmt, ...) SLUICE_PRINTF(3, 4);
static inline void sluice_event_emit(struct sluice_disk *disk, const char *name, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    disk->host->event(disk, name, fmt, ap);
    va_end(ap);
}
/* counter: its index in the filter's table. */
static inline void sluice_count(struct sluice_disk *disk, uint32_t counter, int64_t delta)
{
    disk->host->count(disk, counter, delta);
}
/* One duration for a counter of kind SLUICE_HISTOGRAM_NS. */
static inline void sluice_observe(struct sluice_disk *disk, uint32_t counter, uint64_t nanoseconds)
{
    disk->host->observe(disk, counter, nanoseconds);
}
static inline void sluice_health(struct sluice_disk *disk, uint32_t state, const char *sentence,
                                 const char *remedy)
{
    disk->host->health(disk, state, sentence, remedy);
}

/* How many disks the disk's group has by the configuration that it was opened with, itself among
 * them; 1 where that is not known. */
static inline uint32_t sluice_group_disks(struct sluice_disk *disk)
{
    if (disk->host->struct_size <
        offsetof(struct sluice_host, group_disks) + sizeof disk->host->group_disks)
        return 1;
    return disk->host->group_disks(disk);
}

/* State that several disks' instances of one filter share under a key (a named set of limits).
 * Between shared_lock and shared_unlock: shared_get makes `bytes` zeroed bytes at first use and counts
 * users; shared_put lets go, the last one frees. */
static inline void sluice_shared_lock(struct sluice_disk *disk)
{
    disk->host->shared_lock(disk);
}
static inline void *sluice_shared_get(struct sluice_disk *disk, const char *key, size_t bytes)
{
    return disk->host->shared_get(disk, key, bytes);
}
static inline void sluice_shared_put(struct sluice_disk *disk, const char *key)
{
    disk->host->shared_put(disk, key);
}
static inline void sluice_shared_unlock(struct sluice_disk *disk)
{
    disk->host->shared_unlock(disk);
}

#ifdef __cplusplus
}
#endif
#endif
