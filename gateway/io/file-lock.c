/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * file-lock: nobody else writes to a file that we serve, and a refusal names who holds it.
 *
 * Open-file-description locks (fcntl_locking(2)) belong to the descriptor that does the I/O: they
 * end when its last copy is closed, even by a crash, though the kernel's own work (io_uring, a
 * dying process) may keep them for some milliseconds, hence the retries.  F_OFD_GETLK and
 * /proc/locks give such a lock no process; /proc/PID/fdinfo/FD shows it with the descriptor.
 */
#include "io/file.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define RETRY_NS 10000000l

static void cleanup_dir(DIR **dir)
{
    if (*dir)
        closedir(*dir);
}
#define CLEANUP_DIR __attribute__((cleanup(cleanup_dir)))

/* --- who holds it ------------------------------------------------------------------------- */

/* The first bytes of a small file of /proc, terminated; false if it cannot be read. */
static bool read_small(const char *path, char *text, size_t size)
{
    CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? -1 : read(fd, text, size - 1);

    if (length < 0)
        return false;
    text[length] = '\0';
    return true;
}

/* "lock:\t1: OFDLCK ADVISORY  WRITE -1 fe:00:1234 0 EOF" */
static bool descriptor_locks(int pid, const char *fd, const char *inode)
{
    char path[64], info[4096];

    snprintf(path, sizeof path, "/proc/%d/fdinfo/%.16s", pid, fd);
    return read_small(path, info, sizeof info) && strstr(info, "OFDLCK") && strstr(info, inode);
}

static bool process_locks(int pid, const char *inode)
{
    char path[64];
    CLEANUP_DIR DIR *dir = NULL;

    snprintf(path, sizeof path, "/proc/%d/fdinfo", pid);
    dir = opendir(path);
    for (struct dirent *entry; dir && (entry = readdir(dir));)
        if (isdigit((unsigned char)entry->d_name[0]) && descriptor_locks(pid, entry->d_name, inode))
            return true;
    return false;
}

/* Best effort: other users' processes cannot be looked into.  0: not found. */
static int find_process(int fd)
{
    CLEANUP_DIR DIR *dir = opendir("/proc");
    char inode[64];
    struct stat st;

    if (fstat(fd, &st) < 0)
        return 0;
    snprintf(inode, sizeof inode, " %02x:%02x:%llu ", major(st.st_dev), minor(st.st_dev),
             (unsigned long long)st.st_ino);
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        int pid = atoi(entry->d_name);

        if (pid > 0 && process_locks(pid, inode))
            return pid;
    }
    return 0;
}

static int say_holder(const char *path, int pid, struct err *e)
{
    char comm_path[64], comm[64];

    if (pid <= 0)
        return err_set(e, EAGAIN, "%s is in use by another process", path);
    snprintf(comm_path, sizeof comm_path, "/proc/%d/comm", pid);
    if (!read_small(comm_path, comm, sizeof comm))
        return err_set(e, EAGAIN, "%s is in use by process %d", path, pid);
    comm[strcspn(comm, "\n")] = '\0';
    return err_set(e, EAGAIN, "%s is in use by process %d (%s)", path, pid, comm);
}

static COLD int refuse(int fd, const char *path, short type, struct err *e)
{
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET};

    if (fcntl(fd, F_OFD_GETLK, &lock) < 0 || lock.l_type == F_UNLCK)
        lock.l_pid = 0;
    return say_holder(path, lock.l_pid > 0 ? lock.l_pid : find_process(fd), e);
}

/* --- locking ------------------------------------------------------------------------------ */

int file_lock(int fd, const char *path, bool is_shared, uint64_t wait_ns, struct err *e)
{
    struct flock lock = {.l_type = is_shared ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET};
    const struct timespec pause = {.tv_nsec = RETRY_NS};
    uint64_t began = clock_now_ns();

    while (fcntl(fd, F_OFD_SETLK, &lock) < 0) {
        if (errno == EINTR)
            continue;
        if (errno != EAGAIN && errno != EACCES)
            return err_set(e, errno, "cannot lock %s: %s", path, strerror(errno));
        if (clock_now_ns() - began >= wait_ns)
            return refuse(fd, path, lock.l_type, e);
        nanosleep(&pause, NULL);
    }
    return 0;
}
