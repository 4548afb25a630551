/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * job.c: commands of several steps.  A job runs its step function in the command's home, again
 * after each request of the engine or piece of blocking work has ended.  Nothing recurses: what
 * ends inside a step is seen by the loop that called it.
 */
#include "internal.h"

#include <errno.h>
#include <string.h>

struct scsi_job *job_new(struct scsi_command *c, enum job_next (*step)(struct scsi_job *job),
                         size_t buffer_bytes)
{
    struct scsi_job *job = calloc(1, sizeof *job);

    if (job && buffer_bytes)
        job->buffer = aligned_alloc(4096, (buffer_bytes + 4095) / 4096 * 4096);
    if (!job || (buffer_bytes && !job->buffer)) {
        free(job);
        c->status = SCSI_BUSY;
        return NULL;
    }
    job->command = c;
    job->step = step;
    job->buffer_bytes = buffer_bytes;
    c->job = job;
    return job;
}

static void job_free(struct scsi_job *job)
{
    if (job->cleanup)
        job->cleanup(job);
    if (job->last)
        request_free(job->last);
    job->command->job = NULL;
    free(job->buffer);
    free(job->more);
    free(job);
}

/* Another logical unit of the session was used: it may be waiting to leave. */
static void give_back(struct scsi_job *job)
{
    if (job->of == job->command->nexus_lu)
        return;
    job->of->lent--;
    nexus_lu_settle(job->of);
}

/* Takes the request that has ended; false: that ends the job. */
static bool reap(struct scsi_job *job)
{
    struct scsi_command *c = job->command;

    if (job->request) {
        if (job->last)
            request_free(job->last);
        job->last = job->request;
        job->request = c->request = NULL;
        job->error = request_error(job->last);
        give_back(job);
    }
    if (c->is_cancelled && !job->sees_cancel)
        return false;
    if (!job->error || job->sees_errors)
        return true;
    sense_from_error(c, job->error, job->last ? request_miscompare_offset(job->last) : 0);
    return false;
}

/* True: it has ended. */
static bool advance(struct scsi_job *job)
{
    enum job_next next = JOB_AGAIN;

    while (next == JOB_AGAIN)
        next = reap(job) ? job->step(job) : JOB_END;
    return next == JOB_END;
}

static void go_on(struct scsi_job *job)
{
    struct scsi_command *c = job->command;

    if (!advance(job))
        return;
    job_free(job);
    command_end(c);
}

enum io_status job_start(struct scsi_job *job)
{
    if (!advance(job))
        return IO_PENDING;
    job_free(job);
    return IO_DONE;
}

void job_resume(struct scsi_job *job)
{
    go_on(job);
}

void job_discard(struct scsi_job *job)
{
    job_free(job);
}

static void on_request_done(struct request *r)
{
    go_on(request_owner(r));
}

enum job_next job_request_of(struct scsi_job *job, struct scsi_nexus_lu *of, unsigned op,
                             uint32_t flags, uint64_t offset, uint64_t length, void *data)
{
    struct request *r = request_new(of->lu->engine, &of->session->client);

    if (!r) {
        job->error = ENOMEM;
        return JOB_AGAIN;
    }
    request_fill(r, op, flags, offset, length, data);
    request_set_done(r, on_request_done, job);
    if (job->token)
        request_set_lock_token(r, job->token);
    job->of = of;
    if (of != job->command->nexus_lu)
        of->lent++;
    job->request = job->command->request = r;
    return request_submit(r) == IO_PENDING ? JOB_WAIT : JOB_AGAIN;
}

enum job_next job_request(struct scsi_job *job, unsigned op, uint32_t flags, uint64_t offset,
                          uint64_t length, void *data)
{
    return job_request_of(job, job->command->nexus_lu, op, flags, offset, length, data);
}

/* --- blocking work ------------------------------------------------------------------------ */

static void back_home(struct task *task)
{
    go_on(CONTAINER_OF(task, struct scsi_job, task));
}

static void on_pool(struct task *task)
{
    struct scsi_job *job = CONTAINER_OF(task, struct scsi_job, task);

    job->error = job->work(job);
    job->task.run = back_home;
    home_post(job->command->nexus->home, &job->task);
}

enum job_next job_work(struct scsi_job *job, int (*work)(struct scsi_job *job))
{
    job->work = work;
    job->task.run = on_pool;
    pool_submit(&job->task);
    return JOB_WAIT;
}
