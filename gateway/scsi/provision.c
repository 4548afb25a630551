/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * provision.c: WRITE SAME, UNMAP and GET LBA STATUS (SBC-4 4.7, 5.41, 5.50, 5.57).
 *
 * Trim means zeros, and the space may be given back: so an unmapped block always reads as zeros
 * (LBPRZ), whatever the alignment, and GET LBA STATUS tells the extents that the disk really has.
 */
#include "internal.h"

#include <errno.h>
#include <string.h>

#define WS_NDOB 0x01u
#define WS_UNMAP 0x08u
#define WS_ANCHOR 0x10u
#define PATTERN_CHUNK (1u << 20)

bool lu_is_thin(const struct scsi_lu *lu)
{
    struct engine_capabilities can;

    engine_capabilities(lu->engine, &can);
    return can.can_trim && can.knows_extents; /* what is unmapped has to show in GET LBA STATUS */
}

/* Of a disk that may not be written the initiator is told that, not that there is no such command.
 */
bool lu_may_unmap(const struct scsi_lu *lu)
{
    return lu_is_thin(lu) || disk_is_read_only(lu->disk);
}

/* --- WRITE SAME --------------------------------------------------------------------------- */

static bool has_no_data_out(const struct scsi_command *c)
{
    return c->operation->cdb_bytes == 16 && c->cdb[1] & WS_NDOB;
}

void decode_write_same(struct scsi_command *c)
{
    if (!range_any(c))
        return;
    if (c->cdb[1] & WS_ANCHOR) { /* ANC_SUP is 0 */
        sense_bad_cdb(c, 1, 4);
        return;
    }
    if (c->cdb[1] & WS_UNMAP && !lu_may_unmap(c->nexus_lu->lu)) {
        sense_bad_cdb(c, 1, 3);
        return;
    }
    if (c->blocks == 0)
        c->blocks = lu_blocks(c->nexus_lu->lu) - c->lba; /* WSNZ is 0: up to the end */
    if (range_bytes(c) > WRITE_SAME_BYTES_MAX)
        sense_bad_cdb(c, range_length_at(c), NO_BIT);
    else if (!has_no_data_out(c))
        c->transfer_bytes = c->nexus_lu->lu->block_bytes;
}

static bool is_zero(const uint8_t *p, size_t length)
{
    return length == 0 || (p[0] == 0 && memcmp(p, p + 1, length - 1) == 0);
}

static enum job_next pattern_step(struct scsi_job *job)
{
    uint64_t length = MIN(job->left, (uint64_t)job->buffer_bytes), at = job->offset;

    if (length == 0)
        return JOB_END;
    job->offset += length;
    job->left -= length;
    return job_request(job, SLUICE_OP_WRITE, write_flags(job->command), at, length, job->buffer);
}

static enum io_status write_pattern(struct scsi_command *c)
{
    uint32_t block = c->nexus_lu->lu->block_bytes;
    struct scsi_job *job =
        job_new(c, pattern_step, (size_t)MIN(range_bytes(c), (uint64_t)PATTERN_CHUNK));

    if (!job)
        return IO_DONE;
    for (size_t i = 0; i < job->buffer_bytes; i += block)
        memcpy(job->buffer + i, c->data, block);
    job->offset = range_offset(c);
    job->left = range_bytes(c);
    return job_start(job);
}

/* Without UNMAP the blocks stay allocated: nobody may run out of space there later. */
static enum io_status write_zeros(struct scsi_command *c)
{
    bool is_unmap = c->cdb[1] & WS_UNMAP;
    uint32_t flags = write_flags(c);

    if (!is_unmap)
        flags |= SLUICE_FLAG_NO_HOLE;
    return transfer(c, is_unmap ? SLUICE_OP_TRIM : SLUICE_OP_ZERO, flags, range_offset(c),
                    range_bytes(c), NULL);
}

enum io_status run_write_same(struct scsi_command *c)
{
    if (c->expected_bytes != c->transfer_bytes || c->data_bytes != c->transfer_bytes) {
        sense_set(c, SENSE_ILLEGAL_REQUEST, ASC_INVALID_FIELD_IN_CDB); /* not one block of data */
        return IO_DONE;
    }
    if (c->blocks == 0)
        return IO_DONE;
    if (has_no_data_out(c) || is_zero(c->data, c->data_bytes))
        return write_zeros(c);
    return write_pattern(c);
}

/* --- UNMAP -------------------------------------------------------------------------------- */

#define UNMAP_HEADER_BYTES 8u
#define UNMAP_DESCRIPTOR_BYTES 16u

void decode_unmap(struct scsi_command *c)
{
    if (!c->nexus_lu->lu)
        return;
    if (c->cdb[1] & 1)
        sense_bad_cdb(c, 1, 0); /* ANCHOR */
    else
        c->transfer_bytes = get16(c->cdb + 7);
}

/* The number of descriptors, or -1 with sense. */
static int unmap_check(struct scsi_command *c)
{
    const uint8_t *list = c->data;
    uint32_t descriptors;

    if (c->data_bytes < UNMAP_HEADER_BYTES) {
        sense_set(c, SENSE_ILLEGAL_REQUEST, ASC_PARAMETER_LIST_LENGTH);
        return -1;
    }
    descriptors = get16(list + 2) / UNMAP_DESCRIPTOR_BYTES; /* a rest is ignored, SBC-4 5.41.2 */
    if (descriptors > (c->data_bytes - UNMAP_HEADER_BYTES) / UNMAP_DESCRIPTOR_BYTES) {
        sense_set(c, SENSE_ILLEGAL_REQUEST, ASC_PARAMETER_LIST_LENGTH);
        return -1;
    }
    if (descriptors > UNMAP_DESCRIPTORS_MAX) {
        sense_bad_list(c, 2, NO_BIT);
        return -1;
    }
    return (int)descriptors;
}

static bool unmap_check_ranges(struct scsi_command *c, unsigned count)
{
    uint64_t size = lu_blocks(c->nexus_lu->lu);

    for (unsigned i = 0; i < count; i++) {
        const uint8_t *d =
            (uint8_t *)c->data + UNMAP_HEADER_BYTES + (size_t)i * UNMAP_DESCRIPTOR_BYTES;

        if (get64(d) > size || get32(d + 8) > size - get64(d)) {
            sense_set(c, SENSE_ILLEGAL_REQUEST, ASC_LBA_OUT_OF_RANGE);
            return false;
        }
    }
    return true;
}

static enum job_next unmap_step(struct scsi_job *job)
{
    struct scsi_command *c = job->command;
    unsigned shift = c->nexus_lu->lu->block_shift;

    while (job->phase < job->value[0]) {
        const uint8_t *d =
            (uint8_t *)c->data + UNMAP_HEADER_BYTES + (size_t)job->phase++ * UNMAP_DESCRIPTOR_BYTES;

        if (get32(d + 8))
            return job_request(job, SLUICE_OP_TRIM, write_flags(c), get64(d) << shift,
                               (uint64_t)get32(d + 8) << shift, NULL);
    }
    return JOB_END;
}

enum io_status run_unmap(struct scsi_command *c)
{
    struct scsi_job *job;
    int count;

    if (c->transfer_bytes == 0)
        return IO_DONE;
    count = unmap_check(c);
    if (count < 0 || !unmap_check_ranges(c, (unsigned)count))
        return IO_DONE;
    job = job_new(c, unmap_step, 0);
    if (!job)
        return IO_DONE;
    job->value[0] = (unsigned)count;
    return job_start(job);
}

/* --- GET LBA STATUS ----------------------------------------------------------------------- */

#define STATUS_HEADER_BYTES 8u
#define STATUS_DESCRIPTOR_BYTES 16u
enum { MAPPED = 0, DEALLOCATED = 1 };

void decode_get_lba_status(struct scsi_command *c)
{
    uint32_t allocation = get32(c->cdb + 10);

    c->lba = get64(c->cdb + 2);
    if (!c->nexus_lu->lu)
        return;
    if (c->lba >= lu_blocks(c->nexus_lu->lu)) {
        sense_set(c, SENSE_ILLEGAL_REQUEST, ASC_LBA_OUT_OF_RANGE);
        return;
    }
    c->blocks = allocation;
    c->transfer_bytes = MIN(allocation, PARAMETER_DATA_MAX);
}

static unsigned status_of(uint32_t type)
{
    return type & EXTENT_HOLE ? DEALLOCATED : MAPPED;
}

struct status_list {
    uint8_t *bytes;
    unsigned count, most;
};

/* Joins what has the same status. */
static bool status_add(struct status_list *s, uint64_t lba, uint64_t blocks, unsigned status)
{
    uint8_t *d = s->bytes + STATUS_HEADER_BYTES + (size_t)s->count * STATUS_DESCRIPTOR_BYTES;

    if (s->count && d[12 - (int)STATUS_DESCRIPTOR_BYTES] == status) {
        uint8_t *before = d - STATUS_DESCRIPTOR_BYTES;
        uint64_t sum = get32(before + 8) + blocks;

        put32(before + 8, (uint32_t)MIN(sum, UINT64_C(0xffffffff)));
        return sum <= UINT32_MAX;
    }
    if (s->count == s->most)
        return false;
    memset(d, 0, STATUS_DESCRIPTOR_BYTES);
    put64(d, lba);
    put32(d + 8, (uint32_t)MIN(blocks, UINT64_C(0xffffffff)));
    d[12] = (uint8_t)status;
    s->count++;
    return blocks <= UINT32_MAX;
}

/* Extents end anywhere; a block of which any byte is mapped is mapped. */
static void status_fill(struct status_list *s, const struct extents *x, unsigned shift)
{
    uint64_t block = UINT64_C(1) << shift, at = x->offset, next = x->offset >> shift;

    for (unsigned i = 0; i < x->count; i++) {
        uint64_t end = at + x->list[i].length;
        bool is_hole = status_of(x->list[i].type) == DEALLOCATED;
        uint64_t first = is_hole ? (at + block - 1) >> shift : at >> shift;
        uint64_t last = is_hole ? end >> shift : (end + block - 1) >> shift;

        at = end;
        first = MAX(first, next);
        if (last <= first)
            continue;
        if (first > next && !status_add(s, next, first - next, MAPPED))
            return;
        if (!status_add(s, first, last - first, is_hole ? DEALLOCATED : MAPPED))
            return;
        next = last;
    }
}

static enum job_next status_step(struct scsi_job *job)
{
    struct scsi_command *c = job->command;
    const struct scsi_lu *lu = c->nexus_lu->lu;
    struct status_list list = {.bytes = job->buffer};
    size_t room = MIN(c->blocks, (uint64_t)job->buffer_bytes);

    if (job->phase++ == 0)
        return job_request(job, SLUICE_OP_EXTENTS, 0, range_offset(c),
                           (lu_blocks(lu) - c->lba) << lu->block_shift, NULL);
    list.most = room < STATUS_HEADER_BYTES + STATUS_DESCRIPTOR_BYTES
                    ? 1
                    : (unsigned)((room - STATUS_HEADER_BYTES) / STATUS_DESCRIPTOR_BYTES);
    memset(job->buffer, 0, STATUS_HEADER_BYTES);
    status_fill(&list, request_extents(job->last), lu->block_shift);
    put32(job->buffer, 4 + list.count * STATUS_DESCRIPTOR_BYTES);
    command_answer(c, job->buffer,
                   STATUS_HEADER_BYTES + (size_t)list.count * STATUS_DESCRIPTOR_BYTES, c->blocks);
    return JOB_END;
}

enum io_status run_get_lba_status(struct scsi_command *c)
{
    struct scsi_job *job = job_new(c, status_step, PARAMETER_DATA_MAX);

    return job ? job_start(job) : IO_DONE;
}
