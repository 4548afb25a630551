/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * crosscheck: what no file can see by itself: two disks with one backing, one UUID, one LUN; two
 * listeners on one port; a tier that is named and not there; disks of a group that differ where
 * they must not; TLS that is wanted but cannot be had.
 *
 * Looks at files (realpath, stat) but opens none.  The later of two is the one that is blamed, with
 * the place of the first.
 */
#include "config/internal.h"

#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* --- things of which there may be one ----------------------------------------------------------
 */

/* Somebody's claim on a word that must be unique. */
struct claim {
    const char *word;
    const char *shown; /* as people wrote it */
    const char *owner; /* "disk vm-17" */
    const char *path;  /* of the key */
    struct config_origin at;
    unsigned number; /* order of appearance */
};
struct claims {
    struct claim *claim;
    unsigned count;
};

static bool claims_init(struct binder *b, struct claims *claims, size_t most)
{
    claims->claim = arena_alloc(b->arena, (most + 1) * sizeof *claims->claim);
    claims->count = 0;
    return claims->claim;
}

/* shown NULL: the text of the node. */
static void claims_add(struct claims *claims, const char *word, const char *shown,
                       const char *owner, const char *path, const struct config_node *node)
{
    struct claim *claim = &claims->claim[claims->count];

    if (!shown)
        shown = node->kind == NODE_SCALAR ? node->text : word;
    *claim = (struct claim){word, shown, owner, path, node->at, claims->count};
    claims->count++;
}

static int compare_claims(const void *left, const void *right)
{
    const struct claim *a = left, *b = right;
    int r = strcmp(a->word, b->word);

    return r ? r : (a->number > b->number) - (a->number < b->number);
}

/* `what` is the rest of a sentence about the first owner: "... is already <what> disk a (PLACE)".
 */
static void claims_check(struct binder *b, struct claims *claims, const char *what)
{
    qsort(claims->claim, claims->count, sizeof *claims->claim, compare_claims);
    for (unsigned i = 1, first = 0; i < claims->count; i++) {
        const struct claim *a = &claims->claim[first], *c = &claims->claim[i];

        if (strcmp(a->word, c->word) != 0)
            first = i;
        else
            binder_say_at(b, &c->at, c->path, "%s is already %s %s (%s:%u:%u)", c->shown, what,
                          a->owner, a->at.file, a->at.line, a->at.column);
    }
}

static const char *disk_owner(struct binder *b, const struct disk_config *disk)
{
    return arena_printf(b->arena, "disk %s", disk->name);
}

static void check_uuids(struct binder *b, const struct gateway_config *config)
{
    struct claims claims;

    if (!claims_init(b, &claims, config->disk_count))
        return;
    for (unsigned i = 0; i < config->disk_count; i++)
        if (config->disks[i].uuid)
            claims_add(&claims, config->disks[i].uuid, NULL, disk_owner(b, &config->disks[i]),
                       "uuid", node_deepest(config->disks[i].document, "uuid"));
    claims_check(b, &claims, "the UUID of");
}

/* --- backings ----------------------------------------------------------------------------------
 */

/* Also of a file that is not there yet: its folder's real path and its name. */
static const char *real_path(struct binder *b, const char *path)
{
    CLEANUP_FREE char *real = realpath(path, NULL);
    CLEANUP_FREE char *folder = NULL, *copy = NULL, *copy2 = NULL;

    if (real)
        return arena_strndup(b->arena, real, strlen(real));
    copy = strdup(path);
    copy2 = strdup(path);
    folder = copy ? realpath(dirname(copy), NULL) : NULL;
    if (!folder || !copy2)
        return path;
    return arena_printf(b->arena, "%s/%s", folder, basename(copy2));
}

/* One word for one file, whatever names and links lead to it. */
static const char *file_identity(struct binder *b, const char *path)
{
    struct stat st;

    if (stat(path, &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink > 1)
        return arena_printf(b->arena, "inode %llu:%llu", (unsigned long long)st.st_dev,
                            (unsigned long long)st.st_ino);
    if (stat(path, &st) == 0 && S_ISBLK(st.st_mode))
        return arena_printf(b->arena, "device %llu", (unsigned long long)st.st_rdev);
    return real_path(b, path);
}

static void claim_backing(struct binder *b, struct claims *claims, const struct disk_config *disk)
{
    static const char *const keys[] = {
        [BACKING_FILE] = "backing.file",
        [BACKING_NBD] = "backing.nbd",
        [BACKING_ISCSI] = "backing.iscsi",
    };
    const struct backing_config *backing = &disk->backing;
    const char *words[] = {
        [BACKING_FILE] = backing->file,
        [BACKING_NBD] = backing->nbd,
        [BACKING_ISCSI] = backing->iscsi,
    };

    if (backing->kind == BACKING_NBDKIT || !words[backing->kind])
        return;
    claims_add(claims,
               backing->kind == BACKING_FILE ? file_identity(b, backing->file)
                                             : words[backing->kind],
               NULL, disk_owner(b, disk), keys[backing->kind],
               node_deepest(disk->document, keys[backing->kind]));
}

static void check_backings(struct binder *b, const struct gateway_config *config)
{
    struct claims claims;

    if (!claims_init(b, &claims, (size_t)config->disk_count + config->tier_count))
        return;
    for (unsigned i = 0; i < config->tier_count; i++) {
        const struct tier_config *tier = &config->tiers[i];
        const char *path = arena_printf(b->arena, "tiers.%s.path", tier->name);

        if (tier->path)
            claims_add(&claims, file_identity(b, tier->path), NULL,
                       arena_printf(b->arena, "tier %s", tier->name), path,
                       node_deepest(config->document, path));
    }
    for (unsigned i = 0; i < config->disk_count; i++)
        claim_backing(b, &claims, &config->disks[i]);
    claims_check(b, &claims, "the storage of");
}

/* --- iSCSI units -------------------------------------------------------------------------------
 */

static void claim_lun(struct binder *b, struct claims *claims, const struct disk_config *disk,
                      const char *target)
{
    const char *word = arena_printf(b->arena, "LUN %u of %s", disk->iscsi.lun, target);

    claims_add(claims, word, word, disk_owner(b, disk), "export.iscsi.lun",
               node_deepest(disk->document, "export.iscsi.lun"));
}

static bool is_same_text(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

/* A session proves one secret for all the LUNs it will see. */
static void check_secrets(struct binder *b, const struct disk_config *disk,
                          const struct disk_config *other)
{
    if (!is_same_text(disk->iscsi.target, other->iscsi.target) ||
        !is_same_text(disk->iscsi.iqn, other->iscsi.iqn) ||
        (is_same_text(disk->iscsi.chap, other->iscsi.chap) &&
         is_same_text(disk->iscsi.chap_mutual, other->iscsi.chap_mutual)))
        return;
    binder_say_at(b, &node_deepest(disk->document, "export.iscsi.chap")->at, "export.iscsi.chap",
                  "disks of one target have the same chap and chap_mutual, but %s has others",
                  disk_owner(b, other));
}

static void check_targets(struct binder *b, const struct gateway_config *config)
{
    for (unsigned i = 0; i < config->disk_count; i++)
        for (unsigned k = 0; k < i; k++) {
            const struct disk_config *disk = &config->disks[i], *other = &config->disks[k];

            if (disk->iscsi.is_enabled && other->iscsi.is_enabled &&
                (disk->iscsi.target || disk->iscsi.iqn))
                check_secrets(b, disk, other);
        }
}

static void check_luns(struct binder *b, const struct gateway_config *config)
{
    struct claims claims;

    if (!claims_init(b, &claims, config->disk_count))
        return;
    for (unsigned i = 0; i < config->disk_count; i++) {
        const struct disk_config *disk = &config->disks[i];
        const char *target = disk->iscsi.iqn ? disk->iscsi.iqn : disk->iscsi.target;

        if (disk->iscsi.is_enabled && target)
            claim_lun(b, &claims, disk, target);
    }
    check_targets(b, config);
    claims_check(b, &claims, "that of");
}

/* --- listeners ---------------------------------------------------------------------------------
 */

struct door {
    const char *path;
    const struct config_address *address;
};

static unsigned add_doors(struct binder *b, struct door *doors, unsigned count, const char *name,
                          const struct config_addresses *list)
{
    for (unsigned i = 0; i < list->count; i++)
        doors[count++] =
            (struct door){arena_printf(b->arena, "listen.%s[%u]", name, i), &list->item[i]};
    return count;
}

static void check_door(struct binder *b, const struct door *doors, unsigned which)
{
    const struct door *door = &doors[which];

    for (unsigned i = 0; i < which; i++)
        if (address_overlaps(doors[i].address, door->address)) {
            binder_say_at(b, &door->address->origin, door->path, "%s clashes with %s (%s)",
                          door->address->text, doors[i].address->text, doors[i].path);
            return;
        }
}

static void check_listeners(struct binder *b, const struct gateway_config *config)
{
    size_t most = (size_t)config->listen.nbd.count + config->listen.iscsi.count +
                  config->listen.peer.count + config->listen.http.count + 1;
    struct door *doors = arena_alloc(b->arena, most * sizeof *doors);
    unsigned count = 0;

    if (!doors)
        return;
    count = add_doors(b, doors, count, "nbd", &config->listen.nbd);
    count = add_doors(b, doors, count, "iscsi", &config->listen.iscsi);
    count = add_doors(b, doors, count, "peer", &config->listen.peer);
    count = add_doors(b, doors, count, "http", &config->listen.http);
    if (config->listen.control.path)
        doors[count++] = (struct door){"listen.control", &config->listen.control};
    for (unsigned i = 1; i < count; i++)
        check_door(b, doors, i);
}

/* --- TLS ---------------------------------------------------------------------------------------
 */

static const struct disk_config *find_disk_with_tls(const struct gateway_config *config)
{
    for (unsigned i = 0; i < config->disk_count; i++)
        if (config->disks[i].nbd.is_enabled && config->disks[i].nbd.tls == EXPORT_TLS_REQUIRE)
            return &config->disks[i];
    return NULL;
}

/* Encryption is what one gets without a word; going without takes one, for each disk. */
static void check_tls(struct binder *b, const struct gateway_config *config)
{
    const struct disk_config *disk = find_disk_with_tls(config);

    if (config->listen.peer.count > 0 && !config->tls.is_set)
        binder_say_at(b, &config->listen.peer.item[0].origin, "listen.peer[0]",
                      "gateways are known by their certificates: it needs tls:");
    for (unsigned i = 0; i < config->listen.nbd.count && disk && !config->tls.is_set; i++) {
        const struct config_address *listener = &config->listen.nbd.item[i];

        if (listener->kind == ADDRESS_TCP && !listener->is_loopback)
            binder_say_at(b, &listener->origin, arena_printf(b->arena, "listen.nbd[%u]", i),
                          "disk %s requires TLS here, but there is no tls: with certificates "
                          "(or write export: {nbd: {tls: off}} in the disk)",
                          disk->name);
    }
    for (unsigned i = 0; i < config->disk_count && !config->tls.is_set; i++)
        if (config->disks[i].nbd.clients.count > 0 && config->disks[i].nbd.tls != EXPORT_TLS_OFF)
            binder_say_at(b, &node_deepest(config->disks[i].document, "export.nbd.clients")->key_at,
                          "export.nbd.clients",
                          "clients are known by their certificates: gateway.yaml needs tls:");
}

/* --- groups ------------------------------------------------------------------------------------
 */

static const struct filter_config *find_filter(const struct disk_config *disk, const char *name)
{
    for (unsigned i = 0; i < disk->filter_count; i++)
        if (strcmp(disk->filters[i].name, name) == 0)
            return &disk->filters[i];
    return NULL;
}

static bool is_equal_value(const struct sluice_value *a, const struct sluice_value *b)
{
    if (a->is_set != b->is_set || a->integer != b->integer)
        return false;
    return !a->string || !b->string ? a->string == b->string : strcmp(a->string, b->string) == 0;
}

/* One sequence, one journal and one role: what replicates a group has one set of options. */
static void compare_options(struct binder *b, const struct disk_config *first,
                            const struct disk_config *disk, const struct filter_config *ours)
{
    const struct filter_config *theirs = find_filter(first, ours->name);
    const struct sluice_option *options = ours->filter->options;
    const struct config_node *item = filter_find_item(disk, ours);
    const char *path =
        arena_printf(b->arena, "filters[%u].%s", item ? item->index : 0, ours->filter->name);

    if (!theirs || theirs->filter != ours->filter) {
        binder_say_at(b, &ours->origin, path,
                      "group %s is replicated as one, but disk %s has no %s", disk->group,
                      first->name, ours->name);
        return;
    }
    for (unsigned i = 0; options && options[i].name; i++)
        if (!is_equal_value(&ours->values[i], &theirs->values[i]))
            binder_say_at(b, &ours->origin, arena_printf(b->arena, "%s.%s", path, options[i].name),
                          "differs from that of disk %s, but group %s is replicated as one",
                          first->name, disk->group);
}

static void compare_with_first(struct binder *b, const struct disk_config *first,
                               const struct disk_config *disk)
{
    for (unsigned i = 0; i < disk->filter_count; i++)
        if (disk->filters[i].filter_class == SLUICE_CLASS_REPLICATION)
            compare_options(b, first, disk, &disk->filters[i]);
    for (unsigned i = 0; i < first->filter_count; i++)
        if (first->filters[i].filter_class == SLUICE_CLASS_REPLICATION &&
            !find_filter(disk, first->filters[i].name))
            binder_say_at(b, &node_deepest(disk->document, "group")->at, "group",
                          "%s is replicated as one: disk %s has %s, this one has not", disk->group,
                          first->name, first->filters[i].name);
}

static int compare_groups(const void *left, const void *right)
{
    const struct disk_config *a = *(const struct disk_config *const *)left;
    const struct disk_config *b = *(const struct disk_config *const *)right;
    int r = strcmp(a->group, b->group);

    return r ? r : strcmp(a->name, b->name);
}

/* `failover NAME` takes a disk or a group, so that one name may not be both. */
static void check_group_name(struct binder *b, const struct gateway_config *config,
                             const struct disk_config *disk)
{
    const struct disk_config *other = config_find_disk(config, disk->group);
    const struct config_node *group = node_find(disk->document, "group");

    if (group && other && other != disk && !node_find(other->document, "group"))
        binder_say_at(b, &group->at, "group", "%s is the name of a disk outside the group",
                      disk->group);
}

static void check_groups(struct binder *b, const struct gateway_config *config)
{
    const struct disk_config **sorted =
        arena_alloc(b->arena, (config->disk_count + 1) * sizeof *sorted);

    if (!sorted)
        return;
    for (unsigned i = 0; i < config->disk_count; i++) {
        sorted[i] = &config->disks[i];
        check_group_name(b, config, &config->disks[i]);
    }
    qsort(sorted, config->disk_count, sizeof *sorted, compare_groups);
    for (unsigned i = 1, first = 0; i < config->disk_count; i++) {
        if (strcmp(sorted[first]->group, sorted[i]->group) != 0)
            first = i;
        else
            compare_with_first(b, sorted[first], sorted[i]);
    }
}

/* --- filters -----------------------------------------------------------------------------------
 */

/* The tables in use, each with its first place. */
struct tables {
    const struct filter_config **first;
    unsigned count;
};

static void say_same_name(struct binder *b, const struct disk_config *disk,
                          const struct filter_config *filter, const struct filter_config *first)
{
    const struct config_node *item = filter_find_item(disk, filter);
    const char *path =
        arena_printf(b->arena, "filters[%u].%s", item ? item->index : 0, filter->filter->name);

    binder_say_at(b, &filter->origin, path,
                  "has the name of another file's filter (%s:%u): a gateway serves one %s",
                  first->origin.file, first->origin.line, filter->filter->name);
}

/* Verbs, metrics and shared state go by the filter's name. */
static void claim_table(struct binder *b, struct tables *tables, const struct disk_config *disk,
                        const struct filter_config *filter)
{
    for (unsigned i = 0; i < tables->count; i++) {
        if (tables->first[i]->filter == filter->filter)
            return;
        if (strcmp(tables->first[i]->filter->name, filter->filter->name) == 0) {
            say_same_name(b, disk, filter, tables->first[i]);
            return;
        }
    }
    tables->first[tables->count++] = filter;
}

static void check_filters(struct binder *b, const struct gateway_config *config)
{
    struct tables tables = {.count = 0};
    size_t most = 1;

    for (unsigned i = 0; i < config->disk_count; i++)
        most += config->disks[i].filter_count;
    tables.first = arena_alloc(b->arena, most * sizeof(const struct filter_config *));
    for (unsigned i = 0; tables.first && i < config->disk_count; i++)
        for (unsigned f = 0; f < config->disks[i].filter_count; f++)
            claim_table(b, &tables, &config->disks[i], &config->disks[i].filters[f]);
}

static bool is_tier(const struct gateway_config *config, const char *name)
{
    for (unsigned i = 0; i < config->tier_count; i++)
        if (strcmp(config->tiers[i].name, name) == 0)
            return true;
    return false;
}

static const char *suggest_tier(struct binder *b, const struct gateway_config *config,
                                const char *word)
{
    const char **names = arena_alloc(b->arena, (config->tier_count + 1u) * sizeof *names);

    for (unsigned i = 0; names && i < config->tier_count; i++)
        names[i] = config->tiers[i].name;
    return names ? binder_suggest(b, word, names, config->tier_count) : "";
}

static void say_no_tier(struct binder *b, const struct gateway_config *config,
                        const struct disk_config *disk, const struct filter_config *filter,
                        unsigned option)
{
    const struct config_node *item = filter_find_item(disk, filter);
    const char *name = filter->values[option].string;
    const char *key =
        arena_printf(b->arena, "%s.%s", filter->filter->name, filter->filter->options[option].name);

    binder_say_at(b, item ? &node_deepest(item, key)->at : &filter->origin,
                  arena_printf(b->arena, "filters[%u].%s", item ? item->index : 0, key),
                  "there is no tier %s%s; gateway.yaml names them under tiers:",
                  binder_quote(b, name), suggest_tier(b, config, name));
}

static void check_tier_names(struct binder *b, const struct gateway_config *config,
                             const struct disk_config *disk, const struct filter_config *filter)
{
    const struct sluice_option *o = filter->filter->options;

    for (unsigned i = 0; filter->values && o && o[i].name; i++)
        if ((o[i].flags & SLUICE_OPTION_TIER) && filter->values[i].is_set &&
            filter->values[i].string && !is_tier(config, filter->values[i].string))
            say_no_tier(b, config, disk, filter, i);
}

/* An inline disk has no gateway.yaml. */
static void check_tiers(struct binder *b, const struct gateway_config *config)
{
    for (unsigned i = 0; config->document && i < config->disk_count; i++)
        for (unsigned f = 0; f < config->disks[i].filter_count; f++)
            check_tier_names(b, config, &config->disks[i], &config->disks[i].filters[f]);
}

void config_crosscheck(struct binder *b, struct gateway_config *config)
{
    check_listeners(b, config);
    check_tls(b, config);
    check_backings(b, config);
    check_uuids(b, config);
    check_luns(b, config);
    check_groups(b, config);
    check_filters(b, config);
    check_tiers(b, config);
}
