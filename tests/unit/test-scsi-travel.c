/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test-scsi-travel: persistent reservations that go where the disk goes: each change is told to the
 * filters before a flush that the status waits for; what came from a peer holds through any port of
 * this gateway, for whom it held there; what makes no sense changes nothing; what a restart leaves.
 */
#include "scsi-fixture.h"

#include <errno.h>

enum { REGISTER, RESERVE, RELEASE, CLEAR, PREEMPT, PREEMPT_AND_ABORT, IGNORE, MOVE };

#define KEY_A 0x1111u
#define KEY_B 0x2222u
#define FIRST "iqn.2026-01.org.example:first"
#define SECOND "iqn.2026-01.org.example:second"

static void set_up(void)
{
    fixture_start(NULL);
    clear_attentions(fx.first);
    clear_attentions(fx.second);
}

static uint8_t out_of(struct scsi_nexus *nexus, uint8_t action, uint8_t type, uint64_t key,
                      uint64_t action_key)
{
    memset(fx.data, 0, 24);
    put_be(fx.data, key, 8);
    put_be(fx.data + 8, action_key, 8);
    return RUN_CDB(nexus, 0x5f, action, type, 0, 0, 0, 0, 0, 24, 0);
}

static uint64_t count_keys(void)
{
    CHECK_EQ(RUN_CDB(fx.first, 0x5e, 0, 0, 0, 0, 0, 0, 4, 0, 0), SCSI_GOOD);
    return get_be(fx.data + 4, 4) / 8;
}

static uint64_t generation(void)
{
    CHECK_EQ(RUN_CDB(fx.first, 0x5e, 0, 0, 0, 0, 0, 0, 4, 0, 0), SCSI_GOOD);
    return get_be(fx.data, 4);
}

static uint8_t write_as(struct scsi_nexus *nexus)
{
    return RUN_CDB(nexus, 0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0);
}

/* --- what comes from a peer ----------------------------------------------------------------- */

#define TEXT(kept, type, list)                                                      \
    "{\"version\": 2, \"kept\": " kept ", \"generation\": 41, \"type\": " type ", " \
    "\"registrations\": [" list "]}"
#define ENTRY(key, name, isid, port, holder)                                                  \
    "{\"key\": \"" key "\", \"initiator\": \"" name "\", \"isid\": \"80000000000" isid "\", " \
    "\"any_isid\": false, \"port\": " port ", \"all_ports\": false, \"holder\": " holder "}"
/* The peer's port group has another number. */
#define HELD TEXT("true", "1", ENTRY("0000000000001111", FIRST, "1", "7", "true"))
#define HELD_UNKEPT TEXT("false", "1", ENTRY("0000000000001111", FIRST, "1", "7", "true"))

static int take(const char *text)
{
    struct err e = {0};

    return scsi_take_record(fx.disk, "reservations", text, strlen(text), &e);
}

static void test_it_holds_through_any_port_for_whom_it_held(void)
{
    set_up();
    CHECK_EQ(write_as(fx.second), SCSI_GOOD);
    CHECK_EQ(take(HELD), 0);
    CHECK_EQ(write_as(fx.second), SCSI_RESERVATION_CONFLICT);
    CHECK_EQ(write_as(fx.first), SCSI_GOOD);
    CHECK_EQ(generation(), 41);
    CHECK_EQ(out_of(fx.second, REGISTER, 0, KEY_A, KEY_B), SCSI_RESERVATION_CONFLICT);
    CHECK_EQ(out_of(fx.second, REGISTER, 0, 0, KEY_B), SCSI_GOOD);
    CHECK_EQ(generation(), 42); /* it goes on */
    CHECK_EQ(out_of(fx.second, RESERVE, 1, KEY_B, 0), SCSI_RESERVATION_CONFLICT);
    CHECK_EQ(out_of(fx.first, REGISTER, 0, KEY_A, 0x3333), SCSI_GOOD); /* no second one */
    CHECK_EQ(count_keys(), 2);
    CHECK_EQ(out_of(fx.first, RELEASE, 1, 0x3333, 0), SCSI_GOOD);
    CHECK_EQ(write_as(fx.second), SCSI_GOOD);
    CHECK_EQ(out_of(fx.second, PREEMPT, 1, KEY_B, 0x3333), SCSI_GOOD);
    RUN_CDB(fx.first, 0, 0, 0, 0, 0, 0);
    CHECK_SENSE(0x62a05); /* it is told, whichever its port was */
    CHECK_EQ(count_keys(), 1);
    fixture_end();
}

/* Each of them is the initiator's own here, and the one that holds lets it in. */
static void test_an_initiator_with_two_ports_there_has_both(void)
{
    set_up();
    CHECK_EQ(take(TEXT("true", "3",
                       ENTRY("0000000000001111", FIRST, "1", "7",
                             "false") ", " ENTRY("0000000000002222", FIRST, "1", "8", "true"))),
             0);
    CHECK_EQ(write_as(fx.first), SCSI_GOOD);
    CHECK_EQ(write_as(fx.second), SCSI_RESERVATION_CONFLICT);
    CHECK_EQ(out_of(fx.first, REGISTER, 0, KEY_A, 0), SCSI_GOOD);
    CHECK_EQ(write_as(fx.first), SCSI_GOOD);
    CHECK_EQ(out_of(fx.first, RELEASE, 3, KEY_B, 0), SCSI_GOOD);
    CHECK_EQ(write_as(fx.second), SCSI_GOOD);
    CHECK_EQ(out_of(fx.first, REGISTER, 0, KEY_B, 0), SCSI_GOOD);
    CHECK_EQ(count_keys(), 0);
    fixture_end();
}

/* What this side has said itself goes, with what it denied. */
static void test_it_replaces_what_was_here(void)
{
    set_up();
    CHECK_EQ(out_of(fx.second, REGISTER, 0, 0, KEY_B), SCSI_GOOD);
    CHECK_EQ(out_of(fx.second, RESERVE, 3, KEY_B, 0), SCSI_GOOD);
    CHECK_EQ(take(HELD), 0);
    CHECK_EQ(write_as(fx.first), SCSI_GOOD);
    CHECK_EQ(write_as(fx.second), SCSI_RESERVATION_CONFLICT);
    CHECK_EQ(out_of(fx.second, RELEASE, 3, KEY_B, 0), SCSI_RESERVATION_CONFLICT);
    CHECK_EQ(take(TEXT("true", "0", "")), 0);
    CHECK_EQ(write_as(fx.second), SCSI_GOOD);
    CHECK_EQ(count_keys(), 0);
    fixture_end();
}

static const char *const garbage[] = {
    "",
    "{",
    "[]",
    "{\"version\": 2}",
    "{\"version\": 3, \"kept\": true, \"generation\": 1, \"type\": 0, \"registrations\": []}",
    "{\"version\": 0, \"kept\": true, \"generation\": 1, \"type\": 0, \"registrations\": []}",
    "{\"version\": 2, \"kept\": true, \"generation\": -1, \"type\": 0, \"registrations\": []}",
    "{\"version\": 2, \"kept\": true, \"generation\": 4294967296, \"type\": 0, \"registrations\": "
    "[]}",
    "{\"version\": 2, \"kept\": true, \"generation\": 1, \"type\": 0, \"registrations\": {}}",
    "{\"version\": 2, \"kept\": true, \"generation\": 1, \"type\": 0, \"registrations\": [{}]}",
    TEXT("true", "2", ""),
    TEXT("true", "1", ""), /* somebody holds, and nobody does */
    TEXT("true", "0", ENTRY("0000000000001111", FIRST, "1", "7", "true")),
    TEXT("true", "1", ENTRY("0000000000000000", FIRST, "1", "7", "true")),
    TEXT("true", "1", ENTRY("000000000000111", FIRST, "1", "7", "true")),
    TEXT("true", "1", ENTRY("0000000000001111", "", "1", "7", "true")),
    TEXT("true", "1", ENTRY("0000000000001111", "a b", "1", "7", "true")),
    TEXT("true", "1", ENTRY("0000000000001111", FIRST, "x", "7", "true")),
    TEXT("true", "1", ENTRY("0000000000001111", FIRST, "1", "65536", "true")),
    TEXT("true", "1", ENTRY("0000000000001111", FIRST, "1", "-1", "true")),
    TEXT("true", "1",
         ENTRY("0000000000001111", FIRST, "1", "7", "true") ", " ENTRY("0000000000002222", SECOND,
                                                                       "2", "7", "true")),
};

/* One more than there may be, and a name that is too long. */
static void check_too_much(void)
{
    char *text = calloc(1, 1 << 20), name[SCSI_NAME_BYTES + 1];

    memset(name, 'n', SCSI_NAME_BYTES);
    name[SCSI_NAME_BYTES] = 0;
    for (unsigned count = 256; count <= 257; count++) {
        char *at = text + sprintf(text, "{\"version\": 2, \"generation\": 1, \"type\": 0, "
                                        "\"registrations\": [");

        for (unsigned i = 0; i < count; i++)
            at += sprintf(at, ENTRY("0000000000001111", "%s%u", "1", "7", "false") "%s",
                          count == 256 ? "i" : "j", i, i + 1 < count ? "," : "]}");
        CHECK_EQ(take(text), count == 256 ? 0 : -EINVAL);
        CHECK_EQ(count_keys(), 256);
    }
    CHECK_EQ(take(HELD), 0);
    sprintf(text, TEXT("true", "1", ENTRY("0000000000001111", "%s", "1", "7", "true")), name);
    CHECK_EQ(take(text), -EINVAL);
    free(text);
}

static void test_what_makes_no_sense_changes_nothing(void)
{
    struct err e = {0};
    char before[4096], after[4096];
    size_t was, is;

    set_up();
    CHECK_EQ(take(HELD), 0);
    CHECK_EQ(disk_state_read(disk_state_folder(fx.disk), "reservations.json", before, sizeof before,
                             &was),
             0);
    for (unsigned i = 0; i < ARRAY_SIZE(garbage); i++) {
        if (take(garbage[i]) != -EINVAL)
            fprintf(stderr, "taken: %s\n", garbage[i]);
        CHECK_EQ(take(garbage[i]), -EINVAL);
    }
    CHECK_EQ(scsi_take_record(fx.disk, "bookmarks", HELD, strlen(HELD), &e), -ENOTSUP);
    CHECK_EQ(
        disk_state_read(disk_state_folder(fx.disk), "reservations.json", after, sizeof after, &is),
        0);
    CHECK(was == is && memcmp(before, after, is) == 0);
    CHECK_EQ(generation(), 41);
    CHECK_EQ(write_as(fx.second), SCSI_RESERVATION_CONFLICT);
    check_too_much();
    fixture_end();
}

/* --- restarts --------------------------------------------------------------------------------- */

static void restart(uint32_t role)
{
    struct err e = {0};

    fixture_close_lu();
    CHECK_EQ(disk_set_role(fx.disk, role, 1, &e), 0);
    fixture_open_lu();
    clear_attentions(fx.first);
}

/* The unit lives on at the primary while the side that follows is started again. */
static void test_only_the_primary_forgets(void)
{
    set_up();
    CHECK_EQ(take(HELD_UNKEPT), 0);
    restart(SLUICE_ROLE_SECONDARY);
    CHECK_EQ(count_keys(), 1);
    CHECK_EQ(generation(), 41);
    restart(SLUICE_ROLE_PRIMARY);
    CHECK_EQ(count_keys(), 0);
    CHECK_EQ(take(HELD), 0);
    restart(SLUICE_ROLE_PRIMARY);
    CHECK_EQ(count_keys(), 1);
    clear_attentions(fx.second);
    CHECK_EQ(write_as(fx.second), SCSI_RESERVATION_CONFLICT);
    CHECK_EQ(write_as(fx.first), SCSI_GOOD);
    fixture_end();
}

static void test_it_waits_for_its_unit(void)
{
    set_up();
    fixture_close_lu();
    CHECK_EQ(take("{"), -EINVAL);
    CHECK_EQ(take(HELD), 0);
    fixture_open_lu();
    clear_attentions(fx.second);
    CHECK_EQ(write_as(fx.second), SCSI_RESERVATION_CONFLICT);
    fixture_end();
}

/* As it was written before reservations travelled. */
static void test_the_older_form_is_read(void)
{
    static const char older[] =
        "{\"version\": 1, \"generation\": 41, \"type\": 1, "
        "\"registrations\": [" ENTRY("0000000000001111", FIRST, "1", "1", "true") "]}";

    set_up();
    fixture_close_lu();
    CHECK_EQ(
        disk_state_write(disk_state_folder(fx.disk), "reservations.json", older, strlen(older)), 0);
    fixture_open_lu();
    clear_attentions(fx.first);
    clear_attentions(fx.second);
    CHECK_EQ(count_keys(), 1);
    CHECK_EQ(write_as(fx.second), SCSI_RESERVATION_CONFLICT);
    fixture_end();
}

/* --- telling ---------------------------------------------------------------------------------- */

/* A filter that carries records: the last one, and what came when. */
static struct carrier {
    char text[8192];
    size_t length;
    unsigned told, flushed, told_at_flush;
    int refuses;
    bool fails_flush;
} carrier;

static int carrier_record(void *instance, const char *name, const void *data, size_t length)
{
    struct carrier *c = instance;

    CHECK(strcmp(name, "reservations") == 0 && length < sizeof c->text);
    memcpy(c->text, data, length);
    c->length = length;
    c->told++;
    return c->refuses;
}

static struct sluice_verdict carrier_start(void *instance, struct sluice_request *r, void *scratch)
{
    struct carrier *c = instance;

    (void)scratch;
    if (r->op != SLUICE_OP_FLUSH)
        return sluice_pass();
    c->flushed++;
    c->told_at_flush = c->told;
    return c->fails_flush ? sluice_fail(EIO) : sluice_pass();
}

static const struct sluice_filter carrier_filter = {.struct_size = sizeof carrier_filter,
                                                    .name = "carrier",
                                                    HANDLE_ALL(carrier_start, NULL),
                                                    .record = carrier_record};

static struct station *put_carrier(void)
{
    static struct sluice_disk handle = {.name = "ram"};
    struct station *s = station_make(&carrier_filter, &carrier, "carrier", &handle);
    struct err e = {0};

    carrier = (struct carrier){.told = 0};
    if (disk_set_chain(fx.disk, &s, 1, NULL, &e) < 0)
        fixture_fail("put the filter", &e);
    return s;
}

static void take_carrier_out(struct station *s)
{
    struct err e = {0};

    CHECK_EQ(disk_set_chain(fx.disk, NULL, 0, NULL, &e), 0);
    free(s);
}

static void test_each_change_is_told_before_the_flush_that_is_waited_for(void)
{
    static const struct {
        uint8_t action, type;
        uint64_t key, action_key;
    } orders[] = {{REGISTER, 0, 0, KEY_A},    {RESERVE, 1, KEY_A, 0}, {RELEASE, 1, KEY_A, 0},
                  {PREEMPT, 1, KEY_A, KEY_A}, {IGNORE, 0, 0, KEY_B},  {CLEAR, 0, KEY_B, 0}};
    struct station *s;

    set_up();
    CHECK_EQ(disk_records_are_carried(fx.disk), false);
    s = put_carrier();
    CHECK_EQ(carrier.told, 1); /* what there is: nobody holds it */
    CHECK_EQ(disk_records_are_carried(fx.disk), true);
    for (unsigned i = 0; i < ARRAY_SIZE(orders); i++) {
        CHECK_EQ(
            out_of(fx.first, orders[i].action, orders[i].type, orders[i].key, orders[i].action_key),
            SCSI_GOOD);
        CHECK_EQ(carrier.told, i + 2);
        CHECK_EQ(carrier.flushed, i + 1);
        CHECK_EQ(carrier.told_at_flush, i + 2);
    }
    CHECK_EQ(out_of(fx.first, RESERVE, 1, KEY_A, 0), SCSI_RESERVATION_CONFLICT);
    CHECK_EQ(carrier.told, ARRAY_SIZE(orders) + 1); /* nothing has changed */
    take_carrier_out(s);
    CHECK_EQ(out_of(fx.first, REGISTER, 0, 0, KEY_A), SCSI_GOOD);
    CHECK_EQ(carrier.flushed, ARRAY_SIZE(orders));
    fixture_end();
}

static void test_what_did_not_get_there_is_no_success(void)
{
    struct station *s;

    set_up();
    s = put_carrier();
    carrier.fails_flush = true;
    CHECK_EQ(out_of(fx.first, REGISTER, 0, 0, KEY_A), SCSI_CHECK_CONDITION);
    carrier.fails_flush = false;
    carrier.refuses = -ENOMEM;
    CHECK_EQ(out_of(fx.first, IGNORE, 0, 0, KEY_A), SCSI_BUSY);
    carrier.refuses = 0;
    CHECK_EQ(out_of(fx.first, IGNORE, 0, 0, KEY_A), SCSI_GOOD);
    take_carrier_out(s);
    fixture_end();
}

/* What one side tells is what the other takes, and tells back. */
static void test_it_goes_there_and_back(void)
{
    struct station *s;
    char there[8192];
    unsigned told;

    set_up();
    s = put_carrier();
    CHECK_EQ(out_of(fx.first, REGISTER, 0, 0, KEY_A), SCSI_GOOD);
    CHECK_EQ(out_of(fx.second, REGISTER, 0, 0, KEY_B), SCSI_GOOD);
    CHECK_EQ(out_of(fx.first, RESERVE, 5, KEY_A, 0), SCSI_GOOD);
    memcpy(there, carrier.text, carrier.length);
    there[carrier.length] = 0;
    CHECK_EQ(out_of(fx.first, CLEAR, 0, KEY_A, 0), SCSI_GOOD);
    CHECK_EQ(count_keys(), 0);
    told = carrier.told;
    CHECK_EQ(take(there), 0);
    CHECK_EQ(carrier.told, told + 1);
    CHECK_EQ(count_keys(), 2);
    CHECK(memmem(carrier.text, carrier.length, "\"from_peer\": true", 17) != NULL);
    CHECK_EQ(RUN_CDB(fx.first, 0x5e, 1, 0, 0, 0, 0, 0, 0, 255, 0), SCSI_GOOD);
    CHECK_EQ(get_be(fx.data + 8, 8), KEY_A);
    CHECK_EQ(fx.data[21], 5);
    take_carrier_out(s);
    fixture_end();
}

int main(void)
{
    RUN(test_it_holds_through_any_port_for_whom_it_held);
    RUN(test_an_initiator_with_two_ports_there_has_both);
    RUN(test_it_replaces_what_was_here);
    RUN(test_what_makes_no_sense_changes_nothing);
    RUN(test_only_the_primary_forgets);
    RUN(test_it_waits_for_its_unit);
    RUN(test_the_older_form_is_read);
    RUN(test_each_change_is_told_before_the_flush_that_is_waited_for);
    RUN(test_what_did_not_get_there_is_no_success);
    RUN(test_it_goes_there_and_back);
    return unit_result();
}
