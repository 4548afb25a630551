/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * backing-nbdkit: any nbdkit plugin, as a child that libnbd starts and talks to over a socket of
 * socket activation.  The child dies with the service loop's thread, inherits no descriptor of ours
 * but standard input and output, and what it has to say it says on our standard error.
 *
 * When the child dies it is started anew and what was not flushed is written again.  Where the
 * contents themselves lived in the child (the tables below), a new one would serve zeros in their
 * place: then the backing is refused instead, and only an operator's order starts it empty.
 */
#include "backing/backing-nbd.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#ifndef SLUICE_NBDKIT
#define SLUICE_NBDKIT "nbdkit"
#endif

/* More of them than the 16 that nbdkit makes by itself: what one front end connection can ask. */
#define THREADS "32"

static const char *const volatile_plugins[] = {"memory", "tmpdisk", "data", "linuxdisk", NULL};
static const char *const volatile_filters[] = {"cow", NULL};

/* "/usr/lib/nbdkit/plugins/nbdkit-memory-plugin.so" and "memory" are the same. */
static bool is_named(const char *plugin, const char *name, const char *suffix)
{
    char file[80];
    const char *base = strrchr(plugin, '/');

    snprintf(file, sizeof file, "nbdkit-%s-%s.so", name, suffix);
    return strcmp(plugin, name) == 0 || (base && strcmp(base + 1, file) == 0);
}

static bool is_listed(const char *word, const char *const *names, const char *suffix)
{
    for (; *names; names++)
        if (is_named(word, *names, suffix))
            return true;
    return false;
}

static bool holds_its_contents(const struct backing_spec *spec)
{
    if (is_listed(spec->plugin, volatile_plugins, "plugin"))
        return true;
    for (const char *const *f = spec->filters; f && *f; f++)
        if (is_listed(*f, volatile_filters, "filter"))
            return true;
    return false;
}

/* --- which one it is ------------------------------------------------------------------------ */

/* What says where the contents are; how they are fetched, and with which secret, may change. */
static const char *const places[] = {
    "file",   "dir",    "disk",      "url",   "host",      "port",   "path",   "server",
    "socket", "uri",    "export",    "vm",    "snapshot",  "bucket", "key",    "pool",
    "image",  "device", "partition", "range", "tar-entry", "offset", "target", "lun",
};

static bool is_a_place(const char *argument, size_t key_length)
{
    for (size_t i = 0; i < ARRAY_SIZE(places); i++)
        if (strlen(places[i]) == key_length && strncmp(argument, places[i], key_length) == 0)
            return true;
    return false;
}

/* Without USER:PASSWORD@ and what follows '?', where signatures stand. */
static void add_place(FILE *out, const char *argument)
{
    const char *scheme = strstr(argument, "://"), *authority = scheme ? scheme + 3 : argument;
    size_t host = scheme ? strcspn(authority, "/?") : 0;
    const char *at = host ? memrchr(authority, '@', host) : NULL;

    fprintf(out, " %.*s", (int)(authority - argument), argument);
    argument = at ? at + 1 : authority;
    fprintf(out, "%.*s", (int)(scheme ? strcspn(argument, "?") : strlen(argument)), argument);
}

/* A text too long for its place ends with a sum of all of it. */
static void shorten(const char *text, char *out, size_t size)
{
    char sum[16];

    if (snprintf(out, size, "%s", text) < (int)size)
        return;
    snprintf(sum, sizeof sum, "...%08x", crc32c(0, text, strlen(text)));
    memcpy(out + size - strlen(sum) - 1, sum, strlen(sum) + 1);
}

/* "nbdkit plugin file: file=/srv/a.raw". 0 or -ENOMEM. */
static int make_identity(const struct backing_spec *spec, const char *name, char *out, size_t size)
{
    CLEANUP_FREE char *text = NULL;
    size_t length;
    FILE *f = open_memstream(&text, &length);

    if (!f)
        return -ENOMEM;
    fprintf(f, "%s:", name);
    for (const char *const *a = spec->arguments; a && *a; a++)
        if (!strchr(*a, '=') || is_a_place(*a, strcspn(*a, "=")))
            add_place(f, *a);
    if (fclose(f) != 0)
        return -ENOMEM;
    shorten(text, out, size);
    return 0;
}

/* --- the command ---------------------------------------------------------------------------- */

static size_t count(const char *const *words)
{
    size_t n = 0;

    while (words && words[n])
        n++;
    return n;
}

struct command {
    char **argv;
    size_t used;
    bool has_failed;
};

static void add(struct command *c, const char *before, const char *word)
{
    char *text = text_printf("%s%s", before, word);

    c->has_failed |= text == NULL;
    if (text)
        c->argv[c->used++] = text;
}

static int make_command(struct nbd_backing *nb, const struct backing_spec *spec)
{
    size_t most = 8 + count(spec->filters) + count(spec->arguments);
    struct command c = {.argv = calloc(most, sizeof *c.argv)};

    nb->argv = c.argv;
    if (!c.argv)
        return -ENOMEM;
    add(&c, "", SLUICE_NBDKIT);
    add(&c, "", "--exit-with-parent");
    add(&c, "", "--threads=" THREADS);
    if (spec->read_only)
        add(&c, "", "--readonly");
    for (const char *const *f = spec->filters; f && *f; f++)
        add(&c, "--filter=", *f);
    add(&c, "", spec->plugin);
    for (const char *const *a = spec->arguments; a && *a; a++)
        add(&c, "", *a);
    return c.has_failed ? -ENOMEM : 0;
}

/* Whatever follows the plugin's name is its own; a leading '-' would be nbdkit's. */
static int check_words(const struct backing_spec *spec, struct err *e)
{
    if (spec->plugin[0] == '-' || !spec->plugin[0])
        return err_set(e, EINVAL, "\"%s\" is no name of an nbdkit plugin", spec->plugin);
    for (const char *const *a = spec->arguments; a && *a; a++)
        if ((*a)[0] == '-')
            return err_set(e, EINVAL, "\"%s\" is no KEY=VALUE for nbdkit plugin %s", *a,
                           spec->plugin);
    return 0;
}

/* --- the child ------------------------------------------------------------------------------ */

#define PAUSE_NS UINT64_C(5000000)

static void start_child(struct nbd_backing *nb)
{
    struct nbd_conn *conn = nb->conn = nbd_conn_new(nb);
    sigset_t saved;
    int rc;

    if (!conn)
        return;
    conn->child.owner = nb;
    child_before_start(&saved);
    rc = nbd_aio_connect_systemd_socket_activation(conn->handle, nb->argv);
    child_after_start(&saved, &conn->child);
    conn->has_child = true;
    nbd_conn_begun(conn, rc);
}

/* Not before the last one has really ended: a hung one could come to itself and write. */
static void connect_child(struct remote *r)
{
    struct nbd_backing *nb = CONTAINER_OF(r, struct nbd_backing, remote);

    if (service_is_stopping())
        remote_down(r, "this process is leaving");
    else if (child_remains(nb))
        loop_timer_set(r->loop, &nb->before_start, clock_now_ns() + PAUSE_NS);
    else
        start_child(nb);
}

static void try_start(struct timer *timer)
{
    connect_child(&CONTAINER_OF(timer, struct nbd_backing, before_start)->remote);
}

/* Some plugins (vddk) take long to start. */
static const struct transport child_transport = {
    .op_bytes = sizeof(struct nbd_op),
    .connect_timeout_ns = UINT64_C(30000000000),
    .backoff_ns = UINT64_C(50000000),
    .connect = connect_child,
    .disconnect = nbd_disconnect,
    .send = nbd_send,
};

/* --- the kind ------------------------------------------------------------------------------- */

static int nbdkit_open(const struct backing_spec *spec, struct backing **out, struct err *e)
{
    struct nbd_backing *nb;
    int rc = check_words(spec, e);

    if (rc < 0)
        return rc;
    nb = calloc(1, sizeof *nb);
    if (!nb)
        return err_set(e, ENOMEM, "no memory");
    nb->remote.transport = &child_transport;
    nb->remote.name = text_printf("nbdkit plugin %s", spec->plugin);
    nb->before_start.fire = try_start;
    nb->is_volatile = nb->remote.is_hang_kept = holds_its_contents(spec);
    if (nb->remote.name && make_command(nb, spec) == 0 &&
        make_identity(spec, nb->remote.name, nb->remote.identity, sizeof nb->remote.identity) == 0)
        return nbd_backing_open(nb, spec, out, e);
    nbd_backing_free(nb);
    return err_set(e, ENOMEM, "no memory");
}

/* The child may hold locks on what the next opening wants. */
static void nbdkit_close(struct backing *b)
{
    struct nbd_backing *nb = CONTAINER_OF(b, struct nbd_backing, remote.backing);

    remote_close(&nb->remote);
    child_wait(nb);
    nbd_backing_free(nb);
}

static bool would_lose_contents(struct nbd_backing *nb)
{
    struct backing_status status = {0};

    remote_status(&nb->remote.backing, &status);
    return nb->is_volatile && status.is_connected;
}

/* What is in memory does not grow underneath. */
static int nbdkit_refresh(struct backing *b, struct err *e)
{
    struct nbd_backing *nb = CONTAINER_OF(b, struct nbd_backing, remote.backing);

    return nb->is_volatile ? 0 : remote_refresh(b, e);
}

static int nbdkit_reopen(struct backing *b, struct err *e)
{
    struct nbd_backing *nb = CONTAINER_OF(b, struct nbd_backing, remote.backing);

    if (would_lose_contents(nb))
        return err_set(e, EBUSY, "%s holds its contents itself: opened anew it would be empty",
                       nb->remote.name);
    return remote_reopen(b, e);
}

const struct backing_ops backing_nbdkit_ops = {
    .name = "nbdkit",
    .open = nbdkit_open,
    .close = nbdkit_close,
    .submit = remote_submit,
    .status = remote_status,
    .identity = remote_identity,
    .refresh = nbdkit_refresh,
    .reopen = nbdkit_reopen,
    .service_stop = service_stop,
};
