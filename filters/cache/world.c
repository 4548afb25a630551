/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * world.c: memory, waiting and chance as the operating system gives them.
 */
#include "world.h"

#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>

#define NAP_NS 100000000

void *cache_zalloc(size_t bytes)
{
    return calloc(1, bytes ? bytes : 1);
}

void *cache_alloc_pages(size_t bytes)
{
    return aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
}

void cache_free(void *memory)
{
    free(memory);
}

/* Whoever sleeps looks again at its deadline now and then, also when nothing wakes it. */
void cache_sleep(pthread_cond_t *cond, pthread_mutex_t *mutex)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until); /* the time of day may jump */
    until.tv_nsec += NAP_NS;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    pthread_cond_clockwait(cond, mutex, CLOCK_MONOTONIC, &until);
}

void cache_wake(pthread_cond_t *cond)
{
    pthread_cond_broadcast(cond);
}

bool cache_is_file(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

uint64_t cache_random(void)
{
    uint64_t value = 0;

    while (getrandom(&value, sizeof value, 0) != (ssize_t)sizeof value)
        ;
    return value;
}
