/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test-host: what the host keeps for an instance: timers and workers, state and records, shared
 * state, memory, counters, health, status, verbs, role.
 */
#include "host-fixture.h"

#include <dirent.h>

/* --- timers
 * --------------------------------------------------------------------------------------- */

struct alarm {
    struct sluice_timer timer; /* first */
    struct probe *p;
    struct flag fired;
    uint64_t at_ns;
    unsigned again; /* so many times */
};

static void on_alarm(struct sluice_timer *timer)
{
    struct alarm *a = (struct alarm *)(void *)timer;

    a->at_ns = clock_now_ns();
    if (a->again) {
        a->again--;
        CHECK_EQ(sluice_timer_start(a->p->disk, &a->timer, 0), 0);
    }
    flag_raise(&a->fired);
}

#define ALARM(p_)                                             \
    {                                                         \
        .timer.fire = on_alarm, .p = (p_), .fired = FLAG_INIT \
    }

static void test_timers_fire_in_order_and_never_early(void)
{
    struct probe p = {.own = NULL};
    struct bench b = bench_open(&p);
    struct alarm late = ALARM(&p), soon = ALARM(&p);
    uint64_t began = clock_now_ns();

    CHECK_EQ(sluice_timer_start(p.disk, &late.timer, 4000000), 0);
    CHECK_EQ(sluice_timer_start(p.disk, &soon.timer, 1000000), 0);
    flag_wait(&late.fired, 1);
    CHECK_EQ(flag_count(&soon.fired), 1);
    CHECK(soon.at_ns >= began + 1000000 && late.at_ns >= began + 4000000);
    CHECK(soon.at_ns < late.at_ns);
    bench_close(&b);
}

static void test_a_timer_can_be_moved_stopped_and_set_anew_from_its_fire(void)
{
    struct probe p = {.own = NULL};
    struct bench b = bench_open(&p);
    struct alarm a = ALARM(&p);

    CHECK(!sluice_timer_stop(p.disk, &a.timer));
    CHECK_EQ(sluice_timer_start(p.disk, &a.timer, UINT64_C(3600000000000)), 0);
    CHECK(sluice_timer_stop(p.disk, &a.timer));
    CHECK(!sluice_timer_stop(p.disk, &a.timer));
    CHECK_EQ(sluice_timer_start(p.disk, &a.timer, UINT64_C(3600000000000)), 0);
    a.again = 3;
    CHECK_EQ(sluice_timer_start(p.disk, &a.timer, 0), 0);
    flag_wait(&a.fired, 4);
    CHECK(!sluice_timer_stop(p.disk, &a.timer));
    CHECK_EQ(flag_count(&a.fired), 4);
    bench_close(&b);
}

struct long_fire {
    struct sluice_timer timer; /* first */
    struct flag begun, may_end;
    _Atomic bool has_ended;
};

static void on_long_fire(struct sluice_timer *timer)
{
    struct long_fire *f = (struct long_fire *)(void *)timer;

    flag_raise(&f->begun);
    flag_wait(&f->may_end, 1);
    atomic_store(&f->has_ended, true);
}

static void *end_long_fire(void *arg)
{
    struct long_fire *f = arg;

    flag_raise(&f->may_end);
    return NULL;
}

static void test_stopping_a_timer_waits_for_its_fire(void)
{
    struct probe p = {.own = NULL};
    struct bench b = bench_open(&p);
    struct long_fire f = {.timer.fire = on_long_fire, .begun = FLAG_INIT, .may_end = FLAG_INIT};
    pthread_t thread;

    CHECK_EQ(sluice_timer_start(p.disk, &f.timer, 0), 0);
    flag_wait(&f.begun, 1);
    thread = thread_run(end_long_fire, &f);
    CHECK(!sluice_timer_stop(p.disk, &f.timer));
    CHECK(atomic_load(&f.has_ended));
    pthread_join(thread, NULL);
    bench_close(&b);
}

#define TIMER_THREADS 4
#define TIMER_ROUNDS 2000

struct timer_storm {
    struct probe *p;
    unsigned seed, started, stopped;
    struct alarm alarm[8];
};

static void *timer_storm(void *arg)
{
    struct timer_storm *s = arg;

    for (unsigned i = 0; i < TIMER_ROUNDS; i++) {
        struct alarm *a;

        s->seed = s->seed * 1103515245u + 12345u;
        a = &s->alarm[(s->seed >> 16) % 8];
        if (sluice_timer_stop(s->p->disk, &a->timer))
            s->stopped++;
        CHECK_EQ(sluice_timer_start(s->p->disk, &a->timer, (s->seed >> 20) % 200000), 0);
        s->started++;
    }
    return NULL;
}

static void test_timers_from_many_threads_fire_or_are_stopped_once_each(void)
{
    static struct timer_storm storm[TIMER_THREADS];
    struct probe p = {.own = NULL};
    struct bench b = bench_open(&p);
    pthread_t threads[TIMER_THREADS];

    for (unsigned i = 0; i < TIMER_THREADS; i++) {
        storm[i] = (struct timer_storm){.p = &p, .seed = i + 1};
        for (unsigned a = 0; a < 8; a++)
            storm[i].alarm[a] = (struct alarm)ALARM(&p);
        threads[i] = thread_run(timer_storm, &storm[i]);
    }
    for (unsigned i = 0; i < TIMER_THREADS; i++) {
        unsigned fired = 0;

        pthread_join(threads[i], NULL);
        for (unsigned a = 0; a < 8; a++) {
            if (sluice_timer_stop(p.disk, &storm[i].alarm[a].timer))
                storm[i].stopped++;
            fired += flag_count(&storm[i].alarm[a].fired);
        }
        CHECK_EQ(fired + storm[i].stopped, storm[i].started);
    }
    bench_close(&b);
}

/* --- workers
 * -------------------------------------------------------------------------------------- */

/* The lower filter answers reads from a worker; the upper one's workers wait for such reads. With
 * as many workers as there are, all of them wait. */
struct answer {
    struct sluice_work work; /* first */
    struct probe *p;
    struct sluice_request *request;
};

static void on_answer(struct sluice_work *work)
{
    struct answer *a = (struct answer *)(void *)work;

    sluice_resume(a->p->disk, a->request, sluice_pass());
    free(a);
}

static struct sluice_verdict answer_from_worker(struct probe *p, struct sluice_request *r)
{
    struct answer *a;

    if (r->op != SLUICE_OP_READ)
        return sluice_pass();
    a = calloc(1, sizeof *a);
    a->work.run = on_answer;
    a->p = p;
    a->request = r;
    CHECK_EQ(sluice_work_submit(p->disk, &a->work), 0);
    return sluice_defer();
}

struct asker {
    struct sluice_work work; /* first */
    struct probe *p;
    struct flag done;
    uint8_t data[512];
};

static void on_ask(struct sluice_work *work)
{
    struct asker *a = (struct asker *)(void *)work;
    struct sluice_io io = {.op = SLUICE_OP_READ, .length = sizeof a->data, .data = a->data};

    CHECK_EQ(sluice_io_wait(a->p->disk, &io), 0);
    flag_raise(&a->done);
}

static void test_workers_may_wait_for_each_other(void)
{
    struct probe p[2] = {{.own = NULL}, {.start = answer_from_worker}};
    struct disk *disk = fixture_disk("d", NULL);
    struct station *stations[2];
    static struct asker askers[16];

    stations[0] = fixture_probe(disk, &p[0], "above");
    stations[1] = fixture_probe(disk, &p[1], "below");
    fixture_chain(disk, stations, 2);
    for (unsigned i = 0; i < 16; i++) {
        askers[i] = (struct asker){.work.run = on_ask, .p = &p[0], .done = FLAG_INIT};
        CHECK_EQ(sluice_work_submit(p[0].disk, &askers[i].work), 0);
    }
    for (unsigned i = 0; i < 16; i++)
        flag_wait(&askers[i].done, 1);
    fixture_chain(disk, NULL, 0);
    host_station_close(stations[0]);
    host_station_close(stations[1]);
    disk_close(disk);
}

/* --- state
 * ---------------------------------------------------------------------------------------- */

static void test_state_and_records_are_kept_apart_and_survive(void)
{
    char root[300], text[16];
    struct probe p = {.own = NULL};
    struct disk *disk;
    struct station *station;
    size_t length;

    snprintf(root, sizeof root, "%s/state", fixture_folder);
    disk = fixture_disk("kept", root);
    station = fixture_probe(disk, &p, "probe");
    CHECK_EQ(sluice_state_read(p.disk, "mark", text, sizeof text, &length), -ENOENT);
    CHECK_EQ(sluice_state_remove(p.disk, "mark"), 0);
    CHECK_EQ(sluice_state_write(p.disk, "mark", "state", 5), 0);
    CHECK_EQ(sluice_record_put(p.disk, "mark", "record", 6), 0);
    CHECK_EQ(sluice_state_write(p.disk, "../mark", "x", 1), -EINVAL);
    CHECK_EQ(sluice_record_put(p.disk, "a/b", "x", 1), -EINVAL);
    host_station_close(station);
    station = fixture_probe(disk, &p, "probe");
    CHECK_EQ(sluice_state_read(p.disk, "mark", text, sizeof text, &length), 0);
    CHECK(length == 5 && memcmp(text, "state", 5) == 0);
    CHECK_EQ(sluice_state_read(p.disk, "mark", text, 3, &length), -EFBIG);
    CHECK_EQ(sluice_record_get(p.disk, "mark", text, sizeof text, &length), 0);
    CHECK(length == 6 && memcmp(text, "record", 6) == 0);
    CHECK_EQ(sluice_state_remove(p.disk, "mark"), 0);
    CHECK_EQ(sluice_state_read(p.disk, "mark", text, sizeof text, &length), -ENOENT);
    CHECK_EQ(sluice_record_get(p.disk, "mark", text, sizeof text, &length), 0);
    snprintf(root, sizeof root, "%s/filters/probe", disk_state_folder(disk));
    CHECK_STR(sluice_state_folder(p.disk), root);
    host_station_close(station);
    disk_close(disk);
}

static void test_an_ephemeral_disk_has_state_for_a_while(void)
{
    struct probe p = {.own = NULL};
    struct bench b = bench_open(&p);
    char folder[300], text[16];
    size_t length;

    CHECK_EQ(sluice_state_read(p.disk, "mark", text, sizeof text, &length), -ENOENT);
    CHECK_EQ(sluice_state_write(p.disk, "mark", "state", 5), 0);
    CHECK_EQ(sluice_state_read(p.disk, "mark", text, sizeof text, &length), 0);
    snprintf(folder, sizeof folder, "%s", sluice_state_folder(p.disk));
    CHECK_EQ(access(folder, F_OK), 0);
    bench_close(&b);
    CHECK(access(folder, F_OK) < 0);
}

/* --- shared state, memory
 * ------------------------------------------------------------------------- */

static void test_shared_state_lives_as_long_as_it_has_users(void)
{
    struct probe p[2] = {{.own = NULL}, {.own = NULL}};
    struct disk *disk = fixture_disk("d", NULL);
    struct station *stations[2];
    int *first, *second;

    stations[0] = fixture_probe(disk, &p[0], "a");
    stations[1] = fixture_probe(disk, &p[1], "b");
    sluice_shared_lock(p[0].disk);
    first = sluice_shared_get(p[0].disk, "gold", sizeof *first);
    CHECK(first && *first == 0);
    *first = 42;
    CHECK(sluice_shared_get(p[0].disk, "gold", 1000) == NULL); /* of another size */
    second = sluice_shared_get(p[1].disk, "gold", sizeof *second);
    CHECK(second == first);
    CHECK(sluice_shared_get(p[1].disk, "silver", sizeof *second) != first);
    sluice_shared_put(p[0].disk, "gold");
    CHECK_EQ(*second, 42);
    sluice_shared_unlock(p[0].disk);
    host_station_close(stations[0]);
    host_station_close(stations[1]); /* gives back what it has kept */
    stations[0] = fixture_probe(disk, &p[0], "a");
    sluice_shared_lock(p[0].disk);
    first = sluice_shared_get(p[0].disk, "gold", sizeof *first);
    CHECK(first && *first == 0);
    sluice_shared_put(p[0].disk, "gold");
    sluice_shared_unlock(p[0].disk);
    host_station_close(stations[0]);
    disk_close(disk);
}

static void test_memory_is_counted_against_the_limit_of_all(void)
{
    struct probe p[2] = {{.own = NULL}, {.own = NULL}};
    struct disk *disk = fixture_disk("d", NULL);
    struct station *a = fixture_probe(disk, &p[0], "a"), *b = fixture_probe(disk, &p[1], "b");

    CHECK(sluice_memory_take(p[0].disk, 40 * MIB));
    CHECK(!sluice_memory_take(p[1].disk, 40 * MIB));
    CHECK(sluice_memory_take(p[1].disk, 24 * MIB));
    CHECK(!sluice_memory_take(p[0].disk, 1));
    sluice_memory_give(p[1].disk, 4 * MIB);
    CHECK(sluice_memory_take(p[0].disk, 4 * MIB));
    sluice_memory_give(p[1].disk, UINT64_MAX); /* no more than it has */
    CHECK(sluice_memory_take(p[1].disk, 20 * MIB));
    CHECK(!sluice_memory_take(p[1].disk, UINT64_MAX));
    host_station_close(a); /* whatever they forget */
    host_station_close(b);
    a = fixture_probe(disk, &p[0], "a");
    CHECK(sluice_memory_take(p[0].disk, 64 * MIB));
    host_station_close(a);
    disk_close(disk);
}

/* --- status
 * --------------------------------------------------------------------------------------- */

static json_int_t number(json_t *status, const char *group, const char *key)
{
    return json_integer_value(json_object_get(json_object_get(status, group), key));
}

static const char *text(json_t *status, const char *group, const char *key)
{
    return json_string_value(json_object_get(json_object_get(status, group), key));
}

static struct sluice_verdict fail_third(struct probe *p, struct sluice_request *r)
{
    unsigned *n = p->own;

    sluice_count(p->disk, PROBE_HITS, 1);
    sluice_count(p->disk, PROBE_LEVEL, (int64_t)r->length);
    sluice_count(p->disk, 99, 1); /* a bug, without consequence */
    sluice_observe(p->disk, PROBE_TIMES, 1500);
    sluice_observe(p->disk, PROBE_HITS + 98, 1);
    return ++*n == 3 ? sluice_fail(EIO) : sluice_pass();
}

static void check_metrics(struct station *station)
{
    char *out = NULL;
    size_t length;
    FILE *f = open_memstream(&out, &length);

    host_metrics(&station, 1, f);
    fclose(f);
    CHECK(strstr(out, "# TYPE sluice_probe_hits_total counter\n"
                      "sluice_probe_hits_total{disk=\"d\",filter=\"probe\"} 4\n"));
    CHECK(strstr(out, "# HELP sluice_probe_level_bytes Level.\n"));
    CHECK(strstr(out, "sluice_probe_level_bytes{disk=\"d\",filter=\"probe\"} 2048\n"));
    CHECK(strstr(out, "sluice_probe_times_seconds_bucket{disk=\"d\",filter=\"probe\","
                      "le=\"2.048e-06\"} 4\n"));
    CHECK(strstr(out, "sluice_probe_times_seconds_count{disk=\"d\",filter=\"probe\"} 4\n"));
    CHECK(strstr(out, "sluice_probe_times_seconds_sum{disk=\"d\",filter=\"probe\"} 6e-06\n"));
    free(out);
}

static char notices[2000];

static void on_notice(void *context, const struct disk *disk, const char *name, const char *what)
{
    size_t n = strlen(notices);

    (void)context;
    snprintf(notices + n, sizeof notices - n, "%s %s %s\n", disk_name(disk), name, what);
}

static void test_status_metrics_health_and_events(void)
{
    unsigned n = 0;
    struct probe p = {.start = fail_third, .own = &n};
    struct bench b = bench_open(&p);
    char data[512] = "", sentence[100], remedy[100];
    json_t *s;

    for (unsigned i = 0; i < 4; i++)
        CHECK_EQ(guest(b.disk, SLUICE_OP_WRITE, 0, 512, data), i == 2 ? EIO : 0);
    disk_set_notify(on_notice, NULL);
    sluice_health(p.disk, SLUICE_HEALTH_DEGRADED, "the SSD is slow", "buy another");
    sluice_health(p.disk, SLUICE_HEALTH_DEGRADED, "the SSD is slow", "buy another");
    sluice_event_emit(p.disk, "tier-lost", "tier:%s", "ssd0");
    disk_set_notify(NULL, NULL);
    CHECK_STR(notices, "d health filter:probe state:degraded sentence:the SSD is slow\n"
                       "d tier-lost filter:probe tier:ssd0\n");
    sluice_progress(p.disk, "destage", 3, 10);
    s = host_station_status(b.station);
    CHECK_STR(json_string_value(json_object_get(s, "class")), "inspection");
    CHECK_EQ(number(s, "verdicts", "passed"), 3);
    CHECK_EQ(number(s, "verdicts", "failed"), 1);
    CHECK_EQ(number(s, "counters", "hits"), 4);
    CHECK_EQ(number(s, "counters", "level"), 2048);
    CHECK_EQ(number(json_object_get(s, "counters"), "times", "count"), 4);
    CHECK_EQ(number(s, "progress", "done"), 3);
    CHECK_STR(text(s, "progress", "what"), "destage");
    CHECK_STR(text(s, "health", "state"), "degraded");
    json_decref(s);
    sluice_progress(p.disk, NULL, 0, 0);
    s = host_station_status(b.station);
    CHECK(json_is_null(json_object_get(s, "progress")));
    json_decref(s);
    CHECK_EQ(host_station_health(b.station, sentence, sizeof sentence, remedy, sizeof remedy),
             SLUICE_HEALTH_DEGRADED);
    CHECK_STR(sentence, "the SSD is slow");
    CHECK_STR(remedy, "buy another");
    check_metrics(b.station);
    bench_close(&b);
}

/* --- verbs
 * ---------------------------------------------------------------------------------------- */

static int on_verb(struct probe *p, int argc, const char *const *argv, struct sluice_reply *reply,
                   struct sluice_error *error)
{
    if (argc == 0)
        return sluice_refuse(p->disk, error, EINVAL, "ask what?");
    sluice_reply_text(p->disk, reply, "first %s", argv[0]);
    sluice_reply_text(p->disk, reply, "second %d", argc);
    sluice_reply_integer(p->disk, reply, "count", argc);
    sluice_reply_string(p->disk, reply, "what", argv[0]);
    sluice_reply_string(p->disk, reply, "bad", "\xff");
    return 0;
}

static void test_verbs_answer_with_text_and_keys_or_a_sentence(void)
{
    struct probe p = {.verb = on_verb};
    struct bench b = bench_open(&p);
    const char *const words[] = {"why"};
    json_t *reply = NULL;
    struct err e = {0};

    CHECK_EQ(host_station_verb(b.station, "ask", 1, words, &reply, &e), 0);
    CHECK_STR(json_string_value(json_object_get(reply, "text")), "first why\nsecond 1\n");
    CHECK_EQ(json_integer_value(json_object_get(reply, "count")), 1);
    CHECK_STR(json_string_value(json_object_get(reply, "what")), "why");
    CHECK(json_is_null(json_object_get(reply, "bad")));
    json_decref(reply);
    CHECK_EQ(host_station_verb(b.station, "ask", 0, NULL, &reply, &e), -EINVAL);
    CHECK_STR(e.text, "filter probe: ask what?");
    CHECK_EQ(host_station_verb(b.station, "aks", 0, NULL, &reply, &e), -ENOENT);
    CHECK_STR(e.text, "filter probe: no verb aks (did you mean ask?)");
    bench_close(&b);
}

/* --- opening
 * -------------------------------------------------------------------------------------- */

static int refuse_to_open(struct probe *p, struct sluice_error *error)
{
    struct err e = {0};

    CHECK(sluice_memory_take(p->disk, MIB)); /* and does not give it back */
    CHECK_EQ(sluice_state_write(p->disk, "mark", "x", 1), 0);
    CHECK_EQ(sluice_channel_open(p->disk, NULL, NULL, (struct sluice_error *)(void *)&e), -ENOTSUP);
    CHECK_STR(e.text, "gateway.yaml names no peers, or no certificates (tls)");
    return sluice_refuse(p->disk, error, ENODEV, "there is no device %s", "sdx");
}

static void test_an_instance_that_cannot_be_opened_says_why(void)
{
    struct probe p = {.open = refuse_to_open};
    struct disk *disk = fixture_disk("d", NULL);
    struct station_settings settings = {.name = "probe"};
    struct sluice_filter other = probe_filter;
    struct station *station = NULL;
    struct err e = {0};

    atomic_store(&probe_to_open, &p);
    CHECK_EQ(host_station_open(disk, &probe_filter, &settings, &station, &e), -ENODEV);
    CHECK_STR(e.text, "filter probe: there is no device sdx");
    settings.name = "a/b";
    CHECK_EQ(host_station_open(disk, &probe_filter, &settings, &station, &e), -EINVAL);
    other.traits = 0;
    settings = (struct station_settings){.name = "probe", .on_stall = STALL_BYPASS};
    CHECK_EQ(host_station_open(disk, &other, &settings, &station, &e), -EINVAL);
    CHECK(strstr(e.text, "bypass"));
    p.open = NULL;
    station = fixture_probe(disk, &p, "probe");
    CHECK(sluice_memory_take(p.disk, 64 * MIB));
    CHECK_STR(p.disk->name, "d");
    CHECK_STR(p.disk->group, "d");
    CHECK_EQ(strlen(p.disk->uuid), 36);
    CHECK_EQ(p.disk->size_bytes, DISK_BYTES);
    CHECK_EQ(p.disk->block_bytes, 1);
    CHECK(!p.disk->is_read_only);
    host_station_close(station);
    disk_close(disk);
}

/* --- role and gate
 * -------------------------------------------------------------------------------- */

struct role_events {
    struct flag promoted, demoted;
    _Atomic bool refuses;
};

static int on_role_event(struct probe *p, const struct sluice_event *event,
                         struct sluice_error *error)
{
    struct role_events *r = p->own;

    if (event->kind == SLUICE_EVENT_DEMOTE && event->phase == SLUICE_PHASE_PREPARE &&
        atomic_load(&r->refuses)) {
        flag_raise(&r->demoted);
        return sluice_refuse(p->disk, error, EBUSY, "not now");
    }
    if (event->phase == SLUICE_PHASE_COMMIT && event->kind == SLUICE_EVENT_PROMOTE)
        flag_raise(&r->promoted);
    if (event->phase == SLUICE_PHASE_COMMIT && event->kind == SLUICE_EVENT_DEMOTE)
        flag_raise(&r->demoted);
    return 0;
}

static void *write_through_gate(void *arg)
{
    char data[512] = "";

    CHECK_EQ(guest(arg, SLUICE_OP_WRITE, 0, 512, data), 0);
    return NULL;
}

static void test_a_filter_asks_for_a_role_and_closes_the_gate(void)
{
    struct role_events events = {.promoted = FLAG_INIT, .demoted = FLAG_INIT};
    struct probe p = {.event = on_role_event, .own = &events};
    struct bench b = bench_open(&p);
    struct err e = {0};
    struct sluice_error *error = (struct sluice_error *)(void *)&e;
    struct engine_counts counts;
    pthread_t thread;
    uint64_t epoch = 99;

    CHECK_EQ(sluice_role(p.disk, &epoch), SLUICE_ROLE_PRIMARY);
    CHECK_EQ(epoch, 0);
    CHECK_EQ(sluice_role_request(p.disk, 17, 1, error), -EINVAL);
    CHECK_EQ(sluice_role_request(p.disk, SLUICE_ROLE_PRIMARY, 5, error), 0);
    flag_wait(&events.promoted, 1);
    atomic_store(&events.refuses, true);
    CHECK_EQ(sluice_role_request(p.disk, SLUICE_ROLE_SECONDARY, 6, error), 0);
    flag_wait(&events.demoted, 1);
    sluice_gate(p.disk, true, "waiting for the peer");
    thread = thread_run(write_through_gate, b.disk);
    do
        engine_counts(disk_engine(b.disk), &counts);
    while (counts.held_at_gate == 0);
    sluice_gate(p.disk, false, NULL);
    pthread_join(thread, NULL);
    bench_close(&b);
}

int main(void)
{
    fixture_begin(2);
    RUN(test_timers_fire_in_order_and_never_early);
    RUN(test_a_timer_can_be_moved_stopped_and_set_anew_from_its_fire);
    RUN(test_stopping_a_timer_waits_for_its_fire);
    RUN(test_timers_from_many_threads_fire_or_are_stopped_once_each);
    RUN(test_workers_may_wait_for_each_other);
    RUN(test_state_and_records_are_kept_apart_and_survive);
    RUN(test_an_ephemeral_disk_has_state_for_a_while);
    RUN(test_shared_state_lives_as_long_as_it_has_users);
    RUN(test_memory_is_counted_against_the_limit_of_all);
    RUN(test_status_metrics_health_and_events);
    RUN(test_verbs_answer_with_text_and_keys_or_a_sentence);
    RUN(test_an_instance_that_cannot_be_opened_says_why);
    RUN(test_a_filter_asks_for_a_role_and_closes_the_gate);
    return fixture_end();
}
