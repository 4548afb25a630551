/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * chap: the exchange of RFC 1994 as iSCSI carries it (RFC 7143 12.1): who proves what to whom.
 * Knows no PDUs: keys go in, keys come out.  Secrets are the caller's; nothing is kept of them.
 */
#ifndef SLUICE_ISCSI_CHAP_H
#define SLUICE_ISCSI_CHAP_H

#include "iscsi/keys.h"

#define CHAP_CHALLENGE_BYTES 32u
#define CHAP_DIGEST_BYTES_MAX 32u

struct chap_account {
    char user[224], secret[256];
};

/* What has to be proved. */
struct chap_accounts {
    bool is_required, is_mutual;
    struct chap_account initiator, target;
};

enum chap_state {
    CHAP_NOT_BEGUN,  /* AuthMethod=CHAP was agreed on: CHAP_A is next */
    CHAP_CHALLENGED, /* we sent CHAP_A, CHAP_I, CHAP_C: CHAP_N and CHAP_R are next */
    CHAP_PASSED
};

struct chap {
    enum chap_state state;
    unsigned algorithm; /* index into the table */
    uint8_t identifier;
    uint8_t challenge[CHAP_CHALLENGE_BYTES];
};

/* The keys of one PDU; text NULL: not there. */
struct chap_keys {
    struct slice a, i, c, n, r;
    bool is_repeated; /* one of them was there twice */
};
/* True if the key is one of CHAP's. */
bool chap_take_key(struct chap_keys *keys, struct slice key, struct slice value);

/* One step: 0 and answers in *w; or -EACCES with a sentence for the log: the login is refused. */
int chap_step(struct chap *chap, const struct chap_accounts *accounts, const struct chap_keys *keys,
              struct key_writer *w, struct err *e) MUST_CHECK;

/* H(identifier, secret, challenge) for a test; the digest's length, or -1. */
int chap_digest(unsigned algorithm, uint8_t identifier, const char *secret,
                const uint8_t *challenge, size_t challenge_bytes,
                uint8_t out[CHAP_DIGEST_BYTES_MAX]) MUST_CHECK;

#endif
