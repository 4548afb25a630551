/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * backing.c: forwards to the table of the backing's kind, and answers for what a kind leaves out.
 */
#include "backing-ops.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct backing_ops *const kinds[] = {
    [BACKING_FILE] = &backing_file_ops,
    [BACKING_NBD] = &backing_nbd_ops,
    [BACKING_ISCSI] = &backing_iscsi_ops,
    [BACKING_NBDKIT] = &backing_nbdkit_ops,
};

int backing_open(const struct backing_spec *spec, struct backing **out, struct err *e)
{
    const struct backing_ops *ops = kinds[spec->kind];
    char *disk = strdup(spec->disk ? spec->disk : "");
    struct backing *b = NULL;
    int r;

    if (!disk)
        return err_set(e, ENOMEM, "out of memory");
    r = ops->open(spec, &b, e);
    if (r < 0) {
        free(disk);
        return err_context(e, "%s", spec->disk ? spec->disk : "backing");
    }
    b->ops = ops;
    b->disk = disk;
    *out = b;
    return 0;
}

void backing_close(struct backing *b)
{
    free(b->disk);
    b->disk = NULL;
    b->ops->close(b);
}

const struct backing_info *backing_info(const struct backing *b)
{
    return &b->info;
}

void backing_status(struct backing *b, struct backing_status *out)
{
    memset(out, 0, sizeof *out);
    b->ops->status(b, out);
}

bool backing_space(const struct backing *b, struct backing_space *out)
{
    return b->ops->space && b->ops->space(b, out);
}

const char *backing_kind_name(enum backing_kind kind)
{
    return (unsigned)kind < ARRAY_SIZE(kinds) ? kinds[kind]->name : "unknown";
}

void backing_identity(const struct backing *b, char *out, size_t out_size)
{
    b->ops->identity(b, out, out_size);
}

enum io_status backing_submit(struct backing *b, struct io *io)
{
    return b->ops->submit(b, io);
}

static COLD int not_supported(const struct backing *b, const char *what, struct err *e)
{
    return err_set(e, ENOTSUP, "%s: a backing of kind %s cannot %s", b->disk, b->ops->name, what);
}

int backing_resize(struct backing *b, uint64_t size_bytes, struct err *e)
{
    return b->ops->resize ? b->ops->resize(b, size_bytes, e)
                          : not_supported(b, "be resized from here", e);
}

int backing_refresh(struct backing *b, struct err *e)
{
    return b->ops->refresh ? b->ops->refresh(b, e) : not_supported(b, "read its size anew", e);
}

int backing_snapshot(struct backing *b, const char *name, struct err *e)
{
    return b->ops->snapshot ? b->ops->snapshot(b, name, e) : not_supported(b, "take snapshots", e);
}

int backing_reopen(struct backing *b, struct err *e)
{
    return b->ops->reopen ? b->ops->reopen(b, e) : not_supported(b, "be opened anew", e);
}

void backing_service_stop(void)
{
    for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++)
        if (kinds[i]->service_stop)
            kinds[i]->service_stop();
}
