/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * kit-check.c: `sluice filter check`: the parent.  The checks run in a child that shares one page
 * with it, in which stands what is being tried; so whatever a filter does, its author is told
 * where.
 */
#include "kit.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

/* For one step, in seconds; $SLUICE_KIT_LIMIT for those who run it under valgrind, or cannot wait.
 */
#define STEP_LIMIT 60u
#define LOOK_NS 5000000

static unsigned step_limit(void)
{
    const char *text = getenv("SLUICE_KIT_LIMIT");
    int seconds = text ? atoi(text) : 0;

    return seconds > 0 ? (unsigned)seconds : STEP_LIMIT;
}

static _Noreturn void be_child(FILE *report, char *step, const char *path, const char *const *words,
                               unsigned count)
{
    struct kit kit = {.report = report, .step = step};
    int code = kit_run(&kit, path, words, count);

    fflush(report);
    _exit(code);
}

/* 0: it ended, *status says how; -ETIMEDOUT: it was in one step for too long, and was ended. */
static int wait_for_child(pid_t pid, const char *step, int *status)
{
    uint64_t limit = UINT64_C(1000000000) * step_limit(), since = clock_now_ns();
    struct timespec pause = {.tv_nsec = LOOK_NS};
    char seen[KIT_STEP_MAX] = "";

    for (;;) {
        if (waitpid(pid, status, WNOHANG) == pid)
            return 0;
        if (strncmp(seen, step, sizeof seen) != 0) {
            snprintf(seen, sizeof seen, "%s", step);
            since = clock_now_ns();
        }
        if (clock_now_ns() - since > limit) {
            kill(pid, SIGKILL);
            waitpid(pid, status, 0);
            return -ETIMEDOUT;
        }
        nanosleep(&pause, NULL);
    }
}

static int judge(int waited, int status, const char *step, FILE *report, struct err *e)
{
    if (waited < 0) {
        fprintf(report, "FAIL  %s: no answer within %u s\n", step, step_limit());
        return err_set(e, EINVAL, "the filter hangs (%s)", step);
    }
    if (WIFSIGNALED(status)) {
        fprintf(report, "FAIL  %s: ended by %s\n", step, strsignal(WTERMSIG(status)));
        return err_set(e, EINVAL, "the filter crashes (%s)", step);
    }
    if (WEXITSTATUS(status) == 0)
        return 0;
    return err_set(e, EINVAL, "the filter did not pass (%s)", step);
}

int host_kit_check(const char *so_path, const char *const *words, unsigned count, FILE *report,
                   struct err *e)
{
    char *step =
        mmap(NULL, KIT_STEP_MAX, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int waited, status = 0, r;
    pid_t pid;

    if (step == MAP_FAILED)
        return err_set(e, ENOMEM, "out of memory");
    fflush(report);
    pid = fork();
    if (pid == 0)
        be_child(report, step, so_path, words, count);
    if (pid < 0) {
        r = err_set(e, errno, "cannot start the check: %s", strerror(errno));
    } else {
        waited = wait_for_child(pid, step, &status);
        r = judge(waited, status, step, report, e);
    }
    munmap(step, KIT_STEP_MAX);
    return r;
}
