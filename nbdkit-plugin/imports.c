/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * imports.c: leads calls that nbdkit's own program makes of a library's function to one of ours, by
 * the program's table of imported functions (ELF's DT_JMPREL).  Nobody else's calls are touched:
 * not this plugin's, not a library's.  Only on x86-64, where it was tried; elsewhere nbdkit is as
 * it is.
 */
#include "plugin.h"

#include <errno.h>

#ifdef __x86_64__
#include <link.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct lead {
    const char *name;
    void *to;
};

struct dynamic {
    const ElfW(Rela) * relocation;
    const ElfW(Sym) * symbol;
    const char *names;
    size_t count;
};

static void read_dynamic(const ElfW(Dyn) * entry, struct dynamic *d)
{
    for (; entry->d_tag != DT_NULL; entry++)
        switch (entry->d_tag) {
        case DT_JMPREL:
            d->relocation = (const void *)entry->d_un.d_ptr;
            break;
        case DT_PLTRELSZ:
            d->count = entry->d_un.d_val / sizeof *d->relocation;
            break;
        case DT_SYMTAB:
            d->symbol = (const void *)entry->d_un.d_ptr;
            break;
        case DT_STRTAB:
            d->names = (const void *)entry->d_un.d_ptr;
            break;
        default:
            break;
        }
}

/* The page may have been made read-only after the program was linked. */
static int set_slot(void **slot, void *value)
{
    uintptr_t size = (uintptr_t)sysconf(_SC_PAGESIZE), page = (uintptr_t)slot & ~(size - 1);

    if (mprotect((void *)page, size, PROT_READ | PROT_WRITE) != 0)
        return -1;
    *slot = value;
    return 0;
}

static int lead(uintptr_t base, const struct dynamic *d, const struct lead *wanted)
{
    for (size_t i = 0; i < d->count; i++) {
        const ElfW(Sym) *symbol = &d->symbol[ELF64_R_SYM(d->relocation[i].r_info)];

        if (strcmp(d->names + symbol->st_name, wanted->name) == 0)
            return set_slot((void **)(base + d->relocation[i].r_offset), wanted->to);
    }
    return -1;
}

/* The program is the first object; the others are of no interest. */
static int visit_program(struct dl_phdr_info *info, size_t size, void *arg)
{
    struct dynamic d = {0};

    (void)size;
    for (unsigned i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_DYNAMIC)
            read_dynamic((const void *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr), &d);
    return d.relocation && d.symbol && d.names && lead(info->dlpi_addr, &d, arg) == 0 ? 1 : -1;
}

int imports_lead(const char *name, void *to)
{
    struct lead wanted = {.name = name, .to = to};

    return dl_iterate_phdr(visit_program, &wanted) == 1 ? 0 : -ENOENT;
}

#else

int imports_lead(const char *name, void *to)
{
    (void)name;
    (void)to;
    return -ENOTSUP;
}

#endif
