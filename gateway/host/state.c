/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * state.c: the folder of one instance, STATE/disks/DISK/filters/INSTANCE, made when it is first
 * written to.  An ephemeral disk has no state, so its filters get a temporary folder that goes when
 * they are closed.  Records of the instance are small files in it, apart from the others by their
 * prefix; those of the disk, which travel with it, are the disk room's.
 */
#include "internal.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>

#define RECORD_PREFIX "record."

/* Guards the making of folders; calls here block and are rare. */
static pthread_mutex_t folder_mutex = PTHREAD_MUTEX_INITIALIZER;

/* Where the folder is or will be; false: nowhere yet, or nowhere at all. */
static bool find_folder(const struct seat *seat, char out[PATH_MAX])
{
    const char *disk_folder = disk_state_folder(seat->disk);

    if (!disk_folder)
        return snprintf(out, PATH_MAX, "%s", seat->folder) > 0;
    return snprintf(out, PATH_MAX, "%s/filters/%s", disk_folder, seat->name) < PATH_MAX;
}

static int make_temporary(struct seat *seat, struct err *e)
{
    const char *parent = getenv("TMPDIR");

    snprintf(seat->folder, sizeof seat->folder, "%s/sluice-state-XXXXXX",
             parent && parent[0] ? parent : "/tmp");
    if (mkdtemp(seat->folder)) {
        seat->has_temporary_folder = true;
        return 0;
    }
    err_set(e, errno, "cannot make %s: %s", seat->folder, strerror(errno));
    seat->folder[0] = '\0';
    return -e->code;
}

static int make_folder(struct seat *seat, struct err *e)
{
    int r;

    if (!disk_state_folder(seat->disk))
        return make_temporary(seat, e);
    if (!find_folder(seat, seat->folder))
        return err_set(e, ENAMETOOLONG, "the state folder's name is too long");
    r = disk_state_make_folder(seat->folder, e);
    if (r < 0)
        seat->folder[0] = '\0';
    return r;
}

static int need_folder(struct seat *seat)
{
    struct err e = {0};
    int r = 0;

    {
        SCOPED_LOCK(&folder_mutex);
        if (!seat->folder[0])
            r = make_folder(seat, &e);
    }
    if (r < 0)
        seat_log(seat, LOG_LEVEL_ERROR, "%s", e.text);
    return r;
}

const char *seat_folder(struct seat *seat)
{
    return need_folder(seat) == 0 ? seat->folder : NULL;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st, (void)flag, (void)ftw;
    return remove(path);
}

void seat_drop_folder(struct seat *seat)
{
    if (seat->has_temporary_folder)
        nftw(seat->folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* --- small files --------------------------------------------------------------------------------
 */

int seat_state_read(struct seat *seat, const char *name, void *data, size_t capacity,
                    size_t *length)
{
    char folder[PATH_MAX];
    bool is_there;

    {
        SCOPED_LOCK(&folder_mutex);
        is_there = find_folder(seat, folder);
    }
    return is_there ? disk_state_read(folder, name, data, capacity, length) : -ENOENT;
}

int seat_state_write(struct seat *seat, const char *name, const void *data, size_t length)
{
    int r = need_folder(seat);

    return r < 0 ? r : disk_state_write(seat->folder, name, data, length);
}

int seat_state_remove(struct seat *seat, const char *name)
{
    char folder[PATH_MAX];
    bool is_there;
    int r;

    {
        SCOPED_LOCK(&folder_mutex);
        is_there = find_folder(seat, folder);
    }
    r = is_there ? disk_state_remove(folder, name) : 0;
    return r == -ENOENT ? 0 : r;
}

/* --- records -------------------------------------------------------------------------------- */

static int record_name(const char *key, char out[NAME_MAX])
{
    return snprintf(out, NAME_MAX, RECORD_PREFIX "%s", key) < NAME_MAX ? 0 : -ENAMETOOLONG;
}

int seat_record_put(struct seat *seat, const char *key, const void *data, size_t length)
{
    char name[NAME_MAX];
    int r = record_name(key, name);

    return r < 0 ? r : seat_state_write(seat, name, data, length);
}

int seat_record_get(struct seat *seat, const char *key, void *data, size_t capacity, size_t *length)
{
    char name[NAME_MAX];
    int r = record_name(key, name);

    return r < 0 ? r : seat_state_read(seat, name, data, capacity, length);
}

/* --- records of the disk -------------------------------------------------------------------- */

int seat_record_arrived(struct seat *seat, const char *name, const void *data, size_t length)
{
    struct err e = {0};
    int r = disk_record_arrived(seat->disk, name, data, length, &e);

    if (r < 0)
        seat_log(seat, LOG_LEVEL_WARNING, "what the peer says of the disk's %s is left out: %s",
                 name, e.text);
    return r;
}
