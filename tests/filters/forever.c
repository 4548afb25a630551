/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * forever: keeps requests of one kind until the verb `release` or a cancel; it can be told not to
 * let go of them when asked, and to commit them (the point of no return) first.
 */
#include "test-filter.h"

#define HELD_MAX 1024

struct forever {
    struct sluice_disk *disk;
    struct sluice_value op;
    bool refuses_cancel, commits;
    pthread_mutex_t mutex; /* the rest */
    struct sluice_request *held[HELD_MAX];
    unsigned count;
};

enum { HELD, CANCELLED };
static const struct sluice_counter counters[] = {
    {"held", SLUICE_GAUGE, "", "Requests it keeps."},
    {"asked_to_cancel", SLUICE_COUNTER, "", "Times it was asked to let go of one."},
    SLUICE_COUNTERS_END,
};

enum { O_OP, O_REFUSES, O_COMMITS };
static const struct sluice_option options[] = {
    OPTION_OP,
    {"refuses_cancel", SLUICE_TYPE_BOOL, 0, 0, 0, "false", NULL, "Do not let go when asked."},
    {"commits", SLUICE_TYPE_BOOL, 0, 0, 0, "false", NULL, "Pass the point of no return first."},
    SLUICE_OPTIONS_END,
};

static int forever_open(struct sluice_disk *disk, const struct sluice_value *v, void **instance,
                        struct sluice_error *error)
{
    struct forever *f = calloc(1, sizeof *f);

    if (!f)
        return sluice_refuse(disk, error, ENOMEM, "out of memory");
    f->disk = disk;
    f->op = v[O_OP];
    f->refuses_cancel = v[O_REFUSES].integer;
    f->commits = v[O_COMMITS].integer;
    pthread_mutex_init(&f->mutex, NULL);
    *instance = f;
    return 0;
}

static void forever_close(void *instance)
{
    struct forever *f = instance;

    pthread_mutex_destroy(&f->mutex);
    free(f);
}

static struct sluice_verdict start(void *instance, struct sluice_request *r, void *scratch)
{
    struct forever *f = instance;
    bool is_kept;

    (void)scratch;
    if (!is_meant(&f->op, r) || (f->commits && !sluice_commit(f->disk, r)))
        return sluice_pass();
    pthread_mutex_lock(&f->mutex);
    is_kept = f->count < HELD_MAX;
    if (is_kept) {
        f->held[f->count++] = r;
        sluice_count(f->disk, HELD, 1);
    }
    pthread_mutex_unlock(&f->mutex);
    return is_kept ? sluice_defer() : sluice_pass();
}

static bool take_out(struct forever *f, const struct sluice_request *r)
{
    for (unsigned i = 0; i < f->count; i++)
        if (f->held[i] == r) {
            f->held[i] = f->held[--f->count];
            return true;
        }
    return false;
}

static enum sluice_cancel_answer cancel(void *instance, struct sluice_request *r, void *scratch)
{
    struct forever *f = instance;
    bool was_held = false;

    (void)scratch;
    sluice_count(f->disk, CANCELLED, 1);
    if (f->refuses_cancel)
        return SLUICE_CANCEL_BUSY;
    pthread_mutex_lock(&f->mutex);
    was_held = take_out(f, r);
    pthread_mutex_unlock(&f->mutex);
    if (was_held)
        sluice_count(f->disk, HELD, -1);
    return was_held ? SLUICE_CANCEL_RELEASED : SLUICE_CANCEL_BUSY;
}

static int release(void *instance, int argc, const char *const *argv, struct sluice_reply *reply,
                   struct sluice_error *error)
{
    struct forever *f = instance;
    struct sluice_request *all[HELD_MAX];
    unsigned count;

    (void)argc, (void)argv, (void)error;
    pthread_mutex_lock(&f->mutex);
    count = f->count;
    memcpy(all, f->held, count * sizeof *all);
    f->count = 0;
    pthread_mutex_unlock(&f->mutex);
    for (unsigned i = 0; i < count; i++)
        sluice_resume(f->disk, all[i], sluice_pass());
    sluice_count(f->disk, HELD, -(int64_t)count);
    sluice_reply_integer(f->disk, reply, "released", count);
    return 0;
}

static const struct sluice_verb verbs[] = {
    {"release", "", "Lets all requests go.", release},
    SLUICE_VERBS_END,
};

#define DOWN SLUICE_HANDLE(start, NULL)
static const struct sluice_filter filter = {TEST_FILTER_HEAD("forever", "Keeps requests."),
                                            .traits = SLUICE_TRAIT_BYPASSABLE,
                                            .options = options,
                                            .counters = counters,
                                            .verbs = verbs,
                                            .open = forever_open,
                                            .close = forever_close,
                                            .cancel = cancel,
                                            EVERY_OPERATION(DOWN)};
SLUICE_FILTER(filter)
