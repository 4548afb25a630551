/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench-cache-commit: what a write of 4 KiB and a flush cost at the boundary of the cache filter,
 * in process, beside a raw append of 8 KiB (a chunk of the log: header and block) and an fdatasync
 * on a file of the same file system, O_DIRECT into space that was written before.  They take turns,
 * pair by pair.  Measured on a new tier, whose space the file system has only promised, and when
 * the log has gone round.  Exits 1 when one of them is above 1.25.
 *
 *     bench-cache-commit [ROUNDS [PAIRS]]     (9 rounds of 50)       BENCH_DIR: where the files are
 */
#include "host/host.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define MOST_RATIO 1.25
#define RAW_BYTES (UINT64_C(64) << 20)
#define DISK_BYTES (UINT64_C(256) << 10) /* written over and over: nothing has to leave the log */
#define ROUNDS_MAX 1000u
#define PAIRS_MAX 1000u
#define LOG_BYTES (UINT64_C(8) << 20)

const struct sluice_filter *sluice_filter_table(void);

static char folder[200];
static uint8_t *buffer; /* 1 MiB, aligned */
static int raw_fd;
static uint64_t raw_at, disk_at;
static struct disk *disk;
static struct station *station;

static _Noreturn void die(const char *what, const char *why)
{
    fprintf(stderr, "bench-cache-commit: %s: %s\n", what, why);
    exit(99);
}

static void in_folder(char path[300], const char *name)
{
    snprintf(path, 300, "%s/%s", folder, name);
}

/* --- the two that are compared
 * --------------------------------------------------------------------- */

static void make_raw(void)
{
    char path[300];

    in_folder(path, "raw");
    raw_fd = open(path, O_RDWR | O_CREAT | O_DIRECT | O_CLOEXEC, 0600);
    for (uint64_t at = 0; at < RAW_BYTES; at += 1 << 20)
        if (raw_fd < 0 || pwrite(raw_fd, buffer, 1 << 20, (off_t)at) != 1 << 20)
            die(path, strerror(errno));
    if (fsync(raw_fd) < 0)
        die(path, strerror(errno));
}

static void append_raw(void)
{
    if (pwrite(raw_fd, buffer, 8192, (off_t)raw_at) != 8192 || fdatasync(raw_fd) < 0)
        die("the raw file", strerror(errno));
    raw_at = (raw_at + 8192) % RAW_BYTES;
}

static void open_cache(void)
{
    struct disk_settings settings = {.name = "bench", .size_bytes = DISK_BYTES};
    struct backing_spec spec = {.kind = BACKING_FILE, .disk = "bench"};
    struct station_settings how = {.name = "cache"};
    struct sluice_value *values;
    char image[300], word[320];
    const char *words[] = {word, "ssd.size=8MiB", "ram=1MiB", "destage.after=1h"};
    struct err e = {0};

    in_folder(image, "image");
    in_folder(word + strlen(strcpy(word, "ssd.path=")), "tier");
    spec.path = image;
    if (host_start(1, 2, 0, &e) < 0 || disk_watch_start(&e) < 0 ||
        disk_open(&settings, &spec, &disk, &e) < 0 ||
        host_parse_values(sluice_filter_table(), words, ARRAY_SIZE(words), &values, &e) < 0)
        die("the disk", e.text);
    how.values = values;
    if (host_station_open(disk, sluice_filter_table(), &how, &station, &e) < 0 ||
        disk_set_chain(disk, &station, 1, NULL, &e) < 0)
        die("the cache", e.text);
    free(values);
}

static void ask(unsigned op, uint64_t offset, uint64_t length)
{
    static const struct sluice_client client = {
        .front_end = "bench", .address = "", .initiator = ""};
    struct request *r = request_new(disk_engine(disk), &client);
    int error;

    if (!r)
        die("a request", "out of memory");
    request_fill(r, op, 0, offset, length, op == SLUICE_OP_WRITE ? buffer : NULL);
    error = request_execute(r);
    if (error)
        die("a request", strerror(error));
    request_free(r);
}

/* Scattered, as a guest's are. */
static void write_and_flush(void)
{
    disk_at = (disk_at + UINT64_C(4096) * 17) % DISK_BYTES;
    ask(SLUICE_OP_WRITE, disk_at, 4096);
    ask(SLUICE_OP_FLUSH, 0, 0);
}

/* --- rounds
 * ---------------------------------------------------------------------------------------- */

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *values, unsigned count)
{
    qsort(values, count, sizeof *values, compare);
    return values[count / 2];
}

static double took_us(void (*pair)(void))
{
    uint64_t since = clock_now_ns();

    pair();
    return (double)(clock_now_ns() - since) / 1000;
}

struct medians {
    double raw_us, cache_us;
};

static struct medians one_round(unsigned pairs)
{
    static double raw[PAIRS_MAX], cache[PAIRS_MAX];
    struct medians m;

    for (unsigned i = 0; i < pairs; i++) {
        raw[i] = took_us(append_raw);
        cache[i] = took_us(write_and_flush);
    }
    m.raw_us = median(raw, pairs);
    m.cache_us = median(cache, pairs);
    return m;
}

/* False: the promise is missed. */
static bool compare_them(const char *when, unsigned rounds, unsigned pairs)
{
    static double raw[ROUNDS_MAX], cache[ROUNDS_MAX], ratio[ROUNDS_MAX];
    double result;

    for (unsigned i = 0; i < rounds; i++) {
        struct medians m = one_round(pairs);

        raw[i] = m.raw_us;
        cache[i] = m.cache_us;
        ratio[i] = m.cache_us / m.raw_us;
    }
    result = median(ratio, rounds);
    printf("| a write of 4 KiB and a flush, %s | %.0f us | append and fdatasync | %.0f us | %.2f "
           "(quartiles %.2f, %.2f) | at most %.2f |\n",
           when, median(cache, rounds), median(raw, rounds), result, ratio[rounds / 4],
           ratio[rounds * 3 / 4], MOST_RATIO);
    printf("%s: %s: %.2f, promised at most %.2f\n", result > MOST_RATIO ? "MISSED" : "kept", when,
           result, MOST_RATIO);
    return result <= MOST_RATIO;
}

static void go_round(void)
{
    for (uint64_t written = 0; written < 2 * LOG_BYTES; written += 8192) {
        disk_at = (disk_at + 4096) % DISK_BYTES;
        ask(SLUICE_OP_WRITE, disk_at, 4096);
    }
    ask(SLUICE_OP_FLUSH, 0, 0);
}

static void make_folder(void)
{
    const char *parent = getenv("BENCH_DIR");

    if (!parent)
        parent = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/sluice-commit-XXXXXX",
             parent && parent[0] ? parent : "/tmp");
    if (!mkdtemp(folder))
        die(folder, strerror(errno));
}

static unsigned number(int argc, char **argv, int at, unsigned otherwise, unsigned most)
{
    unsigned long given = argc > at ? strtoul(argv[at], NULL, 0) : otherwise;

    return given < 1 ? 1 : given > most ? most : (unsigned)given;
}

int main(int argc, char **argv)
{
    char command[300];
    unsigned rounds = number(argc, argv, 1, 9, ROUNDS_MAX),
             pairs = number(argc, argv, 2, 50, PAIRS_MAX);
    bool is_kept;

    buffer = aligned_alloc(4096, 1 << 20);
    if (!buffer)
        die("memory", "there is none");
    memset(buffer, 0x5a, 1 << 20);
    make_folder();
    make_raw();
    open_cache();
    is_kept = compare_them("a new tier", rounds, pairs);
    go_round();
    is_kept &= compare_them("the log has gone round", rounds, pairs);
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    if (system(command) != 0)
        return 99;
    return is_kept ? 0 : 1;
}
