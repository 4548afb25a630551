/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * kit.h: what the files of the offline driver share.  kit-check.c decides what is tried; kit-load.c
 * brings requests in, from workers and from a loop; kit-model.c knows what they have to answer.
 */
#ifndef SLUICE_HOST_KIT_H
#define SLUICE_HOST_KIT_H

#include "internal.h"

/* --- the model: what the disk holds ----------------------------------------------------------- */

/*
 * `bytes` is what was written, `is_known` which of it can be relied on: a change that failed may
 * have happened in part.  Different slices belong to different clients at a time, so no lock but
 * for the first fault.
 */
struct kit_model {
    struct disk *disk;
    uint64_t size;
    uint8_t *bytes, *is_known;
    struct sluice_client client;
    _Atomic uint64_t requests, failed, cancelled;
    pthread_mutex_t mutex;
    bool has_fault;
    char fault[300]; /* the first; [M] */
};

int kit_model_make(struct kit_model *m, struct disk *disk, uint64_t size);
int kit_model_grow(struct kit_model *m, uint64_t size);
void kit_model_free(struct kit_model *m);
void kit_fault(struct kit_model *m, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* True: there was one since the last call, and it is in `out`, of the size of m->fault. */
bool kit_take_fault(struct kit_model *m, char *out);

/* One request and what is expected of it. */
struct kit_op {
    unsigned op;
    uint32_t flags;
    uint64_t offset, length;
    uint8_t *data; /* of length bytes */
};
/* Where one client may write. */
struct kit_slice {
    uint64_t first, length;
    uint64_t random;
};
uint32_t kit_random(uint64_t *state);
/* Any request within the slice, at most `most` bytes. */
void kit_op_random(struct kit_op *op, struct kit_slice *slice, uint64_t most);
/* A new request for it; NULL: ENOMEM. */
struct request *kit_op_request(struct kit_model *m, struct kit_op *op);
/* It has ended: compares, and takes over into the model. was_cancelled: ECANCELED is an answer. */
void kit_op_check(struct kit_model *m, const struct kit_op *op, struct request *r,
                  bool was_cancelled);
/* The whole of it in the calling thread. */
void kit_op_execute(struct kit_model *m, struct kit_op *op);
/* How many of these bytes from the first on are as they have to be. */
uint64_t kit_model_compare(const struct kit_model *m, uint64_t offset, const uint8_t *data,
                           uint64_t length);
/* Reads everything back. */
void kit_model_verify(struct kit_model *m);

/* --- load
 * ----------------------------------------------------------------------------------------- */

struct kit_load;
/* Workers, and clients of a loop with several requests in flight, each in a slice of its own. */
struct kit_load *kit_load_start(struct kit_model *m);
/* Each client goes on for at least so many requests more. */
void kit_load_go_on(struct kit_load *load, unsigned requests);
void kit_load_stop(struct kit_load *load);

/* From the loop: so many requests in flight, then all are cancelled; waits for their ends. */
void kit_cancel_round(struct kit_model *m, unsigned op, unsigned count);

/* --- in the child -------------------------------------------------------------------------------
 */

struct kit {
    FILE *report;
    char *step; /* shared with the parent: what is being tried */
    unsigned checks, failures;
};
#define KIT_STEP_MAX 200
/* Runs all checks. The child's exit code. */
int kit_run(struct kit *kit, const char *path, const char *const *words, unsigned count);

#endif
