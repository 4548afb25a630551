/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * files.c: files of a filter's own (a cache tier, a journal) through the file service.  An
 * operation is an errand: the system call is made in the worker that waits for it, else by a
 * service loop.
 */
#include "internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define LOCK_WAIT_NS UINT64_C(5000000000)

struct sluice_file {
    struct seat *seat;
    struct file *file;
    struct list link; /* [M] seat.files */
};

struct file_errand {
    struct errand errand;
    struct io io;
    struct file *file;
} EMBEDDED;
EMBEDDED_FITS(struct file_errand, sluice_file_io);

static struct sluice_file_io *io_of(struct file_errand *fe)
{
    return CONTAINER_OF(fe, struct sluice_file_io, host_private);
}

static struct file_errand *file_errand_of(struct sluice_file_io *io)
{
    return (struct file_errand *)(void *)io->host_private;
}

/* --- open and close ------------------------------------------------------------------------- */

/* A relative path is one in the instance's state folder. */
static int full_path(struct seat *seat, const char *path, char out[PATH_MAX], struct err *e)
{
    const char *folder = path[0] == '/' ? "" : seat_folder(seat);

    if (!folder)
        return err_set(e, EIO, "%s: the state folder cannot be made", path);
    if (snprintf(out, PATH_MAX, "%s%s%s", folder, folder[0] ? "/" : "", path) >= PATH_MAX)
        return err_set(e, ENAMETOOLONG, "%s: the path is too long", path);
    return 0;
}

int seat_file_open(struct seat *seat, const char *path, uint32_t flags, uint64_t create_size,
                   struct sluice_file **out, struct err *e)
{
    struct file_options options = {
        .direct = flags & SLUICE_FILE_DIRECT,
        .may_hang = flags & SLUICE_FILE_MAY_HANG,
        .create = flags & SLUICE_FILE_CREATE,
        .create_size = create_size,
        .exclusive_lock = flags & SLUICE_FILE_LOCK,
        .lock_wait_ns = LOCK_WAIT_NS,
    };
    CLEANUP_FREE struct sluice_file *f = calloc(1, sizeof *f);
    char full[PATH_MAX];
    int r;

    if (!f)
        return err_set(e, ENOMEM, "%s: out of memory", path);
    r = full_path(seat, path, full, e);
    if (r == 0)
        r = file_open(full, &options, &f->file, e);
    if (r < 0)
        return r;
    f->seat = seat;
    *out = f;
    f = NULL;
    SCOPED_LOCK(&seat->mutex);
    list_append(&seat->files, &(*out)->link);
    return 0;
}

void host_file_close(struct sluice_file *f)
{
    {
        SCOPED_LOCK(&f->seat->mutex);
        list_remove(&f->link);
    }
    file_close(f->file);
    free(f);
}

unsigned seat_drop_files(struct seat *seat)
{
    unsigned count = 0;

    while (!list_is_empty(&seat->files)) {
        host_file_close(LIST_ENTRY(seat->files.next, struct sluice_file, link));
        count++;
    }
    return count;
}

uint64_t host_file_size(struct sluice_file *f)
{
    return file_size(f->file);
}

/* --- operations ----------------------------------------------------------------------------- */

static int fill(struct io *io, const struct sluice_file_io *from)
{
    static const enum io_kind kinds[SLUICE_OP_EXTENTS] = {
        [SLUICE_OP_READ] = IO_READ, [SLUICE_OP_WRITE] = IO_WRITE, [SLUICE_OP_FLUSH] = IO_FLUSH,
        [SLUICE_OP_TRIM] = IO_TRIM, [SLUICE_OP_ZERO] = IO_ZERO,
    };

    if (from->op >= SLUICE_OP_EXTENTS)
        return -EINVAL;
    *io = (struct io){
        .kind = kinds[from->op],
        .flags = from->flags & ~SLUICE_FLAG_ELSEWHERE,
        .offset = from->offset,
        .length = from->length,
        .data = from->data,
    };
    return 0;
}

static void finish(struct file_errand *fe, int result)
{
    struct sluice_file_io *io = io_of(fe);
    struct seat *seat = fe->errand.seat;

    errand_arrived(&fe->errand);
    io->done(io, -result); /* may free io */
    seat_leave(seat);
}

static void on_done(struct task *task)
{
    struct io *io = CONTAINER_OF(task, struct io, done_task);

    finish(CONTAINER_OF(io, struct file_errand, io), io->result);
}

/* In a worker, with a device that may not answer: what takes long ends in a service loop, and so
 * does what can only be done by a system call.  True: it is done. */
static bool submit_apart(struct file_errand *fe)
{
    struct home *worker = fe->errand.home;

    if (!file_fits_apart(fe->file, &fe->io)) {
        errand_move(&fe->errand);
        return false;
    }
    if (file_submit_apart(fe->file, &fe->io) == IO_DONE)
        return true;
    fe->errand.home = service_home(fe->errand.seat->service);
    file_leave_apart(&fe->io, fe->errand.home);
    engine_home_return(worker);
    return false;
}

static void start(struct errand *errand)
{
    struct file_errand *fe = CONTAINER_OF(errand, struct file_errand, errand);
    int r;

    if (errand->home->is_hurried && io_of(fe)->op == SLUICE_OP_FLUSH) {
        home_put_off(errand->home, &errand->task); /* takes longer than anybody may wait for it */
        return;
    }
    r = fill(&fe->io, io_of(fe));

    if (r < 0) {
        finish(fe, r);
        return;
    }
    fe->io.home = errand->home;
    fe->io.done_task.run = on_done;
    if (errand->home->kind == HOME_WORKER && file_goes_apart(fe->file, &fe->io)) {
        if (submit_apart(fe))
            finish(fe, fe->io.result);
    } else if (file_submit(fe->file, &fe->io) == IO_DONE) {
        finish(fe, fe->io.result);
    }
}

int host_file_submit(struct sluice_file *f, struct sluice_file_io *io)
{
    struct file_errand *fe = file_errand_of(io);

    fe->file = f->file;
    return io->flags & SLUICE_FLAG_ELSEWHERE ? errand_send_elsewhere(f->seat, &fe->errand, start)
                                             : errand_send(f->seat, &fe->errand, start);
}

int host_file_try(struct sluice_file *f, struct sluice_file_io *from)
{
    struct io io;

    if (from->op != SLUICE_OP_WRITE || fill(&io, from) < 0 || !file_write_here(f->file, &io))
        return -EAGAIN;
    return io.result;
}

/* --- and waiting --------------------------------------------------------------------------------
 */

struct waiting {
    struct io io;
    bool is_done;
};

static void on_waited(struct task *task)
{
    struct io *io = CONTAINER_OF(task, struct io, done_task);

    CONTAINER_OF(io, struct waiting, io)->is_done = true;
}

static int run_and_wait(struct file *file, struct waiting *w)
{
    w->io.home = home_current();
    w->io.done_task.run = on_waited;
    if (!w->io.home)
        return -ENOMEM;
    workers_block();
    if (file_submit(file, &w->io) == IO_PENDING)
        home_wait(w->io.home, &w->is_done);
    workers_unblock();
    return w->io.result;
}

int host_file_wait(struct sluice_file *f, struct sluice_file_io *io)
{
    struct seat *seat = f->seat;
    struct waiting w = {.is_done = false};
    int r = fill(&w.io, io);

    if (r < 0)
        return r;
    if (engine_home_must_not_block()) {
        seat_log(seat, LOG_LEVEL_ERROR,
                 "waits for a file where it must not block (bug of the filter)");
        return -EDEADLK;
    }
    return run_and_wait(f->file, &w);
}
