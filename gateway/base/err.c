/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * err: one sentence for a person, with what the callers were doing in front of it.
 *
 * The text is always terminated and always one line: whatever came from outside (a path, a peer's
 * message) may hold control characters, which become '?'.  What does not fit is cut at the end.
 */
#include "base/base.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

int err_set(struct err *e, int code, const char *fmt, ...)
{
    va_list args;

    if (!e)
        return -code;
    e->code = code;
    va_start(args, fmt);
    vsnprintf(e->text, sizeof e->text, fmt, args);
    va_end(args);
    text_one_line(e->text);
    return -code;
}

int err_context(struct err *e, const char *fmt, ...)
{
    char inner[sizeof e->text];
    va_list args;
    int length;

    if (!e)
        return -EIO;
    memcpy(inner, e->text, sizeof inner);
    inner[sizeof inner - 1] = '\0';
    va_start(args, fmt);
    length = vsnprintf(e->text, sizeof e->text, fmt, args);
    va_end(args);
    if (length < 0 || (size_t)length >= sizeof e->text)
        length = (int)strlen(e->text);
    snprintf(e->text + length, sizeof e->text - (size_t)length, ": %s", inner);
    text_one_line(e->text);
    return -e->code;
}
