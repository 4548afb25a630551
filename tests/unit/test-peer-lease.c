/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test-peer-lease: threads that send and wait for the answer, as a synchronous write does, on two
 * gateways with real TLS: who waits alone receives it itself, and what is not for it is told where
 * it always is, in time, once and in order, whatever happens to the connection meanwhile.
 */
#include "io/io.h"
#include "peer-fixture.h"

/* One who sends and waits. */
struct asker {
    struct ear ear;    /* of gw-a */
    struct ear echo;   /* of gw-b: answers */
    struct home *home; /* of who waits */
    struct task task;  /* sets is_done there */
    bool is_done;
    _Atomic bool is_asking;
    _Atomic unsigned told_here, told_elsewhere;
    _Atomic uint64_t sent;
    _Atomic bool is_silent; /* gw-b does not answer */
};

static struct asker *asker_of(struct ear *ear)
{
    return CONTAINER_OF(ear, struct asker, ear);
}

static void set_done(struct task *task)
{
    CONTAINER_OF(task, struct asker, task)->is_done = true;
}

static void wake(struct asker *a)
{
    if (!atomic_exchange(&a->is_asking, false))
        return;
    a->task.run = set_done;
    home_post(a->home, &a->task);
}

static void on_answer(struct ear *ear, const void *data, size_t length)
{
    struct asker *a = asker_of(ear);

    in_order(ear, data, length);
    if (home_current_or_null() == a->home)
        a->told_here++;
    else
        a->told_elsewhere++;
    wake(a);
}

static void answer(struct ear *ear, const void *data, size_t length)
{
    in_order(ear, data, length);
    if (!CONTAINER_OF(ear, struct asker, echo)->is_silent)
        ear->wrong += peer_channel_send(ear->channel, data, length) != 0;
}

static void asker_open(struct asker *a, struct pair *p, const char *key)
{
    *a = (struct asker){.ear.message = on_answer, .echo.message = answer};
    ear_open(&a->ear, &p->a, key);
    ear_open(&a->echo, &p->b, key);
    WAIT_FOR(a->ear.connected && a->echo.connected);
}

static void asker_close(struct asker *a)
{
    peer_channel_close(a->ear.channel);
    peer_channel_close(a->echo.channel);
    CHECK_EQ(a->ear.wrong + a->echo.wrong, 0);
}

/* False: it could not be sent. */
static bool begin_to_ask(struct asker *a)
{
    uint64_t number = a->sent;

    a->home = home_current();
    a->home->help = NULL;
    a->is_done = false;
    atomic_store(&a->is_asking, true);
    if (peer_channel_queue(a->ear.channel, &number, sizeof number, NULL, 0) < 0)
        return false;
    a->sent++;
    peer_channel_flush(a->ear.channel, false);
    return true;
}

static bool ask(struct asker *a)
{
    bool is_sent = begin_to_ask(a);

    if (is_sent)
        home_wait_helping(a->home, &a->is_done);
    return is_sent;
}

/* Until the thread that waits has been told itself: it is leased, for some time from then on. */
static void ask_until_leased(struct asker *a)
{
    uint64_t until_ns = clock_now_ns() + PATIENCE_NS;
    unsigned told = a->told_here;

    while (a->told_here == told && clock_now_ns() < until_ns)
        CHECK(ask(a));
    CHECK(a->told_here > told);
}

/* Who waits for either: no answer is lost, whatever comes first. */
static void test_who_waits_may_watch_something_else(void)
{
    struct pair p = pair_open(1, 0);
    struct asker a;
    int ends[2];
    char byte;

    CHECK_EQ(pipe(ends), 0);
    asker_open(&a, &p, "d:disk");
    for (unsigned i = 0; i < 400; i++) {
        bool comes_at_once = i % 3 == 0;

        if (comes_at_once)
            CHECK_EQ(write(ends[1], "", 1), 1);
        CHECK(begin_to_ask(&a));
        home_wait_watching(a.home, &a.is_done, ends[0]);
        CHECK(a.is_done || comes_at_once);
        home_wait_helping(a.home, &a.is_done);
        if (comes_at_once)
            CHECK_EQ(read(ends[0], &byte, 1), 1);
    }
    WAIT_FOR(a.ear.messages == a.sent);
    asker_close(&a);
    pair_close(&p);
    close(ends[0]);
    close(ends[1]);
}

static void test_who_waits_alone_is_told_in_its_own_thread(void)
{
    struct pair p = pair_open(1, 0);
    struct asker a;

    asker_open(&a, &p, "d:disk");
    CHECK(ask(&a));
    CHECK_EQ(a.told_here, 0); /* not before some have waited alone */
    ask_until_leased(&a);
    WAIT_FOR(a.ear.messages == a.sent);
    asker_close(&a);
    pair_close(&p);
}

/* --- others --------------------------------------------------------------------------------- */

static _Atomic unsigned told_to_a_worker;

static void in_its_loop(struct ear *ear, const void *data, size_t length)
{
    struct home *home = home_current_or_null();

    told_to_a_worker += !home || home->kind != HOME_LOOP;
    in_order(ear, data, length);
}

/* They come while the other is leased, whether somebody receives just then or not. */
static void test_other_channels_are_told_in_their_loop(void)
{
    struct pair p = pair_open(1, 0);
    struct asker a;
    struct ear c = {.message = in_its_loop}, d = {.message = NULL};

    asker_open(&a, &p, "d:disk");
    ear_open(&c, &p.a, "d:other");
    ear_open(&d, &p.b, "d:other");
    WAIT_FOR(c.connected && d.connected);
    for (uint64_t number = 0; number < 100; number++) {
        ask_until_leased(&a);
        CHECK_EQ(send_patiently(&d, &number, sizeof number), 0);
        if (number % 2)
            CHECK(ask(&a));
        WAIT_FOR(c.messages == number + 1);
    }
    CHECK_EQ(told_to_a_worker, 0);
    CHECK_EQ(c.wrong + d.wrong, 0);
    asker_close(&a);
    peer_channel_close(c.channel);
    peer_channel_close(d.channel);
    pair_close(&p);
}

#define ASKERS 6u

static _Atomic bool must_stop;

static void *keep_asking(void *arg)
{
    struct asker *a = arg;

    while (!must_stop)
        if (!ask(a))
            pause_briefly(); /* between one connection and the next */
    return NULL;
}

static struct asker askers[ASKERS];

static void begin_askers(struct pair *p, pthread_t threads[ASKERS], unsigned count)
{
    must_stop = false;
    for (unsigned i = 0; i < count; i++) {
        char key[20];

        snprintf(key, sizeof key, "d:disk-%u", i);
        asker_open(&askers[i], p, key);
    }
    for (unsigned i = 0; i < count; i++)
        pthread_create(&threads[i], NULL, keep_asking, &askers[i]);
}

static void end_askers(pthread_t threads[ASKERS], unsigned count)
{
    must_stop = true;
    for (unsigned i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    for (unsigned i = 0; i < count; i++) {
        WAIT_FOR(askers[i].ear.messages == askers[i].sent); /* counted after it was told */
        asker_close(&askers[i]);
    }
}

/* None of them waits longer than its answer takes: between two who wait alone, and all at once. */
static void test_many_who_wait_are_all_answered(void)
{
    struct pair p = pair_open(2, 0);
    pthread_t threads[ASKERS];
    struct asker lonely;

    asker_open(&lonely, &p, "d:lonely");
    for (unsigned count = 1; count <= ASKERS; count++) {
        ask_until_leased(&lonely);
        begin_askers(&p, threads, count);
        for (unsigned i = 0; i < count; i++)
            WAIT_FOR(askers[i].ear.messages > 500);
        end_askers(threads, count);
    }
    asker_close(&lonely);
    pair_close(&p);
}

/* --- what happens to the connection --------------------------------------------------------- */

static void test_certificates_and_keys_are_renewed_under_who_waits(void)
{
    struct pair p = pair_open(1, 7);
    pthread_t threads[ASKERS];
    struct err e = {0};

    begin_askers(&p, threads, 1);
    for (unsigned i = 1; i <= 6; i++) {
        unsigned told = askers[0].told_here;

        make_certificate("gw-a", "ca", "gw-a");
        make_certificate("gw-b", "ca", "gw-b");
        WAIT_FOR(askers[0].told_here > told + 100); /* it is leased */
        CHECK_EQ(peers_renew(i % 2 ? p.a.peers : p.b.peers, &e), 0);
        WAIT_FOR(look_at(&p.a, "gw-b").view.renewals >= i &&
                 look_at(&p.b, "gw-a").view.renewals >= i);
    }
    WAIT_FOR(look_at(&p.a, "gw-b").view.rekeys > 10);
    end_askers(threads, 1);
    CHECK_EQ(look_at(&p.a, "gw-b").view.losses, 0);
    pair_close(&p);
}

static void *ask_once(void *arg)
{
    CHECK(ask(arg));
    return NULL;
}

static void lost(void *context, const char *reason)
{
    ear_lost(context, reason);
    wake(asker_of(context));
}

/* There is no answer. */
static void test_who_waits_hears_that_the_peer_is_lost(void)
{
    static const struct peer_channel_handlers handlers = {ear_connected, ear_message, ear_writable,
                                                          lost, ear_caught_up};
    struct peers_settings settings = settings_of("gw-b", "gw-b");
    struct pair p = pair_open(1, 0);
    struct asker a = {.ear.message = on_answer};
    struct err e = {0};

    must(peer_channel_open(p.a.peers, NULL, "d:disk", &handlers, &a.ear, &a.ear.channel, &e), &e);
    peer_channel_start(a.ear.channel);
    for (unsigned i = 1; i <= 5; i++) {
        pthread_t thread;
        uint64_t sent;

        a.is_silent = false;
        a.echo = (struct ear){.message = answer};
        a.sent = 0;
        ear_open(&a.echo, &p.b, "d:disk");
        WAIT_FOR(a.ear.connected == i && a.echo.connected == 1);
        ask_until_leased(&a);
        sent = a.sent;
        a.is_silent = true;
        pthread_create(&thread, NULL, ask_once, &a);
        WAIT_FOR(a.echo.messages == sent + 1);
        peer_channel_close(a.echo.channel);
        gate_close(&p.b);
        pthread_join(thread, NULL);
        CHECK_EQ(a.ear.lost, i);
        p.b = gate_open(&settings, p.b.port);
        gate_knows(&p.b, "gw-a", p.a.port);
    }
    CHECK_EQ(a.ear.wrong, 0);
    peer_channel_close(a.ear.channel);
    pair_close(&p);
}

/* What is posted to who waits runs at once, also while it sleeps on the socket. */
static void *wake_later(void *arg)
{
    struct asker *a = arg;

    while (a->echo.messages < a->sent || !home_is_asleep(a->home))
        pause_briefly();
    wake(a);
    return NULL;
}

static void test_who_waits_is_woken_by_what_is_posted(void)
{
    struct pair p = pair_open(1, 0);
    struct asker a;

    asker_open(&a, &p, "d:disk");
    for (unsigned i = 0; i < 20; i++) {
        pthread_t thread;
        uint64_t number;

        ask_until_leased(&a);
        number = a.sent;
        a.is_silent = true;
        CHECK(begin_to_ask(&a));
        pthread_create(&thread, NULL, wake_later, &a);
        home_wait_helping(a.home, &a.is_done);
        pthread_join(thread, NULL);
        a.is_silent = false;
        CHECK_EQ(peer_channel_send(a.echo.channel, &number, sizeof number), 0);
        WAIT_FOR(a.ear.messages == a.sent);
    }
    asker_close(&a);
    pair_close(&p);
}

int main(void)
{
    fixture_begin();
    RUN(test_who_waits_alone_is_told_in_its_own_thread);
    RUN(test_who_waits_may_watch_something_else);
    RUN(test_other_channels_are_told_in_their_loop);
    RUN(test_many_who_wait_are_all_answered);
    RUN(test_certificates_and_keys_are_renewed_under_who_waits);
    RUN(test_who_waits_hears_that_the_peer_is_lost);
    RUN(test_who_waits_is_woken_by_what_is_posted);
    return fixture_end();
}
