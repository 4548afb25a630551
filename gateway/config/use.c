/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * use: from a configuration to what other rooms ask for.
 *
 * Secrets are read here, at the moment they are needed, and are nowhere in a gateway_config.
 */
#include "config/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

static int compare_name(const void *name, const void *disk)
{
    return strcmp(name, ((const struct disk_config *)disk)->name);
}

const struct disk_config *config_find_disk(const struct gateway_config *config, const char *name)
{
    if (config->disk_count == 0)
        return NULL;
    return bsearch(name, config->disks, config->disk_count, sizeof *config->disks, compare_name);
}

static unsigned count_group(const struct gateway_config *config, const char *group)
{
    unsigned count = 0;

    for (unsigned i = 0; i < config->disk_count; i++)
        count += strcmp(config->disks[i].group, group) == 0;
    return count;
}

void config_disk_settings(const struct gateway_config *config, const struct disk_config *disk,
                          struct disk_settings *out)
{
    *out = (struct disk_settings){
        .name = disk->name,
        .group = disk->group,
        .group_disks = count_group(config, disk->group),
        .uuid = disk->uuid,
        .state_root = config->state,
        .size_bytes = disk->size_bytes,
        .read_only = disk->is_read_only,
        .deadline_ns = disk->deadline_ns,
        .quiesce_limit_ns = config->limits.quiesce_ns,
        .event_limit_ns = config->limits.event_ns,
        .prepare_ttl_ns = config->limits.prepare_ns,
        .on_stall = disk->on_stall,
    };
}

static bool split_chap(const char *line, size_t length, struct config_chap *out)
{
    const char *colon = memchr(line, ':', length);
    size_t user = colon ? (size_t)(colon - line) : 0, secret = length - user - 1;

    if (user == 0 || user >= sizeof out->user || secret == 0 || secret >= sizeof out->secret)
        return false;
    memset(out, 0, sizeof *out);
    memcpy(out->user, line, user);
    memcpy(out->secret, colon + 1, secret);
    return true;
}

/* The mode is that of the file that is read, not of one that was there a moment ago. */
static int check_mode(int fd, const char *path, struct err *e)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return err_set(e, errno, "%s: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode) || (st.st_mode & 077))
        return err_set(e, EACCES, "%s: others can read it (mode %04o): chmod 600 it", path,
                       (unsigned)st.st_mode & 07777);
    return 0;
}

int config_read_chap(const char *path, struct config_chap *out, struct err *e)
{
    CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    char line[sizeof *out + 2];
    ssize_t n;
    int r;

    if (fd < 0)
        return err_set(e, errno, "%s: %s", path, strerror(errno));
    r = check_mode(fd, path, e);
    if (r < 0)
        return r;
    n = read(fd, line, sizeof line);
    if (n < 0)
        return err_set(e, errno, "%s: %s", path, strerror(errno));
    while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r'))
        n--;
    if (memchr(line, '\n', (size_t)n) || !split_chap(line, (size_t)n, out))
        r = err_set(e, EINVAL, "%s: must be one line USER:SECRET", path);
    explicit_bzero(line, sizeof line);
    return r;
}

/* nbdkit takes both from one command line, which ends with NULL. */
static const char *const *list_or_null(const struct config_strings *strings)
{
    return strings->count ? strings->item : NULL;
}

int config_backing_spec(const struct disk_config *disk, struct backing_spec *out,
                        struct config_chap *chap, struct err *e)
{
    static const char *const none[] = {NULL};
    const struct backing_config *backing = &disk->backing;

    *out = (struct backing_spec){
        .kind = backing->kind,
        .disk = disk->name,
        .read_only = disk->is_read_only,
        .path = backing->file,
        .direct = backing->is_direct,
        .uri = backing->kind == BACKING_ISCSI ? backing->iscsi : backing->nbd,
        .tls_certificates = backing->tls,
        .initiator_name = backing->initiator,
        .plugin = backing->nbdkit.plugin,
        .arguments = none,
        .filters = list_or_null(&backing->nbdkit.filters),
        .reconnect_ns = disk->reconnect_ns,
        .keep_bytes = backing->keep_bytes,
        .settle_ns = backing->settle_ns,
    };
    if (backing->nbdkit.arguments.count)
        out->arguments = backing->nbdkit.arguments.item;
    if (!backing->chap)
        return 0;
    out->chap_user = chap->user;
    out->chap_secret = chap->secret;
    return config_read_chap(backing->chap, chap, e);
}
