/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * resize.c: `sluice disk resize`: the size is written into the disk's policy file and the
 * configuration reloaded, so that file and disk never disagree, also after a restart.  Only the
 * value of `size:` changes; comments stay.  When the check or the reload says no, the file is put
 * back as it was.
 */
#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define POLICY_BYTES_MAX (1u << 20) /* the loader's limit */

struct resize {
    struct cli *cli;
    const char *disk, *size_text;
    uint64_t size_bytes;
    char path[PATH_MAX]; /* the policy file itself, behind all links */
    bool did_reload;
    struct stat st; /* as it was */
};

/* --- the file
 * ------------------------------------------------------------------------------------------------
 */

/* Terminated; NULL with errno. */
static char *read_policy(struct resize *r, size_t *length)
{
    CLEANUP_CLOSE int fd = open(r->path, O_RDONLY | O_CLOEXEC);
    char *text;
    ssize_t n = 1;

    if (fd < 0 || fstat(fd, &r->st) < 0)
        return NULL;
    text = malloc(POLICY_BYTES_MAX + 1);
    for (*length = 0; text && n > 0 && *length < POLICY_BYTES_MAX; *length += (size_t)MAX(n, 0))
        n = read(fd, text + *length, POLICY_BYTES_MAX - *length);
    if (text && n != 0) {
        errno = n < 0 ? errno : EFBIG;
        free(text);
        return NULL;
    }
    if (text)
        text[*length] = 0;
    return text;
}

static bool write_all(int fd, const char *text)
{
    size_t left = strlen(text);

    while (left) {
        ssize_t n = write(fd, text, left);

        if (n <= 0)
            return false;
        text += n;
        left -= (size_t)n;
    }
    return true;
}

/* After a crash there is the old file or the new one, whole, with the same owner and mode. */
static int replace_file(const struct resize *r, const char *text)
{
    CLEANUP_FREE char *beside = text_printf("%s.new", r->path);
    int fd = beside ? open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) : -1;
    bool ok;

    if (fd < 0)
        return cli_fail(r->cli, EXIT_ERROR, "cannot write %s.new: %s", r->path, strerror(errno));
    ok = write_all(fd, text) && fchmod(fd, r->st.st_mode & 07777) == 0 &&
         fchown(fd, r->st.st_uid, r->st.st_gid) == 0 && fsync(fd) == 0;
    ok = close(fd) == 0 && ok;
    if (ok && rename(beside, r->path) == 0)
        return 0;
    cli_fail(r->cli, EXIT_ERROR, "cannot write %s: %s", r->path, strerror(errno));
    unlink(beside);
    return EXIT_ERROR;
}

/* --- what is wanted and what came out
 * ------------------------------------------------------------------------ */

/* The file says the size we meant, and nothing else has become of it. */
static int check_written(const struct resize *r)
{
    struct gateway_config *config = cli_load_config(r->cli);
    const struct disk_config *d = config ? config_find_disk(config, r->disk) : NULL;
    bool is_meant = d && d->size_bytes == r->size_bytes;

    config_free(config);
    if (!config || is_meant)
        return config ? 0 : EXIT_ERROR;
    return cli_fail(r->cli, EXIT_ERROR, "cannot change `size:` in %s; write it by hand", r->path);
}

/* Without `size:` a disk is as large as its backing; only a file can be asked here. */
static uint64_t size_now(const struct disk_config *d)
{
    CLEANUP_CLOSE int fd = -1;
    off_t end;

    if (d->size_bytes || d->backing.kind != BACKING_FILE)
        return d->size_bytes;
    fd = open(d->backing.file, O_RDONLY | O_CLOEXEC);
    end = fd >= 0 ? lseek(fd, 0, SEEK_END) : 0;
    return end > 0 ? (uint64_t)end : 0;
}

static int check_wanted(const struct resize *r)
{
    struct gateway_config *config = cli_load_config(r->cli);
    const struct disk_config *d = config ? config_find_disk(config, r->disk) : NULL;
    uint64_t now = d ? size_now(d) : 0;
    bool is_known = d != NULL;

    config_free(config);
    if (!config)
        return EXIT_ERROR;
    if (!is_known)
        return cli_fail(r->cli, EXIT_ERROR, "there is no disk \"%s\"", r->disk);
    if (r->size_bytes < now)
        return cli_fail(r->cli, EXIT_ERROR, "%s: is %llu bytes; a disk is never made smaller",
                        r->disk, (unsigned long long)now);
    return 0;
}

static int rewrite(struct resize *r)
{
    size_t length;
    CLEANUP_FREE char *before = read_policy(r, &length);
    CLEANUP_FREE char *after = NULL;
    struct err e = {0};
    int code;

    if (!before)
        return cli_fail(r->cli, EXIT_ERROR, "cannot read %s: %s", r->path, strerror(errno));
    after = config_rewrite(before, length, "size", r->size_text, &e);
    if (!after)
        return cli_fail(r->cli, EXIT_ERROR, "%s: %s", r->path, e.text);
    code = replace_file(r, after);
    if (code)
        return code;
    code = check_written(r);
    if (code == 0)
        code = cli_reload_if_running(r->cli, false, &r->did_reload);
    if (code != EXIT_OK && replace_file(r, before) != 0)
        return cli_fail(r->cli, EXIT_ERROR, "%s still says the new size", r->path);
    return code;
}

static int take_arguments(struct resize *r)
{
    char named[PATH_MAX];
    int code = cli_expect_positions(r->cli, 2, 2);

    if (code)
        return code;
    r->disk = r->cli->argv[0];
    r->size_text = r->cli->argv[1];
    if (text_parse_size(r->size_text, &r->size_bytes) < 0 || r->size_bytes == 0)
        return cli_usage_error(r->cli, "\"%s\" is no size (64GiB, or a number of bytes)",
                               r->size_text);
    code = cli_policy_path(r->cli, r->disk, named, sizeof named);
    if (code == 0 && !realpath(named, r->path))
        code = errno == ENOENT ? cli_fail(r->cli, EXIT_ERROR, "there is no disk \"%s\"", r->disk)
                               : cli_fail(r->cli, EXIT_ERROR, "%s: %s", named, strerror(errno));
    return code;
}

static void print_done(const struct resize *r)
{
    char text[128]; /* a name has at most 63 */

    snprintf(text, sizeof text, "%s: %llu bytes", r->disk, (unsigned long long)r->size_bytes);
    cli_print_change(r->cli, text,
                     json_pack("{s:s, s:s, s:I}", "disk", r->disk, "file", r->path, "size_bytes",
                               (json_int_t)r->size_bytes),
                     r->did_reload);
}

int cli_disk_resize(struct cli *cli)
{
    struct resize r = {.cli = cli};
    int code = take_arguments(&r);

    if (code == 0)
        code = check_wanted(&r);
    if (code == 0)
        code = rewrite(&r);
    if (code == 0)
        print_done(&r);
    return code;
}
