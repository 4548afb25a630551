/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * serve.c: `sluice serve`: checks the configuration, opens the NBD listeners, and becomes nbdkit
 * with the Sluice plugin.  nbdkit takes listeners by socket activation: descriptors 3..,
 * LISTEN_FDS, and LISTEN_PID set right before exec.  The control socket follows after that range,
 * by number.
 */
#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define FIRST_FD 3
#define FDS_MAX 64
#define BACKLOG 1024

struct serve {
    struct cli *cli;
    struct gateway_config *config;
    int fd[FDS_MAX]; /* NBD listeners, in order */
    unsigned fd_count;
    int control_fd;
    char *argument[64];
    unsigned argument_count;
};

/* --- listeners
 * ---------------------------------------------------------------------------------------- */

/* A socket file that nobody answers on is left over from a gateway that was killed. */
static int remove_stale(const struct sockaddr_un *un, struct err *e)
{
    CLEANUP_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct stat st;

    if (lstat(un->sun_path, &st) < 0)
        return 0;
    if (!S_ISSOCK(st.st_mode))
        return err_set(e, EEXIST, "%s is in the way and no socket; remove it", un->sun_path);
    if (fd >= 0 && connect(fd, (const struct sockaddr *)un, sizeof *un) == 0)
        return err_set(e, EADDRINUSE, "%s: another server is listening there", un->sun_path);
    return unlink(un->sun_path) < 0
               ? err_set(e, errno, "cannot remove %s: %s", un->sun_path, strerror(errno))
               : 0;
}

static int listen_unix(const struct config_address *a, struct err *e)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    int fd;

    if (strlen(a->path) >= sizeof un.sun_path)
        return err_set(e, ENAMETOOLONG,
                       "cannot listen on %s: a socket's path has at most %zu bytes", a->text,
                       sizeof un.sun_path - 1);
    memcpy(un.sun_path, a->path, strlen(a->path));
    if (remove_stale(&un, e) < 0)
        return -e->code;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && bind(fd, (struct sockaddr *)&un, sizeof un) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    err_set(e, errno, "cannot listen on %s: %s", a->text, strerror(errno));
    if (fd >= 0)
        close(fd);
    return -e->code;
}

static bool is_listener(int fd)
{
    int is_listening = 0;
    socklen_t size = sizeof is_listening;

    return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &is_listening, &size) == 0 && is_listening;
}

/* Under socket activation the listeners are given, and ours are not opened.  What the environment
 * says is checked: nbdkit would accept on whatever stands there. */
static int take_given(struct serve *s, struct err *e)
{
    const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");
    char *end;
    long n;

    if (!pid || !count || atoi(pid) != getpid())
        return 0;
    n = strtol(count, &end, 10);
    if (end == count || *end || n < 1 || n > FDS_MAX)
        return err_set(e, EINVAL, "LISTEN_FDS=%s is no number from 1 to %d", count, FDS_MAX);
    for (int i = 0; i < n; i++) {
        if (!is_listener(FIRST_FD + i))
            return err_set(e, ENOTSOCK, "LISTEN_FDS=%s, but descriptor %d is no listening socket",
                           count, FIRST_FD + i);
        s->fd[s->fd_count++] = FIRST_FD + i;
    }
    return 0;
}

static int open_listeners(struct serve *s, struct err *e)
{
    const struct config_addresses *nbd = &s->config->listen.nbd;

    if (take_given(s, e) < 0)
        return -e->code;
    if (s->fd_count > 0)
        return 0;
    for (unsigned i = 0; i < nbd->count; i++) {
        const struct config_address *a = &nbd->item[i];
        int fd = a->kind == ADDRESS_TCP ? listen_tcp(a->host, a->port, a->text, 0, e)
                                        : listen_unix(a, e);

        if (fd < 0)
            return fd;
        if (s->fd_count == FDS_MAX)
            return err_set(e, E2BIG, "at most %d listeners", FDS_MAX);
        s->fd[s->fd_count++] = fd;
    }
    if (s->fd_count == 0)
        return err_set(e, EINVAL, "listen.nbd names no address");
    return 0;
}

/* Puts the listeners at 3.. and the control socket behind them, all without close-on-exec. */
static int arrange_fds(struct serve *s, struct err *e)
{
    unsigned last = FIRST_FD + s->fd_count;
    int aside[FDS_MAX + 1];

    s->fd[s->fd_count] = s->control_fd;
    for (unsigned i = 0; i <= s->fd_count; i++) {
        aside[i] = fcntl(s->fd[i], F_DUPFD_CLOEXEC, FIRST_FD + FDS_MAX + 1);
        if (aside[i] < 0)
            return err_set(e, errno, "cannot duplicate a descriptor: %s", strerror(errno));
    }
    for (unsigned i = 0; i <= s->fd_count; i++)
        if (dup2(aside[i], (int)(FIRST_FD + i)) < 0)
            return err_set(e, errno, "cannot duplicate a descriptor: %s", strerror(errno));
    s->control_fd = (int)last;
    return 0;
}

/* --- TLS
 * ----------------------------------------------------------------------------------------------------
 */

static int link_file(const char *folder, const char *name, const char *target, struct err *e)
{
    char path[PATH_MAX];

    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path)
        return err_set(e, ENAMETOOLONG, "the state folder's name is too long");
    if (unlink(path) < 0 && errno != ENOENT)
        return err_set(e, errno, "cannot remove %s: %s", path, strerror(errno));
    return symlink(target, path) < 0
               ? err_set(e, errno, "cannot make %s: %s", path, strerror(errno))
               : 0;
}

/* nbdkit wants a folder with its own names in it. */
static int make_tls_folder(const struct gateway_config *c, char *folder, size_t size, struct err *e)
{
    if (snprintf(folder, size, "%s/nbd-tls", c->state) >= (int)size)
        return err_set(e, ENAMETOOLONG, "the state folder's name is too long");
    if (disk_state_make_folder(folder, e) < 0 ||
        link_file(folder, "ca-cert.pem", c->tls.ca, e) < 0 ||
        link_file(folder, "server-cert.pem", c->tls.certificate, e) < 0 ||
        link_file(folder, "server-key.pem", c->tls.key, e) < 0)
        return -e->code;
    return 0;
}

/* --- nbdkit's command line
 * -------------------------------------------------------------------------------------- */

static void add(struct serve *s, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void add(struct serve *s, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    if (s->argument_count + 1 >= ARRAY_SIZE(s->argument) ||
        vasprintf(&s->argument[s->argument_count], fmt, ap) < 0)
        abort(); /* before anything is served */
    va_end(ap);
    s->argument_count++;
}

static int add_tls(struct serve *s, struct err *e)
{
    enum config_tls_mode mode = config_tls_mode(s->config);
    char folder[PATH_MAX];

    if (mode == CONFIG_TLS_OFF)
        return 0;
    if (make_tls_folder(s->config, folder, sizeof folder, e) < 0)
        return -e->code;
    add(s, "--tls=%s", mode == CONFIG_TLS_REQUIRE ? "require" : "on");
    add(s, "--tls-certificates=%s", folder);
    add(s, "--tls-verify-peer");
    return 0;
}

static int compose(struct serve *s, struct err *e)
{
    const struct gateway_config *c = s->config;
    char plugin[PATH_MAX];

    cli_find_plugin(s->cli, plugin, sizeof plugin);
    if (access(plugin, R_OK) < 0)
        return err_set(e, errno, "cannot find the nbdkit plugin %s: %s", plugin, strerror(errno));
    add(s, "nbdkit");
    add(s, "--foreground");
    add(s, "--threads=%u", c->limits.nbd_in_flight);
    if (add_tls(s, e) < 0)
        return -e->code;
    for (unsigned i = 0; i < c->nbdkit_filter_count; i++)
        add(s, "--filter=%s", c->nbdkit_filters[i].name);
    add(s, "%s", plugin);
    add(s, "config=%s", c->folder);
    add(s, "control-fd=%d", s->control_fd);
    for (unsigned i = 0; i < c->nbdkit_filter_count; i++)
        for (unsigned j = 0; j < c->nbdkit_filters[i].arguments.count; j++)
            add(s, "%s", c->nbdkit_filters[i].arguments.item[j]);
    s->argument[s->argument_count] = NULL;
    return 0;
}

static void set_environment(const struct serve *s)
{
    char filters[PATH_MAX], number[16];

    cli_find_filters(s->cli, filters, sizeof filters);
    setenv("SLUICE_FILTER_PATH", filters, 0);
    snprintf(number, sizeof number, "%u", s->fd_count);
    setenv("LISTEN_FDS", number, 1);
    snprintf(number, sizeof number, "%d", (int)getpid());
    setenv("LISTEN_PID", number, 1);
    unsetenv("LISTEN_FDNAMES");
}

static int prepare(struct serve *s, struct err *e)
{
    int r = disk_state_make_folder(s->config->state, e);

    if (r == 0)
        r = open_listeners(s, e);
    if (r == 0)
        r = control_listen(s->config->listen.control.path, &s->control_fd, e);
    if (r == 0)
        r = arrange_fds(s, e);
    if (r == 0)
        r = compose(s, e);
    return r;
}

int cli_serve(struct cli *cli)
{
    struct serve s = {.cli = cli, .control_fd = -1};
    const char *nbdkit = getenv("SLUICE_NBDKIT");
    struct err e = {0};
    int r = cli_expect_positions(cli, 0, 0);

    if (r)
        return r;
    s.config = cli_load_config(cli);
    if (!s.config)
        return EXIT_ERROR;
    if (prepare(&s, &e) < 0)
        return cli_fail(cli, EXIT_ERROR, "%s", e.text);
    set_environment(&s);
    execvp(nbdkit ? nbdkit : SLUICE_NBDKIT, s.argument);
    return cli_fail(cli, EXIT_ERROR, "cannot start nbdkit: %s", strerror(errno));
}
