/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * plugin.h: what the files of the nbdkit plugin share.  The plugin is a thin adapter: nbdkit's
 * worker threads are workers in the sense of io.h, each callback submits one request and sleeps
 * until it has ended.
 */
#ifndef SLUICE_NBDKIT_PLUGIN_H
#define SLUICE_NBDKIT_PLUGIN_H

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "control/control.h"
#include "stream.h"

/* Requests of a kind that are left to nbdkit, since beginning them early was in vain. Of who reads.
 */
struct early_pause {
    unsigned left, next; /* requests: of this pause, and of the next */
    unsigned alone;      /* in a row */
    _Atomic bool waits;  /* they wait for something; aside it is seen when they no longer do */
};

/* What of a connection is carried out aside. */
struct lane {
    /* Of who reads. */
    struct home *home; /* NULL: nothing has gone aside */
    struct stream *stream;
    struct aside *spare;
    /* Of the loop. */
    struct task task; /* answers what has ended */
    struct aside *ended, **last;
    unsigned at_once; /* in a row, that did not have to wait */
    /* From the loop to who reads. */
    _Atomic(struct aside *) returned;
};

/* One NBD connection that has chosen an export.  Immutable, but for what says otherwise. */
struct connection {
    struct list link;              /* of all, in cut.c */
    _Atomic bool is_cut;           /* the gateway serves its disk no more */
    struct gateway_export *export; /* a reference */
    struct disk_session *session;
    struct engine *engine;
    struct engine_capabilities can;
    uint64_t size_bytes; /* NBD tells a connection one size; a grown disk shows at the next one */
    bool is_read_only;
    struct early_pause pause_reading, pause_writing, pause_flushing;
    struct lane lane;
    _Atomic unsigned begun;       /* early, and waited for in nbdkit's callbacks */
    _Atomic bool has_stream;      /* it has claimed what its client sends, see early.c */
    _Atomic uint64_t next_log_ns; /* failures are logged once a second a connection */
};

extern struct gateway *plugin_gateway; /* set once, before any thread is made */

/* connection.c */
void *plugin_open(int readonly);
void plugin_close(void *handle);
int64_t plugin_get_size(void *handle);
int plugin_block_size(void *handle, uint32_t *minimum, uint32_t *preferred, uint32_t *maximum);
int plugin_can_write(void *handle);
int plugin_can_flush(void *handle);
int plugin_can_fua(void *handle);
int plugin_can_trim(void *handle);
int plugin_can_zero(void *handle);
int plugin_can_fast_zero(void *handle);
int plugin_can_extents(void *handle);
int plugin_can_cache(void *handle);
int plugin_can_multi_conn(void *handle);
int plugin_is_rotational(void *handle);

void plugin_describe_ip(const struct sockaddr *sa, char *text, size_t size);

/* cut.c */
void cut_add(struct connection *c);
void cut_remove(struct connection *c);
void cut_clients(void *context, struct disk *disk); /* any thread */

/* command-line.c */
unsigned plugin_window(void);
bool plugin_has_filters(void); /* of nbdkit, in front; true when it cannot be known */

/* imports.c: nbdkit's own calls of `name` go to `to`; -ENOENT, -ENOTSUP: they do not.  Before the
 * first connection. */
int imports_lead(const char *name, void *to);

/* hangup.c */
void hangup_guard(void); /* before the first connection */

/* early.c */
void early_install(void); /* before the first connection */
/* What of this request has begun in this thread, which is the caller's now; NULL: nothing. */
struct request *early_request(struct connection *c, unsigned op, uint64_t offset, uint32_t length);
int early_wait(struct connection *c, struct request *r); /* its errno, when it has ended */
const char *early_data(void); /* of a read that began here, when it has ended */
void early_abandon(void);     /* nbdkit will not ask for what has begun in this thread */

/* aside.c */
void aside_start(void); /* before the first connection, after the fork */
/* True: the request is carried out in a loop and answered there. */
bool aside_take(struct connection *c, struct stream *s, const struct stream_request *q);
void aside_close(struct connection *c); /* when all has been answered */

/* requests.c */
/* Logs it, not too often. NBD's number of the error. */
int plugin_note_failure(struct connection *c, const struct sluice_request *r, int error);
bool plugin_is_gone(struct connection *c); /* nothing is served any more */
int plugin_pread(void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags);
int plugin_pwrite(void *handle, const void *buf, uint32_t count, uint64_t offset, uint32_t flags);
int plugin_flush(void *handle, uint32_t flags);
int plugin_trim(void *handle, uint32_t count, uint64_t offset, uint32_t flags);
int plugin_zero(void *handle, uint32_t count, uint64_t offset, uint32_t flags);
int plugin_cache(void *handle, uint32_t count, uint64_t offset, uint32_t flags);
int plugin_extents(void *handle, uint32_t count, uint64_t offset, uint32_t flags,
                   struct nbdkit_extents *extents);

#endif
