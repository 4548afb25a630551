/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * backing-remote: what the backings behind a connection have in common: requests that wait for a
 * lost server, changes kept until they are stable, reconnection, replay, deadlines, status. Private
 * to this room.  A transport (libnbd, libiscsi) only connects, sends one command and answers.
 *
 * The generation rule.  Each loss of a connection raises the generation.  What was acknowledged and
 * not flushed is written again, in order, before anything else is sent; a flush is sent only after
 * that, so its success covers it.  Where a change could not be written again, or the server
 * reported a failed flush, the error is sticky: every flush fails until the backing is opened anew
 * by order.
 *
 *     CONNECTING -> REPLAYING -> READY         up, everything kept written again
 *          ^  \_________|_________/
 *          |            v
 *          '-------- PAUSED                    lost; the timer tries again, for ever
 *     any -> REFUSED                           what came back is not what was there
 *
 * Everything here runs in the service loop, but for what is marked [any thread] or [control].
 * Legend: [I] immutable after open; [L] the loop only; [S] guarded by status_mutex.
 */
#ifndef SLUICE_BACKING_REMOTE_H
#define SLUICE_BACKING_REMOTE_H

#include "backing/backing-kept.h"
#include "backing/backing-ops.h"
#include "backing/backing-service.h"

struct remote;
struct doubt;

/* Replayed at once, where they do not overlap. */
#define REPLAY_WINDOW 32

/* What a connection learnt of the server. */
struct remote_facts {
    uint64_t size_bytes;
    unsigned block_bytes, preferred_bytes;
    uint64_t max_transfer_bytes; /* of one read, write or prefetch command */
    uint64_t max_zero_bytes;     /* of one zero command */
    uint64_t max_trim_bytes;     /* of one trim command */
    uint64_t max_extents_bytes;
    bool is_read_only, is_rotational;
    bool can_fua_zero; /* FUA for zero and trim too */
    bool can_flush, can_fua, can_trim, can_zero, can_fast_zero, can_extents, can_prefetch;
    char identity[256]; /* empty: the server has no name of its own */
};

enum remote_op_kind { OP_GUEST, OP_REPLAY, OP_OWN_FLUSH };

/* One thing to do: a request, a kept change to write again, or a flush of our own.  Sent as one
 * command at a time: [offset + done, + chunk) of it, with data + done. [L] */
struct remote_op {
    struct list link; /* waiting, flying or spare */
    struct remote *remote;
    enum remote_op_kind purpose;
    enum io_kind kind; /* what is sent: a change that is to be flushed becomes IO_FLUSH then */
    uint32_t flags;    /* as sent: IO_FUA only to servers that know it */
    uint64_t offset, length, done, chunk;
    char *data;
    struct extents *extents;
    struct io *io; /* OP_GUEST */
    uint64_t reserved;
    bool is_kept;        /* its change is a record already */
    bool is_sent_again;  /* it was under way when a line was lost */
    uint64_t record_seq; /* OP_REPLAY: of its record */
    uint64_t flush_seq;  /* IO_FLUSH: what it makes stable */
    uint64_t since_ns;   /* when it was sent, or began to wait for a lost server */
    struct task task;    /* the transport's */
    _Alignas(max_align_t) unsigned char extra[]; /* the transport's, op_bytes of it */
};

struct transport {
    size_t op_bytes;
    uint64_t connect_timeout_ns;
    uint64_t backoff_ns; /* the first pause after a loss; doubled up to a second */
    /* Begins an attempt; answered by remote_up(), remote_down() or remote_refuse(). */
    void (*connect)(struct remote *r);
    /* Ends the attempt or connection at once: afterwards nothing comes from it any more and no op's
     * data is touched.  Also called when there is none. */
    void (*disconnect)(struct remote *r, bool is_graceful);
    /* Sends op's command, of which it may shorten the chunk; answered by remote_done(), never from
     * inside.  When the connection is gone already, it does nothing: disconnect follows and takes
     * the op back. */
    void (*send)(struct remote *r, struct remote_op *op);
    /* Optional: reads the size anew in the connection that is, then remote_size().  Without it a
     * refresh reconnects. */
    void (*refresh)(struct remote *r);
};

enum remote_state {
    REMOTE_IDLE, /* before the first attempt, and after it failed */
    REMOTE_CONNECTING,
    REMOTE_REPLAYING,
    REMOTE_READY,
    REMOTE_PAUSED,
    REMOTE_REFUSED,
};

/* The control thread waiting for the loop; on its stack. */
struct remote_waiter {
    pthread_mutex_t mutex; /* guards the rest */
    pthread_cond_t cond;
    bool is_done;
    uint64_t size_bytes;
    struct err err;
};

struct remote {
    struct backing backing;            /* first */
    const struct transport *transport; /* [I] */
    struct loop *loop;                 /* [I] */
    char *name;                        /* [I] what it is, for messages: a URI without secrets */
    char *disk;                        /* [I] */
    bool is_hang_kept;     /* [I] a silent server is never dropped: what it holds would be gone */
    uint64_t reconnect_ns; /* [I] 0: for ever */
    uint64_t settle_ns;    /* [I] so long after a loss a server may still work; 0: it cannot */
    char identity[256];    /* [I] */

    enum remote_state state;     /* [L] */
    bool is_known;               /* [L] was up once: info stands */
    bool is_draining;            /* [L] nothing is sent; reconnects when nothing flies */
    bool wants_flush;            /* [L] flush after the replay, by order of reopen */
    struct remote_facts facts;   /* [L] */
    struct kept kept;            /* [L] */
    struct list waiting;         /* [L] not sent */
    struct list flying;          /* [L] sent, not answered */
    struct list spare;           /* [L] ops kept ready for replay, so that it needs no memory */
    struct remote_op *own_flush; /* [L] always there; its link is empty while it rests */
    struct list recycled;        /* [L] ops of finished requests */
    const struct kept_record *replay_last; /* [L] the last one sent again */
    unsigned replay_flying;                /* [L] */
    unsigned replay_failed;                /* [L] */
    int sticky;                            /* [L] positive errno */
    uint64_t backoff_ns;                   /* [L] the next pause; 0: the first */
    struct timer retry;         /* [L] the end of the pause, or of patience with an attempt */
    struct list doubts;         /* [L] see backing-doubt.c */
    struct doubt *doubt_of_all; /* [L] for want of memory */
    struct timer settled;       /* [L] the first doubt ends */
    struct timer tick;          /* [L] looks for those who waited too long */
    struct task end_task;       /* [L] deals with a loss outside of the transport's callbacks */
    enum { END_NONE, END_RESTART, END_LOST, END_REFUSED } end; /* [L] noted, not yet dealt with */
    bool is_end_posted;                                        /* [L] */
    char reason[200];                                          /* [L] of the loss */
    struct remote_waiter *waiter;                              /* [L] */
    uint64_t lost_ns;                                          /* [L] 0: not lost */
    uint64_t generation, reconnects, replayed;                 /* [L] */

    pthread_mutex_t status_mutex;
    struct {
        enum remote_state state;
        uint64_t generation, reconnects, replayed, lost_ns, silent_ns;
        int sticky;
        char reason[200];
    } seen; /* [S] */
};

/* --- for the kinds --------------------------------------------------------------------------- */

/* [control] r is zeroed, with name and transport set; connects once.  On error the caller frees r
 * by remote_destroy(). */
int remote_open(struct remote *r, const struct backing_spec *spec, struct err *e) MUST_CHECK;
/* [control] Disconnects; afterwards the loop knows nothing of r. */
void remote_close(struct remote *r);
/* [control] Frees what r owns, not r; also where remote_open() was never called. */
void remote_destroy(struct remote *r);

/* [any thread] The table's functions. */
enum io_status remote_submit(struct backing *b, struct io *io) MUST_CHECK;
void remote_status(struct backing *b, struct backing_status *out);
void remote_identity(const struct backing *b, char *out, size_t out_size);
/* [control] */
int remote_refresh(struct backing *b, struct err *e) MUST_CHECK;
int remote_reopen(struct backing *b, struct err *e) MUST_CHECK;

/* --- for transports -------------------------------------------------------------------------- */

/* The attempt succeeded. */
void remote_up(struct remote *r, const struct remote_facts *facts);
/* The attempt failed or the connection is lost; dealt with later in this turn. */
void remote_down(struct remote *r, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* It must not be tried again. */
void remote_refuse(struct remote *r, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* The answer to op's command: 0 or -errno. */
void remote_done(struct remote_op *op, int result);
/* The server says its size now is that; by itself or asked by refresh. */
void remote_size(struct remote *r, uint64_t size_bytes);

/* --- between backing-remote.c, backing-link.c and backing-flight.c ---------------------------- */

void link_init(struct remote *r);
void link_connect(struct remote *r);
void link_replayed(struct remote *r);
/* Ends what is and begins anew; the second form from anywhere, later in this turn. */
void link_restart(struct remote *r, const char *reason);
void link_restart_later(struct remote *r, const char *fmt, ...) PRINTF_LIKE(2, 3);
void link_stop(struct remote *r);
/* Somebody waits: looks from time to time whether for too long. */
void link_watch(struct remote *r);
void link_tell(struct remote *r, int code, const char *text);
void link_publish(struct remote *r);

int doubt_init(struct remote *r) MUST_CHECK;
void doubt_free(struct remote *r);
/* op was sent and not answered when the line was lost. */
void doubt_note(struct remote *r, const struct remote_op *op);
/* A change that must not be sent yet, or a record: it is newer than what may still arrive. */
bool doubt_keeps(const struct remote *r, const struct remote_op *op);
bool doubt_keeps_record(const struct remote *r, const struct kept_record *record);

int flight_init(struct remote *r, uint64_t keep_bytes);
void flight_free(struct remote *r);
void flight_enter(struct task *task);
/* Sends what may be sent. */
void flight_pump(struct remote *r);
/* Begins or goes on to write again what is kept; ends in link_replayed(). */
void flight_replay(struct remote *r);
/* False: one is on its way, or there is none to send. */
bool flight_own_flush(struct remote *r);
/* Takes everything back from a connection that is gone. */
void flight_park(struct remote *r);
/* Lost: whoever waits from now on waits for the server to come back. */
void flight_begin_waiting(struct remote *r, uint64_t now_ns);
/* Answers everything that waits. */
void flight_fail_all(struct remote *r, int result);
/* Answers what has waited too long.  The oldest moment somebody waits since, or 0. */
uint64_t flight_expire(struct remote *r, uint64_t now_ns, bool *is_silent);
void flight_sticky(struct remote *r, int code, const char *what);

#endif
