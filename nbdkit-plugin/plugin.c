/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * plugin.c: the life of the nbdkit plugin: parameters, start after the fork, signals, exports.
 *
 * nbdkit's own way out is never used: after SIGTERM it would fail the next request of every client.
 * So once nbdkit has forked and set its handlers, ours take their place; they only tell the
 * gateway, which holds new requests unanswered, drains, flushes, marks clean, and calls
 * on_stopped(): the process leaves at once and clients see a closed socket, reconnect and replay.
 *
 * Parameters are nbdkit's way of configuring one plugin in one process, hence the only file-scope
 * state.
 */
#include "plugin.h"

#include "stream.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

struct gateway *plugin_gateway;

static struct gateway_options options = {.control_fd = -1};
static char *folder, *disk_document, *inline_name;

/* --- parameters
 * ------------------------------------------------------------------------------------- */

static int keep(char **where, const char *key, const char *value)
{
    if (*where) {
        nbdkit_error("%s= was given twice", key);
        return -1;
    }
    *where = strdup(value);
    if (*where)
        return 0;
    nbdkit_error("out of memory");
    return -1;
}

static int keep_folder(const char *value)
{
    char *absolute = nbdkit_realpath(value);
    int r;

    if (!absolute)
        return -1;
    r = keep(&folder, "config", absolute);
    free(absolute);
    return r;
}

static int plugin_config(const char *key, const char *value)
{
    if (strcmp(key, "config") == 0)
        return keep_folder(value);
    if (strcmp(key, "disk") == 0)
        return keep(&disk_document, key, value);
    if (strcmp(key, "name") == 0)
        return keep(&inline_name, key, value);
    if (strcmp(key, "control-fd") == 0)
        return nbdkit_parse_int(key, value, &options.control_fd);
    nbdkit_error("unknown parameter '%s'; see nbdkit sluice --help", key);
    return -1;
}

#define PLUGIN_HELP                                                            \
    "config=<DIR>      the folder with gateway.yaml, disks.d and policies.d\n" \
    "disk=<YAML>       one disk's policy instead, in a string\n"               \
    "name=<NAME>       the name of that disk (default: disk)\n"                \
    "control-fd=<N>    listening Unix socket for `sluice` (passed by `sluice serve`)"

static int plugin_config_complete(void)
{
    struct err e = {0};

    if (!folder == !disk_document) {
        nbdkit_error("give either config=DIR or disk='{...}'");
        return -1;
    }
    options.folder = folder;
    options.disk_document = disk_document;
    options.disk_name = inline_name;
    if (gateway_set_filter_path(&e) < 0) {
        nbdkit_error("%s", e.text);
        return -1;
    }
    return 0;
}

/* --- start and stop
 * ------------------------------------------------------------------------------------ */

static void on_stopped(void *context, int status)
{
    (void)context;
    _exit(status);
}

static int plugin_get_ready(void)
{
    options.stopped = on_stopped;
    options.demoted = cut_clients;
    options.nbdkit_minor = NBDKIT_VERSION_MINOR;
    options.nbd_in_flight = plugin_window();
    if (gateway_load(&options, &plugin_gateway, stderr) == 0)
        return 0;
    nbdkit_error("the configuration has errors");
    return -1;
}

static void on_signal(int number)
{
    int saved = errno;

    gateway_signal(plugin_gateway, number);
    errno = saved;
}

/* A file that reaches RLIMIT_FSIZE, or what its file system can hold, is one disk's trouble: the
 * write fails with EFBIG.  Not SIG_IGN, which children would inherit. */
static void on_file_too_large(int number)
{
    (void)number;
}

static int take_signals(void)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGQUIT, SIGHUP};
    struct sigaction nothing = {.sa_handler = on_file_too_large, .sa_flags = SA_RESTART};
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};

    sigfillset(&action.sa_mask);
    for (unsigned i = 0; i < ARRAY_SIZE(numbers); i++)
        if (sigaction(numbers[i], &action, NULL) < 0) {
            nbdkit_error("sigaction: %m");
            return -1;
        }
    sigaction(SIGXFSZ, &nothing, NULL); /* cannot fail: the number is good */
    return 0;
}

static int plugin_after_fork(void)
{
    struct err e = {0};

    if (take_signals() == -1)
        return -1;
    hangup_guard();
    early_install();
    stream_install(imports_lead);
    if (gateway_start(plugin_gateway, &e) == 0)
        return 0;
    nbdkit_error("%s", e.text);
    return -1;
}

/* --- exports
 * ---------------------------------------------------------------------------------------------- */

struct listing {
    struct nbdkit_exports *exports;
    int result;
};

static void add_export(const char *name, const char *description, void *arg)
{
    struct listing *l = arg;

    if (l->result == 0)
        l->result = nbdkit_add_export(l->exports, name, description);
}

static int plugin_list_exports(int readonly, int is_tls, struct nbdkit_exports *exports)
{
    struct listing l = {.exports = exports};

    (void)readonly;
    (void)is_tls; /* what may be mounted is decided in open; a name alone tells nothing secret */
    gateway_for_each_export(plugin_gateway, NULL, add_export, &l);
    return l.result;
}

static const char *plugin_default_export(int readonly, int is_tls)
{
    char *name = gateway_default_export(plugin_gateway);
    const char *interned = name ? nbdkit_strdup_intern(name) : "";

    (void)readonly;
    (void)is_tls;
    free(name);
    return interned;
}

static const char *plugin_export_description(void *handle)
{
    const struct connection *c = handle;

    return nbdkit_printf_intern("Sluice disk %s", gateway_export_name(c->export));
}

static void print_filter(const char *path, const struct sluice_filter *filter, const char *broken,
                         void *arg)
{
    (void)arg;
    (void)path;
    (void)broken;
    if (filter)
        printf("sluice_filter_%s=%s\n", filter->name, filter->version);
}

static void plugin_dump(void)
{
    struct err e = {0};

    printf("sluice_version=%s\n", PACKAGE_VERSION);
    printf("sluice_filter_api=%u\n", SLUICE_FILTER_API_VERSION);
    printf("sluice_front_ends=nbd,iscsi\n");
    printf("sluice_backings=file,nbd,iscsi,nbdkit\n");
    if (gateway_set_filter_path(&e) == 0)
        host_for_each_filter(print_filter, NULL);
}

static int plugin_thread_model(void)
{
    return NBDKIT_THREAD_MODEL_PARALLEL;
}

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

static struct nbdkit_plugin plugin = {
    .name = "sluice",
    .longname = "Sluice storage gateway",
    .version = PACKAGE_VERSION,
    .description = "Serves disks whose requests run through a chain of I/O filters",
    .config = plugin_config,
    .config_complete = plugin_config_complete,
    .config_help = PLUGIN_HELP,
    .magic_config_key = "config",
    .dump_plugin = plugin_dump,
    .thread_model = plugin_thread_model,
    .get_ready = plugin_get_ready,
    .after_fork = plugin_after_fork,
    .list_exports = plugin_list_exports,
    .default_export = plugin_default_export,
    .export_description = plugin_export_description,
    .open = plugin_open,
    .close = plugin_close,
    .get_size = plugin_get_size,
    .block_size = plugin_block_size,
    .can_write = plugin_can_write,
    .can_flush = plugin_can_flush,
    .can_fua = plugin_can_fua,
    .can_trim = plugin_can_trim,
    .can_zero = plugin_can_zero,
    .can_fast_zero = plugin_can_fast_zero,
    .can_extents = plugin_can_extents,
    .can_cache = plugin_can_cache,
    .can_multi_conn = plugin_can_multi_conn,
    .is_rotational = plugin_is_rotational,
    .pread = plugin_pread,
    .pwrite = plugin_pwrite,
    .flush = plugin_flush,
    .trim = plugin_trim,
    .zero = plugin_zero,
    .extents = plugin_extents,
    .cache = plugin_cache,
    .errno_is_preserved = 1,
};

/* The one exported symbol (plugin.syms); nbdkit's macro defines it without declaring it. */
struct nbdkit_plugin *plugin_init(void);
NBDKIT_REGISTER_PLUGIN(plugin)
