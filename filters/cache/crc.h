/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * crc.h: CRC-32C (Castagnoli, RFC 3720 B.4), which guards all that the cache keeps on the tier.
 */
#ifndef SLUICE_CACHE_CRC_H
#define SLUICE_CACHE_CRC_H

#include <stddef.h>
#include <stdint.h>

/* Of `length` bytes, going on from `crc`; 0 to start. */
uint32_t cache_crc(uint32_t crc, const void *data, size_t length);

#endif
