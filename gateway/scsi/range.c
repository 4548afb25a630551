/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * range.c: which blocks a command means.  The commands of one length have their fields in the same
 * places (SBC-4 5.9 to 5.60), so one row of a table describes them.
 */
#include "internal.h"

#define PROTECT_SHIFT 5u

static const struct {
    uint8_t cdb_bytes, lba_at, lba_bytes, blocks_at, blocks_bytes;
} layouts[] = {
    {6, 1, 3, 4, 1},
    {10, 2, 4, 7, 2},
    {12, 2, 4, 6, 4},
    {16, 2, 8, 10, 4},
};

static uint64_t field(const struct scsi_command *c, unsigned at, unsigned bytes)
{
    uint64_t v = 0;

    for (unsigned i = 0; i < bytes; i++)
        v = v << 8 | c->cdb[at + i];
    return v;
}

static unsigned layout_of(const struct scsi_command *c)
{
    unsigned i = 0;

    while (i + 1 < ARRAY_SIZE(layouts) && layouts[i].cdb_bytes != c->operation->cdb_bytes)
        i++;
    return i;
}

unsigned range_length_at(const struct scsi_command *c)
{
    return layouts[layout_of(c)].blocks_at;
}

/* RDPROTECT, WRPROTECT, VRPROTECT: protection information is not supported (SBC-4 table 33). */
static bool check_protect(struct scsi_command *c)
{
    if (c->operation->cdb_bytes == 6 || c->cdb[1] >> PROTECT_SHIFT == 0)
        return true;
    sense_bad_cdb(c, 1, 7);
    return false;
}

bool range_any(struct scsi_command *c)
{
    unsigned i = layout_of(c);

    c->lba = field(c, layouts[i].lba_at, layouts[i].lba_bytes);
    c->blocks = field(c, layouts[i].blocks_at, layouts[i].blocks_bytes);
    if (layouts[i].cdb_bytes == 6) {
        c->lba &= 0x1fffff;
        if (c->blocks == 0)
            c->blocks = 256; /* SBC-4 5.11 */
    }
    return check_protect(c) && check_range(c);
}

void range_set_transfer(struct scsi_command *c, uint64_t blocks)
{
    uint64_t bytes = blocks << c->nexus_lu->lu->block_shift;

    if (bytes > SCSI_TRANSFER_MAX)
        sense_bad_cdb(c, range_length_at(c), NO_BIT);
    else
        c->transfer_bytes = (uint32_t)bytes;
}
