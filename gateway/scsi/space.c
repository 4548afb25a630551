/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * space.c: what a thin disk has left of the space it shares (SBC-4 4.7.3.8): told by the log page,
 * the mode page and, when it becomes little, by a unit attention.
 *
 * Initiators are warned once, when what is left falls below the threshold; again only after there
 * was clearly more of it, so that a file system that others fill and empty does not warn without
 * end.
 */
#include "internal.h"

static bool is_low(const struct scsi_space *space, bool was_low)
{
    uint64_t threshold = space->threshold_bytes;

    return space->available_bytes < threshold + (was_low ? threshold / 8 : 0);
}

void scsi_lu_set_space(struct scsi_lu *lu, const struct scsi_space *space)
{
    bool was_low;

    if (!lu_is_thin(lu))
        return;
    pthread_mutex_lock(&lu->mutex);
    was_low = lu->is_space_low;
    lu->space = *space;
    lu->is_space_known = true;
    lu->is_space_low = is_low(space, was_low);
    was_low |= !lu->is_space_low;
    pthread_mutex_unlock(&lu->mutex);
    if (was_low)
        return;
    log_line(LOG_LEVEL_WARNING,
             "%llu MiB are left in the file system of the backing: initiators are warned disk=%s",
             (unsigned long long)(space->available_bytes >> 20), disk_name(lu->disk));
    attention_raise_all(lu, NULL, ATTENTION_THIN_THRESHOLD);
}

bool lu_space(struct scsi_lu *lu, struct scsi_space *out)
{
    SCOPED_LOCK(&lu->mutex);

    *out = lu->space;
    return lu->is_space_known;
}
