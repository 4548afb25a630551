/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * internal.h: the structs of logical units, targets and nexuses, and what the files of this room
 * ask of one another.
 *
 * An I_T_L nexus (`struct scsi_nexus_lu`) is where a session and a logical unit meet.  It belongs
 * to the home of its nexus; other threads reach it by an errand, a task posted to that home.
 *
 * Legend: [I] immutable after it was made; [H] only in the home of the nexus; [L] under lu->mutex;
 * [T] under target->mutex; [A] atomic.  Order: target->control, target->mutex, lu->mutex.  Only the
 * first is held while something is waited for, and never taken in a home.
 */
#ifndef SLUICE_SCSI_INTERNAL_H
#define SLUICE_SCSI_INTERNAL_H

#include "scsi/scsi.h"

/* Allocation lengths above that are cut: no parameter data is longer. */
#define PARAMETER_DATA_MAX 65536u
/* Parameter lists above that are refused. */
#define PARAMETER_LIST_MAX 65536u

/* --- operations: the table of commands ---------------------------------------------------- */

#define ANY_SERVICE_ACTION (-1)

/* What a command is let through, and what it does to the medium. */
#define OP_ANY_LUN 0x01u        /* also where there is no logical unit */
#define OP_PAST_ATTENTION 0x02u /* carried out with a unit attention pending, leaving it */
#define OP_READS 0x04u          /* reads the medium: conflicts with exclusive access */
#define OP_WRITES 0x08u /* changes the medium: conflicts with any reservation, write protect */
#define OP_SERVES_ALWAYS 0x10u    /* also in standby, while being sanitized, or stopped */
#define OP_PAST_RESERVATION 0x20u /* never conflicts (or decides itself) */
#define OP_HAS_FUA 0x40u          /* byte 1, bit 3 */
#define OP_CHANGES 0x80u          /* changes the medium: not on one that is write protected */
#define OP_NOT_EVERYWHERE 0x100u  /* some disks do not have it: see operation_is_offered() */

struct scsi_lu;
struct scsi_operation {
    const char *name;
    uint8_t opcode, cdb_bytes;
    int16_t service_action; /* or ANY_SERVICE_ACTION */
    uint8_t direction;
    uint16_t flags;
    uint8_t usage[SCSI_CDB_BYTES]; /* bits that are looked at (SPC-4 6.34.3); others must be 0 */
    /* Reads the CDB: sets transfer_bytes, lba, blocks, or sense. */
    void (*decode)(struct scsi_command *command);
    enum io_status (*run)(struct scsi_command *command);
};

/* NULL with *is_service_action_wrong when the opcode is known. */
const struct scsi_operation *operation_find(const uint8_t *cdb, bool *is_service_action_wrong);
/* Whether this disk has the command. */
bool operation_is_offered(const struct scsi_operation *operation, const struct scsi_lu *lu);
bool lu_may_erase_blocks(const struct scsi_lu *lu);
extern const struct scsi_operation scsi_operations[];
extern const unsigned scsi_operation_count;

/* --- logical units ------------------------------------------------------------------------ */

/* Pending unit attentions are a set of bits, told lowest first; see attention.c for the codes. */
enum attention {
    ATTENTION_POWER_ON,
    ATTENTION_RESET,
    ATTENTION_NEXUS_LOSS,
    ATTENTION_COMMANDS_CLEARED,
    ATTENTION_RESERVATIONS_PREEMPTED,
    ATTENTION_RESERVATIONS_RELEASED,
    ATTENTION_REGISTRATIONS_PREEMPTED,
    ATTENTION_MODE_CHANGED,
    ATTENTION_CAPACITY_CHANGED,
    ATTENTION_ACCESS_STATE_CHANGED,
    ATTENTION_INQUIRY_CHANGED,
    ATTENTION_LUNS_CHANGED,
    ATTENTION_THIN_THRESHOLD,
    ATTENTION_COUNT
};

/* --- reservations ------------------------------------------------------------------------- */

#define REGISTRATIONS_MAX 256u

/* SPC-4 table 66. */
enum reservation_type {
    WRITE_EXCLUSIVE = 1,
    EXCLUSIVE_ACCESS = 3,
    WRITE_EXCLUSIVE_REGISTRANTS = 5,
    EXCLUSIVE_ACCESS_REGISTRANTS = 6,
    WRITE_EXCLUSIVE_ALL = 7,
    EXCLUSIVE_ACCESS_ALL = 8
};

/* An initiator port, as TransportIDs name them. */
struct initiator_port {
    char name[SCSI_NAME_BYTES];
    uint8_t isid[6];
    bool is_any_isid; /* the whole initiator */
};

struct registration {
    struct initiator_port port;
    uint64_t key;
    uint16_t target_port;
    bool is_all_target_ports;
    bool is_from_peer; /* target_port is one of another gateway's: here it is for all of them */
    bool is_holder;    /* never with the types for all registrants: there everybody is */
};

struct reservations {
    struct registration registration[REGISTRATIONS_MAX];
    unsigned count;
    uint32_t generation;
    uint8_t type;      /* 0: no persistent reservation */
    bool is_kept;      /* APTPL */
    bool is_reserved6; /* RESERVE (SPC-2), by `port6` */
    struct initiator_port port6;
};

/* What an I_T_L nexus may not do now. */
#define DENY_READ 0x1u
#define DENY_WRITE 0x2u
#define DENY_ALL 0x4u /* all but INQUIRY, REPORT LUNS, REQUEST SENSE */

/* Reasons for a command to be looked at closely before it runs. */
#define LU_NOT_ACTIVE 0x2u /* some port group is not active */
#define LU_ERASING 0x4u    /* SANITIZE or FORMAT UNIT is under way */
#define LU_STOPPED 0x8u

/* An order to erase, as it stands in the state folder. */
struct erase_order {
    uint8_t passes; /* 0: trim or zero instead of overwriting */
    bool invert;
    uint32_t pattern_bytes;
    uint8_t pattern[4096];
};

/* What came of an EXTENDED COPY, until it is asked for. */
struct copy_result {
    uint8_t list_id;
    bool is_set, is_good;
    uint16_t segments;
};
#define COPY_RESULTS 8u

struct scsi_lu {
    _Atomic unsigned references;
    struct disk *disk;                             /* [I] */
    struct engine *engine;                         /* [I] */
    uint32_t block_bytes, physical_bytes, naa_oui; /* [I] */
    unsigned block_shift;                          /* [I] */
    bool may_erase;                                /* [I] */
    char vendor[9], product[17], revision[5];      /* [I] */

    _Atomic uint32_t gates;                              /* [A] LU_*; changed under the mutex */
    _Atomic bool is_descriptor_sense, is_write_cached;   /* [A] D_SENSE, WCE */
    _Atomic bool is_task_aborted_told;                   /* [A] TAS */
    _Atomic bool is_write_protected;                     /* [A] SWP */
    struct scsi_port_group groups[SCSI_PORT_GROUPS_MAX]; /* [L] */
    unsigned group_count;                                /* [L] 0: the nexus's own, active */
    struct scsi_space space;                             /* [L] */
    bool is_space_known;                                 /* [L] */
    bool is_space_low;                                   /* [L] initiators have been warned */

    pthread_mutex_t mutex;
    struct list nexus_lus;            /* [L] */
    struct reservations reservations; /* [L] */
    int atomic_fd;                    /* [I] of the redo file; -1: no atomic writes */
    uint32_t atomic_slots;            /* [L] bits of those in use */
    pthread_cond_t slot_cond;         /* with mutex: one was given back */
    struct {
        bool is_running;          /* [L] with LU_ERASING */
        _Atomic bool is_failed;   /* changed under the mutex */
        struct scsi_job *waiter;  /* [L] the command that waits for the end */
        struct erase_order order; /* of the one that claimed it */
        pthread_t thread;
        bool has_thread;
        _Atomic bool must_stop;
    } erase;
    unsigned visitors;            /* [L] uses of it by sessions of other targets */
    pthread_cond_t visitors_cond; /* with mutex: the last has left */
    _Atomic bool is_removed;      /* changed under the mutex: no more visitors */
    pthread_mutex_t store_mutex;  /* one writer of the reservations' file; before mutex */
    struct list in_units;         /* under units_mutex of reserve-travel.c */
};

static inline uint64_t lu_blocks(const struct scsi_lu *lu)
{
    return engine_size(lu->engine) >> lu->block_shift;
}

/* Any thread: what a reset of the logical unit does beside ending commands. */
void lu_reset(struct scsi_lu *lu);
/* A request of the unit itself, through the whole chain. 0 or a positive errno. Blocks. */
int unit_execute(struct engine *engine, unsigned op, uint32_t flags, uint64_t offset,
                 uint64_t length, void *data);
int lu_execute(struct scsi_lu *lu, unsigned op, uint32_t flags, uint64_t offset, uint64_t length,
               void *data);

/* --- targets and nexuses ------------------------------------------------------------------ */

struct lun_entry {
    uint16_t lun;
    struct scsi_lu *lu;
};

struct scsi_target {
    char name[SCSI_NAME_BYTES];
    pthread_mutex_t
        control; /* serialises changes of the map and the opening of nexuses; those wait */
    pthread_mutex_t mutex;
    struct list nexuses;                  /* [T] */
    struct lun_entry luns[SCSI_LUNS_MAX]; /* [T] sorted */
    unsigned count;                       /* [T] */
};

struct scsi_nexus_lu {
    struct scsi_nexus *nexus;     /* [I] */
    struct scsi_lu *lu;           /* [I] NULL: what is addressed to no logical unit */
    struct disk_session *session; /* [I] NULL like lu */
    uint16_t lun;                 /* [I] */
    bool is_removed;              /* [H] */
    unsigned in_flight;           /* [H] started commands */
    struct list commands;         /* [H] from decode to the end, oldest first */
    unsigned ordered, waiting;    /* [H] of them: ORDERED ones; started ones that wait for those */
    bool is_release_posted;       /* [H] */
    struct task release_task;
    unsigned lent; /* [H] requests here of copies at another logical unit */
    struct copy_result results[COPY_RESULTS]; /* [H] a ring */
    unsigned next_result;                     /* [H] */
    uint64_t seen_bytes;                      /* [H] the size this initiator knows of */
    _Atomic uint32_t attentions;              /* [A] bits by enum attention */
    _Atomic uint32_t denied;                  /* [A] DENY_*; changed under lu->mutex */
    struct list in_lu;                        /* [L] */
    struct list watchers;    /* [H] of struct drain_watch: wait for older commands to end */
    struct list in_visitors; /* [H] of one that is here for a single command: visitor.c */
    struct task farewell;
};

struct scsi_nexus {
    struct scsi_target *target; /* [I] */
    struct home *home;          /* [I] */
    char initiator[SCSI_NAME_BYTES];
    char address[64];
    unsigned window;
    uint8_t isid[6];
    uint16_t portal_group;
    bool (*may_use)(struct scsi_lu *lu, void *arg);
    struct scsi_lu *(*find_elsewhere)(const uint8_t *naa, size_t bytes, void *arg);
    void *arg;

    _Atomic unsigned references;  /* errands under way, and one of its own until it has closed */
    struct list in_target;        /* [T] */
    struct scsi_nexus_lu nowhere; /* [H] */
    struct scsi_nexus_lu *lus[SCSI_LUNS_MAX]; /* [H] sorted by LUN */
    unsigned count;                           /* [H] */
    struct list visitors;                     /* [H] at logical units of other targets */
    unsigned in_flight;                       /* [H] */

    bool is_closing; /* [H] */
    struct task task;
    void (*closed)(void *arg);
    void *closed_arg;
};

/* nexus.c */
struct scsi_nexus_lu *nexus_find_lun(struct scsi_nexus *nexus, uint64_t lun);
void nexus_get(struct scsi_nexus *nexus);
void nexus_put(struct scsi_nexus *nexus);
/* [H] After a command has ended: goes on with what waits for that. */
void nexus_lu_settle(struct scsi_nexus_lu *nexus_lu);
/* [H] drained() is called at once or later. */
void nexus_lu_when_drained(struct scsi_nexus_lu *nexus_lu, struct drain_watch *watch);
/* Blocks: tells the disk's filters START. NULL with a line in the log. */
struct scsi_nexus_lu *nexus_lu_make(struct scsi_nexus *nexus, uint16_t lun, struct scsi_lu *lu);
/* The same without asking whether this initiator may. */
struct scsi_nexus_lu *nexus_lu_open(struct scsi_nexus *nexus, uint16_t lun, struct scsi_lu *lu);
void nexus_lu_free(struct scsi_nexus_lu *nexus_lu); /* blocks; not in any list */
/* Any thread: into the list of its logical unit, and out of it. */
void nexus_lu_join(struct scsi_nexus_lu *nexus_lu);
void nexus_lu_part(struct scsi_nexus_lu *nexus_lu);
/* [H] */
void nexus_insert(struct scsi_nexus *nexus, struct scsi_nexus_lu *nexus_lu);
struct scsi_nexus_lu *nexus_take_out(struct scsi_nexus *nexus, uint16_t lun);

/* visitor.c: an I_T_L nexus at a logical unit of another target, which scsi_lu_visit() let in. */
/* Blocks; NULL with a line in the log: then the visit is still the caller's. */
struct scsi_nexus_lu *visitor_open(struct scsi_nexus *nexus, struct scsi_lu *lu);
/* [H] From here on task management finds it; the end of the visit, with nothing in flight. */
void visitor_enter(struct scsi_nexus_lu *visitor);
void visitor_close(struct scsi_nexus_lu *visitor);
/* [H] NULL when it has gone meanwhile: `visitor` is only compared. */
struct scsi_nexus_lu *visitor_find(struct scsi_nexus *nexus, const void *visitor,
                                   const struct scsi_lu *lu);
/* Lets nobody in any more and waits until all have left. Blocks. */
void lu_send_visitors_away(struct scsi_lu *lu);

/* lun.c: LUNs on the wire, SAM-5 4.7. */
bool lun_parse(uint64_t wire, uint16_t *lun);
uint64_t lun_to_wire(uint16_t lun);

/* --- attention.c -------------------------------------------------------------------------- */

/* For one initiator, for all but one (NULL: for all). Any thread. */
void attention_raise(struct scsi_nexus_lu *nexus_lu, enum attention what);
void attention_raise_all(struct scsi_lu *lu, const struct scsi_nexus_lu *but, enum attention what);
/* Takes the first: 0 or ASC and ASCQ. */
uint16_t attention_take(struct scsi_nexus_lu *nexus_lu);
uint16_t attention_peek(const struct scsi_nexus_lu *nexus_lu);
/* [H] The capacity is compared with what this initiator has seen. */
void attention_check_capacity(struct scsi_nexus_lu *nexus_lu);

/* --- sense.c ------------------------------------------------------------------------------ */

enum sense_key {
    SENSE_NONE = 0x0,
    SENSE_RECOVERED = 0x1,
    SENSE_NOT_READY = 0x2,
    SENSE_MEDIUM_ERROR = 0x3,
    SENSE_HARDWARE_ERROR = 0x4,
    SENSE_ILLEGAL_REQUEST = 0x5,
    SENSE_UNIT_ATTENTION = 0x6,
    SENSE_DATA_PROTECT = 0x7,
    SENSE_COPY_ABORTED = 0xa,
    SENSE_ABORTED_COMMAND = 0xb,
    SENSE_MISCOMPARE = 0xe
};

/* ASC in the high byte, ASCQ in the low one (SPC-4 annex E). */
#define ASC_NONE 0x0000
#define ASC_BECOMING_READY 0x0401
#define ASC_INITIALIZING_REQUIRED 0x0402
#define ASC_FORMAT_IN_PROGRESS 0x0404
#define ASC_ACCESS_TRANSITION 0x040a
#define ASC_STANDBY 0x040b
#define ASC_UNAVAILABLE 0x040c
#define ASC_SANITIZE_IN_PROGRESS 0x041b
#define ASC_SANITIZE_FAILED 0x3103
#define ASC_WRITE_ERROR 0x0c00
#define ASC_READ_ERROR 0x1100
#define ASC_PARAMETER_LIST_LENGTH 0x1a00
#define ASC_MISCOMPARE 0x1d00
#define ASC_INVALID_OPCODE 0x2000
#define ASC_LBA_OUT_OF_RANGE 0x2100
#define ASC_INVALID_FIELD_IN_CDB 0x2400
#define ASC_NO_SUCH_LUN 0x2500
#define ASC_INVALID_FIELD_IN_LIST 0x2600
#define ASC_COMMAND_SEQUENCE 0x2c00
#define ASC_UNSUPPORTED_CSCD 0x2607
#define ASC_TOO_MANY_SEGMENTS 0x2608
#define ASC_UNSUPPORTED_SEGMENT 0x2609
#define ASC_WRITE_PROTECTED 0x2700
#define ASC_SOFTWARE_WRITE_PROTECTED 0x2702
#define ASC_SPACE_EXHAUSTED 0x2707
#define ASC_SAVING_NOT_SUPPORTED 0x3900
#define ASC_INVALID_RELEASE 0x2604
#define ASC_TOO_MANY_CSCDS 0x2606
#define ASC_INSUFFICIENT_REGISTRATIONS 0x5504
#define ASC_STOPPED 0x0402
#define ASC_UNREACHABLE_CSCD 0x0d02
#define ASC_INTERNAL_FAILURE 0x4400
#define ASC_TIMEOUT 0x2e02

/* CHECK CONDITION. */
void sense_set(struct scsi_command *c, enum sense_key key, uint16_t asc);
/* ILLEGAL REQUEST with the place that is wrong: a byte of the CDB or of the parameter list, and a
 * bit of it (0..7) or NO_BIT. */
#define NO_BIT 8u
void sense_bad_cdb(struct scsi_command *c, unsigned byte, unsigned bit);
void sense_bad_list(struct scsi_command *c, unsigned byte, unsigned bit);
/* Adds INFORMATION to what was set. */
void sense_add_information(struct scsi_command *c, uint64_t information);
/* Sense data for REQUEST SENSE. Returns its length. */
unsigned sense_build(uint8_t *out, bool is_descriptor, enum sense_key key, uint16_t asc);
/* What an errno of the engine means for the command. */
void sense_from_error(struct scsi_command *c, int error, uint64_t miscompare_offset);

/* --- command.c ---------------------------------------------------------------------------- */

/* Copies parameter data and says so. */
void command_answer(struct scsi_command *c, const void *data, size_t length, size_t allocation);
/* A run() that was pending has ended: status and sense are set. */
void command_end(struct scsi_command *c);
/* [H] Cancels all of an I_T_L nexus but `but`. is_told: they end with TASK ABORTED. */
void commands_abort(struct scsi_nexus_lu *nexus_lu, const struct scsi_command *but, bool is_told);

bool command_is_started(const struct scsi_command *c);
bool command_is_waiting(const struct scsi_command *c);
/* One that waited begins, and ends through done(). */
void command_go_on(struct scsi_command *c);
/* [H] Asks that it end, silently. */
void command_stop(struct scsi_command *c);

/* order.c: task attributes. All in the home. */
void order_enter(struct scsi_command *c);
/* It has left the list of commands, so that others may go on. */
void order_leave(const struct scsi_command *c);
bool order_must_wait(const struct scsi_command *c);
void order_wait(struct scsi_command *c);
/* One that waits is not wanted any more, or what it waits for has changed. */
void order_look_again(struct scsi_nexus_lu *n);

/* Decoding helpers. */
void decode_no_data(struct scsi_command *c);
/* lba + blocks within the disk, else sense. */
bool check_range(struct scsi_command *c);

/* --- job.c: commands of several steps ---------------------------------------------------- */

/*
 * step() is called in the home until it answers JOB_END, again whenever what it began has ended.
 * job->error says what came of that, 0 or a positive errno; of an error the job ends by itself
 * unless sees_errors is set.  It also ends when the command is cancelled.
 */
enum job_next { JOB_AGAIN, JOB_WAIT, JOB_END };

struct scsi_job {
    struct scsi_command *command;
    enum job_next (*step)(struct scsi_job *job);
    void (*cleanup)(struct scsi_job *job); /* before it is freed; may be NULL */
    bool sees_errors, sees_cancel;
    void (*stop)(
        struct scsi_job *job); /* [H] cancelled while it waits for something else; or NULL */
    struct range_entry *token; /* of the lock under which requests write, or NULL */
    struct scsi_nexus_lu *of;  /* whose the request in flight is */
    int error;
    struct request *request;           /* in flight */
    struct request *last;              /* that has ended, to be looked at in step() */
    struct task task;                  /* on the pool, and on the way back */
    int (*work)(struct scsi_job *job); /* may block; a positive errno or 0 */

    /* The steps' own. */
    unsigned phase;
    uint64_t offset, left; /* bytes */
    uint8_t *buffer;       /* page-aligned, freed with the job */
    size_t buffer_bytes;
    void *more; /* freed with the job */
    uint64_t value[4];
};

/* NULL: the status is BUSY. buffer_bytes 0: no buffer. */
struct scsi_job *job_new(struct scsi_command *c, enum job_next (*step)(struct scsi_job *job),
                         size_t buffer_bytes);
enum io_status job_start(struct scsi_job *job);
/* One that was never started. */
void job_discard(struct scsi_job *job);
/* A job that answered JOB_WAIT goes on. */
void job_resume(struct scsi_job *job);
/* In step(): one request of the engine; for another logical unit of this initiator: `of`. */
enum job_next job_request(struct scsi_job *job, unsigned op, uint32_t flags, uint64_t offset,
                          uint64_t length, void *data);
enum job_next job_request_of(struct scsi_job *job, struct scsi_nexus_lu *of, unsigned op,
                             uint32_t flags, uint64_t offset, uint64_t length, void *data);
/* In step(): runs work() on a pool thread. */
enum job_next job_work(struct scsi_job *job, int (*work)(struct scsi_job *job));

/* --- the commands, by file ---------------------------------------------------------------- */

/* range.c: LBA, NUMBER OF BLOCKS and the protection field of the usual layouts. False: sense is
 * set. */
bool range_any(struct scsi_command *c);
/* Where NUMBER OF BLOCKS stands in this CDB, for field pointers. */
unsigned range_length_at(const struct scsi_command *c);
/* transfer_bytes is `blocks` blocks, unless that is more than a command may move. */
void range_set_transfer(struct scsi_command *c, uint64_t blocks);

static inline uint64_t range_offset(const struct scsi_command *c)
{
    return c->lba << c->nexus_lu->lu->block_shift;
}
static inline uint64_t range_bytes(const struct scsi_command *c)
{
    return c->blocks << c->nexus_lu->lu->block_shift;
}

/* transfer.c */
void decode_rw(struct scsi_command *c);
enum io_status run_read(struct scsi_command *c);
enum io_status run_write(struct scsi_command *c);
/* FUA where the CDB says so, and always without WCE: stable before its status is sent. */
uint32_t write_flags(const struct scsi_command *c);
/* One request of the engine is the whole command. */
enum io_status transfer(struct scsi_command *c, unsigned op, uint32_t flags, uint64_t offset,
                        uint64_t length, void *data);
/* simple.c */
void decode_allocation6(struct scsi_command *c);     /* bytes 3..4 */
void decode_allocation7(struct scsi_command *c);     /* bytes 7..8 */
void decode_allocation10(struct scsi_command *c);    /* bytes 10..13 */
void decode_allocation_at_6(struct scsi_command *c); /* bytes 6..9 */
void decode_allocation_byte4(struct scsi_command *c);
enum io_status run_request_sense(struct scsi_command *c);
enum io_status run_report_luns(struct scsi_command *c);
void decode_read_capacity10(struct scsi_command *c);
enum io_status run_read_capacity10(struct scsi_command *c);
enum io_status run_read_capacity16(struct scsi_command *c);
/* medium.c */
#define COMPARE_AND_WRITE_BLOCKS_MAX 255u
void decode_range_only(struct scsi_command *c);
void decode_synchronize(struct scsi_command *c);
void decode_verify(struct scsi_command *c);
void decode_write_verify(struct scsi_command *c);
void decode_compare_and_write(struct scsi_command *c);
void decode_or_write(struct scsi_command *c);
enum io_status run_synchronize(struct scsi_command *c);
enum io_status run_prefetch(struct scsi_command *c);
enum io_status run_verify(struct scsi_command *c);
enum io_status run_write_verify(struct scsi_command *c);
enum io_status run_compare_and_write(struct scsi_command *c);
enum io_status run_or_write(struct scsi_command *c);
/* provision.c */
#define WRITE_SAME_BYTES_MAX (UINT64_C(4) << 30)
#define UNMAP_DESCRIPTORS_MAX 256u
bool lu_is_thin(const struct scsi_lu *lu);
bool lu_may_unmap(const struct scsi_lu *lu);
void decode_write_same(struct scsi_command *c);
void decode_unmap(struct scsi_command *c);
void decode_get_lba_status(struct scsi_command *c);
enum io_status run_write_same(struct scsi_command *c);
enum io_status run_unmap(struct scsi_command *c);
enum io_status run_get_lba_status(struct scsi_command *c);
/* inquiry.c */
enum io_status run_inquiry(struct scsi_command *c);
void put_ascii(uint8_t *to, size_t size, const char *text);
/* vpd.c */
enum io_status vital_product_data(struct scsi_command *c);
size_t lu_naa(const struct scsi_lu *lu, uint8_t naa[16]); /* 8 or 16 bytes */
/* mode.c */
void decode_mode_select(struct scsi_command *c);
enum io_status run_mode_sense(struct scsi_command *c);
enum io_status run_mode_select(struct scsi_command *c);
void mode_reset(struct scsi_lu *lu);
bool lu_is_write_protected(const struct scsi_lu *lu);
/* report.c */
#define PROVISIONING_UNIT_SHIFT 20u /* bytes of a count in thin provisioning */
enum io_status run_report_opcodes(struct scsi_command *c);
enum io_status run_report_functions(struct scsi_command *c);
enum io_status run_report_port_groups(struct scsi_command *c);
enum io_status run_log_sense(struct scsi_command *c);
enum io_status run_nothing(struct scsi_command *c);
void decode_send_diagnostic(struct scsi_command *c);
enum io_status run_read_defects10(struct scsi_command *c);
enum io_status run_read_defects12(struct scsi_command *c);
/* gates.c */
/* False: the status says why the command does not run now. */
bool gates_pass(struct scsi_command *c);
/* The ASC of a logical unit whose medium is not served now, or 0. */
uint16_t not_ready(const struct scsi_nexus_lu *n);
/* The ASC of a target port that is not active, or 0. */
uint16_t not_active(const struct scsi_nexus_lu *n);
/* reserve.c: all under lu->mutex */
/* Of several that a peer took the one with the key first, then the one that holds. */
struct registration *registration_with_key(struct scsi_lu *lu, const struct scsi_nexus *nexus,
                                           uint64_t key);
struct registration *registration_of(struct scsi_lu *lu, const struct scsi_nexus *nexus);
bool port_is_nexus(const struct initiator_port *port, const struct scsi_nexus *nexus);
bool port_is_same(const struct initiator_port *a, const struct initiator_port *b);
void port_of_nexus(const struct scsi_nexus *nexus, struct initiator_port *out);
bool is_for_registrants(uint8_t type);
bool is_for_all(uint8_t type);
bool is_holder(const struct scsi_lu *lu, const struct registration *r);
void reservations_recompute(struct scsi_lu *lu); /* what each nexus is denied */
void reservation_recompute_one(struct scsi_nexus_lu *n);
/* A unit attention for the nexuses of a registration, that of the sender excepted. */
void attention_to_registration(struct scsi_lu *lu, const struct registration *r,
                               const struct scsi_nexus_lu *but, enum attention what);
/* Not under lu->mutex: SPC-2 reservations end with their nexus, and with a reset. */
void reserve6_end(struct scsi_lu *lu, const struct scsi_nexus *nexus);
enum io_status run_reserve6(struct scsi_command *c);
enum io_status run_release6(struct scsi_command *c);
void decode_reserve6(struct scsi_command *c);
/* transport-id.c (SPC-4 7.6.4.6) */
size_t transport_id_put(uint8_t *out, const struct initiator_port *port); /* at most 260 bytes */
/* The bytes taken; 0: wrong. */
size_t transport_id_parse(const uint8_t *id, size_t length, struct initiator_port *out);
/* reserve-in.c, reserve-out.c */
void decode_reserve_out(struct scsi_command *c);
enum io_status run_read_keys(struct scsi_command *c);
enum io_status run_read_reservation(struct scsi_command *c);
enum io_status run_reserve_capabilities(struct scsi_command *c);
enum io_status run_read_full_status(struct scsi_command *c);
enum io_status run_reserve_out(struct scsi_command *c);
/* reserve-store.c: as text, which the state folder and the peer are given; it is freed by free().
 */
#define RESERVATIONS_BYTES_MAX (512u << 10)
char *reservations_to_text(const struct reservations *x); /* NULL: out of memory */
/* False: it is not such a text, and *out is of no use. */
bool reservations_from_text(struct reservations *out, const char *text, size_t length);
/* Block. 0 or a negative errno; text NULL: nothing is kept, and nothing happens without a folder.
 */
int reservations_write(const struct disk *disk, const char *text);
int reservations_load(struct scsi_lu *lu, struct err *e);
int reservations_store(struct scsi_lu *lu); /* and tells the disk; blocks; 0 or a positive errno */
/* reserve-travel.c */
int reservations_tell(struct scsi_lu *lu, const char *text, struct err *e);
/* Loads and tells them; from here on what comes from a peer is this logical unit's.  Blocks. */
int reservations_join(struct scsi_lu *lu, struct err *e);
bool unit_put(struct scsi_lu *lu); /* true: that was the last reference */
/* manage.c: cancels the commands of those nexuses of the logical unit for which `is_victim`, and
 * calls m->done when they have ended. */
void manage_abort_some(struct scsi_management *m, struct scsi_lu *lu,
                       bool (*is_victim)(const struct scsi_nexus_lu *n, void *arg), void *arg);
/* lu.c */
/* The groups that an initiator at this nexus is told of; how many. */
unsigned lu_port_groups(const struct scsi_nexus_lu *n, struct scsi_port_group *out);
/* False: not known, or the disk is not thin. Any thread. */
bool lu_space(struct scsi_lu *lu, struct scsi_space *out);
/* atomic.c */
#define ATOMIC_BYTES_MAX (1u << 20)
#define ATOMIC_SLOTS 8u
bool lu_is_atomic(const struct scsi_lu *lu);
int atomic_open(struct scsi_lu *lu, struct err *e); /* writes again what a crash left; blocks */
void atomic_close(struct scsi_lu *lu);
/* Overwrites what the records of earlier writes held, when none is under way any more; blocks. 0 or
 * a positive errno; EAGAIN: they take too long, ask again. */
int atomic_sanitize(struct scsi_lu *lu);
void decode_write_atomic(struct scsi_command *c);
enum io_status run_write_atomic(struct scsi_command *c);
/* xcopy.c */
size_t third_party_copy(const struct scsi_nexus_lu *n, uint8_t *out); /* page 8F */
void decode_extended_copy(struct scsi_command *c);
enum io_status run_extended_copy(struct scsi_command *c);
enum io_status run_copy_status(struct scsi_command *c);
enum io_status run_copy_parameters(struct scsi_command *c);
/* erase.c */
#define SANITIZE_OVERWRITE 0x01
#define SANITIZE_BLOCK_ERASE 0x02
#define SANITIZE_CRYPTO_ERASE 0x03
int erase_open(struct scsi_lu *lu, struct err *e); /* goes on with one that a restart ended */
void erase_close(struct scsi_lu *lu);
void decode_sanitize(struct scsi_command *c);
enum io_status run_sanitize(struct scsi_command *c);
enum io_status run_exit_failure_mode(struct scsi_command *c);
void decode_format_unit(struct scsi_command *c);
enum io_status run_format_unit(struct scsi_command *c);

#endif
