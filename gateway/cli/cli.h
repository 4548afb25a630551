/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * cli.h: the `sluice` command.  One table (verbs.c) names every verb with its arguments and help;
 * usage text, completion and the test against the manual page come from it.  A verb's code is in a
 * file of its own.
 *
 * Data goes to stdout, all else to stderr.  Exit codes: 0 ok, 1 error, 2 false or unhealthy, 3
 * usage.
 */
#ifndef SLUICE_CLI_H
#define SLUICE_CLI_H

#include "control/control.h"

#include <stdio.h>

enum exit_code { EXIT_OK = 0, EXIT_ERROR = 1, EXIT_FALSE = 2, EXIT_USAGE = 3 };

/* What every verb may be given, taken out of its arguments before it runs. */
struct cli {
    const char *program; /* argv[0] */
    const char *folder;  /* --config, default SYSCONFDIR/sluice */
    bool is_json;        /* --json */
    const char *verb;    /* "disk list" */
    int argc;            /* what is left: positions and the verb's own options */
    char **argv;
};

typedef int cli_run_fn(struct cli *cli);

struct cli_verb {
    const char *name;      /* one or two words: "check", "disk list" */
    const char *arguments; /* "[--effective DISK]" */
    const char *help;      /* one line */
    cli_run_fn *run;
};
/* One a verb, named after it. */
cli_run_fn cli_serve, cli_check, cli_diff, cli_reload, cli_status, cli_watch, cli_metrics,
    cli_disk_list, cli_disk_show, cli_disk_add, cli_disk_remove, cli_disk_resize, cli_disk_snapshot,
    cli_disk_event, cli_failover, cli_peer_check, cli_verify, cli_resync, cli_disk_reopen,
    cli_filter_list, cli_filter_show, cli_filter_try, cli_top, cli_filter_new, cli_filter_check,
    cli_pki_init, cli_pki_issue, cli_version, cli_help;
/* disk show --connect KIND */
#define CLI_CLIENT_KINDS "qemu|libvirt|nbd-client|uri|linux|esxi|windows|xen|proxmox"
int cli_connect(struct cli *cli, const char *disk, const char *kind);
/* QEMU's names of nodes begin with a letter and have at most 31 characters; a disk's need not. */
#define QEMU_NODE_MAX 31
void cli_qemu_node(const char *disk, char out[QEMU_NODE_MAX + 1]);
/* What a client on another machine would put as this listener's host. */
const char *cli_host_of(const struct config_address *a, char *buf, size_t size);
/* connect-iscsi.c: the kit of a kind of client, or NULL; printing it asks the gateway for the
 * target's name. */
struct cli_iscsi_disk {
    const char *name, *target;
    const struct iscsi_export_config *policy;
};
const char *cli_iscsi_kit(const char *kind);
int cli_connect_iscsi(struct cli *cli, const struct gateway_config *c, const struct disk_config *d,
                      const char *kit);

extern const struct cli_verb cli_verbs[];
extern const unsigned cli_verb_count;

/* `sluice FILTER VERB DISK ...`, when the first word names a filter; else what `unknown` says. */
int cli_filter_verb(struct cli *cli, int (*unknown)(int argc, char **argv));

/* --- for verbs
 * ------------------------------------------------------------------------------------- */

/* Takes `name` (a flag) out of the arguments. */
bool cli_take_flag(struct cli *cli, const char *name);
/* Takes `name VALUE` or `name=VALUE`; NULL when absent. Exits with a usage error when the value is
 * missing. */
const char *cli_take_option(struct cli *cli, const char *name);
/* Usage error unless exactly `least`..`most` positions and no unknown options are left. 0 or
 * EXIT_USAGE. */
int cli_expect_positions(struct cli *cli, int least, int most) MUST_CHECK;
/* "sluice VERB: sentence" to stderr; returns `code`. */
int cli_fail(const struct cli *cli, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);
int cli_usage_error(const struct cli *cli, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* The configuration of --config, its problems printed to stderr when it has any. NULL then. */
struct gateway_config *cli_load_config(struct cli *cli);
/* The same with the problems given back and not printed. */
struct gateway_config *cli_read_config(struct cli *cli, struct config_problems *problems);
/* A connection to the gateway of --config, for control_disconnect(); EXIT_OK, or an exit code with
 * the reason printed.  Only gateway.yaml is read; when that is broken, what is left of it is tried.
 */
int cli_open_gateway(struct cli *cli, struct control_client **client) MUST_CHECK;
/* One call to the running gateway. *reply is owned by the caller, NULL when it could not be asked.
 * Returns the exit code; errors have been printed. */
int cli_call(struct cli *cli, json_t *request, json_t **reply);
/* One verb of a filter's own.  Steals `words`; *said, what the filter said, is the caller's. */
int cli_ask_filter(struct cli *cli, const char *filter, const char *verb, const char *disk,
                   json_t *words, json_t **said);
/* DIR/disks.d/DISK.yaml; 0 or an exit code. */
int cli_policy_path(struct cli *cli, const char *disk, char *out, size_t size) MUST_CHECK;
/* Checks the configuration, and reloads the gateway if one runs: *did_reload. An exit code. */
int cli_reload_if_running(struct cli *cli, bool force, bool *did_reload) MUST_CHECK;
/* What a verb that changed a policy file says: `text` alone on a line, or with --json `document`,
 * to which whether a gateway runs with it is added.  Steals `document`. */
void cli_print_change(const struct cli *cli, const char *text, json_t *document, bool did_reload);
void cli_print_help(FILE *out);
/* `sluice --complete WORD...`: what may stand in the place of the last word, one a line. */
int cli_complete(int argc, char **argv);
/* One line of `disk list` and `status`; with its trouble below it, when it has any. */
void cli_print_disk_line(const json_t *disk);
void cli_print_disk(const json_t *disk);
/* Prints a document for --json; each one begins with "schema_version". */
#define CLI_SCHEMA_VERSION 1
/* What stands under a key; "" or 0: nothing does. */
const char *cli_text(const json_t *j, const char *key);
json_int_t cli_integer(const json_t *j, const char *key);
void cli_print_json(const json_t *document);
/* An answer of the gateway that has no version of its own; NULL prints nothing. */
void cli_print_answer(const json_t *answer);

/* The gateway's status document, of one disk or of all (NULL); NULL and *code on errors. */
json_t *cli_fetch_status(struct cli *cli, const char *disk, int *code);

/* --- rates.c: `disk show --rates` and `top` */
struct cli_pace {
    uint64_t interval_ns;
    long count; /* rounds; -1: until Ctrl-C */
};
/* Takes --interval and --count. count: the default. 0 or EXIT_USAGE. */
int cli_take_pace(struct cli *cli, struct cli_pace *pace, long count) MUST_CHECK;
void cli_pause(const struct cli_pace *pace);
/* {"interval_ns", "operations": {OP: {"requests", "requests_per_second", "bytes", ...}}} of a disk
 * between two status documents; null when they cannot be compared. */
json_t *cli_rates(const json_t *was, const json_t *is, const char *disk);
/* A second: counter is "requests", "bytes" or "errors"; 0 for null. */
double cli_rate_of(const json_t *rates, const char *op, const char *counter);
double cli_rate_of_all(const json_t *rates, const char *counter);
int cli_show_rates(struct cli *cli, const char *disk, const struct cli_pace *pace);

/* Where the plugin, the filters and the kit of this installation are: by environment, beside the
 * program, or where they were configured to be. `out` of PATH_MAX bytes. */
void cli_find_plugin(const struct cli *cli, char *out, size_t out_size);
void cli_find_filters(const struct cli *cli, char *out, size_t out_size);
/* Whether a program of that name lies beside this one. */
bool cli_find_beside(const char *name, char *out, size_t out_size);
void cli_find_kit(const struct cli *cli, char *out, size_t out_size);
/* Tells the loader where this installation keeps its filters; an exit code. */
int cli_use_filters(struct cli *cli) MUST_CHECK;

#endif
