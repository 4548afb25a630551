/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * file-fixture: one operation on a file, from the worker that the test is or from a loop, and
 * system calls that misbehave.
 *
 * The main thread starts an operation with op_begin() and waits with op_end(); in between others
 * may be started, so many can be in flight.  Misbehaving calls are put into the io room's table
 * while nothing is in flight.
 */
#ifndef SLUICE_FILE_FIXTURE_H
#define SLUICE_FILE_FIXTURE_H

#include "io/file.h"
#include "io/syscalls.h"
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#define KIB 1024ull
#define MIB (1024ull * 1024)

/* --- places --------------------------------------------------------------------------------- */

enum place { FROM_WORKER, FROM_LOOP, FROM_HURRIED /* worker, see request_begin() */ };
static const enum place places[] = {FROM_WORKER, FROM_LOOP, FROM_HURRIED};
static struct loop *test_loop;

struct op {
    struct io io;
    struct file *file;
    struct home *asker;
    struct task start_task, end_task;
    bool is_done;      /* in the asker's thread */
    bool was_pending;  /* what file_submit() answered */
    bool was_answered; /* its callback ran, so never twice */
};

static inline void op_note_end(struct task *task)
{
    CONTAINER_OF(task, struct op, end_task)->is_done = true;
}

static inline void op_answered(struct task *task)
{
    struct op *op = CONTAINER_OF(task, struct op, io.done_task);

    CHECK(op->was_pending && !op->was_answered);
    CHECK(home_current() == op->io.home);
    op->was_answered = true;
    home_post(op->asker, &op->end_task);
}

static inline void op_start(struct task *task)
{
    struct op *op = CONTAINER_OF(task, struct op, start_task);

    op->io.home = home_current();
    op->was_pending = true; /* before the answer can come */
    if (file_submit(op->file, &op->io) == IO_PENDING)
        return;
    op->was_pending = false;
    home_post(op->asker, &op->end_task);
}

static inline void op_begin(struct op *op, enum place place, struct file *file, struct io io)
{
    *op = (struct op){.io = io, .file = file, .asker = home_current()};
    op->io.done_task.run = op_answered;
    op->start_task.run = op_start;
    op->end_task.run = op_note_end;
    if (place == FROM_LOOP) {
        home_post(loop_home(test_loop), &op->start_task);
        return;
    }
    op->asker->is_hurried = place == FROM_HURRIED;
    op_start(&op->start_task);
    op->asker->is_hurried = false;
}

static inline int op_end(struct op *op)
{
    home_wait(op->asker, &op->is_done);
    CHECK(op->was_answered == op->was_pending);
    return op->io.result;
}

static bool last_was_pending;

static inline int run_io(enum place place, struct file *file, struct io io)
{
    struct op op;
    int r;

    op_begin(&op, place, file, io);
    r = op_end(&op);
    last_was_pending = op.was_pending;
    return r;
}

static inline int read_at(enum place place, struct file *f, uint64_t offset, uint64_t length,
                          void *data)
{
    return run_io(place, f,
                  (struct io){.kind = IO_READ, .offset = offset, .length = length, .data = data});
}

static inline int write_at(enum place place, struct file *f, uint32_t flags, uint64_t offset,
                           uint64_t length, const void *data)
{
    return run_io(place, f,
                  (struct io){.kind = IO_WRITE,
                              .flags = flags,
                              .offset = offset,
                              .length = length,
                              .data = (void *)(uintptr_t)data});
}

static inline int flush(enum place place, struct file *f)
{
    return run_io(place, f, (struct io){.kind = IO_FLUSH});
}

static inline int change_at(enum place place, struct file *f, enum io_kind kind, uint32_t flags,
                            uint64_t offset, uint64_t length)
{
    return run_io(place, f,
                  (struct io){.kind = kind, .flags = flags, .offset = offset, .length = length});
}

static inline int extents_at(enum place place, struct file *f, struct extents *x, uint64_t offset,
                             uint64_t length)
{
    extents_reset(x, offset, length);
    return run_io(
        place, f,
        (struct io){.kind = IO_EXTENTS, .offset = offset, .length = length, .extents = x});
}

/* --- folders and files ---------------------------------------------------------------------- */

static char test_folder[4096];

static inline void make_folder(const char *under)
{
    snprintf(test_folder, sizeof test_folder, "%s/sluice-file.XXXXXX", under);
    if (!mkdtemp(test_folder))
        abort();
}

static inline const char *in_folder(const char *name)
{
    static char path[2][4200];
    static unsigned turn;

    snprintf(path[++turn % 2], sizeof path[0], "%s/%s", test_folder, name);
    return path[turn % 2];
}

static inline void remove_folder(void)
{
    char command[4200];

    snprintf(command, sizeof command, "rm -rf '%s'", test_folder);
    if (system(command) != 0)
        abort();
}

static inline const char *temporary_folder(void)
{
    const char *folder = getenv("TMPDIR");

    return folder ? folder : "/tmp";
}

/* A new file of that size, or NULL where the file system does not do what `options` ask. */
static inline struct file *new_file(const char *name, uint64_t size, struct file_options options)
{
    struct file *file = NULL;
    struct err e = {0};

    options.create = true;
    options.create_size = size;
    unlink(in_folder(name));
    if (file_open(in_folder(name), &options, &file, &e) < 0)
        fprintf(stderr, "# %s\n", e.text);
    return file;
}

/* --- log ------------------------------------------------------------------------------------ */

static _Atomic unsigned errors_logged;

static inline void count_errors(enum log_level level, const char *text)
{
    (void)text;
    if (level == LOG_LEVEL_ERROR)
        atomic_fetch_add(&errors_logged, 1);
}

static inline void begin_file_tests(const char *under)
{
    struct err e;

    alarm(110);
    log_set_sink(count_errors);
    clock_init();
    make_folder(under);
    test_loop = loop_create("test", &e);
    if (!test_loop || !home_current())
        abort();
}

static inline int end_file_tests(void)
{
    loop_destroy(test_loop);
    remove_folder();
    return unit_result();
}

#endif
