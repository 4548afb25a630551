/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * state.c: small files that are either the old or the new ones, whatever happens: written beside,
 * fsynced, renamed over, and the folder fsynced.
 */
#include "disk/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static bool is_file_name(const char *name)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";

    return name[0] && name[0] != '.' && strlen(name) < 200 && strspn(name, allowed) == strlen(name);
}

static int write_all(int fd, const void *data, size_t length)
{
    const char *p = data;

    while (length) {
        ssize_t n = write(fd, p, length);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        p += n;
        length -= (size_t)n;
    }
    return 0;
}

static int sync_folder(const char *folder)
{
    CLEANUP_CLOSE int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return -errno;
    return fsync(fd) < 0 ? -errno : 0;
}

static int write_temporary(const char *path, const void *data, size_t length)
{
    CLEANUP_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    int r;

    if (fd < 0)
        return -errno;
    r = write_all(fd, data, length);
    if (r == 0 && fsync(fd) < 0)
        r = -errno;
    return r;
}

int disk_state_write(const char *folder, const char *name, const void *data, size_t length)
{
    char path[PATH_MAX], temporary[PATH_MAX];
    int r;

    if (!is_file_name(name))
        return -EINVAL;
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path ||
        snprintf(temporary, sizeof temporary, "%s/.%s.new", folder, name) >= (int)sizeof temporary)
        return -ENAMETOOLONG;
    r = write_temporary(temporary, data, length);
    if (r == 0 && rename(temporary, path) < 0)
        r = -errno;
    if (r < 0) {
        unlink(temporary);
        return r;
    }
    return sync_folder(folder);
}

static int read_all(int fd, void *data, size_t capacity, size_t *length)
{
    *length = 0;
    for (;;) {
        char extra;
        bool is_full = *length == capacity;
        ssize_t n =
            is_full ? read(fd, &extra, 1) : read(fd, (char *)data + *length, capacity - *length);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return 0;
        if (is_full)
            return -EFBIG;
        *length += (size_t)n;
    }
}

int disk_state_read(const char *folder, const char *name, void *data, size_t capacity,
                    size_t *length)
{
    char path[PATH_MAX];

    if (!is_file_name(name))
        return -EINVAL;
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path)
        return -ENAMETOOLONG;
    CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    return read_all(fd, data, capacity, length);
}

int disk_state_remove(const char *folder, const char *name)
{
    char path[PATH_MAX];

    if (!is_file_name(name))
        return -EINVAL;
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path)
        return -ENAMETOOLONG;
    if (unlink(path) < 0)
        return errno == ENOENT ? 0 : -errno;
    return sync_folder(folder);
}

static int make_one(const char *path, struct err *e)
{
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return err_set(e, errno, "cannot make the folder %s: %s", path, strerror(errno));
    return 0;
}

static void sync_parent(char *path)
{
    char *slash = strrchr(path, '/');

    if (slash && slash != path) {
        *slash = 0;
        sync_folder(path);
        *slash = '/';
    }
}

int disk_state_make_folder(const char *path, struct err *e)
{
    char partial[PATH_MAX];
    struct stat st;

    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        return 0;
    if (snprintf(partial, sizeof partial, "%s", path) >= (int)sizeof partial)
        return err_set(e, ENAMETOOLONG, "the folder's name is too long: %s", path);
    for (char *p = partial + 1; *p; p++) {
        int r;

        if (*p != '/')
            continue;
        *p = 0;
        r = make_one(partial, e);
        *p = '/';
        if (r < 0)
            return r;
    }
    if (make_one(partial, e) < 0)
        return -e->code;
    sync_parent(partial);
    return 0;
}
