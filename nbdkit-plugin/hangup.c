/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hangup.c: nbdkit before 1.34 aborts the whole process when a client hangs up while several of its
 * replies are being sent: one worker sees the broken pipe and gives up the socket, another one that
 * already waited for its turn to send finds none ("raw_send_socket: Assertion `sock >= 0'").  That
 * would take every other client of the gateway with it.
 *
 * So abort() is caught, and where it was that assertion and nothing else, the thread that ran into
 * it is parked for ever.  Nothing in the process is broken then; what is lost are the threads of a
 * dead connection.  Its session is closed from another thread, so that an exclusive disk is free
 * again. Any other abort goes on as if nobody had looked.
 */
#include "plugin.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

/* What this thread serves: set by its first request. */
static __thread struct connection *served;

/* Ends of a pipe: pointers to connections whose threads are parked. */
static int parked_in = -1, parked_out = -1;

/* glibc leaves the text of a failed assertion there, for debuggers; its version is private. */
struct abort_message {
    unsigned size;
    char text[];
};

static struct abort_message **find_message(void)
{
    return dlvsym(RTLD_DEFAULT, "__abort_msg", "GLIBC_PRIVATE");
}

static struct abort_message **message;

static bool is_hangup(void)
{
    return message && *message && strstr((*message)->text, "raw_send_socket") &&
           strstr((*message)->text, "sock >= 0");
}

static void on_abort(int number)
{
    struct connection *c = served;

    if (!is_hangup()) {
        signal(number, SIG_DFL); /* abort() raises it once more */
        return;
    }
    if (c && !atomic_exchange(&c->is_parked, true) && write(parked_in, &c, sizeof c) != sizeof c)
        c = NULL; /* the session stays open; nothing else can be done in a signal handler */
    for (;;)
        pause();
}

static void *bury(void *unused)
{
    struct connection *c;

    (void)unused;
    while (read(parked_out, &c, sizeof c) == (ssize_t)sizeof c) {
        log_line(LOG_LEVEL_WARNING,
                 "a client hung up amid its replies, which nbdkit before 1.34 cannot stand; its "
                 "threads are "
                 "parked disk=%s client=%s",
                 engine_name(c->engine), c->session->client.address);
        disk_session_abandon(c->session);
    }
    return NULL;
}

void hangup_note_connection(struct connection *c)
{
    served = c;
}

int hangup_guard(void)
{
    struct sigaction action = {.sa_handler = on_abort, .sa_flags = SA_NODEFER};
    int fds[2];

    message = find_message();
    if (!message || pipe2(fds, O_CLOEXEC) < 0)
        return 0; /* then it is as nbdkit made it */
    parked_out = fds[0];
    parked_in = fds[1];
    if (thread_start(NULL, bury, NULL) != 0)
        return 0;
    sigemptyset(&action.sa_mask);
    return sigaction(SIGABRT, &action, NULL);
}
