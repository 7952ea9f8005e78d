/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * IOCB_ATTR_CACHE on block devices: one that takes its time (a loop device) and one that answers at once (zram), whose reads are
 * misses all the same; up to the end of the device and beyond it.
 */
/* needs: root */
#include "test.h"
#include "stress.h"
#include "device.h"

enum { SIZE = 1 << 20 };

static io_context2_t ctx;
static _Alignas(4096) unsigned char buf[SIZE];
static bool counts;

static void expect(int fd, uint64_t at, size_t bytes, uint32_t hit, int64_t cached, size_t got)
{
    const struct iocb_attr_ret *ret;
    union iocb_room request;
    union event_room room;
    struct iocb_cache cache;

    memset(buf, 0, sizeof(buf));
    io_prep2_pread(&request.iocb, fd, buf, bytes, (int64_t)at);
    CHECK(iocb2_add_attr(&request.iocb, IOCB_ATTR_CACHE, IOCB_ATTR_F_REQUIRED, 0, NULL, 0) != NULL);
    submit_one(ctx, &request.iocb);
    get_one(ctx, &room.event);
    CHECK_EQ(room.event.res, got);
    CHECK_PATTERN(buf, got, at, 1);
    ret = io_event2_attr(&room.event, IOCB_ATTR_CACHE);
    CHECK_EQ(ret->ret, 0);
    memcpy(&cache, ret + 1, sizeof(cache));
    /* Without cachestat a device that was quick enough was not waited for, and that is all that is known. */
    if (counts || hit != 0)
        CHECK_EQ(cache.hit, hit);
    CHECK_EQ(cache.bytes_asked, bytes);
    if (counts)
        CHECK_EQ(cache.bytes_cached, cached);
}

static void drop(int fd)
{
    CHECK_EQ(fdatasync(fd), 0);
    CHECK_EQ(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
}

static void device(int fd)
{
    fill_pattern(buf, SIZE, 0, 1);
    CHECK_EQ(pwrite(fd, buf, SIZE, 0), SIZE);
    expect(fd, 0, SIZE, 1, SIZE, SIZE);
    expect(fd, SIZE - 100, 8192, 1, 100, 100);
    expect(fd, SIZE, 8192, 1, 0, 0);
    drop(fd);
    expect(fd, 4096, 65536, 0, 0, 65536);
    drop(fd);
    CHECK_EQ(posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM), 0);
    CHECK_EQ(pread(fd, buf, 4096, 8192), 4096);
    expect(fd, 0, 65536, 0, 4096, 65536);
    expect(fd, 0, 65536, 1, 65536, 65536);
    close(fd);
}

int main(void)
{
    int file = temp_pattern_file(SIZE, 2, 0);
    uint64_t range[2] = { 0, 0 };
    uint64_t stat[5];

    counts = syscall(451, file, range, stat, 0) == 0;
    ctx = setup2(0, 0, 1);
    device(loop_open(file, 0));
    /* It has no reads that do not wait: without cachestat there is nothing by which to tell. */
    if (counts)
        device(zram_open(SIZE, 0));
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    return 0;
}
