/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test-backing-remote: the common part of the remote backings against a server that is only played:
 * it answers out of order, keeps what is not flushed in a cache, and dies in the middle of a load,
 * losing any part of that cache and applying any part of what was under way.  It can fail flushes
 * and writes, be silent, come back smaller or as another one, and have no flush at all.
 *
 * The played server lives in the service loop like a real transport; `stable` is looked at there
 * too.
 */
#include "backing-test.h"
#include "played-line.h"
#include "unit.h"

#define SIZE (2u << 20)
#define NONE UINT32_MAX
#define SECTOR 512

struct server {
    struct played_line line; /* first */
    unsigned char stable[SIZE], cache[SIZE];
    uint64_t change[SIZE / SECTOR]; /* the last one of each sector */
    uint64_t changes;
    struct remote_facts facts;

    unsigned kill_one_in;    /* commands; 0: never */
    unsigned refuse_one_in;  /* attempts */
    bool is_silent;          /* answers nothing */
    bool is_away;            /* no attempt succeeds */
    int flush_error;         /* of the next flushes */
    int change_error;        /* of the next changes */
    bool drops_failed_flush; /* and then believes that all is well */
    unsigned connects, kills, flushes;
};

struct server_op {
    struct played_op received; /* first */
    uint64_t changes; /* what a flush covers: the changes made when it was received, no more */
};

static struct server *server_of(struct remote *r)
{
    return CONTAINER_OF(r, struct server, line.remote);
}

/* --- playing ------------------------------------------------------------------------------------
 */

static void save(struct server *s, uint64_t offset, uint64_t length)
{
    memcpy(s->stable + offset, s->cache + offset, length);
}

static void note_change(struct server *s, uint64_t offset, uint64_t length)
{
    s->changes++;
    for (uint64_t i = offset / SECTOR; i < (offset + length + SECTOR - 1) / SECTOR; i++)
        s->change[i] = s->changes;
}

static void save_through(struct server *s, uint64_t changes)
{
    for (uint64_t i = 0; i < SIZE / SECTOR; i++)
        if (s->change[i] <= changes)
            save(s, i * SECTOR, SECTOR);
}

static int apply(struct server *s, const struct server_op *x)
{
    const struct remote_op *op = x->received.op;
    uint64_t at = op->offset + op->done;

    if (op->kind != IO_FLUSH)
        CHECK(at + op->chunk <= SIZE && op->chunk > 0);
    switch (op->kind) {
    case IO_READ:
        memcpy(op->data + op->done, s->cache + at, op->chunk);
        return 0;
    case IO_WRITE:
    case IO_TRIM:
    case IO_ZERO:
        if (s->change_error)
            return -s->change_error;
        if (op->kind == IO_WRITE)
            memcpy(s->cache + at, op->data + op->done, op->chunk);
        else
            memset(s->cache + at, 0, op->chunk);
        note_change(s, at, op->chunk);
        if (op->flags & IO_FUA)
            save(s, at, op->chunk);
        return 0;
    case IO_FLUSH:
        s->flushes++;
        if (s->flush_error && s->drops_failed_flush)
            return -s->flush_error;
        if (!s->flush_error)
            save_through(s, x->changes);
        return -s->flush_error;
    case IO_EXTENTS:
        extents_add(op->extents, op->chunk, 0);
        return 0;
    case IO_PREFETCH:
        return 0;
    }
    return -EINVAL;
}

static struct server_op *take(struct server *s)
{
    struct list *node = s->line.pending.next;
    unsigned n = 0;

    LIST_FOREACH (counted, &s->line.pending)
        n++;
    for (n = line_random(&s->line) % n; n; n--)
        node = node->next;
    list_remove(node);
    return LIST_ENTRY(node, struct server_op, received.link);
}

/* Any part of the cache may have become stable, any part of what was under way may have arrived. */
static void server_die(struct server *s)
{
    s->kills++;
    LIST_FOREACH (node, &s->line.pending)
        if (line_random(&s->line) & 1 &&
            LIST_ENTRY(node, struct played_op, link)->op->kind == IO_WRITE)
            apply(s, LIST_ENTRY(node, struct server_op, received.link));
    for (uint64_t at = 0; at < SIZE; at += 512)
        if (line_random(&s->line) & 1)
            save(s, at, 512);
    memcpy(s->cache, s->stable, SIZE);
    line_forget(&s->line);
    remote_down(&s->line.remote, "killed");
}

static void answer_fire(struct timer *timer)
{
    struct server *s = CONTAINER_OF(timer, struct server, line.answer);
    unsigned n = 1 + line_random(&s->line) % 8;

    while (n-- && !list_is_empty(&s->line.pending) && !s->is_silent) {
        struct server_op *x;

        if (s->kill_one_in && line_random(&s->line) % s->kill_one_in == 0) {
            server_die(s);
            return;
        }
        x = take(s);
        remote_done(x->received.op, apply(s, x));
    }
    if (!s->is_silent)
        line_arm(&s->line);
}

static void up_fire(struct timer *timer)
{
    struct server *s = CONTAINER_OF(timer, struct server, line.up);

    if (s->is_away || (s->refuse_one_in && line_random(&s->line) % s->refuse_one_in == 0)) {
        remote_down(&s->line.remote, "connection refused");
        return;
    }
    s->line.is_connected = true;
    s->connects++;
    remote_up(&s->line.remote, &s->facts);
}

static void server_connect(struct remote *r)
{
    struct server *s = server_of(r);

    loop_timer_set(r->loop, &s->line.up, clock_now_ns() + line_random(&s->line) % 1000000);
}

static void server_send(struct remote *r, struct remote_op *op)
{
    ((struct server_op *)(void *)op->extra)->changes = server_of(r)->changes;
    line_send(r, op);
}

static const struct transport played = {
    .op_bytes = sizeof(struct server_op),
    .connect_timeout_ns = UINT64_C(200000000),
    .backoff_ns = UINT64_C(1000000),
    .connect = server_connect,
    .disconnect = line_disconnect,
    .send = server_send,
};

/* --- set-up -------------------------------------------------------------------------------------
 */

static struct server *server_new(uint32_t seed)
{
    struct server *s = calloc(1, sizeof *s);

    s->facts = line_facts(SIZE);
    line_init(&s->line, &played, seed);
    s->line.answer.fire = answer_fire;
    s->line.up.fire = up_fire;
    return s;
}

static const struct backing_ops ops = {.submit = remote_submit, .status = remote_status};

static struct backing *server_open(struct server *s, uint64_t reconnect_ns, uint64_t keep_bytes)
{
    struct backing_spec spec = {
        .disk = "d", .reconnect_ns = reconnect_ns, .keep_bytes = keep_bytes};
    struct err e = {0};

    CHECK_EQ(remote_open(&s->line.remote, &spec, &e), 0);
    s->line.remote.backing.ops = &ops;
    return &s->line.remote.backing;
}

static void server_close(struct server *s)
{
    remote_close(&s->line.remote);
    remote_destroy(&s->line.remote);
    free(s);
}

/* Changes how the server plays, or kills it, in the loop. */
struct change {
    struct server *server;
    void (*how)(struct server *s);
};

static void change_run(void *arg)
{
    struct change *c = arg;

    c->how(c->server);
}

static void server_do(struct server *s, void (*how)(struct server *s))
{
    service_call(s->line.remote.loop, change_run, &(struct change){s, how});
}

struct look {
    struct server *server;
    void *data;
    uint64_t offset, length;
};

static void look_run(void *arg)
{
    struct look *l = arg;

    memcpy(l->data, l->server->stable + l->offset, l->length);
}

static void read_stable(void *arg, void *data, uint64_t offset, uint64_t length)
{
    struct server *s = arg;

    service_call(s->line.remote.loop, look_run, &(struct look){s, data, offset, length});
}

static struct backing_status status_of(struct backing *b)
{
    struct backing_status status = {0};

    remote_status(b, &status);
    return status;
}

static void wait_until_connected(struct backing *b, bool is_connected)
{
    uint64_t end_ns = clock_now_ns() + UINT64_C(5000000000);

    while (status_of(b).is_connected != is_connected && clock_now_ns() < end_ns)
        sched_yield();
    CHECK_EQ(status_of(b).is_connected, is_connected);
}

static char block[BLOCK];

static int write_block(struct backing *b, uint64_t number, uint32_t stamp, uint32_t flags)
{
    contents_make(block, number * BLOCK, BLOCK, stamp);
    return request_run(b, IO_WRITE, flags, number * BLOCK, BLOCK, block, NULL);
}

static bool block_is(struct backing *b, uint64_t number, uint32_t stamp)
{
    return request_run(b, IO_READ, 0, number * BLOCK, BLOCK, block, NULL) == 0 &&
           contents_are(block, number * BLOCK, BLOCK, stamp);
}

static bool stable_block_is(struct server *s, uint64_t number, uint32_t stamp)
{
    read_stable(s, block, number * BLOCK, BLOCK);
    return contents_are(block, number * BLOCK, BLOCK, stamp);
}

static int flush(struct backing *b)
{
    return request_run(b, IO_FLUSH, 0, 0, 0, NULL, NULL);
}

static void wait_until_flushed(struct backing *b)
{
    uint64_t end_ns = clock_now_ns() + UINT64_C(5000000000);

    while (flush(b) < 0 && clock_now_ns() < end_ns)
        ;
    CHECK_EQ(flush(b), 0);
}

/* --- loads --------------------------------------------------------------------------------------
 */

static void load_with(struct server *s, uint64_t keep_bytes, double seconds)
{
    struct backing *b = server_open(s, 0, keep_bytes);
    struct load load = {
        .backing = b,
        .blocks = SIZE / BLOCK,
        .threads = 8,
        .seed = s->line.random,
        .read_stable = read_stable,
        .arg = s,
    };

    CHECK(load_run(&load, seconds));
    CHECK(load_verify_all(&load));
    CHECK_EQ(load.errors, 0);
    fprintf(stderr, "#   %" PRIu64 " writes, %" PRIu64 " flushes, %u kills, %" PRIu64 " replayed\n",
            load.writes, load.flushes, s->kills, status_of(b).replayed_writes);
    free(load.stamp);
    server_close(s);
}

static void test_killed_under_load_no_flush_lies(void)
{
    struct server *s = server_new(1);

    s->kill_one_in = 150;
    s->refuse_one_in = 3;
    load_with(s, 0, 2);
}

static void test_without_fua_it_is_write_then_flush(void)
{
    struct server *s = server_new(2);

    s->facts.can_fua = s->facts.can_fua_zero = false;
    s->kill_one_in = 150;
    load_with(s, 0, 1.5);
}

static void test_with_fua_for_writes_only(void)
{
    struct server *s = server_new(21);

    s->facts.can_fua_zero = false;
    s->kill_one_in = 150;
    load_with(s, 0, 1);
}

static void test_a_small_bound_makes_flushes_of_its_own(void)
{
    struct server *s = server_new(3);

    s->kill_one_in = 300;
    load_with(s, 64 << 10, 1.5);
}

static void test_a_bound_below_one_request_does_not_stall(void)
{
    struct server *s = server_new(4);

    s->kill_one_in = 300;
    load_with(s, 1, 1);
}

/* --- one thing at a time ------------------------------------------------------------------------
 */

static void die(struct server *s)
{
    server_die(s);
}

static void lose_all(struct server *s)
{
    memcpy(s->cache, s->stable, SIZE);
    line_forget(&s->line);
    remote_down(&s->line.remote, "killed");
}

static void go_away(struct server *s)
{
    s->is_away = true;
    lose_all(s);
}

static void come_back(struct server *s)
{
    s->is_away = false;
}

static void test_unflushed_writes_come_back_in_order(void)
{
    struct server *s = server_new(5);
    struct backing *b = server_open(s, 0, 0);

    CHECK_EQ(write_block(b, 7, 1, 0), 0);
    CHECK_EQ(write_block(b, 7, 2, 0), 0);
    CHECK_EQ(request_run(b, IO_ZERO, IO_NO_HOLE, 8 * BLOCK, BLOCK, NULL, NULL), 0);
    CHECK_EQ(write_block(b, 7, 3, 0), 0);
    server_do(s, lose_all);
    CHECK(block_is(b, 7, 3));
    CHECK_EQ(status_of(b).replayed_writes, 4);
    CHECK_EQ(status_of(b).reconnects, 1);
    CHECK_EQ(status_of(b).generation, 1);
    CHECK(!stable_block_is(s, 7, 3));
    CHECK_EQ(flush(b), 0);
    CHECK(stable_block_is(s, 7, 3));
    server_do(s, lose_all);
    CHECK(block_is(b, 7, 3));
    CHECK_EQ(status_of(b).replayed_writes, 4);
    server_close(s);
}

static void test_an_older_record_does_not_cover_a_fua_write(void)
{
    struct server *s = server_new(6);
    struct backing *b = server_open(s, 0, 0);

    CHECK_EQ(write_block(b, 7, 1, 0), 0);
    CHECK_EQ(write_block(b, 7, 2, IO_FUA), 0);
    CHECK(stable_block_is(s, 7, 2));
    server_do(s, lose_all);
    CHECK(block_is(b, 7, 2));
    CHECK_EQ(flush(b), 0);
    CHECK(stable_block_is(s, 7, 2));
    server_close(s);
}

static void test_a_lone_fua_write_needs_no_copy(void)
{
    struct server *s = server_new(7);
    struct backing *b = server_open(s, 0, 0);

    CHECK_EQ(write_block(b, 7, 2, IO_FUA), 0);
    server_do(s, lose_all);
    CHECK(block_is(b, 7, 2));
    CHECK_EQ(status_of(b).replayed_writes, 0);
    server_close(s);
}

static void fail_flushes(struct server *s)
{
    s->flush_error = EIO;
    s->drops_failed_flush = true;
}

static void heal(struct server *s)
{
    s->flush_error = s->change_error = 0;
}

static void test_a_failed_flush_is_sticky_until_reopened(void)
{
    struct server *s = server_new(8);
    struct backing *b = server_open(s, 0, 0);
    struct err e = {0};

    CHECK_EQ(write_block(b, 3, 1, 0), 0);
    server_do(s, fail_flushes);
    CHECK_EQ(flush(b), -EIO);
    server_do(s, heal);
    CHECK_EQ(flush(b), -EIO);
    CHECK_EQ(write_block(b, 4, 1, IO_FUA), -EIO);
    CHECK_EQ(write_block(b, 5, 1, 0), 0);
    CHECK_EQ(status_of(b).sticky_error, EIO);
    server_do(s, lose_all);
    CHECK_EQ(flush(b), -EIO);
    CHECK_EQ(remote_reopen(b, &e), 0);
    CHECK_EQ(status_of(b).sticky_error, 0);
    CHECK(stable_block_is(s, 3, 1));
    CHECK(stable_block_is(s, 5, 1));
    CHECK_EQ(flush(b), 0);
    server_close(s);
}

static void test_a_reopening_whose_flush_fails_says_so(void)
{
    struct server *s = server_new(9);
    struct backing *b = server_open(s, 0, 0);
    struct err e = {0};

    CHECK_EQ(write_block(b, 3, 1, 0), 0);
    server_do(s, fail_flushes);
    CHECK_EQ(flush(b), -EIO);
    CHECK_EQ(remote_reopen(b, &e), -EIO);
    CHECK_EQ(flush(b), -EIO);
    CHECK(block_is(b, 3, 1));
    server_close(s);
}

static void test_with_a_sticky_error_a_full_list_fails_writes(void)
{
    struct server *s = server_new(10);
    struct backing *b = server_open(s, 0, 4 * BLOCK);
    int rc = 0;

    server_do(s, fail_flushes);
    for (int i = 0; i < 10 && rc == 0; i++)
        rc = write_block(b, (uint64_t)i, 1, 0);
    CHECK_EQ(rc, -EIO);
    CHECK(block_is(b, 0, 1));
    server_close(s);
}

static void fail_changes(struct server *s)
{
    lose_all(s);
    s->change_error = ENOSPC;
}

static void test_a_replay_that_fails_is_sticky(void)
{
    struct server *s = server_new(11);
    struct backing *b = server_open(s, 0, 0);
    struct err e = {0};

    CHECK_EQ(write_block(b, 3, 1, 0), 0);
    server_do(s, fail_changes);
    CHECK_EQ(flush(b), -ENOSPC);
    CHECK_EQ(status_of(b).sticky_error, ENOSPC);
    server_do(s, heal);
    CHECK_EQ(flush(b), -ENOSPC);
    CHECK_EQ(remote_reopen(b, &e), 0);
    CHECK(stable_block_is(s, 3, 1));
    CHECK_EQ(flush(b), 0);
    server_close(s);
}

static void test_after_the_deadline_requests_fail_but_nothing_is_forgotten(void)
{
    struct server *s = server_new(12);
    struct backing *b = server_open(s, 50000000, 0);
    uint64_t before_ns;

    CHECK_EQ(write_block(b, 3, 1, 0), 0);
    server_do(s, go_away);
    before_ns = clock_now_ns();
    CHECK_EQ(flush(b), -EIO);
    CHECK(clock_now_ns() - before_ns >= 50000000);
    CHECK(clock_now_ns() - before_ns < 1000000000);
    CHECK_EQ(write_block(b, 4, 1, 0), -EIO);
    CHECK(!block_is(b, 3, 1));
    CHECK(strstr(status_of(b).sentence, "lost play (killed), retrying since ") ||
          strstr(status_of(b).sentence, "lost play (connection refused), retrying since "));
    CHECK(!status_of(b).is_connected);
    server_do(s, come_back);
    wait_until_connected(b, true);
    CHECK(block_is(b, 3, 1));
    CHECK_EQ(flush(b), 0);
    CHECK(stable_block_is(s, 3, 1));
    CHECK_STR(status_of(b).sentence, "connected to play");
    server_close(s);
}

static void be_silent(struct server *s)
{
    s->is_silent = true;
}

static void speak(struct server *s)
{
    s->is_silent = false;
    line_arm(&s->line);
}

static void test_a_silent_server_is_left_at_the_deadline(void)
{
    struct server *s = server_new(13);
    struct backing *b = server_open(s, 50000000, 0);

    CHECK_EQ(write_block(b, 3, 1, 0), 0);
    server_do(s, be_silent);
    CHECK(!block_is(b, 3, 1));
    CHECK(status_of(b).generation >= 1);
    server_do(s, speak);
    wait_until_flushed(b);
    CHECK(stable_block_is(s, 3, 1));
    server_close(s);
}

static void shrink(struct server *s)
{
    s->facts.size_bytes = SIZE / 2;
    lose_all(s);
}

static void change_identity(struct server *s)
{
    snprintf(s->facts.identity, sizeof s->facts.identity, "naa.2");
    lose_all(s);
}

static void lose_zero(struct server *s)
{
    s->facts.can_zero = false;
    lose_all(s);
}

static void expect_refusal(uint32_t seed, void (*how)(struct server *), const char *words)
{
    struct server *s = server_new(seed);
    struct backing *b;
    struct err e = {0};

    snprintf(s->facts.identity, sizeof s->facts.identity, "naa.1");
    b = server_open(s, 0, 0);
    CHECK_EQ(write_block(b, 3, 1, 0), 0);
    server_do(s, how);
    CHECK(!block_is(b, 3, 1));
    CHECK_EQ(write_block(b, 3, 1, 0), -EIO);
    CHECK_EQ(flush(b), -EIO);
    CHECK(!status_of(b).is_connected);
    CHECK(strstr(status_of(b).sentence, words) != NULL);
    CHECK_EQ(remote_reopen(b, &e), -EIO);
    s->facts = line_facts(SIZE);
    snprintf(s->facts.identity, sizeof s->facts.identity, "naa.1");
    CHECK_EQ(remote_reopen(b, &e), 0);
    CHECK(stable_block_is(s, 3, 1));
    server_close(s);
}

static void test_what_comes_back_different_is_refused(void)
{
    expect_refusal(14, shrink, "it came back with 1048576 bytes instead of 2097152");
    expect_refusal(15, change_identity, "another disk is in its place");
    expect_refusal(16, lose_zero, "it came back without writing zeros");
}

static void grow(struct server *s)
{
    s->facts.size_bytes = SIZE + 4096;
}

static void test_refresh_finds_the_new_size(void)
{
    struct server *s = server_new(17);
    struct backing *b = server_open(s, 0, 0);
    struct err e = {0};

    CHECK_EQ(write_block(b, 3, 1, 0), 0);
    server_do(s, grow);
    CHECK_EQ(remote_refresh(b, &e), 0);
    CHECK_EQ(b->info.size_bytes, SIZE + 4096);
    CHECK(block_is(b, 3, 1));
    CHECK_EQ(flush(b), 0);
    server_close(s);
}

static void test_without_flush_the_loss_of_the_forgotten_is_told(void)
{
    struct server *s = server_new(18);
    struct backing *b;

    s->facts.can_flush = s->facts.can_fua = s->facts.can_fua_zero = false;
    b = server_open(s, 0, 4 * BLOCK);
    CHECK(b->info.can_flush);
    CHECK(!b->info.can_fua);
    CHECK_EQ(write_block(b, 0, 1, 0), 0);
    server_do(s, lose_all);
    CHECK(block_is(b, 0, 1));
    CHECK_EQ(flush(b), 0);
    for (uint32_t i = 0; i < 10; i++)
        CHECK_EQ(write_block(b, i, 2, 0), 0);
    CHECK_EQ(flush(b), 0);
    server_do(s, lose_all);
    CHECK(block_is(b, 9, 2));
    CHECK_EQ(flush(b), -EIO);
    server_close(s);
}

static void test_a_server_that_is_not_there_is_an_error(void)
{
    struct server *s = server_new(19);
    struct backing_spec spec = {.disk = "d"};
    struct err e = {0};

    s->is_away = true;
    CHECK_EQ(remote_open(&s->line.remote, &spec, &e), -ENOTCONN);
    CHECK_STR(e.text, "play: connection refused");
    remote_destroy(&s->line.remote);
    free(s);
}

static void test_what_the_server_cannot_is_not_sent(void)
{
    struct server *s = server_new(20);
    struct backing *b = server_open(s, 0, 0);
    struct extents x = {0};

    CHECK_EQ(request_run(b, IO_ZERO, IO_FAST_ONLY, 0, BLOCK, NULL, NULL), -EOPNOTSUPP);
    extents_reset(&x, 0, SIZE);
    CHECK_EQ(request_run(b, IO_EXTENTS, 0, 0, SIZE, NULL, &x), 0);
    CHECK_EQ(x.covered, 65536);
    extents_free(&x);
    server_do(s, die);
    CHECK_EQ(request_run(b, IO_PREFETCH, 0, 0, SIZE, NULL, NULL), 0);
    server_close(s);
}

int main(void)
{
    clock_init();
    log_set_level(getenv("VERBOSE") ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR - 1);
    RUN(test_unflushed_writes_come_back_in_order);
    RUN(test_an_older_record_does_not_cover_a_fua_write);
    RUN(test_a_lone_fua_write_needs_no_copy);
    RUN(test_a_failed_flush_is_sticky_until_reopened);
    RUN(test_a_reopening_whose_flush_fails_says_so);
    RUN(test_with_a_sticky_error_a_full_list_fails_writes);
    RUN(test_a_replay_that_fails_is_sticky);
    RUN(test_after_the_deadline_requests_fail_but_nothing_is_forgotten);
    RUN(test_a_silent_server_is_left_at_the_deadline);
    RUN(test_what_comes_back_different_is_refused);
    RUN(test_refresh_finds_the_new_size);
    RUN(test_without_flush_the_loss_of_the_forgotten_is_told);
    RUN(test_a_server_that_is_not_there_is_an_error);
    RUN(test_what_the_server_cannot_is_not_sent);
    RUN(test_killed_under_load_no_flush_lies);
    RUN(test_without_fua_it_is_write_then_flush);
    RUN(test_with_fua_for_writes_only);
    RUN(test_a_small_bound_makes_flushes_of_its_own);
    RUN(test_a_bound_below_one_request_does_not_stall);
    return unit_result();
}
