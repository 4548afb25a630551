/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * record: notes what it is told, and in which order among all its instances: they share one log.
 * The verb `log` prints and clears it: "LABEL down write", "LABEL up write", "LABEL prepare
 * snapshot".
 */
#include "test-filter.h"

#include <stdio.h>

#define LOG_MAX 65536

struct shared_log {
    pthread_mutex_t mutex;
    bool is_made; /* under the host's lock for shared state */
    size_t length;
    char text[LOG_MAX];
};

struct record {
    struct sluice_disk *disk;
    struct shared_log *log;
    char label[32];
};

enum { O_LABEL };
static const struct sluice_option options[] = {
    {"label", SLUICE_TYPE_STRING, 0, 0, 0, "record", NULL, "In front of each line."},
    SLUICE_OPTIONS_END,
};

static const char *const op_names[] = {"read", "write",   "flush",   "trim",
                                       "zero", "extents", "prefetch"};
static const char *const phase_names[] = {"prepare-long", "prepare", "commit", "abort"};
static const char *const event_names[] = {"attach",        "detach",  "start",   "stop",
                                          "snapshot",      "resize",  "promote", "demote",
                                          "policy-change", "quiesce", "resume",  "before-upgrade",
                                          "after-upgrade", "migrate", "sanitize"};

static void note(struct record *r, const char *what, const char *of)
{
    struct shared_log *log = r->log;
    char line[128];
    int n = snprintf(line, sizeof line, "%s %s %s\n", r->label, what, of);

    pthread_mutex_lock(&log->mutex);
    if (log->length + (size_t)n < LOG_MAX) {
        memcpy(log->text + log->length, line, (size_t)n);
        log->length += (size_t)n;
    }
    pthread_mutex_unlock(&log->mutex);
}

static int record_open(struct sluice_disk *disk, const struct sluice_value *v, void **instance,
                       struct sluice_error *error)
{
    struct record *r = calloc(1, sizeof *r);

    if (!r)
        return sluice_refuse(disk, error, ENOMEM, "out of memory");
    r->disk = disk;
    snprintf(r->label, sizeof r->label, "%s", v[O_LABEL].string);
    sluice_shared_lock(disk);
    r->log = sluice_shared_get(disk, "log", sizeof *r->log);
    if (r->log && !r->log->is_made) {
        pthread_mutex_init(&r->log->mutex, NULL);
        r->log->is_made = true;
    }
    sluice_shared_unlock(disk);
    if (!r->log) {
        free(r);
        return sluice_refuse(disk, error, ENOMEM, "out of memory");
    }
    *instance = r;
    return 0;
}

static void record_close(void *instance)
{
    struct record *r = instance;

    sluice_shared_lock(r->disk);
    sluice_shared_put(r->disk, "log");
    sluice_shared_unlock(r->disk);
    free(r);
}

static struct sluice_verdict start(void *instance, struct sluice_request *request, void *scratch)
{
    (void)scratch;
    note(instance, "down", op_names[request->op]);
    return sluice_pass_and_tell();
}

static struct sluice_verdict completion(void *instance, struct sluice_request *request,
                                        void *scratch)
{
    (void)scratch;
    note(instance, "up", op_names[request->op]);
    return sluice_pass();
}

static int on_event(void *instance, const struct sluice_event *event, struct sluice_error *error)
{
    (void)error;
    note(instance, phase_names[event->phase], event_names[event->kind]);
    return 0;
}

static int print_log(void *instance, int argc, const char *const *argv, struct sluice_reply *reply,
                     struct sluice_error *error)
{
    struct record *r = instance;
    struct shared_log *log = r->log;

    (void)argc, (void)argv, (void)error;
    pthread_mutex_lock(&log->mutex);
    if (log->length) {
        log->text[log->length - 1] = '\0';
        sluice_reply_text(r->disk, reply, "%s", log->text);
    }
    log->length = 0;
    pthread_mutex_unlock(&log->mutex);
    return 0;
}

static const struct sluice_verb verbs[] = {
    {"log", "", "Prints what all instances were told, and clears it.", print_log},
    SLUICE_VERBS_END,
};

#define BOTH SLUICE_HANDLE(start, completion)
static const struct sluice_filter filter = {TEST_FILTER_HEAD("record", "Notes what it is told."),
                                            .traits = SLUICE_TRAIT_BYPASSABLE,
                                            .options = options,
                                            .verbs = verbs,
                                            .open = record_open,
                                            .close = record_close,
                                            .event = on_event,
                                            EVERY_OPERATION(BOTH)};
SLUICE_FILTER(filter)
