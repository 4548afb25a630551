/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test-backing-file: what happens to a file backing whose file is gone, is another one, or has been
 * cut short when it is opened anew, and what a snapshot says where it cannot be had.
 */
#include "backing-test.h"
#include "unit.h"

#include <sys/stat.h>
#include <unistd.h>

#define SIZE (64u << 10)

static char folder[64];
static char path[96], aside[96];

static struct backing *open_backing(bool create)
{
    struct backing_spec spec = {
        .kind = BACKING_FILE, .path = path, .create = create, .create_size = SIZE};
    struct backing *b = NULL;
    struct err e = {0};

    CHECK_EQ(backing_open(&spec, &b, &e), 0);
    return b;
}

static void write_block(struct backing *b, uint64_t offset, uint32_t stamp, int want)
{
    char data[BLOCK];

    contents_make(data, offset, BLOCK, stamp);
    CHECK_EQ(request_run(b, IO_WRITE, 0, offset, BLOCK, data, NULL), want);
}

static void expect_block(struct backing *b, uint64_t offset, uint32_t stamp)
{
    char data[BLOCK];

    CHECK_EQ(request_run(b, IO_READ, 0, offset, BLOCK, data, NULL), 0);
    CHECK(contents_are(data, offset, BLOCK, stamp));
}

static void expect_nothing_can_be_done(struct backing *b)
{
    struct backing_status status = {0};
    struct err e = {0};

    write_block(b, 0, 9, -EIO);
    CHECK_EQ(backing_resize(b, 2 * SIZE, &e), -EIO);
    CHECK(strstr(e.text, path) != NULL);
    CHECK_EQ(backing_refresh(b, &e), -EIO);
    CHECK_EQ(backing_snapshot(b, "s", &e), -EIO);
    backing_status(b, &status);
    CHECK(!status.is_connected);
    CHECK(strstr(status.sentence, path) != NULL);
}

static void test_a_file_that_is_gone_is_found_again_when_it_is_back(void)
{
    struct backing *b = open_backing(true);
    char before[64], after[64];
    struct err e = {0};

    write_block(b, 0, 1, 0);
    backing_identity(b, before, sizeof before);
    CHECK_EQ(rename(path, aside), 0);
    CHECK_EQ(backing_reopen(b, &e), -ENOENT);
    expect_nothing_can_be_done(b);
    CHECK_EQ(backing_reopen(b, &e), -ENOENT); /* nor is it created */
    CHECK(access(path, F_OK) < 0);
    backing_identity(b, after, sizeof after);
    CHECK_STR(after, before);
    CHECK_EQ(rename(aside, path), 0);
    CHECK_EQ(backing_reopen(b, &e), 0);
    expect_block(b, 0, 1);
    backing_close(b);
    unlink(path);
}

static void make_file(const char *name, off_t size)
{
    int fd = open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    CHECK(fd >= 0);
    CHECK_EQ(ftruncate(fd, size), 0);
    close(fd);
}

static void test_another_file_is_refused_and_never_written(void)
{
    struct backing *b = open_backing(true);
    struct stat st;
    struct err e = {0};

    write_block(b, 0, 1, 0);
    CHECK_EQ(rename(path, aside), 0);
    make_file(path, SIZE);
    CHECK_EQ(backing_reopen(b, &e), -ESTALE);
    CHECK(strstr(e.text, "another file") != NULL);
    expect_nothing_can_be_done(b);
    CHECK_EQ(stat(path, &st), 0);
    CHECK_EQ(st.st_blocks, 0);
    CHECK_EQ(st.st_size, SIZE);
    CHECK_EQ(rename(aside, path), 0);
    CHECK_EQ(backing_reopen(b, &e), 0);
    expect_block(b, 0, 1);
    backing_close(b);
    unlink(path);
}

static void test_a_file_cut_short_is_refused(void)
{
    struct backing *b = open_backing(true);
    struct err e = {0};

    CHECK_EQ(truncate(path, SIZE / 2), 0);
    CHECK_EQ(backing_reopen(b, &e), -ESTALE);
    CHECK(strstr(e.text, "shorter") != NULL);
    expect_nothing_can_be_done(b);
    CHECK_EQ(truncate(path, SIZE), 0);
    CHECK_EQ(backing_reopen(b, &e), 0);
    write_block(b, SIZE - BLOCK, 2, 0);
    backing_close(b);
    unlink(path);
}

static unsigned count_entries(void)
{
    char command[128];
    unsigned count = 0;
    FILE *p;

    snprintf(command, sizeof command, "ls -A %s | wc -l", folder);
    p = popen(command, "r");
    CHECK(p && fscanf(p, "%u", &count) == 1);
    if (p)
        pclose(p);
    return count;
}

/* tmpfs cannot clone; on a file system that can, the copy must be there and whole. */
static void test_a_snapshot_is_whole_or_leaves_nothing(void)
{
    struct backing *b = open_backing(true);
    struct err e = {0};
    int r;

    write_block(b, 0, 1, 0);
    r = backing_snapshot(b, "monday", &e);
    CHECK(r == 0 || r == -ENOTSUP);
    CHECK_EQ(count_entries(), r == 0 ? 2 : 1);
    if (r < 0)
        CHECK(strstr(e.text, "XFS") != NULL);
    backing_close(b);
}

int main(void)
{
    snprintf(folder, sizeof folder, "/tmp/sluice-test-backing.XXXXXX");
    if (!mkdtemp(folder))
        return 1;
    snprintf(path, sizeof path, "%s/disk.raw", folder);
    snprintf(aside, sizeof aside, "%s/aside", folder);
    RUN(test_a_file_that_is_gone_is_found_again_when_it_is_back);
    RUN(test_another_file_is_refused_and_never_written);
    RUN(test_a_file_cut_short_is_refused);
    RUN(test_a_snapshot_is_whole_or_leaves_nothing);
    unlink(path);
    snprintf(aside, sizeof aside, "%s/disk.raw.monday", folder);
    unlink(aside);
    rmdir(folder);
    return unit_result();
}
