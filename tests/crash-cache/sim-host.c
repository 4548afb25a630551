/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sim-host.c: the host's table over simulated devices.  Everything that is under way is an event in
 * one array; sim_step() lets one of them happen, chosen by chance.  Time is virtual.
 */
#include "sim.h"

#include "cache/cache.h"
#include "cache/world.h"

#include <errno.h>
#include <stdarg.h>
#include <ucontext.h>

/* --- coroutines
 * ------------------------------------------------------------------------------------- */

#define STACK_BYTES (192u << 10)
#define COROUTINES 16u

struct coroutine {
    ucontext_t context;
    uint8_t *stack;
    void (*run)(void *arg);
    void *arg;
    bool is_used, is_asleep, is_ready;
};
static struct coroutine coroutines[COROUTINES];
static struct coroutine *running;
static ucontext_t main_context;

static void coroutine_main(void)
{
    running->run(running->arg);
    running->is_used = false;
    swapcontext(&running->context, &main_context);
}

static void resume_coroutine(struct coroutine *co)
{
    co->is_ready = false;
    running = co;
    swapcontext(&main_context, &co->context);
    running = NULL;
}

static void yield_coroutine(void)
{
    swapcontext(&running->context, &main_context);
}

static void start_coroutine(void (*run)(void *), void *arg)
{
    struct coroutine *co = coroutines;

    while (co < coroutines + COROUTINES && co->is_used)
        co++;
    if (co == coroutines + COROUTINES)
        abort();
    if (!co->stack)
        co->stack = malloc(STACK_BYTES);
    getcontext(&co->context);
    co->context.uc_stack.ss_sp = co->stack;
    co->context.uc_stack.ss_size = STACK_BYTES;
    co->context.uc_link = NULL;
    makecontext(&co->context, coroutine_main, 0);
    co->run = run;
    co->arg = arg;
    co->is_used = co->is_ready = true;
    co->is_asleep = false;
}

void cache_sleep(pthread_cond_t *cond, pthread_mutex_t *mutex)
{
    (void)cond;
    pthread_mutex_unlock(mutex);
    running->is_asleep = true;
    yield_coroutine();
    running->is_asleep = false;
    pthread_mutex_lock(mutex);
}

void cache_wake(pthread_cond_t *cond)
{
    (void)cond;
    for (unsigned i = 0; i < COROUTINES; i++)
        if (coroutines[i].is_used && coroutines[i].is_asleep)
            coroutines[i].is_ready = true;
}

/* --- events
 * ----------------------------------------------------------------------------------------- */

enum event_kind { EV_FILE, EV_IO, EV_PASSED, EV_RESUMED, EV_WORK };
struct event {
    enum event_kind kind;
    void *what;
    uint64_t mark;
};
#define EVENTS 4096u
static struct event events[EVENTS];
static unsigned event_count;
static struct sluice_timer *timers[8];
static uint64_t timer_due[8];

static void add_event(enum event_kind kind, void *what, uint64_t mark)
{
    if (event_count == EVENTS)
        abort();
    events[event_count++] = (struct event){kind, what, mark};
}

/* --- the filter's instance
 * --------------------------------------------------------------------------- */

const struct sluice_filter *sluice_filter_table(void);
unsigned sim_ssd_faults;
char sim_health[300];
unsigned sim_unread_told;
static void *instance;
static const char disk_uuid[] = "6b8b4567-327b-23c6-643c-986966334873";

struct cache *sim_cache(void)
{
    return instance;
}

static const struct sluice_handler *handler_of(uint8_t op)
{
    const struct sluice_filter *f = sluice_filter_table();
    const struct sluice_handler *all[] = {&f->read, &f->write,   &f->flush,   &f->trim,
                                          &f->zero, &f->extents, &f->prefetch};

    return all[op];
}

static void apply_to_backing(uint8_t op, uint64_t offset, uint64_t length, void *data,
                             uint64_t mark)
{
    switch (op) {
    case SLUICE_OP_READ:
        memcpy(data, backing.now + offset, length);
        break;
    case SLUICE_OP_WRITE:
        dev_apply(&backing, offset, length, data);
        break;
    case SLUICE_OP_TRIM:
    case SLUICE_OP_ZERO:
        dev_apply(&backing, offset, length, NULL);
        break;
    case SLUICE_OP_FLUSH:
        dev_flush_end(&backing, mark);
        break;
    default:
        break;
    }
}

static uint32_t extent_type(uint64_t block)
{
    static const uint8_t zeros[4096];
    bool is_zero = memcmp(backing.now + block * 4096, zeros, 4096) == 0;

    return is_zero ? SLUICE_EXTENT_HOLE | SLUICE_EXTENT_ZERO : 0;
}

/* --- requests
 * ---------------------------------------------------------------------------------------- */

static void finish(struct sim_request *r, int32_t error)
{
    r->done(r, error);
}

static void pass(struct sim_request *r, bool asked)
{
    r->asked = asked;
    add_event(EV_PASSED, r, dev_flush_begin(&backing));
}

static void take_verdict(struct sim_request *r, struct sluice_verdict v)
{
    switch (v.kind) {
    case SLUICE_VERDICT_PASS:
    case SLUICE_VERDICT_PASS_TELL:
        pass(r, v.kind == SLUICE_VERDICT_PASS_TELL);
        break;
    case SLUICE_VERDICT_COMPLETE:
        finish(r, 0);
        break;
    case SLUICE_VERDICT_FAIL:
        finish(r, v.error);
        break;
    default:
        r->is_deferred = true;
        if (r->is_resumed)
            add_event(EV_RESUMED, r, 0);
        break;
    }
}

void sim_submit(struct sim_request *r)
{
    r->is_deferred = r->is_resumed = r->asked = false;
    memset(r->scratch, 0, sizeof r->scratch);
    take_verdict(r, handler_of(r->pub.op)->start(instance, &r->pub, r->scratch));
}

static struct sim_request *request_of(struct sluice_request *pub)
{
    return (struct sim_request *)(void *)pub;
}

static bool do_resume(struct sluice_disk *disk, struct sluice_request *pub, struct sluice_verdict v)
{
    struct sim_request *r = request_of(pub);

    (void)disk;
    if (r->is_resumed)
        abort();
    r->is_resumed = true;
    r->resumed = v;
    if (r->is_deferred)
        add_event(EV_RESUMED, r, 0);
    return true;
}

static void end_passed(struct sim_request *r, uint64_t mark)
{
    bool has_fua = r->pub.flags & SLUICE_FLAG_FUA;

    if (r->pub.op == SLUICE_OP_EXTENTS)
        for (uint64_t b = r->pub.offset / 4096; b < (r->pub.offset + r->pub.length) / 4096; b++)
            r->on_extent(r, b * 4096, 4096, extent_type(b));
    apply_to_backing(r->pub.op, r->pub.offset, r->pub.length, r->pub.data, mark);
    if (has_fua)
        dev_flush_end(&backing, dev_flush_begin(&backing));
    r->pub.error = 0;
    if (r->asked)
        handler_of(r->pub.op)->completion(instance, &r->pub, r->scratch);
    finish(r, 0);
}

/* --- own I/O
 * ----------------------------------------------------------------------------------------- */

static void tell_extents(struct sluice_io *io)
{
    for (uint64_t b = io->offset / 4096; b < (io->offset + io->length) / 4096; b++)
        io->on_extent(io, b * 4096, 4096, extent_type(b));
}

/* The backing knows its extents long before it says that this was all. */
static int do_io_submit(struct sluice_disk *disk, struct sluice_io *io)
{
    (void)disk;
    if (io->op == SLUICE_OP_EXTENTS)
        tell_extents(io);
    add_event(EV_IO, io, dev_flush_begin(&backing));
    return 0;
}

static int do_file_submit(struct sluice_file *file, struct sluice_file_io *io)
{
    (void)file;
    add_event(EV_FILE, io, dev_flush_begin(&ssd));
    return 0;
}

/* The coroutine that waits is in host_private[0]. */
static void wake_io(struct sluice_io *io, int32_t error)
{
    (void)error;
    ((struct coroutine *)io->host_private[0])->is_ready = true;
}
static void wake_file_io(struct sluice_file_io *io, int32_t error)
{
    io->host_private[1] = (void *)(intptr_t)error;
    ((struct coroutine *)io->host_private[0])->is_ready = true;
}

static int do_io_wait(struct sluice_disk *disk, struct sluice_io *io)
{
    io->done = wake_io;
    io->host_private[0] = running;
    do_io_submit(disk, io);
    yield_coroutine();
    return 0;
}

static int do_file_wait(struct sluice_file *file, struct sluice_file_io *io)
{
    io->done = wake_file_io;
    io->host_private[0] = running;
    do_file_submit(file, io);
    yield_coroutine();
    return -(int)(intptr_t)io->host_private[1];
}

static void end_io(struct sluice_io *io, uint64_t mark)
{
    apply_to_backing(io->op, io->offset, io->length, io->data, mark);
    io->done(io, 0);
}

/* A device that fails may have done a part of a write. */
static bool ssd_refuses(const struct sluice_file_io *io)
{
    bool is_read = io->op == SLUICE_OP_READ, is_alone = io->length == 4096 && io->offset >= 8192;

    if (sim_ssd_faults & SIM_HEADERS_FAIL && io->op == SLUICE_OP_WRITE && is_alone) {
        dev_apply(&ssd, io->offset, io->length, io->data);
        return true;
    }
    if (!(sim_ssd_faults & (is_read ? SIM_READS_FAIL : SIM_WRITES_FAIL)))
        return false;
    if (io->op == SLUICE_OP_WRITE)
        dev_apply_torn(&ssd, io->offset, io->length, io->data);
    return true;
}

static void end_file_io(struct sluice_file_io *io, uint64_t mark)
{
    if (ssd_refuses(io)) {
        io->done(io, EIO);
        return;
    }
    if (io->op == SLUICE_OP_READ)
        memcpy(io->data, ssd.now + io->offset, io->length);
    else if (io->op == SLUICE_OP_WRITE)
        dev_write(&ssd, io->offset, io->length, io->data, io->flags & SLUICE_FLAG_FUA);
    else if (io->op == SLUICE_OP_FLUSH)
        dev_flush_end(&ssd, mark);
    else
        dev_apply(&ssd, io->offset, io->length, NULL);
    io->done(io, 0);
}

/* --- the rest of the table
 * ----------------------------------------------------------------------------- */

static bool do_commit(struct sluice_disk *disk, struct sluice_request *r)
{
    (void)disk, (void)r;
    return true;
}

static void do_hold(struct sluice_disk *disk, struct sluice_request *r, const char *reason)
{
    (void)disk, (void)r, (void)reason;
}

static bool do_extent(struct sluice_disk *disk, struct sluice_request *pub, uint64_t length,
                      uint32_t type)
{
    struct sim_request *r = request_of(pub);

    (void)disk;
    r->on_extent(r, r->extent_at, length, type);
    r->extent_at += length;
    return true;
}

static int do_timer_start(struct sluice_disk *disk, struct sluice_timer *timer, uint64_t delay_ns)
{
    unsigned i = 0;

    (void)disk;
    while (timers[i] && timers[i] != timer)
        i++;
    timers[i] = timer;
    timer_due[i] = sim_now_ns + delay_ns;
    return 0;
}

static bool do_timer_stop(struct sluice_disk *disk, struct sluice_timer *timer)
{
    (void)disk;
    for (unsigned i = 0; i < 8; i++)
        if (timers[i] == timer)
            timer_due[i] = UINT64_MAX;
    return true;
}

static void run_work(void *arg)
{
    struct sluice_work *work = arg;

    work->run(work);
}

static int do_work(struct sluice_disk *disk, struct sluice_work *work)
{
    (void)disk;
    add_event(EV_WORK, work, 0);
    return 0;
}

static int do_file_open(struct sluice_disk *disk, const char *path, uint32_t flags, uint64_t size,
                        struct sluice_file **file, struct sluice_error *error)
{
    (void)disk, (void)path, (void)flags, (void)size, (void)error;
    *file = (struct sluice_file *)(void *)&ssd;
    return 0;
}

static uint64_t do_file_size(struct sluice_file *file)
{
    (void)file;
    return ssd.size;
}

static void do_file_close(struct sluice_file *file)
{
    (void)file;
}

/* A crash may come here. */
void sim_let_others_go_on(void)
{
    if (!running)
        return;
    running->is_ready = true;
    yield_coroutine();
}

static bool do_memory_take(struct sluice_disk *disk, uint64_t bytes)
{
    (void)disk, (void)bytes;
    return true;
}
static void do_memory_give(struct sluice_disk *disk, uint64_t bytes)
{
    (void)disk, (void)bytes;
}
static void do_health(struct sluice_disk *disk, uint32_t s, const char *sentence,
                      const char *remedy)
{
    (void)disk, (void)s, (void)remedy;
    snprintf(sim_health, sizeof sim_health, "%s", sentence);
}
__attribute__((format(printf, 3, 0))) static void do_log(struct sluice_disk *disk, uint32_t level,
                                                         const char *fmt, va_list ap)
{
    (void)disk, (void)level;
    sim_unread_told += strncmp(fmt, "reading %s failed", 17) == 0;
    if (sim_verbose > 0) {
        vfprintf(stderr, fmt, ap);
        fputc('\n', stderr);
    }
}
static void do_event(struct sluice_disk *disk, const char *name, const char *fmt, va_list ap)
{
    (void)disk, (void)name, (void)fmt, (void)ap;
}
static int64_t counters[64];
static void do_count(struct sluice_disk *disk, uint32_t counter, int64_t delta)
{
    (void)disk;
    counters[counter] += delta;
}
int64_t sim_counter(unsigned index)
{
    return counters[index];
}
static void do_observe(struct sluice_disk *disk, uint32_t counter, uint64_t ns)
{
    (void)disk, (void)counter, (void)ns;
}
__attribute__((format(printf, 3, 0))) static int do_set_error(struct sluice_error *error, int code,
                                                              const char *fmt, va_list ap)
{
    (void)error;
    vsnprintf(sim_error, sizeof sim_error, fmt, ap);
    return -code;
}
static void do_reply_text(struct sluice_reply *reply, const char *fmt, va_list ap)
{
    (void)reply, (void)fmt, (void)ap;
}
static void do_reply_integer(struct sluice_reply *reply, const char *key, int64_t value)
{
    (void)reply, (void)key, (void)value;
}
static void do_reply_string(struct sluice_reply *reply, const char *key, const char *value)
{
    (void)reply, (void)key, (void)value;
}
static void do_progress(struct sluice_disk *disk, const char *what, uint64_t done, uint64_t total)
{
    (void)disk, (void)what, (void)done, (void)total;
}

static const struct sluice_host host = {
    .struct_size = sizeof(struct sluice_host),
    .api_version = SLUICE_FILTER_API_VERSION,
    .resume = do_resume,
    .commit = do_commit,
    .hold = do_hold,
    .extent = do_extent,
    .io_submit = do_io_submit,
    .io_wait = do_io_wait,
    .timer_start = do_timer_start,
    .timer_stop = do_timer_stop,
    .work = do_work,
    .file_open = do_file_open,
    .file_submit = do_file_submit,
    .file_wait = do_file_wait,
    .file_size = do_file_size,
    .file_close = do_file_close,
    .state_read = sim_state_read,
    .state_write = sim_state_write,
    .state_remove = sim_state_remove,
    .memory_take = do_memory_take,
    .memory_give = do_memory_give,
    .health = do_health,
    .log = do_log,
    .event = do_event,
    .count = do_count,
    .observe = do_observe,
    .now_ns = sim_now,
    .set_error = do_set_error,
    .reply_text = do_reply_text,
    .reply_integer = do_reply_integer,
    .reply_string = do_reply_string,
    .progress = do_progress,
};

struct sluice_disk sim_disk = {
    .host = &host, .name = "sim", .uuid = disk_uuid, .group = "sim", .block_bytes = 4096};

/* --- calls that may block
 * --------------------------------------------------------------------------------- */

struct call {
    struct sim_call *out;
    struct sim_config config;
    struct sluice_event event;
    const char *verb, *argument;
};
static struct call calls[COROUTINES];
static unsigned next_call;

static struct call *new_call(struct sim_call *out)
{
    struct call *c = &calls[next_call++ % COROUTINES];

    memset(c, 0, sizeof *c);
    out->is_done = false;
    c->out = out;
    return c;
}

/* The defaults of the table that matter, and what the test wants. */
static void fill_values(struct sluice_value *v, const struct sim_config *config)
{
    const struct sluice_option *o = sluice_filter_table()->options;

    for (unsigned i = 0; o[i].name; i++) {
        int64_t value = strcmp(o[i].name, "dirty.soft") == 0      ? 40
                        : strcmp(o[i].name, "dirty.hard") == 0    ? 70
                        : strcmp(o[i].name, "destage.depth") == 0 ? 4
                        : strcmp(o[i].name, "destage.after") == 0 ? 20000000
                        : strcmp(o[i].name, "bypass_over") == 0   ? 65536
                        : strcmp(o[i].name, "ssd.timeout") == 0   ? 200000000
                        : strcmp(o[i].name, "ram") == 0           ? (int64_t)config->ram
                        : strcmp(o[i].name, "ssd.size") == 0      ? (int64_t)config->ssd_bytes
                        : strcmp(o[i].name, "mode") == 0          ? config->mode
                        : strcmp(o[i].name, "ordered") == 0       ? config->is_ordered
                                                                  : 0;

        v[i].integer = value;
        v[i].is_set = strcmp(o[i].name, "ssd.tier") != 0 &&
                      strcmp(o[i].name, "destage.rate") != 0 &&
                      strcmp(o[i].name, "ssd.given_up") != 0;
        v[i].string = strcmp(o[i].name, "ssd.path") == 0 ? "sim.tier" : NULL;
    }
}

static void run_open(void *arg)
{
    struct call *c = arg;
    struct sluice_value values[32];

    memset(values, 0, sizeof values);
    fill_values(values, &c->config);
    c->out->result = sluice_filter_table()->open(&sim_disk, values, &instance, NULL);
    if (c->out->result < 0)
        instance = NULL;
    c->out->is_done = true;
}

void sim_open(struct sim_call *out, const struct sim_config *config)
{
    struct call *c = new_call(out);

    c->config = *config;
    start_coroutine(run_open, c);
}

static void run_event(void *arg)
{
    struct call *c = arg;

    c->out->result = sluice_filter_table()->event(instance, &c->event, NULL);
    c->out->is_done = true;
}

void sim_event(struct sim_call *out, uint32_t kind, uint32_t phase)
{
    struct call *c = new_call(out);

    c->event =
        (struct sluice_event){.kind = kind, .phase = phase, .name = "", .deadline_ns = UINT64_MAX};
    start_coroutine(run_event, c);
}

static void run_verb(void *arg)
{
    struct call *c = arg;

    for (const struct sluice_verb *v = sluice_filter_table()->verbs; v->name; v++)
        if (strcmp(v->name, c->verb) == 0)
            c->out->result = v->run(instance, c->argument != NULL, &c->argument, NULL, NULL);
    c->out->is_done = true;
}

void sim_verb(struct sim_call *out, const char *verb, const char *argument)
{
    struct call *c = new_call(out);

    c->verb = verb;
    c->argument = argument;
    start_coroutine(run_verb, c);
}

/* --- the run of events
 * -------------------------------------------------------------------------------------- */

static unsigned ready_coroutines(void)
{
    unsigned n = 0;

    for (unsigned i = 0; i < COROUTINES; i++)
        n += coroutines[i].is_used && coroutines[i].is_ready;
    return n;
}

static void resume_nth(unsigned n)
{
    for (unsigned i = 0; i < COROUTINES; i++)
        if (coroutines[i].is_used && coroutines[i].is_ready && n-- == 0) {
            resume_coroutine(&coroutines[i]);
            return;
        }
}

static void happen(struct event e)
{
    switch (e.kind) {
    case EV_FILE:
        end_file_io(e.what, e.mark);
        break;
    case EV_IO:
        end_io(e.what, e.mark);
        break;
    case EV_PASSED:
        end_passed(e.what, e.mark);
        break;
    case EV_RESUMED: {
        struct sim_request *r = e.what;

        take_verdict(r, r->resumed);
        break;
    }
    default:
        start_coroutine(run_work, e.what);
        break;
    }
}

static bool fire_timer(bool must)
{
    unsigned soonest = 8;

    for (unsigned i = 0; i < 8; i++)
        if (timers[i] && timer_due[i] != UINT64_MAX &&
            (soonest == 8 || timer_due[i] < timer_due[soonest]))
            soonest = i;
    if (soonest == 8 || (!must && timer_due[soonest] > sim_now_ns))
        return false;
    if (sim_now_ns < timer_due[soonest])
        sim_now_ns = timer_due[soonest];
    timer_due[soonest] = UINT64_MAX;
    timers[soonest]->fire(timers[soonest]);
    return true;
}

static bool can_happen(const struct event *e)
{
    if (e->kind == EV_IO && ((const struct sluice_io *)e->what)->op == SLUICE_OP_EXTENTS)
        return !sim_holds_extents;
    return e->kind != EV_FILE || !(sim_ssd_faults & SIM_HANGS);
}

/* Those that can happen go to the front. */
static unsigned sort_events(void)
{
    unsigned n = 0;

    if (!(sim_ssd_faults & SIM_HANGS) && !sim_holds_extents)
        return event_count;
    for (unsigned i = 0; i < event_count; i++)
        if (can_happen(&events[i])) {
            struct event e = events[i];

            events[i] = events[n];
            events[n++] = e;
        }
    return n;
}

bool sim_step(void)
{
    unsigned possible = sort_events(), n = possible + ready_coroutines();
    unsigned pick;

    sim_now_ns += sim_below(200000);
    if (sim_one_in(4) && fire_timer(false))
        return true;
    if (n == 0)
        return fire_timer(true);
    pick = sim_below(n);
    if (pick < possible) {
        struct event e = events[pick];

        events[pick] = events[--event_count];
        happen(e);
    } else {
        resume_nth(pick - possible);
    }
    return true;
}

/* --- ends
 * ----------------------------------------------------------------------------------------------------
 */

static void tear(const struct event *e)
{
    if (e->kind == EV_FILE) {
        const struct sluice_file_io *io = e->what;

        if (io->op == SLUICE_OP_WRITE || io->op == SLUICE_OP_ZERO)
            dev_apply_torn(&ssd, io->offset, io->length, io->data);
    } else if (e->kind == EV_IO) {
        const struct sluice_io *io = e->what;

        if (io->op == SLUICE_OP_WRITE)
            dev_apply_torn(&backing, io->offset, io->length, io->data);
    } else if (e->kind == EV_PASSED) {
        const struct sim_request *r = e->what;

        if (r->pub.op == SLUICE_OP_WRITE || r->pub.op == SLUICE_OP_TRIM ||
            r->pub.op == SLUICE_OP_ZERO)
            dev_apply_torn(&backing, r->pub.offset, r->pub.length, r->pub.data);
    }
}

void sim_crash(bool is_power)
{
    sim_ssd_faults = 0;
    sim_state_fails = false;
    sim_health[0] = 0;
    memset(counters, 0, sizeof counters);
    for (unsigned i = 0; i < event_count; i++)
        tear(&events[i]);
    event_count = 0;
    memset(timers, 0, sizeof timers);
    for (unsigned i = 0; i < COROUTINES; i++)
        coroutines[i].is_used = false;
    sim_free_all();
    instance = NULL;
    if (is_power) {
        dev_power_cut(&ssd);
        dev_power_cut(&backing);
    }
}

void sim_close(void)
{
    sim_health[0] = 0;
    sluice_filter_table()->close(instance);
    instance = NULL;
    memset(timers, 0, sizeof timers);
    if (sim_has_memory())
        sim_violation("the filter leaves memory behind");
    sim_free_all();
}
