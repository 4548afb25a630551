/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test-iscsi-text: PDU headers, key=value text and operational keys of iSCSI: bad input first, then
 * that every rule of the table gives what RFC 7143 says.
 */
#include "iscsi/negotiate.h"
#include "iscsi/pdu.h"
#include "unit.h"

/* --- additional headers --------------------------------------------------------------------------
 */

static bool ahs(const char *bytes, unsigned length)
{
    struct pdu_extension x;
    /* A copy of the exact size, so that a sanitizer sees a look past its end. */
    uint8_t *copy = malloc(length + 1);
    bool is_good;

    memcpy(copy, bytes, length);
    copy = realloc(copy, length ? length : 1);
    is_good = pdu_parse_ahs(copy, length, &x);
    free(copy);
    return is_good;
}

static void test_bad_additional_headers(void)
{
    CHECK(ahs("", 0));
    CHECK(!ahs("\0\1\0\0", 4));                          /* type 0 */
    CHECK(!ahs("\0\1\77\0", 4));                         /* unknown type */
    CHECK(!ahs("\377\377\1\0", 4));                      /* runs past its area */
    CHECK(!ahs("\0\2\1", 3));                            /* no whole segment */
    CHECK(!ahs("\0\1\1\0", 4));                          /* an extended CDB of no byte */
    CHECK(!ahs("\0\4\2\0\0\0\0\0", 8));                  /* a read length of three bytes */
    CHECK(!ahs("\0\5\2\0\0\0\0\1\0\5\2\0\0\0\0\1", 16)); /* twice */
    for (unsigned length = 0; length < 1020; length += 4) {
        static const char zeros[1020];

        CHECK(length == 0 || !ahs(zeros, length));
    }
}

static void test_good_additional_headers(void)
{
    uint8_t bytes[28 + 8] = {0, 17, 1, 0};
    struct pdu_extension x;

    for (unsigned i = 0; i < 16; i++)
        bytes[4 + i] = (uint8_t)(0x10 + i);
    memcpy(bytes + 20, "\0\5\2\0\1\2\3\4", 8);
    CHECK(pdu_parse_ahs(bytes, 28, &x));
    CHECK_EQ(x.cdb_rest_bytes, 16);
    CHECK_EQ(x.cdb_rest[15], 0x1f);
    CHECK(x.has_read_length);
    CHECK_EQ(x.read_bytes, 0x01020304);
}

static void test_serial_numbers(void)
{
    CHECK(serial_is_before(1, 2));
    CHECK(!serial_is_before(2, 2));
    CHECK(serial_is_before(UINT32_MAX, 0));
    CHECK(!serial_is_before(0, UINT32_MAX));
}

static void test_opcodes_of_a_target_are_none(void)
{
    for (unsigned opcode = 0; opcode < 64; opcode++)
        CHECK_EQ(pdu_opcode_traits(opcode) != 0, opcode <= 6 || opcode == PDU_SNACK);
    CHECK_STR(pdu_opcode_name(0x3f), "unknown");
}

static void test_digest_on_the_wire(void)
{
    uint8_t zeros[32] = {0}, wire[4];

    /* RFC 7143 appendix A.4: 32 bytes of zeros. */
    digest_store(wire, crc32c(0, zeros, sizeof zeros));
    CHECK(memcmp(wire, "\xaa\x36\x91\x8a", 4) == 0);
    CHECK(digest_matches(wire, crc32c(0, zeros, sizeof zeros)));
    wire[3] ^= 1;
    CHECK(!digest_matches(wire, crc32c(0, zeros, sizeof zeros)));
}

/* --- pairs
 * ------------------------------------------------------------------------------------------ */

static enum key_found first(const char *text, size_t length, struct slice *key, struct slice *value)
{
    static char *copy;
    struct key_cursor cursor;

    free(copy);
    copy = malloc(length ? length : 1);
    memcpy(copy, text, length);
    cursor.rest = (struct slice){copy, length};
    return key_next(&cursor, key, value);
}

static void test_bad_pairs(void)
{
    struct slice key, value;
    char long_key[4200];

    CHECK_EQ(first("", 0, &key, &value), KEY_END);
    CHECK_EQ(first("\0\0\0", 3, &key, &value), KEY_END);
    CHECK_EQ(first("x", 1, &key, &value), KEY_MALFORMED);
    CHECK_EQ(first("=v", 3, &key, &value), KEY_MALFORMED);
    CHECK_EQ(first("a b=v", 6, &key, &value), KEY_MALFORMED);
    CHECK_EQ(first("a\x80=v", 5, &key, &value), KEY_MALFORMED);
    memset(long_key, 'k', sizeof long_key);
    long_key[63] = '=';
    CHECK_EQ(first(long_key, 65, &key, &value), KEY_PAIR);
    long_key[63] = 'k';
    long_key[64] = '=';
    CHECK_EQ(first(long_key, 66, &key, &value), KEY_MALFORMED);
    long_key[64] = 'k';
    long_key[4096] = '=';
    CHECK_EQ(first(long_key, 4100, &key, &value), KEY_MALFORMED);
}

static void test_values_have_a_limit(void)
{
    char *text = malloc(9000);
    struct slice key, value;

    memset(text, 'v', 9000);
    memcpy(text, "k=", 2);
    CHECK_EQ(first(text, 2 + VALUE_TEXT_MAX, &key, &value), KEY_PAIR);
    CHECK_EQ(value.length, VALUE_TEXT_MAX);
    CHECK_EQ(first(text, 3 + VALUE_TEXT_MAX, &key, &value), KEY_MALFORMED);
    free(text);
}

static void test_good_pairs(void)
{
    struct key_cursor cursor = {{"a=1\0\0b==2\0c=", 13}};
    struct slice key, value;

    CHECK_EQ(key_next(&cursor, &key, &value), KEY_PAIR);
    CHECK(slice_is(key, "a") && slice_is(value, "1"));
    CHECK_EQ(key_next(&cursor, &key, &value), KEY_PAIR);
    CHECK(slice_is(key, "b") && slice_is(value, "=2"));
    CHECK_EQ(key_next(&cursor, &key, &value), KEY_PAIR);
    CHECK(slice_is(key, "c") && value.length == 0);
    CHECK_EQ(key_next(&cursor, &key, &value), KEY_END);
}

/* --- values
 * ------------------------------------------------------------------------------------------ */

static void test_bad_numbers(void)
{
    static const char *const bad[] = {"",
                                      "-1",
                                      "0x",
                                      "0X",
                                      "1~2",
                                      "12 ",
                                      " 1",
                                      "1k",
                                      "0xg",
                                      "4294967296",
                                      "18446744073709551617",
                                      "0b1"};
    uint32_t n;

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        CHECK(!value_number(slice_of(bad[i]), &n));
}

static void test_good_numbers(void)
{
    uint32_t n;

    CHECK(value_number(SLICE("4294967295"), &n) && n == UINT32_MAX);
    CHECK(value_number(SLICE("0xFFFFffff"), &n) && n == UINT32_MAX);
    CHECK(value_number(SLICE("0X10"), &n) && n == 16);
    CHECK(value_number(SLICE("007"), &n) && n == 7);
}

static void test_bad_binary(void)
{
    static const char *const bad[] = {"",      "0",      "0x",     "0b",        "12",     "0xzz",
                                      "0bAAA", "0bA===", "0bAA=A", "0bAA\x80=", "0b====", "0b A=="};
    uint8_t out[4];

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        CHECK_EQ(value_binary(slice_of(bad[i]), out, sizeof out), -1);
    CHECK_EQ(value_binary(SLICE("0x0102030405"), out, 4), -1);
    CHECK_EQ(value_binary(SLICE("0bAQIDBAU="), out, 4), -1);
}

static void test_good_binary(void)
{
    uint8_t out[8];

    CHECK_EQ(value_binary(SLICE("0xABC"), out, sizeof out), 2);
    CHECK(out[0] == 0x0a && out[1] == 0xbc);
    CHECK_EQ(value_binary(SLICE("0X01fE"), out, sizeof out), 2);
    CHECK(out[0] == 1 && out[1] == 0xfe);
    CHECK_EQ(value_binary(SLICE("0bAQIDBA=="), out, 4), 4);
    CHECK(memcmp(out, "\1\2\3\4", 4) == 0);
    CHECK_EQ(value_binary(SLICE("0BAQID"), out, 3), 3);
}

static void test_names(void)
{
    char out[ISCSI_NAME_BYTES], text[240];

    CHECK(value_name(SLICE("iqn.2001-04.COM.example:Host"), out));
    CHECK_STR(out, "iqn.2001-04.com.example:host");
    CHECK(value_name(SLICE("eui.02004567A425678D"), out));
    CHECK(!value_name(SLICE("iqn."), out));
    CHECK(!value_name(SLICE("foo.bar"), out));
    CHECK(!value_name(SLICE("iqn.a b"), out));
    CHECK(!value_name((struct slice){"iqn.a\0b", 7}, out));
    memset(text, 'a', sizeof text);
    memcpy(text, "iqn.", 4);
    CHECK(value_name((struct slice){text, 223}, out));
    CHECK(!value_name((struct slice){text, 224}, out));
}

/* --- writing
 * ------------------------------------------------------------------------------------------ */

static void test_writer_never_overflows(void)
{
    char out[12];
    struct key_writer w = {.out = out, .size = 10};

    out[10] = 'G';
    key_write_text(&w, "abc", "12345"); /* ten bytes with its NUL */
    CHECK(!w.is_full && w.length == 10);
    key_write_text(&w, "", "");
    CHECK(w.is_full && w.length == 10 && out[10] == 'G');
}

/* --- operational keys
 * ----------------------------------------------------------------------------------- */

struct row {
    const char *key, *offer, *answer; /* answer NULL: the initiator's error; "": none */
};

static void check_row(const struct row *row, bool is_discovery)
{
    struct negotiation n;
    char out[200];
    struct key_writer w = {.out = out, .size = sizeof out};
    enum negotiated r;
    char expected[200];

    negotiation_init(&n, is_discovery);
    r = negotiate(&n, slice_of(row->key), slice_of(row->offer), &w);
    CHECK_EQ(r, row->answer ? NEGOTIATED : NEGOTIATED_ERROR);
    out[w.length] = 0;
    snprintf(expected, sizeof expected, "%s=%s", row->key, row->answer ? row->answer : "");
    if (row->answer && row->answer[0])
        CHECK_STR(out, expected);
    else
        CHECK_EQ(w.length, 0);
}

static void test_every_rule(void)
{
    static const struct row rows[] = {
        {"HeaderDigest", "CRC32C,None", "CRC32C"},
        {"HeaderDigest", "None,CRC32C", "None"},
        {"DataDigest", "X-mine,CRC32C", "CRC32C"},
        {"DataDigest", "X-mine", "Reject"},
        {"DataDigest", "", "Reject"},
        {"MaxConnections", "8", "1"},
        {"MaxConnections", "0", "Reject"},
        {"InitialR2T", "No", "No"},
        {"InitialR2T", "Yes", "Yes"},
        {"InitialR2T", "maybe", "Reject"},
        {"ImmediateData", "Yes", "Yes"},
        {"ImmediateData", "No", "No"},
        {"MaxRecvDataSegmentLength", "262144", ""},
        {"MaxRecvDataSegmentLength", "511", NULL},
        {"MaxRecvDataSegmentLength", "16777216", NULL},
        {"MaxRecvDataSegmentLength", "-1", NULL},
        {"MaxBurstLength", "16776192", "1048576"},
        {"MaxBurstLength", "511", "Reject"},
        {"FirstBurstLength", "65536", "65536"},
        {"DefaultTime2Wait", "0", "2"},
        {"DefaultTime2Retain", "20", "0"},
        {"MaxOutstandingR2T", "1", "1"},
        {"MaxOutstandingR2T", "100", "8"},
        {"DataPDUInOrder", "No", "Yes"},
        {"DataSequenceInOrder", "No", "Yes"},
        {"ErrorRecoveryLevel", "2", "0"},
        {"ErrorRecoveryLevel", "3", "Reject"},
        {"TaskReporting", "FastAbort,RFC3720", "RFC3720"},
        {"iSCSIProtocolLevel", "1", "1"},
        {"IFMarker", "Yes", "No"},
        {"OFMarkInt", "2048~8192", "Reject"},
        {"InitiatorAlias", "a host", ""},
        {"HeaderDigest", "Reject", NULL},
        {"MaxBurstLength", "Irrelevant", NULL},
        {"MaxBurstLength", "4294967296", "Reject"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        check_row(&rows[i], false);
    check_row(&(struct row){"InitialR2T", "No", "Irrelevant"}, true);
    check_row(&(struct row){"HeaderDigest", "CRC32C", "CRC32C"}, true);
}

static void test_a_key_twice_is_an_error(void)
{
    struct negotiation n;
    char out[200];
    struct key_writer w = {.out = out, .size = sizeof out};

    negotiation_init(&n, false);
    CHECK_EQ(negotiate(&n, SLICE("ImmediateData"), SLICE("Yes"), &w), NEGOTIATED);
    CHECK_EQ(negotiate(&n, SLICE("ImmediateData"), SLICE("Yes"), &w), NEGOTIATED_ERROR);
    CHECK_EQ(negotiate(&n, SLICE("X-org.example"), SLICE("1"), &w), NEGOTIATED_UNKNOWN);
}

static void test_first_burst_never_exceeds_max_burst(void)
{
    struct negotiation n;
    char out[200];
    struct key_writer w = {.out = out, .size = sizeof out};

    negotiation_init(&n, false);
    CHECK_EQ(negotiate(&n, SLICE("FirstBurstLength"), SLICE("262144"), &w), NEGOTIATED);
    CHECK_EQ(negotiate(&n, SLICE("MaxBurstLength"), SLICE("8192"), &w), NEGOTIATED);
    negotiation_settle(&n);
    CHECK_EQ(n.parameters.first_burst_bytes, 8192);
}

static void test_full_feature_phase_changes_one_key_only(void)
{
    struct negotiation n;
    char out[200];
    struct key_writer w = {.out = out, .size = sizeof out};

    negotiation_init(&n, false);
    CHECK_EQ(negotiate_again(&n, SLICE("MaxRecvDataSegmentLength"), SLICE("4096"), &w), NEGOTIATED);
    CHECK_EQ(n.parameters.send_bytes, 4096);
    CHECK_EQ(negotiate_again(&n, SLICE("HeaderDigest"), SLICE("CRC32C"), &w), NEGOTIATED);
    CHECK(!n.parameters.header_digest);
    CHECK_STR(out, "HeaderDigest=Reject");
}

int main(void)
{
    RUN(test_bad_additional_headers);
    RUN(test_good_additional_headers);
    RUN(test_serial_numbers);
    RUN(test_opcodes_of_a_target_are_none);
    RUN(test_digest_on_the_wire);
    RUN(test_bad_pairs);
    RUN(test_values_have_a_limit);
    RUN(test_good_pairs);
    RUN(test_bad_numbers);
    RUN(test_good_numbers);
    RUN(test_bad_binary);
    RUN(test_good_binary);
    RUN(test_names);
    RUN(test_writer_never_overflows);
    RUN(test_every_rule);
    RUN(test_a_key_twice_is_an_error);
    RUN(test_first_burst_never_exceeds_max_burst);
    RUN(test_full_feature_phase_changes_one_key_only);
    return unit_result();
}
