/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * crc.h: CRC-32C (Castagnoli, RFC 3720 B.4), which guards what filters keep in files and send to
 * peers.
 */
#ifndef SLUICE_FILTER_CRC_H
#define SLUICE_FILTER_CRC_H

#include <stddef.h>
#include <stdint.h>

/* Of `length` bytes, going on from `crc`; 0 to start. */
uint32_t crc_add(uint32_t crc, const void *data, size_t length);

#endif
