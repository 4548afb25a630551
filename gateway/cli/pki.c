/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pki.c: `sluice pki init` and `sluice pki issue`: a working authority and the certificates of
 * gateways and clients in two commands.  Who has one already uses that instead; nothing in the
 * gateway asks where a certificate came from.
 */
#include "certificate.h"
#include "cli.h"
#include "peer/peer.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define AUTHORITY_DAYS 3650
#define DAYS 825
#define DAYS_MAX 36500

/* What others want their files to be called. */
static const struct layout {
    const char *name;
    const char *authority, *certificate[2], *key[2]; /* by role */
    const char *before, *after;                      /* what to do with the folder */
} layouts[] = {
    {"qemu",
     "ca-cert.pem",
     {"server-cert.pem", "client-cert.pem"},
     {"server-key.pem", "client-key.pem"},
     "-object tls-creds-x509,id=tls0,dir=",
     ",endpoint=client"},
    {"libvirt",
     "ca-cert.pem",
     {"server-cert.pem", "client-cert.pem"},
     {"server-key.pem", "client-key.pem"},
     "copy ",
     " to /etc/pki/libvirt-nbd (nbd_tls_x509_cert_dir in qemu.conf), readable by qemu"},
};

struct issue {
    const char *folder;
    const struct layout *layout;
    struct certificate_request request;
    char authority[PATH_MAX], authority_key[PATH_MAX];
    char target[PATH_MAX]; /* the folder of a layout */
    char certificate[PATH_MAX], key[PATH_MAX];
};

static bool is_file_name(const char *name)
{
    return name[0] && name[0] != '.' && !strchr(name, '/');
}

static int place(struct cli *cli, char *out, const char *folder, const char *name,
                 const char *suffix)
{
    return snprintf(out, PATH_MAX, "%s/%s%s", folder, name, suffix) < PATH_MAX
               ? 0
               : cli_fail(cli, EXIT_ERROR, "%s/%s: the path is too long", folder, name);
}

static int take_days(struct cli *cli, unsigned fallback, unsigned *days)
{
    const char *text = cli_take_option(cli, "--days");
    char *end;
    unsigned long n;

    *days = fallback;
    if (!text)
        return 0;
    n = strtoul(text, &end, 10);
    if (*end || end == text || n < 1 || n > DAYS_MAX)
        return cli_usage_error(cli, "\"%s\" is no number of days (1 to %d)", text, DAYS_MAX);
    *days = (unsigned)n;
    return 0;
}

static int make_folder(struct cli *cli, const char *folder)
{
    return mkdir(folder, 0755) == 0 || errno == EEXIST
               ? 0
               : cli_fail(cli, EXIT_ERROR, "cannot make %s: %s", folder, strerror(errno));
}

static int print_validity(struct cli *cli, const char *path)
{
    struct err e = {0};
    char day[32];
    int64_t end;
    time_t t;

    if (certificate_file_end(path, &end, &e) < 0)
        return cli_fail(cli, EXIT_ERROR, "%s", e.text);
    t = (time_t)end;
    strftime(day, sizeof day, "%Y-%m-%d", gmtime(&t));
    printf("%s  valid until %s\n", path, day);
    return EXIT_OK;
}

/* --- init ----------------------------------------------------------------------------------- */

int cli_pki_init(struct cli *cli)
{
    const char *folder = cli_take_option(cli, "--dir"), *name = cli_take_option(cli, "--name");
    char certificate[PATH_MAX], key[PATH_MAX];
    struct err e = {0};
    unsigned days;
    int r = take_days(cli, AUTHORITY_DAYS, &days);

    if (r == 0)
        r = cli_expect_positions(cli, 0, 0);
    if (r)
        return r;
    if (!folder)
        return cli_usage_error(cli, "where? --dir DIR");
    r = place(cli, certificate, folder, "ca", ".pem");
    if (r == 0)
        r = place(cli, key, folder, "ca", ".key");
    if (r == 0)
        r = make_folder(cli, folder);
    if (r)
        return r;
    if (certificate_make_authority(name ? name : "Sluice", days, certificate, key, &e) < 0)
        return cli_fail(cli, EXIT_ERROR, "%s", e.text);
    return print_validity(cli, certificate);
}

/* --- issue ---------------------------------------------------------------------------------- */

static int take_layout(struct cli *cli, struct issue *i)
{
    const char *name = cli_take_option(cli, "--layout");

    if (!name)
        return 0;
    for (unsigned n = 0; n < ARRAY_SIZE(layouts); n++)
        if (strcmp(layouts[n].name, name) == 0)
            i->layout = &layouts[n];
    return i->layout ? 0 : cli_usage_error(cli, "no layout \"%s\": qemu or libvirt", name);
}

static int take_alternatives(struct cli *cli, struct issue *i)
{
    struct certificate_request *q = &i->request;
    const char *text;

    while ((text = cli_take_option(cli, "--san")) != NULL) {
        if (q->alternatives == CERTIFICATE_NAMES_MAX - 1)
            return cli_usage_error(cli, "at most %d names", CERTIFICATE_NAMES_MAX - 1);
        q->alternative[q->alternatives++] = certificate_alternative(text);
    }
    return 0;
}

static int take_arguments(struct cli *cli, struct issue *i)
{
    int r;

    i->folder = cli_take_option(cli, "--dir");
    i->request.role = cli_take_flag(cli, "--client") ? CERTIFICATE_CLIENT : CERTIFICATE_GATEWAY;
    r = take_days(cli, DAYS, &i->request.days);
    if (r == 0)
        r = take_layout(cli, i);
    if (r == 0)
        r = take_alternatives(cli, i);
    if (r == 0)
        r = cli_expect_positions(cli, 1, 1);
    if (r)
        return r;
    i->request.name = cli->argv[0];
    if (!i->folder)
        return cli_usage_error(cli, "where is the authority? --dir DIR");
    if (!is_file_name(i->request.name) || strcmp(i->request.name, "ca") == 0)
        return cli_usage_error(cli, "\"%s\" is no name for a certificate", i->request.name);
    i->request.alternative[i->request.alternatives++] = certificate_alternative(i->request.name);
    return 0;
}

static int place_all(struct cli *cli, struct issue *i)
{
    enum certificate_role role = i->request.role;
    const char *name = i->request.name;
    int r = place(cli, i->authority, i->folder, "ca", ".pem");

    if (r == 0)
        r = place(cli, i->authority_key, i->folder, "ca", ".key");
    if (r == 0)
        r = place(cli, i->target, i->folder, i->layout ? name : "", "");
    if (r == 0)
        r = place(cli, i->certificate, i->layout ? i->target : i->folder,
                  i->layout ? i->layout->certificate[role] : name, i->layout ? "" : ".pem");
    if (r == 0)
        r = place(cli, i->key, i->layout ? i->target : i->folder,
                  i->layout ? i->layout->key[role] : name, i->layout ? "" : ".key");
    return r;
}

static int add_authority(struct cli *cli, const struct issue *i)
{
    char path[PATH_MAX];
    struct err e = {0};
    int r = place(cli, path, i->target, i->layout->authority, "");

    if (r)
        return r;
    return certificate_copy(i->authority, path, &e) == 0 ? 0
                                                         : cli_fail(cli, EXIT_ERROR, "%s", e.text);
}

static int issue(struct cli *cli, struct issue *i)
{
    struct err e = {0};
    int r = place_all(cli, i);

    if (r == 0 && i->layout)
        r = make_folder(cli, i->target);
    if (r)
        return r;
    if (certificate_issue(&i->request, i->authority, i->authority_key, i->certificate, i->key, &e) <
        0) {
        if (i->layout)
            rmdir(i->target);
        return cli_fail(cli, EXIT_ERROR, "%s", e.text);
    }
    r = i->layout ? add_authority(cli, i) : 0;
    return r ? r : print_validity(cli, i->certificate);
}

int cli_pki_issue(struct cli *cli)
{
    struct issue i = {.folder = NULL};
    int r = take_arguments(cli, &i);

    if (r == 0)
        r = issue(cli, &i);
    if (r == EXIT_OK && i.layout)
        printf("  %s%s%s\n", i.layout->before, i.target, i.layout->after);
    for (unsigned n = 0; n < i.request.alternatives; n++)
        free((char *)(uintptr_t)i.request.alternative[n]);
    return r;
}
