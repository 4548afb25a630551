/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test-engine-holds: what is done about requests that wait: deadlines with each on_stall, excused
 * holds, the point of no return, cancels at the gate, in the range lock, in a filter and too late;
 * blocked callbacks; substituted buffers; strangers who call on requests they do not own.
 */
#include "engine-fixture.h"

#define SIZE 65536

static struct ram_backing *ram;
static struct engine *engine;
static struct outsider stranger;
static struct sluice_disk disk = {.name = "holds"};

/* --- a filter that keeps one request
 * ------------------------------------------------------------------- */

struct keeper {
    struct station *station;
    struct sluice_request *request;
    enum sluice_cancel_answer answer;
    unsigned cancels, completions;
    int seen_error;
    bool keeps_up, commits, excuses;
};

static struct sluice_verdict keeper_start(void *instance, struct sluice_request *r, void *scratch)
{
    struct keeper *k = instance;

    (void)scratch;
    if (k->keeps_up)
        return sluice_pass_and_tell();
    k->request = r;
    if (k->commits)
        CHECK(request_commit(k->station, r));
    if (k->excuses)
        request_hold(k->station, r, "the policy says so");
    return sluice_defer();
}

static struct sluice_verdict keeper_completion(void *instance, struct sluice_request *r,
                                               void *scratch)
{
    struct keeper *k = instance;

    (void)scratch;
    k->request = r;
    return sluice_defer();
}

static enum sluice_cancel_answer keeper_cancel(void *instance, struct sluice_request *r,
                                               void *scratch)
{
    struct keeper *k = instance;

    (void)scratch;
    CHECK(k->request == r);
    k->cancels++;
    if (k->answer == SLUICE_CANCEL_RELEASED)
        k->request = NULL;
    return k->answer;
}

static const struct sluice_filter keeper_filter = {
    .name = "keeper", HANDLE_ALL(keeper_start, keeper_completion), .cancel = keeper_cancel};

/* Stands above and notes what it is told. */
static struct sluice_verdict above_start(void *instance, struct sluice_request *r, void *scratch)
{
    (void)instance;
    (void)r;
    (void)scratch;
    return sluice_pass_and_tell();
}

static struct sluice_verdict above_completion(void *instance, struct sluice_request *r,
                                              void *scratch)
{
    struct keeper *k = instance;

    (void)scratch;
    k->completions++;
    k->seen_error = r->error;
    return sluice_pass();
}

static const struct sluice_filter above_filter = {.name = "above",
                                                  HANDLE_ALL(above_start, above_completion)};

static struct keeper keeper;
static struct station *above, *below;

static void set_up(enum stall_policy on_stall)
{
    struct station *stations[2];

    memset(&keeper, 0, sizeof keeper);
    ram = ram_create(SIZE, 1);
    above = stations[0] = station_make(&above_filter, &keeper, "above", &disk);
    below = stations[1] = station_make(&keeper_filter, &keeper, "keeper", &disk);
    below->on_stall = on_stall;
    keeper.station = below;
    engine = engine_create("holds", chain_create(stations, 2, &ram->base), SIZE, &no_hooks, NULL);
    engine_configure(engine,
                     &(struct engine_settings){.deadline_ns = 20000000, .on_stall = on_stall});
}

static void tear_down(void)
{
    engine_destroy(engine);
    free(above);
    free(below);
    ram_destroy(ram);
}

/* --- a request in flight
 * ----------------------------------------------------------------------------------- */

struct flight {
    struct request *request;
    struct sluice_request *pub;
    uint8_t data[4096];
    bool is_done;
    int error;
};

static void on_done(struct request *r)
{
    struct flight *f = request_owner(r);

    f->error = request_error(r);
    f->is_done = true;
    request_free(r);
}

static enum io_status launch(struct flight *f, unsigned op, uint64_t offset)
{
    memset(f, 0, sizeof *f);
    f->request = request_new(engine, &test_client);
    f->pub = request_public(f->request);
    f->pub->op = (uint8_t)op;
    f->pub->offset = offset;
    f->pub->length = sizeof f->data;
    f->pub->data = f->data;
    request_set_done(f->request, on_done, f);
    return request_submit(f->request);
}

static void land(struct flight *f)
{
    home_wait(home_current(), &f->is_done);
}

/* Until the watch has acted: bounded by the harness's own time limit. */
static void tick_until_done(struct flight *f)
{
    while (!f->is_done) {
        engine_watch_tick(clock_now_ns());
        home_drain(home_current());
    }
}

static void tick_for(uint64_t ns)
{
    for (uint64_t until = clock_now_ns() + ns; clock_now_ns() < until;) {
        engine_watch_tick(clock_now_ns());
        home_drain(home_current());
    }
}

static struct station_counts counts_of(struct station *s)
{
    struct station_counts n;

    chain_station_counts(engine_chain(engine), s, &n);
    return n;
}

/* --- deadlines
 * ------------------------------------------------------------------------------------------------
 */

static void test_on_stall_fail_fails_after_the_filter_lets_go(void)
{
    struct flight f;

    set_up(STALL_FAIL);
    keeper.answer = SLUICE_CANCEL_RELEASED;
    CHECK_EQ(launch(&f, SLUICE_OP_WRITE, 0), IO_PENDING);
    tick_until_done(&f);
    CHECK_EQ(f.error, ETIMEDOUT);
    CHECK_EQ(keeper.cancels, 1);
    CHECK_EQ(keeper.completions, 1);
    CHECK_EQ(keeper.seen_error, ETIMEDOUT);
    CHECK_EQ(atomic_load(&ram->served), 0);
    CHECK_EQ(counts_of(below).stalled, 1);
    CHECK_EQ(counts_of(below).cancelled, 1);
    CHECK_EQ(counts_of(below).failed, 0);
    CHECK_EQ(counts_of(below).held_now, 0);
    tear_down();
}

static void test_on_stall_bypass_goes_on_below(void)
{
    struct flight f;

    set_up(STALL_BYPASS);
    keeper.answer = SLUICE_CANCEL_RELEASED;
    CHECK_EQ(launch(&f, SLUICE_OP_WRITE, 0), IO_PENDING);
    tick_until_done(&f);
    CHECK_EQ(f.error, 0);
    CHECK_EQ(atomic_load(&ram->served), 1);
    CHECK_EQ(counts_of(below).bypassed, 1);
    tear_down();
}

static void test_on_stall_wait_only_raises_an_alarm(void)
{
    struct flight f;

    set_up(STALL_WAIT);
    CHECK_EQ(launch(&f, SLUICE_OP_WRITE, 0), IO_PENDING);
    tick_for(150000000);
    CHECK(!f.is_done);
    CHECK_EQ(keeper.cancels, 0);
    CHECK_EQ(counts_of(below).stalled, 1);
    CHECK(request_resume(below, keeper.request, sluice_pass()));
    land(&f);
    CHECK_EQ(f.error, 0);
    tear_down();
}

static void test_a_filter_that_will_not_let_go_is_waited_for(void)
{
    struct flight f;

    set_up(STALL_FAIL);
    keeper.answer = SLUICE_CANCEL_BUSY;
    CHECK_EQ(launch(&f, SLUICE_OP_READ, 0), IO_PENDING);
    tick_for(200000000);
    CHECK(!f.is_done);
    CHECK(keeper.cancels >= 1);
    CHECK(request_resume(below, keeper.request, sluice_fail(ENOSPC)));
    land(&f);
    CHECK_EQ(f.error, ENOSPC);
    tear_down();
}

static void test_a_hold_wanted_by_the_policy_is_no_stall(void)
{
    struct flight f;

    set_up(STALL_FAIL);
    keeper.excuses = true;
    CHECK_EQ(launch(&f, SLUICE_OP_READ, 0), IO_PENDING);
    tick_for(150000000);
    CHECK(!f.is_done);
    CHECK_EQ(counts_of(below).stalled, 0);
    CHECK(request_resume(below, keeper.request, sluice_pass()));
    land(&f);
    tear_down();
}

/* --- the point of no return
 * ----------------------------------------------------------------------------------------- */

static void test_a_committed_request_cannot_be_cancelled(void)
{
    struct flight f;

    set_up(STALL_FAIL);
    keeper.commits = true;
    keeper.answer = SLUICE_CANCEL_RELEASED;
    CHECK_EQ(launch(&f, SLUICE_OP_WRITE, 0), IO_PENDING);
    CHECK(!request_cancel(f.request, ECANCELED));
    tick_for(150000000);
    CHECK(!f.is_done);
    CHECK_EQ(keeper.cancels, 0);
    CHECK_EQ(counts_of(below).stalled, 1);
    CHECK(request_resume(below, keeper.request, sluice_pass()));
    land(&f);
    CHECK_EQ(f.error, 0);
    tear_down();
}

static void test_a_write_in_the_backing_keeps_its_range_and_buffer(void)
{
    struct flight first, second;

    set_up(STALL_FAIL);
    keeper.keeps_up = true;
    atomic_store(&ram->is_stuck, true);
    CHECK_EQ(launch(&first, SLUICE_OP_WRITE, 0), IO_PENDING);
    CHECK(!request_cancel(first.request, ECANCELED));
    CHECK_EQ(launch(&second, SLUICE_OP_WRITE, 2048), IO_PENDING); /* waits for the range */
    CHECK(request_cancel(second.request, ECANCELED));
    land(&second);
    CHECK_EQ(second.error, ECANCELED);
    CHECK_EQ(atomic_load(&ram->served), 0);
    ram_release(ram);
    while (!keeper.request)
        home_drain(home_current());
    CHECK(request_resume(below, keeper.request, sluice_pass()));
    land(&first);
    CHECK_EQ(first.error, 0);
    tear_down();
}

static void test_resume_after_cancel_says_false(void)
{
    struct flight f;
    struct sluice_request *gone;

    set_up(STALL_WAIT);
    keeper.answer = SLUICE_CANCEL_RELEASED;
    CHECK_EQ(launch(&f, SLUICE_OP_READ, 0), IO_PENDING);
    gone = keeper.request;
    CHECK(request_cancel(f.request, ECANCELED));
    CHECK(!request_resume(below, gone, sluice_pass()));
    CHECK(!request_cancel(f.request, ECANCELED)); /* once is enough */
    land(&f);
    CHECK_EQ(f.error, ECANCELED);
    tear_down();
}

static void test_a_deferred_completion_can_be_cancelled(void)
{
    struct flight f;

    set_up(STALL_WAIT);
    keeper.keeps_up = true;
    keeper.answer = SLUICE_CANCEL_RELEASED;
    CHECK_EQ(launch(&f, SLUICE_OP_READ, 0), IO_PENDING);
    CHECK(request_cancel(f.request, ECANCELED));
    land(&f);
    CHECK_EQ(f.error, ECANCELED);
    CHECK_EQ(keeper.completions, 1);
    tear_down();
}

static void test_a_request_at_the_gate_can_be_cancelled(void)
{
    struct flight f;
    struct engine_counts n;

    set_up(STALL_WAIT);
    engine_gate_close(engine, GATE_QUIESCE);
    CHECK_EQ(launch(&f, SLUICE_OP_READ, 0), IO_PENDING);
    engine_counts(engine, &n);
    CHECK_EQ(n.held_at_gate, 1);
    CHECK_EQ(n.in_flight, 0);
    CHECK(request_cancel(f.request, ECANCELED));
    land(&f);
    CHECK_EQ(f.error, ECANCELED);
    CHECK(keeper.request == NULL);
    engine_gate_open(engine, GATE_QUIESCE);
    tear_down();
}

static void test_the_gate_holds_and_lets_go_without_a_failure(void)
{
    struct flight f;

    set_up(STALL_WAIT);
    engine_gate_close(engine, GATE_QUIESCE);
    engine_gate_close(engine, GATE_ROLE);
    CHECK_EQ(launch(&f, SLUICE_OP_READ, 0), IO_PENDING);
    CHECK_EQ(engine_drain(engine, clock_now_ns() + 1000000000u), 0);
    engine_gate_open(engine, GATE_QUIESCE);
    home_drain(home_current());
    CHECK(keeper.request == NULL); /* the other reason still holds it */
    engine_gate_open(engine, GATE_ROLE);
    home_drain(home_current());
    CHECK(keeper.request != NULL);
    CHECK_EQ(engine_drain(engine, clock_now_ns() + 1000000u), -ETIMEDOUT);
    CHECK(request_resume(below, keeper.request, sluice_pass()));
    land(&f);
    CHECK_EQ(f.error, 0);
    tear_down();
}

/* --- strangers and mistakes
 * -------------------------------------------------------------------------------------------- */

static void test_calls_by_a_filter_that_does_not_own_the_request_do_nothing(void)
{
    struct flight f;

    set_up(STALL_WAIT);
    CHECK_EQ(launch(&f, SLUICE_OP_READ, 0), IO_PENDING);
    CHECK(!request_resume(above, keeper.request, sluice_fail(EIO)));
    CHECK(!request_commit(above, keeper.request));
    CHECK(request_resume(below, keeper.request, sluice_pass()));
    CHECK(!request_resume(below, keeper.request, sluice_fail(EIO)));
    land(&f);
    CHECK_EQ(f.error, 0);
    tear_down();
}

static void test_a_nonsense_verdict_is_an_error_not_a_hang(void)
{
    struct flight f;

    set_up(STALL_WAIT);
    CHECK_EQ(launch(&f, SLUICE_OP_READ, 0), IO_PENDING);
    CHECK(request_resume(below, keeper.request, sluice_defer()));
    land(&f);
    CHECK_EQ(f.error, EIO);
    CHECK_EQ(launch(&f, SLUICE_OP_READ, 0), IO_PENDING);
    CHECK(request_resume(below, keeper.request, sluice_fail(-5)));
    land(&f);
    CHECK_EQ(f.error, EIO);
    tear_down();
}

/* --- blocked callbacks
 * -----------------------------------------------------------------------------------------------------
 */

static _Atomic bool lets_blocker_go;

static struct sluice_verdict blocker_start(void *instance, struct sluice_request *r, void *scratch)
{
    (void)instance;
    (void)r;
    (void)scratch;
    while (!atomic_load(&lets_blocker_go))
        ;
    return sluice_pass();
}

static const struct sluice_filter blocker_filter = {.name = "blocker",
                                                    HANDLE_ALL(blocker_start, NULL)};

static void *submit_one(void *unused)
{
    struct flight f;

    (void)unused;
    CHECK_EQ(launch(&f, SLUICE_OP_READ, 0), IO_DONE);
    request_free(f.request);
    return NULL;
}

static void test_a_callback_that_blocks_is_reported_while_it_does(void)
{
    struct station *s = station_make(&blocker_filter, NULL, "blocker", &disk);
    pthread_t thread;

    ram = ram_create(SIZE, 1);
    engine = engine_create("blocked", chain_create(&s, 1, &ram->base), SIZE, &no_hooks, NULL);
    atomic_store(&lets_blocker_go, false);
    pthread_create(&thread, NULL, submit_one, NULL);
    while (atomic_load(&s->stats.blocked) == 0)
        engine_watch_tick(clock_now_ns());
    for (unsigned i = 0; i < 1000; i++)
        engine_watch_tick(clock_now_ns());
    CHECK_EQ(atomic_load(&s->stats.blocked), 1); /* once, not at each tick */
    atomic_store(&lets_blocker_go, true);
    pthread_join(thread, NULL);
    engine_destroy(engine);
    free(s);
    ram_destroy(ram);
}

/* --- substituted buffers
 * ------------------------------------------------------------------------------------------------------
 */

static uint8_t own_buffer[4096];
static struct station *inverter_station;

static struct sluice_verdict inverter_start(void *instance, struct sluice_request *r, void *scratch)
{
    (void)instance;
    (void)scratch;
    if (r->op == SLUICE_OP_WRITE)
        for (uint64_t i = 0; i < r->length; i++)
            own_buffer[i] = (uint8_t) ~((uint8_t *)r->data)[i];
    request_substitute(inverter_station, r, own_buffer);
    return r->op == SLUICE_OP_READ ? sluice_pass_and_tell() : sluice_pass();
}

static struct sluice_verdict inverter_completion(void *instance, struct sluice_request *r,
                                                 void *scratch)
{
    (void)instance;
    (void)scratch;
    CHECK(r->data != own_buffer); /* restored before the filter that put it there is told */
    for (uint64_t i = 0; i < r->length; i++)
        ((uint8_t *)r->data)[i] = (uint8_t)~own_buffer[i];
    return sluice_pass();
}

static const struct sluice_filter inverter_filter = {
    .name = "inverter", HANDLE_ALL(inverter_start, inverter_completion)};

static struct sluice_verdict witness_completion(void *instance, struct sluice_request *r,
                                                void *scratch)
{
    (void)scratch;
    CHECK(r->data == *(void **)instance);
    return sluice_pass();
}

static const struct sluice_filter witness_filter = {.name = "witness",
                                                    HANDLE_ALL(above_start, witness_completion)};

static void test_filters_above_never_see_a_substituted_buffer(void)
{
    struct flight f;
    void *guest = f.data;
    struct station *stations[2] = {station_make(&witness_filter, &guest, "witness", &disk),
                                   station_make(&inverter_filter, NULL, "inverter", &disk)};

    inverter_station = stations[1];
    ram = ram_create(SIZE, 1);
    engine =
        engine_create("substitute", chain_create(stations, 2, &ram->base), SIZE, &no_hooks, NULL);
    f.request = request_new(engine, &test_client);
    memset(f.data, 0x0f, sizeof f.data);
    *request_public(f.request) = (struct sluice_request){
        .op = SLUICE_OP_WRITE, .length = sizeof f.data, .data = f.data, .client = &test_client};
    CHECK_EQ(request_execute(f.request), 0);
    request_free(f.request);
    CHECK_EQ(ram->bytes[100], 0xf0);
    CHECK_EQ(f.data[100], 0x0f);
    f.request = request_new(engine, &test_client);
    memset(f.data, 0, sizeof f.data);
    *request_public(f.request) = (struct sluice_request){
        .op = SLUICE_OP_READ, .length = sizeof f.data, .data = f.data, .client = &test_client};
    CHECK_EQ(request_execute(f.request), 0);
    request_free(f.request);
    CHECK_EQ(f.data[100], 0x0f);
    engine_destroy(engine);
    free(stations[0]);
    free(stations[1]);
    ram_destroy(ram);
}

static struct station *late_station;

static struct sluice_verdict late_completion(void *instance, struct sluice_request *r,
                                             void *scratch)
{
    (void)instance;
    (void)scratch;
    request_substitute(late_station, r, own_buffer);
    return sluice_pass();
}

static const struct sluice_filter late_filter = {.name = "late",
                                                 HANDLE_ALL(above_start, late_completion)};

static void test_a_buffer_put_below_on_the_way_up_is_refused(void)
{
    struct flight f;
    void *guest = f.data;
    struct station *stations[2] = {station_make(&witness_filter, &guest, "witness", &disk),
                                   station_make(&late_filter, NULL, "late", &disk)};

    late_station = stations[1];
    ram = ram_create(SIZE, 1);
    engine = engine_create("late", chain_create(stations, 2, &ram->base), SIZE, &no_hooks, NULL);
    f.request = request_new(engine, &test_client);
    *request_public(f.request) = (struct sluice_request){
        .op = SLUICE_OP_READ, .length = sizeof f.data, .data = f.data, .client = &test_client};
    CHECK_EQ(request_execute(f.request), 0); /* the witness sees the guest's buffer */
    CHECK(request_public(f.request)->data == f.data);
    request_free(f.request);
    engine_destroy(engine);
    free(stations[0]);
    free(stations[1]);
    ram_destroy(ram);
}

int main(void)
{
    stranger_start(&stranger);
    RUN(test_on_stall_fail_fails_after_the_filter_lets_go);
    RUN(test_on_stall_bypass_goes_on_below);
    RUN(test_on_stall_wait_only_raises_an_alarm);
    RUN(test_a_filter_that_will_not_let_go_is_waited_for);
    RUN(test_a_hold_wanted_by_the_policy_is_no_stall);
    RUN(test_a_committed_request_cannot_be_cancelled);
    RUN(test_a_write_in_the_backing_keeps_its_range_and_buffer);
    RUN(test_resume_after_cancel_says_false);
    RUN(test_a_deferred_completion_can_be_cancelled);
    RUN(test_a_request_at_the_gate_can_be_cancelled);
    RUN(test_the_gate_holds_and_lets_go_without_a_failure);
    RUN(test_calls_by_a_filter_that_does_not_own_the_request_do_nothing);
    RUN(test_a_nonsense_verdict_is_an_error_not_a_hang);
    RUN(test_a_callback_that_blocks_is_reported_while_it_does);
    RUN(test_filters_above_never_see_a_substituted_buffer);
    RUN(test_a_buffer_put_below_on_the_way_up_is_refused);
    stranger_end(&stranger);
    return unit_result();
}
