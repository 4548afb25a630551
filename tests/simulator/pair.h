/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pair.h: a world for two replication filters in which a seed decides everything: in which order
 * I/O ends and messages come, when the link breaks, who dies and what of its volatile data is lost.
 * One thread; the filters are the real ones, every file of them; host, devices and link are made
 * up.
 *
 *     device.c   a device with a volatile cache
 *     line.c     the link between the two nodes
 *     node.c     one gateway: the host's table over devices, requests, timers; disks of a group
 *     disks.c    the disks of a node, and how one grows
 *     records.c  what goes with a disk beside its data, at either side
 *     history.c  what was written, acknowledged and flushed, and what an image may hold
 *     told.c     the changes of that, and who has to have them
 *     seals.c    what is overwritten was sealed
 *     simulator.c  the guest, the faults, the seeds
 */
#ifndef SLUICE_SIMULATOR_PAIR_H
#define SLUICE_SIMULATOR_PAIR_H

#include "replication/replica.h"

#include <stdio.h>
#include <string.h>

/* The simulator's memory is not the filter's (memory.h). */
#undef malloc
#undef calloc
#undef free
#include <stdlib.h>

uint64_t pair_random(void);
void pair_seed(uint64_t seed);
static inline uint32_t pair_below(uint32_t n)
{
    return (uint32_t)((pair_random() >> 32) * n >> 32);
}
static inline bool pair_one_in(uint32_t n)
{
    return pair_below(n) == 0;
}
extern uint64_t pair_now_ns;
extern bool pair_trace;
extern unsigned pair_violations;
void pair_violation(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void pair_say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* --- devices
 * ------------------------------------------------------------------------------------------- */

struct change {
    struct change *next;
    uint64_t offset, length, number;
    uint8_t data[];
};
struct device {
    uint8_t *now, *media;
    uint64_t size, number;
    struct change *first, **last; /* done, not flushed */
};
void device_make(struct device *d, uint64_t size);
void device_wipe(struct device *d);
void device_write(struct device *d, uint64_t offset, uint64_t length,
                  const uint8_t *data); /* NULL: zeros */
void device_flush(struct device *d, uint64_t until);
/* Only what was changed there. */
void device_flush_range(struct device *d, uint64_t offset, uint64_t length, uint64_t until);
void device_write_torn(struct device *d, uint64_t offset, uint64_t length, const uint8_t *data);
void device_power_cut(struct device *d);

/* --- nodes
 * -----------------------------------------------------------------------------------------------
 */

#define DISK_BYTES (256u << 10)
#define BLOCK 4096u
#define BLOCKS (DISK_BYTES / BLOCK)
const struct sluice_filter *sluice_filter_table(void);

#define NODES 2
#define DISKS                                                                           \
    3 /* of a group, in the order of their UUIDs; there are gaps before the next extent \
       */

struct guest_request {
    struct sluice_request pub;
    _Alignas(16) uint8_t scratch[sizeof(struct captured)];
    int node;
    unsigned disk; /* of the group; pub's offset is one in it */
    bool is_deferred, is_resumed, asked;
    struct sluice_verdict resumed;
    uint64_t block, count, version, issued_at;
    uint8_t data[3 * BLOCK];
    bool is_used, is_orphan; /* orphan: the guest has left that side */
};

/* A small file that the host writes as a whole. */
struct state_file {
    char name[16];
    uint8_t data[8192];
    size_t length; /* 0: there is none */
};
#define STATE_FILES (4 + SEALS_MAX)

struct node {
    int number;
    struct sluice_disk disks[DISKS];
    unsigned disk_count;
    struct member *members[DISKS];
    uint64_t shared[4]; /* what the members share */
    struct device image, evidence, journal, spill, seals[SEALS_MAX];
    struct state_file state[STATE_FILES];
    struct replica *r;                /* NULL: dead */
    bool is_gated, fails_io, is_full; /* is_full: there is no room for a seal */
    bool is_slow;                     /* below: what is applied takes long */
    uint64_t seals_refused;
    struct sluice_timer *timer;
    uint64_t timer_due;
    uint64_t replays, tiers;     /* batches of records; changes of the asynchronous tier */
    uint64_t size_bytes;         /* of its lone disk, as the gateway has it on disk */
    uint64_t old_bytes;          /* its backing holds something up to here, also beyond the end */
    bool no_room;                /* it cannot grow now */
    uint64_t power_cuts, stales; /* stales: times that it took the peer's disk for an older one */
    bool is_damaged;         /* its journal, where it was durable and a later record knows of it */
    uint64_t records[DISKS]; /* versions, as the gateway has them on disk; 0: none */
};
extern struct node nodes[NODES];
/* The state file of this name; NULL: there is none. */
struct state_file *node_state(struct node *n, const char *name);
/* seals.c */
extern unsigned long seals_used, seals_dropped; /* sectors that were overwritten */
void seals_drop(int node);                      /* some, when there is no room for more */
/* reads.c: guests' reads get what was acknowledged when they were sent, or something later. */
extern unsigned long reads_done, reads_held;
void reads_reset(void);
void reads_issue(int node);
void reads_forget(int node);
bool reads_are_drained(int node);
void reads_end(struct guest_request *q, int32_t error);
/* A block of its image is overwritten by what the peer has sent. */
void pair_overwritten(struct node *n, uint64_t offset, uint64_t length, const uint8_t *data);
/* A guest's request changes the image there. */
void pair_written(struct node *n, const struct guest_request *q);

struct pair_settings {
    int mode, ack, loss;
    uint64_t journal_bytes, spill_bytes; /* spill_bytes: 0: none */
    bool sends_all;                      /* asks for no hashes before a batch copies */
    unsigned disks;                      /* of the group: DISKS, or 0 for a lone one */
};
void nodes_make(void);
void nodes_wipe(void);
/* 0, or what open() said. */
int node_start(struct node *n, const struct pair_settings *settings);
/* As the gateway does when the filters stand in the chain. */
void node_resume(struct node *n);
void node_kill(struct node *n, bool is_power);
/* The gateway's event on its lone disk, which the peer has agreed to; as far as that goes: is_cut:
 * the backing has grown, and then it dies. */
void node_resize(struct node *n, uint64_t size_bytes, bool is_cut);
/* Of its image as it is; nothing of its guests is under way. */
void node_snapshot(struct node *n);
void snapshots_wipe(void);
/* What a read of all of it would get: the image, and what is in the journal and not applied yet. */
void node_contents(const struct node *n, uint8_t *image);
/* As the journal's medium may do: what is_damaged says. */
void node_spoil_journal(struct node *n);
/* The gateway is gone, as it is; nothing else is lost. */
void node_forget(struct node *n);
extern unsigned long snapshots_made; /* by the peer */
/* True: node_end_wish() is to follow, if it lives so long. */
bool node_grant_wish(struct node *n, struct sluice_wish *wish);
void node_end_wish(struct node *n, struct sluice_wish *wish);
extern bool pair_has_records; /* the gateways have some */
/* The filter has been opened: it is told what there is. */
void records_join(struct node *n);
void records_change(struct node *n, unsigned disk, uint64_t version);
int records_arrived(struct sluice_disk *disk, const char *name, const void *data, size_t length);
/* Offset and disk are those of its block; a flush is one of q->disk. */
void node_submit(struct guest_request *q);
/* The disk of the group that has all of these blocks; node.disk_count: none has. */
unsigned node_disk_of(const struct node *n, uint64_t block, uint64_t count);
uint64_t node_disk_begins(unsigned disk);
uint64_t node_disk_bytes(unsigned disk); /* at first */
void node_submit_later(struct guest_request *q);
/* One event, by chance; false: nothing is left to happen, not even a timer. */
bool pair_step(void);
unsigned pair_pending(void);
void link_up(void);
void link_break(void);
bool link_is_up(void);
/* For the host's table and the run of events. */
struct node *node_of(const struct sluice_disk *disk);
int line_open(struct sluice_disk *disk, const struct sluice_channel_handlers *handlers,
              struct sluice_channel **channel, struct sluice_error *error);
int line_queue(struct sluice_channel *channel, const void *head, size_t head_length,
               const void *data, size_t length);
void line_flush(struct sluice_channel *channel, bool is_soon);
void line_close(struct sluice_channel *channel);
void line_deliver(int to); /* the next message */
unsigned line_count(int to);
void line_forget(int node);
void line_is_dead(int node); /* it is told nothing any more, and the link breaks */
/* None that passed the gate of this node is under way. */
bool guests_are_drained(int node);
/* The connections to this node are cut. */
void guests_leave(int node);
/* The guest's request has ended. */
void guest_done(struct guest_request *q, int32_t error);
void memory_forget(int node);
extern int memory_node; /* whose memory is taken now */

#endif
