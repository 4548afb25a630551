/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * journal.h: the target's journal: what came from the peer, in order, until it is on the disk.
 *
 * Records that come together lie one behind the other in memory, as they will in the file, so that
 * one call writes many.
 */
#ifndef SLUICE_REPLICATION_JOURNAL_H
#define SLUICE_REPLICATION_JOURNAL_H

#include "frames.h"

#include <sluice-filter.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct replica;

#define RECORD_BYTES 88u
#define PAGE_BYTES 4096u /* of the kernel's: what is written last is filled up to one */
/* In the file and in memory. */
static inline uint64_t journal_record_bytes(uint64_t payload)
{
    return (RECORD_BYTES + payload + 7) & ~7ull;
}

/* --- journal-memory.c
 * ------------------------------------------------------------------------------------------------
 */

/* A piece of memory in which records lie, or entries.  It goes back and is taken again as a whole:
 * the allocator gave the pages of single ones back to the kernel, and took new ones for the next.
 */
struct chunk {
    struct chunk *next; /* of the spare ones */
    size_t used, capacity;
    unsigned uses; /* what was taken of it; and one while it is being filled */
    _Alignas(16) uint8_t data[];
};

struct journal_memory {
    struct chunk *filling, *spare;
};

/* Behind what was taken before, where there is room; a multiple of 8 bytes.  NULL: no memory. */
void *journal_memory_take(struct journal_memory *m, size_t bytes, struct chunk **chunk);
void journal_memory_give(struct journal_memory *m, struct chunk *chunk);
/* Noughts behind what ends at `end`, as long as the chunk is.  False: something else is there. */
bool journal_memory_fill(struct chunk *chunk, const uint8_t *end, size_t bytes);
/* What nobody uses goes back to the allocator. */
void journal_memory_trim(struct journal_memory *m);

/* --- journal.c
 * ------------------------------------------------------------------------------------------------
 */

/* One frame from the peer on its way to the disk. */
struct entry {
    struct entry *next;
    struct replica *r;
    struct frame frame;
    uint64_t number;         /* counted from the first of this life */
    uint64_t position, term; /* of its record in the journal */
    uint32_t length;         /* of the payload */
    uint8_t *record;         /* RECORD_BYTES and the payload; NULL: it has to be read back */
    struct chunk *chunk;     /* in which it lies */
    struct chunk *own_chunk; /* in which this lies */
    struct entry *run_last;  /* while it is written: the last of those that are with it */
    bool is_journaled, is_applying, is_applied;
    bool is_redo;      /* an earlier process had it */
    int32_t error;     /* of the last time that it was to be applied; 0: none */
    uint64_t retry_ns; /* not before */
    uint64_t done;     /* bytes of its range that are applied, or do not count */
    uint64_t doing;    /* done, when what is under way has ended */
    struct sluice_file_io file_io;
    struct sluice_io io;
};

struct journal {
    struct sluice_file *file;
    uint64_t size, head, tail, term, numbered;
    uint64_t synced;     /* positions below it are durable */
    uint64_t cut_change; /* super_changes that makes a cut durable: nothing is written before */
    struct entry *first, **last; /* from the oldest not applied to the newest */
    struct entry *newest;
    struct entry *appended;  /* the first that has no place yet; they get one in order */
    struct entry *uncounted; /* the first that is not written, or not looked at since */
    struct entry *untaken;   /* the first RECORD that the gateway has not taken */
    struct journal_memory records, entries;
    uint64_t memory;   /* payload bytes kept */
    uint64_t empty_ns; /* since then it is, if it is */
    unsigned writing;  /* runs of entries */
    bool is_filling;   /* one of them writes noughts where the next one goes: it has to wait */
    unsigned applying;
    unsigned failing;   /* entries with an error */
    unsigned snapshots; /* entries that are one */
    bool is_syncing, sync_wanted;
    struct sluice_file_io sync_io;
    uint64_t sync_to, sync_seq;
};

/* Blocks, without the mutex: finds what has to be applied again. */
int journal_open(struct replica *r, struct sluice_error *error);
void journal_close(struct replica *r);
/* Takes a copy of the message; false: no memory. */
bool journal_append(struct replica *r, const struct frame *frame, const void *message,
                    size_t length);
void journal_write(struct replica *r); /* what was appended and has room */
/* The same from a thread that has nothing else to do: the mutex is free while it writes. */
void journal_write_apart(struct replica *r);
void journal_sync(struct replica *r); /* and target_on_synced() follows */
/* What is to be written next has no room before something is applied and marked. */
bool journal_is_full(const struct journal *j);
/* Everything from this position on has never been. */
void journal_cut(struct replica *r, uint64_t position);
void journal_forget_applied(struct replica *r);
void journal_rest(struct replica *r); /* gives memory back when there was nothing for a while */
/* The payload of an entry has to be kept no longer. */
void journal_drop_record(struct journal *j, struct entry *e);
static inline uint64_t journal_used(const struct journal *j)
{
    return j->head - j->tail;
}

#endif
