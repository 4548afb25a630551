/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * internal: what the files of this room share: the arena, the tree that YAML becomes, the binder
 * that turns it into structs by tables, and the steps of a load.
 *
 * A load runs in one thread and owns its binder.  Trees are never changed once they are parsed,
 * because several disks may start from one policy: merging makes new nodes.  Out of memory is
 * sticky in the arena and looked at once, at the end of a load; until then strings come back as ""
 * and arrays as empty.
 */
#ifndef SLUICE_CONFIG_INTERNAL_H
#define SLUICE_CONFIG_INTERNAL_H

#include "config/config.h"

#include <jansson.h>

/* --- arena -------------------------------------------------------------------------------------
 */

struct arena;

/* limit_bytes bounds all that will ever be taken: a bomb ends as "out of memory". NULL for ENOMEM.
 */
struct arena *arena_create(size_t limit_bytes) MUST_CHECK;
void arena_destroy(struct arena *arena);
bool arena_has_failed(const struct arena *arena);
/* Zeroed; NULL for ENOMEM. */
void *arena_alloc(struct arena *arena, size_t bytes) MUST_CHECK;
/* Never NULL: "" for ENOMEM. */
const char *arena_strndup(struct arena *arena, const char *text, size_t length);
const char *arena_printf(struct arena *arena, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* Text that grows; begins as {.arena = arena}. */
struct builder {
    struct arena *arena;
    char *data;
    size_t length, room;
};
void builder_add(struct builder *builder, const char *text);
const char *builder_text(const struct builder *builder); /* "" when nothing was added */

/* --- tree --------------------------------------------------------------------------------------
 */

enum node_kind { NODE_SCALAR, NODE_MAP, NODE_LIST };

struct config_node {
    enum node_kind kind;
    bool is_plain; /* a scalar without quotes */
    struct config_origin at;
    const char *text;             /* scalar */
    struct config_node *children; /* map, list: in written order */
    struct config_node *next;     /* the parent's */
    const char *key;              /* in a map */
    struct config_origin key_at;
    unsigned index; /* in the list of its own file, whatever it was merged into */
};

/* `key:` with nothing, ~ or null: as if it had not been written. */
bool node_is_null(const struct config_node *node);
/* The value of `key`; NULL when node is NULL, no map, or has none. */
const struct config_node *node_get(const struct config_node *node, const char *key);
/* By dotted path; stops at the deepest that exists. */
const struct config_node *node_deepest(const struct config_node *node, const char *path);
/* By dotted path; NULL when it does not exist. */
const struct config_node *node_find(const struct config_node *node, const char *path);
struct config_node *node_copy(struct arena *arena, const struct config_node *node);
struct config_node *node_make_scalar(struct arena *arena, const char *text);

/* --- binder ------------------------------------------------------------------------------------
 */

struct binder {
    struct arena *arena;
    struct config_problems *problems;
    const struct config_lookup *lookup;
    const char *folder; /* absolute; relative paths start there */
    bool is_partial;    /* a policy by itself: nothing is required, nothing is compared */
    char path[256];     /* of the key at hand, for messages */
    size_t path_length;
};

/* Adds "file:line:column: path: sentence"; the same one twice is one. */
void binder_say(struct binder *b, const struct config_origin *at, const char *fmt, ...)
    PRINTF_LIKE(3, 4);
void binder_say_at(struct binder *b, const struct config_origin *at, const char *path,
                   const char *fmt, ...) PRINTF_LIKE(4, 5);
/* Returns what binder_pop() wants. */
size_t binder_push_key(struct binder *b, const char *key);
size_t binder_push_index(struct binder *b, unsigned index);
void binder_pop(struct binder *b, size_t mark);
/* "\"text\"", long ones shortened, for messages. */
const char *binder_quote(struct binder *b, const char *text);
/* " (did you mean \"X\"?)", else "". */
const char *binder_suggest(struct binder *b, const char *word, const char *const *candidates,
                           size_t count);
void problems_sort(struct config_problems *problems);

/* The words of "a|b|c". */
#define WORDS_MAX 32
struct words {
    unsigned count;
    const char *word[WORDS_MAX];
    char storage[512];
};
void words_split(struct words *out, const char *text);

/* --- yaml.c ------------------------------------------------------------------------------------
 */

#define YAML_BYTES_MAX (1u << 20)
#define YAML_DEPTH_MAX 16
#define YAML_NODES_MAX 5000

/* The tree of one document, an empty map for an empty one; NULL after a problem. */
const struct config_node *yaml_parse(struct binder *b, const char *file, const char *text,
                                     size_t length);

/* --- types and tables --------------------------------------------------------------------------
 */

/* Beside those of sluice-filter.h. */
enum config_type {
    TYPE_NAME = SLUICE_TYPE_SECRET + 1, /* config_name_is_valid() */
    TYPE_UUID,
    TYPE_FILE, /* a path that can be read now */
    TYPE_NBD_URI,
    TYPE_ISCSI_URL,
    TYPE_IQN,
    TYPE_LISTENER,     /* ADDRESS:PORT or unix:PATH */
    TYPE_TCP_LISTENER, /* ADDRESS:PORT */
    TYPE_UNIX_LISTENER,
    TYPE_ENDPOINT, /* HOST:PORT */
    TYPE_NETWORK,
    TYPE_ARGUMENTS, /* a map of scalars, kept as "key=value" */
    TYPE_NBDKIT_FILTER,
    TYPE_MAP,     /* fixed keys: .table; the struct lies at .offset */
    TYPE_NAMED,   /* free names, each a map of .table: an array at .offset */
    TYPE_FILTERS, /* the chain; gets the whole disk_config */
    TYPE_COUNT
};

#define KEY_REQUIRED SLUICE_OPTION_REQUIRED
#define KEY_LIST 0x100u          /* a list of .type: an array at .offset */
#define KEY_NOT_IN_POLICY 0x200u /* belongs to one disk */

/* A row of our own tables. ENUM: minimum is the value of the first word. */
struct config_key {
    struct sluice_option option;
    size_t offset;
    const struct config_table *table;
    enum plan_kind plan; /* what a change of it means */
    const char *not_yet; /* "iSCSI": refused, because this version has none */
};

struct config_table {
    const struct config_key *keys;
    unsigned count;
    size_t struct_bytes; /* NAMED: of one item, which begins with const char *name */
    /* After all keys: combinations. node may be NULL: not written. */
    void (*check)(struct binder *b, const struct config_node *node, void *base);
    /* Whether a key that is not written has its default beside those that are; NULL: each has. */
    bool (*has_default)(const struct config_node *node, const char *key);
};
extern const struct config_table config_gateway_table, config_disk_table, config_instance_table;

/* What is true of a type; one row each in types.c. */
struct type_ops {
    const char *noun; /* "a size (like 512, 64KiB, 10GiB)" */
    size_t bytes;     /* of the field */
    /* False after a problem. `field` has type->bytes. */
    bool (*bind)(struct binder *b, const struct config_key *key, const struct config_node *node,
                 void *field);
    /* As one would write it; for comparing and for people. */
    const char *(*print)(struct arena *arena, const struct config_key *key, const void *field);
    json_t *(*schema)(const struct config_key *key);
};
const struct type_ops *type_get(uint32_t type);

/* An array in a public struct: every such pair lies like this. */
struct array_field {
    void *item;
    unsigned count;
};
void array_load(const void *field, struct array_field *out);
void array_store(void *field, const struct array_field *array);

/* False with a problem when node is another kind (and not null). */
bool expect_kind(struct binder *b, const struct config_node *node, enum node_kind kind);
bool expect_scalar(struct binder *b, const struct config_node *node, const char *noun);

/* scalar.c: the types of sluice-filter.h, for filters' tables and for ours. */
bool scalar_bind(struct binder *b, const struct sluice_option *option,
                 const struct config_node *node, struct sluice_value *out);
bool scalar_bind_default(struct binder *b, const struct sluice_option *option,
                         struct sluice_value *out);
const char *scalar_print(struct arena *arena, const struct sluice_option *option,
                         const struct sluice_value *value);
json_t *scalar_schema(const struct sluice_option *option);
const char *scalar_noun(uint32_t type);
const char *path_resolve(struct binder *b, const char *path);

/* address.c */
bool address_bind(struct binder *b, const struct config_key *key, const struct config_node *node,
                  void *field);
bool network_bind(struct binder *b, const struct config_key *key, const struct config_node *node,
                  void *field);
/* True if a listener on one leaves no room for the other. */
bool address_overlaps(const struct config_address *a, const struct config_address *b);

/* bind.c: node NULL binds the defaults. */
void bind_table(struct binder *b, const struct config_table *table, const struct config_node *node,
                void *base);
const char *key_print(struct arena *arena, const struct config_key *key, const void *base);

/* schema.c */
json_t *key_schema(const struct config_key *key);
json_t *key_default_json(const struct sluice_option *option);

/* effective-yaml.c: in YAML's double quotes. */
const char *yaml_quote(struct arena *arena, const char *text);

/* filters.c */
bool filters_bind(struct binder *b, const struct config_key *key, const struct config_node *node,
                  void *disk);
json_t *filters_schema(const struct config_lookup *lookup);
const struct config_node *filter_find_item(const struct disk_config *disk,
                                           const struct filter_config *filter);
bool option_is_below(const char *name, const char *prefix, size_t prefix_length);

/* chain.c: pure. */
/* classes[] in the order written; the first that stands too low, and the one it must stand above.
 */
bool chain_find_misplaced(const uint32_t *classes, unsigned count, unsigned *item, unsigned *above);
/* In chain order. */
struct chain_fault {
    unsigned filter, other;
    const char *needs,
        *because; /* FILTER needs "plaintext", but OTHER "above it changes the data" */
};
bool chain_find_broken_need(const struct filter_config *filters, unsigned count, unsigned start,
                            struct chain_fault *out);
const char *chain_class_name(uint32_t filter_class);

/* policy.c */
struct document {
    const char *name;               /* the file's stem */
    const char *file;               /* as messages show it */
    const struct config_node *root; /* NULL: did not parse */
    const struct config_node *merged;
    enum { DOCUMENT_FRESH, DOCUMENT_OPEN, DOCUMENT_DONE, DOCUMENT_BROKEN } state;
};
struct documents {
    struct document *item;
    unsigned count;
};
/* The document over the policies it starts from; NULL after a problem. */
const struct config_node *policy_resolve(struct binder *b, struct documents *policies,
                                         struct document *document);
/* A filters item: its word and its options, NULL when none are given. False: no such shape. */
bool filter_item_split(const struct config_node *item, const char **word,
                       const struct config_node **options);

/* crosscheck.c: what no file can see by itself. */
void config_crosscheck(struct binder *b, struct gateway_config *config);

/* folder.c: the whole of a regular file, at most YAML_BYTES_MAX, with room for one byte more;
 * malloc'ed. NULL with errno. */
char *folder_read_file(const char *path, size_t *length) MUST_CHECK;
/* Why it could not. */
const char *folder_read_error(int error);

/* load.c */
struct config_text {
    const char *name; /* "gateway.yaml", "disks.d/vm-17.yaml", "policies.d/gold.yaml" */
    const char *text;
    size_t length;
};
/* config_load() after the files were read. folder is absolute. *problems is added to. */
int config_load_texts(const char *folder, const struct config_text *texts, unsigned count,
                      const struct config_lookup *lookup, size_t memory_limit,
                      struct gateway_config **out, struct config_problems *problems) MUST_CHECK;
#define CONFIG_MEMORY_MAX (64u << 20)

#endif
