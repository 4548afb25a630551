/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * world.c: chance, waiting and time as the operating system gives them, and OpenSSL's hashes.
 */
#include "replica.h"

#include <openssl/evp.h>
#include <sys/random.h>
#include <time.h>

#define NAP_NS 50000000

uint64_t replica_random(void)
{
    uint64_t value = 0;

    while (getrandom(&value, sizeof value, 0) != (ssize_t)sizeof value || value == 0)
        ;
    return value;
}

uint64_t replica_wall_s(void)
{
    return (uint64_t)time(NULL);
}

bool replica_hash(uint8_t *out, const void *data, uint64_t length)
{
    return EVP_Digest(data, length, out, NULL, EVP_sha256(), NULL) == 1;
}

/* Whoever sleeps looks again at its deadline now and then, also when nothing wakes it. */
void replica_sleep(pthread_cond_t *cond, pthread_mutex_t *mutex)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += NAP_NS;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    pthread_cond_clockwait(cond, mutex, CLOCK_MONOTONIC, &until);
}

void replica_wake(pthread_cond_t *cond)
{
    pthread_cond_broadcast(cond);
}
