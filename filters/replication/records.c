/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * records.c: what belongs to a disk and is not its data (SCSI's persistent reservations) is the
 * peer's too, of the same instant.
 *
 * The gateway tells each change.  On the primary it gets a sequence number of its own and stands in
 * the stream between the writes before and behind it, also where the stream is kept on SSD; so a
 * flush that begins later waits for it as for a write, by the same rules when the peer is lost.
 * Where there is no stream it is owed: each batch brings all records as they are just before its
 * COMMIT, so that a peer that was away has them with it.
 *
 * The target keeps it in its journal as a write.  When its turn comes it is handed to the gateway,
 * which makes it durable and its own before the next one is; the gateway tells it back, so that
 * this side has it to send should it become the primary.  It is taken in order with other records,
 * before writes that came earlier and are not applied yet, since nobody sees the disk before: a
 * promotion waits for all records, not for those writes, and what is redone on a side that has
 * served hands none up.
 *
 * One that makes no sense, or of a disk that is not there, changes nothing and holds up nothing.
 */
#include "replica.h"

#include <errno.h>
#include <string.h>

_Static_assert(RECORD_NAME_MAX == SLUICE_RECORD_NAME_MAX &&
                   RECORD_DATA_MAX == SLUICE_RECORD_BYTES_MAX,
               "a frame has room for any record");

/* --- the source ---------------------------------------------------------------------------- */

static struct kept_record *place_of(struct member *m, const char *name)
{
    for (unsigned i = 0; i < RECORDS_MAX; i++)
        if (!m->records[i].payload || strcmp(m->records[i].name, name) == 0)
            return &m->records[i];
    return NULL;
}

static int keep(struct member *m, const char *name, const void *data, size_t length,
                struct kept_record **out)
{
    struct kept_record *k = place_of(m, name);
    uint8_t *payload;
    size_t head;

    if (!k || strlen(name) > RECORD_NAME_MAX || length > RECORD_DATA_MAX)
        return -E2BIG;
    payload = malloc(RECORD_HEAD_MAX + length);
    if (!payload)
        return -ENOMEM;
    head = record_put_head(payload, name);
    memcpy(payload + head, data, length);
    free(k->payload);
    *k = (struct kept_record){.payload = payload, .length = head + length};
    memcpy(k->name, name, strlen(name));
    *out = k;
    return 0;
}

static struct frame frame_of(const struct member *m, const struct kept_record *k)
{
    return (struct frame){.type = FRAME_RECORD, .offset = m->base, .bytes = k->length};
}

static void send(struct member *m, const struct kept_record *k)
{
    struct replica *r = m->r;
    struct frame f = frame_of(m, k);

    if (r->super.role != REPLICA_PRIMARY || r->is_promoting)
        return;
    if (link_mirrors(r) && !r->theirs.can_record)
        return; /* the batch has said so */
    if (r->seq + SEQ_MARGIN / 2 < r->saved_seq_limit) {
        capture_record(r, &f, k->payload);
        return;
    }
    /* It cannot stand in the stream: a batch has to bring it, and no replay of what waits. */
    if (r->spill.is_open)
        spill_drop(r);
    if (link_mirrors(r))
        link_fall(r, "there are no sequence numbers for a record");
}

int replica_record(void *instance, const char *name, const void *data, size_t length)
{
    struct member *m = instance;
    struct replica *r = m->r;
    struct kept_record *k;
    int status;

    replica_lock(r);
    status = keep(m, name, data, length, &k);
    if (status == 0 && r->is_formed && !r->is_closing)
        send(m, k);
    replica_unlock(r);
    return status;
}

void records_free(struct member *m)
{
    for (unsigned i = 0; i < RECORDS_MAX; i++)
        free(m->records[i].payload);
}

static void send_all_of(struct replica *r, const struct member *m)
{
    for (unsigned i = 0; i < RECORDS_MAX && m->records[i].payload; i++) {
        struct frame f = frame_of(m, &m->records[i]);

        f.epoch = lineage_tip(&r->super.lineage).epoch;
        link_send(r, &f, m->records[i].payload, m->records[i].length);
    }
}

static bool has_any(const struct replica *r)
{
    for (unsigned i = 0; i < r->member_count; i++)
        if (r->members[i]->records[0].payload)
            return true;
    return false;
}

void records_send_all(struct replica *r)
{
    if (!has_any(r) || MUTANT(131))
        return;
    if (!r->theirs.can_record) {
        sluice_log(r->disk, SLUICE_LOG_WARNING,
                   "replication: the peer's version knows nothing of persistent reservations: they "
                   "stay at this side, and a failover loses them");
        return;
    }
    for (unsigned i = 0; i < r->member_count; i++)
        send_all_of(r, r->members[i]);
}

void records_tell(struct replica *r, struct sluice_reply *reply)
{
    const char *state = r->link != LINK_STREAMING ? "not connected or not up to date"
                        : !r->theirs.can_record   ? "its version knows nothing of them"
                                                  : "has them";

    if (!has_any(r) || r->super.role != REPLICA_PRIMARY)
        return;
    sluice_reply_text(r->disk, reply, "reservations: the peer: %s", state);
    sluice_reply_string(r->disk, reply, "reservations_peer", state);
}

/* --- the target ---------------------------------------------------------------------------- */

static struct member *member_at(const struct replica *r, uint64_t offset)
{
    for (unsigned i = 0; i < r->member_count; i++)
        if (r->members[i]->base == offset)
            return r->members[i];
    return NULL;
}

/* Durable in the journal, and of no batch that may still be cut off. */
static bool is_settled(const struct replica *r, const struct entry *e)
{
    return (e->is_journaled && e->position < r->journal.synced) &&
           (!r->begin_entry || e->number < r->begin_entry->number || MUTANT(134));
}

static bool may_take(struct replica *r, const struct entry *e)
{
    return e && !e->is_applying && !r->is_closing && !members_rest(r) && is_settled(r, e) &&
           (!e->error || sluice_now_ns(r->disk) >= e->retry_ns);
}

/* 0: it is settled, one way or the other. */
static int hand_up(const struct replica *r, const struct member *m, const struct entry *e)
{
    struct record record;
    const char *wrong = record_get(&record, e->record + RECORD_BYTES, e->length);
    int status;

    if (!m)
        wrong = "of a disk that is not there";
    if (wrong) {
        sluice_log(r->disk, SLUICE_LOG_WARNING, "replication: left out: a record %s", wrong);
        return 0;
    }
    status = sluice_record_arrived(m->disk, record.name, record.data, record.length);
    return status == -EINVAL || status == -ENOTSUP ? 0 : status;
}

static struct entry *next_record(struct entry *e)
{
    for (e = e->next; e && (e->frame.type != FRAME_RECORD || e->is_applied); e = e->next)
        ;
    return e;
}

void records_take(struct replica *r)
{
    struct entry *e = r->journal.untaken;
    const struct member *m;
    int status;

    if (!may_take(r, e))
        return;
    if (!e->record) {
        target_read_back(r, e);
        return;
    }
    m = member_at(r, e->frame.offset);
    e->is_applying = true;
    r->journal.applying++;
    replica_unlock(r);
    status = hand_up(r, m, e);
    replica_lock(r);
    if (status == 0)
        r->journal.untaken = next_record(e);
    e->doing = e->frame.bytes;
    target_on_applied(r, e, -status);
    replica_kick(r); /* there may be another one */
}
