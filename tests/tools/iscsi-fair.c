/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * iscsi-fair URL SESSIONS DEPTH SECONDS: so many sessions in one thread, each with DEPTH random
 * reads of 4 KiB in flight; prints requests a second, and of the sessions' 99th percentiles the
 * median and the largest, in microseconds, and the least and the most that a session got done.
 */
#include <inttypes.h>
#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define READ_BYTES 4096u
#define LATENCIES_MAX 100000u

struct session {
    struct iscsi_context *iscsi;
    struct iscsi_url *url;
    uint64_t blocks;
    uint32_t block_bytes;
    uint32_t *latency_us;
    unsigned done;
    unsigned seed;
};

struct flight {
    struct session *session;
    uint64_t began_ns;
};

static uint64_t end_ns;
static unsigned in_flight;

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void die(const struct session *s, const char *what)
{
    fprintf(stderr, "%s: %s\n", what, s->iscsi ? iscsi_get_error(s->iscsi) : "out of memory");
    exit(1);
}

static void submit(struct flight *f);

static void on_read(struct iscsi_context *iscsi, int status, void *data, void *arg)
{
    struct scsi_task *task = data;
    struct flight *f = arg;
    struct session *s = f->session;
    uint64_t now = now_ns();

    (void)iscsi;
    if (status != SCSI_STATUS_GOOD)
        die(s, "a read failed");
    scsi_free_scsi_task(task);
    in_flight--;
    if (s->done < LATENCIES_MAX)
        s->latency_us[s->done++] = (uint32_t)((now - f->began_ns) / 1000);
    if (now < end_ns)
        submit(f);
}

static void submit(struct flight *f)
{
    struct session *s = f->session;
    uint32_t per_read = READ_BYTES / s->block_bytes;
    uint64_t lba = (uint64_t)rand_r(&s->seed) % (s->blocks / per_read) * per_read;

    f->began_ns = now_ns();
    in_flight++;
    if (!iscsi_read16_task(s->iscsi, s->url->lun, lba, READ_BYTES, (int)s->block_bytes, 0, 0, 0, 0,
                           0, on_read, f))
        die(s, "a read");
}

static void open_session(struct session *s, const char *url, unsigned number)
{
    char name[100];
    struct scsi_task *task;
    struct scsi_readcapacity16 *capacity;

    snprintf(name, sizeof name, "iqn.2001-04.com.example:fair%u", number);
    s->seed = number + 1;
    s->latency_us = calloc(LATENCIES_MAX, sizeof s->latency_us[0]);
    s->iscsi = iscsi_create_context(name);
    if (!s->iscsi || !s->latency_us)
        die(s, "a session");
    s->url = iscsi_parse_full_url(s->iscsi, url);
    if (!s->url)
        die(s, url);
    iscsi_set_session_type(s->iscsi, ISCSI_SESSION_NORMAL);
    if (iscsi_set_targetname(s->iscsi, s->url->target) < 0 ||
        iscsi_full_connect_sync(s->iscsi, s->url->portal, s->url->lun) < 0)
        die(s, "cannot log in");
    task = iscsi_readcapacity16_sync(s->iscsi, s->url->lun);
    capacity = task ? scsi_datain_unmarshall(task) : NULL;
    if (!capacity)
        die(s, "no capacity");
    s->block_bytes = capacity->block_length;
    s->blocks = capacity->returned_lba + 1;
    scsi_free_scsi_task(task);
}

static void serve(struct session *s, struct pollfd *fds, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        fds[i] = (struct pollfd){.fd = iscsi_get_fd(s[i].iscsi),
                                 .events = (short)iscsi_which_events(s[i].iscsi)};
    if (poll(fds, count, 1000) < 0)
        exit(1);
    for (unsigned i = 0; i < count; i++)
        if (fds[i].revents && iscsi_service(s[i].iscsi, fds[i].revents) < 0)
            die(&s[i], "a session broke");
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

static void report(struct session *s, unsigned count, double seconds)
{
    uint32_t *p99 = calloc(count, sizeof p99[0]), least = UINT32_MAX, most = 0;
    uint64_t all = 0;

    for (unsigned i = 0; p99 && i < count; i++) {
        qsort(s[i].latency_us, s[i].done, sizeof s[i].latency_us[0], compare);
        p99[i] = s[i].done ? s[i].latency_us[(uint64_t)s[i].done * 99 / 100] : UINT32_MAX;
        all += s[i].done;
        least = s[i].done < least ? s[i].done : least;
        most = s[i].done > most ? s[i].done : most;
    }
    if (!p99)
        exit(1);
    qsort(p99, count, sizeof p99[0], compare);
    printf("{\"iops\": %.0f, \"p99_median_us\": %" PRIu32 ", \"p99_largest_us\": %" PRIu32
           ", \"least\": %" PRIu32 ", \"most\": %" PRIu32 "}\n",
           (double)all / seconds, p99[count / 2], p99[count - 1], least, most);
    free(p99);
}

int main(int argc, char **argv)
{
    unsigned count = argc == 5 ? (unsigned)strtoul(argv[2], NULL, 10) : 0;
    unsigned depth = argc == 5 ? (unsigned)strtoul(argv[3], NULL, 10) : 0;
    struct session *s = calloc(count ? count : 1, sizeof *s);
    struct pollfd *fds = calloc(count ? count : 1, sizeof *fds);
    struct flight *flights = calloc(count && depth ? (size_t)count * depth : 1, sizeof *flights);
    double seconds = argc == 5 ? strtod(argv[4], NULL) : 0;

    if (!count || !depth || !s || !fds || !flights || seconds <= 0) {
        fprintf(stderr, "usage: iscsi-fair URL SESSIONS DEPTH SECONDS\n");
        return 2;
    }
    for (unsigned i = 0; i < count; i++)
        open_session(&s[i], argv[1], i);
    end_ns = now_ns() + (uint64_t)(seconds * 1e9);
    for (unsigned i = 0; i < count * depth; i++) {
        flights[i].session = &s[i % count];
        submit(&flights[i]);
    }
    while (in_flight)
        serve(s, fds, count);
    report(s, count, seconds);
    return 0;
}
