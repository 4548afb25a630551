/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * identity.c: who a disk is, kept in its state folder, and the rule of the first and the last byte.
 *
 * A backing is created only for a disk that was never seen.  Once there is state, a missing,
 * smaller or different backing is refused: better nothing than an empty disk in the place of
 * somebody's data. The mark `clean` is removed while the disk is open, so that a start knows how
 * the last one ended.
 */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define IDENTITY_FILE "identity.json"
#define CLEAN_FILE "clean"
#define LOCK_FILE "lock"
#define LOCK_WAIT_NS (UINT64_C(5) * 1000000000u)

static int parse_identity(struct disk *disk, const char *text, size_t length, struct err *e)
{
    json_error_t je;
    json_t *j = json_loadb(text, length, 0, &je);
    const char *uuid, *backing;
    json_int_t size;
    int bad, is_beyond = 0;

    if (!j)
        return err_set(e, EBADMSG,
                       "%s/%s is damaged (%s); restore it from a copy, or remove the disk's state "
                       "to start anew",
                       disk->folder, IDENTITY_FILE, je.text);
    bad = json_unpack(j, "{s:s, s:s, s:I, s?b}", "uuid", &uuid, "backing", &backing, "size_bytes",
                      &size, "is_beyond_policy", &is_beyond) < 0 ||
          !uuid_is_valid(uuid) || size <= 0 || strlen(backing) >= sizeof disk->known_backing;
    if (!bad) {
        snprintf(disk->uuid, sizeof disk->uuid, "%s", uuid);
        snprintf(disk->known_backing, sizeof disk->known_backing, "%s", backing);
        disk->known_size = (uint64_t)size;
        disk->is_beyond_policy = is_beyond;
    }
    json_decref(j);
    return bad ? err_set(e, EBADMSG, "%s/%s is damaged: a key is missing or wrong", disk->folder,
                         IDENTITY_FILE)
               : 0;
}

static int read_identity(struct disk *disk, bool *is_new, struct err *e)
{
    char text[4096];
    size_t length;
    int r = disk_state_read(disk->folder, IDENTITY_FILE, text, sizeof text, &length);

    *is_new = r == -ENOENT;
    if (*is_new)
        return 0;
    if (r < 0)
        return err_set(e, -r, "cannot read %s/%s: %s", disk->folder, IDENTITY_FILE, strerror(-r));
    return parse_identity(disk, text, length, e);
}

int disk_save_identity(struct disk *disk, uint64_t size_bytes, struct err *e)
{
    char identity[sizeof disk->known_backing];
    char *text;
    json_t *j;
    int r;

    if (!disk->folder[0])
        return 0;
    backing_identity(disk->backing, identity, sizeof identity);
    j = json_pack("{s:i, s:s, s:s, s:I, s:b}", "version", 1, "uuid", disk->uuid, "backing",
                  identity, "size_bytes", (json_int_t)size_bytes, "is_beyond_policy",
                  disk->is_beyond_policy);
    text = j ? json_dumps(j, JSON_INDENT(2)) : NULL;
    json_decref(j);
    r = text ? disk_state_write(disk->folder, IDENTITY_FILE, text, strlen(text)) : -ENOMEM;
    free(text);
    return r < 0
               ? err_set(e, -r, "cannot write %s/%s: %s", disk->folder, IDENTITY_FILE, strerror(-r))
               : 0;
}

/* --- the folder's lock
 * --------------------------------------------------------------------------------- */

static int lock_folder(const char *folder, int *fd, struct err *e)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    uint64_t until = clock_now_ns() + LOCK_WAIT_NS;
    struct timespec pause = {.tv_nsec = 20000000};
    char path[PATH_MAX + 16];

    snprintf(path, sizeof path, "%s/%s", folder, LOCK_FILE);
    *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (*fd < 0)
        return err_set(e, errno, "cannot open %s: %s", path, strerror(errno));
    while (fcntl(*fd, F_OFD_SETLK, &lock) < 0) {
        if ((errno != EAGAIN && errno != EACCES) || clock_now_ns() > until)
            return err_set(e, EBUSY, "the state in %s is in use by another gateway", folder);
        nanosleep(&pause, NULL);
    }
    return 0;
}

static int take_clean_mark(struct disk *disk, struct err *e)
{
    char mark[8];
    size_t length;
    int r = disk_state_read(disk->folder, CLEAN_FILE, mark, sizeof mark, &length);

    disk->was_clean = r == 0 || r == -EFBIG;
    r = disk_state_remove(disk->folder, CLEAN_FILE);
    return r < 0 ? err_set(e, -r, "cannot remove %s/%s: %s", disk->folder, CLEAN_FILE, strerror(-r))
                 : 0;
}

int disk_mark_clean(struct disk *disk, struct err *e)
{
    int r;

    if (!disk->folder[0])
        return 0;
    r = disk_state_write(disk->folder, CLEAN_FILE, "clean\n", 6);
    return r < 0 ? err_set(e, -r, "cannot write %s/%s: %s", disk->folder, CLEAN_FILE, strerror(-r))
                 : 0;
}

/* --- open
 * ------------------------------------------------------------------------------------------------
 */

static int check_uuid(struct disk *disk, const struct disk_settings *settings, struct err *e)
{
    if (!settings->uuid)
        return 0;
    if (disk->uuid[0] && strcmp(disk->uuid, settings->uuid) != 0)
        return err_set(e, EEXIST, "%s: the policy says uuid %s, but the state in %s is of %s",
                       disk->name, settings->uuid, disk->folder, disk->uuid);
    snprintf(disk->uuid, sizeof disk->uuid, "%s", settings->uuid);
    return 0;
}

/* Before the backing is opened. */
int disk_load_identity(struct disk *disk, const struct disk_settings *settings,
                       struct backing_spec *spec, bool *is_new, struct err *e)
{
    int r = 0;

    *is_new = true;
    if (disk->folder[0]) {
        r = disk_state_make_folder(disk->folder, e);
        if (r == 0)
            r = lock_folder(disk->folder, &disk->lock_fd, e);
        if (r == 0)
            r = read_identity(disk, is_new, e);
        if (r == 0)
            r = take_clean_mark(disk, e);
    }
    if (r == 0)
        r = check_uuid(disk, settings, e);
    if (r < 0)
        return r;
    if (!disk->uuid[0])
        uuid_make(disk->uuid);
    spec->create = *is_new && !settings->read_only && settings->size_bytes > 0;
    spec->create_size = settings->size_bytes;
    if (!*is_new && spec->kind == BACKING_FILE && access(spec->path, F_OK) < 0 && errno == ENOENT)
        return err_set(
            e, ENOENT,
            "%s: backing %s is gone (is its file system mounted?); not creating an empty disk",
            disk->name, spec->path);
    return 0;
}

/* After the backing is open. */
int disk_check_backing(struct disk *disk, const struct backing_spec *spec, bool is_new,
                       struct err *e)
{
    uint64_t size = backing_info(disk->backing)->size_bytes;
    char identity[sizeof disk->known_backing];

    if (size == 0)
        return err_set(e, EINVAL, "%s: the backing is empty; give a size: to create it",
                       disk->name);
    if (is_new)
        return 0;
    backing_identity(disk->backing, identity, sizeof identity);
    if (strcmp(identity, disk->known_backing) != 0)
        return err_set(
            e, ESTALE,
            "%s: the backing%s%s is another one than before (was %s, is %s); if that is meant, run "
            "'sluice disk remove' and 'disk add' anew",
            disk->name, spec->path ? " " : "", spec->path ? spec->path : "", disk->known_backing,
            identity);
    if (size < disk->known_size)
        return err_set(e, ESTALE,
                       "%s: the backing has shrunk from %llu to %llu bytes; not serving it",
                       disk->name, (unsigned long long)disk->known_size, (unsigned long long)size);
    return 0;
}

static uint64_t wall_clock_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Put aside, not deleted: a disk removed by mistake can be had back.  One that has been taken out
 * of the configuration is closed only after its last client has gone, and writes here until then.
 */
int disk_forget(const char *state_root, const char *name, struct err *e)
{
    CLEANUP_CLOSE int lock_fd = -1;
    char from[PATH_MAX], to[PATH_MAX];
    struct stat st;

    if (snprintf(from, sizeof from, "%s/disks/%s", state_root, name) >= (int)sizeof from)
        return err_set(e, ENAMETOOLONG, "the state folder's name is too long");
    if (stat(from, &st) < 0)
        return 0;
    if (lock_folder(from, &lock_fd, e) < 0)
        return err_context(e, "the state of %s is not forgotten", name);
    if (snprintf(to, sizeof to, "%s/removed", state_root) >= (int)sizeof to ||
        disk_state_make_folder(to, e) < 0)
        return err_context(e, "%s", name);
    if (snprintf(to, sizeof to, "%s/removed/%s.%lld", state_root, name,
                 (long long)wall_clock_ns()) >= (int)sizeof to)
        return err_set(e, ENAMETOOLONG, "the state folder's name is too long");
    if (rename(from, to) < 0)
        return err_set(e, errno, "cannot put %s aside: %s", from, strerror(errno));
    return 0;
}
