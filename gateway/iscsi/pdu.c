/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pdu.c: what opcodes there are, digests on the wire, and additional header segments.
 */
#include "iscsi/pdu.h"

/* --- opcodes --------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    unsigned traits;
} opcodes[PDU_OPCODE_MASK + 1] = {
    [PDU_NOP_OUT] = {"NOP-Out", OPCODE_KNOWN | OPCODE_HAS_COMMAND_SN | OPCODE_TAKES_DATA},
    [PDU_SCSI_COMMAND] = {"SCSI Command", OPCODE_KNOWN | OPCODE_HAS_COMMAND_SN | OPCODE_TAKES_DATA},
    [PDU_TASK_MANAGEMENT] = {"Task Management", OPCODE_KNOWN | OPCODE_HAS_COMMAND_SN},
    [PDU_LOGIN] = {"Login", OPCODE_KNOWN | OPCODE_TAKES_DATA},
    [PDU_TEXT] = {"Text", OPCODE_KNOWN | OPCODE_HAS_COMMAND_SN | OPCODE_TAKES_DATA},
    [PDU_DATA_OUT] = {"Data-Out", OPCODE_KNOWN | OPCODE_TAKES_DATA},
    [PDU_LOGOUT] = {"Logout", OPCODE_KNOWN | OPCODE_HAS_COMMAND_SN},
    [PDU_SNACK] = {"SNACK", OPCODE_KNOWN},
};

unsigned pdu_opcode_traits(unsigned opcode)
{
    return opcodes[opcode & PDU_OPCODE_MASK].traits;
}

const char *pdu_opcode_name(unsigned opcode)
{
    const char *name = opcodes[opcode & PDU_OPCODE_MASK].name;

    return name ? name : "unknown";
}

/* --- digests --------------------------------------------------------------------------------- */

void digest_store(uint8_t *out, uint32_t crc)
{
    for (unsigned i = 0; i < DIGEST_BYTES; i++)
        out[i] = (uint8_t)(crc >> (8 * i));
}

bool digest_matches(const uint8_t *wire, uint32_t crc)
{
    uint8_t expected[DIGEST_BYTES];

    digest_store(expected, crc);
    return memcmp(wire, expected, DIGEST_BYTES) == 0;
}

/* --- additional header segments ----------------------------------------------------------------
 */

#define AHS_EXTENDED_CDB 1
#define AHS_READ_LENGTH 2
#define CDB_REST_MAX 244u /* 260 bytes of CDB in all */

static bool take_extended_cdb(const uint8_t *body, unsigned bytes, struct pdu_extension *out)
{
    if (out->cdb_rest || bytes < 2 || bytes - 1 > CDB_REST_MAX)
        return false;
    out->cdb_rest = body + 1; /* the first byte is reserved */
    out->cdb_rest_bytes = bytes - 1;
    return true;
}

static bool take_read_length(const uint8_t *body, unsigned bytes, struct pdu_extension *out)
{
    if (out->has_read_length || bytes != 5)
        return false;
    out->has_read_length = true;
    out->read_bytes = get32(body + 1);
    return true;
}

/* A segment: two bytes of length (of what follows the type), a type, the rest, padded to four. */
bool pdu_parse_ahs(const uint8_t *ahs, unsigned length, struct pdu_extension *out)
{
    *out = (struct pdu_extension){.cdb_rest = NULL};
    for (unsigned at = 0; at < length;) {
        unsigned bytes, whole;
        bool is_good = false;

        if (length - at < 4)
            return false;
        bytes = get16(ahs + at);
        whole = (3 + bytes + 3) / 4 * 4;
        if (whole > length - at)
            return false;
        switch (ahs[at + 2]) {
        case AHS_EXTENDED_CDB:
            is_good = take_extended_cdb(ahs + at + 3, bytes, out);
            break;
        case AHS_READ_LENGTH:
            is_good = take_read_length(ahs + at + 3, bytes, out);
            break;
        }
        if (!is_good)
            return false;
        at += whole;
    }
    return true;
}
