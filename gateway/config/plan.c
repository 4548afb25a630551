/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * plan: the steps from one configuration to another.  Pure: reads two structures, does nothing.
 *
 * The tables say what a change of a key means; only size, filters and what has a name of its own
 * are decided here.  Whatever a filter of class compression or encryption would make of a disk that
 * has data is refused: its bytes could no longer be read.
 */
#include "config/internal.h"

#include <errno.h>
#include <string.h>

struct planner {
    struct arena *arena;
    const struct gateway_config *old, *new;
    struct config_plan *plan;
    unsigned room;
    /* Of the disk at hand; NULL for the gateway. */
    const struct disk_config *old_disk, *new_disk;
};

static const char *subject(const struct planner *p)
{
    return p->new_disk ? p->new_disk->name : p->old_disk ? p->old_disk->name : "gateway";
}

static bool make_room(struct planner *p)
{
    struct plan_action *actions;

    if (p->plan->count < p->room)
        return true;
    actions = arena_alloc(p->arena, 2ul * p->room * sizeof *actions);
    if (!actions)
        return false;
    memcpy(actions, p->plan->actions, p->plan->count * sizeof *actions);
    p->plan->actions = actions;
    p->room *= 2;
    return true;
}

static void add(struct planner *p, enum plan_kind kind, const struct filter_config *old_filter,
                const struct filter_config *new_filter, const char *text)
{
    if (!make_room(p))
        return;
    p->plan->is_refused |= kind == PLAN_REFUSE;
    p->plan->needs_restart |= kind == PLAN_RESTART;
    p->plan->actions[p->plan->count++] = (struct plan_action){
        .kind = kind,
        .old_disk = p->old_disk,
        .new_disk = p->new_disk,
        .old_filter = old_filter,
        .new_filter = new_filter,
        .text =
            arena_printf(p->arena, "%s: %s%s%s", subject(p), kind == PLAN_REFUSE ? "refused: " : "",
                         text, kind == PLAN_RESTART ? " (needs a restart)" : ""),
    };
}

/* --- keys --------------------------------------------------------------------------------------
 */

/* What a person would call a value that was not written. */
static const char *shown(const struct config_key *key, const char *text)
{
    bool is_absent = text[0] == '\0' || (key->option.type == SLUICE_TYPE_SIZE &&
                                         strcmp(text, "0") == 0 && !key->option.default_text);

    return is_absent ? "unset" : text;
}

static void compare_key(struct planner *p, const struct config_key *key, const char *path,
                        const void *old, const void *new)
{
    const char *before = key_print(p->arena, key, old), *after = key_print(p->arena, key, new);

    if (strcmp(before, after) == 0)
        return;
    add(p, key->plan, NULL, NULL,
        arena_printf(p->arena, "%s: %s -> %s", path, shown(key, before), shown(key, after)));
}

static void compare_named(struct planner *p, const struct config_key *key, const void *old,
                          const void *new);

/* Those with PLAN_GROW and PLAN_KIND_COUNT are decided elsewhere. */
static void compare_tables(struct planner *p, const struct config_table *table, const char *prefix,
                           const void *old, const void *new)
{
    for (unsigned i = 0; i < table->count; i++) {
        const struct config_key *key = &table->keys[i];
        const char *path =
            arena_printf(p->arena, "%s%s%s", prefix, *prefix ? "." : "", key->option.name);

        if (key->option.type == TYPE_MAP)
            compare_tables(p, key->table, path, (const char *)old + key->offset,
                           (const char *)new + key->offset);
        else if (key->option.type == TYPE_NAMED)
            compare_named(p, key, (const char *)old + key->offset, (const char *)new + key->offset);
        else if (key->plan != PLAN_GROW && key->plan != PLAN_KIND_COUNT)
            compare_key(p, key, path, old, new);
    }
}

/* --- peers, tiers ------------------------------------------------------------------------------
 */

static const void *find_named(const struct array_field *array, size_t bytes, const char *name)
{
    for (unsigned i = 0; i < array->count; i++) {
        const void *item = (const char *)array->item + i * bytes;

        if (strcmp(*(const char *const *)item, name) == 0)
            return item;
    }
    return NULL;
}

static const char *print_item(struct planner *p, const struct config_table *table, const void *item)
{
    const char *text = "";

    for (unsigned i = 0; i < table->count; i++)
        text = arena_printf(p->arena, "%s%s%s %s", text, i ? ", " : "", table->keys[i].option.name,
                            key_print(p->arena, &table->keys[i], item));
    return text;
}

static void compare_item(struct planner *p, const struct config_key *key, const char *name,
                         const void *old, const void *new)
{
    const char *before = old ? print_item(p, key->table, old) : "";
    const char *after = new ? print_item(p, key->table, new) : "";
    const char *what = key->option.name;

    if (!old)
        add(p, PLAN_GATEWAY, NULL, NULL,
            arena_printf(p->arena, "add %s.%s (%s)", what, name, after));
    else if (!new)
        add(p, key->plan, NULL, NULL, arena_printf(p->arena, "remove %s.%s", what, name));
    else if (strcmp(before, after) != 0)
        add(p, key->plan, NULL, NULL,
            arena_printf(p->arena, "change %s.%s (%s -> %s)", what, name, before, after));
}

static void compare_named(struct planner *p, const struct config_key *key, const void *old,
                          const void *new)
{
    size_t bytes = key->table->struct_bytes;
    struct array_field before, after;

    array_load(old, &before);
    array_load(new, &after);
    for (unsigned i = 0; i < before.count; i++) {
        const void *item = (const char *)before.item + i * bytes;
        const char *name = *(const char *const *)item;

        compare_item(p, key, name, item, find_named(&after, bytes, name));
    }
    for (unsigned i = 0; i < after.count; i++) {
        const void *item = (const char *)after.item + i * bytes;
        const char *name = *(const char *const *)item;

        if (!find_named(&before, bytes, name))
            compare_item(p, key, name, NULL, item);
    }
}

/* --- filters -----------------------------------------------------------------------------------
 */

static const struct filter_config *find_filter(const struct disk_config *disk, const char *name)
{
    for (unsigned i = 0; i < disk->filter_count; i++)
        if (strcmp(disk->filters[i].name, name) == 0)
            return &disk->filters[i];
    return NULL;
}

static bool changes_data(const struct filter_config *filter)
{
    return (filter->filter->traits & SLUICE_TRAIT_CHANGES_DATA) ||
           filter->filter_class == SLUICE_CLASS_COMPRESSION ||
           filter->filter_class == SLUICE_CLASS_ENCRYPTION;
}

static const char *value_text(struct planner *p, const struct sluice_option *option,
                              const struct sluice_value *value)
{
    return value->is_set ? scalar_print(p->arena, option, value) : "unset";
}

/* What differs, as "mode: a -> b, ram: c -> d"; "" when nothing does. */
struct option_changes {
    const char *live, *other;
};

static const char *join(struct planner *p, const char *list, const char *item)
{
    return arena_printf(p->arena, "%s%s%s", list, *list ? ", " : "", item);
}

static void compare_options(struct planner *p, const struct filter_config *old,
                            const struct filter_config *new, struct option_changes *changes)
{
    const struct sluice_option *options = new->filter->options;

    for (unsigned i = 0; options && options[i].name; i++) {
        const char *before = value_text(p, &options[i], &old->values[i]);
        const char *after = value_text(p, &options[i], &new->values[i]);
        const char **list =
            options[i].flags & SLUICE_OPTION_LIVE ? &changes->live : &changes->other;

        if (strcmp(before, after) != 0)
            *list = join(p, *list,
                         arena_printf(p->arena, "%s: %s -> %s", options[i].name, before, after));
    }
}

/* on_stall and on_attach_failure; rank shows in the order, name is the identity. */
static void compare_instance_keys(struct planner *p, const struct filter_config *old,
                                  const struct filter_config *new, struct option_changes *changes)
{
    for (unsigned i = 0; i < config_instance_table.count; i++) {
        const struct config_key *key = &config_instance_table.keys[i];
        const char *before, *after;

        if (key->plan != PLAN_POLICY_CHANGE)
            continue;
        before = key_print(p->arena, key, old);
        after = key_print(p->arena, key, new);
        if (strcmp(before, after) != 0)
            changes->live =
                join(p, changes->live,
                     arena_printf(p->arena, "%s: %s -> %s", key->option.name, before, after));
    }
}

static void replace_filter(struct planner *p, const struct filter_config *old,
                           const struct filter_config *new, const char *why)
{
    if (changes_data(old) || changes_data(new))
        add(p, PLAN_REFUSE, old, new,
            arena_printf(p->arena, "%s cannot be replaced on a disk with data (%s)", new->name,
                         why));
    else
        add(p, PLAN_REPLACE, old, new, arena_printf(p->arena, "replace %s (%s)", new->name, why));
}

static void compare_filter(struct planner *p, const struct filter_config *old,
                           const struct filter_config *new)
{
    struct option_changes changes = {"", ""};

    if (strcmp(old->filter->name, new->filter->name) != 0) {
        replace_filter(
            p, old, new,
            arena_printf(p->arena, "filter %s -> %s", old->filter->name, new->filter->name));
        return;
    }
    compare_options(p, old, new, &changes);
    compare_instance_keys(p, old, new, &changes);
    if (*changes.other)
        replace_filter(p, old, new,
                       *changes.live ? join(p, changes.other, changes.live) : changes.other);
    else if (*changes.live)
        add(p, PLAN_POLICY_CHANGE, old, new,
            arena_printf(p->arena, "change %s (%s)", new->name, changes.live));
}

static void detach_filter(struct planner *p, const struct filter_config *old)
{
    if (changes_data(old))
        add(p, PLAN_REFUSE, old, NULL,
            arena_printf(p->arena, "%s cannot be detached from a disk with data", old->name));
    else
        add(p, PLAN_DETACH, old, NULL, arena_printf(p->arena, "detach %s", old->name));
}

static void attach_filter(struct planner *p, const struct filter_config *new)
{
    const struct disk_config *disk = p->new_disk;
    unsigned i = (unsigned)(new - disk->filters);

    if (changes_data(new))
        add(p, PLAN_REFUSE, NULL, new,
            arena_printf(p->arena, "%s cannot be attached to a disk with data", new->name));
    else
        add(p, PLAN_ATTACH, NULL, new,
            arena_printf(p->arena, "attach %s between %s and %s", new->name,
                         i > 0 ? disk->filters[i - 1].name : "the guest",
                         i + 1 < disk->filter_count ? disk->filters[i + 1].name : "the backing"));
}

/* The first `end` filters of `disk`, as far as `other` has them too. */
static const char *common_above(struct planner *p, const struct disk_config *disk,
                                const struct disk_config *other, unsigned end)
{
    const char *list = "";

    for (unsigned i = 0; i < end; i++)
        if (find_filter(other, disk->filters[i].name))
            list = join(p, list, disk->filters[i].name);
    return list;
}

/* Whether `filter` of the new disk, which the old one has as `was`, has others above it now. */
static bool is_moved(struct planner *p, const struct filter_config *was,
                     const struct filter_config *filter)
{
    const struct disk_config *old = p->old_disk, *new = p->new_disk;

    return strcmp(common_above(p, old, new, (unsigned)(was - old->filters)),
                  common_above(p, new, old, (unsigned)(filter - new->filters))) != 0;
}

static void compare_order(struct planner *p)
{
    const struct disk_config *old = p->old_disk, *new = p->new_disk;
    const char *before = common_above(p, old, new, old->filter_count);
    const char *after = common_above(p, new, old, new->filter_count);

    if (strcmp(before, after) == 0)
        return;
    for (unsigned i = 0; i < new->filter_count; i++) {
        const struct filter_config *filter = &new->filters[i];
        const struct filter_config *was = find_filter(old, filter->name);

        if (was && changes_data(filter) && is_moved(p, was, filter)) {
            add(p, PLAN_REFUSE, was, filter,
                arena_printf(p->arena, "%s cannot be moved on a disk with data", filter->name));
            return;
        }
    }
    add(p, PLAN_REORDER, NULL, NULL,
        arena_printf(p->arena, "reorder filters: %s -> %s", before, after));
}

static void compare_filters(struct planner *p)
{
    for (unsigned i = 0; i < p->old_disk->filter_count; i++)
        if (!find_filter(p->new_disk, p->old_disk->filters[i].name))
            detach_filter(p, &p->old_disk->filters[i]);
    for (unsigned i = 0; i < p->new_disk->filter_count; i++) {
        const struct filter_config *new = &p->new_disk->filters[i];
        const struct filter_config *old = find_filter(p->old_disk, new->name);

        if (old)
            compare_filter(p, old, new);
        else
            attach_filter(p, new);
    }
    compare_order(p);
}

/* --- disks -------------------------------------------------------------------------------------
 */

static const char *size_text(struct planner *p, uint64_t bytes)
{
    static const struct sluice_option size = {.type = SLUICE_TYPE_SIZE};
    struct sluice_value value = {.is_set = true, .integer = (int64_t)bytes};

    return scalar_print(p->arena, &size, &value);
}

/* Without a size the disk is as large as its backing, which is not known here: disk_resize() is. */
static void compare_size(struct planner *p)
{
    uint64_t old = p->old_disk->size_bytes, new = p->new_disk->size_bytes;

    if (new == 0 || new == old)
        return;
    if (new < old)
        add(p, PLAN_REFUSE, NULL, NULL,
            arena_printf(p->arena, "size %s -> %s would cut off data; disks only grow",
                         size_text(p, old), size_text(p, new)));
    else
        add(p, PLAN_GROW, NULL, NULL,
            arena_printf(p->arena, "grow %s%s to %s", old ? "from " : "",
                         old ? size_text(p, old) : "from the backing's size", size_text(p, new)));
}

/* What makes a backing this one: its place, not how it is opened. */
static const char *backing_text(struct planner *p, const struct disk_config *disk)
{
    const struct backing_config *b = &disk->backing;
    const char *text = b->nbdkit.plugin;

    if (b->kind != BACKING_NBDKIT)
        return b->kind == BACKING_FILE ? b->file : b->kind == BACKING_NBD ? b->nbd : b->iscsi;
    for (unsigned i = 0; i < b->nbdkit.arguments.count; i++)
        text = arena_printf(p->arena, "%s %s", text, b->nbdkit.arguments.item[i]);
    return arena_printf(p->arena, "nbdkit %s", text);
}

static void compare_backing(struct planner *p)
{
    const char *before = backing_text(p, p->old_disk), *after = backing_text(p, p->new_disk);

    if (strcmp(before, after) != 0)
        add(p, PLAN_REFUSE, NULL, NULL,
            arena_printf(p->arena,
                         "the backing %s -> %s is other storage; remove the disk and add a new one",
                         before, after));
}

static void compare_uuid(struct planner *p)
{
    const char *before = p->old_disk->uuid, *after = p->new_disk->uuid;

    if (before && after && strcmp(before, after) != 0)
        add(p, PLAN_REFUSE, NULL, NULL,
            arena_printf(p->arena, "uuid %s -> %s would be another disk", before, after));
    else if (!before && after) /* disk_open() compares it with the state */
        add(p, PLAN_RESTART, NULL, NULL, arena_printf(p->arena, "uuid: unset -> %s", after));
}

static void compare_iscsi(struct planner *p)
{
    if (p->old_disk->iscsi.is_enabled != p->new_disk->iscsi.is_enabled)
        add(p, PLAN_EXPORT, NULL, NULL,
            p->new_disk->iscsi.is_enabled ? "export over iSCSI" : "no longer export over iSCSI");
}

static void compare_disk(struct planner *p)
{
    compare_tables(p, &config_disk_table, "", p->old_disk, p->new_disk);
    compare_backing(p);
    compare_uuid(p);
    compare_size(p);
    compare_iscsi(p);
    compare_filters(p);
}

static void add_disk(struct planner *p)
{
    const struct disk_config *disk = p->new_disk;
    const char *chain = "";

    for (unsigned i = 0; i < disk->filter_count; i++)
        chain = join(p, chain, disk->filters[i].name);
    add(p, PLAN_ADD_DISK, NULL, NULL,
        arena_printf(p->arena, "add the disk (%s%s%s%s%s)",
                     disk->size_bytes ? size_text(p, disk->size_bytes) : "",
                     disk->size_bytes ? " on " : "on ", backing_text(p, disk),
                     *chain ? ", filters " : "", chain));
}

static void compare_disks(struct planner *p)
{
    for (unsigned i = 0; i < p->old->disk_count; i++) {
        p->old_disk = &p->old->disks[i];
        p->new_disk = config_find_disk(p->new, p->old_disk->name);
        if (p->new_disk)
            compare_disk(p);
        else
            add(p, PLAN_REMOVE_DISK, NULL, NULL, "remove the disk; its backing stays as it is");
    }
    p->old_disk = NULL;
    for (unsigned i = 0; i < p->new->disk_count; i++) {
        p->new_disk = &p->new->disks[i];
        if (!config_find_disk(p->old, p->new_disk->name))
            add_disk(p);
    }
    p->new_disk = NULL;
}

/* --- all of it ---------------------------------------------------------------------------------
 */

static void compare_tls_mode(struct planner *p)
{
    static const char *const words[] = {
        [CONFIG_TLS_OFF] = "off",
        [CONFIG_TLS_ON] = "on",
        [CONFIG_TLS_REQUIRE] = "require",
    };
    enum config_tls_mode before = config_tls_mode(p->old), after = config_tls_mode(p->new);

    if (before != after)
        add(p, PLAN_RESTART, NULL, NULL,
            arena_printf(p->arena, "TLS of the NBD server: %s -> %s", words[before], words[after]));
}

static int stage_of(const struct plan_action *action)
{
    if (!action->old_disk && !action->new_disk)
        return 0;
    if (action->kind == PLAN_REMOVE_DISK)
        return 1;
    return action->kind == PLAN_ADD_DISK ? 3 : 2;
}

static bool is_before(const struct plan_action *a, const struct plan_action *b)
{
    int by_stage = stage_of(a) - stage_of(b);
    int by_name = by_stage || stage_of(a) != 2 ? 0 : strcmp(a->old_disk->name, b->old_disk->name);

    if (by_stage || by_name)
        return by_stage ? by_stage < 0 : by_name < 0;
    return stage_of(a) != 1 && stage_of(a) != 3 && a->kind < b->kind;
}

/* Insertion keeps the order of what compares equal; runs are short and nearly sorted. */
static void sort_actions(struct config_plan *plan)
{
    for (unsigned i = 1; i < plan->count; i++) {
        struct plan_action action = plan->actions[i];
        unsigned j = i;

        for (; j > 0 && is_before(&action, &plan->actions[j - 1]); j--)
            plan->actions[j] = plan->actions[j - 1];
        plan->actions[j] = action;
    }
}

struct owned_plan {
    struct config_plan plan;
    struct arena *arena;
};

static struct owned_plan *make_plan(struct planner *p)
{
    struct arena *arena = arena_create(CONFIG_MEMORY_MAX);
    struct owned_plan *owned = arena ? arena_alloc(arena, sizeof *owned) : NULL;

    p->room = 16;
    if (owned)
        owned->plan.actions = arena_alloc(arena, p->room * sizeof *owned->plan.actions);
    if (!owned || !owned->plan.actions) {
        arena_destroy(arena);
        return NULL;
    }
    owned->arena = p->arena = arena;
    p->plan = &owned->plan;
    return owned;
}

int config_plan(const struct gateway_config *old, const struct gateway_config *new,
                struct config_plan **out)
{
    struct planner p = {.old = old, .new = new};
    struct owned_plan *owned = make_plan(&p);

    *out = NULL;
    if (!owned)
        return -ENOMEM;
    compare_tables(&p, &config_gateway_table, "", old, new);
    compare_tls_mode(&p);
    compare_disks(&p);
    sort_actions(&owned->plan);
    if (arena_has_failed(owned->arena)) {
        arena_destroy(owned->arena);
        return -ENOMEM;
    }
    *out = &owned->plan;
    return 0;
}

void config_plan_free(struct config_plan *plan)
{
    if (plan)
        arena_destroy(CONTAINER_OF(plan, struct owned_plan, plan)->arena);
}

const char *plan_kind_name(enum plan_kind kind)
{
    static const char *const names[] = {
        [PLAN_REFUSE] = "refuse",     [PLAN_RESTART] = "restart",
        [PLAN_GATEWAY] = "gateway",   [PLAN_REMOVE_DISK] = "remove-disk",
        [PLAN_SETTINGS] = "settings", [PLAN_EXPORT] = "export",
        [PLAN_GROW] = "grow",         [PLAN_DETACH] = "detach",
        [PLAN_REPLACE] = "replace",   [PLAN_ATTACH] = "attach",
        [PLAN_REORDER] = "reorder",   [PLAN_POLICY_CHANGE] = "policy-change",
        [PLAN_ADD_DISK] = "add-disk",
    };
    return (unsigned)kind < PLAN_KIND_COUNT ? names[kind] : "unknown";
}
