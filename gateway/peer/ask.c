/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ask.c: questions to a peer and their answers, on the control connection: how a verb that was
 * given to one gateway reaches the other.  The asker waits on its own thread; the asked one thinks
 * on a thread of its own, a few at a time.
 */
#include "internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define THINKERS_MAX 8u

/* [P] all fields. */
struct question {
    struct list link; /* peer.questions */
    uint32_t number;
    bool is_over;
    char *answer;
    char reason[200]; /* why there is none */
};

/* --- the asker ------------------------------------------------------------------------------ */

static int ask(struct peer *peer, struct question *q, const char *text, uint64_t deadline_ns,
               struct err *e)
{
    struct wire *c;

    pthread_mutex_lock(&peer->mutex);
    c = peer->control ? wire_get(peer->control) : NULL;
    q->number = ++peer->next_question;
    list_append(&peer->questions, &q->link);
    pthread_mutex_unlock(&peer->mutex);
    if (c)
        wire_send(c, FRAME_ASK, q->number, text, strlen(text));
    wire_put(c);
    SCOPED_LOCK(&peer->mutex);
    while (c && !q->is_over && cond_wait_until(&peer->changed, &peer->mutex, deadline_ns))
        ;
    list_remove(&q->link);
    if (q->answer)
        return 0;
    if (!c)
        return err_set(e, ENOTCONN, "%s is not connected", peer->name);
    return q->is_over ? err_set(e, ENOTCONN, "%s was lost: %s", peer->name, q->reason)
                      : err_set(e, ETIMEDOUT, "%s does not answer", peer->name);
}

int peers_ask(struct peers *peers, const char *name, const char *question, uint64_t timeout_ns,
              char **answer, struct err *e)
{
    struct peer *peer = peers_find_any(peers, name, e);
    struct question q = {.is_over = false};
    int r;

    if (!peer)
        return -e->code;
    if (!question[0] || strlen(question) > PEER_QUESTION_MAX)
        return err_set(e, EMSGSIZE, "a question of %zu bytes", strlen(question));
    r = ask(peer, &q, question, clock_now_ns() + timeout_ns, e);
    if (r == 0)
        *answer = q.answer;
    return r;
}

static void end_question(struct question *q, char *answer, const char *reason)
{
    q->answer = answer;
    q->is_over = true;
    snprintf(q->reason, sizeof q->reason, "%s", reason);
}

/* One that came too late finds nobody. */
void answer_frame(struct wire *c, const struct frame *frame)
{
    struct peer *peer = c->peer;
    char *answer = strndup((const char *)frame->data, frame->length);
    SCOPED_LOCK(&peer->mutex);

    LIST_FOREACH (node, &peer->questions) {
        struct question *q = LIST_ENTRY(node, struct question, link);

        if (q->number != frame->channel || q->is_over)
            continue;
        end_question(q, answer, "out of memory");
        answer = NULL;
    }
    free(answer);
    pthread_cond_broadcast(&peer->changed);
}

void questions_fail(struct peer *peer, const char *reason)
{
    SCOPED_LOCK(&peer->mutex);

    LIST_FOREACH (node, &peer->questions)
        end_question(LIST_ENTRY(node, struct question, link), NULL, reason);
    pthread_cond_broadcast(&peer->changed);
}

/* --- the asked ------------------------------------------------------------------------------ */

struct thought {
    struct peer *peer;
    uint32_t number;
    char text[];
};

/* By the control connection there is now: the one it came on may have had a successor. */
static void send_answer(struct peer *peer, uint32_t number, const char *answer)
{
    struct wire *c;

    pthread_mutex_lock(&peer->mutex);
    c = peer->control ? wire_get(peer->control) : NULL;
    pthread_mutex_unlock(&peer->mutex);
    if (c)
        wire_send(c, FRAME_ANSWER, number, answer, MIN(strlen(answer), (size_t)PEER_ANSWER_MAX));
    wire_put(c);
}

static void *think(void *arg)
{
    struct thought *t = arg;
    struct peers *peers = t->peer->peers;
    char *answer = peers->settings.asked(peers->settings.context, t->peer->name, t->text);

    send_answer(t->peer, t->number, answer ? answer : "");
    atomic_fetch_sub(&t->peer->thinkers, 1);
    free(answer);
    free(t);
    peers_job_done(peers);
    return NULL;
}

void ask_frame(struct wire *c, const struct frame *frame)
{
    struct peers *peers = c->peers;
    struct thought *t = calloc(1, sizeof *t + frame->length + 1);
    bool is_free = atomic_fetch_add(&c->peer->thinkers, 1) < THINKERS_MAX;

    if (t) {
        t->peer = c->peer;
        t->number = frame->channel;
        memcpy(t->text, frame->data, frame->length);
    }
    peers_job_begin(peers);
    if (t && is_free && peers->settings.asked && thread_start(NULL, think, t) == 0)
        return;
    peers_job_done(peers);
    atomic_fetch_sub(&c->peer->thinkers, 1);
    free(t);
    wire_send(c, FRAME_ANSWER, frame->channel, NULL, 0);
}
