/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * keep: always has one request of the guest deferred, and lets go of it only when the disk is being
 * quiesced; then it takes the next one that comes after.  So whatever quiesces the disk finds a
 * request deferred, once `held` of its status has said so, and not by luck.
 */
#include "test-filter.h"

struct keep {
    struct sluice_disk *disk;
    pthread_mutex_t mutex; /* the rest */
    struct sluice_request *kept;
    bool is_quiescing;
};

static int keep_open(struct sluice_disk *disk, const struct sluice_value *v, void **instance,
                     struct sluice_error *error)
{
    struct keep *k = calloc(1, sizeof *k);

    (void)v;
    if (!k)
        return sluice_refuse(disk, error, ENOMEM, "out of memory");
    k->disk = disk;
    pthread_mutex_init(&k->mutex, NULL);
    *instance = k;
    return 0;
}

static void keep_close(void *instance)
{
    struct keep *k = instance;

    pthread_mutex_destroy(&k->mutex);
    free(k);
}

static struct sluice_verdict start(void *instance, struct sluice_request *r, void *scratch)
{
    struct keep *k = instance;
    bool is_taken;

    (void)scratch;
    pthread_mutex_lock(&k->mutex);
    is_taken = r->origin == SLUICE_ORIGIN_GUEST && !k->kept && !k->is_quiescing;
    if (is_taken)
        k->kept = r;
    pthread_mutex_unlock(&k->mutex);
    return is_taken ? sluice_defer() : sluice_pass();
}

static enum sluice_cancel_answer cancel(void *instance, struct sluice_request *r, void *scratch)
{
    struct keep *k = instance;
    bool is_kept;

    (void)scratch;
    pthread_mutex_lock(&k->mutex);
    is_kept = k->kept == r;
    if (is_kept)
        k->kept = NULL;
    pthread_mutex_unlock(&k->mutex);
    return is_kept ? SLUICE_CANCEL_RELEASED : SLUICE_CANCEL_BUSY;
}

static int on_event(void *instance, const struct sluice_event *event, struct sluice_error *error)
{
    struct keep *k = instance;
    struct sluice_request *kept;

    (void)error;
    if (event->kind != SLUICE_EVENT_QUIESCE && event->kind != SLUICE_EVENT_RESUME)
        return 0;
    pthread_mutex_lock(&k->mutex);
    k->is_quiescing = event->kind == SLUICE_EVENT_QUIESCE && event->phase != SLUICE_PHASE_ABORT;
    kept = k->is_quiescing ? k->kept : NULL;
    if (kept)
        k->kept = NULL;
    pthread_mutex_unlock(&k->mutex);
    if (kept)
        sluice_resume(k->disk, kept, sluice_pass());
    return 0;
}

#define DOWN SLUICE_HANDLE(start, NULL)
static const struct sluice_filter filter = {
    TEST_FILTER_HEAD("keep", "Keeps a request until the disk is quiesced."),
    .open = keep_open,
    .close = keep_close,
    .cancel = cancel,
    .event = on_event,
    EVERY_OPERATION(DOWN)};
SLUICE_FILTER(filter)
