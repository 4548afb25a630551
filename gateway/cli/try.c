/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * try.c: `sluice filter try`: a RAM disk behind one filter, served on a Unix socket by nbdkit with
 * the plugin, without any configuration.  Prints its URI, then the filter's counters every second,
 * until Ctrl-C or --for.  The folder on /dev/shm and the server go with it.
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

struct trial {
    struct cli *cli;
    const char *filter, *size;
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

/* A JSON document is YAML too, and jansson quotes what must be. */
static json_t *make_document(const struct trial *t, const char *name)
{
    json_t *options = json_object();

    for (unsigned i = 0; i < t->setting_count; i++) {
        const char *equals = strchr(t->setting[i], '=');
        json_t *at = options;
        char key[128], *dot, *word = key;

        snprintf(key, sizeof key, "%.*s", (int)(equals - t->setting[i]), t->setting[i]);
        while ((dot = strchr(word, '.')) != NULL) { /* ssd.size is ssd: { size: } */
            json_t *below;

            *dot = 0;
            below = json_object_get(at, word);
            if (!below)
                json_object_set_new(at, word, below = json_object());
            at = below;
            word = dot + 1;
        }
        json_object_set_new(at, word, json_string(equals + 1));
    }
    return json_pack("{s:s, s:{s:s}, s:[{s:o}]}", "size", t->size, "backing", "file", t->raw,
                     "filters", name, options);
}

/* Plain scalars: a quoted number is a string to the binder. */
static char *document_text(json_t *document)
{
    char *text = json_dumps(document, JSON_PRESERVE_ORDER), *to = text;

    for (char *from = text; from && *from; from++)
        if (*from != '"')
            *to++ = *from;
    if (to)
        *to = 0;
    json_decref(document);
    return text;
}

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

static void print_counters(const json_t *disk)
{
    const json_t *filter = json_array_get(json_object_get(disk, "filters"), 0);
    char *text = filter ? json_dumps(filter, JSON_COMPACT | JSON_PRESERVE_ORDER) : NULL;

    if (text)
        printf("%s\n", text);
    fflush(stdout);
    free(text);
}

/* False when it does not answer (yet). */
static bool print_status(struct trial *t)
{
    json_t *request = json_pack("{s:s}", "verb", "status"), *reply = NULL;
    struct control_client *client;
    struct err e = {0};
    bool ok = control_connect(t->control, &client, &e) == 0;

    if (ok) {
        ok = control_call(client, request, &reply, &e) == 0;
        control_disconnect(client);
    }
    json_decref(request);
    if (ok)
        print_counters(
            json_array_get(json_object_get(json_object_get(reply, "status"), "disks"), 0));
    json_decref(reply);
    return ok;
}

static bool is_over(const struct trial *t)
{
    return is_interrupted || (t->until_ns && clock_now_ns() >= t->until_ns);
}

static int watch_server(struct trial *t)
{
    struct timespec pause = {.tv_nsec = 50000000};
    uint64_t next = 0;
    int status = 0;

    printf("nbd+unix:///try?socket=%s\n", t->socket);
    fflush(stdout);
    while (!is_over(t)) {
        if (has_ended(t, &status))
            return cli_fail(t->cli, EXIT_ERROR, "the server ended");
        if (clock_now_ns() >= next && print_status(t))
            next = clock_now_ns() + 1000000000u;
        clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
    }
    print_status(t);
    kill(t->server, SIGTERM);
    waitpid(t->server, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? EXIT_OK : EXIT_ERROR;
}

/* ./x.so: its folder goes in front of the path, its table says its name. */
static const struct sluice_filter *find_filter(struct trial *t, struct err *e)
{
    char installed[PATH_MAX], folder[PATH_MAX], *path, *slash;
    char *real = strchr(t->filter, '/') ? realpath(t->filter, NULL) : strdup(t->filter);
    const struct sluice_filter *filter;

    if (!real) {
        err_set(e, errno, "%s: %s", t->filter, strerror(errno));
        return NULL;
    }
    cli_find_filters(t->cli, installed, sizeof installed);
    snprintf(folder, sizeof folder, "%s", real);
    slash = strrchr(folder, '/');
    if (slash)
        *slash = 0;
    path = slash ? text_printf("%s:%s", folder, installed) : strdup(installed);
    setenv("SLUICE_FILTER_PATH", path ? path : installed, 1);
    free(path);
    filter = gateway_set_filter_path(e) < 0 ? NULL : host_find_filter(real, e);
    free(real);
    return filter;
}

static int run(struct trial *t, const struct sluice_filter *filter)
{
    struct sigaction action = {.sa_handler = on_interrupt};
    char *text = document_text(make_document(t, filter->name));
    struct err e = {0};
    int r;

    if (!text || control_listen(t->control, &t->control_fd, &e) < 0) {
        free(text);
        return cli_fail(t->cli, EXIT_ERROR, "%s", text ? e.text : "out of memory");
    }
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    t->server = fork();
    if (t->server == 0)
        become_server(t, text);
    free(text);
    close(t->control_fd);
    if (t->server < 0)
        return cli_fail(t->cli, EXIT_ERROR, "cannot fork: %s", strerror(errno));
    r = watch_server(t);
    return r;
}

static int take_arguments(struct trial *t)
{
    const char *limit = cli_take_option(t->cli, "--for"), *size = cli_take_option(t->cli, "--size");
    const char *setting;
    uint64_t number;
    int r;

    t->size = size ? size : "64MiB";
    while ((setting = cli_take_option(t->cli, "--set")) != NULL) {
        if (!strchr(setting, '=') || strchr(setting, '"') || t->setting_count == SETTINGS_MAX)
            return cli_usage_error(t->cli, "\"%s\" is no OPTION=VALUE", setting);
        t->setting[t->setting_count++] = setting;
    }
    r = cli_expect_positions(t->cli, 1, 1);
    if (r)
        return r;
    t->filter = t->cli->argv[0];
    if (text_parse_size(t->size, &number) < 0)
        return cli_usage_error(t->cli, "\"%s\" is no size (64MiB)", t->size);
    if (limit && text_parse_duration(limit, &number) < 0)
        return cli_usage_error(t->cli, "\"%s\" is no duration (5s)", limit);
    t->until_ns = limit ? clock_now_ns() + number : 0;
    return 0;
}

int cli_filter_try(struct cli *cli)
{
    struct trial t = {.cli = cli};
    const struct sluice_filter *filter;
    struct err e = {0};
    int r = take_arguments(&t);

    if (r)
        return r;
    filter = find_filter(&t, &e);
    if (!filter)
        return cli_fail(cli, EXIT_ERROR, "%s", e.text);
    cli_find_plugin(cli, t.plugin, sizeof t.plugin);
    r = make_folder(&t);
    if (r)
        return r;
    r = run(&t, filter);
    remove_folder(&t);
    return r;
}
