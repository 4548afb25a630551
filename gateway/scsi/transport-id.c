/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * transport-id.c: TransportIDs of iSCSI (SPC-4 7.6.4.6): "name" or "name,i,0xISID" behind a header
 * of four bytes, ended by at least one zero, padded to a multiple of four.  What comes from outside
 * is taken by length, never as a string.
 */
#include "internal.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#define ISCSI 0x05u
#define WITH_ISID 0x40u
#define LENGTH_MIN 20u
#define SEPARATOR ",i,0x"

size_t transport_id_put(uint8_t *out, const struct initiator_port *port)
{
    char text[SCSI_NAME_BYTES + 20];
    size_t length;

    if (port->is_any_isid)
        snprintf(text, sizeof text, "%s", port->name);
    else
        snprintf(text, sizeof text, "%s" SEPARATOR "%02x%02x%02x%02x%02x%02x", port->name,
                 port->isid[0], port->isid[1], port->isid[2], port->isid[3], port->isid[4],
                 port->isid[5]);
    length = MAX((strlen(text) + 4) / 4 * 4, (size_t)LENGTH_MIN);
    memset(out, 0, 4 + length);
    out[0] = (uint8_t)(ISCSI | (port->is_any_isid ? 0 : WITH_ISID));
    put16(out + 2, (uint32_t)length);
    memcpy(out + 4, text, strlen(text));
    return 4 + length;
}

static bool parse_isid(const char *text, uint8_t isid[6])
{
    for (unsigned i = 0; i < 12; i++) {
        char digit[2] = {text[i], 0};

        if (!isxdigit((unsigned char)text[i]))
            return false;
        isid[i / 2] = (uint8_t)(isid[i / 2] << 4 | strtoul(digit, NULL, 16));
    }
    return text[12] == 0;
}

/* Of the characters that a login may have in it: another name could never be there, nor be stored.
 */
static bool take_name(struct initiator_port *out, const char *text, size_t length)
{
    if (length == 0 || length >= sizeof out->name)
        return false;
    memset(out, 0, sizeof *out);
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text[i];

        if (!isalnum(c) && c != '-' && c != '.' && c != ':')
            return false;
        out->name[i] = (char)tolower(c);
    }
    return true;
}

size_t transport_id_parse(const uint8_t *id, size_t length, struct initiator_port *out)
{
    char text[SCSI_NAME_BYTES + 40];
    size_t size;
    const char *separator;

    if (length < 4 || (id[0] & 0x3f) != ISCSI || (id[0] & 0x80))
        return 0;
    size = get16(id + 2);
    if (size > length - 4 || size < LENGTH_MIN || size % 4 || size >= sizeof text)
        return 0;
    memcpy(text, id + 4, size);
    if (text[size - 1] != 0)
        return 0;
    if (!(id[0] & WITH_ISID)) {
        if (!take_name(out, text, strlen(text)))
            return 0;
        out->is_any_isid = true;
        return 4 + size;
    }
    separator = strstr(text, SEPARATOR);
    if (!separator || !take_name(out, text, (size_t)(separator - text)))
        return 0;
    return parse_isid(separator + strlen(SEPARATOR), out->isid) ? 4 + size : 0;
}
