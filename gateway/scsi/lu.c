/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lu.c: a disk as a logical unit: what it is called and how it is cut into blocks.
 */
#include "internal.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static bool is_block_size(uint32_t bytes)
{
    return bytes == 512 || bytes == 4096;
}

static bool is_ascii(const char *text)
{
    for (; *text; text++)
        if (!isprint((unsigned char)*text) || (unsigned char)*text > 0x7e)
            return false;
    return true;
}

static int take_text(char *to, size_t size, const char *text, const char *otherwise, struct err *e)
{
    if (!text)
        text = otherwise;
    if (strlen(text) >= size || !is_ascii(text))
        return err_set(e, EINVAL,
                       "\"%s\" cannot be told to initiators: at most %zu characters of ASCII", text,
                       size - 1);
    snprintf(to, size, "%s", text);
    return 0;
}

static int take_blocks(struct scsi_lu *lu, const struct scsi_lu_settings *s, struct err *e)
{
    lu->block_bytes = s->block_bytes ? s->block_bytes : 512;
    lu->physical_bytes = s->physical_bytes ? s->physical_bytes : 4096;
    if (!is_block_size(lu->block_bytes) || !is_block_size(lu->physical_bytes) ||
        lu->physical_bytes < lu->block_bytes)
        return err_set(e, EINVAL,
                       "%s: sectors of %u bytes on blocks of %u cannot be had: 512 on 512, 512 on "
                       "4096 or 4096 on 4096",
                       disk_name(lu->disk), lu->block_bytes, lu->physical_bytes);
    lu->block_shift = (unsigned)__builtin_ctz(lu->block_bytes);
    if (lu_blocks(lu) == 0)
        return err_set(e, EINVAL, "%s: is smaller than one sector of %u bytes", disk_name(lu->disk),
                       lu->block_bytes);
    return 0;
}

static int take_settings(struct scsi_lu *lu, const struct scsi_lu_settings *s, struct err *e)
{
    int r = take_blocks(lu, s, e);

    lu->naa_oui = s->naa_oui & 0xffffff;
    lu->may_erase = s->may_erase;
    if (r == 0)
        r = take_text(lu->vendor, sizeof lu->vendor, s->vendor, "SLUICE", e);
    if (r == 0)
        r = take_text(lu->product, sizeof lu->product, s->product, "DISK", e);
    if (r == 0)
        r = take_text(lu->revision, sizeof lu->revision, s->revision, "0001", e);
    return r;
}

int scsi_lu_create(struct disk *disk, const struct scsi_lu_settings *settings, struct scsi_lu **out,
                   struct err *e)
{
    struct scsi_lu *lu = calloc(1, sizeof *lu);
    int r;

    if (!lu)
        return err_set(e, ENOMEM, "%s: out of memory", disk_name(disk));
    lu->references = 1;
    lu->atomic_fd = -1;
    lu->disk = disk;
    lu->engine = disk_engine(disk);
    mode_reset(lu);
    pthread_mutex_init(&lu->mutex, NULL);
    pthread_mutex_init(&lu->store_mutex, NULL);
    pthread_cond_init(&lu->slot_cond, NULL);
    pthread_cond_init(&lu->visitors_cond, NULL);
    list_init(&lu->nexus_lus);
    list_init(&lu->in_units);
    r = take_settings(lu, settings, e);
    if (r == 0)
        r = reservations_join(lu, e);
    if (r == 0)
        r = atomic_open(lu, e);
    if (r == 0)
        r = erase_open(lu, e);
    if (r < 0) {
        scsi_lu_put(lu);
        return r;
    }
    *out = lu;
    return 0;
}

struct scsi_lu *scsi_lu_get(struct scsi_lu *lu)
{
    atomic_fetch_add(&lu->references, 1);
    return lu;
}

void scsi_lu_put(struct scsi_lu *lu)
{
    if (!unit_put(lu))
        return;
    erase_close(lu);
    atomic_close(lu);
    pthread_cond_destroy(&lu->slot_cond);
    pthread_cond_destroy(&lu->visitors_cond);
    pthread_mutex_destroy(&lu->mutex);
    pthread_mutex_destroy(&lu->store_mutex);
    free(lu);
}

bool scsi_lu_is_named(const struct scsi_lu *lu, const uint8_t *naa, size_t bytes)
{
    uint8_t own[16];

    return lu_naa(lu, own) == bytes && memcmp(naa, own, bytes) == 0;
}

void lu_reset(struct scsi_lu *lu)
{
    mode_reset(lu);
    reserve6_end(lu, NULL);
}

/* --- asymmetric access -------------------------------------------------------------------- */

void scsi_lu_set_port_groups(struct scsi_lu *lu, const struct scsi_port_group *groups,
                             unsigned count)
{
    bool is_restricted = false;

    pthread_mutex_lock(&lu->mutex);
    lu->group_count = MIN(count, SCSI_PORT_GROUPS_MAX);
    for (unsigned i = 0; i < lu->group_count; i++) {
        lu->groups[i] = groups[i];
        is_restricted |= groups[i].state > SCSI_ACTIVE_NON_OPTIMIZED;
    }
    if (is_restricted)
        atomic_fetch_or(&lu->gates, LU_NOT_ACTIVE);
    else
        atomic_fetch_and(&lu->gates, ~LU_NOT_ACTIVE);
    pthread_mutex_unlock(&lu->mutex);
    attention_raise_all(lu, NULL, ATTENTION_ACCESS_STATE_CHANGED);
}

unsigned lu_port_groups(const struct scsi_nexus_lu *n, struct scsi_port_group *out)
{
    struct scsi_lu *lu = n->lu;
    SCOPED_LOCK(&lu->mutex);

    if (lu->group_count == 0) {
        out[0] = (struct scsi_port_group){.id = n->nexus->portal_group};
        return 1;
    }
    for (unsigned i = 0; i < lu->group_count; i++)
        out[i] = lu->groups[i];
    return lu->group_count;
}

/* --- requests of the logical unit itself ------------------------------------------------------ */

static const struct sluice_client unit_client = {
    .front_end = "iscsi", .address = "", .initiator = "", .session = 0};

int unit_execute(struct engine *engine, unsigned op, uint32_t flags, uint64_t offset,
                 uint64_t length, void *data)
{
    struct request *r = request_new(engine, &unit_client);
    int error;

    if (!r)
        return ENOMEM;
    request_fill(r, op, flags, offset, length, data);
    error = request_execute(r);
    request_free(r);
    return error;
}

int lu_execute(struct scsi_lu *lu, unsigned op, uint32_t flags, uint64_t offset, uint64_t length,
               void *data)
{
    return unit_execute(lu->engine, op, flags, offset, length, data);
}
