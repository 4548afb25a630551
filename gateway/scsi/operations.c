/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * operations.c: the table of commands.  From it come decoding, the check of reserved bits, what a
 * reservation or a unit attention lets through, and REPORT SUPPORTED OPERATION CODES.
 *
 * usage: bit by bit what is looked at (SPC-4 6.34.3 CDB usage data); the service action is implied.
 */
#include "internal.h"

#define R OP_READS
#define W (OP_WRITES | OP_CHANGES)
#define WF (OP_WRITES | OP_CHANGES | OP_HAS_FUA)
#define LIKE_W OP_WRITES
#define PAST OP_PAST_RESERVATION
#define ANY (OP_ANY_LUN | OP_PAST_ATTENTION | OP_SERVES_ALWAYS | OP_PAST_RESERVATION)
#define PR (OP_PAST_RESERVATION | OP_SERVES_ALWAYS)
#define ALWAYS (OP_SERVES_ALWAYS | OP_PAST_RESERVATION)

#define NO_ACTION ANY_SERVICE_ACTION
#define NONE SCSI_NO_DATA
#define IN SCSI_DATA_IN
#define OUT SCSI_DATA_OUT

/* Usage of the common layouts: b1 is byte 1. */
#define FF2 0xff, 0xff
#define FF4 FF2, FF2
#define FF8 FF4, FF4
#define RW6                \
    {                      \
        0, 0x1f, FF2, 0xff \
    }
#define RW10(b1)              \
    {                         \
        0, b1, FF4, 0x3f, FF2 \
    }
#define RW12(b1)              \
    {                         \
        0, b1, FF4, FF4, 0x3f \
    }
#define RW16(b1)              \
    {                         \
        0, b1, FF8, FF4, 0x3f \
    }
#define ALLOCATION_3 \
    {                \
        0, 0, 0, FF2 \
    }
#define ALLOCATION_6          \
    {                         \
        0, 0, 0, 0, 0, 0, FF4 \
    }
#define ALLOCATION_7             \
    {                            \
        0, 0, 0, 0, 0, 0, 0, FF2 \
    }
#define ALLOCATION_10                     \
    {                                     \
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, FF4 \
    }

/* Service actions that differ in little. */
#define RESERVE_OUT(action_name, action)                                   \
    {                                                                      \
        "PERSISTENT RESERVE OUT: " action_name, 0x5f, 10, action, OUT, PR, \
            {0, 0, 0xff, 0, 0, FF4}, decode_reserve_out, run_reserve_out   \
    }
#define SANITIZE(action_name, action, direction, run)                                \
    {                                                                                \
        "SANITIZE: " action_name, 0x48, 10, action, direction,                       \
            W | OP_SERVES_ALWAYS | OP_NOT_EVERYWHERE, {0, 0xa0, 0, 0, 0, 0, 0, FF2}, \
            decode_sanitize, run                                                     \
    }

/* Sorted by opcode, then by service action. */
const struct scsi_operation scsi_operations[] = {
    {"TEST UNIT READY", 0x00, 6, NO_ACTION, NONE, PAST, {0}, decode_no_data, run_nothing},
    {"REQUEST SENSE",
     0x03,
     6,
     NO_ACTION,
     IN,
     ANY,
     {0, 0x01, 0, 0, 0xff},
     decode_allocation_byte4,
     run_request_sense},
    {"FORMAT UNIT",
     0x04,
     6,
     NO_ACTION,
     OUT,
     W | OP_SERVES_ALWAYS | OP_NOT_EVERYWHERE,
     {0, 0x38, 0, 0, 0},
     decode_format_unit,
     run_format_unit},
    {"READ (6)", 0x08, 6, NO_ACTION, IN, R, RW6, decode_rw, run_read},
    {"WRITE (6)", 0x0a, 6, NO_ACTION, OUT, W, RW6, decode_rw, run_write},
    {"INQUIRY", 0x12, 6, NO_ACTION, IN, ANY, {0, 0x01, 0xff, FF2}, decode_allocation6, run_inquiry},
    {"MODE SELECT (6)",
     0x15,
     6,
     NO_ACTION,
     OUT,
     LIKE_W,
     {0, 0x11, 0, 0, 0xff},
     decode_mode_select,
     run_mode_select},
    {"RESERVE (6)",
     0x16,
     6,
     NO_ACTION,
     NONE,
     LIKE_W,
     {0, 0, 0, 0, 0},
     decode_no_data,
     run_reserve6},
    {"RELEASE (6)", 0x17, 6, NO_ACTION, NONE, PAST, {0, 0, 0, 0, 0}, decode_no_data, run_release6},
    {"MODE SENSE (6)",
     0x1a,
     6,
     NO_ACTION,
     IN,
     R | OP_SERVES_ALWAYS,
     {0, 0x08, 0xff, 0xff, 0xff},
     decode_allocation_byte4,
     run_mode_sense},
    {"START STOP UNIT",
     0x1b,
     6,
     NO_ACTION,
     NONE,
     LIKE_W,
     {0, 0x01, 0, 0x0f, 0xf7},
     decode_no_data,
     run_nothing},
    {"SEND DIAGNOSTIC",
     0x1d,
     6,
     NO_ACTION,
     NONE,
     LIKE_W,
     {0, 0xff, 0, FF2},
     decode_send_diagnostic,
     run_nothing},
    {"PREVENT ALLOW MEDIUM REMOVAL",
     0x1e,
     6,
     NO_ACTION,
     NONE,
     PAST,
     {0, 0, 0, 0, 0x03},
     decode_no_data,
     run_nothing},
    {"READ CAPACITY (10)",
     0x25,
     10,
     NO_ACTION,
     IN,
     ALWAYS,
     {0, 0x01, FF4, 0, 0, 0x01},
     decode_read_capacity10,
     run_read_capacity10},
    {"READ (10)", 0x28, 10, NO_ACTION, IN, R, RW10(0xfb), decode_rw, run_read},
    {"WRITE (10)", 0x2a, 10, NO_ACTION, OUT, WF, RW10(0xfb), decode_rw, run_write},
    {"WRITE AND VERIFY (10)", 0x2e, 10, NO_ACTION, OUT, W, RW10(0xf6), decode_write_verify,
     run_write_verify},
    {"VERIFY (10)", 0x2f, 10, NO_ACTION, OUT, R, RW10(0xf6), decode_verify, run_verify},
    {"PRE-FETCH (10)", 0x34, 10, NO_ACTION, NONE, R, RW10(0x02), decode_range_only, run_prefetch},
    {"SYNCHRONIZE CACHE (10)", 0x35, 10, NO_ACTION, NONE, LIKE_W, RW10(0x06), decode_synchronize,
     run_synchronize},
    {"READ DEFECT DATA (10)",
     0x37,
     10,
     NO_ACTION,
     IN,
     R,
     {0, 0, 0x1f, 0, 0, 0, 0, FF2},
     decode_allocation7,
     run_read_defects10},
    {"WRITE SAME (10)", 0x41, 10, NO_ACTION, OUT, W, RW10(0xf8), decode_write_same, run_write_same},
    {"UNMAP",
     0x42,
     10,
     NO_ACTION,
     OUT,
     W | OP_NOT_EVERYWHERE,
     {0, 0x01, 0, 0, 0, 0, 0x3f, FF2},
     decode_unmap,
     run_unmap},
    SANITIZE("OVERWRITE", SANITIZE_OVERWRITE, OUT, run_sanitize),
    SANITIZE("BLOCK ERASE", SANITIZE_BLOCK_ERASE, NONE, run_sanitize),
    SANITIZE("CRYPTO ERASE", SANITIZE_CRYPTO_ERASE, NONE, run_sanitize),
    SANITIZE("EXIT FAILURE MODE", 0x1f, NONE, run_exit_failure_mode),
    {"LOG SENSE",
     0x4d,
     10,
     NO_ACTION,
     IN,
     PAST,
     {0, 0, 0xff, 0xff, 0, FF2, FF2},
     decode_allocation7,
     run_log_sense},
    {"MODE SELECT (10)",
     0x55,
     10,
     NO_ACTION,
     OUT,
     LIKE_W,
     {0, 0x11, 0, 0, 0, 0, 0, FF2},
     decode_mode_select,
     run_mode_select},
    {"RESERVE (10)",
     0x56,
     10,
     NO_ACTION,
     NONE,
     LIKE_W,
     {0, 0, 0, 0, 0},
     decode_no_data,
     run_reserve6},
    {"RELEASE (10)",
     0x57,
     10,
     NO_ACTION,
     NONE,
     PAST,
     {0, 0, 0, 0, 0},
     decode_no_data,
     run_release6},
    {"MODE SENSE (10)",
     0x5a,
     10,
     NO_ACTION,
     IN,
     R | OP_SERVES_ALWAYS,
     {0, 0x18, 0xff, 0xff, 0, 0, 0, FF2},
     decode_allocation7,
     run_mode_sense},
    {"PERSISTENT RESERVE IN: READ KEYS", 0x5e, 10, 0x00, IN, PR, ALLOCATION_7, decode_allocation7,
     run_read_keys},
    {"PERSISTENT RESERVE IN: READ RESERVATION", 0x5e, 10, 0x01, IN, PR, ALLOCATION_7,
     decode_allocation7, run_read_reservation},
    {"PERSISTENT RESERVE IN: REPORT CAPABILITIES", 0x5e, 10, 0x02, IN, PR, ALLOCATION_7,
     decode_allocation7, run_reserve_capabilities},
    {"PERSISTENT RESERVE IN: READ FULL STATUS", 0x5e, 10, 0x03, IN, PR, ALLOCATION_7,
     decode_allocation7, run_read_full_status},
    RESERVE_OUT("REGISTER", 0x00),
    RESERVE_OUT("RESERVE", 0x01),
    RESERVE_OUT("RELEASE", 0x02),
    RESERVE_OUT("CLEAR", 0x03),
    RESERVE_OUT("PREEMPT", 0x04),
    RESERVE_OUT("PREEMPT AND ABORT", 0x05),
    RESERVE_OUT("REGISTER AND IGNORE EXISTING KEY", 0x06),
    RESERVE_OUT("REGISTER AND MOVE", 0x07),
    {"EXTENDED COPY (LID1)",
     0x83,
     16,
     0x00,
     OUT,
     0,
     {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, FF4},
     decode_extended_copy,
     run_extended_copy},
    {"RECEIVE COPY STATUS (LID1)",
     0x84,
     16,
     0x00,
     IN,
     PAST,
     {0, 0, 0xff, 0, 0, 0, 0, 0, 0, 0, FF4},
     decode_allocation10,
     run_copy_status},
    {"RECEIVE COPY OPERATING PARAMETERS", 0x84, 16, 0x03, IN, PAST, ALLOCATION_10,
     decode_allocation10, run_copy_parameters},
    {"READ (16)", 0x88, 16, NO_ACTION, IN, R, RW16(0xfb), decode_rw, run_read},
    {"COMPARE AND WRITE",
     0x89,
     16,
     NO_ACTION,
     OUT,
     WF,
     {0, 0xfa, FF8, 0, 0, 0, 0xff, 0x3f},
     decode_compare_and_write,
     run_compare_and_write},
    {"WRITE (16)", 0x8a, 16, NO_ACTION, OUT, WF, RW16(0xfb), decode_rw, run_write},
    {"ORWRITE", 0x8b, 16, NO_ACTION, OUT, WF, RW16(0xfa), decode_or_write, run_or_write},
    {"WRITE AND VERIFY (16)", 0x8e, 16, NO_ACTION, OUT, W, RW16(0xf6), decode_write_verify,
     run_write_verify},
    {"VERIFY (16)", 0x8f, 16, NO_ACTION, OUT, R, RW16(0xf6), decode_verify, run_verify},
    {"PRE-FETCH (16)", 0x90, 16, NO_ACTION, NONE, R, RW16(0x02), decode_range_only, run_prefetch},
    {"SYNCHRONIZE CACHE (16)", 0x91, 16, NO_ACTION, NONE, LIKE_W, RW16(0x06), decode_synchronize,
     run_synchronize},
    {"WRITE SAME (16)", 0x93, 16, NO_ACTION, OUT, W, RW16(0xf9), decode_write_same, run_write_same},
    {"WRITE ATOMIC (16)",
     0x9c,
     16,
     NO_ACTION,
     OUT,
     WF | OP_NOT_EVERYWHERE,
     {0, 0xf8, FF8, FF2, FF2, 0x3f},
     decode_write_atomic,
     run_write_atomic},
    {"READ CAPACITY (16)", 0x9e, 16, 0x10, IN, ALWAYS, ALLOCATION_10, decode_allocation10,
     run_read_capacity16},
    {"GET LBA STATUS",
     0x9e,
     16,
     0x12,
     IN,
     R,
     {0, 0, FF8, FF4, 0},
     decode_get_lba_status,
     run_get_lba_status},
    {"REPORT LUNS",
     0xa0,
     12,
     NO_ACTION,
     IN,
     ANY,
     {0, 0, 0xff, 0, 0, 0, FF4},
     decode_allocation_at_6,
     run_report_luns},
    {"REPORT TARGET PORT GROUPS",
     0xa3,
     12,
     0x0a,
     IN,
     ALWAYS,
     {0, 0xe0, 0, 0, 0, 0, FF4},
     decode_allocation_at_6,
     run_report_port_groups},
    {"REPORT SUPPORTED OPERATION CODES",
     0xa3,
     12,
     0x0c,
     IN,
     ALWAYS,
     {0, 0, 0x87, 0xff, FF2, FF4},
     decode_allocation_at_6,
     run_report_opcodes},
    {"REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS",
     0xa3,
     12,
     0x0d,
     IN,
     ALWAYS,
     {0, 0, 0x80, 0, 0, 0, FF4},
     decode_allocation_at_6,
     run_report_functions},
    {"READ (12)", 0xa8, 12, NO_ACTION, IN, R, RW12(0xfb), decode_rw, run_read},
    {"WRITE (12)", 0xaa, 12, NO_ACTION, OUT, WF, RW12(0xfb), decode_rw, run_write},
    {"WRITE AND VERIFY (12)", 0xae, 12, NO_ACTION, OUT, W, RW12(0xf6), decode_write_verify,
     run_write_verify},
    {"VERIFY (12)", 0xaf, 12, NO_ACTION, OUT, R, RW12(0xf6), decode_verify, run_verify},
    {"READ DEFECT DATA (12)",
     0xb7,
     12,
     NO_ACTION,
     IN,
     R,
     {0, 0x1f, FF4, FF4},
     decode_allocation_at_6,
     run_read_defects12},
};
const unsigned scsi_operation_count = ARRAY_SIZE(scsi_operations);

/* The first row of an opcode; the table is sorted by opcode. */
static unsigned first_row(uint8_t opcode)
{
    unsigned low = 0, high = scsi_operation_count;

    while (low < high) {
        unsigned middle = (low + high) / 2;

        if (scsi_operations[middle].opcode < opcode)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const struct scsi_operation *operation_find(const uint8_t *cdb, bool *is_service_action_wrong)
{
    for (unsigned i = first_row(cdb[0]);
         i < scsi_operation_count && scsi_operations[i].opcode == cdb[0]; i++) {
        if (scsi_operations[i].service_action == ANY_SERVICE_ACTION ||
            scsi_operations[i].service_action == (cdb[1] & 0x1f))
            return &scsi_operations[i];
        *is_service_action_wrong = true;
    }
    return NULL;
}

/* --- what not every disk has ------------------------------------------------------------- */

static bool may_erase(const struct scsi_lu *lu)
{
    return lu->may_erase;
}

/* By giving back space, so only where that shows (SBC-4 4.11.2). */
bool lu_may_erase_blocks(const struct scsi_lu *lu)
{
    return lu->may_erase && lu_may_unmap(lu);
}

static const struct {
    uint8_t opcode;
    int16_t service_action;
    bool (*is_there)(const struct scsi_lu *lu);
} conditions[] = {
    {0x04, NO_ACTION, may_erase},
    {0x42, NO_ACTION, lu_may_unmap},
    {0x48, SANITIZE_BLOCK_ERASE, lu_may_erase_blocks},
    {0x48, SANITIZE_CRYPTO_ERASE, lu_may_erase_blocks},
    {0x48, NO_ACTION, may_erase},
    {0x9c, NO_ACTION, lu_is_atomic},
};

bool operation_is_offered(const struct scsi_operation *o, const struct scsi_lu *lu)
{
    if (LIKELY(!(o->flags & OP_NOT_EVERYWHERE)))
        return true;
    for (unsigned i = 0; i < ARRAY_SIZE(conditions); i++)
        if (conditions[i].opcode == o->opcode &&
            (conditions[i].service_action == NO_ACTION ||
             conditions[i].service_action == o->service_action))
            return conditions[i].is_there(lu);
    return true;
}
