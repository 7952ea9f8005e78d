/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The calls that work on names: directories and files are made, opened, listed, linked, renamed and removed. */
#include "test.h"
#include "call.h"

#include <linux/openat2.h>

struct entry {
    uint64_t ino;
    int64_t off;
    unsigned short bytes;
    unsigned char type;
    char name[];
};

/* How often a directory has this name. */
static int count_name(int dir, const char *name)
{
    static _Alignas(8) char list[4096];
    int count = 0;
    int64_t bytes;

    CHECK_EQ(call_async(SYS_lseek, N(dir), 0, SEEK_SET), 0);
    while ((bytes = call_async(SYS_getdents64, N(dir), P(list), sizeof(list))) > 0) {
        for (int64_t at = 0; at < bytes;) {
            const struct entry *entry = (const struct entry *)(const void *)(list + at);

            count += strcmp(entry->name, name) == 0;
            at += entry->bytes;
        }
    }
    CHECK_EQ(bytes, 0);
    return count;
}

int main(void)
{
    char *top = temp_path("top");
    struct open_how how = { .flags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, .mode = 0640, .resolve = RESOLVE_BENEATH };
    struct statx stat;
    struct statx other;
    char target[16] = "";
    int64_t res;
    int dir;
    int fd;

    CHECK_EQ(call_async(SYS_mkdirat, N(AT_FDCWD), P(top), 0700), 0);
    CHECK_EQ(call_async(SYS_mkdirat, N(AT_FDCWD), P(top), 0700), -EEXIST);
    dir = (int)call_async(SYS_openat, N(AT_FDCWD), P(top), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK_CMP(dir, >=, 0);

    fd = (int)call_async(SYS_openat, N(dir), P("one"), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    CHECK_CMP(fd, >=, 0);
    CHECK_EQ(call_async(SYS_write, N(fd), P("hello"), 5), 5);
    CHECK_EQ(call_async(SYS_ftruncate, N(fd), 4096), 0);
    CHECK_EQ(call_async(SYS_statx, N(dir), P("one"), 0, STATX_BASIC_STATS, P(&stat)), 0);
    CHECK_EQ(stat.stx_size, 4096);
    CHECK(S_ISREG(stat.stx_mode));
    CHECK_EQ(call_async(SYS_close, N(fd)), 0);
    CHECK_EQ(fcntl(fd, F_GETFD), -1);
    CHECK_EQ(call_async(SYS_openat, N(dir), P("none"), O_RDONLY), -ENOENT);
    CHECK_EQ(call_async(SYS_openat, N(dir), 1, O_RDONLY), -EFAULT);

    res = call_async(SYS_openat2, N(dir), P("two"), P(&how), sizeof(how));
    CHECK_CMP(res, >=, 0);
    CHECK_EQ(call_async(SYS_close, N(res)), 0);
    CHECK_EQ(call_async(SYS_openat2, N(dir), P("../two"), P(&how), sizeof(how)), -EXDEV);

    CHECK_EQ(call_async(SYS_linkat, N(dir), P("one"), N(dir), P("three"), 0), 0);
    CHECK_EQ(call_async(SYS_statx, N(dir), P("three"), 0, STATX_BASIC_STATS, P(&other)), 0);
    CHECK_EQ(other.stx_ino, stat.stx_ino);
    CHECK_EQ(other.stx_nlink, 2);
    CHECK_EQ(call_async(SYS_symlinkat, P("one"), N(dir), P("four")), 0);
    CHECK_EQ(call_async(SYS_readlinkat, N(dir), P("four"), P(target), sizeof(target)), 3);
    CHECK_MEM(target, "one", 4);
    CHECK_EQ(count_name(dir, "one"), 1);
    CHECK_EQ(count_name(dir, "five"), 0);

    CHECK_EQ(call_async(SYS_renameat2, N(dir), P("one"), N(dir), P("two"), RENAME_NOREPLACE), -EEXIST);
    CHECK_EQ(call_async(SYS_renameat2, N(dir), P("one"), N(dir), P("five"), RENAME_NOREPLACE), 0);
    CHECK_EQ(count_name(dir, "one"), 0);
    CHECK_EQ(count_name(dir, "five"), 1);
    CHECK_EQ(call_async(SYS_fsync, N(dir)), 0);

    CHECK_EQ(call_async(SYS_unlinkat, N(AT_FDCWD), P(top), AT_REMOVEDIR), -ENOTEMPTY);
    for (size_t i = 0; i < 4; i++) {
        const char *names[] = { "two", "three", "four", "five" };

        CHECK_EQ(call_async(SYS_unlinkat, N(dir), P(names[i]), 0), 0);
    }
    CHECK_EQ(call_async(SYS_unlinkat, N(AT_FDCWD), P(top), AT_REMOVEDIR), 0);
    CHECK_EQ(access(top, F_OK), -1);
    CHECK_EQ(call_async(SYS_close, N(dir)), 0);
    free(top);
    call_end();
    return 0;
}
