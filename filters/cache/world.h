/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * world.h: the few things the cache takes from outside that are neither the host's nor a request's:
 * memory, waiting, chance.  world.c is what the filter runs on; the crash tests link another one,
 * under which everything that happens is decided by a seed and a crash leaves nothing behind.
 */
#ifndef SLUICE_CACHE_WORLD_H
#define SLUICE_CACHE_WORLD_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Zeroed.  NULL: there is none. */
void *cache_zalloc(size_t bytes);
/* Aligned to 4096, for O_DIRECT; not zeroed. */
void *cache_alloc_pages(size_t bytes);
void cache_free(void *memory);
/* From a thread that may block, with the mutex held: sleeps until cache_wake() or a while later. */
void cache_sleep(pthread_cond_t *cond, pthread_mutex_t *mutex);
void cache_wake(pthread_cond_t *cond);
/* It is a regular file: a device's space is there from the beginning. */
bool cache_is_file(const char *path);
/* 64 bits that nobody has had before. */
uint64_t cache_random(void);

/*
 * The crash tests prove that they would notice: built with CACHE_MUTANTS they can break the rules
 * R1 to R13 (docs/cache.md) one at a time.  In the filter itself this is the constant false.
 */
#ifdef CACHE_MUTANTS
extern int cache_mutant;
#define MUTANT(rule) (cache_mutant == (rule))
#else
#define MUTANT(rule) 0
#endif

#endif
