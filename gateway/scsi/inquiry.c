/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * inquiry.c: the standard data of INQUIRY and the dispatch to vital product data (SPC-4 6.6).
 */
#include "internal.h"

#include <string.h>

#define EVPD 0x01u
#define STANDARD_BYTES 96u
#define NO_LU 0x7fu /* qualifier 011b, type 1Fh */

/* Pads with blanks, as ASCII fields are (SPC-4 4.3.1). */
void put_ascii(uint8_t *to, size_t size, const char *text)
{
    size_t length = strlen(text);

    memset(to, ' ', size);
    memcpy(to, text, MIN(length, size));
}

/* SAM-5, SPC-4, SBC-3 (SBC-4 commands beyond it are told by RSOC), iSCSI. */
static const uint16_t version_descriptors[] = {0x00a0, 0x0460, 0x04c0, 0x0960};

static enum io_status standard(struct scsi_command *c)
{
    const struct scsi_lu *lu = c->nexus_lu->lu;
    uint8_t data[STANDARD_BYTES] = {0};

    data[0] = lu ? 0 : NO_LU;
    data[2] = 6;    /* SPC-4 */
    data[3] = 0x12; /* HISUP, response data format 2 */
    data[4] = STANDARD_BYTES - 5;
    data[5] = 0x18; /* TPGS implicit, 3PC */
    data[7] = 0x02; /* CMDQUE */
    put_ascii(data + 8, 8, lu ? lu->vendor : "SLUICE");
    put_ascii(data + 16, 16, lu ? lu->product : "DISK");
    put_ascii(data + 32, 4, lu ? lu->revision : "0001");
    for (unsigned i = 0; i < ARRAY_SIZE(version_descriptors); i++)
        put16(data + 58 + 2 * i, version_descriptors[i]);
    command_answer(c, data, sizeof data, c->blocks);
    return IO_DONE;
}

enum io_status run_inquiry(struct scsi_command *c)
{
    if (c->cdb[1] & EVPD)
        return vital_product_data(c);
    if (c->cdb[2]) {
        sense_bad_cdb(c, 2, NO_BIT);
        return IO_DONE;
    }
    return standard(c);
}
