/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * node.c: one gateway's host over simulated devices.  Everything that is under way is an event in
 * one array; pair_step() lets one of them happen, chosen by chance.  Opening blocks; all else is
 * events.
 */
#include "pair.h"

#include <errno.h>
#include <stdarg.h>

struct node nodes[NODES];
int memory_node;

/* --- events ---------------------------------------------------------------------------------- */

enum event_kind {
    EV_FILE,
    EV_IO,
    EV_PASSED,
    EV_RESUMED,
    EV_WORK,
    EV_ABOVE,
    EV_DEMOTED,
    EV_WISH,
    EV_BELOW,
    EV_GROWN
};
struct event {
    enum event_kind kind;
    struct node *node;
    void *what;
    struct device *device;
    uint64_t mark;
    unsigned disk; /* EV_IO: of the group */
};
#define EVENTS 4096u
static struct event events[EVENTS];
static unsigned event_count;

struct node *node_of(const struct sluice_disk *disk)
{
    return &nodes[(size_t)((const char *)disk - (const char *)nodes) / sizeof nodes[0]];
}

static void add_event(enum event_kind kind, struct node *n, void *what, struct device *device)
{
    if (event_count == EVENTS)
        abort();
    events[event_count++] = (struct event){kind, n, what, device, device ? device->number : 0, 0};
}

static bool changes(uint8_t op)
{
    return op == SLUICE_OP_WRITE || op == SLUICE_OP_ZERO || op == SLUICE_OP_TRIM;
}

/* --- requests -------------------------------------------------------------------------------- */

static const struct sluice_handler *handler_of(uint8_t op)
{
    const struct sluice_filter *f = sluice_filter_table();

    return op == SLUICE_OP_WRITE   ? &f->write
           : op == SLUICE_OP_READ  ? &f->read
           : op == SLUICE_OP_FLUSH ? &f->flush
           : op == SLUICE_OP_TRIM  ? &f->trim
                                   : &f->zero;
}

static void take_verdict(struct guest_request *q, struct sluice_verdict v)
{
    switch (v.kind) {
    case SLUICE_VERDICT_PASS_TELL:
        q->asked = true;
        add_event(EV_PASSED, &nodes[q->node], q, &nodes[q->node].image);
        break;
    case SLUICE_VERDICT_PASS:
        if (q->pub.op == SLUICE_OP_READ)
            add_event(EV_BELOW, &nodes[q->node], q, NULL);
        else
            guest_done(q, q->pub.error);
        break;
    case SLUICE_VERDICT_FAIL:
        guest_done(q, v.error);
        break;
    default:
        q->is_deferred = true;
        if (q->is_resumed)
            add_event(EV_RESUMED, &nodes[q->node], q, NULL);
        break;
    }
}

void node_submit(struct guest_request *q)
{
    const struct node *n = &nodes[q->node];

    q->is_deferred = q->is_resumed = q->asked = false;
    memset(q->scratch, 0, sizeof q->scratch);
    if (q->pub.op != SLUICE_OP_FLUSH) {
        q->disk = node_disk_of(n, q->block, q->count);
        q->pub.offset = q->block * BLOCK - node_disk_begins(q->disk);
    }
    take_verdict(q, handler_of(q->pub.op)->start(n->members[q->disk], &q->pub, q->scratch));
}

/* It has passed the gate, and a filter above has it for a while. */
void node_submit_later(struct guest_request *q)
{
    memset(q->scratch, 0, sizeof q->scratch);
    add_event(EV_ABOVE, &nodes[q->node], q, NULL);
}

static bool do_resume(struct sluice_disk *disk, struct sluice_request *pub, struct sluice_verdict v)
{
    struct guest_request *q = (struct guest_request *)(void *)pub;

    if (q->is_resumed)
        abort();
    q->is_resumed = true;
    q->resumed = v;
    if (q->is_deferred)
        add_event(EV_RESUMED, node_of(disk), q, NULL);
    return true;
}

/* Below one disk of the group. */
static int32_t apply(struct node *n, unsigned disk, uint8_t op, uint64_t offset, uint64_t length,
                     void *data, uint64_t mark)
{
    if (op != SLUICE_OP_FLUSH && offset + length > n->disks[disk].size_bytes)
        return EINVAL;
    offset += node_disk_begins(disk);
    if (n->fails_io && op != SLUICE_OP_READ && pair_one_in(3))
        return EIO;
    if (op == SLUICE_OP_READ)
        memcpy(data, n->image.now + offset, length);
    else if (op == SLUICE_OP_WRITE)
        device_write(&n->image, offset, length, data);
    else if (op == SLUICE_OP_FLUSH)
        device_flush_range(&n->image, node_disk_begins(disk), n->disks[disk].size_bytes, mark);
    else
        device_write(&n->image, offset, length, NULL);
    return 0;
}

static void end_passed(struct guest_request *q, uint64_t mark)
{
    struct node *n = &nodes[q->node];

    q->pub.error = apply(n, q->disk, q->pub.op, q->pub.offset, q->pub.length, q->pub.data, mark);
    if (!q->pub.error && changes(q->pub.op))
        pair_written(n, q);
    if (!q->pub.error && q->pub.flags & SLUICE_FLAG_FUA)
        q->pub.error = apply(n, q->disk, SLUICE_OP_FLUSH, 0, 0, NULL, n->image.number);
    q->is_deferred = q->is_resumed = false;
    take_verdict(q, handler_of(q->pub.op)->completion(n->members[q->disk], &q->pub, q->scratch));
}

/* A read, of which the filter is not told any more. */
static void end_read(struct guest_request *q)
{
    guest_done(q, apply(&nodes[q->node], q->disk, q->pub.op, q->pub.offset, q->pub.length,
                        q->pub.data, 0));
}

/* A deferral that has ended: on the way down it goes on, on the way up it is over. */
static void end_hold(struct guest_request *q)
{
    struct sluice_verdict v = q->resumed;

    q->is_deferred = q->is_resumed = false;
    take_verdict(q, v);
}

/* --- own I/O --------------------------------------------------------------------------------- */

static int do_io_submit(struct sluice_disk *disk, struct sluice_io *io)
{
    add_event(EV_IO, node_of(disk), io, &node_of(disk)->image);
    events[event_count - 1].disk = (unsigned)(disk - node_of(disk)->disks);
    return 0;
}

static struct node *owner_of(const struct device *d)
{
    return &nodes[(size_t)((const char *)d - (const char *)nodes) / sizeof nodes[0]];
}

static bool is_seal(const struct node *n, const struct device *d)
{
    return d >= n->seals && d < n->seals + SEALS_MAX;
}

static int do_file_submit(struct sluice_file *file, struct sluice_file_io *io)
{
    struct device *d = (struct device *)(void *)file;

    add_event(EV_FILE, owner_of(d), io, d);
    return 0;
}

static int32_t run_io(struct node *n, unsigned disk, struct sluice_io *io, uint64_t mark)
{
    if (changes(io->op))
        pair_overwritten(n, node_disk_begins(disk) + io->offset, io->length, io->data);
    return apply(n, disk, io->op, io->offset, io->length, io->data, mark);
}

static int do_io_wait(struct sluice_disk *disk, struct sluice_io *io)
{
    struct node *n = node_of(disk);

    if (n->is_slow || pair_one_in(16))
        pair_now_ns += 2000000; /* a slow one: the next are submitted */
    return -run_io(n, (unsigned)(disk - n->disks), io, n->image.number);
}

static int32_t run_file(struct device *d, struct sluice_file_io *io, uint64_t mark)
{
    const struct node *n = owner_of(d);

    if (n->is_full && is_seal(n, d) && io->op == SLUICE_OP_WRITE)
        return ENOSPC;
    if (io->op == SLUICE_OP_READ)
        memcpy(io->data, d->now + io->offset, io->length);
    else if (changes(io->op))
        device_write(d, io->offset, io->length, io->op == SLUICE_OP_WRITE ? io->data : NULL);
    else
        device_flush(d, mark);
    return 0;
}

static int do_file_try(struct sluice_file *file, struct sluice_file_io *io)
{
    struct device *d = (struct device *)(void *)file;

    if (io->op != SLUICE_OP_WRITE || pair_one_in(2))
        return -EAGAIN;
    return -run_file(d, io, d->number);
}

static int do_file_wait(struct sluice_file *file, struct sluice_file_io *io)
{
    struct device *d = (struct device *)(void *)file;

    return -run_file(d, io, d->number);
}

/* --- the rest of the table
 * ------------------------------------------------------------------------------------------- */

static bool do_commit(struct sluice_disk *disk, struct sluice_request *q)
{
    (void)disk, (void)q;
    return true;
}
static void do_hold(struct sluice_disk *disk, struct sluice_request *q, const char *reason)
{
    (void)disk, (void)q, (void)reason;
}
static int do_timer_start(struct sluice_disk *disk, struct sluice_timer *timer, uint64_t delay_ns)
{
    node_of(disk)->timer = timer;
    node_of(disk)->timer_due = pair_now_ns + delay_ns;
    return 0;
}
static bool do_timer_stop(struct sluice_disk *disk, struct sluice_timer *timer)
{
    (void)timer;
    node_of(disk)->timer = NULL;
    return true;
}
static int do_work(struct sluice_disk *disk, struct sluice_work *work)
{
    add_event(EV_WORK, node_of(disk), work, NULL);
    return 0;
}
static int do_file_open(struct sluice_disk *disk, const char *path, uint32_t flags, uint64_t size,
                        struct sluice_file **file, struct sluice_error *error)
{
    struct node *n = node_of(disk);
    unsigned slot = 0;
    struct device *d = strcmp(path, "evidence") == 0             ? &n->evidence
                       : strcmp(path, "spill") == 0              ? &n->spill
                       : sscanf(path, "seal-%u.raw", &slot) == 1 ? &n->seals[slot]
                                                                 : &n->journal;

    (void)flags, (void)size, (void)error;
    *file = (struct sluice_file *)(void *)d;
    return 0;
}
static uint64_t do_file_size(struct sluice_file *file)
{
    return ((struct device *)(void *)file)->size;
}
static void do_file_close(struct sluice_file *file)
{
    (void)file;
}
struct state_file *node_state(struct node *n, const char *name)
{
    for (unsigned i = 0; i < STATE_FILES; i++)
        if (n->state[i].length && strcmp(n->state[i].name, name) == 0)
            return &n->state[i];
    return NULL;
}

static int do_state_read(struct sluice_disk *disk, const char *name, void *data, size_t capacity,
                         size_t *length)
{
    const struct state_file *f = node_state(node_of(disk), name);

    if (!f)
        return -ENOENT;
    if (f->length > capacity)
        return -EFBIG;
    memcpy(data, f->data, f->length);
    *length = f->length;
    return 0;
}
static int do_state_write(struct sluice_disk *disk, const char *name, const void *data,
                          size_t length)
{
    struct node *n = node_of(disk);
    struct state_file *f = node_state(n, name);

    for (unsigned i = 0; !f && i < STATE_FILES; i++)
        if (!n->state[i].length)
            f = &n->state[i];
    if (!f || length > sizeof f->data || strlen(name) >= sizeof f->name)
        abort();
    strcpy(f->name, name);
    memcpy(f->data, data, length);
    f->length = length;
    return 0;
}
static int do_state_remove(struct sluice_disk *disk, const char *name)
{
    struct node *n = node_of(disk);
    struct state_file *f = node_state(n, name);
    unsigned slot;

    if (f)
        f->length = 0;
    if (strstr(name, ".raw") && sscanf(name, "seal-%u", &slot) == 1)
        device_wipe(&n->seals[slot]);
    return 0;
}
static const char *do_state_folder(struct sluice_disk *disk)
{
    (void)disk;
    return "state";
}
static int do_role_request(struct sluice_disk *disk, uint32_t role, uint64_t epoch,
                           struct sluice_error *error)
{
    (void)epoch, (void)error;
    if (role != SLUICE_ROLE_PRIMARY)
        add_event(EV_DEMOTED, node_of(disk), NULL, NULL);
    return 0;
}
static uint32_t do_role(struct sluice_disk *disk, uint64_t *epoch)
{
    const struct replica *r = node_of(disk)->r;

    (void)epoch;
    return r && r->super.role == REPLICA_PRIMARY ? SLUICE_ROLE_PRIMARY : SLUICE_ROLE_SECONDARY;
}
static bool do_gate_is_drained(struct sluice_disk *disk)
{
    return node_of(disk)->is_gated && guests_are_drained(node_of(disk)->number);
}
static void do_gate(struct sluice_disk *disk, bool is_closed, const char *reason)
{
    node_of(disk)->is_gated = is_closed;
    pair_say("   %d %s", node_of(disk)->number, is_closed ? reason : "serves");
}
static void do_health(struct sluice_disk *disk, uint32_t state, const char *sentence,
                      const char *remedy)
{
    (void)disk, (void)state, (void)sentence, (void)remedy;
}
__attribute__((format(printf, 3, 0))) static void do_log(struct sluice_disk *disk, uint32_t level,
                                                         const char *fmt, va_list ap)
{
    char text[400];

    (void)level;
    vsnprintf(text, sizeof text, fmt, ap);
    pair_say("   %d says %s", node_of(disk)->number, text);
    /* Nothing here damages that file, but a crash, which is noticed at the start. */
    if (strstr(text, "journal of what waits for the link"))
        pair_violation("what was written to the file for the link is not there: %s", text);
}
static void do_event(struct sluice_disk *disk, const char *name, const char *fmt, va_list ap)
{
    (void)fmt, (void)ap;
    node_of(disk)->stales += strcmp(name, "stale") == 0;
    node_of(disk)->replays += strcmp(name, "replay") == 0;
    node_of(disk)->tiers += strcmp(name, "tier") == 0;
    pair_say("   %d event %s", node_of(disk)->number, name);
}
static void do_count(struct sluice_disk *disk, uint32_t counter, int64_t delta)
{
    (void)disk, (void)counter, (void)delta;
}
static uint64_t do_now(void)
{
    return pair_now_ns;
}
__attribute__((format(printf, 3, 0))) static int do_set_error(struct sluice_error *error, int code,
                                                              const char *fmt, va_list ap)
{
    if (error) { /* somebody wants the sentence */
        vprintf(fmt, ap);
        putchar('\n');
    }
    return -code;
}
__attribute__((format(printf, 2, 0))) static void do_reply_text(struct sluice_reply *reply,
                                                                const char *fmt, va_list ap)
{
    (void)reply, (void)fmt, (void)ap;
}
static void do_reply_integer(struct sluice_reply *reply, const char *key, int64_t value)
{
    (void)reply, (void)key, (void)value;
}
static void do_progress(struct sluice_disk *disk, const char *what, uint64_t done, uint64_t total)
{
    (void)disk, (void)what, (void)done, (void)total;
}

static uint32_t do_group_disks(struct sluice_disk *disk)
{
    return node_of(disk)->disk_count;
}
static void do_shared_lock(struct sluice_disk *disk)
{
    (void)disk;
}
static void *do_shared_get(struct sluice_disk *disk, const char *key, size_t bytes)
{
    (void)key;
    return bytes <= sizeof node_of(disk)->shared ? node_of(disk)->shared : NULL;
}

static int do_wish(struct sluice_disk *disk, struct sluice_wish *wish)
{
    add_event(EV_WISH, node_of(disk), wish, NULL);
    return 0;
}

static const struct sluice_host host = {
    .struct_size = sizeof(struct sluice_host),
    .api_version = SLUICE_FILTER_API_VERSION,
    .resume = do_resume,
    .commit = do_commit,
    .hold = do_hold,
    .io_submit = do_io_submit,
    .io_wait = do_io_wait,
    .timer_start = do_timer_start,
    .timer_stop = do_timer_stop,
    .work = do_work,
    .file_open = do_file_open,
    .file_submit = do_file_submit,
    .file_wait = do_file_wait,
    .file_try = do_file_try,
    .file_size = do_file_size,
    .file_close = do_file_close,
    .state_read = do_state_read,
    .state_write = do_state_write,
    .state_remove = do_state_remove,
    .state_folder = do_state_folder,
    .role = do_role,
    .role_request = do_role_request,
    .wish = do_wish,
    .record_arrived = records_arrived,
    .gate = do_gate,
    .gate_is_drained = do_gate_is_drained,
    .channel_open = line_open,
    .channel_queue = line_queue,
    .channel_flush = line_flush,
    .channel_close = line_close,
    .health = do_health,
    .log = do_log,
    .event = do_event,
    .count = do_count,
    .now_ns = do_now,
    .set_error = do_set_error,
    .progress = do_progress,
    .reply_text = do_reply_text,
    .reply_integer = do_reply_integer,
    .group_disks = do_group_disks,
    .shared_lock = do_shared_lock,
    .shared_unlock = do_shared_lock,
    .shared_get = do_shared_get,
};

/* --- life ------------------------------------------------------------------------------------ */

void nodes_make(void)
{
    for (int i = 0; i < NODES; i++) {
        struct node *n = &nodes[i];

        n->number = i;
        device_make(&n->image, DISK_BYTES);
        device_make(&n->evidence, 64 << 10);
        device_make(&n->journal, 4 << 20);
        device_make(&n->spill, 1 << 20);
        for (unsigned slot = 0; slot < SEALS_MAX; slot++)
            device_make(&n->seals[slot], DISK_BYTES);
    }
}

void nodes_wipe(void)
{
    link_break();
    event_count = 0;
    for (int i = 0; i < NODES; i++) {
        struct node *n = &nodes[i];

        n->r = NULL;
        n->timer = NULL;
        memory_forget(i);
        device_wipe(&n->image);
        device_wipe(&n->evidence);
        device_wipe(&n->journal);
        device_wipe(&n->spill);
        for (unsigned slot = 0; slot < SEALS_MAX; slot++)
            device_wipe(&n->seals[slot]);
        memset(n->state, 0, sizeof n->state);
        memset(n->records, 0, sizeof n->records);
        n->power_cuts = n->stales = 0;
        n->fails_io = n->is_full = n->is_damaged = n->no_room = n->is_slow = false;
        n->old_bytes = 0;
        n->size_bytes = DISK_BYTES;
        line_forget(i);
    }
    snapshots_wipe();
    pair_now_ns = 1000000;
}

static void say_journal(const struct node *n)
{
    const struct journal *j = &n->r->journal;

    pair_say("   %d journal: tail %u head %u synced %u term %u, in super: tail %u term %u",
             n->number, (unsigned)j->tail, (unsigned)j->head, (unsigned)j->synced,
             (unsigned)j->term, (unsigned)n->r->super.journal_tail,
             (unsigned)n->r->super.journal_term);
}

static void make_disks(struct node *n, unsigned count)
{
    static const char *const uuids[DISKS] = {"6b8b4567-327b-23c6-643c-986966334873",
                                             "7b8b4567-327b-23c6-643c-986966334873",
                                             "8b8b4567-327b-23c6-643c-986966334873"};

    n->disk_count = count;
    memset(n->shared, 0, sizeof n->shared);
    for (unsigned i = 0; i < count; i++)
        n->disks[i] =
            (struct sluice_disk){.host = &host,
                                 .name = "disk",
                                 .uuid = uuids[i],
                                 .group = "disk",
                                 .size_bytes = count == 1 ? n->size_bytes : node_disk_bytes(i),
                                 .block_bytes = BLOCK};
}

/* In any order; the last one makes them one. */
static int open_disks(struct node *n, const struct sluice_value *v)
{
    unsigned first = n->disk_count > 1 ? pair_below(n->disk_count) : 0;
    int status = 0;

    for (unsigned i = 0; i < n->disk_count && status == 0; i++) {
        unsigned at = (first + i) % n->disk_count;
        void *instance = NULL;

        status = sluice_filter_table()->open(&n->disks[at], v, &instance,
                                             (struct sluice_error *)(void *)n);
        n->members[at] = instance;
    }
    return status;
}

int node_start(struct node *n, const struct pair_settings *s)
{
    const struct sluice_option *o = sluice_filter_table()->options;
    struct sluice_value v[16] = {{0}};
    int status;

    for (unsigned i = 0; o[i].name; i++) {
        v[i].is_set = strcmp(o[i].name, "journal.path") != 0 &&
                      strcmp(o[i].name, "spill.path") != 0 && strcmp(o[i].name, "max_rate") != 0;
        v[i].string = "peer";
        v[i].integer = strcmp(o[i].name, "mode") == 0           ? s->mode
                       : strcmp(o[i].name, "ack") == 0          ? s->ack
                       : strcmp(o[i].name, "on_peer_loss") == 0 ? s->loss
                       : strcmp(o[i].name, "peer_timeout") == 0 ? 2000000000ll
                       : strcmp(o[i].name, "peer_wait") == 0    ? 4000000000ll
                       : strcmp(o[i].name, "ram") == 0          ? 16384
                       : strcmp(o[i].name, "journal.size") == 0 ? (int64_t)s->journal_bytes
                       : strcmp(o[i].name, "spill.size") == 0   ? (int64_t)s->spill_bytes
                                                                : 0;
    }
    n->journal.size = s->journal_bytes;
    n->spill.size = s->spill_bytes;
    memory_node = n->number;
    pair_say("-- %d starts", n->number);
    make_disks(n, s->disks ? s->disks : 1);
    status = open_disks(n, v);
    n->r = status == 0 ? n->members[0]->r : NULL;
    if (n->r) {
        records_join(n);
        n->r->seed.mode = n->r->seed.usual = s->sends_all ? SEED_SEND_ALL : SEED_ASK;
        say_journal(n);
        node_resume(n);
    }
    return status;
}

static void tear(const struct event *e)
{
    if (e->kind == EV_FILE) {
        const struct sluice_file_io *io = e->what;

        if (io->op == SLUICE_OP_WRITE)
            device_write_torn(e->device, io->offset, io->length, io->data);
    } else if (e->kind == EV_IO || e->kind == EV_PASSED) {
        const struct sluice_io *io = e->what;
        const struct guest_request *q = e->what;
        uint8_t op = e->kind == EV_IO ? io->op : q->pub.op;

        if (e->kind == EV_IO && op != SLUICE_OP_READ && op != SLUICE_OP_FLUSH)
            pair_overwritten(e->node, node_disk_begins(e->disk) + io->offset, io->length, io->data);
        if (op == SLUICE_OP_WRITE || op == SLUICE_OP_ZERO || op == SLUICE_OP_TRIM)
            device_write_torn(e->device,
                              node_disk_begins(e->kind == EV_IO ? e->disk : q->disk) +
                                  (e->kind == EV_IO ? io->offset : q->pub.offset),
                              e->kind == EV_IO ? io->length : q->pub.length,
                              op != SLUICE_OP_WRITE ? NULL
                              : e->kind == EV_IO    ? io->data
                                                    : q->pub.data);
    }
}

void node_forget(struct node *n)
{
    unsigned kept = 0;

    n->timer = NULL;
    for (unsigned i = 0; i < event_count; i++)
        if (events[i].node != n)
            events[kept++] = events[i];
    event_count = kept;
    n->r = NULL;
    line_is_dead(n->number);
    memory_forget(n->number);
}

void node_kill(struct node *n, bool is_power)
{
    if (!n->r)
        return;
    say_journal(n);
    if (!is_power && pair_one_in(4))
        node_spoil_journal(n);
    pair_say("-- %d dies%s", n->number, is_power ? " by a power cut" : "");
    for (unsigned i = 0; i < event_count; i++)
        if (events[i].node == n)
            tear(&events[i]);
    node_forget(n);
    if (is_power) {
        n->power_cuts++;
        device_power_cut(&n->image);
        device_power_cut(&n->evidence);
        device_power_cut(&n->journal);
        device_power_cut(&n->spill);
        for (unsigned slot = 0; slot < SEALS_MAX; slot++)
            device_power_cut(&n->seals[slot]);
    }
}

/* --- the run of events ----------------------------------------------------------------------- */

/* The front ends have cut their clients, unless this side is to be primary again. */
static void commit_demotion(struct node *n)
{
    const struct sluice_event event = {.kind = SLUICE_EVENT_DEMOTE, .phase = SLUICE_PHASE_COMMIT};

    if (n->r->super.role != REPLICA_SECONDARY || n->r->is_promoting)
        return;
    guests_leave(n->number);
    for (unsigned i = 0; i < n->disk_count; i++)
        sluice_filter_table()->event(n->members[i], &event, NULL);
}

static void happen(struct event e)
{
    memory_node = e.node->number;
    switch (e.kind) {
    case EV_FILE:
        ((struct sluice_file_io *)e.what)->done(e.what, run_file(e.device, e.what, e.mark));
        break;
    case EV_IO: {
        struct sluice_io *io = e.what;

        io->done(io, run_io(e.node, e.disk, io, e.mark));
        break;
    }
    case EV_PASSED:
        end_passed(e.what, e.mark);
        break;
    case EV_RESUMED:
        end_hold(e.what);
        break;
    case EV_BELOW:
        end_read(e.what);
        break;
    case EV_ABOVE:
        (pair_below(16) ? node_submit_later : node_submit)(e.what);
        break;
    case EV_DEMOTED:
        commit_demotion(e.node);
        break;
    case EV_WISH:
        if (node_grant_wish(e.node, e.what))
            add_event(EV_GROWN, e.node, e.what, NULL);
        break;
    case EV_GROWN:
        node_end_wish(e.node, e.what);
        break;
    default:
        ((struct sluice_work *)e.what)->run(e.what);
        break;
    }
}

static bool fire_timer(bool must)
{
    struct node *soonest = NULL;

    for (int i = 0; i < NODES; i++)
        if (nodes[i].timer && (!soonest || nodes[i].timer_due < soonest->timer_due))
            soonest = &nodes[i];
    if (!soonest || (!must && soonest->timer_due > pair_now_ns))
        return false;
    if (pair_now_ns < soonest->timer_due)
        pair_now_ns = soonest->timer_due;
    memory_node = soonest->number;
    struct sluice_timer *timer = soonest->timer;
    soonest->timer = NULL;
    timer->fire(timer);
    return true;
}

unsigned pair_pending(void)
{
    return event_count + line_count(0) + line_count(1);
}

static bool is_still_slow(const struct event *e)
{
    return e->kind == EV_IO && e->node->is_slow &&
           changes(((const struct sluice_io *)e->what)->op) && !pair_one_in(24);
}

bool pair_step(void)
{
    unsigned to0 = line_count(0) > 0, to1 = line_count(1) > 0;
    unsigned n = event_count + (to0 + to1) * 2, pick;

    pair_now_ns += pair_below(2000000);
    if (fire_timer(false))
        return true;
    if (n == 0)
        return fire_timer(true);
    pick = pair_below(n);
    if (pick < event_count) {
        struct event e = events[pick];

        if (is_still_slow(&e))
            return true;
        events[pick] = events[--event_count];
        happen(e);
    } else {
        int to = to0 && (!to1 || pair_one_in(2)) ? 0 : 1;

        memory_node = to;
        line_deliver(to);
    }
    return true;
}
