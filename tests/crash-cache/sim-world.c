/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sim-world.c: chance from a seed, virtual time, violations as they are found, and memory that a
 * crash takes away as a whole.
 */
#include "sim.h"

#include "cache/world.h"

#include <stdarg.h>

/* --- chance, time, violations
 * --------------------------------------------------------------------- */

static uint64_t random_state = 1;
uint64_t sim_now_ns = 1000000;
unsigned sim_violations;
int sim_verbose;
char sim_error[1000];
struct dev ssd, backing;
int cache_mutant;

void sim_seed(uint64_t seed)
{
    random_state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
}

uint64_t sim_random(void)
{
    uint64_t z = (random_state += UINT64_C(0x9e3779b97f4a7c15));

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

uint64_t sim_now(void)
{
    return sim_now_ns;
}

void sim_violation(const char *fmt, ...)
{
    va_list ap;

    sim_violations++;
    if (sim_verbose < 0)
        return;
    va_start(ap, fmt);
    fprintf(stderr, "VIOLATION: ");
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
}

/* --- memory that a crash takes away
 * ----------------------------------------------------------------- */

struct allocation {
    struct allocation *next, *prev;
    void *raw;
    uint64_t pad;
};
static struct allocation allocations = {&allocations, &allocations, NULL, 0};

static void *remember(void *raw, size_t head)
{
    struct allocation *a = (struct allocation *)(void *)((uint8_t *)raw + head - sizeof *a);

    a->raw = raw;
    a->next = allocations.next;
    a->prev = &allocations;
    a->next->prev = a;
    allocations.next = a;
    return (uint8_t *)raw + head;
}

void *cache_zalloc(size_t bytes)
{
    void *raw = calloc(1, bytes + sizeof(struct allocation));

    return raw ? remember(raw, sizeof(struct allocation)) : NULL;
}

void *cache_alloc_pages(size_t bytes)
{
    void *raw = aligned_alloc(4096, (bytes + 4096 + 4095) / 4096 * 4096);

    return raw ? remember(raw, 4096) : NULL;
}

void cache_free(void *memory)
{
    struct allocation *a;

    if (!memory)
        return;
    a = (struct allocation *)(void *)((uint8_t *)memory - sizeof *a);
    a->next->prev = a->prev;
    a->prev->next = a->next;
    free(a->raw);
}

bool sim_has_memory(void)
{
    return allocations.next != &allocations;
}

void sim_free_all(void)
{
    while (sim_has_memory())
        cache_free(allocations.next + 1);
}

bool cache_is_file(const char *path)
{
    (void)path;
    return true;
}

uint64_t cache_random(void)
{
    return sim_random();
}
