/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * internal.h: what the files of the iscsi room share: shards (a loop with its pools), connections,
 * tasks and what waits to be sent.
 *
 * A connection and its session are one struct: MaxConnections is 1.  All of it belongs to the loop
 * of its shard, but what is marked.  Nothing frees a connection or a task while a caller may still
 * hold it: conn_end() only asks for the end, which begins in a turn of its own.
 *
 * Legend: [I] immutable after creation; [R] under iscsi->mutex; [A] atomic; [J] handed to the
 * connection's job thread while is_job_running; all else: the loop's.
 */
#ifndef SLUICE_ISCSI_INTERNAL_H
#define SLUICE_ISCSI_INTERNAL_H

#include "io/io.h"
#include "iscsi/iscsi.h"
#include "iscsi/login.h"

#include <netinet/in.h>
#include <sys/socket.h>

#define COMMAND_WINDOW 128u /* commands of a session in flight: MaxCmdSN - ExpCmdSN + 1 at most */
#define IMMEDIATE_MAX 64u   /* beside them */
#define TASK_BUCKETS 64u
#define R2T_MAX 8u
#define SHARDS_MAX 64u
#define SESSION_BUFFER_BYTES (64u << 20) /* buffers of one session's writes; then BUSY */
#define READ_BUFFER_BYTES (4u << 20)     /* of its reads, but one of any length; then they wait */
#define OUT_HIGH_BYTES (4u << 20)        /* so much unsent: nothing more is read */

#define TICK_NS (UINT64_C(1000000000))
#define LOGIN_LIMIT_NS (10 * TICK_NS)
#define PING_AFTER_NS (15 * TICK_NS)
#define DEAD_AFTER_NS (30 * TICK_NS)
#define DATA_OUT_LIMIT_NS (60 * TICK_NS)
#define MANAGEMENT_LIMIT_NS (5 * TICK_NS)
#define LOGOUT_LIMIT_NS (5 * TICK_NS)

struct conn;
struct iscsi_task;
struct lun;
struct target;

/* --- shards
 * --------------------------------------------------------------------------------------- */

#define BUFFER_CLASSES 9 /* 4 KiB to 1 MiB, by powers of two; larger ones are not pooled */
#define RECEIVE_BYTES (256u << 10)

/* A PDU, or the rest of one, on its way out. */
struct out {
    struct out *next;
    uint8_t head[BHS_BYTES + DIGEST_BYTES];
    uint8_t tail[4 + DIGEST_BYTES]; /* padding, data digest */
    uint8_t head_bytes, tail_bytes;
    bool is_embedded; /* in a task */
    uint32_t data_bytes;
    const void *data;
    struct iscsi_task *task; /* goes when its last PDU has gone; NULL: none */
    void *owned;             /* freed after sending */
};

struct shard {
    struct iscsi *iscsi; /* [I] */
    struct loop *loop;   /* [I] */
    struct home *home;   /* [I] */
    unsigned index;      /* [I] */
    _Atomic unsigned conn_count;
    struct list conns;
    struct timer tick;
    uint64_t now_ns; /* of the last tick */
    uint8_t *buffer; /* [I] where all its connections receive */
    struct iscsi_task *free_tasks;
    struct out *free_outs;
    struct buffer *free_buffers[BUFFER_CLASSES];
    size_t pooled_bytes;
    struct task start_task, ask_task;
};

/* shard.c */
struct iscsi_task *task_take(struct shard *s) MUST_CHECK;
void task_give(struct shard *s, struct iscsi_task *task);
struct out *out_take(struct shard *s) MUST_CHECK;
void out_give(struct shard *s, struct out *out);
/* Page-aligned, at least `bytes`; *room: what it counts for. NULL for ENOMEM. */
void *buffer_take(struct shard *s, uint32_t bytes, uint32_t *room) MUST_CHECK;
void buffer_give(struct shard *s, void *buffer, uint32_t room);
int shard_create(struct iscsi *iscsi, unsigned index, struct shard **out, struct err *e) MUST_CHECK;

/* --- tasks
 * ------------------------------------------------------------------------------------------ */

enum task_state {
    TASK_RECEIVING, /* its data is on the way */
    TASK_HELD,      /* a read: answers before it have to leave first */
    TASK_RUNNING,   /* in the scsi room */
    TASK_SENDING    /* answered: only its PDUs are left */
};

struct r2t {
    uint32_t offset, bytes, tag;
};

struct iscsi_task {
    struct scsi_command scsi;
    struct conn *conn;
    struct list link;        /* conn->tasks, until it is answered */
    struct iscsi_task *next; /* in its bucket, or in the shard's pool */
    enum task_state state;
    uint32_t tag, expected_bytes;
    bool is_read, is_write, is_immediate;
    void *buffer;
    uint32_t buffer_room;
    /* Data-out. */
    uint32_t wanted_bytes; /* what goes into the buffer */
    uint32_t received;     /* so far, in order */
    uint32_t asked;        /* by R2Ts, up to here */
    uint32_t data_sn, r2t_sn;
    bool is_unsolicited_open; /* the initiator's first burst has not ended */
    bool has_lost_data;       /* a DataSN was out of order: refused when the rest has come */
    struct r2t r2t[R2T_MAX];
    unsigned r2t_first, r2t_count;
    uint64_t progress_ns;
    /* The answer. */
    unsigned outs_left;
    uint32_t data_in_sn;
    struct out out;
    uint8_t sense[2 + SCSI_SENSE_BYTES + 2];
};

/* --- connections
 * -------------------------------------------------------------------------------------- */

/* RFC 7143 8.1.2, the target's side of a connection. */
enum conn_state {
    CONN_IN_LOGIN,  /* S3 XPT_UP, S4 IN_LOGIN */
    CONN_LOGGED_IN, /* S5 */
    CONN_IN_LOGOUT, /* S6 */
    CONN_CLEANUP    /* S8: the socket has gone, the nexus is closing */
};

enum receiving { RECEIVE_HEAD, RECEIVE_DATA, RECEIVE_TAIL };

struct management {
    struct scsi_management scsi;
    struct conn *conn;
    struct list link;
    uint32_t tag;
    uint64_t due_ns;
    bool is_answered;
};

struct conn {
    struct shard *shard; /* [I] */
    struct list in_shard;
    struct watch watch;
    enum conn_state state;
    struct sockaddr_storage peer; /* [I] */
    char address[64], portal[64]; /* [I] */
    bool is_stranger; /* counts against the limit of connections that have not logged in */
    uint64_t began_ns, heard_ns, pinged_ns, deadline_ns;

    /* The end. */
    bool is_ending, is_end_posted;
    char reason[300];
    struct task end_task, free_task, remote_end_task;
    bool is_remote_end_posted; /* [R] */

    /* A thread that may block, for a while. */
    bool is_job_running;
    void (*job)(struct conn *conn);
    void (*job_finished)(struct conn *conn);
    struct task job_task;

    /* Receiving. */
    bool is_paused;
    enum receiving receiving;
    unsigned head_bytes, head_wanted;
    bool is_data_long;             /* of the PDU at hand, or the last one */
    uint32_t data_left, room_left; /* room: of data_left, what goes to `data` */
    uint8_t *data;
    uint32_t data_crc;
    unsigned tail_bytes, tail_wanted;
    uint8_t tail[4 + DIGEST_BYTES];
    uint8_t *scratch;             /* data of PDUs other than writes */
    void (*end)(struct conn *c);  /* what the PDU at hand is for */
    struct iscsi_task *data_task; /* whose data is being received */
    uint8_t head[HEAD_BYTES_MAX];

    /* Sending. */
    struct out *out_first, **out_last;
    size_t out_skip, out_bytes;
    bool is_flush_posted, is_waiting_to_write, is_ending_after_flush;
    struct task flush_task;

    /* Login. */
    struct login *login; /* [J] */
    struct task claim_task;
    bool is_waiting_for_claim; /* [R] in iscsi->waiters */
    struct list in_waiters;    /* [R] */

    /* Session. */
    struct session_parameters parameters;
    char initiator[ISCSI_NAME_BYTES]; /* [I] from login on */
    struct target *target;            /* [I] from login on; NULL: discovery */
    uint8_t isid[6];
    uint16_t tsih, cid;
    bool is_discovery, is_authenticated;
    bool is_claimed;          /* [R] in iscsi->sessions */
    bool is_shown;            /* [R] logged in: what a view shows is settled */
    struct list in_sessions;  /* [R] */
    struct scsi_nexus *nexus; /* [J] */
    bool is_nexus_closing;
    uint32_t expected_command_sn, status_sn;
    _Atomic unsigned window_used; /* [A] written by the loop alone */
    unsigned immediate_used;
    struct list tasks;
    struct iscsi_task *bucket[TASK_BUCKETS];
    size_t buffer_bytes, read_buffer_bytes; /* of writes, of reads */
    unsigned held_count;
    uint32_t next_target_tag, ping_tag;
    struct list managements;
    unsigned management_count;
    uint32_t logout_tag;
    bool is_logging_out;
    /* A text exchange under way. */
    char *text_in;
    size_t text_in_bytes;
    char *text_out;
    size_t text_out_bytes, text_out_sent;
    uint32_t text_tag;
    _Atomic uint64_t commands, bytes_in, bytes_out;
};

static inline unsigned conn_window_used(const struct conn *c)
{
    return atomic_load_explicit(&c->window_used, memory_order_relaxed);
}

/* conn.c */
void conn_accept(struct iscsi *iscsi, int fd, const struct sockaddr_storage *peer);
/* Asks for the end; the sentence is for the log. Repeated calls change nothing. */
void conn_end(struct conn *c, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* On a thread of its own; then finished() in the loop, unless the connection ends. */
void conn_start_job(struct conn *c, void (*job)(struct conn *c), void (*finished)(struct conn *c));
void conn_pause(struct conn *c, bool is_paused);
void conn_tick(struct conn *c);
/* The session's nexus closes; then conn_nexus_closed(). */
void conn_close_nexus(struct conn *c);
void conn_update_watch(struct conn *c);

/* receive.c */
void conn_receive(struct conn *c);

/* dispatch.c: what a PDU is. */
/* The header is whole and good: decides where its data goes. */
void pdu_begin(struct conn *c);
/* Its data is there. */
void pdu_end(struct conn *c);

/* send.c */
/* Fills in serial numbers and digests and queues it.  has_status: takes a StatSN. */
void conn_send(struct conn *c, struct out *out, bool has_status);
/* A PDU with a copy of `data` (may be NULL). False: out of memory, the connection ends. */
bool conn_send_copy(struct conn *c, const uint8_t bhs[BHS_BYTES], const void *data, size_t bytes,
                    bool has_status);
void conn_reject(struct conn *c, enum reject_reason reason);
void conn_flush(struct conn *c);
/* In a turn of its own. */
void conn_flush_later(struct conn *c);
void conn_drop_outs(struct conn *c);

/* entry.c: the login phase of a connection. */
void entry_request(struct conn *c);
void entry_release(struct conn *c); /* the session's claim, at its very end */

/* command.c */
void command_begin(struct conn *c);
void command_data_end(struct conn *c);
void data_out_begin(struct conn *c);
struct iscsi_task *task_find(struct conn *c, uint32_t tag);
/* Forgets tasks that wait for data or are held: all, or those that were cancelled by a function. */
void tasks_forget_receiving(struct conn *c, bool only_cancelled);
void tasks_check_time(struct conn *c, uint64_t now_ns);
void task_sent(struct iscsi_task *task);
/* Something was sent: reads that were held for it go on. */
void tasks_go_on(struct conn *c);
uint32_t conn_max_command_sn(const struct conn *c);

/* manage.c */
void management_request(struct conn *c);
void managements_check_time(struct conn *c, uint64_t now_ns);
void logout_request(struct conn *c);
void logout_nexus_closed(struct conn *c);
void nop_request(struct conn *c);
void conn_ping(struct conn *c);

/* async.c */
/* Tells the initiator that its session is dropped, and ends it. */
void conn_drop_session(struct conn *c, const char *reason);

/* text.c */
void text_request(struct conn *c);

/* --- targets
 * ------------------------------------------------------------------------------------------- */

struct lun {
    struct list link; /* [R] of its target */
    struct disk *disk;
    struct scsi_lu *lu;
    uint16_t number;
    char *chap, *chap_mutual;
    char **initiators;
    unsigned initiator_count;
    struct config_network *networks;
    unsigned network_count;
    char **peer_portals; /* "192.0.2.2:3260,2": as SendTargets has it */
    unsigned peer_portal_count;
};

struct target {
    struct list link; /* [R] */
    struct scsi_target *scsi;
    char name[ISCSI_NAME_BYTES];
    struct list luns;    /* [R] */
    unsigned references; /* [R] sessions, and one while it has LUNs */
};

#define STRANGERS_OF_ADDRESS_MAX 64u /* connections that have not logged in */

#define PORTALS_MAX 64u
struct portal {
    struct iscsi *iscsi;
    struct watch watch;
    bool is_resting; /* out of descriptors: tried again with the next tick */
    char text[64];
    struct task task;
};

struct iscsi {
    struct iscsi_settings settings;  /* [I] strings owned */
    struct shard *shard[SHARDS_MAX]; /* [I] */
    unsigned shard_count;
    pthread_mutex_t mutex;        /* held for moments; nothing is waited for under it */
    pthread_mutex_t control;      /* serialises changes of LUNs, which block */
    struct list targets;          /* [R] */
    struct list sessions;         /* [R] */
    pthread_cond_t session_ended; /* with mutex: one has left the list */
    unsigned logout_limit_s;      /* [I] from the moment on that logouts are asked for */
    struct list waiters;          /* [R] logins that wait for an older session of theirs to end */
    uint16_t next_tsih;           /* [R] */
    struct strangers strangers;   /* [R] connections that have not logged in */
    _Atomic bool is_starting, is_stopping;
    struct task stop_task;
    struct portal *portal[PORTALS_MAX];
    unsigned portal_count;
};

/* target.c */
/* Fills login->access; sets conn->target (referenced) on success. May read secret files. */
void target_look_up(struct conn *c);
void target_put(struct iscsi *iscsi, struct target *target);
bool target_may_use(struct scsi_lu *lu, void *conn);
/* A LUN of another target, by its NAA name: see scsi_nexus_settings. */
struct scsi_lu *target_find_elsewhere(const uint8_t *naa, size_t bytes, void *conn);
/* Text for SendTargets: those this initiator may use; only: one of them, or NULL. malloc'ed. */
char *targets_list(struct conn *c, const char *only, size_t *length);

/* Ends all sessions of a target: TARGET COLD RESET. */
void target_drop_sessions(struct iscsi *iscsi, const struct target *target);

/* portal.c */
void portals_tick(struct iscsi *iscsi);
/* False: too many that have not logged in. */
void stranger_leave(struct iscsi *iscsi, const struct sockaddr_storage *peer);

#endif
