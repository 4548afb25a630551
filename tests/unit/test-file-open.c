/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test-file-open: what is there is left as it is, nobody writes to it beside us, and a refusal says
 * who holds it.
 */
#include "file-fixture.h"

#include <signal.h>
#include <sys/wait.h>

static int open_named(const char *name, struct file_options options, struct file **file,
                      struct err *e)
{
    memset(e, 0, sizeof *e);
    return file_open(in_folder(name), &options, file, e);
}

static const struct file_options locking = {.exclusive_lock = true};

/* --- creation ----------------------------------------------------------------------------- */

static void test_a_file_is_created_only_when_asked_and_only_once(void)
{
    struct file_options create = {.create = true, .create_size = MIB};
    struct file *file;
    struct err e;
    struct stat st;

    CHECK_EQ(open_named("new", (struct file_options){0}, &file, &e), -ENOENT);
    CHECK(strstr(e.text, "No such file") != NULL);
    CHECK_EQ(open_named("new", create, &file, &e), 0);
    CHECK_EQ(file_size(file), MIB);
    CHECK_EQ(file_block_size(file), 1);
    CHECK_EQ(write_at(FROM_WORKER, file, 0, 10, 5, "bytes"), 0);
    file_close(file);
    create.create_size = 5 * MIB;
    CHECK_EQ(open_named("new", create, &file, &e), 0);
    CHECK_EQ(file_size(file), MIB);
    file_close(file);
    CHECK_EQ(stat(in_folder("new"), &st), 0);
    CHECK_EQ(st.st_mode & 0777, 0600);
    CHECK_EQ(st.st_nlink, 1); /* the name it was made under is gone */
    CHECK_EQ(open_named("no/such/folder", create, &file, &e), -ENOENT);
    CHECK(strstr(e.text, "cannot create") != NULL);
}

static void *create_racing(void *arg)
{
    struct file_options create = {.create = true, .create_size = MIB};
    struct file *file = NULL;
    struct err e = {0};
    char path[4200];

    snprintf(path, sizeof path, "%s/race", test_folder);
    CHECK_EQ(file_open(path, &create, &file, &e), 0);
    if (e.code)
        fprintf(stderr, "%s\n", e.text);
    *(ino_t *)arg = 0;
    if (file) {
        struct stat st;

        CHECK_EQ(file_size(file), MIB);
        CHECK_EQ(fstat(file_descriptor(file), &st), 0);
        *(ino_t *)arg = st.st_ino;
        file_close(file);
    }
    return NULL;
}

static void test_all_who_create_a_file_at_once_open_the_same(void)
{
    for (int round = 0; round < 20; round++) {
        pthread_t threads[4];
        ino_t inodes[4];

        for (int i = 0; i < 4; i++)
            pthread_create(&threads[i], NULL, create_racing, &inodes[i]);
        for (int i = 0; i < 4; i++) {
            pthread_join(threads[i], NULL);
            CHECK_EQ(inodes[i], inodes[0]);
        }
        unlink(in_folder("race"));
    }
}

static void test_what_is_no_file_is_refused_in_words(void)
{
    struct file *file;
    struct err e;

    CHECK_EQ(mkfifo(in_folder("fifo"), 0600), 0);
    CHECK_EQ(open_named("fifo", (struct file_options){0}, &file, &e), -EINVAL);
    CHECK(strstr(e.text, "neither a regular file nor a block device") != NULL);
    CHECK_EQ(open_named(".", (struct file_options){0}, &file, &e), -EINVAL);
}

static void test_direct_files_are_whole_blocks(void)
{
    struct file *file = new_file("odd", 100000, (struct file_options){0});
    struct file_options direct = {.direct = true};
    struct err e;
    int r;

    file_close(file);
    r = open_named("odd", direct, &file, &e);
    CHECK_EQ(r, -EINVAL);
    CHECK(strstr(e.text, "O_DIRECT") != NULL);
    file = new_file("even", MIB, direct);
    if (!file)
        return;
    CHECK(file_block_size(file) >= 512);
    CHECK_EQ(file_resize(file, MIB + 1, &e), -EINVAL);
    CHECK_EQ(truncate(in_folder("even"), (off_t)(2 * MIB + 1)), 0);
    CHECK(file_refresh_size(file));
    CHECK_EQ(file_size(file), 2 * MIB);
    CHECK(!file_refresh_size(file));
    file_close(file);
}

/* --- size --------------------------------------------------------------------------------- */

static void test_files_grow_and_never_shrink(void)
{
    struct file *file = new_file("size", MIB, (struct file_options){0});
    struct stat st;
    struct err e;

    CHECK_EQ(file_resize(file, 3 * MIB, &e), 0);
    CHECK_EQ(file_size(file), 3 * MIB);
    CHECK_EQ(stat(in_folder("size"), &st), 0);
    CHECK_EQ(st.st_size, 3 * MIB);
    CHECK_EQ(file_resize(file, MIB, &e), -EINVAL);
    CHECK(strstr(e.text, "never made smaller") != NULL);
    CHECK(!file_refresh_size(file));
    CHECK_EQ(truncate(in_folder("size"), (off_t)(4 * MIB)), 0); /* by somebody else */
    CHECK(file_refresh_size(file));
    CHECK_EQ(file_size(file), 4 * MIB);
    file_close(file);
}

static void test_read_only_means_it(void)
{
    struct file *file = new_file("ro", MIB, (struct file_options){0});
    struct err e;
    char byte = 1;

    file_close(file);
    CHECK_EQ(open_named("ro", (struct file_options){.read_only = true}, &file, &e), 0);
    CHECK(!file_can_trim(file));
    CHECK_EQ(write_at(FROM_WORKER, file, 0, 0, 1, &byte), -EBADF);
    CHECK_EQ(read_at(FROM_LOOP, file, 0, 1, &byte), 0);
    CHECK_EQ(byte, 0);
    file_close(file);
}

/* --- locks -------------------------------------------------------------------------------- */

/* A process that opens "locked", says so, and holds it until it is killed. */
static pid_t hold_in_child(struct file_options options)
{
    char byte = 0;
    int ends[2];
    pid_t pid;

    if (pipe(ends) < 0)
        abort();
    pid = fork();
    if (pid == 0) {
        struct file *file;
        struct err e;

        byte = file_open(in_folder("locked"), &options, &file, &e) == 0;
        if (write(ends[1], &byte, 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    close(ends[1]);
    CHECK_EQ(read(ends[0], &byte, 1), 1);
    CHECK_EQ(byte, 1);
    close(ends[0]);
    return pid;
}

static void end_child(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static void check_refused(pid_t holder, struct file_options options)
{
    struct file *file;
    char wanted[100];
    struct err e;

    CHECK_EQ(open_named("locked", options, &file, &e), -EAGAIN);
    snprintf(wanted, sizeof wanted, "is in use by process %d (", (int)holder);
    if (!strstr(e.text, wanted))
        fprintf(stderr, "# %s\n", e.text);
    CHECK(strstr(e.text, wanted) != NULL);
}

static void test_a_locked_file_is_refused_naming_its_holder(void)
{
    struct file_options reading = {.exclusive_lock = true, .read_only = true};
    struct file *file;
    struct err e;
    pid_t pid = hold_in_child(locking);

    check_refused(pid, locking);
    check_refused(pid, reading);
    CHECK_EQ(open_named("locked", (struct file_options){0}, &file, &e), 0); /* asks for no lock */
    file_close(file);
    end_child(pid);
    pid = hold_in_child(reading);
    check_refused(pid, locking);
    CHECK_EQ(open_named("locked", reading, &file, &e), 0); /* readers share */
    file_close(file);
    end_child(pid);
    CHECK_EQ(open_named("locked", locking, &file, &e), 0);
    CHECK_EQ(open_named("locked", locking, &(struct file *){0}, &e), -EAGAIN); /* by ourselves */
    file_close(file);
}

/* The classic kind of lock, as other programs take it. */
static void test_the_holder_of_a_process_lock_is_named_too(void)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
    char byte = 0;
    int ends[2];
    pid_t pid;

    CHECK_EQ(pipe(ends), 0);
    pid = fork();
    if (pid == 0) {
        int fd = open(in_folder("locked"), O_RDWR);

        byte = fcntl(fd, F_SETLK, &lock) == 0;
        if (write(ends[1], &byte, 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    CHECK_EQ(read(ends[0], &byte, 1), 1);
    CHECK_EQ(byte, 1);
    check_refused(pid, locking);
    end_child(pid);
    close(ends[0]);
    close(ends[1]);
}

static _Atomic int waiter_result = 1;

static void *wait_for_lock(void *arg)
{
    struct file_options patient = {.exclusive_lock = true, .lock_wait_ns = 60000000000ull};
    struct file *file;
    struct err e;
    (void)arg;

    atomic_store(&waiter_result, file_open(in_folder("locked"), &patient, &file, &e));
    if (atomic_load(&waiter_result) == 0)
        file_close(file);
    return NULL;
}

static void test_an_open_waits_for_a_lock_that_is_given_back(void)
{
    struct file_options impatient = {.exclusive_lock = true, .lock_wait_ns = 30000000};
    pid_t pid = hold_in_child(locking);
    uint64_t began = clock_now_ns();
    pthread_t waiter;

    check_refused(pid, impatient);
    CHECK(clock_now_ns() - began >= impatient.lock_wait_ns);
    pthread_create(&waiter, NULL, wait_for_lock, NULL);
    CHECK_EQ(waiter_result, 1); /* still waiting, or not yet begun: right either way */
    end_child(pid);
    pthread_join(waiter, NULL);
    CHECK_EQ(waiter_result, 0);
}

int main(void)
{
    begin_file_tests(temporary_folder());
    RUN(test_a_file_is_created_only_when_asked_and_only_once);
    RUN(test_all_who_create_a_file_at_once_open_the_same);
    RUN(test_what_is_no_file_is_refused_in_words);
    RUN(test_direct_files_are_whole_blocks);
    RUN(test_files_grow_and_never_shrink);
    RUN(test_read_only_means_it);
    file_close(new_file("locked", MIB, (struct file_options){0}));
    RUN(test_a_locked_file_is_refused_naming_its_holder);
    RUN(test_the_holder_of_a_process_lock_is_named_too);
    RUN(test_an_open_waits_for_a_lock_that_is_given_back);
    return end_file_tests();
}
