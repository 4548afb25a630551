/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * backing-ops: the table every kind of backing fills, private to this room.
 *
 * A kind embeds `struct backing` first in its own struct and exports one const table.  backing.c
 * selects the table by spec->kind, calls open, and from then on only forwards.  A kind's open
 * allocates its struct, fills `info`, and need not touch `ops` or `disk`: backing.c sets `ops` and
 * copies spec->disk into `disk` right after open returned, and frees `disk` just before close.
 * (A kind that needs the disk's name while it opens takes it from the spec.)
 *
 * Legend: [I] immutable once open returned; [C] changed by the control thread only, in refresh,
 * resize and reopen, while nobody reads the field but the control thread.
 */
#ifndef SLUICE_BACKING_OPS_H
#define SLUICE_BACKING_OPS_H

#include "backing/backing.h"

struct backing_ops {
    const char *name; /* "file", "nbd", ...: backing_kind_name() */

    /* Required.  May block.  On error nothing is left behind and *out is not written. */
    int (*open)(const struct backing_spec *spec, struct backing **out, struct err *e);
    /* Required.  Frees *b.  Nothing is in flight. */
    void (*close)(struct backing *b);
    /* Required.  Any home; io->home is the calling thread's.  See backing_submit(). */
    enum io_status (*submit)(struct backing *b, struct io *io);
    /* Required.  *out is zeroed before.  Any thread, does not block. */
    void (*status)(struct backing *b, struct backing_status *out);
    /* Required.  Any thread, does not block; always terminates `out`. */
    void (*identity)(const struct backing *b, char *out, size_t out_size);

    /* Optional: what backing_space() says; NULL: not known. */
    bool (*space)(const struct backing *b, struct backing_space *out);

    /* Optional: NULL is answered with -ENOTSUP and a sentence by backing.c.  Control thread. */
    int (*resize)(struct backing *b, uint64_t size_bytes, struct err *e);
    int (*refresh)(struct backing *b, struct err *e);
    int (*snapshot)(struct backing *b, const char *name, struct err *e);
    int (*reopen)(struct backing *b, struct err *e);

    /* Optional.  Ends what this kind runs for all its backings (children, service threads). */
    void (*service_stop)(void);
};

/* The head of every kind's struct. */
struct backing {
    const struct backing_ops *ops; /* [I] */
    struct backing_info info;      /* [C] size_bytes; the rest [I] */
    char *disk;                    /* [I] the disk's name, for messages */
};

extern const struct backing_ops backing_file_ops;
extern const struct backing_ops backing_nbd_ops;
extern const struct backing_ops backing_iscsi_ops;
extern const struct backing_ops backing_nbdkit_ops;

#endif
