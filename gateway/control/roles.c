/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * roles.c: what the gateway does when a disk changes its role: its clients are sent away, or let
 * in, and `hooks.d/promoted` or `hooks.d/demoted` in the configuration's folder is run with the
 * disk, the group and the epoch, so that others can move an address.
 *
 * A demotion waits for its hook, so that the address is gone before the other gateway takes it; one
 * that hangs is ended after its limit.
 */
#include "internal.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define HOOK_LIMIT_MS 10000
extern char **environ;

/* --- hooks ---------------------------------------------------------------------------------- */

/* Waits by a descriptor, which no other waiter of the process can take away. */
static void wait_for_hook(pid_t pid, const char *path, const struct disk *disk)
{
    struct pollfd ended = {.fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN};
    int status = 0;

    if (ended.fd >= 0 && poll(&ended, 1, HOOK_LIMIT_MS) == 0) {
        log_line(LOG_LEVEL_ERROR, "%s did not end within %d s and is killed disk=%s", path,
                 HOOK_LIMIT_MS / 1000, disk_name(disk));
        kill(pid, SIGKILL);
    }
    if (ended.fd >= 0)
        close(ended.fd);
    if (waitpid(pid, &status, 0) == pid && status != 0)
        log_line(LOG_LEVEL_WARNING, "%s ended with %s %d disk=%s", path,
                 WIFSIGNALED(status) ? "signal" : "exit code",
                 WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status), disk_name(disk));
}

static void run_hook(const struct gateway *g, const char *name, const struct disk *disk,
                     uint64_t epoch)
{
    char path[PATH_MAX], number[24];
    const char *arguments[] = {path, disk_name(disk), disk_group(disk), number, NULL};
    pid_t pid;
    int r;

    if (!g->options.folder ||
        snprintf(path, sizeof path, "%s/hooks.d/%s", g->options.folder, name) >= (int)sizeof path ||
        access(path, X_OK) < 0)
        return;
    snprintf(number, sizeof number, "%llu", (unsigned long long)epoch);
    r = posix_spawn(&pid, path, NULL, NULL, (char *const *)(uintptr_t)arguments, environ);
    if (r)
        log_line(LOG_LEVEL_ERROR, "cannot run %s: %s disk=%s", path, strerror(r), disk_name(disk));
    else
        wait_for_hook(pid, path, disk);
}

/* --- roles ---------------------------------------------------------------------------------- */

static void on_role(void *context, struct disk *disk, uint32_t role, uint64_t epoch)
{
    struct gateway *g = context;
    bool is_primary = role == SLUICE_ROLE_PRIMARY;

    log_line(LOG_LEVEL_NOTICE, "is %s now, epoch %llu disk=%s", disk_role_name(role),
             (unsigned long long)epoch, disk_name(disk));
    targets_set_access(g, disk, role);
    if (!is_primary && g->options.demoted)
        g->options.demoted(g->options.context, disk);
    run_hook(g, is_primary ? "promoted" : "demoted", disk, epoch);
}

void roles_start(struct gateway *g)
{
    disk_set_record_hook(scsi_take_record);
    disk_set_role_hook(on_role, g);
}
