/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The allocator's functions and mmap, in the program's place of the C library's, for the library and the
 * program alike: they count, and fail on request. Included after test.h.
 */
#ifndef AIO2_ALLOC_HOOK_H
#define AIO2_ALLOC_HOOK_H

#include <stdarg.h>

#ifndef __GLIBC__
#error "this needs the __libc_ names of the GNU C library"
#endif

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *old, size_t size);
extern void *__libc_memalign(size_t align, size_t size);
extern void __libc_free(void *memory);

/* Calls that may fail are counted while this is set; frees are counted apart. */
static int alloc_armed;
static long alloc_calls;
static long alloc_frees;
/* The first counted call that fails (from 1; 0: none), and whether all after it do. */
static long alloc_fail_at;
static int alloc_fail_after;
static long alloc_failed;

static bool alloc_fails(void)
{
    long call;

    if (!__atomic_load_n(&alloc_armed, __ATOMIC_ACQUIRE))
        return false;
    call = __atomic_add_fetch(&alloc_calls, 1, __ATOMIC_RELAXED);
    if (alloc_fail_at == 0 || (call != alloc_fail_at && !(alloc_fail_after && call > alloc_fail_at)))
        return false;
    __atomic_fetch_add(&alloc_failed, 1, __ATOMIC_RELAXED);
    errno = ENOMEM;
    return true;
}

static TEST_UNUSED void alloc_arm(long fail_at, int fail_after)
{
    alloc_calls = 0;
    alloc_frees = 0;
    alloc_failed = 0;
    alloc_fail_at = fail_at;
    alloc_fail_after = fail_after;
    __atomic_store_n(&alloc_armed, 1, __ATOMIC_RELEASE);
}

static TEST_UNUSED void alloc_disarm(void)
{
    __atomic_store_n(&alloc_armed, 0, __ATOMIC_RELEASE);
}

void *malloc(size_t size)
{
    return alloc_fails() ? NULL : __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
    return alloc_fails() ? NULL : __libc_calloc(n, size);
}

void *realloc(void *old, size_t size)
{
    return alloc_fails() ? NULL : __libc_realloc(old, size);
}

int posix_memalign(void **memory, size_t align, size_t size)
{
    void *found = alloc_fails() ? NULL : __libc_memalign(align, size);

    if (found == NULL)
        return ENOMEM;
    *memory = found;
    return 0;
}

void *aligned_alloc(size_t align, size_t size)
{
    return alloc_fails() ? NULL : __libc_memalign(align, size);
}

void *memalign(size_t align, size_t size)
{
    return alloc_fails() ? NULL : __libc_memalign(align, size);
}

void free(void *memory)
{
    if (__atomic_load_n(&alloc_armed, __ATOMIC_RELAXED) && memory != NULL)
        __atomic_fetch_add(&alloc_frees, 1, __ATOMIC_RELAXED);
    __libc_free(memory);
}

void *mmap(void *address, size_t size, int prot, int flags, int fd, off_t offset)
{
    if (alloc_fails())
        return MAP_FAILED;
    return (void *)syscall(SYS_mmap, address, size, prot, flags, fd, offset);
}

void *mmap64(void *address, size_t size, int prot, int flags, int fd, off_t offset)
{
    return mmap(address, size, prot, flags, fd, offset);
}

void *mremap(void *old, size_t old_size, size_t new_size, int flags, ...)
{
    va_list args;
    void *target;

    va_start(args, flags);
    target = (flags & MREMAP_FIXED) != 0 ? va_arg(args, void *) : NULL;
    va_end(args);
    if (alloc_fails())
        return MAP_FAILED;
    return (void *)syscall(SYS_mremap, old, old_size, new_size, flags, target);
}

int memfd_create(const char *name, unsigned int flags)
{
    return alloc_fails() ? -1 : (int)syscall(SYS_memfd_create, name, flags);
}

#endif /* AIO2_ALLOC_HOOK_H */
