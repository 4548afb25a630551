/* SPDX-License-Identifier: BSD-3-Clause */
/* reply.c: the heads of NBD's replies, see reply.h; all numbers are big-endian. */
#include "reply.h"

#include "base/base.h"

#include <endian.h>
#include <string.h>

/* NBD protocol, "Simple reply message". */
struct simple_reply {
    uint32_t magic, error;
    uint64_t cookie;
} __attribute__((packed));

/* "Structured reply chunk message". */
struct chunk {
    uint32_t magic;
    uint16_t flags, type;
    uint64_t cookie;
    uint32_t length;
} __attribute__((packed));

/* NBD_REPLY_TYPE_OFFSET_DATA. */
struct data_chunk {
    struct chunk chunk;
    uint64_t offset;
} __attribute__((packed));
_Static_assert(sizeof(struct data_chunk) <= REPLY_HEAD_MOST, "room for the longest head");

/* NBD_REPLY_TYPE_ERROR, without a message. */
struct error_chunk {
    struct chunk chunk;
    uint32_t error;
    uint16_t message_bytes;
} __attribute__((packed));
_Static_assert(sizeof(struct error_chunk) <= REPLY_HEAD_MOST, "room for the longest head");

static struct chunk last_chunk(const struct stream_request *q, uint16_t type, size_t bytes)
{
    return (struct chunk){.magic = htobe32(NBD_STRUCTURED_REPLY_MAGIC),
                          .flags = htobe16(NBD_REPLY_FLAG_DONE),
                          .type = htobe16(type),
                          .cookie = q->cookie,
                          .length = htobe32((uint32_t)bytes)};
}

static struct iovec put_before(char *data, const void *head, size_t head_bytes, size_t data_bytes)
{
    memcpy(data - head_bytes, head, head_bytes);
    return (struct iovec){data - head_bytes, head_bytes + data_bytes};
}

static struct iovec simple(const struct stream_request *q, int error, char *data, size_t bytes)
{
    struct simple_reply head = {.magic = htobe32(NBD_SIMPLE_REPLY_MAGIC),
                                .error = htobe32((uint32_t)error),
                                .cookie = q->cookie};

    return put_before(data, &head, sizeof head, bytes);
}

struct iovec reply_of_success(enum reply_form form, const struct stream_request *q, void *data)
{
    struct data_chunk head;

    if (q->type != NBD_CMD_READ)
        return simple(q, 0, data, 0);
    if (form == REPLY_SIMPLE)
        return simple(q, 0, data, q->length);
    head.chunk = last_chunk(q, NBD_REPLY_TYPE_OFFSET_DATA, sizeof head.offset + q->length);
    head.offset = htobe64(q->offset);
    return put_before(data, &head, sizeof head, q->length);
}

struct iovec reply_of_error(enum reply_form form, const struct stream_request *q, int error,
                            void *data)
{
    struct error_chunk head;

    if (form == REPLY_SIMPLE)
        return simple(q, error, data, 0);
    head.chunk = last_chunk(q, NBD_REPLY_TYPE_ERROR, sizeof head - sizeof head.chunk);
    head.error = htobe32((uint32_t)error);
    head.message_bytes = 0;
    return put_before(data, &head, sizeof head, 0);
}
