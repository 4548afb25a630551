/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * transfer.c: READ and WRITE in all their lengths (SBC-4 5.11 to 5.46): the hot path.  One command
 * is one request of the engine, straight from and into the transport's buffer.
 */
#include "internal.h"

#define FUA 0x08u
#define PROTECT_SHIFT 5u

/* --- decode
 * ------------------------------------------------------------------------------------------ */

/* Protection information is not supported: RDPROTECT, WRPROTECT must be 0 (SBC-4 table 33). */
static bool check_protect(struct scsi_command *c)
{
    if (c->cdb[1] >> PROTECT_SHIFT == 0)
        return true;
    sense_bad_cdb(c, 1, 7);
    return false;
}

static void set_transfer(struct scsi_command *c, unsigned length_at)
{
    uint64_t bytes;

    if (!check_range(c))
        return;
    bytes = c->blocks << c->nexus_lu->lu->block_shift;
    if (bytes > SCSI_TRANSFER_MAX)
        sense_bad_cdb(c, length_at, NO_BIT);
    else
        c->transfer_bytes = (uint32_t)bytes;
}

void decode_rw6(struct scsi_command *c)
{
    c->lba = get24(c->cdb + 1) & 0x1fffff;
    c->blocks = c->cdb[4] ? c->cdb[4] : 256; /* SBC-4 5.11 */
    set_transfer(c, 4);
}

void decode_rw10(struct scsi_command *c)
{
    c->lba = get32(c->cdb + 2);
    c->blocks = get16(c->cdb + 7);
    if (check_protect(c))
        set_transfer(c, 7);
}

void decode_rw12(struct scsi_command *c)
{
    c->lba = get32(c->cdb + 2);
    c->blocks = get32(c->cdb + 6);
    if (check_protect(c))
        set_transfer(c, 6);
}

void decode_rw16(struct scsi_command *c)
{
    c->lba = get64(c->cdb + 2);
    c->blocks = get32(c->cdb + 10);
    if (check_protect(c))
        set_transfer(c, 10);
}

/* --- run
 * ------------------------------------------------------------------------------------------------
 */

static bool is_fua(const struct scsi_command *c)
{
    if (c->operation->cdb_bytes > 6 && c->cdb[1] & FUA)
        return true;
    return c->operation->flags & OP_WRITES &&
           !atomic_load_explicit(&c->nexus_lu->lu->is_write_cached, memory_order_relaxed);
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

static enum io_status transfer(struct scsi_command *c, unsigned op, uint64_t length)
{
    struct scsi_nexus_lu *n = c->nexus_lu;
    struct request *r = request_new(n->lu->engine, &n->session->client);
    struct sluice_request *pub;

    if (UNLIKELY(!r)) {
        c->status = SCSI_BUSY;
        return IO_DONE;
    }
    pub = request_public(r);
    pub->op = (uint8_t)op;
    pub->flags = is_fua(c) ? SLUICE_FLAG_FUA : 0;
    pub->offset = c->lba << n->lu->block_shift;
    pub->length = length;
    pub->data = c->data;
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
    return transfer(c, SLUICE_OP_READ, c->data_bytes);
}

/* Where the initiator sent less than the CDB says, whole blocks of it are written. */
enum io_status run_write(struct scsi_command *c)
{
    uint64_t length = c->data_bytes & ~(uint64_t)(c->nexus_lu->lu->block_bytes - 1);

    if (length == 0)
        return IO_DONE;
    return transfer(c, SLUICE_OP_WRITE, length);
}
