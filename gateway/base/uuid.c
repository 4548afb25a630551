/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * uuid: random UUIDs (RFC 9562 section 5.4) in text, and the check of text from outside.
 *
 * Only the random form is made; any version is accepted, in lower or upper case.
 */
#include "base/base.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

/* getrandom(2) gives up to 256 bytes whole once the pool is ready; it can only be interrupted. */
static void random_bytes(uint8_t *bytes, size_t length)
{
    ssize_t got;

    do
        got = getrandom(bytes, length, 0);
    while (got < 0 && errno == EINTR);
    if (got != (ssize_t)length)
        abort(); /* a kernel without getrandom: nothing random can be promised */
}

void uuid_make(char text[37])
{
    uint8_t b[16];

    random_bytes(b, sizeof b);
    b[6] = (uint8_t)((b[6] & 0x0f) | 0x40); /* version 4 */
    b[8] = (uint8_t)((b[8] & 0x3f) | 0x80); /* variant 10 */
    snprintf(text, 37, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0],
             b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13],
             b[14], b[15]);
}

bool uuid_is_valid(const char *text)
{
    static const char pattern[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";

    for (size_t i = 0; i < sizeof pattern - 1; i++) {
        if (text[i] == '\0')
            return false;
        if (pattern[i] == '-' ? text[i] != '-' : !strchr("0123456789abcdefABCDEF", text[i]))
            return false;
    }
    return text[sizeof pattern - 1] == '\0';
}
