/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sense.c: sense data in both formats (SPC-4 4.5), and the one place where an errno of the engine
 * becomes a sense code.
 *
 * Fixed format: 18 bytes.  Descriptor format: a header of 8 bytes, then descriptors.  Which one a
 * command gets is D_SENSE of the control mode page.
 */
#include "internal.h"

#include <errno.h>
#include <string.h>

#define FIXED_BYTES 18u
#define DESCRIPTOR_HEADER_BYTES 8u
#define RESPONSE_FIXED 0x70u
#define RESPONSE_DESCRIPTOR 0x72u
#define VALID 0x80u

unsigned sense_build(uint8_t *out, bool is_descriptor, enum sense_key key, uint16_t asc)
{
    unsigned length = is_descriptor ? DESCRIPTOR_HEADER_BYTES : FIXED_BYTES;

    memset(out, 0, length);
    if (is_descriptor) {
        out[0] = RESPONSE_DESCRIPTOR;
        out[1] = (uint8_t)key;
        put16(out + 2, asc);
        return length;
    }
    out[0] = RESPONSE_FIXED;
    out[2] = (uint8_t)key;
    out[7] = FIXED_BYTES - 8;
    put16(out + 12, asc);
    return length;
}

static bool is_descriptor(const uint8_t *sense)
{
    return (sense[0] & 0x7f) == RESPONSE_DESCRIPTOR;
}

static bool wants_descriptor(const struct scsi_command *c)
{
    const struct scsi_lu *lu = c->nexus_lu->lu;

    return lu && atomic_load_explicit(&lu->is_descriptor_sense, memory_order_relaxed);
}

void sense_set(struct scsi_command *c, enum sense_key key, uint16_t asc)
{
    c->status = SCSI_CHECK_CONDITION;
    c->sense_bytes = (uint8_t)sense_build(c->sense, wants_descriptor(c), key, asc);
}

/* A zeroed descriptor at the end of the sense data. */
static uint8_t *add_descriptor(struct scsi_command *c, uint8_t type, uint8_t length)
{
    uint8_t *d = c->sense + c->sense_bytes;

    memset(d, 0, length);
    d[0] = type;
    d[1] = (uint8_t)(length - 2);
    c->sense_bytes = (uint8_t)(c->sense_bytes + length);
    c->sense[7] = (uint8_t)(c->sense_bytes - DESCRIPTOR_HEADER_BYTES);
    return d;
}

/* SPC-4 4.5.2.4.2: SKSV, C/D, BPV, bit pointer, field pointer. */
static void add_field_pointer(struct scsi_command *c, bool is_in_cdb, unsigned byte, unsigned bit)
{
    uint8_t *p = is_descriptor(c->sense) ? add_descriptor(c, 0x02, 8) + 4 : c->sense + 15;

    p[0] = VALID | (is_in_cdb ? 0x40 : 0);
    if (bit < NO_BIT)
        p[0] |= (uint8_t)(0x08 | bit);
    put16(p + 1, byte);
}

void sense_bad_cdb(struct scsi_command *c, unsigned byte, unsigned bit)
{
    sense_set(c, SENSE_ILLEGAL_REQUEST, ASC_INVALID_FIELD_IN_CDB);
    add_field_pointer(c, true, byte, bit);
}

void sense_bad_list(struct scsi_command *c, unsigned byte, unsigned bit)
{
    sense_set(c, SENSE_ILLEGAL_REQUEST, ASC_INVALID_FIELD_IN_LIST);
    add_field_pointer(c, false, byte, bit);
}

void sense_add_information(struct scsi_command *c, uint64_t information)
{
    if (is_descriptor(c->sense)) {
        uint8_t *d = add_descriptor(c, 0x00, 12);

        d[2] = VALID;
        put64(d + 4, information);
        return;
    }
    if (information > UINT32_MAX)
        return; /* SPC-4 4.5.3: VALID stays 0 where it does not fit */
    c->sense[0] |= VALID;
    put32(c->sense + 3, (uint32_t)information);
}

/* --- errors of the engine ----------------------------------------------------------------- */

static const struct {
    int error;
    enum sense_key key;
    uint16_t asc;
} error_table[] = {
    {ENOSPC, SENSE_DATA_PROTECT, ASC_SPACE_EXHAUSTED},
    {EDQUOT, SENSE_DATA_PROTECT, ASC_SPACE_EXHAUSTED},
    {EROFS, SENSE_DATA_PROTECT, ASC_WRITE_PROTECTED},
    {EPERM, SENSE_DATA_PROTECT, ASC_WRITE_PROTECTED},
    {EILSEQ, SENSE_MISCOMPARE, ASC_MISCOMPARE},
    {EINVAL, SENSE_ILLEGAL_REQUEST, ASC_LBA_OUT_OF_RANGE},
    {ETIMEDOUT, SENSE_ABORTED_COMMAND, ASC_TIMEOUT},
    {ESHUTDOWN, SENSE_NOT_READY, ASC_BECOMING_READY},
};

void sense_from_error(struct scsi_command *c, int error, uint64_t miscompare_offset)
{
    bool writes = c->operation->flags & OP_WRITES;

    if (error == ENOMEM) {
        c->status = SCSI_BUSY; /* initiators wait and try again */
        c->sense_bytes = 0;
        return;
    }
    for (unsigned i = 0; i < ARRAY_SIZE(error_table); i++)
        if (error_table[i].error == error) {
            sense_set(c, error_table[i].key, error_table[i].asc);
            if (error == EILSEQ)
                sense_add_information(c, miscompare_offset);
            return;
        }
    if (error == EIO)
        sense_set(c, SENSE_MEDIUM_ERROR, writes ? ASC_WRITE_ERROR : ASC_READ_ERROR);
    else
        sense_set(c, SENSE_HARDWARE_ERROR, ASC_INTERNAL_FAILURE);
}
