/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz-manifest: the manifest of a filter, as it comes from whoever wrote it.
 *
 * An input is the text of one.  What is refused has a reason with a place in it; what is accepted
 * has every field that is required, in the form that is promised, and is the same manifest when it
 * is written down and read again.
 *
 * With -DPLANTED_BUG the harness reads past an array when a need meets a signature;
 * tests/fuzz/self-test.sh shows that this is found within seconds.
 */
#include "config/internal.h"

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

static struct config_manifest *parse(const char *text, size_t length)
{
    static struct config_problems problems;
    struct config_manifest *m;
    int r = config_manifest_parse("a.yaml", text, length, &m, &problems);

    must((r == 0) == (m != NULL), "a manifest comes with success alone");
    must(r == 0 || r == -EINVAL || r == -ENOMEM, "an error is one of those promised");
    must(r != -EINVAL || (problems.count > 0 && problems.problem[0].line > 0),
         "what is refused has a reason and a place");
    must(r != 0 || problems.count == 0, "what is accepted has no problem");
    return m;
}

static void must_be_whole(const struct config_manifest *m)
{
    must(m->name && m->vendor && m->version, "what is required is there");
    must(m->name[0] >= 'a' && m->name[0] <= 'z' && strlen(m->name) < 64, "the name is one");
    must(m->filter_class > 0 && m->filter_class < SLUICE_CLASS_END, "the class is one");
    must(m->api_version > 0, "the version is one");
    must((m->needs & ~7u) == 0, "the needs are known");
    must(!m->sha256 || strlen(m->sha256) == 64, "the sum is one");
}

/* NULL as null, text in YAML's double quotes. */
static const char *quoted(struct arena *arena, const char *text)
{
    return text ? yaml_quote(arena, text) : "null";
}

static bool is_same(const char *a, const char *b)
{
    return (!a && !b) || (a && b && strcmp(a, b) == 0);
}

static void must_survive_writing(const struct config_manifest *m)
{
    struct arena *arena = arena_create(1u << 20);
    struct config_manifest *again;
    const char *text;

    if (!arena)
        return;
    text = arena_printf(
        arena,
        "name: %s\nvendor: %s\nversion: %s\nclass: %s\napi_version: %d\nneeds: [%s%s%s]\n"
        "sha256: %s\nsignature: %s\n",
        quoted(arena, m->name), quoted(arena, m->vendor), quoted(arena, m->version),
        chain_class_name(m->filter_class), m->api_version, m->needs & 1 ? "plaintext, " : "",
        m->needs & 2 ? "every-write-once, " : "", m->needs & 4 ? "final-size, " : "",
        quoted(arena, m->sha256), quoted(arena, m->signature));
    if (!arena_has_failed(arena)) {
        again = parse(text, strlen(text));
        must(again != NULL, "what is written down can be read");
        must(is_same(m->name, again->name) && is_same(m->vendor, again->vendor) &&
                 is_same(m->version, again->version) && is_same(m->sha256, again->sha256) &&
                 is_same(m->signature, again->signature) && m->needs == again->needs,
             "and is the same");
        config_manifest_free(again);
    }
    arena_destroy(arena);
}

#ifdef PLANTED_BUG
/* volatile: so that the compiler does not see what it could leave out. */
static void planted_bug(const struct config_manifest *m)
{
    volatile unsigned char room[4] = {0};
    volatile unsigned after = sizeof room;

    if (m->needs && m->signature)
        room[0] = room[after];
}
#else
static void planted_bug(const struct config_manifest *m)
{
    (void)m;
}
#endif

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config_manifest *m = parse((const char *)data, size);

    if (m) {
        must_be_whole(m);
        planted_bug(m);
        must_survive_writing(m);
    }
    config_manifest_free(m);
    return 0;
}
