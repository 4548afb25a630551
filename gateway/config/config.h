/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * config: from the files of a folder to one checked `struct gateway_config`, and from two of those
 * to the list of steps that lead from the one to the other.
 *
 * Everything in a gateway_config is immutable and lives in one arena: config_free() ends all of it,
 * and whoever keeps a string longer copies it.  Every value knows where it was written.  Loading
 * reads files and looks at (but never opens for writing) what they name; it starts, binds and
 * creates nothing.  Any thread; two loads never share anything.
 */
#ifndef SLUICE_CONFIG_H
#define SLUICE_CONFIG_H

#include "disk/disk.h"

#include <netinet/in.h>
#include <stdio.h>

/* --- what the loader asks of others --------------------------------------------------------------
 */

struct config_lookup {
    void *context;
    /* The table of a filter; NULL with a sentence in *e. */
    const struct sluice_filter *(*find_filter)(void *context, const char *name, struct err *e);
    /* For "did you mean" and the schema: NULL-terminated, one malloc'ed block freed by free(). The
     * function may be NULL and may return NULL. */
    const char **(*filter_names)(void *context);
    unsigned nbdkit_minor; /* nbdkit 1.N will serve; 0: the oldest supported, 32 */
};
/* The lookup that goes to the host room's loader. */
void config_lookup_host(struct config_lookup *out);

/* --- what is wrong -------------------------------------------------------------------------------
 */

#define CONFIG_PROBLEMS_MAX 20

/* One line: "FILE:LINE:COLUMN: TEXT"; file is relative to the folder, or "disk=". */
struct config_problem {
    unsigned line, column; /* from 1 */
    char file[280];
    char text[720]; /* "filters[1].cache.mode: unknown value ..." */
};

/* The caller's; holds no pointers. */
struct config_problems {
    unsigned count;
    unsigned dropped;                                   /* found after the list was full */
    struct config_problem problem[CONFIG_PROBLEMS_MAX]; /* sorted by file, line, column */
};
/* One line each, and one that counts the dropped ones. */
void config_problems_print(const struct config_problems *problems, FILE *out);

/* --- what was configured
 * --------------------------------------------------------------------------- */

/* Where a value was written; line 0: nowhere, it is the default. */
struct config_origin {
    const char *file;
    unsigned line, column;
};

struct config_strings {
    const char **item; /* NULL-terminated; NULL when empty */
    unsigned count;
};

enum address_kind { ADDRESS_TCP, ADDRESS_UNIX };

/* A listener, or where a peer is. */
struct config_address {
    enum address_kind kind;
    const char *text; /* as written: "0.0.0.0:10809", "[::1]:3260", "unix:/run/sluice/nbd.sock" */
    const char
        *host; /* TCP: without brackets. Listeners: an address or "localhost"; peers: or a name */
    uint16_t port;    /* TCP: 1..65535 */
    const char *path; /* Unix: absolute */
    bool is_loopback; /* TCP: 127.0.0.0/8, ::1, localhost */
    struct config_origin origin;
};
struct config_addresses {
    struct config_address *item;
    unsigned count;
};

/* "10.0.0.0/24", "2001:db8::/32", a lone address is /32 or /128. */
struct config_network {
    const char *text;
    int family;          /* AF_INET, AF_INET6 */
    uint8_t address[16]; /* network order; 4 or 16 bytes */
    unsigned prefix_bits;
};
struct config_networks {
    struct config_network *item;
    unsigned count;
};
/* Also true for an IPv4 client that arrives as ::ffff:a.b.c.d. */
bool config_network_contains(const struct config_network *network, const struct sockaddr *client);

struct peer_config {
    const char *name;
    struct config_address address;
    struct config_addresses iscsi; /* its portals, for SendTargets */
    unsigned portal_group;         /* of these */
    struct config_origin origin;
};
struct tier_config {
    const char *name;
    const char *path; /* absolute */
    uint64_t size_bytes;
    struct config_origin origin;
};
/* An nbdkit filter in front of the plugin. */
struct nbdkit_filter_config {
    const char *name;
    struct config_strings arguments; /* "key=value" */
};

enum attach_policy { ATTACH_REFUSE, ATTACH_BYPASS };

/* One instance in a chain. */
struct filter_config {
    const char *name; /* the instance's: `name:`, else the filter's; unique on its disk */
    const struct sluice_filter *filter;
    const struct sluice_value *values; /* parallel to filter->options; NULL when it has none */
    uint32_t filter_class;             /* what place() answered, else the filter's */
    int32_t rank;
    enum stall_policy on_stall;
    enum attach_policy on_attach_failure;
    struct config_origin origin;
};

enum export_tls { EXPORT_TLS_REQUIRE, EXPORT_TLS_OFF };
struct nbd_export_config {
    bool is_enabled;
    enum export_tls tls; /* on TCP listeners that are not loopback */
    bool is_exclusive, is_listed;
    struct config_networks networks; /* empty: anybody; Unix sockets are always allowed */
    struct config_strings clients;   /* certificate names; empty: any that verifies */
};
enum iscsi_sectors { ISCSI_SECTORS_512, ISCSI_SECTORS_512E, ISCSI_SECTORS_4KN };
struct iscsi_export_config {
    bool is_enabled, may_erase;
    enum iscsi_sectors sectors;
    const char *target, *iqn; /* at most one of them; both NULL: the disk's own target */
    unsigned lun;
    unsigned low_space_percent;     /* 0: nobody is warned */
    const char *chap, *chap_mutual; /* paths of secret files, or NULL */
    struct config_strings initiators;
    struct config_networks networks;
};

/* Exactly one of file, nbd, iscsi and nbdkit.plugin is set: `kind`. */
struct backing_config {
    enum backing_kind kind;
    const char *file; /* absolute */
    bool is_direct;
    const char *nbd, *tls;                /* URI; folder of certificates or NULL */
    const char *iscsi, *chap, *initiator; /* URL; secret file, IQN, or NULL */
    struct {
        const char *plugin;
        struct config_strings arguments, filters; /* "key=value" */
    } nbdkit;
    uint64_t settle_ns; /* nbd: after a loss the server may go on so long with what it had */
    uint64_t
        keep_bytes; /* nbd, iscsi: unflushed writes kept for replay; 0: the backing's default */
};

struct config_node;

struct disk_config {
    const char *name;
    const char *group;   /* the disk's own name when none was given */
    const char *policy;  /* NULL: none */
    const char *uuid;    /* lower case; NULL: from the state */
    uint64_t size_bytes; /* 0: the backing's */
    bool is_read_only;
    struct backing_config backing;
    uint64_t reconnect_ns;      /* keep requests that long for a lost backing; 0: for ever */
    uint64_t deadline_ns;       /* the disk's, else limits.deadline; 0: none */
    enum stall_policy on_stall; /* WAIT or FAIL */
    struct nbd_export_config nbd;
    struct iscsi_export_config iscsi;
    struct filter_config *filters; /* in chain order, guest side first */
    unsigned filter_count;
    struct config_origin origin;        /* its file, line 1 */
    const struct config_node *document; /* merged with its policies; private to this room */
};

struct gateway_config {
    const char *folder; /* absolute; of an inline disk: the working folder */
    const char *name;   /* "gw-a" */
    const char *state;  /* absolute; NULL for an inline disk */
    struct {
        struct config_addresses nbd, iscsi, peer, http;
        struct config_address control; /* Unix */
    } listen;
    struct {
        bool is_set;
        const char *ca, *certificate, *key; /* absolute */
        struct config_origin origin;
    } tls;
    struct {
        uint64_t heartbeat_ns, timeout_ns, window_bytes;
        unsigned streams;
    } link;
    struct peer_config *peers; /* sorted by name, as tiers and disks are */
    unsigned peer_count;
    struct tier_config *tiers;
    unsigned tier_count;
    uint64_t memory_bytes; /* 0: no limit */
    struct {
        unsigned nbd_in_flight;
        uint64_t deadline_ns, quiesce_ns, event_ns, prepare_ns;
    } limits;
    struct {
        unsigned portal_group;
        const char *discovery_chap, *discovery_chap_mutual; /* secret files or NULL */
    } iscsi;
    enum log_level log_level;
    struct nbdkit_filter_config *nbdkit_filters; /* outermost first */
    unsigned nbdkit_filter_count;
    struct disk_config *disks;
    unsigned disk_count;
    const struct config_node *document; /* private to this room */
};

/* --- loading
 * ----------------------------------------------------------------------------------------- */

/*
 * Reads FOLDER/gateway.yaml, FOLDER/policies.d/ and FOLDER/disks.d/ and checks everything, across
 * files too.  0 and *out; or -EINVAL and at least one problem; or -ENOMEM.  *problems is always
 * written.  Filters are loaded through `lookup`; their tables must outlive *out.
 */
int config_load(const char *folder, const struct config_lookup *lookup, struct gateway_config **out,
                struct config_problems *problems) MUST_CHECK;

/* The same for one disk document in a string, `nbdkit sluice disk='{...}'`: a configuration of that
 * disk alone, without listeners or state.  Relative paths start at the working folder. */
int config_load_inline(const char *name, const char *text, const struct config_lookup *lookup,
                       struct gateway_config **out, struct config_problems *problems) MUST_CHECK;

/*
 * Where the gateway of `folder` listens for the command line, from gateway.yaml alone: a gateway
 * answers also while its other files are broken.  *is_guess: gateway.yaml is broken too, then this
 * is what could be read of it, else the default; *problems says why, and the caller makes sure that
 * it is this folder's gateway that answers there.  malloc'ed; NULL when there is no such folder
 * (one problem), or for ENOMEM (none).
 */
char *config_find_control(const char *folder, bool *is_guess,
                          struct config_problems *problems) MUST_CHECK;

void config_free(struct gateway_config *config); /* NULL is allowed */

/* NULL: no such disk. */
const struct disk_config *config_find_disk(const struct gateway_config *config, const char *name);
/* [A-Za-z0-9][A-Za-z0-9._-]*, at most 63 characters: disks, groups, policies, peers, tiers,
 * gateways. */
bool config_name_is_valid(const char *name);

/* --- using it
 * ------------------------------------------------------------------------------------------ */

/* What disk_open() wants; strings are the configuration's. */
void config_disk_settings(const struct gateway_config *config, const struct disk_config *disk,
                          struct disk_settings *out);

/* What `nbdkit --tls=` has to be.  ON: some listener or disk needs none, so the plugin asks
 * config_needs_tls() at each connection. */
enum config_tls_mode { CONFIG_TLS_OFF, CONFIG_TLS_ON, CONFIG_TLS_REQUIRE };
enum config_tls_mode config_tls_mode(const struct gateway_config *config);
/* server: the address the client connected to (getsockname). */
bool config_needs_tls(const struct disk_config *disk, const struct sockaddr *server);

/* A secret file: one line "USER:SECRET".  Opened, its mode checked on the descriptor, read. */
struct config_chap {
    char user[224], secret[256];
};
int config_read_chap(const char *path, struct config_chap *out, struct err *e) MUST_CHECK;

/* What backing_open() wants, but for create and create_size, which disk_open() decides.  Strings
 * are the configuration's and those of *chap, which is read here when the policy names a secret. */
int config_backing_spec(const struct disk_config *disk, struct backing_spec *out,
                        struct config_chap *chap, struct err *e) MUST_CHECK;

/* The policy a disk ends up with as YAML, each value with its origin as a comment.  -ENOENT: no
 * such disk. */
int config_print_effective(FILE *out, const struct gateway_config *config, const char *disk,
                           struct err *e) MUST_CHECK;
/* The same for programs: {"disk", "file", "policy", "effective": as the schema of a disk file has
 * it, "origins": {"backing.file": "FILE:LINE:COLUMN", ...}}; owned by the caller.  NULL with *e. */
struct json_t *config_effective(const struct gateway_config *config, const char *disk,
                                struct err *e) MUST_CHECK;

/* --- from one configuration to another
 * --------------------------------------------------------------------- */

enum plan_kind {
    PLAN_REFUSE,  /* cannot be had at all: nothing of the plan may be applied */
    PLAN_RESTART, /* needs a restart: nothing of the plan may be applied by a reload */
    PLAN_GATEWAY, /* a live setting of the gateway: log level, peers, limits (those of every disk)
                   */
    PLAN_REMOVE_DISK,   /* old_disk */
    PLAN_SETTINGS,      /* disk_reconfigure(): deadline, on_stall */
    PLAN_EXPORT,        /* who may connect, and how */
    PLAN_GROW,          /* disk_resize() to new_disk->size_bytes */
    PLAN_DETACH,        /* old_filter leaves the chain */
    PLAN_REPLACE,       /* old_filter leaves, new_filter of the same name takes its place */
    PLAN_ATTACH,        /* new_filter joins */
    PLAN_REORDER,       /* the same filters in another order */
    PLAN_POLICY_CHANGE, /* only LIVE options or engine-level keys of a filter differ */
    PLAN_ADD_DISK,      /* new_disk */
    PLAN_KIND_COUNT
};

/* DETACH, REPLACE, ATTACH and REORDER of one disk are one disk_set_chain() to new_disk->filters. */
struct plan_action {
    enum plan_kind kind;
    const struct disk_config *old_disk, *new_disk; /* NULL where there is none */
    const struct filter_config *old_filter, *new_filter;
    const char *text; /* "vm-17: attach cache between replication and the backing" */
};

struct config_plan {
    bool is_refused, needs_restart;
    struct plan_action
        *actions; /* by kind for the gateway, then disk by disk in the order of plan_kind */
    unsigned count;
};

/* Pure.  A disk that stands in `old` counts as one with data.  *out borrows from both and is freed
 * by config_plan_free().  0 or -ENOMEM. */
int config_plan(const struct gateway_config *old, const struct gateway_config *new,
                struct config_plan **out) MUST_CHECK;
void config_plan_free(struct config_plan *plan);
const char *plan_kind_name(enum plan_kind kind);

/* --- a filter's manifest
 * -------------------------------------------------------------------------------------- */

/* What stands in NAME.yaml beside NAME.so; sluice-filter(3) describes it. */
struct config_manifest {
    const char *name, *vendor, *version;
    uint32_t filter_class; /* enum sluice_class */
    int32_t api_version;
    uint32_t needs;        /* SLUICE_NEEDS_* */
    const char *sha256;    /* 64 lower-case digits; NULL: not said */
    const char *signature; /* NULL: none.  Kept, not verified in this version. */
};
/* From text; `file` is for messages.  0 and *out; -EINVAL and at least one problem; -ENOMEM.
 * *problems is always written.  Pure; any thread. */
int config_manifest_parse(const char *file, const char *text, size_t length,
                          struct config_manifest **out,
                          struct config_problems *problems) MUST_CHECK;
void config_manifest_free(struct config_manifest *manifest); /* NULL is allowed */
/* Whether it says what the filter's table says, and sha256 (if it is there) is that of so_path.
 * 0, -EINVAL with a sentence, or why the file cannot be read. */
int config_manifest_compare(const struct config_manifest *manifest,
                            const struct sluice_filter *filter, const char *so_path,
                            struct err *e) MUST_CHECK;
/* The manifest beside `so_path`: read, parsed and compared.  -ENOENT: there is none. */
int config_manifest_check(const char *so_path, const struct sluice_filter *filter,
                          struct err *e) MUST_CHECK;

/* --- documents made from the option tables
 * -------------------------------------------------------------------- */

enum config_document { CONFIG_DOCUMENT_GATEWAY, CONFIG_DOCUMENT_DISK, CONFIG_DOCUMENT_POLICY };

/* JSON Schema draft-07, with the options of every filter that `lookup` names.  0 or a negative
 * errno. */
int config_schema_print(FILE *out, enum config_document which,
                        const struct config_lookup *lookup) MUST_CHECK;

/* A commented policy for a new disk; NULL and 0 leave a line out or commented. */
struct config_sample {
    const char *file, *nbd, *nbdkit; /* the backing: exactly one; nbdkit: the plugin's name */
    const char *policy, *group;
    uint64_t size_bytes;
    bool tls_off;
};
int config_sample_disk(FILE *out, const struct config_sample *sample) MUST_CHECK;

/*
 * The text of a policy (or of gateway.yaml) with the value of one top-level key changed, or the key
 * added, and all else as it stood: comments, order, style.  value: a plain scalar.  malloc'ed and
 * terminated; NULL with a sentence in *e.  The caller loads what comes out before it is kept.
 */
char *config_rewrite(const char *text, size_t length, const char *key, const char *value,
                     struct err *e) MUST_CHECK;

#endif
