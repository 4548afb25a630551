/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz-control: what a client of the control socket sends, cut into lines and read as requests.
 *
 * An input is a stream of bytes.  What is refused has a sentence; what is accepted has a verb of
 * the table, is the same request when it is written down and read again, and gives its keys or says
 * which one is wrong.
 *
 * With -DPLANTED_BUG the harness reads past an array when a disk is to grow beyond the largest size
 * in the corpus; tests/fuzz/self-test.sh shows that this is found within seconds.
 */
#include "control/request.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool is_true, const char *what)
{
    if (is_true)
        return;
    fprintf(stderr, "not true: %s\n", what);
    abort();
}

static int parse(const char *line, size_t length, struct control_request *q)
{
    struct err e = {0};
    int r = control_request_parse(line, length, q, &e);

    must(r == 0 || r == -EINVAL, "an error is the one promised");
    must((r == 0) == (q->json != NULL), "a request comes with success alone");
    must((r == 0) == (e.text[0] == 0), "a refusal, and it alone, has a sentence");
    return r;
}

static void must_survive_writing(const struct control_request *q)
{
    char *text = json_dumps(q->json, JSON_COMPACT);
    struct control_request again;

    if (!text)
        return; /* text with a zero in it cannot be written down */
    must(control_line_length(text, strlen(text)) == -1, "a request is one line");
    must(parse(text, strlen(text), &again) == 0, "what is written down can be read");
    must(again.verb == q->verb && json_equal(again.json, q->json), "and is the same");
    json_decref(again.json);
    free(text);
}

#ifdef PLANTED_BUG
/* volatile: so that the compiler does not see what it could leave out. */
static void planted_bug(const struct control_request *q)
{
    volatile unsigned char room[4] = {0};
    volatile unsigned after = sizeof room;
    json_int_t size = json_integer_value(json_object_get(q->json, "size_bytes"));

    if (q->verb == CONTROL_VERB_DISK_RESIZE && size > 1048576)
        room[0] = room[after];
}
#else
static void planted_bug(const struct control_request *q)
{
    (void)q;
}
#endif

static void must_give_words(const struct control_request *q)
{
    const char *words[CONTROL_WORDS_MAX];
    struct err e = {0};
    int count, r = control_request_words(q->json, "args", words, &count, &e);

    must(count >= 0 && count <= CONTROL_WORDS_MAX, "the words have room");
    must((r == 0) == (e.text[0] == 0), "no list of words has a sentence");
    for (int i = 0; i < count; i++)
        must(words[i] != NULL, "each word is one");
}

static void must_give_keys(const struct control_request *q)
{
    static const char *const keys[] = {"verb", "disk",   "event",       "phase",
                                       "name", "filter", "filter_verb", "size_bytes"};
    const char *text;
    uint64_t size = 0;

    for (unsigned i = 0; i < ARRAY_SIZE(keys); i++) {
        struct err e = {0};
        int r = control_request_need_text(q->json, keys[i], &text, &e);

        must((r == 0) == (text != NULL), "a text comes with success alone");
        must(r == 0 || strstr(e.text, keys[i]), "what is missing is named");
        r = control_request_need_size(q->json, keys[i], &size, &e);
        must(r < 0 || size > 0, "a size is positive");
    }
}

static void look_at_line(const char *line, size_t length)
{
    struct control_request q;

    if (parse(line, length, &q) < 0)
        return;
    must((unsigned)q.verb < CONTROL_VERB_COUNT, "the verb is one of the table");
    must(strcmp(control_verb_name(q.verb), control_request_text(q.json, "verb")) == 0,
         "and the one that was asked for");
    must_give_keys(&q);
    must_give_words(&q);
    planted_bug(&q);
    must_survive_writing(&q);
    json_decref(q.json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *at = (const char *)data;
    ssize_t length;

    while ((length = control_line_length(at, size)) >= 0) {
        must((size_t)length < size && !memchr(at, '\n', (size_t)length),
             "a line has no end inside");
        look_at_line(at, (size_t)length);
        at += length + 1;
        size -= (size_t)length + 1;
    }
    return 0;
}
