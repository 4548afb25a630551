/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test-disk: the first and the last byte (a backing that is gone, smaller or another one is
 * refused), two-phase events with their order, refusals and time limits, chain changes under the
 * gate, sessions, resize, stop.  File backings in a folder of the test's own.
 */
#include "engine-fixture.h"

#include "disk/disk.h"

#include <fcntl.h>
#include <sys/stat.h>

#define MIB (1u << 20)

static char folder[] = "/tmp/sluice-test-disk-XXXXXX";
static char image[200], state[200];
static uint64_t event_limit_ns =
    UINT64_C(10000000000); /* only a test of the limit makes it short */

/* --- a filter that notes its events
 * ---------------------------------------------------------------------- */

static char told[2000];
static pthread_mutex_t told_mutex = PTHREAD_MUTEX_INITIALIZER;

struct noter {
    struct station *station;
    const char *name;
    int refuses_kind; /* + 1; 0: none */
    uint32_t refuses_phase;
    bool sleeps;
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    bool may_wake;
    bool keeps;
    struct sluice_request *kept;
};

static const char *const phase_names[] = {"long", "prepare", "commit", "abort"};

static void say(const char *name, const struct sluice_event *event)
{
    size_t n;
    SCOPED_LOCK(&told_mutex);

    if (event->kind == SLUICE_EVENT_QUIESCE || event->kind == SLUICE_EVENT_RESUME)
        return;
    n = strlen(told);
    snprintf(told + n, sizeof told - n, "%s.%s.%s ", name, disk_event_name(event->kind),
             phase_names[event->phase]);
}

static void sleep_until_woken(struct noter *n)
{
    SCOPED_LOCK(&n->mutex);

    while (!n->may_wake)
        pthread_cond_wait(&n->cond, &n->mutex);
}

static int noter_event(void *instance, const struct sluice_event *event, struct sluice_error *error)
{
    struct noter *n = instance;

    say(n->name, event);
    if (n->refuses_kind != (int)event->kind + 1 || n->refuses_phase != event->phase)
        return 0;
    if (n->sleeps)
        sleep_until_woken(n);
    return err_set((struct err *)(void *)error, EBUSY, "I would rather not");
}

static struct sluice_verdict noter_start(void *instance, struct sluice_request *r, void *scratch)
{
    struct noter *n = instance;

    (void)scratch;
    if (!n->keeps || r->op == SLUICE_OP_FLUSH)
        return sluice_pass();
    n->kept = r;
    return sluice_defer();
}

static const struct sluice_filter noter_filter = {
    .name = "noter", HANDLE_ALL(noter_start, NULL), .event = noter_event};

static struct noter noters[3];

static void make_noters(struct station **stations)
{
    static const char *const names[] = {"a", "b", "c"};
    static struct sluice_disk handle = {.name = "d"};

    for (unsigned i = 0; i < 3; i++) {
        noters[i] = (struct noter){.name = names[i]};
        pthread_mutex_init(&noters[i].mutex, NULL);
        pthread_cond_init(&noters[i].cond, NULL);
        stations[i] = noters[i].station =
            station_make(&noter_filter, &noters[i], names[i], &handle);
    }
    told[0] = 0;
}

/* --- opening
 * -------------------------------------------------------------------------------------------------
 */

static int open_disk(uint64_t size, struct disk **out, struct err *e)
{
    struct disk_settings s = {.name = "d",
                              .state_root = state,
                              .size_bytes = size,
                              .quiesce_limit_ns = 1000000000,
                              .event_limit_ns = event_limit_ns};
    struct backing_spec spec = {.kind = BACKING_FILE, .disk = "d", .path = image};

    memset(e, 0, sizeof *e);
    return disk_open(&s, &spec, out, e);
}

static struct disk *must_open(uint64_t size)
{
    struct disk *d = NULL;
    struct err e;

    if (open_disk(size, &d, &e) != 0) {
        fprintf(stderr, "cannot open: %s\n", e.text);
        exit(1);
    }
    return d;
}

static void forget(void)
{
    struct err e = {0};

    CHECK_EQ(disk_forget(state, "d", &e), 0);
    unlink(image);
}

static bool exists(const char *path)
{
    return access(path, F_OK) == 0;
}

static void test_a_new_disk_is_created_and_a_known_one_is_not(void)
{
    struct disk *d = must_open(8 * MIB), *none = NULL;
    struct stat st;
    struct err e;
    char uuid[37];

    snprintf(uuid, sizeof uuid, "%s", disk_uuid(d));
    CHECK(uuid_is_valid(uuid));
    CHECK_EQ(disk_size(d), 8 * MIB);
    disk_close(d);
    d = must_open(8 * MIB);
    CHECK_STR(disk_uuid(d), uuid);
    disk_close(d);
    unlink(image);
    CHECK_EQ(open_disk(8 * MIB, &none, &e), -ENOENT);
    CHECK(strstr(e.text, "is gone") && strstr(e.text, "mounted"));
    CHECK(!exists(image)); /* nothing was created in its place */
    CHECK(none == NULL);
    forget();
    CHECK(stat(state, &st) == 0);
}

static void test_another_or_a_smaller_backing_is_refused(void)
{
    struct disk *d = must_open(8 * MIB), *none = NULL;
    char aside[220];
    struct err e;
    int fd;

    disk_close(d);
    CHECK_EQ(truncate(image, 4 * MIB), 0);
    CHECK_EQ(open_disk(0, &none, &e), -ESTALE);
    CHECK(strstr(e.text, "shrunk"));
    CHECK_EQ(truncate(image, 8 * MIB), 0);
    snprintf(aside, sizeof aside, "%s.aside", image);
    CHECK_EQ(rename(image, aside), 0);
    fd = open(image, O_CREAT | O_RDWR, 0600);
    CHECK_EQ(ftruncate(fd, 8 * MIB), 0);
    close(fd);
    CHECK_EQ(open_disk(0, &none, &e), -ESTALE);
    CHECK(strstr(e.text, "another one"));
    CHECK_EQ(rename(aside, image), 0);
    disk_close(must_open(0));
    forget();
}

static void test_a_damaged_identity_is_an_error_that_says_where(void)
{
    struct disk *none = NULL;
    char path[300];
    struct err e;
    int fd;

    disk_close(must_open(8 * MIB));
    snprintf(path, sizeof path, "%s/disks/d/identity.json", state);
    fd = open(path, O_WRONLY | O_TRUNC);
    CHECK_EQ(write(fd, "{\"uuid\":", 8), 8);
    close(fd);
    CHECK_EQ(open_disk(0, &none, &e), -EBADMSG);
    CHECK(strstr(e.text, path));
    forget();
}

static void test_the_state_of_an_open_disk_is_locked(void)
{
    struct disk *d = must_open(8 * MIB), *none = NULL;
    struct err e;

    CHECK_EQ(open_disk(0, &none, &e), -EBUSY);
    CHECK(strstr(e.text, "in use"));
    CHECK_EQ(disk_forget(state, "d", &e), -EBUSY);
    CHECK(strstr(e.text, "the state of d is not forgotten"));
    disk_close(d);
    forget();
}

static void test_a_disk_is_never_made_smaller(void)
{
    struct disk *d = must_open(8 * MIB);
    struct stat st;
    struct err e = {0};

    CHECK_EQ(disk_resize(d, 4 * MIB, &e), -EINVAL);
    CHECK_EQ(disk_resize(d, 16 * MIB, &e), 0);
    CHECK_EQ(disk_size(d), 16 * MIB);
    CHECK(stat(image, &st) == 0 && st.st_size == 16 * MIB);
    disk_close(d);
    /* Whoever asked had not heard the answer, and put the policy back. */
    d = must_open(8 * MIB);
    CHECK_EQ(disk_size(d), 16 * MIB);
    disk_close(d);
    disk_close(must_open(16 * MIB));
    CHECK_EQ(open_disk(8 * MIB, &d, &e), -EINVAL);
    CHECK(strstr(e.text, "smaller"));
    d = must_open(32 * MIB);
    CHECK_EQ(disk_size(d), 32 * MIB);
    disk_close(d);
    forget();
}

/* Else requests for its last bytes would be rounded out to behind its end, and fail. */
static void test_a_disk_is_whole_blocks_of_whoever_wants_blocks(void)
{
    static const struct sluice_filter blocky = {
        .name = "blocky", .block_bytes = 4096, HANDLE_ALL(noter_start, NULL)};
    static struct sluice_disk handle = {.name = "d"};
    struct disk *d = must_open(8 * MIB + 512);
    struct noter n = {.name = "b"};
    struct station *s = station_make(&blocky, &n, "b", &handle);
    struct err e = {0};

    CHECK_EQ(disk_set_chain(d, &s, 1, NULL, &e), -EINVAL);
    CHECK_STR(e.text, "filter b: takes blocks of 4096 bytes, and 8389120, the size of d, is not a "
                      "multiple of that");
    CHECK_EQ(disk_resize(d, 16 * MIB, &e), 0);
    CHECK_EQ(disk_set_chain(d, &s, 1, NULL, &e), 0);
    CHECK_EQ(disk_resize(d, 16 * MIB + 512, &e), -EINVAL);
    CHECK_EQ(disk_size(d), 16 * MIB);
    CHECK_EQ(disk_set_chain(d, NULL, 0, NULL, &e), 0);
    disk_close(d);
    free(s);
    forget();
}

static void test_a_clean_stop_leaves_its_mark(void)
{
    struct disk *d = must_open(8 * MIB);
    struct err e = {0};
    char mark[300];

    snprintf(mark, sizeof mark, "%s/disks/d/clean", state);
    CHECK(!exists(mark));
    CHECK_EQ(disk_stop(d, clock_now_ns() + 1000000000u, &e), 0);
    CHECK(exists(mark));
    disk_close(d);
    d = must_open(0);
    CHECK(!exists(mark));
    disk_close(d);
    forget();
}

/* --- events
 * ----------------------------------------------------------------------------------------------------
 */

static void test_events_go_down_and_aborts_go_up(void)
{
    struct disk *d = must_open(8 * MIB);
    struct station *s[3];
    struct sluice_event migrate = {.kind = SLUICE_EVENT_MIGRATE, .name = ""};
    struct err e = {0};

    make_noters(s);
    CHECK_EQ(disk_set_chain(d, s, 3, NULL, &e), 0);
    CHECK_STR(told, "a.attach.prepare b.attach.prepare c.attach.prepare "
                    "a.attach.commit b.attach.commit c.attach.commit ");
    told[0] = 0;
    CHECK_EQ(disk_event(d, &migrate, &e), 0);
    CHECK_STR(told, "a.migrate.prepare b.migrate.prepare c.migrate.prepare "
                    "a.migrate.commit b.migrate.commit c.migrate.commit ");
    told[0] = 0;
    noters[2].refuses_kind = SLUICE_EVENT_MIGRATE + 1;
    noters[2].refuses_phase = SLUICE_PHASE_PREPARE;
    CHECK_EQ(disk_event(d, &migrate, &e), -EBUSY);
    CHECK_STR(e.text, "filter c: I would rather not");
    CHECK_STR(
        told,
        "a.migrate.prepare b.migrate.prepare c.migrate.prepare b.migrate.abort a.migrate.abort ");
    CHECK_EQ(disk_set_chain(d, NULL, 0, NULL, &e), 0);
    disk_close(d);
    for (unsigned i = 0; i < 3; i++)
        free(s[i]);
    forget();
}

static void let_wake(struct noter *n)
{
    pthread_mutex_lock(&n->mutex);
    n->may_wake = true;
    pthread_cond_signal(&n->cond);
    pthread_mutex_unlock(&n->mutex);
}

static void wake(struct noter *n)
{
    let_wake(n);
    while (atomic_load(&n->station->is_event_running))
        ;
}

static void test_a_filter_that_does_not_answer_refuses_and_is_left_alone(void)
{
    struct station *s[3];
    struct sluice_event migrate = {.kind = SLUICE_EVENT_MIGRATE, .name = ""};
    struct err e = {0};
    struct disk *d;

    event_limit_ns = 300000000;
    d = must_open(8 * MIB);
    event_limit_ns = UINT64_C(10000000000);
    make_noters(s);
    CHECK_EQ(disk_set_chain(d, s, 1, NULL, &e), 0);
    noters[0].refuses_kind = SLUICE_EVENT_MIGRATE + 1;
    noters[0].refuses_phase = SLUICE_PHASE_PREPARE;
    noters[0].sleeps = true;
    CHECK_EQ(disk_event(d, &migrate, &e), -ETIMEDOUT);
    CHECK(strstr(e.text, "filter a: no answer to migrate within 0.3 s"));
    CHECK_EQ(disk_event(d, &migrate, &e), -EBUSY);
    CHECK(strstr(e.text, "still busy"));
    wake(&noters[0]);
    noters[0].refuses_kind = 0;
    CHECK_EQ(disk_event(d, &migrate, &e), 0);
    CHECK_EQ(disk_set_chain(d, NULL, 0, NULL, &e), 0);
    disk_close(d);
    for (unsigned i = 0; i < 3; i++)
        free(s[i]);
    forget();
}

static void test_a_refused_change_leaves_the_chain_as_it_was(void)
{
    struct disk *d = must_open(8 * MIB);
    struct station *s[3];
    struct err e = {0};

    make_noters(s);
    CHECK_EQ(disk_set_chain(d, s, 2, NULL, &e), 0);
    noters[2].refuses_kind = SLUICE_EVENT_ATTACH + 1;
    noters[2].refuses_phase = SLUICE_PHASE_PREPARE;
    CHECK_EQ(disk_set_chain(d, s, 3, NULL, &e), -EBUSY);
    CHECK_EQ(chain_count(engine_chain(disk_engine(d))), 2);
    noters[0].refuses_kind = SLUICE_EVENT_DETACH + 1;
    noters[0].refuses_phase = SLUICE_PHASE_PREPARE;
    CHECK_EQ(disk_set_chain(d, &s[1], 1, NULL, &e), -EBUSY);
    CHECK_EQ(chain_count(engine_chain(disk_engine(d))), 2);
    CHECK_EQ(engine_gate(disk_engine(d)), 0);
    noters[0].refuses_kind = 0;
    CHECK_EQ(disk_set_chain(d, &s[1], 1, NULL, &e), 0);
    CHECK(chain_station(engine_chain(disk_engine(d)), 0) == s[1]);
    CHECK_EQ(disk_set_chain(d, NULL, 0, NULL, &e), 0);
    disk_close(d);
    for (unsigned i = 0; i < 3; i++)
        free(s[i]);
    forget();
}

struct flight {
    bool is_done;
    int error;
};

static void on_done(struct request *r)
{
    struct flight *f = request_owner(r);

    f->error = request_error(r);
    f->is_done = true;
    request_free(r);
}

static void test_a_disk_that_cannot_be_quiesced_goes_on_and_says_who(void)
{
    struct disk *d = must_open(8 * MIB);
    struct flight f = {.is_done = false};
    struct station *s[3];
    uint8_t data[512];
    struct request *r;
    struct err e = {0};

    make_noters(s);
    CHECK_EQ(disk_set_chain(d, s, 2, NULL, &e), 0);
    noters[1].keeps = true;
    r = request_new(disk_engine(d), &test_client);
    *request_public(r) = (struct sluice_request){
        .op = SLUICE_OP_READ, .length = sizeof data, .data = data, .client = &test_client};
    request_set_done(r, on_done, &f);
    CHECK_EQ(request_submit(r), IO_PENDING);
    CHECK_EQ(disk_set_chain(d, s, 1, NULL, &e), -ETIMEDOUT);
    CHECK(strstr(e.text, "filter b"));
    CHECK_EQ(chain_count(engine_chain(disk_engine(d))), 2);
    CHECK_EQ(engine_gate(disk_engine(d)), 0);
    noters[1].keeps = false;
    CHECK(request_resume(s[1], noters[1].kept, sluice_pass()));
    home_wait(home_current(), &f.is_done);
    CHECK_EQ(f.error, 0);
    CHECK_EQ(disk_set_chain(d, s, 1, NULL, &e), 0);
    CHECK_EQ(disk_set_chain(d, NULL, 0, NULL, &e), 0);
    disk_close(d);
    for (unsigned i = 0; i < 3; i++)
        free(s[i]);
    forget();
}

static void test_a_prepare_from_outside_holds_until_commit_or_its_time_is_up(void)
{
    struct disk *d = must_open(8 * MIB);
    struct sluice_event snapshot = {.kind = SLUICE_EVENT_SNAPSHOT, .name = "s1"};
    struct err e = {0};

    CHECK_EQ(disk_event_prepare(d, &snapshot, &e), 0);
    CHECK(engine_gate(disk_engine(d)) & GATE_QUIESCE);
    CHECK_EQ(disk_event_prepare(d, &snapshot, &e), -EBUSY);
    CHECK_EQ(disk_event_commit(d, SLUICE_EVENT_SNAPSHOT, &e), 0);
    CHECK_EQ(engine_gate(disk_engine(d)), 0);
    CHECK_EQ(disk_event_commit(d, SLUICE_EVENT_SNAPSHOT, &e), -ENOENT);
    disk_close(d);
    forget();
}

/* Between the two, storage below takes its snapshot: whoever opened the gate would spoil it. */
static void test_nothing_runs_again_between_a_prepare_and_its_commit(void)
{
    struct disk *d = must_open(8 * MIB);
    struct sluice_event snapshot = {.kind = SLUICE_EVENT_SNAPSHOT, .name = "s1"};
    struct station *s[3];
    struct err e = {0};

    make_noters(s);
    CHECK_EQ(disk_set_chain(d, s, 1, NULL, &e), 0);
    CHECK_EQ(disk_event_prepare(d, &snapshot, &e), 0);
    CHECK_EQ(disk_set_chain(d, s, 2, NULL, &e), -EBUSY);
    CHECK(strstr(e.text, "a prepared snapshot waits"));
    CHECK_EQ(disk_resize(d, 16 * MIB, &e), -EBUSY);
    CHECK_EQ(disk_reopen(d, &e), -EBUSY);
    CHECK_EQ(disk_quiesce(d, &e), -EBUSY);
    CHECK(engine_gate(disk_engine(d)) & GATE_QUIESCE);
    CHECK_STR(told, "a.attach.prepare a.attach.commit a.snapshot.long a.snapshot.prepare ");
    CHECK_EQ(disk_event_abort(d, SLUICE_EVENT_SNAPSHOT, &e), 0);
    CHECK_EQ(engine_gate(disk_engine(d)), 0);
    CHECK_EQ(disk_set_chain(d, NULL, 0, NULL, &e), 0);
    disk_close(d);
    for (unsigned i = 0; i < 3; i++)
        free(s[i]);
    forget();
}

/* --- a change amid a demotion --- */

static struct changer {
    struct disk *disk;
    struct station *station;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t ended;
    bool has_ended, has_ended_amid;
    int result;
} changer = {.mutex = PTHREAD_MUTEX_INITIALIZER, .ended = PTHREAD_COND_INITIALIZER};

static void *change_chain(void *context)
{
    struct err e = {0};
    int r = disk_set_chain(changer.disk, &changer.station, 1, NULL, &e);
    SCOPED_LOCK(&changer.mutex);

    (void)context;
    changer.result = r;
    changer.has_ended = true;
    pthread_cond_signal(&changer.ended);
    return NULL;
}

static void change_amid(void *context, struct disk *disk, uint32_t role, uint64_t epoch)
{
    uint64_t until_ns = clock_now_ns() + 200000000;

    (void)context, (void)disk, (void)role, (void)epoch;
    CHECK_EQ(thread_start(&changer.thread, change_chain, NULL), 0);
    SCOPED_LOCK(&changer.mutex);
    while (!changer.has_ended && cond_wait_until(&changer.ended, &changer.mutex, until_ns))
        ;
    changer.has_ended_amid = changer.has_ended;
}

/* A gateway that comes back is deposed by its peer while it is still putting filters on the disk.
 */
static void test_a_chain_is_changed_after_a_demotion_not_refused_amid_it(void)
{
    struct disk *d = must_open(8 * MIB);
    struct station *s[3];
    struct err e = {0};

    make_noters(s);
    changer.disk = d;
    changer.station = s[0];
    disk_set_role_hook(change_amid, NULL);
    CHECK_EQ(disk_set_role(d, SLUICE_ROLE_DEPOSED, 7, &e), 0);
    disk_set_role_hook(NULL, NULL);
    pthread_join(changer.thread, NULL);
    CHECK(!changer.has_ended_amid);
    CHECK_EQ(changer.result, 0);
    CHECK_EQ(disk_set_chain(d, NULL, 0, NULL, &e), 0);
    disk_close(d);
    for (unsigned i = 0; i < 3; i++)
        free(s[i]);
    forget();
}

static void test_a_snapshot_that_cannot_be_had_is_refused_with_the_reason(void)
{
    struct disk *d = must_open(8 * MIB);
    struct err e = {0};

    CHECK_EQ(disk_snapshot(d, "s1", &e), -ENOTSUP);
    CHECK(e.text[0] != 0);
    CHECK_EQ(engine_gate(disk_engine(d)), 0);
    disk_close(d);
    forget();
}

/* --- sessions
 * --------------------------------------------------------------------------------------------------------
 */

static void test_first_and_last_session_start_and_stop_the_filters(void)
{
    struct disk *d = must_open(8 * MIB);
    struct disk_session *one, *two;
    struct station *s[3];
    struct err e = {0};

    make_noters(s);
    CHECK_EQ(disk_set_chain(d, s, 1, NULL, &e), 0);
    told[0] = 0;
    CHECK_EQ(disk_session_open(d, &test_client, false, false, &one, &e), 0);
    CHECK_EQ(disk_session_open(d, &test_client, false, false, &two, &e), 0);
    CHECK_EQ(disk_session_count(d), 2);
    disk_session_close(one);
    CHECK_STR(told, "a.start.prepare a.start.commit ");
    disk_session_close(two);
    CHECK_STR(told, "a.start.prepare a.start.commit a.stop.commit ");
    noters[0].refuses_kind = SLUICE_EVENT_START + 1;
    noters[0].refuses_phase = SLUICE_PHASE_PREPARE;
    CHECK_EQ(disk_session_open(d, &test_client, false, false, &one, &e), -EBUSY);
    CHECK_EQ(disk_session_count(d), 0);
    CHECK_EQ(disk_set_chain(d, NULL, 0, NULL, &e), 0);
    disk_close(d);
    for (unsigned i = 0; i < 3; i++)
        free(s[i]);
    forget();
}

struct opener {
    struct disk *disk;
    struct disk_session *session;
    int result;
};

static void *open_session(void *arg)
{
    struct opener *o = arg;
    struct err e = {0};

    o->result = disk_session_open(o->disk, &test_client, false, false, &o->session, &e);
    return NULL;
}

/* A STOP that takes longer than its time, and a client that comes meanwhile. */
static void test_a_start_waits_for_the_stop_before_it(void)
{
    struct disk_settings patient = {.name = "d", .state_root = state};
    struct disk *d;
    struct opener o;
    struct station *s[3];
    struct err e = {0};
    uint64_t began;
    pthread_t thread;

    event_limit_ns = 300000000;
    d = must_open(8 * MIB);
    event_limit_ns = UINT64_C(10000000000);
    make_noters(s);
    CHECK_EQ(disk_set_chain(d, s, 1, NULL, &e), 0);
    noters[0].refuses_kind = SLUICE_EVENT_STOP + 1;
    noters[0].refuses_phase = SLUICE_PHASE_COMMIT;
    noters[0].sleeps = true;
    o = (struct opener){.disk = d};
    open_session(&o);
    CHECK_EQ(o.result, 0);
    disk_session_close(o.session);
    began = clock_now_ns();
    open_session(&o);
    CHECK_EQ(o.result, -EBUSY);
    CHECK(clock_now_ns() - began >= 300000000);
    CHECK_EQ(disk_reconfigure(d, &patient, &e), 0);
    CHECK_EQ(thread_start(&thread, open_session, &o), 0);
    let_wake(&noters[0]);
    pthread_join(thread, NULL);
    CHECK_EQ(o.result, 0);
    disk_session_close(o.session);
    CHECK_EQ(disk_set_chain(d, NULL, 0, NULL, &e), 0);
    disk_close(d);
    for (unsigned i = 0; i < 3; i++)
        free(s[i]);
    forget();
}

static void test_an_exclusive_disk_takes_one_client(void)
{
    struct disk *d = must_open(8 * MIB);
    struct disk_session *one, *two;
    struct err e = {0};

    CHECK_EQ(disk_session_open(d, &test_client, true, false, &one, &e), 0);
    CHECK_EQ(disk_session_open(d, &test_client, true, false, &two, &e), -EBUSY);
    CHECK(strstr(e.text, "only one client"));
    disk_session_close(one);
    CHECK_EQ(disk_session_open(d, &test_client, true, false, &two, &e), 0);
    disk_session_close(two);
    disk_close(d);
    forget();
}

static void test_state_files_are_whole_or_absent(void)
{
    char data[16];
    size_t n;

    CHECK_EQ(disk_state_write(folder, "x", "0123456789", 10), 0);
    CHECK_EQ(disk_state_read(folder, "x", data, sizeof data, &n), 0);
    CHECK(n == 10 && memcmp(data, "0123456789", 10) == 0);
    CHECK_EQ(disk_state_read(folder, "x", data, 5, &n), -EFBIG);
    CHECK_EQ(disk_state_read(folder, "x", data, 10, &n), 0);
    CHECK_EQ(disk_state_write(folder, "../x", "1", 1), -EINVAL);
    CHECK_EQ(disk_state_write(folder, ".x", "1", 1), -EINVAL);
    CHECK_EQ(disk_state_remove(folder, "x"), 0);
    CHECK_EQ(disk_state_remove(folder, "x"), 0);
    CHECK_EQ(disk_state_read(folder, "x", data, sizeof data, &n), -ENOENT);
}

int main(void)
{
    char command[300];

    if (!mkdtemp(folder))
        return 99;
    snprintf(image, sizeof image, "%s/d.raw", folder);
    snprintf(state, sizeof state, "%s/state", folder);
    RUN(test_a_new_disk_is_created_and_a_known_one_is_not);
    RUN(test_another_or_a_smaller_backing_is_refused);
    RUN(test_a_damaged_identity_is_an_error_that_says_where);
    RUN(test_the_state_of_an_open_disk_is_locked);
    RUN(test_a_disk_is_never_made_smaller);
    RUN(test_a_disk_is_whole_blocks_of_whoever_wants_blocks);
    RUN(test_a_clean_stop_leaves_its_mark);
    RUN(test_events_go_down_and_aborts_go_up);
    RUN(test_a_filter_that_does_not_answer_refuses_and_is_left_alone);
    RUN(test_a_refused_change_leaves_the_chain_as_it_was);
    RUN(test_a_disk_that_cannot_be_quiesced_goes_on_and_says_who);
    RUN(test_a_prepare_from_outside_holds_until_commit_or_its_time_is_up);
    RUN(test_nothing_runs_again_between_a_prepare_and_its_commit);
    RUN(test_a_chain_is_changed_after_a_demotion_not_refused_amid_it);
    RUN(test_a_snapshot_that_cannot_be_had_is_refused_with_the_reason);
    RUN(test_first_and_last_session_start_and_stop_the_filters);
    RUN(test_a_start_waits_for_the_stop_before_it);
    RUN(test_an_exclusive_disk_takes_one_client);
    RUN(test_state_files_are_whole_or_absent);
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command) == 0 ? unit_result() : 99;
}
