/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * kit.c: `sluice filter new NAME --class CLASS`: makes a folder with a filter that builds, its
 * Makefile, test, manifest and manual page, from templates in which @NAME@, @IDENT@ (NAME as a C
 * identifier), @CLASS@ and @CLASS_ENUM@ stand for what was asked.
 */
#include "internal.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define TEMPLATE_MAX 65536

struct substitution {
    const char *from;
    char to[INSTANCE_NAME_MAX];
};

enum { S_NAME, S_IDENT, S_CLASS, S_CLASS_ENUM, S_COUNT };

static const struct {
    const char *template, *output; /* output: %s is the name */
    mode_t mode;
} files[] = {
    {"filter.c.template", "%s.c", 0644},
    {"Makefile.template", "Makefile", 0644},
    {"test.sh.template", "test.sh", 0755},
    {"manifest.yaml.template", "%s.yaml", 0644},
    {"manual.pod.template", "sluice-filter-%s.pod", 0644},
};

/* --- what was asked ------------------------------------------------------------------------- */

static bool is_filter_name(const char *name)
{
    if (!islower((unsigned char)name[0]) || strlen(name) >= INSTANCE_NAME_MAX)
        return false;
    for (const char *p = name; *p; p++)
        if (!islower((unsigned char)*p) && !isdigit((unsigned char)*p) && *p != '-')
            return false;
    return true;
}

/* "io-control" as IO_CONTROL, and as io_control. */
static void replace_dashes(char *out, const char *word, bool is_upper)
{
    size_t i;

    for (i = 0; word[i] && i < INSTANCE_NAME_MAX - 1; i++) {
        char c = is_upper ? (char)toupper((unsigned char)word[i]) : word[i];

        out[i] = c == '-' ? '_' : c;
    }
    out[i] = '\0';
}

static int check_class(const char *word, struct err *e)
{
    char known[300] = "";

    for (uint32_t c = 1; c < SLUICE_CLASS_END; c++) {
        const char *name = host_class_name(c);

        if (strcmp(word, name) == 0)
            return 0;
        snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s", c > 1 ? ", " : "",
                 name);
    }
    return err_set(e, EINVAL, "there is no class %s; one of %s", word, known);
}

static int fill_substitutions(struct substitution *s, const char *name, const char *class_name,
                              struct err *e)
{
    static const char *const from[S_COUNT] = {"@NAME@", "@IDENT@", "@CLASS@", "@CLASS_ENUM@"};

    if (!is_filter_name(name))
        return err_set(e, EINVAL, "\"%s\" is no name for a filter: [a-z][a-z0-9-]*", name);
    for (int i = 0; i < S_COUNT; i++)
        s[i].from = from[i];
    snprintf(s[S_NAME].to, sizeof s[S_NAME].to, "%s", name);
    snprintf(s[S_CLASS].to, sizeof s[S_CLASS].to, "%s", class_name);
    replace_dashes(s[S_IDENT].to, name, false);
    replace_dashes(s[S_CLASS_ENUM].to, class_name, true);
    return check_class(class_name, e);
}

/* --- files ---------------------------------------------------------------------------------- */

static int read_template(const char *name, char out[TEMPLATE_MAX], struct err *e)
{
    const char *kit = getenv("SLUICE_KIT");
    char path[PATH_MAX];
    FILE *f;
    size_t n;

    snprintf(path, sizeof path, "%s/%s", kit ? kit : installation.kit, name);
    f = fopen(path, "re");
    if (!f)
        return err_set(e, errno, "cannot read the template %s: %s", path, strerror(errno));
    n = fread(out, 1, TEMPLATE_MAX - 1, f);
    out[n] = '\0';
    fclose(f);
    return 0;
}

/* The substitution that stands at p, or NULL. */
static const struct substitution *find_at(const struct substitution *s, const char *p)
{
    for (int i = 0; *p == '@' && i < S_COUNT; i++)
        if (strncmp(p, s[i].from, strlen(s[i].from)) == 0)
            return &s[i];
    return NULL;
}

static void print_substituted(FILE *out, const char *text, const struct substitution *s)
{
    while (*text) {
        const struct substitution *found = find_at(s, text);

        if (found) {
            fputs(found->to, out);
            text += strlen(found->from);
        } else {
            fputc(*text++, out);
        }
    }
}

static int write_file(const char *path, mode_t mode, const char *text, const struct substitution *s,
                      struct err *e)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "w");

    if (!f) {
        err_set(e, errno, "cannot make %s: %s", path, strerror(errno));
        cleanup_close(&fd);
        return -e->code;
    }
    print_substituted(f, text, s);
    if (fclose(f) != 0)
        return err_set(e, errno, "cannot write %s: %s", path, strerror(errno));
    return 0;
}

/* text: of TEMPLATE_MAX bytes. */
static int write_all(const char *folder, const struct substitution *s, char *text, struct err *e)
{
    int r = 0;

    for (size_t i = 0; i < ARRAY_SIZE(files) && r == 0; i++) {
        char path[PATH_MAX], name[INSTANCE_NAME_MAX + 40];
        const char *percent = strstr(files[i].output, "%s");
        int before = percent ? (int)(percent - files[i].output) : (int)strlen(files[i].output);

        snprintf(name, sizeof name, "%.*s%s%s", before, files[i].output,
                 percent ? s[S_NAME].to : "", percent ? percent + 2 : "");
        if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path)
            return err_set(e, ENAMETOOLONG, "%s: the name is too long", folder);
        r = read_template(files[i].template, text, e);
        if (r == 0)
            r = write_file(path, files[i].mode, text, s, e);
    }
    return r;
}

int host_kit_create(const char *name, const char *class_name, const char *folder, struct err *e)
{
    struct substitution s[S_COUNT];
    CLEANUP_FREE char *text = NULL;
    struct err own = {0};
    int r;

    e = e ? e : &own;
    r = fill_substitutions(s, name, class_name, e);
    if (r < 0)
        return r;
    text = malloc(TEMPLATE_MAX);
    if (!text)
        return err_set(e, ENOMEM, "out of memory");
    r = read_template(files[0].template, text, e); /* before anything is made */
    if (r < 0)
        return r;
    if (mkdir(folder, 0777) < 0)
        return err_set(e, errno, "cannot make the folder %s: %s", folder, strerror(errno));
    return write_all(folder, s, text, e);
}
