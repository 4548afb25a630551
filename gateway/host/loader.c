/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * loader.c: finds filters in the search path and loads them, each file once.
 *
 * RTLD_LOCAL, because filters must not see each other's symbols; RTLD_NOW, so that what is missing
 * is missed now; RTLD_NODELETE and never closed, because threads may be inside.  loader_mutex
 * guards the path and the list of what has been loaded; it is held while a filter's constructors
 * run.
 */
#include "internal.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define FOLDERS_MAX 32u
#define SUFFIX ".so"

struct loaded {
    struct loaded *next;
    const struct sluice_filter *filter;
    char path[]; /* the real one */
};

static pthread_mutex_t loader_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct loaded *all_loaded;      /* [L loader_mutex] */
static char *search_path[FOLDERS_MAX]; /* [L loader_mutex] */
static unsigned search_count;          /* [L loader_mutex] */

/* --- the path -----------------------------------------------------------------------------------
 */

static void forget_path(void)
{
    while (search_count)
        free(search_path[--search_count]);
}

int host_set_filter_path(const char *const *folders, unsigned count)
{
    SCOPED_LOCK(&loader_mutex);

    if (count > FOLDERS_MAX)
        return -E2BIG;
    forget_path();
    for (unsigned i = 0; i < count; i++) {
        search_path[i] = strdup(folders[i]);
        if (!search_path[i])
            return -ENOMEM;
        search_count = i + 1;
    }
    return 0;
}

static unsigned folder_count(void)
{
    return search_count ? search_count : 1;
}

static const char *folder(unsigned index)
{
    return search_count ? search_path[index] : installation.filters;
}

/* --- loading ------------------------------------------------------------------------------------
 */

static const struct sluice_filter *find_loaded(const char *path)
{
    for (struct loaded *l = all_loaded; l; l = l->next)
        if (strcmp(l->path, path) == 0)
            return l->filter;
    return NULL;
}

static int remember(const char *path, const struct sluice_filter *filter, struct err *e)
{
    size_t length = strlen(path) + 1;
    struct loaded *l = malloc(sizeof *l + length);

    if (!l)
        return err_set(e, ENOMEM, "filter %s: out of memory", filter->name);
    memcpy(l->path, path, length);
    l->filter = filter;
    l->next = all_loaded;
    all_loaded = l;
    return 0;
}

static const struct sluice_filter *(*find_symbol(void *library))(void)
{
    union {
        void *object;
        const struct sluice_filter *(*function)(void);
    } symbol = {.object = dlsym(library, SLUICE_FILTER_SYMBOL)};

    return symbol.function;
}

static int refuse_other_file(const char *path, struct err *e)
{
    return err_set(e, ENOEXEC,
                   "%s: is no filter: it does not export %s (SLUICE_FILTER(table) in one source "
                   "file does)",
                   path, SLUICE_FILTER_SYMBOL);
}

static const struct sluice_filter *open_file(const char *path, struct err *e)
{
    const struct sluice_filter *(*table)(void);
    const struct sluice_filter *filter;
    struct err why = {0};
    void *library;

    if (!symbols_may_define(path, SLUICE_FILTER_SYMBOL)) { /* its constructors do not run */
        (void)refuse_other_file(path, e);
        return NULL;
    }
    library = dlopen(path, RTLD_LOCAL | RTLD_NOW | RTLD_NODELETE);
    if (!library) {
        (void)err_set(e, ENOEXEC, "%s", dlerror());
        return NULL;
    }
    table = find_symbol(library);
    filter = table ? table() : NULL;
    if (!filter) {
        (void)refuse_other_file(path, e);
        return NULL;
    }
    if (host_check_filter(filter, &why) == 0)
        return filter;
    (void)err_set(e, EINVAL, "%s: %s", path, why.text);
    return NULL;
}

static const struct sluice_filter *load(const char *path, struct err *e)
{
    const struct sluice_filter *filter;
    char real[PATH_MAX];

    if (!realpath(path, real)) {
        (void)err_set(e, errno, "%s: %s", path, strerror(errno));
        return NULL;
    }
    filter = find_loaded(real);
    if (filter)
        return filter;
    filter = open_file(real, e);
    return filter && remember(real, filter, e) == 0 ? filter : NULL;
}

/* --- finding ------------------------------------------------------------------------------------
 */

/* The part before ".so"; false: not such a name. */
static bool stem_of(const char *file_name, char out[INSTANCE_NAME_MAX])
{
    size_t length = strlen(file_name), suffix = strlen(SUFFIX);

    if (length <= suffix || length - suffix >= INSTANCE_NAME_MAX ||
        strcmp(file_name + length - suffix, SUFFIX) != 0)
        return false;
    memcpy(out, file_name, length - suffix);
    out[length - suffix] = '\0';
    return true;
}

static bool find_file(const char *name, char out[PATH_MAX])
{
    for (unsigned i = 0; i < folder_count(); i++)
        if (snprintf(out, PATH_MAX, "%s/%s" SUFFIX, folder(i), name) < PATH_MAX &&
            access(out, F_OK) == 0)
            return true;
    return false;
}

static const struct sluice_filter *load_by_name(const char *name, struct err *e)
{
    const struct sluice_filter *filter;
    char path[PATH_MAX];

    if (!find_file(name, path)) {
        (void)err_set(e, ENOENT, "filter %s: there is no %s" SUFFIX " in %s%s", name, name,
                      folder(0), folder_count() > 1 ? " or the other folders searched" : "");
        return NULL;
    }
    filter = load(path, e);
    if (!filter || strcmp(filter->name, name) == 0)
        return filter;
    (void)err_set(e, EINVAL, "filter %s: %s holds a filter of another name, %s", name, path,
                  filter->name);
    return NULL;
}

const struct sluice_filter *host_find_filter(const char *name, struct err *e)
{
    SCOPED_LOCK(&loader_mutex);

    return strchr(name, '/') ? load(name, e) : load_by_name(name, e);
}

/* --- listing ------------------------------------------------------------------------------------
 */

/* Names in the path, each once, sorted; a growing block: pointers first, text behind them. */
struct names {
    char (*item)[INSTANCE_NAME_MAX];
    unsigned count, capacity;
};

static void add_name(struct names *n, const char *stem)
{
    for (unsigned i = 0; i < n->count; i++)
        if (strcmp(n->item[i], stem) == 0)
            return;
    if (n->count == n->capacity) {
        unsigned capacity = n->capacity ? 2 * n->capacity : 16;
        void *bigger = realloc(n->item, capacity * sizeof *n->item);

        if (!bigger)
            return;
        n->item = bigger;
        n->capacity = capacity;
    }
    strcpy(n->item[n->count++], stem);
}

static void add_folder(struct names *n, const char *path)
{
    DIR *dir = opendir(path);
    char stem[INSTANCE_NAME_MAX];
    struct dirent *entry;

    while (dir && (entry = readdir(dir)))
        if (stem_of(entry->d_name, stem))
            add_name(n, stem);
    if (dir)
        closedir(dir);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(a, b);
}

static void collect_names(struct names *n)
{
    *n = (struct names){.item = NULL};
    for (unsigned i = 0; i < folder_count(); i++)
        add_folder(n, folder(i));
    if (n->count)
        qsort(n->item, n->count, sizeof *n->item, compare_names);
}

const char **host_filter_names(void)
{
    struct names n;
    const char **block;
    size_t pointers;
    SCOPED_LOCK(&loader_mutex);

    collect_names(&n);
    pointers = (n.count + 1) * sizeof *block;
    block = malloc(pointers + n.count * sizeof *n.item);
    if (block) {
        char *text = (char *)block + pointers;

        if (n.count)
            memcpy(text, n.item, n.count * sizeof *n.item);
        for (unsigned i = 0; i < n.count; i++)
            block[i] = text + i * sizeof *n.item;
        block[n.count] = NULL;
    }
    free(n.item);
    return block;
}

void host_for_each_filter(void (*fn)(const char *path, const struct sluice_filter *filter,
                                     const char *broken, void *arg),
                          void *arg)
{
    CLEANUP_FREE const char **names = host_filter_names();

    for (unsigned i = 0; names && names[i]; i++) {
        const struct sluice_filter *filter;
        struct err e = {0};
        char path[PATH_MAX] = "";

        {
            SCOPED_LOCK(&loader_mutex);
            if (find_file(names[i], path) && !symbols_may_define(path, SLUICE_FILTER_SYMBOL))
                continue; /* a library that is no filter and does not want to be one */
            filter = load_by_name(names[i], &e);
        }
        fn(path, filter, filter ? NULL : e.text, arg);
    }
}
