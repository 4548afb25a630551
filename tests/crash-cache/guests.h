/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * guests.h: what guests ask of the simulated disk, at random, and what they are answered, which the
 * oracle checks.  A few requests are under way at a time; of what fails it is asked whether it may.
 */
#ifndef SLUICE_CRASH_CACHE_GUESTS_H
#define SLUICE_CRASH_CACHE_GUESTS_H

#include "sim.h"

#define DISK_BLOCKS 128u
#define SECTORS (DISK_BLOCKS * 8u)
#define SLOTS 6u
#define BLOCKS_MOST 12u

struct slot {
    struct sim_request request;
    uint8_t data[BLOCKS_MOST * 4096];
    uint32_t floor[SECTORS];
    uint64_t block, count;
    uint32_t number;
    int32_t error;
    bool is_busy, changes;
    bool began_dirty;   /* what it is about was on the SSD alone */
    bool began_in_vain; /* which did not answer */
    bool extent_checked[DISK_BLOCKS];
};
extern struct slot slots[SLOTS];
extern uint64_t requests, failed_requests;
extern bool is_rotted[DISK_BLOCKS]; /* on the SSD, and dirty there */
extern bool is_paused;              /* no new requests */
extern struct sim_config config;

/* What the guests are like, chosen anew for each run between two crashes. */
extern struct profile {
    uint32_t flushes, fuas; /* one in so many; 0: none */
    uint32_t writes;        /* of ten requests */
    uint32_t hot_blocks;
    uint32_t steps;
} profile;
void choose_profile(void);
/* One request at random, or none. */
void try_request(void);
/* This one, of a slot whose block and count are set. */
void begin(struct slot *s, uint8_t op);
bool any_busy(void);
/* Something is on the SSD alone and has rotted there. */
bool has_lost(void);

#endif
