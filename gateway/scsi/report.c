/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * report.c: what the device server tells of itself: its commands (RSOC), its task management
 * functions (RSTMF), its target port groups (RTPG), SPC-4 6.34 to 6.38; log pages; and commands
 * that have nothing to do on such a disk.
 */
#include "internal.h"

#include <string.h>

#define RCTD 0x80u
#define TIMEOUTS_BYTES 12u

/* --- REPORT SUPPORTED OPERATION CODES ----------------------------------------------------- */

/* No timeouts are recommended: all of the descriptor is zero. */
static size_t put_timeouts(uint8_t *out)
{
    memset(out, 0, TIMEOUTS_BYTES);
    put16(out, TIMEOUTS_BYTES - 2);
    return TIMEOUTS_BYTES;
}

static bool has_service_action(const struct scsi_operation *o)
{
    return o->service_action != ANY_SERVICE_ACTION;
}

static enum io_status report_all(struct scsi_command *c)
{
    bool has_timeouts = c->cdb[2] & RCTD;
    uint8_t data[4 + 128 * (8 + TIMEOUTS_BYTES)] = {0};
    uint8_t *at = data + 4;

    for (unsigned i = 0; i < scsi_operation_count; i++) {
        const struct scsi_operation *o = &scsi_operations[i];

        if (!operation_is_offered(o, c->nexus_lu->lu))
            continue;
        memset(at, 0, 8);
        at[0] = o->opcode;
        if (has_service_action(o))
            put16(at + 2, (uint32_t)o->service_action);
        at[5] = (uint8_t)((has_timeouts ? 2 : 0) | (has_service_action(o) ? 1 : 0));
        put16(at + 6, o->cdb_bytes);
        at += 8;
        if (has_timeouts)
            at += put_timeouts(at);
    }
    put32(data, (uint32_t)(at - data - 4));
    command_answer(c, data, (size_t)(at - data), c->blocks);
    return IO_DONE;
}

/* Byte 0 is the opcode, the service action stands in its place, the rest says what is looked at. */
static void put_usage(const struct scsi_operation *o, uint8_t *out)
{
    memcpy(out, o->usage, o->cdb_bytes);
    out[0] = o->opcode;
    if (has_service_action(o))
        out[1] |= (uint8_t)o->service_action;
}

static enum io_status report_one(struct scsi_command *c, const struct scsi_operation *o)
{
    uint8_t data[4 + SCSI_CDB_BYTES + TIMEOUTS_BYTES] = {0};
    bool has_timeouts = c->cdb[2] & RCTD && o;
    size_t length = 4;

    data[1] = (uint8_t)((has_timeouts ? 0x80 : 0) | (o ? 3 : 1));
    if (o) {
        put16(data + 2, o->cdb_bytes);
        put_usage(o, data + 4);
        length += o->cdb_bytes;
    }
    if (has_timeouts)
        length += put_timeouts(data + length);
    command_answer(c, data, length, c->blocks);
    return IO_DONE;
}

static const struct scsi_operation *first_of(uint8_t opcode)
{
    for (unsigned i = 0; i < scsi_operation_count; i++)
        if (scsi_operations[i].opcode == opcode)
            return &scsi_operations[i];
    return NULL;
}

enum io_status run_report_opcodes(struct scsi_command *c)
{
    enum { ALL, ONE, ONE_WITH_ACTION, ONE_EITHER_WAY } option = c->cdb[2] & 7;
    const struct scsi_operation *o = first_of(c->cdb[3]);
    uint32_t action = get16(c->cdb + 4);
    uint8_t cdb[2] = {c->cdb[3], (uint8_t)(action & 0x1f)};
    bool is_wrong = false;

    if (option == ALL)
        return report_all(c);
    if (option > ONE_EITHER_WAY || (option == ONE && o && has_service_action(o)) ||
        (option == ONE_WITH_ACTION && o && !has_service_action(o))) {
        sense_bad_cdb(c, 2, 2);
        return IO_DONE;
    }
    if (o && has_service_action(o))
        o = action > 0x1f ? NULL : operation_find(cdb, &is_wrong);
    return report_one(c, o && operation_is_offered(o, c->nexus_lu->lu) ? o : NULL);
}

/* --- REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS ------------------------------------------- */

enum io_status run_report_functions(struct scsi_command *c)
{
    bool is_extended = c->cdb[2] & 0x80;
    uint8_t data[16] = {0};

    data[0] = 0xda;  /* ABORT TASK, its set, CLEAR TASK SET, LU RESET, TARGET RESET */
    data[0] |= 0x04; /* QUERY TASK */
    data[1] = 0x07;  /* QUERY ASYNC EVENT, QUERY TASK SET, I_T NEXUS RESET */
    if (is_extended)
        data[3] = 12;
    command_answer(c, data, is_extended ? 16 : 4, c->blocks);
    return IO_DONE;
}

/* --- REPORT TARGET PORT GROUPS ------------------------------------------------------------ */

#define STATES_SUPPORTED 0xcf /* T, O, U, S, AN, AO */

static size_t put_group(uint8_t *at, const struct scsi_port_group *g)
{
    memset(at, 0, 12);
    at[0] = (uint8_t)((g->is_preferred ? 0x80 : 0) | g->state);
    at[1] = STATES_SUPPORTED;
    put16(at + 2, g->id);
    at[5] = 2; /* altered by implicit ALUA */
    at[7] = 1;
    put16(at + 10, g->id); /* the relative port has the group's number */
    return 12;
}

enum io_status run_report_port_groups(struct scsi_command *c)
{
    struct scsi_port_group groups[SCSI_PORT_GROUPS_MAX];
    unsigned count = lu_port_groups(c->nexus_lu, groups), format = c->cdb[1] >> 5;
    uint8_t data[8 + 12 * SCSI_PORT_GROUPS_MAX] = {0};
    size_t length = format ? 8 : 4;

    if (format > 1) {
        sense_bad_cdb(c, 1, 7);
        return IO_DONE;
    }
    if (format)
        data[4] = 0x10; /* no transition time */
    for (unsigned i = 0; i < count; i++)
        length += put_group(data + length, &groups[i]);
    put32(data, (uint32_t)(length - 4));
    command_answer(c, data, length, c->blocks);
    return IO_DONE;
}

/* --- LOG SENSE ---------------------------------------------------------------------------- */

#define PAGE_SUPPORTED 0x00u
#define PAGE_PROVISIONING 0x0cu
#define PAGE_EXCEPTIONS 0x2fu

/* SBC-4 6.4.5: counts of blocks in units of the threshold set. */
static size_t put_resource(uint8_t *at, unsigned parameter, uint64_t bytes)
{
    uint64_t units = bytes >> PROVISIONING_UNIT_SHIFT;

    put16(at, parameter);
    at[2] = 0x03; /* binary list */
    at[3] = 8;
    put32(at + 4, (uint32_t)MIN(units, UINT64_C(0xffffffff)));
    at[8] = 0x01; /* may be shared with other disks */
    return 12;
}

static size_t log_page(struct scsi_lu *lu, uint8_t code, uint8_t *at)
{
    struct scsi_space space;

    switch (code) {
    case PAGE_SUPPORTED:
        at[0] = PAGE_SUPPORTED;
        at[1] = PAGE_PROVISIONING;
        at[2] = PAGE_EXCEPTIONS;
        return 3;
    case PAGE_PROVISIONING:
        if (!lu_space(lu, &space))
            return 0;
        return put_resource(at, 1, space.available_bytes) +
               put_resource(at + 12, 2, space.used_bytes);
    default: /* no exception */
        at[2] = 0x03;
        at[3] = 4;
        return 8;
    }
}

enum io_status run_log_sense(struct scsi_command *c)
{
    uint8_t data[64] = {0}, code = c->cdb[2] & 0x3f;
    size_t length;

    if (c->cdb[3] || get16(c->cdb + 5) ||
        (code != PAGE_SUPPORTED && code != PAGE_PROVISIONING && code != PAGE_EXCEPTIONS)) {
        sense_bad_cdb(c, c->cdb[3] ? 3 : get16(c->cdb + 5) ? 5 : 2, NO_BIT);
        return IO_DONE;
    }
    data[0] = code;
    length = log_page(c->nexus_lu->lu, code, data + 4);
    put16(data + 2, (uint32_t)length);
    command_answer(c, data, 4 + length, c->blocks);
    return IO_DONE;
}

/* --- nothing to do ------------------------------------------------------------------------ */

/* The medium cannot be removed, turned off or tested: such orders are obeyed by doing nothing. */
enum io_status run_nothing(struct scsi_command *c)
{
    (void)c;
    return IO_DONE;
}

/* SEND DIAGNOSTIC: the default self-test is passed; others would be offline (SPC-4 6.42). */
void decode_send_diagnostic(struct scsi_command *c)
{
    if (get16(c->cdb + 3))
        sense_bad_cdb(c, 3, NO_BIT);
    else if (c->cdb[1] >> 5)
        sense_bad_cdb(c, 1, 7);
}

/* SBC-4 5.17: there are no defects; the list has the format that was asked for. */
enum io_status run_read_defects10(struct scsi_command *c)
{
    uint8_t data[4] = {0};

    data[1] = c->cdb[2] & 0x1f;
    command_answer(c, data, sizeof data, c->blocks);
    return IO_DONE;
}

enum io_status run_read_defects12(struct scsi_command *c)
{
    uint8_t data[8] = {0};

    data[1] = c->cdb[1] & 0x1f;
    command_answer(c, data, sizeof data, c->blocks);
    return IO_DONE;
}
