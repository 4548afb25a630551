/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * negotiate: the operational keys of RFC 7143 section 13, as a table: what may be offered, what we
 * answer, what then holds.  Pure.
 */
#ifndef SLUICE_ISCSI_NEGOTIATE_H
#define SLUICE_ISCSI_NEGOTIATE_H

#include "iscsi/keys.h"

#define LOGIN_DATA_BYTES 8192u /* MaxRecvDataSegmentLength before it is declared (13.12) */
#define OUR_RECEIVE_BYTES (1u << 20)

/* What holds for a session and its connection. */
struct session_parameters {
    bool header_digest, data_digest;
    bool initial_r2t, immediate_data;
    bool data_pdu_in_order, data_sequence_in_order;
    uint32_t send_bytes; /* the initiator's MaxRecvDataSegmentLength */
    uint32_t max_burst_bytes, first_burst_bytes;
    uint32_t max_outstanding_r2t, max_connections;
    uint32_t time_to_wait_s, time_to_retain_s, error_recovery_level;
    uint32_t protocol_level;
};

struct negotiation {
    struct session_parameters parameters;
    bool is_discovery;
    uint32_t seen;     /* rows of the table */
    bool has_declared; /* our MaxRecvDataSegmentLength was told */
};
void negotiation_init(struct negotiation *n, bool is_discovery);

enum negotiated {
    NEGOTIATED,         /* answered in *w, if it wants an answer */
    NEGOTIATED_UNKNOWN, /* not ours */
    NEGOTIATED_ERROR,   /* the initiator's fault: offered twice, or a value out of its range */
};
/* A key offered in the operational stage of a login. */
enum negotiated negotiate(struct negotiation *n, struct slice key, struct slice value,
                          struct key_writer *w) MUST_CHECK;
/* The same key in full feature phase: MaxRecvDataSegmentLength takes effect, the others are
 * refused. */
enum negotiated negotiate_again(struct negotiation *n, struct slice key, struct slice value,
                                struct key_writer *w) MUST_CHECK;
bool negotiation_knows(struct slice key);
/* What we have to declare ourselves, once. */
void negotiation_declare(struct negotiation *n, struct key_writer *w);
/* After all was said. */
void negotiation_settle(struct negotiation *n);

#endif
