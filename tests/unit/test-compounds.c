/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test-compounds: partial blocks, COMPARE AND WRITE and ORWRITE against a plain model, over
 * backings with units of 1, 512 and 4096 bytes that answer at once or from another thread; a
 * failing read writes nothing; a backing that cannot zero; racing compare-and-writes lose none.
 */
#include "engine-fixture.h"

#define SIZE 131072u

static struct ram_backing *ram;
static struct engine *engine;

static void set_up(unsigned unit, bool is_async, bool can_zero)
{
    ram = ram_create(SIZE, unit);
    ram->base.info.can_zero = can_zero;
    atomic_store(&ram->is_async, is_async);
    engine = engine_create("compounds", chain_create(NULL, 0, &ram->base), SIZE, &no_hooks, NULL);
}

static void tear_down(void)
{
    engine_destroy(engine);
    ram_destroy(ram);
}

static int run(unsigned op, uint64_t offset, uint64_t length, void *data, uint64_t *miscompare)
{
    struct request *r = request_new(engine, &test_client);
    struct sluice_request *pub = request_public(r);
    int error;

    pub->op = (uint8_t)op;
    pub->offset = offset;
    pub->length = length;
    pub->data = data;
    error = request_execute(r);
    if (miscompare)
        *miscompare = request_miscompare_offset(r);
    request_free(r);
    return error;
}

static void fill(uint8_t *data, size_t length)
{
    for (size_t i = 0; i < length; i++)
        data[i] = (uint8_t)rand();
}

static void one_step(uint8_t *model, uint8_t *data)
{
    static const unsigned ops[] = {SLUICE_OP_READ, SLUICE_OP_WRITE, SLUICE_OP_WRITE,
                                   SLUICE_OP_TRIM, SLUICE_OP_ZERO,  ENGINE_OP_OR_WRITE};
    unsigned op = ops[(unsigned)rand() % ARRAY_SIZE(ops)];
    uint64_t offset = (unsigned)rand() % (SIZE - 1),
             length = 1 + (unsigned)rand() % MIN(SIZE - offset, 20000u);

    if (op == SLUICE_OP_WRITE || op == ENGINE_OP_OR_WRITE)
        fill(data, length);
    CHECK_EQ(run(op, offset, length, data, NULL), 0);
    if (op == SLUICE_OP_READ)
        CHECK(memcmp(data, model + offset, length) == 0);
    else if (op == SLUICE_OP_WRITE)
        memcpy(model + offset, data, length);
    else if (op == ENGINE_OP_OR_WRITE)
        for (uint64_t i = 0; i < length; i++)
            model[offset + i] |= data[i];
    else
        memset(model + offset, 0, length);
}

static void against_model(unsigned unit, bool is_async, bool can_zero)
{
    uint8_t *model = calloc(1, SIZE), *data = malloc(SIZE);

    set_up(unit, is_async, can_zero);
    for (unsigned i = 0; i < 600; i++)
        one_step(model, data);
    CHECK(memcmp(ram->bytes, model, SIZE) == 0);
    tear_down();
    free(model);
    free(data);
}

static void test_partial_blocks_agree_with_a_model(void)
{
    static const unsigned units[] = {1, 512, 4096};

    for (unsigned i = 0; i < ARRAY_SIZE(units); i++)
        for (unsigned variant = 0; variant < 4; variant++)
            against_model(units[i], variant & 1, variant & 2);
}

static void test_a_whole_block_is_written_without_a_read(void)
{
    uint8_t data[8192];

    set_up(512, false, true);
    fill(data, sizeof data);
    CHECK_EQ(run(SLUICE_OP_WRITE, 4096, sizeof data, data, NULL), 0);
    CHECK_EQ(atomic_load(&ram->served), 1);
    CHECK_EQ(run(SLUICE_OP_WRITE, 4097, 100, data, NULL), 0); /* one block: one read, one write */
    CHECK_EQ(atomic_load(&ram->served), 3);
    CHECK_EQ(run(SLUICE_OP_WRITE, 4097, 1024, data, NULL), 0); /* two edges: two reads, one write */
    CHECK_EQ(atomic_load(&ram->served), 6);
    tear_down();
}

static void test_a_failed_read_writes_nothing(void)
{
    uint8_t data[100], before[SIZE];

    set_up(512, false, true);
    fill(ram->bytes, SIZE);
    memcpy(before, ram->bytes, SIZE);
    fill(data, sizeof data);
    atomic_store(&ram->fail_with, -EIO);
    CHECK_EQ(run(SLUICE_OP_WRITE, 1000, sizeof data, data, NULL), EIO);
    CHECK_EQ(atomic_load(&ram->served), 1);
    CHECK(memcmp(before, ram->bytes, SIZE) == 0);
    tear_down();
}

static void test_compare_and_write_says_where_it_differs(void)
{
    uint8_t data[1024];
    uint64_t at;

    set_up(512, true, true);
    memset(ram->bytes, 7, SIZE);
    memset(data, 7, 512);
    memset(data + 512, 9, 512);
    CHECK_EQ(run(ENGINE_OP_COMPARE_AND_WRITE, 512, 512, data, &at), 0);
    CHECK_EQ(ram->bytes[511], 7);
    CHECK_EQ(ram->bytes[512], 9);
    CHECK_EQ(ram->bytes[1024], 7);
    memset(data, 9, 512);
    data[300] = 8;
    CHECK_EQ(run(ENGINE_OP_COMPARE_AND_WRITE, 512, 512, data, &at), EILSEQ);
    CHECK_EQ(at, 300);
    CHECK_EQ(ram->bytes[512], 9);
    tear_down();
}

/* Each adds one to a counter by compare-and-write until it has succeeded that often. */
#define RACERS 6
#define ROUNDS 200

static void *racer(void *unused)
{
    (void)unused;
    for (unsigned won = 0; won < ROUNDS;) {
        uint32_t data[2 * 128];
        int error;

        memset(data, 0, sizeof data);
        CHECK_EQ(run(SLUICE_OP_READ, 0, 4, data, NULL), 0);
        data[128] = data[0] + 1;
        error = run(ENGINE_OP_COMPARE_AND_WRITE, 0, 512, data, NULL);
        CHECK(error == 0 || error == EILSEQ);
        won += error == 0;
    }
    return NULL;
}

static void test_racing_compare_and_writes_lose_none(void)
{
    pthread_t threads[RACERS];
    uint32_t counter;

    set_up(512, true, true);
    for (unsigned i = 0; i < RACERS; i++)
        pthread_create(&threads[i], NULL, racer, NULL);
    for (unsigned i = 0; i < RACERS; i++)
        pthread_join(threads[i], NULL);
    memcpy(&counter, ram->bytes, sizeof counter);
    CHECK_EQ(counter, RACERS * ROUNDS);
    tear_down();
}

static void test_bounds_and_read_only_are_checked_before_anything_happens(void)
{
    uint8_t data[512];

    set_up(1, false, true);
    CHECK_EQ(run(SLUICE_OP_READ, SIZE, 1, data, NULL), EINVAL);
    CHECK_EQ(run(SLUICE_OP_READ, UINT64_MAX, 512, data, NULL), EINVAL);
    CHECK_EQ(run(SLUICE_OP_READ, SIZE - 511, 512, data, NULL), EINVAL);
    CHECK_EQ(run(SLUICE_OP_WRITE, SIZE - 511, 512, data, NULL), ENOSPC);
    CHECK_EQ(run(SLUICE_OP_WRITE, UINT64_MAX - 100, 512, data, NULL), ENOSPC);
    CHECK_EQ(run(ENGINE_OP_COUNT, 0, 512, data, NULL), EOPNOTSUPP);
    CHECK_EQ(run(SLUICE_OP_READ, 0, 0, data, NULL), 0);
    engine_configure(engine, &(struct engine_settings){.is_read_only = true});
    CHECK_EQ(run(SLUICE_OP_WRITE, 0, 512, data, NULL), EROFS);
    CHECK_EQ(run(ENGINE_OP_COMPARE_AND_WRITE, 0, 256, data, NULL), EROFS);
    CHECK_EQ(run(SLUICE_OP_READ, 0, 512, data, NULL), 0);
    CHECK_EQ(atomic_load(&ram->served), 1);
    tear_down();
}

int main(void)
{
    RUN(test_partial_blocks_agree_with_a_model);
    RUN(test_a_whole_block_is_written_without_a_read);
    RUN(test_a_failed_read_writes_nothing);
    RUN(test_compare_and_write_says_where_it_differs);
    RUN(test_racing_compare_and_writes_lose_none);
    RUN(test_bounds_and_read_only_are_checked_before_anything_happens);
    return unit_result();
}
