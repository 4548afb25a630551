/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * connection.c: a client chooses an export.  Whether it may is asked before the disk hears of it:
 * the export exists, its network and TLS rules hold.  What the disk can do is read once, so that a
 * connection is told one truth for as long as it lives.
 */
#include "plugin.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

struct peer {
    struct sockaddr_storage address;
    char text[128];
    bool is_known; /* an IP address; else a Unix socket */
};

void plugin_describe_ip(const struct sockaddr *sa, char *text, size_t size)
{
    char host[INET6_ADDRSTRLEN] = "?";

    if (sa->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)sa;

        inet_ntop(AF_INET, &in->sin_addr, host, sizeof host);
        snprintf(text, size, "%s:%u", host, ntohs(in->sin_port));
    } else {
        const struct sockaddr_in6 *in6 = (const void *)sa;

        inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof host);
        snprintf(text, size, "[%s]:%u", host, ntohs(in6->sin6_port));
    }
}

static void find_peer(struct peer *peer)
{
    socklen_t length = sizeof peer->address;
    struct sockaddr *sa = (struct sockaddr *)&peer->address;
    int64_t pid;

    memset(peer, 0, sizeof *peer);
    if (nbdkit_peer_name(sa, &length) == 0 &&
        (sa->sa_family == AF_INET || sa->sa_family == AF_INET6)) {
        peer->is_known = true;
        plugin_describe_ip(sa, peer->text, sizeof peer->text);
        return;
    }
    pid = sa->sa_family == AF_UNIX ? nbdkit_peer_pid() : -1;
    if (pid > 0)
        snprintf(peer->text, sizeof peer->text, "unix:pid %" PRId64, pid);
    else
        snprintf(peer->text, sizeof peer->text, "unix");
}

static void describe_client(const struct peer *peer, struct gateway_client *out)
{
    /* nbdkit does not tell the address a client came to. */
    *out = (struct gateway_client){.client = (const struct sockaddr *)&peer->address,
                                   .is_tls = nbdkit_is_tls() > 0};
}

static int join(struct connection *c, const struct peer *peer, bool read_only, struct err *e)
{
    struct sluice_client client = {.front_end = "nbd",
                                   .address = peer->text,
                                   .initiator = "",
                                   .window = gateway_nbd_in_flight(plugin_gateway)};
    struct disk *disk = gateway_export_disk(c->export);
    struct gateway_client who;
    int r;

    describe_client(peer, &who);
    r = gateway_export_admit(c->export, &who, e);
    if (r < 0)
        return r;
    c->is_read_only = read_only || gateway_export_is_read_only(c->export);
    r = disk_session_open(disk, &client, gateway_export_is_exclusive(c->export), c->is_read_only,
                          &c->session, e);
    if (r < 0)
        return r;
    c->engine = disk_engine(disk);
    c->size_bytes = disk_size(disk);
    engine_capabilities(c->engine, &c->can);
    return 0;
}

/* The disk may have been handed over since the client was admitted: its clients were sent away
 * before this one was among them.  From now on it is. */
static int still_admitted(struct connection *c, const struct peer *peer, struct err *e)
{
    struct gateway_client who;
    int r;

    cut_add(c);
    describe_client(peer, &who);
    r = gateway_export_admit(c->export, &who, e);
    if (r == 0)
        return 0;
    cut_remove(c);
    disk_session_close(c->session);
    return r;
}

static void *refuse(const struct err *e, const struct peer *peer)
{
    nbdkit_error("%s (client %s)", e->text, peer->text);
    return NULL;
}

void *plugin_open(int readonly)
{
    struct connection *c = calloc(1, sizeof *c);
    struct err e = {.text = "out of memory"};
    struct peer peer;

    find_peer(&peer);
    if (!c)
        return refuse(&e, &peer);
    if (gateway_export_acquire(plugin_gateway, nbdkit_export_name(), &c->export, &e) < 0) {
        free(c);
        return refuse(&e, &peer);
    }
    if (join(c, &peer, readonly, &e) == 0 && still_admitted(c, &peer, &e) == 0)
        return c;
    gateway_export_release(c->export);
    free(c);
    return refuse(&e, &peer);
}

void plugin_close(void *handle)
{
    struct connection *c = handle;

    early_abandon();
    aside_close(c);
    cut_remove(c);
    disk_session_close(c->session);
    gateway_export_release(c->export);
    free(c);
}

int64_t plugin_get_size(void *handle)
{
    const struct connection *c = handle;

    return (int64_t)c->size_bytes;
}

/* Requests of any size and alignment are taken: the engine reads, merges and writes partial blocks.
 */
int plugin_block_size(void *handle, uint32_t *minimum, uint32_t *preferred, uint32_t *maximum)
{
    const struct connection *c = handle;

    *minimum = 1;
    *preferred = MAX(4096u, engine_unit(c->engine));
    *maximum = 32u << 20;
    return 0;
}

int plugin_can_write(void *handle)
{
    const struct connection *c = handle;

    return !c->is_read_only;
}

int plugin_can_flush(void *handle)
{
    const struct connection *c = handle;

    return c->can.can_flush;
}

int plugin_can_fua(void *handle)
{
    (void)handle;
    return NBDKIT_FUA_NATIVE;
}

int plugin_can_trim(void *handle)
{
    const struct connection *c = handle;

    return c->can.can_trim;
}

int plugin_can_zero(void *handle)
{
    (void)handle;
    return 1;
}

int plugin_can_fast_zero(void *handle)
{
    const struct connection *c = handle;

    return c->can.can_fast_zero;
}

int plugin_can_extents(void *handle)
{
    (void)handle;
    return 1;
}

int plugin_can_cache(void *handle)
{
    (void)handle;
    return NBDKIT_CACHE_NATIVE;
}

/* A flush goes down the one chain to the one backing that all connections share, so it covers all.
 */
int plugin_can_multi_conn(void *handle)
{
    (void)handle;
    return 1;
}

int plugin_is_rotational(void *handle)
{
    const struct connection *c = handle;

    return c->can.is_rotational;
}
