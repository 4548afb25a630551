/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * backing-nbd: the transport over libnbd, used by the kinds nbd (a URI) and nbdkit (a child).
 * Private to this room.
 *
 * libnbd calls back with the handle locked, so from its callbacks nothing of it may be called: an
 * answer is put on conn->done, and conn_settle() deals with it after the call that caused it has
 * returned.  A handle that is dead or closed is thrown away, never used again.
 */
#ifndef SLUICE_BACKING_NBD_H
#define SLUICE_BACKING_NBD_H

#include "backing/backing-remote.h"

#include <libnbd.h>

struct nbd_conn {
    struct nbd_handle *handle;
    struct nbd_backing *owner; /* NULL: nobody wants it any more */
    struct loop *loop;
    struct watch watch;
    bool is_watched;
    bool is_connecting; /* a thread of its own is in nbd_aio_connect_uri() */
    bool is_up;
    struct list done;   /* answered, not yet told */
    struct task task;   /* into that thread, and back; later to the thread that ends the child */
    struct child child; /* nbdkit */
    bool has_child;
    char *uri; /* nbd: a copy for that thread */
    char error[160];
};

/* The transport's part of an op. */
struct nbd_op {
    struct list link; /* on conn->done */
    int64_t cookie;
    int error; /* positive errno */
    bool must_retire;
};

struct nbd_backing {
    struct remote remote;    /* first */
    struct nbd_conn *conn;   /* [L] */
    struct task settle_task; /* [L] */
    bool is_settle_posted;   /* [L] */

    char *uri;          /* [I] nbd */
    char *certificates; /* [I] nbd, or NULL */

    struct timer before_start; /* [L] nbdkit: its last child has not ended yet */
    char **argv;               /* [I] nbdkit: the command */
    bool is_volatile;          /* [I] nbdkit: what it holds dies with the child */
};

/* --- for the two kinds ---------------------------------------------------------------------- */

/* A handle with what this gateway wants of every server. NULL with the reason told by remote_down.
 */
struct nbd_conn *nbd_conn_new(struct nbd_backing *nb);
/* A connect call has begun; rc is what it returned. */
void nbd_conn_begun(struct nbd_conn *conn, int rc);
void nbd_conn_free(struct nbd_conn *conn);

/* The transport's functions but for connect. */
void nbd_disconnect(struct remote *r, bool is_graceful);
void nbd_send(struct remote *r, struct remote_op *op);

/* Opens nb, whose strings and transport are set; frees it on error. */
int nbd_backing_open(struct nbd_backing *nb, const struct backing_spec *spec, struct backing **out,
                     struct err *e) MUST_CHECK;
/* One that was never opened, or is closed. */
void nbd_backing_free(struct nbd_backing *nb);

#endif
