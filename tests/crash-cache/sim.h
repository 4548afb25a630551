/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sim.h: a world for the cache filter in which a seed decides everything: in which order I/O ends,
 * when the power goes, and what of it has reached the media.  One thread; what may block runs in
 * coroutines.  The filter is the real one, every file of it; only host and devices are made up.
 *
 *     dev     a device with a volatile cache: what was written and not flushed may be lost
 *     world   memory, waiting and chance for the filter
 *     host    the host's table, requests of guests, the run of events
 *     state   the state folder
 *     rot     damage on the SSD
 *     look    into the filter
 */
#ifndef SLUICE_CRASH_CACHE_SIM_H
#define SLUICE_CRASH_CACHE_SIM_H

#include <sluice-filter.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- chance --------------------------------------------------------------------------------------
 */

uint64_t sim_random(void);
void sim_seed(uint64_t seed);
static inline uint32_t sim_below(uint32_t n)
{
    return (uint32_t)((sim_random() >> 32) * n >> 32);
}
static inline bool sim_one_in(uint32_t n)
{
    return sim_below(n) == 0;
}

/* --- devices -------------------------------------------------------------------------------------
 */

struct dev_write {
    struct dev_write *next;
    uint64_t offset, length, number;
    uint8_t *data; /* follows */
};
struct dev {
    uint8_t *now, *media;
    uint64_t size;
    struct dev_write *first, **last; /* written, not flushed */
    uint64_t number;
};
void dev_make(struct dev *d, uint64_t size);
void dev_wipe(struct dev *d);
/* data NULL: zeros. */
void dev_apply(struct dev *d, uint64_t offset, uint64_t length, const uint8_t *data);
/* With FUA: that alone is durable. */
void dev_write(struct dev *d, uint64_t offset, uint64_t length, const uint8_t *data, bool is_fua);
/* What a flush that begins now makes durable when it ends. */
uint64_t dev_flush_begin(struct dev *d);
void dev_flush_end(struct dev *d, uint64_t until);
/* A write that was in flight: nothing, some sectors, or all of it happened. */
void dev_apply_torn(struct dev *d, uint64_t offset, uint64_t length, const uint8_t *data);
/* The power goes: of what was not flushed, nothing, all, a prefix or anything reached the media. */
void dev_power_cut(struct dev *d);

/* --- the host ------------------------------------------------------------------------------------
 */

struct sim_request {
    struct sluice_request pub;
    _Alignas(16) uint8_t scratch[1024];
    uint8_t *data;
    bool is_deferred, is_resumed, asked;
    struct sluice_verdict resumed;
    uint64_t flush_mark;
    void (*done)(struct sim_request *r, int32_t error);
    uint64_t extent_at; /* EXTENTS: how far the answer goes */
    void (*on_extent)(struct sim_request *r, uint64_t offset, uint64_t length, uint32_t type);
    void *own;
};

extern struct dev ssd, backing;
extern struct sluice_disk sim_disk;
extern int sim_verbose;
/* Something is wrong for good: prints and counts. */
void sim_violation(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
extern unsigned sim_violations;

/* Opens the filter with these values; 0 or a negative errno, then the sentence is in sim_error. */
extern char sim_error[1000];
struct sim_config {
    uint64_t ram, ssd_bytes;
    int mode;
    bool is_ordered;
};
/* Runs in a coroutine; true: sim_step() until *is_done. */
struct sim_call {
    bool is_done;
    int result;
};
void sim_open(struct sim_call *call, const struct sim_config *config);
void sim_event(struct sim_call *call, uint32_t kind, uint32_t phase);
void sim_verb(struct sim_call *call, const char *verb, const char *argument);
bool sim_is_open(void);
struct cache;
struct cache *sim_cache(void);
void sim_submit(struct sim_request *r);
/* One event, chosen by chance.  False: nothing is left to happen. */
bool sim_step(void);
/* Ends the filter's life: is_power: and the devices' volatile contents. */
void sim_crash(bool is_power);
/* After a detach: closes it in order. */
void sim_close(void);
/* The disk's state files go, as if the state folder were another gateway's. */
void sim_forget_state(void);
uint64_t sim_now(void);
extern uint64_t sim_now_ns;
/* Whether something is allocated; and let all of it be gone. */
bool sim_has_memory(void);
void sim_free_all(void);
int64_t sim_counter(unsigned index);
/* What the SSD answers with EIO until the next crash; writes are flushes and zeroings too. */
#define SIM_WRITES_FAIL 1u
#define SIM_READS_FAIL 2u
#define SIM_HANGS 8u        /* it answers nothing, until it does again, whatever then */
#define SIM_HEADERS_FAIL 4u /* of chunks without data, which are there all the same */
extern unsigned sim_ssd_faults;
/* The backing has been asked for its extents, and does not end its answer. */
extern bool sim_holds_extents;
/* What runs in a coroutine lets other things happen, or a crash. */
void sim_let_others_go_on(void);
/* For the host's table. */
int sim_state_read(struct sluice_disk *disk, const char *name, void *data, size_t capacity,
                   size_t *length);
int sim_state_write(struct sluice_disk *disk, const char *name, const void *data, size_t length);
int sim_state_remove(struct sluice_disk *disk, const char *name);
/* From the state folder of one gateway to that of another, and back. */
void sim_swap_state(void);
/* The state folder takes nothing, until the next crash. */
extern bool sim_state_fails;
/* The cache says that something of these blocks of the disk is on the SSD alone. */
bool sim_is_dirty(uint64_t block, uint64_t count);
/* A data block on the SSD changes by itself: which of the disk's, and whether the log calls it
 * dirty.  UINT64_MAX: there was none. */
uint64_t sim_rot(bool *was_dirty);
/* The cache says that the backing is an earlier state of the disk. */
bool sim_order_holds(void);
/* It hangs, or the filter takes it that it does. */
bool sim_does_not_answer(void);
/* A segment of the log has one block left: room for a header, and for no data. */
bool sim_is_at_last_block(void);
/* As if a read were under way there, until the next crash: it is not opened. */
void sim_pin_next_segment(void);
/* The state folder knows that the SSD has failed. */
bool sim_has_stepped_down(void);
/* The SSD holds a tier of some disk. */
bool sim_has_tier(void);
/* The last sentence that the filter said of its health. */
extern char sim_health[300];
/* How often it said that reading the SSD failed. */
extern unsigned sim_unread_told;

#endif
