/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * connect.c: `sluice disk show DISK --connect KIND`: what to paste into a client so that it mounts
 * the disk and rides over a restart of the gateway.  QEMU's reconnect-delay is 0 by default, which
 * turns a restart of a second into an I/O error of the guest; every snippet sets it.  It drops a
 * guest's trims unless the block device is told to pass them on as well as the disk in front of it.
 */
#include "cli.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#define RECONNECT_S 30

struct target {
    const char *disk;
    const struct config_address *address;
    const char *host; /* what a client on another machine would put there */
    bool is_tls;
};

void cli_qemu_node(const char *disk, char out[QEMU_NODE_MAX + 1])
{
    size_t length = strlen(disk);
    bool begins_with_letter = isalpha((unsigned char)disk[0]);

    if (begins_with_letter && length <= QEMU_NODE_MAX)
        snprintf(out, QEMU_NODE_MAX + 1, "%s", disk);
    else
        snprintf(out, QEMU_NODE_MAX + 1, "%s%.18s-%08x", begins_with_letter ? "" : "disk", disk,
                 crc32c(0, disk, length));
}

/* As one word, or a part of one, for sh; within an option of QEMU a comma stands twice. */
static void print_for_shell(const char *text, bool is_qemu_option)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "/._-+:@%=";
    const char *quote = text[strspn(text, plain)] ? "'" : "";

    printf("%s", quote);
    for (; *text; text++)
        if (*text == '\'')
            printf("'\\''");
        else
            printf("%c%s", *text, *text == ',' && is_qemu_option ? "," : "");
    printf("%s", quote);
}

/* In an attribute between apostrophes. */
static void print_for_xml(const char *text)
{
    for (; *text; text++)
        if (strchr("&<'", *text))
            printf("&#%d;", *text);
        else
            putchar(*text);
}

/* RFC 3986, 2.1. */
static void print_for_uri(const char *text)
{
    for (; *text; text++)
        if (isalnum((unsigned char)*text) || strchr("/-._~", *text))
            putchar(*text);
        else
            printf("%%%02X", (unsigned char)*text);
}

static void print_qemu(const struct target *t)
{
    const char *tls = t->is_tls ? ",tls-creds=tls0" : "";
    char node[QEMU_NODE_MAX + 1];

    cli_qemu_node(t->disk, node);

    if (t->is_tls)
        printf("-object tls-creds-x509,id=tls0,dir=/etc/pki/qemu,endpoint=client \\\n");
    if (t->address->kind == ADDRESS_UNIX) {
        printf("-blockdev driver=nbd,node-name=%s,server.type=unix,server.path=", node);
        print_for_shell(t->address->path, true);
    } else {
        printf("-blockdev driver=nbd,node-name=%s,server.type=inet,server.host=%s,server.port=%u",
               node, t->host, t->address->port);
    }
    printf(",export=%s,reconnect-delay=%d,discard=unmap%s \\\n", t->disk, RECONNECT_S, tls);
    printf("-device virtio-blk-pci,drive=%s,discard=on\n", node);
}

static void print_libvirt(const struct target *t)
{
    printf("<disk type='network' device='disk'>\n"
           "  <driver name='qemu' type='raw' cache='none' discard='unmap'/>\n"
           "  <source protocol='nbd' name='%s'%s>\n",
           t->disk, t->is_tls ? " tls='yes'" : "");
    if (t->address->kind == ADDRESS_UNIX) {
        printf("    <host transport='unix' socket='");
        print_for_xml(t->address->path);
        printf("'/>\n");
    } else {
        printf("    <host name='%s' port='%u'/>\n", t->host, t->address->port);
    }
    printf("    <reconnect delay='%d'/>\n"
           "  </source>\n"
           "  <target dev='vda' bus='virtio'/>\n"
           "</disk>\n",
           RECONNECT_S);
}

static void print_nbd_client(const struct target *t)
{
    const char *tls =
        t->is_tls ? " -cacertfile ca.pem -certfile client.pem -keyfile client.key" : "";

    printf("nbd-client ");
    if (t->address->kind == ADDRESS_UNIX) {
        printf("-unix ");
        print_for_shell(t->address->path, false);
    } else {
        printf("%s %u", t->host, t->address->port);
    }
    printf(" /dev/nbd0 -name %s -persist -timeout %d -connections 4%s\n", t->disk, RECONNECT_S,
           tls);
}

static void print_uri(const struct target *t)
{
    if (t->address->kind == ADDRESS_UNIX) {
        printf("nbd+unix:///%s?socket=", t->disk);
        print_for_uri(t->address->path);
        printf("\n");
    } else {
        bool is_ipv6 = strchr(t->host, ':') != NULL; /* then in brackets: RFC 3986, 3.2.2 */

        printf("%s://%s%s%s:%u/%s\n", t->is_tls ? "nbds" : "nbd", is_ipv6 ? "[" : "", t->host,
               is_ipv6 ? "]" : "", t->address->port, t->disk);
    }
}

static const struct {
    const char *name;
    void (*print)(const struct target *t);
} kinds[] = {{"qemu", print_qemu},
             {"libvirt", print_libvirt},
             {"nbd-client", print_nbd_client},
             {"uri", print_uri}};

/* A wildcard listener is reached by this host's name. */
const char *cli_host_of(const struct config_address *a, char *buf, size_t size)
{
    if (a->kind != ADDRESS_TCP || (strcmp(a->host, "0.0.0.0") != 0 && strcmp(a->host, "::") != 0))
        return a->host;
    return gethostname(buf, size) == 0 ? buf : "localhost";
}

static void print_all(const struct gateway_config *c, const struct disk_config *d, unsigned kind)
{
    for (unsigned i = 0; i < c->listen.nbd.count; i++) {
        const struct config_address *a = &c->listen.nbd.item[i];
        char host[256] = "";
        struct target t = {.disk = d->name, .address = a};

        t.host = cli_host_of(a, host, sizeof host);
        t.is_tls = a->kind == ADDRESS_TCP && !a->is_loopback && d->nbd.tls == EXPORT_TLS_REQUIRE;
        printf("# %s\n", a->text);
        kinds[kind].print(&t);
    }
}

/* Over NBD where the disk has it and the client can, else over iSCSI. */
static int connect_disk(struct cli *cli, const struct gateway_config *c,
                        const struct disk_config *d, unsigned kind, const char *kit)
{
    bool has_nbd = d->nbd.is_enabled && c->listen.nbd.count > 0;
    bool has_iscsi = d->iscsi.is_enabled && c->listen.iscsi.count > 0;

    if (kind < ARRAY_SIZE(kinds) && has_nbd)
        print_all(c, d, kind);
    else if (kit && has_iscsi)
        return cli_connect_iscsi(cli, c, d, kit);
    else
        return cli_fail(cli, EXIT_ERROR, "the disk \"%s\" is not exported over %s", d->name,
                        kit ? "iSCSI" : "NBD");
    return EXIT_OK;
}

int cli_connect(struct cli *cli, const char *disk, const char *kind)
{
    const char *kit = cli_iscsi_kit(kind);
    struct gateway_config *config;
    const struct disk_config *d;
    unsigned i = 0;
    int r;

    while (i < ARRAY_SIZE(kinds) && strcmp(kinds[i].name, kind) != 0)
        i++;
    if (i == ARRAY_SIZE(kinds) && !kit)
        return cli_usage_error(cli, "--connect takes " CLI_CLIENT_KINDS ", not \"%s\"", kind);
    config = cli_load_config(cli);
    if (!config)
        return EXIT_ERROR;
    d = config_find_disk(config, disk);
    r = d ? connect_disk(cli, config, d, i, kit)
          : cli_fail(cli, EXIT_ERROR, "there is no disk \"%s\"", disk);
    config_free(config);
    return r;
}
