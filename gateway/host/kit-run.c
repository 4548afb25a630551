/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * kit-run.c: what is tried, step by step, in the child: the table and life of an instance, every
 * operation at the edges of the disk, load from workers and a loop, cancels, every control event in
 * both phases and its abort, attach and detach under load, verbs, resize, and what is left behind.
 *
 * The disk is a memfd; the model in kit-model.c knows what has to be on it.  A step fails when the
 * model has found a fault or the step says so; later steps still run.
 */
#include "kit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define DISK_BYTES (UINT64_C(16) << 20)
#define GROWTH_BYTES (UINT64_C(1) << 20)

struct check {
    struct kit *kit;
    const struct sluice_filter *filter;
    struct sluice_value *values;
    struct disk *disk;
    struct seat *seat;
    struct station *station;
    struct kit_model model;
    bool is_attached;
};

/* --- report --------------------------------------------------------------------------------- */

static void begin(struct check *c, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void begin(struct check *c, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(c->kit->step, KIT_STEP_MAX, fmt, ap);
    va_end(ap);
}

/* why: NULL when all is well, as far as the step itself can see. */
static void end(struct check *c, const char *why)
{
    struct kit *kit = c->kit;
    char fault[sizeof c->model.fault];

    if (!why && kit_take_fault(&c->model, fault))
        why = fault;
    kit->checks++;
    kit->failures += why != NULL;
    fprintf(kit->report, "%s  %s%s%s\n", why ? "FAIL" : "ok  ", kit->step, why ? ": " : "",
            why ? why : "");
    fflush(kit->report);
}

static void note(struct check *c, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void note(struct check *c, const char *fmt, ...)
{
    va_list ap;

    fputs("note  ", c->kit->report);
    va_start(ap, fmt);
    vfprintf(c->kit->report, fmt, ap);
    va_end(ap);
    fputc('\n', c->kit->report);
    fflush(c->kit->report);
}

/* --- the disk ------------------------------------------------------------------------------- */

static int make_disk(struct check *c, struct err *e)
{
    struct disk_settings settings = {.name = "kit", .size_bytes = DISK_BYTES};
    struct backing_spec spec = {.kind = BACKING_FILE, .disk = "kit"};
    int fd = memfd_create("sluice-kit", MFD_CLOEXEC);
    char path[64];
    int r;

    if (fd < 0 || ftruncate(fd, (off_t)DISK_BYTES) < 0)
        return err_set(e, errno, "cannot make a disk in memory: %s", strerror(errno));
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd); /* stays open for as long as we live */
    spec.path = path;
    r = disk_open(&settings, &spec, &c->disk, e);
    if (r == 0 && kit_model_make(&c->model, c->disk, DISK_BYTES) < 0)
        r = err_set(e, ENOMEM, "out of memory");
    return r;
}

static int set_chain(struct check *c, bool is_attached, struct err *e)
{
    int r = disk_set_chain(c->disk, &c->station, is_attached, NULL, e);

    if (r == 0)
        c->is_attached = is_attached;
    return r;
}

/* --- table and life ------------------------------------------------------------------------- */

static int open_instance(struct check *c, struct err *e)
{
    struct station_settings settings = {.name = c->filter->name, .values = c->values};
    int r = host_station_open(c->disk, c->filter, &settings, &c->station, e);

    if (r == 0)
        c->seat = seat_of_station(c->station);
    return r;
}

static const char *describe_leftovers(const struct leftovers *left, char text[200])
{
    if (left->was_stuck)
        return "its own I/O, work or timers never ended";
    if (!left->locks && !left->files && !left->shares && !left->memory_bytes)
        return NULL;
    snprintf(text, 200,
             "it left behind: %u range locks, %u files, %u shared states, %llu bytes of memory",
             left->locks, left->files, left->shares, (unsigned long long)left->memory_bytes);
    return text;
}

static void close_instance(struct check *c, const char *when)
{
    struct leftovers left;
    char text[200];

    begin(c, "closes %s and leaves nothing behind", when);
    seat_close(c->seat, &left);
    end(c, describe_leftovers(&left, text));
    c->station = NULL;
    c->seat = NULL;
}

static bool check_life(struct check *c)
{
    struct err e = {0};

    begin(c, "opens an instance");
    if (open_instance(c, &e) < 0) {
        end(c, e.text);
        return false;
    }
    end(c, NULL);
    close_instance(c, "unused");
    begin(c, "opens again and joins the chain");
    if (open_instance(c, &e) < 0 || set_chain(c, true, &e) < 0) {
        end(c, e.text);
        return false;
    }
    end(c, NULL);
    return true;
}

/* --- every operation ------------------------------------------------------------------------ */

static void try_at(struct check *c, unsigned op, uint32_t flags, uint64_t offset, uint64_t length,
                   uint8_t *data)
{
    struct kit_op o = {.op = op, .flags = flags, .offset = offset, .length = length, .data = data};

    if (op == SLUICE_OP_FLUSH)
        o.offset = o.length = 0;
    if (op == SLUICE_OP_WRITE)
        memset(data, (int)(offset / 512 + length + flags) | 1, length);
    kit_op_execute(&c->model, &o);
    if (op != SLUICE_OP_READ && op != SLUICE_OP_FLUSH) { /* and what is there now */
        o.op = SLUICE_OP_READ;
        o.flags = 0;
        kit_op_execute(&c->model, &o);
    }
}

static void try_operation(struct check *c, unsigned op, uint8_t *data)
{
    static const uint64_t lengths[] = {1, 511, 512, 4096, 65536, 65536 + 512, 1 << 20};
    static const uint32_t flags[] = {0, SLUICE_FLAG_FUA, SLUICE_FLAG_NO_HOLE, SLUICE_FLAG_FAST_ONLY,
                                     SLUICE_FLAG_ATOMIC};
    static const uint32_t known[SLUICE_OP_COUNT] = {
        [SLUICE_OP_WRITE] = SLUICE_FLAG_FUA | SLUICE_FLAG_ATOMIC,
        [SLUICE_OP_TRIM] = SLUICE_FLAG_FUA,
        [SLUICE_OP_ZERO] = SLUICE_FLAG_FUA | SLUICE_FLAG_NO_HOLE | SLUICE_FLAG_FAST_ONLY,
    };

    for (size_t f = 0; f < ARRAY_SIZE(flags); f++)
        for (size_t l = 0; l < ARRAY_SIZE(lengths) && (flags[f] & ~known[op]) == 0; l++) {
            uint64_t end_at = DISK_BYTES - lengths[l];

            try_at(c, op, flags[f], 0, lengths[l], data);
            try_at(c, op, flags[f], end_at, lengths[l], data);
            try_at(c, op, flags[f], MIN(DISK_BYTES / 2 - 512, end_at), lengths[l], data);
            try_at(c, op, flags[f], MIN(12345u, end_at), lengths[l], data);
        }
}

static void check_operations(struct check *c)
{
    CLEANUP_FREE uint8_t *data = malloc(2u << 20);

    for (unsigned op = 0; data && op < SLUICE_OP_COUNT; op++) {
        begin(c, "%s at the edges, aligned and not, with every flag", engine_op_name(op));
        try_operation(c, op, data);
        end(c, NULL);
    }
}

static void check_load(struct check *c)
{
    struct kit_load *load;

    begin(c, "random requests from workers and a loop, verified");
    load = kit_load_start(&c->model);
    if (load) {
        kit_load_go_on(load, 400);
        kit_load_stop(load);
        kit_model_verify(&c->model);
    }
    end(c, load ? NULL : "out of memory");
}

static void check_cancel(struct check *c)
{
    uint64_t before = atomic_load(&c->model.cancelled);

    begin(c, "requests that are cancelled end, once each");
    for (unsigned round = 0; round < 4; round++)
        for (unsigned op = 0; op < SLUICE_OP_COUNT; op++)
            kit_cancel_round(&c->model, op, 32);
    kit_model_verify(&c->model);
    end(c, NULL);
    note(c, "%llu requests were cancelled",
         (unsigned long long)(atomic_load(&c->model.cancelled) - before));
}

/* --- events --------------------------------------------------------------------------------- */

/* A filter may refuse, but with a sentence of its own. */
static const char *judge_event(struct check *c, int r, const struct err *e)
{
    char bare[200];

    if (r == 0)
        return NULL;
    if (r == -ETIMEDOUT)
        return e->text;
    note(c, "%s: refused: %s", c->kit->step, e->text);
    snprintf(bare, sizeof bare, "filter %s: %s", c->station->name, strerror(e->code));
    return strcmp(e->text, bare) == 0 ? "it refuses without a sentence" : NULL;
}

static void check_event(struct check *c, uint32_t kind)
{
    struct sluice_event event = {.kind = kind, .name = "kit", .epoch = 1, .size_bytes = DISK_BYTES};
    struct err e = {0};
    int r;

    begin(c, "%s: prepare and abort", disk_event_name(kind));
    r = disk_event_prepare(c->disk, &event, &e);
    if (r == 0)
        r = disk_event_abort(c->disk, kind, &e);
    end(c, judge_event(c, r, &e));
    begin(c, "%s: prepare and commit", disk_event_name(kind));
    r = disk_event_prepare(c->disk, &event, &e);
    if (r == 0)
        r = disk_event_commit(c->disk, kind, &e);
    end(c, judge_event(c, r, &e));
}

static void check_quiesce(struct check *c)
{
    struct err e = {0};
    int r = 0;

    begin(c, "lets go of everything when quiesced, and goes on");
    for (unsigned i = 0; i < 5 && r == 0; i++) {
        r = disk_quiesce(c->disk, &e);
        if (r == 0)
            disk_resume(c->disk);
    }
    end(c, r < 0 ? e.text : NULL);
}

static void check_policy_change(struct check *c)
{
    struct err e = {0};
    int r;

    begin(c, "policy-change: with the options that it has");
    r = disk_policy_change(c->disk, c->station, c->values, &e);
    end(c, judge_event(c, r, &e));
}

/* A snapshot's promise: what was acknowledged is in the backing, and nothing needs the filter. */
static void check_snapshot_promise(struct check *c)
{
    struct sluice_event event = {.kind = SLUICE_EVENT_SNAPSHOT, .name = "kit"};
    struct err e = {0};

    if (!(c->filter->traits & SLUICE_TRAIT_HOLDS_DATA))
        return;
    begin(c, "after a snapshot's prepare all data is below");
    if (disk_event_prepare(c->disk, &event, &e) < 0) {
        end(c, NULL); /* refused; that was judged before */
        return;
    }
    for (uint64_t at = 0; at < c->model.size; at += 65536) {
        struct sluice_io io = {.op = SLUICE_OP_READ,
                               .origin = SLUICE_ORIGIN_MAINTENANCE,
                               .offset = at,
                               .length = 65536};
        uint8_t data[65536];
        uint64_t same;

        io.data = data;
        if (seat_io_wait(c->seat, &io) < 0)
            continue;
        same = kit_model_compare(&c->model, at, data, sizeof data);
        if (same < sizeof data)
            kit_fault(&c->model, "the byte at %llu is not", (unsigned long long)(at + same));
    }
    end(c, disk_event_commit(c->disk, SLUICE_EVENT_SNAPSHOT, &e) < 0 ? e.text : NULL);
}

/* Under load: what is written meanwhile is not old. */
static void check_sanitize(struct check *c)
{
    struct err e = {0};
    int r;

    begin(c, "sanitize");
    do
        r = disk_sanitize(c->disk, &e);
    while (r == -EAGAIN);
    end(c, judge_event(c, r, &e));
}

static void check_events(struct check *c)
{
    static const uint32_t kinds[] = {
        SLUICE_EVENT_START,          SLUICE_EVENT_STOP,          SLUICE_EVENT_SNAPSHOT,
        SLUICE_EVENT_PROMOTE,        SLUICE_EVENT_DEMOTE,        SLUICE_EVENT_MIGRATE,
        SLUICE_EVENT_BEFORE_UPGRADE, SLUICE_EVENT_AFTER_UPGRADE, SLUICE_EVENT_RESIZE,
    };
    struct kit_load *load = kit_load_start(&c->model);

    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
        check_event(c, kinds[i]);
    check_policy_change(c);
    check_quiesce(c);
    check_sanitize(c);
    begin(c, "goes on after all events");
    if (load) {
        kit_load_go_on(load, 50);
        kit_load_stop(load);
    }
    kit_model_verify(&c->model);
    end(c, NULL);
    check_snapshot_promise(c);
}

static void check_resize(struct check *c)
{
    struct err e = {0};
    int r;

    begin(c, "resize: the new part is zeros and can be used");
    r = disk_resize(c->disk, DISK_BYTES + GROWTH_BYTES, &e);
    if (r == 0 && kit_model_grow(&c->model, DISK_BYTES + GROWTH_BYTES) == 0) {
        struct kit_slice slice = {.first = DISK_BYTES, .length = GROWTH_BYTES, .random = 5};
        CLEANUP_FREE uint8_t *data = malloc(65536);
        struct kit_op op = {.data = data};

        kit_model_verify(&c->model);
        for (unsigned i = 0; data && i < 200; i++) {
            kit_op_random(&op, &slice, 65536);
            kit_op_execute(&c->model, &op);
        }
    }
    end(c, judge_event(c, r, &e));
}

/* --- attach and detach ---------------------------------------------------------------------- */

/* One round of what a reload does: the instance goes, a new one comes, and guests notice nothing.
 */
static const char *replace_instance(struct check *c, struct kit_load *load, char text[200])
{
    struct leftovers left;
    struct err e = {0};
    const char *why = NULL;

    if (set_chain(c, false, &e) == 0) {
        seat_close(c->seat, &left);
        c->station = NULL;
        why = describe_leftovers(&left, text);
        kit_load_go_on(load, 5);
        if (!why && open_instance(c, &e) == 0 && set_chain(c, true, &e) == 0)
            return NULL;
    }
    if (!why)
        snprintf(text, 200, "%.199s", e.text);
    return text;
}

static void check_attach_and_detach(struct check *c)
{
    struct kit_load *load;
    const char *why = NULL;
    char text[200];

    if (c->filter->traits & SLUICE_TRAIT_CHANGES_DATA)
        return; /* never attached to or detached from a disk with data */
    begin(c, "leaves and another joins the chain under load");
    load = kit_load_start(&c->model);
    for (unsigned i = 0; load && i < 5 && !why; i++) {
        kit_load_go_on(load, 5);
        why = replace_instance(c, load, text);
    }
    if (load)
        kit_load_stop(load);
    kit_model_verify(&c->model);
    end(c, why);
}

/* --- verbs and status ----------------------------------------------------------------------- */

static void check_verb(struct check *c, const struct sluice_verb *verb)
{
    json_t *reply = NULL;
    struct err e = {0};
    int r;

    begin(c, "verb %s without arguments", verb->name);
    r = host_station_verb(c->station, verb->name, 0, NULL, &reply, &e);
    json_decref(reply);
    end(c, judge_event(c, r, &e));
}

static void check_verbs(struct check *c)
{
    for (unsigned i = 0; i < filter_verb_count(c->filter); i++)
        check_verb(c, &c->filter->verbs[i]);
}

static void check_status(struct check *c)
{
    json_t *status = host_station_status(c->station);

    begin(c, "status can be shown");
    end(c, status ? NULL : "it cannot");
    json_decref(status);
}

/* --- the end -------------------------------------------------------------------------------- */

static void say_what_was_seen(struct check *c)
{
    uint64_t blocked = atomic_load(&c->station->stats.blocked);

    note(c, "%llu requests, of which %llu were failed",
         (unsigned long long)atomic_load(&c->model.requests),
         (unsigned long long)atomic_load(&c->model.failed));
    if (blocked)
        note(c, "a callback ran for 10 ms or more, %llu times (on a busy machine that may happen)",
             (unsigned long long)blocked);
}

static void check_end(struct check *c)
{
    bool changes_data = c->filter->traits & SLUICE_TRAIT_CHANGES_DATA;
    struct err e = {0};
    int r;

    if (!c->station)
        return; /* a new one could not be had; that was said */
    say_what_was_seen(c);
    begin(c, "leaves the chain for good, and what lies below is whole");
    r = set_chain(c, false, &e);
    if (r == 0 && !changes_data)
        kit_model_verify(&c->model);
    end(c, r < 0 ? e.text : NULL);
    if (r == 0)
        close_instance(c, "after all that");
}

static bool begin_all(struct check *c, const char *path, const char *const *words, unsigned count)
{
    struct err e = {0};

    begin(c, "loads, and its table is sound");
    c->filter = host_find_filter(path, &e);
    if (c->filter && host_parse_values(c->filter, words, count, &c->values, &e) == 0 &&
        host_start(2, 4, 0, &e) == 0 && disk_watch_start(&e) == 0 && make_disk(c, &e) == 0) {
        end(c, NULL);
        return true;
    }
    end(c, e.text);
    return false;
}

static void run_all(struct check *c)
{
    check_operations(c);
    check_load(c);
    check_cancel(c);
    check_events(c);
    check_verbs(c);
    check_status(c);
    check_resize(c);
    check_attach_and_detach(c);
    check_end(c);
}

int kit_run(struct kit *kit, const char *path, const char *const *words, unsigned count)
{
    struct check c = {.kit = kit};

    if (begin_all(&c, path, words, count) && check_life(&c))
        run_all(&c);
    snprintf(kit->step, KIT_STEP_MAX, "%u of %u checks failed", kit->failures, kit->checks);
    fprintf(kit->report, "%s: %u checks, %u failed\n", c.filter ? c.filter->name : path,
            kit->checks, kit->failures);
    if (kit->failures)
        return 1; /* requests that never ended may still be at work with the model */
    kit_model_free(&c.model);
    free(c.values);
    return 0;
}
