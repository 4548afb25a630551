/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lun.c: logical unit numbers on the wire (SAM-5 4.7): one level, in the peripheral device or the
 * flat space addressing format.  We report the first for numbers below 256, and understand both.
 */
#include "internal.h"

#define METHOD_PERIPHERAL 0u
#define METHOD_FLAT 1u

bool lun_parse(uint64_t wire, uint16_t *lun)
{
    uint32_t first = (uint32_t)(wire >> 48);

    if (wire << 16)
        return false; /* a second level */
    *lun = (uint16_t)(first & 0x3fff);
    if (first >> 14 == METHOD_FLAT)
        return true;
    return first >> 14 == METHOD_PERIPHERAL && *lun < 256; /* bus 0 */
}

uint64_t lun_to_wire(uint16_t lun)
{
    uint64_t first = lun < 256 ? lun : METHOD_FLAT << 14 | lun;

    return first << 48;
}
