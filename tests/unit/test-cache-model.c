/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test-cache-model: the cache filter in the real engine, host and disk, with threads, on real
 * files, under guests at random (cache-guests.c) and whatever may happen to a disk meanwhile: modes
 * and options change, the disk grows, snapshots are prepared, the filter leaves and joins the
 * chain, the SSD fails or does not answer (cache-ssd.c).  A life of the disk is a process of its
 * own; it ends by kill -9 at any moment, also amid recovery or a detach, by a stop, or with the
 * filter gone.  The next one first reads the whole disk: what was acknowledged is there.
 *
 *     [MODEL_LOG=1] test-cache-model [SECONDS [SEED [RULE]]]
 *
 * SECONDS (20) in all; SEED (1): threads make no two runs the same, but what is tried is.  RULE is
 * broken (docs/cache.md): then it exits with 1 for what it found, as it must.
 */
#include "cache-guests.h"
#include "cache-ssd.h"
#include "unit.h"

#include "cache/world.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB (UINT64_C(1) << 20)
#define SECOND_NS UINT64_C(1000000000)
#define FIRST_BYTES (2 * MIB)
#define GROWTH_BYTES (64u << 10)
#define ANSWERS_AWAITED 300u
#define ANSWER_LIMIT_NS (60 * SECOND_NS)
#define LIFE_LIMIT_NS \
    (180 * SECOND_NS) /* then it hangs; also under a sanitizer on a busy machine */
#define WORDS 13u

int cache_mutant;
const struct sluice_filter *sluice_filter_table(void);

static char folder[200], image[240], tier[240];

/* What a life tells its parent. */
static struct life_memory {
    _Atomic bool is_killed;       /* it ends itself by kill -9 */
    _Atomic bool is_without_tier; /* nothing is on the tier that the disk needs */
    _Atomic uint64_t kills, stops, departures, ssd_faults, snapshots, joins, resizes, changes,
        hangs;
} * told;

/* --- a life
 * ---------------------------------------------------------------------------------------- */

struct life {
    uint64_t random;
    struct disk *disk;
    struct station *station; /* NULL: it has left the chain */
    struct guests *guests;
    char text[WORDS][280];
    const char *word[WORDS];
    unsigned words, lasting_words, steps_left;
};

static uint32_t below(struct life *l, uint32_t n)
{
    return kit_random(&l->random) % n;
}

/* A failing SSD is much talked about. */
static void say_nothing(enum log_level level, const char *text)
{
    (void)level, (void)text;
}

static const char *pick(struct life *l, const char *const *list, uint32_t count)
{
    return list[below(l, count)];
}
#define PICK(l, ...)                            \
    pick(l, (const char *const[]){__VA_ARGS__}, \
         sizeof((const char *const[]){__VA_ARGS__}) / sizeof(const char *))

static void add_word(struct life *l, const char *name, const char *value)
{
    snprintf(l->text[l->words], sizeof l->text[0], "%s=%s", name, value);
    l->word[l->words] = l->text[l->words];
    l->words++;
}

static const char *any_mode(struct life *l)
{
    return PICK(l, "write-back", "write-back", "write-back", "write-through", "write-around",
                "read-only", "bypass");
}

static void choose_live_options(struct life *l)
{
    add_word(l, "mode", any_mode(l));
    add_word(l, "dirty.soft", PICK(l, "5", "40", "80"));
    add_word(l, "dirty.hard", PICK(l, "81", "90"));
    add_word(l, "destage.after", PICK(l, "0s", "20ms", "10s"));
    add_word(l, "destage.depth", PICK(l, "1", "4", "16"));
    add_word(l, "bypass_over", PICK(l, "8KiB", "256KiB"));
    if (below(l, 4) == 0)
        add_word(l, "destage.rate", "2MiB");
}

static void choose_options(struct life *l)
{
    l->words = 0;
    add_word(l, "ram", PICK(l, "64KiB", "96KiB", "256KiB"));
    add_word(l, "policy", PICK(l, "s3-fifo", "s3-fifo", "lru", "arc"));
    if (atomic_load(&told->is_without_tier) && below(l, 6) == 0) {
        add_word(l, "mode", PICK(l, "write-through", "write-around", "bypass"));
        return;
    }
    add_word(l, "ssd.path", tier);
    add_word(l, "ssd.size", PICK(l, "1MiB", "2MiB", "6MiB"));
    add_word(l, "ordered", PICK(l, "false", "false", "true"));
    l->lasting_words = l->words;
    choose_live_options(l);
}

static void must(struct life *l, int r, const struct err *e, const char *what)
{
    (void)l;
    if (r < 0 && !guests_are_failing())
        guests_violation("%s: %s", what, e->text);
}

static struct sluice_value *parse(struct life *l)
{
    struct sluice_value *values = NULL;
    struct err e = {0};

    must(l, host_parse_values(sluice_filter_table(), l->word, l->words, &values, &e), &e,
         "options");
    if (!values)
        abort();
    return values;
}

static void join_chain(struct life *l)
{
    struct err e = {0};
    struct station_settings settings = {.name = "cache"};
    CLEANUP_FREE struct sluice_value *values = NULL;
    int r;

    choose_options(l);
    values = parse(l);
    settings.values = values;
    atomic_store(&told->is_without_tier, false);
    r = host_station_open(l->disk, sluice_filter_table(), &settings, &l->station, &e);
    must(l, r, &e, "opening the cache");
    if (r < 0)
        exit(1);
    ssd_find(tier);
    r = disk_set_chain(l->disk, &l->station, 1, NULL, &e);
    must(l, r, &e, "joining the chain");
}

static void leave_chain(struct life *l)
{
    struct err e = {0};
    int r = disk_set_chain(l->disk, NULL, 0, NULL, &e);

    must(l, r, &e, "leaving the chain");
    if (r < 0)
        return;
    host_station_close(l->station);
    l->station = NULL;
    atomic_store(&told->is_without_tier, true);
}

static void open_disk(struct life *l)
{
    struct disk_settings settings = {.name = "d",
                                     .state_root = folder,
                                     .quiesce_limit_ns = 60 * SECOND_NS,
                                     .event_limit_ns = 60 * SECOND_NS};
    struct backing_spec spec = {.kind = BACKING_FILE, .disk = "d", .path = image};
    struct err e = {0};

    if (access(image, F_OK) < 0)
        settings.size_bytes = FIRST_BYTES;
    if (host_start(2, 4, 64 * MIB, &e) < 0 || disk_watch_start(&e) < 0 ||
        disk_open(&settings, &spec, &l->disk, &e) < 0) {
        guests_violation("the disk cannot be opened: %s", e.text);
        exit(1);
    }
}

/* --- what happens to it
 * ---------------------------------------------------------------------------- */

static void say(struct life *l, const char *verb, const char *argument)
{
    json_t *reply = NULL;
    struct err e = {0};

    must(l, host_station_verb(l->station, verb, argument != NULL, &argument, &reply, &e), &e, verb);
    json_decref(reply);
}

static void change_mode(struct life *l)
{
    const char *mode = any_mode(l);
    bool has_ssd = ssd_is_there() && l->words > 3 && !ssd_is_failing();

    say(l, "mode", has_ssd || strcmp(mode, "write-back") != 0 ? mode : "bypass");
    atomic_fetch_add(&told->changes, 1);
}

static bool has_ssd(const struct life *l)
{
    return l->words > 3;
}

/* Those that are not live stay. */
static void choose_again(struct life *l)
{
    l->words = l->lasting_words;
    choose_live_options(l);
}

static void set_options(struct life *l)
{
    CLEANUP_FREE struct sluice_value *values = parse(l);
    struct err e = {0};

    must(l, disk_policy_change(l->disk, l->station, values, &e), &e, "a change of options");
    atomic_fetch_add(&told->changes, 1);
}

static void change_options(struct life *l)
{
    if (!has_ssd(l))
        return;
    choose_again(l);
    set_options(l);
}

static void ask_status(struct life *l)
{
    say(l, "status", NULL);
    json_decref(host_station_status(l->station));
}

static void flush_cache(struct life *l)
{
    say(l, "flush", NULL);
}

static void drop_ram(struct life *l)
{
    say(l, "drop", NULL);
}

static void resize(struct life *l)
{
    uint64_t bytes = disk_size(l->disk) + GROWTH_BYTES * (1 + below(l, 8));
    struct err e = {0};
    int r;

    bytes = MIN(bytes, (uint64_t)MODEL_SECTORS * SECTOR_BYTES);
    r = disk_resize(l->disk, bytes, &e);
    must(l, r, &e, "a resize");
    if (r == 0)
        guests_resize(l->guests, bytes);
    atomic_fetch_add(&told->resizes, 1);
}

/* While it is prepared, the image alone holds all that was acknowledged before. */
static void snapshot(struct life *l)
{
    struct sluice_event event = {.kind = SLUICE_EVENT_SNAPSHOT, .name = "model"};
    static uint32_t floor[MODEL_SECTORS];
    struct err e = {0};
    int r;

    guests_note(floor);
    r = disk_event_prepare(l->disk, &event, &e);
    must(l, r, &e, "a snapshot");
    if (r < 0)
        return;
    guests_check_image(image, floor, "the image of a snapshot");
    r = below(l, 2) ? disk_event_commit(l->disk, event.kind, &e)
                    : disk_event_abort(l->disk, event.kind, &e);
    must(l, r, &e, "the end of a snapshot");
    atomic_fetch_add(&told->snapshots, 1);
}

static void pause_guests(struct life *l)
{
    struct err e = {0};
    int r = disk_quiesce(l->disk, &e);

    must(l, r, &e, "quiescing");
    if (r == 0)
        disk_resume(l->disk);
}

static void go_on(uint64_t requests);

static void leave_and_join(struct life *l)
{
    leave_chain(l);
    if (l->station)
        return;
    go_on(below(l, 300));
    if (below(l, 3) == 0) {
        unlink(tier); /* another size */
        ssd_forget(); /* a new one, which works: the old one's number may be its */
    }
    join_chain(l);
    atomic_fetch_add(&told->joins, 1);
}

/* From now on requests may fail, where the SSD does not read; where it does, nobody notices.  What
 * is acknowledged counts all the same. */
static void fail_ssd(struct life *l)
{
    unsigned faults = 1 + below(l, SSD_READS_FAIL | SSD_WRITES_FAIL);

    if (!ssd_can_fail())
        return;
    if (faults & SSD_READS_FAIL) {
        l->steps_left = MIN(l->steps_left, 3u);
        guests_may_fail();
    }
    ssd_fail(faults, below(l, 2) ? 1 + (int)below(l, 3) : INT32_MAX);
    atomic_fetch_add(&told->ssd_faults, 1);
}

/* Guests are answered all the same, and some of them that it failed. */
static void hang_ssd(struct life *l)
{
    uint64_t until = atomic_load(&counts->requests) + ANSWERS_AWAITED,
             give_up = clock_now_ns() + ANSWER_LIMIT_NS;
    struct timespec pause = {.tv_nsec = 2000000};

    if (!ssd_can_fail() || !has_ssd(l))
        return;
    choose_again(l);
    add_word(l, "ssd.timeout", "300ms");
    set_options(l);
    l->steps_left = MIN(l->steps_left, 3u);
    guests_may_fail();
    atomic_fetch_add(&told->hangs, 1);
    ssd_hang(true);
    while (atomic_load(&counts->requests) < until && clock_now_ns() < give_up)
        nanosleep(&pause, NULL);
    if (atomic_load(&counts->requests) < until)
        guests_violation("guests are not answered while the SSD does not");
    ssd_hang(below(l, 3) == 0);
}

/* --- its course
 * ------------------------------------------------------------------------------------ */

/* Until the guests have had so many answers more; with an SSD that fails, or guests that are held,
 * that may not come: then for a moment. */
static void go_on(uint64_t requests)
{
    uint64_t until = atomic_load(&counts->requests) + requests,
             give_up = clock_now_ns() + SECOND_NS;
    struct timespec pause = {.tv_nsec = 200000};

    while (atomic_load(&counts->requests) < until && clock_now_ns() < give_up)
        nanosleep(&pause, NULL);
}

static void one_step(struct life *l)
{
    static void (*const steps[])(struct life *) = {
        change_mode, change_mode,  change_mode,    change_options, change_options,
        ask_status,  flush_cache,  drop_ram,       resize,         snapshot,
        snapshot,    pause_guests, leave_and_join, fail_ssd,       hang_ssd,
    };
    unsigned count = sizeof steps / sizeof steps[0];

    /* With a tier that has failed nothing can leave, and a snapshot waits in vain until its limit.
     */
    if (guests_are_failing())
        count = 5;
    steps[below(l, count)](l);
}

static void *kill_after(void *arg)
{
    uint64_t *ns = arg;
    struct timespec a_while = {.tv_sec = (time_t)(*ns / SECOND_NS),
                               .tv_nsec = (long)(*ns % SECOND_NS)};

    nanosleep(&a_while, NULL);
    guests_freeze();
    atomic_fetch_add(&told->kills, 1);
    atomic_store(&told->is_killed, true);
    raise(SIGKILL);
    return NULL;
}

/* At any moment: often while it opens. */
static void choose_death(struct life *l)
{
    static uint64_t after_ns;
    pthread_t thread;

    if (below(l, 3) == 0)
        return;
    after_ns = below(l, below(l, 3) ? 800 : 60) * UINT64_C(1000000);
    if (pthread_create(&thread, NULL, kill_after, &after_ns) != 0)
        abort();
    pthread_detach(thread);
}

static void end_stopped(struct life *l)
{
    struct err e = {0};

    atomic_fetch_add(&told->stops, 1);
    must(l, disk_stop(l->disk, clock_now_ns() + 60 * SECOND_NS, &e), &e, "stopping");
    _exit(atomic_load(&counts->violations) != 0);
}

static void end_without_cache(struct life *l)
{
    atomic_fetch_add(&told->departures, 1);
    leave_chain(l);
    if (!l->station)
        guests_settle_image(image);
    disk_close(l->disk);
    exit(atomic_load(&counts->violations) != 0);
}

static _Noreturn void live(uint64_t seed)
{
    struct life l = {.random = seed * UINT64_C(0x9e3779b97f4a7c15) + 1};
    bool is_backing_slow;

    l.steps_left = 2 + below(&l, 24);
    if (!getenv("MODEL_LOG"))
        log_set_sink(say_nothing);
    is_backing_slow = below(&l, 3) == 0;
    ssd_begin_life(below(&l, 2), is_backing_slow);
    choose_death(&l);
    open_disk(&l);
    join_chain(&l);
    guests_settle(l.disk);
    l.guests = guests_start(l.disk, seed);
    for (; l.steps_left && !atomic_load(&counts->violations); l.steps_left--) {
        go_on(below(&l, 200));
        one_step(&l);
    }
    guests_stop(l.guests);
    if (guests_are_failing() || below(&l, 2))
        end_stopped(&l);
    end_without_cache(&l);
    abort();
}

/* --- one after the other
 * --------------------------------------------------------------------------- */

static int wait_for(pid_t pid)
{
    uint64_t limit = clock_now_ns() + LIFE_LIMIT_NS;
    struct timespec pause = {.tv_nsec = 2000000};
    int status;

    while (waitpid(pid, &status, WNOHANG) != pid) {
        if (clock_now_ns() > limit) {
            guests_violation("it hangs");
            kill(pid, SIGKILL);
            waitpid(pid, &status, 0);
            break;
        }
        nanosleep(&pause, NULL);
    }
    return status;
}

static bool one_life(uint64_t seed)
{
    pid_t pid;
    int status;

    guests_begin_life();
    atomic_store(&told->is_killed, false);
    fflush(stdout);
    pid = fork();
    if (pid == 0)
        live(seed);
    if (pid < 0)
        abort();
    status = wait_for(pid);
    if (WIFSIGNALED(status) && !(atomic_load(&told->is_killed) && WTERMSIG(status) == SIGKILL))
        guests_violation("it died: %s", strsignal(WTERMSIG(status)));
    else if (WIFEXITED(status) && WEXITSTATUS(status) && !atomic_load(&counts->violations))
        guests_violation("it ended with %d", WEXITSTATUS(status));
    return atomic_load(&counts->violations) == 0;
}

static void print(uint64_t lives, uint64_t last_seed)
{
    if (counts->violations)
        printf("seed %" PRIu64 " has gone wrong\n", last_seed);
    printf("{\"lives\": %" PRIu64 ", \"kills\": %" PRIu64 ", \"stops\": %" PRIu64
           ", \"departures\": %" PRIu64 ", \"requests\": %" PRIu64 ", \"failed\": %" PRIu64
           ", \"cancelled\": %" PRIu64 ", \"ssd_faults\": %" PRIu64 ", \"hangs\": %" PRIu64
           ", \"snapshots\": %" PRIu64 ", \"joins\": %" PRIu64 ", \"resizes\": %" PRIu64
           ", \"changes_of_mode\": %" PRIu64 ", \"sectors_checked\": %" PRIu64
           ", \"in_rings\": {\"short\": %" PRIu64 ", \"late\": %" PRIu64 ", \"failed\": %" PRIu64
           ", \"held\": %" PRIu64 "}, \"violations\": %u}\n",
           lives, told->kills, told->stops, told->departures, counts->requests, counts->failed,
           counts->cancelled, told->ssd_faults, told->hangs, told->snapshots, told->joins,
           told->resizes, told->changes, counts->sectors_checked, ssd_counts->ring_short,
           ssd_counts->ring_late, ssd_counts->ring_failed, ssd_counts->ring_held,
           counts->violations);
}

static void make_folder(void)
{
    const char *parent = getenv("TMPDIR");

    snprintf(folder, sizeof folder, "%s/sluice-model-XXXXXX",
             parent && parent[0] ? parent : "/tmp");
    if (!mkdtemp(folder))
        exit(99);
    snprintf(image, sizeof image, "%s/d.raw", folder);
    snprintf(tier, sizeof tier, "%s/tier", folder);
}

int main(int argc, char **argv)
{
    uint64_t seconds = argc > 1 ? strtoull(argv[1], NULL, 0) : 20, lives = 0;
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
    uint64_t until = clock_now_ns() + seconds * SECOND_NS;
    char command[300];

    cache_mutant = argc > 3 ? atoi(argv[3]) : 0;
    make_folder();
    guests_prepare();
    ssd_prepare();
    told = mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (told == MAP_FAILED)
        return 99;
    atomic_store(&told->is_without_tier, true);
    fprintf(stderr, "# seeds from %" PRIu64 " on, for %" PRIu64 " s\n", seed, seconds);
    while (clock_now_ns() < until && one_life(seed + lives))
        lives++;
    print(lives, seed + lives);
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    if (system(command) != 0)
        return 99;
    return counts->violations ? 1 : 0;
}
