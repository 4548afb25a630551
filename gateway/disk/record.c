/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * record.c: what is not the disk's data and belongs to it wherever it is.  The newest of each name
 * is kept here in memory, for filters that join the chain later; on disk it is where its owner
 * keeps it.
 *
 * The callback of a filter is called under the mutex, so that none is told an older one after a
 * newer one, or one that has left the chain; it may not block.  It is no control event: it must not
 * wait until a long one has ended.
 */
#include "internal.h"

#include <errno.h>
#include <string.h>

struct disk_record {
    struct disk_record *next;
    char name[SLUICE_RECORD_NAME_MAX + 1];
    size_t length;
    uint8_t data[];
};

static _Atomic(disk_record_hook *) record_hook;

/* --- telling ---------------------------------------------------------------------------------
 */

static bool takes_records(const struct station *s)
{
    return s->filter->struct_size >=
               offsetof(struct sluice_filter, record) + sizeof s->filter->record &&
           s->filter->record;
}

static int tell(const struct station *s, const struct disk_record *record)
{
    return takes_records(s)
               ? s->filter->record(s->instance, record->name, record->data, record->length)
               : 0;
}

/* In the place of the one of its name. */
static void put(struct disk *disk, struct disk_record *record)
{
    struct disk_record **at = &disk->records, *old;

    while (*at && strcmp((*at)->name, record->name) != 0)
        at = &(*at)->next;
    old = *at;
    record->next = old ? old->next : NULL;
    *at = record;
    free(old);
}

static bool is_record(const char *name, size_t length)
{
    size_t characters = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-");

    return name[0] >= 'a' && name[0] <= 'z' && characters <= SLUICE_RECORD_NAME_MAX &&
           !name[characters] && length <= SLUICE_RECORD_BYTES_MAX;
}

int disk_record_tell(struct disk *disk, const char *name, const void *data, size_t length,
                     struct err *e)
{
    struct disk_record *record;
    int r = 0;

    if (!is_record(name, length))
        return err_set(e, EINVAL, "%s: no record of a disk has that name, or is so large",
                       disk->name);
    record = calloc(1, sizeof *record + length);
    if (!record)
        return err_set(e, ENOMEM, "%s: out of memory", disk->name);
    memcpy(record->name, name, strlen(name));
    memcpy(record->data, data, length);
    record->length = length;
    SCOPED_LOCK(&disk->records_mutex);

    put(disk, record);
    for (unsigned i = 0; i < disk->count && r == 0; i++) {
        r = tell(disk->station[i], record);
        if (r < 0)
            err_set(e, -r, "filter %s: does not take the record %s: %s", disk->station[i]->name,
                    name, strerror(-r));
    }
    return r;
}

bool disk_records_are_carried(const struct disk *disk)
{
    return atomic_load(&disk->are_records_carried);
}

/* --- the chain -------------------------------------------------------------------------------
 */

static bool is_in_chain(const struct disk *disk, const struct station *s)
{
    for (unsigned i = 0; i < disk->count; i++)
        if (disk->station[i] == s)
            return true;
    return false;
}

static void tell_all(const struct disk *disk, const struct station *s)
{
    for (const struct disk_record *record = disk->records; record; record = record->next)
        if (tell(s, record) < 0)
            log_line(LOG_LEVEL_ERROR, "filter %s does not take the record %s disk=%s", s->name,
                     record->name, disk->name);
}

void records_put_chain(struct disk *disk, struct station *const *stations, unsigned count)
{
    bool are_carried = false;
    SCOPED_LOCK(&disk->records_mutex);

    for (unsigned i = 0; i < count; i++) {
        if (!is_in_chain(disk, stations[i]))
            tell_all(disk, stations[i]);
        are_carried |= takes_records(stations[i]);
    }
    if (count)
        memcpy(disk->station, stations, count * sizeof *stations);
    disk->count = count;
    atomic_store(&disk->are_records_carried, are_carried);
}

void records_free(struct disk *disk)
{
    while (disk->records) {
        struct disk_record *record = disk->records;

        disk->records = record->next;
        free(record);
    }
    pthread_mutex_destroy(&disk->records_mutex);
}

/* --- from another gateway --------------------------------------------------------------------
 */

void disk_set_record_hook(disk_record_hook *hook)
{
    atomic_store(&record_hook, hook);
}

int disk_record_arrived(struct disk *disk, const char *name, const void *data, size_t length,
                        struct err *e)
{
    disk_record_hook *hook = atomic_load(&record_hook);

    if (!is_record(name, length))
        return err_set(e, EINVAL, "no record of a disk has that name, or is so large");
    return hook ? hook(disk, name, data, length, e)
                : err_set(e, ENOTSUP, "nobody here knows such a record");
}
