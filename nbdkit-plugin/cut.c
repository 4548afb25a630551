/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * cut.c: sends the clients of a disk away that this gateway no longer serves, so that they connect
 * again, elsewhere, and send once more what was not answered.  nbdkit 1.32 cannot disconnect a
 * client and does not tell its descriptor; but the process's own descriptors can be looked through
 * for the socket whose other end is the client's: by its address and port over TCP, by its process
 * over a Unix socket (which may cut other connections of that process: they connect again as well).
 * One that is not found is told by ESHUTDOWN.
 */
#include "plugin.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

static pthread_mutex_t connections_mutex = PTHREAD_MUTEX_INITIALIZER; /* the list */
static struct list connections = {&connections, &connections};

void cut_add(struct connection *c)
{
    SCOPED_LOCK(&connections_mutex);

    list_append(&connections, &c->link);
}

void cut_remove(struct connection *c)
{
    SCOPED_LOCK(&connections_mutex);

    list_remove(&c->link);
}

/* Over a Unix socket clients are known by their process alone. */
static void describe_unix(int fd, char *text, size_t size)
{
    struct ucred who = {.pid = 0};
    socklen_t length = sizeof who;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &length) == 0)
        snprintf(text, size, "unix:pid %d", (int)who.pid);
}

static void describe_other_end(int fd, char *text, size_t size)
{
    struct sockaddr_storage sa = {.ss_family = AF_UNSPEC};
    socklen_t length = sizeof sa;

    text[0] = '\0';
    if (getpeername(fd, (struct sockaddr *)&sa, &length) < 0)
        return;
    if (sa.ss_family == AF_UNIX)
        describe_unix(fd, text, size);
    else if (sa.ss_family == AF_INET || sa.ss_family == AF_INET6)
        plugin_describe_ip((const struct sockaddr *)&sa, text, size);
}

/* The control socket's clients are Unix sockets too: its name tells them. */
static bool is_of_control(int fd)
{
    struct sockaddr_un own = {.sun_family = AF_UNSPEC};
    socklen_t length = sizeof own;
    const char *path = gateway_control_path(plugin_gateway);

    return path && getsockname(fd, (struct sockaddr *)&own, &length) == 0 &&
           own.sun_family == AF_UNIX && strcmp(own.sun_path, path) == 0;
}

static bool shut_down(const char *address)
{
    DIR *folder = opendir("/proc/self/fd");
    const struct dirent *entry;
    bool was_found = false;

    while (folder && (entry = readdir(folder)) != NULL) {
        char *end, text[128];
        int fd = (int)strtol(entry->d_name, &end, 10);

        if (*end || end == entry->d_name)
            continue;
        describe_other_end(fd, text, sizeof text);
        if (strcmp(text, address) != 0 || is_of_control(fd))
            continue;
        was_found |= shutdown(fd, SHUT_RDWR) == 0;
    }
    if (folder)
        closedir(folder);
    return was_found;
}

void cut_clients(void *context, struct disk *disk)
{
    unsigned cut = 0, told = 0;
    SCOPED_LOCK(&connections_mutex);

    (void)context;
    LIST_FOREACH (node, &connections) {
        struct connection *c = LIST_ENTRY(node, struct connection, link);

        if (gateway_export_disk(c->export) != disk)
            continue;
        atomic_store(&c->is_cut, true);
        if (shut_down(c->session->client.address))
            cut++;
        else
            told++;
    }
    if (cut + told)
        log_line(LOG_LEVEL_NOTICE, "%u NBD clients were disconnected%s disk=%s", cut + told,
                 told ? ", some by an error" : "", disk_name(disk));
}
