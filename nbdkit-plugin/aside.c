/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * aside.c: small reads and writes that wait for something, a device or a peer, while their client
 * has more in flight.  They are carried out in a loop, as an initiator's commands over iSCSI are:
 * none of nbdkit's threads sleeps and wakes for each.  early.c says which; what has to be judged is
 * nbdkit's here too.
 *
 * All of a connection go to one loop.  Answers that are ready in one turn of it leave together.
 */
#include "plugin.h"

#include "reply.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PAGE 4096u
#define LOOPS_MOST 8u
#define TOGETHER_MOST 64u

/* So many in a row that did not have to wait: they need not be here. */
#define AT_ONCE 16u

/* A page, at whose end the head of the reply is; then the data, as O_DIRECT wants it. */
struct aside {
    struct task task;
    struct aside *next; /* that has ended, or is free */
    struct connection *c;
    enum reply_form form;
    struct stream_request asked;
    int error;                           /* NBD's */
    _Alignas(PAGE) unsigned char data[]; /* of a read or a write */
};

/* --- loops ------------------------------------------------------------------------------------ */

static struct loop *loops[LOOPS_MOST];
static unsigned loop_count; /* 0: none can be had, and nothing goes aside */
static _Atomic unsigned next_loop;

void aside_start(void)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    unsigned wanted = cores < 1 ? 1 : MIN((unsigned)cores, LOOPS_MOST);
    struct err e = {0};

    while (loop_count < wanted) {
        char name[16];

        snprintf(name, sizeof name, "nbd-%u", loop_count);
        loops[loop_count] = loop_create(name, &e);
        if (!loops[loop_count])
            break;
        loop_count++;
    }
    if (loop_count == 0)
        log_line(LOG_LEVEL_WARNING, "%s: NBD requests are left to nbdkit's threads", e.text);
}

static struct home *choose_home(void)
{
    return loop_count ? loop_home(loops[atomic_fetch_add(&next_loop, 1) % loop_count]) : NULL;
}

/* --- memory: who reads takes, the loop gives back ----------------------------------------------
 */

static struct aside *take_memory(struct lane *lane)
{
    struct aside *a;

    if (!lane->spare)
        lane->spare = atomic_exchange(&lane->returned, NULL);
    a = lane->spare;
    if (!a)
        return aligned_alloc(PAGE, sizeof *a + STREAM_BULK_BYTES);
    lane->spare = a->next;
    return a;
}

static void give_memory_back(struct lane *lane, struct aside *a)
{
    a->next = atomic_load_explicit(&lane->returned, memory_order_relaxed);
    while (!atomic_compare_exchange_weak(&lane->returned, &a->next, a))
        ;
}

static void free_all(struct aside *a)
{
    for (struct aside *next; a; a = next) {
        next = a->next;
        free(a);
    }
}

void aside_close(struct connection *c)
{
    free_all(c->lane.spare);
    free_all(atomic_exchange(&c->lane.returned, NULL));
}

/* --- answers, in the loop --------------------------------------------------------------------- */

static struct iovec answer_of(struct aside *a)
{
    if (UNLIKELY(a->error))
        return reply_of_error(a->form, &a->asked, a->error, a->data);
    return reply_of_success(a->form, &a->asked, a->data);
}

static struct aside *take_ended(struct lane *lane)
{
    struct aside *first = lane->ended;

    lane->ended = NULL;
    lane->last = &lane->ended;
    return first;
}

static void answer_all(struct task *task)
{
    struct lane *lane = CONTAINER_OF(task, struct lane, task);
    struct aside *first = take_ended(lane), *a = first, *next;
    unsigned ended = 0;

    while (a) {
        struct iovec part[TOGETHER_MOST];
        unsigned count = 0;

        for (; a && count < TOGETHER_MOST; a = a->next)
            part[count++] = answer_of(a);
        stream_answer(lane->stream, part, count);
        ended += count;
    }
    for (a = first; a; a = next) {
        next = a->next;
        give_memory_back(lane, a);
    }
    stream_has_answered(lane->stream, ended);
}

static void has_ended(struct aside *a, int error)
{
    struct lane *lane = &a->c->lane;

    a->error = error;
    a->next = NULL;
    if (!lane->ended)
        home_run_later(lane->home, &lane->task);
    *lane->last = a;
    lane->last = &a->next;
}

static void on_done(struct request *r)
{
    struct aside *a = request_owner(r);
    int error = request_error(r);

    if (UNLIKELY(error))
        error = plugin_note_failure(a->c, request_public(r), error);
    request_free(r);
    has_ended(a, error);
}

static void note_at_once(const struct aside *a)
{
    struct connection *c = a->c;
    struct early_pause *p = a->asked.type == NBD_CMD_WRITE ? &c->pause_writing : &c->pause_reading;

    if (++c->lane.at_once >= AT_ONCE)
        atomic_store_explicit(&p->waits, false, memory_order_relaxed);
}

static void begin(struct task *task)
{
    struct aside *a = CONTAINER_OF(task, struct aside, task);
    struct connection *c = a->c;
    struct request *r = request_new(c->engine, &c->session->client);

    if (UNLIKELY(!r)) {
        has_ended(a, ENOMEM);
        return;
    }
    request_fill(r, a->asked.type == NBD_CMD_WRITE ? SLUICE_OP_WRITE : SLUICE_OP_READ, 0,
                 a->asked.offset, a->asked.length, a->data);
    request_set_done(r, on_done, a);
    if (request_submit(r) == IO_DONE) {
        note_at_once(a);
        on_done(r);
    } else {
        c->lane.at_once = 0;
    }
}

/* --- taking, in the thread that reads --------------------------------------------------------- */

static bool open_lane(struct lane *lane, struct stream *s)
{
    if (LIKELY(lane->home != NULL))
        return true;
    lane->home = choose_home();
    lane->stream = s;
    lane->last = &lane->ended;
    lane->task.run = answer_all;
    return lane->home != NULL;
}

static struct aside *make(struct connection *c, enum reply_form form,
                          const struct stream_request *q)
{
    struct aside *a = take_memory(&c->lane);

    if (!a)
        return NULL;
    a->task.run = begin;
    a->c = c;
    a->form = form;
    a->asked = *q;
    return a;
}

bool aside_take(struct connection *c, struct stream *s, const struct stream_request *q)
{
    enum reply_form form = stream_reply_form(s, q->type);
    const char *data = NULL;
    struct aside *a;

    if (q->length > STREAM_BULK_BYTES || stream_aside(s) >= c->session->client.window ||
        !open_lane(&c->lane, s))
        return false;
    if (q->type == NBD_CMD_WRITE && !(data = stream_payload(s, q->length)))
        return false;
    a = make(c, form, q);
    if (!a)
        return false;
    if (data) {
        memcpy(a->data, data, q->length);
        stream_skip_payload(s, q->length);
    }
    stream_take_aside(s);
    home_post(c->lane.home, &a->task);
    return true;
}
