/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * chap.c: challenges and answers.  Two steps, by state: choose an algorithm and challenge; compare
 * the answer and, when the initiator asks, prove who we are.
 *
 * A challenge of our own that comes back is refused: an initiator that knows no secret would have
 * us compute its answer (RFC 7143 9.2.1); so is a mutual exchange with one secret for both.
 * Comparisons take the same time wherever they differ.
 */
#include "iscsi/chap.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

/* IANA "PPP Authentication Algorithms", RFC 7143 12.1.3 and 13 of the registry. */
static const struct {
    unsigned number;
    const char *digest;
    size_t bytes;
} algorithms[] = {
    {5, "MD5", 16},
    {6, "SHA1", 20},
    {7, "SHA256", 32},
    {8, "SHA3-256", 32},
};

bool chap_take_key(struct chap_keys *keys, struct slice key, struct slice value)
{
    const struct {
        const char *name;
        struct slice *where;
    } known[] = {{"CHAP_A", &keys->a},
                 {"CHAP_I", &keys->i},
                 {"CHAP_C", &keys->c},
                 {"CHAP_N", &keys->n},
                 {"CHAP_R", &keys->r}};

    for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
        if (!slice_is(key, known[i].name))
            continue;
        keys->is_repeated |= known[i].where->text != NULL;
        *known[i].where = value;
        return true;
    }
    return false;
}

int chap_digest(unsigned algorithm, uint8_t identifier, const char *secret,
                const uint8_t *challenge, size_t challenge_bytes,
                uint8_t out[CHAP_DIGEST_BYTES_MAX])
{
    EVP_MD *md = EVP_MD_fetch(NULL, algorithms[algorithm].digest, NULL);
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    unsigned length = 0;
    bool is_good = md && context && EVP_DigestInit_ex(context, md, NULL) == 1 &&
                   EVP_DigestUpdate(context, &identifier, 1) == 1 &&
                   EVP_DigestUpdate(context, secret, strlen(secret)) == 1 &&
                   EVP_DigestUpdate(context, challenge, challenge_bytes) == 1 &&
                   EVP_DigestFinal_ex(context, out, &length) == 1;

    EVP_MD_CTX_free(context);
    EVP_MD_free(md);
    return is_good ? (int)length : -1;
}

/* --- the first step: an algorithm and a challenge ------------------------------------------------
 */

static bool has_digest(unsigned algorithm)
{
    EVP_MD *md = EVP_MD_fetch(NULL, algorithms[algorithm].digest, NULL);

    EVP_MD_free(md);
    return md != NULL;
}

/* The initiator's order decides (RFC 7143 6.2.1). */
static int choose_algorithm(struct chap *chap, struct slice list)
{
    struct slice item;
    uint32_t number;

    while (value_next(&list, &item))
        for (unsigned i = 0; i < ARRAY_SIZE(algorithms); i++)
            if (value_number(item, &number) && number == algorithms[i].number && has_digest(i)) {
                chap->algorithm = i;
                return 0;
            }
    return -ENOENT;
}

static int challenge(struct chap *chap, const struct chap_keys *keys, struct key_writer *w,
                     struct err *e)
{
    if (!keys->a.text)
        return err_set(e, EACCES, "CHAP was agreed on and CHAP_A did not follow");
    if (choose_algorithm(chap, keys->a) < 0)
        return err_set(e, EACCES,
                       "none of the CHAP algorithms offered is known (5, 6, 7 and 8 are)");
    if (RAND_bytes(&chap->identifier, 1) != 1 ||
        RAND_bytes(chap->challenge, sizeof chap->challenge) != 1)
        return err_set(e, EACCES, "there are no random bytes for a challenge");
    key_write_number(w, "CHAP_A", algorithms[chap->algorithm].number);
    key_write_number(w, "CHAP_I", chap->identifier);
    key_write_binary(w, "CHAP_C", chap->challenge, sizeof chap->challenge);
    chap->state = CHAP_CHALLENGED;
    return 0;
}

/* --- the second step: answers
 * ---------------------------------------------------------------------- */

static bool is_account(const struct chap_account *account, struct slice name)
{
    return slice_is(name, account->user);
}

static bool is_right_answer(const struct chap *chap, const char *secret, struct slice answer)
{
    uint8_t expected[CHAP_DIGEST_BYTES_MAX], given[CHAP_DIGEST_BYTES_MAX] = {0};
    int length = chap_digest(chap->algorithm, chap->identifier, secret, chap->challenge,
                             sizeof chap->challenge, expected);
    int got = value_binary(answer, given, sizeof given);

    return length > 0 && got == length && CRYPTO_memcmp(expected, given, (size_t)length) == 0;
}

/* The initiator wants us to prove who we are. */
static int prove(struct chap *chap, const struct chap_accounts *accounts,
                 const struct chap_keys *keys, struct key_writer *w, struct err *e)
{
    uint8_t theirs[BINARY_BYTES_MAX], answer[CHAP_DIGEST_BYTES_MAX];
    int length, bytes = keys->c.text ? value_binary(keys->c, theirs, sizeof theirs) : -1;
    uint32_t identifier;

    if (!accounts->is_mutual)
        return err_set(e, EACCES, "the initiator asks for mutual CHAP, which is not configured");
    if (!keys->i.text || !value_number(keys->i, &identifier) || identifier > 255 || bytes < 1)
        return err_set(e, EACCES, "the initiator's CHAP_I or CHAP_C is malformed");
    if ((size_t)bytes == sizeof chap->challenge &&
        CRYPTO_memcmp(theirs, chap->challenge, sizeof chap->challenge) == 0)
        return err_set(e, EACCES, "the initiator sent our own challenge back");
    length = chap_digest(chap->algorithm, (uint8_t)identifier, accounts->target.secret, theirs,
                         (size_t)bytes, answer);
    if (length < 0)
        return err_set(e, EACCES, "the CHAP digest cannot be computed");
    key_write_text(w, "CHAP_N", accounts->target.user);
    key_write_binary(w, "CHAP_R", answer, (size_t)length);
    return 0;
}

static int compare(struct chap *chap, const struct chap_accounts *accounts,
                   const struct chap_keys *keys, struct key_writer *w, struct err *e)
{
    bool is_right, is_known;
    int r = 0;

    if (!keys->n.text || !keys->r.text)
        return err_set(e, EACCES, "CHAP_N and CHAP_R did not follow the challenge");
    /* Both are always looked at: how long it takes does not tell which was wrong. */
    is_right = is_right_answer(chap, accounts->initiator.secret, keys->r);
    is_known = is_account(&accounts->initiator, keys->n);
    if (!is_right || !is_known)
        return err_set(e, EACCES, "wrong CHAP name or secret");
    if (keys->i.text || keys->c.text)
        r = prove(chap, accounts, keys, w, e);
    if (r == 0)
        chap->state = CHAP_PASSED;
    return r;
}

/* --- by state
 * ---------------------------------------------------------------------------------------- */

int chap_step(struct chap *chap, const struct chap_accounts *accounts, const struct chap_keys *keys,
              struct key_writer *w, struct err *e)
{
    if (keys->is_repeated)
        return err_set(e, EACCES, "a CHAP key was sent twice");
    switch (chap->state) {
    case CHAP_NOT_BEGUN:
        return challenge(chap, keys, w, e);
    case CHAP_CHALLENGED:
        return compare(chap, accounts, keys, w, e);
    case CHAP_PASSED:
        break;
    }
    return err_set(e, EACCES, "CHAP keys were sent after the exchange had ended");
}
