/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * resize.c: `sluice disk resize`: the size is written into the disk's policy file and the
 * configuration reloaded, so that file and disk never disagree.  Only the line `size:` changes;
 * comments stay.  When the check or the reload says no, the file is put back as it was.
 */
#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define POLICY_BYTES_MAX (1u << 20)

static char *read_file(const char *path)
{
    FILE *f = fopen(path, "re");
    char *text = f ? malloc(POLICY_BYTES_MAX) : NULL;
    size_t n = text ? fread(text, 1, POLICY_BYTES_MAX - 1, f) : 0;

    if (f)
        fclose(f);
    if (text)
        text[n] = 0;
    return text;
}

static int replace_file(struct cli *cli, const char *path, const char *text)
{
    char beside[PATH_MAX + 8];
    FILE *f;
    bool ok;

    snprintf(beside, sizeof beside, "%s.new", path);
    f = fopen(beside, "we");
    if (!f)
        return cli_fail(cli, EXIT_ERROR, "cannot write %s: %s", beside, strerror(errno));
    ok = fputs(text, f) >= 0 && fflush(f) == 0 && fsync(fileno(f)) == 0;
    ok = fclose(f) == 0 && ok;
    if (ok && rename(beside, path) == 0)
        return 0;
    cli_fail(cli, EXIT_ERROR, "cannot write %s: %s", path, strerror(errno));
    unlink(beside);
    return EXIT_ERROR;
}

/* The first line that starts with "size:", or NULL. */
static const char *find_size_line(const char *text)
{
    for (const char *p = text; p; p = strchr(p, '\n') ? strchr(p, '\n') + 1 : NULL)
        if (strncmp(p, "size:", 5) == 0)
            return p;
    return NULL;
}

static char *with_size(const char *text, const char *size)
{
    const char *line = find_size_line(text), *rest;

    if (!line)
        return text_printf("size: %s\n%s", size, text);
    rest = line + strcspn(line, "#\n");
    return text_printf("%.*ssize: %s%s%s", (int)(line - text), text, size, *rest == '#' ? "  " : "",
                       rest);
}

/* The file says the size we meant: a policy in flow style, say, may not. */
static int check_written(struct cli *cli, const char *disk, uint64_t size)
{
    struct gateway_config *config = cli_load_config(cli);
    const struct disk_config *d = config ? config_find_disk(config, disk) : NULL;
    bool is_meant = d && d->size_bytes == size;

    config_free(config);
    if (!config || is_meant)
        return config ? 0 : EXIT_ERROR;
    return cli_fail(cli, EXIT_ERROR, "cannot find `size:` in the policy of %s; write it by hand",
                    disk);
}

static int check_wanted(struct cli *cli, const char *disk, uint64_t size)
{
    struct gateway_config *config = cli_load_config(cli);
    const struct disk_config *d = config ? config_find_disk(config, disk) : NULL;
    uint64_t now = d ? d->size_bytes : 0;
    bool is_known = d != NULL;

    config_free(config);
    if (!config)
        return EXIT_ERROR;
    if (!is_known)
        return cli_fail(cli, EXIT_ERROR, "there is no disk \"%s\"", disk);
    if (size < now)
        return cli_fail(cli, EXIT_ERROR, "%s: is %llu bytes; a disk is never made smaller", disk,
                        (unsigned long long)now);
    return 0;
}

static int rewrite(struct cli *cli, const char *path, const char *disk, const char *size_text,
                   uint64_t size)
{
    CLEANUP_FREE char *before = read_file(path);
    CLEANUP_FREE char *after = before ? with_size(before, size_text) : NULL;
    int r;

    if (!after)
        return cli_fail(cli, EXIT_ERROR, "cannot read %s: %s", path, strerror(errno));
    r = replace_file(cli, path, after);
    if (r)
        return r;
    r = check_written(cli, disk, size);
    if (r == 0)
        r = cli_reload_if_running(cli, false);
    if (r != EXIT_OK && replace_file(cli, path, before) != 0)
        return cli_fail(cli, EXIT_ERROR, "%s still says the new size", path);
    return r;
}

int cli_disk_resize(struct cli *cli)
{
    char path[PATH_MAX];
    uint64_t size;
    int r = cli_expect_positions(cli, 2, 2);

    if (r)
        return r;
    if (text_parse_size(cli->argv[1], &size) < 0)
        return cli_usage_error(cli, "\"%s\" is no size (64GiB, or a number of bytes)",
                               cli->argv[1]);
    r = cli_policy_path(cli, cli->argv[0], path, sizeof path);
    if (r == 0)
        r = check_wanted(cli, cli->argv[0], size);
    return r ? r : rewrite(cli, path, cli->argv[0], cli->argv[1], size);
}
