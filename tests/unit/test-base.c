/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test-base: error text, log lines, clocks, histograms, lists, text, CRC-32C and UUIDs.
 *
 * CRC-32C is held against the vectors of RFC 7143 appendix A.4 and, for every length and alignment
 * that reaches another code path, against a bit-by-bit computation.
 */
#include "base/base.h"
#include "unit.h"

#include <errno.h>
#include <fcntl.h>

static void test_error_text_gets_its_context_in_front(void)
{
    struct err e;

    CHECK_EQ(err_set(&e, ENOENT, "cannot open %s", "x"), -ENOENT);
    CHECK_EQ(err_context(&e, "disk %d", 7), -ENOENT);
    CHECK_STR(e.text, "disk 7: cannot open x");
    CHECK_EQ(err_set(NULL, EACCES, "nobody reads this"), -EACCES);
    CHECK_EQ(err_context(NULL, "nor this"), -EIO);
}

static void test_error_text_is_one_line_and_never_overflows(void)
{
    char big[3000];
    struct err e;

    err_set(&e, EIO, "peer said \"a\nb\x1b[31m\"");
    CHECK_STR(e.text, "peer said \"a?b?[31m\"");
    err_set(&e, EIO,
            "\x7f \xff \xc3\xa9 \xc3 \xe2\x82\xac \xe2\x82 \xc0\xaf \xed\xa0\x80 "
            "\xf0\x9f\x92\xbe \xf4\x90\x80\x80 \xe2");
    CHECK_STR(e.text, "? ? \xc3\xa9 ? \xe2\x82\xac ?? ?? ??? \xf0\x9f\x92\xbe ???? ?");
    memset(big, 'b', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    err_set(&e, EIO, "%s", big);
    CHECK_EQ(strlen(e.text), sizeof e.text - 1);
    err_context(&e, "front");
    CHECK_EQ(strlen(e.text), sizeof e.text - 1);
    CHECK(strncmp(e.text, "front: bbb", 10) == 0);
    err_context(&e, "%s", big);
    CHECK_EQ(strlen(e.text), sizeof e.text - 1);
}

static char sunk[2100];
static enum log_level sunk_level;
static int sunk_count;

static void sink(enum log_level level, const char *text)
{
    sunk_level = level;
    snprintf(sunk, sizeof sunk, "%s", text);
    sunk_count++;
}

static void test_log_lines_reach_the_sink_below_the_level(void)
{
    log_set_sink(sink);
    errno = EBUSY;
    log_line(LOG_LEVEL_WARNING, "flush failed: %s disk=%s", "EIO", "a\nb");
    CHECK_EQ(errno, EBUSY);
    CHECK_STR(sunk, "flush failed: EIO disk=a?b");
    CHECK_EQ(sunk_level, LOG_LEVEL_WARNING);
    log_line(LOG_LEVEL_DEBUG, "not shown");
    CHECK_EQ(sunk_count, 1);
    log_set_level(LOG_LEVEL_DEBUG);
    log_line(LOG_LEVEL_DEBUG, "shown");
    CHECK_EQ(sunk_count, 2);
    log_set_level(LOG_LEVEL_INFO);
    log_set_sink(NULL);
}

static void test_a_log_line_is_one_write_to_stderr(void)
{
    int pipe_ends[2], saved = dup(STDERR_FILENO);
    char got[200];
    ssize_t length;

    CHECK_EQ(pipe2(pipe_ends, O_DIRECT), 0); /* packets: one write, one read */
    dup2(pipe_ends[1], STDERR_FILENO);
    log_line(LOG_LEVEL_ERROR, "one line");
    dup2(saved, STDERR_FILENO);
    length = read(pipe_ends[0], got, sizeof got - 1);
    CHECK(length > 0);
    got[MAX(length, 0)] = '\0';
    CHECK_STR(got, "sluice: error: one line\n");
    close(pipe_ends[0]);
    close(pipe_ends[1]);
    close(saved);
}

static void test_clocks_agree(void)
{
    uint64_t ns, ticks, passed_ns, passed_ticks_ns;

    clock_init();
    clock_init();
    ns = clock_now_ns();
    ticks = clock_ticks();
    while (clock_now_ns() - ns < 20000000)
        ;
    passed_ticks_ns = clock_ticks_to_ns(clock_ticks() - ticks);
    passed_ns = clock_now_ns() - ns;
    /* A thread that was not let run amid the calibration has it off by some percent. */
    CHECK(passed_ticks_ns <= passed_ns + passed_ns / 4);
    CHECK(passed_ticks_ns >= 15000000);
}

static void test_histogram_finds_quantiles(void)
{
    struct histogram h = {0};

    CHECK_EQ(histogram_count(&h), 0);
    CHECK_EQ(histogram_quantile(&h, 0.5), 0);
    for (int i = 0; i < 99; i++)
        histogram_add(&h, 1000); /* 512..1023 */
    histogram_add(&h, UINT64_MAX);
    CHECK_EQ(histogram_count(&h), 100);
    CHECK_EQ(histogram_quantile(&h, 0.0), 1024);
    CHECK_EQ(histogram_quantile(&h, 0.5), 1024);
    CHECK_EQ(histogram_quantile(&h, 0.99), 1024);
    CHECK_EQ(histogram_quantile(&h, 1.0), 2ull << (HISTOGRAM_BUCKETS - 1));
    histogram_add(&h, 0);
    CHECK_EQ(histogram_quantile(&h, 0.001), 2);
}

struct item {
    int value;
    struct list link;
};

static void test_lists_keep_order(void)
{
    struct list a, b;
    struct item items[4] = {{0, {0}}, {1, {0}}, {2, {0}}, {3, {0}}};
    int expected = 0;

    list_init(&a);
    list_init(&b);
    list_splice(&a, &b);
    CHECK(list_is_empty(&a));
    for (int i = 0; i < 2; i++)
        list_append(&a, &items[i].link);
    for (int i = 2; i < 4; i++)
        list_append(&b, &items[i].link);
    list_splice(&a, &b);
    CHECK(list_is_empty(&b));
    LIST_FOREACH_SAFE (node, &a) {
        CHECK_EQ(LIST_ENTRY(node, struct item, link)->value, expected++);
        list_remove(node);
    }
    CHECK_EQ(expected, 4);
    CHECK(list_is_empty(&a));
}

static void test_sizes_are_printed_for_people(void)
{
    static const struct {
        uint64_t bytes;
        const char *text;
    } cases[] = {
        {0, "0 bytes"},           {1000, "1000 bytes"},  {4096, "4 KiB"},
        {1536, "1.5 KiB"},        {1ull << 30, "1 GiB"}, {(1ull << 20) + 1, "1.0 MiB"},
        {1ull << 60, "1024 PiB"},
    };
    char buf[32];

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        CHECK_STR(text_size(cases[i].bytes, buf), cases[i].text);
}

static void test_sizes_and_durations_are_parsed_strictly(void)
{
    static const struct {
        const char *text;
        int (*parse)(const char *text, uint64_t *out);
        int result;
        uint64_t value;
    } cases[] = {
        {"64MiB", text_parse_size, 0, 64ull << 20},
        {"4096", text_parse_size, 0, 4096},
        {"0", text_parse_size, 0, 0},
        {"10G", text_parse_size, -EINVAL, 0},
        {"", text_parse_size, -EINVAL, 0},
        {"MiB", text_parse_size, -EINVAL, 0},
        {"-1", text_parse_size, -EINVAL, 0},
        {" 1", text_parse_size, -EINVAL, 0},
        {"1 KiB", text_parse_size, -EINVAL, 0},
        {"1KiB ", text_parse_size, -EINVAL, 0},
        {"1.5MiB", text_parse_size, -EINVAL, 0},
        {"18446744073709551615", text_parse_size, 0, UINT64_MAX},
        {"18446744073709551616", text_parse_size, -ERANGE, 0},
        {"20000PiB", text_parse_size, -ERANGE, 0},
        {"5s", text_parse_duration, 0, 5000000000},
        {"10ms", text_parse_duration, 0, 10000000},
        {"2m", text_parse_duration, 0, 120000000000},
        {"1h", text_parse_duration, 0, 3600000000000},
        {"1d", text_parse_duration, 0, 86400000000000},
        {"5", text_parse_duration, -EINVAL, 0},
        {"s", text_parse_duration, -EINVAL, 0},
        {"300000d", text_parse_duration, -ERANGE, 0},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        uint64_t value = 0;

        CHECK_EQ(cases[i].parse(cases[i].text, &value), cases[i].result);
        CHECK_EQ(value, cases[i].value);
    }
}

static void test_the_closest_word_is_found(void)
{
    static const char *const words[] = {"backing", "filters", "read-only", "size"};
    char endless[200];

    CHECK_STR(text_closest("bakcing", words, 4), "backing");
    CHECK_STR(text_closest("filter", words, 4), "filters");
    CHECK_STR(text_closest("readonly", words, 4), "read-only");
    CHECK(text_closest("compression", words, 4) == NULL);
    CHECK(text_closest("", words, 4) == NULL);
    memset(endless, 'x', sizeof endless - 1);
    endless[sizeof endless - 1] = '\0';
    CHECK(text_closest(endless, words, 4) == NULL);
}

static void test_text_printf_allocates(void)
{
    CLEANUP_FREE char *text = text_printf("%d-%s", 5, "x");

    CHECK(text != NULL);
    CHECK_STR(text, "5-x");
}

static uint32_t crc_by_bits(uint32_t crc, const uint8_t *p, size_t length)
{
    crc = ~crc;
    for (; length; length--) {
        crc ^= *p++;
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ ((crc & 1) ? 0x82f63b78u : 0);
    }
    return ~crc;
}

static void test_crc32c_gives_the_vectors_of_the_rfc(void)
{
    uint8_t data[32];

    memset(data, 0, sizeof data);
    CHECK_EQ(crc32c(0, data, sizeof data), 0x8a9136aau);
    memset(data, 0xff, sizeof data);
    CHECK_EQ(crc32c(0, data, sizeof data), 0x62a8ab43u);
    for (int i = 0; i < 32; i++)
        data[i] = (uint8_t)i;
    CHECK_EQ(crc32c(0, data, sizeof data), 0x46dd794eu);
    CHECK_EQ(crc32c(0, "123456789", 9), 0xe3069283u);
    CHECK_EQ(crc32c(0, NULL, 0), 0);
}

static void test_crc32c_is_the_same_by_every_path(void)
{
    static const size_t lengths[] = {0,   1,    7,    8,    9,    503,  504,  505,
                                     512, 4079, 4080, 4081, 4096, 5000, 8192, 12347};
    static uint8_t data[12347 + 8];

    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 2654435761u >> 13);
    for (size_t i = 0; i < ARRAY_SIZE(lengths); i++)
        for (size_t shift = 0; shift < 8; shift += 3) {
            uint32_t want = crc_by_bits(5, data + shift, lengths[i]);
            size_t half = lengths[i] / 2;

            CHECK_EQ(crc32c(5, data + shift, lengths[i]), want);
            CHECK_EQ(crc32c_by_tables(5, data + shift, lengths[i]), want);
            CHECK_EQ(crc32c(crc32c(5, data + shift, half), data + shift + half, lengths[i] - half),
                     want);
        }
}

static void test_uuids_are_valid_and_differ(void)
{
    char a[37], b[37];

    uuid_make(a);
    uuid_make(b);
    CHECK(uuid_is_valid(a));
    CHECK(strcmp(a, b) != 0);
    CHECK_EQ(a[14], '4');
    CHECK(strchr("89ab", a[19]) != NULL);
    CHECK(!uuid_is_valid(""));
    CHECK(!uuid_is_valid("00000000-0000-0000-0000-00000000000"));
    CHECK(!uuid_is_valid("00000000-0000-0000-0000-0000000000000"));
    CHECK(!uuid_is_valid("00000000-0000-0000-0000-00000000000g"));
    CHECK(!uuid_is_valid("00000000x0000-0000-0000-000000000000"));
}

int main(void)
{
    RUN(test_error_text_gets_its_context_in_front);
    RUN(test_error_text_is_one_line_and_never_overflows);
    RUN(test_log_lines_reach_the_sink_below_the_level);
    RUN(test_a_log_line_is_one_write_to_stderr);
    RUN(test_clocks_agree);
    RUN(test_histogram_finds_quantiles);
    RUN(test_lists_keep_order);
    RUN(test_sizes_are_printed_for_people);
    RUN(test_sizes_and_durations_are_parsed_strictly);
    RUN(test_the_closest_word_is_found);
    RUN(test_text_printf_allocates);
    RUN(test_crc32c_gives_the_vectors_of_the_rfc);
    RUN(test_crc32c_is_the_same_by_every_path);
    RUN(test_uuids_are_valid_and_differ);
    return unit_result();
}
