/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * locate: where a folder's gateway has its control socket.
 *
 * The command line asks the running gateway also, and above all, while somebody edits its files: so
 * gateway.yaml alone is looked at, as text when it is no YAML.  What is found so, or is only the
 * default, is a guess, and the caller is told.
 */
#include "config/internal.h"

#include <errno.h>
#include <string.h>

static const char file_name[] = "gateway.yaml";

struct locator {
    struct binder binder;
    struct config_problems *problems; /* the caller's: what made it a guess */
    struct config_problems *scratch;
    bool is_guess;
};

static const struct config_lookup nothing; /* gateway.yaml names no filters of ours */

static void say(struct locator *l, const char *sentence)
{
    static const struct config_origin at = {file_name, 1, 1};
    struct binder binder = {.problems = l->problems};

    l->is_guess = true;
    binder_say(&binder, &at, "%s", sentence);
}

/* The word behind the first `key:` that is no comment, without quotes; malloc'ed, NULL: none. */
static char *scan(const char *text, const char *key)
{
    for (const char *p = strstr(text, key); p; p = strstr(p + 1, key)) {
        const char *line = p, *word = p + strlen(key);

        while (line > text && line[-1] != '\n')
            line--;
        word += strspn(word, " \t\"'");
        if (!memchr(line, '#', (size_t)(p - line)) && (p == line || strchr(" \t{,", p[-1])))
            return strndup(word, strcspn(word, " \t\r\n\"',}#"));
    }
    return NULL;
}

/* Text that is no YAML still has a line that says it. */
static char *scan_path(const char *text)
{
    CLEANUP_FREE char *control = scan(text, "control:"), *state = scan(text, "state:");

    if (control && strncmp(control, "unix:/", 6) == 0)
        return strdup(control + strlen("unix:"));
    return state && state[0] == '/' ? text_printf("%s/control.sock", state) : NULL;
}

/* All of it is bound, by the table that the loader binds it by; what else is wrong with it does not
 * matter here. */
static char *bound_path(struct locator *l, const struct config_node *root)
{
    struct gateway_config config;

    memset(&config, 0, sizeof config);
    memset(l->scratch, 0, sizeof *l->scratch);
    bind_table(&l->binder, &config_gateway_table, root, &config);
    if (config.listen.control.path)
        return strdup(config.listen.control.path);
    say(l, "listen.control: is no unix:PATH");
    return config.state ? text_printf("%s/control.sock", config.state) : NULL;
}

static char *find_path(struct locator *l)
{
    CLEANUP_FREE char *path = text_printf("%s/%s", l->binder.folder, file_name);
    size_t length = 0;
    CLEANUP_FREE char *text = path ? folder_read_file(path, &length) : NULL;
    const struct config_node *root = NULL;
    char *found = NULL;

    if (!text) {
        say(l, folder_read_error(errno));
        return bound_path(l, NULL);
    }
    text[length] = '\0'; /* folder_read_file() leaves room for it */
    root = yaml_parse(&l->binder, file_name, text, length);
    if (!root && l->scratch->count) {
        l->is_guess = true;
        l->problems->problem[l->problems->count++] = l->scratch->problem[0];
        found = scan_path(text);
    }
    return found ? found : bound_path(l, root);
}

static char *locate(struct locator *l, const char *folder)
{
    CLEANUP_FREE char *real = realpath(folder, NULL);

    if (!real) {
        struct config_origin at = {folder, 1, 1};

        binder_say(&(struct binder){.problems = l->problems}, &at, "%s", strerror(errno));
        return NULL;
    }
    l->binder.folder = real;
    return find_path(l);
}

char *config_find_control(const char *folder, bool *is_guess, struct config_problems *problems)
{
    struct locator l = {.problems = problems, .scratch = calloc(1, sizeof *l.scratch)};
    char *path = NULL;

    memset(problems, 0, sizeof *problems);
    l.binder.arena = arena_create(CONFIG_MEMORY_MAX);
    l.binder.problems = l.scratch;
    l.binder.lookup = &nothing;
    if (l.scratch && l.binder.arena)
        path = locate(&l, folder);
    arena_destroy(l.binder.arena);
    free(l.scratch);
    *is_guess = l.is_guess;
    return path;
}
