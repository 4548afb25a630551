/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * backing: where the bytes of a disk live in the end, behind one table of operations.
 *
 * Generation.  A backing has a generation, raised by every reconnect or reset after which the other
 * side may have forgotten unflushed writes.  The rule "a flush fails if a write was acknowledged in
 * an older generation since the last good flush, unless it was kept and written again" is kept by
 * each backing itself: file never changes generation; nbd and iscsi keep unflushed writes (bounded:
 * they flush by themselves at the bound) and write them again after a reconnect.
 */
#ifndef SLUICE_BACKING_H
#define SLUICE_BACKING_H

#include "io/io.h"

struct backing;

enum backing_kind { BACKING_FILE, BACKING_NBD, BACKING_ISCSI, BACKING_NBDKIT };

/* What the configuration says of a backing; strings are borrowed for the time of backing_open. */
struct backing_spec {
    enum backing_kind kind;
    const char *disk; /* the disk's name, for messages */
    bool read_only;

    /* file */
    const char *path;
    bool direct;
    bool create; /* only for a disk never seen before */
    uint64_t create_size;

    /* nbd: a URI as libnbd takes it (nbd, nbds, nbd+unix, ...) */
    const char *uri;
    const char *tls_certificates; /* folder, or NULL */

    /* iscsi: "iscsi://host[:port]/iqn/lun" */
    const char *chap_user, *chap_secret; /* secret already read from its file */
    const char *initiator_name;

    /* nbdkit: plugin name or path, its key=value arguments, nbdkit filters in front of it */
    const char *plugin;
    const char *const *arguments; /* NULL-terminated, "key=value" */
    const char *const *filters;   /* NULL-terminated, or NULL */

    uint64_t reconnect_ns; /* keep requests waiting that long for a lost server before EIO; 0: for
                              ever */
    uint64_t settle_ns;    /* nbd: how long a server may go on with what a lost connection sent */
    uint64_t keep_bytes;   /* nbd, iscsi: unflushed writes kept for replay; 0: default 64 MiB */
};

struct backing_info {
    uint64_t size_bytes;
    unsigned block_bytes;        /* read-modify-write unit: 1 for buffered files */
    unsigned preferred_bytes;    /* 4096 unless the backing knows better */
    unsigned max_transfer_bytes; /* data of one read or write; the engine's front ends never exceed
                                    64 MiB; backing splits itself */
    bool is_read_only;
    bool can_flush, can_fua, can_trim, can_zero, can_fast_zero, can_extents, can_prefetch;
    bool is_rotational;
};

/* For status: what the backing is doing. */
struct backing_status {
    bool is_connected;
    uint64_t generation;
    uint64_t reconnects;
    uint64_t replayed_writes;
    int sticky_error;   /* positive errno of a failed flush, 0: none */
    char sentence[256]; /* "connected", "lost nbd://..., retrying since 3 s" */
};

/* Of the file system that a backing lies in. */
struct backing_space {
    uint64_t used_bytes; /* by the backing itself */
    uint64_t available_bytes, total_bytes;
};

/* Blocks (connects, starts a child): control thread only. A remote backing that cannot be reached
 * is an error. Service threads are started on first use; so only after the process has forked. */
int backing_open(const struct backing_spec *spec, struct backing **out, struct err *e) MUST_CHECK;
/* Nothing may be in flight. Does not flush. Blocks. */
void backing_close(struct backing *b);

const struct backing_info *backing_info(const struct backing *b);
void backing_status(struct backing *b, struct backing_status *out);
/* False: not known, or the backing never needs more than it has. Any thread; a network file system
 * may keep it waiting. */
bool backing_space(const struct backing *b, struct backing_space *out);
const char *backing_kind_name(enum backing_kind kind);

/* A word that says what this backing is, to notice that another one is in its place: inode and
 * device for files, UUID or NAA where there is one, the URI else; of an nbdkit plugin the
 * parameters that say where its contents are. */
void backing_identity(const struct backing *b, char *out, size_t out_size);

/* Any home, any thread; io->home is the calling thread's home. The operation was checked against
 * size, read_only and alignment before. IO_DONE or IO_PENDING as io.h says. */
enum io_status backing_submit(struct backing *b, struct io *io) MUST_CHECK;

/* Grows what is below if it can; else -ENOTSUP with the reason. Blocks. */
int backing_resize(struct backing *b, uint64_t size_bytes, struct err *e) MUST_CHECK;
/* Reads the size anew (grown underneath). Blocks. */
int backing_refresh(struct backing *b, struct err *e) MUST_CHECK;
/* An instant copy under `name` beside the original, by the file system (reflink); -ENOTSUP with the
 * reason where that cannot be had. Every acknowledged byte has been flushed before. Blocks. */
int backing_snapshot(struct backing *b, const char *name, struct err *e) MUST_CHECK;
/* Clears a sticky flush error by opening anew, on an operator's order. Nothing in flight. Blocks.
 */
int backing_reopen(struct backing *b, struct err *e) MUST_CHECK;

/* Before the process leaves: ends children, closes nothing else. */
void backing_service_stop(void);

#endif
