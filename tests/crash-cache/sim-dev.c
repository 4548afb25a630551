/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sim-dev.c: a device with a volatile cache.  `now` is what a read gets; `media` is what a power
 * cut leaves.  Sectors of 512 bytes are written whole or not at all, in any order.
 */
#include "sim.h"

#define SECTOR 512u

void dev_make(struct dev *d, uint64_t size)
{
    d->size = size;
    d->now = calloc(1, size);
    d->media = calloc(1, size);
    d->last = &d->first;
}

static void forget_writes(struct dev *d)
{
    while (d->first) {
        struct dev_write *w = d->first;

        d->first = w->next;
        free(w);
    }
    d->last = &d->first;
}

void dev_wipe(struct dev *d)
{
    forget_writes(d);
    memset(d->now, 0, d->size);
    memset(d->media, 0, d->size);
}

void dev_apply(struct dev *d, uint64_t offset, uint64_t length, const uint8_t *data)
{
    struct dev_write *w = malloc(sizeof *w + length);

    if (offset + length > d->size)
        abort();
    w->next = NULL;
    w->offset = offset;
    w->length = length;
    w->number = ++d->number;
    w->data = (uint8_t *)(w + 1);
    if (data)
        memcpy(w->data, data, length);
    else
        memset(w->data, 0, length);
    memcpy(d->now + offset, w->data, length);
    *d->last = w;
    d->last = &w->next;
}

uint64_t dev_flush_begin(struct dev *d)
{
    return d->number;
}

void dev_flush_end(struct dev *d, uint64_t until)
{
    while (d->first && d->first->number <= until) {
        struct dev_write *w = d->first;

        memcpy(d->media + w->offset, w->data, w->length);
        d->first = w->next;
        if (!d->first)
            d->last = &d->first;
        free(w);
    }
}

static bool is_apart(const struct dev_write *w, uint64_t offset, uint64_t length)
{
    return w->offset >= offset + length || offset >= w->offset + w->length;
}

void dev_write(struct dev *d, uint64_t offset, uint64_t length, const uint8_t *data, bool is_fua)
{
    uint64_t overlaps = 0;

    if (!is_fua) {
        dev_apply(d, offset, length, data);
        return;
    }
    for (const struct dev_write *w = d->first; w; w = w->next)
        if (!is_apart(w, offset, length))
            overlaps = w->number;
    dev_flush_end(d, overlaps); /* what is overwritten is not to come back */
    memcpy(d->now + offset, data, length);
    memcpy(d->media + offset, data, length);
}

void dev_apply_torn(struct dev *d, uint64_t offset, uint64_t length, const uint8_t *data)
{
    uint32_t how = sim_below(4);
    uint64_t end = how == 1 ? sim_below((uint32_t)(length / SECTOR + 1)) * SECTOR : length;

    if (how == 0)
        return;
    if (how == 3) {
        dev_apply(d, offset, length, data);
        return;
    }
    for (uint64_t at = 0; at < end; at += SECTOR)
        if (how == 1 || sim_one_in(2))
            dev_apply(d, offset + at, SECTOR, data ? data + at : NULL);
}

static void apply_sectors(struct dev *d, const struct dev_write *w, bool all)
{
    for (uint64_t at = 0; at < w->length; at += SECTOR)
        if (all || sim_one_in(2))
            memcpy(d->media + w->offset + at, w->data + at, SECTOR);
}

void dev_power_cut(struct dev *d)
{
    uint32_t how = sim_below(4), left = 0;

    for (struct dev_write *w = d->first; w; w = w->next)
        left++;
    if (how == 1)
        left = sim_below(left + 1);
    for (struct dev_write *w = d->first; w && how; w = w->next) {
        if (how == 1 && left-- == 0) {
            apply_sectors(d, w, false); /* the prefix ends in a torn one */
            break;
        }
        if (how == 3 && sim_one_in(2))
            continue;
        apply_sectors(d, w, how != 3 || !sim_one_in(4));
    }
    forget_writes(d);
    memcpy(d->now, d->media, d->size);
}
