/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * IOCB_ATTR_CACHE: a read of cached data is a hit, another read is a miss, and the bytes that were in the page cache are
 * counted: at page boundaries and off them, at the end of the file, with vectors, at the file's own position, on tmpfs. If it
 * has no meaning (O_DIRECT, a pipe, a write, /proc), it says so, and the request runs unless the attribute is required.
 */
#include "test.h"

#include <sys/vfs.h>

enum { SIZE = 1 << 20, PAGE = 4096 };

static io_context2_t ctx;
static union iocb_room request;
static union event_room room;
static unsigned char buf[2 * SIZE];
static bool counts; /* the kernel has cachestat(2) */

static const struct iocb_attr_ret *cache_ret(void)
{
    const struct iocb_attr_ret *ret = io_event2_attr(&room.event, IOCB_ATTR_CACHE);

    CHECK(ret != NULL);
    CHECK_EQ(ret->cookie, 9);
    return ret;
}

/* Runs the request; through the ring and by io_issue2 in turn. */
static void run(uint32_t flags)
{
    static unsigned int turn;

    CHECK(iocb2_add_attr(&request.iocb, IOCB_ATTR_CACHE, flags, 9, NULL, 0) != NULL);
    if (turn++ % 2 == 0) {
        submit_one(ctx, &request.iocb);
        get_one(ctx, &room.event);
    } else {
        CHECK_CMP(CALL(io_issue2(&request.iocb, &room.event, sizeof(room))), >, 0);
    }
}

static struct iocb_cache cache_of(void)
{
    const struct iocb_attr_ret *ret = cache_ret();
    struct iocb_cache cache;

    CHECK_EQ(ret->ret, 0);
    CHECK_EQ(ret->bytes, sizeof(*ret) + sizeof(cache));
    memcpy(&cache, ret + 1, sizeof(cache));
    CHECK_EQ(cache.reserved, 0);
    CHECK_CMP(cache.hit, <=, 1);
    return cache;
}

static void drop(int fd)
{
    CHECK_EQ(fdatasync(fd), 0);
    CHECK_EQ(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
}

/* Reads so that these bytes are there, and no others: no reading ahead. */
static void warm(int fd, off_t at, size_t bytes)
{
    CHECK_EQ(posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM), 0);
    CHECK_EQ(pread(fd, buf, bytes, at), bytes);
    CHECK_EQ(posix_fadvise(fd, 0, 0, POSIX_FADV_NORMAL), 0);
}

/* Without cachestat a device that was quick enough was not waited for, and that is all that is known. */
static void check_hit(struct iocb_cache cache, uint32_t hit)
{
    if (counts || hit != 0)
        CHECK_EQ(cache.hit, hit);
}

/* A read through pread, checked; -1 for a number of bytes that need not be known. */
static void expect(int fd, uint64_t at, size_t bytes, uint32_t hit, int64_t cached, size_t got)
{
    struct iocb_cache cache;

    memset(buf, 0, bytes);
    io_prep2_pread(&request.iocb, fd, buf, bytes, (int64_t)at);
    run(IOCB_ATTR_F_REQUIRED);
    CHECK_EQ(room.event.res, got);
    CHECK_PATTERN(buf, got, at, 1);
    cache = cache_of();
    check_hit(cache, hit);
    CHECK_EQ(cache.bytes_asked, bytes);
    if (cached >= 0 && counts)
        CHECK_EQ(cache.bytes_cached, cached);
}

static void file(void)
{
    int fd = temp_pattern_file(SIZE, 1, 0);
    struct iovec iov[40];
    struct iocb_cache cache;
    off_t position;

    expect(fd, 0, SIZE, 1, SIZE, SIZE);
    expect(fd, 777, 10000, 1, 10000, 10000);
    expect(fd, SIZE - 100, 4096, 1, 100, 100); /* the end of the file is no miss */
    expect(fd, SIZE, 4096, 1, 0, 0);
    expect(fd, 5 * SIZE, 4096, 1, 0, 0);
    expect(fd, 0, 0, 1, 0, 0);
    drop(fd);
    expect(fd, 0, SIZE, 0, 0, SIZE);
    expect(fd, 0, SIZE, 1, SIZE, SIZE);

    /* Three pages of sixteen, that the read covers in whole and in part. */
    drop(fd);
    warm(fd, 3 * PAGE, PAGE);
    expect(fd, 0, 16 * PAGE, 0, PAGE, 16 * PAGE);
    drop(fd);
    warm(fd, 3 * PAGE, PAGE);
    warm(fd, 7 * PAGE, 2 * PAGE);
    expect(fd, 3 * PAGE + 100, 5 * PAGE, 0, PAGE - 100 + PAGE + 100, 5 * PAGE);
    drop(fd);
    warm(fd, 0, 2 * PAGE);
    expect(fd, 0, 16 * PAGE, 0, 2 * PAGE, 16 * PAGE);
    drop(fd);
    warm(fd, SIZE - PAGE, PAGE);
    expect(fd, SIZE - 4 * PAGE, 16 * PAGE, 0, PAGE, 4 * PAGE);
    drop(fd);
    warm(fd, 2 * PAGE, PAGE);
    expect(fd, 2 * PAGE + 1, 7, 1, 7, 7);

    /* Vectors, more than are looked at in one piece. */
    drop(fd);
    for (int i = 0; i < 40; i++) {
        iov[i].iov_base = buf + i * 1000;
        iov[i].iov_len = 1000;
    }
    for (uint32_t hit = 0; hit < 2; hit++) {
        io_prep2_preadv2(&request.iocb, fd, iov, 40, 100, 0);
        run(0);
        CHECK_EQ(room.event.res, 40000);
        CHECK_PATTERN(buf, 40000, 100, 1);
        cache = cache_of();
        check_hit(cache, hit);
        CHECK_EQ(cache.bytes_asked, 40000);
    }
    io_prep2_syscall(&request.iocb, SYS_preadv, (uint64_t)fd, (uint64_t)(uintptr_t)iov, 40, 4096, 0, 0);
    run(0);
    CHECK_EQ(room.event.res, 40000);
    CHECK_EQ(cache_of().hit, 1);

    /* At the file's own position, which goes on by what was read, once. */
    drop(fd);
    position = 8192;
    CHECK_EQ(lseek(fd, position, SEEK_SET), position);
    for (uint32_t hit = 0; hit < 2; hit++) {
        io_prep2_preadv2(&request.iocb, fd, iov, 40, -1, 0);
        run(IOCB_ATTR_F_REQUIRED);
        CHECK_EQ(room.event.res, 40000);
        CHECK_PATTERN(buf, 40000, (uint64_t)position, 1);
        check_hit(cache_of(), hit);
        CHECK_EQ(lseek(fd, 0, SEEK_CUR), position + 40000);
        if (hit == 0)
            CHECK_EQ(lseek(fd, position, SEEK_SET), position);
    }
    CHECK_EQ(pread(fd, buf, 10, SIZE - 10), 10);
    CHECK_EQ(lseek(fd, SIZE - 10, SEEK_SET), SIZE - 10);
    io_prep2_preadv2(&request.iocb, fd, iov, 40, -1, 0);
    run(0);
    CHECK_EQ(room.event.res, 10);
    CHECK_EQ(cache_of().hit, 1);

    /* A read that must not wait: the bytes that were there are the result. */
    drop(fd);
    io_prep2_preadv2(&request.iocb, fd, iov, 40, SIZE / 2, RWF_NOWAIT);
    run(0);
    if (room.event.res != 40000) {
        check_hit(cache_of(), 0);
        CHECK(room.event.res == -EAGAIN || room.event.res > 0);
    }

    /* A hole is read without a device. */
    {
        int hole = temp_file(SIZE, 0);
        static const unsigned char zeros[SIZE];

        io_prep2_pread(&request.iocb, hole, buf, SIZE, 0);
        run(0);
        CHECK_EQ(room.event.res, SIZE);
        CHECK_MEM(buf, zeros, SIZE);
        CHECK_EQ(cache_of().hit, 1);
        close(hole);
    }
    close(fd);
}

/* The request as it is built now has no answer: it runs and ends so; and if it is required it does not run. */
static void no_meaning(int32_t expected, int64_t res)
{
    union iocb_room saved = request;

    run(0);
    CHECK_EQ(cache_ret()->ret, expected);
    CHECK_EQ(room.event.res, res);
    request = saved;
    run(IOCB_ATTR_F_REQUIRED);
    CHECK_EQ(cache_ret()->ret, expected);
    CHECK_EQ(room.event.res, expected);
}

static void others(void)
{
    static _Alignas(4096) unsigned char block[PAGE];
    int fd = temp_pattern_file(SIZE, 1, 0);
    struct iovec iov = { block, 16 };
    char path[64];
    int pipes[2];
    int other;

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    other = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
    if (other >= 0) {
        io_prep2_pread(&request.iocb, other, block, PAGE, 0);
        no_meaning(-EOPNOTSUPP, PAGE);
        CHECK_PATTERN(block, PAGE, 0, 1);
        close(other);
    }

    CHECK_EQ(pipe2(pipes, O_CLOEXEC), 0);
    CHECK_EQ(write(pipes[1], "0123456789abcdefrest", 20), 20);
    io_prep2_preadv2(&request.iocb, pipes[0], &iov, 1, -1, 0);
    no_meaning(-EOPNOTSUPP, 16);
    CHECK_MEM(block, "0123456789abcdef", 16);
    CHECK_EQ(read(pipes[0], block, PAGE), 4); /* the required one has taken nothing */

    io_prep2_pwrite(&request.iocb, fd, "q", 1, 0);
    no_meaning(-EOPNOTSUPP, 1);
    CHECK_EQ(cache_ret()->bytes, sizeof(struct iocb_attr_ret));
    io_prep2_nop(&request.iocb);
    no_meaning(-EOPNOTSUPP, 0);
    io_prep2_fsync(&request.iocb, fd);
    no_meaning(-EOPNOTSUPP, 0);
    io_prep2_syscall(&request.iocb, SYS_read, (uint64_t)fd, (uint64_t)(uintptr_t)block, 0, 0, 0, 0);
    no_meaning(-EOPNOTSUPP, 0);

    other = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    CHECK(other >= 0);
    io_prep2_pread(&request.iocb, other, block, 5, 0);
    no_meaning(-EOPNOTSUPP, 5);
    close(other);
    other = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    io_prep2_pread(&request.iocb, other, block, 5, 0);
    run(0);
    CHECK_EQ(room.event.res, -EISDIR);
    CHECK_EQ(cache_ret()->ret, -EOPNOTSUPP);
    close(other);

    /* What the call would refuse is refused. */
    io_prep2_pread(&request.iocb, -1, block, 5, 0);
    no_meaning(-EBADF, -EBADF);
    io_prep2_pread(&request.iocb, fd, block, 5, -1);
    no_meaning(-EINVAL, -EINVAL);
    io_prep2_pread(&request.iocb, fd, (void *)8, PAGE, 0);
    run(0);
    CHECK_EQ(room.event.res, -EFAULT);
    io_prep2_preadv2(&request.iocb, fd, (void *)8, 3, 0, 0);
    no_meaning(-EFAULT, -EFAULT);
    io_prep2_preadv2(&request.iocb, fd, &iov, 5000, 0, 0);
    no_meaning(-EINVAL, -EINVAL);

    /* Cancelled before it was begun: there was nothing to measure. */
    {
        struct hold hold;
        io_context2_t narrow = setup2(0, 0, 1);

        hold_submit(narrow, &hold, 1);
        hold_wait_running(1);
        io_prep2_pread(&request.iocb, fd, block, 5, 0);
        request.iocb.data = 2;
        CHECK(iocb2_add_attr(&request.iocb, IOCB_ATTR_CACHE, 0, 9, NULL, 0) != NULL);
        submit_one(narrow, &request.iocb);
        CHECK_EQ(CALL(io_cancel2(narrow, 2)), 0);
        get_one(narrow, &room.event);
        CHECK_EQ(room.event.res, -ECANCELED);
        CHECK_EQ(cache_ret()->ret, -ECANCELED);
        hold_release(&hold);
        get_one(narrow, &room.event);
        hold_close(&hold);
        CHECK_EQ(CALL(io_destroy2(narrow)), 0);
    }
    close(fd);
}

static void tmpfs(void)
{
    int fd = (int)syscall(SYS_memfd_create, "cache", 1u);
    struct iocb_cache cache;

    CHECK(fd >= 0);
    CHECK_EQ(ftruncate(fd, 2 * PAGE), 0);
    fill_pattern(buf, PAGE, 0, 1);
    CHECK_EQ(pwrite(fd, buf, PAGE, 0), PAGE);
    expect(fd, 0, PAGE, 1, PAGE, PAGE);
    drop(fd); /* has no effect there */
    expect(fd, 1, 100, 1, 100, 100);
    /* The second page was never written. */
    io_prep2_pread(&request.iocb, fd, buf, 10 * PAGE, 0);
    run(0);
    CHECK_EQ(room.event.res, 2 * PAGE);
    cache = cache_of();
    CHECK_EQ(cache.hit, 1);
    CHECK_EQ(cache.bytes_asked, 10 * PAGE);
    close(fd);
}

int main(void)
{
    uint64_t range[2] = { 0, 0 };
    uint64_t stat[5];
    struct statfs fs;
    int fd = temp_file(PAGE, 0);

    if (sysconf(_SC_PAGESIZE) != PAGE)
        SKIP("pages are not of 4096 bytes");
    counts = syscall(451, fd, range, stat, 0) == 0;
    ctx = setup2(0, 0, 1);
    CHECK((ctx->features & IO_FEAT2_ATTR_CACHE) != 0);
    tmpfs();
    others();
    CHECK_EQ(fstatfs(fd, &fs), 0);
    if (fs.f_type == 0x01021994)
        SKIP("the directory for temporary files is in memory: set TMPDIR");
    file();
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    return 0;
}
