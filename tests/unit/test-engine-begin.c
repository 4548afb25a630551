/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test-engine-begin: a worker's request in two steps: begun without blocking, and waited for, or
 * not: a thread that ends between the two leaves nothing behind.
 */
#include "engine-fixture.h"

#define SIZE 65536

static struct ram_backing *ram;
static struct engine *engine;
static uint8_t data[4096];

static void set_up(void)
{
    ram = ram_create(SIZE, 1);
    engine = engine_create("begin", chain_create(NULL, 0, &ram->base), SIZE, &no_hooks, NULL);
}

static void tear_down(void)
{
    engine_destroy(engine);
    ram_destroy(ram);
}

static struct request *request_of(unsigned op, uint64_t offset)
{
    struct request *r = request_new(engine, &test_client);

    request_fill(r, op, 0, offset, sizeof data, data);
    return r;
}

static void test_what_has_ended_at_once_is_not_waited_for(void)
{
    struct request *r;

    set_up();
    memset(data, 0x5a, sizeof data);
    r = request_of(SLUICE_OP_WRITE, 4096);
    CHECK_EQ(request_begin(r), IO_DONE);
    CHECK_EQ(request_error(r), 0);
    CHECK(!engine_home_must_not_block()); /* it is no callback's thread any more */
    request_free(r);
    CHECK_EQ(ram->bytes[4096], 0x5a);
    CHECK_EQ(ram->bytes[8191], 0x5a);
    tear_down();
}

static void test_what_is_under_way_is_waited_for(void)
{
    struct request *r;

    set_up();
    atomic_store(&ram->is_async, true);
    for (unsigned i = 0; i < 200; i++) {
        ram->bytes[i] = (uint8_t)(i + 1);
        r = request_of(SLUICE_OP_READ, 0);
        if (request_begin(r) == IO_PENDING)
            CHECK_EQ(request_wait(r), 0);
        CHECK_EQ(request_error(r), 0);
        request_free(r);
        CHECK_EQ(data[i], i + 1);
        r = request_of(SLUICE_OP_FLUSH, 0);
        CHECK_EQ(request_execute(r), 0); /* the usual way is as ever */
        request_free(r);
    }
    tear_down();
}

static void test_the_wait_ends_when_more_is_asked(void)
{
    struct request *r;
    int ends[2];

    set_up();
    CHECK_EQ(pipe(ends), 0);
    atomic_store(&ram->is_async, true);
    for (unsigned i = 0; i < 200; i++) {
        ram->bytes[i] = (uint8_t)(i + 1);
        r = request_of(SLUICE_OP_READ, 0);
        if (request_begin(r) == IO_PENDING)
            CHECK_EQ(request_wait_watching(r, ends[0]), IO_DONE);
        CHECK_EQ(request_error(r), 0);
        CHECK(!engine_home_must_not_block());
        request_free(r);
        CHECK_EQ(data[i], i + 1);
    }
    atomic_store(&ram->is_stuck, true);
    r = request_of(SLUICE_OP_READ, 0);
    CHECK_EQ(request_begin(r), IO_PENDING);
    CHECK_EQ(write(ends[1], "", 1), 1);
    CHECK_EQ(request_wait_watching(r, ends[0]), IO_PENDING);
    ram_release(ram);
    CHECK_EQ(request_wait(r), 0);
    request_free(r);
    close(ends[0]);
    close(ends[1]);
    tear_down();
}

static void test_errors_are_told_by_either_step(void)
{
    struct request *r;

    set_up();
    atomic_store(&ram->fail_with, -EIO);
    for (unsigned is_async = 0; is_async < 2; is_async++) {
        atomic_store(&ram->is_async, is_async);
        r = request_of(SLUICE_OP_READ, 0);
        CHECK_EQ(request_begin(r) == IO_DONE ? request_error(r) : request_wait(r), EIO);
        request_free(r);
    }
    r = request_of(SLUICE_OP_READ, SIZE);
    CHECK_EQ(request_begin(r), IO_DONE);
    CHECK_EQ(request_error(r), EINVAL);
    request_free(r);
    tear_down();
}

static void *begin_and_leave(void *arg)
{
    CHECK_EQ(request_begin(request_of(SLUICE_OP_WRITE, 0)), IO_PENDING);
    atomic_store((_Atomic bool *)arg, true);
    return NULL;
}

static void test_who_ends_before_waiting_waits_at_its_end(void)
{
    _Atomic bool has_begun = false;
    pthread_t thread;

    set_up();
    atomic_store(&ram->is_stuck, true);
    CHECK_EQ(pthread_create(&thread, NULL, begin_and_leave, (void *)&has_begun), 0);
    while (!atomic_load(&has_begun))
        sched_yield();
    ram_release(ram);
    pthread_join(thread, NULL);
    CHECK_EQ(ram->served, 1);
    tear_down(); /* with a request in flight the engine could not be */
}

int main(void)
{
    RUN(test_what_has_ended_at_once_is_not_waited_for);
    RUN(test_what_is_under_way_is_waited_for);
    RUN(test_the_wait_ends_when_more_is_asked);
    RUN(test_errors_are_told_by_either_step);
    RUN(test_who_ends_before_waiting_waits_at_its_end);
    return unit_result();
}
