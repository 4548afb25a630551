/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * command.c: SCSI commands: their data in and out, and their answers.
 *
 * A command is decoded when its header is there, so that its buffer is known before the first byte
 * of its data: immediate, unsolicited and solicited data are all received into the memory that goes
 * down the chain.  DataPDUInOrder and DataSequenceInOrder are Yes, so the next byte of a command is
 * always the one after the last; anything else ends the session (ErrorRecoveryLevel 0).  A DataSN
 * out of order says that a PDU was lost: the command ends with CHECK CONDITION when all of its data
 * that is on the way has come (RFC 7143 7.8, 7.9).
 *
 * A read has its buffer from when it is begun until its answer has left.
 *
 * Status rides on the last Data-In where it is GOOD.
 */
#include "internal.h"

#include <stdio.h>

#define ASC_DATA_TIMEOUT 0x4b06u /* INITIATOR RESPONSE TIMEOUT */
#define ASC_DATA_LOST 0x4705u    /* PROTOCOL SERVICE CRC ERROR */
#define SENSE_ABORTED_COMMAND 0xb

/* --- finding
 * --------------------------------------------------------------------------------------- */

static struct iscsi_task **bucket_of(struct conn *c, uint32_t tag)
{
    return &c->bucket[(tag ^ tag >> 16) % TASK_BUCKETS];
}

struct iscsi_task *task_find(struct conn *c, uint32_t tag)
{
    struct iscsi_task *task = *bucket_of(c, tag);

    while (task && task->tag != tag)
        task = task->next;
    return task;
}

static void forget_tag(struct iscsi_task *task)
{
    struct iscsi_task **at = bucket_of(task->conn, task->tag);

    while (*at != task)
        at = &(*at)->next;
    *at = task->next;
    list_remove(&task->link);
}

uint32_t conn_max_command_sn(const struct conn *c)
{
    return c->expected_command_sn + (COMMAND_WINDOW - conn_window_used(c)) - 1;
}

/* Only the loop changes it, others look: no more than a load and a store. */
static void count_place(struct iscsi_task *task, int change)
{
    struct conn *c = task->conn;

    if (task->is_immediate)
        c->immediate_used += (unsigned)change;
    else
        atomic_store_explicit(&c->window_used, conn_window_used(c) + (unsigned)change,
                              memory_order_relaxed);
}

/* --- beginning and end of a task
 * --------------------------------------------------------------------- */

static struct iscsi_task *task_begin(struct conn *c)
{
    struct iscsi_task *task = task_take(c->shard);
    struct iscsi_task **bucket = bucket_of(c, pdu_tag(c->head));

    if (!task)
        return NULL;
    task->conn = c;
    task->state = TASK_RECEIVING;
    task->tag = pdu_tag(c->head);
    task->expected_bytes = get32(c->head + 20);
    task->is_read = c->head[1] & COMMAND_READ;
    task->is_write = c->head[1] & COMMAND_WRITE;
    task->is_immediate = pdu_is_immediate(c->head);
    task->buffer = NULL;
    task->wanted_bytes = task->received = task->asked = 0;
    task->data_sn = task->r2t_sn = task->data_in_sn = 0;
    task->r2t_first = task->r2t_count = 0;
    task->is_unsolicited_open = !(c->head[1] & PDU_FINAL);
    task->progress_ns = c->shard->now_ns;
    task->outs_left = 0;
    task->has_lost_data = false;
    task->next = *bucket;
    *bucket = task;
    list_append(&c->tasks, &task->link);
    count_place(task, 1);
    return task;
}

static size_t *buffer_count(const struct iscsi_task *task)
{
    return task->is_write ? &task->conn->buffer_bytes : &task->conn->read_buffer_bytes;
}

static void give_buffer(struct iscsi_task *task)
{
    struct conn *c = task->conn;

    if (!task->buffer)
        return;
    *buffer_count(task) -= task->buffer_room;
    buffer_give(c->shard, task->buffer, task->buffer_room);
    task->buffer = NULL;
    if (c->held_count)
        conn_flush_later(c); /* which calls tasks_go_on() */
}

/* The rest of a PDU that is half received is read and dropped: the buffer may soon be another's. */
static void stop_receiving(struct conn *c)
{
    c->data_task = NULL;
    c->data = NULL;
    c->room_left = 0;
}

/* It has no tag and takes no place in the window any more. */
static void leave_window(struct iscsi_task *task)
{
    forget_tag(task);
    count_place(task, -1);
    task->conn->held_count -= task->state == TASK_HELD;
    if (task->conn->data_task == task)
        stop_receiving(task->conn);
}

static void task_free(struct iscsi_task *task)
{
    give_buffer(task);
    task_give(task->conn->shard, task);
}

void task_sent(struct iscsi_task *task)
{
    if (--task->outs_left == 0)
        task_free(task);
}

/* --- answers
 * --------------------------------------------------------------------------------------------- */

/* What was expected, in the direction that counts. */
static uint32_t expected(const struct iscsi_task *task)
{
    return task->is_read || task->is_write ? task->expected_bytes : 0;
}

/* RFC 7143 11.4.5.1: O and U with the difference. */
static uint8_t put_residual(const struct iscsi_task *task, uint8_t *where)
{
    uint32_t wanted = expected(task), moved = task->scsi.transfer_bytes;

    put32(where, wanted > moved ? wanted - moved : moved - wanted);
    return wanted > moved ? RESIDUAL_UNDERFLOW : moved > wanted ? RESIDUAL_OVERFLOW : 0;
}

static void send_response(struct iscsi_task *task)
{
    struct out *out = &task->out;
    struct scsi_command *scsi = &task->scsi;

    memset(out->head, 0, BHS_BYTES);
    out->head[0] = PDU_SCSI_RESPONSE;
    out->head[3] = scsi->status;
    put32(out->head + 16, task->tag);
    put32(out->head + 36, task->data_in_sn + task->r2t_sn);
    out->head[1] = PDU_FINAL | put_residual(task, out->head + 44);
    out->data_bytes = 0;
    if (scsi->sense_bytes) {
        put16(task->sense, scsi->sense_bytes);
        memcpy(task->sense + 2, scsi->sense, scsi->sense_bytes);
        out->data_bytes = 2u + scsi->sense_bytes;
    }
    out->data = task->sense;
    out->is_embedded = true;
    out->owned = NULL;
    out->task = task;
    task->outs_left++;
    conn_send(task->conn, out, true);
}

/* One Data-In.  is_embedded: the task's own PDU, which then must be the only one to use it. */
static bool send_data_in(struct iscsi_task *task, uint32_t offset, uint32_t bytes, unsigned flags)
{
    bool has_status = flags & DATA_IN_STATUS;
    struct out *out = has_status ? &task->out : out_take(task->conn->shard);

    if (!out)
        return false;
    memset(out->head, 0, BHS_BYTES);
    out->head[0] = PDU_DATA_IN;
    put32(out->head + 16, task->tag);
    put32(out->head + 20, NO_TAG);
    put32(out->head + 36, task->data_in_sn++);
    put32(out->head + 40, offset);
    if (has_status) {
        out->head[3] = task->scsi.status;
        flags |= put_residual(task, out->head + 44);
    }
    out->head[1] = (uint8_t)flags;
    out->is_embedded = has_status;
    out->owned = NULL;
    out->data = (const char *)task->buffer + offset;
    out->data_bytes = bytes;
    out->task = task;
    task->outs_left++;
    conn_send(task->conn, out, has_status);
    return true;
}

/* F ends a sequence of at most MaxBurstLength. */
static bool send_data(struct iscsi_task *task, bool with_status)
{
    const struct session_parameters *p = &task->conn->parameters;
    uint32_t total = task->scsi.data_in_bytes, burst_left = p->max_burst_bytes, bytes;

    for (uint32_t at = 0; at < total; at += bytes) {
        unsigned flags = 0;

        bytes = MIN(MIN(total - at, p->send_bytes), burst_left);
        burst_left -= bytes;
        if (at + bytes == total)
            flags = PDU_FINAL | (with_status ? DATA_IN_STATUS : 0);
        else if (burst_left == 0)
            flags = PDU_FINAL;
        if (burst_left == 0)
            burst_left = p->max_burst_bytes;
        if (!send_data_in(task, at, bytes, flags))
            return false;
    }
    return true;
}

static void answer(struct iscsi_task *task)
{
    struct conn *c = task->conn;
    struct scsi_command *scsi = &task->scsi;
    bool rides = scsi->data_in_bytes && scsi->status == SCSI_GOOD;

    leave_window(task);
    task->state = TASK_SENDING;
    if (c->is_ending) {
        task_free(task);
        return;
    }
    task->outs_left = 1; /* until all are queued */
    atomic_fetch_add_explicit(&c->commands, 1, memory_order_relaxed);
    if (scsi->data_in_bytes)
        atomic_fetch_add_explicit(&c->bytes_out, scsi->data_in_bytes, memory_order_relaxed);
    if (scsi->data_in_bytes && !send_data(task, rides))
        conn_end(c, "out of memory");
    else if (!rides)
        send_response(task);
    task_sent(task);
}

static void on_ended(struct iscsi_task *task)
{
    if (!task->scsi.is_aborted) {
        answer(task);
        return;
    }
    leave_window(task);
    task_free(task);
}

static void on_done(struct scsi_command *scsi)
{
    on_ended(CONTAINER_OF(scsi, struct iscsi_task, scsi));
}

/* --- running
 * ------------------------------------------------------------------------------------------------
 */

/* Data goes the way of the command only if the initiator expects it to go that way. */
static uint32_t moved_bytes(const struct iscsi_task *task)
{
    if (task->scsi.direction == SCSI_DATA_OUT)
        return task->wanted_bytes;
    if (task->scsi.direction == SCSI_DATA_IN && task->is_read)
        return MIN(task->scsi.transfer_bytes, task->expected_bytes);
    return 0;
}

/* Ends a command that was not started, with a status of ours. */
static void refuse(struct iscsi_task *task, uint8_t status)
{
    if (!scsi_command_cancel(&task->scsi))
        return;
    task->scsi.status = status;
    task->scsi.sense_bytes = 0;
    task->scsi.data_in_bytes = 0;
    task->scsi.transfer_bytes = 0;
    answer(task);
}

static void refuse_with_sense(struct iscsi_task *task, unsigned key, unsigned asc)
{
    uint8_t sense[18] = {0x70, 0, (uint8_t)key, 0, 0, 0, 0, 10};

    if (!scsi_command_cancel(&task->scsi))
        return;
    put16(sense + 12, (uint16_t)asc);
    memcpy(task->scsi.sense, sense, sizeof sense);
    task->scsi.sense_bytes = sizeof sense;
    task->scsi.status = SCSI_CHECK_CONDITION;
    task->scsi.data_in_bytes = 0;
    task->scsi.transfer_bytes = 0;
    answer(task);
}

static void start(struct iscsi_task *task)
{
    task->state = TASK_RUNNING;
    task->scsi.data = task->buffer;
    task->scsi.data_bytes = moved_bytes(task);
    if (task->received)
        atomic_fetch_add_explicit(&task->conn->bytes_in, task->received, memory_order_relaxed);
    if (scsi_command_start(&task->scsi) == IO_DONE)
        on_ended(task);
}

static bool take_buffer(struct iscsi_task *task)
{
    uint32_t bytes = moved_bytes(task);

    if (bytes == 0)
        return true;
    task->buffer = buffer_take(task->conn->shard, bytes, &task->buffer_room);
    if (!task->buffer)
        return false;
    *buffer_count(task) += task->buffer_room;
    return true;
}

static void run(struct iscsi_task *task)
{
    if (task->is_write || take_buffer(task))
        start(task);
    else
        refuse(task, SCSI_BUSY);
}

/*
 * Reads are begun in their order, and only as many as the answers under way leave room for: what is
 * read long before it can be sent goes through the memory once more, and many long reads would take
 * all of it.  What runs waits for none that is held, so these wait for the initiator alone.
 */
static bool has_room(const struct iscsi_task *task)
{
    size_t used = task->conn->read_buffer_bytes;

    return used == 0 || used + moved_bytes(task) <= READ_BUFFER_BYTES;
}

static bool must_be_held(const struct iscsi_task *task)
{
    return task->is_read && task->scsi.attribute != SCSI_HEAD_OF_QUEUE &&
           (task->conn->held_count || !has_room(task));
}

static void hold(struct iscsi_task *task)
{
    task->state = TASK_HELD;
    task->conn->held_count++;
}

/* From the start each time: what one ends may end others. */
static struct iscsi_task *first_held(struct conn *c)
{
    LIST_FOREACH (node, &c->tasks) {
        struct iscsi_task *task = LIST_ENTRY(node, struct iscsi_task, link);

        if (task->state == TASK_HELD)
            return task;
    }
    return NULL;
}

void tasks_go_on(struct conn *c)
{
    while (c->held_count && !c->is_ending) {
        struct iscsi_task *task = first_held(c);

        if (!has_room(task))
            return;
        task->state = TASK_RECEIVING;
        c->held_count--;
        run(task);
    }
}

/* --- R2T
 * ---------------------------------------------------------------------------------------------------------
 */

static bool send_r2t(struct iscsi_task *task, uint32_t bytes)
{
    struct conn *c = task->conn;
    struct r2t *r2t = &task->r2t[(task->r2t_first + task->r2t_count) % R2T_MAX];
    uint8_t bhs[BHS_BYTES] = {PDU_R2T, PDU_FINAL};

    c->next_target_tag += c->next_target_tag + 1 == NO_TAG ? 2 : 1;
    *r2t = (struct r2t){.offset = task->asked, .bytes = bytes, .tag = c->next_target_tag};
    for (unsigned i = 0; i < 8; i++)
        bhs[8 + i] = (uint8_t)(task->scsi.lun >> (56 - 8 * i));
    put32(bhs + 16, task->tag);
    put32(bhs + 20, r2t->tag);
    put32(bhs + 36, task->r2t_sn++);
    put32(bhs + 40, r2t->offset);
    put32(bhs + 44, bytes);
    task->r2t_count++;
    task->asked += bytes;
    return conn_send_copy(c, bhs, NULL, 0, false);
}

/* All that is still to come, some bursts at a time. */
static void ask_for_data(struct iscsi_task *task)
{
    const struct session_parameters *p = &task->conn->parameters;
    unsigned most = MIN(p->max_outstanding_r2t, R2T_MAX);

    while (task->r2t_count < most && task->asked < task->wanted_bytes)
        if (!send_r2t(task, MIN(task->wanted_bytes - task->asked, p->max_burst_bytes)))
            return;
}

/* A piece has come, or the header of a command without any: what next? */
static void go_on(struct iscsi_task *task)
{
    if (task->is_unsolicited_open || (task->has_lost_data && task->r2t_count))
        return;
    if (task->has_lost_data) {
        refuse_with_sense(task, SENSE_ABORTED_COMMAND, ASC_DATA_LOST);
        return;
    }
    if (task->received >= task->wanted_bytes) {
        if (UNLIKELY(must_be_held(task)))
            hold(task);
        else
            run(task);
        return;
    }
    task->asked = MAX(task->asked, task->received);
    ask_for_data(task);
}

/* --- the command
 * -------------------------------------------------------------------------------------------------
 */

/* RFC 7143 11.3: what an initiator must not send in a session like this. */
static const char *find_fault(const struct conn *c)
{
    uint32_t data = pdu_data_bytes(c->head);
    bool is_write = c->head[1] & COMMAND_WRITE, is_final = c->head[1] & PDU_FINAL;

    if (data && !c->parameters.immediate_data)
        return "immediate data, which was not agreed on";
    if (data > c->parameters.first_burst_bytes)
        return "more immediate data than FirstBurstLength";
    if (data > get32(c->head + 20))
        return "more immediate data than the command expects";
    if ((data || !is_final) && !is_write)
        return "data for a command that does not write";
    if (!is_final && c->parameters.initial_r2t)
        return "unsolicited data, which was not agreed on";
    return NULL;
}

static bool has_place(struct conn *c)
{
    return pdu_is_immediate(c->head) ? c->immediate_used < IMMEDIATE_MAX
                                     : conn_window_used(c) < COMMAND_WINDOW;
}

static enum reject_reason find_rejection(struct conn *c)
{
    if (pdu_tag(c->head) == NO_TAG)
        return REJECT_INVALID_FIELD;
    if (task_find(c, pdu_tag(c->head)))
        return REJECT_TASK_IN_PROGRESS;
    return has_place(c) ? 0 : REJECT_TOO_MANY_IMMEDIATE;
}

static void read_cdb(struct iscsi_task *task)
{
    struct conn *c = task->conn;
    struct pdu_extension extension;

    memcpy(task->scsi.cdb, c->head + 32, SCSI_CDB_BYTES);
    task->scsi.cdb_bytes = SCSI_CDB_BYTES;
    if (LIKELY(pdu_ahs_bytes(c->head) == 0))
        return;
    if (!pdu_parse_ahs(c->head + BHS_BYTES, pdu_ahs_bytes(c->head), &extension))
        conn_end(c, "a malformed additional header segment");
    else
        task->scsi.cdb_bytes = (uint16_t)(SCSI_CDB_BYTES + extension.cdb_rest_bytes);
}

static void decode(struct iscsi_task *task)
{
    struct conn *c = task->conn;

    task->scsi.nexus = c->nexus;
    task->scsi.lun = get64(c->head + 8);
    task->scsi.attribute = c->head[1] & COMMAND_ATTRIBUTE;
    task->scsi.done = on_done;
    read_cdb(task);
    scsi_command_decode(&task->scsi);
    task->scsi.expected_bytes = expected(task);
    if (task->scsi.direction == SCSI_DATA_OUT && task->is_write)
        task->wanted_bytes = MIN(task->scsi.transfer_bytes, task->expected_bytes);
}

/* Before the first byte comes.  False: it is to be refused, for lack of memory. */
static bool find_buffer(struct iscsi_task *task)
{
    size_t used = task->conn->buffer_bytes;

    return !task->is_write ||
           ((used == 0 || used + moved_bytes(task) <= SESSION_BUFFER_BYTES) && take_buffer(task));
}

static void receive_into(struct conn *c, struct iscsi_task *task)
{
    uint32_t bytes = pdu_data_bytes(c->head);

    c->data_task = task;
    if (task->has_lost_data || task->received >= task->wanted_bytes || !task->buffer)
        return;
    c->data = (uint8_t *)task->buffer + task->received;
    c->room_left = MIN(bytes, task->wanted_bytes - task->received);
}

void command_begin(struct conn *c)
{
    const char *fault = find_fault(c);
    enum reject_reason rejection = fault ? 0 : find_rejection(c);
    struct iscsi_task *task;

    if (fault || rejection) {
        if (fault)
            conn_end(c, "%s", fault);
        else
            conn_reject(c, rejection);
        return;
    }
    task = task_begin(c);
    if (!task) {
        conn_end(c, "out of memory");
        return;
    }
    decode(task);
    if (!find_buffer(task))
        task->wanted_bytes = UINT32_MAX; /* refused when its data has come */
    receive_into(c, task);
}

/* --- data that was asked for, or comes unasked
 * ----------------------------------------------------------------- */

/* A gap in the numbers: from then on what comes is only waited for. */
static bool is_lost(struct iscsi_task *task, const uint8_t *bhs)
{
    if (get32(bhs + 36) != task->data_sn)
        task->has_lost_data = true;
    return task->has_lost_data;
}

static const char *check_offset(const struct iscsi_task *task, const uint8_t *bhs)
{
    return get32(bhs + 40) == task->received ? NULL : "data that is not next";
}

static const char *check_unsolicited(struct iscsi_task *task, const uint8_t *bhs)
{
    uint32_t most = MIN(task->conn->parameters.first_burst_bytes, task->expected_bytes);

    if (!task->is_unsolicited_open)
        return "unsolicited data after its end";
    if (is_lost(task, bhs))
        return NULL;
    if (pdu_data_bytes(bhs) > most - MIN(most, task->received))
        return "more unsolicited data than FirstBurstLength";
    return check_offset(task, bhs);
}

static const char *check_solicited(struct iscsi_task *task, const uint8_t *bhs)
{
    const struct r2t *r2t = &task->r2t[task->r2t_first];
    uint32_t end = task->received + pdu_data_bytes(bhs);

    if (task->r2t_count == 0 || r2t->tag != pdu_target_tag(bhs))
        return "data with a tag that was not given, or out of turn";
    if (is_lost(task, bhs))
        return NULL;
    if (end > r2t->offset + r2t->bytes)
        return "more data than was asked for";
    if (!!(bhs[1] & PDU_FINAL) != (end == r2t->offset + r2t->bytes))
        return "F does not stand where the data ends";
    return check_offset(task, bhs);
}

void data_out_begin(struct conn *c)
{
    struct iscsi_task *task = task_find(c, pdu_tag(c->head));
    const char *fault;

    /* A command that has been aborted may still have data on the way. */
    if (!task || task->state != TASK_RECEIVING)
        return;
    fault = pdu_target_tag(c->head) == NO_TAG ? check_unsolicited(task, c->head)
                                              : check_solicited(task, c->head);
    if (fault)
        conn_end(c, "%s", fault);
    else
        receive_into(c, task);
}

static void account_piece(struct conn *c, struct iscsi_task *task)
{
    bool is_final = c->head[1] & PDU_FINAL;

    task->received += pdu_data_bytes(c->head);
    task->progress_ns = c->shard->now_ns;
    if (pdu_opcode(c->head) != PDU_DATA_OUT)
        return;
    task->data_sn = is_final ? 0 : task->data_sn + 1;
    if (!is_final)
        return;
    if (pdu_target_tag(c->head) == NO_TAG) {
        task->is_unsolicited_open = false;
    } else {
        task->r2t_first = (task->r2t_first + 1) % R2T_MAX;
        task->r2t_count--;
    }
}

static bool is_without_buffer(const struct iscsi_task *task)
{
    return task->wanted_bytes == UINT32_MAX;
}

void command_data_end(struct conn *c)
{
    struct iscsi_task *task = c->data_task;

    c->data_task = NULL;
    if (!task)
        return;
    account_piece(c, task);
    if (is_without_buffer(task) && !task->is_unsolicited_open)
        refuse(task, SCSI_BUSY);
    else if (UNLIKELY(task->is_read && task->is_write))
        refuse_with_sense(task, 0x5, 0x2400); /* bidirectional commands: there are none */
    else
        go_on(task);
}

/* --- the end of some
 * ---------------------------------------------------------------------------------------------- */

static void forget(struct iscsi_task *task)
{
    if (!scsi_command_cancel(&task->scsi))
        return;
    leave_window(task);
    task_free(task);
}

void tasks_forget_receiving(struct conn *c, bool only_cancelled)
{
    LIST_FOREACH_SAFE (node, &c->tasks) {
        struct iscsi_task *task = LIST_ENTRY(node, struct iscsi_task, link);

        if ((task->state == TASK_RECEIVING || task->state == TASK_HELD) &&
            (!only_cancelled || task->scsi.is_cancelled))
            forget(task);
    }
}

void tasks_check_time(struct conn *c, uint64_t now_ns)
{
    LIST_FOREACH_SAFE (node, &c->tasks) {
        struct iscsi_task *task = LIST_ENTRY(node, struct iscsi_task, link);

        if (task->state == TASK_RECEIVING && task != c->data_task &&
            now_ns > task->progress_ns + DATA_OUT_LIMIT_NS)
            refuse_with_sense(task, SENSE_ABORTED_COMMAND, ASC_DATA_TIMEOUT);
    }
}
