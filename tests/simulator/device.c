/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * device.c: a device with a volatile cache.  `now` is what a read gets; `media` is what a power cut
 * leaves, where of what was not flushed any sector may have been written and any not.  Also chance,
 * time and violations.
 */
#include "pair.h"

#include <stdarg.h>

#define SECTOR 512u

static uint64_t random_state = 1;
uint64_t pair_now_ns = 1000000;
bool pair_trace;
unsigned pair_violations;

void pair_seed(uint64_t seed)
{
    random_state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
}

uint64_t pair_random(void) /* splitmix64 */
{
    uint64_t z = (random_state += UINT64_C(0x9e3779b97f4a7c15));

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

uint64_t replica_random(void)
{
    return pair_random() | 1;
}
uint64_t replica_wall_s(void)
{
    return pair_now_ns / 1000000000u;
}
/* Strong enough for a world without malice. */
bool replica_hash(uint8_t *out, const void *data, uint64_t length)
{
    uint64_t lanes[4] = {1, 2, 3, 4};

    for (uint64_t i = 0; i < length; i++)
        lanes[i % 4] = (lanes[i % 4] ^ ((const uint8_t *)data)[i]) * 1099511628211ull;
    memcpy(out, lanes, sizeof lanes);
    return true;
}
void replica_sleep(pthread_cond_t *cond, pthread_mutex_t *mutex)
{
    (void)cond, (void)mutex;
    abort(); /* nothing waits here */
}
void replica_wake(pthread_cond_t *cond)
{
    (void)cond;
}

void pair_violation(const char *fmt, ...)
{
    va_list ap;

    pair_violations++;
    va_start(ap, fmt);
    printf("VIOLATION: ");
    vprintf(fmt, ap);
    putchar('\n');
    va_end(ap);
}

void pair_say(const char *fmt, ...)
{
    va_list ap;

    if (!pair_trace)
        return;
    va_start(ap, fmt);
    vprintf(fmt, ap);
    putchar('\n');
    va_end(ap);
}

void device_make(struct device *d, uint64_t size)
{
    d->size = size;
    d->now = calloc(1, size);
    d->media = calloc(1, size);
    d->last = &d->first;
}

static void forget_changes(struct device *d)
{
    while (d->first) {
        struct change *c = d->first;

        d->first = c->next;
        free(c);
    }
    d->last = &d->first;
}

void device_wipe(struct device *d)
{
    if (!d->number)
        return;
    d->number = 0;
    forget_changes(d);
    memset(d->now, 0, d->size);
    memset(d->media, 0, d->size);
}

void device_write(struct device *d, uint64_t offset, uint64_t length, const uint8_t *data)
{
    struct change *c = malloc(sizeof *c + length);

    if (offset + length > d->size)
        abort();
    c->next = NULL;
    c->offset = offset;
    c->length = length;
    c->number = ++d->number;
    if (data)
        memcpy(c->data, data, length);
    else
        memset(c->data, 0, length);
    memcpy(d->now + offset, c->data, length);
    *d->last = c;
    d->last = &c->next;
}

void device_flush_range(struct device *d, uint64_t offset, uint64_t length, uint64_t until)
{
    struct change **link = &d->first;

    while (*link && (*link)->number <= until) {
        struct change *c = *link;

        if (c->offset < offset || c->offset >= offset + length) {
            link = &c->next;
            continue;
        }
        memcpy(d->media + c->offset, c->data, c->length);
        *link = c->next;
        if (!c->next)
            d->last = link;
        free(c);
    }
}

void device_flush(struct device *d, uint64_t until)
{
    device_flush_range(d, 0, d->size, until);
}

static uint64_t sector_length(uint64_t at, uint64_t length)
{
    return length - at < SECTOR ? length - at : SECTOR;
}

void device_write_torn(struct device *d, uint64_t offset, uint64_t length, const uint8_t *data)
{
    uint32_t how = pair_below(4); /* nothing, any sectors, a prefix, all */

    for (uint64_t at = 0; how && at < length; at += SECTOR) {
        if (how == 2 && pair_one_in(4))
            return;
        if (how != 1 || pair_one_in(2))
            device_write(d, offset + at, sector_length(at, length), data ? data + at : NULL);
    }
}

void device_power_cut(struct device *d)
{
    uint32_t how = pair_below(4); /* nothing, any sectors of any, all of some, all */

    for (struct change *c = d->first; c && how; c = c->next) {
        if (how == 2 && pair_one_in(2))
            continue;
        for (uint64_t at = 0; at < c->length; at += SECTOR)
            if (how != 1 || pair_one_in(2))
                memcpy(d->media + c->offset + at, c->data + at, sector_length(at, c->length));
    }
    forget_changes(d);
    memcpy(d->now, d->media, d->size);
}
