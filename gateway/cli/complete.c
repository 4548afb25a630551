/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * complete.c: `sluice --complete WORD...`: the words that may stand in the place of the last one,
 * one a line.  Shells ask it, so that completion comes from the table of verbs and from the
 * configuration, and never says anything on stderr.
 */
#include "cli.h"

#include <limits.h>
#include <dirent.h>
#include <stdio.h>
#include <string.h>

static void offer(const char *word, size_t length, const char *typed)
{
    if (strncmp(word, typed, MIN(length, strlen(typed))) == 0 && strlen(typed) <= length)
        printf("%.*s\n", (int)length, word);
}

/* The verbs' `at`-th words after those already there. */
static void offer_verbs(int at, char **argv, const char *typed)
{
    const char *last = "";

    for (unsigned i = 0; i < cli_verb_count; i++) {
        const char *name = cli_verbs[i].name, *space = strchr(name, ' ');
        size_t first = space ? (size_t)(space - name) : strlen(name);

        if (at == 0 && !(strlen(last) >= first && strncmp(last, name, first) == 0 &&
                         (last[first] == ' ' || !last[first])))
            offer(name, first, typed);
        if (at == 1 && space && strlen(argv[0]) == first && strncmp(argv[0], name, first) == 0)
            offer(space + 1, strlen(space + 1), typed);
        last = name;
    }
}

static const struct cli_verb *find(int argc, char **argv, int *words)
{
    for (unsigned i = 0; i < cli_verb_count; i++) {
        char both[128];

        snprintf(both, sizeof both, "%s %s", argv[0], argc > 1 ? argv[1] : "");
        *words = strchr(cli_verbs[i].name, ' ') ? 2 : 1;
        if (strcmp(cli_verbs[i].name, *words == 2 ? both : argv[0]) == 0)
            return &cli_verbs[i];
    }
    return NULL;
}

/* Options are the words of the argument text that begin with two dashes. */
static void offer_options(const struct cli_verb *v, const char *typed)
{
    offer("--config", 8, typed);
    offer("--help", 6, typed);
    for (const char *p = strstr(v->arguments, "--"); p; p = strstr(p + 2, "--"))
        offer(p, 2 + strspn(p + 2, "abcdefghijklmnopqrstuvwxyz-"), typed);
}

static void offer_files(const char *folder, const char *below, const char *suffix,
                        const char *typed)
{
    char path[PATH_MAX];
    struct dirent *entry;
    DIR *dir;

    snprintf(path, sizeof path, "%s/%s", folder, below);
    dir = opendir(path);
    while (dir && (entry = readdir(dir)) != NULL) {
        size_t n = strlen(entry->d_name), s = strlen(suffix);

        if (n > s && entry->d_name[0] != '.' && strcmp(entry->d_name + n - s, suffix) == 0)
            offer(entry->d_name, n - s, typed);
    }
    if (dir)
        closedir(dir);
}

static const char *folder_of(int argc, char **argv)
{
    for (int i = 0; i + 1 < argc; i++)
        if (strcmp(argv[i], "--config") == 0)
            return argv[i + 1];
    return installation.settings;
}

static void offer_filters(const char *typed)
{
    char folders[PATH_MAX], *save = NULL;

    cli_find_filters(NULL, folders, sizeof folders);
    for (char *p = strtok_r(folders, ":", &save); p; p = strtok_r(NULL, ":", &save))
        offer_files(p, "", ".so", typed);
}

int cli_complete(int argc, char **argv)
{
    const char *typed = argc ? argv[argc - 1] : "";
    const struct cli_verb *v;
    int words;

    if (argc <= 1) {
        offer_verbs(0, argv, typed);
        return EXIT_OK;
    }
    v = find(argc - 1, argv, &words);
    if (!v)
        offer_verbs(argc - 1, argv, typed);
    else if (typed[0] == '-')
        offer_options(v, typed);
    else if (strcmp(argv[argc - 2], "--policy") == 0)
        offer_files(folder_of(argc, argv), "policies.d", ".yaml", typed);
    else if (strstr(v->arguments, "DISK"))
        offer_files(folder_of(argc, argv), "disks.d", ".yaml", typed);
    else if (strstr(v->arguments, "FILTER"))
        offer_filters(typed);
    return EXIT_OK;
}
