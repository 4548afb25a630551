/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * certificate-file.c: the certificate in a file, and when it ends; asked by whoever warns of that,
 * issues one or has just made one.
 */
#include "peer/peer.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <string.h>

struct x509_st *certificate_file_read(const char *path, struct err *e)
{
    FILE *file = fopen(path, "re");
    X509 *x = file ? PEM_read_X509(file, NULL, NULL, NULL) : NULL;

    if (!file)
        err_set(e, errno, "cannot read %s: %s", path, strerror(errno));
    else if (!x)
        err_set(e, EINVAL, "%s holds no certificate (PEM)", path);
    if (file)
        fclose(file);
    ERR_clear_error();
    return x;
}

int certificate_file_end(const char *path, int64_t *end_s, struct err *e)
{
    X509 *x = certificate_file_read(path, e);
    struct tm end;
    int r = 0;

    if (!x)
        return -e->code;
    if (ASN1_TIME_to_tm(X509_get0_notAfter(x), &end) == 1)
        *end_s = timegm(&end);
    else
        r = err_set(e, EINVAL, "%s says no end of its validity", path);
    X509_free(x);
    ERR_clear_error();
    return r;
}
