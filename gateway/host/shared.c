/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * shared.c: state that the instances of one filter on several disks share under a key.  One mutex
 * for the registry, which a filter holds between shared_lock() and shared_unlock() and nobody holds
 * for longer than that: what is shared has a lock of its own for its contents.
 */
#include "internal.h"

#include <errno.h>
#include <string.h>

/* [L registry_mutex] all fields. */
struct share {
    struct list link;
    const struct sluice_filter *filter;
    char *key;
    size_t bytes;
    unsigned users;
    void *memory;
};

/* One use by one seat. */
struct share_use {
    struct list link; /* seat.shares */
    struct share *share;
};

static pthread_mutex_t registry_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct list registry = {&registry, &registry};

void shared_lock(void)
{
    pthread_mutex_lock(&registry_mutex);
}

void shared_unlock(void)
{
    pthread_mutex_unlock(&registry_mutex);
}

static struct share *find(const struct sluice_filter *filter, const char *key)
{
    LIST_FOREACH (node, &registry) {
        struct share *s = LIST_ENTRY(node, struct share, link);

        if (s->filter == filter && strcmp(s->key, key) == 0)
            return s;
    }
    return NULL;
}

static void free_share(struct share *s)
{
    free(s->key);
    free(s->memory);
    free(s);
}

static struct share *make(const struct sluice_filter *filter, const char *key, size_t bytes)
{
    size_t size = (MAX(bytes, 1u) + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
    struct share *s = calloc(1, sizeof *s);

    if (!s)
        return NULL;
    s->filter = filter;
    s->bytes = bytes;
    s->key = strdup(key);
    s->memory = aligned_alloc(CACHE_LINE, size);
    if (!s->key || !s->memory) {
        free_share(s);
        return NULL;
    }
    memset(s->memory, 0, size);
    list_append(&registry, &s->link);
    return s;
}

static void let_go(struct share *s)
{
    if (--s->users > 0)
        return;
    list_remove(&s->link);
    free_share(s);
}

void *seat_shared_get(struct seat *seat, const char *key, size_t bytes)
{
    struct share_use *use = calloc(1, sizeof *use);
    struct share *s = find(seat->filter, key);

    if (use && !s)
        s = make(seat->filter, key, bytes);
    if (!use || !s || s->bytes != bytes) {
        free(use);
        return NULL;
    }
    s->users++;
    use->share = s;
    list_append(&seat->shares, &use->link);
    return s->memory;
}

void seat_shared_put(struct seat *seat, const char *key)
{
    LIST_FOREACH_SAFE (node, &seat->shares) {
        struct share_use *use = LIST_ENTRY(node, struct share_use, link);

        if (strcmp(use->share->key, key) != 0)
            continue;
        list_remove(node);
        let_go(use->share);
        free(use);
        return;
    }
}

unsigned seat_drop_shares(struct seat *seat)
{
    unsigned count = 0;

    shared_lock();
    while (!list_is_empty(&seat->shares)) {
        struct share_use *use = LIST_ENTRY(seat->shares.next, struct share_use, link);

        list_remove(&use->link);
        let_go(use->share);
        free(use);
        count++;
    }
    shared_unlock();
    return count;
}
