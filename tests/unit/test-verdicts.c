/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test-verdicts: the verdict table, cell by cell.  Five filters stand in a chain; four of them pass
 * and ask for completion, the one under test gives one verdict on the way down or up, at once or by
 * deferral (resumed early inside the callback, later in the home, or by another thread).  For every
 * operation, position and kind of submitter the list of callbacks, in order, and the result must be
 * what the table in sluice-filter.h says.  The expectation is computed from that table alone.
 */
#include "engine-fixture.h"

enum manner { AT_ONCE, EARLY, IN_HOME, FROM_STRANGER };
enum submitter { FROM_WORKER, FROM_LOOP, FROM_SERVICE };

#define FILTERS 5
#define SIZE 65536

struct actor {
    struct station *station;
    struct sluice_disk disk;
    unsigned index;
    bool is_tested;
    bool tests_up;
    struct sluice_verdict verdict;
    enum manner manner;
    struct task task;
    struct sluice_request *request;
};

static struct actor actors[FILTERS];
static struct outsider stranger;
static char calls[256];

static void note(const char *what, unsigned index)
{
    size_t n = strlen(calls);

    snprintf(calls + n, sizeof calls - n, "%s%u ", what, index);
}

static void resume_later(struct task *task)
{
    struct actor *a = CONTAINER_OF(task, struct actor, task);

    CHECK(request_resume(a->station, a->request, a->verdict));
}

static struct sluice_verdict give(struct actor *a, struct sluice_request *r)
{
    if (a->manner == AT_ONCE)
        return a->verdict;
    a->request = r;
    a->task.run = resume_later;
    if (a->manner == EARLY)
        resume_later(&a->task);
    else if (a->manner == IN_HOME)
        home_run_later(home_current(), &a->task);
    else
        stranger_do(&stranger, &a->task);
    return sluice_defer();
}

static struct sluice_verdict actor_start(void *instance, struct sluice_request *r, void *scratch)
{
    struct actor *a = instance;

    CHECK(scratch && *(uint64_t *)scratch == 0);
    *(uint64_t *)scratch = a->index + 100;
    CHECK_EQ(r->error, 0);
    note("s", a->index);
    if (a->is_tested && !a->tests_up)
        return give(a, r);
    return sluice_pass_and_tell();
}

static struct sluice_verdict actor_completion(void *instance, struct sluice_request *r,
                                              void *scratch)
{
    struct actor *a = instance;

    CHECK_EQ(*(uint64_t *)scratch, a->index + 100);
    note("c", a->index);
    if (a->is_tested && a->tests_up)
        return give(a, r);
    return sluice_pass();
}

static const struct sluice_filter actor_filter = {
    .struct_size = sizeof actor_filter,
    .name = "actor",
    .scratch_bytes = 24,
    HANDLE_ALL(actor_start, actor_completion),
};

/* --- what the table says
 * --------------------------------------------------------------------------------- */

struct expectation {
    char calls[256];
    bool reaches_backing;
    int error;
};

static void expect_call(struct expectation *x, const char *what, unsigned index)
{
    size_t n = strlen(x->calls);

    snprintf(x->calls + n, sizeof x->calls - n, "%s%u ", what, index);
}

static void expect(struct expectation *x, unsigned entry, unsigned at, bool tests_up,
                   struct sluice_verdict v, int backing_error)
{
    bool stops = !tests_up && at >= entry && v.kind >= SLUICE_VERDICT_COMPLETE;
    unsigned last = stops ? at : FILTERS - 1;

    memset(x, 0, sizeof *x);
    for (unsigned i = entry; i <= last && i < FILTERS; i++)
        expect_call(x, "s", i);
    x->reaches_backing = !stops;
    x->error = stops ? (v.kind == SLUICE_VERDICT_FAIL ? v.error : 0) : backing_error;
    for (unsigned i = stops ? at : FILTERS; i-- > entry;) {
        if (!tests_up && i == at && v.kind == SLUICE_VERDICT_PASS)
            continue; /* did not ask */
        expect_call(x, "c", i);
        if (!tests_up || i != at)
            continue;
        if (v.kind == SLUICE_VERDICT_COMPLETE)
            x->error = 0;
        if (v.kind == SLUICE_VERDICT_FAIL)
            x->error = v.error;
    }
}

/* --- submitters
 * ------------------------------------------------------------------------------------------ */

struct job {
    struct task task;
    struct engine *engine;
    unsigned op;
    struct station *entry;
    uint8_t data[4096];
    int error;
    enum io_status status;
    _Atomic bool is_done; /* a loop's jobs are waited for by spinning on a condition below */
    pthread_mutex_t mutex;
    pthread_cond_t cond;
};

static struct request *make_request(struct job *j)
{
    struct request *r = request_new(j->engine, &test_client);
    struct sluice_request *pub = request_public(r);

    pub->op = (uint8_t)j->op;
    pub->offset = j->op == SLUICE_OP_FLUSH ? 0 : 4096;
    pub->length = j->op == SLUICE_OP_FLUSH ? 0 : sizeof j->data;
    pub->data = j->data;
    if (j->entry) {
        pub->origin = SLUICE_ORIGIN_FILTER;
        request_set_entry(r, j->entry);
    }
    return r;
}

static void tell_done(struct job *j)
{
    pthread_mutex_lock(&j->mutex);
    atomic_store(&j->is_done, true);
    pthread_cond_signal(&j->cond);
    pthread_mutex_unlock(&j->mutex);
}

static void on_done(struct request *r)
{
    struct job *j = request_owner(r);

    CHECK_EQ(j->status, IO_PENDING); /* never inside submit */
    j->error = request_error(r);
    request_free(r);
    tell_done(j);
}

static void submit_in_loop(struct task *task)
{
    struct job *j = CONTAINER_OF(task, struct job, task);
    struct request *r = make_request(j);

    request_set_done(r, on_done, j);
    j->status = IO_DONE;
    if (request_submit(r) == IO_PENDING) {
        j->status = IO_PENDING;
        return;
    }
    j->error = request_error(r);
    request_free(r);
    tell_done(j);
}

static void submit_by_worker(struct job *j)
{
    struct request *r = make_request(j);

    j->error = request_execute(r);
    request_free(r);
}

static void submit_by_loop(struct job *j, struct loop *loop)
{
    j->task.run = submit_in_loop;
    home_post(loop_home(loop), &j->task);
    pthread_mutex_lock(&j->mutex);
    while (!atomic_load(&j->is_done))
        pthread_cond_wait(&j->cond, &j->mutex);
    pthread_mutex_unlock(&j->mutex);
}

/* --- the matrix
 * ---------------------------------------------------------------------------------------------- */

static struct engine *engine;
static struct ram_backing *ram;
static struct loop *loop;

static void set_up(void)
{
    struct station *stations[FILTERS];
    struct err e = {0};

    ram = ram_create(SIZE, 1);
    for (unsigned i = 0; i < FILTERS; i++) {
        actors[i].index = i;
        actors[i].station = stations[i] =
            station_make(&actor_filter, &actors[i], "actor", &actors[i].disk);
    }
    engine =
        engine_create("matrix", chain_create(stations, FILTERS, &ram->base), SIZE, &no_hooks, NULL);
    stranger_start(&stranger);
    loop = loop_create("test", &e);
    CHECK(loop != NULL);
}

static void tear_down(void)
{
    loop_destroy(loop);
    stranger_end(&stranger);
    engine_destroy(engine);
    for (unsigned i = 0; i < FILTERS; i++)
        free(actors[i].station);
    ram_destroy(ram);
}

struct cell {
    unsigned op, at, entry;
    bool tests_up;
    struct sluice_verdict verdict;
    enum manner manner;
    enum submitter submitter;
    int backing_error;
    bool is_async;
};

static void run_job(const struct cell *c, struct job *j)
{
    j->engine = engine;
    j->op = c->op;
    j->entry = c->entry ? actors[c->entry - 1].station : NULL;
    pthread_mutex_init(&j->mutex, NULL);
    pthread_cond_init(&j->cond, NULL);
    if (c->submitter == FROM_WORKER)
        submit_by_worker(j);
    else
        submit_by_loop(j, loop);
    pthread_cond_destroy(&j->cond);
    pthread_mutex_destroy(&j->mutex);
}

static void run_cell(const struct cell *c)
{
    struct expectation x;
    struct job j = {.op = 0};
    unsigned served = atomic_load(&ram->served);

    for (unsigned i = 0; i < FILTERS; i++)
        actors[i].is_tested = i == c->at;
    actors[c->at].tests_up = c->tests_up;
    actors[c->at].verdict = c->verdict;
    actors[c->at].manner = c->manner;
    atomic_store(&ram->fail_with, -c->backing_error);
    atomic_store(&ram->is_async, c->is_async);
    calls[0] = 0;
    expect(&x, c->entry, c->at, c->tests_up, c->verdict, c->backing_error);
    run_job(c, &j);
    CHECK_STR(calls, x.calls);
    CHECK_EQ(j.error, x.error);
    CHECK_EQ(atomic_load(&ram->served) - served, x.reaches_backing ? 1 : 0);
    if (strcmp(calls, x.calls) != 0)
        fprintf(stderr, "  op %s at %u up %d verdict %u manner %d submitter %d\n",
                engine_op_name(c->op), c->at, c->tests_up, c->verdict.kind, c->manner,
                c->submitter);
}

static unsigned cells;

static void run_verdicts(struct cell c)
{
    const struct sluice_verdict verdicts[] = {sluice_pass(), sluice_pass_and_tell(),
                                              sluice_complete(), sluice_fail(ENOSPC)};

    for (unsigned v = 0; v < ARRAY_SIZE(verdicts); v++)
        for (enum manner m = AT_ONCE; m <= FROM_STRANGER; m++) {
            if (c.tests_up && verdicts[v].kind == SLUICE_VERDICT_PASS_TELL)
                continue; /* has no meaning on the way up */
            c.verdict = verdicts[v];
            c.manner = m;
            run_cell(&c);
            cells++;
        }
}

static void test_every_cell_of_the_table(void)
{
    for (unsigned op = 0; op < SLUICE_OP_COUNT; op++)
        for (unsigned at = 0; at < FILTERS; at++)
            for (unsigned up = 0; up < 2; up++)
                for (enum submitter s = FROM_WORKER; s <= FROM_SERVICE; s++)
                    for (unsigned variant = 0; variant < 4; variant++)
                        run_verdicts((struct cell){.op = op,
                                                   .at = at,
                                                   .entry = s == FROM_SERVICE ? at : 0,
                                                   .tests_up = up,
                                                   .submitter = s,
                                                   .backing_error = variant & 1 ? EIO : 0,
                                                   .is_async = variant & 2});
    fprintf(stderr, "# %u cells\n", cells);
}

static void test_counts_are_derived_exactly(void)
{
    struct station_counts n;
    uint64_t total = 0;

    for (unsigned i = 0; i < FILTERS; i++) {
        chain_station_counts(engine_chain(engine), actors[i].station, &n);
        CHECK_EQ(n.held_now, 0);
        CHECK(n.passed > 0 && n.completed > 0 && n.failed > 0 && n.deferred > 0);
        total += n.completed + n.failed;
    }
    /* One in four verdicts stops the request, down only: complete and fail, of four. */
    CHECK_EQ(total, (uint64_t)SLUICE_OP_COUNT * FILTERS * 3 * 4 * 2 * 4);
}

int main(void)
{
    set_up();
    RUN(test_every_cell_of_the_table);
    RUN(test_counts_are_derived_exactly);
    tear_down();
    return unit_result();
}
