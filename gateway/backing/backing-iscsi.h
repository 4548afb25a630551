/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * backing-iscsi: the transport over libiscsi, in three parts: the session (backing-iscsi.c), what
 * the logical unit can do (backing-iscsi-lun.c), commands and their answers
 * (backing-iscsi-command.c). Private to this room; everything runs in the service loop.
 *
 * libiscsi's own reconnection is off: it knows nothing of what a target forgets.  From its
 * callbacks new commands may be queued, but the context is never destroyed there: a loss is noted
 * with remote_down() and the context goes when the loop is out of libiscsi again.
 */
#ifndef SLUICE_BACKING_ISCSI_H
#define SLUICE_BACKING_ISCSI_H

#include "backing/backing-remote.h"

#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>

/* What the logical unit says of itself, in blocks. */
struct lun {
    unsigned block_bytes;
    uint64_t max_write_same; /* 0: says nothing */
    uint32_t max_unmap;
    uint32_t unmap_granule, unmap_align; /* granule 0 or 1: any block */
    bool has_write_same;
    bool unmaps_by_write_same; /* LBPWS */
    bool unmaps;               /* LBPU, and LBPRZ says that it reads back as zeros */
    bool reads_zeros;          /* LBPRZ */
    bool is_thin;              /* LBPME */
};

struct iscsi_conn {
    struct iscsi_context *context;
    struct iscsi_backing *owner; /* NULL: nobody wants it any more */
    struct loop *loop;
    struct watch watch;
    bool is_watched;
    bool is_connecting; /* a thread of its own is in iscsi_connect_async() */
    bool is_up;
    bool is_ending;    /* its callbacks only free their tasks */
    int rc;            /* of iscsi_connect_async() */
    struct task task;  /* into that thread and back */
    struct timer beat; /* every second: libiscsi's own time-outs, and NOP-Out */
    unsigned beats, missed;
    struct timer pause; /* before a step of the probe is tried again */
    unsigned step, tries;
    char portal[MAX_STRING_SIZE + 1]; /* a copy for that thread */
    struct remote_facts facts;
    struct lun lun;
};

struct iscsi_backing {
    struct remote remote;               /* first */
    struct iscsi_conn *conn;            /* [L] */
    struct task kick_task;              /* [L] writes what was queued in this turn */
    bool is_kick_posted;                /* [L] */
    struct task redirect_task;          /* [L] */
    char redirect[MAX_STRING_SIZE + 1]; /* [L] where the target wants us to go, for one attempt */
    unsigned redirects;                 /* [L] */

    struct iscsi_url *url; /* [I] */
    char *initiator;       /* [I] */
    char *user, *secret;   /* [I] or NULL */
    uint32_t isid;         /* [I] the same for every login: a new session takes the old one's place
                              and ends its tasks (RFC 7143, 6.3.5) */
};

/* The transport's part of an op. */
struct iscsi_op {
    struct scsi_iovec iov;
    struct timer again;
    unsigned tries;
};

static inline struct iscsi_backing *iscsi_backing_of(struct remote *r)
{
    return CONTAINER_OF(r, struct iscsi_backing, remote);
}

/* --- backing-iscsi.c -------------------------------------------------------------------------- */

/* Something was queued: write it in this turn. */
void iscsi_kick(struct iscsi_backing *ib);
/* The session is gone. */
void iscsi_broke(struct iscsi_conn *conn);
/* The probe is over. */
void iscsi_probed(struct iscsi_conn *conn);

/* --- backing-iscsi-lun.c ---------------------------------------------------------------------- */

/* Asks what the logical unit can do; ends in iscsi_probed() or remote_down(). */
void iscsi_probe(struct iscsi_conn *conn);
void iscsi_probe_again(struct timer *timer);
/* Reads the size once more. */
void iscsi_read_capacity(struct iscsi_conn *conn);
/* GET LBA STATUS parameter data (SBC-4 5.6.2), the runs from first_lba on. 0 or -ENOMEM. */
int lun_add_extents(const struct lun *lun, const uint8_t *data, size_t size, uint64_t first_lba,
                    struct extents *x) MUST_CHECK;

/* --- backing-iscsi-command.c ------------------------------------------------------------------ */

enum verdict {
    VERDICT_DONE,
    VERDICT_RETRY,       /* at once */
    VERDICT_LATER,       /* it is busy */
    VERDICT_RESET,       /* it may have forgotten what was not flushed */
    VERDICT_LOST,        /* the session is gone */
    VERDICT_UNSUPPORTED, /* no such command, or not like that */
    VERDICT_FAIL,
};
/* What an answer means; *error is the errno for VERDICT_FAIL. */
enum verdict iscsi_judge(const struct scsi_task *task, int status, int *error);
bool iscsi_capacity_changed(const struct scsi_task *task, int status);

void iscsi_send(struct remote *r, struct remote_op *op);
/* No timer of an op fires any more. */
void iscsi_calm(struct remote *r);

#endif
