/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sample: a commented policy for a new disk, from the same table that reads it.
 *
 * Every key there is stands in it with its sentence; those that were not asked for are commented
 * out, with their default or an example.
 */
#include "config/internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct given {
    const char *path, *value;
};

#define GIVEN_MAX 8
struct sampler {
    FILE *out;
    struct given given[GIVEN_MAX];
    unsigned count;
};

static void give(struct sampler *s, const char *path, const char *value)
{
    if (value && s->count < GIVEN_MAX)
        s->given[s->count++] = (struct given){path, value};
}

static const char *find_value(const struct sampler *s, const char *path)
{
    for (unsigned i = 0; i < s->count; i++)
        if (strcmp(s->given[i].path, path) == 0)
            return s->given[i].value;
    return NULL;
}

static bool has_value_below(const struct sampler *s, const char *path)
{
    for (unsigned i = 0; i < s->count; i++)
        if (option_is_below(s->given[i].path, path, strlen(path)))
            return true;
    return false;
}

/* What an unset key could look like. */
static const char *example_of(const struct config_key *key)
{
    static const char *const examples[TYPE_COUNT] = {
        [SLUICE_TYPE_INTEGER] = "1",
        [SLUICE_TYPE_SIZE] = "64GiB",
        [SLUICE_TYPE_DURATION] = "20s",
        [SLUICE_TYPE_STRING] = "NAME",
        [SLUICE_TYPE_PATH] = "/PATH",
        [SLUICE_TYPE_SECRET] = "/PATH",
        [TYPE_NAME] = "NAME",
        [TYPE_UUID] = "00000000-0000-4000-8000-000000000000",
        [TYPE_NBD_URI] = "\"nbd://HOST/EXPORT\"",
        [TYPE_ISCSI_URL] = "\"iscsi://HOST/IQN/LUN\"",
        [TYPE_IQN] = "\"iqn.2001-04.com.example:host\"",
        [TYPE_NETWORK] = "\"10.0.0.0/24\"",
        [TYPE_ARGUMENTS] = "{ KEY: VALUE }",
        [TYPE_FILTERS] = "[ { NAME: { OPTION: VALUE } } ]",
    };
    const char *example = examples[key->option.type];

    if (key->option.default_text)
        return key->option.default_text;
    return example ? example : "...";
}

static void write_key(struct sampler *s, const struct config_key *key, const char *path,
                      unsigned indent)
{
    const char *value = find_value(s, path), *example = example_of(key);
    bool is_list = key->option.flags & KEY_LIST;

    fprintf(s->out, "%*s# %s\n", (int)indent, "", key->option.help);
    if (value)
        fprintf(s->out, "%*s%s: %s\n", (int)indent, "", key->option.name, value);
    else
        fprintf(s->out, "%*s#%s: %s%s%s\n", (int)indent, "", key->option.name, is_list ? "[" : "",
                example, is_list ? "]" : "");
}

/* A map that holds nothing is commented out as well, so that it does not stand there empty. */
static void write_table(struct sampler *s, const struct config_table *table, const char *prefix,
                        unsigned indent)
{
    for (unsigned i = 0; i < table->count; i++) {
        const struct config_key *key = &table->keys[i];
        char path[64];

        snprintf(path, sizeof path, "%s%s%s", prefix, *prefix ? "." : "", key->option.name);
        if (key->not_yet)
            continue;
        if (indent == 0)
            fputc('\n', s->out);
        if (key->option.type != TYPE_MAP) {
            write_key(s, key, path, indent);
            continue;
        }
        fprintf(s->out, "%*s# %s\n%*s%s%s:\n", (int)indent, "", key->option.help, (int)indent, "",
                has_value_below(s, path) ? "" : "#", key->option.name);
        write_table(s, key->table, path, indent + 2);
    }
}

static const char *size_text(struct arena *arena, uint64_t bytes)
{
    static const struct sluice_option size = {.type = SLUICE_TYPE_SIZE};
    struct sluice_value value = {.is_set = true, .integer = (int64_t)bytes};

    return bytes ? scalar_print(arena, &size, &value) : NULL;
}

static const char *quoted(struct arena *arena, const char *text)
{
    return text ? yaml_quote(arena, text) : NULL;
}

int config_sample_disk(FILE *out, const struct config_sample *sample)
{
    struct arena *arena = arena_create(CONFIG_MEMORY_MAX);
    struct sampler sampler = {.out = out};
    bool has_failed;

    if (!arena)
        return -ENOMEM;
    give(&sampler, "size", size_text(arena, sample->size_bytes));
    give(&sampler, "policy", sample->policy);
    give(&sampler, "group", sample->group);
    give(&sampler, "backing.file", quoted(arena, sample->file));
    give(&sampler, "backing.nbd", quoted(arena, sample->nbd));
    give(&sampler, "backing.nbdkit.plugin", quoted(arena, sample->nbdkit));
    give(&sampler, "export.nbd.tls", sample->tls_off ? "off" : NULL);
    fputs("# One disk; the name of this file is its name.  disk.yaml(5) explains every key, and\n"
          "# `sluice check` says what is wrong and where.\n",
          out);
    write_table(&sampler, &config_disk_table, "", 0);
    has_failed = arena_has_failed(arena);
    arena_destroy(arena);
    if (has_failed)
        return -ENOMEM;
    return ferror(out) ? -EIO : 0;
}
