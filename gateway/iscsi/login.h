/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * login: the login phase of one connection (RFC 7143 section 6.3), pure: requests go in, responses
 * come out; who may log in, and the session itself, are asked of the caller in between.
 *
 *     login_request() --> LOGIN_RESPOND                         login_response() makes the PDU
 *                     --> LOGIN_LOOK_UP --> login_looked_up()   --> LOGIN_RESPOND, LOGIN_ENTER
 *                     --> LOGIN_ENTER   --> login_entered()     --> LOGIN_RESPOND
 *                     --> LOGIN_DROP                            close without a word
 *
 * After a response with a status that is not success the connection is closed.  What an initiator
 * can make this remember before it has proved anything is NEGOTIATION_BYTES_MAX and struct login.
 */
#ifndef SLUICE_ISCSI_LOGIN_H
#define SLUICE_ISCSI_LOGIN_H

#include "iscsi/chap.h"
#include "iscsi/negotiate.h"
#include "iscsi/pdu.h"

/* Status class and detail, RFC 7143 11.13.5. */
enum login_status {
    LOGIN_SUCCESS = 0x0000,
    LOGIN_INITIATOR_ERROR = 0x0200,
    LOGIN_AUTHENTICATION_FAILED = 0x0201,
    LOGIN_FORBIDDEN = 0x0202,
    LOGIN_NOT_FOUND = 0x0203,
    LOGIN_UNSUPPORTED_VERSION = 0x0205,
    LOGIN_TOO_MANY_CONNECTIONS = 0x0206,
    LOGIN_MISSING_PARAMETER = 0x0207,
    LOGIN_NO_SESSION = 0x020a,
    LOGIN_INVALID_REQUEST = 0x020b,
    LOGIN_TARGET_ERROR = 0x0300,
    LOGIN_SERVICE_UNAVAILABLE = 0x0301,
    LOGIN_OUT_OF_RESOURCES = 0x0302
};

/* Numbers of CSG and NSG. */
enum login_stage { STAGE_SECURITY = 0, STAGE_OPERATIONAL = 1, STAGE_FULL_FEATURE = 3 };

enum login_next { LOGIN_RESPOND, LOGIN_LOOK_UP, LOGIN_ENTER, LOGIN_DROP };

/* What the caller found out about whoever asks for whatever. */
struct login_access {
    enum login_status status; /* other than success: the login is refused with it */
    char reason[200];         /* for the log, then */
    uint16_t portal_group;
    struct chap_accounts accounts;
};

struct login {
    /* From the first request; they must not change. */
    bool has_begun;
    uint8_t isid[6];
    uint16_t tsih, cid;
    uint32_t tag;
    char initiator[ISCSI_NAME_BYTES], target[ISCSI_NAME_BYTES];
    bool is_discovery;

    enum login_stage stage, next_stage;
    bool wants_transit, is_transit, has_looked_up, has_told_group, is_authenticated;
    bool is_method_chosen;
    unsigned requests, pieces; /* pieces: with the C bit */
    struct chap chap;
    struct login_access access;
    struct negotiation negotiation;

    char *text; /* of the request, gathered over its PDUs */
    size_t text_length, total_text;
    char reply[LOGIN_DATA_BYTES];
    size_t reply_length;
    enum login_status status;
    char reason[300]; /* why it was refused, for the log */
};

/* NULL for ENOMEM. */
struct login *login_new(void) MUST_CHECK;
void login_free(struct login *login); /* wipes secrets */

/* bhs: 48 bytes; data: pdu_data_bytes(bhs) of them. */
enum login_next login_request(struct login *login, const uint8_t *bhs,
                              const uint8_t *data) MUST_CHECK;
/* login->access was filled. */
enum login_next login_looked_up(struct login *login) MUST_CHECK;
/* The session was opened with that TSIH, or status and reason say why not. */
void login_entered(struct login *login, uint16_t tsih, enum login_status status,
                   const char *reason);
/* All of the header but for the serial numbers; the data is login->reply. */
void login_response(const struct login *login, uint8_t bhs[BHS_BYTES]);
/* The initiator is in full feature phase once this response is on its way. */
static inline bool login_is_complete(const struct login *login)
{
    return login->status == LOGIN_SUCCESS && login->is_transit &&
           login->next_stage == STAGE_FULL_FEATURE;
}

#endif
