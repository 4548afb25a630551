/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * power: preloaded into a gateway, remembers how to lose what it has not made durable.
 *
 * For each regular file below POWER_UNDER that is written by position (pwrite, fallocate) the
 * former contents go into a log in the folder POWER_LOG before the write, and leave it when a sync
 * that began after the write has ended.  After kill -9 of the process tests/power-cut.py puts
 * former contents back, sector by sector at random: what a power cut leaves of a disk with a
 * volatile cache.  Names, sizes and what goes by write(2) are durable at once.  Without io_uring,
 * which would pass by here.
 *
 * With POWER_LIES set nothing ever becomes durable: a test must notice that.
 *
 * Syncs cost nothing, as kill -9 loses nothing of the page cache.  One mutex over each write.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define FILES_MAX 256u
static const struct timespec sync_takes = {.tv_nsec = 500000};

/* In the log; tests/power-cut.py reads it. */
enum kind { KIND_FORMER = 1, KIND_SYNC = 2, KIND_DURABLE = 3 };
struct record {
    uint64_t kind, offset, length; /* SYNC: offset is where the log ended when it began */
};

struct kept {
    dev_t device;
    ino_t inode;
    int fd, log; /* -1: not remembered */
    uint64_t log_bytes, generation;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* all below, and the order of writes */
static struct kept files[FILES_MAX];
static unsigned file_count;

static void *next(const char *name)
{
    return dlsym(RTLD_NEXT, name);
}

static void die(const char *what)
{
    fprintf(stderr, "power: %s: %s\n", what, strerror(errno));
    abort();
}

/* --- which files ------------------------------------------------------------------------------ */

static bool is_below(const char *path, const char *folder)
{
    size_t length = folder ? strlen(folder) : 0;

    return length && strncmp(path, folder, length) == 0 && path[length] == '/';
}

static void open_log(struct kept *k, const char *path)
{
    const char *folder = getenv("POWER_LOG");
    char name[512];
    FILE *f;

    snprintf(name, sizeof name, "%s/%llu.path", folder, (unsigned long long)k->inode);
    f = fopen(name, "we");
    if (!f || fprintf(f, "%s", path) < 0 || fclose(f) != 0)
        die(name);
    snprintf(name, sizeof name, "%s/%llu.log", folder, (unsigned long long)k->inode);
    k->log = open(name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    k->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (k->log < 0 || k->fd < 0)
        die(path);
    k->log_bytes = (uint64_t)lseek(k->log, 0, SEEK_END); /* of the program that became this one */
}

static struct kept *add_file(int fd, const struct stat *st)
{
    char link[64], path[512];
    ssize_t length;
    struct kept *k = &files[file_count];

    if (file_count == FILES_MAX)
        die("too many files");
    file_count++;
    *k = (struct kept){.device = st->st_dev, .inode = st->st_ino, .fd = -1, .log = -1};
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, path, sizeof path - 1);
    if (length <= 0)
        return k;
    path[length] = '\0';
    if (S_ISREG(st->st_mode) && is_below(path, getenv("POWER_UNDER")))
        open_log(k, path);
    return k;
}

/* NULL: one that is not remembered; `adds`: unless it is to be from now on. */
static struct kept *find(int fd, bool adds)
{
    struct kept *k = NULL;
    struct stat st;

    if (fstat(fd, &st) < 0)
        return NULL;
    for (unsigned i = 0; i < file_count && !k; i++)
        if (files[i].inode == st.st_ino && files[i].device == st.st_dev)
            k = &files[i];
    if (!k && adds)
        k = add_file(fd, &st);
    return k && k->log >= 0 ? k : NULL;
}

/* --- the log ---------------------------------------------------------------------------------- */

static void append(struct kept *k, enum kind kind, uint64_t offset, uint64_t length, void *data)
{
    struct record r = {kind, offset, length};
    struct iovec iov[2] = {{&r, sizeof r}, {data, data ? length : 0}};
    ssize_t whole = (ssize_t)(sizeof r + iov[1].iov_len);

    if (writev(k->log, iov, 2) != whole)
        die("the log");
    k->log_bytes += (uint64_t)whole;
}

static void remember(struct kept *k, off_t offset, size_t length)
{
    char *data = calloc(1, length ? length : 1);

    if (!data || pread(k->fd, data, length, offset) < 0)
        die("former contents");
    append(k, KIND_FORMER, (uint64_t)offset, length, data);
    free(data);
}

static size_t sum(const struct iovec *iov, int count)
{
    size_t length = 0;

    for (int i = 0; i < count; i++)
        length += iov[i].iov_len;
    return length;
}

/* --- calls ------------------------------------------------------------------------------------ */

typedef ssize_t pwritev2_fn(int, const struct iovec *, int, off_t, int);

static ssize_t write_at(int fd, const struct iovec *iov, int count, off_t offset, int flags)
{
    pwritev2_fn *real = (pwritev2_fn *)next("pwritev2");
    bool is_durable = flags & (RWF_DSYNC | RWF_SYNC);
    struct kept *k;
    ssize_t r;

    pthread_mutex_lock(&mutex);
    k = find(fd, true);
    if (k) {
        remember(k, offset, sum(iov, count));
        flags &= ~(RWF_DSYNC | RWF_SYNC);
    }
    r = real(fd, iov, count, offset, flags);
    if (k && is_durable && r > 0 && !getenv("POWER_LIES"))
        append(k, KIND_DURABLE, (uint64_t)offset, (uint64_t)r, NULL);
    pthread_mutex_unlock(&mutex);
    return r;
}

EXPORT ssize_t pwrite(int fd, const void *data, size_t length, off_t offset)
{
    struct iovec iov = {(void *)(uintptr_t)data, length};

    return write_at(fd, &iov, 1, offset, 0);
}

EXPORT ssize_t pwritev2(int fd, const struct iovec *iov, int count, off_t offset, int flags)
{
    return write_at(fd, iov, count, offset, flags);
}

EXPORT int fallocate(int fd, int mode, off_t offset, off_t length)
{
    int (*real)(int, int, off_t, off_t) = (int (*)(int, int, off_t, off_t))next("fallocate");
    struct kept *k;
    int r;

    pthread_mutex_lock(&mutex);
    k = find(fd, true);
    if (k)
        remember(k, offset, (size_t)length);
    r = real(fd, mode, offset, length);
    pthread_mutex_unlock(&mutex);
    return r;
}

/* What was written before it began is durable; if nothing came meanwhile, the log is empty. */
static int sync_file(int fd, const char *name)
{
    int (*real)(int) = (int (*)(int))next(name);
    struct kept *k;
    uint64_t end, generation;

    pthread_mutex_lock(&mutex);
    k = find(fd, false);
    end = k ? k->log_bytes : 0;
    generation = k ? k->generation : 0;
    pthread_mutex_unlock(&mutex);
    if (!k)
        return real(fd);
    if (getenv("POWER_LIES"))
        return 0;
    nanosleep(&sync_takes, NULL); /* writes come amid it */
    pthread_mutex_lock(&mutex);
    if (k->generation == generation && k->log_bytes == end) {
        if (ftruncate(k->log, 0) < 0)
            die("the log");
        k->log_bytes = 0;
        k->generation++;
    } else if (k->generation == generation) {
        append(k, KIND_SYNC, end, 0, NULL);
    }
    pthread_mutex_unlock(&mutex);
    return 0;
}

EXPORT int fdatasync(int fd)
{
    return sync_file(fd, "fdatasync");
}

EXPORT int fsync(int fd)
{
    return sync_file(fd, "fsync");
}

/* Under the names they have where off_t is of 64 bits by macro. */
EXPORT ssize_t pwrite64(int, const void *, size_t, off_t) __attribute__((alias("pwrite")));
EXPORT ssize_t pwritev64v2(int, const struct iovec *, int, off_t, int)
    __attribute__((alias("pwritev2")));
EXPORT int fallocate64(int, int, off_t, off_t) __attribute__((alias("fallocate")));

struct io_uring;
struct io_uring_params;
EXPORT int io_uring_queue_init_params(unsigned entries, struct io_uring *ring,
                                      struct io_uring_params *params);
EXPORT int io_uring_queue_init_params(unsigned entries, struct io_uring *ring,
                                      struct io_uring_params *params)
{
    (void)entries;
    (void)ring;
    (void)params;
    return -EPERM;
}
