/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * kit-load.c: requests at random, from the two kinds of thread that a gateway has: workers, which
 * sleep for one request at a time, and a loop, which keeps several in flight and must never wait.
 * Each client has a slice of the disk to itself, so it knows what is in it.
 */
#include "kit.h"

#include <errno.h>
#include <string.h>

#define WORKERS 2u
#define SLOTS 4u
#define CLIENTS (WORKERS + SLOTS)
#define BYTES_MAX (64u << 10)

struct client {
    struct kit_load *load;
    struct kit_slice slice;
    struct kit_op op;
    uint8_t data[BYTES_MAX];
    pthread_t thread;  /* workers */
    struct task begin; /* slots of the loop */
    _Atomic uint64_t done;
};

struct kit_load {
    struct kit_model *model;
    struct loop *loop;
    _Atomic bool must_stop;
    struct client client[CLIENTS];
    pthread_mutex_t mutex;
    pthread_cond_t ended;
    unsigned running; /* slots; under the mutex */
};

/* --- workers -------------------------------------------------------------------------------- */

static void *work(void *arg)
{
    struct client *c = arg;

    while (!atomic_load(&c->load->must_stop)) {
        kit_op_random(&c->op, &c->slice, BYTES_MAX);
        kit_op_execute(c->load->model, &c->op);
        atomic_fetch_add(&c->done, 1);
    }
    return NULL;
}

/* --- the loop ------------------------------------------------------------------------------- */

static void slot_ended(struct kit_load *load)
{
    SCOPED_LOCK(&load->mutex);

    load->running--;
    pthread_cond_signal(&load->ended);
}

static void finish(struct client *c, struct request *r)
{
    kit_op_check(c->load->model, &c->op, r, false);
    request_free(r);
    atomic_fetch_add(&c->done, 1);
}

static void begin_later(struct client *c)
{
    home_run_later(loop_home(c->load->loop), &c->begin);
}

static void on_done(struct request *r)
{
    struct client *c = request_owner(r);

    finish(c, r);
    begin_later(c);
}

static void begin(struct task *task)
{
    struct client *c = CONTAINER_OF(task, struct client, begin);
    struct request *r;

    if (atomic_load(&c->load->must_stop)) {
        slot_ended(c->load);
        return;
    }
    kit_op_random(&c->op, &c->slice, BYTES_MAX);
    r = kit_op_request(c->load->model, &c->op);
    if (!r) {
        begin_later(c);
        return;
    }
    request_set_done(r, on_done, c);
    if (request_submit(r) == IO_PENDING)
        return;
    finish(c, r);
    begin_later(c);
}

/* --- all of it ------------------------------------------------------------------------------ */

static void start_client(struct kit_load *load, unsigned i)
{
    struct client *c = &load->client[i];
    uint64_t length = load->model->size / CLIENTS / 4096 * 4096;

    c->load = load;
    c->slice = (struct kit_slice){.first = i * length, .length = length, .random = 77 + i};
    c->op.data = c->data;
    c->begin.run = begin;
    if (i < WORKERS) {
        if (pthread_create(&c->thread, NULL, work, c) != 0)
            abort();
        return;
    }
    load->running++;
    home_post(loop_home(load->loop), &c->begin);
}

struct kit_load *kit_load_start(struct kit_model *m)
{
    struct kit_load *load = calloc(1, sizeof *load);

    if (!load)
        return NULL;
    load->model = m;
    load->loop = host_service_loop();
    pthread_mutex_init(&load->mutex, NULL);
    pthread_cond_init(&load->ended, NULL);
    pthread_mutex_lock(&load->mutex);
    for (unsigned i = 0; i < CLIENTS; i++)
        start_client(load, i);
    pthread_mutex_unlock(&load->mutex);
    return load;
}

void kit_load_go_on(struct kit_load *load, unsigned requests)
{
    struct timespec pause = {.tv_nsec = 1000000};
    uint64_t until[CLIENTS];

    for (unsigned i = 0; i < CLIENTS; i++)
        until[i] = atomic_load(&load->client[i].done) + requests;
    for (unsigned i = 0; i < CLIENTS; i++)
        while (atomic_load(&load->client[i].done) < until[i])
            nanosleep(&pause, NULL);
}

void kit_load_stop(struct kit_load *load)
{
    atomic_store(&load->must_stop, true);
    for (unsigned i = 0; i < WORKERS; i++)
        pthread_join(load->client[i].thread, NULL);
    pthread_mutex_lock(&load->mutex);
    while (load->running)
        pthread_cond_wait(&load->ended, &load->mutex);
    pthread_mutex_unlock(&load->mutex);
    pthread_cond_destroy(&load->ended);
    pthread_mutex_destroy(&load->mutex);
    free(load);
}

/* --- cancelling ----------------------------------------------------------------------------- */

#define CANCEL_BYTES 4096u

struct victim {
    struct round *round;
    struct kit_op op;
    struct request *request; /* NULL: it has ended */
    uint8_t data[CANCEL_BYTES];
};

struct round {
    struct task task;
    struct kit_model *model;
    unsigned op, count, left;
    struct victim *victim;
    pthread_mutex_t mutex;
    pthread_cond_t ended;
    bool is_over;
};

static void round_over(struct round *round)
{
    SCOPED_LOCK(&round->mutex);

    round->is_over = true;
    pthread_cond_signal(&round->ended);
}

static void victim_ended(struct victim *v, struct request *r)
{
    struct round *round = v->round;

    kit_op_check(round->model, &v->op, r, true);
    request_free(r);
    v->request = NULL;
    if (--round->left == 0)
        round_over(round);
}

static void on_victim_done(struct request *r)
{
    victim_ended(request_owner(r), r);
}

static void send_victim(struct round *round, unsigned i)
{
    struct victim *v = &round->victim[i];
    struct request *r;

    v->round = round;
    v->op = (struct kit_op){
        .op = round->op, .offset = i * CANCEL_BYTES, .length = CANCEL_BYTES, .data = v->data};
    memset(v->data, (int)i + 1, sizeof v->data);
    if (round->op == SLUICE_OP_FLUSH)
        v->op.offset = v->op.length = 0;
    r = kit_op_request(round->model, &v->op);
    if (!r)
        abort();
    request_set_done(r, on_victim_done, v);
    v->request = r;
    if (request_submit(r) == IO_DONE)
        victim_ended(v, r);
}

/* In the loop.  One use of `left` is the round's own, so that it is not over before all were sent.
 */
static void run_round(struct task *task)
{
    struct round *round = CONTAINER_OF(task, struct round, task);

    round->left = round->count + 1;
    for (unsigned i = 0; i < round->count; i++)
        send_victim(round, i);
    for (unsigned i = 0; i < round->count; i++)
        if (round->victim[i].request)
            request_cancel(round->victim[i].request, ECANCELED);
    if (--round->left == 0)
        round_over(round);
}

void kit_cancel_round(struct kit_model *m, unsigned op, unsigned count)
{
    struct round round = {.task.run = run_round, .model = m, .op = op, .count = count};

    round.victim = calloc(count, sizeof *round.victim);
    if (!round.victim)
        return;
    pthread_mutex_init(&round.mutex, NULL);
    pthread_cond_init(&round.ended, NULL);
    home_post(loop_home(host_service_loop()), &round.task);
    pthread_mutex_lock(&round.mutex);
    while (!round.is_over)
        pthread_cond_wait(&round.ended, &round.mutex);
    pthread_mutex_unlock(&round.mutex);
    pthread_cond_destroy(&round.ended);
    pthread_mutex_destroy(&round.mutex);
    free(round.victim);
}
