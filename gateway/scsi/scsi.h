/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * scsi: a disk as a SCSI logical unit (SPC-4, SBC-4).  Decodes CDBs into requests of the engine and
 * engine errors into sense; knows nothing of iSCSI, sockets or PDUs.
 *
 *     struct scsi_lu        one disk: reservations, mode pages, write protect; shared by all
 *                           sessions, kept over reconnects, some of it over restarts
 *     struct scsi_target    a name and its LUNs
 *     struct scsi_nexus     one initiator port at one target port (I_T nexus): a session
 *     struct scsi_command   one command; embedded in what the transport has for it
 *
 * The way of a command, all of it in the home of its nexus:
 *
 *     transport fills the first group -> scsi_command_decode() -> direction, transfer_bytes
 *     transport finds a buffer, receives data-out -> scsi_command_start() -> IO_DONE or IO_PENDING
 *     IO_PENDING: done() is called once, from the home's drain, never inside start
 *
 * READ and WRITE allocate nothing and take no lock.  A logical unit's rarely changing state is
 * under its mutex, which no callback and no I/O is ever waited for with.
 *
 * Threads: targets and logical units any thread; a nexus and its commands only in its home, but
 * for scsi_nexus_open(), which blocks and so is called from elsewhere.
 */
#ifndef SLUICE_SCSI_H
#define SLUICE_SCSI_H

#include "disk/disk.h"

/* Commands longer than 16 bytes (opcode 7Fh) exist for protection information, which is not
 * supported: the transport gives the first 16 bytes and the true length, the answer is sense. */
#define SCSI_CDB_BYTES 16
#define SCSI_SENSE_BYTES 64
/* MAXIMUM TRANSFER LENGTH of VPD page B0: no command has more data-in or data-out. */
#define SCSI_TRANSFER_MAX (32u << 20)
#define SCSI_NAME_BYTES 224 /* of initiators and targets, with the terminator */

enum scsi_direction { SCSI_NO_DATA, SCSI_DATA_IN, SCSI_DATA_OUT };

/* SAM-5 5.3.1 */
enum scsi_status {
    SCSI_GOOD = 0x00,
    SCSI_CHECK_CONDITION = 0x02,
    SCSI_CONDITION_MET = 0x04,
    SCSI_BUSY = 0x08,
    SCSI_RESERVATION_CONFLICT = 0x18,
    SCSI_TASK_SET_FULL = 0x28,
    SCSI_TASK_ABORTED = 0x40
};

/* Numbers of RFC 7143 11.3.1. */
enum scsi_attribute { SCSI_UNTAGGED, SCSI_SIMPLE, SCSI_ORDERED, SCSI_HEAD_OF_QUEUE, SCSI_ACA };

struct scsi_lu;
struct scsi_target;
struct scsi_nexus;
struct scsi_nexus_lu;
struct scsi_job;

/* --- commands ----------------------------------------------------------------------------- */

struct scsi_command {
    /* The transport's, before decode. */
    struct scsi_nexus *nexus;
    uint64_t lun; /* the eight bytes of the wire, first byte most significant */
    uint8_t cdb[SCSI_CDB_BYTES];
    uint16_t cdb_bytes; /* at least 6; up to 260 */
    uint8_t attribute;  /* enum scsi_attribute */
    void (*done)(struct scsi_command *command);

    /*
     * The transport's, before start: page-aligned, valid until the command has ended.  data_bytes:
     * at most transfer_bytes.  Fewer (because the initiator expected less) is allowed: data-in is
     * cut off there, data-out counts as far as it goes in whole blocks (residual overflow).
     * Data-out is never written to.
     */
    void *data;
    uint32_t data_bytes;
    /* What the initiator expects to be moved; decode sets it to transfer_bytes. Commands whose
     * data-out must have an exact length refuse another one. */
    uint32_t expected_bytes;

    /* What decode says.  A command that is wrong has SCSI_NO_DATA and ends in start. */
    uint8_t direction; /* enum scsi_direction */

    /* How it ended. */
    uint8_t status;      /* enum scsi_status */
    uint8_t sense_bytes; /* > 0 with CHECK CONDITION */
    bool is_aborted;     /* nobody is to be told: no response is sent */
    /* After decode: at most that much data is moved.  After the end: what the command would have
     * moved had data_bytes been enough; the residual is its difference to what was expected. */
    uint32_t transfer_bytes;
    uint32_t data_in_bytes; /* valid in data, at most data_bytes */
    uint8_t sense[SCSI_SENSE_BYTES];

    /* This layer's own. */
    struct list link; /* commands of its I_T_L nexus, from decode to the end */
    struct scsi_nexus_lu *nexus_lu;
    const struct scsi_operation *operation;
    uint64_t lba, blocks;
    struct request *request; /* the engine's, in flight */
    struct scsi_job *job;    /* of commands with several steps */
    struct task task;
    uint8_t state;
    bool is_cancelled, is_told; /* is_told: TASK ABORTED is sent for it */
};

/* Reads the CDB; from here on the command belongs to its nexus until it has ended.  Every decoded
 * command is either started or cancelled.  Needs no clearing of the private part. */
void scsi_command_decode(struct scsi_command *command);

/* Begins it.  IO_DONE: it has ended, done() is not called. */
enum io_status scsi_command_start(struct scsi_command *command) MUST_CHECK;

/*
 * The initiator does not want it any more (its session ends, its data did not come).  True: it was
 * not started, is forgotten and may be freed.  False: done() will be called, as soon as nothing can
 * touch its buffer or the disk any more; is_aborted tells the transport to say nothing.
 */
bool scsi_command_cancel(struct scsi_command *command);

/* --- task management ---------------------------------------------------------------------- */

/* Numbers of RFC 7143 11.5.1 and RFC 7144 4.1. */
enum scsi_function {
    SCSI_ABORT_TASK = 1,
    SCSI_ABORT_TASK_SET,
    SCSI_CLEAR_ACA,
    SCSI_CLEAR_TASK_SET,
    SCSI_LU_RESET,
    SCSI_TARGET_WARM_RESET,
    SCSI_TARGET_COLD_RESET,
    SCSI_TASK_REASSIGN,
    SCSI_QUERY_TASK,
    SCSI_QUERY_TASK_SET,
    SCSI_NEXUS_RESET,
    SCSI_QUERY_ASYNC_EVENT
};
/* Numbers of RFC 7143 11.6.1. */
enum scsi_response {
    SCSI_FUNCTION_COMPLETE = 0,
    SCSI_NO_TASK = 1,
    SCSI_NO_LUN = 2,
    SCSI_REASSIGN_NOT_SUPPORTED = 4,
    SCSI_FUNCTION_NOT_SUPPORTED = 5,
    SCSI_FUNCTION_SUCCEEDED = 7, /* the queries of RFC 7144: there is one */
    SCSI_FUNCTION_REJECTED = 255
};

/* Tells when the commands of an I_T_L nexus that were cancelled have ended; this layer's own. */
struct drain_watch {
    struct list link;
    void (*drained)(struct drain_watch *watch);
};

/* One function; embedded by the transport, alive until done() has been called. */
struct scsi_management {
    struct scsi_nexus *nexus;
    uint8_t function;             /* enum scsi_function */
    uint64_t lun;                 /* as in a command */
    struct scsi_command *command; /* ABORT TASK, QUERY TASK: the task; NULL: unknown */
    void (*done)(struct scsi_management *management);

    uint8_t response; /* enum scsi_response */

    struct task task; /* this layer's own from here */
    struct drain_watch watch;
    _Atomic unsigned waiting;
};

/*
 * Carries it out.  done() is called in the home, never inside, when no command it names can have an
 * effect any more, which may take as long as those need: the transport keeps the time.
 * The commands named end through their own done() before, with is_aborted.  Those of other
 * sessions end with TASK ABORTED or silently, as the control mode page says (TAS).
 * Commands that were decoded but not started (they wait for their data) end in start, if it is ever
 * called; they are not waited for.  The nexus may be closed meanwhile, and ends after done().
 */
void scsi_manage(struct scsi_management *management);

/* --- logical units ------------------------------------------------------------------------ */

/* Asymmetric access (ALUA), SPC-4 table 302. */
enum scsi_access_state {
    SCSI_ACTIVE_OPTIMIZED = 0x0,
    SCSI_ACTIVE_NON_OPTIMIZED = 0x1,
    SCSI_STANDBY = 0x2,
    SCSI_UNAVAILABLE = 0x3,
    SCSI_TRANSITIONING = 0xf
};
#define SCSI_PORT_GROUPS_MAX 4u
struct scsi_port_group {
    uint16_t id;   /* the portal group tag of its target ports */
    uint8_t state; /* enum scsi_access_state */
    bool is_preferred;
};

/* Strings are copied; zeros and NULLs are the defaults. */
struct scsi_lu_settings {
    uint32_t block_bytes;                    /* 512 or 4096 (4Kn); default 512 */
    uint32_t physical_bytes;                 /* 512 or 4096 (512e); default 4096 */
    const char *vendor, *product, *revision; /* at most 8, 16 and 4 characters of ASCII */
    uint32_t naa_oui; /* of 24 bits: names are NAA 6 of that organisation; 0: locally assigned */
    bool may_erase;   /* SANITIZE and FORMAT UNIT are obeyed */
};

/* What a disk uses of the space that it shares with others, and what is left. */
struct scsi_space {
    uint64_t used_bytes, available_bytes;
    uint64_t threshold_bytes; /* when less is left its initiators are warned; 0: never */
};

/*
 * Carries out what a crash left of an atomic write: before anybody may use the disk, over NBD too,
 * and whether or not it is a logical unit this time.  An error: it must not be used.  Blocks.
 */
int scsi_disk_recover(struct disk *disk, struct err *e) MUST_CHECK;

/* A disk_record_hook: persistent reservations that came from another gateway become the disk's. */
int scsi_take_record(struct disk *disk, const char *name, const void *data, size_t length,
                     struct err *e) MUST_CHECK;

/*
 * The logical unit of a disk: reads its reservations from the disk's state folder and carries out
 * what a crash left of an atomic write, so before anybody else may use the disk.  Blocks.  The disk
 * outlives it.
 */
int scsi_lu_create(struct disk *disk, const struct scsi_lu_settings *settings, struct scsi_lu **out,
                   struct err *e) MUST_CHECK;
struct scsi_lu *scsi_lu_get(struct scsi_lu *lu);
void scsi_lu_put(struct scsi_lu *lu); /* the last one frees; may block */
bool scsi_lu_is_named(const struct scsi_lu *lu, const uint8_t *naa, size_t bytes);
/* A use of it by sessions of other targets begins and ends.  False: it is being removed. Any
 * thread. */
bool scsi_lu_visit(struct scsi_lu *lu) MUST_CHECK;
void scsi_lu_leave(struct scsi_lu *lu);
/* To be told again and again. When what is left falls below the threshold, sessions learn of it by
 * a unit attention (38/07), once until there is clearly more again. Any thread. */
void scsi_lu_set_space(struct scsi_lu *lu, const struct scsi_space *space);
/* How the disk is reached, here and at the peer.  Sessions learn of a change by a unit attention
 * (2A/06).  None: each target port is in a group of its own number, active. Any thread. */
void scsi_lu_set_port_groups(struct scsi_lu *lu, const struct scsi_port_group *groups,
                             unsigned count);

/* --- targets ------------------------------------------------------------------------------ */

/* name: the iSCSI name, lower case. */
int scsi_target_create(const char *name, struct scsi_target **out, struct err *e) MUST_CHECK;
void scsi_target_free(struct scsi_target *target); /* no nexus left; lets go of its LUNs */

#define SCSI_LUN_MAX 16383u /* flat addressing, SAM-5 4.7.7.3 */
#define SCSI_LUNS_MAX 256u  /* of one target */

/* Sessions that are there learn of it by a unit attention (3F/0E).  Blocks. */
int scsi_target_add_lun(struct scsi_target *target, uint16_t lun, struct scsi_lu *lu,
                        struct err *e) MUST_CHECK;
/* When it returns, no session has anything in flight there.  Blocks. */
int scsi_target_remove_lun(struct scsi_target *target, uint16_t lun, struct err *e) MUST_CHECK;

/* --- I_T nexuses -------------------------------------------------------------------------- */

struct scsi_nexus_settings {
    const char *initiator; /* its iSCSI name, lower case */
    uint8_t isid[6];       /* with the name: the initiator port */
    uint16_t portal_group; /* of the target port */
    const char *address;   /* of the client, for people: "192.0.2.1:4711" */
    unsigned window;       /* commands the initiator may have in flight */
    struct home *home;     /* where its commands run: a loop, or a worker that drains */
    bool (*may_use)(struct scsi_lu *lu,
                    void *arg); /* NULL: every LUN; any thread, must not block */
    /* The logical unit of that NAA name at another target, where this initiator may use it as well;
     * scsi_lu_visit() was called for it.  NULL: none; so is the function.  Must not block. */
    struct scsi_lu *(*find_elsewhere)(const uint8_t *naa, size_t bytes, void *arg);
    void *arg;
};

/*
 * A session begins: opens a session of each disk that this initiator may use (which tells their
 * filters START).  LUNs whose disk refuses stay hidden, with a line in the log.  Blocks: call it
 * from a pool thread, with the last nexus of the same initiator port closed.
 */
int scsi_nexus_open(struct scsi_target *target, const struct scsi_nexus_settings *settings,
                    struct scsi_nexus **out, struct err *e) MUST_CHECK;

/*
 * In its home: I_T nexus loss.  Cancels what was started and calls done(arg) from the home's drain
 * when nothing of it can touch a buffer or the disk any more; the nexus is gone then.  Commands
 * that were not started must be cancelled by the transport before.
 */
void scsi_nexus_close(struct scsi_nexus *nexus, void (*done)(void *arg), void *arg);
unsigned scsi_nexus_in_flight(const struct scsi_nexus *nexus); /* commands that have been started */

#endif
