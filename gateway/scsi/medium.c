/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * medium.c: commands on blocks beside READ and WRITE: SYNCHRONIZE CACHE, PRE-FETCH, VERIFY, WRITE
 * AND VERIFY, COMPARE AND WRITE, ORWRITE.  The last two are one compound of the engine each, atomic
 * against everything that reaches the disk, by NBD too.
 */
#include "internal.h"

#include <errno.h>
#include <string.h>

#define BYTCHK_SHIFT 1u
#define READ_CHUNK (1u << 20)

enum bytchk { COMPARE_NOTHING, COMPARE_ALL, COMPARE_RESERVED, COMPARE_ONE_BLOCK };

/* --- SYNCHRONIZE CACHE, PRE-FETCH --------------------------------------------------------- */

void decode_range_only(struct scsi_command *c)
{
    range_any(c);
}

void decode_synchronize(struct scsi_command *c)
{
    if (range_any(c) && c->blocks == 0)
        c->blocks = lu_blocks(c->nexus_lu->lu) - c->lba; /* SBC-4 5.33 */
}

/* The whole disk, whatever range is named; with IMMED the answer is later than it may be. */
enum io_status run_synchronize(struct scsi_command *c)
{
    struct engine_capabilities can;

    engine_capabilities(c->nexus_lu->lu->engine, &can);
    return can.can_flush ? transfer(c, SLUICE_OP_FLUSH, 0, 0, 0, NULL) : IO_DONE;
}

/* A hint.  GOOD, not CONDITION MET: nobody promises that all of it fits (SBC-4 5.13). */
enum io_status run_prefetch(struct scsi_command *c)
{
    uint64_t blocks = c->blocks ? c->blocks : lu_blocks(c->nexus_lu->lu) - c->lba;
    uint64_t bytes = blocks << c->nexus_lu->lu->block_shift;

    return transfer(c, SLUICE_OP_PREFETCH, 0, range_offset(c),
                    MIN(bytes, (uint64_t)SCSI_TRANSFER_MAX), NULL);
}

/* --- VERIFY ------------------------------------------------------------------------------- */

static enum bytchk bytchk(const struct scsi_command *c)
{
    return c->cdb[1] >> BYTCHK_SHIFT & 3;
}

static bool check_bytchk(struct scsi_command *c)
{
    if (bytchk(c) != COMPARE_RESERVED)
        return true;
    sense_bad_cdb(c, 1, 2);
    return false;
}

void decode_verify(struct scsi_command *c)
{
    if (!check_bytchk(c) || !range_any(c))
        return;
    if (bytchk(c) == COMPARE_ALL)
        range_set_transfer(c, c->blocks);
    else if (bytchk(c) == COMPARE_ONE_BLOCK && c->blocks)
        range_set_transfer(c, 1);
}

static void miscompare(struct scsi_command *c, uint64_t at)
{
    sense_set(c, SENSE_MISCOMPARE, ASC_MISCOMPARE);
    sense_add_information(c, at);
}

/* Compares what was read with the same place of the data-out. */
static bool agrees(struct scsi_job *job, uint64_t length)
{
    struct scsi_command *c = job->command;
    uint32_t block = c->nexus_lu->lu->block_bytes;
    bool is_one = bytchk(c) == COMPARE_ONE_BLOCK;
    uint64_t done = job->offset - range_offset(c);
    const uint8_t *want = c->data;

    for (uint64_t i = 0; i < length; i++)
        if (job->buffer[i] != want[is_one ? i & (block - 1) : done + i]) {
            miscompare(c, done + i);
            return false;
        }
    return true;
}

static enum job_next verify_step(struct scsi_job *job)
{
    struct scsi_command *c = job->command;
    uint64_t length = MIN(job->left, (uint64_t)READ_CHUNK);

    if (job->phase++ > 0) { /* `length` has been read */
        if (bytchk(c) != COMPARE_NOTHING && !agrees(job, length))
            return JOB_END;
        job->offset += length;
        job->left -= length;
        length = MIN(job->left, (uint64_t)READ_CHUNK);
    }
    if (length == 0)
        return JOB_END;
    return job_request(job, SLUICE_OP_READ, 0, job->offset, length, job->buffer);
}

/* What is compared when the initiator sent less than the CDB says. */
static uint64_t bytes_to_verify(const struct scsi_command *c)
{
    if (bytchk(c) == COMPARE_ALL)
        return MIN(range_bytes(c), c->data_bytes);
    if (bytchk(c) == COMPARE_ONE_BLOCK && c->data_bytes < c->transfer_bytes)
        return 0;
    return range_bytes(c);
}

static enum io_status verify(struct scsi_command *c, enum job_next (*step)(struct scsi_job *job),
                             uint64_t bytes)
{
    struct scsi_job *job;

    if (bytes == 0)
        return IO_DONE;
    job = job_new(c, step, READ_CHUNK);
    if (!job)
        return IO_DONE;
    job->offset = range_offset(c);
    job->left = bytes;
    return job_start(job);
}

enum io_status run_verify(struct scsi_command *c)
{
    return verify(c, verify_step, bytes_to_verify(c));
}

/* --- WRITE AND VERIFY --------------------------------------------------------------------- */

void decode_write_verify(struct scsi_command *c)
{
    if (!check_bytchk(c))
        return;
    if (bytchk(c) == COMPARE_ONE_BLOCK)
        sense_bad_cdb(c, 1, 2);
    else
        decode_rw(c);
}

/* Stable first: what is verified is what the medium has. */
static enum job_next write_verify_step(struct scsi_job *job)
{
    if (job->value[0]++ == 0)
        return job_request(job, SLUICE_OP_WRITE, SLUICE_FLAG_FUA, job->offset, job->left,
                           job->command->data);
    return verify_step(job);
}

enum io_status run_write_verify(struct scsi_command *c)
{
    return verify(c, write_verify_step,
                  c->data_bytes & ~(uint64_t)(c->nexus_lu->lu->block_bytes - 1));
}

/* --- COMPARE AND WRITE, ORWRITE ----------------------------------------------------------- */

/* SBC-4 5.3: the data-out has the blocks twice. One byte of NUMBER OF BLOCKS, at 13. */
void decode_compare_and_write(struct scsi_command *c)
{
    if (!range_any(c))
        return;
    range_set_transfer(c, 2 * c->blocks);
}

/* Half of it compared and nothing written would be neither. */
static bool has_exact_data(struct scsi_command *c)
{
    if (c->data_bytes == c->transfer_bytes && c->expected_bytes == c->transfer_bytes)
        return true;
    sense_bad_cdb(c, range_length_at(c), NO_BIT);
    return false;
}

enum io_status run_compare_and_write(struct scsi_command *c)
{
    if (!has_exact_data(c) || c->blocks == 0)
        return IO_DONE;
    return transfer(c, ENGINE_OP_COMPARE_AND_WRITE, write_flags(c), range_offset(c), range_bytes(c),
                    c->data);
}

void decode_or_write(struct scsi_command *c)
{
    decode_rw(c);
}

enum io_status run_or_write(struct scsi_command *c)
{
    uint64_t length = c->data_bytes & ~(uint64_t)(c->nexus_lu->lu->block_bytes - 1);

    if (length == 0)
        return IO_DONE;
    return transfer(c, ENGINE_OP_OR_WRITE, write_flags(c), range_offset(c), length, c->data);
}
