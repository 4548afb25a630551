/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * request.h: what a line on the control socket asks for.  Nothing here knows of a gateway: the
 * bytes come from whoever may open the socket, and a fuzzer reads them the same way.
 */
#ifndef SLUICE_CONTROL_REQUEST_H
#define SLUICE_CONTROL_REQUEST_H

#include "base/base.h"

#include <jansson.h>

/* Every verb of the protocol: its number and its name. */
#define CONTROL_VERBS(X)              \
    X(STATUS, "status")               \
    X(TASKS, "tasks")                 \
    X(RELOAD, "reload")               \
    X(DIFF, "diff")                   \
    X(METRICS, "metrics")             \
    X(WATCH, "watch")                 \
    X(DISK_RESIZE, "disk-resize")     \
    X(DISK_SNAPSHOT, "disk-snapshot") \
    X(DISK_REOPEN, "disk-reopen")     \
    X(DISK_EVENT, "disk-event")       \
    X(FILTER, "filter")               \
    X(FAILOVER, "failover")           \
    X(PEER_CHECK, "peer-check")

enum control_verb {
#define X(number, name) CONTROL_VERB_##number,
    CONTROL_VERBS(X)
#undef X
        CONTROL_VERB_COUNT,
};

struct control_request {
    enum control_verb verb;
    json_t *json; /* an object; the caller's, after success alone */
};

#define CONTROL_WORDS_MAX 32

/* The length of the first line without its end, -1 if no line has ended yet. */
ssize_t control_line_length(const char *data, size_t have);
/* 0, or -EINVAL with a sentence. */
int control_request_parse(const char *line, size_t length, struct control_request *out,
                          struct err *e) MUST_CHECK;
const char *control_verb_name(enum control_verb verb);
/* The text under a key; NULL: there is none. */
const char *control_request_text(const json_t *request, const char *key);
/* -EINVAL with a sentence if there is none. */
int control_request_need_text(const json_t *request, const char *key, const char **out,
                              struct err *e) MUST_CHECK;
/* The list of strings under a key; they live as long as the request.  No key is no words. */
int control_request_words(const json_t *request, const char *key,
                          const char *words[CONTROL_WORDS_MAX], int *count,
                          struct err *e) MUST_CHECK;
/* A positive integer under a key. */
int control_request_need_size(const json_t *request, const char *key, uint64_t *out,
                              struct err *e) MUST_CHECK;

#endif
