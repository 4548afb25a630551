/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * address: listeners, endpoints and networks, from text.
 *
 * Nothing is resolved or bound: a listener is an address and not a name, because a name that
 * changes under a gateway would move its door; a peer may be a name.
 */
#include "config/internal.h"

#include <arpa/inet.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

/* sun_path with its terminator. */
#define UNIX_PATH_MAX_BYTES (sizeof(((struct sockaddr_un *)0)->sun_path) - 1)

/* --- HOST:PORT ---------------------------------------------------------------------------------
 */

static bool parse_port(const char *text, uint16_t *port)
{
    size_t length = strlen(text);
    unsigned value = 0;

    if (length == 0 || length > 5 || strspn(text, "0123456789") != length || text[0] == '0')
        return false;
    for (; *text; text++)
        value = value * 10 + (unsigned)(*text - '0');
    *port = (uint16_t)value;
    return value <= UINT16_MAX;
}

static bool split_host_port(struct arena *arena, const char *text, struct config_address *out)
{
    const char *colon = strrchr(text, ':');
    size_t length;

    if (!colon || colon == text || !parse_port(colon + 1, &out->port))
        return false;
    length = (size_t)(colon - text);
    if (text[0] == '[') {
        if (length < 3 || text[length - 1] != ']')
            return false;
        out->host = arena_strndup(arena, text + 1, length - 2);
    } else {
        if (memchr(text, ':', length)) /* an IPv6 address needs its brackets */
            return false;
        out->host = arena_strndup(arena, text, length);
    }
    return true;
}

/* 4 or 16 bytes of a numeric host; 0: it is a name. "localhost" counts as 127.0.0.1. */
static unsigned host_bytes(const char *host, uint8_t bytes[16])
{
    if (strcmp(host, "localhost") == 0)
        host = "127.0.0.1";
    if (inet_pton(AF_INET, host, bytes) == 1)
        return 4;
    return inet_pton(AF_INET6, host, bytes) == 1 ? 16 : 0;
}

static bool bytes_are_loopback(const uint8_t *bytes, unsigned length)
{
    static const uint8_t one[16] = {[15] = 1};

    return (length == 4 && bytes[0] == 127) || (length == 16 && memcmp(bytes, one, 16) == 0);
}

static bool is_host_name(const char *host)
{
    static const char allowed[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_";
    size_t length = strlen(host);

    return length > 0 && length <= 253 && host[0] != '.' && host[0] != '-' &&
           strspn(host, allowed) == length;
}

static bool bind_tcp(struct binder *b, const struct config_key *key, const struct config_node *node,
                     struct config_address *out)
{
    bool may_be_name = key->option.type == TYPE_ENDPOINT;
    uint8_t bytes[16];
    unsigned length;

    out->kind = ADDRESS_TCP;
    if (!split_host_port(b->arena, node->text, out)) {
        binder_say(b, &node->at, "expected %s, not %s", type_get(key->option.type)->noun,
                   binder_quote(b, node->text));
        return false;
    }
    length = host_bytes(out->host, bytes);
    if (length == 0 && (!may_be_name || !is_host_name(out->host))) {
        binder_say(b, &node->at, "%s is not %s", binder_quote(b, out->host),
                   may_be_name ? "a host" : "a numeric address (0.0.0.0 and [::] mean all)");
        return false;
    }
    out->is_loopback = bytes_are_loopback(bytes, length);
    return true;
}

static bool bind_unix(struct binder *b, const struct config_node *node, struct config_address *out)
{
    const char *path = node->text + strlen("unix:");

    out->kind = ADDRESS_UNIX;
    out->path = path_resolve(b, path);
    if (*path == '\0') {
        binder_say(b, &node->at, "unix: without a path");
        return false;
    }
    if (strlen(out->path) > UNIX_PATH_MAX_BYTES) {
        binder_say(b, &node->at, "the path of a Unix socket has at most %zu characters, not %zu",
                   UNIX_PATH_MAX_BYTES, strlen(out->path));
        return false;
    }
    return true;
}

bool address_bind(struct binder *b, const struct config_key *key, const struct config_node *node,
                  void *field)
{
    struct config_address *out = field;
    uint32_t type = key->option.type;
    bool is_unix;

    if (!expect_scalar(b, node, type_get(type)->noun))
        return false;
    out->text = arena_strndup(b->arena, node->text, strlen(node->text));
    out->origin = node->at;
    is_unix = strncmp(node->text, "unix:", 5) == 0;
    if (is_unix && (type == TYPE_LISTENER || type == TYPE_UNIX_LISTENER))
        return bind_unix(b, node, out);
    if (type != TYPE_UNIX_LISTENER)
        return bind_tcp(b, key, node, out);
    binder_say(b, &node->at, "expected %s, not %s", type_get(type)->noun,
               binder_quote(b, node->text));
    return false;
}

static bool is_any(const uint8_t *bytes, unsigned length)
{
    static const uint8_t zeros[16];

    return memcmp(bytes, zeros, length) == 0;
}

bool address_overlaps(const struct config_address *a, const struct config_address *b)
{
    uint8_t a_bytes[16], b_bytes[16];
    unsigned length;

    if (a->kind != b->kind)
        return false;
    if (a->kind == ADDRESS_UNIX)
        return strcmp(a->path, b->path) == 0;
    if (a->port != b->port)
        return false;
    length = host_bytes(a->host, a_bytes);
    if (length != host_bytes(b->host, b_bytes))
        return false;
    return memcmp(a_bytes, b_bytes, length) == 0 || is_any(a_bytes, length) ||
           is_any(b_bytes, length);
}

/* --- networks ----------------------------------------------------------------------------------
 */

/* Bit i, from the left. */
static unsigned get_bit(const uint8_t *bytes, unsigned i)
{
    return (bytes[i / 8] >> (7 - i % 8)) & 1u;
}

/* True when bits were set behind the prefix; clears them. */
static bool clear_host_bits(struct config_network *network, unsigned bits)
{
    bool had_some = false;

    for (unsigned i = network->prefix_bits; i < bits; i++)
        if (get_bit(network->address, i)) {
            network->address[i / 8] &= (uint8_t) ~(1u << (7 - i % 8));
            had_some = true;
        }
    return had_some;
}

static bool parse_prefix(const char *text, unsigned most, unsigned *out)
{
    size_t length = strlen(text);

    if (length == 0 || length > 3 || strspn(text, "0123456789") != length)
        return false;
    *out = (unsigned)strtoul(text, NULL, 10);
    return *out <= most;
}

static bool parse_network(struct arena *arena, const char *text, struct config_network *out)
{
    size_t length = strcspn(text, "/");
    const char *address = arena_strndup(arena, text, length);
    unsigned bytes = strcmp(address, "localhost") == 0 ? 0 : host_bytes(address, out->address);

    if (bytes == 0)
        return false;
    out->family = bytes == 4 ? AF_INET : AF_INET6;
    out->prefix_bits = bytes * 8;
    return text[length] == '\0' || parse_prefix(text + length + 1, bytes * 8, &out->prefix_bits);
}

bool network_bind(struct binder *b, const struct config_key *key, const struct config_node *node,
                  void *field)
{
    struct config_network *out = field;
    char text[INET6_ADDRSTRLEN];

    if (!expect_scalar(b, node, type_get(key->option.type)->noun))
        return false;
    out->text = arena_strndup(b->arena, node->text, strlen(node->text));
    if (!parse_network(b->arena, node->text, out)) {
        binder_say(b, &node->at, "expected %s, not %s", type_get(key->option.type)->noun,
                   binder_quote(b, node->text));
        return false;
    }
    if (clear_host_bits(out, out->family == AF_INET ? 32 : 128)) {
        binder_say(b, &node->at, "%s has bits set behind its prefix (did you mean \"%s/%u\"?)",
                   node->text, inet_ntop(out->family, out->address, text, sizeof text),
                   out->prefix_bits);
        return false;
    }
    return true;
}

/* ::ffff:a.b.c.d, RFC 4291 2.5.5.2. */
static unsigned client_bytes(const struct sockaddr *client, const uint8_t **bytes)
{
    const struct sockaddr_in6 *six = (const void *)client;

    if (client->sa_family == AF_INET) {
        *bytes = (const uint8_t *)&((const struct sockaddr_in *)(const void *)client)->sin_addr;
        return 4;
    }
    if (client->sa_family != AF_INET6)
        return 0;
    *bytes = six->sin6_addr.s6_addr;
    if (!IN6_IS_ADDR_V4MAPPED(&six->sin6_addr))
        return 16;
    *bytes += 12;
    return 4;
}

bool config_network_contains(const struct config_network *network, const struct sockaddr *client)
{
    const uint8_t *bytes = NULL;
    unsigned length = client_bytes(client, &bytes);

    if (length != (network->family == AF_INET ? 4u : 16u))
        return false;
    for (unsigned i = 0; i < network->prefix_bits; i++)
        if (get_bit(bytes, i) != get_bit(network->address, i))
            return false;
    return true;
}

bool config_needs_tls(const struct disk_config *disk, const struct sockaddr *server)
{
    const uint8_t *bytes = NULL;
    unsigned length = client_bytes(server, &bytes);

    return disk->nbd.tls == EXPORT_TLS_REQUIRE && length > 0 && !bytes_are_loopback(bytes, length);
}

static bool is_exempt(const struct config_address *listener)
{
    return listener->kind == ADDRESS_UNIX || listener->is_loopback;
}

enum config_tls_mode config_tls_mode(const struct gateway_config *config)
{
    bool some_need_none = false;

    if (!config->tls.is_set)
        return CONFIG_TLS_OFF;
    for (unsigned i = 0; i < config->listen.nbd.count; i++)
        some_need_none |= is_exempt(&config->listen.nbd.item[i]);
    for (unsigned i = 0; i < config->disk_count; i++)
        some_need_none |= config->disks[i].nbd.tls == EXPORT_TLS_OFF;
    return some_need_none ? CONFIG_TLS_ON : CONFIG_TLS_REQUIRE;
}
