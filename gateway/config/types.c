/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * types: one row for each type a key can have: how it is called in messages, how it is read, how it
 * is written back, and its JSON Schema.
 *
 * The nine types of sluice-filter.h come from scalar.c and land in fields of their natural C type.
 */
#include "config/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define NAME_PATTERN "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
#define UUID_PATTERN "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"
#define TCP_PATTERN "^(\\[[0-9a-fA-F:.]+\\]|[A-Za-z0-9._-]+):[1-9][0-9]{0,4}$"
#define UNIX_PATTERN "^unix:."
#define NETWORK_PATTERN "^[0-9a-fA-F:.]+(/[0-9]{1,3})?$"

bool config_name_is_valid(const char *name)
{
    static const char allowed[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    size_t length = strlen(name);

    return length >= 1 && length <= 63 && strspn(name, allowed) == length &&
           !strchr("._-", name[0]);
}

/* --- scalars of sluice-filter.h ----------------------------------------------------------------
 */

static void store(const struct config_key *key, const struct sluice_value *value, void *field)
{
    switch (key->option.type) {
    case SLUICE_TYPE_BOOL:
        *(bool *)field = value->integer != 0;
        break;
    case SLUICE_TYPE_INTEGER:
        *(int32_t *)field = (int32_t)value->integer;
        break;
    case SLUICE_TYPE_ENUM:
        *(int32_t *)field = (int32_t)(value->integer + key->option.minimum);
        break;
    case SLUICE_TYPE_SIZE:
    case SLUICE_TYPE_RATE:
    case SLUICE_TYPE_DURATION:
        *(uint64_t *)field = (uint64_t)value->integer;
        break;
    default:
        *(const char **)field = value->string;
    }
}

static void load(const struct config_key *key, const void *field, struct sluice_value *out)
{
    switch (key->option.type) {
    case SLUICE_TYPE_BOOL:
        out->integer = *(const bool *)field;
        break;
    case SLUICE_TYPE_INTEGER:
        out->integer = *(const int32_t *)field;
        break;
    case SLUICE_TYPE_ENUM:
        out->integer = *(const int32_t *)field - key->option.minimum;
        break;
    case SLUICE_TYPE_SIZE:
    case SLUICE_TYPE_RATE:
    case SLUICE_TYPE_DURATION:
        out->integer = (int64_t) * (const uint64_t *)field;
        break;
    default:
        out->string = *(const char *const *)field;
    }
}

static bool bind_scalar(struct binder *b, const struct config_key *key,
                        const struct config_node *node, void *field)
{
    struct sluice_value value = {.is_set = false};

    if (!scalar_bind(b, &key->option, node, &value))
        return false;
    store(key, &value, field);
    return true;
}

static const char *print_scalar(struct arena *arena, const struct config_key *key,
                                const void *field)
{
    struct sluice_value value = {.is_set = true};

    load(key, field, &value);
    return scalar_print(arena, &key->option, &value);
}

static json_t *schema_scalar(const struct config_key *key)
{
    return scalar_schema(&key->option);
}

/* --- words with a form -------------------------------------------------------------------------
 */

static const char *print_text(struct arena *arena, const struct config_key *key, const void *field)
{
    const char *text = *(const char *const *)field;

    (void)arena, (void)key;
    return text ? text : "";
}

static bool bind_text(struct binder *b, const struct config_node *node, uint32_t type,
                      const char **out)
{
    static const struct sluice_option string = {.type = SLUICE_TYPE_STRING};
    struct sluice_value value = {.is_set = false};

    if (!expect_scalar(b, node, type_get(type)->noun) || !scalar_bind(b, &string, node, &value))
        return false;
    *out = value.string;
    return true;
}

static bool has_form(struct binder *b, const struct config_key *key, const struct config_node *node,
                     bool is_good)
{
    if (!is_good)
        binder_say(b, &node->at, "expected %s, not %s", type_get(key->option.type)->noun,
                   binder_quote(b, node->text));
    return is_good;
}

static bool bind_name(struct binder *b, const struct config_key *key,
                      const struct config_node *node, void *field)
{
    const char **out = field;

    return bind_text(b, node, key->option.type, out) &&
           has_form(b, key, node, config_name_is_valid(node->text));
}

static bool bind_uuid(struct binder *b, const struct config_key *key,
                      const struct config_node *node, void *field)
{
    const char **out = field;
    char lower[37];

    if (!bind_text(b, node, key->option.type, out) ||
        !has_form(b, key, node, uuid_is_valid(node->text)))
        return false;
    for (size_t i = 0; i < sizeof lower; i++)
        lower[i] = (char)(node->text[i] >= 'A' && node->text[i] <= 'F' ? node->text[i] + 32
                                                                       : node->text[i]);
    *out = arena_strndup(b->arena, lower, 36);
    return true;
}

/* Looked at, not opened: a device would notice. */
static bool bind_file(struct binder *b, const struct config_key *key,
                      const struct config_node *node, void *field)
{
    const char **out = field;
    struct stat st;
    bool is_file;

    if (!bind_text(b, node, key->option.type, out))
        return false;
    *out = path_resolve(b, *out);
    if (stat(*out, &st) < 0 || faccessat(AT_FDCWD, *out, R_OK, AT_EACCESS) < 0) {
        binder_say(b, &node->at, "%s: %s", node->text, strerror(errno));
        return false;
    }
    is_file = S_ISREG(st.st_mode);
    if (!is_file)
        binder_say(b, &node->at, "%s is not a file", node->text);
    return is_file;
}

static bool starts_with_one_of(const char *text, const char *const *prefixes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strncmp(text, prefixes[i], strlen(prefixes[i])) == 0 && text[strlen(prefixes[i])])
            return true;
    return false;
}

static bool bind_nbd_uri(struct binder *b, const struct config_key *key,
                         const struct config_node *node, void *field)
{
    static const char *const schemes[] = {"nbd://",       "nbds://",      "nbd+unix://",
                                          "nbds+unix://", "nbd+vsock://", "nbds+vsock://"};

    return bind_text(b, node, key->option.type, field) &&
           has_form(b, key, node, starts_with_one_of(node->text, schemes, ARRAY_SIZE(schemes)));
}

static bool bind_iscsi_url(struct binder *b, const struct config_key *key,
                           const struct config_node *node, void *field)
{
    static const char *const schemes[] = {"iscsi://"};

    if (!bind_text(b, node, key->option.type, field) ||
        !has_form(b, key, node, starts_with_one_of(node->text, schemes, ARRAY_SIZE(schemes))))
        return false;
    /* libiscsi takes USER%PASSWORD@HOST; here secrets come from files only. */
    if (strchr(node->text, '@'))
        binder_say(b, &node->at, "no user or password in the URL; use chap: FILE");
    return !strchr(node->text, '@');
}

/* RFC 3720 3.2.6.3: the three kinds of iSCSI name, at most 223 bytes. */
static bool bind_iqn(struct binder *b, const struct config_key *key, const struct config_node *node,
                     void *field)
{
    static const char *const kinds[] = {"iqn.", "eui.", "naa."};

    return bind_text(b, node, key->option.type, field) &&
           has_form(b, key, node,
                    strlen(node->text) <= 223 && !strpbrk(node->text, " \t\n") &&
                        starts_with_one_of(node->text, kinds, ARRAY_SIZE(kinds)));
}

static const char *print_address(struct arena *arena, const struct config_key *key,
                                 const void *field)
{
    const struct config_address *address = field;

    (void)arena, (void)key;
    return address->text ? address->text : "";
}

static const char *print_network(struct arena *arena, const struct config_key *key,
                                 const void *field)
{
    const struct config_network *network = field;

    (void)arena, (void)key;
    return network->text ? network->text : "";
}

/* --- key=value arguments -----------------------------------------------------------------------
 */

static unsigned count_children(const struct config_node *node)
{
    unsigned count = 0;

    for (const struct config_node *child = node->children; child; child = child->next)
        count++;
    return count;
}

/* nbdkit(1), "Plugin configuration": a letter, then letters, digits, dots, dashes, underscores. */
#define ARGUMENT_PATTERN "^[A-Za-z][A-Za-z0-9._-]*$"
static bool is_argument_name(const char *name)
{
    static const char allowed[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";

    return name[strspn(name, allowed)] == '\0' && !strchr("0123456789._-", name[0]);
}

static bool check_argument(struct binder *b, const struct config_node *node)
{
    if (!is_argument_name(node->key)) {
        binder_say(b, &node->key_at, "%s is not the name of a parameter",
                   binder_quote(b, node->key));
        return false;
    }
    return expect_scalar(b, node, "a value");
}

static bool bind_arguments(struct binder *b, const struct config_key *key,
                           const struct config_node *node, void *field)
{
    struct config_strings *out = field;
    bool is_good = true;

    (void)key;
    if (node_is_null(node))
        return true;
    if (!expect_kind(b, node, NODE_MAP))
        return false;
    out->item = arena_alloc(b->arena, (count_children(node) + 1) * sizeof *out->item);
    for (const struct config_node *child = node->children; child && out->item;
         child = child->next) {
        size_t mark = binder_push_key(b, child->key);

        if (check_argument(b, child))
            out->item[out->count++] = arena_printf(b->arena, "%s=%s", child->key, child->text);
        else
            is_good = false;
        binder_pop(b, mark);
    }
    return is_good;
}

static const char *print_arguments(struct arena *arena, const struct config_key *key,
                                   const void *field)
{
    const struct config_strings *strings = field;
    struct builder text = {.arena = arena};

    (void)key;
    for (unsigned i = 0; i < strings->count; i++) {
        builder_add(&text, i ? " " : "");
        builder_add(&text, strings->item[i]);
    }
    return builder_text(&text);
}

static json_t *schema_arguments(const struct config_key *key)
{
    (void)key;
    return json_pack("{s:[s,s],s:{s:s},s:{s:[s,s,s]}}", "type", "object", "null", "propertyNames",
                     "pattern", ARGUMENT_PATTERN, "additionalProperties", "type", "string",
                     "number", "boolean");
}

/* --- nbdkit's filters --------------------------------------------------------------------------
 */

/* Those that hand on the bytes as they are; iSCSI does not pass through them. */
#define NBDKIT_FILTERS "log|rate|delay|error|stats|limit|ip|blocksize-policy|tls-fallback"

static bool bind_nbdkit_filter(struct binder *b, const struct config_key *key,
                               const struct config_node *node, void *field)
{
    static const struct sluice_option word = {.type = SLUICE_TYPE_ENUM, .words = NBDKIT_FILTERS};
    struct nbdkit_filter_config *out = field;
    const struct config_node *options;
    struct config_node *name;
    struct sluice_value value = {.is_set = false};
    bool is_good = true;

    if (!filter_item_split(node, &out->name, &options)) {
        binder_say(b, &node->at, "expected %s", type_get(key->option.type)->noun);
        return false;
    }
    name = node_make_scalar(b->arena, out->name);
    if (!name)
        return false;
    name->at = node->at;
    if (!scalar_bind(b, &word, name, &value))
        return false;
    if (options) {
        size_t mark = binder_push_key(b, out->name);

        is_good = bind_arguments(b, key, options, &out->arguments);
        binder_pop(b, mark);
    }
    return is_good;
}

static const char *print_nbdkit_filter(struct arena *arena, const struct config_key *key,
                                       const void *field)
{
    const struct nbdkit_filter_config *filter = field;

    return arena_printf(arena, "%s%s%s", filter->name ? filter->name : "",
                        filter->arguments.count ? " " : "",
                        print_arguments(arena, key, &filter->arguments));
}

static json_t *schema_nbdkit_filter(const struct config_key *key)
{
    json_t *properties = json_object(), *names = json_array();
    struct words words;

    words_split(&words, NBDKIT_FILTERS);
    for (unsigned i = 0; i < words.count; i++) {
        json_array_append_new(names, json_string(words.word[i]));
        json_object_set_new(properties, words.word[i], schema_arguments(key));
    }
    return json_pack("{s:[{s:o},{s:s,s:o,s:b,s:i,s:i}]}", "anyOf", "enum", names, "type", "object",
                     "properties", properties, "additionalProperties", 0, "minProperties", 1,
                     "maxProperties", 1);
}

/* --- the table ---------------------------------------------------------------------------------
 */

static json_t *pattern(const char *text)
{
    return json_pack("{s:s,s:s}", "type", "string", "pattern", text);
}
static json_t *schema_name(const struct config_key *key)
{
    (void)key;
    return pattern(NAME_PATTERN);
}
static json_t *schema_uuid(const struct config_key *key)
{
    (void)key;
    return pattern(UUID_PATTERN);
}
static json_t *schema_file(const struct config_key *key)
{
    (void)key;
    return pattern("^.");
}
static json_t *schema_nbd_uri(const struct config_key *key)
{
    (void)key;
    return pattern("^nbds?(\\+unix|\\+vsock)?://.");
}
static json_t *schema_iscsi_url(const struct config_key *key)
{
    (void)key;
    return pattern("^iscsi://[^@]+$");
}
static json_t *schema_iqn(const struct config_key *key)
{
    (void)key;
    return pattern("^(iqn|eui|naa)\\.[^ \\t\\n]+$");
}
static json_t *schema_listener(const struct config_key *key)
{
    (void)key;
    return pattern(TCP_PATTERN "|" UNIX_PATTERN);
}
static json_t *schema_tcp(const struct config_key *key)
{
    (void)key;
    return pattern(TCP_PATTERN);
}
static json_t *schema_unix(const struct config_key *key)
{
    (void)key;
    return pattern(UNIX_PATTERN);
}
static json_t *schema_network(const struct config_key *key)
{
    (void)key;
    return pattern(NETWORK_PATTERN);
}

#define SCALAR(type)                                                 \
    {                                                                \
        NULL, sizeof(type), bind_scalar, print_scalar, schema_scalar \
    }
#define TEXT(noun, bind, schema)                             \
    {                                                        \
        noun, sizeof(const char *), bind, print_text, schema \
    }
#define ADDRESS(noun, schema)                                                    \
    {                                                                            \
        noun, sizeof(struct config_address), address_bind, print_address, schema \
    }

static const struct type_ops types[TYPE_COUNT] = {
    [SLUICE_TYPE_BOOL] = SCALAR(bool),
    [SLUICE_TYPE_INTEGER] = SCALAR(int32_t),
    [SLUICE_TYPE_SIZE] = SCALAR(uint64_t),
    [SLUICE_TYPE_DURATION] = SCALAR(uint64_t),
    [SLUICE_TYPE_RATE] = SCALAR(uint64_t),
    [SLUICE_TYPE_STRING] = SCALAR(const char *),
    [SLUICE_TYPE_ENUM] = SCALAR(int32_t),
    [SLUICE_TYPE_PATH] = SCALAR(const char *),
    [SLUICE_TYPE_SECRET] = SCALAR(const char *),
    [TYPE_NAME] = TEXT("a name of letters, digits, dots, dashes and underscores (at most 63)",
                       bind_name, schema_name),
    [TYPE_UUID] = TEXT("a UUID", bind_uuid, schema_uuid),
    [TYPE_FILE] = TEXT("the path of a file", bind_file, schema_file),
    [TYPE_NBD_URI] = TEXT("an NBD URI (nbd://HOST/EXPORT, nbd+unix:///EXPORT?socket=PATH)",
                          bind_nbd_uri, schema_nbd_uri),
    [TYPE_ISCSI_URL] =
        TEXT("an iSCSI URL (iscsi://HOST/IQN/LUN)", bind_iscsi_url, schema_iscsi_url),
    [TYPE_IQN] = TEXT("an iSCSI name (iqn.YYYY-MM.DOMAIN:NAME)", bind_iqn, schema_iqn),
    [TYPE_LISTENER] = ADDRESS("ADDRESS:PORT or unix:PATH", schema_listener),
    [TYPE_TCP_LISTENER] = ADDRESS("ADDRESS:PORT", schema_tcp),
    [TYPE_UNIX_LISTENER] = ADDRESS("unix:PATH", schema_unix),
    [TYPE_ENDPOINT] = ADDRESS("HOST:PORT", schema_tcp),
    [TYPE_NETWORK] = {"a network (10.0.0.0/24, 2001:db8::/32)", sizeof(struct config_network),
                      network_bind, print_network, schema_network},
    [TYPE_ARGUMENTS] = {"a map of key: value", sizeof(struct config_strings), bind_arguments,
                        print_arguments, schema_arguments},
    [TYPE_NBDKIT_FILTER] = {"an nbdkit filter (NAME or NAME: {key: value})",
                            sizeof(struct nbdkit_filter_config), bind_nbdkit_filter,
                            print_nbdkit_filter, schema_nbdkit_filter},
    [TYPE_FILTERS] = {"a list of filters", 0, filters_bind, NULL, NULL},
};

const struct type_ops *type_get(uint32_t type)
{
    return &types[type];
}
