/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * host-fixture.h: what the host's tests share: a small disk on a file in a folder of the test's
 * own, and a filter whose callbacks the test hangs in.
 */
#ifndef SLUICE_HOST_FIXTURE_H
#define SLUICE_HOST_FIXTURE_H

#include "host/host.h"
#include "unit.h"

#include <errno.h>

#define MIB (1u << 20)
#define DISK_BYTES (4 * MIB)

static char fixture_folder[200];

static inline void fixture_begin(unsigned workers)
{
    const char *parent = getenv("TMPDIR");
    struct err e = {0};

    snprintf(fixture_folder, sizeof fixture_folder, "%s/sluice-test-host-XXXXXX",
             parent && parent[0] ? parent : "/tmp");
    if (!mkdtemp(fixture_folder) || host_start(2, workers, 64 * MIB, &e) < 0 ||
        disk_watch_start(&e) < 0) {
        fprintf(stderr, "cannot begin: %s\n", e.text);
        exit(99);
    }
}

static inline int fixture_end(void)
{
    char command[300];

    snprintf(command, sizeof command, "rm -rf '%s'", fixture_folder);
    return system(command) == 0 ? unit_result() : 99;
}

/* state_root NULL: ephemeral. */
static inline struct disk *fixture_disk(const char *name, const char *state_root)
{
    struct disk_settings settings = {.name = name,
                                     .state_root = state_root,
                                     .size_bytes = DISK_BYTES,
                                     .quiesce_limit_ns = 2000000000};
    struct backing_spec spec = {.kind = BACKING_FILE, .disk = name};
    struct disk *disk = NULL;
    struct err e = {0};
    char image[300];

    snprintf(image, sizeof image, "%s/%s.raw", fixture_folder, name);
    spec.path = image;
    if (disk_open(&settings, &spec, &disk, &e) < 0) {
        fprintf(stderr, "cannot open the disk: %s\n", e.text);
        exit(99);
    }
    return disk;
}

static inline struct station *fixture_open(struct disk *disk, const struct sluice_filter *filter,
                                           const char *name, const char *const *words,
                                           unsigned count)
{
    CLEANUP_FREE struct sluice_value *values = NULL;
    struct station_settings settings = {.name = name};
    struct station *station = NULL;
    struct err e = {0};

    if (host_parse_values(filter, words, count, &values, &e) < 0) {
        fprintf(stderr, "cannot open the filter: %s\n", e.text);
        exit(99);
    }
    settings.values = values;
    if (host_station_open(disk, filter, &settings, &station, &e) < 0) {
        fprintf(stderr, "cannot open the filter: %s\n", e.text);
        exit(99);
    }
    return station;
}

static inline void fixture_chain(struct disk *disk, struct station *const *stations, unsigned count)
{
    struct err e = {0};

    if (disk_set_chain(disk, stations, count, NULL, &e) < 0) {
        fprintf(stderr, "cannot set the chain: %s\n", e.text);
        exit(99);
    }
}

/* A guest's request, waited for. 0 or a positive errno. */
static inline int guest(struct disk *disk, unsigned op, uint64_t offset, uint64_t length,
                        void *data)
{
    static const struct sluice_client client = {
        .front_end = "test", .address = "", .initiator = "", .session = 7};
    struct request *r = request_new(disk_engine(disk), &client);
    struct sluice_request *pub = request_public(r);
    int error;

    pub->op = (uint8_t)op;
    pub->offset = offset;
    pub->length = length;
    pub->data = data;
    error = request_execute(r);
    request_free(r);
    return error;
}

/* --- a filter made of the test's functions ---------------------------------------------------- */

struct probe {
    struct sluice_disk *disk;
    struct sluice_verdict (*start)(struct probe *p, struct sluice_request *r);
    struct sluice_verdict (*completion)(struct probe *p, struct sluice_request *r);
    int (*event)(struct probe *p, const struct sluice_event *event, struct sluice_error *error);
    int (*open)(struct probe *p, struct sluice_error *error);
    void (*close)(struct probe *p);
    int (*verb)(struct probe *p, int argc, const char *const *argv, struct sluice_reply *reply,
                struct sluice_error *error);
    void *own;
};

static _Atomic(struct probe *) probe_to_open;

static int probe_open(struct sluice_disk *disk, const struct sluice_value *values, void **instance,
                      struct sluice_error *error)
{
    struct probe *p = atomic_exchange(&probe_to_open, NULL);

    (void)values;
    p->disk = disk;
    *instance = p;
    return p->open ? p->open(p, error) : 0;
}

static void probe_close(void *instance)
{
    struct probe *p = instance;

    if (p->close)
        p->close(p);
}

static struct sluice_verdict probe_start(void *instance, struct sluice_request *r, void *scratch)
{
    struct probe *p = instance;

    (void)scratch;
    return p->start ? p->start(p, r) : p->completion ? sluice_pass_and_tell() : sluice_pass();
}

static struct sluice_verdict probe_completion(void *instance, struct sluice_request *r,
                                              void *scratch)
{
    struct probe *p = instance;

    (void)scratch;
    return p->completion ? p->completion(p, r) : sluice_pass();
}

static int probe_event(void *instance, const struct sluice_event *event, struct sluice_error *error)
{
    struct probe *p = instance;

    return p->event ? p->event(p, event, error) : 0;
}

static int probe_verb(void *instance, int argc, const char *const *argv, struct sluice_reply *reply,
                      struct sluice_error *error)
{
    struct probe *p = instance;

    return p->verb ? p->verb(p, argc, argv, reply, error) : 0;
}

enum { PROBE_HITS, PROBE_LEVEL, PROBE_TIMES };
static const struct sluice_counter probe_counters[] = {
    {"hits", SLUICE_COUNTER, "", "Hits."},
    {"level", SLUICE_GAUGE, "bytes", "Level."},
    {"times", SLUICE_HISTOGRAM_NS, "seconds", "Times."},
    SLUICE_COUNTERS_END,
};

static const struct sluice_verb probe_verbs[] = {
    {"ask", "[WHAT]", "Asks.", probe_verb},
    SLUICE_VERBS_END,
};

#define PROBE_BOTH SLUICE_HANDLE(probe_start, probe_completion)
static const struct sluice_filter probe_filter = {
    .struct_size = sizeof(struct sluice_filter),
    .api_version = SLUICE_FILTER_API_VERSION,
    .name = "probe",
    .version = "1",
    .vendor = "tests",
    .summary = "Made of the test's functions.",
    .filter_class = SLUICE_CLASS_INSPECTION,
    .traits = SLUICE_TRAIT_BYPASSABLE,
    .counters = probe_counters,
    .verbs = probe_verbs,
    .open = probe_open,
    .close = probe_close,
    .read = PROBE_BOTH,
    .write = PROBE_BOTH,
    .flush = PROBE_BOTH,
    .trim = PROBE_BOTH,
    .zero = PROBE_BOTH,
    .extents = PROBE_BOTH,
    .prefetch = PROBE_BOTH,
    .event = probe_event,
};

static inline struct station *fixture_probe(struct disk *disk, struct probe *p, const char *name)
{
    atomic_store(&probe_to_open, p);
    return fixture_open(disk, &probe_filter, name, NULL, 0);
}

/* A disk with one probe in its chain. */
struct bench {
    struct disk *disk;
    struct station *station;
};

static inline struct bench bench_open(struct probe *p)
{
    struct bench b;

    b.disk = fixture_disk("d", NULL);
    b.station = fixture_probe(b.disk, p, "probe");
    fixture_chain(b.disk, &b.station, 1);
    return b;
}

static inline void bench_close(struct bench *b)
{
    fixture_chain(b->disk, NULL, 0);
    host_station_close(b->station);
    disk_close(b->disk);
}

/* --- waiting ------------------------------------------------------------------------------------
 */

/* A flag that some thread sets and another waits for. */
struct flag {
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    unsigned count;
};
#define FLAG_INIT                                              \
    {                                                          \
        PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0 \
    }

static inline void flag_raise(struct flag *f)
{
    SCOPED_LOCK(&f->mutex);

    f->count++;
    pthread_cond_broadcast(&f->cond);
}

static inline void flag_wait(struct flag *f, unsigned count)
{
    SCOPED_LOCK(&f->mutex);

    while (f->count < count)
        pthread_cond_wait(&f->cond, &f->mutex);
}

static inline unsigned flag_count(struct flag *f)
{
    SCOPED_LOCK(&f->mutex);

    return f->count;
}

static inline pthread_t thread_run(void *(*run)(void *), void *arg)
{
    pthread_t thread;

    if (pthread_create(&thread, NULL, run, arg) != 0)
        abort();
    return thread;
}

#endif
