/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * crc32c: the Castagnoli CRC of iSCSI digests (RFC 7143 section 13.1, polynomial 1EDC6F41h
 * reflected) and of everything we keep on disk.
 *
 * With SSE4.2 three independent stripes are computed side by side, because the crc32 instruction
 * takes three cycles but can start every cycle; their results are joined with a table that advances
 * a CRC over a stripe of zeros (a linear map, so 32 basis vectors make the table).  The stripe
 * sizes are chosen so that three of them nearly fill 4096 and 512 bytes.  Elsewhere: eight tables.
 * The implementation is chosen once, at first use.
 */
#include "base/base.h"

#include <string.h>

#define POLYNOMIAL 0x82f63b78u /* 1EDC6F41h, reflected */

typedef uint32_t crc_fn(uint32_t crc, const uint8_t *p, size_t length);

static uint32_t choose_and_run(uint32_t crc, const uint8_t *p, size_t length);
static _Atomic(crc_fn *) chosen = choose_and_run;

static uint32_t byte_tables[8][256];

static void make_byte_tables(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;

        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ ((crc & 1) ? POLYNOMIAL : 0);
        byte_tables[0][i] = crc;
    }
    for (uint32_t i = 0; i < 256; i++)
        for (int t = 1; t < 8; t++) {
            uint32_t shorter = byte_tables[t - 1][i];

            byte_tables[t][i] = (shorter >> 8) ^ byte_tables[0][shorter & 0xff];
        }
}

/* Eight bytes at once, any byte order: the bytes are taken one by one. */
static uint32_t by_tables(uint32_t crc, const uint8_t *p, size_t length)
{
    for (; length >= 8; length -= 8, p += 8)
        crc = byte_tables[7][(crc ^ p[0]) & 0xff] ^ byte_tables[6][((crc >> 8) ^ p[1]) & 0xff] ^
              byte_tables[5][((crc >> 16) ^ p[2]) & 0xff] ^ byte_tables[4][(crc >> 24) ^ p[3]] ^
              byte_tables[3][p[4]] ^ byte_tables[2][p[5]] ^ byte_tables[1][p[6]] ^
              byte_tables[0][p[7]];
    for (; length; length--, p++)
        crc = (crc >> 8) ^ byte_tables[0][(crc ^ *p) & 0xff];
    return crc;
}

#if defined(__x86_64__)
#include <nmmintrin.h>

#define SSE42 __attribute__((target("sse4.2")))
#define STRIPE_LONG 1360u /* 3 * 1360 = 4080 */
#define STRIPE_SHORT 168u /* 3 * 168 = 504 */

/* advance[k][n]: the CRC n << 8k after a stripe of zeros. */
struct stripe_table {
    uint32_t advance[4][256];
};
static struct stripe_table long_stripes, short_stripes;

static inline uint64_t load64(const uint8_t *p)
{
    uint64_t value;

    memcpy(&value, p, sizeof value);
    return value;
}

SSE42 static uint32_t one_stripe(uint32_t crc, const uint8_t *p, size_t length)
{
    for (; length >= 8; length -= 8, p += 8)
        crc = (uint32_t)_mm_crc32_u64(crc, load64(p));
    for (; length; length--, p++)
        crc = _mm_crc32_u8(crc, *p);
    return crc;
}

static inline uint32_t over_zeros(const struct stripe_table *t, uint32_t crc)
{
    return t->advance[0][crc & 0xff] ^ t->advance[1][(crc >> 8) & 0xff] ^
           t->advance[2][(crc >> 16) & 0xff] ^ t->advance[3][crc >> 24];
}

SSE42 static inline uint32_t three_stripes(uint32_t crc, const uint8_t *p, size_t stripe,
                                           const struct stripe_table *t)
{
    uint64_t first = crc, second = 0, third = 0;

    for (const uint8_t *end = p + stripe; p < end; p += 8) {
        first = _mm_crc32_u64(first, load64(p));
        second = _mm_crc32_u64(second, load64(p + stripe));
        third = _mm_crc32_u64(third, load64(p + 2 * stripe));
    }
    second ^= over_zeros(t, (uint32_t)first);
    return (uint32_t)third ^ over_zeros(t, (uint32_t)second);
}

SSE42 static uint32_t by_sse42(uint32_t crc, const uint8_t *p, size_t length)
{
    for (; length >= 3 * STRIPE_LONG; length -= 3 * STRIPE_LONG, p += 3 * STRIPE_LONG)
        crc = three_stripes(crc, p, STRIPE_LONG, &long_stripes);
    for (; length >= 3 * STRIPE_SHORT; length -= 3 * STRIPE_SHORT, p += 3 * STRIPE_SHORT)
        crc = three_stripes(crc, p, STRIPE_SHORT, &short_stripes);
    return one_stripe(crc, p, length);
}

SSE42 static void make_stripe_table(struct stripe_table *t, size_t stripe)
{
    static const uint8_t zeros[STRIPE_LONG];

    for (unsigned k = 0; k < 4; k++)
        for (unsigned bit = 0; bit < 8; bit++) {
            uint32_t image = one_stripe(1u << (8 * k + bit), zeros, stripe);

            for (unsigned n = 0; n < 256; n++)
                t->advance[k][n] ^= (n >> bit & 1) ? image : 0;
        }
}

static crc_fn *choose(void)
{
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("sse4.2"))
        return by_tables;
    make_stripe_table(&long_stripes, STRIPE_LONG);
    make_stripe_table(&short_stripes, STRIPE_SHORT);
    return by_sse42;
}
#else
static crc_fn *choose(void)
{
    return by_tables;
}
#endif

static void choose_once(void)
{
    make_byte_tables();
    atomic_store_explicit(&chosen, choose(), memory_order_release);
}

static uint32_t choose_and_run(uint32_t crc, const uint8_t *p, size_t length)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, choose_once);
    return atomic_load_explicit(&chosen, memory_order_acquire)(crc, p, length);
}

uint32_t crc32c(uint32_t crc, const void *data, size_t length)
{
    return ~atomic_load_explicit(&chosen, memory_order_acquire)(~crc, data, length);
}

uint32_t crc32c_by_tables(uint32_t crc, const void *data, size_t length)
{
    crc32c(0, "", 0);
    return ~by_tables(~crc, data, length);
}
