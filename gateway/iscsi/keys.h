/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * keys: text of login and text PDUs (RFC 7143 section 6): "key=value" pairs, each ended by a NUL.
 * Pure.  Parsed in place as slices: nothing is copied, and a value is never taken for a C string.
 */
#ifndef SLUICE_ISCSI_KEYS_H
#define SLUICE_ISCSI_KEYS_H

#include "base/base.h"

#include <string.h>

#define KEY_BYTES_MAX 63u                 /* RFC 7143 6.1 */
#define VALUE_BYTES_MAX 255u              /* of a simple value; larger ones are binary or lists */
#define BINARY_BYTES_MAX 1024u            /* RFC 7143 12.1.3 */
#define VALUE_TEXT_MAX 8192u              /* no value in any encoding is longer */
#define NEGOTIATION_BYTES_MAX (64u << 10) /* all text of one negotiation, over its PDUs */

struct slice {
    const char *text; /* not terminated */
    size_t length;
};
#define SLICE(literal) ((struct slice){(literal), sizeof(literal) - 1})
static inline struct slice slice_of(const char *text)
{
    return (struct slice){text, strlen(text)};
}
static inline bool slice_is(struct slice s, const char *text)
{
    return s.length == strlen(text) && memcmp(s.text, text, s.length) == 0;
}
/* Copies as a C string; false when it does not fit or holds a NUL. */
bool slice_copy(struct slice s, char *out, size_t out_size) MUST_CHECK;

/* --- pairs -------------------------------------------------------------------------------------
 */

struct key_cursor {
    struct slice rest;
};
enum key_found { KEY_PAIR, KEY_END, KEY_MALFORMED };
/* The next pair.  Empty strings between NULs are padding and passed over.  MALFORMED: no '=', an
 * empty or too long key, a byte that no key has, a value that is too long; the rest is not looked
 * at.  A missing last NUL is forgiven. */
enum key_found key_next(struct key_cursor *cursor, struct slice *key, struct slice *value);

/* --- values ------------------------------------------------------------------------------------
 */

/* The next of a list "a,b,c"; false at its end. */
bool value_next(struct slice *list, struct slice *item);
/* Decimal or 0x hexadecimal, at most 2^32-1. */
bool value_number(struct slice value, uint32_t *out) MUST_CHECK;
bool value_bool(struct slice value, bool *out) MUST_CHECK; /* Yes, No */
/* 0x hexadecimal (an odd digit count has a leading zero) or 0b base64. Bytes written, or -1. */
int value_binary(struct slice value, uint8_t *out, size_t out_size) MUST_CHECK;
/* iqn., eui. and naa. names of at most 223 bytes, lower-cased (RFC 7143 4.2.7.2). */
#define ISCSI_NAME_BYTES 224
bool value_name(struct slice value, char out[ISCSI_NAME_BYTES]) MUST_CHECK;

/* --- writing -------------------------------------------------------------------------------------
 */

/* Text under construction in the caller's memory.  What does not fit sets is_full and is left out
 * whole. */
struct key_writer {
    char *out;
    size_t size, length;
    bool is_full;
};
void key_write(struct key_writer *w, struct slice key, struct slice value);
void key_write_text(struct key_writer *w, const char *key, const char *value);
void key_write_number(struct key_writer *w, const char *key, uint32_t value);
void key_write_binary(struct key_writer *w, const char *key, const uint8_t *data, size_t length);

/* Puts `bytes` more behind a text that comes in several PDUs, with room for a NUL; *text is
 * malloc'ed and may move.  False for ENOMEM. */
bool text_append(char **text, size_t *length, const void *data, size_t bytes) MUST_CHECK;

#endif
