/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test-filter.h: what the filters for tests have in common: an option that names the operation they
 * act on, and the head of their tables.  They are never installed.
 */
#ifndef TEST_FILTER_H
#define TEST_FILTER_H

#include <sluice-filter.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* The first option of those filters that act on one kind of request. Its number is the operation's,
 * or SLUICE_OP_COUNT for all. */
#define OPTION_OP                                                                         \
    {                                                                                     \
        "op", SLUICE_TYPE_ENUM, 0, 0, 0, "write",                                         \
            "read|write|flush|trim|zero|extents|prefetch|all", "The requests it acts on." \
    }

static inline bool is_meant(const struct sluice_value *op, const struct sluice_request *request)
{
    return op->integer == SLUICE_OP_COUNT || op->integer == request->op;
}

/* Where it stands: above what replicates or caches, or below that. */
#define OPTION_AT                                                                                \
    {                                                                                            \
        "at", SLUICE_TYPE_ENUM, 0, 0, 0, "guests", "guests|backing", "Where in the chain it is." \
    }
#define CLASS_AT(value) ((value).integer ? SLUICE_CLASS_BACKING_CONTROL : SLUICE_CLASS_INSPECTION)

#define TEST_FILTER_HEAD(its_name, its_summary)                                            \
    .struct_size = sizeof(struct sluice_filter), .api_version = SLUICE_FILTER_API_VERSION, \
    .name = its_name, .version = "1", .vendor = "tests", .summary = its_summary,           \
    .filter_class = SLUICE_CLASS_INSPECTION

#define EVERY_OPERATION(handler)                                                           \
    .read = handler, .write = handler, .flush = handler, .trim = handler, .zero = handler, \
    .extents = handler, .prefetch = handler

#endif
