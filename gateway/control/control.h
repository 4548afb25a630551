/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * control: one running gateway: its configuration, its disks as exports, reload, stop, the control
 * socket, status, events and metrics.
 *
 * Order of calls: gateway_load() (parses and checks; no threads, nothing opened for writing; before
 * a fork), gateway_start() (after it), then everything else from any thread, gateway_stop() last.
 * A disk that cannot be opened does not stop the others: it is shown as failed with its sentence,
 * its export is refused, and it is tried again from time to time.
 */
#ifndef SLUICE_CONTROL_H
#define SLUICE_CONTROL_H

#include "config/config.h"
#include "host/host.h"
#include "iscsi/iscsi.h"

struct gateway;
struct gateway_export;

/* --- life ------------------------------------------------------------------------------------- */

struct gateway_options {
    /* Exactly one of the two. Copied. */
    const char *folder;        /* config=DIR */
    const char *disk_document; /* disk='{...}': one disk, no state, no listeners */
    const char *disk_name;     /* the inline disk's name; NULL: "disk" */
    int control_fd;         /* a listening Unix socket, owned from here on (close-on-exec is set);
                             * -1: gateway_start() binds listen.control, an inline disk has none */
    unsigned nbdkit_minor;  /* nbdkit 1.N; 0: unknown */
    unsigned nbd_in_flight; /* requests of one NBD connection at once; 0: as configured */
    /* After a stop that was ordered by a signal or over the control socket, when gateway_stop() has
     * returned; on a control thread; must not return (the plugin: _exit(status)). NULL: nothing is
     * called and the gateway stays there, stopped. */
    void (*stopped)(void *context, int status);
    /* A disk was demoted: its clients over NBD are to be disconnected.  May block.  NULL: nobody
     * is. */
    void (*demoted)(void *context, struct disk *disk);
    void *context;
};

/* 0, or a negative errno after the reasons were printed to `errors`, one line each. */
int gateway_load(const struct gateway_options *options, struct gateway **out,
                 FILE *errors) MUST_CHECK;
/* What was loaded but never started: once it has been, its control threads use it until the process
 * ends, also after a stop. */
void gateway_free(struct gateway *gateway);

/* Once, after the fork: service threads, disks (in parallel), control socket; tells the service
 * manager READY.  An error is one that leaves nothing to serve; a failed disk is none. */
int gateway_start(struct gateway *gateway, struct err *e) MUST_CHECK;

/* For signal handlers (async-signal-safe): SIGHUP reloads, SIGTERM and SIGINT stop; others are
 * ignored. Before gateway_start() it is remembered. */
void gateway_signal(struct gateway *gateway, int signal_number);

/* Stops all disks in parallel (hold, drain, flush, clean mark), ends children of backings. 0, or
 * -ETIMEDOUT / -EIO when a disk could not be stopped cleanly (logged). New exports are refused from
 * the beginning; requests of clients stay held for good.  Blocks; the second caller waits. */
int gateway_stop(struct gateway *gateway);

/* The path of the control socket; NULL: there is none. */
const char *gateway_control_path(const struct gateway *gateway);

/* The window of one NBD connection: limits.nbd_in_flight, unless nbdkit was started otherwise. */
unsigned gateway_nbd_in_flight(struct gateway *gateway);

/* --- exports ---------------------------------------------------------------------------------- */

/* Who wants in. */
struct gateway_client {
    const struct sockaddr *server; /* the address it connected to; NULL: not known, then `client`
                                    * stands for it (a loopback peer came to a loopback listener) */
    const struct sockaddr *client; /* AF_UNIX for a Unix socket */
    bool is_tls;
};

/*
 * Finds the disk `name` ("" is the only disk of a gateway that has one) and takes a reference: a
 * disk that is removed stays open until its last reference is released.  -ENOENT, -ESHUTDOWN,
 * -EAGAIN (still opening), -EIO (failed) with a sentence for the log.  Does not block.
 */
int gateway_export_acquire(struct gateway *gateway, const char *name, struct gateway_export **out,
                           struct err *e) MUST_CHECK;
/* After disk_session_close(). Does not block: a removed disk is closed by a control thread. */
void gateway_export_release(struct gateway_export *e);

/* May this client have it over NBD now: enabled, networks, TLS. 0, or -EACCES with a sentence. */
int gateway_export_admit(struct gateway_export *e, const struct gateway_client *client,
                         struct err *err) MUST_CHECK;
struct disk *gateway_export_disk(struct gateway_export *e);
const char *gateway_export_name(const struct gateway_export *e);
bool gateway_export_is_exclusive(struct gateway_export *e);
bool gateway_export_is_read_only(struct gateway_export *e);
/* Removed by force while it was mounted: fail every further request with ESHUTDOWN.  One relaxed
 * load; asked before each request. */
bool gateway_export_is_removed(const struct gateway_export *e);

/* Calls fn for each export that is listed and that `client` (NULL: anybody) would be admitted to,
 * in the order of names. description: one line for people. Strings live until fn returns. */
void gateway_for_each_export(struct gateway *gateway, const struct gateway_client *client,
                             void (*fn)(const char *name, const char *description, void *arg),
                             void *arg);
/* The name that "" stands for; NULL when there is more or less than one disk. malloc'ed. */
char *gateway_default_export(struct gateway *gateway);

/* --- reload ----------------------------------------------------------------------------------- */

struct reload_options {
    bool is_dry_run; /* parse, check and plan only */
    bool is_forced;  /* disks with clients may be removed */
};

/*
 * Reads the folder anew, plans and applies; on any error the running state stays as it was and the
 * error says so.  *report (JSON, may be NULL): {"actions": [{"kind", "disk", "text",
 * "pause_ns", "deferred"}...], "problems": ["file:line:column: ..."], "refused", "needs_restart"}.
 * Blocks; one at a time.
 */
int gateway_reload(struct gateway *gateway, const struct reload_options *options, json_t **report,
                   struct err *e) MUST_CHECK;

/* --- looking ---------------------------------------------------------------------------------- */

/* All numbers in base units, null for unknown; "schema_version": 1. disk: one by name, NULL: all.
 * NULL for ENOMEM or no such disk. */
json_t *gateway_status(struct gateway *gateway, const char *disk) MUST_CHECK;
/* Prometheus text format 0.0.4. */
int gateway_metrics(struct gateway *gateway, FILE *out);

/* --- the control protocol -----------------------------------------------------------------------
 */

/*
 * A Unix stream; one JSON document a line each way: {"verb": "status", ...} and {"ok": true, ...}
 * or
 * {"ok": false, "error": "sentence", "exit": N}, where N is what the command exits with: 1 error, 2
 * false or unhealthy, 3 usage.  `watch` answers with one document an event until either side
 * closes.
 */
#define CONTROL_REQUEST_MAX 65536u /* bytes of one line from a client */
#define CONTROL_EXIT_ERROR 1
#define CONTROL_EXIT_FALSE 2
#define CONTROL_EXIT_USAGE 3

/* Binds the Unix socket, mode 0600; a stale one is replaced only when nobody answers there. *fd. */
int control_listen(const char *path, int *fd, struct err *e) MUST_CHECK;

/* --- the other end of it, for the command line ---------------------------------------------------
 */

struct control_client;
int control_connect(const char *path, struct control_client **out, struct err *e) MUST_CHECK;
/* *reply is the whole answer, also one with "ok": false. -EPIPE when the gateway went away. */
int control_call(struct control_client *client, const json_t *request, json_t **reply,
                 struct err *e) MUST_CHECK;
/* The next document of a stream; -EPIPE at its end. */
int control_next(struct control_client *client, json_t **document, struct err *e) MUST_CHECK;
void control_disconnect(struct control_client *client);

/* --- the service manager -------------------------------------------------------------------------
 */

/* One datagram to $NOTIFY_SOCKET, sd_notify(3); nothing without it. */
void service_notify(const char *fmt, ...) PRINTF_LIKE(1, 2);

/* Folders of $SLUICE_FILTER_PATH, separated by colons, when it is set: host_set_filter_path(). */
int gateway_set_filter_path(struct err *e) MUST_CHECK;

#endif
