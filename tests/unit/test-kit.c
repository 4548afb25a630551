/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test-kit: the offline driver passes filters that are well, whatever they do to requests, and
 * finds those that are not; and a filter made from the templates has the names that were asked for.
 */
#include "host/host.h"
#include "unit.h"

#include <errno.h>
#include <sys/stat.h>

static const char *build_folder(void)
{
    const char *folder = getenv("top_builddir");

    return folder ? folder : ".";
}

/* The report, until the next call. NULL words end the list. */
static const char *check(const char *path, const char *first, const char *second, int *result)
{
    static char report[65536];
    const char *words[] = {first, second};
    unsigned count = first ? second ? 2 : 1 : 0;
    FILE *f = tmpfile();
    struct err e = {0};
    char full[500];
    size_t n;

    snprintf(full, sizeof full, "%s/%s", build_folder(), path);
    *result = host_kit_check(full, words, count, f, &e);
    fseek(f, 0, SEEK_SET);
    n = fread(report, 1, sizeof report - 1, f);
    report[n] = '\0';
    fclose(f);
    return report;
}

static void must_pass(const char *path, const char *first, const char *second)
{
    int r;
    const char *report = check(path, first, second, &r);

    CHECK_EQ(r, 0);
    CHECK(!strstr(report, "FAIL"));
    if (r != 0)
        fprintf(stderr, "%s %s %s:\n%s", path, first ? first : "", second ? second : "", report);
}

static void must_fail(const char *path, const char *first, const char *second, const char *why)
{
    int r;
    const char *report = check(path, first, second, &r);

    CHECK_EQ(r, -EINVAL);
    CHECK(strstr(report, why));
    if (!strstr(report, why))
        fprintf(stderr, "%s:\n%s", path, report);
}

#define TEST_FILTER(name) "tests/filters/" name ".so"

static void test_filters_that_are_well_pass(void)
{
    must_pass("passthru.so", NULL, NULL);
    must_pass("qos.so", NULL, NULL);
    must_pass("qos.so", "iops=20000", "burst=0ms");
    must_pass(TEST_FILTER("record"), NULL, NULL);
    must_pass(TEST_FILTER("holder"), NULL, NULL);
}

static void test_whatever_they_do_to_requests(void)
{
    must_pass(TEST_FILTER("reorder"), NULL, NULL);
    must_pass(TEST_FILTER("reorder"), "order=random", "depth=16");
    must_pass(TEST_FILTER("early"), "op=all", "from=callback");
    must_pass(TEST_FILTER("early"), "op=all", "from=worker");
    must_pass(TEST_FILTER("early"), "op=all", "from=timer");
    must_pass(TEST_FILTER("early"), "op=write", "answer=fail");
    must_pass(TEST_FILTER("delay"), "op=all", "time=100us");
    must_pass(TEST_FILTER("fail"), "op=write", "error=28");
    must_pass(TEST_FILTER("fail"), "op=read", "way=up");
    must_pass(TEST_FILTER("fail"), "op=all", "after=100");
    must_pass(TEST_FILTER("refuse"), "event=snapshot", NULL);
    must_pass(TEST_FILTER("refuse"), "event=resize", NULL);
}

static void test_filters_that_are_not_well_are_found(void)
{
    setenv("SLUICE_KIT_LIMIT", "10", 1);
    must_fail(TEST_FILTER("forgetful"), NULL, NULL, "forgets trim");
    must_fail(TEST_FILTER("wrongabi"), NULL, NULL, "filter API version 99");
    must_fail(TEST_FILTER("crash"), "after=10", NULL, "FAIL  write at the edges");
    setenv("SLUICE_KIT_LIMIT", "2", 1); /* the one that does hang */
    must_fail(TEST_FILTER("forever"), NULL, NULL, "no answer within 2 s");
    setenv("SLUICE_KIT_LIMIT", "10", 1);
    must_fail(TEST_FILTER("fail"), "error=4000", NULL, "which is no errno");
    must_fail(TEST_FILTER("early"), "op=read", "answer=complete", "written was");
    must_fail(TEST_FILTER("early"), "op=write", "answer=complete", "written was");
    must_fail(TEST_FILTER("early"), "op=extents", "answer=complete", "describe nothing");
    must_fail(TEST_FILTER("refuse"), "event=detach", NULL, "FAIL  leaves");
    must_fail(TEST_FILTER("nowhere"), NULL, NULL, "No such file");
    must_fail("qos.so", "ipos=5", NULL, "did you mean iops?");
    unsetenv("SLUICE_KIT_LIMIT");
}

/* --- templates ------------------------------------------------------------------------------ */

static bool holds(const char *folder, const char *file, const char *text)
{
    char path[500], content[20000];
    FILE *f;
    size_t n;

    snprintf(path, sizeof path, "%s/%s", folder, file);
    f = fopen(path, "r");
    if (!f)
        return false;
    n = fread(content, 1, sizeof content - 1, f);
    content[n] = '\0';
    fclose(f);
    return strstr(content, text) && !strstr(content, "@NAME@") && !strstr(content, "@CLASS") &&
           !strstr(content, "@IDENT@");
}

static void test_a_new_filter_has_its_name_and_class(void)
{
    char parent[] = "/tmp/sluice-test-kit-XXXXXX", folder[100], command[200];
    const char *source = getenv("top_srcdir");
    struct stat st;
    struct err e = {0};

    snprintf(folder, sizeof folder, "%s/filters/kit", source ? source : ".");
    setenv("SLUICE_KIT", folder, 1);
    CHECK(mkdtemp(parent) != NULL);
    snprintf(folder, sizeof folder, "%s/io-meter", parent);
    CHECK_EQ(host_kit_create("io-meter", "io-control", folder, &e), 0);
    CHECK(holds(folder, "io-meter.c", "static int io_meter_open("));
    CHECK(holds(folder, "io-meter.c", "SLUICE_CLASS_IO_CONTROL"));
    CHECK(holds(folder, "io-meter.yaml", "class: io-control"));
    CHECK(holds(folder, "sluice-filter-io-meter.pod", "sluice-filter-io-meter - "));
    CHECK(holds(folder, "Makefile", "io-meter.so"));
    snprintf(command, sizeof command, "%s/test.sh", folder);
    CHECK(stat(command, &st) == 0 && (st.st_mode & S_IXUSR));
    CHECK_EQ(host_kit_create("io-meter", "io-control", folder, &e), -EEXIST);
    snprintf(folder, sizeof folder, "%s/other", parent);
    CHECK_EQ(host_kit_create("Other", "io-control", folder, &e), -EINVAL);
    CHECK_EQ(host_kit_create("other", "magic", folder, &e), -EINVAL);
    CHECK(strstr(e.text, "one of io-control, inspection"));
    setenv("SLUICE_KIT", "/nowhere", 1);
    CHECK_EQ(host_kit_create("other", "cache", folder, &e), -ENOENT);
    CHECK(access(folder, F_OK) < 0);
    snprintf(command, sizeof command, "rm -rf '%s'", parent);
    CHECK_EQ(system(command), 0);
}

/* With the header alone; what `pkg-config --cflags` would say stands in CPPFLAGS. */
static void test_a_new_filter_builds_and_passes(void)
{
    char parent[] = "/tmp/sluice-test-kit-XXXXXX", folder[100], kit[300], command[700];
    const char *source = getenv("top_srcdir");
    struct err e = {0};
    int r;

    snprintf(kit, sizeof kit, "%s/filters/kit", source ? source : ".");
    setenv("SLUICE_KIT", kit, 1);
    CHECK(mkdtemp(parent) != NULL);
    snprintf(folder, sizeof folder, "%s/canary", parent);
    CHECK_EQ(host_kit_create("canary", "inspection", folder, &e), 0);
    snprintf(command, sizeof command,
             "make -s -C '%s' PKG_CONFIG=true CPPFLAGS='-I%s/filters -Werror' >&2 && "
             "make -s -C '%s' PKG_CONFIG=true manifest | grep -q '^sha256: [0-9a-f]\\{64\\}$'",
             folder, source ? source : ".", folder);
    CHECK_EQ(system(command), 0);
    snprintf(command, sizeof command, "%s/canary.so", folder);
    r = host_kit_check(command, NULL, 0, stderr, &e);
    CHECK_EQ(r, 0);
    snprintf(command, sizeof command, "rm -rf '%s'", parent);
    CHECK_EQ(system(command), 0);
}

int main(void)
{
    RUN(test_filters_that_are_well_pass);
    RUN(test_whatever_they_do_to_requests);
    RUN(test_filters_that_are_not_well_are_found);
    RUN(test_a_new_filter_has_its_name_and_class);
    RUN(test_a_new_filter_builds_and_passes);
    return unit_result();
}
