/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * members.c: the disks of a group as one.  One replica stands for all of them: one sequence, one
 * journal, one lineage, one role, over an address space in which the disks lie one behind the
 * other, in the order of their UUIDs, each from a whole extent on.  Between them there is nothing.
 * An instance of the filter is a member; it hands its disk's writes to the replica, and the
 * replica's own I/O goes to the member that lies there.  A lone disk is a group of one.
 *
 * The group is formed when its last disk opens and ends when the first one closes; until then and
 * after that its disks are held.  What it has in files lies with its first disk.  `forming` is held
 * while that goes on, which takes long; the mutex of the replica is taken under it, never the other
 * way round.
 */
#include "replica.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FILE_NAME "members"
#define LINE_BYTES 64u
#define HOST_LIMIT_NS 5000000000ull /* to take over a role for all disks */

/* --- where what lies
 * -------------------------------------------------------------------------------- */

static struct member *member_at(const struct replica *r, uint64_t offset)
{
    for (unsigned i = r->member_count; i-- > 0;)
        if (offset >= r->members[i]->base)
            return offset - r->members[i]->base < r->members[i]->size_bytes ? r->members[i] : NULL;
    return NULL;
}

uint64_t members_left_at(const struct replica *r, uint64_t offset)
{
    const struct member *m = member_at(r, offset);

    return m ? m->base + m->size_bytes - offset : 0;
}

uint64_t members_grain_bytes(const struct replica *r, uint64_t grain)
{
    uint64_t left = members_left_at(r, grain * GRAIN_BYTES);

    return left < GRAIN_BYTES ? left : GRAIN_BYTES;
}

uint64_t members_total_bytes(const struct replica *r)
{
    uint64_t bytes = 0;

    for (unsigned i = 0; i < r->member_count; i++)
        bytes += r->members[i]->size_bytes;
    return bytes;
}

const char *members_name_at(const struct replica *r, uint64_t *offset)
{
    const struct member *m = member_at(r, *offset);

    if (!m || r->member_count == 1)
        return "";
    *offset -= m->base;
    return m->disk->name;
}

/* One behind the other; also what the two sides call the whole. */
static void lay_out(struct replica *r)
{
    r->size_bytes = 0;
    for (unsigned i = 0; i < r->member_count; i++) {
        struct member *m = r->members[i];

        m->base = (r->size_bytes + EXTENT_BYTES - 1) / EXTENT_BYTES * EXTENT_BYTES;
        r->size_bytes = m->base + m->size_bytes;
    }
}

void members_grow(struct member *m, uint64_t size_bytes)
{
    m->size_bytes = size_bytes;
    m->r->size_bytes = size_bytes;
}

static uint64_t hash_add(uint64_t hash, const char *text)
{
    for (; *text; text++)
        hash = (hash ^ (uint8_t)*text) * 1099511628211ull;
    return hash;
}

uint64_t members_id(const struct replica *r)
{
    uint64_t hash = 14695981039346656037ull; /* FNV-1a: two that differ are to differ here */
    char size[24];

    for (unsigned i = 0; i < r->member_count; i++) {
        hash = hash_add(hash, r->members[i]->disk->uuid);
        snprintf(size, sizeof size, " %llu ", (unsigned long long)r->members[i]->size_bytes);
        if (r->member_count > 1)
            hash = hash_add(hash, size);
    }
    return hash;
}

/* --- the replica's own I/O
 * ---------------------------------------------------------------------------------- */

/* A flush of all of them. */
struct flush {
    struct sluice_io *whole;
    _Atomic unsigned left;
    _Atomic int32_t error;
    struct flush_part {
        struct sluice_io io;
        struct flush *flush;
    } part[];
};

static void end_part(struct flush *f, int32_t error)
{
    if (error)
        atomic_store(&f->error, error);
    if (atomic_fetch_sub(&f->left, 1) > 1)
        return;
    f->whole->done(f->whole, atomic_load(&f->error));
    free(f);
}

static void on_part(struct sluice_io *io, int32_t error)
{
    end_part(((struct flush_part *)(void *)io)->flush, error);
}

static int flush_all(struct replica *r, struct sluice_io *io)
{
    unsigned count = MUTANT(70) ? 1 : r->member_count;
    struct flush *f = calloc(1, sizeof *f + count * sizeof f->part[0]);

    if (!f)
        return -ENOMEM;
    f->whole = io;
    atomic_store(&f->left, count + 1);
    for (unsigned i = 0; i < count; i++) {
        f->part[i].flush = f;
        f->part[i].io = (struct sluice_io){
            .op = io->op, .origin = io->origin, .flags = io->flags, .done = on_part};
        if (sluice_io_submit(r->members[i]->disk, &f->part[i].io) < 0)
            end_part(f, ESHUTDOWN);
    }
    end_part(f, 0);
    return 0;
}

/* The member's disk; the offset is one of its own then. */
static struct sluice_disk *find_disk(struct replica *r, struct sluice_io *io)
{
    const struct member *m = io->op == SLUICE_OP_FLUSH ? r->members[0] : member_at(r, io->offset);

    if (!m)
        return NULL;
    if (io->op != SLUICE_OP_FLUSH)
        io->offset -= m->base;
    return m->disk;
}

int members_submit(struct replica *r, struct sluice_io *io)
{
    struct sluice_disk *disk;

    if (io->op == SLUICE_OP_FLUSH && r->member_count > 1)
        return flush_all(r, io);
    disk = find_disk(r, io);
    return disk ? sluice_io_submit(disk, io) : -EINVAL;
}

int members_wait(struct replica *r, struct sluice_io *io)
{
    struct sluice_disk *disk = find_disk(r, io);

    return disk ? sluice_io_wait(disk, io) : -EINVAL;
}

bool members_begin_at(const struct replica *r, uint64_t offset)
{
    const struct member *m = member_at(r, offset);

    return m && m->base == offset;
}

int members_wish(struct replica *r, uint64_t offset, struct sluice_wish *wish)
{
    const struct member *m = member_at(r, offset);

    return m && m->base == offset ? sluice_wish_for(m->disk, wish) : -EINVAL;
}

/* --- what is said of all of them
 * ---------------------------------------------------------------------------- */

void members_gate(struct replica *r, bool is_closed, const char *reason)
{
    for (unsigned i = 0; i < r->member_count; i++)
        sluice_gate(r->members[i]->disk, is_closed, reason);
}

void members_request_role(struct replica *r, uint32_t role, uint64_t epoch)
{
    for (unsigned i = 0; i < r->member_count; i++)
        sluice_role_request(r->members[i]->disk, role, epoch, NULL);
}

bool members_are_drained(struct replica *r)
{
    for (unsigned i = 0; i < r->member_count; i++)
        if (!sluice_gate_is_drained(r->members[i]->disk))
            return false;
    return true;
}

void members_set_guests_left(struct replica *r, bool have_left)
{
    for (unsigned i = 0; i < r->member_count; i++)
        r->members[i]->guests_left = have_left;
}

bool members_have_role(struct replica *r, bool is_primary)
{
    for (unsigned i = 0; i < r->member_count; i++)
        if ((sluice_role(r->members[i]->disk, NULL) == SLUICE_ROLE_PRIMARY) != is_primary)
            return false;
    return true;
}

/* The host tells nobody when it has taken a role over, so it is looked at. */
void members_await_role(struct replica *r, bool is_primary)
{
    struct timespec nap = {.tv_nsec = 1000000};
    uint64_t until = sluice_now_ns(r->disk) + HOST_LIMIT_NS;

    while (!members_have_role(r, is_primary) && sluice_now_ns(r->disk) < until)
        nanosleep(&nap, NULL);
}

void members_health(struct replica *r, uint32_t state, const char *sentence, const char *remedy)
{
    for (unsigned i = 0; i < r->member_count; i++)
        sluice_health(r->members[i]->disk, state, sentence, remedy);
}

void members_progress(struct replica *r, const char *what, uint64_t done, uint64_t total)
{
    for (unsigned i = 0; i < r->member_count; i++)
        sluice_progress(r->members[i]->disk, what, done, total);
}

void members_tell(struct replica *r, struct sluice_reply *reply)
{
    char names[512];
    size_t at = 0;

    sluice_reply_integer(r->disk, reply, "group_disks", r->member_count);
    if (r->member_count == 1)
        return;
    for (unsigned i = 0; i < r->member_count && at < sizeof names; i++)
        at += (size_t)snprintf(names + at, sizeof names - at, "%s%s at %llu", i ? ", " : "",
                               r->members[i]->disk->name, (unsigned long long)r->members[i]->base);
    sluice_reply_text(r->disk, reply, "group %s, one instant of %u disks: %s", r->disk->group,
                      r->member_count, names);
    sluice_reply_string(r->disk, reply, "group", r->disk->group);
}

/* --- which disks the files are about
 * ------------------------------------------------------------------------ */

static size_t name_members(const struct replica *r, char *out, size_t size)
{
    size_t at = 0;

    for (unsigned i = 0; i < r->member_count; i++)
        at += (size_t)snprintf(out + at, size - at, "%s %llu\n", r->members[i]->disk->uuid,
                               (unsigned long long)r->members[i]->size_bytes);
    return at;
}

#define ANEW                                                                              \
    "to begin anew, with a copy of everything, stop both gateways and remove the folder " \
    "filters/replication of the state of each of these disks"

/* Each member has the list: a disk that has left, or was alone before, is not taken for what it
 * is not. */
static int check_one(const struct replica *r, const struct member *m, const char *list,
                     size_t length, struct sluice_error *error)
{
    char text[MEMBERS_MAX * LINE_BYTES], state[1];
    size_t got = 0;
    int status = sluice_state_read(m->disk, FILE_NAME, text, sizeof text, &got);
    bool is_lone = r->member_count == 1;

    if (status == 0 && !is_lone && got == length && memcmp(text, list, length) == 0)
        return 0;
    if (status != -ENOENT)
        return sluice_refuse(m->disk, error, EINVAL,
                             "disk %s was replicated in a group of other disks, or of other sizes, "
                             "than group %s has now: put them back; " ANEW,
                             m->disk->name, m->disk->group);
    if (is_lone)
        return 0;
    if (sluice_state_read(m->disk, "super", state, sizeof state, &got) != -ENOENT)
        return sluice_refuse(m->disk, error, EINVAL,
                             "disk %s was replicated alone, not in group %s: " ANEW, m->disk->name,
                             m->disk->group);
    status = sluice_state_write(m->disk, FILE_NAME, list, length);
    return status < 0 ? sluice_refuse(m->disk, error, -status,
                                      "the list of the group's disks cannot be written: %s",
                                      strerror(-status))
                      : 0;
}

static int check_members(struct replica *r, struct sluice_error *error)
{
    char list[MEMBERS_MAX * LINE_BYTES];
    size_t length = name_members(r, list, sizeof list);
    int status = 0;

    for (unsigned i = 0; i < r->member_count && status == 0; i++)
        status = check_one(r, r->members[i], list, length, error);
    return status;
}

/* --- forming
 * ------------------------------------------------------------------------------------------------
 */

/* What the replica of an earlier forming held back goes on in this one: all of it had been written
 * here, or had not begun.  Its extents are in the activity log, so the first batch brings it. */
static void take_held(struct replica *r)
{
    for (struct captured *c = r->waiting; c; c = c->next)
        c->ticket = 0;
    for (struct captured *c = r->unacked; c; c = c->next)
        c->seq = r->seq;
    backlog_admit_reads(r);
}

bool members_rest(const struct replica *r)
{
    for (unsigned i = 0; r->is_parked && i < r->member_count; i++)
        if (r->members[i]->is_parked && (!r->members[i]->inside))
            return true;
    return false;
}

static int open_channel(struct replica *r, struct sluice_error *error)
{
    struct sluice_channel_handlers handlers = replica_handlers;

    handlers.is_group = r->member_count > 1;
    return sluice_channel_open(r->disk, &handlers, &r->channel, error);
}

/* The first one's instance answers for the channel, the timer and the files. */
static int form(struct replica *r, const struct settings *settings, struct sluice_error *error)
{
    int status;

    r->disk = r->members[0]->disk;
    r->settings = *settings;
    lay_out(r);
    status = check_members(r, error);
    if (status == 0)
        status = replica_open(r, error);
    replica_lock(r);
    if (status < 0) {
        replica_forget(r);
        replica_unlock(r);
        return status;
    }
    r->is_closing = false;
    r->is_formed = true;
    members_health(r, SLUICE_HEALTH_OK, "", "");
    for (unsigned i = 0; i < r->member_count; i++)
        r->is_parked |= r->members[i]->is_parked;
    roles_open(r);
    take_held(r);
    if (r->work_again)
        replica_kick(r);
    replica_unlock(r);
    status = open_channel(r, error);
    if (status < 0)
        replica_end(r);
    return status;
}

static void hold_members(struct replica *r)
{
    members_gate(r, true, "replication: waits for the other disks of its group");
    members_health(r, SLUICE_HEALTH_DEGRADED,
                   "waits for the other disks of its group: it is replicated as one with them",
                   "see why they are not open: `sluice status`");
}

static void insert(struct replica *r, struct member *m)
{
    unsigned at = 0;

    replica_lock(r);
    while (at < r->member_count && strcmp(r->members[at]->disk->uuid, m->disk->uuid) < 0)
        at++;
    memmove(&r->members[at + 1], &r->members[at], (r->member_count - at) * sizeof r->members[0]);
    r->members[at] = m;
    r->member_count++;
    replica_unlock(r);
}

static void take_out(struct replica *r, const struct member *m)
{
    unsigned at = 0;

    replica_lock(r);
    while (r->members[at] != m)
        at++;
    r->member_count--;
    memmove(&r->members[at], &r->members[at + 1], (r->member_count - at) * sizeof r->members[0]);
    replica_unlock(r);
}

static int add(struct replica *r, struct member *m, unsigned wanted, struct sluice_error *error)
{
    int status = 0;

    if (wanted > MEMBERS_MAX)
        return sluice_refuse(m->disk, error, E2BIG, "a replicated group has at most %u disks",
                             MEMBERS_MAX);
    if (r->member_count && r->wanted != wanted)
        return sluice_refuse(m->disk, error, EBUSY,
                             "group %s is replicated as one with %u disks, now it has %u: a disk "
                             "joins it only when the gateway starts",
                             m->disk->group, r->wanted, wanted);
    r->wanted = wanted;
    insert(r, m);
    if (r->member_count == wanted)
        status = form(r, &m->settings, error);
    if (status < 0)
        take_out(r, m);
    if (!r->is_formed)
        hold_members(r);
    return status;
}

/* --- joining and leaving: the members of a group find each other by its name
 * ---------------------------------- */

/* Under the host's lock for what instances share. */
struct share {
    struct replica *replica;
    unsigned users;
};

static struct replica *share_replica(struct sluice_disk *disk)
{
    struct replica *r = NULL;
    struct share *s;

    sluice_shared_lock(disk);
    s = sluice_shared_get(disk, disk->group, sizeof *s);
    if (s && !s->replica)
        s->replica = replica_make();
    if (s && s->replica) {
        s->users++;
        r = s->replica;
    } else if (s) {
        sluice_shared_put(disk, disk->group);
    }
    sluice_shared_unlock(disk);
    return r;
}

/* True: it was the last one. */
static bool unshare_replica(struct sluice_disk *disk)
{
    struct share *s;
    bool is_last;

    sluice_shared_lock(disk);
    s = sluice_shared_get(disk, disk->group, sizeof *s);
    is_last = s && --s->users == 0;
    if (is_last)
        s->replica = NULL;
    if (s)
        sluice_shared_put(disk, disk->group);
    sluice_shared_put(disk, disk->group);
    sluice_shared_unlock(disk);
    return is_last;
}

static void leave(struct member *m)
{
    if (m->r && (m->is_lone || unshare_replica(m->disk)))
        replica_free(m->r);
    records_free(m);
    free(m);
}

int member_open(struct sluice_disk *disk, const struct settings *settings, struct member **out,
                struct sluice_error *error)
{
    unsigned wanted = sluice_group_disks(disk);
    struct member *m = calloc(1, sizeof *m);
    int status;

    if (!m)
        return sluice_refuse(disk, error, ENOMEM, "out of memory");
    m->disk = disk;
    m->size_bytes = disk->size_bytes;
    m->settings = *settings;
    m->is_lone = wanted <= 1;
    /* Not in the chain yet: what is below cannot be reached.  RESUME comes when it is. */
    m->is_parked = true;
    m->r = m->is_lone ? replica_make() : share_replica(disk);
    if (m->r) {
        pthread_mutex_lock(&m->r->forming);
        status = add(m->r, m, m->is_lone ? 1 : wanted, error);
        pthread_mutex_unlock(&m->r->forming);
    } else {
        status = sluice_refuse(disk, error, ENOMEM, "out of memory");
    }
    if (status < 0)
        leave(m);
    else
        *out = m;
    return status;
}

void member_close(struct member *m)
{
    struct replica *r = m->r;

    pthread_mutex_lock(&r->forming);
    if (r->is_formed)
        replica_end(r);
    take_out(r, m);
    hold_members(r);
    pthread_mutex_unlock(&r->forming);
    leave(m);
}

/* --- verbs
 * --------------------------------------------------------------------------------------------------
 */

struct replica *member_enter(struct member *m, struct sluice_error *error)
{
    struct replica *r = m->r;
    bool is_formed;
    unsigned count;

    replica_lock(r);
    is_formed = r->is_formed && !r->is_closing;
    count = r->member_count;
    r->verbs += is_formed;
    replica_unlock(r);
    if (is_formed)
        return r;
    sluice_refuse(m->disk, error, EAGAIN,
                  "group %s is replicated as one, and only %u of its %u disks are open",
                  m->disk->group, count, r->wanted);
    return NULL;
}

void member_exit(struct replica *r)
{
    replica_lock(r);
    r->verbs--;
    replica_wake(&r->changed);
    replica_unlock(r);
}
