/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tiers.c: the gateway's fast storage and who has how much of it.  A folder is shared by files, one
 * for each instance; a file or a block device is one instance's.  `tiers_mutex` guards everything;
 * it is held across a stat and nothing slower.
 */
#include "internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

struct tier {
    char *name, *path;
    uint64_t size_bytes, taken_bytes;
    unsigned users;
};

/* What one seat has of one. */
struct tier_share {
    struct list link; /* seat.tiers */
    struct tier *tier;
    uint64_t bytes;
};

static pthread_mutex_t tiers_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct tier *tiers;
static unsigned tier_count;

int host_set_tiers(const struct host_tier *from, unsigned count)
{
    struct tier *made = calloc(MAX(count, 1u), sizeof *made);
    SCOPED_LOCK(&tiers_mutex);

    if (!made)
        return -ENOMEM;
    for (unsigned i = 0; i < count; i++) {
        made[i] = (struct tier){.name = strdup(from[i].name),
                                .path = strdup(from[i].path),
                                .size_bytes = from[i].size_bytes};
        if (!made[i].name || !made[i].path)
            return -ENOMEM; /* at the start, and fatal there */
    }
    tiers = made; /* what was there before is in use by seats that know it */
    tier_count = count;
    return 0;
}

static struct tier *find(const char *name)
{
    for (unsigned i = 0; i < tier_count; i++)
        if (strcmp(tiers[i].name, name) == 0)
            return &tiers[i];
    return NULL;
}

static int check_room(const struct tier *t, uint64_t bytes, bool is_folder, struct err *e)
{
    char all[32], taken[32], wanted[32];

    if (!is_folder && t->users)
        return err_set(e, EBUSY,
                       "tier %s is a file or device, and another disk has it; a folder "
                       "can be shared",
                       t->name);
    if (bytes > t->size_bytes || t->taken_bytes > t->size_bytes - bytes)
        return err_set(e, ENOSPC, "tier %s has %s, of which %s are taken; %s are too many", t->name,
                       text_size(t->size_bytes, all), text_size(t->taken_bytes, taken),
                       text_size(bytes, wanted));
    return 0;
}

static int make_path(const struct seat *seat, const struct tier *t, bool is_folder, char *path,
                     size_t capacity, struct err *e)
{
    int n = is_folder ? snprintf(path, capacity, "%s/%s-%.8s.%s", t->path, seat->pub.name,
                                 seat->pub.uuid, seat->name)
                      : snprintf(path, capacity, "%s", t->path);

    return n > 0 && (size_t)n < capacity
               ? 0
               : err_set(e, ENAMETOOLONG, "tier %s: its path is too long", t->name);
}

static int take(struct seat *seat, struct tier *t, uint64_t bytes)
{
    struct tier_share *share = calloc(1, sizeof *share);

    if (!share)
        return -ENOMEM;
    share->tier = t;
    share->bytes = bytes;
    t->taken_bytes += bytes;
    t->users++;
    list_append(&seat->tiers, &share->link);
    return 0;
}

int seat_tier_file(struct seat *seat, const char *name, uint64_t bytes, char *path, size_t capacity,
                   struct err *e)
{
    struct stat st;
    struct tier *t;
    int r;
    SCOPED_LOCK(&tiers_mutex);

    t = find(name);
    if (!t)
        return err_set(e, ENOENT,
                       "there is no tier %s; gateway.yaml names them under tiers:", name);
    if (stat(t->path, &st) < 0)
        return err_set(e, errno, "tier %s: %s: %s (is it mounted?)", name, t->path,
                       strerror(errno));
    r = check_room(t, bytes, S_ISDIR(st.st_mode), e);
    if (r == 0)
        r = make_path(seat, t, S_ISDIR(st.st_mode), path, capacity, e);
    if (r == 0 && take(seat, t, bytes) < 0)
        r = err_set(e, ENOMEM, "tier %s: out of memory", name);
    return r;
}

void seat_drop_tiers(struct seat *seat)
{
    SCOPED_LOCK(&tiers_mutex);

    LIST_FOREACH_SAFE (node, &seat->tiers) {
        struct tier_share *share = LIST_ENTRY(node, struct tier_share, link);

        list_remove(node);
        share->tier->taken_bytes -= share->bytes;
        share->tier->users--;
        free(share);
    }
}
