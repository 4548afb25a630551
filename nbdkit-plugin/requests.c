/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * requests.c: nbdkit's data callbacks.  Each makes one request, executes it and hands the errno
 * back. NBD knows few error numbers, and nbdkit turns the others into EINVAL, which would blame the
 * client: everything that NBD does not know becomes EIO here.
 */
#include "plugin.h"

#include "stream.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define LOG_PAUSE_NS UINT64_C(1000000000)
/* nbdkit before 1.44 crashes on block status replies that reach 4 GiB (CVE-2025-47711). */
#define EXTENTS_RANGE_MAX (1u << 30)

static int to_nbd_errno(int error)
{
    switch (error) {
    case EPERM:
    case EROFS:
        return EPERM;
    case EIO:
    case ENOMEM:
    case EINVAL:
    case ENOSPC:
    case EOVERFLOW:
    case ESHUTDOWN:
        return error;
    case ENOTSUP: /* the same number as EOPNOTSUPP */
        return ENOTSUP;
    case EDQUOT:
    case EFBIG:
        return ENOSPC;
    default:
        return EIO;
    }
}

COLD int plugin_note_failure(struct connection *c, const struct sluice_request *r, int error)
{
    uint64_t now = clock_now_ns(), next = atomic_load(&c->next_log_ns);

    if (error != ENOTSUP && now >= next &&
        atomic_compare_exchange_strong(&c->next_log_ns, &next, now + LOG_PAUSE_NS))
        log_line(LOG_LEVEL_WARNING,
                 "a %s of %" PRIu64 " bytes at %" PRIu64 " failed: %s disk=%s client=%s",
                 engine_op_name(r->op), r->length, r->offset, strerror(error),
                 engine_name(c->engine), c->session->client.address);
    return to_nbd_errno(error);
}

static COLD int failed(struct connection *c, const struct sluice_request *r, int error)
{
    errno = plugin_note_failure(c, r, error);
    return -1;
}

static COLD int is_gone(void)
{
    errno = ESHUTDOWN;
    return -1;
}

static COLD int no_memory(void)
{
    errno = ENOMEM;
    return -1;
}

bool plugin_is_gone(struct connection *c)
{
    return UNLIKELY(gateway_export_is_removed(c->export) ||
                    atomic_load_explicit(&c->is_cut, memory_order_relaxed));
}

static int finish(struct connection *c, struct request *r, int error)
{
    int result = LIKELY(!error) ? 0 : failed(c, request_public(r), error);

    request_free(r);
    return result;
}

static int execute(struct connection *c, unsigned op, uint32_t flags, uint64_t offset,
                   uint32_t length, void *data)
{
    struct request *r;

    if (plugin_is_gone(c))
        return is_gone();
    if (UNLIKELY(!atomic_load_explicit(&c->has_stream, memory_order_relaxed))) {
        atomic_store_explicit(&c->has_stream, true, memory_order_relaxed);
        stream_claim(c, offset, length);
    }
    r = request_new(c->engine, &c->session->client);
    if (UNLIKELY(!r))
        return no_memory();
    request_fill(r, op, flags, offset, length, data);
    return finish(c, r, request_execute(r));
}

static uint32_t flags_of(uint32_t nbdkit_flags)
{
    return nbdkit_flags & NBDKIT_FLAG_FUA ? SLUICE_FLAG_FUA : 0;
}

int plugin_pread(void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
    struct request *begun = early_request(handle, SLUICE_OP_READ, offset, count);
    int result;

    (void)flags;
    if (!begun)
        return execute(handle, SLUICE_OP_READ, 0, offset, count, buf);
    result = finish(handle, begun, early_wait(handle, begun));
    if (result == 0)
        memcpy(buf, early_data(), count);
    return result;
}

int plugin_pwrite(void *handle, const void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
    struct request *begun = early_request(handle, SLUICE_OP_WRITE, offset, count);

    if (begun)
        return finish(handle, begun, early_wait(handle, begun));
    /* Nobody below writes to it: the data of a write is never modified (sluice-filter.h). */
    return execute(handle, SLUICE_OP_WRITE, flags_of(flags), offset, count, (void *)(uintptr_t)buf);
}

int plugin_flush(void *handle, uint32_t flags)
{
    struct request *begun = early_request(handle, SLUICE_OP_FLUSH, 0, 0);

    (void)flags;
    if (begun)
        return finish(handle, begun, early_wait(handle, begun));
    return execute(handle, SLUICE_OP_FLUSH, 0, 0, 0, NULL);
}

int plugin_trim(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
    return execute(handle, SLUICE_OP_TRIM, flags_of(flags), offset, count, NULL);
}

int plugin_zero(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
    uint32_t own = flags_of(flags);

    if (!(flags & NBDKIT_FLAG_MAY_TRIM))
        own |= SLUICE_FLAG_NO_HOLE;
    if (flags & NBDKIT_FLAG_FAST_ZERO)
        own |= SLUICE_FLAG_FAST_ONLY;
    return execute(handle, SLUICE_OP_ZERO, own, offset, count, NULL);
}

int plugin_cache(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
    (void)flags;
    return execute(handle, SLUICE_OP_PREFETCH, 0, offset, count, NULL);
}

static uint32_t to_nbdkit_type(uint32_t type)
{
    return (type & EXTENT_HOLE ? NBDKIT_EXTENT_HOLE : 0) |
           (type & EXTENT_ZERO ? NBDKIT_EXTENT_ZERO : 0);
}

static int hand_over(const struct extents *from, struct nbdkit_extents *to)
{
    uint64_t at = from->offset;

    for (unsigned i = 0; i < from->count; i++) {
        if (nbdkit_add_extent(to, at, from->list[i].length, to_nbdkit_type(from->list[i].type)) ==
            -1)
            return -1;
        at += from->list[i].length;
    }
    return 0;
}

int plugin_extents(void *handle, uint32_t count, uint64_t offset, uint32_t flags,
                   struct nbdkit_extents *extents)
{
    struct connection *c = handle;
    struct sluice_request *pub;
    struct request *r;
    int error, result;

    if (gateway_export_is_removed(c->export))
        return is_gone();
    r = request_new(c->engine, &c->session->client);
    if (!r)
        return no_memory();
    pub = request_public(r);
    pub->op = SLUICE_OP_EXTENTS;
    pub->offset = offset;
    pub->length = MIN(count, EXTENTS_RANGE_MAX);
    request_extents(r)->first_only = flags & NBDKIT_FLAG_REQ_ONE;
    error = request_execute(r);
    result = error ? failed(c, pub, error) : hand_over(request_extents(r), extents);
    request_free(r);
    return result;
}
