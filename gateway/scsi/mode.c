/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * mode.c: mode pages, MODE SENSE and MODE SELECT (SPC-4 6.11 to 6.14, 7.5; SBC-4 6.5).
 *
 * A page is a row: its defaults, and which bits an initiator may change.  What can be changed is
 * kept as flags of the logical unit, shared by all initiators; nothing is saved over a restart (PS
 * and SP are 0).  MODE SELECT checks everything before it changes anything.
 */
#include "internal.h"

#include <string.h>

#define PAGE_BYTES_MAX 40u
#define ALL_PAGES 0x3fu
#define ALL_SUBPAGES 0xffu
#define SUBPAGE_FORMAT 0x40u
#define WP 0x80u
#define DPOFUA 0x10u

enum page_control { CURRENT, CHANGEABLE, DEFAULT, SAVED };

/* What can be changed: a bit of a page, and the flag that it sets. */
struct mode_bit {
    uint8_t page, byte, mask;
    size_t flag; /* offset in struct scsi_lu */
    bool is_set; /* by default */
};
static const struct mode_bit mode_bits[] = {
    {0x08, 2, 0x04, offsetof(struct scsi_lu, is_write_cached), true},      /* WCE */
    {0x0a, 2, 0x04, offsetof(struct scsi_lu, is_descriptor_sense), false}, /* D_SENSE */
    {0x0a, 4, 0x08, offsetof(struct scsi_lu, is_write_protected), false},  /* SWP */
    {0x0a, 5, 0x40, offsetof(struct scsi_lu, is_task_aborted_told), true}, /* TAS */
};

struct mode_page {
    uint8_t page, subpage, bytes; /* the whole page */
    uint8_t fixed[12];            /* from byte 0, without the bits above; the rest is zero */
};
static const struct mode_page mode_pages[] = {
    /* AWRE, ARRE: the backing's own business; LBPERE: thresholds are told */
    {0x01, 0, 12, {0x01, 0x0a, 0xc0, 0, 0, 0, 0, 0x80}},
    {0x02, 0, 16, {0x02, 0x0e}},
    {0x08, 0, 20, {0x08, 0x12}},
    {0x0a, 0, 12, {0x0a, 0x0a, 0x20, 0x10, 0, 0, 0, 0, 0xff, 0xff}}, /* TST 1, QAM 1 */
    {0x0a, 1, 32, {0x4a, 0x01, 0, 0x1c}},
    {0x1a, 0, 40, {0x1a, 0x26}},
    {0x1c, 0, 12, {0x1c, 0x0a}},
    {0x1c, 2, 24, {0x5c, 0x02, 0, 0x14}},
};

static _Atomic bool *flag_of(struct scsi_lu *lu, const struct mode_bit *bit)
{
    return (_Atomic bool *)(void *)((char *)lu + bit->flag);
}

static bool bit_value(struct scsi_lu *lu, const struct mode_bit *bit, enum page_control control)
{
    if (control == CHANGEABLE)
        return true;
    return control == DEFAULT ? bit->is_set : atomic_load(flag_of(lu, bit));
}

/* SBC-4 6.5.9: one threshold, of what is left, armed for decrease. */
static void put_threshold(struct scsi_lu *lu, uint8_t *descriptor)
{
    struct scsi_space space;

    descriptor[1] = 0x01;
    if (!lu_space(lu, &space) || space.threshold_bytes == 0)
        return;
    descriptor[0] = 0x80;
    put32(descriptor + 4,
          (uint32_t)MIN(space.threshold_bytes >> PROVISIONING_UNIT_SHIFT, UINT64_C(0xffffffff)));
}

static void build_page(struct scsi_lu *lu, const struct mode_page *page, enum page_control control,
                       uint8_t *out)
{
    unsigned header = page->subpage ? 4 : 2;

    memset(out, 0, page->bytes);
    memcpy(out, page->fixed, control == CHANGEABLE ? header : sizeof page->fixed);
    if (page->page == 0x1c && page->subpage == 2 && control != CHANGEABLE)
        put_threshold(lu, out + 16);
    if (page->subpage)
        return;
    for (unsigned i = 0; i < ARRAY_SIZE(mode_bits); i++)
        if (mode_bits[i].page == page->page && bit_value(lu, &mode_bits[i], control))
            out[mode_bits[i].byte] |= mode_bits[i].mask;
}

/* --- MODE SENSE --------------------------------------------------------------------------- */

static bool is_wanted(const struct mode_page *p, uint8_t page, uint8_t subpage)
{
    if (page != ALL_PAGES && page != p->page)
        return false;
    return subpage == ALL_SUBPAGES || subpage == p->subpage;
}

static size_t add_pages(struct scsi_lu *lu, const struct scsi_command *c, uint8_t *out)
{
    enum page_control control = c->cdb[2] >> 6;
    size_t length = 0;

    for (unsigned i = 0; i < ARRAY_SIZE(mode_pages); i++)
        if (is_wanted(&mode_pages[i], c->cdb[2] & 0x3f, c->cdb[3])) {
            build_page(lu, &mode_pages[i], control, out + length);
            length += mode_pages[i].bytes;
        }
    return length;
}

/* SBC-4 6.5.2: short and long block descriptors. */
static size_t add_block_descriptor(const struct scsi_lu *lu, bool is_long, uint8_t *out)
{
    uint64_t blocks = lu_blocks(lu);

    if (is_long) {
        put64(out, blocks);
        put32(out + 8, 0);
        put32(out + 12, lu->block_bytes);
        return 16;
    }
    put32(out, (uint32_t)MIN(blocks, UINT64_C(0xffffffff)));
    put32(out + 4, lu->block_bytes);
    return 8;
}

bool lu_is_write_protected(const struct scsi_lu *lu)
{
    return atomic_load_explicit(&lu->is_write_protected, memory_order_relaxed) ||
           disk_is_read_only(lu->disk);
}

static void put_header(const struct scsi_lu *lu, uint8_t *out, bool is_short, bool is_long_lba,
                       size_t descriptor, size_t total)
{
    uint8_t device = (uint8_t)((lu_is_write_protected(lu) ? WP : 0) | DPOFUA);

    if (is_short) {
        out[0] = (uint8_t)(total - 1);
        out[2] = device;
        out[3] = (uint8_t)descriptor;
        return;
    }
    put16(out, (uint32_t)(total - 2));
    out[3] = device;
    out[4] = is_long_lba;
    put16(out + 6, (uint32_t)descriptor);
}

enum io_status run_mode_sense(struct scsi_command *c)
{
    struct scsi_lu *lu = c->nexus_lu->lu;
    uint8_t data[8 + 16 + ARRAY_SIZE(mode_pages) * PAGE_BYTES_MAX] = {0};
    bool is_short = c->operation->cdb_bytes == 6;
    bool is_long_lba = !is_short && c->cdb[1] & 0x10, has_descriptor = !(c->cdb[1] & 0x08);
    size_t header = is_short ? 4 : 8, descriptor = 0, pages;

    if (c->cdb[2] >> 6 == SAVED) {
        sense_set(c, SENSE_ILLEGAL_REQUEST, ASC_SAVING_NOT_SUPPORTED);
        return IO_DONE;
    }
    if (has_descriptor)
        descriptor = add_block_descriptor(lu, is_long_lba, data + header);
    pages = add_pages(lu, c, data + header + descriptor);
    if (pages == 0) {
        sense_bad_cdb(c, 2, 5);
        return IO_DONE;
    }
    put_header(lu, data, is_short, is_long_lba, descriptor, header + descriptor + pages);
    command_answer(c, data, header + descriptor + pages, c->blocks);
    return IO_DONE;
}

/* --- MODE SELECT -------------------------------------------------------------------------- */

void decode_mode_select(struct scsi_command *c)
{
    bool is_short = c->operation->cdb_bytes == 6;

    if (c->cdb[1] & 0x01)
        sense_bad_cdb(c, 1, 0); /* SP */
    else if (!(c->cdb[1] & 0x10))
        sense_bad_cdb(c, 1, 4); /* PF: only pages as in the standard */
    else
        c->transfer_bytes = is_short ? c->cdb[4] : get16(c->cdb + 7);
}

static const struct mode_page *find_page(uint8_t page, uint8_t subpage)
{
    for (unsigned i = 0; i < ARRAY_SIZE(mode_pages); i++)
        if (mode_pages[i].page == page && mode_pages[i].subpage == subpage)
            return &mode_pages[i];
    return NULL;
}

/* The first byte that differs where it may not, or 0. */
static unsigned find_forbidden(struct scsi_lu *lu, const struct mode_page *page, const uint8_t *new)
{
    uint8_t now[PAGE_BYTES_MAX], may[PAGE_BYTES_MAX];

    build_page(lu, page, CURRENT, now);
    build_page(lu, page, CHANGEABLE, may);
    for (unsigned i = page->subpage ? 4 : 2; i < page->bytes; i++)
        if ((now[i] ^ new[i]) & ~may[i])
            return i;
    return 0;
}

/* Looks at the page at `at`; its length, or 0 with sense. */
static unsigned check_page(struct scsi_command *c, const uint8_t *list, unsigned at,
                           unsigned length)
{
    bool has_subpage = list[at] & SUBPAGE_FORMAT;
    unsigned header = has_subpage ? 4 : 2, bytes, wrong;
    const struct mode_page *page;

    if (length - at < header) {
        sense_set(c, SENSE_ILLEGAL_REQUEST, ASC_PARAMETER_LIST_LENGTH);
        return 0;
    }
    page = find_page(list[at] & 0x3f, has_subpage ? list[at + 1] : 0);
    if (!page) {
        sense_bad_list(c, at, 5);
        return 0;
    }
    bytes = header + (has_subpage ? get16(list + at + 2) : list[at + 1]);
    if (bytes != page->bytes) {
        sense_bad_list(c, has_subpage ? at + 2 : at + 1, NO_BIT);
        return 0;
    }
    if (bytes > length - at) {
        sense_set(c, SENSE_ILLEGAL_REQUEST, ASC_PARAMETER_LIST_LENGTH);
        return 0;
    }
    wrong = find_forbidden(c->nexus_lu->lu, page, list + at);
    if (wrong) {
        sense_bad_list(c, at + wrong, NO_BIT);
        return 0;
    }
    return bytes;
}

/* A descriptor may repeat what is, or say 0 or all ones for "as it is". */
static bool check_descriptor(struct scsi_command *c, const uint8_t *d, unsigned at, unsigned bytes)
{
    const struct scsi_lu *lu = c->nexus_lu->lu;
    uint64_t blocks = bytes == 16 ? get64(d) : get32(d),
             all = bytes == 16 ? UINT64_MAX : UINT32_MAX;
    uint32_t block_bytes = bytes == 16 ? get32(d + 12) : get24(d + 5);

    if (blocks != 0 && blocks != all && blocks != lu_blocks(lu)) {
        sense_bad_list(c, at, NO_BIT);
        return false;
    }
    if (block_bytes != lu->block_bytes) {
        sense_bad_list(c, at + (bytes == 16 ? 12 : 5), NO_BIT);
        return false;
    }
    return true;
}

/* Where the pages begin, or 0 with sense. */
static unsigned check_header(struct scsi_command *c, const uint8_t *list, unsigned length)
{
    bool is_short = c->operation->cdb_bytes == 6;
    unsigned header = is_short ? 4 : 8, descriptor, want;

    if (length < header) {
        sense_set(c, SENSE_ILLEGAL_REQUEST, ASC_PARAMETER_LIST_LENGTH);
        return 0;
    }
    descriptor = is_short ? list[3] : get16(list + 6);
    want = !is_short && list[4] & 1 ? 16 : 8;
    if (descriptor != 0 && descriptor != want) {
        sense_bad_list(c, is_short ? 3 : 6, NO_BIT);
        return 0;
    }
    if (length - header < descriptor) {
        sense_set(c, SENSE_ILLEGAL_REQUEST, ASC_PARAMETER_LIST_LENGTH);
        return 0;
    }
    if (descriptor && !check_descriptor(c, list + header, header, descriptor))
        return 0;
    return header + descriptor;
}

static bool check_pages(struct scsi_command *c, const uint8_t *list, unsigned at, unsigned length)
{
    while (at < length) {
        unsigned bytes = check_page(c, list, at, length);

        if (!bytes)
            return false;
        at += bytes;
    }
    return true;
}

/* True: something has changed. */
static bool apply_pages(struct scsi_lu *lu, const uint8_t *list, unsigned at, unsigned length)
{
    bool is_changed = false;

    while (at < length) {
        bool has_subpage = list[at] & SUBPAGE_FORMAT;
        const uint8_t *page = list + at;

        at += has_subpage ? 4 + get16(page + 2) : 2u + page[1];
        for (unsigned i = 0; i < ARRAY_SIZE(mode_bits) && !has_subpage; i++) {
            const struct mode_bit *bit = &mode_bits[i];
            bool value = page[bit->byte < 2 ? 2 : bit->byte] & bit->mask;

            if (bit->page == (page[0] & 0x3f))
                is_changed |= atomic_exchange(flag_of(lu, bit), value) != value;
        }
    }
    return is_changed;
}

enum io_status run_mode_select(struct scsi_command *c)
{
    struct scsi_nexus_lu *n = c->nexus_lu;
    const uint8_t *list = c->data;
    bool was_cached = n->lu->is_write_cached;
    unsigned at;

    if (c->transfer_bytes == 0)
        return IO_DONE;
    if (c->data_bytes < c->transfer_bytes) {
        sense_set(c, SENSE_ILLEGAL_REQUEST, ASC_PARAMETER_LIST_LENGTH);
        return IO_DONE;
    }
    at = check_header(c, list, c->data_bytes);
    if (!at || !check_pages(c, list, at, c->data_bytes))
        return IO_DONE;
    if (apply_pages(n->lu, list, at, c->data_bytes))
        attention_raise_all(n->lu, n, ATTENTION_MODE_CHANGED);
    if (was_cached && !n->lu->is_write_cached)
        return run_synchronize(c); /* what was written before is stable as well */
    return IO_DONE;
}

/* A reset: back to the defaults, as nothing is saved. */
void mode_reset(struct scsi_lu *lu)
{
    for (unsigned i = 0; i < ARRAY_SIZE(mode_bits); i++)
        atomic_store(flag_of(lu, &mode_bits[i]), mode_bits[i].is_set);
}
