/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tables: every key of gateway.yaml and of a disk, once.
 *
 * From these rows come binding, defaults, messages, JSON Schema, what `check --effective` prints
 * and what a reload may do about a change.  The manual pages are compared with them by a test.
 */
#include "config/internal.h"

#include <string.h>

#define TABLE(rows) .keys = (rows), .count = ARRAY_SIZE(rows)

/* A row: name, type, flags, least, most, default, words, help; the field; what a change means. */
#define ROW(name, type, flags, least, most, standard, words, help, structure, field, plan) \
    {                                                                                      \
        {name, type, flags, least, most, standard, words, help},                           \
            offsetof(struct structure, field), NULL, plan, NULL                            \
    }
#define NOT_YET(what, name, type, flags, help, structure, field)                              \
    {                                                                                         \
        {name, type, flags, 0, 0, NULL, NULL, help}, offsetof(struct structure, field), NULL, \
            PLAN_RESTART, what                                                                \
    }
/* A nested map; the struct of `table` begins at the field. */
#define MAP(name, flags, help, structure, field, table)                                     \
    {                                                                                       \
        {name, TYPE_MAP, flags, 0, 0, NULL, NULL, help}, offsetof(struct structure, field), \
            &(table), PLAN_RESTART, NULL                                                    \
    }
/* A nested map whose keys are fields of the outer struct itself. */
#define GROUP(name, help, table)                                                     \
    {                                                                                \
        {name, TYPE_MAP, 0, 0, 0, NULL, NULL, help}, 0, &(table), PLAN_RESTART, NULL \
    }
#define NAMED(name, help, structure, field, table, plan)                                  \
    {                                                                                     \
        {name, TYPE_NAMED, 0, 0, 0, NULL, NULL, help}, offsetof(struct structure, field), \
            &(table), plan, NULL                                                          \
    }

#define SECONDS 1000000000ll
#define MINUTE (60 * SECONDS)
#define DAY (1440 * MINUTE)
#define SECTOR 512
#define NO_LIMIT INT64_MAX

/* --- gateway.yaml ------------------------------------------------------------------------------
 */

static const struct config_key listen_keys[] = {
    ROW("nbd", TYPE_LISTENER, KEY_LIST, 0, 0, "127.0.0.1:10809", NULL,
        "Where NBD clients connect: ADDRESS:PORT or unix:PATH.", gateway_config, listen.nbd,
        PLAN_RESTART),
    ROW("iscsi", TYPE_TCP_LISTENER, KEY_LIST, 0, 0, NULL, NULL,
        "Where iSCSI initiators connect: ADDRESS:PORT; without it nowhere.", gateway_config,
        listen.iscsi, PLAN_RESTART),
    ROW("peer", TYPE_TCP_LISTENER, KEY_LIST, 0, 0, NULL, NULL,
        "Where other gateways connect: ADDRESS:PORT; without it nowhere.", gateway_config,
        listen.peer, PLAN_RESTART),
    NOT_YET("the HTTP listener", "http", TYPE_TCP_LISTENER, KEY_LIST,
            "Where /metrics and /healthz are served.", gateway_config, listen.http),
    ROW("control", TYPE_UNIX_LISTENER, 0, 0, 0, NULL, NULL,
        "Where the sluice command talks to the gateway; without it control.sock in state.",
        gateway_config, listen.control, PLAN_RESTART),
};
static const struct config_table listen_table = {TABLE(listen_keys)};

static const struct config_key tls_keys[] = {
    ROW("ca", TYPE_FILE, KEY_REQUIRED, 0, 0, NULL, NULL,
        "The certificate authority that clients and peers are verified against (PEM).",
        gateway_config, tls.ca, PLAN_RESTART),
    ROW("cert", TYPE_FILE, KEY_REQUIRED, 0, 0, NULL, NULL, "This gateway's certificate (PEM).",
        gateway_config, tls.certificate, PLAN_RESTART),
    ROW("key", SLUICE_TYPE_SECRET, KEY_REQUIRED, 0, 0, NULL, NULL,
        "Its private key (PEM), mode 0600.", gateway_config, tls.key, PLAN_RESTART),
};

static void check_tls(struct binder *b, const struct config_node *node, void *base)
{
    struct gateway_config *config = base;

    (void)b;
    config->tls.is_set = node != NULL;
    if (node)
        config->tls.origin = node->key_at;
}
static const struct config_table tls_table = {TABLE(tls_keys), .check = check_tls};

static const struct config_key link_keys[] = {
    ROW("heartbeat", SLUICE_TYPE_DURATION, 0, 10000000, MINUTE, "1s", NULL,
        "How often a peer is asked whether it is there.", gateway_config, link.heartbeat_ns,
        PLAN_RESTART),
    ROW("timeout", SLUICE_TYPE_DURATION, 0, 100000000, 60 * MINUTE, "5s", NULL,
        "A peer that nothing was heard of for so long is lost.", gateway_config, link.timeout_ns,
        PLAN_RESTART),
    ROW("streams", SLUICE_TYPE_INTEGER, 0, 1, 16, "1", NULL,
        "Connections for data to each peer; more than one where one core cannot encrypt it all.",
        gateway_config, link.streams, PLAN_RESTART),
    ROW("window", SLUICE_TYPE_SIZE, 0, 2 << 20, 256 << 20, "8MiB", NULL,
        "What each disk or group may have on its way to a peer.", gateway_config, link.window_bytes,
        PLAN_RESTART),
};

static void check_link(struct binder *b, const struct config_node *node, void *base)
{
    const struct gateway_config *config = base;

    if (node && config->link.timeout_ns && config->link.timeout_ns < 2 * config->link.heartbeat_ns)
        binder_say(b, &node->at, "timeout must be at least two heartbeats");
}
static const struct config_table link_table = {TABLE(link_keys), .check = check_link};

static const struct config_key peer_keys[] = {
    ROW("address", TYPE_ENDPOINT, KEY_REQUIRED, 0, 0, NULL, NULL,
        "Where the peer listens for gateways: HOST:PORT.", peer_config, address, PLAN_GATEWAY),
    ROW("iscsi", TYPE_ENDPOINT, KEY_LIST, 0, 0, NULL, NULL,
        "The peer's iSCSI portals, told to initiators.", peer_config, iscsi, PLAN_GATEWAY),
    ROW("portal_group", SLUICE_TYPE_INTEGER, 0, 1, 65535, NULL, NULL,
        "The number of the peer's portals; 2, or 1 where this gateway's have another.", peer_config,
        portal_group, PLAN_GATEWAY),
};

static bool is_wildcard(const struct config_address *a)
{
    return a->host && (strcmp(a->host, "0.0.0.0") == 0 || strcmp(a->host, "::") == 0);
}

static void check_peer(struct binder *b, const struct config_node *node, void *base)
{
    struct peer_config *peer = base;

    if (!node)
        return;
    peer->origin = node->key_at;
    for (unsigned i = 0; i < peer->iscsi.count; i++)
        if (is_wildcard(&peer->iscsi.item[i]))
            binder_say(b, &peer->iscsi.item[i].origin,
                       "iscsi: is told to initiators, who cannot reach a wildcard address");
}
static const struct config_table peer_table = {
    TABLE(peer_keys), .struct_bytes = sizeof(struct peer_config), .check = check_peer};

static const struct config_key tier_keys[] = {
    ROW("path", SLUICE_TYPE_PATH, KEY_REQUIRED, 0, 0, NULL, NULL,
        "A folder, a file or a block device on fast storage.", tier_config, path, PLAN_RESTART),
    ROW("size", SLUICE_TYPE_SIZE, KEY_REQUIRED, 1 << 20, NO_LIMIT, NULL, NULL,
        "How much of it Sluice may use.", tier_config, size_bytes, PLAN_RESTART),
};
static void check_tier(struct binder *b, const struct config_node *node, void *base)
{
    (void)b;
    if (node)
        ((struct tier_config *)base)->origin = node->key_at;
}
static const struct config_table tier_table = {
    TABLE(tier_keys), .struct_bytes = sizeof(struct tier_config), .check = check_tier};

static const struct config_key limits_keys[] = {
    ROW("nbd_in_flight", SLUICE_TYPE_INTEGER, 0, 1, 1024, "32", NULL,
        "Requests one NBD connection may have in flight with its worker threads, and small ones "
        "beside.",
        gateway_config, limits.nbd_in_flight, PLAN_RESTART),
    ROW("deadline", SLUICE_TYPE_DURATION, 0, 0, DAY, "20s", NULL,
        "A request older than that is a stall; 0s: never. Disks may have their own.",
        gateway_config, limits.deadline_ns, PLAN_KIND_COUNT), /* shows in each disk */
    ROW("quiesce", SLUICE_TYPE_DURATION, 0, 1000000, MINUTE, "2s", NULL,
        "How long requests may be held for a change before it is called off.", gateway_config,
        limits.quiesce_ns, PLAN_GATEWAY),
    ROW("event", SLUICE_TYPE_DURATION, 0, 1000000, DAY, "10s", NULL,
        "How long a filter may take to prepare for a control event.", gateway_config,
        limits.event_ns, PLAN_GATEWAY),
    ROW("prepare", SLUICE_TYPE_DURATION, 0, SECONDS, DAY, "60s", NULL,
        "How long a prepare from outside waits for its commit before it is aborted.",
        gateway_config, limits.prepare_ns, PLAN_GATEWAY),
};
static const struct config_table limits_table = {TABLE(limits_keys)};

static const struct config_key gateway_iscsi_keys[] = {
    ROW("portal_group", SLUICE_TYPE_INTEGER, 0, 1, 65535, "1", NULL,
        "The number of this gateway's portals; gateways that serve the same disks differ in it.",
        gateway_config, iscsi.portal_group, PLAN_RESTART),
    ROW("discovery_chap", SLUICE_TYPE_SECRET, 0, 0, 0, NULL, NULL,
        "What initiators prove before targets are listed: a file of mode 0600 with one line "
        "USER:SECRET.",
        gateway_config, iscsi.discovery_chap, PLAN_RESTART),
    ROW("discovery_chap_mutual", SLUICE_TYPE_SECRET, 0, 0, 0, NULL, NULL,
        "What the gateway proves to them: such a file.", gateway_config,
        iscsi.discovery_chap_mutual, PLAN_RESTART),
};

static void check_gateway_iscsi(struct binder *b, const struct config_node *node, void *base)
{
    const struct gateway_config *config = base;

    if (config->iscsi.discovery_chap_mutual && !config->iscsi.discovery_chap)
        binder_say(b, &node->at, "discovery_chap_mutual needs discovery_chap");
}
static const struct config_table gateway_iscsi_table = {TABLE(gateway_iscsi_keys),
                                                        .check = check_gateway_iscsi};

static const struct config_key log_keys[] = {
    ROW("level", SLUICE_TYPE_ENUM, 0, LOG_LEVEL_ERROR, 0, "info", "error|warning|notice|info|debug",
        "The most talkative kind of line that is written.", gateway_config, log_level,
        PLAN_GATEWAY),
};
static const struct config_table log_table = {TABLE(log_keys)};

static const struct config_key nbdkit_keys[] = {
    ROW("filters", TYPE_NBDKIT_FILTER, KEY_LIST, 0, 0, NULL, NULL,
        "nbdkit's own filters in front of all disks, outermost first.", gateway_config,
        nbdkit_filters, PLAN_RESTART),
};
static const struct config_table nbdkit_table = {TABLE(nbdkit_keys)};

static const struct config_key gateway_keys[] = {
    ROW("gateway", TYPE_NAME, KEY_REQUIRED, 0, 0, NULL, NULL, "The name of this gateway.",
        gateway_config, name, PLAN_RESTART),
    ROW("state", SLUICE_TYPE_PATH, 0, 0, 0, "/var/lib/sluice", NULL,
        "The folder for what must survive a restart; one gateway each.", gateway_config, state,
        PLAN_RESTART),
    GROUP("listen", "Where the gateway listens.", listen_table),
    GROUP("tls", "The certificates of this gateway.", tls_table),
    GROUP("link", "The connections to other gateways.", link_table),
    NAMED("peers", "The other gateways, by name.", gateway_config, peers, peer_table, PLAN_GATEWAY),
    NAMED("tiers", "Fast local storage for filters, by name.", gateway_config, tiers, tier_table,
          PLAN_RESTART),
    ROW("memory", SLUICE_TYPE_SIZE, 0, 1 << 20, NO_LIMIT, NULL, NULL,
        "What all filters together may take; without it there is no limit.", gateway_config,
        memory_bytes, PLAN_RESTART),
    GROUP("limits", "Limits in time and number.", limits_table),
    GROUP("iscsi", "The iSCSI target.", gateway_iscsi_table),
    GROUP("log", "What is logged.", log_table),
    GROUP("nbdkit", "The NBD server itself.", nbdkit_table),
};

/* sun_path is short, so the default is checked like what is written. */
static void set_default_control(struct binder *b, struct gateway_config *config)
{
    static const struct config_key key = {.option = {.type = TYPE_UNIX_LISTENER}};
    const char *text = arena_printf(b->arena, "unix:%s/control.sock", config->state);
    struct config_node *node = node_make_scalar(b->arena, text);
    size_t mark = binder_push_key(b, "listen.control");

    if (node) {
        node->at = (struct config_origin){"gateway.yaml", 1, 1};
        address_bind(b, &key, node, &config->listen.control);
        config->listen.control.origin.line = 0;
    }
    binder_pop(b, mark);
}

/* Initiators tell the two gateways' portals apart by the number. */
static void set_portal_groups(struct binder *b, struct gateway_config *config)
{
    for (unsigned i = 0; i < config->peer_count; i++) {
        struct peer_config *peer = &config->peers[i];

        if (!peer->portal_group)
            peer->portal_group = config->iscsi.portal_group == 1 ? 2 : 1;
        else if (peer->portal_group == config->iscsi.portal_group)
            binder_say_at(b, &peer->origin, arena_printf(b->arena, "peers.%s", peer->name),
                          "portal_group is the number of this gateway's own portals "
                          "(iscsi.portal_group): they have to differ");
    }
}

static void check_gateway(struct binder *b, const struct config_node *node, void *base)
{
    struct gateway_config *config = base;

    if (!node_find(node, "listen.control"))
        set_default_control(b, config);
    set_portal_groups(b, config);
    for (unsigned i = 0; i < config->peer_count; i++)
        if (config->name && strcmp(config->peers[i].name, config->name) == 0)
            binder_say_at(b, &config->peers[i].origin,
                          arena_printf(b->arena, "peers.%s", config->name),
                          "is this gateway itself");
}
const struct config_table config_gateway_table = {
    TABLE(gateway_keys), .struct_bytes = sizeof(struct gateway_config), .check = check_gateway};

/* --- disks.d/NAME.yaml -------------------------------------------------------------------------
 */

static const struct config_key backing_nbdkit_keys[] = {
    ROW("plugin", SLUICE_TYPE_STRING, KEY_REQUIRED, 0, 0, NULL, NULL,
        "An nbdkit plugin, by name or path.", backing_config, nbdkit.plugin, PLAN_KIND_COUNT),
    ROW("args", TYPE_ARGUMENTS, 0, 0, 0, NULL, NULL, "Its parameters.", backing_config,
        nbdkit.arguments, PLAN_KIND_COUNT),
    ROW("filters", SLUICE_TYPE_STRING, KEY_LIST, 0, 0, NULL, NULL, "nbdkit filters in front of it.",
        backing_config, nbdkit.filters, PLAN_RESTART),
};
static const struct config_table backing_nbdkit_table = {TABLE(backing_nbdkit_keys)};

static const struct config_key backing_keys[] = {
    ROW("file", SLUICE_TYPE_PATH, 0, 0, 0, NULL, NULL, "A file or a block device.", backing_config,
        file, PLAN_KIND_COUNT),
    ROW("direct", SLUICE_TYPE_BOOL, 0, 0, 0, NULL, NULL,
        "file: open it with O_DIRECT, past the page cache.", backing_config, is_direct,
        PLAN_RESTART),
    ROW("nbd", TYPE_NBD_URI, 0, 0, 0, NULL, NULL, "An NBD server, as a URI.", backing_config, nbd,
        PLAN_KIND_COUNT),
    ROW("tls", SLUICE_TYPE_PATH, 0, 0, 0, NULL, NULL,
        "nbd: the folder with ca-cert.pem, client-cert.pem and client-key.pem.", backing_config,
        tls, PLAN_RESTART),
    ROW("iscsi", TYPE_ISCSI_URL, 0, 0, 0, NULL, NULL, "An iSCSI LUN, as a URL.", backing_config,
        iscsi, PLAN_KIND_COUNT),
    ROW("chap", SLUICE_TYPE_SECRET, 0, 0, 0, NULL, NULL,
        "iscsi: a file of mode 0600 with one line USER:SECRET.", backing_config, chap,
        PLAN_RESTART),
    ROW("initiator", TYPE_IQN, 0, 0, 0, NULL, NULL, "iscsi: the name to log in with.",
        backing_config, initiator, PLAN_RESTART),
    GROUP("nbdkit", "Any nbdkit plugin.", backing_nbdkit_table),
    ROW("keep", SLUICE_TYPE_SIZE, 0, 1 << 20, 1ll << 30, NULL, NULL,
        "nbd, iscsi: unflushed writes kept to be written again after a reconnect.", backing_config,
        keep_bytes, PLAN_RESTART),
    ROW("settle", SLUICE_TYPE_DURATION, 0, 0, MINUTE, "5s", NULL,
        "nbd: how long after a lost connection its server may still carry out what it had "
        "received.",
        backing_config, settle_ns, PLAN_RESTART),
};

struct backing_word {
    const char *kind_key; /* the key that makes a backing this kind */
    enum backing_kind kind;
    const char *only[4]; /* keys that go with it alone */
};
static const struct backing_word backing_words[] = {
    {"file", BACKING_FILE, {"direct"}},
    {"nbd", BACKING_NBD, {"tls", "keep", "settle"}},
    {"iscsi", BACKING_ISCSI, {"chap", "initiator", "keep"}},
    {"nbdkit", BACKING_NBDKIT, {NULL}},
};

static bool goes_only_with(const struct backing_word *word, const char *key)
{
    for (size_t i = 0; i < ARRAY_SIZE(word->only) && word->only[i]; i++)
        if (strcmp(word->only[i], key) == 0)
            return true;
    return false;
}

/* The next kind, from `start`, that a key belongs to when it is not `word`'s; NULL: none. */
static const struct backing_word *find_other_kind(const struct backing_word *word, const char *key,
                                                  const struct backing_word *start)
{
    const struct backing_word *end = backing_words + ARRAY_SIZE(backing_words);

    if (goes_only_with(word, key))
        return NULL;
    for (; start < end; start++)
        if (goes_only_with(start, key))
            return start;
    return NULL;
}

/* The first kind that is named; a second one is a problem. */
static const struct backing_word *find_kind(struct binder *b, const struct config_node *node)
{
    const struct backing_word *found = NULL;

    for (size_t i = 0; i < ARRAY_SIZE(backing_words); i++) {
        const struct config_node *key = node_get(node, backing_words[i].kind_key);

        if (key && backing_words[i].kind == BACKING_NBDKIT && node_is_null(key))
            continue; /* a map left empty is as if it were not there */
        if (key && found)
            binder_say(b, &key->key_at, "a disk has one backing, %s or %s", found->kind_key,
                       backing_words[i].kind_key);
        else if (key)
            found = &backing_words[i];
    }
    if (!found)
        binder_say(b, &node->at, "needs one of file, nbd, iscsi, nbdkit");
    return found;
}

static void check_backing(struct binder *b, const struct config_node *node, void *base)
{
    struct backing_config *backing = base;
    const struct backing_word *word = node ? find_kind(b, node) : NULL;

    if (!word)
        return;
    backing->kind = word->kind;
    for (const struct config_node *key = node->children; key; key = key->next) {
        const struct backing_word *other = find_other_kind(word, key->key, backing_words);
        const struct backing_word *third =
            other ? find_other_kind(word, key->key, other + 1) : NULL;

        if (other)
            binder_say(b, &key->key_at, "%s goes with %s%s%s, not with %s", key->key,
                       other->kind_key, third ? " or " : "", third ? third->kind_key : "",
                       word->kind_key);
    }
}

/* What goes with another kind has no meaning here, and written out it would be refused. */
static bool backing_has_default(const struct config_node *node, const char *key)
{
    for (size_t i = 0; i < ARRAY_SIZE(backing_words); i++) {
        const struct backing_word *word = &backing_words[i];

        if (node_get(node, word->kind_key) && !find_other_kind(word, key, backing_words))
            return true;
    }
    return false;
}
static const struct config_table backing_table = {TABLE(backing_keys), .check = check_backing,
                                                  .has_default = backing_has_default};

static const struct config_key nbd_keys[] = {
    ROW("enabled", SLUICE_TYPE_BOOL, 0, 0, 0, "true", NULL,
        "Whether NBD clients can have the disk.", nbd_export_config, is_enabled, PLAN_EXPORT),
    ROW("tls", SLUICE_TYPE_ENUM, 0, 0, 0, "require", "require|off",
        "Whether clients over TCP must use TLS; Unix and loopback listeners are exempt.",
        nbd_export_config, tls, PLAN_EXPORT),
    ROW("networks", TYPE_NETWORK, KEY_LIST, 0, 0, NULL, NULL,
        "Where clients over TCP may come from; without it from anywhere.", nbd_export_config,
        networks, PLAN_EXPORT),
    ROW("clients", SLUICE_TYPE_STRING, KEY_LIST, 0, 0, NULL, NULL,
        "Names in the certificates of those that may connect (nbdkit 1.40).", nbd_export_config,
        clients, PLAN_EXPORT),
    ROW("exclusive", SLUICE_TYPE_BOOL, 0, 0, 0, "false", NULL, "One client at a time.",
        nbd_export_config, is_exclusive, PLAN_EXPORT),
    ROW("listed", SLUICE_TYPE_BOOL, 0, 0, 0, "true", NULL,
        "Whether the disk is named to clients that ask for a list.", nbd_export_config, is_listed,
        PLAN_EXPORT),
};

/* nbdkit tells a plugin the name in a client's certificate since 1.40 (nbdkit_peer_tls_dn). */
#define NBDKIT_WITH_CLIENT_NAMES 40
#define NBDKIT_OLDEST 32

static void check_nbd(struct binder *b, const struct config_node *node, void *base)
{
    const struct nbd_export_config *nbd = base;
    const struct config_node *clients = node_get(node, "clients");
    unsigned minor = b->lookup->nbdkit_minor ? b->lookup->nbdkit_minor : NBDKIT_OLDEST;
    size_t mark;

    if (!clients || nbd->clients.count == 0)
        return;
    mark = binder_push_key(b, "clients");
    if (minor < NBDKIT_WITH_CLIENT_NAMES)
        binder_say(b, &clients->key_at, "needs nbdkit 1.%u; this is 1.%u", NBDKIT_WITH_CLIENT_NAMES,
                   minor);
    if (nbd->tls == EXPORT_TLS_OFF)
        binder_say(b, &clients->key_at,
                   "clients are known by their certificates: it needs tls: require");
    binder_pop(b, mark);
}
static const struct config_table nbd_table = {TABLE(nbd_keys), .check = check_nbd};

static const struct config_key iscsi_keys[] = {
    ROW("enabled", SLUICE_TYPE_BOOL, 0, 0, 0, "true", NULL,
        "Whether the disk is a LUN where the gateway listens for iSCSI.", iscsi_export_config,
        is_enabled, PLAN_KIND_COUNT), /* shows as a whole */
    ROW("target", TYPE_NAME, 0, 0, 0, NULL, NULL,
        "A target shared by several disks; without it and iqn the disk has its own.",
        iscsi_export_config, target, PLAN_EXPORT),
    ROW("iqn", TYPE_IQN, 0, 0, 0, NULL, NULL, "The whole name of its target.", iscsi_export_config,
        iqn, PLAN_EXPORT),
    ROW("lun", SLUICE_TYPE_INTEGER, 0, 0, 16383, "0", NULL, "Its number in the target, for ever.",
        iscsi_export_config, lun, PLAN_EXPORT),
    ROW("chap", SLUICE_TYPE_SECRET, 0, 0, 0, NULL, NULL,
        "What initiators prove: a file of mode 0600 with one line USER:SECRET.",
        iscsi_export_config, chap, PLAN_EXPORT),
    ROW("chap_mutual", SLUICE_TYPE_SECRET, 0, 0, 0, NULL, NULL,
        "What the target proves to initiators: such a file.", iscsi_export_config, chap_mutual,
        PLAN_EXPORT),
    ROW("initiators", TYPE_IQN, KEY_LIST, 0, 0, NULL, NULL,
        "Names of those that may log in; without it any.", iscsi_export_config, initiators,
        PLAN_EXPORT),
    ROW("networks", TYPE_NETWORK, KEY_LIST, 0, 0, NULL, NULL,
        "Where they may come from; without it from anywhere.", iscsi_export_config, networks,
        PLAN_EXPORT),
    ROW("sectors", SLUICE_TYPE_ENUM, 0, ISCSI_SECTORS_512, 0, "512e", "512|512e|4Kn",
        "How large initiators take sectors to be: 512 bytes, the same on 4096, or 4096.",
        iscsi_export_config, sectors, PLAN_RESTART),
    ROW("erase", SLUICE_TYPE_BOOL, 0, 0, 0, "false", NULL,
        "Whether SANITIZE and FORMAT UNIT are obeyed.", iscsi_export_config, may_erase,
        PLAN_RESTART),
    ROW("low_space", SLUICE_TYPE_INTEGER, 0, 0, 99, "10", NULL,
        "Percent of the backing's file system: when less is free, initiators are warned (38/07).",
        iscsi_export_config, low_space_percent, PLAN_EXPORT),
};

static void check_iscsi(struct binder *b, const struct config_node *node, void *base)
{
    struct iscsi_export_config *iscsi = base;

    if (iscsi->target && iscsi->iqn)
        binder_say(b, &node->at, "target and iqn are two names for one thing; write one");
    if (iscsi->chap_mutual && !iscsi->chap)
        binder_say(b, &node->at, "chap_mutual needs chap");
}
static const struct config_table iscsi_table = {TABLE(iscsi_keys), .check = check_iscsi};

static const struct config_key export_keys[] = {
    MAP("nbd", 0, "Over NBD.", disk_config, nbd, nbd_table),
    MAP("iscsi", 0, "Over iSCSI, where the gateway listens for it.", disk_config, iscsi,
        iscsi_table),
};
static const struct config_table export_table = {TABLE(export_keys)};

static const struct config_key disk_keys[] = {
    ROW("size", SLUICE_TYPE_SIZE, 0, SECTOR, NO_LIMIT, NULL, NULL,
        "Created at this size, or grown to it; without it the backing's.", disk_config, size_bytes,
        PLAN_GROW),
    ROW("group", TYPE_NAME, 0, 0, 0, NULL, NULL,
        "Disks that fail over to one instant; without it the disk alone.", disk_config, group,
        PLAN_RESTART),
    ROW("policy", TYPE_NAME, 0, 0, 0, NULL, NULL, "The policy it starts from, of policies.d/.",
        disk_config, policy, PLAN_KIND_COUNT),
    ROW("uuid", TYPE_UUID, KEY_NOT_IN_POLICY, 0, 0, NULL, NULL,
        "Its identity; without it one is made and kept.", disk_config, uuid, PLAN_KIND_COUNT),
    ROW("read_only", SLUICE_TYPE_BOOL, 0, 0, 0, "false", NULL, "Whether writes are refused.",
        disk_config, is_read_only, PLAN_RESTART),
    MAP("backing", KEY_REQUIRED, "Where its bytes live.", disk_config, backing, backing_table),
    ROW("reconnect", SLUICE_TYPE_DURATION, 0, 0, 365 * DAY, "0s", NULL,
        "How long requests wait for a lost nbd or iscsi backing before they fail; 0s: for ever.",
        disk_config, reconnect_ns, PLAN_RESTART),
    GROUP("export", "Who may have it, and how.", export_table),
    ROW("deadline", SLUICE_TYPE_DURATION, 0, 0, DAY, NULL, NULL,
        "A request older than that is a stall; 0s: never. Without it limits.deadline.", disk_config,
        deadline_ns, PLAN_SETTINGS),
    ROW("on_stall", SLUICE_TYPE_ENUM, 0, STALL_WAIT, 0, "wait", "wait|fail",
        "What happens to a stalled request; filters may have their own.", disk_config, on_stall,
        PLAN_SETTINGS),
    {{"filters", TYPE_FILTERS, 0, 0, 0, NULL, NULL, "The chain, guest side first."},
     0,
     NULL,
     PLAN_KIND_COUNT,
     NULL},
};

static void check_disk(struct binder *b, const struct config_node *node, void *base)
{
    const struct disk_config *disk = base;
    const struct config_node *size = node_get(node, "size");

    if (size && disk->size_bytes % SECTOR != 0)
        binder_say_at(b, &size->at, "size", "%s is not a multiple of %d", size->text, SECTOR);
}
const struct config_table config_disk_table = {
    TABLE(disk_keys), .struct_bytes = sizeof(struct disk_config), .check = check_disk};

/* --- what any filter takes ---------------------------------------------------------------------
 */

static const struct config_key instance_keys[] = {
    ROW("name", TYPE_NAME, 0, 0, 0, NULL, NULL,
        "The instance's name, when a disk has two of one filter.", filter_config, name,
        PLAN_REPLACE),
    ROW("rank", SLUICE_TYPE_INTEGER, 0, -1000, 1000, "0", NULL,
        "Its place among filters of its class: the lowest is nearest to the guest.", filter_config,
        rank, PLAN_REORDER),
    ROW("on_stall", SLUICE_TYPE_ENUM, 0, STALL_WAIT, 0, NULL, "wait|fail|bypass",
        "What happens to a request that it holds past the deadline.", filter_config, on_stall,
        PLAN_POLICY_CHANGE),
    ROW("on_attach_failure", SLUICE_TYPE_ENUM, 0, ATTACH_REFUSE, 0, "refuse", "refuse|bypass",
        "What happens to the disk when it cannot be attached.", filter_config, on_attach_failure,
        PLAN_POLICY_CHANGE),
};
const struct config_table config_instance_table = {TABLE(instance_keys),
                                                   .struct_bytes = sizeof(struct filter_config)};
