/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * memory.c: what the filter allocates, by the node in whose hands it is: see memory.h.
 */
#include "pair.h"

struct allocation {
    struct allocation *next, **link;
    _Alignas(16) uint8_t data[];
};
static struct allocation *allocations[NODES];

void *memory_get(size_t bytes);
void memory_put(void *memory);

void *memory_get(size_t bytes)
{
    struct allocation *a = calloc(1, sizeof *a + bytes);

    a->next = allocations[memory_node];
    a->link = &allocations[memory_node];
    if (a->next)
        a->next->link = &a->next;
    allocations[memory_node] = a;
    return a->data;
}

void memory_put(void *memory)
{
    struct allocation *a;

    if (!memory)
        return;
    a = (struct allocation *)(void *)((uint8_t *)memory - offsetof(struct allocation, data));
    *a->link = a->next;
    if (a->next)
        a->next->link = a->link;
    free(a);
}

void memory_forget(int node)
{
    while (allocations[node]) {
        struct allocation *a = allocations[node];

        allocations[node] = a->next;
        free(a);
    }
}
