/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * `res` is what the system call itself returns, or its -errno: each carried call, well and badly called, is made
 * once by the program, once through the ring, and once by io_issue2(), and the three must agree.
 */
#include "test.h"

#include <linux/falloc.h>

#define P(pointer) ((uint64_t)(uintptr_t)(pointer))
#define BAD_FD UINT64_MAX

static io_context2_t ctx;
static int bad_count;
static int row_count;

static void check(const char *what, long nr, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5)
{
    union event_room room;
    struct iocb2 iocb;
    long expected = syscall(nr, a0, a1, a2, a3, a4, a5);

    if (expected < 0)
        expected = -errno;
    io_prep2_syscall(&iocb, (uint32_t)nr, a0, a1, a2, a3, a4, a5);
    iocb.data = 0x1234;
    submit_one(ctx, &iocb);
    get_one(ctx, &room.event);
    CHECK_EQ(room.event.data, 0x1234);
    if (room.event.res != expected) {
        fprintf(stderr, "%s: the call gives %ld, the ring %lld\n", what, expected, (long long)room.event.res);
        bad_count++;
    }
    CHECK_EQ(CALL(io_issue2(&iocb, &room.event, sizeof(room))), 24);
    CHECK_EQ(room.event.data, 0x1234);
    if (room.event.res != expected) {
        fprintf(stderr, "%s: the call gives %ld, io_issue2 %lld\n", what, expected, (long long)room.event.res);
        bad_count++;
    }
    row_count++;
}

/* The prep functions' own view of the same calls. */
static void check_prep(const char *what, const struct iocb2 *iocb)
{
    check(what, (long)iocb->nr, iocb->args[0], iocb->args[1], iocb->args[2], iocb->args[3], iocb->args[4],
          iocb->args[5]);
}

int main(void)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    static unsigned char buf[65536];
    static struct iovec many[1025];
    struct iovec iov[2] = { { buf, 4096 }, { buf + 4096, 4096 } };
    struct iovec bad_iov[1] = { { NULL, 4096 } };
    struct iovec huge_iov[2] = { { buf, SIZE_MAX }, { buf, SIZE_MAX } };
    struct iocb2 iocb;
    char *path = temp_path("read-only");
    int pipes[2];
    int made = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    const uint64_t file = (uint64_t)temp_pattern_file(65536, 1, 0);
    const uint64_t closed = (uint64_t)dup((int)file);
    const uint64_t directory = (uint64_t)open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const uint64_t path_fd = (uint64_t)open("/", O_PATH | O_CLOEXEC);
    const uint64_t null = (uint64_t)open("/dev/null", O_RDWR | O_CLOEXEC);
    const uint64_t zeros = (uint64_t)open("/dev/zero", O_RDWR | O_CLOEXEC);
    const uint64_t full = (uint64_t)open("/dev/full", O_RDWR | O_CLOEXEC);
    unsigned char *read_only = mmap(NULL, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unsigned char *no_access = mmap(NULL, page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    CHECK(read_only != MAP_FAILED && no_access != MAP_FAILED);
    CHECK_EQ(pipe2(pipes, O_CLOEXEC | O_NONBLOCK), 0);
    CHECK(made >= 0);
    CHECK_EQ(write(made, buf, 4096), 4096);
    const uint64_t rdonly = (uint64_t)open(path, O_RDONLY | O_CLOEXEC);
    const uint64_t wronly = (uint64_t)open(path, O_WRONLY | O_CLOEXEC);

    CHECK((int)directory >= 0 && (int)path_fd >= 0 && (int)null >= 0 && (int)zeros >= 0 && (int)full >= 0);
    CHECK((int)rdonly >= 0 && (int)wronly >= 0);
    close((int)closed);
    for (size_t i = 0; i < 1025; i++) {
        many[i].iov_base = buf + i;
        many[i].iov_len = 1;
    }
    ctx = setup2(0, 0, 0);

    /* Plain reads and writes. */
    const long plain[] = { SYS_pread64, SYS_pwrite64 };

    for (int i = 0; i < 2; i++) {
        const long nr = plain[i];

        check("plain", nr, file, P(buf), 4096, 0, 0, 0);
        check("plain, odd place and length", nr, file, P(buf + 1), 4097, 4095, 0, 0);
        check("plain, length 0", nr, file, P(buf), 0, 0, 0, 0);
        check("plain, length 0 at NULL", nr, file, 0, 0, 0, 0, 0);
        check("plain, NULL", nr, file, 0, 4096, 0, 0, 0);
        check("plain, kernel address", nr, file, UINT64_MAX - 4095, 4096, 0, 0, 0);
        check("plain, no access", nr, file, P(no_access), 4096, 0, 0, 0);
        check("plain, read-only memory", nr, file, P(read_only), 4096, 0, 0, 0);
        check("plain, offset -1", nr, file, P(buf), 10, UINT64_MAX, 0, 0);
        check("plain, lowest offset", nr, file, P(buf), 10, UINT64_C(1) << 63, 0, 0);
        check("plain, bad descriptor", nr, BAD_FD, P(buf), 10, 0, 0, 0);
        check("plain, closed descriptor", nr, closed, P(buf), 10, 0, 0, 0);
        check("plain, huge descriptor", nr, INT_MAX, P(buf), 10, 0, 0, 0);
        /* The kernel looks at the lower half of a descriptor alone. */
        check("plain, descriptor with high bits", nr, file | UINT64_C(0xabcd) << 32, P(buf), 10, 0, 0, 0);
        check("plain, directory", nr, directory, P(buf), 10, 0, 0, 0);
        check("plain, O_PATH", nr, path_fd, P(buf), 10, 0, 0, 0);
        check("plain, pipe, reading end", nr, (uint64_t)pipes[0], P(buf), 10, 0, 0, 0);
        check("plain, pipe, writing end", nr, (uint64_t)pipes[1], P(buf), 10, 0, 0, 0);
        check("plain, read-only file", nr, rdonly, P(buf), 10, 0, 0, 0);
        check("plain, write-only file", nr, wronly, P(buf), 10, 0, 0, 0);
        check("plain, /dev/null", nr, null, P(buf), 10, 0, 0, 0);
        check("plain, /dev/zero", nr, zeros, P(buf), 65536, 0, 0, 0);
        check("plain, /dev/full", nr, full, P(buf), 10, 0, 0, 0);
    }
    check("pread64 at the end", SYS_pread64, file, P(buf), 4096, UINT64_C(1) << 40, 0, 0);
    check("pread64 at the last offset", SYS_pread64, file, P(buf), 4096, INT64_MAX, 0, 0);
    check("pwrite64 at the last offset", SYS_pwrite64, file, P(buf), 4096, INT64_MAX - 4096, 0, 0);
    check("pread64 of more than there is", SYS_pread64, zeros, P(buf), 65536, 0, 0, 0);

    /* Vectored ones, without and with flags. */
    const long vectored[] = { SYS_preadv, SYS_pwritev, SYS_preadv2, SYS_pwritev2 };

    for (int i = 0; i < 4; i++) {
        const long nr = vectored[i];

        check("vectored", nr, file, P(iov), 2, 0, 0, 0);
        check("vectored, odd place", nr, file, P(iov), 2, 77, 0, 0);
        check("vectored, no pieces", nr, file, P(iov), 0, 0, 0, 0);
        check("vectored, no pieces at NULL", nr, file, 0, 0, 0, 0, 0);
        check("vectored, NULL", nr, file, 0, 2, 0, 0, 0);
        check("vectored, bad vector", nr, file, 1, 2, 0, 0, 0);
        check("vectored, NULL piece", nr, file, P(bad_iov), 1, 0, 0, 0);
        check("vectored, huge pieces", nr, file, P(huge_iov), 2, 0, 0, 0);
        check("vectored, 1024 pieces", nr, file, P(many), 1024, 0, 0, 0);
        check("vectored, 1025 pieces", nr, file, P(many), 1025, 0, 0, 0);
        check("vectored, -1 pieces", nr, file, P(many), UINT64_MAX, 0, 0, 0);
        check("vectored, lowest offset", nr, file, P(iov), 2, UINT64_C(1) << 63, 0, 0);
        check("vectored, offset -2", nr, file, P(iov), 2, UINT64_MAX - 1, 0, 0);
        check("vectored, bad descriptor", nr, BAD_FD, P(iov), 2, 0, 0, 0);
        check("vectored, closed descriptor", nr, closed, P(iov), 2, 0, 0, 0);
        check("vectored, directory", nr, directory, P(iov), 2, 0, 0, 0);
        check("vectored, read-only file", nr, rdonly, P(iov), 2, 0, 0, 0);
        check("vectored, write-only file", nr, wronly, P(iov), 2, 0, 0, 0);
        check("vectored, /dev/full", nr, full, P(iov), 2, 0, 0, 0);
        check("vectored, pipe, reading end", nr, (uint64_t)pipes[0], P(iov), 2, 0, 0, 0);
        check("vectored, pipe, writing end", nr, (uint64_t)pipes[1], P(iov), 2, 0, 0, 0);
        /* preadv and pwritev have no flags: a sixth argument is nothing to them. */
        check("vectored, flags of 1 << 30", nr, file, P(iov), 2, 0, 0, 1 << 30);
        check("vectored, RWF_HIPRI", nr, file, P(iov), 2, 0, 0, RWF_HIPRI);
        check("vectored, RWF_DSYNC", nr, file, P(iov), 2, 0, 0, RWF_DSYNC);
        check("vectored, RWF_SYNC", nr, file, P(iov), 2, 0, 0, RWF_SYNC);
    }
    check("preadv2, -1, empty pipe that does not block", SYS_preadv2, (uint64_t)pipes[0], P(iov), 1, UINT64_MAX, 0, 0);
    check("preadv2, RWF_NOWAIT, empty pipe", SYS_preadv2, (uint64_t)pipes[0], P(iov), 1, UINT64_MAX, 0, RWF_NOWAIT);

    /* The rest. */
    const long syncs[] = { SYS_fsync, SYS_fdatasync };

    for (int i = 0; i < 2; i++) {
        check("sync", syncs[i], file, 0, 0, 0, 0, 0);
        check("sync, read-only file", syncs[i], rdonly, 0, 0, 0, 0, 0);
        check("sync, directory", syncs[i], directory, 0, 0, 0, 0, 0);
        check("sync, bad descriptor", syncs[i], BAD_FD, 0, 0, 0, 0, 0);
        check("sync, closed descriptor", syncs[i], closed, 0, 0, 0, 0, 0);
        check("sync, O_PATH", syncs[i], path_fd, 0, 0, 0, 0, 0);
        check("sync, pipe", syncs[i], (uint64_t)pipes[0], 0, 0, 0, 0, 0);
        check("sync, /dev/null", syncs[i], null, 0, 0, 0, 0, 0);
    }
    check("sync_file_range", SYS_sync_file_range, file, 0, 4096, SYNC_FILE_RANGE_WRITE, 0, 0);
    check("sync_file_range, all flags", SYS_sync_file_range, file, 0, 0, 7, 0, 0);
    check("sync_file_range, no flags", SYS_sync_file_range, file, 0, 0, 0, 0, 0);
    check("sync_file_range, unknown flag", SYS_sync_file_range, file, 0, 0, 8, 0, 0);
    check("sync_file_range, negative offset", SYS_sync_file_range, file, UINT64_MAX, 10, 2, 0, 0);
    check("sync_file_range, negative length", SYS_sync_file_range, file, 0, UINT64_MAX, 2, 0, 0);
    check("sync_file_range, bad descriptor", SYS_sync_file_range, BAD_FD, 0, 0, 2, 0, 0);
    check("sync_file_range, pipe", SYS_sync_file_range, (uint64_t)pipes[0], 0, 0, 2, 0, 0);

    check("fallocate", SYS_fallocate, file, 0, 0, 1 << 20, 0, 0);
    check("fallocate, keep size", SYS_fallocate, file, FALLOC_FL_KEEP_SIZE, 1 << 20, 1 << 20, 0, 0);
    check("fallocate, punch hole", SYS_fallocate, file, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, 0, 4096, 0, 0);
    check("fallocate, punch without keep", SYS_fallocate, file, FALLOC_FL_PUNCH_HOLE, 0, 4096, 0, 0);
    check("fallocate, unknown mode", SYS_fallocate, file, 1 << 20, 0, 4096, 0, 0);
    check("fallocate, length 0", SYS_fallocate, file, 0, 0, 0, 0, 0);
    check("fallocate, negative length", SYS_fallocate, file, 0, 0, UINT64_MAX, 0, 0);
    check("fallocate, negative offset", SYS_fallocate, file, 0, UINT64_MAX, 4096, 0, 0);
    check("fallocate, too large", SYS_fallocate, file, 0, INT64_MAX - 100, 1000, 0, 0);
    check("fallocate, read-only file", SYS_fallocate, rdonly, 0, 0, 4096, 0, 0);
    check("fallocate, pipe", SYS_fallocate, (uint64_t)pipes[1], 0, 0, 4096, 0, 0);
    check("fallocate, directory", SYS_fallocate, directory, 0, 0, 4096, 0, 0);
    check("fallocate, bad descriptor", SYS_fallocate, BAD_FD, 0, 0, 4096, 0, 0);

    io_prep2_pread(&iocb, (int)file, buf, 4096, 4096);
    check_prep("io_prep2_pread", &iocb);
    io_prep2_pwrite(&iocb, (int)file, buf, 4096, 4096);
    check_prep("io_prep2_pwrite", &iocb);
    io_prep2_preadv2(&iocb, (int)file, iov, 2, 1, 0);
    check_prep("io_prep2_preadv2", &iocb);
    io_prep2_pwritev2(&iocb, (int)file, iov, 2, 1, RWF_DSYNC);
    check_prep("io_prep2_pwritev2", &iocb);
    io_prep2_fsync(&iocb, (int)file);
    check_prep("io_prep2_fsync", &iocb);
    io_prep2_fdatasync(&iocb, -1);
    check_prep("io_prep2_fdatasync", &iocb);

    CHECK_EQ(bad_count, 0);
    CHECK_CMP(row_count, >, 150);
    free(path);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    return 0;
}
