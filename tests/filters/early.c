/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * early: resumes a request before, or about when, its start callback returns defer: from the
 * callback itself, from a worker, or from a timer that is due at once.
 */
#include "test-filter.h"

struct early {
    struct sluice_disk *disk;
    struct sluice_value op;
    int64_t from, answer;
};

struct errand {
    struct sluice_work work; /* first */
    struct sluice_timer timer;
    struct early *owner;
    struct sluice_request *request;
};

enum { FROM_CALLBACK, FROM_WORKER, FROM_TIMER };
enum { ANSWER_PASS, ANSWER_COMPLETE, ANSWER_FAIL };
enum { O_OP, O_FROM, O_ANSWER };
static const struct sluice_option options[] = {
    OPTION_OP,
    {"from", SLUICE_TYPE_ENUM, 0, 0, 0, "callback", "callback|worker|timer", "Who resumes."},
    {"answer", SLUICE_TYPE_ENUM, 0, 0, 0, "pass", "pass|complete|fail", "With which verdict."},
    SLUICE_OPTIONS_END,
};

static int early_open(struct sluice_disk *disk, const struct sluice_value *v, void **instance,
                      struct sluice_error *error)
{
    struct early *e = calloc(1, sizeof *e);

    if (!e)
        return sluice_refuse(disk, error, ENOMEM, "out of memory");
    e->disk = disk;
    e->op = v[O_OP];
    e->from = v[O_FROM].integer;
    e->answer = v[O_ANSWER].integer;
    *instance = e;
    return 0;
}

static void resume(struct errand *errand)
{
    struct early *e = errand->owner;

    sluice_resume(e->disk, errand->request,
                  e->answer == ANSWER_PASS       ? sluice_pass()
                  : e->answer == ANSWER_COMPLETE ? sluice_complete()
                                                 : sluice_fail(EIO));
}

static void on_work(struct sluice_work *work)
{
    resume((struct errand *)(void *)work);
}

static void on_timer(struct sluice_timer *timer)
{
    resume((struct errand *)(void *)((char *)timer - offsetof(struct errand, timer)));
}

static struct sluice_verdict on_request(void *instance, struct sluice_request *r, void *scratch)
{
    struct early *e = instance;
    struct errand *errand = scratch;

    if (!is_meant(&e->op, r))
        return sluice_pass();
    memset(errand, 0, sizeof *errand);
    errand->owner = e;
    errand->request = r;
    errand->work.run = on_work;
    errand->timer.fire = on_timer;
    if (e->from == FROM_CALLBACK)
        resume(errand);
    else if (e->from == FROM_WORKER)
        sluice_work_submit(e->disk, &errand->work);
    else
        sluice_timer_start(e->disk, &errand->timer, 0);
    return sluice_defer();
}

/* It does not keep requests long enough for it to matter. */
static enum sluice_cancel_answer cancel(void *instance, struct sluice_request *r, void *scratch)
{
    (void)instance, (void)r, (void)scratch;
    return SLUICE_CANCEL_BUSY;
}

#define DOWN SLUICE_HANDLE(on_request, NULL)
static const struct sluice_filter filter = {TEST_FILTER_HEAD("early", "Resumes at once."),
                                            .options = options,
                                            .scratch_bytes = sizeof(struct errand),
                                            .open = early_open,
                                            .close = free,
                                            .cancel = cancel,
                                            EVERY_OPERATION(DOWN)};
SLUICE_FILTER(filter)
