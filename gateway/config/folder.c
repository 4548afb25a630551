/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * folder: the files of a configuration's folder, read into memory before anything is understood.
 *
 * gateway.yaml, disks.d/NAME.yaml, policies.d/NAME.yaml.  Hidden files and editors' backups are not
 * looked at; a name that looks like a mistyped one (.yml) is a problem rather than silence.
 */
#include "config/internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

struct folder {
    const char *path;
    struct config_text *texts;
    unsigned count, room;
    struct config_problems *problems;
};

static void say(struct folder *folder, const char *file, const char *sentence)
{
    struct config_origin at = {file, 1, 1};
    struct binder binder = {.problems = folder->problems};

    binder_say(&binder, &at, "%s", sentence);
}

char *folder_read_file(const char *path, size_t *length)
{
    CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat st;
    char *text;
    ssize_t n = 0;

    if (fd < 0 || fstat(fd, &st) < 0)
        return NULL;
    if (!S_ISREG(st.st_mode) || st.st_size > YAML_BYTES_MAX) {
        errno = S_ISREG(st.st_mode) ? EFBIG : S_ISDIR(st.st_mode) ? EISDIR : EINVAL;
        return NULL;
    }
    text = malloc((size_t)st.st_size + 1);
    *length = 0;
    while (text && *length < (size_t)st.st_size &&
           (n = read(fd, text + *length, (size_t)st.st_size - *length)) > 0)
        *length += (size_t)n;
    if (n >= 0)
        return text;
    free(text); /* half a file may well be a policy, another one */
    return NULL;
}

const char *folder_read_error(int error)
{
    return error == EINVAL ? "It is no regular file" : strerror(error);
}

static bool make_room(struct folder *folder)
{
    unsigned room = folder->room ? folder->room * 2 : 16;
    struct config_text *texts;

    if (folder->count < folder->room)
        return true;
    texts = reallocarray(folder->texts, room, sizeof *texts);
    if (!texts)
        return false;
    folder->texts = texts;
    folder->room = room;
    return true;
}

/* Takes `name`. */
static int add_file(struct folder *folder, char *name)
{
    CLEANUP_FREE char *owned = name;
    CLEANUP_FREE char *path = name ? text_printf("%s/%s", folder->path, name) : NULL;
    struct config_text text = {.name = name};
    char reason[128];

    if (!path || !make_room(folder))
        return -ENOMEM;
    text.text = folder_read_file(path, &text.length);
    if (!text.text && errno == ENOMEM)
        return -ENOMEM;
    if (!text.text) {
        snprintf(reason, sizeof reason, "cannot be read: %s", folder_read_error(errno));
        say(folder, name, reason);
        return 0;
    }
    folder->texts[folder->count++] = text;
    owned = NULL;
    return 0;
}

static bool has_suffix(const char *name, const char *suffix)
{
    size_t length = strlen(name), tail = strlen(suffix);

    return length > tail && strcasecmp(name + length - tail, suffix) == 0;
}

static int add_entry(struct folder *folder, const char *below, const char *name)
{
    char *file;

    if (name[0] == '.' || (!has_suffix(name, ".yaml") && !has_suffix(name, ".yml")))
        return 0;
    file = text_printf("%s/%s", below, name);
    if (!file)
        return -ENOMEM;
    if (strcmp(strrchr(name, '.'), ".yaml") == 0)
        return add_file(folder, file);
    say(folder, file, "the name of a file here ends in .yaml");
    free(file);
    return 0;
}

/* A folder that is not there holds nothing. */
static int add_folder(struct folder *folder, const char *below)
{
    CLEANUP_FREE char *path = text_printf("%s/%s", folder->path, below);
    struct dirent **entries = NULL;
    char reason[128];
    int r = 0, count = path ? scandir(path, &entries, NULL, alphasort) : -1;

    if (count < 0 && errno != ENOENT) {
        snprintf(reason, sizeof reason, "cannot be read: %s", strerror(errno));
        say(folder, below, reason);
    }
    for (int i = 0; i < count; i++) {
        if (r == 0)
            r = add_entry(folder, below, entries[i]->d_name);
        free(entries[i]);
    }
    free(entries);
    return path ? r : -ENOMEM;
}

static int read_folder(struct folder *folder)
{
    int r = add_file(folder, strdup("gateway.yaml"));

    if (r == 0)
        r = add_folder(folder, "policies.d");
    if (r == 0)
        r = add_folder(folder, "disks.d");
    return r;
}

static void free_texts(struct folder *folder)
{
    for (unsigned i = 0; i < folder->count; i++) {
        free((void *)(uintptr_t)folder->texts[i].name);
        free((void *)(uintptr_t)folder->texts[i].text);
    }
    free(folder->texts);
}

int config_load(const char *path, const struct config_lookup *lookup, struct gateway_config **out,
                struct config_problems *problems)
{
    CLEANUP_FREE char *real = realpath(path, NULL);
    struct folder folder = {.path = real, .problems = problems};
    int r;

    *out = NULL;
    memset(problems, 0, sizeof *problems);
    if (!real) {
        r = -errno;
        say(&folder, path, strerror(errno));
        return r == -ENOMEM ? r : -EINVAL;
    }
    r = read_folder(&folder);
    if (r == 0)
        r = config_load_texts(real, folder.texts, folder.count, lookup, CONFIG_MEMORY_MAX, out,
                              problems);
    free_texts(&folder);
    return r;
}
