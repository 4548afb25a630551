/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * request.h: what a line on the control socket asks for.  Nothing here knows of a gateway: the
 * bytes come from whoever may open the socket, and a fuzzer reads them the same way.
 */
#ifndef SLUICE_CONTROL_REQUEST_H
#define SLUICE_CONTROL_REQUEST_H

#include "base/base.h"

#include <jansson.h>

/* How many seconds a gateway in order may take for an answer that only looks. */
#define CONTROL_LOOK_S 10

/* Every verb of the protocol: its number, its name, whether it is work, which may last longer. */
#define CONTROL_VERBS(X)                    \
    X(STATUS, "status", false)              \
    X(TASKS, "tasks", false)                \
    X(RELOAD, "reload", true)               \
    X(DIFF, "diff", false)                  \
    X(METRICS, "metrics", false)            \
    X(WATCH, "watch", false)                \
    X(DISK_RESIZE, "disk-resize", true)     \
    X(DISK_SNAPSHOT, "disk-snapshot", true) \
    X(DISK_REOPEN, "disk-reopen", true)     \
    X(DISK_EVENT, "disk-event", true)       \
    X(FILTER, "filter", true)               \
    X(FAILOVER, "failover", true)           \
    X(PEER_CHECK, "peer-check", true)

enum control_verb {
#define X(number, name, is_work) CONTROL_VERB_##number,
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
bool control_verb_is_work(const char *name);
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
