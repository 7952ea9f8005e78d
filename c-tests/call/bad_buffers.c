/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Bad buffers: the system call's error arrives in `res`, exactly, whichever thread carries the request out. The good requests
 * between them are carried out. NULL, unmapped, half mapped, read-only for a read, bad iovecs, not aligned for O_DIRECT; bad
 * offsets, lengths and flags with them.
 */
#include "test.h"
#include "stress.h"

#define BLOCK 4096
#define CASES_MAX 64

struct bad {
    struct iocb2 iocb;
    const char *what;
    int64_t expected;
};

static struct bad cases[CASES_MAX];
static size_t n_cases;

static struct iocb2 *add(const char *what, int64_t expected)
{
    CHECK_CMP(n_cases, <, CASES_MAX);
    cases[n_cases].what = what;
    cases[n_cases].expected = expected;
    return &cases[n_cases++].iocb;
}

static void *map(int prot)
{
    void *memory = mmap(NULL, 2 * BLOCK, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    CHECK(memory != MAP_FAILED);
    return memory;
}

int main(void)
{
    int fd = temp_pattern_file(16 * BLOCK, 1, 0);
    int direct = -1;
    char *unmapped = map(PROT_READ | PROT_WRITE);
    char *read_only = map(PROT_READ);
    char *none = map(PROT_NONE);
    char *half = map(PROT_READ | PROT_WRITE);
    char *good = map(PROT_READ | PROT_WRITE);
    struct iovec iov_null = { .iov_base = NULL, .iov_len = 8 };
    struct iovec iov_huge = { .iov_base = good, .iov_len = SIZE_MAX };
    struct iovec iov_good[2] = { { .iov_base = good, .iov_len = 8 }, { .iov_base = good + 8, .iov_len = 8 } };
    struct iovec iov_second_bad[2] = { { .iov_base = good, .iov_len = 8 }, { .iov_base = NULL, .iov_len = 8 } };
    unsigned char between[BLOCK];
    io_context2_t ctx;
    char path[64];

    CHECK_EQ(munmap(unmapped, 2 * BLOCK), 0);
    CHECK_EQ(munmap(half + BLOCK, BLOCK), 0);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    direct = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);

    io_prep2_pread(add("read to NULL", -EFAULT), fd, NULL, BLOCK, 0);
    io_prep2_pread(add("read of nothing to NULL", 0), fd, NULL, 0, 0);
    io_prep2_pread(add("read to unmapped memory", -EFAULT), fd, unmapped, BLOCK, 0);
    io_prep2_pread(add("read to read-only memory", -EFAULT), fd, read_only, BLOCK, 0);
    io_prep2_pread(add("read to memory without access", -EFAULT), fd, none, BLOCK, 0);
    io_prep2_pread(add("read to a kernel address", -EFAULT), fd, (void *)(uintptr_t)UINT64_C(0xffff888000000000), BLOCK, 0);
    io_prep2_pread(add("read to half mapped memory", BLOCK), fd, half, 2 * BLOCK, 0);
    io_prep2_pwrite(add("write from NULL", -EFAULT), fd, NULL, BLOCK, 15 * BLOCK);
    io_prep2_pwrite(add("write from unmapped memory", -EFAULT), fd, unmapped, BLOCK, 15 * BLOCK);
    io_prep2_pwrite(add("write from memory without access", -EFAULT), fd, none, BLOCK, 15 * BLOCK);
    io_prep2_pwrite(add("write from read-only memory", BLOCK), fd, read_only, BLOCK, 15 * BLOCK);
    io_prep2_preadv2(add("iovecs at NULL", -EFAULT), fd, NULL, 1, 0, 0);
    io_prep2_preadv2(add("no iovecs", 0), fd, NULL, 0, 0, 0);
    io_prep2_preadv2(add("iovecs in unmapped memory", -EFAULT), fd, (struct iovec *)(void *)unmapped, 1, 0, 0);
    io_prep2_preadv2(add("iovec to NULL", -EFAULT), fd, &iov_null, 1, 0, 0);
    io_prep2_preadv2(add("iovec of too many bytes", -EINVAL), fd, &iov_huge, 1, 0, 0);
    io_prep2_preadv2(add("second iovec bad", 8), fd, iov_second_bad, 2, 0, 0);
    io_prep2_preadv2(add("too many iovecs", -EINVAL), fd, iov_good, IOV_MAX + 1, 0, 0);
    io_prep2_preadv2(add("-1 iovecs", -EINVAL), fd, iov_good, -1, 0, 0);
    io_prep2_preadv2(add("unknown flags", -EOPNOTSUPP), fd, iov_good, 2, 0, 0x40000000);
    io_prep2_pwritev2(add("write, unknown flags", -EOPNOTSUPP), fd, iov_good, 2, 14 * BLOCK, 0x40000000);
    io_prep2_pread(add("negative offset", -EINVAL), fd, good, 8, -1);
    io_prep2_pread(add("offset at the end", 0), fd, good, 8, 16 * BLOCK);
    io_prep2_pread(add("offset far behind the end", 0), fd, good, 8, INT64_MAX - 8);
    io_prep2_pwrite(add("write past all limits", -EFBIG), fd, good, 8, INT64_MAX - 8);
    io_prep2_syscall(add("preadv to NULL", -EFAULT), SYS_preadv, (uint64_t)fd, (uintptr_t)&iov_null, 1, 0, 0, 0);
    io_prep2_syscall(add("pwritev from NULL", -EFAULT), SYS_pwritev, (uint64_t)fd, (uintptr_t)&iov_null, 1, 15 * BLOCK, 0, 0);
    io_prep2_syscall(add("fallocate of nothing", -EINVAL), SYS_fallocate, (uint64_t)fd, 0, 0, 0, 0, 0);
    io_prep2_syscall(add("fallocate, unknown mode", -EOPNOTSUPP), SYS_fallocate, (uint64_t)fd, 0x40000000, 0, 8, 0, 0);
    io_prep2_syscall(add("sync_file_range, unknown flags", -EINVAL), SYS_sync_file_range, (uint64_t)fd, 0, 8, 0x40000000, 0, 0);
    if (direct >= 0) {
        io_prep2_pread(add("O_DIRECT, buffer not aligned", -EINVAL), direct, good + 1, 512, 0);
        io_prep2_pread(add("O_DIRECT, offset not aligned", -EINVAL), direct, good, 512, 1);
        io_prep2_pread(add("O_DIRECT, length not aligned", -EINVAL), direct, good, 511, 0);
        io_prep2_pread(add("O_DIRECT, NULL", -EFAULT), direct, NULL, 4096, 0);
        io_prep2_pread(add("O_DIRECT, read-only memory", -EFAULT), direct, read_only, 4096, 0);
    } else {
        printf("no O_DIRECT on this file system: not tried\n");
    }

    /* The kernel's own answer first; where it differs from what is written above, this page is wrong. */
    for (size_t i = 0; i < n_cases; i++) {
        const uint64_t *a = cases[i].iocb.args;
        long result = syscall(cases[i].iocb.nr, a[0], a[1], a[2], a[3], a[4], a[5]);

        if (result < 0)
            result = -errno;
        if (result != cases[i].expected) {
            /* File systems differ in what they say about O_DIRECT and odd lengths. */
            printf("%s: the system call itself says %ld, not %" PRId64 "\n", cases[i].what, result, cases[i].expected);
            cases[i].expected = result;
        }
    }

    for (uint32_t workers = 0; workers < 2; workers++) {
        ctx = setup2(4096, 0, workers);
        for (int round = 0; round < 50; round++) {
            struct io_event2 events[2 * CASES_MAX];

            memset(between, 0, sizeof(between));
            for (size_t i = 0; i < n_cases; i++) {
                struct iocb2 iocbs[2];

                iocbs[0] = cases[i].iocb;
                iocbs[0].data = i;
                io_prep2_pread(&iocbs[1], fd, between + i * 8, 8, (int64_t)(2 * BLOCK + i * 8));
                iocbs[1].data = 1000 + i;
                submit_all(ctx, iocbs, sizeof(iocbs));
            }
            (void)get_events(ctx, 2 * n_cases, events, sizeof(events));
            for (size_t i = 0; i < 2 * n_cases; i++) {
                if (events[i].data >= 1000)
                    CHECK_EQ(events[i].res, 8);
                else if (events[i].res != cases[events[i].data].expected)
                    FAIL("%s: expected %" PRId64 ", seen %" PRId64, cases[events[i].data].what,
                         cases[events[i].data].expected, (int64_t)events[i].res);
            }
            CHECK_PATTERN(between, n_cases * 8, 2 * BLOCK, 1);
        }
        CHECK_RING_DRAINED(ctx, 50 * 2 * n_cases);
        CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    }

    /* And as io_issue2 says it. */
    for (size_t i = 0; i < n_cases; i++) {
        union event_room room;

        CHECK_EQ(CALL(io_issue2(&cases[i].iocb, &room.event, sizeof(room))), sizeof(room.event));
        if (room.event.res != cases[i].expected)
            FAIL("io_issue2, %s: expected %" PRId64 ", seen %" PRId64, cases[i].what, cases[i].expected,
                 (int64_t)room.event.res);
    }
    return 0;
}
