/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test-config: what the config room hands to others: the structures, the helpers, the limits.
 *
 * Sentences and plans stand in tests/config/ as tables; here is what a table cannot show.  Reaches
 * into the room's private header for texts in memory, for the chain's pure functions, and for the
 * limit on memory.
 */
#include "config/internal.h"
#include "fake-filters.h"
#include "unit.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

static struct config_problems problems;
static struct config_lookup lookup;
static char folder[200];

/* --- helpers -----------------------------------------------------------------------------------
 */

static const char *in_folder(const char *name)
{
    static char path[4][256];
    static unsigned which;
    char *p = path[which++ % 4];

    snprintf(p, sizeof path[0], "%s/%s", folder, name);
    return p;
}

static void write_file(const char *name, const char *text, mode_t mode)
{
    int fd = open(in_folder(name), O_WRONLY | O_CREAT | O_TRUNC, 0600);

    CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    CHECK_EQ(fchmod(fd, mode), 0);
    close(fd);
}

/* gateway.yaml, disks.d/a.yaml, disks.d/b.yaml, policies.d/gold.yaml; NULL: not there. */
static int load_limited(const char *gateway, const char *a, const char *b, const char *gold,
                        size_t limit, struct gateway_config **out)
{
    const char *const files[] = {gateway, a, b, gold};
    static const char *const names[] = {"gateway.yaml", "disks.d/a.yaml", "disks.d/b.yaml",
                                        "policies.d/gold.yaml"};
    struct config_text texts[4];
    unsigned count = 0;

    for (unsigned i = 0; i < 4; i++)
        if (files[i])
            texts[count++] = (struct config_text){names[i], files[i], strlen(files[i])};
    memset(&problems, 0, sizeof problems);
    return config_load_texts(folder, texts, count, &lookup, limit, out, &problems);
}

static struct gateway_config *load(const char *gateway, const char *a, const char *b,
                                   const char *gold)
{
    struct gateway_config *config;
    int r = load_limited(gateway, a, b, gold, CONFIG_MEMORY_MAX, &config);

    CHECK_EQ(r, 0);
    config_problems_print(&problems, stderr);
    return config;
}

static bool said(const char *text)
{
    for (unsigned i = 0; i < problems.count; i++)
        if (strstr(problems.problem[i].text, text))
            return true;
    return false;
}

static const char full_gateway[] = "gateway: gw-a\n"
                                   "state: state\n"
                                   "listen:\n"
                                   "  nbd: [\"0.0.0.0:10809\", \"[::1]:10810\", \"unix:n.sock\"]\n"
                                   "tls: { ca: ca.pem, cert: ca.pem, key: key }\n"
                                   "peers: { z: { address: \"z.example:1\" }, "
                                   "b: { address: \"10.0.0.2:2\", iscsi: [\"10.0.1.2:3260\"] } }\n"
                                   "tiers: { ssd0: { path: /ssd, size: 100GiB } }\n"
                                   "memory: 2GiB\n"
                                   "limits: { nbd_in_flight: 64, deadline: 30s, quiesce: 1s }\n"
                                   "log: { level: warning }\n"
                                   "nbdkit: { filters: [stats, log: {logfile: /tmp/l, x: 1}] }\n";
static const char full_disk[] =
    "size: 64GiB\n"
    "group: vm\n"
    "policy: gold\n"
    "uuid: 4E3F0A52-7c1d-4b7e-9f00-5d2c8f6a9b1e\n"
    "backing: { nbd: \"nbd://san/a\", tls: pki, keep: 1MiB }\n"
    "reconnect: 30s\n"
    "export:\n"
    "  nbd: { exclusive: true, listed: false }\n"
    "filters:\n"
    "  - replication: { mode: async, journal: j }\n"
    "  - qos: { name: low, at: backing, bandwidth: 10MiB/s, on_stall: bypass }\n";
static const char gold[] =
    "on_stall: fail\n"
    "export: { nbd: { networks: [\"10.0.0.0/8\", \"2001:db8::/32\"], exclusive: false } }\n"
    "filters:\n"
    "  - cache: { ssd: { tier: ssd0, size: 1GiB } }\n";

/* --- structures --------------------------------------------------------------------------------
 */

static void test_gateway_is_bound(void)
{
    struct gateway_config *c = load(full_gateway, NULL, NULL, NULL);

    CHECK_STR(c->name, "gw-a");
    CHECK_STR(c->state, in_folder("state"));
    CHECK_EQ(c->listen.nbd.count, 3);
    CHECK_EQ(c->listen.nbd.item[0].kind, ADDRESS_TCP);
    CHECK_STR(c->listen.nbd.item[0].host, "0.0.0.0");
    CHECK_EQ(c->listen.nbd.item[0].port, 10809);
    CHECK(!c->listen.nbd.item[0].is_loopback);
    CHECK_STR(c->listen.nbd.item[1].host, "::1");
    CHECK(c->listen.nbd.item[1].is_loopback);
    CHECK_EQ(c->listen.nbd.item[2].kind, ADDRESS_UNIX);
    CHECK_STR(c->listen.nbd.item[2].path, in_folder("n.sock"));
    CHECK_EQ(c->listen.nbd.item[2].origin.line, 4);
    CHECK_STR(c->listen.control.path, in_folder("state/control.sock"));
    CHECK(c->tls.is_set);
    CHECK_STR(c->tls.key, in_folder("key"));
    CHECK_EQ(c->peer_count, 2);
    CHECK_STR(c->peers[0].name, "b"); /* sorted */
    CHECK_STR(c->peers[0].iscsi.item[0].text, "10.0.1.2:3260");
    CHECK_STR(c->peers[1].address.host, "z.example");
    CHECK_EQ(c->tiers[0].size_bytes, 100ull << 30);
    CHECK_EQ(c->memory_bytes, 2ull << 30);
    CHECK_EQ(c->limits.nbd_in_flight, 64);
    CHECK_EQ(c->limits.deadline_ns, 30000000000);
    CHECK_EQ(c->limits.quiesce_ns, 1000000000);
    CHECK_EQ(c->limits.event_ns, 10000000000);
    CHECK_EQ(c->limits.prepare_ns, 60000000000);
    CHECK_EQ(c->log_level, LOG_LEVEL_WARNING);
    CHECK_EQ(c->nbdkit_filter_count, 2);
    CHECK_EQ(c->nbdkit_filters[0].arguments.count, 0);
    CHECK_STR(c->nbdkit_filters[1].arguments.item[0], "logfile=/tmp/l");
    CHECK_STR(c->nbdkit_filters[1].arguments.item[1], "x=1");
    CHECK(c->nbdkit_filters[1].arguments.item[2] == NULL);
    config_free(c);
}

static void test_disk_is_bound_over_its_policy(void)
{
    struct gateway_config *c = load(full_gateway, full_disk, NULL, gold);
    const struct disk_config *d = config_find_disk(c, "a");

    CHECK(d && !config_find_disk(c, "b"));
    CHECK_STR(d->group, "vm");
    CHECK_STR(d->policy, "gold");
    CHECK_STR(d->uuid, "4e3f0a52-7c1d-4b7e-9f00-5d2c8f6a9b1e");
    CHECK_EQ(d->size_bytes, 64ull << 30);
    CHECK_EQ(d->backing.kind, BACKING_NBD);
    CHECK_EQ(d->backing.keep_bytes, 1 << 20);
    CHECK_EQ(d->reconnect_ns, 30000000000);
    CHECK_EQ(d->deadline_ns, 30000000000); /* limits.deadline */
    CHECK_EQ(d->on_stall, STALL_FAIL);     /* the policy's */
    CHECK(d->nbd.is_enabled && d->nbd.is_exclusive && !d->nbd.is_listed);
    CHECK_EQ(d->nbd.tls, EXPORT_TLS_REQUIRE);
    CHECK_EQ(d->nbd.networks.count, 2);
    CHECK(d->iscsi.is_enabled); /* where the gateway listens for it */
    CHECK_STR(d->origin.file, "disks.d/a.yaml");
    config_free(c);
}

static void test_filters_are_in_chain_order(void)
{
    struct gateway_config *c = load(full_gateway, full_disk, NULL, gold);
    const struct filter_config *f = config_find_disk(c, "a")->filters;

    CHECK_EQ(config_find_disk(c, "a")->filter_count, 3);
    CHECK_STR(f[0].name, "replication");
    CHECK_STR(f[0].values[0].string, "async");
    CHECK_EQ(f[0].values[0].integer, 1);
    CHECK_EQ(f[0].values[1].integer, 5000000000); /* default */
    CHECK(!f[0].values[2].is_set && !f[0].values[2].string);
    CHECK_STR(f[0].values[3].string, in_folder("j"));
    CHECK_EQ(f[0].on_stall, STALL_FAIL); /* the disk's */
    CHECK_STR(f[1].name, "cache");
    CHECK_STR(f[1].values[2].string, "ssd0");
    CHECK_EQ(f[1].values[3].integer, 1 << 30);
    CHECK_STR(f[1].origin.file, "policies.d/gold.yaml");
    CHECK_STR(f[2].name, "low");
    CHECK_STR(f[2].filter->name, "qos");
    CHECK_EQ(f[2].filter_class, SLUICE_CLASS_BACKING_CONTROL);
    CHECK_EQ(f[2].values[1].integer, 10 << 20);
    CHECK_EQ(f[2].on_stall, STALL_BYPASS);
    config_free(c);
}

static void test_what_is_left_out(void)
{
    struct gateway_config *c = load("gateway: g\nlisten:\nlog: ~\n",
                                    "backing: {file: x}\nfilters:\nexport:\n", NULL, NULL);
    const struct disk_config *d = config_find_disk(c, "a");

    CHECK_STR(c->state, "/var/lib/sluice");
    CHECK_STR(c->listen.control.path, "/var/lib/sluice/control.sock");
    CHECK_STR(c->listen.nbd.item[0].text, "127.0.0.1:10809");
    CHECK_EQ(c->limits.nbd_in_flight, 32);
    CHECK_EQ(c->log_level, LOG_LEVEL_INFO);
    CHECK(!c->tls.is_set && c->memory_bytes == 0);
    CHECK_STR(d->group, "a");
    CHECK(!d->policy && !d->uuid && d->size_bytes == 0 && d->filter_count == 0);
    CHECK_STR(d->backing.file, in_folder("x"));
    CHECK_EQ(d->deadline_ns, 20000000000);
    config_free(c);
    c = load("gateway: g\nlisten: {nbd: []}\n", "backing: {file: x}\ndeadline: 0s\n", NULL, NULL);
    CHECK_EQ(c->listen.nbd.count, 0);
    CHECK_EQ(c->disks[0].deadline_ns, 0);
    config_free(c);
}

static void test_iscsi_export(void)
{
    static const char text[] = "export: {iscsi: {iqn: \"iqn.2001-04.com.example:a\", lun: 3, "
                               "chap: secret, initiators: [\"iqn.2001-04.com.example:h\"], "
                               "networks: [\"10.0.0.0/8\"]}}\nbacking: {file: x}\n";
    struct binder b = {
        .arena = arena_create(1 << 20), .problems = &problems, .lookup = &lookup, .folder = folder};
    struct disk_config d = {.name = "a"};

    memset(&problems, 0, sizeof problems);
    write_file("secret", "user:secret", 0600);
    bind_table(&b, &config_disk_table, yaml_parse(&b, "a", text, strlen(text)), &d);
    CHECK_EQ(problems.count, 0);
    CHECK(d.iscsi.is_enabled);
    CHECK_EQ(d.iscsi.lun, 3);
    CHECK_STR(d.iscsi.iqn, "iqn.2001-04.com.example:a");
    CHECK_STR(d.iscsi.chap, in_folder("secret"));
    CHECK_EQ(d.iscsi.initiators.count, 1);
    CHECK_EQ(d.iscsi.networks.item[0].prefix_bits, 8);
    arena_destroy(b.arena);
}

/* --- policies ----------------------------------------------------------------------------------
 */

static void test_policy_item_without_options_changes_nothing(void)
{
    struct gateway_config *c =
        load("gateway: g", "policy: gold\nbacking: {file: x}\nfilters: [cache]", NULL,
             "filters: [cache: {ram: 1GiB}]");

    CHECK_EQ(c->disks[0].filter_count, 1);
    CHECK_EQ(c->disks[0].filters[0].values[1].integer, 1 << 30);
    config_free(c);
}

static void test_policy_filter_is_turned_off(void)
{
    struct gateway_config *c =
        load("gateway: g", "policy: gold\nbacking: {file: x}\nfilters: [cache: off]", NULL,
             "filters: [passthru, cache: {ram: 1GiB}]");

    CHECK_EQ(c->disks[0].filter_count, 1);
    CHECK_STR(c->disks[0].filters[0].name, "passthru");
    config_free(c);
}

static void test_policy_filter_is_named(void)
{
    struct gateway_config *c =
        load("gateway: g",
             "policy: gold\nbacking: {file: x}\nfilters: [qos: {name: b, iops: 7}, y: off]", NULL,
             "filters: [qos: {name: b, iops: 1, burst: 9s}, qos: {name: y}]");

    CHECK_EQ(c->disks[0].filter_count, 1);
    CHECK_STR(c->disks[0].filters[0].name, "b");
    CHECK_EQ(c->disks[0].filters[0].values[0].integer, 7);
    CHECK_EQ(c->disks[0].filters[0].values[2].integer, 9000000000);
    config_free(c);
}

static void test_one_policy_serves_many_disks(void)
{
    struct gateway_config *c =
        load("gateway: g", "policy: gold\nbacking: {file: x}\nfilters: [cache: {ram: 2GiB}]",
             "policy: gold\nbacking: {file: y}\n", "filters: [cache: {mode: write-around}]");

    CHECK_EQ(c->disks[0].filters[0].values[1].integer, 2ll << 30);
    CHECK_EQ(c->disks[0].filters[0].values[0].integer, 2);
    CHECK_EQ(c->disks[1].filters[0].values[1].integer, 64 << 20);
    CHECK_EQ(c->disks[1].filters[0].values[0].integer, 2);
    config_free(c);
}

/* --- inline ------------------------------------------------------------------------------------
 */

static void test_inline_disk(void)
{
    struct gateway_config *c;
    char here[4096], want[4200];

    CHECK_EQ(config_load_inline("d", "{backing: {file: d.raw}, filters: [{cache: {ram: 64MiB}}]}",
                                &lookup, &c, &problems),
             0);
    CHECK(getcwd(here, sizeof here));
    snprintf(want, sizeof want, "%s/d.raw", here);
    CHECK_EQ(c->disk_count, 1);
    CHECK_STR(c->disks[0].name, "d");
    CHECK_STR(c->disks[0].backing.file, want);
    CHECK_EQ(c->disks[0].deadline_ns, 20000000000);
    CHECK(!c->state && c->listen.nbd.count == 0 && !c->listen.control.path);
    CHECK_EQ(c->limits.quiesce_ns, 2000000000);
    config_free(c);
    CHECK_EQ(config_load_inline("d", "{backing: {file: d.raw}, policy: x, siez: 1}", &lookup, &c,
                                &problems),
             -EINVAL);
    CHECK(!c);
    CHECK_EQ(problems.count, 2);
    CHECK_STR(problems.problem[0].file, "disk=");
    CHECK_EQ(problems.problem[1].column, 37);
}

/* --- networks, TLS -----------------------------------------------------------------------------
 */

static bool contains(const char *network, const char *client)
{
    static const struct config_key key = {.option = {.type = TYPE_NETWORK}};
    struct binder b = {.arena = arena_create(1 << 16), .problems = &problems};
    struct config_node *node = node_make_scalar(b.arena, network);
    struct config_network out = {.text = NULL};
    struct sockaddr_in6 six = {.sin6_family = AF_INET6};
    struct sockaddr_in four = {.sin_family = AF_INET};
    bool is_in;

    CHECK(network_bind(&b, &key, node, &out));
    if (inet_pton(AF_INET, client, &four.sin_addr) == 1)
        is_in = config_network_contains(&out, (const void *)&four);
    else {
        CHECK_EQ(inet_pton(AF_INET6, client, &six.sin6_addr), 1);
        is_in = config_network_contains(&out, (const void *)&six);
    }
    arena_destroy(b.arena);
    return is_in;
}

static void test_networks(void)
{
    CHECK(contains("10.0.0.0/24", "10.0.0.255"));
    CHECK(!contains("10.0.0.0/24", "10.0.1.0"));
    CHECK(contains("10.0.0.0/23", "10.0.1.0"));
    CHECK(contains("10.0.0.7", "10.0.0.7"));
    CHECK(!contains("10.0.0.7", "10.0.0.6"));
    CHECK(contains("0.0.0.0/0", "255.1.2.3"));
    CHECK(!contains("0.0.0.0/0", "::1"));
    CHECK(contains("10.0.0.0/24", "::ffff:10.0.0.9"));
    CHECK(contains("2001:db8::/32", "2001:db8:ffff::1"));
    CHECK(!contains("2001:db8::/32", "2001:db9::1"));
    CHECK(!contains("::/0", "10.0.0.1"));
    CHECK(contains("::1", "::1"));
}

static bool needs_tls(const struct disk_config *disk, const char *address)
{
    struct sockaddr_in four = {.sin_family = AF_INET};

    CHECK_EQ(inet_pton(AF_INET, address, &four.sin_addr), 1);
    return config_needs_tls(disk, (const void *)&four);
}

static void test_tls_is_needed_where_it_is_not_spelled_out(void)
{
    struct sockaddr local = {.sa_family = AF_UNIX};
    struct disk_config disk = {.nbd = {.tls = EXPORT_TLS_REQUIRE}};

    CHECK(needs_tls(&disk, "192.0.2.1"));
    CHECK(!needs_tls(&disk, "127.0.0.2"));
    CHECK(!config_needs_tls(&disk, &local));
    disk.nbd.tls = EXPORT_TLS_OFF;
    CHECK(!needs_tls(&disk, "192.0.2.1"));
}

static enum config_tls_mode tls_mode(const char *listen, const char *tls, const char *disk_tls)
{
    char gateway[512], disk[256];
    struct gateway_config *c;
    enum config_tls_mode mode;

    snprintf(gateway, sizeof gateway, "gateway: g\nlisten: {nbd: [%s]}\n%s", listen, tls);
    snprintf(disk, sizeof disk, "backing: {file: x}\nexport: {nbd: {tls: %s}}", disk_tls);
    c = load(gateway, disk, NULL, NULL);
    mode = config_tls_mode(c);
    config_free(c);
    return mode;
}

static void test_tls_mode(void)
{
    static const char tls[] = "tls: { ca: ca.pem, cert: ca.pem, key: key }\n";

    CHECK_EQ(tls_mode("\"192.0.2.1:1\"", tls, "require"), CONFIG_TLS_REQUIRE);
    CHECK_EQ(tls_mode("\"192.0.2.1:1\", \"127.0.0.1:1\"", tls, "require"), CONFIG_TLS_ON);
    CHECK_EQ(tls_mode("\"192.0.2.1:1\"", tls, "off"), CONFIG_TLS_ON);
    CHECK_EQ(tls_mode("\"192.0.2.1:1\"", "", "off"), CONFIG_TLS_OFF);
    CHECK_EQ(tls_mode("\"unix:/s\"", "", "require"), CONFIG_TLS_OFF);
}

static void test_clients_with_a_newer_nbdkit(void)
{
    static const char disk[] = "backing: {file: x}\nexport: {nbd: {clients: [hv1, hv2]}}";
    struct gateway_config *c;

    fake_lookup(&lookup, 40);
    c = load(full_gateway, disk, NULL, NULL);
    CHECK_EQ(c->disks[0].nbd.clients.count, 2);
    CHECK_STR(c->disks[0].nbd.clients.item[1], "hv2");
    config_free(c);
    fake_lookup(&lookup, 0);
}

/* --- for other rooms ---------------------------------------------------------------------------
 */

static void test_disk_settings(void)
{
    struct gateway_config *c = load(full_gateway, full_disk, NULL, gold);
    struct disk_settings s;

    config_disk_settings(c, &c->disks[0], &s);
    CHECK_STR(s.name, "a");
    CHECK_STR(s.group, "vm");
    CHECK_STR(s.state_root, c->state);
    CHECK_EQ(s.size_bytes, 64ull << 30);
    CHECK_EQ(s.quiesce_limit_ns, 1000000000);
    CHECK_EQ(s.on_stall, STALL_FAIL);
    config_free(c);
}

static struct gateway_config *load_backing(const char *backing, struct backing_spec *spec,
                                           struct config_chap *chap)
{
    char text[512];
    struct gateway_config *c;
    struct err e = {0};

    snprintf(text, sizeof text, "read_only: true\nreconnect: 5s\nbacking: %s\n", backing);
    c = load("gateway: g", text, NULL, NULL);
    CHECK_EQ(config_backing_spec(&c->disks[0], spec, chap, &e), 0);
    CHECK(spec->read_only && spec->reconnect_ns == 5000000000);
    CHECK_STR(spec->disk, "a");
    return c;
}

static void test_backing_specs(void)
{
    struct backing_spec spec;
    struct config_chap chap;
    struct gateway_config *c;

    c = load_backing("{file: x.raw, direct: true}", &spec, &chap);
    CHECK(spec.kind == BACKING_FILE && spec.direct);
    CHECK_STR(spec.path, in_folder("x.raw"));
    config_free(c);
    c = load_backing("{nbd: \"nbds://h/e\", tls: pki, keep: 8MiB, settle: 1s}", &spec, &chap);
    CHECK(spec.kind == BACKING_NBD && spec.keep_bytes == 8 << 20);
    CHECK_EQ(spec.settle_ns, 1000000000);
    CHECK_STR(spec.uri, "nbds://h/e");
    CHECK_STR(spec.tls_certificates, in_folder("pki"));
    config_free(c);
    write_file("secret", "user:secret:with:colons\n", 0600);
    c = load_backing("{iscsi: \"iscsi://h/iqn.x/0\", chap: secret, initiator: \"iqn.y:z\"}", &spec,
                     &chap);
    CHECK_EQ(spec.kind, BACKING_ISCSI);
    CHECK_STR(spec.uri, "iscsi://h/iqn.x/0");
    CHECK_STR(spec.chap_user, "user");
    CHECK_STR(spec.chap_secret, "secret:with:colons");
    CHECK_STR(spec.initiator_name, "iqn.y:z");
    config_free(c);
    c = load_backing("{nbdkit: {plugin: memory, args: {size: 1G, a: true}, filters: [delay]}}",
                     &spec, &chap);
    CHECK_EQ(spec.kind, BACKING_NBDKIT);
    CHECK_STR(spec.plugin, "memory");
    CHECK_STR(spec.arguments[0], "size=1G");
    CHECK_STR(spec.arguments[1], "a=true");
    CHECK(!spec.arguments[2] && !spec.filters[1]);
    CHECK_STR(spec.filters[0], "delay");
    config_free(c);
}

static int read_chap(const char *text, mode_t mode)
{
    struct config_chap chap;
    struct err e = {0};
    int r;

    write_file("chap", text, mode);
    r = config_read_chap(in_folder("chap"), &chap, &e);
    CHECK((r == 0) == (e.text[0] == '\0'));
    CHECK(!strstr(e.text, "hush")); /* a sentence never holds the secret */
    return r;
}

static void test_secrets(void)
{
    char line[600];
    struct err e = {0};
    struct config_chap chap;

    CHECK_EQ(read_chap("u:hush", 0600), 0);
    CHECK_EQ(read_chap("u:hush\r\n", 0400), 0);
    CHECK_EQ(read_chap("u:hush\n", 0640), -EACCES);
    CHECK_EQ(read_chap("u:hush\n", 0602), -EACCES);
    CHECK_EQ(read_chap("hush", 0600), -EINVAL);
    CHECK_EQ(read_chap(":hush", 0600), -EINVAL);
    CHECK_EQ(read_chap("hush:", 0600), -EINVAL);
    CHECK_EQ(read_chap("", 0600), -EINVAL);
    CHECK_EQ(read_chap("a:hush\nb:hush\n", 0600), -EINVAL);
    memset(line, 'x', sizeof line - 1);
    line[sizeof line - 1] = '\0';
    line[3] = ':';
    CHECK_EQ(read_chap(line, 0600), -EINVAL);
    CHECK_EQ(config_read_chap(in_folder("gone"), &chap, &e), -ENOENT);
    CHECK_EQ(config_read_chap(folder, &chap, &e), -EACCES);
}

static void test_names(void)
{
    char name[66] = "";

    CHECK(config_name_is_valid("vm17-root.0_x"));
    CHECK(!config_name_is_valid("") && !config_name_is_valid(".x") && !config_name_is_valid("-x"));
    CHECK(!config_name_is_valid("a/b") && !config_name_is_valid("a b") &&
          !config_name_is_valid("\xc3\xa4"));
    memset(name, 'a', 63);
    CHECK(config_name_is_valid(name));
    name[63] = 'a';
    CHECK(!config_name_is_valid(name));
}

/* --- chain -------------------------------------------------------------------------------------
 */

static void test_misplaced(void)
{
    static const uint32_t good[] = {1, 2, 2, 5, 6, 7}, bad[] = {2, 6, 7, 5, 1};
    unsigned item = 0, above = 0;

    CHECK(!chain_find_misplaced(good, ARRAY_SIZE(good), &item, &above));
    CHECK(!chain_find_misplaced(good, 0, &item, &above));
    CHECK(chain_find_misplaced(bad, ARRAY_SIZE(bad), &item, &above));
    CHECK_EQ(item, 3);
    CHECK_EQ(above, 1);
}

static void test_needs(void)
{
    static const struct sluice_filter wants_plain = {.needs = SLUICE_NEEDS_PLAINTEXT};
    static const struct sluice_filter wants_size = {.needs = SLUICE_NEEDS_FINAL_SIZE};
    static const struct sluice_filter changes = {.traits = SLUICE_TRAIT_CHANGES_DATA};
    struct filter_config chain[3] = {
        {.filter = &wants_plain, .filter_class = SLUICE_CLASS_INSPECTION},
        {.filter = &changes, .filter_class = SLUICE_CLASS_ENCRYPTION},
        {.filter = &wants_size, .filter_class = SLUICE_CLASS_REPLICATION},
    };
    struct chain_fault fault;

    CHECK(!chain_find_broken_need(chain, 3, 0, &fault)); /* plaintext above it; lengths are kept */
    chain[1].filter_class = SLUICE_CLASS_COMPRESSION;
    CHECK(chain_find_broken_need(chain, 3, 0, &fault));
    CHECK(fault.filter == 2 && fault.other == 1);
    chain[0].filter = &wants_size; /* also when what changes lengths is below */
    CHECK(chain_find_broken_need(chain, 2, 0, &fault));
    CHECK(fault.filter == 0 && fault.other == 1);
}

/* --- limits ------------------------------------------------------------------------------------
 */

static void test_problems_are_bounded(void)
{
    char text[2000] = "gateway: g\n", *p = text + strlen(text);
    struct gateway_config *c;

    for (int i = 30; i > 0; i--)
        p += sprintf(p, "unknown%02d: 1\n", i);
    CHECK_EQ(load_limited(text, NULL, NULL, NULL, CONFIG_MEMORY_MAX, &c), -EINVAL);
    CHECK_EQ(problems.count, CONFIG_PROBLEMS_MAX);
    CHECK_EQ(problems.dropped, 10);
    for (unsigned i = 1; i < problems.count; i++)
        CHECK(problems.problem[i - 1].line < problems.problem[i].line);
}

static void test_values_are_shortened_in_sentences(void)
{
    char text[2000];
    struct gateway_config *c;

    snprintf(text, sizeof text, "gateway: \"%0900d \\x1b[31m\\n\"", 0);
    CHECK_EQ(load_limited(text, NULL, NULL, NULL, CONFIG_MEMORY_MAX, &c), -EINVAL);
    CHECK(strlen(problems.problem[0].text) < 300);
    snprintf(text, sizeof text, "gateway: \"x\\x1b[31m\\ny\"");
    CHECK_EQ(load_limited(text, NULL, NULL, NULL, CONFIG_MEMORY_MAX, &c), -EINVAL);
    CHECK(said("\"x?[31m?y\""));
}

static void test_documents_are_bounded(void)
{
    size_t size = YAML_BYTES_MAX + 2;
    char *text = malloc(size), *p = text;
    struct gateway_config *c;

    p += sprintf(p, "gateway: g\nlisten: {nbd: [");
    for (int i = 0; i <= (int)YAML_NODES_MAX; i++)
        p += sprintf(p, "a,");
    CHECK_EQ(load_limited(text, NULL, NULL, NULL, CONFIG_MEMORY_MAX, &c), -EINVAL);
    CHECK_EQ(problems.count, 1); /* not also that the rest is missing */
    CHECK(said("more than 5000 values"));
    memset(text, '#', size);
    text[size - 1] = '\0';
    CHECK_EQ(load_limited(text, NULL, NULL, NULL, CONFIG_MEMORY_MAX, &c), -EINVAL);
    CHECK(said("larger than 1048576 bytes"));
    free(text);
}

static void test_little_memory_is_an_error(void)
{
    struct gateway_config *c = NULL;
    size_t limit = 0;
    int r = -ENOMEM;

    for (; limit < (1u << 20); limit += 48) {
        r = load_limited(full_gateway, full_disk, NULL, gold, limit, &c);
        if (r != -ENOMEM)
            break;
        CHECK(!c);
    }
    CHECK_EQ(r, 0);
    CHECK_EQ(problems.count, 0);
    CHECK(limit > 4096);
    config_free(c);
}

static void test_folder_that_is_not_there(void)
{
    struct gateway_config *c;

    CHECK_EQ(config_load(in_folder("nowhere"), &lookup, &c, &problems), -EINVAL);
    CHECK(said("No such file"));
    config_free(NULL);
    config_plan_free(NULL);
}

static void test_folder_in_a_files_place(void)
{
    struct gateway_config *c;
    char path[300];

    snprintf(path, sizeof path, "%s", in_folder("placed"));
    CHECK_EQ(mkdir(path, 0700), 0);
    snprintf(path, sizeof path, "%s", in_folder("placed/gateway.yaml"));
    CHECK_EQ(mkdir(path, 0700), 0);
    CHECK_EQ(config_load(in_folder("placed"), &lookup, &c, &problems), -EINVAL);
    CHECK(said("cannot be read: Is a directory"));
    CHECK_EQ(rmdir(path), 0);
    CHECK_EQ(rmdir(in_folder("placed")), 0);
}

static void test_filter_by_path_and_without_names(void)
{
    struct gateway_config *c =
        load("gateway: g", "backing: {file: x}\nfilters: [\"./cache\": {ram: 1GiB}]", NULL, NULL);

    CHECK_STR(c->disks[0].filters[0].name, "cache");
    config_free(c);
    lookup.filter_names = NULL;
    CHECK_EQ(load_limited("gateway: g", "backing: {file: x}\nfilters: [cahce, cache]", NULL, NULL,
                          CONFIG_MEMORY_MAX, &c),
             -EINVAL);
    CHECK(said("filter cahce: was built for filter API version 9"));
    fake_lookup(&lookup, 0);
}

/* --- effective ---------------------------------------------------------------------------------
 */

static void test_effective_tells_every_origin(void)
{
    struct gateway_config *c = load(full_gateway, full_disk, NULL, gold);
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    struct err e = {0};

    CHECK_EQ(config_print_effective(out, c, "a", &e), 0);
    CHECK_EQ(config_print_effective(out, c, "nobody", &e), -ENOENT);
    CHECK_STR(e.text, "there is no disk nobody");
    fclose(out);
    CHECK(strstr(text, "size: 64GiB                              # disks.d/a.yaml:1:7\n"));
    CHECK(strstr(text, "on_stall: fail                           # policies.d/gold.yaml:1:11\n"));
    CHECK(strstr(text, "    exclusive: true                      # disks.d/a.yaml:8:21\n"));
    CHECK(strstr(text, "      - \"10.0.0.0/8\"                     # policies.d/gold.yaml:2:29\n"));
    CHECK(strstr(
        text, "deadline: 30s                            # gateway.yaml:9:40, limits.deadline\n"));
    CHECK(strstr(text, "        tier: ssd0                       # policies.d/gold.yaml:4:27\n"));
    CHECK(strstr(text, "      ram: 64MiB                         # default\n"));
    CHECK(!strstr(text, "policy:"));
    free(text);
    config_free(c);
}

/* --- threads -----------------------------------------------------------------------------------
 */

static void *load_many_times(void *arg)
{
    struct config_problems *own = calloc(1, sizeof *own);
    const struct config_text texts[] = {
        {"gateway.yaml", full_gateway, sizeof full_gateway - 1},
        {"policies.d/gold.yaml", gold, sizeof gold - 1},
        {"disks.d/a.yaml", full_disk, sizeof full_disk - 1},
    };
    struct gateway_config *c;

    for (int i = 0; i < 50; i++) {
        CHECK_EQ(config_load_texts(folder, texts, 3, arg, CONFIG_MEMORY_MAX, &c, own), 0);
        config_free(c);
    }
    free(own);
    return NULL;
}

static void test_loads_share_nothing(void)
{
    pthread_t threads[4];

    for (int i = 0; i < 4; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, load_many_times, &lookup), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
}

int main(void)
{
    const char *tmp = getenv("TMPDIR");

    snprintf(folder, sizeof folder, "%s/test-config.XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(folder))
        return 1;
    fake_lookup(&lookup, 0);
    write_file("ca.pem", "x", 0644);
    write_file("key", "x", 0600);
    RUN(test_gateway_is_bound);
    RUN(test_disk_is_bound_over_its_policy);
    RUN(test_filters_are_in_chain_order);
    RUN(test_what_is_left_out);
    RUN(test_iscsi_export);
    RUN(test_policy_item_without_options_changes_nothing);
    RUN(test_policy_filter_is_turned_off);
    RUN(test_policy_filter_is_named);
    RUN(test_one_policy_serves_many_disks);
    RUN(test_inline_disk);
    RUN(test_networks);
    RUN(test_tls_is_needed_where_it_is_not_spelled_out);
    RUN(test_tls_mode);
    RUN(test_clients_with_a_newer_nbdkit);
    RUN(test_disk_settings);
    RUN(test_backing_specs);
    RUN(test_secrets);
    RUN(test_names);
    RUN(test_misplaced);
    RUN(test_needs);
    RUN(test_problems_are_bounded);
    RUN(test_values_are_shortened_in_sentences);
    RUN(test_documents_are_bounded);
    RUN(test_little_memory_is_an_error);
    RUN(test_folder_that_is_not_there);
    RUN(test_folder_in_a_files_place);
    RUN(test_filter_by_path_and_without_names);
    RUN(test_effective_tells_every_origin);
    RUN(test_loads_share_nothing);
    unlink(in_folder("ca.pem"));
    unlink(in_folder("key"));
    unlink(in_folder("secret"));
    unlink(in_folder("chap"));
    rmdir(folder);
    return unit_result();
}
