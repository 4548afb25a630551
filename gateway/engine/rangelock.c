/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rangelock.c: see rangelock.h.  Recursion below is as deep as the treap, which is logarithmic in
 * the number of requests in flight (priorities are a hash of the arrival number).
 */
#include "rangelock.h"

#include <assert.h>

void rangelock_init(struct rangelock *lock)
{
    pthread_mutex_init(&lock->mutex, NULL);
    lock->root = NULL;
    lock->serial = 0;
}

void rangelock_destroy(struct rangelock *lock)
{
    assert(!lock->root);
    pthread_mutex_destroy(&lock->mutex);
}

static void update_last_max(struct range_entry *e)
{
    e->last_max = e->last;
    if (e->left && e->left->last_max > e->last_max)
        e->last_max = e->left->last_max;
    if (e->right && e->right->last_max > e->last_max)
        e->last_max = e->right->last_max;
}

static bool sorts_before(const struct range_entry *a, const struct range_entry *b)
{
    return a->first < b->first || (a->first == b->first && a->serial < b->serial);
}

/* The pointer that points to e. */
static struct range_entry **link_of(struct rangelock *lock, struct range_entry *e)
{
    if (!e->parent)
        return &lock->root;
    return e->parent->left == e ? &e->parent->left : &e->parent->right;
}

/* Lifts e above its parent. */
static void rotate_up(struct rangelock *lock, struct range_entry *e)
{
    struct range_entry *p = e->parent, **from = link_of(lock, p), *inner;

    if (p->left == e) {
        inner = p->left = e->right;
        e->right = p;
    } else {
        inner = p->right = e->left;
        e->left = p;
    }
    if (inner)
        inner->parent = p;
    e->parent = p->parent;
    p->parent = e;
    *from = e;
    update_last_max(p);
    update_last_max(e);
}

static uint32_t priority_of(uint64_t serial)
{
    uint64_t x = serial * 0x9e3779b97f4a7c15u;

    return (uint32_t)(x >> 32);
}

static void tree_insert(struct rangelock *lock, struct range_entry *e)
{
    struct range_entry **at = &lock->root, *parent = NULL;

    while (*at) {
        parent = *at;
        if (parent->last_max < e->last)
            parent->last_max = e->last;
        at = sorts_before(e, parent) ? &parent->left : &parent->right;
    }
    e->left = e->right = NULL;
    e->parent = parent;
    e->last_max = e->last;
    e->priority = priority_of(e->serial);
    *at = e;
    while (e->parent && e->parent->priority < e->priority)
        rotate_up(lock, e);
}

static void tree_remove(struct rangelock *lock, struct range_entry *e)
{
    struct range_entry *child, *up;

    while (e->left && e->right)
        rotate_up(lock, e->left->priority > e->right->priority ? e->left : e->right);
    child = e->left ? e->left : e->right;
    up = e->parent;
    *link_of(lock, e) = child;
    if (child)
        child->parent = up;
    for (; up; up = up->parent)
        update_last_max(up);
    e->parent = e->left = e->right = NULL;
}

static bool conflicts(const struct range_entry *a, const struct range_entry *b)
{
    return !(a->is_shared && b->is_shared);
}

static unsigned count_conflicts(const struct range_entry *tree, const struct range_entry *e)
{
    unsigned n = 0;

    if (!tree || tree->last_max < e->first)
        return 0;
    n += count_conflicts(tree->left, e);
    if (tree->first <= e->last) {
        n += tree->last >= e->first && conflicts(tree, e);
        n += count_conflicts(tree->right, e);
    }
    return n;
}

/* e has left: those that came later and conflicted with it have one blocker less. */
static void unblock(struct range_entry *tree, const struct range_entry *e)
{
    if (!tree || tree->last_max < e->first)
        return;
    unblock(tree->left, e);
    if (tree->first > e->last)
        return;
    if (tree->last >= e->first && tree->serial > e->serial && conflicts(tree, e) &&
        --tree->blockers == 0) {
        tree->is_granted = true;
        tree->granted(tree);
    }
    unblock(tree->right, e);
}

bool rangelock_lock(struct rangelock *lock, struct range_entry *entry)
{
    SCOPED_LOCK(&lock->mutex);

    entry->serial = ++lock->serial;
    entry->blockers = count_conflicts(lock->root, entry);
    entry->is_granted = entry->blockers == 0;
    tree_insert(lock, entry);
    return entry->is_granted;
}

static void leave_locked(struct rangelock *lock, struct range_entry *entry)
{
    tree_remove(lock, entry);
    unblock(lock->root, entry);
}

void rangelock_unlock(struct rangelock *lock, struct range_entry *entry)
{
    SCOPED_LOCK(&lock->mutex);

    leave_locked(lock, entry);
}

bool rangelock_withdraw(struct rangelock *lock, struct range_entry *entry)
{
    SCOPED_LOCK(&lock->mutex);

    if (entry->is_granted)
        return false;
    leave_locked(lock, entry);
    return true;
}

bool rangelock_is_empty(struct rangelock *lock)
{
    SCOPED_LOCK(&lock->mutex);

    return !lock->root;
}
