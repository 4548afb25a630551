/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * internal.h: the disk struct, shared by the files of this room.
 *
 * Legend: [I] immutable after disk_open; [C] under `control`, the mutex that serialises control
 * operations and is held for as long as one takes; [S] under `sessions_mutex`; [R] under
 * `role_mutex`. Order: control before sessions_mutex before role_mutex.
 */
#ifndef SLUICE_DISK_INTERNAL_H
#define SLUICE_DISK_INTERNAL_H

#include "disk/disk.h"

#include <limits.h>

struct disk_record;

/* A prepare from outside that waits for its commit. */
struct prepared {
    bool is_held;
    bool is_quiesced;
    uint64_t abort_at_ns;
    struct sluice_event event;
    char name[128];
};

struct disk {
    struct list link; /* all disks, for the watch; its own mutex */
    char name[64], group[64], uuid[37];
    unsigned group_disks;
    char folder[PATH_MAX];   /* [I] "" when ephemeral */
    char known_backing[300]; /* identity of the backing as last seen; "" for a new disk */
    uint64_t known_size;     /* size as last seen; 0 for a new disk */
    bool is_beyond_policy; /* [C] it has grown, with its peer perhaps: more than its policy says */
    bool was_clean;        /* [I] the last stop was clean */
    int lock_fd;           /* [I] the state folder's lock, -1 */
    struct engine *engine; /* [I] */
    struct backing *backing; /* [I] */
    bool read_only;
    uint64_t quiesce_limit_ns, event_limit_ns, prepare_ttl_ns; /* [C] */

    pthread_mutex_t control;
    pthread_cond_t demoted;                     /* with `control`: a prepared demotion has ended */
    struct station *station[CHAIN_FILTERS_MAX]; /* [C] the chain in place */
    unsigned count;                             /* [C] */
    uint64_t held_at_gate; /* [C] by filters, when quiesce last closed the gate */
    struct prepared prepared[SLUICE_EVENT_COUNT]; /* [C] */
    bool is_stopped;                              /* [C] */

    pthread_mutex_t sessions_mutex;
    struct list sessions;   /* [S] */
    unsigned session_count; /* [S] */

    pthread_mutex_t role_change; /* before `control`: one change of the role at a time */
    pthread_mutex_t role_mutex;
    uint32_t role;         /* [R] */
    uint64_t epoch;        /* [R] */
    bool has_role;         /* [R] one was stored */
    bool is_gated;         /* [R] */
    char gate_reason[200]; /* [R] */

    pthread_mutex_t records_mutex; /* after `control`; also guards the chain in place */
    struct disk_record *records;   /* under it */
    _Atomic bool are_records_carried;
};

void disk_notify(const struct disk *disk, const char *name, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* event.c, all under `control` */
/* One callback of one station, with the time limit. 0, or -errno with "filter NAME: sentence". */
int station_tell(struct disk *disk, struct station *s, const struct sluice_event *event,
                 uint32_t phase, struct err *e) MUST_CHECK;
/* The same, for phases that cannot refuse. */
void station_inform(struct disk *disk, struct station *s, const struct sluice_event *event,
                    uint32_t phase);
/* `phase` to stations in order; on a refusal ABORT to those told, in reverse. */
int stations_prepare(struct disk *disk, struct station *const *stations, unsigned count,
                     const struct sluice_event *event, uint32_t phase, struct err *e) MUST_CHECK;
void stations_inform(struct disk *disk, struct station *const *stations, unsigned count,
                     const struct sluice_event *event, uint32_t phase);
void disk_abort_expired(struct disk *disk);
/* -EBUSY while a prepare waits for its commit: who changed the chain or the size, or opened the
 * gate after a pause of his own, would spoil what it was asked for.  A demotion is waited for,
 * without `control`: nobody else is asked to end it, and a disk that is deposed while its chain is
 * made would not be served. */
int disk_refuse_if_prepared(struct disk *disk, struct err *e) MUST_CHECK;

/* quiesce.c, under `control` */
int quiesce_begin(struct disk *disk, struct err *e) MUST_CHECK;
void quiesce_end(struct disk *disk);
int flush_as_maintenance(struct disk *disk, struct station *below);

/* identity.c */
int disk_save_identity(struct disk *disk, uint64_t size_bytes, struct err *e) MUST_CHECK;
int disk_mark_clean(struct disk *disk, struct err *e) MUST_CHECK;
int disk_load_identity(struct disk *disk, const struct disk_settings *settings,
                       struct backing_spec *spec, bool *is_new, struct err *e) MUST_CHECK;
int disk_check_backing(struct disk *disk, const struct backing_spec *spec, bool is_new,
                       struct err *e) MUST_CHECK;

/* role.c: as it was before the restart */
int disk_load_role(struct disk *disk, struct err *e) MUST_CHECK;

/* record.c */
/* The chain in place is this one from now on; those that are new there are told all. Under
 * `control`. */
void records_put_chain(struct disk *disk, struct station *const *stations, unsigned count);
void records_free(struct disk *disk);

/* watch.c */
void watch_add_disk(struct disk *disk);
void watch_remove_disk(struct disk *disk);

#endif
