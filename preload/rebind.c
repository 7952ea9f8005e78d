/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The dynamic linker looks for a function in the order of the objects: the program, the objects that it needs, the objects that these need.
 * If libaio.so.1 comes after libc in this order (because libaio is linked last, or comes with a library or a plug-in), all objects get
 * libc's syscall(). A program that makes AIO calls with it would then give the kernel a context that is not the kernel's. So in this case
 * each binding to libc's syscall() is changed to ours, which passes on all calls that are not AIO's; and those to the functions that say
 * how requests are carried out.
 *
 * A preloaded object comes before libc, and has nothing to do here.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "rebind.h"

#if defined(__x86_64__)
enum { JUMP_SLOT = R_X86_64_JUMP_SLOT, GLOB_DAT = R_X86_64_GLOB_DAT };
#elif defined(__aarch64__)
enum { JUMP_SLOT = R_AARCH64_JUMP_SLOT, GLOB_DAT = R_AARCH64_GLOB_DAT };
#else
#error "the relocations of this machine are not known"
#endif

static const struct {
    const char *name;
    uintptr_t at;
} ours[] = {
    { "syscall", (uintptr_t)aio2_syscall },   { "fcntl", (uintptr_t)aio2_fcntl },       { "fcntl64", (uintptr_t)aio2_fcntl },
    { "setfsuid", (uintptr_t)aio2_setfsuid }, { "setfsgid", (uintptr_t)aio2_setfsgid }, { "capset", (uintptr_t)aio2_capset },
};

/* Our function of that name; 0: there is none. */
static uintptr_t ours_for(const char *name)
{
    for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
        if (strcmp(ours[i].name, name) == 0)
            return ours[i].at;
    return 0;
}

/* An object of the process. */
struct object {
    uintptr_t base;
    const char *strings;
    const ElfW(Sym) *symbols;
    /* The range that the dynamic linker has made read-only after it was done. */
    uintptr_t relro, relro_end;
};

static void rebind(const struct object *object, const ElfW(Rela) *at, size_t bytes)
{
    uintptr_t page_bytes = (uintptr_t)sysconf(_SC_PAGESIZE);

    for (const ElfW(Rela) *end = at + bytes / sizeof(*at); at < end; at++) {
        const ElfW(Sym) *symbol = &object->symbols[ELF64_R_SYM(at->r_info)];
        uintptr_t slot = object->base + at->r_offset, page = slot & -page_bytes;
        int is_protected = page >= object->relro && page < object->relro_end;

        if (ELF64_R_TYPE(at->r_info) != JUMP_SLOT && ELF64_R_TYPE(at->r_info) != GLOB_DAT)
            continue;
        uintptr_t function = symbol->st_shndx == SHN_UNDEF ? ours_for(object->strings + symbol->st_name) : 0;

        if (function == 0)
            continue;
        if (is_protected && mprotect((void *)page, page_bytes, PROT_READ | PROT_WRITE) != 0)
            continue;
        /* With one atomic store, because other threads may be about to call it. */
        __atomic_store_n((uintptr_t *)slot, function, __ATOMIC_RELAXED);
        if (is_protected)
            mprotect((void *)page, page_bytes, PROT_READ);
    }
}

static int look_at(struct dl_phdr_info *info, size_t size, void *arg)
{
    uintptr_t page_bytes = (uintptr_t)sysconf(_SC_PAGESIZE);
    struct object object = { .base = info->dlpi_addr };
    const ElfW(Dyn) *entry = NULL;
    const ElfW(Rela) *rela = NULL, *plt = NULL;
    size_t rela_bytes = 0, plt_bytes = 0;

    (void)size, (void)arg;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        uintptr_t start = object.base + header->p_vaddr;

        if (header->p_type == PT_DYNAMIC)
            entry = (const ElfW(Dyn) *)start;
        if (header->p_type == PT_GNU_RELRO) {
            object.relro = start & -page_bytes;
            object.relro_end = (start + header->p_memsz) & -page_bytes;
        }
    }
    for (; entry != NULL && entry->d_tag != DT_NULL; entry++) {
        /* The dynamic linker has turned these into addresses, except the vDSO's. */
        uintptr_t at = entry->d_un.d_ptr < object.base ? object.base + entry->d_un.d_ptr : entry->d_un.d_ptr;

        switch (entry->d_tag) {
        case DT_STRTAB: object.strings = (const char *)at; break;
        case DT_SYMTAB: object.symbols = (const ElfW(Sym) *)at; break;
        case DT_RELA: rela = (const ElfW(Rela) *)at; break;
        case DT_RELASZ: rela_bytes = entry->d_un.d_val; break;
        case DT_JMPREL: plt = (const ElfW(Rela) *)at; break;
        case DT_PLTRELSZ: plt_bytes = entry->d_un.d_val; break;
        }
    }
    if (object.strings == NULL || object.symbols == NULL)
        return 0;
    if (rela != NULL)
        rebind(&object, rela, rela_bytes);
    if (plt != NULL)
        rebind(&object, plt, plt_bytes);
    return 0;
}

__attribute__((constructor)) static void take_over(void)
{
    void *libc = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
    void *first = dlsym(RTLD_DEFAULT, "syscall");

    if (libc != NULL && first != NULL && first == dlsym(libc, "syscall"))
        dl_iterate_phdr(look_at, NULL);
}
