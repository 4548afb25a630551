/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * reserve-out.c: PERSISTENT RESERVE OUT (SPC-4 5.13.4 to 5.13.11, 6.16).
 *
 * A service action checks everything, then changes the state, all under lu->mutex.  Afterwards, as
 * steps of a job: commands of those who were preempted are aborted, the file is replaced where
 * reservations are kept over a restart, and where the disk is at a peer too a flush waits until
 * they are there (reserve-travel.c); only then is the status sent.
 */
#include "internal.h"

#include <errno.h>
#include <string.h>

enum action {
    REGISTER,
    RESERVE,
    RELEASE,
    CLEAR,
    PREEMPT,
    PREEMPT_AND_ABORT,
    REGISTER_AND_IGNORE,
    MOVE
};

#define LIST_BYTES 24u
#define APTPL 0x01u
#define ALL_TG_PT 0x04u
#define SPEC_I_PT 0x08u

/* What the parameter list says. */
struct out {
    enum action action;
    uint8_t type, flags;
    uint64_t key, action_key;
    struct scsi_nexus_lu *n;
    struct scsi_lu *lu;
    struct reservations *x;
    struct registration *own; /* NULL: not registered */
    bool was_kept;
    /* PREEMPT AND ABORT */
    struct scsi_management management;
    struct scsi_job *management_job;
    struct registration victims[REGISTRATIONS_MAX];
    unsigned victim_count;
};

static bool is_valid_type(uint8_t type)
{
    return type == WRITE_EXCLUSIVE || type == EXCLUSIVE_ACCESS || is_for_registrants(type);
}

static enum action action_of(const struct scsi_command *c)
{
    return (enum action)c->operation->service_action;
}

static bool is_preempt(enum action action)
{
    return action == PREEMPT || action == PREEMPT_AND_ABORT;
}

void decode_reserve_out(struct scsi_command *c)
{
    enum action action = action_of(c);
    bool has_scope = action == RESERVE || action == RELEASE || is_preempt(action);
    uint32_t length = get32(c->cdb + 5);

    if (has_scope && c->cdb[2] >> 4)
        sense_bad_cdb(c, 2, 7);
    else if ((action == RESERVE || is_preempt(action)) && !is_valid_type(c->cdb[2] & 0xf))
        sense_bad_cdb(c, 2, 3);
    else if (length < LIST_BYTES || length > PARAMETER_LIST_MAX)
        sense_set(c, SENSE_ILLEGAL_REQUEST, ASC_PARAMETER_LIST_LENGTH);
    else
        c->transfer_bytes = length;
}

static void conflict(struct scsi_command *c)
{
    c->status = SCSI_RESERVATION_CONFLICT;
}

/* --- changes of the state ----------------------------------------------------------------- */

static void tell_registered(struct out *o, enum attention what)
{
    for (unsigned i = 0; i < o->x->count; i++)
        attention_to_registration(o->lu, &o->x->registration[i], o->n, what);
}

static void clear_reservation(struct out *o)
{
    o->x->type = 0;
    for (unsigned i = 0; i < o->x->count; i++)
        o->x->registration[i].is_holder = false;
}

/* SPC-4 5.13.11.2.2: the others are told where they were let in by their registration. */
static void release(struct out *o)
{
    bool is_told = is_for_registrants(o->x->type);

    clear_reservation(o);
    if (is_told)
        tell_registered(o, ATTENTION_RESERVATIONS_RELEASED);
}

static void remove_at(struct reservations *x, unsigned i)
{
    x->count--;
    memmove(x->registration + i, x->registration + i + 1, (x->count - i) * sizeof *x->registration);
}

static void unregister(struct out *o, struct registration *r)
{
    bool ends = o->x->type && (is_for_all(o->x->type) ? o->x->count == 1 : r->is_holder);

    remove_at(o->x, (unsigned)(r - o->x->registration));
    if (ends)
        release(o);
}

static void hold(struct out *o, struct registration *r, uint8_t type)
{
    clear_reservation(o);
    o->x->type = type;
    r->is_holder = !is_for_all(type);
}

static struct registration *add(struct out *o, const struct initiator_port *port, uint16_t target,
                                uint64_t key)
{
    struct registration *r = &o->x->registration[o->x->count++];

    *r = (struct registration){.port = *port, .key = key, .target_port = target};
    r->is_all_target_ports = o->flags & ALL_TG_PT;
    return r;
}

/* --- REGISTER ----------------------------------------------------------------------------- */

/* The initiator ports behind the list; their number, or -1 with sense. */
static int parse_ids(struct scsi_command *c, struct out *o, struct initiator_port *ports)
{
    const uint8_t *list = c->data;
    uint32_t at = LIST_BYTES + 4, end;
    unsigned count = 0;

    if (c->data_bytes < at || get32(list + LIST_BYTES) != c->data_bytes - at) {
        sense_set(c, SENSE_ILLEGAL_REQUEST, ASC_PARAMETER_LIST_LENGTH);
        return -1;
    }
    for (end = c->data_bytes; at < end; count++) {
        size_t taken = 0;

        if (count + o->x->count + 1 < REGISTRATIONS_MAX)
            taken = transport_id_parse(list + at, end - at, &ports[count]);
        if (!taken) {
            sense_bad_list(c, at, NO_BIT);
            return -1;
        }
        at += (uint32_t)taken;
    }
    return (int)count;
}

static bool is_registered(const struct out *o, const struct initiator_port *port)
{
    for (unsigned i = 0; i < o->x->count; i++)
        if (port_is_same(&o->x->registration[i].port, port))
            return true;
    return false;
}

static void register_others(struct scsi_command *c, struct out *o)
{
    uint16_t target = c->nexus->portal_group;
    CLEANUP_FREE struct initiator_port *ports = calloc(REGISTRATIONS_MAX, sizeof *ports);
    int count;

    if (!ports) {
        c->status = SCSI_BUSY;
        return;
    }
    count = parse_ids(c, o, ports);
    for (int i = 0; i < count; i++)
        if (is_registered(o, &ports[i])) {
            sense_bad_list(c, LIST_BYTES + 4, NO_BIT);
            return;
        }
    for (int i = 0; i < count; i++)
        if (!is_registered(o, &ports[i]))
            add(o, &ports[i], target, o->action_key);
}

static bool check_register(struct scsi_command *c, const struct out *o)
{
    if (o->action == REGISTER && o->key != (o->own ? o->own->key : 0)) {
        conflict(c);
        return false;
    }
    if (o->flags & SPEC_I_PT && (o->own || o->action != REGISTER || !o->action_key)) {
        sense_bad_list(c, 20, 3);
        return false;
    }
    if (o->flags & APTPL && !disk_state_folder(o->lu->disk)) {
        sense_bad_list(c, 20, 0);
        return false;
    }
    if (!o->own && o->action_key && o->x->count == REGISTRATIONS_MAX) {
        sense_set(c, SENSE_ILLEGAL_REQUEST, ASC_INSUFFICIENT_REGISTRATIONS);
        return false;
    }
    return true;
}

static void do_register(struct scsi_command *c, struct out *o)
{
    struct initiator_port port;

    if (!check_register(c, o))
        return;
    if (o->flags & SPEC_I_PT)
        register_others(c, o);
    if (c->status != SCSI_GOOD)
        return;
    port_of_nexus(c->nexus, &port);
    if (!o->own && o->action_key)
        add(o, &port, c->nexus->portal_group, o->action_key);
    else if (o->own && o->action_key)
        o->own->key = o->action_key;
    else if (o->own)
        unregister(o, o->own);
    o->x->generation++;
    o->x->is_kept = o->flags & APTPL;
}

/* --- RESERVE, RELEASE, CLEAR -------------------------------------------------------------- */

static void do_reserve(struct scsi_command *c, struct out *o)
{
    if (o->x->type == 0)
        hold(o, o->own, o->type);
    else if (!is_holder(o->lu, o->own) || o->x->type != o->type)
        conflict(c);
}

static void do_release(struct scsi_command *c, struct out *o)
{
    if (o->x->type == 0 || !is_holder(o->lu, o->own))
        return; /* SPC-4 5.13.11.2.2: GOOD, and nothing happens */
    if (o->x->type != o->type || c->cdb[2] >> 4)
        sense_set(c, SENSE_ILLEGAL_REQUEST, ASC_INVALID_RELEASE);
    else
        release(o);
}

static void do_clear(struct out *o)
{
    tell_registered(o, ATTENTION_RESERVATIONS_PREEMPTED);
    o->x->count = 0;
    o->x->type = 0;
    o->x->generation++;
}

/* --- PREEMPT ------------------------------------------------------------------------------ */

/* Removes what has that key (`key` 0: all), but not the sender's own. */
static unsigned remove_registrations(struct out *o, uint64_t key)
{
    struct registration own = *o->own;
    unsigned removed = 0;

    for (unsigned i = o->x->count; i-- > 0;) {
        struct registration *r = &o->x->registration[i];

        if (r == o->own || (key && r->key != key))
            continue;
        attention_to_registration(o->lu, r, o->n, ATTENTION_REGISTRATIONS_PREEMPTED);
        o->victims[o->victim_count++] = *r;
        remove_at(o->x, i);
        if (r < o->own)
            o->own--;
        removed++;
    }
    if (own.key == key)
        removed++; /* found, but spared */
    return removed;
}

static bool takes_reservation(const struct out *o)
{
    if (o->x->type == 0)
        return false;
    if (is_for_all(o->x->type))
        return o->action_key == 0;
    for (unsigned i = 0; i < o->x->count; i++)
        if (o->x->registration[i].is_holder)
            return o->x->registration[i].key == o->action_key;
    return false;
}

static void do_preempt(struct scsi_command *c, struct out *o)
{
    bool takes = takes_reservation(o);
    uint8_t old_type = o->x->type;

    if (o->action_key == 0 && !takes) {
        sense_bad_list(c, 8, NO_BIT);
        return;
    }
    if (remove_registrations(o, o->action_key) == 0 && !takes) {
        conflict(c);
        return;
    }
    if (takes) {
        hold(o, o->own, o->type);
        if (old_type != o->type)
            tell_registered(o, ATTENTION_RESERVATIONS_RELEASED);
    }
    o->x->generation++;
}

/* --- REGISTER AND MOVE -------------------------------------------------------------------- */

static struct registration *registration_of_port(struct out *o, const struct initiator_port *port)
{
    for (unsigned i = 0; i < o->x->count; i++)
        if (port_is_same(&o->x->registration[i].port, port))
            return &o->x->registration[i];
    return NULL;
}

static bool check_move(struct scsi_command *c, const struct out *o, struct initiator_port *port)
{
    const uint8_t *list = c->data;
    size_t taken;

    if (o->x->type == 0 || is_for_all(o->x->type) || !o->own->is_holder) {
        conflict(c);
        return false;
    }
    if (!o->action_key) {
        sense_bad_list(c, 8, NO_BIT);
        return false;
    }
    if (list[17] & APTPL && !disk_state_folder(o->lu->disk)) {
        sense_bad_list(c, 17, 0);
        return false;
    }
    taken = transport_id_parse(list + 24, c->data_bytes - 24, port);
    if (!taken || taken != get32(list + 20) || port->is_any_isid || port_is_nexus(port, c->nexus)) {
        sense_bad_list(c, 24, NO_BIT);
        return false;
    }
    return true;
}

static void do_move(struct scsi_command *c, struct out *o)
{
    const uint8_t *list = c->data;
    struct initiator_port port;
    struct registration *to;

    if (!check_move(c, o, &port))
        return;
    to = registration_of_port(o, &port);
    if (!to && o->x->count == REGISTRATIONS_MAX) {
        sense_set(c, SENSE_ILLEGAL_REQUEST, ASC_INSUFFICIENT_REGISTRATIONS);
        return;
    }
    if (!to) {
        o->flags = 0;
        to = add(o, &port, (uint16_t)get16(list + 18), o->action_key);
    }
    to->key = o->action_key;
    hold(o, to, o->x->type);
    if (list[17] & 0x02) /* UNREG */
        remove_at(o->x, (unsigned)(o->own - o->x->registration));
    o->x->is_kept = list[17] & APTPL;
    o->x->generation++;
}

/* --- all of them -------------------------------------------------------------------------- */

static void parse(struct scsi_command *c, struct out *o)
{
    const uint8_t *list = c->data;

    memset(o, 0, offsetof(struct out, management));
    o->victim_count = 0;
    o->action = action_of(c);
    o->type = c->cdb[2] & 0xf;
    o->key = get64(list);
    o->action_key = get64(list + 8);
    o->flags = o->action == MOVE ? 0 : list[20];
    o->n = c->nexus_lu;
    o->lu = o->n->lu;
    o->x = &o->lu->reservations;
}

static void dispatch(struct scsi_command *c, struct out *o)
{
    switch (o->action) {
    case RESERVE:
        do_reserve(c, o);
        break;
    case RELEASE:
        do_release(c, o);
        break;
    case CLEAR:
        do_clear(o);
        break;
    case PREEMPT:
    case PREEMPT_AND_ABORT:
        do_preempt(c, o);
        break;
    case MOVE:
        do_move(c, o);
        break;
    default:
        do_register(c, o);
    }
}

/* Under lu->mutex. */
static void carry_out(struct scsi_command *c, struct out *o)
{
    bool is_register = o->action == REGISTER || o->action == REGISTER_AND_IGNORE;

    o->own = registration_with_key(o->lu, c->nexus, o->key);
    o->was_kept = o->x->is_kept;
    if (o->x->is_reserved6)
        conflict(c);
    else if (!is_register && (!o->own || o->own->key != o->key))
        conflict(c);
    else
        dispatch(c, o);
    reservations_recompute(o->lu);
}

static bool is_victim(const struct scsi_nexus_lu *n, void *arg)
{
    const struct out *o = arg;

    for (unsigned i = 0; i < o->victim_count; i++)
        if (n != o->n && port_is_nexus(&o->victims[i].port, n->nexus))
            return true;
    return false;
}

static void on_aborted(struct scsi_management *m)
{
    struct out *o = CONTAINER_OF(m, struct out, management);

    job_resume(o->management_job);
}

static int store(struct scsi_job *job)
{
    return reservations_store(job->command->nexus_lu->lu);
}

/* A disk that is at a peer too has a file of what came from there. */
static bool has_to_be_stored(const struct out *o)
{
    return o->was_kept || o->x->is_kept || disk_records_are_carried(o->lu->disk);
}

static enum job_next out_step(struct scsi_job *job)
{
    struct out *o = job->more;

    switch (job->phase++) {
    case 0:
        if (o->action != PREEMPT_AND_ABORT || o->victim_count == 0)
            return JOB_AGAIN;
        o->management_job = job;
        o->management.nexus = job->command->nexus;
        o->management.function = SCSI_ABORT_TASK_SET;
        o->management.done = on_aborted;
        manage_abort_some(&o->management, o->lu, is_victim, o);
        return JOB_WAIT;
    case 1:
        return has_to_be_stored(o) ? job_work(job, store) : JOB_AGAIN;
    case 2: /* it is with the peer when what was written before it is */
        return disk_records_are_carried(o->lu->disk)
                   ? job_request(job, SLUICE_OP_FLUSH, 0, 0, 0, NULL)
                   : JOB_AGAIN;
    default:
        return JOB_END;
    }
}

static bool check_list(struct scsi_command *c)
{
    const uint8_t *list = c->data;
    bool has_more = action_of(c) == MOVE || (c->data_bytes >= LIST_BYTES && list[20] & SPEC_I_PT);

    if (c->data_bytes == c->transfer_bytes && (has_more || c->data_bytes == LIST_BYTES))
        return true;
    sense_set(c, SENSE_ILLEGAL_REQUEST, ASC_PARAMETER_LIST_LENGTH);
    return false;
}

/* The primary's are the ones that count: what was changed here would be lost with the next change
 * there.  Whoever is registered with that key there is so here too, which is all that one who
 * registers each of his paths asks for.  True: it has been answered. */
static bool is_for_the_primary(struct scsi_command *c, const struct out *o)
{
    bool is_register = o->action == REGISTER || o->action == REGISTER_AND_IGNORE;
    uint16_t asc = not_active(c->nexus_lu);
    const struct registration *own;

    if (!asc)
        return false;
    pthread_mutex_lock(&o->lu->mutex);
    own = registration_with_key(o->lu, c->nexus, o->action_key);
    if (!is_register || o->flags & SPEC_I_PT || !own || own->key != o->action_key)
        sense_set(c, SENSE_NOT_READY, asc);
    pthread_mutex_unlock(&o->lu->mutex);
    return true;
}

enum io_status run_reserve_out(struct scsi_command *c)
{
    struct scsi_job *job;
    struct out *o;

    if (!check_list(c))
        return IO_DONE;
    job = job_new(c, out_step, 0);
    if (!job)
        return IO_DONE;
    job->more = o = malloc(sizeof *o);
    if (!o) {
        job_discard(job);
        c->status = SCSI_BUSY;
        return IO_DONE;
    }
    parse(c, o);
    if (is_for_the_primary(c, o)) {
        job_discard(job);
        return IO_DONE;
    }
    pthread_mutex_lock(&o->lu->mutex);
    carry_out(c, o);
    pthread_mutex_unlock(&o->lu->mutex);
    if (c->status == SCSI_GOOD)
        return job_start(job);
    job_discard(job);
    return IO_DONE;
}
