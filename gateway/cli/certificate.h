/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * certificate.h: makes keys and X.509 certificates for the gateways and clients of one house, with
 * OpenSSL.  ECDSA on P-256 with SHA-256: what OpenSSL 3 and GnuTLS (nbdkit, QEMU, libvirt) take.
 */
#ifndef SLUICE_CLI_CERTIFICATE_H
#define SLUICE_CLI_CERTIFICATE_H

#include "base/base.h"

#define CERTIFICATE_NAMES_MAX 32

enum certificate_role { CERTIFICATE_GATEWAY, CERTIFICATE_CLIENT };

/* For whom: the common name, and what the other side compares: "dns:NAME" or "ip:ADDRESS". */
struct certificate_request {
    const char *name;
    const char *alternative[CERTIFICATE_NAMES_MAX];
    unsigned alternatives;
    enum certificate_role
        role; /* a gateway is server and client (it calls its peer), a client only that */
    unsigned days;
};

/* A new authority: its certificate and, mode 0600, its key.  Neither file may be there.  0, or a
 * negative errno with the reason; then nothing is left. */
int certificate_make_authority(const char *name, unsigned days, const char *certificate_path,
                               const char *key_path, struct err *e) MUST_CHECK;

/* A certificate signed by the authority in those two files, with a key of its own.  The same rules.
 */
int certificate_issue(const struct certificate_request *request, const char *authority_path,
                      const char *authority_key_path, const char *certificate_path,
                      const char *key_path, struct err *e) MUST_CHECK;

/* The same certificate in another file; one that is there stays. 0 or a negative errno with the
 * reason. */
int certificate_copy(const char *from, const char *to, struct err *e) MUST_CHECK;

/* "dns:" or "ip:" in front of a bare name; what certificate_issue() takes.  malloc'ed. */
char *certificate_alternative(const char *text);

#endif
