/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * manage.c: task management, logout and NOPs.
 *
 * A function is answered when what it named can have no effect any more; one that cannot end in
 * time is answered "rejected" (255), so that the initiator does not wait for ever, and goes on.
 * A cold reset ends all sessions of the target after its answer.
 * A logout is answered when the nexus has closed: then the initiator's writes have ended.
 */
#include "internal.h"

#define MANAGEMENTS_MAX 32u

/* --- task management
 * ------------------------------------------------------------------------------- */

static void respond(struct conn *c, uint32_t tag, uint8_t response)
{
    uint8_t bhs[BHS_BYTES] = {PDU_TASK_MANAGEMENT_RESPONSE, PDU_FINAL, response};

    put32(bhs + 16, tag);
    conn_send_copy(c, bhs, NULL, 0, true);
}

static void on_managed(struct scsi_management *scsi)
{
    struct management *m = CONTAINER_OF(scsi, struct management, scsi);
    struct conn *c = m->conn;

    list_remove(&m->link);
    c->management_count--;
    if (!c->is_ending) {
        tasks_forget_receiving(c, true);
        if (!m->is_answered)
            respond(c, m->tag, scsi->response);
        if (scsi->function == SCSI_TARGET_COLD_RESET) /* RFC 7143 11.5.1 */
            target_drop_sessions(c->shard->iscsi, c->target);
    }
    free(m);
}

static struct scsi_command *find_command(struct conn *c, unsigned function)
{
    struct iscsi_task *task;

    if (function != SCSI_ABORT_TASK && function != SCSI_QUERY_TASK)
        return NULL;
    task = task_find(c, get32(c->head + 20));
    return task && task->state != TASK_SENDING ? &task->scsi : NULL;
}

void management_request(struct conn *c)
{
    struct management *m = c->management_count < MANAGEMENTS_MAX ? calloc(1, sizeof *m) : NULL;
    uint32_t tag = pdu_tag(c->head);

    if (!m) {
        respond(c, tag, SCSI_FUNCTION_REJECTED);
        return;
    }
    m->conn = c;
    m->tag = tag;
    m->due_ns = c->shard->now_ns + MANAGEMENT_LIMIT_NS;
    m->scsi.nexus = c->nexus;
    m->scsi.function = c->head[1] & 0x7f;
    m->scsi.lun = get64(c->head + 8);
    m->scsi.command = find_command(c, m->scsi.function);
    m->scsi.done = on_managed;
    list_append(&c->managements, &m->link);
    c->management_count++;
    scsi_manage(&m->scsi);
}

void managements_check_time(struct conn *c, uint64_t now_ns)
{
    LIST_FOREACH (node, &c->managements) {
        struct management *m = LIST_ENTRY(node, struct management, link);

        if (m->is_answered || now_ns < m->due_ns)
            continue;
        m->is_answered = true;
        respond(c, m->tag, SCSI_FUNCTION_REJECTED);
    }
}

/* --- logout
 * --------------------------------------------------------------------------------------------- */

/* RFC 7143 11.14.1 and 11.15.1 */
enum { CLOSE_SESSION, CLOSE_CONNECTION, REMOVE_FOR_RECOVERY };
enum { LOGGED_OUT, CID_NOT_FOUND, RECOVERY_NOT_SUPPORTED };

static void respond_logout(struct conn *c, uint32_t tag, uint8_t response)
{
    uint8_t bhs[BHS_BYTES] = {PDU_LOGOUT_RESPONSE, PDU_FINAL, response};

    put32(bhs + 16, tag);
    put16(bhs + 40, (uint16_t)c->parameters.time_to_wait_s);
    put16(bhs + 42, (uint16_t)c->parameters.time_to_retain_s);
    conn_send_copy(c, bhs, NULL, 0, true);
}

void logout_nexus_closed(struct conn *c)
{
    entry_release(c);
    respond_logout(c, c->logout_tag, LOGGED_OUT);
    c->is_ending_after_flush = true;
}

void logout_request(struct conn *c)
{
    unsigned reason = c->head[1] & 0x7f;
    uint32_t tag = pdu_tag(c->head);

    if (reason == REMOVE_FOR_RECOVERY) {
        respond_logout(c, tag, RECOVERY_NOT_SUPPORTED);
    } else if (reason > REMOVE_FOR_RECOVERY) {
        conn_reject(c, REJECT_INVALID_FIELD);
    } else if (reason == CLOSE_CONNECTION && get16(c->head + 20) != c->cid) {
        respond_logout(c, tag, CID_NOT_FOUND);
    } else {
        c->state = CONN_IN_LOGOUT;
        c->logout_tag = tag;
        c->deadline_ns = c->shard->now_ns + LOGOUT_LIMIT_NS;
        conn_pause(c, true);
        tasks_forget_receiving(c, false);
        if (c->nexus)
            conn_close_nexus(c);
        else
            logout_nexus_closed(c);
    }
}

/* --- NOP
 * ----------------------------------------------------------------------------------------------------
 */

/* With a task tag it wants an answer with the same data; without one it is the answer to ours. */
void nop_request(struct conn *c)
{
    uint8_t bhs[BHS_BYTES] = {PDU_NOP_IN, PDU_FINAL};
    uint32_t bytes = MIN(pdu_data_bytes(c->head), c->parameters.send_bytes);

    if (pdu_tag(c->head) == NO_TAG)
        return;
    memcpy(bhs + 8, c->head + 8, 8);
    put32(bhs + 16, pdu_tag(c->head));
    put32(bhs + 20, NO_TAG);
    conn_send_copy(c, bhs, c->scratch, bytes, true);
}

void conn_ping(struct conn *c)
{
    uint8_t bhs[BHS_BYTES] = {PDU_NOP_IN, PDU_FINAL};

    c->next_target_tag += c->next_target_tag + 1 == NO_TAG ? 2 : 1;
    c->ping_tag = c->next_target_tag;
    put32(bhs + 16, NO_TAG);
    put32(bhs + 20, c->ping_tag);
    conn_send_copy(c, bhs, NULL, 0, false);
}
