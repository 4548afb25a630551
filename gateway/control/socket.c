/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * socket.c: the control socket.  A thread accepts, a thread serves each client, at most CLIENTS_MAX
 * of them; a line is at most CONTROL_REQUEST_MAX bytes and must arrive within READ_LIMIT_S, an
 * answer be taken within the same time.  Nothing here touches data; a client can at most waste its
 * own thread.
 */
#include "internal.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define CLIENTS_MAX 64u
#define READ_LIMIT_S 30
#define BACKLOG 64

/* --- listening
 * ------------------------------------------------------------------------------------------- */

static int fill_address(struct sockaddr_un *un, const char *path, struct err *e)
{
    *un = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof un->sun_path)
        return err_set(e, ENAMETOOLONG, "%s: a socket's path has at most %zu bytes", path,
                       sizeof un->sun_path - 1);
    memcpy(un->sun_path, path, strlen(path));
    return 0;
}

/* For SO_RCVTIMEO or SO_SNDTIMEO, which is connect's too; 0: for ever. */
static void set_limit(int fd, int which, int seconds)
{
    struct timeval limit = {.tv_sec = seconds};

    setsockopt(fd, SOL_SOCKET, which, &limit, sizeof limit);
}

static int connect_to(const struct sockaddr_un *un)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -errno;
    set_limit(fd, SO_SNDTIMEO, CONTROL_LOOK_S);
    if (connect(fd, (const struct sockaddr *)un, sizeof *un) == 0)
        return fd;
    int error = errno;
    close(fd);
    return -error;
}

static int remove_stale(const struct sockaddr_un *un, struct err *e)
{
    struct stat st;
    int fd;

    if (lstat(un->sun_path, &st) < 0)
        return 0;
    if (!S_ISSOCK(st.st_mode))
        return err_set(e, EEXIST, "%s is in the way and no socket; remove it", un->sun_path);
    fd = connect_to(un);
    if (fd >= 0) {
        close(fd);
        return err_set(e, EADDRINUSE, "%s: another gateway is running there", un->sun_path);
    }
    return unlink(un->sun_path) < 0
               ? err_set(e, errno, "cannot remove %s: %s", un->sun_path, strerror(errno))
               : 0;
}

int control_listen(const char *path, int *fd, struct err *e)
{
    struct sockaddr_un un;
    mode_t mask;
    int r = fill_address(&un, path, e);

    if (r == 0)
        r = remove_stale(&un, e);
    if (r < 0)
        return r;
    *fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (*fd < 0)
        return err_set(e, errno, "cannot make a socket: %s", strerror(errno));
    mask = umask(0177);
    r = bind(*fd, (struct sockaddr *)&un, sizeof un);
    umask(mask);
    if (r == 0 && listen(*fd, BACKLOG) == 0)
        return 0;
    r = err_set(e, errno, "cannot listen on %s: %s", path, strerror(errno));
    close(*fd);
    *fd = -1;
    return r;
}

/* --- one client
 * -------------------------------------------------------------------------------------------- */

struct client {
    struct gateway *gateway;
    int fd;
    size_t have;
    char line[CONTROL_REQUEST_MAX];
};

/* The length of the next line without its end; -1: it ended, was too long or too slow. */
static ssize_t read_line(struct client *c)
{
    for (;;) {
        ssize_t n = control_line_length(c->line, c->have);

        if (n >= 0)
            return n;
        if (c->have == sizeof c->line)
            return -1;
        n = recv(c->fd, c->line + c->have, sizeof c->line - c->have, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -1;
        c->have += (size_t)n;
    }
}

static void drop_line(struct client *c, size_t length)
{
    c->have -= length + 1;
    memmove(c->line, c->line + length + 1, c->have);
}

static bool send_all(int fd, const char *data, size_t length)
{
    while (length) {
        ssize_t n = send(fd, data, length, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        data += n;
        length -= (size_t)n;
    }
    return true;
}

static bool send_document(int fd, const json_t *j)
{
    char *text = json_dumps(j, JSON_COMPACT | JSON_PRESERVE_ORDER);
    bool ok = text && send_all(fd, text, strlen(text)) && send_all(fd, "\n", 1);

    free(text);
    return ok;
}

/* False: the client is served no more. */
static bool serve_request(struct client *c, const struct control_request *q)
{
    json_t *answer;
    bool ok;

    if (q->verb == CONTROL_VERB_WATCH) {
        events_stream(c->gateway, c->fd, json_is_true(json_object_get(q->json, "now")));
        return false;
    }
    answer = control_answer(c->gateway, q);
    ok = answer && send_document(c->fd, answer);
    json_decref(answer);
    return ok;
}

static bool serve_line(struct client *c, size_t length)
{
    struct control_request q;
    struct err e = {0};
    json_t *refusal;
    bool ok;

    if (control_request_parse(c->line, length, &q, &e) == 0) {
        ok = serve_request(c, &q);
        json_decref(q.json);
        return ok;
    }
    refusal = control_refusal(&e);
    ok = refusal && send_document(c->fd, refusal);
    json_decref(refusal);
    return ok;
}

static void *client_thread(void *arg)
{
    struct client *c = arg;

    for (;;) {
        ssize_t length = read_line(c);

        if (length < 0 || !serve_line(c, (size_t)length))
            break;
        drop_line(c, (size_t)length);
    }
    close(c->fd);
    atomic_fetch_sub(&c->gateway->clients, 1);
    free(c);
    return NULL;
}

static void refuse(int fd)
{
    static const char text[] =
        "{\"ok\": false, \"error\": \"too many clients of the control socket\", \"exit\": 1}\n";

    send_all(fd, text, sizeof text - 1);
    close(fd);
}

static void begin_client(struct gateway *g, int fd)
{
    struct client *c = malloc(sizeof *c);

    set_limit(fd, SO_RCVTIMEO, READ_LIMIT_S);
    set_limit(fd, SO_SNDTIMEO, READ_LIMIT_S);
    if (!c || atomic_fetch_add(&g->clients, 1) >= CLIENTS_MAX) {
        if (c)
            atomic_fetch_sub(&g->clients, 1);
        free(c);
        refuse(fd);
        return;
    }
    c->gateway = g;
    c->fd = fd;
    c->have = 0;
    if (thread_start(NULL, client_thread, c) == 0)
        return;
    atomic_fetch_sub(&g->clients, 1);
    free(c);
    refuse(fd);
}

static void *accept_thread(void *arg)
{
    struct gateway *g = arg;

    for (;;) {
        int fd = accept4(g->control_fd, NULL, NULL, SOCK_CLOEXEC);
        struct timespec pause = {.tv_nsec = 50000000};

        if (fd >= 0)
            begin_client(g, fd);
        else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM)
            nanosleep(&pause, NULL); /* back-off until descriptors are free again */
        else if (errno == EBADF || errno == EINVAL)
            return NULL;
    }
}

int control_socket_start(struct gateway *g, struct err *e)
{
    const struct config_address *a = &g->config->config->listen.control;
    int r;

    if (g->control_fd < 0 && !g->options.folder)
        return 0; /* an inline disk has none */
    if (g->control_fd < 0) {
        r = disk_state_make_folder(g->config->config->state, e);
        if (r == 0)
            r = control_listen(a->path, &g->control_fd, e);
        if (r < 0)
            return r;
    }
    return control_start_thread(accept_thread, g, e);
}

/* --- the other end
 * -------------------------------------------------------------------------------------------- */

struct control_client {
    FILE *in;
    int fd;
    struct sockaddr_un address;
};

int control_connect(const char *path, struct control_client **out, struct err *e)
{
    struct control_client *c = calloc(1, sizeof *c);
    int r = c ? fill_address(&c->address, path, e) : err_set(e, ENOMEM, "out of memory");

    if (r == 0) {
        c->fd = connect_to(&c->address);
        if (c->fd < 0)
            r = err_set(
                e, -c->fd,
                "no gateway answers at %s: %s (is it running? start it with 'sluice serve')", path,
                strerror(-c->fd));
    }
    if (r == 0) {
        c->in = fdopen(c->fd, "r");
        if (!c->in)
            r = err_set(e, ENOMEM, "out of memory");
    }
    if (r < 0) {
        if (c && c->fd > 0)
            close(c->fd);
        free(c);
        return r;
    }
    *out = c;
    return 0;
}

/* What a failed send or receive on a socket with a limit means. */
static int call_failed(int error, struct err *e)
{
    return error == EAGAIN || error == EWOULDBLOCK
               ? err_set(e, ETIMEDOUT,
                         "the gateway does not answer (is it stopped, or its machine out of "
                         "memory? the disks may be served all the same)")
               : err_set(e, EPIPE, "the gateway went away");
}

int control_next(struct control_client *c, json_t **document, struct err *e)
{
    json_error_t je;
    char *line = NULL;
    size_t size = 0;
    ssize_t n;

    errno = 0;
    n = getline(&line, &size, c->in);
    if (n <= 0) {
        int error = errno;

        free(line);
        return call_failed(error, e);
    }
    *document = json_loadb(line, (size_t)n, 0, &je);
    free(line);
    return *document ? 0 : err_set(e, EBADMSG, "the gateway's answer is no JSON: %s", je.text);
}

static bool is_readable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int r;

    do
        r = poll(&p, 1, CONTROL_LOOK_S * 1000);
    while (r < 0 && errno == EINTR);
    return r > 0;
}

/* Whether it answers others: to a line that asks for nothing it says so. */
static bool is_answering(const struct sockaddr_un *un)
{
    CLEANUP_CLOSE int fd = connect_to(un);

    return fd >= 0 && send_all(fd, "{}\n", 3) && is_readable(fd);
}

/* Work may last as long as it likes, as long as the gateway that does it answers others. */
static int wait_for_answer(struct control_client *c, bool is_work, struct err *e)
{
    while (!is_readable(c->fd))
        if (!is_work || !is_answering(&c->address))
            return call_failed(EAGAIN, e);
    return 0;
}

int control_call(struct control_client *c, const json_t *request, json_t **reply, struct err *e)
{
    bool is_work = control_verb_is_work(control_request_text(request, "verb"));
    int r;

    /* One that has too many clients says so and hangs up: it may not have taken the question. */
    if (!send_document(c->fd, request) && errno != EPIPE)
        return call_failed(errno, e);
    r = wait_for_answer(c, is_work, e);
    if (r < 0)
        return r;
    set_limit(c->fd, SO_RCVTIMEO, CONTROL_LOOK_S);
    r = control_next(c, reply, e);
    set_limit(c->fd, SO_RCVTIMEO, 0); /* a watch goes on for ever */
    return r;
}

void control_disconnect(struct control_client *c)
{
    fclose(c->in);
    free(c);
}
