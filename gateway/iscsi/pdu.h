/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pdu: the bytes of iSCSI PDUs (RFC 7143 section 11), pure: no I/O, no memory of its own.  Private
 * to the iscsi room, its tests and its fuzzers.
 *
 * A PDU is a basic header segment of 48 bytes, additional header segments, perhaps a header digest,
 * data padded to four bytes, perhaps a data digest.  Everything here works on (pointer, length) and
 * never looks past it.
 */
#ifndef SLUICE_ISCSI_PDU_H
#define SLUICE_ISCSI_PDU_H

#include "base/base.h"

#include <string.h>

#define BHS_BYTES 48u
#define AHS_BYTES_MAX (255u * 4)
#define DIGEST_BYTES 4u
/* The longest that is held in one piece: header, additional headers, digest. */
#define HEAD_BYTES_MAX (BHS_BYTES + AHS_BYTES_MAX + DIGEST_BYTES)
#define DATA_BYTES_MAX 0xffffffu
#define NO_TAG 0xffffffffu

/* RFC 7143 11.2.1.2 */
enum pdu_opcode {
    PDU_NOP_OUT = 0x00,
    PDU_SCSI_COMMAND = 0x01,
    PDU_TASK_MANAGEMENT = 0x02,
    PDU_LOGIN = 0x03,
    PDU_TEXT = 0x04,
    PDU_DATA_OUT = 0x05,
    PDU_LOGOUT = 0x06,
    PDU_SNACK = 0x10,
    PDU_NOP_IN = 0x20,
    PDU_SCSI_RESPONSE = 0x21,
    PDU_TASK_MANAGEMENT_RESPONSE = 0x22,
    PDU_LOGIN_RESPONSE = 0x23,
    PDU_TEXT_RESPONSE = 0x24,
    PDU_DATA_IN = 0x25,
    PDU_LOGOUT_RESPONSE = 0x26,
    PDU_R2T = 0x31,
    PDU_ASYNC = 0x32,
    PDU_REJECT = 0x3f
};

#define PDU_OPCODE_MASK 0x3fu
#define PDU_IMMEDIATE 0x40u /* byte 0 */
#define PDU_FINAL 0x80u     /* byte 1; also T of a login */
#define PDU_CONTINUE 0x40u  /* byte 1 of login and text */
#define COMMAND_READ 0x40u  /* byte 1 of a SCSI command */
#define COMMAND_WRITE 0x20u
#define COMMAND_ATTRIBUTE 0x07u
#define DATA_IN_STATUS 0x01u /* byte 1 of Data-In */
#define RESIDUAL_OVERFLOW 0x04u
#define RESIDUAL_UNDERFLOW 0x02u

/* RFC 7143 11.17.1 */
enum reject_reason {
    REJECT_DATA_DIGEST = 0x02,
    REJECT_SNACK = 0x03,
    REJECT_PROTOCOL_ERROR = 0x04,
    REJECT_NOT_SUPPORTED = 0x05,
    REJECT_TOO_MANY_IMMEDIATE = 0x06,
    REJECT_TASK_IN_PROGRESS = 0x07,
    REJECT_INVALID_FIELD = 0x09,
    REJECT_WAITING_FOR_LOGOUT = 0x0c
};

/* RFC 7143 11.9.1 */
enum async_event {
    ASYNC_SCSI = 0,
    ASYNC_LOGOUT_REQUESTED = 1,
    ASYNC_CONNECTION_DROPS = 2,
    ASYNC_SESSION_DROPS = 3
};

/* Fields that many PDUs share. */
static inline unsigned pdu_opcode(const uint8_t *bhs)
{
    return bhs[0] & PDU_OPCODE_MASK;
}
static inline bool pdu_is_immediate(const uint8_t *bhs)
{
    return bhs[0] & PDU_IMMEDIATE;
}
static inline unsigned pdu_ahs_bytes(const uint8_t *bhs)
{
    return bhs[4] * 4u;
}
static inline uint32_t pdu_data_bytes(const uint8_t *bhs)
{
    return get24(bhs + 5);
}
static inline unsigned pdu_pad_bytes(uint32_t data_bytes)
{
    return -data_bytes & 3u;
}
static inline uint32_t pdu_tag(const uint8_t *bhs)
{
    return get32(bhs + 16);
}
static inline uint32_t pdu_target_tag(const uint8_t *bhs)
{
    return get32(bhs + 20);
}
static inline uint32_t pdu_command_sn(const uint8_t *bhs)
{
    return get32(bhs + 24);
}
static inline uint32_t pdu_expected_status_sn(const uint8_t *bhs)
{
    return get32(bhs + 28);
}

/* Serial number arithmetic of 32 bits (RFC 1982): a comes before b. */
static inline bool serial_is_before(uint32_t a, uint32_t b)
{
    return (int32_t)(a - b) < 0;
}

/* How opcodes of an initiator behave. */
#define OPCODE_KNOWN 0x1u
#define OPCODE_HAS_COMMAND_SN 0x2u /* takes a CmdSN unless it is immediate */
#define OPCODE_TAKES_DATA 0x4u
/* 0: none an initiator may send. */
unsigned pdu_opcode_traits(unsigned opcode);
const char *pdu_opcode_name(unsigned opcode);

/* The digest of a header as it goes over the wire: four bytes, least significant first. */
void digest_store(uint8_t *out, uint32_t crc);
bool digest_matches(const uint8_t *wire, uint32_t crc);

/* What additional headers say of a command (RFC 7143 11.2.2.3 and 4). */
struct pdu_extension {
    const uint8_t *cdb_rest; /* after the first 16 bytes; NULL: none */
    unsigned cdb_rest_bytes;
    bool has_read_length;
    uint32_t read_bytes; /* of a bidirectional command */
};
/* ahs: `length` bytes.  False: it is malformed, repeated or unknown. */
bool pdu_parse_ahs(const uint8_t *ahs, unsigned length, struct pdu_extension *out) MUST_CHECK;

#endif
