/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * internal.h: the structs that the files of the control room share.
 *
 * Legend: [I] immutable after gateway_load(); [E] under exports_mutex; [C] under change_mutex,
 * which serialises start, reload and stop and is held for as long as they take; [A] atomic. Order:
 * change_mutex before exports_mutex; neither is held across a call into a filter.
 */
#ifndef SLUICE_CONTROL_INTERNAL_H
#define SLUICE_CONTROL_INTERNAL_H

#include "control/control.h"
#include "control/request.h"
#include "peer/peer.h"

enum export_state { EXPORT_OPENING, EXPORT_READY, EXPORT_FAILED, EXPORT_LEAVING };

/* A filter in the chain of an export.  Filters may keep strings of their options, so the
 * configurations they came from are kept as long as the station. */
struct seat {
    struct station *station;
    char name[64];
    const struct filter_config *policy; /* what it was last told */
    struct config_ref *opened_with, *changed_with;
};

/* A configured disk and, once it is open, the disk itself.  It lives as long as it is in the list
 * or somebody holds a reference. */
struct gateway_export {
    struct list link;                 /* [E] in gateway.exports */
    struct gateway *gateway;          /* [I] */
    char name[64];                    /* [I] */
    unsigned references;              /* [E] one for the list */
    enum export_state state;          /* [E] */
    char failure[1000];               /* [E] why it is FAILED */
    struct disk *disk;                /* [E] set once, when READY */
    struct config_ref *config;        /* [E] what `policy` points into */
    const struct disk_config *policy; /* [E] */
    /* The chain, in order. Written under [C] and `use` for writing; whoever asks stations holds
     * `use` for reading, so that none is closed meanwhile. */
    struct seat seat[CHAIN_FILTERS_MAX];
    unsigned seat_count;
    pthread_rwlock_t use;
    char bypassed[600];     /* [E] why a filter is missing; "" */
    uint64_t retry_at_ns;   /* [E] FAILED: when to try again */
    unsigned failures;      /* [E] in a row */
    const char *told_state; /* the ticker's own: as last told to watchers */
    _Atomic bool is_removed;
};

/* A configuration shared by the gateway and the exports that still point into it. */
struct config_ref {
    struct gateway_config *config;
    _Atomic unsigned references;
};

struct gateway {
    struct gateway_options options; /* [I] strings owned */
    struct config_ref *config;      /* [E] the one in force */
    pthread_mutex_t change_mutex, exports_mutex;
    pthread_cond_t opened; /* with exports_mutex: an export is no longer OPENING */
    struct list exports;   /* [E] sorted by name */
    _Atomic bool is_stopping;
    _Atomic int pending_signal;
    int signal_fd;            /* [I] eventfd: a signal is pending */
    int control_fd;           /* [I] after start */
    _Atomic unsigned clients; /* of the control socket */
    struct list watchers;     /* under watch_mutex */
    pthread_mutex_t watch_mutex;
    _Atomic unsigned reloads_asked; /* by SIGHUP, and not yet done */
    pthread_mutex_t stop_mutex;     /* before change_mutex: one stop, and the others wait for it */
    int stop_result;                /* under stop_mutex */
    _Atomic bool is_stopped;        /* written under stop_mutex */
    uint64_t started_ns;
    struct iscsi *iscsi; /* [I] after start; NULL: there are no portals */
    _Atomic uint64_t iscsi_logins, iscsi_refused, iscsi_logouts;
    char name[64];       /* [I] after start; "" of an inline disk */
    struct peers *peers; /* [I] after start; NULL: there is no link to other gateways */
};

/* config-ref */
struct config_ref *config_ref_new(struct gateway_config *config);
struct config_ref *config_ref_get(struct config_ref *ref);
void config_ref_put(struct config_ref *ref);

/* export.c */
struct gateway_export *export_new(struct gateway *g, struct config_ref *config,
                                  const struct disk_config *policy);
void export_free(struct gateway_export *x);
struct gateway_export *export_find_locked(struct gateway *g, const char *name);
struct gateway_export *export_find(struct gateway *g, const char *name);
/* Puts it in its place by name. */
void export_insert(struct gateway *g, struct gateway_export *x);
/* Opens the disk and its chain; leaves the export, which is OPENING, READY or FAILED. */
void export_open(struct gateway_export *x);
/* Opens all that are OPENING, some at a time, and waits at most until then; the rest goes on. */
void exports_open(struct gateway *g, uint64_t until_ns);
/* Waits until none is OPENING; false when that takes longer. */
bool exports_wait_opened(struct gateway *g, uint64_t until_ns, char *name, size_t size);
/* Those that FAILED and whose time has come are opened in the background. */
void exports_retry(struct gateway *g, uint64_t now_ns);
/* Out of the list.  Without clients its filters are told DETACH at once and may refuse; with
 * clients (is_forced) the disk is closed when the last one has let go. [C] */
int export_remove(struct gateway_export *x, bool is_forced, struct err *e) MUST_CHECK;
void export_set_policy(struct gateway_export *x, struct config_ref *config,
                       const struct disk_config *policy);
/* References of front ends and of those who look. */
unsigned exports_take(struct gateway *g, const char *name, struct gateway_export **out,
                      unsigned most);

/* chain.c */
struct chain_change {
    unsigned swaps;
    uint64_t pause_ns; /* of all of them */
    uint64_t deferred; /* requests that filters held at each, at least */
};
/* Makes its chain that of `policy`; stations that stay are kept. [C] or OPENING */
int export_change_chain(struct gateway_export *x, struct config_ref *config,
                        const struct disk_config *policy, struct chain_change *change,
                        struct err *e) MUST_CHECK;
/* LIVE options and on_stall of one filter. [C] */
int export_change_policy(struct gateway_export *x, struct config_ref *config,
                         const struct filter_config *policy, struct err *e) MUST_CHECK;
/* Out of every chain, or the disk is closed. */
void export_close_stations(struct gateway_export *x);

/* gateway.c: a thread for the life of the gateway. */
int control_start_thread(void *(*run)(void *), void *arg, struct err *e) MUST_CHECK;
/* gateway.c: to the service manager, after a start and after a reload. [C] */
void gateway_tell_ready(struct gateway *g);

/* targets.c */
int targets_start(struct gateway *g, struct err *e) MUST_CHECK;
int targets_listen(struct gateway *g, struct err *e) MUST_CHECK;
void targets_stop(struct gateway *g);
/* What initiators are told of their paths: standby but on a primary. */
void targets_set_access(struct gateway *g, struct disk *disk, uint32_t role);
/* After the state of an export changed. */
void targets_update_starting(struct gateway *g);
/* Makes the open disk a LUN as its policy says, or none any more. What fails is logged. Blocks. */
void export_set_target(struct gateway_export *x);
void export_unset_target(struct gateway_export *x);
json_t *export_target_json(struct gateway_export *x); /* [E] */
json_t *targets_sessions_json(struct gateway *g);
void targets_metrics(struct gateway *g, FILE *out);

/* roles.c */
void roles_start(struct gateway *g);

/* link.c */
int peer_link_start(struct gateway *g, struct err *e) MUST_CHECK;
/* The configuration has changed, or the certificates may have. */
void peer_link_reload(struct gateway *g, const struct gateway_config *config);
void peer_link_stop(struct gateway *g);
json_t *peer_link_json(struct gateway *g);
/* The gateway's own certificate and its authority's: the files, and when each ends. */
json_t *certificates_json(const struct gateway_config *config);

/* failover.c: two verbs, and what a peer asks (struct peers_settings.asked). May block. */
int failover_answer(struct gateway *g, const json_t *request, json_t *answer,
                    struct err *e) MUST_CHECK;
int peer_check_answer(struct gateway *g, json_t *answer);
char *failover_asked(void *context, const char *peer, const char *question);

/* socket.c */
int control_socket_start(struct gateway *g, struct err *e) MUST_CHECK;
/* events.c */
void events_emit(struct gateway *g, const char *what, const char *object, const char *name,
                 const char *text);
void events_stream(struct gateway *g, int fd, bool is_now_only);
void events_start(struct gateway *g);

/* status.c */
json_t *status_of_export(struct gateway_export *x, bool with_tasks);

/* judge.c */
#define WINDOWS_MAX 256u
struct window {
    uint64_t session, oldest_ns;
    unsigned in_flight, held;
    bool is_nbd;
    char client[96], filter[64];
    const char *reason; /* a string constant of the filter */
};
struct windows {
    struct window window[WINDOWS_MAX];
    unsigned count, late; /* late: past the deadline and held for no stated reason */
    uint64_t deadline_ns, oldest_at_gate_ns, oldest_hold_ns;
    char late_where[80], hold_filter[64];
    const char *hold_reason;
};
/* The first, and worst, trouble of a disk. */
struct health {
    const char *state; /* "failed", "suspended", "degraded", "ok" */
    char sentence[600], remedy[400];
};
void windows_look(struct windows *w, const struct request_view *v);
/* NULL for none: what to say of a window that has been full for a while. */
const struct window *windows_find_full(const struct windows *w, unsigned limit);
/* Under `use`. w: filled when the disk is open. */
void export_judge(struct gateway_export *x, struct windows *w, struct health *h);

/* ticker.c: once a second: retries, changes of state, the service manager's watchdog. */
int ticker_start(struct gateway *g, struct err *e) MUST_CHECK;

/* space.c: what file systems have left, for the initiators of the disks in them. */
int space_start(struct gateway *g, struct err *e) MUST_CHECK;

/* answer.c: the answer to any request but a watch, and to a line that is no request. NULL only for
 * ENOMEM. */
json_t *control_answer(struct gateway *g, const struct control_request *q) MUST_CHECK;
json_t *control_refusal(const struct err *e) MUST_CHECK;

#endif
