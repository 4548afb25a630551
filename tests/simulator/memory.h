/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * memory.h: included before every file of the filter in the simulator: what a node has allocated
 * goes with it when it is killed.
 */
#ifndef SLUICE_SIMULATOR_MEMORY_H
#define SLUICE_SIMULATOR_MEMORY_H

#include <stddef.h>
#include <stdlib.h>

void *memory_get(size_t bytes);
void memory_put(void *memory);

static inline void *memory_get_zeroed(size_t count, size_t bytes)
{
    return memory_get(count * bytes);
}
#define malloc(bytes) memory_get(bytes)
#define calloc(count, bytes) memory_get_zeroed(count, bytes)
#define free(memory) memory_put(memory)

#endif
