/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * certificate-file.c: when the certificate in a file ends; asked by whoever warns of it or has just
 * made one.
 */
#include "peer/peer.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <string.h>

int certificate_file_end(const char *path, int64_t *end_s, struct err *e)
{
    FILE *file = fopen(path, "re");
    X509 *x = file ? PEM_read_X509(file, NULL, NULL, NULL) : NULL;
    struct tm end;
    int r = 0;

    if (!file)
        r = err_set(e, errno, "cannot read %s: %s", path, strerror(errno));
    else if (!x)
        r = err_set(e, EINVAL, "%s holds no certificate (PEM)", path);
    else if (ASN1_TIME_to_tm(X509_get0_notAfter(x), &end) != 1)
        r = err_set(e, EINVAL, "%s says no end of its validity", path);
    else
        *end_s = timegm(&end);
    X509_free(x);
    if (file)
        fclose(file);
    ERR_clear_error();
    return r;
}
