/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * text.c: text requests in full feature phase: SendTargets, and the one parameter that may change.
 *
 * A request may come in pieces (C bit); so may an answer, whose next piece the initiator asks for
 * with an empty request that bears our tag.  One exchange at a time; a new one replaces it.
 */
#include "internal.h"

static void forget_exchange(struct conn *c)
{
    free(c->text_in);
    free(c->text_out);
    c->text_in = c->text_out = NULL;
    c->text_in_bytes = c->text_out_bytes = c->text_out_sent = 0;
    c->text_tag = NO_TAG;
}

/* --- answers ------------------------------------------------------------------------------------
 */

static void send_piece(struct conn *c, const char *data, size_t bytes, bool is_last)
{
    uint8_t bhs[BHS_BYTES] = {PDU_TEXT_RESPONSE, is_last ? PDU_FINAL : PDU_CONTINUE};

    memcpy(bhs + 8, c->head + 8, 8);
    put32(bhs + 16, pdu_tag(c->head));
    put32(bhs + 20, is_last ? NO_TAG : c->text_tag);
    conn_send_copy(c, bhs, data, bytes, true);
}

static void give_tag(struct conn *c)
{
    if (c->text_tag != NO_TAG)
        return;
    c->next_target_tag += c->next_target_tag + 1 == NO_TAG ? 2 : 1;
    c->text_tag = c->next_target_tag;
}

static void send_next(struct conn *c)
{
    size_t left = c->text_out_bytes - c->text_out_sent;
    size_t bytes = MIN(left, c->parameters.send_bytes);
    bool is_last = bytes == left;

    if (!is_last)
        give_tag(c);
    send_piece(c, c->text_out + c->text_out_sent, bytes, is_last);
    c->text_out_sent += bytes;
    if (is_last)
        forget_exchange(c);
}

/* --- keys
 * -------------------------------------------------------------------------------------------- */

#define REPLY_ROOM 8192u

struct reading {
    struct key_writer writer;
    struct negotiation negotiation;
    char *targets;
    size_t targets_bytes;
};

/* All: in a discovery session only; empty: the target of this session (RFC 7143 appendix C). */
static void take_send_targets(struct conn *c, struct reading *r, struct slice value)
{
    char name[ISCSI_NAME_BYTES];
    const char *only = NULL;

    if (slice_is(value, "All") && c->is_discovery) {
        only = NULL;
    } else if (value.length == 0 && c->target) {
        only = c->target->name;
    } else if (value_name(value, name)) {
        only = name;
    } else {
        key_write_text(&r->writer, "SendTargets", "Reject");
        return;
    }
    free(r->targets);
    r->targets = targets_list(c, only, &r->targets_bytes);
}

static bool take_key(struct conn *c, struct reading *r, struct slice key, struct slice value)
{
    if (slice_is(key, "SendTargets")) {
        take_send_targets(c, r, value);
        return true;
    }
    switch (negotiate_again(&r->negotiation, key, value, &r->writer)) {
    case NEGOTIATED:
        return true;
    case NEGOTIATED_ERROR:
        return false;
    case NEGOTIATED_UNKNOWN:
        key_write(&r->writer, key, SLICE("NotUnderstood"));
    }
    return true;
}

static bool read_keys(struct conn *c, struct reading *r)
{
    struct key_cursor cursor = {{c->text_in, c->text_in_bytes}};
    struct slice key, value;
    enum key_found found;

    while ((found = key_next(&cursor, &key, &value)) == KEY_PAIR)
        if (!take_key(c, r, key, value))
            return false;
    return found == KEY_END && !r->writer.is_full;
}

/* The reply is in c->text_out: what was negotiated, then targets. */
static bool make_reply(struct conn *c)
{
    struct reading r = {.negotiation.parameters = c->parameters};
    bool is_good;

    c->text_out = malloc(REPLY_ROOM);
    if (!c->text_out)
        return false;
    r.writer = (struct key_writer){.out = c->text_out, .size = REPLY_ROOM};
    is_good = read_keys(c, &r);
    c->parameters.send_bytes = r.negotiation.parameters.send_bytes;
    c->text_out_bytes = r.writer.length;
    if (is_good && r.targets) {
        char *longer = realloc(c->text_out, r.writer.length + r.targets_bytes + 1);

        is_good = longer != NULL;
        if (longer) {
            memcpy(longer + r.writer.length, r.targets, r.targets_bytes);
            c->text_out = longer;
            c->text_out_bytes += r.targets_bytes;
        }
    }
    free(r.targets);
    return is_good;
}

/* --- requests
 * ------------------------------------------------------------------------------------------- */

static bool gather(struct conn *c)
{
    uint32_t bytes = pdu_data_bytes(c->head);

    return c->text_in_bytes + bytes <= NEGOTIATION_BYTES_MAX &&
           text_append(&c->text_in, &c->text_in_bytes, c->scratch, bytes);
}

static void begin_or_gather(struct conn *c)
{
    if (!gather(c)) {
        forget_exchange(c);
        conn_reject(c, REJECT_PROTOCOL_ERROR);
    } else if (c->head[1] & PDU_CONTINUE) {
        give_tag(c);
        send_piece(c, NULL, 0, false);
    } else if (make_reply(c)) {
        send_next(c);
    } else {
        forget_exchange(c);
        conn_reject(c, REJECT_PROTOCOL_ERROR);
    }
}

void text_request(struct conn *c)
{
    uint32_t tag = pdu_target_tag(c->head);

    if ((c->head[1] & PDU_FINAL) && (c->head[1] & PDU_CONTINUE)) {
        conn_reject(c, REJECT_PROTOCOL_ERROR);
    } else if (tag == NO_TAG) {
        forget_exchange(c);
        begin_or_gather(c);
    } else if (tag != c->text_tag || (!c->text_out && !c->text_in)) {
        conn_reject(c, REJECT_INVALID_FIELD);
    } else if (c->text_out) {
        send_next(c);
    } else {
        begin_or_gather(c);
    }
}
