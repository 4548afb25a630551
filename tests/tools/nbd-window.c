/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * nbd-window: fills part of a connection's window.  Sends N writes that nobody answers, then,
 * unless
 * --full, waits for a line on its standard input, reads once and prints how many milliseconds that
 * took; then keeps the connection until its standard input ends.
 *
 *     nbd-window URI N [--full]
 */
#include <inttypes.h>
#include <libnbd.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BLOCK 4096u
#define READ_LIMIT_MS 5000

static char data[BLOCK], back[BLOCK];
static bool is_read_done;

static int on_read(void *user, int *error)
{
    (void)user;
    if (*error)
        fprintf(stderr, "nbd-window: the read failed: %s\n", strerror(*error));
    is_read_done = *error == 0;
    return 1;
}

static double now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static bool send_writes(struct nbd_handle *nbd, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (nbd_aio_pwrite(nbd, data, BLOCK, (uint64_t)i * BLOCK, NBD_NULL_COMPLETION, 0) == -1)
            return false;
    /* All of them are out before the read follows. */
    while (nbd_aio_get_direction(nbd) & LIBNBD_AIO_DIRECTION_WRITE)
        if (nbd_poll(nbd, 100) == -1)
            return false;
    return true;
}

/* The test says when the writes are held: before, the read would wait for them to be received. */
static bool wait_for_a_line(void)
{
    int c;

    while ((c = getchar()) != EOF && c != '\n')
        ;
    return true;
}

static bool time_a_read(struct nbd_handle *nbd)
{
    nbd_completion_callback done = {.callback = on_read};
    double since = now_ms();

    if (nbd_aio_pread(nbd, back, BLOCK, 64 * BLOCK, done, 0) == -1)
        return false;
    while (!is_read_done && now_ms() - since < READ_LIMIT_MS)
        if (nbd_poll(nbd, 100) == -1)
            return false;
    printf("%.3f\n", is_read_done ? now_ms() - since : 1e9);
    fflush(stdout);
    return true;
}

int main(int argc, char **argv)
{
    bool is_full = argc == 4 && strcmp(argv[3], "--full") == 0;
    struct nbd_handle *nbd = nbd_create();
    bool ok;

    if (argc < 3 || !nbd) {
        fprintf(stderr, "usage: nbd-window URI N [--full]\n");
        return 3;
    }
    ok = nbd_connect_uri(nbd, argv[1]) == 0 && send_writes(nbd, (unsigned)atoi(argv[2])) &&
         (is_full || (wait_for_a_line() && time_a_read(nbd)));
    if (!ok)
        fprintf(stderr, "nbd-window: %s\n", nbd_get_error());
    while (ok && getchar() != EOF)
        ;
    _Exit(ok ? 0 : 1); /* nothing waits for the writes */
}
