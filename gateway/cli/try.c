/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * try.c: `sluice filter try`: a RAM disk behind one filter, served on a Unix socket by nbdkit with
 * the plugin, without any configuration.  Prints its URI, then every second a line with what the
 * filter has decided and counted, until Ctrl-C or --for.  The folder on /dev/shm and the server go
 * with it.
 */
#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define SETTINGS_MAX 64
#define START_LIMIT_NS UINT64_C(20000000000)

struct trial {
    struct cli *cli;
    const char *name, *size;
    char *path; /* of the filter's file */
    const struct sluice_filter *filter;
    const char *setting[SETTINGS_MAX];
    unsigned setting_count;
    char folder[64], socket[96], control[96], raw[96];
    char plugin[PATH_MAX];
    int control_fd;
    pid_t server;
    uint64_t until_ns; /* 0: until Ctrl-C */
};

static volatile sig_atomic_t is_interrupted;

static void on_interrupt(int number)
{
    (void)number;
    is_interrupted = 1;
}

static int make_folder(struct trial *t)
{
    snprintf(t->folder, sizeof t->folder, "%s/sluice-try.XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (!mkdtemp(t->folder))
        return cli_fail(t->cli, EXIT_ERROR, "cannot make %s: %s", t->folder, strerror(errno));
    snprintf(t->socket, sizeof t->socket, "%s/nbd.sock", t->folder);
    snprintf(t->control, sizeof t->control, "%s/control.sock", t->folder);
    snprintf(t->raw, sizeof t->raw, "%s/disk.raw", t->folder);
    return 0;
}

static void remove_folder(const struct trial *t)
{
    unlink(t->socket);
    unlink(t->control);
    unlink(t->raw);
    rmdir(t->folder);
}

/* --- the policy ----------------------------------------------------------------------------- */

static const struct sluice_option *find_option(const struct trial *t, const char *setting)
{
    size_t length = strcspn(setting, "=");

    for (const struct sluice_option *o = t->filter->options; o && o->name; o++)
        if (strlen(o->name) == length && strncmp(o->name, setting, length) == 0)
            return o;
    return NULL;
}

/* Text is quoted as JSON quotes, which YAML reads alike; a size in quotes would be a text. */
static void print_value(FILE *out, const struct sluice_option *option, const char *text)
{
    bool is_text = option->type == SLUICE_TYPE_STRING || option->type == SLUICE_TYPE_PATH ||
                   option->type == SLUICE_TYPE_SECRET;
    json_t *quoted = is_text ? json_string(text) : NULL;

    if (quoted)
        json_dumpf(quoted, out, JSON_ENCODE_ANY);
    else
        fputs(text, out);
    json_decref(quoted);
}

/* The settings are known to be options with good values. malloc'ed; NULL: ENOMEM. */
static char *make_policy(const struct trial *t)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    if (!out)
        return NULL;
    fprintf(out, "{size: %s, backing: {file: %s}, filters: [{\"%s\": {", t->size, t->raw, t->path);
    for (unsigned i = 0; i < t->setting_count; i++) {
        const struct sluice_option *option = find_option(t, t->setting[i]);

        fprintf(out, "%s%s: ", i ? ", " : "", option->name);
        print_value(out, option, t->setting[i] + strlen(option->name) + 1);
    }
    fputs("}}]}", out);
    return fclose(out) == 0 ? text : NULL;
}

/* Here, where the sentence can go to the one who typed it. */
static int check_settings(const struct trial *t)
{
    struct sluice_value *values = NULL;
    struct err e = {0};
    int r = host_parse_values(t->filter, t->setting, t->setting_count, &values, &e);

    free(values);
    return r < 0 ? cli_fail(t->cli, EXIT_ERROR, "%s", e.text) : 0;
}

/* --- the server ----------------------------------------------------------------------------- */

static void become_server(struct trial *t, const char *text)
{
    const char *nbdkit = getenv("SLUICE_NBDKIT");
    char disk[8192], fd[32];

    prctl(PR_SET_PDEATHSIG, SIGTERM);
    snprintf(disk, sizeof disk, "disk=%s", text);
    snprintf(fd, sizeof fd, "control-fd=%d", t->control_fd);
    fcntl(t->control_fd, F_SETFD, 0);
    execlp(nbdkit ? nbdkit : SLUICE_NBDKIT, "nbdkit", "--foreground", "-U", t->socket,
           "--threads=32", t->plugin, disk, "name=try", fd, (char *)NULL);
    fprintf(stderr, "sluice filter try: cannot start nbdkit: %s\n", strerror(errno));
    _exit(127);
}

static bool has_ended(struct trial *t, int *status)
{
    return waitpid(t->server, status, WNOHANG) == t->server;
}

static void print_numbers(const char *before, const json_t *numbers)
{
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)(uintptr_t)numbers, key, value)
    {
        if (json_is_integer(value))
            printf("%s%s %" JSON_INTEGER_FORMAT, before, key, json_integer_value(value));
        before = " ";
    }
}

/* "verdicts: passed 7 ... | held 0 | touched 1" */
static void print_filter(const struct trial *t, const json_t *filter)
{
    const json_t *held = json_object_get(json_object_get(filter, "holds"), "now");
    const json_t *health = json_object_get(filter, "health");
    const char *sentence = json_string_value(json_object_get(health, "sentence"));

    if (t->cli->is_json) {
        json_dumpf(filter, stdout, JSON_COMPACT | JSON_PRESERVE_ORDER);
    } else {
        print_numbers("verdicts: ", json_object_get(filter, "verdicts"));
        printf(" | held %" JSON_INTEGER_FORMAT, json_integer_value(held));
        print_numbers(" | ", json_object_get(filter, "counters"));
        if (sentence && sentence[0])
            printf(" | %s", sentence);
    }
    putchar('\n');
    fflush(stdout);
}

/* The filter's part of the gateway's status; NULL when it does not answer (yet). */
static json_t *ask_status(const struct trial *t)
{
    json_t *request = json_pack("{s:s}", "verb", "status"), *reply = NULL, *filter = NULL;
    struct control_client *client;
    const json_t *disks;

    if (control_connect(t->control, &client, NULL) == 0) {
        if (control_call(client, request, &reply, NULL) == 0) {
            disks = json_object_get(json_object_get(reply, "status"), "disks");
            filter = json_array_get(json_object_get(json_array_get(disks, 0), "filters"), 0);
        }
        control_disconnect(client);
    }
    json_incref(filter);
    json_decref(reply);
    json_decref(request);
    return filter;
}

static bool print_status(const struct trial *t)
{
    json_t *filter = ask_status(t);

    if (filter)
        print_filter(t, filter);
    json_decref(filter);
    return filter != NULL;
}

static bool is_over(const struct trial *t)
{
    return is_interrupted || (t->until_ns && clock_now_ns() >= t->until_ns);
}

/* Until it answers. 0 or an exit code. */
static int await_server(struct trial *t)
{
    uint64_t limit = clock_now_ns() + START_LIMIT_NS;
    struct timespec pause = {.tv_nsec = 20000000};
    json_t *filter;
    int status = 0;

    while (!(filter = ask_status(t))) {
        if (has_ended(t, &status))
            return cli_fail(t->cli, EXIT_ERROR, "the server ended before it served anything");
        if (is_interrupted || clock_now_ns() >= limit)
            return cli_fail(t->cli, EXIT_ERROR, "the server does not answer");
        clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
    }
    json_decref(filter);
    printf("nbd+unix:///try?socket=%s\n", t->socket);
    fflush(stdout);
    return 0;
}

/* 0 or an exit code. */
static int watch_server(struct trial *t)
{
    struct timespec pause = {.tv_nsec = 50000000};
    uint64_t next = 0;
    int status = 0;

    while (!is_over(t)) {
        if (has_ended(t, &status))
            return cli_fail(t->cli, EXIT_ERROR, "the server ended%s%s",
                            WIFSIGNALED(status) ? ": " : "",
                            WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : "");
        if (clock_now_ns() >= next && print_status(t))
            next = clock_now_ns() + 1000000000u;
        clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
    }
    print_status(t);
    return 0;
}

static int end_server(struct trial *t)
{
    int status = 0;

    kill(t->server, SIGTERM);
    while (waitpid(t->server, &status, 0) < 0 && errno == EINTR)
        ;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? EXIT_OK : EXIT_ERROR;
}

/* --- the command ---------------------------------------------------------------------------- */

static int find_filter(struct trial *t)
{
    char folders[PATH_MAX];
    struct err e = {0};
    int r;

    cli_find_filters(t->cli, folders, sizeof folders);
    setenv("SLUICE_FILTER_PATH", folders, 1); /* the server looks there too */
    r = cli_use_filters(t->cli);
    if (r)
        return r;
    t->filter = host_find_filter(t->name, &e);
    if (!t->filter)
        return cli_fail(t->cli, EXIT_ERROR, "%s", e.text);
    t->path = strchr(t->name, '/') ? realpath(t->name, NULL) : strdup(t->name);
    return t->path && !strpbrk(t->path, "\"\\")
               ? 0
               : cli_fail(t->cli, EXIT_ERROR, "%s: cannot be used as a path", t->name);
}

static int start_server(struct trial *t)
{
    char *policy = make_policy(t);
    struct err e = {0};

    if (!policy || control_listen(t->control, &t->control_fd, &e) < 0) {
        free(policy);
        return cli_fail(t->cli, EXIT_ERROR, "%s", policy ? e.text : "out of memory");
    }
    t->server = fork();
    if (t->server == 0)
        become_server(t, policy);
    free(policy);
    close(t->control_fd);
    return t->server < 0 ? cli_fail(t->cli, EXIT_ERROR, "cannot fork: %s", strerror(errno)) : 0;
}

static int run(struct trial *t)
{
    struct sigaction action = {.sa_handler = on_interrupt};
    int r, ended;

    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    r = start_server(t);
    if (r)
        return r;
    r = await_server(t);
    if (r == 0)
        r = watch_server(t);
    ended = end_server(t);
    return r ? r : ended;
}

static int take_arguments(struct trial *t)
{
    const char *limit = cli_take_option(t->cli, "--for"), *size = cli_take_option(t->cli, "--size");
    const char *setting;
    uint64_t number;
    int r;

    t->size = size ? size : "64MiB";
    while ((setting = cli_take_option(t->cli, "--set")) != NULL) {
        if (!strchr(setting, '=') || t->setting_count == SETTINGS_MAX)
            return cli_usage_error(t->cli, "\"%s\" is no OPTION=VALUE", setting);
        t->setting[t->setting_count++] = setting;
    }
    r = cli_expect_positions(t->cli, 1, 1);
    if (r)
        return r;
    t->name = t->cli->argv[0];
    if (text_parse_size(t->size, &number) < 0)
        return cli_usage_error(t->cli, "\"%s\" is no size (64MiB)", t->size);
    if (number == 0)
        return cli_fail(t->cli, EXIT_ERROR, "cannot make a disk of 0 bytes");
    if (limit && text_parse_duration(limit, &number) < 0)
        return cli_usage_error(t->cli, "\"%s\" is no duration (5s)", limit);
    t->until_ns = limit ? clock_now_ns() + number : 0;
    return 0;
}

int cli_filter_try(struct cli *cli)
{
    struct trial t = {.cli = cli};
    int r = take_arguments(&t);

    if (r == 0)
        r = find_filter(&t);
    if (r == 0)
        r = check_settings(&t);
    if (r == 0)
        r = make_folder(&t);
    if (r == 0) {
        cli_find_plugin(cli, t.plugin, sizeof t.plugin);
        r = run(&t);
        remove_folder(&t);
    }
    free(t.path);
    return r;
}
