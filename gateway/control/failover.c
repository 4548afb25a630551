/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * failover.c: `sluice failover` and `sluice peer check`, from either side of a pair.
 *
 * The gateway that is to serve does it: there a verb of the filter that replicates brings the other
 * side to step down, or not, by --force.  So a command for the other gateway is sent there over the
 * link; over the link nothing else may be asked than what stands here.
 */
#include "internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define EXPORTS_MAX 4096u
#define ASK_LIMIT_NS (UINT64_C(60) * 1000000000u)

/* --- which disks ---------------------------------------------------------------------------- */

/* Under `use`. NULL: nothing replicates it. */
static struct station *replication_of(const struct gateway_export *x)
{
    for (unsigned i = 0; i < x->seat_count; i++)
        if (x->seat[i].policy->filter_class == SLUICE_CLASS_REPLICATION)
            return x->seat[i].station;
    return NULL;
}

static bool is_meant(struct gateway_export *x, const char *name)
{
    return x->disk && (strcmp(x->name, name) == 0 || strcmp(disk_group(x->disk), name) == 0);
}

/* The first open disk that is, or is of the group, `name`; a reference. NULL with a sentence. */
static struct gateway_export *find_meant(struct gateway *g, const char *name, struct err *e)
{
    struct gateway_export **list = calloc(EXPORTS_MAX, sizeof(struct gateway_export *));
    struct gateway_export *found = NULL;
    unsigned count = list ? exports_take(g, NULL, list, EXPORTS_MAX) : 0;

    for (unsigned i = 0; i < count; i++) {
        if (!found && is_meant(list[i], name))
            found = list[i];
        else
            gateway_export_release(list[i]);
    }
    free(list);
    if (!found)
        err_set(e, ENOENT, "there is no disk or group \"%s\" that is open", name);
    return found;
}

/* --- failover ------------------------------------------------------------------------------- */

static const char *text_of(const json_t *j, const char *key)
{
    return json_string_value(json_object_get(j, key));
}

/* What the filter is told: one that has no verb `failover` of its own has the verbs that it is made
 * of. */
struct order {
    const char *verb, *words[2];
    int count;
};

static bool has_verb(const struct station *s, const char *name)
{
    const struct sluice_verb *verbs = s->filter->verbs;

    for (unsigned i = 0; verbs && verbs[i].name; i++)
        if (strcmp(verbs[i].name, name) == 0)
            return true;
    return false;
}

static struct order make_order(const struct station *s, const json_t *request)
{
    bool is_forced = json_is_true(json_object_get(request, "force"));
    bool is_dry = json_is_true(json_object_get(request, "dry_run"));
    struct order o = {.verb = "failover"};

    if (!has_verb(s, o.verb)) {
        o.verb = is_dry ? "status" : is_forced ? "promote" : "takeover";
        is_forced &= !is_dry;
        is_dry = false;
    }
    if (is_forced)
        o.words[o.count++] = "--force";
    if (is_dry)
        o.words[o.count++] = "--dry-run";
    return o;
}

static int run_one(struct gateway_export *x, const json_t *request, json_t **reply, struct err *e)
{
    struct station *s;
    struct order o;
    int r;

    pthread_rwlock_rdlock(&x->use);
    s = replication_of(x);
    if (s) {
        o = make_order(s, request);
        r = host_station_verb(s, o.verb, o.count, o.words, reply, e);
    } else {
        r = err_set(e, EINVAL, "%s: is not replicated", x->name);
    }
    pthread_rwlock_unlock(&x->use);
    return r;
}

static void add_text(json_t *answer, const char *disk, json_t *reply)
{
    json_t *all = json_object_get(answer, "reply");
    const char *before = text_of(all, "text"), *text = text_of(reply, "text");

    json_object_set_new(
        answer, "reply",
        json_pack("{s:o}", "text",
                  json_sprintf("%s%s: %s", before ? before : "", disk, text ? text : "done\n")));
}

/* A filter that leads a whole group by one verb is told once, others disk by disk. */
static bool leads_group(struct gateway_export *x)
{
    const struct station *s;
    bool does;

    pthread_rwlock_rdlock(&x->use);
    s = replication_of(x);
    does = s && has_verb(s, "failover");
    pthread_rwlock_unlock(&x->use);
    return does;
}

static int run_all(struct gateway_export **list, unsigned count, const char *name,
                   const json_t *request, json_t *answer, struct err *e)
{
    bool is_done = false;
    int r = 0;

    for (unsigned i = 0; i < count && r == 0 && !is_done; i++) {
        json_t *reply = NULL;

        if (!is_meant(list[i], name))
            continue;
        r = run_one(list[i], request, &reply, e);
        if (r == 0)
            add_text(answer, list[i]->name, reply);
        json_decref(reply);
        is_done = leads_group(list[i]);
    }
    return r;
}

static int run_here(struct gateway *g, const char *name, const json_t *request, json_t *answer,
                    struct err *e)
{
    struct gateway_export **list = calloc(EXPORTS_MAX, sizeof(struct gateway_export *));
    unsigned count = list ? exports_take(g, NULL, list, EXPORTS_MAX) : 0;
    int r =
        list ? run_all(list, count, name, request, answer, e) : err_set(e, ENOMEM, "out of memory");

    for (unsigned i = 0; i < count; i++)
        gateway_export_release(list[i]);
    free(list);
    json_object_set_new(answer, "gateway", json_string(g->name));
    return r;
}

/* The other one of the pair: there is no other way to say it with more than one. */
static void copy_only_peer(struct gateway *g, char *out, size_t size)
{
    const struct gateway_config *c;
    SCOPED_LOCK(&g->exports_mutex);

    c = g->config->config;
    snprintf(out, size, "%s", c->peer_count == 1 ? c->peers[0].name : "");
}

/* "": it cannot be told. */
static void choose_target(struct gateway *g, struct gateway_export *x, const char *wanted,
                          char *out, size_t size)
{
    if (wanted)
        snprintf(out, size, "%s", wanted);
    else if (disk_role(x->disk, NULL) == SLUICE_ROLE_PRIMARY)
        copy_only_peer(g, out, size);
    else
        snprintf(out, size, "%s", g->name);
}

static int take_answer(const char *text, json_t *answer, struct err *e)
{
    json_t *theirs = json_loads(text, 0, NULL);
    const char *sentence = text_of(theirs, "error");
    int r = 0;

    if (!json_is_object(theirs))
        r = err_set(e, EPROTO, "the other gateway gave no answer");
    else if (sentence)
        r = err_set(e, EREMOTEIO, "%s", sentence);
    else
        json_object_update(answer, theirs);
    json_decref(theirs);
    return r;
}

static int ask_peer(struct gateway *g, const char *peer, const json_t *request, json_t *answer,
                    struct err *e)
{
    char *question = json_dumps(request, JSON_COMPACT), *text = NULL;
    int r = !question   ? err_set(e, ENOMEM, "out of memory")
            : !g->peers ? err_set(e, ENOTCONN, "this gateway has no link to others")
                        : peers_ask(g->peers, peer, question, ASK_LIMIT_NS, &text, e);

    free(question);
    if (r == 0)
        r = take_answer(text, answer, e);
    free(text);
    return r < 0 ? err_context(e, "%s", peer) : 0;
}

/* Once: who was asked by a peer does not ask on. */
static int send_there(struct gateway *g, const char *to, const json_t *request, bool was_sent,
                      json_t *answer, struct err *e)
{
    json_t *copy;
    int r;

    if (was_sent)
        return err_set(e, EINVAL, "this gateway is %s, not %s", g->name, to);
    copy = json_copy((json_t *)(uintptr_t)request);
    json_object_set_new(copy, "to", json_string(to));
    r = ask_peer(g, to, copy, answer, e);
    json_decref(copy);
    return r;
}

static int failover(struct gateway *g, const json_t *request, bool was_sent, json_t *answer,
                    struct err *e)
{
    const char *name = text_of(request, "name");
    char to[64];
    struct gateway_export *x = name ? find_meant(g, name, e) : NULL;
    int r;

    if (!x)
        return name ? -e->code : err_set(e, EINVAL, "\"name\" is missing or no string");
    choose_target(g, x, text_of(request, "to"), to, sizeof to);
    if (!to[0])
        r = err_set(e, EINVAL, "%s is the primary here, and there is more than one peer: --to",
                    name);
    else if (strcmp(to, g->name) != 0)
        r = send_there(g, to, request, was_sent, answer, e);
    else
        r = run_here(g, name, request, answer, e);
    gateway_export_release(x);
    return r;
}

int failover_answer(struct gateway *g, const json_t *request, json_t *answer, struct err *e)
{
    return failover(g, request, false, answer, e);
}

/* --- what the two of a pair must have in common --------------------------------------------------
 */

static json_t *value_to_json(const struct sluice_value *v)
{
    if (!v->is_set)
        return json_null();
    return v->string ? json_string(v->string) : json_integer((json_int_t)v->integer);
}

static json_t *options_to_json(const struct filter_config *f)
{
    json_t *j = json_object();

    for (unsigned i = 0; f->filter->options && f->filter->options[i].name; i++)
        json_object_set_new(j, f->filter->options[i].name, value_to_json(&f->values[i]));
    return j;
}

/* The dry run of the filter's own decision at a connection, where it has the verb for it. */
static json_t *decision_of(struct station *s)
{
    json_t *reply = NULL, *text;
    struct err e = {0};

    if (host_station_verb(s, "check", 0, NULL, &reply, &e) < 0)
        return json_null();
    text = json_incref(json_object_get(reply, "text"));
    json_decref(reply);
    return text ? text : json_null();
}

static void add_disk(struct gateway_export *x, json_t *disks)
{
    struct station *s;

    pthread_rwlock_rdlock(&x->use);
    s = x->disk ? replication_of(x) : NULL;
    for (unsigned i = 0; s && i < x->seat_count; i++)
        if (x->seat[i].station == s)
            json_object_set_new(
                disks, x->name,
                json_pack("{s:I, s:s, s:s, s:s, s:s, s:I, s:o, s:o}", "size_bytes",
                          (json_int_t)disk_size(x->disk), "group", disk_group(x->disk), "filter",
                          s->filter->name, "version", s->filter->version, "role",
                          disk_role_name(disk_role(x->disk, NULL)), "block_bytes",
                          (json_int_t)engine_unit(disk_engine(x->disk)), "options",
                          options_to_json(x->seat[i].policy), "decision", decision_of(s)));
    pthread_rwlock_unlock(&x->use);
}

static json_t *describe(struct gateway *g)
{
    struct gateway_export **list = calloc(EXPORTS_MAX, sizeof(struct gateway_export *));
    unsigned count = list ? exports_take(g, NULL, list, EXPORTS_MAX) : 0;
    json_t *disks = json_object();

    for (unsigned i = 0; i < count; i++) {
        add_disk(list[i], disks);
        gateway_export_release(list[i]);
    }
    free(list);
    return json_pack("{s:s, s:s, s:o}", "gateway", g->name, "version", PACKAGE_VERSION, "disks",
                     disks);
}

static int describe_answer(struct gateway *g, json_t *answer)
{
    json_t *j = describe(g);

    json_object_update(answer, j);
    json_decref(j);
    return 0;
}

/* --- and what they have not
 * ----------------------------------------------------------------------- */

static void add_difference(json_t *lines, const char *disk, const char *key, const json_t *ours,
                           const json_t *theirs)
{
    char *a = ours ? json_dumps(ours, JSON_ENCODE_ANY) : NULL;
    char *b = theirs ? json_dumps(theirs, JSON_ENCODE_ANY) : NULL;

    json_array_append_new(lines, json_sprintf("%s: %s: %s here, %s there", disk, key,
                                              a ? a : "unset", b ? b : "unset"));
    free(a);
    free(b);
}

static void compare_options(json_t *lines, const char *disk, json_t *ours, json_t *theirs)
{
    const char *key;
    json_t *value;

    json_object_foreach(ours, key, value)
    {
        const json_t *other = json_object_get(theirs, key);

        if (strcmp(key, "peer") != 0 && (!other || !json_equal(value, (json_t *)(uintptr_t)other)))
            add_difference(lines, disk, key, value, other);
    }
}

static void compare_disk(json_t *lines, const char *name, json_t *ours, json_t *theirs)
{
    static const char *const keys[] = {"size_bytes", "group", "filter", "version", "block_bytes"};

    if (!theirs) {
        json_array_append_new(lines, json_sprintf("%s: is not replicated there", name));
        return;
    }
    for (unsigned i = 0; i < ARRAY_SIZE(keys); i++) {
        json_t *a = json_object_get(ours, keys[i]), *b = json_object_get(theirs, keys[i]);

        if (!json_equal(a, b))
            add_difference(lines, name, keys[i], a, b);
    }
    compare_options(lines, name, json_object_get(ours, "options"),
                    json_object_get(theirs, "options"));
}

static json_t *compare(json_t *ours, json_t *theirs)
{
    json_t *lines = json_array(), *a = json_object_get(ours, "disks"),
           *b = json_object_get(theirs, "disks"), *disk;
    const char *name;

    if (!json_equal(json_object_get(ours, "version"), json_object_get(theirs, "version")))
        add_difference(lines, "sluice", "version", json_object_get(ours, "version"),
                       json_object_get(theirs, "version"));
    json_object_foreach(a, name, disk)
    {
        compare_disk(lines, name, disk, json_object_get(b, name));
    }
    json_object_foreach(b, name, disk)
    {
        if (!json_object_get(a, name))
            json_array_append_new(lines, json_sprintf("%s: is not replicated here", name));
    }
    return lines;
}

static void check_one(struct gateway *g, json_t *peer, json_t *ours)
{
    json_t *question = json_pack("{s:s}", "verb", "describe"), *theirs = json_object();
    struct err e = {0};

    if (strcmp(text_of(peer, "state"), "connected") == 0 &&
        ask_peer(g, text_of(peer, "name"), question, theirs, &e) == 0) {
        json_object_set_new(peer, "differences", compare(ours, theirs));
        json_object_set(peer, "theirs", theirs);
    } else if (e.text[0]) {
        json_object_set_new(peer, "reason", json_string(e.text));
    }
    json_decref(question);
    json_decref(theirs);
}

int peer_check_answer(struct gateway *g, json_t *answer)
{
    json_t *peers = peer_link_json(g), *ours = describe(g), *peer;
    size_t i;

    json_array_foreach(peers, i, peer) check_one(g, peer, ours);
    json_object_set_new(answer, "peers", peers);
    json_object_set_new(answer, "ours", ours);
    return 0;
}

/* --- asked over the link -------------------------------------------------------------------------
 */

static int answer_peer(struct gateway *g, const json_t *request, json_t *answer, struct err *e)
{
    const char *verb = text_of(request, "verb");

    if (verb && strcmp(verb, "failover") == 0)
        return failover(g, request, true, answer, e);
    if (verb && strcmp(verb, "describe") == 0)
        return describe_answer(g, answer);
    return err_set(e, EINVAL, "a question that only a newer gateway knows");
}

char *failover_asked(void *context, const char *peer, const char *question)
{
    json_t *request = json_loads(question, 0, NULL), *answer = json_object();
    struct err e = {0};
    char *text;

    if (answer_peer(context, request, answer, &e) < 0)
        json_object_set_new(answer, "error", json_string(e.text));
    log_line(LOG_LEVEL_INFO, "asked for \"%s\" over the link: %s peer=%s",
             text_of(request, "verb") ? text_of(request, "verb") : "?", e.text[0] ? e.text : "done",
             peer);
    text = json_dumps(answer, JSON_COMPACT);
    json_decref(request);
    json_decref(answer);
    return text;
}
