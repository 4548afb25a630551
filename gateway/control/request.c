/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * request.c: reads a line of the control socket.  A request is one JSON object, no key twice, with
 * "verb" and that verb's keys; what is missing or of the wrong type is an error with the key's
 * name.
 */
#include "control/request.h"

#include <errno.h>
#include <string.h>

static const char *const verb_names[CONTROL_VERB_COUNT] = {
#define X(number, name, is_work) [CONTROL_VERB_##number] = name,
    CONTROL_VERBS(X)
#undef X
};

static const bool verb_is_work[CONTROL_VERB_COUNT] = {
#define X(number, name, is_work) [CONTROL_VERB_##number] = is_work,
    CONTROL_VERBS(X)
#undef X
};

ssize_t control_line_length(const char *data, size_t have)
{
    const char *end = have ? memchr(data, '\n', have) : NULL;

    return end ? end - data : -1;
}

const char *control_verb_name(enum control_verb verb)
{
    return verb_names[verb];
}

static enum control_verb find_verb(const char *name)
{
    unsigned verb = 0;

    while (verb < CONTROL_VERB_COUNT && strcmp(verb_names[verb], name) != 0)
        verb++;
    return verb;
}

bool control_verb_is_work(const char *name)
{
    enum control_verb verb = find_verb(name ? name : "");

    return verb != CONTROL_VERB_COUNT && verb_is_work[verb];
}

static int take_verb(struct control_request *q, struct err *e)
{
    const char *name = control_request_text(q->json, "verb");

    q->verb = find_verb(name ? name : "");
    return q->verb == CONTROL_VERB_COUNT
               ? err_set(e, EINVAL, "unknown verb \"%s\"", name ? name : "")
               : 0;
}

int control_request_parse(const char *line, size_t length, struct control_request *out,
                          struct err *e)
{
    json_error_t why;
    int r;

    *out = (struct control_request){.json = json_loadb(line, length, JSON_REJECT_DUPLICATES, &why)};
    if (!json_is_object(out->json))
        r = err_set(e, EINVAL, "the request is no JSON object%s%s", out->json ? "" : ": ",
                    out->json ? "" : why.text);
    else
        r = take_verb(out, e);
    if (r < 0) {
        json_decref(out->json);
        out->json = NULL;
    }
    return r;
}

/* --- keys ----------------------------------------------------------------------------------- */

const char *control_request_text(const json_t *request, const char *key)
{
    return json_string_value(json_object_get(request, key));
}

int control_request_need_text(const json_t *request, const char *key, const char **out,
                              struct err *e)
{
    *out = control_request_text(request, key);
    return *out ? 0 : err_set(e, EINVAL, "\"%s\" is missing or no string", key);
}

int control_request_words(const json_t *request, const char *key,
                          const char *words[CONTROL_WORDS_MAX], int *count, struct err *e)
{
    size_t i;
    json_t *word;

    *count = 0;
    json_array_foreach(json_object_get(request, key), i, word)
    {
        if (!json_is_string(word) || *count == CONTROL_WORDS_MAX)
            return err_set(e, EINVAL, "\"%s\" is no list of at most %d strings", key,
                           CONTROL_WORDS_MAX);
        words[(*count)++] = json_string_value(word);
    }
    return 0;
}

int control_request_need_size(const json_t *request, const char *key, uint64_t *out, struct err *e)
{
    const json_t *size = json_object_get(request, key);

    if (!json_is_integer(size) || json_integer_value(size) <= 0)
        return err_set(e, EINVAL, "\"%s\" is missing or no positive integer", key);
    *out = (uint64_t)json_integer_value(size);
    return 0;
}
