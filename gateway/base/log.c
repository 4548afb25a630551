/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * log: one line, one write(2), so that lines of several threads and processes never mix.
 *
 * Under journald (JOURNAL_STREAM names our stderr, see systemd.exec(5)) a line starts with "<N>",
 * else with the program and the level in words.  Text from outside cannot forge a second line:
 * control characters become '?'.  No lock: level and sink are atomics, the buffer is on the stack.
 */
#include "base/base.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define LOG_TEXT_MAX 2000

static _Atomic int most_verbose_level = LOG_LEVEL_INFO;
static _Atomic(log_sink_fn *) line_sink;
static pthread_once_t journal_once = PTHREAD_ONCE_INIT;
static bool stderr_is_journal;

static const char *const level_names[] = {
    [LOG_LEVEL_ERROR] = "error", [LOG_LEVEL_WARNING] = "warning", [LOG_LEVEL_NOTICE] = "notice",
    [LOG_LEVEL_INFO] = "info",   [LOG_LEVEL_DEBUG] = "debug",
};

static void find_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    uint64_t device, inode;
    struct stat st;

    stderr_is_journal = stream && sscanf(stream, "%" SCNu64 ":%" SCNu64, &device, &inode) == 2 &&
                        fstat(STDERR_FILENO, &st) == 0 && st.st_dev == device && st.st_ino == inode;
}

static void write_line(enum log_level level, const char *text)
{
    char line[LOG_TEXT_MAX + 40];
    ssize_t written;
    int length;

    pthread_once(&journal_once, find_journal);
    if (stderr_is_journal)
        length = snprintf(line, sizeof line, "<%d>%s\n", (int)level, text);
    else
        length = snprintf(line, sizeof line, "sluice: %s: %s\n", level_names[level], text);
    do
        written = write(STDERR_FILENO, line, (size_t)length);
    while (written < 0 && errno == EINTR);
}

void log_line(enum log_level level, const char *fmt, ...)
{
    int saved_errno = errno;
    char text[LOG_TEXT_MAX];
    log_sink_fn *sink;
    va_list args;

    if ((int)level > atomic_load_explicit(&most_verbose_level, memory_order_relaxed))
        return;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    text_one_line(text);
    sink = atomic_load_explicit(&line_sink, memory_order_acquire);
    if (sink)
        sink(level, text);
    else
        write_line(level, text);
    errno = saved_errno;
}

void log_set_level(enum log_level most_verbose)
{
    atomic_store_explicit(&most_verbose_level, (int)most_verbose, memory_order_relaxed);
}

void log_set_sink(log_sink_fn *sink)
{
    atomic_store_explicit(&line_sink, sink, memory_order_release);
}
