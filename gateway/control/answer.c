/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * answer.c: what each verb of the control protocol does, as a table.  request.c reads what is
 * asked.
 */
#include "internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* What a verb gets and gives: 0 with `answer` filled, or a negative errno and a sentence. */
struct call {
    struct gateway *gateway;
    const json_t *request;
    json_t *answer; /* an object */
    int exit;       /* what the command exits with on an error; default CONTROL_EXIT_ERROR */
};
typedef int verb_fn(struct call *c, struct err *e);

/* --- keys
 * ----------------------------------------------------------------------------------------------------
 */

static const char *text_of(const struct call *c, const char *key)
{
    return control_request_text(c->request, key);
}

static int need_text(struct call *c, const char *key, const char **out, struct err *e)
{
    int r = control_request_need_text(c->request, key, out, e);

    if (r < 0)
        c->exit = CONTROL_EXIT_USAGE;
    return r;
}

/* A reference to the disk that "disk" names, ready or not at all. */
static int need_disk(struct call *c, struct gateway_export **out, struct err *e)
{
    const char *name;

    if (need_text(c, "disk", &name, e) < 0)
        return -e->code;
    return gateway_export_acquire(c->gateway, name, out, e);
}

/* --- verbs
 * -----------------------------------------------------------------------------------------------------
 */

static int answer_status(struct call *c, struct err *e)
{
    const char *disk = text_of(c, "disk");
    json_t *status = gateway_status(c->gateway, disk);

    if (!status)
        return err_set(e, ENOENT, "there is no disk \"%s\"", disk ? disk : "");
    json_object_set_new(c->answer, "status", status);
    return 0;
}

static int answer_tasks(struct call *c, struct err *e)
{
    struct gateway_export *x;
    int r = need_disk(c, &x, e);

    if (r < 0)
        return r;
    json_object_set_new(c->answer, "disk", status_of_export(x, true));
    gateway_export_release(x);
    return 0;
}

static int reload(struct call *c, bool is_dry_run, struct err *e)
{
    struct reload_options options = {
        .is_dry_run = is_dry_run || json_is_true(json_object_get(c->request, "dry_run")),
        .is_forced = json_is_true(json_object_get(c->request, "force")),
    };
    json_t *report = NULL;
    int r = gateway_reload(c->gateway, &options, &report, e);

    if (report)
        json_object_set_new(c->answer, "report", report);
    return r;
}

static int answer_reload(struct call *c, struct err *e)
{
    return reload(c, false, e);
}

static int answer_diff(struct call *c, struct err *e)
{
    return reload(c, true, e);
}

static int answer_metrics(struct call *c, struct err *e)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    if (!out)
        return err_set(e, ENOMEM, "out of memory");
    gateway_metrics(c->gateway, out);
    fclose(out);
    json_object_set_new(c->answer, "text", json_string(text));
    free(text);
    return 0;
}

static int answer_resize(struct call *c, struct err *e)
{
    uint64_t size_bytes;
    struct gateway_export *x;
    int r = control_request_need_size(c->request, "size_bytes", &size_bytes, e);

    if (r == 0)
        r = need_disk(c, &x, e);
    if (r < 0)
        return r;
    r = disk_resize(gateway_export_disk(x), size_bytes, e);
    gateway_export_release(x);
    return r;
}

static int answer_snapshot(struct call *c, struct err *e)
{
    struct gateway_export *x;
    const char *name;
    int r = need_text(c, "name", &name, e);

    if (r == 0 && !config_name_is_valid(name))
        r = err_set(e, EINVAL, "\"%s\" is no name for a snapshot", name);
    if (r == 0)
        r = need_disk(c, &x, e);
    if (r < 0)
        return r;
    r = disk_snapshot(gateway_export_disk(x), name, e);
    gateway_export_release(x);
    return r;
}

static bool try_failed_now(struct gateway *g, const char *name)
{
    struct gateway_export *x;
    SCOPED_LOCK(&g->exports_mutex);

    x = export_find_locked(g, name);
    if (!x || x->state != EXPORT_FAILED)
        return false;
    x->retry_at_ns = 0;
    return true;
}

#define REOPEN_LIMIT_NS (UINT64_C(30) * 1000000000u)

/* One that failed is opened now; one that is open gets its backing anew. */
static int answer_reopen(struct call *c, struct err *e)
{
    struct gateway_export *x;
    const char *name;
    char opening[64];
    int r = need_text(c, "disk", &name, e);

    if (r == 0 && try_failed_now(c->gateway, name)) {
        exports_retry(c->gateway, 0);
        if (!exports_wait_opened(c->gateway, clock_now_ns() + REOPEN_LIMIT_NS, opening,
                                 sizeof opening))
            log_line(LOG_LEVEL_WARNING, "%s is still being opened disk=%s", opening, opening);
        r = need_disk(c, &x, e);
        if (r == 0)
            gateway_export_release(x);
        return r;
    }
    if (r == 0)
        r = need_disk(c, &x, e);
    if (r < 0)
        return r;
    r = disk_reopen(gateway_export_disk(x), e);
    gateway_export_release(x);
    return r;
}

static int run_event(struct disk *disk, uint32_t kind, const char *phase, const char *name,
                     struct err *e)
{
    struct sluice_event event = {.kind = kind, .name = name};

    if (strcmp(phase, "prepare") == 0)
        return disk_event_prepare(disk, &event, e);
    if (strcmp(phase, "commit") == 0)
        return disk_event_commit(disk, kind, e);
    if (strcmp(phase, "abort") == 0)
        return disk_event_abort(disk, kind, e);
    return disk_event(disk, &event, e);
}

/* Only what a hypervisor may tell: the others are the gateway's own. */
static bool is_from_outside(uint32_t kind)
{
    return kind == SLUICE_EVENT_SNAPSHOT || kind == SLUICE_EVENT_START ||
           kind == SLUICE_EVENT_STOP || kind == SLUICE_EVENT_MIGRATE;
}

static int answer_event(struct call *c, struct err *e)
{
    const char *kind_name, *phase = text_of(c, "phase"), *name = text_of(c, "name");
    struct gateway_export *x;
    uint32_t kind;
    int r = need_text(c, "event", &kind_name, e);

    if (r < 0)
        return r;
    kind = disk_event_parse(kind_name);
    if (kind == SLUICE_EVENT_COUNT || !is_from_outside(kind)) {
        c->exit = CONTROL_EXIT_USAGE;
        return err_set(e, EINVAL, "\"%s\" is none of snapshot, start, stop, migrate", kind_name);
    }
    r = need_disk(c, &x, e);
    if (r < 0)
        return r;
    r = run_event(gateway_export_disk(x), kind, phase ? phase : "", name ? name : "", e);
    c->exit = CONTROL_EXIT_FALSE; /* a refusal, with the filter's sentence */
    gateway_export_release(x);
    return r;
}

/* --- verbs of filters
 * --------------------------------------------------------------------------------------------- */

static struct station *find_station(struct gateway_export *x, const char *filter)
{
    for (unsigned i = 0; i < x->seat_count; i++)
        if (strcmp(x->seat[i].name, filter) == 0 ||
            strcmp(x->seat[i].station->filter->name, filter) == 0)
            return x->seat[i].station;
    return NULL;
}

static int run_filter_verb(struct call *c, struct gateway_export *x, const char *filter,
                           const char *verb, struct err *e)
{
    const char *words[CONTROL_WORDS_MAX];
    struct station *s;
    json_t *reply = NULL;
    int count, r = control_request_words(c->request, "args", words, &count, e);

    if (r < 0)
        return r;
    pthread_rwlock_rdlock(&x->use); /* the station stays meanwhile */
    s = find_station(x, filter);
    r = s ? host_station_verb(s, verb, count, words, &reply, e)
          : err_set(e, ENOENT, "%s: has no filter \"%s\"", x->name, filter);
    pthread_rwlock_unlock(&x->use);
    if (reply)
        json_object_set_new(c->answer, "reply", reply);
    return r;
}

static int answer_filter(struct call *c, struct err *e)
{
    const char *filter, *verb = NULL;
    struct gateway_export *x;
    int r = need_text(c, "filter", &filter, e);

    if (r == 0)
        r = need_text(c, "filter_verb", &verb, e);
    if (r == 0)
        r = need_disk(c, &x, e);
    if (r < 0)
        return r;
    r = run_filter_verb(c, x, filter, verb, e);
    gateway_export_release(x);
    return r;
}

/* --- the other gateway ---------------------------------------------------------------------- */

static int answer_failover(struct call *c, struct err *e)
{
    return failover_answer(c->gateway, c->request, c->answer, e);
}

static int answer_peer_check(struct call *c, struct err *e)
{
    (void)e;
    return peer_check_answer(c->gateway, c->answer);
}

/* --- dispatch
 * --------------------------------------------------------------------------------------------------------
 */

/* A watch is no answer but a stream: socket.c keeps it. */
static verb_fn *const verbs[CONTROL_VERB_COUNT] = {
    [CONTROL_VERB_STATUS] = answer_status,          [CONTROL_VERB_TASKS] = answer_tasks,
    [CONTROL_VERB_RELOAD] = answer_reload,          [CONTROL_VERB_DIFF] = answer_diff,
    [CONTROL_VERB_METRICS] = answer_metrics,        [CONTROL_VERB_DISK_RESIZE] = answer_resize,
    [CONTROL_VERB_DISK_SNAPSHOT] = answer_snapshot, [CONTROL_VERB_DISK_REOPEN] = answer_reopen,
    [CONTROL_VERB_DISK_EVENT] = answer_event,       [CONTROL_VERB_FILTER] = answer_filter,
    [CONTROL_VERB_FAILOVER] = answer_failover,      [CONTROL_VERB_PEER_CHECK] = answer_peer_check,
};

static json_t *with_error(json_t *answer, int exit, const struct err *e)
{
    json_t *sentence = json_string(e->text);

    json_object_set_new(answer, "error",
                        sentence ? sentence : json_string("the reason is no UTF-8"));
    json_object_set_new(answer, "exit", json_integer(exit));
    return answer;
}

json_t *control_refusal(const struct err *e)
{
    json_t *answer = json_pack("{s:b}", "ok", 0);

    return answer ? with_error(answer, CONTROL_EXIT_USAGE, e) : NULL;
}

json_t *control_answer(struct gateway *g, const struct control_request *q)
{
    struct call c = {
        .gateway = g, .request = q->json, .answer = json_object(), .exit = CONTROL_EXIT_ERROR};
    struct err e = {0};
    int r;

    if (!c.answer)
        return NULL;
    r = verbs[q->verb](&c, &e);
    json_object_set_new(c.answer, "ok", json_boolean(r == 0));
    return r < 0 ? with_error(c.answer, c.exit, &e) : c.answer;
}
