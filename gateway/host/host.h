/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * host: keeps what sluice-filter.h promises: finds and loads filters, checks their tables, makes
 * stations on disks, and implements the host table (own I/O, locks, timers, workers, files, state,
 * counters, health, shared state).
 *
 * Filters are opened RTLD_LOCAL|RTLD_NOW|RTLD_NODELETE and never closed: threads may be inside.
 */
#ifndef SLUICE_HOST_H
#define SLUICE_HOST_H

#include "disk/disk.h"

#include <jansson.h>
#include <stdio.h>

/* --- loader --------------------------------------------------------------------------------- */

/* Folders searched for NAME.so, first wins; default: installation.filters. Copied. */
int host_set_filter_path(const char *const *folders, unsigned count) MUST_CHECK;
/* name: a filter's name, or a path with a slash.  Loads once; checks versions, names, every
 * operation handled or unseen, holds_data with extents and prefetch, and the tables.  (Whether a
 * filter that defers has a cancel callback cannot be seen: without one it counts as busy whenever
 * it is asked.) NULL with a sentence. */
const struct sluice_filter *host_find_filter(const char *name, struct err *e) MUST_CHECK;
/* The checks alone, for a table in memory (tests, kit). 0 or -EINVAL. */
int host_check_filter(const struct sluice_filter *filter, struct err *e) MUST_CHECK;
/* Calls fn for every filter found in the path (loads them); broken ones with filter NULL and the
 * reason.  Libraries that do not export a filter are passed over, unloaded. */
void host_for_each_filter(void (*fn)(const char *path, const struct sluice_filter *filter,
                                     const char *broken, void *arg),
                          void *arg);
/* For "did you mean": names in the path, NULL-terminated, malloc'ed block freed by free(). */
const char **host_filter_names(void);
const char *host_class_name(uint32_t filter_class);
/* The table as JSON: `sluice filter show --json`. */
json_t *host_filter_describe(const struct sluice_filter *filter);

/* --- values --------------------------------------------------------------------------------- */

/* One option from text ("64MiB") with range checks; *out.string points into `text` or the table. */
int host_parse_value(const struct sluice_option *option, const char *text, struct sluice_value *out,
                     struct err *e) MUST_CHECK;
/* A whole set from "name=text" words over defaults; *out is one malloc'ed block. */
int host_parse_values(const struct sluice_filter *filter, const char *const *words, unsigned count,
                      struct sluice_value **out, struct err *e) MUST_CHECK;

/* --- services ------------------------------------------------------------------------------- */

/* Service loops, worker pool; once, after the fork. memory_limit: of all filters together, 0: none.
 */
int host_start(unsigned service_loops, unsigned workers, uint64_t memory_limit,
               struct err *e) MUST_CHECK;
struct loop *host_service_loop(void);

/* The gateway's fast storage, by name: a folder, a file or a block device, and how much of it
 * filters may have.  Copied.  0 or -ENOMEM. */
struct host_tier {
    const char *name, *path;
    uint64_t size_bytes;
};
int host_set_tiers(const struct host_tier *tiers, unsigned count) MUST_CHECK;

/* --- channels to the peer gateway --------------------------------------------------------------
 */

struct host_channel_events {
    void (*connected)(void *context, const char *peer);
    void (*message)(void *context, const void *data, size_t length);
    void (*writable)(void *context);
    void (*lost)(void *context, const char *reason);
    void (*caught_up)(void *context);
};
/* How the filters' channels are carried; as the calls of the peer room.  peer NULL: the only one.
 */
struct host_channels {
    int (*open)(void *context, const char *peer, const char *key,
                const struct host_channel_events *events, void *event_context, void **carrier,
                struct err *e);
    void (*start)(void *carrier);
    int (*send)(void *carrier, const void *data, size_t length);
    int (*send_soon)(void *carrier, const void *data, size_t length);
    int (*queue)(void *carrier, const void *head, size_t head_length, const void *data,
                 size_t length);
    void (*flush)(void *carrier, bool is_soon);
    void (*pause)(void *carrier, bool is_paused);
    void (*close)(void *carrier);
};
/* Before the first station is opened; without it no filter can have a channel. */
void host_set_channels(const struct host_channels *table, void *context);

/* This gateway's name, for filters; the string must stay. */
void host_set_gateway(const char *name);

/* --- stations ------------------------------------------------------------------------------- */

struct station_settings {
    const char *name; /* the instance's */
    const struct sluice_value *values;
    enum stall_policy on_stall;
};
/* Opens an instance of the filter for this disk; not yet in its chain (disk_set_chain). Blocks. */
int host_station_open(struct disk *disk, const struct sluice_filter *filter,
                      const struct station_settings *settings, struct station **out,
                      struct err *e) MUST_CHECK;
/* Out of every chain, and before its disk is closed: stops its timers, waits for own I/O, work and
 * verbs, closes it.  What does not end within a minute is left behind and logged. Blocks. */
void host_station_close(struct station *station);

/* Status of a station: class, verdict counts, in flight, holds, time, own I/O, memory, errors,
 * health, progress, and the filter's own counters. */
json_t *host_station_status(struct station *station);
/* The worst health of a disk's stations and its sentence. */
uint32_t host_station_health(struct station *station, char *sentence, size_t sentence_size,
                             char *remedy, size_t remedy_size);
/* Prometheus lines of a station's own counters, appended to a FILE. */
void host_station_metrics(struct station *station, FILE *out);
/* The same for many, each metric once with its HELP and TYPE, as the format wants it. */
void host_metrics(struct station *const *stations, unsigned count, FILE *out);

/* `sluice FILTER VERB DISK ARGS`: runs a verb, *reply is its JSON ({"text": ..., keys...}). Blocks.
 */
int host_station_verb(struct station *station, const char *verb, int argc, const char *const *argv,
                      json_t **reply, struct err *e) MUST_CHECK;

/* Structured events of filters go where disk_set_notify() sends the disks'. */

/* --- the filter kit ------------------------------------------------------------------------- */

/* `sluice filter new`: makes `folder` with the source, Makefile, test, manifest and manual page of
 * a filter, from the templates in $SLUICE_KIT or where they are installed. */
int host_kit_create(const char *name, const char *class_name, const char *folder,
                    struct err *e) MUST_CHECK;

/*
 * `sluice filter check FILE.so`: drives every operation, event and cancel of the filter on a disk
 * in RAM, with option=value words, and prints one line for each check.  It runs in a child, so that
 * a filter that crashes or hangs is one that has failed: call it while the process has one thread.
 * 0, or -EINVAL when a check failed, or another errno when it could not be run.
 */
int host_kit_check(const char *so_path, const char *const *words, unsigned count, FILE *report,
                   struct err *e) MUST_CHECK;

#endif
