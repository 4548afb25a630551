/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * reserve-in.c: PERSISTENT RESERVE IN (SPC-4 6.15): tells an initiator which keys are registered,
 * who holds the reservation and what this target supports.
 */
#include "internal.h"

#define TRANSPORT_ID_MAX (4u + SCSI_NAME_BYTES + 24u)
#define STATUS_BYTES (24u + TRANSPORT_ID_MAX)

static void put_head(const struct scsi_lu *lu, uint8_t *out, size_t length)
{
    put32(out, lu->reservations.generation);
    put32(out + 4, (uint32_t)length);
}

enum io_status run_read_keys(struct scsi_command *c)
{
    struct scsi_lu *lu = c->nexus_lu->lu;
    uint8_t data[8 + 8 * REGISTRATIONS_MAX];
    size_t length = 0;

    pthread_mutex_lock(&lu->mutex);
    for (unsigned i = 0; i < lu->reservations.count; i++, length += 8)
        put64(data + 8 + length, lu->reservations.registration[i].key);
    put_head(lu, data, length);
    pthread_mutex_unlock(&lu->mutex);
    command_answer(c, data, 8 + length, c->blocks);
    return IO_DONE;
}

static uint64_t holder_key(const struct scsi_lu *lu)
{
    for (unsigned i = 0; i < lu->reservations.count; i++)
        if (lu->reservations.registration[i].is_holder)
            return lu->reservations.registration[i].key;
    return 0; /* all registrants */
}

enum io_status run_read_reservation(struct scsi_command *c)
{
    struct scsi_lu *lu = c->nexus_lu->lu;
    uint8_t data[24] = {0};
    size_t length;

    pthread_mutex_lock(&lu->mutex);
    length = lu->reservations.type ? 16 : 0;
    put_head(lu, data, length);
    if (length) {
        put64(data + 8, holder_key(lu));
        data[21] = lu->reservations.type;
    }
    pthread_mutex_unlock(&lu->mutex);
    command_answer(c, data, 8 + length, c->blocks);
    return IO_DONE;
}

enum io_status run_reserve_capabilities(struct scsi_command *c)
{
    struct scsi_lu *lu = c->nexus_lu->lu;
    bool can_keep = disk_state_folder(lu->disk) != NULL;
    uint8_t data[8] = {0};

    put16(data, sizeof data);
    data[2] = (uint8_t)(0x1c | (can_keep ? 0x01 : 0)); /* CRH, SIP_C, ATP_C, PTPL_C */
    pthread_mutex_lock(&lu->mutex);
    data[3] = (uint8_t)(0x80 | (lu->reservations.is_kept ? 0x01 : 0)); /* TMV, PTPL_A */
    pthread_mutex_unlock(&lu->mutex);
    data[4] = 0xea; /* all types */
    data[5] = 0x01;
    command_answer(c, data, sizeof data, c->blocks);
    return IO_DONE;
}

static size_t put_full_status(const struct scsi_lu *lu, const struct registration *r, uint8_t *out)
{
    size_t id = transport_id_put(out + 24, &r->port);

    put64(out, r->key);
    put32(out + 8, 0);
    out[12] = (uint8_t)((r->is_all_target_ports ? 2 : 0) | (is_holder(lu, r) ? 1 : 0));
    out[13] = is_holder(lu, r) ? lu->reservations.type : 0;
    put32(out + 14, 0);
    put16(out + 18, r->target_port);
    put32(out + 20, (uint32_t)id);
    return 24 + id;
}

enum io_status run_read_full_status(struct scsi_command *c)
{
    struct scsi_lu *lu = c->nexus_lu->lu;
    CLEANUP_FREE uint8_t *data = malloc(8 + REGISTRATIONS_MAX * STATUS_BYTES);
    size_t length = 0;

    if (!data) {
        c->status = SCSI_BUSY;
        return IO_DONE;
    }
    pthread_mutex_lock(&lu->mutex);
    for (unsigned i = 0; i < lu->reservations.count; i++)
        length += put_full_status(lu, &lu->reservations.registration[i], data + 8 + length);
    put_head(lu, data, length);
    pthread_mutex_unlock(&lu->mutex);
    command_answer(c, data, 8 + length, c->blocks);
    return IO_DONE;
}
