/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * le.h: little-endian numbers of 1 to 8 bytes, one after the other, in files and messages.  Inline,
 * as where `bytes` is known a number is one load or store.
 */
#ifndef SLUICE_FILTER_LE_H
#define SLUICE_FILTER_LE_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

/* Its lowest `bytes` bytes. */
static inline void le_put(uint8_t **at, uint64_t value, unsigned bytes)
{
    value = htole64(value);
    memcpy(*at, &value, bytes);
    *at += bytes;
}

static inline uint64_t le_get(const uint8_t **at, unsigned bytes)
{
    uint64_t value = 0;

    memcpy(&value, *at, bytes);
    *at += bytes;
    return le64toh(value);
}

#endif
