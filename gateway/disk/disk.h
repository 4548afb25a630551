/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * disk: what a hypervisor mounts: a name, an identity, durable state, an engine with its chain, and
 * the control events that happen to it.
 *
 * Control operations of one disk (events, chain changes, resize, snapshot) are serialised by its
 * control mutex, block, and run on control threads only.  Data never takes that mutex.
 *
 * State folder: STATE/disks/NAME/ with `identity.json` (uuid, size, backing identity), the mark
 * `clean`, and a folder per filter instance, `filters/INSTANCE/`.  All of it is written by
 * disk_state_write(): temporary file, fsync, rename, fsync of the folder.
 */
#ifndef SLUICE_DISK_H
#define SLUICE_DISK_H

#include "engine/engine.h"

struct disk;

struct disk_settings {
    const char *name, *group; /* group NULL: the disk's own name */
    unsigned group_disks;     /* that the group has, this one among them; 0: 1 */
    const char *uuid;         /* NULL: from the state, else made */
    const char *state_root;   /* STATE; NULL: an ephemeral disk without state (filter try, tests) */
    uint64_t size_bytes;      /* 0: the backing's */
    bool read_only;
    uint64_t deadline_ns;      /* of a request; 0: none */
    uint64_t quiesce_limit_ns; /* 0: 2 s */
    uint64_t event_limit_ns;   /* per prepare; 0: 10 s */
    uint64_t prepare_ttl_ns;   /* an uncommitted outside prepare aborts after that; 0: 60 s */
    enum stall_policy on_stall;
};

/* Things worth telling, for log, `watch` and health; any thread. Text is one "key:value ..." line.
 */
typedef void disk_notify_fn(void *context, const struct disk *disk, const char *name,
                            const char *text);
void disk_set_notify(disk_notify_fn *notify, void *context);
/* Gives such a notice; for the rooms above. */
void disk_notify(const struct disk *disk, const char *name, const char *fmt, ...) PRINTF_LIKE(3, 4);

/*
 * Opens the state (making it for a disk never seen), then the backing under the rule of the first
 * and last byte: created only if never seen; a missing, smaller or different backing of a known
 * disk is refused with a sentence.  The chain is empty until disk_set_chain().  Blocks.
 */
int disk_open(const struct disk_settings *settings, struct backing_spec *backing, struct disk **out,
              struct err *e) MUST_CHECK;
/* Drains (deadline), flushes, marks clean, closes the backing. Stations must have been removed. */
void disk_close(struct disk *disk);
/* Removes the durable state of a disk that is no longer configured (sluice disk remove). */
int disk_forget(const char *state_root, const char *name, struct err *e) MUST_CHECK;

const char *disk_name(const struct disk *disk);
const char *disk_uuid(const struct disk *disk);
const char *disk_group(const struct disk *disk);
unsigned disk_group_disks(const struct disk *disk);     /* when it was opened */
const char *disk_state_folder(const struct disk *disk); /* NULL: ephemeral */
uint64_t disk_size(const struct disk *disk);
bool disk_is_read_only(const struct disk *disk);
struct engine *disk_engine(const struct disk *disk);
struct backing *disk_backing(const struct disk *disk);
int disk_reconfigure(struct disk *disk, const struct disk_settings *settings,
                     struct err *e) MUST_CHECK;

/* --- clients
 * ---------------------------------------------------------------------------------------- */

/* One mount. The first of a disk tells its filters START, the last one's end STOP. */
struct disk_session {
    struct list link;
    struct disk *disk;
    struct sluice_client client; /* strings owned */
    uint64_t opened_ns;
    bool is_exclusive, is_read_only;
};
/* -EBUSY with a sentence when exclusive and in use (or the other way). Blocks. */
int disk_session_open(struct disk *disk, const struct sluice_client *client, bool exclusive,
                      bool read_only, struct disk_session **out, struct err *e) MUST_CHECK;
void disk_session_close(struct disk_session *session);
unsigned disk_session_count(struct disk *disk);
void disk_for_each_session(struct disk *disk,
                           void (*fn)(const struct disk_session *session, void *arg), void *arg);

/* --- chain changes
 * ------------------------------------------------------------------------------------ */

/*
 * Makes stations[0..count) the chain.  Those new to the disk are told ATTACH, those gone DETACH
 * (long phase first, while serving), the rest nothing; then QUIESCE, drain, swap, RESUME.  Nothing
 * happens when they are the chain already.  Refused while a prepared event waits (-EBUSY).  On a
 * refusal or when the drain takes longer than the quiesce limit everything is as before and *e says
 * who and why.  *swap (may be NULL) is filled when it came to a swap.  Blocks.
 */
struct disk_swap {
    uint64_t pause_ns; /* how long requests were held */
    uint64_t deferred; /* requests that filters held when the gate closed */
};
int disk_set_chain(struct disk *disk, struct station *const *stations, unsigned count,
                   struct disk_swap *swap, struct err *e) MUST_CHECK;

/* --- control events
 * ------------------------------------------------------------------------------------- */

/* Both phases at once: prepare all in class order, commit; or abort in reverse and -ECANCELED with
 * "filter NAME: sentence". */
int disk_event(struct disk *disk, const struct sluice_event *event, struct err *e) MUST_CHECK;
/* From outside (`sluice disk event`): prepare holds until commit or abort or its time to live. */
int disk_event_prepare(struct disk *disk, const struct sluice_event *event,
                       struct err *e) MUST_CHECK;
int disk_event_commit(struct disk *disk, uint32_t kind, struct err *e) MUST_CHECK;
int disk_event_abort(struct disk *disk, uint32_t kind, struct err *e) MUST_CHECK;
/* LIVE options of one station. */
int disk_policy_change(struct disk *disk, struct station *station,
                       const struct sluice_value *values, struct err *e) MUST_CHECK;

/* -ENOTEMPTY: what a filter that is gone kept of the disk is still there, and would not be erased.
 * Blocks. */
int disk_may_be_sanitized(struct disk *disk, struct err *e) MUST_CHECK;
/*
 * The disk has been overwritten; its filters overwrite what they keep of before elsewhere. -EAGAIN:
 * they have not ended yet; call it again, or disk_sanitize_abort().  -ESHUTDOWN: the gateway stops.
 */
int disk_sanitize(struct disk *disk, struct err *e) MUST_CHECK;
void disk_sanitize_abort(struct disk *disk);

int disk_resize(struct disk *disk, uint64_t size_bytes, struct err *e) MUST_CHECK;
/* The same on behalf of a filter, whose peer's disk has grown: a policy that says less is not in
 * the way, now and when the disk is opened again. */
int disk_grow_beyond_policy(struct disk *disk, uint64_t size_bytes, struct err *e) MUST_CHECK;
int disk_snapshot(struct disk *disk, const char *name, struct err *e) MUST_CHECK;
/* Holds root requests and waits until nothing is in flight; disk_resume lets go. */
int disk_quiesce(struct disk *disk, struct err *e) MUST_CHECK;
void disk_resume(struct disk *disk);
/* Through the chain, as a client's flush. Positive errno or 0. Blocks. */
int disk_flush(struct disk *disk);
/* Clears a sticky flush error by opening the backing anew, on an operator's order. */
int disk_reopen(struct disk *disk, struct err *e) MUST_CHECK;
/* The gateway stops: holds everything for good, drains until the deadline, flushes, marks clean. */
int disk_stop(struct disk *disk, uint64_t deadline_ns, struct err *e) MUST_CHECK;

/* --- role
 * ---------------------------------------------------------------------------------------------------
 */

uint32_t disk_role(const struct disk *disk, uint64_t *epoch);
/*
 * Tells the filters PROMOTE or DEMOTE and keeps the role over a restart.  Demotion holds new
 * requests, waits a second for those in flight, calls the hook, and refuses what is held and what
 * comes; promotion lets them in and then calls the hook. Blocks.
 */
int disk_set_role(struct disk *disk, uint32_t role, uint64_t epoch, struct err *e) MUST_CHECK;
/* A disk that never had a role is nobody's yet: it serves when it is first promoted. */
void disk_begin_as_secondary(struct disk *disk);
const char *disk_role_name(uint32_t role);
/* Ends or lets in the clients of a disk; may block. */
typedef void disk_role_hook(void *context, struct disk *disk, uint32_t role, uint64_t epoch);
void disk_set_role_hook(disk_role_hook *hook, void *context);
/* A filter or the role holds guest requests; the reason (copied) shows in status. */
void disk_gate(struct disk *disk, bool is_closed, const char *reason);
/* It is closed, and no request of a client that had passed it is under way. Any thread. */
bool disk_gate_is_drained(struct disk *disk);
/* Copies the reason of the closed gate, "" when open. */
void disk_gate_reason(struct disk *disk, char *out, size_t out_size);

/* --- records
 * -------------------------------------------------------------------------------------------
 */

/*
 * What is not the disk's data and belongs to it wherever it is: its persistent reservations.  Whose
 * a record is keeps it durably and tells it here, whole, with each change; the filters of the chain
 * are told, those that join later too.  One teller of a name at a time.  Any thread that may block
 * for a moment.
 */
int disk_record_tell(struct disk *disk, const char *name, const void *data, size_t length,
                     struct err *e) MUST_CHECK;
/* Some filter brings them elsewhere: a flush through the chain waits for that. Any thread. */
bool disk_records_are_carried(const struct disk *disk);
/* Whoever makes a record that came from another gateway this one's, and tells it: 0, -EINVAL (it
 * makes no sense), -ENOTSUP (no such record), or another -errno: not now.  Blocks. */
typedef int disk_record_hook(struct disk *disk, const char *name, const void *data, size_t length,
                             struct err *e);
void disk_set_record_hook(disk_record_hook *hook);
int disk_record_arrived(struct disk *disk, const char *name, const void *data, size_t length,
                        struct err *e) MUST_CHECK;

/* --- state
 * ----------------------------------------------------------------------------------------------------
 */

/* Atomic small files in a folder; name is [A-Za-z0-9._-]+. 0 or -errno. */
int disk_state_write(const char *folder, const char *name, const void *data, size_t length);
int disk_state_read(const char *folder, const char *name, void *data, size_t capacity,
                    size_t *length);
int disk_state_remove(const char *folder, const char *name);
/* mkdir -p with mode 0700 and fsync of the parents. */
int disk_state_make_folder(const char *path, struct err *e) MUST_CHECK;

/* The watch (engine_watch_tick) and expiry threads, started once after the fork. */
int disk_watch_start(struct err *e) MUST_CHECK;

const char *disk_event_name(uint32_t kind);
/* SLUICE_EVENT_COUNT when the word is none. */
uint32_t disk_event_parse(const char *word);

#endif
