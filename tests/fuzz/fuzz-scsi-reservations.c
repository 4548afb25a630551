/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz-scsi-reservations: the text of a disk's persistent reservations, as a peer sends it and as
 * the state folder has it.
 *
 * True of every answer: what is accepted can be written again, and that text is accepted too and
 * says the same.
 */
#include "scsi/internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_again(const struct reservations *x)
{
    struct reservations *back = malloc(sizeof *back);
    char *text = reservations_to_text(x);

    assert(text && back);
    assert(strlen(text) <= RESERVATIONS_BYTES_MAX);
    assert(reservations_from_text(back, text, strlen(text)));
    assert(memcmp(back, x, sizeof *back) == 0);
    free(text);
    free(back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct reservations *x = malloc(sizeof *x);

    if (x && size <= RESERVATIONS_BYTES_MAX && reservations_from_text(x, (const char *)data, size))
        check_again(x);
    free(x);
    return 0;
}
