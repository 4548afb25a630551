/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * backlog.h: a side that was promoted serves at once, although not all of its journal is applied.
 *
 * What is not applied, the backlog, is found by extent.  A read waits for the records that touch
 * its bytes, and they are applied before all others.  A write waits until its extents are settled:
 * everything that the journal has for them is applied and durable below, and that they are settled
 * is durable too, in a file of a bit an extent.  So no record can come after a newer write, neither
 * now nor when the journal is read again after a crash.  Nothing else ever waits: all of the
 * backlog is durable in the journal, so a flush promises no more than is true.
 *
 * Nothing is appended to the journal while there is a backlog; whoever follows again has it applied
 * first.
 */
#ifndef SLUICE_REPLICATION_BACKLOG_H
#define SLUICE_REPLICATION_BACKLOG_H

#include <sluice-filter.h>

#include <stdbool.h>
#include <stdint.h>

struct replica;
struct member;
struct captured;
struct entry;

/* A record that is not applied, in the list of one of its extents. */
struct place {
    struct place *next;
    struct entry *entry;
};

struct backlog {
    uint64_t extents;
    struct place **of;  /* by extent, the oldest first */
    uint8_t *touched;   /* a bit an extent: the journal has something for it */
    uint8_t *settled;   /* of them: nothing of that counts any more, durably */
    uint8_t *settling;  /* those that the flush under way is for */
    uint64_t total;     /* bytes of the journal at the beginning */
    bool is_short;      /* no memory for it: all is applied before it is served */
    uint64_t unflushed; /* bytes that were applied and no checkpoint has flushed */
    uint64_t flushing;  /* of them: those that the checkpoint under way is for */
    enum { SETTLE_IDLE, SETTLE_FLUSHING, SETTLE_FLUSHED } settle;
    struct sluice_io io;
};

/* All below: with the replica's mutex held, unless it says otherwise. */

/* Everything in the journal that is not applied; the journal is durable, and nothing is applied
 * that a checkpoint does not know of.  False: no memory, and there is none. */
bool backlog_make(struct replica *r);
/* The same after a crash, without the mutex: what was settled before does not count.  0 or a
 * negative errno. */
int backlog_load(struct replica *r);
void backlog_close(struct replica *r);

/* Before the first of them was written, or after the last: nothing is known to be under way. */
bool backlog_is_busy(const struct replica *r);
/* Something that is not applied touches this extent: what lies below is not the disk yet. */
bool backlog_holds_extent(const struct replica *r, uint64_t extent);
/* A guest's write may begin; else capture_admit() is called when it may. */
bool backlog_lets_write(const struct replica *r, uint64_t offset, uint64_t bytes);

struct sluice_verdict backlog_start_read(struct member *m, struct sluice_request *request,
                                         struct captured *c);
struct sluice_verdict backlog_start_extents(struct member *m, struct sluice_request *request);
void backlog_admit_reads(struct replica *r);

/* The next of those that somebody waits for; NULL: none that may be applied now. */
struct entry *backlog_next_wanted(struct replica *r);
/* The part of an entry that is to be applied next; false: nothing of it counts any more. */
bool backlog_next_run(const struct replica *r, const struct entry *e, uint64_t *offset,
                      uint64_t *bytes);
/* Has been applied as a whole. */
void backlog_take_out(struct replica *r, const struct entry *e);
void backlog_pump(struct replica *r); /* without the mutex */

/* A control event may go on when all is applied: waits for it, as long as it may; 0 or a negative
 * errno and a sentence. */
int backlog_await_end(struct replica *r, const struct sluice_event *event,
                      struct sluice_error *error);
uint64_t backlog_bytes(const struct replica *r); /* of the journal, heads among them */
void backlog_tell(struct replica *r, struct sluice_reply *reply);

#endif
