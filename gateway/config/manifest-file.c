/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * manifest-file: the manifest that lies beside a filter, and whether it tells the truth about it:
 * what the filter's own table says, and the sum of the file's bytes.
 */
#include "config/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define MANIFEST_BYTES_MAX 65536u

/* --- does it tell the truth? ---------------------------------------------------------------- */

static int digest_file(const char *path, char out[65], struct err *e)
{
    CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned length = 0;
    struct stat st;
    void *map;
    bool ok;

    if (fd < 0 || fstat(fd, &st) < 0)
        return err_set(e, errno, "%s: %s", path, strerror(errno));
    map = st.st_size ? mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0) : MAP_FAILED;
    if (map == MAP_FAILED)
        return err_set(e, EIO, "%s: cannot be read", path);
    ok = EVP_Digest(map, (size_t)st.st_size, digest, &length, EVP_sha256(), NULL) == 1;
    munmap(map, (size_t)st.st_size);
    if (!ok)
        return err_set(e, EIO, "%s: cannot be summed up", path);
    for (unsigned i = 0; i < 32; i++)
        snprintf(out + 2 * i, 3, "%02x", digest[i]);
    return 0;
}

static int compare_text(const char *what, const char *claimed, const char *real, struct err *e)
{
    return strcmp(claimed, real) == 0
               ? 0
               : err_set(e, EINVAL, "%s is %s there and %s in the filter", what, claimed, real);
}

static int compare_number(const char *what, uint32_t claimed, uint32_t real, struct err *e)
{
    return claimed == real
               ? 0
               : err_set(e, EINVAL, "%s differs from the filter's (%u there, %u in the filter)",
                         what, claimed, real);
}

int config_manifest_compare(const struct config_manifest *m, const struct sluice_filter *filter,
                            const char *so_path, struct err *e)
{
    char digest[65];
    int r = compare_text("name", m->name, filter->name, e);

    if (r == 0)
        r = compare_text("vendor", m->vendor, filter->vendor, e);
    if (r == 0)
        r = compare_text("version", m->version, filter->version, e);
    if (r == 0)
        r = compare_text("class", chain_class_name(m->filter_class),
                         chain_class_name(filter->filter_class), e);
    if (r == 0)
        r = compare_number("api_version", (uint32_t)m->api_version, filter->api_version, e);
    if (r == 0)
        r = compare_number("needs", m->needs, filter->needs, e);
    if (r < 0 || !m->sha256)
        return r;
    r = digest_file(so_path, digest, e);
    if (r == 0 && strcmp(digest, m->sha256) != 0)
        r = err_set(e, EINVAL, "sha256 is of another file: %s has %s", so_path, digest);
    return r;
}

/* --- beside a filter ------------------------------------------------------------------------ */

/* NULL: ENOENT, or *e. */
static char *read_whole(const char *path, size_t *length, struct err *e)
{
    FILE *f = fopen(path, "re");
    char *text = f ? malloc(MANIFEST_BYTES_MAX + 1) : NULL;

    if (!f || !text) {
        if (f || errno != ENOENT)
            (void)err_set(e, f ? ENOMEM : errno, "%s: %s", path, strerror(f ? ENOMEM : errno));
        if (f)
            fclose(f);
        return NULL;
    }
    *length = fread(text, 1, MANIFEST_BYTES_MAX + 1, f);
    if (ferror(f) || *length > MANIFEST_BYTES_MAX) {
        (void)err_set(e, ferror(f) ? EIO : EFBIG, "%s: %s", path,
                      ferror(f) ? "cannot be read" : "is larger than 64 KiB");
        free(text);
        text = NULL;
    }
    fclose(f);
    return text;
}

static int refuse(const char *path, const struct config_problems *problems, struct err *e)
{
    const struct config_problem *p = &problems->problem[0];

    return problems->count ? err_set(e, EINVAL, "%s:%u:%u: %s", path, p->line, p->column, p->text)
                           : err_set(e, ENOMEM, "out of memory");
}

int config_manifest_check(const char *so_path, const struct sluice_filter *filter, struct err *e)
{
    size_t stem = strlen(so_path) > 3 ? strlen(so_path) - 3 : 0, length = 0;
    CLEANUP_FREE char *path = text_printf("%.*s.yaml", (int)stem, so_path);
    CLEANUP_FREE struct config_problems *problems = calloc(1, sizeof *problems);
    CLEANUP_FREE char *text = NULL;
    struct config_manifest *m;
    struct err own = {0};
    int r;

    e = e ? e : &own;
    if (!path || !problems)
        return err_set(e, ENOMEM, "out of memory");
    e->code = 0;
    text = read_whole(path, &length, e);
    if (!text)
        return e->code ? -e->code : -ENOENT;
    if (config_manifest_parse(path, text, length, &m, problems) < 0)
        return refuse(path, problems, e);
    r = config_manifest_compare(m, filter, so_path, e);
    config_manifest_free(m);
    return r < 0 ? err_context(e, "%s", path) : 0;
}
