/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * reply.h: NBD's replies, whose head is written right before their data, so that both leave as one
 * piece: REPLY_HEAD_MOST bytes are to be free there.  What they return is the whole of it.  Any
 * thread.
 */
#ifndef SLUICE_NBDKIT_REPLY_H
#define SLUICE_NBDKIT_REPLY_H

#include "stream.h"

#include <sys/uio.h>

#define REPLY_HEAD_MOST 28u

/* Of a read that has its data, or of a write, which has none. */
struct iovec reply_of_success(enum reply_form form, const struct stream_request *q, void *data);
/* `error` is NBD's ("Error values"), the same numbers as Linux's. */
struct iovec reply_of_error(enum reply_form form, const struct stream_request *q, int error,
                            void *data);

#endif
