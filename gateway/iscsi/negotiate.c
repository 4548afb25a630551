/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * negotiate.c: the table of operational keys and one function for each kind of rule.
 *
 * A list takes the first word of the initiator's that we know.  A number out of its range is
 * answered Reject and the default holds, so that a login can go on; so is a word we do not know
 * (RFC 7143 6.2.1, 6.2.2).  Irrelevant and Reject are words for answers only.
 */
#include "iscsi/negotiate.h"

enum rule {
    RULE_DIGEST,   /* list of CRC32C and None */
    RULE_AND,      /* Yes if both say so */
    RULE_OR,       /* Yes if either says so */
    RULE_LEAST,    /* the smaller number */
    RULE_MOST,     /* the larger one */
    RULE_DECLARED, /* a number told, not answered */
    RULE_NAME,     /* text told, not answered */
    RULE_NO,       /* obsolete: No */
    RULE_REJECT,   /* obsolete: Reject */
    RULE_WORD      /* list with one word that we know */
};

struct key_row {
    const char *name;
    enum rule rule;
    uint32_t least, most, ours; /* numbers; ours of a boolean: 1 Yes */
    size_t field;               /* of session_parameters; NOWHERE: nothing is kept */
    bool is_irrelevant_in_discovery;
    const char *word;
};
#define NOWHERE SIZE_MAX
#define FIELD(name) offsetof(struct session_parameters, name)
#define MAX_24 0xffffffu

/* RFC 7143 13.1 to 13.24, in the order of the section; markers are obsolete since then (13.25). */
static const struct key_row rows[] = {
    {"HeaderDigest", RULE_DIGEST, 0, 0, 0, FIELD(header_digest), false, NULL},
    {"DataDigest", RULE_DIGEST, 0, 0, 0, FIELD(data_digest), false, NULL},
    {"MaxConnections", RULE_LEAST, 1, 65535, 1, FIELD(max_connections), true, NULL},
    {"InitiatorAlias", RULE_NAME, 0, 0, 0, NOWHERE, false, NULL},
    {"InitialR2T", RULE_OR, 0, 0, 0, FIELD(initial_r2t), true, NULL},
    {"ImmediateData", RULE_AND, 0, 0, 1, FIELD(immediate_data), true, NULL},
    {"MaxRecvDataSegmentLength", RULE_DECLARED, 512, MAX_24, 0, FIELD(send_bytes), false, NULL},
    {"MaxBurstLength", RULE_LEAST, 512, MAX_24, 1u << 20, FIELD(max_burst_bytes), true, NULL},
    {"FirstBurstLength", RULE_LEAST, 512, MAX_24, 262144, FIELD(first_burst_bytes), true, NULL},
    {"DefaultTime2Wait", RULE_MOST, 0, 3600, 2, FIELD(time_to_wait_s), false, NULL},
    {"DefaultTime2Retain", RULE_LEAST, 0, 3600, 0, FIELD(time_to_retain_s), false, NULL},
    {"MaxOutstandingR2T", RULE_LEAST, 1, 65535, 8, FIELD(max_outstanding_r2t), true, NULL},
    {"DataPDUInOrder", RULE_OR, 0, 0, 1, FIELD(data_pdu_in_order), true, NULL},
    {"DataSequenceInOrder", RULE_OR, 0, 0, 1, FIELD(data_sequence_in_order), true, NULL},
    {"ErrorRecoveryLevel", RULE_LEAST, 0, 2, 0, FIELD(error_recovery_level), false, NULL},
    {"TaskReporting", RULE_WORD, 0, 0, 0, NOWHERE, true, "RFC3720"},
    {"iSCSIProtocolLevel", RULE_LEAST, 0, 31, 2, FIELD(protocol_level), false, NULL},
    {"IFMarker", RULE_NO, 0, 0, 0, NOWHERE, false, NULL},
    {"OFMarker", RULE_NO, 0, 0, 0, NOWHERE, false, NULL},
    {"IFMarkInt", RULE_REJECT, 0, 0, 0, NOWHERE, false, NULL},
    {"OFMarkInt", RULE_REJECT, 0, 0, 0, NOWHERE, false, NULL},
};
_Static_assert(ARRAY_SIZE(rows) <= 32, "negotiation.seen has a bit for each row");

/* --- rules -------------------------------------------------------------------------------------
 */

static void *field_of(struct negotiation *n, const struct key_row *row)
{
    return (char *)&n->parameters + row->field;
}

static void answer_digest(struct negotiation *n, const struct key_row *row, struct slice value,
                          struct key_writer *w)
{
    struct slice item;

    while (value_next(&value, &item)) {
        if (!slice_is(item, "CRC32C") && !slice_is(item, "None"))
            continue;
        *(bool *)field_of(n, row) = slice_is(item, "CRC32C");
        key_write(w, slice_of(row->name), item);
        return;
    }
    key_write_text(w, row->name, "Reject");
}

static void answer_bool(struct negotiation *n, const struct key_row *row, struct slice value,
                        struct key_writer *w)
{
    bool theirs, result;

    if (!value_bool(value, &theirs)) {
        key_write_text(w, row->name, "Reject");
        return;
    }
    result = row->rule == RULE_AND ? theirs && row->ours : theirs || row->ours;
    *(bool *)field_of(n, row) = result;
    key_write_text(w, row->name, result ? "Yes" : "No");
}

static void answer_number(struct negotiation *n, const struct key_row *row, struct slice value,
                          struct key_writer *w)
{
    uint32_t theirs, result;

    if (!value_number(value, &theirs) || theirs < row->least || theirs > row->most) {
        key_write_text(w, row->name, "Reject");
        return;
    }
    result = row->rule == RULE_LEAST ? MIN(theirs, row->ours) : MAX(theirs, row->ours);
    *(uint32_t *)field_of(n, row) = result;
    key_write_number(w, row->name, result);
}

/* Declared: there is no answer that could say no, so a bad one ends the login. */
static enum negotiated take_declared(struct negotiation *n, const struct key_row *row,
                                     struct slice value)
{
    uint32_t theirs;

    if (!value_number(value, &theirs) || theirs < row->least || theirs > row->most)
        return NEGOTIATED_ERROR;
    *(uint32_t *)field_of(n, row) = theirs;
    return NEGOTIATED;
}

static void answer_word(const struct key_row *row, struct slice value, struct key_writer *w)
{
    struct slice item;

    while (value_next(&value, &item))
        if (slice_is(item, row->word)) {
            key_write(w, slice_of(row->name), item);
            return;
        }
    key_write_text(w, row->name, "Reject");
}

static enum negotiated apply(struct negotiation *n, const struct key_row *row, struct slice value,
                             struct key_writer *w)
{
    switch (row->rule) {
    case RULE_DIGEST:
        answer_digest(n, row, value, w);
        break;
    case RULE_AND:
    case RULE_OR:
        answer_bool(n, row, value, w);
        break;
    case RULE_LEAST:
    case RULE_MOST:
        answer_number(n, row, value, w);
        break;
    case RULE_DECLARED:
        return take_declared(n, row, value);
    case RULE_NAME:
        return value.length <= VALUE_BYTES_MAX ? NEGOTIATED : NEGOTIATED_ERROR;
    case RULE_NO:
        key_write_text(w, row->name, "No");
        break;
    case RULE_REJECT:
        key_write_text(w, row->name, "Reject");
        break;
    case RULE_WORD:
        answer_word(row, value, w);
        break;
    }
    return NEGOTIATED;
}

/* --- outside -------------------------------------------------------------------------------------
 */

void negotiation_init(struct negotiation *n, bool is_discovery)
{
    /* The defaults of section 13. */
    *n = (struct negotiation){.parameters = {.initial_r2t = true,
                                             .immediate_data = true,
                                             .data_pdu_in_order = true,
                                             .data_sequence_in_order = true,
                                             .send_bytes = LOGIN_DATA_BYTES,
                                             .max_burst_bytes = 262144,
                                             .first_burst_bytes = 65536,
                                             .max_outstanding_r2t = 1,
                                             .max_connections = 1,
                                             .time_to_wait_s = 2,
                                             .time_to_retain_s = 0,
                                             .protocol_level = 1},
                              .is_discovery = is_discovery};
}

static const struct key_row *find_row(struct slice key)
{
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        if (slice_is(key, rows[i].name))
            return &rows[i];
    return NULL;
}

bool negotiation_knows(struct slice key)
{
    return find_row(key) != NULL;
}

static bool is_only_an_answer(struct slice value)
{
    return slice_is(value, "Reject") || slice_is(value, "Irrelevant") ||
           slice_is(value, "NotUnderstood");
}

enum negotiated negotiate(struct negotiation *n, struct slice key, struct slice value,
                          struct key_writer *w)
{
    const struct key_row *row = find_row(key);
    uint32_t bit = row ? 1u << (row - rows) : 0;

    if (!row)
        return NEGOTIATED_UNKNOWN;
    if ((n->seen & bit) || is_only_an_answer(value))
        return NEGOTIATED_ERROR;
    n->seen |= bit;
    if (n->is_discovery && row->is_irrelevant_in_discovery) {
        key_write_text(w, row->name, "Irrelevant");
        return NEGOTIATED;
    }
    return apply(n, row, value, w);
}

enum negotiated negotiate_again(struct negotiation *n, struct slice key, struct slice value,
                                struct key_writer *w)
{
    const struct key_row *row = find_row(key);

    if (!row)
        return NEGOTIATED_UNKNOWN;
    if (row->rule == RULE_DECLARED)
        return take_declared(n, row, value);
    if (row->rule != RULE_NAME)
        key_write_text(w, row->name, "Reject");
    return NEGOTIATED;
}

void negotiation_declare(struct negotiation *n, struct key_writer *w)
{
    if (n->has_declared)
        return;
    n->has_declared = true;
    key_write_number(w, "MaxRecvDataSegmentLength", OUR_RECEIVE_BYTES);
}

/* An initiator that offered only one of the two may leave the other's default above or below it;
 * FirstBurstLength must not exceed MaxBurstLength (13.14), so the smaller is what holds. */
void negotiation_settle(struct negotiation *n)
{
    struct session_parameters *p = &n->parameters;

    p->first_burst_bytes = MIN(p->first_burst_bytes, p->max_burst_bytes);
}
