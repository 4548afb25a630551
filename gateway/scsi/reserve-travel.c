/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * reserve-travel.c: persistent reservations go where the disk goes.  Each change is told to the
 * disk as its record `reservations`, in the form of the file; a filter that keeps the disk at a
 * peer brings it there in the order of the writes, and there it becomes the state of that logical
 * unit, which is in standby then: who holds the disk is known before the first command is let in.
 *
 * A registration names an initiator port and a target port.  The initiator port is the same at the
 * peer, as are the names of target and logical unit; the target port is not: its number is one of
 * that gateway's.  So a registration that came from a peer holds for all ports of this one.
 *
 * The disk may be a logical unit here or not, be it that its export is just being made: then only
 * the file is written, which is read when it is.
 */
#include "internal.h"

#include <errno.h>
#include <string.h>

#define RECORD_NAME "reservations"

/* All logical units.  Held while one is made, from reading its file on, so that what comes then is
 * not written behind its back; taken before everything else. */
static pthread_mutex_t units_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct list units = {&units, &units};

int reservations_tell(struct scsi_lu *lu, const char *text, struct err *e)
{
    return disk_record_tell(lu->disk, RECORD_NAME, text, strlen(text), e);
}

int reservations_join(struct scsi_lu *lu, struct err *e)
{
    CLEANUP_FREE char *text = NULL;
    int r;
    SCOPED_LOCK(&units_mutex);

    r = reservations_load(lu, e);
    if (r < 0)
        return r;
    text = reservations_to_text(&lu->reservations);
    r = text ? reservations_tell(lu, text, e) : err_set(e, ENOMEM, "out of memory");
    if (r == 0)
        list_append(&units, &lu->in_units);
    return r;
}

bool unit_put(struct scsi_lu *lu)
{
    SCOPED_LOCK(&units_mutex);

    if (atomic_fetch_sub(&lu->references, 1) != 1)
        return false;
    list_remove(&lu->in_units);
    return true;
}

/* --- from a peer -------------------------------------------------------------------------- */

static struct scsi_lu *find(const struct disk *disk)
{
    LIST_FOREACH (node, &units) {
        struct scsi_lu *lu = LIST_ENTRY(node, struct scsi_lu, in_units);

        if (lu->disk == disk)
            return lu;
    }
    return NULL;
}

/* Stable, whatever APTPL says: it is the primary that may forget. */
static int keep(struct disk *disk, const struct reservations *x, struct err *e)
{
    CLEANUP_FREE char *text = reservations_to_text(x);
    int r = text ? reservations_write(disk, text) : -ENOMEM;

    if (r < 0)
        return err_set(e, -r, "it cannot be kept: %s", strerror(-r));
    return disk_record_tell(disk, RECORD_NAME, text, strlen(text), e);
}

static void install(struct scsi_lu *lu, const struct reservations *x)
{
    SCOPED_LOCK(&lu->mutex);
    struct reservations *own = &lu->reservations;

    memcpy(own->registration, x->registration, sizeof own->registration);
    own->count = x->count;
    own->generation = x->generation;
    own->type = x->type;
    own->is_kept = x->is_kept;
    reservations_recompute(lu);
}

static int take(struct scsi_lu *lu, const struct reservations *x, struct err *e)
{
    int r;
    SCOPED_LOCK(&lu->store_mutex);

    r = keep(lu->disk, x, e);
    if (r == 0)
        install(lu, x);
    return r;
}

int scsi_take_record(struct disk *disk, const char *name, const void *data, size_t length,
                     struct err *e)
{
    CLEANUP_FREE struct reservations *x = malloc(sizeof *x);
    struct scsi_lu *lu;
    int r;

    if (strcmp(name, RECORD_NAME) != 0)
        return err_set(e, ENOTSUP, "nobody here knows such a record");
    if (!x)
        return err_set(e, ENOMEM, "out of memory");
    if (length > RESERVATIONS_BYTES_MAX || !reservations_from_text(x, data, length))
        return err_set(e, EINVAL, "it makes no sense");
    for (unsigned i = 0; i < x->count; i++)
        x->registration[i].is_from_peer = true;
    pthread_mutex_lock(&units_mutex);
    lu = find(disk);
    r = lu ? 0 : keep(disk, x, e);
    if (lu)
        scsi_lu_get(lu);
    pthread_mutex_unlock(&units_mutex);
    if (!lu)
        return r;
    r = take(lu, x, e);
    scsi_lu_put(lu);
    return r;
}
