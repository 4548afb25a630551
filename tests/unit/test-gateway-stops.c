/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test-gateway-stops: a gateway in this process is stopped while initiators write, a reload is
 * under way and somebody looks at the status, for the thread sanitizer.  Two callers stop it and
 * both return; no session outlives that, and the files have every write that was acknowledged.
 * Before, a child does the same on files that forget writes, which has to be noticed.
 */
#include "control/control.h"
#include "initiator.h"
#include "io/syscalls.h"
#include "unit.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define DISKS 2u
#define WORKERS 4u
#define PIECE_BYTES 65536u
#define WRITES_BEFORE 20u /* of each worker, before the stop */
#define LOGIN_LIMIT_NS UINT64_C(30000000000)

/* --- calls the thread sanitizer does not know ------------------------------------------------- */

/* They are the C library's newest; these stand before them and make the older ones of them, which
 * it sees.  Without that it takes what a join or a lock orders for a race. */
static struct timespec on_the_wall(const struct timespec *monotonic)
{
    struct timespec wall, now;
    int64_t ns;

    clock_gettime(CLOCK_MONOTONIC, &now);
    clock_gettime(CLOCK_REALTIME, &wall);
    ns = (monotonic->tv_sec - now.tv_sec + wall.tv_sec) * INT64_C(1000000000) + monotonic->tv_nsec -
         now.tv_nsec + wall.tv_nsec;
    return (struct timespec){ns / 1000000000, ns % 1000000000};
}

int pthread_mutex_clocklock(pthread_mutex_t *mutex, clockid_t clock, const struct timespec *until)
{
    struct timespec wall = on_the_wall(until);

    CHECK_EQ(clock, CLOCK_MONOTONIC);
    return pthread_mutex_timedlock(mutex, &wall);
}

int pthread_clockjoin_np(pthread_t thread, void **result, clockid_t clock,
                         const struct timespec *until)
{
    struct timespec wall = on_the_wall(until);

    CHECK_EQ(clock, CLOCK_MONOTONIC);
    return pthread_timedjoin_np(thread, result, &wall);
}

/* --- the gateway ------------------------------------------------------------------------------ */

static struct gateway *gateway;
static char folder[200], portal[32];

static FILE *create(const char *name)
{
    char path[600];
    FILE *f;

    snprintf(path, sizeof path, "%s/%s", folder, name);
    f = fopen(path, "we");
    if (!f)
        abort();
    return f;
}

/* A port that was free a moment ago. */
static unsigned find_port(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || bind(fd, (struct sockaddr *)&at, length) < 0 ||
        getsockname(fd, (struct sockaddr *)&at, &length) < 0)
        abort();
    close(fd);
    return ntohs(at.sin_port);
}

static void write_configuration(void)
{
    const char *parent = getenv("TMPDIR");
    char path[300];
    FILE *f;

    snprintf(folder, sizeof folder, "%s/sluice-test-stop-XXXXXX",
             parent && parent[0] ? parent : "/tmp");
    if (!mkdtemp(folder))
        abort();
    snprintf(portal, sizeof portal, "127.0.0.1:%u", find_port());
    f = create("gateway.yaml");
    fprintf(f,
            "gateway: gw\nstate: %s/state\nlisten: { nbd: [\"unix:%s/nbd\"], iscsi: [\"%s\"], "
            "control: \"unix:%s/control\" }\n",
            folder, folder, portal, folder);
    fclose(f);
    snprintf(path, sizeof path, "%s/disks.d", folder);
    if (mkdir(path, 0755) < 0)
        abort();
    for (unsigned i = 0; i < DISKS; i++) {
        snprintf(path, sizeof path, "disks.d/d%u.yaml", i);
        f = create(path);
        fprintf(f,
                "size: 16MiB\nbacking: { file: %s/d%u.raw }\nexport: { iscsi: { target: d%u } }\n",
                folder, i, i);
        fclose(f);
    }
}

static void start_gateway(void)
{
    struct gateway_options options = {.folder = folder, .control_fd = -1};
    struct err e = {0};

    if (gateway_load(&options, &gateway, stderr) < 0 || gateway_start(gateway, &e) < 0) {
        fprintf(stderr, "cannot start the gateway: %s\n", e.text);
        exit(99);
    }
}

/* --- initiators ------------------------------------------------------------------------------- */

struct worker {
    pthread_t thread;
    unsigned number;
    _Atomic unsigned acknowledged; /* every block of its piece has that byte, or the next */
};

static struct worker workers[WORKERS];

static struct initiator *log_in(const struct worker *w)
{
    uint64_t until_ns = clock_now_ns() + LOGIN_LIMIT_NS;
    struct initiator *i = NULL;
    char target[64];

    snprintf(target, sizeof target, "iqn.2024-01.org.sluice:d%u", w->number % DISKS);
    while (!i && clock_now_ns() < until_ns) /* the disks are still being opened */
        i = initiator_login("iqn.2001-04.com.example:stop", (uint16_t)w->number, target, portal, 0,
                            false);
    return i;
}

static void *write_until_the_end(void *arg)
{
    struct worker *w = arg;
    struct initiator *i = log_in(w);
    uint8_t *data = malloc(PIECE_BYTES);
    unsigned stamp = 0;

    CHECK(i && data);
    while (i && data) {
        memset(data, (int)++stamp & 0xff, PIECE_BYTES);
        if (!initiator_write(i, (uint64_t)w->number * (PIECE_BYTES / 512), data, PIECE_BYTES))
            break;
        atomic_store(&w->acknowledged, stamp);
    }
    if (i)
        initiator_drop(i);
    free(data);
    return NULL;
}

static void wait_for_writes(void)
{
    uint64_t until_ns = clock_now_ns() + LOGIN_LIMIT_NS;

    for (unsigned i = 0; i < WORKERS; i++)
        while (atomic_load(&workers[i].acknowledged) < WRITES_BEFORE && clock_now_ns() < until_ns)
            sched_yield();
}

static bool forgets;

/* The first writes are done, of later ones it is only said. */
static ssize_t forget_write(int fd, const struct iovec *iov, int count, off_t offset, int flags)
{
    const uint8_t *stamps = iov->iov_base;

    if (iov->iov_len == PIECE_BYTES && stamps[0] >= WRITES_BEFORE / 2)
        return (ssize_t)PIECE_BYTES;
    return pwritev2(fd, iov, count, offset, flags);
}

static void check_file_of(const struct worker *w)
{
    uint8_t last = (uint8_t)atomic_load(&w->acknowledged), next = (uint8_t)(last + 1);
    uint8_t *got = malloc(PIECE_BYTES);
    unsigned wrong = 0;
    char path[300];
    int fd;

    snprintf(path, sizeof path, "%s/d%u.raw", folder, w->number % DISKS);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK_EQ(pread(fd, got, PIECE_BYTES, (off_t)w->number * PIECE_BYTES), PIECE_BYTES);
    for (unsigned at = 0; at < PIECE_BYTES; at++)
        wrong += got[at] != last && got[at] != next;
    CHECK_EQ(wrong, forgets ? PIECE_BYTES : 0);
    CHECK(atomic_load(&w->acknowledged) >= WRITES_BEFORE);
    close(fd);
    free(got);
}

/* --- meanwhile -------------------------------------------------------------------------------- */

static _Atomic bool must_stop;
static _Atomic unsigned reloads, looks;

static void *reload(void *arg)
{
    struct reload_options options = {.is_dry_run = false};

    while (!atomic_load(&must_stop)) {
        struct err e = {0};

        if (gateway_reload(gateway, &options, NULL, &e) == 0)
            atomic_fetch_add(&reloads, 1);
    }
    return arg;
}

static void *look(void *arg)
{
    while (!atomic_load(&must_stop)) {
        json_t *status = gateway_status(gateway, NULL);

        CHECK(status != NULL);
        json_decref(status);
        atomic_fetch_add(&looks, 1);
    }
    return arg;
}

static void *stop(void *arg)
{
    CHECK_EQ(gateway_stop(gateway), 0);
    return arg;
}

static void start_thread(pthread_t *thread, void *(*run)(void *), void *arg)
{
    if (pthread_create(thread, NULL, run, arg) != 0)
        abort();
}

static void test_a_stop_amid_all_of_it(void)
{
    pthread_t others[2], stoppers[2];

    for (unsigned i = 0; i < WORKERS; i++) {
        workers[i].number = i;
        start_thread(&workers[i].thread, write_until_the_end, &workers[i]);
    }
    start_thread(&others[0], reload, NULL);
    start_thread(&others[1], look, NULL);
    wait_for_writes();
    for (unsigned i = 0; i < 2; i++)
        start_thread(&stoppers[i], stop, NULL);
    for (unsigned i = 0; i < 2; i++)
        pthread_join(stoppers[i], NULL);
    for (unsigned i = 0; i < WORKERS; i++)
        pthread_join(workers[i].thread, NULL);
    atomic_store(&must_stop, true);
    for (unsigned i = 0; i < 2; i++)
        pthread_join(others[i], NULL);
    for (unsigned i = 0; i < WORKERS; i++)
        check_file_of(&workers[i]);
    CHECK(atomic_load(&looks) > 0);
    printf("# %u reloads, %u looks\n", atomic_load(&reloads), atomic_load(&looks));
}

static void remove_folder(void)
{
    char command[300];

    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    CHECK_EQ(system(command), 0);
}

static void run_all(void)
{
    write_configuration();
    start_gateway();
    RUN(test_a_stop_amid_all_of_it);
    remove_folder();
}

int main(void)
{
    pid_t child = fork();
    int status = -1;

    forgets = child == 0;
    if (forgets)
        io_syscalls.pwritev2 = forget_write;
    else
        CHECK(waitpid(child, &status, 0) == child && status == 0);
    run_all();
    return unit_result(); /* the control threads end with the process */
}
