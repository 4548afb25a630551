/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * login.c: stages and keys of the login phase.
 *
 * A login is one negotiation in up to two stages.  Every request is checked against the first one,
 * then its text is gathered until it is whole (C bit), then its keys are handed to those who know
 * them: names, AuthMethod and CHAP, operational keys.  Where secrets are named, nothing but the
 * security stage is answered before they were proved, and a refusal carries no keys at all.
 */
#include "iscsi/login.h"

#include <errno.h>
#include <stdio.h>

#define REQUESTS_MAX 64u
#define TRANSIT 0x80u
#define CONTINUE 0x40u

/* --- ends ------------------------------------------------------------------------------------- */

static enum login_next refuse(struct login *l, enum login_status status, const char *reason)
{
    l->status = status;
    snprintf(l->reason, sizeof l->reason, "%.*s", (int)sizeof l->reason - 1, reason);
    l->reply_length = 0;
    l->is_transit = false;
    return LOGIN_RESPOND;
}

struct login *login_new(void)
{
    struct login *l = calloc(1, sizeof *l);

    if (l)
        negotiation_init(&l->negotiation, false);
    return l;
}

void login_free(struct login *l)
{
    if (!l)
        return;
    free(l->text);
    explicit_bzero(l, sizeof *l);
    free(l);
}

/* --- requests against the first one
 * ---------------------------------------------------------------- */

static void begin(struct login *l, const uint8_t *bhs)
{
    l->has_begun = true;
    memcpy(l->isid, bhs + 8, sizeof l->isid);
    l->tsih = get16(bhs + 14);
    l->cid = get16(bhs + 20);
    l->tag = pdu_tag(bhs);
    l->stage = (bhs[1] >> 2) & 3;
}

static bool is_same_login(const struct login *l, const uint8_t *bhs)
{
    return memcmp(l->isid, bhs + 8, sizeof l->isid) == 0 && l->tsih == get16(bhs + 14) &&
           l->cid == get16(bhs + 20) && l->tag == pdu_tag(bhs) && l->stage == ((bhs[1] >> 2) & 3);
}

/* From where to where (RFC 7143 6.3): a stage is left forwards, 2 is none. */
static bool may_transit(unsigned from, unsigned to)
{
    static const bool allowed[4][4] = {
        [STAGE_SECURITY] = {[STAGE_OPERATIONAL] = true, [STAGE_FULL_FEATURE] = true},
        [STAGE_OPERATIONAL] = {[STAGE_FULL_FEATURE] = true},
    };

    return allowed[from][to];
}

static const char *find_fault(const struct login *l, const uint8_t *bhs)
{
    unsigned from = (bhs[1] >> 2) & 3, to = bhs[1] & 3;

    if (from != STAGE_SECURITY && from != STAGE_OPERATIONAL)
        return "the request is of no stage of a login";
    if (l->has_begun && !is_same_login(l, bhs))
        return "ISID, TSIH, CID, task tag or stage changed within the login";
    if ((bhs[1] & TRANSIT) && (bhs[1] & CONTINUE))
        return "T and C are both set";
    if ((bhs[1] & TRANSIT) && !may_transit(from, to))
        return "a transition that there is not";
    if (!pdu_is_immediate(bhs) || pdu_ahs_bytes(bhs) || pdu_data_bytes(bhs) > LOGIN_DATA_BYTES)
        return "a malformed login request";
    return NULL;
}

/* --- text
 * ---------------------------------------------------------------------------------------------- */

static bool gather(struct login *l, const uint8_t *data, uint32_t bytes)
{
    l->total_text += bytes;
    return l->total_text <= NEGOTIATION_BYTES_MAX &&
           text_append(&l->text, &l->text_length, data, bytes);
}

static void forget_text(struct login *l)
{
    free(l->text);
    l->text = NULL;
    l->text_length = 0;
}

/* --- names
 * --------------------------------------------------------------------------------------------- */

enum name_key { NAME_NONE, NAME_TAKEN, NAME_BAD };

static enum name_key take_name(struct slice value, char out[ISCSI_NAME_BYTES])
{
    return !out[0] && value_name(value, out) ? NAME_TAKEN : NAME_BAD;
}

static enum name_key take_session_type(struct login *l, struct slice value)
{
    if (!slice_is(value, "Discovery") && !slice_is(value, "Normal"))
        return NAME_BAD;
    l->is_discovery = slice_is(value, "Discovery");
    return NAME_TAKEN;
}

/* They stand in the first request alone (RFC 7143 6.3.1). */
static enum name_key take_leading_key(struct login *l, struct slice key, struct slice value)
{
    if (slice_is(key, "InitiatorName"))
        return take_name(value, l->initiator);
    if (slice_is(key, "TargetName"))
        return take_name(value, l->target);
    if (slice_is(key, "SessionType"))
        return take_session_type(l, value);
    return NAME_NONE;
}

static bool is_leading_key(struct slice key)
{
    return slice_is(key, "InitiatorName") || slice_is(key, "TargetName") ||
           slice_is(key, "SessionType");
}

/* Decides LOGIN_LOOK_UP, or refuses. */
static enum login_next read_names(struct login *l)
{
    struct key_cursor cursor = {{l->text, l->text_length}};
    struct slice key, value;
    enum key_found found;

    while ((found = key_next(&cursor, &key, &value)) == KEY_PAIR)
        if (take_leading_key(l, key, value) == NAME_BAD)
            return refuse(l, LOGIN_INITIATOR_ERROR, "a malformed or repeated name or session type");
    if (found == KEY_MALFORMED)
        return refuse(l, LOGIN_INITIATOR_ERROR, "malformed text");
    if (!l->initiator[0])
        return refuse(l, LOGIN_MISSING_PARAMETER, "there is no InitiatorName");
    if (!l->is_discovery && !l->target[0])
        return refuse(l, LOGIN_MISSING_PARAMETER, "there is no TargetName");
    negotiation_init(&l->negotiation, l->is_discovery);
    return LOGIN_LOOK_UP;
}

/* --- keys of a stage
 * ------------------------------------------------------------------------------------ */

struct reading {
    struct key_writer writer;
    struct chap_keys chap;
    bool has_chap;
    struct slice method; /* AuthMethod; text NULL: not there */
};

static bool is_targets_own(struct slice key)
{
    return slice_is(key, "TargetAlias") || slice_is(key, "TargetAddress") ||
           slice_is(key, "TargetPortalGroupTag");
}

/* False: the initiator's error. */
static bool take_security_key(struct reading *r, struct slice key, struct slice value)
{
    if (slice_is(key, "AuthMethod")) {
        if (r->method.text)
            return false;
        r->method = value;
    } else if (chap_take_key(&r->chap, key, value)) {
        r->has_chap = true;
    } else if (!slice_is(key, "InitiatorAlias")) {
        key_write(&r->writer, key,
                  negotiation_knows(key) ? SLICE("Reject") : SLICE("NotUnderstood"));
    }
    return true;
}

static bool take_operational_key(struct login *l, struct reading *r, struct slice key,
                                 struct slice value)
{
    switch (negotiate(&l->negotiation, key, value, &r->writer)) {
    case NEGOTIATED:
        return true;
    case NEGOTIATED_ERROR:
        return false;
    case NEGOTIATED_UNKNOWN:
        break;
    }
    key_write(&r->writer, key,
              is_targets_own(key) || slice_is(key, "AuthMethod") ? SLICE("Reject")
                                                                 : SLICE("NotUnderstood"));
    return true;
}

static bool read_keys(struct login *l, struct reading *r)
{
    struct key_cursor cursor = {{l->text, l->text_length}};
    struct slice key, value;
    enum key_found found;

    while ((found = key_next(&cursor, &key, &value)) == KEY_PAIR) {
        bool is_good = true;

        if (is_leading_key(key))
            is_good = l->requests == 1; /* read_names() has taken it */
        else if (l->stage == STAGE_SECURITY)
            is_good = take_security_key(r, key, value);
        else
            is_good = take_operational_key(l, r, key, value);
        if (!is_good)
            return false;
    }
    return found == KEY_END && !r->writer.is_full;
}

/* --- the security stage
 * ----------------------------------------------------------------------------------- */

/* The first method of the initiator's that is good enough here. */
static void choose_method(struct login *l, struct reading *r)
{
    const char *wanted = l->access.accounts.is_required ? "CHAP" : "None";
    struct slice item, list = r->method;

    if (l->is_method_chosen) {
        refuse(l, LOGIN_INITIATOR_ERROR, "AuthMethod was sent twice");
        return;
    }
    while (value_next(&list, &item))
        if (slice_is(item, wanted)) {
            l->is_method_chosen = true;
            l->is_authenticated = !l->access.accounts.is_required;
            key_write_text(&r->writer, "AuthMethod", wanted);
            return;
        }
    refuse(l, LOGIN_AUTHENTICATION_FAILED,
           l->access.accounts.is_required
               ? "the initiator does not offer CHAP, which is required"
               : "the initiator insists on CHAP and no secret is named here");
}

static void step_chap(struct login *l, struct reading *r)
{
    struct err e = {0};

    if (!l->is_method_chosen || !l->access.accounts.is_required)
        refuse(l, LOGIN_AUTHENTICATION_FAILED, "CHAP keys came before CHAP was agreed on");
    else if (chap_step(&l->chap, &l->access.accounts, &r->chap, &r->writer, &e) < 0)
        refuse(l, LOGIN_AUTHENTICATION_FAILED, e.text);
    l->is_authenticated = l->chap.state == CHAP_PASSED;
}

static void do_security(struct login *l, struct reading *r)
{
    bool was_asked = r->method.text || r->has_chap;

    if (r->method.text)
        choose_method(l, r);
    if (l->status == LOGIN_SUCCESS && r->has_chap)
        step_chap(l, r);
    if (l->status == LOGIN_SUCCESS && !l->is_authenticated && l->wants_transit && !was_asked)
        refuse(l, LOGIN_AUTHENTICATION_FAILED, "the initiator wants to go on without CHAP");
}

/* --- the stages
 * ------------------------------------------------------------------------------------------------
 */

static void do_operational(struct login *l, struct reading *r)
{
    negotiation_declare(&l->negotiation, &r->writer);
}

static void tell_portal_group(struct login *l, struct reading *r)
{
    if (l->has_told_group || l->is_discovery)
        return;
    l->has_told_group = true;
    key_write_number(&r->writer, "TargetPortalGroupTag", l->access.portal_group);
}

/* The request's text is whole and access is known. */
static enum login_next answer(struct login *l)
{
    struct reading r = {.writer = {.out = l->reply, .size = sizeof l->reply}};

    if (l->stage == STAGE_OPERATIONAL && !l->is_authenticated && l->access.accounts.is_required)
        return refuse(l, LOGIN_AUTHENTICATION_FAILED, "the initiator passes over CHAP");
    if (!l->access.accounts.is_required)
        l->is_authenticated = true;
    tell_portal_group(l, &r);
    if (!read_keys(l, &r))
        return refuse(l, LOGIN_INITIATOR_ERROR, "malformed, repeated, misplaced or too many keys");
    if (l->stage == STAGE_SECURITY)
        do_security(l, &r);
    else
        do_operational(l, &r);
    forget_text(l); /* what was read points into it */
    if (l->status != LOGIN_SUCCESS)
        return LOGIN_RESPOND;
    if (r.writer.is_full)
        return refuse(l, LOGIN_INITIATOR_ERROR, "the answer would be too long");
    l->reply_length = r.writer.length;
    l->is_transit = l->wants_transit && l->is_authenticated;
    if (!l->is_transit)
        return LOGIN_RESPOND;
    return l->next_stage == STAGE_FULL_FEATURE ? LOGIN_ENTER : LOGIN_RESPOND;
}

static enum login_next go_on(struct login *l)
{
    if (l->has_looked_up)
        return answer(l);
    return read_names(l);
}

/* --- outside
 * ---------------------------------------------------------------------------------------------------
 */

/* A transition holds from the next request on. */
static void finish_last(struct login *l)
{
    if (l->is_transit)
        l->stage = l->next_stage;
    l->is_transit = false;
    l->reply_length = 0;
}

enum login_next login_request(struct login *l, const uint8_t *bhs, const uint8_t *data)
{
    const char *fault;

    finish_last(l);
    fault = find_fault(l, bhs);
    if (!l->has_begun)
        begin(l, bhs);
    if (fault)
        return refuse(l, LOGIN_INITIATOR_ERROR, fault);
    if (bhs[3] != 0)
        return refuse(l, LOGIN_UNSUPPORTED_VERSION, "version 0 is the only one spoken here");
    if (++l->requests > REQUESTS_MAX)
        return refuse(l, LOGIN_INITIATOR_ERROR, "the login takes too many requests");
    l->wants_transit = bhs[1] & TRANSIT;
    l->next_stage = bhs[1] & 3;
    if (!gather(l, data, pdu_data_bytes(bhs)))
        return refuse(l, LOGIN_OUT_OF_RESOURCES, "the text of the login is too long");
    if (bhs[1] & CONTINUE) {
        l->requests -= l->requests == 1; /* what follows is still the first one */
        return ++l->pieces > REQUESTS_MAX ? LOGIN_DROP : LOGIN_RESPOND;
    }
    return go_on(l);
}

enum login_next login_looked_up(struct login *l)
{
    l->has_looked_up = true;
    if (l->access.status != LOGIN_SUCCESS)
        return refuse(l, l->access.status, l->access.reason);
    return answer(l);
}

void login_entered(struct login *l, uint16_t tsih, enum login_status status, const char *reason)
{
    if (status != LOGIN_SUCCESS) {
        refuse(l, status, reason);
        return;
    }
    l->tsih = tsih;
    negotiation_settle(&l->negotiation);
}

void login_response(const struct login *l, uint8_t bhs[BHS_BYTES])
{
    memset(bhs, 0, BHS_BYTES);
    bhs[0] = PDU_LOGIN_RESPONSE;
    bhs[1] = (uint8_t)(l->stage << 2);
    if (l->is_transit)
        bhs[1] |= (uint8_t)(TRANSIT | l->next_stage);
    put24(bhs + 5, (uint32_t)l->reply_length);
    memcpy(bhs + 8, l->isid, sizeof l->isid);
    put16(bhs + 14, l->tsih);
    put32(bhs + 16, l->tag);
    put16(bhs + 36, (uint16_t)l->status);
}
