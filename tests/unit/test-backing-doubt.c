/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test-backing-doubt: a server that lives on when its connections are cut, and then carries out
 * what it had received over them: later, after the client has come back and gone on.  Nothing old
 * may land on what is newer.
 *
 * The played server lives in the service loop like a real transport.  The time that a doubt lasts
 * is longer than it holds anything back; both are timers of that loop, which fire in their order.
 */
#include "backing-test.h"
#include "played-line.h"
#include "unit.h"

#define SIZE (256u << 10)
#define MS UINT64_C(1000000)
#define LATE_MS 20
#define SETTLE_NS (50 * MS)

struct server {
    struct played_line line; /* first */
    unsigned char bytes[SIZE];
    struct list late; /* received over the connections that were */
    struct timer landing;
    bool is_silent;
    unsigned cut_one_in; /* commands; 0: never */
    unsigned cuts, landed;
};

struct late {
    struct list link;
    uint64_t due_ns, offset, length;
    unsigned char data[];
};

/* --- playing ---------------------------------------------------------------------------------- */

static void land(struct server *s, bool all);

static int carry_out(struct server *s, const struct remote_op *op)
{
    uint64_t at = op->offset + op->done;

    land(s, false); /* what is due came before this, however busy the machine is */
    if (op->kind == IO_READ)
        memcpy(op->data + op->done, s->bytes + at, op->chunk);
    else if (op->kind == IO_WRITE)
        memcpy(s->bytes + at, op->data + op->done, op->chunk);
    else if (op->kind == IO_ZERO || op->kind == IO_TRIM)
        memset(s->bytes + at, 0, op->chunk);
    return 0;
}

static void land(struct server *s, bool all)
{
    LIST_FOREACH_SAFE (node, &s->late) {
        struct late *l = LIST_ENTRY(node, struct late, link);

        if (!all && l->due_ns > clock_now_ns()) {
            loop_timer_set(s->line.remote.loop, &s->landing, l->due_ns);
            return;
        }
        memcpy(s->bytes + l->offset, l->data, l->length);
        s->landed++;
        list_remove(node);
        free(l);
    }
}

static void landing_fire(struct timer *timer)
{
    land(CONTAINER_OF(timer, struct server, landing), false);
}

/* What was under way goes on without its connection; each as late as the last one or later. */
static void hold_back(struct server *s, const struct remote_op *op, uint64_t due_ns)
{
    struct late *l = calloc(1, sizeof *l + op->chunk);

    l->due_ns = due_ns;
    l->offset = op->offset + op->done;
    l->length = op->chunk;
    if (op->kind == IO_WRITE)
        memcpy(l->data, op->data + op->done, op->chunk);
    list_append(&s->late, &l->link);
    if (!s->landing.due_ns)
        loop_timer_set(s->line.remote.loop, &s->landing, due_ns);
}

static void server_cut(struct server *s)
{
    uint64_t due_ns = clock_now_ns() + LATE_MS * MS;

    s->cuts++;
    LIST_FOREACH (node, &s->line.pending) {
        const struct remote_op *op = LIST_ENTRY(node, struct played_op, link)->op;

        if (op->kind == IO_WRITE || op->kind == IO_ZERO || op->kind == IO_TRIM)
            hold_back(s, op, due_ns);
    }
    line_forget(&s->line);
    remote_down(&s->line.remote, "cut");
}

static void answer_fire(struct timer *timer)
{
    struct server *s = CONTAINER_OF(timer, struct server, line.answer);

    while (!list_is_empty(&s->line.pending) && !s->is_silent) {
        struct played_op *x = LIST_ENTRY(s->line.pending.next, struct played_op, link);

        if (s->cut_one_in && line_random(&s->line) % s->cut_one_in == 0) {
            server_cut(s);
            return;
        }
        list_remove(&x->link);
        remote_done(x->op, carry_out(s, x->op));
    }
}

static void up_fire(struct timer *timer)
{
    struct remote_facts facts = line_facts(SIZE);
    struct server *s = CONTAINER_OF(timer, struct server, line.up);

    s->line.is_connected = true;
    remote_up(&s->line.remote, &facts);
}

static void server_connect(struct remote *r)
{
    loop_timer_set(r->loop, &line_of(r)->up, clock_now_ns() + MS / 10);
}

static const struct transport played = {
    .op_bytes = sizeof(struct played_op),
    .connect_timeout_ns = 200 * MS,
    .backoff_ns = MS / 10,
    .connect = server_connect,
    .disconnect = line_disconnect,
    .send = line_send,
};

/* --- set-up ----------------------------------------------------------------------------------- */

static const struct backing_ops ops = {.submit = remote_submit, .status = remote_status};

static struct server *server_open(uint64_t settle_ns, uint32_t seed)
{
    struct backing_spec spec = {.disk = "d"};
    struct server *s = calloc(1, sizeof *s);
    struct err e = {0};

    line_init(&s->line, &played, seed);
    s->line.answer.fire = answer_fire;
    s->line.up.fire = up_fire;
    s->landing.fire = landing_fire;
    list_init(&s->late);
    s->line.remote.settle_ns = settle_ns;
    CHECK_EQ(remote_open(&s->line.remote, &spec, &e), 0);
    s->line.remote.backing.ops = &ops;
    return s;
}

struct order {
    struct server *server;
    void (*how)(struct server *s);
};

static void order_run(void *arg)
{
    struct order *o = arg;

    o->how(o->server);
}

static void server_do(struct server *s, void (*how)(struct server *s))
{
    service_call(s->line.remote.loop, order_run, &(struct order){s, how});
}

static void land_all(struct server *s)
{
    loop_timer_cancel(s->line.remote.loop, &s->landing);
    land(s, true);
}

static void server_close(struct server *s)
{
    server_do(s, land_all);
    remote_close(&s->line.remote);
    remote_destroy(&s->line.remote);
    free(s);
}

static char block[BLOCK];

static int write_block(struct server *s, uint64_t number, uint32_t stamp)
{
    contents_make(block, number * BLOCK, BLOCK, stamp);
    return request_run(&s->line.remote.backing, IO_WRITE, 0, number * BLOCK, BLOCK, block, NULL);
}

static bool block_is(struct server *s, uint64_t number, uint32_t stamp)
{
    return request_run(&s->line.remote.backing, IO_READ, 0, number * BLOCK, BLOCK, block, NULL) ==
               0 &&
           contents_are(block, number * BLOCK, BLOCK, stamp);
}

/* --- tests ------------------------------------------------------------------------------------ */

static void cut_at_next(struct server *s)
{
    s->cut_one_in = 1;
}

static void cut_no_more(struct server *s)
{
    s->cut_one_in = 0;
}

/* The server cuts when it has received the write of `stamp`, until the client was sent away once.
 */
static void *let_it_be_well(void *arg)
{
    struct server *s = arg;
    struct backing_status status = {0};

    while (remote_status(&s->line.remote.backing, &status), status.generation == 0)
        sched_yield();
    server_do(s, cut_no_more);
    return NULL;
}

static void write_that_is_cut(struct server *s, uint64_t number, uint32_t stamp)
{
    pthread_t healer;

    server_do(s, cut_at_next);
    pthread_create(&healer, NULL, let_it_be_well, s);
    CHECK_EQ(write_block(s, number, stamp), 0);
    pthread_join(healer, NULL);
}

static void test_an_old_write_never_lands_on_a_newer_one(void)
{
    struct server *s = server_open(SETTLE_NS, 1);

    CHECK_EQ(write_block(s, 3, 1), 0);
    write_that_is_cut(s, 3, 2);
    CHECK_EQ(write_block(s, 3, 3), 0); /* waits */
    CHECK(s->landed >= 1);
    server_do(s, land_all);
    CHECK(block_is(s, 3, 3));
    server_close(s);
}

static void test_what_does_not_overlap_does_not_wait(void)
{
    struct server *s = server_open(3600 * (1000 * MS), 2);

    write_that_is_cut(s, 3, 2);
    CHECK_EQ(write_block(s, 4, 1), 0);
    CHECK(block_is(s, 4, 1));
    CHECK(block_is(s, 3, 2));
    CHECK_EQ(request_run(&s->line.remote.backing, IO_FLUSH, 0, 0, 0, NULL, NULL), 0);
    server_close(s);
}

struct look {
    struct server *server;
    void *data;
    uint64_t offset, length;
};

static void look_run(void *arg)
{
    struct look *l = arg;

    memcpy(l->data, l->server->bytes + l->offset, l->length);
}

static void read_stable(void *arg, void *data, uint64_t offset, uint64_t length)
{
    struct server *s = arg;

    service_call(s->line.remote.loop, look_run, &(struct look){s, data, offset, length});
}

/* Cut again and again, amid replays too. */
static void test_cut_under_a_load_nothing_old_lands(void)
{
    struct server *s = server_open(SETTLE_NS, 3);
    struct load load = {
        .backing = &s->line.remote.backing,
        .blocks = SIZE / BLOCK,
        .threads = 8,
        .seed = 11,
        .read_stable = read_stable,
        .arg = s,
    };

    s->cut_one_in = 150;
    CHECK(load_run(&load, 2));
    server_do(s, cut_no_more);
    server_do(s, land_all);
    CHECK(load_verify_all(&load));
    CHECK_EQ(load.errors, 0);
    fprintf(stderr, "#   %" PRIu64 " writes, %u cuts, %u landed late\n", load.writes, s->cuts,
            s->landed);
    CHECK(s->cuts > 0 && s->landed > 0);
    free(load.stamp);
    server_close(s);
}

int main(void)
{
    clock_init();
    log_set_level(getenv("VERBOSE") ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR - 1);
    RUN(test_an_old_write_never_lands_on_a_newer_one);
    RUN(test_what_does_not_overlap_does_not_wait);
    RUN(test_cut_under_a_load_nothing_old_lands);
    return unit_result();
}
