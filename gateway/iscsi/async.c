/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * async.c: asynchronous messages (RFC 7143 11.9), for what the gateway does by itself: it asks for
 * a logout before it stops, so that nothing is in flight when it goes, and says so when it ends a
 * session.  Initiators log in again in both cases, the second time not before Time2Wait.
 *
 * SCSI events (AsyncEvent 0) are not sent.  SPC-3 has made event reporting obsolete: nobody can ask
 * for it any more, initiators wait for unit attentions, and libiscsi drops a connection by which
 * one comes.
 */
#include "internal.h"

static void say(struct conn *c, enum async_event event, uint32_t wait_s, uint32_t last_s)
{
    uint8_t bhs[BHS_BYTES] = {PDU_ASYNC, PDU_FINAL};

    put32(bhs + 16, NO_TAG);
    bhs[36] = (uint8_t)event;
    put16(bhs + 40, wait_s);
    put16(bhs + 42, last_s);
    conn_send_copy(c, bhs, NULL, 0, true);
}

static bool is_in_session(const struct conn *c)
{
    return c->state == CONN_LOGGED_IN && !c->is_ending;
}

void conn_drop_session(struct conn *c, const char *reason)
{
    if (is_in_session(c)) {
        say(c, ASYNC_SESSION_DROPS, c->parameters.time_to_wait_s, c->parameters.time_to_retain_s);
        conn_flush(c);
    }
    conn_end(c, "%s", reason);
}

/* --- before the gateway stops
 * ---------------------------------------------------------------------- */

static void ask_all(struct task *task)
{
    struct shard *s = CONTAINER_OF(task, struct shard, ask_task);

    LIST_FOREACH (node, &s->conns) {
        struct conn *c = LIST_ENTRY(node, struct conn, in_shard);

        if (is_in_session(c))
            say(c, ASYNC_LOGOUT_REQUESTED, 0, s->iscsi->logout_limit_s);
    }
}

static bool has_sessions(const struct iscsi *iscsi)
{
    LIST_FOREACH (node, &iscsi->sessions)
        if (LIST_ENTRY(node, struct conn, in_sessions)->is_shown)
            return true;
    return false;
}

void iscsi_ask_logouts(struct iscsi *iscsi, unsigned limit_s)
{
    uint64_t deadline_ns = clock_now_ns() + limit_s * TICK_NS;
    SCOPED_LOCK(&iscsi->mutex);

    iscsi->logout_limit_s = limit_s;
    for (unsigned i = 0; i < iscsi->shard_count; i++) {
        iscsi->shard[i]->ask_task.run = ask_all;
        home_post(iscsi->shard[i]->home, &iscsi->shard[i]->ask_task);
    }
    while (has_sessions(iscsi) &&
           cond_wait_until(&iscsi->session_ended, &iscsi->mutex, deadline_ns))
        ;
}
