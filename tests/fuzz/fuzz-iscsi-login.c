/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz-iscsi-login: a login, request by request.  The input is a row of PDUs: 48 bytes of header,
 * of which the data length is taken as it stands, cut to what follows.  The first byte says whether
 * secrets are named; where they are, no input may ever end in full feature phase, because the
 * challenge is random.
 */
#include "iscsi/login.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void allow(struct login *l, uint8_t how)
{
    struct login_access *a = &l->access;

    a->status = how & 4 ? LOGIN_FORBIDDEN : LOGIN_SUCCESS;
    a->portal_group = 1;
    a->accounts.is_required = how & 1;
    a->accounts.is_mutual = how & 2;
    strcpy(a->accounts.initiator.user, "user");
    strcpy(a->accounts.initiator.secret, "secret of the host");
    strcpy(a->accounts.target.user, "target");
    strcpy(a->accounts.target.secret, "secret of the target");
}

/* False: the connection would be closed. */
static bool step(struct login *l, const uint8_t *bhs, const uint8_t *data, uint8_t how)
{
    enum login_next next = login_request(l, bhs, data);
    uint8_t response[BHS_BYTES];

    if (next == LOGIN_LOOK_UP) {
        allow(l, how);
        next = login_looked_up(l);
    }
    if (next == LOGIN_ENTER) {
        assert(!(how & 1) && !(how & 4));
        login_entered(l, 1, LOGIN_SUCCESS, "");
    }
    if (next == LOGIN_DROP)
        return false;
    assert(l->reply_length <= sizeof l->reply);
    login_response(l, response);
    return l->status == LOGIN_SUCCESS && !login_is_complete(l);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct login *l = login_new();
    size_t at = 1;
    bool goes_on = l && size > 0;

    while (goes_on && size - at >= BHS_BYTES) {
        uint8_t bhs[BHS_BYTES];
        uint32_t bytes;

        memcpy(bhs, data + at, BHS_BYTES);
        at += BHS_BYTES;
        bytes = (uint32_t)MIN(pdu_data_bytes(bhs), size - at);
        put24(bhs + 5, bytes);
        goes_on = step(l, bhs, data + at, data[0]);
        at += bytes;
    }
    login_free(l);
    return 0;
}
