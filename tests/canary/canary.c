/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * canary: an inspection filter that judges writes on the worker pool and refuses some.  The first
 * `guard` bytes of a disk are watched: a write there that holds a line of the file `rules`, or that
 * looks like encrypted data (a ransomware at work), fails with EPERM.  Everything else passes.
 *
 * Reading a file and looking at data take time, so the start callback defers and a worker looks.
 * From then on the request is the worker's, until it resumes it; cancel can only tell it to hurry.
 * What there is to remember of a request fits into its scratch, so nothing is allocated.
 */
#define _GNU_SOURCE /* memmem */
#include <sluice-filter.h>

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RANDOM_LEAST 4096u /* bytes; fewer say nothing about randomness */
#define RULE_MAX 256u

struct canary {
    struct sluice_disk *disk;
    _Atomic uint64_t guard_bytes;
    bool refuses_random;
    char *rules; /* NULL: none */
};

/* A request's scratch. */
struct judgement {
    struct sluice_work work;
    struct canary *canary;
    struct sluice_request *request;
    atomic_bool is_cancelled;
};

enum { O_GUARD, O_RULES, O_RANDOM };
static const struct sluice_option options[] = {
    {"guard", SLUICE_TYPE_SIZE, SLUICE_OPTION_LIVE, 0, 0, "1MiB", NULL,
     "Writes to so many bytes at the start of the disk are judged."},
    {"rules", SLUICE_TYPE_PATH, 0, 0, 0, NULL, NULL,
     "A file of texts, one a line, that must not be written there; read anew for every write."},
    {"random", SLUICE_TYPE_ENUM, 0, 0, 0, "refuse", "refuse|pass",
     "What happens to data that looks encrypted."},
    SLUICE_OPTIONS_END,
};

enum { JUDGED, REFUSED };
static const struct sluice_counter counters[] = {
    {"judged", SLUICE_COUNTER, "", "Writes that a worker has looked at."},
    {"refused", SLUICE_COUNTER, "", "Writes that were refused."},
    SLUICE_COUNTERS_END,
};

static int canary_open(struct sluice_disk *disk, const struct sluice_value *values, void **instance,
                       struct sluice_error *error)
{
    const char *rules = values[O_RULES].is_set ? values[O_RULES].string : NULL;
    struct canary *c;

    if (rules && access(rules, R_OK) < 0)
        return sluice_refuse(disk, error, errno, "rules: %s: %s", rules, strerror(errno));
    c = calloc(1, sizeof *c);
    if (!c)
        return sluice_refuse(disk, error, ENOMEM, "out of memory");
    c->disk = disk;
    c->guard_bytes = (uint64_t)values[O_GUARD].integer;
    c->refuses_random = values[O_RANDOM].integer == 0;
    c->rules = rules ? strdup(rules) : NULL; /* values are gone when open returns */
    *instance = c;
    return 0;
}

static void canary_close(void *instance)
{
    struct canary *c = instance;

    free(c->rules);
    free(c);
}

/* --- looking at data ---------------------------------------------------------------------------
 */

/* True as well when the rules cannot be read: what was not judged is not let through. */
static bool breaks_a_rule(const char *rules, const void *data, size_t length)
{
    FILE *f = fopen(rules, "re");
    bool is_broken = !f;
    char rule[RULE_MAX];

    while (!is_broken && fgets(rule, sizeof rule, f)) {
        rule[strcspn(rule, "\n")] = '\0';
        is_broken = rule[0] && memmem(data, length, rule, strlen(rule));
    }
    if (f)
        fclose(f);
    return is_broken;
}

/* Pearson's chi-squared against a flat distribution of byte values: 255 on average for random or
 * well encrypted data, and thousands for text, programs and file systems. */
static bool looks_random(const uint8_t *data, size_t length)
{
    uint64_t count[256] = {0}, squares = 0;

    if (length < RANDOM_LEAST)
        return false;
    for (size_t i = 0; i < length; i++)
        count[data[i]]++;
    for (size_t i = 0; i < 256; i++)
        squares += count[i] * count[i];
    return 256 * squares < (length + 400) * length; /* 256 S / n - n < 400 */
}

/* Only the part of the write that lies in the guarded bytes counts. */
static const char *find_fault(const struct canary *c, const struct sluice_request *request)
{
    uint64_t guarded = c->guard_bytes;
    size_t length = 0;

    if (guarded > request->offset)
        length = (size_t)(guarded - request->offset < request->length ? guarded - request->offset
                                                                      : request->length);
    if (c->rules && breaks_a_rule(c->rules, request->data, length))
        return "forbidden-text";
    return c->refuses_random && looks_random(request->data, length) ? "looks-encrypted" : NULL;
}

/* --- one judgement -----------------------------------------------------------------------------
 */

static void report(const struct judgement *j, const char *why)
{
    struct canary *c = j->canary;

    sluice_count(c->disk, REFUSED, 1);
    sluice_event_emit(c->disk, "refused", "why:%s offset:%llu length:%llu client:%s", why,
                      (unsigned long long)j->request->offset,
                      (unsigned long long)j->request->length, j->request->client->address);
    sluice_health(c->disk, SLUICE_HEALTH_DEGRADED, "writes to the guarded bytes were refused",
                  "find out what wrote them: sluice watch shows the client");
}

/* On the worker pool, where one may block.  After sluice_resume() neither the request nor its
 * scratch may be touched. */
static void judge(struct sluice_work *work)
{
    struct judgement *j = (struct judgement *)((char *)work - offsetof(struct judgement, work));
    struct sluice_disk *disk = j->canary->disk;
    struct sluice_verdict verdict = sluice_pass();
    const char *fault;

    if (atomic_load(&j->is_cancelled)) { /* nobody wants to know any more */
        sluice_resume(disk, j->request, sluice_fail(ECANCELED));
        return;
    }
    fault = find_fault(j->canary, j->request);
    sluice_count(disk, JUDGED, 1);
    if (fault) {
        report(j, fault);
        verdict = sluice_fail(EPERM);
    }
    sluice_resume(disk, j->request, verdict);
}

/* --- what the gateway calls --------------------------------------------------------------------
 */

static struct sluice_verdict on_write(void *instance, struct sluice_request *request, void *scratch)
{
    struct canary *c = instance;
    struct judgement *j = scratch; /* zeroed */

    if (request->offset >= c->guard_bytes)
        return sluice_pass();
    j->canary = c;
    j->request = request;
    j->work.run = judge;
    if (sluice_work_submit(c->disk, &j->work) < 0)
        return sluice_fail(ESHUTDOWN); /* not judged: not let through */
    return sluice_defer();
}

/* The client is gone, or wants no answer any more.  A worker has the request: it will resume it. */
static enum sluice_cancel_answer on_cancel(void *instance, struct sluice_request *request,
                                           void *scratch)
{
    struct judgement *j = scratch;

    (void)instance, (void)request;
    atomic_store(&j->is_cancelled, true);
    return SLUICE_CANCEL_BUSY;
}

static int on_event(void *instance, const struct sluice_event *event, struct sluice_error *error)
{
    struct canary *c = instance;

    (void)error;
    if (event->kind == SLUICE_EVENT_POLICY_CHANGE && event->phase == SLUICE_PHASE_COMMIT)
        c->guard_bytes = (uint64_t)event->values[O_GUARD].integer;
    return 0;
}

static const struct sluice_filter filter = {
    .struct_size = sizeof filter,
    .api_version = SLUICE_FILTER_API_VERSION,
    .name = "canary",
    .version = "1.0",
    .vendor = "Sluice",
    .summary = "Refuses writes that look like the work of ransomware.",
    .filter_class = SLUICE_CLASS_INSPECTION,
    .needs = SLUICE_NEEDS_PLAINTEXT,
    .traits = SLUICE_TRAIT_BYPASSABLE,
    .scratch_bytes = sizeof(struct judgement),
    .options = options,
    .counters = counters,
    .open = canary_open,
    .close = canary_close,
    .read = SLUICE_PASS_UNSEEN,
    .write = SLUICE_HANDLE(on_write, NULL),
    .flush = SLUICE_PASS_UNSEEN,
    .trim = SLUICE_PASS_UNSEEN,
    .zero = SLUICE_PASS_UNSEEN,
    .extents = SLUICE_PASS_UNSEEN,
    .prefetch = SLUICE_PASS_UNSEEN,
    .cancel = on_cancel,
    .event = on_event,
};
SLUICE_FILTER(filter)
