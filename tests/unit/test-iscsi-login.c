/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test-iscsi-login: the login phase without a socket: what must be refused and with which status,
 * then CHAP in every algorithm and both directions, the C bit at every byte, and a plain login.
 */
#include "iscsi/login.h"
#include "unit.h"

#define NAMES \
    "InitiatorName=iqn.2001-04.com.example:host\0TargetName=iqn.2001-04.com.example:disk\0"
#define T(csg, nsg) (0x80 | (csg) << 2 | (nsg))
#define STAY(csg) ((csg) << 2)

struct client {
    struct login *login;
    enum login_next next;
    bool is_secret, is_mutual;
    enum login_status lookup;
    uint8_t bhs[BHS_BYTES], response[BHS_BYTES];
};

static void start(struct client *c)
{
    *c = (struct client){.login = login_new(), .bhs = {PDU_LOGIN | PDU_IMMEDIATE}};
    memcpy(c->bhs + 8, "\x80\x12\x34\x56\0\1", 6);
}

static void stop(struct client *c)
{
    login_free(c->login);
    c->login = NULL;
}

static void allow(struct client *c)
{
    struct login_access *a = &c->login->access;

    a->status = c->lookup;
    a->portal_group = 7;
    a->accounts.is_required = c->is_secret;
    a->accounts.is_mutual = c->is_mutual;
    strcpy(a->accounts.initiator.user, "0xuser");
    strcpy(a->accounts.initiator.secret, "secret of the host");
    strcpy(a->accounts.target.user, "target");
    strcpy(a->accounts.target.secret, "secret of the target");
}

static unsigned send_flags(struct client *c, unsigned flags, const char *text, size_t length)
{
    uint8_t *data = malloc(length ? length : 1);

    if (length)
        memcpy(data, text, length);
    c->bhs[1] = (uint8_t)flags;
    put24(c->bhs + 5, (uint32_t)length);
    c->next = login_request(c->login, c->bhs, data);
    free(data);
    if (c->next == LOGIN_LOOK_UP) {
        allow(c);
        c->next = login_looked_up(c->login);
    }
    if (c->next == LOGIN_ENTER) {
        login_entered(c->login, 99, LOGIN_SUCCESS, "");
        c->next = LOGIN_RESPOND;
    }
    login_response(c->login, c->response);
    return get16(c->response + 36);
}
#define SEND(c, flags, text) send_flags(c, flags, text, sizeof(text) - 1)

static bool value_of(struct client *c, const char *name, struct slice *out)
{
    struct key_cursor cursor = {{c->login->reply, c->login->reply_length}};
    struct slice key;

    while (key_next(&cursor, &key, out) == KEY_PAIR)
        if (slice_is(key, name))
            return true;
    return false;
}

static bool says(struct client *c, const char *name, const char *wanted)
{
    struct slice value;

    return value_of(c, name, &value) && slice_is(value, wanted);
}

/* --- what must be refused
 * --------------------------------------------------------------------------- */

struct refusal {
    const char *what;
    unsigned flags;
    const char *text;
    size_t length;
    unsigned status;
    bool is_secret;
};
#define TEXT(t) (t), sizeof(t) - 1

static void test_first_requests_that_are_refused(void)
{
    static const struct refusal rows[] = {
        {"CSG 2", T(2, 3), TEXT(NAMES), 0x0200, false},
        {"CSG 3", T(3, 3), TEXT(NAMES), 0x0200, false},
        {"NSG 2", T(1, 2), TEXT(NAMES), 0x0200, false},
        {"NSG = CSG", T(1, 1), TEXT(NAMES), 0x0200, false},
        {"NSG < CSG", T(1, 0), TEXT(NAMES), 0x0200, false},
        {"T and C", 0x40 | T(1, 3), TEXT(NAMES), 0x0200, false},
        {"no names", T(1, 3), TEXT(""), 0x0207, false},
        {"no target", T(1, 3), TEXT("InitiatorName=iqn.a:b\0"), 0x0207, false},
        {"no initiator", T(1, 3), TEXT("TargetName=iqn.a:b\0"), 0x0207, false},
        {"bad name", T(1, 3), TEXT("InitiatorName=me\0TargetName=iqn.a:b\0"), 0x0200, false},
        {"name twice", T(1, 3), TEXT(NAMES "InitiatorName=iqn.a:b\0"), 0x0200, false},
        {"session type", T(1, 3), TEXT(NAMES "SessionType=Odd\0"), 0x0200, false},
        {"no =", T(1, 3), TEXT(NAMES "Nonsense\0"), 0x0200, false},
        {"key twice", T(1, 3), TEXT(NAMES "ImmediateData=No\0ImmediateData=No\0"), 0x0200, false},
        {"declared badly", T(1, 3), TEXT(NAMES "MaxRecvDataSegmentLength=1\0"), 0x0200, false},
        {"passes over CHAP", T(1, 3), TEXT(NAMES), 0x0201, true},
        {"None only", T(0, 1), TEXT(NAMES "AuthMethod=None\0"), 0x0201, true},
        {"nothing offered", T(0, 1), TEXT(NAMES), 0x0201, true},
        {"straight on", T(0, 3), TEXT(NAMES), 0x0201, true},
        {"CHAP keys at once", STAY(0), TEXT(NAMES "CHAP_N=0xuser\0CHAP_R=0x00\0"), 0x0201, true},
        {"CHAP without secrets", T(0, 1), TEXT(NAMES "AuthMethod=CHAP\0"), 0x0201, false},
        {"unknown method", T(0, 1), TEXT(NAMES "AuthMethod=KRB5\0"), 0x0201, false},
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct client c;
        unsigned status;

        start(&c);
        c.is_secret = rows[i].is_secret;
        status = send_flags(&c, rows[i].flags, rows[i].text, rows[i].length);
        if (status != rows[i].status)
            fprintf(stderr, "# %s: \"%s\"\n", rows[i].what, c.login->reason);
        CHECK_EQ(status, rows[i].status);
        CHECK_EQ(c.login->reply_length, 0);
        CHECK(!login_is_complete(c.login));
        stop(&c);
    }
}

static void test_version(void)
{
    struct client c;

    start(&c);
    c.bhs[2] = c.bhs[3] = 1;
    CHECK_EQ(SEND(&c, T(1, 3), NAMES), LOGIN_UNSUPPORTED_VERSION);
    stop(&c);
}

static void test_lookups_that_say_no(void)
{
    static const enum login_status statuses[] = {LOGIN_NOT_FOUND, LOGIN_FORBIDDEN,
                                                 LOGIN_SERVICE_UNAVAILABLE};

    for (size_t i = 0; i < ARRAY_SIZE(statuses); i++) {
        struct client c;

        start(&c);
        c.lookup = statuses[i];
        CHECK_EQ(SEND(&c, T(1, 3), NAMES), statuses[i]);
        stop(&c);
    }
}

/* Each in a login that has begun well. */
static void test_changes_within_a_login(void)
{
    static const unsigned changed_byte[] = {8, 13, 15, 16, 19, 20, 21};

    for (size_t i = 0; i < ARRAY_SIZE(changed_byte); i++) {
        struct client c;

        start(&c);
        CHECK_EQ(SEND(&c, STAY(1), NAMES), 0);
        c.bhs[changed_byte[i]] ^= 1;
        CHECK_EQ(SEND(&c, T(1, 3), ""), LOGIN_INITIATOR_ERROR);
        stop(&c);
    }
}

static void test_names_come_once(void)
{
    struct client c;

    start(&c);
    CHECK_EQ(SEND(&c, STAY(1), NAMES), 0);
    CHECK_EQ(SEND(&c, T(1, 3), NAMES), LOGIN_INITIATOR_ERROR);
    stop(&c);
}

static void test_text_without_end(void)
{
    struct client c;
    char *filler = malloc(LOGIN_DATA_BYTES);
    unsigned status = 0, rounds;

    memset(filler, 'a', LOGIN_DATA_BYTES);
    start(&c);
    for (rounds = 0; rounds < 100 && status == 0; rounds++)
        status = send_flags(&c, 0x40 | STAY(1), filler, LOGIN_DATA_BYTES);
    CHECK_EQ(status, LOGIN_OUT_OF_RESOURCES);
    CHECK_EQ(rounds, NEGOTIATION_BYTES_MAX / LOGIN_DATA_BYTES + 1);
    stop(&c);
    start(&c);
    for (rounds = 0; rounds < 1000 && (rounds == 0 || c.next != LOGIN_DROP); rounds++)
        SEND(&c, 0x40 | STAY(1), "");
    CHECK(rounds < 100);
    stop(&c);
    free(filler);
}

static void test_requests_without_end(void)
{
    struct client c;
    unsigned status, rounds;

    start(&c);
    status = SEND(&c, STAY(1), NAMES);
    for (rounds = 0; rounds < 1000 && status == 0; rounds++)
        status = SEND(&c, STAY(1), "");
    CHECK_EQ(status, LOGIN_INITIATOR_ERROR);
    stop(&c);
}

static void test_many_unknown_keys(void)
{
    struct client c;
    char text[LOGIN_DATA_BYTES];
    size_t length = sizeof NAMES - 1;

    memcpy(text, NAMES, length);
    for (unsigned i = 0; i < 1500; i++, length += 4)
        memcpy(text + length, "a=b", 4);
    start(&c);
    CHECK_EQ(send_flags(&c, T(1, 3), text, length), LOGIN_INITIATOR_ERROR);
    stop(&c);
}

/* --- CHAP
 * ---------------------------------------------------------------------------------------------- */

struct chap_try {
    const char *name, *secret;
    const char *mutual; /* keys of the mutual exchange, or "" */
    bool is_base64, is_reflected, has_no_answer;
};

static size_t write_base64(const uint8_t *data, size_t length, char *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t at = 2;

    memcpy(out, "0b", 2);
    for (size_t i = 0; i < length; i += 3) {
        uint32_t bits = (uint32_t)data[i] << 16 | (i + 1 < length ? data[i + 1] << 8 : 0) |
                        (i + 2 < length ? data[i + 2] : 0);

        for (unsigned k = 0; k < 4; k++)
            out[at++] = i + k < length + 1 ? digits[bits >> (18 - 6 * k) & 63] : '=';
    }
    return at;
}

static unsigned answer_challenge(struct client *c, unsigned algorithm, const struct chap_try *t)
{
    struct slice identifier, challenge;
    uint8_t theirs[64], digest[32];
    uint32_t number = 0;
    char text[1024], encoded[100];
    struct key_writer w = {.out = text, .size = sizeof text};
    int bytes, length;

    if (!value_of(c, "CHAP_I", &identifier) || !value_of(c, "CHAP_C", &challenge))
        return 0xffff;
    bytes = value_binary(challenge, theirs, sizeof theirs);
    CHECK_EQ(bytes, 32);
    CHECK(value_number(identifier, &number));
    length = chap_digest(algorithm, (uint8_t)number, t->secret, theirs, (size_t)bytes, digest);
    CHECK(length >= 16);
    key_write_text(&w, "CHAP_N", t->name);
    if (t->is_base64)
        key_write(&w, SLICE("CHAP_R"),
                  (struct slice){encoded, write_base64(digest, (size_t)length, encoded)});
    else if (!t->has_no_answer)
        key_write_binary(&w, "CHAP_R", digest, (size_t)length);
    if (t->is_reflected) {
        key_write_text(&w, "CHAP_I", "1");
        key_write(&w, SLICE("CHAP_C"), challenge);
    }
    memcpy(text + w.length, t->mutual, strlen(t->mutual));
    for (size_t i = 0; i < strlen(t->mutual); i++)
        if (text[w.length + i] == ' ')
            text[w.length + i] = 0;
    return send_flags(c, T(0, 1), text, w.length + strlen(t->mutual));
}

static unsigned try_chap(struct client *c, unsigned algorithm, bool is_mutual,
                         const struct chap_try *t)
{
    static const char *const offers[] = {"CHAP_A=5", "CHAP_A=6,5", "CHAP_A=99,7", "CHAP_A=8,7,6,5"};
    char offer[32];

    start(c);
    c->is_secret = true;
    c->is_mutual = is_mutual;
    CHECK_EQ(SEND(c, T(0, 1), NAMES "AuthMethod=None,CHAP\0"), 0);
    CHECK(says(c, "AuthMethod", "CHAP"));
    CHECK(says(c, "TargetPortalGroupTag", "7"));
    CHECK(!(c->response[1] & 0x80));
    strcpy(offer, offers[algorithm]);
    CHECK_EQ(send_flags(c, STAY(0), offer, strlen(offer) + 1), 0);
    return answer_challenge(c, algorithm, t);
}

static void test_wrong_chap_answers(void)
{
    static const struct chap_try tries[] = {
        {"0xuser", "wrong secret", "", false, false, false},
        {"0xUser", "secret of the host", "", false, false, false},
        {"", "secret of the host", "", false, false, false},
        {"user", "secret of the host", "", true, false, false},
        {"0xuser", "secret of the host", "", false, false, true},
        {"0xuser", "secret of the host", "CHAP_R=0x00 ", false, false, false},
        {"0xuser", "secret of the host", "", false, true, false},
        {"0xuser", "secret of the host", "CHAP_I=1 ", false, false, false},
        {"0xuser", "secret of the host", "CHAP_C=0x00 ", false, false, false},
        {"0xuser", "secret of the host", "CHAP_I=256 CHAP_C=0x0102 ", false, false, false},
        {"0xuser", "secret of the host", "CHAP_I=-1 CHAP_C=0x0102 ", false, false, false},
        {"0xuser", "secret of the host", "CHAP_I=1 CHAP_C=0x ", false, false, false},
        {"0xuser", "secret of the host", "CHAP_I=1 CHAP_C=0bAAA ", false, false, false},
    };

    for (size_t i = 0; i < ARRAY_SIZE(tries); i++) {
        struct client c;

        CHECK_EQ(try_chap(&c, 3, true, &tries[i]), LOGIN_AUTHENTICATION_FAILED);
        CHECK_EQ(c.login->reply_length, 0);
        stop(&c);
    }
}

static void test_mutual_that_is_not_configured(void)
{
    struct client c;
    struct chap_try t = {"0xuser", "secret of the host", "CHAP_I=1 CHAP_C=0x0102 ", false, false,
                         false};

    CHECK_EQ(try_chap(&c, 2, false, &t), LOGIN_AUTHENTICATION_FAILED);
    stop(&c);
}

static void test_unknown_algorithms(void)
{
    struct client c;

    start(&c);
    c.is_secret = true;
    CHECK_EQ(SEND(&c, STAY(0), NAMES "AuthMethod=CHAP\0"), 0);
    CHECK_EQ(SEND(&c, STAY(0), "CHAP_A=1,2,300\0"), LOGIN_AUTHENTICATION_FAILED);
    stop(&c);
}

static void test_challenges_differ(void)
{
    struct client a, b;
    struct chap_try t = {"0xuser", "secret of the host", "", false, false, false};
    uint8_t first[CHAP_CHALLENGE_BYTES];

    try_chap(&a, 0, false, &t);
    memcpy(first, a.login->chap.challenge, sizeof first);
    try_chap(&b, 0, false, &t);
    CHECK(memcmp(first, b.login->chap.challenge, sizeof first) != 0);
    stop(&a);
    stop(&b);
}

static void check_proof(struct client *c, unsigned algorithm)
{
    uint8_t digest[32], given[32];
    struct slice answer;
    int length =
        chap_digest(algorithm, 200, "secret of the target", (const uint8_t *)"\1\2\3", 3, digest);

    CHECK(says(c, "CHAP_N", "target"));
    CHECK(value_of(c, "CHAP_R", &answer));
    CHECK_EQ(value_binary(answer, given, sizeof given), length);
    CHECK(memcmp(digest, given, (size_t)length) == 0);
}

static void test_chap_in_every_algorithm(void)
{
    for (unsigned algorithm = 0; algorithm < 4; algorithm++)
        for (unsigned base64 = 0; base64 < 2; base64++) {
            struct client c;
            struct chap_try t = {
                "0xuser", "secret of the host", "CHAP_I=200 CHAP_C=0x010203 ", base64, false,
                false};

            CHECK_EQ(try_chap(&c, algorithm, true, &t), 0);
            CHECK_EQ(c.response[1], T(0, 1));
            check_proof(&c, algorithm);
            CHECK_EQ(SEND(&c, T(1, 3), "ImmediateData=No\0"), 0);
            CHECK(login_is_complete(c.login));
            stop(&c);
        }
}

/* RFC 1994 with MD5, computed apart: md5(id 1, "whatever", 16 bytes of 0x01..0x10). */
static void test_a_known_digest(void)
{
    uint8_t challenge[16], digest[32];
    static const uint8_t md5_of_abc[16] = {0x90, 0x01, 0x50, 0x98, 0x3c, 0xd2, 0x4f, 0xb0,
                                           0xd6, 0x96, 0x3f, 0x7d, 0x28, 0xe1, 0x7f, 0x72};

    (void)challenge;
    CHECK_EQ(chap_digest(0, 'a', "b", (const uint8_t *)"c", 1, digest), 16);
    CHECK(memcmp(digest, md5_of_abc, 16) == 0);
}

/* --- what must work
 * ---------------------------------------------------------------------------------------- */

static void test_plain_login(void)
{
    struct client c;

    start(&c);
    CHECK_EQ(SEND(&c, T(1, 3),
                  NAMES "SessionType=Normal\0HeaderDigest=CRC32C,None\0X-org.example=1\0"
                        "MaxRecvDataSegmentLength=65536\0"),
             0);
    CHECK(login_is_complete(c.login));
    CHECK_EQ(c.response[1], T(1, 3));
    CHECK_EQ(get16(c.response + 14), 99);
    CHECK(says(&c, "TargetPortalGroupTag", "7"));
    CHECK(says(&c, "HeaderDigest", "CRC32C"));
    CHECK(says(&c, "X-org.example", "NotUnderstood"));
    CHECK(says(&c, "MaxRecvDataSegmentLength", "1048576"));
    CHECK(c.login->negotiation.parameters.header_digest);
    CHECK_EQ(c.login->negotiation.parameters.send_bytes, 65536);
    stop(&c);
}

static void test_two_stages(void)
{
    struct client c;

    start(&c);
    CHECK_EQ(SEND(&c, T(0, 1), NAMES "AuthMethod=CHAP,None\0"), 0);
    CHECK(says(&c, "AuthMethod", "None"));
    CHECK_EQ(c.response[1], T(0, 1));
    CHECK_EQ(SEND(&c, STAY(1), "InitialR2T=No\0"), 0);
    CHECK(says(&c, "InitialR2T", "No"));
    CHECK_EQ(c.response[1], STAY(1));
    CHECK_EQ(SEND(&c, T(1, 3), ""), 0);
    CHECK(login_is_complete(c.login));
    stop(&c);
}

static void test_discovery_needs_no_target(void)
{
    struct client c;

    start(&c);
    CHECK_EQ(SEND(&c, T(1, 3), "InitiatorName=iqn.a:b\0SessionType=Discovery\0InitialR2T=No\0"), 0);
    CHECK(c.login->is_discovery && login_is_complete(c.login));
    CHECK(says(&c, "InitialR2T", "Irrelevant"));
    CHECK(!says(&c, "TargetPortalGroupTag", "7"));
    stop(&c);
}

static void test_text_split_at_every_byte(void)
{
    static const char text[] = NAMES "ImmediateData=No\0InitialR2T=Yes\0";

    for (size_t at = 0; at < sizeof text - 1; at++) {
        struct client c;

        start(&c);
        CHECK_EQ(send_flags(&c, 0x40 | STAY(1), text, at), 0);
        CHECK_EQ(c.login->reply_length, 0);
        CHECK_EQ(c.response[1], STAY(1));
        CHECK_EQ(send_flags(&c, T(1, 3), text + at, sizeof text - 1 - at), 0);
        CHECK(login_is_complete(c.login));
        CHECK(says(&c, "ImmediateData", "No"));
        stop(&c);
    }
}

int main(void)
{
    RUN(test_first_requests_that_are_refused);
    RUN(test_version);
    RUN(test_lookups_that_say_no);
    RUN(test_changes_within_a_login);
    RUN(test_names_come_once);
    RUN(test_text_without_end);
    RUN(test_requests_without_end);
    RUN(test_many_unknown_keys);
    RUN(test_wrong_chap_answers);
    RUN(test_mutual_that_is_not_configured);
    RUN(test_unknown_algorithms);
    RUN(test_challenges_differ);
    RUN(test_chap_in_every_algorithm);
    RUN(test_a_known_digest);
    RUN(test_plain_login);
    RUN(test_two_stages);
    RUN(test_discovery_needs_no_target);
    RUN(test_text_split_at_every_byte);
    return unit_result();
}
