/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test-manifest: a filter's manifest is read, what is wrong with one is said with its place, and
 * one that does not tell the truth about its filter is found out.
 */
#include "config/config.h"
#include "host/host.h"
#include "unit.h"

#include <errno.h>

#define HEAD "name: canary\nvendor: Example\nversion: \"1.0\"\nclass: inspection\napi_version: 1\n"
#define DIGEST "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static struct config_problems problems;

static struct config_manifest *parse(const char *text)
{
    struct config_manifest *m = NULL;

    (void)!config_manifest_parse("c.yaml", text, strlen(text), &m, &problems);
    return m;
}

static void test_a_manifest_is_read(void)
{
    struct config_manifest *m =
        parse(HEAD "needs: [final-size, plaintext]\nsha256: " DIGEST "\nsignature: abc\n");

    CHECK(m != NULL);
    CHECK_STR(m->name, "canary");
    CHECK_STR(m->vendor, "Example");
    CHECK_STR(m->version, "1.0");
    CHECK_EQ(m->filter_class, SLUICE_CLASS_INSPECTION);
    CHECK_EQ(m->api_version, 1);
    CHECK_EQ(m->needs, SLUICE_NEEDS_PLAINTEXT | SLUICE_NEEDS_FINAL_SIZE);
    CHECK_STR(m->sha256, DIGEST);
    CHECK_STR(m->signature, "abc");
    config_manifest_free(m);
}

static void test_null_is_not_written(void)
{
    struct config_manifest *m = parse(HEAD "needs: null\nsha256: null\nsignature: ~\n");

    CHECK(m != NULL);
    CHECK_EQ(m->needs, 0);
    CHECK(!m->sha256 && !m->signature);
    config_manifest_free(m);
}

static const struct {
    const char *text, *says; /* the first problem */
} bad[] = {
    {"", "1:1: name: is required"},
    {"- a\n", "1:1: expected a map (key: value), not a list"},
    {"name: [canary\n", "2:1: not YAML: "},
    {"name: null\n" HEAD, "2:1: repeated key \"name\" (first at line 1)"},
    {"nam: canary\n", "1:1: api_version: is required"},
    {HEAD "needs: plaintext\n", "6:8: needs: expected a list, not a single value"},
    {HEAD "needs: [plain-text]\n", "6:9: needs[0]: unknown value \"plain-text\""},
    {HEAD "sha256: \"0123\"\n", "6:9: sha256: expected 64 digits of 0-9 and a-f, not \"0123\""},
    {HEAD "signature: \"\"\n", "6:12: signature: expected a signature, not \"\""},
    {HEAD "need: []\n", "6:1: unknown key \"need\" (did you mean \"needs\"?)"},
    {"name: Canary\n", "1:7: name: expected a filter's name ([a-z][a-z0-9-]*, at most 63"},
    {HEAD "...\n---\nname: b\n", "7:1: a second document; there is one to a file"},
};

static bool is_said(const char *says)
{
    char line[1100];

    for (unsigned i = 0; i < problems.count; i++) {
        const struct config_problem *p = &problems.problem[i];

        snprintf(line, sizeof line, "%u:%u: %s", p->line, p->column, p->text);
        if (strncmp(line, says, strlen(says)) == 0)
            return true;
    }
    return false;
}

static void test_what_is_wrong_is_said_with_its_place(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        CHECK(parse(bad[i].text) == NULL);
        CHECK(is_said(bad[i].says));
        if (!is_said(bad[i].says)) {
            fprintf(stderr, "# not said: %s\n", bad[i].says);
            config_problems_print(&problems, stderr);
        }
    }
}

static void must_differ(const char *text, const struct sluice_filter *filter, const char *path,
                        const char *why)
{
    struct config_manifest *m = parse(text);
    struct err e = {0};

    CHECK(m && config_manifest_compare(m, filter, path, &e) == -EINVAL);
    CHECK(strstr(e.text, why));
    if (!strstr(e.text, why))
        fprintf(stderr, "# said: %s\n", e.text);
    config_manifest_free(m);
}

static void test_a_manifest_that_lies_is_found_out(void)
{
    static const char truth[] =
        "name: passthru\nvendor: Sluice\nversion: \"1.0\"\nclass: inspection\napi_version: 1\n";
    const char *build = getenv("top_builddir");
    const struct sluice_filter *filter;
    struct config_manifest *m;
    struct err e = {0};
    char path[300], text[600];

    snprintf(path, sizeof path, "%s/passthru.so", build ? build : ".");
    filter = host_find_filter(path, &e);
    CHECK(filter != NULL);
    m = parse(truth);
    CHECK(m && config_manifest_compare(m, filter, path, &e) == 0);
    config_manifest_free(m);
    must_differ(HEAD, filter, path, "name is canary there and passthru in the filter");
    snprintf(text, sizeof text, "%sneeds: [plaintext]\n", truth);
    must_differ(text, filter, path, "needs differs");
    snprintf(text, sizeof text, "%ssha256: " DIGEST "\n", truth);
    must_differ(text, filter, path, "sha256 is of another file");
    CHECK_EQ(config_manifest_check(path, filter, &e), -ENOENT);
}

int main(void)
{
    RUN(test_a_manifest_is_read);
    RUN(test_null_is_not_written);
    RUN(test_what_is_wrong_is_said_with_its_place);
    RUN(test_a_manifest_that_lies_is_found_out);
    return unit_result();
}
