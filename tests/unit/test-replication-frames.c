/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The frames of replication: each comes back as it went; every flipped bit and every cut is
 * refused; what a type may carry is held to, case by case.
 */
#include "unit.h"

#include "replication/frames.h"

#define PAYLOAD 2100u

static const struct {
    uint8_t type;
    uint64_t offset, bytes;
    uint32_t payload;
    bool is_right;
} shapes[] = {
    {FRAME_HELLO, 0, 0, 48, true},
    {FRAME_HELLO, 0, 0, 47, false},
    {FRAME_READY, 0, 0, 0, true},
    {FRAME_READY, 0, 0, 64, true},
    {FRAME_BEGIN, 7, 0, 0, true},
    {FRAME_BEGIN, 7, 0, 1, false},
    {FRAME_WRITE, 4096, 64, 64, true},
    {FRAME_WRITE, 4096, 63, 64, false},
    {FRAME_WRITE, 4096, 65, 64, false},
    {FRAME_WRITE, 4096, 0, 0, false},
    {FRAME_WRITE, UINT64_MAX - 63, 64, 64, false},
    {FRAME_WRITE, UINT64_MAX - 64, 64, 64, true},
    {FRAME_ZERO, 0, 4096, 0, true},
    {FRAME_ZERO, 0, 0, 0, false},
    {FRAME_ZERO, 0, 4096, 1, false},
    {FRAME_TRIM, 0, UINT64_MAX, 0, true},
    {FRAME_TRIM, 1, UINT64_MAX, 0, false},
    {FRAME_FLUSH, 0, 0, 0, true},
    {FRAME_FLUSH, 0, 0, 1, false},
    {FRAME_COMMIT, 0, 32, 32, true},
    {FRAME_COMMIT, 0, 33, 32, false},
    {FRAME_COMMIT, 0, 8, 8, false},
    {FRAME_ACK, 0, 0, 16, true},
    {FRAME_ACK, 0, 0, 15, false},
    {FRAME_ACK, 0, 0, 17, false},
    {FRAME_FAIL, 0, 0, 0, true},
    {FRAME_FAIL, 0, 0, 64, true},
    {FRAME_TAKEOVER, 0, 0, 0, true},
    {FRAME_TAKEOVER, 0, 0, 1, false},
    {FRAME_HANDOVER, 0, 0, 0, true},
    {FRAME_HANDOVER, 0, 0, 1, false},
    {FRAME_CHECK, 0, 1 << 20, 8 + 32, true},
    {FRAME_CHECK, 0, 1 << 20, 8 + 16 * 32, true},
    {FRAME_CHECK, 0, 1 << 20, 8, false},
    {FRAME_CHECK, 0, 1 << 20, 8 + 65 * 32, false},
    {FRAME_CHECK, 0, 0, 8 + 32, false},
    {FRAME_CHECKED, 0, 1 << 20, 16, true},
    {FRAME_CHECKED, 0, 1 << 20, 15, false},
    {FRAME_CHECKED, UINT64_MAX, 1 << 20, 16, false},
    {0, 0, 0, 0, false},
    {FRAME_RESIZE, 0, 1 << 20, 0, true},
    {FRAME_RESIZE, 0, 1 << 20, 1, false},
    {FRAME_RESIZED, 0, 1 << 20, 0, true},
    {FRAME_RESIZED, 0, 1 << 20, 512, true},
    {FRAME_RESIZED, 0, 1 << 20, 513, false},
    {FRAME_SNAPSHOT, 0, 5, 5, true},
    {FRAME_SNAPSHOT, 0, 5, 4, false},
    {FRAME_SNAPSHOT, 0, 0, 0, false},
    {FRAME_SNAPSHOT, 0, 128, 128, false},
    {FRAME_SNAPSHOTTED, 0, 0, 0, true},
    {FRAME_SNAPSHOTTED, 0, 0, 513, false},
    {FRAME_RECORD, 0, 3, 3, true},
    {FRAME_RECORD, 0, 2000, 2000, true},
    {FRAME_RECORD, 0, 2, 2, false},
    {FRAME_RECORD, 0, 5, 4, false},
    {FRAME_TYPES, 0, 0, 0, false},
    {UINT8_MAX, 0, 0, 0, false},
};

static size_t make(uint8_t *message, const struct frame *f, uint32_t payload)
{
    for (uint32_t i = 0; i < payload; i++)
        message[FRAME_BYTES + i] = (uint8_t)(i * 7);
    frame_put(message, f, message + FRAME_BYTES, payload);
    return FRAME_BYTES + payload;
}

static void test_shapes(void)
{
    bool is_seen[FRAME_TYPES] = {false};

    for (unsigned i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        struct frame f = {.type = shapes[i].type,
                          .offset = shapes[i].offset,
                          .bytes = shapes[i].bytes},
                     out;
        uint8_t message[FRAME_BYTES + PAYLOAD];
        size_t length = make(message, &f, shapes[i].payload);
        const char *wrong = frame_get(&out, message, length);

        if (!wrong != shapes[i].is_right)
            fprintf(stderr, "shape %u: %s\n", i, wrong ? wrong : "taken");
        CHECK(!wrong == shapes[i].is_right);
        if (shapes[i].type < FRAME_TYPES)
            is_seen[shapes[i].type] |= shapes[i].is_right;
    }
    for (unsigned type = 1; type < FRAME_TYPES; type++)
        CHECK(is_seen[type]);
}

static void test_a_frame_comes_back(void)
{
    struct frame in = {.type = FRAME_WRITE,
                       .flags = FRAME_DURABLE,
                       .epoch = UINT64_MAX,
                       .seq = UINT64_C(0x0123456789abcdef),
                       .offset = 4096,
                       .bytes = PAYLOAD},
                 out;
    uint8_t message[FRAME_BYTES + PAYLOAD];
    size_t length = make(message, &in, PAYLOAD);

    CHECK(frame_get(&out, message, length) == NULL);
    CHECK(out.type == in.type && out.flags == in.flags && out.epoch == in.epoch);
    CHECK(out.seq == in.seq && out.offset == in.offset && out.bytes == in.bytes);
    CHECK(message[16] == 0xef && message[23] == 0x01); /* little-endian */
}

static void test_every_flipped_bit_and_every_cut_is_refused(void)
{
    struct frame f = {.type = FRAME_WRITE, .seq = 5, .offset = 4096, .bytes = PAYLOAD}, out;
    uint8_t message[FRAME_BYTES + PAYLOAD];
    size_t length = make(message, &f, PAYLOAD);

    for (unsigned bit = 0; bit < 8 * length; bit++) {
        message[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        CHECK(frame_get(&out, message, length) != NULL);
        message[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    for (size_t cut = 0; cut < length; cut++)
        CHECK(frame_get(&out, message, cut) != NULL);
    CHECK(frame_get(&out, message, length) == NULL);
}

static const char *get_copy(struct record *r, const uint8_t *payload, size_t length)
{
    uint8_t *copy = malloc(length ? length : 1); /* a sanitizer sees what is read behind it */
    const char *wrong;

    memcpy(copy, payload, length);
    wrong = record_get(r, copy, length);
    CHECK(wrong || (r->data > copy && r->data + r->length == copy + length));
    free(copy);
    return wrong;
}

static void test_a_record_comes_back(void)
{
    static const char *const names[] = {"a", "reservations", "a-1",
                                        "abcdefghijklmnopqrstuvwxyz-1234"};
    uint8_t payload[RECORD_HEAD_MAX + 5];
    struct record r;

    for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
        size_t head = record_put_head(payload, names[i]);

        memcpy(payload + head, "\0body", 5);
        CHECK_EQ(head, 2 + strlen(names[i]));
        CHECK(record_get(&r, payload, head + 5) == NULL);
        CHECK(strcmp(r.name, names[i]) == 0 && r.length == 5 && memcmp(r.data, "\0body", 5) == 0);
        CHECK(get_copy(&r, payload, head) == NULL && r.length == 0);
        for (size_t cut = 0; cut < head; cut++)
            CHECK(get_copy(&r, payload, cut) != NULL);
    }
}

static void test_what_is_no_record_is_refused(void)
{
    static const char *const wrong[] = {"\2\1a",    "\0\1a",  "\1\0a",  "\1\1A",  "\1\1-",
                                        "\1\0021a", "\1\2a.", "\1\2a/", "\1\3ab", "\1\377abc"};
    static uint8_t large[RECORD_HEAD_MAX + RECORD_DATA_MAX + 1];
    struct record r;
    size_t head;

    for (unsigned i = 0; i < sizeof wrong / sizeof *wrong; i++)
        CHECK(get_copy(&r, (const uint8_t *)wrong[i], 2 + strlen(wrong[i] + 2)) != NULL);
    CHECK(get_copy(&r, (const uint8_t *)"\1\2a\0x", 5) != NULL);
    head = record_put_head(large, "a");
    CHECK(get_copy(&r, large, head + RECORD_DATA_MAX) == NULL);
    CHECK(get_copy(&r, large, head + RECORD_DATA_MAX + 1) != NULL);
}

int main(void)
{
    RUN(test_shapes);
    RUN(test_a_frame_comes_back);
    RUN(test_every_flipped_bit_and_every_cut_is_refused);
    RUN(test_a_record_comes_back);
    RUN(test_what_is_no_record_is_refused);
    return unit_result();
}
