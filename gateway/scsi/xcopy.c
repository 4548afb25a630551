/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * xcopy.c: EXTENDED COPY (LID1) from blocks to blocks, RECEIVE COPY RESULTS and
 * the third-party copy page (SPC-4 6.4, 6.17, 7.8.17).  The data never leaves
 * the gateway.
 *
 * A copy may name only disks that this initiator may use: descriptors are looked up
 * among the session's own LUNs, then, as a visitor, among those of other targets
 * that it could log in to as well.  The whole list is checked before the first
 * byte moves; what may change meanwhile is looked at again before each piece.
 */
#include "internal.h"

#include <errno.h>
#include <string.h>

#define HEADER_BYTES 16u
#define CSCD_BYTES 32u
#define SEGMENT_BYTES 28u
#define CSCDS_MAX 8u
#define SEGMENTS_MAX 64u
#define LIST_BYTES_MAX (CSCDS_MAX * CSCD_BYTES + SEGMENTS_MAX * SEGMENT_BYTES)
#define TYPE_IDENTIFICATION 0xe4u
#define TYPE_BLOCK_TO_BLOCK 0x02u
#define SEGMENT_BYTES_COPIED_MAX (64u << 20)
#define CHUNK (1u << 20)

#define ASC_COPY_UNREACHABLE 0x0804

struct place {
    uint16_t lun;                  /* of this session */
    struct scsi_nexus_lu *visitor; /* or at another target */
};

struct segment {
    struct place from, to;
    uint64_t from_offset, to_offset, bytes;
};

enum copy_stage { OPENING, CHECKING, COPYING };

struct copy {
    enum copy_stage stage;
    uint8_t list_id;
    bool is_kept; /* the result, for RECEIVE COPY RESULTS */
    unsigned cscds, segments, found_count;
    struct scsi_nexus_lu *cscd[CSCDS_MAX]; /* while checking: NULL where there is none */
    struct scsi_lu *found[CSCDS_MAX];      /* at another target: visited, not opened yet */
    struct scsi_nexus_lu *visitor[CSCDS_MAX];
    struct segment segment[SEGMENTS_MAX];
    uint64_t copied; /* of the segment under way */
};

/* --- checking the list
 * --------------------------------------------------------------------- */

static bool is_of_blocks(const uint8_t *cscd, const struct scsi_lu *lu)
{
    return get24(cscd + 29) == lu->block_bytes;
}

/* The LUN of this session with that NAA name. */
static struct scsi_nexus_lu *find_own(const struct scsi_nexus *nexus, const uint8_t *cscd)
{
    for (unsigned i = 0; i < nexus->count; i++)
        if (scsi_lu_is_named(nexus->lus[i]->lu, cscd + 8, cscd[7]))
            return nexus->lus[i];
    return NULL;
}

/* What cannot be found is only an error where a segment uses it. */
static void find_by_name(struct scsi_command *c, struct copy *copy, unsigned i, const uint8_t *cscd)
{
    struct scsi_nexus_lu *own = find_own(c->nexus, cscd);
    struct scsi_lu *lu = NULL;

    if (own) {
        copy->cscd[i] = is_of_blocks(cscd, own->lu) ? own : NULL;
        return;
    }
    if (c->nexus->find_elsewhere)
        lu = c->nexus->find_elsewhere(cscd + 8, cscd[7], c->nexus->arg);
    if (lu && !is_of_blocks(cscd, lu)) {
        scsi_lu_leave(lu);
        lu = NULL;
    }
    copy->found[i] = lu;
    copy->found_count += lu != NULL;
}

/* LU ID TYPE is ignored: this descriptor has no LU IDENTIFIER (SPC-4 6.4.6.1). Only NAA names of
 * logical units are known; longer ones than there are go on into the next fields. */
static bool has_name(const uint8_t *cscd)
{
    return !(cscd[1] & 0x3f) && (cscd[5] & 0x3f) == 0x03 && (cscd[4] & 0x0f) == 1 && cscd[7] <= 16;
}

static void bad_length(struct scsi_command *c)
{
    sense_set(c, SENSE_ILLEGAL_REQUEST, ASC_PARAMETER_LIST_LENGTH);
}

static void illegal(struct scsi_command *c, uint16_t asc)
{
    sense_set(c, SENSE_ILLEGAL_REQUEST, asc);
}

static void aborted(struct scsi_command *c, uint16_t asc)
{
    sense_set(c, SENSE_COPY_ABORTED, asc);
}

static bool check_cscds(struct scsi_command *c, struct copy *copy, const uint8_t *list)
{
    for (unsigned i = 0; i < copy->cscds; i++) {
        const uint8_t *cscd = list + (size_t)i * CSCD_BYTES;

        if (cscd[0] != TYPE_IDENTIFICATION) {
            illegal(c, ASC_UNSUPPORTED_CSCD);
            return false;
        }
        if (has_name(cscd))
            find_by_name(c, copy, i, cscd);
    }
    return true;
}

static bool is_inside(const struct scsi_nexus_lu *n, uint64_t offset, uint64_t bytes)
{
    uint64_t size = engine_size(n->lu->engine);

    return offset <= size && bytes <= size - offset;
}

/* LBAs beyond what bytes can count are outside as well. */
static uint64_t to_offset(const struct scsi_nexus_lu *n, uint64_t lba)
{
    return lba > UINT64_MAX >> n->lu->block_shift ? UINT64_MAX : lba << n->lu->block_shift;
}

static struct place place_of(const struct copy *copy, unsigned cscd)
{
    return (struct place){copy->cscd[cscd]->lun, copy->visitor[cscd]};
}

/* denied: what must not be. A reservation, an erasure, a role or a removal may come at any time. */
static bool is_served(const struct scsi_nexus_lu *n, uint32_t denied)
{
    return !(atomic_load(&n->denied) & denied) && !not_ready(n) && !atomic_load(&n->lu->is_removed);
}

static bool may_copy(const struct scsi_nexus_lu *from, const struct scsi_nexus_lu *to)
{
    return is_served(from, ~DENY_WRITE) && is_served(to, ~DENY_READ) &&
           !lu_is_write_protected(to->lu);
}

static bool check_segment(struct scsi_command *c, struct copy *copy, const uint8_t *d,
                          struct segment *s)
{
    unsigned from = get16(d + 4), to = get16(d + 6);
    struct scsi_nexus_lu *source = from < copy->cscds ? copy->cscd[from] : NULL;
    struct scsi_nexus_lu *target = to < copy->cscds ? copy->cscd[to] : NULL;
    bool counts_target = d[1] & 0x02; /* DC */

    if (!source || !target) {
        aborted(c, ASC_COPY_UNREACHABLE);
        return false;
    }
    s->from = place_of(copy, from);
    s->to = place_of(copy, to);
    s->bytes = (uint64_t)get16(d + 10) << (counts_target ? target : source)->lu->block_shift;
    s->from_offset = to_offset(source, get64(d + 12));
    s->to_offset = to_offset(target, get64(d + 20));
    if (s->bytes % source->lu->block_bytes || s->bytes % target->lu->block_bytes ||
        !is_inside(source, s->from_offset, s->bytes) ||
        !is_inside(target, s->to_offset, s->bytes)) {
        aborted(c, ASC_NONE);
        return false;
    }
    if (!may_copy(source, target)) {
        aborted(c, ASC_UNREACHABLE_CSCD);
        return false;
    }
    return true;
}

/* The length of a segment descriptor stands in it. */
static bool count_segments(struct scsi_command *c, struct copy *copy, const uint8_t *list,
                           uint32_t length)
{
    uint32_t at = 0;

    for (; at < length; at += SEGMENT_BYTES) {
        if (list[at] != TYPE_BLOCK_TO_BLOCK) {
            illegal(c, ASC_UNSUPPORTED_SEGMENT);
            return false;
        }
        if (length - at < SEGMENT_BYTES || get16(list + at + 2) != SEGMENT_BYTES - 4) {
            bad_length(c);
            return false;
        }
        if (copy->segments++ == SEGMENTS_MAX) {
            illegal(c, ASC_TOO_MANY_SEGMENTS);
            return false;
        }
    }
    return true;
}

static bool check_lengths(struct scsi_command *c, uint32_t cscds, uint32_t segments)
{
    const uint8_t *list = c->data;
    uint64_t total = (uint64_t)HEADER_BYTES + cscds + segments + get32(list + 12);

    if (total > c->data_bytes || (uint64_t)cscds + segments > LIST_BYTES_MAX ||
        cscds % CSCD_BYTES) {
        bad_length(c);
        return false;
    }
    if (cscds / CSCD_BYTES > CSCDS_MAX) {
        illegal(c, ASC_TOO_MANY_CSCDS);
        return false;
    }
    if (get32(list + 12)) { /* no inline data */
        sense_bad_list(c, 12, NO_BIT);
        return false;
    }
    return true;
}

static bool check_list(struct scsi_command *c, struct copy *copy)
{
    const uint8_t *list = c->data;
    uint32_t cscds, segments;

    if (c->data_bytes < HEADER_BYTES || c->data_bytes < c->transfer_bytes) {
        bad_length(c);
        return false;
    }
    cscds = get16(list + 2);
    segments = get32(list + 8);
    if (!check_lengths(c, cscds, segments))
        return false;
    copy->list_id = list[0];
    copy->is_kept = (list[1] >> 3 & 3) == 0;
    copy->cscds = cscds / CSCD_BYTES;
    return check_cscds(c, copy, list + HEADER_BYTES) &&
           count_segments(c, copy, list + HEADER_BYTES + cscds, segments);
}

static bool check_segments(struct scsi_command *c, struct copy *copy)
{
    const uint8_t *first = (const uint8_t *)c->data + HEADER_BYTES + copy->cscds * CSCD_BYTES;

    for (unsigned i = 0; i < copy->segments; i++)
        if (!check_segment(c, copy, first + (size_t)i * SEGMENT_BYTES, &copy->segment[i]))
            return false;
    return true;
}

/* --- disks of other targets
 * ----------------------------------------------------------------- */

/* On a pool thread. What does not open stays as it was found. */
static int open_visitors(struct scsi_job *job)
{
    struct copy *copy = job->more;

    for (unsigned i = 0; i < copy->cscds; i++) {
        if (copy->found[i])
            copy->visitor[i] = visitor_open(job->command->nexus, copy->found[i]);
        if (copy->visitor[i])
            copy->found[i] = NULL;
    }
    return 0;
}

static void enter_visitors(struct copy *copy)
{
    for (unsigned i = 0; i < copy->cscds; i++)
        if (copy->visitor[i]) {
            visitor_enter(copy->visitor[i]);
            copy->cscd[i] = copy->visitor[i];
        }
}

static void leave_visitors(struct scsi_job *job)
{
    struct copy *copy = job->more;

    for (unsigned i = 0; copy && i < copy->cscds; i++) {
        if (copy->visitor[i])
            visitor_close(copy->visitor[i]);
        else if (copy->found[i])
            scsi_lu_leave(copy->found[i]);
    }
}

/* --- copying
 * ---------------------------------------------------------------------------------
 */

static void keep_result(struct scsi_job *job, bool is_good, unsigned segments)
{
    struct scsi_nexus_lu *n = job->command->nexus_lu;
    struct copy *copy = job->more;
    struct copy_result *result = &n->results[n->next_result++ % COPY_RESULTS];

    if (!copy->is_kept)
        return;
    *result = (struct copy_result){.list_id = copy->list_id,
                                   .is_set = true,
                                   .is_good = is_good,
                                   .segments = (uint16_t)segments};
}

static enum job_next fail(struct scsi_job *job, uint16_t asc)
{
    aborted(job->command, asc);
    keep_result(job, false, (unsigned)job->value[0]);
    return JOB_END;
}

/* LUNs of this session, or one that was named twice. */
static bool is_one_disk(const struct segment *s)
{
    return s->from.visitor && s->to.visitor
               ? s->from.visitor->lu == s->to.visitor->lu
               : s->from.visitor == s->to.visitor && s->from.lun == s->to.lun;
}

/* Backwards where the target overlaps what is still to be read. */
static uint64_t chunk_at(const struct segment *s, uint64_t copied, uint64_t length)
{
    bool is_backwards =
        is_one_disk(s) && s->to_offset > s->from_offset && s->to_offset < s->from_offset + s->bytes;

    return is_backwards ? s->bytes - copied - length : copied;
}

static struct scsi_nexus_lu *find_place(const struct scsi_job *job, const struct place *place)
{
    return place->visitor ? place->visitor
                          : nexus_find_lun(job->command->nexus, lun_to_wire(place->lun));
}

static enum job_next move(struct scsi_job *job)
{
    struct copy *copy = job->more;
    const struct segment *s = &copy->segment[job->value[0]];
    struct scsi_nexus_lu *from = find_place(job, &s->from), *to = find_place(job, &s->to);
    uint64_t length = MIN(s->bytes - copy->copied, (uint64_t)CHUNK);
    uint64_t at = chunk_at(s, copy->copied, length);

    if (!from->lu || !to->lu)
        return fail(job, ASC_COPY_UNREACHABLE);
    if (!may_copy(from, to))
        return fail(job, ASC_UNREACHABLE_CSCD);
    if (job->phase++ % 2 == 0)
        return job_request_of(job, from, SLUICE_OP_READ, 0, s->from_offset + at, length,
                              job->buffer);
    copy->copied += length;
    return job_request_of(job, to, SLUICE_OP_WRITE, write_flags(job->command), s->to_offset + at,
                          length, job->buffer);
}

static enum job_next go_on_copying(struct scsi_job *job)
{
    struct copy *copy = job->more;

    if (job->error)
        return fail(job, ASC_UNREACHABLE_CSCD);
    while (job->value[0] < copy->segments && copy->copied == copy->segment[job->value[0]].bytes) {
        job->value[0]++;
        copy->copied = 0;
    }
    if (job->value[0] == copy->segments) {
        keep_result(job, true, copy->segments);
        return JOB_END;
    }
    return move(job);
}

static enum job_next copy_step(struct scsi_job *job)
{
    struct copy *copy = job->more;

    switch (copy->stage) {
    case OPENING:
        copy->stage = CHECKING;
        return copy->found_count ? job_work(job, open_visitors) : JOB_AGAIN;
    case CHECKING:
        copy->stage = COPYING;
        enter_visitors(copy);
        return check_segments(job->command, copy) ? JOB_AGAIN : JOB_END;
    default:
        return go_on_copying(job);
    }
}

void decode_extended_copy(struct scsi_command *c)
{
    uint32_t length = get32(c->cdb + 10);

    if (length > PARAMETER_LIST_MAX)
        bad_length(c);
    else
        c->transfer_bytes = length;
}

enum io_status run_extended_copy(struct scsi_command *c)
{
    struct scsi_job *job;

    if (c->transfer_bytes == 0)
        return IO_DONE;
    job = job_new(c, copy_step, CHUNK);
    if (!job)
        return IO_DONE;
    job->more = calloc(1, sizeof(struct copy));
    job->sees_errors = true;
    job->cleanup = leave_visitors;
    if (job->more && check_list(c, job->more))
        return job_start(job);
    if (!job->more)
        c->status = SCSI_BUSY;
    job_discard(job);
    return IO_DONE;
}

/* --- what came of it
 * ----------------------------------------------------------------------------
 */

/* SPC-4 6.17.2. A result is told once. */
enum io_status run_copy_status(struct scsi_command *c)
{
    struct scsi_nexus_lu *n = c->nexus_lu;
    uint8_t data[12] = {0};

    for (unsigned i = 0; i < COPY_RESULTS; i++) {
        struct copy_result *r = &n->results[i];

        if (!r->is_set || r->list_id != c->cdb[2])
            continue;
        put32(data, 8);
        data[4] = r->is_good ? 1 : 2;
        put16(data + 5, r->segments);
        r->is_set = false;
        command_answer(c, data, sizeof data, c->blocks);
        return IO_DONE;
    }
    sense_bad_cdb(c, 2, NO_BIT);
    return IO_DONE;
}

/* SPC-4 6.17.4. */
enum io_status run_copy_parameters(struct scsi_command *c)
{
    uint8_t data[46] = {0};

    put32(data, sizeof data - 4);
    data[4] = 1; /* SNLID */
    put16(data + 8, CSCDS_MAX);
    put16(data + 10, SEGMENTS_MAX);
    put32(data + 12, LIST_BYTES_MAX);
    put32(data + 16, SEGMENT_BYTES_COPIED_MAX);
    put16(data + 34, 255);
    data[36] = 255;
    data[37] = (uint8_t)c->nexus_lu->lu->block_shift;
    data[43] = 2;
    data[44] = TYPE_BLOCK_TO_BLOCK;
    data[45] = TYPE_IDENTIFICATION;
    command_answer(c, data, sizeof data, c->blocks);
    return IO_DONE;
}

/* The third-party copy page: commands, limits, descriptors, general operations
 * (7.8.17). */
static const uint8_t copy_commands[] = {0x00, 0x01, 0x00, 0x08, 0x07, 0x83,
                                        0x01, 0x00, 0x84, 0x02, 0x00, 0x03};
static const uint8_t copy_descriptors[] = {0x00, 0x08, 0x00, 0x04, 0x02, 0x02, 0xe4, 0x00};

size_t third_party_copy(const struct scsi_nexus_lu *n, uint8_t *out)
{
    uint8_t *at = out;

    memcpy(at, copy_commands, sizeof copy_commands);
    at += sizeof copy_commands;
    put16(at, 0x0004);
    put16(at + 2, 28);
    put16(at + 8, CSCDS_MAX);
    put16(at + 10, SEGMENTS_MAX);
    put32(at + 12, LIST_BYTES_MAX);
    at += 32;
    memcpy(at, copy_descriptors, sizeof copy_descriptors);
    at += sizeof copy_descriptors;
    put16(at, 0x8001);
    put16(at + 2, 32);
    put32(at + 4, 255);
    put32(at + 8, 255);
    put32(at + 12, SEGMENT_BYTES_COPIED_MAX);
    at[16] = (uint8_t)n->lu->block_shift;
    return (size_t)(at + 36 - out);
}
