/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * schema: JSON Schema (draft-07, what editors' YAML servers read) from the tables.
 *
 * The schema says what one document by itself can be wrong about.  What needs a second document (a
 * required key that a policy may give) or the file system is left to `sluice check`.  Keys that are
 * not in this version are left out, so they are as wrong there as here.
 */
#include "config/internal.h"

#include <errno.h>
#include <string.h>

struct schema_context {
    const struct config_lookup *lookup;
    enum config_document document;
};

/* "type" becomes a pair with null: a map or list may be left empty. */
static json_t *nullable(const char *type)
{
    return json_pack("{s:[s,s]}", "type", type, "null");
}

json_t *key_default_json(const struct sluice_option *option)
{
    if (option->type == SLUICE_TYPE_BOOL)
        return json_boolean(strcmp(option->default_text, "true") == 0);
    if (option->type == SLUICE_TYPE_INTEGER)
        return json_integer(strtoll(option->default_text, NULL, 10));
    return json_string(option->default_text);
}

json_t *key_schema(const struct config_key *key)
{
    json_t *schema = type_get(key->option.type)->schema(key), *list;

    if (key->option.flags & KEY_LIST) {
        list = nullable("array");
        json_object_set_new(list, "items", schema);
        schema = list;
    }
    json_object_set_new(schema, "description", json_string(key->option.help));
    if (key->option.default_text && !(key->option.flags & KEY_LIST))
        json_object_set_new(schema, "default", key_default_json(&key->option));
    return schema;
}

static json_t *table_schema(const struct schema_context *c, const struct config_table *table);

static json_t *named_schema(const struct schema_context *c, const struct config_key *key)
{
    json_t *schema = nullable("object");
    json_t *names = json_pack("{s:s}", "pattern", "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$");
    json_t *item = table_schema(c, key->table);

    json_object_set_new(item, "type", json_string("object"));
    json_object_set_new(schema, "propertyNames", names);
    json_object_set_new(schema, "additionalProperties", item);
    return schema;
}

static json_t *any_key_schema(const struct schema_context *c, const struct config_key *key)
{
    json_t *schema;

    if (key->option.type == TYPE_MAP)
        schema = table_schema(c, key->table);
    else if (key->option.type == TYPE_NAMED)
        schema = named_schema(c, key);
    else if (key->option.type == TYPE_FILTERS)
        schema = filters_schema(c->lookup);
    else
        return key_schema(key);
    json_object_set_new(schema, "description", json_string(key->option.help));
    return schema;
}

static bool is_left_out(const struct schema_context *c, const struct config_key *key)
{
    bool is_policy = c->document == CONFIG_DOCUMENT_POLICY;

    return key->not_yet || (is_policy && (key->option.flags & KEY_NOT_IN_POLICY));
}

/* Only gateway.yaml starts from nothing, so only there a key can be demanded. */
static json_t *table_schema(const struct schema_context *c, const struct config_table *table)
{
    json_t *schema = nullable("object"), *properties = json_object(), *required = json_array();

    for (unsigned i = 0; i < table->count; i++) {
        const struct config_key *key = &table->keys[i];

        if (is_left_out(c, key))
            continue;
        json_object_set_new(properties, key->option.name, any_key_schema(c, key));
        if (c->document == CONFIG_DOCUMENT_GATEWAY && (key->option.flags & KEY_REQUIRED))
            json_array_append_new(required, json_string(key->option.name));
    }
    json_object_set_new(schema, "properties", properties);
    json_object_set_new(schema, "additionalProperties", json_false());
    if (json_array_size(required) > 0)
        json_object_set(schema, "required", required);
    json_decref(required);
    return schema;
}

static json_t *document_schema(const struct schema_context *c)
{
    static const char *const titles[] = {
        [CONFIG_DOCUMENT_GATEWAY] = "Sluice: gateway.yaml",
        [CONFIG_DOCUMENT_DISK] = "Sluice: disks.d/NAME.yaml",
        [CONFIG_DOCUMENT_POLICY] = "Sluice: policies.d/NAME.yaml",
    };
    bool is_gateway = c->document == CONFIG_DOCUMENT_GATEWAY;
    json_t *schema = json_pack("{s:s,s:s}", "$schema", "http://json-schema.org/draft-07/schema#",
                               "title", titles[c->document]);
    json_t *table = table_schema(c, is_gateway ? &config_gateway_table : &config_disk_table);

    json_object_update(schema, table);
    json_decref(table);
    if (c->document != CONFIG_DOCUMENT_POLICY) /* an empty file has not got what is required */
        json_object_set_new(schema, "type", json_string("object"));
    if (c->document == CONFIG_DOCUMENT_DISK) /* a policy may bring the backing */
        json_object_update_new(schema,
                               json_pack("{s:{s:{s:[s]}},s:{s:[s]}}", "if", "not", "required",
                                         "policy", "then", "required", "backing"));
    return schema;
}

int config_schema_print(FILE *out, enum config_document which, const struct config_lookup *lookup)
{
    struct schema_context context = {lookup, which};
    json_t *schema = document_schema(&context);
    int r = -ENOMEM;

    if (schema)
        r = json_dumpf(schema, out, JSON_INDENT(2)) == 0 && fputc('\n', out) != EOF ? 0 : -EIO;
    json_decref(schema);
    return r;
}
