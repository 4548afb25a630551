/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * backing-kept: the changes a server has acknowledged and not yet made stable, kept so that they
 * can be sent again when it comes back without them.  Pure: no I/O, no lock; one thread.  Private
 * to this room.
 *
 * Records stand in the order of their acknowledgement, numbered upwards from 1.  A flush that
 * succeeded makes stable what was acknowledged before it was sent: the sender notes last_seq then
 * and drops through it afterwards.  Memory is bounded: room is taken for a change before it is sent
 * and turns into a record when it is acknowledged.
 */
#ifndef SLUICE_BACKING_KEPT_H
#define SLUICE_BACKING_KEPT_H

#include "io/io.h"

#define KEPT_DEFAULT_BYTES (64u << 20)

struct kept_record {
    struct list link;
    uint64_t seq;
    enum io_kind kind; /* IO_WRITE, IO_TRIM or IO_ZERO */
    uint32_t flags;    /* IO_NO_HOLE */
    uint64_t offset, length;
    uint64_t memory; /* as counted in kept.bytes; cutting does not give it back */
    char data[];     /* IO_WRITE only */
};

struct kept {
    struct list records; /* oldest first */
    uint64_t count;
    uint64_t bytes;    /* of memory in records */
    uint64_t reserved; /* promised to changes on their way */
    uint64_t bound;
    uint64_t last_seq;
    bool has_forgotten; /* a record was dropped that no flush had made stable */
};

void kept_init(struct kept *kept, uint64_t bound_bytes);
void kept_free(struct kept *kept);

/* The memory a change will take as a record. */
uint64_t kept_need(enum io_kind kind, uint64_t length);
/* One change is let in whatever its size when nothing else is kept or promised. */
bool kept_has_room(const struct kept *kept, uint64_t need);
static inline void kept_reserve(struct kept *kept, uint64_t need)
{
    kept->reserved += need;
}
static inline void kept_release(struct kept *kept, uint64_t need)
{
    kept->reserved -= need;
}
/* For servers that cannot flush: drops the oldest records until there is room, and remembers it. */
void kept_forget_for_room(struct kept *kept, uint64_t need);

/* Copies the change to the end of the list. 0 or -ENOMEM. */
int kept_add(struct kept *kept, enum io_kind kind, uint32_t flags, uint64_t offset, uint64_t length,
             const void *data) MUST_CHECK;
/* A newer change of this range is stable: writing older records again must not touch it, not even
 * for a moment.  0 or -ENOMEM, then nothing may be told of that change before a flush. */
int kept_cut(struct kept *kept, uint64_t offset, uint64_t length) MUST_CHECK;
/* What was acknowledged up to `seq` is stable. */
void kept_drop_through(struct kept *kept, uint64_t seq);
/* Time for a flush of our own. */
static inline bool kept_is_half_full(const struct kept *kept)
{
    return kept->count && kept->bytes >= kept->bound / 2;
}

/* The record after `record`, the first for NULL; NULL at the end. */
struct kept_record *kept_next(const struct kept *kept, const struct kept_record *record);

#endif
