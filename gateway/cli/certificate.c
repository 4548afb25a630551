/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * certificate.c: keys and X.509 certificates (RFC 5280) by OpenSSL.  Files appear whole or not at
 * all, never replace one, and a key is readable by its owner alone from its first byte on.
 */
#include "certificate.h"

#include "peer/peer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

/* Clocks of two machines are never quite the same. */
#define SKEW_S 300
#define SERIAL_BITS 159 /* RFC 5280, 4.1.2.2: positive, at most 20 octets */

static void free_key(EVP_PKEY **key)
{
    EVP_PKEY_free(*key);
}
static void free_certificate(X509 **x)
{
    X509_free(*x);
}
#define CLEANUP_KEY __attribute__((cleanup(free_key)))
#define CLEANUP_CERTIFICATE __attribute__((cleanup(free_certificate)))

static int openssl_failed(struct err *e, const char *what)
{
    char text[256] = "out of memory";
    unsigned long code = ERR_get_error();

    if (code)
        ERR_error_string_n(code, text, sizeof text);
    ERR_clear_error();
    return err_set(e, EIO, "cannot %s: %s", what, text);
}

/* --- files ---------------------------------------------------------------------------------- */

typedef int put_fn(FILE *file, void *what);

static int put_key(FILE *file, void *key)
{
    return PEM_write_PKCS8PrivateKey(file, key, NULL, NULL, 0, NULL, NULL);
}

static int put_certificate(FILE *file, void *certificate)
{
    return PEM_write_X509(file, certificate);
}

static int write_new(const char *path, mode_t mode, put_fn *put, void *what, struct err *e)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
    FILE *file = fd < 0 ? NULL : fdopen(fd, "w");
    bool is_whole;

    if (fd < 0)
        return err_set(e, errno, "cannot create %s: %s%s", path, strerror(errno),
                       errno == EEXIST ? "; put it aside first, nothing is replaced" : "");
    is_whole = file && put(file, what) == 1 && fflush(file) == 0 && fsync(fd) == 0;
    if (file)
        is_whole = fclose(file) == 0 && is_whole;
    else
        close(fd);
    if (is_whole)
        return 0;
    unlink(path);
    return err_set(e, EIO, "cannot write %s: %s", path, strerror(errno));
}

static int write_pair(X509 *certificate, EVP_PKEY *key, const char *certificate_path,
                      const char *key_path, struct err *e)
{
    int r = write_new(key_path, 0600, put_key, key, e);

    if (r < 0)
        return r;
    r = write_new(certificate_path, 0644, put_certificate, certificate, e);
    if (r < 0)
        unlink(key_path);
    return r;
}

static EVP_PKEY *read_key(const char *path, struct err *e)
{
    FILE *file = fopen(path, "re");
    EVP_PKEY *key = file ? PEM_read_PrivateKey(file, NULL, NULL, NULL) : NULL;

    if (!file)
        err_set(e, errno, "cannot read %s: %s", path, strerror(errno));
    else if (!key)
        err_set(e, EINVAL, "%s holds no private key (PEM)", path);
    if (file)
        fclose(file);
    ERR_clear_error();
    return key;
}

/* --- what stands in a certificate ----------------------------------------------------------- */

static bool set_serial(X509 *x)
{
    BIGNUM *number = BN_new();
    bool ok = number && BN_rand(number, SERIAL_BITS, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) &&
              BN_to_ASN1_INTEGER(number, X509_get_serialNumber(x));

    BN_free(number);
    return ok;
}

static bool set_validity(X509 *x, unsigned days)
{
    return X509_gmtime_adj(X509_getm_notBefore(x), -SKEW_S) &&
           X509_time_adj_ex(X509_getm_notAfter(x), (int)days, 0, NULL);
}

static bool set_name(X509 *x, const char *name)
{
    return X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_UTF8,
                                      (const unsigned char *)name, -1, -1, 0);
}

static bool extend(X509 *x, X509 *issuer, int nid, const char *value)
{
    X509_EXTENSION *extension;
    X509V3_CTX context;
    bool ok;

    X509V3_set_ctx(&context, issuer, x, NULL, NULL, 0);
    extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    ok = extension && X509_add_ext(x, extension, -1);
    X509_EXTENSION_free(extension);
    return ok;
}

static X509 *begin(const char *name, unsigned days, EVP_PKEY *key, X509 *issuer)
{
    X509 *x = X509_new();

    if (x && X509_set_version(x, X509_VERSION_3) && set_serial(x) && set_validity(x, days) &&
        set_name(x, name) && X509_set_pubkey(x, key) &&
        X509_set_issuer_name(x, X509_get_subject_name(issuer ? issuer : x)))
        return x;
    X509_free(x);
    return NULL;
}

/* --- authority ------------------------------------------------------------------------------ */

int certificate_make_authority(const char *name, unsigned days, const char *certificate_path,
                               const char *key_path, struct err *e)
{
    CLEANUP_KEY EVP_PKEY *key = EVP_EC_gen("P-256");
    CLEANUP_CERTIFICATE X509 *x = key ? begin(name, days, key, NULL) : NULL;

    if (!x || !extend(x, x, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") ||
        !extend(x, x, NID_key_usage, "critical,keyCertSign,cRLSign") ||
        !extend(x, x, NID_subject_key_identifier, "hash") || !X509_sign(x, key, EVP_sha256()))
        return openssl_failed(e, "make the authority's certificate");
    return write_pair(x, key, certificate_path, key_path, e);
}

/* --- the others ----------------------------------------------------------------------------- */

char *certificate_alternative(const char *text)
{
    unsigned char address[16];
    bool is_address =
        inet_pton(AF_INET, text, address) == 1 || inet_pton(AF_INET6, text, address) == 1;

    if (strncasecmp(text, "dns:", 4) == 0 || strncasecmp(text, "ip:", 3) == 0)
        return strdup(text);
    return text_printf("%s:%s", is_address ? "ip" : "dns", text);
}

/* Host names (RFC 5280, 4.2.1.6), with the underscores that some have. */
static bool is_host_name(const char *text)
{
    static const char allowed[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_*";

    return text[0] && text[strspn(text, allowed)] == '\0';
}

/* One at a time and as data: a comma or a section of OpenSSL's own syntax means nothing here. */
static int add_alternative(GENERAL_NAMES *names, const char *text, struct err *e)
{
    bool is_address = strncasecmp(text, "ip:", 3) == 0;
    const char *value = text + (is_address ? 3 : 4);
    GENERAL_NAME *name =
        is_address || is_host_name(value)
            ? a2i_GENERAL_NAME(NULL, NULL, NULL, is_address ? GEN_IPADD : GEN_DNS, value, 0)
            : NULL;

    if (name && sk_GENERAL_NAME_push(names, name) > 0)
        return 0;
    GENERAL_NAME_free(name);
    ERR_clear_error();
    return err_set(e, EINVAL, "\"%s\" is no name or address (dns:gw-a.example.net, ip:10.0.0.1)",
                   text);
}

static int add_alternatives(X509 *x, const struct certificate_request *q, struct err *e)
{
    GENERAL_NAMES *names = sk_GENERAL_NAME_new_null();
    int r = names ? 0 : openssl_failed(e, "collect the names");

    for (unsigned i = 0; r == 0 && i < q->alternatives; i++)
        r = add_alternative(names, q->alternative[i], e);
    if (r == 0 && X509_add1_ext_i2d(x, NID_subject_alt_name, names, 0, 0) != 1)
        r = openssl_failed(e, "write the names");
    GENERAL_NAMES_free(names);
    return r;
}

static bool add_purpose(X509 *x, X509 *issuer, enum certificate_role role)
{
    return extend(x, issuer, NID_basic_constraints, "critical,CA:FALSE") &&
           extend(x, issuer, NID_key_usage, "critical,digitalSignature") &&
           extend(x, issuer, NID_ext_key_usage,
                  role == CERTIFICATE_CLIENT ? "clientAuth" : "serverAuth,clientAuth") &&
           extend(x, issuer, NID_subject_key_identifier, "hash") &&
           extend(x, issuer, NID_authority_key_identifier, "keyid");
}

int certificate_issue(const struct certificate_request *q, const char *authority_path,
                      const char *authority_key_path, const char *certificate_path,
                      const char *key_path, struct err *e)
{
    CLEANUP_CERTIFICATE X509 *issuer = certificate_file_read(authority_path, e), *x = NULL;
    CLEANUP_KEY EVP_PKEY *issuer_key = issuer ? read_key(authority_key_path, e) : NULL, *key = NULL;
    int r;

    if (!issuer_key)
        return -e->code;
    if (X509_check_private_key(issuer, issuer_key) != 1)
        return err_set(e, EINVAL, "%s is not the key of %s", authority_key_path, authority_path);
    key = EVP_EC_gen("P-256");
    x = key ? begin(q->name, q->days, key, issuer) : NULL;
    if (!x || !add_purpose(x, issuer, q->role))
        return openssl_failed(e, "make the certificate");
    r = add_alternatives(x, q, e);
    if (r < 0)
        return r;
    if (!X509_sign(x, issuer_key, EVP_sha256()))
        return openssl_failed(e, "sign the certificate");
    return write_pair(x, key, certificate_path, key_path, e);
}

int certificate_copy(const char *from, const char *to, struct err *e)
{
    CLEANUP_CERTIFICATE X509 *x = certificate_file_read(from, e);
    int r = x ? write_new(to, 0644, put_certificate, x, e) : -e->code;

    return r == -EEXIST ? 0 : r;
}
