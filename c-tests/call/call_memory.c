/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The calls that give advice about memory: readahead and posix_fadvise for a file's cache, mlock for the program's pages. */
#include "test.h"
#include "call.h"

enum { SIZE = 1 << 20 };

/* Pages of a file that are in memory. */
static size_t resident(int fd)
{
    static unsigned char pages[SIZE / 4096];
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t count = 0;
    void *at = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, fd, 0);

    CHECK(at != MAP_FAILED);
    CHECK_EQ(mincore(at, SIZE, pages), 0);
    CHECK_EQ(munmap(at, SIZE), 0);
    for (size_t i = 0; i < SIZE / page; i++)
        count += pages[i] & 1;
    return count;
}

/* Of the status of this process, in KiB. */
static long locked_kib(void)
{
    FILE *file = fopen("/proc/self/status", "re");
    char line[256];
    long kib = -1;

    CHECK(file != NULL);
    while (fgets(line, sizeof(line), file) != NULL)
        (void)sscanf(line, "VmLck: %ld", &kib);
    fclose(file);
    return kib;
}

int main(void)
{
    int fd = temp_pattern_file(SIZE, 1, 0);
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    void *memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    long before;

    CHECK(memory != MAP_FAILED);
    CHECK_EQ(call_async(SYS_fsync, N(fd)), 0);
    CHECK_EQ(call_async(SYS_fadvise64, N(fd), 0, 0, POSIX_FADV_DONTNEED), 0);
    CHECK_CMP(resident(fd), <, SIZE / page);
    CHECK_EQ(call_async(SYS_readahead, N(fd), 0, SIZE), 0);
    CHECK_SOON(resident(fd) >= 1);
    CHECK_EQ(call_async(SYS_fadvise64, N(fd), 0, 0, 1000), -EINVAL);
    CHECK_EQ(call_async(SYS_readahead, N(-1), 0, SIZE), -EBADF);

    before = locked_kib();
    CHECK_EQ(call_async(SYS_mlock, P(memory), page), 0);
    CHECK_EQ(locked_kib(), before + (long)page / 1024);
    CHECK_EQ(call_async(SYS_munlock, P(memory), page), 0);
    CHECK_EQ(locked_kib(), before);
    CHECK_EQ(call_async(SYS_munmap, P(memory), SIZE), 0);
    CHECK_EQ(call_async(SYS_mlock, P(memory), page), -ENOMEM);
    call_end();
    return 0;
}
