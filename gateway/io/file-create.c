/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * file-create: a file that appears at its full size or not at all.
 *
 * It is made under a name of its own, sized, synced and then linked to the wanted one: link(2)
 * never replaces what is there, so of two who create the same file one wins and both open the
 * winner's. A crash in between leaves PATH.creating.XXXXXX, which holds nothing and may be removed.
 */
#include "io/file.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <string.h>
#include <sys/stat.h>

int file_sync_folder(const char *path)
{
    CLEANUP_FREE char *copy = strdup(path);
    CLEANUP_CLOSE int fd = copy ? open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

    if (!copy)
        return -ENOMEM;
    return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

static int make_sized(char *template, uint64_t size)
{
    CLEANUP_CLOSE int fd = mkostemp(template, O_CLOEXEC);

    if (fd < 0 || ftruncate(fd, (off_t)size) < 0 || fsync(fd) < 0)
        return -errno;
    return 0;
}

/* Somebody else may have been faster: then theirs is the file. */
static int link_into_place(const char *temporary, const char *path)
{
    return link(temporary, path) < 0 && errno != EEXIST ? -errno : 0;
}

int file_create_if_absent(const char *path, uint64_t size, struct err *e)
{
    CLEANUP_FREE char *temporary = NULL;
    int r;

    if (access(path, F_OK) == 0)
        return 0;
    temporary = text_printf("%s.creating.XXXXXX", path);
    if (!temporary)
        return err_set(e, ENOMEM, "cannot create %s: out of memory", path);
    r = make_sized(temporary, size);
    if (r == 0)
        r = link_into_place(temporary, path);
    unlink(temporary); /* whatever became of it */
    if (r == 0)
        r = file_sync_folder(path);
    return r < 0 ? err_set(e, -r, "cannot create %s: %s", path, strerror(-r)) : 0;
}
