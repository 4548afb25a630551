/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test-backing-iscsi: what answers of a target mean, and that nonsense in them is not believed.
 */
#include "backing/backing-iscsi.h"
#include "unit.h"

#include <errno.h>

static const struct lun thin = {.block_bytes = 512, .is_thin = true, .reads_zeros = true};

static void put(uint8_t *data, uint64_t value, int width)
{
    while (width--) {
        data[width] = (uint8_t)value;
        value >>= 8;
    }
}

static size_t begin(uint8_t *data, uint32_t count)
{
    memset(data, 0, 8);
    put(data, 4 + count * 16, 4);
    return 8;
}

static size_t describe(uint8_t *data, size_t at, uint64_t lba, uint32_t blocks, uint8_t status)
{
    memset(data + at, 0, 16);
    put(data + at, lba, 8);
    put(data + at + 8, blocks, 4);
    data[at + 12] = status;
    return at + 16;
}

static void test_lba_status_becomes_extents(void)
{
    uint8_t data[100];
    size_t size = begin(data, 3);
    struct extents x = {0};

    size = describe(data, size, 90, 20, 0); /* begins before what was asked */
    size = describe(data, size, 110, 5, 1);
    size = describe(data, size, 115, 1000, 2);
    extents_reset(&x, 100 * 512, 100 * 512);
    CHECK_EQ(lun_add_extents(&thin, data, size, 100, &x), 0);
    CHECK_EQ(x.count, 3);
    CHECK_EQ(x.covered, 100 * 512);
    CHECK_EQ(x.list[0].length, 10 * 512);
    CHECK_EQ(x.list[0].type, 0);
    CHECK_EQ(x.list[1].type, EXTENT_HOLE | EXTENT_ZERO);
    CHECK_EQ(x.list[2].type, EXTENT_ZERO);
    CHECK_EQ(x.list[2].length, 85 * 512);
    extents_free(&x);
}

static void test_without_lbprz_a_hole_is_not_zero(void)
{
    struct lun lun = {.block_bytes = 4096, .is_thin = true};
    uint8_t data[100];
    size_t size = begin(data, 1);
    struct extents x = {0};

    size = describe(data, size, 0, 10, 1);
    extents_reset(&x, 0, 40960);
    CHECK_EQ(lun_add_extents(&lun, data, size, 0, &x), 0);
    CHECK_EQ(x.list[0].type, EXTENT_HOLE);
    extents_free(&x);
}

static void expect_extents(const uint8_t *data, size_t size, unsigned count)
{
    struct extents x = {0};

    extents_reset(&x, 100 * 512, 100 * 512);
    CHECK_EQ(lun_add_extents(&thin, data, size, 100, &x), 0);
    CHECK_EQ(x.count, count);
    extents_free(&x);
}

static void test_nonsense_is_not_believed(void)
{
    uint8_t data[100];
    size_t size = describe(data, begin(data, 1), 101, 10, 1);

    expect_extents(data, size, 0); /* a gap */
    describe(data, 8, 50, 50, 1);
    expect_extents(data, size, 0); /* ends before it begins */
    describe(data, 8, 100, 0, 1);
    expect_extents(data, size, 0);
    describe(data, 8, UINT64_MAX - 1, 100, 1);
    expect_extents(data, size, 0);
    describe(data, 8, 100, 10, 1);
    put(data, UINT32_MAX, 4); /* more than there is */
    expect_extents(data, size, 1);
    expect_extents(data, size - 1, 0);
    expect_extents(data, 3, 0);
    expect_extents(NULL, 0, 0);
}

static void test_noise_does_no_harm(void)
{
    uint8_t data[8 + 32 * 16];
    uint32_t random = 1;

    for (int round = 0; round < 20000; round++) {
        struct extents x = {0};
        size_t size;

        for (size_t i = 0; i < sizeof data; i++) {
            random = random * 1664525 + 1013904223;
            data[i] = random >> 29 ? 0 : (uint8_t)(random >> 20);
        }
        size = random % sizeof data;
        extents_reset(&x, 0, UINT64_C(1) << 40);
        CHECK_EQ(lun_add_extents(&thin, data, size, 0, &x), 0);
        extents_free(&x);
    }
}

static enum verdict judge(int status, int key, int ascq, int *error)
{
    struct scsi_task task = {.sense = {.key = (enum scsi_sense_key)key, .ascq = ascq}};

    return iscsi_judge(&task, status, error);
}

static void test_verdicts(void)
{
    static const struct {
        int status, key, ascq;
        enum verdict verdict;
        int error;
    } cases[] = {
        {SCSI_STATUS_GOOD, 0, 0, VERDICT_DONE, EIO},
        {SCSI_STATUS_BUSY, 0, 0, VERDICT_LATER, EIO},
        {SCSI_STATUS_TASK_SET_FULL, 0, 0, VERDICT_LATER, EIO},
        {SCSI_STATUS_RESERVATION_CONFLICT, 0, 0, VERDICT_FAIL, EIO},
        {SCSI_STATUS_CANCELLED, 0, 0, VERDICT_LOST, EIO},
        {SCSI_STATUS_ERROR, 0, 0, VERDICT_LOST, EIO},
        {SCSI_STATUS_CHECK_CONDITION, 1, 0x1700, VERDICT_DONE, 0},
        {SCSI_STATUS_CHECK_CONDITION, 2, 0x0401, VERDICT_LATER, 0},
        {SCSI_STATUS_CHECK_CONDITION, 2, 0x0403, VERDICT_FAIL, EIO},
        {SCSI_STATUS_CHECK_CONDITION, 2, 0x3a00, VERDICT_FAIL, EIO},
        {SCSI_STATUS_CHECK_CONDITION, 3, 0x1100, VERDICT_FAIL, EIO},
        {SCSI_STATUS_CHECK_CONDITION, 4, 0x4400, VERDICT_FAIL, EIO},
        {SCSI_STATUS_CHECK_CONDITION, 5, 0x2000, VERDICT_UNSUPPORTED, 0},
        {SCSI_STATUS_CHECK_CONDITION, 5, 0x2100, VERDICT_FAIL, EIO},
        {SCSI_STATUS_CHECK_CONDITION, 6, 0x2900, VERDICT_RESET, 0},
        {SCSI_STATUS_CHECK_CONDITION, 6, 0x2904, VERDICT_RESET, 0},
        {SCSI_STATUS_CHECK_CONDITION, 6, 0x2a01, VERDICT_RETRY, 0},
        {SCSI_STATUS_CHECK_CONDITION, 7, 0x2707, VERDICT_FAIL, ENOSPC},
        {SCSI_STATUS_CHECK_CONDITION, 7, 0x2700, VERDICT_FAIL, EROFS},
        {SCSI_STATUS_CHECK_CONDITION, 0xb, 0, VERDICT_LATER, 0},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        int error;

        CHECK_EQ(judge(cases[i].status, cases[i].key, cases[i].ascq, &error), cases[i].verdict);
        CHECK_EQ(error, cases[i].error);
    }
}

int main(void)
{
    RUN(test_lba_status_becomes_extents);
    RUN(test_without_lbprz_a_hole_is_not_zero);
    RUN(test_nonsense_is_not_believed);
    RUN(test_noise_does_no_harm);
    RUN(test_verdicts);
    return unit_result();
}
