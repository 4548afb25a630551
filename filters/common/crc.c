/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * crc.c: eight bytes an instruction where the processor has SSE4.2, else bit by bit in nibbles.  A
 * filter may not use the gateway's own code, so it has its own.
 */
#include "common/crc.h"

#include <string.h>

static uint32_t by_nibbles(uint32_t crc, const uint8_t *p, size_t length)
{
    static const uint32_t table[16] = {
        0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3,
        0x61c69362, 0x7198540d, 0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
        0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
    };

    for (; length; length--, p++) {
        crc ^= *p;
        crc = crc >> 4 ^ table[crc & 15];
        crc = crc >> 4 ^ table[crc & 15];
    }
    return crc;
}

#if defined(__x86_64__)
#include <nmmintrin.h>

__attribute__((target("sse4.2"))) static uint32_t by_hardware(uint32_t crc, const uint8_t *p,
                                                              size_t length)
{
    uint64_t word, wide = crc;

    for (; length >= 8; length -= 8, p += 8) {
        memcpy(&word, p, sizeof word);
        wide = _mm_crc32_u64(wide, word);
    }
    return by_nibbles((uint32_t)wide, p, length);
}

uint32_t crc_add(uint32_t crc, const void *data, size_t length)
{
    if (__builtin_cpu_supports("sse4.2"))
        return ~by_hardware(~crc, data, length);
    return ~by_nibbles(~crc, data, length);
}
#else
uint32_t crc_add(uint32_t crc, const void *data, size_t length)
{
    return ~by_nibbles(~crc, data, length);
}
#endif
