/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * timer-heap: which timer is due next, without memory of its own.
 *
 * A pairing heap (Fredman, Sedgewick, Sleator, Tarjan 1986) through the timers themselves: setting
 * one cannot fail for want of memory, insertion is constant, removal logarithmic on average.
 * `previous` is the left sibling or, for the first child, the parent.  Only the loop's own thread.
 */
#include "io/internal.h"

/* Makes the later of two roots the first child of the earlier. */
static struct timer *meld(struct timer *a, struct timer *b)
{
    struct timer *later;

    if (!a || !b)
        return a ? a : b;
    if (b->due_ns < a->due_ns) {
        later = a;
        a = b;
    } else {
        later = b;
    }
    later->previous = a;
    later->sibling = a->child;
    if (a->child)
        a->child->previous = later;
    a->child = later;
    return a;
}

/* Takes the first two of a list of siblings and melds them; *rest is what follows. */
static struct timer *meld_pair(struct timer *first, struct timer **rest)
{
    struct timer *second = first->sibling;

    *rest = second ? second->sibling : NULL;
    first->sibling = first->previous = NULL;
    if (second)
        second->sibling = second->previous = NULL;
    return meld(first, second);
}

/* Pairs from left to right, then all pairs from right to left. */
static struct timer *meld_siblings(struct timer *siblings)
{
    struct timer *pairs = NULL, *pair, *root = NULL;

    while (siblings) {
        pair = meld_pair(siblings, &siblings);
        pair->sibling = pairs;
        pairs = pair;
    }
    while (pairs) {
        pair = pairs;
        pairs = pair->sibling;
        pair->sibling = NULL;
        root = meld(root, pair);
    }
    return root;
}

void timer_heap_insert(struct timer **root, struct timer *timer)
{
    timer->child = timer->sibling = timer->previous = NULL;
    *root = meld(*root, timer);
}

void timer_heap_remove(struct timer **root, struct timer *timer)
{
    struct timer *children = meld_siblings(timer->child);

    if (timer == *root) {
        *root = children;
    } else {
        if (timer->previous->child == timer)
            timer->previous->child = timer->sibling;
        else
            timer->previous->sibling = timer->sibling;
        if (timer->sibling)
            timer->sibling->previous = timer->previous;
        *root = meld(*root, children);
    }
    timer->child = timer->sibling = timer->previous = NULL;
}
