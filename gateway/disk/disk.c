/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * disk.c: opening and closing a disk, what it is, and the notices it gives.
 */
#include "internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define DEFAULT_QUIESCE_LIMIT_NS (UINT64_C(2) * 1000000000u)
#define DEFAULT_EVENT_LIMIT_NS (UINT64_C(10) * 1000000000u)
#define DEFAULT_PREPARE_TTL_NS (UINT64_C(60) * 1000000000u)

/* --- notices
 * -------------------------------------------------------------------------------------- */

static _Atomic(disk_notify_fn *) notify_fn;
static _Atomic(void *) notify_context;

void disk_set_notify(disk_notify_fn *notify, void *context)
{
    atomic_store(&notify_context, context);
    atomic_store(&notify_fn, notify);
}

void disk_notify(const struct disk *disk, const char *name, const char *fmt, ...)
{
    disk_notify_fn *fn = atomic_load(&notify_fn);
    char text[1000];
    va_list ap;

    if (!fn)
        return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    fn(atomic_load(&notify_context), disk, name, text);
}

static void on_stalled(void *context, const struct sluice_request *r, const char *what,
                       uint64_t age_ns, const char *action)
{
    struct disk *disk = context;

    log_line(LOG_LEVEL_WARNING,
             "a %s of %llu bytes at %llu waits for %.1f s in %s (%s) disk=%s req=%llx",
             engine_op_name(r->op), (unsigned long long)r->length, (unsigned long long)r->offset,
             (double)age_ns / 1e9, what, action, disk->name, (unsigned long long)r->id);
    disk_notify(disk, "stalled",
                "request:%llx op:%s offset:%llu length:%llu where:%s age_ms:%llu action:%s",
                (unsigned long long)r->id, engine_op_name(r->op), (unsigned long long)r->offset,
                (unsigned long long)r->length, what, (unsigned long long)(age_ns / 1000000u),
                action);
}

static const struct engine_hooks hooks = {.stalled = on_stalled};

/* --- open
 * ---------------------------------------------------------------------------------------------- */

static int take_settings(struct disk *disk, const struct disk_settings *s, struct err *e)
{
    snprintf(disk->name, sizeof disk->name, "%s", s->name);
    snprintf(disk->group, sizeof disk->group, "%s", s->group ? s->group : s->name);
    disk->group_disks = MAX(s->group_disks, 1u);
    disk->read_only = s->read_only;
    disk->quiesce_limit_ns = s->quiesce_limit_ns ? s->quiesce_limit_ns : DEFAULT_QUIESCE_LIMIT_NS;
    disk->event_limit_ns = s->event_limit_ns ? s->event_limit_ns : DEFAULT_EVENT_LIMIT_NS;
    disk->prepare_ttl_ns = s->prepare_ttl_ns ? s->prepare_ttl_ns : DEFAULT_PREPARE_TTL_NS;
    if (s->state_root && snprintf(disk->folder, sizeof disk->folder, "%s/disks/%s", s->state_root,
                                  s->name) >= (int)sizeof disk->folder)
        return err_set(e, ENAMETOOLONG, "%s: the state folder's name is too long", s->name);
    return 0;
}

static void configure_engine(struct disk *disk, const struct disk_settings *s)
{
    engine_configure(disk->engine, &(struct engine_settings){
                                       .deadline_ns = s->deadline_ns,
                                       .on_stall = s->on_stall,
                                       .is_read_only = s->read_only,
                                   });
}

static uint64_t size_to_serve(const struct disk *disk, const struct disk_settings *s)
{
    uint64_t backing = backing_info(disk->backing)->size_bytes;

    if (disk->is_beyond_policy)
        return disk->known_size;
    return s->size_bytes ? s->size_bytes : MAX(backing, disk->known_size);
}

static int check_size(struct disk *disk, const struct disk_settings *s, struct err *e)
{
    uint64_t backing = backing_info(disk->backing)->size_bytes;

    /* Until the policy says as much. */
    disk->is_beyond_policy =
        disk->is_beyond_policy && s->size_bytes && s->size_bytes < disk->known_size;
    if (disk->is_beyond_policy) {
        log_line(LOG_LEVEL_WARNING,
                 "its policy says size: %llu, but it has grown to %llu bytes, with its peer or "
                 "before a crash: write that there disk=%s",
                 (unsigned long long)s->size_bytes, (unsigned long long)disk->known_size,
                 disk->name);
        return 0;
    }
    if (s->size_bytes && s->size_bytes < disk->known_size)
        return err_set(
            e, EINVAL, "%s: size %llu is smaller than before (%llu); a disk is never made smaller",
            disk->name, (unsigned long long)s->size_bytes, (unsigned long long)disk->known_size);
    if (s->size_bytes > backing && !s->read_only)
        return backing_resize(disk->backing, s->size_bytes, e);
    if (s->size_bytes > backing)
        return err_set(e, EINVAL, "%s: size %llu is larger than the read-only backing (%llu)",
                       disk->name, (unsigned long long)s->size_bytes, (unsigned long long)backing);
    return 0;
}

static int make_engine(struct disk *disk, const struct disk_settings *s, struct err *e)
{
    struct chain *empty = chain_create(NULL, 0, disk->backing);

    if (empty)
        disk->engine = engine_create(disk->name, empty, size_to_serve(disk, s), &hooks, disk);
    if (!disk->engine) {
        free(empty);
        return err_set(e, ENOMEM, "%s: out of memory", disk->name);
    }
    configure_engine(disk, s);
    return 0;
}

static int open_parts(struct disk *disk, const struct disk_settings *s, struct backing_spec *spec,
                      struct err *e)
{
    bool is_new;
    int r = take_settings(disk, s, e);

    if (r == 0)
        r = disk_load_identity(disk, s, spec, &is_new, e);
    if (r == 0)
        r = backing_open(spec, &disk->backing, e);
    if (r == 0)
        r = disk_check_backing(disk, spec, is_new, e);
    if (r == 0)
        r = check_size(disk, s, e);
    if (r == 0)
        r = make_engine(disk, s, e);
    if (r == 0)
        r = disk_save_identity(disk, engine_size(disk->engine), e);
    if (r == 0)
        r = disk_load_role(disk, e);
    return r;
}

static void dispose(struct disk *disk)
{
    if (disk->engine)
        engine_destroy(disk->engine);
    if (disk->backing)
        backing_close(disk->backing);
    if (disk->lock_fd >= 0)
        close(disk->lock_fd);
    pthread_cond_destroy(&disk->demoted);
    pthread_mutex_destroy(&disk->control);
    pthread_mutex_destroy(&disk->sessions_mutex);
    pthread_mutex_destroy(&disk->role_change);
    pthread_mutex_destroy(&disk->role_mutex);
    records_free(disk);
    free(disk);
}

int disk_open(const struct disk_settings *settings, struct backing_spec *spec, struct disk **out,
              struct err *e)
{
    struct disk *disk = calloc(1, sizeof *disk);
    int r;

    if (!disk)
        return err_set(e, ENOMEM, "%s: out of memory", settings->name);
    disk->lock_fd = -1;
    list_init(&disk->link);
    list_init(&disk->sessions);
    pthread_mutex_init(&disk->control, NULL);
    pthread_cond_init(&disk->demoted, NULL);
    pthread_mutex_init(&disk->sessions_mutex, NULL);
    pthread_mutex_init(&disk->role_change, NULL);
    pthread_mutex_init(&disk->role_mutex, NULL);
    pthread_mutex_init(&disk->records_mutex, NULL);
    r = open_parts(disk, settings, spec, e);
    if (r < 0) {
        dispose(disk);
        return r;
    }
    watch_add_disk(disk);
    *out = disk;
    return 0;
}

void disk_close(struct disk *disk)
{
    watch_remove_disk(disk);
    if (!disk->is_stopped) {
        struct err e = {0};

        if (disk_stop(disk, clock_now_ns() + disk->quiesce_limit_ns, &e) < 0)
            log_line(LOG_LEVEL_ERROR, "%s disk=%s", e.text, disk->name);
    }
    dispose(disk);
}

int disk_reconfigure(struct disk *disk, const struct disk_settings *settings, struct err *e)
{
    SCOPED_LOCK(&disk->control);

    if (strcmp(settings->name, disk->name) != 0)
        return err_set(e, EINVAL, "%s: a disk cannot be renamed", disk->name);
    disk->quiesce_limit_ns =
        settings->quiesce_limit_ns ? settings->quiesce_limit_ns : DEFAULT_QUIESCE_LIMIT_NS;
    disk->event_limit_ns =
        settings->event_limit_ns ? settings->event_limit_ns : DEFAULT_EVENT_LIMIT_NS;
    disk->prepare_ttl_ns =
        settings->prepare_ttl_ns ? settings->prepare_ttl_ns : DEFAULT_PREPARE_TTL_NS;
    disk->read_only = settings->read_only;
    configure_engine(disk, settings);
    return 0;
}

/* --- what it is
 * ----------------------------------------------------------------------------------------- */

const char *disk_name(const struct disk *disk)
{
    return disk->name;
}

const char *disk_uuid(const struct disk *disk)
{
    return disk->uuid;
}

const char *disk_group(const struct disk *disk)
{
    return disk->group;
}

unsigned disk_group_disks(const struct disk *disk)
{
    return disk->group_disks;
}

const char *disk_state_folder(const struct disk *disk)
{
    return disk->folder[0] ? disk->folder : NULL;
}

uint64_t disk_size(const struct disk *disk)
{
    return engine_size(disk->engine);
}

bool disk_is_read_only(const struct disk *disk)
{
    return disk->read_only || backing_info(disk->backing)->is_read_only;
}

struct engine *disk_engine(const struct disk *disk)
{
    return disk->engine;
}

struct backing *disk_backing(const struct disk *disk)
{
    return disk->backing;
}
