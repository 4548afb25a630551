/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test-home: tasks reach their home in order, once, and no wake-up is ever lost.
 *
 * A lost wake-up shows as a hang; the alarm turns it into a failure.  Built with the thread
 * sanitizer the same rounds prove the inbox and the reuse of homes free of races.
 */
#include "io/io.h"
#include "unit.h"

#include <sched.h>
#include <unistd.h>

/* --- order ------------------------------------------------------------------------------- */

#define POSTERS 4
#define POSTS 5000

struct numbered {
    struct task task;
    unsigned poster, serial;
};

static struct numbered numbered[POSTERS][POSTS];
static unsigned next_serial[POSTERS], numbered_run;
static bool all_run;
static struct home *target;

static void run_numbered(struct task *task)
{
    struct numbered *n = CONTAINER_OF(task, struct numbered, task);

    CHECK(home_current() == target);
    CHECK_EQ(n->serial, next_serial[n->poster]);
    next_serial[n->poster]++;
    if (++numbered_run == POSTERS * POSTS)
        all_run = true;
}

static void *post_numbered(void *arg)
{
    struct numbered *list = arg;

    for (unsigned i = 0; i < POSTS; i++)
        home_post(target, &list[i].task);
    return NULL;
}

static void test_tasks_of_a_poster_run_in_order(void)
{
    pthread_t threads[POSTERS];

    target = home_current();
    for (unsigned p = 0; p < POSTERS; p++) {
        for (unsigned i = 0; i < POSTS; i++)
            numbered[p][i] = (struct numbered){{NULL, run_numbered}, p, i};
        pthread_create(&threads[p], NULL, post_numbered, numbered[p]);
    }
    home_wait(target, &all_run);
    for (unsigned p = 0; p < POSTERS; p++)
        pthread_join(threads[p], NULL);
    CHECK_EQ(numbered_run, POSTERS * POSTS);
}

/* --- no recursion ------------------------------------------------------------------------ */

static struct task chained;
static unsigned chain_left, chain_depth, chain_deepest;

static void run_chained(struct task *task)
{
    chain_depth++;
    chain_deepest = MAX(chain_deepest, chain_depth);
    if (--chain_left > 0) {
        if (chain_left % 2)
            home_run_later(home_current(), task);
        else
            home_post(home_current(), task);
        home_drain(home_current()); /* an inner frame: does nothing */
    }
    chain_depth--;
}

static void test_nothing_recurses(void)
{
    chained.run = run_chained;
    chain_left = 100000;
    home_run_later(home_current(), &chained);
    home_drain(home_current());
    CHECK_EQ(chain_left, 0);
    CHECK_EQ(chain_deepest, 1);
}

/* --- lost wake-ups ----------------------------------------------------------------------- */

#define ROUNDS 20000

struct volley {
    struct home *a, *b;
    _Atomic unsigned ready;
    struct task to_b, to_a;
    unsigned rounds;
    bool a_done, b_done;
    int watched; /* nothing comes from it; -1: none */
};

static void wait_in_volley(const struct volley *v, struct home *home, const bool *done)
{
    while (v->watched >= 0 && !*done)
        home_wait_watching(home, done, v->watched);
    home_wait(home, done);
}

static void hit_back(struct task *task)
{
    struct volley *v = CONTAINER_OF(task, struct volley, to_b);

    if (++v->rounds == ROUNDS)
        v->b_done = true;
    home_post(v->a, &v->to_a);
}

static void serve(struct task *task)
{
    struct volley *v = CONTAINER_OF(task, struct volley, to_a);

    if (v->rounds == ROUNDS)
        v->a_done = true;
    else
        home_post(v->b, &v->to_b);
}

static void *be_b(void *arg)
{
    struct volley *v = arg;

    v->b = home_current();
    atomic_store(&v->ready, 1);
    wait_in_volley(v, v->b, &v->b_done);
    return NULL;
}

static void *be_a(void *arg)
{
    struct volley *v = arg;
    pthread_t partner;

    v->a = home_current();
    v->to_a.run = serve;
    v->to_b.run = hit_back;
    pthread_create(&partner, NULL, be_b, v);
    while (!atomic_load(&v->ready))
        sched_yield();
    home_post(v->a, &v->to_a);
    wait_in_volley(v, v->a, &v->a_done);
    pthread_join(partner, NULL);
    return NULL;
}

static void test_no_wakeup_is_lost_in_a_volley(void)
{
    static struct volley volleys[4];
    pthread_t threads[4];
    int ends[2];

    CHECK_EQ(pipe(ends), 0);
    for (int i = 0; i < 4; i++) {
        volleys[i].watched = i < 2 ? -1 : ends[0];
        pthread_create(&threads[i], NULL, be_a, &volleys[i]);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        CHECK_EQ(volleys[i].rounds, ROUNDS);
    }
    close(ends[0]);
    close(ends[1]);
}

/* --- what else may end a wait ------------------------------------------------------------- */

struct late {
    struct task task;
    bool is_done;
};

static void be_done(struct task *task)
{
    CONTAINER_OF(task, struct late, task)->is_done = true;
}

static void test_a_wait_ends_with_what_is_watched(void)
{
    struct home *home = home_current();
    struct late late = {.task.run = be_done};
    int ends[2];

    CHECK_EQ(pipe(ends), 0);
    CHECK_EQ(write(ends[1], "", 1), 1);
    home_wait_watching(home, &late.is_done, ends[0]);
    CHECK(!late.is_done);
    home_post(home, &late.task);
    home_wait_watching(home, &late.is_done, ends[0]);
    CHECK(late.is_done);
    late.is_done = false;
    CHECK_EQ(read(ends[0], &(char){0}, 1), 1);
    close(ends[1]); /* hung up */
    home_wait_watching(home, &late.is_done, ends[0]);
    CHECK(!late.is_done);
    close(ends[0]);
}

struct chain {
    struct task first, second;
    struct home *home;
    bool was_hurried, is_done;
};

static void end_chain(struct task *task)
{
    CONTAINER_OF(task, struct chain, second)->is_done = true;
}

static void put_off_the_rest(struct task *task)
{
    struct chain *c = CONTAINER_OF(task, struct chain, first);

    c->was_hurried = c->home->is_hurried;
    home_put_off(c->home, &c->second);
}

/* What is short runs, until it comes to what may block. */
static void test_the_rest_is_put_off_while_watching(void)
{
    struct chain c = {
        .first.run = put_off_the_rest, .second.run = end_chain, .home = home_current()};
    int ends[2];

    CHECK_EQ(pipe(ends), 0);
    home_run_later(c.home, &c.first);
    home_wait_watching(c.home, &c.is_done, ends[0]);
    CHECK(c.was_hurried && !c.is_done && !c.home->is_hurried);
    home_wait_watching(c.home, &c.is_done, ends[0]); /* nor now */
    CHECK(!c.is_done);
    home_wait_helping(c.home, &c.is_done);
    CHECK(c.is_done);
    close(ends[0]);
    close(ends[1]);
}

static void test_what_may_block_is_not_begun_while_watching(void)
{
    struct home *home = home_current();
    struct late late = {.task.run = be_done};
    int ends[2];

    CHECK_EQ(pipe(ends), 0);
    home_put_off(home, &late.task);
    home_wait_watching(home, &late.is_done, ends[0]);
    CHECK(!late.is_done && !home->is_hurried);
    home_wait(home, &late.is_done);
    CHECK(late.is_done);
    close(ends[0]);
    close(ends[1]);
}

/* --- the end of a home ------------------------------------------------------------------- */

#define SHORT_LIVES 2000

static _Atomic unsigned hooks_run;
static _Atomic(struct home *) waiting_home;
static _Atomic unsigned lives_ended;

static void count_exit(struct home *home)
{
    CHECK(home == home_current_or_null());
    atomic_fetch_add(&hooks_run, 1);
}

struct last_words {
    struct task task;
    bool done;
};

static struct last_words last_words[SHORT_LIVES];

static void say_last_words(struct task *task)
{
    CONTAINER_OF(task, struct last_words, task)->done = true;
}

static void *live_shortly(void *arg)
{
    struct last_words *words = arg;

    atomic_store(&waiting_home, home_current());
    home_wait(home_current(), &words->done);
    atomic_fetch_add(&lives_ended, 1);
    return NULL;
}

/* Its look at `sleeping` comes when the home may already be another's. */
static void *post_last_words(void *arg)
{
    struct home *home;
    (void)arg;

    for (unsigned i = 0; i < SHORT_LIVES; i++) {
        while (!(home = atomic_exchange(&waiting_home, NULL)))
            sched_yield();
        home_post(home, &last_words[i].task);
    }
    return NULL;
}

static void count_home(struct home *home, void *arg)
{
    (void)home;
    ++*(unsigned *)arg;
}

static void test_a_home_may_end_right_after_its_last_task(void)
{
    unsigned before = 0, after = 0;
    pthread_t poster, thread;

    home_set_exit_hook(count_exit);
    home_for_each(count_home, &before);
    pthread_create(&poster, NULL, post_last_words, NULL);
    for (unsigned i = 0; i < SHORT_LIVES; i++) {
        last_words[i].task.run = say_last_words;
        pthread_create(&thread, NULL, live_shortly, &last_words[i]);
        pthread_join(thread, NULL);
    }
    pthread_join(poster, NULL);
    home_for_each(count_home, &after);
    home_set_exit_hook(NULL);
    CHECK_EQ(after, before);
    CHECK_EQ(hooks_run, SHORT_LIVES);
    CHECK_EQ(lives_ended, SHORT_LIVES);
}

static struct last_words unread_words;

static void *leave_task_behind(void *arg)
{
    (void)arg;
    unread_words.task.run = say_last_words;
    home_run_later(home_current(), &unread_words.task);
    return NULL;
}

static void test_what_was_posted_runs_before_the_home_ends(void)
{
    pthread_t thread;

    pthread_create(&thread, NULL, leave_task_behind, NULL);
    pthread_join(thread, NULL);
    CHECK(unread_words.done);
}

int main(void)
{
    alarm(100);
    CHECK(home_current_or_null() == NULL);
    CHECK(home_current() != NULL);
    CHECK(home_current_or_null() == home_current());
    CHECK_EQ(home_current()->kind, HOME_WORKER);
    RUN(test_tasks_of_a_poster_run_in_order);
    RUN(test_nothing_recurses);
    RUN(test_no_wakeup_is_lost_in_a_volley);
    RUN(test_a_wait_ends_with_what_is_watched);
    RUN(test_what_may_block_is_not_begun_while_watching);
    RUN(test_the_rest_is_put_off_while_watching);
    RUN(test_a_home_may_end_right_after_its_last_task);
    RUN(test_what_was_posted_runs_before_the_home_ends);
    return unit_result();
}
