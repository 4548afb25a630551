/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * entry.c: the login phase of a connection, and the claim of a session on its initiator port.
 *
 * login.c decides; here its questions are answered: who may log in (a thread, because secrets are
 * files), and whether the session can begin.  RFC 7143 6.3.5: a login with TSIH 0 from an initiator
 * port that has a session ends that one.  The new one waits until the old one's nexus has closed,
 * that is until its last write has ended, or until the time for its login is over.
 */
#include "internal.h"

#include <stdio.h>

static void go_on(struct conn *c, enum login_next next);

/* --- answers -------------------------------------------------------------------------------------
 */

static void notify_refused(struct conn *c)
{
    struct iscsi *iscsi = c->shard->iscsi;
    char text[800];

    snprintf(text, sizeof text, "initiator:%s client:%s status:%04x reason:%s",
             c->login->initiator[0] ? c->login->initiator : "-", c->address, c->login->status,
             c->login->reason);
    text_one_line(text);
    iscsi->settings.notify(iscsi->settings.context, "refused", c->login->target, text);
}

static void notify_login(struct conn *c)
{
    struct iscsi *iscsi = c->shard->iscsi;
    char text[500];

    snprintf(text, sizeof text, "initiator:%s client:%s session:%u", c->initiator, c->address,
             c->tsih);
    text_one_line(text);
    iscsi->settings.notify(iscsi->settings.context, "login", c->target ? c->target->name : "",
                           text);
}

/* Under the mutex, for those who look at sessions; only this loop writes them. */
static void settle_parameters(struct conn *c)
{
    const struct login *l = c->login;
    SCOPED_LOCK(&c->shard->iscsi->mutex);

    c->parameters = l->negotiation.parameters;
    c->is_authenticated = l->access.accounts.is_required;
    c->is_shown = true;
}

/* Digests begin after the last response of the login. */
static void enter_full_feature(struct conn *c)
{
    settle_parameters(c);
    c->state = CONN_LOGGED_IN;
    c->deadline_ns = 0;
    c->heard_ns = clock_now_ns();
    stranger_leave(c->shard->iscsi, &c->peer);
    c->is_stranger = false;
    notify_login(c);
    login_free(c->login);
    c->login = NULL;
}

static void respond(struct conn *c)
{
    uint8_t bhs[BHS_BYTES];

    login_response(c->login, bhs);
    if (!conn_send_copy(c, bhs, c->login->reply, c->login->reply_length, true))
        return;
    if (c->login->status != LOGIN_SUCCESS) {
        notify_refused(c);
        c->is_ending_after_flush = true;
    } else if (login_is_complete(c->login)) {
        enter_full_feature(c);
    }
    conn_pause(c, c->is_ending_after_flush);
}

/* --- who may log in
 * ---------------------------------------------------------------------------------- */

static void looked_up(struct conn *c)
{
    go_on(c, login_looked_up(c->login));
}

/* --- the claim
 * ------------------------------------------------------------------------------------------ */

static bool is_same_port(const struct conn *a, const struct conn *b)
{
    return a->target == b->target && a->is_discovery == b->is_discovery &&
           memcmp(a->isid, b->isid, sizeof a->isid) == 0 && strcmp(a->initiator, b->initiator) == 0;
}

static struct conn *find_older(struct iscsi *iscsi, const struct conn *c)
{
    LIST_FOREACH (node, &iscsi->sessions) {
        struct conn *other = LIST_ENTRY(node, struct conn, in_sessions);

        if (other != c && is_same_port(other, c))
            return other;
    }
    return NULL;
}

static void on_reinstated(struct task *task)
{
    struct conn *c = CONTAINER_OF(task, struct conn, remote_end_task);

    conn_end(c, "the initiator logged in anew");
}

static uint16_t find_free_tsih(struct iscsi *iscsi)
{
    for (;;) {
        bool is_used = false;

        iscsi->next_tsih += iscsi->next_tsih == UINT16_MAX ? 2 : 1;
        LIST_FOREACH (node, &iscsi->sessions)
            is_used |= LIST_ENTRY(node, struct conn, in_sessions)->tsih == iscsi->next_tsih;
        if (!is_used)
            return iscsi->next_tsih;
    }
}

#define SESSIONS_MAX 4096u

/* 1: claimed, 0: has to wait, -1: too many sessions. */
static int claim(struct conn *c)
{
    struct iscsi *iscsi = c->shard->iscsi;
    struct conn *older;
    unsigned count = 0;
    SCOPED_LOCK(&iscsi->mutex);

    older = c->is_discovery ? NULL : find_older(iscsi, c);
    if (older) {
        if (!older->is_remote_end_posted) {
            older->is_remote_end_posted = true;
            older->remote_end_task.run = on_reinstated;
            home_post(older->shard->home, &older->remote_end_task);
        }
        c->is_waiting_for_claim = true;
        list_append(&iscsi->waiters, &c->in_waiters);
        return 0;
    }
    LIST_FOREACH (node, &iscsi->sessions)
        count++;
    if (count >= SESSIONS_MAX)
        return -1;
    c->tsih = find_free_tsih(iscsi);
    c->is_claimed = true;
    list_append(&iscsi->sessions, &c->in_sessions);
    return 1;
}

static void try_claim(struct conn *c);

static void on_claim(struct task *task)
{
    struct conn *c = CONTAINER_OF(task, struct conn, claim_task);

    if (!c->is_ending)
        try_claim(c);
}

/* Those that wait try again, each in its home.  What is posted keeps its connection: it is freed by
 * a later post. */
static void wake_waiters(struct iscsi *iscsi)
{
    LIST_FOREACH_SAFE (node, &iscsi->waiters) {
        struct conn *c = LIST_ENTRY(node, struct conn, in_waiters);

        list_remove(&c->in_waiters);
        c->is_waiting_for_claim = false;
        c->claim_task.run = on_claim;
        home_post(c->shard->home, &c->claim_task);
    }
}

void entry_release(struct conn *c)
{
    struct iscsi *iscsi = c->shard->iscsi;
    SCOPED_LOCK(&iscsi->mutex);

    if (c->is_waiting_for_claim)
        list_remove(&c->in_waiters);
    c->is_waiting_for_claim = false;
    if (!c->is_claimed)
        return;
    c->is_claimed = false;
    list_remove(&c->in_sessions);
    pthread_cond_broadcast(&iscsi->session_ended);
    wake_waiters(iscsi);
}

/* --- the session
 * ------------------------------------------------------------------------------------------ */

static void open_nexus(struct conn *c)
{
    struct scsi_nexus_settings settings = {
        .initiator = c->initiator,
        .portal_group = c->shard->iscsi->settings.portal_group,
        .address = c->address,
        .window = COMMAND_WINDOW,
        .home = c->shard->home,
        .may_use = target_may_use,
        .find_elsewhere = target_find_elsewhere,
        .arg = c,
    };
    struct err e = {0};

    memcpy(settings.isid, c->isid, sizeof settings.isid);
    if (scsi_nexus_open(c->target->scsi, &settings, &c->nexus, &e) == 0)
        return;
    c->nexus = NULL;
    snprintf(c->login->access.reason, sizeof c->login->access.reason, "%.*s",
             (int)sizeof c->login->access.reason - 1, e.text);
}

static void entered(struct conn *c)
{
    bool is_good = c->is_discovery || c->nexus;

    login_entered(c->login, c->tsih, is_good ? LOGIN_SUCCESS : LOGIN_OUT_OF_RESOURCES,
                  c->login->access.reason);
    if (!is_good)
        c->tsih = 0;
    respond(c);
}

static void try_claim(struct conn *c)
{
    int r = claim(c);

    if (r == 0)
        return; /* on_claim() comes, or the end of the time for a login */
    if (r < 0) {
        login_entered(c->login, 0, LOGIN_OUT_OF_RESOURCES, "there are too many sessions");
        respond(c);
    } else if (c->is_discovery) {
        entered(c);
    } else {
        conn_start_job(c, open_nexus, entered);
    }
}

static void enter(struct conn *c)
{
    memcpy(c->isid, c->login->isid, sizeof c->isid);
    memcpy(c->initiator, c->login->initiator, sizeof c->initiator);
    c->is_discovery = c->login->is_discovery;
    c->cid = c->login->cid;
    try_claim(c);
}

static void go_on(struct conn *c, enum login_next next)
{
    switch (next) {
    case LOGIN_RESPOND:
        respond(c);
        break;
    case LOGIN_LOOK_UP:
        conn_start_job(c, target_look_up, looked_up);
        break;
    case LOGIN_ENTER:
        enter(c);
        break;
    case LOGIN_DROP:
        conn_end(c, "the login has no end");
        break;
    }
}

void entry_request(struct conn *c)
{
    if (!c->login) {
        c->login = login_new();
        if (!c->login) {
            conn_end(c, "out of memory");
            return;
        }
        c->status_sn = pdu_expected_status_sn(c->head);
    }
    c->expected_command_sn = pdu_command_sn(c->head);
    conn_pause(c, true);
    go_on(c, login_request(c->login, c->head, c->scratch));
}
