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

enum export_state { EXPORT_OPENING, EXPORT_READY, EXPORT_FAILED };

/* A configured disk and, once it is open, the disk itself.  It lives as long as it is in the list
 * or somebody holds a reference. */
struct gateway_export {
    struct list link;                           /* [E] in gateway.exports */
    struct gateway *gateway;                    /* [I] */
    char name[64];                              /* [I] */
    unsigned references;                        /* [E] one for the list */
    enum export_state state;                    /* [E] */
    char failure[1000];                         /* [E] why it is FAILED */
    struct disk *disk;                          /* [E] set once, when READY */
    struct config_ref *config;                  /* [E] what `policy` points into */
    const struct disk_config *policy;           /* [E] */
    struct station *station[CHAIN_FILTERS_MAX]; /* [C] the chain, in order */
    char station_name[CHAIN_FILTERS_MAX][64];   /* [C] */
    unsigned station_count;                     /* [C] */
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
    struct list exports; /* [E] sorted by name */
    _Atomic bool is_stopping;
    _Atomic int pending_signal;
    int signal_fd;            /* [I] eventfd: a signal is pending */
    int control_fd;           /* [I] after start */
    _Atomic unsigned clients; /* of the control socket */
    struct list watchers;     /* under watch_mutex */
    pthread_mutex_t watch_mutex;
    int stop_result; /* [C] */
    bool is_stopped; /* [C] */
    uint64_t started_ns;
};

/* config-ref */
struct config_ref *config_ref_new(struct gateway_config *config);
struct config_ref *config_ref_get(struct config_ref *ref);
void config_ref_put(struct config_ref *ref);

/* export.c */
struct gateway_export *export_new(struct gateway *g, const struct disk_config *policy);
struct gateway_export *export_find_locked(struct gateway *g, const char *name);
/* Opens the disk and its chain; leaves the export READY or FAILED. [C] */
void export_open(struct gateway_export *x);
/* Makes its chain that of `policy`; stations that stay are kept. [C] */
int export_change_chain(struct gateway_export *x, const struct disk_config *policy,
                        uint64_t *pause_ns, struct err *e) MUST_CHECK;
/* Out of the list; closed when the last reference goes. [C] */
void export_remove(struct gateway_export *x);
void export_set_policy(struct gateway_export *x, struct config_ref *config,
                       const struct disk_config *policy);

/* socket.c */
int control_socket_start(struct gateway *g, struct err *e) MUST_CHECK;
/* events.c */
void events_emit(struct gateway *g, const char *what, const char *object, const char *name,
                 const char *text);
void events_stream(struct gateway *g, int fd, bool is_now_only);
void events_start(struct gateway *g);

/* status.c */
json_t *status_of_export(struct gateway_export *x, bool with_tasks);

#endif
