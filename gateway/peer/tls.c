/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tls.c: what OpenSSL is told, and what its answers mean.
 *
 * TLS 1.3 alone, both sides with a certificate of the configured authority, no resumption and so no
 * early data that could be replayed.  The chain is verified by OpenSSL in the handshake; the name
 * is compared here, after it, with the name the configuration has for the peer: whole, no
 * wildcards, and only with the alternative names, never with the subject.
 */
#include "internal.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

#define CIPHERS "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"

static int openssl_failed(struct err *e, const char *what, const char *file)
{
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());

    err_set(e, EINVAL, "%s %s: %s", what, file, reason ? reason : "out of memory");
    ERR_clear_error();
    return -EINVAL;
}

int64_t tls_certificate_end(const X509 *certificate)
{
    struct tm tm;

    if (!certificate || ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &tm) != 1)
        return 0;
    return timegm(&tm);
}

static int check_own_name(SSL_CTX *context, const struct peers_settings *s, struct err *e)
{
    X509 *own = SSL_CTX_get0_certificate(context);

    if (X509_check_host(own, s->name, 0,
                        X509_CHECK_FLAG_NO_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT,
                        NULL) == 1)
        return 0;
    return err_set(e, EINVAL,
                   "%s is not for %s, the name of this gateway: no peer would take it "
                   "(sluice pki issue %s)",
                   s->certificate, s->name, s->name);
}

static int fill(SSL_CTX *context, const struct peers_settings *s, struct err *e)
{
    SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
    SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(context, 0);
    SSL_CTX_set_max_early_data(context, 0);
    SSL_CTX_set_max_cert_list(context, STRANGER_BYTES_MAX / 2);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    if (SSL_CTX_set_ciphersuites(context, CIPHERS) != 1)
        return openssl_failed(e, "cannot use the ciphers", CIPHERS);
    if (SSL_CTX_load_verify_file(context, s->ca) != 1)
        return openssl_failed(e, "cannot read the authority", s->ca);
    if (SSL_CTX_use_certificate_chain_file(context, s->certificate) != 1)
        return openssl_failed(e, "cannot read the certificate", s->certificate);
    if (SSL_CTX_use_PrivateKey_file(context, s->key, SSL_FILETYPE_PEM) != 1)
        return openssl_failed(e, "cannot read the key", s->key);
    if (SSL_CTX_check_private_key(context) != 1)
        return openssl_failed(e, "the key does not belong to", s->certificate);
    return check_own_name(context, s, e);
}

static void add_file(EVP_MD_CTX *sum, const char *path)
{
    FILE *file = fopen(path, "re");
    char data[4096];
    size_t n;

    while (file && (n = fread(data, 1, sizeof data, file)) > 0)
        EVP_DigestUpdate(sum, data, n);
    if (file)
        fclose(file);
    EVP_DigestUpdate(sum, "", 1);
}

static void sum_files(const struct peers_settings *s, uint8_t out[32])
{
    EVP_MD_CTX *sum = EVP_MD_CTX_new();

    memset(out, 0, 32);
    if (sum && EVP_DigestInit_ex(sum, EVP_sha256(), NULL) == 1) {
        add_file(sum, s->ca);
        add_file(sum, s->certificate);
        add_file(sum, s->key);
        EVP_DigestFinal_ex(sum, out, NULL);
    }
    EVP_MD_CTX_free(sum);
}

int tls_read(const struct peers_settings *files, struct tls **out, struct err *e)
{
    struct tls *tls = calloc(1, sizeof *tls);
    int r;

    ERR_clear_error();
    if (tls)
        tls->context = SSL_CTX_new(TLS_method());
    r = tls && tls->context ? fill(tls->context, files, e)
                            : err_set(e, ENOMEM, "cannot begin with TLS: out of memory");
    if (r < 0) {
        if (tls)
            SSL_CTX_free(tls->context);
        free(tls);
        return r;
    }
    atomic_store(&tls->references, 1);
    sum_files(files, tls->sum);
    tls->end = tls_certificate_end(SSL_CTX_get0_certificate(tls->context));
    *out = tls;
    return 0;
}

struct tls *tls_get(struct tls *tls)
{
    atomic_fetch_add(&tls->references, 1);
    return tls;
}

void tls_put(struct tls *tls)
{
    if (!tls || atomic_fetch_sub(&tls->references, 1) != 1)
        return;
    SSL_CTX_free(tls->context);
    free(tls);
}

/* --- whose certificate ---------------------------------------------------------------------- */

/* The first alternative name, or the subject's, for a sentence. */
static void describe(X509 *x, char *out, size_t size)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);

    snprintf(out, size, "nobody");
    X509_NAME_get_text_by_NID(X509_get_subject_name(x), NID_commonName, out, (int)size);
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);

        if (name->type != GEN_DNS)
            continue;
        snprintf(out, size, "%.*s", ASN1_STRING_length(name->d.dNSName),
                 (const char *)ASN1_STRING_get0_data(name->d.dNSName));
        break;
    }
    GENERAL_NAMES_free(names);
    text_one_line(out);
}

int tls_check_name(SSL *ssl, const char *name, struct err *e)
{
    X509 *x = SSL_get0_peer_certificate(ssl);
    char whose[100];

    if (!x || SSL_get_verify_result(ssl) != X509_V_OK)
        return err_set(e, EKEYREJECTED, "it has no certificate that can be verified");
    if (X509_check_host(x, name, 0,
                        X509_CHECK_FLAG_NO_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT,
                        NULL) == 1)
        return 0;
    describe(x, whose, sizeof whose);
    return err_set(e, EKEYREJECTED, "its certificate is for %s, not for %s", whose, name);
}

/* --- why not -------------------------------------------------------------------------------- */

/* Alerts by which the other side says that it does not want our certificate; those of the handshake
 * arrive as errors of this reason. */
static const struct {
    int reason;
    const char *text;
} alerts[] = {
    {SSL_R_TLSV1_ALERT_UNKNOWN_CA, "it does not know the authority of our certificate"},
    {SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED, "to it our certificate has expired"},
    {SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED, "to it our certificate is revoked"},
    {SSL_R_SSLV3_ALERT_BAD_CERTIFICATE, "it refuses our certificate as bad"},
    {SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN, "it refuses our certificate"},
    {SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE, "it refuses the kind of our certificate"},
    {SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED, "it wants a certificate of us"},
    {SSL_R_TLSV1_ALERT_ACCESS_DENIED, "it denies us access"},
};

/* What is not TLS 1.3, in words that say so. */
static const struct {
    int reason;
    const char *text;
} strangers[] = {
    {SSL_R_WRONG_VERSION_NUMBER, "it does not speak TLS"},
    {SSL_R_HTTP_REQUEST, "it speaks HTTP, not TLS"},
    {SSL_R_HTTPS_PROXY_REQUEST, "it speaks HTTP, not TLS"},
    {SSL_R_UNSUPPORTED_PROTOCOL, "it speaks an older TLS than 1.3"},
    {SSL_R_TLSV1_ALERT_PROTOCOL_VERSION, "it refuses TLS 1.3"},
    {SSL_R_VERSION_TOO_LOW, "it speaks an older TLS than 1.3"},
};

static int explain_error(SSL *ssl, unsigned long code, struct err *e)
{
    long verified = SSL_get_verify_result(ssl);
    int reason = ERR_GET_REASON(code);
    const char *text = ERR_reason_error_string(code);

    if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED)
        return err_set(e, EKEYREJECTED, "its certificate is refused: %s",
                       X509_verify_cert_error_string(verified));
    if (reason == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE)
        return err_set(e, EKEYREJECTED, "it has no certificate");
    for (unsigned i = 0; i < ARRAY_SIZE(alerts); i++)
        if (alerts[i].reason == reason)
            return err_set(e, EKEYREJECTED, "%s", alerts[i].text);
    for (unsigned i = 0; i < ARRAY_SIZE(strangers); i++)
        if (strangers[i].reason == reason)
            return err_set(e, EPROTO, "%s", strangers[i].text);
    return err_set(e, EPROTO, "TLS failed: %s", text ? text : "no reason given");
}

int tls_explain(SSL *ssl, int result, struct err *e)
{
    int kind = SSL_get_error(ssl, result);
    unsigned long code = ERR_peek_error();
    int r;

    if (kind == SSL_ERROR_ZERO_RETURN)
        r = err_set(e, ECONNRESET, "it closed the connection");
    else if (code)
        r = explain_error(ssl, code, e);
    else
        r = err_set(e, ECONNRESET, "the connection broke");
    ERR_clear_error();
    return r;
}
