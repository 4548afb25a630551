/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * command.c: the life of a command, from its CDB to its status.
 *
 *     decode -> DECODED -> start -> (WAITING, see order.c) -> STARTED -> admission -> run() ->
 * (steps) -> ENDED
 *                  \-> cancelled, forgotten                               \-> refused by a gate,
 * ENDED
 *
 * A command is in the list of its I_T_L nexus from decode to the end, so that task management finds
 * it.  Everything here runs in the home of the nexus.
 */
#include "internal.h"

#include <errno.h>
#include <string.h>

enum { DECODED, WAITING, STARTED, ENDED };

/* CONTROL is the last byte of a CDB; NACA is not supported (SAM-5 5.2). */
#define NACA 0x04u

/* --- decode ------------------------------------------------------------------------------- */

static const struct scsi_operation unknown_operation = {.name = "unknown command", .cdb_bytes = 6};

static void reset(struct scsi_command *c)
{
    c->direction = SCSI_NO_DATA;
    c->status = SCSI_GOOD;
    c->sense_bytes = 0;
    c->is_aborted = c->is_cancelled = c->is_told = false;
    c->transfer_bytes = c->data_in_bytes = 0;
    c->lba = c->blocks = 0;
    c->request = NULL;
    c->job = NULL;
    c->state = DECODED;
}

/* Reserved bits must be zero: what an initiator means by them is not what would be done. The
 * addressing bits that SCSI-2 had in byte 1 of short CDBs are ignored, as everywhere. */
static void check_reserved_bits(struct scsi_command *c)
{
    const struct scsi_operation *o = c->operation;

    for (unsigned i = 1; i < o->cdb_bytes; i++) {
        uint8_t known = o->usage[i], wrong;

        if (i == 1 && o->service_action != ANY_SERVICE_ACTION)
            known |= 0x1f;
        if (i == 1 && o->cdb_bytes == 6)
            known |= 0xe0;
        if (i == o->cdb_bytes - 1u)
            known |= (uint8_t)~NACA;
        wrong = c->cdb[i] & (uint8_t)~known;
        if (wrong) {
            sense_bad_cdb(c, i, 31u - (unsigned)__builtin_clz(wrong));
            return;
        }
    }
}

static void decode_cdb(struct scsi_command *c)
{
    bool is_service_action_wrong = false;

    c->operation = operation_find(c->cdb, &is_service_action_wrong);
    if (!c->operation) {
        c->operation = &unknown_operation;
        if (is_service_action_wrong)
            sense_bad_cdb(c, 1, 4);
        else
            sense_set(c, SENSE_ILLEGAL_REQUEST, ASC_INVALID_OPCODE);
        return;
    }
    if (c->nexus_lu->lu && !operation_is_offered(c->operation, c->nexus_lu->lu)) {
        sense_set(c, SENSE_ILLEGAL_REQUEST, ASC_INVALID_OPCODE);
        return;
    }
    if (c->cdb_bytes < c->operation->cdb_bytes) {
        sense_bad_cdb(c, 0, NO_BIT);
        return;
    }
    check_reserved_bits(c);
    if (!c->sense_bytes)
        c->operation->decode(c);
}

void scsi_command_decode(struct scsi_command *c)
{
    reset(c);
    c->nexus_lu = nexus_find_lun(c->nexus, c->lun);
    list_append(&c->nexus_lu->commands, &c->link);
    order_enter(c);
    decode_cdb(c);
    if (!c->nexus_lu->lu && !(c->operation->flags & OP_ANY_LUN))
        sense_set(c, SENSE_ILLEGAL_REQUEST, ASC_NO_SUCH_LUN);
    if (c->sense_bytes)
        c->transfer_bytes = 0;
    else if (c->transfer_bytes)
        c->direction = c->operation->direction;
    c->expected_bytes = c->transfer_bytes;
}

/* --- decoding helpers --------------------------------------------------------------------- */

void decode_no_data(struct scsi_command *c)
{
    (void)c;
}

bool check_range(struct scsi_command *c)
{
    uint64_t size;

    if (!c->nexus_lu->lu)
        return false; /* answered by scsi_command_decode() */
    size = lu_blocks(c->nexus_lu->lu);
    if (c->lba <= size && c->blocks <= size - c->lba)
        return true;
    sense_set(c, SENSE_ILLEGAL_REQUEST, ASC_LBA_OUT_OF_RANGE);
    return false;
}

void command_answer(struct scsi_command *c, const void *data, size_t length, size_t allocation)
{
    c->transfer_bytes = (uint32_t)MIN(length, allocation);
    c->data_in_bytes = MIN(c->transfer_bytes, c->data_bytes);
    if (c->data_in_bytes)
        memcpy(c->data, data, c->data_in_bytes);
}

/* --- start and end ------------------------------------------------------------------------ */

static void leave(struct scsi_command *c)
{
    struct scsi_nexus_lu *n = c->nexus_lu;

    list_remove(&c->link);
    c->state = ENDED;
    order_leave(c);
    if (UNLIKELY(c->is_cancelled)) {
        c->is_aborted = !c->is_told;
        c->status = SCSI_TASK_ABORTED;
        c->sense_bytes = 0;
        c->data_in_bytes = 0;
    }
    n->in_flight--;
    n->nexus->in_flight--;
    nexus_lu_settle(n);
}

/* False: the status says why it does not run. */
static bool admit(struct scsi_command *c)
{
    struct scsi_nexus_lu *n = c->nexus_lu;
    uint8_t flags = c->operation->flags;
    uint16_t asc;

    if (c->is_cancelled)
        return false;
    if (!n->lu && !(flags & OP_ANY_LUN))
        sense_set(c, SENSE_ILLEGAL_REQUEST, ASC_NO_SUCH_LUN);
    else if (n->lu && !(flags & OP_PAST_ATTENTION)) {
        attention_check_capacity(n);
        asc = attention_take(n);
        if (asc)
            sense_set(c, SENSE_UNIT_ATTENTION, asc);
    }
    return c->sense_bytes == 0 && (!n->lu || gates_pass(c));
}

static enum io_status begin(struct scsi_command *c)
{
    enum io_status status = IO_DONE;

    c->state = STARTED;
    if (admit(c))
        status = c->operation->run(c);
    if (status == IO_DONE)
        leave(c);
    return status;
}

enum io_status scsi_command_start(struct scsi_command *c)
{
    c->nexus_lu->in_flight++;
    c->nexus->in_flight++;
    if (LIKELY(!order_must_wait(c)))
        return begin(c);
    c->state = WAITING;
    order_wait(c);
    return IO_PENDING;
}

void command_go_on(struct scsi_command *c)
{
    if (begin(c) == IO_DONE)
        c->done(c);
}

void command_end(struct scsi_command *c)
{
    leave(c);
    c->done(c);
}

/* --- cancel ------------------------------------------------------------------------------- */

bool command_is_started(const struct scsi_command *c)
{
    return c->state == STARTED || c->state == WAITING;
}

bool command_is_waiting(const struct scsi_command *c)
{
    return c->state == WAITING;
}

void command_stop(struct scsi_command *c)
{
    c->is_cancelled = true;
    if (c->state == WAITING)
        order_look_again(c->nexus_lu);
    else if (c->state == STARTED && c->request)
        request_cancel(c->request, ECANCELED);
    else if (c->state == STARTED && c->job && c->job->stop)
        c->job->stop(c->job);
}

bool scsi_command_cancel(struct scsi_command *c)
{
    if (c->state == DECODED) {
        list_remove(&c->link);
        c->state = ENDED;
        order_leave(c);
        nexus_lu_settle(c->nexus_lu);
        return true;
    }
    command_stop(c);
    return false;
}

void commands_abort(struct scsi_nexus_lu *n, const struct scsi_command *but, bool is_told)
{
    LIST_FOREACH_SAFE (node, &n->commands) {
        struct scsi_command *c = LIST_ENTRY(node, struct scsi_command, link);

        if (c == but || c->is_cancelled)
            continue;
        c->is_told = is_told;
        command_stop(c);
    }
}
