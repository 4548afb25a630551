/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * effective-json: the policy a disk ends up with, as JSON for programs: the values as the schema of
 * a disk file has them, and beside them where each comes from, by its path ("filters[0].qos.iops").
 */
#include "config/effective.h"

#include <assert.h>
#include <string.h>

#define LEVELS_MAX (YAML_DEPTH_MAX + 8) /* the tables' own levels are few */

struct json_teller {
    struct arena *arena;
    json_t *origins;
    unsigned depth; /* of what is told now: level[depth] */
    struct level {
        json_t *container;
        const char *path;
    } level[LEVELS_MAX];
};

static const char *path_of(struct json_teller *t, const struct effective_value *v)
{
    const struct level *l = &t->level[t->depth];

    if (!v->key)
        return arena_printf(t->arena, "%s[%zu]", l->path, json_array_size(l->container));
    return *l->path ? arena_printf(t->arena, "%s.%s", l->path, v->key) : v->key;
}

static void put(struct json_teller *t, const struct effective_value *v, json_t *value)
{
    const struct level *l = &t->level[t->depth];

    if (v->origin)
        json_object_set_new(t->origins, path_of(t, v), json_string(v->origin));
    if (v->key)
        json_object_set_new(l->container, v->key, value);
    else
        json_array_append_new(l->container, value);
}

/* A plain scalar means in YAML what it means in JSON where it is JSON at all (YAML 1.2, 10.3.2);
 * sizes and durations are text in both. */
static json_t *scalar(const struct effective_value *v)
{
    json_t *value = v->is_plain ? json_loads(v->text, JSON_DECODE_ANY, NULL) : NULL;

    return value ? value : json_string(v->text);
}

static void tell_value(void *teller, const struct effective_value *v)
{
    put(teller, v, scalar(v));
}

static json_t *container(const struct effective_value *v)
{
    return v->kind == NODE_LIST ? json_array() : json_object();
}

static void tell_empty(void *teller, const struct effective_value *v)
{
    put(teller, v, container(v));
}

static void tell_begin(void *teller, const struct effective_value *v)
{
    struct json_teller *t = teller;
    const char *path = path_of(t, v);
    json_t *opened = container(v);

    put(t, v, opened);
    assert(t->depth + 1 < LEVELS_MAX);
    t->level[++t->depth] = (struct level){opened, path};
}

static void tell_end(void *teller)
{
    struct json_teller *t = teller;

    t->depth--;
}

json_t *config_effective(const struct gateway_config *config, const char *name, struct err *e)
{
    static const struct effective_teller ops = {tell_value, tell_begin, tell_end, tell_empty};
    struct json_teller t = {.depth = 0};
    const struct disk_config *disk = effective_begin(config, name, &t.arena, e);

    if (!disk)
        return NULL;
    t.level[0] = (struct level){json_object(), ""};
    t.origins = json_object();
    effective_walk(&ops, &t, t.arena, config, disk);
    arena_destroy(t.arena);
    return json_pack("{s:s, s:s, s:s?, s:o, s:o}", "disk", disk->name, "file", disk->origin.file,
                     "policy", disk->policy, "effective", t.level[0].container, "origins",
                     t.origins);
}
