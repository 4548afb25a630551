/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * notify.c: tells the service manager, sd_notify(3): one datagram to the Unix socket that
 * $NOTIFY_SOCKET names ("@" stands for the abstract namespace).
 */
#include "control/control.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

void service_notify(const char *fmt, ...)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    CLEANUP_CLOSE int fd = -1;
    char text[512];
    va_list ap;
    int n;

    if (!path || (path[0] != '/' && path[0] != '@') || strlen(path) >= sizeof un.sun_path)
        return;
    va_start(ap, fmt);
    n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    memcpy(un.sun_path, path, strlen(path));
    if (path[0] == '@')
        un.sun_path[0] = 0;
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || n <= 0)
        return;
    if (sendto(fd, text, MIN((size_t)n, sizeof text - 1), MSG_NOSIGNAL, (struct sockaddr *)&un,
               (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path))) < 0)
        log_line(LOG_LEVEL_DEBUG, "the service manager did not take a notice");
}
