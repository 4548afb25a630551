/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * simple.c: the commands that only tell what is known anyhow: REQUEST SENSE, REPORT LUNS, READ
 * CAPACITY; and the decoding of allocation lengths.
 */
#include "internal.h"

#include <string.h>

/* --- allocation lengths: cut to what any parameter data can be ---------------------------- */

static void allocation(struct scsi_command *c, uint32_t length)
{
    c->blocks = length; /* kept for command_answer() */
    c->transfer_bytes = MIN(length, PARAMETER_DATA_MAX);
}

void decode_allocation_byte4(struct scsi_command *c)
{
    allocation(c, c->cdb[4]);
}

void decode_allocation6(struct scsi_command *c)
{
    allocation(c, get16(c->cdb + 3));
}

void decode_allocation7(struct scsi_command *c)
{
    allocation(c, get16(c->cdb + 7));
}

void decode_allocation_at_6(struct scsi_command *c)
{
    allocation(c, get32(c->cdb + 6));
}

void decode_allocation10(struct scsi_command *c)
{
    allocation(c, get32(c->cdb + 10));
}

/* --- commands ----------------------------------------------------------------------------- */

/* SPC-4 6.39: parameter data with status GOOD; a unit attention that is told here is gone. */
enum io_status run_request_sense(struct scsi_command *c)
{
    struct scsi_nexus_lu *n = c->nexus_lu;
    uint8_t sense[SCSI_SENSE_BYTES];
    enum sense_key key = SENSE_NONE;
    uint16_t asc = ASC_NONE;
    unsigned length;

    if (!n->lu) {
        key = SENSE_ILLEGAL_REQUEST;
        asc = ASC_NO_SUCH_LUN;
    } else if (attention_check_capacity(n), attention_peek(n)) {
        key = SENSE_UNIT_ATTENTION;
        asc = attention_take(n);
    } else if (atomic_load(&n->lu->gates) & LU_ERASING) {
        key = SENSE_NOT_READY;
        asc = ASC_SANITIZE_IN_PROGRESS;
    }
    length = sense_build(sense, c->cdb[1] & 1, key, asc);
    command_answer(c, sense, length, c->blocks);
    return IO_DONE;
}

/* SPC-4 6.33. SELECT REPORT 0, 2: all; 1: well known ones, of which there are none. */
enum io_status run_report_luns(struct scsi_command *c)
{
    struct scsi_nexus *nexus = c->nexus;
    uint8_t list[8 + 8 * SCSI_LUNS_MAX] = {0};
    unsigned count = c->cdb[2] == 1 ? 0 : nexus->count;

    if (c->cdb[2] > 2) {
        sense_bad_cdb(c, 2, NO_BIT);
        return IO_DONE;
    }
    for (unsigned i = 0; i < count; i++)
        put64(list + 8 + 8 * i, lun_to_wire(nexus->lus[i]->lun));
    put32(list, 8 * count);
    for (unsigned i = 0; i < nexus->count; i++)
        atomic_fetch_and(&nexus->lus[i]->attentions, ~(1u << ATTENTION_LUNS_CHANGED));
    command_answer(c, list, 8 + 8 * (size_t)count, c->blocks);
    return IO_DONE;
}

/* SBC-4 5.20. */
enum io_status run_read_capacity10(struct scsi_command *c)
{
    const struct scsi_lu *lu = c->nexus_lu->lu;
    uint64_t last = lu_blocks(lu) - 1;
    uint8_t data[8];

    if (get32(c->cdb + 2) != 0 || c->cdb[8] & 1) {
        sense_bad_cdb(c, c->cdb[8] & 1 ? 8 : 2, NO_BIT); /* PMI and its LBA are obsolete */
        return IO_DONE;
    }
    put32(data, (uint32_t)MIN(last, UINT64_C(0xffffffff)));
    put32(data + 4, lu->block_bytes);
    command_answer(c, data, sizeof data, sizeof data);
    return IO_DONE;
}

void decode_read_capacity10(struct scsi_command *c)
{
    c->transfer_bytes = 8;
}

/* SBC-4 5.21. */
enum io_status run_read_capacity16(struct scsi_command *c)
{
    const struct scsi_lu *lu = c->nexus_lu->lu;
    uint8_t data[32] = {0};

    put64(data, lu_blocks(lu) - 1);
    put32(data + 8, lu->block_bytes);
    data[13] = (uint8_t)__builtin_ctz(lu->physical_bytes / lu->block_bytes);
    if (lu_is_thin(lu))
        data[14] = 0xc0; /* LBPME, LBPRZ: a trimmed block reads as zeros */
    command_answer(c, data, sizeof data, c->blocks);
    return IO_DONE;
}
