/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * backing-kept: see backing-kept.h.  The invariant: `bytes` is the sum of `memory` over `records`,
 * whose seq never falls along the list (the parts of a record that was cut in two share it) nor
 * passes last_seq.
 */
#include "backing/backing-kept.h"

#include <errno.h>
#include <string.h>

void kept_init(struct kept *kept, uint64_t bound_bytes)
{
    *kept = (struct kept){.bound = bound_bytes ? bound_bytes : KEPT_DEFAULT_BYTES};
    list_init(&kept->records);
}

void kept_free(struct kept *kept)
{
    kept_drop_through(kept, UINT64_MAX);
}

uint64_t kept_need(enum io_kind kind, uint64_t length)
{
    return sizeof(struct kept_record) + (kind == IO_WRITE ? length : 0);
}

bool kept_has_room(const struct kept *kept, uint64_t need)
{
    uint64_t taken = kept->bytes + kept->reserved;

    return taken == 0 || taken + need <= kept->bound;
}

static void drop(struct kept *kept, struct kept_record *record)
{
    kept->bytes -= record->memory;
    kept->count--;
    list_remove(&record->link);
    free(record);
}

void kept_forget_for_room(struct kept *kept, uint64_t need)
{
    while (kept->count && !kept_has_room(kept, need)) {
        drop(kept, LIST_ENTRY(kept->records.next, struct kept_record, link));
        kept->has_forgotten = true;
    }
}

/* Inserted behind `before`. */
static struct kept_record *make(struct kept *kept, const struct kept_record *like, uint64_t offset,
                                uint64_t length, const void *data, struct list *before)
{
    uint64_t need = kept_need(like->kind, length);
    struct kept_record *record = malloc(need);

    if (!record)
        return NULL;
    *record = *like;
    record->offset = offset;
    record->length = length;
    record->memory = need;
    if (like->kind == IO_WRITE)
        memcpy(record->data, data, length);
    list_insert(&record->link, before);
    kept->bytes += need;
    kept->count++;
    return record;
}

int kept_add(struct kept *kept, enum io_kind kind, uint32_t flags, uint64_t offset, uint64_t length,
             const void *data)
{
    struct kept_record like = {
        .seq = kept->last_seq + 1,
        .kind = kind,
        .flags = flags & IO_NO_HOLE,
    };

    if (!make(kept, &like, offset, length, data, kept->records.prev))
        return -ENOMEM;
    kept->last_seq++;
    return 0;
}

static int cut_one(struct kept *kept, struct kept_record *record, uint64_t offset, uint64_t end)
{
    uint64_t record_end = record->offset + record->length, skip;

    if (record_end > end && record->offset < offset &&
        !make(kept, record, end, record_end - end, record->data + (end - record->offset),
              &record->link))
        return -ENOMEM;
    if (record->offset < offset) {
        record->length = offset - record->offset;
    } else if (record_end > end) {
        skip = end - record->offset;
        record->offset = end;
        record->length -= skip;
        if (record->kind == IO_WRITE)
            memmove(record->data, record->data + skip, record->length);
    } else
        drop(kept, record);
    return 0;
}

int kept_cut(struct kept *kept, uint64_t offset, uint64_t length)
{
    LIST_FOREACH_SAFE (node, &kept->records) {
        struct kept_record *record = LIST_ENTRY(node, struct kept_record, link);

        if (record->offset < offset + length && offset < record->offset + record->length &&
            cut_one(kept, record, offset, offset + length) < 0)
            return -ENOMEM;
    }
    return 0;
}

void kept_drop_through(struct kept *kept, uint64_t seq)
{
    LIST_FOREACH_SAFE (node, &kept->records) {
        struct kept_record *record = LIST_ENTRY(node, struct kept_record, link);

        if (record->seq > seq)
            return;
        drop(kept, record);
    }
}

struct kept_record *kept_next(const struct kept *kept, const struct kept_record *record)
{
    struct list *next = record ? record->link.next : kept->records.next;

    return next == &kept->records ? NULL : LIST_ENTRY(next, struct kept_record, link);
}
