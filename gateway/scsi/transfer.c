/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * transfer.c: READ and WRITE in all their lengths (SBC-4 5.11 to 5.46): the hot path.  One command
 * is one request of the engine, straight from and into the transport's buffer.
 */
#include "internal.h"

#define FUA 0x08u

void decode_rw(struct scsi_command *c)
{
    if (range_any(c))
        range_set_transfer(c, c->blocks);
}

uint32_t write_flags(const struct scsi_command *c)
{
    if (!atomic_load_explicit(&c->nexus_lu->lu->is_write_cached, memory_order_relaxed))
        return SLUICE_FLAG_FUA;
    return c->operation->flags & OP_HAS_FUA && c->cdb[1] & FUA ? SLUICE_FLAG_FUA : 0;
}

static void reap(struct scsi_command *c)
{
    struct request *r = c->request;
    int error = request_error(r);

    c->request = NULL;
    if (UNLIKELY(error))
        sense_from_error(c, error, request_miscompare_offset(r));
    else if (c->operation->direction == SCSI_DATA_IN)
        c->data_in_bytes = c->data_bytes;
    request_free(r);
}

static void on_done(struct request *r)
{
    struct scsi_command *c = request_owner(r);

    reap(c);
    command_end(c);
}

enum io_status transfer(struct scsi_command *c, unsigned op, uint32_t flags, uint64_t offset,
                        uint64_t length, void *data)
{
    struct scsi_nexus_lu *n = c->nexus_lu;
    struct request *r = request_new(n->lu->engine, &n->session->client);

    if (UNLIKELY(!r)) {
        c->status = SCSI_BUSY;
        return IO_DONE;
    }
    request_fill(r, op, flags, offset, length, data);
    request_set_done(r, on_done, c);
    c->request = r;
    if (request_submit(r) == IO_PENDING)
        return IO_PENDING;
    reap(c);
    return IO_DONE;
}

enum io_status run_read(struct scsi_command *c)
{
    if (c->data_bytes == 0)
        return IO_DONE;
    return transfer(c, SLUICE_OP_READ, 0, range_offset(c), c->data_bytes, c->data);
}

/* Where the initiator sent less than the CDB says, whole blocks of it are written. */
enum io_status run_write(struct scsi_command *c)
{
    uint64_t length = c->data_bytes & ~(uint64_t)(c->nexus_lu->lu->block_bytes - 1);

    if (length == 0)
        return IO_DONE;
    return transfer(c, SLUICE_OP_WRITE, write_flags(c), range_offset(c), length, c->data);
}
