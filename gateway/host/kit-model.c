/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * kit-model.c: see kit.h.  A filter may fail any request, but with a proper errno, and what it
 * acknowledges has to be true: reads return what was written, trimmed and zeroed ranges read as
 * zeros, extents do not call data zeros.
 */
#include "kit.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* --- the model ------------------------------------------------------------------------------ */

int kit_model_make(struct kit_model *m, struct disk *disk, uint64_t size)
{
    *m = (struct kit_model){.disk = disk};
    m->client =
        (struct sluice_client){.front_end = "kit", .address = "", .initiator = "", .session = 1};
    pthread_mutex_init(&m->mutex, NULL);
    return kit_model_grow(m, size);
}

/* A new disk, and what it grows by, is zeros. */
int kit_model_grow(struct kit_model *m, uint64_t size)
{
    uint8_t *bytes = calloc(1, size), *is_known = malloc(size);

    if (!bytes || !is_known) {
        free(bytes);
        free(is_known);
        return -ENOMEM;
    }
    memset(is_known, 1, size);
    if (m->size) {
        memcpy(bytes, m->bytes, m->size);
        memcpy(is_known, m->is_known, m->size);
    }
    free(m->bytes);
    free(m->is_known);
    m->bytes = bytes;
    m->is_known = is_known;
    m->size = size;
    return 0;
}

void kit_model_free(struct kit_model *m)
{
    free(m->bytes);
    free(m->is_known);
    pthread_mutex_destroy(&m->mutex);
}

void kit_fault(struct kit_model *m, const char *fmt, ...)
{
    va_list ap;
    SCOPED_LOCK(&m->mutex);

    if (m->has_fault)
        return;
    m->has_fault = true;
    va_start(ap, fmt);
    vsnprintf(m->fault, sizeof m->fault, fmt, ap);
    va_end(ap);
}

bool kit_take_fault(struct kit_model *m, char *out)
{
    SCOPED_LOCK(&m->mutex);

    if (!m->has_fault)
        return false;
    m->has_fault = false;
    memcpy(out, m->fault, sizeof m->fault);
    return true;
}

static void set_known(struct kit_model *m, const struct kit_op *op, bool is_known)
{
    memset(m->is_known + op->offset, is_known, op->length);
}

/* --- requests ------------------------------------------------------------------------------- */

/* xorshift64*, Vigna 2016. */
uint32_t kit_random(uint64_t *state)
{
    uint64_t x = *state;

    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    return (uint32_t)((x * 0x2545f4914f6cdd1du) >> 32);
}

static void fill_data(struct kit_op *op, uint64_t *random)
{
    uint32_t word = kit_random(random) | 1;

    for (uint64_t i = 0; i < op->length; i++)
        op->data[i] = (uint8_t)((word >> (i % 4 * 8)) + i / 4);
}

/* Mostly reads and writes. */
static unsigned random_op(uint64_t *random)
{
    static const uint8_t ops[16] = {
        SLUICE_OP_READ,  SLUICE_OP_READ,  SLUICE_OP_READ,    SLUICE_OP_READ,
        SLUICE_OP_READ,  SLUICE_OP_WRITE, SLUICE_OP_WRITE,   SLUICE_OP_WRITE,
        SLUICE_OP_WRITE, SLUICE_OP_WRITE, SLUICE_OP_FLUSH,   SLUICE_OP_TRIM,
        SLUICE_OP_ZERO,  SLUICE_OP_ZERO,  SLUICE_OP_EXTENTS, SLUICE_OP_PREFETCH};

    return ops[kit_random(random) % 16];
}

static uint32_t random_flags(unsigned op, uint64_t *random)
{
    static const uint32_t flags[SLUICE_OP_COUNT] = {
        [SLUICE_OP_WRITE] = SLUICE_FLAG_FUA | SLUICE_FLAG_ATOMIC,
        [SLUICE_OP_TRIM] = SLUICE_FLAG_FUA,
        [SLUICE_OP_ZERO] = SLUICE_FLAG_FUA | SLUICE_FLAG_NO_HOLE | SLUICE_FLAG_FAST_ONLY,
    };

    return kit_random(random) % 4 ? 0 : flags[op] & kit_random(random);
}

/* Sectors most of the time, single bytes now and then. */
void kit_op_random(struct kit_op *op, struct kit_slice *slice, uint64_t most)
{
    uint64_t unit = kit_random(&slice->random) % 8 ? 512 : 1;
    uint64_t limit = MIN(most, slice->length) / unit;

    op->op = random_op(&slice->random);
    op->flags = random_flags(op->op, &slice->random);
    op->length = (1 + kit_random(&slice->random) % limit) * unit;
    op->offset = slice->first +
                 kit_random(&slice->random) % ((slice->length - op->length) / unit + 1) * unit;
    if (op->op == SLUICE_OP_FLUSH)
        op->offset = op->length = 0;
    if (op->op == SLUICE_OP_WRITE)
        fill_data(op, &slice->random);
}

struct request *kit_op_request(struct kit_model *m, struct kit_op *op)
{
    struct request *r = request_new(disk_engine(m->disk), &m->client);
    void *data = op->op == SLUICE_OP_READ || op->op == SLUICE_OP_WRITE ? op->data : NULL;

    if (!r)
        return NULL;
    request_fill(r, op->op, op->flags, op->offset, op->length, data);
    atomic_fetch_add(&m->requests, 1);
    return r;
}

/* --- answers -------------------------------------------------------------------------------- */

uint64_t kit_model_compare(const struct kit_model *m, uint64_t offset, const uint8_t *data,
                           uint64_t length)
{
    uint64_t i = 0;

    if (memcmp(data, m->bytes + offset, length) == 0) /* nearly always, and byte by byte is slow */
        return length;
    while (i < length && (!m->is_known[offset + i] || data[i] == m->bytes[offset + i]))
        i++;
    return i;
}

static void check_read(struct kit_model *m, const struct kit_op *op)
{
    uint64_t same = kit_model_compare(m, op->offset, op->data, op->length);

    if (same == op->length)
        return;
    kit_fault(m, "a read of %llu bytes at %llu has 0x%02x at %llu, written was 0x%02x",
              (unsigned long long)op->length, (unsigned long long)op->offset, op->data[same],
              (unsigned long long)(op->offset + same), m->bytes[op->offset + same]);
}

static void check_zero_extent(struct kit_model *m, uint64_t from, uint64_t length)
{
    for (uint64_t at = from; at < from + length; at++)
        if (m->is_known[at] && m->bytes[at]) {
            kit_fault(m, "extents call %llu bytes at %llu zeros, but there is data at %llu",
                      (unsigned long long)length, (unsigned long long)from, (unsigned long long)at);
            return;
        }
}

static void check_extents(struct kit_model *m, const struct kit_op *op, struct request *r)
{
    const struct extents *x = request_extents(r);
    uint64_t at = op->offset, end = op->offset + op->length;

    for (unsigned i = 0; i < x->count; i++) {
        uint64_t length = MIN(x->list[i].length, end - at);

        if (x->list[i].type & EXTENT_ZERO)
            check_zero_extent(m, at, length);
        at += length;
    }
    if (at == op->offset)
        kit_fault(m, "extents of %llu bytes at %llu describe nothing",
                  (unsigned long long)op->length, (unsigned long long)op->offset);
}

static void take_success(struct kit_model *m, const struct kit_op *op, struct request *r)
{
    switch (op->op) {
    case SLUICE_OP_READ:
        check_read(m, op);
        break;
    case SLUICE_OP_WRITE:
        memcpy(m->bytes + op->offset, op->data, op->length);
        set_known(m, op, true);
        break;
    case SLUICE_OP_TRIM:
    case SLUICE_OP_ZERO:
        memset(m->bytes + op->offset, 0, op->length);
        set_known(m, op, true);
        break;
    case SLUICE_OP_EXTENTS:
        check_extents(m, op, r);
        break;
    default:
        break;
    }
}

static bool changes(const struct kit_op *op)
{
    return op->op == SLUICE_OP_WRITE || op->op == SLUICE_OP_TRIM || op->op == SLUICE_OP_ZERO;
}

static void take_failure(struct kit_model *m, const struct kit_op *op, int error,
                         bool was_cancelled)
{
    if (error < 0 || error >= 4096 || !strerrorname_np(error))
        kit_fault(m, "a %s failed with %d, which is no errno", engine_op_name(op->op), error);
    if (changes(op))
        set_known(m, op, false);
    if (was_cancelled && error == ECANCELED)
        atomic_fetch_add(&m->cancelled, 1);
    else if (error != EOPNOTSUPP) /* that may be the disk's own answer */
        atomic_fetch_add(&m->failed, 1);
}

/* The data of a write is the guest's: it must be as it was. */
static void check_untouched(struct kit_model *m, const struct kit_op *op, struct request *r)
{
    if (request_public(r)->data != (changes(op) || op->op == SLUICE_OP_READ ? op->data : NULL) &&
        (op->op == SLUICE_OP_READ || op->op == SLUICE_OP_WRITE))
        kit_fault(m, "a %s came back with another buffer", engine_op_name(op->op));
}

void kit_op_check(struct kit_model *m, const struct kit_op *op, struct request *r,
                  bool was_cancelled)
{
    int error = request_error(r);

    check_untouched(m, op, r);
    if (error)
        take_failure(m, op, error, was_cancelled);
    else
        take_success(m, op, r);
}

void kit_op_execute(struct kit_model *m, struct kit_op *op)
{
    CLEANUP_FREE uint8_t *copy = op->op == SLUICE_OP_WRITE ? malloc(op->length) : NULL;
    struct request *r = kit_op_request(m, op);

    if (!r)
        return;
    if (copy)
        memcpy(copy, op->data, op->length);
    request_execute(r);
    if (copy && memcmp(copy, op->data, op->length) != 0)
        kit_fault(m, "a write of %llu bytes at %llu had its data modified",
                  (unsigned long long)op->length, (unsigned long long)op->offset);
    kit_op_check(m, op, r, false);
    request_free(r);
}

void kit_model_verify(struct kit_model *m)
{
    const uint64_t most = 1u << 20;
    CLEANUP_FREE uint8_t *data = malloc(most);
    struct kit_op op = {.op = SLUICE_OP_READ, .data = data};

    for (uint64_t at = 0; data && at < m->size; at += most) {
        op.offset = at;
        op.length = MIN(most, m->size - at);
        kit_op_execute(m, &op);
    }
}
