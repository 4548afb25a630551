/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rangelock: byte ranges of one disk, first come first served, shared or exclusive.
 *
 * An interval treap (by first byte and arrival, augmented with the greatest last byte) holds
 * granted and waiting entries alike.  An entry counts the earlier ones that conflict with it; when
 * that count falls to zero it is granted.  So nobody overtakes, and there is no cycle to wait in.
 * (The scheme is that of J. Kara's range locks for Linux.)
 */
#ifndef SLUICE_RANGELOCK_H
#define SLUICE_RANGELOCK_H

#include "engine/engine.h"

struct rangelock {
    pthread_mutex_t
        mutex; /* the tree and every entry in it; granted() only posts, so it is called under it */
    struct range_entry *root;
    uint64_t serial;
};

void rangelock_init(struct rangelock *lock);
void rangelock_destroy(struct rangelock *lock); /* empty */
/* True: granted at once. */
bool rangelock_lock(struct rangelock *lock, struct range_entry *entry);
/* Releases a granted entry or withdraws a waiting one. */
void rangelock_unlock(struct rangelock *lock, struct range_entry *entry);
/* Withdraws the entry if it still waits; false: it has been granted (granted() was called). */
bool rangelock_withdraw(struct rangelock *lock, struct range_entry *entry);
bool rangelock_is_empty(struct rangelock *lock);

#endif
