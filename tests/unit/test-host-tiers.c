/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test-host-tiers: where a filter's part of a tier lies, and that no more is given out than there
 * is.
 */
#include "host-fixture.h"

#include <sys/stat.h>

static char in_folder[300], as_file[300];

static void set_tiers(void)
{
    struct host_tier tiers[3] = {{"ssd0", in_folder, 8 * MIB},
                                 {"ssd1", as_file, 8 * MIB},
                                 {"gone", "/nowhere/at/all", 8 * MIB}};
    FILE *f;

    snprintf(in_folder, sizeof in_folder, "%s/tier", fixture_folder);
    snprintf(as_file, sizeof as_file, "%s/tier.raw", fixture_folder);
    CHECK_EQ(mkdir(in_folder, 0700), 0);
    f = fopen(as_file, "w");
    CHECK(f != NULL);
    fclose(f);
    CHECK_EQ(host_set_tiers(tiers, 3), 0);
}

static struct bench open_named(struct probe *p, const char *name)
{
    struct bench b = {.disk = fixture_disk(name, NULL)};

    b.station = fixture_probe(b.disk, p, "probe");
    return b;
}

static void close_named(struct bench *b)
{
    host_station_close(b->station);
    disk_close(b->disk);
}

static int ask(struct probe *p, const char *tier, uint64_t bytes, char path[300], struct err *e)
{
    *e = (struct err){0};
    return sluice_tier_file(p->disk, tier, bytes, path, 300, (struct sluice_error *)(void *)e);
}

static void test_a_folder_is_shared_by_size(void)
{
    struct probe p = {.own = NULL}, q = {.own = NULL};
    struct bench b = open_named(&p, "b"), c = open_named(&q, "c");
    char path[300], other[300];
    struct err e;

    CHECK_EQ(ask(&p, "ssd0", 5 * MIB, path, &e), 0);
    CHECK(strncmp(path, in_folder, strlen(in_folder)) == 0);
    CHECK_EQ(ask(&q, "ssd0", 4 * MIB, other, &e), -ENOSPC);
    CHECK(strstr(e.text, "5 MiB are taken"));
    CHECK_EQ(ask(&q, "ssd0", 3 * MIB, other, &e), 0);
    CHECK(strcmp(path, other) != 0);
    close_named(&b);
    CHECK_EQ(ask(&q, "ssd0", 5 * MIB, other, &e), 0); /* given back at the close */
    close_named(&c);
}

static void test_a_file_is_for_one(void)
{
    struct probe p = {.own = NULL}, q = {.own = NULL};
    struct bench b = open_named(&p, "b"), c = open_named(&q, "c");
    char path[300];
    struct err e;

    CHECK_EQ(ask(&p, "ssd1", MIB, path, &e), 0);
    CHECK_STR(path, as_file);
    CHECK_EQ(ask(&q, "ssd1", MIB, path, &e), -EBUSY);
    close_named(&b);
    CHECK_EQ(ask(&q, "ssd1", MIB, path, &e), 0);
    close_named(&c);
}

static void test_what_is_not_there_is_refused(void)
{
    struct probe p = {.own = NULL};
    struct bench b = open_named(&p, "b");
    char path[300];
    struct err e;

    CHECK_EQ(ask(&p, "ssd7", MIB, path, &e), -ENOENT);
    CHECK(strstr(e.text, "no tier ssd7"));
    CHECK_EQ(ask(&p, "gone", MIB, path, &e), -ENOENT);
    CHECK(strstr(e.text, "mounted"));
    CHECK_EQ(ask(&p, "ssd0", 9 * MIB, path, &e), -ENOSPC);
    close_named(&b);
}

int main(void)
{
    fixture_begin(1);
    set_tiers();
    RUN(test_a_folder_is_shared_by_size);
    RUN(test_a_file_is_for_one);
    RUN(test_what_is_not_there_is_refused);
    return fixture_end();
}
