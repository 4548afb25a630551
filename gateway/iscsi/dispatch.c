/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * dispatch.c: by state and opcode: where the data of a PDU goes when its header is there, and who
 * handles it when all of it is there.
 */
#include "internal.h"

/* --- data that is not a write's
 * -------------------------------------------------------------------- */

static void begin_scratch(struct conn *c)
{
    uint32_t bytes = pdu_data_bytes(c->head);

    if (bytes == 0)
        return;
    c->scratch = malloc(bytes);
    if (!c->scratch) {
        conn_end(c, "out of memory");
        return;
    }
    c->data = c->scratch;
    c->room_left = bytes;
}

static void end_scratch(struct conn *c)
{
    free(c->scratch);
    c->scratch = NULL;
}

/* --- CmdSN
 * ---------------------------------------------------------------------------------------------- */

/*
 * True: the PDU is to be carried out.  Outside of the window it is ignored (RFC 7143 4.2.2.1).  In
 * a session of one connection commands come in order, so a number ahead of its turn means that one
 * was lost, which ends the session at ErrorRecoveryLevel 0.
 */
static bool take_command_sn(struct conn *c)
{
    uint32_t sn = pdu_command_sn(c->head);

    if (pdu_is_immediate(c->head))
        return true;
    if (serial_is_before(sn, c->expected_command_sn) ||
        serial_is_before(conn_max_command_sn(c), sn))
        return false;
    if (sn != c->expected_command_sn) {
        conn_end(c, "CmdSN %u came where %u was expected", sn, c->expected_command_sn);
        return false;
    }
    c->expected_command_sn++;
    return true;
}

/* --- full feature phase
 * ------------------------------------------------------------------------------------ */

static void reject_not_supported(struct conn *c)
{
    conn_reject(c, REJECT_NOT_SUPPORTED);
}

static void reject_snack(struct conn *c)
{
    conn_reject(c, REJECT_SNACK);
}

static void login_again(struct conn *c)
{
    conn_reject(c, REJECT_PROTOCOL_ERROR);
    conn_end(c, "a login came in full feature phase");
}

static const struct {
    void (*begin)(struct conn *c);
    void (*end)(struct conn *c);
    bool is_for_discovery;
} handlers[PDU_OPCODE_MASK + 1] = {
    [PDU_NOP_OUT] = {begin_scratch, nop_request, true},
    [PDU_SCSI_COMMAND] = {command_begin, command_data_end, false},
    [PDU_TASK_MANAGEMENT] = {NULL, management_request, false},
    [PDU_LOGIN] = {NULL, login_again, true},
    [PDU_TEXT] = {begin_scratch, text_request, true},
    [PDU_DATA_OUT] = {data_out_begin, command_data_end, false},
    [PDU_LOGOUT] = {NULL, logout_request, true},
    [PDU_SNACK] = {NULL, reject_snack, false},
};

/* What to do in the end: the handler's, or one of these. */
static void ignore(struct conn *c)
{
    (void)c;
}

static void begin_full_feature(struct conn *c)
{
    unsigned opcode = pdu_opcode(c->head), traits = pdu_opcode_traits(opcode);

    c->data_task = NULL;
    c->end = handlers[opcode].end;
    if (!traits || (c->is_discovery && !handlers[opcode].is_for_discovery))
        c->end = reject_not_supported;
    else if ((traits & OPCODE_HAS_COMMAND_SN) && !take_command_sn(c))
        c->end = ignore;
    else if (handlers[opcode].begin)
        handlers[opcode].begin(c);
}

/* --- outside
 * ---------------------------------------------------------------------------------------------- */

void pdu_begin(struct conn *c)
{
    if (LIKELY(c->state == CONN_LOGGED_IN))
        begin_full_feature(c);
    else if (pdu_opcode(c->head) == PDU_LOGIN)
        begin_scratch(c);
    else
        conn_end(c, "a %s PDU came before the login", pdu_opcode_name(pdu_opcode(c->head)));
}

void pdu_end(struct conn *c)
{
    if (LIKELY(c->state == CONN_LOGGED_IN))
        c->end(c);
    else
        entry_request(c);
    if (c->scratch)
        end_scratch(c);
}
