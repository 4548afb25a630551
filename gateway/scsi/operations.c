/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * operations.c: the table of commands.  From it come decoding, the check of reserved bits, what a
 * reservation or a unit attention lets through, and REPORT SUPPORTED OPERATION CODES.
 *
 * usage: bit by bit what is looked at (SPC-4 6.34.3 CDB usage data); the service action is implied.
 */
#include "internal.h"

#define R (OP_READS)
#define W (OP_WRITES)
#define ANY (OP_ANY_LUN | OP_PAST_ATTENTION | OP_SERVES_ALWAYS | OP_PAST_RESERVATION)

const struct scsi_operation scsi_operations[] = {
    {"TEST UNIT READY",
     0x00,
     6,
     ANY_SERVICE_ACTION,
     SCSI_NO_DATA,
     0,
     {0},
     decode_no_data,
     run_test_unit_ready},
    {"REQUEST SENSE",
     0x03,
     6,
     ANY_SERVICE_ACTION,
     SCSI_DATA_IN,
     ANY,
     {0, 0x01, 0, 0, 0xff},
     decode_allocation_byte4,
     run_request_sense},
    {"READ (6)",
     0x08,
     6,
     ANY_SERVICE_ACTION,
     SCSI_DATA_IN,
     R,
     {0, 0x1f, 0xff, 0xff, 0xff},
     decode_rw6,
     run_read},
    {"WRITE (6)",
     0x0a,
     6,
     ANY_SERVICE_ACTION,
     SCSI_DATA_OUT,
     W,
     {0, 0x1f, 0xff, 0xff, 0xff},
     decode_rw6,
     run_write},
    {"INQUIRY",
     0x12,
     6,
     ANY_SERVICE_ACTION,
     SCSI_DATA_IN,
     ANY,
     {0, 0x01, 0xff, 0xff, 0xff},
     decode_allocation6,
     run_inquiry},
    {"READ CAPACITY (10)",
     0x25,
     10,
     ANY_SERVICE_ACTION,
     SCSI_DATA_IN,
     OP_PAST_RESERVATION,
     {0, 0x01, 0xff, 0xff, 0xff, 0xff, 0, 0, 0x01},
     decode_read_capacity10,
     run_read_capacity10},
    {"READ (10)",
     0x28,
     10,
     ANY_SERVICE_ACTION,
     SCSI_DATA_IN,
     R,
     {0, 0xfb, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff},
     decode_rw10,
     run_read},
    {"WRITE (10)",
     0x2a,
     10,
     ANY_SERVICE_ACTION,
     SCSI_DATA_OUT,
     W,
     {0, 0xfb, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff},
     decode_rw10,
     run_write},
    {"READ (16)",
     0x88,
     16,
     ANY_SERVICE_ACTION,
     SCSI_DATA_IN,
     R,
     {0, 0xfb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f},
     decode_rw16,
     run_read},
    {"WRITE (16)",
     0x8a,
     16,
     ANY_SERVICE_ACTION,
     SCSI_DATA_OUT,
     W,
     {0, 0xfb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f},
     decode_rw16,
     run_write},
    {"READ CAPACITY (16)",
     0x9e,
     16,
     0x10,
     SCSI_DATA_IN,
     OP_PAST_RESERVATION,
     {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff},
     decode_allocation10,
     run_read_capacity16},
    {"REPORT LUNS",
     0xa0,
     12,
     ANY_SERVICE_ACTION,
     SCSI_DATA_IN,
     ANY,
     {0, 0, 0xff, 0, 0, 0, 0xff, 0xff, 0xff, 0xff},
     decode_allocation_at_6,
     run_report_luns},
    {"READ (12)",
     0xa8,
     12,
     ANY_SERVICE_ACTION,
     SCSI_DATA_IN,
     R,
     {0, 0xfb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f},
     decode_rw12,
     run_read},
    {"WRITE (12)",
     0xaa,
     12,
     ANY_SERVICE_ACTION,
     SCSI_DATA_OUT,
     W,
     {0, 0xfb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f},
     decode_rw12,
     run_write},
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
