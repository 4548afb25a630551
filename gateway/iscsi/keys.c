/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * keys.c: reads and writes "key=value" text.  Every length comes from the slice; numbers, base64
 * and hexadecimal are bounded by what they are read into before they are read.
 */
#include "iscsi/keys.h"

#include <stdio.h>

bool slice_copy(struct slice s, char *out, size_t out_size)
{
    if (s.length >= out_size || memchr(s.text, 0, s.length))
        return false;
    memcpy(out, s.text, s.length);
    out[s.length] = 0;
    return true;
}

/* --- pairs -------------------------------------------------------------------------------------
 */

/* RFC 7143 6.1: a standard-label begins with a letter, then these; X- and X# names are private. */
static bool is_key_byte(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '-' || c == '+' || c == '@' || c == '_' || c == '#' || c == '/';
}

static bool is_key(struct slice key)
{
    if (key.length == 0 || key.length > KEY_BYTES_MAX)
        return false;
    for (size_t i = 0; i < key.length; i++)
        if (!is_key_byte(key.text[i]))
            return false;
    return true;
}

static struct slice cut(struct slice *rest, char separator)
{
    const char *end = memchr(rest->text, separator, rest->length);
    struct slice head = {rest->text, end ? (size_t)(end - rest->text) : rest->length};
    size_t taken = head.length + (end != NULL);

    rest->text += taken;
    rest->length -= taken;
    return head;
}

enum key_found key_next(struct key_cursor *cursor, struct slice *key, struct slice *value)
{
    struct slice pair;

    do {
        if (cursor->rest.length == 0)
            return KEY_END;
        pair = cut(&cursor->rest, 0);
    } while (pair.length == 0);
    if (!memchr(pair.text, '=', pair.length))
        return KEY_MALFORMED;
    *key = cut(&pair, '=');
    *value = pair;
    return is_key(*key) && value->length <= VALUE_TEXT_MAX ? KEY_PAIR : KEY_MALFORMED;
}

/* --- values ------------------------------------------------------------------------------------
 */

bool value_next(struct slice *list, struct slice *item)
{
    if (list->length == 0)
        return false;
    *item = cut(list, ',');
    return true;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool has_prefix(struct slice value, char letter)
{
    return value.length > 2 && value.text[0] == '0' && (value.text[1] | 0x20) == letter;
}

bool value_number(struct slice value, uint32_t *out)
{
    uint64_t number = 0;
    unsigned base = 10;
    size_t at = 0;

    if (has_prefix(value, 'x')) {
        base = 16;
        at = 2;
    }
    if (value.length == 0 || value.length > VALUE_BYTES_MAX)
        return false;
    for (; at < value.length; at++) {
        int digit = hex_digit(value.text[at]);

        if (digit < 0 || (unsigned)digit >= base)
            return false;
        number = number * base + (unsigned)digit;
        if (number > UINT32_MAX)
            return false;
    }
    *out = (uint32_t)number;
    return true;
}

bool value_bool(struct slice value, bool *out)
{
    *out = slice_is(value, "Yes");
    return *out || slice_is(value, "No");
}

static int read_hex(struct slice digits, uint8_t *out, size_t out_size)
{
    size_t bytes = (digits.length + 1) / 2, nibble = digits.length % 2;

    if (bytes > out_size)
        return -1;
    memset(out, 0, bytes);
    for (size_t i = 0; i < digits.length; i++, nibble++) {
        int digit = hex_digit(digits.text[i]);

        if (digit < 0)
            return -1;
        out[nibble / 2] |= (uint8_t)(digit << (nibble % 2 ? 0 : 4));
    }
    return (int)bytes;
}

static int base64_digit(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *found = c ? strchr(digits, c) : NULL;

    return found ? (int)(found - digits) : -1;
}

static int read_base64(struct slice digits, uint8_t *out, size_t out_size)
{
    size_t padding = 0, bytes = 0;
    uint32_t bits = 0;

    if (digits.length % 4 != 0)
        return -1;
    while (padding < 2 && padding < digits.length &&
           digits.text[digits.length - 1 - padding] == '=')
        padding++;
    if (digits.length / 4 * 3 - padding > out_size)
        return -1;
    for (size_t i = 0; i < digits.length - padding; i++) {
        int digit = base64_digit(digits.text[i]);

        if (digit < 0)
            return -1;
        bits = bits << 6 | (unsigned)digit;
        if (i % 4 != 0)
            out[bytes++] = (uint8_t)(bits >> (6 - 2 * (i % 4)));
    }
    return (int)bytes;
}

int value_binary(struct slice value, uint8_t *out, size_t out_size)
{
    struct slice digits;

    if (value.length <= 2)
        return -1;
    digits = (struct slice){value.text + 2, value.length - 2};
    if (has_prefix(value, 'x'))
        return read_hex(digits, out, out_size);
    return has_prefix(value, 'b') ? read_base64(digits, out, out_size) : -1;
}

/* What is compared is what stringprep leaves; of ASCII that is lower case.  Other letters are kept
 * as their bytes, control characters and blanks are refused. */
bool value_name(struct slice value, char out[ISCSI_NAME_BYTES])
{
    if (value.length >= ISCSI_NAME_BYTES)
        return false;
    for (size_t i = 0; i < value.length; i++) {
        unsigned char c = (unsigned char)value.text[i];

        if (c <= ' ' || c == 0x7f)
            return false;
        out[i] = (char)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
    }
    out[value.length] = 0;
    return value.length > 4 &&
           (!memcmp(out, "iqn.", 4) || !memcmp(out, "eui.", 4) || !memcmp(out, "naa.", 4));
}

/* --- writing -------------------------------------------------------------------------------------
 */

void key_write(struct key_writer *w, struct slice key, struct slice value)
{
    size_t wanted = key.length + 1 + value.length + 1;
    char *p = w->out + w->length;

    if (wanted > w->size - w->length) {
        w->is_full = true;
        return;
    }
    memcpy(p, key.text, key.length);
    p += key.length;
    *p++ = '=';
    memcpy(p, value.text, value.length);
    p[value.length] = 0;
    w->length += wanted;
}

void key_write_text(struct key_writer *w, const char *key, const char *value)
{
    key_write(w, slice_of(key), slice_of(value));
}

void key_write_number(struct key_writer *w, const char *key, uint32_t value)
{
    char text[16];

    snprintf(text, sizeof text, "%u", value);
    key_write_text(w, key, text);
}

void key_write_binary(struct key_writer *w, const char *key, const uint8_t *data, size_t length)
{
    static const char digits[] = "0123456789abcdef";
    char text[2 + 2 * BINARY_BYTES_MAX];
    size_t at = 2;

    if (length > BINARY_BYTES_MAX) {
        w->is_full = true;
        return;
    }
    memcpy(text, "0x", 2);
    for (size_t i = 0; i < length; i++) {
        text[at++] = digits[data[i] >> 4];
        text[at++] = digits[data[i] & 15];
    }
    key_write(w, slice_of(key), (struct slice){text, at});
}

bool text_append(char **text, size_t *length, const void *data, size_t bytes)
{
    char *longer = realloc(*text, *length + bytes + 1);

    if (!longer)
        return false;
    *text = longer;
    if (bytes)
        memcpy(longer + *length, data, bytes);
    *length += bytes;
    return true;
}
