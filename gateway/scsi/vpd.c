/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vpd.c: vital product data (SPC-4 7.8, SBC-4 6.6): who a disk is and what it can.  The table of
 * pages is in ascending order, which page 00 has to keep.
 *
 * A disk's name comes from its UUID, so it is the same on every gateway that serves the disk and
 * never changes: NAA 6 with the OUI of the policy, else the locally assigned NAA 3.
 */
#include "internal.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#define PAGE_BYTES 1024u
#define CODE_SET_BINARY 1u
#define CODE_SET_ASCII 2u
#define CODE_SET_UTF8 3u
#define OF_PORT 0x10u
#define OF_DEVICE 0x20u
#define ISCSI_PROTOCOL 0x50u /* in byte 0, with PIV */
#define PIV 0x80u

/* A page is built behind its header of four bytes; the return is its length without that. */
struct page {
    uint8_t code;
    size_t (*build)(const struct scsi_nexus_lu *n, uint8_t *out);
};

/* --- names -------------------------------------------------------------------------------- */

/* The UUID without dashes. */
static void serial_of(const struct scsi_lu *lu, char serial[33])
{
    const char *uuid = disk_uuid(lu->disk);
    unsigned n = 0;

    for (; *uuid && n < 32; uuid++)
        if (*uuid != '-')
            serial[n++] = *uuid;
    serial[n] = 0;
}

static uint8_t hex_digit(char c)
{
    return (uint8_t)(isdigit((unsigned char)c) ? c - '0' : tolower((unsigned char)c) - 'a' + 10);
}

static void uuid_bytes(const struct scsi_lu *lu, uint8_t bytes[16])
{
    char serial[33];

    serial_of(lu, serial);
    memset(bytes, 0, 16);
    for (unsigned i = 0; i + 1 < strlen(serial); i += 2)
        bytes[i / 2] = (uint8_t)(hex_digit(serial[i]) << 4 | hex_digit(serial[i + 1]));
}

/* SPC-4 7.8.6.6. Version and variant of the UUID are the same for all disks: they are left out. */
size_t lu_naa(const struct scsi_lu *lu, uint8_t naa[16])
{
    uint8_t u[16];

    uuid_bytes(lu, u);
    if (!lu->naa_oui) {
        memcpy(naa, u + 8, 8);
        for (unsigned i = 0; i < 8; i++)
            naa[i] ^= u[i];
        naa[0] = (uint8_t)(0x30 | (naa[0] & 0x0f));
        return 8;
    }
    put24(naa, 0x600000 | lu->naa_oui >> 4);
    naa[3] = (uint8_t)(lu->naa_oui << 4 | (u[0] & 0x0f));
    memcpy(naa + 4, u + 1, 4);
    naa[8] = u[5];
    memcpy(naa + 9, u + 9, 7);
    return 16;
}

/* --- designators (SPC-4 7.8.6.2) ---------------------------------------------------------- */

static uint8_t *designator(uint8_t *at, uint8_t code_set, uint8_t type, const void *value,
                           size_t size)
{
    bool is_iscsi = type & (OF_PORT | OF_DEVICE);

    at[0] = (uint8_t)(code_set | (is_iscsi ? ISCSI_PROTOCOL : 0));
    at[1] = (uint8_t)(type | (is_iscsi ? PIV : 0));
    at[2] = 0;
    at[3] = (uint8_t)size;
    memcpy(at + 4, value, size);
    return at + 4 + size;
}

/* SCSI name strings end with zeros, to a multiple of four (SPC-4 7.8.6.11). */
static uint8_t *name_designator(uint8_t *at, uint8_t of, const char *name)
{
    uint8_t padded[SCSI_NAME_BYTES + 24] = {0};
    size_t length = (strlen(name) + 4) / 4 * 4;

    memcpy(padded, name, strlen(name));
    return designator(at, CODE_SET_UTF8, 8 | of, padded, length);
}

static uint8_t *port_name(const struct scsi_nexus *nexus, uint8_t *at)
{
    char name[SCSI_NAME_BYTES + 16];

    snprintf(name, sizeof name, "%s,t,0x%04x", nexus->target->name, nexus->portal_group);
    return name_designator(at, OF_PORT, name);
}

static uint8_t *lu_names(const struct scsi_lu *lu, uint8_t *at)
{
    uint8_t naa[16], vendor[8 + 32];
    char serial[33], name[40] = "naa.";
    size_t length = lu_naa(lu, naa);

    serial_of(lu, serial);
    at = designator(at, CODE_SET_BINARY, 3, naa, length);
    put_ascii(vendor, 8, lu->vendor);
    put_ascii(vendor + 8, 32, serial);
    at = designator(at, CODE_SET_ASCII, 1, vendor, sizeof vendor);
    for (size_t i = 0; i < length; i++)
        snprintf(name + 4 + 2 * i, 3, "%02x", naa[i]);
    return name_designator(at, 0, name);
}

static size_t identification(const struct scsi_nexus_lu *n, uint8_t *out)
{
    const struct scsi_nexus *nexus = n->nexus;
    uint8_t *at = lu_names(n->lu, out), four[4] = {0};

    put16(four + 2, nexus->portal_group);
    at = designator(at, CODE_SET_BINARY, 4 | OF_PORT, four, 4); /* relative target port */
    at = designator(at, CODE_SET_BINARY, 5 | OF_PORT, four, 4); /* target port group */
    at = port_name(nexus, at);
    at = name_designator(at, OF_DEVICE, nexus->target->name);
    return (size_t)(at - out);
}

/* --- other pages -------------------------------------------------------------------------- */

static size_t serial_number(const struct scsi_nexus_lu *n, uint8_t *out)
{
    char serial[33];

    serial_of(n->lu, serial);
    memcpy(out, serial, strlen(serial));
    return strlen(serial);
}

static size_t extended_inquiry(const struct scsi_nexus_lu *n, uint8_t *out)
{
    (void)n;
    out[1] = 0x27; /* UASK_SUP, HEADSUP, ORDSUP, SIMPSUP */
    out[2] = 0x01; /* V_SUP */
    out[9] = SCSI_SENSE_BYTES;
    return 0x3c;
}

/* Every page is shared by all nexuses. */
static size_t mode_page_policy(const struct scsi_nexus_lu *n, uint8_t *out)
{
    (void)n;
    out[0] = 0x3f;
    out[1] = 0xff;
    return 4;
}

static size_t scsi_ports(const struct scsi_nexus_lu *n, uint8_t *out)
{
    uint8_t *at = port_name(n->nexus, out + 12);

    put16(out + 2, n->nexus->portal_group);
    put16(out + 10, (uint32_t)(at - (out + 12)));
    return (size_t)(at - out);
}

static size_t block_limits(const struct scsi_nexus_lu *n, uint8_t *out)
{
    const struct scsi_lu *lu = n->lu;
    uint8_t *p = out - 4; /* offsets as in SBC-4 table 232 */
    uint32_t physical = lu->physical_bytes >> lu->block_shift;

    p[5] = COMPARE_AND_WRITE_BLOCKS_MAX;
    put16(p + 6, physical);
    put32(p + 8, SCSI_TRANSFER_MAX >> lu->block_shift);
    put32(p + 12, (1u << 20) >> lu->block_shift);
    if (lu_is_thin(lu)) {
        put32(p + 20, 0xffffffff);
        put32(p + 24, UNMAP_DESCRIPTORS_MAX);
        put32(p + 28, physical);
        put32(p + 32, 0x80000000u);
    }
    put64(p + 36, WRITE_SAME_BYTES_MAX >> lu->block_shift);
    if (lu_is_atomic(lu))
        put32(p + 44, ATOMIC_BYTES_MAX >> lu->block_shift);
    return 0x3c;
}

static size_t characteristics(const struct scsi_nexus_lu *n, uint8_t *out)
{
    put16(out, 1); /* non-rotating */
    if (lu_may_erase_blocks(n->lu))
        out[3] = 0x50; /* WABEREQ, WACEREQ 01b: what was erased reads without an error */
    return 0x3c;
}

static size_t provisioning(const struct scsi_nexus_lu *n, uint8_t *out)
{
    if (lu_is_thin(n->lu)) {
        out[0] = (uint8_t)(PROVISIONING_UNIT_SHIFT - n->lu->block_shift);
        out[1] = 0xe4; /* LBPU, LBPWS, LBPWS10, LBPRZ 001b */
        out[2] = 0x02; /* thin */
    }
    return 4;
}

static size_t supported(const struct scsi_nexus_lu *n, uint8_t *out);

static const struct page pages[] = {
    {0x00, supported},        {0x80, serial_number},    {0x83, identification},
    {0x86, extended_inquiry}, {0x87, mode_page_policy}, {0x88, scsi_ports},
    {0x8f, third_party_copy}, {0xb0, block_limits},     {0xb1, characteristics},
    {0xb2, provisioning},
};

static size_t supported(const struct scsi_nexus_lu *n, uint8_t *out)
{
    unsigned count = n->lu ? ARRAY_SIZE(pages) : 1;

    for (unsigned i = 0; i < count; i++)
        out[i] = pages[i].code;
    return count;
}

static const struct page *find_page(const struct scsi_nexus_lu *n, uint8_t code)
{
    for (unsigned i = 0; i < (n->lu ? ARRAY_SIZE(pages) : 1); i++)
        if (pages[i].code == code)
            return &pages[i];
    return NULL;
}

enum io_status vital_product_data(struct scsi_command *c)
{
    const struct page *page = find_page(c->nexus_lu, c->cdb[2]);
    uint8_t data[4 + PAGE_BYTES] = {0};
    size_t length;

    if (!page) {
        sense_bad_cdb(c, 2, NO_BIT);
        return IO_DONE;
    }
    length = page->build(c->nexus_lu, data + 4);
    data[0] = c->nexus_lu->lu ? 0 : 0x7f;
    data[1] = page->code;
    put16(data + 2, (uint32_t)length);
    command_answer(c, data, 4 + length, c->blocks);
    return IO_DONE;
}
