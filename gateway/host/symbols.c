/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * symbols.c: does a shared object define a symbol?  Asked before it is loaded, because loading runs
 * its constructors: a folder of filters may hold libraries that are none (an nbdkit plugin, say),
 * and a listing should neither run them nor call them broken.
 *
 * Reads the ELF section headers (System V ABI, chapter 4) of this machine's class; every offset is
 * checked against the file's size.
 */
#include "internal.h"

#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

struct image {
    const uint8_t *bytes;
    size_t size;
};

/* `bytes` at `offset`, aligned for a table; NULL when they are not all there. */
static const void *at(const struct image *image, uint64_t offset, uint64_t bytes)
{
    if (offset > image->size || bytes > image->size - offset || offset % 8)
        return NULL;
    return image->bytes + offset;
}

/* NULL: no ELF file, or without section headers. */
static const ElfW(Shdr) * sections(const struct image *image, unsigned *count)
{
    const unsigned own_class = sizeof(void *) == 8 ? ELFCLASS64 : ELFCLASS32;
    const ElfW(Ehdr) *header = at(image, 0, sizeof *header);

    if (!header || memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 ||
        header->e_ident[EI_CLASS] != own_class || header->e_shentsize != sizeof(ElfW(Shdr)))
        return NULL;
    *count = header->e_shnum;
    return at(image, header->e_shoff, (uint64_t)header->e_shnum * sizeof(ElfW(Shdr)));
}

static bool is_named(const struct image *image, const ElfW(Shdr) * strings, uint32_t offset,
                     const char *name)
{
    size_t length = strlen(name) + 1;

    return offset < strings->sh_size && strings->sh_size - offset >= length &&
           strings->sh_offset <= image->size &&
           strings->sh_size <= image->size - strings->sh_offset &&
           memcmp(image->bytes + strings->sh_offset + offset, name, length) == 0;
}

static bool table_has(const struct image *image, const ElfW(Shdr) * table,
                      const ElfW(Shdr) * strings, const char *name)
{
    const ElfW(Sym) *symbols = at(image, table->sh_offset, table->sh_size);

    for (size_t i = 0; symbols && i < table->sh_size / sizeof *symbols; i++)
        if (symbols[i].st_shndx != SHN_UNDEF && is_named(image, strings, symbols[i].st_name, name))
            return true;
    return false;
}

/* True also when it cannot be told. */
static bool may_define(const struct image *image, const char *name)
{
    unsigned count = 0;
    const ElfW(Shdr) *section = sections(image, &count);
    bool has_table = false;

    for (unsigned i = 0; section && i < count; i++) {
        if (section[i].sh_type != SHT_DYNSYM || section[i].sh_link >= count)
            continue;
        has_table |= at(image, section[i].sh_offset, section[i].sh_size) != NULL;
        if (table_has(image, &section[i], &section[section[i].sh_link], name))
            return true;
    }
    return !has_table;
}

bool symbols_may_define(const char *path, const char *name)
{
    CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct image image;
    struct stat st;
    void *map;
    bool may;

    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size == 0)
        return true;
    map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (map == MAP_FAILED)
        return true;
    image = (struct image){map, (size_t)st.st_size};
    may = may_define(&image, name);
    munmap(map, image.size);
    return may;
}
