/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * file.h: what the file-*.c files know of a file.  Private to the io room.
 *
 * file.c opens and closes; file-create.c creates; file-lock.c locks; file-run.c carries out one
 * operation with system calls that may block; file-sync.c makes things durable and remembers what
 * failed; file-dirty.c knows how much may be unsynced; file-submit.c chooses where an operation
 * runs; file-ring.c is the io_uring of a loop.
 *
 * Legend: [I] immutable after file_open; [A] atomic; [M] guarded by sync_mutex.
 */
#ifndef SLUICE_IO_FILE_H
#define SLUICE_IO_FILE_H

#include "io/internal.h"

#include <sys/types.h>

/* A device that takes longer may not answer any more: an SSD that tidies up is not that slow. */
#define FILE_PATIENCE_NS 100000000
/* Where the next request of a client may have to wait for it: most of what an SSD takes. */
#define FILE_HURRIED_NS 500000

struct file {
    int fd;       /* [I] does all I/O and holds the lock */
    int check_fd; /* [I] another open of the same file, only to ask for write errors; -1: none */
    char *path;   /* [I] for messages */
    dev_t device; /* [I] the block device, or the one the file system is on */
    bool is_block_device, is_direct, is_rotational; /* [I] */
    bool is_in_memory;                              /* [I] tmpfs: no disk to wait for */
    bool may_hang;     /* [I] a loop must not even write into the page cache: that may wait too */
    bool submits_late; /* [I] FUSE: what is put into a ring may wait for a lock there already */
    unsigned block_bytes;  /* [I] */
    unsigned memory_align; /* [I] of buffers, with O_DIRECT */

    _Atomic uint64_t size; /* [A] */

    /* [A] What the kernel and the file system turned out to support; only ever cleared. */
    atomic_bool can_punch, can_zero_range, can_seek, can_nowait, can_dsync;
    bool zero_range_is_fast; /* [I] */

    _Atomic uint64_t written_bytes; /* [A] through the page cache, ever */
    _Atomic uint64_t granted_bytes; /* [A] of written_bytes, up to where loops may write too */
    _Atomic uint64_t look_ns; /* [A] before that nobody looks for more; UINT64_MAX: somebody does */
    _Atomic uint64_t avoid_inline_ticks;  /* [A] until then no inline writes: one was slow */
    _Atomic uint64_t syncing_since_ticks; /* [A] a sync that is under way; 0: none */

    pthread_mutex_t sync_mutex;
    _Atomic uint64_t
        synced_bytes;          /* [M] to write; of written_bytes, how many are known to be stable */
    _Atomic int sticky_error;  /* [M] to write; positive errno, 0: none */
    struct list flush_waiting; /* [M] of loops, for the next fdatasync */
    bool flush_is_running;     /* [M] */
    struct task flush_task;    /* in the pool while flush_is_running */
};

/* --- file-create.c ---------------------------------------------------------------------------- */

/* 0 also when it is there already. */
int file_create_if_absent(const char *path, uint64_t size, struct err *e) MUST_CHECK;

/* --- file-lock.c ------------------------------------------------------------------------------ */

/* An open-file-description lock (fcntl(2)) on the whole file, tried until wait_ns have passed. */
int file_lock(int fd, const char *path, bool is_shared, uint64_t wait_ns, struct err *e) MUST_CHECK;

/* --- file-run.c ------------------------------------------------------------------------------- */

/* Carries out what io->progress says is left of it; blocks.  0 or -errno. */
int file_run(struct file *file, struct io *io) MUST_CHECK;
/* One read without blocking, adding to io->progress: 0 when whole, -EAGAIN when more is to do. */
int file_read_cached(struct file *file, struct io *io) MUST_CHECK;

/* With FUA: write and sync are one call. */
static inline bool file_can_write_at_once(const struct file *file, const struct io *io)
{
    return !(io->flags & IO_FUA) || atomic_load_explicit(&file->can_dsync, memory_order_relaxed);
}

static inline void file_note_written(struct file *file, uint64_t bytes)
{
    if (!file->is_direct)
        atomic_fetch_add_explicit(&file->written_bytes, bytes, memory_order_relaxed);
}

/* --- file-dirty.c ----------------------------------------------------------------------------- */

#define DIRTY_BUDGET (64ull << 20) /* far below where the kernel makes writers wait */

/* Whether a loop may write into the page cache as far as what is not synced goes. */
static inline bool file_may_dirty(const struct file *file)
{
    uint64_t synced = atomic_load_explicit(&file->synced_bytes, memory_order_relaxed);
    uint64_t written = atomic_load_explicit(&file->written_bytes, memory_order_relaxed);

    return written - synced < DIRTY_BUDGET ||
           written < atomic_load_explicit(&file->granted_bytes, memory_order_relaxed);
}
/* Grants more if there is room; in a pool thread, while an operation keeps the file open. */
void file_look_for_room(struct file *file);

/* --- file-sync.c ------------------------------------------------------------------------------ */

/* fdatasync; blocks.  0 or -errno, sticky. */
int file_sync(struct file *file) MUST_CHECK;
/* After a fdatasync by other means, `failure` being 0 or a positive errno: written_bytes when it
 * began were `written`.  0 or -errno, sticky. */
int file_sync_end(struct file *file, int failure, uint64_t written) MUST_CHECK;
/* After a write with RWF_DSYNC returned 0 or failed with -errno: the result that is true. */
int file_sync_result(struct file *file, int result) MUST_CHECK;
/* A write into the page cache failed with -errno: nothing that follows may be called stable. */
int file_write_lost(struct file *file, int result) MUST_CHECK;
/* 0, or the negative errno of the sync that failed once. */
static inline int file_sticky(struct file *file)
{
    return -atomic_load_explicit(&file->sticky_error, memory_order_acquire);
}
/* A loop's flush: joins those waiting; one fdatasync in the pool answers all that wait. */
void file_flush_later(struct file *file, struct io *io);

/* --- file-submit.c ---------------------------------------------------------------------------- */

/* Hands a pending operation to the pool. */
void file_to_pool(struct file *file, struct io *io);

/* --- file-ring.c ------------------------------------------------------------------------------ */

/* From io's loop: false if there is no ring or it is full. */
bool file_to_ring(struct file *file, struct io *io) MUST_CHECK;
/* An error of a ring that another way of doing the same may not meet. */
bool file_is_refusal(int error) MUST_CHECK;

/* With O_DIRECT, memory must be aligned too. */
static inline bool file_memory_fits(const struct file *file, const void *memory)
{
    return !file->is_direct || (uintptr_t)memory % file->memory_align == 0;
}

#endif
